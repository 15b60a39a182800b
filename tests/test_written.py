"""Modifications and graphs as text, and the differences that a person is told."""

import json
from collections.abc import Callable
from typing import Any

import pytest

import dagron
from dagron import (
    DAG,
    DynamicModification,
    DynamicNodeSpec,
    Edge,
    Fold,
    NodePolicy,
    Retry,
    all_done,
    at_least,
)
from dagron._written import (
    decisive_policy,
    differences,
    graph_differences,
    read_graph,
    read_modification,
    read_policy,
    shown_differences,
    stand_in,
    written,
    written_graph,
    written_policy,
)


def task() -> None:
    pass


def expander(name: str, result: object) -> None:
    pass


def fold(total: int, name: str, result: int) -> int:
    return total + result


def condition(result: object) -> bool:
    return True


class OwnError(Exception):
    pass


NAMED: dict[str, Any] = {
    each.__name__: each for each in (task, expander, fold, condition, OwnError, int, ValueError)
}


def refer(function: Callable[..., Any], what: str) -> str:
    assert what
    return function.__name__


def resolve(reference: Any) -> Any:
    return NAMED[reference]


POLICY = NodePolicy(
    timeout=3.5,
    retry=Retry(attempts=4, on=(OwnError, ValueError), seed="x"),
    group=("a", "b"),
    priority=2,
    trigger=at_least(0.5),
    window=7,
    orphans="cancel",
    keep=Fold(fold, int),
)

MODIFICATIONS = [
    DynamicModification(),
    DynamicModification([DynamicNodeSpec("a", task)]),
    DynamicModification(
        [
            DynamicNodeSpec("a", task, ["x"], ["y", "z"], expander=expander, policy=POLICY),
            DynamicNodeSpec("é\u2028", task, policy=NodePolicy(retry=Retry(2, OwnError))),
        ],
        remove_nodes=["b"],
        add_edges=[("x", "y"), Edge("x", "z", condition)],
        remove_edges=[("p", "q")],
        cancel_nodes=["r"],
    ),
]


@pytest.mark.parametrize("change", MODIFICATIONS)
def test_a_modification_reads_as_it_was_written(change: DynamicModification) -> None:
    """With names for its callables a modification is read back equal, with the same callables."""
    text = written(change, refer)
    again = read_modification(text, resolve)
    assert again == change
    assert [spec.task for spec in again.add_nodes] == [spec.task for spec in change.add_nodes]
    conditions = [getattr(edge, "condition", None) for edge in again.add_edges]
    assert conditions == [getattr(edge, "condition", None) for edge in change.add_edges]
    assert written(again, refer) == text
    assert not differences(text, written(change))


@pytest.mark.parametrize("change", MODIFICATIONS)
def test_what_has_no_names_is_read_with_stand_ins(change: DynamicModification) -> None:
    """Without them, everything but the callables is there; those raise when they are called."""
    again = read_modification(written(change), stand_in)
    assert differences(written(change), written(again)) == []
    for spec in again.add_nodes:
        with pytest.raises(RuntimeError, match="stands for a callable"):
            spec.task()


def test_a_policy_says_what_it_was_given() -> None:
    """Only the fields that a policy was given are written, and come back as given."""
    assert written_policy(NodePolicy()) == {}
    assert written_policy(NodePolicy(group="a", timeout=None)) == {"group": "a", "timeout": None}
    for policy in (NodePolicy(), NodePolicy(group="a", timeout=None), POLICY):
        found = json.loads(json.dumps(written_policy(policy, refer)))
        assert read_policy(found, resolve) == policy
    for trigger in (all_done, at_least(3), at_least(1.0), at_least(1e-05)):
        policy = NodePolicy(trigger=trigger)
        assert read_policy(written_policy(policy), stand_in) == policy
    for kind, text in ((OwnError, f"{__name__}.OwnError"), ((OSError,), ["builtins.OSError"])):
        assert written_policy(NodePolicy(retry=Retry(2, kind)))["retry"]["on"] == text
    assert decisive_policy(written_policy(POLICY)) == {
        "trigger": "at_least(0.5)",
        "orphans": "cancel",
        "keep": "a Fold",
    }


def test_a_graph_reads_as_it_was_written() -> None:
    """Nodes in their order, edges, conditions (as stand-ins), policies and expanders come back."""
    dag = (
        DAG.builder()
        .add_node("z", policy=NodePolicy(trigger=all_done, keep="leaves"))
        .add_edge("a", "z")
        .add_edge("a", "b", condition=condition)
        .build()
    )
    text = written_graph(dag, ["z", "a"], ["b"])
    again, expanders = read_graph(text)
    assert again == dag
    assert again.nodes() == dag.nodes()
    assert expanders == ["a", "z"]
    assert again._graph.conditions.keys() == {"a"}
    assert written_graph(again, expanders, ["b"]) == text
    assert graph_differences(text, text) == []


def spec(name: str, **more: Any) -> DynamicNodeSpec:
    return DynamicNodeSpec(name, task, **more)


