"""Expanders that are generators: what they yield, how it lands, and what ends them.

`both` runs a claim with a generator in a worker thread and with one on the event loop.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from functools import partial
from typing import Any

import anyio
import anyio.from_thread
import pytest

from controls import graph, statuses
from dagron import (
    DAG,
    ConditionError,
    DynamicExecutor,
    DynamicModification,
    Edge,
    ExpansionError,
    ModificationError,
    NodePolicy,
    NodeStatus,
    all_done,
    any_succeeded,
    at_least,
)
from dagron._node_result import EXPANDER_FAILED
from faults import new_objects_only, run
from streams import Closing, Make, Step, Stream, both, new, noop, on_loop, on_thread
from ways import GUARD, Way, chain, passes

# -- landing


@both
def test_what_a_generator_yields_lands_in_order(execute: Way, make: Make) -> None:
    """Specs, modifications and None land one after the other, each at once: a later one may name
    the nodes of an earlier one; node_results are in the order of their landing.
    """

    def steps() -> Generator[Step]:
        yield new("b", "a")
        yield None
        yield DynamicModification([new("c", "d"), new("d", "b")])
        yield DynamicModification()
        yield new("e", "c", dependents=["after"])

    result = execute(
        DynamicExecutor(chain("a", "after"), {"a": make(steps)}), {"a": noop, "after": noop}
    )
    assert result.ok
    assert [*result] == ["a", "b", "d", "c", "e", "after"]
    assert {result[name].added_by for name in "bcde"} == {"a"}
    assert {result[name].depth for name in "bcde"} == {1}
    assert result.unused_expanders == ()


@both
def test_a_generator_without_a_step(execute: Way, make: Make) -> None:
    """A generator that yields nothing changes nothing and fails nothing."""
    result = execute(
        DynamicExecutor(chain("a", "after"), {"a": make(Closing())}), {"a": noop, "after": noop}
    )
    assert statuses(result) == {"a": "COMPLETED", "after": "COMPLETED"}


@both
def test_nodes_start_while_the_generator_goes_on(execute: Way, make: Make) -> None:
    """The nodes of a step start, and end, while the generator is still running, also those that
    depend on the expanding node; its static dependents wait until it is exhausted.
    """
    log: list[str] = []
    ended = threading.Event()

    async def child(a: str) -> None:
        log.append(f"child of {a}")
        ended.set()

    async def after(a: str) -> None:
        log.append(f"after {a}")

    async def task() -> str:
        return "value"

    async def wait_on_loop(name: str, result: object) -> AsyncGenerator[Step]:
        yield new("child", "a", task=child)
        with anyio.fail_after(GUARD):
            while not ended.is_set():
                await anyio.lowlevel.checkpoint()
        await passes()
        log.append("last step")
        yield new("late", "child")

    def wait_on_thread(name: str, result: object) -> Generator[Step]:
        yield new("child", "a", task=child)
        assert ended.wait(GUARD)
        anyio.from_thread.run(passes)
        log.append("last step")
        yield new("late", "child")

    stream = wait_on_thread if make is on_thread else wait_on_loop
    executor = DynamicExecutor(chain("a", "after"), {"a": stream})
    result = execute(executor, {"a": task, "after": after})
    assert result.ok
    assert log == ["child of value", "last step", "after value"]


@both
def test_static_dependents_wait_for_children_that_name_them(execute: Way, make: Make) -> None:
    """A child that names a static dependent is waited for, too."""
    log: list[str] = []

    def node(name: str) -> Callable[[], Any]:
        async def task() -> None:
            await passes(3)
            log.append(name)

        return task

    def steps() -> Generator[Step]:
        for name in "xyz":
            yield new(name, "a", task=node(name), dependents=["after"])

    executor = DynamicExecutor(chain("a", "after"), {"a": make(steps)})
    assert execute(executor, {"a": noop, "after": node("after")}).ok
    assert sorted(log[:3]) == ["x", "y", "z"]
    assert log[3:] == ["after"]


def returning(stream: Stream) -> Stream:
    return lambda name, result: stream(name, result)


def returning_later(stream: Stream) -> Stream:
    async def expand(name: str, result: object) -> Any:
        return stream(name, result)

    return expand


class Object:
    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __call__(self, name: str, result: object) -> Generator[Step]:
        yield from self._stream(name, result)


def partially(stream: Stream) -> Stream:
    def expand(extra: object, name: str, result: object) -> Generator[Step]:
        yield from stream(name, result)

    return partial(expand, object())


@pytest.mark.parametrize("wrap", [returning, returning_later, Object, partially])
def test_ways_to_be_a_generator(execute: Way, wrap: Callable[[Stream], Stream]) -> None:
    """A function that returns a generator, an async one that does, an object whose call is one, and
    a partial are streaming expanders as well.
    """
    steps = Closing(new("b", "a"), new("c", "b"))
    result = execute(DynamicExecutor(chain("a"), {"a": wrap(on_thread(steps))}), {"a": noop})
    assert statuses(result) == {"a": "COMPLETED", "b": "COMPLETED", "c": "COMPLETED"}
    assert steps.closed == [True]


def test_a_function_that_returns_an_async_generator(execute: Way) -> None:
    """The function is called in a thread, and what it returns is driven on the loop."""
    steps = Closing(new("b", "a"), new("c", "b"))
    expander = returning(on_loop(steps))
    executor = DynamicExecutor(chain("a"), {"a": expander}, max_workers=1)
    assert [*execute(executor, {"a": noop})] == ["a", "b", "c"]
    assert steps.closed == [True]


@both
def test_the_expander_of_a_dynamic_node_streams(execute: Way, make: Make) -> None:
    """A spec's expander may be a generator: expansions go as deep as they like."""

    def level(number: int) -> Stream:
        def steps() -> Generator[Step]:
            if number < 4:
                yield new(f"level {number}", expander=level(number + 1))

        return make(steps)

    result = execute(DynamicExecutor(chain("a"), {"a": level(0)}, max_workers=1), {"a": noop})
    assert [*result] == ["a", "level 0", "level 1", "level 2", "level 3"]
    assert result["level 3"].depth == 4


