"""How the block of a run is left, and how a run, or one of its nodes, is ended from outside."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import anyio.from_thread
import pytest

import dagron
from cancelling import (
    EVERYWHERE,
    NATIVE,
    Make,
    Twelve,
    Way,
    assert_every_pass_can_be_cancelled,
    assert_every_step_can_be_cancelled,
    ways,
)
from dagron import DynamicExecutor, NodePolicy, Run
from faults import GUARD, ON_ASYNCIO, Canary, graph, hold, new_objects_only, passes, program, until
from handles import (
    CANCELLED,
    COMPLETED,
    FAILED,
    READY,
    RUNNING,
    SKIPPED,
    Modification,
    Node,
    Tidying,
    noop,
    start,
)
from test_faults_scheduler import METHODS, break_method

# --- the block is left by an exception -----------------------------------------------------------


class OwnBaseException(BaseException):
    """Outside the tree of Exception."""


RAISED: dict[str, Callable[[], BaseException]] = {
    "ValueError": lambda: ValueError("wrong"),
    "ExceptionGroup": lambda: ExceptionGroup("two", [ValueError("a"), KeyError("b")]),
    "BaseExceptionGroup": lambda: BaseExceptionGroup("exit", [SystemExit(1), ValueError("a")]),
    "KeyboardInterrupt": KeyboardInterrupt,
    "SystemExit": lambda: SystemExit(3),
    "GeneratorExit": GeneratorExit,
    "BaseException": lambda: OwnBaseException("mine"),
    "StopAsyncIteration": StopAsyncIteration,
    "RunFailedError": lambda: dagron.RunFailedError("of another run"),
}


@pytest.mark.parametrize("moment", ["at the top", "while it runs", "after its end"])
@pytest.mark.parametrize("kind", RAISED)
async def test_an_exception_leaves_the_block_bare(kind: str, moment: str) -> None:
    """Leaving the block by an exception cancels the run, and the exception comes out as it is when
    every node has ended: never in a group of ours, without a cause or a context of ours.
    """
    error = RAISED[kind]()
    task = Tidying()
    run = start(graph("a", edges="a-b"), {"a": noop if "after" in moment else task, "b": noop})
    caught: BaseException | None = None
    with anyio.fail_after(GUARD):
        try:
            async with run:
                if moment == "while it runs":
                    await task.has_begun()
                elif moment == "after its end":
                    await run.wait()
                raise error
        except BaseException as raised:
            caught = raised
    assert caught is error
    assert (caught.__cause__, caught.__context__) == (None, None)
    task.assert_all_ended()
    result = await run.wait()
    if moment == "after its end":
        assert (result.succeeded, result.reason) == (2, None)
    else:
        assert task.begun == (moment == "while it runs")
        assert (result.cancelled, result.ok) == (2, False)
        assert result.reason == f"the block of the run was left by {type(error).__name__}"
        assert result["b"].reason == result.reason


async def test_an_exception_waits_for_threads() -> None:
    """A thread that is at work when the block is left by an exception is waited for, and its work
    counts.
    """
    entered, gate = threading.Event(), threading.Event()

    def work() -> str:
        entered.set()
        hold(gate)
        return "done"

    run = start(graph(edges="work-next"), {"work": work, "next": noop})
    with anyio.fail_after(GUARD), pytest.raises(ValueError, match="wrong"):
        async with run:
            await until(entered.is_set)
            gate.set()
            raise ValueError("wrong")
    result = await run.wait()
    assert (result["work"].status, result["next"].status) == (COMPLETED, CANCELLED)


async def test_a_return_from_the_block_is_no_exception() -> None:
    """`return`, `break` and `continue` leave the block normally: the run is waited for."""
    ended: list[int] = []

    async def slow() -> None:
        await passes(10)
        ended.append(1)

    async def leave_by_return() -> str:
        async with start(graph("a"), {"a": slow}):
            return "returned"

    assert await leave_by_return() == "returned"
    for _ in range(2):
        async with start(graph("a"), {"a": slow}):
            continue
    assert ended == [1, 1, 1]


async def test_an_exception_passes_through_two_handles() -> None:
    """An exception in the inner of two blocks ends both runs, and comes out bare of both."""
    tasks = [Tidying(), Tidying()]
    runs = [start(graph("a"), {"a": task}) for task in tasks]
    error = ExceptionGroup("mine", [ValueError()])
    with anyio.fail_after(GUARD), pytest.raises(ExceptionGroup) as caught:
        async with runs[0], runs[1]:
            for task in tasks:
                await task.has_begun()
            raise error
    assert caught.value is error
    for task, run in zip(tasks, runs, strict=True):
        task.assert_all_ended()
        assert (await run.wait()).reason == "the block of the run was left by ExceptionGroup"


async def test_a_generator_of_the_users_may_hold_a_handle() -> None:
    """A user's own async generator may yield inside the block: closing it ends the run, and nothing
    is left.
    """
    task = Tidying()
    seen: list[Run] = []

    async def generate() -> AsyncIterator[Run]:
        async with start(graph("a"), {"a": task}) as run:
            await task.has_begun()
            yield run

    generator = generate()
    with anyio.fail_after(GUARD):
        async for run in generator:
            seen.append(run)
            break
        await generator.aclose()  # type: ignore[attr-defined]
    task.assert_all_ended()
    assert "GeneratorExit" in ((await seen[0].wait()).reason or "")


@ON_ASYNCIO
async def test_a_foreign_cancellation_in_the_block() -> None:
    """A future that somebody cancelled, awaited in the block, is an exception like any other on its
    way out: nothing swallows it, and every node has ended.
    """
    task = Tidying()
    run = start(graph("a"), {"a": task})
    with pytest.raises(asyncio.CancelledError, match="its own affair"):
        async with asyncio.timeout(GUARD):
            async with run:
                await task.has_begun()
                future = asyncio.get_running_loop().create_future()
                future.cancel("its own affair")
                await future
    task.assert_all_ended()
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0
    assert run.status("a") is CANCELLED


# --- a node's KeyboardInterrupt, and a bug of ours -----------------------------------------------


async def interrupt() -> None:
    raise KeyboardInterrupt


def interrupt_in_thread() -> None:
    raise KeyboardInterrupt


async def interrupt_in_group() -> None:
    raise BaseExceptionGroup("two", [ValueError(), KeyboardInterrupt()])


def assert_not_cancelled() -> None:
    """The current task may go on: it has no request to end upon it."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # trio knows no such requests
        return
    assert task is not None
    assert task.cancelling() == 0


