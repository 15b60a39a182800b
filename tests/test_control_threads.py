"""Threads cannot be stopped: they are given up, and hold their slots until they end.

The clock of these tests stands still until the test moves it: no thread is out of time by chance.
"""

import asyncio
import gc
import inspect
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from clocks import MANUAL, ManualLoop, advance, manual_asyncio, manual_trio, reached
from controls import Work, graph, statuses
from dagron import (
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    Event,
    ExecutionResult,
    Gate,
    Limits,
    LimitsInUseError,
    NodePolicy,
    NodeTimeoutError,
    Retry,
    all_done,
)
from dagron._threads import ThreadCall
from ways import GUARD, Inside, nothing, passes

TWO = NodePolicy(timeout=2)


# --- out of time ---------------------------------------------------------------------------------


@MANUAL
async def test_a_sync_task_that_is_out_of_time() -> None:
    """Its node is FAILED at once, and the run may end, while the thread goes on; what it returns
    later is dropped.
    """
    work = Work()
    result: ExecutionResult | None = None

    async def run() -> None:
        nonlocal result
        tasks = {"node": work, "after": nothing, "other": work.begins}
        result = await DynamicExecutor(graph("node>after", node=TWO, other=None)).execute(tasks)

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await work.begins()
        advance(1.999)
        await passes()
        assert result is None
        advance(0.001)
        await passes()
        assert result is not None
        assert not work.left.is_set()
    assert statuses(result) == {"node": "FAILED", "after": "SKIPPED", "other": "COMPLETED"}
    error = result["node"].error
    assert isinstance(error, NodeTimeoutError)
    assert (error.node, error.timeout) == ("node", 2)
    assert str(error) == (
        "node 'node' took longer than its timeout of 2 s\n"
        "  help: its thread goes on, and keeps its slot, until it returns: "
        "let it call dagron.check_cancelled() now and then"
    )
    before = repr(result["node"])
    await work.ends()
    assert repr(result["node"]) == before
    assert result["node"].result is None


@MANUAL
async def test_a_thread_that_outlives_its_event_loop(anyio_backend: Any) -> None:
    """A thread that ends when its event loop is long closed raises nothing, anywhere, and frees
    what it held of limits that other runs share.
    """
    problems: list[object] = []
    hook, threading.excepthook = threading.excepthook, problems.append
    work = Work()
    limits = Limits(g=1)
    late = NodePolicy(timeout=2, group="g")
    executor = DynamicExecutor(graph(node=late, clock=None), limits=limits)

    async def out_of_time() -> None:
        await work.begins()
        advance(3)

    async def main() -> ExecutionResult:
        return await executor.execute({"node": work, "clock": out_of_time})

    def program() -> ExecutionResult:
        name, _ = anyio_backend
        backend, options = manual_asyncio() if name == "asyncio" else manual_trio()
        return anyio.run(main, backend=backend, backend_options=options)

    try:
        result = await anyio.to_thread.run_sync(program)
        assert statuses(result) == {"node": "FAILED", "clock": "COMPLETED"}
        with pytest.raises(LimitsInUseError):
            await executor.execute({"node": nothing, "clock": checkpoint})
        work.let_go()
        await reached(work.left)
        while not await is_free(executor):
            await checkpoint()
    finally:
        threading.excepthook = hook
    assert problems == []


async def is_free(executor: DynamicExecutor) -> bool:
    """Tell whether an executor may use its limits here."""
    try:
        return (await executor.execute({"node": nothing, "clock": checkpoint})).ok
    except LimitsInUseError:
        return False


@MANUAL
async def test_a_thread_that_ends_when_its_run_is_over_frees_what_it_held() -> None:
    """The next run of an executor has all its slots, while threads of the last one linger."""
    works = [Work(), Work()]
    executor = DynamicExecutor(graph(node=TWO, clock=None), max_workers=1, limits={"g": 1})
    for work in works:

        async def out_of_time(work: Work = work) -> None:
            await work.begins()
            advance(3)

        result = await executor.execute({"node": work, "clock": out_of_time})
        assert statuses(result)["node"] == "FAILED"
    for work in works:
        await work.ends()
    assert (await executor.execute({"node": lambda: 1, "clock": nothing})).ok


