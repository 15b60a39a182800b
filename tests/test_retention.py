"""Which completed nodes are spare: the scheduler with ``keep``, driven by hand."""

import pytest

from dagron import DAG, DynamicModification, Fold, NodePolicy, any_succeeded
from dagron._blame import Blame, Why
from dagron._edge import Edge
from dagron._scheduler import Scheduler
from machine import (
    adding,
    dag,
    found,
    no,
    pools,
    refusal,
    refused,
    removing,
    snapshot,
    spec,
    statuses,
    when,
    yes,
)


def keeping(keep: str, graph: DAG) -> Scheduler:
    """A run of the graph in which all that may start runs."""
    scheduler = Scheduler(graph, keep=keep)
    scheduler.take_ready(100)
    return scheduler


def complete(scheduler: Scheduler, *names: str) -> None:
    """Complete these nodes, one after another, and let all that may start run."""
    for name in names:
        scheduler.succeed(name)
        scheduler.take_ready(100)


def spare(scheduler: Scheduler) -> list[str]:
    return list(scheduler.retention.spare)


def forget(scheduler: Scheduler) -> list[str]:
    """Forget what is spare, as the shell does; return what is left."""
    for name in spare(scheduler):
        scheduler.forget(name)
    return list(scheduler.statuses())


# --- the three words -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keep", "left"), [("all", ["a", "b", "c"]), ("leaves", ["c"]), ("failures", [])]
)
def test_what_is_left_of_a_chain_that_succeeded(keep: str, left: list[str]) -> None:
    """All nodes, those on which nothing depends, or none."""
    scheduler = keeping(keep, dag(("a", "b"), ("b", "c")))
    for name in "abc":
        complete(scheduler, name)
        forget(scheduler)
    assert list(scheduler.statuses()) == left
    assert scheduler.forgotten == 3 - len(left)
    assert scheduler.unfinished == scheduler.running == 0


def test_a_node_is_spare_when_its_last_dependent_has_ended() -> None:
    """Not when it completes, and not when the first of two dependents does."""
    scheduler = keeping("leaves", dag(("a", "b"), ("a", "c")))
    seen = [spare(scheduler)]
    for name in "abc":
        complete(scheduler, name)
        seen.append(spare(scheduler))
    assert seen == [[], [], [], ["a"]]


@pytest.mark.parametrize("how", ["fail", "cancel", "skip"])
def test_a_dependent_that_did_not_succeed_has_ended_too(how: str) -> None:
    """Whatever became of the last dependent, the node is spare; the dependent itself stays."""
    scheduler = keeping("failures", dag(("a", "b"), ("x", "b")))
    complete(scheduler, "a")
    if how == "skip":
        scheduler.fail("x")
    elif how == "cancel":
        scheduler.cancel("b", Blame(Why.OUTSIDE))
        complete(scheduler, "x")
    else:
        complete(scheduler, "x")
        scheduler.fail("b")
    assert "a" in spare(scheduler)
    assert "a" not in forget(scheduler)
    assert "b" in scheduler.statuses()
    assert scheduler.dependencies("b") == ("x",) * (how == "skip")


def test_nodes_that_failed_were_skipped_or_cancelled_stay() -> None:
    """With keep="failures", just what did not succeed is left, with its reason."""
    scheduler = keeping("failures", dag("a", ("f", "s"), "c"))
    complete(scheduler, "a")
    scheduler.fail("f")
    scheduler.cancel("c", Blame(Why.OUTSIDE))
    assert forget(scheduler) == ["f", "s", "c"]
    assert scheduler.blame("s") == Blame(Why.FAILED, "f")
    assert scheduler.blame("c") == Blame(Why.OUTSIDE)


def test_nodes_that_are_cancelled_with_the_rest_release_what_they_depend_on() -> None:
    """The end of a run ends the dependents of what had completed."""
    scheduler = keeping("leaves", dag(("a", "b"), ("x", "b")))
    complete(scheduler, "a")
    scheduler.cancel_rest()
    assert spare(scheduler) == ["a"]


def test_a_node_that_a_condition_skips_has_ended() -> None:
    """It is skipped by the very success that would have started it."""
    scheduler = keeping("failures", dag(Edge("a", "b", no)))
    scheduler.succeed("a", untaken={"b"})
    assert statuses(scheduler, "b") == ["SKIPPED"]
    assert forget(scheduler) == ["b"]


