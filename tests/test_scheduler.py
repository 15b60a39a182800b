"""The scheduler, driven by hand: what may start, what an outcome releases, what is refused."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import dagron
from dagron import DAG, DynamicModification, ModificationError, NodeStatus
from dagron._blame import Blame, Why
from dagron._scheduler import Scheduler
from machine import adding, chain, dag, run_at, snapshot, spec, statuses

LONG = 100_000


def run_to_the_end(run: Scheduler, failing: str = "") -> list[str]:
    """Start and end everything, one after the other; return the names as they started."""
    started = []
    while taken := run.take_ready(1):
        started += taken
        if taken[0] in run.working:
            run.return_worker(taken[0])
        run.fail(taken[0]) if taken[0] == failing else run.succeed(taken[0])
    return started


# --- readiness -----------------------------------------------------------------------------------


def test_an_empty_graph_is_finished() -> None:
    """E18: a run of an empty graph has nothing to start and nothing unfinished."""
    run = Scheduler(DAG())
    assert run.take_ready(1) == []
    assert run.unfinished == run.running == 0


def test_nodes_without_dependencies_are_ready() -> None:
    """At first, nodes without dependencies are READY, in insertion order; others PENDING."""
    run = Scheduler(dag("z", "a", ("m", "n"), "b"))
    assert statuses(run, "z", "a", "m", "b", "n") == ["READY"] * 4 + ["PENDING"]
    assert run.unfinished == 5
    assert run.take_ready(9) == ["z", "a", "m", "b"]
    assert run.running == 4
    assert run.unfinished == 5


def test_a_node_is_ready_when_its_last_dependency_has_completed() -> None:
    """A merge counts its dependencies down: it is READY after the last of them, not before."""
    run = Scheduler(dag(*((name, "merge") for name in "abc")))
    run.take_ready(9)
    for name in "ca":
        run.succeed(name)
        assert statuses(run, "merge") == ["PENDING"]
        assert run.take_ready(9) == []
    run.succeed("b")
    assert statuses(run, "merge") == ["READY"]
    assert run.take_ready(9) == ["merge"]


def test_dependents_are_released_in_edge_order() -> None:
    """What an outcome releases starts in the order of its edges."""
    run = Scheduler(dag("c", "a", "b", ("x", "b"), ("x", "c"), ("x", "a")))
    assert run.take_ready(9) == ["x"]
    run.succeed("x")
    assert run.take_ready(9) == ["b", "c", "a"]


def test_only_as_many_as_asked_for() -> None:
    """`take_ready` returns at most as many as asked for; the others stay READY, in their turn."""
    run = Scheduler(dag(*"abcde"))
    assert run.take_ready(0) == []
    assert run.take_ready(2) == ["a", "b"]
    assert statuses(run, *"abcde") == ["RUNNING"] * 2 + ["READY"] * 3
    assert run.take_ready(9) == ["c", "d", "e"]
    assert run.take_ready(9) == []


def test_the_expanding_node_holds_its_dependents() -> None:
    """S21: between the task's end and the landing, `final` cannot start; S17: it waits for all."""
    run = Scheduler(dag(("discover", "final")))
    assert run.take_ready(9) == ["discover"]
    assert run.take_ready(9) == []
    run.land(adding(*(spec(f"p{n}", "discover", to=["final"]) for n in range(3))), "discover")
    assert run.take_ready(9) == []
    assert statuses(run, "p0", "p1", "p2", "final") == ["PENDING"] * 4
    run.succeed("discover")
    assert run.take_ready(9) == ["p0", "p1", "p2"]
    for name in ("p0", "p1"):
        run.succeed(name)
    assert run.take_ready(9) == []
    run.succeed("p2")
    assert run.take_ready(9) == ["final"]


def test_children_of_a_node_that_fails_after_all_are_skipped() -> None:
    """A node whose modification has landed may still fail: what waits for it is SKIPPED."""
    run = Scheduler(dag("x"))
    run.take_ready(1)
    run.land(adding(spec("child", "x"), spec("free")), "x")
    run.fail("x")
    assert statuses(run, "x", "child", "free") == ["FAILED", "SKIPPED", "READY"]


