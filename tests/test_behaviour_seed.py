"""The statements S1 to S37: what the dynamic-graph page promises, awaited and blocking alike."""

import threading
from collections.abc import Callable
from math import inf
from time import perf_counter
from typing import Any

import pytest
from anyio import from_thread

import dagron
from dagron import (
    DAG,
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    ExecutionResult,
    ModificationError,
    NodeStatus,
)
from ways import GUARD, Inside, Meeting, Way, adding, chain, changing, nothing, passes

# -- the names and their forms


def test_s1_builder_chains() -> None:
    """S1: `DAG.builder().add_node("discover").add_node("merge").add_edge("discover",
    "merge").build()` chains and returns a DAG."""
    dag = DAG.builder().add_node("discover").add_node("merge").add_edge("discover", "merge").build()
    assert type(dag) is dagron.DAG
    assert dag.nodes() == ["discover", "merge"]
    assert dag.edges() == [("discover", "merge")]


@pytest.mark.parametrize(
    "name", ["DAG", "DynamicExecutor", "DynamicModification", "DynamicNodeSpec"]
)
def test_s2_exports(name: str) -> None:
    """S2: `dagron` exports `DAG`, `DynamicExecutor`, `DynamicModification`, `DynamicNodeSpec`."""
    assert name in dagron.__all__
    assert isinstance(getattr(dagron, name), type)


def test_s3_expander_arguments(execute: Way) -> None:
    """S3: An expander is called with `(name, result)`, positionally, after that node's task has
    completed."""
    log: list[object] = []

    def weigh() -> int:
        log.append("weighed")
        return 12

    def stamp(*arguments: object, **keywords: object) -> None:
        log.append((arguments, keywords))

    execute(DynamicExecutor(chain("parcel"), expanders={"parcel": stamp}), {"parcel": weigh})
    assert log == ["weighed", (("parcel", 12), {})]


def test_s3_expander_of_a_failed_task_is_not_called(execute: Way) -> None:
    """S3: After that node's task has completed: a task that fails completes nothing."""
    called: list[str] = []

    def drop() -> None:
        raise OSError("dropped")

    executor = DynamicExecutor(
        chain("parcel"), expanders={"parcel": lambda name, result: called.append(name)}
    )
    assert execute(executor, {"parcel": drop}).failed == 1
    assert called == []


def test_s4_modification() -> None:
    """S4: `DynamicModification(add_nodes=[...], remove_nodes=[...])`, both optional."""
    spec = DynamicNodeSpec("soup", nothing)
    both = DynamicModification(add_nodes=[spec], remove_nodes=["bread"])
    assert (both.add_nodes, both.remove_nodes) == ([spec], ["bread"])
    assert DynamicModification(add_nodes=[spec]).remove_nodes == []
    assert DynamicModification(remove_nodes=["bread"]).add_nodes == []
    assert DynamicModification() == DynamicModification(add_nodes=[], remove_nodes=[])


def test_s5_spec() -> None:
    """S5: `DynamicNodeSpec(name=, task=, dependencies=, dependents=)`, the last two optional."""
    spec = DynamicNodeSpec(name="soup", task=nothing, dependencies=["pot"], dependents=["table"])
    assert (spec.name, spec.task) == ("soup", nothing)
    assert (spec.dependencies, spec.dependents) == (["pot"], ["table"])
    bare = DynamicNodeSpec(name="soup", task=nothing)
    assert (bare.dependencies, bare.dependents) == ([], [])


def test_s6_forms_of_the_executor(execute: Way) -> None:
    """S6: `DynamicExecutor(dag, expanders=..., max_workers=4)`; `DynamicExecutor(dag)` and
    `DynamicExecutor(dag, expanders=expanders)` work too: without expanders it is the standard
    executor for a static graph."""
    dag = chain("mix", "bake")
    tasks = {"mix": lambda: "dough", "bake": lambda mix: f"bread of {mix}"}
    expanders = {"mix": adding(DynamicNodeSpec("wash", nothing))}
    for executor, names in (
        (DynamicExecutor(dag), ["mix", "bake"]),
        (DynamicExecutor(dag, expanders=expanders), ["mix", "wash", "bake"]),
        (DynamicExecutor(dag, expanders=expanders, max_workers=4), ["mix", "wash", "bake"]),
    ):
        result = execute(executor, tasks)
        assert list(result.node_results) == names
        assert result.ok
        assert result["bake"].result == "bread of dough"


