"""How modifications land in a run: E4, E6 to E9, and each row of the table that E23 speaks of."""

import functools
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import anyio
import pytest

from dagron import (
    DAG,
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    ExecutionResult,
    ExpansionError,
    Fault,
    ModificationError,
    NodeStatus,
)
from ways import GUARD, Way, adding, chain, changing, nothing, passes


def new(name: str, *dependencies: str, dependents: tuple[str, ...] = ()) -> DynamicNodeSpec:
    return DynamicNodeSpec(name, nothing, dependencies, dependents)


# A graph in the middle of which nodes stand in every status. Two nodes run at once: `running` holds
# one place, the other serves done, failed, scout, ready and release in this order. When the
# expander of scout is called, ready and release wait for a place; release lets `running` go.
#
#     running ---> waiting ---> last        failed ---> skipped ---> skipped_too
#     done    scout    ready    release
GROUND = (
    DAG.builder()
    .add_node("running")
    .add_node("done")
    .add_node("failed")
    .add_node("scout")
    .add_node("ready")
    .add_node("release")
    .add_edge("running", "waiting")
    .add_edge("waiting", "last")
    .add_edge("failed", "skipped")
    .add_edge("skipped", "skipped_too")
    .build()
)


def land(
    execute: Way, modification: DynamicModification, log: list[str] | None = None, **limits: int
) -> ExecutionResult:
    """Run GROUND, the expander of scout returns this; log the nodes beside `running`."""
    log = [] if log is None else log
    released = anyio.Event()

    def task(name: str) -> Callable[[], Any]:
        async def run() -> str:
            if name == "running":
                with anyio.fail_after(GUARD):
                    await released.wait()
                return name
            log.append(name)
            if name == "failed":
                raise OSError("out of order")
            elif name == "release":
                released.set()
            return name

        return run

    executor = DynamicExecutor(
        GROUND, expanders={"scout": changing(modification)}, max_concurrency=2, **limits
    )
    return execute(executor, {name: task(name) for name in GROUND})


def accepted(execute: Way, modification: DynamicModification) -> ExecutionResult:
    result = land(execute, modification)
    assert result["scout"].error is None
    return result


def refused(execute: Way, modification: DynamicModification, **limits: int) -> tuple[Fault, ...]:
    """Return the faults; scout alone pays for them, and nothing of the modification was applied."""
    result = land(execute, modification, **limits)
    error = result["scout"].error
    assert isinstance(error, ModificationError)
    assert error.by == "scout"
    assert result["scout"].status is NodeStatus.FAILED
    assert result["scout"].result == "scout"
    assert result.dag == GROUND
    assert result.removed == ()
    assert (result.succeeded, result.failed, result.skipped) == (6, 2, 2)
    return error.faults


def kinds(faults: tuple[Fault, ...]) -> list[tuple[str, str]]:
    return [(fault.kind, fault.node) for fault in faults]


def test_ground(execute: Way) -> None:
    """The graph of these tests is in the states that they speak of when the modification lands."""
    names = ["running", "done", "failed", "scout"]
    modification = DynamicModification(remove_nodes=[*names, "skipped", "skipped_too"])
    assert [fault.message for fault in refused(execute, modification)] == [
        "node 'running' cannot be removed: it is RUNNING",
        "node 'done' cannot be removed: it is COMPLETED",
        "node 'failed' cannot be removed: it is FAILED",
        "node 'scout' cannot be removed: it is RUNNING",
    ]
    log: list[str] = []
    land(execute, DynamicModification(), log)
    assert log == ["done", "failed", "scout", "ready", "release", "waiting", "last"]


# -- E6 to E9


@pytest.mark.parametrize("reverse", [False, True])
def test_e6_order_of_specs(execute: Way, reverse: bool) -> None:
    """E6: A forward reference among specs of one modification works; order never matters."""
    specs = [new("c", "b", dependents=("d",)), new("b", "a"), new("a", "scout"), new("d")]
    if reverse:
        specs.reverse()
    result = accepted(execute, DynamicModification(specs))
    assert result.dag.ancestors("d") == ["scout", "a", "b", "c"]
    assert [result[name].status for name in "abcd"] == [NodeStatus.COMPLETED] * 4


