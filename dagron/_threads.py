"""One call of a sync callable in a worker thread."""

from collections.abc import Callable
from threading import Lock
from time import perf_counter
from typing import Any

from anyio import CancelScope, CapacityLimiter, Event, to_thread

from dagron._backend import Host


class ThreadCall:
    """A call in a worker thread, whose outcome is boxed and whose end is known.

    A thread cannot be stopped. So a cancellation waits until the thread has ended, however it came
    about; only `abandon` gives the thread up.

    The box matters: no exception of the callable passes through a future, which would refuse a
    StopIteration, and no coroutine that it returns passes through trio, which would refuse that.
    """

    __slots__ = (
        "_abandoned",
        "_arguments",
        "_claim",
        "_end",
        "_ended",
        "_function",
        "_host",
        "_keywords",
        "error",
        "forbidden",
        "seconds",
        "value",
    )

    def __init__(
        self, host: Host, function: Callable[..., Any], *arguments: Any, **keywords: Any
    ) -> None:
        self._host = host
        self._function = function
        self._arguments = arguments
        self._keywords = keywords
        self._claim = Lock()  # taken once: by the thread that starts, or by who forbids it to
        self._ended = False
        self._abandoned = False
        self._end: Event | None = None  # somebody waits for the end
        self.value: Any = None
        self.error: BaseException | None = None
        self.seconds = 0.0  # in the callable itself
        self.forbidden = False  # it was never called, and will not be

    def __call__(self) -> None:
        """Call the callable; this is what the worker thread runs."""
        if not self._claim.acquire(blocking=False):
            return
        began = perf_counter()
        try:
            self.value = self._function(*self._arguments, **self._keywords)
        except BaseException as error:
            self.error = error
        self.seconds = perf_counter() - began
        self._ended = True
        if self._end is not None:  # it was set before _ended was read as false: see _outlast
            try:
                self._host.call_soon(self._end.set)
            except RuntimeError:  # the loop is gone: the thread was abandoned long ago
                return

    async def run(self, limiter: CapacityLimiter) -> None:
        """Run the call in a thread; return, or let a cancellation pass, after the thread's end.

        When the run is cancelled meanwhile, this returns if the thread ends: its work is done and
        counts, and the cancellation comes again at the next checkpoint.
        """
        try:
            await to_thread.run_sync(
                self, abandon_on_cancel=self._host.abandonable, limiter=limiter
            )
        except self._host.cancelled_class:
            if self._claim.acquire(blocking=False):  # the thread had not begun, and now it cannot
                self.forbidden = True
                raise
            await self._outlast()
            if not (self._ended and self._host.is_cancelling()):
                raise

    async def _outlast(self) -> None:
        """Wait until the thread has ended or is abandoned."""
        self._end = end = Event()
        with CancelScope(shield=True):
            while not (self._ended or self._abandoned):
                try:
                    await end.wait()
                except self._host.cancelled_class:  # Task.cancel() does not respect the shield
                    continue

    def abandon(self) -> None:
        """Stop waiting: the thread ends by itself, and what it returns is dropped."""
        self._abandoned = True
        if self._end is not None:
            self._end.set()