@MANUAL
@pytest.mark.parametrize("workers", [1, 2, 3])
async def test_max_workers_holds_while_threads_linger(workers: int) -> None:
    """FAULTS, Threads: the slot of an abandoned thread is free when the thread has ended, not
    before; async nodes go on meanwhile.
    """
    alive = Inside()
    works = [Work() for _ in range(workers)]
    ran = []

    def held(work: Work) -> Callable[[], object]:
        def task() -> object:
            with alive:
                return work()

        return task

    def later() -> None:
        with alive:
            ran.append(1)

    async def clock() -> None:
        for work in works:
            await work.begins()
        advance(3)
        await passes()
        assert ran == []
        for work in works:
            work.let_go()

    late = {f"late{i}": TWO for i in range(workers)}
    rest = dict.fromkeys(f"rest{i}" for i in range(5))
    executor = DynamicExecutor(graph(**late, clock=None, **rest), max_workers=workers)
    tasks = {name: held(work) for name, work in zip(late, works, strict=True)}
    result = await executor.execute({**tasks, "clock": clock, **dict.fromkeys(rest, later)})
    assert (result.failed, result.succeeded) == (workers, 6)
    assert alive.most == workers
    assert len(ran) == 5


@MANUAL
async def test_a_run_that_has_only_lingering_threads_to_wait_for() -> None:
    """Ready nodes that need the slot of a lingering thread are not forgotten: they run after it."""
    work = Work()
    executor = DynamicExecutor(graph(late=TWO, rest=None), max_workers=1)
    async with executor.start({"late": work, "rest": lambda: "ran"}) as run:
        await work.begins()
        advance(3)
        await passes()
        assert run.status("late").name == "FAILED"
        assert run.status("rest").name == "READY"
        assert run.explain("rest").limit == "max_workers"
        work.let_go()
    assert (await run.wait())["rest"].result == "ran"


@MANUAL
async def test_a_groups_slot_is_held_while_a_thread_lingers() -> None:
    """What a node's group limits is in use until the thread has ended; other groups go on."""
    work = Work()
    in_g = NodePolicy(group="g")
    dag = graph(late=NodePolicy(timeout=2, group="g"), rest=in_g, other=NodePolicy(group="h"))
    executor = DynamicExecutor(dag, limits={"g": 1, "h": 1})

    async def quick() -> str:
        return "ran"

    async with executor.start({"late": work, "rest": quick, "other": quick}) as run:
        await work.begins()
        advance(3)
        await passes()
        found = [run.status(name).name for name in ("late", "rest", "other")]
        assert found == ["FAILED", "READY", "COMPLETED"]
        assert run.explain("rest").limit == "g"
        work.let_go()
    assert (await run.wait())["rest"].result == "ran"


@MANUAL
async def test_a_retry_waits_for_the_thread() -> None:
    """The next attempt at a sync node begins after the thread of the one before has ended: there
    are never two of them, and what the first returned, or raised, is dropped.
    """

    def break_down() -> None:
        raise ValueError("late, and nobody asked")

    first = Work(then=break_down)
    attempts = []

    def task() -> str:
        attempts.append(first.left.is_set())
        if len(attempts) == 1:
            first()
        return f"attempt {len(attempts)}"

    events: list[Event] = []
    policy = NodePolicy(timeout=2, retry=Retry(3, initial_delay=0))
    executor = DynamicExecutor(graph(node=policy), observers=[events.append], max_workers=1)
    async with executor.start({"node": task}) as run:
        await first.begins()
        advance(3)
        await passes()
        assert [event.kind for event in events][-1] == "node_retrying"
        advance(60)
        await passes()
        assert attempts == [False]
        first.let_go()
    node = (await run.wait())["node"]
    assert attempts == [False, True]
    assert (node.result, node.attempts) == ("attempt 2", 2)
    assert [type(error) for error in node.errors] == [NodeTimeoutError]


