"""The work that every peer is given: numbers of nodes, edges between them, and their tasks.

Node 0 starts first and the last one ends last. A task returns its number, and notes that it ran:
so that whoever lost, repeated or reordered nodes is found out. Only the standard library is used
here: this is imported in every peer's environment.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

from benchmarks import cases
from benchmarks.peers import LIMIT

IO_SECONDS = 0.010
SHORT, LONG = 0.010, 0.100
BRANCHES, STEPS = 10, 5
UNEVEN_SIZE = BRANCHES * STEPS + 2

Edge = tuple[int, int]


@dataclass(slots=True)
class Watch:
    """What the tasks tell of a run."""

    order: list[int] = field(default_factory=list)  # each node, when it had done its work
    ended: set[int] = field(default_factory=set)  # the same, of `io` and `uneven`
    inside: int = 0
    most: int = 0
    early: list[Edge] = field(default_factory=list)  # a node that started before a dependency ended
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass
class Work:
    workload: str
    kind: str  # of the tasks: "async" or "sync"
    size: int
    watch: Watch = field(default_factory=Watch)

    @cached_property
    def edges(self) -> list[Edge]:
        if self.workload == "uneven":
            return _branches()
        shape = {"io": "fan", "chained": "chain"}.get(self.workload, self.workload)
        named = cases.SHAPES[shape](self.size)
        return [(int(source[1:]), int(target[1:])) for source, target in named]

    @cached_property
    def dependencies(self) -> list[list[int]]:
        found: list[list[int]] = [[] for _ in range(self.size)]
        for source, target in self.edges:
            found[target].append(source)
        return found

    @cached_property
    def dependents(self) -> list[list[int]]:
        found: list[list[int]] = [[] for _ in range(self.size)]
        for source, target in self.edges:
            found[source].append(target)
        return found

    @property
    def nodes(self) -> range:
        return range(self.size)

    @property
    def children(self) -> range:
        """Of a fan: all but the first node and the last."""
        return range(1, self.size - 1)

    @property
    def last(self) -> int:
        return self.size - 1

    @property
    def total(self) -> int:
        return self.size * (self.size - 1) // 2

    @property
    def ideal(self) -> float:
        """Seconds that a run takes at least: whole rounds of the limit, or the critical path."""
        if self.workload == "io":
            return -(-len(self.children) // LIMIT) * IO_SECONDS
        return LONG + (STEPS - 1) * SHORT if self.workload == "uneven" else 0.0

    def seconds(self, number: int) -> float:
        """How long the task of a node waits, as for a disk or a network."""
        if self.workload not in ("io", "uneven") or number in (0, self.last):
            return 0.0
        if self.workload == "io":
            return IO_SECONDS
        branch, step = divmod(number - 1, STEPS)
        return LONG if step == branch % STEPS else SHORT

    def task(self, number: int) -> Callable[[], Any]:
        """A new closure, as a loop makes them: no two nodes share one."""
        note = self.watch.order.append
        if self.ideal:
            body = self.body
            return lambda: body(number)
        if self.kind == "sync":

            def sync_task() -> int:
                note(number)
                return number

            return sync_task

        async def async_task() -> int:
            note(number)
            return number

        return async_task

    @cached_property
    def body(self) -> Callable[[int], Any]:
        """The same for all nodes: what a library calls that runs one function for many items."""
        note = self.watch.order.append
        if self.ideal:
            return self._waiting_body()
        if self.kind == "sync":

            def sync_body(number: int) -> int:
                note(number)
                return number

            return sync_body

        async def async_body(number: int) -> int:
            note(number)
            return number

        return async_body

    def _waiting_body(self) -> Callable[[int], Any]:
        if self.kind == "sync":

            def sync_body(number: int) -> int:
                self._enter(number)
                time.sleep(self.seconds(number))
                return self._leave(number)

            return sync_body

        async def async_body(number: int) -> int:
            self._enter(number)
            await asyncio.sleep(self.seconds(number))
            return self._leave(number)

        return async_body

    def _enter(self, number: int) -> None:
        watch = self.watch
        with watch.lock:
            watch.early += [
                (of, number) for of in self.dependencies[number] if of not in watch.ended
            ]
            watch.inside += 1
            watch.most = max(watch.most, watch.inside)

    def _leave(self, number: int) -> int:
        with self.watch.lock:
            self.watch.inside -= 1
            self.watch.ended.add(number)
            self.watch.order.append(number)
        return number

    def fault(self, total: Any) -> str:
        """What is wrong with a run that gave back this sum; empty if nothing is."""
        place = {number: at for at, number in enumerate(self.watch.order)}
        if len(self.watch.order) != self.size or len(place) != self.size:
            return f"{len(self.watch.order)} runs of {len(place)} nodes, not of {self.size}"
        early = self.watch.early
        early += [edge for edge in self.edges if place[edge[0]] > place[edge[1]]]
        if early:
            return "node {1} ran before {0}".format(*early[0])
        if total != self.total:
            return f"the results add up to {total}, not to {self.total}"
        if self.workload == "io" and self.watch.most > LIMIT:
            return f"{self.watch.most} nodes at once, not {LIMIT}"
        return ""


def _branches() -> list[Edge]:
    """Ten branches of five steps, one of which takes long: another one in each branch."""
    edges: list[Edge] = []
    for branch in range(BRANCHES):
        steps = range(1 + branch * STEPS, 1 + (branch + 1) * STEPS)
        edges += [(0, steps[0]), *pairwise(steps), (steps[-1], UNEVEN_SIZE - 1)]
    return edges
