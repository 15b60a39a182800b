"""How a modification lands in a run: whole or not at all."""

from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence

from dagron._admission import Admission
from dagron._blame import Blame, Why
from dagron._edge import condition_of
from dagron._errors import Fault, ModificationError
from dagron._graph import DAG, frozen
from dagron._history import INITIAL, EdgeChange, History, How, Origin, Removal, new_changes
from dagron._landing import Landing, examine, unfilled
from dagron._modification import DynamicModification, DynamicNodeSpec
from dagron._policy import NodePolicy, all_succeeded
from dagron._readiness import blame_for
from dagron._status import (
    CANCELLED,
    COMPLETED,
    FAILED,
    PENDING,
    READY,
    RUNNING,
    STARTED,
    WAITING,
)
from dagron._statuses import Landed, Statuses


class Growth(Statuses):
    """A graph that grows while its nodes run."""

    __slots__ = (
        "_before",
        "_changes",
        "_dag",
        "_early",
        "_max_depth",
        "_max_nodes",
        "_origins",
        "_removed",
        "forgotten",
        "version",
    )

    def __init__(
        self,
        dag: DAG,
        admission: Admission,
        on_threads: Iterable[str],
        policy: NodePolicy | None,
        max_nodes: int,
        max_depth: int,
        keep: str,
    ) -> None:
        self._before = dag
        self._dag: DAG | None = dag  # the graph as a value, until a modification outdates it
        self._max_nodes = max_nodes
        self._max_depth = max_depth
        self._origins: dict[str, Origin] = {}  # of nodes that were added while it runs
        self._changes = new_changes()
        self._removed: dict[str, None] = {}
        # Nodes that have started before some that they depend on, or ended but cannot run any more,
        # and others that depend on them may start all the same.
        self._early: set[str] = set()
        self.version = 0  # how many modifications have landed
        self.forgotten = 0  # how many nodes have completed and are gone
        super().__init__(dag._graph.draft(), admission, on_threads, policy, keep)

    def dag(self) -> DAG:
        """Return the graph as it is now, as a value: O(graph), cached until it changes again."""
        if self._dag is None:
            self._dag = frozen(self._graph)
        return self._dag

    def land(
        self,
        modification: DynamicModification,
        by: str | None = None,
        *,
        on_threads: Iterable[str] = (),
        needs: Mapping[str, Sequence[str]] | None = None,
        faults: Sequence[Fault] = (),
        untaken: Container[tuple[str, str]] = (),
        broken: Container[tuple[str, str]] = (),
        settled: bool = False,
    ) -> Sequence[str]:
        """Apply a modification as a whole, or raise `ModificationError` and change nothing.

        ``by`` is the running node whose expander returned it, or whose task adds it. ``settled``
        says that the expander goes on: for edges from that node to the new ones it counts as
        succeeded, so that they may start; else they wait for it. ``needs`` holds parameters that
        tasks of new nodes must find among their dependencies, ``faults`` what the caller found.
        ``untaken`` and ``broken`` are those of its edges from completed nodes whose condition is
        false or gave no answer; the targets of the latter must be failed next.

        Returns the running nodes that are to be cancelled.
        """
        depth = 0 if by is None else self._origins.get(by, INITIAL)[0] + 1
        if not faults and self._is_plain_growth(modification, depth, needs):
            self.on_threads.update(on_threads)
            if self.offspring.unfinished or self.policies:
                self._adopt_children(modification.add_nodes, by)
            self._grow(modification, by, depth, settled)
            return ()
        landing = self.check(modification, by, needs=needs, faults=faults)
        if not landing:
            return ()
        self.on_threads.update(on_threads)
        self._adopt_children(landing.added_nodes.values(), by)
        self._apply(landing, by, depth, untaken, broken, settled)
        return self._cancel_each(landing.cancelled_nodes, by)

    def check(
        self,
        modification: DynamicModification,
        by: str | None = None,
        *,
        needs: Mapping[str, Sequence[str]] | None = None,
        faults: Sequence[Fault] = (),
    ) -> Landing:
        """Return what a modification comes to, or raise `ModificationError`; change nothing."""
        landing = examine(
            modification,
            self._graph,
            self._status,
            by=by,
            removed=self._removed,
            needs=needs,
            cautious=bool(self._early),
            forgotten=self.forgotten,
        )
        if landing.added_nodes:
            nodes = len(self._status) - len(landing.removed_nodes) + len(landing.added_nodes)
            depth = 0 if by is None else self._origins.get(by, INITIAL)[0] + 1
            landing.faults.extend(self._limit_faults(landing.added_nodes, nodes, depth))
        if faults or landing.faults:
            raise ModificationError([*faults, *landing.faults], by)
        return landing

    def forget(self, name: str) -> bool:
        """Drop a node that retention calls spare, unless it is needed again; tell whether it was.

        Its name means nothing from then on, and may be used again.
        """
        if not self.retention.judge(name):
            return False
        self.retention.forget(name)
        self._drop(name)
        self._blame.pop(name, None)
        self._early.discard(name)
        self.forgotten += 1
        self._dag = None
        return True

    def _drop(self, name: str) -> None:
        self._readiness.forget(name)
        self._admission.forget(name)
        self._graph.remove_node(name)
        del self._status[name]
        self._origins.pop(name, None)
        self.policies.pop(name, None)
        self.on_threads.discard(name)

    def _adopt_children(self, specs: Iterable[DynamicNodeSpec], by: str | None) -> None:
        """Let those who count a node's children know of new ones."""
        if by is None:
            return
        if by in self.offspring.unfinished:
            self.offspring.add(by, [spec.name for spec in specs])
        policy = self.policies.get(by) if self.policies else None
        if policy is not None and policy.keep is not None:
            for spec in specs:
                self.retention.adopt(spec.name, policy.keep)

    def history(self) -> History:
        """Return what modifications have changed so far; not a copy."""
        return History(self._before, self.version, self._origins, self._changes)

    def has_edge(self, source: str, target: str) -> bool:
        """Tell whether there is such an edge."""
        return self._graph.has_edge(source, target)

    def _starts_early(self, name: str) -> bool:
        """Tell whether a node starts although some that it depends on have not.

        From then on an edge from a started node may close a cycle.
        """
        status = self._status
        return any(status[source] not in STARTED for source in self._graph.dependencies[name])

    def _is_plain_growth(
        self,
        modification: DynamicModification,
        depth: int,
        needs: Mapping[str, Sequence[str]] | None,
    ) -> bool:
        """Tell whether a modification is surely sound; False means: look closer.

        It is when it only adds nodes, each of them after nodes that have started and before nodes
        that have not: such edges can close no cycle, as long as a node starts only after all that
        it depends on. This is what nearly every expander returns, and knowing it costs a fifth of
        `examine`.
        """
        specs = modification.add_nodes
        if (
            not specs
            or modification.remove_nodes
            or modification.add_edges
            or modification.remove_edges
            or modification.cancel_nodes
            or depth > self._max_depth
            or len(specs) > self._max_nodes - len(self._status)
            or self._readiness.special
            or self._early
        ):
            return False
        status, removed = self._status, self._removed
        names = set()
        try:
            for spec in specs:
                name = spec.name
                if name in status or name in removed:
                    return False
                if (spec.policy or self._default) and self._has_trigger(spec):
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

    def _grow(
        self, modification: DynamicModification, by: str | None, depth: int, settled: bool
    ) -> None:
        """Apply a modification that is plain growth."""
        graph, status, waiting = self._graph, self._status, self._readiness.waiting
        retention, specs = self.retention, modification.add_nodes
        origins, origin = self._origins, (depth, self.version + 1)
        if self.log is not None:
            self._log_growth(specs, by, depth)
        for spec in specs:
            name = spec.name
            graph.add_node(name, by)
            status[name] = PENDING
            origins[name] = origin
            if spec.policy is not None or self._default is not None:
                self._adopt_policy(spec)
            count = 0
            doomed = None
            for source in spec.dependencies:
                if graph.add_edge(source, name) and (now := status[source]) is not COMPLETED:
                    if now is FAILED:
                        doomed = doomed or source
                    elif settled and source == by:
                        self._readiness.settle(source, name)
                    else:
                        count += 1
            waiting[name] = count
            if retention.active:
                for source in graph.dependencies[name]:
                    retention.add_edge(source, name)
            for target in spec.dependents:
                if graph.add_edge(name, target):
                    waiting[target] += 1
                    if status[target] is READY:
                        self._wait_again(target)
            if doomed is not None:
                self._skip(name, Blame(Why.FAILED, doomed))
            elif not count:
                self._make_ready(name)
        self.unfinished += len(specs)
        self._dag = None
        self.version += 1

    def _has_trigger(self, spec: DynamicNodeSpec) -> bool:
        policy = self._default if spec.policy is None else spec.policy.over(self._default)
        return policy is not None and policy.trigger != all_succeeded

    def _adopt_policy(self, spec: DynamicNodeSpec) -> None:
        if spec.policy is not None:
            self._graph.policies[spec.name] = spec.policy
        self._govern(spec.name, spec.policy)

    def _log_growth(self, specs: Sequence[DynamicNodeSpec], by: str | None, depth: int) -> None:
        edges: dict[tuple[str, str], None] = {}
        for spec in specs:
            edges.update(((source, spec.name), None) for source in spec.dependencies)
            edges.update(((spec.name, target), None) for target in spec.dependents)
        names = [spec.name for spec in specs]
        assert self.log is not None
        count = len(self._status) + len(specs)
        self.log.append(Landed(by, self.version + 1, depth, count, names, (), list(edges), (), ()))

    def bound(self, max_nodes: int, max_depth: int) -> None:
        """Let the graph grow so far, from now on."""
        self._max_nodes = max_nodes
        self._max_depth = max_depth

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

    def _apply(
        self,
        landing: Landing,
        by: str | None,
        depth: int,
        untaken: Container[tuple[str, str]],
        broken: Container[tuple[str, str]],
        settled: bool,
    ) -> None:
        graph, readiness = self._graph, self._readiness
        self.version += 1
        self._dag = None
        if self.log is not None:
            self._log_landing(landing, by, depth)
        touched: dict[str, None] = {}  # nodes whose counts changed: readiness is decided last
        for source, target in landing.removed_edges:
            self._record(source, target, How.REMOVED)
            graph.remove_edge(source, target)
            readiness.remove_edge(source, target)
            if self.retention.active:
                self.retention.remove_edge(source, target)
            touched[target] = None
        for name in landing.removed_nodes:
            self._take_out(name, by, touched)
        origin = (depth, self.version)
        for name, spec in landing.added_nodes.items():
            graph.add_node(name, by)
            self._status[name] = PENDING
            self._origins[name] = origin
            readiness.waiting[name] = 0
            if spec.policy is not None or self._default is not None:
                self._adopt_policy(spec)
            touched[name] = None
        self.unfinished += len(landing.added_nodes)
        doomed: dict[str, Blame] = {}
        for edge in landing.added_edges:
            source, target = edge
            if not graph.add_edge(source, target):
                continue
            if (condition := condition_of(edge)) is not None:
                graph.set_condition(source, target, condition)
            if source not in landing.added_nodes and target not in landing.added_nodes:
                self._record(source, target, How.ADDED)
            blame = self._blame.get(source)
            if self.retention.active:
                self.retention.add_edge(source, target)
            if readiness.add_edge(
                source,
                target,
                blame,
                taken=edge not in untaken,
                judged=edge not in broken,
                settled=settled and source == by and target in landing.added_nodes,
            ):
                doomed.setdefault(target, blame_for(source, self._status[source], blame))
            touched[target] = None
        for target, blame in doomed.items():
            self._skip(target, blame)
        for name in touched:
            if name in self._status:
                self._decide(name)

    def _log_landing(self, landing: Landing, by: str | None, depth: int) -> None:
        removed = set(landing.removed_edges)
        added = dict.fromkeys(landing.added_edges)
        assert self.log is not None
        self.log.append(
            Landed(
                by,
                self.version,
                depth,
                len(self._status) + len(landing.added_nodes) - len(landing.removed_nodes),
                list(landing.added_nodes),
                landing.removed_nodes,
                [edge for edge in added if edge in removed or not self._graph.has_edge(*edge)],
                landing.removed_edges,
                landing.cancelled_nodes,
            )
        )

    def _record(self, source: str, target: str, how: How) -> None:
        """Note that an edge comes or goes between nodes that were there before."""
        has_condition = self._graph.condition(source, target) is not None
        self._changes.append(EdgeChange(self.version, source, target, how, has_condition))

    def _take_out(self, name: str, by: str | None, touched: dict[str, None]) -> None:
        """Remove a node, whose name stays used, and note whose counts that changed."""
        for source in self._graph.dependencies[name]:
            self._record(source, name, How.TAKEN_OUT)
        for target in self._graph.dependents[name]:
            self._record(name, target, How.TAKEN_OUT)
            self._readiness.remove_edge(name, target)
            touched[target] = None
        added_by = self._graph.added_by.get(name)
        added_in = self._origins.get(name, INITIAL)[1]
        self._changes.append(Removal(self.version, name, by, added_by, added_in))
        self.offspring.finish(name, added_by)
        sources = self._graph.dependencies[name]
        self._drop(name)
        if self.retention.active:
            self.retention.drop(name)
            for source in sources:
                self.retention.release(source)
        self._removed[name] = None
        self.unfinished -= 1

    def _cancel_each(self, names: Iterable[str], by: str | None) -> Sequence[str]:
        """Cancel those that wait; return those that run."""
        running, waiting = [], []
        for name in names:
            if self._status[name] is RUNNING:
                running.append(name)
            elif (
                self._status[name] in WAITING
            ):  # and was not skipped by the edges that it was given
                waiting.append(name)
                self._finish(name, CANCELLED)
                self._blame[name] = asked_by(by)
        for name in waiting:
            self._pass_failure(name, Blame(Why.CANCELLED, name))
        return running


def asked_by(by: str | None) -> Blame:
    """Return why a node is cancelled that a modification says to cancel."""
    return Blame(Why.OUTSIDE) if by is None else Blame(Why.REQUEST, by)
