"""Many runs, nested runs, long runs: E15 to E17, E19, their order, their slots, their contexts."""

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from anyio import from_thread

from dagron import (
    DAG,
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    ExecutionResult,
    NodeStatus,
)
from ways import GUARD, Inside, Meeting, Way, adding, chain, changing, nothing, passes


def row(count: int) -> DAG:
    """Return a graph of nodes without edges."""
    builder = DAG.builder()
    for number in range(count):
        builder.add_node(f"n{number}")
    return builder.build()


# -- E15: one executor, many runs


def orders(name: str, table: int) -> DynamicModification:
    """Two dishes for the table; the waiter, who adds them up, knows which from `inputs`."""
    return DynamicModification(
        [
            DynamicNodeSpec(f"dish {number} of {table}", lambda: table, [name], ["bill"])
            for number in range(2)
        ]
    )


def check_bill(result: ExecutionResult, table: int) -> None:
    assert result.ok
    dishes = [f"dish {number} of {table}" for number in range(2)]
    assert list(result.node_results) == ["order", *dishes, "bill"]
    assert result["bill"].result == {"order": table, **dict.fromkeys(dishes, table)}


async def test_e15_concurrent_runs() -> None:
    """E15: 50 concurrent `execute` calls on one executor do not know of each other: all 50 are in
    the middle of an async node, and then of a sync node, at once."""
    executor = DynamicExecutor(chain("order", "bill"), expanders={"order": orders}, max_workers=1)
    all_order, all_pay = Meeting(50), threading.Barrier(50, timeout=GUARD)
    results: dict[int, ExecutionResult] = {}

    async def serve(table: int) -> None:
        async def order() -> int:
            await all_order.join()
            return table

        def bill(inputs: dict[str, int]) -> dict[str, int]:
            all_pay.wait()
            return inputs

        results[table] = await executor.execute({"order": order, "bill": bill})

    async with anyio.create_task_group() as group:
        for table in range(50):
            group.start_soon(serve, table)
    assert len(results) == 50
    for table, result in results.items():
        check_bill(result, table)


def test_e15_runs_in_threads() -> None:
    """E15: Concurrent `execute_sync` calls on one executor, in threads of their own and on both
    backends, do not know of each other either."""
    executor = DynamicExecutor(chain("order", "bill"), expanders={"order": orders}, max_workers=1)
    together = threading.Barrier(8, timeout=GUARD)

    def serve(table: int) -> ExecutionResult:
        def order() -> int:
            together.wait()
            return table

        backend = "trio" if table % 2 else "asyncio"
        return executor.execute_sync(
            {"order": order, "bill": lambda inputs: inputs}, backend=backend
        )

    with ThreadPoolExecutor(8) as pool:
        for table, result in enumerate(pool.map(serve, range(8))):
            check_bill(result, table)


def test_e15_runs_one_after_another(execute: Way) -> None:
    """E15: Runs that follow each other on one executor do not know of each other: what one removed,
    added or failed is as new for the next."""
    fail = True

    def order() -> int:
        if fail:
            raise OSError("no pencil")
        return 7

    dag = chain("order", "bill").to_builder().add_edge("order", "tip").build()
    executor = DynamicExecutor(
        dag,
        expanders={
            "order": lambda name, table: DynamicModification(orders(name, table).add_nodes, ["tip"])
        },
    )
    tasks = {"order": order, "bill": lambda inputs: inputs, "tip": nothing}
    assert execute(executor, tasks).skipped == 2
    fail = False
    for _ in range(2):
        result = execute(executor, tasks)
        check_bill(result, 7)
        assert result.removed == ("tip",)
    assert dag.nodes() == ["order", "bill", "tip"]


def test_caller_keeps_its_dicts(execute: Way) -> None:
    """What the caller does to its dicts of tasks and expanders later does not reach the run."""
    tasks: dict[str, Callable[[], Any]] = {}
    expanders = {"first": adding(DynamicNodeSpec("added", lambda: "added", ["first"]))}
    executor = DynamicExecutor(chain("first", "second"), expanders=expanders)
    expanders.clear()
    tasks.update(first=tasks.clear, second=lambda: "second")
    result = execute(executor, tasks)
    assert [node.result for node in result.node_results.values()] == [None, "added", "second"]


