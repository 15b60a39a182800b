"""What a graph was at any moment of its run, told from what it is and what was changed since."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from dagron._graph import DAG
from dagron._history import Change, EdgeChange, History, How, Removal


class Birth(NamedTuple):
    """Who added a node, if a node did, and with which modification: 0 for an initial one."""

    added_by: str | None
    added_in: int


class Moment(NamedTuple):
    """A graph as it was when so many modifications had landed.

    ``nodes`` are in the order in which they were added, ``edges`` say whether they have a
    condition. ``ghosts`` are the nodes that had been removed, with their edges.
    """

    nodes: dict[str, Birth]
    edges: dict[tuple[str, str], bool]
    ghosts: dict[str, Removal]
    ghost_edges: dict[tuple[str, str], bool]


def moment(history: History, after: DAG, version: int | None) -> Moment:
    """Return what the graph was after so many modifications; ``after`` is what it came to: None.

    Before any of them is not the end of a run without any: nodes may have been forgotten.
    """
    if version is None:
        version = history.version
    elif version == 0:
        before = history.before
        births = {name: Birth(None, 0) for name in before._graph.dependencies}
        return Moment(births, _edges(before), {}, {})
    births = {
        name: Birth(after._graph.added_by.get(name), history.added_in(name))
        for name in after._graph.dependencies
    }
    edges = _edges(after)
    if version < history.version:
        births = {name: birth for name, birth in births.items() if birth.added_in <= version}
        edges = {ends: has for ends, has in edges.items() if births.keys() >= set(ends)}
        _undo(history.changes, version, births, edges)
    ghosts = {
        change.name: change
        for change in history.changes
        if isinstance(change, Removal) and change.version <= version
    }
    return Moment(births, edges, ghosts, dict(_ghost_edges(history, version, births, ghosts)))


def _edges(dag: DAG) -> dict[tuple[str, str], bool]:
    graph = dag._graph
    edges = {}
    for source, targets in graph.dependents.items():
        conditions = graph.conditions.get(source, ())
        for target in targets:
            edges[source, target] = target in conditions
    return edges


def _undo(
    changes: Sequence[Change],
    version: int,
    births: dict[str, Birth],
    edges: dict[tuple[str, str], bool],
) -> None:
    """Take back what was changed later, the last first; what was forgotten since stays away."""
    for change in reversed(changes):
        if change.version <= version:
            break
        if isinstance(change, Removal):
            if change.added_in <= version:
                births[change.name] = Birth(change.added_by, change.added_in)
            continue
        ends = (change.source, change.target)
        if change.how is How.ADDED:
            edges.pop(ends, None)
        elif births.keys() >= set(ends):
            edges[ends] = change.has_condition


def _ghost_edges(
    history: History,
    version: int,
    births: Mapping[str, Birth],
    ghosts: Mapping[str, Removal],
) -> Iterator[tuple[tuple[str, str], bool]]:
    """Give the edges that ghosts had when they were removed, to what is still there."""
    for change in history.changes:
        if not isinstance(change, EdgeChange) or change.how is not How.TAKEN_OUT:
            continue
        if change.version <= version and all(
            end in ghosts or (end in births and births[end].added_in <= change.version)
            for end in (change.source, change.target)
        ):
            yield (change.source, change.target), change.has_condition
