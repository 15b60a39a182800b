"""A run goes on with another program, another executor, or on another day."""

import gc
import threading
from collections.abc import Callable, Generator
from typing import Any

import anyio
import pytest

from books import MemoryJournal
from dagron import (
    DAG,
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    GraphMismatchError,
    JournalError,
    NodePolicy,
    ReplayError,
    all_done,
    all_succeeded,
)
from dagron._rows import Row
from faults import until

GUARD = 30
DIAMOND = DAG.builder().add_edge("find", "merge").build()


async def value() -> int:
    return 7


def merged(inputs: dict[str, Any]) -> list[str]:
    return sorted(inputs)


def pieces(task: Callable[..., Any] = value, **more: Any) -> Callable[..., Any]:
    def expand(name: str, found: int) -> DynamicModification:
        return DynamicModification(
            [DynamicNodeSpec(f"piece {n}", task, [name], ["merge"], **more) for n in range(3)]
        )

    return expand


async def run(journal: MemoryJournal, expander: Any, **settings: Any) -> Any:
    executor = DynamicExecutor(DIAMOND, {"find": expander}, journal=journal, **settings)  # type: ignore[arg-type]
    with anyio.fail_after(GUARD):
        return await executor.execute({"find": value, "merge": merged}, run_id="a")


def cut_after(journal: MemoryJournal, kind: str, node: str, **begun: int) -> list[Any]:
    """Let the process have died right after this row; return the rows that are left."""
    page = journal.pages["a"]
    count = next(row.seq for row in page.rows if (row.kind, row.node) == (kind, node))
    journal.pages["a"] = page.cut(count, begun=begun)
    return list(journal.pages["a"].rows)


# --- another executor ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("then", "now", "text"),
    [
        (
            {},
            {"policy": NodePolicy(trigger=all_done)},
            "the executor's trigger was 'all_succeeded', is now 'all_done'",
        ),
        (
            {"policy": NodePolicy(trigger=all_done, timeout=9)},
            {"policy": NodePolicy(timeout=9)},
            "the executor's trigger was 'all_done', is now 'all_succeeded'",
        ),
        ({"keep": "leaves"}, {}, "the executor's keep was 'leaves', is now 'all'"),
    ],
    ids=["trigger", "no trigger", "keep"],
)
async def test_an_executor_that_treats_nodes_otherwise(then: Any, now: Any, text: str) -> None:
    """A run does not go on where its executor has another policy that decides whether nodes run."""
    journal = MemoryJournal()
    await run(journal, pieces(), **then)
    before = cut_after(journal, "done", "find")
    with pytest.raises(GraphMismatchError) as caught:
        await run(journal, pieces(), **now)
    assert caught.value.differences == (text,)
    assert "help: go on with the policy= and keep= that it began with" in str(caught.value)
    assert journal.pages["a"].rows == before
    assert (await run(journal, pieces(), **then)).ok


@pytest.mark.parametrize(
    "policy",
    [
        NodePolicy(timeout=9, priority=3),
        NodePolicy(trigger=all_succeeded, keep="all", orphans="finish"),
    ],
    ids=["how", "what goes without saying"],
)
async def test_an_executor_that_runs_nodes_otherwise(policy: NodePolicy) -> None:
    """A run goes on with another policy that says how nodes are run, or what is so anyway."""
    journal = MemoryJournal()
    await run(journal, pieces())
    cut_after(journal, "done", "find")
    assert (await run(journal, pieces(), policy=policy)).ok


async def test_bounds_that_are_smaller_now() -> None:
    """What was added before stays, although it is more than would be let in now; more is not."""
    journal = MemoryJournal()
    first = await run(journal, pieces())
    cut_after(journal, "done", "piece 0")
    second = await run(journal, pieces(), max_nodes=2)
    assert second.ok
    assert second.dag == first.dag
    page = journal.pages["a"]
    assert not [row for row in page.rows if row.kind == "void"]


@pytest.mark.parametrize("bound", ["max_nodes is 3", "max_depth is 1"])
async def test_bounds_count_again_when_a_run_goes_on(bound: str) -> None:
    """A node that runs later is refused what goes beyond the bounds of then."""
    journal = MemoryJournal()

    def expander(name: str, found: int) -> DynamicModification:
        return DynamicModification(
            [DynamicNodeSpec(f"{name}+", value, [name], ["merge"], expander=expander)]
            if len(name) < 7
            else []
        )

    await run(journal, expander)
    cut_after(journal, "done", "find++")
    name, _, number = bound.split()
    result = await run(journal, expander, **{name: int(number)})
    assert str(result["find"].status) == str(result["find+"].status) == "COMPLETED"
    assert bound in str(result["find++"].error)


