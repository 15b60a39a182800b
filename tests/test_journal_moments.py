"""Moments at which a run that has a journal may be caught: before its first row, while rows are
being written, while an earlier life is told again, and at its end.
"""

import asyncio
import pickle
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from books import MemoryBook, MemoryJournal, Page
from dagron import (
    DAG,
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    ModificationError,
    NodePolicy,
    Retry,
    all_done,
)
from dagron._rows import Row
from dagron.journal._telling import told

GUARD = 30


async def noop() -> str:
    return "done"


async def grown() -> str:
    return "grown"


async def fails(*_: object) -> None:
    raise OSError("no")


def kinds(page: Page) -> list[tuple[str, str | None]]:
    return [(row.kind, row.node) for row in page.rows]


def recorded(page: Page) -> Any:
    return told(page.graph, lambda: iter(page.rows), pickle.loads, tell_error=lambda _: OSError())


class SlowBook(MemoryBook):
    """A book whose rows are read only up to a point, until somebody opens the gate."""

    journal: "SlowJournal"

    def rows(self) -> Iterator[Row]:
        self.journal.reads += 1
        rows = list(self._page.rows)
        if self.journal.reads % 2:
            return iter(rows)
        return self.slowly(rows)

    def slowly(self, rows: list[Row]) -> Iterator[Row]:
        yield from rows[: self.journal.stop]
        self.journal.is_waiting.set()
        assert self.journal.gate.wait(GUARD)
        yield from rows[self.journal.stop :]


class SlowJournal(MemoryJournal):
    """A journal that is read slowly: while it is, an earlier life is being told again."""

    def __init__(self, page: Page, stop: int) -> None:
        super().__init__()
        self.pages["a"] = page
        self.stop = stop
        self.reads = 0
        self.is_waiting, self.gate = threading.Event(), threading.Event()

    def _open(self, run_id: str, graph: str, patience: object) -> MemoryBook:
        book = SlowBook.__new__(SlowBook)
        vars(book).update(vars(super()._open(run_id, graph, patience)))
        book.journal = self
        return book


async def is_told_again(journal: SlowJournal) -> None:
    while not journal.is_waiting.is_set():
        await checkpoint()


# --- before the first row ------------------------------------------------------------------------


async def test_a_process_that_dies_before_its_first_row() -> None:
    """The first life that writes anything writes how the run is set up, whichever life that is."""
    dag = DAG.builder().add_edge("a", "b").add_edge("a", "c").build()
    settings: dict[str, Any] = {"keep": "failures", "policy": NodePolicy(trigger=all_done)}
    journal = MemoryJournal()
    executor = DynamicExecutor(dag, journal=journal, **settings)
    tasks = {"a": fails, "b": noop, "c": noop}
    with anyio.fail_after(GUARD):
        await executor.execute(tasks, run_id="a")
        journal.pages["a"] = page = journal.pages["a"].cut(0)
        result = await executor.execute(tasks, run_id="a")
    assert list(recorded(page).node_results) == list(result.node_results) == ["a"]


async def test_a_node_that_is_cancelled_before_its_run_has_begun() -> None:
    """The life comes first in the journal; what was asked for before it follows."""
    journal = MemoryJournal()
    dag = DAG.builder().add_edge("a", "b").add_node("c").build()
    executor = DynamicExecutor(dag, journal=journal, keep="failures")
    with anyio.fail_after(GUARD):
        async with executor.start(dict.fromkeys(dag, noop), run_id="a") as run:
            run.cancel_node("c")
        result = await run.wait()
    page = journal.pages["a"]
    assert kinds(page)[:2] == [("life", None), ("cancel", "c")]
    assert list(recorded(page).node_results) == list(result.node_results) == ["c"]


