"""What a run came to can be told from its rows alone, without a call of the user's code."""

from collections import Counter
from collections.abc import AsyncGenerator, Callable
from typing import Any, ClassVar

import anyio
import pytest

from books import MemoryJournal, Page
from dagron import (
    DAG,
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    Edge,
    ExecutionResult,
    Fold,
    InternalError,
    ModificationError,
    NodePolicy,
    Retry,
)
from dagron._facts import Facts
from dagron._rows import Row
from dagron._status import UNDONE
from dagron._written import written_graph
from tellings import all_facts, told
from test_journal_resume import GUARD, PROGRAMS, Program, add_up, joined


class Ended(Program):
    """The first failure ends the run, while others are at work, wait, or have just returned."""

    dag = (
        DAG.builder()
        .add_node("first")
        .add_edge("first", "fails")
        .add_node("slow")
        .add_edge("slow", "after slow")
        .add_edge("fails", "after it")
        .add_edge("first", "beside")
        .add_edge("beside", "never")
        .build()
    )
    settings: ClassVar[dict[str, Any]] = {"on_failure": "cancel"}

    def tasks(self) -> dict[str, Callable[..., Any]]:
        async def for_ever() -> None:
            await anyio.sleep_forever()

        return {
            "first": self.value("first", 1),
            "fails": self.value("fails", OSError("no signal")),
            "slow": for_ever,
            "after slow": self.value("after slow", 1),
            "after it": self.value("after it", 1),
            "beside": self.value("beside", 1),
            "never": self.value("never", 1),
        }


class BrokenEnd(Program):
    """A condition that raises ends the run."""

    dag = (
        DAG.builder()
        .add_edge("a", "b", condition=lambda value: 1 / 0)
        .add_edge("b", "c")
        .add_edge("a", "d")
        .build()
    )
    settings: ClassVar[dict[str, Any]] = {"on_failure": "cancel"}

    def tasks(self) -> dict[str, Callable[..., Any]]:
        return {name: self.value(name, name) for name in self.dag}


class Orphaned(Program):
    """A stream that fails takes with it those of its children that wait, and that run."""

    dag = (
        DAG.builder()
        .add_node("gate")
        .add_node("stream", policy=NodePolicy(window=10, orphans="cancel"))
        .build()
    )

    def tasks(self) -> dict[str, Callable[..., Any]]:
        return {"gate": anyio.sleep_forever, "stream": self.value("stream", 3)}

    def expanders(self) -> dict[str, Callable[..., Any]]:
        async def pieces(name: str, count: int) -> AsyncGenerator[Any]:
            for number in range(count):
                yield DynamicNodeSpec(f"runs {number}", anyio.sleep_forever, [name])
                yield DynamicNodeSpec(f"waits {number}", self.value("waits", 1), ["gate"])
            await anyio.wait_all_tasks_blocked()
            yield DynamicModification(cancel_nodes=["gate"])
            raise ValueError("the file ends in the middle")

        return {"stream": pieces}


class Wired(Program):
    """Modifications bring edges with conditions, from nodes that are done; names are used again."""

    dag = DAG.builder().add_edge("a", "b").add_edge("a", "late").add_edge("b", "late").build()

    def tasks(self) -> dict[str, Callable[..., Any]]:
        return {"a": self.value("a", 5), "b": self.value("b", 6), "late": joined}

    def expanders(self) -> dict[str, Callable[..., Any]]:
        def wire(name: str, value: int) -> DynamicModification:
            return DynamicModification(
                [
                    DynamicNodeSpec(f"{name} {each}", self.value(f"{name} {each}", each))
                    for each in ("odd", "even", "broken", "end")
                ],
                add_edges=[
                    Edge("a", f"{name} odd", condition=lambda value: value % 2),
                    Edge("a", f"{name} even", condition=lambda value: not value % 2),
                    Edge("a", f"{name} broken", condition=lambda value: value.nothing),
                    (f"{name} odd", f"{name} end"),
                    (f"{name} even", f"{name} end"),
                ],
            )

        return {"b": wire}


