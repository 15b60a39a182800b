"""``progress=True``: a run shows on stderr how far it is, and at its end what it came to.

The event loop only counts. A thread writes, some times a second, for all runs of the process that
are shown: a terminal that is slow, or stopped by Ctrl-S, holds nothing up before the end.
"""

import os
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from threading import Event as Signal
from threading import Lock, Thread
from time import monotonic
from types import TracebackType
from typing import Protocol, TextIO

from dagron._errors import MissingExtraError
from dagron._events import Event, RunFinished, RunStarted
from dagron._logs import ERROR, log
from dagron._results import ExecutionResult, error_text
from dagron._tidings import line_of, told_of
from dagron._tracking import Tracking

INTERVAL = 0.2  # seconds between two looks at the runs
GRACE = 2.0  # seconds that the end of a run waits for a terminal that takes nothing
MANY_LINES = 1_000  # that wait to be written: there is something to do before the interval is over
MOST_LINES = 100_000

Clock = Callable[[], float]


class Surface(Protocol):
    """Where runs are shown. All of it is called in one thread."""

    def open(self) -> None: ...
    def write(self, lines: Sequence[str]) -> None: ...
    def draw(self, runs: Sequence[tuple[Tracking, float]]) -> None: ...
    def close(self) -> None: ...


class Lines:
    """Plain text, where nothing can be drawn."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def open(self) -> None:
        pass

    def write(self, lines: Sequence[str]) -> None:
        self._stream.write("".join(f"{line}\n" for line in lines))
        self._stream.flush()

    def draw(self, runs: Sequence[tuple[Tracking, float]]) -> None:
        pass

    def close(self) -> None:
        pass


class Screen:
    """A stream on which runs are shown, and the thread that does it, from the first to the last."""

    def __init__(self, surface: Surface, stream: TextIO, clock: Clock = monotonic) -> None:
        self.surface = surface
        self.stream = stream
        self.clock = clock
        self.error: Exception | None = None
        self._runs: list[Showing] = []
        self._lines: deque[str] = deque()
        self._left_out = 0
        self._is_over = False
        self._wake = Signal()
        self._thread = Thread(target=self._show, name="dagron progress", daemon=True)

    def takes(self, run: "Showing") -> bool:
        """Tell whether that run can be shown here, too."""
        is_like = type(self.surface) is type(run.surface) and self.stream is run.stream
        return is_like and self.error is None and self._thread.is_alive()

    def add(self, run: "Showing") -> None:
        """Show a run, from now on."""
        self._runs.append(run)
        if len(self._runs) > 1:
            for one in self._runs:
                one.is_beside_another = True
        else:
            self._thread.start()

    def remove(self, run: "Showing") -> bool:
        """Show a run no longer; tell whether it was the last one."""
        if run in self._runs:
            self._runs.remove(run)
        return not self._runs

    def post(self, text: str) -> None:
        """Have lines written."""
        if len(self._lines) >= MOST_LINES:
            self._left_out += 1
            return
        self._lines.append(text)
        if len(self._lines) == MANY_LINES:
            self._wake.set()

    def end(self) -> None:
        """Return when all is written, or when the stream has taken nothing for too long."""
        self._is_over = True
        self._wake.set()
        self._thread.join(GRACE)

    def tick(self) -> None:
        """Write and draw what is new."""
        self._write()
        now = self.clock()
        self.surface.draw([(run.tracking, now - run.began) for run in list(self._runs)])

    def _write(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if self._left_out:
            lines.append(f"{self._left_out:,} lines were left out here: nobody read fast enough")
            self._left_out = 0
        if lines:
            self.surface.write(lines)

    def _show(self) -> None:
        try:
            try:
                self.surface.open()
                while not self._is_over:
                    self.tick()
                    self._wake.wait(INTERVAL)
                    self._wake.clear()
            finally:
                self.surface.close()
            self._write()
        except Exception as error:  # of the stream, which may be anything: runs go on without it
            self.error = error


_screens: list[Screen] = []
_lock = Lock()


class Showing:
    """Shows one run inside its ``with`` block; the one in ``observers`` hears the run's events.

    ``result`` is what the run came to, if it did, to be summed up at the end of the block. Once
    another run is shown beside it, what it says has its id in front, to its end.
    """

    def __init__(self, surface: Surface, stream: TextIO, clock: Clock = monotonic) -> None:
        self.surface = surface
        self.stream = stream
        self.tracking = Tracking()
        self.began = 0.0
        self.observers = (self._observe,)
        self.result: ExecutionResult | None = None
        self._clock = clock
        self._is_by_line = isinstance(surface, Lines)
        self._ending: str | None = None
        self._screen: Screen | None = None
        self._is_dropped = False
        self.is_beside_another = False

    def __enter__(self) -> "Showing":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._screen is None:
            return
        try:
            self._close(self._screen)
        except Exception as broken:  # whatever it is, the run's result counts
            self._complain(broken)

    def _observe(self, event: Event) -> None:
        try:
            self._hear(event)
        except BaseException:
            self._is_dropped = True
            raise

    def _hear(self, event: Event) -> None:
        if type(event) is RunStarted:
            self._open()
        screen = self._screen
        assert screen is not None, "the first event opens it"
        if screen.error is not None:
            raise screen.error
        self.tracking.hear(event)
        if self._is_by_line and (line := line_of(event)) is not None:
            screen.post(self._signed(line))
        elif type(event) is RunFinished:
            self._ending = told_of(event)

    def _signed(self, text: str) -> str:
        return f"{self.tracking.run_id} {text}" if self.is_beside_another else text

    def _open(self) -> None:
        self.began = self._clock()
        with _lock:
            screen = next((screen for screen in _screens if screen.takes(self)), None)
            if screen is None:
                screen = Screen(self.surface, self.stream, self._clock)
                _screens.append(screen)
            self._screen = screen
            screen.add(self)

    def _close(self, screen: Screen) -> None:
        try:
            if not self._is_dropped:
                text = self._ending
                if self.result is not None:
                    text = self._signed(self.result.summary())
                if text is not None:
                    screen.post(text)
        finally:
            with _lock:
                is_last = screen.remove(self)
                if is_last and screen in _screens:
                    _screens.remove(screen)
            if is_last:
                screen.end()
        if screen.error is not None and not self._is_dropped:
            self._complain(screen.error)

    def _complain(self, error: Exception) -> None:
        message = "the progress of the run could not be shown: %s"
        log(ERROR, self.tracking.run_id, None, message, error_text(error), error=error)


def showing(
    stream: TextIO | None = None, environ: Mapping[str, str] = os.environ
) -> Showing | None:
    """Return what shows a run on stderr, or None where nobody would see it.

    Raises `MissingExtraError` on a terminal where rich is not installed.
    """
    stream = sys.stderr if stream is None else stream
    if environ.get("CI", "").lower() not in ("", "0", "false"):
        return Showing(Lines(stream), stream) if stream is not None else None
    if not _is_terminal(stream):
        return None
    if environ.get("TERM") in ("dumb", "unknown"):
        return Showing(Lines(stream), stream)
    try:
        from dagron._rich import Drawing, behind
    except ImportError as error:
        raise MissingExtraError(
            "progress=True draws with rich, which is not installed\n"
            '  help: type pip install "dagron[progress]", or leave progress=True out',
            "progress",
        ) from error
    stream = behind(stream)
    return Showing(Drawing(stream), stream)


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except (AttributeError, ValueError):  # not quite a file, or closed
        return False
