"""Observers that put context managers around nodes and attempts, and change nothing by it."""

import logging
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any
from unittest.mock import MagicMock, Mock

import anyio
import pytest

import dagron
from dagron import (
    Cancelled,
    DynamicExecutor,
    DynamicNodeSpec,
    ExecutionResult,
    Fold,
    Grow,
    NodePolicy,
    Retry,
)
from ways import GUARD, Way, adding, chain, nothing

where: ContextVar[str] = ContextVar("where", default="nowhere")


class Around:
    """Sets a context variable around nodes and attempts, and notes how they were left."""

    def __init__(self) -> None:
        self.left: list[tuple[str, type[BaseException] | None]] = []
        self.threads: set[int] = set()
        self.runs: set[str] = set()

    def __call__(self, event: dagron.Event) -> None:
        self.runs.add(event.run_id)

    def around_node(self, run_id: str, node: str) -> AbstractContextManager[None]:
        return self._around(run_id, node)

    def around_attempt(self, run_id: str, node: str, attempt: int) -> AbstractContextManager[None]:
        return self._around(run_id, f"{node} {attempt}")

    @contextmanager
    def _around(self, run_id: str, what: str) -> Iterator[None]:
        assert run_id in self.runs
        self.threads.add(threading.get_ident())
        token = where.set(what)
        error = None
        try:
            yield
        except BaseException as raised:
            error = type(raised)
            raise
        finally:
            where.reset(token)
            self.left.append((what, error))


async def on_loop() -> str:
    return where.get()


def in_thread() -> str:
    return where.get()


def awaited() -> Any:
    return on_loop()


async def run(executor: DynamicExecutor, tasks: dict[str, Any], **options: Any) -> ExecutionResult:
    with anyio.fail_after(GUARD):
        return await executor.execute(tasks, **options)


def values(result: ExecutionResult) -> dict[str, Any]:
    return {name: result[name].result for name in result}


# --- what is around what --------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [None, NodePolicy(timeout=GUARD)], ids=["bare", "policy"])
def test_a_task_finds_what_is_around_its_attempt(execute: Way, policy: NodePolicy | None) -> None:
    """In the event loop, in a worker thread and in what a sync task returns to be awaited, a task
    finds the context variables that were set around its attempt, and no others.
    """
    around = Around()
    dag = chain("a", "b", "c", "d", "e")
    tasks = {"a": on_loop, "b": in_thread, "c": in_thread, "d": in_thread, "e": awaited}
    executor = DynamicExecutor(dag, observers=[around], policy=policy)
    assert values(execute(executor, tasks)) == {name: f"{name} 1" for name in tasks}
    assert around.left == [(what, None) for name in tasks for what in (f"{name} 1", name)]


async def test_what_is_around_is_entered_and_left_in_the_event_loop() -> None:
    """Also for sync nodes, which have a call in a thread each."""
    around = Around()
    tasks = dict.fromkeys("abcdef", threading.get_ident)
    result = await run(DynamicExecutor(chain(*tasks), observers=[around]), tasks)
    assert around.threads == {threading.get_ident()}
    assert threading.get_ident() not in values(result).values()


async def test_each_attempt_is_left_with_what_it_raised() -> None:
    """An attempt has its number, and is left before the next; the node is left with the last's."""
    around = Around()
    seen = []

    async def task() -> None:
        seen.append(where.get())
        raise ValueError(len(seen))

    policy = NodePolicy(retry=Retry(3, initial_delay=0))
    result = await run(DynamicExecutor(chain("a"), observers=[around], policy=policy), {"a": task})
    assert seen == ["a 1", "a 2", "a 3"]
    assert around.left == [(what, ValueError) for what in ("a 1", "a 2", "a 3", "a")]
    assert len(result["a"].errors) == 3


async def test_an_attempt_in_a_thread_is_left_with_what_it_raised() -> None:
    """Also with a StopIteration, which no coroutine could raise."""
    around = Around()

    def stops() -> None:
        raise StopIteration

    await run(DynamicExecutor(chain("a"), observers=[around]), {"a": stops})
    assert around.left == [("a 1", StopIteration), ("a", StopIteration)]


