"""`check_cancelled`: a thread cannot be stopped, but it may ask whether it should.

The clock of most of these tests stands still until the test moves it.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

import dagron
from clocks import MANUAL, VIRTUAL, advance
from controls import Work, graph, statuses
from dagron import (
    DynamicExecutor,
    DynamicModification,
    NodePolicy,
    NodeTimeoutError,
    Retry,
    check_cancelled,
)
from ways import GUARD, passes

TWO = NodePolicy(timeout=2)


async def run_one(task: Callable[..., Any], policy: NodePolicy | None = TWO) -> dagron.NodeResult:
    """Run a graph of the single node 'node' and return what became of it."""
    result = await DynamicExecutor(graph(node=policy)).execute({"node": task})
    return result["node"]


def test_check_cancelled_does_nothing_outside_a_run() -> None:
    """A task that calls it can be tested by itself."""
    assert check_cancelled() is None


@MANUAL
async def test_check_cancelled_does_nothing_as_long_as_nobody_cancels() -> None:
    """In a sync task, an async task, an expander, a thread that an async task has started, with and
    without a timeout, it returns.
    """

    async def expand(name: str, result: object) -> None:
        check_cancelled()

    async def task() -> str:
        check_cancelled()
        await anyio.to_thread.run_sync(check_cancelled)
        return "went on"

    for policy in (None, NodePolicy(timeout=GUARD), NodePolicy(retry=Retry(2))):
        dag = graph(sync=policy, loop=policy)
        executor = DynamicExecutor(dag, {"sync": expand, "loop": lambda n, r: check_cancelled()})
        result = await executor.execute({"sync": check_cancelled, "loop": task})
        assert [node.error for node in result.node_results.values()] == [None, None]
        assert result["loop"].result == "went on"


@MANUAL
@pytest.mark.parametrize("run_is_over", [False, True])
async def test_check_cancelled_in_a_thread_that_was_given_up(run_is_over: bool) -> None:
    """From its deadline on it raises in the thread, which ends with that, also when the node has
    long been FAILED, and when the run has ended.
    """
    work = Work(then=check_cancelled)
    gate = anyio.Event()

    async def other() -> None:
        if not run_is_over:
            await gate.wait()

    async with DynamicExecutor(graph(node=TWO, other=None)).start(
        {"node": work, "other": other}
    ) as run:
        await work.begins()
        check_cancelled()  # in the program itself: nothing
        advance(3)
        await passes()
        if run_is_over:
            await run.wait()
        await work.ends()
        gate.set()
    assert isinstance(work.raised, dagron.Cancelled)
    assert str(work.raised) == (
        "node 'node' is cancelled, or its time is over\n  help: let this pass; clean up in finally"
    )
    result = await run.wait()
    assert statuses(result) == {"node": "FAILED", "other": "COMPLETED"}
    assert isinstance(result["node"].error, NodeTimeoutError)


@MANUAL
async def test_check_cancelled_in_the_attempt_after_a_timeout() -> None:
    """A thread that was given up is told to stop; the next attempt at the same node is not."""
    first = Work(then=check_cancelled)
    attempts = []

    def task() -> str:
        attempts.append(1)
        if len(attempts) == 1:
            first()
        check_cancelled()
        return "second"

    policy = NodePolicy(timeout=2, retry=Retry(3, initial_delay=0))
    async with DynamicExecutor(graph(node=policy)).start({"node": task}) as run:
        await first.begins()
        advance(3)
        await passes()
        first.let_go()
    assert (await run.wait())["node"].result == "second"
    assert isinstance(first.raised, dagron.Cancelled)


async def cancel_all(run: dagron.Run) -> None:
    run.cancel()


async def cancel_by_name(run: dagron.Run) -> None:
    run.cancel_node("node")


async def cancel_by_modification(run: dagron.Run) -> None:
    await run.modify(DynamicModification(cancel_nodes=["node"]))


@MANUAL
@pytest.mark.parametrize("policy", [None, TWO], ids=["no timeout", "timeout"])
@pytest.mark.parametrize("cancel", [cancel_all, cancel_by_name, cancel_by_modification])
async def test_check_cancelled_in_a_node_that_is_cancelled(
    cancel: Callable[[dagron.Run], Awaitable[None]], policy: NodePolicy | None
) -> None:
    """It raises in the thread when the run, or the node, is cancelled; the node is CANCELLED, not
    FAILED, and has no error.
    """
    work = Work(then=check_cancelled)
    async with DynamicExecutor(graph(node=policy)).start({"node": work}) as run:
        await work.begins()
        await cancel(run)
        await passes()
        work.let_go()
    node = (await run.wait())["node"]
    assert isinstance(work.raised, dagron.Cancelled)
    assert (str(node.status), node.error, node.errors) == ("CANCELLED", None, ())


@MANUAL
async def test_check_cancelled_when_the_caller_is_cancelled() -> None:
    """It raises in the threads of a run whose caller is cancelled, and `execute` raises after."""
    work = Work(then=check_cancelled)
    async with anyio.create_task_group() as group:
        group.start_soon(run_one, work, None)
        await work.begins()
        group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await passes()
        work.let_go()
    assert isinstance(work.raised, dagron.Cancelled)
    assert work.left.is_set()


@MANUAL
async def test_check_cancelled_is_about_one_node() -> None:
    """When one node is cancelled, or out of time, it does nothing in the others."""
    cancelled, late, other = (Work(then=check_cancelled) for _ in range(3))
    dag = graph(cancelled=None, late=TWO, other=NodePolicy(timeout=60))
    tasks = {"cancelled": cancelled, "late": late, "other": other}
    async with DynamicExecutor(dag, max_workers=3).start(tasks) as run:
        for work in (cancelled, late, other):
            await work.begins()
        run.cancel_node("cancelled")
        advance(3)
        await passes()
        for work in (cancelled, late, other):
            await work.ends()
    assert statuses(await run.wait()) == {
        "cancelled": "CANCELLED",
        "late": "FAILED",
        "other": "COMPLETED",
    }
    assert other.raised is None


@MANUAL
@pytest.mark.parametrize("in_thread", [False, True], ids=["async", "sync"])
async def test_a_task_that_raises_cancelled_by_itself(in_thread: bool) -> None:
    """A node that ends with `dagron.Cancelled` although nobody cancelled it is FAILED, once."""
    calls = []

    def sync() -> None:
        calls.append(1)
        raise dagron.Cancelled("for no reason")

    async def task() -> None:
        sync()

    node = await run_one(
        sync if in_thread else task, NodePolicy(timeout=9, retry=Retry(3, initial_delay=0))
    )
    assert (str(node.status), node.attempts, calls) == ("FAILED", 1, [1])
    assert type(node.error) is dagron.Cancelled


@MANUAL
@pytest.mark.parametrize("grouped", [False, True])
async def test_an_async_task_whose_own_thread_is_told_to_stop(grouped: bool) -> None:
    """An async task waits for a thread of its own, which calls `check_cancelled`: out of time it
    fails with `NodeTimeoutError` and is retried, cancelled it is CANCELLED, also when `Cancelled`
    comes in a group.
    """
    for cancelled in (False, True):
        work = Work(then=check_cancelled)

        async def task(work: Work = work) -> str:
            if work.left.is_set():
                return "second"
            if not grouped:
                await anyio.to_thread.run_sync(work)
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.to_thread.run_sync, work)
            return "went on"

        policy = NodePolicy(timeout=2, retry=Retry(2, initial_delay=0))
        async with DynamicExecutor(graph(node=policy)).start({"node": task}) as run:
            await work.begins()
            if cancelled:
                run.cancel()
            else:
                advance(3)
            await passes()
            work.let_go()
        node = (await run.wait())["node"]
        assert isinstance(work.raised, dagron.Cancelled)
        if cancelled:
            assert (str(node.status), node.error) == ("CANCELLED", None)
        else:
            assert (node.result, node.attempts) == ("second", 2)
            assert [type(error) for error in node.errors] == [NodeTimeoutError]


@VIRTUAL
async def test_check_cancelled_in_the_cleanup_of_a_task_that_is_out_of_time() -> None:
    """A task that calls it while it is being cancelled by its timeout is out of time."""

    async def task() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            check_cancelled()

    assert isinstance((await run_one(task)).error, NodeTimeoutError)