def test_a_generator_that_wants_the_graph(execute: Way) -> None:
    """A third parameter receives the graph as it was when the generator began."""
    sizes: list[int] = []

    def expand(name: str, result: object, dag: DAG) -> Generator[Step]:
        sizes.append(dag.node_count())
        yield new("b")
        sizes.append(dag.node_count())

    assert execute(DynamicExecutor(chain("a"), {"a": expand}), {"a": noop}).ok
    assert sizes == [1, 1]


# -- settled edges


@both
def test_children_get_results_by_name(execute: Way, make: Make) -> None:
    """A child that depends on the expanding node gets its result by name and in `inputs`, although
    the node has not ended; also together with results of other nodes.
    """
    got: list[object] = []
    began = threading.Event()

    async def by_name(a: str) -> str:
        got.append(a)
        return "child"

    async def by_inputs(inputs: dict[str, object]) -> None:
        got.append(inputs)
        began.set()

    def sync(a: str, child: str) -> None:
        got.append((a, child))

    def steps() -> Generator[Step]:
        yield new("child", "a", task=by_name)
        yield new("sync", "child", "a", task=sync)
        yield new("all", "a", "sync", "child", task=by_inputs)

    async def task() -> str:
        return "value"

    result = execute(DynamicExecutor(chain("a"), {"a": make(steps)}), {"a": task})
    assert result.ok, [node.error for node in result.node_results.values()]
    assert got == ["value", ("value", "child"), {"a": "value", "sync": None, "child": "child"}]


