"""Worker threads: their slots, what they call back, and what they see."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from contextvars import ContextVar
from functools import partial
from itertools import pairwise
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
import trio
from anyio.lowlevel import checkpoint

import dagron
from conftest import BACKENDS
from faults import GUARD, ON_ASYNCIO, Alive, graph, hold, passes, run, until

Node = dagron.DynamicNodeSpec
Modification = dagron.DynamicModification

FRESH_LOOP = pytest.mark.parametrize("loop", BACKENDS)


def in_fresh_loop(loop: tuple[str, dict[str, Any]], main: Callable[[], Awaitable[Any]]) -> Any:
    """Run an async function in a loop that has no idle worker threads yet."""
    backend, options = loop
    return anyio.run(main, backend=backend, backend_options=options)


async def noop() -> str:
    return "done"


# --- a thread that does not start ----------------------------------------------------------------


def refuse_threads(
    monkeypatch: pytest.MonkeyPatch, backend: str, refused: Callable[[], bool]
) -> None:
    """Make the start of a worker thread fail, as it does at the system's limit, while so told."""
    # trio keeps its idle threads from one loop to the next.
    home: Any = threading.Thread if backend == "asyncio" else trio._threads
    name = "start" if backend == "asyncio" else "start_thread_soon"
    start = getattr(home, name)

    def start_or_refuse(*arguments: Any, **keywords: Any) -> Any:
        if refused():
            raise RuntimeError("can't start new thread")
        return start(*arguments, **keywords)

    monkeypatch.setattr(home, name, start_or_refuse)


@FRESH_LOOP
@pytest.mark.parametrize("place", ["task", "expander"])
def test_a_thread_that_cannot_start_fails_its_node_only(
    monkeypatch: pytest.MonkeyPatch, loop: tuple[str, dict[str, Any]], place: str
) -> None:
    """`RuntimeError: can't start new thread` inside the pool fails that node only: its slot is free
    again, and nodes after it run in threads.
    """
    attempts: list[int] = []

    def first() -> bool:
        attempts.append(1)
        return len(attempts) == 1

    refuse_threads(monkeypatch, loop[0], first)

    async def paused() -> str:
        await until(lambda: attempts)
        return "done"

    async def main() -> dagron.ExecutionResult:
        tasks = {
            "bad": (lambda: "value") if place == "task" else noop,
            "skipped": noop,
            "async": paused,
            "after": lambda: "in a thread",
        }
        expanders = {"bad": lambda name, result: None} if place == "expander" else None
        dag = graph("bad", edges="bad-skipped async-after")
        return await run(dag, tasks, expanders, max_workers=1)

    result = in_fresh_loop(loop, main)

    assert [str(result[name].status) for name in ("bad", "skipped")] == ["FAILED", "SKIPPED"]
    assert result["bad"].error.args == ("can't start new thread",)
    assert result["bad"].result == ("done" if place == "expander" else None)
    assert result["after"].result == "in a thread"
    assert result["async"].result == "done"
    assert result.failed == 1


# --- slots ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2, 5])
async def test_max_workers_bounds_sync_tasks_and_sync_expanders(workers: int) -> None:
    """A sync expander counts under `max_workers` like a sync task: no more of both are at work at
    once, and so many are.
    """
    alive = Alive()
    # Released when so many threads are at work at once.
    together = threading.Barrier(workers)

    def work() -> None:
        with alive:
            together.wait(GUARD)

    def expand(name: str, result: None) -> None:
        work()

    sync = [f"sync{i}" for i in range(2 * workers)]
    both = [f"both{i}" for i in range(workers)]
    expanding = [f"expanding{i}" for i in range(2 * workers)]
    tasks: dict[str, Callable[[], Any]] = {
        **dict.fromkeys(sync, work),
        **dict.fromkeys(both, work),
        **dict.fromkeys(expanding, noop),
    }

    result = await run(
        graph(*tasks), tasks, dict.fromkeys([*both, *expanding], expand), max_workers=workers
    )

    assert result.ok
    assert alive.most == workers
    assert alive.total == 6 * workers


