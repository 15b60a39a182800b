"""What happened in a run, one line of plain text for each change of state: for a log of CI."""

from dagron._events import (
    Event,
    GraphModified,
    LoopBlocked,
    NodeCancelled,
    NodeCompleted,
    NodeFailed,
    NodeRetrying,
    NodeSkipped,
    NodeStarted,
    RunFinished,
    RunStarted,
)
from dagron._names import plain, plural, shown_time

NAMES = 5
TEXT = 300  # characters of one error


def line_of(event: Event) -> str | None:
    """Return the line, without its end, or None for what is no change of state."""
    told = told_of(event)
    return None if told is None else f"[{event.elapsed:8.1f} s] {told}"


def told_of(event: Event) -> str | None:
    """Return the line without the time."""
    told = _told(event)
    return None if told is None else plain(told)


def _told(event: Event) -> str | None:
    """Return what the event says; a node that may start, but has not, is nothing to tell."""
    match event:
        case NodeStarted():
            return f"{event.node!r} started"
        case NodeCompleted():
            return f"{event.node!r} completed in {shown_time(event.duration_seconds)}"
        case NodeFailed():
            return f"{event.node!r} failed: {event.error:.{TEXT}}"
        case NodeSkipped():
            return f"{event.node!r} {_reason(event.reason, 'skipped')}"
        case NodeCancelled():
            return f"{event.node!r} {_reason(event.reason, 'cancelled')}"
        case NodeRetrying():
            again = f"is tried again in {shown_time(event.delay)}"
            return f"{event.node!r} {again}: attempt {event.attempt} failed: {event.error:.{TEXT}}"
        case GraphModified():
            return _modified(event)
        case LoopBlocked():
            where = f"{event.file}:{event.line} in {event.function}"
            return f"{event.node!r} blocked the event loop at {where}"
        case RunStarted():
            return f"run {event.run_id} started: {plural(len(event.nodes), 'node')}"
        case RunFinished():
            return _finished(event)
        case _:
            return None


def _modified(event: GraphModified) -> str:
    nodes = ((event.added_nodes, "added"), (event.removed_nodes, "removed"))
    edges = ((event.added_edges, "added"), (event.removed_edges, "removed"))
    changes = [f"{word} {plural(len(of), 'node')}: {_names(of)}" for of, word in nodes if of]
    if not changes:
        changes = [f"{word} {plural(len(of), 'edge')}" for of, word in edges if of]
    by = "the program" if event.by is None else repr(event.by)
    return f"{by} {'; '.join(changes) or 'asked to cancel ' + _names(event.cancelled_nodes)}"


def _finished(event: RunFinished) -> str:
    named = (
        (event.succeeded, "succeeded"),
        (event.failed, "failed"),
        (event.skipped, "skipped"),
        (event.cancelled, "cancelled"),
    )
    counts = ", ".join(f"{count:,} {word}" for count, word in named if count)
    reason = f": {event.reason:.{TEXT}}" if event.reason else ""
    took = shown_time(event.duration_seconds)
    return f"run {event.run_id} ended after {took}{reason}; nodes: {counts or 'none'}"


def _names(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - NAMES:,} more" if len(names) > NAMES else ""
    return ", ".join(map(repr, names[:NAMES])) + more


def _reason(reason: str, word: str) -> str:
    """Return the reason, which may begin with the word, after the word."""
    return reason if reason.startswith(word) else f"{word}: {reason}"
