"""How a modification lands that cancels nodes, or brings conditions and policies."""

from collections.abc import Sequence

import pytest

from dagron import DynamicModification
from dagron._blame import Blame, Why
from dagron._edge import Edge
from dagron._policy import NodePolicy
from machine import (
    adding,
    dag,
    found,
    no,
    refusal,
    removing,
    run_at,
    snapshot,
    spec,
    statuses,
    yes,
)

# --- rows: cancelling ----------------------------------------------------------------------------


def cancelling(*names: str) -> DynamicModification:
    return DynamicModification(cancel_nodes=names)


def test_cancelling_a_running_node() -> None:
    """Row "cancel a running or waiting node": a running one is named to the caller, who ends it."""
    run = run_at(dag(("x", "end"), ("busy", "after")), running=["x", "busy"])
    assert run.land(cancelling("busy"), "x") == ["busy"]
    assert statuses(run, "busy", "after") == ["RUNNING", "PENDING"]
    assert run.version == 1
    run.cancel("busy", Blame(Why.REQUEST, "x"))
    assert statuses(run, "busy", "after", "end") == ["CANCELLED", "SKIPPED", "PENDING"]


@pytest.mark.parametrize("state", ["pending", "ready"])
@pytest.mark.parametrize("by", ["x", None])
def test_cancelling_a_waiting_node(state: str, by: str | None) -> None:
    """Row "cancel a running or waiting node": it ends CANCELLED, and what needs it is SKIPPED."""
    graph = dag("x", "ready", ("x", "pending"), (state, "after"), ("after", "last"))
    run = run_at(graph, running=["x"])
    assert statuses(run, state) == [state.upper()]
    assert list(run.land(cancelling(state), by)) == []
    assert statuses(run, state, "after", "last") == ["CANCELLED", "SKIPPED", "SKIPPED"]
    reason = "'x'" if by else "the program, through the run's handle"
    assert str(run.blame(state)) == f"cancelled by {reason}"
    assert run.blame("last") == Blame(Why.CANCELLED, state)
    run.succeed("x")
    assert run.take_ready(9) == []


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_cancelling_nodes_that_depend_on_each_other(names: Sequence[str]) -> None:
    """Row "cancel a running or waiting node": all that are named are CANCELLED, in any order."""
    run = run_at(dag("x", ("a", "b"), ("b", "c")), running=["x"])
    run.land(cancelling(*names, *names), "x")
    assert statuses(run, "a", "b", "c") == ["CANCELLED", "CANCELLED", "SKIPPED"]
    assert run.blame("b") == Blame(Why.REQUEST, "x")
    assert run.unfinished == 1


def test_dependents_that_no_longer_need_it() -> None:
    """Row "cancel a node": "dependents that still need it": not those whose edge is removed."""
    run = run_at(dag("x", ("a", "b"), ("a", "c"), ("x", "b")), running=["x"])
    run.land(DynamicModification(remove_edges=[("a", "b")], cancel_nodes=["a"]), "x")
    assert statuses(run, "a", "b", "c") == ["CANCELLED", "PENDING", "SKIPPED"]


def test_a_new_node_that_depends_on_a_cancelled_one() -> None:
    """Row "cancel a node": it is cancelled last, so that a new node that needs it is SKIPPED."""
    run = run_at(dag("x", "a", "end"), running=["x"])
    modification = DynamicModification([spec("n", "a", to=["end"])], cancel_nodes=["a"])
    run.land(modification, "x")
    assert statuses(run, "a", "n", "end") == ["CANCELLED", "SKIPPED", "SKIPPED"]


def test_a_node_that_is_skipped_before_it_is_cancelled() -> None:
    """Row "cancel a node": an edge that the same modification adds may skip it first."""
    run = run_at(dag("x", "failed", "a"), running=["x"], failed=["failed"])
    run.land(DynamicModification(add_edges=[("failed", "a")], cancel_nodes=["a"]), "x")
    assert statuses(run, "a") == ["SKIPPED"]
    assert run.blame("a") == Blame(Why.FAILED, "failed")


