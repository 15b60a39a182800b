"""DAG: an immutable graph value, its builder, and the questions that it answers."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dagron._adjacency import Adjacency, Neighbours, find_cycle, topological_order
from dagron._edge import Condition, Edge, checked_condition, condition_of
from dagron._errors import (
    CycleError,
    DuplicateEdgeError,
    DuplicateNodeError,
    ModificationError,
    UnknownNodeError,
)
from dagron._landing import examine
from dagron._modification import DynamicModification
from dagron._names import (
    checked_name,
    close_names,
    question,
    shown,
    shown_path,
    with_forgotten,
)
from dagron._policy import NodePolicy, checked_policy
from dagron._status import COMPLETED, RUNNING, NodeStatus


@dataclass(frozen=True, slots=True)
class GraphDiff:
    """What one graph has and another has not, each field in the order of its graph."""

    added_nodes: list[str]
    removed_nodes: list[str]
    added_edges: list[tuple[str, str]]
    removed_edges: list[tuple[str, str]]

    def __bool__(self) -> bool:
        """Tell whether the graphs differ."""
        return bool(
            self.added_nodes or self.removed_nodes or self.added_edges or self.removed_edges
        )


class DAG:
    """A directed acyclic graph of named nodes; it never changes.

    An edge ``(source, target)`` says that the target waits for the source: the source is a
    dependency of the target, the target a dependent of the source. Make one with `DAG.builder`.
    Two graphs are equal when they have the same nodes, with the same policies, and the same edges,
    in whatever order; conditions, being code, take no part in it.

    Every method that takes a name raises `UnknownNodeError`, with close names, when there is no
    such node. Every list that is returned is the caller's own.
    """

    __slots__ = ("_graph", "_order")

    _graph: Adjacency  # all neighbours are tuples: shared by reference, changed by nobody
    _order: tuple[str, ...]  # topological

    def __init__(self) -> None:
        self._graph = Adjacency()
        self._order = ()

    @staticmethod
    def builder() -> "DAGBuilder":
        """Return an empty builder."""
        return DAGBuilder()

    # -- size and membership

    def node_count(self) -> int:
        """Return the number of nodes."""
        return len(self._graph.dependencies)

    def edge_count(self) -> int:
        """Return the number of edges."""
        return sum(map(len, self._graph.dependencies.values()))

    def __len__(self) -> int:
        return len(self._graph.dependencies)

    def __bool__(self) -> bool:
        return True  # an empty graph is a graph: `if dag` asks whether there is one

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._graph.dependencies

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._graph.dependencies))

    # -- nodes and edges

    def nodes(self) -> list[str]:
        """Return all names, in the order in which they were added."""
        return list(self._graph.dependencies)

    def edges(self) -> list[tuple[str, str]]:
        """Return all edges as pairs (source, target), by source in the order of `nodes`.

        An edge with a condition is an `Edge`, which equals the pair.
        """
        conditions = self._graph.conditions
        return [
            Edge(source, target, conditions[source][target])
            if source in conditions and target in conditions[source]
            else (source, target)
            for source, targets in self._graph.dependents.items()
            for target in targets
        ]

    def condition(self, source: str, target: str) -> Condition | None:
        """Return the condition of the edge, or None where it has none or does not exist."""
        for end in (source, target):
            self._neighbours(self._graph.dependencies, end)
        return self._graph.condition(source, target)

    def policy(self, name: str) -> NodePolicy | None:
        """Return the node's own policy, or None where it has none."""
        self._neighbours(self._graph.dependencies, name)
        return self._graph.policies.get(name)

    def dependencies(self, name: str) -> list[str]:
        """Return the nodes that this one waits for, in edge order."""
        return list(self._neighbours(self._graph.dependencies, name))

    def dependents(self, name: str) -> list[str]:
        """Return the nodes that wait for this one, in edge order."""
        return list(self._neighbours(self._graph.dependents, name))

    def ancestors(self, name: str) -> list[str]:
        """Return all nodes from which a path leads to this one, in topological order."""
        return self._reachable(self._graph.dependencies, name)

    def descendants(self, name: str) -> list[str]:
        """Return all nodes to which a path leads from this one, in topological order."""
        return self._reachable(self._graph.dependents, name)

    def roots(self) -> list[str]:
        """Return the nodes without dependencies."""
        return [name for name, edges in self._graph.dependencies.items() if not edges]

    def leaves(self) -> list[str]:
        """Return the nodes without dependents."""
        return [name for name, edges in self._graph.dependents.items() if not edges]

    def topological_order(self) -> list[str]:
        """Return all names, each after its dependencies: Kahn's order, the smallest rank first.

        Nodes rank by insertion; a node that an expander added ranks under the node that expanded,
        in the order of the modification. So the order does not depend on timing.
        """
        return list(self._order)

    def levels(self) -> list[list[str]]:
        """Return the nodes by level: level 0 has no dependencies, level n some in level n - 1."""
        level: dict[str, int] = {}
        levels: list[list[str]] = []
        for name in self._order:
            edges = self._graph.dependencies[name]
            level[name] = depth = 1 + max((level[source] for source in edges), default=-1)
            if depth == len(levels):
                levels.append([])
            levels[depth].append(name)
        return levels

    def match(self, glob: str) -> list[str]:
        """Return the names that a shell pattern (``*``, ``?``, ``[abc]``) matches; case counts."""
        from fnmatch import translate

        return self.match_regex(translate(glob))

    def match_regex(self, pattern: str) -> list[str]:
        """Return the names that match a regular expression as a whole; `re.error` if it is none."""
        import re

        matches = re.compile(pattern).fullmatch
        return [name for name in self._graph.dependencies if matches(name)]

    # -- other graphs

    def apply(self, modification: DynamicModification | None, by: str | None = None) -> "DAG":
        """Return the graph that a run would have after the modification: test an expander with it.

        It is validated as in a run, but for what a graph does not know: the tasks' parameters, and
        the executor's ``max_nodes`` and ``max_depth``. ``by`` names the node whose expander it is
        from: that node counts as running and its ancestors as completed, so that they can be given
        no new dependency and cannot be removed. Without ``by``, no node counts as started.

        None, which an expander may return too, gives an equal graph.

        Raises `ModificationError` with every fault that was found, `UnknownNodeError` for ``by``,
        and `TypeError` for what is no modification.
        """
        if modification is None:
            return self
        if not isinstance(modification, DynamicModification):
            raise TypeError(
                f"a modification is a dagron.DynamicModification, not {type(modification).__name__}"
                f"\n  help: write dagron.DynamicModification(add_nodes=[...])"
            )
        status: dict[str, NodeStatus] = {}
        if by is not None:
            status = dict.fromkeys(self.ancestors(by), COMPLETED)
            status[by] = RUNNING
        landing = examine(modification, self._graph, status, by=by)
        if landing.faults:
            raise ModificationError(landing.faults, by)
        graph = self._graph.draft()
        for source, target in landing.removed_edges:
            graph.remove_edge(source, target)
        for name in landing.removed_nodes:
            graph.remove_node(name)
        for name, spec in landing.added_nodes.items():
            graph.add_node(name, by)
            if spec.policy is not None:
                graph.policies[name] = spec.policy
        for edge in landing.added_edges:
            graph.add_edge(*edge)
            if (condition := condition_of(edge)) is not None:
                graph.set_condition(*edge, condition)
        return frozen(graph)

    def diff(self, other: "DAG") -> GraphDiff:
        """Return what ``other`` has more and less than this graph: ``before.diff(after)``."""
        mine, theirs = self.edges(), other.edges()
        before, after = set(mine), set(theirs)
        return GraphDiff(
            added_nodes=[name for name in other if name not in self],
            removed_nodes=[name for name in self if name not in other],
            added_edges=[edge for edge in theirs if edge not in before],
            removed_edges=[edge for edge in mine if edge not in after],
        )

    # -- pictures

    def to_mermaid(self) -> str:
        """Return the graph as a Mermaid flowchart, which many pages show as a picture.

        Of more than 3,000 nodes it has 3,000, as `to_svg`; Mermaid itself draws 500 edges and reads
        50,000 characters where its ``maxEdges`` and ``maxTextSize`` are not set.
        """
        from dagron import render  # on use: most programs draw nothing

        return render.to_mermaid(render.picture_of_graph(self))

    def to_dot(self) -> str:
        """Return the graph in DOT, for Graphviz and for other tools that read graphs.

        Of more than 3,000 nodes it has 3,000, as `to_svg`.
        """
        from dagron import render

        return render.to_dot(render.picture_of_graph(self))

    def to_svg(self) -> str:
        """Return a picture of the graph: an SVG document that stands alone.

        Edges lead from left to right. An edge is dim where a longer path leads to its target, too,
        and a diamond says that it has a condition. Of more than 3,000 nodes the first 3,000 in
        topological order are drawn, and a note in the picture says so. An equal graph, built in
        the same order, gives the same text.
        """
        from dagron import render

        return render.to_svg(render.picture_of_graph(self))

    def _repr_svg_(self) -> str:
        from dagron import render

        return render.svg_for_notebook(render.picture_of_graph(self))

    def to_builder(self) -> "DAGBuilder":
        """Return a builder that holds this graph, to make another from it."""
        builder = DAGBuilder()
        builder._graph = self._graph.draft()
        return builder

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DAG):
            return NotImplemented
        mine, theirs = self._graph.dependencies, other._graph.dependencies
        return (
            mine.keys() == theirs.keys()
            and self._graph.policies == other._graph.policies
            and all(
                edges == theirs[name] or set(edges) == set(theirs[name])
                for name, edges in mine.items()
            )
        )

    def __hash__(self) -> int:
        return hash(frozenset(self._graph.dependencies))

    def __repr__(self) -> str:
        return f"<DAG: {self.node_count():,} nodes, {self.edge_count():,} edges>"

    def __getstate__(self) -> tuple[object, ...]:
        graph = self._graph
        return (
            graph.dependencies,
            graph.dependents,
            graph.added_by,
            graph.policies,
            graph.conditions,
            self._order,
        )

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._graph = graph = Adjacency()
        (
            graph.dependencies,
            graph.dependents,
            graph.added_by,
            graph.policies,
            graph.conditions,
            self._order,
        ) = state

    # -- private

    def _neighbours(self, table: dict[str, Neighbours], name: str) -> Neighbours:
        if name not in self:
            raise unknown_node(name, self._graph.dependencies)
        return table[name]

    def _reachable(self, table: dict[str, Neighbours], name: str) -> list[str]:
        found = set(self._neighbours(table, name))
        stack = list(found)
        while stack:
            for neighbour in table[stack.pop()]:
                if neighbour not in found:
                    found.add(neighbour)
                    stack.append(neighbour)
        return [name for name in self._order if name in found]


