"""How a modification lands: each rule, on a graph by itself and in a run where statuses matter."""

from collections.abc import Callable, Sequence

import pytest

from dagron import DynamicModification, DynamicNodeSpec, Fault, ModificationError, NodeStatus
from dagron._blame import Blame, Why
from dagron._landing import examine, unfilled
from dagron._scheduler import Scheduler
from machine import (
    adding,
    dag,
    found,
    nothing,
    refusal,
    refused,
    removing,
    run_at,
    snapshot,
    spec,
    statuses,
)

# --- rows: names ---------------------------------------------------------------------------------


def test_a_name_that_exists() -> None:
    """Row "name exists, was used before in this run, or occurs twice": fault. It exists."""
    modification = adding(spec("merge", "discover"))
    for where in (dag(("discover", "merge")), run_at(dag(("discover", "merge")))):
        error = refusal(where, modification)
        assert found(error) == [("duplicate", "merge")]
        assert (
            "node 'merge' cannot be added: it exists already\n"
            "  help: choose a new name: within a run a name means one node"
        ) in str(error)


@pytest.mark.parametrize("state", ["completed", "running", "failed", "cancelled"])
def test_a_name_of_a_node_that_ended(state: str) -> None:
    """Row "name exists, was used before in this run, or occurs twice": a node that ended exists."""
    run = run_at(dag("a", "b"), **{state: ["a"]})
    assert "node 'a' cannot be added: it exists already" in refused(run, adding(spec("a")))


def test_a_name_that_was_used_before() -> None:
    """Row "name exists, was used before in this run, or occurs twice": fault. It was removed."""
    run = Scheduler(dag("a", "b"))
    run.land(removing("b"))
    error = refusal(run, adding(spec("b")))
    assert found(error) == [("duplicate", "b")]
    assert "cannot be added: a node of that name was removed earlier in this run" in str(error)


def test_a_name_that_occurs_twice() -> None:
    """Row "name exists, was used before in this run, or occurs twice": fault. It occurs twice."""
    modification = adding(spec("new", "a"), spec("other"), spec("new"))
    for where in (dag("a"), run_at(dag("a"))):
        error = refusal(where, modification)
        assert found(error) == [("duplicate", "new")]
        assert "node 'new' cannot be added: the modification adds it twice" in str(error)


def test_a_name_removed_and_added_again() -> None:
    """Row "a name removed and added again in one modification": fault, a name means one node."""
    modification = DynamicModification([spec("b", "a")], ["b"])
    for where in (dag(("a", "b")), run_at(dag(("a", "b")))):
        error = refusal(where, modification)
        assert found(error) == [("duplicate", "b")]
        assert "'b' cannot be added: it is removed by the same modification" in str(error)
        assert "within a run a name means one node" in str(error)


# --- rows: ends of edges -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("modification", "claim"),
    [
        (
            adding(spec("process_users", "discover_tabels")),
            "node 'process_users' depends on 'discover_tabels', which does not exist",
        ),
        (
            adding(spec("n", to=["discover_tabels"])),
            "node 'n' names dependent 'discover_tabels', which does not exist",
        ),
        (
            DynamicModification(add_edges=[("discover_tabels", "merge")]),
            "the edge from 'discover_tabels' to 'merge' needs 'discover_tabels', "
            "which does not exist",
        ),
        (
            DynamicModification(add_edges=[("merge", "discover_tabels")]),
            "the edge from 'merge' to 'discover_tabels' needs 'discover_tabels', "
            "which does not exist",
        ),
    ],
)
def test_an_end_that_does_not_exist(modification: DynamicModification, claim: str) -> None:
    """Row "dependencies, dependents, edge ends that do not exist": fault, with near names."""
    graph = dag(("discover_tables", "merge"))
    for where in (graph, run_at(graph, running=["discover_tables"])):
        error = refusal(where, modification)
        assert found(error) == [("unknown", "discover_tabels")]
        assert f"- {claim}\n  help: did you mean 'discover_tables'?" in str(error)


def test_the_nearest_name_may_be_new() -> None:
    """Row "dependencies that do not exist": a name of the same modification may be the nearest."""
    text = refused(dag("a"), adding(spec("profile_users"), spec("check", "profile_user")))
    assert "did you mean 'profile_users'?" in text


def test_an_end_like_no_other() -> None:
    """Row "dependencies that do not exist": where nothing is near, the help says what to name."""
    text = refused(dag("a"), adding(spec("n", "zzz")))
    assert "which does not exist\n  help: name a node of the graph or of this modification" in text


def test_an_end_that_the_same_modification_removes() -> None:
    """Row "edge ends that do not exist": a node that is being removed is not there either."""
    modification = DynamicModification([spec("n", "b", to=["c"])], ["b", "c"])
    error = refusal(dag(("a", "b"), "c"), modification)
    assert found(error) == [("unknown", "b"), ("unknown", "c")]
    assert "node 'n' depends on 'b', which the same modification removes" in str(error)
    assert "node 'n' names dependent 'c', which the same modification removes" in str(error)
    assert "help: leave that node in place, or name another" in str(error)