def test_s7_tasks_and_result(execute: Way) -> None:
    """S7: `tasks` is a dict of name to callable; the result has `.succeeded` and `.node_results`,
    an ordered dict."""
    result = execute(DynamicExecutor(chain("b", "a")), {"a": lambda: 1, "b": lambda: 2})
    assert result.succeeded == 2
    assert isinstance(result.node_results, dict)
    assert [(name, node.result) for name, node in result.node_results.items()] == [
        ("b", 2),
        ("a", 1),
    ]


# -- the basic example


def reader(filename: str) -> Callable[[], str]:
    def read() -> str:
        return f"processed {filename}"

    return read


def one_node_per_file(
    make: Callable[[str], Callable[[], Any]],
) -> Callable[[str, list[str]], DynamicModification]:
    def expand(name: str, files: list[str]) -> DynamicModification:
        specs = []
        for filename in files:
            stem, suffix = filename.split(".")
            specs.append(
                DynamicNodeSpec(f"process_{stem}_{suffix}", make(filename), [name], ["merge"])
            )
        return DynamicModification(specs)

    return expand


def run_basic(
    execute: Way,
    make: Callable[[str], Callable[[], Any]] = reader,
    merge: Callable[[], Any] = lambda: "all files merged",
) -> ExecutionResult:
    executor = DynamicExecutor(
        chain("discover", "merge"),
        expanders={"discover": one_node_per_file(make)},
        max_workers=4,
    )
    return execute(
        executor, {"discover": lambda: [f"{letter}.csv" for letter in "abc"], "merge": merge}
    )


def test_s8_basic_example(execute: Way) -> None:
    """S8: Basic example: `succeeded == 5`; `list(node_results) == ["discover", "process_a_csv",
    "process_b_csv", "process_c_csv", "merge"]`."""
    result = run_basic(execute)
    assert result.succeeded == 5
    assert list(result.node_results) == [
        "discover",
        "process_a_csv",
        "process_b_csv",
        "process_c_csv",
        "merge",
    ]


def test_s9_basic_values(execute: Way) -> None:
    """S9: Its values: `process_a_csv` gives `"processed a.csv"`, `merge` gives
    `"all files merged"`."""
    result = run_basic(execute)
    assert result.node_results["process_a_csv"].result == "processed a.csv"
    assert result.node_results["merge"].result == "all files merged"


def test_s10_added_sync_nodes_run_together(execute: Way) -> None:
    """S10: The three added nodes run at the same time; `merge` starts after all of them."""
    together = threading.Barrier(3, timeout=GUARD)
    ended: list[str] = []

    def make(filename: str) -> Callable[[], None]:
        def read() -> None:
            together.wait()
            ended.append(filename)

        return read

    result = run_basic(execute, make, lambda: sorted(ended))
    assert result.succeeded == 5
    assert result["merge"].result == ["a.csv", "b.csv", "c.csv"]


def test_s10_added_async_nodes_run_together(execute: Way) -> None:
    """S10: The three added nodes run at the same time; `merge` starts after all of them.

    Async nodes like sync ones."""
    together = Meeting(3)
    ended: list[str] = []

    def make(filename: str) -> Callable[[], Any]:
        async def read() -> None:
            await together.join()
            ended.append(filename)

        return read

    result = run_basic(execute, make, lambda: sorted(ended))
    assert result.succeeded == 5
    assert result["merge"].result == ["a.csv", "b.csv", "c.csv"]


# -- modifications in detail


def test_s11_edges_of_a_spec(execute: Way) -> None:
    """S11: `dependencies` are edges to the new node, `dependents` edges from it."""
    spec = DynamicNodeSpec("proof", nothing, dependencies=["knead"], dependents=["bake", "cool"])
    executor = DynamicExecutor(chain("knead", "bake", "cool"), expanders={"knead": adding(spec)})
    dag = execute(executor, dict.fromkeys(["knead", "bake", "cool"], nothing)).dag
    assert dag.dependencies("proof") == ["knead"]
    assert dag.dependents("proof") == ["bake", "cool"]
    assert dag.dependencies("cool") == ["bake", "proof"]