@both
def test_edges_between_earlier_children_and_the_node(execute: Way, make: Make) -> None:
    """Only nodes that a step adds may start before the generator's end: an edge from the node that
    a later step adds to an earlier child, or that another node adds, waits for the end.
    """
    log: list[str] = []

    async def child(inputs: dict[str, object]) -> None:
        log.append(f"child of {' '.join(inputs)}")

    async def helper() -> None:
        await opened.wait()

    async def stream(name: str, result: object) -> AsyncGenerator[Step]:
        yield DynamicModification([new("helper", task=helper), new("child", "helper", task=child)])
        yield DynamicModification(add_edges=[("a", "child")])
        opened.set()
        await passes()
        log.append("end")

    opened = anyio.Event()
    assert execute(DynamicExecutor(chain("a"), {"a": stream}), {"a": noop}).ok
    assert log == ["end", "child of helper a"]


async def test_a_settled_edge_is_removed_and_added_again() -> None:
    """When another node removes the edge from the expanding node to its child, the child runs
    without it; when it adds the edge again, the child waits for the node's end.
    """
    log: list[str] = []
    gate, other = anyio.Event(), anyio.Event()

    async def child(inputs: dict[str, object]) -> None:
        log.append(f"child of {' '.join(inputs)}")

    async def stream(name: str, result: object) -> AsyncGenerator[Step]:
        yield DynamicModification(
            [
                new("other", task=other.wait),
                new("c1", "a", "other", task=child),
                new("c2", "a", "other", task=child),
            ]
        )
        await gate.wait()
        log.append("end")

    async with DynamicExecutor(chain("a"), {"a": stream}).start({"a": noop}) as run:
        await passes()
        edges = [("a", "c1"), ("a", "c2")]
        await run.modify(DynamicModification(remove_edges=edges))
        await run.modify(DynamicModification(add_edges=[("a", "c2")]))
        other.set()
        await passes()
        assert log == ["child of other"]
        gate.set()
    assert (await run.wait()).ok
    assert log == ["child of other", "end", "child of other a"]


@both
@pytest.mark.parametrize("end", ["fails", "is cancelled"])
async def test_children_of_a_node_that_does_not_complete(make: Make, end: str) -> None:
    """What had landed stays when the node fails or is cancelled: children that depend on it run,
    also later, and get its result; its static dependents are skipped.
    """
    got: list[str] = []
    gate, landed = anyio.Event(), threading.Event()

    async def child(a: str) -> None:
        got.append(a)

    def steps() -> Generator[Step]:
        yield DynamicModification(
            [new("wait", task=gate.wait), new("child", "a", "wait", task=child)]
        )
        yield new("early", "a", task=child)
        landed.set()
        if end == "fails":
            raise OSError("broken")
        while True:
            yield None

    async def task() -> str:
        return "value"

    with anyio.fail_after(GUARD):
        executor = DynamicExecutor(chain("a", "after"), {"a": make(steps)})
        async with executor.start({"a": task, "after": noop}) as run:
            while not landed.is_set():
                await anyio.lowlevel.checkpoint()
            await passes()
            if end == "is cancelled":
                run.cancel_node("a")
            while str(run.status("a")) == "RUNNING":
                await anyio.lowlevel.checkpoint()
            assert got == ["value"]
            gate.set()
    result = await run.wait()
    assert statuses(result) == {
        "a": "FAILED" if end == "fails" else "CANCELLED",
        "wait": "COMPLETED",
        "child": "COMPLETED",
        "early": "COMPLETED",
        "after": "SKIPPED",
    }
    assert got == ["value", "value"]
    assert result["a"].result == "value"


async def test_no_cycle_through_a_cancelled_node_whose_children_run() -> None:
    """A child of a streaming node that was cancelled runs on; what it adds before that node would
    close a cycle, and is refused.
    """
    gate = anyio.Event()

    def before(name: str, result: object) -> DynamicModification:
        return DynamicModification([new("n", "child", dependents=["a"])])

    async def stream(name: str, result: object) -> AsyncGenerator[Step]:
        yield new("child", "a", task=gate.wait, expander=before)
        await anyio.sleep_forever()

    async with DynamicExecutor(chain("a"), {"a": stream}).start({"a": noop}) as run:
        await passes()
        run.cancel_node("a")
        await passes()
        gate.set()
    result = await run.wait()
    error = result["child"].error
    assert isinstance(error, ModificationError)
    assert [fault.kind for fault in error.faults] == ["cycle"]
    assert result.dag.topological_order() == ["a", "child"]


