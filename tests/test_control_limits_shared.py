"""Limits that runs share, and runs inside of nodes that hold a slot (DESIGN.md section 5)."""

import threading
from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any

import anyio
import pytest

from dagron import (
    DAG,
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    ExecutionResult,
    Gate,
    Limits,
    LimitsInUseError,
    ModificationError,
    NodePolicy,
    Retry,
    Run,
)
from faults import run, until
from grouped import G, inside, inside_thread, nodes, numbered
from ways import GUARD, Inside, Meeting, Way, adding, nothing, passes

# --- limits that are shared ----------------------------------------------------------------------


async def test_a_dict_counts_per_run() -> None:
    """Two runs of one executor with a dict of limits: each has the slots for itself."""
    meeting = Meeting(2)
    executor = DynamicExecutor(nodes(G, "a"), limits={"g": 1})
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(executor.execute, {"a": meeting.join})


@pytest.mark.parametrize("on_thread", [False, True])
async def test_shared_limits_hold_across_runs(on_thread: bool) -> None:
    """Executors that are given one `Limits` object count together, and so do runs of one executor;
    each of them gets its turn."""
    limits = Limits({"g": 2}, h=5)
    group = Inside()
    order: list[str] = []
    names = numbered(12)

    async def one(label: str, executor: DynamicExecutor) -> None:
        def in_thread() -> None:
            with group:
                order.append(label)

        async def on_loop() -> None:
            with group:
                order.append(label)
                await passes(3)

        result = await executor.execute(dict.fromkeys(names, in_thread if on_thread else on_loop))
        assert result.succeeded == 12

    shared = DynamicExecutor(nodes(G, *names), limits=limits)
    other = DynamicExecutor(nodes(G, *names), limits=limits)
    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as tasks:
            for label, executor in (("A", shared), ("B", shared), ("C", other)):
                tasks.start_soon(one, label, executor)
    assert group.most <= 2
    assert group.entered == 36
    assert on_thread or group.most == 2
    for label in "ABC":
        starts = [-1, *(place for place, of in enumerate(order) if of == label)]
        assert max(after - before for before, after in pairwise(starts)) <= 12, order


async def test_a_run_that_only_waits_for_others_is_not_stuck() -> None:
    """A run all of whose nodes wait for a slot that another run holds goes on when it is free."""
    limits, release = Limits(g=1), anyio.Event()
    executor = DynamicExecutor(nodes(G, "a", "b"), limits=limits)
    results = []

    async def second() -> None:
        results.append(await executor.execute(dict.fromkeys("ab", nothing)))

    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as group:
            group.start_soon(executor.execute, {"a": release.wait, "b": nothing})
            await passes(10)
            group.start_soon(second)
            await passes(30)
            assert results == []
            release.set()
    assert results[0].ok


@pytest.mark.parametrize("how", ["scope", "handle", "node", "timeout"])
async def test_a_run_that_is_ended_while_it_waits_loses_no_slot(how: str) -> None:
    """Of three runs in line the second is ended, by its caller, its handle, its time, or node by
    node: the third gets the slot."""
    limits, release, ended = Limits(g=1), anyio.Event(), anyio.Event()
    executor = DynamicExecutor(nodes(G, "a"), limits=limits)
    ran: list[str] = []
    scope = anyio.CancelScope()
    handles: list[Run] = []

    async def second() -> None:
        with scope:
            timeout = 0.01 if how == "timeout" else None
            async with executor.start({"a": lambda: ran.append("2")}, timeout=timeout) as handle:
                handles.append(handle)
        ended.set()

    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as group:
            group.start_soon(executor.execute, {"a": release.wait})
            await passes(10)
            group.start_soon(second)
            await passes(10)
            group.start_soon(executor.execute, {"a": lambda: ran.append("3")})
            await passes(10)
            if how == "scope":
                scope.cancel()
            elif how == "handle":
                handles[0].cancel()
            elif how == "node":
                handles[0].cancel_node("a")
            await ended.wait()
            release.set()
    assert ran == ["3"]


