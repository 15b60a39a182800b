"""The handle on a run in progress: what it shows, and what may be asked of it."""

import gc
import logging
import threading
from contextvars import ContextVar
from typing import Any
from xml.etree import ElementTree

import anyio
import anyio.from_thread
import pytest

import dagron
from dagron import DynamicExecutor, NodePolicy, Retry, Run
from faults import GUARD, graph, hold, passes, until
from handles import (
    CANCELLED,
    COMPLETED,
    FAILED,
    PENDING,
    READY,
    RUNNING,
    SKIPPED,
    Modification,
    Node,
    fail,
    noop,
    running,
)

SVG = "{http://www.w3.org/2000/svg}"


async def settled(run: Run) -> None:
    """Let everything happen that can, as long as nobody opens a gate."""
    await passes(30)


# --- the block -----------------------------------------------------------------------------------


async def test_leaving_the_block_waits_for_the_run() -> None:
    """Leaving the block normally waits for the run, like a task group."""
    ended: list[str] = []

    async def slow() -> None:
        await passes(20)
        ended.append("slow")

    async with running(graph("slow", edges="slow-next"), {"slow": slow, "next": noop}) as run:
        assert ended == []
    assert ended == ["slow"]
    assert run.status("next") is COMPLETED
    assert (await run.wait()).ok


async def test_the_block_and_the_nodes_run_side_by_side() -> None:
    """The block goes on while nodes run: here each waits for the other."""
    asked, answered = anyio.Event(), anyio.Event()

    async def ask() -> str:
        asked.set()
        await answered.wait()
        return "an answer"

    async with running(graph("ask"), {"ask": ask}) as run:
        await asked.wait()
        assert run.status("ask") is RUNNING
        answered.set()
        assert (await run.wait())["ask"].result == "an answer"


async def test_failed_nodes_raise_nothing() -> None:
    """Leaving the block never raises for failed nodes, and `wait` returns them in its result."""
    async with running(
        graph("bad", "good", edges="bad-lost"), {"bad": fail, "good": noop, "lost": noop}
    ) as run:
        result = await run.wait()
    assert (result.succeeded, result.failed, result.skipped) == (1, 1, 1)
    assert run.status("bad") is FAILED
    with pytest.raises(dagron.RunFailedError):
        result.raise_for_failures()


async def test_an_empty_graph_ends_at_once() -> None:
    """E18: An empty DAG gives an empty result; its block is left like any other."""
    async with running(graph(), {}) as run:
        assert [e.kind async for e in run.events()] == ["run_started", "run_finished"]
    assert list(await run.wait()) == []


async def test_what_execute_refuses_start_refuses() -> None:
    """`start` raises what `execute` raises, at the call, before anything runs."""
    start = DynamicExecutor(graph("a", "b")).start
    with pytest.raises(dagron.UnknownNodeError, match="did you mean 'a'"):
        start({"a": noop, "b": noop, "aa": noop})
    with pytest.raises(dagron.MissingTaskError):
        start({"a": noop})
    with pytest.raises(dagron.TaskSignatureError):
        start({"a": noop, "b": lambda unknown: None})
    with pytest.raises(ValueError, match="timeout is above 0 seconds"):
        start({"a": noop, "b": noop}, timeout=0)


async def test_a_run_is_entered_once() -> None:
    """Entering a second time, during the run or after it, is a RuntimeError that says what to do,
    and the run goes on undisturbed.
    """
    async with running(graph("a"), {"a": lambda: anyio.from_thread.run(passes, 10)}) as run:
        with pytest.raises(RuntimeError, match=r"entered once\n  help: call executor.start"):
            async with run:
                pytest.fail("the block was entered twice")
    assert (await run.wait()).ok
    with pytest.raises(RuntimeError, match="entered once"):
        await run.__aenter__()
    assert (await run.wait()).ok


async def test_a_run_that_is_never_entered_leaves_nothing() -> None:
    """A handle that is dropped unused warns of nothing and has called nothing."""
    called: list[int] = []
    run = DynamicExecutor(graph("a")).start({"a": lambda: called.append(1)})
    del run
    gc.collect()
    assert called == []


