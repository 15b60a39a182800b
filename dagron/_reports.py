"""What nodes, threads and the detector say while a run is on: to the log and to the events."""

from collections import deque
from collections.abc import Callable, Container
from functools import partial
from threading import get_ident

from dagron._events import LoopBlocked, NodePlaced, NodeProgress, NodeRetrying
from dagron._logs import INFO, log
from dagron._names import shown_seconds
from dagron._node_result import Place
from dagron._results import error_text
from dagron._stream import Stream


class Reports:
    """Passes on what is said, from any thread, about nodes that are in flight.

    ``look`` brings what is known of them up to date.
    """

    __slots__ = (
        "blockings",
        "_call_soon",
        "_in_flight",
        "_is_over",
        "_look",
        "_posted",
        "_run_id",
        "_stream",
        "_thread",
        "told",
    )

    def __init__(
        self,
        run_id: str,
        stream: Stream,
        in_flight: Container[str],
        call_soon: Callable[..., object],
        look: Callable[[], object],
    ) -> None:
        self._run_id = run_id
        self._stream = stream
        self._in_flight = in_flight
        self._call_soon = call_soon
        self._look = look
        self._is_over = False
        self.blockings: deque[tuple[str, str, int, str, float]] = deque()  # that the detector found
        self._thread = get_ident()
        self.told: dict[str, tuple[float, float | None, str]] = {}  # progress, by threads
        self._posted: set[str] = set()  # nodes of which the loop knows that their threads told some

    def end(self) -> None:
        """Fall silent: what threads have posted finds nothing to do, and keeps nothing alive."""
        self._is_over = True
        del self._stream, self._look

    def progress(self, name: str, done: float, total: float | None, note: str) -> None:
        """Make an event of progress; of what a thread says in one turn of the loop, one event."""
        if self._is_over or not self._stream.is_heard:
            return
        if get_ident() == self._thread:
            if name in self._in_flight:
                self._stream.tell(NodeProgress, name, done, total, note)
            return
        # In this order: what is told after the loop has taken the last word is posted anew.
        self.told[name] = (done, total, note)
        if name not in self._posted:
            self._posted.add(name)
            self._call_soon(partial(self._hear, name))

    def _hear(self, name: str) -> None:
        self._posted.discard(name)
        if not self._is_over:
            self._look()  # the node may have begun since: see `flush_progress`, if it has ended
            self.flush_progress(name)

    def flush_progress(self, name: str) -> None:
        """Make an event of what a thread told of its node, if it told anything."""
        told = self.told.pop(name, None)
        if told is not None and name in self._in_flight:
            self._stream.tell(NodeProgress, name, *told)

    def retrying(self, name: str, attempt: int, delay: float, error: BaseException) -> None:
        """Log that an attempt failed and is to be followed by another, and make an event of it."""
        text = error_text(error)
        message = "node %r failed in attempt %d and is tried again in %s: %s"
        log(INFO, self._run_id, name, message, name, attempt, shown_seconds(delay), text)
        self._stream.tell(NodeRetrying, name, attempt, delay, text)

    def placed(self, name: str, place: Place, attempt: int) -> None:
        """Make an event of where an attempt runs."""
        if not self._is_over and name in self._in_flight:
            self._stream.tell(NodePlaced, name, place.runner, place.worker, attempt)

    def failed(self, name: str, error: BaseException | None) -> None:
        """Log that a node failed; its event comes from the scheduler."""
        log(INFO, self._run_id, name, "node %r failed: %s", name, error_text(error))

    def blocked(self, name: str, file: str, line: int, function: str, seconds: float) -> None:
        """Make an event of what the detector found; called in its thread."""
        self.blockings.append((name, file, line, function, seconds))
        self._call_soon(self.flush_blocked)

    def flush_blocked(self) -> None:
        """Make the events now: the node that blocked the loop may end before it turns."""
        while self.blockings and not self._is_over:
            self._stream.tell(LoopBlocked, *self.blockings.popleft())
