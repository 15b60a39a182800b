"""What a run writes into its journal, when, and what becomes of it when something is wrong."""

import threading
from collections.abc import Callable, Generator
from functools import partial
from itertools import pairwise
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

import dagron
from books import MemoryJournal, Page
from clocks import MANUAL, advance
from dagron import (
    DAG,
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    GraphMismatchError,
    NodePoisonedError,
    NodePolicy,
    ReplayError,
    Retry,
)
from dagron._suspects import PATIENCE
from faults import passes, until

GUARD = 30


def chain(*names: str) -> DAG:
    builder = DAG.builder().add_node(names[0])
    for source, target in pairwise(names):
        builder.add_edge(source, target)
    return builder.build()


async def noop() -> None:
    pass


def kinds(page: Page) -> list[tuple[str, str | None]]:
    return [(row.kind, row.node) for row in page.rows]


WRITING = "node 'a' is RUNNING: it has ended, and that is being written into the journal"

# --- when an outcome counts ----------------------------------------------------------------------


async def test_dependents_start_when_what_they_depend_on_is_written() -> None:
    """A node whose outcome is being written is RUNNING, `explain` says so, and nothing that depends
    on it starts; a cancellation that comes meanwhile is too late.
    """
    journal = MemoryJournal()
    executor = DynamicExecutor(chain("a", "b"), journal=journal)
    with anyio.fail_after(GUARD):
        async with executor.start({"a": noop, "b": noop}) as run:
            journal.hold.clear()
            while str(run.explain("a")) != WRITING:
                await checkpoint()
            run.cancel_node("a")
            for _ in range(20):
                await checkpoint()
            assert run.status("b") == "PENDING"
            journal.hold.set()
    result = await run.wait()
    assert result.ok
    assert result.succeeded == 2


async def test_outcomes_of_one_moment_are_one_transaction() -> None:
    """A hundred nodes that end in one pass of the loop are written at once."""
    names = [str(number) for number in range(100)]
    builder = DAG.builder()
    for name in names:
        builder.add_node(name)
    gate = anyio.Event()
    journal = MemoryJournal()
    running = 0

    async def node() -> None:
        nonlocal running
        running += 1
        if running == len(names):
            gate.set()
        await gate.wait()

    executor = DynamicExecutor(builder.build(), journal=journal)
    with anyio.fail_after(GUARD):
        result = await executor.execute(dict.fromkeys(names, node))
    assert result.succeeded == 100
    assert max(journal.batches) >= 50


@pytest.mark.parametrize("sync", [False, True])
async def test_a_node_that_is_being_written_holds_no_slot(sync: bool) -> None:
    """Where one node may run at a time, the second runs while the first one is being written."""
    journal = MemoryJournal()
    second = threading.Event()
    tasks: dict[str, Callable[..., Any]] = {"a": noop, "b": noop}
    if sync:
        tasks = {"a": lambda: None, "b": second.set}
    else:

        async def set_second() -> None:
            second.set()

        tasks["b"] = set_second
    dag = DAG.builder().add_node("a").add_node("b").build()
    limit = {"max_workers": 1} if sync else {"max_concurrency": 1}
    executor = DynamicExecutor(dag, journal=journal, **limit)  # type: ignore[arg-type]
    with anyio.fail_after(GUARD):
        async with executor.start(tasks) as run:
            journal.hold.clear()
            while not second.is_set():
                await checkpoint()
            journal.hold.set()
    assert (await run.wait()).succeeded == 2


async def test_who_looks_on_hears_of_what_is_written() -> None:
    """Observers hear of an outcome when it is written, and in a later life of all that was."""
    journal = MemoryJournal()
    seen: list[tuple[str, str, int]] = []

    def observer(event: dagron.Event) -> None:
        if isinstance(event, dagron.NodeCompleted):
            seen.append((event.kind, event.node, len(journal.pages["a"].rows)))

    executor = DynamicExecutor(chain("a", "b"), journal=journal, observers=[observer])
    with anyio.fail_after(GUARD):
        await executor.execute({"a": noop, "b": noop}, run_id="a")
    assert [(node, rows) for _, node, rows in seen] == [("a", 2), ("b", 3)]
    journal.pages["a"] = journal.pages["a"].cut(2)
    seen.clear()
    with anyio.fail_after(GUARD):
        await executor.execute({"a": noop, "b": noop}, run_id="a")
    assert [node for _, node, _ in seen] == ["a", "b"]