async def test_before_the_block_a_handle_can_be_asked_but_not_waited_for() -> None:
    """Before the block is entered the graph can be looked at; `wait` and `modify` are refused, with
    what to type.
    """
    run = DynamicExecutor(graph(edges="a-b")).start({"a": noop, "b": noop})
    assert (run.status("a"), run.status("b")) == (READY, PENDING)
    assert run.version == 0
    assert run.dag == graph(edges="a-b")
    assert run.explain("b").waiting_for == ("a",)
    for call in (run.wait(), run.modify(Modification())):
        with pytest.raises(RuntimeError, match=r"has not begun\n  help: write async with executor"):
            await call
    async with run:
        pass
    assert (await run.wait()).ok


shelf: ContextVar[str] = ContextVar("shelf", default="empty")


async def test_nodes_see_the_context_in_which_the_block_was_entered() -> None:
    """E16: Context variables set before the block are seen in tasks and threads; what the block
    sets afterwards, and what a node sets, no other node sees.
    """

    async def look() -> str:
        seen = shelf.get()
        shelf.set("changed by a node")
        return seen

    shelf.set("filled")
    async with running(graph("a", "t", edges="a-b"), {"a": look, "b": look, "t": shelf.get}) as run:
        shelf.set("changed by the block")
        result = await run.wait()
    assert [result[name].result for name in "abt"] == ["filled"] * 3


async def test_handles_nest() -> None:
    """Two handles on runs of one executor do not know of each other."""
    executor = DynamicExecutor(graph("a"))
    gate = anyio.Event()
    with anyio.fail_after(GUARD):
        async with executor.start({"a": gate.wait}) as outer, executor.start({"a": noop}) as inner:
            assert outer.id != inner.id
            assert (await inner.wait())["a"].result == "done"
            await inner_is_refused(inner)
            assert await outer.modify(Modification([Node("b", noop)])) == 1
            assert "b" not in inner.dag
            gate.set()
    assert (await outer.wait()).succeeded == 2
    assert (await inner.wait()).succeeded == 1


async def inner_is_refused(run: Run) -> None:
    with pytest.raises(dagron.RunFinishedError):
        await run.modify(Modification([Node("b", noop)]))


async def test_a_handle_in_a_node() -> None:
    """A node may hold a handle on a run of its own, also at `max_workers=1` from a sync node's
    thread, look at it and change it.
    """

    async def nested() -> list[str]:
        async with DynamicExecutor(graph("a"), max_workers=1).start({"a": lambda: 1}) as run:
            await run.modify(Modification([Node("b", lambda: 2)]))
            names = [name async for name, _ in run.completed()]
        return names

    def on_thread() -> list[str]:
        return anyio.from_thread.run(nested)

    async with running(graph("x", "y"), {"x": nested, "y": on_thread}, max_workers=1) as run:
        result = await run.wait()
    result.raise_for_failures()
    assert sorted(result["x"].result) == sorted(result["y"].result) == ["a", "b"]


# --- wait ----------------------------------------------------------------------------------------


async def test_many_can_wait() -> None:
    """Any number of tasks may wait, in the block and after it; all get the same result."""
    results: list[Any] = []
    gate = anyio.Event()

    async def waiter(run: Run) -> None:
        results.append(await run.wait())

    async with anyio.create_task_group() as others:
        async with running(graph("a"), {"a": gate.wait}) as run:
            for _ in range(5):
                others.start_soon(waiter, run)
            await passes(5)
            assert results == []
            gate.set()
    results += [await run.wait(), await run.wait()]
    assert len(results) == 7
    assert all(result is results[0] for result in results)


async def test_a_waiter_that_gives_up_changes_nothing() -> None:
    """A `wait` that is cancelled leaves the run and the other waiters alone."""
    gate = anyio.Event()
    async with running(graph("a"), {"a": gate.wait}) as run:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await run.wait()
        assert scope.cancelled_caught
        await passes(5)
        assert run.status("a") is RUNNING
        gate.set()
    assert (await run.wait()).ok


@pytest.mark.parametrize("where", ["task", "thread", "expander", "expander in a thread"])
async def test_a_node_cannot_wait_for_its_own_run(where: str) -> None:
    """`wait` in a node of this very run, its expander or its thread, is a RuntimeError that names
    the node, not a run that waits for itself for ever.
    """

    async def wait(*_: object) -> None:
        await run.wait()

    def wait_in_thread(*_: object) -> None:
        anyio.from_thread.run(run.wait)

    waits = wait_in_thread if "thread" in where else wait
    task, expander = (noop, waits) if "expander" in where else (lambda: waits(), None)
    if where == "task":
        task = wait
    async with running(graph("a"), {"a": task}, {"a": expander} if expander else None) as run:
        result = await run.wait()
    assert isinstance(result["a"].error, RuntimeError)
    assert "'a' cannot wait for the run that it is part of" in str(result["a"].error)