class DAGBuilder:
    """Collects nodes and edges and makes a `DAG` of them; its methods chain.

    ``build()`` may be called at any time, and the builder used further.
    """

    __slots__ = ("_graph", "_implied")

    def __init__(self) -> None:
        self._graph = Adjacency()
        self._implied: set[str] = set()  # nodes that only edges have named so far

    def add_node(self, name: str, *, policy: NodePolicy | None = None) -> "DAGBuilder":
        """Add a node; one that an edge has named before is confirmed.

        ``policy`` says how it is run.

        Raises `DuplicateNodeError` when it was added before, `InvalidNameError` or `TypeError` for
        what cannot be a name.
        """
        name = checked_name(name)
        policy = checked_policy(policy)
        if name in self._implied:
            self._implied.remove(name)
        elif name in self._graph.dependencies:
            raise DuplicateNodeError(
                f"node {name!r:.60} was added before\n  help: give each node a name of its own",
                name,
            )
        else:
            self._graph.add_node(name)
        if policy is not None:
            self._graph.policies[name] = policy
        return self

    def add_edge(
        self, source: str, target: str, *, condition: Condition | None = None
    ) -> "DAGBuilder":
        """Add an edge: ``target`` waits for ``source``. Missing nodes are added, repeats ignored.

        ``condition`` is a plain function of the source's result: where its answer is false, the
        edge is inactive, as if it were not there; a node all of whose edges are inactive is
        skipped, and with it, in the same way, what depends on it alone.

        Raises `CycleError` for an edge from a node to itself (longer cycles are found by `build`),
        `DuplicateEdgeError` for a repeat with another condition, and `TypeError` for a condition
        that cannot be called or is an ``async def``.
        """
        condition = checked_condition(condition, source, target)
        known = self._graph.dependencies
        if type(source) is not str or source not in known:
            source = checked_name(source)
        if type(target) is not str or target not in known:
            target = checked_name(target)
        if source == target:
            raise _cycle_error([source, source])
        for name in (source, target):
            if name not in known:
                self._graph.add_node(name)
                self._implied.add(name)
        is_new = self._graph.add_edge(source, target)
        if condition is not self._graph.condition(source, target):
            if not is_new:
                raise DuplicateEdgeError(
                    f"the edge from {source!r:.60} to {target!r:.60} was added before, "
                    f"with another condition\n"
                    f"  help: join them: condition=lambda result: ... and ...",
                    (source, target),
                )
            assert condition is not None, "a new edge has none yet"
            self._graph.set_condition(source, target, condition)
        return self

    def build(self) -> DAG:
        """Return the graph; raises `CycleError`, whose ``cycle`` lists the path, if any."""
        return frozen(self._graph)

    def __repr__(self) -> str:
        return f"<DAGBuilder: {len(self._graph.dependencies):,} nodes>"


