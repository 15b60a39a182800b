"""The states of a node, and which may follow which."""

from enum import StrEnum


class NodeStatus(StrEnum):
    """Where a node stands in a run; a string: ``NodeStatus.FAILED == "FAILED"``.

    PENDING waits for dependencies, READY for a slot, RUNNING has started (its expander counts as
    part of it). COMPLETED, FAILED, SKIPPED and CANCELLED are final.
    """

    PENDING = "PENDING"
    READY = "READY"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"
    CANCELLED = "CANCELLED"

    __hash__ = str.__hash__  # Enum's own, in Python, gives the same ten times more slowly


PENDING, READY, RUNNING, COMPLETED, FAILED, SKIPPED, CANCELLED = NodeStatus

WAITING = (PENDING, READY)  # may still be removed, or be given another dependency
UNDONE = (*WAITING, RUNNING)  # has not ended
STARTED = (RUNNING, COMPLETED, FAILED)  # a new dependency would come too late
UNMET = (FAILED, CANCELLED, SKIPPED)  # what depends on such a node cannot run

# The table that the scheduler's one writer of statuses obeys.
NEXT: dict[NodeStatus, tuple[NodeStatus, ...]] = {
    PENDING: (READY, FAILED, SKIPPED, CANCELLED),  # FAILED: by a condition that raised
    READY: (RUNNING, PENDING, FAILED, SKIPPED, CANCELLED),
    RUNNING: (COMPLETED, FAILED, CANCELLED),
    COMPLETED: (),
    FAILED: (),
    SKIPPED: (),
    CANCELLED: (),
}