# -- E16: context variables

tray: ContextVar[str] = ContextVar("tray", default="nothing")


@pytest.fixture
def caller_tray() -> Iterator[None]:
    token = tray.set("the caller's")
    yield
    tray.reset(token)


def looking(seen: dict[str, str], kind: str, name: str) -> Callable[[], Any]:
    """Return a task that notes what is on the tray, and puts its own name there."""

    def look() -> None:
        seen[name] = tray.get()
        tray.set(name)

    async def look_later() -> None:
        look()
        await passes(3)
        assert tray.get() == name, "no other node reaches into this one"

    return {"sync": look, "async": look_later, "lazy": lambda: look_later()}[kind]


@pytest.mark.usefixtures("caller_tray")
def test_e16_context_is_seen(execute: Way) -> None:
    """E16: Context variables set before `execute` are seen in tasks, threads and expanders, also in
    those of nodes that are added while the graph runs."""
    seen: dict[str, str] = {}
    kinds = ["sync", "async", "lazy"]

    def expander(name: str, result: object) -> DynamicModification:
        seen[f"expander of {name}"] = tray.get()
        names = [f"{kind} by {name}" for kind in kinds]
        return DynamicModification(
            [
                DynamicNodeSpec(name, looking(seen, kind, name))
                for kind, name in zip(kinds, names, strict=True)
            ]
        )

    async def async_expander(name: str, result: object) -> DynamicModification:
        return expander(name, result)

    dag = chain("a", "b", *kinds)
    executor = DynamicExecutor(dag, expanders={"a": async_expander, "b": expander})
    tasks = {kind: looking(seen, kind, kind) for kind in kinds}
    assert execute(executor, {"a": nothing, "b": nothing, **tasks}).ok
    assert len(seen) == 2 + 6 + 3
    assert set(seen.values()) == {"the caller's"}


@pytest.mark.usefixtures("caller_tray")
@pytest.mark.parametrize("first", ["sync", "async", "lazy"])
@pytest.mark.parametrize("second", ["sync", "async"])
def test_e16_context_does_not_leak(execute: Way, first: str, second: str) -> None:
    """E16: What a node sets, no other node sees, its dependents, those that it adds and the caller
    included; what its expander sets neither."""
    seen: dict[str, str] = {}

    def expander(name: str, result: object) -> DynamicModification:
        tray.set("the expander's")
        return DynamicModification([DynamicNodeSpec("added", looking(seen, second, "added"))])

    async def async_expander(name: str, result: object) -> DynamicModification:
        return expander(name, result)

    for function in (expander, async_expander):
        seen.clear()
        executor = DynamicExecutor(
            chain("first", "second", "third").to_builder().add_node("beside").build(),
            expanders={"first": function},
            max_workers=1,
        )
        tasks = {
            "first": looking(seen, first, "first"),
            "second": looking(seen, second, "second"),
            "third": looking(seen, first, "third"),
            "beside": looking(seen, second, "beside"),
        }
        assert execute(executor, tasks).ok
        assert seen == dict.fromkeys(
            ["first", "second", "third", "beside", "added"], "the caller's"
        )
        assert tray.get() == "the caller's"


async def test_e16_each_run_has_the_context_of_its_caller() -> None:
    """E16: Of two runs at once on one executor each has the context of its own caller."""
    executor = DynamicExecutor(chain("first", "second"))
    together = Meeting(2)
    results: dict[str, ExecutionResult] = {}

    async def look() -> str:
        await together.join()
        return tray.get()

    async def serve(name: str) -> None:
        tray.set(name)
        results[name] = await executor.execute({"first": look, "second": tray.get})

    async with anyio.create_task_group() as group:
        group.start_soon(serve, "left")
        group.start_soon(serve, "right")
    for name, result in results.items():
        assert [node.result for node in result.node_results.values()] == [name, name]


async def test_e16_nested_run_has_the_context_of_its_node() -> None:
    """E16: Context variables that a node sets before it awaits `execute` are seen in that run."""

    async def outer() -> list[str]:
        tray.set("the node's")
        result = await DynamicExecutor(chain("inner")).execute({"inner": tray.get})
        return [result["inner"].result]

    result = await DynamicExecutor(chain("outer", "after")).execute(
        {"outer": outer, "after": tray.get}
    )
    assert result["outer"].result == ["the node's"]
    assert result["after"].result == "nothing"


