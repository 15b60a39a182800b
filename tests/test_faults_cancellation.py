"""Cancelling the caller of a run: at every step, in every way, once and twice."""

import asyncio
import gc
import logging
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import anyio
import anyio.from_thread
import pytest
from anyio.lowlevel import checkpoint

import dagron
from cancelling import (
    EVERYWHERE,
    NATIVE,
    Cancel,
    Steps,
    Twelve,
    Way,
    assert_every_pass_can_be_cancelled,
    assert_every_step_can_be_cancelled,
    assert_passes_with_threads_can_be_cancelled,
    ways,
)
from faults import (
    GUARD,
    ON_ASYNCIO,
    Passes,
    graph,
    hold,
    new_objects_only,
    passes,
    run_counted,
    until,
)

Execute = Callable[[], Awaitable[dagron.ExecutionResult]]


# --- at every step, in every pass ---------------------------------------------------------------


@ways(*EVERYWHERE)
async def test_a_cancellation_at_every_step_ends_everything(way: Way) -> None:
    """Cancel at every step: run a 12-node graph and cancel the caller after the k-th scheduling
    step, for every k: no hang, no leaked task, thread or slot, and `execute` raises.
    """
    await assert_every_step_can_be_cancelled(way)


@ON_ASYNCIO
@ways(*NATIVE)
async def test_a_native_cancellation_at_every_step_ends_everything(way: Way) -> None:
    """The same by `Task.cancel()` and by `asyncio.timeout`; `asyncio.current_task().cancelling()`
    is 0 after an `asyncio.timeout` around `execute`.
    """
    await assert_every_step_can_be_cancelled(way)


@ways(*EVERYWHERE)
async def test_a_cancellation_in_every_pass_of_the_loop_ends_everything(way: Way) -> None:
    """Cancel at every step: the caller is cancelled between any two steps, from outside the run."""
    await assert_every_pass_can_be_cancelled(way)
    await assert_passes_with_threads_can_be_cancelled(way)


@ON_ASYNCIO
@ways(*NATIVE)
async def test_a_native_cancellation_in_every_pass_of_the_loop_ends_everything(way: Way) -> None:
    """The same by `Task.cancel()` and by `asyncio.timeout`."""
    await assert_every_pass_can_be_cancelled(way)
    await assert_passes_with_threads_can_be_cancelled(way)


# --- the edges of a run --------------------------------------------------------------------------


async def noop() -> str:
    return "done"


async def test_a_caller_that_is_cancelled_already_starts_nothing() -> None:
    """A call in a scope that is cancelled already raises, and no node begins, sync or async."""
    began: list[str] = []

    async def on_loop() -> None:
        began.append("loop")

    with anyio.CancelScope() as scope:
        scope.cancel()
        await dagron.DynamicExecutor(graph("a", "b")).execute(
            {"a": on_loop, "b": lambda: began.append("thread")}
        )
    assert scope.cancelled_caught
    assert began == []


@ON_ASYNCIO
async def test_asyncio_timeouts_that_are_over_at_once() -> None:
    """`asyncio.timeout(0)` and `asyncio.wait_for(..., 0)` around `execute` raise `TimeoutError`,
    and leave the task uncancelled.
    """
    task = asyncio.current_task()
    execute = dagron.DynamicExecutor(graph("a")).execute
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await execute({"a": anyio.sleep_forever})
    assert task.cancelling() == 0
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(execute({"a": anyio.sleep_forever}), 0)
    assert task.cancelling() == 0
    assert (await execute({"a": noop})).ok


