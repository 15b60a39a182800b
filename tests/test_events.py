"""The events of a run: what is told, and in which order."""

import json
from collections import Counter
from dataclasses import FrozenInstanceError, fields
from typing import Any

import anyio
import pytest

import dagron
import dagron._stream
from dagron import DynamicExecutor, Edge, Event, NodePolicy, Retry, Run
from faults import GUARD, graph, passes, until
from handles import (
    CANCELLED,
    COMPLETED,
    FAILED,
    RUNNING,
    SKIPPED,
    Modification,
    Node,
    fail,
    noop,
    running,
)
from replica import Replica, assert_one_ending_each, everything, kinds

# --- what is told --------------------------------------------------------------------------------


class Busy:
    """A run in which everything happens that there are events for, but a blocked loop."""

    def __init__(self) -> None:
        self.gate = anyio.Event()
        retry = NodePolicy(retry=Retry(2, initial_delay=0.001, jitter=0))
        builder = graph("a", "stuck", edges="a-spare spare-z a-z bad-lost b-z a-c").to_builder()
        builder.add_node("flaky", policy=retry)
        builder.add_edge("a", "untaken", condition=lambda result: False)
        self.dag = builder.build()
        self.attempts = 0

    async def flaky(self) -> str:
        self.attempts += 1
        if self.attempts == 1:
            raise ConnectionError("try again")
        return "done"

    async def a(self) -> str:
        dagron.progress(1, 3, "first")
        await passes(1)
        dagron.progress(2.5)
        return "a"

    async def expand(self, name: str, result: object) -> Modification:
        return Modification(
            [Node("x", noop, ["a"], ["z"]), Node("y", lambda: 1, ["x"])],
            remove_nodes=["spare"],
            add_edges=[Edge("b", "y", condition=bool)],
            remove_edges=[("a", "c")],
        )

    async def run(self, **options: Any) -> tuple[list[Event], Run]:
        """Run it; return what a reader gets who has been there from the start."""
        tasks: dict[str, Any] = dict.fromkeys(self.dag.nodes(), noop)
        tasks |= {"a": self.a, "flaky": self.flaky, "bad": fail, "stuck": anyio.sleep_forever}
        tasks["b"] = lambda: 1
        async with running(self.dag, tasks, {"a": self.expand}, **options) as run:
            reader = run.events()
            await until(lambda: run.status("stuck") is RUNNING)
            run.cancel_node("stuck")
        return await everything(reader), run


async def test_everything_that_happens_is_told() -> None:
    """Run started, node added, ready, started, progress, retrying, completed, failed, skipped,
    cancelled, removed, graph modified, run finished: all in order, numbered from 1 without a gap,
    with exactly one event that ends each node; they rebuild the run.
    """
    events, run = await Busy().run()
    result = await run.wait()
    assert [event.seq for event in events] == [*range(1, len(events) + 1)]
    assert {type(event).__name__ for event in events} == {
        *("RunStarted", "NodeAdded", "NodeReady", "NodeStarted", "NodeProgress", "NodeRetrying"),
        *("NodeCompleted", "NodeFailed", "NodeSkipped", "NodeCancelled", "NodeRemoved"),
        *("GraphModified", "RunFinished"),
    }
    assert type(events[0]) is dagron.RunStarted
    assert type(events[-1]) is dagron.RunFinished
    Replica().read_all(events).assert_ends_like(result)
    assert_one_ending_each(events, result)


async def test_what_the_events_say() -> None:
    """The events carry what the result has: attempts, seconds, errors and reasons as text, who
    added and who removed; and whose run it is.
    """
    events, run = await Busy().run()
    result = await run.wait()
    of = {(type(event).__name__, getattr(event, "node", "")): event for event in events}
    assert {event.run_id for event in events} == {run.id}

    started = of["RunStarted", ""]
    assert set(started.nodes) == set(graph(edges="a-spare bad-lost b-z a-c").nodes()) | {
        *("stuck", "flaky", "untaken")
    }
    assert ("spare", "z") in started.edges
    modified = of["GraphModified", ""]
    assert (modified.by, modified.node_count, modified.version) == ("a", 11, 1)
    assert modified.added_nodes == ("x", "y")
    assert modified.removed_nodes == ("spare",)
    assert set(modified.added_edges) == {("a", "x"), ("x", "z"), ("x", "y"), ("b", "y")}
    assert modified.removed_edges == (("a", "c"),)
    assert modified.cancelled_nodes == ()
    assert (of["NodeAdded", "y"].added_by, of["NodeAdded", "y"].depth) == ("a", 1)
    assert of["NodeRemoved", "spare"].removed_by == "a"

    retrying = of["NodeRetrying", "flaky"]
    assert (retrying.attempt, retrying.delay) == (1, 0.001)
    assert retrying.error == "ConnectionError: try again"
    assert of["NodeCompleted", "flaky"].attempts == result["flaky"].attempts == 2
    for name in ("a", "b", "x"):
        assert of["NodeCompleted", name].duration_seconds == result[name].duration_seconds
    failed = of["NodeFailed", "bad"]
    assert (failed.error, failed.attempts) == ("ValueError: wrong", 1)
    for name in ("lost", "untaken"):
        assert of["NodeSkipped", name].reason == result[name].reason
    assert of["NodeCancelled", "stuck"].reason == result["stuck"].reason
    reports = [(e.done, e.total, e.note) for e in events if isinstance(e, dagron.NodeProgress)]
    assert reports == [(1, 3, "first"), (2.5, None, "")]
    finished = of["RunFinished", ""]
    assert finished.duration_seconds > 0  # by another pair of looks at the clock than the result's


