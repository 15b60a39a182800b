"""The one thread that writes a journal: what waits is committed together, then acknowledged."""

import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from dagron._errors import JournalError
from dagron._rows import Row
from dagron.journal._claim import Claim, ended
from dagron.journal._database import Connection, open_writer, transaction
from dagron.journal._failures import FAILURES, failure, replaced
from dagron.journal._locks import identity_of, locks_of
from dagron.journal._rows import parameters, statements
from dagron.journal._runs import RunRecord, update_run

Done = Callable[[JournalError | None], object]
T = TypeVar("T")


class Batch:
    """Rows that are to be committed together, and whom to tell."""

    __slots__ = ("claim", "done", "is_committed", "is_end", "rows")

    def __init__(self, claim: Claim, rows: Sequence[Row], done: Done, is_end: bool) -> None:
        self.claim = claim
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


class _Job:
    """Something else to do in the writer's thread, and the future of its result."""

    def __init__(self, function: Callable[[Connection], object]) -> None:
        self.function = function
        self.future: Future[Any] = Future()


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
                self._queue.put(batch)
                return
        batch.tell()

    def call(self, function: Callable[[Connection], T]) -> T:
        """Call this in the writer's thread, after what is in already; wait for its result."""
        self.check_process()
        job = _Job(function)
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
        while self._take(self._queue.get()):
            pass
        if self._connection is not None:
            self._connection.close()
        self._on_end()

    def _take(self, entry: Batch | _Job | None) -> bool:
        """Do what has come in, all batches that wait at once; tell whether to go on.

        A function of its own, so that nothing of a run is kept alive while there is nothing to do.
        """
        batches: list[Batch] = []
        try:
            while isinstance(entry, Batch):
                batches.append(entry)
                entry = self._queue.get_nowait()
        except Empty:
            pass
        if batches:
            self._commit(batches)
        if isinstance(entry, _Job):
            self._do(entry)
        return entry is not None

    def _do(self, job: _Job) -> None:
        try:
            job.future.set_result(job.function(self._opened()))
        except FAILURES as error:
            job.future.set_exception(failure(error, self.path))
        except BaseException as error:  # whoever waits for it must not wait forever
            job.future.set_exception(error)

    def _opened(self) -> Connection:
        if self._connection is None:
            self._connection = open_writer(self.path, self._durability, self._busy_timeout)
        return self._connection

    def _commit(self, batches: list[Batch]) -> None:
        flat: list[Any] = []
        self._refuse_the_lost(batches)
        ready = [batch for batch in batches if self._is_flattened(batch, flat)]
        try:
            records = _records(ready)
            self._write(flat, records)
        except BaseException as error:  # whatever it is, nobody is told that it was written
            for batch in ready:
                batch.claim.fail(failure(error, self.path))
        else:
            for batch in ready:
                self._committed(batch, records)
        for batch in batches:
            batch.tell()

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