async def test_a_policy_that_says_nothing_is_recorded() -> None:
    """A node whose policy says nothing is told as any other."""
    journal = MemoryJournal()
    dag = DAG.builder().add_node("a", policy=NodePolicy()).build()
    executor = DynamicExecutor(dag, journal=journal)
    with anyio.fail_after(GUARD):
        await executor.execute({"a": noop}, run_id="a")
        again = await executor.execute({"a": noop}, run_id="a")
    assert again["a"].result == "done"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_caller_that_is_cancelled_while_the_run_is_claimed() -> None:
    """Whoever is cancelled natively while a thread claims the run leaves it to others."""
    entered, gate = threading.Event(), threading.Event()

    class Claimed(MemoryJournal):
        def _open(self, run_id: str, graph: str, patience: object) -> MemoryBook:
            entered.set()
            assert gate.wait(GUARD)
            return super()._open(run_id, graph, patience)

    journal = Claimed()
    executor = DynamicExecutor(DAG.builder().add_node("a").build(), journal=journal)
    with anyio.fail_after(GUARD):
        task = asyncio.ensure_future(executor.execute({"a": noop}, run_id="a"))
        while not entered.is_set():
            await checkpoint()
        task.cancel()
        await checkpoint()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not journal.pages["a"].is_held
        assert (await executor.execute({"a": noop}, run_id="a")).ok


# --- while rows are being written ----------------------------------------------------------------


async def test_who_ends_while_the_failure_that_ends_the_run_is_written() -> None:
    """With `on_failure="cancel"` what ends between a failure and its writing has ended for that
    reason, and what depends on it too; it is recorded so.
    """
    journal = MemoryJournal()
    dag = DAG.builder().add_node("fails").add_edge("grows", "after").build()
    failing, growing = anyio.Event(), anyio.Event()

    async def first() -> None:
        await failing.wait()
        journal.hold.clear()
        raise OSError("no")

    async def second(grow: Any) -> None:
        failing.set()
        while not journal.waiting:
            await checkpoint()
        growing.set()
        await grow(DynamicNodeSpec("new", grown))

    executor = DynamicExecutor(dag, journal=journal, on_failure="cancel")
    tasks = {"fails": first, "grows": second, "after": noop}
    with anyio.fail_after(GUARD):
        async with executor.start(tasks, run_id="a") as run:
            await growing.wait()
            await anyio.wait_all_tasks_blocked()
            journal.hold.set()
        result = await run.wait()
    reason = "the run was ended because 'fails' failed"
    assert [result[name].reason for name in ("grows", "after")] == [reason, reason]
    found = recorded(journal.pages["a"])
    assert [found[name].reason for name in ("grows", "after")] == [reason, reason]


async def test_a_refused_modification_ends_the_run() -> None:
    """With `on_failure="cancel"` a node whose expander's modification is refused ends the run."""
    journal = MemoryJournal()
    dag = DAG.builder().add_edge("a", "b").add_node("c").build()

    def expand(name: str, result: object) -> DynamicModification:
        return DynamicModification([DynamicNodeSpec("new", noop, ["nobody"])])

    executor = DynamicExecutor(dag, {"a": expand}, journal=journal, on_failure="cancel")
    tasks = {"a": noop, "b": noop, "c": anyio.sleep_forever}
    with anyio.fail_after(GUARD):
        result = await executor.execute(tasks, run_id="a")
    assert result.reason == "the run was ended because 'a' failed"
    assert recorded(journal.pages["a"]).reason == result.reason


async def in_one_transaction(journal: MemoryJournal, *events: anyio.Event) -> None:
    """Let these happen one after another while a transaction is being written."""
    while not journal.waiting:
        await checkpoint()
    for event in events:
        event.set()
        await anyio.wait_all_tasks_blocked()
    journal.hold.set()


