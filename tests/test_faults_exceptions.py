"""What a node, or its expander, may raise: its node fails, and nothing else does."""

import asyncio
import concurrent.futures
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

import dagron
from faults import GUARD, ON_ASYNCIO, graph, hold, passes, run, until

# --- what is raised ------------------------------------------------------------------------------


class OwnBaseException(BaseException):
    """Outside the tree of Exception."""


class WithoutText(Exception):
    """Neither its text nor its repr can be had."""

    def __str__(self) -> str:
        raise ValueError("no text")

    def __repr__(self) -> str:
        raise ValueError("no repr")


@dataclass(frozen=True)
class Frozen(Exception):
    """An exception that is a frozen dataclass: setting an attribute of it raises."""

    code: int


class Sealed(Exception):
    """An exception that cannot be given another traceback by its own method."""

    def with_traceback(self, traceback: Any) -> Any:
        raise TypeError("sealed")


class Underivable(BaseExceptionGroup[BaseException]):
    """A group that cannot be split: its derive() raises."""

    def derive(self, exceptions: Any) -> Any:
        raise TypeError("derive() takes two more arguments")


def nested(depth: int, innermost: Exception) -> Exception:
    """An exception inside so many groups."""
    for level in range(depth):
        innermost = ExceptionGroup(f"level {level}", [innermost])
    return innermost


RAISED: dict[str, Callable[[], BaseException]] = {
    "ValueError": lambda: ValueError("wrong"),
    "SystemExit": lambda: SystemExit(3),
    "GeneratorExit": GeneratorExit,
    "StopIteration": lambda: StopIteration(7),
    "StopAsyncIteration": StopAsyncIteration,
    "BaseException": lambda: OwnBaseException("mine"),
    "ExceptionGroup": lambda: ExceptionGroup("two", [ValueError("a"), KeyError("b")]),
    "BaseExceptionGroup": lambda: BaseExceptionGroup("exit", [SystemExit(1), ValueError("a")]),
    "no text": WithoutText,
    "frozen": lambda: Frozen(3),
    "sealed": Sealed,
    "underivable group": lambda: Underivable("group", [ValueError("a")]),
    "CancelledError": asyncio.CancelledError,
    "CancelledError of a future": lambda: concurrent.futures.CancelledError("its future"),
    "CancelledError in a group": lambda: BaseExceptionGroup("one", [asyncio.CancelledError()]),
    "CancelledError in a mixed group": lambda: BaseExceptionGroup(
        "two", [asyncio.CancelledError(), ValueError("a")]
    ),
    "MemoryError": MemoryError,
    "RecursionError": RecursionError,
    "RuntimeError": lambda: RuntimeError("Event loop is closed"),
}


# --- where it is raised --------------------------------------------------------------------------

Raiser = Callable[[], Any]
Place = Callable[[Raiser], tuple[Callable[..., Any], Callable[..., Any] | None]]


def in_async_task(fail: Raiser) -> Any:
    async def task() -> None:
        fail()

    return task, None


def in_async_task_after_a_pause(fail: Raiser) -> Any:
    async def task() -> None:
        await checkpoint()
        fail()

    return task, None


def in_sync_task(fail: Raiser) -> Any:
    return lambda: fail(), None


def in_awaitable_of_sync_task(fail: Raiser) -> Any:
    task, _ = in_async_task(fail)
    return lambda: task(), None


async def value() -> str:
    return "value"


def in_async_expander(fail: Raiser) -> Any:
    async def expand(name: str, result: str) -> None:
        fail()

    return value, expand


def in_sync_expander(fail: Raiser) -> Any:
    def expand(name: str, result: str) -> None:
        fail()

    return value, expand


def in_awaitable_of_sync_expander(fail: Raiser) -> Any:
    expand, _ = in_async_task(fail)
    return value, lambda name, result: expand()


PLACES: list[Place] = [
    in_async_task,
    in_async_task_after_a_pause,
    in_sync_task,
    in_awaitable_of_sync_task,
    in_async_expander,
    in_sync_expander,
    in_awaitable_of_sync_expander,
]


