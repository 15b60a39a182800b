"""Plain sync nodes: a worker thread runs one after another, and no promise is lost by it."""

import asyncio
import contextvars
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

import dagron
from controls import Work
from dagron import DynamicExecutor, NodePolicy, _drains
from dagron._hosting import WORKER
from faults import GUARD, ON_ASYNCIO, Alive, graph, hold, passes, run, until
from handles import CANCELLED, COMPLETED, READY, RUNNING, Modification, Node, fail, noop, running

HERE: contextvars.ContextVar[str] = contextvars.ContextVar("HERE", default="nowhere")


class Opening:
    """The first of some nodes that follow each other in one thread: it waits in there until the
    loop has seen that, and has offered what comes next.
    """

    def __init__(self) -> None:
        self.work = Work()

    async def let_go(self) -> None:
        await self.work.begins()
        await passes(5)
        self.work.let_go()


@pytest.fixture
def hops(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was called in worker threads, from the loop."""
    called: list[object] = []
    honest = anyio.to_thread.run_sync

    async def counting(function: Any, *arguments: Any, **options: Any) -> Any:
        called.append(function)
        return await honest(function, *arguments, **options)

    monkeypatch.setattr(anyio.to_thread, "run_sync", counting)
    return called


# --- threads, and how many of them ---------------------------------------------------------------


@pytest.mark.parametrize("max_workers", [1, 3])
async def test_nodes_share_few_threads(max_workers: int, hops: list[object]) -> None:
    """300 sync nodes need no more hops than there are workers."""
    ran: list[int] = []
    tasks = {str(n): partial(ran.append, n) for n in range(300)}
    result = await run(graph(*tasks), tasks, max_workers=max_workers)
    assert result.succeeded == 300
    assert sorted(ran) == list(range(300))
    assert len(hops) <= max_workers


async def test_a_chain_needs_one_thread(hops: list[object]) -> None:
    """Sync nodes of which each waits for the one before are run by a thread that waits for them."""
    idents: set[int] = set()
    names = [f"n{n}" for n in range(50)]
    tasks = dict.fromkeys(names, lambda: idents.add(threading.get_ident()))
    edges = " ".join(f"{a}-{b}" for a, b in pairwise(names))
    assert (await run(graph(edges=edges), tasks)).succeeded == 50
    assert (len(idents), len(hops)) == (1, 1)


async def test_a_thread_goes_on_while_the_loop_is_busy() -> None:
    """A thread that has ended a node takes the next without a turn of the loop."""
    opening, second = Opening(), threading.Event()
    later = threading.Event()

    async def busy() -> None:
        await opening.let_go()
        hold(second)  # the loop does not turn
        later.set()

    tasks = {"1": opening.work, "2": second.set, "3": partial(hold, later), "busy": busy}
    result = await run(graph(*tasks), tasks, max_workers=1)
    assert result.ok


async def test_the_loop_hears_of_a_node_while_its_thread_is_in_the_next() -> None:
    """What a thread has done is told at once: the node's dependents start, and the next node, in
    which the thread is now, is RUNNING.
    """
    opening, second = Opening(), Work()
    heard = anyio.Event()

    async def after() -> None:
        heard.set()

    tasks = {"1": opening.work, "2": second, "3": noop, "after": after}
    async with running(graph("1", "2", "3", edges="1-after"), tasks, max_workers=1) as handle:
        await opening.let_go()
        await heard.wait()
        await second.begins()
        await until(lambda: handle.status("2") is RUNNING)
        assert handle.status("1") is COMPLETED
        second.let_go()
        result = await handle.wait()
    assert result.ok


def gauged(alive: Alive) -> dict[str, Callable[..., Any]]:
    """Sync callables of every kind that takes a worker slot."""

    def body(*inputs: object) -> None:
        with alive:
            pass

    def expander(name: str, value: object) -> Modification:
        with alive:
            return Modification([Node(f"{name}/{n}", body) for n in range(3)])

    def stream(name: str, value: object) -> Iterator[Node]:
        for n in range(5):
            with alive:
                node = Node(f"{name}/{n}", body)
            yield node

    return {"body": body, "expander": expander, "stream": stream}


@pytest.mark.parametrize("max_workers", [1, 2, 4])
async def test_max_workers_holds_for_all_together(max_workers: int) -> None:
    """Plain nodes, nodes with policies, expanders and generators in threads: never more of them run
    at once than `max_workers`.
    """
    alive = Alive()
    sync = gauged(alive)
    builder = dagron.DAG.builder()
    kinds = {
        "plain": None,
        "timed": NodePolicy(timeout=GUARD),
        "urgent": NodePolicy(priority=3),
        "retried": NodePolicy(retry=dagron.Retry(2)),
    }
    names = [f"{kind}{n}" for n in range(20) for kind in kinds]
    for name in names:
        builder.add_node(name, policy=kinds[name.rstrip("0123456789")])
    expanders = {"plain3": sync["expander"], "plain5": sync["stream"], "timed7": sync["stream"]}
    tasks = dict.fromkeys(names, sync["body"])
    result = await run(builder.build(), tasks, expanders, max_workers=max_workers)
    assert result.ok
    assert result.succeeded == len(names) + 3 + 5 + 5
    assert alive.total == len(names) + 1 + 3 + 2 * (5 + 5)
    assert alive.most <= max_workers


async def test_a_parked_thread_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that finds nothing to do for a while ends, though the run goes on; the next sync
    node gets another.
    """
    monkeypatch.setattr(_drains, "LINGER", 0.001)
    gate = anyio.Event()
    tasks = {"a": str, "b": gate.wait, "c": str}
    async with running(graph(edges="a-c b-c"), tasks) as handle:
        await until(lambda: handle.status("a") is COMPLETED)
        await until(lambda: not handle._shell.drains.threads)
        gate.set()
        assert (await handle.wait()).ok


async def test_a_parked_thread_keeps_nothing_alive() -> None:
    """While a thread waits for more, nothing refers to what its last node was given or returned."""

    class Value:
        pass

    made: list[weakref.ref[Value]] = []

    def make() -> Value:
        value = Value()
        made.append(weakref.ref(value))
        return value

    gate = anyio.Event()

    def take(make: Value) -> None:
        assert isinstance(make, Value)

    tasks = {"make": make, "take": take, "gate": gate.wait}
    async with running(graph("gate", edges="make-take"), tasks, keep="leaves") as handle:
        await until(lambda: handle.status("take") is COMPLETED)
        await passes(3)
        gc.collect()
        assert made[0]() is None
        gate.set()
        assert (await handle.wait()).ok


# --- each call by itself -------------------------------------------------------------------------


async def test_each_call_has_a_context_of_its_own() -> None:
    """What a node sets in its context, the next one in the same thread does not see; it sees what
    was set where the run began.
    """
    seen: list[str] = []

    def node(name: str) -> None:
        seen.append(HERE.get())
        HERE.set(name)
        seen.append(HERE.get())

    HERE.set("the run")
    tasks = {name: partial(node, name) for name in "abc"}
    await run(graph(*tasks), tasks, max_workers=1)
    assert seen == ["the run", "a", "the run", "b", "the run", "c"]


async def test_a_call_into_the_loop_has_the_context_of_its_node() -> None:
    """So does what a node calls in the event loop."""
    seen: list[str] = []

    async def in_loop() -> None:
        seen.append(HERE.get())

    def node(name: str) -> None:
        HERE.set(name)
        anyio.from_thread.run(in_loop)

    tasks = {name: partial(node, name) for name in "abc"}
    await run(graph(*tasks), tasks, max_workers=1)
    assert seen == ["a", "b", "c"]


@pytest.mark.parametrize(
    "error", [ValueError("no"), StopIteration("no"), SystemExit("no"), GeneratorExit("no")]
)
async def test_a_failure_is_its_node_s_alone(error: BaseException) -> None:
    """What a node raises is its error, with the user's frames only; others in its thread run."""
    opening = Opening()

    def raises() -> None:
        raise error

    tasks = {"1": opening.work, "2": raises, "3": str, "4": str, "opener": opening.let_go}
    result = await run(graph("opener", "1", "3", edges="2-4"), tasks, max_workers=1)
    assert (result.succeeded, result.failed, result.skipped) == (3, 1, 1)
    assert result["2"].error is error
    assert result["2"].attempts == 1
    traceback = error.__traceback__
    assert traceback is not None
    assert traceback.tb_frame.f_code is raises.__code__
    error.__traceback__ = None


async def test_a_sync_task_that_returns_an_awaitable() -> None:
    """It is awaited in the event loop, in a task of the node's own and without a worker slot."""
    opening, gate = Opening(), anyio.Event()
    names: list[str | None] = []

    async def rest() -> str:
        names.append(anyio.get_current_task().name)
        await gate.wait()
        return "value"

    tasks = {"1": opening.work, "2": lambda: rest(), "3": gate_setter(gate), "op": opening.let_go}
    result = await run(graph(*tasks), tasks, max_workers=1)
    assert result.ok
    assert result["2"].result == "value"
    assert names == ["2"]


def gate_setter(gate: anyio.Event) -> Callable[[], object]:
    return lambda: anyio.from_thread.run_sync(gate.set)


async def test_progress_of_nodes_that_follow_each_other() -> None:
    """What a node tells of its progress is heard while it is RUNNING, also if the thread has long
    gone on when the loop turns.
    """
    opening, told = Opening(), threading.Event()
    events: list[tuple[str, str | None]] = []

    def hear(event: dagron.Event) -> None:
        node = getattr(event, "node", None)
        if node in ("2", "3"):
            events.append((type(event).__name__, node))

    def tell(then: Callable[[], object]) -> None:
        dagron.progress(1, 2)
        then()

    async def busy() -> None:
        await opening.let_go()
        hold(told)

    tasks = {"1": opening.work, "2": partial(tell, str), "3": partial(tell, told.set), "busy": busy}
    result = await run(graph(*tasks), tasks, max_workers=1, observers=[hear])
    assert result.ok
    assert events == [
        *(("NodeReady", node) for node in "23"),
        *((kind, "2") for kind in ("NodeStarted", "NodeProgress", "NodeCompleted")),
        *((kind, "3") for kind in ("NodeStarted", "NodeProgress", "NodeCompleted")),
    ]


# --- what is next in line changes ----------------------------------------------------------------


async def test_a_more_urgent_node_overtakes_what_was_offered() -> None:
    """A node of higher priority that becomes ready goes before those in line, also while a thread
    may take these by itself.
    """
    opening, order = Opening(), []  # type: ignore[var-annotated]
    policy = NodePolicy(priority=1)

    def mark(name: str) -> None:
        order.append(name)

    async def let_go() -> None:
        await opening.work.begins()
        await passes(5)

    tasks = {"1": opening.work, **{name: partial(mark, name) for name in "234"}, "free": let_go}
    async with running(graph(*tasks), tasks, max_workers=1) as handle:
        await until(lambda: handle.status("free") is COMPLETED)
        await handle.modify(Modification([Node("urgent", partial(mark, "urgent"), policy=policy)]))
        opening.work.let_go()
        assert (await handle.wait()).ok
    assert order == ["urgent", "2", "3", "4"]


async def test_an_offered_node_is_removed() -> None:
    """A node that waits in line may be removed, or be made to wait for another, until a thread has
    it.
    """
    opening, ran = Opening(), []  # type: ignore[var-annotated]
    tasks = {
        "1": opening.work,
        "gone": partial(ran.append, "gone"),
        "later": partial(ran.append, "later"),
        "last": partial(ran.append, "last"),
    }
    async with running(graph(*tasks), tasks, max_workers=1) as handle:
        await opening.work.begins()
        await passes(5)
        change = Modification(remove_nodes=["gone"], add_edges=[("last", "later")])
        await handle.modify(change)
        opening.work.let_go()
        result = await handle.wait()
    assert result.ok
    assert ran == ["last", "later"]


async def test_a_taken_node_has_started() -> None:
    """A node that a thread has taken, and of which the loop has not heard, has started: it cannot
    be removed, and what it does counts.
    """
    opening, second = Opening(), Work()
    tasks = {"1": opening.work, "2": second, "3": str}
    async with running(graph(*tasks), tasks, max_workers=1) as handle:
        await opening.work.begins()
        await passes(5)
        opening.work.let_go()
        assert second.entered.wait(GUARD)  # the loop does not turn
        with pytest.raises(dagron.ModificationError, match="'2' cannot be removed: it is RUNNING"):
            await handle.modify(Modification(remove_nodes=["2"]))
        assert handle.status("2") is RUNNING
        second.let_go()
        assert (await handle.wait()).succeeded == 3


async def test_a_failure_that_ends_the_run_starts_nothing_more() -> None:
    """With `on_failure="cancel"`, a thread takes nothing of which the loop has not decided."""
    ran: list[str] = []
    failing = Opening()
    failing.work.then = lambda: 1 / 0
    tasks = {"1": failing.work, **{name: partial(ran.append, name) for name in "234"}}
    options = {"max_workers": 1, "on_failure": "cancel"}
    async with running(graph(*tasks), tasks, **options) as handle:
        await failing.let_go()
        result = await handle.wait()
    assert (result.failed, result.cancelled) == (1, 3)
    assert ran == []


# --- cancellation --------------------------------------------------------------------------------


async def test_a_node_in_a_thread_is_cancelled() -> None:
    """It hears of that by `check_cancelled`, of dagron and of anyio; the nodes behind it do not,
    and run when its thread has ended.
    """
    opening, asked = Opening(), threading.Event()
    heard: list[str] = []

    def obstinate() -> None:
        asked.set()
        hold(told)
        try:
            dagron.check_cancelled()
        except dagron.Cancelled:
            heard.append("dagron")
        anyio.from_thread.check_cancelled()

    def behind() -> None:
        dagron.check_cancelled()
        anyio.from_thread.check_cancelled()

    told = threading.Event()
    tasks = {"1": opening.work, "2": obstinate, "3": behind, "4": behind}
    async with running(graph(*tasks), tasks, max_workers=1) as handle:
        await opening.let_go()
        await until(asked.is_set)
        handle.cancel_node("2")
        await passes(3)
        assert handle.status("3") is READY
        told.set()
        result = await handle.wait()
    assert heard == ["dagron"]
    assert result["2"].status is CANCELLED
    assert result.succeeded == 3


async def test_a_node_is_cancelled_just_as_its_thread_goes_on() -> None:
    """When the node that is to be cancelled has ended, and its thread is in the next one, then that
    one is left alone.
    """
    opening, second = Opening(), Work()
    second.then = anyio.from_thread.check_cancelled
    tasks = {"1": opening.work, "2": second}
    async with running(graph(*tasks), tasks, max_workers=1) as handle:
        await opening.work.begins()
        await passes(5)
        opening.work.let_go()
        assert second.entered.wait(GUARD)  # the loop does not turn
        handle.cancel_node("1")
        await passes(3)
        second.let_go()
        result = await handle.wait()
    assert result["1"].status is CANCELLED
    assert result["2"].status is COMPLETED


async def test_an_offered_node_is_cancelled() -> None:
    """A node in line that is cancelled never runs; those behind it do."""
    opening, ran = Opening(), []  # type: ignore[var-annotated]
    tasks = {"1": opening.work, **{name: partial(ran.append, name) for name in "234"}}
    async with running(graph(*tasks), tasks, max_workers=1) as handle:
        await opening.work.begins()
        await passes(5)
        handle.cancel_node("2")
        opening.work.let_go()
        result = await handle.wait()
    assert ran == ["3", "4"]
    assert (result["2"].status, result["2"].started_at) == (CANCELLED, None)


@pytest.mark.parametrize("how", ["run", "caller", "timeout"])
async def test_the_end_of_a_run_is_waited_for(how: str) -> None:
    """A run that is cancelled waits for the nodes in its threads; what comes next never runs."""
    opening, ran = Opening(), []  # type: ignore[var-annotated]
    tasks = {"1": opening.work, **{name: partial(ran.append, name) for name in "234"}}
    result = None
    with anyio.fail_after(GUARD), anyio.CancelScope() as scope:
        async with running(graph(*tasks), tasks, max_workers=1) as handle:
            await opening.work.begins()
            await passes(5)
            if how == "run":
                handle.cancel("enough")
            elif how == "caller":
                scope.cancel()
            else:
                handle._shell._cut_short("the run's timeout was over")
            with anyio.CancelScope(shield=True):
                await passes(5)
                assert not opening.work.left.is_set()
                opening.work.let_go()
            result = await handle.wait()
    assert ran == []
    assert opening.work.left.is_set()
    if how != "caller":
        assert result is not None
        assert (result["1"].status, result.cancelled) == (COMPLETED, 3)


async def test_a_failing_node_keeps_its_slot_until_that_is_known() -> None:
    """While the failure of a node is sorted out, no other node has its worker slot."""
    opening, alive = Opening(), Alive()

    def work() -> None:
        with alive:
            raise ValueError

    tasks = {"0": opening.work, **{str(n): work for n in range(1, 30)}, "async": fail}
    tasks["opener"] = opening.let_go
    result = await run(graph(*tasks), tasks, max_workers=2)
    assert (result.failed, result.succeeded) == (30, 2)
    assert alive.most <= 2


async def test_nested_runs_in_threads() -> None:
    """A node in a thread runs a graph of its own, at `max_workers=1` each, to its end."""

    def nested() -> int:
        dag = graph("x", "y", "z")
        executor = DynamicExecutor(dag, max_workers=1)
        result = anyio.from_thread.run(executor.execute, dict.fromkeys("xyz", str))
        return int(result.succeeded)

    tasks = dict.fromkeys("abcd", nested)
    result = await run(graph(*tasks), tasks, max_workers=1)
    assert [result[name].result for name in tasks] == [3, 3, 3, 3]


# --- at awkward moments --------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("how", ["run", "caller"])
async def test_a_run_is_cancelled_before_its_threads_begin(how: str, count: int) -> None:
    """Every node that has started has an end, however early the run is cancelled."""
    events: list[tuple[str, str]] = []
    scope = anyio.CancelScope()
    last = f"n{count - 1}"

    def hear(event: dagron.Event) -> None:
        if isinstance(event, dagron.NodeEvent):
            events.append((type(event).__name__, event.node))
        if isinstance(event, dagron.NodeStarted) and event.node == last:
            scope.cancel() if how == "caller" else handle.cancel("enough")

    tasks = {f"n{n}": str for n in range(count)}
    with anyio.fail_after(GUARD), scope:
        async with running(graph(*tasks), tasks, max_workers=count, observers=[hear]) as handle:
            result = await handle.wait()
        assert "enough" in str(result.reason)
    started = {node for kind, node in events if kind == "NodeStarted"}
    ended = {node for kind, node in events if kind in ("NodeCancelled", "NodeCompleted")}
    assert started == ended == set(tasks)


def workers() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if task.get_name() == WORKER}