class Grouped(Program):
    """Policies of an executor, with groups, retries and a stream whose names are used again."""

    dag = DAG.builder().add_node("source", policy=NodePolicy(window=1)).build()
    settings: ClassVar[dict[str, Any]] = {
        "keep": "failures",
        "limits": {"web": 1},
        "policy": NodePolicy(group="web", retry=Retry(attempts=2, initial_delay=0)),
    }

    def tasks(self) -> dict[str, Callable[..., Any]]:
        return {"source": self.value("source", 4)}

    def expanders(self) -> dict[str, Callable[..., Any]]:
        async def flaky() -> int:
            self.calls["flaky"] += 1
            if self.calls["flaky"] % 2:
                raise OSError("busy")
            return self.calls["flaky"]

        async def again(name: str, count: int) -> AsyncGenerator[DynamicNodeSpec]:
            for number in range(count):
                yield DynamicNodeSpec("same" if number else "other", flaky, [name])

        return {"source": again}


class BadFolds(Program):
    """Folds that fail: at a child, at their end, and before they began."""

    dag = (
        DAG.builder()
        .add_node("stream", policy=NodePolicy(keep=Fold(lambda sum, name, value: sum / value, int)))
        .add_node("raises", policy=NodePolicy(keep=Fold(add_up, int)))
        .add_edge("raises", "never", condition=bool)
        .add_node("empty", policy=NodePolicy(keep=Fold(add_up, int)))
        .add_edge("empty", "unlike", condition=bool)
        .build()
    )

    def tasks(self) -> dict[str, Callable[..., Any]]:
        return {
            "stream": self.value("stream", 2),
            "raises": self.value("raises", KeyError("x")),
            "never": self.value("never", 1),
            "empty": self.value("empty", 1),
            "unlike": self.value("unlike", 1),
        }

    def expanders(self) -> dict[str, Callable[..., Any]]:
        def divisors(name: str, count: int) -> DynamicModification:
            return DynamicModification(
                [DynamicNodeSpec(f"by {n}", self.value(f"by {n}", n)) for n in range(count)]
            )

        return {"stream": divisors}


MORE: list[type[Program]] = [Ended, BrokenEnd, Orphaned, Wired, Grouped, BadFolds]


async def run(
    make: type[Program], page: Page | None = None, **more: Any
) -> tuple[ExecutionResult, Page]:
    program, journal = make(), MemoryJournal()
    if page is not None:
        journal.pages["a"] = page
    with anyio.fail_after(GUARD):
        result = await program.executor(journal).execute(program.tasks(), run_id="a", **more)
    return result, journal.pages["a"]


@pytest.mark.parametrize("make", [*PROGRAMS, *MORE])
async def test_what_is_told_is_what_was_returned(make: type[Program]) -> None:
    """The rows of a finished run tell the result that it returned."""
    result, page = await run(make)
    assert all_facts(told(page)) == all_facts(result)


@pytest.mark.parametrize("make", [*PROGRAMS, *MORE])
async def test_a_run_of_two_lives_is_told(make: type[Program]) -> None:
    """The rows of a run that was cut off anywhere and went on tell the result of its last life."""
    _, whole = await run(make)
    for count in range(1, len(whole.rows)):
        result, page = await run(make, whole.cut(count))
        assert all_facts(told(page)) == all_facts(result), f"cut off after {count} rows"


@pytest.mark.parametrize("make", [*PROGRAMS, *MORE])
async def test_what_failed_and_is_tried_again_is_told(make: type[Program]) -> None:
    """The rows of a run whose failures were tried again tell the result of the last try."""
    _, page = await run(make)
    result, page = await run(make, page, retry_failed=True)
    assert all_facts(told(page)) == all_facts(result)


