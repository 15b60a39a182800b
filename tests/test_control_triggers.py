"""Triggers: which of its finished dependencies let a node run (DESIGN.md section 5)."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import pytest

from controls import statuses
from dagron import (
    DAG,
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    Edge,
    ModificationError,
    NodePolicy,
    Retry,
    Trigger,
    all_done,
    all_succeeded,
    any_succeeded,
    at_least,
)
from ways import GUARD, Way, adding, changing, nothing, passes

CLEAN_UP = NodePolicy(trigger=all_done)


def no(result: Any) -> bool:
    return False


def fail(*arguments: Any) -> Any:
    raise ValueError


async def fail_at_once() -> None:
    raise ValueError


async def keep(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return dict(inputs)


def join_of(trigger: Trigger, *edges: str, name: str = "join") -> DAG:
    """Return a graph in which a node with this trigger depends on these."""
    builder = DAG.builder()
    for source in edges:
        builder.add_edge(source, name)
    return builder.add_node(name, policy=NodePolicy(trigger=trigger)).build()


class Latch:
    """An event that async nodes wait for, in time; it may be made outside of an event loop."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def open(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        with anyio.fail_after(GUARD):
            await self._event.wait()


# --- the verdict ---------------------------------------------------------------------------------


def outcomes(trigger: Trigger, *kinds: str) -> tuple[DynamicExecutor, dict[str, Any]]:
    """Return a run in which the dependencies of "join" end like this: ok, failed, off, cancelled,
    skipped, each for itself."""
    builder = DAG.builder().add_node("join", policy=NodePolicy(trigger=trigger))
    tasks: dict[str, Any] = {"join": keep, "switch": nothing, "bad": fail}
    builder.add_node("switch").add_node("bad")
    cancelled = []
    for position, kind in enumerate(kinds):
        name = f"{kind}_{position}"
        builder.add_edge(name, "join")
        tasks[name] = {"failed": fail, "cancelled": anyio.sleep_forever}.get(kind, lambda: "value")
        if kind == "off":
            builder.add_edge("switch", name, condition=no)
        if kind == "skipped":
            builder.add_edge("bad", name)
        if kind == "cancelled":
            cancelled.append(name)
    expander = changing(DynamicModification(cancel_nodes=cancelled))
    return DynamicExecutor(builder.build(), {"switch": expander}), tasks


@pytest.mark.parametrize(
    ("trigger", "kinds", "expected"),
    [
        (all_succeeded, "ok ok ok", True),
        (all_succeeded, "ok off", True),
        (all_succeeded, "ok failed", False),
        (all_succeeded, "ok cancelled", False),
        (all_succeeded, "ok skipped", False),
        (all_succeeded, "off off", False),
        (all_done, "ok failed skipped cancelled off", True),
        (all_done, "failed failed", True),
        (all_done, "cancelled cancelled", True),
        (all_done, "skipped skipped", True),
        (all_done, "off off", True),
        (any_succeeded, "failed skipped cancelled ok", True),
        (any_succeeded, "off off ok", True),
        (any_succeeded, "failed skipped cancelled", False),
        (any_succeeded, "off failed", False),
        (any_succeeded, "off off", False),
        (at_least(2), "ok ok failed failed", True),
        (at_least(2), "ok failed failed", False),
        (at_least(2), "ok off", False),
        (at_least(9), "ok ok ok", False),
        (at_least(0.5), "ok ok failed cancelled", True),
        (at_least(0.5), "ok failed skipped", False),
        (at_least(0.5), "ok failed off off", True),
        (at_least(0.5), "ok off", True),
        (at_least(0.5), "off off", False),
        (at_least(1.0), "ok ok off", True),
        (at_least(1.0), "ok ok failed", False),
        (at_least(1), "failed ok", True),
    ],
    ids=str,
)
def test_a_trigger_decides_from_the_finished_dependencies(
    execute: Way, trigger: Trigger, kinds: str, expected: bool
) -> None:
    """All four triggers against dependencies that succeeded, failed, were cancelled, skipped, or
    switched off by a condition; shares are of the active edges."""
    executor, tasks = outcomes(trigger, *kinds.split())
    result = execute(executor, tasks)
    assert statuses(result)["join"] == ("COMPLETED" if expected else "SKIPPED")
    if expected:
        early = trigger not in (all_succeeded, all_done)
        found = result["join"].result
        values = {name: "value" for name in result if name.startswith("ok")}
        assert found.items() <= values.items() if early else found == values
    else:
        assert result["join"].reason