async def test_events_are_json() -> None:
    """`json.dumps(event.as_dict())` works for every event, and gives back all that it says: text,
    numbers, booleans, None, and lists of these.
    """
    events, _ = await Busy().run()
    common = {"kind", "seq", "version", "time", "elapsed", "run_id"}
    assert len({type(event) for event in events}) == 13
    missed = dagron.EventsMissed(3, 0, 1.5, 0.5, "id", 1, 3)
    blocked = dagron.LoopBlocked(4, 0, 1.5, 0.5, "id", "a", "a.py", 3, "work", 0.25)
    for event in [*events, missed, blocked]:
        told = event.as_dict()
        again = json.loads(json.dumps(told))
        assert again.keys() == told.keys() == {field.name for field in fields(event)} | {"kind"}
        assert common <= told.keys()
        for name, value in told.items():
            listed = (
                [list(v) if isinstance(v, tuple) else v for v in value]
                if isinstance(value, tuple)
                else value
            )
            assert again[name] == listed
            assert_plain(value)


def assert_plain(value: object) -> None:
    """It is of a type that JSON knows, and no subclass of it."""
    if type(value) is tuple:
        for member in value:
            assert_plain(member)
    else:
        assert type(value) in (str, int, float, bool, type(None))


async def test_hostile_texts_are_json_too() -> None:
    """Names, errors, reasons and notes of any text, and subclasses of `str`, come out as text."""

    class Text(str):
        __slots__ = ()

    hostile = Text("\ud800 </script>\x00\x1b[31m\u202e\u2028" + "x" * 100_000)

    class Rude(Exception):
        def __str__(self) -> str:
            return hostile

    async def rude() -> None:
        dagron.progress(True + 1, 10**30, hostile)
        raise Rude

    name = '"]; click a href "javascript:alert(1)"'
    async with running(graph(name, "stop"), {name: rude, "stop": anyio.sleep_forever}) as run:
        reader = run.events()
        await until(lambda: run.status(name) is FAILED)
        run.cancel(hostile)
    events = await everything(reader)
    assert {"node_progress", "node_failed", "node_cancelled"} <= {event.kind for event in events}
    for event in events:
        for value in event.as_dict().values():
            assert_plain(value)
        told = json.dumps(event.as_dict())
        assert event.kind == "node_progress" or len(told) < 1_000_000
        assert json.loads(told)["seq"] == event.seq


def test_every_kind_of_event_is_a_frozen_value() -> None:
    """Events are frozen, slotted values; `kind` is the name of the class as words, and they compare
    by what they say.
    """
    classes = [
        value
        for value in vars(dagron).values()
        if isinstance(value, type) and issubclass(value, Event)
    ]
    assert len(classes) == 19
    for kind in classes:
        values = [f"{i}" for i in range(len(fields(kind)))]
        event = kind(*values)
        assert not hasattr(event, "__dict__")
        assert event == kind(*values)
        assert event != kind(*values[:-1], "another")
        with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
            event.seq = 7
        assert kind.__module__ == "dagron"
    assert (dagron.NodeCompleted.kind, dagron.EventsMissed.kind) == (
        "node_completed",
        "events_missed",
    )
    assert (dagron.RunStarted.kind, dagron.LoopBlocked.kind) == ("run_started", "loop_blocked")
    assert len({kind.kind for kind in classes}) == len(classes)