# -- conditions and triggers


@both
@pytest.mark.parametrize("answer", [True, False, None], ids=["taken", "untaken", "broken"])
def test_a_condition_on_an_edge_from_the_expanding_node(
    execute: Way, make: Make, answer: bool | None
) -> None:
    """A condition on an edge from the node to a child is asked once, at landing, with the node's
    result; also of a child that still waits for others when the node has ended.
    """
    asked: list[object] = []

    def condition(value: object) -> bool:
        asked.append(value)
        if answer is None:
            raise OSError("no answer")
        return answer

    gate = anyio.Event()

    async def release() -> None:
        await passes()
        gate.set()

    def steps() -> Generator[Step]:
        yield new("gate", task=gate.wait)
        yield DynamicModification(
            [new("c", "gate")], add_edges=[Edge("a", "c", condition=condition)]
        )
        yield DynamicModification([new("d")], add_edges=[Edge("a", "d", condition=condition)])

    async def task() -> str:
        return "value"

    executor = DynamicExecutor(chain("a", "after"), {"a": make(steps)})
    result = execute(executor, {"a": task, "after": release})
    assert asked == ["value", "value"]
    assert statuses(result) == {
        "a": "COMPLETED",
        "gate": "COMPLETED",
        "c": "FAILED" if answer is None else "COMPLETED",
        "d": {True: "COMPLETED", False: "SKIPPED", None: "FAILED"}[answer],
        "after": "COMPLETED",
    }
    if answer is None:
        assert isinstance(result["d"].error, ConditionError)


@both
def test_triggers_of_children(execute: Way, make: Make) -> None:
    """An edge from the expanding node counts as met for a child's trigger."""
    began: list[str] = []

    def child(name: str) -> Callable[[], Any]:
        async def task() -> None:
            began.append(name)

        return task

    async def fails() -> None:
        raise OSError

    def steps() -> Generator[Step]:
        yield new("failed", "a", task=fails)
        yield new("never", "failed")
        for name, trigger in (
            ("any", any_succeeded),
            ("two", at_least(2)),
            ("half", at_least(0.5)),
            ("done", all_done),
        ):
            policy = NodePolicy(trigger=trigger)
            yield new(name, "a", "failed", task=child(name), policy=policy)

    result = execute(DynamicExecutor(chain("a"), {"a": make(steps)}), {"a": noop})
    assert {name: str(result[name].status) for name in ("any", "two", "half", "done", "never")} == {
        "any": "COMPLETED",
        "two": "SKIPPED",
        "half": "COMPLETED",
        "done": "COMPLETED",
        "never": "SKIPPED",
    }
    assert sorted(began) == ["any", "done", "half"]


# -- faults and exceptions in the middle


class Weird(BaseException):
    pass


@both
@pytest.mark.parametrize(
    "error",
    [OSError("broken"), Weird(), SystemExit(3), GeneratorExit(), asyncio.CancelledError()],
    ids=lambda error: type(error).__name__,
)
def test_a_generator_that_raises(execute: Way, make: Make, error: BaseException) -> None:
    """The node is FAILED with the exception, and the task's value in its result; what had landed
    finishes, dependents are skipped, everything else goes on.
    """
    steps = Closing(new("b", "a"), new("c", "b"), error, new("never"))
    dag = chain("a", "after").to_builder().add_node("other").build()
    executor = DynamicExecutor(dag, {"a": make(steps)})

    async def task() -> str:
        return "value"

    result = execute(executor, {"a": task, "after": noop, "other": noop})
    assert statuses(result) == {
        "a": "FAILED",
        "b": "COMPLETED",
        "c": "COMPLETED",
        "after": "SKIPPED",
        "other": "COMPLETED",
    }
    assert result["a"].error is error
    assert result["a"].result == "value"
    assert result["a"].reason == EXPANDER_FAILED
    assert steps.closed == [True]


