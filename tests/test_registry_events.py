"""What clients read of a registered run: events, and Server-Sent Events, to a good end."""

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

import dagron
from clocks import VIRTUAL
from dagron import RegisteredRun, RunRegistry
from faults import GUARD, graph, passes, until
from handles import noop, start
from test_registry import one, registry


def parsed(text: bytes) -> list[dict[str, str]]:
    """The messages of an event stream, as the HTML standard has them read."""
    messages = []
    for block in text.decode().split("\n\n"):
        fields: dict[str, str] = {}
        for line in block.splitlines():
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        fields.pop("", None)
        if fields:
            messages.append(fields)
    return messages


async def read(run: RegisteredRun, **options: Any) -> list[dict[str, str]]:
    """All messages to the end of the stream."""
    with anyio.fail_after(GUARD):
        return parsed(b"".join([chunk async for chunk in run.sse(**options)]))


def seqs(messages: list[dict[str, str]]) -> list[int | None]:
    """The numbers of the events in the ids of messages; `end` has none."""
    return [
        int(message["id"].rpartition("-")[2]) if "id" in message else None for message in messages
    ]


async def id_after(run: RegisteredRun, seq: int) -> str:
    """The id of the event of this number, or of one that is yet to come."""
    async for chunk in run.sse():
        token, dash, _ = parsed(chunk)[0]["id"].rpartition("-")
        return f"{token}{dash}{seq}"
    raise AssertionError("a run has an event")


def kinds(messages: list[dict[str, str]]) -> list[str]:
    return [message["event"] for message in messages]


# --- events --------------------------------------------------------------------------------------


async def test_events_are_those_of_the_run() -> None:
    """Any number of clients read all events, each from where it likes; who comes later goes on
    after the event that it saw last.
    """
    async with registry() as runs:
        run = runs.start(one(noop))
        readers = [run.events() for _ in range(3)]
        for reader in readers:
            events = [event async for event in reader]
            assert [event.seq for event in events] == [1, 2, 3, 4, 5]
            assert events[-1].kind == "run_finished"
        assert [event.seq async for event in run.events(after=3)] == [4, 5]
        assert [event.seq async for event in run.events(after=5)] == []


async def test_readers_end_when_the_registry_closes() -> None:
    """When the registry begins to close, all readers get what has happened, and end; the run goes
    on, and `run.run.events()` gives all of it.
    """
    gate, begun, ends = anyio.Event(), [], []

    async def work() -> None:
        begun.append(1)
        await gate.wait()

    async def follow(reader: Any) -> None:
        ends.append([event.kind async for event in reader])

    async with registry() as runs, anyio.create_task_group() as clients:
        run = runs.start(one(work))
        whole, late = run.run.events(), run.events()
        for _ in range(3):
            clients.start_soon(follow, run.events())
        await until(lambda: begun)
        await passes(5)
        assert ends == []
        runs.close_soon()
        await until(lambda: len(ends) == 3)
        assert ends == [["run_started", "node_ready", "node_started"]] * 3
        assert run.state == "running"
        assert [event.seq async for event in late] == [1, 2, 3]
        assert [event.seq async for event in run.events()] == [1, 2, 3]
        gate.set()
        assert [event.kind async for event in whole][-1] == "run_finished"


async def test_a_reader_that_never_reads_holds_up_nothing() -> None:
    """A client that asks for events and reads none delays neither the run nor the end."""
    async with registry() as runs:
        run = runs.start(one(noop))
        events, stream = run.events(), run.sse()
        await run.wait()
    assert [event.seq async for event in events] == [1, 2, 3, 4, 5]
    assert kinds(parsed(b"".join([chunk async for chunk in stream])))[-1] == "end"


async def test_a_reader_that_leaves_changes_nothing() -> None:
    """A client that is cancelled in the middle leaves the others alone, and has lost nothing: it
    goes on with the same reader, or with a new one after its last event.
    """
    gate = anyio.Event()
    async with registry() as runs:
        run = runs.start(one(gate.wait))
        leaver, stayer = run.events(), run.events()
        seen = []
        with anyio.CancelScope() as scope:
            async for event in leaver:
                seen.append(event.seq)
                if len(seen) == 3:
                    scope.cancel()
        assert seen == [1, 2, 3]
        gate.set()
        assert [event.seq async for event in run.events(after=seen[-1])] == [4, 5]
        assert [event.seq async for event in leaver] == [4, 5]
        assert [event.seq async for event in stayer] == [1, 2, 3, 4, 5]
        assert not runs._audience._waits, "the registry remembers who has left"


# --- server-sent events --------------------------------------------------------------------------