@pytest.mark.parametrize("make", [*PROGRAMS, *MORE])
async def test_a_run_is_told_at_any_row(make: type[Program]) -> None:
    """However many rows there are, the telling gives every node of the graph one status, and says
    that the run has not ended until it has.
    """
    _, page = await run(make)
    _, page = await run(make, page.cut(len(page.rows) // 2))
    _, page = await run(make, page, retry_failed=True)
    for count in range(len(page.rows) + 1):
        part = page.cut(count)
        result = told(part, in_flight=["slow"], unfinished="it goes on")
        assert list(result.node_results) == list(result.dag.topological_order())
        has_ended = bool(count) and part.rows[-1].kind == "end"
        left = [node for node in result.node_results.values() if node.status in UNDONE]
        assert has_ended != (result.reason == "it goes on")
        assert not (has_ended and left)
        assert {node.reason for node in left} <= {None}
        statuses = Counter(str(node.status) for node in result.node_results.values())
        assert statuses.total() == len(result.dag)


# --- what comes from outside ---------------------------------------------------------------------


async def added() -> str:
    return "added"


async def test_what_came_from_outside_is_told() -> None:
    """Modifications by the handle, nodes that it cancels while they wait or run, and one that is
    refused are told as they were.
    """
    journal = MemoryJournal()
    dag = DAG.builder().add_node("a").add_edge("b", "c").add_node("d").build()
    executor = DynamicExecutor(dag, journal=journal)
    sleeping = anyio.Event()

    async def sleep() -> None:
        sleeping.set()
        await anyio.sleep_forever()

    tasks = {"a": sleep, "b": anyio.sleep_forever, "c": added, "d": added}
    with anyio.fail_after(GUARD):
        async with executor.start(tasks, run_id="a") as run:
            await sleeping.wait()
            await run.modify(DynamicModification([DynamicNodeSpec("new", added, ["a"])]))
            await run.modify(DynamicModification([DynamicNodeSpec("free", added)]))
            with pytest.raises(ModificationError):
                await run.modify(DynamicModification(remove_nodes=["a"]))
            await run.modify(DynamicModification(cancel_nodes=["b"]))
            run.cancel_node("new")
            run.cancel_node("a")
        result = await run.wait()
    page = journal.pages["a"]
    assert {"outside", "cancel", "void", "cancelled"} <= {row.kind for row in page.rows}
    assert all_facts(told(page)) == all_facts(result)
    assert {str(result[name].status) for name in ("a", "b", "new")} == {"CANCELLED"}


async def test_a_node_that_is_cancelled_before_its_first_step_is_told() -> None:
    """A node that was cancelled in the step in which it got its slots has no attempt."""
    journal = MemoryJournal()
    dag = DAG.builder().add_node("early").add_edge("frees", "victim").add_node("cancels").build()
    early = anyio.Event()

    async def first() -> None:
        journal.hold.clear()
        early.set()

    async def then() -> None:
        await early.wait()
        await anyio.wait_all_tasks_blocked()

    async def last() -> None:
        await then()
        await anyio.wait_all_tasks_blocked()

    async def cancel(name: str, result: None) -> DynamicModification:
        journal.hold.set()  # what these two came to is one transaction: this step ends with both
        return DynamicModification(cancel_nodes=["victim"])

    tasks = {"early": first, "frees": then, "cancels": last, "victim": anyio.sleep_forever}
    executor = DynamicExecutor(dag, {"cancels": cancel}, journal=journal)
    with anyio.fail_after(GUARD):
        result = await executor.execute(tasks, run_id="a")
    assert (result["victim"].attempts, result["victim"].started_at) == (0, None)
    assert all_facts(told(journal.pages["a"])) == all_facts(result)


async def test_a_stream_that_the_end_of_the_run_cuts_off_is_told() -> None:
    """A node whose task had returned when another one's failure ended the run has its result."""
    journal = MemoryJournal()
    dag = DAG.builder().add_node("stream").add_node("fails").build()
    begun = anyio.Event()

    async def value() -> int:
        return 7

    async def pieces(name: str, count: int) -> AsyncGenerator[DynamicNodeSpec]:
        yield DynamicNodeSpec("piece", added)
        begun.set()
        await anyio.sleep_forever()

    async def fails() -> None:
        await begun.wait()
        raise OSError("no signal")

    executor = DynamicExecutor(dag, {"stream": pieces}, journal=journal, on_failure="cancel")
    with anyio.fail_after(GUARD):
        result = await executor.execute({"stream": value, "fails": fails}, run_id="a")
    found = told(journal.pages["a"])
    assert all_facts(found) == all_facts(result)
    assert (found["stream"].result, str(found["stream"].status)) == (7, "CANCELLED")
    assert found["stream"].duration_seconds == result["stream"].duration_seconds


# --- records that contradict themselves ----------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([Row(2, "done", "nobody", 0.0)], "at row 2: node 'nobody' ended there, and is not in"),
        (
            [Row(2, "done", "a", 0.0), Row(3, "failed", "a", 0.0)],
            "at row 3: node 'a' ended there, and is COMPLETED",
        ),
        (
            [Row(2, "end", None, 0.0, detail='{"ok": true, "reason": null, "seconds": 1}')],
            "it ended by itself, and 2 of its nodes did not",
        ),
    ],
)
def test_a_record_that_contradicts_itself(rows: list[Row], text: str) -> None:
    """What cannot have happened is an error that says where, and not told as something else."""
    dag = DAG.builder().add_edge("a", "b").build()
    page = Page(written_graph(dag, ()))
    page.rows = [Row(1, "life", None, 0.0), *rows]
    with pytest.raises(InternalError, match=f"contradicts itself.*{text}"):
        told(page)


