"""Triggers, conditions and cancellation: what the ends of a node's dependencies make of it."""

from collections.abc import Callable
from itertools import permutations

import pytest

from dagron import DynamicModification, NodeStatus
from dagron._blame import Blame, Why
from dagron._edge import Edge
from dagron._policy import (
    NodePolicy,
    Trigger,
    all_done,
    all_succeeded,
    any_succeeded,
    at_least,
)
from dagron._scheduler import Scheduler
from dagron._statuses import Landed
from machine import adding, chain, dag, no, run_at, spec, statuses, when, yes

LONG = 100_000
ANY = when(any_succeeded)


def fan_in(trigger: Trigger, ends: str) -> Scheduler:
    """A run in which "join" depends on as many nodes as there are letters, which all run.

    A lower-case letter stands for an edge with a condition.
    """
    names = [f"{position}{end}" for position, end in enumerate(ends)]
    edges = [Edge(name, "join", yes if name[1].islower() else None) for name in names]
    run = Scheduler(dag(*edges, policies={"join": when(trigger)}), on_threads=["join"])
    run.take_ready(len(names))
    return run


def end(run: Scheduler, name: str) -> None:
    """End a node as its letter says: Succeed, Fail, Cancel, or succeed with a condition: no, yes"""
    match name[1]:
        case "S" | "y":
            run.succeed(name)
        case "n":
            run.succeed(name, untaken={"join"})
        case "F" | "f":
            run.fail(name)
        case "C":
            run.cancel(name)


def outcome(trigger: Trigger, ends: str) -> str:
    """What becomes of "join" when all its dependencies have ended, in whatever order."""
    found = set()
    for order in permutations(range(len(ends))):
        run = fan_in(trigger, ends)
        for position in order:
            end(run, f"{position}{ends[position]}")
        found.add(str(run.status("join")))
    assert len(found) == 1, f"the order makes a difference: {found}"
    return found.pop()


# --- triggers ------------------------------------------------------------------------------------

OUTCOMES = [
    # what the dependencies do, and whether join runs under: all_succeeded, all_done,
    # any_succeeded, at_least(2), at_least(0.5)
    ("SSS", "run run run run run"),
    ("SSF", "skip run run run run"),
    ("SFC", "skip run run skip skip"),
    ("FFF", "skip run skip skip skip"),
    ("SCCC", "skip run run skip skip"),
    ("SSCC", "skip run run run run"),
    ("Snn", "run run run skip run"),
    ("ynn", "run run run skip run"),
    ("Fnn", "skip run skip skip skip"),
    ("SFnn", "skip run run skip run"),
    ("nnn", "skip skip skip skip skip"),
    ("yyn", "run run run run run"),
    ("f", "skip run skip skip skip"),
    ("S", "run run run skip run"),
]
TRIGGERS = [all_succeeded, all_done, any_succeeded, at_least(2), at_least(0.5)]


@pytest.mark.parametrize(("ends", "row"), OUTCOMES)
def test_what_a_trigger_makes_of_ended_dependencies(ends: str, row: str) -> None:
    """The four triggers decide from the finished dependencies, in whatever order they finished."""
    verdicts = {"run": "READY", "skip": "SKIPPED"}
    due = [verdicts[word] for word in row.split()]
    assert [outcome(trigger, ends) for trigger in TRIGGERS] == due


@pytest.mark.parametrize("trigger", [*TRIGGERS, at_least(5), at_least(1.0)])
def test_a_node_without_dependencies_runs(trigger: Trigger) -> None:
    """A node without dependencies runs under any trigger: initial, new, or freed of its edges."""
    policies = {"first": when(trigger), "freed": when(trigger)}
    run = Scheduler(dag("first", ("x", "freed"), policies=policies))
    assert run.take_ready(9) == ["first", "x"]
    new = spec("new", policy=when(trigger))
    run.land(DynamicModification([new], remove_edges=[("x", "freed")]), "x")
    assert statuses(run, "new", "freed") == ["READY", "READY"]


def test_any_succeeded_starts_at_the_first_success() -> None:
    """any_succeeded does not wait for the rest: failures before do not matter, nor does the end."""
    run = fan_in(any_succeeded, "FSF")
    run.fail("0F")
    assert statuses(run, "join") == ["PENDING"]
    run.succeed("1S")
    assert statuses(run, "join") == ["READY"]
    assert run.take_ready(9) == ["join"]
    run.fail("2F")
    assert statuses(run, "join") == ["RUNNING"]
    run.succeed("join")
    assert run.unfinished == 0