# --- a program that is not the same --------------------------------------------------------------


def growing(*names: str) -> Callable[..., DynamicModification]:
    def expand(name: str, result: object) -> DynamicModification:
        return DynamicModification([DynamicNodeSpec(each, noop, [name], ["end"]) for each in names])

    return expand


def raising(name: str, result: object) -> None:
    raise OSError("no such folder")


def streaming(*names: str) -> Callable[..., Generator[DynamicNodeSpec]]:
    def expand(name: str, result: object) -> Generator[DynamicNodeSpec]:
        for each in names:
            yield DynamicNodeSpec(each, noop, dependents=["end"])

    return expand


ANOTHER = [
    (growing("x", "y"), growing("x", "z"), "node 'y': not there any more\n  node 'z': new"),
    (growing("x", "y"), growing("y", "x"), "were added in this order: 'x', 'y'; now in this one"),
    (growing("x"), lambda name, result: None, "node 'x': not there any more"),
    (growing("x"), raising, "it raised OSError: no such folder"),
    (lambda name, result: None, growing("x"), "node 'x': new"),
    (streaming("x", "y"), streaming("x", "z"), "node 'y': not there any more"),
    (streaming("x", "y"), streaming("x"), "it yields less than it did"),
    (streaming("x"), streaming("x", "y"), "it yields more than it did"),
    (streaming("x"), growing("x"), "it yields less than it did"),
]


@pytest.mark.parametrize(("first", "second", "text"), ANOTHER)
async def test_an_expander_that_does_something_else(first: Any, second: Any, text: str) -> None:
    """Where an expander does not do what it did before, the run ends with what is different, and
    nothing is written: with the expander as it was, the run goes on.
    """
    journal = MemoryJournal()
    tasks = {"begin": noop, "end": noop}
    dag = chain("begin", "end")
    with anyio.fail_after(GUARD):
        await DynamicExecutor(dag, {"begin": first}, journal=journal).execute(tasks, run_id="a")
        page = journal.pages["a"] = journal.pages["a"].cut(len(journal.pages["a"].rows) - 2)
        rows = list(page.rows)
        with pytest.raises(ReplayError) as caught:
            await DynamicExecutor(dag, {"begin": second}, journal=journal).execute(
                tasks, run_id="a"
            )
        assert text in str(caught.value)
        assert "the expander of node 'begin' does not do what it did before" in str(caught.value)
        assert caught.value.node == "begin"
        assert page.rows == rows
        result = await DynamicExecutor(dag, {"begin": first}, journal=journal).execute(
            tasks, run_id="a"
        )
    assert result.ok


async def test_a_condition_that_answers_something_else() -> None:
    """A node that ran, and would be skipped now, ends the run: a condition is a pure function."""
    answers = iter([True, False])
    dag = DAG.builder().add_edge("a", "b", condition=lambda result: next(answers)).build()
    journal = MemoryJournal()
    executor = DynamicExecutor(dag, journal=journal)
    with anyio.fail_after(GUARD):
        await executor.execute({"a": noop, "b": noop}, run_id="a")
        journal.pages["a"] = journal.pages["a"].cut(3)
        with pytest.raises(ReplayError, match="node 'b' ran when the run was here before, and is"):
            await executor.execute({"a": noop, "b": noop}, run_id="a")


def conditional(builder: Any) -> Any:
    return builder.add_edge("a", "b", condition=bool)


MISMATCHES = [
    (lambda builder: builder.add_edge("a", "b").add_node("c"), {}, "node 'c': new"),
    (lambda builder: builder.add_node("a").add_node("b"), {}, "edge 'a -> b': not there any more"),
    (conditional, {}, "edge a -> b: a condition was not there"),
    (
        lambda b: b.add_node("b", policy=NodePolicy(trigger=dagron.all_done)).add_edge("a", "b"),
        {},
        "node 'b': policy was {}, is now {'trigger': 'all_done'}",
    ),
    (lambda builder: builder.add_edge("a", "b"), {"a": growing()}, "expander for 'a': new"),
]


