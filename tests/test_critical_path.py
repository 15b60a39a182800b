"""`result.critical_path()`: what the run waited for, from its end back to its beginning."""

from typing import Any

import pytest

from dagron import DAG, DynamicExecutor, DynamicNodeSpec, ExecutionResult, NodeResult, NodeStatus
from dagron._history import History
from dagron._times import Landing, Times
from ways import adding, chain, nothing

COMPLETED, FAILED, SKIPPED = NodeStatus.COMPLETED, NodeStatus.FAILED, NodeStatus.SKIPPED


def ended(
    edges: str,
    /,
    *,
    times: Times | None = None,
    added: dict[str, tuple[str, int]] | None = None,
    **seconds: float | tuple[float, float],
) -> ExecutionResult:
    """A result of these nodes: how long each took, and when it started where that matters.

    ``added`` says which node was added by which, with which modification.
    """
    origins = added or {}
    builder = DAG.builder()
    for name in seconds:
        builder.add_node(name)
    for edge in edges.split():
        builder.add_edge(*edge.split("-"))
    dag = builder.build()
    results = {}
    for name in dag.topological_order():
        took = seconds[name]
        started, took = took if isinstance(took, tuple) else (None, took)
        results[name] = NodeResult(
            name,
            COMPLETED,
            duration_seconds=took,
            started_at=started,
            attempts=1,
            added_by=origins[name][0] if name in origins else None,
        )
    return ExecutionResult(
        results,
        dag,
        total_duration_seconds=10.0,
        times=times,
        history=History(dag, 9, {name: (1, version) for name, (_, version) in origins.items()}),
    )


def accounted(result: ExecutionResult) -> dict[str, float]:
    """How many seconds of the run each node of the path accounts for."""
    return {step.name: round(step.seconds, 3) for step in result._critical_steps()}


@pytest.mark.parametrize(
    ("edges", "seconds", "path"),
    [
        ("a-b b-c", {"a": 1, "b": 1, "c": 1}, "a b c"),
        ("a-b a-c b-d c-d", {"a": 1, "b": 2, "c": 3, "d": 1}, "a c d"),
        ("a-b c-d", {"a": 1, "b": 1, "c": 0, "d": 5}, "c d"),
        ("a-b a-c a-d", {"a": 1, "b": 2, "c": 2, "d": 2}, "a b"),
        ("a-d b-d c-d", {"a": 2, "b": 2, "c": 2, "d": 1}, "a d"),
        ("a-b", {"a": 9, "b": 0, "long": 10}, "long"),
        ("", {"a": 0, "b": 0}, "a"),
    ],
)
def test_without_times_it_is_the_chain_with_the_largest_sum(
    edges: str, seconds: Any, path: str
) -> None:
    """Where no starts are known it is the one whose durations add up to most; of equal ones, the
    first.
    """
    assert ended(edges, **seconds).critical_path() == path.split()


def test_a_node_does_not_count_that_nobody_waited_for() -> None:
    """A dependency that went on after its dependent had started, since a trigger let it, is no
    part of the chain, however long it took.
    """
    result = ended("quick-answer slow-answer", quick=(5, 1), slow=(5, 60), answer=(6.0005, 1))
    assert result.critical_path() == ["slow"]
    result = ended("quick-answer slow-answer", quick=(5, 1), slow=(5, 1.5), answer=(6.0005, 1))
    assert result.critical_path() == ["quick", "answer"]


def times_of(
    attempts: dict[str, tuple[tuple[float, float], ...]] | None = None,
    ended: dict[str, float] | None = None,
    landings: dict[int, tuple[float, str | None]] | None = None,
) -> Times:
    """What a run that began at 5 has kept of when things happened."""
    times = Times(5)
    times.attempts = attempts or {}
    times.ended = ended or {}
    for version, (moment, by) in (landings or {}).items():
        times.landings.append(Landing(version, moment, by, 1, 0, goes_on=True))
    return times


