"""How a registry of runs is closed, by what, and that nothing is left of it."""

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

import dagron
from cancelling import EVERYWHERE, NATIVE, Cancel, Way, leaving_nothing, tasks_living, ways
from clocks import MANUAL, VIRTUAL, advance, reached
from controls import Work
from dagron import NodePolicy, RunRegistry
from faults import (
    GUARD,
    ON_ASYNCIO,
    ROOT,
    Alive,
    Passes,
    graph,
    hold,
    passes,
    program,
    run_counted,
    until,
)
from handles import Tidying, noop, start
from test_registry import one, registry

# --- the grace -----------------------------------------------------------------------------------


@VIRTUAL
async def test_runs_may_end_by_themselves_in_the_grace() -> None:
    """Leaving the block gives runs so many seconds to end by themselves: their nodes go on, also
    those that have not begun, and the block is left as soon as the last run has ended.
    """

    async def work() -> str:
        await anyio.sleep(4)
        return "done"

    async with RunRegistry(grace=10) as runs:
        run = runs.start(start(graph(edges="a-b"), {"a": work, "b": work}))
        began = anyio.current_time()
    assert anyio.current_time() - began == 8
    assert run.state == "succeeded"


@VIRTUAL
async def test_what_is_left_after_the_grace_is_cancelled() -> None:
    """Runs that have not ended after the grace are cancelled, with a result that says why."""
    seconds = {"short": 3, "long": 100}

    async def work(name: str) -> None:
        await anyio.sleep(seconds[name])

    async with RunRegistry(grace=10) as runs:
        short, long = (runs.start(one(partial(work, name))) for name in seconds)
        began = anyio.current_time()
    assert anyio.current_time() - began == 10
    assert (short.state, long.state) == ("succeeded", "cancelled")
    reason = "the run was cancelled: its registry was closed, and 10 s were over"
    assert long.as_dict()["reason"] == reason


@VIRTUAL
async def test_without_a_bound_the_grace_lasts_as_long_as_it_takes() -> None:
    """`grace=None` waits for every run; `grace=0` cancels them at once."""

    async def work() -> None:
        await anyio.sleep(10_000)

    async with RunRegistry(grace=None) as runs:
        patient = runs.start(one(work))
    async with RunRegistry(grace=0) as runs:
        began = anyio.current_time()
        hasty = runs.start(one(work))
    assert anyio.current_time() == began
    assert (patient.state, hasty.state) == ("succeeded", "cancelled")


@VIRTUAL
async def test_the_grace_begins_with_close_soon() -> None:
    """`close_soon` begins to close while the block goes on: it returns at once, refuses new runs
    at once, and the seconds count from there; a second call changes nothing.
    """

    async def work() -> None:
        await anyio.sleep(100)

    async with RunRegistry(grace=10) as runs:
        run = runs.start(one(work))
        await anyio.sleep(1)
        runs.close_soon()
        assert runs.is_closing
        with pytest.raises(dagron.RegistryClosedError):
            runs.start(one(noop))
        await anyio.sleep(6)
        runs.close_soon()
        assert run.state == "running"
        began = anyio.current_time()
    assert anyio.current_time() - began == 4
    assert run.state == "cancelled"
    runs.close_soon()


async def test_close_soon_from_a_thread() -> None:
    """`close_soon` works from any thread, before the block, and after the event loop has ended."""
    gate = anyio.Event()
    async with registry() as runs:
        run = runs.start(one(gate.wait))
        await anyio.to_thread.run_sync(runs.close_soon)
        gate.set()
        await run.wait()
    await anyio.to_thread.run_sync(runs.close_soon)


def test_close_soon_outside_an_event_loop() -> None:
    """Before there is an event loop, and when it is gone, `close_soon` does no harm."""
    runs = RunRegistry()
    runs.close_soon()
    with pytest.raises(dagron.RegistryClosedError):
        runs.start(one(noop))

    async def main() -> RunRegistry:
        async with RunRegistry() as registry:
            return registry

    anyio.run(main).close_soon()