def test_what_is_known_of_crashes_and_of_graphs_that_were_seen() -> None:
    """A node whose task had returned is to blame for a crash where no other was at work; the graphs
    that expanders have seen are those of all rows that name one, until the last use.
    """
    rows = [
        Row(1, "life", None, 0.0, detail='{"keep": "leaves"}'),
        Row(2, "body", "stream", 0.0, detail='{"version": 3}'),
        Row(3, "done", "plain", 0.0, detail='{"version": 4}'),
        Row(4, "life", None, 0.0, detail='{"in_flight": {"stream": 1, "victim": 2}}'),
        Row(5, "life", None, 0.0, detail='{"in_flight": {"stream": 1}}'),
    ]
    facts = Facts(rows, {"victim": 3}, False)
    assert facts.versions == {3: 2, 4: 3}
    assert facts.recoveries == {"victim": 2, "stream": 1}
    rows.append(Row(6, "step", "stream", 0.0))
    facts = Facts(rows, {}, False)
    assert facts.versions == {3: 6, 4: 3}
    assert facts.recoveries == {"victim": 1}
    facts = Facts(rows, {"victim": 3}, False)
    assert facts.attempts == {"victim": 3}
    assert facts.settings == {"keep": "leaves"}
    assert facts.end is None


# --- times ----------------------------------------------------------------------------------------


async def test_a_node_that_was_tried_again_is_told_as_one_span() -> None:
    """A journal does not say when each attempt was: the node was at work from its first start until
    its row was written, with the pauses in between.
    """
    failures = [OSError("busy")]

    async def flaky() -> None:
        if failures:
            raise failures.pop()

    policy = NodePolicy(retry=Retry(attempts=2, initial_delay=0))
    dag = DAG.builder().add_node("a", policy=policy).add_edge("a", "b").build()
    journal = MemoryJournal()
    executor = DynamicExecutor(dag, journal=journal)
    with anyio.fail_after(GUARD):
        await executor.execute({"a": flaky, "b": lambda: None}, run_id="a")
    page = journal.pages["a"]
    (row,) = [row for row in page.rows if row.node == "a"]
    result = told(page)
    assert result._times.attempts == {"a": ((row.started, row.at),)}
    assert result.critical_path() == ["a", "b"]


async def test_a_run_of_two_lives_began_with_the_last() -> None:
    """As its seconds are those of the last life, so is the moment when it began."""
    _, page = await run(Grouped)
    _, page = await run(Grouped, page.cut(len(page.rows) // 2))
    lives = [row for row in page.rows if row.kind == "life"]
    assert len(lives) == 2
    assert told(page)._times.began == lives[1].at
