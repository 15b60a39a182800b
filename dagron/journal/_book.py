"""What a journal has of one run, for the engine that runs it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dagron._results import ExecutionResult
from dagron._rows import Row
from dagron.journal._claim import Claim
from dagron.journal._recorded import error_row, recorded_error
from dagron.journal._references import References
from dagron.journal._store import Store
from dagron.journal._values import Values


class Book:
    """A run that this process has claimed: see `dagron._rows.Book`."""

    def __init__(
        self,
        store: Store,
        claim: Claim,
        values: Values,
        references: References,
        max_recoveries: int,
    ) -> None:
        self._store = store
        self._claim = claim
        self.uid = claim.uid
        self.is_new = claim.is_new
        self.is_finished = claim.is_finished
        self.graph = claim.graph
        self.last_seq = claim.last_seq
        self.in_flight: Mapping[str, int] = claim.in_flight
        self.max_recoveries = max_recoveries
        self.dump = values.dump
        self.load = values.load
        self.refer = references.refer
        self.resolve = references.resolve
        self.error_row: Callable[[BaseException], dict[str, Any]] = error_row
        self.error: Callable[[Mapping[str, Any]], BaseException] = recorded_error

    def rows(self) -> Iterator[Row]:
        """Read the rows that there were when the run was claimed, or are by now."""
        return self._store.rows(self._claim)

    def result(self) -> ExecutionResult:
        """Return what the run came to, as it is recorded."""
        from dagron.journal._telling import told

        return told(self.graph, self.rows, self.load)

    def append(self, rows: Sequence[Row], done: Callable[[Exception | None], object]) -> None:
        """Write these, without waiting for it."""
        self._store.submit(self._claim, rows, done)

    def finish(self, rows: Sequence[Row], done: Callable[[Exception | None], object]) -> None:
        """Write these, the last ones."""
        self._store.finish(self._claim, rows, done)

    def begin(self, attempts: Sequence[tuple[str, int]]) -> None:
        """Note that these nodes are at work from now on; from any thread."""
        self._store.begin(self._claim, attempts)

    def release(self) -> None:
        """Let others have the run: nothing of it is at work any more."""
        self._store.release(self._claim, clean=True)