async def test_an_expander_finds_what_is_around_its_node() -> None:
    """So do plain, async and generating expanders, and a fold; a task that grows the graph is in
    its attempt.
    """
    seen = {}

    def plain(name: str, result: object) -> None:
        seen[name] = where.get()

    async def on_loop(name: str, result: object) -> None:
        seen[name] = where.get()

    def generating(name: str, result: object) -> Iterator[None]:
        seen[name] = where.get()
        yield None

    async def generating_on_loop(name: str, result: object) -> Any:
        seen[name] = where.get()
        yield None

    async def grows(grow: Grow) -> None:
        seen["e"] = where.get()
        await grow(DynamicNodeSpec("child", nothing))

    def fold(value: int, name: str, result: object) -> int:
        seen["fold"] = where.get()
        return value

    expanders = {"a": plain, "b": on_loop, "c": generating, "d": generating_on_loop}
    builder = chain("a", "b", "c", "d").to_builder()
    dag = builder.add_node("e", policy=NodePolicy(keep=Fold(fold, lambda: 0))).build()
    executor = DynamicExecutor(dag, expanders, observers=[Around()])
    result = await run(executor, dict.fromkeys("abcd", nothing) | {"e": grows})
    result.raise_for_failures()
    assert seen == {name: name for name in "abcd"} | {"e": "e 1", "fold": "child"}


async def test_a_node_is_left_with_what_its_expander_raised() -> None:
    """The failure of an expander, or a modification that is refused, is the node's, not that of an
    attempt.
    """
    around = Around()

    async def fails(name: str, result: object) -> None:
        raise KeyError

    expanders: Any = {"a": fails, "b": adding(DynamicNodeSpec("a", nothing))}
    dag = dagron.DAG.builder().add_node("a").add_node("b").build()
    executor = DynamicExecutor(dag, expanders, observers=[around], max_concurrency=1)
    await run(executor, {"a": nothing, "b": nothing})
    assert around.left == [
        *(("a 1", None), ("a", KeyError)),
        *(("b 1", None), ("b", dagron.ModificationError)),
    ]


async def test_a_timeout_leaves_the_attempt_although_its_thread_goes_on() -> None:
    """A thread that is given up holds up nothing that is around it."""
    around = Around()
    go = threading.Event()

    def blocks() -> None:
        go.wait(GUARD)

    executor = DynamicExecutor(chain("a"), observers=[around], policy=NodePolicy(timeout=0.01))
    try:
        result = await run(executor, {"a": blocks})
    finally:
        go.set()
    assert isinstance(result["a"].error, dagron.NodeTimeoutError)
    assert around.left == [("a 1", dagron.NodeTimeoutError), ("a", dagron.NodeTimeoutError)]


async def test_a_cancelled_node_is_left_with_its_cancellation() -> None:
    """Whoever cancels the run, all that was entered is left, with the backend's exception."""
    around = Around()
    begun = anyio.Event()

    async def waits() -> None:
        begun.set()
        await anyio.sleep_forever()

    with anyio.fail_after(GUARD), anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            executor = DynamicExecutor(chain("a"), observers=[around])
            group.start_soon(executor.execute, {"a": waits})
            await begun.wait()
            scope.cancel()
    cancelled = anyio.get_cancelled_exc_class()
    assert around.left == [("a 1", cancelled), ("a", cancelled)]


async def test_nodes_at_the_same_time_do_not_mix() -> None:
    """Nodes of two runs of one executor that meet inside have their own context each."""
    around = Around()
    seen: list[str] = []
    inside = 0
    all_inside = anyio.Event()

    async def meets() -> None:
        nonlocal inside
        inside += 1
        if inside == 4:
            all_inside.set()
        await all_inside.wait()
        seen.append(where.get())

    dag = dagron.DAG.builder().add_node("a").add_node("b").build()
    executor = DynamicExecutor(dag, observers=[around])
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(run, executor, {"a": meets, "b": meets})
    assert sorted(seen) == ["a 1", "a 1", "b 1", "b 1"]
    assert len(around.runs) == 2


