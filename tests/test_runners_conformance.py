"""What a graph does, it does wherever its nodes run: here, in processes, on Dask, on Ray."""

import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import dagron
from away import (
    HAS,
    LOCAL_POLICY,
    VARIABLE,
    Adder,
    Marks,
    Odd,
    Place,
    Point,
    Rich,
    boom,
    cluster,
    counting,
    failing,
    holding,
    missing,
    most,
    one,
    ray_started,
    sleeping,
    two,
)
from books import MemoryJournal
from controls import graph, statuses
from dagron import (
    DAG,
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    Edge,
    Fold,
    NodePolicy,
    Retry,
)
from ways import GUARD, chain

ASYNCIO = ("asyncio", {"use_uvloop": False})
TRIO = ("trio", {})
BACKENDS = {
    "local": [ASYNCIO, TRIO],
    "process": [ASYNCIO, TRIO],  # and uvloop, in the tests of that runner
    "dask": [ASYNCIO],
    "ray": [ASYNCIO],
}
SETTINGS = [
    pytest.param((where, backend), id=f"{where}-{backend[0]}", marks=missing(where))
    for where, backends in BACKENDS.items()
    for backend in backends
]
QUICK = Retry(attempts=3, initial_delay=0)


@pytest.fixture(scope="module", params=SETTINGS)
def setting(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def anyio_backend(setting: Any) -> Any:
    return setting[1]


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Dask cluster of two workers."""
    if not HAS["dask"]:
        pytest.skip("the extra 'dask' is not installed")
    with cluster(tmp_path_factory.mktemp("cluster")) as there:
        yield there.address


@pytest.fixture(scope="session")
def ray_here() -> Iterator[None]:
    """A Ray that is the program's own."""
    with ray_started():
        yield


@pytest.fixture(scope="module")
async def processes() -> AsyncIterator[Any]:
    """A runner that keeps its two processes from test to test."""
    from dagron.runners import ProcessRunner

    async with ProcessRunner(2, carry=[VARIABLE]) as runner:
        yield runner


@pytest.fixture
def place(setting: Any, request: pytest.FixtureRequest) -> Place:
    where = setting[0]
    if where == "process":
        return Place(where, request.getfixturevalue("processes"), slots=2)
    if where == "dask":
        from dagron.runners import DaskRunner

        address = request.getfixturevalue("address")
        return Place(where, DaskRunner(address, carry=[VARIABLE], slots=4), slots=4)
    if where == "ray":
        from dagron.runners import RayRunner

        request.getfixturevalue("ray_here")
        return Place(where, RayRunner(carry=[VARIABLE]), slots=2)
    return Place(where)


@pytest.fixture
def marks(tmp_path: Path) -> Marks:
    return Marks(tmp_path)


@contextmanager
def guarded() -> Iterator[None]:
    with anyio.fail_after(2 * GUARD):
        yield


async def ran(place: Place, tasks: dict[str, Any], edges: str = "", **options: Any) -> Any:
    """The result of a graph of these tasks, all of which run there."""
    dag = graph(edges, **dict.fromkeys(tasks))
    with guarded():
        return await place.executor(dag, **options).execute(tasks)


def spec(name: str, task: Any, *dependencies: str, **more: Any) -> DynamicNodeSpec:
    return DynamicNodeSpec(name, task, list(dependencies), **more)


def adding(*specs: DynamicNodeSpec) -> Any:
    return lambda name, result: DynamicModification(specs)


# --- what a task is, and what it gets ------------------------------------------------------------


async def test_a_sync_task_runs(place: Place) -> None:
    """What a plain function returns is its node's result."""
    result = await ran(place, {"a": one})
    assert result["a"].result == 1
    assert result.ok


async def test_an_async_task_runs(place: Place) -> None:
    """What an `async def` returns is its node's result."""
    assert (await ran(place, {"a": two}))["a"].result == 2


async def test_lambdas_and_closures_run(place: Place) -> None:
    """A task may be a lambda, or a function that closes over values."""
    number = 40

    def close_over() -> int:
        return number + 2

    result = await ran(place, {"a": lambda: "here", "b": close_over})
    assert (result["a"].result, result["b"].result) == ("here", 42)


async def test_a_partial_runs(place: Place) -> None:
    """A `functools.partial` is a task, and so is one of an `async def`."""

    async def add(x: int, y: int) -> int:
        return x + y

    result = await ran(place, {"a": partial(max, 1, 5), "b": partial(add, 1, y=5)})
    assert (result["a"].result, result["b"].result) == (5, 6)


async def test_an_object_runs(place: Place) -> None:
    """An object that can be called is a task, with the parameters of its `__call__`."""
    result = await ran(place, {"a": one, "b": Adder(5)}, "a>b")
    assert result["b"].result == 6


async def test_an_awaitable_of_a_sync_task_is_awaited(place: Place) -> None:
    """A sync callable that returns a coroutine has it awaited."""
    assert (await ran(place, {"a": lambda: two()}))["a"].result == 2


async def test_a_coroutine_that_nobody_awaited_fails_its_node(place: Place) -> None:
    """An `async def` that forgot an `await` is FAILED with NotAwaitedError."""

    async def forgetful() -> Any:
        return two()

    result = await ran(place, {"a": forgetful})
    assert isinstance(result["a"].error, dagron.NotAwaitedError)


async def test_parameters_are_filled_by_name(place: Place) -> None:
    """A parameter of a dependency's name gets its result, positional or by keyword."""

    def join(a: int, *, b: int) -> tuple[int, int]:
        return a, b

    result = await ran(place, {"a": one, "b": two, "c": join}, "a>c b>c")
    assert result["c"].result == (1, 2)


async def test_inputs_has_all_results_in_edge_order(place: Place) -> None:
    """`inputs` is a dict of the results of all direct dependencies, in edge order."""
    tasks = {"a": one, "b": two, "c": lambda: None, "d": lambda inputs: [*inputs.items()]}
    result = await ran(place, tasks, "c>d a>d b>d")
    assert result["d"].result == [("c", None), ("a", 1), ("b", 2)]


async def test_parameters_with_a_default_are_left_alone(place: Place) -> None:
    """A default stays, also where a dependency has that name."""
    result = await ran(place, {"a": one, "b": lambda a=7, **more: (a, more)}, "a>b")
    assert result["b"].result == (7, {})


async def test_values_come_back_equal(place: Place) -> None:
    """Classes, nested containers and bytes come back as what they were."""
    value = [Point(1, more={"x": 1}), {"a": (1, 2)}, b"\0\n", {3}, None, 1.5, "\N{SNOWMAN}"]
    result = await ran(place, {"a": lambda: value, "b": lambda a: a}, "a>b")
    assert result["a"].result == result["b"].result == value


async def test_a_class_of_a_function_comes_back_as_itself(place: Place) -> None:
    """An instance of a class that no module has is one of that class when it comes back."""

    class Local:
        pass

    result = await ran(place, {"a": Local, "b": lambda a: a}, "a>b")
    assert type(result["a"].result) is type(result["b"].result) is Local


async def test_a_dict_of_results_is_not_mistaken_for_inputs(place: Place) -> None:
    """A dict that a node returned arrives as it is, whatever it holds."""
    tasks = {"a": lambda: {"b": 1, 2: [3]}, "c": lambda a: a, "d": lambda inputs: inputs["c"]}
    result = await ran(place, tasks, "a>c c>d")
    assert result["d"].result == {"b": 1, 2: [3]}


async def test_two_megabytes_come_and_go(place: Place) -> None:
    """A task that closes over 2 MB, and returns as much, runs."""
    blob = bytes(2_000_000)
    result = await ran(place, {"a": lambda: blob + b"!", "b": lambda a: len(a)}, "a>b")
    assert len(result["a"].result) == result["b"].result == 2_000_001


async def test_one_result_given_to_many(place: Place) -> None:
    """Twenty nodes get the result of one, and one gets those of twenty."""
    tasks: dict[str, Any] = {"a": lambda: 5}
    tasks |= {f"m{n}": lambda a, n=n: a + n for n in range(20)}
    tasks["end"] = lambda inputs: sum(inputs.values())
    edges = " ".join(f"a>m{n} m{n}>end" for n in range(20))
    assert (await ran(place, tasks, edges))["end"].result == 100 + 190


async def test_a_chain_passes_its_results_on(place: Place) -> None:
    """Thirty nodes, each of which adds one to the result of the one before."""
    names = [f"n{number}" for number in range(30)]
    tasks: dict[str, Any] = {"n0": lambda: 0}
    tasks |= {name: lambda inputs: sum(inputs.values()) + 1 for name in names[1:]}
    with guarded():
        result = await place.executor(chain(*names)).execute(tasks)
    assert result["n29"].result == 29


async def test_a_hundred_nodes(place: Place) -> None:
    """A hundred nodes that are ready at once complete, each with its own result."""
    result = await ran(place, {f"n{n}": lambda n=n: n * n for n in range(100)})
    assert [result[f"n{n}"].result for n in range(100)] == [n * n for n in range(100)]


# --- here and there in one graph -----------------------------------------------------------------


async def test_results_go_from_here_to_there_and_back(place: Place) -> None:
    """Nodes here and there alternate, and each gets the result of the one before."""
    builder = DAG.builder()
    for name in ("b", "d"):
        builder.add_node(name, policy=LOCAL_POLICY)
    for edge in ("ab", "bc", "cd"):
        builder.add_edge(*edge)
    here = threading.get_ident()
    seen = []

    async def local(inputs: dict[str, str]) -> str:
        seen.append(threading.get_ident())
        return "".join(inputs.values()) + "."

    tasks = {"a": lambda: "x", "b": local, "c": lambda b: b + "y", "d": local}
    with guarded():
        result = await place.executor(builder.build()).execute(tasks)
    assert result["d"].result == "x.y."
    assert seen == [here, here]


async def test_a_sync_node_here_gets_results_from_there(place: Place) -> None:
    """A sync node without a policy, in a thread of this process, gets what another node made."""
    dag = graph("a>b a>c", a=place.policy(), b=None, c=None)
    tasks = {"a": lambda: [1], "b": lambda a: (a, threading.get_ident()), "c": lambda a: a}
    with guarded():
        result = await place.executor(dag, runner="local").execute(tasks)
    assert result["b"].result[0] == result["c"].result == [1]
    assert threading.get_ident() != result["b"].result[1]


async def test_a_policy_may_say_local(place: Place) -> None:
    """`NodePolicy(runner="local")` keeps a node in this process whatever the default is."""
    dag = graph("", a=LOCAL_POLICY, b=None)
    lock = threading.Lock()  # which could not travel
    with guarded():
        result = await place.executor(dag).execute({"a": lambda: lock, "b": one})
    assert result["a"].result is lock
    assert result["a"].place is None


async def test_a_field_of_a_policy_refines_the_default(place: Place) -> None:
    """A policy that says something else keeps the executor's runner."""
    dag = graph("", a=NodePolicy(priority=3))
    with guarded():
        result = await place.executor(dag).execute({"a": one})
    assert result.ok
    assert (result["a"].place is not None) == place.is_away


# --- errors --------------------------------------------------------------------------------------


async def test_an_error_fails_its_node(place: Place) -> None:
    """A node that raises is FAILED with that error; its dependents are skipped, others run."""
    result = await ran(place, {"a": boom, "b": lambda a: a, "c": one}, "a>b")
    assert statuses(result) == {"a": "FAILED", "b": "SKIPPED", "c": "COMPLETED"}
    assert isinstance(result["a"].error, ValueError)
    assert str(result["a"].error) == "boom"
    assert result["b"].reason == "skipped because 'a' failed"
    assert result["a"].attempts == 1


async def test_an_error_keeps_its_data(place: Place) -> None:
    """The attributes of an error survive."""

    def fail() -> None:
        raise Rich(404, "not found")

    error = (await ran(place, {"a": fail}))["a"].error
    assert isinstance(error, Rich)
    assert (error.code, error.text) == (404, "not found")


async def test_an_error_tells_where_it_was_raised(place: Place) -> None:
    """What Python prints of an error has the line of the task that raised it."""
    from traceback import format_exception

    error = (await ran(place, {"a": boom}))["a"].error
    assert error is not None
    assert "in boom" in "".join(format_exception(error))


async def test_a_group_of_errors_survives(place: Place) -> None:
    """An ExceptionGroup comes with its members."""

    def fail() -> None:
        raise ExceptionGroup("two", [ValueError("a"), KeyError("b")])

    error = (await ran(place, {"a": fail}))["a"].error
    assert isinstance(error, ExceptionGroup)
    assert [type(member) for member in error.exceptions] == [ValueError, KeyError]


@pytest.mark.parametrize("kind", [StopIteration, SystemExit, GeneratorExit, Warning])
async def test_any_error_fails_its_node(place: Place, kind: type[BaseException]) -> None:
    """What is hard to raise in a coroutine, or would end a process, is a failure like others."""

    def fail() -> None:
        raise kind("so")

    result = await ran(place, {"a": fail, "b": one})
    assert statuses(result) == {"a": "FAILED", "b": "COMPLETED"}
    assert type(result["a"].error) is kind


@pytest.mark.parametrize("kind", [StopAsyncIteration, SystemExit, OSError])
async def test_any_error_of_an_async_task_fails_its_node(
    place: Place, kind: type[BaseException]
) -> None:
    """The same of an `async def`."""

    async def fail() -> None:
        await anyio.lowlevel.checkpoint()
        raise kind("so")

    result = await ran(place, {"a": fail, "b": one})
    assert statuses(result) == {"a": "FAILED", "b": "COMPLETED"}
    assert type(result["a"].error) is kind


async def test_the_first_failure_may_end_the_run(place: Place, marks: Marks) -> None:
    """With `on_failure="cancel"` the first failure cancels what is under way."""

    def fail() -> None:
        marks.wait("began")
        raise ValueError("no")

    result = await ran(place, {"a": sleeping(marks), "b": fail}, on_failure="cancel")
    assert statuses(result) == {"a": "CANCELLED", "b": "FAILED"}


async def test_all_failures_are_raised_as_one(place: Place) -> None:
    """`raise_for_failures` has the error of each node."""
    result = await ran(place, {"a": boom, "b": boom})
    with pytest.raises(dagron.RunFailedError, match="2 failed of 2 nodes") as caught:
        result.raise_for_failures()
    assert [type(error) for error in caught.value.failures.values()] == [ValueError, ValueError]


# --- attempts ------------------------------------------------------------------------------------


async def test_a_node_is_tried_again(place: Place, marks: Marks) -> None:
    """Two attempts fail, the third succeeds: the result has all three."""
    policy = NodePolicy(retry=QUICK)
    result = await ran(place, {"a": failing(marks, 2)}, policy=policy)
    assert result["a"].result == "done in attempt 3"
    assert result["a"].attempts == 3
    assert [str(error) for error in result["a"].errors] == ["attempt 1", "attempt 2"]


async def test_attempts_end(place: Place, marks: Marks) -> None:
    """After so many attempts the node is FAILED with the last error."""
    result = await ran(place, {"a": failing(marks, 9)}, policy=NodePolicy(retry=QUICK))
    assert str(result["a"].error) == "attempt 3"
    assert marks.count("attempt") == 3


async def test_only_some_errors_are_a_reason_to_try_again(place: Place, marks: Marks) -> None:
    """`Retry(on=...)` goes by the type of the error, as it was raised there."""
    retry = Retry(attempts=3, on=ConnectionError, initial_delay=0)
    result = await ran(place, {"a": failing(marks, 9)}, policy=NodePolicy(retry=retry))
    assert result["a"].attempts == marks.count("attempt") == 1


async def test_an_attempt_that_fails_is_an_event(place: Place, marks: Marks) -> None:
    """Each attempt that is to be followed by another is told of."""
    events: list[Any] = []
    retry = NodePolicy(retry=QUICK)
    await ran(place, {"a": failing(marks, 2)}, policy=retry, observers=[events.append])
    told = [event for event in events if event.kind == "node_retrying"]
    assert [(event.attempt, event.error) for event in told] == [
        (1, "OSError: attempt 1"),
        (2, "OSError: attempt 2"),
    ]


async def test_arguments_are_new_for_every_attempt(place: Place, marks: Marks) -> None:
    """The second attempt gets the same results as the first."""

    def pick(a: list[int]) -> list[int]:
        if marks.add("attempt") == 1:
            raise OSError
        return a

    tasks = {"a": lambda: [1, 2], "b": pick}
    result = await ran(place, tasks, "a>b", policy=NodePolicy(retry=QUICK))
    assert result["b"].result == [1, 2]


# --- time ----------------------------------------------------------------------------------------


async def test_an_async_task_that_is_out_of_time_is_stopped(place: Place, marks: Marks) -> None:
    """It is FAILED with NodeTimeoutError, and what waits for its place runs."""
    dag = graph("", a=NodePolicy(timeout=0.2), b=None)
    with guarded():
        result = await place.executor(dag, max_concurrency=1).execute(
            {"a": sleeping(marks), "b": one}
        )
    assert statuses(result) == {"a": "FAILED", "b": "COMPLETED"}
    assert isinstance(result["a"].error, dagron.NodeTimeoutError)
    assert result["a"].error.node == "a"


async def test_a_sync_task_that_is_out_of_time_fails(place: Place, marks: Marks) -> None:
    """It is FAILED with NodeTimeoutError although it goes on, or is killed."""

    def see(name: str, result: Any) -> None:
        marks.set("go")

    dag = graph("", a=NodePolicy(timeout=0.2), b=NodePolicy(trigger=dagron.all_done))
    dag = dag.to_builder().add_edge("a", "b").build()
    with guarded():
        result = await place.executor(dag, {"b": see}).execute({"a": holding(marks), "b": one})
    assert statuses(result) == {"a": "FAILED", "b": "COMPLETED"}
    assert isinstance(result["a"].error, dagron.NodeTimeoutError)


async def test_a_task_in_time_is_not_stopped(place: Place) -> None:
    """A timeout that is not reached changes nothing."""
    result = await ran(place, {"a": one, "b": two}, policy=NodePolicy(timeout=GUARD))
    assert result.ok


async def test_a_task_that_was_out_of_time_is_tried_again(place: Place, marks: Marks) -> None:
    """The second attempt begins although the first did not end by itself."""

    async def slow_once() -> str:
        if marks.add("attempt") == 1:
            await anyio.sleep_forever()
        return "second"

    policy = NodePolicy(timeout=1.0, retry=QUICK)
    result = await ran(place, {"a": slow_once}, policy=policy)
    assert result["a"].result == "second"
    assert result["a"].attempts >= 2  # a worker that is slow to begin may be out of time, too


async def test_the_time_of_the_run_is_over(place: Place, marks: Marks) -> None:
    """`execute(timeout=)` ends the run as a result: what had not finished is CANCELLED."""
    with guarded():
        result = await place.executor(graph("a>b", a=None, b=None)).execute(
            {"a": sleeping(marks), "b": one}, timeout=1.0
        )
    assert statuses(result) == {"a": "CANCELLED", "b": "CANCELLED"}
    assert not result.ok
    assert "timeout of 1 s" in str(result.reason)


async def test_the_duration_is_that_of_the_task(place: Place) -> None:
    """A node that has run has taken time, and has a start; one that was skipped has none."""
    result = await ran(place, {"a": one, "b": boom, "c": one}, "b>c")
    assert result["a"].duration_seconds > 0
    assert result["a"].started_at is not None
    assert result["c"].duration_seconds == 0


# --- cancellation --------------------------------------------------------------------------------


async def test_cancelling_the_caller_cancels_the_task(place: Place, marks: Marks) -> None:
    """The block that is cancelled ends, and so does the task of the node."""
    with anyio.move_on_after(2 * GUARD) as scope:
        async with anyio.create_task_group() as group:

            async def cancel() -> None:
                await marks.reached("began")
                scope.cancel()

            group.start_soon(cancel)
            await place.executor(graph("", a=None)).execute({"a": sleeping(marks)})
    assert scope.cancelled_caught
    if not place.kills:  # and so nothing is cleaned up
        await marks.reached("cleaned")


async def test_cancelling_the_run_is_a_result(place: Place, marks: Marks) -> None:
    """`run.cancel()` ends a task under way, and the run has a result."""
    with guarded():
        executor = place.executor(graph("", a=None, b=None))
        async with executor.start({"a": sleeping(marks), "b": one}) as run:
            await marks.reached("began")
            run.cancel()
        result = await run.wait()
    assert statuses(result)["a"] == "CANCELLED"
    assert not result.ok


async def test_cancelling_one_node_leaves_the_others(place: Place, marks: Marks) -> None:
    """`run.cancel_node` ends one task; what needs it is skipped, the rest goes on."""
    dag = graph("a>b c>d", a=None, b=None, c=None, d=None)
    tasks = {"a": sleeping(marks), "b": one, "c": one, "d": two}
    with guarded():
        async with place.executor(dag).start(tasks) as run:
            await marks.reached("began")
            run.cancel_node("a")
        result = await run.wait()
    assert statuses(result) == {
        "a": "CANCELLED",
        "b": "SKIPPED",
        "c": "COMPLETED",
        "d": "COMPLETED",
    }
    assert result.ok


async def test_the_first_answer_cancels_the_others(place: Place, marks: Marks) -> None:
    """`cancel_nodes` of an expander ends tasks that are under way."""

    def win() -> str:
        marks.wait("began")
        return "won"

    dag = graph("", slow=None, quick=None)
    expanders = {"quick": lambda name, result: DynamicModification(cancel_nodes=["slow"])}
    with guarded():
        result = await place.executor(dag, expanders).execute(
            {"slow": sleeping(marks), "quick": win}
        )
    assert statuses(result) == {"slow": "CANCELLED", "quick": "COMPLETED"}
    assert result.ok


async def test_a_sync_task_hears_that_it_is_cancelled(place: Place, marks: Marks) -> None:
    """`check_cancelled` ends a sync task that asks; a process is killed."""

    def work() -> None:
        marks.set("began")
        try:
            while True:
                dagron.check_cancelled()
        finally:
            marks.set("cleaned")

    with guarded():
        async with place.executor(graph("", a=None)).start({"a": work}) as run:
            await marks.reached("began")
            run.cancel_node("a")
        result = await run.wait()
        if not place.kills:
            await marks.reached("cleaned")
    assert statuses(result) == {"a": "CANCELLED"}


async def test_asking_changes_nothing_for_a_node_that_goes_on(place: Place) -> None:
    """`check_cancelled` does nothing where nothing is cancelled."""

    def ask() -> str:
        dagron.check_cancelled()
        return "on"

    assert (await ran(place, {"a": ask}))["a"].result == "on"


async def test_after_a_cancellation_all_slots_are_free(place: Place, marks: Marks) -> None:
    """A run after one that was cancelled has as many slots as ever."""
    with guarded():
        tasks: dict[str, Any] = {"a": sleeping(marks), "b": sleeping(marks)}
        async with place.executor(graph("", a=None, b=None)).start(tasks) as run:
            await marks.reached("began")
            run.cancel()
    result = await ran(place, {f"n{n}": one for n in range(8)})
    assert result.succeeded == 8


# --- slots ---------------------------------------------------------------------------------------


async def test_max_concurrency_holds(place: Place, marks: Marks) -> None:
    """With `max_concurrency=1` no two tasks run at once."""
    await ran(place, {f"n{n}": counting(marks) for n in range(8)}, max_concurrency=1)
    assert marks.count("inside") == 8
    assert most(marks) == 1


async def test_a_group_holds(place: Place, marks: Marks) -> None:
    """Of a group with one slot no two tasks run at once."""
    policy = NodePolicy(group="db")
    tasks = {f"n{n}": counting(marks) for n in range(8)}
    await ran(place, tasks, policy=policy, limits={"db": 1})
    assert most(marks) == 1


async def test_limits_hold_across_runs(place: Place, marks: Marks) -> None:
    """`Limits` that two runs share count for both."""
    options = {"policy": NodePolicy(group="db"), "limits": dagron.Limits(db=1)}
    tasks = {f"n{n}": counting(marks) for n in range(4)}
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(partial(ran, place, tasks, **options))
    assert marks.count("inside") == 8
    assert most(marks) == 1


async def test_the_largest_priority_goes_first(place: Place, marks: Marks) -> None:
    """Of nodes that wait for the one slot of a group, the largest priority is next."""
    order = [3, 1, 4, 1, 5, 9, 2, 6]
    dag = graph("", **{f"n{i}": NodePolicy(priority=p, group="one") for i, p in enumerate(order)})
    tasks: dict[str, Any] = {
        f"n{i}": lambda p=p: marks.add("order", str(p)) for i, p in enumerate(order)
    }
    with guarded():
        await place.executor(dag, limits={"one": 1}).execute(tasks)
    assert marks.contents("order") == [str(p) for p in sorted(order, reverse=True)]


async def test_no_more_are_given_to_a_runner_than_it_has_slots(place: Place) -> None:
    """Ready nodes wait here until a slot is free: never are more under way."""
    running, seen = 0, []

    def watch(event: Any) -> None:
        nonlocal running
        running += event.kind == "node_started"
        running -= event.kind in ("node_completed", "node_failed")
        seen.append(running)

    result = await ran(place, {f"n{n}": one for n in range(30)}, observers=[watch])
    assert result.ok
    assert place.slots is None or max(seen) <= place.slots


async def test_two_runs_at_once_share_the_slots(place: Place) -> None:
    """Two runs of one executor complete, and have their own results."""
    executor = place.executor(graph("a>b", a=None, b=None))
    results: list[Any] = []

    async def run(value: int) -> None:
        results.append(await executor.execute({"a": lambda: value, "b": lambda a: a * 2}))

    with guarded():
        async with anyio.create_task_group() as group:
            group.start_soon(run, 1)
            group.start_soon(run, 2)
    assert sorted(result["b"].result for result in results) == [2, 4]


# --- graphs that grow ----------------------------------------------------------------------------


async def test_an_expander_adds_nodes(place: Place) -> None:
    """The expander runs here with the result from there, and its nodes run there."""
    here = threading.get_ident()

    async def expand(name: str, result: int) -> DynamicModification:
        assert threading.get_ident() == here
        children = [spec(f"c{n}", lambda a, n=n: a + n, "a", dependents=["end"]) for n in range(3)]
        return DynamicModification(children[:result])

    dag = graph("a>end", a=None, end=None)
    tasks = {"a": lambda: 3, "end": lambda inputs: sorted(inputs.values())}
    with guarded():
        result = await place.executor(dag, {"a": expand}).execute(tasks)
    assert result["end"].result == [3, 3, 4, 5]
    assert result["c0"].added_by == "a"


async def test_a_sync_expander_runs_in_a_thread_of_this_process(place: Place) -> None:
    """A plain expander is called in a thread here, which may hold what cannot travel."""
    lock = threading.Lock()
    names = []

    def expand(name: str, result: int) -> DynamicModification:
        with lock:
            names.append(threading.current_thread().name)
        return DynamicModification([spec("b", two)])

    with guarded():
        result = await place.executor(graph("", a=None), {"a": expand}).execute({"a": one})
    assert len(names) == 1
    assert result["b"].result == 2


async def test_an_expander_runs_once_after_the_last_attempt(place: Place, marks: Marks) -> None:
    """Attempts that failed call no expander."""
    calls = []
    dag = graph("", a=NodePolicy(retry=QUICK))
    with guarded():
        await place.executor(dag, {"a": lambda name, result: calls.append(result)}).execute(
            {"a": failing(marks, 1)}
        )
    assert calls == ["done in attempt 2"]


async def test_a_generator_adds_nodes_while_they_run(place: Place, marks: Marks) -> None:
    """What a streaming expander yields starts while it goes on, in however few slots."""

    async def stream(name: str, result: Any) -> Any:
        for number in range(3):
            yield spec(f"c{number}", lambda number=number: marks.set(f"done{number}"))
            await marks.reached(f"done{number}")

    with guarded():
        result = await place.executor(graph("", a=None), {"a": stream}).execute({"a": one})
    assert result.succeeded == 4


async def test_nodes_that_were_added_expand_too(place: Place) -> None:
    """Three generations of nodes, each added by the one before."""

    def expand(name: str, result: int) -> DynamicModification | None:
        if result == 3:
            return None
        child = spec(f"g{result}", lambda inputs: max(inputs.values()) + 1, name, expander=expand)
        return DynamicModification([child])

    with guarded():
        result = await place.executor(graph("", a=None), {"a": expand}).execute({"a": lambda: 0})
    assert result["g2"].result == 3


async def test_a_refused_modification_fails_its_node(place: Place) -> None:
    """Its error names the faults, and dependents are skipped."""
    dag = graph("a>b", a=None, b=None)
    expander = adding(spec("c", one, "nobody"))
    with guarded():
        result = await place.executor(dag, {"a": expander}).execute({"a": one, "b": one})
    assert isinstance(result["a"].error, dagron.ModificationError)
    assert result["a"].result == 1
    assert statuses(result) == {"a": "FAILED", "b": "SKIPPED"}


async def test_an_unknown_runner_is_a_fault(place: Place) -> None:
    """A new node on a runner that the executor does not have is refused, with a close name."""
    expander = adding(spec("b", one, policy=NodePolicy(runner="locale")))
    with guarded():
        result = await place.executor(graph("", a=None), {"a": expander}).execute({"a": one})
    assert isinstance(result["a"].error, dagron.ModificationError)
    assert [fault.kind for fault in result["a"].error.faults] == ["runner"]
    assert "did you mean 'local'" in str(result["a"].error)


async def test_conditions_are_asked_here(place: Place) -> None:
    """A condition gets the result from there, and decides which branch runs."""
    builder = DAG.builder()
    builder.add_edge("a", "yes", condition=lambda result: result["n"] == 1)
    builder.add_edge("a", "no", condition=lambda result: result["n"] != 1)
    tasks = {"a": lambda: {"n": 1}, "yes": lambda a: a, "no": one}
    with guarded():
        result = await place.executor(builder.build()).execute(tasks)
    assert statuses(result) == {"a": "COMPLETED", "yes": "COMPLETED", "no": "SKIPPED"}
    assert result["yes"].result == {"n": 1}


async def test_an_edge_with_a_condition_may_be_added(place: Place) -> None:
    """An edge that an expander adds from its own node is asked about with its result."""

    def expand(name: str, result: int) -> DynamicModification:
        return DynamicModification(
            [spec("b", two)], add_edges=[Edge("a", "b", condition=lambda value: value == 1)]
        )

    with guarded():
        result = await place.executor(graph("", a=None), {"a": expand}).execute({"a": one})
    assert statuses(result) == {"a": "COMPLETED", "b": "COMPLETED"}


async def test_triggers_decide(place: Place) -> None:
    """A clean-up runs after a failure, with the results of those that succeeded."""
    dag = graph("a>end b>end", a=None, b=None, end=NodePolicy(trigger=dagron.all_done))
    tasks = {"a": boom, "b": two, "end": lambda inputs: inputs}
    with guarded():
        result = await place.executor(dag).execute(tasks)
    assert result["end"].result == {"b": 2}


async def test_any_success_is_enough(place: Place, marks: Marks) -> None:
    """With `any_succeeded` a node starts while others that it depends on go on."""
    dag = graph("a>end b>end", a=None, b=None, end=NodePolicy(trigger=dagron.any_succeeded))

    def end(inputs: dict[str, Any]) -> list[str]:
        marks.set("go")
        return [*inputs]

    with guarded():
        result = await place.executor(dag).execute({"a": holding(marks), "b": two, "end": end})
    assert result["end"].result == ["b"]
    assert result["a"].result == "held"


async def test_results_are_folded_here(place: Place) -> None:
    """A fold gets the results of the children, which are forgotten."""
    dag = graph("a>end", a=NodePolicy(keep=Fold(lambda total, name, value: total + value, int)))
    dag = dag.to_builder().build()
    expander = adding(*(spec(f"c{n}", lambda n=n: n) for n in range(10)))
    tasks = {"a": lambda: 100, "end": lambda a: a}
    with guarded():
        result = await place.executor(dag, {"a": expander}).execute(tasks)
    assert result["end"].result == 45
    assert result.forgotten == 10


async def test_what_is_not_kept_is_forgotten(place: Place) -> None:
    """With `keep="leaves"` only what nothing depends on is in the result, with its value."""
    tasks = {"a": one, "b": lambda a: a + 1, "c": lambda b: b + 1}
    result = await ran(place, tasks, "a>b b>c", keep="leaves")
    assert [*result] == ["c"]
    assert result["c"].result == 3
    assert result.forgotten == 2


async def test_nodes_may_be_removed(place: Place) -> None:
    """A node that an expander removes never runs."""
    dag = graph("a>b", a=None, b=None)
    expander = {"a": lambda name, result: DynamicModification(remove_nodes=["b"])}
    with guarded():
        result = await place.executor(dag, expander).execute({"a": one})
    assert result.removed == ("b",)


async def test_nodes_may_come_from_outside(place: Place, marks: Marks) -> None:
    """`run.modify` adds a node there while others run."""
    with guarded():
        async with place.executor(graph("", a=None)).start({"a": holding(marks)}) as run:
            await marks.reached("began")
            await run.modify(DynamicModification([spec("b", lambda: marks.set("go"))]))
        result = await run.wait()
    assert result.succeeded == 2


async def test_a_task_that_adds_nodes_runs_here_only(place: Place) -> None:
    """A task with a parameter `grow` is refused anywhere else, before anything runs."""

    async def crawl(grow: Any) -> str:
        await grow(spec("b", two))
        return "grown"

    executor = place.executor(graph("", a=None))
    if place.is_away:
        with pytest.raises(dagron.TaskSignatureError, match=r"runner='local'"):
            await executor.execute({"a": crawl})
    with guarded():
        result = await place.executor(graph("", a=LOCAL_POLICY)).execute({"a": crawl})
    assert result["b"].result == 2
    assert (result["b"].place is not None) == place.is_away


async def test_the_order_of_the_result_is_that_of_the_graph(place: Place) -> None:
    """The result is in topological order, whatever ended first."""
    tasks = {"a": two, "b": one, "c": lambda: 3, "d": lambda inputs: 4}
    result = await ran(place, tasks, "a>d b>d")
    assert [*result] == result.dag.topological_order()


# --- what is told --------------------------------------------------------------------------------


async def test_completions_have_the_values(place: Place) -> None:
    """`run.completed()` gives the name and the result of each node, in order."""
    seen = []
    with guarded():
        executor = place.executor(graph("a>b", a=None, b=None))
        async with executor.start({"a": one, "b": lambda a: a + 1}) as run:
            async for name, value in run.completed():
                seen.append((name, value))
    assert seen == [("a", 1), ("b", 2)]


async def test_events_tell_of_each_node(place: Place) -> None:
    """A node becomes ready, starts, and completes; where it runs elsewhere, it is told where."""
    events: list[Any] = []
    result = await ran(place, {"a": one}, observers=[events.append])
    kinds = [event.kind for event in events if event.kind.startswith("node_")]
    expected = ["node_ready", "node_started", "node_placed", "node_completed"]
    assert kinds == [kind for kind in expected if place.is_away or kind != "node_placed"]
    assert [event.seq for event in events] == [*range(1, len(events) + 1)]
    if place.is_away:
        placed = next(event for event in events if event.kind == "node_placed")
        assert (placed.runner, placed.attempt) == (place.where, 1)
        assert result["a"].place == (place.where, placed.worker)


async def test_progress_is_told(place: Place) -> None:
    """What a task reports is an event, before the node's end; on Ray nobody hears it."""

    def work() -> None:
        dagron.progress(3, 10, "page 3")

    events: list[Any] = []
    await ran(place, {"a": work}, observers=[events.append])
    told = [event for event in events if event.kind == "node_progress"]
    expected = [] if place.where == "ray" else [("a", 3, 10, "page 3")]
    assert [(event.node, event.done, event.total, event.note) for event in told] == expected


async def test_context_variables_travel(place: Place) -> None:
    """A task sees the value that a named variable had where `execute` was called, and no more."""
    token = VARIABLE.set("somebody")

    def change() -> str:
        seen = VARIABLE.get()
        VARIABLE.set("changed")
        return seen

    try:
        result = await ran(place, {"a": change, "b": change}, "a>b")
    finally:
        VARIABLE.reset(token)
    assert result["a"].result == result["b"].result == "somebody"
    assert (await ran(place, {"a": VARIABLE.get}))["a"].result == "nobody"


async def test_a_task_may_run_a_graph_of_its_own(place: Place) -> None:
    """`execute_sync` inside of a sync task runs another graph."""

    def nested() -> int:
        inner = DynamicExecutor(DAG.builder().add_edge("x", "y").build())
        value: int = inner.execute_sync({"x": lambda: 20, "y": lambda x: x + 1})["y"].result
        return value

    assert (await ran(place, {"a": nested}))["a"].result == 21


async def test_a_picture_tells_where_nodes_ran(place: Place) -> None:
    """The pictures of a result have the name of a node's runner, if it has one."""
    result = await ran(place, {"a": one})
    for text in (result.to_svg(), result.to_mermaid(), result.to_dot()):
        assert bool(re.search(rf"on {place.where}\b", text)) == place.is_away


# --- what does not travel ------------------------------------------------------------------------


async def refused(place: Place, tasks: dict[str, Any], edges: str = "") -> dagron.NotPicklableError:
    result = await ran(place, tasks, edges, policy=NodePolicy(retry=None))
    error = result[[*tasks][-1]].error
    assert isinstance(error, dagron.NotPicklableError)
    assert error.node == [*tasks][-1]
    assert "help:" in str(error)
    return error


async def test_a_task_that_cannot_travel_fails_its_node(place: Place) -> None:
    """It is FAILED at once with an error that names the task, and what it holds."""
    lock = threading.Lock()

    def hold() -> object:
        return lock

    if place.is_away:
        error = await refused(place, {"a": hold})
        assert error.what == "its task"
        assert "cannot pickle '_thread.lock'" in str(error)
    else:
        assert (await ran(place, {"a": hold}))["a"].result is lock


async def test_an_argument_that_cannot_travel_fails_its_node(place: Place) -> None:
    """It names the argument; the node here whose result it is has completed."""
    dag = graph("a>b", a=LOCAL_POLICY, b=None)
    with guarded():
        result = await place.executor(dag).execute({"a": threading.Lock, "b": lambda *, a: 1})
    if place.is_away:
        assert statuses(result) == {"a": "COMPLETED", "b": "FAILED"}
        assert isinstance(result["b"].error, dagron.NotPicklableError)
        assert result["b"].error.what == "the argument 'a'"
    else:
        assert result.ok


async def test_a_result_that_cannot_travel_fails_its_node(place: Place) -> None:
    """A body whose result cannot be pickled has FAILED, with what and why."""
    tasks = {"a": lambda: threading.Lock()}
    if place.is_away:
        error = await refused(place, tasks)
        assert error.what == "its result"
        assert "_thread.lock" in str(error)
    else:
        assert (await ran(place, tasks)).ok


async def test_an_error_that_cannot_travel_fails_its_node(place: Place) -> None:
    """The node has FAILED with the text of the error, and a note of where it was raised."""

    def fail() -> None:
        raise Odd(1, 2)

    if place.is_away:
        error = await refused(place, {"a": fail})
        assert "Odd: 1 and 2" in str(error)
        assert "in fail" in "".join(error.__notes__)
    else:
        assert isinstance((await ran(place, {"a": fail}))["a"].error, Odd)


# --- durable runs --------------------------------------------------------------------------------


async def test_a_journal_has_what_ran_there(place: Place, marks: Marks) -> None:
    """What nodes come to there is written, also what would stay away; a run that was cut off goes
    on here, and runs no node again whose result was written.
    """

    def counted(name: str, value: Any) -> Any:
        marks.add(name)
        return value

    def expand(name: str, found: list[int]) -> DynamicModification:
        return DynamicModification(
            [spec(f"n{i}", partial(counted, f"n{i}", i), "ask", dependents=["sum"]) for i in found]
        )

    def total(inputs: dict[str, Any]) -> int:
        return sum(value for name, value in inputs.items() if name != "ask")

    tasks = {"ask": partial(counted, "ask", [1, 2, 3]), "sum": total}
    dag = graph("ask>sum", ask=None, sum=None)
    journal = MemoryJournal()
    policy = place.policy(resources={}) if place.is_away else NodePolicy()
    with guarded():
        executor = place.executor(dag, {"ask": expand}, journal=journal, policy=policy)
        whole = await executor.execute(tasks, run_id="a")
        page = journal.pages["a"]
        assert [row.value is not None for row in page.rows if row.kind == "done"] == [True] * 5
        journal.pages["a"] = page.cut(len(page.rows) - 2)  # without the sum and the end
        here = DynamicExecutor(dag, {"ask": expand}, journal=journal)
        again = await here.execute(tasks, run_id="a")
    assert whole["sum"].result == again["sum"].result == 6
    assert [marks.count(name) for name in ("ask", "n1", "n2", "n3")] == [1, 1, 1, 1]