def test_e7_all_faults(execute: Way) -> None:
    """E7: A modification with three faults reports all three."""
    faults = refused(
        execute,
        DynamicModification(
            [new("done"), new("x", "dnoe"), new("good", "scout")], remove_nodes=["running"]
        ),
    )
    assert kinds(faults) == [("started", "running"), ("duplicate", "done"), ("unknown", "dnoe")]


def test_e8_second_is_judged_against_the_first(execute: Way) -> None:
    """E8: Two expanders finishing together: applied one after the other; the second is judged
    against the first's graph, so that of two which add the same name one is refused."""
    both = anyio.Event()
    arrived: list[str] = []

    async def expand(name: str, result: object) -> DynamicModification:
        arrived.append(name)
        if len(arrived) == 2:
            both.set()
        with anyio.fail_after(GUARD):
            await both.wait()
        return DynamicModification([new("shared", name)])

    executor = DynamicExecutor(
        chain("left").to_builder().add_node("right").build(),
        expanders={"left": expand, "right": expand},
    )
    result = execute(executor, {"left": nothing, "right": nothing})
    [failed] = [node for node in result.node_results.values() if node.status is NodeStatus.FAILED]
    assert isinstance(failed.error, ModificationError)
    assert kinds(failed.error.faults) == [("duplicate", "shared")]
    [winner] = {"left", "right"} - {failed.name}
    assert result["shared"].added_by == winner
    assert result.dag.dependencies("shared") == [winner]


@pytest.mark.parametrize("cycle", [False, True])
def test_e8_second_builds_on_the_first(execute: Way, cycle: bool) -> None:
    """E8: The second is judged against the first's graph: it may name the first's nodes, and a
    cycle through the first's edges is refused."""
    landed = anyio.Event()

    async def beacon() -> None:
        landed.set()

    async def wait_for_it(name: str, result: object) -> DynamicModification:
        with anyio.fail_after(GUARD):
            await landed.wait()
        if cycle:
            return DynamicModification(add_edges=[("roof", "walls")])
        return DynamicModification([new("lamp", "roof")])

    first = DynamicModification(
        [DynamicNodeSpec("beacon", beacon, ["one"])], add_edges=[("walls", "roof")]
    )
    dag = chain("gate", "walls").to_builder().add_edge("gate", "roof")
    dag = dag.add_node("one").add_node("two").add_edge("two", "gate").build()
    executor = DynamicExecutor(dag, expanders={"one": changing(first), "two": wait_for_it})
    result = execute(executor, dict.fromkeys(dag, nothing))
    if cycle:
        error = result["two"].error
        assert isinstance(error, ModificationError)
        assert [fault.kind for fault in error.faults] == ["cycle"]
        assert result["roof"].status is NodeStatus.SKIPPED
    else:
        assert result.ok
        assert result.dag.ancestors("lamp") == ["two", "gate", "walls", "roof"]


@pytest.mark.parametrize("bound", ["max_workers", "max_concurrency"])
def test_e9_ready_node_waits_again(execute: Way, bound: str) -> None:
    """E9: A node that becomes ready and then gets a new dependency from an expander waits again."""
    log: list[str] = []
    spec = DynamicNodeSpec("first", lambda: log.append("first"), ["scout"], ["ready"])
    executor = DynamicExecutor(
        DAG.builder().add_node("scout").add_node("ready").build(),
        expanders={"scout": adding(spec)},
        **{bound: 1},
    )
    result = execute(executor, {"scout": nothing, "ready": lambda: log.append("ready")})
    assert result.ok
    assert log == ["first", "ready"]
    assert result.dag.dependencies("ready") == ["first"]


def test_e9_ready_node_waits_for_an_existing_one(execute: Way) -> None:
    """E9: A node that is ready waits again, also for a node that was there all along."""
    log: list[str] = []
    land(execute, DynamicModification(add_edges=[("last", "ready")]), log)
    assert log == ["done", "failed", "scout", "release", "waiting", "last", "ready"]