def test_any_succeeded_is_skipped_only_at_the_end() -> None:
    """While somebody is at work, who may yet succeed, the node waits; then it is SKIPPED."""
    run = fan_in(any_succeeded, "FCF")
    for name, status in (("0F", "PENDING"), ("1C", "PENDING"), ("2F", "SKIPPED")):
        end(run, name)
        assert statuses(run, "join") == [status]
    assert str(run.blame("join")) == (
        "skipped because too few dependencies of 'join' succeeded: "
        "0 of 3, and its trigger is any_succeeded; '0F' is FAILED"
    )


def test_at_least_starts_as_soon_as_enough_have_succeeded() -> None:
    """at_least(2) of four starts at the second success, and is not held up by what comes later."""
    run = fan_in(at_least(2), "SFSF")
    for name, status in (("0S", "PENDING"), ("1F", "PENDING"), ("2S", "READY"), ("3F", "READY")):
        end(run, name)
        assert statuses(run, "join") == [status]


def test_at_least_waits_even_when_it_cannot_be_enough() -> None:
    """Too few dependencies are left to succeed, but one of them may add more: the node waits."""
    run = fan_in(at_least(2), "FSS")
    run.fail("0F")
    run.succeed("1S")
    run.land(DynamicModification(remove_nodes=[]), "2S")
    assert statuses(run, "join") == ["PENDING"]
    run.fail("2S")
    assert statuses(run, "join") == ["SKIPPED"]
    assert str(run.blame("join")).endswith(
        "'join' succeeded: 1 of 3, and its trigger is at_least(2); '0F' is FAILED"
    )


def test_too_few_dependencies_without_a_failure() -> None:
    """at_least(3) of two that both succeed is SKIPPED, and there is nobody to name."""
    run = fan_in(at_least(3), "SS")
    run.succeed("0S")
    run.succeed("1S")
    assert statuses(run, "join") == ["SKIPPED"]
    assert str(run.blame("join")).endswith("2 of 2, and its trigger is at_least(3)")


@pytest.mark.parametrize(
    ("need", "active", "starts_at"),
    [
        (0.28, 25, 7),
        (0.5, 3, 2),
        (1.0, 3, 3),
        (0.01, 5, 1),
        (0.3, 10, 3),
        (0.34, 3, 2),
    ],
)
def test_a_share_is_rounded_up(need: float, active: int, starts_at: int) -> None:
    """at_least(0.5) of three is two: a share counts whole nodes; 0.28 of 25 is just seven."""
    run = fan_in(at_least(need), "S" * active)
    for position in range(starts_at):
        assert statuses(run, "join") == ["PENDING"]
        run.succeed(f"{position}S")
    assert statuses(run, "join") == ["READY"]


def test_a_share_is_of_the_active_edges() -> None:
    """at_least(0.5) of four edges, two of them inactive: one success is enough."""
    run = fan_in(at_least(0.5), "nnSS")
    end(run, "2S")
    assert statuses(run, "join") == ["PENDING"]
    end(run, "0n")
    assert statuses(run, "join") == ["PENDING"]
    end(run, "1n")
    assert statuses(run, "join") == ["READY"]


def test_a_clean_up_node_runs_whatever_happened() -> None:
    """all_done runs when its dependencies failed, were skipped or cancelled, and not before."""
    graph = dag(
        *(("a", "b"), ("b", "clean"), ("c", "clean"), ("d", "clean"), "other"),
        policies={"clean": when(all_done)},
    )
    run = Scheduler(graph)
    run.take_ready(9)
    run.fail("a")
    assert statuses(run, "b", "clean") == ["SKIPPED", "PENDING"]
    run.cancel("c")
    assert statuses(run, "clean") == ["PENDING"]
    run.succeed("d")
    assert statuses(run, "clean") == ["READY"]
    assert run.met("clean") == ["d"]


