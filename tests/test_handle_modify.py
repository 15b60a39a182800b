"""Modifications from outside: `await run.modify(...)`."""

from typing import Any

import anyio
import anyio.from_thread
import pytest

import dagron
from dagron import DynamicExecutor, Edge, NodePolicy, Run
from faults import GUARD, graph, passes, until
from handles import (
    CANCELLED,
    COMPLETED,
    FAILED,
    PENDING,
    READY,
    RUNNING,
    SKIPPED,
    Modification,
    Node,
    noop,
    running,
)


async def refused(run: Run, modification: Modification, **options: Any) -> list[str]:
    """Have a modification refused, see that nothing has changed, and return the faults' kinds."""
    before = (run.dag, run.version, [(name, run.status(name)) for name in run.dag])
    with pytest.raises(dagron.ModificationError) as caught:
        await run.modify(modification, **options)
    assert (run.dag, run.version, [(name, run.status(name)) for name in run.dag]) == before
    assert caught.value.by is None
    assert str(caught.value).startswith("the modification was refused, nothing was changed")
    assert all(fault.help for fault in caught.value.faults)
    return [fault.kind for fault in caught.value.faults]


# --- what lands ----------------------------------------------------------------------------------


async def test_a_modification_lands_before_modify_returns() -> None:
    """`modify` lands the modification whole and returns the version of the graph that it makes;
    the new nodes run, with results of the old ones by name.
    """
    gate = anyio.Event()

    async def double(a: int) -> int:
        return 2 * a

    async def wait() -> int:
        await gate.wait()
        return 21

    async with running(graph(edges="a-z a-old"), {"a": wait, "z": noop, "old": noop}) as run:
        await until(lambda: run.status("a") is RUNNING)
        change = Modification(
            [Node("b", double, ["a"], ["z"])], remove_nodes=["old"], remove_edges=[("a", "z")]
        )
        assert await run.modify(change) == run.version == 1
        assert run.dag == graph("a", edges="a-b b-z")
        assert (run.status("b"), run.status("z")) == (PENDING, PENDING)
        gate.set()
    result = await run.wait()
    assert result["b"].result == 42
    assert (result.removed, result.ok) == (("old",), True)


@pytest.mark.parametrize("moment", ["at the top of the block", "while it runs"])
async def test_nodes_from_outside_rank_after_the_initial_ones(moment: str) -> None:
    """Nodes from outside rank after the initial ones and what these added, in landing order; they
    have no `added_by` and depth 0, what their expanders add has.
    """
    gate = anyio.Event()

    async def grow(name: str, result: object) -> Modification:
        return Modification([Node(f"{name}+", noop, [name])])

    tasks = {"z": gate.wait, "a": gate.wait}
    async with running(graph("z", "a"), tasks, {"z": grow, "m": grow}) as run:
        if moment == "while it runs":
            await until(lambda: run.status("a") is RUNNING)
        assert await run.modify(Modification([Node("m", gate.wait), Node("b", noop)])) == 1
        assert await run.modify(Modification([Node("c", noop)])) == 2
        gate.set()
    result = await run.wait()
    assert list(result) == ["z", "z+", "a", "m", "m+", "b", "c"]
    origins = {name: (result[name].added_by, result[name].depth) for name in result}
    assert origins["m"] == origins["b"] == origins["a"] == (None, 0)
    assert origins["m+"] == ("m", 1)
    assert origins["z+"] == ("z", 1)


async def test_a_modification_from_inside_a_node() -> None:
    """A node that a running task adds and that depends on that task waits until task and expander
    are done.
    """
    seen: list[str] = []

    async def parent() -> str:
        await run.modify(Modification([Node("child", child, ["parent"], ["last"])]))
        await passes(20)
        seen.append("parent")
        return "value"

    async def expand(name: str, result: str) -> None:
        await passes(20)
        seen.append("expander")

    async def child(parent: str) -> str:
        seen.append(f"child of a {parent}")
        return "child"

    async def last(inputs: dict[str, Any]) -> list[str]:
        seen.append("last")
        return list(inputs)

    tasks = {"parent": parent, "last": last}
    async with running(graph(edges="parent-last"), tasks, {"parent": expand}) as run:
        result = await run.wait()
    assert result["last"].result == ["parent", "child"]
    assert seen == ["parent", "expander", "child of a value", "last"]