# -- E23: the table of what a modification may do, row by row


def test_e23_used_names(execute: Way) -> None:
    """E23: A name that exists or occurs twice is a fault."""
    for names in (["waiting"], ["twin", "twin"], ["waiting", "twin", "twin"]):
        faults = refused(execute, DynamicModification([new(name) for name in names]))
        assert kinds(faults) == [("duplicate", name) for name in dict.fromkeys(names)]


def test_e23_name_used_before_in_this_run(execute: Way) -> None:
    """E23: A name that was used before in this run is a fault: removing frees no name."""
    dag = chain("remover", "adder", "gone")
    executor = DynamicExecutor(
        dag,
        expanders={
            "remover": changing(DynamicModification(remove_nodes=["gone"])),
            "adder": adding(new("gone")),
        },
    )
    result = execute(executor, dict.fromkeys(dag, nothing))
    error = result["adder"].error
    assert isinstance(error, ModificationError)
    assert kinds(error.faults) == [("duplicate", "gone")]
    assert "removed earlier in this run" in error.faults[0].message
    # The next run knows nothing of it.
    assert execute(DynamicExecutor(dag), dict.fromkeys(dag, nothing)).ok


@pytest.mark.parametrize(
    "modification",
    [
        DynamicModification([new("x", "waitin")]),
        DynamicModification([new("x", dependents=("waitin",))]),
        DynamicModification(add_edges=[("waitin", "last")]),
        DynamicModification(add_edges=[("scout", "waitin")]),
    ],
    ids=["dependencies", "dependents", "source", "target"],
)
def test_e23_unknown_ends(execute: Way, modification: DynamicModification) -> None:
    """E23: `dependencies`, `dependents` and edge ends that do not exist are faults, with the
    nearest known names."""
    [fault] = refused(execute, modification)
    assert (fault.kind, fault.node) == ("unknown", "waitin")
    assert "which does not exist" in fault.message
    assert fault.help.startswith("did you mean 'waiting'")


def test_e23_nearest_names_of_the_modification_itself(execute: Way) -> None:
    """E23: The nearest known names include those that the modification itself adds."""
    [fault] = refused(execute, DynamicModification([new("polish"), new("x", "polihs")]))
    assert fault.help.startswith("did you mean 'polish'")


def test_e23_end_that_was_removed_earlier(execute: Way) -> None:
    """E23: A node that was removed earlier in this run is no end of an edge; it is not said
    never to have existed."""
    executor = DynamicExecutor(
        chain("a", "b", "gone"),
        expanders={
            "a": changing(DynamicModification(remove_nodes=["gone"])),
            "b": adding(new("x", "gone")),
        },
    )
    error = execute(executor, dict.fromkeys(["a", "b", "gone"], nothing))["b"].error
    assert isinstance(error, ModificationError)
    assert kinds(error.faults) == [("unknown", "gone")]
    assert "was removed earlier in this run" in error.faults[0].message


def test_e23_end_that_is_removed(execute: Way) -> None:
    """E23: A node that the same modification removes is no end of an edge."""
    faults = refused(
        execute,
        DynamicModification([new("x", "waiting", dependents=("last",))], ["waiting", "last"]),
    )
    assert kinds(faults) == [("unknown", "waiting"), ("unknown", "last")]
    assert all("the same modification removes" in fault.message for fault in faults)


def test_e23_cycle(execute: Way) -> None:
    """E23: A cycle is a fault, with the path."""
    modification = DynamicModification([new("x", "last", dependents=("waiting",))])
    [fault] = refused(execute, modification)
    assert fault.kind == "cycle"
    path = [part.strip("'") for part in fault.message.partition(": ")[2].split(" -> ")]
    assert path[0] == path[-1]
    assert set(path) == {"x", "waiting", "last"}
    graph = {*GROUND.edges(), ("last", "x"), ("x", "waiting")}
    assert all(edge in graph for edge in pairwise(path))


