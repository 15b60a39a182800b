"""Ending a run, or one of its nodes, through the handle: `run.cancel` and `run.cancel_node`."""

import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import anyio.from_thread
import pytest

import dagron
from dagron import DynamicExecutor, NodePolicy, Retry, Run
from faults import GUARD, graph, hold, passes, until
from handles import (
    CANCELLED,
    COMPLETED,
    RUNNING,
    SKIPPED,
    Modification,
    Node,
    Tidying,
    noop,
    start,
)

# --- cancel --------------------------------------------------------------------------------------


async def directly(call: Callable[[], object]) -> None:
    call()


async def in_a_worker_thread(call: Callable[[], object]) -> None:
    await anyio.to_thread.run_sync(call)


async def in_a_plain_thread(call: Callable[[], object]) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    await anyio.to_thread.run_sync(thread.join, GUARD)


From = Callable[[Callable[[], object]], Awaitable[None]]
FROM_ANYWHERE = pytest.mark.parametrize(
    "where", [directly, in_a_worker_thread, in_a_plain_thread], ids=lambda way: way.__name__
)


@FROM_ANYWHERE
@pytest.mark.parametrize("reason", ["", "out of money"])
async def test_cancel_ends_the_run_as_a_result(where: From, reason: str) -> None:
    """`run.cancel(reason)` ends the run as a result, from any thread: what runs is cancelled and
    tidies up, the rest never starts, what was done stays done, and all say why; the block goes on.
    """
    task = Tidying()
    names = ("done", "a")
    dag = graph(*names, edges="a-b")
    with anyio.fail_after(GUARD):
        async with start(dag, {"done": noop, "a": task, "b": noop}) as run:
            await until(lambda: [run.status(n) for n in names] == [COMPLETED, RUNNING])
            await task.has_begun()
            await where(partial(run.cancel, reason) if reason else run.cancel)
            result = await run.wait()
            await passes(3)
    task.assert_all_ended()
    expected = "the run was cancelled: out of money" if reason else "the run was cancelled"
    assert result.reason == expected
    assert [result[name].reason for name in dag] == [None, expected, expected]
    assert [result[name].status for name in dag] == [COMPLETED, CANCELLED, CANCELLED]
    assert not result.ok
    with pytest.raises(dagron.RunFailedError, match=f"cut short: {expected}"):
        result.raise_for_failures()


@FROM_ANYWHERE
async def test_only_the_first_cancel_counts(where: From) -> None:
    """A second `cancel` changes nothing, nor does one after the end, nor the block's exception."""
    task = Tidying()
    run = start(graph("a"), {"a": task})
    with anyio.fail_after(GUARD), pytest.raises(ValueError, match="later"):
        async with run:
            await task.has_begun()
            await where(partial(run.cancel, "first"))
            await where(partial(run.cancel, "second"))
            await run.wait()
            await where(partial(run.cancel, "third"))
            raise ValueError("later")
    await where(partial(run.cancel, "fourth"))
    await passes(3)
    assert (await run.wait()).reason == "the run was cancelled: first"


@FROM_ANYWHERE
async def test_cancel_after_the_end_changes_nothing(where: From) -> None:
    """After the last node has ended a `cancel` comes too late: the result stays `ok`."""
    async with start(graph("a"), {"a": noop}) as run:
        await run.wait()
        await where(partial(run.cancel, "too late"))
        await passes(3)
    await where(partial(run.cancel, "too late"))
    await passes(3)
    result = await run.wait()
    assert (result.ok, result.reason) == (True, None)


@pytest.mark.parametrize("entered", [False, True])
async def test_cancel_before_the_run_begins(entered: bool) -> None:
    """Cancelled before it has begun, a run begins no node, and ends with the first reason."""
    began: list[int] = []
    run = start(graph(edges="a-b"), {"a": lambda: began.append(1), "b": noop})
    if not entered:
        run.cancel("first")
    with anyio.fail_after(GUARD):
        async with run:
            run.cancel("first" if entered else "second")
            run.cancel("second")
    result = await run.wait()
    assert began == []
    assert result.reason == "the run was cancelled: first"
    assert [(r.status, r.attempts) for r in result.node_results.values()] == [(CANCELLED, 0)] * 2