@pytest.mark.parametrize("trigger", [all_succeeded, all_done, any_succeeded, at_least(3)], ids=str)
def test_a_node_without_dependencies_runs(execute: Way, trigger: Trigger) -> None:
    """There is nothing to wait for: under any trigger it runs, also when its edges are removed."""
    dag = join_of(trigger, "a", "b")
    modification = DynamicModification(remove_edges=[("a", "join"), ("b", "join")])
    dag = dag.to_builder().add_edge("first", "a").add_edge("first", "b").build()
    executor = DynamicExecutor(dag, {"first": changing(modification)})
    result = execute(executor, {"first": nothing, "a": fail, "b": fail, "join": keep})
    assert result["join"].result == {}
    alone = DAG.builder().add_node("alone", policy=NodePolicy(trigger=trigger)).build()
    assert execute(DynamicExecutor(alone), {"alone": nothing}).ok


def test_the_reason_names_trigger_and_culprit(execute: Way) -> None:
    """A node that its trigger skips says how many there were, what it takes, and who is missing;
    what depends on it is skipped for the same reason."""
    dag = join_of(at_least(2), "good", "bad").to_builder().add_edge("join", "after").build()
    tasks = {"good": nothing, "bad": fail, "join": keep, "after": nothing}
    result = execute(DynamicExecutor(dag), tasks)
    assert result["join"].reason == (
        "skipped because too few dependencies of 'join' succeeded: "
        "1 of 2, and its trigger is at_least(2); 'bad' is FAILED"
    )
    assert result["after"].reason == result["join"].reason


def test_a_skip_by_trigger_alone_is_no_failure(execute: Way) -> None:
    """Too few dependencies where nothing failed: the node is skipped, and the run is `ok`."""
    result = execute(DynamicExecutor(join_of(at_least(2), "a")), {"a": nothing, "join": keep})
    assert statuses(result) == {"a": "COMPLETED", "join": "SKIPPED"}
    assert result.ok


# --- any_succeeded and at_least: not later than they may ------------------------------------------


def test_any_succeeded_starts_at_the_first_success(execute: Way) -> None:
    """The node starts, and ends, while its other dependencies still run, after the first success
    and not at the first failure."""
    latch = Latch()
    order: list[str] = []

    async def quick() -> str:
        await passes(5)
        order.append("quick")
        return "quick"

    def join(inputs: Mapping[str, Any], slow: Any, quick: Any) -> Any:
        order.append("join")
        return dict(inputs), slow, quick

    async def after() -> None:
        latch.open()

    async def slow() -> str:
        await latch.wait()
        order.append("slow")
        return "slow"

    dag = join_of(any_succeeded, "bad", "slow", "quick").to_builder()
    tasks = {"bad": fail_at_once, "slow": slow, "quick": quick, "join": join, "after": after}
    result = execute(DynamicExecutor(dag.add_edge("join", "after").build()), tasks)
    assert order == ["quick", "join", "slow"]
    assert result["join"].result == ({"quick": "quick"}, None, "quick")
    assert statuses(result)["after"] == "COMPLETED"


@pytest.mark.parametrize(("trigger", "needed"), [(at_least(3), 3), (at_least(0.5), 2)], ids=str)
def test_at_least_starts_when_enough_have_succeeded(
    execute: Way, trigger: Trigger, needed: int
) -> None:
    """The node starts as soon as so many have succeeded, while the rest still runs."""
    latch = Latch()
    names = [f"n{i}" for i in range(4)]

    async def join(inputs: Mapping[str, Any]) -> list[str]:
        latch.open()
        return list(inputs)

    async def quick() -> None:
        await passes(5)

    tasks = {name: quick if i < needed else latch.wait for i, name in enumerate(names)}
    result = execute(DynamicExecutor(join_of(trigger, *names)), {**tasks, "join": join})
    assert result["join"].result == names[:needed]
    assert result.succeeded == 5


def test_a_share_is_of_what_is_active_at_the_moment(execute: Way) -> None:
    """An edge that becomes inactive while others run lowers the share's count: the node starts."""
    latch = Latch()

    async def join() -> None:
        latch.open()

    dag = join_of(at_least(0.5), "quick", "slow", "off")
    dag = dag.to_builder().add_edge("switch", "off", condition=no).add_edge("quick", "switch")
    tasks = {"quick": nothing, "slow": latch.wait, "off": nothing, "switch": nothing, "join": join}
    result = execute(DynamicExecutor(dag.build()), tasks)
    assert statuses(result) == {
        **dict.fromkeys(["quick", "slow", "switch", "join"], "COMPLETED"),
        "off": "SKIPPED",
    }