def test_an_end_that_was_removed_before() -> None:
    """Row "edge ends that do not exist": a node that was removed earlier is gone."""
    run = Scheduler(dag("a", "b"))
    run.land(removing("b"))
    error = refusal(run, DynamicModification([spec("n", "b")], add_edges=[("a", "b")]))
    assert found(error) == [("unknown", "b"), ("unknown", "b")]
    assert "node 'n' depends on 'b', which was removed earlier in this run" in str(error)
    assert "help: name a node that is still in the graph" in str(error)


# --- rows: cycles --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("modification", "cycle"),
    [
        (adding(spec("n", "c", to=["b"])), ["b", "c", "n"]),
        (adding(spec("n", "n")), ["n"]),
        (adding(spec("n", to=["n"])), ["n"]),
        (adding(spec("n", "m"), spec("m", "n")), ["m", "n"]),
        (adding(spec("n", to=["m"]), spec("m", to=["n"])), ["m", "n"]),
        (adding(spec("n", "b", "m"), spec("m", "n")), ["m", "n"]),
        (DynamicModification(add_edges=[("c", "b")]), ["b", "c"]),
        (DynamicModification(add_edges=[("b", "b")]), ["b"]),
        (DynamicModification([spec("n", "d")], add_edges=[("n", "b")]), ["b", "c", "d", "n"]),
    ],
)
def test_a_cycle(modification: DynamicModification, cycle: list[str]) -> None:
    """Row "a cycle": fault, with the path."""
    graph = dag(("a", "b"), ("b", "c"), ("c", "d"))
    for where in (graph, run_at(graph, running=["a"])):
        error = refusal(where, modification, "a")
        assert [fault.kind for fault in error.faults] == ["cycle"]
        words, path = error.faults[0].message.split(": ")
        assert words == "its edges would close a cycle"
        names = path.replace("'", "").split(" -> ")
        assert names[0] == names[-1]
        assert sorted(names[1:]) == cycle
        assert "help: leave out one of these edges; each node waits for the one before it" in str(
            error
        )


def test_a_cycle_that_a_removal_opens() -> None:
    """Row "a cycle": an edge back is fine if the same modification takes the way forth away."""
    graph = dag(("a", "b"), ("b", "c"), ("c", "d"))
    cut = DynamicModification([spec("n", "d", to=["b"])], remove_edges=[("c", "d")])
    assert graph.apply(cut).descendants("d") == ["n", "b", "c"]
    without = DynamicModification(remove_nodes=["c"], add_edges=[("d", "b")])
    assert graph.apply(without).edges() == [("a", "b"), ("d", "b")]
    turned = DynamicModification(add_edges=[("c", "b")], remove_edges=[("b", "c")])
    assert graph.apply(turned).ancestors("b") == ["a", "c"]


def test_an_edge_that_is_taken_and_given_back() -> None:
    """Row "a cycle": an edge that one modification removes and adds closes one all the same."""
    modification = DynamicModification(
        add_edges=[("a", "b"), ("b", "a")], remove_edges=[("a", "b")]
    )
    assert found(refusal(dag(("a", "b")), modification))[0][0] == "cycle"


def test_no_cycle_through_what_has_ended() -> None:
    """Row "a cycle": new nodes may wait for finished ones and hold up waiting ones."""
    run = run_at(dag(("a", "b"), ("b", "c"), "d"), completed=["a"], running=["b"])
    run.land(adding(spec("n", "a", "b", "d", to=["c"]), spec("m", "n", "c")), "b")
    assert run.dag().topological_order() == ["a", "b", "d", "n", "c", "m"]


def test_a_diamond_of_new_nodes_is_no_cycle() -> None:
    """Row "a cycle": new nodes that meet again below a waiting node are no cycle."""
    graph = dag(("x", "a"), ("a", "end"))
    new = adding(
        spec("left", "a", to=["join"]), spec("right", "a", to=["join"]), spec("join", to=["end"])
    )
    assert graph.apply(new, "x").dependencies("join") == ["left", "right"]


# --- rows: where a dependency stands -------------------------------------------------------------


def test_a_completed_dependency() -> None:
    """Row "a dependency that is COMPLETED": satisfied."""
    run = run_at(dag("a", "b", "x"), completed=["a", "b"], running=["x"])
    run.land(adding(spec("n", "a", "b")), "x")
    run.land(DynamicModification([spec("m", "n")], add_edges=[("a", "m")]), "x")
    assert statuses(run, "n", "m") == ["READY", "PENDING"]
    assert run.take_ready(9) == ["n"]
    run.succeed("n")
    assert statuses(run, "m") == ["READY"]