@ON_ASYNCIO
async def test_a_task_that_was_cancelled_before_can_run_a_graph() -> None:
    """A run in a `finally` block of a cancelled task is a run like any other, and a node that
    raises `CancelledError` by itself there is FAILED.
    """
    results = []

    async def cancelled_by_itself() -> None:
        raise asyncio.CancelledError

    async def caller() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            dag = graph("a", "b")
            tasks = {"a": noop, "b": cancelled_by_itself}
            results.append(await dagron.DynamicExecutor(dag).execute(tasks))

    task = asyncio.create_task(caller())
    await passes(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [(r.succeeded, r.failed) for r in results] == [(1, 1)]


# --- what nodes do when they are cancelled -------------------------------------------------------


class Cancelled:
    """A run in a task of its own, which can be cancelled more than once, and its outcome."""

    def __init__(self) -> None:
        self.outcome: BaseException | dagron.ExecutionResult | None = None
        self.scope = anyio.CancelScope()

    async def execute(self, dag: dagron.DAG, tasks: dict[str, Any], **options: Any) -> None:
        with self.scope:
            try:
                self.outcome = await dagron.DynamicExecutor(dag, **options).execute(tasks)
            except BaseException as error:
                self.outcome = error
                raise

    def assert_cancelled(self) -> None:
        assert isinstance(self.outcome, anyio.get_cancelled_exc_class())


async def test_finally_blocks_have_run_before_execute_raises() -> None:
    """E13: The caller is cancelled: every node has ended before `execute` raises. What a node
    awaits, shielded, in its `finally` is waited for; a second cancellation changes nothing.
    """
    entered, gate = anyio.Event(), anyio.Event()
    tidied: list[str] = []

    async def quick() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            tidied.append("quick")

    async def slow() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                entered.set()
                await gate.wait()
                tidied.append("slow")

    run = Cancelled()
    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as host:
            host.start_soon(run.execute, graph("quick", "slow"), {"quick": quick, "slow": slow})
            await passes(5)
            run.scope.cancel()
            await entered.wait()
            await passes(20)
            assert tidied == ["quick"]
            assert run.outcome is None
            run.scope.cancel()
            host.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await passes(20)
                assert run.outcome is None
                gate.set()
    run.assert_cancelled()
    assert tidied == ["quick", "slow"]


@ON_ASYNCIO
async def test_a_second_task_cancel_changes_nothing() -> None:
    """Three calls of `Task.cancel()` do what one does: nodes and threads are waited for."""
    entered, gate = asyncio.Event(), asyncio.Event()
    in_thread, thread_gate = threading.Event(), threading.Event()
    tidied: list[str] = []

    async def slow() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                entered.set()
                await gate.wait()
                tidied.append("slow")

    def on_thread() -> None:
        in_thread.set()
        hold(thread_gate)
        tidied.append("thread")

    execute = dagron.DynamicExecutor(graph("slow", "thread")).execute
    task = asyncio.create_task(execute({"slow": slow, "thread": on_thread}))
    async with asyncio.timeout(GUARD):
        await until(in_thread.is_set)
        task.cancel()
        await entered.wait()
        for _ in range(2):
            await passes(10)
            assert not task.done()
            task.cancel()
        gate.set()
        await passes(10)
        assert not task.done()
        assert tidied == ["slow"]
        thread_gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert tidied == ["slow", "thread"]


class Sour(Exception):
    """What a node raises when it is cancelled."""


async def fail_in_except() -> None:
    try:
        await anyio.sleep_forever()
    except BaseException:
        raise Sour from None


async def fail_in_finally() -> None:
    try:
        await anyio.sleep_forever()
    finally:
        raise Sour


async def fail_beside_the_cancellation() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(fail_in_finally)
        group.start_soon(anyio.sleep_forever)


async def return_instead() -> str:
    with anyio.CancelScope():
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            return "swallowed"


async def exit_instead() -> None:
    try:
        await anyio.sleep_forever()
    finally:
        raise SystemExit(1)


@pytest.mark.parametrize(
    "stubborn",
    [
        fail_in_except,
        fail_in_finally,
        fail_beside_the_cancellation,
        return_instead,
        exit_instead,
    ],
    ids=lambda function: function.__name__,
)
async def test_what_a_cancelled_node_raises_does_not_replace_the_cancellation(
    stubborn: Callable[[], Awaitable[Any]],
) -> None:
    """A node that fails while the run is being cancelled: the cancellation is raised, bare; never a
    group, never "exit cancel scope in a different task". Its dependents do not start.
    """
    began: list[int] = []
    dag = graph("other", edges="stubborn-next other-next")
    tasks = {
        "stubborn": stubborn,
        "other": anyio.sleep_forever,
        "next": lambda: began.append(1),
    }
    run = Cancelled()
    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as host:
            host.start_soon(run.execute, dag, tasks)
            await passes(5)
            run.scope.cancel()
    run.assert_cancelled()
    assert began == []


@pytest.mark.parametrize("limit", [1, 3])
async def test_ready_nodes_do_not_start_in_a_cancelled_run(limit: int) -> None:
    """Cancelling the task that awaits `execute` cancels the run: nodes that waited for a place, or
    for what has just ended, do not begin.
    """
    nodes = [f"n{i}" for i in range(20)]
    for _ in range(20):  # trio wakes tasks in an order of its own
        began: list[int] = []

        async def task(began: list[int] = began) -> None:
            began.append(1)
            await anyio.sleep_forever()

        run = Cancelled()
        with anyio.fail_after(GUARD):
            async with anyio.create_task_group() as host:
                execute = partial(run.execute, max_concurrency=limit)
                host.start_soon(execute, graph(*nodes), dict.fromkeys(nodes, task))
                await passes(5)
                assert len(began) == limit
                run.scope.cancel()
        run.assert_cancelled()
        assert len(began) == limit


async def test_a_cancelled_run_starts_no_further_thread() -> None:
    """After the cancellation no sync task and no sync expander is called any more: the thread that
    is at work is waited for, and that is all.
    """
    entered, gate = threading.Event(), threading.Event()
    called: list[str] = []

    def first() -> None:
        called.append("first")
        entered.set()
        hold(gate)

    def expand(name: str, result: None) -> None:
        called.append("expander")

    tasks = {
        "first": first,
        "second": lambda: called.append("second"),
        "third": lambda: called.append("third"),
    }
    run = Cancelled()
    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as host:
            dag = graph("first", "second", edges="first-third")
            execute = partial(run.execute, expanders={"first": expand}, max_workers=1)
            host.start_soon(execute, dag, tasks)
            await until(entered.is_set)
            run.scope.cancel()
            await passes(10)
            assert run.outcome is None
            gate.set()
    run.assert_cancelled()
    assert called == ["first"]


async def test_a_node_that_waits_for_a_thread_for_its_expander_is_cancelled() -> None:
    """An async node whose sync expander waits for a worker slot ends with a cancellation at once,
    and its expander is not called; the slot's owner is waited for.
    """
    entered, gate = threading.Event(), threading.Event()
    called: list[str] = []

    def holder() -> None:
        entered.set()
        hold(gate)

    run = Cancelled()
    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as host:
            expanders = {"asker": lambda name, result: called.append(name)}
            execute = partial(run.execute, expanders=expanders, max_workers=1)
            host.start_soon(execute, graph("holder", "asker"), {"holder": holder, "asker": noop})
            await until(entered.is_set)
            await passes(5)
            run.scope.cancel()
            await passes(5)
            gate.set()
    run.assert_cancelled()
    assert called == []


async def test_a_cancelled_run_is_not_kept_alive() -> None:
    """A run that was cancelled leaves nothing of itself in memory."""
    with new_objects_only() as alive:
        with anyio.CancelScope() as scope:

            async def cancel() -> None:
                scope.cancel()
                await checkpoint()

            tasks = {"a": cancel, "b": lambda: None}
            await dagron.DynamicExecutor(graph("a", "b")).execute(tasks)
        assert scope.cancelled_caught
        assert alive() == []


# --- a loop that shuts down ----------------------------------------------------------------------


Quiet = Callable[[], AbstractContextManager[None]]


def loop_factories() -> Iterator[Any]:
    yield pytest.param(asyncio.new_event_loop, id="asyncio")
    try:
        import uvloop
    except ImportError:
        return
    yield pytest.param(uvloop.new_event_loop, id="uvloop")


@pytest.fixture
def nothing_said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Quiet:
    """A block that fails on any word, such as "exception was never retrieved"."""
    said: list[str] = []

    @contextmanager
    def block() -> Iterator[None]:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            yield
            gc.collect()
        said.extend(record.getMessage() for record in caplog.records)
        assert said == []

    # Warnings are errors in the tests: "was never awaited" comes out of a destructor.
    monkeypatch.setattr(sys, "unraisablehook", lambda word: said.append(str(word.exc_value)))
    return block


@pytest.mark.parametrize("loop_factory", list(loop_factories()))
def test_the_loop_shuts_down_in_the_middle_of_a_run(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], nothing_said: Quiet
) -> None:
    """`asyncio.run` that ends with a run in a background task, after any step: all tasks are
    cancelled natively, also those of the nodes; it ends, threads are waited for, and nothing is
    logged.

    (A native cancellation is thrown into shielded scopes too, so a `finally` may be cut short.)
    """
    with nothing_said():
        for k in range(1, Twelve.steps + 1):
            made: list[tuple[Twelve, asyncio.Task[Any]]] = []

            async def main(last: int = k, made: list[Any] = made) -> None:
                reached = asyncio.Event()
                twelve = Twelve(Steps(last, reached.set))
                made.append((twelve, asyncio.create_task(twelve.execute())))
                async with asyncio.timeout(GUARD):
                    await reached.wait()

            with asyncio.Runner(loop_factory=loop_factory) as runner:
                runner.run(main())
            twelve, task = made[0]
            assert task.cancelled()
            assert twelve.alive.now == 0


