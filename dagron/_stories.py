"""From what a scheduler logs to the events that tell of it."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from dagron._events import (
    Event,
    GraphModified,
    NodeAdded,
    NodeCancelled,
    NodeCompleted,
    NodeFailed,
    NodeReady,
    NodeRemoved,
    NodeSkipped,
    NodeStarted,
)
from dagron._node_result import NodeResult
from dagron._results import error_text
from dagron._scheduler import Scheduler
from dagron._status import CANCELLED, COMPLETED, FAILED, READY, RUNNING, SKIPPED, NodeStatus
from dagron._statuses import Landed

# An event's class, and its fields beyond those that all events have.
Story: TypeAlias = tuple[type[Event], tuple[Any, ...]]


def of_move(
    name: str,
    status: NodeStatus,
    scheduler: Scheduler,
    results: Mapping[str, NodeResult],
    cut: str,
) -> Story | None:
    """Return what there is to tell of a node's new status; nothing where it waits again.

    ``cut`` is why nodes that never ran are cancelled all at once.
    """
    if status is READY:
        return NodeReady, (name,)
    if status is RUNNING:
        return NodeStarted, (name,)
    if status is COMPLETED:
        result = results[name]
        return NodeCompleted, (name, result.attempts, result.duration_seconds)
    if status is FAILED:
        result = results[name]
        text = error_text(result.error)
        return NodeFailed, (name, result.attempts, result.duration_seconds, text)
    if status is SKIPPED:
        return NodeSkipped, (name, str(scheduler.blame(name)))
    if status is CANCELLED:
        return NodeCancelled, (name, cancel_reason(name, scheduler, results, cut))
    return None


def cancel_reason(
    name: str, scheduler: Scheduler, results: Mapping[str, NodeResult], cut: str
) -> str:
    """Return why a node was cancelled."""
    if name in results:
        return results[name].reason or ""
    blame = scheduler.blame(name)
    return str(blame) if blame else cut


def of_landing(landed: Landed) -> Iterator[Story]:
    """Yield what there is to tell of a modification."""
    yield (
        GraphModified,
        (
            landed.by,
            landed.node_count,
            tuple(landed.added_nodes),
            tuple(landed.removed_nodes),
            pairs(landed.added_edges),
            pairs(landed.removed_edges),
            tuple(landed.cancelled_nodes),
        ),
    )
    for name in landed.added_nodes:
        yield NodeAdded, (name, landed.by, landed.depth)
    for name in landed.removed_nodes:
        yield NodeRemoved, (name, landed.by)


def pairs(edges: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return the edges as bare pairs: what their conditions are is no matter of JSON."""
    return tuple((source, target) for source, target in edges)