async def test_the_text_of_server_sent_events() -> None:
    """Each message has seq, kind and fields of an event, on three lines; the last is `end`, without
    an id, with how the run came out.
    """
    async with registry() as runs:
        run = runs.start(one(noop))
        messages = await read(run)
        assert kinds(messages) == [
            "run_started",
            "node_ready",
            "node_started",
            "node_completed",
            "run_finished",
            "end",
        ]
        assert seqs(messages) == [1, 2, 3, 4, 5, None]
        assert json.loads(messages[3]["data"])["node"] == "a"
        assert json.loads(messages[3]["data"])["run_id"] == run.id
        assert json.loads(messages[5]["data"]) == run.as_dict()
        assert json.loads(messages[5]["data"])["state"] == "succeeded"


async def test_hostile_names_stay_in_their_line() -> None:
    """No name, and no error text, can end its line of the stream, or begin another message."""
    name = 'a"\u2028\u2029 data: x, <script>'

    async def wrong() -> None:
        raise ValueError("one\n\ndata: two\r\revent: end\r\n\nid: 99")

    async with registry() as runs:
        run = runs.start(start(graph(name), {name: wrong}))
        chunks = [chunk async for chunk in run.sse()]
    messages = parsed(b"".join(chunks))
    assert kinds(messages)[-2:] == ["run_finished", "end"]
    assert len(messages) == 6
    assert all(set(message) <= {"id", "event", "data"} for message in messages)
    failed = json.loads(messages[3]["data"])
    assert (failed["node"], failed["error"][:12]) == (name, "ValueError: ")
    assert b"\r" not in b"".join(chunks)


@pytest.mark.parametrize("header", ["{}", " {} "])
async def test_a_client_resumes_after_its_last_event(header: str) -> None:
    """`Last-Event-ID` goes on after that event."""
    async with registry() as runs:
        run = runs.start(one(noop))
        run.events()
        await run.wait()
        messages = await read(run, last_event_id=header.format(await id_after(run, 3)))
        assert seqs(messages) == [4, 5, None]


OTHERS = ["", "x", "3", "-3", "x{}-3", "{}", "{}-", "{}--3", "{}-1.0", "{}-²", "{}-٣", "{}-99"]


@pytest.mark.parametrize("header", [None, *OTHERS, "{}-0", "{}-" + "9" * 5_000], ids=repr)
async def test_a_last_event_id_that_is_none_of_ours(header: str | None) -> None:
    """What is no id of an event of this execution counts as none: everything that is kept."""
    async with registry() as runs:
        run = runs.start(one(noop))
        run.events()
        await run.wait()
        token = (await id_after(run, 0)).removesuffix("-0")
        messages = await read(run, last_event_id=header and header.format(token))
        assert seqs(messages) == [1, 2, 3, 4, 5, None]


async def test_who_comes_after_the_end_is_told_of_it() -> None:
    """The first reader of a run that has ended gets a snapshot and `end`; `end` comes with the last
    id, too; so no browser asks for ever.
    """
    async with registry() as runs:
        run = runs.start(one(noop))
        await run.wait()
        first = await read(run)
        assert kinds(first) == ["run_snapshot", "end"]
        assert json.loads(first[0]["data"])["nodes"] == [["a", "COMPLETED"]]
        assert kinds(await read(run, last_event_id=first[0]["id"]))[-1] == "end"
    assert kinds(await read(run))[-1] == "end"


async def test_resuming_again_and_again_misses_nothing() -> None:
    """A client that is cut off after every message and comes back with its last id has, in the end,
    every event once.
    """
    gate = anyio.Event()
    names = [f"n{number}" for number in range(20)]
    seen: list[int | None] = []
    async with registry() as runs:
        run = runs.start(
            start(graph(*names, "held"), dict.fromkeys(names, noop) | {"held": gate.wait})
        )
        last = None
        while None not in seen[-1:]:
            async for chunk in run.sse(last):
                message = parsed(chunk)[0]
                last = message.get("id", last)
                seen += seqs([message])
                break
            if seen[-1] == 40:
                gate.set()
    assert seen == [*range(1, len(seen)), None]


async def test_who_comes_back_to_a_run_in_another_process_misses_nothing(tmp_path: Path) -> None:
    """A run of a journal goes on under its id; a client that comes back with an id of its earlier
    execution, whose number the later one has reached, is told the later one from its beginning.
    """
    names = [f"n{number}" for number in range(5)]
    dag = graph(*names, "held", edges=" ".join(f"{name}-held" for name in names))
    with dagron.Journal(tmp_path / "runs.db") as journal:
        for life in (1, 2):
            gate = anyio.Event()
            executor = dagron.DynamicExecutor(dag, journal=journal)
            tasks = {**dict.fromkeys(names, noop), "held": gate.wait}
            async with registry(grace=0) as runs:
                run = runs.start(executor.start(tasks, run_id="job"))
                reader = run.events()
                if life == 1:
                    async for event in reader:
                        if (event.kind, getattr(event, "node", "")) == ("node_started", "held"):
                            break
                    last = await id_after(run, 2)
                else:
                    gate.set()
                    await run.wait()
                    messages = await read(run, last_event_id=last)
    assert seqs(messages) == [*range(1, len(messages)), None]
    assert (len(messages) > 3, kinds(messages)[0]) == (True, "run_started")


