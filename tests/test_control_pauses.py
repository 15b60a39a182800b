"""Between attempts a node holds no slot, goes first afterwards, and may be cancelled at once."""

import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest

from clocks import MANUAL, advance, reached
from clocks import virtual_backend as anyio_backend  # noqa: F401 (for anyio's plugin)
from controls import Failing, Flaky, Seconds, graph, texts
from dagron import (
    DynamicExecutor,
    DynamicModification,
    Event,
    ExecutionResult,
    NodePolicy,
    Retry,
)
from faults import Canary, new_objects_only
from ways import GUARD, Inside, nothing, passes

HOUR = 3600.0
AT_ONCE = Retry(3, initial_delay=0)


# --- what it holds, and who waits meanwhile ------------------------------------------------------


class Log:
    """Async tasks, of one second each unless they say otherwise, that note their start."""

    def __init__(self) -> None:
        self.starts: list[tuple[str, float]] = []
        self.inside = Inside()
        self._now = Seconds()

    def note(self, name: str) -> None:
        self.starts.append((name, self._now()))

    def task(
        self, name: str, failures: int = 0, seconds: float = 1
    ) -> Callable[[], Awaitable[str]]:
        left = [OSError(name)] * failures

        async def task() -> str:
            self.note(name)
            with self.inside:
                await anyio.sleep(seconds)
            if left:
                raise left.pop()
            return name

        return task


BOUNDS = pytest.mark.parametrize(
    "bound",
    [{"max_concurrency": 1}, {"limits": {"g": 1}}, {"limits": {"g": 1, "h": 1}}],
    ids=["max_concurrency", "group", "two groups"],
)


@BOUNDS
async def test_a_pausing_node_holds_no_slot_and_goes_first_afterwards(
    bound: dict[str, Any],
) -> None:
    """Between attempts other nodes have the only slot; when the pause is over the node is the next
    to have it, before nodes that are ready since long before, whatever their priority.
    """
    log = Log()
    group = tuple(bound.get("limits", ()))
    retry = Retry(2, initial_delay=1.5, jitter=0)
    policies = {"flaky": NodePolicy(retry=retry, group=group, priority=9)}
    policies |= {f"n{i}": NodePolicy(group=group, priority=i % 2) for i in range(4)}
    tasks = {name: log.task(name, int(name == "flaky")) for name in policies}
    result = await DynamicExecutor(graph(**policies), **bound).execute(tasks)
    assert result.ok
    assert log.inside.most == 1
    names = ["flaky", "n1", "n3", "flaky", "n0", "n2"]
    assert log.starts == [(name, second) for second, name in enumerate(names)]


async def test_a_pausing_node_waits_for_each_of_its_groups() -> None:
    """A node of two groups goes on when it has a slot of each; until then it holds none of either,
    so that others of those groups run.
    """
    log = Log()
    policies = {
        "flaky": NodePolicy(retry=Retry(2, initial_delay=0.5, jitter=0), group=("g", "h")),
        "g0": NodePolicy(group="g"),
        "h0": NodePolicy(group="h"),
        "h1": NodePolicy(group="h"),
        "g1": NodePolicy(group="g"),
    }
    seconds = {"flaky": 1, "g0": 2, "h0": 1, "h1": 0.5, "g1": 1}
    tasks = {name: log.task(name, int(name == "flaky"), seconds[name]) for name in policies}
    await DynamicExecutor(graph(**policies), limits={"g": 1, "h": 1}).execute(tasks)
    starts = [("flaky", 0), ("g0", 1), ("h0", 1), ("h1", 2), ("flaky", 3), ("g1", 4)]
    assert sorted(log.starts, key=lambda start: (start[1], start[0])) == starts


async def test_many_pausing_nodes_share_one_place() -> None:
    """Fifty nodes that all fail once at `max_concurrency=1`: all succeed, one at a time, and none
    waits while the place is free.
    """
    log = Log()
    names = [f"n{i}" for i in range(50)]
    dag = graph(**dict.fromkeys(names, Retry(2, initial_delay=0.5, jitter=0)))
    executor = DynamicExecutor(dag, max_concurrency=1)
    result = await executor.execute({name: log.task(name, 1) for name in names})
    assert result.succeeded == 50
    assert log.inside.most == 1
    assert [second for _, second in log.starts] == list(range(100))


@MANUAL
async def test_a_pausing_sync_node_holds_no_worker() -> None:
    """At `max_workers=1` other sync nodes run in the pause, and none of those that are ready starts
    before the node has had its next attempt.
    """
    order: list[str] = []
    inside = Inside()

    def work(name: str) -> str:
        order.append(name)
        with inside:
            if name == "n1":  # in the pause, which ends while this node is at work
                anyio.from_thread.run_sync(advance, 60)
                anyio.from_thread.run(passes)
            if order.count("flaky") == 1 and name == "flaky":
                raise OSError
        return name

    retry = Retry(2, initial_delay=30, jitter=0)
    names = ["flaky", "n0", "n1", "n2", "n3"]
    tasks = {name: lambda name=name: work(name) for name in names}
    dag = graph(**{name: retry if name == "flaky" else None for name in names})
    result = await DynamicExecutor(dag, max_workers=1).execute(tasks)
    assert result.ok
    assert order == ["flaky", "n0", "n1", "flaky", "n2", "n3"]
    assert inside.most == 1


