"""Run: the handle on a run in progress."""

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import inf
from threading import get_ident
from types import TracebackType
from typing import Any, cast

from anyio import Event as Signal
from anyio import (
    create_task_group,
    current_effective_deadline,
    current_time,
    get_cancelled_exc_class,
)
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from dagron._backend import loop_caller
from dagron._blame import Blame, Why
from dagron._collect import collect
from dagron._current import NodeHost, here
from dagron._errors import (
    RunFailedError,
    RunFinishedError,
    UnknownNodeError,
)
from dagron._graph import DAG, unknown_node
from dagron._modification import DynamicModification
from dagron._names import shown, shown_seconds
from dagron._node_result import NodeResult
from dagron._results import ExecutionResult, error_text
from dagron._runner import Lost, Result
from dagron._shell import Shell
from dagron._status import (
    CANCELLED,
    COMPLETED,
    FAILED,
    PENDING,
    READY,
    RUNNING,
    UNDONE,
    NodeStatus,
)
from dagron._stream import EventReader


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a node is not running, or what it waits for while it is: ``str()`` says it in a line.

    ``waiting_for`` names the dependencies that are not done; ``limit`` is the limit whose slots are
    all taken, ``"max_workers"``, ``"max_concurrency"`` or a group, if that is what it waits for.
    """

    node: str
    status: NodeStatus
    text: str
    waiting_for: tuple[str, ...] = ()
    limit: str | None = None

    def __str__(self) -> str:
        return f"node {self.node!r} is {self.status}{self.text}"


class Run:
    """A run in progress: ``async with executor.start(tasks) as run:``.

    Leaving the block waits for the run to end, as a task group would; leaving it by an exception
    cancels the run first. Failed nodes raise nothing here: they are in the result that `wait`
    returns. What is said to work from any thread does; the rest is for the event loop of the block.
    """

    def __init__(self, shell: Shell, finish: Callable[[str, ExecutionResult], None]) -> None:
        self._shell = shell
        self._finish = finish
        self._scheduler = shell.scheduler  # these outlive the shell's own state
        self._results: Mapping[str, NodeResult] = shell.results
        self._tallies, self._times = shell.tallies, shell.times
        self._stream = shell.stream
        self._result: ExecutionResult | None = None
        self._error: BaseException | None = None
        self._thread: int | None = None  # of the event loop, from when the block is entered
        self._completed = _Completed()
        shell.on_completed = self._completed.add
        shell.on_forgotten = self._completed.forget

    # -- the block

    async def __aenter__(self) -> "Run":
        if self._thread is not None:
            raise RuntimeError(
                "a run is entered once\n  help: call executor.start(tasks) for every block"
            )
        self._thread = get_ident()
        self._call_soon = loop_caller()
        self._begun = Signal()
        self._go = Signal()
        self._ended = Signal()
        self._group = create_task_group()
        await self._group.__aenter__()
        handle = self._group.create_task(self._host(), name=f"dagron run {self.id}")
        try:
            await self._begun.wait()
        except BaseException as error:
            try:
                swallowed = await self._group.__aexit__(type(error), error, error.__traceback__)
            finally:
                if not self._begun.is_set():  # nobody else could see that the task was killed
                    handle.coro.close()
                    self._end(killed(self.id))
            if swallowed and self._error is not None:
                raise self._error from None
            raise
        self._call_soon(self._go.set)  # so that what stands at the top of the block comes before
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        is_cancellation = isinstance(error, get_cancelled_exc_class())
        is_failure = error is not None and not is_cancellation
        if error is not None and not is_cancellation:
            self._shell.cancel(f"the block of the run was left by {type(error).__name__}")
            # The group only waits: it would put the block's exception into a group of exceptions.
            kind = error = traceback = None
        try:
            swallowed = await self._group.__aexit__(kind, error, traceback)
        except BaseException:
            if self._error is None or isinstance(self._error, RunFailedError):
                raise  # the caller is being cancelled, too: whoever killed the run's task did both
        if self._error is not None:
            raise self._error
        if self._result is None and not is_cancellation and not is_failure:
            await checkpoint()  # the run heard of the caller's cancellation before the block did
        return bool(swallowed) and is_cancellation

    async def _host(self) -> None:
        # It takes its first step before the block begins: who kills it later is noticed here.
        self._begun.set()
        try:
            await self._go.wait()
            result = await self._shell.main()
            if self._scheduler.unfinished:  # it had ended in an earlier life, as is recorded
                self._results = result.node_results
                for name, node in result.node_results.items():
                    if node.status is COMPLETED:
                        self._completed.add(name, node.result)
            self._result = result
            self._finish(self.id, result)
            self._end(None)
        except get_cancelled_exc_class():
            # A scope around the block may reach this task before the block itself.
            is_expected = current_effective_deadline() == -inf
            self._end(None if is_expected else killed(self.id))
            self._group.cancel_scope.cancel()
            raise
        except BaseException as error:  # an interrupt, or a bug: the block must not go on
            self._end(error)
            self._group.cancel_scope.cancel()

    def _end(self, error: BaseException | None) -> None:
        self._error = error
        if not self._stream.is_over:
            self._shell.end_unbegun()
        self._ended.set()
        self._completed.end()

    # -- looking on

    @property
    def id(self) -> str:
        """The name of this run in logs and events."""
        return self._shell.id

    @property
    def version(self) -> int:
        """How many modifications have landed; from any thread."""
        return self._scheduler.version if self._result is None else self._result.version

    @property
    def dag(self) -> DAG:
        """The graph as it is now: a snapshot, which costs time in proportion to the graph."""
        return self._scheduler.dag() if self._result is None else self._result.dag

    def status(self, name: str) -> NodeStatus:
        """Return where a node stands; from any thread.

        Raises `UnknownNodeError`, also for a node that was removed or forgotten.
        """
        if self._result is None:
            status = self._scheduler.statuses().get(name)
        else:
            found = self._result.node_results.get(name)
            status = None if found is None else found.status
        if status is None:
            raise self._unknown(name)
        return status

    def _counts(self) -> Counter[NodeStatus]:
        """Return how many nodes are in each status; those that are forgotten have completed."""
        if self._result is None:
            counts = Counter(self._scheduler.statuses().values())
            counts[COMPLETED] += self._scheduler.forgotten
            return counts
        counts = Counter(node.status for node in self._result.node_results.values())
        counts[COMPLETED] += self._result.forgotten
        return counts

    def to_svg(self, *, fold: int | None = 12) -> str:
        """Return a picture of the run as it is now, with the status of each node; when it has
        ended, of its result: see `ExecutionResult.to_svg`.
        """
        result = self._result
        if result is None:
            known = self._scheduler, self._results, (), None, 0.0, self._tallies, self._times
            result = collect(*known, is_whole=False)
        return result.to_svg(fold=fold)

    def _unknown(self, name: str) -> UnknownNodeError:
        scheduler = self._scheduler
        return unknown_node(name, scheduler.statuses(), forgotten=scheduler.forgotten)

    def explain(self, name: str) -> Explanation:
        """Return why a node is not running, or what it waits for. Raises `UnknownNodeError`."""
        status = self.status(name)
        if status is PENDING:
            return self._explain_pending(name)
        if status is READY or status is RUNNING:
            return self._explain_waiting(name, status)
        reason = None
        if (result := self._results.get(name)) is not None:
            reason = error_text(result.error) if status is FAILED else result.reason
        elif status is CANCELLED:
            reason = self._stream.cancel_reason(name)
        elif (blame := self._scheduler.blame(name)) is not None:
            reason = str(blame)
        word = f"{status.lower()} "
        if reason and reason.startswith(word):
            return Explanation(name, status, f" {reason.removeprefix(word)}")
        return Explanation(name, status, f": {reason}" if reason else "")

    def _explain_pending(self, name: str) -> Explanation:
        waiting_for = tuple(self._scheduler.pending(name))
        text = f": it waits for {shown(waiting_for, 5)}"
        if len(waiting_for) == 1:
            text += f", which is {self._scheduler.status(waiting_for[0])}"
        return Explanation(name, PENDING, text, waiting_for)

    def _explain_waiting(self, name: str, status: NodeStatus) -> Explanation:
        scheduler = self._scheduler
        worker = name in scheduler.on_threads and (status is READY or name in scheduler.resting)
        pool = scheduler.short_of(name, worker)
        if pool is not None:
            text = f": it waits for a slot of {pool.name!r}, which has {pool.size}, all taken"
            return Explanation(name, status, text, limit=pool.name)
        if status is READY:
            return Explanation(name, status, ", and its turn comes at once")
        limit = scheduler.offspring.waiting.get(name)
        note = self._shell.note(name)
        if limit is not None:
            count = len(scheduler.offspring.unfinished[name])
            nodes = (
                "1 node that it added is" if count == 1 else f"{count:,} nodes that it added are"
            )
            text = f": {nodes} unfinished, and it waits for "
            text += "their end" if limit == 1 else f"fewer than {limit:,}"
        elif note is not None and note.pause_until is not None:
            text = f": attempt {note.attempts} failed, and the next {_when(note.pause_until)}"
        elif note is not None and note.lingering is not None:
            text = f": attempt {note.attempts} is out of time, but its thread has not ended"
        elif self._shell.is_being_written(name):
            text = ": it has ended, and that is being written into the journal"
        elif name in scheduler.resting:
            text = ": it waits at a gate"
        else:
            text = ""
        return Explanation(name, status, text)

    def events(self, after: int | None = None) -> EventReader:
        """Return an async iterator of the run's events; it ends after `RunFinished`.

        Any number may read, each at its own pace: none slows the run. Whoever calls this before
        anything has happened, which is at the top of the block, gets everything. Who comes later
        gets everything, too, as long as all of it is kept, which begins with the first reader; else
        a `RunSnapshot` and then everything after it. ``after`` is the ``seq`` of the last event
        that a reader has seen, to go on from there. Some ten thousand events are kept: a reader who
        falls behind those is told by `EventsMissed` which ones are gone, and goes on.

        Raises `TypeError` for an ``after`` that is no int.
        """
        return self._stream.listen(after)

    def completed(self) -> "Completions":
        """Return an async iterator of ``(name, result)``, as an expander gets them, for every node
        that completes, in the order in which they do; those that have completed already come first,
        but for those that are forgotten by now.
        """
        return Completions(self._completed, self._results)

    # -- taking part

    async def wait(self) -> ExecutionResult:
        """Return the result when the run has ended; failed nodes raise nothing.

        Raises the `InternalError` or KeyboardInterrupt by which the run ended, `RunFinishedError`
        if it was cancelled together with its block, and `RuntimeError` in a node of this very run.
        """
        self._check_outside()
        self._check_entered()
        await self._ended.wait()
        if self._error is not None:
            raise self._error
        if self._result is None:
            raise RunFinishedError(
                "the run was cancelled together with its block: it has no result\n"
                "  help: run.cancel(reason) ends a run with a result"
            )
        return self._result

    def _check_outside(self) -> None:
        """Refuse to let a node wait for the run that it is part of."""
        node, run = here(), cast("NodeHost", self._shell)
        while node is not None:
            if node.run is run:
                raise RuntimeError(
                    f"node {node.name!r:.60} cannot wait for the run that it is part of\n"
                    f"  help: make what follows a node that depends on it"
                )
            node = node.run.outer

    def cancel(self, reason: str = "") -> None:
        """End the run as a result: what has not finished is CANCELLED; from any thread.

        The result's ``reason`` holds the one that is given here. A second call changes nothing.
        """
        text = f"the run was cancelled: {reason}" if reason else "the run was cancelled"
        self._soon(partial(self._shell.cancel, text))

    def cancel_node(self, name: str) -> None:
        """Cancel a node that runs or waits; from any thread.

        It ends CANCELLED, and what depends on it is skipped unless a trigger says otherwise; that
        does not make the result less ``ok``. A sync task cannot be stopped: its node ends when it
        returns. A node that has finished or was removed is left alone.

        Raises `UnknownNodeError`, also for a node that was forgotten.
        """
        if not self._scheduler.was_known(name):
            raise self._unknown(name)
        self._soon(partial(self._shell.ask_to_cancel_node, name, Blame(Why.OUTSIDE)))

    def _soon(self, change: Callable[[], None]) -> None:
        """Make a change now, or soon where this is another thread than the event loop's."""
        if self._thread is None or get_ident() == self._thread:
            change()
            return
        try:
            self._call_soon(change)
        except RuntimeError:  # the event loop is gone, and the run with it
            return

    async def modify(
        self, modification: DynamicModification, *, expected_version: int | None = None
    ) -> int:
        """Land a modification from outside and return the version of the graph that it makes.

        It lands whole, before this returns, or not at all. With ``expected_version`` it is refused
        unless `version` is still that number: nobody has changed the graph since you looked.

        Raises `ModificationError`, which fails no node, and `RunFinishedError` when the last node
        has ended: the run does not stay open.
        """
        if not isinstance(modification, DynamicModification):
            raise TypeError(
                f"a modification is a dagron.DynamicModification, not {type(modification).__name__}"
                f"\n  help: write dagron.DynamicModification(add_nodes=[...])"
            )
        self._check_entered()
        await checkpoint_if_cancelled()
        if self._shell.is_over or self._shell.is_ending:
            raise RunFinishedError(
                "the run has ended, or is about to: nothing was changed\n"
                "  help: a node that waits, at a dagron.Gate say, keeps a run open"
            )
        return await self._shell.modify(modification, expected_version)

    def _check_entered(self) -> None:
        if self._thread is None:
            raise RuntimeError(
                "the run has not begun\n  help: write async with executor.start(tasks) as run:"
            )

    def __repr__(self) -> str:
        counts = self._counts()
        done = counts.total() - sum(counts[status] for status in UNDONE)
        return f"<Run {self.id}: {done:,} of {counts.total():,} nodes done>"