def test_e23_cycle_of_one(execute: Way) -> None:
    """E23: A cycle is a fault: also a node that would wait for itself."""
    for modification in (
        DynamicModification([new("x", "x")]),
        DynamicModification(add_edges=[("waiting", "waiting")]),
    ):
        [fault] = refused(execute, modification)
        assert fault.kind == "cycle"


def test_e23_cycle_opened_by_the_same_modification(execute: Way) -> None:
    """E23: An edge that the modification removes, or whose node it removes, closes no cycle."""
    turned = DynamicModification(
        add_edges=[("last", "waiting")], remove_edges=[("waiting", "last")]
    )
    assert accepted(execute, turned).dag.dependencies("waiting") == ["running", "last"]
    cut = DynamicModification([new("x", "last"), new("y", "x")], ["waiting"])
    assert accepted(execute, cut).dag.ancestors("y") == ["last", "x"]


def test_e23_completed_dependency(execute: Way) -> None:
    """E23: A dependency that is COMPLETED is satisfied."""
    log: list[str] = []
    spec = DynamicNodeSpec("x", lambda done, scout: log.append(done + scout), ["done", "scout"])
    assert accepted(execute, DynamicModification([spec]))["x"].status is NodeStatus.COMPLETED
    assert log == ["donescout"]


@pytest.mark.parametrize("dependency", ["failed", "skipped", "skipped_too"])
@pytest.mark.parametrize("more", [[], [new("y", "x")]], ids=["alone", "with a dependent"])
def test_e23_unmet_dependency(execute: Way, dependency: str, more: list[DynamicNodeSpec]) -> None:
    """E23: With a dependency that is FAILED, or SKIPPED because of a failure, the new node is
    SKIPPED at once, and so is what waits for it."""
    log: list[str] = []
    spec = DynamicNodeSpec("x", lambda: log.append("x"), [dependency], ["ready"])
    result = accepted(execute, DynamicModification([spec, *more]))
    for name in ("x", "ready", *(spec.name for spec in more)):
        assert result[name].status is NodeStatus.SKIPPED
        assert "'failed'" in (result[name].reason or "")
    assert result["x"].added_by == "scout"
    assert log == []


@pytest.mark.parametrize("target", ["running", "done", "failed", "scout"])
def test_e23_started_target(execute: Way, target: str) -> None:
    """E23: A dependent or edge target that is RUNNING, COMPLETED or FAILED is a fault: it would be
    a prerequisite that nobody waited for."""
    for modification in (
        DynamicModification([new("x", dependents=(target,))]),
        DynamicModification(add_edges=[("ready", target)]),
    ):
        assert kinds(refused(execute, modification)) == [("started", target)]


def test_e23_skipped_target(execute: Way) -> None:
    """E23: A dependent or edge target that is SKIPPED is accepted, without effect on outcomes."""
    modification = DynamicModification(
        [new("x", dependents=("skipped",))], add_edges=[("ready", "skipped_too")]
    )
    result = accepted(execute, modification)
    assert result["x"].status is NodeStatus.COMPLETED
    assert (result.succeeded, result.failed, result.skipped) == (8, 1, 2)
    assert result["skipped_too"].status is NodeStatus.SKIPPED
    assert result.dag.dependencies("skipped") == ["failed", "x"]


def test_e23_removing_a_skipped_node(execute: Way) -> None:
    """E23: Removing a SKIPPED node is accepted, without effect: it stays in `node_results` and is
    not in `removed`."""
    result = accepted(execute, DynamicModification(remove_nodes=["skipped"]))
    assert result["skipped"].status is NodeStatus.SKIPPED
    assert "skipped" in result.dag
    assert result.removed == ()


def test_e23_cycle_through_skipped_nodes(execute: Way) -> None:
    """E23: A cycle through nodes that were SKIPPED is a fault even so."""
    [fault] = refused(execute, DynamicModification(add_edges=[("skipped_too", "skipped")]))
    assert fault.kind == "cycle"


