"""Expanders that are plain generators: the thread in which they run."""

import contextvars
import signal
import threading
from collections.abc import Callable, Generator
from typing import Any

import anyio
import anyio.from_thread
import pytest

from clocks import MANUAL, advance, reached
from controls import graph, statuses
from dagron import (
    Cancelled,
    DynamicExecutor,
    DynamicModification,
    ExpansionError,
    Gate,
    NodePolicy,
    NodeProgress,
    NodeStatus,
    NodeTimeoutError,
    check_cancelled,
    progress,
)
from faults import hold, passes, program, until
from streams import Closing, Step, new, noop, on_thread
from ways import GUARD, Inside, Way, chain

# -- one thread


def test_one_thread_from_the_first_step_to_the_closing(execute: Way) -> None:
    """A sync generator runs in one and the same worker thread, although other nodes use threads in
    between, and it waits for room; the thread is no other node's meanwhile.
    """
    threads: list[threading.Thread] = []
    others: list[threading.Thread] = []

    def child() -> None:
        others.append(threading.current_thread())

    def expand(name: str, result: object) -> Generator[Step]:
        try:
            for number in range(10):
                threads.append(threading.current_thread())
                yield new(str(number), task=child)
        finally:
            threads.append(threading.current_thread())

    dag = graph(a=NodePolicy(window=1))
    result = execute(DynamicExecutor(dag, {"a": expand}, max_workers=1), {"a": noop})
    assert result.ok
    assert len(threads) == 11
    assert len(set(threads)) == 1
    assert threads[0] is not threading.main_thread()
    assert threads[0] not in others


@pytest.mark.parametrize("end", ["fault", "exception", "exhausted", "cancelled"])
async def test_it_is_closed_in_its_thread(end: str) -> None:
    """However it ends, a generator is closed in the thread that ran it."""
    threads: list[int] = []

    def expand(name: str, result: object) -> Generator[Step]:
        threads.append(threading.get_ident())
        try:
            yield new("b", task=anyio.sleep_forever if end == "cancelled" else noop)
            if end == "fault":
                yield new("b")
            if end == "exception":
                raise OSError
            if end == "cancelled":
                yield new("c")
        finally:
            threads.append(threading.get_ident())

    dag = graph(a=NodePolicy(window=1))
    async with DynamicExecutor(dag, {"a": expand}).start({"a": noop}) as run:
        if end == "cancelled":
            await until(lambda: "unfinished" in run.explain("a").text)
            run.cancel("enough")
    result = await run.wait()
    expected = {"exhausted": "COMPLETED", "cancelled": "CANCELLED"}
    assert str(result["a"].status) == expected.get(end, "FAILED")
    assert len(threads) == 2
    assert len(set(threads)) == 1


def test_context_variables_last_from_step_to_step(execute: Way) -> None:
    """E16: a generator sees the caller's variables, keeps what it sets, and no child sees that."""
    variable = contextvars.ContextVar("variable", default="default")
    seen: list[str] = []

    async def child() -> None:
        seen.append(f"child: {variable.get()}")

    def expand(name: str, result: object) -> Generator[Step]:
        for number in range(3):
            seen.append(variable.get())
            variable.set(f"step {number}")
            yield new(str(number), task=child)

    token = variable.set("caller")
    try:
        dag = graph(a=NodePolicy(window=1))
        assert execute(DynamicExecutor(dag, {"a": expand}), {"a": noop}).ok
    finally:
        variable.reset(token)
    assert [line for line in seen if "child" not in line] == ["caller", "step 0", "step 1"]
    assert {line for line in seen if "child" in line} == {"child: caller"}


def test_progress_from_a_generator(execute: Way) -> None:
    """`progress` in a generator is reported as its node's."""
    reported: list[NodeProgress] = []

    def observe(event: object) -> None:
        if isinstance(event, NodeProgress):
            reported.append(event)

    def expand(name: str, result: object) -> Generator[Step]:
        progress(1, 2, "half")
        yield None

    executor = DynamicExecutor(chain("a"), {"a": expand}, observers=[observe])
    assert execute(executor, {"a": noop}).ok
    assert [(event.node, event.done, event.note) for event in reported] == [("a", 1, "half")]


