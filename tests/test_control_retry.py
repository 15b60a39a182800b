"""`Retry`: how often a task is tried, at which second, and what is told of it.

The clock of these tests jumps: a pause of an hour takes no time, and ends at the exact second.
"""

import threading
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import anyio
import pytest

from clocks import Stopwatch, stopwatch  # noqa: F401 (a fixture)
from clocks import virtual_backend as anyio_backend  # noqa: F401 (for anyio's plugin)
from controls import Failing, Flaky, Seconds, graph, texts
from dagron import (
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    Edge,
    Event,
    ExecutionResult,
    NodePolicy,
    NodeProgress,
    NodeRetrying,
    Retry,
    progress,
)
from ways import adding, nothing

HOUR = 3600.0
AT_ONCE = Retry(3, initial_delay=0)


async def run_one(
    task: Callable[..., Any], policy: NodePolicy | Retry | None, **options: Any
) -> tuple[ExecutionResult, list[Event]]:
    """Run a graph of the single node 'node' and return the result and all events."""
    events: list[Event] = []
    executor = DynamicExecutor(graph(node=policy), observers=[events.append], **options)
    return await executor.execute({"node": task}), events


# --- how often, and when -------------------------------------------------------------------------


async def test_the_waits_grow_by_the_factor_up_to_the_largest() -> None:
    """The wait after attempt n is `initial_delay * factor ** (n - 1)` seconds, at most `max_delay`,
    and exactly that with `jitter=0`.
    """
    flaky = Flaky(5)
    retry = Retry(6, initial_delay=2, factor=3, max_delay=20, jitter=0)
    result, _ = await run_one(flaky, retry)
    assert flaky.at == [0, 2, 2 + 6, 8 + 18, 26 + 20, 46 + 20]
    assert result["node"].result == "done"
    assert result["node"].attempts == 6


async def test_a_factor_of_one_waits_evenly() -> None:
    """With `factor=1` all waits are `initial_delay` long."""
    flaky = Flaky(3)
    await run_one(flaky, Retry(4, initial_delay=HOUR, max_delay=2 * HOUR, factor=1, jitter=0))
    assert flaky.at == [0, HOUR, 2 * HOUR, 3 * HOUR]


async def test_no_wait_at_all() -> None:
    """With `initial_delay=0` the next attempt comes at once, however large the factor."""
    flaky = Flaky(3)
    result, _ = await run_one(flaky, Retry(4, initial_delay=0, factor=1e308))
    assert flaky.at == [0, 0, 0, 0]
    assert result.ok


async def delays(name: str, retry: Retry) -> list[float]:
    """Return how long a node of this name waits that always fails, by its events."""
    events: list[Event] = []
    dag = graph(**{name: retry})
    task = Flaky(99)
    await DynamicExecutor(dag, observers=[events.append]).execute({name: task})
    told = [event.delay for event in events if isinstance(event, NodeRetrying)]
    waited = [after - before for before, after in pairwise(task.at)]
    assert waited == pytest.approx(told)
    return told


async def test_waits_with_a_seed_are_the_same_in_every_run() -> None:
    """With a `seed` a node waits as long in every run, and another node, or seed, differently; each
    wait is drawn anew, and the events tell how long it really is.
    """
    retry = Retry(5, initial_delay=16, factor=1, jitter=0.5, seed=42)
    told = await delays("a", retry)
    assert await delays("a", retry) == told
    assert all(8 <= delay <= 16 for delay in told)
    assert len(set(told)) == 4
    assert set(await delays("b", retry)).isdisjoint(told)
    other = Retry(5, initial_delay=16, factor=1, jitter=0.5, seed="other")
    assert set(await delays("a", other)).isdisjoint(told)


async def test_waits_without_a_seed_differ_from_run_to_run() -> None:
    """Without a `seed` nodes that failed together do not come back together."""
    retry = Retry(3, initial_delay=16)
    assert await delays("a", retry) != await delays("a", retry)


async def test_one_attempt_is_no_retry() -> None:
    """`Retry(1)` tries once: no pause and no `NodeRetrying`."""
    result, events = await run_one(task := Flaky(1), Retry(1))
    assert task.at == [0]
    assert (result["node"].attempts, texts(result["node"].errors)) == (1, ["attempt 1"])
    assert [event.kind for event in events if "retry" in event.kind] == []


# --- what is tried again -------------------------------------------------------------------------


class Unusual(BaseException):
    """What is no `Exception`."""