async def test_what_the_bounds_had_refused_is_refused_again() -> None:
    """A modification that was refused, which was not written before the process died, does not land
    in another life: what was said of it still holds.
    """
    journal = MemoryJournal()
    settings = {"max_nodes": 4}
    first = await run(journal, pieces(), **settings)
    assert "max_nodes is 4" in str(first["find"].error)
    cut_after(journal, "done", "find")
    second = await run(journal, pieces(), **settings)
    assert "max_nodes is 4" in str(second["find"].error)
    assert second.dag == first.dag == DIAMOND


async def test_children_that_depend_on_what_is_being_written() -> None:
    """A modification may name a node that another one adds whose row is on its way."""
    journal = MemoryJournal()
    dag = DAG.builder().add_node("a").add_node("b").build()

    async def x() -> int:
        return 1

    async def y(x: int) -> int:
        return x + 1

    async def second() -> None:
        await until(lambda: str(running.explain("a")).endswith("into the journal"))

    expanders = {
        "a": lambda name, result: DynamicModification([DynamicNodeSpec("x", x)]),
        "b": lambda name, result: DynamicModification([DynamicNodeSpec("y", y, ["x"])]),
    }
    executor = DynamicExecutor(dag, expanders, journal=journal)  # type: ignore[arg-type]
    journal.hold.clear()
    with anyio.fail_after(GUARD):
        async with executor.start({"a": value, "b": second}, run_id="a") as running:
            await until(lambda: str(running.explain("b")).endswith("into the journal"))
            journal.hold.set()
            result = await running.wait()
    assert [str(node.status) for node in result.node_results.values()] == ["COMPLETED"] * 4
    assert result["y"].result == 2


# --- another program -----------------------------------------------------------------------------


def wants(other: Any) -> None:
    raise AssertionError("it is never called")


@pytest.mark.parametrize(
    ("first", "second", "settings", "text"),
    [
        (
            pieces(policy=NodePolicy(group="disk")),
            pieces(policy=NodePolicy(group="disk")),
            {"limits": {"disk": 2}},
            "group 'disk'",
        ),
        (pieces(), pieces(wants), {}, "'other'"),
    ],
    ids=["group", "parameter"],
)
async def test_children_that_cannot_be_added_any_more(
    first: Any, second: Any, settings: Any, text: str
) -> None:
    """Children that were added, and cannot be by the program as it is now, end no node: the run
    does not go on, and nothing is written.
    """
    journal = MemoryJournal()
    await run(journal, first, **settings)
    before = cut_after(journal, "done", "find")
    with pytest.raises(ReplayError) as caught:
        await run(journal, second)
    assert "what node 'find' has added cannot be added again" in str(caught.value)
    assert text in caught.value.differences[0]
    assert caught.value.node == "find"
    assert journal.pages["a"].rows == before
    assert (await run(journal, first, **settings)).ok


async def test_children_of_a_stream_that_cannot_be_added_any_more() -> None:
    """The same for what a generator yields."""

    def stream(task: Callable[..., Any]) -> Callable[..., Any]:
        def expand(name: str, found: int) -> Generator[DynamicNodeSpec]:
            yield DynamicNodeSpec("piece", task, [name], ["merge"])

        return expand

    journal = MemoryJournal()
    await run(journal, stream(value))
    before = cut_after(journal, "step", "find")
    with pytest.raises(ReplayError, match="other"):
        await run(journal, stream(wants))
    assert journal.pages["a"].rows == before
    assert (await run(journal, stream(value))).ok


async def test_what_no_graph_could_take_is_never_written() -> None:
    """A modification that is refused for what its nodes are is not in the journal, and all of its
    faults are told.
    """
    journal = MemoryJournal()

    def expand(name: str, found: int) -> DynamicModification:
        return DynamicModification(
            [
                DynamicNodeSpec("x", value, ["nobody"], policy=NodePolicy(group="disk")),
                DynamicNodeSpec("y", wants, [name]),
            ]
        )

    result = await run(journal, expand)
    kinds = [fault.kind for fault in result["find"].error.faults]
    assert sorted(kinds) == ["group", "signature", "unknown"]
    assert result["find"].result == 7
    assert [row.kind for row in journal.pages["a"].rows if row.node == "find"] == ["failed"]
    assert all(row.change is None for row in journal.pages["a"].rows)


async def test_a_condition_that_is_true_now_and_was_not() -> None:
    """What was skipped by a condition is not run later: the run does not go on, and says why."""
    answers = {"maybe": False}
    dag = (
        DAG.builder()
        .add_edge("find", "maybe", condition=lambda found: answers["maybe"])
        .add_edge("maybe", "merge")
        .add_edge("find", "merge")
        .build()
    )
    tasks = {"find": value, "maybe": value, "merge": merged}
    journal = MemoryJournal()
    executor = DynamicExecutor(dag, journal=journal)  # type: ignore[arg-type]
    with anyio.fail_after(GUARD):
        await executor.execute(tasks, run_id="a")
        before = cut_after(journal, "done", "merge")
        answers["maybe"] = True
        with pytest.raises(ReplayError) as caught:
            await executor.execute(tasks, run_id="a")
    assert caught.value.differences == (
        "the condition on 'find' -> 'maybe' was false, and is not now",
    )
    assert journal.pages["a"].rows == before
    answers["maybe"] = False
    with anyio.fail_after(GUARD):
        assert (await executor.execute(tasks, run_id="a"))["maybe"].status == "SKIPPED"