def test_a_node_that_started_early_may_be_forgotten_before_its_sources_have_ended() -> None:
    """Nobody needs it: the source's end then finds one dependent fewer."""
    graph = dag(("a", "f"), ("b", "f"), policies={"f": when(any_succeeded)})
    scheduler = keeping("failures", graph)
    complete(scheduler, "a", "f")
    assert forget(scheduler) == ["b"]
    complete(scheduler, "b")
    assert forget(scheduler) == []


# --- what was forgotten is gone ------------------------------------------------------------------


def test_forgetting_leaves_nothing_behind() -> None:
    """But for counts, a run is as it was before the node was added: no name, edge, policy, depth.

    The node has all that a node can have: edges both ways, conditions, a group, a worker slot, and
    a dependent.
    """
    workers = {"on_threads": ["end"], "max_workers": 2}
    scheduler = Scheduler(dag("by", "end"), **workers, pools=pools(g=1), keep="failures")
    scheduler.take_ready(100)
    before = state(scheduler)
    policy = NodePolicy(keep="all", trigger=any_succeeded, priority=2, group="g")
    edges = [Edge("by", "c", yes), Edge("c", "d", yes)]
    change = DynamicModification([spec("c", policy=policy), spec("d")], add_edges=edges)
    scheduler.land(change, "by", on_threads=["c"], settled=True)
    assert state(scheduler) != before
    scheduler.take_ready(100)
    scheduler.succeed("c")
    scheduler.return_worker("c")
    scheduler.take_ready(100)
    complete(scheduler, "d")
    assert forget(scheduler) == ["by", "end"]
    assert state(scheduler) == before


def state(scheduler: Scheduler) -> str:
    """All that the scheduler holds of nodes and edges."""
    _, fields = snapshot(scheduler)  # type: ignore[misc]
    counts = ("version", "forgotten", "_dag", "_admission")
    found = [(field, value) for field, value in fields if field not in counts]
    return str(found).replace("'mapping', []", "'tuple', []")  # no neighbours are none


def test_a_forgotten_name_is_free() -> None:
    """A new node of that name is another node: with other edges, and its own end."""
    scheduler = keeping("failures", dag("root"))
    for turn in range(3):
        scheduler.land(adding(spec("again", policy=NodePolicy(priority=turn))), "root")
        scheduler.take_ready(1)
        assert scheduler.policies["again"].priority == turn
        complete(scheduler, "again")
        assert forget(scheduler) == ["root"]
    assert scheduler.forgotten == 3
    scheduler.land(adding(spec("again", "root")), "root")
    assert scheduler.dependencies("again") == ("root",)
    assert statuses(scheduler, "again") == ["PENDING"]


def test_a_new_node_of_a_forgotten_name_is_no_parent_of_the_old_ones_children() -> None:
    """The order is that of a graph in which a node comes after those that were there before it."""
    scheduler = keeping("failures", dag("root", "end"))
    scheduler.land(adding(spec("a")), "root")
    scheduler.take_ready(1)
    scheduler.land(adding(spec("b")), "a")
    complete(scheduler, "a")
    assert forget(scheduler) == ["root", "end", "b"]
    scheduler.land(adding(spec("a")), "b")
    assert scheduler.dag().topological_order() == ["root", "end", "b", "a"]
    assert scheduler.origin("a") == ("b", 3)


def test_a_node_whose_dependents_were_forgotten_is_no_leaf() -> None:
    """Whatever is forgotten first: the last nodes of the graph are its leaves, and no others."""
    graph = dag(("a", "f"), ("b", "f"), ("f", "g"), policies={"f": when(any_succeeded)})
    scheduler = keeping("leaves", graph)
    complete(scheduler, "b", "f", "g")
    assert forget(scheduler) == ["a", "g"]
    complete(scheduler, "a")
    assert forget(scheduler) == ["g"]


def test_nodes_in_the_graph_are_what_max_nodes_bounds() -> None:
    """Forgotten nodes make room."""
    scheduler = Scheduler(dag("root"), max_nodes=2, keep="failures")
    scheduler.take_ready(1)
    for number in range(5):
        scheduler.land(adding(spec(f"n{number}")), "root")
        assert "max_nodes is 2" in refused(scheduler, adding(spec("more")), "root")
        scheduler.take_ready(1)
        complete(scheduler, f"n{number}")
        forget(scheduler)
    assert scheduler.forgotten == 5