@pytest.mark.parametrize(("build", "expanders", "text"), MISMATCHES)
async def test_another_graph(build: Any, expanders: Any, text: str) -> None:
    """A run that began with another graph is refused with the differences; nothing is written."""
    journal = MemoryJournal()
    with anyio.fail_after(GUARD):
        await DynamicExecutor(chain("a", "b"), journal=journal).execute(
            {"a": noop, "b": noop}, run_id="a"
        )
        page = journal.pages["a"]
        rows = list(page.rows)
        dag = build(DAG.builder()).build()
        executor = DynamicExecutor(dag, expanders, journal=journal)
        with pytest.raises(GraphMismatchError) as caught:
            await executor.execute(dict.fromkeys(dag, noop), run_id="a")
    assert text in str(caught.value)
    assert any(text in line for line in caught.value.differences)
    assert page.rows == rows
    assert not page.is_held


async def test_how_a_node_is_run_may_change() -> None:
    """A longer timeout, more attempts or another group are no other graph."""
    journal = MemoryJournal()
    with anyio.fail_after(GUARD):
        await DynamicExecutor(chain("a", "b"), journal=journal).execute(
            {"a": noop, "b": noop}, run_id="a"
        )
        journal.pages["a"] = journal.pages["a"].cut(2)
        policy = NodePolicy(timeout=60, retry=Retry(3), group="g", priority=2)
        dag = DAG.builder().add_node("a", policy=policy).add_edge("a", "b").build()
        result = await DynamicExecutor(dag, limits={"g": 1}, journal=journal).execute(
            {"a": noop, "b": noop}, run_id="a"
        )
    assert result.ok


# --- crashes -------------------------------------------------------------------------------------


async def test_a_node_at_work_at_every_crash_is_poisoned() -> None:
    """A node that was at work at `max_recoveries` crashes fails instead of being tried for ever;
    the rest goes on, and its attempts are counted.
    """
    journal = MemoryJournal(max_recoveries=2)
    attempts: list[int] = []
    keys: set[str] = set()

    async def kills() -> None:
        attempts.append(dagron.current().attempt)
        keys.add(dagron.current().idempotency_key)

    dag = DAG.builder().add_edge("kills", "after").add_node("other").build()
    tasks = {"kills": kills, "after": noop, "other": noop}
    executor = DynamicExecutor(dag, journal=journal)
    with anyio.fail_after(GUARD):
        await executor.execute(tasks, run_id="a")
        journal.pages["a"] = journal.pages["a"].cut(1, begun={"kills": 1})
        await executor.execute(tasks, run_id="a")
        second = journal.pages["a"]
        (count,) = [n for n, row in enumerate(second.rows) if row.kind == "life" and n]
        journal.pages["a"] = second.cut(count + 1, begun={"kills": 2})
        result = await executor.execute(tasks, run_id="a")
    assert attempts == [1, 2]
    assert len(keys) == 1
    error = result["kills"].error
    assert isinstance(error, NodePoisonedError)
    assert (error.node, error.recoveries) == ("kills", 2)
    assert result["kills"].attempts == 2
    assert "was at work each of the 2 times" in str(error)
    assert result["after"].status == "SKIPPED"
    assert result["other"].status == "COMPLETED"