# -- the worker slot


async def test_a_slot_only_while_it_advances() -> None:
    """It holds a worker slot from step to step, and none while it waits for room: any number of
    generators wait at `max_workers=1` while sync nodes run.
    """
    gate = Gate()
    inside = Inside()
    ran: list[str] = []

    def expand(name: str, result: object) -> Generator[Step]:
        with inside:
            first = new(f"{name} 1", task=gate.wait)
        yield first
        with inside:
            second = new(f"{name} 2")
        yield second

    one = NodePolicy(window=1)
    nodes = {f"n{number}": one for number in range(8)}
    dag = graph(**nodes, last=NodePolicy(priority=-1))
    tasks = {**dict.fromkeys(nodes, noop), "last": lambda: ran.append("last")}
    executor = DynamicExecutor(dag, dict.fromkeys(nodes, expand), max_workers=1)
    async with executor.start(tasks) as run:
        await until(lambda: len(run.dag) == 17 and ran)
        await passes(20)
        assert run._scheduler.working == set()
        assert len(run.dag) == 17
        gate.open()
    assert (await run.wait()).ok
    assert inside.most == 1
    assert inside.entered == 16


async def test_a_generator_in_a_step_keeps_its_slot() -> None:
    """While a step is being made, the worker slot is taken: another sync node waits."""
    began, release = threading.Event(), threading.Event()
    ran: list[str] = []

    def expand(name: str, result: object) -> Generator[Step]:
        began.set()
        hold(release)
        ran.append("step")
        yield new("b")

    dag = graph(a=None, other=NodePolicy(priority=-1))
    executor = DynamicExecutor(dag, {"a": expand}, max_workers=1)
    gate = Gate()
    async with executor.start({"a": noop, "other": gate.wait}) as run:
        await until(began.is_set)
        await run.modify(DynamicModification([new("sync", task=lambda: ran.append("sync"))]))
        await passes(20)
        assert run.explain("sync").limit == "max_workers"
        release.set()
        gate.open()
    assert (await run.wait()).ok
    assert ran == ["step", "sync"]


# -- out of time


@MANUAL
async def test_a_step_that_is_out_of_time() -> None:
    """The timeout is for each step: time that passes while the generator waits for room does not
    count. A step that takes too long fails the node; its thread goes on, keeps its slot until it
    ends, and closes the generator; what it yields is dropped.
    """
    gate, slow, release, closed = Gate(), threading.Event(), threading.Event(), threading.Event()
    ran: list[str] = []

    def expand(name: str, result: object) -> Generator[Step]:
        try:
            yield new("b", "a", task=gate.wait)
            slow.set()
            hold(release)
            yield new("late")
        finally:
            closed.set()

    dag = graph("a>after", a=NodePolicy(window=1, timeout=2), after=None, z=None)
    executor = DynamicExecutor(dag, {"a": expand}, max_workers=1)
    stay = Gate()
    async with executor.start({"a": noop, "after": noop, "z": stay.wait}) as run:
        await until(lambda: "unfinished" in run.explain("a").text)
        advance(100)
        await passes(20)
        assert str(run.status("a")) == "RUNNING"
        gate.open()
        await reached(slow)
        advance(1.999)
        await passes(20)
        assert str(run.status("a")) == "RUNNING"
        advance(0.001)
        await passes(20)
        assert str(run.status("a")) == "FAILED"
        assert not closed.is_set()
        await run.modify(DynamicModification([new("sync", task=lambda: ran.append("sync"))]))
        await passes(20)
        assert ran == []
        assert run.explain("sync").limit == "max_workers"
        release.set()
        await reached(closed)
        await until(lambda: ran)
        stay.open()
    result = await run.wait()
    error = result["a"].error
    assert isinstance(error, NodeTimeoutError)
    assert (error.node, error.timeout) == ("a", 2)
    assert str(error).startswith("the expander of node 'a' took longer than its timeout of 2 s\n")
    assert statuses(result) == {
        "a": "FAILED",
        "b": "COMPLETED",
        "after": "SKIPPED",
        "z": "COMPLETED",
        "sync": "COMPLETED",
    }