@pytest.mark.parametrize("how", ["dependency", "edge", "edge to a waiting node"])
@pytest.mark.parametrize(
    ("name", "blame"),
    [
        ("failed", Blame(Why.FAILED, "failed")),
        ("cancelled", Blame(Why.CANCELLED, "cancelled")),
        ("skipped", Blame(Why.FAILED, "failed")),
    ],
)
def test_a_dependency_that_did_not_complete(name: str, blame: Blame, how: str) -> None:
    """Row "a dependency that is FAILED, CANCELLED, or SKIPPED because of a failure": SKIPPED.

    At once, and so is what waits for the new node; the blame falls on the node that failed.
    """
    graph = dag(("failed", "skipped"), "cancelled", "x", ("waiting", "behind"))
    run = run_at(graph, failed=["failed"], running=["x"], cancelled=["cancelled"])
    assert str(run.status(name)).lower() == name
    match how:
        case "dependency":
            modification = adding(spec("n", "x", name, to=["waiting"]), spec("m", "n"))
        case "edge":
            modification = DynamicModification(
                [spec("m", "n"), spec("n", to=["waiting"])], add_edges=[(name, "n")]
            )
        case _:
            modification = DynamicModification(
                [spec("n", "waiting"), spec("m", "n")], add_edges=[(name, "waiting")]
            )
    run.land(modification, "x")
    assert statuses(run, "n", "m", "waiting", "behind") == ["SKIPPED"] * 4
    assert {run.blame(skipped) for skipped in ("n", "m", "waiting", "behind")} == {blame}
    run.succeed("x")
    assert run.take_ready(9) == []
    assert run.unfinished == 0


def test_two_dependencies_that_did_not_complete() -> None:
    """Row "a dependency that is FAILED": with several the node is SKIPPED once, by the first."""
    for others in ([], [spec("m", "n", "b")]):
        run = run_at(dag("a", "b"), failed=["a", "b"])
        run.land(adding(spec("n", "a", "b"), *others))
        assert set(run.statuses().values()) == {NodeStatus.FAILED, NodeStatus.SKIPPED}
        assert run.unfinished == 0
        assert run.blame("n") == Blame(Why.FAILED, "a")


# --- rows: where a dependent stands --------------------------------------------------------------


@pytest.mark.parametrize("how", ["dependent", "edge from a new node", "edge"])
@pytest.mark.parametrize("state", ["running", "completed", "failed"])
def test_a_dependent_that_has_started(state: str, how: str) -> None:
    """Row "a dependent or edge target that is RUNNING, COMPLETED or FAILED": fault."""
    run = run_at(dag("late", "x"), **{state: ["late"]})
    match how:
        case "dependent":
            modification = adding(spec("n", to=["late"]))
        case "edge":
            modification = DynamicModification(add_edges=[("x", "late")])
        case _:
            modification = DynamicModification([spec("n")], add_edges=[("n", "late")])
    source = "x" if how == "edge" else "n"
    error = refusal(run, modification)
    assert found(error) == [("started", "late")]
    assert f"'late' cannot wait for '{source}': 'late' is {state.upper()} already" in str(error)
    assert "\n  help: name dependents that have not started" in str(error)


def test_the_expanding_node_and_its_ancestors_have_started() -> None:
    """Row "a dependent that is RUNNING or COMPLETED": `apply(by=...)` knows who has started."""
    graph = dag(("a", "b"), ("b", "c"), ("x", "c"))
    text = refused(graph, adding(spec("n", to=["a", "b", "x"])), "b")
    assert "'a' cannot wait for 'n': 'a' is COMPLETED" in text
    assert "'b' cannot wait for 'n': 'b' is RUNNING" in text
    assert "2 faults" in text
    assert graph.apply(adding(spec("n", to=["x", "c"])), "b").dependents("n") == ["x", "c"]
    assert graph.apply(adding(spec("n", to=["a", "b"]))).dependents("n") == ["a", "b"]


@pytest.mark.parametrize("name", ["skipped", "cancelled"])
def test_a_dependent_that_will_not_run(name: str) -> None:
    """Row "a dependent or edge target that is SKIPPED or CANCELLED": accepted.

    It has no effect on outcomes. Else landing would hang on a race with an unrelated failure.
    """
    graph = dag(("failed", "skipped"), "cancelled", "x")
    run = run_at(graph, failed=["failed"], cancelled=["cancelled"], running=["x"])
    run.land(DynamicModification([spec("n", "x", to=[name])], add_edges=[("x", name)]), "x")
    assert statuses(run, name, "n") == [name.upper(), "PENDING"]
    assert run.dag().dependents("n") == [name]
    run.succeed("x")
    assert run.take_ready(9) == ["n"]
    run.succeed("n")
    assert statuses(run, name, "n") == [name.upper(), "COMPLETED"]


@pytest.mark.parametrize("name", ["skipped", "cancelled"])
def test_removing_a_node_that_will_not_run(name: str) -> None:
    """Row "removing a SKIPPED or CANCELLED node": accepted; it stays, and is not in `removed`."""
    graph = dag(("failed", "skipped"), "cancelled", "x")
    run = run_at(graph, failed=["failed"], cancelled=["cancelled"], running=["x"])
    run.land(DynamicModification([spec("n", "x")], [name]), "x")
    assert statuses(run, name) == [name.upper()]
    assert run.removed() == ()
    assert name in run.dag()
    assert run.dag() == graph.apply(adding(spec("n", "x")))