async def test_one_of_both_methods_is_enough() -> None:
    """An observer may put something around nodes alone, or around attempts alone."""

    class Nodes(Around):
        around_attempt = None  # type: ignore[assignment]

    class Attempts(Around):
        around_node = None  # type: ignore[assignment]

    nodes, attempts = Nodes(), Attempts()
    result = await run(DynamicExecutor(chain("a"), observers=[nodes]), {"a": on_loop})
    assert result["a"].result == "a"
    result = await run(DynamicExecutor(chain("a"), observers=[attempts]), {"a": in_thread})
    assert result["a"].result == "a 1"
    assert (nodes.left, attempts.left) == ([("a", None)], [("a 1", None)])


async def test_an_observer_that_answers_to_any_name_is_none_of_these() -> None:
    """A mock, which has each attribute that it is asked for, is an observer of events alone."""
    observers = [Mock(return_value=None), MagicMock(return_value=None)]
    result = await run(DynamicExecutor(chain("a"), observers=observers), {"a": on_loop})
    assert result.dropped_observers == 0
    for observer in observers:
        assert [call.args[0].kind for call in observer.call_args_list][-1] == "run_finished"
        assert observer.around_node.call_count == observer.around_attempt.call_count == 0


async def test_the_first_observer_is_the_outermost() -> None:
    """What several observers put around a node is left in the reverse order."""
    order: list[str] = []

    class Named(Around):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        @contextmanager
        def around_node(self, run_id: str, node: str) -> Iterator[None]:
            order.append(f"enter {self.name}")
            yield
            order.append(f"leave {self.name}")

    await run(DynamicExecutor(chain("a"), observers=[Named("1"), Named("2")]), {"a": on_loop})
    assert order == ["enter 1", "enter 2", "leave 2", "leave 1"]


# --- what goes wrong ------------------------------------------------------------------------------


class Manager:
    """A context manager that raises where it is told to, and wants to swallow what is raised."""

    def __init__(self, raises_in: str, error: BaseException) -> None:
        self.raises_in = raises_in
        self.error = error

    def __enter__(self) -> None:
        if self.raises_in == "enter":
            raise self.error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if self.raises_in == "exit":
            raise self.error
        return True


class Wrong(Around):
    """Raises around nodes or attempts, in the method itself, on entering or on leaving."""

    def __init__(self, method: str, raises_in: str, error: BaseException) -> None:
        super().__init__()
        self.method = method
        self.raises_in = raises_in
        self.error = error
        self.events = 0
        self.calls = 0

    def __call__(self, event: dagron.Event) -> None:
        self.events += 1

    def around_node(self, run_id: str, node: str) -> AbstractContextManager[None]:
        return self._manager("around_node")

    def around_attempt(self, run_id: str, node: str, attempt: int) -> AbstractContextManager[None]:
        return self._manager("around_attempt")

    def _manager(self, method: str) -> Any:
        self.calls += 1
        is_wrong = method == self.method
        if is_wrong and self.raises_in == "call":
            raise self.error
        return Manager(self.raises_in if is_wrong else "", self.error)