@MANUAL
async def test_a_run_ends_before_a_thread_that_was_given_up() -> None:
    """The run does not wait for such a thread, which afterwards ends by itself, unnoticed."""
    slow, release, closed = threading.Event(), threading.Event(), threading.Event()

    def expand(name: str, result: object) -> Generator[Step]:
        try:
            slow.set()
            hold(release)
            yield new("late")
        finally:
            closed.set()

    executor = DynamicExecutor(graph(a=NodePolicy(timeout=2)), {"a": expand})
    async with executor.start({"a": noop}) as run:
        await reached(slow)
        advance(2)
    result = await run.wait()
    assert isinstance(result["a"].error, NodeTimeoutError)
    assert not closed.is_set()
    release.set()
    await reached(closed)


@MANUAL
async def test_a_late_generator_finds_out() -> None:
    """`check_cancelled` raises in a step that is out of time."""
    slow, release, ended = threading.Event(), threading.Event(), threading.Event()
    raised: list[BaseException] = []

    def expand(name: str, result: object) -> Generator[Step]:
        check_cancelled()
        yield new("b")
        try:
            slow.set()
            hold(release)
            check_cancelled()
        except BaseException as error:
            raised.append(error)
            raise
        finally:
            ended.set()

    executor = DynamicExecutor(graph(a=NodePolicy(timeout=2)), {"a": expand})
    async with executor.start({"a": noop}) as run:
        await reached(slow)
        advance(2)
    assert str((await run.wait())["a"].status) == "FAILED"
    release.set()
    await reached(ended)
    assert [type(error) for error in raised] == [Cancelled]


# -- cancelled


@pytest.mark.parametrize("what", ["run", "node", "caller"])
async def test_a_cancellation_waits_for_the_step(what: str) -> None:
    """A thread cannot be stopped: a cancellation takes effect at the end of the step, or where the
    generator calls `check_cancelled`; what the step yields does not land.
    """
    began, release = threading.Event(), threading.Event()
    log: list[str] = []

    def expand(name: str, result: object) -> Generator[Step]:
        try:
            began.set()
            hold(release)
            try:
                check_cancelled()
            except Cancelled:
                log.append("cancelled")
            yield new("never")
            log.append("one step more")
        finally:
            log.append("closed")

    gate = Gate()
    executor = DynamicExecutor(graph(a=None, other=None), {"a": expand}, max_workers=1)
    with anyio.fail_after(GUARD), anyio.CancelScope() as scope:
        async with executor.start({"a": noop, "other": gate.wait}) as run:
            await until(began.is_set)
            if what == "run":
                run.cancel("enough")
            elif what == "node":
                run.cancel_node("a")
            else:
                scope.cancel()
            with anyio.CancelScope(shield=True):
                await passes(10)
                assert log == []
                release.set()
                gate.open()
    assert scope.cancelled_caught is (what == "caller")
    assert log == ["cancelled", "closed"]
    if what != "caller":
        assert str((await run.wait())["a"].status) == "CANCELLED"
        assert "never" not in run.dag


async def test_a_generator_that_lets_the_cancellation_pass() -> None:
    """`check_cancelled` may simply be let through: the node is CANCELLED."""
    began, release = threading.Event(), threading.Event()

    def expand(name: str, result: object) -> Generator[Step]:
        began.set()
        hold(release)
        check_cancelled()
        yield new("never")

    async with DynamicExecutor(chain("a"), {"a": expand}).start({"a": noop}) as run:
        await until(began.is_set)
        run.cancel_node("a")
        release.set()
    result = await run.wait()
    assert result["a"].status is NodeStatus.CANCELLED
    assert result["a"].error is None


# -- what it raises and returns


def stop_iteration() -> Any:
    return next(iter(()))


class Own(KeyboardInterrupt):
    pass