async def test_a_refusal_that_was_not_written() -> None:
    """A modification that names a running node was refused; the process died before that was
    written, but not before what became of that node: the run goes on, and it is refused again.
    """
    journal = MemoryJournal()
    dag = DAG.builder().add_node("hold").add_node("judge").add_node("victim").build()
    judge, victim = anyio.Event(), anyio.Event()

    async def hold() -> None:
        journal.hold.clear()

    async def expand(name: str, result: object) -> DynamicModification:
        await judge.wait()
        return DynamicModification(remove_nodes=["victim"])

    executor = DynamicExecutor(dag, {"judge": expand}, journal=journal)
    tasks = {"hold": hold, "judge": noop, "victim": victim.wait}
    with anyio.fail_after(GUARD):
        async with executor.start(tasks, run_id="a") as run:
            await in_one_transaction(journal, judge, victim)
        whole = journal.pages["a"]
        assert kinds(whole)[2:5] == [("done", "judge"), ("done", "victim"), ("void", "judge")]
        journal.pages["a"] = whole.cut(4)
        result = await executor.execute(tasks, run_id="a")
    assert isinstance(result["judge"].error, ModificationError)
    assert result["victim"].status == "COMPLETED"
    assert (await run.wait()).failed == recorded(journal.pages["a"]).failed == 1


async def test_a_stream_that_goes_on_for_a_moment_after_it_was_cancelled() -> None:
    """A node that is cancelled has written one more modification by then; the process dies before
    its end is written: the run goes on, and it is cancelled again.
    """
    journal = MemoryJournal()
    dag = DAG.builder().add_node("hold").add_node("judge").add_node("stream").build()
    judge, stream, begun = anyio.Event(), anyio.Event(), anyio.Event()

    async def hold() -> None:
        await begun.wait()
        journal.hold.clear()

    async def expand(name: str, result: object) -> DynamicModification:
        await judge.wait()
        return DynamicModification(cancel_nodes=["stream"])

    async def pieces(name: str, result: object) -> AsyncGenerator[DynamicNodeSpec]:
        yield DynamicNodeSpec("piece 1", noop)
        begun.set()
        await stream.wait()
        yield DynamicNodeSpec("piece 2", noop)
        await anyio.sleep_forever()

    expanders = {"judge": expand, "stream": pieces}
    executor = DynamicExecutor(dag, expanders, journal=journal)
    tasks = {"hold": hold, "judge": noop, "stream": noop}
    with anyio.fail_after(GUARD):
        async with executor.start(tasks, run_id="a") as run:
            await in_one_transaction(journal, judge, stream)
        first = await run.wait()
        whole = journal.pages["a"]
        journal.pages["a"] = whole.cut(kinds(whole).index(("done", "judge")) + 2)
        assert kinds(journal.pages["a"])[-1] == ("step", "stream")
        result = await executor.execute(tasks, run_id="a")
    assert first["stream"].status == result["stream"].status == "CANCELLED"
    assert result["piece 2"].status == "COMPLETED"


async def test_a_version_that_is_not_the_expected_one_any_more() -> None:
    """Of two modifications that expect the same version one lands, also where both were asked for
    while neither was written; the run that goes on decides as then.
    """
    journal = MemoryJournal()
    dag = DAG.builder().add_node("gate").build()
    gate = anyio.Event()
    executor = DynamicExecutor(dag, journal=journal)
    refused: list[str] = []
    with anyio.fail_after(GUARD):
        async with executor.start({"gate": gate.wait}, run_id="a") as run:

            async def modify(name: str) -> None:
                nonlocal refused
                change = DynamicModification([DynamicNodeSpec(name, grown)])
                try:
                    await run.modify(change, expected_version=0)
                except ModificationError as error:
                    refused += [fault.kind for fault in error.faults]

            async with anyio.create_task_group() as group:
                group.start_soon(modify, "x")
                group.start_soon(modify, "y")
            gate.set()
        first = await run.wait()
        assert refused == ["stale"]
        assert first.version == recorded(journal.pages["a"]).version == 1
        page = journal.pages["a"]
        written = [row.seq for row in page.rows if row.kind == "outside"]
        journal.pages["a"] = page.cut(written[-1])
        again = await executor.execute({"gate": noop}, run_id="a")
    assert sorted(again.node_results) == sorted(first.node_results)


