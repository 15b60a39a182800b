"""Calls of sync callables in worker threads."""

from collections.abc import Callable, Mapping, Sequence
from math import inf
from threading import Lock
from time import perf_counter
from types import CoroutineType
from typing import Any

from anyio import CancelScope, CapacityLimiter, Event, to_thread

from dagron._backend import Host
from dagron._calls import is_awaitable


class Boxed(Exception):
    """Carries what a sync callable raised through coroutines, which refuse a StopIteration."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Call:
    """A call in a thread, and what came of it."""

    __slots__ = ("error", "is_awaitable", "seconds", "value")

    def __init__(self) -> None:
        self.value: Any = None
        self.is_awaitable = False  # what it returned is to be awaited
        self.error: BaseException | None = None
        self.seconds = 0.0  # in the callable itself

    def perform(
        self, function: Callable[..., Any], arguments: Sequence[Any], keywords: Mapping[str, Any]
    ) -> None:
        """Call this, and keep what it returns or raises."""
        began = perf_counter()
        try:
            self.value = value = function(*arguments, **keywords)
            self.is_awaitable = is_awaitable(value)  # which asks a class of the user's
        except BaseException as error:
            self.error = error
        self.seconds = perf_counter() - began

    def drop(self) -> None:
        """Drop what came of a call for which nobody waits."""
        if isinstance(self.value, CoroutineType):
            self.value.close()
        self.value = self.error = None

    def raise_error(self) -> None:
        """Raise what was raised, if anything was."""
        if isinstance(self.error, StopIteration):
            raise Boxed(self.error)
        if self.error is not None:
            raise self.error


class ThreadCall(Call):
    """A call in a worker thread, whose outcome is boxed and whose end is known.

    A thread cannot be stopped. So a cancellation waits until the thread has ended, however it came
    about; only `abandon`, and the deadline of the call, give the thread up.

    The box matters: no exception of the callable passes through a future, which would refuse a
    StopIteration, and no coroutine that it returns passes through trio, which would refuse that.
    """

    __slots__ = (
        "_abandoned",
        "_arguments",
        "_claim",
        "_end",
        "_ended",
        "_ending",
        "_function",
        "_host",
        "_keywords",
        "_then",
        "forbidden",
        "timed_out",
    )

    def __init__(
        self, host: Host, function: Callable[..., Any], *arguments: Any, **keywords: Any
    ) -> None:
        super().__init__()
        self._host = host
        self._function = function
        self._arguments = arguments
        self._keywords = keywords
        self._claim = Lock()  # taken once: by the thread that starts, or by who forbids it to
        self._ending = Lock()  # between the thread's last step and who asks to hear of it
        self._ended = False
        self._abandoned = False
        self._end: Event | None = None  # somebody waits for the end
        self._then: Callable[[], object] | None = None  # to be called in the loop after the end
        self.forbidden = False  # it was never called, and will not be
        self.timed_out = False  # the deadline came before the end

    def __call__(self) -> None:
        """Call the callable; this is what the worker thread runs."""
        if not self._claim.acquire(blocking=False):
            return
        self.perform(self._function, self._arguments, self._keywords)
        with self._ending:
            self._ended = True
            then, is_given_up = self._then, self._abandoned
        if is_given_up:
            self.drop()
        try:
            if self._end is not None:
                self._host.call_soon(self._end.set)
            if then is not None:
                self._host.call_soon(then)
        except RuntimeError:  # the loop is gone: the thread was given up long ago
            if then is not None:
                then()

    @property
    def is_given_up(self) -> bool:
        """Whether nobody waits for this any longer."""
        return self._abandoned

    @property
    def lingers(self) -> bool:
        """Whether the thread goes on, although nobody waits for what it returns."""
        return self._abandoned and not self._ended and not self.forbidden

    def when_ended(self, then: Callable[[], object]) -> None:
        """Call this in the event loop when the thread has ended; where that is gone, in the thread.

        The thread must not have ended yet, as far as the loop knows.
        """
        with self._ending:
            self._then = then
            if not self._ended:
                return
        then()

    async def run(
        self, limiter: CapacityLimiter, deadline: float = inf, *, abandonable: bool = False
    ) -> None:
        """Run the call in a thread; return, or let a cancellation pass, after the thread's end.

        When the run is cancelled meanwhile, this returns if the thread ends: its work is done and
        counts, and the cancellation comes again at the next checkpoint. At the deadline, by the
        loop's clock, the thread is given up: then ``timed_out`` is set. ``abandonable`` says that
        it may be given up before its end although it has no deadline.
        """
        try:
            if deadline == inf:
                abandonable = abandonable or self._host.abandonable
                await to_thread.run_sync(self, abandon_on_cancel=abandonable, limiter=limiter)
            else:
                with CancelScope(deadline=deadline) as scope:
                    await to_thread.run_sync(self, abandon_on_cancel=True, limiter=limiter)
                if scope.cancelled_caught:
                    self._give_up()
        except self._host.cancelled_class:
            if self.forbid():
                raise
            await self.outlast(deadline)
            if not (self._ended and self._host.is_cancelling()):
                raise

    def forbid(self) -> bool:
        """Tell whether the thread had not begun: then it cannot any more."""
        if not self._claim.acquire(blocking=False):
            return False
        self.forbidden = True
        return True

    def _give_up(self) -> None:
        """Stop waiting for a thread that is out of time, unless it has just ended."""
        self.forbid()
        with self._ending:
            self.timed_out = self._abandoned = not self._ended

    async def outlast(self, deadline: float = inf) -> None:
        """Wait, whatever comes, until the thread has ended, is abandoned, or out of time."""
        self._end = end = Event()
        try:
            with CancelScope(shield=True, deadline=deadline) as scope:
                while not (self._ended or self._abandoned):
                    try:
                        await end.wait()
                    except self._host.cancelled_class:
                        if scope.cancel_called:
                            raise
                        continue  # Task.cancel() does not respect the shield
        finally:
            if scope.cancel_called:
                self._give_up()

    async def wait(self) -> None:
        """Wait until a thread that lingers has ended."""
        self._end = end = Event()
        if not self._ended:
            await end.wait()

    def abandon(self) -> None:
        """Stop waiting: the thread ends by itself, and what it returns is dropped."""
        self._abandoned = True
        if self._end is not None:
            self._end.set()


def unboxed(error: BaseException) -> BaseException:
    """Return what was raised in the first place."""
    return error.error if type(error) is Boxed else error