async def run_beside_siblings(
    task: Callable[..., Any], expander: Callable[..., Any] | None, failed: threading.Event
) -> dagron.ExecutionResult:
    """Run a node that fails beside nodes in flight, with dependents, in a host with another task.

    The siblings are in flight when the node fails, and each has something left to do then.
    """
    host_turns: list[int] = []

    async def sibling() -> str:
        await until(failed.is_set)
        await passes(5)
        return "alive"

    def sibling_on_thread() -> str:
        hold(failed)
        anyio.from_thread.run(passes, 5)
        return "alive"

    async def late() -> str:
        return "late"

    async def host() -> None:
        with anyio.fail_after(GUARD):
            while True:
                host_turns.append(1)
                await checkpoint()

    dag = graph("bad", edges="bad-child child-grandchild async-late sync-late")
    tasks = {
        "bad": task,
        "child": late,
        "grandchild": late,
        "async": sibling,
        "sync": sibling_on_thread,
        "late": late,
    }
    async with anyio.create_task_group() as group:
        group.start_soon(host)
        result = await run(dag, tasks, {"bad": expander} if expander else None, max_workers=2)
        turns = len(host_turns)
        await passes(3)
        assert len(host_turns) > turns, "the host's own task is alive"
        group.cancel_scope.cancel()
    return result


def assert_only_bad_failed(result: dagron.ExecutionResult) -> None:
    assert {name: str(node.status) for name, node in result.node_results.items()} == {
        "bad": "FAILED",
        "child": "SKIPPED",
        "grandchild": "SKIPPED",
        "async": "COMPLETED",
        "sync": "COMPLETED",
        "late": "COMPLETED",
    }
    assert result["async"].result == result["sync"].result == "alive"
    assert not result.ok
    assert (result.succeeded, result.failed, result.skipped, result.cancelled) == (3, 1, 2, 0)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
@pytest.mark.parametrize("raised", RAISED)
async def test_whatever_a_node_raises_fails_that_node_only(raised: str, place: Place) -> None:
    """E11: A task that raises `CancelledError`, `SystemExit`, `StopIteration`, `GeneratorExit`, a
    `BaseException` of its own, an `ExceptionGroup`, or an exception whose `__str__` raises: its
    node is FAILED, the run goes on, the host's loop lives. So does an expander that raises it.

    A node or an expander can never cancel its siblings by a `CancelledError` of its own.
    """
    error = RAISED[raised]()
    failed = threading.Event()

    def fail() -> None:
        failed.set()
        raise error

    task, expander = place(fail)

    result = await run_beside_siblings(task, expander, failed)

    assert_only_bad_failed(result)
    assert result["bad"].result == ("value" if expander else None)
    # Python itself makes a RuntimeError of the first two when they leave an `async def`.
    assert error in (result["bad"].error, result["bad"].error.__cause__)
    with pytest.raises(dagron.RunFailedError) as caught:
        result.raise_for_failures()
    assert caught.value.failures == {"bad": result["bad"].error}
    assert "'bad'" in str(caught.value)
    assert "1 failed" in repr(result)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
async def test_a_deep_exception_group_fails_its_node_only(place: Place) -> None:
    """E11: an `ExceptionGroup` too deep for any recursion over it fails its node only."""
    error = nested(2_000, ValueError("at the bottom"))
    failed = threading.Event()

    def fail() -> None:
        failed.set()
        raise error

    escaped = None
    try:
        result = await run_beside_siblings(*place(fail), failed)
    except BaseException as exception:
        escaped = type(exception)  # the exception itself is too deep to be reported

    assert escaped is None
    assert_only_bad_failed(result)
    assert result["bad"].error is error


# --- a cancellation that is not the run's --------------------------------------------------------


async def stale_cancellation() -> BaseException:
    """The backend's own cancellation, from a scope that is over."""
    kept: BaseException | None = None
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await checkpoint()
        except anyio.get_cancelled_exc_class() as cancelled:
            kept = cancelled
            raise
    assert kept is not None
    return kept


@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "in a group"])
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
async def test_a_cancellation_of_some_other_scope_fails_the_node(
    place: Place, wrapped: bool
) -> None:
    """A node, an expander must never be able to cancel every sibling: a cancellation of this very
    backend that escaped from another scope is a FAILED node.
    """
    failed = threading.Event()
    error = await stale_cancellation()
    if wrapped:
        error = BaseExceptionGroup("escaped", [error])

    def fail() -> None:
        failed.set()
        raise error

    result = await run_beside_siblings(*place(fail), failed)

    assert_only_bad_failed(result)
    assert result["bad"].error is error


async def test_a_scope_that_a_node_cancels_itself_is_its_own_affair() -> None:
    """A node whose own scopes and task groups are cancelled completes like any other."""

    async def task() -> str:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await checkpoint()
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            group.cancel_scope.cancel()
        with anyio.move_on_after(0):
            await anyio.sleep_forever()
        return "done"

    result = await run(graph("node"), {"node": task})

    assert result.ok
    assert result["node"].result == "done"