# -- E17: a run inside a run


async def count_inside() -> int:
    """Await a run of two sync nodes."""
    executor = DynamicExecutor(chain("one", "two"), max_workers=1, max_concurrency=1)
    return (await executor.execute({"one": nothing, "two": nothing})).succeeded


def count_inside_blocking(backend: str) -> int:
    """Block for a run of two sync nodes and an async one."""
    executor = DynamicExecutor(chain("one", "two", "three"), max_workers=1, max_concurrency=1)
    tasks = {"one": nothing, "two": nothing, "three": passes}
    return executor.execute_sync(tasks, backend=backend).succeeded


NESTED: dict[str, Callable[[], Any]] = {
    "async node awaits": count_inside,
    "sync node blocks on asyncio": lambda: count_inside_blocking("asyncio"),
    "sync node blocks on trio": lambda: count_inside_blocking("trio"),
    "sync node calls back": lambda: from_thread.run(count_inside),
    "sync node returns the run": lambda: count_inside(),
}


@pytest.mark.parametrize("kind", NESTED)
def test_e17_nested_runs(execute: Way, kind: str) -> None:
    """E17: A nested `execute` inside a node, at `max_workers=1`, finishes: limits belong to a
    run."""
    executor = DynamicExecutor(row(3), max_workers=1, max_concurrency=1)
    result = execute(executor, dict.fromkeys(row(3), NESTED[kind]))
    assert result.ok
    assert {node.result for node in result.node_results.values()} == {3 if "blocks" in kind else 2}


@pytest.mark.parametrize("kind", NESTED)
def test_e17_nested_runs_in_expanders(execute: Way, kind: str) -> None:
    """E17: A nested `execute` inside an expander, at `max_workers=1`, finishes too."""
    counts: list[int] = []

    def expander(name: str, result: object) -> None:
        counts.append(NESTED[kind]())

    async def async_expander(name: str, result: object) -> None:
        counts.append(await NESTED[kind]())

    expanders = dict.fromkeys(row(3), async_expander if kind.startswith("async") else expander)
    if kind == "sync node returns the run":
        expanders = dict.fromkeys(row(3), lambda name, result: async_expander(name, result))
    executor = DynamicExecutor(row(3), expanders=expanders, max_workers=1, max_concurrency=1)
    assert execute(executor, dict.fromkeys(row(3), nothing)).ok
    assert len(counts) == 3
    assert set(counts) <= {2, 3}


def test_e17_executor_inside_itself(execute: Way) -> None:
    """E17: A node may run its own executor again, and again inside."""
    executor = DynamicExecutor(chain("outer", "after"), max_workers=1, max_concurrency=1)

    def tasks(depth: int) -> dict[str, Callable[..., Any]]:
        async def outer() -> int:
            if not depth:
                return 0
            return 1 + (await executor.execute(tasks(depth - 1)))["after"].result

        return {"outer": outer, "after": lambda outer: outer}

    assert execute(executor, tasks(5))["after"].result == 5


# -- E19: long and deep


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_e19_long_chain(backend: str) -> None:
    """E19: Chains of 100,000 nodes work at Python's default recursion limit."""
    assert sys.getrecursionlimit() <= 1_000
    count = 100_000
    dag = chain(*map(str, range(count)))

    async def step() -> None:
        return None

    result = DynamicExecutor(dag).execute_sync(dict.fromkeys(dag, step), backend=backend)
    assert result.succeeded == count
    assert list(result.node_results) == dag.nodes()


