"""An earlier life of a run, told again: what was written happens once more, in the same order.

No task runs. Expanders are called with the results that were recorded, since the callables of the
nodes that they add cannot be stored; what they return has to be what they returned then. A node
whose expander was at work when the process died goes on with it afterwards.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Protocol

from anyio import Event, to_thread

from dagron._blame import Blame, Why, blame_of
from dagron._errors import (
    Cancelled,
    DagronError,
    Fault,
    JournalError,
    ModificationError,
    NodePoisonedError,
    ReplayError,
)
from dagron._facts import Facts, detail_of
from dagron._graph import DAG
from dagron._ledger import Entry, Ledger
from dagron._modification import DynamicModification
from dagron._raised import forget_our_frames
from dagron._results import error_text
from dagron._rows import (
    BODY,
    CANCEL,
    CANCELLED,
    DONE,
    FAILED,
    OUTCOMES,
    OUTSIDE,
    STEP,
    Row,
)
from dagron._sameness import unreadable
from dagron._scheduler import Scheduler
from dagron._status import RUNNING, WAITING
from dagron._threads import Call
from dagron._written import differences, read_modification, shown_differences, written

CHUNK = 500  # rows that are read at once, and told before others get their turn
LARGE = 30_000  # bytes of a result that is loaded in a thread


class Recalled(Call):
    """A call of a node's task that has returned in an earlier life."""

    __slots__ = ("name", "started_at")

    def __init__(self, row: Row, value: Any) -> None:
        super().__init__()
        assert row.node is not None, "it is a node's"
        self.name = row.node
        self.value = value
        self.seconds = row.seconds or 0.0
        self.started_at = row.started


class Replayed(Protocol):
    """The run to which it happens again."""

    @property
    def scheduler(self) -> Scheduler: ...
    def recall(self, name: str, call: Recalled) -> None:
        """Let a node go on from the return of its task, in a task of its own."""

    def recall_attempts(
        self, name: str, attempts: int, before: int, errors: list[BaseException]
    ) -> None:
        """Note how often the node was tried, and how often in lives before that."""

    def recall_outcome(self, entry: Entry) -> None:
        """Report the outcome of a node that has no task of its own."""

    def recall_landing(
        self,
        by: str | None,
        change: DynamicModification,
        *,
        settled: bool,
        expected: int | None,
        is_sure: bool,
    ) -> None:
        """Land a modification; where ``is_sure``, it had landed, whatever bounds there are now."""

    def check_readable(self, by: str | None, modification: DynamicModification) -> None:
        """Raise `ModificationError` if no graph could take it, for what its nodes are."""

    def recall_growing(self, name: str) -> None:
        """Count what the node adds as its children."""

    def interrupt_recalled(self, name: str) -> None:
        """Cancel the task of a node whose outcome is known."""

    def recall_unfinished(self, name: str) -> None:
        """Let a node be RUNNING whose outcome comes later."""

    def report_entry(self, entry: Entry) -> None: ...
    def cancel_node(self, name: str, blame: Blame) -> None: ...
    def fail_unstarted(self, name: str, error: BaseException, attempts: int) -> None: ...
    def has_expander(self, name: str) -> bool: ...
    async def call_expander(self, name: str, value: Any, graph: DAG | None) -> Any:
        """Return what the node's expander returns, under context variables of its own."""

    def tend(self) -> None: ...
    async def refold(self, name: str, value: Any) -> None: ...