def test_removing_edges_may_start_a_node(execute: Way) -> None:
    """A modification that removes the edges of those who are slow lets the rest be enough."""
    latch = Latch()

    async def join(inputs: Mapping[str, Any]) -> list[str]:
        latch.open()
        return list(inputs)

    dag = join_of(at_least(0.6), "a", "b", "c")
    removal = DynamicModification(remove_edges=[("b", "join"), ("c", "join")])
    tasks = {"a": nothing, "b": latch.wait, "c": latch.wait, "join": join}
    result = execute(DynamicExecutor(dag, {"a": changing(removal)}), tasks)
    assert result["join"].result == ["a"]


def test_what_comes_later_does_not_matter(execute: Way) -> None:
    """A dependency that fails after the node has started changes nothing for it; the run is not
    `ok`, since something failed."""
    latch = Latch()

    async def join() -> str:
        latch.open()
        return "done"

    async def late() -> None:
        await latch.wait()
        raise ValueError("late")

    result = execute(
        DynamicExecutor(join_of(any_succeeded, "quick", "late")),
        {"quick": nothing, "late": late, "join": join},
    )
    assert statuses(result) == {"quick": "COMPLETED", "late": "FAILED", "join": "COMPLETED"}
    assert not result.ok


def test_a_dependency_between_attempts_is_not_done(execute: Way) -> None:
    """A failed attempt that is followed by another decides nothing: all_done waits for the last."""
    attempts: list[int] = []

    def flaky() -> int:
        attempts.append(1)
        if len(attempts) < 3:
            raise ValueError
        return len(attempts)

    policy = NodePolicy(retry=Retry(3, initial_delay=0))
    dag = DAG.builder().add_node("flaky", policy=policy).add_edge("flaky", "join")
    dag = dag.add_node("join", policy=CLEAN_UP).build()
    result = execute(DynamicExecutor(dag), {"flaky": flaky, "join": keep})
    assert result["join"].result == {"flaky": 3}


async def test_a_node_that_started_early_gets_no_new_dependency() -> None:
    """An edge to a node that started before its dependencies are done is refused: it runs."""
    release = anyio.Event()
    dag = join_of(any_succeeded, "quick", "slow")
    tasks = {"quick": nothing, "slow": release.wait, "join": release.wait}
    async with DynamicExecutor(dag).start(tasks) as run:
        while run.status("join") != "RUNNING":
            await passes(1)
        with pytest.raises(ModificationError, match="'join' is RUNNING already"):
            await run.modify(DynamicModification([DynamicNodeSpec("new", nothing, [], ["join"])]))
        release.set()
        assert (await run.wait()).succeeded == 3


def test_a_node_that_started_early_cannot_close_a_cycle(execute: Way) -> None:
    """The expander of a node that did not wait for "slow" cannot make "slow" wait for it."""
    latch = Latch()
    dag = join_of(any_succeeded, "quick", "slow").to_builder().add_edge("first", "slow").build()
    between = DynamicNodeSpec("between", nothing, ["join"], ["slow"])

    async def first() -> None:
        await latch.wait()

    async def expand(name: str, result: Any) -> DynamicModification:
        latch.open()
        return DynamicModification([between])

    tasks = {"quick": nothing, "slow": nothing, "first": first, "join": nothing}
    result = execute(DynamicExecutor(dag, {"join": expand}), tasks)
    assert statuses(result) == {
        **dict.fromkeys(["quick", "first", "slow"], "COMPLETED"),
        "join": "FAILED",
    }
    error = result["join"].error
    assert isinstance(error, ModificationError)
    assert [fault.kind for fault in error.faults] == ["cycle"]


# --- all_done: the clean-up ----------------------------------------------------------------------