async def test_events_of_modifications_from_outside() -> None:
    """A modification through the handle is told with nobody as its author: what was added, removed,
    rewired and cancelled; one that changes nothing, or is refused, is not told.
    """
    gate = anyio.Event()
    dag = graph(edges="held-old held-z held-late")
    tasks = dict.fromkeys(dag.nodes(), noop) | {"held": gate.wait}
    async with running(dag, tasks) as run:
        reader = run.events()
        await until(lambda: run.status("held") is RUNNING)
        await run.modify(
            Modification(
                [Node("new", noop, ["held"])],
                remove_nodes=["old"],
                add_edges=[("new", "z")],
                remove_edges=[("held", "z")],
                cancel_nodes=["late"],
            )
        )
        await run.modify(Modification())
        with pytest.raises(dagron.ModificationError):
            await run.modify(Modification(remove_nodes=["?"]))
        gate.set()
    events = await everything(reader)
    assert kinds(events)[3:8] == [
        "graph_modified",
        "node_added new",
        "node_removed old",
        "node_cancelled late",
        "node_completed held",
    ]
    modified, added, removed, cancelled = events[3:7]
    assert isinstance(modified, dagron.GraphModified)
    assert (modified.by, modified.version, modified.node_count) == (None, 1, 4)
    assert modified.added_edges == (("held", "new"), ("new", "z"))
    assert modified.removed_edges == (("held", "z"),)
    assert modified.cancelled_nodes == ("late",)
    assert (added.added_by, added.depth) == (None, 0)
    assert removed.removed_by is None
    assert cancelled.reason == "cancelled by the program, through the run's handle"
    Replica().read_all(events).assert_ends_like(await run.wait())


async def test_what_the_handle_does_before_the_run_begins_is_told() -> None:
    """Nodes that are cancelled, skipped, added and removed at the top of the block are in the
    events: RunStarted comes first, with the graph as it is then, and every node has one ending.
    """
    run = DynamicExecutor(graph(edges="a-b c-d"), observers=[lambda event: None]).start(
        dict.fromkeys("abcd", noop)
    )
    run.cancel_node("a")
    early = run.events()
    with anyio.fail_after(GUARD):
        async with run:
            reader = run.events()
            await run.modify(Modification([Node("x", noop)], remove_nodes=["d"]))
            await run.modify(Modification(cancel_nodes=["c"]))
    events = await everything(reader)
    assert events == await everything(early)
    assert type(events[0]) is dagron.RunStarted
    assert (events[0].version, set(events[0].nodes)) == (2, {"a", "b", "c", "x"})
    result = await run.wait()
    Replica().read_all(events).assert_ends_like(result)
    assert_one_ending_each(events, dagron.ExecutionResult(result.node_results, result.dag))


async def test_progress_of_a_task_that_has_outlived_its_node() -> None:
    """What a node has started, and that goes on after its end, tells no progress of it any more."""
    ended = anyio.Event()

    async def late() -> None:
        await ended.wait()
        await passes(5)
        dagron.progress(9)

    async with anyio.create_task_group() as others:

        async def node() -> None:
            dagron.progress(1)
            others.start_soon(late)

        async with running(graph("a", "held"), {"a": node, "held": lambda: None}) as run:
            reader = run.events()
            await until(lambda: run.status("a") is COMPLETED)
            ended.set()
            await passes(10)
    events = await everything(reader)
    assert [event.done for event in events if isinstance(event, dagron.NodeProgress)] == [1]


# --- every ending is told ------------------------------------------------------------------------


async def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "ending", ["result", "cancel", "block", "caller", "interrupt", "failure", "timeout"]
)
async def test_every_run_that_began_tells_its_end(ending: str) -> None:
    """However a run ends, each node gets its one ending and the last event is RunFinished, with the
    counts; the readers end.
    """
    tasks = {"a": anyio.sleep_forever, "b": noop, "done": noop, "bad": noop}
    if ending in ("interrupt", "failure"):
        tasks["bad"] = interrupt if ending == "interrupt" else fail
    if ending == "result":
        tasks["a"] = noop
    options = {"on_failure": "cancel"} if ending == "failure" else {}
    executor = DynamicExecutor(graph("a", "done", edges="a-b done-bad"), **options)
    run = executor.start(tasks, timeout=0.05 if ending == "timeout" else None)
    with anyio.fail_after(GUARD), anyio.CancelScope() as scope:
        try:
            async with run:
                reader = run.events()
                await until(lambda: run.status("done") is COMPLETED)
                if ending == "cancel":
                    run.cancel("enough")
                elif ending == "block":
                    raise LookupError
                elif ending == "caller":
                    scope.cancel()
        except (LookupError, KeyboardInterrupt):
            assert ending in ("block", "interrupt")
    events = await everything(reader)
    replica = Replica().read_all(events)
    assert replica.finished is not None
    assert replica.finished.ok == (ending == "result")
    assert bool(replica.finished.reason) == (ending != "result")
    if ending == "result":
        assert (run.status("a"), run.status("b")) == (COMPLETED, COMPLETED)
    else:
        assert run.status("a") is CANCELLED
        assert run.status("b") in (CANCELLED, SKIPPED)
    assert {name: run.status(name) for name in replica.statuses} == replica.statuses
    if ending not in ("caller", "interrupt"):
        replica.assert_ends_like(await run.wait())
    counts = Counter(replica.statuses.values())
    assert replica.finished.cancelled == counts[CANCELLED]
    assert replica.finished.succeeded == counts[COMPLETED]


