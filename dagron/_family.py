"""The nodes that one node has added, taken together."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from dagron._node_result import NodeResult
from dagron._status import CANCELLED, COMPLETED, FAILED, SKIPPED, UNDONE

SAMPLE = 1_024  # durations kept of one family


class Durations(NamedTuple):
    """How long the bodies of a family's completed nodes took, in seconds.

    ``min`` and ``max`` are of all nodes. ``median`` and ``p95`` are the nearest ranks of a sample
    where ``sampled`` is True: of every 2nd, 4th, 8th ... node, as many as needed to stay below some
    thousand.
    """

    min: float
    median: float
    p95: float
    max: float
    sampled: bool


class Family:
    """The nodes that the expander or the task of one node has added: see `ExecutionResult.family`.

    ``name`` is that node's. ``succeeded``, ``failed``, ``skipped`` and ``cancelled`` are exact
    counts, also where nodes were forgotten, ``forgotten`` says how many. ``durations`` are those of
    the completed nodes, None where there are none. ``unfinished`` says how many had not ended: none
    in the result of a run that has. ``failures`` has the results of the failed ones.
    ``value`` is what a `Fold` made of them, None where there is no fold.
    """

    __slots__ = (
        "cancelled",
        "durations",
        "failed",
        "failures",
        "forgotten",
        "name",
        "skipped",
        "succeeded",
        "unfinished",
        "value",
    )

    def __init__(self, name: str, members: Sequence[NodeResult], tally: "Tally | None") -> None:
        statuses = [member.status for member in members]
        total = Tally() if tally is None else tally.copy()
        self.name = name
        self.forgotten = total.count
        for member in members:
            if member.status is COMPLETED:
                total.add(member.duration_seconds)
        self.succeeded = total.count
        self.failed = statuses.count(FAILED)
        self.skipped = statuses.count(SKIPPED)
        self.cancelled = statuses.count(CANCELLED)
        self.unfinished = sum(status in UNDONE for status in statuses)
        self.failures = tuple(member for member in members if member.status is FAILED)
        self.durations = total.durations()
        self.value: Any = total.value

    def __len__(self) -> int:
        """Return how many nodes there were; those that were removed do not count."""
        return self.succeeded + self.failed + self.skipped + self.cancelled + self.unfinished

    def __repr__(self) -> str:
        named = (
            (self.succeeded, "succeeded"),
            (self.failed, "failed"),
            (self.skipped, "skipped"),
            (self.cancelled, "cancelled"),
            (self.unfinished, "unfinished"),
        )
        counts = ", ".join(f"{count:,} {word}" for count, word in named if count)
        return f"<Family of {self.name!r}: {counts or 'no nodes'}>"


class Tally:
    """What stays of completed nodes that were forgotten: counts, and a sample of durations."""

    __slots__ = ("_longest", "_sample", "_shortest", "_stride", "count", "seconds", "value")

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0  # in all of them
        self.value: Any = None  # what a fold made of them
        self._shortest = self._longest = 0.0
        self._stride = 1  # the sample has every so manieth duration
        self._sample: list[float] = []

    def copy(self) -> "Tally":
        """Return one that can be changed alone."""
        copy = Tally()
        for field in self.__slots__:
            setattr(copy, field, getattr(self, field))
        copy._sample = self._sample.copy()
        return copy

    def add(self, seconds: float) -> None:
        """Count a node."""
        if not self.count:
            self._shortest = self._longest = seconds
        elif seconds < self._shortest:
            self._shortest = seconds
        elif seconds > self._longest:
            self._longest = seconds
        if not self.count % self._stride:
            self._sample.append(seconds)
            if len(self._sample) == SAMPLE:
                del self._sample[1::2]
                self._stride *= 2
        self.count += 1
        self.seconds += seconds

    @property
    def longest(self) -> float:
        """Return the longest duration, 0.0 where there are no nodes."""
        return self._longest

    def durations(self) -> Durations | None:
        """Return what is known of the durations."""
        if not self.count:
            return None
        ordered = sorted(self._sample)
        median, p95 = (ordered[-(-len(ordered) * share // 100) - 1] for share in (50, 95))
        return Durations(self._shortest, median, p95, self._longest, self._stride > 1)