async def test_who_may_have_killed_the_process_runs_alone() -> None:
    """Nodes that fail at one more crash are at work one at a time and hold no slot until then;
    each goes on when it is written what became of the one before, also when that is cancelled.
    """
    journal = MemoryJournal(max_recoveries=2)
    order: list[str] = []
    at_work: list[str] = []
    b_began = anyio.Event()

    async def for_ever() -> None:
        order.append("b")
        at_work.append("b")
        b_began.set()
        try:
            await anyio.sleep_forever()
        finally:
            at_work.remove("b")

    def body(name: str) -> Callable[[], Any]:
        def task() -> list[str]:
            order.append(name)
            return list(at_work)

        async def async_task() -> list[str]:
            await checkpoint()
            return task()

        return task if name == "c" else async_task

    dag = DAG.builder()
    for name in ["b", "other", *"acde"]:
        dag.add_node(name)
    tasks = {"other": body("other"), **{name: body(name) for name in "acde"}, "b": for_ever}
    settings = {"max_workers": 1, "max_concurrency": 2}
    executor = DynamicExecutor(dag.build(), journal=journal, **settings)  # type: ignore[arg-type]
    with anyio.fail_after(GUARD):
        async with executor.start(tasks, run_id="a") as run:
            await b_began.wait()
            run.cancel()
        order.clear()
        b_began = anyio.Event()
        begun = dict.fromkeys("abcde", 1)
        journal.pages["a"] = journal.pages["a"].cut(1, begun=begun)
        async with executor.start(tasks, run_id="a") as run:
            await until(lambda: "other" in order and str(run.status("e")) == "RUNNING")
            run.cancel_node("d")
            await until(lambda: str(run.status("d")) == "CANCELLED")
            assert sorted(order) == ["b", "other"]
            run.cancel_node("b")
            result = await run.wait()
    assert order[2:] == ["a", "c", "e"]
    assert [result[name].result for name in "ace"] == [[], [], []]
    assert [str(result[name].status) for name in "bd"] == ["CANCELLED", "CANCELLED"]
    assert [result[name].attempts for name in "abcde"] == [2, 2, 2, 1, 2]


@MANUAL
async def test_who_may_have_killed_the_process_waits_for_no_other_for_ever() -> None:
    """Such a node that is at work for long is not alone any more: it may wait for the next one."""
    journal = MemoryJournal(max_recoveries=2)
    names = ["a", "b"]
    began = {name: anyio.Event() for name in names}

    def meets(name: str, other: str) -> Callable[[], Any]:
        async def task() -> str:
            began[name].set()
            await began[other].wait()
            return name

        return task

    dag = DAG.builder().add_node("a").add_node("b").build()
    executor = DynamicExecutor(dag, journal=journal)  # type: ignore[arg-type]
    tasks = {"a": meets("a", "b"), "b": meets("b", "a")}
    await executor.execute(tasks, run_id="a")
    began = {name: anyio.Event() for name in names}
    journal.pages["a"] = journal.pages["a"].cut(1, begun=dict.fromkeys(names, 1))
    async with executor.start(tasks, run_id="a") as run:
        await until(lambda: [str(run.status(name)) for name in names] == ["RUNNING"] * 2)
        await until(lambda: any(began[name].is_set() for name in names))
        await passes(10)
        assert not all(began[name].is_set() for name in names)
        advance(PATIENCE)
        result = await run.wait()
    assert [node.result for node in result.node_results.values()] == names


@MANUAL
async def test_who_may_have_killed_the_process_has_a_turn_of_its_own() -> None:
    """Behind a node that is at work for long, the next ones begin one at a time, too."""
    journal = MemoryJournal(max_recoveries=2)
    names = ["a", "b", "c", "d"]
    gate = anyio.Event()
    order: list[str] = []

    async def waits(name: str) -> str:
        order.append(name)
        await gate.wait()
        return name

    dag = DAG.builder()
    for name in names:
        dag.add_node(name)
    executor = DynamicExecutor(dag.build(), journal=journal)  # type: ignore[arg-type]
    tasks = {name: partial(waits, name) for name in names}
    gate.set()
    await executor.execute(tasks, run_id="a")
    journal.pages["a"] = journal.pages["a"].cut(1, begun=dict.fromkeys(names, 1))
    gate = anyio.Event()
    order.clear()
    async with executor.start(tasks, run_id="a") as run:
        await until(lambda: [str(run.status(name)) for name in names] == ["RUNNING"] * 4)
        for count in (1, 2, 3, 4):
            await until(lambda count=count: len(order) >= count)
            await passes(10)
            assert len(order) == count
            advance(PATIENCE - 1)
            await passes(10)
            assert len(order) == count
            advance(1)
        gate.set()
        assert (await run.wait()).ok


