"""The journal's file as a SQLite database: opened, made, recognised."""

import os
import sqlite3
import stat
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from dagron._errors import JournalError
from dagron.journal._failures import code_of, no_database, replaced, unusable
from dagron.journal._locks import Identity, identity, identity_of
from dagron.journal._rows import COLUMNS

APPLICATION = 0x6461676E  # "dagn", in the file's header: whose file it is
VERSION = 1  # of the tables
# What SQLite says where it cannot make the -shm that a reader needs, too.
_NOTHING_TO_MAKE = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
SMALLEST = 512  # bytes of any database that is not empty

_TABLES = (
    """CREATE TABLE runs (
        number INTEGER PRIMARY KEY AUTOINCREMENT, run_id UNIQUE, uid, created, ended, last_seq,
        life, pid, host, since, sum
    )""",
    f"CREATE TABLE rows ({COLUMNS.replace('id', 'id INTEGER PRIMARY KEY', 1)})",
)

# The files that this process has open, and those that the process had open from which it was
# forked: SQLite keeps tables of locks per process, and a forked copy of them is wrong.
_open: Counter[Identity] = Counter()
_inherited: set[Identity] = set()
_mutex = threading.RLock()


class Connection(sqlite3.Connection):
    """A connection that knows which files it has open."""

    path = ""
    identity: Identity = (0, 0)
    is_counted = False
    _places: tuple[tuple[str, Identity], ...] = ()

    def close(self) -> None:
        """Close it; a second time does nothing."""
        if self._is_beside_another():
            self._close_beside_another()
        super().close()
        with _mutex:
            if self.is_counted:
                self.is_counted = False
                _open[self.identity] -= 1

    def _is_beside_another(self) -> bool:
        """Tell whether others, who have the same file open, have another -wal or -shm."""
        if not self._places or identity_of(self.path) != self.identity:
            return False
        return any(identity_of(path) not in (None, known) for path, known in self._places)

    def _close_beside_another(self) -> None:
        """Close it, but not as the last connection of this process.

        The last one moves the WAL, as it knows it, into the file and deletes it, with all that
        others have written, of which it does not know. One that only reads does nothing of that.
        """
        with suppress(sqlite3.Error, JournalError, OSError):
            with closing(_connect(self.path, "mode=ro")) as reader:
                reader.execute("SELECT 1 FROM runs LIMIT 1").fetchone()  # from here on it counts
                super().close()

    def note_place(self) -> None:
        """Remember which files are open here, as long as this connection is.

        SQLite makes those beside the first with the first connection, and deletes them with the
        last.
        """
        beside = (f"{self.path}-wal", f"{self.path}-shm")
        found = [(path, identity(os.stat(path))) for path in beside]
        self._places = ((self.path, self.identity), *found)

    def check_place(self) -> None:
        """Raise `JournalError` unless the paths still lead to the files that are open here."""
        for path, known in self._places:
            if identity_of(path) != known:
                raise replaced(self.path, path)


def open_writer(path: str, durability: str, busy_timeout: float) -> Connection:
    """Open the journal for writing; make it, where there is none.

    Raises `JournalError`, or `sqlite3.Error`, and leaves a file alone that is no journal.
    """
    with _mutex:
        if _is_something(path):
            _look(path)
        else:
            with suppress(FileExistsError):
                _create(path)
        connection = _connect(path, "mode=rw", busy_timeout)
    try:
        with transaction(connection):
            if not _is_ours(connection):
                _make_tables(connection)
        _use_wal(connection, busy_timeout)
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.execute(f"PRAGMA synchronous={'FULL' if durability == 'power' else 'NORMAL'}")
        if durability == "power":  # on macOS a plain fsync leaves the data in the disk's cache
            connection.execute("PRAGMA fullfsync=ON")
        connection.execute("SELECT 1 FROM runs LIMIT 1").fetchone()  # now there is a WAL
        connection.note_place()
        connection.check_place()
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: str, busy_timeout: float) -> Connection | None:
    """Open the journal for reading, or return None: there is none, or an empty file.

    Such a connection writes nothing and moves nothing from the WAL into the file. Nor does it undo
    what a process had begun that died while it made the file: there is nothing in that yet.
    """
    with _mutex:
        if not _is_something(path):
            return None
        _look(path)
    try:
        return _opened_reader(path, "mode=ro", busy_timeout)
    except sqlite3.Error as error:
        if code_of(error) not in _NOTHING_TO_MAKE or not _is_whole(path):
            raise
    return _opened_reader(path, "mode=ro&immutable=1", busy_timeout)  # it cannot have its -shm


def _opened_reader(path: str, how: str, busy_timeout: float) -> Connection | None:
    with _mutex:
        connection = _connect(path, how, busy_timeout)
    try:
        connection.execute("PRAGMA trusted_schema=OFF")
        if _is_ours(connection):
            return connection
    except BaseException as error:
        connection.close()
        is_refused = isinstance(error, sqlite3.Error) and code_of(error) == sqlite3.SQLITE_READONLY
        if is_refused and _is_half_written(path):
            return None
        raise
    connection.close()
    return None


