"""The scheduler under load, under limits, and when it is broken itself."""

import asyncio
import threading
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import anyio.from_thread
import pytest
import trio
from anyio.lowlevel import checkpoint

import dagron
from dagron._hosting import BATCH
from dagron._scheduler import Scheduler
from faults import (
    GUARD,
    ON_ASYNCIO,
    Alive,
    Canary,
    graph,
    new_objects_only,
    passes,
    program,
    run,
    until,
)

Node = dagron.DynamicNodeSpec
Modification = dagron.DynamicModification


async def noop() -> str:
    return "done"


# --- limits --------------------------------------------------------------------------------------


def layers(width: int, depth: int) -> dagron.DAG:
    """Layers of nodes, each of which waits for three of the layer before."""
    builder = dagron.DAG.builder()
    for column in range(width):
        builder = builder.add_node(f"0.{column}")
    for row in range(1, depth):
        for column in range(width):
            for offset in range(3):
                source = f"{row - 1}.{(column + offset) % width}"
                builder = builder.add_edge(source, f"{row}.{column}")
    return builder.build()


@pytest.mark.parametrize("limit", [1, 2, 7, 12, None])
async def test_all_nodes_run_and_the_limit_holds(limit: int | None) -> None:
    """At limit 1, 2, n and none, all nodes run and the limit holds. With free slots and ready
    nodes, no slot idles: as many are at work at once as the limit allows.
    """
    alive = Alive()
    dag = layers(width=12, depth=4)

    async def work() -> None:
        with alive:
            await passes(3)

    result = await run(dag, dict.fromkeys(dag.nodes(), work), max_concurrency=limit)

    assert result.ok
    assert alive.total == result.succeeded == 48
    assert alive.now == 0
    assert alive.most == (limit or 12)


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("limit", [1, 3, None])
async def test_both_limits_hold_for_a_mix(limit: int | None, workers: int) -> None:
    """`max_workers` and `max_concurrency` hold together, for sync and async nodes side by side,
    nodes that an expander adds included.
    """
    everyone, threads = Alive(), Alive()

    async def on_loop() -> None:
        with everyone:
            await passes(2)

    def sync() -> None:
        with everyone, threads:
            anyio.from_thread.run(passes, 2)

    def expand(name: str, result: None) -> Modification:
        return Modification(
            [Node(f"{name}+{i}", sync if i % 2 else on_loop, [name]) for i in range(4)]
        )

    dag = layers(width=8, depth=3)
    tasks = {name: on_loop if index % 2 else sync for index, name in enumerate(dag)}

    result = await run(
        dag,
        tasks,
        dict.fromkeys(dag.nodes()[:8], expand),
        max_workers=workers,
        max_concurrency=limit,
    )

    assert result.ok
    assert everyone.total == result.succeeded == 24 + 32
    assert everyone.most <= (limit or 1_000)
    assert threads.most <= workers


# --- large ready sets ----------------------------------------------------------------------------


def tasks_living() -> int:
    try:
        return trio.lowlevel.current_statistics().tasks_living
    except RuntimeError:
        return len(asyncio.all_tasks())


class Host:
    """A task of the host program, which counts its turns and what happened since the last."""

    def __init__(self) -> None:
        self.turns = 0
        self.started = 0  # nodes, in all
        self.most_tasks = 0
        self.most_between_turns = 0
        self._before = 0

    async def tick(self) -> None:
        while True:
            self.turns += 1
            self.most_tasks = max(self.most_tasks, tasks_living())
            self.most_between_turns = max(self.most_between_turns, self.started - self._before)
            self._before = self.started
            await checkpoint()


@pytest.mark.parametrize("pause", [0, 1])
async def test_a_large_ready_set_is_admitted_in_batches(pause: int) -> None:
    """Large ready sets are spawned in small batches with a checkpoint between, so that short nodes
    finish before the next are created and the host's event loop keeps turning: with 20,000 ready
    nodes, no more than a few batches are alive, and a task of the host gets a turn between them.
    """
    count = 5_000 if pause else 20_000
    names = [f"n{i}" for i in range(count)]
    host, alive = Host(), Alive()

    async def node() -> None:
        host.started += 1
        with alive:
            await passes(pause)

    others = tasks_living()
    async with anyio.create_task_group() as group:
        group.start_soon(host.tick)
        await checkpoint()
        before = host.turns
        result = await run(graph(*names), dict.fromkeys(names, node))
        turns = host.turns - before
        group.cancel_scope.cancel()

    assert result.succeeded == count
    assert turns >= count / (4 * BATCH)
    assert host.most_between_turns <= 4 * BATCH
    assert host.most_tasks - others <= (4 + pause) * BATCH + 10
    assert alive.most <= (3 + pause) * BATCH