def _when(due: float) -> str:
    try:
        return f"is in {shown_seconds(max(due - current_time(), 0.0))}"
    except RuntimeError:  # only tasks of the event loop can read its clock
        return "follows"


def killed(run_id: str) -> RunFailedError:
    return RunFailedError(
        f"the task of run {run_id} was cancelled from outside: not all nodes have run\n"
        f"  help: cancel the task that entered the block, or call run.cancel(), not all tasks"
    )


class _Cell:
    """A node that has completed, and the cell of the next one, when there is one."""

    __slots__ = ("name", "next", "value")

    name: str
    value: Any
    next: "_Cell | None"


class _Completed:
    """The nodes that have completed, in order, for any number of readers.

    What was forgotten stays alive only as long as a reader has not come by: the cells are linked
    from each one to the next, and each reader holds the one where it stands.
    """

    __slots__ = ("_news", "end_cell", "is_over", "kept")

    def __init__(self) -> None:
        self.kept: dict[str, None] = {}  # those of which there is a record
        self.end_cell = _Cell()  # empty, until a node completes
        self.end_cell.next = None
        self.is_over = False
        self._news = Signal()

    def add(self, name: str, value: Any) -> None:
        cell, self.end_cell = self.end_cell, _Cell()
        self.end_cell.next = None
        cell.name, cell.value, cell.next = name, value, self.end_cell
        self.kept[name] = None
        self._news.set()

    def forget(self, name: str) -> None:
        self.kept.pop(name, None)

    def end(self) -> None:
        self.is_over = True
        self._news.set()

    async def changed(self) -> None:
        """Return when there is more than at the call."""
        self._news = self._news if not self._news.is_set() else Signal()
        await self._news.wait()