def test_a_clean_up_node_runs_after_an_empty_expansion() -> None:
    """all_done runs when an expansion added nothing, and when all that it added has failed."""
    for count in (0, 2):
        run = Scheduler(dag(("x", "clean"), policies={"clean": when(all_done)}))
        run.take_ready(1)
        new = [spec(f"n{n}", "x", to=["clean"]) for n in range(count)]
        run.land(DynamicModification(new), "x")
        run.succeed("x")
        for name in [f"n{n}" for n in range(count)]:
            assert statuses(run, "clean") == ["PENDING"]
            assert run.take_ready(1) == [name]
            run.fail(name)
        assert run.take_ready(9) == ["clean"]


def test_what_follows_a_clean_up_node() -> None:
    """What depends on a node that ran in spite of a failure runs as well: it succeeded."""
    graph = dag(("a", "clean"), ("clean", "after"), policies={"clean": when(all_done)})
    run = Scheduler(graph)
    run.take_ready(1)
    run.fail("a")
    assert run.take_ready(9) == ["clean"]
    run.succeed("clean")
    assert run.take_ready(9) == ["after"]


def test_a_node_skipped_for_too_few_counts_as_unmet() -> None:
    """What depends on a node that was skipped by its trigger is skipped, and names that node."""
    graph = dag(
        *(("a", "join"), ("join", "after"), ("join", "clean")),
        policies={"join": when(any_succeeded), "clean": when(all_done)},
    )
    run = Scheduler(graph)
    run.take_ready(1)
    run.fail("a")
    assert statuses(run, "join", "after", "clean") == ["SKIPPED", "SKIPPED", "READY"]
    assert run.blame("after") == run.blame("join")
    assert str(run.blame("after")).startswith("skipped because too few dependencies of 'join' ")


# --- triggers and modifications ------------------------------------------------------------------


def test_the_trigger_of_a_new_node() -> None:
    """A new node is judged at once by dependencies that have ended: by its own trigger."""
    run = run_at(dag("done", "failed", "x"), completed=["done"], failed=["failed"], running=["x"])
    new = [
        spec("any", "done", "failed", "x", policy=when(any_succeeded)),
        spec("two", "done", "failed", "x", policy=when(at_least(2))),
        spec("clean", "done", "failed", policy=when(all_done)),
        spec("none", "failed", policy=when(any_succeeded)),
        spec("usual", "done", "failed", policy=NodePolicy(priority=1)),
    ]
    run.land(adding(*new), "x")
    names = ["any", "two", "clean", "none", "usual"]
    assert statuses(run, *names) == ["READY", "PENDING", "READY", "SKIPPED", "SKIPPED"]
    run.succeed("x")
    assert statuses(run, "two") == ["READY"]


def test_the_default_trigger() -> None:
    """The executor's policy is the trigger of every node that has none of its own."""
    policies = {"usual": when(all_succeeded)}
    graph = dag(("a", "clean"), ("a", "usual"), "x", policies=policies)
    run = Scheduler(graph, policy=when(all_done))
    run.take_ready(9)
    run.land(adding(spec("new", "a"), spec("other", "a", policy=when(any_succeeded))), "x")
    run.fail("a")
    assert statuses(run, "clean", "usual", "new", "other") == [
        *("READY", "SKIPPED", "READY", "SKIPPED")
    ]


def test_a_ready_node_that_gets_a_dependency_is_decided_anew() -> None:
    """E9 under a trigger: with enough met edges it stays READY, else it waits again."""
    policies = {name: when(any_succeeded) for name in ("met", "empty")}
    policies |= {"half": when(at_least(0.5)), "clean": when(all_done)}
    edges = [("a", name) for name in ("met", "half", "clean")]
    run = run_at(
        dag(*edges, ("b", "half"), "empty", "x", policies=policies),
        completed=["a"],
        failed=["b"],
        running=["x"],
    )
    names = ["met", "half", "clean", "empty"]
    assert statuses(run, *names) == ["READY"] * 4
    run.land(adding(spec("n", "x", to=names)), "x")
    assert statuses(run, *names) == ["READY", "PENDING", "PENDING", "PENDING"]
    run.succeed("x")
    run.cancel("n")
    assert statuses(run, *names) == ["READY", "SKIPPED", "READY", "SKIPPED"]


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("more", [[], [("x", "fed")]])
def test_a_modification_is_judged_as_a_whole(swapped: bool, more: list[tuple[str, str]]) -> None:
    """S35: a node is decided when all that a modification does to it is done, in any order.

    "join" gets a dependency that is skipped at once, and another one that is still to come.
    """
    run = run_at(
        dag("x", "failed", "join", policies={"join": when(any_succeeded)}),
        running=["x"],
        failed=["failed"],
    )
    specs = [spec("doomed", "failed", to=["join"]), spec("fed", "x", to=["join"])]
    modification = DynamicModification(specs[::-1] if swapped else specs, add_edges=more)
    run.land(modification, "x")
    assert statuses(run, "doomed", "fed", "join") == ["SKIPPED", "PENDING", "PENDING"]


