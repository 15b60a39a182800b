"""`detect_blocking`: an async task that keeps the event loop from turning is named.

Tasks in here block the loop until they are found out: the replaced `warnings.showwarning`, which
the detector's thread calls, lets them go.
"""

import json
import logging
import threading
import warnings
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

import dagron._blocking
from controls import graph
from dagron import (
    DAG,
    BlockingWarning,
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    Event,
    LoopBlocked,
)
from dagron._blocking import LOOKS, Sightings
from ways import GUARD, Way, adding, passes

SOON = 0.03  # seconds after which a task counts as blocking


class Caught:
    """The warnings of one test, and an event that is set with the first."""

    def __init__(self) -> None:
        self.first = threading.Event()
        self.messages: list[str] = []
        self.places: list[tuple[type[Warning], str, int]] = []
        self.threads: list[str] = []

    def show(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: object = None,
        line: object = None,
    ) -> None:
        self.messages.append(str(message))
        self.places.append((category, filename, lineno))
        self.threads.append(threading.current_thread().name)
        self.first.set()

    def block(self) -> None:
        """Block the thread until there was a warning."""
        assert self.first.wait(GUARD), "nobody noticed"


@pytest.fixture
def caught(monkeypatch: pytest.MonkeyPatch) -> Iterator[Caught]:
    """What is warned of, instead of on standard error."""
    caught = Caught()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", caught.show)
        yield caught


class Looks:
    """What the detector has seen, and whether it has looked for long in one turn of the loop."""

    def __init__(self) -> None:
        self.seen: list[str | None] = []
        self.enough = threading.Event()
        self._last: object = None
        self._count = 0

    def add(self, node: str | None, turns: int) -> None:
        self._count = self._count + 1 if (node, turns) == self._last else 1
        self._last = (node, turns)
        self.seen.append(node)
        if not self._count % (4 * LOOKS):
            self.enough.set()


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    """Lets a test block the loop for so many looks of the detector, instead of for some time."""
    looks = Looks()

    class Counted(Sightings):
        def look(self, node: str | None, turns: int, now: float) -> float | None:
            found = super().look(node, turns, now)
            looks.add(node, turns)
            return found

    monkeypatch.setattr(dagron._blocking, "Sightings", Counted)
    return looks


def detectors() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "dagron blocking detector"]


# --- what is found -------------------------------------------------------------------------------


def test_an_async_task_that_blocks_is_named(execute: Way, caught: Caught) -> None:
    """A `BlockingWarning` names the node, the file, the line and the function, and says what to do;
    the run goes on as if nothing had happened.
    """

    async def stuck() -> str:
        await checkpoint()
        caught.block()  # in this line
        return "done"

    line = stuck.__code__.co_firstlineno + 2
    dag = graph(stuck=None, other=None)
    executor = DynamicExecutor(dag, detect_blocking=SOON)
    result = execute(executor, {"stuck": stuck, "other": passes})
    assert result.ok
    assert result["stuck"].result == "done"
    line = Caught.block.__code__.co_firstlineno + 2
    assert caught.places == [(BlockingWarning, __file__, line)]
    first, second = caught.messages[0].split("\n")
    assert first.startswith("node 'stuck' has blocked the event loop for 0.")
    assert first.endswith(f" s, in block() at {__file__}:{line}")
    assert second == (
        "  help: make its task a plain def, which runs in a worker thread, "
        "or await anyio.to_thread.run_sync(...) there"
    )
    assert caught.threads == ["dagron blocking detector"]


