"""Between a run and its journal: an outcome counts when it is written, and not before.

    a node ends --> conclude() --> pending --> sent, all of a moment in one transaction
                                                         |
    dependents start <-- report() <-- settle() <-- the transaction is safe

While it is being written its node is RUNNING, and holds no slot. Whatever changes the graph takes
the same way, so that the rows of a journal stand in the order in which the graph changed.
"""

import json
from collections import deque
from collections.abc import Callable
from time import time
from typing import Any

from anyio import Event

from dagron._blame import Blame, blame_row
from dagron._errors import ModificationError, ReplayError
from dagron._facts import ALL_TAKEN, Answers, Facts, detail_of
from dagron._landing import copied
from dagron._modification import DynamicModification
from dagron._node_result import EXPANDER_FAILED
from dagron._raised import forget_our_frames
from dagron._results import ExecutionResult
from dagron._rows import (
    ANSWERS,
    BODY,
    CANCEL,
    CANCELLED,
    DONE,
    END,
    FAILED,
    OUTCOMES,
    OUTSIDE,
    STEP,
    VOID,
    Book,
    Row,
)
from dagron._sameness import flipped
from dagron._written import written


class Entry:
    """Something that is to happen in a run as soon as it is written."""

    __slots__ = (
        "blame",
        "change",
        "ended",
        "ends_run",
        "error",
        "expected",
        "kind",
        "name",
        "reason",
        "row",
        "seconds",
        "settled",
        "started_at",
        "value",
        "version",
    )

    def __init__(
        self,
        kind: str,
        name: str | None,
        *,
        value: Any = None,
        error: BaseException | None = None,
        seconds: float = 0.0,
        started_at: float | None = None,
        reason: str | None = None,
        ends_run: bool = False,
        blame: Blame | None = None,
        change: DynamicModification | None = None,
        settled: bool = False,
        ended: Event | None = None,
    ) -> None:
        self.kind = kind
        self.name = name
        self.value = value
        self.error = error
        self.seconds = seconds
        self.started_at = started_at
        self.reason = reason
        self.ends_run = ends_run
        self.blame = blame
        self.change = change
        self.settled = settled  # see `Scheduler.land`
        self.ended = ended  # somebody waits for it
        self.version = 0  # of the graph, when it had landed
        self.expected: int | None = None  # its version, when it is to land
        self.row: Row | None = None

    def end(self, error: BaseException | None = None) -> None:
        """Let who waits for it go on."""
        self.error = error
        if self.ended is not None:
            self.ended.set()


class Body:
    """What is known of a node whose task has returned, and which is not done."""

    __slots__ = ("folded", "is_written", "seconds", "started_at", "stored", "version")

    def __init__(self, stored: bytes, seconds: float, started_at: float | None) -> None:
        self.stored = stored
        self.seconds = seconds
        self.started_at = started_at
        self.is_written = False  # in a row of its own
        self.folded: bytes | None = None
        self.version: int | None = None  # of the graph that its expander has seen