class Completions:
    """An async iterator of ``(name, result)``: see `Run.completed`."""

    __slots__ = ("_cell", "_completed", "_earlier", "_results")

    def __init__(self, completed: _Completed, results: Mapping[str, NodeResult]) -> None:
        self._completed = completed
        self._results = results
        self._earlier = deque(results[name] for name in completed.kept)
        self._cell = completed.end_cell

    def __aiter__(self) -> "Completions":
        return self

    async def __anext__(self) -> tuple[str, Any]:
        if self._earlier:
            result = self._earlier.popleft()
            return result.name, await _fetched(result.name, result.result, self._results)
        while self._cell.next is None:
            if self._completed.is_over:
                raise StopAsyncIteration
            await self._completed.changed()
        cell, self._cell = self._cell, self._cell.next
        return cell.name, await _fetched(cell.name, cell.value, self._results)


async def _fetched(name: str, value: Any, results: Mapping[str, NodeResult]) -> Any:
    """Return the value of a result that stays with its runner; others as they are."""
    if not isinstance(value, Result):
        return value
    try:
        if _is_here(name, results):
            return results[name].result
        (fetched,) = await value.runner.fetch([value])
    except Exception:  # the run may have ended meanwhile: then it has brought the value here
        if not _is_here(name, results):
            raise
        return results[name].result
    if isinstance(fetched, Lost):
        raise fetched.error
    return fetched


def _is_here(name: str, results: Mapping[str, NodeResult]) -> bool:
    record = results.get(name)
    return record is not None and not isinstance(record.result, Result)