# --- the graph changes ---------------------------------------------------------------------------


def test_a_leaf_that_gets_a_dependent_is_one_no_longer() -> None:
    """An edge from a completed leaf, added later: when its target has ended, the leaf is spare."""
    scheduler = keeping("leaves", dag("a", "by"))
    complete(scheduler, "a")
    assert forget(scheduler) == ["a", "by"]
    scheduler.land(adding(spec("b", "a"), spec("c", "a")), "by")
    scheduler.take_ready(100)
    complete(scheduler, "b")
    assert spare(scheduler) == []
    complete(scheduler, "c")
    assert forget(scheduler) == ["by", "b", "c"]


@pytest.mark.parametrize("how", ["spec", "add_edges"])
def test_a_spare_node_that_is_needed_again_is_not_forgotten(how: str) -> None:
    """A dependent that comes between the end of the last one and the forgetting is waited for."""
    scheduler = keeping("failures", dag("a", "by", ("by", "later")))
    complete(scheduler, "a")
    assert spare(scheduler) == ["a"]
    edge = DynamicModification(add_edges=[("a", "later")])
    scheduler.land(adding(spec("b", "a")) if how == "spec" else edge, "by")
    assert not scheduler.forget("a")
    assert spare(scheduler) == []
    if how == "spec":
        scheduler.take_ready(1)
        complete(scheduler, "b")
    else:
        complete(scheduler, "by", "later")
    assert "a" in spare(scheduler)


def test_a_dependent_that_is_removed_needs_nothing() -> None:
    """With the last of them gone, a node is spare under "failures", and a leaf under "leaves"."""
    for keep, left in (("failures", ["by"]), ("leaves", ["a", "by"])):
        scheduler = keeping(keep, dag(("a", "b"), ("by", "b"), ("a", "c"), ("by", "c")))
        complete(scheduler, "a")
        scheduler.land(removing("b"), "by")
        assert spare(scheduler) == []
        scheduler.land(removing("c"), "by")
        assert forget(scheduler) == left, keep


def test_an_edge_that_is_removed_needs_nothing() -> None:
    """As with a node that is removed; an edge that is there again counts again."""
    edges = [("a", "b"), ("by", "b")]
    scheduler = keeping("failures", dag(*edges))
    complete(scheduler, "a")
    scheduler.land(DynamicModification(remove_edges=[("a", "b")], add_edges=[("a", "b")]), "by")
    assert spare(scheduler) == []
    scheduler.land(DynamicModification(remove_edges=[("a", "b")]), "by")
    assert forget(scheduler) == ["b", "by"]


def test_an_edge_to_a_dead_node_is_no_need_and_makes_no_leaf() -> None:
    """A skipped node waits for nothing; but what has a dependent is no leaf."""
    scheduler = keeping("leaves", dag("a", ("x", "dead"), "by"))
    complete(scheduler, "a")
    scheduler.fail("x")
    scheduler.land(DynamicModification(add_edges=[("a", "dead")]), "by")
    assert spare(scheduler) == ["a"]
    scheduler.land(DynamicModification(remove_edges=[("a", "dead")]), "by")
    assert forget(scheduler) == ["a", "x", "dead", "by"]


def test_an_edge_to_a_dead_node_adds_no_need() -> None:
    """Nor does it while others are waited for."""
    scheduler = keeping("leaves", dag(("a", "b"), ("x", "dead"), "by"))
    complete(scheduler, "a")
    scheduler.fail("x")
    scheduler.land(DynamicModification(add_edges=[("a", "dead")]), "by")
    complete(scheduler, "b")
    assert spare(scheduler) == ["a"]


def test_an_edge_to_a_dead_node_was_no_need() -> None:
    """Without it a node is still waited for by the others."""
    scheduler = keeping("leaves", dag(("a", "b"), ("a", "dead"), ("x", "dead"), "by"))
    complete(scheduler, "a")
    scheduler.fail("x")
    scheduler.land(DynamicModification(remove_edges=[("a", "dead")]), "by")
    assert spare(scheduler) == []
    complete(scheduler, "b")
    assert spare(scheduler) == ["a"]


# --- what a node says of its children ------------------------------------------------------------


