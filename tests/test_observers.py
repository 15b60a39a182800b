"""`observers=`: plain functions that hear every event of every run, and change nothing by it."""

import asyncio
import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import anyio.from_thread
import pytest

import dagron
from dagron import DynamicExecutor, Event, EventReader, NodePolicy, Retry, Run
from faults import GUARD, graph, passes, run, until
from handles import CANCELLED, COMPLETED, FAILED, RUNNING, Modification, Node, noop
from replica import Replica, assert_one_ending_each, everything, is_done
from ways import Way

Observer = Callable[[Event], object]


class Lively:
    """A run of which there is something to tell: growth, failure, retries, progress, threads."""

    def __init__(self) -> None:
        self.alive = 0
        retry = NodePolicy(retry=Retry(2, initial_delay=0))
        builder = graph("t", edges="a-b a-spare bad-lost b-last").to_builder()
        self.dag = builder.add_node("flaky", policy=retry).build()
        self.attempts = 0

    async def _work(self) -> str:
        self.alive += 1
        try:
            dagron.progress(1, 2)
            await passes(3)
            return "done"
        finally:
            self.alive -= 1

    async def _fail(self) -> None:
        await self._work()
        raise ValueError("wrong")

    async def _flaky(self) -> None:
        self.attempts += 1
        if self.attempts == 1:
            raise ConnectionError

    def _on_thread(self) -> None:
        dagron.progress(1, note="from a thread")

    async def _expand(self, name: str, result: object) -> Modification:
        return Modification([Node("x", self._work, [name], ["b"])], remove_nodes=["spare"])

    @property
    def tasks(self) -> dict[str, Any]:
        special = {"bad": self._fail, "flaky": self._flaky, "t": self._on_thread}
        return dict.fromkeys(self.dag.nodes(), self._work) | special

    def executor(self, *observers: Observer) -> DynamicExecutor:
        return DynamicExecutor(self.dag, {"a": self._expand}, observers=observers)

    async def execute(self, *observers: Observer) -> dagron.ExecutionResult:
        with anyio.fail_after(GUARD):
            return await self.executor(*observers).execute(self.tasks)


EVENTS = 34  # of a lively run


def outcome(result: dagron.ExecutionResult) -> dict[str, str]:
    return {name: str(result[name].status) for name in result}


OUTCOME = {
    "t": "COMPLETED",
    "a": "COMPLETED",
    "x": "COMPLETED",
    "bad": "FAILED",
    "flaky": "COMPLETED",
    "b": "COMPLETED",
    "lost": "SKIPPED",
    "last": "COMPLETED",
}


# --- what they hear ------------------------------------------------------------------------------


def test_an_observer_hears_every_event_in_order(execute: Way) -> None:
    """Every event, from RunStarted to RunFinished, in order, without a gap, in the thread of the
    event loop; from `execute` and from `execute_sync`.
    """
    lively = Lively()
    seen: list[Event] = []
    threads: set[int] = set()
    homes: list[int] = []

    async def where() -> None:
        homes.append(threading.get_ident())

    def observe(event: Event) -> None:
        seen.append(event)
        threads.add(threading.get_ident())

    result = execute(lively.executor(observe), lively.tasks | {"last": where})
    assert outcome(result) == OUTCOME
    assert threads == set(homes)
    Replica().read_all(seen).assert_ends_like(result)
    assert_one_ending_each(seen, result)
    assert (type(seen[0]), type(seen[-1])) == (dagron.RunStarted, dagron.RunFinished)
    assert result.dropped_observers == 0


async def test_observers_hear_each_event_in_turn_and_what_readers_read() -> None:
    """Every observer hears an event before any hears the next, in the order of the list; readers
    get the same events.
    """
    heard: list[tuple[str, Event]] = []
    lively = Lively()
    first, second = (partial(lambda who, event: heard.append((who, event)), who) for who in "12")
    with anyio.fail_after(GUARD):
        async with lively.executor(first, second).start(lively.tasks) as run:
            reader = run.events()
    events = await everything(reader)
    assert heard == [(who, event) for event in events for who in "12"]
    assert len(events) == EVENTS