def test_a_ready_node_that_gets_a_dependency_waits_again() -> None:
    """E9: a node that became ready and then gets a new dependency is not taken; it waits again."""
    run = Scheduler(dag("x", "ready", "other"), max_concurrency=1)
    assert run.take_ready(9) == ["x"]
    assert statuses(run, "ready") == ["READY"]
    run.land(adding(spec("n", "x", to=["ready"])), "x")
    assert statuses(run, "ready") == ["PENDING"]
    run.succeed("x")
    assert run_to_the_end(run) == ["other", "n", "ready"]


def test_a_node_that_waited_again_goes_to_the_end_of_the_line() -> None:
    """A node that went back to waiting and is ready anew starts after who was ready before."""
    run = Scheduler(
        dag("x", "busy", "held", "patient"), on_threads=["busy", "held", "patient"], max_workers=1
    )
    assert run.take_ready(9) == ["x", "busy"]
    run.land(adding(spec("n", to=["held"])), "x")
    assert run.take_ready(9) == ["n"]
    run.succeed("n")
    assert statuses(run, "held", "patient") == ["READY", "READY"]
    run.return_worker("busy")
    assert run.take_ready(9) == ["patient"]


# --- admission -----------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 7, 10, None])
def test_the_bound_on_nodes_holds(limit: int | None) -> None:
    """At `max_concurrency` 1, 2, n and none, so many run at once, and no place idles."""
    names = [str(n) for n in range(10)]
    run = Scheduler(dag(*names), max_concurrency=limit)
    first = run.take_ready(100)
    assert first == names[:limit]
    for position, name in enumerate(first):
        run.succeed(name)
        place = position + len(first)
        assert run.take_ready(100) == names[place : place + 1]


@pytest.mark.parametrize("limit", [1, 2, 10])
def test_the_bound_on_workers_holds(limit: int) -> None:
    """At `max_workers` 1, 2 and n, so many nodes on threads run at once, and no slot idles."""
    names = [str(n) for n in range(10)]
    run = Scheduler(dag(*names), on_threads=names, max_workers=limit)
    first = run.take_ready(100)
    assert first == names[:limit]
    assert run.working == {*first}
    for position, name in enumerate(first):
        run.return_worker(name)
        assert name not in run.working
        run.succeed(name)
        place = position + limit
        assert run.take_ready(100) == names[place : place + 1]


def test_a_worker_is_kept_until_it_is_returned() -> None:
    """A slot is the thread's: the end of the node does not free it, `return_worker` does."""
    run = Scheduler(dag("a", "b"), on_threads=["a", "b"], max_workers=1)
    assert run.take_ready(9) == ["a"]
    run.cancel("a")
    assert run.take_ready(9) == []
    assert run.working == {"a"}
    run.return_worker("a")
    assert run.working == set()
    assert run.take_ready(9) == ["b"]


def test_nodes_that_wait_for_a_thread_hold_nothing_back() -> None:
    """With all workers busy, nodes on the loop start past those that wait for a thread."""
    names = ["t1", "t2", "a1", "t3", "a2"]
    run = Scheduler(dag(*names), on_threads=["t1", "t2", "t3"], max_workers=1)
    assert run.take_ready(9) == ["t1", "a1", "a2"]
    run.return_worker("t1")
    assert run.take_ready(9) == ["t2"]


@pytest.mark.parametrize("on_threads", [[], ["b", "d"], ["a", "c"], ["d"], [*"abcd"]])
def test_the_readiest_goes_first_whatever_its_kind(on_threads: list[str]) -> None:
    """Turns are by readiness over both kinds: with a free worker, neither kind has precedence."""
    run = Scheduler(
        dag(*"abcd", ("a", "y"), ("b", "x")),
        on_threads=on_threads,
        max_workers=1,
        max_concurrency=1,
    )
    assert run_to_the_end(run) == ["a", "b", "c", "d", "y", "x"]


def test_both_bounds_hold_together() -> None:
    """A node on a thread needs a place and a worker; without a place it takes no worker."""
    run = Scheduler(dag(*"abcd"), on_threads=["a", "b", "c"], max_workers=2, max_concurrency=2)
    assert run.take_ready(9) == ["a", "b"]
    run.return_worker("a")
    assert run.take_ready(9) == []
    run.succeed("b")
    assert run.take_ready(9) == ["c"]
    assert run.running == 2
    assert run.working == {"b", "c"}


