"""The window of a streaming node: how many of its children are unfinished at a time."""

import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from functools import partial
from itertools import count
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from clocks import MANUAL, VIRTUAL, advance, reached
from controls import graph, statuses
from dagron import (
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    Edge,
    ExpansionError,
    Gate,
    ModificationError,
    NodePolicy,
    NodeStatus,
)
from faults import hold, run
from streams import Closing, Make, Step, both, new, noop, on_loop, on_thread
from ways import GUARD, Inside, Meeting, Way, chain, passes


def window(size: int, **policy: Any) -> Any:
    """Return a graph of one node with this window."""
    return graph(a=NodePolicy(window=size, **policy))


def numbered(task: Callable[..., Any], counts: Iterable[int]) -> Callable[[], Generator[Any]]:
    """Steps that add one node each."""

    def steps() -> Generator[Step]:
        for number in counts:
            yield new(str(number), "a", task=task)

    return steps


# -- counting


@both
@pytest.mark.parametrize("size", [1, 2, 5])
def test_so_many_children_are_unfinished_at_a_time(execute: Way, make: Make, size: int) -> None:
    """The generator is advanced while fewer than `window` children are unfinished: as many run at
    the same time, and never more.
    """
    meeting, inside = Meeting(size), Inside()

    async def child() -> None:
        with inside:
            await meeting.join()

    executor = DynamicExecutor(window(size), {"a": make(numbered(child, range(4 * size)))})
    result = execute(executor, {"a": noop})
    assert result.succeeded == 4 * size + 1
    assert inside.most == size


@both
async def test_no_step_is_taken_ahead(make: Make) -> None:
    """With a full window, the generator is not advanced; every child that ends is one more step."""
    gates = [anyio.Event() for _ in range(6)]
    steps: list[int] = []
    taken = threading.Semaphore(0)

    def take() -> Generator[Step]:
        for number, gate in enumerate(gates):
            steps.append(number)
            taken.release()
            yield new(str(number), task=gate.wait)

    async def wait_for(count: int) -> None:
        with anyio.fail_after(GUARD):
            while len(steps) < count:
                await checkpoint()
            await passes()
        assert len(steps) == count

    async with DynamicExecutor(window(2), {"a": make(take)}).start({"a": noop}) as run:
        await wait_for(2)
        for number in range(4):
            gates[number].set()
            await wait_for(3 + number)
        gates[4].set()
        gates[5].set()
    assert (await run.wait()).ok


@both
async def test_the_default_window(make: Make) -> None:
    """Without a policy, 256 children may be unfinished."""
    gate = Gate()
    landed = anyio.Event()

    async def child() -> None:
        if len(run.dag) == 257:
            landed.set()
        await gate.wait()

    stream = make(numbered(child, range(300)))
    async with DynamicExecutor(chain("a"), {"a": stream}).start({"a": noop}) as run:
        with anyio.fail_after(GUARD):
            await landed.wait()
        await passes()
        assert len(run.dag) == 257
        assert str(run.explain("a")) == (
            "node 'a' is RUNNING: 256 nodes that it added are unfinished, "
            "and it waits for fewer than 256"
        )
        gate.open()
    assert (await run.wait()).succeeded == 301


async def test_the_executors_policy_sets_the_window() -> None:
    """A window may be given for all nodes."""
    inside = Inside()

    async def child() -> None:
        with inside:
            await passes(3)

    expanders = {"a": on_loop(numbered(child, range(20)))}
    result = await run(chain("a"), {"a": noop}, expanders, policy=NodePolicy(window=3))
    assert result.succeeded == 21
    assert inside.most == 3