async def test_a_node_of_a_nested_run_cannot_wait_for_the_outer_run() -> None:
    """The same holds for a node of a run that a node of this run waits for, at any depth."""

    async def innermost() -> None:
        await run.wait()

    async def nest() -> None:
        inner = await DynamicExecutor(graph("innermost")).execute({"innermost": innermost})
        error = inner["innermost"].error
        assert error is not None
        raise error

    async def nest_with_a_handle() -> None:
        async with DynamicExecutor(graph("nest")).start({"nest": nest}) as inner:
            error = (await inner.wait())["nest"].error
        assert error is not None
        raise error

    with anyio.move_on_after(GUARD / 4) as guard:
        async with running(graph("outer"), {"outer": nest_with_a_handle}) as run:
            pass
    assert not guard.cancelled_caught, "the outer run waits for itself"
    error = (await run.wait())["outer"].error
    assert isinstance(error, RuntimeError)
    assert "cannot wait for the run that it is part of" in str(error)


async def test_waiting_for_a_run_that_was_cancelled_with_its_block() -> None:
    """`wait` raises `RunFinishedError` if the run was cancelled together with its block, also for
    who was waiting at the time.
    """
    raised: list[str] = []

    async def waiter(run: Run) -> None:
        try:
            await run.wait()
        except dagron.RunFinishedError as error:
            raised.append(str(error))

    async with anyio.create_task_group() as others:
        with anyio.CancelScope() as scope:
            async with running(graph("a"), {"a": anyio.sleep_forever}) as run:
                others.start_soon(waiter, run)
                await passes(3)
                scope.cancel()
    assert scope.cancelled_caught
    await waiter(run)
    assert len(raised) == 2
    assert all("cancelled together with its block" in text and "help:" in text for text in raised)


async def test_a_run_with_a_timeout_ends_as_a_result_beside_its_block() -> None:
    """`start(timeout=)` ends the run as a result; the block goes on."""
    with anyio.fail_after(GUARD):
        async with DynamicExecutor(graph("a")).start(
            {"a": anyio.sleep_forever}, timeout=0.05
        ) as run:
            result = await run.wait()
            await passes(3)
    assert result["a"].status is CANCELLED
    assert "timeout of 0.05 s" in (result.reason or "")
    assert not result.ok


# --- completed -----------------------------------------------------------------------------------


async def test_completed_yields_names_and_results_in_completion_order() -> None:
    """`completed()` gives name and result of every node that completes, as they finish, and ends
    with the run; nodes that fail, are skipped or cancelled are not in it.
    """
    gates = {name: anyio.Event() for name in "abc"}

    async def wait(name: str) -> str:
        await gates[name].wait()
        return name.upper()

    tasks: dict[str, Any] = {name: (lambda name=name: wait(name)) for name in "abc"}
    tasks |= {"bad": fail, "lost": noop, "stopped": anyio.sleep_forever}
    seen: list[tuple[str, str]] = []
    async with running(graph(*"abc", "stopped", edges="bad-lost"), tasks) as run:
        await settled(run)
        gates["c"].set()
        async for name, result in run.completed():
            seen.append((name, result))
            following = {"c": "a", "a": "b"}.get(name)
            if following:
                assert [n for n, _ in seen][-1] == name
                gates[following].set()
            else:
                run.cancel_node("stopped")
    assert seen == [("c", "C"), ("a", "A"), ("b", "B")]


async def test_completed_for_who_comes_late() -> None:
    """Those that have completed already come first, in the same order; after the end it gives all
    of them and ends.
    """
    gate = anyio.Event()
    async with running(graph(edges="a-b b-c"), {"a": noop, "b": noop, "c": gate.wait}) as run:
        early = run.completed()
        await until(lambda: run.status("c") is RUNNING)
        late = run.completed()
        assert await anext(late) == ("a", "done")
        gate.set()
        await run.wait()
        ended = run.completed()
        after = [name async for name, _ in ended]
        assert [name async for name, _ in late] == ["b", "c"]
        assert [name async for name, _ in early] == ["a", "b", "c"]
    assert after == [name async for name, _ in run.completed()] == ["a", "b", "c"]
    with pytest.raises(StopAsyncIteration):
        await anext(ended)