ENDINGS = ["ok", "fails", "cancelled", "handle", "timeout", "on_failure", "interrupt", "refused"]


@pytest.mark.parametrize("ending", ENDINGS)
async def test_every_ending_gives_the_slots_back(ending: str) -> None:
    """However a run ends, three times in a row, all slots of shared limits are free afterwards: as
    many nodes as there are slots meet inside."""
    limits = Limits(g=2, h=1)
    both = NodePolicy(group=("g", "h"))
    dag = nodes(G, "a", "b", "c").to_builder().add_node("d", policy=both).add_node("e", policy=both)
    dag = dag.build()

    async def task() -> None:
        await passes(3)
        if ending in ("fails", "on_failure"):
            raise ValueError
        if ending == "interrupt":
            raise KeyboardInterrupt
        if ending != "ok":
            await anyio.sleep_forever()

    tasks = dict.fromkeys(dag, task)
    on_failure: Any = "cancel" if ending == "on_failure" else "skip"
    executor = DynamicExecutor(dag, limits=limits, on_failure=on_failure)
    for _ in range(3):
        with anyio.move_on_after(GUARD) as scope:
            if ending == "handle":
                async with executor.start(tasks) as handle:
                    await passes(20)
                    handle.cancel()
            elif ending == "cancelled":
                async with anyio.create_task_group() as group:
                    group.start_soon(executor.execute, tasks)
                    await passes(20)
                    group.cancel_scope.cancel()
            elif ending == "interrupt":
                with pytest.raises(KeyboardInterrupt):
                    await executor.execute(tasks)
            elif ending == "refused":
                await nested_in(limits, executor, tasks)
            else:
                await executor.execute(tasks, timeout=0.01 if ending == "timeout" else None)
        assert not scope.cancelled_caught
        meeting = Meeting(3)
        full = nodes(G, "x", "y").to_builder().add_node("z", policy=NodePolicy(group="h")).build()
        assert (await run(full, dict.fromkeys("xyz", meeting.join), limits=limits)).ok


async def nested_in(limits: Limits, executor: DynamicExecutor, tasks: dict[str, Any]) -> None:
    """Run it in a node that holds a slot, where it is refused."""
    result = await run(nodes(G, "outer"), {"outer": lambda: executor.execute(tasks)}, limits=limits)
    assert isinstance(result["outer"].error, LimitsInUseError)


@pytest.mark.parametrize("how", ["scope", "handle", "on_failure"])
async def test_a_run_that_stops_leaves_the_line_at_once(how: str) -> None:
    """A cancelled run that still waits for one of its threads takes no slot from others meanwhile:
    not what is given back while it was next in line, and not what its own nodes give back."""
    limits = Limits(g=2)
    in_thread, end_thread, fail = threading.Event(), threading.Event(), anyio.Event()
    holds = anyio.Event()
    scope = anyio.CancelScope()
    stopped: list[str] = []

    def thread() -> None:
        in_thread.set()
        assert end_thread.wait(GUARD)

    async def failing() -> None:
        await fail.wait()
        raise ValueError

    async def own() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            stopped.append("own")

    async def stopping() -> None:
        on_failure: Any = "cancel" if how == "on_failure" else "skip"
        dag = nodes(G, "own", "waits", "waits too", others="thread failing")
        executor = DynamicExecutor(dag, limits=limits, on_failure=on_failure)
        tasks = {"own": own, "thread": thread, "failing": failing}
        tasks |= dict.fromkeys(["waits", "waits too"], nothing)
        with scope:
            async with executor.start(tasks) as handle:
                handles.append(handle)

    handles: list[Run] = []
    both_in = Meeting(2)

    async def inside_both() -> None:
        await both_in.join()
        end_thread.set()

    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as group:
            first = DynamicExecutor(nodes(G, "x"), limits=limits)
            group.start_soon(first.execute, {"x": holds.wait})
            await passes(10)
            group.start_soon(stopping)
            await until(in_thread.is_set)
            await passes(10)
            last = DynamicExecutor(nodes(G, "y", "z"), limits=limits)
            group.start_soon(last.execute, dict.fromkeys("yz", inside_both))
            await passes(10)
            if how == "scope":
                scope.cancel()
            elif how == "handle":
                handles[0].cancel()
            else:
                fail.set()
            await until(lambda: stopped)
            holds.set()
    assert end_thread.is_set()