def test_a_node_in_flight_goes_before_ready_ones() -> None:
    """A returned worker goes to the node in flight that asked first, not to a ready one."""
    names = ["t1", "a1", "a2", "t2"]
    run = Scheduler(dag(*names), on_threads=["t1", "t2"], max_workers=1)
    assert run.take_ready(9) == ["t1", "a1", "a2"]
    assert run.ask("a1", worker=True) is False
    assert run.ask("a2", worker=True) is False
    assert run.working == {"t1"}
    assert run.take_ready(9) == []
    run.return_worker("t1")
    assert run.take_ready(9) == ["a1"]
    assert run.working == {"a1"}
    run.return_worker("a1")
    assert run.take_ready(9) == ["a2"]
    run.return_worker("a2")
    assert run.take_ready(9) == ["t2"]
    assert statuses(run, "a1", "a2") == ["RUNNING", "RUNNING"]
    assert run.running == 4


def test_a_free_worker_is_given_at_once() -> None:
    """A node in flight that asks gets a free worker, which is then not there for ready nodes."""
    run = Scheduler(dag("a", "x", ("x", "t")), on_threads=["t"], max_workers=1)
    assert run.take_ready(9) == ["a", "x"]
    assert run.ask("a", worker=True) is True
    assert run.working == {"a"}
    run.succeed("x")
    assert run.take_ready(9) == []
    run.return_worker("a")
    assert run.take_ready(9) == ["t"]


def test_a_request_can_be_taken_back() -> None:
    """A node that stops asking is passed over; to stop when one does not ask changes nothing."""
    run = Scheduler(dag("t", "a", "b"), on_threads=["t"], max_workers=1)
    run.take_ready(9)
    run.ask("a", worker=True)
    run.ask("b", worker=True)
    run.stop_asking("a")
    run.stop_asking("a")
    run.return_worker("t")
    assert run.take_ready(9) == ["b"]
    run.stop_asking("b")
    assert run.working == {"b"}


def test_a_node_that_is_no_longer_ready_takes_no_slot() -> None:
    """Nodes that were removed, cancelled, skipped or held up while they were ready leave no gap."""
    names = ["x", "removed", "cancelled", "held", "doomed", "failed", "fine"]
    run = Scheduler(dag(*names), on_threads=["removed", "held", "fine"], max_concurrency=2)
    assert run.take_ready(1) == ["x"]
    run.land(
        DynamicModification([spec("n", to=["held"])], ["removed"], add_edges=[("x", "doomed")]), "x"
    )
    run.cancel("cancelled")
    run.fail("x")
    assert statuses(run, *names[2:5]) == ["CANCELLED", "PENDING", "SKIPPED"]
    assert run.take_ready(9) == ["failed", "fine"]


def test_added_nodes_are_admitted_like_others() -> None:
    """A node that is added on a thread needs a worker like an initial one."""
    run = Scheduler(dag("x"), max_workers=1)
    run.take_ready(1)
    run.land(adding(spec("t1"), spec("t2"), spec("a")), "x", on_threads=["t1", "t2"])
    assert run.take_ready(9) == ["t1", "a"]
    assert run.working == {"t1"}


def test_100_000_ready_nodes_come_in_batches() -> None:
    """100,000 ready nodes are taken batch by batch, in insertion order, each once."""
    names = [str(n) for n in range(LONG)]
    run = Scheduler(dag(*names))
    taken = []
    while batch := run.take_ready(256):
        assert len(batch) <= 256
        taken += batch
    assert taken == names


# --- outcomes ------------------------------------------------------------------------------------


def test_a_failed_node_skips_its_descendants() -> None:
    """S26: descendants of a failed node are SKIPPED and name it; independent branches finish."""
    graph = dag(("a", "b"), ("b", "c"), ("a", "d"), ("x", "y"), ("y", "c"))
    run = Scheduler(graph)
    assert run.take_ready(9) == ["a", "x"]
    run.fail("a")
    assert statuses(run, *"abcdxy") == [
        *("FAILED", "SKIPPED", "SKIPPED", "SKIPPED", "RUNNING", "PENDING")
    ]
    because_of_a = Blame(Why.FAILED, "a")
    assert [run.blame(name) for name in "bcd"] == [because_of_a] * 3
    assert [run.blame(name) for name in "axy"] == [None] * 3
    assert str(because_of_a) == "skipped because 'a' failed"
    run.succeed("x")
    assert run_to_the_end(run) == ["y"]
    assert statuses(run, "c", "y") == ["SKIPPED", "COMPLETED"]
    assert run.unfinished == run.running == 0