async def test_a_long_story_comes_in_few_chunks() -> None:
    """A backlog of thousands of events is sent in chunks of hundreds, in order."""
    names = [f"n{number}" for number in range(1_000)]
    async with registry() as runs:
        run = runs.start(start(graph(*names), dict.fromkeys(names, noop)))
        run.events()
        await run.wait()
        chunks = [chunk async for chunk in run.sse()]
    assert len(chunks) < 20
    assert seqs(parsed(b"".join(chunks))) == [*range(1, 3_003), None]


@VIRTUAL
async def test_a_silent_run_is_kept_alive_by_comments() -> None:
    """After so many seconds without an event comes a comment, again and again; with 0 none does."""

    async def work() -> None:
        await anyio.sleep(35)

    async with RunRegistry() as runs:
        run = runs.start(one(work))
        began = anyio.current_time()
        chunks = [(anyio.current_time() - began, chunk) async for chunk in run.sse(heartbeat=10)]
        comments = [second for second, chunk in chunks if chunk == b":\n\n"]
        assert comments == [10, 20, 30]
        assert kinds(parsed(b"".join(chunk for _, chunk in chunks)))[-1] == "end"
        run = runs.start(one(work))
        assert b":\n\n" not in [chunk async for chunk in run.sse(heartbeat=0)]


@pytest.mark.parametrize(("value", "kind"), [(-1, ValueError), ("x", TypeError), (None, TypeError)])
async def test_a_wrong_heartbeat(value: Any, kind: type[Exception]) -> None:
    """A heartbeat that is no number from 0 is refused at the call."""
    async with registry() as runs:
        run = runs.start(one(noop))
        with pytest.raises(kind, match="heartbeat is"):
            run.sse(heartbeat=value)


async def test_a_stream_ends_when_the_registry_closes() -> None:
    """When the registry closes, a stream ends after what has happened, without `end`, so that the
    client comes back; one that is asked for afterwards ends at once.
    """
    gate, begun, ends = anyio.Event(), [], []

    async def work() -> None:
        begun.append(1)
        await gate.wait()

    async def follow() -> None:
        ends.append(kinds(await read(run)))

    async with registry() as runs, anyio.create_task_group() as clients:
        run = runs.start(one(work))
        for _ in range(50):
            clients.start_soon(follow)
        await until(lambda: begun)
        await passes(5)
        ids = {seq: await id_after(run, seq) for seq in (2, 3)}
        runs.close_soon()
        await until(lambda: len(ends) == 50)
        assert {tuple(end) for end in ends} <= {
            ("run_started", "node_ready", "node_started"),
            ("run_snapshot", "node_ready", "node_started"),
            ("run_snapshot", "node_started"),
        }
        assert kinds(await read(run, last_event_id=ids[2])) == ["node_started"]
        gate.set()
        await run.wait()
        assert kinds(await read(run, last_event_id=ids[3])) == [
            "node_completed",
            "run_finished",
            "end",
        ]


@pytest.mark.parametrize("fails", [False, True])
async def test_leaving_the_block_ends_all_streams(fails: bool) -> None:
    """Leaving the block, also by an exception, ends the streams of clients outside of it, before
    the run has ended.
    """
    gate, ends = anyio.Event(), []
    runs = RunRegistry(grace=None)

    async def work() -> None:
        with anyio.CancelScope(shield=True):
            await gate.wait()

    async def follow(run: RegisteredRun) -> None:
        ends.append(kinds(await read(run)))
        assert run.state == "running"
        gate.set()

    async def serve() -> None:
        async with runs:
            run = runs.start(one(work))
            clients.start_soon(follow, run)
            await until(lambda: run.as_dict()["nodes"]["running"])
            await passes(5)
            if fails:
                raise ValueError("wrong")

    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as clients:
            if fails:
                with pytest.raises(ValueError, match="wrong"):
                    await serve()
            else:
                await serve()
    assert len(ends) == 1
    assert "end" not in ends[0]


async def test_a_crashed_run_tells_its_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream of a run that ends by a bug of ours ends with `end`, which has the error."""
    from test_faults_scheduler import break_method

    async with registry() as runs:
        with monkeypatch.context() as patch:
            break_method(patch, "succeed", 0)
            run = runs.start(one(noop))
            messages = await read(run)
    end = json.loads(messages[-1]["data"])
    assert messages[-1]["event"] == "end"
    assert (end["state"], end["error"][:14]) == ("failed", "InternalError:")


async def test_the_client_sees_the_run_of_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """`end` never says `running`: it waits until the registry knows how the run came out."""
    for _ in range(20):
        async with registry() as runs:
            run = runs.start(one(noop))
            messages = await read(run)
            assert json.loads(messages[-1]["data"])["state"] == "succeeded"
            assert dagron.RunFinished.kind in kinds(messages)