# --- cancelled in a pause ------------------------------------------------------------------------


async def end_by_timeout(executor: DynamicExecutor, tasks: dict[str, Any]) -> ExecutionResult:
    return await executor.execute(tasks, timeout=5)


async def end_by_handle(executor: DynamicExecutor, tasks: dict[str, Any]) -> ExecutionResult:
    async with executor.start(tasks) as run:
        await anyio.sleep(5)
        run.cancel("enough")
    return await run.wait()


async def end_the_node(executor: DynamicExecutor, tasks: dict[str, Any]) -> ExecutionResult:
    async with executor.start(tasks) as run:
        await anyio.sleep(5)
        run.cancel_node("flaky")
    return await run.wait()


async def end_by_modification(executor: DynamicExecutor, tasks: dict[str, Any]) -> ExecutionResult:
    async with executor.start(tasks) as run:
        await anyio.sleep(5)
        await run.modify(DynamicModification(cancel_nodes=["flaky"]))
    return await run.wait()


async def end_by_failure(executor: DynamicExecutor, tasks: dict[str, Any]) -> ExecutionResult:
    async def fail() -> None:
        await anyio.sleep(5)
        raise ValueError

    return await executor.execute({**tasks, "other": fail})


ENDS = pytest.mark.parametrize(
    "end", [end_by_timeout, end_by_handle, end_the_node, end_by_modification, end_by_failure]
)


@ENDS
@pytest.mark.parametrize("bound", [{}, {"max_concurrency": 1}, {"limits": {"g": 1}}], ids=str)
async def test_a_node_that_is_cancelled_in_a_pause(
    end: Callable[..., Awaitable[ExecutionResult]], bound: dict[str, Any]
) -> None:
    """The node is CANCELLED at once, with the attempts that it had, and is never tried again; its
    dependents are not run.
    """
    began = anyio.current_time()
    task = Flaky(9)
    policy = NodePolicy(
        retry=Retry(9, initial_delay=HOUR, jitter=0), group=tuple(bound.get("limits", ()))
    )
    dag = graph("flaky>after", flaky=policy, other=None)
    executor = DynamicExecutor(dag, on_failure="cancel", **bound)
    tasks = {"flaky": task, "after": nothing, "other": lambda: None}
    result = await end(executor, tasks)
    node = result["flaky"]
    assert (str(node.status), node.attempts) == ("CANCELLED", 1)
    assert (node.error, texts(node.errors)) == (None, ["attempt 1"])
    assert str(result["after"].status) in ("SKIPPED", "CANCELLED")
    assert len(task.at) == 1
    assert anyio.current_time() - began == 5


@pytest.mark.parametrize("bound", [{}, {"max_concurrency": 1}], ids=str)
async def test_a_caller_that_is_cancelled_in_a_pause(bound: dict[str, Any]) -> None:
    """`execute` raises at once, and no attempt is made."""
    began = anyio.current_time()
    task = Flaky(9)
    with anyio.move_on_after(5) as scope:
        executor = DynamicExecutor(graph(node=Retry(9, initial_delay=HOUR, jitter=0)), **bound)
        await executor.execute({"node": task})
    assert scope.cancelled_caught
    assert anyio.current_time() - began == 5
    await anyio.sleep(2 * HOUR)
    assert len(task.at) == 1


@pytest.mark.parametrize("end", [end_by_timeout, end_by_handle, end_by_failure, end_the_node, None])
async def test_a_node_that_is_cancelled_while_it_waits_for_a_slot(
    end: Callable[..., Awaitable[ExecutionResult]] | None,
) -> None:
    """After its pause a node waits for the only place, and is cancelled: no attempt starts."""
    task = Flaky(9)

    async def hold() -> None:
        await anyio.sleep(50)

    dag = graph(flaky=Retry(9, initial_delay=1, jitter=0), other=None)
    executor = DynamicExecutor(dag, on_failure="cancel", max_concurrency=1)
    tasks = {"flaky": task, "other": hold}
    if end is not None:
        result = await end(executor, tasks)
        assert str(result["flaky"].status) == "CANCELLED"
        assert result["flaky"].attempts == 1
    else:
        with anyio.move_on_after(5):
            await executor.execute(tasks)
    assert len(task.at) == 1