@pytest.mark.parametrize("node", [interrupt, interrupt_in_thread, interrupt_in_group])
async def test_a_nodes_keyboard_interrupt_cancels_the_block(
    node: Callable[[], Any],
) -> None:
    """A node's KeyboardInterrupt cancels the block, wherever that waits, and comes out of it bare
    when every node has ended; `wait` raises it, too.
    """
    task = Tidying()
    reached: list[str] = []
    run = start(graph("a", edges="a-b"), {"a": task, "b": noop})
    with anyio.fail_after(GUARD), pytest.raises(KeyboardInterrupt):
        async with run:
            await task.has_begun()
            await run.modify(Modification([Node("node", node)]))
            try:
                await anyio.sleep_forever()
            finally:
                reached.append("cancelled")
            pytest.fail("the block went on")
    assert reached == ["cancelled"]
    task.assert_all_ended()
    assert_not_cancelled()
    await passes(3)
    with pytest.raises(KeyboardInterrupt):
        await run.wait()
    assert run.status("b") in (CANCELLED, SKIPPED)


async def waits_for_the_run(run: Run) -> None:
    await run.wait()


async def reads_events(run: Run) -> None:
    async for _ in run.events():
        pass


async def reads_completions(run: Run) -> None:
    async for _ in run.completed():
        pass


async def leaves_at_once(run: Run) -> None:
    return


async def ends_shielded(run: Run) -> None:
    with anyio.CancelScope(shield=True):
        await passes(30)


async def swallows(run: Run) -> None:
    try:
        await anyio.sleep_forever()
    except anyio.get_cancelled_exc_class():
        return


async def raises_meanwhile(run: Run) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        raise ValueError("in the block")


BLOCKS = [waits_for_the_run, reads_events, reads_completions, leaves_at_once]
Block = Callable[[Run], Awaitable[None]]


def blocks(*values: Block) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("block", values, ids=lambda block: block.__name__)


