"""A journal's file: runs are claimed, written and released; and looked at from any process."""

import atexit
import os
import socket
import sqlite3
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from functools import partial
from time import gmtime, strftime, time
from types import TracebackType
from typing import NamedTuple

from dagron._checks import finite
from dagron._errors import InternalError, JournalError, RunInUseError, UnknownRunError
from dagron._names import checked_run_id, close_names, plural, question
from dagron._rows import OUTCOMES, RETRY, Patience, Row
from dagron.journal._begun import Begun, read_begun, remove_begun, still_in_flight
from dagron.journal._claim import Claim
from dagron.journal._database import Connection, open_backup, open_reader, transaction
from dagron.journal._failures import FAILURES, damaged, failure
from dagron.journal._locks import Hold, hold, is_held, locks_of
from dagron.journal._runs import (
    RunRecord,
    all_runs,
    check_unfinished,
    checked_rows,
    delete_run,
    find_run,
    insert_run,
    last_seq_of,
    numbered_run,
    rows_of_kinds,
    update_run,
)
from dagron.journal._writer import Batch, Done, Writer

DURABILITIES = ("process", "power")


class Holder(NamedTuple):
    """Who has a run: a process, on a host, since when (seconds since the epoch)."""

    pid: int | None
    host: str | None
    since: float | None

    def __str__(self) -> str:
        since = strftime("%Y-%m-%d %H:%M:%S UTC", gmtime(self.since or 0))
        return f"process {self.pid} on {self.host}, since {since}"


class RunRow(NamedTuple):
    """A run of a journal: ``state`` is "running", "interrupted" or "finished".

    ``lives`` counts how often it was executed, ``held_by`` says who has it now, or is None.
    """

    number: int
    run_id: str
    uid: str
    created: float
    state: str
    ended: float | None
    lives: int
    held_by: Holder | None