@pytest.mark.parametrize("method", ["around_node", "around_attempt"])
@pytest.mark.parametrize("raises_in", ["call", "enter", "exit"])
@pytest.mark.parametrize("error", [ValueError("wrong"), SystemExit(3), Cancelled("wrong")])
async def test_an_observer_that_raises_around_a_node_is_dropped(
    method: str, raises_in: str, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once and counted, hears no more events and is asked no more; nodes end as they
    would, and what others put around them stays.
    """
    wrong, around = Wrong(method, raises_in, error), Around()
    tasks = {"a": on_loop, "b": in_thread, "c": on_loop}
    result = await run(DynamicExecutor(chain("a", "b", "c"), observers=[wrong, around]), tasks)
    assert result.ok
    assert values(result) == {name: f"{name} 1" for name in tasks}
    assert result.dropped_observers == len(caplog.records) == 1
    assert caplog.records[0].levelno == logging.ERROR
    assert caplog.records[0].exc_info is not None
    assert caplog.records[0].exc_info[1] is error
    assert wrong.calls == (1 if method == "around_node" and raises_in != "exit" else 2)
    assert wrong.events == 3  # the start of the run; of its first node, that it is ready and starts


async def test_an_observer_that_raises_around_several_nodes_is_dropped_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What it had put around nodes in flight is left all the same, without another word."""
    wrong = Wrong("around_attempt", "exit", ValueError())
    inside = 0
    met = anyio.Event()

    async def meets() -> None:
        nonlocal inside
        inside += 1
        if inside == 2:
            met.set()
        await met.wait()

    dag = dagron.DAG.builder().add_node("a").add_node("b").build()
    result = await run(DynamicExecutor(dag, observers=[wrong]), {"a": meets, "b": meets})
    assert result.ok
    assert result.dropped_observers == len(caplog.records) == 1


async def test_what_is_around_cannot_swallow_a_failure() -> None:
    """A manager that returns True, one that raises the same error, and one that raises another
    leave the node FAILED with what its task raised, its traceback beginning in the task.
    """

    class Same(Around):
        @contextmanager
        def around_attempt(self, run_id: str, node: str, attempt: int) -> Iterator[None]:
            try:
                yield
            finally:
                self.left.append((node, None))

    class Raising:
        def __enter__(self) -> None: ...
        def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
            assert error is not None
            raise error

    class Again(Around):
        def around_attempt(self, run_id: str, node: str, attempt: int) -> Any:
            return Raising()

    async def fails() -> None:
        raise ValueError("wrong")

    swallowing = Wrong("around_node", "", KeyError())
    other = Wrong("around_node", "exit", KeyError())
    observers = [Again(), swallowing, Same(), other]
    result = await run(DynamicExecutor(chain("a"), observers=observers), {"a": fails})
    error = result["a"].error
    assert isinstance(error, ValueError)
    assert error.__traceback__ is not None
    assert error.__traceback__.tb_frame.f_code.co_name == "fails"
    assert error.__traceback__.tb_next is None
    assert result.dropped_observers == 1


async def test_a_cancellation_cannot_be_swallowed() -> None:
    """What is around a node that is cancelled has no say in that."""
    swallowing = Wrong("around_node", "", KeyError())
    executor = DynamicExecutor(chain("a", "b"), observers=[swallowing])
    result = await run(executor, {"a": anyio.sleep_forever, "b": nothing}, timeout=0.01)
    assert {str(result[name].status) for name in "ab"} == {"CANCELLED"}
    assert result.dropped_observers == 0


async def test_an_interrupt_around_a_node_ends_the_run() -> None:
    """A KeyboardInterrupt there is one: the run is cancelled, and raises it bare."""
    wrong = Wrong("around_node", "enter", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        await run(DynamicExecutor(chain("a", "b"), observers=[wrong]), {"a": on_loop, "b": on_loop})


async def test_what_is_no_context_manager_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """A method that forgot its decorator, or returns a coroutine, is dropped with what to write."""

    async def never() -> None: ...

    class Forgot(Around):
        def around_node(self, run_id: str, node: str) -> Any:
            return never()

    result = await run(DynamicExecutor(chain("a"), observers=[Forgot()]), {"a": on_loop})
    assert result["a"].result == "nowhere"
    assert "is a context manager, not coroutine" in caplog.text
    assert "help: write @contextlib.contextmanager above the method" in caplog.text


@pytest.mark.parametrize("method", ["around_node", "around_attempt"])
def test_a_method_that_cannot_be_right_is_refused(method: str) -> None:
    """A generator, an async function or no function at all is refused when the executor is made."""

    def generating(*arguments: object) -> Iterator[None]:
        yield

    async def awaited(*arguments: object) -> None: ...

    for wrong in (generating, awaited, 3):
        observer = Around()
        setattr(observer, method, wrong)
        with pytest.raises(
            TypeError, match=rf"{method} of the observer .*\n  help: write @context"
        ):
            DynamicExecutor(chain("a"), observers=[observer])