async def test_more_workers_than_anyio_has_by_default() -> None:
    """`max_workers=50` are fifty threads at once: the limiter is the run's own."""
    together = threading.Barrier(50)
    names = [f"n{i}" for i in range(50)]

    result = await run(
        graph(*names), dict.fromkeys(names, lambda: together.wait(GUARD)), max_workers=50
    )

    assert result.ok


async def test_anyios_default_limiter_is_not_touched() -> None:
    """The run's own limiter, never anyio's shared default of 40, which web frameworks use for their
    own endpoints: nothing is borrowed from it, and none of it is needed.
    """
    limiter = anyio.to_thread.current_default_thread_limiter()
    borrowed: list[int] = []

    def sync() -> None:
        borrowed.append(anyio.from_thread.run_sync(lambda: limiter.borrowed_tokens))

    def expand(name: str, result: None) -> None:
        sync()

    dag = graph("sync", "async", edges="sync-after")
    tasks = {"sync": sync, "after": sync, "async": noop}
    result = await run(dag, tasks, {"async": expand}, max_workers=2)
    assert result.ok
    assert borrowed == [0, 0, 0]

    async with AsyncExitStack() as stack:
        for _ in range(int(limiter.total_tokens)):
            borrower = object()
            await limiter.acquire_on_behalf_of(borrower)
            stack.callback(limiter.release_on_behalf_of, borrower)
        result = await run(dag, tasks, {"async": expand}, max_workers=2)
    assert result.ok
    assert borrowed[3:] == [40, 40, 40]


async def test_a_sync_body_keeps_its_slot_for_its_sync_expander() -> None:
    """A sync body keeps its slot for its sync expander: with one worker, no ready node comes
    between the two.
    """
    calls: list[str] = []
    names = ["a", "b", "c"]
    tasks = {name: partial(calls.append, name) for name in names}

    def expand(name: str, result: None) -> None:
        calls.append(f"expander of {name}")

    result = await run(graph(*names), tasks, dict.fromkeys(names, expand), max_workers=1)

    assert result.ok
    assert calls == ["a", "expander of a", "b", "expander of b", "c", "expander of c"]


async def test_a_node_in_flight_gets_a_slot_before_ready_nodes() -> None:
    """A node in flight that asks for a worker (its sync expander) goes before ready nodes, and
    those that ask are served in the order in which they asked.
    """
    entered, gate = threading.Event(), threading.Event()
    calls: list[str] = []

    def holder() -> None:
        entered.set()
        hold(gate)

    async def asker() -> None:
        await until(entered.is_set)

    async def second_asker() -> None:
        await asker()
        await passes(3)

    async def opener() -> None:
        await until(entered.is_set)
        await passes(20)
        gate.set()

    ready = [f"ready{i}" for i in range(3)]
    tasks = {
        "holder": holder,
        **{name: partial(calls.append, name) for name in ready},
        "first": asker,
        "second": second_asker,
        "opener": opener,
    }
    expanders = dict.fromkeys(["first", "second"], lambda name, result: calls.append(name))

    result = await run(graph(*tasks), tasks, expanders, max_workers=1)

    assert result.ok
    assert calls == ["first", "second", *ready]


@pytest.mark.parametrize("limit", [None, 2])
async def test_sync_nodes_that_wait_for_a_thread_hold_back_nothing_async(limit: int | None) -> None:
    """Sync nodes that wait for a thread hold nothing back that is async: a hundred of them, ready
    before, take no place from async nodes, also under `max_concurrency`.
    """
    entered, gate = threading.Event(), threading.Event()
    done: list[str] = []

    def holder() -> None:
        entered.set()
        hold(gate)
        done.append("holder")

    async def on_loop(name: str) -> None:
        await until(entered.is_set)
        done.append(name)
        if len(done) == 20:
            gate.set()

    waiting = [f"waiting{i}" for i in range(100)]
    chain = [f"async{i}" for i in range(20)]
    builder = graph("holder", *waiting, *chain).to_builder()
    for source, target in pairwise(chain):
        builder = builder.add_edge(source, target)
    tasks: dict[str, Callable[[], Any]] = {"holder": holder}
    tasks |= {name: partial(done.append, name) for name in waiting}
    tasks |= {name: partial(on_loop, name) for name in chain}

    result = await run(builder.build(), tasks, max_workers=1, max_concurrency=limit)

    assert result.ok
    assert done == [*chain, "holder", *waiting]