@both
def test_a_step_that_is_refused(execute: Way, make: Make) -> None:
    """A fault in the middle: nothing of that step lands, what had landed stays, and the generator
    is closed at once.
    """
    steps = Closing(
        new("b", "a"), DynamicModification([new("good"), new("bad", "nowhere")]), new("never")
    )
    executor = DynamicExecutor(chain("a", "after"), {"a": make(steps)})
    result = execute(executor, {"a": noop, "after": noop})
    assert statuses(result) == {"a": "FAILED", "b": "COMPLETED", "after": "SKIPPED"}
    error = result["a"].error
    assert isinstance(error, ModificationError)
    assert error.by == "a"
    assert [(fault.kind, fault.node) for fault in error.faults] == [("unknown", "nowhere")]
    assert steps.closed == [True]


@both
@pytest.mark.parametrize(
    ("step", "what"),
    [
        ("b", "str: 'b'"),
        ([new("b")], "a list of 1 DynamicNodeSpec"),
        (False, "bool: False"),
        ({}, "dict: {}"),
    ],
    ids=["name", "list", "bool", "dict"],
)
def test_a_step_that_is_something_else(execute: Way, make: Make, step: Any, what: str) -> None:
    """E4: anything but specs, modifications and None is an `ExpansionError` that says what to
    yield.
    """
    steps = Closing(step)
    result = execute(DynamicExecutor(chain("a"), {"a": make(steps)}), {"a": noop})
    error = result["a"].error
    assert isinstance(error, ExpansionError)
    first, help = str(error).split("\n")
    assert first.startswith(f"the expander of node 'a' yielded {what}")
    assert help == (
        "  help: yield a dagron.DynamicNodeSpec, or a dagron.DynamicModification(add_nodes=[...])"
    )
    assert steps.closed == [True]


@both
def test_a_coroutine_as_a_step_is_closed(execute: Way, make: Make) -> None:
    """A coroutine that is yielded is no modification, and is not left to be collected."""

    def steps() -> Generator[Any]:
        yield noop()

    result = execute(DynamicExecutor(chain("a"), {"a": make(steps)}), {"a": noop})
    assert isinstance(result["a"].error, ExpansionError)
    assert "yielded coroutine" in str(result["a"].error)


@both
def test_a_generator_that_fails_in_its_closing(execute: Way, make: Make) -> None:
    """An exception from the closing of a node that fails changes nothing more."""

    def steps() -> Generator[Step]:
        yield new("b")
        try:
            yield new("bad", "nowhere")
        finally:
            raise OSError("closing")

    result = execute(DynamicExecutor(chain("a"), {"a": make(steps)}), {"a": noop})
    assert statuses(result) == {"a": "FAILED", "b": "COMPLETED"}
    assert isinstance(result["a"].error, OSError | ModificationError)


@both
def test_a_generator_that_does_not_want_to_end(execute: Way, make: Make) -> None:
    """A generator that yields in its closing fails its node, and hangs nothing."""

    def stubborn(name: str, result: object) -> Generator[Step]:
        try:
            yield new("bad", "nowhere")
        finally:
            yield new("more")

    async def stubborn_on_loop(name: str, result: object) -> AsyncGenerator[Step]:
        try:
            yield new("bad", "nowhere")
        finally:
            yield new("more")

    stream = stubborn if make is on_thread else stubborn_on_loop
    result = execute(DynamicExecutor(chain("a"), {"a": stream}), {"a": noop})
    assert statuses(result) == {"a": "FAILED"}
    assert "more" not in result


@both
def test_where_a_generator_is_closed(execute: Way, make: Make) -> None:
    """A generator is closed in the task, or in the thread, that ran it, whatever ends it."""
    where: list[tuple[int, object]] = []

    def here() -> None:
        task = None if make is on_thread else anyio.get_current_task().id
        where.append((threading.get_ident(), task))

    def steps() -> Generator[Step]:
        here()
        try:
            yield new("b")
            here()
            yield new("bad", "nowhere")
        finally:
            here()

    result = execute(DynamicExecutor(chain("a"), {"a": make(steps)}), {"a": noop})
    assert isinstance(result["a"].error, ModificationError)
    assert len(where) == 3
    assert len(set(where)) == 1