def test_the_first_failure_is_to_blame() -> None:
    """A node below two failures is SKIPPED once, by the first, and stays so."""
    run = Scheduler(dag(("a", "c"), ("b", "c"), ("c", "d")))
    run.take_ready(9)
    run.fail("b")
    run.fail("a")
    assert [run.blame(name) for name in "cd"] == [Blame(Why.FAILED, "b")] * 2
    assert run.unfinished == 0


def test_a_skip_cascade_through_99_999_nodes() -> None:
    """E19: when the first of a chain of 100,000 fails, the others are SKIPPED, iteratively."""
    run = Scheduler(chain(LONG))
    assert run.take_ready(9) == ["0"]
    run.fail("0")
    assert run.unfinished == 0
    ended = list(run.statuses().values())
    assert ended.count(NodeStatus.SKIPPED) == LONG - 1
    assert run.blame(str(LONG - 1)) == Blame(Why.FAILED, "0")
    assert run.take_ready(9) == []


def test_a_chain_of_100_000_runs() -> None:
    """E19: a chain of 100,000 runs to its end, one node after the other."""
    run = Scheduler(chain(LONG), max_concurrency=1)
    assert run_to_the_end(run) == [str(n) for n in range(LONG)]
    assert run.unfinished == 0


@pytest.mark.parametrize("state", ["PENDING", "READY", "RUNNING"])
def test_an_unfinished_node_can_be_cancelled(state: str) -> None:
    """A node that waits, is ready or runs ends CANCELLED; its dependents, SKIPPED, name it."""
    run = Scheduler(dag(("first", "PENDING"), "RUNNING", "READY", *((s, "after") for s in [state])))
    run.take_ready(2)
    assert statuses(run, state) == [state]
    unfinished, running = run.unfinished, run.running
    run.cancel(state)
    assert statuses(run, state, "after") == ["CANCELLED", "SKIPPED"]
    assert run.blame("after") == Blame(Why.CANCELLED, state)
    assert run.blame(state) is None
    assert run.unfinished == unfinished - 2
    assert run.running == running - (state == "RUNNING")
    assert state not in run_to_the_end(run)


def test_everything_can_be_cancelled() -> None:
    """Cancelling whatever has not ended, in any order, ends a run."""
    run = Scheduler(dag(("a", "b"), ("b", "c"), "x", "y"), max_concurrency=2)
    run.take_ready(9)
    for name in "xba":
        run.cancel(name)
    assert statuses(run, *"abcxy") == [*("CANCELLED", "CANCELLED", "SKIPPED", "CANCELLED", "READY")]
    run.cancel("y")
    assert run.unfinished == run.running == 0