def test_s12_removal(execute: Way) -> None:
    """S12: `remove_nodes` removes a node with its edges; the others go on; it is not in
    `node_results`."""
    dag = chain("taste", "salt", "serve").to_builder().add_edge("taste", "serve").build()
    ran: list[str] = []
    executor = DynamicExecutor(
        dag, expanders={"taste": changing(DynamicModification(remove_nodes=["salt"]))}
    )
    result = execute(
        executor,
        {name: lambda name=name: ran.append(name) for name in ("taste", "salt", "serve")},
    )
    assert ran == ["taste", "serve"]
    assert list(result.node_results) == ["taste", "serve"]
    assert result.removed == ("salt",)
    assert result.dag == chain("taste", "serve")


def test_s13_replacing_a_placeholder(execute: Way) -> None:
    """S13: One modification may add and remove: two implementations between `upstream` and
    `downstream` replace `placeholder`; `downstream` waits for both. The placeholder needs no task,
    since it never runs."""
    together = Meeting(2)
    log: list[str] = []

    def implementation(name: str) -> DynamicNodeSpec:
        async def run() -> str:
            await together.join()
            log.append(name)
            return name.upper()

        return DynamicNodeSpec(name, run, ["upstream"], ["downstream"])

    def replace(name: str, result: str) -> DynamicModification:
        return DynamicModification(
            [implementation("fast"), implementation("exact")], ["placeholder"]
        )

    async def downstream(inputs: dict[str, str]) -> dict[str, str]:
        log.append("downstream")
        return inputs

    executor = DynamicExecutor(
        chain("upstream", "placeholder", "downstream"), expanders={"upstream": replace}
    )
    result = execute(executor, {"upstream": lambda: "data", "downstream": downstream})
    assert result.ok
    assert "placeholder" not in result.node_results
    assert log[2:] == ["downstream"]
    assert result["downstream"].result == {"fast": "FAST", "exact": "EXACT"}


# -- the pipeline example

ROOMS = ["attic", "bath", "cellar", "den"]


def run_pipeline(
    execute: Way,
    sweep: Callable[[str], Any] = lambda room: f"swept {room}",
    aggregate: Callable[..., Any] = lambda: "swept all",
    publish: Callable[..., Any] = lambda: "invoiced",
    max_workers: int = 4,
) -> ExecutionResult:
    """List rooms, sweep each in a node of its own, aggregate, publish."""

    def make_sweeper(room: str) -> Callable[[], Any]:
        def body() -> Any:
            return sweep(room)

        return body

    def expand(name: str, rooms: list[str]) -> DynamicModification:
        return DynamicModification(
            [
                DynamicNodeSpec(f"sweep_{room}", make_sweeper(room), [name], ["aggregate"])
                for room in rooms
            ]
        )

    executor = DynamicExecutor(
        chain("list_rooms", "aggregate", "publish"),
        expanders={"list_rooms": expand},
        max_workers=max_workers,
    )
    return execute(
        executor, {"list_rooms": lambda: ROOMS, "aggregate": aggregate, "publish": publish}
    )


def test_s14_pipeline(execute: Way) -> None:
    """S14: ETL example: 7 tasks succeed."""
    result = run_pipeline(execute)
    assert result.succeeded == 7
    assert result.ok
    assert list(result.node_results) == [
        "list_rooms",
        *(f"sweep_{room}" for room in ROOMS),
        "aggregate",
        "publish",
    ]


@pytest.mark.parametrize("kind", ["sync", "awaited"])
def test_s15_report_line(execute: Way, kind: str) -> None:
    """S15: Its report line works: `nr.status.name` is `COMPLETED` and `nr.duration_seconds` is the
    time that each processor took: no less than what its body measures itself."""
    measured: dict[str, float] = {}

    async def sweep(room: str) -> None:
        began = perf_counter()
        await passes()
        measured[f"sweep_{room}"] = perf_counter() - began

    result = run_pipeline(
        execute, sweep if kind == "awaited" else lambda room: from_thread.run(sweep, room)
    )
    assert len(measured) == 4
    lines = [
        f"{name}: {nr.status.name} ({nr.duration_seconds:.3f}s)"
        for name, nr in result.node_results.items()
    ]
    assert lines[1].startswith("sweep_attic: COMPLETED (0.")
    for name, seconds in measured.items():
        assert seconds <= result[name].duration_seconds <= result.total_duration_seconds


