"""`result.to_chrome_trace(path)`: a run in the trace event format."""

import json
import os
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagron import (
    DAG,
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    ExecutionResult,
    NodePolicy,
    NodeResult,
    NodeStatus,
    Retry,
)
from dagron._times import Landing, Times
from dagron.render._trace import trace_of
from pictures import HOSTILE
from ways import adding, nothing

COMPLETED, FAILED, SKIPPED = NodeStatus.COMPLETED, NodeStatus.FAILED, NodeStatus.SKIPPED

Event = dict[str, Any]

# What each phase of the trace event format has besides "ph", "name", "pid", "tid" and "args".
FIELDS = {"M": set(), "X": {"cat", "ts", "dur"}, "i": {"cat", "ts", "s"}}


def read(text: str) -> list[Event]:
    """The events of a trace, which has nothing in it that the format does not know."""
    trace = json.loads(text)
    assert trace.keys() == {"displayTimeUnit", "otherData", "traceEvents"}
    assert trace["displayTimeUnit"] == "ms"
    for event in trace["traceEvents"]:
        fields = {"ph", "name", "pid", "tid", "args", *FIELDS[event["ph"]]}
        assert event.keys() == fields
        assert type(event["pid"]) is type(event["tid"]) is int
        for moment in ("ts", "dur"):
            assert type(event.get(moment, 0)) is int
            assert event.get(moment, 0) >= 0
    events: list[Event] = trace["traceEvents"]
    return events


def slices_in(events: list[Event]) -> list[Event]:
    return [event for event in events if event["ph"] == "X"]


def assert_no_overlap(events: list[Event]) -> None:
    """No two slices of a lane share a moment; each has a length, and its lane a name."""
    lanes: dict[int, list[tuple[int, int]]] = {}
    for event in slices_in(events):
        assert event["dur"] >= 1
        lanes.setdefault(event["tid"], []).append((event["ts"], event["ts"] + event["dur"]))
    for lane in lanes.values():
        assert all(end <= start for (_, end), (start, _) in pairwise(sorted(lane)))
    named = {event["tid"] for event in events if event["name"] == "thread_name"}
    assert named == lanes.keys()


def traced(result: ExecutionResult, folder: Path) -> list[Event]:
    """The events in the file that the result writes."""
    path = folder / "trace.json"
    result.to_chrome_trace(path)
    assert [file.name for file in folder.iterdir()] == ["trace.json"]
    return read(path.read_text("utf-8"))


def grown_run() -> ExecutionResult:
    """A run with everything: retries, a failure, an expander, a node that never starts."""
    errors = [OSError("first"), OSError("second")]

    def flaky() -> None:
        if errors:
            raise errors.pop(0)

    def broken() -> None:
        raise ValueError("line 7 has no date")

    dag = DAG.builder().add_edge("a", "b").add_edge("broken", "c").add_edge("flaky", "c")
    retry = Retry(attempts=3, initial_delay=0.0, jitter=0.0)
    dag.add_node("flaky", policy=NodePolicy(retry=retry))
    change = DynamicModification([DynamicNodeSpec("child", nothing, ["a"])], remove_nodes=["b"])
    executor = DynamicExecutor(dag.build(), expanders={"a": lambda name, value: change})
    return executor.execute_sync({"a": nothing, "broken": broken, "c": nothing, "flaky": flaky})


# --- what is in it -------------------------------------------------------------------------------


def test_a_node_is_a_slice(tmp_path: Path) -> None:
    """Each node that started has one that says what it came to; one that never did has none."""
    events = traced(grown_run(), tmp_path)
    assert_no_overlap(events)
    args = {event["name"]: event["args"] for event in slices_in(events) if event["cat"] == "node"}
    for of in args.values():
        of.pop("waited_us", None)
    assert args == {
        "a": {"status": "COMPLETED", "attempts": 1},
        "child": {"status": "COMPLETED", "attempts": 1, "added_by": "a"},
        "broken": {"status": "FAILED", "attempts": 1, "error": "ValueError: line 7 has no date"},
        "flaky": {"status": "COMPLETED", "attempts": 3, "attempt": "3 of 3"},
    }