async def test_a_registry_that_was_closed_before_its_block() -> None:
    """A registry whose `close_soon` was called before its block refuses, and its block is left."""
    runs = RunRegistry()
    runs.close_soon()
    with anyio.fail_after(GUARD):
        async with runs:
            with pytest.raises(dagron.RegistryClosedError, match="closing"):
                runs.start(one(noop))


async def test_closing_takes_what_was_just_started() -> None:
    """A run that is started in the very step before the block is left gets its grace, too."""
    async with registry() as runs:
        run = runs.start(one(noop))
    assert run.state == "succeeded"
    async with registry(grace=0) as runs:
        run = runs.start(one(noop))
    assert run.result is not None


# --- threads -------------------------------------------------------------------------------------


@MANUAL
async def test_a_thread_that_blocks_beyond_the_grace_is_given_up() -> None:
    """A blocked worker thread holds up the end for the grace and the thread grace, and no longer:
    then its node is CANCELLED, and what the thread returns is dropped.
    """
    work = Work()
    runs = RunRegistry(grace=10, thread_grace=5)
    left: list[bool] = []

    async def serve() -> None:
        async with runs:
            runs.start(start(graph(edges="work-next"), {"work": work, "next": noop}))
            await work.begins()
        left.append(True)

    async with anyio.create_task_group() as group:
        group.start_soon(serve)
        await work.begins()
        for seconds, state in ((9.5, "running"), (1, "running"), (4, "running"), (1, "cancelled")):
            await passes(25)
            assert not left
            advance(seconds)
            await passes(25)
            (run,) = runs.values()
            assert run.state == state
    assert left == [True]
    assert not work.left.is_set()
    assert run.result is not None
    assert [run.result[name].status for name in ("work", "next")] == ["CANCELLED"] * 2
    work.let_go()
    await reached(work.left)
    await passes(10)
    assert run.result["work"].result is None


@MANUAL
@pytest.mark.parametrize("kind", ["generator", "expander", "two nodes", "policy"])
async def test_whatever_blocks_in_a_thread_is_given_up(kind: str) -> None:
    """An expander, a generator, and several threads at once are given up like a task."""
    work = Work(None)
    expanders: dict[str, Any] = {}
    tasks: dict[str, Any] = {"a": noop, "b": noop}
    if kind == "generator":

        def generate(name: str, result: object) -> Any:
            try:
                yield dagron.DynamicNodeSpec("new", noop)
                work()
                yield None
            finally:
                work()

        expanders["a"] = generate
    elif kind == "expander":
        expanders["a"] = lambda name, result: work()
    else:
        tasks = {"a": work, "b": work}
    options: dict[str, Any] = {"policy": NodePolicy(retry=dagron.Retry(3))} if "pol" in kind else {}
    executor = dagron.DynamicExecutor(graph("a", "b"), expanders, max_workers=2, **options)
    left: list[bool] = []
    runs = RunRegistry(grace=0, thread_grace=5)

    async def serve() -> None:
        async with runs:
            runs.start(executor.start(tasks))
            await work.begins()
        left.append(True)

    async with anyio.create_task_group() as group:
        group.start_soon(serve)
        await work.begins()
        await passes(25)
        advance(4)
        await passes(25)
        assert not left
        for _ in range(4):
            advance(2)
            await passes(25)
    assert left == [True]
    assert {run.state for run in runs.values()} == {"cancelled"}
    work.let_go()


@MANUAL
@pytest.mark.parametrize("depth", [1, 2])
async def test_a_thread_of_a_nested_run_is_given_up(depth: int) -> None:
    """A node that waits for a run of its own, whose node blocks, is given up with that, at any
    depth.
    """
    work = Work()

    async def nest(depth: int) -> None:
        task = work if depth == 1 else partial(nest, depth - 1)
        await dagron.DynamicExecutor(graph("a")).execute({"a": task})

    left: list[bool] = []
    runs = RunRegistry(grace=0, thread_grace=5)

    async def serve() -> None:
        async with runs:
            runs.start(one(partial(nest, depth)))
            await work.begins()
        left.append(True)

    async with anyio.create_task_group() as group:
        group.start_soon(serve)
        await work.begins()
        await passes(25)
        assert not left
        for _ in range(4):
            advance(4)
            await passes(25)
        assert left == [True]
        work.let_go()