def test_the_clean_up_runs_whatever_happened(execute: Way) -> None:
    """An `all_done` node runs when what it depends on failed, was skipped, was cancelled one by
    one, or completed; it gets the results that there are, and None for the others."""

    def clean_up(bad: Any, lost: Any, loser: Any, good: Any, inputs: Mapping[str, Any]) -> Any:
        return bad, lost, loser, good, dict(inputs)

    builder = DAG.builder().add_node("clean_up", policy=CLEAN_UP).add_edge("bad", "lost")
    for name in ("bad", "lost", "loser", "good"):
        builder.add_edge(name, "clean_up")
    expanders = {"good": changing(DynamicModification(cancel_nodes=["loser"]))}
    tasks = {"bad": fail, "lost": nothing, "loser": anyio.sleep_forever, "good": lambda: "good"}
    executor = DynamicExecutor(builder.build(), expanders)
    result = execute(executor, {**tasks, "clean_up": clean_up})
    assert statuses(result) == {
        "bad": "FAILED",
        "lost": "SKIPPED",
        "loser": "CANCELLED",
        "good": "COMPLETED",
        "clean_up": "COMPLETED",
    }
    assert result["clean_up"].result == (None, None, None, "good", {"good": "good"})


@pytest.mark.parametrize("count", [0, 3])
def test_the_clean_up_runs_after_any_expansion(execute: Way, count: int) -> None:
    """An `all_done` node after a fan-out runs when the expansion was empty, and when all that it
    added failed."""
    dag = join_of(all_done, "discover", name="clean_up")
    specs = [DynamicNodeSpec(f"n{i}", fail, ["discover"], ["clean_up"]) for i in range(count)]
    executor = DynamicExecutor(dag, {"discover": adding(*specs)})
    result = execute(executor, {"discover": lambda: "found", "clean_up": keep})
    assert result["clean_up"].result == {"discover": "found"}
    assert (result.failed, result.succeeded) == (count, 2)


def test_the_clean_up_runs_after_an_expander_that_failed(execute: Way) -> None:
    """Where the expander failed the node has failed: its value is not among the inputs."""
    dag = join_of(all_done, "discover", name="clean_up")
    executor = DynamicExecutor(dag, {"discover": fail})
    result = execute(executor, {"discover": lambda: "found", "clean_up": keep})
    assert result["discover"].result == "found"
    assert statuses(result) == {"discover": "FAILED", "clean_up": "COMPLETED"}
    assert result["clean_up"].result == {}


def test_the_clean_up_waits_for_all(execute: Way) -> None:
    """An `all_done` node starts after the last of its dependencies, not at the first failure."""
    order: list[str] = []
    failed = Latch()

    async def bad() -> None:
        failed.open()
        raise ValueError

    async def slow() -> None:
        await failed.wait()
        await passes(10)
        order.append("slow")

    result = execute(
        DynamicExecutor(join_of(all_done, "bad", "slow")),
        {"bad": bad, "slow": slow, "join": lambda: order.append("join")},
    )
    assert result.succeeded == 2
    assert order == ["slow", "join"]


def test_a_clean_up_ends_a_cascade(execute: Way) -> None:
    """What depends on a clean-up that ran is not skipped, although a failure came before it."""
    builder = join_of(all_done, "lost", name="clean_up").to_builder()
    dag = builder.add_edge("bad", "lost").add_edge("clean_up", "after").build()
    tasks = {"bad": fail, "lost": nothing, "clean_up": nothing, "after": nothing}
    result = execute(DynamicExecutor(dag), tasks)
    assert statuses(result) == {
        "bad": "FAILED",
        "lost": "SKIPPED",
        "clean_up": "COMPLETED",
        "after": "COMPLETED",
    }


def test_its_own_condition_prevents_a_clean_up(execute: Way) -> None:
    """A condition on the edge to an `all_done` node counts: all off, it is skipped. But where a
    condition skipped what it depends on, it runs: that is done."""
    dag = (
        DAG.builder()
        .add_node("unwanted", policy=CLEAN_UP)
        .add_node("wanted", policy=CLEAN_UP)
        .add_edge("a", "unwanted", condition=no)
        .add_edge("a", "off", condition=no)
        .add_edge("off", "wanted")
        .build()
    )
    result = execute(DynamicExecutor(dag), dict.fromkeys(dag.nodes(), nothing))
    assert statuses(result) == {
        "a": "COMPLETED",
        "unwanted": "SKIPPED",
        "off": "SKIPPED",
        "wanted": "COMPLETED",
    }
    assert result["unwanted"].reason == (
        "skipped by condition: the edge from 'a' to 'unwanted' is inactive"
    )


def test_a_run_that_is_ended_runs_no_clean_up(execute: Way) -> None:
    """`on_failure="cancel"` ends the run: an `all_done` node is CANCELLED with the rest."""
    ran: list[str] = []
    executor = DynamicExecutor(join_of(all_done, "bad"), on_failure="cancel")
    result = execute(executor, {"bad": fail, "join": lambda: ran.append("join")})
    assert statuses(result) == {"bad": "FAILED", "join": "CANCELLED"}
    assert result["join"].reason == "the run was ended because 'bad' failed"
    assert ran == []


