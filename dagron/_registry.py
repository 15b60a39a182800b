"""RunRegistry: runs that outlive the call that started them, and end with the program's block."""

from collections.abc import Iterable, Iterator, Mapping
from contextvars import copy_context
from inspect import CORO_CREATED, getcoroutinestate
from math import inf
from threading import get_ident
from types import TracebackType
from typing import Any

from anyio import (
    CancelScope,
    TaskHandle,
    create_task_group,
    current_time,
    get_cancelled_exc_class,
    get_current_task,
)
from anyio import Event as Signal
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from dagron._backend import loop_caller
from dagron._checks import counted, seconds, within
from dagron._current import current_node
from dagron._errors import (
    RegistryClosedError,
    RegistryFullError,
    RunFailedError,
    UnknownRunError,
)
from dagron._logs import ERROR, INFO, log
from dagron._names import shown_seconds
from dagron._registered import Audience, RegisteredRun, unresolved
from dagron._run import Run
from dagron._signals import Heard

REMEMBERED = 10_000  # ids of runs that were forgotten
AGAIN = 1.0  # seconds until threads are given up again: of nested runs that heard of it only then


class RunRegistry(Mapping[str, RegisteredRun]):
    """Owns runs that go on in the background: ``async with dagron.RunRegistry() as runs:``.

    It is for the lifespan of a service. ``runs.start(executor.start(tasks))`` begins a run that
    does not depend on the request that asked for it; ``runs[id]`` finds it again, from `start`
    until it is forgotten: as a mapping of ids to `RegisteredRun`, in the order of their starts.

    Leaving the block closes it: new runs are refused, all that `RegisteredRun.events` and ``sse``
    gave end, and the runs get ``grace`` seconds to end by themselves (None: as long as they take).
    What is left is cancelled, as a result; worker threads that block on get ``thread_grace``
    seconds more, and are then given up: they end by themselves, and what they return is dropped.
    (None: they are waited for. On trio, since they may be given up, what such a thread calls in the
    event loop is not cancelled with its node. On asyncio, Python itself waits for them when the
    program ends: one that is not to wait calls ``os._exit`` behind the event loop.) Leaving the
    block by an exception, or being cancelled in it, cancels all runs at once. In any case every run
    has ended then, and has a result or an error.

    ``close_on`` names signals at which it begins to close, like `close_soon`, before their handlers
    are called: web servers that wait for connections before they leave the block would wait for
    event streams. It has an effect in the main thread, and puts the handlers back at the end.

    ``max_running`` bounds the runs that have not ended: `start` refuses more. Of those that have,
    the last ``keep`` are kept, for ``keep_for`` seconds (None: no bound), with their results.

    Raises `TypeError` or `ValueError` that name the parameter and the value.
    """

    def __init__(
        self,
        *,
        max_running: int | None = None,
        keep: int = 1_000,
        keep_for: float | None = 3_600.0,
        grace: float | None = 10.0,
        thread_grace: float | None = 5.0,
        close_on: Iterable[int] = (),
    ) -> None:
        self._max_running = None if max_running is None else counted("max_running", max_running)
        self._keep = counted("keep", keep, 0)
        self._keep_for = seconds("keep_for", keep_for)
        self._grace = inf if grace is None else within("grace", grace, 0)
        self._thread_grace = None
        if thread_grace is not None:
            self._thread_grace = within("thread_grace", thread_grace, 0)
        self._signals = Heard(close_on, self.close_soon)
        self._runs: dict[str, RegisteredRun] = {}
        self._running: dict[str, TaskHandle[None]] = {}
        self._ended: dict[str, float] = {}  # when, on the loop's clock; the oldest first
        self._forgotten: dict[str, None] = {}
        self._audience = Audience()
        self._thread: int | None = None  # of the event loop, from when the block is entered
        self._is_closing = False
        self._cut: str | None = None  # why all runs are cancelled
        self._interrupt: KeyboardInterrupt | None = None

    # -- the block

    async def __aenter__(self) -> "RunRegistry":
        if self._thread is not None:
            raise RuntimeError(
                "a registry is entered once\n  help: make a dagron.RunRegistry for every block"
            )
        self._thread = get_ident()
        self._call_soon = loop_caller()
        self._news = Signal()
        self._over = Signal()
        self._task = get_current_task().id
        self._signals.listen()
        self._group = create_task_group()
        await self._group.__aenter__()
        self._group.start_soon(self._tend, name="dagron registry")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._is_closing = True
        is_cancellation = isinstance(error, get_cancelled_exc_class())
        is_normal = error is None
        if is_cancellation:
            self._cut = self._cut or "its registry was cancelled"
        elif error is not None:
            self._cut = f"the block of its registry was left by {type(error).__name__}"
            # The group only waits: it would put the block's exception into a group of exceptions.
            kind = error = traceback = None
        self._news.set()
        swallowed: bool | None = False
        try:
            if get_current_task().id == self._task:
                swallowed = await self._group.__aexit__(kind, error, traceback)
            else:
                await self._outlast_elsewhere()
        finally:
            self._signals.stop()
        if self._interrupt is not None:
            raise self._interrupt from None
        if swallowed and is_cancellation:
            raise RunFailedError(
                "a task of the registry was cancelled from outside: all its runs were ended\n"
                "  help: cancel a run by its .cancel(reason), not all tasks of the event loop"
            )
        if is_normal:
            await checkpoint_if_cancelled()  # the registry's own task took it for itself
        return False

    async def _outlast_elsewhere(self) -> None:
        """Wait for the end in another task than that of the group, which cannot be left here.

        Test tools of web frameworks do so: one task for their set-up, one for their tear-down. The
        group is empty then, and nothing is left of it.
        """
        cancellation: BaseException | None = None
        while not self._over.is_set():
            try:
                with CancelScope(shield=cancellation is not None):
                    await self._over.wait()
            except get_cancelled_exc_class() as error:
                cancellation = error
                self._cut = self._cut or "its registry was cancelled"
                self._news.set()
        if cancellation is not None:
            raise cancellation

    # -- runs

    def start(self, run: Run, *, data: Any = None) -> RegisteredRun:
        """Begin a run in the background, and return it with its id, at once.

        ``run`` is what ``executor.start(tasks)`` gives, and not entered. ``data`` is yours: it is
        kept as long as the run is. The run's tasks see the context variables of this call.

        Raises `RegistryFullError` if ``max_running`` runs have not ended, `RegistryClosedError`
        outside the block and when that is being left, and `RuntimeError` in another thread than
        the event loop's, for a run that was begun before, and if there is one of its id here, going
        on or ended: see `forget`.
        """
        self._check_start(run)
        if self._thread_grace is not None:
            run._shell.let_threads_be_abandoned()
        registered = RegisteredRun(run, data, self._audience)
        self._runs[run.id] = registered
        context = copy_context()
        context.run(current_node.set, None)  # a run that a node starts here is no part of it
        hosting = self._host(registered)
        name = f"dagron registered run {run.id}"
        self._running[run.id] = self._group.create_task(hosting, name=name, context=context)
        return registered

    def _check_start(self, run: Run) -> None:
        if not isinstance(run, Run):
            raise TypeError(
                f"a run is what executor.start(tasks) gives, not {type(run).__name__}: {run!r:.60}"
                f"\n  help: write runs.start(executor.start(tasks))"
            )
        if self._thread is None:
            raise RegistryClosedError(
                "the registry is not open yet\n"
                "  help: write async with dagron.RunRegistry() as runs:"
            )
        if self._thread != get_ident():
            raise RuntimeError(
                "a run is started in the event loop's thread, not in another one\n"
                "  help: make the handler that starts it an async def"
            )
        if self._is_closing:
            raise RegistryClosedError(
                "the registry is closing: it takes no new runs\n"
                "  help: answer with status 503; the client may try again elsewhere, or later"
            )
        if self._max_running is not None and len(self._running) >= self._max_running:
            raise RegistryFullError(
                f"the registry is full: {len(self._running):,} runs have not ended, "
                f"and it takes {self._max_running:,}\n"
                f"  help: answer with status 503, or make the registry with a larger max_running",
                self._max_running,
            )
        other = self._runs.get(run.id)
        if run._thread is not None or (other is not None and other.run is run):
            raise RuntimeError(
                "a run is started once\n  help: call executor.start(tasks) for every run"
            )
        if other is not None:
            id = f"{run.id!r:.60}"
            raise RuntimeError(
                f"run {id} has not ended: the registry has one of each id\n"
                f"  help: look it up by runs[{id}], or await runs[{id}].wait()"
                if run.id in self._running
                else f"run {id} has ended and is kept: the registry has one of each id\n"
                f"  help: call runs.forget({id}), then start it"
            )

    async def _host(self, registered: RegisteredRun) -> None:
        """Run one run. Nothing but the registry itself cancels it, and it ends with a result."""
        run = registered.run
        error: BaseException | None = None
        try:
            with CancelScope(shield=True):
                async with run:
                    pass
        except KeyboardInterrupt as interrupt:
            error = interrupt
            self._be_interrupted(interrupt)
        except get_cancelled_exc_class():
            pass
        except BaseException as failure:  # whatever it is, it is the end of this run alone
            error = failure
            log(ERROR, run.id, None, "run %s ended by an error", run.id, error=failure)
        if run._result is None and error is None:
            error = unresolved(run.id)
        self._end(registered, error)

    def _end(self, registered: RegisteredRun, error: BaseException | None) -> None:
        registered.end(None if error else registered.run._result, error)
        del self._running[registered.id]
        self._ended[registered.id] = current_time()
        self._news.set()

    def _be_interrupted(self, interrupt: KeyboardInterrupt) -> None:
        self._interrupt = self._interrupt or interrupt
        self._is_closing = True
        self._cut = self._cut or "its registry was interrupted"
        self._group.cancel_scope.cancel()

    # -- looking up and forgetting

    def __getitem__(self, id: str) -> RegisteredRun:
        """Return the run of this id; raises `UnknownRunError`, also for one that is forgotten."""
        registered = self._runs.get(id)
        if registered is None:
            raise self._unknown(id)
        return registered

    def _unknown(self, id: object) -> UnknownRunError:
        was_forgotten = id in self._forgotten
        what = "was forgotten" if was_forgotten else "is not known"
        bounds = f"the last {self._keep:,} that have ended are kept"
        if self._keep_for is not None:
            bounds += f", for {shown_seconds(self._keep_for)}"
        return UnknownRunError(
            f"run {id!r:.60} {what} here\n"
            f"  help: {bounds}: answer with status {410 if was_forgotten else 404}",
            str(id),
            was_forgotten,
        )

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._runs))

    def __len__(self) -> int:
        return len(self._runs)

    def __contains__(self, id: object) -> bool:
        return id in self._runs

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    @property
    def running(self) -> tuple[RegisteredRun, ...]:
        """The runs that have not ended."""
        return tuple(self._runs[id] for id in list(self._running))

    @property
    def is_closing(self) -> bool:
        """Whether no new runs are taken: the block is being left, or has been."""
        return self._is_closing

    def forget(self, id: str) -> None:
        """Let go of a run that has ended.

        Raises `UnknownRunError`, and `RuntimeError` if it has not ended.
        """
        registered = self[id]
        if id in self._running:
            raise RuntimeError(
                f"run {id} has not ended: it cannot be forgotten\n"
                f"  help: call runs[id].cancel(reason), and await runs[id].wait()"
            )
        self._forget(registered.id)

    def _forget(self, id: str) -> None:
        del self._runs[id]
        self._ended.pop(id, None)
        self._forgotten[id] = None
        if len(self._forgotten) > REMEMBERED:
            del self._forgotten[next(iter(self._forgotten))]

    def _forget_spare(self) -> float:
        """Forget what is not to be kept any longer; return when, by the clock, there is more."""
        while len(self._ended) > self._keep:
            self._forget(next(iter(self._ended)))
        if self._keep_for is None:
            return inf
        now = current_time()
        for id, ended_at in list(self._ended.items()):
            if ended_at + self._keep_for > now:
                return ended_at + self._keep_for
            self._forget(id)
        return inf

    # -- the end

    def close_soon(self) -> None:
        """Begin to close and return at once: event streams end, and the grace begins; the block
        goes on. A second call changes nothing; from any thread, and from a signal handler.
        """
        self._is_closing = True
        if self._thread is None:
            return
        try:
            self._call_soon(self._news_is_there)
        except RuntimeError:  # the event loop is gone, and the registry with it
            return

    def _news_is_there(self) -> None:
        self._news.set()

    async def _tend(self) -> None:
        """Forget runs in time, then close: this is the registry's own task, and the last to end."""
        try:
            while not self._is_closing:
                await self._hear(self._forget_spare())
            self._audience.leave()
            await self._let_end()
        except get_cancelled_exc_class():
            self._is_closing = True
            self._cut = self._cut or "its registry was cancelled"
        self._audience.leave()
        due = inf if self._thread_grace is None else current_time() + self._thread_grace
        while self._running:
            try:
                with CancelScope(shield=True):
                    await self._end_all(due)
            except get_cancelled_exc_class():  # Task.cancel() does not respect the shield
                continue
        self._over.set()

    async def _hear(self, deadline: float = inf) -> None:
        """Return when something has happened, or at the deadline."""
        self._news = Signal()
        with CancelScope(deadline=deadline):
            await self._news.wait()

    async def _let_end(self) -> None:
        """Give the runs time to end by themselves."""
        deadline = current_time() + self._grace
        if self._running:
            span = "any time" if self._grace == inf else shown_seconds(self._grace)
            message = "the registry closes: %s runs have %s to end by themselves"
            log(INFO, "", None, message, len(self._running), span)
        while self._running and self._cut is None and current_time() < deadline:
            await self._hear(deadline)

    async def _end_all(self, due: float) -> None:
        """Cancel all runs, and wait for their ends; when it is due, give up their threads."""
        reason = self._cut or f"its registry was closed, and {shown_seconds(self._grace)} were over"
        for registered in self.running:
            registered.cancel(reason)
        await checkpoint()
        for id, handle in list(self._running.items()):
            if getcoroutinestate(handle.coro) == CORO_CREATED:
                handle.coro.close()  # killed before its first step: nobody else could see that
                self._end(self._runs[id], unresolved(id))
        while self._running:
            await self._hear(due)
            if self._running and current_time() >= due:
                due = current_time() + AGAIN
                for registered in self.running:
                    registered.run._shell.abandon_threads_soon()

    def __repr__(self) -> str:
        if self._thread is None:
            state = "not open yet"
        elif self._over.is_set():
            state = "closed"
        else:
            state = "closing" if self._is_closing else "open"
        kept = len(self._runs) - len(self._running)
        return f"<RunRegistry, {state}: {len(self._running):,} running, {kept:,} ended and kept>"