async def test_an_observer_may_be_any_plain_callable() -> None:
    """Functions, bound methods, builtins, partials and objects with `__call__` observe, from a
    list, a tuple, a set or a generator.
    """
    heard: list[Event] = []

    class Object:
        def __call__(self, event: Event) -> None:
            heard.append(event)

    class Answering:
        def hear(self, event: Event) -> bool:
            heard.append(event)
            return True

    each: list[Observer] = [heard.append, Object(), Answering().hear, partial(max, 0, key=id)]
    for observers in (each, tuple(each), set(each), (observer for observer in each)):
        heard.clear()
        result = await run(graph("a"), {"a": noop}, observers=observers)
        assert len(heard) == 3 * 5
        assert result.dropped_observers == 0


@pytest.mark.parametrize("observers", [None, 3, print, "print", b"print"])
def test_observers_is_a_list(observers: Any) -> None:
    """What is no list of functions is a TypeError that says what to write."""
    with pytest.raises(TypeError, match=r"observers is a list of functions, not \w+\n  help: "):
        DynamicExecutor(graph("a"), observers=observers)


class AsyncObject:
    async def __call__(self, event: Event) -> None: ...


async def async_observer(event: Event) -> None: ...


def generating_observer(event: Event) -> Any:
    yield event


async def async_generating_observer(event: Event) -> Any:
    yield event