# --- partial results of a fan-out ----------------------------------------------------------------


def fan_out(trigger: Trigger, count: int, is_bad: Callable[[int], bool]) -> tuple[Any, Any]:
    """Return a run in which "discover" adds so many nodes before "join", some of which fail."""
    specs = [
        DynamicNodeSpec(
            f"part_{i}", fail_at_once if is_bad(i) else lambda i=i: i, ["discover"], ["join"]
        )
        for i in range(count)
    ]
    dag = join_of(trigger, "discover")
    executor = DynamicExecutor(dag, {"discover": adding(*specs)}, max_concurrency=1)
    return executor, {"discover": nothing, "join": keep}


def test_partial_results_of_a_fan_out_are_kept(execute: Way) -> None:
    """An `all_done` join gets what succeeded of a fan-out, in edge order, and the rest is told in
    the result."""
    executor, tasks = fan_out(all_done, 10, lambda i: i % 3 == 0)
    result = execute(executor, tasks)
    kept = {f"part_{i}": i for i in range(10) if i % 3}
    assert result["join"].result == {"discover": None, **kept}
    assert list(result["join"].result) == ["discover", *kept]
    assert (result.failed, result.ok) == (4, False)


@pytest.mark.parametrize(("bad", "runs"), [(5, True), (6, True), (7, False)])
def test_half_of_a_fan_out_may_be_enough(execute: Way, bad: int, runs: bool) -> None:
    """`at_least(0.5)` of twelve edges, one from the node that fanned out: with five more it runs,
    with four it is skipped."""
    executor, tasks = fan_out(at_least(0.5), 11, lambda i: i < bad)
    result = execute(executor, tasks)
    assert statuses(result)["join"] == ("COMPLETED" if runs else "SKIPPED")
    assert result.failed == bad
    if runs:
        first = {f"part_{i}": i for i in range(bad, bad + 5)}
        assert result["join"].result.items() >= first.items()
    else:
        assert "5 of 12, and its trigger is at_least(0.5)" in (result["join"].reason or "")


# --- where a trigger comes from ------------------------------------------------------------------


def test_a_trigger_of_the_executors_policy(execute: Way) -> None:
    """The executor's `policy` gives a trigger to all nodes, also to those added later, that say
    nothing of their own; a policy about something else leaves it as it is."""
    dag = (
        DAG.builder()
        .add_edge("bad", "usual")
        .add_node("strict", policy=NodePolicy(trigger=all_succeeded))
        .add_edge("bad", "strict")
        .add_node("first", policy=NodePolicy(priority=3))
        .add_edge("bad", "first")
        .build()
    )
    new = [
        DynamicNodeSpec("added", nothing, ["bad"]),
        DynamicNodeSpec("added_strict", nothing, ["bad"], policy=NodePolicy(trigger=all_succeeded)),
        DynamicNodeSpec("added_timed", nothing, ["bad"], policy=NodePolicy(timeout=GUARD)),
    ]
    executor = DynamicExecutor(dag, {"usual": adding(*new)}, policy=CLEAN_UP)
    result = execute(executor, {"bad": fail, "usual": nothing, "strict": nothing, "first": nothing})
    assert statuses(result) == {
        "bad": "FAILED",
        **dict.fromkeys(["usual", "first", "added", "added_timed"], "COMPLETED"),
        **dict.fromkeys(["strict", "added_strict"], "SKIPPED"),
    }


@pytest.mark.parametrize(
    ("trigger", "expected"),
    [
        (None, "SKIPPED"),
        (all_succeeded, "SKIPPED"),
        (all_done, "COMPLETED"),
        (any_succeeded, "SKIPPED"),
        (at_least(1), "SKIPPED"),
    ],
    ids=str,
)
@pytest.mark.parametrize("under", ["bad", "lost", "loser"])
def test_a_node_added_under_one_that_did_not_succeed(
    execute: Way, under: str, trigger: Trigger | None, expected: str
) -> None:
    """DESIGN section 4: a new node that depends on a FAILED, CANCELLED or SKIPPED one is skipped at
    once, unless its trigger says otherwise: `all_done` runs."""
    builder = DAG.builder().add_edge("bad", "lost").add_node("first").add_node("loser")
    for name in ("lost", "loser"):
        builder.add_edge(name, "grow")
    dag = builder.add_node("grow", policy=CLEAN_UP).build()
    policy = None if trigger is None else NodePolicy(trigger=trigger)
    expanders = {
        "first": changing(DynamicModification(cancel_nodes=["loser"])),
        "grow": adding(DynamicNodeSpec("new", nothing, [under], policy=policy)),
    }
    tasks = {"bad": fail, "loser": anyio.sleep_forever}
    tasks |= dict.fromkeys(["first", "lost", "grow"], nothing)
    result = execute(DynamicExecutor(dag, expanders), tasks)
    assert statuses(result)["new"] == expected
    if expected == "SKIPPED":
        blamed = "bad" if under == "lost" and trigger in (None, all_succeeded) else under
        assert repr(blamed) in (result["new"].reason or "")


