"""A run that a registry owns, and its events as a client of a service reads them."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from itertools import islice
from math import inf
from os import urandom
from time import time
from typing import Any, Literal

from anyio import CancelScope, current_time
from anyio import Event as Signal

from dagron._checks import within
from dagron._errors import RunFailedError
from dagron._events import Event
from dagron._results import SHOWN_FAILURES, ExecutionResult, error_text
from dagron._run import Run
from dagron._status import FAILED, NodeStatus
from dagron._stream import EventReader

State = Literal["running", "succeeded", "failed", "cancelled"]


class Audience:
    """All who read events for clients: they leave together when the service closes."""

    def __init__(self) -> None:
        self.is_over = False
        self._waits: set[CancelScope] = set()

    def leave(self) -> None:
        """End all reading: nobody waits any longer for what has not happened yet."""
        self.is_over = True
        for scope in self._waits:
            scope.cancel()

    @contextmanager
    def waiting(self, deadline: float = inf) -> Iterator[CancelScope]:
        """Let the block wait until this is over; what needs no wait in it is done in any case."""
        with CancelScope(deadline=deadline) as scope:
            if self.is_over:
                scope.cancel()
            self._waits.add(scope)
            try:
                yield scope
            finally:
                self._waits.discard(scope)


class LiveEvents:
    """Reads the events of a registered run: see `RegisteredRun.events`."""

    __slots__ = ("_audience", "_reader")

    def __init__(self, reader: EventReader, audience: Audience) -> None:
        self._reader = reader
        self._audience = audience

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        with self._audience.waiting():
            return await anext(self._reader)
        raise StopAsyncIteration


class ServerSentEvents:
    """The events of a registered run as Server-Sent Events: see `RegisteredRun.sse`."""

    __slots__ = ("_audience", "_heartbeat", "_is_done", "_reader", "_registered")

    def __init__(
        self, registered: "RegisteredRun", reader: EventReader, audience: Audience, heartbeat: float
    ) -> None:
        self._registered = registered
        self._reader = reader
        self._audience = audience
        self._heartbeat = heartbeat
        self._is_done = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._is_done:
            raise StopAsyncIteration
        deadline = current_time() + self._heartbeat if self._heartbeat else inf
        with self._audience.waiting(deadline):
            try:
                event = await anext(self._reader)
            except StopAsyncIteration:
                await self._registered.has_ended()
                self._is_done = True
                return _message("end", self._registered.as_dict())
            events, id_of = [event, *self._reader.at_hand()], self._registered._id_of
            return b"".join(_message(e.kind, e.as_dict(), id_of(e)) for e in events)
        if self._audience.is_over:
            self._is_done = True
            raise StopAsyncIteration
        return b":\n\n"


def _message(kind: str, data: dict[str, Any], id: str | None = None) -> bytes:
    from json import dumps  # on use

    line = "" if id is None else f"id: {id}\n"
    return f"{line}event: {kind}\ndata: {dumps(data)}\n\n".encode()


class RegisteredRun:
    """A run that a `RunRegistry` owns, from its start until it is forgotten.

    ``run`` is the handle, for all that is not here: `Run.explain`, `Run.modify`, and the rest.
    ``data`` is what was given to `RunRegistry.start`, which has no use for it. ``started_at`` and
    ``ended_at`` are wall-clock seconds since the epoch, the latter None while the run goes on;
    ``result`` and ``error`` are None until it has ended, and then one of them is not.
    """

    __slots__ = (
        "_audience",
        "_ended",
        "_token",
        "data",
        "ended_at",
        "error",
        "result",
        "run",
        "started_at",
    )

    def __init__(self, run: Run, data: Any, audience: Audience) -> None:
        self.run = run
        self.data = data
        self.started_at = time()
        self.ended_at: float | None = None
        self.result: ExecutionResult | None = None
        self.error: BaseException | None = None
        self._audience = audience
        self._ended = Signal()
        self._token = urandom(4).hex()  # of this execution: a journal's run has one in each process

    def end(self, result: ExecutionResult | None, error: BaseException | None) -> None:
        """Note how the run has ended; the registry calls this."""
        self.result, self.error = result, error
        self.ended_at = time()
        self._ended.set()

    @property
    def id(self) -> str:
        """The id of the run: letters and digits."""
        return self.run.id

    @property
    def state(self) -> State:
        """``"running"`` until the run has ended.

        Then ``"failed"`` if a node failed, or the run by an error, ``"cancelled"`` if it was cut
        short without a failure, by `cancel`, its timeout or the end of its registry, and else
        ``"succeeded"``; from any thread.
        """
        if self.ended_at is None:
            return "running"
        if self.result is None or self.result.failed:
            return "failed"
        return "succeeded" if self.result.ok else "cancelled"

    def cancel(self, reason: str = "") -> None:
        """End the run as a result, see `Run.cancel`; nothing if it has ended; from any thread."""
        self.run.cancel(reason)

    async def wait(self) -> ExecutionResult:
        """Return the result when the run has ended; failed nodes raise nothing.

        Raises the `InternalError` or other error by which the run ended, and `RuntimeError` in a
        node of this very run. Who stops waiting changes nothing.
        """
        self.run._check_outside()
        await self.has_ended()
        if self.error is not None:
            raise self.error
        assert self.result is not None, "a run ends with a result or an error"
        return self.result

    async def has_ended(self) -> None:
        """Return when the run has ended, however it did."""
        if self.ended_at is None:
            await self._ended.wait()

    # -- for a client of the service

    def as_dict(self) -> dict[str, Any]:
        """Return how the run stands as a dict that `json.dumps` takes.

        It has ``id``, ``state``, ``started_at``, ``ended_at``, ``nodes`` with the number of nodes
        in each status and in ``total``, ``reason``, why it was cut short, ``error``, by which it
        ended without a result, and ``failures``, which maps the first ten nodes that failed to
        their errors, once it has ended. Costs time in proportion to the graph.
        """
        result = self.result
        return {
            "id": self.id,
            "state": self.state,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "nodes": self._counts(),
            "reason": None if result is None else result.reason,
            "error": None if self.error is None else error_text(self.error),
            "failures": {} if result is None else _failures(result),
        }

    def _counts(self) -> dict[str, int]:
        counts = self.run._counts()
        named = {status.lower(): counts[status] for status in NodeStatus}
        return {"total": counts.total(), **named}

    def events(self, after: int | None = None) -> LiveEvents:
        """Return an async iterator of events for a client: as `Run.events`, but when the registry
        closes, it ends with those that have happened, even if the run goes on.

        So it never holds up the end of a service; a client that had no `RunFinished` asks again.
        """
        return LiveEvents(self.run.events(after), self._audience)

    def sse(self, last_event_id: str | None = None, *, heartbeat: float = 15.0) -> ServerSentEvents:
        """Return an async iterator of bytes, the events as ``text/event-stream`` for a browser.

        ``last_event_id`` is the request's header ``Last-Event-ID``, if there is one: it goes on
        after that event, see `Run.events`. An id is the event's ``seq`` behind a token of this
        execution of the run; another one counts as none. So who comes back to a run that goes on in
        another process is told all of it anew: `RunStarted` or `RunSnapshot` comes first. Each
        message has the event's ``kind`` as its event, and its `as_dict` as its data. After
        ``heartbeat`` seconds without an event comes a comment, so that nobody on the way takes the
        connection for dead; with 0, none does.

        When the run has ended, and for who comes after that, the last message is ``end``, with
        `as_dict` of this run: then a client closes its ``EventSource``. When the registry closes,
        it ends without: then a browser connects again, with the last id.

        Raises `TypeError` or `ValueError` for a ``heartbeat`` that is no number from 0.
        """
        heartbeat = within("heartbeat", heartbeat, 0)
        reader = self.run.events(self._after(last_event_id))
        return ServerSentEvents(self, reader, self._audience, heartbeat)

    def _id_of(self, event: Event) -> str:
        return f"{self._token}-{event.seq}"

    def _after(self, last_event_id: str | None) -> int | None:
        """Return the number of the event that has this id; None for what is no id of ours."""
        token, _, seq = (last_event_id or "").strip().partition("-")
        is_number = seq.isascii() and seq.isdecimal() and len(seq) < 20
        return int(seq) if is_number and token == self._token else None

    def __repr__(self) -> str:
        return f"<RegisteredRun {self.id}: {self.state}>"


def _failures(result: ExecutionResult) -> dict[str, str]:
    failed = (node for node in result.node_results.values() if node.status is FAILED)
    return {node.name: error_text(node.error) for node in islice(failed, SHOWN_FAILURES)}


def unresolved(run_id: str) -> RunFailedError:
    """Return the error of a run whose task somebody cancelled."""
    return RunFailedError(
        f"the task of run {run_id} was cancelled from outside: not all nodes have run\n"
        f"  help: cancel a run by its .cancel(reason), not all tasks of the event loop"
    )
