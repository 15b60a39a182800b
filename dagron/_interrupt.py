"""Ctrl-C in a script: the first one cancels the run, the second gives up waiting for threads."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol


class Interruptible(Protocol):
    """What a signal handler may do to a run, at any moment; the loop carries it out soon after."""

    @property
    def interrupted(self) -> bool:
        """Whether the loop has come round to carrying out the first interrupt."""

    def interrupt_soon(self) -> None: ...
    def abandon_threads_soon(self) -> None: ...


class Interrupts:
    """Counts the SIGINTs of one blocking run and passes them on."""

    def __init__(self) -> None:
        self._count = 0
        self.run: Interruptible | None = None  # from when the run has begun until it has ended

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        self._count += 1
        if self.run is not None and self._count == 1:
            self.run.interrupt_soon()
        elif self.run is not None and self._count == 2 and self.run.interrupted:
            self.run.abandon_threads_soon()
        else:  # before or after the run, or an async node blocks the loop: here and now
            raise KeyboardInterrupt


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
