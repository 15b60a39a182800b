"""What happened in a recorded run, as events: those that it told when it ran, from its rows."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from dagron._events import Event, NodeReady, NodeStarted, RunFinished, RunStarted
from dagron._facts import Facts
from dagron._rows import LIFE, RETRY, Row
from dagron._statuses import Landed
from dagron._stories import of_landing, of_move, pairs
from dagron.journal._recorded import recorded_error
from dagron.journal._telling import TellError, Telling, no_value

UNWRITTEN = (NodeReady, NodeStarted)  # when nodes start is in no row


class Chronicle:
    """Collects the ``events`` of a run, stamped with the times of its rows.

    What failed and was tried again did happen: so a run is told once up to each retry, and what it
    was told of before is told no second time.
    """

    def __init__(
        self,
        run_id: str,
        graph: str,
        read: Callable[[], Iterable[Row]],
        tell_error: TellError = recorded_error,
    ) -> None:
        self.events: list[Event] = []
        self._run_id = run_id
        self._graph = graph
        self._read = read
        self._tell_error = tell_error
        self._began: float | None = None
        self._elapsed = 0.0
        self._time = 0.0
        self._version = 0
        self._is_new = False  # what is being told was not told before
        after = 0
        for until in self._parts():
            self._tell_part(after, until)
            after = until

    def _parts(self) -> list[int]:
        """Return the rows with which a part ends: before each retry, and the last one."""
        last, parts = 0, []
        for row in self._read():
            if row.kind == RETRY:
                parts.append(row.seq - 1)
            last = row.seq
        return [*parts, last]

    def _tell_part(self, after: int, until: int) -> None:
        facts = Facts(self._rows(until), {}, False)
        telling = Telling(self._graph, facts, no_value, self._tell_error)
        telling.scheduler.log = []
        telling.on_forgetting = partial(self._read_log, telling)
        for row in self._rows(until):
            self._is_new = row.seq > after
            self._stamp(row.at)
            if self._is_new and row.kind == LIFE:
                dag = telling.scheduler.dag()
                self._tell(RunStarted, tuple(dag.nodes()), pairs(dag.edges()))
            telling.tell(row)
            self._read_log(telling)
        if facts.end is not None:
            telling.finish(facts.end["reason"])
            self._read_log(telling)
            result = telling.result()
            counts = [result.succeeded, result.failed, result.skipped, result.cancelled]
            removed, seconds = len(result.removed), result.total_duration_seconds
            self._tell(RunFinished, result.ok, result.reason, *counts, removed, seconds)

    def _rows(self, until: int) -> Iterator[Row]:
        for row in self._read():
            if row.seq > until:
                return
            yield row

    def _stamp(self, at: float) -> None:
        if self._began is None:
            self._began = at
        self._time = at
        self._elapsed = max(self._elapsed, at - self._began)  # also where the clock was put back

    def _read_log(self, telling: Telling) -> None:
        scheduler = telling.scheduler
        log, scheduler.log = scheduler.log or [], []
        if not self._is_new:
            self._version = scheduler.version
            return
        for record in log:
            if isinstance(record, Landed):
                self._version = record.version
                for kind, details in of_landing(record):
                    self._tell(kind, *details)
            elif story := of_move(*record, scheduler, telling.results, telling.cut or ""):
                self._tell(story[0], *story[1])

    def _tell(self, kind: type[Event], *details: Any) -> None:
        if kind not in UNWRITTEN:
            seq = len(self.events) + 1
            stamps = (seq, self._version, self._time, self._elapsed, self._run_id)
            self.events.append(kind(*stamps, *details))