@blocks(*BLOCKS, ends_shielded, swallows, raises_meanwhile)
async def test_a_keyboard_interrupt_whatever_the_block_does(block: Block) -> None:
    """Whatever the block does meanwhile, the KeyboardInterrupt comes out, once, and not the block's
    own exception.
    """
    task = Tidying()

    async def interrupt_later() -> None:
        await task.has_begun()
        raise KeyboardInterrupt

    run = start(graph("a", "b"), {"a": task, "b": interrupt_later})
    with anyio.fail_after(GUARD), pytest.raises(KeyboardInterrupt) as caught:
        async with run:
            await block(run)
    assert type(caught.value) is KeyboardInterrupt
    task.assert_all_ended()
    assert_not_cancelled()


@pytest.mark.parametrize("scoped", [False, True])
async def test_a_keyboard_interrupt_is_not_lost_in_a_cancellation(scoped: bool) -> None:
    """A node that raises KeyboardInterrupt when the caller is cancelled: it comes out, instead of
    the cancellation.
    """

    async def interrupt_when_cancelled() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise KeyboardInterrupt

    run = start(graph("a"), {"a": interrupt_when_cancelled})
    with anyio.fail_after(GUARD), pytest.raises(KeyboardInterrupt):
        with anyio.CancelScope() as scope:
            async with run:
                await until(lambda: run.status("a") is RUNNING)
                await passes(3)
                scope.cancel()
                if scoped:
                    await anyio.sleep_forever()
    assert_not_cancelled()


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.__name__)
async def test_a_bug_of_ours_cancels_the_block(
    monkeypatch: pytest.MonkeyPatch, block: Block
) -> None:
    """A bug in the scheduler ends the run at once with an InternalError, which comes out of the
    block bare, when every node has ended.
    """
    break_method(monkeypatch, "succeed", 0)
    task = Tidying()

    async def later() -> None:
        await task.has_begun()

    run = start(graph("a", "b"), {"a": task, "b": later})
    with anyio.fail_after(GUARD), pytest.raises(dagron.InternalError):
        async with run:
            await block(run)
    task.assert_all_ended()
    assert_not_cancelled()
    with pytest.raises(dagron.InternalError):
        await run.wait()


async def modifies(run: Run) -> None:
    await run.modify(Modification([Node("x", noop, ["held"])], cancel_nodes=["last"]))


async def cancels_what_waits(run: Run) -> None:
    run.cancel_node("last")


async def cancels_what_runs(run: Run) -> None:
    run.cancel_node("held")


async def cancels_a_node_from_a_thread(run: Run) -> None:
    await anyio.to_thread.run_sync(run.cancel_node, "last")


async def cancels(run: Run) -> None:
    run.cancel("enough")


async def cancels_from_a_thread(run: Run) -> None:
    await anyio.to_thread.run_sync(run.cancel, "enough")


async def is_heard(run: Run) -> None:
    run.events()


@pytest.mark.parametrize("heard", [False, True])
@blocks(
    modifies,
    cancels_what_waits,
    cancels_what_runs,
    cancels_a_node_from_a_thread,
    cancels,
    cancels_from_a_thread,
    is_heard,
)
async def test_a_bug_that_the_handle_meets(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, block: Block, heard: bool
) -> None:
    """Whichever method of the scheduler is broken, from whichever call on, and whatever the handle
    is used for: the block ends well, or with an InternalError; never with another exception, and
    never in a hang.
    """
    observers = [lambda event: None] if heard else []

    async def grow(name: str, result: object) -> Modification:
        return Modification([Node("new", noop, [name], ["last"])])

    async def fail() -> None:
        raise ValueError

    async def use(gate: anyio.Event) -> None:
        executor = DynamicExecutor(
            graph("bad", edges="grow-last held-last bad-skipped"),
            {"grow": grow},
            observers=observers,
        )
        tasks = dict.fromkeys(("grow", "last", "skipped"), noop)
        async with executor.start({**tasks, "bad": fail, "held": gate.wait}) as run:
            await passes(8)
            await block(run)
            await passes(3)
            gate.set()

    bugs = 0
    for method in METHODS:
        for after in (0, 1, 2, 3, 5, 8):
            with monkeypatch.context() as patch, anyio.fail_after(GUARD):
                break_method(patch, method, after)
                try:
                    await use(anyio.Event())
                except dagron.InternalError:
                    bugs += 1
                except Exception as error:
                    error.add_note(f"{method} was broken from call {after} on")
                    raise
    assert bugs > 20  # most of the methods are met
    assert [record for record in caplog.records if record.name == "asyncio"] == []


