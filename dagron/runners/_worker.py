"""A worker process: it makes one call after another, and ends with the program that began it.

What goes through its two pipes are frames: a kind, the length of what follows, and that.

    to the worker                  CALL
    from it          READY (once)  PROGRESS ...  VALUE or ERROR, after the seconds that it took
"""

import os
import sys
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from struct import Struct
from threading import Lock, Thread
from time import perf_counter
from traceback import print_exception
from typing import BinaryIO, NoReturn

from dagron.runners._pickles import dumped
from dagron.runners._travel import Host, perform

HEADER = Struct(">cQ")
PIECE = 1 << 16  # bytes that a pipe holds as a rule
SECONDS = Struct(">d")
READY, CALL, PROGRESS, VALUE, ERROR = (bytes([letter]) for letter in b"RCPVE")


class Worker:
    """The process, as it sees itself."""

    def __init__(self, commands: BinaryIO, replies: BinaryIO) -> None:
        self._commands = commands
        self._replies = replies
        self._inbox: SimpleQueue[bytes | None] = SimpleQueue()
        self._pid = os.getpid()
        self._calls = 0
        self._is_busy = False  # with the last of these
        self._writing = Lock()

    def serve(self) -> None:
        """Make calls until the program closes the pipe, or is gone."""
        Thread(target=self._read, name="dagron commands", daemon=True).start()
        self._write(READY)
        while (pickled := self._inbox.get()) is not None:
            self._calls += 1
            self._is_busy = True
            kind, seconds, content = self._make(pickled)
            del pickled
            with self._writing:
                self._is_busy = False  # no progress comes after the outcome
                self._write(kind, SECONDS.pack(seconds), content)
            del content

    def _read(self) -> None:
        """Take what comes while a call is on, so that the end of the program is noticed then."""
        while (pickled := self._next()) is not None:
            self._inbox.put(pickled)
        if self._is_busy:
            os._exit(1)
        self._inbox.put(None)

    def _next(self) -> bytes | None:
        header = self._commands.read(HEADER.size)
        if len(header) < HEADER.size:
            return None
        _, length = HEADER.unpack(header)
        pickled = self._commands.read(length)
        return pickled if len(pickled) == length else None

    def _make(self, pickled: bytes) -> tuple[bytes, float, bytes]:
        began = perf_counter()
        where = f"process {os.getpid()}"
        host = Host(partial(self._tell, self._calls))
        try:
            content, seconds = perform(pickled, (), host, where, self._finished)
            kind = VALUE
        except BaseException as error:
            if os.getpid() != self._pid:
                _end_child(error)
            kind, content, seconds = ERROR, dumped(error), perf_counter() - began
        return kind, seconds, content

    def _finished(self, value: object) -> bytes:
        if os.getpid() != self._pid:
            _end_child(None)
        return dumped(value)

    def _tell(self, call: int, done: float, total: float | None, note: str) -> None:
        """Tell the progress of a call, unless that has ended and left a thread, or a child."""
        if os.getpid() != self._pid:
            return
        content = dumped((done, total, note))
        with self._writing:  # a body may report its progress from threads of its own
            if self._is_busy and call == self._calls:
                self._write(PROGRESS, content)

    def _write(self, kind: bytes, *content: bytes) -> None:
        self._replies.write(HEADER.pack(kind, sum(map(len, content))))
        for part in content:
            self._replies.write(part)
        self._replies.flush()


def _end_child(error: BaseException | None) -> NoReturn:
    """End a process that a body has forked, and that has come to its end: as Python ends one.

    It has a copy of all this, pipes included, and must not answer in its parent's place.
    """
    code = 0 if error is None else 1
    try:
        if isinstance(error, SystemExit) and isinstance(error.code, int | None):
            code = error.code or 0
        elif error is not None:
            print_exception(error)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code & 0xFF)


def set_up(memory_limit: int | None) -> None:
    """Bound what this process may take of memory, where that can be done."""
    if memory_limit is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory_limit, memory_limit))


def widen(pipe: int) -> None:
    """Let a pipe hold more than its usual 64 kB, where that can be done: fewer, larger pieces."""
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4 * PIECE)


def main(shown: int | None, memory_limit: int | None) -> None:
    """Serve the pipes that are this process's stdin and stdout; what it prints goes to ``shown``.

    Both pipes are hidden first, so that nothing that a body reads or prints comes between.
    """
    widen(0)
    widen(1)
    commands = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2 if shown is None else shown, 1)
    if shown is not None:
        os.close(shown)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    set_up(memory_limit)
    Worker(commands, replies).serve()