def test_s15_duration_is_without_the_queue(execute: Way) -> None:
    """S15: `nr.duration_seconds` is the time of each processor alone: with one worker the four
    bodies follow each other, so that their sum fits into the run."""
    result = run_pipeline(execute, lambda room: from_thread.run(passes), max_workers=1)
    durations = [result[f"sweep_{room}"].duration_seconds for room in ROOMS]
    assert min(durations) > 0
    assert sum(durations) <= result.total_duration_seconds


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_s15_duration_is_without_the_expander(execute: Way, kind: str) -> None:
    """S15: `nr.duration_seconds` is the time of the body: an expander that takes longer than all
    that came before it does not count."""
    ticks: dict[str, float] = {}

    def before() -> None:
        ticks["before"] = perf_counter()

    async def async_body() -> None:
        return None

    def expander(name: str, result: object) -> None:
        ticks["expander"] = perf_counter()
        since = ticks["expander"] - ticks["before"]
        while perf_counter() - ticks["expander"] <= since:
            pass

    async def async_expander(name: str, result: object) -> None:
        expander(name, result)

    executor = DynamicExecutor(
        chain("before", "node"),
        expanders={"node": expander if kind == "sync" else async_expander},
    )
    result = execute(
        executor, {"before": before, "node": nothing if kind == "sync" else async_body}
    )
    assert result.ok
    assert 0 <= result["node"].duration_seconds <= ticks["expander"] - ticks["before"]


@pytest.mark.parametrize("max_workers", [4, 1])
def test_s16_workers(execute: Way, max_workers: int) -> None:
    """S16: With `max_workers=4` the four processors run at once, with `max_workers=1` one after
    another: counted inside the bodies, each of which is held until all that may run does."""
    inside = Inside()
    together = threading.Barrier(4, timeout=GUARD)

    def sweep(room: str) -> None:
        with inside:
            if max_workers == 4:
                together.wait()
            else:
                from_thread.run(passes)

    result = run_pipeline(execute, sweep, max_workers=max_workers)
    assert result.ok
    assert inside.entered == 4
    assert inside.most == max_workers


def test_s17_order(execute: Way) -> None:
    """S17: `aggregate` starts after all four processors, `publish` after `aggregate`."""
    ended: list[str] = []
    together = threading.Barrier(4, timeout=GUARD)

    def sweep(room: str) -> None:
        together.wait()
        ended.append(room)

    def aggregate() -> list[str]:
        found = sorted(ended)
        ended.append("aggregate")
        return found

    result = run_pipeline(execute, sweep, aggregate, lambda: ended[4:])
    assert result["aggregate"].result == ROOMS
    assert result["publish"].result == ["aggregate"]


def test_s18_factories(execute: Way) -> None:
    """S18: Tasks made by factory functions keep their own captured values."""
    result = run_pipeline(execute)
    assert [result[f"sweep_{room}"].result for room in ROOMS] == [f"swept {room}" for room in ROOMS]


# -- chained expansion


def run_chained(
    execute: Way,
    level_1_expander: Callable[[str, list[str]], Any] | None = None,
    final: Callable[[], Any] = lambda: "done",
) -> ExecutionResult:
    def grow(name: str, result: list[str]) -> DynamicModification:
        return DynamicModification(
            [DynamicNodeSpec(f"level_2_{sub}", nothing, [name], ["final"]) for sub in result]
        )

    middle = DynamicNodeSpec("level_1", lambda: ["sub_a", "sub_b"], ["level_0"], ["final"])
    executor = DynamicExecutor(
        chain("level_0", "final"),
        expanders={"level_0": adding(middle), "level_1": level_1_expander or grow},
    )
    return execute(executor, {"level_0": nothing, "final": final})


def test_s19_expander_of_a_node_to_come(execute: Way) -> None:
    """S19: An expander registered for a name that does not exist yet fires when a node of that name
    has completed."""
    calls: list[tuple[str, list[str]]] = []
    result = run_chained(execute, lambda name, result: calls.append((name, result)))
    assert calls == [("level_1", ["sub_a", "sub_b"])]
    assert result.unused_expanders == ()