@MANUAL
async def test_a_node_is_cancelled_while_its_retry_waits_for_a_thread() -> None:
    """The node ends at once, CANCELLED; the thread keeps the worker's slot until it ends."""
    work = Work()
    policy = NodePolicy(timeout=2, retry=Retry(3, initial_delay=0))
    executor = DynamicExecutor(graph(node=policy, rest=None), max_workers=1)
    async with executor.start({"node": work, "rest": lambda: "ran"}) as run:
        await work.begins()
        advance(3)
        await passes()
        run.cancel_node("node")
        await passes()
        assert [run.status(name).name for name in ("node", "rest")] == ["CANCELLED", "READY"]
        work.let_go()
    result = await run.wait()
    assert statuses(result) == {"node": "CANCELLED", "rest": "COMPLETED"}
    assert (result["node"].attempts, work.calls) == (1, 1)


@MANUAL
async def test_all_attempts_at_a_sync_node_are_out_of_time() -> None:
    """Every attempt has its own thread, after the one before, and its own `NodeTimeoutError`."""
    works = [Work(), Work(), Work()]
    left = list(works)
    policy = NodePolicy(timeout=2, retry=Retry(3, initial_delay=0))
    async with DynamicExecutor(graph(node=policy)).start({"node": lambda: left.pop(0)()}) as run:
        for work in works:
            await work.begins()
            advance(3)
            await passes()
            assert not work.left.is_set()
            work.let_go()
    node = (await run.wait())["node"]
    assert node.attempts == 3
    assert [type(error) for error in node.errors] == [NodeTimeoutError] * 3
    assert node.error is node.errors[-1]


@MANUAL
async def test_a_sync_expander_that_is_out_of_time() -> None:
    """Its node is FAILED and keeps its value; the modification that comes later is dropped, and the
    thread keeps its worker's slot until then.
    """
    work = Work(DynamicModification([DynamicNodeSpec("new", nothing)]))
    executor = DynamicExecutor(
        graph("node>after", node=TWO, rest=None), {"node": work}, max_workers=1
    )
    tasks = {"node": checkpoint, "after": nothing, "rest": lambda: "ran"}
    async with executor.start(tasks) as run:
        await work.begins()
        advance(3)
        await passes()
        found = {name: run.status(name).name for name in ("node", "after", "rest")}
        assert found in (
            {"node": "FAILED", "after": "SKIPPED", "rest": "READY"},
            {"node": "FAILED", "after": "SKIPPED", "rest": "COMPLETED"},
        )
        work.let_go()
    result = await run.wait()
    assert "new" not in result
    assert result["node"].reason == "its expander failed"
    assert isinstance(result["node"].error, NodeTimeoutError)
    assert str(result["node"].error).startswith("the expander of node 'node' took longer ")
    assert result["rest"].result == "ran"


@MANUAL
async def test_a_coroutine_that_comes_too_late_is_closed() -> None:
    """What a given-up callable returns is dropped without a word, a coroutine too: it is closed,
    and nothing warns that it was never awaited.
    """
    made = []

    async def never() -> None:
        raise AssertionError("this was dropped")

    def make() -> Any:
        work()
        made.append(never())
        return made[0]

    work = Work()
    executor = DynamicExecutor(graph(node=TWO, rest=None), max_workers=1)
    async with executor.start({"node": make, "rest": nothing}) as run:
        await work.begins()
        advance(3)
        await passes()
        work.let_go()
    assert statuses(await run.wait()) == {"node": "FAILED", "rest": "COMPLETED"}
    assert inspect.getcoroutinestate(made[0]) == inspect.CORO_CLOSED
    gc.collect()


@MANUAL
async def test_a_thread_that_ends_in_time_counts() -> None:
    """A sync task that returns before its deadline is COMPLETED, and its slots are free at once."""
    names = [f"n{i}" for i in range(10)]
    executor = DynamicExecutor(graph(**dict.fromkeys(names, TWO)), max_workers=2)
    result = await executor.execute({name: lambda name=name: name for name in names})
    assert [result[name].result for name in names] == names


