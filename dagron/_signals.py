"""Signals that are heard before whoever handles them: a web server, say."""

import signal
import threading
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any


class Heard:
    """Calls a function at signals, then the handler that there was before."""

    def __init__(self, signals: Iterable[int], then: Callable[[], object]) -> None:
        self._signals = tuple(map(_checked, signals))
        self._then = then
        self._before: dict[int, Any] = {}

    def listen(self) -> None:
        """Begin; nothing in another thread than the main one, where no signal is handled."""
        if threading.current_thread() is threading.main_thread():
            for signum in self._signals:
                self._before[signum] = signal.signal(signum, self._hear)

    def _hear(self, signum: int, frame: FrameType | None) -> None:
        self._then()
        before = self._before.get(signum)
        if callable(before):
            before(signum, frame)

    def stop(self) -> None:
        """Put back the handlers that there were, but for those that others have replaced since."""
        for signum, before in self._before.items():
            if signal.getsignal(signum) == self._hear:
                signal.signal(signum, signal.SIG_DFL if before is None else before)


def _checked(signum: object) -> signal.Signals:
    try:
        return signal.Signals(signum)  # type: ignore[arg-type]
    except ValueError:
        raise ValueError(
            f"close_on holds {signum!r:.60}, which is no signal\n"
            f"  help: write close_on=[signal.SIGTERM, signal.SIGINT]"
        ) from None
