"""What the tests of the core share: short spellings, and a naive model of a run.

The model knows the rules and nothing else: it counts nothing down and queues nothing, every answer
is a scan over plain sets and dicts.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from dagron import DAG, DynamicModification, DynamicNodeSpec, NodeStatus
from dagron._scheduler import Scheduler

PENDING, READY, RUNNING = NodeStatus.PENDING, NodeStatus.READY, NodeStatus.RUNNING
COMPLETED, FAILED = NodeStatus.COMPLETED, NodeStatus.FAILED
SKIPPED, CANCELLED = NodeStatus.SKIPPED, NodeStatus.CANCELLED

STARTED = (RUNNING, COMPLETED, FAILED)
UNMET = (FAILED, CANCELLED, SKIPPED)

Edge = tuple[str, str]


# --- short spellings -----------------------------------------------------------------------------


def nothing() -> None:
    """A task that does nothing; it can be pickled."""


def dag(*parts: str | Edge) -> DAG:
    """A graph of these nodes (strings) and edges (pairs)."""
    builder = DAG.builder()
    for part in parts:
        if isinstance(part, str):
            builder.add_node(part)
        else:
            builder.add_edge(*part)
    return builder.build()


def chain(length: int) -> DAG:
    """A graph in which node n waits for node n - 1."""
    return dag("0", *((str(n), str(n + 1)) for n in range(length - 1)))


def spec(name: str, *dependencies: str, to: Iterable[str] = ()) -> DynamicNodeSpec:
    return DynamicNodeSpec(name, nothing, dependencies, to)


def adding(*specs: DynamicNodeSpec) -> DynamicModification:
    return DynamicModification(add_nodes=specs)


def run_at(
    graph: DAG,
    *,
    completed: Collection[str] = (),
    running: Collection[str] = (),
    failed: Collection[str] = (),
    cancelled: Collection[str] = (),
) -> Scheduler:
    """A run in which these nodes stand there and no other has started: no thread is free for it."""
    moved = {*completed, *running, *failed}
    rest = [name for name in graph if name not in moved]
    scheduler = Scheduler(graph, on_threads=rest, max_workers=0)
    while taken := scheduler.take_ready(len(moved)):
        for name in taken:
            if name in completed:
                scheduler.succeed(name)
            elif name in failed:
                scheduler.fail(name)
    for name in cancelled:
        scheduler.cancel(name)
    return scheduler


def statuses(scheduler: Scheduler, *names: str) -> list[str]:
    return [str(scheduler.status(name)) for name in names]


def spelled(modification: DynamicModification) -> str:
    """The modification as one would type it here."""
    specs = ", ".join(
        f"spec({', '.join(map(repr, [added.name, *added.dependencies]))}, to={added.dependents})"
        for added in modification.add_nodes
    )
    lists = ("remove_nodes", "add_edges", "remove_edges")
    named = (f"{name}={value}" for name in lists if (value := getattr(modification, name)))
    return f"DynamicModification({', '.join([f'[{specs}]', *named])})"


def snapshot(value: object) -> object:
    """All of an object's state, to its leaves and in the order of its dicts, as plain values."""
    if isinstance(value, Mapping):
        return "mapping", [(key, snapshot(member)) for key, member in value.items()]
    if isinstance(value, (set, frozenset)):
        return "set", sorted(map(repr, value))
    if isinstance(value, (str, int, float, NodeStatus, type(None))):
        return value
    if isinstance(value, Iterable) and not isinstance(value, DAG):
        return type(value).__name__, [snapshot(member) for member in value]
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    names = [*slots, *getattr(value, "__dict__", ())]
    assert names, f"no state of a {type(value).__name__} to be seen"
    return type(value).__name__, [(name, snapshot(getattr(value, name, None))) for name in names]


# --- graphs, naively -----------------------------------------------------------------------------


def edges_of(modification: DynamicModification) -> Iterator[Edge]:
    """Every edge that the modification would add."""
    for added in modification.add_nodes:
        for source in added.dependencies:
            yield source, added.name
        for target in added.dependents:
            yield added.name, target
    yield from modification.add_edges


def naive_order(rank: Mapping[str, Any], edges: Collection[Edge]) -> list[str]:
    """Kahn's order, the smallest rank first: again and again, look for the smallest that may go."""
    left, order = sorted(rank, key=rank.__getitem__), []
    while left:
        blocked = {target for source, target in edges if source in left}
        free = [name for name in left if name not in blocked]
        if not free:
            break
        left.remove(free[0])
        order.append(free[0])
    return order


def is_cyclic(nodes: Collection[str], edges: Collection[Edge]) -> bool:
    return len(naive_order(dict.fromkeys(nodes, 0), edges)) < len(nodes)


# --- a run, naively ------------------------------------------------------------------------------