def test_the_event_tells_the_same(execute: Way, caught: Caught) -> None:
    """A `LoopBlocked` event has node, file, line, function and seconds; it comes before the node's
    end, also when the task ends without another await, and JSON can carry it.
    """
    events: list[Event] = []

    async def stuck() -> None:
        caught.block()

    executor = DynamicExecutor(graph(stuck=None), detect_blocking=SOON, observers=[events.append])
    assert execute(executor, {"stuck": stuck}).ok
    kinds = [event.kind for event in events]
    assert kinds == [
        "run_started",
        "node_ready",
        "node_started",
        "loop_blocked",
        "node_completed",
        "run_finished",
    ]
    event = events[3]
    assert isinstance(event, LoopBlocked)
    assert (event.node, event.file, event.function) == ("stuck", __file__, "block")
    assert event.line == Caught.block.__code__.co_firstlineno + 2
    assert SOON <= event.seconds < GUARD
    assert json.loads(json.dumps(event.as_dict()))["kind"] == "loop_blocked"
    assert [event.seq for event in events] == list(range(1, 7))


@pytest.mark.parametrize("ending", ["fails", "is cancelled", "is followed by another"])
async def test_the_event_is_told_however_the_node_ends(caught: Caught, ending: str) -> None:
    """A node that blocked and then fails, is cancelled, or is the dependency of others."""
    events: list[Event] = []

    async def stuck() -> None:
        caught.block()
        if ending == "fails":
            raise ValueError
        if ending == "is cancelled":
            run.cancel()
            await anyio.sleep_forever()

    executor = DynamicExecutor(
        graph("stuck>after"), detect_blocking=SOON, observers=[events.append]
    )
    async with executor.start({"stuck": stuck, "after": checkpoint}) as run:
        pass
    assert [event.kind for event in events].count("loop_blocked") == 1


def test_a_node_is_named_once(execute: Way, caught: Caught, looks: Looks) -> None:
    """However long it goes on, and however often it blocks: once per node; another node is named
    for itself.
    """
    events: list[Event] = []

    async def stuck() -> None:
        for _ in range(3):
            looks.enough.clear()
            assert looks.enough.wait(GUARD)
            await checkpoint()

    executor = DynamicExecutor(
        graph("a>b"), detect_blocking=SOON, observers=[events.append], max_concurrency=1
    )
    assert execute(executor, {"a": stuck, "b": stuck}).ok
    assert [message.split()[1] for message in caught.messages] == ["'a'", "'b'"]
    assert [event.node for event in events if isinstance(event, LoopBlocked)] == ["a", "b"]


def test_it_is_named_in_every_run(execute: Way, caught: Caught) -> None:
    """What one run told does not keep the next from telling it again."""

    async def stuck() -> None:
        caught.block()

    executor = DynamicExecutor(graph(stuck=None), detect_blocking=SOON)
    for count in (1, 2):
        caught.first.clear()
        execute(executor, {"stuck": stuck})
        assert len(caught.messages) == count


async def test_the_users_own_frame_is_named(caught: Caught, tmp_path: Path) -> None:
    """The line is the innermost one of the user's own code, not the library's in which it waits,
    in whatever depth, and in whatever file.
    """
    module = tmp_path / "helpers.py"
    module.write_text("def deep(wait):\n    return [wait() for _ in range(1)]\n")
    names: dict[str, Any] = {}
    exec(compile(module.read_text(), str(module), "exec"), names)

    async def stuck() -> None:
        names["deep"](caught.first.wait)  # threading's own code waits

    executor = DynamicExecutor(graph(stuck=None), detect_blocking=SOON)
    assert (await executor.execute({"stuck": stuck})).ok
    assert caught.places == [(BlockingWarning, str(module), 2)]


def expander(stuck: Callable[[], None]) -> tuple[DynamicExecutor, dict[str, Any]]:
    async def expand(name: str, result: object) -> None:
        stuck()

    executor = DynamicExecutor(graph(stuck=None), {"stuck": expand}, detect_blocking=SOON)
    return executor, {"stuck": checkpoint}


def added(stuck: Callable[[], None]) -> tuple[DynamicExecutor, dict[str, Any]]:
    async def task() -> None:
        stuck()

    spec = DynamicNodeSpec("stuck", task)
    executor = DynamicExecutor(graph(grow=None), {"grow": adding(spec)}, detect_blocking=SOON)
    return executor, {"grow": checkpoint}