@pytest.mark.parametrize(
    "modification",
    [
        adding(spec("n", "end", to=["skipped"])),
        DynamicModification(add_edges=[("end", "skipped")]),
        DynamicModification(add_edges=[("skipped", "skipped")]),
    ],
)
def test_a_cycle_through_a_node_that_will_not_run(modification: DynamicModification) -> None:
    """Row "a dependent or edge target that is SKIPPED or CANCELLED": a cycle is a fault even so."""
    run = run_at(dag(("failed", "skipped"), ("skipped", "end"), "x"), failed=["failed"])
    assert found(refusal(run, modification))[0][0] == "cycle"


@pytest.mark.parametrize("state", ["skipped", "cancelled"])
def test_a_cycle_through_a_removed_node_that_will_not_run(state: str) -> None:
    """Row "removing a SKIPPED or CANCELLED node": it stays, so a cycle over it is a fault."""
    graph = dag("failed", "start", ("start", "dead"), ("failed", "dead"), ("dead", "end"), "x")
    run = (
        run_at(graph, failed=["failed"])
        if state == "skipped"
        else run_at(graph, cancelled=["dead"])
    )
    assert statuses(run, "dead", "end") == [state.upper(), "SKIPPED"]
    modification = DynamicModification(remove_nodes=["dead"], add_edges=[("end", "start")])
    assert found(refusal(run, modification))[0][0] == "cycle"


def test_removing_an_edge_to_a_node_that_will_not_run() -> None:
    """Row "an edge target that is SKIPPED": its edges may be removed, and it stays SKIPPED."""
    run = run_at(dag(("failed", "skipped"), ("x", "skipped")), failed=["failed"])
    run.land(DynamicModification(remove_edges=[("failed", "skipped"), ("x", "skipped")]))
    assert run.dag().edges() == []
    assert statuses(run, "skipped") == ["SKIPPED"]


@pytest.mark.parametrize("how", ["dependent", "edge"])
def test_a_dependent_that_is_ready(how: str) -> None:
    """Row "a dependent that is ready but not started": it goes back to waiting (E9)."""
    run = run_at(dag("x", "ready"), running=["x"])
    assert statuses(run, "ready") == ["READY"]
    if how == "dependent":
        run.land(adding(spec("n", "x", to=["ready"])), "x")
    else:
        run.land(DynamicModification([spec("n", "x")], add_edges=[("n", "ready")]), "x")
    assert statuses(run, "ready", "n") == ["PENDING", "PENDING"]
    run.succeed("x")
    assert statuses(run, "ready", "n") == ["PENDING", "READY"]
    assert run.take_ready(9) == ["n"]
    run.succeed("n")
    assert statuses(run, "ready") == ["READY"]


def test_a_ready_dependent_of_a_completed_node() -> None:
    """Row "a dependent that is ready": an edge from a COMPLETED node holds nothing up."""
    run = run_at(dag("done", "x", "ready"), completed=["done"], running=["x"])
    run.land(DynamicModification(add_edges=[("done", "ready")]), "x")
    assert statuses(run, "ready") == ["READY"]
    assert run.dependencies("ready") == ("done",)


# --- rows: removing ------------------------------------------------------------------------------


def test_an_edge_to_remove_that_does_not_exist() -> None:
    """Row "an edge to remove that does not exist": fault, with what the target depends on."""
    graph = dag(("extract", "load"), ("clean", "load"), "store")
    cases = [
        (("store", "load"), "help: 'load' depends on 'extract', 'clean'"),
        (("load", "extract"), "help: 'extract' depends on nothing"),
        (("extrct", "load"), "help: did you mean 'extract'?"),
        (("extract", "laod"), "help: did you mean 'load'?"),
    ]
    for (source, target), help in cases:
        modification = DynamicModification(remove_edges=[(source, target)])
        for where in (graph, run_at(graph)):
            error = refusal(where, modification)
            assert found(error) == [("edge", target)]
            assert f"there is no edge from '{source}' to '{target}' to remove\n  {help}" in str(
                error
            )


@pytest.mark.parametrize(
    ("state", "places"),
    [
        ("RUNNING", {"completed": ["a"], "running": ["late"]}),
        ("COMPLETED", {"completed": ["a", "late"]}),
        ("FAILED", {"completed": ["a"], "failed": ["late"]}),
    ],
)
def test_an_edge_to_remove_whose_target_has_started(
    state: str, places: dict[str, list[str]]
) -> None:
    """Row "an edge to remove whose target has started or finished": fault."""
    run = run_at(dag(("a", "late")), **places)
    error = refusal(run, DynamicModification(remove_edges=[("a", "late")]))
    assert found(error) == [("started", "late")]
    assert f"the edge from 'a' to 'late' cannot be removed: 'late' is {state}" in str(error)
    assert "help: remove edges only to nodes that have not started" in str(error)