@pytest.mark.parametrize(
    ("keep", "left"),
    [("all", ["by", "c"]), ("leaves", ["by", "c"]), ("failures", ["by"]), (Fold(max, int), ["by"])],
)
def test_a_node_says_what_stays_of_its_children(keep: object, left: list[str]) -> None:
    """Over what the run says; a fold leaves nothing."""
    graph = dag("by", policies={"by": NodePolicy(keep=keep)})
    for default in ("all", "failures"):
        scheduler = keeping(default, graph)
        scheduler.land(adding(spec("c")), "by")
        scheduler.take_ready(1)
        complete(scheduler, "c")
        assert forget(scheduler) == left
        complete(scheduler, "by")
        assert ("by" in forget(scheduler)) == (default == "all")


def test_what_is_kept_of_a_name_is_forgotten_with_the_node() -> None:
    """A second node of that name, which somebody else added, is kept as that one says."""
    graph = dag("by", "other", policies={"by": NodePolicy(keep="failures")})
    scheduler = keeping("all", graph)
    scheduler.land(adding(spec("c")), "by")
    scheduler.take_ready(1)
    complete(scheduler, "c")
    assert forget(scheduler) == ["by", "other"]
    scheduler.land(adding(spec("c")), "other")
    scheduler.take_ready(1)
    complete(scheduler, "c")
    assert forget(scheduler) == ["by", "other", "c"]


def test_a_kept_node_between_forgotten_ones_is_kept() -> None:
    """ "all" of a node's children, in a run that keeps failures alone."""
    graph = dag("by", policies={"by": NodePolicy(keep="all")})
    scheduler = keeping("failures", graph)
    scheduler.land(adding(spec("c", "by")), "by", settled=True)
    scheduler.take_ready(1)
    complete(scheduler, "c", "by")
    assert forget(scheduler) == ["c"]
    assert scheduler.dependencies("c") == ()


# --- words ---------------------------------------------------------------------------------------


def forgetful() -> Scheduler:
    """A run that has forgotten "lost", removed "gone", and in which "by" runs and "late" waits."""
    scheduler = keeping("failures", dag("lost", ("by", "late"), ("by", "gone")))
    complete(scheduler, "lost")
    forget(scheduler)
    scheduler.land(removing("gone"), "by")
    return scheduler


ONE = "1 node of this run was forgotten (keep=...)"


@pytest.mark.parametrize(
    "modification",
    [
        adding(spec("new", "lost")),
        adding(spec("new", to=["lost"])),
        removing("lost"),
        DynamicModification(add_edges=[("lost", "late")]),
        DynamicModification(remove_edges=[("lost", "late")]),
        DynamicModification(cancel_nodes=["lost"]),
    ],
    ids=["dependency", "dependent", "remove", "add_edge", "remove_edge", "cancel"],
)
def test_a_forgotten_name_is_unknown_and_the_error_says_what_may_be_why(
    modification: DynamicModification,
) -> None:
    """Wherever a modification names it."""
    error = refusal(forgetful(), modification, "by")
    assert len(error.faults) == 1
    assert error.faults[0].help.endswith(ONE)


def test_the_error_counts_the_forgotten_nodes() -> None:
    """However many faults a modification has, each says how many names may be meant."""
    names = [f"n{number}" for number in range(1_234)]
    scheduler = keeping("failures", dag(*names, "by"))
    for name in names:
        complete(scheduler, name)
    assert forget(scheduler) == ["by"]
    error = refusal(scheduler, removing(*names[:12]), "by")
    assert found(error) == [("unknown", name) for name in names[:12]]
    note = "1,234 nodes of this run were forgotten (keep=...)"
    assert {fault.help.endswith(note) for fault in error.faults} == {True}
    assert error.faults[-1].help == note


@pytest.mark.parametrize(
    "modification",
    [
        adding(spec("new", "gone")),
        adding(spec("by")),
        removing("by"),
        DynamicModification(add_edges=[("by", "by")]),
    ],
)
def test_faults_that_forgetting_cannot_explain_say_nothing_of_it(
    modification: DynamicModification,
) -> None:
    """A name that is known, in the graph or as a removed one, is no forgotten one."""
    assert "forgotten" not in refused(forgetful(), modification, "by")


def test_a_run_that_has_forgotten_nothing_says_nothing_of_it() -> None:
    """The usual error for an unknown name."""
    scheduler = keeping("failures", dag("by"))
    assert "forgotten" not in refused(scheduler, removing("lost"), "by")