def returned(stuck: Callable[[], None]) -> tuple[DynamicExecutor, dict[str, Any]]:
    async def task() -> None:
        stuck()

    return DynamicExecutor(graph(stuck=None), detect_blocking=SOON), {"stuck": lambda: task()}


def with_a_policy(stuck: Callable[[], None]) -> tuple[DynamicExecutor, dict[str, Any]]:
    async def task() -> None:
        stuck()

    policy = dagron.NodePolicy(timeout=GUARD, retry=dagron.Retry(2))
    dag = DAG.builder().add_node("stuck", policy=policy).build()
    return DynamicExecutor(dag, detect_blocking=SOON), {"stuck": task}


@pytest.mark.parametrize("make", [expander, added, returned, with_a_policy])
async def test_all_code_of_a_node_that_runs_in_the_loop(
    caught: Caught,
    make: Callable[[Callable[[], None]], tuple[DynamicExecutor, dict[str, Any]]],
) -> None:
    """An async expander, a node added at run time, what a sync task returned, and an attempt."""
    executor, tasks = make(caught.block)
    assert (await executor.execute(tasks)).ok
    assert [message.split()[1] for message in caught.messages] == ["'stuck'"]


async def test_a_node_of_a_nested_run_is_named_by_that_run(caught: Caught) -> None:
    """Of two runs in one loop, that of the node that blocks names it."""

    async def stuck() -> None:
        caught.block()

    async def outer() -> None:
        await DynamicExecutor(graph(inner=None), detect_blocking=SOON).execute({"inner": stuck})

    executor = DynamicExecutor(graph(outer=None), detect_blocking=SOON)
    assert (await executor.execute({"outer": outer})).ok
    assert [message.split()[1] for message in caught.messages] == ["'inner'"]


# --- what is not ---------------------------------------------------------------------------------


async def test_a_sync_node_is_not_reported(caught: Caught) -> None:
    """A sync node may block its thread as long as it likes, as here for longer than an async node
    that is found out meanwhile.
    """
    entered = threading.Event()

    def sync() -> None:
        entered.set()
        caught.block()

    async def stuck() -> None:
        while not entered.is_set():
            await checkpoint()
        caught.block()

    executor = DynamicExecutor(graph(sync=None, stuck=None), detect_blocking=SOON)
    assert (await executor.execute({"sync": sync, "stuck": stuck})).ok
    assert [message.split()[1] for message in caught.messages] == ["'stuck'"]


async def test_a_program_that_blocks_beside_the_run_is_no_node(
    caught: Caught, looks: Looks
) -> None:
    """Code of the host that blocks the loop while nodes wait is not blamed on any of them."""
    events: list[Event] = []
    executor = DynamicExecutor(graph(waits=None), detect_blocking=SOON, observers=[events.append])
    async with executor.start({"waits": anyio.sleep_forever}) as run:
        await passes()
        looks.seen.clear()
        assert looks.enough.wait(GUARD)  # the loop stands still, and the detector looks and looks
        run.cancel()
    assert set(looks.seen) == {None}
    assert caught.messages == []
    assert [event for event in events if isinstance(event, LoopBlocked)] == []


async def test_a_callback_of_the_loop_is_no_node(caught: Caught, looks: Looks) -> None:
    """A task that a node has started in the program's own task group is not the node."""

    async def stuck() -> None:
        looks.seen.clear()
        assert looks.enough.wait(GUARD)
        ended.set()

    async def node() -> None:
        group.start_soon(stuck)
        await ended.wait()

    ended = anyio.Event()
    async with anyio.create_task_group() as group:
        executor = DynamicExecutor(graph(node=None), detect_blocking=SOON)
        assert (await executor.execute({"node": node})).ok
    assert caught.messages == []