@pytest.mark.parametrize(
    "observer",
    [
        None,
        "print",
        3,
        async_observer,
        partial(async_observer),
        AsyncObject(),
        AsyncObject().__call__,
        generating_observer,
        async_generating_observer,
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_an_observer_is_a_plain_function(observer: Any) -> None:
    """What cannot be called, or whose call would run nothing, as of an `async def` and of a
    generator, is refused at once, and the text says where async code belongs.
    """
    with pytest.raises(TypeError, match=r"observers holds .*\n  help: .*run\.events\(\)"):
        DynamicExecutor(graph("a"), observers=[print, observer])


@pytest.mark.parametrize(
    "function", [async_observer, generating_observer, async_generating_observer]
)
async def test_an_observer_whose_code_does_not_run_is_dropped(
    function: Callable[[Event], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A plain function whose answer is a coroutine, or a generator, did nothing: it is dropped and
    logged, and no coroutine stays un-awaited.
    """
    calls: list[Event] = []

    def observer(event: Event) -> object:
        calls.append(event)
        return function(event)

    result = await run(graph("a"), {"a": noop}, observers=[observer])
    assert (len(calls), result.dropped_observers, result.ok) == (1, 1, True)
    assert len(caplog.records) == 1
    assert "plain functions" in caplog.text


async def test_one_executor_and_many_runs() -> None:
    """E15: An executor's observers hear all its runs at once; `run_id` tells whose event it is, and
    the events of each run are complete and in order.
    """
    stories: dict[str, list[Event]] = {}
    results: dict[str, dagron.ExecutionResult] = {}

    def observe(event: Event) -> None:
        stories.setdefault(event.run_id, []).append(event)

    lively = Lively()
    executor = lively.executor(observe)

    async def one() -> None:
        async with executor.start(lively.tasks) as run:
            await run.wait()
        results[run.id] = await run.wait()

    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(one)
    assert stories.keys() == results.keys()
    assert len(results) == 20
    for run_id, result in results.items():
        Replica().read_all(stories[run_id]).assert_ends_like(result)


# --- those that raise ----------------------------------------------------------------------------


class OwnBaseException(BaseException):
    """Outside the tree of Exception."""


class WithoutText(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise ValueError("no text")


RAISED: dict[str, Callable[[], BaseException]] = {
    "ValueError": lambda: ValueError("wrong"),
    "CancelledError": asyncio.CancelledError,
    "SystemExit": lambda: SystemExit(3),
    "GeneratorExit": GeneratorExit,
    "StopIteration": StopIteration,
    "StopAsyncIteration": StopAsyncIteration,
    "BaseException": OwnBaseException,
    "ExceptionGroup": lambda: ExceptionGroup("two", [ValueError("a"), KeyError("b")]),
    "RecursionError": RecursionError,
    "no text": WithoutText,
}


@pytest.mark.parametrize("kind", RAISED)
async def test_an_observer_that_raises_is_dropped(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An observer that raises, whatever it raises, is logged once, dropped and counted; others go
    on to hear everything, and node states do not change.
    """
    calls: list[Event] = []
    seen: list[Event] = []

    def observer(event: Event) -> None:
        calls.append(event)
        if event.seq == 4:
            raise RAISED[kind]()

    with caplog.at_level(logging.ERROR, "dagron"):
        result = await Lively().execute(seen.append, observer, seen.append)
    assert outcome(result) == OUTCOME
    assert (result.dropped_observers, len(calls)) == (1, 4)
    assert [event.seq for event in seen] == sorted([*range(1, EVENTS + 1)] * 2)
    Replica().read_all(seen[::2]).assert_ends_like(result)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("dagron", "ERROR")
    assert record.run_id == seen[0].run_id
    assert "observer" in record.getMessage()
    assert type(RAISED[kind]()).__name__ in record.getMessage()
    assert record.exc_info


@pytest.mark.parametrize("others", [False, True])
async def test_an_observer_may_raise_at_any_event(others: bool) -> None:
    """At whichever event an observer raises, the first and the last included, it is counted in
    `result.dropped_observers`, and the run is the same.
    """
    logging.getLogger("dagron").addFilter(silence)
    try:
        for k in range(1, EVENTS + 1):

            def observer(event: Event, k: int = k) -> None:
                if event.seq == k:
                    raise ValueError

            seen: list[Event] = []
            result = await Lively().execute(observer, *([seen.append] if others else []))
            assert outcome(result) == OUTCOME
            assert result.dropped_observers == 1, f"raised at event {k}"
            if others:
                Replica().read_all(seen).assert_ends_like(result)
    finally:
        logging.getLogger("dagron").removeFilter(silence)


def silence(record: logging.LogRecord) -> bool:
    """Keep a test's many expected records out of its report."""
    return False


async def test_all_observers_may_raise(caplog: pytest.LogCaptureFixture) -> None:
    """Each of several that raise is counted and logged, one that is given twice too; and another
    run of the executor tries them again.
    """

    def observer(event: Event) -> None:
        raise ValueError(f"first of {event.run_id}")

    def other(event: Event) -> None:
        raise KeyError

    lively = Lively()
    executor = lively.executor(observer, other, observer)
    for _ in range(2):
        caplog.clear()
        lively.attempts = 0
        result = await executor.execute(lively.tasks)
        assert outcome(result) == OUTCOME
        assert result.dropped_observers == len(caplog.records) == 3


async def test_an_observer_that_one_run_drops_goes_on_in_another() -> None:
    """Dropping is an affair of one run: others of the same executor at the same time go on."""
    stories: dict[str, list[Event]] = {}
    results: list[dagron.ExecutionResult] = []

    def observe(event: Event) -> None:
        story = stories.setdefault(event.run_id, [])
        story.append(event)
        if event.run_id == next(iter(stories)) and event.seq == 5:
            raise ValueError

    lively = Lively()
    executor = lively.executor(observe)

    async def one() -> None:
        results.append(await executor.execute(lively.tasks))

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(one)
    lengths = [len(story) for story in stories.values()]
    assert lengths[0] == 5
    for story in list(stories.values())[1:]:
        assert Replica().read_all(story).finished is not None
    assert sorted(result.dropped_observers for result in results) == [0, 0, 1]


async def test_a_reader_who_comes_after_the_observers_were_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """When all observers were dropped, a reader gets a snapshot and everything after it, also one
    who says that it has seen what the observer saw.
    """
    gate = anyio.Event()

    def observer(event: Event) -> None:
        if event.seq == 3:
            raise ValueError

    executor = DynamicExecutor(graph("held", edges="a-b b-c"), observers=[observer])
    tasks = {**dict.fromkeys("abc", noop), "held": gate.wait}
    for after in (None, 3, 2):
        gate = anyio.Event()
        tasks["held"] = gate.wait
        with anyio.fail_after(GUARD):
            async with executor.start(tasks) as run:
                await until(lambda run=run: run.status("c") is COMPLETED)
                await run.modify(Modification([Node("x", noop, ["held"])]))
                reader = run.events(after=after)
                first = [await anext(reader)]
                gate.set()
        events = [
            event
            for event in first + await everything(reader)
            if not isinstance(event, dagron.EventsMissed)
        ]
        assert isinstance(events[0], dagron.RunSnapshot)
        assert events[0].version == 1
        Replica().read_all(events).assert_ends_like(await run.wait())
    assert len(caplog.records) == 3


# --- KeyboardInterrupt ---------------------------------------------------------------------------


class Interrupting:
    """An observer that raises KeyboardInterrupt at the k-th event."""

    def __init__(self, k: int = 0, kind: type[Event] | None = None) -> None:
        self._k = k
        self._kind = kind

    def __call__(self, event: Event) -> None:
        if event.seq == self._k or type(event) is self._kind:
            raise KeyboardInterrupt


async def test_an_observers_keyboard_interrupt_cancels_the_run_at_any_event() -> None:
    """KeyboardInterrupt in an observer, at whichever event, cancels the run: it comes out bare when
    every node has ended, and others miss nothing of what is told.
    """
    logging.getLogger("dagron").addFilter(silence)
    try:
        for k in range(1, EVENTS + 1):
            for position in (0, 1):
                seen: list[Event] = []
                lively = Lively()
                observers: list[Observer] = [seen.append]
                observers.insert(position, Interrupting(k))
                with pytest.raises(KeyboardInterrupt):
                    await lively.execute(*observers)
                assert lively.alive == 0
                assert Replica().read_all(seen).finished is not None
    finally:
        logging.getLogger("dagron").removeFilter(silence)


async def test_an_observers_keyboard_interrupt_leaves_the_block_at_any_event() -> None:
    """The same with a handle: the block is cancelled, and its readers miss nothing."""
    logging.getLogger("dagron").addFilter(silence)
    try:
        for k in range(1, EVENTS):
            lively = Lively()
            executor = lively.executor(Interrupting(k))
            with pytest.raises(KeyboardInterrupt):
                with anyio.fail_after(GUARD):
                    async with executor.start(lively.tasks) as run:
                        reader = run.events()
                        await run.wait()
            assert lively.alive == 0
            assert Replica().read_all(await everything(reader)).finished is not None
    finally:
        logging.getLogger("dagron").removeFilter(silence)


@pytest.mark.parametrize("k", [1, 7, EVENTS])
def test_an_observers_keyboard_interrupt_in_a_script(execute: Way, k: int) -> None:
    """`execute` and `execute_sync` raise it bare."""
    lively = Lively()
    with pytest.raises(KeyboardInterrupt):
        execute(lively.executor(Interrupting(k)), lively.tasks)
    assert lively.alive == 0


@pytest.mark.parametrize("cause", ["progress", "cancel", "cancel_node"])
async def test_an_observers_keyboard_interrupt_at_what_a_thread_causes(cause: str) -> None:
    """An event that a thread causes is told in the event loop, beside all tasks: an interrupt there
    ends the run, and the event loop lives.
    """
    ended: list[str] = []

    async def wait() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("wait")

    def act() -> None:
        if cause == "progress":
            dagron.progress(1)
        elif cause == "cancel":
            run.cancel()
        else:
            run.cancel_node("next")

    kind = dagron.NodeProgress if cause == "progress" else dagron.NodeCancelled
    executor = DynamicExecutor(graph("act", edges="wait-next"), observers=[Interrupting(kind=kind)])
    with anyio.fail_after(GUARD), pytest.raises(KeyboardInterrupt):
        async with executor.start({"wait": wait, "act": act, "next": noop}) as run:
            await anyio.sleep_forever()
    assert ended == ["wait"]
    assert (await executor.execute({"wait": noop, "act": noop, "next": noop})).ok


async def test_shared_limits_are_free_after_an_interrupt_at_the_very_end() -> None:
    """KeyboardInterrupt at RunFinished leaves no use of shared limits behind."""
    limits = dagron.Limits(db=1)
    dag = dagron.DAG.builder().add_node("a", policy=NodePolicy(group="db")).build()
    executor = DynamicExecutor(
        dag, limits=limits, observers=[Interrupting(kind=dagron.RunFinished)]
    )
    with pytest.raises(KeyboardInterrupt):
        await executor.execute({"a": noop})
    elsewhere = DynamicExecutor(dag, limits=limits)
    result = await anyio.to_thread.run_sync(elsewhere.execute_sync, {"a": noop})
    assert result.ok


# --- those that take part ------------------------------------------------------------------------


async def take_part(
    act: Callable[[Run, Event], None],
) -> tuple[dagron.ExecutionResult, list[Event]]:
    """Run with an observer that does something at every event, among others that only listen.

    The others and a reader must agree, and what they heard must rebuild the run.
    """
    before: list[Event] = []
    after: list[Event] = []
    lively = Lively()
    executor = lively.executor(before.append, lambda event: act(run, event), after.append)
    with anyio.fail_after(GUARD):
        async with executor.start(lively.tasks) as run:
            reader = run.events()
        result = await run.wait()
    assert before == after == await everything(reader)
    Replica().read_all(before).assert_ends_like(result)
    assert_one_ending_each(before, result)
    assert result.dropped_observers == 0
    assert lively.alive == 0
    return result, before


async def test_an_observer_may_cancel_the_run_at_any_event() -> None:
    """`run.cancel` in an observer, at whichever event, ends the run as a result and leaves the
    events in order: what it causes is told to everybody after what it was told.
    """
    for k in range(1, EVENTS + 1):

        def act(run: Run, event: Event, k: int = k) -> None:
            if event.seq == k:
                run.cancel(f"at {k}")

        result, events = await take_part(act)
        expected = f"the run was cancelled: at {k}"
        if k < EVENTS - 1:  # the last node's end, and the run's, leave nothing to cancel
            assert result.reason == expected
        assert result.reason in (expected, None)
        assert len(events) >= k


async def test_an_observer_may_cancel_nodes_at_any_event() -> None:
    """`run.cancel_node` in an observer, of any node at any event, leaves the events in order; what
    has ended or was removed is left alone, and the result stays without a reason.
    """
    for name in ("t", "a", "b", "spare", "bad", "lost", "flaky", "last"):
        for k in range(1, EVENTS + 1, 2):

            def act(run: Run, event: Event, name: str = name, k: int = k) -> None:
                if event.seq == k:
                    run.cancel_node(name)

            result, _ = await take_part(act)
            assert result.reason is None
            if k == 1:
                assert result[name].status is CANCELLED


async def test_an_observer_may_cancel_whatever_it_hears_of() -> None:
    """An observer that cancels each node of which it hears, at every event, nests nothing."""

    def act(run: Run, event: Event) -> None:
        if isinstance(event, dagron.NodeEvent) and event.kind != "node_removed":
            run.cancel_node(event.node)

    result, _ = await take_part(act)
    assert result.succeeded == 0


async def test_a_long_chain_of_cancellations_by_an_observer() -> None:
    """Hundreds of events that each cause the next need no recursion."""
    names = [f"n{i}" for i in range(3_000)]

    def observer(event: Event) -> None:
        seen.append(event)
        if isinstance(event, (dagron.NodeCancelled, dagron.RunStarted)) and left:
            run.cancel_node(left.pop())

    left, seen = list(names), list[Event]()
    executor = DynamicExecutor(graph(*names), observers=[observer], max_concurrency=1)
    with anyio.fail_after(GUARD):
        async with executor.start(dict.fromkeys(names, noop)) as run:
            pass
    result = await run.wait()
    assert (result.cancelled, result.dropped_observers) == (3_000, 0)
    Replica().read_all(seen).assert_ends_like(result)


async def test_an_observer_may_look_at_the_run() -> None:
    """Everything that only looks works in an observer, and is at least as far as the event."""
    final = {dagron.NodeCompleted: COMPLETED, dagron.NodeFailed: FAILED}

    def act(run: Run, event: Event) -> None:
        assert event.run_id == run.id
        assert run.version >= event.version
        assert run.dag.node_count() >= 7
        assert repr(run)
        if type(event) in final:
            assert isinstance(event, dagron.NodeEvent)
            assert run.status(event.node) is final[type(event)]
        for name in run.dag:
            assert str(run.explain(name))

    result, _ = await take_part(act)
    assert outcome(result) == OUTCOME


async def test_an_observer_may_open_readers_at_every_event() -> None:
    """A reader that an observer opens, at whichever event, gets a snapshot or the whole story, and
    then everything: no hole, no duplicate.
    """
    for heard in (True, False):
        readers: list[EventReader] = []
        lively = Lively()
        executor = lively.executor(lambda event: readers.append(run.events()))  # noqa: B023
        with anyio.fail_after(GUARD):
            async with executor.start(lively.tasks) as run:
                if heard:
                    run.events()
                reading: list[tuple[Replica, EventReader]] = []
                while not is_done(run):
                    for reader in readers[len(reading) :]:
                        replica = Replica()
                        replica.read(await anext(reader))
                        reading.append((replica, reader))
                    await passes(1)
        result = await run.wait()
        for reader in readers[len(reading) :]:
            assert Replica().read_all(await everything(reader)).statuses == {
                name: result[name].status for name in result
            }
        for replica, reader in reading:
            replica.read_all(await everything(reader)).assert_ends_like(result)
        assert len(readers) == EVENTS
        assert len(reading) > 5


async def test_an_observer_that_reports_progress_itself() -> None:
    """`dagron.progress` called in an observer is told after the event that it hears, and does not
    nest.
    """

    def act(run: Run, event: Event) -> None:
        if not isinstance(event, dagron.NodeProgress):
            dagron.progress(event.seq, note="heard")

    result, _ = await take_part(act)
    assert outcome(result) == OUTCOME


async def test_what_an_observer_causes_is_told_in_that_order() -> None:
    """Of several things that an observer causes at one event, each is told after the one before."""
    seen: list[Event] = []
    gate = anyio.Event()

    async def a() -> None:
        dagron.progress(0)
        await gate.wait()

    def observe(event: Event) -> None:
        seen.append(event)
        if isinstance(event, dagron.NodeProgress) and not event.done:
            run.cancel_node("b")
            dagron.progress(1, note="between")
            run.cancel_node("c")
            gate.set()

    executor = DynamicExecutor(graph(edges="a-b a-c"), observers=[observe])
    with anyio.fail_after(GUARD):
        async with executor.start({"a": a, "b": noop, "c": noop}) as run:
            pass
    told = [(event.kind, event.node) for event in seen if isinstance(event, dagron.NodeEvent)]
    assert told[2:] == [
        ("node_progress", "a"),
        ("node_cancelled", "b"),
        ("node_progress", "a"),
        ("node_cancelled", "c"),
        ("node_completed", "a"),
    ]
    Replica().read_all(seen).assert_ends_like(await run.wait())


async def test_an_observer_may_have_the_graph_modified() -> None:
    """An observer that has a task modify the run at every completion leaves the events in order."""
    added: list[str] = []

    async with anyio.create_task_group() as others:

        async def add(run: Run, name: str) -> None:
            try:
                await run.modify(Modification([Node(name, noop)]))
            except dagron.RunFinishedError:
                return
            added.append(name)

        def act(run: Run, event: Event) -> None:
            if isinstance(event, dagron.NodeCompleted) and "+" not in event.node:
                others.start_soon(add, run, f"{event.node}+")

        result, events = await take_part(act)
    assert len(added) >= 4
    assert set(added) <= set(result)
    landed = [event.by for event in events if isinstance(event, dagron.GraphModified)]
    assert landed.count(None) == len(added)


async def test_an_observer_is_called_in_the_loop_whoever_acts() -> None:
    """What a thread causes through the handle is told in the event loop's thread."""
    threads: dict[str, int] = {}

    def act_in_thread() -> None:
        run.cancel_node("b")
        run.cancel("enough")

    executor = DynamicExecutor(
        graph("a", edges="a-b"),
        observers=[lambda event: threads.setdefault(event.kind, threading.get_ident())],
    )
    with anyio.fail_after(GUARD):
        async with executor.start({"a": anyio.sleep_forever, "b": noop}) as run:
            await until(lambda: run.status("a") is RUNNING)
            await anyio.to_thread.run_sync(act_in_thread)
    assert "node_cancelled" in threads
    assert set(threads.values()) == {threading.get_ident()}
