"""What the tests of the core share: short spellings, and a naive model of a run.

The model knows the rules and nothing else: it counts nothing down and queues nothing, every answer
is a scan over plain sets and dicts.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import Enum
from fractions import Fraction
from typing import Any

import pytest

from dagron import DAG, DynamicModification, DynamicNodeSpec, ModificationError, NodeStatus
from dagron._blame import Blame, Why
from dagron._edge import Edge, condition_of
from dagron._lanes import Pool
from dagron._policy import NodePolicy, Trigger, all_succeeded
from dagron._scheduler import Scheduler

PENDING, READY, RUNNING = NodeStatus.PENDING, NodeStatus.READY, NodeStatus.RUNNING
COMPLETED, FAILED = NodeStatus.COMPLETED, NodeStatus.FAILED
SKIPPED, CANCELLED = NodeStatus.SKIPPED, NodeStatus.CANCELLED

WAITING = (PENDING, READY)
STARTED = (RUNNING, COMPLETED, FAILED)
UNMET = (FAILED, CANCELLED, SKIPPED)

Pair = tuple[str, str]


# --- short spellings -----------------------------------------------------------------------------


def nothing() -> None:
    """A task that does nothing; it can be pickled."""


def yes(result: object) -> bool:
    """A condition; it can be pickled, and the scheduler never calls it."""
    return True


def no(result: object) -> bool:
    """Another one."""
    return False


def dag(*parts: str | Pair, policies: Mapping[str, NodePolicy] | None = None) -> DAG:
    """A graph of these nodes (strings) and edges (pairs, or `Edge` with a condition)."""
    builder, policies = DAG.builder(), dict(policies or {})
    for part in parts:
        if isinstance(part, str):
            builder.add_node(part, policy=policies.pop(part, None))
        else:
            builder.add_edge(*part, condition=condition_of(part))
    for name, policy in policies.items():
        builder.add_node(name, policy=policy)
    return builder.build()


def chain(length: int) -> DAG:
    """A graph in which node n waits for node n - 1."""
    return dag("0", *((str(n), str(n + 1)) for n in range(length - 1)))


def spec(
    name: str, *dependencies: str, to: Iterable[str] = (), policy: NodePolicy | None = None
) -> DynamicNodeSpec:
    return DynamicNodeSpec(name, nothing, dependencies, to, policy=policy)


def adding(*specs: DynamicNodeSpec) -> DynamicModification:
    return DynamicModification(add_nodes=specs)


def removing(*names: str) -> DynamicModification:
    return DynamicModification(remove_nodes=names)


def when(trigger: Trigger) -> NodePolicy:
    return NodePolicy(trigger=trigger)


def pools(**sizes: int) -> dict[str, Pool]:
    """The slots of groups: so many of each name."""
    return {name: Pool(name, size) for name, size in sizes.items()}


def run_at(
    graph: DAG,
    *,
    completed: Collection[str] = (),
    running: Collection[str] = (),
    failed: Collection[str] = (),
    cancelled: Collection[str] = (),
    untaken: Collection[Pair] = (),
    groups: Mapping[str, Pool] | None = None,
) -> Scheduler:
    """A run in which these nodes stand there and no other has started: no thread is free for it.

    The conditions of the edges that are ``untaken`` were false.
    """
    moved = {*completed, *running, *failed}
    rest = [name for name in graph if name not in moved]
    scheduler = Scheduler(graph, on_threads=rest, max_workers=0, pools=groups)
    while taken := scheduler.take_ready(len(moved)):
        for name in taken:
            if name in completed:
                scheduler.succeed(name, {b for a, b in untaken if a == name})
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
        f"spec({', '.join(map(repr, [added.name, *added.dependencies]))}, to={added.dependents}"
        + (f", policy={added.policy})" if added.policy else ")")
        for added in modification.add_nodes
    )
    lists = ("remove_nodes", "add_edges", "remove_edges", "cancel_nodes")
    named = (f"{name}={value}" for name in lists if (value := getattr(modification, name)))
    return f"DynamicModification({', '.join([f'[{specs}]', *named])})"


def snapshot(value: object) -> object:
    """All of an object's state, to its leaves and in the order of its dicts, as plain values."""
    if isinstance(value, Mapping):
        return "mapping", [(key, snapshot(member)) for key, member in value.items()]
    if isinstance(value, (set, frozenset)):
        return "set", sorted(map(repr, value))
    if isinstance(value, (str, int, float, NodeStatus, Enum, type(None))):
        return value
    if isinstance(value, Edge):
        return "edge", *value, id(value.condition)
    if callable(value):
        return "callable", id(value)
    if isinstance(value, Iterable) and not isinstance(value, DAG):
        return type(value).__name__, [snapshot(member) for member in value]
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    names = [*slots, *getattr(value, "__dict__", ())]
    assert names, f"no state of a {type(value).__name__} to be seen"
    return type(value).__name__, [(name, snapshot(getattr(value, name, None))) for name in names]


