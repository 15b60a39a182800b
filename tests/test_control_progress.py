"""`dagron.progress`: what a task says of how far it is, from the loop and from threads."""

import json
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

import dagron
from clocks import MANUAL, advance, reached
from controls import graph
from dagron import (
    DAG,
    DynamicExecutor,
    DynamicNodeSpec,
    Event,
    NodePolicy,
    NodeProgress,
    Retry,
    progress,
)
from ways import GUARD, Meeting, Way, adding, nothing, passes


def told(events: list[Event], node: str | None = None) -> list[tuple[float, float | None, str]]:
    """Return what was told, of this node or of all."""
    return [
        (event.done, event.total, event.note)
        for event in events
        if isinstance(event, NodeProgress) and node in (None, event.node)
    ]


def check_order(events: list[Event]) -> None:
    """Check that progress is told between the start and the end of its node."""
    running: set[str] = set()
    for event in events:
        node = event.as_dict().get("node")
        if event.kind == "node_started":
            running.add(node)
        elif event.kind in ("node_completed", "node_failed", "node_cancelled"):
            running.discard(node)
        elif isinstance(event, NodeProgress):
            assert node in running, f"{node} told of its progress when it was not running"


def run(
    execute: Way, dag: DAG, tasks: dict[str, Any], expanders: Any = None, **options: Any
) -> list[Event]:
    """Run, with success, and return all events."""
    events: list[Event] = []
    executor = DynamicExecutor(dag, expanders, observers=[events.append], **options)
    assert execute(executor, tasks).ok
    check_order(events)
    return events


# --- from where ----------------------------------------------------------------------------------


def test_an_async_task_tells_of_every_step(execute: Way) -> None:
    """Each call in the loop is one event, at once, with the numbers as floats, or None."""

    async def task() -> None:
        progress(0, 3)
        for page in range(1, 4):
            await checkpoint()
            progress(page, 3, f"page {page}")
        progress(0.5)

    events = run(execute, graph(a=None), {"a": task})
    assert told(events) == [
        (0, 3, ""),
        (1, 3, "page 1"),
        (2, 3, "page 2"),
        (3, 3, "page 3"),
        (0.5, None, ""),
    ]
    assert [event.kind for event in events][3:-2] == ["node_progress"] * 5
    values = [event.as_dict() for event in events if isinstance(event, NodeProgress)]
    assert all(type(value["done"]) is float for value in values)
    assert json.loads(json.dumps(values))[1]["note"] == "page 1"


def test_a_sync_task_is_told_of_before_it_ends(execute: Way) -> None:
    """What a thread reported last is told, and before its node's end."""

    def task() -> None:
        for done in range(100):
            progress(done, 99)

    names = [f"n{i}" for i in range(10)]
    events = run(execute, graph(**dict.fromkeys(names)), dict.fromkeys(names, task), max_workers=3)
    for name in names:
        steps = [done for done, _, _ in told(events, name)]
        assert steps[-1] == 99
        assert steps == sorted(set(steps))


def test_what_threads_report_faster_than_the_loop_turns(execute: Way) -> None:
    """While the loop does not turn, the reports of a thread add up to one event, with the latest
    numbers; other threads' are not mixed up with them.
    """
    begun, at_rest, reported = threading.Barrier(3), threading.Event(), threading.Barrier(3)

    def task(name: str) -> None:
        begun.wait(GUARD)
        assert at_rest.wait(GUARD)
        for done in range(1, 1_001):
            progress(done, 1_000, f"{name} {done}")
        reported.wait(GUARD)

    async def hold_the_loop() -> None:
        await anyio.to_thread.run_sync(begun.wait, GUARD)
        at_rest.set()
        reported.wait(GUARD)

    tasks: dict[str, Any] = {name: partial(task, name) for name in ("x", "y")}
    dag = graph(**dict.fromkeys(tasks), loop=None)
    events = run(execute, dag, {**tasks, "loop": hold_the_loop}, max_workers=2)
    assert told(events, "x") == [(1_000, 1_000, "x 1000")]
    assert told(events, "y") == [(1_000, 1_000, "y 1000")]


