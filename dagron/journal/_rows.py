"""What is written down of a run: rows with numbers, each with a checksum of its own."""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any
from zlib import crc32

from dagron._rows import Row

# A row's key is the number of its run, shifted, and its own in the run: so a run lies in one place,
# and what is appended to it goes to the end.
SHIFT = 40

# `value` comes last: where it is large, the others are read without it.
COLUMNS = "id, kind, node, at, started, seconds, attempts, sum, change, detail, value"
WIDTH = 11

# In one statement; SQLite before 3.32 takes 999 parameters.
MAX_ROWS = 256 if sqlite3.sqlite_version_info >= (3, 32) else 64


class RowDamagedError(Exception):
    """A row is not what was written."""


def key_of(number: int, seq: int) -> int:
    """Return the key of a run's row; a run's keys end before the first of the next number."""
    return number << SHIFT | seq


def seq_of(key: int) -> int:
    """Return a row's number in its run."""
    return key & (1 << SHIFT) - 1


def checksum(key: int, row: Sequence[Any]) -> int:
    """Return the sum over all fields of a row and over where it stands.

    Raises `UnicodeEncodeError` for text that cannot be written.
    """
    _, kind, node, at, started, seconds, attempts, value, change, detail = row
    text = f"{key} {kind} {node} {at!r} {started!r} {seconds!r} {attempts} {change} {detail}"
    return crc32(b"" if value is None else value, crc32(text.encode()))


def parameters(number: int, rows: Iterable[Row]) -> list[Any]:
    """Return what the rows are in the order of the columns, one after another."""
    flat: list[Any] = []
    for row in rows:
        seq, kind, node, at, started, seconds, attempts, value, change, detail = row
        key = number << SHIFT | seq
        total = checksum(key, row)
        flat += (key, kind, node, at, started, seconds, attempts, total, change, detail, value)
    return flat


def row_of(record: Sequence[Any]) -> Row:
    """Return the row that was read, or raise `RowDamagedError`."""
    key, kind, node, at, started, seconds, attempts, total, change, detail, value = record
    row = Row(seq_of(key), kind, node, at, started, seconds, attempts, value, change, detail)
    if not (value is None or type(value) is bytes) or checksum(key, row) != total:
        raise RowDamagedError
    return row


def statement(count: int) -> str:
    """Return the text that inserts so many rows, of which those without a key do not count.

    Few texts, each prepared once: what is missing to a power of two is filled up with nothing.
    """
    one = "(" + ",".join("?" * WIDTH) + ")"
    several = ",".join([one] * count)
    return f"INSERT INTO rows ({COLUMNS}) SELECT * FROM (VALUES {several}) WHERE column1 NOT NULL"


def statements(flat: list[Any]) -> list[tuple[str, list[Any]]]:
    """Return the rows as statements with their parameters: one, if there are not very many.

    Each call of SQLite lets go of the interpreter's lock, and beside a busy thread it takes 5 ms to
    get it back: so there are few calls, whatever the number of rows.
    """
    found = []
    for start in range(0, len(flat), MAX_ROWS * WIDTH):
        part = flat[start : start + MAX_ROWS * WIDTH]
        rows = len(part) // WIDTH
        size = 1 << (rows - 1).bit_length()
        part += [None] * ((size - rows) * WIDTH)
        found.append((_TEXTS.get(size) or _TEXTS.setdefault(size, statement(size)), part))
    return found


_TEXTS: dict[int, str] = {}