def open_backup(path: str) -> Connection:
    """Make a new file and open it; refuse one that is there."""
    try:
        _create(path)
    except FileExistsError:
        raise JournalError(
            f"a backup is written into a new file, and this one is there: {path}\n"
            f"  help: name another file, or move this one away",
            path,
        ) from None
    return _connect(path, "mode=rw")


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """Write in one transaction: all of it, or nothing.

    Raises `JournalError` before, so that nothing is written over what others have written who have
    found other files there; and afterwards, when it has gone into a file that is not there any
    more.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.check_place()
        yield
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise
    connection.check_place()


def roll_back(connection: Connection) -> None:
    """End a transaction that failed; after an I/O error SQLite has done so by itself."""
    if connection.in_transaction:
        with suppress(sqlite3.Error):  # the first error is the one to tell
            connection.execute("ROLLBACK")


def _is_something(path: str) -> bool:
    """Tell whether there is a file with something in it; refuse what is no file."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        _check_folder(path)
        return False
    except OSError as error:
        raise unusable(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no plain file"
        raise JournalError(
            f"a journal is a file, and this is {kind}: {path}\n"
            f'  help: write a file\'s name, such as "{os.path.join(path, "runs.db")}"',
            path,
        )
    if 0 < status.st_size < SMALLEST and not _is_half_written(path):
        raise no_database(path)  # SQLite would take it for an empty one
    return status.st_size > 0


def _look(path: str) -> None:
    """Refuse a file that is not ours before SQLite does anything to it, such as begin a WAL.

    Looked at without locks, it may be seen in the middle of a checkpoint, and then seem damaged:
    only what it says of itself counts.
    """
    if _is_half_written(path):
        return
    with closing(_connect(path, "mode=ro&immutable=1")) as connection:
        try:
            _is_ours(connection)
        except sqlite3.Error as error:
            if code_of(error) == sqlite3.SQLITE_NOTADB:
                raise


def _is_whole(path: str) -> bool:
    """Tell whether the file has it all, since there is nothing in a WAL beside it."""
    try:
        return os.stat(f"{path}-wal").st_size == 0
    except FileNotFoundError:
        return True


def _is_half_written(path: str) -> bool:
    """Tell whether a process died while it made the file: SQLite will undo that."""
    return os.path.exists(f"{path}-journal")


def _check_folder(path: str) -> None:
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise JournalError(
            f"the folder of the journal is not there: {folder}\n"
            f"  help: make it first, or correct the path",
            path,
        )


def _create(path: str) -> None:
    """Make an empty file that only its owner may read; an empty one that is there stays."""
    _check_folder(path)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        raise
    except OSError as error:
        raise unusable(path, error) from error


def _connect(path: str, how: str, busy_timeout: float = 0.0) -> Connection:
    connection = sqlite3.connect(
        f"{Path(path).as_uri()}?{how}",
        uri=True,
        timeout=busy_timeout,
        isolation_level=None,
        check_same_thread=False,
        factory=Connection,
    )
    try:
        connection.path = path
        connection.identity = identity(os.stat(path))
        if connection.identity in _inherited:
            raise JournalError(
                f"this process was forked from one that has the journal open: {path}\n"
                f"  help: start it with multiprocessing's method 'spawn', or subprocess",
                path,
            )
        _open[connection.identity] += 1
        connection.is_counted = True
    except BaseException:
        connection.close()
        raise
    return connection


def _is_ours(connection: Connection) -> bool:
    """Tell whether it is a journal, and not an empty database; refuse anything else."""
    path = connection.path
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application == APPLICATION:
        if version > VERSION:
            raise JournalError(
                f"the journal was written by a newer dagron: {path}\n"
                f"  help: it has tables of version {version}, this dagron knows up to {VERSION}: "
                f"install the newer one, or use another file",
                path,
            )
        return True
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application or version or tables:
        raise JournalError(
            f"this is the database of another program, not a journal: {path}\n"
            f"  help: it was left as it is; name another file",
            path,
        )
    return False


def _make_tables(connection: Connection) -> None:
    for table in _TABLES:
        connection.execute(table)
    connection.execute(f"PRAGMA application_id={APPLICATION}")
    connection.execute(f"PRAGMA user_version={VERSION}")


def _use_wal(connection: Connection, busy_timeout: float) -> None:
    """Have the file written by WAL. Another process that opens it may be in the way for a moment,
    and SQLite does not wait for it here.
    """
    deadline = time.monotonic() + busy_timeout
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
            break
        except sqlite3.OperationalError as error:
            if code_of(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    if mode != "wal":
        raise JournalError(
            f"the journal needs SQLite's WAL, which does not work there ({mode}): "
            f"{connection.path}\n"
            f"  help: put it on a local disk; most network file systems cannot share memory",
            connection.path,
        )


def _after_fork() -> None:
    global _mutex
    _mutex = threading.RLock()
    _inherited.update(identity for identity, count in _open.items() if count)
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