def test_an_attempt_that_failed_is_a_slice(tmp_path: Path) -> None:
    """Each comes before the next one in the same lane, with what it raised."""
    events = traced(grown_run(), tmp_path)
    attempts = [event for event in slices_in(events) if event["cat"] == "failed attempt"]
    assert [(event["name"], event["args"]) for event in attempts] == [
        ("flaky", {"error": "OSError: first", "attempt": "1 of 3"}),
        ("flaky", {"error": "OSError: second", "attempt": "2 of 3"}),
    ]
    flaky = [event for event in slices_in(events) if event["name"] == "flaky"]
    assert len({event["tid"] for event in flaky}) == 1
    starts = [event["ts"] for event in flaky]
    assert starts == sorted(starts)


def test_a_modification_is_an_instant(tmp_path: Path) -> None:
    """It says who made it, which version it made, and what it changed."""
    events = traced(grown_run(), tmp_path)
    (instant,) = [event for event in events if event["ph"] == "i"]
    assert (instant["name"], instant["args"], instant["s"]) == (
        "modification 1 by a",
        {"version": 1, "by": "a", "changed": "1 node added, 1 removed"},
        "p",
    )


def test_times_are_microseconds_since_the_run_began() -> None:
    """Slices, expanders, waits and instants stand where the result says."""
    times = Times(100.0)
    times.ended["a"] = 103.5
    times.landings.append(Landing(1, 103.25, None, 2, 0, goes_on=False))
    dag = DAG.builder().add_edge("a", "b").build()
    nodes = {
        "a": NodeResult("a", COMPLETED, started_at=101.0, duration_seconds=2.0, attempts=1),
        "b": NodeResult("b", COMPLETED, started_at=105.0, duration_seconds=1.0, attempts=1),
    }
    events = read(trace_of(ExecutionResult(nodes, dag, total_duration_seconds=9.0, times=times)))
    assert [
        (event["name"], event["cat"], event["ts"], event["dur"], event["args"].get("waited_us"))
        for event in slices_in(events)
    ] == [
        ("a", "node", 1_000_000, 2_000_000, 1_000_000),
        ("a: expander", "expander", 3_000_000, 500_000, None),
        ("b", "node", 5_000_000, 1_000_000, 1_500_000),
    ]
    (instant,) = [event for event in events if event["ph"] == "i"]
    assert (instant["ts"], instant["name"]) == (3_250_000, "modification 1 from outside")


def test_why_a_node_was_cancelled_is_told() -> None:
    """The reason of a node that had started is in the arguments of its slice."""
    dag = DAG.builder().add_node("a").build()
    node = NodeResult("a", NodeStatus.CANCELLED, started_at=5.0, attempts=1, reason="too late")
    (event,) = slices_in(read(trace_of(ExecutionResult({"a": node}, dag))))
    assert event["args"] == {"status": "CANCELLED", "attempts": 1, "reason": "too late"}


def test_a_result_that_was_made_by_hand_has_a_trace() -> None:
    """Without times there is nothing in it, and that is all."""
    dag = DAG.builder().add_node("a").build()
    result = ExecutionResult({"a": NodeResult("a", SKIPPED, reason="why")}, dag)
    text = trace_of(result)
    assert [event["name"] for event in read(text)] == ["process_name"]
    assert json.loads(text)["otherData"]["nodes not started"] == 1


# --- lanes ---------------------------------------------------------------------------------------

moments = st.floats(-20, 20)


@given(
    st.lists(st.tuples(moments, st.floats(0, 5)), max_size=20),
    st.lists(st.tuples(moments, st.floats(0, 5)), min_size=2, max_size=4),
    moments,
)
def test_slices_of_a_lane_never_overlap(
    nodes: list[tuple[float, float]], attempts: list[tuple[float, float]], ended: float
) -> None:
    """Whatever the clocks said, and however short the nodes: also attempts and expanders do not."""
    times = Times(100.0)
    times.ended["n0"] = 100.0 + ended
    times.attempts["n1"] = tuple((100 + start, 100 + start + took) for start, took in attempts)
    dag = DAG.builder()
    results = {}
    for number, (start, took) in enumerate(nodes):
        name = f"n{number}"
        dag.add_node(name)
        results[name] = NodeResult(
            name, COMPLETED, started_at=100.0 + start, duration_seconds=took, attempts=1
        )
    result = ExecutionResult(results, dag.build(), total_duration_seconds=8.0, times=times)
    assert_no_overlap(read(trace_of(result)))