DIFFERENCES = [
    ([spec("a")], [], "node 'a': not there any more"),
    ([], [spec("a"), spec("b")], "nodes 'a', 'b': new"),
    ([spec("a")], [spec("a", dependencies=["x"])], "node 'a': dependencies was none, is now ['x']"),
    (
        [spec("a", dependencies=["x"], dependents=["y"])],
        [spec("a", dependencies=["x"], dependents=["z"])],
        "node 'a': dependents was ['y'], is now ['z']",
    ),
    ([spec("a", dependents=["x"])], [spec("a")], "node 'a': dependents was ['x'], is now none"),
    ([spec("a", expander=expander)], [spec("a")], "node 'a': an expander was there, is now none"),
    (
        [spec("a")],
        [spec("a", policy=NodePolicy(trigger=all_done))],
        "node 'a': policy was none, is now {'trigger': 'all_done'}",
    ),
]


@pytest.mark.parametrize(("then", "now", "line"), DIFFERENCES)
def test_nodes_that_differ(then: list[Any], now: list[Any], line: str) -> None:
    """Each difference is a line that names the node and says what was and what is."""
    assert differences(written(DynamicModification(then)), written(DynamicModification(now))) == [
        line
    ]


def test_the_order_of_nodes_is_a_difference() -> None:
    """The same nodes in another order are told, since it decides the order of the graph."""
    change = [
        written(DynamicModification([spec(name) for name in names])) for names in ("ab", "ba")
    ]
    assert differences(*change) == [
        "the nodes were added in this order: 'a', 'b'; now in this one: 'b', 'a'"
    ]


def test_other_lists_that_differ() -> None:
    """Removals, edges and cancellations are compared; long lists are cut."""
    change = DynamicModification(
        remove_nodes=["a"], add_edges=[Edge("a", "b", condition)], remove_edges=[("a", "b")]
    )
    lines = differences(written(change), written(DynamicModification(cancel_nodes=["c"])))
    assert lines == [
        "remove_nodes was ['a'], is now []",
        "add_edges was [['a', 'b', True]], is now []",
        "remove_edges was [['a', 'b']], is now []",
        "cancel_nodes was [], is now ['c']",
    ]
    many = DynamicModification(remove_nodes=[f"node {number}" for number in range(100)])
    [line] = differences(written(many), "{}")
    assert len(line) < 300


def test_how_a_node_is_run_is_no_difference() -> None:
    """Timeouts, retries, groups, priorities and windows may be others than they were."""
    how = NodePolicy(timeout=1, retry=Retry(3), group="g", priority=1, window=3)
    changes = [written(DynamicModification([spec("a", policy=policy)])) for policy in (how, None)]
    assert differences(*changes) == []


def built(*edges: Any, **policies: NodePolicy) -> DAG:
    builder = DAG.builder()
    for name, policy in policies.items():
        builder.add_node(name, policy=policy)
    for edge in edges:
        source, target, *condition = edge
        builder.add_edge(source, target, condition=condition[0] if condition else None)
    return builder.build()


GRAPHS = [
    (built("ab"), built("ab", "ac"), ["node 'c': new", "edge 'a -> c': new"]),
    (built("abc"[:2], "bc"), built("ab"), ["node 'c': not there any more", "edge 'b -> c': not"]),
    (
        built("ab"),
        built(("a", "b", condition)),
        ["edge a -> b: a condition was not there, and is not the same"],
    ),
    (
        built(("a", "b", condition)),
        built("ab"),
        ["edge a -> b: a condition was there, and is not the same"],
    ),
    (
        built("ab", b=NodePolicy(trigger=all_done)),
        built("ab", a=NodePolicy(keep="leaves")),
        [
            "node 'b': policy was {'trigger': 'all_done'}, is now {}",
            "node 'a': policy was {}, is now {'keep': 'leaves'}",
        ],
    ),
    (built("ab", a=NodePolicy(timeout=3)), built("ab"), []),
]


@pytest.mark.parametrize(("then", "now", "lines"), GRAPHS)
def test_graphs_that_differ(then: DAG, now: DAG, lines: list[str]) -> None:
    """Nodes, edges, conditions and what decides whether nodes run are compared, a line each."""
    found = graph_differences(written_graph(then, ()), written_graph(now, ()))
    assert len(found) == len(lines)
    assert all(line.startswith(start) for line, start in zip(found, lines, strict=True))


def test_expanders_and_tasks_that_are_gone() -> None:
    """An expander more or less is a difference, a task that is missing too; one more is none."""
    dag = built("ab")
    then, now = written_graph(dag, ["a"], ["b"]), written_graph(dag, ["b"], ["a"])
    assert graph_differences(then, now) == [
        "expander for 'a': not there any more",
        "expander for 'b': new",
        "task of node 'a': not there any more",
    ]


def test_a_retry_of_an_unknown_kind_reads_as_any() -> None:
    """Where the exceptions of a Retry are not known, those of a stand-in are any."""
    policy = NodePolicy(retry=Retry(2, OwnError))
    read = read_policy(written_policy(policy), stand_in)
    assert read.retry == Retry(2, Exception)
    assert dagron.NodePolicy(retry=read.retry) == read


def test_ten_differences_are_shown() -> None:
    """Of many differences ten are shown, a line each, and how many more there are."""
    lines = [f"line {number}" for number in range(1_011)]
    assert shown_differences(lines[:2]) == "line 0\n  line 1"
    assert shown_differences(lines[:10]).endswith("line 8\n  line 9")
    assert shown_differences(lines).endswith("line 8\n  line 9\n  and 1,001 more")