@pytest.mark.parametrize("where", ["task", "thread", "expander", "expander in a thread"])
async def test_a_node_cancels_its_run(where: str) -> None:
    """A node, its thread or its expander may cancel the run: others are cancelled, and what the
    expander returns all the same is cancelled with the rest.
    """
    task = Tidying()

    async def stop(*_: object) -> None:
        await task.has_begun()
        run.cancel("by a node")

    def stop_in_thread(*_: object) -> None:
        anyio.from_thread.run(task.has_begun)
        run.cancel("by a node")

    async def expand(name: str, result: object) -> Modification:
        await stop()
        return Modification([Node("new", noop)])

    def expand_in_thread(name: str, result: object) -> Modification:
        stop_in_thread()
        return Modification([Node("new", noop)])

    expands = {"expander": expand, "expander in a thread": expand_in_thread}
    tasks = {"task": stop, "thread": stop_in_thread}
    executor = DynamicExecutor(graph("a", "b"), {"a": expands[where]} if where in expands else {})
    with anyio.fail_after(GUARD):
        async with executor.start({"a": tasks.get(where, noop), "b": task}) as run:
            result = await run.wait()
    task.assert_all_ended()
    assert result.reason == "the run was cancelled: by a node"
    assert result["b"].status is CANCELLED
    assert result["a"].status is COMPLETED or not where.startswith("expander in")
    if "new" in result:
        assert result["new"].status is CANCELLED


async def test_cancel_while_the_block_is_left() -> None:
    """A `cancel` by another task ends a run whose block waits to be left: it is left normally."""
    task = Tidying()
    run = start(graph("a"), {"a": task})

    async def stop() -> None:
        await task.has_begun()
        await passes(5)
        run.cancel("enough")

    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as others:
            others.start_soon(stop)
            async with run:
                pass
    assert (await run.wait()).reason == "the run was cancelled: enough"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancel_when_the_event_loop_is_gone(backend: str) -> None:
    """From another thread, after the program's loop has ended: nothing happens, and nothing is
    raised.
    """

    async def main() -> Run:
        async with start(graph("a"), {"a": noop}) as run:
            pass
        return run

    run = anyio.run(main, backend=backend)
    raised: list[BaseException] = []

    def late() -> None:
        for call in (run.cancel, partial(run.cancel_node, "a")):
            try:
                call()
            except BaseException as error:
                raised.append(error)

    late()
    thread = threading.Thread(target=late)
    thread.start()
    thread.join(GUARD)
    assert raised == []


# --- cancel_node ---------------------------------------------------------------------------------


@FROM_ANYWHERE
@pytest.mark.parametrize("when", ["running", "ready", "waiting"])
async def test_cancel_node(where: From, when: str) -> None:
    """`run.cancel_node(name)` cancels a node that runs or waits, from any thread: it ends
    CANCELLED with a reason, what depends on it is skipped, the rest goes on, and the result stays
    `ok`.
    """
    task, gate = Tidying(), anyio.Event()
    dag = graph("first", edges="first-other victim-after")
    if when == "waiting":
        dag = graph(edges="first-other first-victim victim-after")
    tasks = {"first": gate.wait, "other": noop, "victim": task, "after": noop}
    with anyio.fail_after(GUARD):
        async with start(dag, tasks, max_concurrency=1 if when == "ready" else None) as run:
            await until(lambda: run.status("first") is RUNNING)
            if when == "running":
                await task.has_begun()
            await where(partial(run.cancel_node, "victim"))
            await where(partial(run.cancel_node, "victim"))
            await until(lambda: run.status("victim") is CANCELLED)
            gate.set()
    task.assert_all_ended()
    assert task.begun == (when == "running")
    result = await run.wait()
    assert result["victim"].reason == "cancelled by the program, through the run's handle"
    assert result["after"].reason == "skipped because 'victim' was cancelled"
    assert result["other"].status is COMPLETED
    assert (result.ok, result.reason, result.cancelled) == (True, None, 1)
    result.raise_for_failures()