# --- the caller is cancelled ---------------------------------------------------------------------


class TwelveBeside(Twelve):
    """The twelve nodes, run by a handle, beside a block."""

    def __init__(self, step: Callable[[], None], block: Block, threads: bool = True) -> None:
        super().__init__(step, threads)
        self._block = block

    async def execute(self) -> dagron.ExecutionResult:
        async with self._executor().start(self._tasks()) as run:
            await self._block(run)
        return await run.wait()


def beside(block: Block) -> Make:
    return lambda step, threads: TwelveBeside(step, block, threads)


@blocks(*BLOCKS)
@ways(*EVERYWHERE)
async def test_a_cancellation_at_every_step_ends_everything(way: Way, block: Block) -> None:
    """Cancel at every step, in the block or while it is being left: no hang, no leaked task, thread
    or slot, every node has ended, and the block raises.
    """
    await assert_every_step_can_be_cancelled(way, beside(block))


@ON_ASYNCIO
@blocks(*BLOCKS)
@ways(*NATIVE)
async def test_a_native_cancellation_at_every_step_ends_everything(way: Way, block: Block) -> None:
    """The same by `Task.cancel()` and by `asyncio.timeout`; `asyncio.current_task().cancelling()`
    is 0 after an `asyncio.timeout` around the block.
    """
    await assert_every_step_can_be_cancelled(way, beside(block))


@blocks(waits_for_the_run, leaves_at_once)
@ways(*EVERYWHERE)
async def test_a_cancellation_in_every_pass_of_the_loop_ends_everything(
    way: Way, block: Block
) -> None:
    """The caller is cancelled between any two steps, from outside the run."""
    await assert_every_pass_can_be_cancelled(way, beside(block))


@ON_ASYNCIO
@blocks(waits_for_the_run, leaves_at_once)
@ways(*NATIVE)
async def test_a_native_cancellation_in_every_pass_of_the_loop_ends_everything(
    way: Way, block: Block
) -> None:
    """The same by `Task.cancel()` and by `asyncio.timeout`."""
    await assert_every_pass_can_be_cancelled(way, beside(block))


@ON_ASYNCIO
async def test_an_asyncio_timeout_in_the_block() -> None:
    """An `asyncio.timeout` inside the block that runs out there leaves the run alone; one around
    the block, that runs out in it or while it is left, raises TimeoutError, and nothing is left on
    the task.
    """
    current = asyncio.current_task()
    assert current is not None
    gate = anyio.Event()
    async with start(graph("a"), {"a": gate.wait}) as run:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await run.wait()
        assert current.cancelling() == 0
        assert run.status("a") is RUNNING
        gate.set()
    for block in (waits_for_the_run, leaves_at_once):
        task = Tidying()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.005):
                async with start(graph("a"), {"a": task}) as run:
                    await block(run)
        task.assert_all_ended()
        assert current.cancelling() == 0
        with pytest.raises(dagron.RunFinishedError):
            await run.wait()


async def test_a_caller_that_is_cancelled_already_starts_nothing() -> None:
    """A block that is entered in a scope that is cancelled already begins no node, sync or async,
    and raises at its first wait.
    """
    began: list[str] = []

    async def on_loop() -> None:
        began.append("loop")

    tasks = {"a": on_loop, "b": lambda: began.append("thread")}
    for block in (leaves_at_once, waits_for_the_run):
        with anyio.fail_after(GUARD), anyio.CancelScope() as scope:
            scope.cancel()
            async with start(graph("a", "b"), tasks) as run:
                await block(run)
        assert scope.cancelled_caught
    assert began == []


@pytest.mark.parametrize("leaving", [False, True])
async def test_a_second_cancellation_changes_nothing(leaving: bool) -> None:
    """Cancelled in the block or while leaving it, the caller waits for nodes that tidy up and for
    threads, also when it is cancelled again.
    """
    entered, gate = threading.Event(), threading.Event()
    tidying, shielded = anyio.Event(), anyio.Event()
    outcome: list[str] = []
    scopes = [anyio.CancelScope(), anyio.CancelScope()]

    async def tidy() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                tidying.set()
                await shielded.wait()

    def work() -> None:
        entered.set()
        hold(gate)

    async def caller() -> None:
        with scopes[0], scopes[1]:
            try:
                async with start(graph("a", "t"), {"a": tidy, "t": work}):
                    if not leaving:
                        await anyio.sleep_forever()
            finally:
                outcome.append("left")

    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as host:
            host.start_soon(caller)
            await until(entered.is_set)
            scopes[1].cancel()
            await tidying.wait()
            await passes(10)
            scopes[0].cancel()
            await passes(10)
            assert outcome == []
            shielded.set()
            await passes(10)
            assert outcome == []
            gate.set()
    assert outcome == ["left"]


