"""A node's timeout: what is cancelled at which second, of each attempt, and of the expander.

The clock of these tests jumps to the next timer, or stands still until the test moves it.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from clocks import MANUAL, advance
from clocks import virtual_backend as anyio_backend  # noqa: F401 (for anyio's plugin)
from controls import Seconds, graph, statuses
from dagron import (
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    Event,
    NodePolicy,
    NodeResult,
    NodeRetrying,
    NodeTimeoutError,
    Retry,
)
from ways import adding, nothing, passes

TWO = NodePolicy(timeout=2)


async def run_one(
    task: Callable[..., Any], policy: NodePolicy | None = TWO, **options: Any
) -> NodeResult:
    """Run a graph of the single node 'node' and return what became of it."""
    result = await DynamicExecutor(graph(node=policy), **options).execute({"node": task})
    return result["node"]


def sleeping(seconds: float, value: object = None) -> Callable[[], Awaitable[object]]:
    """Return an async task of this length."""

    async def sleep() -> object:
        await anyio.sleep(seconds)
        return value

    return sleep


# --- async tasks ---------------------------------------------------------------------------------


async def test_an_async_task_that_is_out_of_time() -> None:
    """The task is cancelled at its deadline, cleans up, and its node is FAILED with
    `NodeTimeoutError`, which is a `TimeoutError` and says whose it is.
    """
    now = Seconds()
    cleaned = []

    async def task() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cleaned.append(now())

    node = await run_one(task)
    assert (str(node.status), node.attempts, node.result) == ("FAILED", 1, None)
    assert cleaned == [2]
    error = node.error
    assert isinstance(error, NodeTimeoutError)
    assert isinstance(error, TimeoutError)
    assert (error.node, error.timeout) == ("node", 2)
    assert node.errors == (error,)
    assert str(error) == (
        "node 'node' took longer than its timeout of 2 s\n"
        "  help: give it a longer NodePolicy(timeout=...), or none"
    )


async def test_a_task_that_is_in_time() -> None:
    """A task that ends before its deadline is not touched by it."""
    assert (await run_one(sleeping(1.999, "value"))).result == "value"


async def test_a_task_that_ends_late_without_having_yielded() -> None:
    """A task that goes past its deadline without awaiting anything is COMPLETED with its value, and
    one that raises then is FAILED with what it raised.
    """

    async def late() -> str:
        await checkpoint()
        advance(10)
        return "late"

    async def broken() -> str:
        advance(10)
        raise ValueError("late")

    events: list[Event] = []
    node = await run_one(late, observers=[events.append])
    assert (str(node.status), node.result) == ("COMPLETED", "late")
    assert [e.kind for e in events if e.kind.startswith("node_")][2:] == ["node_completed"]
    assert type((await run_one(broken)).error) is ValueError


async def test_a_task_that_shields_itself_past_its_deadline() -> None:
    """A shielded task is not cancelled; it has not yielded since, and is COMPLETED."""

    async def task() -> str:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(5)
        return "done"

    assert (await run_one(task)).result == "done"


async def test_what_a_task_has_started_ends_with_it() -> None:
    """The tasks of a task group inside the node are cancelled with it, and end before it does."""
    now = Seconds()
    ended = []

    async def child() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(now())

    async def task() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(child)
            group.start_soon(child)

    assert isinstance((await run_one(task)).error, NodeTimeoutError)
    assert ended == [2, 2]


async def test_a_nested_run_ends_with_the_node() -> None:
    """A run inside the node is cancelled with it, and the error is the outer node's."""
    inner: list[Event] = []

    async def task() -> None:
        executor = DynamicExecutor(graph(inner=None), observers=[inner.append])
        await executor.execute({"inner": anyio.sleep_forever})

    error = (await run_one(task)).error
    assert isinstance(error, NodeTimeoutError)
    assert error.node == "node"
    assert [event.kind for event in inner][-2:] == ["node_cancelled", "run_finished"]


async def test_the_tasks_own_time_limits_are_its_own() -> None:
    """`fail_after` and `move_on_after` inside the task work as ever, below the node's timeout."""

    async def moves_on() -> str:
        with anyio.move_on_after(1):
            await anyio.sleep_forever()
        return "went on"

    async def fails() -> None:
        with anyio.fail_after(1):
            await anyio.sleep_forever()

    assert (await run_one(moves_on)).result == "went on"
    assert type((await run_one(fails)).error) is TimeoutError


async def test_waiting_for_a_slot_does_not_count() -> None:
    """The time begins when the task does: a node that waited in line for long has all of it."""
    names = [f"n{i}" for i in range(5)]
    dag = graph(**dict.fromkeys(names, TWO))
    tasks = dict.fromkeys(names, sleeping(1.5))
    now = Seconds()
    result = await DynamicExecutor(dag, max_concurrency=1).execute(tasks)
    assert result.ok
    assert now() == 7.5


