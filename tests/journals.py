"""What the tests of the journal's file share: rows, acknowledgements, and programs to be killed."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

from dagron import JournalError
from dagron.journal._claim import Claim
from dagron.journal._database import Connection
from dagron.journal._rows import Row
from dagron.journal._store import Store

# Programs import this module too, and there are many: it needs no event loop and no pytest.
ROOT = Path(__file__).resolve().parents[1]
GUARD = 10.0


class Told:
    """What was called back, and in which thread."""

    def __init__(self) -> None:
        self.answers: list[JournalError | None] = []
        self.threads: list[threading.Thread] = []
        self._is_told = threading.Event()

    def __call__(self, error: JournalError | None) -> None:
        self.threads.append(threading.current_thread())
        self.answers.append(error)
        self._is_told.set()

    @property
    def is_told(self) -> bool:
        return self._is_told.is_set()

    def wait(self) -> JournalError | None:
        """The one answer, once it is there."""
        assert self._is_told.wait(GUARD), "nobody was told"
        (answer,) = self.answers
        return answer


def row(seq: int, kind: str = "done", node: str | None = "", **fields: object) -> Row:
    """A row; its node has its number in the name."""
    return Row(seq, kind, f"n{seq}" if node == "" else node, 1.5 * seq, **fields)  # type: ignore[arg-type]


def new_rows(claim: Claim, count: int) -> list[Row]:
    """The next rows of a claim."""
    first = claim.next_seq
    return [row(seq, value=b"%d" % seq) for seq in range(first, first + count)]


def write(store: Store, claim: Claim, rows: Sequence[Row] | int = 1) -> JournalError | None:
    """Commit rows, or so many new ones, and return the answer."""
    told = Told()
    store.submit(claim, new_rows(claim, rows) if isinstance(rows, int) else rows, told)
    return told.wait()


def finish(store: Store, claim: Claim, count: int = 1) -> JournalError | None:
    told = Told()
    store.finish(claim, new_rows(claim, count), told)
    return told.wait()


def in_writer(store: Store, function: Callable[[Connection], object]) -> object:
    """Do something to the writer's own connection, in its thread."""
    return store._writer.call(function)


@contextmanager
def held_writer(store: Store) -> Iterator[None]:
    """Let the writer's thread stand still meanwhile."""
    begun, gate = threading.Event(), threading.Event()

    def stand(_: Connection) -> None:
        begun.set()
        assert gate.wait(GUARD)

    thread = threading.Thread(target=in_writer, args=(store, stand))
    thread.start()
    assert begun.wait(GUARD)
    try:
        yield
    finally:
        gate.set()
        thread.join(GUARD)


class Program:
    """A process of its own that runs such code with a journal, and says what it says line by line.

    ``path`` is the journal's path; `Store`, `row`, `write` and so on are there.
    """

    HEAD = """
    import os, signal, sys, threading
    from pathlib import Path
    from journals import *
    path = sys.argv[1]
    def say(*words):
        print(*words, flush=True)
    def stay():
        sys.stdin.readline()
    """

    def __init__(self, path: Path | str, code: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-W",
                "ignore::DeprecationWarning",
                "-c",
                dedent(self.HEAD) + dedent(code),
                str(path),
                *arguments,
            ],
            cwd=ROOT / "tests",
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def line(self) -> str:
        """What it says next."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self._process.communicate()[1]
        return line.rstrip("\n")

    def go(self) -> None:
        """Let it go on that waits for a line."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def wait(self) -> None:
        """Wait until it has ended, in whatever way."""
        self._process.wait(GUARD)

    def kill(self) -> None:
        """Kill it as `kill -9` does."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(GUARD)

    def end(self) -> str:
        """Let it end by itself; return what it said to the end."""
        out, err = self._process.communicate("\n", timeout=6 * GUARD)
        assert self._process.returncode == 0, err
        assert err == ""
        return out


def pictured(folder: Path) -> dict[str, bytes]:
    """What is in a folder, file by file."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