async def test_a_cancellation_that_the_block_hears_later_than_the_run() -> None:
    """A caller that is cancelled while its block is shielded: the nodes are cancelled, and the
    cancellation comes out bare; the run counts as cancelled with its block.
    """
    task = Tidying()
    with anyio.fail_after(GUARD), anyio.CancelScope() as scope:
        async with start(graph("a"), {"a": task}) as run:
            await task.has_begun()
            scope.cancel()
            with anyio.CancelScope(shield=True):
                await until(lambda: task.ended)
                await passes(10)
    assert scope.cancelled_caught
    with pytest.raises(dagron.RunFinishedError, match="cancelled together with its block"):
        await run.wait()


async def test_what_a_node_raises_does_not_replace_the_cancellation() -> None:
    """A node that fails while the run is being cancelled: the cancellation is raised, bare; never
    "exit cancel scope in a different task".
    """

    async def sour() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise ValueError("sour")

    raised: list[BaseException] = []
    with anyio.fail_after(GUARD), anyio.CancelScope() as scope:
        try:
            async with start(graph("a", "b"), {"a": sour, "b": Tidying()}) as run:
                await until(lambda: run.status("b") is RUNNING)
                await passes(3)
                scope.cancel()
        except BaseException as error:
            raised.append(error)
            raise
    assert isinstance(raised[0], anyio.get_cancelled_exc_class())
    assert run.status("a") is FAILED


async def test_status_after_a_cancelled_block() -> None:
    """After the block every node stands in one of its final states, whoever listened."""
    names = [f"n{i}" for i in range(50)]
    for heard in (False, True):
        with anyio.CancelScope() as scope:
            async with start(
                graph(*names, edges="n0-after"),
                {**dict.fromkeys(names, anyio.sleep_forever), "after": noop},
                max_concurrency=3,
            ) as run:
                if heard:
                    run.events()
                await until(lambda: run.status("n1") is RUNNING)
                scope.cancel()
        assert {run.status(name) for name in names} == {CANCELLED}
        assert run.status("after") in (SKIPPED, CANCELLED)


@pytest.mark.parametrize("entered", [False, True])
async def test_status_after_a_block_that_was_cancelled_at_its_top(entered: bool) -> None:
    """The same where the run never began, since its caller was cancelled before or at the top of
    its block.
    """
    run = start(graph(edges="a-b"), {"a": noop, "b": noop})
    with anyio.CancelScope() as scope:
        if not entered:
            scope.cancel()
        async with run:
            scope.cancel()
    assert scope.cancelled_caught
    assert run.status("a") is CANCELLED
    assert run.status("b") in (SKIPPED, CANCELLED)


# --- the run's own task is killed ----------------------------------------------------------------


def kill(run: Run) -> None:
    """Cancel the run's own task natively, behind its back."""
    for task in asyncio.all_tasks():
        if run.id in task.get_name():
            task.cancel()


@ON_ASYNCIO
@blocks(*BLOCKS, ends_shielded)
@pytest.mark.parametrize("begun", [False, True])
async def test_a_run_whose_task_is_killed_is_no_green_run(begun: bool, block: Block) -> None:
    """Whoever cancels the run's own task, before its first step or later, makes the block raise an
    error that says so: never a block that ends as if the work were done, and never a hang.
    """
    task = Tidying()
    run = start(graph("a"), {"a": task})
    with pytest.raises(dagron.RunFailedError, match=r"cancelled from outside.*\n  help: "):
        async with asyncio.timeout(GUARD):
            async with run:
                if begun:
                    await task.has_begun()
                kill(run)
                await block(run)
    task.assert_all_ended()
    assert_not_cancelled()
    with pytest.raises(dagron.RunFailedError):
        await run.wait()
    async with asyncio.timeout(GUARD / 4):
        assert [name async for name, _ in run.completed()] == []
        async for event in run.events():
            assert event.seq >= 0