async def test_threads_that_end_in_time_count() -> None:
    """A thread that ends after its run was cancelled, and before it is given up, is waited for."""
    work = Work("worth it")
    async with registry(grace=0, thread_grace=None) as runs:
        run = runs.start(start(graph(edges="work-next"), {"work": work, "next": noop}))
        await work.begins()
        run.cancel()
        work.let_go()
    assert run.result is not None
    assert run.result["work"].result == "worth it"
    assert run.result["next"].status == "CANCELLED"


async def test_a_thread_calls_into_the_loop_during_the_grace() -> None:
    """What a sync node calls in the event loop works while the registry closes."""
    called: list[str] = []

    async def ask() -> str:
        await passes(5)
        called.append("asked")
        return "answer"

    async with registry() as runs:
        run = runs.start(one(lambda: anyio.from_thread.run(ask)))
    assert called == ["asked"]
    assert run.result is not None
    assert run.result["a"].result == "answer"


# --- the block is left by an exception, or cancelled ---------------------------------------------


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
async def test_an_exception_cancels_all_runs_and_comes_out_bare(kind: type[BaseException]) -> None:
    """Leaving the block by an exception cancels the runs without a grace, waits for the last node,
    and lets the exception out as it is.
    """
    tasks, error = [Tidying() for _ in range(3)], kind("wrong")
    runs = RunRegistry(grace=None)
    caught: BaseException | None = None
    with anyio.fail_after(GUARD):
        try:
            async with runs:
                for task in tasks:
                    runs.start(one(task))
                for task in tasks:
                    await task.has_begun()
                raise error
        except BaseException as raised:
            caught = raised
    assert caught is error
    assert (caught.__cause__, caught.__context__) == (None, None)
    for task, run in zip(tasks, runs.values(), strict=True):
        task.assert_all_ended()
        assert task.begun == 1
        reason = f"its registry was left by {kind.__name__}"
        assert reason in run.as_dict()["reason"]


class Application:
    """A program that owns a registry, with runs in every stage, and that is cancelled."""

    def __init__(self) -> None:
        self.alive = Alive()
        self.runs = RunRegistry(grace=None)

    async def loop(self) -> None:
        with self.alive:
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await passes(5)

    def thread(self) -> None:
        with self.alive:
            anyio.from_thread.run(passes, 3)

    async def serve(self, then: Callable[[], Awaitable[Any]]) -> None:
        try:
            async with self.runs as runs:
                runs.start(one(noop))
                for _ in range(5):
                    runs.start(start(graph(edges="a-b"), {"a": self.loop, "b": noop}))
                runs.start(start(graph(edges="a-b"), {"a": self.thread, "b": noop}))
                await then()
                await anyio.sleep_forever()
        finally:
            self.assert_nothing_is_left()

    def assert_nothing_is_left(self) -> None:
        assert self.alive.now == 0
        assert self.runs.running == ()
        for run in self.runs.values():
            assert run.error is None
            assert run.result is not None


@ways(*EVERYWHERE)
async def test_a_cancelled_application_leaves_nothing(way: Way) -> None:
    """Cancelling the program that owns a registry, after any number of passes, cancels all runs at
    once, whatever the grace; every run ends with a result, and nothing is left.
    """
    for count in (*range(12), 30):

        async def execute(cancel: Cancel, count: int = count) -> None:
            async def then() -> None:
                await passes(count)
                cancel()

            await Application().serve(then)

        async with leaving_nothing():
            assert await way(execute)


@ON_ASYNCIO
@ways(*NATIVE)
async def test_a_natively_cancelled_application_leaves_nothing(way: Way) -> None:
    """The same for `Task.cancel()` and `asyncio.timeout`."""
    await test_a_cancelled_application_leaves_nothing(way)