def test_e19_long_cascade() -> None:
    """E19: A failure that skips a chain of 100,000 nodes works at Python's default recursion
    limit."""
    dag = chain(*map(str, range(100_000)))

    def fail() -> None:
        raise OSError("the first domino")

    result = DynamicExecutor(dag).execute_sync({**dict.fromkeys(dag, nothing), "0": fail})
    assert (result.failed, result.skipped) == (1, 99_999)
    assert result["99999"].status is NodeStatus.SKIPPED
    assert "'0'" in (result["99999"].reason or "")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_e19_deep_expansion(backend: str) -> None:
    """E19: Expansions 10,000 deep work at Python's default recursion limit, and their order is the
    order in which they were added."""
    assert sys.getrecursionlimit() <= 1_000
    depth = 10_000

    async def step() -> None:
        return None

    async def deeper(name: str, result: object) -> DynamicModification | None:
        number = int(name) + 1
        if number > depth:
            return None
        spec = DynamicNodeSpec(str(number), step, [name], ["end"], expander=deeper)
        return DynamicModification([spec])

    executor = DynamicExecutor(chain("0", "end"), expanders={"0": deeper}, max_depth=depth)
    result = executor.execute_sync({"0": step, "end": step}, backend=backend)
    assert result.ok
    assert list(result.node_results) == [*map(str, range(depth + 1)), "end"]
    assert result[str(depth)].depth == depth
    assert result[str(depth)].added_by == str(depth - 1)


# -- order


@pytest.mark.parametrize("first", ["left", "right"])
def test_order_does_not_depend_on_timing(execute: Way, first: str) -> None:
    """`node_results` is in the order of `dag.topological_order()` of the final graph, and that does
    not depend on which of two expanders finished first."""
    landed = anyio.Event()

    async def beacon() -> None:
        landed.set()

    async def expander(name: str, result: object) -> DynamicModification:
        if name != first:
            with anyio.fail_after(GUARD):
                await landed.wait()
        task = beacon if name == first else nothing
        return DynamicModification(
            [DynamicNodeSpec(f"{name} {number}", task, [name], ["end"]) for number in (1, 2)]
        )

    dag = DAG.builder().add_node("left").add_node("right").add_edge("left", "end").build()
    dag = dag.to_builder().add_edge("right", "end").build()
    executor = DynamicExecutor(dag, expanders={"left": expander, "right": expander})
    result = execute(executor, dict.fromkeys(dag, nothing))
    names = ["left", "left 1", "left 2", "right", "right 1", "right 2", "end"]
    assert list(result.node_results) == names
    assert result.dag.topological_order() == names


def test_order_is_by_dependencies_then_by_rank(execute: Way) -> None:
    """`node_results` has each node after its dependencies, the smallest rank first: initial nodes
    by insertion, added ones under the node that added them, in the order of the modification."""
    specs = [DynamicNodeSpec(name, nothing, ["b"]) for name in ("b2", "b1")]
    modification = DynamicModification(specs, add_edges=[("z", "b2")])
    dag = DAG.builder().add_node("b").add_node("a").add_edge("z", "y").build()
    executor = DynamicExecutor(dag, expanders={"b": changing(modification)})
    result = execute(executor, dict.fromkeys(dag, nothing))
    assert list(result.node_results) == ["b", "b1", "a", "z", "b2", "y"]
    assert list(result.node_results) == result.dag.topological_order()


# -- slots


@pytest.mark.parametrize("limit", [1, 2, 5, None])
@pytest.mark.parametrize("kind", ["sync", "async", "both"])
def test_max_concurrency(execute: Way, limit: int | None, kind: str) -> None:
    """`max_concurrency` bounds all nodes that run at once, sync and async together, and no place
    stays empty while a node is ready: as many as may run meet."""
    inside, together = Inside(), Meeting(limit or 10)

    async def work() -> None:
        with inside:
            await passes()
            await together.join()

    tasks = {
        name: work if kind == "async" or (kind == "both" and number % 2) else in_thread(work)
        for number, name in enumerate(row(10))
    }
    executor = DynamicExecutor(row(10), max_workers=10, max_concurrency=limit)
    assert execute(executor, tasks).ok
    assert inside.entered == 10
    assert inside.most == (limit or 10)


def in_thread(function: Callable[[], Any]) -> Callable[[], Any]:
    """Return a sync task that holds its thread while the async function runs on the loop."""
    return lambda: from_thread.run(function)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_max_workers(execute: Way, workers: int) -> None:
    """`max_workers` bounds the sync tasks and the sync expanders that run at once, together, and no
    slot stays empty while a node is ready: as many as may run meet."""
    inside, together = Inside(), Meeting(workers)

    async def meet() -> None:
        with inside:
            await passes()
            await together.join()

    work, dag = in_thread(meet), row(8)
    executor = DynamicExecutor(
        dag, expanders=dict.fromkeys(dag, lambda name, result: work()), max_workers=workers
    )
    assert execute(executor, dict.fromkeys(dag, work)).ok
    assert inside.entered == 16
    assert inside.most == workers


