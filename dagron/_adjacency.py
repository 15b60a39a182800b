"""Nodes and edges that can still change: what a builder, a modification and a run work on."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from dagron._edge import Condition
from dagron._policy import NodePolicy

# The neighbours of a node, in edge order. A tuple is shared with the graph values that hold it and
# never changes; the first change to it makes a dict (an ordered set) that belongs to this graph.
Neighbours: TypeAlias = tuple[str, ...] | dict[str, None]


class Adjacency:
    """A mutable graph: both directions of every edge, and what is known of single nodes and edges.

    ``added_by`` holds only nodes that an expander added, ``policies`` only nodes that have one of
    their own, and ``conditions``, by source and target, only edges that have one.
    """

    __slots__ = ("added_by", "conditions", "dependencies", "dependents", "policies")

    dependencies: dict[str, Neighbours]
    dependents: dict[str, Neighbours]
    added_by: dict[str, str]
    policies: dict[str, NodePolicy]
    conditions: dict[str, dict[str, Condition]]

    def __init__(self) -> None:
        self.dependencies = {}
        self.dependents = {}
        self.added_by = {}
        self.policies = {}
        self.conditions = {}

    def frozen_copy(self) -> "Adjacency":
        """Return a copy in which all neighbours are tuples, so that it shares no mutable part."""
        copy = self.draft()
        copy.dependencies = _frozen(self.dependencies)
        copy.dependents = _frozen(self.dependents)
        return copy

    def draft(self) -> "Adjacency":
        """Return a copy to change, of an adjacency in which all neighbours are tuples."""
        copy = Adjacency()
        copy.dependencies = self.dependencies.copy()
        copy.dependents = self.dependents.copy()
        copy.added_by = self.added_by.copy()
        copy.policies = self.policies.copy()
        copy.conditions = {source: targets.copy() for source, targets in self.conditions.items()}
        return copy

    def add_node(self, name: str, by: str | None = None) -> None:
        self.dependencies[name] = ()
        self.dependents[name] = ()
        if by is not None:
            self.added_by[name] = by

    def remove_node(self, name: str) -> None:
        for source in self.dependencies.pop(name):
            del _owned(self.dependents, source)[name]
            self._drop_condition(source, name)
        for target in self.dependents.pop(name):
            del _owned(self.dependencies, target)[name]
        self.added_by.pop(name, None)
        self.policies.pop(name, None)
        self.conditions.pop(name, None)

    def add_edge(self, source: str, target: str) -> bool:
        """Add an edge between two nodes; tell whether it is new."""
        dependents = self.dependents[source]
        if not dependents:  # a tuple of one is all that most nodes ever need
            self.dependents[source] = (target,)
        elif target in (dependents := _owned(self.dependents, source)):
            return False
        else:
            dependents[target] = None
        dependencies = self.dependencies[target]
        if not dependencies:
            self.dependencies[target] = (source,)
        else:
            _owned(self.dependencies, target)[source] = None
        return True

    def remove_edge(self, source: str, target: str) -> None:
        del _owned(self.dependents, source)[target]
        del _owned(self.dependencies, target)[source]
        self._drop_condition(source, target)

    def set_condition(self, source: str, target: str, condition: Condition) -> None:
        self.conditions.setdefault(source, {})[target] = condition

    def condition(self, source: str, target: str) -> Condition | None:
        """Return the condition of an edge, None where it has none or does not exist."""
        targets = self.conditions.get(source)
        return targets.get(target) if targets else None

    def _drop_condition(self, source: str, target: str) -> None:
        if source in self.conditions:
            self.conditions[source].pop(target, None)
            if not self.conditions[source]:
                del self.conditions[source]

    def has_edge(self, source: str, target: str) -> bool:
        """Tell whether the edge is there, by looking through the shorter of its ends' lists."""
        dependents = self.dependents.get(source, ())
        dependencies = self.dependencies.get(target, ())
        if len(dependents) < len(dependencies):
            return target in dependents
        return source in dependencies

    def ranked(self) -> list[str]:
        """Return all names by rank: preorder in the forest of who added whom.

        Initial nodes and nodes added from outside are its roots, in insertion order; a node that an
        expander added comes after the expanding node, before that node's next sibling. So the order
        does not depend on which of two expanders finished first.
        """
        if not self.added_by:
            return list(self.dependencies)
        children: dict[str, list[str]] = {}
        roots = []
        seen = set()
        for name in self.dependencies:
            seen.add(name)
            parent = self.added_by.get(name)
            if parent is None or parent not in seen:  # it was removed, if it is not there by now
                roots.append(name)
            elif parent in children:
                children[parent].append(name)
            else:
                children[parent] = [name]
        stack = roots[::-1]
        ranked = []
        while stack:
            name = stack.pop()
            ranked.append(name)
            added = children.get(name)
            if added is not None:
                stack += added[::-1]
        return ranked


def _owned(table: dict[str, Neighbours], name: str) -> dict[str, None]:
    """Return the neighbours as a dict that this graph may change."""
    edges = table[name]
    if type(edges) is tuple:
        table[name] = edges = dict.fromkeys(edges)
    return edges  # type: ignore[return-value]


def _frozen(table: dict[str, Neighbours]) -> dict[str, Neighbours]:
    return {name: edges if type(edges) is tuple else tuple(edges) for name, edges in table.items()}


def topological_order(graph: Adjacency) -> list[str]:
    """Return Kahn's order that takes the smallest rank first; shorter than the graph on a cycle."""
    ranked = graph.ranked()
    if _is_topological(graph, ranked):
        return ranked  # the smallest rank is then always free to go: this is what Kahn's would give
    from heapq import heapify, heappop, heappush

    rank = {name: position for position, name in enumerate(ranked)}
    waiting = {name: len(edges) for name, edges in graph.dependencies.items()}
    free = [rank[name] for name, count in waiting.items() if not count]
    heapify(free)
    order = []
    while free:
        name = ranked[heappop(free)]
        order.append(name)
        for dependent in graph.dependents[name]:
            waiting[dependent] -= 1
            if not waiting[dependent]:
                heappush(free, rank[dependent])
    return order


def _is_topological(graph: Adjacency, order: Iterable[str]) -> bool:
    seen: set[str] = set()
    dependencies = graph.dependencies
    for name in order:
        for dependency in dependencies[name]:
            if dependency not in seen:
                return False
        seen.add(name)
    return True


def find_cycle(
    starts: Iterable[str], successors: Callable[[str], Iterable[str]]
) -> list[str] | None:
    """Return a cycle that can be reached from the starts, its first node again last, or None.

    A depth-first search without recursion: it visits a node once, and an edge once.
    """
    finished: set[str] = set()
    for start in starts:
        if start in finished:
            continue
        path: dict[str, Iterator[str]] = {start: iter(successors(start))}
        while path:
            name, following = next(reversed(path.items()))
            for successor in following:
                if successor in path:
                    nodes = list(path)
                    return [*nodes[nodes.index(successor) :], successor]
                if successor not in finished:
                    path[successor] = iter(successors(successor))
                    break
            else:
                finished.add(name)
                path.popitem()  # it is the last one; del would leave a hole to be walked over
    return None