class Replay:
    """Tells an earlier life of a run again, before it goes on."""

    def __init__(self, run: Replayed, ledger: Ledger, facts: Facts) -> None:
        self._run = run
        self._ledger = ledger
        self._book = ledger.book
        self.facts = facts
        self._live: set[str] = set()  # nodes that go on in tasks of their own
        self._told: dict[str, deque[Entry]] = {}  # what these want to happen next
        self._news = Event()
        self.graphs: dict[int, DAG] = {}  # as expanders have seen it
        self._loaded: Any = None  # the result in the row that is told, if it is large
        self._last_used: dict[int, list[int]] = {}
        for version, seq in facts.versions.items():
            self._last_used.setdefault(seq, []).append(version)
        self.kept: dict[str, Recalled] = {}  # nodes to go on with when they get slots
        # Modifications that are refused, since the process died before that was written.
        self.refused: list[tuple[Entry, ModificationError]] = []
        self.voids: list[Row] = []
        # The last steps of nodes that were still at it, and what became of these. They go on when
        # it is written that the run does, so that one which kills the process then was at work.
        self.held: dict[str, tuple[Entry, ModificationError | None]] = {}
        self.cancels: dict[str, Blame] = {}  # of nodes that went on for a moment after that

    def intercept(self, entry: Entry) -> bool:
        """Take what a node wants to happen: it does when that moment is told."""
        if entry.name is None or entry.name not in self._live or entry.kind == CANCEL:
            return False
        self._told.setdefault(entry.name, deque()).append(entry)
        self._news.set()
        return True

    def is_spared(self, name: str, blame: Blame) -> bool:
        """Tell whether a node that is to be cancelled goes on, since more is to be told of it."""
        if self.facts.has_ended(name):
            return True  # what became of it is told in its time
        if name in self._live or self.facts.goes_on_after(name, self._ledger.seq):
            self.cancels.setdefault(name, blame)
            return True
        return False

    def runs_later(self, name: str) -> bool:
        """Tell whether it is still to be told that the node ran."""
        seq = self._ledger.seq
        has_ended = self.facts.has_ended(name, seq) and name not in self.facts.unstarted
        return has_ended or self.facts.goes_on_after(name, seq)

    async def _next_of(self, name: str) -> Entry:
        told = self._told.setdefault(name, deque())
        while not told:
            self._news = Event()
            await self._news.wait()
        return told.popleft()

    def rest(self) -> Iterator[Entry]:
        """Yield what nodes want to happen that goes beyond what was told."""
        for told in self._told.values():
            yield from told

    # -- the telling

    async def run(self, rows: Iterator[Row]) -> None:
        """Tell it. Raises `ReplayError` where the program is not the one that was recorded."""
        self._take_graph(0)
        while chunk := await to_thread.run_sync(list, islice(rows, CHUNK)):
            for row in chunk:
                if row.seq not in self.facts.voids or row.kind in (DONE, STEP):
                    await self._tell(row)
                    if self._ledger.flipped is not None:
                        raise self._ledger.flipped
                    self._run.tend()
                    self._take_graph(row.seq)
                for version in self._last_used.get(row.seq, ()):
                    self.graphs.pop(version, None)

    def _take_graph(self, seq: int) -> None:
        version = self._run.scheduler.version
        if self.facts.versions.get(version, 0) > seq and version not in self.graphs:
            self.graphs[version] = self._run.scheduler.dag()

    async def _tell(self, row: Row) -> None:
        self._ledger.seq = row.seq
        name = row.node
        self._loaded = None
        if row.value is not None and len(row.value) > LARGE:
            self._loaded = await to_thread.run_sync(self._book.load, row.value)
        if row.kind == OUTSIDE:
            self._land_written(row, None)
        elif name is None:
            return
        elif row.kind == DONE:
            await self._tell_done(row, name)
        elif row.kind == BODY:
            self._tell_body(row, name)
        elif row.kind == STEP:
            await self._tell_step(row, name)
        elif row.kind in OUTCOMES:
            await self._tell_failure(row, name)
        elif row.kind == CANCEL:
            self._run.cancel_node(name, Blame(Why.OUTSIDE))

    def _recall(self, row: Row, name: str, *, goes_on: bool = False) -> Recalled:
        """Return what the node's task has returned, for its expander to be called with again."""
        detail = detail_of(row)
        self._recall_attempts(row, name, detail)
        self._ledger.recall(row, detail.get("version"), goes_on=goes_on)
        return Recalled(row, self._result_in(row))

    def _result_in(self, row: Row) -> Any:
        if row.value is None or self._loaded is not None:
            return self._loaded
        return self._book.load(row.value)

    def _recall_attempts(self, row: Row, name: str, detail: Mapping[str, Any]) -> None:
        rows = detail.get("errors", ())
        attempts = row.attempts or 1
        if rows or attempts > 1:
            is_last_failed = bool(rows) and row.kind == FAILED and rows[-1] == detail["error"]
            before = max(0, attempts - len(rows) - (not is_last_failed))
            errors = [self._book.error(error) for error in rows]
            self._run.recall_attempts(name, attempts - before, before, errors)

    def _tell_body(self, row: Row, name: str) -> None:
        goes_on = self.facts.went_on(row)
        call = self._recall(row, name, goes_on=goes_on)
        if goes_on:
            self.kept.pop(name, None)
            self._go_on(name, call)
        else:
            self.kept[name] = call

    def _go_on(self, name: str, call: Recalled) -> None:
        self._check_waiting(name)
        self._live.add(name)
        self._run.recall(name, call)

    def recall_unfinished(self) -> None:
        """Let those be RUNNING whose outcomes come later: the run was ended while they were."""
        for name in self.facts.ended_after(self._ledger.seq):
            self._run.recall_unfinished(name)

    def _check_waiting(self, name: str) -> None:
        status = self._run.scheduler.statuses().get(name)
        if status not in WAITING and status is not RUNNING:
            raise ReplayError(
                f"node {name!r:.60} ran when the run was here before, and is "
                f"{status or 'not in the graph'} now\n"
                f"  help: let conditions depend on the result that they are called with alone",
                name,
            )

    async def _tell_done(self, row: Row, name: str) -> None:
        if row.seq in self.facts.voids:
            self.kept[name] = self._recall(row, name)
            return
        if name not in self._live:
            if not self._run.has_expander(name):
                if row.change is not None:
                    raise self._changed(name, ["it had an expander, and has none now"])
                await self._complete(row, name)
                return
            await self._tell_expansion(row, name)
            return
        # Those of its children that are to be tried again had ended by then.
        self._run.scheduler.offspring.let_go(name)
        self._run.tend()
        entry = await self._next_of(name)
        self._compare(row, entry, name)
        self._live.discard(name)
        if entry.change is not None and (error := self._land(row, entry.change)) is not None:
            entry.row = row
            self.refused.append((entry, error))
            return
        self._run.report_entry(entry)

    async def _tell_expansion(self, row: Row, name: str) -> None:
        """Call the expander of a node that is done again, for what it adds."""
        self._check_waiting(name)
        kept = self.kept.get(name)
        value = self._result_in(row) if row.value is not None else kept and kept.value
        detail = detail_of(row)
        version = detail.get("version")
        graph = None if version is None else self.graphs[version]
        try:
            change = await self._run.call_expander(name, value, graph)
        except Exception as error:
            raise self._changed(name, [f"it raised {error_text(error)}"]) from error
        if change is not None and not isinstance(change, DynamicModification):
            raise self._changed(name, [f"it returned {type(change).__name__}"])
        if lines := self._differences(row, change):
            raise self._changed(name, lines)
        self._recall_attempts(row, name, detail)
        self._run.recall_unfinished(name)
        entry = Entry(DONE, name, value=value, seconds=row.seconds or 0.0, started_at=row.started)
        entry.row = row
        if change is not None and (refusal := self._land(row, change)) is not None:
            self._ledger.recall(row, version)
            self.refused.append((entry, refusal))
            return
        self._forget(name)
        await self._run.refold(name, value)
        self._run.report_entry(entry)

    async def _complete(self, row: Row, name: str) -> None:
        self._forget(name)
        self._check_waiting(name)
        value = self._result_in(row)
        self._recall_attempts(row, name, detail_of(row))
        await self._run.refold(name, value)
        self._run.recall_outcome(
            Entry(DONE, name, value=value, seconds=row.seconds or 0.0, started_at=row.started)
        )

    async def _tell_step(self, row: Row, name: str) -> None:
        is_void = row.seq in self.facts.voids
        if name not in self._live:
            if not is_void:
                self._land_written(row, name)
            return
        entry = await self._next_of(name)
        self._ledger.told[name] = row.seq
        self._compare(row, entry, name)
        error: ModificationError | None
        if is_void:
            fault = Fault("invalid", name, "it was refused when the run was here before")
            error = ModificationError([fault], name)
        else:
            assert entry.change is not None, "it is equal to one that was recorded"
            error = self._land(row, entry.change, settled=entry.settled)
            entry.version = self._run.scheduler.version
        if row.seq == self.facts.steps[name] and not self.facts.has_ended(name):
            self.held[name] = entry, error
        else:
            entry.end(error)

    async def _tell_failure(self, row: Row, name: str) -> None:
        if not self.facts.counts(row):  # it is to be tried again
            if row.value is not None and name not in self._live:
                self.kept[name] = self._recall(row, name)
            return
        value = self._result_in(row)
        if name in self._live:
            self._run.interrupt_recalled(name)
            value = (await self._drop_rest(name)).value
            self._live.discard(name)
        elif name in self.kept:
            value = self.kept[name].value
        self._forget(name)
        detail = detail_of(row)
        error = self._book.error(detail["error"]) if "error" in detail else None
        if detail.get("unstarted"):
            assert error is not None, "it failed"
            self._run.fail_unstarted(name, error, detail.get("attempts", 0))
            return
        if row.kind == FAILED:
            self._check_waiting(name)
        self._recall_attempts(row, name, detail)
        self._run.recall_outcome(
            Entry(
                FAILED if row.kind == FAILED else CANCELLED,
                name,
                value=value,
                error=error,
                seconds=row.seconds or 0.0,
                started_at=row.started,
                reason=detail.get("reason"),
                ends_run=detail.get("ends_run", False),
                blame=blame_of(detail["blame"]) if "blame" in detail else None,
            )
        )

    def _forget(self, name: str) -> None:
        """Let go of what was kept of a node that is done."""
        self.kept.pop(name, None)
        self._ledger.bodies.pop(name, None)

    async def _drop_rest(self, name: str) -> Entry:
        while True:
            entry = await self._next_of(name)
            if entry.kind in OUTCOMES:
                return entry
            entry.end(Cancelled(f"node {name!r:.60} ended here when it ran before"))

    # -- modifications

    def _land_written(self, row: Row, by: str | None) -> None:
        """Land what came from outside, or from a task that will run again."""
        assert row.change is not None, "it is a modification"
        if by is not None:
            self._run.recall_growing(by)
        try:
            change = read_modification(row.change, self._book.resolve)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, DagronError):
                raise
            raise JournalError(
                f"row {row.seq} of the run holds no modification: {error_text(error)}\n"
                f"  help: somebody has changed the file: go on with a backup"
            ) from error
        refusal = self._land(row, change)
        if by is not None and refusal is None:
            self._ledger.grown.setdefault(by, set()).add(row.change)

    def _land(
        self, row: Row, change: DynamicModification, *, settled: bool = False
    ) -> ModificationError | None:
        """Land it as it did then: who was at work then, and was to be cancelled, is so now.

        Returns the error where it is refused: it was so then, and the process died before that was
        written.
        """
        try:
            self._run.check_readable(row.node, change)
        except ModificationError as error:
            raise unreadable(row.node, error) from None
        for name in change.cancel_nodes:
            if name not in self._live and (
                self.facts.has_ended(name) or self.facts.goes_on_after(name, row.seq)
            ):
                self._run.recall_unfinished(name)
        detail = detail_of(row)
        for name in detail.get("at_work", ()):
            if self.facts.ended_next(name, row.seq) and name not in self._live:
                self._run.recall_unfinished(name)
        try:
            self._run.recall_landing(
                row.node,
                change,
                settled=settled,
                expected=detail.get("expected"),
                is_sure=self.facts.was_judged(row, detail),
            )
        except ModificationError as error:
            forget_our_frames(error)
            if row.kind != DONE:
                self.voids.append(row)
            return error
        return None

    def _compare(self, row: Row, entry: Entry, name: str) -> None:
        kind = DONE if row.kind == DONE else STEP
        if entry.kind != kind:
            raise self._unlike(row, entry, name) from entry.error
        if lines := self._differences(row, entry.change):
            raise self._changed(name, lines)

    def _differences(self, row: Row, change: DynamicModification | None) -> list[str]:
        return differences(row.change or "{}", "{}" if change is None else written(change))

    def _unlike(self, row: Row, entry: Entry, name: str) -> ReplayError:
        if entry.kind == FAILED:
            return self._changed(name, [f"it raised {error_text(entry.error)}"])
        if entry.kind == STEP:
            return self._changed(name, ["it yields more than it did"])
        return self._changed(name, ["it yields less than it did"])

    def _changed(self, name: str, lines: list[str]) -> ReplayError:
        return ReplayError(
            f"the expander of node {name!r:.60} does not do what it did before\n"
            f"  {shown_differences(lines)}\n"
            f"  help: let it depend on the node's name and result alone; what it looks up belongs "
            f"into the node's task, whose result is recorded",
            name,
            lines,
        )

    # -- what is left

    def suspects(self) -> Iterator[str]:
        """Yield the nodes whose tasks were at work at all crashes but one too many."""
        for name in self.facts.attempts:
            if self.facts.recoveries[name] == self._book.max_recoveries - 1:
                yield name

    def poisoned(self) -> dict[str, NodePoisonedError]:
        """Return the nodes that were at work at too many crashes, with the errors for them."""
        return {
            name: poison(name, count)
            for name, count in self.facts.recoveries.items()
            if count >= self._book.max_recoveries and not self.facts.has_ended(name)
        }


def poison(name: str, count: int) -> NodePoisonedError:
    """Return the error for a node that was at work at so many crashes."""
    return NodePoisonedError(
        f"node {name!r:.60} was at work each of the {count} times when the process died\n"
        f"  help: see what kills it (an unhandled SIGTERM does, too); then execute(..., "
        f"retry_failed=True) tries it again. Journal(max_recoveries=...) sets how often it may be",
        name,
        count,
    )