async def test_completed_may_be_asked_for_before_the_block() -> None:
    """An iterator that is made before the run begins gets every node."""
    run = DynamicExecutor(graph(edges="a-b")).start({"a": noop, "b": noop})
    completed = run.completed()
    async with run:
        pass
    assert [name async for name, _ in completed] == ["a", "b"]


async def test_a_node_completes_with_its_expansion() -> None:
    """A node comes in `completed()` when its modification is in, and before what it added."""

    async def grow(name: str, result: str) -> Modification:
        await passes(5)
        return Modification([Node("child", noop, [name])])

    seen: list[tuple[str, bool]] = []
    async with running(graph("a"), {"a": noop}, {"a": grow}) as run:
        async for name, _ in run.completed():
            seen.append((name, "child" in run.dag))
    assert seen == [("a", True), ("child", True)]


async def test_a_break_leaves_nothing_behind() -> None:
    """Breaking out of `completed()` or `events()` leaves no generator, no task and no warning, and
    the run goes on.
    """
    gate = anyio.Event()
    async with running(graph("a", "b", "c"), {"a": noop, "b": noop, "c": gate.wait}) as run:
        async for name, _ in run.completed():
            assert name in ("a", "b")
            break
        async for event in run.events():
            assert event.seq >= 0
            break
        gc.collect()
        gate.set()
    assert (await run.wait()).succeeded == 3


async def test_waiting_for_the_next_completion_can_be_cancelled() -> None:
    """A reader of `completed()` that is cancelled while it waits can go on later and has missed
    nothing.
    """
    gate = anyio.Event()
    async with running(graph("a"), {"a": gate.wait}) as run:
        completed = run.completed()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anext(completed)
        gate.set()
        assert [name async for name, _ in completed] == ["a"]


# --- status, dag, version, id --------------------------------------------------------------------


async def test_status_follows_every_node() -> None:
    """`status` tells where each node stands, now and after the end; from any thread."""
    gate = anyio.Event()
    tasks = {"a": gate.wait, "b": noop, "bad": fail, "lost": noop, "held": noop, "stop": noop}
    dag = graph("held", "stop", edges="a-b bad-lost")
    async with running(dag, tasks, max_concurrency=1) as run:
        assert {run.status(name) for name in ("held", "stop", "a", "bad")} == {READY}
        run.cancel_node("stop")
        await until(lambda: run.status("a") is RUNNING)
        statuses = [run.status(name) for name in ("a", "b", "held", "stop")]
        assert statuses == [RUNNING, PENDING, COMPLETED, CANCELLED]
        there = [await anyio.to_thread.run_sync(run.status, name) for name in ("a", "stop")]
        assert there == [RUNNING, CANCELLED]
        assert await anyio.to_thread.run_sync(lambda: run.version) == 0
        gate.set()
    result = await run.wait()
    assert {name: run.status(name) for name in dag} == {name: result[name].status for name in dag}
    assert run.status("lost") is SKIPPED


@pytest.mark.parametrize("ask", ["status", "explain", "cancel_node"])
async def test_asking_for_a_node_that_does_not_exist(ask: str) -> None:
    """A name that no node has is an `UnknownNodeError` with close names, during the run and after
    it, also from a thread.
    """
    async with running(graph("discover"), {"discover": noop}) as run:
        for name, close in (("discovr", ("discover",)), ("nothing like it", ())):
            with pytest.raises(dagron.UnknownNodeError) as caught:
                getattr(run, ask)(name)
            assert (caught.value.name, caught.value.close) == (name, close)
        with pytest.raises(dagron.UnknownNodeError):
            await anyio.to_thread.run_sync(getattr(run, ask), "discovr")
    with pytest.raises(dagron.UnknownNodeError, match="did you mean 'discover'"):
        getattr(run, ask)("discovr")


async def test_a_removed_node_has_no_status() -> None:
    """`status` and `explain` of a node that was removed raise `UnknownNodeError`."""
    gate = anyio.Event()
    async with running(graph(edges="a-b"), {"a": gate.wait, "b": noop}) as run:
        await run.modify(Modification(remove_nodes=["b"]))
        for ask in (run.status, run.explain):
            with pytest.raises(dagron.UnknownNodeError):
                ask("b")
        gate.set()
    assert (await run.wait()).removed == ("b",)


