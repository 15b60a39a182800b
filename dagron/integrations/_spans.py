"""The open spans of a run, by what is heard of it."""

from contextlib import ExitStack
from traceback import format_exception
from typing import TypeAlias

from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    StatusCode,
    Tracer,
    set_span_in_context,
)

from dagron._events import (
    Event,
    GraphModified,
    LoopBlocked,
    NodeAdded,
    NodeCancelled,
    NodeCompleted,
    NodeFailed,
    NodeRemoved,
    NodeRetrying,
    NodeSkipped,
    RunFinished,
    RunStarted,
)
from dagron._names import plural
from dagron._results import error_text
from dagron._status import CANCELLED, COMPLETED, FAILED, NodeStatus

NAMES = 10  # of the nodes of a modification, in the attributes of its event

Attributes: TypeAlias = dict[str, str | bool | int | float | tuple[str, ...]]


class _Origin:
    """Where a node comes from that was added while the graph ran."""

    __slots__ = ("attributes", "label", "link")

    def __init__(self, event: NodeAdded, parent: "NodeSpans | None") -> None:
        self.attributes: Attributes = {"dagron.node.depth": event.depth}
        self.label = "(added from outside)"
        self.link: SpanContext | None = None
        if event.added_by is not None and parent is not None:
            self.attributes["dagron.node.added_by"] = event.added_by
            self.label = parent.label if parent.is_grown else f"(grown from {event.added_by})"
            self.link = parent.span.get_span_context()


class NodeSpans:
    """A node whose span is open."""

    __slots__ = ("attempt", "error", "is_grown", "label", "name", "span")

    def __init__(self, run: "RunSpans", name: str, origin: _Origin | None) -> None:
        self.name = name
        self.label = name if origin is None else origin.label
        self.is_grown = origin is not None
        attributes: Attributes = {"dagron.run.id": run.id, "dagron.node.name": name}
        attributes |= {"dagron.node.depth": 0} if origin is None else origin.attributes
        links = [Link(origin.link)] if origin is not None and origin.link is not None else []
        self.span = run.tracer.start_span(
            f"node {self.label}", run.context, attributes=attributes, links=links
        )
        self.attempt: Span | None = None
        self.error: BaseException | None = None  # that its code has raised

    def leave(self, error: BaseException | None) -> None:
        """Note what the node's code has raised."""
        self.error = error

    def start_attempt(self, tracer: Tracer, number: int) -> Span:
        attributes: Attributes = {"dagron.node.name": self.name, "dagron.node.attempt": number}
        context = set_span_in_context(self.span)
        self.attempt = tracer.start_span(f"attempt {self.label}", context, attributes=attributes)
        return self.attempt

    def end_attempt(self, error: BaseException | None) -> None:
        """End the span of the attempt, if it is open."""
        span, self.attempt = self.attempt, None
        if span is not None:
            if error is not None:
                _tell_failure(span, error_text(error), error)
            _end(span)

    def end(self, attributes: Attributes) -> None:
        self.end_attempt(None)
        self.error = None
        self.span.set_attributes(attributes)
        self.span.end()

    def fail(self, text: str, attributes: Attributes) -> None:
        """End with an error, of which nothing but the text may be known."""
        self.end_attempt(self.error)
        _tell_failure(self.span, text, self.error)
        self.end(attributes)