@pytest.mark.parametrize("on", [OSError, (KeyError, OSError), Exception])
async def test_exceptions_of_the_types_on_are_retried(on: Any) -> None:
    """`on` is a type or a tuple of types, whose subclasses count."""
    task = Flaky(2, ConnectionResetError)
    result, _ = await run_one(task, Retry(3, on, initial_delay=0))
    assert result["node"].result == "done"
    assert len(task.at) == 3


@pytest.mark.parametrize("on", [KeyError, (KeyError, TimeoutError), ()])
async def test_other_exceptions_are_not_retried(on: Any) -> None:
    """An exception that is not in `on` fails its node at the first attempt."""
    task = Flaky(1)
    result, _ = await run_one(task, Retry(3, on, initial_delay=0))
    assert len(task.at) == 1
    assert str(result["node"].status) == "FAILED"
    assert result["node"].attempts == 1


async def test_an_exception_that_is_not_in_on_ends_the_attempts() -> None:
    """What comes after a retried exception is judged by itself."""
    raised = [OSError("one"), OSError("two"), KeyError("three"), OSError("four")]

    async def task() -> None:
        raise raised.pop(0)

    result, _ = await run_one(task, Retry(9, OSError, initial_delay=0))
    assert [type(error) for error in result["node"].errors] == [OSError, OSError, KeyError]
    assert isinstance(result["node"].error, KeyError)
    assert result["node"].attempts == 3


@pytest.mark.parametrize("error", [SystemExit, GeneratorExit, Unusual])
@pytest.mark.parametrize("in_thread", [False, True], ids=["async", "sync"])
async def test_what_is_no_exception_is_never_retried(
    error: type[BaseException], in_thread: bool
) -> None:
    """A `BaseException` that is no `Exception` fails its node at once, and is in `errors`."""
    calls = []

    def sync() -> None:
        calls.append(1)
        raise error("attempt 1")

    task = sync if in_thread else Flaky(1, error)
    result, _ = await run_one(task, AT_ONCE)
    assert str(result["node"].status) == "FAILED"
    assert type(result["node"].error) is error
    assert result["node"].errors == (result["node"].error,)
    assert result["node"].attempts == 1
    assert len(calls) == in_thread


