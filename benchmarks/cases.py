"""What is measured: the shapes, and the no-op tasks that they run.

A case is plain data. It is made before the clock starts, and every contender gets the same one.
Nodes are called n0, n1, ...: n0 starts first and the last one ends last, in every shape.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter, thread_time
from typing import Any

WIDTH = 100  # nodes in one layer, at every size: a larger graph is deeper, not denser
MAX_WORKERS = 4  # threads for sync nodes, of dagron and of the schedulers by hand alike

# Async nodes keep the loop's thread busy from start to end, so that its CPU time is the time of the
# run, without what other programs take meanwhile. A run with threads also waits: the wall clock.
CLOCKS: dict[str, Callable[[], float]] = {"async": thread_time, "sync": perf_counter}

Task = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Case:
    shape: str
    kind: str  # of the tasks and expanders: "async" or "sync"
    size: int  # nodes when the run has ended
    nodes: list[str]
    edges: list[tuple[str, str]]
    tasks: dict[str, Task]
    marks: dict[str, float] = field(default_factory=dict)
    """When n0 and n1 started, when the last node ended, when an expander was about to return."""

    def added_after(self, name: str) -> range:
        """The numbers of the nodes that the expander of a node adds."""
        if self.shape == "expand":
            return range(1, self.size - 1)
        number = int(name[1:])
        return range(number + 1, min(number + 2, self.size))

    @property
    def grows(self) -> bool:
        return self.shape in GROWING

    def task(self, number: int) -> Task:
        """A new no-op closure, as a loop makes them: no two nodes share one."""
        if self.shape == "failure" and number == 0:
            return _failing(self.marks)
        if number in (0, 1, self.size - 1):
            return _marking(self.kind, self._mark(number), self.marks, number)
        return _noop(self.kind, number)

    def _mark(self, number: int) -> str:
        return "last" if number == self.size - 1 else ("first", "second")[number]


def make_case(shape: str, kind: str, size: int) -> Case:
    if size < 4:
        raise ValueError(f"a shape needs at least 4 nodes, got {size}")
    edges = SHAPES[shape](size)
    initial = {"expand": (0, size - 1), "chained": (0,)}.get(shape, range(size))
    case = Case(shape, kind, size, [f"n{i}" for i in initial], edges, {})
    case.tasks.update((f"n{i}", case.task(i)) for i in initial)
    return case


def _chain(size: int) -> list[tuple[str, str]]:
    return [(f"n{i}", f"n{i + 1}") for i in range(size - 1)]


def _fan(size: int) -> list[tuple[str, str]]:
    """One node, then all the others at once, then one that waits for all of them."""
    middle = range(1, size - 1)
    return [("n0", f"n{i}") for i in middle] + [(f"n{i}", f"n{size - 1}") for i in middle]


def _layers(size: int) -> list[tuple[str, str]]:
    """Each node depends on three of the layer before."""
    width = min(WIDTH, size // 2)
    edges = []
    for i in range(width, size):
        above = i - i % width - width
        edges += [(f"n{above + (i + step) % width}", f"n{i}") for step in (0, 1, 7)]
    return list(dict.fromkeys(edges))


SHAPES: dict[str, Callable[[int], list[tuple[str, str]]]] = {
    "chain": _chain,
    "fan": _fan,
    "layers": _layers,
    "expand": lambda size: [("n0", f"n{size - 1}")],
    "chained": lambda size: [],
    "failure": _chain,
}
GROWING = ("expand", "chained")


def kinds_of(shape: str) -> tuple[str, ...]:
    """A skip cascade calls nothing, so that sync nodes would measure nothing else."""
    return ("async",) if shape == "failure" else ("async", "sync")


def _noop(kind: str, number: int) -> Task:
    if kind == "sync":

        def sync_task() -> int:
            return number

        return sync_task

    async def async_task() -> int:
        return number

    return async_task


def _marking(kind: str, mark: str, marks: dict[str, float], number: int) -> Task:
    clock = CLOCKS[kind]
    if kind == "sync":

        def sync_task() -> int:
            marks[mark] = clock()
            return number

        return sync_task

    async def async_task() -> int:
        marks[mark] = clock()
        return number

    return async_task


def _failing(marks: dict[str, float]) -> Task:
    async def task() -> None:
        marks["first"] = CLOCKS["async"]()
        raise RuntimeError("an early failure")

    return task
