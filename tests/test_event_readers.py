"""Those who read a run's events: late, slow, many, after the end, or not at all."""

import gc
from collections.abc import Callable
from random import Random
from typing import Any

import anyio
import pytest

import dagron
import dagron._stream
from dagron import Event, EventReader, NodePolicy, Retry, Run
from faults import graph, passes, until
from handles import (
    COMPLETED,
    READY,
    RUNNING,
    SKIPPED,
    Modification,
    Node,
    fail,
    noop,
    running,
)
from replica import Replica, assert_one_ending_each, everything, is_done, kinds

# --- readers -------------------------------------------------------------------------------------


async def test_many_readers_each_at_its_own_pace() -> None:
    """Any number may read, from the block, other tasks and nodes; each gets the same events."""
    stories: list[list[Event]] = []

    async def read(run: Run, pace: int) -> None:
        story = []
        async for event in run.events():
            story.append(event)
            await passes(pace)
        stories.append(story)

    async def read_in_node() -> int:
        reader = run.events(after=1)
        return (await anext(reader)).seq

    async with anyio.create_task_group() as others:
        tasks = {"a": read_in_node, "b": noop, "c": lambda: None}
        async with running(graph(edges="a-b b-c"), tasks) as run:
            for pace in range(10):
                others.start_soon(read, run, pace)
            await read(run, 0)
    assert len(stories) == 11
    assert all(story == stories[0] for story in stories)
    assert (await run.wait())["a"].result == 2
    Replica().read_all(stories[0]).assert_ends_like(await run.wait())


async def test_two_tasks_may_share_a_reader() -> None:
    """Of two tasks that read from one reader each event goes to one."""
    shares: list[list[int]] = [[], []]
    dag = graph(edges="a-b b-c c-d")

    async def read(reader: EventReader, share: list[int]) -> None:
        async for event in reader:
            share.append(event.seq)
            await passes(1)

    async with anyio.create_task_group() as others:
        async with running(dag, dict.fromkeys("abcd", lambda: passes(3))) as run:
            reader = run.events()
            for share in shares:
                others.start_soon(read, reader, share)
    assert sorted(shares[0] + shares[1]) == [*range(1, len(shares[0] + shares[1]) + 1)]
    assert len(shares[0] + shares[1]) == 14


async def test_a_reader_that_is_cancelled_misses_nothing() -> None:
    """A reader whose wait is cancelled, at any event, goes on where it was."""
    story: list[Event] = []
    async with running(graph(edges="a-b b-c"), dict.fromkeys("abc", lambda: passes(4))) as run:
        reader = run.events()
        over = False
        while not over:
            with anyio.CancelScope() as scope:
                scope.cancel()
                async for event in reader:
                    story.append(event)
                over = True
            await passes(1)
    assert len(story) == 11
    Replica().read_all(story).assert_ends_like(await run.wait())


async def test_readers_after_the_end() -> None:
    """After the end a reader gets all events if all were kept, else how things stood at the end,
    and then it ends.
    """
    for heard in (True, False):
        async with running(
            graph(edges="a-b bad-c"), {**dict.fromkeys("abc", noop), "bad": fail}
        ) as run:
            if heard:
                early = run.events()
        result = await run.wait()
        for _ in range(2):
            events = await everything(run.events())
            replica = Replica().read_all(events)
            assert replica.statuses == {name: result[name].status for name in result}
            assert replica.edges == set(result.dag.edges())
        if heard:
            assert events == await everything(early)
            replica.assert_ends_like(result)
            last = events[-1].seq
            assert await everything(run.events(after=last)) == []
            assert kinds(await everything(run.events(after=last - 1))) == ["run_finished"]
        reader = run.events()
        await everything(reader)
        for _ in range(3):
            with pytest.raises(StopAsyncIteration):
                await anext(reader)


