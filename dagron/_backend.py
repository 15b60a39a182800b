"""What differs between asyncio and trio, and anyio does not hide: three questions to the loop."""

from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from math import inf
from typing import Any

from anyio import current_effective_deadline, get_cancelled_exc_class
from anyio.lowlevel import checkpoint, current_token


class Host:
    """The task that awaits a run, and the event loop that it runs on; make it in that task."""

    __slots__ = (
        "_cancelling",
        "_cancelling_before",
        "abandonable",
        "call_soon",
        "cancelled_class",
        "current_task",
    )

    cancelled_class: type[BaseException]
    call_soon: Callable[..., object]  # from any thread, also from a signal handler
    abandonable: bool  # whether worker threads are called so that they can be given up
    current_task: Callable[[], Any] | None  # where tasks have a cancel() that respects no scope

    def __init__(self) -> None:
        self.cancelled_class = get_cancelled_exc_class()
        loop: Any = current_token().native_token
        if hasattr(loop, "call_soon_threadsafe"):
            import asyncio  # loaded by whoever runs this loop

            task = asyncio.current_task()
            assert task is not None, "a run is awaited in a task"
            self._cancelling: Callable[[], int] = task.cancelling
            self.current_task = partial(asyncio.current_task, loop)  # 3.11 is slow to find it
            self.abandonable = True
        else:  # trio knows only cancel scopes
            self._cancelling = int
            self.current_task = None
            # What an abandonable thread calls in the loop, trio runs in a system task, which no
            # cancellation of the run would reach: only where a second Ctrl-C may give threads up.
            self.abandonable = False
        self.call_soon = loop_caller()
        self._cancelling_before = self._cancelling()

    def is_cancelling(self) -> bool:
        """Tell whether a cancellation that reaches the current task is the run's or its caller's.

        Either a cancel scope around the current task has been cancelled, or the host task has been
        by ``Task.cancel()``, which shows in no scope until the host has noticed. Anything else is
        some library's own affair that escaped it.
        """
        return current_effective_deadline() == -inf or self._cancelling() > self._cancelling_before

    async def absorb_cancellation(self) -> None:
        """Let a task on which somebody called ``Task.cancel()``, itself say, end like any other.

        A task that ends with such a request on it ends cancelled, and an anyio task group on
        asyncio takes that as a reason to cancel all the others.
        """
        if self.current_task is not None and self.current_task().cancelling():
            try:
                await checkpoint()
            except self.cancelled_class:
                return


def loop_caller() -> Callable[..., object]:
    """Return what calls a function soon in the current event loop, from any thread.

    In a context of the loop's own: in that of a worker thread, anyio would not find the loop.
    """
    loop: Any = current_token().native_token
    if hasattr(loop, "call_soon_threadsafe"):
        return partial(loop.call_soon_threadsafe, context=copy_context())
    run_sync_soon: Callable[..., object] = loop.run_sync_soon
    return run_sync_soon
