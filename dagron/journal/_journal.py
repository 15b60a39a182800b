"""Journal: what a user has of a file of durable runs."""

import os
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Literal

from dagron._checks import counted
from dagron._rows import Patience
from dagron.journal._book import Book
from dagron.journal._recorded_run import RecordedRun
from dagron.journal._references import References
from dagron.journal._store import RunRow, Store
from dagron.journal._values import Values


class Journal:
    """A file in which runs are recorded, so that a run which was killed goes on where it was.

    ``DynamicExecutor(dag, journal=Journal("runs.db"))`` writes what its nodes come to into the
    SQLite file ``path``, which is made where there is none. ``await executor.execute(tasks,
    run_id="nightly")`` begins a run of that id, or goes on with it.

    What is promised: the body of a node runs *at least once*; its result, and what its expander
    adds, count *exactly once*, together or not at all, and nothing that depends on a node starts
    before that is written. ``durability="process"`` keeps this promise when the process is killed
    at any moment, ``"power"`` also when the machine loses power, for the price of waiting for the
    disk. `current` gives a body an ``idempotency_key`` that is the same each time.

    Callables cannot be stored. So when a run goes on, the expander of a node that has ended is
    called again, with the result that was recorded, for the tasks of the nodes that it adds: what
    it returns must be what it returned then, else `ReplayError` says what is different. Expanders,
    and conditions on edges, depend on what they are called with alone; a lookup belongs into a
    node's task, whose result is recorded. An expander that takes the graph must not depend on
    completed nodes which ``keep`` lets go of: when they leave it depends on the moment. What comes
    from outside, by `Run.modify`, and what a task adds by ``grow`` is recorded with the names of
    its callables: functions at the top level of a module that ``allow`` names, with what
    `functools.partial` binds to them. All others are refused, with what to type.

    Results are pickled, and loaded without running any code of the file: plain data, the standard
    library's types for data, and the classes of the modules that ``allow`` names. A result that
    cannot be stored, or has more than ``max_result_bytes``, fails its node at once.

    ``allow=["myapp.nodes", "__main__"]`` lets in what these modules define themselves, not what
    they import. Warning: whoever can write to the file can have these functions and classes called,
    with plain data for arguments. So allow modules of nodes and models, and none in which there is
    a function that would do harm, such as ``shutil``. ``trust=True`` stores and loads everything:
    then whoever can write to the file can run any code in your process.

    A node that was at work each of the ``max_recoveries`` times when the process died is FAILED
    with `NodePoisonedError` instead of killing it again. ``busy_timeout`` is how many seconds to
    wait, in a thread, while other processes write to the same file; a run that is to end waits for
    half a second.

    One journal serves any number of executors, runs and event loops at once, and its file any
    number of processes; each run belongs to one of them at a time. All methods block, as reading a
    file does. Close it when the last run has ended, or use it as a context manager; the end of the
    program does it, too.

    Raises `TypeError` or `ValueError` that name the parameter; the file is first touched by a run.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Literal["process", "power"] = "process",
        allow: Sequence[str] = (),
        trust: bool = False,
        max_result_bytes: int | None = None,
        max_recoveries: int = 3,
        busy_timeout: float = 60.0,
    ) -> None:
        self._values = Values(allow, trust=trust, max_result_bytes=max_result_bytes)
        self._allow = frozenset(allow)
        self._trust = trust
        self._max_recoveries = counted("max_recoveries", max_recoveries)
        self._store = Store(path, durability=durability, busy_timeout=busy_timeout)

    @property
    def path(self) -> str:
        """The file, as an absolute path."""
        return self._store.path

    def _open(self, run_id: str, graph: str, patience: Patience) -> Book:
        claim = self._store.claim(run_id, graph, os.urandom(16).hex(), patience)
        references = References(self._values, self._allow, trust=self._trust)
        return Book(self._store, claim, self._values, references, self._max_recoveries)

    def runs(self) -> list[RecordedRun]:
        """Return all runs, the oldest first; none where there is no file yet."""
        return [self._recorded(row) for row in self._store.runs()]

    def run(self, run_id: str) -> RecordedRun:
        """Return the run of this id, to look at, also while it is going on.

        Raises `UnknownRunError`, which has close names.
        """
        return self._recorded(self._store.run(run_id))

    def _recorded(self, row: RunRow) -> RecordedRun:
        store = self._store
        return RecordedRun(
            row,
            partial(store.graph, row),
            partial(store.rows, row),
            self._values.load,
            in_flight=partial(store.in_flight, row),
        )

    def prune(self, *, older_than: float | timedelta) -> list[str]:
        """Delete the runs that ended longer ago than this, in seconds or as a timedelta; return
        their ids.

        Runs that have not ended stay, however old they are: see `forget`.
        """
        return self._store.prune(older_than)

    def forget(self, run_id: str) -> None:
        """Delete a run, ended or not: one of this id begins anew then, and runs what had finished.

        Raises `UnknownRunError`, which has close names, and `RunInUseError`, a `JournalError`,
        while the run is being executed.
        """
        self._store.forget(run_id)

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Copy the journal as it is now into a new file, also while runs are written to it.

        Raises `JournalError` where that file is there already.
        """
        self._store.backup(path)

    def close(self) -> None:
        """Wait for what is to be written, and close the file; a second call does nothing."""
        self._store.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Journal {self.path!r}>"