@pytest.mark.parametrize("most", [1, 2])
async def test_a_process_that_dies_before_anything_is_written(most: int) -> None:
    """Who was at work then is counted: it fails at once, or has a turn of its own."""
    journal = MemoryJournal(max_recoveries=most)
    at_work: list[str] = []
    both: list[list[str]] = []

    async def work(name: str) -> None:
        at_work.append(name)
        await passes(10)
        both.append(list(at_work))
        at_work.remove(name)

    dag = DAG.builder().add_node("a").add_node("b").build()
    executor = DynamicExecutor(dag, journal=journal)  # type: ignore[arg-type]
    tasks = {name: partial(work, name) for name in "ab"}
    with anyio.fail_after(GUARD):
        await executor.execute(tasks, run_id="a")
        journal.pages["a"] = journal.pages["a"].cut(0, begun={"a": 1, "b": 1})
        both.clear()
        result = await executor.execute(tasks, run_id="a")
    if most == 1:
        assert all(isinstance(result[name].error, NodePoisonedError) for name in "ab")
        assert both == []
    else:
        assert result.ok
        assert sorted(both) == [["a"], ["b"]]


async def test_nothing_begins_before_its_life_is_written() -> None:
    """In a run that goes on no node begins before it is written that another process has it: one
    that kills the process at once would not be known to have been at work in it.
    """
    journal = MemoryJournal()
    executor = DynamicExecutor(chain("a", "b"), journal=journal)
    begun: list[list[tuple[str, str | None]]] = []

    async def b() -> None:
        begun.append(kinds(journal.pages["a"]))

    with anyio.fail_after(GUARD):
        await executor.execute({"a": noop, "b": noop}, run_id="a")
        journal.pages["a"] = journal.pages["a"].cut(2, begun={"b": 1})
        journal.hold.clear()
        async with executor.start({"a": noop, "b": b}, run_id="a") as run:
            while not journal.waiting:
                await checkpoint()
            for _ in range(20):
                await checkpoint()
            too_soon = [*begun]
            journal.hold.set()
        assert (await run.wait()).ok
    assert not too_soon
    assert begun == [[("life", None), ("done", "a"), ("life", None)]]


async def test_attempts_before_a_crash_count() -> None:
    """A retry goes on with what is left of its attempts, and the result counts all of them."""
    journal = MemoryJournal(max_recoveries=9)
    policy = NodePolicy(retry=Retry(attempts=3, initial_delay=0.0))
    dag = DAG.builder().add_node("fails", policy=policy).build()
    calls = 0

    async def fails() -> None:
        nonlocal calls
        calls += 1
        raise OSError("refused")

    executor = DynamicExecutor(dag, journal=journal)
    with anyio.fail_after(GUARD):
        await executor.execute({"fails": fails}, run_id="a")
        assert calls == 3
        assert journal.pages["a"].begun == {"fails": 3}
        # Two attempts failed, and the process died in the third.
        journal.pages["a"] = journal.pages["a"].cut(1, begun={"fails": 3})
        calls = 0
        result = await executor.execute({"fails": fails}, run_id="a")
    assert calls == 1
    assert result["fails"].attempts == 4


# --- endings -------------------------------------------------------------------------------------


async def test_a_journal_that_fails_ends_the_run() -> None:
    """When a transaction fails, `execute` raises what went wrong; what was to be written does not
    count, nothing that depends on it has started, and what was written before stays.
    """
    journal = MemoryJournal()
    journal.fails_after = 2
    ran: list[str] = []

    async def c() -> None:
        ran.append("c")

    async def waits() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ran.append("cleaned up")

    dag = DAG.builder().add_edge("a", "b").add_edge("b", "c").add_node("waits").build()
    tasks = {"a": noop, "b": noop, "c": c, "waits": waits}
    seen: list[str] = []
    executor = DynamicExecutor(
        dag, journal=journal, observers=[lambda event: seen.append(event.kind)]
    )
    with anyio.fail_after(GUARD), pytest.raises(OSError, match="the disk is full"):
        await executor.execute(tasks, run_id="a")
    assert ran == ["cleaned up"]
    assert kinds(journal.pages["a"]) == [("life", None), ("done", "a")]
    assert seen.count("node_completed") == 1
    assert (seen.count("node_cancelled"), seen.count("node_skipped")) == (2, 1)
    journal.fails_after = None
    tasks["waits"] = noop
    with anyio.fail_after(GUARD):
        result = await executor.execute(tasks, run_id="a")
    assert result.ok
    assert result.succeeded == 4