async def test_what_follows_from_a_timeout() -> None:
    """A timeout is a failure: dependents are skipped, other nodes finish."""
    dag = graph("late>after", late=TWO, other=None)
    executor = DynamicExecutor(dag)
    tasks = {"late": anyio.sleep_forever, "after": nothing, "other": sleeping(5)}
    assert statuses(await executor.execute(tasks)) == {
        "late": "FAILED",
        "after": "SKIPPED",
        "other": "COMPLETED",
    }


async def test_a_timeout_is_the_first_failure() -> None:
    """With `on_failure="cancel"` a node that is out of time ends the run."""
    now = Seconds()
    executor = DynamicExecutor(graph(late=TWO, other=None), on_failure="cancel")
    result = await executor.execute({"late": anyio.sleep_forever, "other": anyio.sleep_forever})
    assert statuses(result) == {"late": "FAILED", "other": "CANCELLED"}
    assert result.reason == "the run was ended because 'late' failed"
    assert now() == 2


async def test_many_nodes_are_out_of_time_at_once() -> None:
    """A thousand nodes whose deadlines coincide all fail, at that second, with one end each."""
    now = Seconds()
    names = [f"n{i}" for i in range(1_000)]
    events: list[Event] = []
    executor = DynamicExecutor(
        graph(**dict.fromkeys(names, TWO)), observers=[events.append], policy=TWO
    )
    result = await executor.execute(dict.fromkeys(names, anyio.sleep_forever))
    assert result.failed == 1_000
    assert now() == 2
    assert [event.kind for event in events].count("node_failed") == 1_000


# --- each attempt --------------------------------------------------------------------------------


@pytest.mark.parametrize("on", [Exception, TimeoutError, NodeTimeoutError])
async def test_every_attempt_has_the_whole_time(on: Any) -> None:
    """With a retry the timeout is each attempt's own, and a timeout is a reason to try again."""
    now = Seconds()
    at = []

    async def task() -> str:
        at.append(now())
        await anyio.sleep(1.5 if len(at) == 3 else 9)
        return "done"

    retry = Retry(3, on, initial_delay=3, factor=1, jitter=0)
    events: list[Event] = []
    node = await run_one(task, NodePolicy(timeout=2, retry=retry), observers=[events.append])
    assert (node.result, node.attempts) == ("done", 3)
    assert at == [0, 5, 10]
    assert [type(error) for error in node.errors] == [NodeTimeoutError, NodeTimeoutError]
    told = [event.error for event in events if isinstance(event, NodeRetrying)]
    assert all("took longer than its timeout of 2 s" in text for text in told)
    assert len(told) == 2


async def test_a_timeout_that_is_not_in_on_is_not_retried() -> None:
    """`on=ValueError` does not mean timeouts."""
    node = await run_one(
        anyio.sleep_forever, NodePolicy(timeout=2, retry=Retry(3, ValueError, initial_delay=0))
    )
    assert node.attempts == 1
    assert isinstance(node.error, NodeTimeoutError)


# --- the expander --------------------------------------------------------------------------------


async def test_the_expander_has_a_time_of_its_own() -> None:
    """The timeout is again the expander's one call: not what the task has left of it."""
    now = Seconds()

    async def expand(name: str, result: object) -> None:
        await anyio.sleep(1.5)

    executor = DynamicExecutor(graph(node=TWO), {"node": expand})
    assert (await executor.execute({"node": sleeping(1.5)})).ok
    assert now() == 3


async def test_an_expander_that_is_out_of_time() -> None:
    """It is cancelled; its node is FAILED with `NodeTimeoutError`, keeps its value, adds nothing,
    and is not tried again.
    """
    now = Seconds()
    calls = []

    async def expand(name: str, result: object) -> DynamicModification:
        calls.append((name, result))
        await anyio.sleep(5)
        return DynamicModification([DynamicNodeSpec("new", nothing)])

    policy = NodePolicy(timeout=2, retry=Retry(3, initial_delay=0))
    executor = DynamicExecutor(graph("node>after", node=policy), {"node": expand})
    result = await executor.execute({"node": sleeping(1.5, "value"), "after": nothing})
    assert statuses(result) == {"node": "FAILED", "after": "SKIPPED"}
    assert (result["node"].result, result["node"].reason) == ("value", "its expander failed")
    assert isinstance(result["node"].error, NodeTimeoutError)
    assert str(result["node"].error).startswith(
        "the expander of node 'node' took longer than its timeout of 2 s\n  help: "
    )
    assert calls == [("node", "value")]
    assert now() == 3.5