class Ledger:
    """What one run writes into its journal, and what it is told when that is safe.

    ``check`` refuses a modification that no graph could take, ``land`` lands one, ``report``
    reports an outcome, ``cancel`` cancels a node, ``attempts`` tells how often a node was tried and
    what became of that, ``at_work`` which running nodes a modification would hold back,
    ``is_last_straw`` whether a failure ends the run, so that nothing begins any more, ``wake`` lets
    the pacer take its turn, soon and from any thread, and ``fail`` ends the run.
    """

    def __init__(
        self,
        book: Book,
        *,
        check: Callable[[str | None, DynamicModification], None],
        land: Callable[..., int],
        report: Callable[[Entry], None],
        cancel: Callable[[Entry], None],
        attempts: Callable[[str], tuple[int, list[BaseException]]],
        at_work: Callable[[DynamicModification], list[str]],
        is_last_straw: Callable[[Entry], bool],
        wake: Callable[[], object],
        call_soon: Callable[..., object],
        fail: Callable[[BaseException], None],
    ) -> None:
        self.book = book
        self._check = check
        self._land = land
        self._report = report
        self._cancel = cancel
        self._attempts = attempts
        self._at_work = at_work
        self._is_last_straw = is_last_straw
        self._wake = wake
        self._call_soon = call_soon
        self._fail = fail
        self._seq = book.last_seq
        self.bodies: dict[str, Body] = {}
        # What an earlier life has landed from inside a task that will run again.
        self.grown: dict[str, set[str]] = {}
        self.writing: set[str] = set()  # nodes whose outcome is on its way
        self._pending: list[Entry] = []
        self._sent: list[Entry] | None = None
        self._answers: deque[BaseException | None] = deque()  # of the writer
        self._heard: Event | None = None  # somebody waits until all is written
        self.error: BaseException | None = None
        self._last_straw: Entry | None = None  # a failure that ends the run, on its way
        self._held: list[Callable[[], object]] = []
        # While a replay is on, it takes what nodes do: see `Replay`.
        self.intercept: Callable[[Entry], bool] | None = None
        self.told: dict[str, int] = {}  # the last step of each node that was told again
        self.facts: Facts | None = None  # of the life that is told again
        self.seq = 0  # of the row that is happening
        self.flipped: ReplayError | None = None  # a condition answers otherwise than it did
        # What follows from such rows and was not written, since the process died before.
        self.late: list[Entry] = []

    # -- what nodes do

    def keep(self, name: str, value: Any, seconds: float, started_at: float | None) -> None:
        """Store what a node's task returned, in memory yet. Raises `UnstorableError`."""
        if name not in self.bodies:  # else it is an earlier life's
            self.bodies[name] = Body(self.book.dump(value, name), seconds, started_at)

    def recall(self, row: Row, version: int | None, *, goes_on: bool = False) -> None:
        """Take what an earlier life has kept of a node.

        A node that ``goes_on`` did so then; one that does now says so in a row of its own, for the
        graph may have changed around it meanwhile.
        """
        assert row.node is not None, "it is a node's"
        self.bodies[row.node] = body = Body(row.value or b"", row.seconds or 0.0, row.started)
        body.is_written = goes_on
        body.version = version

    def keep_folded(self, name: str, value: Any) -> None:
        """Store what the results of a node's children came to. Raises `UnstorableError`."""
        self.bodies[name].folded = self.book.dump(value, name)

    def go_on(self, name: str) -> None:
        """Write that a node's task has returned, since the node goes on for long after that."""
        body = self.bodies[name]
        if not body.is_written:
            body.is_written = True
            entry = Entry(BODY, name, seconds=body.seconds, started_at=body.started_at)
            count, errors = self._attempts(name)
            detail: dict[str, Any] = {}
            if errors:
                detail["errors"] = [self.book.error_row(error) for error in errors]
            if body.version is not None:
                detail["version"] = body.version
            self._append(entry, attempts=count, stored=body.stored, detail=detail)

    def tells_more_of(self, name: str) -> bool:
        """Tell whether an earlier life, which is being told again, goes on with this node."""
        facts = self.facts
        return facts is not None and (
            facts.steps.get(name, 0) > self.told.get(name, 0) or facts.has_ended(name)
        )

    async def land(
        self,
        name: str | None,
        change: DynamicModification,
        *,
        settled: bool,
        expected: int | None = None,
    ) -> int:
        """Return when a modification is written and has landed; raises what landing it raises."""
        change = copied(change, name)  # what is written is what will land
        self._check(name, change)
        text = None
        if not settled:  # nobody will make it again
            text = written(change, self.book.refer)
            if name is not None and text in self.grown.get(name, ()):
                return 0
        entry = Entry(
            OUTSIDE if name is None else STEP, name, change=change, settled=settled, ended=Event()
        )
        entry.expected = expected
        detail = {} if expected is None else {"expected": expected}
        self._submit(entry, change=text or written(change), detail=detail)
        assert entry.ended is not None, "it was made with one"
        await entry.ended.wait()
        if entry.error is not None:
            raise entry.error
        return entry.version

    def ask_to_cancel(self, name: str, blame: Blame) -> None:
        """Cancel a node from outside, when that is written."""
        self._submit(Entry(CANCEL, name, blame=blame), detail={"blame": blame_row(blame)})

    def conclude(self, entry: Entry) -> None:
        """Report an outcome when it is written."""
        assert entry.name is not None, "an outcome is a node's"
        self.writing.add(entry.name)
        body = self.bodies.pop(entry.name, None)
        count, errors = self._attempts(entry.name)
        detail: dict[str, Any] = {}
        if errors:
            detail["errors"] = [self.book.error_row(error) for error in errors]
        if entry.reason is not None:
            detail["reason"] = entry.reason
        if entry.kind is not DONE and entry.error is not None:
            detail["error"] = self.book.error_row(entry.error)
        if entry.kind is FAILED and entry.ends_run:
            detail["ends_run"] = True
        if entry.blame is not None:
            detail["blame"] = blame_row(entry.blame)
        stored = None
        if body is not None:
            stored = None if body.is_written else body.stored
            if body.version is not None:
                detail["version"] = body.version
            if body.folded is not None:
                detail["folded"] = body.folded.hex()
        change = None if entry.change is None else written(entry.change)
        self._submit(entry, attempts=count, stored=stored, change=change, detail=detail)

    def hold(self, report: Callable[[], object]) -> bool:
        """Let a node that ends with the run be reported after the failure that ends it.

        Tells whether there is one on its way.
        """
        if self._last_straw is None:
            return False
        self._held.append(report)
        return True

    def _let_go(self, entry: Entry) -> None:
        if entry is self._last_straw:
            self._last_straw = None
            held, self._held = self._held, []
            for report in held:
                report()

    def note_failed(
        self, name: str, error: BaseException, attempts: int, *, ends_run: bool
    ) -> None:
        """Write that a node failed that had not started, if it is not; nobody waits for it."""
        if self.facts is not None and self.facts.has_ended(name, self.seq - 1):
            return
        detail = {"error": self.book.error_row(error), "unstarted": True}
        if attempts:
            detail["attempts"] = attempts
        if ends_run:
            detail["ends_run"] = True
        self._note_of_row(Entry(FAILED, None), name, detail)

    def note_answers(self, name: str | None, untaken: list[Any], broken: list[Any]) -> None:
        """Write which conditions were false, or gave no answer, if it is not; nobody waits for it.

        Nothing is written where all were true.
        """
        known = ALL_TAKEN
        if self.facts is not None and (self.seq, name) in self.facts.answers:
            known = self.facts.answers[self.seq, name]
            if known.untaken != untaken:
                self.flipped = self.flipped or flipped(name, known.untaken, untaken)
        if known != Answers(untaken, broken):
            detail = {"seq": self.seq, "untaken": untaken, "broken": broken}
            self._note_of_row(Entry(ANSWERS, None), name, detail)

    def _note_of_row(self, entry: Entry, name: str | None, detail: dict[str, Any]) -> None:
        """Write what follows from the row that is happening: a replay is over before."""
        self._append(entry, node=name, detail=detail, queued=self.facts is None)
        if self.facts is not None:
            self.late.append(entry)

    def note(self, kind: str, detail: dict[str, Any]) -> None:
        """Write something of the run as a whole; nobody waits for it."""
        self._append(Entry(kind, None), detail=detail)

    # -- to the writer, and back

    def _submit(self, entry: Entry, **columns: Any) -> None:
        self._append(entry, queued=False, **columns)
        if self.intercept is None or not self.intercept(entry):
            self.queue(entry)

    def _append(
        self,
        entry: Entry,
        *,
        node: str | None = None,
        attempts: int | None = None,
        stored: bytes | None = None,
        change: str | None = None,
        detail: dict[str, Any] | None = None,
        queued: bool = True,
    ) -> None:
        """Make the row of an entry; its number is set when it is sent."""
        entry.row = Row(
            0,
            entry.kind,
            node if entry.name is None else entry.name,
            time(),
            entry.started_at,
            entry.seconds or None,
            attempts,
            stored,
            change,
            json.dumps(detail) if detail else None,
        )
        if queued:
            self.queue(entry)

    def queue(self, entry: Entry) -> None:
        """Send an entry with the next transaction."""
        if self.error is not None:
            self.lose(entry, self.error)
            return
        if entry.ends_run:
            self._last_straw = entry
        self._pending.append(entry)
        self._wake()

    def turn(self) -> None:
        """Let happen what is written, and send what is to be written."""
        self._settle()
        if self._pending and self._sent is None and self.error is None:
            entries, self._pending = self._pending, []
            self._sent = entries
            self.book.append(self._numbered(entries), self._hear)

    def _numbered(self, entries: list[Entry]) -> list[Row]:
        rows = []
        last = self._seq + len(entries)
        for entry in entries:
            assert entry.row is not None, "it was made when the entry was"
            self._seq += 1
            entry.row = row = entry.row._replace(seq=self._seq)
            if entry.change is not None:
                more: dict[str, Any] = {}
                if self._seq != last:  # see `Facts.was_judged`
                    more["until"] = last
                if names := self._at_work(entry.change):
                    # It will be refused; but the process may die before that is written, when it
                    # is written already what became of those.
                    more["at_work"] = names
                if more:
                    detail = json.dumps({**detail_of(row), **more})
                    entry.row = row = row._replace(detail=detail)
            rows.append(row)
        return rows

    def _hear(self, error: BaseException | None) -> None:
        """Take the writer's answer; called in its thread."""
        self._answers.append(error)
        try:
            self._call_soon(self._be_woken)
        except RuntimeError:  # the loop is gone, and nobody waits any more
            return

    def _be_woken(self) -> None:
        self._wake()
        if self._heard is not None:
            self._heard.set()

    def _settle(self) -> None:
        while self._answers:
            error = self._answers.popleft()
            entries, self._sent = self._sent or [], None
            if error is not None:
                self.give_up(error, entries)
                return
            for entry in entries:
                self.apply(entry)

    def give_up(self, error: BaseException, entries: list[Entry]) -> None:
        """End the run: nothing is written any more, and what was to be does not happen."""
        self.error = error
        lost = [*entries, *self._pending]
        self._pending.clear()
        self._fail(error)
        for entry in lost:
            self.lose(entry, error)

    def lose(self, entry: Entry, error: BaseException) -> None:
        """Let who waits for an entry know that it will not happen: its node ends with the run."""
        if entry.ended is not None:
            entry.end(error)
        elif entry.name is not None and entry.kind in OUTCOMES:
            entry.kind, entry.error, entry.blame = CANCELLED, None, None
            self._report(entry)
            self._let_go(entry)

    # -- what is written happens

    def apply(self, entry: Entry) -> None:
        """Let an entry happen."""
        self.seq = 0 if entry.row is None else entry.row.seq
        if entry.kind in OUTCOMES and entry.name is not None:
            self.writing.discard(entry.name)
        if entry.kind is DONE:
            if entry.change is None or self._has_landed(entry):
                self._report(entry)
        elif entry.kind is FAILED or entry.kind is CANCELLED:
            if entry.name is not None:
                self._report(entry)
                self._let_go(entry)
        elif entry.kind is STEP or entry.kind is OUTSIDE:
            try:
                entry.version = self._land(
                    entry.name, entry.change, settled=entry.settled, expected=entry.expected
                )
            except ModificationError as error:
                assert entry.row is not None, "it was written"
                self.void(entry.row)
                forget_our_frames(error)
                if entry.name is not None and entry.name in self.grown:
                    error.add_note(
                        f"node {entry.name!r:.60} had added nodes when it was tried before: what "
                        f"it adds again counts once if all of it is equal, its callables included"
                    )
                entry.end(error)
            else:
                entry.end()
        elif entry.kind is CANCEL:
            self._cancel(entry)

    def _has_landed(self, entry: Entry) -> bool:
        """Land what an expander returned; else its node fails, when that is written."""
        try:
            self._land(entry.name, entry.change)
        except ModificationError as error:
            self.refuse(entry, error)
            return False
        return True

    def refuse(self, entry: Entry, error: ModificationError) -> None:
        """Fail a node, when that is written, since what its expander returned was refused."""
        assert entry.row is not None, "it was written"
        self.void(entry.row)
        forget_our_frames(error)
        entry.kind, entry.error, entry.change = FAILED, error, None
        entry.reason = EXPANDER_FAILED
        entry.ends_run = self._is_last_straw(entry)
        self.conclude(entry)

    def void(self, row: Row) -> None:
        """Write that the modification in this row was refused; nobody waits for it."""
        self._append(Entry(VOID, None), node=row.node, detail={"seq": row.seq})

    # -- the end

    @property
    def is_busy(self) -> bool:
        """Whether something is to happen as soon as it is written."""
        return bool(self._pending) or self._sent is not None

    async def flush(self) -> None:
        """Return when all that is to be written is, and has happened."""
        while True:
            self._heard = Event()
            self.turn()
            if self._sent is None and not self._pending:
                return
            if not self._answers:
                await self._heard.wait()

    def finish(self, detail: dict[str, Any]) -> None:
        """Send that the run has ended."""
        entry = Entry(END, None)
        self._append(entry, detail=detail, queued=False)
        self._sent = []
        self.book.finish(self._numbered([entry]), self._hear)

    async def finished(self) -> None:
        """Return when it is written that the run has ended. Raises what went wrong."""
        while not self._answers:
            self._heard = Event()
            await self._heard.wait()
        error = self._answers.popleft()
        self._sent = None
        if error is not None:
            raise error


def ending(result: ExecutionResult) -> dict[str, Any]:
    """Return what there is to write of the end of a run, besides its nodes."""
    return {"ok": result.ok, "reason": result.reason, "seconds": result.total_duration_seconds}