@both
@pytest.mark.parametrize("orphans", ["finish", "cancel"])
def test_orphans(execute: Way, make: Make, orphans: Any) -> None:
    """`NodePolicy(orphans=...)`: children that are unfinished when the node fails go on, or are
    cancelled, those that run and those that wait, with a reason that names the node; grandchildren
    are not its children.
    """
    started = threading.Event()
    gate = anyio.Event()

    async def child() -> None:
        started.set()
        if orphans == "finish":
            await gate.wait()
        else:
            await anyio.sleep_forever()

    def parent(name: str, result: object) -> DynamicModification:
        return DynamicModification([new("grandchild", task=gate.wait)])

    def steps() -> Generator[Step]:
        yield new("done", expander=parent)
        yield new("runs", "a", task=child)
        yield new("waits", "runs")
        raise OSError

    async def open_gate() -> None:
        await passes()
        gate.set()

    dag = graph(a=NodePolicy(orphans=orphans), late=NodePolicy(trigger=all_done))
    dag = dag.to_builder().add_edge("a", "late").build()
    executor = DynamicExecutor(dag, {"a": make(steps)})
    result = execute(executor, {"a": noop, "late": open_gate})
    runs = "COMPLETED" if orphans == "finish" else "CANCELLED"
    found = statuses(result)
    assert found["a"] == "FAILED"
    assert found["runs"] == found["waits"] == runs
    if orphans == "cancel":
        reason = "cancelled because 'a', which had added it, did not complete"
        assert result["runs"].reason == result["waits"].reason == reason
    assert found["late"] == "COMPLETED"


def test_orphans_of_a_node_that_completes(execute: Way) -> None:
    """A node that completes has no orphans: its children go on."""
    gate = anyio.Event()

    def expand(name: str, result: object) -> Generator[Step]:
        yield new("child", task=gate.wait)

    async def after() -> None:
        gate.set()

    dag = graph("a>after", a=NodePolicy(orphans="cancel"), after=None)
    result = execute(DynamicExecutor(dag, {"a": expand}), {"a": noop, "after": after})
    assert result.ok
    assert result["child"].status is NodeStatus.COMPLETED


@both
def test_the_first_failure_ends_the_run(execute: Way, make: Make) -> None:
    """With `on_failure="cancel"`, a stream that fails cancels the rest, its children too."""
    steps = Closing(new("b", task=anyio.sleep_forever), OSError("broken"))
    executor = DynamicExecutor(chain("a", "after"), {"a": make(steps)}, on_failure="cancel")
    result = execute(executor, {"a": noop, "after": noop})
    assert statuses(result) == {"a": "FAILED", "b": "CANCELLED", "after": "SKIPPED"}
    assert steps.closed == [True]


@both
def test_the_failure_of_a_child_ends_a_streaming_run(execute: Way, make: Make) -> None:
    """With `on_failure="cancel"`, a child that fails ends the stream, which is closed."""

    async def fails() -> None:
        raise OSError

    steps = Closing(new("b", task=fails), *[None] * 100_000)
    executor = DynamicExecutor(chain("a"), {"a": make(steps)}, on_failure="cancel")
    result = execute(executor, {"a": noop})
    assert statuses(result) == {"a": "CANCELLED", "b": "FAILED"}
    assert steps.closed == [True]


@both
@pytest.mark.parametrize("error", ["exception", "fault", "value", "none"])
async def test_a_kept_result_keeps_no_run_alive(make: Make, error: str) -> None:
    """The result of a run with streams, failed or not, keeps none of the run's state alive."""
    last: dict[str, Any] = {
        "exception": OSError("broken"),
        "fault": new("bad", "nowhere"),
        "value": 3,
        "none": None,
    }
    with new_objects_only() as alive:
        result = await run(
            chain("a"), {"a": noop}, {"a": make(Closing(new("b", "a"), last[error]))}
        )
        assert result.ok is (error == "none")
        assert alive() == []
