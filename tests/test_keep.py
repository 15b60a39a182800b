"""What stays of completed nodes: `DynamicExecutor(keep=...)`, as a user of it sees it."""

import gc
import logging
import pickle
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest

import dagron
from dagron import (
    DAG,
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    ModificationError,
    NodePolicy,
    NodeStatus,
    Retry,
    Run,
    RunFailedError,
    RunFinished,
    RunSnapshot,
    UnknownNodeError,
)
from dagron._run import _Completed
from faults import GUARD, graph, run, until
from replica import Replica, everything
from ways import Way, chain, nothing, passes

KEEPS = ["all", "leaves", "failures"]
ONE = r"1 node of this run was forgotten \(keep=\.\.\.\)"


class Thing:
    """A result that can be watched."""


async def noop() -> None:
    return None


async def bad() -> None:
    raise ValueError("bad")


def specs(*names: str, after: str = "") -> DynamicModification:
    return DynamicModification(
        [DynamicNodeSpec(name, noop, [after] if after else []) for name in names]
    )


def held(name: str = "hub") -> tuple[anyio.Event, dict[str, Callable[..., Any]]]:
    """A gate, and the task of a node that keeps a run open until it is set."""
    gate = anyio.Event()
    return gate, {name: gate.wait}


# --- a result ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keep", "left"),
    [("all", ["a", "b", "c", "d"]), ("leaves", ["d"]), ("failures", [])],
)
def test_counts_are_exact_whatever_is_kept(execute: Way, keep: str, left: list[str]) -> None:
    """Of a chain of sync nodes that hand on a result: all ran, and got what they needed."""
    tasks = {"a": lambda: 1, "b": lambda a: a + 1, "c": lambda b: b + 1}
    seen: list[int] = []
    executor = DynamicExecutor(chain(*"abcd"), keep=keep)
    result = execute(executor, {**tasks, "d": lambda inputs: seen.append(inputs["c"])})
    assert seen == [3]
    assert list(result) == list(result.dag) == left
    assert (result.succeeded, result.forgotten, result.ok) == (4, 4 - len(left), True)
    assert f"none failed of {4:,} nodes" in repr(result)
    result.raise_for_failures()


@pytest.mark.parametrize("keep", KEEPS)
async def test_what_did_not_succeed_stays(keep: str) -> None:
    """With its error, reason and notes; the report counts all nodes that there were."""
    dag = graph("ok", edges="ok-fine fine-broken broken-skipped")
    result = await run(dag, {**dict.fromkeys(dag, noop), "broken": bad}, keep=keep)
    assert {"broken", "skipped"} <= set(result)
    assert (result.succeeded, result.failed, result.skipped) == (2, 1, 1)
    assert result["skipped"].reason == "skipped because 'broken' failed"
    with pytest.raises(RunFailedError) as caught:
        result.raise_for_failures()
    assert str(caught.value).startswith("1 failed, 1 skipped of 4 nodes\n  node 'broken': ValueE")
    assert result["broken"].error.__notes__ == ["in node 'broken', attempt 1, skipped 1 node"]


async def test_a_forgotten_node_is_no_key_of_the_result() -> None:
    """The error says what may have become of it."""
    result = await run(graph("a", "b"), {"a": noop, "b": bad}, keep="failures")
    assert "a" not in result
    for ask in (result.__getitem__, result.family):
        with pytest.raises(UnknownNodeError, match=f"there is no node 'a'\n.*; {ONE}"):
            ask("a")


async def test_a_result_of_which_much_was_forgotten_can_be_pickled() -> None:
    """With its counts and families."""
    expanders = {"a": lambda name, result: specs("c")}
    result = await run(graph("a"), {"a": noop}, expanders, keep="failures")
    again = pickle.loads(pickle.dumps(result))
    assert (again.succeeded, again.forgotten, len(again.family("a"))) == (2, 2, 1)


def test_a_word_that_there_is_not_is_refused() -> None:
    """With the words that there are."""
    with pytest.raises(ValueError, match=r"keep is one of all, leaves, failures, not 'none'\n  h"):
        DynamicExecutor(graph("a"), keep="none")  # type: ignore[arg-type]