async def test_after_resumes_exactly() -> None:
    """`events(after=seq)` goes on after that event, for every event, in the run and after it."""
    resumed: list[tuple[int, EventReader, list[Event]]] = []
    dag = graph(edges="a-b b-c c-d")
    async with running(dag, dict.fromkeys("abcd", lambda: passes(2))) as run:
        full = run.events()
        seen: list[Event] = []
        async for event in full:
            seen.append(event)
            later = run.events(after=event.seq)
            resumed.append((event.seq, later, []))
            for number, reader, share in resumed[:-1]:
                assert (await anext(reader)).seq == number + len(share) + 1
                share.append(event)
    for number, reader, share in resumed:
        assert share + await everything(reader) == seen[number:]
        assert await everything(run.events(after=number)) == seen[number:]
    assert await everything(run.events(after=0)) == seen


@pytest.mark.parametrize("after", [-5, 10**9])
async def test_after_an_event_that_there_never_was(after: int) -> None:
    """Who comes with a number that this run has not reached is like one who has seen nothing."""
    gate = anyio.Event()
    for heard in (True, False):
        gate = anyio.Event()
        async with running(graph("a"), {"a": gate.wait}) as run:
            if heard:
                run.events()
            await until(lambda run=run: run.status("a") is RUNNING)
            reader = run.events(after=after)
            story = [await anext(reader)]
            gate.set()
        story += await everything(reader)
        Replica().read_all(story).assert_ends_like(await run.wait())


@pytest.mark.parametrize("after", ["3", 2.5, True, None.__class__])
async def test_after_is_a_number(after: Any) -> None:
    """What is no int is a TypeError that says what to write."""
    async with running(graph("a"), {"a": noop}) as run:
        with pytest.raises(TypeError, match=r"after is .*\n  help: "):
            run.events(after=after)


# --- readers that come late ----------------------------------------------------------------------


class Chance:
    """A random run: nodes that succeed and fail, conditions, triggers, groups, expanders; and a
    block that meddles with it.
    """

    def __init__(self, seed: int) -> None:
        self.dice = Random(seed)
        self.made = 0
        builder = dagron.DAG.builder()
        self.names = names = [f"n{i}" for i in range(9)]
        for name in names:
            builder.add_node(name, policy=self.policy())
        for i, target in enumerate(names):
            for source in names[:i]:
                if self.dice.random() < 0.25:
                    builder.add_edge(source, target, condition=self.condition())
        self.dag = builder.add_node("clock").build()
        self.tasks = {name: self.task() for name in names} | {"clock": lambda: passes(20)}
        self.expanders = dict.fromkeys(self.dice.sample(names, 4), self.expand)
        self.limit = self.dice.choice([None, 1, 3])

    def condition(self) -> Callable[[object], bool] | None:
        answer = self.dice.choice([None, None, None, True, False])
        return None if answer is None else lambda result: answer

    def policy(self) -> NodePolicy | None:
        return self.dice.choice(
            [
                None,
                NodePolicy(trigger=dagron.all_done),
                NodePolicy(trigger=dagron.any_succeeded, priority=2),
                NodePolicy(group="g"),
                NodePolicy(retry=Retry(2, initial_delay=0)),
            ]
        )

    def task(self) -> Callable[[], Any]:
        pace = self.dice.randint(0, 6)

        async def succeed() -> int:
            dagron.progress(pace)
            await passes(pace)
            return pace

        async def fail_later() -> None:
            await passes(pace)
            raise ValueError

        return self.dice.choice([succeed, succeed, succeed, lambda: pace, fail_later])

    def spec(self, dependencies: list[str], dependents: list[str]) -> Node:
        self.made += 1
        name = f"m{self.made}"
        expander = self.expand if self.made < 12 and self.dice.random() < 0.3 else None
        return Node(
            name, self.task(), dependencies, dependents, expander=expander, policy=self.policy()
        )

    async def expand(self, name: str, result: object) -> Modification | None:
        await passes(self.dice.randint(0, 3))
        return self.modification(name)

    def modification(self, by: str | None = None) -> Modification:
        """A modification that is sound as often as not."""
        known = self.names
        waiting = [name for name in known if self.dice.random() < 0.1]
        return Modification(
            [self.spec([by] if by else [], waiting) for _ in range(self.dice.randint(0, 2))],
            remove_nodes=self.dice.sample(known, self.dice.choice([0, 0, 0, 1])),
            cancel_nodes=self.dice.sample(known[:3], self.dice.choice([0, 0, 0, 1])),
        )

    async def meddle(self, run: Run) -> None:
        roll = self.dice.random()
        if roll < 0.2:
            try:
                await run.modify(self.modification())
            except (dagron.ModificationError, dagron.RunFinishedError):
                return
        elif roll < 0.25:
            run.cancel_node(self.dice.choice(self.names))
        elif roll < 0.26:
            run.cancel("by chance")