async def test_an_expander_that_does_not_end_when_it_is_called_again() -> None:
    """The timeout of a node counts for its expander when a run goes on, too."""
    calls: list[str] = []

    async def expand(name: str, found: int) -> DynamicModification:
        calls.append(name)
        if len(calls) > 1:
            await anyio.sleep_forever()
        return DynamicModification([DynamicNodeSpec("piece", value, [name], ["merge"])])

    journal = MemoryJournal()
    await run(journal, expand, policy=NodePolicy(timeout=GUARD))
    cut_after(journal, "done", "find")
    with pytest.raises(ReplayError, match="NodeTimeoutError"):
        await run(journal, expand, policy=NodePolicy(timeout=0.01))


async def test_a_task_that_adds_something_else_when_it_is_tried_again() -> None:
    """A task that adds a node of the same name otherwise than before is told that it did."""
    turns: list[int] = []

    async def find(grow: Any) -> int:
        turns.append(len(turns))
        before = [] if turns == [0] else ["merge"]
        await grow(DynamicNodeSpec("piece", value, dependents=before))
        return 7

    journal = MemoryJournal()
    executor = DynamicExecutor(DIAMOND, journal=journal)  # type: ignore[arg-type]
    tasks = {"find": find, "merge": merged}
    with anyio.fail_after(GUARD):
        await executor.execute(tasks, run_id="a")
        cut_after(journal, "step", "find", find=1)
        error = (await executor.execute(tasks, run_id="a"))["find"].error
    assert error is not None
    assert "node 'piece' cannot be added" in str(error)
    assert "node 'find' had added nodes when it was tried before" in error.__notes__[0]


@pytest.mark.parametrize("change", ["{", "[]", '{"add": [{"name": 3}]}', '{"add": [{}]}'])
async def test_a_row_that_holds_no_modification(change: str) -> None:
    """What came from outside and cannot be read is an error of the journal, with the row."""
    journal = MemoryJournal()
    await run(journal, pieces())
    cut_after(journal, "done", "find")
    page = journal.pages["a"]
    page.rows.append(Row(len(page.rows) + 1, "outside", None, 0.0, change=change))
    with pytest.raises(JournalError, match=f"row {len(page.rows)} of the run holds no modificat"):
        await run(journal, pieces())


async def test_a_summary_of_a_run_that_went_on() -> None:
    """What tasks took in all executions is not set in relation to the time of the last one."""
    journal = MemoryJournal()
    first = await run(journal, pieces())
    assert "in all executions" not in first.summary()
    cut_after(journal, "done", "find")
    second = await run(journal, pieces())
    assert "in tasks, in all executions of the run" in second.summary()
    assert "at once on average" not in second.summary()


# --- what going on costs -------------------------------------------------------------------------


async def test_graphs_that_nobody_needs_any_more_are_let_go() -> None:
    """Of the graphs that expanders are given when a run goes on, few are there at a time."""
    alive: list[int] = []

    def expander(name: str, found: int, graph: DAG) -> DynamicModification:
        alive.append(sum(type(each) is DAG for each in gc.get_objects()))
        following = DynamicNodeSpec(f"{name}+", value, [name], ["merge"], expander=expander)
        return DynamicModification([following] if len(name) < 40 else [])

    journal = MemoryJournal()
    first = await run(journal, expander)
    cut_after(journal, "done", "find" + "+" * 30)
    alive.clear()
    second = await run(journal, expander)
    assert second.dag == first.dag
    assert len(alive) == 37
    assert max(alive) <= min(alive) + 3


THREADS: list[int] = []


def loaded(text: str) -> str:
    THREADS.append(threading.get_ident())
    return text


class Large:
    """Notes in which thread it is loaded."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __reduce__(self) -> Any:
        return loaded, ("x" * self.size,)


@pytest.mark.parametrize(("size", "is_here"), [(10, True), (100_000, False)])
async def test_large_results_are_loaded_in_a_thread(size: int, is_here: bool) -> None:
    """The event loop goes on while a large result is loaded; a small one is loaded at once."""

    async def large() -> Large:
        return Large(size)

    dag = DAG.builder().add_edge("large", "end").build()
    journal = MemoryJournal()
    executor = DynamicExecutor(dag, journal=journal)  # type: ignore[arg-type]
    tasks = {"large": large, "end": lambda large: type(large).__name__}
    with anyio.fail_after(GUARD):
        await executor.execute(tasks, run_id="a")
        cut_after(journal, "done", "large")
        THREADS.clear()
        result = await executor.execute(tasks, run_id="a")
    assert result["end"].result == "str"
    assert [thread == threading.get_ident() for thread in THREADS] == [is_here]