@MANUAL
@pytest.mark.parametrize("in_time", [True, False])
async def test_a_thread_may_call_into_the_loop(in_time: bool) -> None:
    """`anyio.from_thread.run` works inside a sync task with a timeout, before its deadline and, on
    every backend, also afterwards.
    """
    answers = []

    async def on_loop() -> str:
        await checkpoint()
        return "answer"

    def call() -> None:
        answers.append(anyio.from_thread.run(on_loop))

    work = Work(then=call)
    async with DynamicExecutor(graph(node=TWO)).start({"node": work}) as run:
        await work.begins()
        if not in_time:
            advance(3)
            await passes()
        work.let_go()
    result = await run.wait()
    await reached(work.left)
    assert statuses(result) == {"node": "COMPLETED" if in_time else "FAILED"}
    assert (answers, work.raised) == (["answer"], None)


NESTED = DynamicExecutor(graph("a>b"))


async def run_nested() -> str:
    return str(await NESTED.execute({"a": checkpoint, "b": lambda: 1}))


@MANUAL
@pytest.mark.parametrize("call", [run_nested, Gate().wait], ids=["nested run", "gate"])
@pytest.mark.parametrize("cancelled", ["run", "node"])
async def test_a_thread_of_a_cancelled_node_calls_into_the_loop(
    cancelled: str, call: Callable[[], Awaitable[object]]
) -> None:
    """FAULTS, Threads: a thread that learns late that its node is cancelled, and runs a nested
    graph or waits at a gate that nobody opens, is refused: it never hangs.
    """
    work = Work(then=lambda: anyio.from_thread.run(call))
    async with DynamicExecutor(graph(node=None), max_workers=1).start({"node": work}) as run:
        await work.begins()
        if cancelled == "run":
            run.cancel()
        else:
            run.cancel_node("node")
        await passes()
        work.let_go()
    assert work.raised is not None
    assert statuses(await run.wait()) == {"node": "CANCELLED"}


class _NotingLoop(ManualLoop):
    """An event loop that notes when another thread has posted something to it."""

    def __init__(self) -> None:
        super().__init__()
        self.posted = threading.Event()

    def call_soon_threadsafe(self, *arguments: Any, **options: Any) -> Any:
        handle = super().call_soon_threadsafe(*arguments, **options)
        self.posted.set()
        return handle


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("cancel", ["caller", "timeout"])
def test_a_thread_calls_into_the_loop_while_its_run_is_being_cancelled(
    turns: int, cancel: str
) -> None:
    """What the thread has called, and the cancellation, so many turns of the loop later, both come
    to their end, whichever is noticed first.
    """

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        work = Work(then=lambda: anyio.from_thread.run(run_nested))
        executor = DynamicExecutor(graph(node=None))
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(partial(executor.execute, {"node": work}, timeout=5))
                await work.begins()
                await passes()
                loop.posted.clear()
                work.let_go()
                assert loop.posted.wait(GUARD)
                await passes(turns)
                if cancel == "caller":
                    scope.cancel()
                else:
                    advance(6)
        assert work.left.is_set()

    with asyncio.Runner(loop_factory=_NotingLoop) as runner:
        runner.run(main())


@MANUAL
async def test_a_thread_that_was_given_up_calls_into_the_loop() -> None:
    """It runs a nested graph, which ends, or is refused; then the thread's slot is free."""
    work = Work(then=lambda: anyio.from_thread.run(run_nested))
    executor = DynamicExecutor(graph(late=TWO, rest=None), max_workers=1)
    async with executor.start({"late": work, "rest": lambda: "ran"}) as run:
        await work.begins()
        advance(3)
        await passes()
        work.let_go()
    assert (await run.wait())["rest"].result == "ran"


# --- a program that does not know of anyio -------------------------------------------------------