async def test_dag_and_version_follow_the_modifications() -> None:
    """`dag` is the graph as it is now, a value that later modifications leave alone; `version`
    counts the modifications that have landed, of expanders and from outside.
    """
    gate = anyio.Event()

    async def grow(name: str, result: str) -> Modification:
        return Modification([Node("child", noop, [name])])

    dag = graph("a", "held")
    async with running(dag, {"a": noop, "held": gate.wait}, {"a": grow}) as run:
        first = run.dag
        assert (first, run.version) == (dag, 0)
        await until(lambda: run.version == 1)
        assert run.dag.nodes() == ["a", "held", "child"]
        assert await run.modify(Modification([Node("x", noop, ["held"])])) == run.version == 2
        second = run.dag
        assert await run.modify(Modification(remove_nodes=["x"])) == 3
        gate.set()
    assert first == dag
    assert "x" in second
    assert run.dag == (await run.wait()).dag
    assert run.version == 3


def texts(svg: str) -> set[str]:
    """The texts in a picture."""
    return {"".join(text.itertext()) for text in ElementTree.fromstring(svg).iter(f"{SVG}text")}


async def test_a_picture_of_a_run_shows_how_far_it_is() -> None:
    """`to_svg` draws the graph as it is with the statuses of the moment, also in a family that is
    one box: before the first node, while it runs, and like its result when it has ended.
    """
    gate = anyio.Event()

    async def expand(name: str, result: None) -> Modification:
        tasks = [noop, *[gate.wait] * 3]
        return Modification([Node(f"n{i}", task, ["a"], ["z"]) for i, task in enumerate(tasks)])

    async with running(graph("a", "z", edges="a-z"), {"a": noop, "z": noop}, {"a": expand}) as run:
        assert {"a", "z", "1 ready", "1 pending"} <= texts(run.to_svg())
        await settled(run)
        assert {"n3", "2 completed", "3 running", "1 pending"} <= texts(run.to_svg())
        assert "n3" not in texts(run.to_svg(fold=2))
        assert {"4 × n…", "1", "3", "3 running"} <= texts(run.to_svg(fold=2))
        gate.set()
        result = await run.wait()
        assert run.to_svg() == result.to_svg()


async def test_a_picture_of_a_run_that_has_no_result() -> None:
    """A run that was cancelled together with its block can be drawn, too."""
    handles = []
    with anyio.CancelScope() as scope:
        async with running(graph("a"), {"a": anyio.sleep_forever}) as run:
            handles.append(run)
            await settled(run)
            scope.cancel()
    assert "1 cancelled" in texts(handles[0].to_svg())


async def test_every_run_has_an_id_and_a_repr() -> None:
    """Each run has an id of its own, fit for a file name; its repr tells it and how far it is."""
    executor = DynamicExecutor(graph(edges="a-b"))
    runs = [executor.start({"a": noop, "b": noop}) for _ in range(20)]
    assert len({run.id for run in runs}) == 20
    assert all(run.id.isalnum() and 1 <= len(run.id) <= 100 for run in runs)
    async with runs[0] as run:
        assert repr(run) == f"<Run {run.id}: 0 of 2 nodes done>"
    assert repr(run) == f"<Run {run.id}: 2 of 2 nodes done>"


# --- explain -------------------------------------------------------------------------------------


def assert_reads_well(why: dagron.Explanation) -> None:
    """It is one short line that names the node and its status first."""
    text = str(why)
    assert text.startswith(f"node {why.node!r} is {why.status}")
    assert "\n" not in text
    assert len(text) <= 100
    assert text[-1] not in ":,. "


async def test_explain_what_waits_for_dependencies() -> None:
    """`explain` names the dependencies that are not done, with the status of a single one."""
    gate = anyio.Event()
    dag = graph("done", edges="a-one done-one a-two b-two")
    names = ("done", "a", "b")
    tasks: dict[str, Any] = dict.fromkeys(("done", "one", "two"), noop)
    async with running(dag, tasks | {"a": gate.wait, "b": gate.wait}) as run:
        await until(lambda: [run.status(n) for n in names] == [COMPLETED, RUNNING, RUNNING])
        one, two, running_node = map(run.explain, ("one", "two", "a"))
        gate.set()
    assert (one.node, one.status, one.waiting_for, one.limit) == ("one", PENDING, ("a",), None)
    assert str(one) == "node 'one' is PENDING: it waits for 'a', which is RUNNING"
    assert (two.status, two.waiting_for) == (PENDING, ("a", "b"))
    assert str(two) == "node 'two' is PENDING: it waits for 'a', 'b'"
    assert (str(running_node), running_node.waiting_for) == ("node 'a' is RUNNING", ())
    assert str(run.explain("one")) == "node 'one' is COMPLETED"


