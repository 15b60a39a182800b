"""The file of what is in flight: which nodes had begun when a process died.

A line per attempt, written when it begins and never forced to the disk: it outlives a killed
process, which is all that it is for. Which of them have ended, the journal itself knows.
"""

import json
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from json.encoder import encode_basestring_ascii as quoted
from typing import TypeGuard

from dagron._rows import DONE, OUTCOMES, RETRY, Row

LARGEST = 1_000_000  # bytes; then it is written anew


class Begun:
    """What one life of a run has in flight, in memory and, once `open`, in its file."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._mutex = threading.Lock()
        self._descriptor: int | None = None
        self._life = 0
        self._size = 0
        self._limit = LARGEST
        self._in_flight: dict[str, int] = {}

    def begin(self, names: Iterable[tuple[str, int]]) -> None:
        """Note that these attempts begin, with one write. Raises `OSError` when that fails."""
        names = list(names)
        with self._mutex:
            self._in_flight.update(names)
            if self._descriptor is None:
                return
            self._write("".join([f"[{quoted(name)}, {attempt}]\n" for name, attempt in names]))
            if self._size > self._limit:
                self._rewrite()

    def end(self, rows: Sequence[Row]) -> None:
        """Learn from rows that were committed what is in flight no more."""
        with self._mutex:
            for row in rows:
                if row.node is not None and row.kind in OUTCOMES:
                    self._in_flight.pop(row.node, None)

    def open(self, life: int) -> None:
        """Begin the file of this life, in place of that of the last. Raises `OSError`."""
        with self._mutex:
            self._life = life
            self._rewrite()

    def close(self, *, remove: bool) -> None:
        """Close the file, if it is open, and remove it if nothing is left to remember."""
        with self._mutex:
            if self._descriptor is None:
                return
            is_ours = self._is_there()
            self._close_file()
            if remove and is_ours:
                remove_begun(self._path)

    def _is_there(self) -> bool:
        """Tell whether the file is where it was; else another journal may have its own there."""
        assert self._descriptor is not None
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(self._path))
        except OSError:
            return False

    def _write(self, text: str) -> None:
        assert self._descriptor is not None
        data = text.encode("ascii")
        if os.write(self._descriptor, data) != len(data):
            raise OSError("the file of what is in flight could not be written whole")
        self._size += len(data)

    def _rewrite(self) -> None:
        """Replace the file by one that holds only what is in flight now."""
        fresh = _fresh(self._path)
        lines = [f"[{quoted(name)}, {attempt}]\n" for name, attempt in self._in_flight.items()]
        self._close_file()
        self._open_file(fresh, os.O_TRUNC)
        try:
            self._write("".join([json.dumps({"life": self._life}) + "\n", *lines]))
        finally:
            self._close_file()
        os.replace(fresh, self._path)
        size = self._size
        self._open_file(self._path, os.O_APPEND)
        self._size = size
        self._limit = max(LARGEST, 2 * size)  # else a wide run would write it at each begin

    def _open_file(self, path: str, how: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | how | getattr(os, "O_NOFOLLOW", 0)
        self._descriptor, self._size = os.open(path, flags, 0o600), 0

    def _close_file(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _fresh(path: str) -> str:
    return f"{path}.new"


def remove_begun(path: str) -> None:
    """Remove the file, if it is there."""
    for name in (path, _fresh(path)):
        with suppress(OSError):
            os.unlink(name)


def read_begun(path: str, life: int) -> dict[str, int]:
    """Return what the file says had begun, node by node its last attempt.

    A file that is not there or is of another life says nothing; what is torn or garbage in it is
    passed over.
    """
    try:
        with open(path, "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return {}
    entries = list(_parsed(lines))
    if not entries or entries[0] != {"life": life}:
        return {}
    return dict(entry for entry in entries[1:] if _is_attempt(entry))


def _parsed(lines: Iterable[bytes]) -> Iterator[object]:
    for line in lines:
        try:
            yield json.loads(line)
        except (ValueError, RecursionError):
            yield None


def _is_attempt(entry: object) -> TypeGuard[tuple[str, int]]:
    return isinstance(entry, list) and [type(part) for part in entry] == [str, int]


def still_in_flight(
    begun: dict[str, int], rows: Iterable[tuple[str, str | None]]
) -> dict[str, int]:
    """Return what had begun without what the rows, by kind and node, say has ended."""
    ends: dict[str | None, str] = {}
    for kind, node in rows:
        if kind == RETRY:  # from here on, what had failed counts as not yet run
            ends = {name: end for name, end in ends.items() if end == DONE}
        elif node in begun:
            ends[node] = kind
    return {name: attempt for name, attempt in begun.items() if name not in ends}