@pytest.mark.parametrize("seed", range(12))
async def test_a_late_reader_gets_a_snapshot_and_then_everything(seed: int) -> None:
    """A late reader gets a snapshot and then every event after it: no hole, no duplicate. Readers
    that are opened at every step of a run, whether or not somebody listened from the start, end
    with the statuses and edges of the result.
    """
    for heard in (True, False):
        chance = Chance(seed)
        readers: list[tuple[EventReader, Replica]] = []
        unread: list[EventReader] = []
        async with running(
            chance.dag,
            chance.tasks,
            chance.expanders,
            limits={"g": 2},
            max_concurrency=chance.limit,
        ) as run:
            if heard:
                readers.append((run.events(), Replica()))
            await until(lambda run=run: run.status("n0") is not READY)
            while not is_done(run):
                reader, replica = run.events(), Replica()
                replica.read(await anext(reader))
                readers.append((reader, replica))
                unread.append(run.events())
                await chance.meddle(run)
                await passes(1)
        result = await run.wait()
        assert readers
        for reader, replica in readers:
            replica.read_all(await everything(reader)).assert_ends_like(result)
        for reader in unread:
            events = await everything(reader)
            assert Replica().read_all(events).statuses == {n: result[n].status for n in result}
        if heard:
            assert_one_ending_each(readers[0][1].events, result)
            assert all(isinstance(replica.events[0], dagron.RunStarted) for _, replica in readers)
        else:
            assert isinstance(readers[-1][1].events[0], dagron.RunSnapshot)


async def test_a_snapshot_says_how_things_stand() -> None:
    """A RunSnapshot has the nodes with their statuses, the edges, the version of the graph, and the
    number after which the next event comes; also when modifications had landed unheard.
    """
    gate = anyio.Event()
    async with running(
        graph(edges="a-b c-d"), {"a": noop, "b": gate.wait, "c": fail, "d": noop}
    ) as run:
        await until(lambda: run.status("b") is RUNNING and run.status("d") is SKIPPED)
        await run.modify(Modification([Node("x", noop, ["b"])]))
        await run.modify(Modification(cancel_nodes=["x"]))
        reader = run.events()
        snapshot = await anext(reader)
        gate.set()
    assert isinstance(snapshot, dagron.RunSnapshot)
    assert (snapshot.version, snapshot.run_id) == (2, run.id)
    assert dict(snapshot.nodes) == {
        "a": "COMPLETED",
        "b": "RUNNING",
        "c": "FAILED",
        "d": "SKIPPED",
        "x": "CANCELLED",
    }
    assert set(snapshot.edges) == {("a", "b"), ("c", "d"), ("b", "x")}
    rest = await everything(reader)
    assert kinds(rest) == ["node_completed b", "run_finished"]
    assert [event.seq for event in rest] == [snapshot.seq + 1, snapshot.seq + 2]
    assert {event.version for event in rest} == {2}


# --- readers that lag ----------------------------------------------------------------------------