@pytest.mark.parametrize("loop_factory", list(loop_factories()))
def test_the_loop_shuts_down_in_any_pass(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], nothing_said: Quiet
) -> None:
    """The same after any pass of the loop: tasks that have not started are cancelled too."""
    done = False
    with nothing_said():
        for count in range(1_000):
            made: list[tuple[Twelve, asyncio.Task[Any]]] = []

            async def main(turns: int = count, made: list[Any] = made) -> None:
                twelve = Twelve(lambda: None, threads=False)
                made.append((twelve, asyncio.create_task(twelve.execute())))
                await passes(turns)

            with asyncio.Runner(loop_factory=loop_factory) as runner:
                runner.run(main())
            twelve, task = made[0]
            assert twelve.alive.now == 0
            if not task.cancelled():
                done = task.result().ok
                break
    assert done
    assert count > 12


@pytest.mark.parametrize("loop_factory", list(loop_factories()))
def test_a_loop_that_shuts_down_starts_no_ready_node(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], nothing_said: Quiet
) -> None:
    """A shutdown that reaches a node before the caller is a cancellation all the same: nodes that
    are ready do not take the place of the one that it ended.
    """
    nodes = [f"n{i}" for i in range(10)]
    background: list[asyncio.Task[Any]] = []
    with nothing_said():
        for _ in range(20):  # tasks are cancelled in the order of a set
            began: list[int] = []

            async def node(began: list[int] = began) -> None:
                began.append(1)
                await anyio.sleep_forever()

            tasks = dict.fromkeys(nodes, node)

            async def main(tasks: dict[str, Any] = tasks) -> None:
                execute = dagron.DynamicExecutor(graph(*nodes), max_concurrency=1).execute
                background.append(asyncio.create_task(execute(tasks)))
                await passes(5)

            with asyncio.Runner(loop_factory=loop_factory) as runner:
                runner.run(main())
            assert began == [1]