@both
def test_a_modification_lands_whole_whatever_the_window(execute: Way, make: Make) -> None:
    """A step of several nodes lands as one, and may overshoot the window; the next one waits until
    fewer than `window` of all are left.
    """
    five, inside = Meeting(5), Inside()

    async def child() -> None:
        with inside:
            await five.join()

    def steps() -> Generator[Step]:
        for batch in range(3):
            names = [f"{batch}{letter}" for letter in "abcde"]
            yield DynamicModification([new(name, task=child) for name in names])

    result = execute(DynamicExecutor(window(1), {"a": make(steps)}), {"a": noop})
    assert result.succeeded == 16
    assert inside.most == 5


@both
def test_what_is_not_a_child_takes_no_room(execute: Way, make: Make) -> None:
    """Grandchildren, and steps that add nothing, do not count."""
    gate = Gate()

    def expand(name: str, result: object) -> DynamicModification:
        return DynamicModification([new(f"below {name}", task=gate.wait)])

    def steps() -> Generator[Step]:
        for name in "bcd":
            yield new(name, expander=expand)
            yield None
            yield DynamicModification()

    async def after() -> None:
        gate.open()

    dag = graph("a>after", a=NodePolicy(window=1), after=None)
    result = execute(DynamicExecutor(dag, {"a": make(steps)}), {"a": noop, "after": after})
    assert result.ok
    assert result.succeeded == 8


async def failing() -> None:
    raise OSError("broken")


@both
@pytest.mark.parametrize(
    "end", ["failed", "skipped", "condition", "broken", "cancelled", "expands"]
)
def test_every_end_of_a_child_makes_room(execute: Way, make: Make, end: str) -> None:
    """Children that fail, are skipped because of others or by a condition, fail by one, or are
    cancelled have finished as well as those that complete.
    """

    def refuse(name: str, result: object) -> None:
        raise OSError

    def child(name: str) -> Step:
        if end == "failed":
            return new(name, task=failing)
        if end == "skipped":
            return new(name, "bad")
        if end == "expands":
            return new(name, expander=refuse)
        if end == "cancelled":
            cancel = lambda node, result: DynamicModification(cancel_nodes=[name])
            return DynamicModification(
                [new(f"end of {name}", expander=cancel), new(name, task=anyio.sleep_forever)]
            )
        condition = (lambda value: 1 / 0) if end == "broken" else (lambda value: False)
        return DynamicModification([new(name)], add_edges=[Edge("a", name, condition=condition)])

    def steps() -> Generator[Step]:
        for number in range(10):
            yield child(str(number))

    dag = graph(a=NodePolicy(window=1), bad=None)
    result = execute(DynamicExecutor(dag, {"a": make(steps)}), {"a": noop, "bad": failing})
    assert result["a"].status is NodeStatus.COMPLETED
    expected = {"failed": "FAILED", "broken": "FAILED", "expands": "FAILED"}
    expected |= {"skipped": "SKIPPED", "condition": "SKIPPED", "cancelled": "CANCELLED"}
    assert {str(result[str(number)].status) for number in range(10)} == {expected[end]}


@both
async def test_a_removed_child_makes_room(make: Make) -> None:
    """Children that are removed while they wait, and cancelled from outside, are finished."""
    gate = Gate()

    def steps() -> Generator[Step]:
        for name in "bcd":
            yield new(name, "other")

    dag = graph(a=NodePolicy(window=1), other=None)
    with anyio.fail_after(GUARD):
        executor = DynamicExecutor(dag, {"a": make(steps)})
        async with executor.start({"a": noop, "other": gate.wait}) as run:
            while "b" not in run.dag:
                await checkpoint()
            await run.modify(DynamicModification(remove_nodes=["b"]))
            while "c" not in run.dag:
                await checkpoint()
            run.cancel_node("c")
            while "d" not in run.dag:
                await checkpoint()
            gate.open()
    result = await run.wait()
    assert result.removed == ("b",)
    assert statuses(result) == {
        "a": "COMPLETED",
        "c": "CANCELLED",
        "d": "COMPLETED",
        "other": "COMPLETED",
    }


# -- slots