# --- when a result is released -------------------------------------------------------------------


@pytest.mark.parametrize("keep", ["leaves", "failures"])
async def test_a_result_is_released_when_its_last_consumer_is_done(keep: str) -> None:
    """Not before: both consumers get it; and not at the end of the run only."""
    alive: list[bool] = []
    refs: list[weakref.ref[Thing]] = []

    async def make() -> Thing:
        thing = Thing()
        refs.append(weakref.ref(thing))
        return thing

    async def look(inputs: dict[str, Any]) -> None:
        await passes(3)
        gc.collect()
        alive.append(refs[0]() is not None)

    dag = graph(edges="make-first first-second make-second second-after")
    result = await run(dag, {**dict.fromkeys(dag, look), "make": make}, keep=keep)
    assert result.ok
    assert alive == [True, True, False]


async def test_a_retry_finds_the_results_that_it_needs() -> None:
    """A consumer that fails in one attempt is not done."""
    attempts: list[int] = []

    async def consume(make: int) -> int:
        attempts.append(make)
        if len(attempts) < 3:
            raise ValueError
        return make

    policy = NodePolicy(retry=Retry(attempts=3, initial_delay=0, jitter=0))
    dag = DAG.builder().add_edge("make", "consume").add_node("consume", policy=policy).build()
    result = await run(dag, {"make": lambda: 7, "consume": consume}, keep="failures")
    assert (attempts, result.forgotten) == ([7, 7, 7], 2)


async def test_what_an_expander_adds_may_still_need_the_nodes_before_it() -> None:
    """A consumer is not done before its expander is: new nodes may depend on what it had."""

    async def expand(name: str, result: Any) -> DynamicModification:
        await passes(5)
        return DynamicModification([DynamicNodeSpec("c", lambda a: a, ["a"])])

    result = await run(chain("a", "b"), {"a": lambda: 7, "b": noop}, {"b": expand}, keep="leaves")
    assert {name: result[name].result for name in result} == {"b": None, "c": 7}


@pytest.mark.parametrize("how", ["cancel_node", "modify", "remove"])
async def test_a_consumer_that_never_ran_releases_what_it_waited_for(how: str) -> None:
    """At once, while the run goes on: cancelled by the handle, or by a modification, or removed."""
    gate, tasks = held()
    refs = []

    async def make() -> Thing:
        thing = Thing()
        refs.append(weakref.ref(thing))
        return thing

    dag = graph(edges="make-consume hub-consume")
    executor = DynamicExecutor(dag, keep="failures")
    with anyio.fail_after(GUARD):
        async with executor.start({**tasks, "make": make, "consume": noop}) as handle:
            await until(lambda: handle.status("make") is NodeStatus.COMPLETED)
            assert refs[0]() is not None
            if how == "cancel_node":
                handle.cancel_node("consume")
            elif how == "modify":
                await handle.modify(DynamicModification(cancel_nodes=["consume"]))
            else:
                await handle.modify(DynamicModification(remove_nodes=["consume"]))
            await passes(3)
            gc.collect()
            assert refs[0]() is None
            assert "make" not in handle.dag
            gate.set()
        result = await handle.wait()
    assert (result.forgotten, result.cancelled) == (2, int(how != "remove"))


async def test_a_reader_of_what_completes_holds_only_what_it_has_not_read() -> None:
    """`Run.completed` gives also what is forgotten meanwhile, and then lets go of it."""
    gate, tasks = held()
    refs = []

    async def make() -> Thing:
        thing = Thing()
        refs.append(weakref.ref(thing))
        return thing

    executor = DynamicExecutor(graph("hub", "make"), keep="failures")
    with anyio.fail_after(GUARD):
        async with executor.start({**tasks, "make": make}) as handle:
            reader = handle.completed()
            await until(lambda: "make" not in handle.dag)
            gc.collect()
            assert refs[0]() is not None
            name, thing = await anext(reader)
            assert (name, thing) == ("make", refs[0]())
            del thing
            gc.collect()
            assert refs[0]() is None
            gate.set()