def test_e23_removing_an_edge_that_is_not_there(execute: Way) -> None:
    """E23: An edge to remove that does not exist is a fault."""
    edges = [("done", "last"), ("last", "waiting"), ("nowhere", "last")]
    faults = refused(execute, DynamicModification(remove_edges=edges))
    assert kinds(faults) == [("edge", "last"), ("edge", "waiting"), ("edge", "last")]


def test_e23_removing_an_edge_too_late(execute: Way) -> None:
    """E23: An edge to remove whose target has started or finished is a fault."""
    dag = chain("a", "b", "c")
    cut = changing(DynamicModification(remove_edges=[("a", "b")]))
    for expander in ("b", "c"):
        executor = DynamicExecutor(dag, expanders={expander: cut})
        error = execute(executor, dict.fromkeys(dag, nothing))[expander].error
        assert isinstance(error, ModificationError)
        assert kinds(error.faults) == [("started", "b")]


def test_e23_removing_an_edge_frees_its_target(execute: Way) -> None:
    """E23: Without the edge that is removed its target no longer waits, or is skipped no more."""
    log: list[str] = []
    result = land(execute, DynamicModification(remove_edges=[("running", "waiting")]), log)
    assert result["waiting"].status is NodeStatus.COMPLETED
    assert log.index("waiting") < log.index("last")
    assert result.dag.dependencies("waiting") == []


def test_e23_removed_and_added_again(execute: Way) -> None:
    """E23: A name that is removed and added again in one modification is a fault: within a run a
    name means one node."""
    faults = refused(execute, DynamicModification([new("waiting")], ["waiting"]))
    assert kinds(faults) == [("duplicate", "waiting")]
    assert "removed by the same modification" in faults[0].message


def test_e23_ready_dependent(execute: Way) -> None:
    """E23: A dependent that is ready but not started goes back to waiting."""
    log: list[str] = []

    async def before() -> None:
        await passes()
        log.append("before")

    spec = DynamicNodeSpec("before", before, dependents=["ready"])
    assert land(execute, DynamicModification([spec]), log)["ready"].status is NodeStatus.COMPLETED
    assert log.index("before") < log.index("ready")


def test_e23_removal(execute: Way) -> None:
    """E23: A node that has not started and is removed vanishes with its edges; it is in
    `result.removed`, not in `node_results`; freed dependents may become ready."""
    log: list[str] = []
    result = land(execute, DynamicModification(remove_nodes=["waiting", "ready"]), log)
    assert result.removed == ("waiting", "ready")
    assert "waiting" not in result
    assert "ready" not in result
    assert "waiting" not in result.dag
    assert result["last"].status is NodeStatus.COMPLETED
    assert result.dag.dependencies("last") == []
    assert log == ["done", "failed", "scout", "release", "last"]


def test_e23_removal_does_not_free_what_still_waits(execute: Way) -> None:
    """E23: Freed dependents may become ready: not those that wait for another node too."""
    log: list[str] = []
    modification = DynamicModification(
        remove_nodes=["waiting"], add_edges=[("running", "last"), ("ready", "last")]
    )
    land(execute, modification, log)
    assert log == ["done", "failed", "scout", "ready", "release", "last"]


def test_e23_removing_twice(execute: Way) -> None:
    """E23: Removing a node that was removed earlier does nothing, removing one that never existed
    is a fault."""
    dag = chain("a", "b", "c").to_builder().add_edge("b", "gone").build()
    executor = DynamicExecutor(
        dag,
        expanders={
            "a": changing(DynamicModification(remove_nodes=["gone", "gone"])),
            "b": changing(DynamicModification(remove_nodes=["gone"])),
            "c": changing(DynamicModification(remove_nodes=["gone", "gnoe"])),
        },
    )
    result = execute(executor, dict.fromkeys(dag, nothing))
    assert result["b"].status is NodeStatus.COMPLETED
    assert result.removed == ("gone",)
    error = result["c"].error
    assert isinstance(error, ModificationError)
    assert kinds(error.faults) == [("unknown", "gnoe")]