def test_expanders_of_async_nodes_take_workers(execute: Way) -> None:
    """A sync expander of an async node takes a worker slot, like a sync task."""
    inside = Inside()

    async def step() -> None:
        return None

    def expander(name: str, result: object) -> None:
        with inside:
            from_thread.run(passes, 50)

    dag = row(5)
    executor = DynamicExecutor(dag, expanders=dict.fromkeys(dag, expander), max_workers=1)
    assert execute(executor, dict.fromkeys(dag, step)).ok
    assert (inside.entered, inside.most) == (5, 1)


def test_sync_body_keeps_its_slot_for_its_expander(execute: Way) -> None:
    """A node in flight goes before ready nodes: at one worker the expander of a sync node follows
    its body at once."""
    log: list[str] = []
    dag = row(3)
    executor = DynamicExecutor(
        dag,
        expanders={name: lambda name, result: log.append(f"expand {name}") for name in dag},
        max_workers=1,
    )
    execute(executor, {name: lambda name=name: log.append(name) for name in dag})
    assert log == ["n0", "expand n0", "n1", "expand n1", "n2", "expand n2"]


def test_node_in_flight_goes_before_ready_nodes(execute: Way) -> None:
    """An async node whose sync expander waits for the only worker gets it before a node that is
    only ready, though that one was there first."""
    log: list[str] = []

    async def step() -> None:
        return None

    def hold() -> None:
        from_thread.run(passes, 50)
        log.append("n0")

    executor = DynamicExecutor(
        row(3), expanders={"n2": lambda name, result: log.append("expand n2")}, max_workers=1
    )
    tasks = {"n0": hold, "n1": lambda: log.append("n1"), "n2": step}
    assert execute(executor, tasks).ok
    assert log == ["n0", "expand n2", "n1"]


def test_sync_nodes_hold_no_async_node_back(execute: Way) -> None:
    """Sync nodes that wait for a worker hold nothing back that is async: the last node lets the
    first one go."""
    release = threading.Event()

    def hold() -> None:
        assert release.wait(GUARD)

    async def let_go() -> None:
        release.set()

    dag = row(6)
    tasks = {name: let_go if name == "n5" else hold for name in dag}
    assert execute(DynamicExecutor(dag, max_workers=1), tasks).ok


def test_slot_is_returned_before_an_awaitable_is_awaited(execute: Way) -> None:
    """The worker slot of a sync task that returned an awaitable is free while that is awaited: a
    sync node that waited for it may start, and here lets the first one go."""
    released = anyio.Event()

    async def hold() -> None:
        with anyio.fail_after(GUARD):
            await released.wait()

    executor = DynamicExecutor(row(2), max_workers=1)
    result = execute(
        executor, {"n0": lambda: hold(), "n1": lambda: from_thread.run_sync(released.set)}
    )
    assert result.ok


@pytest.mark.parametrize("kind", ["async", "lazy"])
def test_slot_is_returned_before_an_expander_is_awaited(execute: Way, kind: str) -> None:
    """The worker slot of a sync node is free while its async expander, or the awaitable that its
    sync expander returned, is awaited: a sync node that waited for it may start."""
    released = anyio.Event()

    async def hold(name: str, result: object) -> None:
        with anyio.fail_after(GUARD):
            await released.wait()

    expander = hold if kind == "async" else lambda name, result: hold(name, result)
    executor = DynamicExecutor(row(2), expanders={"n0": expander}, max_workers=1)
    result = execute(executor, {"n0": nothing, "n1": lambda: from_thread.run_sync(released.set)})
    assert result.ok


async def test_two_nodes_never_share_a_task() -> None:
    """Each node has a task of its own, which is not the caller's, to be told apart by."""
    together = Meeting(5)

    async def task() -> int:
        await together.join()
        return anyio.get_current_task().id

    dag = row(5)
    result = await DynamicExecutor(dag).execute(dict.fromkeys(dag, task))
    ids = {node.result for node in result.node_results.values()}
    assert len(ids) == 5
    assert anyio.get_current_task().id not in ids
