"""How far a run is, by its events: counts per family, and the lines of plain text."""

from collections import Counter
from itertools import count
from typing import Any

import dagron
from dagron import DAG, DynamicExecutor, DynamicModification, DynamicNodeSpec, Event
from dagron._tidings import line_of
from dagron._tracking import Tracking
from ways import Way, adding, chain, nothing


class Told:
    """A run that a test tells of, event by event."""

    def __init__(self, *initial: str) -> None:
        self._seq = count(1)
        self.tracking = Tracking()
        self(dagron.RunStarted, initial, ())

    def __call__(self, kind: type[Event], *details: Any) -> None:
        self.tracking.hear(kind(next(self._seq), 0, 0.0, 0.0, "run", *details))

    def add(self, by: str | None, *names: str) -> None:
        for name in names:
            self(dagron.NodeAdded, name, by, 1)

    def complete(self, *names: str) -> None:
        for name in names:
            self(dagron.NodeStarted, name)
            self(dagron.NodeCompleted, name, 1, 0.5)


def shown(tracking: Tracking, most: int = 10) -> list[str]:
    families, rest = tracking.lines(most)
    every = families if rest is None else [*families, rest]
    return [f"{family.title} {family.done}/{family.total}" for family in every]


def fail() -> None:
    raise ValueError("no\nway")


def test_the_total_of_a_family_grows_with_the_graph() -> None:
    """A node that is added counts under the node that added it, and one that is removed no more."""
    told = Told("find", "total")
    assert shown(told.tracking) == ["the graph 0/2"]
    told.add("find", "a", "b")
    told.add(None, "c")
    told.complete("find", "a")
    assert shown(told.tracking) == [
        "the graph 1/2",
        "added by 'find' 1/2",
        "added from outside 0/1",
    ]
    told.add("find", "d")
    told(dagron.NodeRemoved, "b", "find")
    told(dagron.NodeRemoved, "total", "find")
    told(dagron.NodeRemoved, "c", None)
    assert shown(told.tracking) == ["the graph 1/1", "added by 'find' 1/2"]
    assert (told.tracking.all.done, told.tracking.all.total) == (2, 3)


def test_the_counts_are_those_of_the_result(execute: Way) -> None:
    """At the end, each family has the counts that the result has of it."""
    dag = DAG.builder().add_edge("a", "bad").add_edge("bad", "lost").add_edge("a", "b").build()
    specs = [DynamicNodeSpec("x", nothing, ["a"]), DynamicNodeSpec("y", fail, ["a"])]
    specs.append(DynamicNodeSpec("z", nothing, ["y"]))
    tracking = Tracking()
    executor = DynamicExecutor(dag, {"a": adding(*specs)}, observers=[tracking.hear])
    result = execute(executor, {"a": nothing, "bad": fail, "lost": nothing, "b": nothing})
    assert shown(tracking) == ["the graph 4/4", "added by 'a' 3/3"]
    for family, of in ((tracking.families["a"], result.family("a")), (tracking.all, result)):
        for word in ("succeeded", "failed", "skipped", "cancelled"):
            assert getattr(family, word) == getattr(of, word)
    assert tracking.all.running == 0
    assert tracking.running(5) == []
    assert tracking.is_over
    assert tracking.last_failure in (("bad", "ValueError: no way"), ("y", "ValueError: no way"))


def test_a_node_that_never_ran_was_not_running() -> None:
    """Nodes that end before they start, in whatever way, leave the count of running nodes alone."""
    told = Told("a", "b", "c", "d")
    told(dagron.NodeStarted, "a")
    told(dagron.NodeSkipped, "b", "skipped because")
    told(dagron.NodeCancelled, "c", "cancelled")
    told(dagron.NodeFailed, "d", 0, 0.0, "ConditionError: x")
    assert told.tracking.all.running == 1
    assert told.tracking.all.notes() == ["1 running", "1 failed", "1 skipped", "1 cancelled"]
    told(dagron.NodeCancelled, "a", "cancelled")
    assert told.tracking.all.running == 0


def test_running_nodes_are_named_with_their_progress() -> None:
    """The nodes that began first are named, each with what it told last, for a terminal."""
    told = Told("a", "b", "c")
    for name in "abc":
        told(dagron.NodeStarted, name)
    told(dagron.NodeProgress, "a", 1, 2, "half\x1b way")
    told(dagron.NodeProgress, "b", 0.5, None, "")
    told(dagron.NodeProgress, "gone", 1, None, "")
    assert told.tracking.running(2) == ["'a' 1/2 half  way", "'b' 0.5"]


def test_of_many_families_those_are_shown_that_are_at_work() -> None:
    """The initial nodes stay in sight; then come families that are not done, the last heard of
    first; the rest is one line, and all lines add up.
    """
    told = Told("root")
    for number in range(1_000):
        told.add(f"n{number}", f"child {number}")
        if number != 3:
            told.complete(f"child {number}")
    assert shown(told.tracking, 4) == [
        "the graph 0/1",
        "added by 'n3' 0/1",
        "added by 'n999' 1/1",
        "998 more families 998/998",
    ]
    assert len(shown(told.tracking, 1_001)) == 1_001


