"""`Gate`: nodes wait for a decision from outside, and hold nothing meanwhile."""

import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

import dagron
from clocks import VIRTUAL
from controls import graph, statuses
from dagron import (
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    Event,
    Gate,
    GateError,
    GateRejectedError,
    NodePolicy,
    NodeTimeoutError,
    Retry,
)
from faults import Canary, new_objects_only
from ways import GUARD, Inside, Way, nothing, passes

IN_G = NodePolicy(group="g")


# --- a decision ----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, 42, "yes", False, ValueError("a value")], ids=repr)
def test_a_gate_as_a_task_by_itself(execute: Way, value: object) -> None:
    """`gate.wait` is a task: its node has the value with which the gate is opened, whatever that
    is, and what depends on it runs after.
    """
    gate = Gate()
    seen = []

    async def decide() -> None:
        await passes()
        gate.open(value)

    def after(approval: object) -> None:
        seen.append(approval)

    dag = graph("approval>after", approval=None, decide=None)
    tasks = {"approval": gate.wait, "decide": decide, "after": after}
    result = execute(DynamicExecutor(dag), tasks)
    assert result.ok
    assert result["approval"].result is value
    assert seen == [value]


def test_a_gate_that_was_opened_before(execute: Way) -> None:
    """Who comes later gets the value at once, however often, and in any number of event loops."""
    gate = Gate()
    gate.open("value")
    for _ in range(2):
        result = execute(DynamicExecutor(graph(a=None, b=None)), {"a": gate.wait, "b": gate.wait})
        assert (result["a"].result, result["b"].result) == ("value", "value")


def test_a_gate_that_was_rejected_before(execute: Way) -> None:
    """Who comes later fails with `GateRejectedError`, which has the reason."""
    gate = Gate("budget")
    gate.reject("too expensive")
    result = execute(DynamicExecutor(graph("a>b", a=None)), {"a": gate.wait, "b": nothing})
    assert statuses(result) == {"a": "FAILED", "b": "SKIPPED"}
    error = result["a"].error
    assert isinstance(error, GateRejectedError)
    assert error.reason == "too expensive"
    assert str(error) == "gate 'budget' was rejected: too expensive"


def test_a_gate_that_is_rejected_while_nodes_wait(execute: Way) -> None:
    """All who wait fail, each with an error of its own; a task may catch it and go on."""
    gate = Gate()

    async def careful() -> str:
        try:
            await gate.wait()
        except GateRejectedError as error:
            return f"without: {error.reason}"
        return "with"

    async def decide() -> None:
        await passes()
        gate.reject("no")

    dag = graph(a=None, b=None, careful=None, decide=None)
    tasks = {"a": gate.wait, "b": gate.wait, "careful": careful, "decide": decide}
    result = execute(DynamicExecutor(dag), tasks)
    assert statuses(result) == {
        "a": "FAILED",
        "b": "FAILED",
        "careful": "COMPLETED",
        "decide": "COMPLETED",
    }
    assert result["careful"].result == "without: no"
    assert result["a"].error is not result["b"].error


def test_a_gate_that_is_decided_in_a_sync_node(execute: Way) -> None:
    """`open` and `reject` work from worker threads, at `max_workers=1`, too."""
    yes, no = Gate(), Gate()
    dag = graph(yes=None, no=None, decide=None)

    def decide() -> None:
        yes.open("from a thread")
        no.reject()

    executor = DynamicExecutor(dag, max_workers=1)
    result = execute(executor, {"yes": yes.wait, "no": no.wait, "decide": decide})
    assert result["yes"].result == "from a thread"
    error = result["no"].error
    assert isinstance(error, GateRejectedError)
    assert (error.reason, str(error)) == ("", "the gate was rejected")


async def test_a_gate_that_is_decided_in_a_foreign_thread() -> None:
    """Any thread may decide, one that knows nothing of event loops, too."""
    gate = Gate()
    thread = threading.Thread(target=partial(gate.open, "from afar"))

    async def start() -> None:
        await passes()
        thread.start()

    result = await DynamicExecutor(graph(a=None, b=None)).execute({"a": gate.wait, "b": start})
    thread.join(GUARD)
    assert result["a"].result == "from afar"