def test_removing_a_node_that_has_not_started() -> None:
    """Row "remove a node that has not started": it and its edges vanish; it is listed as removed.

    Freed dependents may become ready.
    """
    graph = dag(("x", "gone"), ("gone", "free"), ("gone", "held"), ("x", "held"), "ready")
    run = run_at(graph, running=["x"])
    run.land(removing("gone", "ready"), "x")
    assert run.removed() == ("gone", "ready")
    assert run.dag() == dag(("x", "held"), "free")
    assert statuses(run, "free", "held") == ["READY", "PENDING"]
    assert "gone" not in run.statuses()
    assert run.unfinished == 3
    run.succeed("x")
    assert statuses(run, "held") == ["READY"]
    assert run.take_ready(9) == []  # no thread is free in this run: they are ready, no more


@pytest.mark.parametrize("names", [("a", "b", "c"), ("c", "b", "a"), ("b", "c", "a")])
def test_removing_a_whole_path(names: Sequence[str]) -> None:
    """Row "remove a node that has not started": nodes that depend on each other go in any order."""
    run = Scheduler(dag(("a", "b"), ("b", "c"), ("c", "end")))
    run.land(removing(*names))
    assert run.removed() == tuple(names)
    assert run.take_ready(9) == ["end"]


def test_removing_a_node_and_its_edge() -> None:
    """Row "remove a node that has not started": one of its edges may be removed by name as well."""
    modification = DynamicModification(remove_nodes=["b"], remove_edges=[("b", "c"), ("a", "b")])
    run = Scheduler(dag(("a", "b"), ("b", "c")))
    run.land(modification)
    assert run.dag() == dag("a", "c") == dag(("a", "b"), ("b", "c")).apply(modification)
    assert run.take_ready(9) == ["a", "c"]


def test_removing_something_twice_in_one_modification() -> None:
    """Row "remove a node that has not started": a name or an edge listed twice counts once."""
    run = Scheduler(dag(("a", "b"), ("a", "c")))
    run.land(DynamicModification(remove_nodes=["b", "b"], remove_edges=[("a", "c"), ("a", "c")]))
    assert run.dag() == dag("a", "c")
    assert run.removed() == ("b",)
    assert run.unfinished == 2


def test_removing_a_node_that_was_removed_before() -> None:
    """Row "remove a node that was removed earlier": nothing; one that never existed is a fault."""
    run = Scheduler(dag("a", "table_users"))
    run.land(removing("table_users"))
    version = run.version
    run.land(removing("table_users"))
    assert run.removed() == ("table_users",)
    assert run.version == version
    run.land(adding(spec("table_orders")))
    error = refusal(run, removing("table_order"))
    assert found(error) == [("unknown", "table_order")]
    assert (
        "node 'table_order' cannot be removed: it does not exist\n"
        "  help: did you mean 'table_orders'?"
    ) in str(error)


@pytest.mark.parametrize("state", ["running", "completed", "failed"])
def test_removing_a_node_that_has_started(state: str) -> None:
    """Row "remove a node that is RUNNING, COMPLETED or FAILED": fault (S36)."""
    run = run_at(dag("a", "b"), **{state: ["a"]})
    error = refusal(run, removing("a", "b"))
    assert found(error) == [("started", "a")]
    assert (
        f"node 'a' cannot be removed: it is {state.upper()}\n"
        f"  help: remove only nodes that have not started"
    ) in str(error)
    word = "; cancel_nodes is the word for a running one"
    assert (word in str(error)) == (state == "running")


def test_an_expander_cannot_remove_its_own_node() -> None:
    """Row "remove a node that is RUNNING": the expanding node is, its ancestors completed."""
    text = refused(dag(("a", "b"), "c"), removing("a", "b", "c"), "b")
    assert "node 'b' cannot be removed: it is RUNNING" in text
    assert "node 'a' cannot be removed: it is COMPLETED" in text
    assert "2 faults" in text


# --- rows: growth --------------------------------------------------------------------------------


def test_more_than_max_nodes() -> None:
    """Row "more than `max_nodes` in the graph now": fault, nothing added; removals make room."""
    run = Scheduler(dag("a", "b", "c"), max_nodes=4)
    run.land(adding(spec("d")))
    error = refusal(run, adding(spec("e"), spec("f")))
    assert found(error) == [("limit", "e")]
    assert "adding 2 makes 6 nodes in the graph: max_nodes is 4" in str(error)
    assert "help: if the graph may become so large, pass a larger max_nodes" in str(error)
    run.land(DynamicModification([spec("e")], ["a"]))
    run.land(DynamicModification(remove_nodes=["b"], add_edges=[("c", "d")]))
    run.land(adding(spec("f")))
    assert len(run.dag()) == 4
    assert found(refusal(run, adding(spec("g")))) == [("limit", "g")]


def test_deeper_than_max_depth() -> None:
    """Row "deeper than `max_depth` (initial nodes have depth 0)": fault, nothing added."""
    run = Scheduler(dag("a"), max_depth=2)
    run.land(adding(spec("b", "a")), "a")
    run.land(adding(spec("c", "b")), "b")
    error = refusal(run, adding(spec("d", "c"), spec("e", "c")), "c")
    assert found(error) == [("limit", "d")]
    assert "node 'd' would be 3 expansions deep: max_depth is 2" in str(error)
    assert "help: if expanders may add expanding nodes so often, pass a larger max_depth" in str(
        error
    )
    run.land(adding(spec("outside", "c")))
    run.land(DynamicModification(remove_nodes=["outside"]), "c")
    assert [run.origin(name) for name in "abc"] == [(None, 0), ("a", 1), ("b", 2)]


