"""What can go wrong with a journal's file, in words: what happened, and what to do."""

import sqlite3

from dagron._errors import JournalCorruptError, JournalError


def code_of(error: sqlite3.Error) -> int | None:
    """Return SQLite's primary code; None is an error of Python's module."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def is_busy(error: BaseException) -> bool:
    """Tell whether another process was in the way."""
    return isinstance(error, sqlite3.Error) and code_of(error) == sqlite3.SQLITE_BUSY


_TOLD = {
    sqlite3.SQLITE_FULL: (
        "the disk of the journal is full",
        "make room, then start the run again under its run_id: what was recorded is there",
    ),
    sqlite3.SQLITE_IOERR: (
        "the journal's disk failed to read or write",
        "look at the disk and its limits, then start the run again under its run_id",
    ),
    sqlite3.SQLITE_READONLY: (
        "the journal is read-only",
        "the journal's folder and all files beside it must be writable",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "the journal, or its -wal or -shm, cannot be opened",
        "the journal's folder and all files beside it must be writable",
    ),
    sqlite3.SQLITE_BUSY: (
        "the journal is busy: another process has been writing for too long",
        "end what keeps it locked, or give more time by busy_timeout",
    ),
    sqlite3.SQLITE_CONSTRAINT: (
        "the journal has rows of this run that this process did not write",
        "two processes were running it: is the file of its locks on a network, or was it deleted?",
    ),
}


# What using a connection may raise: the text of a damaged file is no text.
FAILURES = (sqlite3.Error, OSError, UnicodeDecodeError)


def failure(error: BaseException, path: str) -> JournalError:
    """Return what went wrong with the journal, in words; ``error`` is its cause."""
    if isinstance(error, JournalError):
        return error
    told = _in_words(error, path)
    told.__cause__ = error
    return told


def _in_words(error: BaseException, path: str) -> JournalError:
    if isinstance(error, OSError):
        return unusable(path, error)
    code = code_of(error) if isinstance(error, sqlite3.Error) else None
    if isinstance(error, UnicodeDecodeError):
        return damaged(path)
    if code is None and isinstance(error, sqlite3.OperationalError):
        return damaged(path)  # what should be text is none
    if code == sqlite3.SQLITE_NOTADB:
        return no_database(path)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR):
        return damaged(path)
    what, help = _TOLD.get(code, ("the journal could not be used", "see the cause"))  # type: ignore[arg-type]
    return JournalError(f"{what}: {path}\n  help: {help}; the cause was: {error}", path)


def damaged(path: str, run_id: str | None = None, seq: int | None = None) -> JournalCorruptError:
    """Return the error for a file whose content is not what was written."""
    where = "" if run_id is None else f", run {run_id!r}"
    where += "" if seq is None else f", row {seq}"
    return JournalCorruptError(
        f"the journal is damaged{where}: {path}\n"
        f"  help: restore a backup, or copy the file and its -wal and see what "
        f"'sqlite3 FILE .recover' finds; a new file starts anew",
        path,
        run_id,
        seq,
        max(0, (seq or 1) - 1),
    )


def replaced(path: str, file: str) -> JournalError:
    """Return the error for a journal of which a file is not the one any more that was opened."""
    help = "open the journal anew, and start the run again under its run_id: it goes on"
    if file in (path, f"{path}-wal"):
        help = "what was recorded since then is lost"
    return JournalError(
        f"a file of the journal was deleted or replaced while it was in use: {file}\n"
        f"  help: {help}; leave the file, its -wal, -shm and -locks alone while a run is going on",
        path,
    )


def unusable(path: str, error: OSError) -> JournalError:
    """Return the error for a file of the journal that the system does not let us use."""
    return JournalError(
        f"{error.strerror or error}: {error.filename or path}\n"
        f"  help: the journal's folder and all files beside it must be writable, with room left",
        path,
    )


def no_database(path: str) -> JournalError:
    return JournalError(
        f"this is no journal, nor any database: {path}\n"
        f"  help: it was left as it is; name another file",
        path,
    )