def test_e23_limits(execute: Way) -> None:
    """E23: More than `max_nodes` in the graph now, or deeper than `max_depth` (initial nodes have
    depth 0), is a fault and adds nothing."""
    modification = DynamicModification([new("x", "scout"), new("y", "x")])
    [fault] = refused(execute, modification, max_nodes=len(GROUND) + 1)
    assert fault.kind == "limit"
    child = DynamicNodeSpec("deep", nothing, expander=adding(new("deeper")))
    executor = DynamicExecutor(chain("a"), expanders={"a": adding(child)}, max_depth=1)
    result = execute(executor, {"a": nothing})
    assert list(result.node_results) == ["a", "deep"]
    error = result["deep"].error
    assert isinstance(error, ModificationError)
    assert [fault.kind for fault in error.faults] == ["limit"]


def test_e23_removing_a_started_node(execute: Way) -> None:
    """E23: Removing a node that is RUNNING, COMPLETED or FAILED is a fault."""
    names = ["running", "done", "failed", "scout"]
    faults = refused(execute, DynamicModification(remove_nodes=names))
    assert kinds(faults) == [("started", name) for name in names]


def test_e23_refused_as_a_whole(execute: Way) -> None:
    """E23: A modification with one fault changes nothing: the expanding node is FAILED, its
    descendants are skipped, everything else goes on."""
    modification = DynamicModification(
        [new("good", "a")], ["c"], add_edges=[("a", "d")], remove_edges=[("b", "d"), ("x", "y")]
    )
    dag = chain("a", "b", "c").to_builder().add_edge("b", "d").add_edge("other", "end").build()
    executor = DynamicExecutor(dag, expanders={"a": changing(modification)})
    result = execute(executor, dict.fromkeys(dag, nothing))
    assert {name: str(node.status) for name, node in result.node_results.items()} == {
        "a": "FAILED",
        "b": "SKIPPED",
        "c": "SKIPPED",
        "d": "SKIPPED",
        "other": "COMPLETED",
        "end": "COMPLETED",
    }
    assert result.dag == dag


# -- what an expander may be and return


@pytest.mark.parametrize(
    "returned",
    [
        [new("x")],
        {"add_nodes": [new("x")]},
        False,
        0,
        "",
        (),
        new("x"),
        DynamicModification,
        object(),
    ],
    ids=["list", "dict", "False", "0", "empty-str", "tuple", "spec", "class", "object"],
)
def test_e4_no_modification(execute: Way, returned: object) -> None:
    """E4: An expander that returns anything else (a list, a dict, False): its node FAILED with
    `ExpansionError`, which says what to return."""

    async def expander(name: str, result: object) -> object:
        return returned

    for function in (lambda name, result: returned, expander):
        executor = DynamicExecutor(chain("look", "leave"), expanders={"look": function})
        result = execute(executor, {"look": lambda: "value", "leave": nothing})
        assert isinstance(result["look"].error, ExpansionError)
        assert "return dagron.DynamicModification(" in str(result["look"].error)
        assert type(returned).__name__ in str(result["look"].error)
        assert result["look"].result == "value"
        assert result["leave"].status is NodeStatus.SKIPPED


def test_e4_object_that_cannot_be_shown(execute: Way) -> None:
    """E4: An object whose `repr` raises is an `ExpansionError` like any other."""

    class Shy:
        def __repr__(self) -> str:
            raise RuntimeError("do not look at me")

    executor = DynamicExecutor(chain("look"), expanders={"look": lambda name, result: Shy()})
    error = execute(executor, {"look": nothing})["look"].error
    assert isinstance(error, ExpansionError)
    assert "Shy" in str(error)


def test_e4_forgotten_await(execute: Way) -> None:
    """E4: An async expander that returns a coroutine forgot an `await`: `ExpansionError`, and the
    coroutine is closed, so that no warning follows."""

    async def inner() -> DynamicModification:
        return DynamicModification()

    async def expander(name: str, result: object) -> object:
        return inner()

    executor = DynamicExecutor(chain("look"), expanders={"look": expander})
    error = execute(executor, {"look": nothing})["look"].error
    assert isinstance(error, ExpansionError)
    assert "coroutine" in str(error)