def test_both_limits_are_reported() -> None:
    """Row "more than `max_nodes`, or deeper than `max_depth`": both, beside what else is wrong."""
    run = Scheduler(dag("a"), max_nodes=1, max_depth=1)
    run.land(DynamicModification(), "a")
    wide = Scheduler(dag("a"), max_nodes=2, max_depth=1)
    wide.land(adding(spec("b", "a")), "a")
    error = refusal(wide, adding(spec("c", "b"), spec("d", "ghost")), "b")
    assert found(error) == [("unknown", "ghost"), ("limit", "c"), ("limit", "c")]


# --- a modification as a whole -------------------------------------------------------------------


def test_forward_references() -> None:
    """E6: specs of one modification may name each other in any order, by either end."""
    specs = [
        spec("c", "b", to=["merge"]),
        spec("b", "a", "x"),
        spec("a", "x", to=["d"]),
        spec("d", to=["merge"]),
    ]
    graphs = []
    for order in (specs, specs[::-1], specs[2:] + specs[:2]):
        run = run_at(dag(("x", "merge")), running=["x"])
        run.land(adding(*order), "x")
        assert statuses(run, "a", "b", "c", "d", "merge") == ["PENDING"] * 5
        graphs += [run.dag(), dag(("x", "merge")).apply(adding(*order), "x")]
    assert all(graph == graphs[0] for graph in graphs)
    assert graphs[0].ancestors("c") == ["x", "a", "b"]


def test_three_faults_are_reported() -> None:
    """E7: a modification with three faults reports all three, in order, with all their helps."""
    run = run_at(dag(("discover", "merge"), "audit"), running=["discover", "audit"])
    modification = DynamicModification(
        [spec("merge"), spec("clean", "discovr"), spec("check", to=["audit"])]
    )
    error = refusal(run, modification, "discover")
    assert str(error) == (
        "the modification by 'discover' was refused, nothing was changed: 3 faults\n"
        "- node 'merge' cannot be added: it exists already\n"
        "  help: choose a new name: within a run a name means one node\n"
        "- node 'clean' depends on 'discovr', which does not exist\n"
        "  help: did you mean 'discover'?\n"
        "- 'audit' cannot wait for 'check': 'audit' is RUNNING already\n"
        "  help: name dependents that have not started"
    )
    assert found(error) == [("duplicate", "merge"), ("unknown", "discovr"), ("started", "audit")]


def test_every_part_of_a_modification_is_judged() -> None:
    """E7: faults of all four lists, and a cycle beside them, come in one error."""
    graph = dag(("a", "b"), ("b", "c"), "x")
    modification = DynamicModification(
        [spec("n", "c", to=["b"]), spec("a")],
        ["ghost"],
        add_edges=[("x", "ghosts")],
        remove_edges=[("c", "x")],
    )
    kinds = [kind for kind, _ in found(refusal(graph, modification))]
    assert kinds == ["edge", "unknown", "duplicate", "unknown", "cycle"]


def test_one_node_with_two_faults() -> None:
    """E7: a node whose name is taken has its edges looked at all the same."""
    error = refusal(dag("a", "b"), adding(spec("a", "ghost")))
    assert found(error) == [("duplicate", "a"), ("unknown", "ghost")]
    error = refusal(dag("a", "b"), adding(DynamicNodeSpec("a", print, ["b"], ["b"])))
    assert found(error) == [("duplicate", "a")]


def test_thousands_of_faults() -> None:
    """E7: of thousands of faults all are there; close names are looked for only for the first."""
    graph = dag(*(f"table_{n}" for n in range(100)))
    error = refusal(graph, adding(*(spec(f"n{n}", f"tabel_{n}") for n in range(3_000))))
    assert len(error.faults) == 3_000
    helps = [fault.help for fault in error.faults]
    assert all(help.startswith("did you mean 'table_") for help in helps[:10])
    assert not any(helps[10:])
    assert len(str(error)) < 2_000


def test_edges_are_rewired() -> None:
    """S34: `add_edges` and `remove_edges` put a new node between two that are there."""
    run = run_at(dag(("extract", "load"), ("load", "report")), running=["extract"])
    modification = DynamicModification(
        [spec("clean")],
        add_edges=[("extract", "clean"), ("clean", "load")],
        remove_edges=[("extract", "load")],
    )
    run.land(modification, "extract")
    expected = dag(("extract", "clean"), ("clean", "load"), ("load", "report"))
    assert run.dag() == expected == dag(("extract", "load"), ("load", "report")).apply(modification)
    run.succeed("extract")
    assert statuses(run, "clean", "load", "report") == ["READY", "PENDING", "PENDING"]


