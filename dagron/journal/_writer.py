"""The one thread that writes a journal: what waits is committed together, then acknowledged."""

import os
import sqlite3
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from math import inf
from queue import Empty, SimpleQueue
from time import monotonic, sleep
from typing import Any, TypeVar

from dagron._errors import JournalError
from dagron._rows import Patience, Row
from dagron.journal._claim import Claim, ended
from dagron.journal._database import Connection, open_writer, transaction
from dagron.journal._failures import FAILURES, failure, is_busy, replaced
from dagron.journal._locks import identity_of, locks_of
from dagron.journal._rows import parameters, statements
from dagron.journal._runs import RunRecord, update_run

# While another process writes SQLite waits so long, and then it is looked who still wants to wait.
TRY = 0.05  # seconds
PAUSE = 0.01  # seconds; there are cases in which SQLite does not wait
GRACE = 0.5  # seconds for the rows of a run that is to end: others that write have had their turn

Done = Callable[[JournalError | None], object]
T = TypeVar("T")


class Batch:
    """Rows that are to be committed together, and whom to tell."""

    __slots__ = ("claim", "deadline", "done", "is_committed", "is_end", "rows")

    def __init__(self, claim: Claim, rows: Sequence[Row], done: Done, is_end: bool) -> None:
        self.claim = claim
        self.deadline = inf
        self.rows = rows
        self.done = done
        self.is_end = is_end
        self.is_committed = False

    def tell(self) -> None:
        """Call back; what that raises is reported, and kept from the thread that writes."""
        try:
            self.done(None if self.is_committed else self.claim.error)
        except BaseException:
            threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), None)))

    def is_given_up(self, now: float) -> bool:
        """Tell whether to wait for other processes no longer."""
        patience = self.claim.patience
        if patience.is_short:
            self.deadline = min(self.deadline, now + GRACE)
            patience.is_spent = patience.is_spent or now >= self.deadline
        return now >= self.deadline or self.claim.error is not None

    def fail(self, error: JournalError) -> None:
        self.claim.fail(error)
        self.answer()

    def answer(self) -> None:
        """Tell what came of it; from the writer's thread."""
        self.claim.answered += 1
        self.tell()


class _Job:
    """Something else to do in the writer's thread, and the future of its result."""

    def __init__(self, function: Callable[[Connection], object], patience: Patience | None) -> None:
        self.function = function
        self.patience = patience
        self.deadline = inf
        self.future: Future[Any] = Future()

    def is_given_up(self, now: float) -> bool:
        """Tell whether to wait for other processes no longer."""
        if self.patience is not None and self.patience.is_short:
            self.patience.is_spent = True  # nothing is lost that has not begun
            return True
        return now >= self.deadline

    def fail(self, error: BaseException) -> None:
        self.future.set_exception(error)