class Gardener:
    """Expanders of every kind of callable; each adds a node that is called after it."""

    def __init__(self, kind: str = "object") -> None:
        self.kind = kind

    def plant(self, name: str, result: str) -> DynamicModification:
        return DynamicModification([DynamicNodeSpec(f"{self.kind} {result}", nothing, [name])])

    async def plant_slowly(self, name: str, result: str) -> DynamicModification:
        await passes(2)
        return self.plant(name, result)

    async def __call__(self, name: str, result: str) -> DynamicModification:
        return await self.plant_slowly(name, result)

    @staticmethod
    def seed(kind: str, name: str, result: str) -> DynamicModification:
        return Gardener(kind).plant(name, result)

    @staticmethod
    async def seed_slowly(name: str, result: str, *, kind: str) -> DynamicModification:
        return await Gardener(kind).plant_slowly(name, result)


@functools.wraps(Gardener.seed_slowly)
def wrapped(*arguments: Any, **keywords: Any) -> Any:
    return Gardener.seed_slowly(*arguments, kind="wrapped", **keywords)


EXPANDERS: dict[str, Callable[..., Any]] = {
    "method": Gardener("method").plant,
    "async method": Gardener("async method").plant_slowly,
    "object": Gardener(),
    "partial": functools.partial(Gardener.seed, "partial"),
    "async partial": functools.partial(Gardener.seed_slowly, kind="async partial"),
    "lambda": lambda name, result: Gardener.seed("lambda", name, result),
    "coroutine": lambda name, result: Gardener.seed_slowly(name, result, kind="coroutine"),
    "variadic": lambda *arguments: Gardener.seed("variadic", *arguments),
    "default": lambda name, result="?", kind="default": Gardener.seed(kind, name, result),
    "positional": lambda name, result, /: Gardener.seed("positional", name, result),
}


@pytest.mark.parametrize("kind", EXPANDERS)
def test_e5_kinds_of_expanders(execute: Way, kind: str) -> None:
    """E5: An expander may be any callable of (name, result): a function, a method, a partial, an
    object, sync or async, and a sync one that returns a coroutine, which is awaited."""
    executor = DynamicExecutor(chain("bed"), expanders={"bed": EXPANDERS[kind]})
    result = execute(executor, {"bed": lambda: "tulip"})
    assert result["bed"].error is None
    assert list(result.node_results) == ["bed", f"{kind} tulip"]


def test_e5_expander_in_c(execute: Way) -> None:
    """E5: A callable without a signature is an expander too: it is called with (name, result)."""
    executor = DynamicExecutor(chain("bed"), expanders={"bed": max})
    error = execute(executor, {"bed": lambda: "tulip"})["bed"].error
    assert isinstance(error, ExpansionError)
    assert "'tulip'" in str(error)