async def test_nodes_that_are_released_at_once_are_admitted_in_batches() -> None:
    """The same for 8,000 nodes that one node's end releases, and that its expander adds."""
    host = Host()

    async def node() -> None:
        host.started += 1

    def expand(name: str, result: str) -> Modification:
        return Modification([Node(f"added{i}", node, [name]) for i in range(4_000)])

    builder = dagron.DAG.builder().add_node("root")
    tasks: dict[str, Any] = {"root": noop}
    for i in range(4_000):
        builder = builder.add_edge("root", f"n{i}")
        tasks[f"n{i}"] = node

    others = tasks_living()
    async with anyio.create_task_group() as group:
        group.start_soon(host.tick)
        await checkpoint()
        result = await run(builder.build(), tasks, {"root": expand})
        group.cancel_scope.cancel()

    assert result.succeeded == 8_001
    assert host.most_between_turns <= 4 * BATCH
    assert host.most_tasks - others <= 4 * BATCH + 10


async def test_twenty_thousand_failures_make_a_short_report() -> None:
    """20,000 failing nodes: the report stays under 10 kB, also as a traceback."""
    names = [f"n{i}" for i in range(20_000)]

    async def fail() -> None:
        raise ValueError("x" * 2_000)

    result = await run(graph(*names), dict.fromkeys(names, fail))

    assert result.failed == 20_000
    with pytest.raises(dagron.RunFailedError) as caught:
        result.raise_for_failures()
    assert len(caught.value.failures) == 20_000
    assert len(str(caught.value)) < 10_000
    assert len("".join(traceback.format_exception(caught.value))) < 10_000
    assert len(repr(result)) < 1_000


async def test_one_failure_skips_twenty_thousand() -> None:
    """A skip cascade through 19,999 nodes ends in the pass in which it began, and the report is
    short.
    """
    dag = graph(edges=" ".join(f"n{i}-n{i + 1}" for i in range(19_999)))
    ran: list[int] = []

    async def node() -> None:
        ran.append(1)
        raise ValueError("first")

    result = await run(dag, dict.fromkeys(dag.nodes(), node))

    assert ran == [1]
    assert (result.failed, result.skipped) == (1, 19_999)
    with pytest.raises(dagron.RunFailedError) as caught:
        result.raise_for_failures()
    assert len(str(caught.value)) < 10_000


# --- the order of admission ----------------------------------------------------------------------

ADMISSION = """
import trio

import dagron
from dagron._scheduler import Scheduler

# trio shuffles on purpose; tools for testing that need repeatable runs switch that off like this.
trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING = True
first_steps, taken = [], []
honest = Scheduler.take_ready


def noting(scheduler, most):
    names = honest(scheduler, most)
    taken.extend(names)
    return names


Scheduler.take_ready = noting


def node(name):
    async def call():
        first_steps.append(name)
        if name.endswith("7"):
            raise ValueError(name)

    return call


async def expand(name, result):
    kinds = {f"{name}/{kind}" for kind in "abcdef"}
    return dagron.DynamicModification(
        [dagron.DynamicNodeSpec(kind, node(kind), [name], ["end"]) for kind in sorted(kinds)],
        remove_nodes=[f"spare{name}"],
    )


builder = dagron.DAG.builder()
for layer in range(3):
    for column in range(10):
        builder = builder.add_node(f"{layer}{column}")
        if layer:
            builder = builder.add_edge(f"{layer - 1}{column}", f"{layer}{column}")
            builder = builder.add_edge(f"{layer - 1}{(column + 3) % 10}", f"{layer}{column}")
for column in range(10):
    builder = builder.add_edge(f"0{column}", f"spare0{column}").add_edge(f"2{column}", "end")
dag = builder.build()
tasks = {name: node(name) for name in dag if not name.startswith("spare")}
expanders = {f"0{column}": expand for column in range(10)}
for backend, limit in [(b, n) for b in ("asyncio", "trio") for n in (1, 4, None)]:
    trio._core._run._r.seed(1)
    executor = dagron.DynamicExecutor(dag, expanders, max_concurrency=limit)
    result = executor.execute_sync(tasks, backend=backend)
    print(backend, limit)
    print(*taken)
    print(*first_steps)
    print(*(f"{node.name}={node.status}:{node.reason}" for node in result.node_results.values()))
    print(*result.removed)
    print(result.dag.edges())
    try:
        result.raise_for_failures()
    except dagron.RunFailedError as error:
        print(error)
    taken.clear()
    first_steps.clear()
"""


