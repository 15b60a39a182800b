"""What happened in a run, one thing after another, told from what its result holds."""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from dagron._blame import Blame, Why
from dagron._names import plural, shown_time
from dagron._node_result import NodeResult
from dagron._status import CANCELLED, COMPLETED, FAILED, SKIPPED
from dagron.render._html_data import Roll
from dagron.render._html_text import error_line, reason_text
from dagron.render._text import visible

MOST_ENTRIES = 10_000
# What a node does in one moment, as a coarse clock has it: in this order, its end last.
_ORDER = {"started": 0, "retried": 0, "landed": 1, "added": 2, "removed": 3}


class Entry(NamedTuple):
    """One line: ``time`` is in seconds since the run began, None where it is not known.

    ``node`` is the number of the node that it is about, and None for the run as a whole.
    """

    time: float | None
    kind: str
    node: int | None
    text: str


class _Placed(NamedTuple):
    """An entry, and the number of the node that did it: -1 where none did, or one unknown."""

    entry: Entry
    doer: int

    def key(self) -> tuple[float, int, int]:
        """Return by what entries with a time are sorted: nodes are numbered as they may start."""
        assert self.entry.time is not None
        return self.entry.time, self.doer, _ORDER.get(self.entry.kind, len(_ORDER))


def entries_of(roll: Roll) -> list[Entry]:
    """Return what happened to the nodes on the roll, in order: the first ten thousand lines."""
    return _Log(roll).entries()[:MOST_ENTRIES]


def began_at(roll: Roll) -> float | None:
    """Return when the run began, by the wall clock; a result made by hand has its first start."""
    began = roll.result._times.began
    if began is not None:
        return began
    starts = (node.started_at for node in roll.result.node_results.values())
    return min((start for start in starts if start is not None), default=None)


class _Log:
    def __init__(self, roll: Roll) -> None:
        self._roll = roll
        self._result = roll.result
        self._times = roll.result._times
        self._began = began_at(roll) or 0.0
        self._landed = {landing.version: landing.time for landing in self._times.landings}
        self._ends: dict[str, float] = {}  # when nodes were done, as far as it is known
        self._ends_by_reason: dict[str, float] = {}
        for node in self._result.node_results.values():
            self._note_end(node)

    def entries(self) -> list[Entry]:
        """Return all of them."""
        placed = list(self._all())
        timed = sorted((one for one in placed if one.entry.time is not None), key=_Placed.key)
        last = [one.entry for one in placed if one.entry.time is None]
        size = plural(self._result._history.before.node_count(), "node")
        first = Entry(0.0, "run", None, f"The run began with {size}.")
        return [first, *(one.entry for one in timed), *last, self._ending()]

    def _all(self) -> Iterator[_Placed]:
        yield from self._landings()
        results, ghosts = self._result.node_results, self._roll.ghosts
        for name, number in self._roll.number.items():
            if name in results:
                yield from self._of_node(results[name], number)
            else:
                removal = ghosts[name]
                yield from self._added(removal.added_by, removal.added_in, number)
                by = "from outside" if removal.by is None else f"by {visible(removal.by)}"
                entry = Entry(self._landing(removal.version), "removed", number, by)
                yield _Placed(entry, self._number(removal.by))

    def _ending(self) -> Entry:
        seconds = self._result.total_duration_seconds
        reason = self._result.reason
        text = "ended." if reason is None else f"was cut short: {reason_text(reason)}"
        return Entry(round(seconds, 6), "run", None, f"The run {text}")

    def _number(self, name: str | None) -> int:
        return -1 if name is None else self._roll.number.get(name, -1)

    # -- when

    def _since(self, moment: float) -> float:
        return round(max(0.0, moment - self._began), 6)

    def _landing(self, version: int) -> float | None:
        return self._since(self._landed[version]) if version in self._landed else None

    def _note_end(self, node: NodeResult) -> None:
        """Note when a node was done; one that was skipped was at the end of what it is blamed on.

        The results come in topological order.
        """
        end: float | None = None
        if node.started_at is not None:
            spans = self._times.attempts.get(node.name)
            end = spans[-1][1] if spans else node.started_at + node.duration_seconds
            end = max(end, self._times.ended.get(node.name, end))
        elif node.status is SKIPPED:
            end = self._skipped_at(node)
        if end is not None:
            self._ends[node.name] = end
            if node.status in (FAILED, CANCELLED):
                why = Why.FAILED if node.status is FAILED else Why.CANCELLED
                self._ends_by_reason[str(Blame(why, node.name))] = end

    def _skipped_at(self, node: NodeResult) -> float | None:
        end = self._ends_by_reason.get(node.reason or "")
        if end is None:
            needs = self._result.dag._graph.dependencies.get(node.name, ())
            ends = [self._ends.get(name) for name in needs]
            if None in ends:
                return None
            end = max((one for one in ends if one is not None), default=None)
        landed = self._landed.get(self._result._history.added_in(node.name))
        return end if landed is None or end is None else max(end, landed)

    # -- what

    def _landings(self) -> Iterator[_Placed]:
        for landing in self._times.landings:
            changes = [
                f"{word} {plural(count, 'node')}"
                for word, count in (("added", landing.added), ("removed", landing.removed))
                if count
            ]
            doer = self._number(landing.by)
            by = "" if doer >= 0 else f" {visible(landing.by or 'from outside')}"
            text = f"Modification {landing.version:,}{by}: {', '.join(changes) or 'other changes'}"
            number = None if doer < 0 else doer
            yield _Placed(Entry(self._since(landing.time), "landed", number, text), doer)

    def _added(self, by: str | None, version: int, number: int) -> Iterator[_Placed]:
        if version or by is not None:
            text = "from outside" if by is None else f"by {visible(by)}"
            entry = Entry(self._landing(version), "added", number, text)
            yield _Placed(entry, self._number(by))

    def _of_node(self, node: NodeResult, number: int) -> Iterator[_Placed]:
        yield from self._added(node.added_by, self._result._history.added_in(node.name), number)
        yield from self._attempts(node, number)
        end = self._ends.get(node.name)
        time = None if end is None else self._since(end)
        yield _Placed(Entry(time, str(node.status).lower(), number, _ending_of(node)), number)

    def _attempts(self, node: NodeResult, number: int) -> Iterator[_Placed]:
        if node.started_at is None:
            return
        spans = self._times.attempts.get(node.name, ())
        yield _Placed(Entry(self._since(node.started_at), "started", number, ""), number)
        for attempt, (span, following) in enumerate(pairwise(spans), 1):
            error = error_line(node.errors[attempt - 1]) if attempt <= len(node.errors) else ""
            failed = Entry(self._since(span[1]), "retried", number, f"attempt {attempt}: {error}")
            yield _Placed(failed, number)
            again = f"attempt {attempt + 1} of {node.attempts}"
            yield _Placed(Entry(self._since(following[0]), "started", number, again), number)


def _ending_of(node: NodeResult) -> str:
    if node.status is COMPLETED and node.started_at is not None:
        return f"after {shown_time(node.duration_seconds)}"
    if node.status is FAILED and node.error is not None:
        return error_line(node.error)
    return reason_text(node.reason or "")
