"""Cancelling the caller of a run in every way, at every step and in every pass of the loop."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.from_thread
import pytest
import trio
from anyio.lowlevel import checkpoint

import dagron
from faults import GUARD, Alive, graph, passes

Cancel = Callable[[], object]


# --- the ways in which a caller is cancelled -----------------------------------------------------
#
# Each runs `execute` with a function that cancels it, and tells whether that raised.

Way = Callable[[Callable[[Cancel], Awaitable[Any]]], Awaitable[bool]]


async def by_scope(execute: Callable[[Cancel], Awaitable[Any]]) -> bool:
    """A cancel scope around the call."""
    with anyio.CancelScope() as scope:
        await execute(scope.cancel)
        return False
    return scope.cancelled_caught


async def by_task_group(execute: Callable[[Cancel], Awaitable[Any]]) -> bool:
    """The task group whose child makes the call."""
    raised = []
    async with anyio.create_task_group() as group:

        async def child() -> None:
            try:
                await execute(group.cancel_scope.cancel)
            except anyio.get_cancelled_exc_class():
                raised.append(True)
                raise

        group.start_soon(child)
    return bool(raised)


async def by_outer_run(execute: Callable[[Cancel], Awaitable[Any]]) -> bool:
    """The run whose node makes the call."""
    raised = []
    with anyio.CancelScope() as scope:

        async def node() -> None:
            try:
                await execute(scope.cancel)
            except anyio.get_cancelled_exc_class():
                raised.append(True)
                raise

        await dagron.DynamicExecutor(graph("node")).execute({"node": node})
    return bool(raised) and scope.cancelled_caught


async def by_outer_run_on_a_thread(execute: Callable[[Cancel], Awaitable[Any]]) -> bool:
    """The run whose sync node makes the call, from its thread."""
    with anyio.CancelScope() as scope:
        node = lambda: anyio.from_thread.run(execute, scope.cancel)
        await dagron.DynamicExecutor(graph("node"), max_workers=1).execute({"node": node})
    return scope.cancelled_caught


async def by_task_cancel(execute: Callable[[Cancel], Awaitable[Any]]) -> bool:
    """`Task.cancel()` on the task that makes the call."""
    task = asyncio.ensure_future(execute(lambda: task.cancel()))
    await asyncio.wait([task])
    return task.cancelled()


async def by_asyncio_timeout(execute: Callable[[Cancel], Awaitable[Any]]) -> bool:
    """An `asyncio.timeout` around the call."""
    task = asyncio.current_task()
    assert task is not None
    try:
        async with asyncio.timeout(None) as timeout:
            await execute(lambda: timeout.reschedule(0))
    except TimeoutError:
        assert task.cancelling() == 0
        return True
    assert task.cancelling() == 0
    return False


EVERYWHERE: list[Way] = [by_scope, by_task_group, by_outer_run, by_outer_run_on_a_thread]
NATIVE: list[Way] = [by_task_cancel, by_asyncio_timeout]


def ways(*values: Way) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("way", values, ids=lambda way: way.__name__)


# --- a graph of twelve nodes that counts its steps -----------------------------------------------


class Steps:
    """Counts the steps of nodes and expanders, on the loop, and cancels the caller at the k-th."""

    def __init__(self, last: int, cancel: Cancel) -> None:
        self.count = 0
        self._last = last
        self._cancel = cancel

    def __call__(self) -> None:
        self.count += 1
        if self.count == self._last:
            self._cancel()


class Twelve:
    """Twelve nodes: sync and async, three of them added by an async and a sync expander.

    a --> c [x, y] --.
    b --> d [z] -----+--> join --> tail      e, f: alone
      '-> g          '
    """

    dag = graph("e", "f", edges="a-c b-d b-g c-join d-join join-tail")
    on_thread = frozenset("bdfy")
    steps = 2 * 12 + 2 * 2

    def __init__(self, step: Callable[[], None], threads: bool = True) -> None:
        self._step = step
        self._threads = self.on_thread if threads else frozenset()
        self.alive = Alive()
        self.tidied: list[str] = []  # nodes whose `finally` has run to its end
        self.begun: list[str] = []

    async def execute(self) -> dagron.ExecutionResult:
        return await self._executor().execute(self._tasks())

    def _executor(self, **options: Any) -> dagron.DynamicExecutor:
        expand_d = self._expand_d if self._threads else self._expand_d_async
        expanders = {"c": self._expand_c, "d": expand_d}
        return dagron.DynamicExecutor(self.dag, expanders, max_workers=2, **options)

    def _tasks(self) -> dict[str, Callable[[], Any]]:
        return {name: self._task(name) for name in self.dag}

    def _task(self, name: str) -> Callable[[], Any]:
        if name in self._threads:
            return lambda: self._on_thread(name)

        async def task() -> str:
            return await self._on_loop(name)

        return task

    async def _on_loop(self, name: str) -> str:
        with self.alive:
            self.begun.append(name)
            try:
                self._step()
                await passes(2)
                self._step()
                return name
            finally:
                with anyio.CancelScope(shield=True):
                    await passes(2)
                self.tidied.append(name)

    def _on_thread(self, name: str) -> str:
        with self.alive:
            self.begun.append(name)
            anyio.from_thread.run_sync(self._step)
            anyio.from_thread.run_sync(self._step)
            self.tidied.append(name)
            return name

    def _spec(self, name: str) -> dagron.DynamicNodeSpec:
        return dagron.DynamicNodeSpec(
            name, self._task(name), ["c" if name in "xy" else "d"], ["join"]
        )

    async def _expand_c(self, name: str, result: str) -> dagron.DynamicModification:
        with self.alive:
            self._step()
            await passes(2)
            self._step()
            return dagron.DynamicModification([self._spec("x"), self._spec("y")])

    def _expand_d(self, name: str, result: str) -> dagron.DynamicModification:
        with self.alive:
            anyio.from_thread.run_sync(self._step)
            anyio.from_thread.run_sync(self._step)
            return dagron.DynamicModification([self._spec("z")])

    async def _expand_d_async(self, name: str, result: str) -> dagron.DynamicModification:
        with self.alive:
            self._step()
            await checkpoint()
            self._step()
            return dagron.DynamicModification([self._spec("z")])

    def assert_nothing_is_left(self) -> None:
        assert self.alive.now == 0
        assert sorted(self.tidied) == sorted(self.begun)


# --- every step, every pass -----------------------------------------------------------------------


def tasks_living() -> int:
    """How many tasks there are in the event loop."""
    try:
        return trio.lowlevel.current_statistics().tasks_living
    except RuntimeError:
        return len(asyncio.all_tasks())


@asynccontextmanager
async def leaving_nothing() -> AsyncIterator[None]:
    """Fail if the block leaves a task of the loop behind, at once."""
    before = tasks_living()
    with anyio.fail_after(GUARD):
        yield
    assert tasks_living() == before


Make = Callable[[Callable[[], None], bool], Twelve]  # of a step, and whether there are threads


async def cancel_at_step(way: Way, k: int, make: Make) -> tuple[bool, Twelve, int]:
    """Cancel the caller at the k-th step; return what the way tells, the nodes, and the steps."""
    made: list[tuple[Twelve, Steps]] = []

    async def execute(cancel: Cancel) -> None:
        steps = Steps(k, cancel)
        twelve = make(steps, True)
        made.append((twelve, steps))
        try:
            await twelve.execute()
        finally:
            twelve.assert_nothing_is_left()

    async with leaving_nothing():
        raised = await way(execute)
    (twelve, steps) = made[0]
    return raised, twelve, steps.count


async def assert_every_step_can_be_cancelled(way: Way, make: Make = Twelve) -> None:
    raised, twelve, count = await cancel_at_step(way, 0, make)
    assert not raised
    assert len(twelve.begun) == 12
    assert count == Twelve.steps
    for k in range(1, Twelve.steps + 1):
        raised, twelve, count = await cancel_at_step(way, k, make)
        assert raised, f"cancelled at step {k} of {count}, and nothing was raised"
        begun = list(twelve.begun)
        await passes(3)
        assert twelve.begun == begun, "a node began after that was raised"
        twelve.assert_nothing_is_left()


async def cancel_after_passes(
    way: Way, count: int, make: Make, threads: bool
) -> tuple[bool, Twelve]:
    """Cancel the caller after so many passes of the loop, if the run is not over by then."""
    made: list[Twelve] = []
    over: list[bool] = []

    async def cancel_later(cancel: Cancel) -> None:
        await passes(count)
        if not over:
            cancel()

    async with leaving_nothing(), anyio.create_task_group() as host:

        async def execute(cancel: Cancel) -> None:
            twelve = make(lambda: None, threads)
            made.append(twelve)
            host.start_soon(cancel_later, cancel)
            try:
                await twelve.execute()
            finally:
                over.append(True)
                twelve.assert_nothing_is_left()

        raised = await way(execute)
    return raised, made[0]


async def assert_every_pass_can_be_cancelled(way: Way, make: Make = Twelve) -> None:
    for count in range(1_000):
        raised, twelve = await cancel_after_passes(way, count, make, threads=False)
        if not raised:
            break
    assert len(twelve.begun) == 12, f"cancelled after pass {count}, and nothing was raised"
    assert count > 12


async def assert_passes_with_threads_can_be_cancelled(way: Way) -> None:
    for count in range(50):
        raised, twelve = await cancel_after_passes(way, count, Twelve, threads=True)
        assert raised or len(twelve.begun) == 12