def short_memory(monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    """Let runs keep only so many events."""
    monkeypatch.setattr(dagron._stream, "HISTORY", kept)


def chain(length: int) -> dagron.DAG:
    return graph("n0", edges=" ".join(f"n{i}-n{i + 1}" for i in range(length - 1)))


def covered(events: list[Event]) -> list[int]:
    """The numbers of the events that a reader got or was told of, in order."""
    numbers: list[int] = []
    for event in events:
        if isinstance(event, dagron.EventsMissed):
            assert event.first <= event.last == event.seq
            numbers += range(event.first, event.last + 1)
        elif not isinstance(event, dagron.RunSnapshot):
            numbers.append(event.seq)
    return numbers


@pytest.mark.parametrize("taken", [1, 5, 30])
async def test_a_slow_reader_is_told_what_it_missed(
    monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    """A reader that falls behind the kept history is told exactly which events are gone, and goes
    on with those that are kept; the run ends without it.
    """
    short_memory(monkeypatch, 20)
    dag = chain(200)
    async with running(dag, dict.fromkeys(dag.nodes(), noop)) as run:
        reader = run.events()
        events = [await anext(reader) for _ in range(taken)]
    assert (await run.wait()).succeeded == 200
    total = 1 + 3 * 200 + 1
    events += await everything(reader)
    assert covered(events) == [*range(1, total + 1)]
    missed = [event for event in events if isinstance(event, dagron.EventsMissed)]
    assert len(missed) == 1
    assert missed[0].last == total - 20
    assert kinds(events)[-2:] == ["node_completed n199", "run_finished"]


async def test_a_reader_that_never_reads_is_told_what_it_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A reader that was there from the start and never read is later told how many events it
    missed, and gets the rest.
    """
    short_memory(monkeypatch, 20)
    dag = chain(50)
    async with running(dag, dict.fromkeys(dag.nodes(), noop)) as run:
        reader = run.events()
    events = await everything(reader)
    assert isinstance(events[0], dagron.EventsMissed)
    assert (events[0].first, events[0].last) == (1, 152 - 20)
    assert covered(events) == [*range(1, 153)]


async def test_who_comes_back_too_late_gets_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    """`events(after=seq)` of an event whose successors are gone tells which ones are missed, and
    then how things stand, and goes on from there; while they are kept, it goes on exactly.
    """
    short_memory(monkeypatch, 20)
    gate = anyio.Event()
    dag = chain(51)
    async with running(dag, dict.fromkeys(dag.nodes(), noop) | {"n50": gate.wait}) as run:
        run.events()
        await until(lambda: run.status("n50") is RUNNING)
        seq = 1 + 3 * 50 + 2
        for after in range(1, seq - 20):
            reader = run.events(after=after)
            missed, snapshot = await anext(reader), await anext(reader)
            assert isinstance(missed, dagron.EventsMissed)
            assert (missed.first, missed.last) == (after + 1, seq)
            assert isinstance(snapshot, dagron.RunSnapshot)
            assert dict(snapshot.nodes)["n50"] == "RUNNING"
            assert snapshot.seq == seq
        resumed = [run.events(after=after) for after in range(seq - 20, seq + 1)]
        for after, other in zip(range(seq - 20, seq), resumed, strict=False):
            assert (await anext(other)).seq == after + 1
        gate.set()
    assert kinds(await everything(reader)) == ["node_completed n50", "run_finished"]
    assert kinds(await everything(resumed[-1])) == ["node_completed n50", "run_finished"]


async def test_a_reader_that_never_reads_costs_bounded_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With readers that never read, or read one event and stop, no more events are alive than are
    kept, however many there are.
    """
    short_memory(monkeypatch, 50)
    monkeypatch.setattr(dagron._stream, "GULP", 10)
    alive: list[int] = []
    dag = chain(400)

    def count() -> None:
        alive.append(sum(isinstance(thing, Event) for thing in gc.get_objects()))

    async def last() -> None:
        count()

    gc.collect()
    before = sum(isinstance(thing, Event) for thing in gc.get_objects())
    async with running(dag, dict.fromkeys(dag.nodes(), noop) | {"n399": last}) as run:
        readers = [run.events() for _ in range(20)]
        for reader in readers[:10]:
            assert (await anext(reader)).seq == 1
    count()
    assert max(alive) - before <= 50 + 10 * 10 + 10
    assert len(readers) == 20


async def test_readers_never_hold_the_run_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run with readers that do not read takes as many passes of the event loop as one without."""

    async def count(readers: int) -> int:
        dag = chain(60)
        async with running(dag, dict.fromkeys(dag.nodes(), noop)) as run:
            kept = [run.events() for _ in range(readers)]
            turns = 0
            while run.status("n59") is not COMPLETED:
                await passes(1)
                turns += 1
            assert len(kept) == readers
        return turns

    assert abs(await count(100) - await count(0)) <= 5