def test_removing_edges_decides_anew() -> None:
    """A node whose edges are removed is judged by what is left: it runs, waits, or is SKIPPED."""
    policies = {"two": when(at_least(2)), "half": when(at_least(0.5)), "any": when(any_succeeded)}
    edges = [(source, target) for target in policies for source in ("done", "busy", "failed")]
    graph = dag(*edges, "x", policies=policies)
    run = run_at(graph, completed=["done"], running=["busy", "x"], failed=["failed"])
    assert statuses(run, "two", "half", "any") == ["PENDING", "PENDING", "READY"]
    run.land(DynamicModification(remove_edges=[("failed", "half"), ("busy", "two")]), "x")
    assert statuses(run, "two", "half") == ["SKIPPED", "READY"]
    run.land(DynamicModification(remove_edges=[("done", "any"), ("done", "half")]), "x")
    assert statuses(run, "any", "half") == ["PENDING", "PENDING"]
    run.land(DynamicModification(remove_edges=[("busy", "any")]), "x")
    assert statuses(run, "any") == ["SKIPPED"]


def test_removing_a_dependency_decides_anew() -> None:
    """A dependency that is removed no longer counts: neither as pending nor for a share."""
    policies = {"half": when(at_least(0.5)), "clean": when(all_done)}
    edges = [(source, target) for target in policies for source in ("done", "w1", "w2")]
    run = run_at(dag(*edges, "x", policies=policies), completed=["done"], running=["x"])
    assert statuses(run, "half", "clean") == ["PENDING", "PENDING"]
    run.land(DynamicModification(remove_nodes=["w1"]), "x")
    assert statuses(run, "half", "clean") == ["READY", "PENDING"]
    run.land(DynamicModification(remove_nodes=["half", "w2"]), "x")
    assert statuses(run, "clean") == ["READY"]


def test_who_lost_the_race_closes_no_cycle() -> None:
    """Row "a cycle": a node that started before its slower dependency may not hold that one up.

    Nor may what depends on it, nor what depends on a node that a condition failed.
    """
    graph = dag(("fast", "join"), ("slow", "join"), ("join", "after"), policies={"join": ANY})
    run = run_at(graph, completed=["fast", "join"], running=["after"])
    for modification in (
        adding(spec("n", "join", to=["slow"])),
        adding(spec("n", "after", to=["slow"])),
        adding(spec("n", "after"), spec("m", "n", to=["slow"])),
        DynamicModification(add_edges=[("after", "slow")]),
    ):
        with pytest.raises(ValueError, match="its edges would close a cycle: "):
            run.land(modification, "after")
    run.land(adding(spec("n", "slow", "after")), "after")
    assert run.dag().ancestors("n") == ["fast", "slow", "join", "after"]

    run = run_at(dag("x", Edge("a", "target", yes), ("slow", "target")), running=["a", "x"])
    run.succeed("a", broken={"target"})
    run.fail("target")
    with pytest.raises(ValueError, match="its edges would close a cycle: "):
        run.land(adding(spec("n", "target", to=["slow"])), "x")


# --- conditions ----------------------------------------------------------------------------------


def test_an_edge_whose_condition_is_false_is_inactive() -> None:
    """S31: a node all of whose edges are inactive is SKIPPED, and its reason names the edge."""
    run = Scheduler(dag(Edge("check", "expand", yes), ("check", "report")))
    run.take_ready(1)
    run.succeed("check", untaken={"expand"})
    assert statuses(run, "expand", "report") == ["SKIPPED", "READY"]
    blame = run.blame("expand")
    assert blame == Blame(Why.CONDITION, "check", "expand")
    assert str(blame) == "skipped by condition: the edge from 'check' to 'expand' is inactive"