async def test_a_run_that_its_caller_cancels_is_unfinished() -> None:
    """What a cancellation cuts off is not written as an outcome; what has ended is."""
    journal = MemoryJournal()
    executor = DynamicExecutor(chain("a", "b"), journal=journal)
    begun = anyio.Event()

    async def b() -> None:
        begun.set()
        await anyio.sleep_forever()

    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as group:

            async def execute() -> None:
                await executor.execute({"a": noop, "b": b}, run_id="a")

            group.start_soon(execute)
            await begun.wait()
            group.cancel_scope.cancel()
        page = journal.pages["a"]
        assert kinds(page) == [("life", None), ("done", "a")]
        assert page.is_clean
        assert not page.is_held
        result = await executor.execute({"a": b, "b": noop}, run_id="a")
    assert result.ok


def interrupted(*arguments: object) -> None:
    raise KeyboardInterrupt


async def interrupted_later() -> None:
    raise BaseExceptionGroup("several", [ValueError("no"), KeyboardInterrupt()])


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(
    ("task", "expanders"),
    [(interrupted, {}), (interrupted_later, {}), (noop, {"b": interrupted})],
)
def test_a_node_that_is_interrupted_is_unfinished(
    backend: str, task: Any, expanders: dict[str, Any]
) -> None:
    """Ctrl-C in a node's body or in its expander is no failure of the node: it runs again."""
    journal = MemoryJournal()
    dag = chain("a", "b")
    executor = DynamicExecutor(dag, expanders, journal=journal)
    with pytest.raises(KeyboardInterrupt):
        executor.execute_sync({"a": noop, "b": task}, run_id="a", backend=backend)
    assert kinds(journal.pages["a"]) == [("life", None), ("done", "a")]
    executor = DynamicExecutor(dag, dict.fromkeys(expanders, growing()), journal=journal)
    result = executor.execute_sync({"a": interrupted, "b": noop}, run_id="a", backend=backend)
    assert (result.ok, result.succeeded) == (True, 2)


@pytest.mark.parametrize("how", ["cancel", "timeout"])
async def test_a_run_that_is_cut_short_is_unfinished(how: str) -> None:
    """`run.cancel()` and a timeout of the run leave it to be gone on with."""
    journal = MemoryJournal()
    executor = DynamicExecutor(chain("a", "b"), journal=journal)
    begun = anyio.Event()

    async def b() -> None:
        begun.set()
        await anyio.sleep_forever()

    timeout = 0.05 if how == "timeout" else None
    with anyio.fail_after(GUARD):
        async with executor.start({"a": noop, "b": b}, run_id="a", timeout=timeout) as run:
            if how == "cancel":
                await begun.wait()
                run.cancel("enough")
        cut = await run.wait()
        assert not cut.ok
        assert not journal.pages["a"].is_finished
        result = await executor.execute({"a": noop, "b": noop}, run_id="a")
    assert result.ok
    assert journal.pages["a"].is_finished


async def test_a_run_that_its_first_failure_ends_is_finished() -> None:
    """With `on_failure="cancel"` a failure is the end: it is written as such."""
    journal = MemoryJournal()
    dag = DAG.builder().add_node("fails").add_node("waits").build()

    async def fails() -> None:
        raise OSError("no")

    executor = DynamicExecutor(dag, journal=journal, on_failure="cancel")
    with anyio.fail_after(GUARD):
        result = await executor.execute({"fails": fails, "waits": anyio.sleep_forever}, run_id="a")
    assert result["waits"].status == "CANCELLED"
    assert journal.pages["a"].is_finished