# --- sync tasks that return an awaitable ---------------------------------------------------------


@MANUAL
@pytest.mark.parametrize("seconds", [0.4, 0.6])
async def test_the_time_of_a_sync_task_goes_on_in_what_it_returns(seconds: float) -> None:
    """Call and awaitable of a sync task are one attempt, with one deadline."""

    async def go_on() -> str:
        await passes(3)
        advance(seconds)
        await passes(3)
        return "done"

    def make() -> Awaitable[str]:
        anyio.from_thread.run_sync(advance, 1.5)
        return go_on()

    node = await run_one(make)
    if seconds < 0.5:
        assert node.result == "done"
    else:
        assert isinstance(node.error, NodeTimeoutError)


# --- whose timeout -------------------------------------------------------------------------------


async def test_the_executors_timeout_is_for_nodes_that_say_nothing() -> None:
    """`policy=` on the executor gives a timeout to nodes without a policy, to those whose own says
    nothing of it, and to nodes added later; `timeout=None` switches it off, a number replaces it.
    """
    now = Seconds()
    ends: dict[str, float] = {}

    def observe(event: Event) -> None:
        if event.kind in ("node_failed", "node_completed"):
            ends[event.as_dict()["node"]] = now()

    dag = graph(
        plain=None,
        other=NodePolicy(priority=3),
        off=NodePolicy(timeout=None),
        longer=NodePolicy(timeout=5),
        grow=NodePolicy(timeout=None),
    )
    new = [
        DynamicNodeSpec("new", sleeping(9)),
        DynamicNodeSpec("new_off", sleeping(9), policy=NodePolicy(timeout=None)),
        DynamicNodeSpec("new_longer", sleeping(9), policy=NodePolicy(timeout=5)),
    ]

    async def grow(name: str, result: object) -> DynamicModification:
        return DynamicModification(new)

    executor = DynamicExecutor(dag, {"grow": grow}, policy=TWO, observers=[observe])
    tasks = dict.fromkeys(("plain", "other", "off", "longer"), sleeping(9))
    result = await executor.execute({**tasks, "grow": sleeping(1)})
    expected = {"plain": 2, "other": 2, "off": 9, "longer": 5, "grow": 1}
    assert ends == {**expected, "new": 3, "new_off": 10, "new_longer": 6}
    assert (result.failed, result.succeeded) == (5, 3)


async def test_nodes_added_at_run_time_have_their_timeouts() -> None:
    """A node that an expander adds with a policy of its own is held to it, after its own start."""
    now = Seconds()
    spec = DynamicNodeSpec("new", anyio.sleep_forever, policy=TWO)
    executor = DynamicExecutor(graph(grow=None), {"grow": adding(spec)})
    result = await executor.execute({"grow": sleeping(3)})
    assert isinstance(result["new"].error, NodeTimeoutError)
    assert now() == 5


# --- together with other ends --------------------------------------------------------------------


async def test_the_callers_cancellation_is_no_timeout() -> None:
    """A caller that is cancelled in the same instant gets its cancellation, and nothing is left."""
    events: list[Event] = []
    executor = DynamicExecutor(graph(node=TWO), observers=[events.append])
    with anyio.move_on_after(2) as scope:
        await executor.execute({"node": anyio.sleep_forever})
        await anyio.sleep_forever()
    assert scope.cancelled_caught
    ends = [e.kind for e in events if e.kind in ("node_failed", "node_cancelled")]
    assert len(ends) == 1


async def test_the_runs_timeout_and_the_nodes_in_the_same_instant() -> None:
    """Each node has one end, FAILED or CANCELLED, and the result says that time was over."""
    events: list[Event] = []
    names = [f"n{i}" for i in range(20)]
    executor = DynamicExecutor(
        graph(**dict.fromkeys(names, TWO)), observers=[events.append], max_concurrency=10
    )
    result = await executor.execute(dict.fromkeys(names, anyio.sleep_forever), timeout=2)
    assert result.failed + result.cancelled == 20
    assert not result.ok
    ends = [e.as_dict()["node"] for e in events if e.kind in ("node_failed", "node_cancelled")]
    assert sorted(ends) == sorted(names)


async def test_a_node_that_is_cancelled_before_its_deadline() -> None:
    """Cancelling the node on its own makes it CANCELLED, not out of time."""
    async with DynamicExecutor(graph(node=TWO)).start({"node": anyio.sleep_forever}) as run:
        await anyio.sleep(1)
        run.cancel_node("node")
    result = await run.wait()
    assert statuses(result) == {"node": "CANCELLED"}
    assert result["node"].error is None
