"""How far a run is, by its events: a count for each family of nodes. No clock, no screen."""

from collections.abc import Sequence
from heapq import nlargest
from operator import attrgetter
from typing import Any

from dagron._events import (
    Event,
    NodeAdded,
    NodeCancelled,
    NodeCompleted,
    NodeFailed,
    NodeProgress,
    NodeRemoved,
    NodeSkipped,
    NodeStarted,
    RunFinished,
    RunStarted,
)
from dagron._names import plain

INITIAL = "the graph"
OUTSIDE = "added from outside"


class Tracked:
    """The nodes of a run that came from one place, counted: ``title`` says from where.

    ``seq`` is the number of the last event about one of them, ``number`` counts the places.
    """

    __slots__ = (
        "cancelled",
        "failed",
        "number",
        "running",
        "seq",
        "skipped",
        "succeeded",
        "title",
        "total",
    )

    def __init__(self, title: str, number: int) -> None:
        self.title = title
        self.number = number
        self.seq = 0
        self.total = self.running = 0
        self.succeeded = self.failed = self.skipped = self.cancelled = 0

    @property
    def done(self) -> int:
        """How many have ended, in whatever way."""
        return self.succeeded + self.failed + self.skipped + self.cancelled

    def notes(self) -> list[str]:
        """Return what there is to say beside how many of how many are done."""
        named = (
            (self.running, "running"),
            (self.failed, "failed"),
            (self.skipped, "skipped"),
            (self.cancelled, "cancelled"),
        )
        return [f"{count:,} {word}" for count, word in named if count]


class Tracking:
    """One run: `hear` takes its events, in order; the rest is for reading, from any thread.

    Whoever reads from another thread may find a sum that is a node behind its parts.
    """

    def __init__(self) -> None:
        self.run_id = ""
        self.all = Tracked("", 0)
        self.families: dict[str | None, Tracked] = {}  # by the node that added them
        self.last_failure: tuple[str, str] | None = None  # the node, and its error in a line
        self.ending: str | None = None  # why the run was cut short
        self.is_over = False
        self._initial = Tracked(INITIAL, 0)
        self._family: dict[str, Tracked] = {}  # of nodes that were added and are not done
        self._running: dict[str, str] = {}  # what each tells of itself; the first began first
        self._hear: dict[type[Event], Any] = {
            RunStarted: self._hear_start,
            NodeAdded: self._hear_added,
            NodeRemoved: self._hear_removed,
            NodeStarted: self._hear_started,
            NodeProgress: self._hear_progress,
            NodeCompleted: self._hear_completed,
            NodeFailed: self._hear_failed,
            NodeSkipped: self._hear_skipped,
            NodeCancelled: self._hear_cancelled,
            RunFinished: self._hear_finish,
        }

    def hear(self, event: Event) -> None:
        """Count what happened."""
        hear = self._hear.get(type(event))
        if hear is not None:
            hear(event)

    # -- reading

    def running(self, most: int) -> list[str]:
        """Return nodes that run, the oldest first, each with what it told of its progress."""
        nodes = list(self._running.items())[:most]  # a copy in one step: the run goes on meanwhile
        return [f"{name!r:.60}{told}" for name, told in nodes]

    def lines(self, most: int) -> tuple[Sequence[Tracked], Tracked | None]:
        """Return at most so many families in the order of their appearance, and the rest as one.

        Those are left out that are done, and of which nothing was heard for longest.
        """
        families = [family for family in list(self.families.values()) if family.total]
        if self._initial.total or not families:
            families.insert(0, self._initial)
        if len(families) <= most:
            return families, None
        shown = nlargest(most - 1, families, key=_interest)
        rest = Tracked(f"{len(families) - len(shown):,} more families", 0)
        for field in ("total", "running", "succeeded", "failed", "skipped", "cancelled"):
            of_shown = sum(getattr(family, field) for family in shown)
            setattr(rest, field, max(0, getattr(self.all, field) - of_shown))
        return sorted(shown, key=attrgetter("number")), rest

    # -- hearing

    def _hear_start(self, event: RunStarted) -> None:
        self.run_id = event.run_id
        self._initial.total = self.all.total = len(event.nodes)

    def _hear_added(self, event: NodeAdded) -> None:
        family = self.families.get(event.added_by)
        if family is None:
            title = OUTSIDE if event.added_by is None else f"added by {event.added_by!r}"
            family = self.families[event.added_by] = Tracked(title, len(self.families) + 1)
        self._family[event.node] = family
        family.seq = event.seq
        family.total += 1
        self.all.total += 1

    def _hear_removed(self, event: NodeRemoved) -> None:
        family = self._family.pop(event.node, self._initial)
        family.total -= 1
        self.all.total -= 1

    def _hear_started(self, event: NodeStarted) -> None:
        self._running[event.node] = ""
        family = self._family.get(event.node, self._initial)
        family.running += 1
        family.seq = event.seq
        self.all.running += 1

    def _hear_progress(self, event: NodeProgress) -> None:
        if event.node in self._running:
            of = "" if event.total is None else f"/{event.total:g}"
            note = f" {plain(event.note):.60}" if event.note else ""
            self._running[event.node] = f" {event.done:g}{of}{note}"

    def _end(self, event: Any) -> Tracked:
        """Return the family of a node that is done."""
        family = self._family.pop(event.node, self._initial)
        family.seq = event.seq
        if event.node in self._running:
            del self._running[event.node]
            family.running -= 1
            self.all.running -= 1
        return family

    def _hear_completed(self, event: NodeCompleted) -> None:
        self._end(event).succeeded += 1
        self.all.succeeded += 1

    def _hear_failed(self, event: NodeFailed) -> None:
        self._end(event).failed += 1
        self.all.failed += 1
        self.last_failure = (event.node, plain(event.error))

    def _hear_skipped(self, event: NodeSkipped) -> None:
        self._end(event).skipped += 1
        self.all.skipped += 1

    def _hear_cancelled(self, event: NodeCancelled) -> None:
        self._end(event).cancelled += 1
        self.all.cancelled += 1

    def _hear_finish(self, event: RunFinished) -> None:
        self.is_over = True
        self.ending = event.reason


def _interest(family: Tracked) -> tuple[bool, bool, int]:
    is_initial = family.number == 0
    return is_initial, family.done < family.total, family.seq
