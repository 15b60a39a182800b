"""A terminal in memory, surfaces that note what they are to show, and a clock that tests move."""

import io
import threading
from collections.abc import Sequence

from dagron._tracking import Tracking
from ways import GUARD


class Terminal(io.StringIO):
    """Says that it is a terminal, and keeps what is written to it."""

    def isatty(self) -> bool:
        return True


class Broken(Terminal):
    """A terminal that is gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError("gone")


class Stopped(Terminal):
    """A terminal that takes nothing until it is let go, as after Ctrl-S."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        assert self.go_on.wait(GUARD)
        return super().write(text)


class Noted:
    """A surface that notes what it is told, and lets a test wait for a drawing."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.lines: list[str] = []
        self.elapsed: list[list[float]] = []
        self._drawn = threading.Condition()

    def open(self) -> None:
        self.calls.append("open")

    def write(self, lines: Sequence[str]) -> None:
        self.lines += lines

    def draw(self, runs: Sequence[tuple[Tracking, float]]) -> None:
        with self._drawn:
            self.elapsed.append([elapsed for _, elapsed in runs])
            self._drawn.notify_all()

    def close(self) -> None:
        self.calls.append("close")

    def wait_for(self, elapsed: float) -> None:
        """Block until a run is drawn that has gone on for so long."""
        with self._drawn:
            assert self._drawn.wait_for(lambda: [elapsed] in self.elapsed, GUARD)


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 700.0

    def __call__(self) -> float:
        return self.now