async def test_the_thread_of_a_cancelled_run_keeps_its_slot() -> None:
    """A thread of a cancelled run counts in its group until it ends."""
    limits, group = Limits(g=1), Inside()
    begun, end = threading.Event(), threading.Event()

    def thread() -> None:
        with group:
            begun.set()
            assert end.wait(GUARD)

    executor = DynamicExecutor(nodes(G, "a"), limits=limits)
    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as cancelled:
                    cancelled.start_soon(executor.execute, {"a": thread})
                    await until(begun.is_set)
                    tasks.start_soon(executor.execute, {"a": inside(group)})
                    await passes(10)
                    tasks.start_soon(end_soon, end)
                    scope.cancel()
    assert (group.most, group.entered) == (1, 2)


async def end_soon(event: threading.Event) -> None:
    await passes(20)
    event.set()


async def test_runs_that_need_the_same_two_groups_do_not_lock_each_other() -> None:
    """Slots of several groups are taken together or not at all: runs whose nodes name them in
    different order all finish."""
    limits = Limits(g=1, h=1)
    blocks = {"g": Inside(), "h": Inside()}
    orders = [("g", "h"), ("h", "g"), ("g",), ("h",)]
    names = numbered(10)
    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as group:
            for groups in orders:
                dag = nodes(NodePolicy(group=groups), *names)
                task = inside(*(blocks[name] for name in groups))
                executor = DynamicExecutor(dag, limits=limits)
                group.start_soon(executor.execute, dict.fromkeys(names, task))
    assert [(block.most, block.entered) for block in blocks.values()] == [(1, 30), (1, 30)]


@pytest.mark.parametrize("seed", range(5))
async def test_a_crowd_of_runs(seed: int) -> None:
    """Runs with nodes in random groups, sync and async, some retried, some of the runs cancelled:
    the limits hold, and the others finish."""
    dice = Random(seed)
    sizes = {"g": 1, "h": 2, "k": 3}
    limits = Limits(sizes)
    blocks = {name: Inside() for name in sizes}
    finished: list[int] = []

    def flaky(task: Callable[[], Any]) -> Callable[[], Any]:
        attempts: list[int] = []

        async def attempt() -> None:
            attempts.append(1)
            await task()
            if len(attempts) < 2:
                raise ValueError

        return attempt

    async def one(number: int) -> None:
        builder, tasks = DAG.builder(), {}
        for name in numbered(15):
            groups = dice.sample(list(sizes), dice.randint(0, 3))
            mine = [blocks[group] for group in groups]
            kind = dice.choice(["sync", "async", "flaky"])
            tasks[name] = inside_thread(*mine) if kind == "sync" else inside(*mine, turns=2)
            if kind == "flaky":
                tasks[name] = flaky(tasks[name])
            builder.add_node(
                name,
                policy=NodePolicy(
                    group=groups, priority=dice.randint(-1, 1), retry=Retry(2, initial_delay=0)
                ),
            )
        executor = DynamicExecutor(builder.build(), limits=limits, max_workers=2)
        async with executor.start(tasks) as handle:
            if number % 3 == 2:
                await passes(dice.randint(0, 40))
                handle.cancel()
        if number % 3 != 2:
            assert (await handle.wait()).ok
            finished.append(number)

    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(one, number)
    assert sorted(finished) == [0, 1, 3, 4]
    assert all(blocks[name].most <= size for name, size in sizes.items())


