"""Signals that are heard before whoever handles them: a web server, say."""

import signal
import threading
from collections.abc import Callable, Iterable
from types import FrameType
from typing import TYPE_CHECKING, Any

from anyio.lowlevel import current_token

if TYPE_CHECKING:
    from socket import socket


class Heard:
    """Calls a function at signals, then the handler that there was before."""

    def __init__(self, signals: Iterable[int], then: Callable[[], object]) -> None:
        self._signals = tuple(map(_checked, signals))
        self._then = then
        self._before: dict[int, Any] = {}
        self._waker: _Waker | None = None

    def listen(self) -> None:
        """Begin; nothing in another thread than the main one, where no signal is handled."""
        if threading.current_thread() is threading.main_thread():
            for signum in self._signals:
                self._before[signum] = signal.signal(signum, self._hear)
            if self._before:
                self._waker = _Waker()

    def _hear(self, signum: int, frame: FrameType | None) -> None:
        self._then()
        before = self._before.get(signum)
        if callable(before):
            before(signum, frame)

    def stop(self) -> None:
        """Put back the handlers that there were, but for those that others have replaced since."""
        if self._waker is not None:
            self._waker.stop()
        for signum, before in self._before.items():
            if signal.getsignal(signum) == self._hear:
                signal.signal(signum, signal.SIG_DFL if before is None else before)


class _Waker:
    """Lets an event loop of asyncio turn at a signal.

    A signal that comes just before the loop waits for its next event is noted, and its handler is
    called when the loop turns again: which may be never. So the signal also writes a byte into a
    socket that the loop reads. Trio and uvloop do this themselves.
    """

    def __init__(self) -> None:
        self._loop: Any = current_token().native_token
        self._sockets: tuple[socket, socket] | None = None
        before = signal.set_wakeup_fd(-1)
        if before != -1 or not hasattr(self._loop, "add_reader"):
            signal.set_wakeup_fd(before)
            return
        from socket import socketpair  # which asyncio has loaded

        here, there = socketpair()
        try:
            here.setblocking(False)
            there.setblocking(False)
            self._loop.add_reader(here, self._read, here)
        except NotImplementedError:  # a loop of Windows, which looks for signals itself
            here.close()
            there.close()
            return
        signal.set_wakeup_fd(there.fileno(), warn_on_full_buffer=False)
        self._sockets = here, there

    def _read(self, here: "socket") -> None:
        try:
            here.recv(4096)
        except OSError:  # there is nothing more
            return

    def stop(self) -> None:
        """Put back what there was, unless somebody else has taken its place."""
        if self._sockets is None:
            return
        here, there = self._sockets
        now = signal.set_wakeup_fd(-1)
        if now not in (-1, there.fileno()):
            signal.set_wakeup_fd(now)
        self._loop.remove_reader(here)
        here.close()
        there.close()
        self._sockets = None


def _checked(signum: object) -> signal.Signals:
    try:
        return signal.Signals(signum)  # type: ignore[arg-type]
    except ValueError:
        raise ValueError(
            f"close_on holds {signum!r:.60}, which is no signal\n"
            f"  help: write close_on=[signal.SIGTERM, signal.SIGINT]"
        ) from None
