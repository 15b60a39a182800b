"""Runs drawn on a terminal, line over line, with rich: the only module that imports it."""

import os
import sys
from collections.abc import Callable, Sequence
from threading import Lock, RLock, get_ident
from typing import Any, TextIO, cast

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dagron._names import plain
from dagron._tracking import Tracked, Tracking

FAMILIES = 10  # lines of one run, where the terminal is high enough
RUNNING = 3  # nodes that are named
FIXED = 4  # lines of one run that are not of families
LABEL = 40  # characters of a family's title
WIDE, NARROW = 30, 10  # characters of a bar


class _Console(Console):
    """Leaves it to the program what a broken pipe means: rich would end it."""

    def on_broken_pipe(self) -> None:
        """Raise the BrokenPipeError that is being handled."""
        raise


class Drawing:
    """Draws runs at the end of what the terminal shows; all but `write` is for one thread.

    What the program prints to the same terminal meanwhile, through `sys.stdout` and `sys.stderr`,
    appears above.
    """

    def __init__(self, stream: TextIO, console: Console | None = None) -> None:
        self._stream = stream
        self._console = console or _Console(file=stream, force_terminal=True)
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._is_open = False
        self._above: dict[str, Above] = {}
        self._lock = RLock()  # what is drawn is counted in lines: one writes at a time

    def open(self) -> None:
        """Hide the cursor, and let the program's own output appear above."""
        self._live.start()
        self._is_open = True
        for name in ("stdout", "stderr"):
            file = getattr(sys, name)
            if _is_same_terminal(file, self._stream):
                self._above[name] = above = Above(self._out, file)
                setattr(sys, name, above)

    def write(self, lines: Sequence[str]) -> None:
        """Write lines above what is drawn."""
        self._out("\n".join(lines))

    def _out(self, text: str) -> None:
        with self._lock:
            self._console.out(text, highlight=False)

    def draw(self, runs: Sequence[tuple[Tracking, float]]) -> None:
        """Draw the runs, each with the seconds since it began, instead of what was drawn before."""
        with self._lock:
            self._live.update(self.picture(runs), refresh=True)

    def picture(self, runs: Sequence[tuple[Tracking, float]]) -> RenderableType:
        """Return what is drawn."""
        room = (self._console.height - 1) // max(1, len(runs)) - FIXED
        most = max(2, min(FAMILIES, room))
        width = WIDE if self._console.width >= WIDE + LABEL else NARROW
        parts: list[RenderableType] = []
        for tracking, elapsed in runs:
            parts += _run(tracking, elapsed, most, width, is_one_of_many=len(runs) > 1)
        return Group(*parts)

    def close(self) -> None:
        """Take away what is drawn, and leave the terminal as it was."""
        try:
            for name, above in self._above.items():
                above.end()
                if getattr(sys, name) is above:
                    setattr(sys, name, above.file)
        finally:
            if self._is_open:
                self._live.update("")
                self._live.stop()


def _run(
    tracking: Tracking, elapsed: float, most: int, width: int, *, is_one_of_many: bool
) -> list[RenderableType]:
    whole = tracking.all
    head = Text(no_wrap=True, overflow="ellipsis")
    head.append(f"run {tracking.run_id}  " if is_one_of_many else "")
    head.append(f"{whole.done:,} of {whole.total:,} nodes", style="bold")
    head.append(f"  {_clock(elapsed)}")
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, overflow="ellipsis", max_width=LABEL)
    grid.add_column()
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    families, rest = tracking.lines(most)
    for family in families if rest is None else [*families, rest]:
        grid.add_row(*_family(family, width))
    lines: list[RenderableType] = [head, grid]
    running = tracking.running(RUNNING + 1)
    if running:
        names = ", ".join(running[:RUNNING])
        more = ", ..." if len(running) > RUNNING else ""
        lines.append(_line(f"  running: {names}{more}", "dim"))
    if tracking.last_failure is not None:
        node, error = tracking.last_failure
        lines.append(_line(f"  last failure: {node!r:.60}: {error}", "red"))
    return lines


def _family(family: Tracked, width: int) -> tuple[RenderableType, ...]:
    style = "red" if family.failed else "green"
    bar = ProgressBar(
        total=max(1, family.total),
        completed=family.done,
        width=width,
        complete_style="cyan",
        finished_style=style,
    )
    notes = Text(", ".join(family.notes()), style="red" if family.failed else "dim")
    title = Text(f"  {plain(family.title)}")
    return title, bar, Text(f"{family.done:,}/{family.total:,}"), notes


def _line(text: str, style: str) -> Text:
    return Text(plain(text), style=style, no_wrap=True, overflow="ellipsis")


def _clock(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}"


class Above:
    """Stands for a file of the terminal on which runs are drawn: what is written appears above.

    Whole lines do, at once; the beginning of a line when the rest comes, or when it is flushed.
    """

    def __init__(self, out: Callable[[str], None], file: TextIO) -> None:
        self.file = file
        self._out = out
        self._lock = Lock()
        self._begun: dict[int, str] = {}  # by thread
        self._has_ended = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, text: str) -> int:
        """Write the lines that this completes."""
        if self._has_ended or not isinstance(text, str):
            return self.file.write(text)
        with self._lock:
            lines, newline, rest = (self._begun.pop(get_ident(), "") + text).rpartition("\n")
            if rest:
                self._begun[get_ident()] = rest
        if newline:
            self._out(lines)
        return len(text)

    def writelines(self, lines: Sequence[str]) -> None:
        """Write them one after another."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Let what this thread has written appear, also where it is no whole line."""
        with self._lock:
            rest = self._begun.pop(get_ident(), "")
        if rest:
            self._out(rest)
        self.file.flush()

    def end(self) -> None:
        """Write what is left, and from now on everything to the file itself."""
        self._has_ended = True
        with self._lock:
            rest, self._begun = list(self._begun.values()), {}
        for text in rest:
            self._out(text)


def _is_same_terminal(file: object, stream: TextIO) -> bool:
    if file is stream:
        return True
    try:
        mine, its = (os.fstat(cast("TextIO", one).fileno()) for one in (stream, file))
        return cast("TextIO", file).isatty() and mine.st_rdev == its.st_rdev
    except (AttributeError, OSError, ValueError):  # no file of the system, or closed
        return False


def behind(stream: TextIO) -> TextIO:
    """Return the terminal itself, where runs are being drawn on it already."""
    return stream.file if isinstance(stream, Above) else stream