def test_a_join_after_exclusive_branches_runs() -> None:
    """With at least one active edge a node runs when its active dependencies have completed."""
    graph = dag(
        *(Edge("choose", "left", yes), Edge("choose", "right", no)),
        *(("left", "join"), ("right", "join")),
    )
    run = Scheduler(graph)
    run.take_ready(1)
    run.succeed("choose", untaken={"right"})
    assert statuses(run, "left", "right", "join") == ["READY", "SKIPPED", "PENDING"]
    assert run.take_ready(9) == ["left"]
    run.succeed("left")
    assert run.take_ready(9) == ["join"]
    assert run.met("join") == ["left"]


def test_a_skip_by_condition_goes_down_the_graph() -> None:
    """A dependency that was skipped by a condition makes its edges inactive, and so on."""
    run = Scheduler(dag(Edge("a", "b", no), ("b", "c"), ("c", "d"), ("x", "d"), ("c", "e")))
    run.take_ready(9)
    run.succeed("a", untaken={"b"})
    assert statuses(run, *"bcde") == ["SKIPPED", "SKIPPED", "PENDING", "SKIPPED"]
    assert run.blame("e") == run.blame("c") == Blame(Why.CONDITION, "a", "b")
    run.succeed("x")
    assert statuses(run, "d") == ["READY"]


def test_a_skip_by_condition_is_told_apart_from_a_failure() -> None:
    """A node below a failure and an inactive edge is skipped because of the failure."""
    for first in ("failure", "condition"):
        run = Scheduler(dag(Edge("a", "join", no), ("b", "join"), ("join", "after")))
        run.take_ready(9)
        for what in (first, {"failure": "condition", "condition": "failure"}[first]):
            run.fail("b") if what == "failure" else run.succeed("a", untaken={"join"})
        assert run.blame("join") == run.blame("after") == Blame(Why.FAILED, "b")


def test_a_clean_up_node_that_its_own_conditions_prevent() -> None:
    """all_done is SKIPPED only when each of its edges was switched off by its own condition."""
    edges = [Edge("a", "clean", no), Edge("a", "b", no), ("b", "clean")]
    run = Scheduler(dag(*edges, policies={"clean": when(all_done)}))
    run.take_ready(1)
    run.succeed("a", untaken={"b", "clean"})
    assert statuses(run, "b", "clean") == ["SKIPPED", "READY"]
    own = Scheduler(dag(*edges[:1], Edge("c", "clean", no), policies={"clean": when(all_done)}))
    own.take_ready(9)
    own.succeed("a", untaken={"clean"})
    assert statuses(own, "clean") == ["PENDING"]
    own.succeed("c", untaken={"clean"})
    assert statuses(own, "clean") == ["SKIPPED"]
    assert own.blame("clean") == Blame(Why.CONDITION, "a", "clean")


@pytest.mark.parametrize("trigger", [all_succeeded, any_succeeded, at_least(2), at_least(0.5)])
def test_what_no_active_edge_leads_to_is_skipped_by_condition(trigger: Trigger) -> None:
    """But for all_done, all inactive is a skip by condition: what follows is inactive, too."""
    graph = dag(
        *(Edge("a", "b", no), ("b", "join"), ("join", "after"), ("x", "after")),
        policies={"join": when(trigger)},
    )
    run = Scheduler(graph)
    run.take_ready(9)
    run.succeed("a", untaken={"b"})
    assert statuses(run, "join", "after") == ["SKIPPED", "PENDING"]
    assert run.blame("join") == Blame(Why.CONDITION, "a", "b")
    run.succeed("x")
    assert statuses(run, "after") == ["READY"]


def test_conditions_are_asked_for_those_who_wait() -> None:
    """`conditions` gives the conditions of edges whose targets wait, of each source its own."""
    edges = [Edge("a", "b", yes), Edge("a", "c", no), ("a", "d"), Edge("x", "b", no)]
    run = Scheduler(dag(*edges, Edge("a", "gone", yes), Edge("a", "early", yes), ("x", "early")))
    assert run.conditions("d") == {}
    run.cancel("gone")
    run.take_ready(9)
    assert run.conditions("a") == {"b": yes, "c": no, "early": yes}
    assert run.conditions("x") == {"b": no}
    run.land(DynamicModification(remove_edges=[("a", "c")], remove_nodes=["early"]), "a")
    assert run.conditions("a") == {"b": yes}


