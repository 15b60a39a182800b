"""Ctrl-C in a script: the first one cancels the run, the second gives up waiting for threads."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

NODE_FRAME = "_run_node"  # of dagron._shell: it catches what it calls may raise


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
    looks at ``count`` when the loop is done. It raises into an async node that blocks the loop,
    from the second on if the node has been blocking since before the first, and from the third on
    in any case. The fifth is raised wherever it finds the program, which is then beyond help.
    """

    def __init__(self) -> None:
        self.count = 0
        self.installed = False
        self.run: Interruptible | None = None  # from when the run has begun until it has ended

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.run is not None:
            if self.count == 1:
                self.run.interrupt_soon()
            else:
                self.run.abandon_threads_soon()
        is_stuck = self.run is None or not self.run.interrupted or self.count > 2
        if self.count > 4 or (self.count > 1 and is_stuck and _is_in_node(frame)):
            raise KeyboardInterrupt


def _is_in_node(frame: FrameType | None) -> bool:
    """Tell whether the frame is code that a node called, and not our own."""
    if frame is not None and _is_ours(frame):
        return False
    while frame is not None:
        if frame.f_code.co_name == NODE_FRAME and _is_ours(frame):
            return True
        frame = frame.f_back
    return False


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith("dagron.")


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
    handler.installed = True
    try:
        yield handler
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
