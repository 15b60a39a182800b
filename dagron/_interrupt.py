"""Ctrl-C in a script: the first one cancels the run, the second gives up waiting for threads."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

NODE_FRAME = "_run_node"  # of dagron._run: it catches what it calls may raise


class Interruptible(Protocol):
    """What a signal handler may do to a run, at any moment; the loop carries it out soon after."""

    @property
    def interrupted(self) -> bool:
        """Whether the loop has come round to carrying out the first interrupt."""

    def interrupt_soon(self) -> None: ...
    def abandon_threads_soon(self) -> None: ...


class Interrupts:
    """Counts the SIGINTs during one blocking run, and passes them on.

    It raises nothing into the event loop's own code, which could not bear it: who made the loop
    looks at ``count`` when the loop is done. The second is raised in an async node that has been
    blocking the loop since before the first, and the third wherever it finds the program.
    """

    def __init__(self) -> None:
        self.count = 0
        self.run: Interruptible | None = None  # from when the run has begun until it has ended

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.run is not None:
            if self.count == 1:
                self.run.interrupt_soon()
            else:
                self.run.abandon_threads_soon()
        if self.count > 2 or (self.count == 2 and self._is_blocked(frame)):
            raise KeyboardInterrupt

    def _is_blocked(self, frame: FrameType | None) -> bool:
        return self.run is not None and not self.run.interrupted and _is_in_node(frame)


def _is_in_node(frame: FrameType | None) -> bool:
    """Tell whether the frame was called, directly or not, by the code of a node."""
    while frame is not None:
        if frame.f_code.co_name == NODE_FRAME and frame.f_globals.get("__name__") == "dagron._run":
            return True
        frame = frame.f_back
    return False


@contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Handle SIGINT inside the block, on the main thread, unless the program does so itself."""
    handler = Interrupts()
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield handler
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield handler
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