@ON_ASYNCIO
@pytest.mark.parametrize("after", [1, 2, 3])
async def test_a_worker_is_killed_before_its_thread_begins(after: int) -> None:
    """Another thread takes its place: no node is lost."""
    tasks = dict.fromkeys("abc", str)
    async with running(graph(*tasks), tasks, max_workers=1) as handle:
        await until(workers)
        await passes(after)
        for task in workers():
            task.cancel()
        assert (await handle.wait()).succeeded == 3


@ON_ASYNCIO
async def test_a_worker_is_killed_before_its_first_step() -> None:
    """The run ends, and says so, also when another thread has run what it was for."""
    first, begun, ended = Work(), threading.Event(), threading.Event()

    def hear(event: dagron.Event) -> None:
        if isinstance(event, dagron.NodeStarted) and event.node == "b":
            for task in workers() - known:
                task.cancel()
            first.let_go()
            assert begun.wait(GUARD)  # in the other thread
            ended.set()

    def work() -> None:
        begun.set()
        hold(ended)

    async def opener() -> None:
        await first.begins()
        known.update(workers())

    known: set[asyncio.Task[Any]] = set()
    tasks = {"a": first, "opener": opener, "b": work, "c": str}
    dag = graph("a", edges="opener-b b-c")
    with pytest.raises(dagron.RunFailedError, match="cancelled from outside before they began"):
        await run(dag, tasks, max_workers=2, observers=[hear])