async def test_a_gate_is_decided_by_the_program_beside_the_run() -> None:
    """An HTTP handler, say, that runs in the same event loop decides; and in no run at all may one
    wait, too.
    """
    gate = Gate()
    got = []

    async def bystander() -> None:
        got.append(await gate.wait())

    async with anyio.create_task_group() as group:
        group.start_soon(bystander)
        async with DynamicExecutor(graph(a=None)).start({"a": gate.wait}) as run:
            await passes()
            assert run.status("a").name == "RUNNING"
            assert "waits at a gate" in str(run.explain("a"))
            gate.open("now")
    assert (await run.wait())["a"].result == "now"
    assert got == ["now"]


async def test_a_thousand_nodes_at_one_gate() -> None:
    """A gate releases all who wait, in one run or in many, each with the value."""
    gate = Gate()
    names = [f"n{i}" for i in range(500)]
    results = []

    async def run() -> None:
        executor = DynamicExecutor(graph(**dict.fromkeys(names)), max_concurrency=3)
        results.append(await executor.execute(dict.fromkeys(names, gate.wait)))

    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            group.start_soon(run)
            for _ in range(60):
                await passes(10)
            gate.open(7)
    assert [result.succeeded for result in results] == [500, 500]
    assert {result[name].result for result in results for name in names} == {7}


def test_one_gate_in_several_event_loops() -> None:
    """Runs in different threads, each on an event loop of its own, wait at one gate."""
    gate = Gate()
    entered = threading.Semaphore(0)
    results: list[object] = []

    async def enter() -> None:
        entered.release()

    def program(backend: str) -> None:
        executor = DynamicExecutor(graph(a=None, b=None))
        tasks = {"a": gate.wait, "b": enter}
        results.append(executor.execute_sync(tasks, backend=backend)["a"].result)

    backends = ["asyncio", "trio", "asyncio", "trio"]
    threads = [threading.Thread(target=program, args=(backend,)) for backend in backends]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert entered.acquire(timeout=GUARD)
    gate.open("all")
    for thread in threads:
        thread.join(GUARD)
    assert results == ["all"] * 4


def test_a_gate_outlives_the_event_loop_of_who_gave_up() -> None:
    """A waiter that was cancelled, in an event loop that is closed, is no trouble for `open`."""
    gate = Gate()
    executor = DynamicExecutor(graph(a=None))
    for backend in ("asyncio", "trio"):
        result = executor.execute_sync({"a": gate.wait}, timeout=0.01, backend=backend)
        assert result.cancelled == 1
    gate.open(1)
    assert executor.execute_sync({"a": gate.wait})["a"].result == 1


@pytest.mark.parametrize("first", ["open", "reject"])
@pytest.mark.parametrize("second", ["open", "reject"])
def test_a_gate_is_decided_once(first: str, second: str) -> None:
    """A second `open` or `reject` is a `GateError` that says what the gate is; nothing changes."""
    gate = Gate("release")
    assert not gate.is_decided
    assert repr(gate) == "<Gate 'release': closed>"
    getattr(gate, first)("first")
    assert gate.is_decided
    word = {"open": "open", "reject": "rejected"}[first]
    with pytest.raises(GateError) as caught:
        getattr(gate, second)("second")
    assert str(caught.value) == (
        f"<Gate 'release': {word}> cannot be decided again\n"
        f"  help: a gate is decided once; look at gate.is_decided before"
    )
    result = DynamicExecutor(graph(a=None)).execute_sync({"a": gate.wait})
    if first == "open":
        assert result["a"].result == "first"
    else:
        assert result["a"].error.reason == "first"  # type: ignore[union-attr]