@pytest.mark.parametrize(
    ("raiser", "kind"),
    [(stop_iteration, RuntimeError), (lambda: 1 / 0, ZeroDivisionError)],
    ids=["StopIteration", "ZeroDivisionError"],
)
def test_what_a_callee_raises(
    execute: Way, raiser: Callable[[], Any], kind: type[BaseException]
) -> None:
    """E11: a StopIteration that a callee raises is no end of the generator: the node is FAILED."""

    def expand(name: str, result: object) -> Generator[Step]:
        yield new("b")
        raiser()

    result = execute(DynamicExecutor(chain("a"), {"a": expand}), {"a": noop})
    assert statuses(result) == {"a": "FAILED", "b": "COMPLETED"}
    assert type(result["a"].error) is kind


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (DynamicModification(), repr(DynamicModification())[:60]),
        (3, "3"),
        ([], "[]"),
        (False, "False"),
    ],
    ids=["modification", "int", "list", "bool"],
)
def test_a_generator_that_returns_a_value(execute: Way, value: object, shown: str) -> None:
    """Who returns a modification where there is a yield is told that nobody gets it."""

    def expand(name: str, result: object) -> Generator[Step, None, object]:
        yield new("b")
        return value

    result = execute(DynamicExecutor(chain("a"), {"a": expand}), {"a": noop})
    error = result["a"].error
    assert isinstance(error, ExpansionError)
    assert str(error) == (
        f"the expander is a generator, and it returned {shown}, which nobody gets\n"
        "  help: write yield in place of return"
    )
    assert result["b"].status is NodeStatus.COMPLETED


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Own()], ids=["bare", "own"])
def test_a_keyboard_interrupt_in_a_generator(execute: Way, error: KeyboardInterrupt) -> None:
    """E12: it ends the run, and leaves `execute` bare; the generator is closed."""
    steps = Closing(new("b", task=anyio.sleep_forever), error)
    with pytest.raises(KeyboardInterrupt) as caught:
        execute(DynamicExecutor(chain("a"), {"a": on_thread(steps)}), {"a": noop})
    assert caught.value is error
    assert steps.closed == [True]


# -- Ctrl-C


PRELUDE = """
import os
import signal
import sys
import threading

import anyio
import dagron

signal.signal(signal.SIGINT, signal.default_int_handler)
backend, where = sys.argv[1:]
gate, in_flight = threading.Event(), threading.Event()


def say(line):
    os.write(1, f"{line}\\n".encode())  # in one piece, whatever other threads say


def open_gate():
    sys.stdin.readline()
    gate.set()


async def child():
    try:
        in_flight.set()
        say("in flight")
        await anyio.sleep_forever()
    finally:
        say("tidied")


def expand(name, result):
    try:
        yield dagron.DynamicNodeSpec("child", child)
        if where == "step":
            in_flight.wait()
            say("in step")
            gate.wait()
        yield dagron.DynamicNodeSpec("second", child)
    finally:
        say("closed")


threading.Thread(target=open_gate, daemon=True).start()
window = dagron.NodePolicy(window=1 if where == "room" else 9)
dag = dagron.DAG.builder().add_node("a", policy=window).build()
try:
    dagron.DynamicExecutor(dag, {"a": expand}).execute_sync({"a": lambda: 1}, backend=backend)
except KeyboardInterrupt:
    say("interrupted")
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_ctrl_c_while_a_generator_waits_for_room(backend: str) -> None:
    """Ctrl-C ends the run, and the generator is closed before `execute_sync` raises."""
    with program(PRELUDE, backend, "room") as process:
        process.wait_for("in flight")
        process.signal(signal.SIGINT)
        status, lines, errors = process.end()
    assert sorted(lines[:-1]) == ["closed", "tidied"]
    assert (status, lines[-1], errors) == (0, "interrupted", "")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_second_ctrl_c_while_a_generator_is_in_a_step(backend: str) -> None:
    """Ctrl-C twice: `execute_sync` raises although the generator's thread goes on; it closes the
    generator when it ends, and nothing else is noticed of it.
    """
    with program(PRELUDE, backend, "step") as process:
        process.wait_for("in step")
        process.signal(signal.SIGINT)
        process.wait_for("tidied")
        process.signal(signal.SIGINT)
        process.wait_for("interrupted")
        process.tell("open the gate")
        status, lines, errors = process.end()
    assert (status, errors) == (0, "")
    assert lines in (["closed"], [])