# --- while an earlier life is told again ---------------------------------------------------------

STREAM = DAG.builder().add_node("stream", policy=NodePolicy(window=1)).add_node("other").build()


def stream_of(*, last: Callable[[], object] | None = None) -> Any:
    async def pieces(name: str, result: object) -> AsyncGenerator[DynamicNodeSpec]:
        for number in range(2):
            yield DynamicNodeSpec(f"{name} {number}", noop)
        if last is not None:
            last()

    return pieces


async def streamed(**settings: Any) -> tuple[Page, dict[str, Any], dict[str, Any]]:
    """The rows of a stream that has come to its second step, and what goes on with them."""
    journal = MemoryJournal()
    tasks: dict[str, Any] = {"stream": noop, "other": noop}
    expanders = {"stream": stream_of()}
    executor = DynamicExecutor(STREAM, expanders, journal=journal, **settings)
    await executor.execute(tasks, run_id="a")
    page = journal.pages["a"]
    steps = [row.seq for row in page.rows if row.kind == "step"]
    return page.cut(steps[1]), tasks, expanders


@pytest.mark.parametrize("stop", [1, 4, 100])
async def test_a_node_is_cancelled_while_its_earlier_life_is_told(stop: int) -> None:
    """A cancellation of a node waits until all of its earlier life is told."""
    with anyio.fail_after(GUARD):
        page, tasks, expanders = await streamed()
        tasks["other"] = anyio.sleep_forever
        page.rows = [row for row in page.rows if row.node != "other"]
        page.rows = [row._replace(seq=number) for number, row in enumerate(page.rows, 1)]
        journal = SlowJournal(page, stop)
        executor = DynamicExecutor(STREAM, expanders, journal=journal)
        async with executor.start(tasks, run_id="a") as run:
            await is_told_again(journal)
            run.cancel_node("stream")
            run.cancel_node("other")
            journal.gate.set()
        result = await run.wait()
    assert result["other"].status == "CANCELLED"
    assert result["stream"].status in ("CANCELLED", "COMPLETED")
    assert recorded(page)["stream"].status == result["stream"].status


@pytest.mark.parametrize("stop", [1, 3, 4, 100])
@pytest.mark.parametrize("how", ["cancel", "timeout"])
async def test_a_run_is_ended_while_its_earlier_life_is_told(how: str, stop: int) -> None:
    """`run.cancel()` and a timeout end it as a result, and leave it to be gone on with."""
    with anyio.fail_after(GUARD):
        page, tasks, expanders = await streamed()
        journal = SlowJournal(page, stop)
        executor = DynamicExecutor(STREAM, expanders, journal=journal)
        timeout = 0.01 if how == "timeout" else None
        async with executor.start(tasks, run_id="a", timeout=timeout) as run:
            if how == "cancel":
                await is_told_again(journal)
                run.cancel("enough")
            while run._shell._group is None or not run._shell._group.cancel_scope.cancel_called:
                await checkpoint()
            journal.gate.set()
        result = await run.wait()
        assert result.reason
        assert not page.is_held
        assert (await executor.execute(tasks, run_id="a")).ok