# --- one event loop at a time --------------------------------------------------------------------


def test_a_second_event_loop_is_refused_as_long_as_the_first_is_there(execute: Way) -> None:
    """`Limits` that count for one event loop are refused to a run in another, before anything of it
    runs; afterwards they may be used there, and so again and again."""
    limits = Limits(g=1)
    executor = DynamicExecutor(nodes(G, "a"), limits=limits)
    ran: list[int] = []
    for _ in range(3):
        begun, end = threading.Event(), threading.Event()

        def hold(begun: threading.Event = begun, end: threading.Event = end) -> None:
            begun.set()
            assert end.wait(GUARD)

        thread = threading.Thread(target=executor.execute_sync, args=({"a": hold},))
        thread.start()
        assert begun.wait(GUARD)
        with pytest.raises(LimitsInUseError, match=r"\('g'\) count for runs on another event loop"):
            execute(executor, {"a": lambda: ran.append(1)})
        end.set()
        thread.join(GUARD)
    assert ran == []
    assert execute(executor, {"a": lambda: ran.append(1)}).ok
    assert ran == [1]


def test_a_run_that_failed_to_begin_does_not_count(execute: Way) -> None:
    """Limits are free for another loop after a run that was refused, that failed, or that never
    began."""
    limits = Limits(g=1)
    executor = DynamicExecutor(nodes(G, "a"), limits=limits)
    executor.start({"a": nothing})
    with pytest.raises(ValueError):
        execute(executor, {"a": nothing}, timeout=-1)

    def fail() -> None:
        raise ValueError

    for backend in ("trio", "asyncio"):
        assert execute(executor, {"a": fail}).failed == 1
        assert executor.execute_sync({"a": nothing}, backend=backend).ok


# --- nested runs ---------------------------------------------------------------------------------

HELD = "needs a slot of 'g', of which the node that waits for this run holds one"


def caller(inner: DynamicExecutor, tasks: dict[str, Any], on_thread: bool) -> Callable[[], Any]:
    """Return a task that runs another executor, on the loop or on its thread."""
    if on_thread:
        return lambda: inner.execute_sync(tasks)
    return lambda: inner.execute(tasks)


@pytest.mark.parametrize("size", [1, 3])
def test_a_nested_run_that_needs_what_its_caller_holds(execute: Way, size: int) -> None:
    """An initial node in a group of which the caller holds a slot: the nested run is refused before
    anything of it runs, instead of waiting for ever."""
    limits = Limits(g=size)
    ran: list[int] = []
    inner = DynamicExecutor(nodes(G, "n", others="free"), limits=limits)
    outer = DynamicExecutor(nodes(G, "outer"), limits=limits)
    tasks = dict.fromkeys(["n", "free"], lambda: ran.append(1))
    for on_thread in (False, True):
        result = execute(outer, {"outer": caller(inner, tasks, on_thread)})
        error = result["outer"].error
        assert isinstance(error, LimitsInUseError)
        assert f"{HELD}\n  help: take the group from the outer node" in str(error)
    assert ran == []


def test_a_nested_run_in_an_expander(execute: Way) -> None:
    """A node holds its slots while its expander runs: a run in there is refused as well."""
    limits = Limits(g=1)
    inner = DynamicExecutor(nodes(G, "n"), limits=limits)

    async def expand(name: str, result: Any) -> None:
        await inner.execute({"n": nothing})

    result = execute(
        DynamicExecutor(nodes(G, "outer"), {"outer": expand}, limits=limits), {"outer": nothing}
    )
    assert isinstance(result["outer"].error, LimitsInUseError)