def test_a_thread_whose_reports_are_apart(execute: Way) -> None:
    """When the loop turns in between, every report is an event of its own."""

    def task() -> None:
        for done in range(5):
            progress(done)
            anyio.from_thread.run(passes)

    events = run(execute, graph(a=None), {"a": task})
    assert [done for done, _, _ in told(events)] == [0, 1, 2, 3, 4]


def test_expanders_children_and_threads_of_a_task_speak_for_their_node(execute: Way) -> None:
    """A sync and an async expander, a task in the node's own task group, a thread it started."""

    async def task() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(child)
        await anyio.to_thread.run_sync(partial(progress, 2, note="thread"))

    async def child() -> None:
        progress(1, note="child")

    async def expand(name: str, result: object) -> None:
        progress(3, note="expander")

    def expand_sync(name: str, result: object) -> None:
        progress(3, note="expander")

    events = run(
        execute,
        graph("a>b"),
        {"a": task, "b": task},
        {"a": expand, "b": expand_sync},
    )
    notes = [(1, None, "child"), (2, None, "thread"), (3, None, "expander")]
    assert told(events, "a") == notes
    assert told(events, "b") == notes


def test_a_node_of_a_nested_run_speaks_for_itself(execute: Way) -> None:
    """Inside a nested run, it is the inner node that reports, to whoever listens to that run."""
    inner_events: list[Event] = []

    async def inner() -> None:
        progress(1, note="inner")

    async def outer() -> None:
        progress(0, note="before")
        executor = DynamicExecutor(graph(inner=None), observers=[inner_events.append])
        await executor.execute({"inner": inner})
        progress(2, note="after")

    events = run(execute, graph(outer=None), {"outer": outer})
    assert told(inner_events) == [(1, None, "inner")]
    assert told(events) == [(0, None, "before"), (2, None, "after")]


def test_a_node_that_was_added_and_one_that_is_retried(execute: Way) -> None:
    """Nodes added at run time, and all attempts at a node, report like any other."""
    tried = []

    async def flaky() -> None:
        tried.append(1)
        progress(len(tried))
        if len(tried) < 3:
            raise OSError

    spec = DynamicNodeSpec("new", flaky, policy=NodePolicy(retry=Retry(3, initial_delay=0)))
    events = run(execute, graph(grow=None), {"grow": nothing}, {"grow": adding(spec)})
    assert [done for done, _, _ in told(events, "new")] == [1, 2, 3]


async def test_a_reader_of_the_handle_gets_it() -> None:
    """`run.events()` has progress like every other event."""

    async def task() -> None:
        progress(1, 2, "half")
        await checkpoint()
        progress(2, 2, "whole")

    async with DynamicExecutor(graph(a=None)).start({"a": task}) as handle:
        events = [event async for event in handle.events()]
    assert told(events) == [(1, 2, "half"), (2, 2, "whole")]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))


async def test_many_nodes_report_at_once() -> None:
    """A hundred async nodes that take turns: nobody's report is lost or another's."""
    meeting = Meeting(100)
    events: list[Event] = []

    async def task(number: int) -> None:
        for step in range(3):
            await meeting.join()
            progress(step, number)

    names = {f"n{i}": i for i in range(100)}
    executor = DynamicExecutor(graph(**dict.fromkeys(names)), observers=[events.append])
    tasks: dict[str, Any] = {name: partial(task, number) for name, number in names.items()}
    assert (await executor.execute(tasks)).ok
    for name, number in names.items():
        assert told(events, name) == [(step, number, "") for step in range(3)]


# --- where it says nothing -----------------------------------------------------------------------


def test_outside_a_run_it_does_nothing() -> None:
    """A task that reports can be tested by itself."""
    assert progress(1, 2, "note") is None
    assert anyio.run(on_a_loop) is None


async def on_a_loop() -> None:
    progress(1)
    await anyio.to_thread.run_sync(progress, 1)