def test_nothing_depends_on_the_order_of_hashes() -> None:
    """Nothing user-visible depends on set or hash order: 20 values of `PYTHONHASHSEED` give the
    same admission order, the same order of first steps, the same results in the same order, the
    same words. (On trio the first steps of bodies within a batch may interleave differently: trio
    shuffles on purpose. Here its dice are loaded.)
    """

    def printed(seed: int) -> str:
        with program(ADMISSION, PYTHONHASHSEED=str(seed)) as process:
            status, lines, errors = process.end()
        assert (status, errors) == (0, "")
        return "\n".join(lines)

    with ThreadPoolExecutor(2) as pool:
        first, *others = pool.map(printed, range(20))

    assert first.count("spare00") == 6
    assert "=FAILED" in first
    assert others == [first] * 19


# --- memory --------------------------------------------------------------------------------------


async def fails_async() -> None:
    await checkpoint()
    raise ValueError


def fails_sync() -> None:
    raise ValueError


async def fails_in_expander(name: str, result: object) -> None:
    raise ValueError


def fails_in_sync_expander(name: str, result: object) -> None:
    raise ValueError


async def fails_with_context() -> None:
    try:
        await fails_async()
    except ValueError as error:
        raise KeyError from error


async def fails_in_group() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(fails_async)
        group.start_soon(anyio.sleep_forever)


async def cancelled_by_itself() -> None:
    raise asyncio.CancelledError


async def forgets_await() -> object:
    return noop()


async def fails_with_nested_run() -> None:
    result = await dagron.DynamicExecutor(graph("inner")).execute({"inner": fails_async})
    result.raise_for_failures()


def needs_a(a: object) -> object:
    return a


async def cuts_edge(name: str, result: object) -> Modification:
    return Modification(remove_edges=[("a", "kept")])


def bad_modification(name: str, result: object) -> Modification:
    return Modification(remove_nodes=["nobody"], add_edges=[("a", "a")])


KEPT: dict[str, tuple[Any, Any]] = {
    "success": (noop, None),
    "sync success": (lambda: "done", None),
    "async": (fails_async, None),
    "sync": (fails_sync, None),
    "awaitable": (lambda: fails_async(), None),
    "with context": (fails_with_context, None),
    "group": (fails_in_group, None),
    "callback": (lambda: anyio.from_thread.run(fails_async), None),
    "cancelled by itself": (cancelled_by_itself, None),
    "forgotten await": (forgets_await, None),
    "nested run": (fails_with_nested_run, None),
    "async expander": (noop, fails_in_expander),
    "sync expander": (noop, fails_in_sync_expander),
    "both sync": (lambda: None, fails_in_sync_expander),
    "awaitable of an expander": (noop, lambda name, result: fails_async()),
    "refused modification": (noop, bad_modification),
    "no modification": (noop, lambda name, result: [1]),
    "lost dependency": (noop, cuts_edge),
    "no task": (noop, lambda name, result: None),
}


async def sing() -> Canary:
    return Canary()


@pytest.mark.parametrize("kind", KEPT)
async def test_a_kept_error_does_not_keep_the_run(kind: str) -> None:
    """Tracebacks do not keep the memory of a finished run alive: an error that is kept keeps
    neither the state of its run nor the results of other nodes, and a kept result keeps no more
    than them.
    """
    task, expander = KEPT[kind]
    tasks = {"a": task, "kept": needs_a, "canary": sing}
    dag = graph("canary", edges="a-kept")
    if kind == "lost dependency":
        dag = graph(edges="a-kept canary-kept")
    if kind == "no task":
        del tasks["kept"]
    expanders = {"a": expander} if expander else None

    with new_objects_only() as alive:
        result = await run(dag, tasks, expanders)
        with suppress(dagron.RunFailedError):
            result.raise_for_failures()
        assert [type(thing) for thing in alive(1)] == [Canary]
        errors = [node.error for node in result.node_results.values() if node.error]
        assert bool(errors) is ("success" not in kind)
        del result
        assert alive() == []