def test_a_long_backlog_of_a_reader_ends_without_a_crash() -> None:
    """A million cells that nobody has read go with their reader: no recursion."""
    completed = _Completed()
    first = completed.end_cell
    for number in range(1_000_000):
        completed.add("x", number)
    assert first.value == 0
    del first
    completed.add("last", None)
    assert list(completed.kept) == ["x", "last"]


# --- names ---------------------------------------------------------------------------------------


async def test_a_forgotten_node_is_unknown_to_a_later_modification() -> None:
    """The expanding node fails, with an error that counts the forgotten ones."""
    expanders = {"b": lambda name, result: specs("c", after="a")}
    dag = graph(edges="a-between between-b")
    result = await run(dag, dict.fromkeys(dag, noop), expanders, keep="failures")
    error = result["b"].error
    assert isinstance(error, ModificationError)
    assert "node 'c' depends on 'a', which does not exist" in str(error)
    assert "1 node of this run was forgotten (keep=...)" in str(error)


async def test_the_name_of_a_forgotten_node_may_be_used_again() -> None:
    """Again and again, with another task, policy and edges each time; all of them count."""
    gate, tasks = held()
    seen: list[Any] = []

    def task(number: int) -> Callable[..., Any]:
        if number % 2:
            return lambda: seen.append(number)

        async def on_loop(hub: Any = number) -> None:
            seen.append(hub)

        return on_loop

    executor = DynamicExecutor(graph("hub"), keep="failures", max_nodes=2)
    with anyio.fail_after(GUARD):
        async with executor.start(tasks) as handle:
            for number in range(6):
                policy = NodePolicy(priority=number) if number < 3 else None
                spec = DynamicNodeSpec("again", task(number), policy=policy)
                await handle.modify(DynamicModification([spec]))
                await until(lambda: "again" not in handle.dag)
            gate.set()
        result = await handle.wait()
    assert seen == list(range(6))
    assert (result.succeeded, result.forgotten, handle.version) == (7, 7, 6)


async def test_an_expander_of_the_executor_is_for_every_node_of_its_name() -> None:
    """Also for those that come after one was forgotten; and it was not unused."""
    gate, tasks = held()
    calls: list[str] = []

    def expand(name: str, result: Any) -> DynamicModification:
        calls.append(name)
        return specs(f"child{len(calls)}")

    executor = DynamicExecutor(graph("hub"), {"job": expand}, keep="failures")
    with anyio.fail_after(GUARD):
        async with executor.start(tasks) as handle:
            for _ in range(3):
                await handle.modify(specs("job"))
                await until(lambda: set(handle.dag) == {"hub"})
            gate.set()
        result = await handle.wait()
    assert calls == ["job"] * 3
    assert (result.unused_expanders, result.succeeded) == ((), 7)
    assert len(result.family("job")) == 3


async def test_an_expander_of_a_spec_goes_with_its_node() -> None:
    """A second node of that name has none, or another one."""
    gate, tasks = held()

    def expand(name: str, result: Any) -> DynamicModification:
        return specs("child")

    executor = DynamicExecutor(graph("hub"), keep="failures")
    with anyio.fail_after(GUARD):
        async with executor.start(tasks) as handle:
            for expander in (expand, None, expand):
                spec = DynamicNodeSpec("job", noop, expander=expander)
                await handle.modify(DynamicModification([spec]))
                await until(lambda: set(handle.dag) == {"hub"})
            gate.set()
        result = await handle.wait()
    assert (result.succeeded, len(result.family("job"))) == (6, 2)