def test_where_nobody_listens_it_does_nothing(execute: Way) -> None:
    """Without observers and readers nothing is made of it, in the loop and in threads."""

    async def task() -> str:
        progress(1)
        return "done"

    tasks = {"a": task, "b": lambda: progress(1)}
    assert execute(DynamicExecutor(graph(a=None, b=None)), tasks).ok


async def test_a_task_that_outlives_its_node_says_no_more() -> None:
    """What a node has started in the program's own task group, or in a thread of its own, speaks
    for the node as long as that runs: nothing is told after its end, or after the run's.
    """
    events: list[Event] = []
    ended, over = anyio.Event(), anyio.Event()
    may_report, reported = threading.Event(), threading.Event()

    async def background() -> None:
        progress(1, note="while it runs")
        await ended.wait()
        progress(2, note="after its end")
        await over.wait()
        progress(3, note="after the run's end")

    async def thread() -> None:
        def report() -> None:
            assert may_report.wait(GUARD)
            progress(4, note="from a thread")
            reported.set()

        await anyio.to_thread.run_sync(report)

    async def node() -> None:
        group.start_soon(background)
        group.start_soon(thread)
        await passes()

    async def after() -> None:
        ended.set()
        may_report.set()
        await reached(reported)
        await passes()

    async with anyio.create_task_group() as group:
        executor = DynamicExecutor(graph("node>after"), observers=[events.append])
        await executor.execute({"node": node, "after": after})
        over.set()
    assert told(events) == [(1, None, "while it runs")]
    check_order(events)
    assert events[-1].kind == "run_finished"


@MANUAL
@pytest.mark.parametrize("run_is_over", [False, True])
async def test_a_thread_that_was_given_up_says_no_more(run_is_over: bool) -> None:
    """After its node's timeout a thread's reports are dropped, and raise nothing in it."""
    events: list[Event] = []
    entered, may_report, reported = threading.Event(), threading.Event(), threading.Event()
    raised: list[BaseException] = []

    def task() -> None:
        progress(1)
        entered.set()
        assert may_report.wait(GUARD)
        try:
            progress(2)
        except BaseException as error:
            raised.append(error)
        reported.set()

    async def other() -> None:
        await reached(entered)
        await passes()
        advance(3)
        await passes()
        if not run_is_over:
            may_report.set()
            await reached(reported)
            await passes()

    executor = DynamicExecutor(
        graph(a=NodePolicy(timeout=2), other=None), observers=[events.append]
    )
    result = await executor.execute({"a": task, "other": other})
    may_report.set()
    await reached(reported)
    await passes()
    assert isinstance(result["a"].error, dagron.NodeTimeoutError)
    assert told(events) == [(1, None, "")]
    check_order(events)
    assert events[-1].kind == "run_finished"
    assert raised == []


@pytest.mark.parametrize("cancel", ["run", "node"])
async def test_a_task_that_reports_while_it_is_cancelled(cancel: str) -> None:
    """What is said in the clean-up of a cancelled node comes before its end, if at all."""
    events: list[Event] = []

    async def task() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            progress(1, note="cleaning up")

    async with DynamicExecutor(graph(a=None), observers=[events.append]).start({"a": task}) as run:
        await passes()
        if cancel == "run":
            run.cancel()
        else:
            run.cancel_node("a")
    check_order(events)
    assert [event.kind for event in events][-2:] == ["node_cancelled", "run_finished"]


# --- who listens ---------------------------------------------------------------------------------


def test_an_observer_that_raises_does_not_reach_the_task(execute: Way) -> None:
    """`progress` returns, although an observer raised at its event; others get it."""
    events: list[Event] = []

    def observe(event: Event) -> None:
        if isinstance(event, NodeProgress):
            raise ValueError("observer")

    async def task() -> str:
        progress(1)
        progress(2)
        return "done"

    executor = DynamicExecutor(graph(a=None, b=None), observers=[observe, events.append])
    result = execute(executor, {"a": task, "b": lambda: progress(3)})
    assert result.ok
    assert result.dropped_observers == 1
    assert [done for done, _, _ in told(events, "a")] == [1, 2]


