"""When each node of a run was at work, told from its result; in whole microseconds.

Nodes are stamped by the wall clock, which may step, and measured by another one. So what is told
here is made to fit: everything lies within the run, and nothing ends before it begins.
"""

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import NamedTuple, TypeAlias

from dagron._history import EdgeChange, How
from dagron._node_result import NodeResult
from dagron._results import ExecutionResult
from dagron._status import CANCELLED
from dagron._times import Landing

Span: TypeAlias = tuple[int, int]

_SECOND = 1_000_000


class Work(NamedTuple):
    """What a node did: it was ``ready``, made ``attempts``, and was done at its ``end``.

    What lies between the last attempt and the end is its expander's. ``ready`` is the start where
    it is not known better: what is told of waiting is never too much.
    """

    result: NodeResult
    ready: int
    attempts: tuple[Span, ...]
    end: int

    @property
    def start(self) -> int:
        """When the first attempt began."""
        return self.attempts[0][0]


class Course(NamedTuple):
    """All that has a time: of the nodes that started, in the order of the results."""

    works: list[Work]
    landings: list[tuple[int, Landing]]
    length: int  # of the run


def course_of(result: ExecutionResult) -> Course:
    """Return what happened when; a result that was made by hand may know nothing of it.

    Raises `ValueError` for times that are no finite numbers, which no run gives.
    """
    times, nodes = result._times, result.node_results
    _check_times(result)
    starts = {name: node.started_at for name, node in nodes.items() if node.started_at is not None}
    began = times.began
    if began is None:
        began = min(starts.values(), default=0.0)
    length = round(result.total_duration_seconds * _SECOND)
    if times.began is None:
        ends = (start + nodes[name].duration_seconds for name, start in starts.items())
        length = max(length, _micros(max(ends, default=began), began))
    works = {
        name: _work(nodes[name], began, length, times.attempts.get(name), times.ended.get(name))
        for name in starts
    }
    landings = []
    last = 0
    for landing in times.landings:
        last = min(max(_micros(landing.time, began), last), length)
        landings.append((last, landing))
    if times.began is not None and not result.forgotten:
        works.update(_with_waits(result, works, landings))
    return Course(list(works.values()), landings, length)


def _check_times(result: ExecutionResult) -> None:
    if not isfinite(result.total_duration_seconds):
        raise _no_time("the run", "total_duration_seconds", result.total_duration_seconds)
    for name, node in result.node_results.items():
        if not isfinite(node.started_at or 0.0):
            raise _no_time(f"node {name!r:.60}", "started_at", node.started_at)
        if not isfinite(node.duration_seconds):
            raise _no_time(f"node {name!r:.60}", "duration_seconds", node.duration_seconds)


def _no_time(whose: str, field: str, value: float | None) -> ValueError:
    return ValueError(
        f"{whose} has {field}={value!r}, which cannot be drawn over time\n"
        f"  help: give a finite number of seconds, or leave {field} out"
    )


def _micros(moment: float, began: float) -> int:
    return round((moment - began) * _SECOND)


def _work(
    node: NodeResult,
    began: float,
    length: int,
    attempts: Iterable[tuple[float, float]] | None,
    ended: float | None,
) -> Work:
    assert node.started_at is not None
    if attempts is None:
        attempts = [(node.started_at, node.started_at + node.duration_seconds)]
    spans = []
    earliest = 0
    for start, end in attempts:
        took = _micros(end, start)
        first = max(min(_micros(start, began), length - took), earliest)
        spans.append((first, first + took))
        earliest = first + took
    if ended is not None:
        earliest = max(earliest, min(_micros(ended, began), length))
    return Work(node, spans[0][0], tuple(spans), earliest)


# -- since when a node had waited for its turn


def _with_waits(
    result: ExecutionResult, works: Mapping[str, Work], landings: Iterable[tuple[int, Landing]]
) -> Iterable[tuple[str, Work]]:
    """Give the nodes that had waited, with the time since when they were surely ready."""
    landed = {landing.version: (at, landing) for at, landing in landings}
    changed = _last_changes(result, landed)
    dependencies = result.dag._graph.dependencies
    settled: dict[str, int | None] = {}  # when it was known what becomes of a node; None: unknown
    for name, node in result.node_results.items():
        origin = result._history.added_in(name)
        since, adder = 0, None
        if origin:
            if origin not in landed:  # too long ago
                settled[name] = works[name].end if name in works else None
                continue
            since, landing = landed[origin]
            adder = landing.by if landing.goes_on else None
        moments = [settled.get(source) for source in dependencies[name] if source != adder]
        known = [moment for moment in moments if moment is not None]
        ready = max([since, changed.get(name, 0), *known])
        work = works.get(name)
        if work is None:
            settled[name] = None if node.status is CANCELLED else ready
            continue
        settled[name] = work.end
        if len(known) == len(moments) and ready < work.start:
            yield name, work._replace(ready=ready)


def _last_changes(
    result: ExecutionResult, landed: Mapping[int, tuple[int, Landing]]
) -> dict[str, int]:
    """Return when the last edge to each node was taken away: it may have waited for that."""
    return {
        change.target: landed[change.version][0]
        for change in result._history.changes
        if isinstance(change, EdgeChange)
        and change.how is not How.ADDED
        and change.version in landed
    }
