"""What happened in a run, as frozen values that JSON can carry."""

import re
from dataclasses import dataclass, fields
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a run.

    ``seq`` numbers the events of a run from 1, without a gap. ``version`` counts the modifications
    that had landed, ``time`` is the wall clock in seconds since the epoch, and ``elapsed`` the
    seconds since the run began, by a clock that never goes back. ``run_id`` is the run's id, since
    an executor's observers hear of all its runs. ``kind`` names the class as
    ``"node_completed"`` does `NodeCompleted`. All fields are strings, numbers, booleans, None, or
    tuples of these: results and exceptions are told of in text.
    """

    kind: ClassVar[str] = "event"

    seq: int
    version: int
    time: float
    elapsed: float
    run_id: str

    def __init_subclass__(cls) -> None:
        cls.kind = re.sub("(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    def as_dict(self) -> dict[str, Any]:
        """Return the fields and the kind as a dict that `json.dumps` takes."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"kind": self.kind, **values}


@dataclass(frozen=True, slots=True)
class RunStarted(Event):
    """The run began with these nodes and edges."""

    nodes: tuple[str, ...]
    edges: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class RunSnapshot(Event):
    """How things stand, for a reader who comes late: nodes with their statuses, and edges.

    ``seq`` is that of the last event before it; the next event that the reader gets follows it.
    """

    nodes: tuple[tuple[str, str], ...]
    edges: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class NodeEvent(Event):
    """Something that happened to one node."""

    node: str


@dataclass(frozen=True, slots=True)
class NodeAdded(NodeEvent):
    """A node was added by the expander of ``added_by``, or from outside where that is None."""

    added_by: str | None
    depth: int


@dataclass(frozen=True, slots=True)
class NodeReady(NodeEvent):
    """The node may start, and waits for a slot."""


@dataclass(frozen=True, slots=True)
class NodeStarted(NodeEvent):
    """The node has its slots and starts."""


@dataclass(frozen=True, slots=True)
class NodePlaced(NodeEvent):
    """An attempt at the node's body, counted from 1, runs on this worker of this runner."""

    runner: str
    worker: str
    attempt: int


@dataclass(frozen=True, slots=True)
class NodeProgress(NodeEvent):
    """The node's task reported how far it is: see `progress`."""

    done: float
    total: float | None
    note: str


@dataclass(frozen=True, slots=True)
class NodeRetrying(NodeEvent):
    """An attempt, counted from 1, failed with this error; the next is ``delay`` seconds away."""

    attempt: int
    delay: float
    error: str


@dataclass(frozen=True, slots=True)
class NodeCompleted(NodeEvent):
    """The node, its expander included, succeeded."""

    attempts: int
    duration_seconds: float


@dataclass(frozen=True, slots=True)
class NodeFailed(NodeEvent):
    """The node failed with this error."""

    attempts: int
    duration_seconds: float
    error: str


@dataclass(frozen=True, slots=True)
class NodeSkipped(NodeEvent):
    """The node will not run."""

    reason: str


@dataclass(frozen=True, slots=True)
class NodeCancelled(NodeEvent):
    """The node was cancelled, while it ran or before."""

    reason: str


@dataclass(frozen=True, slots=True)
class NodeRemoved(NodeEvent):
    """The node was removed by the expander of ``removed_by``, or from outside."""

    removed_by: str | None


@dataclass(frozen=True, slots=True)
class GraphModified(Event):
    """A modification by the expander of ``by``, or from outside, has landed.

    ``node_count`` is the number of nodes in the graph now.
    """

    by: str | None
    node_count: int
    added_nodes: tuple[str, ...]
    removed_nodes: tuple[str, ...]
    added_edges: tuple[tuple[str, str], ...]
    removed_edges: tuple[tuple[str, str], ...]
    cancelled_nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LoopBlocked(NodeEvent):
    """The node's ``async def`` task has kept the event loop from turning, in this place."""

    file: str
    line: int
    function: str
    seconds: float


@dataclass(frozen=True, slots=True)
class EventsMissed(Event):
    """This reader was too slow, or came back too late: events ``first`` to ``last`` are gone."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class RunFinished(Event):
    """The run has ended: the counts are those of its `ExecutionResult`, ``reason`` its reason."""

    ok: bool
    reason: str | None
    succeeded: int
    failed: int
    skipped: int
    cancelled: int
    removed: int
    duration_seconds: float