async def test_failures_of_an_unfinished_run_may_be_tried_again() -> None:
    """With `retry_failed` what had failed runs again, and what was skipped for it; what had
    completed does not, an expander is called again with the recorded result.
    """
    journal = MemoryJournal()
    dag = (
        DAG.builder().add_edge("a", "b").add_edge("a", "after").add_edge("c", "d").add_node("e")
    ).build()
    calls: list[str] = []
    is_broken = True

    def expand(name: str, result: str) -> DynamicModification:
        assert result == "a"
        if is_broken:
            raise OSError("no such folder")
        return DynamicModification([DynamicNodeSpec("new", task("new"), ["a"], ["after"])])

    def task(name: str) -> Callable[..., Any]:
        async def run() -> str:
            calls.append(name)
            if name == "c" and is_broken:
                raise ValueError("no")
            return name

        return run

    tasks = {name: task(name) for name in dag}
    executor = DynamicExecutor(dag, {"a": expand}, journal=journal)
    with anyio.fail_after(GUARD):
        first = await executor.execute(tasks, run_id="a")
        assert (first.failed, first.skipped) == (2, 3)
        journal.pages["a"] = journal.pages["a"].cut(len(journal.pages["a"].rows) - 1)
        calls.clear()
        again = await executor.execute(tasks, run_id="a")
        assert (again.failed, again.skipped) == (2, 3)
        assert calls == []
        journal.pages["a"] = journal.pages["a"].cut(len(journal.pages["a"].rows) - 1)
        is_broken = False
        result = await executor.execute(tasks, run_id="a", retry_failed=True)
    assert sorted(calls) == ["after", "b", "c", "d", "new"]
    assert result.ok
    assert result["a"].result == "a"
    page = journal.pages["a"]
    for count in range(len(page.rows)):
        with anyio.fail_after(GUARD):
            journal.pages["a"] = page.cut(count)
            await executor.execute(tasks, run_id="a")


# --- from outside --------------------------------------------------------------------------------


async def added() -> str:
    return "added from outside"


async def test_what_comes_from_outside_is_written() -> None:
    """`run.modify` and `run.cancel_node` are written before they happen, with callables by their
    import path, and happen again.
    """
    journal = MemoryJournal()
    dag = DAG.builder().add_node("gate").add_node("slow").build()
    executor = DynamicExecutor(dag, journal=journal)
    gate = anyio.Event()

    async def wait() -> None:
        await gate.wait()

    with anyio.fail_after(GUARD):
        tasks = {"gate": wait, "slow": anyio.sleep_forever}
        async with executor.start(tasks, run_id="a") as run:
            spec = DynamicNodeSpec("new", added, ["gate"], policy=NodePolicy(timeout=20))
            assert await run.modify(DynamicModification([spec])) == 1
            with pytest.raises(dagron.ModificationError):
                await run.modify(DynamicModification([spec]))
            with pytest.raises(dagron.UnstorableError, match="the task of node 'other'"):
                await run.modify(DynamicModification([DynamicNodeSpec("other", lambda: None)]))
            run.cancel_node("slow")
            gate.set()
        first = await run.wait()
    assert first.ok
    assert first["new"].result == "added from outside"
    page = journal.pages["a"]
    assert [kind for kind, _ in kinds(page)].count("outside") == 2
    (landed,) = [number for number, row in enumerate(page.rows) if row.kind == "cancel"]
    for count in range(landed + 1, len(page.rows)):
        journal.pages["a"] = page.cut(count)
        with anyio.fail_after(GUARD):
            result = await executor.execute(tasks, run_id="a")
        assert result["new"].result == "added from outside"
        assert result["slow"].status == "CANCELLED"
        assert result.ok


async def test_a_result_that_cannot_be_stored_fails_its_node() -> None:
    """Such a node fails at once, before its expander is called and anything that depends on it."""
    journal = MemoryJournal()
    dag = DAG.builder().add_edge("lock", "after").add_edge("sync lock", "after").build()
    called: list[str] = []
    executor = DynamicExecutor(
        dag, {"lock": lambda name, result: called.append(name)}, journal=journal
    )

    async def lock() -> Any:
        return threading.Lock()

    with anyio.fail_after(GUARD):
        result = await executor.execute({"lock": lock, "sync lock": threading.Lock, "after": noop})
    for name in ("lock", "sync lock"):
        assert isinstance(result[name].error, dagron.UnstorableError)
    assert result["after"].status == "SKIPPED"
    assert called == []