class Model:
    """What the statuses, the graph and the slots of a run are by the rules."""

    def __init__(
        self,
        nodes: Collection[str],
        edges: Collection[Edge],
        on_threads: Collection[str],
        *,
        max_workers: int,
        max_concurrency: int | None,
        max_nodes: int,
        max_depth: int,
    ) -> None:
        self.status = dict.fromkeys(nodes, PENDING)
        self.edges = set(edges)
        self.on_threads = set(on_threads)
        self.max_workers = max_workers
        self.max_concurrency = 10**9 if max_concurrency is None else max_concurrency
        self.max_nodes = max_nodes
        self.max_depth = max_depth
        self.rank: dict[str, tuple[int, ...]] = {name: (i,) for i, name in enumerate(nodes)}
        self.added_by: dict[str, str | None] = dict.fromkeys(nodes)
        self.removed: list[str] = []
        self.version = 0
        self.workers: set[str] = set()  # the nodes that hold a worker slot
        self.asking: list[
            str
        ] = []  # the nodes in flight that wait for one, the first in line first
        self.step = 0
        self.since: dict[str, int] = {}  # the step at which a node became ready
        self.returned: set[str] = set()  # nodes that were ready and went back to waiting
        self.settle()

    # -- questions

    def all(self, *statuses: NodeStatus) -> list[str]:
        return [name for name, status in self.status.items() if status in statuses]

    def dependencies(self, name: str) -> list[str]:
        return [source for source, target in self.edges if target == name]

    def free_workers(self) -> int:
        return self.max_workers - len(self.workers)

    def depth(self, name: str | None) -> int:
        """How many expanders stand between the node and the initial graph."""
        parent = self.added_by[name] if name is not None else None
        return 0 if parent is None else 1 + self.depth(parent)

    def order(self) -> list[str]:
        return naive_order(self.rank, self.edges)

    # -- what follows from what

    def settle(self) -> None:
        """Give every node that has not started the status that follows from its dependencies."""
        before = dict(self.status)
        changed = True
        while changed:
            changed = False
            for name in self.all(PENDING, READY):
                due = self._due(name)
                changed = changed or due is not self.status[name]
                self.status[name] = due
        self.step += 1
        for name, status in self.status.items():
            if status is READY and before.get(name) is not READY:
                self.since[name] = self.step
            elif before.get(name) is READY and status is PENDING:
                self.returned.add(name)

    def _due(self, name: str) -> NodeStatus:
        found = {self.status[source] for source in self.dependencies(name)}
        if found & set(UNMET):
            return SKIPPED
        return READY if found <= {COMPLETED} else PENDING

    def end(self, name: str, status: NodeStatus) -> None:
        self.status[name] = status
        self.settle()

    def start(self, name: str) -> None:
        self.status[name] = RUNNING
        if name in self.on_threads:
            self.workers.add(name)

    def return_worker(self, name: str) -> str | None:
        """Take back a slot: it goes to the first in line."""
        self.workers.remove(name)
        if not self.asking:
            return None
        self.workers.add(self.asking[0])
        return self.asking.pop(0)

    # -- modifications

    def objections(self, modification: DynamicModification, by: str | None) -> set[str]:
        """The kinds of faults that the modification has; none if it is to be accepted."""
        found = set()
        new = [added.name for added in modification.add_nodes]
        used = {*self.status, *self.removed}
        if len({*new}) < len(new) or used & {*new}:
            found.add("duplicate")
        for name in modification.remove_nodes:
            if name not in used:
                found.add("unknown")
            elif self.status.get(name) in STARTED:
                found.add("started")
        for edge in modification.remove_edges:
            if edge not in self.edges:
                found.add("edge")
            elif self.status[edge[1]] in STARTED:
                found.add("started")
        ends = {*self.status, *new} - {*modification.remove_nodes}
        for edge in edges_of(modification):
            if not ends.issuperset(edge):
                found.add("unknown")
            elif self.status.get(edge[1]) in STARTED:
                found.add("started")
        vanishing = self._vanishing(modification)
        if new and len({*self.status, *new}) - len(vanishing) > self.max_nodes:
            found.add("limit")
        if new and self._depth_under(by) > self.max_depth:
            found.add("limit")
        if not found and is_cyclic(*self._after(modification)):
            found.add("cycle")
        return found

    def _depth_under(self, by: str | None) -> int:
        return 0 if by is None else self.depth(by) + 1

    def _vanishing(self, modification: DynamicModification) -> list[str]:
        """The nodes that go; one that was skipped or cancelled before stays, with its edges."""
        named = dict.fromkeys(modification.remove_nodes)
        return [name for name in named if self.status.get(name) in (PENDING, READY)]

    def _after(self, modification: DynamicModification) -> tuple[set[str], set[Edge]]:
        gone = self._vanishing(modification)
        nodes = {*self.status, *(added.name for added in modification.add_nodes)} - {*gone}
        edges = (self.edges - {*modification.remove_edges}) | {*edges_of(modification)}
        return nodes, {edge for edge in edges if nodes.issuperset(edge)}

    def land(
        self, modification: DynamicModification, by: str | None, on_threads: Collection[str]
    ) -> None:
        _, edges = self._after(modification)
        gone = self._vanishing(modification)
        added_edges = list(edges_of(modification))
        self.version += any((modification.add_nodes, gone, added_edges, modification.remove_edges))
        for name in gone:
            del self.status[name], self.rank[name], self.added_by[name]
            self.removed.append(name)
        self.edges = edges
        self.on_threads.update(on_threads)
        for position, added in enumerate(modification.add_nodes):
            self.status[added.name] = PENDING
            self.added_by[added.name] = by
            parent = () if by is None else self.rank[by]
            self.rank[added.name] = (*parent, self.step * 1000 + position)
        self.settle()
