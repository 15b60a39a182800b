"""Read a SQLite database without changing it: its tables, a profile of one, a check of one key.

Every function takes a connection made by `connect`, and every identifier is quoted: tables and
columns may be called `order`, `two words` or `a"b`.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

FREQUENT = 3  # how many of the most frequent values, and of the orphans, are kept
SHOWN = 80  # characters of a text value that are read; the rest says nothing in a report


@dataclass(frozen=True)
class Table:
    name: str
    kind: str  # table, view, virtual or shadow (the storage of a virtual table)
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    name: str
    type: str
    nulls: int
    minimum: object
    maximum: object
    frequent: tuple[tuple[object, int], ...]  # (value, how often), the most frequent first


@dataclass(frozen=True)
class ForeignKey:
    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]  # empty: the primary key of the parent, whatever it is


@dataclass(frozen=True)
class Profile:
    table: Table
    rows: int = 0
    columns: tuple[Column, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Check:
    """What a foreign key refers to: `orphans` of the `rows` with a key refer to nothing.

    A `remark` says that the key is broken as it is declared, whatever rows there are.
    """

    table: str
    key: ForeignKey
    rows: int = 0
    orphans: int = 0
    examples: tuple[tuple[object, ...], ...] = ()
    remark: str = ""
    error: str = ""


class TableVanished(Exception):
    """The table was there when the tables were listed, and is gone now."""


class BrokenKey(Exception):
    """The declaration of a foreign key makes no sense, so that no row can be checked."""


@contextmanager
def connect(path: Path, wait: float) -> Iterator[sqlite3.Connection]:
    """Open a database that is only read, and see one state of it until the end.

    Another program's lock is waited for up to `wait` seconds. Beside a database in WAL mode SQLite
    leaves its two files `-wal` and `-shm`: a reader may not remove them.
    """
    if path.is_dir():
        raise IsADirectoryError("it is a folder")  # SQLite would speak of an input/output error
    # as_uri() escapes what would end the path in a URI: "?", "#" and "%".
    address = path.absolute().as_uri() + "?mode=ro"
    connection = sqlite3.connect(address, uri=True, timeout=wait, isolation_level=None)
    try:
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        connection.execute("BEGIN")
        yield connection
    finally:
        connection.close()


def code_of(error: BaseException) -> int:
    """SQLite's primary error code; 0 for an error that is not SQLite's."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF  # above it, a detail