@ON_ASYNCIO
@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "in a group"])
async def test_a_library_that_cancels_its_own_future_fails_the_node(wrapped: bool) -> None:
    """A `CancelledError` that the run did not ask for (a library cancelled its own future inside a
    node) is a FAILED node, never a cancelled run and never a silent success.
    """
    failed = threading.Event()

    async def task() -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        failed.set()
        if not wrapped:
            await future
        try:
            await future
        except asyncio.CancelledError as cancelled:
            raise BaseExceptionGroup("pool", [cancelled]) from None

    result = await run_beside_siblings(task, None, failed)

    assert_only_bad_failed(result)
    leaf = result["bad"].error.exceptions[0] if wrapped else result["bad"].error
    assert type(leaf) is asyncio.CancelledError


@ON_ASYNCIO
async def test_a_node_that_cancels_its_own_task_and_waits_fails() -> None:
    """A node that calls `Task.cancel()` on its own task and awaits something is FAILED, alone."""
    failed = threading.Event()

    async def task() -> None:
        asyncio.current_task().cancel()
        failed.set()
        await asyncio.sleep(0)

    assert_only_bad_failed(await run_beside_siblings(task, None, failed))


@ON_ASYNCIO
async def test_a_node_that_cancels_its_own_task_and_ends_harms_nobody() -> None:
    """On asyncio an anyio task group treats a child that ends cancelled as a reason to cancel every
    sibling: a node that calls `Task.cancel()` on its own task just before it ends must not do that.
    """
    failed = threading.Event()

    async def task() -> str:
        asyncio.current_task().cancel()
        failed.set()
        return "ended before the cancellation could be delivered"

    result = await run_beside_siblings(task, None, failed)

    assert str(result["bad"].status) in ("COMPLETED", "FAILED")
    assert str(result["async"].status) == str(result["sync"].status) == "COMPLETED"
    assert result.cancelled == 0


@ON_ASYNCIO
async def test_a_swallowed_task_cancel_leaves_the_next_node_alone() -> None:
    """A node that swallows a `Task.cancel()` completes, and its dependents run as usual."""

    async def swallow() -> str:
        asyncio.current_task().cancel()
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            return "swallowed"
        raise AssertionError("not cancelled")

    result = await run(graph(edges="a-b"), {"a": swallow, "b": value})

    assert result.ok
    assert result["b"].result == "value"


@ON_ASYNCIO
async def test_asyncios_own_timeouts_and_groups_work_inside_a_node() -> None:
    """`asyncio.timeout`, `wait_for` and `TaskGroup` inside nodes give what they give elsewhere."""

    async def expired() -> None:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    async def waited() -> None:
        await asyncio.wait_for(asyncio.Event().wait(), 0)

    async def grouped() -> None:
        async def broken() -> None:
            raise ValueError("child")

        async with asyncio.TaskGroup() as group:
            group.create_task(broken())
            group.create_task(asyncio.Event().wait())

    tasks = {"expired": expired, "waited": waited, "grouped": grouped, "fine": value}
    result = await run(graph(*tasks), tasks)

    assert (result.failed, result.succeeded) == (3, 1)
    assert type(result["expired"].error) is TimeoutError
    assert type(result["waited"].error) is TimeoutError
    assert isinstance(result["grouped"].error, ExceptionGroup)


# --- what the failed node says -------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
async def test_the_traceback_of_a_failed_node_begins_in_the_users_code(place: Place) -> None:
    """The error of a FAILED node shows the user's frames, and none of dagron's before them."""

    def fail() -> None:
        raise ValueError("here")

    task, expander = place(fail)
    result = await run(graph("bad"), {"bad": task}, {"bad": expander} if expander else None)

    frames = traceback.extract_tb(result["bad"].error.__traceback__)
    assert frames[0].filename == __file__
    assert frames[-1].name == "fail"


async def test_one_error_raised_by_many_nodes_is_noted_for_each() -> None:
    """Nodes that raise one and the same exception object are each FAILED with it."""
    shared = ValueError("shared")

    async def fail() -> None:
        raise shared

    dag = graph("a", "b", "c")
    result = await run(dag, dict.fromkeys(dag.nodes(), fail))

    assert [node.error for node in result.node_results.values()] == [shared] * 3
    with pytest.raises(dagron.RunFailedError):
        result.raise_for_failures()
    assert sum("in node" in note for note in shared.__notes__) == 3


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("raised", RAISED)
def test_execute_sync_gives_the_same(raised: str, backend: str) -> None:
    """E11, through `execute_sync`: the node is FAILED, the call returns, the process lives."""
    error = RAISED[raised]()

    def fail() -> None:
        raise error

    dag = graph("sync", "fine")
    result = dagron.DynamicExecutor(dag).execute_sync(
        {"sync": fail, "fine": value}, backend=backend
    )

    assert result["sync"].error is error
    assert result["fine"].result == "value"