def test_a_node_that_is_running_already_is_not_asked_about() -> None:
    """A condition on an edge to a node that has started without it need not be answered."""
    graph = dag(("a", "join"), Edge("b", "join", yes), policies={"join": ANY})
    run = Scheduler(graph)
    assert run.take_ready(9) == ["a", "b"]
    run.succeed("a")
    assert run.conditions("b") == {"join": yes}
    assert run.take_ready(9) == ["join"]
    assert run.conditions("b") == {}


def test_a_condition_that_gives_no_answer() -> None:
    """Its target is failed next: from waiting or READY, and what depends on it falls with it."""
    graph = dag(
        *(Edge("a", "b", yes), ("b", "after"), Edge("a", "join", yes), ("x", "join"), ("a", "d")),
        policies={"join": ANY},
    )
    run = Scheduler(graph)
    run.take_ready(9)
    run.succeed("x")
    assert statuses(run, "b", "join") == ["PENDING", "READY"]
    run.succeed("a", broken={"b", "join"})
    assert statuses(run, "b", "join", "d") == ["PENDING", "READY", "READY"]
    run.fail("b")
    run.fail("join")
    assert statuses(run, "b", "after", "join", "d") == ["FAILED", "SKIPPED", "FAILED", "READY"]
    assert run.blame("after") == Blame(Why.FAILED, "b")
    assert run.take_ready(9) == ["d"]
    assert (run.running, run.unfinished) == (1, 1)


def test_a_target_may_fall_before_it_is_failed() -> None:
    """A target whose condition gave no answer may be SKIPPED for the sake of another at once."""
    graph = dag(
        *(Edge("a", "b", no), ("z", "b"), Edge("a", "c", yes), ("b", "c")),
        policies={"b": ANY},
    )
    run = Scheduler(graph)
    run.take_ready(9)
    run.fail("z")
    run.succeed("a", untaken={"b"}, broken={"c"})
    assert statuses(run, "b", "c") == ["SKIPPED", "SKIPPED"]


# --- conditions and modifications ----------------------------------------------------------------


def added_under(
    trigger: Trigger = all_succeeded, **answers: set[tuple[str, str]]
) -> Callable[..., str]:
    """How a new node stands that depends on these, by edges with conditions that answered so."""

    def status(*sources: str) -> str:
        graph = dag("done", "failed", "busy", "x", Edge("done", "off", no))
        places = {"completed": ["done"], "failed": ["failed"], "running": ["busy", "x"]}
        run = run_at(graph, **places, untaken=[("done", "off")])
        edges = [Edge(source, "n", yes) for source in sources]
        new = spec("n", policy=when(trigger))
        run.land(DynamicModification([new], add_edges=edges), "x", **answers)
        return str(run.status("n"))

    return status


def test_an_edge_that_is_added_later_is_judged_at_landing() -> None:
    """An edge from a completed node is judged by the stored result: taken, inactive, or broken."""
    assert added_under()("done") == "READY"
    untaken = {("done", "n")}
    assert added_under(untaken=untaken)("done") == "SKIPPED"
    assert added_under(untaken=untaken)("done", "busy") == "PENDING"
    assert added_under(all_done, untaken=untaken)("done") == "SKIPPED"
    assert added_under(any_succeeded)("done", "busy") == "READY"
    assert added_under(any_succeeded, untaken=untaken)("done", "busy") == "PENDING"
    assert added_under(broken={("done", "n")})("done") == "PENDING"


def test_an_added_edge_from_a_node_that_was_skipped_by_a_condition() -> None:
    """Row "a dependency that is SKIPPED by a condition": the edge is inactive."""
    assert added_under()("off") == "SKIPPED"
    assert added_under()("off", "done") == "READY"
    assert added_under(all_done)("off") == "READY"
    assert added_under(any_succeeded)("off", "failed") == "SKIPPED"
    graph = dag("done", "x", Edge("done", "off", no))
    run = run_at(graph, completed=["done"], running=["x"], untaken=[("done", "off")])
    run.land(adding(spec("n", "off"), spec("m", "n")), "x")
    assert run.blame("n") == run.blame("m") == Blame(Why.CONDITION, "done", "off")