# --- refusals ------------------------------------------------------------------------------------


def refused(
    where: DAG | Scheduler, modification: DynamicModification, by: str | None = None
) -> str:
    """The text of the error with which the modification is refused; nothing else has changed."""
    return str(refusal(where, modification, by))


def refusal(
    where: DAG | Scheduler, modification: DynamicModification, by: str | None = None
) -> ModificationError:
    before = snapshot(where) if isinstance(where, Scheduler) else where.edges()
    with pytest.raises(ModificationError) as caught:
        where.land(modification, by) if isinstance(where, Scheduler) else where.apply(
            modification, by
        )
    assert (snapshot(where) if isinstance(where, Scheduler) else where.edges()) == before
    assert caught.value.by == by
    return caught.value


def found(error: ModificationError) -> list[tuple[str, str]]:
    return [(fault.kind, fault.node) for fault in error.faults]


# --- graphs, naively -----------------------------------------------------------------------------


def edges_of(modification: DynamicModification) -> Iterator[Pair]:
    """Every edge that the modification would add."""
    for added in modification.add_nodes:
        for source in added.dependencies:
            yield source, added.name
        for target in added.dependents:
            yield added.name, target
    yield from modification.add_edges


def naive_order(rank: Mapping[str, Any], edges: Collection[Pair]) -> list[str]:
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


def is_cyclic(nodes: Collection[str], edges: Collection[Pair]) -> bool:
    return len(naive_order(dict.fromkeys(nodes, 0), edges)) < len(nodes)


def enough(need: int | float | None, active: int) -> int:
    """How many of so many active edges must be met: a count, a share of them, or just one."""
    if isinstance(need, float):
        share = Fraction(str(need)) * active
        return next(count for count in range(1, active + 2) if count >= share)
    return need or 1


# --- a run, naively ------------------------------------------------------------------------------