def test_observers_are_called_in_the_event_loop(execute: Way) -> None:
    """Also for what a thread reports."""
    threads: list[threading.Thread] = []
    here: list[threading.Thread] = []

    def observe(event: Event) -> None:
        if isinstance(event, NodeProgress):
            threads.append(threading.current_thread())

    async def note() -> None:
        here.append(threading.current_thread())

    executor = DynamicExecutor(graph(a=None, b=None), observers=[observe])
    execute(executor, {"a": lambda: progress(1), "b": note})
    assert threads == here


def test_a_note_is_told_as_it_is(execute: Way) -> None:
    """A note of any text, and of any length, is carried; showing it safely is the reader's part."""
    notes = ["\x1b[31m", "a\nb", "\u202e", "</script>", "x" * 100_000]

    async def task() -> None:
        for note in notes:
            progress(1, note=note)

    assert [note for _, _, note in told(run(execute, graph(a=None), {"a": task}))] == notes


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("1",), TypeError, "done is a number, not str: '1'\n  help: write done="),
        ((True,), TypeError, "done is a number, not bool: True\n  help: "),
        ((None,), TypeError, "done is a number, not NoneType: None\n  help: "),
        ((float("nan"),), ValueError, "done is a finite number, not nan\n  help: "),
        ((float("-inf"),), ValueError, "done is a finite number, not -inf\n  help: "),
        ((10**400,), ValueError, "done is "),
        ((1, "10"), TypeError, "total is a number, not str: '10'\n  help: write total="),
        ((1, float("inf")), ValueError, "total is a finite number, not inf\n  help: "),
        ((1, 2, b"note"), TypeError, "note is a str, not bytes: b'note'\n  help: "),
        ((1, 2, None), TypeError, "note is a str, not NoneType: None\n  help: "),
    ],
    ids=lambda value: f"{value!r:.20}" if isinstance(value, tuple) else "",
)
def test_what_is_no_progress_is_refused(
    arguments: tuple[Any, ...], error: type[Exception], text: str
) -> None:
    """What is no finite number, or no text, is refused everywhere, whether anybody listens or not:
    in a node it is the node's error.
    """
    with pytest.raises(error) as caught:
        progress(*arguments)
    assert str(caught.value).startswith(text)

    async def task() -> None:
        progress(*arguments)

    for observers in ((), (print_nothing,)):
        executor = DynamicExecutor(graph(a=None, b=None), observers=observers)
        result = executor.execute_sync({"a": task, "b": lambda: progress(*arguments)})
        assert [type(node.error) for node in result.node_results.values()] == [error, error]


def print_nothing(event: Event) -> None:
    """Listen, and do nothing."""


@pytest.mark.parametrize("done", [0, -1, 1e308, 10**20, 0.1])
def test_any_finite_number_will_do(done: float) -> None:
    """Negative numbers, large ones, and more than `total`, are the task's own business."""
    events: list[Event] = []

    async def task() -> None:
        progress(done, 1)

    executor = DynamicExecutor(graph(a=None), observers=[events.append])
    executor.execute_sync({"a": task})
    assert told(events) == [(float(done), 1, "")]


async def test_a_modification_lands_between_reports() -> None:
    """`version` of a progress event counts the modifications before it."""
    events: list[Event] = []
    grown = anyio.Event()

    async def task() -> None:
        progress(1)
        await grown.wait()
        progress(2)

    async def seen() -> None:
        grown.set()

    expand: Callable[..., Any] = adding(DynamicNodeSpec("new", seen, ["grow"]))
    executor = DynamicExecutor(
        graph(a=None, grow=None), {"grow": expand}, observers=[events.append]
    )
    assert (await executor.execute({"a": task, "grow": checkpoint})).ok
    versions = [event.version for event in events if isinstance(event, NodeProgress)]
    assert versions == [0, 1]