def test_a_graph_of_no_nodes_has_a_line() -> None:
    """There is always something to show."""
    told = Told()
    assert shown(told.tracking) == ["the graph 0/0"]
    told.add(None, "a")
    assert shown(told.tracking) == ["added from outside 0/1"]


# --- lines of plain text --------------------------------------------------------------------------


def lines_of(events: list[Event]) -> list[str]:
    """The lines, without their times."""
    lines = [line for event in events if (line := line_of(event)) is not None]
    assert all(line.isprintable() for line in lines)
    return [line.partition("] ")[2] for line in lines]


def test_there_is_a_line_for_each_change_of_state(execute: Way) -> None:
    """What starts and ends, in whatever way, and what a modification changed is a line each."""
    events: list[Event] = []
    dag = DAG.builder().add_edge("a", "bad").add_edge("bad", "lost").add_edge("a", "spare").build()
    change = DynamicModification(
        [DynamicNodeSpec(f"x{n}", nothing, ["lost"]) for n in range(7)], remove_nodes=["spare"]
    )
    executor = DynamicExecutor(dag, {"a": lambda name, value: change}, observers=[events.append])
    execute(executor, {"a": nothing, "bad": fail, "lost": nothing})
    lines = lines_of(events)
    assert lines[0] == f"run {events[0].run_id} started: 4 nodes"
    assert lines[1] == "'a' started"
    assert lines[2] == (
        "'a' added 7 nodes: 'x0', 'x1', 'x2', 'x3', 'x4' and 2 more; removed 1 node: 'spare'"
    )
    assert lines[3].startswith("'a' completed in ")
    assert lines[4:7] == [
        "'bad' started",
        "'bad' failed: ValueError: no way",
        "'lost' skipped because 'bad' failed",
    ]
    assert lines[-1].startswith(f"run {events[0].run_id} ended after ")
    assert lines[-1].endswith("; nodes: 1 succeeded, 1 failed, 8 skipped")
    assert len(lines) == 7 + 7 + 1


def test_the_other_lines() -> None:
    """Retries, blockings, cancellations and changes of edges alone have their words, too."""
    of: tuple[Any, ...] = (1, 1, 0.0, 12.34, "id")
    none: tuple[Any, ...] = ()
    assert line_of(dagron.NodeReady(*of, "a")) is None
    assert line_of(dagron.NodeRetrying(*of, "a", 2, 0.5, "OSError: x")) == (
        "[    12.3 s] 'a' is tried again in 500 ms: attempt 2 failed: OSError: x"
    )
    events = [
        dagron.LoopBlocked(*of, "a", "f.py", 3, "f", 0.2),
        dagron.NodeCancelled(*of, "a", "the run was cancelled"),
        dagron.NodeCancelled(*of, "a", "cancelled by 'b'"),
        dagron.GraphModified(*of, None, 3, none, none, (("a", "b"),), none, none),
        dagron.GraphModified(*of, "b", 3, none, none, none, none, ("a",)),
        dagron.RunFinished(*of, False, "the run was cancelled", 0, 0, 0, 0, 0, 2.0),
    ]
    assert lines_of(events) == [
        "'a' blocked the event loop at f.py:3 in f",
        "'a' cancelled: the run was cancelled",
        "'a' cancelled by 'b'",
        "the program added 1 edge",
        "'b' asked to cancel 'a'",
        "run id ended after 2 s: the run was cancelled; nodes: none",
    ]


def test_a_long_error_is_shortened() -> None:
    """A line holds a few hundred characters of an error."""
    of: tuple[Any, ...] = (1, 1, 0.0, 0.0, "id")
    line = line_of(dagron.NodeFailed(*of, "a", 1, 0.0, "x" * 100_000))
    assert line is not None
    assert len(line) < 400


def test_tracking_keeps_nothing_of_nodes_that_are_done() -> None:
    """What it holds grows with the families and the nodes that are not done, not with the run."""
    told = Told("source")
    for number in range(5_000):
        told.add("source", f"n{number}")
        told.complete(f"n{number}")
    assert Counter(map(len, (told.tracking._family, told.tracking._running))) == Counter({0: 2})
    assert told.tracking.families["source"].succeeded == 5_000


def test_a_run_of_a_chain_ends_with_nothing_running(execute: Way) -> None:
    """Sync nodes that one thread runs one after another are started and ended, each once."""
    tracking = Tracking()
    names = [f"n{number}" for number in range(20)]
    execute(
        DynamicExecutor(chain(*names), observers=[tracking.hear]), dict.fromkeys(names, nothing)
    )
    assert (tracking.all.succeeded, tracking.all.running) == (20, 0)