GIVEN_BACK = pytest.mark.parametrize("place", ["awaitable", "async expander", "sync expander"])


@GIVEN_BACK
async def test_a_slot_that_is_given_back_early_does_not_idle(place: str) -> None:
    """With free slots and ready nodes, no slot idles. The slot is returned before an awaitable
    from a sync callable is awaited, and before an async expander is: a node that waits there for a
    sync node that is ready gets it, at `max_workers=1`.
    """
    gate = anyio.Event()

    async def wait(*_: object) -> None:
        with anyio.fail_after(GUARD):
            await gate.wait()

    def opener() -> None:
        anyio.from_thread.run_sync(gate.set)

    task: Callable[[], Any] = (lambda: wait()) if place == "awaitable" else (lambda: None)
    expander = {
        "awaitable": None,
        "async expander": wait,
        "sync expander": lambda name, result: wait(),
    }[place]

    result = await run(
        graph("waiter", "opener"),
        {"waiter": task, "opener": opener},
        {"waiter": expander} if expander else None,
        max_workers=1,
    )

    assert result.ok


@ON_ASYNCIO
async def test_a_node_that_is_killed_while_it_waits_for_a_slot_gives_it_to_the_next() -> None:
    """A node whose task is cancelled natively while it waits for a worker, or in the very pass in
    which it is given one, is FAILED, and the slot is not lost.
    """
    for count in range(25):
        entered, gate = threading.Event(), threading.Event()
        ran: list[str] = []

        def holder(entered: threading.Event = entered, gate: threading.Event = gate) -> None:
            entered.set()
            hold(gate)

        async def killer(
            turns: int, entered: threading.Event = entered, gate: threading.Event = gate
        ) -> None:
            await until(entered.is_set)
            await passes(3)
            gate.set()
            await passes(turns)
            for task in asyncio.all_tasks():
                if task.get_name() == "asker":
                    task.cancel()

        result = await run(
            graph("holder", "asker", "killer", "after"),
            {
                "holder": holder,
                "asker": noop,
                "killer": partial(killer, count),
                "after": partial(ran.append, "after"),
            },
            {"asker": lambda name, result: None},
            max_workers=1,
        )

        assert str(result["asker"].status) in ("FAILED", "COMPLETED")
        assert ran == ["after"]
        assert result.succeeded == 4 - result.failed


# --- calling back --------------------------------------------------------------------------------


async def test_a_sync_node_calls_back_into_the_loop() -> None:
    """A sync node that calls back into the loop, at `max_workers=1`: finishes. So does a sync
    expander; what they call sees the loop and can wait for async nodes.
    """
    waiting, gate = anyio.Event(), anyio.Event()

    async def wait_for_gate() -> None:
        waiting.set()
        await gate.wait()

    def sync() -> str:
        assert anyio.from_thread.run_sync(gate.is_set) is False
        anyio.from_thread.run(wait_for_gate)
        return "called back"

    async def opener() -> None:
        await waiting.wait()
        await passes(5)
        gate.set()

    def expand(name: str, result: str) -> None:
        anyio.from_thread.run(passes, 3)
        anyio.from_thread.run_sync(gate.is_set)

    result = await run(
        graph("sync", "opener"),
        {"sync": sync, "opener": opener},
        {"sync": expand, "opener": expand},
        max_workers=1,
    )

    assert result.ok
    assert result["sync"].result == "called back"