def test_a_condition_of_a_new_edge_is_asked_later() -> None:
    """An edge from a node that is at work has its condition asked when that node completes."""
    run = run_at(dag(("x", "merge")), running=["x"])
    new = Edge("x", "n", no)
    run.land(DynamicModification([spec("n")], add_edges=[new, Edge("n", "merge", yes)]), "x")
    assert run.conditions("x") == {"n": no}
    assert run.conditions("n") == {"merge": yes}
    run.succeed("x", untaken={"n"})
    assert statuses(run, "n", "merge") == ["SKIPPED", "READY"]


def test_a_target_that_gets_no_answer_at_landing() -> None:
    """The target of such an edge waits until it is failed, which must come next."""
    run = run_at(dag("done", "x", "target"), completed=["done"], running=["x"])
    edge = ("done", "target")
    run.land(DynamicModification(add_edges=[Edge(*edge, yes)]), "x", broken={edge})
    assert statuses(run, "target") == ["PENDING"]
    run.fail("target")
    assert statuses(run, "target") == ["FAILED"]


@pytest.mark.parametrize("trigger", [all_succeeded, any_succeeded, at_least(1.0)])
def test_an_inactive_edge_can_be_removed(trigger: Trigger) -> None:
    """Without its inactive edge a node is judged by the others alone, and without any it runs."""
    graph = dag(
        *(Edge("a", "n", no), ("b", "n"), Edge("a", "m", no), ("b", "m")),
        policies={"n": when(trigger), "m": when(trigger)},
    )
    run = run_at(graph, completed=["a"], running=["b"], untaken=[("a", "n"), ("a", "m")])
    run.land(DynamicModification(remove_edges=[("a", "n"), ("a", "m")]))
    assert statuses(run, "n", "m") == ["PENDING", "PENDING"]
    run.land(DynamicModification(remove_edges=[("b", "m")]))
    assert statuses(run, "m") == ["READY"]
    run.succeed("b")
    assert statuses(run, "n") == ["READY"]
    assert (run.met("n"), run.met("m")) == (["b"], [])


def test_an_edge_made_anew_has_its_new_condition() -> None:
    """One modification may remove an edge and add it again with another condition."""
    run = run_at(dag(Edge("x", "n", yes)), running=["x"])
    run.land(DynamicModification(add_edges=[Edge("x", "n", no)], remove_edges=[("x", "n")]), "x")
    assert run.conditions("x") == {"n": no}
    run.land(DynamicModification(add_edges=[("x", "n")], remove_edges=[("x", "n")]), "x")
    assert run.conditions("x") == {}


def test_a_repeated_edge_is_judged_once() -> None:
    """An edge that is there already keeps its answer, whatever is said of it now."""
    graph = dag(Edge("a", "n", yes), ("x", "n"))
    run = run_at(graph, completed=["a"], running=["x"])
    run.land(DynamicModification(add_edges=[Edge("a", "n", yes)]), "x", untaken={("a", "n")})
    assert run.met("n") == ["a"]
    run.succeed("x")
    assert statuses(run, "n") == ["READY"]


# --- cancellation --------------------------------------------------------------------------------


def test_a_node_that_is_cancelled_on_its_own_says_why() -> None:
    """`cancel` keeps the reason that it is given, for the node; its dependents name the node."""
    run = Scheduler(dag(("a", "b"), "c"))
    run.take_ready(1)
    reasons = {"a": Blame(Why.OUTSIDE), "c": Blame(Why.REQUEST, "x")}
    for name, reason in reasons.items():
        run.cancel(name, reason)
    assert [run.blame(name) for name in "abc"] == [
        *(Blame(Why.OUTSIDE), Blame(Why.CANCELLED, "a"), Blame(Why.REQUEST, "x"))
    ]
    assert [str(run.blame(name)) for name in "abc"] == [
        "cancelled by the program, through the run's handle",
        "skipped because 'a' was cancelled",
        "cancelled by 'x'",
    ]


def test_first_good_answer_wins() -> None:
    """The losers of a race are cancelled by the winner's expander, and the join goes on."""
    graph = dag(*((name, "join") for name in "abc"), policies={"join": ANY})
    run = Scheduler(graph, max_concurrency=2)
    assert run.take_ready(9) == ["a", "b"]
    assert run.land(DynamicModification(cancel_nodes=["b", "c"]), "a") == ["b"]
    assert statuses(run, "b", "c", "join") == ["RUNNING", "CANCELLED", "PENDING"]
    run.succeed("a")
    assert statuses(run, "join") == ["READY"]
    run.cancel("b", Blame(Why.REQUEST, "a"))
    assert run.take_ready(9) == ["join"]