@ways(*EVERYWHERE)
async def test_a_cancellation_ends_the_grace(way: Way) -> None:
    """An application that is cancelled while its registry closes cancels the runs that are left."""
    task = Tidying()

    async def execute(cancel: Cancel) -> None:
        async with RunRegistry(grace=None) as runs, anyio.create_task_group() as others:

            async def cancel_later() -> None:
                await until(lambda: runs.is_closing)
                await passes(10)
                assert run.state == "running"
                cancel()

            run = runs.start(one(task))
            await task.has_begun()
            runs.close_soon()
            others.start_soon(cancel_later)

    async with leaving_nothing():
        assert await way(execute)
    task.assert_all_ended()


@ON_ASYNCIO
async def test_a_second_cancellation_changes_nothing() -> None:
    """`Task.cancel()` again and again while the runs tidy up: they are waited for all the same."""
    task = Tidying()
    runs = RunRegistry(grace=None)

    async def serve() -> None:
        async with runs:
            runs.start(one(task))
            await anyio.sleep_forever()

    before = tasks_living()
    serving = asyncio.ensure_future(serve())
    await task.has_begun()
    for _ in range(6):
        serving.cancel()
        await passes(1)
    await asyncio.wait([serving])
    assert serving.cancelled()
    task.assert_all_ended()
    assert tasks_living() == before


@ON_ASYNCIO
@pytest.mark.parametrize("rounds", [1, 4])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 10])
async def test_all_tasks_of_the_loop_are_cancelled(count: int, rounds: int) -> None:
    """`Task.cancel()` on every task that there is, as at the end of `asyncio.run`, again and again,
    and as early as before a run's first step: everything ends, every run has a result or an error.
    """
    runs = RunRegistry(grace=None)
    alive = Alive()
    before = asyncio.all_tasks()

    async def work() -> None:
        with alive:
            await anyio.sleep_forever()

    async def serve() -> None:
        async with runs:
            await passes(2)
            for _ in range(3):
                runs.start(one(work))
            await anyio.sleep_forever()

    serving = asyncio.ensure_future(serve())
    await until(lambda: len(runs) == 3)
    await passes(count)
    for _ in range(rounds):
        for other in asyncio.all_tasks() - before:
            other.cancel()
        await passes(1)
    async with asyncio.timeout(GUARD):
        await asyncio.wait([serving])
    assert serving.cancelled() or serving.exception() is not None
    assert alive.now == 0
    assert asyncio.all_tasks() == before
    assert runs.running == ()
    assert all((run.result is None) != (run.error is None) for run in runs.values())


@ON_ASYNCIO
async def test_a_killed_run_is_the_end_of_this_run_alone() -> None:
    """`Task.cancel()` on the tasks of one run fails that run, named, and no other."""
    gate = anyio.Event()
    async with registry() as runs:
        other = runs.start(one(gate.wait))
        await passes(10)
        before = asyncio.all_tasks()
        task = Tidying()
        run = runs.start(one(task))
        await task.has_begun()
        for killed in asyncio.all_tasks() - before:
            killed.cancel()
        with pytest.raises(dagron.RunFailedError, match=run.id):
            await run.wait()
        task.assert_all_ended()
        assert (run.state, other.state) == ("failed", "running")
        gate.set()
        assert (await other.wait()).ok


@ON_ASYNCIO
async def test_a_run_that_is_killed_before_its_first_step() -> None:
    """A run whose task is cancelled before it begins has an error, and the block does not go on as
    if nothing had happened.
    """
    runs = RunRegistry()
    with pytest.raises(dagron.RunFailedError, match="cancelled from outside"):
        async with asyncio.timeout(GUARD):
            async with runs:
                await passes(2)
                before = asyncio.all_tasks()
                run = runs.start(one(noop))
                (killed,) = asyncio.all_tasks() - before
                killed.cancel()
                await anyio.sleep_forever()
    assert run.state == "failed"
    with pytest.raises(dagron.RunFailedError, match=run.id):
        await run.wait()


