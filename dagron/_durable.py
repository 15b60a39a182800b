"""A run that has a journal: what it writes there, and how it goes on with an earlier life.

See `Ledger` for when an outcome counts, and `Replay` for how an earlier life is told again.
"""

import sys
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import chain
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar, cast

from anyio import CancelScope, current_effective_deadline, to_thread

from dagron._blame import Blame, Why, ended_by
from dagron._current import InContext, NodeHost, current_node
from dagron._drains import Drained
from dagron._errors import Cancelled, JournalError, UnstorableError
from dagron._graph import DAG
from dagron._hosting import Hosting
from dagron._keep import Fold
from dagron._modification import DynamicModification, touches_others
from dagron._raised import keyboard_interrupt
from dagron._results import ExecutionResult, error_text
from dagron._status import CANCELLED, COMPLETED, FAILED, RUNNING, WAITING, NodeStatus
from dagron._suspects import Suspects
from dagron._threads import ThreadCall

if TYPE_CHECKING:
    from dagron._ledger import Entry, Ledger
    from dagron._replay import Recalled, Replay, Replayed
    from dagron._rows import Book

T = TypeVar("T")


class Durable(Hosting):
    """A run, as far as it has a journal: all of this is for those that have one."""

    __slots__ = ()

    # -- the host task

    async def _main_in_journal(self) -> ExecutionResult:
        """Run the graph, or what is left to run of it, or return what is recorded."""
        from dagron._ledger import ending  # most runs have no journal
        from dagron._rows import Patience
        from dagron._sameness import check_same_graph
        from dagron._written import written_graph

        expanders = self._standing
        untasked = [name for name in self.scheduler.statuses() if name not in self._tasks]
        graph = written_graph(self.scheduler.dag(), expanders, untasked)
        journal = self._settings.journal
        assert journal is not None, "it is asked for where there is one"
        self._patience = patience = Patience()
        if self._interrupt is not None or self._cut is not None:
            patience.is_short = True
        opening = ThreadCall(self._host, journal._open, self.id, graph, patience)
        cancelled = await self._in_thread(opening)
        book: Book | None = opening.value
        if book is None:
            if self._cut is not None and patience.is_spent and cancelled is None:
                return await self._main_with_runners()  # it was ended before it began
            raise self._interrupt or cancelled or opening.error  # type: ignore[misc]
        try:
            if cancelled is not None:  # and now the run is ours, to be let go
                raise cancelled
            check_same_graph(book, self.id, graph)
            if book.is_finished:
                recorded = await to_thread.run_sync(book.result)
                if recorded.ok or not self._retries:
                    return recorded
            self._begin_ledger(book)
            result = await self._main_with_runners()
            assert self._ledger is not None, "the run is on"
            if result.reason is None or self._cut_by_failure:
                self._ledger.finish(ending(result))
                try:
                    await self._outlast(self._ledger.finished)
                except JournalError:
                    if not patience.is_spent:
                        raise
            return result
        finally:  # in order, whatever went wrong: no node is to blame for that
            self._hurry()
            await self._outlast(partial(to_thread.run_sync, book.release))

    def _begin_ledger(self, book: "Book") -> None:
        from dagron._ledger import Ledger

        self._ledger = Ledger(
            book,
            check=self.check_readable,
            land=self._land_entry,
            report=self.report_entry,
            cancel=self._cancel_entry,
            attempts=self._attempts_of,
            at_work=self._at_work,
            is_last_straw=self._is_last_straw,
            wake=self._wake_up,
            call_soon=self._host.call_soon,
            fail=self._fail_with,
        )
        self.growing.ledger = self._ledger
        self.drains.on_begin = self._begin_first

    async def _in_thread(self, call: ThreadCall) -> BaseException | None:
        """Return when this call has ended in a thread; and the cancellation that came meanwhile,
        which the call hears of by its patience.
        """
        try:
            await to_thread.run_sync(call, abandon_on_cancel=True)
        except self._host.cancelled_class as cancelled:
            self._hurry()
            if not call.forbid():
                await call.outlast()
            return cancelled
        return None

    async def _outlast(self, wait: Callable[[], Awaitable[T]]) -> T:
        """Wait for what ends by itself, also while the caller is cancelled; then raise that.

        From then on other processes are waited for no longer than a moment. ``wait`` is called
        again after each cancellation. One by a scope raises at the next checkpoint, unless the
        journal gave up on account of it.
        """
        assert self._patience is not None, "the run has a journal"
        cancelled: BaseException | None = None
        heard: BaseException | None = None
        while True:
            try:
                with CancelScope(shield=self._patience.is_short):
                    value = await wait()
                break
            except self._host.cancelled_class as error:
                heard = error
                if current_effective_deadline() > -inf:  # natively, past all scopes
                    cancelled = error
                self._hurry()
            except JournalError:
                if heard is None or not self._patience.is_spent:
                    raise
                raise heard from None
        if cancelled is not None:
            raise cancelled
        return value

    async def _tell_earlier_life(self) -> None:
        """Let happen again what is recorded of the run; or end it."""
        from dagron._facts import Facts
        from dagron._replay import Replay, poison
        from dagron._rows import LIFE
        from dagron._sameness import check_same_settings
        from dagron._written import written_policy

        assert self._ledger is not None, "the run has a journal"
        ledger, book = self._ledger, self._ledger.book
        policy = self._settings.policy
        settings: dict[str, Any] = {"keep": self._settings.keep}
        if policy is not None:
            settings["policy"] = written_policy(policy)
        if not book.last_seq:  # it is new, or the process died before this was written
            in_flight = {"in_flight": dict(book.in_flight)} if book.in_flight else {}
            ledger.note(LIFE, {**settings, **in_flight})
            self._prior = dict(book.in_flight)
            for name, attempt in self._prior.items():
                self.recall_crash(name, attempt, 1)
                if book.max_recoveries == 1:
                    self.fail_unstarted(name, poison(name, 1), attempt)
            if book.max_recoveries == 2:
                self._suspects = Suspects(self._prior)
            must_be_first = bool(self._asked) or not book.is_new
            self._open_to_others(ledger)
            if must_be_first:  # so that nothing begins that is to be cancelled, or unseen
                await ledger.flush()
            return
        try:
            facts = await to_thread.run_sync(Facts, book.rows(), book.in_flight, self._retries)
            if facts.settings:  # else the process died before that was written
                check_same_settings(facts.settings, settings, self.id)
            self._replay = replay = Replay(cast("Replayed", self), ledger, facts)
            ledger.intercept, ledger.facts = replay.intercept, facts
            self.slots.is_free = True
            await replay.run(book.rows())
        except BaseException as error:
            self._halt()  # whoever goes on is cancelled, and has not failed
            for name in [name for name, handle in self._handles.items() if handle is None]:
                self._forget_recalled(name)
            if self._replay is not None:
                held = (entry for entry, _ in self._replay.held.values())
                for entry in chain(held, self._replay.rest()):
                    ledger.lose(entry, Cancelled("the run was ended while it was told again"))
            if not isinstance(error, Exception):
                raise
            ledger.give_up(error, [])
            return
        finally:
            self.slots.is_free = False
            ledger.intercept = ledger.facts = None
            self._replay = None
        self._begin_another_life(ledger, replay)
        self._open_to_others(ledger)
        # Nothing begins before this life is written: a node that kills the process at once would
        # not have been at work in it, and be tried for ever.
        try:
            await ledger.flush()
        finally:
            self._let_go_on(replay)

    def _begin_another_life(self, ledger: "Ledger", replay: "Replay") -> None:
        """Write that the run goes on, and with what."""
        from dagron._rows import LIFE, RETRY

        facts, book = replay.facts, ledger.book
        self._recalled = replay.kept
        self._prior = facts.attempts
        for name, count in facts.attempts.items():
            if not facts.has_ended(name):
                self.recall_crash(name, count, facts.recoveries[name])
        if self._retries:
            ledger.note(RETRY, {})
        ledger.note(LIFE, {"in_flight": dict(book.in_flight)} if book.in_flight else {})
        for entry in ledger.late:
            ledger.queue(entry)
        for row in replay.voids:
            ledger.void(row)
        for entry, refusal in replay.refused:
            ledger.refuse(entry, refusal)
        if self._cut is not None:  # a failure had ended the run: nobody goes on
            self._halt()
        for entry in replay.rest():
            if self._cut is None:
                ledger.queue(entry)
            else:
                ledger.lose(entry, Cancelled(self._cut))
        self._suspects = Suspects(replay.suspects()) if facts.recoveries else None
        ledger.book.begin([(name, self.attempt_of(name)) for name in replay.held])
        for name, poison in replay.poisoned().items():
            self.fail_unstarted(name, poison, facts.attempts.get(name) or self.attempt_of(name))
        for name, blame in replay.cancels.items():
            self.cancel_node(name, blame)

    def _let_go_on(self, replay: "Replay") -> None:
        """Let nodes go on that were at it when the process died; those that killed it fail."""
        poisoned = replay.poisoned()
        for name, (entry, refusal) in replay.held.items():
            entry.end(Cancelled(self._cut) if self._cut else poisoned.get(name, refusal))

    def _end_by_failure(self, name: str) -> None:
        """End the run as a result, by the failure of this node.

        One that is told from an earlier life lets all of that be told: what was at work then has
        its own end.
        """
        self._cut_by_failure = True
        if self._replay is None:
            self._cut_short(ended_by(name))
            return
        self._cut = self.stream.cut = ended_by(name)
        self._replay.recall_unfinished()
        self.scheduler.cancel_rest()
        self.stream.catch_up()

    def _open_to_others(self, ledger: "Ledger") -> None:
        """Let outsiders have a say, and write what they asked for before."""
        for name, blame in self._asked.items():
            ledger.ask_to_cancel(name, blame)
        self._asked.clear()
        self._opened.set()

    def _fail_with(self, error: BaseException) -> None:
        """End the run with this error, unless it is to end and did not wait."""
        if self._patience is not None and self._patience.is_spent:
            return
        if self._failure is None:
            self._failure = error
            self._cut = self.stream.cut = f"the run was ended: {error_text(error)}"
        self._stop()

    def _begin_attempt(self, name: str, attempt: int) -> None:
        """Note that an attempt begins at a node; from any thread."""
        if self._ledger is not None:
            self._ledger.book.begin([(name, attempt)])

    def _begin_first(self, name: str) -> None:
        self._begin_attempt(name, 1)

    def _begin_attempts(self, ledger: "Ledger", names: list[str]) -> None:
        """Note, before they do, that nodes which have just got their slots begin."""
        begun = [
            (
                name,
                self.attempt_of(name) if name in self._recalled else self._prior.get(name, 0) + 1,
            )
            for name in names
            if name not in self._handles and name not in (self._suspects or ())
        ]
        if begun:  # else it would be written that nothing begins
            ledger.book.begin(begun)

    async def _take_turn(self, name: str, suspects: Suspects) -> None:
        """Return when a node may be at work that may have killed the process; it has its slots."""
        if not suspects.begin(name):
            self.slots.rest(name)
            await suspects.wait(name)
            await self.slots.hold(name, worker=name in self._on_threads)
        self._begin_attempt(name, self._prior.get(name, 0) + 1)

    # -- what nodes come to

    def _conclude(
        self,
        name: str,
        status: NodeStatus,
        value: Any,
        error: BaseException | None,
        seconds: float,
        started_at: float | None,
        reason: str | None = None,
        ends_run: bool = False,
        change: DynamicModification | None = None,
    ) -> None:
        """Report an outcome, where the run has a journal when that is written.

        A node that ends with the run, or is interrupted, is unfinished as far as the journal goes.
        """
        blame = self._to_cancel.get(name)
        is_cut_off = (status is CANCELLED and blame is None) or (
            error is not None and keyboard_interrupt(error) is not None
        )
        if self._ledger is None or is_cut_off:
            report = partial(
                self._report, name, status, value, error, seconds, started_at, reason, ends_run
            )
            if self._ledger is None or not self._ledger.hold(report):
                report()
            return
        from dagron._ledger import Entry
        from dagron._rows import OUTCOME_OF

        try:
            note = self.bodies.notes.get(name)
            if note is None or note.lingering is None:
                self.scheduler.rest(name)
            kind = OUTCOME_OF[status if blame is None else CANCELLED]
            entry = Entry(
                kind,
                name,
                value=value,
                error=error,
                seconds=seconds,
                started_at=started_at,
                reason=reason if kind == OUTCOME_OF[FAILED] else None,
                ends_run=ends_run,
                blame=blame,
                change=change,
            )
            self._ledger.conclude(entry)
        except Exception as bug:
            self._crash(bug)

    def report_entry(self, entry: "Entry") -> None:
        """Report an outcome that is written."""
        from dagron._rows import STATUS_OF

        assert entry.name is not None, "it is a node's"
        name, status = entry.name, STATUS_OF[entry.kind]
        if self._suspects is not None:
            self._suspects.end(name)
        if status is CANCELLED and entry.blame is not None:
            self._to_cancel[name] = entry.blame
        else:
            self._to_cancel.pop(name, None)  # it came too late
        self._report(
            name,
            status,
            entry.value,
            entry.error,
            entry.seconds,
            entry.started_at,
            entry.reason,
            entry.ends_run,
        )

    def _land_entry(
        self,
        by: str | None,
        modification: DynamicModification,
        *,
        settled: bool = False,
        expected: int | None = None,
    ) -> int:
        self.check_version(expected)  # again: others have landed while this was written
        self._land(by, modification, settled=settled)
        return self.scheduler.version

    def _cancel_entry(self, entry: "Entry") -> None:
        assert entry.name is not None, "it says who is to be cancelled"
        assert entry.blame is not None, "and why"
        self.cancel_node(entry.name, entry.blame)

    def _attempts_of(self, name: str) -> tuple[int, list[BaseException]]:
        note = self.bodies.notes.get(name)
        return self.attempt_of(name), [] if note is None else note.errors

    def _is_last_straw(self, entry: "Entry") -> bool:
        """Tell whether the failure of this node ends the run; then nothing begins any more."""
        is_last = (
            self._settings.cancel_on_failure
            and not self.stopping
            and entry.name not in self._to_cancel
        )
        if is_last:
            self._halt()
        return is_last

    def _at_work(self, change: DynamicModification) -> list[str]:
        """Return the running nodes that a modification would remove, or let wait for others."""
        if not touches_others(change):
            return []
        names = dict.fromkeys(change.remove_nodes)
        for target in chain.from_iterable(spec.dependents for spec in change.add_nodes):
            names[target] = None
        for _, target in chain(change.add_edges, change.remove_edges):
            names[target] = None
        statuses = self.scheduler.statuses()
        return [name for name in names if statuses.get(name) is RUNNING]

    def has_expander(self, name: str) -> bool:
        return name in self._expanders

    def recall(self, name: str, call: "Recalled") -> None:
        """Let a node go on from the return of its task, in a task of its own."""
        assert self._group is not None, "the run is on"
        self.recall_unfinished(name)
        self._handles[name] = self._group.create_task(
            self._run_node(name, call), name=name, context=self._context
        )

    def recall_unfinished(self, name: str) -> None:
        if self.scheduler.statuses().get(name) in WAITING:
            self.scheduler.recall(name)
            self._handles[name] = None

    def recall_outcome(self, entry: "Entry") -> None:
        """Report the outcome of a node that has no task of its own."""
        assert entry.name is not None, "it is a node's"
        self.recall_unfinished(entry.name)
        if self.scheduler.statuses().get(entry.name) is RUNNING:
            self.report_entry(entry)

    def recall_attempts(
        self, name: str, attempts: int, before: int, errors: list[BaseException]
    ) -> None:
        note = self.bodies.note(name)
        note.attempts = attempts
        note.before = before
        note.errors = errors

    def recall_crash(self, name: str, attempts: int, recoveries: int) -> None:
        note = self.bodies.note(name)
        note.before = attempts
        note.failed_before = attempts - recoveries if recoveries else 0

    def recall_landing(
        self,
        by: str | None,
        change: DynamicModification,
        *,
        settled: bool,
        expected: int | None,
        is_sure: bool,
    ) -> None:
        policy = self._policies.get(by) if by is not None else None
        if by is not None and policy is not None and isinstance(policy.keep, Fold):
            self.growing.begin(by, policy.keep)
        self.check_version(expected)
        try:
            if is_sure:  # it had landed, and is not refused now
                self.scheduler.bound(sys.maxsize, sys.maxsize)
            self._land(by, change, settled=settled)
        finally:
            self.scheduler.bound(self._settings.max_nodes, self._settings.max_depth)

    def recall_growing(self, name: str) -> None:
        self.growing.count_children(name)

    def _forget_recalled(self, name: str) -> None:
        self._report(name, CANCELLED, None, None, 0.0, None)

    def interrupt_recalled(self, name: str) -> None:
        """Cancel the task of a node whose outcome is known."""
        self._to_cancel[name] = Blame(Why.OUTSIDE)
        self._cancel_running(name)

    async def call_expander(self, name: str, value: Any, graph: DAG | None) -> Any:
        expander, policy = self._expanders[name], self._policies.get(name)
        given = (value,) if graph is None else (value, graph)
        context = self._context.copy()
        context.run(current_node.set, (cast("NodeHost", self), name, None))
        timeout = policy.timeout if policy else None
        return await InContext(self.bodies.expand(expander, name, given, timeout), context)

    def tend(self) -> None:
        if self.scheduler.offspring.unfinished:
            self.growing.tend(is_idle=False)

    async def refold(self, name: str, value: Any) -> None:
        if self.growing.folds:
            await self.growing.fold(name, value)

    def _end_drained_in_journal(self, call: Drained) -> None:
        assert self._ledger is not None, "the run has a journal"
        try:
            self._ledger.keep(call.name, call.value, call.seconds, call.started_at)
        except UnstorableError as error:
            call.error = error
            self._returned.append(call)
            self._wake_up()
        else:
            self._conclude(call.name, COMPLETED, call.value, None, call.seconds, call.started_at)

    # -- what nodes ask for

    @property
    def uid(self) -> str:
        """What tells the run from all others, in any journal."""
        return self.id if self._ledger is None else self._ledger.book.uid

    def attempt_of(self, name: str) -> int:
        """Return which attempt at a node is under way; from any thread."""
        note = None if self.is_over else self.bodies.notes.get(name)
        if note is None:
            return 1
        return note.before + (1 if note.attempts is None else note.attempts)

    def _graph_for(self, name: str) -> DAG:
        """Return the graph for the node's expander: the same as in an earlier life of the run."""
        if self._ledger is None:
            return self._core(self.scheduler.dag)
        body = self._ledger.bodies[name]
        if body.version is not None and self._replay is not None:
            return self._replay.graphs[body.version]
        body.version = self.scheduler.version
        return self._core(self.scheduler.dag)

    # -- the nodes' side

    @abstractmethod
    def _report(
        self,
        name: str,
        status: NodeStatus,
        value: Any,
        error: BaseException | None,
        seconds: float,
        started_at: float | None,
        reason: str | None = None,
        ends_run: bool = False,
    ) -> None:
        """Record what became of a node, and start what that releases."""

    @abstractmethod
    def check_readable(self, by: str | None, modification: DynamicModification) -> None:
        """Raise `ModificationError` if no graph could take it, for what its nodes are."""

    @abstractmethod
    def check_version(self, expected: int | None) -> None:
        """Raise `ModificationError` where the graph has another version by now."""

    @abstractmethod
    def fail_unstarted(self, name: str, error: BaseException, attempts: int = 0) -> None:
        """Fail a node that waits; ``attempts`` counts those in earlier lives of the run."""

    @abstractmethod
    def cancel_node(self, name: str, blame: Blame) -> None:
        """Cancel a node that has not finished."""

    @abstractmethod
    def _cancel_running(self, name: str) -> None:
        """Cancel the task, or the call, of a node that runs."""