async def test_a_thread_that_leaves_is_given_no_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """The slot of a cancelled node may be free before its thread has left: the next node goes to
    another.
    """
    go, slow = threading.Event(), threading.Event()
    honest = _drains.Drain._work

    def leave_late(self: _drains.Drain) -> None:
        honest(self)
        if self.is_cancelled:
            hold(slow)

    monkeypatch.setattr(_drains.Drain, "_work", leave_late)

    def victim() -> None:
        hold(go)
        dagron.check_cancelled()

    tasks = {"victim": victim, "next": slow.set}
    async with running(graph(*tasks), tasks, max_workers=2) as handle:
        await until(lambda: handle.status("victim") is RUNNING)
        handle.cancel_node("victim")
        go.set()
        result = await handle.wait()
    assert (result["victim"].status, result["next"].status) == (CANCELLED, COMPLETED)


async def test_equals_start_as_they_became_ready() -> None:
    """A node that was ready before those that are offered, and had to wait for its group, goes
    before them once it waits for a thread like they do.
    """
    order: list[str] = []
    gate, go, work = anyio.Event(), anyio.Event(), Work()
    late = "234"
    builder = dagron.DAG.builder().add_node("holder", policy=NodePolicy(group="g"))
    builder.add_node("grouped", policy=NodePolicy(group="g")).add_node("seed")
    for name in ("work", *late):
        builder.add_edge("seed", name)
    tasks = {
        "holder": gate.wait,
        "seed": go.wait,
        "work": work,
        **{name: partial(order.append, name) for name in ("grouped", *late)},
    }
    async with running(builder.build(), tasks, max_workers=1, limits={"g": 1}) as handle:
        await until(lambda: handle.status("holder") is RUNNING)
        go.set()
        await work.begins()
        await passes(5)
        gate.set()
        await until(lambda: handle.status("holder") is COMPLETED)
        await passes(5)
        work.let_go()
        assert (await handle.wait()).ok
    assert order == ["grouped", "2", "3", "4"]