VERBS: dict[str, Callable[[Scheduler, str], None]] = {
    "succeed": Scheduler.succeed,
    "fail": Scheduler.fail,
    "cancel": Scheduler.cancel,
}
ALLOWED = {
    *(("RUNNING", verb) for verb in VERBS),
    *((state, verb) for state in ("PENDING", "READY") for verb in ("cancel", "fail")),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("state", [str(status) for status in NodeStatus])
def test_an_outcome_that_cannot_be_is_refused(state: str, verb: str) -> None:
    """Only a running node succeeds; one that waits may be cancelled, or failed by a condition.

    Anything else is a RuntimeError that names both states, and changes nothing.
    """
    graph = dag("RUNNING", "COMPLETED", "FAILED", "CANCELLED", ("FAILED", "SKIPPED"), "READY")
    graph = graph.to_builder().add_edge("READY", "PENDING").build()
    places = {"running": ["RUNNING"], "completed": ["COMPLETED"], "failed": ["FAILED"]}
    run = run_at(graph, cancelled=["CANCELLED"], **places)
    assert statuses(run, state) == [state]
    if (state, verb) in ALLOWED:
        VERBS[verb](run, state)
        assert statuses(run, state) != [state]
        return
    before = snapshot(run)
    with pytest.raises(RuntimeError, match=f"node '{state}' cannot go from {state} to "):
        VERBS[verb](run, state)
    assert snapshot(run) == before


@pytest.mark.parametrize("verb", VERBS)
def test_an_outcome_of_a_stranger_is_refused(verb: str) -> None:
    """An outcome of a node that is not in the graph, or no longer, changes nothing."""
    run = Scheduler(dag("a", "removed"))
    run.land(DynamicModification(remove_nodes=["removed"]))
    before = snapshot(run)
    for name in ("removed", "stranger"):
        with pytest.raises(KeyError):
            VERBS[verb](run, name)
    assert snapshot(run) == before


def test_a_run_in_which_nothing_can_happen_is_stuck() -> None:
    """`is_stuck` tells that nodes are left, none runs, and no slot is still to be given back."""
    run = Scheduler(dag("a", ("t", "after")), on_threads=["t"], max_workers=0)
    assert run.take_ready(9) == ["a"]
    assert not run.is_stuck()
    run.succeed("a")
    assert run.is_stuck()
    run.cancel_rest()
    assert not run.is_stuck()
    waits_for_a_thread = Scheduler(dag("t", "u"), on_threads=["t", "u"], max_workers=1)
    assert waits_for_a_thread.take_ready(9) == ["t"]
    waits_for_a_thread.fail("t", lingering=True)
    assert not waits_for_a_thread.is_stuck()


# --- modifications in a run ----------------------------------------------------------------------


def test_the_second_expander_is_judged_by_the_graph_of_the_first() -> None:
    """E8: of two expanders that finish together, the second sees what the first has done."""
    run = Scheduler(dag("x", "y", "spare", ("x", "end"), ("y", "end")))
    run.take_ready(2)
    run.land(DynamicModification([spec("report", "x", to=["end"])], ["spare"]), "x")
    run.succeed("x")
    with pytest.raises(ModificationError, match="'report' cannot be added: it exists already"):
        run.land(adding(spec("report", "y")), "y")
    run.land(DynamicModification([spec("extra", "report", to=["end"])], ["spare"]), "y")
    run.succeed("y")
    assert run.removed() == ("spare",)
    assert run_to_the_end(run) == ["report", "extra", "end"]


def test_a_placeholder_is_replaced() -> None:
    """S13: two implementations replace a placeholder, and what came after it waits for both."""
    run = Scheduler(dag(("upstream", "placeholder"), ("placeholder", "downstream")))
    run.take_ready(1)
    new = [spec(name, "upstream", to=["downstream"]) for name in ("fast", "exact")]
    run.land(DynamicModification(new, ["placeholder"]), "upstream")
    run.succeed("upstream")
    assert run_to_the_end(run) == ["fast", "exact", "downstream"]
    assert run.removed() == ("placeholder",)


def test_provenance() -> None:
    """Every node knows who added it and how many expansions deep: nobody and 0 for initial ones."""
    run = Scheduler(dag("a"))
    run.take_ready(1)
    run.land(adding(spec("b", "a"), spec("b2")), "a")
    run.land(adding(spec("outside", "b2")))
    run.land(adding(spec("c", "b")), "b")
    assert {name: run.origin(name) for name in run.statuses()} == {
        "a": (None, 0),
        "b": ("a", 1),
        "b2": ("a", 1),
        "outside": (None, 0),
        "c": ("b", 2),
    }


def test_the_version_counts_what_landed() -> None:
    """The version rises by one with each modification that changes something, and with no other."""
    run = Scheduler(dag(("a", "b"), "c"))
    assert run.version == 0
    changes = [
        adding(spec("n")),
        DynamicModification(remove_edges=[("a", "b")]),
        DynamicModification(add_edges=[("a", "c")]),
        DynamicModification(remove_nodes=["b"]),
    ]
    for number, modification in enumerate(changes, 1):
        run.land(modification)
        assert run.version == number
    run.land(DynamicModification())
    run.land(DynamicModification(remove_nodes=["b"]))
    with pytest.raises(ModificationError):
        run.land(adding(spec("a")))
    assert run.version == 4


def test_the_graph_is_made_once_per_version() -> None:
    """S33: `dag()` is one value until the graph changes; older ones stay as they were."""
    graph = dag(("a", "b"))
    run = Scheduler(graph)
    assert run.dag() is graph
    run.take_ready(1)
    run.land(adding(spec("n", "a", to=["b"])), "a")
    first = run.dag()
    assert first is run.dag()
    run.succeed("a")
    assert first is run.dag()
    run.land(DynamicModification(remove_nodes=["b"]))
    assert run.dag() == dag(("a", "n"))
    assert first == dag(("a", "n"), ("n", "b"), ("a", "b"))
    assert graph == dag(("a", "b"))


def test_runs_of_one_graph_do_not_know_of_each_other() -> None:
    """S33, E15: the graph that runs were started from never changes, and no run changes another."""
    graph = dag(("a", "b"), ("a", "c"))
    one, other = Scheduler(graph), Scheduler(graph)
    for run in (one, other):
        run.take_ready(1)
    one.land(DynamicModification([spec("n", "a", to=["b"])], ["c"]), "a")
    before = snapshot(other)
    one.succeed("a")
    assert snapshot(other) == before
    assert graph == dag(("a", "b"), ("a", "c"))
    other.succeed("a")
    assert other.take_ready(9) == ["b", "c"]


def test_the_order_does_not_depend_on_who_lands_first() -> None:
    """Two expanders, landing in either order, give one order, also when they expand on."""
    orders = []
    for first, second in ("xy", "yx"):
        run = Scheduler(dag("x", "y", "end", ("x", "end"), ("y", "end")))
        run.take_ready(2)
        for by in (first, second):
            run.land(adding(spec(f"{by}1", by, to=["end"]), spec(f"{by}0", by, to=["end"])), by)
            run.succeed(by)
        run.take_ready(9)
        for by in (f"{first}1", f"{second}1"):
            run.land(adding(spec(f"{by}_sub", by, to=["end"])), by)
        orders.append(run.dag().topological_order())
    assert orders == [["x", "x1", "x1_sub", "x0", "y", "y1", "y1_sub", "y0", "end"]] * 2


def test_expansions_10_000_deep() -> None:
    """E19: a node adds a node that adds a node, 10,000 times over, without recursion."""
    deep = 10_000
    run = Scheduler(dag(("0", "end")), max_depth=deep)
    for n in range(deep):
        assert run.take_ready(9) == [str(n)]
        run.land(adding(spec(str(n + 1), str(n), to=["end"])), str(n))
        run.succeed(str(n))
    assert run.origin(str(deep)) == (str(deep - 1), deep)
    assert run.dag().topological_order() == [*map(str, range(deep + 1)), "end"]
    assert run.take_ready(9) == [str(deep)]
    with pytest.raises(ModificationError, match="max_depth is 10,000"):
        run.land(adding(spec("more")), str(deep))


def test_one_modification_of_100_000_nodes() -> None:
    """E19: one modification adds a chain of 100,000 nodes, and it runs under the limit of nodes."""
    run = Scheduler(dag("x"), max_nodes=LONG + 1)
    run.take_ready(1)
    specs = [spec("n0", "x"), *(spec(f"n{n}", f"n{n - 1}") for n in range(1, LONG))]
    run.land(adding(*reversed(specs)), "x")
    run.succeed("x")
    assert len(run_to_the_end(run)) == LONG


def test_questions_about_names() -> None:
    """A run knows the names that are in its graph or were removed from it, and whom it blamed."""
    run = Scheduler(dag(("a", "b"), "c", "d"))
    run.take_ready(1)
    run.land(DynamicModification(remove_nodes=["d", "c"]))
    run.fail("a")
    assert [run.was_known(name) for name in "abcde"] == [True, True, True, True, False]
    assert run.removed() == ("d", "c")
    assert list(run.statuses()) == ["a", "b"]
    assert run.dependencies("b") == ("a",)
    assert run.blame("b") == Blame(Why.FAILED, "a")
    assert run.blame("a") is None


# --- hash order ----------------------------------------------------------------------------------

# The package's `__init__` would import the shell and with it anyio: a stub stands for it.
UNDER_ANOTHER_SEED = """
import sys, types
package = sys.modules["dagron"] = types.ModuleType("dagron")
package.__path__ = [sys.argv[1]]
from dagron._errors import ModificationError
from dagron._graph import DAG
from dagron._lanes import Pool
from dagron._modification import DynamicModification, DynamicNodeSpec
from dagron._policy import NodePolicy, all_done, any_succeeded
from dagron._scheduler import Scheduler

builder = DAG.builder()
policies = [
    NodePolicy(group="g"),
    NodePolicy(trigger=any_succeeded),
    NodePolicy(trigger=all_done),
    NodePolicy(group=("h", "g")),
]
for n, policy in enumerate(policies):
    builder.add_node(f"leaf_{n}", policy=policy)
for n in range(30):
    builder.add_edge(f"root_{n % 7}", f"mid_{n * 5 % 11}")
    builder.add_edge(f"mid_{n * 5 % 11}", f"leaf_{n % 4}")
run = Scheduler(
    builder.build(),
    on_threads={f"mid_{n}" for n in range(6)},
    max_workers=2,
    pools={name: Pool(name, 1) for name in {"g", "h"}},
)
step = 0
while taken := run.take_ready(3):
    print(*taken)
    for name in taken:
        step += 1
        specs = [
            DynamicNodeSpec(
                f"new_{step}_{n}",
                print,
                [name],
                [f"leaf_{n}"] if n % 3 else [],
                policy=NodePolicy(priority=n % 2, group="g" if n == 2 else ()),
            )
            for n in range(3)
        ]
        if step == 8:
            specs.append(DynamicNodeSpec("wrong", print, ["mid_99", "lef_1", "new_8_0"]))
        gone = {f"leaf_{step % 5}", f"leaf_{step % 3}"} if step == 3 else set()
        try:
            cancelled = {f"new_{step - 1}_{n}" for n in range(3)} if step == 6 else set()
            specs = specs if step < 12 else []
            for other in run.land(DynamicModification(specs, gone, cancel_nodes=cancelled), name):
                print("to cancel:", other)
        except ModificationError as error:
            print(error)
        if name in run.working:
            run.return_worker(name)
        run.fail(name) if step % 5 == 3 else run.succeed(name)
print(run.dag().topological_order(), run.dag().levels(), run.dag().ancestors("leaf_1"))
print({name: (str(status), str(run.blame(name))) for name, status in run.statuses().items()})
try:
    run.dag().ancestors("lef_1")
except KeyError as error:
    print(error)
"""


def test_nothing_depends_on_hash_order() -> None:
    """Any PYTHONHASHSEED gives the same admission order, graph, outcomes and messages."""
    package = str(Path(dagron.__file__).parent)
    command = [sys.executable, "-S", "-c", UNDER_ANOTHER_SEED, package]
    outputs = []
    for seed in range(5):
        environment = {"PYTHONHASHSEED": str(seed)}
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        outputs.append(ran.stdout)
    for sign in ("was refused", "did you mean", "SKIPPED", "COMPLETED", "CANCELLED"):
        assert sign in outputs[0]
    assert outputs == [outputs[0]] * 5


def test_the_rest_is_cancelled() -> None:
    """`cancel_rest` cancels what waits and what is ready; a node that runs reports by itself."""
    run = Scheduler(dag("a", "b", ("a", "c"), ("c", "d")), max_concurrency=1)
    assert run.take_ready(9) == ["a"]
    run.cancel_rest()
    assert {name: str(run.status(name)) for name in run.dag()} == {
        "a": "RUNNING",
        "b": "CANCELLED",
        "c": "CANCELLED",
        "d": "CANCELLED",
    }
    assert (run.unfinished, run.running) == (1, 1)
    run.cancel("a")
    assert (run.unfinished, run.running) == (0, 0)
    assert run.take_ready(9) == []


# --- an earlier life of the run ------------------------------------------------------------------


def test_a_node_that_is_recalled_holds_no_slots() -> None:
    """A node that ran in an earlier life is RUNNING out of its turn, and takes no slot from who is
    next; its success releases its dependents.
    """
    run = Scheduler(dag("a", "b", ("b", "c")), max_concurrency=1)
    run.recall("b")
    assert statuses(run, "a", "b", "c") == ["READY", "RUNNING", "PENDING"]
    assert run.take_ready(9) == ["a"]
    run.succeed("b")
    assert run.take_ready(9) == []
    run.succeed("a")
    assert run.take_ready(9) == ["c"]


def test_a_node_is_recalled_before_what_it_waits_for() -> None:
    """What a node waited for may be tried again while the node keeps what it came to; edges from it
    may then close cycles, and are looked at for that.
    """
    run = Scheduler(dag(("a", "b"), ("b", "c")))
    run.recall("b")
    run.succeed("b")
    assert statuses(run, "a", "b", "c") == ["READY", "COMPLETED", "READY"]
    with pytest.raises(ModificationError, match="would close a cycle"):
        run.land(DynamicModification([spec("x", "b", to=["a"])]))
    assert run.take_ready(9) == ["a", "c"]
    run.succeed("a")
    run.succeed("c")
    assert run.unfinished == 0


def test_only_what_waits_is_recalled() -> None:
    """A node that runs, or has ended, is not recalled: that is a bug of the caller."""
    run = Scheduler(dag("a"))
    run.recall("a")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="cannot go from"):
            run.recall("a")
        if run.unfinished:
            run.succeed("a")