async def test_explain_a_node_that_waits_for_many() -> None:
    """All dependencies are in `waiting_for`, and the text names a few and says how many more."""
    sources = [f"source{i:03}" for i in range(300)]
    gate = anyio.Event()
    dag = graph(edges=" ".join(f"{name}-all" for name in sources))
    async with running(dag, {"all": noop} | dict.fromkeys(sources, gate.wait)) as run:
        await settled(run)
        why = run.explain("all")
        gate.set()
    assert sorted(why.waiting_for) == sources
    assert "and 295 more" in str(why)
    assert len(str(why)) < 150


@pytest.mark.parametrize("limit", ["max_concurrency", "max_workers", "github"])
async def test_explain_what_waits_for_a_slot(limit: str) -> None:
    """`explain` names the limit whose slots are all taken: the run's two, or a group."""
    gate, threads = anyio.Event(), threading.Event()
    builder = dagron.DAG.builder()
    for name in ("first", "second"):
        policy = NodePolicy(group="github") if limit == "github" else None
        builder = builder.add_node(name, policy=policy)
    task = (lambda: hold(threads)) if limit == "max_workers" else gate.wait
    options = {"limits": {"github": 1}} if limit == "github" else {limit: 1}
    async with running(builder.build(), {"first": task, "second": task}, **options) as run:
        await until(lambda: run.status("first") is RUNNING)
        await settled(run)
        first, second = run.explain("first"), run.explain("second")
        gate.set()
        threads.set()
    assert (second.status, second.limit, second.waiting_for) == (READY, limit, ())
    assert repr(limit) in str(second)
    assert "1" in str(second)
    assert_reads_well(second)
    assert (str(first), first.limit) == ("node 'first' is RUNNING", None)


async def test_explain_what_waits_for_a_slot_that_another_run_holds() -> None:
    """A group of shared limits is named also when it is another run that holds its slots."""
    gate = anyio.Event()
    dag = dagron.DAG.builder().add_node("a", policy=NodePolicy(group="db")).build()
    limits = dagron.Limits(db=1)
    async with running(dag, {"a": gate.wait}, limits=limits) as holder:
        await until(lambda: holder.status("a") is RUNNING)
        async with running(dag, {"a": gate.wait}, limits=limits) as run:
            await settled(run)
            why = run.explain("a")
            gate.set()
    assert (why.status, why.limit) == (READY, "db")
    assert_reads_well(why)


async def test_explain_a_sync_expander_that_waits_for_a_thread() -> None:
    """A node whose task is done, and whose sync expander waits for a worker, is RUNNING and says
    that it waits for `max_workers`.
    """
    threads = threading.Event()
    tasks = {"thread": lambda: hold(threads), "a": noop}
    async with running(
        graph("thread", "a"), tasks, {"a": lambda name, result: None}, max_workers=1
    ) as run:
        await until(lambda: run.explain("a").limit)
        why = run.explain("a")
        threads.set()
    assert (why.status, why.limit) == (RUNNING, "max_workers")
    assert_reads_well(why)


async def test_explain_a_node_at_a_gate() -> None:
    """A node at a gate says so; when the gate is open, and its place taken, it names the limit."""
    gate, other = dagron.Gate(), anyio.Event()
    async with running(
        graph("a", "b"), {"a": gate.wait, "b": other.wait}, max_concurrency=1
    ) as run:
        await until(lambda: run.status("b") is RUNNING)
        at_gate = run.explain("a")
        gate.open()
        await settled(run)
        behind = run.explain("a")
        other.set()
    assert (at_gate.status, at_gate.limit) == (RUNNING, None)
    assert "gate" in str(at_gate)
    assert (behind.status, behind.limit) == (RUNNING, "max_concurrency")
    assert "gate" not in str(behind)
    for why in (at_gate, behind):
        assert_reads_well(why)