def test_s20_chained_example(execute: Way) -> None:
    """S20: Chained example: `list(node_results) == ["level_0", "level_1", "level_2_sub_a",
    "level_2_sub_b", "final"]`."""
    assert list(run_chained(execute).node_results) == [
        "level_0",
        "level_1",
        "level_2_sub_a",
        "level_2_sub_b",
        "final",
    ]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_s21_nothing_starts_before_the_landing(execute: Way, kind: str) -> None:
    """S21: `final` cannot start between `level_1`'s completion and the landing of its expander's
    modification: held there, the loop goes round and round, and `final` waits."""
    log: list[str] = []
    child = DynamicNodeSpec("child", lambda: log.append("child"), ["level_1"], ["final"])

    async def hold(name: str, result: object) -> DynamicModification:
        await passes(100)
        log.append("held")
        return DynamicModification([child])

    def hold_in_thread(name: str, result: object) -> DynamicModification:
        return from_thread.run(hold, name, result)

    expander = hold if kind == "async" else hold_in_thread
    result = run_chained(execute, expander, lambda: log.append("final"))
    assert result.ok
    assert log == ["held", "child", "final"]


# -- model selection


def test_s22_edges_alone() -> None:
    """S22: A DAG built from `add_edge` alone has the nodes that the edges name."""
    dag = DAG.builder().add_edge("sow", "water").add_edge("water", "reap").build()
    assert dag.nodes() == ["sow", "water", "reap"]
    assert dag == chain("sow", "water", "reap")


MODELS = [(1_000, "linear", 0.85), (100_000, "xgboost", 0.92), (inf, "neural_net", 0.96)]


def select(name: str, result: dict[str, int]) -> DynamicModification:
    model, accuracy = next(
        (model, accuracy) for limit, model, accuracy in MODELS if result["rows"] < limit
    )
    trained = {"model": model, "accuracy": accuracy}
    return DynamicModification(
        [DynamicNodeSpec(f"train_{model}", lambda: trained, [name], ["evaluate"])]
    )


def run_selection(execute: Way, rows: int) -> ExecutionResult:
    dag = DAG.builder().add_edge("prepare", "select").add_edge("select", "evaluate").build()
    return execute(
        DynamicExecutor(dag, expanders={"select": select}),
        {
            "prepare": lambda: {"rows": rows, "features": 20},
            "select": lambda prepare: {"rows": prepare["rows"]},
            "evaluate": lambda: "evaluated",
        },
    )


@pytest.mark.parametrize(
    ("rows", "model", "accuracy"),
    [
        (999, "linear", 0.85),
        (1_000, "xgboost", 0.92),
        (50_000, "xgboost", 0.92),
        (99_999, "xgboost", 0.92),
        (100_000, "neural_net", 0.96),
    ],
)
def test_s23_model_selection(execute: Way, rows: int, model: str, accuracy: float) -> None:
    """S23: Model selection: 50,000 rows choose `train_xgboost` with `{"model": "xgboost",
    "accuracy": 0.92}`; the boundaries 999/1,000 and 99,999/100,000 choose as written."""
    result = run_selection(execute, rows)
    assert result.dag.match("train_*") == [f"train_{model}"]
    assert result.node_results[f"train_{model}"].result == {"model": model, "accuracy": accuracy}


def test_s24_models_not_chosen(execute: Way) -> None:
    """S24: The models not chosen are not in `node_results`; 4 nodes succeed."""
    result = run_selection(execute, 50_000)
    assert "train_xgboost" in result.node_results
    assert "train_linear" not in result.node_results
    assert "train_neural_net" not in result.node_results
    assert result.succeeded == 4


# -- failing expanders


def run_failing(execute: Way, expander: Callable[..., Any]) -> ExecutionResult:
    """discover -> merge -> report, with a failing expander at discover, and a branch beside it."""
    dag = chain("discover", "merge", "report").to_builder().add_edge("beside", "after").build()
    tasks = {name: lambda name=name: f"value of {name}" for name in dag}
    return execute(DynamicExecutor(dag, expanders={"discover": expander}), tasks)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_s25_expander_that_raises(execute: Way, kind: str) -> None:
    """S25: An expander that raises: its node is FAILED, with the exception as `.error` and the
    task's value still in `.result`; `execute` returns."""
    boom = LookupError("no such shelf")

    def expander(name: str, result: str) -> None:
        raise boom

    async def async_expander(name: str, result: str) -> None:
        raise boom

    result = run_failing(execute, expander if kind == "sync" else async_expander)
    node = result.node_results["discover"]
    assert node.status is NodeStatus.FAILED
    assert node.error is boom
    assert node.result == "value of discover"
    assert result.failed == 1
    assert not result.ok