@pytest.mark.parametrize("category", ["ignored", "not asked for"])
async def test_nothing_is_warned_of(caught: Caught, looks: Looks, category: str) -> None:
    """A warning filter is obeyed, and the event is made all the same; without `detect_blocking`
    there is no detector at all.
    """
    events: list[Event] = []

    async def stuck() -> None:
        if category == "ignored":
            assert looks.enough.wait(GUARD)
        assert len(detectors()) == (category == "ignored")

    options: dict[str, Any] = {"detect_blocking": SOON} if category == "ignored" else {}
    warnings.simplefilter("ignore", BlockingWarning)
    executor = DynamicExecutor(graph(stuck=None), observers=[events.append], **options)
    assert (await executor.execute({"stuck": stuck})).ok
    assert caught.messages == []
    told = [event for event in events if isinstance(event, LoopBlocked)]
    assert len(told) == (category == "ignored")


# --- warnings that go elsewhere ------------------------------------------------------------------


@contextmanager
def logged() -> Generator[tuple[list[logging.LogRecord], threading.Event]]:
    """Give the records of dagron's logger, and an event that is set with the first ERROR."""
    records: list[logging.LogRecord] = []
    first = threading.Event()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)
            if record.levelno >= logging.ERROR:
                first.set()

    handler = Handler()
    logger = logging.getLogger("dagron")
    logger.addHandler(handler)
    try:
        yield records, first
    finally:
        logger.removeHandler(handler)


@pytest.mark.parametrize("how", ["error", "raising"])
async def test_a_warning_that_cannot_be_shown_is_logged(
    monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """With warnings as errors, or a `showwarning` that raises, the detector logs an ERROR, breaks
    nothing and goes on: the next node is named, too.
    """
    problems: list[object] = []
    monkeypatch.setattr(threading, "excepthook", problems.append)

    def show(*arguments: object, **keywords: object) -> None:
        raise OSError("standard error is closed")

    async def stuck() -> None:
        assert first.wait(GUARD)
        first.clear()

    with warnings.catch_warnings(), logged() as (records, first):
        warnings.simplefilter("error" if how == "error" else "always")
        monkeypatch.setattr(warnings, "showwarning", show)
        executor = DynamicExecutor(graph("a>b"), detect_blocking=SOON)
        assert (await executor.execute({"a": stuck, "b": stuck})).ok
    assert problems == []
    errors = [record for record in records if record.levelno >= logging.ERROR]
    assert [record.node for record in errors] == ["a", "b"]  # type: ignore[attr-defined]
    for record in errors:
        assert record.run_id  # type: ignore[attr-defined]
        text = record.getMessage()
        assert "has blocked the event loop for" in text
        assert "in stuck() at" in text


# --- the detector's thread -----------------------------------------------------------------------


async def returns(executor: DynamicExecutor) -> None:
    await executor.execute({"a": checkpoint})


async def fails(executor: DynamicExecutor) -> None:
    async def fail() -> None:
        raise ValueError

    await executor.execute({"a": fail})


async def is_interrupted(executor: DynamicExecutor) -> None:
    async def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await executor.execute({"a": interrupt})


async def is_cancelled(executor: DynamicExecutor) -> None:
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(executor.execute, {"a": anyio.sleep_forever})
            await passes()
            assert detectors()
            scope.cancel()


async def was_cancelled_before(executor: DynamicExecutor) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await executor.execute({"a": checkpoint})


@pytest.mark.parametrize(
    "end", [returns, fails, is_interrupted, is_cancelled, was_cancelled_before]
)
async def test_the_detector_ends_with_the_run(
    end: Callable[[DynamicExecutor], Awaitable[None]],
) -> None:
    """Its thread is gone when `execute` has returned or raised, also where a long time is asked
    for; it is a daemon thread, and there is one while the run is on.
    """
    await end(DynamicExecutor(graph(a=None), detect_blocking=3600))
    assert detectors() == []


async def test_every_run_has_a_detector_of_its_own() -> None:
    """While two runs of an executor are on there are two, and none afterwards."""
    seen = []

    async def look() -> None:
        await passes()
        seen.append(len(detectors()))
        seen.append(all(t.daemon for t in threading.enumerate() if "detector" in t.name))
        await passes()

    executor = DynamicExecutor(graph(a=None), detect_blocking=3600)
    async with anyio.create_task_group() as group:
        group.start_soon(executor.execute, {"a": look})
        group.start_soon(executor.execute, {"a": look})
    assert seen == [2, True, 2, True]
    assert detectors() == []


async def test_nodes_come_and_go_while_the_detector_looks() -> None:
    """Thousands of nodes that start and end while the detector looks all the time: none is reported
    and the detector lives.
    """
    alive = []

    async def grow(name: str, result: object) -> DynamicModification | None:
        alive.append(len(detectors()))
        if int(name) >= 200:
            return None
        specs = [DynamicNodeSpec(f"{name}.{i}", checkpoint) for i in range(10)]
        return DynamicModification(
            [*specs, DynamicNodeSpec(str(int(name) + 1), checkpoint, expander=grow)]
        )

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BlockingWarning)  # a slow machine is not what this is about
        executor = DynamicExecutor(graph(**{"0": None}), {"0": grow}, detect_blocking=1e-4)
        result = await executor.execute({"0": checkpoint})
    assert result.succeeded == 1 + 200 * 11
    assert set(alive) == {1}


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0, ValueError, "detect_blocking is above 0 seconds, not 0\n  help: "),
        (-0.1, ValueError, "detect_blocking is above 0 seconds, not -0.1\n  help: "),
        (float("inf"), ValueError, "detect_blocking is above 0 seconds, not inf\n  help: "),
        (True, TypeError, "detect_blocking is a number of seconds, not bool: True\n  help: "),
        ("0.1", TypeError, "detect_blocking is a number of seconds, not str: '0.1'\n  help: "),
    ],
)
def test_detect_blocking_is_a_number_of_seconds(
    value: Any, error: type[Exception], text: str
) -> None:
    """E10: what is no number above 0 is refused, with the parameter and the value."""
    with pytest.raises(error) as caught:
        DynamicExecutor(graph(a=None), detect_blocking=value)
    assert str(caught.value).startswith(text)