async def test_a_failure_beyond_what_is_told_waits_for_the_rest() -> None:
    """With `on_failure="cancel"` a stream that fails as soon as it goes on keeps no other one from
    being told.
    """
    dag = DAG.builder().add_node("one").add_node("two").build()
    journal = MemoryJournal()

    def stop() -> None:
        raise OSError("the line is dead")

    first = {"one": stream_of(), "two": stream_of()}
    tasks = {"one": noop, "two": noop}
    with anyio.fail_after(GUARD):
        await DynamicExecutor(dag, first, journal=journal).execute(tasks, run_id="a")
        page = journal.pages["a"]
        rows = {(row.kind, row.node): row for row in page.rows if row.kind in ("body", "step")}
        steps = [row for row in page.rows if row.kind == "step"]
        order = [
            page.rows[0],
            rows["body", "one"],
            rows["body", "two"],
            *(row for row in steps if row.node == "one"),
            *(row for row in steps if row.node == "two"),
        ]
        page.rows = [row._replace(seq=number) for number, row in enumerate(order, 1)]
        page.is_finished = False
        second = {"one": stream_of(last=stop), "two": stream_of()}
        executor = DynamicExecutor(dag, second, journal=journal, on_failure="cancel")
        result = await executor.execute(tasks, run_id="a")
    assert result["one"].status == "FAILED"
    assert {"two 0", "two 1"} <= result.node_results.keys()


async def test_a_stream_whose_child_is_tried_again_has_room() -> None:
    """A stream with a window of one is told to its recorded end, although a child that had failed
    by then is to be tried again.
    """
    journal = MemoryJournal()
    dag = DAG.builder().add_node("stream", policy=NodePolicy(window=1)).build()
    is_broken = True

    async def child() -> None:
        if is_broken:
            raise OSError("no")

    async def pieces(name: str, result: object) -> AsyncGenerator[DynamicNodeSpec]:
        for number in range(3):
            yield DynamicNodeSpec(f"piece {number}", child)

    executor = DynamicExecutor(dag, {"stream": pieces}, journal=journal)
    with anyio.fail_after(GUARD):
        first = await executor.execute({"stream": noop}, run_id="a")
        assert first.failed == 3
        is_broken = False
        second = await executor.execute({"stream": noop}, run_id="a", retry_failed=True)
    assert (second.ok, second.succeeded) == (True, 4)


async def test_attempts_are_told_as_they_were() -> None:
    """A node that died once and failed twice has three attempts and two errors, however often its
    outcome is told again.
    """
    dag = (
        DAG.builder()
        .add_node("fails", policy=NodePolicy(retry=Retry(attempts=2, initial_delay=0.0)))
        .add_edge("fails", "after")
        .add_node("last")
        .build()
    )
    journal = MemoryJournal()
    executor = DynamicExecutor(dag, journal=journal)
    tasks = {"fails": fails, "after": noop, "last": noop}
    with anyio.fail_after(GUARD):
        await executor.execute(tasks, run_id="a")
        journal.pages["a"] = journal.pages["a"].cut(1, begun={"fails": 1})
        for _ in range(3):
            result = await executor.execute(tasks, run_id="a")
            node = result["fails"]
            assert (node.attempts, len(node.errors)) == (3, 2)
            journal.pages["a"].is_finished = False
            journal.pages["a"].rows.pop()


async def test_orphans_of_an_earlier_life_are_cancelled() -> None:
    """Children that a failed task had added are cancelled with it, also when that is told."""
    journal = MemoryJournal()
    dag = DAG.builder().add_node("grows", policy=NodePolicy(orphans="cancel")).add_node("hold")
    executor = DynamicExecutor(dag.build(), journal=journal)
    failed = anyio.Event()

    async def grows(grow: Any) -> None:
        await grow(DynamicNodeSpec("orphan", grown, ["hold"]))
        raise OSError("no")

    async def hold() -> None:
        await failed.wait()

    tasks = {"grows": grows, "hold": hold}
    with anyio.fail_after(GUARD):
        async with executor.start(tasks, run_id="a") as run:
            while str(run.status("grows")) != "FAILED":
                await checkpoint()
            failed.set()
        page = journal.pages["a"]
        journal.pages["a"] = page.cut(kinds(page).index(("failed", "grows")) + 1)
        result = await executor.execute(tasks, run_id="a")
    assert (await run.wait())["orphan"].status == result["orphan"].status == "CANCELLED"