def test_s26_descendants_are_skipped(execute: Way) -> None:
    """S26: Its descendants are SKIPPED, with a reason that names it; independent branches
    finish."""

    def expander(name: str, result: str) -> None:
        raise LookupError("no such shelf")

    result = run_failing(execute, expander)
    for name in ("merge", "report"):
        assert result[name].status is NodeStatus.SKIPPED
        assert "'discover'" in (result[name].reason or "")
        assert result[name].attempts == 0
    assert result["after"].status is NodeStatus.COMPLETED
    assert (result.succeeded, result.failed, result.skipped, result.cancelled) == (2, 1, 2, 0)


def test_s27_printed_status(execute: Way, capsys: pytest.CaptureFixture[str]) -> None:
    """S27: `print(result.node_results["discover"].status)` prints `FAILED`."""

    def expander(name: str, result: str) -> None:
        raise LookupError

    print(run_failing(execute, expander).node_results["discover"].status)
    assert capsys.readouterr().out == "FAILED\n"


@pytest.mark.parametrize(
    "returned", [DynamicModification(add_nodes=[], remove_nodes=[]), None], ids=["empty", "None"]
)
def test_s28_no_change(execute: Way, returned: DynamicModification | None) -> None:
    """S28: `DynamicModification(add_nodes=[], remove_nodes=[])` and `None` change nothing and fail
    nothing."""
    dag = chain("look", "leave")
    executor = DynamicExecutor(dag, expanders={"look": lambda name, result: returned})
    result = execute(executor, {"look": nothing, "leave": nothing})
    assert result.ok
    assert result.succeeded == 2
    assert result.dag == dag
    assert result.removed == ()


# -- good practice


def test_s29_expander_alone() -> None:
    """S29: An expander can be unit-tested alone: it is a plain callable, its return value compares
    equal to an expected one (tasks aside)."""
    returned = one_node_per_file(reader)("discover", ["x.csv", "y.csv"])
    assert returned == DynamicModification(
        [
            DynamicNodeSpec("process_x_csv", nothing, ["discover"], ["merge"]),
            DynamicNodeSpec("process_y_csv", nothing, ["discover"], ["merge"]),
        ]
    )
    assert returned != DynamicModification(
        [DynamicNodeSpec("process_x_csv", nothing, ["discover"], ["merge"])]
    )
    assert returned.add_nodes[0] != DynamicNodeSpec("process_x_csv", nothing, ["discover"])


def test_s29_apply_gives_what_a_run_gets(execute: Way) -> None:
    """S29: `dag.apply(modification)` gives the graph that a run would get."""
    dag = chain("discover", "merge")
    files = ["a.csv", "b.csv", "c.csv"]
    applied = dag.apply(one_node_per_file(reader)("discover", files), by="discover")
    result = run_basic(execute)
    assert applied == result.dag
    assert applied.topological_order() == result.dag.topological_order()
    assert dag == chain("discover", "merge")


def test_s29_apply_refuses_what_a_run_refuses(execute: Way) -> None:
    """S29: `dag.apply(modification)` gives what a run would give, faults included: `by` names the
    node that expands, which is running then, and whose ancestors have completed."""
    dag = chain("wake", "look", "leave")
    bad = DynamicModification(
        [DynamicNodeSpec("hat", nothing, ["shelf"], ["look", "wake"])], ["coat", "wake"]
    )
    with pytest.raises(ModificationError) as refused:
        dag.apply(bad, by="look")
    executor = DynamicExecutor(dag, expanders={"look": changing(bad)})
    error = execute(executor, dict.fromkeys(dag, nothing))["look"].error
    assert isinstance(error, ModificationError)
    assert [(fault.kind, fault.node) for fault in error.faults] == [
        ("unknown", "coat"),
        ("started", "wake"),
        ("unknown", "shelf"),
        ("started", "look"),
        ("unknown", "wake"),
    ]
    assert error.faults == refused.value.faults
    assert str(error) == str(refused.value)


def test_s30_matching_run_time_nodes(execute: Way) -> None:
    """S30: `result.dag.match("process_*")` and `match_regex(r"process_.*")` find the run-time
    nodes."""
    dag = run_basic(execute).dag
    added = ["process_a_csv", "process_b_csv", "process_c_csv"]
    assert dag.match("process_*") == added
    assert dag.match_regex(r"process_.*") == added