async def test_a_modification_from_a_nodes_thread() -> None:
    """A sync node modifies its run by `anyio.from_thread.run(run.modify, ...)`, at `max_workers=1`
    too.
    """

    def parent() -> int:
        return anyio.from_thread.run(run.modify, Modification([Node("child", lambda: 7)]))

    async with running(graph("parent"), {"parent": parent}, max_workers=1) as run:
        result = await run.wait()
    assert (result["parent"].result, result["child"].result) == (1, 7)


async def test_a_modification_from_inside_an_expander() -> None:
    """An expander may use the handle and return a modification as well: both land, in order."""

    async def expand(name: str, result: object) -> Modification:
        await run.modify(Modification([Node("outside", noop)]))
        return Modification([Node("inside", noop, ["outside"])])

    async with running(graph("a"), {"a": noop}, {"a": expand}) as run:
        result = await run.wait()
    assert (run.version, list(result)) == (2, ["a", "outside", "inside"])


async def test_conditions_and_policies_from_outside() -> None:
    """Edges with conditions and nodes with policies land from outside as from an expander: an edge
    from a completed node is judged at landing, by the stored result.
    """
    gate = anyio.Event()

    async def five() -> int:
        return 5

    def broken(value: int) -> bool:
        raise ValueError("no answer")

    asked: list[int] = []

    def above_nine(value: int) -> bool:
        asked.append(value)
        return value > 9

    clean_up = NodePolicy(trigger=dagron.all_done)
    async with running(graph("five", "held"), {"five": five, "held": gate.wait}) as run:
        await until(lambda: run.status("five") is COMPLETED)
        await run.modify(
            Modification(
                [Node(name, noop) for name in ("taken", "untaken", "broken")]
                + [Node("after", noop, ["untaken", "broken"], policy=clean_up)],
                add_edges=[
                    Edge("five", "taken", condition=lambda value: value == 5),
                    Edge("five", "untaken", condition=above_nine),
                    Edge("five", "broken", condition=broken),
                ],
            )
        )
        assert asked == [5]
        assert [run.status(n) for n in ("untaken", "broken")] == [SKIPPED, FAILED]
        gate.set()
    result = await run.wait()
    assert result["taken"].status is result["after"].status is COMPLETED
    assert isinstance(result["broken"].error, dagron.ConditionError)
    assert "condition" in (result["untaken"].reason or "")


async def test_a_group_from_outside_holds_its_limit() -> None:
    """A node from outside waits for a slot of its group; a group that has no limit is a fault with
    close names.
    """
    gate = anyio.Event()
    in_group = NodePolicy(group="github")
    dag = dagron.DAG.builder().add_node("a", policy=in_group).build()
    async with running(dag, {"a": gate.wait}, limits={"github": 1}) as run:
        await until(lambda: run.status("a") is RUNNING)
        await run.modify(Modification([Node("b", noop, policy=in_group)]))
        await passes(10)
        assert (run.status("b"), run.explain("b").limit) == (READY, "github")
        typo = Modification([Node("c", noop, policy=NodePolicy(group="gihub"))])
        assert await refused(run, typo) == ["group"]
        with pytest.raises(dagron.ModificationError, match="did you mean 'github'"):
            await run.modify(typo)
        gate.set()
    assert (await run.wait())["b"].status is COMPLETED


async def test_nodes_are_cancelled_by_a_modification() -> None:
    """`cancel_nodes` from outside cancels what runs and what waits, and leaves alone what has
    finished; the reason says that it was the program, and `result.ok` stays true.
    """
    dag = graph("done", "runs", edges="runs-next held-waits")
    gate = anyio.Event()
    tasks = dict.fromkeys(dag.nodes(), noop) | {"runs": anyio.sleep_forever, "held": gate.wait}
    async with running(dag, tasks) as run:
        await until(lambda: run.status("done") is COMPLETED)
        version = await run.modify(Modification(cancel_nodes=["done", "runs", "waits"]))
        assert version == 1
        assert run.status("waits") is CANCELLED
        gate.set()
    result = await run.wait()
    assert [result[n].status for n in ("done", "runs", "waits")] == [
        COMPLETED,
        CANCELLED,
        CANCELLED,
    ]
    assert result["next"].status is SKIPPED
    assert "handle" in (result["runs"].reason or "")
    assert "handle" in (result["waits"].reason or "")
    assert result.ok