def test_a_node_is_freed_by_removing_its_edges() -> None:
    """S34: a node whose last unfinished dependency is cut off is ready, and not before."""
    run = run_at(dag(("a", "c"), ("b", "c"), ("a", "d"), "b"), completed=["a"], running=["b"])
    run.land(DynamicModification(remove_edges=[("a", "c")]), "b")
    assert statuses(run, "c") == ["PENDING"]
    run.land(DynamicModification(remove_edges=[("b", "c"), ("a", "d")]), "b")
    assert statuses(run, "c", "d") == ["READY", "READY"]


def test_an_edge_that_is_there_may_be_added_again() -> None:
    """S34: adding an edge that exists, or the same edge twice, counts once."""
    run = run_at(dag(("a", "b"), "x"), running=["a", "x"])
    modification = DynamicModification(
        [spec("n", "x", "x", to=["b", "b"])], add_edges=[("a", "b"), ("n", "b"), ("x", "n")]
    )
    run.land(modification, "x")
    assert run.dag().edges() == [("a", "b"), ("x", "n"), ("n", "b")]
    run.succeed("x")
    run.succeed("a")
    assert statuses(run, "n", "b") == ["READY", "PENDING"]


def test_edges_of_a_spec_count_once() -> None:
    """S11: a dependency or a dependent that a spec names twice is one edge, and held up once."""
    run = run_at(dag("a", "x", "b"), running=["x", "a"])
    run.land(adding(spec("n", "x", "a", "x", to=["b", "b"])), "x")
    assert run.dag().edges() == [("a", "n"), ("x", "n"), ("n", "b")]
    assert statuses(run, "b") == ["PENDING"]
    run.succeed("a")
    run.succeed("x")
    assert statuses(run, "n", "b") == ["READY", "PENDING"]
    assert run.take_ready(9) == ["n"]
    run.succeed("n")
    assert statuses(run, "b") == ["READY"]


def test_a_modification_is_applied_in_its_order() -> None:
    """Edges are removed, then nodes removed, nodes added, edges added: an edge may be made anew."""
    run = run_at(dag(("a", "b"), ("gone", "b")), running=["a"])
    run.land(
        DynamicModification(
            [spec("n", to=["b"])], ["gone"], add_edges=[("a", "b")], remove_edges=[("a", "b")]
        )
    )
    assert run.dependencies("b") == ("n", "a")
    run.succeed("a")
    assert statuses(run, "b", "n") == ["PENDING", "READY"]


def test_removing_a_ready_node_is_allowed() -> None:
    """S36: a node that is ready but not started can be removed; it never starts."""
    run = Scheduler(dag("x", "ready"), max_concurrency=1)
    assert run.take_ready(9) == ["x"]
    assert statuses(run, "ready") == ["READY"]
    run.land(removing("ready"), "x")
    run.succeed("x")
    assert run.take_ready(9) == []
    assert run.unfinished == 0


def test_an_empty_modification_changes_nothing() -> None:
    """S28: an empty modification changes nothing, not even the version."""
    run = Scheduler(dag("a"))
    before = snapshot(run)
    run.land(DynamicModification(add_nodes=[], remove_nodes=[]))
    assert snapshot(run) == before


# --- what tasks of new nodes need ----------------------------------------------------------------


def test_parameters_of_new_tasks_are_dependencies() -> None:
    """A parameter of a new node's task that names no direct dependency of it is a fault."""
    graph = dag(("discover", "merge"), "audit")
    modification = DynamicModification(
        [spec("n", "discover"), spec("m"), spec("k", "m")], add_edges=[("audit", "n")]
    )
    run = run_at(graph, running=["discover"])
    needs = {"n": ["discover", "audit", "inputs"], "k": ["m"], "m": []}
    run.land(modification, "discover", needs=needs)
    assert "n" in run.dag()

    run = run_at(graph, running=["discover"])
    with pytest.raises(ModificationError) as caught:
        run.land(modification, "discover", needs={"n": ["discovr"], "m": ["merge"]})
    assert found(caught.value) == [("signature", "n"), ("signature", "m")]
    first, second = map(str, caught.value.faults)
    assert first.startswith(
        "the task of node 'n' has a parameter 'discovr', which names no direct dependency of it\n"
        "  help: did you mean 'discover'?"
    )
    assert "(there is 'discover', 'audit')" in first
    assert "write 'inputs' for a dict of all of them, or give it a default" in first
    assert "it has no dependencies: give the parameter a default" in second
    assert "n" not in run.dag()


def test_parameters_of_nodes_that_only_grow_are_judged() -> None:
    """A modification that only adds nodes after started ones is judged as closely."""
    run = run_at(dag("x", "y"), running=["x"])
    with pytest.raises(ModificationError) as caught:
        run.land(adding(spec("m", "x"), spec("n", "x")), "x", needs={"m": ["x"], "n": ["y"]})
    assert found(caught.value) == [("signature", "n")]
    run.land(adding(spec("m", "x"), spec("n", "x")), "x", needs={"m": ["x"], "n": ["inputs"]})
    assert statuses(run, "m", "n") == ["PENDING", "PENDING"]