@ON_ASYNCIO
@pytest.mark.parametrize("kind", ["async", "sync", "drained"])
async def test_an_error_of_a_killed_node_does_not_keep_the_run(kind: str) -> None:
    """The same for a node whose task was cancelled natively, in its body or on a thread. A thread
    that runs one node after another has a task, too: its node ends as if nothing had happened.
    """
    entered, gate = threading.Event(), threading.Event()

    def on_thread() -> None:
        entered.set()
        assert gate.wait(GUARD)

    async def on_loop() -> None:
        entered.set()
        await anyio.sleep_forever()

    async def killer() -> None:
        await until(entered.is_set)
        kill("dagron worker" if kind == "drained" else "a")
        await passes(5)
        gate.set()

    tasks = {"a": on_loop if kind == "async" else on_thread, "killer": killer, "canary": sing}
    builder = dagron.DAG.builder().add_node("killer").add_node("canary")
    builder.add_node("a", policy=dagron.NodePolicy(timeout=GUARD) if kind == "sync" else None)
    with new_objects_only() as alive:
        result = await run(builder.build(), tasks)
        error = result["a"].error
        assert isinstance(error, asyncio.CancelledError) is (kind != "drained")
        assert str(result["a"].status) == ("COMPLETED" if kind == "drained" else "FAILED")
        del result
        assert alive() == []


async def test_an_error_of_the_machinery_below_does_not_keep_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same for an error out of the machinery below, such as a thread that cannot start."""

    async def refuse(*arguments: object, **keywords: object) -> None:
        await checkpoint()
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(anyio.to_thread, "run_sync", refuse)
    with new_objects_only() as alive:
        tasks = {"a": lambda: None, "canary": sing}
        error = (await run(graph(*tasks), tasks))["a"].error
        assert type(error) is RuntimeError
        assert alive() == []


# --- a bug in the scheduler ----------------------------------------------------------------------


class Bug(Exception):
    """A bug that a test puts into the scheduler."""


def break_method(monkeypatch: pytest.MonkeyPatch, method: str, after: int) -> None:
    """Make a method of every scheduler raise, from its so-many-th call in a run on."""
    honest, make = getattr(Scheduler, method), Scheduler.__init__
    left: dict[int, int] = {}  # calls to go, of a scheduler that has been made

    def noted(self: Scheduler, *arguments: Any, **keywords: Any) -> None:
        make(self, *arguments, **keywords)
        left[id(self)] = after

    def broken(self: Scheduler, *arguments: Any, **keywords: Any) -> Any:
        if id(self) in left:
            left[id(self)] -= 1
            if left[id(self)] < 0:
                raise Bug(method)
        return honest(self, *arguments, **keywords)

    monkeypatch.setattr(Scheduler, "__init__", noted)
    monkeypatch.setattr(Scheduler, method, broken)


METHODS = [
    name for name, value in vars(Scheduler).items() if callable(value) and not name.startswith("__")
]


async def busy_run() -> dagron.ExecutionResult:
    """A run that uses all of the scheduler, beside a node that is in flight all the time."""

    async def expand(name: str, result: object, dag: dagron.DAG) -> Modification:
        await passes(2)
        return Modification(
            [Node(f"new{i}", lambda: None, [name], ["last"]) for i in range(3)],
            remove_nodes=["spare"],
        )

    def expand_sync(name: str, result: object) -> None:
        anyio.from_thread.run(passes, 3)

    async def fail() -> None:
        raise ValueError

    async def needs_inputs(inputs: dict[str, Any]) -> int:
        return len(inputs)

    edges = "a-last a-spare spare-last b-last bad-skipped b-inputs c-last d-last"
    tasks = {
        "other": partial(passes, 300),
        "a": noop,
        "b": lambda: None,
        "c": noop,
        "d": noop,
        "bad": fail,
        "skipped": noop,
        "last": noop,
        "inputs": needs_inputs,
    }
    expanders = {"a": expand, "b": expand_sync, "c": expand_sync, "d": expand_sync}
    return await run(graph("other", edges=edges), tasks, expanders, max_workers=1)


@pytest.mark.parametrize("after", [0, 1, 4])
@pytest.mark.parametrize("method", METHODS)
async def test_an_exception_inside_the_scheduler_ends_the_run(
    monkeypatch: pytest.MonkeyPatch, method: str, after: int
) -> None:
    """An exception inside the scheduler itself is a bug: the run ends at once with `InternalError`,
    never a hang, never a group, and never as the failure of some node.
    """
    break_method(monkeypatch, method, after)
    caught: BaseException | None = None
    try:
        result = await busy_run()
    except BaseException as error:
        caught = error

    if caught is None:  # the run got through with fewer calls of the method
        assert (result.succeeded, result.failed, result.skipped, result.cancelled) == (10, 1, 1, 0)
        assert isinstance(result["bad"].error, ValueError)
    else:
        assert isinstance(caught, dagron.InternalError)
        assert isinstance(caught.__cause__, Bug)
        assert "bug in dagron" in str(caught)


async def test_a_busy_run_gets_through() -> None:
    """The run of the test above succeeds when nothing is broken."""
    result = await busy_run()
    assert (result.succeeded, result.failed, result.skipped, result.cancelled) == (10, 1, 1, 0)


async def test_a_scheduler_that_loses_a_node_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing running, yet nodes unfinished: `InternalError`, never a hang."""
    monkeypatch.setattr(Scheduler, "_make_ready", lambda self, name: None)
    with pytest.raises(dagron.InternalError):
        await run(graph(edges="a-b"), {"a": noop, "b": noop})


