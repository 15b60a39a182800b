"""Cancelling the caller of a recorded run at every step: what is left goes on to the same end."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest

import dagron
from books import MemoryJournal
from cancelling import (
    NATIVE,
    Twelve,
    Way,
    by_outer_run_on_a_thread,
    by_scope,
    by_task_cancel,
    cancel_after_passes,
    cancel_at_step,
    ways,
)
from dagron import DynamicExecutor, ExecutionResult, Journal
from faults import GUARD, ON_ASYNCIO, graph, passes, until
from journals import held_writer


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "runs.db") as journal:
        yield journal


class Recorded(Twelve):
    """The twelve nodes as a recorded run; whose outcomes were heard of."""

    def __init__(
        self,
        step: Callable[[], None],
        threads: bool = True,
        *,
        journal: Journal,
        run_id: str,
    ) -> None:
        super().__init__(step, threads)
        self._journal = journal
        self.run_id = run_id
        self.heard: set[str] = set()

    async def execute(self) -> ExecutionResult:
        executor = self._executor(journal=self._journal, observers=[self._hear])
        return await executor.execute(self._tasks(), run_id=self.run_id)

    def _hear(self, event: dagron.Event) -> None:
        if isinstance(event, dagron.NodeCompleted):
            self.heard.add(event.node)


class Runs:
    """Makes runs of the twelve, each with an id of its own, and goes on with what is left."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._numbers = count()

    def __call__(self, step: Callable[[], None], threads: bool = True) -> Recorded:
        run_id = f"run-{next(self._numbers)}"
        return Recorded(step, threads, journal=self._journal, run_id=run_id)

    async def go_on(self, cut: Recorded) -> None:
        """Execute the rest, and see that it is the rest."""
        rest = Recorded(lambda: None, journal=self._journal, run_id=cut.run_id)
        result = await rest.execute()
        assert result.ok
        assert {name: node.result for name, node in result.node_results.items()} == {
            name: name for name in "abcdefgxyz"
        } | {"join": "join", "tail": "tail"}
        assert result.dag.edge_count() == 12
        assert not cut.heard & set(rest.begun), "a node that had ended ran again"


async def assert_the_rest_is_done(
    runs: Runs, cancel: Callable[[], Awaitable[tuple[Any, ...]]]
) -> bool:
    """Cancel a run, and go on with it; tell whether it was cancelled."""
    raised, cut, *_ = await cancel()
    begun = [*cut.begun]
    await passes(3)
    assert cut.begun == begun, "a node began after that was raised"
    cut.assert_nothing_is_left()
    await runs.go_on(cut)
    return raised


@ON_ASYNCIO
@ways(*NATIVE)
async def test_cancelled_natively_at_every_step(way: Way, journal: Journal) -> None:
    """Cancelled at any step in asyncio's own ways, `execute` raises and leaves the run free; what
    is left of it goes on to the end of a run that was never cancelled.
    """
    await at_every_step(way, Runs(journal))


@ways(by_scope, by_outer_run_on_a_thread)
async def test_cancelled_at_every_step(way: Way, journal: Journal) -> None:
    """So it is by scopes, of the caller or around it, on every event loop."""
    await at_every_step(way, Runs(journal))


async def at_every_step(way: Way, runs: Runs) -> None:
    for step in range(1, Twelve.steps + 1):
        cancel = lambda step=step: cancel_at_step(way, step, runs)
        assert await assert_the_rest_is_done(runs, cancel), f"step {step}: nothing was raised"


@ON_ASYNCIO
async def test_cancelled_natively_after_some_passes(journal: Journal) -> None:
    """Cancelled natively in any pass of the loop, in those of the claim and of the release too,
    the run is free when that is raised, and goes on to the same end.
    """
    await after_passes(by_task_cancel, Runs(journal))


async def test_cancelled_after_some_passes(journal: Journal) -> None:
    """So it is by a scope, on every event loop."""
    await after_passes(by_scope, Runs(journal))


async def after_passes(way: Way, runs: Runs) -> None:
    """Cancel after more and more passes, of which there are many: the loop turns while it waits
    for the journal's thread.
    """
    raised, number, following = True, 0, 1
    while raised:
        cancel = lambda number=number: cancel_after_passes(way, number, runs, threads=False)
        raised = await assert_the_rest_is_done(runs, cancel)
        number, following = following, number + following


# --- while the journal's thread is busy ----------------------------------------------------------


@ON_ASYNCIO
async def test_cancelled_natively_while_the_run_is_claimed(journal: Journal) -> None:
    """A run that its caller gives up while it is being claimed is let go when that is done."""
    executor = DynamicExecutor(graph("a"), journal=journal)
    with anyio.fail_after(GUARD):
        with held_writer(journal._store):
            task = asyncio.create_task(executor.execute({"a": noop}, run_id="x"))
            await until(lambda: not journal._store._writer._queue.empty())
            for _ in range(3):
                task.cancel()
                await passes(50)
            assert not task.done()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await executor.execute({"a": noop}, run_id="x")).ok


@ON_ASYNCIO
async def test_cancelled_natively_while_the_end_is_written() -> None:
    """A run whose caller is cancelled while its end is being written has ended: so it is written,
    once, and nothing of it runs again.
    """
    journal = MemoryJournal()

    def is_ending() -> bool:
        return bool(journal.waiting) and [row.kind for row in journal.pages["x"].rows] == [
            "life",
            "done",
        ]

    def hold_the_end(event: dagron.Event) -> None:
        if isinstance(event, dagron.NodeCompleted):
            journal.hold.clear()

    executor = DynamicExecutor(graph("a"), journal=journal, observers=[hold_the_end])
    with anyio.fail_after(GUARD):
        task = asyncio.create_task(executor.execute({"a": noop}, run_id="x"))
        await until(is_ending)
        for _ in range(3):
            task.cancel()
            await passes(20)
        assert not task.done()
        journal.hold.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    page = journal.pages["x"]
    assert [row.kind for row in page.rows] == ["life", "done", "end"]
    assert page.is_finished
    assert not page.is_held


async def noop() -> None:
    pass