@pytest.mark.parametrize("loop_factory", list(loop_factories()))
def test_a_loop_that_shuts_down_waits_for_a_thread_that_is_held(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], nothing_said: Quiet
) -> None:
    """A shutdown that finds a thread at work, and another node waiting for its slot, ends after
    it.
    """
    entered, gate = threading.Event(), threading.Event()
    ended: list[str] = []

    def held() -> None:
        entered.set()
        hold(gate)
        ended.append("thread")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        execute = dagron.DynamicExecutor(
            graph("held", "asker"),
            {"asker": lambda name, result: ended.append("expander")},
            max_workers=1,
        ).execute
        background = asyncio.create_task(execute({"held": held, "asker": noop}))
        background.add_done_callback(lambda task: ended.append("execute"))
        await until(entered.is_set)

        # The shutdown that follows runs on the same loop: open the gate in the middle of it.
        def open_later(turns: int) -> None:
            if turns:
                loop.call_soon(open_later, turns - 1)
            else:
                gate.set()

        loop.call_soon(open_later, 50)

    with nothing_said(), asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
    assert ended == ["thread", "execute"]


# --- the cost of a cancellation ------------------------------------------------------------------

CANCELLED = pytest.mark.parametrize(
    ("backend", "native"), [("asyncio", False), ("asyncio", True), ("trio", False)]
)