def test_parameters_of_a_node_that_is_refused_are_not_judged() -> None:
    """A node whose name is taken has that one fault, whatever its task needs."""
    run = run_at(dag("a"))
    with pytest.raises(ModificationError) as caught:
        run.land(adding(spec("a")), needs={"a": ["b"]})
    assert found(caught.value) == [("duplicate", "a")]


def test_parameters_of_initial_tasks_read_the_same() -> None:
    """`unfilled` gives the parameters that nothing fills; `inputs` is always filled."""
    assert unfilled(["a", "inputs", "b"], ["a"]) == ["b"]


def test_faults_of_the_caller_come_first() -> None:
    """What the caller of `land` found is reported with the rest, and is enough to refuse."""
    run = Scheduler(dag("a"))
    before = snapshot(run)
    mine = Fault("signature", "n", "its task is a generator function")
    for modification, kinds in [
        (adding(spec("n")), ["signature"]),
        (adding(spec("n", "ghost")), ["signature", "unknown"]),
    ]:
        with pytest.raises(ModificationError) as caught:
            run.land(modification, faults=[mine])
        assert [fault.kind for fault in caught.value.faults] == kinds
    assert snapshot(run) == before


# --- lists that were changed after the modification was made -------------------------------------


def break_specs(modification: DynamicModification) -> None:
    modification.add_nodes.append("not a spec")


def break_dependencies(modification: DynamicModification) -> None:
    modification.add_nodes[0].dependencies.append(["a"])


def break_removed_nodes(modification: DynamicModification) -> None:
    modification.remove_nodes.append(["a"])


def break_added_edges(modification: DynamicModification) -> None:
    modification.add_edges.append(("a",))


def break_removed_edges(modification: DynamicModification) -> None:
    modification.remove_edges.append(("a",))


def break_cancelled_nodes(modification: DynamicModification) -> None:
    modification.cancel_nodes.append(["a"])


@pytest.mark.parametrize(
    "spoil",
    [
        break_specs,
        break_dependencies,
        break_removed_nodes,
        break_added_edges,
        break_removed_edges,
        break_cancelled_nodes,
    ],
)
def test_a_spoiled_modification_is_refused(spoil: Callable[[DynamicModification], None]) -> None:
    """A list that was filled with something unusable later is a fault, and nothing has changed."""
    modification = DynamicModification([spec("n", "a")], add_edges=[("n", "b")])
    spoil(modification)
    for where in (dag("a", "b"), Scheduler(dag("a", "b"))):
        error = refusal(where, modification)
        assert error.faults[-1].kind == "invalid"
        assert error.faults[-1].help


@pytest.mark.parametrize("spoil", [break_specs, break_dependencies])
def test_spoiled_growth_is_refused(spoil: Callable[[DynamicModification], None]) -> None:
    """A modification that only adds nodes after started ones is looked at as closely."""
    modification = adding(spec("n", "a"))
    spoil(modification)
    error = refusal(run_at(dag("a"), running=["a"]), modification, "a")
    assert [fault.kind for fault in error.faults] == ["invalid"]


def test_lists_are_read_when_the_modification_lands() -> None:
    """A modification may still be filled after it was made: its lists are read when it lands."""
    modification = DynamicModification()
    modification.add_nodes.append(DynamicNodeSpec("n", nothing))
    modification.add_nodes[0].dependencies.append("a")
    assert dag("a").apply(modification).edges() == [("a", "n")]


def test_a_modification_can_be_checked_before_it_lands() -> None:
    """`check` refuses what `land` would, with the caller's faults first, and changes nothing."""
    run = run_at(dag("x", ("x", "a")), running=["x"])
    before = snapshot(run)
    good = DynamicModification([spec("n", "x")], remove_edges=[("x", "a")])
    assert list(run.check(good, "x").added_nodes) == ["n"]
    mine = Fault("signature", "n", "its task is a generator function")
    for modification, faults, kinds in [
        (good, [mine], ["signature"]),
        (adding(spec("a", "ghost")), [mine], ["signature", "duplicate", "unknown"]),
        (adding(spec("a")), [], ["duplicate"]),
    ]:
        with pytest.raises(ModificationError) as caught:
            run.check(modification, "x", faults=faults)
        assert [fault.kind for fault in caught.value.faults] == kinds
    assert snapshot(run) == before
    assert run.has_edge("x", "a")
    assert not run.has_edge("a", "x")


def test_examination_changes_nothing() -> None:
    """`examine` is pure: it returns what a modification comes to, and changes nothing."""
    graph = dag(("a", "b"))
    before = snapshot(graph._graph)
    modification = DynamicModification(
        [spec("n", "a")], ["b"], add_edges=[("a", "n")], remove_edges=[("a", "b")]
    )
    landing = examine(modification, graph._graph, {})
    assert snapshot(graph._graph) == before
    assert landing.faults == []
    assert landing.removed_edges == [("a", "b")]
    assert landing.removed_nodes == ["b"]
    assert list(landing.added_nodes) == ["n"]
    assert landing.added_edges == [("a", "n"), ("a", "n")]