async def test_what_a_sync_node_calls_back_fails_like_the_node() -> None:
    """What a callback raises is raised in the thread that called, and fails that node only."""

    async def fail() -> None:
        await checkpoint()
        raise ValueError("in the loop")

    def fail_sync() -> None:
        raise KeyError("in the loop")

    result = await run(
        graph("async", "sync", "fine"),
        {
            "async": lambda: anyio.from_thread.run(fail),
            "sync": lambda: anyio.from_thread.run_sync(fail_sync),
            "fine": lambda: anyio.from_thread.run(noop),
        },
        max_workers=1,
    )

    assert (result.failed, result.succeeded) == (2, 1)
    assert type(result["async"].error) is ValueError
    assert type(result["sync"].error) is KeyError


def inner_tasks() -> dict[str, Callable[[], Any]]:
    return {"a": lambda: 1, "b": noop, "c": lambda: noop()}


async def execute_inner() -> dagron.ExecutionResult:
    executor = dagron.DynamicExecutor(
        graph(edges="a-b b-c"), {"b": lambda name, result: None}, max_workers=1
    )
    return await executor.execute(inner_tasks())


async def test_a_run_inside_a_node() -> None:
    """E17 A nested `execute` inside a node, at `max_workers=1`, finishes: limits belong to a run.
    The node may be async, or sync and call back; so may its expander.
    """

    async def expand_async(name: str, result: object) -> None:
        assert (await execute_inner()).ok

    def expand_sync(name: str, result: object) -> None:
        assert anyio.from_thread.run(execute_inner).ok

    result = await run(
        graph("async", "sync", "awaitable"),
        {
            "async": execute_inner,
            "sync": lambda: anyio.from_thread.run(execute_inner),
            "awaitable": lambda: execute_inner(),
        },
        {"async": expand_sync, "sync": expand_sync, "awaitable": expand_async},
        max_workers=1,
        max_concurrency=1,
    )

    assert result.ok
    assert all(node.result.succeeded == 3 for node in result.node_results.values())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
async def test_a_blocking_run_inside_a_sync_node(backend: str) -> None:
    """E17, with `execute_sync`: a sync node runs a graph in a loop of its own, on either backend;
    an async node that tries is refused with a clear error.
    """

    def blocking() -> dagron.ExecutionResult:
        executor = dagron.DynamicExecutor(graph("a", "b", "c"), max_workers=1)
        return executor.execute_sync(inner_tasks(), backend=backend)

    async def wrong() -> None:
        blocking()

    result = await run(graph("sync", "wrong"), {"sync": blocking, "wrong": wrong}, max_workers=1)

    assert result["sync"].result.ok
    assert isinstance(result["wrong"].error, dagron.EventLoopRunningError)
    assert result.failed == 1


async def test_one_executor_nested_in_itself() -> None:
    """E17: one executor whose sync node runs the same executor, ten levels deep, at one worker."""
    executor = dagron.DynamicExecutor(graph("node"), max_workers=1)
    threads = Alive()

    def node(level: int) -> int:
        with threads:
            if not level:
                return threads.now
            inner = anyio.from_thread.run(executor.execute, {"node": partial(node, level - 1)})
            return inner["node"].result

    with anyio.fail_after(GUARD):
        result = await executor.execute({"node": partial(node, 9)})

    assert result["node"].result == 10


class Outcome:
    """What became of a run that was cancelled."""

    raised = False

    async def execute(self, scope: anyio.CancelScope, task: Callable[[], Any]) -> None:
        with scope:
            try:
                await dagron.DynamicExecutor(graph("node")).execute({"node": task})
            except anyio.get_cancelled_exc_class():
                self.raised = True
                raise


async def test_a_cancelled_run_cancels_what_its_threads_wait_for_in_the_loop() -> None:
    """E13, for a sync node that calls back into the loop and waits there: the callback is cancelled
    with the run. Nothing else could end it, and `execute` waits for the thread.
    """
    waiting, gate = anyio.Event(), anyio.Event()
    seen: list[str] = []

    async def wait() -> None:
        waiting.set()
        try:
            await gate.wait()
            seen.append("gate")
        except anyio.get_cancelled_exc_class():
            seen.append("cancelled")
            raise

    outcome, scope = Outcome(), anyio.CancelScope()
    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as host:
            host.start_soon(outcome.execute, scope, lambda: anyio.from_thread.run(wait))
            await waiting.wait()
            scope.cancel()
            await passes(200)
            gate.set()  # without which a run that fails this test would never end
    assert outcome.raised
    assert seen == ["cancelled"]