# --- a node whose task is killed -----------------------------------------------------------------


def kill(*names: str) -> None:
    """Cancel the tasks of these nodes natively, behind the back of the run."""
    for task in asyncio.all_tasks():
        if task.get_name() in names:
            task.cancel()


@ON_ASYNCIO
async def test_a_node_whose_task_is_killed_is_failed() -> None:
    """A child task that user code kills by `Task.cancel()`: its node is FAILED, its siblings go
    on.
    """

    async def killer() -> str:
        await passes(2)
        kill("victim")
        await passes(5)
        return "done"

    dag = graph("killer", edges="victim-after other-end")
    tasks = {
        "victim": anyio.sleep_forever,
        "after": noop,
        "killer": killer,
        "other": partial(passes, 10),
        "end": noop,
    }
    result = await run(dag, tasks)

    assert (result.succeeded, result.failed, result.skipped, result.cancelled) == (3, 1, 1, 0)
    assert isinstance(result["victim"].error, asyncio.CancelledError)


class Growing:
    """Six nodes, two of which an expander adds; it knows what has really been done."""

    dag = graph("alone", edges="root-end mid-end")

    def __init__(self) -> None:
        self.done: set[str] = set()

    def task(self, name: str) -> Callable[[], Awaitable[None]]:
        async def call() -> None:
            await passes(3)
            self.done.add(name)

        return call

    async def expand(self, name: str, result: object) -> Modification:
        await passes(3)
        self.done.add("expansion")
        return Modification(
            [Node(f"new{i}", self.task(f"new{i}"), ["root"], ["end"]) for i in range(2)]
        )

    async def execute(self) -> dagron.ExecutionResult:
        tasks = {name: self.task(name) for name in self.dag}
        return await run(self.dag, tasks, {"root": self.expand})


@ON_ASYNCIO
@pytest.mark.parametrize("victims", [["root"], ["new0"], ["end"], ["alone"], ["root", "mid"]])
async def test_a_kill_in_any_pass_never_gives_a_green_run(victims: list[str]) -> None:
    """A child task killed natively by `Task.cancel()` from user code, in any pass of the loop, also
    before its first step: an error or a result that is not `ok`, never a green run that did not do
    the work, never a hang, never a cancellation of the caller.
    """
    killed = 0
    for count in range(40):
        growing = Growing()

        async def kill_later(turns: int = count) -> None:
            nonlocal killed
            await passes(turns)
            tasks = [t for t in asyncio.all_tasks() if t.get_name() in victims]
            killed += len(tasks)
            kill(*victims)

        async with anyio.create_task_group() as host:
            host.start_soon(kill_later)
            try:
                result = await growing.execute()
            except dagron.RunFailedError:  # cancelled from outside before they began, it says
                continue
        assert result.cancelled == 0
        if result.ok:
            assert growing.done == {"expansion", *result.node_results}
            assert len(result.node_results) == 6
        else:
            assert {name for name in result.node_results if result[name].error} <= set(victims)
    assert killed > 2