@FROM_ANYWHERE
async def test_cancel_node_of_what_is_done(where: From) -> None:
    """A node that has finished, in whatever way, or was removed, is left alone, in the run and
    after it.
    """
    gate = anyio.Event()

    async def fail() -> None:
        raise ValueError

    names = ("good", "bad", "lost", "removed", "cancelled")
    dag = graph("good", "cancelled", edges="bad-lost held-removed")
    tasks = {**dict.fromkeys(names, noop), "bad": fail, "held": gate.wait}
    tasks["cancelled"] = anyio.sleep_forever
    with anyio.fail_after(GUARD):
        async with start(dag, tasks) as run:
            await run.modify(Modification(remove_nodes=["removed"]))
            await until(lambda: run.status("good") is COMPLETED and run.status("lost") is SKIPPED)
            run.cancel_node("cancelled")
            await until(lambda: run.status("cancelled") is CANCELLED)
            before = {name: run.status(name) for name in run.dag}
            for name in names:
                await where(partial(run.cancel_node, name))
            await passes(5)
            assert {name: run.status(name) for name in run.dag} == before
            gate.set()
    for name in names:
        await where(partial(run.cancel_node, name))
    await passes(5)
    result = await run.wait()
    assert {name: result[name].status for name in result} == before | {"held": COMPLETED}
    assert result.removed == ("removed",)


async def test_cancel_node_that_comes_too_late_from_a_thread() -> None:
    """A `cancel_node` that a thread has asked for, and that the loop comes round to when the node
    has been removed, or its run is over, changes nothing.
    """
    gate = anyio.Event()
    for ending in ("removed", "over"):
        gate = anyio.Event()
        with anyio.fail_after(GUARD):
            async with start(graph(edges="a-b"), {"a": gate.wait, "b": noop}) as run:
                await until(lambda run=run: run.status("a") is RUNNING)
                thread = threading.Thread(target=run.cancel_node, args=["b"])
                thread.start()
                thread.join(GUARD)  # the loop does not turn meanwhile
                if ending == "removed":
                    await run.modify(Modification(remove_nodes=["b"]))
                else:
                    run.cancel("over")
                await passes(5)
                gate.set()
        await passes(3)
        result = await run.wait()
        assert ("b" in result.removed) == (ending == "removed")
        assert result.cancelled == (0 if ending == "removed" else 2)


async def test_cancel_node_of_a_thread_at_work() -> None:
    """A sync task cannot be stopped: its node ends, CANCELLED, when it returns, and its dependents
    do not start; `check_cancelled` lets it stop early.
    """
    entered, gate = threading.Event(), threading.Event()
    checked: list[bool] = []

    def work() -> str:
        entered.set()
        hold(gate)
        try:
            dagron.check_cancelled()
        except dagron.Cancelled:
            checked.append(True)
        return "worked"

    with anyio.fail_after(GUARD):
        async with start(graph(edges="work-next"), {"work": work, "next": noop}) as run:
            await until(entered.is_set)
            run.cancel_node("work")
            await passes(10)
            assert run.status("work") is RUNNING
            gate.set()
    result = await run.wait()
    assert checked == [True]
    assert (result["work"].status, result["next"].status) == (CANCELLED, SKIPPED)
    assert result.ok


@pytest.mark.parametrize("where", ["gate", "pause", "expander", "slot"])
async def test_cancel_node_wherever_it_waits(where: str) -> None:
    """A node is cancelled at a gate, between two attempts, in its expander, and while its sync
    expander waits for a thread; its slots are free afterwards.
    """
    gate, thread_gate = dagron.Gate(), threading.Event()
    called: list[int] = []

    async def fail() -> None:
        raise ValueError

    async def expand(name: str, result: object) -> None:
        await anyio.sleep_forever()

    def expand_in_thread(name: str, result: object) -> None:
        called.append(1)

    policy = NodePolicy(retry=Retry(2, initial_delay=25, jitter=0)) if where == "pause" else None
    dag = dagron.DAG.builder().add_node("victim", policy=policy).add_node("holder").build()
    expander = {"expander": expand, "slot": expand_in_thread}.get(where)
    tasks = {"victim": {"gate": gate.wait, "pause": fail}.get(where, noop), "holder": noop}
    if where == "slot":
        tasks["holder"] = lambda: hold(thread_gate)
    executor = DynamicExecutor(
        dag, {"victim": expander} if expander else None, max_workers=1, max_concurrency=2
    )
    with anyio.fail_after(GUARD):
        async with executor.start(tasks) as run:
            await until(lambda: run.status("victim") is RUNNING)
            await passes(20)
            run.cancel_node("victim")
            await until(lambda: run.status("victim") is CANCELLED)
            thread_gate.set()
            await run.modify(Modification([Node("more", lambda: 1)])) if where == "slot" else None
    result = await run.wait()
    assert called == []
    assert (result["victim"].status, result.ok) == (CANCELLED, True)


