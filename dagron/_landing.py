"""The validation of a modification: one pure function, for `DAG.apply` and for a run."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from dagron._adjacency import Adjacency, find_cycle
from dagron._edge import Edge, condition_of
from dagron._errors import Fault, ModificationError
from dagron._modification import DynamicModification, DynamicNodeSpec, checked_copy
from dagron._names import did_you_mean, shown, shown_path, with_forgotten
from dagron._status import PENDING, RUNNING, STARTED, WAITING, NodeStatus

INPUTS = "inputs"  # the parameter that receives the results of all direct dependencies
GROW = "grow"  # the parameter with which a task adds nodes
SUGGESTIONS = 10  # later faults of one modification come without a search for close names


class Landing:
    """What a modification comes to in a graph: the changes to make, or what forbids them.

    Of ``cancel_nodes``, ``cancelled_nodes`` holds those that wait or run.
    """

    __slots__ = (
        "added_edges",
        "added_nodes",
        "cancelled_nodes",
        "faults",
        "removed_edges",
        "removed_nodes",
    )

    def __init__(
        self, added_nodes: dict[str, DynamicNodeSpec], added_edges: list[tuple[str, str]]
    ) -> None:
        self.removed_edges: list[tuple[str, str]] = []
        self.removed_nodes: list[str] = []
        self.added_nodes = added_nodes
        self.added_edges = added_edges
        self.cancelled_nodes: list[str] = []
        self.faults: list[Fault] = []

    def __bool__(self) -> bool:
        """Tell whether it changes anything."""
        return bool(
            self.added_nodes
            or self.added_edges
            or self.removed_nodes
            or self.removed_edges
            or self.cancelled_nodes
        )


def copied(modification: DynamicModification, by: str | None = None) -> DynamicModification:
    """Return a copy that nobody else changes. Raises `ModificationError` where it was spoilt."""
    try:
        return checked_copy(modification)
    except (TypeError, ValueError) as error:
        raise ModificationError([Fault.of("invalid", "", error)], by) from None


def examine(
    modification: DynamicModification,
    graph: Adjacency,
    status: Mapping[str, NodeStatus],
    *,
    by: str | None = None,
    removed: Collection[str] = (),
    needs: Mapping[str, Sequence[str]] | None = None,
    cautious: bool = False,
    forgotten: int = 0,
) -> Landing:
    """Return what the modification comes to, with every fault that it has; nothing is changed.

    ``status`` may leave nodes out: they count as PENDING. ``by`` is the node whose expander
    returned the modification. ``removed`` holds the names that were removed before, ``needs`` the
    parameters that tasks of new nodes must find among their direct dependencies. ``cautious`` says
    that nodes may have started before what they depend on, ``forgotten`` how many nodes are gone
    whose names are not known any more.
    """
    try:
        modification = copied(modification, by)
    except ModificationError as error:
        landing = Landing({}, [])
        landing.faults.extend(error.faults)
        return landing
    examination = _Examination(modification, graph, status, by, removed, cautious, forgotten)
    examination.run(needs or {})
    return examination.landing


class _Examination:
    """One look at one modification: the steps of `examine`, which share what they found out."""

    __slots__ = (
        "by",
        "cautious",
        "forgotten",
        "gone",
        "graph",
        "landing",
        "modification",
        "removed",
        "status",
        "suspicious",
    )

    def __init__(
        self,
        modification: DynamicModification,
        graph: Adjacency,
        status: Mapping[str, NodeStatus],
        by: str | None,
        removed: Collection[str],
        cautious: bool,
        forgotten: int,
    ) -> None:
        self.cautious = cautious
        self.forgotten = forgotten
        self.by = by
        self.modification = modification
        self.graph = graph
        self.status = status
        self.removed = removed
        self.landing = Landing({}, [])
        self.gone = frozenset(modification.remove_nodes)
        self.suspicious = cautious  # a cycle is possible

    def run(self, needs: Mapping[str, Sequence[str]]) -> None:
        modification = self.modification
        if modification.remove_edges:
            self._read_removed_edges()
        if modification.remove_nodes:
            self._read_removed_nodes()
        self._read_added_nodes()
        self._read_edges_of_added_nodes()
        if modification.add_edges:
            self._read_added_edges()
        if self.graph.conditions or any(isinstance(edge, Edge) for edge in modification.add_edges):
            self._check_conditions()
        if modification.cancel_nodes:
            self._read_cancelled_nodes()
        if needs:
            self._check_needs(needs)
        if self.suspicious and (cycle := self._find_cycle()):
            self.fault(
                "cycle",
                cycle[0],
                f"its edges would close a cycle: {shown_path(cycle)}",
                "leave out one of these edges; each node waits for the one before it",
            )

    def fault(self, kind: str, node: str, message: str, help: str = "") -> None:
        self.landing.faults.append(Fault(kind, node, message, help))

    # -- the parts of a modification, in the order in which they are applied

    def _read_removed_edges(self) -> None:
        for source, target in dict.fromkeys(self.modification.remove_edges):
            if not self.graph.has_edge(source, target):
                self.fault(
                    "edge",
                    target,
                    f"there is no edge from {source!r:.60} to {target!r:.60} to remove",
                    self._edge_help(source, target),
                )
            elif (status := self._status(target)) in STARTED:
                self.fault(
                    "started",
                    target,
                    f"the edge from {source!r:.60} to {target!r:.60} cannot be removed: "
                    f"{target!r:.60} is {status}",
                    "remove edges only to nodes that have not started",
                )
            else:
                self.landing.removed_edges.append((source, target))

    def _edge_help(self, source: str, target: str) -> str:
        for end in (source, target):
            if end not in self.graph.dependencies:
                return self._suggestion(end)
        found = shown(self.graph.dependencies[target], 5)
        return f"{target!r:.60} depends on {found or 'nothing'}"

    def _read_removed_nodes(self) -> None:
        for name in dict.fromkeys(self.modification.remove_nodes):
            if name not in self.graph.dependencies:
                if name not in self.removed:
                    self.fault(
                        "unknown",
                        name,
                        f"node {name!r:.60} cannot be removed: it does not exist",
                        self._suggestion(name),
                    )
            elif (status := self._status(name)) in STARTED:
                self.fault(
                    "started",
                    name,
                    f"node {name!r:.60} cannot be removed: it is {status}",
                    "remove only nodes that have not started"
                    + ("; cancel_nodes is the word for a running one" * (status is RUNNING)),
                )
            elif status in WAITING:
                self.landing.removed_nodes.append(name)
            # else SKIPPED or CANCELLED: it lost a race with a failure, and its record stays.

    def _read_added_nodes(self) -> None:
        known, removed, added = self.graph.dependencies, self.removed, self.landing.added_nodes
        for spec in self.modification.add_nodes:
            name = spec.name
            if name in known or name in added or name in removed:
                self._fault_used_name(name)
            else:
                added[name] = spec

    def _fault_used_name(self, name: str) -> None:
        if name in self.gone:
            why = "it is removed by the same modification"
        elif name in self.landing.added_nodes:
            why = "the modification adds it twice"
        elif name in self.removed:
            why = "a node of that name was removed earlier in this run"
        else:
            why = "it exists already"
        self.fault(
            "duplicate",
            name,
            f"node {name!r:.60} cannot be added: {why}",
            "choose a new name: within a run a name means one node",
        )

    def _read_edges_of_added_nodes(self) -> None:
        known, added, gone = self.graph.dependencies, self.landing.added_nodes, self.gone
        status, edges = self.status, self.landing.added_edges
        for spec in self.modification.add_nodes:
            name = spec.name
            sound = added.get(name) is spec
            for source in spec.dependencies:
                if source in added:
                    self.suspicious = True
                elif source not in known or source in gone:
                    self._fault_unknown(source, f"node {name!r:.60} depends on {source!r:.60}")
                    continue
                elif status.get(source, PENDING) not in STARTED:
                    self.suspicious = True
                if sound:
                    edges.append((source, name))
            for target in spec.dependents:
                if target in added:
                    self.suspicious = True
                elif target not in known or target in gone:
                    self._fault_unknown(target, f"node {name!r:.60} names dependent {target!r:.60}")
                    continue
                elif status.get(target, PENDING) in STARTED:
                    self._fault_started(name, target)
                    continue
                if sound:
                    edges.append((name, target))

    def _read_added_edges(self) -> None:
        added, gone = self.landing.added_nodes, self.gone
        for edge in self.modification.add_edges:
            source, target = edge
            sound = True
            for end in (source, target):
                if end not in added and (end not in self.graph.dependencies or end in gone):
                    claim = f"the edge from {source!r:.60} to {target!r:.60} needs {end!r:.60}"
                    self._fault_unknown(end, claim)
                    sound = False
            if not sound:
                continue
            if target not in added and self._status(target) in STARTED:
                self._fault_started(source, target)
                continue
            if source in added or self._status(source) not in STARTED:
                self.suspicious = True
            self.landing.added_edges.append(edge)

    def _check_conditions(self) -> None:
        """Refuse an edge that exists, or is added twice, with another condition."""
        removed = set(self.landing.removed_edges)
        added: dict[tuple[str, str], object] = {}
        for edge in self.landing.added_edges:
            source, target = edge
            condition = condition_of(edge)
            if edge in added:
                before, where = added[edge], "is added twice, with different conditions"
            elif edge not in removed and self.graph.has_edge(source, target):
                before = self.graph.condition(source, target)
                where = "exists already, with another condition"
            else:
                added[edge] = condition
                continue
            if before is not condition:
                self.fault(
                    "edge",
                    target,
                    f"the edge from {source!r:.60} to {target!r:.60} {where}",
                    "give it once: leave it out of dependencies and dependents, or remove it first",
                )

    def _read_cancelled_nodes(self) -> None:
        for name in dict.fromkeys(self.modification.cancel_nodes):
            if name in self.gone or name in self.removed:
                continue
            if name == self.by:
                self.fault(
                    "started",
                    name,
                    f"node {name!r:.60} cannot cancel itself",
                    "raise an exception instead, to fail it",
                )
            elif name not in self.graph.dependencies:
                claim = f"node {name!r:.60} cannot be cancelled"
                if name in self.landing.added_nodes:
                    help = "leave it out of add_nodes"
                    self.fault("unknown", name, f"{claim}: it is only just being added", help)
                else:
                    help = self._suggestion(name)
                    self.fault("unknown", name, f"{claim}: it does not exist", help)
            elif (status := self._status(name)) in WAITING or status is RUNNING:
                self.landing.cancelled_nodes.append(name)
            # else it has finished: it won the race.

    def _check_needs(self, needs: Mapping[str, Sequence[str]]) -> None:
        dependencies: dict[str, list[str]] = {name: [] for name in needs}
        for source, target in self.landing.added_edges:
            if target in needs:
                dependencies[target].append(source)
        for name, parameters in needs.items():
            if name in self.landing.added_nodes:
                for parameter in unfilled(parameters, dependencies[name]):
                    suggest = len(self.landing.faults) < SUGGESTIONS
                    text = unfilled_text(name, parameter, dependencies[name], suggest)
                    self.fault("signature", name, *text)

    # -- cycles

    def _find_cycle(self) -> list[str] | None:
        """Return a cycle that the new edges would close, or None.

        As long as nodes start only after all that they depend on, only nodes that have not started
        can be on it: no edge leads from such a node to one that has. New nodes that wait for
        nothing but started nodes are peeled off first, and what waits only for those, and so on:
        what a chain or a fan of new nodes costs is its own size. The search through the graph
        starts from what is left.
        """
        added = self.landing.added_nodes
        following: dict[str, list[str]] = {}
        blocked = dict.fromkeys(added, 0)
        for source, target in self.landing.added_edges:
            if self.cautious or source in added or self._status(source) not in STARTED:
                following.setdefault(source, []).append(target)
                if target in added:
                    blocked[target] += 1
        peeled = [name for name, count in blocked.items() if not count]
        for name in peeled:
            for target in following.pop(name, ()):
                if target in added:
                    blocked[target] -= 1
                    if not blocked[target]:
                        peeled.append(target)
        starts: Iterable[str] = following
        if self.cautious:  # what else follows a started node is none of this modification's affair
            starts = [target for targets in following.values() for target in targets]
        if not following:
            return None
        cut = frozenset(self.landing.removed_edges)
        vanishing = frozenset(self.landing.removed_nodes)

        def successors(name: str) -> Iterator[str]:
            for target in self.graph.dependents.get(name, ()):
                if target not in vanishing and (not cut or (name, target) not in cut):
                    yield target
            yield from following.get(name, ())

        return find_cycle(starts, successors)

    # -- words

    def _status(self, name: str) -> NodeStatus:
        return self.status.get(name, PENDING)

    def _fault_unknown(self, name: str, claim: str) -> None:
        if name in self.gone:
            help = "leave that node in place, or name another"
            self.fault("unknown", name, f"{claim}, which the same modification removes", help)
        elif name in self.removed:
            help = "name a node that is still in the graph"
            self.fault("unknown", name, f"{claim}, which was removed earlier in this run", help)
        else:
            self.fault("unknown", name, f"{claim}, which does not exist", self._suggestion(name))

    def _fault_started(self, source: str, target: str) -> None:
        self.fault(
            "started",
            target,
            f"{target!r:.60} cannot wait for {source!r:.60}: "
            f"{target!r:.60} is {self._status(target)} already",
            "name dependents that have not started",
        )

    def _suggestion(self, name: str) -> str:
        if len(self.landing.faults) >= SUGGESTIONS:
            return with_forgotten("", self.forgotten)
        known = [*self.landing.added_nodes, *self.graph.dependencies]
        help = did_you_mean(name, known) or "name a node of the graph or of this modification"
        return with_forgotten(help, self.forgotten)


def sources_of(modification: DynamicModification) -> dict[str, list[str]]:
    """Return what each new node depends on, as far as the modification says so."""
    specs = [spec for spec in modification.add_nodes if isinstance(spec, DynamicNodeSpec)]
    sources = {spec.name: [*spec.dependencies] for spec in specs}
    edges = [(spec.name, target) for spec in specs for target in spec.dependents]
    for source, target in (*edges, *modification.add_edges):
        if target in sources:
            sources[target].append(source)
    return sources


def unfilled(parameters: Iterable[str], dependencies: Collection[str]) -> list[str]:
    """Return the parameters that no direct dependency fills."""
    return [name for name in parameters if name not in (INPUTS, GROW) and name not in dependencies]


def unfilled_text(
    name: str, parameter: str, dependencies: Collection[str], suggest: bool = True
) -> tuple[str, str]:
    """Return what is wrong with a parameter that no direct dependency fills, and what to type."""
    message = (
        f"the task of node {name!r:.60} has a parameter {parameter!r:.60}, "
        f"which names no direct dependency of it"
    )
    if not dependencies:
        help = "it has no dependencies: give the parameter a default, or use functools.partial"
        return message, help
    hint = did_you_mean(parameter, filter(str.isidentifier, dependencies)) if suggest else ""
    return message, (
        (f"{hint}\n  " if hint else "")
        + f"a parameter without a default takes the result of the dependency of its name\n"
        f"  (there is {shown(dependencies, 5)}); write {INPUTS!r} for a dict of all of them, "
        f"or give it a default"
    )
