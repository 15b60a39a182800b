"""`result.critical_path()`: the longest chain of nodes by measured time."""

from typing import Any

import pytest

from dagron import DAG, DynamicExecutor, DynamicNodeSpec, ExecutionResult, NodeResult, NodeStatus
from ways import adding, chain, nothing

COMPLETED, FAILED, SKIPPED = NodeStatus.COMPLETED, NodeStatus.FAILED, NodeStatus.SKIPPED


def ended(edges: str, /, **seconds: float | tuple[float, float]) -> ExecutionResult:
    """A result of these nodes: how long each took, and when it started where that matters."""
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
            name, COMPLETED, duration_seconds=took, started_at=started, attempts=1
        )
    return ExecutionResult(results, dag, total_duration_seconds=10.0)


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
def test_it_is_the_chain_with_the_largest_sum(edges: str, seconds: Any, path: str) -> None:
    """Of all chains it is the one whose durations add up to most; of equal ones, the first."""
    assert ended(edges, **seconds).critical_path() == path.split()


def test_a_node_does_not_count_that_nobody_waited_for() -> None:
    """A dependency that went on after its dependent had started, since a trigger let it, is no
    part of the chain, however long it took.
    """
    result = ended("quick-answer slow-answer", quick=(5, 1), slow=(5, 60), answer=(6.0005, 1))
    assert result.critical_path() == ["slow"]
    result = ended("quick-answer slow-answer", quick=(5, 1), slow=(5, 1.5), answer=(6.0005, 1))
    assert result.critical_path() == ["quick", "answer"]


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