def test_s32_depth(execute: Way) -> None:
    """S32: Depth is limited by `max_depth`: the node whose expander goes deeper is FAILED."""

    def deeper(name: str, result: object) -> DynamicModification:
        return DynamicModification([DynamicNodeSpec(f"{name}'", nothing, [name], expander=deeper)])

    executor = DynamicExecutor(chain("hole"), expanders={"hole": deeper}, max_depth=3)
    result = execute(executor, {"hole": nothing})
    assert [node.depth for node in result.node_results.values()] == [0, 1, 2, 3]
    error = result["hole'''"].error
    assert isinstance(error, ModificationError)
    assert [fault.kind for fault in error.faults] == ["limit"]
    assert "max_depth is 3" in str(error)


def test_s32_size(execute: Way) -> None:
    """S32: Size is limited by `max_nodes`: a modification that goes beyond adds nothing."""
    specs = [DynamicNodeSpec(f"guest_{number}", nothing, ["host"]) for number in range(5)]
    for max_nodes, nodes in ((6, 6), (5, 1)):
        executor = DynamicExecutor(
            chain("host"), expanders={"host": adding(*specs)}, max_nodes=max_nodes
        )
        result = execute(executor, {"host": nothing})
        assert result.dag.node_count() == nodes
    error = result["host"].error
    assert isinstance(error, ModificationError)
    assert [fault.kind for fault in error.faults] == ["limit"]
    assert "max_nodes is 5" in str(error)


def test_s32_size_counts_what_is_there_now(execute: Way) -> None:
    """S32: Size is limited by `max_nodes` in the graph now: what is removed makes room."""
    spec = DynamicNodeSpec("new", nothing, ["host"])
    executor = DynamicExecutor(
        chain("host", "old"),
        expanders={"host": changing(DynamicModification([spec], ["old"]))},
        max_nodes=2,
    )
    result = execute(executor, {"host": nothing, "old": nothing})
    assert result.ok
    assert list(result.node_results) == ["host", "new"]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_s33_growth_is_seen(execute: Way, kind: str) -> None:
    """S33: `result.dag.node_count()` shows growth after the run, the third argument of an expander
    shows it during the run. The caller's own DAG never changes."""
    seen: list[tuple[str, int, bool]] = []
    dag = chain("root", "end")

    def grow(name: str, result: object, graph: DAG) -> DynamicModification:
        seen.append((name, graph.node_count(), type(graph) is DAG))
        specs = [
            DynamicNodeSpec(f"{name}.{number}", nothing, [name], ["end"]) for number in range(2)
        ]
        return DynamicModification(specs)

    async def async_grow(name: str, result: object, graph: DAG) -> DynamicModification:
        return grow(name, result, graph)

    expander = grow if kind == "sync" else async_grow
    executor = DynamicExecutor(dag, expanders={"root": expander, "root.1": expander})
    result = execute(executor, {"root": nothing, "end": nothing})
    assert seen == [("root", 2, True), ("root.1", 4, True)]
    assert result.dag.node_count() == 6
    assert dag == chain("root", "end")


def test_s33_third_parameter_with_a_default(execute: Way) -> None:
    """S33: The third argument of an expander is for a parameter without a default; one that has a
    default keeps it."""
    seen: list[object] = []

    def expander(name: str, result: object, bound: int = 7) -> None:
        seen.append(bound)

    execute(DynamicExecutor(chain("root"), expanders={"root": expander}), {"root": nothing})
    assert seen == [7]


def test_s34_rewiring(execute: Way) -> None:
    """S34: Edges can be rewired: `add_edges`, `remove_edges`."""
    dag = chain("plan", "walls", "roof").to_builder().add_node("garden").build()
    log: list[str] = []

    def rewire(name: str, result: object) -> DynamicModification:
        return DynamicModification(
            add_edges=[("roof", "walls"), ("walls", "garden"), ("plan", "roof")],
            remove_edges=[("walls", "roof")],
        )

    executor = DynamicExecutor(dag, expanders={"plan": rewire}, max_concurrency=1)
    result = execute(executor, {name: lambda name=name: log.append(name) for name in dag})
    assert result.ok
    assert log == ["plan", "roof", "walls", "garden"]
    assert sorted(result.dag.edges()) == [
        ("plan", "roof"),
        ("plan", "walls"),
        ("roof", "walls"),
        ("walls", "garden"),
    ]