async def test_a_thread_can_ask_whether_its_run_was_cancelled() -> None:
    """`anyio.from_thread.check_cancelled()` in a sync node raises once the run is cancelled: the
    way in which a thread, which cannot be stopped, stops by itself.
    """
    entered, cancelled = threading.Event(), threading.Event()
    seen: list[bool] = []

    def ask() -> bool:
        try:
            anyio.from_thread.check_cancelled()
        except BaseException:
            return True
        return False

    def sync() -> None:
        seen.append(ask())
        entered.set()
        hold(cancelled)
        seen.append(ask())

    outcome, scope = Outcome(), anyio.CancelScope()
    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as host:
            host.start_soon(outcome.execute, scope, sync)
            await until(entered.is_set)
            scope.cancel()
            await passes(20)
            cancelled.set()
    assert outcome.raised
    assert seen == [False, True]


# --- what is seen --------------------------------------------------------------------------------

variable: ContextVar[str] = ContextVar("variable", default="unset")


async def test_context_variables() -> None:
    """E16 Context variables set before `execute` are seen in tasks, threads and expanders; what a
    node sets, no other node sees, its dependents included.
    """
    seen: dict[str, str] = {}

    def note(name: str) -> None:
        seen[name] = variable.get()
        variable.set(name)

    async def on_loop(name: str) -> None:
        await checkpoint()
        note(name)
        await checkpoint()

    def sync_expander(name: str, result: object) -> Modification:
        variable.set("expander")
        added = [
            Node(f"{name}{kind}", partial(task, f"{name}{kind}"), [name])
            for kind, task in (("-sync", note), ("-async", on_loop))
        ]
        return Modification(added)

    async def async_expander(name: str, result: object) -> Modification:
        return sync_expander(name, result)

    dag = graph(edges="a-b b-c c-d")
    tasks = {
        "a": partial(on_loop, "a"),
        "b": partial(note, "b"),
        "c": lambda: on_loop("c"),
        "d": partial(note, "d"),
    }
    token = variable.set("caller")
    try:
        result = await run(
            dag, tasks, {"a": sync_expander, "b": async_expander, "c": async_expander}
        )
        assert variable.get() == "caller"
    finally:
        variable.reset(token)

    assert result.ok
    added = [f"{parent}-{kind}" for parent in "abc" for kind in ("sync", "async")]
    assert seen == dict.fromkeys([*"abcd", *added], "caller")


async def test_expanders_see_the_context_of_the_caller() -> None:
    """E16, in expanders: sync and async ones see what was set before `execute`."""
    seen: dict[str, str] = {}

    def sync(name: str, result: object) -> None:
        seen[name] = variable.get()

    async def on_loop(name: str, result: object) -> None:
        seen[name] = variable.get()

    expanders = {"a": sync, "b": on_loop, "c": sync, "d": on_loop}
    token = variable.set("caller")
    try:
        await run(
            graph("a", "b", "c", "d"),
            {"a": noop, "b": noop, "c": lambda: None, "d": lambda: None},
            expanders,
        )
    finally:
        variable.reset(token)

    assert seen == dict.fromkeys("abcd", "caller")


async def test_runs_side_by_side_see_their_own_context() -> None:
    """E16, for two runs of one executor at once: each sees what its own caller had set."""
    executor = dagron.DynamicExecutor(graph(edges="a-b"), max_workers=1)
    seen: dict[str, list[str]] = {"one": [], "two": []}

    async def caller(name: str) -> None:
        variable.set(name)
        note = lambda: seen[name].append(variable.get())
        await executor.execute({"a": note, "b": note})

    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as host:
            host.start_soon(caller, "one")
            host.start_soon(caller, "two")

    assert seen == {"one": ["one", "one"], "two": ["two", "two"]}
