"""From what happened in a run to those who listen: observers, and readers of the handle."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from time import perf_counter, time
from typing import Any

from anyio import Event as Signal

from dagron._around import Observer
from dagron._calls import has_not_run
from dagron._events import Event, EventsMissed, RunFinished, RunSnapshot, RunStarted
from dagron._logs import ERROR, log
from dagron._node_result import NodeResult
from dagron._results import ExecutionResult, error_text
from dagron._scheduler import Scheduler
from dagron._status import CANCELLED, COMPLETED, FAILED, PENDING, SKIPPED, NodeStatus
from dagron._statuses import Landed
from dagron._stories import cancel_reason, of_landing, of_move, pairs

HISTORY = 10_000  # events that are kept for readers who come back, or lag behind
GULP = 256  # events that a reader takes at once


class Stream:
    """The events of one run: made from the scheduler's log, numbered, kept, and passed on.

    Nothing is made, and nothing logged, before somebody listens; from then on everything is. What
    observers cause is told after what they were told of. Nothing raises here: ``on_interrupt`` is
    called with an observer's KeyboardInterrupt, and ``on_bug`` with what fails in the scheduler.
    """

    def __init__(
        self,
        run_id: str,
        scheduler: Scheduler,
        results: Mapping[str, NodeResult],
        observers: Iterable[Observer],
        on_interrupt: Callable[[KeyboardInterrupt], None],
        on_bug: Callable[[Exception], None],
    ) -> None:
        self._run_id = run_id
        self._scheduler = scheduler
        self._results = results
        self._observers = list(observers)
        self._on_interrupt = on_interrupt
        self._on_bug = on_bug
        self._history: deque[Event] | None = None
        self._began: float | None = None
        self._version = 0  # of the graph, at the event that is made next
        self._queue: deque[tuple[type[Event], int, tuple[Any, ...]]] = deque()
        self._is_passing_on = False
        self._gap: int | None = None  # after the event of this number, something went unheard
        self._news = Signal()
        self.seq = 0  # of the last event
        self.is_over = False
        self.cut = "the run was cancelled"  # why nodes that never ran are cancelled all at once
        self.dropped_observers = 0

    @property
    def observers(self) -> Sequence[Observer]:
        """Those that have not been dropped."""
        return self._observers

    @property
    def is_heard(self) -> bool:
        """Whether anybody listens."""
        return bool(self._observers) or self._history is not None

    # -- making events

    def begin(self) -> None:
        """Tell that the run begins, with the graph as it is, and what its handle did before."""
        self._began = perf_counter()
        if not self.is_heard:
            self._gap = 0
            return
        self._start_log()
        try:
            dag = self._scheduler.dag()
            self._tell(RunStarted, tuple(dag.nodes()), pairs(dag.edges()))
            for name, status in self._scheduler.statuses().items():
                if status is not PENDING:
                    self._tell_moved(name, status)
        except Exception as bug:
            self._on_bug(bug)
        self.catch_up()

    def _start_log(self) -> None:
        self._scheduler.log = []
        self._version = self._scheduler.version

    def catch_up(self) -> None:
        """Tell what the scheduler has logged."""
        if self._is_passing_on or self._began is None:
            return
        self._is_passing_on = True
        scheduler, queue = self._scheduler, self._queue
        try:
            while queue or scheduler.log:
                if not queue:
                    self._read_log()
                while queue:
                    self._pass_on(*queue.popleft())
        except Exception as bug:
            queue.clear()
            self._on_bug(bug)
        finally:
            self._is_passing_on = False

    def _read_log(self) -> None:
        log, self._scheduler.log = self._scheduler.log or [], []
        for record in log:
            if type(record) is Landed:
                self._tell_landed(record)
            else:
                self._tell_moved(*record)

    def _tell(self, kind: type[Event], *details: Any) -> None:
        self._queue.append((kind, self._version, details))

    def _tell_moved(self, name: str, status: NodeStatus) -> None:
        story = of_move(name, status, self._scheduler, self._results, self.cut)
        if story is not None:
            self._tell(story[0], *story[1])

    def cancel_reason(self, name: str) -> str:
        """Return why a node was cancelled."""
        return cancel_reason(name, self._scheduler, self._results, self.cut)

    def _tell_landed(self, landed: Landed) -> None:
        self._version = landed.version
        for kind, details in of_landing(landed):
            self._tell(kind, *details)

    def tell(self, kind: type[Event], *details: Any) -> None:
        """Tell something that the scheduler does not know, after all that it has logged."""
        if self.is_heard and not self.is_over:
            self.catch_up()
            if self._scheduler.log:  # an observer is being told something: this comes behind
                self._read_log()
            self._tell(kind, *details)
            self.catch_up()

    def end(self, result: ExecutionResult | None, reason: str) -> None:
        """Tell that the run has ended, without a result where it ends in an exception."""
        if self._began is not None and self.is_heard:
            self.catch_up()
            try:
                counts = self._counts(result, reason)
            except Exception as bug:
                self._on_bug(bug)
                counts = (False, reason, 0, 0, 0, 0, 0)
            self.tell(RunFinished, *counts, perf_counter() - self._began)
        self.is_over = True
        self._news.set()

    def _counts(self, result: ExecutionResult | None, reason: str) -> tuple[Any, ...]:
        if result is not None:
            counts = [result.succeeded, result.failed, result.skipped, result.cancelled]
            return result.ok, result.reason, *counts, len(result.removed)
        statuses = list(self._scheduler.statuses().values())
        counts = list(map(statuses.count, (COMPLETED, FAILED, SKIPPED, CANCELLED)))
        counts[0] += self._scheduler.forgotten
        return False, reason, *counts, len(self._scheduler.removed())

    def _pass_on(self, kind: type[Event], version: int, details: tuple[Any, ...]) -> None:
        """Number an event, keep it, and show it to all observers."""
        self.seq += 1
        elapsed = perf_counter() - (self._began or 0.0)
        event = kind(self.seq, version, time(), elapsed, self._run_id, *details)
        if self._history is not None:
            self._history.append(event)
            self._news.set()
        for observer in self._observers:
            try:
                answer = observer(event)
                if answer is not None:
                    _refuse_awaitable(answer)
            except BaseException as error:
                self.drop(observer, error)

    def drop(self, observer: Observer, error: BaseException) -> None:
        """Drop an observer that raised: what happens in a run does not depend on who looks on."""
        self._observers = [other for other in self._observers if other is not observer]
        self.dropped_observers += 1
        message = "an observer raised and was dropped: %s"
        log(ERROR, self._run_id, None, message, error_text(error), error=error)
        if not self.is_heard:
            self._gap = self.seq
            self._scheduler.log = None
            self._queue.clear()
        if isinstance(error, KeyboardInterrupt):
            self._on_interrupt(error)

    # -- readers

    def listen(self, after: int | None) -> "EventReader":
        """Return a reader of what happens from now on, or after that event."""
        if after is not None and (isinstance(after, bool) or not isinstance(after, int)):
            raise TypeError(
                f"after is the seq of an event, an int, not {type(after).__name__}: {after!r:.60}\n"
                f"  help: write run.events(after=event.seq)"
            )
        if self._history is None:
            self._history = deque(maxlen=HISTORY)
            if self._began is not None and self._scheduler.log is None:
                self._start_log()
        return EventReader(self, after)

    def snapshot(self) -> RunSnapshot:
        """Return how things stand."""
        dag = self._scheduler.dag()
        statuses = self._scheduler.statuses().items()
        return RunSnapshot(
            self.seq,
            self._scheduler.version,
            time(),
            self._elapsed(),
            self._run_id,
            tuple((name, str(status)) for name, status in statuses),
            pairs(dag.edges()),
        )

    def has(self, after: int) -> bool:
        """Tell whether all that happened after this event is kept, or will be."""
        return self._began is None or (after >= self.oldest() - 1 and not self._is_gap_after(after))

    def opening(self, after: int) -> list[Event]:
        """Return what a reader gets first for whom not all is kept that came after this event."""
        if after and after + 1 < self.oldest():
            return [self.missed(after + 1, self.seq), self.snapshot()]
        return [self.snapshot()]

    def _is_gap_after(self, seen: int) -> bool:
        return self._gap is not None and seen <= self._gap

    def take(self, after: int) -> list[Event]:
        """Return some of the events after this one; if the next is gone, first what is missed."""
        assert self._history is not None, "there is a reader"
        if after >= self.seq:
            return []
        oldest = self.oldest()
        if after + 1 < oldest:
            return [self.missed(after + 1, oldest - 1)]
        start = after + 1 - oldest
        return list(islice(self._history, start, start + GULP))

    def missed(self, first: int, last: int) -> EventsMissed:
        """Return what to tell a reader to whom these events are lost."""
        elapsed = self._elapsed()
        return EventsMissed(last, self._version, time(), elapsed, self._run_id, first, last)

    def oldest(self) -> int:
        """Return the number of the oldest event that is kept, or would be."""
        return self.seq - len(self._history or ()) + 1

    def _elapsed(self) -> float:
        return 0.0 if self._began is None else perf_counter() - self._began

    async def changed(self) -> None:
        """Return when there are events that there were not at the call."""
        self._news = self._news if not self._news.is_set() else Signal()
        await self._news.wait()


def _refuse_awaitable(answer: object) -> None:
    if has_not_run(answer):
        raise TypeError(
            f"an observer returned {type(answer).__name__}: its code did not run\n"
            f"  help: observers are plain functions; async code reads run.events()"
        )


class EventReader:
    """Reads the events of a run, at its own pace: ``async for event in run.events()``.

    It ends after `RunFinished`.
    """

    __slots__ = ("_after", "_batch", "_is_done", "_is_late", "_stream")

    def __init__(self, stream: Stream, after: int | None) -> None:
        self._stream = stream
        is_known = after is not None and 0 <= after <= stream.seq  # else it is of another run
        self._after = after if after is not None and is_known else 0
        self._is_late = not stream.has(self._after)
        self._is_done = False
        self._batch: deque[Event] = deque()

    def __aiter__(self) -> "EventReader":
        return self

    def at_hand(self) -> list[Event]:
        """Take the events that the next reads would return at once; there may be more."""
        events = list(self._batch)
        self._batch.clear()
        return events

    async def __anext__(self) -> Event:
        stream = self._stream
        if self._is_late:  # not before the first read: an observer may be in the middle of a story
            self._is_late = False
            self._batch += stream.opening(self._after)
            self._after = stream.seq
        while not self._batch:
            if self._is_done:
                raise StopAsyncIteration
            self._batch += stream.take(self._after)
            if self._batch:
                self._after = self._batch[-1].seq
            elif stream.is_over:
                raise StopAsyncIteration
            else:
                await stream.changed()
        event = self._batch.popleft()
        self._is_done = type(event) is RunFinished
        return event