# --- sightings: what looks at the loop add up to -------------------------------------------------


def test_a_node_that_is_seen_for_long_enough_in_one_turn() -> None:
    """It is told with the seconds since it was first seen, as soon as those are enough."""
    sightings = Sightings(0.1)
    assert sightings.look("a", 7, 10.0) is None
    assert sightings.look("a", 7, 10.09) is None
    assert sightings.look("a", 7, 10.25) == pytest.approx(0.25)


def test_a_node_is_told_once() -> None:
    """Neither in this turn, nor in a later one, a second time; another node is."""
    sightings = Sightings(0.1)
    looks = [("a", 1, 0.0), ("a", 1, 0.2), ("a", 1, 0.4), ("a", 2, 0.5), ("a", 2, 0.9)]
    assert [sightings.look(*look) for look in looks] == [None, 0.2, None, None, None]
    assert sightings.look("b", 2, 1.0) is None
    assert sightings.look("b", 2, 1.1) == pytest.approx(0.1)


def test_a_loop_that_turns_is_not_blocked() -> None:
    """A node that is seen in every look, in ever new turns of the loop, is only busy."""
    sightings = Sightings(0.1)
    assert [sightings.look("a", turn, turn / 20) for turn in range(100)] == [None] * 100


def test_nodes_that_take_turns() -> None:
    """What one node took is not put down to the next, nor added up over what came between."""
    sightings = Sightings(0.1)
    looks = [("a", 1, 0.0), ("b", 1, 0.09), ("b", 1, 0.12), ("a", 1, 0.15), ("a", 1, 0.2)]
    assert [sightings.look(*look) for look in looks] == [None] * 5
    assert sightings.look("a", 1, 0.25) == pytest.approx(0.1)


def test_what_is_no_node_starts_the_count_anew() -> None:
    """A look that finds no node on the stack ends the sighting of the one before."""
    sightings = Sightings(0.1)
    looks = [("a", 1, 0.0), (None, 1, 0.05), ("a", 1, 0.11), (None, 1, 0.3), (None, 1, 0.6)]
    assert [sightings.look(*look) for look in looks] == [None] * 5