@both
@pytest.mark.parametrize(
    "bound",
    [{"max_concurrency": 1}, {"limits": {"g": 1}}, {"max_concurrency": 1, "max_workers": 1}],
    ids=["places", "group", "places and workers"],
)
@pytest.mark.parametrize("sync", [False, True], ids=["async child", "sync child"])
def test_slots_are_given_back_while_it_waits(
    execute: Way, make: Make, bound: dict[str, Any], sync: bool
) -> None:
    """A streaming node that waits for room holds no slot: its children run at `max_workers=1`,
    `max_concurrency=1` and in a group of one, and it has its slots again for the next step.
    """
    inside = Inside()
    grouped = NodePolicy(group="g") if "limits" in bound else None

    async def on_loop_child() -> None:
        with inside:
            await checkpoint()

    def on_thread_child() -> None:
        with inside:
            return

    def steps() -> Generator[Step]:
        for number in range(6):
            with inside:
                task = on_thread_child if sync else on_loop_child
                spec = DynamicNodeSpec(str(number), task, policy=grouped)
            yield spec

    dag = window(2, group="g" if grouped else ())
    result = execute(DynamicExecutor(dag, {"a": make(steps)}, **bound), {"a": noop})
    assert result.succeeded == 7
    assert inside.most == 1
    assert inside.entered == 12


def test_the_only_worker_is_free_while_it_waits(execute: Way) -> None:
    """At `max_workers=1`, sync children of a sync generator run as soon as its window is full, and
    never beside it.
    """
    inside = Inside()

    def child() -> None:
        with inside:
            return

    def expand(name: str, result: object) -> Generator[Step]:
        for number in range(20):
            with inside:
                spec = new(str(number), task=child)
            yield spec

    executor = DynamicExecutor(window(3), {"a": expand}, max_workers=1)
    assert execute(executor, {"a": lambda: None}).succeeded == 21
    assert inside.most == 1


@both
def test_it_goes_before_ready_nodes(execute: Way, make: Make) -> None:
    """A node whose window has room again goes before nodes that are only ready."""
    log: list[str] = []

    def child(name: str) -> Callable[[], Any]:
        async def task() -> None:
            log.append(name)

        return task

    def steps() -> Generator[Step]:
        for name in "bc":
            yield new(name, task=child(name))
            log.append(f"after {name}")

    dag = graph(a=NodePolicy(window=1, priority=1), z=None, y=None)
    executor = DynamicExecutor(dag, {"a": make(steps)}, max_concurrency=1)
    execute(executor, {"a": noop, "z": child("z"), "y": child("y")})
    assert log.index("after b") == log.index("b") + 1
    assert log.index("after c") == log.index("c") + 1


# -- stalls


@both
@pytest.mark.parametrize("size", [1, 3])
def test_children_that_wait_for_a_static_dependent_stall_it(
    execute: Way, make: Make, size: int
) -> None:
    """A generator that waits for children which wait for what comes after it fails with
    `ExpansionError`, which names what they wait for; the generator is closed, nothing hangs.
    """
    steps = Closing(*(new(f"child {number}", "after") for number in range(size + 1)))
    dag = graph("a>after", a=NodePolicy(window=size), after=None)
    result = execute(DynamicExecutor(dag, {"a": make(steps)}), {"a": noop, "after": noop})
    error = result["a"].error
    assert isinstance(error, ExpansionError)
    waits = "; ".join(f"'child {number}' waits for 'after'" for number in range(size))
    assert str(error) == (
        "node 'a' waits for its children to end, and they wait for others that cannot run before "
        f"it has ended: {waits}\n"
        "  help: let its children not depend on what depends on it, "
        "or give it a larger NodePolicy(window=...)"
    )
    assert steps.closed == [True]
    assert statuses(result) == {
        "a": "FAILED",
        **{f"child {number}": "SKIPPED" for number in range(size)},
        "after": "SKIPPED",
    }