@ON_ASYNCIO
@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_left_in_another_task(is_cancelled: bool) -> None:
    """A registry that is entered in one task and left in another, as test tools of web frameworks
    do, works all the same: runs begin, use threads, get their grace, or are cancelled.
    """
    gate, alive = threading.Event(), Alive()
    runs = RunRegistry(grace=None)

    def work() -> None:
        with alive:
            hold(gate)

    before = tasks_living()
    await asyncio.ensure_future(runs.__aenter__())
    in_thread, held = runs.start(one(work)), runs.start(one(anyio.sleep_forever))
    await until(lambda: alive.now)
    leaving = asyncio.ensure_future(runs.__aexit__(None, None, None))
    await passes(10)
    assert not leaving.done()
    gate.set()
    await in_thread.wait()
    if is_cancelled:
        leaving.cancel()
        leaving.cancel()
    else:
        held.cancel()
    await asyncio.wait([leaving])
    assert leaving.cancelled() is is_cancelled
    assert (in_thread.state, held.state) == ("succeeded", "cancelled")
    await passes(3)
    assert tasks_living() == before


async def test_two_registries_nest() -> None:
    """A block in a block: each owns its own runs, and both end."""
    async with registry() as outer, RunRegistry() as inner:
        first, second = outer.start(one(noop)), inner.start(one(noop))
        assert [*outer] == [first.id]
        assert [*inner] == [second.id]
    assert (first.state, second.state) == ("succeeded", "succeeded")