def test_s35_no_half_of_a_modification_is_run(execute: Way) -> None:
    """S35: A modification lands between two ready-set passes: a new node does not start before an
    edge of the same modification holds it back."""
    log: list[str] = []
    first, second = (
        DynamicNodeSpec(name, lambda name=name: log.append(name), ["go"])
        for name in ("first", "second")
    )
    modification = DynamicModification([second, first], add_edges=[("first", "second")])
    executor = DynamicExecutor(chain("go"), expanders={"go": changing(modification)})
    assert execute(executor, {"go": nothing}).ok
    assert log == ["first", "second"]


def test_s35_no_half_of_a_modification_is_seen(execute: Way) -> None:
    """S35: Nothing sees half of a modification: in every snapshot that an expander gets, each of
    ten siblings has all of its children or none."""
    seen: list[list[int]] = []
    siblings = [f"s{number}" for number in range(10)]

    async def grow(name: str, result: object, graph: DAG) -> DynamicModification:
        seen.append([len(graph.match(f"{sibling}.*")) for sibling in siblings])
        await passes(int(name[1:]) % 3)
        return DynamicModification(
            [DynamicNodeSpec(f"{name}.{number}", nothing, [name]) for number in range(8)]
        )

    builder = DAG.builder()
    for sibling in siblings:
        builder.add_node(sibling)
    executor = DynamicExecutor(
        builder.build(), expanders=dict.fromkeys(siblings, grow), max_workers=2
    )
    result = execute(executor, dict.fromkeys(siblings, nothing))
    assert result.succeeded == 90
    assert len(seen) == 10
    assert {count for counts in seen for count in counts} <= {0, 8}


def test_s36_removing_a_ready_node(execute: Way) -> None:
    """S36: Removing a node that is ready but not started is allowed."""
    ran: list[str] = []
    dag = DAG.builder().add_node("scout").add_node("spare").build()
    for bound in ({"max_workers": 1}, {"max_concurrency": 1}):
        executor = DynamicExecutor(
            dag,
            expanders={"scout": changing(DynamicModification(remove_nodes=["spare"]))},
            **bound,
        )
        result = execute(executor, {name: lambda name=name: ran.append(name) for name in dag})
        assert result.ok
        assert result.removed == ("spare",)
    assert ran == ["scout", "scout"]


def test_s36_removing_a_started_node(execute: Way) -> None:
    """S36: Removing a running, completed or failed node is a fault."""
    started, release = threading.Event(), threading.Event()

    def run_until_released() -> None:
        started.set()
        assert release.wait(GUARD)

    def break_down() -> None:
        raise OSError("broken")

    # Two slots: `running` holds one; the other serves done, broken, scout, last in this order.
    names = ["running", "done", "broken", "scout"]
    dag = (
        DAG.builder()
        .build()
        .apply(DynamicModification([DynamicNodeSpec(name, nothing) for name in [*names, "last"]]))
    )
    executor = DynamicExecutor(
        dag,
        expanders={"scout": changing(DynamicModification(remove_nodes=names))},
        max_concurrency=2,
    )
    result = execute(
        executor,
        {
            "running": run_until_released,
            "done": nothing,
            "broken": break_down,
            "scout": lambda: started.wait(GUARD),
            "last": release.set,
        },
    )
    error = result["scout"].error
    assert isinstance(error, ModificationError)
    assert [(fault.kind, fault.node) for fault in error.faults] == [
        ("started", "running"),
        ("started", "done"),
        ("started", "broken"),
        ("started", "scout"),
    ]
    assert [fault.message.rpartition(" is ")[2] for fault in error.faults] == [
        "RUNNING",
        "COMPLETED",
        "FAILED",
        "RUNNING",
    ]
    assert result["running"].status is NodeStatus.COMPLETED
    assert result.removed == ()


def test_s37_expander_that_catches_its_error(execute: Way) -> None:
    """S37: An expander that catches its own error and returns an empty modification fails
    nothing."""

    def careful(name: str, result: str) -> DynamicModification:
        try:
            return DynamicModification([DynamicNodeSpec("", nothing, [name])])
        except dagron.InvalidNameError:
            return DynamicModification(add_nodes=[], remove_nodes=[])

    result = run_failing(execute, careful)
    assert result.ok
    assert result.succeeded == 5