def test_a_run_whose_task_is_killed_while_its_block_is_entered() -> None:
    """Killed in the very pass in which the block is entered, the run ends with the same error."""
    source = """
        import asyncio, dagron

        async def node():
            await asyncio.sleep(0)

        def kill():
            for task in asyncio.all_tasks():
                if run.id in task.get_name():
                    task.cancel()
                    print("killed")

        async def main():
            global run
            dag = dagron.DAG.builder().add_node("a").build()
            run = dagron.DynamicExecutor(dag).start({"a": node})
            asyncio.get_running_loop().call_soon(kill)
            try:
                async with run:
                    await run.wait()
            except dagron.RunFailedError as error:
                assert "cancelled from outside" in str(error)
                assert asyncio.current_task().cancelling() == 0
                print("left")
            try:
                await run.wait()
            except dagron.RunFailedError:
                print("ended")

        asyncio.run(main())
    """
    with program(source) as started:
        for line in ("killed", "left", "ended"):
            started.wait_for(line)
        status, _, errors = started.end()
    assert (status, errors) == (0, "")


@pytest.mark.parametrize("turns", range(6))
def test_a_program_that_ends_before_its_run(turns: int) -> None:
    """`asyncio.run` cancels all tasks that its program has left behind, all those of a run too: the
    program ends, and the block's caller was cancelled, and nothing else happened to it.
    """
    source = """
        import asyncio, sys, dagron

        async def node():
            await asyncio.sleep(60)

        async def background():
            dag = dagron.DAG.builder().add_node("a").build()
            async with dagron.DynamicExecutor(dag).start({"a": node}) as run:
                await run.wait()

        async def main():
            global task
            task = asyncio.create_task(background())
            for _ in range(int(sys.argv[1])):
                await asyncio.sleep(0)

        asyncio.run(main())
        print("ended")
    """
    with program(source, f"{turns}") as started:
        started.wait_for("ended")
        status, _, errors = started.end()
    assert (status, errors) == (0, "")


# --- what is left of a run -----------------------------------------------------------------------


async def test_a_kept_result_keeps_nothing_of_its_run_alive() -> None:
    """Who keeps the result of a handle's run, with the errors in it, keeps nothing else of it."""

    async def fail() -> None:
        raise ValueError

    async def sing() -> Canary:
        return Canary()

    with new_objects_only() as alive:
        errors: list[BaseException | None] = []
        for _ in range(3):
            async with start(graph(edges="canary-bad"), {"canary": sing, "bad": fail}) as run:
                async for event in run.events():
                    assert event.seq > 0
                async for _name, _result in run.completed():
                    pass
                errors.append((await run.wait())["bad"].error)
            del run, event, _result
        assert all(isinstance(error, ValueError) for error in errors)
        assert alive() == []


async def test_shared_limits_are_free_after_every_ending() -> None:
    """However a run ends, the limits that it shared may be used on another event loop afterwards:
    no slot and no use is left.
    """
    limits = dagron.Limits(db=1)
    dag = dagron.DAG.builder().add_node("a", policy=NodePolicy(group="db")).build()

    async def fail() -> None:
        raise ValueError

    for task in (noop, fail, interrupt, anyio.sleep_forever):
        with anyio.CancelScope() as scope:
            try:
                async with start(dag, {"a": task}, limits=limits) as run:
                    await until(lambda run=run: run.status("a") is not READY)
                    if task is anyio.sleep_forever:
                        scope.cancel()
            except KeyboardInterrupt:
                assert task is interrupt
        elsewhere = DynamicExecutor(dag, limits=limits)
        result = await anyio.to_thread.run_sync(elsewhere.execute_sync, {"a": noop})
        assert result.ok


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_ctrl_c_in_a_program_with_a_handle(backend: str) -> None:
    """E12: Ctrl-C in a program that holds a handle: nodes are cancelled and tidy up, and the
    program ends by SIGINT.
    """
    source = f"""
        import anyio, dagron

        async def node():
            try:
                print("begun", flush=True)
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0)
                print("tidied", flush=True)

        async def main():
            dag = dagron.DAG.builder().add_node("a").build()
            async with dagron.DynamicExecutor(dag).start({{"a": node}}) as run:
                await run.wait()

        anyio.run(main, backend={backend!r})
    """
    with program(source) as started:
        started.wait_for("begun")
        started.signal(signal.SIGINT)
        status, lines, errors = started.end()
    assert lines == ["tidied"]
    assert status == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