@MANUAL
async def test_a_sync_node_that_is_cancelled_while_it_waits_for_a_slot() -> None:
    """The same for a sync node that waits for the only worker: no thread starts."""
    task = Failing(9)
    entered, go = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        assert go.wait(GUARD)

    dag = graph(flaky=Retry(9, initial_delay=1, jitter=0), other=None)
    async with DynamicExecutor(dag, max_workers=1).start({"flaky": task, "other": hold}) as run:
        await reached(entered)
        advance(2)
        await passes()
        assert run.explain("flaky").limit == "max_workers"
        run.cancel()
        await passes()
        go.set()
    result = await run.wait()
    assert (str(result["flaky"].status), result["flaky"].attempts) == ("CANCELLED", 1)
    assert len(task.threads) == 1


async def test_an_interrupt_while_a_node_waits_for_a_slot() -> None:
    """KeyboardInterrupt in one node starts no attempt of another that waits for its place."""
    task = Flaky(9)

    async def interrupt() -> None:
        await anyio.sleep(5)
        raise KeyboardInterrupt

    dag = graph(flaky=Retry(9, initial_delay=1, jitter=0), other=None)
    with pytest.raises(KeyboardInterrupt):
        await DynamicExecutor(dag, max_concurrency=1).execute({"flaky": task, "other": interrupt})
    assert len(task.at) == 1


@pytest.mark.parametrize("second", [2.0, 6.0])
async def test_the_run_is_cancelled_at_the_second_of_an_attempt(second: float) -> None:
    """When a pause and the run's time end in the same instant, attempts and errors still agree, and
    the node has one end.
    """
    task = Flaky(9)
    events: list[Event] = []
    dag = graph(node=Retry(9, initial_delay=2, jitter=0))
    executor = DynamicExecutor(dag, observers=[events.append])
    result = await executor.execute({"node": task}, timeout=second)
    node = result["node"]
    assert node.attempts == len(task.at)
    assert len(node.errors) in (node.attempts, node.attempts - 1)
    ends = [e.kind for e in events if e.kind in ("node_failed", "node_cancelled", "node_completed")]
    assert len(ends) == 1
    assert node.status.name == ends[0].removeprefix("node_").upper()


async def test_a_node_that_is_cancelled_in_a_later_attempt() -> None:
    """A cancellation is no error of an attempt: `errors` holds what was retried, and no more."""
    tried: list[int] = []

    async def task() -> None:
        tried.append(1)
        if len(tried) == 1:
            raise OSError("attempt 1")
        await anyio.sleep_forever()

    result = await end_by_timeout(DynamicExecutor(graph(node=AT_ONCE)), {"node": task})
    node = result["node"]
    assert (str(node.status), node.attempts, texts(node.errors)) == ("CANCELLED", 2, ["attempt 1"])


async def test_a_task_that_fails_because_it_is_cancelled_is_not_retried() -> None:
    """A task that raises when it is cancelled was not asking for another attempt."""
    tried: list[int] = []

    async def untidy() -> None:
        tried.append(1)
        try:
            await anyio.sleep_forever()
        finally:
            raise OSError("untidy")

    result = await end_by_timeout(DynamicExecutor(graph(node=AT_ONCE)), {"node": untidy})
    assert tried == [1]
    async with DynamicExecutor(graph(node=AT_ONCE)).start({"node": untidy}) as run:
        await anyio.sleep(5)
        run.cancel_node("node")
    assert tried == [1, 1]
    result = await run.wait()
    assert (str(result["node"].status), result["node"].attempts) == ("CANCELLED", 1)


async def test_pauses_end_with_the_run() -> None:
    """After a cancelled run, its slots are free for the next on the same executor."""
    executor = DynamicExecutor(
        graph(node=NodePolicy(retry=Retry(9, initial_delay=9), group="g")),
        limits={"g": 1},
        max_concurrency=1,
    )
    for _ in range(3):
        result = await end_by_timeout(executor, {"node": Flaky(99)})
        assert result.cancelled == 1
    assert (await executor.execute({"node": Flaky(0)})).ok


# --- memory --------------------------------------------------------------------------------------


@pytest.fixture
def alive() -> Iterator[Callable[..., list[object]]]:
    with new_objects_only() as alive:
        yield alive


@pytest.mark.parametrize("failures", [2, 9], ids=["succeeds", "fails"])
@pytest.mark.parametrize("in_thread", [False, True], ids=["async", "sync"])
async def test_errors_of_attempts_keep_no_run_alive(
    alive: Callable[..., list[object]], failures: int, in_thread: bool
) -> None:
    """A result that is kept, with the errors of all attempts, keeps nothing of its run alive but
    what the nodes returned.
    """

    async def once() -> ExecutionResult:
        task: Any = Failing(failures) if in_thread else Flaky(failures)
        dag = graph("first>flaky", flaky=AT_ONCE)
        return await DynamicExecutor(dag).execute({"first": Canary, "flaky": task})

    kept = [(await once())["flaky"] for _ in range(5)]
    await passes(5)
    assert alive() == []
    assert all(len(node.errors) == min(failures, 3) for node in kept)
