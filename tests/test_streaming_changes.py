"""What later steps of a generator change, and how a streaming node is cancelled."""

import threading
from collections.abc import AsyncGenerator, Generator

import anyio
import pytest

from controls import graph, statuses
from dagron import DynamicExecutor, DynamicModification, NodePolicy
from faults import run
from streams import Make, Step, both, new, noop, on_thread
from ways import GUARD, Way, chain, passes

# -- changes by later steps


@both
def test_later_steps_remove_what_earlier_ones_added(execute: Way, make: Make) -> None:
    """A step may remove waiting nodes of earlier ones, and edges, and add edges between them."""

    async def ordered(inputs: dict[str, object]) -> list[str]:
        return [*inputs]

    gate = anyio.Event()

    async def release() -> None:
        await passes()
        gate.set()

    def steps() -> Generator[Step]:
        yield DynamicModification(
            [
                new("gate", task=gate.wait),
                new("b", "gate"),
                new("c", "gate", "b", task=ordered),
                new("d", "gate", task=ordered),
            ]
        )
        yield DynamicModification(remove_nodes=["b"])
        yield DynamicModification(remove_edges=[("gate", "c")], add_edges=[("d", "c")])
        yield DynamicModification(cancel_nodes=["b"])

    executor = DynamicExecutor(chain("a", "after"), {"a": make(steps)})
    result = execute(executor, {"a": noop, "after": release})
    assert result.ok
    assert result.removed == ("b",)
    assert result["c"].result == ["d"]
    assert result["d"].result == ["gate"]


@both
def test_a_step_cancels_a_child_that_runs(execute: Way, make: Make) -> None:
    """A step may cancel a running child; what depends on it is skipped."""
    began = threading.Event()

    async def child() -> None:
        began.set()
        await anyio.sleep_forever()

    async def on_loop_stream(name: str, result: object) -> AsyncGenerator[Step]:
        yield new("child", task=child)
        yield new("after child", "child")
        await passes()
        assert began.is_set()
        yield DynamicModification(cancel_nodes=["child"])

    def on_thread_stream(name: str, result: object) -> Generator[Step]:
        yield new("child", task=child)
        yield new("after child", "child")
        assert began.wait(GUARD)
        yield DynamicModification(cancel_nodes=["child"])

    stream = on_thread_stream if make is on_thread else on_loop_stream
    result = execute(DynamicExecutor(chain("a"), {"a": stream}), {"a": noop})
    assert result.ok
    assert statuses(result) == {"a": "COMPLETED", "child": "CANCELLED", "after child": "SKIPPED"}


@both
@pytest.mark.parametrize("by", ["child", "program"])
async def test_a_streaming_node_that_is_cancelled(make: Make, by: str) -> None:
    """A child's expander, or the program, may cancel the node: the generator is closed, nothing
    more of it lands, and what had landed goes on.
    """
    landed: list[str] = []
    closed: list[bool] = []
    started = anyio.Event()

    def cancel(name: str, result: object) -> DynamicModification | None:
        return DynamicModification(cancel_nodes=["a"]) if by == "child" else None

    async def child() -> None:
        started.set()
        await passes()

    def steps() -> Generator[Step]:
        try:
            yield new("child", task=child, expander=cancel)
            for number in range(1_000_000):
                yield DynamicModification()
                landed.append(str(number))
        finally:
            closed.append(True)

    with anyio.fail_after(GUARD):
        executor = DynamicExecutor(chain("a", "after"), {"a": make(steps)})
        async with executor.start({"a": noop, "after": noop}) as run:
            await started.wait()
            if by == "program":
                run.cancel_node("a")
    result = await run.wait()
    assert result.ok
    assert statuses(result) == {"a": "CANCELLED", "child": "COMPLETED", "after": "SKIPPED"}
    assert closed == [True]


async def test_a_generator_that_cancels_its_own_node() -> None:
    """Nothing lands of a node that is cancelled, not even the step that it was just making."""

    async def stream(name: str, result: object) -> AsyncGenerator[Step]:
        yield new("b")
        run.cancel_node("a")
        yield new("c")

    async with DynamicExecutor(chain("a"), {"a": stream}).start({"a": noop}) as run:
        pass
    assert statuses(await run.wait()) == {"a": "CANCELLED", "b": "COMPLETED"}


# -- the loop


async def test_a_generator_that_never_waits_lets_others_have_their_turn() -> None:
    """An async generator that never awaits keeps neither its children nor the program from
    running.
    """
    ran: list[str] = []

    async def child() -> None:
        ran.append("child")

    async def stream(name: str, result: object) -> AsyncGenerator[Step]:
        yield new("child", task=child)
        count = 0
        while not ran:
            count += 1
            assert count < 1_000
            yield None

    assert (await run(chain("a"), {"a": noop}, {"a": stream})).ok


async def test_a_scope_around_a_yield() -> None:
    """A shield that a generator holds across a yield does not keep the run from ending."""

    async def stream(name: str, result: object) -> AsyncGenerator[Step]:
        with anyio.CancelScope(shield=True):
            yield new("b", task=anyio.sleep_forever)
            yield new("c", task=anyio.sleep_forever)
            yield new("d", task=anyio.sleep_forever)

    dag = graph(a=NodePolicy(window=2))
    with anyio.fail_after(GUARD):
        async with DynamicExecutor(dag, {"a": stream}).start({"a": noop}) as run:
            await passes()
            run.cancel("enough")
    assert statuses(await run.wait()) == dict.fromkeys("abc", "CANCELLED")
