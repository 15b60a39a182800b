"""What is known of a recorded run before it is told: what counts of it, and how things ended."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from dagron._rows import (
    ANSWERS,
    BODY,
    DONE,
    END,
    FAILED,
    LIFE,
    OUTCOMES,
    RETRY,
    STEP,
    VOID,
    Row,
)

NOTHING: dict[str, Any] = {}


class Answers(NamedTuple):
    """Which conditions were false, and which gave no answer.

    Of the edges from a node the targets, of those of a modification both ends.
    """

    untaken: list[Any]
    broken: list[Any]


ALL_TAKEN = Answers([], [])


class Facts:
    """What is known of an earlier life before it is told again.

    ``dead`` has what was at work when the process before died, and in which attempt; ``retries``
    says that what had failed is to be tried again.
    """

    def __init__(self, rows: Iterable[Row], dead: Mapping[str, int], retries: bool) -> None:
        self.ends: dict[str, tuple[int, str]] = {}  # the rows and kinds of outcomes that count
        self.steps: dict[str, int] = {}  # the last step of the nodes that went on
        self.voids: set[int] = set()
        self.versions: dict[int, int] = {}  # of the graphs that expanders have seen: the last rows
        self.recoveries: Counter[str] = Counter()  # how often a node was at work at a crash
        self.attempts: dict[str, int] = {}  # what those were at whose tasks had not returned
        # By the rows that asked, and the source; None for the edges of a modification.
        self.answers: dict[tuple[int, str | None], Answers] = {}
        self.unstarted: dict[str, Mapping[str, Any]] = {}  # how nodes failed that had not started
        self.settings: Mapping[str, Any] = NOTHING  # of the first life
        self.end: Mapping[str, Any] | None = None  # of the run, if it has one
        self._bodies: dict[str, int] = {}  # the last rows that say that a task has returned
        self._seen: dict[str, int] = {}  # the versions of the graph that these nodes were given
        self._lives: list[int] = []  # where they begin
        self.last = 0
        for row in rows:
            self.last = row.seq
            self._note(row, detail_of(row))
        self._note_crash(dead)
        if retries:
            self._forgive()
        self.ends = {name: end for name, end in self.ends.items() if end[0] not in self.voids}

    def _note(self, row: Row, detail: Mapping[str, Any]) -> None:
        name = row.node
        self.end = detail if row.kind == END else None
        if row.kind in OUTCOMES and name is not None:
            self.ends[name] = (row.seq, row.kind)
            self.attempts.pop(name, None)  # the row counts them
            if "version" in detail:
                self.versions[detail["version"]] = row.seq
            if row.kind == FAILED and detail.get("unstarted"):
                self.unstarted[name] = detail
        elif row.kind == BODY and name is not None:
            if name not in self._bodies:
                self.recoveries.pop(name, None)
            self._bodies[name] = row.seq
            self.attempts.pop(name, None)
            if "version" in detail:
                self._seen[name] = detail["version"]
                self.versions[detail["version"]] = row.seq
        elif row.kind == STEP and name is not None:
            self.steps[name] = row.seq
            if name in self._seen:  # told when its expander has the graph
                self.versions[self._seen[name]] = row.seq
            self.recoveries.pop(name, None)  # it has come further than before
        elif row.kind == VOID:
            self.voids.add(detail["seq"])
        elif row.kind == ANSWERS:
            self.answers[detail["seq"], name] = Answers(detail["untaken"], detail["broken"])
        elif row.kind == RETRY:
            self._forgive()
        elif row.kind == LIFE:
            self._lives.append(row.seq)
            if "keep" in detail:
                self.settings = detail
            self._note_crash(detail.get("in_flight", {}))

    def _note_crash(self, in_flight: Mapping[str, int]) -> None:
        """Count who was at work; who only went on adding nodes is to blame if nobody else was."""
        tried = {name: attempt for name, attempt in in_flight.items() if name not in self._bodies}
        self.attempts.update(tried)
        self.recoveries.update(dict.fromkeys(tried or in_flight, 1))

    def _forgive(self) -> None:
        """Let what had failed count as not yet run; the conditions on edges are asked anew."""
        self.recoveries.clear()
        self.answers.clear()
        self.unstarted.clear()
        self.ends = {name: end for name, end in self.ends.items() if end[1] == DONE}

    def has_ended(self, name: str, seq: int = 0) -> bool:
        """Tell whether it is written what became of the node, after that row."""
        return name in self.ends and self.ends[name][0] > seq

    def ended_next(self, name: str, seq: int) -> bool:
        """Tell whether a node that was at work at that row ended after it in the same life.

        Else it was tried again in a later one, and waited for that meanwhile.
        """
        if not self.has_ended(name, seq):
            return False
        return not any(seq < life < self.ends[name][0] for life in self._lives)

    def ended_after(self, seq: int) -> Iterator[str]:
        """Yield the nodes of which it is written after that row what became of them."""
        return (name for name, (end, _) in self.ends.items() if end > seq)

    def went_on(self, row: Row) -> bool:
        """Tell whether a node whose task had returned, as this row says, went on right then.

        Else the process died, and the node waited for its turn in another life.
        """
        name = row.node
        if name is None or self._bodies.get(name) != row.seq:
            return False
        has_ended = self.has_ended(name, row.seq) and self.ends[name][1] == DONE
        return has_ended or self.steps.get(name, 0) > row.seq

    def goes_on_after(self, name: str, seq: int) -> bool:
        """Tell whether a node whose task had returned adds others after that row."""
        step = self.steps.get(name, 0)
        return step > seq and step > self._bodies.get(name, step)

    def was_judged(self, row: Row, detail: Mapping[str, Any]) -> bool:
        """Tell whether a modification was landed or refused before the process died.

        It was if another transaction followed that of its row, which also says if it was refused.
        """
        of_next = next((life for life in self._lives if life > row.seq), self.last + 1)
        return bool(detail.get("until", row.seq) < of_next - 1)

    def counts(self, row: Row) -> bool:
        """Tell whether this row says what became of its node."""
        return row.node is not None and self.ends.get(row.node, (0, ""))[0] == row.seq


def detail_of(row: Row) -> dict[str, Any]:
    """Return what a row has to say besides its columns."""
    return json.loads(row.detail) if row.detail else NOTHING
