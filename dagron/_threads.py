"""One call of a sync callable in a worker thread."""

from collections.abc import Callable
from threading import Lock
from time import perf_counter
from typing import Any

from anyio import CancelScope, CapacityLimiter, Event, to_thread
from anyio.lowlevel import checkpoint

from dagron._backend import Host


class ThreadCall:
    """A call in a worker thread, whose outcome is boxed and whose end is known.

    A thread cannot be stopped. So a cancellation waits until the thread has ended, however it came
    about, and is delivered then; only `abandon` gives the thread up.

    The box matters: no exception of the callable passes through a future, which would refuse a
    StopIteration, and no coroutine that it returns passes through trio, which would refuse that.
    """

    __slots__ = (
        "_arguments",
        "_claim",
        "_ended",
        "_function",
        "_host",
        "_keywords",
        "_on_end",
        "_scope",
        "error",
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
        self._on_end: Callable[[], object] | None = None
        self._scope = CancelScope(shield=True)
        self.value: Any = None
        self.error: BaseException | None = None
        self.seconds = 0.0  # in the callable itself

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
        if self._on_end is not None:  # set before _ended was read false: see _outlast
            self._on_end()

    async def run(self, limiter: CapacityLimiter) -> None:
        """Run the call in a thread; return, or let a cancellation pass, after the thread's end."""
        with self._scope:
            try:
                await to_thread.run_sync(self, abandon_on_cancel=True, limiter=limiter)
            except self._host.cancelled_class:
                # The scope is shielded: this is Task.cancel() on this very task, or an abandon().
                if not self._claim.acquire(blocking=False):
                    await self._outlast()
                raise
        if not self._ended:  # abandoned, which happens only to a run that is being cancelled
            await checkpoint()

    async def _outlast(self) -> None:
        """Wait until the thread has ended or is abandoned, whatever else is thrown in."""
        end = Event()

        def report() -> None:
            try:
                self._host.call_soon(end.set)
            except RuntimeError:  # the loop has closed: the thread was abandoned long ago
                return

        self._on_end = report
        while not (self._ended or self._scope.cancel_called):
            try:
                await end.wait()
            except self._host.cancelled_class:
                continue

    def abandon(self) -> None:
        """Stop waiting: the thread ends by itself, and what it returns is dropped."""
        self._scope.cancel()
