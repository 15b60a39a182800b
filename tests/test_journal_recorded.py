"""A run of a journal can be looked at: while it goes on, when it was cut off, when it has ended."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import dagron
from books import MemoryJournal, Page
from dagron import (
    DAG,
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    Event,
    ExecutionResult,
    Journal,
    NodeCompleted,
    NodeFailed,
    NotLoaded,
    RecordedError,
    RecordedRun,
    RunFinished,
    RunStarted,
    UnknownNodeError,
    UnknownRunError,
)
from dagron.journal._chronicle import Chronicle
from dagron.journal._store import RunRow
from storable import Point
from tellings import all_facts, recorded_error, told
from test_journal_resume import GUARD, PROGRAMS, Program
from test_journal_telling import MORE, run

UNTOLD = {"node_ready", "node_started", "node_retrying"}


def events_of(page: Page, run_id: str = "a") -> list[Event]:
    return Chronicle(run_id, page.graph, lambda: iter(page.rows), recorded_error).events


def recorded(page: Page, load: Callable[[bytes], Any] = lambda stored: None) -> RecordedRun:
    row = RunRow(1, "a", "uid", 1_000.0, "interrupted", None, 2, None)
    read: Callable[[], Iterator[Any]] = lambda: iter(page.rows)
    return RecordedRun(row, lambda: page.graph, read, load, tell_error=recorded_error)


def bare(event: Event) -> dict[str, Any]:
    """An event without its numbers and times; of an error its text."""
    fields = event.as_dict()
    for stamp in ("seq", "time", "elapsed"):
        del fields[stamp]
    if fields["kind"] == "run_finished":
        del fields["duration_seconds"]
    if "error" in fields:
        fields["error"] = fields["error"].removeprefix("Recorded: ")
    return fields


# --- events --------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [*PROGRAMS, *MORE])
async def test_recorded_events_are_those_that_were_told(make: type[Program]) -> None:
    """The events of a recorded run are those that its observers heard, but for when nodes were
    ready, started and were tried again.
    """
    heard: list[Event] = []
    program, journal = make(), MemoryJournal()
    settings = {**program.settings, "observers": [heard.append]}
    executor = DynamicExecutor(program.dag, program.expanders(), journal=journal, **settings)
    with anyio.fail_after(GUARD):
        await executor.execute(program.tasks(), run_id="a")
    found = [bare(event) for event in events_of(journal.pages["a"])]
    expected = [bare(event) for event in heard if event.kind not in UNTOLD]
    by_text: Callable[[dict[str, Any]], str] = lambda fields: json.dumps(fields, sort_keys=True)
    assert sorted(found, key=by_text) == sorted(expected, key=by_text)


@pytest.mark.parametrize("make", [*PROGRAMS, *MORE])
async def test_events_are_numbered_and_time_never_goes_back(make: type[Program]) -> None:
    """Over all lives of a run its events are numbered from 1, their versions and ``elapsed`` never
    fall, also where the clock was put back, and each life begins with `RunStarted`.
    """
    _, page = await run(make)
    _, page = await run(make, page.cut(len(page.rows) // 2))
    page.rows[2:] = [row._replace(at=row.at - 3_600) for row in page.rows[2:]]
    events = events_of(page)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert {event.run_id for event in events} == {"a"}
    for field in ("elapsed", "version"):
        values = [getattr(event, field) for event in events]
        assert values == sorted(values)
    assert sum(isinstance(event, RunStarted) for event in events) == 2
    assert isinstance(events[-1], RunFinished)


async def test_what_failed_and_was_tried_again_is_among_the_events() -> None:
    """A failure that a retry made undone did happen, and nothing is told twice."""

    async def fails() -> None:
        if not works:
            raise OSError("no signal")

    works = False
    dag = DAG.builder().add_edge("a", "b").add_node("c").build()
    journal = MemoryJournal()
    executor = DynamicExecutor(dag, journal=journal)
    tasks = {"a": fails, "b": fails, "c": anyio.lowlevel.checkpoint}
    with anyio.fail_after(GUARD):
        await executor.execute(tasks, run_id="a")
        works = True
        result = await executor.execute(tasks, run_id="a", retry_failed=True)
    assert result.ok
    told_of = [
        (event.kind, getattr(event, "node", None)) for event in events_of(journal.pages["a"])
    ]
    assert sorted(told_of[1:4]) == [
        ("node_completed", "c"),
        ("node_failed", "a"),
        ("node_skipped", "b"),
    ]
    assert [told_of[0], *told_of[4:]] == [
        ("run_started", None),
        ("run_finished", None),
        ("run_started", None),
        ("node_completed", "a"),
        ("node_completed", "b"),
        ("run_finished", None),
    ]


# --- graphs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", PROGRAMS)
async def test_the_graph_at_any_version(make: type[Program]) -> None:
    """The graph of a version is what the changes up to it made of the one before."""
    _, page = await run(make)
    found = recorded(page)
    assert found.graph() == found.result.dag
    assert set(found.graph(0)) == set(make.dag)
    landings = [event.as_dict() for event in found.events() if event.kind == "graph_modified"]
    assert found.result.version == len(landings)
    nodes = set(make.dag)
    for number, landing in enumerate(landings, 1):
        nodes |= set(landing["added_nodes"])
        nodes -= set(landing["removed_nodes"])
        if not found.result.forgotten:
            assert set(found.graph(number)) == nodes
            assert set(landing["added_edges"]) <= set(found.graph(number).edges())
        assert len(found.graph(number)) == landing["node_count"]


@pytest.mark.parametrize("version", [-1, 5, "1", None.__class__])
async def test_a_version_that_there_was_not(version: Any) -> None:
    """What is no version is refused, with those that there are."""
    _, page = await run(PROGRAMS[0])
    with pytest.raises(ValueError, match="help: it has those from 0 to 2"):
        recorded(page).graph(version)


# --- a run that has not ended --------------------------------------------------------------------


async def test_a_run_that_has_not_ended_says_so() -> None:
    """What a run has come to so far has nodes that wait and one that runs, and can be drawn."""
    _, page = await run(PROGRAMS[0])
    ends = [count for count, row in enumerate(page.rows) if row.node == "find"]
    found = recorded(page.cut(ends[0] + 1))
    found._in_flight = lambda: ["x", "merge"]
    assert found.state == "unfinished"
    assert not found.result.ok
    assert found.result.reason == "the run has not ended: it goes on when it is executed again"
    statuses = {name: str(node.status) for name, node in found.nodes.items()}
    assert statuses == {
        "find": "COMPLETED",
        "x": "RUNNING",
        "y": "READY",
        "z": "READY",
        "merge": "PENDING",
        "audit": "READY",
    }
    assert found.summary().splitlines()[:2] == [
        "run 'a': unfinished; began 1970-01-01 00:16:40 UTC, executed 2 times",
        "1 PENDING, 3 READY, 1 RUNNING, 1 COMPLETED",
    ]
    assert repr(found) == "<RecordedRun 'a': unfinished, began 1970-01-01 00:16:40 UTC>"
    assert repr(found.result.family("find")) == "<Family of 'find': 3 unfinished>"
    for count in ("1 completed", "1 running", "3 ready", "1 pending"):
        assert count in found.to_svg()
    assert "class n1 running" in found.to_mermaid()
    assert ">find<" in found.result.to_timeline_svg()


async def test_rows_that_come_while_a_run_is_told_do_not_count() -> None:
    """A run that goes on while it is told is told as far as it was when that began."""
    _, page = await run(PROGRAMS[0])
    reads = iter([page.rows[:3], page.rows])
    row = RunRow(1, "a", "uid", 0.0, "running", None, 1, None)
    load: Callable[[bytes], Any] = lambda stored: None
    found = RecordedRun(
        row, lambda: page.graph, lambda: next(reads), load, tell_error=recorded_error
    )
    assert all_facts(found.result)["nodes"].keys() == all_facts(told(page.cut(3)))["nodes"].keys()
    assert found.result.reason == "the run is going on"


# --- in a file -----------------------------------------------------------------------------------


async def execute(journal: Journal, run_id: str, *, broken: bool = False) -> ExecutionResult:
    async def find() -> Any:
        if broken:
            raise OSError("no signal")
        return Point(1, 2)

    def expand(name: str, found: Any) -> DynamicModification:
        return DynamicModification([DynamicNodeSpec("new", find, [name])])

    dag = DAG.builder().add_edge("find", "end").build()
    executor = DynamicExecutor(dag, {"find": expand}, journal=journal)
    with anyio.fail_after(GUARD):
        return await executor.execute(
            {"find": find, "end": lambda inputs: len(inputs)}, run_id=run_id
        )


@pytest.mark.parametrize("look", ["nodes", "result", "events", "graph"])
async def test_a_run_that_was_deleted_since_it_was_looked_up(tmp_path: Path, look: str) -> None:
    """Looking at a run that is not there any more names it, also where its id is used again."""
    with Journal(tmp_path / "runs.db", allow=["storable"]) as journal:
        await execute(journal, "night-1")
        run = journal.run("night-1")
        journal.forget("night-1")
        await execute(journal, "night-1")
        with pytest.raises(UnknownRunError, match="run 'night-1' is not in the journal") as caught:
            found = getattr(run, look)
            found()
    assert caught.value.id == "night-1"


async def test_the_runs_of_a_journal(tmp_path: Path) -> None:
    """A journal lists its runs and returns one by its id; a wrong id has close names."""
    assert Journal(tmp_path / "none.db").runs() == []
    with Journal(tmp_path / "runs.db", allow=["storable"]) as journal:
        result = await execute(journal, "night-1")
        await execute(journal, "night-2", broken=True)
        first, second = journal.runs()
        found = journal.run("night-1")
        with pytest.raises(UnknownRunError, match="'night-1'"):
            journal.run("nigth-1")
    assert (first.id, second.id, found.id) == ("night-1", "night-2", "night-1")
    assert (found.state, found.lives, found.holder) == ("finished", 1, None)
    assert found.ended is not None
    assert found.ended >= found.created
    assert all_facts(found.result) == all_facts(result)
    assert found.nodes["new"].result == Point(1, 2)
    assert str(found).startswith("run 'night-1': finished; began ")
    assert found.summary().count("\n") > 2
    error = second.nodes["find"].error
    assert isinstance(error, RecordedError)
    assert "OSError: no signal" in error.traceback_text
    failed = [event for event in second.events() if isinstance(event, NodeFailed)]
    assert [event.error for event in failed] == ["OSError: no signal"]
    with pytest.raises(UnknownNodeError):
        second.result["nobody"]
    with pytest.raises(TypeError):
        second.nodes["find"] = error  # type: ignore[index]


async def test_a_run_that_goes_on_has_a_holder(tmp_path: Path) -> None:
    """While a process has a run, it is "running", says by whom, and its nodes at work are RUNNING;
    when that process has let it go, it is "unfinished".
    """
    with Journal(tmp_path / "runs.db") as journal:
        dag = DAG.builder().add_edge("a", "b").add_edge("b", "c").build()
        executor = DynamicExecutor(dag, journal=journal)
        began = anyio.Event()

        async def slow() -> None:
            began.set()
            await anyio.sleep_forever()

        tasks = {"a": anyio.lowlevel.checkpoint, "b": slow, "c": slow}
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: executor.execute(tasks, run_id="a"))
            with anyio.fail_after(GUARD):
                await began.wait()
            found = await anyio.to_thread.run_sync(journal.run, "a")
            statuses = {name: str(node.status) for name, node in found.nodes.items()}
            assert statuses == {"a": "COMPLETED", "b": "RUNNING", "c": "PENDING"}
            assert found.state == "running"
            assert found.holder is not None
            assert str(found.holder) in str(found)
            group.cancel_scope.cancel()
        later = journal.run("a")
        assert (later.state, later.holder) == ("unfinished", None)
        kinds = [type(event) for event in later.events()]
        assert kinds == [RunStarted, NodeCompleted]


async def test_a_result_that_cannot_be_loaded(tmp_path: Path) -> None:
    """Where a class is not allowed, its result is a placeholder that says why, and all the rest is
    there; a run that is executed again raises instead of returning it.
    """
    path = tmp_path / "runs.db"
    with Journal(path, allow=["storable"]) as journal:
        await execute(journal, "a")
    with Journal(path) as journal:
        found = journal.run("a")
        value = found.nodes["new"].result
        assert isinstance(value, NotLoaded)
        assert "storable.Point is not allowed" in repr(value)
        assert "allow=" in str(value.error)
        assert found.nodes["end"].result == 1
        with pytest.raises(type(value.error), match=r"storable\.Point is not allowed"):
            await execute(journal, "a")


async def test_a_handle_on_a_run_that_had_finished(tmp_path: Path) -> None:
    """The handle on a run that has finished in an earlier life tells what is recorded: statuses,
    the graph, what completed, and why the rest did not.
    """

    async def fails() -> None:
        raise OSError("no")

    dag = dagron.DAG.builder().add_edge("a", "b").add_node("c").build()
    with dagron.Journal(tmp_path / "runs.db") as journal:
        executor = dagron.DynamicExecutor(dag, {"c": added}, journal=journal)
        tasks = {"a": fails, "b": fails, "c": value}
        await executor.execute(tasks, run_id="a")
        async with dagron.RunRegistry() as registry:
            registered = registry.start(executor.start(tasks, run_id="a"))
            run = registered.run
            result = await registered.wait()
            assert not result.ok
            assert {name: str(run.status(name)) for name in result} == {
                "a": "FAILED",
                "b": "SKIPPED",
                "c": "COMPLETED",
                "new": "COMPLETED",
            }
            assert str(run.explain("b")) == "node 'b' is SKIPPED because 'a' failed"
            assert str(run.explain("a")) == "node 'a' is FAILED: OSError: no"
            assert run.dag == result.dag
            assert run.version == 1
            assert [pair async for pair in run.completed()] == [("c", 1), ("new", 1)]
            counts = registered.as_dict()["nodes"]
            assert (counts["total"], counts["completed"], counts["pending"]) == (4, 2, 0)
            assert repr(run) == "<Run a: 4 of 4 nodes done>"
            with pytest.raises(dagron.UnknownNodeError):
                run.status("d")


async def value() -> int:
    return 1


def added(name: str, result: object) -> dagron.DynamicModification:
    return dagron.DynamicModification([dagron.DynamicNodeSpec("new", value, [name])])