def test_of_many_threads_one_decides() -> None:
    """Of threads that decide at once, one succeeds and the others get a `GateError`."""
    for _ in range(20):
        gate = Gate()
        together = threading.Barrier(4)
        outcomes: list[object] = []

        def decide(
            number: int,
            gate: Gate = gate,
            together: threading.Barrier = together,
            outcomes: list[object] = outcomes,
        ) -> None:
            together.wait(GUARD)
            try:
                gate.open(number)
                outcomes.append(number)
            except GateError:
                outcomes.append(None)

        threads = [threading.Thread(target=decide, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(GUARD)
        winner = [number for number in outcomes if number is not None]
        assert len(winner) == 1
        assert anyio.run(gate.wait) == winner[0]


def test_a_gates_name_is_in_its_texts() -> None:
    """A gate without a name has none in its texts."""
    assert repr(Gate()) == "<Gate: closed>"
    gate = Gate("x")
    gate.reject()
    assert repr(gate) == "<Gate 'x': rejected>"


# --- what a waiting node holds -------------------------------------------------------------------

BOUNDS = pytest.mark.parametrize(
    "bound", [{"max_concurrency": 1}, {"limits": {"g": 1}}], ids=["max_concurrency", "group"]
)


@BOUNDS
def test_a_node_at_a_gate_holds_no_slot(execute: Way, bound: dict[str, Any]) -> None:
    """While the holder of the only slot waits at a gate, all others run, one at a time; one of them
    opens the gate.
    """
    gate = Gate()
    inside = Inside()
    names = [f"n{i}" for i in range(10)]

    async def asks() -> object:
        with inside:
            await checkpoint()
        answer = await gate.wait()
        with inside:
            await passes(3)
        return answer

    async def works(name: str) -> None:
        with inside:
            await passes(3)
            if name == "n9":
                gate.open("the last one")

    dag = graph(
        asks=IN_G if "limits" in bound else None,
        **dict.fromkeys(names, IN_G if "limits" in bound else None),
    )
    tasks: dict[str, Any] = {name: partial(works, name) for name in names}
    result = execute(DynamicExecutor(dag, **bound), {"asks": asks, **tasks})
    assert result.ok
    assert result["asks"].result == "the last one"
    assert inside.most == 1


@BOUNDS
def test_a_node_at_a_gate_goes_before_ready_nodes(execute: Way, bound: dict[str, Any]) -> None:
    """When the gate is opened, the node is the next to have the slot, before those that are ready
    since long before, whatever their priority; and it does not go on without it.
    """
    gate = Gate()
    order: list[str] = []
    inside = Inside()

    async def asks() -> None:
        order.append("asks")
        await gate.wait()
        with inside:
            order.append("goes on")
            await passes(3)

    async def works(name: str) -> None:
        with inside:
            order.append(name)
            await passes(3)
            if name == "n1":
                gate.open()
            await passes(10)

    group = ("g",) if "limits" in bound else ()
    names = [f"n{i}" for i in range(4)]
    policies = {name: NodePolicy(group=group, priority=5) for name in names}
    dag = graph(asks=NodePolicy(group=group, priority=9), **policies)
    tasks: dict[str, Any] = {name: partial(works, name) for name in names}
    result = execute(DynamicExecutor(dag, **bound), {"asks": asks, **tasks})
    assert result.ok
    assert order == ["asks", "n0", "n1", "goes on", "n2", "n3"]
    assert inside.most == 1


def test_many_nodes_come_through_one_gate_one_by_one(execute: Way) -> None:
    """A gate releases all who wait, and the bound holds all the same: they go on one at a time."""
    gate = Gate()
    inside = Inside()
    order: list[str] = []
    names = [f"n{i}" for i in range(30)]

    async def asks(name: str) -> None:
        await gate.wait()
        with inside:
            order.append(name)
            await passes(2)

    async def decide() -> None:
        await passes()
        gate.open()

    tasks: dict[str, Any] = {name: partial(asks, name) for name in names}
    executor = DynamicExecutor(graph(**dict.fromkeys(names), decide=None), max_concurrency=1)
    result = execute(executor, {**tasks, "decide": decide})
    assert result.ok
    assert inside.most == 1
    assert sorted(order) == sorted(names)


def test_a_gate_in_what_a_sync_task_returns(execute: Way) -> None:
    """A sync task that returns `gate.wait()` holds no worker while it waits."""
    gate = Gate()
    executor = DynamicExecutor(graph(a=None, b=None), max_workers=1)
    tasks = {"a": lambda: gate.wait(), "b": lambda: gate.open("by b")}
    assert execute(executor, tasks)["a"].result == "by b"


def test_a_gate_in_an_expander(execute: Way) -> None:
    """An async expander that waits at a gate holds no slot, and lands its modification after."""
    gate = Gate()

    async def expand(name: str, result: object) -> DynamicModification:
        word = await gate.wait()
        return DynamicModification([DynamicNodeSpec(word, nothing, [name])])

    async def decide() -> None:
        gate.open("new")

    executor = DynamicExecutor(graph(a=None, b=None), {"a": expand}, max_concurrency=1)
    result = execute(executor, {"a": checkpoint, "b": decide})
    assert statuses(result) == {"a": "COMPLETED", "new": "COMPLETED", "b": "COMPLETED"}


def test_a_gate_in_a_task_that_the_node_has_started(execute: Way) -> None:
    """A task that waits in a task group of its own node leaves the node its slot: what else the
    node does meanwhile is bounded as ever.
    """
    gate = Gate()
    inside = Inside()
    got = []

    async def child() -> None:
        got.append(await gate.wait())

    async def parent() -> None:
        with inside:
            async with anyio.create_task_group() as group:
                group.start_soon(child)
                group.start_soon(child)
                await passes()
                assert other == []
                gate.open("to the children")

    other: list[int] = []

    async def works() -> None:
        with inside:
            other.append(1)

    executor = DynamicExecutor(graph(parent=None, works=None), max_concurrency=1)
    result = execute(executor, {"parent": parent, "works": works})
    assert result.ok
    assert got == ["to the children"] * 2
    assert inside.most == 1


def test_a_gate_in_a_nested_run(execute: Way) -> None:
    """A node of a nested run that waits at a gate gives back the slot of that run, and the outer
    node keeps its own; both have theirs again.
    """
    gate = Gate()

    async def decide() -> None:
        gate.open("inside")

    async def outer() -> object:
        executor = DynamicExecutor(graph(asks=None, decide=None), max_concurrency=1)
        return (await executor.execute({"asks": gate.wait, "decide": decide}))["asks"].result

    result = execute(DynamicExecutor(graph(outer=None), max_concurrency=1), {"outer": outer})
    assert result["outer"].result == "inside"


# --- time at a gate ------------------------------------------------------------------------------


@VIRTUAL
async def test_the_nodes_timeout_counts_at_a_gate() -> None:
    """A node that waits for too long is FAILED with `NodeTimeoutError` at its deadline; the gate
    is as it was.
    """
    gate = Gate()
    began = anyio.current_time()
    executor = DynamicExecutor(graph(a=NodePolicy(timeout=3600)), max_concurrency=1)
    result = await executor.execute({"a": gate.wait})
    assert isinstance(result["a"].error, NodeTimeoutError)
    assert anyio.current_time() - began == 3600
    gate.open("later")
    assert (await executor.execute({"a": gate.wait}))["a"].result == "later"


@VIRTUAL
async def test_a_gate_and_a_retry() -> None:
    """A rejected gate, and a timeout at one, are reasons to try again; no slot is lost by them."""
    gates = [Gate("first"), Gate("second"), Gate("third")]
    gates[0].reject("no")
    left = list(gates)
    inside = Inside()

    async def asks() -> object:
        answer = await left.pop(0).wait()
        with inside:
            await anyio.sleep(1)
        return answer

    async def works() -> None:
        with inside:
            await anyio.sleep(20)
            gates[2].open("yes")

    policy = NodePolicy(timeout=5, retry=Retry(3, initial_delay=1, jitter=0))
    executor = DynamicExecutor(graph(asks=policy, works=None), max_concurrency=1)
    result = await executor.execute({"asks": asks, "works": works})
    node = result["asks"]
    assert (node.result, node.attempts) == ("yes", 3)
    assert [type(error) for error in node.errors] == [GateRejectedError, NodeTimeoutError]
    assert inside.most == 1


@VIRTUAL
@pytest.mark.parametrize("opens", [None, 1.0, 2.0], ids=["never", "before", "at"])
@BOUNDS
async def test_a_task_that_waits_for_a_while(opens: float | None, bound: dict[str, Any]) -> None:
    """A task puts `move_on_after` around `gate.wait()`: however that ends, also while it waits for
    its slot, the task goes on only when it has its slot again.
    """
    gate = Gate()
    inside = Inside()
    began = anyio.current_time()
    times = []

    async def asks() -> None:
        with anyio.move_on_after(2):
            await gate.wait()
        times.append(anyio.current_time() - began)
        with inside:
            await anyio.sleep(1)

    async def works() -> None:
        with inside:
            if opens is not None:
                await anyio.sleep(opens)
                gate.open()
            await anyio.sleep(5 - (opens or 0))

    policy = IN_G if "limits" in bound else None
    dag = graph(asks=policy, works=policy, more=policy)
    executor = DynamicExecutor(dag, **bound)
    result = await executor.execute({"asks": asks, "works": works, "more": works})
    assert result.succeeded == (3 if opens is None else 2)  # the second `open` is refused
    assert inside.most == 1
    assert times == [5]


@VIRTUAL
async def test_a_task_that_waits_for_a_while_and_finds_its_slot_free() -> None:
    """When nobody took its slot, it goes on at once, as often as it likes."""
    gate = Gate()
    began = anyio.current_time()

    async def asks() -> int:
        for count in range(10):
            with anyio.move_on_after(1):
                await gate.wait()
                return count
        return -1

    executor = DynamicExecutor(graph(asks=None), max_concurrency=1)
    assert (await executor.execute({"asks": asks}))["asks"].result == -1
    assert anyio.current_time() - began == 10


@VIRTUAL
@pytest.mark.parametrize("opens", [False, True], ids=["gave up", "opened"])
async def test_a_node_is_out_of_time_while_it_waits_for_its_slot(opens: bool) -> None:
    """After the gate it waits for its slot, and its timeout still counts: it is FAILED then."""
    gate = Gate()
    ends: list[float] = []
    began = anyio.current_time()

    def observe(event: Event) -> None:
        if event.kind == "node_failed":
            ends.append(anyio.current_time() - began)

    async def asks() -> None:
        with anyio.move_on_after(2):
            await gate.wait()
        await anyio.sleep(1)

    async def works() -> None:
        if opens:
            gate.open()
        await anyio.sleep(60)

    dag = graph(asks=NodePolicy(timeout=5), works=None)
    executor = DynamicExecutor(dag, max_concurrency=1, observers=[observe])
    result = await executor.execute({"asks": asks, "works": works})
    assert isinstance(result["asks"].error, NodeTimeoutError)
    assert ends == [5]


# --- cancelled at a gate -------------------------------------------------------------------------


async def by_caller(executor: DynamicExecutor, tasks: dict[str, Any]) -> None:
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(executor.execute, tasks)
            await passes()
            scope.cancel()
    assert scope.cancelled_caught


async def by_handle(executor: DynamicExecutor, tasks: dict[str, Any]) -> None:
    async with executor.start(tasks) as run:
        await passes()
        run.cancel("enough")
    assert statuses(await run.wait())["asks"] == "CANCELLED"


async def by_name(executor: DynamicExecutor, tasks: dict[str, Any]) -> None:
    async with executor.start(tasks) as run:
        await passes()
        run.cancel_node("asks")
    result = await run.wait()
    assert statuses(result) == {"asks": "CANCELLED", "after": "SKIPPED", "rest": "COMPLETED"}
    assert result.ok


async def by_modification(executor: DynamicExecutor, tasks: dict[str, Any]) -> None:
    async with executor.start(tasks) as run:
        await passes()
        await run.modify(DynamicModification(cancel_nodes=["asks"]))
    assert statuses(await run.wait())["rest"] == "COMPLETED"


async def by_failure(executor: DynamicExecutor, tasks: dict[str, Any]) -> None:
    async def fail() -> None:
        await passes()
        raise ValueError

    result = await executor.execute({**tasks, "rest": fail})
    assert statuses(result) == {"asks": "CANCELLED", "after": "CANCELLED", "rest": "FAILED"}


async def by_interrupt(executor: DynamicExecutor, tasks: dict[str, Any]) -> None:
    async def interrupt() -> None:
        await passes()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await executor.execute({**tasks, "rest": interrupt})


@pytest.mark.parametrize(
    "cancel", [by_caller, by_handle, by_name, by_modification, by_failure, by_interrupt]
)
@pytest.mark.parametrize("shares", [False, True], ids=["own limits", "shared limits"])
async def test_a_node_that_is_cancelled_at_a_gate(
    cancel: Callable[[DynamicExecutor, dict[str, Any]], Awaitable[None]], shares: bool
) -> None:
    """It ends at once, the run ends as it should, the gate forgets the waiter, and no slot is lost:
    the next run has them all.
    """
    gate = Gate()
    executor = DynamicExecutor(
        graph("asks>after", asks=IN_G, rest=IN_G),
        limits=dagron.Limits(g=1) if shares else {"g": 1},
        max_concurrency=1,
        on_failure="cancel",
    )
    with anyio.fail_after(GUARD):
        await cancel(executor, {"asks": gate.wait, "after": nothing, "rest": passes})
        assert gate._waiting == {}
        gate.open()
        assert (await executor.execute({"asks": gate.wait, "after": nothing, "rest": passes})).ok


@VIRTUAL
async def test_a_node_is_cancelled_while_it_waits_for_its_slot() -> None:
    """A node that waits for its slot after a gate that it gave up ends at once when it is
    cancelled: the holder of the slot may be waiting for just that.
    """
    gate = Gate()

    async def asks() -> None:
        with anyio.move_on_after(1):
            await gate.wait()

    async def works() -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await anyio.sleep_forever()

    scopes: list[anyio.CancelScope] = []
    executor = DynamicExecutor(graph(asks=None, works=None), max_concurrency=1)
    async with executor.start({"asks": asks, "works": works}) as run:
        await anyio.sleep(3)
        assert run.explain("asks").limit == "max_concurrency"
        run.cancel_node("asks")
        await anyio.sleep(1)
        assert run.status("asks").name == "CANCELLED"
        scopes[0].cancel()
    assert (await run.wait()).ok


@VIRTUAL
@pytest.mark.parametrize("cancel", ["run", "node", "timeout", "runs timeout", "caller"])
async def test_a_task_that_shields_its_wait(cancel: str) -> None:
    """A cancelled task that must have the decision shields itself: it gets it when the gate opens,
    and is cancelled after that.
    """
    gate = Gate()
    got = []

    async def asks() -> None:
        with anyio.CancelScope(shield=True):
            got.append(await gate.wait())
        await checkpoint()
        got.append("not cancelled")

    policy = NodePolicy(timeout=2 if cancel == "timeout" else None)
    executor = DynamicExecutor(graph(asks=policy), max_concurrency=1)
    timeout = 2 if cancel == "runs timeout" else None
    async with anyio.create_task_group() as group:
        group.start_soon(open_later, gate)
        with anyio.move_on_after(2 if cancel == "caller" else None):
            async with executor.start({"asks": asks}, timeout=timeout) as run:
                await anyio.sleep(1)
                if cancel == "run":
                    run.cancel()
                elif cancel == "node":
                    run.cancel_node("asks")
    assert got == ["decided"]


async def open_later(gate: Gate) -> None:
    await anyio.sleep(9)
    gate.open("decided")


def test_an_interrupt_at_a_gate(execute: Way) -> None:
    """KeyboardInterrupt in another node ends a run whose nodes wait at a gate that nobody opens."""
    gate = Gate()

    async def interrupt() -> None:
        await passes()
        raise KeyboardInterrupt

    dag = graph(a=None, b=None, interrupt=None)
    with pytest.raises(KeyboardInterrupt):
        execute(
            DynamicExecutor(dag, max_concurrency=1),
            {"a": gate.wait, "b": gate.wait, "interrupt": interrupt},
        )
    assert gate._waiting == {}


def test_the_runs_timeout_at_a_gate(execute: Way) -> None:
    """A run that waits at a gate that nobody opens ends, as a result, with its own timeout."""
    gate = Gate()
    result = execute(
        DynamicExecutor(graph("a>b", a=None)), {"a": gate.wait, "b": nothing}, timeout=0.05
    )
    assert statuses(result) == {"a": "CANCELLED", "b": "CANCELLED"}
    assert not result.ok


async def test_a_gate_keeps_no_run_alive() -> None:
    """A gate that goes on waiting for its decision holds nothing of the runs that have left it."""
    gate = Gate()
    executor = DynamicExecutor(graph("first>asks", asks=None))
    with new_objects_only() as alive:
        for _ in range(3):
            async with executor.start({"first": Canary, "asks": gate.wait}) as run:
                while run.status("asks").name != "RUNNING":
                    await checkpoint()
                await passes(3)
                run.cancel()
            del run
        await passes(5)
        assert alive() == []
    assert not gate.is_decided