def test_a_join_waits_for_what_is_left() -> None:
    """With the losers' edges removed in the same modification, a join needs the winner alone."""
    run = Scheduler(dag(*((name, "join") for name in "abc")), max_concurrency=2)
    run.take_ready(9)
    edges = [(name, "join") for name in "bc"]
    run.land(DynamicModification(remove_edges=edges, cancel_nodes=["b", "c"]), "a")
    run.succeed("a")
    run.cancel("b", Blame(Why.REQUEST, "a"))
    assert run.take_ready(9) == ["join"]


# --- long chains, and the log --------------------------------------------------------------------


def test_a_skip_by_condition_through_99_999_nodes() -> None:
    """E19: what a condition skips may be a chain of 100,000, without recursion."""
    graph = chain(LONG).to_builder().add_edge("start", "0", condition=no).build()
    run = Scheduler(graph)
    assert run.take_ready(9) == ["start"]
    run.succeed("start", untaken={"0"})
    assert run.unfinished == 0
    assert run.blame(str(LONG - 1)) == Blame(Why.CONDITION, "start", "0")


def test_a_clean_up_node_after_100_000_failures() -> None:
    """A node that many others lead to is counted down, not looked at anew: this ends soon."""
    names = [str(n) for n in range(LONG)]
    graph = dag(*((name, "clean") for name in names), policies={"clean": when(all_done)})
    run = Scheduler(graph)
    for name in run.take_ready(LONG):
        run.fail(name)
    assert run.take_ready(9) == ["clean"]


class Counting(dict[str, object]):
    """A table that counts how often it is asked."""

    asked = 0

    def __getitem__(self, name: str) -> object:
        self.asked += 1
        return super().__getitem__(name)


@pytest.mark.parametrize("trigger", [all_done, any_succeeded, at_least(1.0)])
def test_an_expansion_costs_the_same_late_in_a_run(trigger: Trigger) -> None:
    """The cost of a modification is its own size, also where nodes have triggers."""
    run = Scheduler(dag("0"), policy=when(trigger))
    run._graph.dependencies = table = Counting(run._graph.dependencies)
    costs = []
    for n in range(100):
        assert run.take_ready(9) == [str(n)]
        before = table.asked
        run.land(adding(spec(str(n + 1), str(n))), str(n))
        costs.append(table.asked - before)
        run.succeed(str(n))
    assert costs[-1] <= costs[10]


def test_the_log_tells_everything_in_order() -> None:
    """While `log` is a list, each transition and each modification is appended as it happens."""
    run = Scheduler(dag(("x", "a"), Edge("x", "b", no), "c", "gone"), max_concurrency=1)
    run.log = log = []
    run.take_ready(9)
    modification = DynamicModification(
        [spec("n", "x", to=["a"])],
        ["gone"],
        add_edges=[("c", "a"), ("x", "a")],
        remove_edges=[("x", "b")],
        cancel_nodes=["c"],
    )
    run.land(modification, "x")
    run.land(adding(spec("outside", to=["b"])))
    run.succeed("x")
    landed = Landed(
        by="x",
        version=1,
        depth=1,
        node_count=5,
        added_nodes=["n"],
        removed_nodes=["gone"],
        added_edges=[("x", "n"), ("n", "a"), ("c", "a")],
        removed_edges=[("x", "b")],
        cancelled_nodes=["c"],
    )
    ready, pending = NodeStatus.READY, NodeStatus.PENDING
    assert log == [
        ("x", NodeStatus.RUNNING),
        landed,
        ("b", ready),
        ("c", NodeStatus.CANCELLED),
        ("a", NodeStatus.SKIPPED),
        Landed(None, 2, 0, 6, ["outside"], (), [("outside", "b")], (), ()),
        ("b", pending),
        ("outside", ready),
        ("x", NodeStatus.COMPLETED),
        ("n", ready),
    ]


def test_the_log_tells_of_an_edge_that_is_made_anew() -> None:
    """An edge that is removed and added again by one modification is in both lists."""
    run = Scheduler(dag(("a", "b")))
    run.log = log = []
    run.land(DynamicModification(add_edges=[("a", "b")], remove_edges=[("a", "b")]))
    [landed] = log
    assert (landed.added_edges, landed.removed_edges) == ([("a", "b")], [("a", "b")])