@pytest.mark.parametrize("state", ["completed", "failed", "skipped", "cancelled", "removed"])
def test_cancelling_a_node_that_has_finished(state: str) -> None:
    """Row "cancel a node that has finished or was removed": nothing (it lost the race)."""
    graph = dag("x", "completed", ("failed", "skipped"), "cancelled", "removed")
    run = run_at(
        graph, running=["x"], completed=["completed"], failed=["failed"], cancelled=["cancelled"]
    )
    run.land(removing("removed"))
    before = snapshot(run)
    assert list(run.land(cancelling(state), "x")) == []
    assert snapshot(run) == before


def test_cancelling_a_node_that_is_being_removed() -> None:
    """Row "cancel a node that was removed": nothing, also when the same modification removes it."""
    run = run_at(dag("x", "a"), running=["x"])
    run.land(DynamicModification(remove_nodes=["a"], cancel_nodes=["a"]), "x")
    assert run.removed() == ("a",)
    assert dag("x", "a").apply(DynamicModification(remove_nodes=["a"], cancel_nodes=["a"])) == dag(
        "x"
    )


def test_cancelling_an_unknown_node() -> None:
    """Row "cancel a node: an unknown name is a fault", with near names; a new node is unknown."""
    graph = dag("x", "fetch_mirror")
    for where in (graph, run_at(graph, running=["x"])):
        error = refusal(where, cancelling("fetch_miror"), "x")
        assert found(error) == [("unknown", "fetch_miror")]
        assert (
            "node 'fetch_miror' cannot be cancelled: it does not exist\n"
            "  help: did you mean 'fetch_mirror'?"
        ) in str(error)
        error = refusal(where, DynamicModification([spec("n")], cancel_nodes=["n"]), "x")
        assert found(error) == [("unknown", "n")]
        assert (
            "node 'n' cannot be cancelled: it is only just being added\n"
            "  help: leave it out of add_nodes"
        ) in str(error)


def test_an_expander_cannot_cancel_its_own_node() -> None:
    """Row "cancel the expanding node itself": fault, raise instead."""
    graph = dag(("a", "x"), "y")
    for where in (graph, run_at(graph, completed=["a"], running=["x"])):
        error = refusal(where, cancelling("a", "x", "y"), "x")
        assert found(error) == [("started", "x")]
        assert (
            "node 'x' cannot cancel itself\n  help: raise an exception instead, to fail it"
        ) in str(error)


def test_a_graph_by_itself_cancels_nothing() -> None:
    """`DAG.apply` validates `cancel_nodes`, and the graph stays as it is."""
    graph = dag(("a", "x"), ("x", "y"))
    assert graph.apply(cancelling("a", "y"), "x") == graph


def test_only_to_cancel_is_a_change() -> None:
    """A modification that cancels somebody raises the version, one that comes too late does not."""
    run = run_at(dag("a", "b"))
    run.land(cancelling("a"))
    assert run.version == 1
    run.land(cancelling("a"))
    assert run.version == 1


# --- conditions on edges -------------------------------------------------------------------------


def test_an_edge_is_given_a_condition_in_add_edges() -> None:
    """S31: `add_edges` takes `Edge(a, b, condition=...)` beside pairs, for new nodes and old."""
    graph = dag(("x", "end"))
    edges = [Edge("x", "n", yes), ("n", "end"), Edge("x", "m"), Edge("m", "end", condition=no)]
    modification = DynamicModification([spec("n"), spec("m")], add_edges=edges)
    run = run_at(graph, running=["x"])
    run.land(modification, "x")
    for changed in (graph.apply(modification, "x"), run.dag()):
        assert changed == dag(("x", "end"), ("x", "n"), ("x", "m"), ("n", "end"), ("m", "end"))
        conditions = {edge: changed.condition(*edge) for edge in changed.edges()}
        assert conditions == {
            ("x", "end"): None,
            ("x", "n"): yes,
            ("x", "m"): None,
            ("n", "end"): None,
            ("m", "end"): no,
        }