def test_a_thread_that_ends_in_a_plain_asyncio_program() -> None:
    """Under `asyncio.run`, too, a thread that was given up hands on its slot when it ends."""

    async def main() -> ExecutionResult:
        work = Work()
        executor = DynamicExecutor(graph(late=TWO, rest=None), max_workers=1)
        async with executor.start({"late": work, "rest": lambda: "ran"}) as run:
            await work.begins()
            advance(3)
            await passes()
            work.let_go()
        return await run.wait()

    with asyncio.Runner(loop_factory=ManualLoop) as runner:
        result = runner.run(main())
    assert statuses(result) == {"late": "FAILED", "rest": "COMPLETED"}


async def from_a_callback(change: Callable[..., None], *arguments: object) -> None:
    asyncio.get_running_loop().call_soon(change, *arguments)


async def from_a_thread(change: Callable[..., None], *arguments: object) -> None:
    await asyncio.to_thread(change, *arguments)


@pytest.mark.parametrize("outside", [from_a_callback, from_a_thread])
def test_who_takes_part_in_a_plain_asyncio_program(
    outside: Callable[..., Awaitable[None]],
) -> None:
    """Under `asyncio.run`, too, a bare callback of the loop, and another thread, may cancel a ready
    node, which starts what waits for that, and open a gate.
    """
    work, gate = Work(), Gate()
    cleanup = NodePolicy(trigger=all_done)
    dag = graph("asks>after victim>clean", holder=None, victim=None, clean=cleanup)
    tasks = {"asks": gate.wait, "after": checkpoint, "clean": checkpoint}
    tasks |= {"holder": work, "victim": nothing}

    async def main() -> ExecutionResult:
        async with DynamicExecutor(dag, max_workers=1).start(tasks) as run:
            await work.begins()
            assert run.status("victim").name == "READY"
            await outside(run.cancel_node, "victim")
            await passes()
            assert run.status("clean").name == "COMPLETED"
            await outside(gate.open)
            await passes()
            assert run.status("after").name == "COMPLETED"
            work.let_go()
        return await run.wait()

    assert statuses(asyncio.run(main())) == {
        "holder": "COMPLETED",
        "victim": "CANCELLED",
        "clean": "COMPLETED",
        "asks": "COMPLETED",
        "after": "COMPLETED",
    }


# --- the end of the run --------------------------------------------------------------------------


@MANUAL
async def test_the_run_is_ended_while_a_thread_lingers() -> None:
    """The run's own timeout, and its caller's cancellation, do not wait for a thread that a node's
    timeout has given up.
    """
    for timeout in (5, None):
        work = Work()
        outcome: list[object] = []

        async def run(work: Work = work, timeout: Any = timeout, outcome: Any = outcome) -> None:
            executor = DynamicExecutor(graph(late=TWO, other=None))
            tasks = {"late": work, "other": anyio.sleep_forever}
            outcome.append(statuses(await executor.execute(tasks, timeout=timeout)))

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await work.begins()
            advance(3)
            await passes()
            if timeout is None:
                group.cancel_scope.cancel()
            else:
                advance(3)
        assert not work.left.is_set()
        assert outcome == ([] if timeout is None else [{"late": "FAILED", "other": "CANCELLED"}])
        await work.ends()


@MANUAL
async def test_a_run_that_is_ended_before_a_nodes_deadline() -> None:
    """A thread at work when the run is ended is waited for, until its node's deadline; then it is
    given up, and its node is CANCELLED.
    """
    work = Work()
    result: ExecutionResult | None = None

    async def run() -> None:
        nonlocal result
        executor = DynamicExecutor(graph(node=NodePolicy(timeout=10)))
        result = await executor.execute({"node": work}, timeout=5)

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await work.begins()
        advance(6)
        await passes()
        assert result is None
        advance(6)
        await passes()
        assert result is not None
        assert not work.left.is_set()
    assert statuses(result) == {"node": "CANCELLED"}
    assert result["node"].reason == "the run's timeout of 5 s was over"
    await work.ends()


