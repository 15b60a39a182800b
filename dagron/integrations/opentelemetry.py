"""OpenTelemetry: a span for each run, node and attempt; what a task starts is a child of its own.

It needs the extra ``dagron[otel]``, which has the API; the program brings an SDK and an exporter.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from types import TracebackType

from dagron._errors import MissingExtraError
from dagron._events import Event, RunFinished, RunStarted

try:
    from opentelemetry.context import attach, detach
    from opentelemetry.trace import Span, TracerProvider, get_tracer, set_span_in_context

    from dagron.integrations._spans import NodeSpans, RunSpans
except ImportError as error:
    raise MissingExtraError(
        "dagron.integrations.opentelemetry needs OpenTelemetry's API, which is not installed\n"
        '  help: type pip install "dagron[otel]" opentelemetry-sdk',
        "otel",
    ) from error

__all__ = ["OpenTelemetry"]


class OpenTelemetry:
    """Traces runs: ``DynamicExecutor(dag, observers=[OpenTelemetry()])``.

    - A run's span is a child of the caller's current span; so that of a run inside a node is a
      descendant of the node's.
    - A node's span is a child of its run's. It lasts from its start to the end of its expander.
      That of a node that was added while the graph ran has a link to the span of the node that
      added it.
    - An attempt's span is a child of its node's: one for each call of the task.

    The task finds the span of its attempt as the current one, in the event loop and in a worker
    thread; an expander and a fold find that of their node. Modifications, retries and what blocked
    the event loop are events of the node that caused them; a modification from outside, and nodes
    that never ran, are events of the run.

    The names of spans are few, as OpenTelemetry asks for: ``dagron run``; ``node load`` and
    ``attempt load`` for a node of the graph as it was written; ``node (grown from load)`` for all
    that it has added, that these have added, and so on; ``node (added from outside)``. Which node
    it is says the attribute ``dagron.node.name``.

    A span has the status ERROR where the run is not ``ok``, the node FAILED, or the attempt raised,
    with the exception as an event; all others stay UNSET, also those of cancelled nodes.

    ``tracer_provider`` is the global one unless it is given. One object may observe any number of
    executors and runs; it keeps nothing of nodes and runs that have ended.
    """

    def __init__(self, tracer_provider: TracerProvider | None = None) -> None:
        self._tracer = get_tracer("dagron", tracer_provider=tracer_provider)
        self._runs: dict[str, RunSpans] = {}

    def __call__(self, event: Event) -> None:
        """Hear of an event of a run."""
        with self._whole(event.run_id):
            if type(event) is RunStarted:
                self._runs[event.run_id] = RunSpans(self._tracer, event)
            elif type(event) is RunFinished:
                self._runs[event.run_id].finish(event)
                del self._runs[event.run_id]
            else:
                self._runs[event.run_id].hear(event)

    def around_node(self, run_id: str, node: str) -> AbstractContextManager[None]:
        """Start the node's span, which is the current one inside; the event of its end ends it."""
        with self._whole(run_id):
            opened = self._runs[run_id].open(node)
        return _Inside(opened.span, opened.leave)

    def around_attempt(self, run_id: str, node: str, attempt: int) -> AbstractContextManager[None]:
        """Start a span, which is the current one inside."""
        with self._whole(run_id):
            opened = self._runs[run_id].nodes[node]
            span = opened.start_attempt(self._tracer, attempt)
        return _Inside(span, partial(self._leave_attempt, run_id, opened))

    def _leave_attempt(self, run_id: str, opened: NodeSpans, error: BaseException | None) -> None:
        with self._whole(run_id):
            # Whether another one is a failure or the node's cancellation, the node's end will tell.
            if error is None or isinstance(error, Exception):
                opened.end_attempt(error)

    @contextmanager
    def _whole(self, run_id: str) -> Iterator[None]:
        """End all spans of a run where anything fails: nothing more will be heard of it."""
        try:
            yield
        except BaseException:
            run = self._runs.pop(run_id, None)
            if run is not None:
                run.end()
            raise


class _Inside:
    """A block in which a span is the current one; ``leave`` is called with what it raised."""

    __slots__ = ("_leave", "_span", "_token")

    def __init__(self, span: Span, leave: Callable[[BaseException | None], object]) -> None:
        self._span = span
        self._leave = leave

    def __enter__(self) -> None:
        self._token = attach(set_span_in_context(self._span))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        detach(self._token)
        self._leave(error)