async def test_a_stream_that_goes_on_in_another_graph() -> None:
    """An expander that had not begun when the process died gets the graph as it is when it does;
    in a third life it gets that one again.
    """
    journal = MemoryJournal()
    dag = DAG.builder().add_node("stream").add_node("first").build()

    async def pieces(name: str, result: object, graph: DAG) -> AsyncGenerator[DynamicNodeSpec]:
        yield DynamicNodeSpec(f"of {graph.node_count()}", noop)

    async def expand(name: str, result: object) -> DynamicModification:
        return DynamicModification([DynamicNodeSpec("new", noop)])

    expanders: dict[str, Any] = {"stream": pieces, "first": expand}
    tasks = {"stream": noop, "first": noop}
    executor = DynamicExecutor(dag, expanders, journal=journal, max_concurrency=1)
    with anyio.fail_after(GUARD):
        await executor.execute(tasks, run_id="a")
        whole = journal.pages["a"]
        rows = {(row.kind, row.node): row for row in whole.rows}
        order = [whole.rows[0], rows["body", "stream"], rows["done", "first"]]
        page = whole.cut(0)
        page.rows = [row._replace(seq=number) for number, row in enumerate(order, 1)]
        journal.pages["a"] = page
        second = await executor.execute(tasks, run_id="a")
        assert "of 3" in second.node_results
        journal.pages["a"] = page.cut(len(page.rows) - 1)
        third = await executor.execute(tasks, run_id="a")
    assert third.node_results.keys() == second.node_results.keys()


# --- at the end ----------------------------------------------------------------------------------


async def test_a_modification_that_comes_with_the_last_outcome() -> None:
    """What was asked for before the last node had ended lands, and its nodes run."""
    journal = MemoryJournal()
    dag = DAG.builder().add_node("a").build()
    executor = DynamicExecutor(dag, journal=journal)
    gate = anyio.Event()
    landed: list[int] = []
    with anyio.fail_after(GUARD):
        async with executor.start({"a": gate.wait}, run_id="a") as run:
            while run.status("a") != "RUNNING":
                await checkpoint()

            async def modify() -> None:
                landed.append(
                    await run.modify(DynamicModification([DynamicNodeSpec("new", grown)]))
                )

            async with anyio.create_task_group() as group:
                journal.hold.clear()
                gate.set()
                while not journal.waiting:
                    await checkpoint()
                group.start_soon(modify)
                await anyio.wait_all_tasks_blocked()
                journal.hold.set()
        result = await run.wait()
    assert landed == [1]
    assert result["new"].status == "COMPLETED"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_caller_that_is_cancelled_while_the_end_is_written() -> None:
    """The end of a run is written once, however often its caller is cancelled meanwhile."""
    journal = MemoryJournal()
    executor = DynamicExecutor(DAG.builder().add_node("a").build(), journal=journal)
    with anyio.fail_after(GUARD):
        task = asyncio.ensure_future(executor.execute({"a": noop}, run_id="a"))
        while len(journal.batches) < 2:
            await checkpoint()
        journal.hold.clear()
        while not journal.waiting:
            await checkpoint()
        for _ in range(3):
            task.cancel()
            await checkpoint()
        journal.hold.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    page = journal.pages["a"]
    assert kinds(page) == [("life", None), ("done", "a"), ("end", None)]
    assert page.is_finished
    assert not page.is_held


async def test_what_the_end_of_a_run_lets_go_is_told() -> None:
    """A node that is spare only since the end of the run cancelled what needed it is forgotten."""
    journal = MemoryJournal()
    dag = DAG.builder().add_node("fails").add_edge("a", "b").build()

    async def task() -> None:
        raise OSError("no")

    executor = DynamicExecutor(dag, journal=journal, keep="failures", on_failure="cancel")
    tasks = {"fails": task, "a": noop, "b": anyio.sleep_forever}
    with anyio.fail_after(GUARD):
        result = await executor.execute(tasks, run_id="a")
    found = recorded(journal.pages["a"])
    assert found.node_results.keys() == result.node_results.keys()
    assert found.forgotten == result.forgotten