def test_the_text_of_a_stall_with_many_children(execute: Way) -> None:
    """It names three children, and counts the rest."""
    dag = graph("a>after", a=NodePolicy(window=5), after=None)
    expand = on_thread(lambda: (new(f"child {number}", "after") for number in range(6)))  # type: ignore[arg-type]
    result = execute(DynamicExecutor(dag, {"a": expand}), {"a": noop, "after": noop})
    text = str(result["a"].error).split("\n")[0]
    assert text.endswith(
        "'child 0' waits for 'after'; 'child 1' waits for 'after'; 'child 2' waits for 'after', "
        "and 2 more wait"
    )


@both
def test_two_nodes_that_wait_for_each_others_children(execute: Way, make: Make) -> None:
    """Of two streaming nodes whose children wait for the other one's dependents, one fails, and the
    other goes on.
    """
    one = NodePolicy(window=1)
    dag = graph("a>after_a b>after_b", a=one, b=one, after_a=None, after_b=None)
    streams = {
        "a": make(Closing(new("ca", "after_b"), new("da"))),
        "b": make(Closing(new("cb", "after_a"), new("db"))),
    }
    result = execute(DynamicExecutor(dag, streams), dict.fromkeys(dag, noop))
    assert isinstance(result["a"].error, ExpansionError)
    assert statuses(result) == {
        "a": "FAILED",
        "ca": "COMPLETED",
        "b": "COMPLETED",
        "cb": "SKIPPED",
        "db": "COMPLETED",
        "after_a": "SKIPPED",
        "after_b": "COMPLETED",
    }


def test_a_stall_inside_a_stall(execute: Way) -> None:
    """A child that streams itself, and waits for children that wait for its parent: one of the two
    fails, with a text that says what is waited for, and the rest ends.
    """

    def inner(name: str, result: object) -> Generator[Step]:
        yield new("x", "after")
        yield new("y")

    def outer(name: str, result: object) -> Generator[Step]:
        yield new("child", expander=inner, policy=NodePolicy(window=1))
        yield new("never")

    dag = graph("a>after", a=NodePolicy(window=1), after=None)
    result = execute(DynamicExecutor(dag, {"a": outer}), {"a": noop, "after": noop})
    assert isinstance(result["a"].error, ExpansionError)
    assert "'child' waits for its own children\n" in str(result["a"].error)
    assert statuses(result) == {
        "a": "FAILED",
        "child": "COMPLETED",
        "x": "SKIPPED",
        "y": "COMPLETED",
        "after": "SKIPPED",
    }


@both
async def test_who_may_still_be_set_free_stalls_nobody(make: Make) -> None:
    """As long as anything else of the run goes on, at a gate say, a node waits for its children:
    what they wait for may yet be changed.
    """
    gate = Gate()
    steps = Closing(new("child", "after"), new("second"))
    dag = graph("a>after", a=NodePolicy(window=1), after=None, other=None)
    tasks = {"a": noop, "after": noop, "other": gate.wait}
    with anyio.fail_after(GUARD):
        async with DynamicExecutor(dag, {"a": make(steps)}).start(tasks) as run:
            while "child" not in run.dag:
                await checkpoint()
            await passes()
            assert str(run.status("a")) == "RUNNING"
            await run.modify(DynamicModification(remove_edges=[("after", "child")]))
            while "second" not in run.dag:
                await checkpoint()
            gate.open()
    assert (await run.wait()).ok