def test_pauses_between_attempts_count() -> None:
    """A node that was tried again after a while is what the run waited for, though its body took
    no time: a quicker one beside it would change nothing.
    """
    times = times_of({"flaky": ((5, 5.001), (5.5, 5.501))})
    result = ended("flaky-m b-m", flaky=(5, 0.002), b=(5, 0.2), m=(5.502, 0.01), times=times)
    assert result.critical_path() == ["flaky", "m"]
    assert accounted(result) == {"flaky": 0.501, "m": 0.01}


def test_the_time_in_an_expander_counts() -> None:
    """A node is done when its expander is, or its fold."""
    times = times_of(ended={"exp": 6})
    result = ended("exp-m b-m", exp=(5, 0.01), b=(5, 0.2), m=(6.001, 0.25), times=times)
    assert result.critical_path() == ["exp", "m"]
    assert accounted(result) == {"exp": 1.0, "m": 0.25}


def test_it_ends_with_the_node_that_ended_last() -> None:
    """A child that took long in the middle of the run is no part of it: nobody waited for it."""
    result = ended("", source=(5, 9), long=(6, 5), last=(13.5, 1))
    assert result.critical_path() == ["last"]


def test_a_node_waited_until_it_was_added() -> None:
    """A node that was added by one that goes on came when that modification landed: until then
    it is the adder's time.
    """
    times = times_of(ended={"source": 14}, landings={1: (5.5, "source"), 2: (13.5, "source")})
    added = {"early": ("source", 1), "late": ("source", 2)}
    result = ended("", source=(5, 1), early=(5.5, 1), late=(13.5, 2), times=times, added=added)
    assert result.critical_path() == ["source", "late"]
    assert accounted(result) == {"source": 8.5, "late": 2.0}
    # A dependency that was done before counts less than that the node was not there.
    more = ended("dep-late", dep=(5, 3), source=(5, 1), late=(13.5, 2), times=times, added=added)
    assert more.critical_path() == ["source", "late"]
    # And one that was done after more.
    more = ended("dep-late", dep=(5, 8.7), source=(5, 1), late=(13.7, 2), times=times, added=added)
    assert more.critical_path() == ["dep", "late"]


def test_a_wait_for_a_slot_is_nobodys() -> None:
    """It is between two nodes of the path, and neither accounts for it: all of them together never
    account for more than the run took.
    """
    result = ended("a-b", a=(5, 1), b=(9, 1), times=Times(5))
    assert accounted(result) == {"a": 1.0, "b": 1.0}
    assert "2 s, 20% of the run" in result.summary()


def test_what_an_earlier_life_did_took_none_of_the_run() -> None:
    """In a run that goes on, the path begins with the first node that this life waited for."""
    result = ended("a-b b-c", a=(1, 2), b=(4.5, 1), c=(5.5, 1), times=Times(5))
    assert accounted(result) == {"b": 0.5, "c": 1.0}


def test_a_node_that_was_skipped_for_a_failure_waited_no_longer_than_that() -> None:
    """A clean-up behind a skipped node comes after the failure, not after the slower dependency."""
    dag = DAG.builder().add_edge("bad", "x").add_edge("slow", "x").add_edge("x", "tidy").build()
    results = {
        "bad": NodeResult("bad", FAILED, duration_seconds=1, started_at=5, attempts=1),
        "slow": NodeResult("slow", COMPLETED, duration_seconds=2, started_at=5, attempts=1),
        "x": NodeResult("x", SKIPPED, reason="skipped because 'bad' failed"),
        "tidy": NodeResult("tidy", COMPLETED, duration_seconds=9, started_at=6, attempts=1),
    }
    assert ExecutionResult(results, dag).critical_path() == ["bad", "tidy"]


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_times_that_are_no_numbers_are_not_known(wrong: float) -> None:
    """A result that was made by hand with such times has a path all the same."""
    assert ended("a-b", a=(wrong, 1), b=(wrong, 1)).critical_path() == ["a", "b"]
    assert ended("a-b", a=(5, wrong), b=(7, 1)).critical_path() == ["a", "b"]