class Model:
    """What the statuses, the graph and the slots of a run are by the rules."""

    def __init__(
        self,
        nodes: Collection[str],
        edges: Collection[Pair],
        on_threads: Collection[str],
        *,
        max_workers: int = 1,
        max_concurrency: int | None = None,
        max_nodes: int,
        max_depth: int,
        groups: Mapping[str, int] | None = None,
        policy: NodePolicy | None = None,
        policies: Mapping[str, NodePolicy] | None = None,
        keep: str = "all",
    ) -> None:
        self.status = dict.fromkeys(nodes, PENDING)
        self.edges = {(source, target) for source, target in edges}
        self.conditions = {(e[0], e[1]): c for e in edges if (c := condition_of(e)) is not None}
        self.untaken: set[Pair] = set()  # edges whose condition was false
        self.broken: set[Pair] = set()  # edges whose condition gave no answer
        self.settled: set[Pair] = set()  # edges that count as if their source had succeeded
        self.policy = policy
        self.policies = dict(policies or {})
        self.on_threads = set(on_threads)
        self.max_nodes = max_nodes
        self.max_depth = max_depth
        self.born = {name: i for i, name in enumerate(nodes)}  # no two nodes have the same
        self.added_by: dict[str, str | None] = dict.fromkeys(nodes)
        self.depths = dict.fromkeys(nodes, 0)
        self.keep = keep
        self.keeps: dict[str, str] = {}  # of the nodes of which the one that added them says so
        self.bereft: set[str] = set()  # nodes of which a dependent was forgotten
        self.forgotten = 0
        self.counted: set[str] = set()  # nodes whose children are counted
        self.parent: dict[str, int] = {}  # when the node was born that counts this one
        self.waits: dict[str, int] = {}  # nodes that wait till fewer children are unfinished
        self.relying: set[str] = set()  # those of them that do nothing else
        self.removed: list[str] = []
        self.version = 0
        self.by_condition: set[str] = set()  # the nodes that were skipped by condition
        self.blames: dict[str, set[Blame]] = {}  # what may be given as the reason, by node
        self.slots = {"max_workers": max_workers, **(groups or {})}
        if max_concurrency is not None:
            self.slots["max_concurrency"] = max_concurrency
        self.workers: set[str] = set()  # the nodes that hold a worker slot
        self.draining = 0  # the threads that hold one, and run one node after another
        self.drained: set[str] = set()  # the running nodes that they run
        self.offered: list[str] = []  # the ready nodes that they may go on with
        self.lingering: set[str] = set()  # nodes that have ended, but whose thread has not
        self.resting: set[str] = set()  # running nodes that hold no slots
        self.asking: dict[str, bool] = {}  # the nodes in flight that want slots: and a worker's?
        self.turn: dict[str, int] = {}  # when a node became ready, for those who know
        self.settle()

    # -- questions

    def all(self, *statuses: NodeStatus) -> list[str]:
        return [name for name, status in self.status.items() if status in statuses]

    def dependencies(self, name: str) -> list[str]:
        return sorted(source for source, target in self.edges if target == name)

    def dependents(self, name: str) -> list[str]:
        return sorted(target for source, target in self.edges if source == name)

    @property
    def rank(self) -> dict[str, tuple[int, ...]]:
        """Preorder in the forest of who added whom, of the nodes that are there."""
        rank: dict[str, tuple[int, ...]] = {}
        for name in sorted(self.status, key=self.born.__getitem__):
            rank[name] = (*rank.get(self.added_by[name] or "", ()), self.born[name])
        return rank

    def order(self) -> list[str]:
        return naive_order(self.rank, self.edges)

    def governed(self, name: str, field: str, otherwise: Any) -> Any:
        """What the node's own policy says, else the default one, else nobody."""
        for policy in (self.policies.get(name), self.policy):
            if policy is not None and field in policy.given:
                return getattr(policy, field)
        return otherwise

    def trigger(self, name: str) -> Trigger:
        return self.governed(name, "trigger", all_succeeded)

    def priority(self, name: str) -> float:
        return self.governed(name, "priority", 0)

    def groups(self, name: str) -> list[str]:
        group = self.governed(name, "group", ())
        return [group] if isinstance(group, str) else [*group]

    # -- slots

    def needs(self, name: str, worker: bool) -> list[str]:
        """The slots that a node needs to start, or to go on: none twice."""
        needs = ["max_workers"] if worker else []
        if self.status[name] is READY or name in self.resting:
            needs += [*(["max_concurrency"] if "max_concurrency" in self.slots else [])]
            needs += self.groups(name)
        return needs

    def taken(self) -> Counter[str]:
        """How many slots of each kind are taken."""
        active = [name for name in self.all(RUNNING) if name not in self.resting]
        workers = len(self.workers) + self.draining
        taken = Counter({"max_workers": workers, "max_concurrency": len(active)})
        for name in [*active, *self.lingering]:
            taken.update(self.groups(name))
        return taken

    def lacks(self, name: str, worker: bool) -> list[str]:
        """The slots that the node needs and that are not free."""
        taken = self.taken()
        return [slot for slot in self.needs(name, worker) if taken[slot] >= self.slots[slot]]

    def wants_worker(self, name: str) -> bool:
        return self.asking.get(name, name in self.on_threads)

    def line(self) -> list[str]:
        """Who waits for slots: those in flight, then the ready ones, by priority and readiness."""
        ready = sorted(self.all(READY), key=lambda name: (-self.priority(name), self.turn[name]))
        return [*self.asking, *ready]

    def next_in_line(self) -> str | None:
        """The first in line who lacks nothing."""
        for name in self.line():
            if not self.lacks(name, self.wants_worker(name)):
                return name
        return None

    def grant(self, name: str) -> None:
        """Give a node the slots that it wants."""
        if self.wants_worker(name):
            self.workers.add(name)
        self.asking.pop(name, None)
        self.resting.discard(name)
        self.status[name] = RUNNING

    def rest(self, name: str) -> None:
        self.workers.discard(name)
        self.resting.add(name)

    def return_worker(self, name: str) -> None:
        self.workers.remove(name)
        self.lingering.discard(name)

    # -- threads that run one node after another

    def hand_over(self, name: str) -> None:
        self.workers.remove(name)
        self.drained.add(name)
        self.draining += 1

    def begin(self, name: str) -> None:
        self.offered.remove(name)
        self.drained.add(name)
        self.status[name] = RUNNING

    def take_over(self, name: str) -> None:
        self.draining -= 1
        self.workers.add(name)

    def is_usual(self, name: str) -> bool:
        """Whether a node needs a worker slot and no other, and has default priority."""
        return name in self.on_threads and not (self.groups(name) or self.priority(name))

    def usual(self) -> list[str]:
        """The usual nodes in line."""
        return [name for name in self.line() if name not in self.asking and self.is_usual(name)]

    def waits_for_worker(self, name: str, *, only: bool) -> bool:
        """Whether a node in line waits for a worker slot; ``only``: and for no other."""
        lacks = self.lacks(name, self.wants_worker(name))
        return lacks == ["max_workers"] if only else "max_workers" in lacks

    def following(self, *, only: bool) -> list[str]:
        """The usual nodes that are next for a worker slot: up to another that waits for one."""
        names, usual = [], self.usual()
        for name in self.line():
            if self.waits_for_worker(name, only=only):
                if name not in usual:
                    break
                names.append(name)
        return names

    def overtaking(self, name: str, *, only: bool) -> list[str]:
        """Those who wait for a worker slot, go before that node, and are no usual ones."""
        usual, line = set(self.usual()), self.line()
        first = line[: line.index(name)]
        return [n for n in first if n not in usual and self.waits_for_worker(n, only=only)]

    # -- what follows from what

    def edge(self, source: str, target: str) -> str:
        """Where an edge stands: pending, met, inactive or unmet."""
        status, edge = self.status[source], (source, target)
        if edge in self.broken:
            return "pending"
        if status is COMPLETED or edge in self.settled:
            return "inactive" if edge in self.untaken else "met"
        if status in (PENDING, READY, RUNNING):
            return "pending"
        return "inactive" if source in self.by_condition else "unmet"

    def edges_to(self, name: str, *states: str) -> list[str]:
        """The sources of the node's edges that stand there."""
        return [s for s in self.dependencies(name) if self.edge(s, name) in states]

    def settle(self) -> None:
        """Give every node that has not started the status that follows from its dependencies."""
        changed, before = True, dict(self.status)
        while changed:
            changed = False
            for name in self.all(*WAITING):
                due = self._due(name)
                changed = changed or due is not self.status[name]
                self.status[name] = due
                if due is SKIPPED and not self.edges_to(name, "met", "unmet"):
                    self.by_condition.add(name)
        fresh = [name for name in self.all(SKIPPED) if before[name] is not SKIPPED]
        for name in naive_order({name: self.rank[name] for name in fresh}, self.edges):
            self.blames[name] = self._blames(name)

    def _due(self, name: str) -> NodeStatus:
        states = Counter(self.edge(source, name) for source in self.dependencies(name))
        if not states:
            return READY
        trigger = self.trigger(name)
        active = states.total() - states["inactive"]
        if trigger.kind == "all_succeeded" and states["unmet"]:
            return SKIPPED
        counts = trigger.kind in ("any_succeeded", "at_least")
        if counts and states["met"] >= enough(trigger.need, active):
            return READY
        if states["pending"]:
            return PENDING
        if trigger.kind == "all_succeeded":
            return READY if active else SKIPPED
        if trigger.kind == "all_done":
            own = [edge for edge in self.untaken if edge[1] == name]
            return SKIPPED if len(own) == states.total() else READY
        return SKIPPED

    def _blames(self, name: str) -> set[Blame]:
        """The reasons that may be given for a node that has just been skipped."""
        if name in self.by_condition:
            return self._handed_down(name, self.dependencies(name))
        unmet, met = self.edges_to(name, "unmet"), self.edges_to(name, "met")
        trigger = self.trigger(name)
        if trigger == all_succeeded:
            return self._handed_down(name, unmet)
        words = f"{len(met)} of {len(met) + len(unmet)}, and its trigger is {trigger}"
        tails = [f"; {source!r} is {self.status[source]}" for source in unmet] or [""]
        return {Blame(Why.TRIGGER, name, words + tail) for tail in tails}

    def _handed_down(self, name: str, sources: Iterable[str]) -> set[Blame]:
        found = set()
        for source in sources:
            if self.edge(source, name) == "inactive" and (source, name) in self.untaken:
                found.add(Blame(Why.CONDITION, source, name))
                continue
            match self.status[source]:
                case NodeStatus.FAILED:
                    found.add(Blame(Why.FAILED, source))
                case NodeStatus.CANCELLED:
                    found.add(Blame(Why.CANCELLED, source))
                case _:
                    found |= self.blames[source]
        return found

    def complete(self, name: str, untaken: Iterable[str], broken: Iterable[str]) -> None:
        self.untaken |= {(name, target) for target in untaken}
        # Nothing comes over an edge whose condition was not asked, since its target had started.
        self.untaken |= {
            edge
            for edge in self.conditions
            if edge[0] == name and self.status[edge[1]] not in WAITING and edge not in self.settled
        }
        self.broken |= {(name, target) for target in broken}
        self.end(name, COMPLETED)

    def end(self, *names: str | NodeStatus, blame: Blame | None = None) -> None:
        """Give the nodes this final status, the last argument, all of them at once."""
        *ended, status = names
        for name in ended:
            self.status[name] = status
            self.counted.discard(name)
            self.stop_waiting(name)
            self.resting.discard(name)
            self.drained.discard(name)
            self.asking.pop(name, None)
            if blame is not None:
                self.blames[name] = {blame}
        self.settle()

    # -- children

    def children(self, name: str) -> set[str]:
        """The unfinished nodes that this one has added since it counts them."""
        undone = self.all(*WAITING, RUNNING)
        return {child for child in undone if self.parent.get(child) == self.born[name]}

    def has_room(self, name: str, limit: int) -> bool:
        return len(self.children(name)) <= limit - 1

    def stop_waiting(self, name: str) -> None:
        self.waits.pop(name, None)
        self.relying.discard(name)

    # -- what is forgotten

    def is_spare(self, name: str) -> bool:
        """Tell whether a node is to be forgotten."""
        dependents = [self.status[target] for target in self.dependents(name)]
        if self.status[name] is not COMPLETED or {*dependents} & {*WAITING, RUNNING}:
            return False
        match self.keeps.get(name, self.keep):
            case "all":
                return False
            case "leaves":
                return bool(dependents) or name in self.bereft
            case _:
                return True

    def forget(self, name: str) -> None:
        self.bereft.update(self.dependencies(name))
        self._vanish(name)
        self.forgotten += 1
        for edges in (self.edges, self.untaken, self.broken, self.settled):
            edges -= {edge for edge in edges if name in edge}
        self.conditions = {edge: c for edge, c in self.conditions.items() if name not in edge}

    def _vanish(self, name: str) -> None:
        del self.status[name], self.born[name], self.added_by[name], self.depths[name]
        for table in (self.policies, self.keeps, self.parent, self.blames, self.turn):
            table.pop(name, None)
        for names in (self.bereft, self.on_threads, self.by_condition):
            names.discard(name)

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
        if self._differing(modification):
            found.add("edge")
        if not used.issuperset(modification.cancel_nodes):
            found.add("unknown")
        if by in modification.cancel_nodes:
            found.add("started")
        vanishing = self.vanishing(modification)
        if new and len({*self.status, *new}) - len(vanishing) > self.max_nodes:
            found.add("limit")
        if new and self._depth_under(by) > self.max_depth:
            found.add("limit")
        if not found and is_cyclic(*self._after(modification)):
            found.add("cycle")
        return found

    def _differing(self, modification: DynamicModification) -> list[Pair]:
        """The edges that are given again with another condition."""
        kept = self.edges - {*modification.remove_edges}
        given = {edge: self.conditions.get(edge) for edge in kept}
        return [
            edge
            for edge in edges_of(modification)
            if given.setdefault(edge, condition_of(edge)) is not condition_of(edge)
        ]

    def _depth_under(self, by: str | None) -> int:
        return 0 if by is None else self.depths[by] + 1

    def vanishing(self, modification: DynamicModification) -> list[str]:
        """The nodes that go; one that was skipped or cancelled before stays, with its edges."""
        named = dict.fromkeys(modification.remove_nodes)
        return [name for name in named if self.status.get(name) in WAITING]

    def new_edges(self, modification: DynamicModification) -> list[Pair]:
        """The edges that come, each once; those that are removed and added again come, too."""
        kept = self.edges - {*modification.remove_edges}
        return [edge for edge in dict.fromkeys(edges_of(modification)) if edge not in kept]

    def cancelled(self, modification: DynamicModification) -> list[str]:
        """The nodes to cancel: those that wait or run, and are not removed."""
        left = [
            name for name in self.all(*WAITING, RUNNING) if name not in modification.remove_nodes
        ]
        return [name for name in dict.fromkeys(modification.cancel_nodes) if name in left]

    def _after(self, modification: DynamicModification) -> tuple[set[str], set[Pair]]:
        gone = self.vanishing(modification)
        nodes = {*self.status, *(added.name for added in modification.add_nodes)} - {*gone}
        edges = (self.edges - {*modification.remove_edges}) | {*edges_of(modification)}
        return nodes, {edge for edge in edges if nodes.issuperset(edge)}

    def land(
        self,
        modification: DynamicModification,
        by: str | None,
        on_threads: Collection[str] = (),
        untaken: Collection[Pair] = (),
        broken: Collection[Pair] = (),
        settled: bool = False,
    ) -> None:
        depth, keep = self._depth_under(by), self.governed(by or "", "keep", None)
        _, edges = self._after(modification)
        gone = self.vanishing(modification)
        new_edges, cancelled = self.new_edges(modification), self.cancelled(modification)
        given = any((modification.add_nodes, *edges_of(modification), modification.remove_edges))
        self.version += bool(given or gone or cancelled)
        for name in gone:
            self._vanish(name)
            self.removed.append(name)
        kept = edges - {*new_edges}
        self.untaken = (self.untaken & kept) | ({*untaken} & {*new_edges})
        self.broken = (self.broken & kept) | ({*broken} & {*new_edges})
        new = {added.name for added in modification.add_nodes}
        self.settled &= kept
        if settled:
            self.settled |= {e for e in new_edges if e[0] == by and e[1] in new} - {*broken}
        self.conditions = {edge: c for edge, c in self.conditions.items() if edge in kept}
        self.conditions |= {(e[0], e[1]): c for e in new_edges if (c := condition_of(e))}
        self.edges = {(source, target) for source, target in edges}
        self.on_threads.update(on_threads)
        for position, added in enumerate(modification.add_nodes):
            self.status[added.name] = PENDING
            self.added_by[added.name] = by
            self.depths[added.name] = depth
            self.born[added.name] = self.version * 1000 + position
            if by in self.counted:
                self.parent[added.name] = self.born[by]
            if by is not None and keep is not None:
                self.keeps[added.name] = keep if isinstance(keep, str) else "failures"
            if added.policy is not None:
                self.policies[added.name] = added.policy
        self.settle()
        waiting = [name for name in cancelled if self.status[name] in WAITING]
        self.end(*waiting, CANCELLED, blame=asked_by(by))


def asked_by(by: str | None) -> Blame:
    """Why a node is cancelled that a modification names."""
    return Blame(Why.OUTSIDE) if by is None else Blame(Why.REQUEST, by)


class Answer:
    """A condition that nobody may call: the scheduler calls nothing."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, result: object) -> bool:
        raise AssertionError("the scheduler calls no condition")

    def __repr__(self) -> str:
        return f"answers[{self.number}]"