@pytest.mark.parametrize("entered", [False, True])
async def test_the_graph_is_changed_before_the_run_begins(entered: bool) -> None:
    """At the top of the block nothing has begun: what `modify` and `cancel_node` do there is done
    before any node starts.
    """
    began: list[str] = []

    async def task(name: str) -> None:
        began.append(name)

    dag = graph(edges="a-b c-d")
    tasks = {name: (lambda name=name: task(name)) for name in dag}
    run = DynamicExecutor(dag).start(tasks)
    if not entered:
        run.cancel_node("c")
    with anyio.fail_after(GUARD):
        async with run:
            if entered:
                run.cancel_node("c")
            await run.modify(
                Modification([Node("x", lambda: task("x"), (), ["a"])], remove_nodes=["b"])
            )
            assert began == []
    result = await run.wait()
    assert began == ["x", "a"]
    assert (result["c"].status, result["d"].status) == (CANCELLED, SKIPPED)
    assert result.removed == ("b",)


async def test_removing_all_that_is_left_ends_the_run() -> None:
    """A run whose last nodes are removed or cancelled from outside ends."""
    async with running(graph(edges="a-b"), {"a": anyio.sleep_forever, "b": noop}) as run:
        await until(lambda: run.status("a") is RUNNING)
        await run.modify(Modification(remove_nodes=["b"], cancel_nodes=["a"]))
    assert (await run.wait()).cancelled == 1
    async with running(graph("a"), {"a": noop}) as run:
        await run.modify(Modification(remove_nodes=["a"]))
    assert list(await run.wait()) == []


async def test_an_empty_modification_changes_nothing() -> None:
    """S28: A modification that changes nothing makes no new version."""
    gate = anyio.Event()
    async with running(graph("a", "b"), {"a": gate.wait, "b": noop}) as run:
        await until(lambda: run.status("b") is COMPLETED)
        assert await run.modify(Modification()) == 0
        assert await run.modify(Modification(cancel_nodes=["b"])) == run.version == 0
        gate.set()


async def test_a_large_modification_from_outside() -> None:
    """Thousands of nodes from outside land at once, and the block's own task keeps its turns."""
    gate = anyio.Event()
    nodes = [Node(f"n{i}", noop, ["a"], ["z"]) for i in range(3_000)]
    async with running(graph(edges="a-z"), {"a": gate.wait, "z": noop}) as run:
        await until(lambda: run.status("a") is RUNNING)
        await run.modify(Modification(nodes))
        gate.set()
        turns = 0
        while run.status("z") is PENDING:
            await passes(1)
            turns += 1
    assert turns > 10
    assert (await run.wait()).succeeded == 3_002


# --- what is refused -----------------------------------------------------------------------------