async def test_only_expanders_that_never_ran_are_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not those of forgotten nodes."""
    dag = graph("a")
    expanders = {"a": lambda name, result: specs("b"), "b": nothing_more, "never": nothing_more}
    with caplog.at_level(logging.WARNING, "dagron"):
        result = await run(dag, {"a": noop}, expanders, keep="failures")
    assert (result.unused_expanders, result.forgotten) == (("never",), 2)
    assert [record.getMessage() for record in caplog.records] == [
        "the expander for 'never' was never called: no node of that name appeared"
    ]


def nothing_more(name: str, result: Any) -> None:
    return None


async def test_max_nodes_bounds_what_is_in_the_graph() -> None:
    """A stream of many more nodes goes through a graph that holds a handful at a time."""
    most = 0

    async def expand(name: str, result: Any, dag: DAG) -> AsyncIterator[DynamicNodeSpec]:
        for number in range(100):
            yield DynamicNodeSpec(f"n{number}", noop)

    def watch(event: dagron.Event) -> None:
        nonlocal most
        most = max(most, getattr(event, "node_count", 0))

    options = {"policy": NodePolicy(window=4), "max_nodes": 5, "observers": [watch]}
    result = await run(graph("a"), {"a": noop}, {"a": expand}, keep="failures", **options)
    assert (result.succeeded, result.forgotten, most) == (101, 101, 5)


# --- the handle ----------------------------------------------------------------------------------


async def open_run(body: Callable[[Run], Any], *nodes: str, **options: Any) -> Any:
    """Run these nodes and "hub", and call the body when they are forgotten; return its result."""
    gate, tasks = held()
    dag = graph("hub", *nodes)
    executor = DynamicExecutor(dag, keep="failures", **options)
    with anyio.fail_after(GUARD):
        async with executor.start({**dict.fromkeys(nodes, noop), **tasks}) as handle:
            await until(lambda: len(handle.dag) == 1)
            body(handle)
            gate.set()
        return await handle.wait()


async def test_the_handle_does_not_know_forgotten_nodes() -> None:
    """Each question says that the name may be that of one of them; what is left is as it was."""

    def look(handle: Run) -> None:
        for ask in (handle.status, handle.explain, handle.cancel_node):
            with pytest.raises(UnknownNodeError, match=f"no node 'a'\n  help: .*; {ONE}"):
                ask("a")
        assert handle.dag.nodes() == ["hub"]
        assert handle.status("hub") is NodeStatus.RUNNING
        assert repr(handle).endswith(": 1 of 2 nodes done>")

    result = await open_run(look, "a")
    assert result.forgotten == 2


async def test_late_readers_are_told_of_what_is_there() -> None:
    """A snapshot without forgotten nodes, and then every event; the end counts them."""
    gate, tasks = held()
    executor = DynamicExecutor(graph("hub", "a", "b"), keep="failures")
    with anyio.fail_after(GUARD):
        async with executor.start({**tasks, "a": noop, "b": noop}) as handle:
            await until(lambda: len(handle.dag) == 1)
            reader, completed = handle.events(), handle.completed()
            snapshot = await anext(reader)
            gate.set()
        story = await everything(reader)
        assert [pair async for pair in completed] == [("hub", None)]
    assert isinstance(snapshot, RunSnapshot)
    assert snapshot.nodes == (("hub", "RUNNING"),)
    assert [type(event).__name__ for event in story] == ["NodeCompleted", "RunFinished"]
    end = story[-1]
    assert isinstance(end, RunFinished)
    assert (end.succeeded, end.ok) == (3, True)


@pytest.mark.parametrize("keep", KEEPS)
async def test_observers_hear_the_same_whatever_is_kept(keep: str) -> None:
    """A node is forgotten only when all who listen have heard of it."""
    stories = []
    for word in ("all", keep):
        events: list[tuple[str, Any]] = []

        def observe(event: dagron.Event, events: list[tuple[str, Any]] = events) -> None:
            events.append((event.kind, getattr(event, "node", None)))

        expanders = {"a": lambda name, result: specs("c", after="a")}
        dag = graph(edges="a-b b-bad bad-skipped")
        tasks = {**dict.fromkeys(dag, noop), "bad": bad}
        result = await run(dag, tasks, expanders, keep=word, observers=[observe])
        assert result.dropped_observers == 0
        stories.append(sorted(events, key=str))
    assert stories[0] == stories[1]


async def test_the_end_of_a_run_that_raises_counts_forgotten_nodes() -> None:
    """Its events say how many had completed, although there is no result."""
    events: list[dagron.Event] = []

    async def stop(inputs: Any) -> None:
        raise KeyboardInterrupt

    dag = graph(edges="a-b b-c c-stop")
    with pytest.raises(KeyboardInterrupt):
        await run(
            dag,
            {**dict.fromkeys(dag, noop), "stop": stop},
            keep="failures",
            observers=[events.append],
        )
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert (end.succeeded, end.failed, end.ok) == (3, 1, False)


async def test_a_name_that_is_used_again_is_read_once_for_each_node() -> None:
    """By a reader of `Run.completed` that was there before and comes by later."""
    gate, tasks = held()
    first = anyio.Event()

    async def need(job: int) -> None:
        await first.wait()

    executor = DynamicExecutor(graph("hub", edges="job-need"), keep="failures")
    with anyio.fail_after(GUARD):
        async with executor.start({**tasks, "job": lambda: 1, "need": need}) as handle:
            await until(lambda: handle.status("job") is NodeStatus.COMPLETED)
            reader = handle.completed()
            first.set()
            await until(lambda: set(handle.dag) == {"hub"})
            await handle.modify(DynamicModification([DynamicNodeSpec("job", lambda: 2)]))
            await until(lambda: set(handle.dag) == {"hub"})
            gate.set()
        seen = [pair async for pair in reader]
    assert seen == [("job", 1), ("need", None), ("job", 2), ("hub", None)]


async def test_a_run_that_is_cut_short_counts_what_was_forgotten() -> None:
    """By its handle: what had completed has succeeded, the rest is cancelled."""
    result = await open_run(lambda handle: handle.cancel("enough"), "a", "b")
    assert (result.succeeded, result.forgotten, result.cancelled) == (2, 2, 1)
    assert set(result) == {"hub"}
    assert not result.ok


async def test_keeping_all_forgets_nothing_also_under_a_policy_that_does() -> None:
    """ "all" on the executor is for those of whose parent nothing else is said."""

    def expand(name: str, result: Any) -> DynamicModification:
        return specs(f"{name}1", f"{name}2")

    dag = DAG.builder().add_node("a", policy=NodePolicy(keep="failures")).add_node("b").build()
    result = await run(dag, {"a": nothing, "b": nothing}, {"a": expand, "b": expand})
    assert set(result) == {"a", "b", "b1", "b2"}
    assert (result.forgotten, len(result.family("a")), len(result.family("b"))) == (2, 2, 2)


@pytest.mark.parametrize("keep", KEEPS)
async def test_a_reader_can_follow_a_run_that_forgets(keep: str) -> None:
    """From its start: every event follows from those before, and the end has all the counts.

    Two streams grow side by side, use names again, and some of their nodes fail.
    """

    async def expand(name: str, result: Any) -> AsyncIterator[DynamicModification]:
        for turn in range(12):
            nodes = [DynamicNodeSpec(f"{name}{turn % 4}{keep != 'all' or turn}", noop, [name])]
            if turn % 5 == 1:
                broken = DynamicNodeSpec(f"{name}bad{turn}", bad)
                nodes += [broken, DynamicNodeSpec(f"{name}skipped{turn}", noop, [broken.name])]
            yield DynamicModification(nodes)

    policy = NodePolicy(window=1, keep=None if keep == "all" else "failures")
    builder = DAG.builder().add_node("a", policy=policy).add_node("b", policy=policy)
    dag = builder.add_edge("a", "end").add_edge("b", "end").build()
    executor = DynamicExecutor(dag, {"a": expand, "b": expand}, keep=keep)
    with anyio.fail_after(GUARD):
        async with executor.start(dict.fromkeys(dag, noop)) as handle:
            story = await everything(handle.events())
        result = await handle.wait()
    assert (result.succeeded, result.failed, result.skipped) == (27, 6, 6)
    forgotten = {"all": 0, "leaves": 26, "failures": 27}[keep]
    assert (result.forgotten, len(list(result))) == (forgotten, 39 - forgotten)
    Replica(forgets=True).read_all(story).assert_ends_like(result)