async def test_explain_a_pause_between_attempts() -> None:
    """Between two attempts a node says which one failed and when the next is due."""
    retry = NodePolicy(retry=Retry(3, initial_delay=25, jitter=0))
    dag = dagron.DAG.builder().add_node("a", policy=retry).build()
    async with running(dag, {"a": fail}) as run:
        await until(lambda: "attempt" in str(run.explain("a")))
        why = run.explain("a")
        run.cancel()
    assert "attempt 1 failed" in str(why)
    assert " 2" in str(why)  # 24.9 s or 25
    assert_reads_well(why)
    assert run.explain("a").status is CANCELLED


@pytest.mark.parametrize("delay", [1_000, 86_400])
async def test_explain_a_long_pause(delay: float) -> None:
    """Hours are said in figures that read well, too."""
    retry = NodePolicy(retry=Retry(2, initial_delay=delay, max_delay=delay, jitter=0))
    dag = dagron.DAG.builder().add_node("a", policy=retry).build()
    async with running(dag, {"a": fail}) as run:
        await until(lambda: "attempt" in str(run.explain("a")))
        why = run.explain("a")
        run.cancel()
    assert "e+" not in str(why)
    assert_reads_well(why)


async def test_explain_a_node_whose_turn_comes() -> None:
    """A node that is ready, and for which there is a slot, says that its turn comes at once."""
    async with running(graph("a"), {"a": noop}) as run:
        why = run.explain("a")
    assert (why.status, why.limit, why.waiting_for) == (READY, None, ())
    assert "at once" in str(why)
    assert_reads_well(why)


async def test_explain_how_a_node_ended() -> None:
    """A node that has ended without success says why, naming the node to blame."""
    dag = dagron.DAG.builder().add_edge("bad", "lost").add_edge("lost", "too")
    dag = dag.add_edge("good", "untaken", condition=lambda result: False).add_node("stop").build()
    tasks = dict.fromkeys(dag.nodes(), noop) | {"bad": fail, "stop": anyio.sleep_forever}
    async with running(dag, tasks) as run:
        await until(lambda: run.status("untaken") is SKIPPED and run.status("too") is SKIPPED)
        run.cancel_node("stop")
        await until(lambda: run.status("stop") is CANCELLED)
        during = {name: str(run.explain(name)) for name in dag}
    after = {name: str(run.explain(name)) for name in dag}
    assert during == after
    assert "ValueError: wrong" in after["bad"]
    for name, found in (
        ("lost", "'bad' failed"),
        ("too", "'bad' failed"),
        ("untaken", "condition"),
    ):
        assert found in after[name]
    assert "handle" in after["stop"]
    assert after["good"] == "node 'good' is COMPLETED"
    for name in dag:
        assert_reads_well(run.explain(name))


async def test_explain_a_node_that_the_end_of_the_run_cut_off() -> None:
    """A node that never ran because the run was cancelled says the run's reason, as its result
    does.
    """
    async with running(graph(edges="a-b"), {"a": anyio.sleep_forever, "b": noop}) as run:
        await until(lambda: run.status("a") is RUNNING)
        run.cancel("out of money")
        during = str(run.explain("b"))
    result = await run.wait()
    assert result["b"].reason == "the run was cancelled: out of money"
    assert "out of money" in during
    assert "out of money" in str(run.explain("b"))


# --- the log -------------------------------------------------------------------------------------


async def test_expanders_for_nodes_that_only_the_handle_could_add(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """E3: With a handle expanders may name unknown nodes; the one whose node is added fires, the
    other is in `result.unused_expanders` and in one WARNING with close names.
    """
    fired: list[str] = []

    async def expand(name: str, result: str) -> None:
        fired.append(name)

    expanders = {"later": expand, "latre": expand}
    with pytest.raises(dagron.UnknownNodeError):
        await DynamicExecutor(graph("a"), expanders).execute({"a": noop})
    with caplog.at_level(logging.WARNING, "dagron"):
        async with running(graph("a"), {"a": noop}, expanders) as run:
            await run.modify(Modification([Node("later", noop)]))
        await run.wait()
    assert fired == ["later"]
    assert (await run.wait()).unused_expanders == ("latre",)
    assert len(caplog.records) == 1
    assert "did you mean 'later'" in caplog.records[0].getMessage()