def test_slices_of_a_large_run_never_overlap(tmp_path: Path) -> None:
    """Nor do those of a run of 500 nodes, most of which take next to no time."""
    dag = DAG.builder()
    for number in range(500):
        dag.add_node(f"n{number}")
    result = DynamicExecutor(dag.build()).execute_sync({f"n{n}": nothing for n in range(500)})
    events = traced(result, tmp_path)
    assert len(slices_in(events)) == 500
    assert_no_overlap(events)


async def test_nodes_at_the_same_time_are_in_lanes_of_their_own(tmp_path: Path) -> None:
    """Two threads that have met have worked at once, and are told so."""
    both = threading.Barrier(2)
    dag = DAG.builder().add_node("a").add_node("b").build()
    tasks = dict.fromkeys("ab", lambda: both.wait(30))
    result = await DynamicExecutor(dag, max_workers=2).execute(tasks)
    assert result.ok
    events = traced(result, tmp_path)
    assert {event["tid"] for event in slices_in(events)} == {0, 1}


# --- names ---------------------------------------------------------------------------------------


def test_hostile_names_are_text(tmp_path: Path) -> None:
    """Names and texts of errors come back from a JSON parser as they were."""

    def broken(name: str) -> Any:
        def task() -> None:
            raise ValueError(name)

        return task

    dag = DAG.builder()
    for name in HOSTILE:
        dag.add_node(name)
    first = HOSTILE[0]
    spec = DynamicNodeSpec("child", nothing, [first])
    executor = DynamicExecutor(dag.build(), expanders={first: adding(spec)})
    tasks = {name: nothing if name == first else broken(name) for name in HOSTILE}
    events = traced(executor.execute_sync(tasks), tmp_path)
    nodes = [event for event in slices_in(events) if event["cat"] == "node"]
    assert {event["name"] for event in nodes} == {*HOSTILE, "child"}
    errors = {event["args"].get("error") for event in nodes}
    assert {f"ValueError: {name}" for name in HOSTILE[1:]} <= errors
    assert (tmp_path / "trace.json").read_bytes().isascii()


# --- the file ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def result() -> ExecutionResult:
    return DynamicExecutor(DAG.builder().add_node("a").build()).execute_sync({"a": nothing})


def test_a_file_is_replaced_as_a_whole(result: ExecutionResult, tmp_path: Path) -> None:
    """Who reads what was there before goes on with it; a link is followed; a str is a path."""
    path = tmp_path / "trace.json"
    path.write_text("before")
    link = tmp_path / "link.json"
    link.symlink_to(path)
    with path.open() as before:
        result.to_chrome_trace(str(link))
        assert before.read() == "before"
    assert link.is_symlink()
    assert slices_in(read(path.read_text("utf-8")))


def test_what_fails_leaves_nothing_behind(
    result: ExecutionResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the file cannot be put in its place, the one before is untouched, and alone there."""
    path = tmp_path / "trace.json"
    path.write_text("before")

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        result.to_chrome_trace(path)
    assert [file.name for file in tmp_path.iterdir()] == ["trace.json"]
    assert path.read_text() == "before"


def test_a_folder_that_is_not_there_is_named(result: ExecutionResult, tmp_path: Path) -> None:
    """The error says which folder there is not, and what to do; nothing is made."""
    with pytest.raises(FileNotFoundError) as caught:
        result.to_chrome_trace(tmp_path / "nope" / "trace.json")
    folder = str(tmp_path / "nope")
    assert str(caught.value) == (
        f"there is no folder {folder!r} to write 'trace.json' into\n"
        f"  help: make it first: pathlib.Path({folder!r}).mkdir(parents=True)"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["", "."])
def test_a_folder_is_no_file(
    result: ExecutionResult, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path that is a folder, or none, is refused with what to type instead."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(IsADirectoryError, match=r"name it: result\.to_chrome_trace\('run\.json'\)"):
        result.to_chrome_trace(path)


def test_what_is_no_path_is_refused(result: ExecutionResult) -> None:
    """An open file, or a number, is no path."""
    with pytest.raises(TypeError, match=r"path is a str or a pathlib\.Path, not int: 3"):
        result.to_chrome_trace(3)  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_written_into(result: ExecutionResult, tmp_path: Path) -> None:
    """What is no ordinary file is not replaced: its reader gets the trace."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    heard: list[str] = []
    reader = threading.Thread(target=lambda: heard.append(path.read_text("utf-8")))
    reader.start()
    result.to_chrome_trace(path)
    reader.join(30)
    assert slices_in(read(heard[0]))