async def test_an_interrupt_is_never_retried() -> None:
    """KeyboardInterrupt in an attempt cancels the run and leaves `execute`, bare."""
    task = Flaky(1, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        await run_one(task, AT_ONCE)
    assert len(task.at) == 1


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_foreign_cancellation_is_never_retried() -> None:
    """A `CancelledError` that some library let escape fails the node; it is not tried again."""
    import asyncio

    task = Flaky(1, asyncio.CancelledError)
    result, _ = await run_one(task, AT_ONCE)
    assert len(task.at) == 1
    assert str(result["node"].status) == "FAILED"
    assert type(result["node"].error) is asyncio.CancelledError


async def test_a_group_of_exceptions_is_an_exception() -> None:
    """What a task group inside the task raises is retried as what it is: an ExceptionGroup."""
    attempts = []

    async def task() -> str:
        attempts.append(1)
        async with anyio.create_task_group() as group:
            if len(attempts) == 1:
                group.start_soon(Flaky(1))
        return "done"

    result, _ = await run_one(task, Retry(2, ExceptionGroup, initial_delay=0))
    assert result["node"].result == "done"
    assert isinstance(result["node"].errors[0], ExceptionGroup)


# --- sync tasks ----------------------------------------------------------------------------------


async def test_a_sync_task_is_retried_in_threads() -> None:
    """Every attempt at a sync task runs in a worker thread."""
    task = Failing(2)
    result, _ = await run_one(task, AT_ONCE)
    assert (result["node"].result, result["node"].attempts) == ("done", 3)
    assert texts(result["node"].errors) == ["attempt 1", "attempt 2"]
    assert threading.current_thread() not in task.threads


@pytest.mark.parametrize("on", [StopIteration, Exception])
async def test_a_sync_task_that_raises_stop_iteration(on: Any) -> None:
    """`StopIteration`, which no coroutine may raise, is retried and recorded as itself."""
    result, _ = await run_one(Failing(2, StopIteration), Retry(3, on, initial_delay=0))
    assert result["node"].result == "done"
    assert [type(error) for error in result["node"].errors] == [StopIteration] * 2
    result, events = await run_one(Failing(9, StopIteration), Retry(3, on, initial_delay=0))
    assert type(result["node"].error) is StopIteration
    assert [type(error) for error in result["node"].errors] == [StopIteration] * 3
    assert {e.error for e in events if isinstance(e, NodeRetrying)} == {
        "StopIteration: attempt 1",
        "StopIteration: attempt 2",
    }


async def test_a_sync_task_that_returns_an_awaitable() -> None:
    """Each attempt calls the sync callable anew, and awaits what it returns."""
    task = Flaky(2)
    calls = []

    def make() -> Awaitable[str]:
        calls.append(threading.current_thread())
        return task()

    result, _ = await run_one(make, Retry(3, initial_delay=4, factor=1, jitter=0))
    assert result["node"].result == "done"
    assert len(calls) == len(task.at) == 3
    assert texts(result["node"].errors) == ["attempt 1", "attempt 2"]


async def test_a_forgotten_await_is_retried_like_any_error() -> None:
    """An attempt whose value is a coroutine fails, and the next one counts."""
    tried = []

    async def inner() -> str:
        return "inner"

    async def task() -> Any:
        tried.append(1)
        return inner() if len(tried) == 1 else await inner()

    result, _ = await run_one(task, AT_ONCE)
    assert result["node"].result == "inner"
    assert [type(error).__name__ for error in result["node"].errors] == ["NotAwaitedError"]


# --- what is told of it --------------------------------------------------------------------------


async def test_all_attempts_used_up() -> None:
    """The node is FAILED with the last error; `errors` holds those of all attempts, in order."""
    result, _ = await run_one(Flaky(9), AT_ONCE)
    node = result["node"]
    assert (str(node.status), node.attempts) == ("FAILED", 3)
    assert texts(node.errors) == ["attempt 1", "attempt 2", "attempt 3"]
    assert node.error is node.errors[-1]


async def test_an_attempt_that_succeeds() -> None:
    """The node is COMPLETED without an error; `errors` holds those of the attempts before."""
    result, _ = await run_one(Flaky(2), AT_ONCE)
    node = result["node"]
    assert (str(node.status), node.attempts, node.error) == ("COMPLETED", 3, None)
    assert texts(node.errors) == ["attempt 1", "attempt 2"]
    assert result.ok


async def test_the_same_exception_every_time() -> None:
    """Attempts that raise one and the same exception object are as many errors as attempts."""
    error = OSError("the same")

    async def task() -> None:
        raise error

    result, _ = await run_one(task, AT_ONCE)
    assert result["node"].attempts == 3
    assert result["node"].errors == (error, error, error)


async def test_the_events_of_a_node_that_fails_and_succeeds() -> None:
    """A node starts once; every failed attempt that is followed by another is a `NodeRetrying` with
    its number, the wait and the error; `NodeCompleted` counts all attempts.
    """
    _, events = await run_one(Flaky(2), Retry(4, initial_delay=2, jitter=0))
    told = [event.as_dict() for event in events if "node" in event.as_dict()]
    assert [event["kind"] for event in told] == [
        "node_ready",
        "node_started",
        "node_retrying",
        "node_retrying",
        "node_completed",
    ]
    retrying = [(event["attempt"], event["delay"], event["error"]) for event in told[2:4]]
    assert retrying == [(1, 2, "OSError: attempt 1"), (2, 4, "OSError: attempt 2")]
    assert told[4]["attempts"] == 3


async def test_the_events_of_a_node_that_fails_for_good() -> None:
    """The last failure is a `NodeFailed` with the count of attempts and the last error."""
    _, events = await run_one(Flaky(9), AT_ONCE)
    assert [event.kind for event in events].count("node_retrying") == 2
    failed = next(event.as_dict() for event in events if event.kind == "node_failed")
    assert (failed["attempts"], failed["error"]) == (3, "OSError: attempt 3")


async def test_raise_for_failures_says_which_attempt_it_was() -> None:
    """E22: the note on the error counts the attempts."""
    result, _ = await run_one(Flaky(9), AT_ONCE)
    with pytest.raises(Exception, match="1 failed of 1 nodes") as caught:
        result.raise_for_failures()
    assert caught.value.__cause__ is result["node"].error
    assert caught.value.__cause__.__notes__ == ["in node 'node', attempt 3"]


async def test_an_error_whose_text_raises() -> None:
    """An exception whose `__str__` raises is retried and told of like another."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    result, events = await run_one(Flaky(1, Mute), AT_ONCE)
    assert result["node"].result == "done"
    told = next(event for event in events if isinstance(event, NodeRetrying))
    assert "its text cannot be shown" in told.error


async def test_an_observer_that_raises_changes_nothing() -> None:
    """An observer that raises at a `NodeRetrying` is dropped; the next attempt comes anyway."""

    def observe(event: Event) -> None:
        if isinstance(event, NodeRetrying):
            raise ValueError("observer")

    task = Flaky(2)
    executor = DynamicExecutor(graph(node=AT_ONCE), observers=[observe])
    result = await executor.execute({"node": task})
    assert result["node"].attempts == 3
    assert result.dropped_observers == 1


async def test_the_tracebacks_begin_with_the_users_code() -> None:
    """The traceback of every attempt's error begins in the task, not in dagron."""
    result, _ = await run_one(Flaky(9), AT_ONCE)
    for error in result["node"].errors:
        assert error.__traceback__ is not None
        assert error.__traceback__.tb_frame.f_code is Flaky.__call__.__code__
        assert error.__context__ is None


# --- durations -----------------------------------------------------------------------------------


async def test_a_duration_is_the_time_in_the_attempts(stopwatch: Stopwatch) -> None:  # noqa: F811
    """`duration_seconds` sums up the attempts, without the pauses and the expander, whether the
    node succeeds, fails, or its expander does.
    """

    def observe(event: Event) -> None:
        if isinstance(event, NodeRetrying):
            stopwatch.now += 1_000  # in the pause

    async def task() -> None:
        stopwatch.now += 5
        left.pop()
        if left:
            raise OSError

    async def expand(name: str, result: object) -> None:
        stopwatch.now += 100

    async def fail(name: str, result: object) -> None:
        stopwatch.now += 100
        raise ValueError

    for tries, expander in ((2, expand), (2, fail), (3, fail), (5, expand)):
        left = [1] * tries
        executor = DynamicExecutor(
            graph(node=Retry(3, initial_delay=2)), {"node": expander}, observers=[observe]
        )
        result = await executor.execute({"node": task})
        assert result["node"].attempts == min(tries, 3)
        assert result["node"].duration_seconds == 5 * min(tries, 3)


@pytest.mark.parametrize("error", [OSError, SystemExit, Unusual])
async def test_a_duration_counts_the_last_attempt(
    stopwatch: Stopwatch,  # noqa: F811
    error: type[BaseException],
) -> None:
    """The attempt that fails the node counts like those before it, whatever it raises."""
    raised = [OSError, error]

    async def task() -> None:
        stopwatch.now += 5
        raise raised.pop(0)

    result, _ = await run_one(task, Retry(2, initial_delay=0))
    assert result["node"].duration_seconds == 10


async def test_a_duration_of_a_node_that_is_cancelled(stopwatch: Stopwatch) -> None:  # noqa: F811
    """A node that is cancelled in a pause has spent the time of its attempts, not of the pause; one
    that is cancelled in an attempt, that of all attempts.
    """

    async def task() -> None:
        stopwatch.now += 5
        attempts.append(1)
        if len(attempts) < fails:
            raise OSError
        await anyio.sleep_forever()

    for fails, duration in ((9, 5), (1, 5), (2, 10)):
        attempts: list[int] = []
        executor = DynamicExecutor(graph(node=Retry(9, initial_delay=10, factor=1, jitter=0)))
        async with executor.start({"node": task}) as run:
            await anyio.sleep(5 if fails == 9 else 15)
            if fails == 9:
                stopwatch.now += 1_000
            run.cancel_node("node")
        result = await run.wait()
        assert str(result["node"].status) == "CANCELLED"
        assert result["node"].duration_seconds == duration


# --- the expander --------------------------------------------------------------------------------


@pytest.mark.parametrize("in_thread", [False, True], ids=["async", "sync"])
async def test_the_expander_is_called_once(in_thread: bool) -> None:
    """The expander runs once, after the attempt that succeeds."""
    task = Flaky(2)
    calls = []

    def expand(name: str, result: object) -> DynamicModification:
        calls.append((name, result, len(task.at)))
        return DynamicModification([DynamicNodeSpec("new", nothing, [name])])

    async def expand_async(name: str, result: object) -> DynamicModification:
        return expand(name, result)

    expander = expand if in_thread else expand_async
    executor = DynamicExecutor(graph(node=AT_ONCE), {"node": expander})
    result = await executor.execute({"node": task})
    assert calls == [("node", "done", 3)]
    assert result.succeeded == 2


async def test_a_failing_expander_is_not_retried() -> None:
    """What the expander raises fails its node: neither it nor the task is called again."""
    task = Flaky(1)
    calls = []

    async def expand(name: str, result: object) -> None:
        calls.append(name)
        raise OSError("in the expander")

    executor = DynamicExecutor(graph("node>after", node=AT_ONCE), {"node": expand})
    result = await executor.execute({"node": task, "after": nothing})
    assert (len(task.at), calls) == (2, ["node"])
    node = result["node"]
    assert (str(node.status), node.attempts, node.result) == ("FAILED", 2, "done")
    assert str(node.error) == "in the expander"
    assert texts(node.errors) == ["attempt 1"]
    assert str(result["after"].status) == "SKIPPED"


# --- around it ----------------------------------------------------------------------------------


async def test_dependents_wait_for_the_attempt_that_succeeds() -> None:
    """What depends on the node starts after its last attempt, with that one's value."""
    task = Flaky(2)
    now = Seconds()
    seen = []

    async def after(node: str) -> None:
        seen.append((node, len(task.at), now()))

    dag = graph("node>after", node=Retry(3, initial_delay=2, jitter=0), after=None)
    await DynamicExecutor(dag).execute({"node": task, "after": after})
    assert seen == [("done", 3, 6)]


async def test_every_attempt_gets_inputs_of_its_own() -> None:
    """An attempt that spoils its `inputs` does not spoil the next one's."""
    seen = []

    async def task(inputs: dict[str, Any]) -> None:
        seen.append(dict(inputs))
        inputs.clear()
        if len(seen) < 2:
            raise OSError

    dag = graph("a>node b>node", node=AT_ONCE)
    result = await DynamicExecutor(dag).execute({"a": lambda: 1, "b": lambda: 2, "node": task})
    assert result.ok
    assert seen == [{"a": 1, "b": 2}] * 2


async def test_every_attempt_runs_in_the_context_of_the_node() -> None:
    """`dagron.progress` in a later attempt is the node's."""

    async def task() -> None:
        progress(len(tried))
        tried.append(1)
        if len(tried) < 3:
            raise OSError

    tried: list[int] = []
    _, events = await run_one(task, AT_ONCE)
    told = [event.done for event in events if isinstance(event, NodeProgress)]
    assert told == [0, 1, 2]


# --- where the policy comes from -----------------------------------------------------------------


async def test_the_executors_policy_retries_all_nodes_but_those_that_say_otherwise() -> None:
    """`policy=` on the executor holds for nodes without one, for those whose own says nothing of
    it, and for nodes added later; `retry=None` switches it off.
    """
    tasks = {name: Flaky(1) for name in ("plain", "other", "off")}
    new = Flaky(1)
    dag = graph(plain=None, other=NodePolicy(timeout=9), off=NodePolicy(retry=None))
    executor = DynamicExecutor(
        dag,
        {"plain": adding(DynamicNodeSpec("new", new))},
        policy=NodePolicy(retry=AT_ONCE),
    )
    result = await executor.execute(tasks)
    assert {name: result[name].attempts for name in result} == {
        "plain": 2,
        "new": 2,
        "other": 2,
        "off": 1,
    }
    assert [name for name in result if result[name].error] == ["off"]


async def test_a_node_added_at_run_time_combines_with_all_the_rest() -> None:
    """A node that an expander adds, with a retry, in a group, behind a condition, in a run whose
    caller is cancelled in its pause: it ends like any other.
    """
    tried: list[int] = []

    async def flaky() -> None:
        tried.append(1)
        raise OSError

    async def expand(name: str, result: object) -> DynamicModification:
        policy = NodePolicy(retry=Retry(5, initial_delay=10, jitter=0), group="g")
        return DynamicModification(
            [DynamicNodeSpec("new", flaky, policy=policy), DynamicNodeSpec("never", nothing)],
            add_edges=[
                Edge(name, "new", condition=lambda result: True),
                Edge(name, "never", condition=lambda result: False),
            ],
        )

    events: list[Event] = []
    executor = DynamicExecutor(
        graph(grow=None), {"grow": expand}, limits={"g": 1}, observers=[events.append]
    )
    with anyio.move_on_after(15) as scope:
        await executor.execute({"grow": anyio.lowlevel.checkpoint})
    assert scope.cancelled_caught
    assert len(tried) == 2
    ends = {e.as_dict().get("node"): e.kind for e in events}
    assert (ends["grow"], ends["new"], ends["never"]) == (
        "node_completed",
        "node_cancelled",
        "node_skipped",
    )