@MANUAL
async def test_a_thread_that_ends_in_a_run_that_was_ended() -> None:
    """When it ends before its node's deadline, its work is done and counts."""
    work = Work()
    executor = DynamicExecutor(graph("node>after", node=NodePolicy(timeout=10)))
    async with executor.start({"node": work, "after": nothing}) as run:
        await work.begins()
        run.cancel()
        await passes()
        work.let_go()
    result = await run.wait()
    assert statuses(result) == {"node": "COMPLETED", "after": "CANCELLED"}
    assert result["node"].result == "work"


# --- limits that runs share ----------------------------------------------------------------------


@MANUAL
async def test_shared_limits_are_held_by_a_thread_beyond_its_run() -> None:
    """A slot of shared `Limits` is free when the thread has ended, not with its run; then the next
    run has it. Nothing of it is lost.
    """
    limits = Limits(g=1)
    in_g = NodePolicy(group="g")
    work = Work()
    first = DynamicExecutor(graph(late=NodePolicy(timeout=2, group="g"), clock=None), limits=limits)

    async def clock() -> None:
        await work.begins()
        advance(3)

    result = await first.execute({"late": work, "clock": clock})
    assert statuses(result)["late"] == "FAILED"
    ran: list[str] = []

    async def second(name: str) -> None:
        async def note() -> None:
            ran.append(name)

        await DynamicExecutor(graph(node=in_g), limits=limits).execute({"node": note})

    async with anyio.create_task_group() as group:
        for name in "abc":
            group.start_soon(second, name)
        await passes()
        assert ran == []
        await work.ends()
    assert sorted(ran) == ["a", "b", "c"]


@MANUAL
async def test_shared_limits_are_in_use_until_the_thread_has_ended() -> None:
    """On another event loop the limits are refused while a thread of an ended run still holds a
    slot, and free afterwards.
    """
    limits = Limits(g=1)
    work = Work()
    policy = NodePolicy(timeout=2, group="g")

    async def clock() -> None:
        await work.begins()
        advance(3)

    executor = DynamicExecutor(graph(late=policy, clock=None), limits=limits)
    await executor.execute({"late": work, "clock": clock})
    other = DynamicExecutor(graph(node=NodePolicy(group="g")), limits=limits)

    def is_free_elsewhere() -> bool:
        try:
            return other.execute_sync({"node": nothing}).ok
        except LimitsInUseError:
            return False

    assert not await anyio.to_thread.run_sync(is_free_elsewhere)
    work.let_go()
    while not await anyio.to_thread.run_sync(is_free_elsewhere):
        await checkpoint()


# --- one call in a thread ------------------------------------------------------------------------


class _Interleaved:
    """A lock after whose first use by the thread the loop gets its turn."""

    def __init__(self, turn: Callable[[], object]) -> None:
        self._turn = turn
        self._uses = 0

    def __enter__(self) -> None:
        self._uses += 1

    def __exit__(self, *error: object) -> None:
        if self._uses == 1:
            self._turn()


def test_the_end_of_a_thread_is_told_once() -> None:
    """A loop that asks to hear of a thread's end just when it ends hears of it once: the slot is
    given back once.
    """
    told: list[int] = []
    host: Any = SimpleNamespace(call_soon=lambda callback: callback())
    call = ThreadCall(host, lambda: "value")
    call._ending = _Interleaved(lambda: call.when_ended(lambda: told.append(1)))  # type: ignore[assignment]
    call()
    assert call.value == "value"
    assert told == [1]


def test_the_end_of_a_thread_is_told_where_the_loop_is_gone() -> None:
    """Where the loop is closed, the slot is given back in the thread."""
    told: list[int] = []

    def closed(callback: Callable[[], object]) -> None:
        raise RuntimeError("Event loop is closed")

    host: Any = SimpleNamespace(call_soon=closed)
    call = ThreadCall(host, lambda: "value")
    call.when_ended(lambda: told.append(1))
    call()
    assert told == [1]