# --- what is asked for wrongly -------------------------------------------------------------------


async def test_trying_again_needs_a_run_id() -> None:
    """`retry_failed=True` without the id of a run is an error that says what to pass."""
    executor = DynamicExecutor(DAG.builder().add_node("a").build(), journal=MemoryJournal())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="help: pass the run_id of the run"):
        await executor.execute({"a": print}, retry_failed=True)


async def test_a_run_id_needs_a_journal() -> None:
    """A run_id without a journal, and one that could be no file's name, are refused at once."""
    with pytest.raises(ValueError, match="names a run in a journal, and this executor has none"):
        await DynamicExecutor(chain("a")).execute({"a": noop}, run_id="a")
    executor = DynamicExecutor(chain("a"), journal=MemoryJournal())
    for bad in ("", "a/b", "../x", "a" * 101, "a b", "é"):
        with pytest.raises(dagron.InvalidNameError, match="is not 1 to 100 of the characters"):
            await executor.execute({"a": noop}, run_id=bad)
    with pytest.raises(TypeError, match="a run_id is a str, not int"):
        await executor.execute({"a": noop}, run_id=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"journal is a dagron\.Journal, not str"):
        DynamicExecutor(chain("a"), journal="runs.db")  # type: ignore[arg-type]


# --- where a task finds out ----------------------------------------------------------------------


async def test_a_task_knows_where_it_is() -> None:
    """`current()` tells the run, the node and the attempt, in tasks, threads and expanders, and a
    key that is the same in every attempt and another one for every node and every run.
    """
    found: list[dagron.Current] = []

    def sync_task() -> None:
        found.append(dagron.current())

    async def task() -> None:
        found.append(dagron.current())
        if len(found) < 3:
            raise OSError("again")

    dag = (
        DAG.builder()
        .add_node("b", policy=NodePolicy(retry=Retry(attempts=3, initial_delay=0.0)))
        .add_edge("b", "a")
        .build()
    )
    executor = DynamicExecutor(dag)
    with anyio.fail_after(GUARD):
        await executor.execute({"a": sync_task, "b": task})
    assert [(here.node, here.attempt) for here in found] == [("b", 1), ("b", 2), ("b", 3), ("a", 1)]
    assert len({here.run_id for here in found}) == 1
    assert len({here.idempotency_key for here in found}) == 2
    with pytest.raises(LookupError, match="was called outside of a run"):
        dagron.current()


# --- at the border -------------------------------------------------------------------------------


async def test_a_modification_that_was_spoilt_fails_its_node() -> None:
    """What an expander has put into a modification after it was made is found, before it is
    written; what it changes later has no part in the run.
    """
    journal = MemoryJournal()
    later = DynamicModification([DynamicNodeSpec("new", noop)])

    def spoilt(name: str, result: object) -> DynamicModification:
        change = DynamicModification([DynamicNodeSpec("x", noop)])
        change.add_nodes.append("y")  # type: ignore[arg-type]
        return change

    def streamed(name: str, result: object) -> Generator[DynamicModification]:
        yield spoilt(name, result)

    def changed(name: str, result: object) -> DynamicModification:
        return later

    dag = DAG.builder().add_node("a").add_node("b").add_node("c").build()
    executor = DynamicExecutor(dag, {"a": spoilt, "b": streamed, "c": changed}, journal=journal)
    with anyio.fail_after(GUARD):
        async with executor.start(dict.fromkeys("abc", noop), run_id="a") as run:
            journal.hold.clear()
            while not str(run.explain("c")).endswith("written into the journal"):
                await checkpoint()
            later.add_nodes.clear()
            journal.hold.set()
    result = await run.wait()
    for name in "ab":
        assert isinstance(result[name].error, dagron.ModificationError)
        assert "add_nodes holds 'y', which is str" in str(result[name].error)
    assert result["new"].added_by == "c"
    rows = [row for row in journal.pages["a"].rows if row.kind in ("done", "step")]
    assert [row.node for row in rows] == ["c", "new"]
