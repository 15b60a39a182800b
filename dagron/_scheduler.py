"""The scheduler: which node may start, what an outcome releases, how a modification lands.

A synchronous state machine without I/O, clock or callables. It holds names, edges, counters and
statuses; the shell around it runs the nodes and reports one outcome for each.

    PENDING --> READY --> RUNNING --> COMPLETED
       ^----------|          |------> FAILED
       |          |          '------> CANCELLED
       '----------+------------------> SKIPPED, CANCELLED
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from math import inf

from dagron._errors import Fault, ModificationError
from dagron._graph import DAG, frozen
from dagron._landing import Landing, examine, unfilled
from dagron._modification import DynamicModification
from dagron._status import (
    CANCELLED,
    COMPLETED,
    FAILED,
    NEXT,
    PENDING,
    READY,
    RUNNING,
    SKIPPED,
    STARTED,
    UNMET,
    WAITING,
    NodeStatus,
)


class Scheduler:
    """The state of one run.

    ``on_threads`` names the nodes that need one of the ``max_workers`` worker slots; every node
    needs one of ``max_concurrency`` places while it is RUNNING. ``max_nodes`` bounds the nodes in
    the graph at any time, ``max_depth`` how many expansions deep a node may be added.

    A method that is called against the transition table raises `RuntimeError`: a bug of the caller.
    """

    __slots__ = (
        "_asking",
        "_blame",
        "_dag",
        "_depth",
        "_graph",
        "_max_concurrency",
        "_max_depth",
        "_max_nodes",
        "_ready_on_loop",
        "_ready_on_threads",
        "_ready_count",
        "_removed",
        "_stale",
        "_status",
        "_waiting",
        "_workers",
        "on_threads",
        "running",
        "unfinished",
        "version",
        "working",
    )

    def __init__(
        self,
        dag: DAG,
        *,
        on_threads: Iterable[str] = (),
        max_workers: int = 1,
        max_concurrency: int | None = None,
        max_nodes: int = 1_000_000,
        max_depth: int = 1_000,
    ) -> None:
        self._dag: DAG | None = dag  # the graph as a value, until a modification outdates it
        self._graph = dag._graph.draft()
        self._max_nodes = max_nodes
        self._max_depth = max_depth
        self._max_concurrency = inf if max_concurrency is None else max_concurrency
        self._workers = max_workers  # worker slots that are free
        self.working: set[str] = set()  # the nodes that hold one; for reading
        self._asking: deque[str] = deque()  # nodes in flight that wait for one
        self.on_threads = set(on_threads)  # for reading
        self._depth: dict[str, int] = {}  # of nodes that were added by an expander
        self._removed: dict[str, None] = {}
        self._blame: dict[str, str] = {}  # why a node was skipped: the node that failed
        self._status: dict[str, NodeStatus] = dict.fromkeys(self._graph.dependencies, PENDING)
        # How many dependencies of a node have not completed: the countdown to READY.
        self._waiting = {name: len(edges) for name, edges in self._graph.dependencies.items()}
        # (position, name): an entry counts only while its node is READY, so that a node that was
        # removed needs no search here.
        self._ready_on_loop: deque[tuple[int, str]] = deque()
        self._ready_on_threads: deque[tuple[int, str]] = deque()
        self._ready_count = 0
        self._stale: dict[str, int] = {}  # went back to waiting: entries up to there do not count
        self.running = 0
        self.unfinished = len(self._status)
        self.version = 0  # how many modifications have landed
        for name, count in self._waiting.items():
            if not count:
                self._make_ready(name)

    # -- questions

    def status(self, name: str) -> NodeStatus:
        """Return where a node of the graph stands."""
        return self._status[name]

    def statuses(self) -> Mapping[str, NodeStatus]:
        """Return the statuses of all nodes that are in the graph; not a copy."""
        return self._status

    def dependencies(self, name: str) -> Sequence[str]:
        """Return the nodes that this one waits for, in edge order."""
        return tuple(self._graph.dependencies[name])

    def origin(self, name: str) -> tuple[str | None, int]:
        """Return the node whose expander added this one, and how many expansions deep that was."""
        depth = self._depth.get(name, 0)
        return (self._graph.added_by[name], depth) if depth else (None, 0)

    def blame(self, name: str) -> str | None:
        """Return the failed node because of which this one was skipped, or None."""
        return self._blame.get(name)

    def removed(self) -> tuple[str, ...]:
        """Return the names of the nodes that were removed, in landing order."""
        return tuple(self._removed)

    def was_known(self, name: str) -> bool:
        """Tell whether a node of this name is in the graph or was removed from it."""
        return name in self._status or name in self._removed

    def dag(self) -> DAG:
        """Return the graph as it is now, as a value: O(graph), cached until it changes again."""
        if self._dag is None:
            self._dag = frozen(self._graph)
        return self._dag

    # -- admission

    def take_ready(self, most: int) -> list[str]:
        """Move up to ``most`` nodes that have a slot to RUNNING and return them, readiest first.

        A node on a worker thread gets its worker slot here and keeps it until `return_worker`.
        """
        taken: list[str] = []
        on_loop, on_threads = self._ready_on_loop, self._ready_on_threads
        while len(taken) < most and self.running < self._max_concurrency:
            if on_threads and self._workers and (not on_loop or on_threads[0] < on_loop[0]):
                place, name = on_threads.popleft()
                if self._status.get(name) is not READY or place <= self._stale.get(name, 0):
                    continue
                self._workers -= 1
                self.working.add(name)
            elif on_loop:
                place, name = on_loop.popleft()
                if self._status.get(name) is not READY or place <= self._stale.get(name, 0):
                    continue
            else:
                break
            self._move(name, RUNNING)
            self.running += 1
            taken.append(name)
        return taken

    def ask_worker(self, name: str) -> bool:
        """Give a running node a worker slot and tell so; if none is free, it is next in line."""
        if self._workers:
            self._workers -= 1
            self.working.add(name)
            return True
        self._asking.append(name)
        return False

    def stop_asking(self, name: str) -> None:
        """Take back a request for a worker slot that was not granted yet."""
        if name in self._asking:
            self._asking.remove(name)

    def return_worker(self, name: str) -> str | None:
        """Take back the worker slot that the node holds.

        Returns the node in flight that was waiting for it and holds it now: it goes before nodes
        that are only ready.
        """
        self.working.remove(name)
        if self._asking:
            heir = self._asking.popleft()
            self.working.add(heir)
            return heir
        self._workers += 1
        return None

    # -- outcomes

    def succeed(self, name: str) -> None:
        """Complete a running node whose expander, if any, is done: it releases its dependents."""
        self._move(name, COMPLETED)
        self.running -= 1
        self.unfinished -= 1
        waiting, status = self._waiting, self._status
        for dependent in self._graph.dependents[name]:
            waiting[dependent] = left = waiting[dependent] - 1
            if not left and status[dependent] is PENDING:
                self._make_ready(dependent)

    def fail(self, name: str) -> None:
        """Fail a running node: everything downstream that has not started is skipped."""
        self._finish(name, FAILED)
        self._skip(self._graph.dependents[name], name)

    def cancel(self, name: str) -> None:
        """Cancel a node that has not finished: everything downstream of it is skipped."""
        self._finish(name, CANCELLED)
        self._skip(self._graph.dependents[name], name)

    def cancel_rest(self) -> None:
        """Cancel every node that waits or is ready: the run ends before their turn came."""
        for name, status in self._status.items():
            if status in WAITING:
                self._finish(name, CANCELLED)

    # -- modifications

    def land(
        self,
        modification: DynamicModification,
        by: str | None = None,
        *,
        on_threads: Iterable[str] = (),
        needs: Mapping[str, Sequence[str]] | None = None,
        faults: Sequence[Fault] = (),
    ) -> None:
        """Apply a modification as a whole, or raise `ModificationError` and change nothing.

        ``by`` is the running node whose expander returned it; it must be reported as succeeded or
        failed afterwards, so that its children cannot start before. ``needs`` holds parameters that
        tasks of new nodes must find among their dependencies, ``faults`` what the caller found.
        """
        depth = 0 if by is None else self._depth.get(by, 0) + 1
        if not faults and self._is_plain_growth(modification, depth, needs):
            self.on_threads.update(on_threads)
            self._grow(modification, by, depth)
            return
        landing = examine(
            modification, self._graph, self._status, removed=self._removed, needs=needs
        )
        if landing.added_nodes:
            nodes = len(self._status) - len(landing.removed_nodes) + len(landing.added_nodes)
            landing.faults.extend(self._limit_faults(landing.added_nodes, nodes, depth))
        if faults or landing.faults:
            raise ModificationError([*faults, *landing.faults], by)
        if landing:
            self.on_threads.update(on_threads)
            self._apply(landing, by, depth)

    def _is_plain_growth(
        self,
        modification: DynamicModification,
        depth: int,
        needs: Mapping[str, Sequence[str]] | None,
    ) -> bool:
        """Tell whether a modification is surely sound; False means: look closer.

        It is when it only adds nodes, each of them after nodes that have started and before nodes
        that have not: such edges can close no cycle. This is what nearly every expander returns,
        and knowing it costs a fifth of `examine`.
        """
        specs = modification.add_nodes
        if (
            not specs
            or modification.remove_nodes
            or modification.add_edges
            or modification.remove_edges
            or depth > self._max_depth
            or len(specs) > self._max_nodes - len(self._status)
        ):
            return False
        status, removed = self._status, self._removed
        names = set()
        try:
            for spec in specs:
                name = spec.name
                if name in status or name in removed:
                    return False
                names.add(name)
                for source in spec.dependencies:
                    if status.get(source) not in STARTED or type(source) is not str:
                        return False
                for target in spec.dependents:
                    if status.get(target) not in WAITING or type(target) is not str:
                        return False
                if needs and name in needs and unfilled(needs[name], spec.dependencies):
                    return False
        except (TypeError, AttributeError):  # its lists were spoilt; `examine` finds the words
            return False
        return len(names) == len(specs)

    def _grow(self, modification: DynamicModification, by: str | None, depth: int) -> None:
        """Apply a modification that is plain growth."""
        graph, status, waiting = self._graph, self._status, self._waiting
        for spec in modification.add_nodes:
            name = spec.name
            graph.add_node(name, by)
            status[name] = PENDING
            self._depth[name] = depth
            count = 0
            doomed = None
            for source in spec.dependencies:
                if graph.add_edge(source, name) and (now := status[source]) is not COMPLETED:
                    count += 1
                    if now is FAILED:
                        doomed = doomed or source
            waiting[name] = count
            for target in spec.dependents:
                if graph.add_edge(name, target):
                    waiting[target] += 1
                    if status[target] is READY:
                        self._wait_again(target)
            if not count:
                self._make_ready(name)
            elif doomed is not None:
                self._skip([name], doomed)
        self.unfinished += len(modification.add_nodes)
        self._dag = None
        self.version += 1

    def _limit_faults(self, added: Collection[str], nodes: int, depth: int) -> Iterator[Fault]:
        first = next(iter(added))
        if nodes > self._max_nodes:
            yield Fault(
                "limit",
                first,
                f"adding {len(added):,} makes {nodes:,} nodes in the graph: "
                f"max_nodes is {self._max_nodes:,}",
                "if the graph may become so large, pass a larger max_nodes to DynamicExecutor",
            )
        if depth > self._max_depth:
            yield Fault(
                "limit",
                first,
                f"node {first!r:.60} would be {depth:,} expansions deep: "
                f"max_depth is {self._max_depth:,}",
                "if expanders may add expanding nodes so often, pass a larger max_depth",
            )

    def _apply(self, landing: Landing, by: str | None, depth: int) -> None:
        graph, status, waiting = self._graph, self._status, self._waiting
        touched: dict[str, None] = {}  # nodes whose countdown changed: readiness is decided last
        if landing.removed_edges or landing.removed_nodes:
            self._take_out(landing, touched)
        for name in landing.added_nodes:
            graph.add_node(name, by)
            waiting[name] = 0
            status[name] = PENDING
            touched[name] = None
            self._depth[name] = depth
        self.unfinished += len(landing.added_nodes)
        unmet: list[tuple[str, str]] = []
        for source, target in landing.added_edges:
            if graph.add_edge(source, target) and (before := status[source]) is not COMPLETED:
                waiting[target] += 1
                touched[target] = None
                if before in UNMET:
                    unmet.append((source, target))
        for source, target in unmet:
            self._skip([target], self._blame.get(source, source))
        for name in touched:  # bring PENDING and READY in line with the countdown
            now = status.get(name)
            if now is PENDING:
                if not waiting[name]:
                    self._make_ready(name)
            elif now is READY and waiting[name]:
                self._wait_again(name)
        self._dag = None
        self.version += 1

    def _take_out(self, landing: Landing, touched: dict[str, None]) -> None:
        """Remove edges and nodes, and note whose countdown that changed."""
        graph, status, waiting = self._graph, self._status, self._waiting
        for source, target in landing.removed_edges:
            graph.remove_edge(source, target)
            if status[source] is not COMPLETED:
                waiting[target] -= 1
                touched[target] = None
        for name in landing.removed_nodes:
            for target in graph.dependents[name]:
                waiting[target] -= 1
                touched[target] = None
            graph.remove_node(name)
            self._forget(name)

    def _forget(self, name: str) -> None:
        """Drop a node that was removed; its name stays used."""
        del self._status[name], self._waiting[name]
        self._depth.pop(name, None)
        self.on_threads.discard(name)
        self._removed[name] = None
        self.unfinished -= 1

    # -- the only writers of statuses and queues

    def _move(self, name: str, to: NodeStatus) -> None:
        if to not in NEXT[self._status[name]]:
            raise RuntimeError(f"node {name!r} cannot go from {self._status[name]} to {to}")
        self._status[name] = to

    def _finish(self, name: str, to: NodeStatus) -> None:
        if self._status[name] is RUNNING:
            self.running -= 1
        self._move(name, to)
        self.unfinished -= 1

    def _make_ready(self, name: str) -> None:
        self._move(name, READY)
        self._ready_count += 1
        queue = self._ready_on_threads if name in self.on_threads else self._ready_on_loop
        queue.append((self._ready_count, name))

    def _wait_again(self, name: str) -> None:
        self._move(name, PENDING)
        self._stale[name] = self._ready_count

    def _skip(self, names: Iterable[str], blame: str) -> None:
        """Skip the nodes and all that waits for them; no recursion, since chains are long."""
        stack = list(names)
        while stack:
            name = stack.pop()
            if self._status[name] in WAITING:
                self._finish(name, SKIPPED)
                self._blame[name] = blame
                stack.extend(self._graph.dependents[name])