class RunSpans:
    """The open spans of a run."""

    def __init__(self, tracer: Tracer, event: RunStarted) -> None:
        self.tracer = tracer
        self.id = event.run_id
        attributes: Attributes = {"dagron.run.id": self.id, "dagron.run.nodes": len(event.nodes)}
        self.span = tracer.start_span("dagron run", attributes=attributes)
        self.context = set_span_in_context(self.span)
        self.nodes: dict[str, NodeSpans] = {}
        self._origins: dict[str, _Origin] = {}  # of nodes that have not started

    def open(self, name: str) -> NodeSpans:
        """Start the span of a node."""
        self.nodes[name] = opened = NodeSpans(self, name, self._origins.pop(name, None))
        return opened

    def hear(self, event: Event) -> None:
        """End the span of a node that has ended, and tell the rest as events of spans."""
        match event:
            case NodeCompleted():
                self.nodes.pop(event.node).end(_ending(COMPLETED, attempts=event.attempts))
            case NodeFailed():
                opened = self.nodes.get(event.node) or self.open(event.node)
                del self.nodes[event.node]
                opened.fail(event.error, _ending(FAILED, attempts=event.attempts))
            case NodeCancelled() if event.node in self.nodes:
                self.nodes.pop(event.node).end(_ending(CANCELLED, reason=event.reason))
            case NodeSkipped() | NodeCancelled():
                self._origins.pop(event.node, None)
                _tell(self.span, event, {"node.name": event.node, "node.reason": event.reason})
            case NodeAdded():
                parent = None if event.added_by is None else self.nodes.get(event.added_by)
                self._origins[event.node] = _Origin(event, parent)
            case NodeRemoved():
                self._origins.pop(event.node, None)
            case GraphModified():
                _tell(self._span_of(event.by), event, _modification(event))
            case NodeRetrying():
                details: Attributes = {"node.attempt": event.attempt}
                _tell(self._span_of(event.node), event, details | {"delay_seconds": event.delay})
            case LoopBlocked():
                where: Attributes = {"file": event.file, "line": event.line}
                details = {"function": event.function, "seconds": event.seconds}
                _tell(self._span_of(event.node), event, where | details)

    def _span_of(self, name: str | None) -> Span:
        opened = None if name is None else self.nodes.get(name)
        return self.span if opened is None else opened.span

    def finish(self, event: RunFinished) -> None:
        """End the run's span as the run has ended."""
        counts = ("succeeded", "failed", "skipped", "cancelled", "removed")
        details: Attributes = {"ok": event.ok, **{word: getattr(event, word) for word in counts}}
        details["nodes"] = sum(getattr(event, word) for word in counts if word != "removed")
        if event.reason is not None:
            details["reason"] = event.reason
        self.span.set_attributes(_prefixed("dagron.run.", details))
        if not event.ok:
            text = event.reason or f"{plural(event.failed, 'node')} failed"
            self.span.set_status(StatusCode.ERROR, _sendable(text))
        self.end()

    def end(self) -> None:
        """End all spans that are open, also where ending one of them raises."""
        with ExitStack() as ends:
            ends.callback(_end, self.span)
            for opened in self.nodes.values():
                ends.callback(_end, opened.span)
                if opened.attempt is not None:
                    ends.callback(_end, opened.attempt)


def _end(span: Span) -> None:
    if span.is_recording():  # else it has ended, or nobody ever asked for it
        span.end()


def _ending(status: NodeStatus, **details: str | int) -> Attributes:
    return _prefixed("dagron.node.", {"status": str(status), **details})


def _tell(span: Span, event: Event, details: Attributes) -> None:
    span.add_event(f"dagron.{event.kind}", _prefixed("dagron.", details))


def _prefixed(prefix: str, details: Attributes) -> Attributes:
    return {
        f"{prefix}{key}": _sendable(value) if isinstance(value, str) else value
        for key, value in details.items()
    }


def _modification(event: GraphModified) -> Attributes:
    details: Attributes = {"graph.version": event.version, "graph.nodes": event.node_count}
    for what in ("added_nodes", "removed_nodes", "cancelled_nodes", "added_edges", "removed_edges"):
        changed = getattr(event, what)
        if changed:
            details[what] = len(changed)
        if changed and what.endswith("_nodes"):
            details[f"{what}.names"] = changed[:NAMES]
    return details


def _tell_failure(span: Span, text: str, error: BaseException | None) -> None:
    """Set the status, and record the exception.

    ``Span.record_exception`` would not survive one that cannot be shown.
    """
    if not span.is_recording():
        return
    span.set_status(StatusCode.ERROR, _sendable(text))
    if error is not None:
        kind = type(error)
        module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        attributes: Attributes = {
            "exception.type": f"{module}{kind.__qualname__}",
            "exception.message": _sendable(error_text(error).removeprefix(f"{kind.__name__}: ")),
            "exception.stacktrace": _sendable("".join(format_exception(error))),
        }
        span.add_event("exception", attributes)


def _sendable(text: str) -> str:
    """Return the text without surrogates, which exporters cannot encode: a batch would be lost."""
    return text.encode(errors="backslashreplace").decode()