REFUSED: dict[str, tuple[Modification, list[str]]] = {
    "a name that exists": (Modification([Node("held", noop)]), ["duplicate"]),
    "a name used before": (Modification([Node("removed", noop)]), ["duplicate"]),
    "an unknown dependency": (Modification([Node("x", noop, ["hedl"])]), ["unknown"]),
    "an unknown node to remove": (Modification(remove_nodes=["x"]), ["unknown"]),
    "an unknown node to cancel": (Modification(cancel_nodes=["x"]), ["unknown"]),
    "a dependent that runs": (Modification([Node("x", noop, [], ["held"])]), ["started"]),
    "a node that runs, removed": (Modification(remove_nodes=["held"]), ["started"]),
    "a cycle": (Modification(add_edges=[("z", "y")]), ["cycle"]),
    "an edge that is not there": (Modification(remove_edges=[("done", "z")]), ["edge"]),
    "too many nodes": (Modification([Node(f"n{i}", noop) for i in range(9)]), ["limit"]),
    "a parameter that fits nothing": (Modification([Node("x", lambda held: 0)]), ["signature"]),
    "three faults": (
        Modification([Node("x", noop, ["?"])], remove_nodes=["!"], cancel_nodes=["%"]),
        ["unknown", "unknown", "unknown"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_refused_modification_raises_at_its_caller(case: str) -> None:
    """A refused `modify` raises `ModificationError` with all its faults at its caller, changes
    nothing, and fails no node.
    """
    modification, kinds = REFUSED[case]
    gate = anyio.Event()
    dag = graph("done", edges="held-y y-z held-removed")
    tasks = dict.fromkeys(dag.nodes(), noop) | {"held": gate.wait}
    async with running(dag, tasks, max_nodes=8) as run:
        await until(lambda: run.status("done") is COMPLETED and run.status("held") is RUNNING)
        await run.modify(Modification(remove_nodes=["removed"]))
        assert await refused(run, modification) == kinds
        gate.set()
    result = await run.wait()
    assert (result.succeeded, result.ok) == (4, True)


async def test_a_refused_modification_in_a_node_is_the_nodes_to_catch() -> None:
    """Inside a node a refused `modify` is an exception like any other: caught, it fails nothing."""

    async def careful() -> str:
        with pytest.raises(dagron.ModificationError):
            await run.modify(Modification(remove_nodes=["x"]))
        return "went on"

    async def careless() -> None:
        await run.modify(Modification(remove_nodes=["x"]))

    tasks = {"careful": careful, "careless": careless}
    async with running(graph("careful", "careless"), tasks) as run:
        result = await run.wait()
    assert result["careful"].result == "went on"
    assert isinstance(result["careless"].error, dagron.ModificationError)


@pytest.mark.parametrize(
    "value", [None, [], {}, Node("x", noop), "x", Modification], ids=lambda v: type(v).__name__
)
async def test_only_a_modification_is_taken(value: Any) -> None:
    """Anything else is a `TypeError` at its caller that says what to write."""
    async with running(graph("a"), {"a": noop}) as run:
        with pytest.raises(TypeError, match=r"not \w+\n  help: write dagron.DynamicModification"):
            await run.modify(value)
    assert (await run.wait()).ok


async def test_a_spoilt_modification_is_a_fault() -> None:
    """A modification whose lists were spoilt after it was made is refused, and fails no node."""
    spoilt = Modification([Node("x", noop)])
    spoilt.add_nodes.append("y")  # type: ignore[arg-type]
    unlisted = Modification([Node("x", noop)])
    unlisted.add_nodes[0].dependencies.append(7)  # type: ignore[arg-type]
    async with running(graph("a"), {"a": noop}) as run:
        for modification in (spoilt, unlisted):
            assert await refused(run, modification) == ["invalid"]
    assert (await run.wait()).ok


async def test_a_stale_view_is_refused() -> None:
    """`expected_version=` refuses a stale view: of two that looked at the same version, one lands,
    and the other gets a `ModificationError` of the kind "stale" that names both versions.
    """
    gate = anyio.Event()
    async with running(graph("a"), {"a": gate.wait}) as run:
        seen = run.version
        assert await run.modify(Modification([Node("b", noop)]), expected_version=seen) == 1
        late = Modification([Node("c", noop)])
        assert await refused(run, late, expected_version=seen) == ["stale"]
        assert await refused(run, Modification(), expected_version=2) == ["stale"]
        with pytest.raises(dagron.ModificationError, match="has version 1 by now, not 0\n  help: "):
            await run.modify(late, expected_version=seen)
        assert await run.modify(late, expected_version=run.version) == 2
        gate.set()


async def test_an_expansion_outdates_a_view() -> None:
    """What an expander has landed counts as well for `expected_version`."""
    gate = anyio.Event()

    async def grow(name: str, result: object) -> Modification:
        return Modification([Node("child", noop)])

    async with running(graph("a", "b"), {"a": noop, "b": gate.wait}, {"a": grow}) as run:
        await until(lambda: "child" in run.dag)
        assert await refused(run, Modification([Node("x", noop)]), expected_version=0) == ["stale"]
        gate.set()


# --- when the run is over ------------------------------------------------------------------------


async def too_late(run: Run) -> None:
    """See that the run takes no modification any more, not even an empty one."""
    for modification in (Modification([Node("new", noop)]), Modification()):
        with pytest.raises(dagron.RunFinishedError, match=r"nothing was changed\n  help: .*Gate"):
            await run.modify(modification)
    assert "new" not in run.dag


async def test_a_run_that_has_ended_takes_no_modification() -> None:
    """After the last node has ended `modify` raises `RunFinishedError`, in the block and after it:
    the run does not stay open.
    """
    async with running(graph("a"), {"a": noop}) as run:
        await until(lambda: run.status("a") is COMPLETED)
        await too_late(run)
        await run.wait()
        await too_late(run)
    await too_late(run)


async def test_an_empty_graph_takes_no_modification() -> None:
    """A graph without nodes has ended when it begins."""
    async with running(graph(), {}) as run:
        await too_late(run)


@pytest.mark.parametrize("moment", ["at the top of the block", "while it runs", "afterwards"])
async def test_a_cancelled_run_takes_no_modification(moment: str) -> None:
    """When the run was cancelled `modify` raises `RunFinishedError`, even while nodes tidy up, and
    even before it has begun.
    """
    gate = anyio.Event()

    async def tidy() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await gate.wait()

    async with running(graph("a"), {"a": tidy}) as run:
        if moment != "at the top of the block":
            await until(lambda: run.status("a") is RUNNING)
        run.cancel("enough")
        if moment == "afterwards":
            gate.set()
            await run.wait()
        await too_late(run)
        gate.set()
    assert (await run.wait()).cancelled == 1


async def test_a_run_that_a_failure_or_its_timeout_has_ended_takes_no_modification() -> None:
    """The same holds when `on_failure="cancel"` or its timeout has ended the run."""
    began, tidying, gate = anyio.Event(), anyio.Event(), anyio.Event()

    async def tidy() -> None:
        try:
            began.set()
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                tidying.set()
                await gate.wait()

    async def fail_then() -> None:
        await began.wait()
        raise ValueError

    async with running(graph("a", "b"), {"a": tidy, "b": fail_then}, on_failure="cancel") as run:
        await tidying.wait()
        await too_late(run)
        gate.set()
    tidying, gate = anyio.Event(), anyio.Event()
    with anyio.fail_after(GUARD):
        async with DynamicExecutor(graph("a")).start({"a": tidy}, timeout=0.01) as run:
            await tidying.wait()
            await too_late(run)
            gate.set()


async def test_a_cancelled_caller_changes_nothing() -> None:
    """A `modify` in a scope that is cancelled already raises, and lands nothing."""
    gate = anyio.Event()
    async with running(graph("a"), {"a": gate.wait}) as run:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await run.modify(Modification([Node("b", noop)]))
        assert scope.cancelled_caught
        assert (run.version, "b" in run.dag) == (0, False)
        gate.set()


async def test_modifications_and_expansions_in_any_order() -> None:
    """Many tasks that modify, beside expanders that do, never see half of a modification: each
    lands whole or is refused, and every node that is in the graph runs.
    """

    async def grow(name: str, result: object) -> Modification:
        await passes(len(name))
        return Modification([Node(f"{name}+{i}", noop, [name], ["last"]) for i in range(3)])

    landed: list[int] = []

    async def add(run: Run, number: int) -> None:
        for i in range(5):
            await passes(number)
            seen = run.version
            name = f"outside{number}.{i}"
            pair = [Node(name, noop, (), ["last"]), Node(f"{name}'", noop, [name], ["last"])]
            try:
                landed.append(await run.modify(Modification(pair), expected_version=seen))
            except dagron.RunFinishedError:
                return

    names = [f"n{'x' * i}" for i in range(10)]
    gate = anyio.Event()
    dag = graph("held", edges=" ".join(f"{name}-last" for name in names) + " held-last")
    tasks = dict.fromkeys(dag.nodes(), noop) | {"held": gate.wait}
    async with running(dag, tasks, dict.fromkeys(names, grow)) as run:
        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(add, run, number)
        gate.set()
    result = await run.wait()
    assert len(landed) == len(set(landed)) == 30
    assert run.version == 40
    assert result.succeeded == len(result.dag) == 12 + 30 + 60
    assert len(result.dag.dependencies("last")) == 11 + 30 + 60