class Store:
    """One journal file: one connection that writes, on one thread; readers have their own.

    ``durability="process"`` survives a killed process, ``"power"`` a power cut as well.
    ``busy_timeout`` is how many seconds to wait for another process that writes.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: str = "process",
        busy_timeout: float = 60.0,
    ) -> None:
        if durability not in DURABILITIES:
            raise ValueError(
                f"durability is 'process' or 'power', not {durability!r:.60}\n"
                f"  help: 'process' survives a killed process, 'power' a power cut as well"
            )
        self._path = _checked_path(path)
        self._busy_timeout = finite("busy_timeout", busy_timeout)
        self._claims: set[Claim] = set()
        let_go = partial(_let_go, self._claims)
        self._writer = Writer(self._path, durability, self._busy_timeout, let_go)
        _writers.add(self._writer)
        weakref.finalize(self, self._writer.abandon).atexit = False

    @property
    def path(self) -> str:
        """The file, as an absolute path without symbolic links."""
        return self._path

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # -- writing a run

    def claim(self, run_id: str, graph: str, uid: str, patience: Patience | None = None) -> Claim:
        """Take a run: make it, or find it; blocking. ``graph`` and ``uid`` are those of a new one.

        ``patience`` says how long to wait for other processes, now and when rows are written.

        Raises `RunInUseError` when it is being executed, `JournalError` when the file cannot be
        used.
        """
        run_id = checked_run_id(run_id)
        claim = self._writer.call(
            lambda connection: self._claimed(connection, run_id, graph, uid), patience
        )
        claim.patience = patience or claim.patience
        try:
            if not claim.is_new and not claim.is_finished:
                claim.in_flight = self._in_flight(claim.record, claim.last_seq)
        except BaseException:
            self.release(claim, clean=False)
            raise
        return claim

    def submit(self, claim: Claim, rows: Sequence[Row], done: Done) -> None:
        """Hand over rows to be committed, all or none; never waits.

        ``done`` is called once, from the writer's thread or at once: with None when they are
        durable, or with the error. After an error the claim is dead: all that follows fails too.
        """
        self._submit(claim, rows, done, is_end=False)

    def finish(self, claim: Claim, rows: Sequence[Row], done: Done) -> None:
        """Hand over the last rows of a run, with which it is finished; otherwise as `submit`."""
        self._submit(claim, rows, done, is_end=True)

    def begin(self, claim: Claim, names: Iterable[tuple[str, int]]) -> None:
        """Note that these attempts of these nodes begin; never raises for a full disk.

        That is told to the next `submit`. Until the first rows of this claim are committed, what
        begins is only kept in memory.
        """
        self._writer.check_process()
        try:
            claim.begun.begin(names)
        except OSError as error:
            claim.fail(failure(error, self._path))

    def release(self, claim: Claim, *, clean: bool) -> None:
        """Let the run go, once what was submitted is written; blocking, twice does nothing.

        ``clean`` says that nothing of it was in flight any more.
        """
        if claim not in self._claims:
            return
        self._writer.check_process()
        if claim.answered == claim.submitted:  # else another run might be in the way, which waits
            _release(claim, clean)
        else:
            self._writer.call(lambda _: _release(claim, clean))
        self._claims.discard(claim)

    def _submit(self, claim: Claim, rows: Sequence[Row], done: Done, *, is_end: bool) -> None:
        first, following = claim.next_seq, claim.next_seq + len(rows)
        if claim.is_ended or (rows and (rows[0].seq, rows[-1].seq) != (first, following - 1)):
            raise InternalError(
                f"the journal expected row {first} of run {claim.run_id!r}, not what it was given\n"
                f"  help: this is a bug in dagron; please report it with this traceback"
            )
        claim.next_seq = following
        claim.is_ended = is_end
        self._writer.submit(Batch(claim, rows, done, is_end))

    def _claimed(self, connection: Connection, run_id: str, graph: str, uid: str) -> Claim:
        """Claim a run in one transaction, so that the record of who has it is never old."""
        held: Hold | None = None
        try:
            with transaction(connection):
                record = found = find_run(connection, run_id)
                if record is None:
                    fresh = RunRecord(0, run_id, uid, time())
                    record = insert_run(connection, fresh, graph)
                held = hold(locks_of(self._path), record.number)
                if held is None:
                    raise self._in_use(record)
                record = record._replace(pid=os.getpid(), host=socket.gethostname(), since=time())
                update_run(connection, record)
                claim = self._found(connection, record, held)
            if found is None:
                claim.is_new = claim.is_open = True
                claim.begun.open(record.life)
            self._claims.add(claim)  # here, so that it is let go also where `close` comes next
            return claim
        except BaseException:
            if held is not None:
                held.release()
            raise

    def _found(self, connection: Connection, record: RunRecord, held: Hold) -> Claim:
        first = next(checked_rows(connection, record), None)
        last = last_seq_of(connection, record.number)
        if first is None or first.change is None or last < (record.last_seq or 0):
            raise damaged(self._path, record.run_id, 0 if first is None else last + 1)
        return Claim(record, first.change, last, held, Begun(self._begun_path(record.number)))

    def _in_flight(self, record: RunRecord, last_seq: int | None = None) -> dict[str, int]:
        """Return what is in flight in a run that has not ended; with the number of its last row,
        look first if the file is sound.

        With a connection of its own, so that no other run has to wait for it.
        """
        begun = read_begun(self._begun_path(record.number), record.life)
        with self._reading() as connection:
            assert connection is not None, "the run was found in it"
            if last_seq is not None:
                check_unfinished(connection, record, last_seq)
            if not begun:
                return {}
            ends = rows_of_kinds(connection, record.number, (*sorted(OUTCOMES), RETRY))
            return still_in_flight(begun, ends)

    def _in_use(self, record: RunRecord) -> RunInUseError:
        holder = _holder(record)
        help = "wait for it, or end that process: it is free as soon as that is gone"
        if (holder.pid, holder.host) == (os.getpid(), socket.gethostname()):
            help = "that is this process: wait for that run, or take another run_id"
        return RunInUseError(
            f"run {record.run_id!r} is being executed by {holder}\n  help: {help}",
            self._path,
            record.run_id,
            *holder,
        )

    # -- looking at it, from any process

    def runs(self) -> list[RunRow]:
        """Return all runs, the oldest first; none where there is no file yet."""
        with self._reading() as connection:
            records = all_runs(connection) if connection is not None else []
        return [self._row_of(record) for record in records]

    def run(self, run_id: str) -> RunRow:
        """Return the run of this id. Raises `UnknownRunError`."""
        with self._reading() as connection:
            record = find_run(connection, run_id) if connection is not None else None
            if record is None:
                known = [] if connection is None else all_runs(connection)
                raise self._unknown(run_id, [other.run_id for other in known])
        return self._row_of(record)

    def graph(self, run: Claim | RunRow | int) -> str:
        """Return the graph with which a run began, as it was given to `claim`."""
        with self._reading() as connection:
            for row in checked_rows(*self._record(connection, run)):
                return row.change or ""
        raise damaged(self._path, None, 0)

    def rows(self, run: Claim | RunRow | int) -> Iterator[Row]:
        """Yield the rows of a run in their order, each once it has been checked.

        Raises `JournalCorruptError` at the first that is damaged or missing: those before it are
        sound.
        """
        with self._reading() as connection:
            connection, record = self._record(connection, run)
            seq = -1
            try:
                for row in checked_rows(connection, record):
                    seq = row.seq
                    if seq:  # 0 is the graph
                        yield row
            except (sqlite3.Error, UnicodeDecodeError) as error:
                raise damaged(self._path, record.run_id, seq + 1) from error

    def in_flight(self, run: Claim | RunRow | int) -> dict[str, int]:
        """Return what is at work in a run, or was when its process died, each with its attempt."""
        with self._reading() as connection:
            _, record = self._record(connection, run)
        return self._in_flight(record)

    def prune(self, older_than: float | timedelta) -> list[str]:
        """Delete the runs that ended more than so many seconds ago and that nobody holds; return
        their ids.
        """
        if isinstance(older_than, timedelta):
            older_than = older_than.total_seconds()
        before = time() - finite("older_than", older_than)
        old = [run.number for run in self.runs() if run.ended is not None and run.ended < before]
        pruned = [self._writer.call(partial(self._pruned, number, before)) for number in old]
        return [run_id for run_id in pruned if run_id is not None]

    def forget(self, run_id: str) -> None:
        """Delete a run that nobody holds, whatever became of it."""
        self._writer.call(partial(self._forgotten, run_id, self.run(run_id).number))

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Copy the journal as it is now into a new file, while it may be written to."""
        target = _checked_path(path)
        with self._reading() as connection:
            if connection is None:
                raise JournalError(
                    f"there is no journal to back up: {self._path}\n  help: look at the path",
                    self._path,
                )
            copy = open_backup(target)
            try:
                with closing(copy):
                    connection.backup(copy)
            except BaseException:
                os.unlink(target)
                raise

    def close(self) -> None:
        """Wait for what was submitted, let the runs go, close the file; twice does nothing."""
        self._writer.stop()

    @contextmanager
    def _reading(self) -> Iterator[Connection | None]:
        """Lend a connection that sees the journal as it is at one moment, or None."""
        self._writer.check_process()
        try:
            connection = open_reader(self._path, self._busy_timeout)
            if connection is None:
                yield None
                return
            with closing(connection):
                connection.execute("BEGIN")
                yield connection
        except FAILURES as error:
            raise failure(error, self._path) from error

    def _record(
        self, connection: Connection | None, run: Claim | RunRow | int
    ) -> tuple[Connection, RunRecord]:
        number, run_id = (run, str(run)) if isinstance(run, int) else (run.number, run.run_id)
        record = None if connection is None else numbered_run(connection, number)
        if connection is None or record is None:
            raise self._gone(run_id)
        return connection, record

    def _row_of(self, record: RunRecord) -> RunRow:
        held_by = _holder(record) if is_held(locks_of(self._path), record.number) else None
        state = "running" if held_by else "interrupted"
        if record.ended is not None:
            state = "finished"
        return RunRow(*record[:4], state, record.ended, record.life, held_by)

    def _unknown(self, run_id: str, known: Sequence[str]) -> UnknownRunError:
        close = close_names(run_id, known)
        help = question(close) or f"the journal has {plural(len(known), 'run')}: {self._path}"
        text = f"no run of the journal has the id {run_id!r:.60}\n  help: {help}"
        return UnknownRunError(text, run_id, close=close)

    def _gone(self, run_id: str) -> UnknownRunError:
        text = f"run {run_id!r} is not in the journal any more: {self._path}"
        return UnknownRunError(f"{text}\n  help: it was pruned or forgotten meanwhile", run_id)

    def _pruned(self, number: int, before: float, connection: Connection) -> str | None:
        """Delete one run that ended before then, and return its id; None where it goes on."""

        def is_old(record: RunRecord) -> bool:
            return record.ended is not None and record.ended < before

        with suppress(RunInUseError):
            return self._deleted(number, is_old, connection)
        return None

    def _forgotten(self, run_id: str, number: int, connection: Connection) -> None:
        if self._deleted(number, lambda record: True, connection) is None:
            raise self._gone(run_id)  # another process was quicker

    def _deleted(
        self, number: int, is_meant: Callable[[RunRecord], bool], connection: Connection
    ) -> str | None:
        """Delete one run if it is the one that is meant, and return its id.

        In a transaction of its own, so that others get their turn. Raises `RunInUseError`.
        """
        with transaction(connection):
            record = numbered_run(connection, number)
            if record is None or not is_meant(record):
                return None
            # Held and let go within it: a claim is a transaction too, and never meets this one.
            held = hold(locks_of(self._path), number)
            if held is None:
                raise self._in_use(record)
            try:
                delete_run(connection, number)
            finally:
                held.release()
        remove_begun(self._begun_path(number))
        return record.run_id

    def _begun_path(self, number: int) -> str:
        return f"{self._path}-{number}.begun"


def _holder(record: RunRecord) -> Holder:
    return Holder(record.pid, record.host, record.since)


def _checked_path(path: object) -> str:
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(
            f"the path of a journal is a str or a Path, not {type(path).__name__}: {path!r:.60}\n"
            f'  help: write "runs.db", for example'
        )
    name = os.fspath(path)
    if not isinstance(name, str) or not name or name == ":memory:" or "\0" in name:
        raise ValueError(
            f"a journal is a file, and {name!r:.60} names none\n"
            f'  help: write "runs.db", for example'
        )
    return os.path.realpath(name)


def _release(claim: Claim, clean: bool) -> None:
    closed = JournalError(
        f"run {claim.run_id!r} was released\n  help: claim it again to write to it"
    )
    claim.fail(closed)
    claim.begun.close(remove=clean)
    claim.hold.release()


def _let_go(claims: set[Claim]) -> None:
    """Release what a journal still had when it was closed."""
    while claims:
        try:
            claim = claims.pop()
        except KeyError:  # the last one was taken by another thread
            return
        _release(claim, clean=False)


_writers: weakref.WeakSet[Writer] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """At the end of the program, wait for what was submitted."""
    for writer in list(_writers):
        writer.stop()