def test_dependencies_without_results_are_not_in_it() -> None:
    """A result that was made by hand may lack nodes of its graph."""
    results = {"b": NodeResult("b", COMPLETED, duration_seconds=2, started_at=5, attempts=1)}
    assert ExecutionResult(results, chain("a", "b")).critical_path() == ["b"]


def test_nodes_that_the_graph_does_not_have_depend_on_nothing() -> None:
    """A result that was made by hand may name nodes that its graph lacks."""
    results = {
        "stray": NodeResult("stray", COMPLETED, duration_seconds=2, attempts=1),
        "a": NodeResult("a", COMPLETED, duration_seconds=1, attempts=1),
    }
    assert ExecutionResult(results, chain("a")).critical_path() == ["stray"]


def test_clocks_that_differ_a_little_break_no_chain() -> None:
    """A dependent that seems to have started half a thousandth early has waited all the same."""
    assert ended("a-b", a=(5, 100), b=(104.95, 1)).critical_path() == ["a", "b"]
    assert ended("a-b", a=(5, 1), b=(5.9995, 1)).critical_path() == ["a", "b"]


def test_a_node_waited_for_the_one_that_added_it() -> None:
    """A node without dependencies comes after the node whose expander has added it."""
    dag = DAG.builder().add_node("x").add_node("adder").build()
    results = {
        "x": NodeResult("x", COMPLETED, duration_seconds=2, attempts=1, added_by="adder"),
        "adder": NodeResult("adder", COMPLETED, duration_seconds=1, attempts=1),
    }
    assert ExecutionResult(results, dag).critical_path() == ["adder", "x"]
    del results["adder"]  # it was forgotten
    assert ExecutionResult(results, dag.to_builder().build()).critical_path() == ["x"]


def test_nodes_that_never_started_are_not_in_it() -> None:
    """A chain may lead through a skipped node, to a clean-up, and does not show it."""
    dag = chain("bad", "skipped", "tidy")
    results = {
        "bad": NodeResult("bad", FAILED, duration_seconds=2, attempts=1),
        "skipped": NodeResult("skipped", SKIPPED),
        "tidy": NodeResult("tidy", COMPLETED, duration_seconds=1, attempts=1),
    }
    assert ExecutionResult(results, dag).critical_path() == ["bad", "tidy"]
    nobody = {"a": NodeResult("a", SKIPPED)}
    assert ExecutionResult(nobody, chain("a")).critical_path() == []
    assert ExecutionResult({}, DAG.builder().build()).critical_path() == []


def test_links_in_a_circle_hang_nothing() -> None:
    """Results that no run could give, in which a node has added what it depends on, do no harm."""
    results = {
        "a": NodeResult("a", COMPLETED, duration_seconds=2, attempts=1, added_by="b"),
        "b": NodeResult("b", COMPLETED, duration_seconds=2, attempts=1),
        "c": NodeResult("c", COMPLETED, duration_seconds=1, attempts=1),
    }
    dag = chain("a", "b").to_builder().add_node("c").build()
    assert ExecutionResult(results, dag).critical_path() == ["c"]
    results["c"] = NodeResult("c", COMPLETED, duration_seconds=1, started_at=5, attempts=1)
    dag = dag.to_builder().add_edge("b", "c").build()
    assert ExecutionResult(results, dag).critical_path() == ["c"]


def test_a_chain_of_100_000_is_found_at_the_default_recursion_limit() -> None:
    """It is a loop: a chain of any length is found whole."""
    names = [f"n{number}" for number in range(100_000)]
    dag = chain(*names)
    result = ExecutionResult(
        {name: NodeResult(name, COMPLETED, duration_seconds=1, attempts=1) for name in names}, dag
    )
    assert result.critical_path() == names


def test_it_follows_a_graph_that_grew() -> None:
    """In a run, a chain leads from the expanding node through what it added to what comes after."""
    dag = chain("find", "total")
    executor = DynamicExecutor(
        dag, {"find": adding(DynamicNodeSpec("x", nothing, ["find"], ["total"]))}
    )
    result = executor.execute_sync({"find": nothing, "total": nothing})
    assert result.critical_path() == ["find", "x", "total"]