async def test_cancel_node_that_waits_for_its_slot_after_a_gate() -> None:
    """A node whose own scope took it from a gate, and that waits for the slot that it gave back, is
    cancelled there at once, although another node keeps the slot.
    """
    gate, impatience, held = dagron.Gate(), anyio.CancelScope(), anyio.Event()

    async def victim() -> None:
        with impatience:
            await gate.wait()
        await anyio.sleep_forever()

    tasks = {"victim": victim, "holder": held.wait}
    with anyio.fail_after(GUARD):
        async with start(graph("victim", "holder"), tasks, max_concurrency=1) as run:
            await until(lambda: run.status("holder") is RUNNING)
            impatience.cancel()
            await until(lambda: run.explain("victim").limit == "max_concurrency")
            run.cancel_node("victim")
            await until(lambda: run.status("victim") is CANCELLED)
            assert run.status("holder") is RUNNING
            held.set()
    assert (await run.wait()).ok


async def test_a_node_cancels_itself() -> None:
    """A node that cancels itself ends CANCELLED: at its next wait, or when it returns."""
    reached: list[str] = []

    async def wait() -> None:
        run.cancel_node("waits")
        await passes(1)
        reached.append("waits")

    async def end() -> str:
        run.cancel_node("ends")
        return "its value"

    def in_thread() -> None:
        run.cancel_node("thread")

    tasks = {"waits": wait, "ends": end, "thread": in_thread, "other": noop}
    with anyio.fail_after(GUARD):
        async with start(graph(*tasks), tasks) as run:
            result = await run.wait()
    assert reached == []
    assert {n: str(result[n].status) for n in tasks} == {
        "waits": "CANCELLED",
        "ends": "CANCELLED",
        "thread": "CANCELLED",
        "other": "COMPLETED",
    }


async def test_a_node_that_swallows_its_cancellation_is_cancelled_all_the_same() -> None:
    """What a node returns or raises after it was cancelled does not make it COMPLETED or FAILED;
    what it raises is in `error`.
    """

    async def swallow() -> str:
        with anyio.CancelScope():
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                return "swallowed"
        return "not cancelled"

    async def sour() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise ValueError("sour")

    with anyio.fail_after(GUARD):
        async with start(graph("a", "b"), {"a": swallow, "b": sour}) as run:
            await until(lambda: run.status("a") is run.status("b") is RUNNING)
            await passes(3)
            for name in "ab":
                run.cancel_node(name)
    result = await run.wait()
    assert (result["a"].status, result["b"].status) == (CANCELLED, CANCELLED)
    assert str(result["b"].error) == "sour"
    assert result.ok


async def test_a_condition_that_cancels_its_source() -> None:
    """A `cancel_node` of a node that is just ending, called from a condition on its edge, comes too
    late and changes nothing.
    """

    def condition(value: object) -> bool:
        run.cancel_node("a")
        return True

    dag = dagron.DAG.builder().add_edge("a", "b", condition=condition).build()
    with anyio.fail_after(GUARD):
        async with start(dag, {"a": noop, "b": noop}) as run:
            result = await run.wait()
    assert result.succeeded == 2


async def test_the_join_of_a_race_runs_without_the_losers() -> None:
    """A join with `any_succeeded` runs when the losers are cancelled through the handle."""
    join = NodePolicy(trigger=dagron.any_succeeded)
    dag = dagron.DAG.builder().add_node("join", policy=join)
    for name in ("fast", "slow", "stuck"):
        dag = dag.add_edge(name, "join")
    tasks: dict[str, Any] = dict.fromkeys(("slow", "stuck"), anyio.sleep_forever)
    with anyio.fail_after(GUARD):
        async with start(dag.build(), {**tasks, "fast": noop, "join": noop}) as run:
            async for name, _ in run.completed():
                if name == "fast":
                    run.cancel_node("slow")
                    run.cancel_node("stuck")
    result = await run.wait()
    assert (result.succeeded, result.cancelled, result.ok) == (2, 2, True)