@CANCELLED
@pytest.mark.parametrize("limit", [None, 1], ids=["in flight", "queued"])
def test_cancelling_ten_thousand_nodes_takes_few_passes(
    backend: str, native: bool, limit: int | None
) -> None:
    """Cancelling 10,000 waiting nodes, in flight or not yet admitted: it ends, in a few passes of
    the event loop, and none of them does anything more.
    """
    names = [f"n{i}" for i in range(10_000)]
    began: list[int] = []
    ended: list[int] = []

    async def wait() -> None:
        began.append(1)
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(1)

    async def main(turns: Passes) -> int:
        executor = dagron.DynamicExecutor(graph(*names), max_concurrency=limit)
        at_cancel = 0

        async def cancel(call: Cancel) -> None:
            nonlocal at_cancel
            while len(began) < (limit or 10_000):
                await checkpoint()
            await passes(3)
            at_cancel = turns.count
            call()

        async with anyio.create_task_group() as host:
            if native:
                task = asyncio.ensure_future(executor.execute(dict.fromkeys(names, wait)))
                host.start_soon(cancel, task.cancel)
                await asyncio.wait([task])
                assert task.cancelled()
            else:
                with anyio.CancelScope() as scope:
                    host.start_soon(cancel, scope.cancel)
                    await executor.execute(dict.fromkeys(names, wait))
                assert scope.cancelled_caught
            return turns.count - at_cancel

    taken = run_counted(backend, main)
    assert len(began) == len(ended) == (limit or 10_000)
    assert taken < 30


@CANCELLED
def test_a_cancelled_run_that_waits_for_a_thread_does_not_spin(backend: str, native: bool) -> None:
    """A cancelled run that waits for a thread does not spin: after a few passes the loop has
    nothing to do, and sleeps until the thread ends.
    """
    entered, cancelled = threading.Event(), threading.Event()
    found: dict[str, Any] = {}

    async def main(turns: Passes) -> None:
        def held() -> None:
            entered.set()
            hold(cancelled)
            found["idle"] = turns.idle.wait(GUARD)
            found["passes"] = turns.count - found["at cancel"]

        def cancel(call: Cancel) -> None:
            call()
            found["at cancel"] = turns.count
            turns.idle.clear()
            cancelled.set()

        execute = dagron.DynamicExecutor(graph("held", "other")).execute
        tasks = {"held": held, "other": anyio.sleep_forever}

        async def cancel_when_held(call: Cancel) -> None:
            await until(entered.is_set)
            cancel(call)

        async with anyio.create_task_group() as host:
            if native:
                task = asyncio.ensure_future(execute(tasks))
                host.start_soon(cancel_when_held, task.cancel)
                await asyncio.wait([task])
                assert task.cancelled()
            else:
                with anyio.CancelScope() as scope:
                    host.start_soon(cancel_when_held, scope.cancel)
                    await execute(tasks)
                assert scope.cancelled_caught

    run_counted(backend, main)
    assert found["idle"]
    assert found["passes"] < 30
