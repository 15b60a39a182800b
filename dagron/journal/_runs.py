"""The runs of a journal: one record each, found by its id, with a checksum of its own."""

from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

from dagron._rows import Row
from dagron.journal._database import Connection
from dagron.journal._failures import damaged
from dagron.journal._rows import (
    COLUMNS,
    RowDamagedError,
    key_of,
    parameters,
    row_of,
    statements,
)

GRAPH = "graph"  # the kind of row 0, whose change is the graph with which the run began


class RunRecord(NamedTuple):
    """What the journal knows of a run besides its rows; ``life`` counts the executions of it."""

    number: int
    run_id: str
    uid: str
    created: float
    ended: float | None = None
    last_seq: int | None = None  # of a run that has ended
    life: int = 1
    pid: int | None = None
    host: str | None = None
    since: float | None = None


_FIELDS = ", ".join(RunRecord._fields)


def _sum(record: RunRecord) -> int:
    return crc32(repr(tuple(record)).encode("utf-8", "surrogatepass"))


def insert_run(connection: Connection, record: RunRecord, graph: str) -> RunRecord:
    """Write down a new run, which is given its number: one that no run had before."""
    cursor = connection.execute("INSERT INTO runs (run_id) VALUES (?)", (record.run_id,))
    record = record._replace(number=cursor.lastrowid or 0)
    update_run(connection, record)
    first = Row(0, GRAPH, None, record.created, change=graph)
    for text, values in statements(parameters(record.number, [first])):
        connection.execute(text, values)
    return record


def update_run(connection: Connection, record: RunRecord) -> None:
    """Write down what is known of a run now."""
    settings = ", ".join(f"{field} = ?" for field in RunRecord._fields[1:])
    connection.execute(
        f"UPDATE runs SET {settings}, sum = ? WHERE number = ?",
        (*record[1:], _sum(record), record.number),
    )


def delete_run(connection: Connection, number: int) -> None:
    """Remove a run and its rows."""
    connection.execute("DELETE FROM runs WHERE number = ?", (number,))
    last = key_of(number + 1, 0) - 1
    connection.execute("DELETE FROM rows WHERE id BETWEEN ? AND ?", (key_of(number, 0), last))


def find_run(connection: Connection, run_id: str) -> RunRecord | None:
    """Return the run of this id, or None.

    That there is none is not believed of the index alone: where a bit of it had flipped, a run that
    is half done would begin again.
    """
    for by in ("", "NOT INDEXED "):
        query = f"SELECT {_FIELDS}, sum FROM runs {by}WHERE run_id = ?"
        found = connection.execute(query, (run_id,)).fetchone()
        if found:
            return _checked(connection, found)
    return None


def numbered_run(connection: Connection, number: int) -> RunRecord | None:
    """Return the run of this number, or None."""
    query = f"SELECT {_FIELDS}, sum FROM runs WHERE number = ?"
    found = connection.execute(query, (number,)).fetchone()
    return _checked(connection, found) if found else None


def all_runs(connection: Connection) -> list[RunRecord]:
    """Return all runs, the oldest first."""
    query = f"SELECT {_FIELDS}, sum FROM runs ORDER BY number"
    return [_checked(connection, found) for found in connection.execute(query)]


def _checked(connection: Connection, found: tuple[object, ...]) -> RunRecord:
    record = RunRecord(*found[:-1])  # type: ignore[arg-type]
    if _sum(record) != found[-1]:
        raise damaged(connection.path, str(record.run_id))
    return record


def last_seq_of(connection: Connection, number: int) -> int:
    """Return the number of the last row of a run; 0 is its graph."""
    query = "SELECT max(id) FROM rows WHERE id BETWEEN ? AND ?"
    keys = key_of(number, 0), key_of(number + 1, 0) - 1
    (key,) = connection.execute(query, keys).fetchone()
    return -1 if key is None else int(key) - key_of(number, 0)


def check_unfinished(connection: Connection, record: RunRecord, last_seq: int) -> None:
    """Raise `JournalCorruptError` unless the file is sound as a database, and the run has no gap.

    Of a run that has not ended nobody knows how many rows it has: where a page of the file had
    lost the last of them, it would go on before them. It takes 0.1 s for 100 MB.
    """
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    keys = key_of(record.number, 0), key_of(record.number, last_seq)
    (count,) = connection.execute(
        "SELECT count(*) FROM rows WHERE id BETWEEN ? AND ?", keys
    ).fetchone()
    if found != "ok" or count != last_seq + 1:
        raise damaged(connection.path, record.run_id)


def rows_of_kinds(
    connection: Connection, number: int, kinds: tuple[str, ...]
) -> list[tuple[str, str | None]]:
    """Return kind and node of the rows of these kinds."""
    query = (
        f"SELECT kind, node FROM rows WHERE id BETWEEN ? AND ? "
        f"AND kind IN ({', '.join('?' * len(kinds))}) ORDER BY id"
    )
    keys = key_of(number, 0), key_of(number + 1, 0) - 1
    return connection.execute(query, (*keys, *kinds)).fetchall()


def checked_rows(connection: Connection, record: RunRecord) -> Iterator[Row]:
    """Yield the run's rows from 0 on, each once it has been checked.

    Raises `JournalCorruptError` at the first that is missing or is not what was written.
    """
    query = f"SELECT {COLUMNS} FROM rows WHERE id BETWEEN ? AND ? ORDER BY id"
    keys = key_of(record.number, 0), key_of(record.number + 1, 0) - 1
    seq = -1
    for seq, found in enumerate(connection.execute(query, keys)):
        try:
            row = row_of(found)
        except RowDamagedError:
            row = None
        if row is None or row.seq != seq:
            raise damaged(connection.path, record.run_id, seq)
        yield row
    if seq < (record.last_seq or 0):
        raise damaged(connection.path, record.run_id, seq + 1)
