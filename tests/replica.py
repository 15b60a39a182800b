"""What one reader knows of a run, rebuilt from the events that it got."""

from collections import Counter

import anyio

import dagron
from dagron import Event, EventReader, NodeStatus, Run
from faults import GUARD
from handles import CANCELLED, COMPLETED, FAILED, PENDING, READY, RUNNING, SKIPPED


async def everything(reader: EventReader) -> list[Event]:
    """What is left to read, to the end of the run."""
    with anyio.fail_after(GUARD):
        return [event async for event in reader]


def kinds(events: list[Event]) -> list[str]:
    """The kinds of the events, with their nodes."""
    return [
        " ".join([e.kind, *([e.node] if isinstance(e, dagron.NodeEvent) else [])]) for e in events
    ]


# --- a run, rebuilt from its events --------------------------------------------------------------

BECOMES: dict[type[Event], NodeStatus] = {
    dagron.NodeReady: READY,
    dagron.NodeStarted: RUNNING,
    dagron.NodeCompleted: COMPLETED,
    dagron.NodeFailed: FAILED,
    dagron.NodeSkipped: SKIPPED,
    dagron.NodeCancelled: CANCELLED,
}
WHILE_RUNNING = (dagron.NodeProgress, dagron.NodeRetrying, dagron.LoopBlocked)
FROM: dict[NodeStatus, tuple[NodeStatus, ...]] = {
    READY: (PENDING, READY),  # a ready node that got another dependency became PENDING unsaid
    RUNNING: (READY,),
    COMPLETED: (RUNNING,),
    FAILED: (PENDING, READY, RUNNING),
    SKIPPED: (PENDING, READY),
    CANCELLED: (PENDING, READY, RUNNING),
}


class Replica:
    """What one reader knows of a run: it refuses what cannot follow what it was told before.

    Where the run ``forgets``, completed nodes may be gone unsaid, and their names used again.
    """

    def __init__(self, *, forgets: bool = False) -> None:
        self.forgets = forgets
        self.forgotten = 0  # of which another node of the same name tells
        self.seq: int | None = None
        self.version = 0
        self.elapsed = 0.0
        self.statuses: dict[str, NodeStatus] = {}
        self.edges: set[tuple[str, str]] = set()
        self.finished: dagron.RunFinished | None = None
        self.events: list[Event] = []
        self._announced: list[tuple[type[Event], str]] = []  # by the modification just told of

    def read(self, event: Event) -> None:
        assert self.finished is None, "nothing follows the end"
        self.events.append(event)
        if self.seq is None:
            self._open(event)
        else:
            assert event.seq == self.seq + 1, "no hole, no duplicate"
            self._follow(event)
        self.seq, self.elapsed = event.seq, event.elapsed

    def read_all(self, events: list[Event]) -> "Replica":
        for event in events:
            self.read(event)
        return self

    def _open(self, event: Event) -> None:
        if isinstance(event, dagron.RunStarted):
            assert event.seq == 1
            self.statuses = dict.fromkeys(event.nodes, PENDING)
        else:
            assert isinstance(event, dagron.RunSnapshot)
            self.statuses = {name: NodeStatus(status) for name, status in event.nodes}
        self.edges = set(event.edges)
        self.version = event.version

    def _follow(self, event: Event) -> None:
        assert event.elapsed >= self.elapsed, "the clock never goes back"
        if self._announced:
            assert isinstance(event, dagron.NodeEvent)
            assert (type(event), event.node) == self._announced.pop(0)
        elif isinstance(event, dagron.GraphModified):
            self._modify(event)
        elif isinstance(event, dagron.RunFinished):
            self.finished = event
        elif isinstance(event, WHILE_RUNNING):
            assert self.statuses[event.node] is RUNNING
        else:
            assert isinstance(event, dagron.NodeEvent)
            status = BECOMES[type(event)]
            assert self.statuses[event.node] in FROM[status]
            self.statuses[event.node] = status
        assert event.version == self.version

    def _modify(self, event: dagron.GraphModified) -> None:
        self.version += 1
        for name in set(event.added_nodes) & set(self.statuses):
            assert self.forgets
            assert self.statuses.pop(name) is COMPLETED
            self.edges = {edge for edge in self.edges if name not in edge}
            self.forgotten += 1
        self.statuses |= dict.fromkeys(event.added_nodes, PENDING)
        for name in event.removed_nodes:
            assert self.statuses.pop(name) in (PENDING, READY)
        gone = set(event.removed_nodes)
        assert set(event.removed_edges) <= self.edges
        self.edges -= set(event.removed_edges)
        self.edges = {edge for edge in self.edges if not gone & set(edge)}
        assert not set(event.added_edges) & self.edges
        self.edges |= set(event.added_edges)
        done = list(self.statuses.values()).count(COMPLETED) if self.forgets else 0
        assert len(self.statuses) - done <= event.node_count <= len(self.statuses)
        self._announced = [(dagron.NodeAdded, name) for name in event.added_nodes]
        self._announced += [(dagron.NodeRemoved, name) for name in event.removed_nodes]

    def assert_ends_like(self, result: dagron.ExecutionResult) -> None:
        left = {name: result[name].status for name in result}
        gone = {name: self.statuses[name] for name in self.statuses if name not in left}
        assert {**left, **gone} == self.statuses
        assert set(gone.values()) <= ({COMPLETED} if self.forgets else set())
        assert len(gone) + self.forgotten == result.forgotten
        edges = {edge for edge in self.edges if not set(edge) & set(gone)}
        assert edges == set(result.dag.edges())
        assert self.finished is not None
        counts = (result.succeeded, result.failed, result.skipped, result.cancelled)
        end = self.finished
        assert (end.succeeded, end.failed, end.skipped, end.cancelled) == counts
        assert (end.ok, end.reason, end.removed) == (result.ok, result.reason, len(result.removed))


def assert_one_ending_each(events: list[Event], result: dagron.ExecutionResult) -> None:
    """Every node that was ever there has exactly one event that ends it."""
    endings = (dagron.NodeCompleted, dagron.NodeFailed, dagron.NodeSkipped, dagron.NodeCancelled)
    counts = Counter(
        event.node for event in events if isinstance(event, (*endings, dagron.NodeRemoved))
    )
    assert counts == dict.fromkeys([*result, *result.removed], 1)


def is_done(run: Run) -> bool:
    """Tell whether all nodes of a run have ended."""
    return not {PENDING, READY, RUNNING} & {run.status(name) for name in run.dag}