@MANUAL
async def test_a_thread_that_is_given_up_stalls_nobody() -> None:
    """Children that wait for the worker slot of a thread that was given up are not stalled: they
    run when it ends.
    """
    began, release = threading.Event(), threading.Event()

    def late() -> None:
        began.set()
        hold(release)

    async def stream(name: str, result: object) -> AsyncGenerator[Step]:
        yield new("child", task=lambda: "child")
        yield new("second")

    dag = graph("go>a", late=NodePolicy(timeout=1), go=None, a=NodePolicy(window=1))
    gate = Gate()
    executor = DynamicExecutor(dag, {"a": stream}, max_workers=1)
    async with executor.start({"late": late, "go": gate.wait, "a": noop}) as run:
        await reached(began)
        advance(2)
        await passes()
        assert str(run.status("late")) == "FAILED"
        gate.open()
        await passes()
        assert str(run.status("a")) == "RUNNING"
        assert run.explain("child").limit == "max_workers"
        release.set()
    result = await run.wait()
    assert result["child"].result == "child"
    assert (result.succeeded, result.failed) == (4, 1)


# -- an endless source


def endless(closed: list[bool]) -> Generator[Step]:
    """Children without an end; notes that it is closed."""
    try:
        for number in count():
            yield new(str(number))
    finally:
        closed.append(True)


@both
async def test_an_endless_source_runs_until_it_is_cancelled(make: Make) -> None:
    """A source without an end, with a window, runs for as long as the user wants: `run.cancel()`
    ends it as a result, and the generator is closed.
    """
    closed: list[bool] = []
    with anyio.fail_after(GUARD):
        executor = DynamicExecutor(window(4), {"a": make(partial(endless, closed))})
        async with executor.start({"a": noop}) as run:
            while run.version < 200:
                await checkpoint()
            run.cancel("enough")
    result = await run.wait()
    assert not result.ok
    assert result.reason == "the run was cancelled: enough"
    assert result["a"].status is NodeStatus.CANCELLED
    assert result.succeeded >= 196
    assert result.failed == 0
    assert closed == [True]


@both
def test_an_endless_source_ends_at_max_nodes(execute: Way, make: Make) -> None:
    """A budget ends it: the step that goes beyond `max_nodes` is refused, the node is FAILED, and
    what had landed finishes.
    """
    closed: list[bool] = []
    executor = DynamicExecutor(window(4), {"a": make(partial(endless, closed))}, max_nodes=50)
    result = execute(executor, {"a": noop})
    error = result["a"].error
    assert isinstance(error, ModificationError)
    assert [fault.kind for fault in error.faults] == ["limit"]
    assert (result.succeeded, result.failed) == (49, 1)
    assert closed == [True]


@VIRTUAL
async def test_an_endless_source_ends_with_the_runs_timeout() -> None:
    """`execute(timeout=)` ends it as a result, at its second."""
    closed: list[bool] = []

    async def tick() -> None:
        await anyio.sleep(1)

    async def stream(name: str, result: object) -> AsyncGenerator[Step]:
        try:
            for number in count():
                yield new(str(number), task=tick)
        finally:
            closed.append(True)

    executor = DynamicExecutor(window(2), {"a": stream})
    result = await executor.execute({"a": noop}, timeout=10.5)
    assert not result.ok
    assert result["a"].status is NodeStatus.CANCELLED
    assert result.succeeded == 20
    assert closed == [True]


@VIRTUAL
async def test_the_timeout_is_for_a_step_and_not_for_the_wait() -> None:
    """`NodePolicy(timeout=...)` bounds each step of an async generator; the wait for room does not
    count. A step that takes longer fails the node, and the generator is closed.
    """
    closed: list[bool] = []

    async def slow() -> None:
        await anyio.sleep(100)

    async def stream(name: str, result: object) -> AsyncGenerator[Step]:
        try:
            for number in range(4):
                await anyio.sleep(9)
                yield new(str(number), task=slow)
            await anyio.sleep(11)
        finally:
            closed.append(True)

    result = await DynamicExecutor(window(1, timeout=10), {"a": stream}).execute({"a": noop})
    assert str(result["a"].error) == (
        "the expander of node 'a' took longer than its timeout of 10 s\n"
        "  help: give it a longer NodePolicy(timeout=...), or none"
    )
    assert result.succeeded == 4
    assert closed == [True]
