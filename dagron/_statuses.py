"""The statuses of the nodes, and what follows for others when one of them changes.

PENDING --> READY --> RUNNING --> COMPLETED
   ^----------|          |------> FAILED
   |          |          '------> CANCELLED
   '----------+------------------> SKIPPED, CANCELLED, FAILED (by a condition that raised)
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dagron._adjacency import Adjacency
from dagron._admission import Admission
from dagron._blame import Blame
from dagron._offspring import Offspring
from dagron._policy import LOCAL, NodePolicy
from dagron._readiness import Readiness
from dagron._retention import Retention
from dagron._status import (
    NEXT,
    PENDING,
    READY,
    RUNNING,
    SKIPPED,
    WAITING,
    NodeStatus,
)


class Landed(NamedTuple):
    """The record of a modification that has landed."""

    by: str | None
    version: int
    depth: int
    node_count: int
    added_nodes: Sequence[str]
    removed_nodes: Sequence[str]
    added_edges: Sequence[tuple[str, str]]
    removed_edges: Sequence[tuple[str, str]]
    cancelled_nodes: Sequence[str]


class Statuses:
    """Where each node of a graph stands. All changes go through here, and obey the table `NEXT`.

    While ``log`` is a list, every transition is appended to it, as (name, status), and every
    modification, as `Landed`, in the order in which they happen.
    """

    __slots__ = (
        "_admission",
        "_blame",
        "_default",
        "_graph",
        "_readiness",
        "_status",
        "conditional",
        "lingering",
        "log",
        "offspring",
        "on_threads",
        "policies",
        "resting",
        "retention",
        "running",
        "unfinished",
        "working",
    )

    def __init__(
        self,
        graph: Adjacency,
        admission: Admission,
        on_threads: Iterable[str],
        policy: NodePolicy | None,
        keep: str,
    ) -> None:
        self._graph = graph
        self.log: list[tuple[str, NodeStatus] | Landed] | None = None
        self.on_threads = set(on_threads)  # for reading
        self.conditional = graph.conditions  # the sources of edges with conditions; for reading
        self._blame: dict[str, Blame] = {}  # why a node was skipped, or cancelled on its own
        self._status: dict[str, NodeStatus] = dict.fromkeys(graph.dependencies, PENDING)
        self._readiness = Readiness(graph, self._status)
        self.offspring = Offspring()
        self.retention = Retention(graph, self._status, keep)
        self._admission = admission
        self.working = admission.working  # the nodes that hold a worker slot; for reading
        self.resting = admission.resting  # running nodes that hold no slots; for reading
        self.lingering = admission.lingering  # ended nodes whose thread has not; for reading
        self.running = 0
        self.unfinished = len(self._status)
        self._default = policy
        self.policies: dict[str, NodePolicy] = {}  # what the nodes that have any are run by
        for name in self._status if policy else graph.policies:
            self._govern(name, graph.policies.get(name))
        for name, count in self._readiness.waiting.items():
            if not count:
                self._make_ready(name)

    def _govern(self, name: str, own: NodePolicy | None) -> None:
        """Note what a node is run by: its own policy over the default one."""
        policy = self._default if own is None else own.over(self._default)
        assert policy is not None, "it is asked for only where there is one of the two"
        self.policies[name] = policy
        self._readiness.set_trigger(name, policy.trigger)
        self._admission.enrol(name, policy.groups, policy.runner)
        if policy.runner != LOCAL:
            self.on_threads.discard(name)  # it needs no thread of ours

    # -- the only writers of statuses

    def _move(self, name: str, to: NodeStatus) -> None:
        if to not in NEXT[self._status[name]]:
            raise self._refusal(name, to)
        self._status[name] = to
        if self.log is not None:
            self.log.append((name, to))

    def _refusal(self, name: str, to: NodeStatus) -> RuntimeError:
        return RuntimeError(f"node {name!r} cannot go from {self._status[name]} to {to}")

    def _finish(self, name: str, to: NodeStatus) -> None:
        was_running = self._status[name] is RUNNING
        self._move(name, to)
        self.unfinished -= 1
        if was_running:
            self.running -= 1
            self._admission.release(name)
        self._admission.withdraw(name)
        if self.offspring.unfinished or self.retention.active:
            self._tell_end(name)

    def _tell_end(self, name: str) -> None:
        """Tell those who count ends that a node has ended."""
        self.offspring.finish(name, self._graph.added_by.get(name))
        if self.retention.active:
            self.retention.end(name)

    def _make_ready(self, name: str) -> None:
        """Put a node that is PENDING in line; written out, since every node comes by."""
        self._status[name] = READY
        if self.log is not None:
            self.log.append((name, READY))
        policy = self.policies.get(name) if self.policies else None
        self._admission.add(name, name in self.on_threads, policy.priority if policy else 0)

    # -- from what happened to one node to the status of others

    def _decide(self, name: str) -> None:
        """Bring the status of a node that waits in line with its edges."""
        now = self._status[name]
        if now not in WAITING:
            return
        verdict = self._readiness.verdict(name)
        if verdict is False:
            self._skip(name, self._readiness.blame(name))
        elif verdict and now is PENDING:
            self._make_ready(name)
        elif verdict is None and now is READY:
            self._wait_again(name)

    def _wait_again(self, name: str) -> None:
        self._move(name, PENDING)
        self._admission.withdraw(name)

    def _skip(self, name: str, blame: Blame) -> None:
        """Skip a node and what falls with it; no recursion, since chains are long."""
        stack = [(name, blame)]
        while stack:
            name, blame = stack.pop()
            if self._status[name] in WAITING:
                self._finish(name, SKIPPED)
                self._blame[name] = blame
                stack += self._fall(name, blame)

    def _pass_failure(self, name: str, blame: Blame) -> None:
        for target, why in self._fall(name, blame):
            self._skip(target, why)

    def _fall(self, name: str, blame: Blame) -> list[tuple[str, Blame]]:
        """Count the edges from a node that ended without success.

        Returns what falls with it, and why; what may run all the same becomes ready.
        """
        falling: list[tuple[str, Blame]] = []
        readiness = self._readiness
        for target in self._graph.dependents[name]:
            if self._status[target] not in WAITING or readiness.is_settled(name, target):
                continue
            if readiness.pass_unmet(name, target, blame):
                falling.append((target, blame))
            elif readiness.verdict(target) is False:
                falling.append((target, readiness.blame(target)))
            else:
                self._decide(target)
        return falling