def test_a_nested_run_two_levels_down(execute: Way) -> None:
    """A run between, which has no limits, does not hide who waits."""
    limits = Limits(g=1)
    innermost = DynamicExecutor(nodes(G, "n"), limits=limits)
    between = DynamicExecutor(nodes(None, "between"))
    found: list[Any] = []

    async def outer() -> None:
        tasks = {"between": lambda: innermost.execute({"n": nothing})}
        found.append((await between.execute(tasks))["between"].error)

    assert execute(DynamicExecutor(nodes(G, "outer"), limits=limits), {"outer": outer}).ok
    assert isinstance(found[0], LimitsInUseError)


@pytest.mark.parametrize("default", [None, G])
@pytest.mark.parametrize("own", [None, NodePolicy(priority=1), G])
def test_a_nested_run_that_needs_it_later(
    execute: Way, default: NodePolicy | None, own: NodePolicy | None
) -> None:
    """A node added to a nested run in a group that the caller holds, by its own policy or by the
    executor's: the modification is refused."""
    limits = Limits(g=1)
    spec = DynamicNodeSpec("new", nothing, ["grow"], policy=own)
    inner = DynamicExecutor(
        nodes(NodePolicy(group=()), "grow"), {"grow": adding(spec)}, limits=limits, policy=default
    )
    outer = DynamicExecutor(nodes(G, "outer"), limits=limits)
    result = execute(outer, {"outer": lambda: inner.execute({"grow": nothing})})["outer"].result
    if default is None and own is not G:
        assert result["new"].status == "COMPLETED"
        return
    error = result["grow"].error
    assert isinstance(error, ModificationError)
    assert [(fault.kind, fault.node) for fault in error.faults] == [("group", "new")]
    assert HELD in str(error)


async def test_a_nested_run_that_is_modified_from_outside() -> None:
    """`run.modify` on a nested run refuses such a node, too, and takes one of another group."""
    limits = Limits(g=1, h=1)
    inner = DynamicExecutor(nodes(None, "gate"), limits=limits)

    async def outer() -> ExecutionResult:
        gate = Gate()
        async with inner.start({"gate": gate.wait}) as handle:
            while handle.status("gate") != "RUNNING":
                await passes(1)
            with pytest.raises(ModificationError, match=HELD):
                await handle.modify(DynamicModification([DynamicNodeSpec("n", nothing, policy=G)]))
            other = DynamicNodeSpec("other", nothing, policy=NodePolicy(group="h"))
            await handle.modify(DynamicModification([other]))
            gate.open()
        return await handle.wait()

    result = await run(nodes(G, "outer"), {"outer": outer}, limits=limits)
    assert result["outer"].result.succeeded == 2


def test_a_nested_run_with_other_groups(execute: Way) -> None:
    """A nested run takes slots of the same `Limits`, of groups that no caller of it holds, and its
    own caller may be in no group, or count by a dict."""
    limits, h = Limits(g=1, h=1), NodePolicy(group="h")
    inside_h = Inside()
    names = numbered(4)
    inner = DynamicExecutor(nodes(h, *names), limits=limits)
    tasks = dict.fromkeys(names, inside(inside_h))
    outer = DynamicExecutor(nodes(G, "a", others="b"), limits=limits)
    result = execute(outer, dict.fromkeys("ab", lambda: inner.execute(tasks)))
    assert [result[name].result.succeeded for name in "ab"] == [4, 4]
    assert (inside_h.most, inside_h.entered) == (1, 8)
    by_dict = DynamicExecutor(nodes(h, "a"), limits={"h": 1})
    assert execute(by_dict, {"a": lambda: inner.execute(tasks)})["a"].result.ok


def test_a_nested_run_of_the_same_executor_with_a_dict(execute: Way) -> None:
    """E17: limits in a dict belong to a run; an executor may run itself, at one slot, on the loop
    or in a thread."""
    executor = DynamicExecutor(nodes(G, "a"), limits={"g": 1}, max_workers=1)
    for on_thread in (False, True):
        innermost = {"a": lambda: "innermost"}
        result = execute(executor, {"a": caller(executor, innermost, on_thread)})
        assert result["a"].result["a"].result == "innermost"