def test_expander_of_a_spec(execute: Way) -> None:
    """An expander may come with the spec of the node; it is called like one of the executor's."""
    calls: list[tuple[str, int, int]] = []

    def twice(name: str, result: int, dag: DAG) -> DynamicModification | None:
        calls.append((name, result, len(dag)))
        specs = [
            DynamicNodeSpec(f"{name}{half}", lambda: result // 2, [name], expander=twice)
            for half in "lr"
        ]
        return DynamicModification(specs) if result > 1 else None

    executor = DynamicExecutor(chain("t"), expanders={"t": twice}, max_workers=1)
    result = execute(executor, {"t": lambda: 4})
    assert sorted(calls)[0] == ("t", 4, 1)
    assert len(calls) == 7
    assert list(result.node_results) == ["t", "tl", "tll", "tlr", "tr", "trl", "trr"]
    assert result["tll"].depth == 2


def test_two_expanders_of_one_node(execute: Way) -> None:
    """A node with an expander in its spec and one in the executor is a fault."""
    spec = DynamicNodeSpec("x", nothing, expander=changing(DynamicModification()))
    executor = DynamicExecutor(
        chain("a"), expanders={"a": adding(spec), "x": changing(DynamicModification())}
    )
    error = execute(executor, {"a": nothing})["a"].error
    assert isinstance(error, ModificationError)
    assert kinds(error.faults) == [("signature", "x")]
    assert "two expanders" in error.faults[0].message


def test_expander_of_a_spec_with_a_wrong_signature(execute: Way) -> None:
    """An expander that cannot be called with (name, result) makes its spec a fault."""
    spec = DynamicNodeSpec("x", nothing, expander=lambda name: None)
    executor = DynamicExecutor(chain("a"), expanders={"a": adding(spec)})
    error = execute(executor, {"a": nothing})["a"].error
    assert isinstance(error, ModificationError)
    assert kinds(error.faults) == [("signature", "x")]
    assert "def expander(name, result)" in error.faults[0].help


def test_modification_is_read_when_it_lands(execute: Way) -> None:
    """The fields of a modification are lists of its own, which an expander may go on filling."""
    names = ["b", "c"]

    def expander(name: str, result: object) -> DynamicModification:
        modification = DynamicModification(remove_nodes=names)
        names.clear()
        modification.add_nodes.append(new("x", name))
        modification.add_edges.append(("x", "d"))
        return modification

    executor = DynamicExecutor(chain("a", "b", "c", "d"), expanders={"a": expander})
    result = execute(executor, dict.fromkeys("abcd", nothing))
    assert result["a"].error is None
    assert list(result.node_results) == ["a", "x", "d"]
    assert result.removed == ("b", "c")


SPOILT = {
    "node": ("add_nodes", 7),
    "name": ("remove_nodes", 7),
    "unhashable": ("remove_nodes", []),
    "number": ("add_edges", 7),
    "triple": ("add_edges", ("a", "b", "c")),
    "edge": ("remove_edges", None),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_modification_that_was_spoilt(execute: Way, kind: str) -> None:
    """A list that was filled with something else after the modification was made is a fault."""
    field, value = SPOILT[kind]

    def expander(name: str, result: object) -> DynamicModification:
        modification = DynamicModification([new("x", name)])
        getattr(modification, field).append(value)
        return modification

    executor = DynamicExecutor(chain("a", "b"), expanders={"a": expander})
    result = execute(executor, dict.fromkeys("ab", nothing))
    assert isinstance(result["a"].error, ModificationError)
    assert result.dag == chain("a", "b")
    assert result["b"].status is NodeStatus.SKIPPED
    with pytest.raises(ModificationError):
        chain("a", "b").apply(expander("a", None), by="a")


def test_provenance(execute: Way) -> None:
    """Each node says who added it, how many expansions deep; `removed` is in landing order."""
    leaf = new("leaf", "branch")
    branch = DynamicNodeSpec("branch", nothing, ["root"], ["end"], expander=adding(leaf))
    dag = chain("root", "end").to_builder().add_edge("end", "y").add_edge("end", "z").build()
    grow = changing(DynamicModification([branch], ["z"]))
    shrink = changing(DynamicModification(remove_nodes=["y"]))
    executor = DynamicExecutor(dag, expanders={"root": grow, "end": shrink})
    result = execute(executor, dict.fromkeys(dag, nothing))
    assert [(n.name, n.added_by, n.depth) for n in result.node_results.values()] == [
        ("root", None, 0),
        ("branch", "root", 1),
        ("leaf", "branch", 2),
        ("end", None, 0),
    ]
    assert result.removed == ("z", "y")


def test_an_edge_that_is_there_already(execute: Way) -> None:
    """Adding an edge that exists changes nothing, and its target does not wait twice."""
    twice = [("running", "waiting"), ("running", "waiting")]
    result = accepted(execute, DynamicModification([new("x", "scout", "scout")], add_edges=twice))
    assert result.dag.dependencies("waiting") == ["running"]
    assert result.dag.dependencies("x") == ["scout"]
    assert result["waiting"].status is NodeStatus.COMPLETED
