"""Another process writes to the journal for ever: a run that is to end does not wait for it."""

import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

import dagron
from cancelling import NATIVE, Way, by_outer_run_on_a_thread, by_scope, ways
from dagron import DynamicExecutor, ExecutionResult, Journal
from faults import GUARD, ON_ASYNCIO, graph, passes, until
from journals import Program

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="signals are of POSIX")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with Journal(path) as journal:
        yield journal


class Other:
    """Another process, as far as the file knows: it writes from `begin` to the end of the test."""

    def __init__(self, path: Path) -> None:
        self._over = threading.Event()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._guard = threading.Thread(target=self._give_up)

    def begin(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._guard.start()

    def _give_up(self) -> None:
        if not self._over.wait(GUARD):
            self._connection.execute("ROLLBACK")

    def end(self) -> None:
        """Let others write; nobody must have waited for that so far."""
        is_writing = self._connection.in_transaction
        self._over.set()
        self._guard.join()
        self._connection.close()
        assert is_writing, "it was waited for"


@contextmanager
def other_process(path: Path, *, begins: bool = False) -> Iterator[Other]:
    """Let another process write, from `begin` on, until the block has been left."""
    other = Other(path)
    if begins:
        other.begin()
    yield other
    other.end()


class Tasks:
    """The tasks of "a" and "b", which counts what was called; `then` is called by "a"."""

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.called: list[tuple[str, int]] = []
        self._then = then

    async def a(self) -> str:
        self.called.append(("a", dagron.current().attempt))
        self._then()
        return "a"

    async def b(self) -> str:
        self.called.append(("b", dagron.current().attempt))
        return "b"

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter({"a": self.a, "b": self.b}.items())


async def execute(journal: Journal, tasks: Tasks, **options: Any) -> ExecutionResult:
    executor = DynamicExecutor(graph(edges="a-b"), journal=journal, **options)
    return await executor.execute(dict(tasks), run_id="x")


def is_waiting(journal: Journal) -> bool:
    """Tell whether something waits for the other process."""
    waiting = list(journal._store._writer._waiting)
    return any(entry is not None and entry.deadline < float("inf") for entry in waiting)


class Moment:
    """When the other process begins to write: before the run does, at "a", or after "b"."""

    def __init__(self, name: str, other: Other) -> None:
        if name == "claim":
            other.begin()
        self.tasks = Tasks(other.begin if name == "rows" else lambda: None)
        self.observers = [self._hear]
        self.other = other if name == "end" else None

    def _hear(self, event: dagron.Event) -> None:
        if self.other is not None and isinstance(event, dagron.NodeCompleted) and event.node == "b":
            self.other.begin()


# How often each node has been called, and in which attempt, before and after the other process.
CALLED: dict[str, tuple[list[tuple[str, int]], list[tuple[str, int]]]] = {
    "claim": ([], [("a", 1), ("b", 1)]),
    "rows": ([("a", 1)], [("a", 1), ("b", 1)]),
    "end": ([("a", 1), ("b", 1)], []),
}
moments = pytest.mark.parametrize("moment", CALLED)


async def is_given_up(
    journal: Journal,
    path: Path,
    moment: str,
    cancel: Callable[[Callable[[Callable[[], object]], Awaitable[Any]]], Awaitable[bool]],
) -> None:
    """See a run end that is cancelled while it waits for another process, and go on later."""
    await execute_another(journal)  # so that there is a file
    with other_process(path) as other:
        at = Moment(moment, other)

        async def cancelled(cancel: Callable[[], object]) -> None:
            async with anyio.create_task_group() as group:

                async def wait() -> None:
                    await until(lambda: is_waiting(journal))
                    cancel()

                group.start_soon(wait)
                await execute(journal, at.tasks, observers=at.observers)

        assert await cancel(cancelled)
        assert at.tasks.called == CALLED[moment][0]
    await goes_on(journal, moment)


async def execute_another(journal: Journal) -> None:
    executor = DynamicExecutor(graph("c"), journal=journal)
    assert (await executor.execute({"c": checkpoint}, run_id="another")).ok


async def goes_on(journal: Journal, moment: str) -> None:
    """See that the rest of the run is done, that nobody is blamed, and that it has finished."""
    tasks = Tasks()
    result = await execute(journal, tasks)
    assert result.ok
    assert {name: node.result for name, node in result.node_results.items()} == {"a": "a", "b": "b"}
    assert tasks.called == CALLED[moment][1]
    assert journal.run("x").state == "finished"


@ways(by_scope, by_outer_run_on_a_thread)
@moments
async def test_a_cancelled_run_does_not_wait_for_another_process(
    way: Way, moment: str, journal: Journal, path: Path
) -> None:
    """A run whose caller is cancelled ends although another process keeps the journal locked: while
    it is claimed, while rows are written, and while its end is. What was not written runs again, in
    the same attempt.
    """
    await is_given_up(journal, path, moment, way)


@ON_ASYNCIO
@ways(*NATIVE)
@moments
async def test_a_natively_cancelled_run_does_not_wait_for_another_process(
    way: Way, moment: str, journal: Journal, path: Path
) -> None:
    """So it is when asyncio cancels it in its own ways."""
    await is_given_up(journal, path, moment, way)


@needs_posix
@moments
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_ctrl_c_does_not_wait_for_another_process(
    backend: str, moment: str, journal: Journal, path: Path
) -> None:
    """One Ctrl-C ends a run that waits for another process, as KeyboardInterrupt."""
    anyio.run(execute_another, journal)

    def interrupt() -> None:
        while not is_waiting(journal):
            assert not over.wait(0)
        os.kill(os.getpid(), signal.SIGINT)

    over = threading.Event()
    thread = threading.Thread(target=interrupt)
    with other_process(path) as other:
        at = Moment(moment, other)
        executor = DynamicExecutor(graph(edges="a-b"), journal=journal, observers=at.observers)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            executor.execute_sync(dict(at.tasks), backend=backend, run_id="x")
        over.set()
        thread.join(GUARD)
        assert at.tasks.called == CALLED[moment][0]
    anyio.run(goes_on, journal, moment)


@pytest.mark.parametrize(
    ("moment", "how"),
    [
        ("claim", "cancel"),
        ("claim", "leave the block"),
        ("rows", "cancel"),
        ("rows", "leave the block"),
        ("rows", "timeout"),  # which begins when the run is claimed
    ],
)
async def test_a_run_that_is_ended_does_not_wait_for_another_process(
    moment: str, how: str, journal: Journal, path: Path
) -> None:
    """`run.cancel()`, a timeout and leaving the block of a run give a result, or raise, although
    another process keeps the journal locked.
    """
    await execute_another(journal)
    with other_process(path) as other:
        at = Moment(moment, other)
        executor = DynamicExecutor(graph(edges="a-b"), journal=journal)
        timeout = 0.2 if how == "timeout" else None
        is_left = how == "leave the block"
        with pytest.raises(ZeroDivisionError) if is_left else nullcontext():
            async with executor.start(dict(at.tasks), run_id="x", timeout=timeout) as run:
                await until(lambda: is_waiting(journal))
                if how == "cancel":
                    run.cancel("enough")
                elif is_left:
                    raise ZeroDivisionError
            result = await run.wait()
            assert result.reason
            assert [str(node.status) for node in result.node_results.values()] == ["CANCELLED"] * 2
        assert at.tasks.called == CALLED[moment][0]
    await goes_on(journal, moment)


async def test_other_runs_of_the_journal_wait_on(journal: Journal, path: Path) -> None:
    """When one run of a journal is cancelled that waits for another process, the others wait on:
    one whose rows are in the same transaction, and one that is being claimed.
    """
    await execute_another(journal)
    ended: list[str] = []

    async def cancelled() -> None:
        with scope:
            await execute(journal, Tasks(other.begin))

    async def go_on(run_id: str) -> None:
        async def node() -> None:
            is_at_work.set()
            await gate.wait()

        executor = DynamicExecutor(graph("d"), journal=journal)
        assert (await executor.execute({"d": node}, run_id=run_id)).ok
        ended.append(run_id)

    scope, is_at_work, gate = anyio.CancelScope(), anyio.Event(), anyio.Event()
    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as group:
            with other_process(path) as other:
                group.start_soon(go_on, "y")
                await is_at_work.wait()
                async with anyio.create_task_group() as cancelling:
                    cancelling.start_soon(cancelled)
                    await until(lambda: is_waiting(journal))
                    gate.set()
                    group.start_soon(go_on, "z")
                    await until(lambda: len(journal._store._writer._waiting) == 3)
                    scope.cancel()
                assert scope.cancelled_caught
                await passes(20)
                assert ended == []
    assert sorted(ended) == ["y", "z"]


async def test_a_run_that_a_failure_ends_waits_for_another_process(
    journal: Journal, path: Path
) -> None:
    """A failure that ends the run is written, and the end, however long another process writes."""
    await execute_another(journal)

    def fail() -> None:
        other.begin()
        raise OSError("no")

    results: list[ExecutionResult] = []

    async def run() -> None:
        results.append(await execute(journal, Tasks(fail), on_failure="cancel"))

    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as group:
            with other_process(path) as other:
                group.start_soon(run)
                await until(lambda: is_waiting(journal))
                await passes(20)
                claims = list(journal._store._claims)
                assert [claim.patience.is_short for claim in claims] == [False]
                assert results == []
    assert results[0]["a"].status == "FAILED"
    assert journal.run("x").state == "finished"


@needs_posix
@pytest.mark.parametrize("moment", ["claim", "rows"])
def test_a_program_ends_that_is_interrupted_while_it_waits(path: Path, moment: str) -> None:
    """A program that is ended by Ctrl-C while it waits for another process leaves nothing behind
    that waits on.
    """
    with Journal(path) as journal:
        anyio.run(execute_another, journal)
    code = """
    import dagron
    from test_journal_busy import is_waiting
    def node():
        say("node")
        stay()
    dag = dagron.DAG.builder().add_node("a").build()
    journal = dagron.Journal(path)
    def look():
        while not is_waiting(journal):
            pass
        say("waiting")
    threading.Thread(target=look, daemon=True).start()
    try:
        dagron.DynamicExecutor(dag, journal=journal).execute_sync({"a": node}, run_id="x")
    except KeyboardInterrupt:
        say("interrupted")
    """
    with other_process(path, begins=moment == "claim") as other, Program(path, code) as program:
        if moment == "rows":
            while program.line() != "node":
                pass
            other.begin()
            program.go()
        while program.line() != "waiting":
            pass
        os.kill(program._process.pid, signal.SIGINT)
        assert program.end() == "interrupted\n"