def is_locked(error: BaseException) -> bool:
    return code_of(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def explain(error: BaseException, wait: float) -> str:
    """Say what went wrong in a user's words; `wait` is how long a lock was waited for."""
    code = code_of(error)
    if is_locked(error):
        return f"another program has locked the database (waited {wait:g} s for it)"
    if code == sqlite3.SQLITE_CANTOPEN:
        return "there is no such file, or it may not be read"
    if code == sqlite3.SQLITE_NOTADB:
        return "the file is not a SQLite database (or it is encrypted)"
    if code == sqlite3.SQLITE_CORRUPT:
        return f"the database is damaged: {error}"
    return str(error)


def quote(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


# ---- tables and their declarations --------------------------------------------------------------


def read_tables(connection: sqlite3.Connection) -> list[Table]:
    """Return all tables and views by name, without SQLite's own."""
    # A first look at the file: the statements below are vague about a file that cannot be read.
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    listed = connection.execute("PRAGMA main.table_list").fetchall()
    found = [
        Table(name, kind, ("WITHOUT ROWID",) * without_rowid + ("STRICT",) * strict)
        for _, name, kind, _, without_rowid, strict in listed
    ] or list(tables_of_old_sqlite(connection))
    return sorted(
        (table for table in found if not table.name.startswith("sqlite_")),
        key=lambda table: table.name,
    )


def tables_of_old_sqlite(connection: sqlite3.Connection) -> Iterator[Table]:
    """SQLite before 3.37 has no `table_list`: tell the kinds by the declarations."""
    rows = connection.execute(
        "SELECT name, type, coalesce(sql, '') FROM sqlite_master WHERE type IN ('table', 'view')"
    ).fetchall()
    virtual = {name for name, _, sql in rows if sql.upper().startswith("CREATE VIRTUAL")}
    for name, kind, _ in rows:
        if name in virtual:
            yield Table(name, "virtual")
        elif any(name.startswith(f"{owner}_") for owner in virtual):
            yield Table(name, "shadow")
        else:
            yield Table(name, kind)


def read_foreign_keys(connection: sqlite3.Connection, table: str) -> Iterator[ForeignKey]:
    """The foreign keys of a table in the order of their declaration."""
    rows = connection.execute(f"PRAGMA main.foreign_key_list({quote(table)})").fetchall()
    for number in sorted({row[0] for row in rows}, reverse=True):
        parts = sorted(row for row in rows if row[0] == number)
        parent_columns = tuple(row[4] for row in parts if row[4] is not None)
        yield ForeignKey(tuple(row[3] for row in parts), parts[0][2], parent_columns)


def read_columns(connection: sqlite3.Connection, table: str) -> list[tuple[str, str, int]]:
    """Return (name, type, position in the primary key or 0) for each column; none: no table."""
    generated = {2: " (generated)", 3: " (generated, stored)"}
    rows = connection.execute(f"PRAGMA main.table_xinfo({quote(table)})").fetchall()
    return [
        (name, (kind or "any") + generated.get(hidden, ""), position)
        for _, name, kind, _, _, position, hidden in rows
        if hidden != 1  # a parameter of a virtual table, not a column
    ]


# ---- a profile ----------------------------------------------------------------------------------


def profile_table(connection: sqlite3.Connection, table: Table) -> Profile:
    """Count the rows and look at every column. Raises TableVanished, sqlite3.Error."""
    declared = read_columns(connection, table.name)
    if not declared:
        raise TableVanished("the table was there when the tables were listed, and is gone now")
    [rows] = connection.execute(f"SELECT count(*) FROM main.{quote(table.name)}").fetchone()
    single_key = sum(1 for _, _, position in declared if position) == 1
    columns = tuple(
        profile_column(connection, table.name, name, kind, unique=single_key and position == 1)
        for name, kind, position in declared
    )
    return Profile(table, rows, columns, tuple(read_foreign_keys(connection, table.name)))


def profile_column(
    connection: sqlite3.Connection, table: str, name: str, kind: str, unique: bool
) -> Column:
    # With its table before it, a column that is gone is an error and not a text in quotes.
    source, column = f"FROM main.{quote(table)} AS t", f"t.{quote(name)}"
    nulls, minimum, maximum = connection.execute(
        f"SELECT nulls, {short('low')}, {short('high')} FROM ("
        f"SELECT count(*) - count({column}) AS nulls, min({column}) AS low, max({column}) AS high "
        f"{source})"
    ).fetchone()
    if unique:
        frequent = []  # each value is there once: nothing to count
    else:
        frequent = connection.execute(
            f"SELECT {short('value')}, times FROM ("
            f"SELECT {column} AS value, count(*) AS times {source} WHERE {column} IS NOT NULL "
            f"GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {FREQUENT})"
        ).fetchall()
    return Column(name, kind, nulls, minimum, maximum, tuple(frequent))


def short(value: str) -> str:
    """SQL for what a report can show of a value: a piece of a text, the size of a blob."""
    return (
        f"CASE typeof({value}) WHEN 'text' THEN substr({value}, 1, {SHOWN}) "
        f"WHEN 'blob' THEN '(blob of ' || length({value}) || ' bytes)' ELSE {value} END"
    )


# ---- referential integrity ----------------------------------------------------------------------


def check_key(connection: sqlite3.Connection, table: str, key: ForeignKey) -> Check:
    """Find the rows whose key refers to nothing. Those with a NULL in their key may do that.

    Where there is no parent table, every row is an orphan. Raises BrokenKey for a declaration that
    makes no sense, TableVanished, sqlite3.Error.
    """
    if not read_columns(connection, table):
        raise TableVanished("the table was there when it was profiled, and is gone now")
    columns = [f"c.{quote(column)}" for column in key.columns]
    values = ", ".join(columns)
    has_key = " AND ".join(f"{column} IS NOT NULL" for column in columns)
    child = f"FROM main.{quote(table)} AS c"
    [rows] = connection.execute(f"SELECT count(*) {child} WHERE {has_key}").fetchone()

    parent_columns = columns_referred_to(connection, key)
    if parent_columns:
        # The parent's column first: SQLite compares by its collation, as for real foreign keys.
        pairs = zip(parent_columns, columns, strict=True)
        matches = " AND ".join(f"p.{quote(parent)} = {column}" for parent, column in pairs)
        orphans = (
            f"{child} LEFT JOIN main.{quote(key.parent)} AS p ON {matches} "
            f"WHERE {has_key} AND p.{quote(parent_columns[0])} IS NULL"
        )
        remark = ""
    else:
        orphans = f"{child} WHERE {has_key}"
        remark = f"there is no table {key.parent}"
    [count] = connection.execute(f"SELECT count(*) {orphans}").fetchone()
    found = connection.execute(
        f"SELECT {', '.join(map(short, columns))} {orphans} "
        f"GROUP BY {values} ORDER BY count(*) DESC, {values} LIMIT {FREQUENT}"
    )
    return Check(table, key, rows, count, tuple(found.fetchall()), remark)


def columns_referred_to(connection: sqlite3.Connection, key: ForeignKey) -> tuple[str, ...]:
    """The parent's columns, which a declaration may leave out; empty when there is no parent."""
    declared = read_columns(connection, key.parent)
    primary = sorted((position, name) for name, _, position in declared if position)
    columns = key.parent_columns or tuple(name for _, name in primary)
    if declared and len(columns) != len(key.columns):
        raise BrokenKey(
            f"the key has {len(key.columns)} column(s), "
            f"but the primary key of {key.parent} has {len(columns)}"
        )
    return columns if declared else ()