@pytest.mark.parametrize("moment", ["in the block", "in the grace"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancelled_registry_does_not_spin(backend: str, moment: str) -> None:
    """A registry that is cancelled while a thread blocks takes a few passes of the loop, which then
    has nothing to do, and sleeps until the thread ends.
    """
    entered, cancelled = threading.Event(), threading.Event()
    found: dict[str, Any] = {}

    async def main(turns: Passes) -> None:
        def held() -> None:
            entered.set()
            hold(cancelled)
            found["idle"] = turns.idle.wait(GUARD)
            found["passes"] = turns.count - found["at cancel"]

        async def cancel_when_held() -> None:
            await until(entered.is_set)
            await passes(5)
            scope.cancel()
            found["at cancel"] = turns.count
            turns.idle.clear()
            cancelled.set()

        async with anyio.create_task_group() as host:
            with anyio.CancelScope() as scope:
                host.start_soon(cancel_when_held)
                async with RunRegistry(grace=None, thread_grace=None) as runs:
                    runs.start(one(held))
                    runs.start(one(anyio.sleep_forever))
                    if moment == "in the block":
                        await anyio.sleep_forever()
            assert scope.cancelled_caught

    run_counted(backend, main)
    assert found["idle"]
    assert found["passes"] < 40


# --- close during everything ---------------------------------------------------------------------


async def test_close_at_every_pass() -> None:
    """Runs in every stage, with expanders, retries, gates and threads; the block is left after any
    number of passes, with a grace and without: every run has a result, and nothing is left.
    """
    alive = Alive()

    async def step() -> str:
        with alive:
            await passes(2)
        return "done"

    def thread() -> None:
        with alive:
            anyio.from_thread.run(passes, 1)

    async def grow(name: str, result: str) -> dagron.DynamicModification:
        return dagron.DynamicModification(
            [dagron.DynamicNodeSpec("new", step, [name], ["last"])], remove_nodes=["never"]
        )

    dag = graph("thread", "gate", edges="first-last first-never gate-last")
    executor = dagron.DynamicExecutor(
        dag, {"first": grow}, policy=NodePolicy(retry=dagron.Retry(2)), max_workers=1
    )
    for grace in (0.0, None):
        for count in range(16):
            async with leaving_nothing():
                async with RunRegistry(grace=grace) as runs:
                    for _ in range(3):
                        gate = dagron.Gate("go?")
                        tasks = {"first": step, "thread": thread, "gate": gate.wait, "last": step}
                        runs.start(executor.start(tasks), data=gate)
                        await passes(1)
                    await passes(count)
                    for run in runs.values():
                        run.data.open()
            assert alive.now == 0
            states = {run.state for run in runs.values()}
            assert (
                states == {"succeeded"} if grace is None else states <= {"succeeded", "cancelled"}
            )
            assert all(run.result is not None for run in runs.values())


SERVICE = """
    import signal, sys, threading
    import anyio, dagron
    from faults import graph

    backend, uses_thread = sys.argv[1], sys.argv[2] == "thread"
    before = lambda *_: print("handled", flush=True)
    signal.signal(signal.SIGTERM, before)
    gate = threading.Event()

    async def wait():
        print("begun", flush=True)
        await anyio.sleep_forever()

    def block():
        print("begun", flush=True)
        gate.wait()

    async def main():
        registry = dagron.RunRegistry(
            grace=0.01, thread_grace=0.01, close_on=[signal.SIGTERM, signal.SIGUSR1])
        async with registry as runs:
            executor = dagron.DynamicExecutor(graph("a"))
            run = runs.start(executor.start({"a": block if uses_thread else wait}))
            async for event in run.events():
                pass
        print(run.state, flush=True)
        assert signal.getsignal(signal.SIGTERM) is before
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL

    options = {"use_uvloop": True} if backend == "uvloop" else {}
    anyio.run(main, backend="trio" if backend == "trio" else "asyncio", backend_options=options)
    gate.set()
    print("over", flush=True)
"""


def wakeup_fd() -> int:
    found = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(found)
    return found


async def test_a_signal_wakes_the_loop() -> None:
    """While a registry hears signals, each of them writes into what the event loop reads, so that
    none is slept through; afterwards that is as it was, also where somebody else has taken over.
    """
    before, taken = wakeup_fd(), os.pipe()
    os.set_blocking(taken[1], False)
    async with RunRegistry(close_on=[signal.SIGUSR1]):
        assert wakeup_fd() != -1
        signal.raise_signal(signal.SIGUSR1)
        await passes(3)
    assert wakeup_fd() == before
    async with RunRegistry(close_on=[signal.SIGUSR1]):
        mine = signal.set_wakeup_fd(taken[1])
    assert wakeup_fd() == taken[1]
    signal.set_wakeup_fd(mine if before != -1 else before)
    for end in taken:
        os.close(end)


LOOPS = ["asyncio", "trio", *(["uvloop"] if find_spec("uvloop") else [])]


@pytest.mark.parametrize("what", ["loop", "thread"])
@pytest.mark.parametrize("backend", LOOPS)
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_closes(backend: str, what: str, signum: int) -> None:
    """A signal of `close_on` wakes a loop that has nothing else to do: the event stream ends, the
    handler that there was is called, the grace passes, a blocked thread is given up, and the
    program goes on to its end, with its own handlers.
    """
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    with program(SERVICE, backend, what, PYTHONPATH=path) as service:
        service.wait_for("begun")
        service.signal(signum)
        status, lines, errors = service.end()
    handled = ["handled"] if signum == signal.SIGTERM else []
    assert (status, lines, errors) == (0, [*handled, "cancelled", "over"], "")


def test_signals_are_checked() -> None:
    """What is no signal is refused, with its value."""
    for value in (99_999, "SIGTERM", None):
        with pytest.raises(ValueError, match=r"close_on holds .*\n  help: write close_on="):
            RunRegistry(close_on=[value])  # type: ignore[list-item]


def test_signals_are_for_the_main_thread() -> None:
    """In another thread, where a test tool runs an application, `close_on` has no effect."""

    async def main() -> str:
        async with RunRegistry(close_on=[signal.SIGTERM]) as runs:
            assert signal.getsignal(signal.SIGTERM) is before
            return (await runs.start(one(noop)).wait())["a"].status

    before, found = signal.getsignal(signal.SIGTERM), []
    thread = threading.Thread(target=lambda: found.append(anyio.run(main)))
    thread.start()
    thread.join(GUARD)
    assert found == ["COMPLETED"]


async def test_a_handler_that_came_later_stays() -> None:
    """A handler that somebody has put in since is not replaced when the block is left."""
    before = signal.getsignal(signal.SIGUSR1)
    later = lambda *_: None
    try:
        async with registry(close_on=[signal.SIGUSR1]):
            signal.signal(signal.SIGUSR1, later)
        assert signal.getsignal(signal.SIGUSR1) is later
    finally:
        signal.signal(signal.SIGUSR1, before)