def frozen(graph: Adjacency) -> DAG:
    """Return the graph as a value. Raises `CycleError` when it is not acyclic."""
    dag = DAG()
    dag._graph = graph.frozen_copy()
    dag._order = tuple(topological_order(graph))
    if len(dag._order) < len(graph.dependencies):
        ordered = set(dag._order)
        left = (name for name in graph.dependencies if name not in ordered)
        cycle = find_cycle(left, graph.dependents.__getitem__)
        assert cycle is not None, "what Kahn's algorithm leaves over leads to a cycle"
        raise _cycle_error(cycle)
    return dag


def unknown_node(
    name: object, known: Iterable[str], where: str = "", forgotten: int = 0
) -> UnknownNodeError:
    """Return the error for a name that no node has; ``where`` says what names it.

    ``forgotten`` is how many nodes are gone whose names are not known any more.
    """
    known = list(known)
    close = close_names(name, known)
    help = question(close) or f"the graph has {shown(known, 5) or 'no nodes'}"
    help = with_forgotten(help, forgotten)
    claim = (
        f"{where} has {name!r:.60}, which names no node"
        if where
        else f"there is no node {name!r:.60}"
    )
    return UnknownNodeError(f"{claim}\n  help: {help}", str(name), close)


def _cycle_error(cycle: Sequence[str]) -> CycleError:
    if len(cycle) == 2:
        text = f"node {cycle[0]!r:.60} depends on itself\n  help: leave out this edge"
    else:
        path = shown_path(cycle)
        text = (
            f"{len(cycle) - 1:,} nodes wait for each other in a cycle\n  {path}\n"
            f"  help: remove one of these edges"
        )
    return CycleError(text, cycle)