def test_an_edge_that_exists_with_another_condition() -> None:
    """An edge that is given again may not say another thing: fault, and how to change it."""
    plain, conditional = dag(("x", "a")), dag(Edge("x", "a", yes))
    for graph, edge in [
        (plain, Edge("x", "a", yes)),
        (conditional, ("x", "a")),
        (conditional, Edge("x", "a", no)),
    ]:
        for where in (graph, run_at(graph, running=["x"])):
            error = refusal(where, DynamicModification(add_edges=[edge]), "x")
            assert found(error) == [("edge", "a")]
            assert (
                "the edge from 'x' to 'a' exists already, with another condition\n"
                "  help: give it once: leave it out of dependencies and dependents, "
                "or remove it first"
            ) in str(error)


@pytest.mark.parametrize(
    "modification",
    [
        DynamicModification([spec("n", "x")], add_edges=[Edge("x", "n", yes)]),
        DynamicModification([spec("n", to=["end"])], add_edges=[Edge("n", "end", yes)]),
        DynamicModification([spec("n")], add_edges=[("x", "n"), Edge("x", "n", yes)]),
        DynamicModification([spec("n")], add_edges=[Edge("x", "n", no), Edge("x", "n", yes)]),
        DynamicModification([spec("n")], add_edges=[Edge("x", "n", no), ("x", "n")]),
    ],
)
def test_an_edge_that_is_given_twice(modification: DynamicModification) -> None:
    """One modification may give an edge twice only if it says the same: else fault."""
    graph = dag("x", "end")
    for where in (graph, run_at(graph, running=["x"])):
        error = refusal(where, modification, "x")
        assert [kind for kind, _ in found(error)] == ["edge"]
        assert "is added twice, with different conditions\n  help: give it once: " in str(error)


def test_an_edge_may_be_given_again_as_it_is() -> None:
    """An edge that is there, or comes twice, with the same condition counts once."""
    graph = dag(Edge("x", "a", yes))
    again = [Edge("x", "a", yes), Edge("x", "n", no), Edge("x", "n", no), Edge("x", "a", yes)]
    modification = DynamicModification([spec("n")], add_edges=again)
    assert graph.apply(modification, "x").edge_count() == 2
    run = run_at(graph, running=["x"])
    run.land(modification, "x")
    assert run.conditions("x") == {"a": yes, "n": no}


def test_an_edge_can_be_given_another_condition() -> None:
    """Removed and added again in one modification, an edge has the new condition, or none."""
    graph = dag(Edge("x", "a", yes))
    for edge, condition in ((Edge("x", "a", no), no), (("x", "a"), None)):
        modification = DynamicModification(add_edges=[edge], remove_edges=[("x", "a")])
        run = run_at(graph, running=["x"])
        run.land(modification, "x")
        for changed in (graph.apply(modification, "x"), run.dag()):
            assert changed.edges() == [("x", "a")]
            assert changed.condition("x", "a") is condition


def test_an_edge_with_a_condition_can_be_removed() -> None:
    """`remove_edges` takes the pair or the `Edge`; the condition goes with the edge or its ends."""
    graph = dag(Edge("x", "a", yes), Edge("x", "b", yes), Edge("b", "c", no), Edge("d", "c", no))
    modification = DynamicModification(
        remove_nodes=["b"], remove_edges=[Edge("x", "a"), ("d", "c")]
    )
    run = run_at(graph, running=["x"])
    run.land(modification, "x")
    assert run.dag() == graph.apply(modification, "x") == dag("x", "a", "c", "d")
    assert run.dag()._graph.conditions == graph.apply(modification)._graph.conditions == {}


def test_conditions_make_no_cycle_legal() -> None:
    """Row "a cycle": an edge closes one whatever its condition."""
    modification = DynamicModification(add_edges=[Edge("b", "a", no)])
    assert [kind for kind, _ in found(refusal(dag(("a", "b")), modification))] == ["cycle"]


# --- policies ------------------------------------------------------------------------------------


def test_the_policy_of_a_spec_lands_with_it() -> None:
    """A node that is added has its own policy in the graph, and keeps it there."""
    policy = NodePolicy(priority=3)
    modification = adding(spec("n", "x", policy=policy), spec("m", "n"))
    run = run_at(dag("x"), running=["x"])
    run.land(modification, "x")
    for changed in (dag("x").apply(modification, "x"), run.dag()):
        assert (changed.policy("n"), changed.policy("m")) == (policy, None)
    run.land(removing("m", "n"))
    assert run.dag() == dag("x")