async def test_a_run_that_never_began_tells_nothing() -> None:
    """A run whose caller is cancelled already when it is to begin has no events, or RunStarted
    first; its readers end, and nobody waits for it in vain.
    """
    seen: list[Event] = []
    run = DynamicExecutor(graph("a"), observers=[seen.append]).start({"a": noop})
    reader = run.events()
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with run:
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert await everything(reader) == seen
    assert await everything(run.events()) == []
    assert not seen or type(seen[0]) is dagron.RunStarted
    with anyio.fail_after(GUARD / 4):
        assert [name async for name, _ in run.completed()] == []
        with pytest.raises(dagron.RunFinishedError):
            await run.wait()


# --- when nobody listens -------------------------------------------------------------------------


def refuse_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every event that is made raise."""

    def refuse(self: object, *arguments: object) -> None:
        raise AssertionError("an event was made, and nobody listens")

    for value in vars(dagron).values():
        if isinstance(value, type) and issubclass(value, Event):
            monkeypatch.setattr(value, "__init__", refuse)


async def test_nothing_is_made_when_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Producing events costs nothing when nobody listens: none is made and nothing is logged for
    them, with a handle that is used for everything else, and without.
    """
    refuse_events(monkeypatch)
    logs: list[object] = []

    async def look() -> None:
        dagron.progress(1)
        logs.append(run._scheduler.log)

    async def grow(name: str, result: object) -> Modification:
        return Modification([Node("child", look, [name])])

    gate = anyio.Event()
    tasks = {"a": look, "b": gate.wait, "bad": fail, "stop": anyio.sleep_forever}
    dag = graph("a", "b", "bad", "stop")
    async with running(dag, tasks, {"a": grow}) as run:
        await until(lambda: "child" in run.dag)
        await run.modify(Modification([Node("x", lambda: dagron.progress(1))]))
        run.cancel_node("stop")
        assert run.explain("b").status is RUNNING
        async for name, _ in run.completed():
            if name == "x":
                gate.set()
        logs.append(run._scheduler.log)
    assert logs == [None, None, None]
    assert (await run.wait()).succeeded == 4
    with pytest.raises(AssertionError, match="nobody listens"):
        dagron.NodeReady(1, 0, 0.0, 0.0, "id", "a")


async def test_events_begin_when_somebody_listens() -> None:
    """Where nobody listened before, events are numbered from 1 at the first reader, after its
    snapshot.
    """
    gate = anyio.Event()
    async with running(graph("a", "b", "c"), {"a": noop, "b": noop, "c": gate.wait}) as run:
        await until(lambda: run.status("c") is RUNNING and run.status("a") is COMPLETED)
        await until(lambda: run.status("b") is COMPLETED)
        first, second = run.events(), run.events()
        assert (await anext(first)).seq == (await anext(second)).seq == 0
        gate.set()
    events = await everything(first)
    assert [event.seq for event in events] == [1, 2]
    assert events == await everything(second)


async def test_threads_see_events_in_the_loop_only() -> None:
    """Progress that a thread reports comes in order with the node's other events, the latest in any
    case, and never after its end.
    """

    def work() -> None:
        for done in range(1, 301):
            dagron.progress(done, 300, f"page {done}")

    async with running(graph("a", "b"), {"a": work, "b": work}, max_workers=2) as run:
        reader = run.events()
    events = await everything(reader)
    Replica().read_all(events).assert_ends_like(await run.wait())
    for name in "ab":
        told = [e.done for e in events if isinstance(e, dagron.NodeProgress) and e.node == name]
        assert told == sorted(set(told))
        assert told[-1] == 300


def test_the_events_of_a_run_that_is_over_outlive_its_loop() -> None:
    """A reader may be read in another event loop when the run is over."""

    async def main() -> Run:
        async with DynamicExecutor(graph("a")).start({"a": noop}) as run:
            run.events()
        return run

    run = anyio.run(main, backend="trio")

    async def read() -> list[str]:
        return kinds(await everything(run.events()))

    assert anyio.run(read, backend="asyncio") == [
        "run_started",
        "node_ready a",
        "node_started a",
        "node_completed a",
        "run_finished",
    ]
