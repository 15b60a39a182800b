"""What a run waited for, from its end back to its beginning: pure, linear, loops not recursions."""

from collections.abc import Iterator, Mapping
from math import inf, isfinite
from typing import NamedTuple, TypeAlias

from dagron._blame import Blame, Why
from dagron._graph import DAG
from dagron._history import History
from dagron._node_result import NodeResult
from dagron._status import CANCELLED, FAILED, SKIPPED
from dagron._times import Times

# Starts are told by the wall clock and durations by another one: they may differ by so much.
SLACK = 0.001  # seconds, and as a share of the duration

Span: TypeAlias = tuple[float, float]  # from a node's first start to its true end


class Step(NamedTuple):
    """A node of the path, and how many ``seconds`` of the run it accounts for.

    They end where the next node was free to start, so that no second counts twice.
    """

    name: str
    seconds: float


def critical_steps(
    dag: DAG, results: Mapping[str, NodeResult], history: History, times: Times
) -> list[Step]:
    """Return the nodes that started, of the chain that ends with the node that ended last.

    Before each node stands the one that it waited for last. What began the run ends the chain: in
    a run that goes on with an earlier life, that is whatever had ended by then.
    """
    waits = _Waits(dag, results, history, times)
    spans = waits.spans
    started = (name for name in results if results[name].attempts)
    name = max(started, key=lambda name: spans[name][1] if name in spans else -inf, default=None)
    steps = []
    seen = set()
    until = None
    while name is not None and name in spans and name not in seen:
        seen.add(name)
        start, end = spans[name]
        start = max(start, waits.began)
        until = end if until is None else min(until, end)
        if results[name].attempts:
            steps.append(Step(name, max(until - start, 0.0)))
        name, until = waits.last_before(name)
    return steps[::-1]


class _Waits:
    """When nodes were at work, and which of the others each of them waited for last.

    What does not say when it started, as in results that were made by hand, is taken to have
    started as soon as it could, and a node that never started to have ended then.
    """

    def __init__(
        self, dag: DAG, results: Mapping[str, NodeResult], history: History, times: Times
    ) -> None:
        self._dependencies = dag._graph.dependencies
        self._results = results
        self._history = history
        self._landed = {landing.version: landing.time for landing in times.landings}
        self._told = dict(_told_spans(results, times))
        starts = (start for start, _ in self._told.values())
        self.began = min(starts, default=0.0) if times.began is None else times.began
        self.spans: dict[str, Span] = dict(self._told)
        self._before: dict[str, str] = {}  # of nodes that do not say when they started
        self._guess()

    def _guess(self) -> None:
        """Find spans for those that do not say when they started, but for those on a circle."""
        results, spans = self._results, self.spans
        blamed = _reasons(results)
        sources: dict[str, list[str]] = {}
        targets: dict[str, list[str]] = {}
        for name, result in results.items():
            if name in spans:
                continue
            blame = blamed.get(result.reason) if result.status is SKIPPED else None
            sources[name] = list(self._sources(name)) if blame is None else [blame]
            for source in sources[name]:
                targets.setdefault(source, []).append(name)
        left = {name: sum(one not in spans for one in of) for name, of in sources.items()}
        ready = [name for name, count in left.items() if not count]
        for name in ready:  # which grows meanwhile
            start = self.began
            if sources[name]:
                self._before[name] = last = max(sources[name], key=lambda one: spans[one][1])
                start = spans[last][1]
            spans[name] = start, start + _finite(results[name].duration_seconds)
            for target in targets.get(name, ()):
                left[target] -= 1
                if not left[target]:
                    ready.append(target)

    def _sources(self, name: str) -> Iterator[str]:
        """Give what a node depends on; and who added it."""
        dependencies = self._dependencies.get(name, ())
        for source in dependencies:
            if source in self._results:
                yield source
        adder = self._results[name].added_by
        if adder is not None and adder in self._results and adder not in dependencies:
            yield adder

    def last_before(self, name: str) -> tuple[str | None, float]:
        """Return the node that this one waited for last, and when that let it go."""
        start = self.spans[name][0]
        if name not in self._told:
            return self._before.get(name), start
        found, last = None, self.began - SLACK
        for source, moment, slack in self._moments(name):
            if last < moment <= start + slack:
                found, last = source, moment
        return found, min(last, start)

    def _moments(self, name: str) -> Iterator[tuple[str, float, float]]:
        """Give the nodes that this one may have waited for, until when, and how sure that is."""
        for source in self._sources(name):
            if source in self.spans:
                start, end = self.spans[source]
                yield source, end, SLACK + SLACK * (end - start)
        adder = self._results[name].added_by
        landed = self._landed.get(self._history.added_in(name))
        if adder is not None and adder in self.spans and landed is not None:
            yield adder, landed, SLACK  # its expander, or its task, may have gone on since


def _told_spans(results: Mapping[str, NodeResult], times: Times) -> Iterator[tuple[str, Span]]:
    for name, result in results.items():
        start = result.started_at
        if start is None or not isfinite(start):
            continue
        end = start + _finite(result.duration_seconds)
        if name in times.attempts:
            end = times.attempts[name][-1][1]
        yield name, (start, max(start, end, times.ended.get(name, start)))


def _finite(seconds: float) -> float:
    return seconds if isfinite(seconds) else 0.0


def _reasons(results: Mapping[str, NodeResult]) -> dict[str | None, str]:
    """Return which node is to blame, by the reason of those that were skipped for it."""
    whys = {FAILED: Why.FAILED, CANCELLED: Why.CANCELLED}
    return {
        str(Blame(whys[result.status], name)): name
        for name, result in results.items()
        if result.status in whys
    }