def test_a_trigger_on_a_node_that_an_expander_adds(execute: Way) -> None:
    """A new node counts what is done already: one success among failures and pending ones starts
    an `any_succeeded` node at once."""
    latch = Latch()

    async def new(inputs: Mapping[str, Any]) -> list[str]:
        latch.open()
        return list(inputs)

    spec = DynamicNodeSpec(
        "new", new, ["good", "bad", "slow"], policy=NodePolicy(trigger=any_succeeded)
    )
    late = DynamicNodeSpec("late", keep, ["good", "slow"], policy=NodePolicy(trigger=at_least(2)))
    builder = DAG.builder().add_edge("good", "grow").add_edge("bad", "grow").add_node("slow")
    dag = builder.add_node("grow", policy=CLEAN_UP).build()
    executor = DynamicExecutor(dag, {"grow": adding(spec, late)})
    tasks = {"good": lambda: 1, "bad": fail, "slow": latch.wait, "grow": nothing}
    result = execute(executor, tasks)
    assert result["new"].result == ["good"]
    assert result["late"].result == {"good": 1, "slow": None}


def test_a_modification_is_judged_as_a_whole(execute: Way) -> None:
    """S35: a node with a trigger is not skipped for one new dependency while another comes with the
    same modification; the order of the specs does not matter."""

    for order in (1, -1):
        dag = join_of(any_succeeded, "bad", "grow").to_builder().add_edge("bad", "idle")
        dag = dag.add_node("idle", policy=CLEAN_UP).add_edge("idle", "grow").build()
        specs = [
            DynamicNodeSpec("doomed", nothing, ["bad"], ["join"]),
            DynamicNodeSpec("fine", lambda: "fine", ["idle"], ["join"]),
        ][::order]
        modification = DynamicModification(specs, remove_edges=[("grow", "join")])
        executor = DynamicExecutor(dag, {"idle": changing(modification)})
        tasks = {"bad": fail, "idle": nothing, "grow": fail, "join": keep}
        result = execute(executor, tasks)
        assert result["join"].result == {"fine": "fine"}
        assert statuses(result)["doomed"] == "SKIPPED"


def test_a_trigger_with_conditions_on_its_edges(execute: Way) -> None:
    """`at_least(2)` counts successes over active edges only, given by the builder or added."""
    builder = join_of(at_least(2), "a", "b").to_builder().add_edge("c", "join", condition=no)
    dag = builder.add_edge("a", "grow").add_edge("c", "grow").add_edge("grow", "join").build()
    edges = [Edge("a", "late", condition=no), Edge("grow", "late", condition=bool)]
    late = DynamicNodeSpec("late", keep, policy=NodePolicy(trigger=at_least(2)))
    executor = DynamicExecutor(
        dag, {"grow": changing(DynamicModification([late], add_edges=edges))}
    )
    tasks = {"a": lambda: 1, "b": fail, "c": lambda: 3, "grow": lambda: 4, "join": keep}
    result = execute(executor, tasks)
    assert result["join"].result == {"a": 1, "grow": 4}
    assert statuses(result)["late"] == "SKIPPED"
    assert "1 of 1, and its trigger is at_least(2)" in (result["late"].reason or "")


def test_sync_nodes_too(execute: Way) -> None:
    """A join in a worker thread starts at the first success of sync nodes while one is at work."""
    done = threading.Event()

    def slow() -> bool:
        return done.wait(GUARD)

    dag = join_of(any_succeeded, "quick", "slow")
    tasks = {"quick": nothing, "slow": slow, "join": done.set}
    result = execute(DynamicExecutor(dag, max_workers=2), tasks)
    assert result["slow"].result is True
    assert result.succeeded == 3