class Writer:
    """Writes one journal, in one thread of its own, in the order of what is put in.

    ``on_end`` is called when all is written and the file is closed.
    """

    def __init__(
        self, path: str, durability: str, busy_timeout: float, on_end: Callable[[], object]
    ) -> None:
        self.path = path
        self._on_end = on_end
        self._durability = durability
        self._busy_timeout = busy_timeout
        self._pid = os.getpid()
        self._queue: SimpleQueue[Batch | _Job | None] = SimpleQueue()
        self._waiting: deque[Batch | _Job | None] = deque()  # the same, in the writer's thread
        self._mutex = threading.Lock()
        self._thread: threading.Thread | None = None
        self._connection: Connection | None = None
        self._is_closed = False

    # -- from any thread

    def submit(self, batch: Batch) -> None:
        """Put in what is to be committed; does not wait."""
        self.check_process()
        with self._mutex:
            if self._is_closed:
                batch.claim.fail(self._closed())
            if batch.claim.error is None:
                batch.claim.submitted += 1
                self._queue.put(batch)
                return
        batch.tell()

    def call(self, function: Callable[[Connection], T], patience: Patience | None = None) -> T:
        """Call this in the writer's thread, after what is in already; wait for its result.

        It is called again where another process was in the way, and has changed nothing then.
        """
        self.check_process()
        job = _Job(function, patience)
        with self._mutex:
            if self._is_closed:
                raise self._closed()
            if self._thread is None:
                self._thread = self._started()
            self._queue.put(job)
        result: T = job.future.result()
        return result

    def stop(self) -> None:
        """Take nothing more, write what is in, close the file; a second time does nothing."""
        if os.getpid() != self._pid:
            return  # the thread and the file are the parent's
        with self._mutex:
            was_closed, self._is_closed = self._is_closed, True
            thread = self._thread
            if not was_closed:
                self._queue.put(None)
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        self._on_end()

    def abandon(self) -> None:
        """Let the thread end when all is written; for when nobody has the journal any more.

        The garbage collector may call this anywhere, also where this thread, or one that it would
        wait for, holds a lock: so it takes none, and waits for nothing.
        """
        if os.getpid() == self._pid and not self._is_closed:
            self._is_closed = True
            self._queue.put(None)

    def check_process(self) -> None:
        """Raise `JournalError` in a process that was forked from the one that opened it."""
        if os.getpid() != self._pid:
            raise JournalError(
                f"this process was forked from one that has the journal open: {self.path}\n"
                f"  help: start it with multiprocessing's method 'spawn', or subprocess",
                self.path,
            )

    def _closed(self) -> JournalError:
        return JournalError(
            f"the journal was closed: {self.path}\n  help: close it after the last run", self.path
        )

    def _started(self) -> threading.Thread:
        # A daemon, since nothing that is not closed may keep the interpreter from ending.
        thread = threading.Thread(target=self._run, name="dagron-journal", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise failure(error, self.path) from error
        return thread

    # -- in the writer's thread

    def _run(self) -> None:
        while self._take():
            pass
        if self._connection is not None:
            self._connection.close()
        self._on_end()

    def _take(self) -> bool:
        """Do what has come in, all batches that wait at once; tell whether to go on.

        A function of its own, so that nothing of a run is kept alive while there is nothing to do.
        """
        waiting = self._waiting
        if not waiting:
            waiting.append(self._queue.get())
        with suppress(Empty):
            while True:
                waiting.append(self._queue.get_nowait())
        first = waiting[0]
        if first is None:
            return False
        batches: list[Batch] = []
        for entry in waiting:
            if not isinstance(entry, Batch):
                break
            batches.append(entry)
        tried: Sequence[Batch | _Job] = batches or [first]
        try:
            if isinstance(first, _Job):
                self._do(first)
            else:
                self._commit(batches)
        except sqlite3.Error as busy:
            self._turn_away(tried, busy)
            sleep(PAUSE)
        else:
            for _ in tried:
                waiting.popleft()
        return True

    def _turn_away(self, tried: Sequence[Batch | _Job], busy: sqlite3.Error) -> None:
        """Answer those who want to wait no longer for the process that is in the way."""
        now = monotonic()
        for entry in tried:
            entry.deadline = min(entry.deadline, now + self._busy_timeout)
        for entry in [entry for entry in self._waiting if entry and entry.is_given_up(now)]:
            self._waiting.remove(entry)
            entry.fail(failure(busy, self.path))

    def _do(self, job: _Job) -> None:
        try:
            job.future.set_result(job.function(self._opened()))
        except FAILURES as error:
            if is_busy(error):
                raise
            job.fail(failure(error, self.path))
        except BaseException as error:  # whoever waits for it must not wait forever
            job.fail(error)

    def _opened(self) -> Connection:
        if self._connection is None:
            patience = min(TRY, self._busy_timeout)
            self._connection = open_writer(self.path, self._durability, patience)
        return self._connection

    def _commit(self, batches: list[Batch]) -> None:
        flat: list[Any] = []
        self._refuse_the_lost(batches)
        ready = [batch for batch in batches if self._is_flattened(batch, flat)]
        try:
            records = _records(ready)
            self._write(flat, records)
        except BaseException as error:  # whatever it is, nobody is told that it was written
            if is_busy(error):
                raise
            for batch in ready:
                batch.claim.fail(failure(error, self.path))
        else:
            for batch in ready:
                self._committed(batch, records)
        for batch in batches:
            batch.answer()

    def _refuse_the_lost(self, batches: list[Batch]) -> None:
        """Fail the claims that others do not know of, since the lock file is another one now."""
        locks = locks_of(self.path)
        file = identity_of(locks)
        for batch in batches:
            if batch.claim.hold.file != file:
                batch.claim.fail(replaced(self.path, locks))

    def _is_flattened(self, batch: Batch, flat: list[Any]) -> bool:
        """Append the batch to what will be written; tell whether that can be done."""
        if batch.claim.error is not None:
            return False
        try:
            flat += parameters(batch.claim.number, batch.rows)
        except Exception as error:
            batch.claim.fail(failure(error, self.path))
            return False
        return True

    def _write(self, flat: list[Any], records: dict[Claim, RunRecord]) -> None:
        """Commit it: with one call where it can be one, which is a transaction by itself."""
        connection = self._opened()
        inserts = statements(flat)
        if len(inserts) == 1 and not records:
            connection.check_place()
            connection.execute(*inserts[0])
            connection.check_place()
        else:
            with transaction(connection):
                for text, values in inserts:
                    connection.execute(text, values)
                for record in records.values():
                    update_run(connection, record)

    def _committed(self, batch: Batch, records: dict[Claim, RunRecord]) -> None:
        batch.is_committed = True
        claim = batch.claim
        try:
            claim.committed(batch.rows, records.get(claim, claim.record))
        except OSError as error:
            claim.fail(failure(error, self.path))


def _records(batches: list[Batch]) -> dict[Claim, RunRecord]:
    """Return what the batches change in the records of their runs: they open a life, or end it."""
    changed: dict[Claim, RunRecord] = {}
    for batch in batches:
        claim = batch.claim
        record = changed.get(claim) or claim.opened()
        if batch.is_end:
            record = ended(record, claim.next_seq - 1)
        if record is not claim.record:
            changed[claim] = record
    return changed
