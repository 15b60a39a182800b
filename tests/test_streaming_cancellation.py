"""Cancelling a run with streams after every possible number of passes of the event loop."""

import threading
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from cancelling import leaving_nothing
from dagron import DAG, DynamicExecutor, DynamicModification, DynamicNodeSpec, Grow, NodePolicy
from faults import Alive, passes

Step = DynamicNodeSpec | DynamicModification | None


class Streams:
    """A run that streams: its generators, tasks and slots are counted.

    a (a sync generator) and b (an async one) add five children each through a window of two, and g
    by itself; all of them share one worker, two places and a group of one.
    """

    def __init__(self) -> None:
        self.alive = Alive()
        self.opened: list[str] = []
        self.closed: list[str] = []
        self.threads: dict[str, set[int]] = {}

    def executor(self) -> DynamicExecutor:
        policy = NodePolicy(window=2, group="g")
        builder = DAG.builder()
        for name in "abg":
            builder.add_node(name, policy=policy)
        dag = builder.add_edge("a", "after").add_edge("b", "after").add_edge("g", "after").build()
        return DynamicExecutor(
            dag,
            {"a": self._on_thread, "b": self._on_loop},
            max_workers=1,
            max_concurrency=2,
            limits={"g": 1},
        )

    def tasks(self) -> dict[str, Callable[..., Any]]:
        return {"a": self._task, "b": self._task, "g": self._grow, "after": self._task}

    async def _task(self) -> None:
        with self.alive:
            await checkpoint()

    async def _grow(self, grow: Grow) -> None:
        with self.alive:
            for number in range(5):
                await grow(self._spec(f"g{number}"))

    def _spec(self, name: str) -> DynamicNodeSpec:
        policy = NodePolicy(group="g") if name.endswith("3") else None
        return DynamicNodeSpec(name, self._task, policy=policy)

    def _on_thread(self, name: str, result: object) -> Generator[Step]:
        with self.alive:
            self.opened.append(name)
            threads = self.threads.setdefault(name, set())
            try:
                for number in range(5):
                    threads.add(threading.get_ident())
                    yield self._spec(f"{name}{number}")
            finally:
                threads.add(threading.get_ident())
                self.closed.append(name)

    async def _on_loop(self, name: str, result: object) -> AsyncGenerator[Step]:
        with self.alive:
            self.opened.append(name)
            try:
                for number in range(5):
                    await checkpoint()
                    yield self._spec(f"{name}{number}")
            finally:
                with anyio.CancelScope(shield=True):
                    await passes(2)
                self.closed.append(name)

    def assert_nothing_is_left(self) -> None:
        assert self.alive.now == 0
        assert sorted(self.closed) == sorted(self.opened)
        assert all(len(threads) == 1 for threads in self.threads.values())


def pools_of(run: Any) -> list[tuple[str, bool]]:
    """Return which slots are free, of workers, places and groups."""
    admission = run._scheduler._admission
    pools = [admission._workers, admission._places, *admission._pools.values()]
    return [(pool.name, pool.is_free(admission._lanes)) for pool in pools]


async def cancelled_after(count: int, how: str) -> bool:
    """Cancel such a run after so many passes; tell whether it was over before."""
    streams = Streams()
    over: list[bool] = []

    async with leaving_nothing(), anyio.create_task_group() as host:
        with anyio.CancelScope() as scope:
            async with streams.executor().start(streams.tasks()) as run:

                async def cancel_later() -> None:
                    await passes(count)
                    if not run._ended.is_set():
                        if how == "caller":
                            scope.cancel()
                        elif how == "run":
                            run.cancel()
                        else:
                            run.cancel_node(how)
                    else:
                        over.append(True)

                host.start_soon(cancel_later)
        streams.assert_nothing_is_left()
        assert run._scheduler.working == set()
        assert run._scheduler.running == 0
        if how in "abg":
            assert not scope.cancelled_caught
            statuses = {
                name: str(node.status) for name, node in (await run.wait()).node_results.items()
            }
            assert set(statuses.values()) <= {"COMPLETED", "CANCELLED", "SKIPPED"}
            assert run._scheduler.unfinished == 0
            cancelled = [name for name, status in statuses.items() if status == "CANCELLED"]
            assert cancelled in ([how], [])
            assert len([name for name in statuses if name[0] not in (how, "after"[0])]) >= 6
            assert [name for name, is_free in pools_of(run) if not is_free] == []
    return bool(over)


@pytest.mark.parametrize("how", ["caller", "run", "a", "b", "g"])
async def test_a_cancellation_in_every_pass_of_a_streaming_run(how: str) -> None:
    """Cancel at every step: the caller, the run, or one of the streaming nodes is cancelled after
    every possible number of passes. Nothing is left running, every generator that was begun is
    closed, in its thread, and no slot is lost: what is not cancelled completes.
    """
    undisturbed = 0
    for count in range(1_000):
        undisturbed = undisturbed + 1 if await cancelled_after(count, how) else 0
        if undisturbed == 3:
            break
    assert count > 20
    assert undisturbed == 3


async def test_the_same_run_undisturbed() -> None:
    """The run of these tests, when nothing is cancelled, completes all of its nodes."""
    streams = Streams()
    async with streams.executor().start(streams.tasks()) as run:
        pass
    result = await run.wait()
    assert result.ok
    assert result.succeeded == 4 + 15
    assert sorted(streams.closed) == ["a", "b"]
    streams.assert_nothing_is_left()
    assert {is_free for _, is_free in pools_of(run)} == {True}