async def test_a_parked_thread_waits_for_its_turn() -> None:
    """What a node's end makes ready, and goes first, goes before what was offered to its thread
    just before the loop heard of that end.
    """
    order: list[str] = []
    may, ended = threading.Event(), threading.Event()
    go = anyio.Event()
    first = Work(then=ended.set)

    async def seed() -> None:
        await go.wait()
        first.let_go()
        hold(ended)
        may.set()

    builder = dagron.DAG.builder().add_node("urgent", policy=NodePolicy(priority=5))
    builder.add_edge("first", "urgent")
    for name in "234":
        builder.add_edge("seed", name)
    tasks = {"first": first, "seed": seed}
    tasks |= {name: partial(order.append, name) for name in ("urgent", *"234")}
    async with running(builder.build(), tasks, max_workers=1) as handle:
        await first.begins()
        go.set()
        assert (await handle.wait()).ok
    assert order[0] == "urgent"


async def test_a_value_whose_class_cannot_be_asked() -> None:
    """A value of which not even the class can be asked whether it is awaitable fails its node."""

    class Odd(type):
        def __getattr__(cls, name: str) -> object:
            raise ValueError("odd")

    class Value(metaclass=Odd):
        pass

    tasks = {"odd": lambda: Value(), "other": str}
    result = await run(graph(*tasks), tasks, max_workers=1)
    assert str(result["odd"].error) == "odd"
    assert (result.failed, result.succeeded) == (1, 1)
