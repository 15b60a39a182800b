"""Ctrl-C: KeyboardInterrupt out of a node, and real signals to programs of their own."""

import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

import dagron
from faults import GUARD, graph, hold, passes, program, run, until

BLOCKING = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class OwnInterrupt(KeyboardInterrupt):
    """A subclass, such as a framework's."""


async def value() -> str:
    return "value"


Raiser = Callable[[], None]


def in_async_task(fail: Raiser) -> Any:
    async def task() -> None:
        await checkpoint()
        fail()

    return task, None


def in_sync_task(fail: Raiser) -> Any:
    return lambda: fail(), None


def in_awaitable_of_sync_task(fail: Raiser) -> Any:
    return lambda: in_async_task(fail)[0](), None


def in_async_expander(fail: Raiser) -> Any:
    async def expand(name: str, result: object) -> None:
        fail()

    return value, expand


def in_sync_expander(fail: Raiser) -> Any:
    return value, lambda name, result: fail()


def in_task_group(fail: Raiser) -> Any:
    async def task() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            await checkpoint()
            fail()

    return task, None


PLACES = [
    in_async_task,
    in_sync_task,
    in_awaitable_of_sync_task,
    in_async_expander,
    in_sync_expander,
    in_task_group,
]
RAISED: dict[str, Callable[[KeyboardInterrupt], BaseException]] = {
    "bare": lambda interrupt: interrupt,
    "in a group": lambda interrupt: BaseExceptionGroup("one", [interrupt]),
    "in a mixed group": lambda interrupt: BaseExceptionGroup(
        "outer", [ValueError("a"), BaseExceptionGroup("inner", [KeyError("b"), interrupt])]
    ),
}


class Scene:
    """A node that is interrupted, beside nodes in flight that have something to tidy up."""

    def __init__(self, place: Callable[[Raiser], Any], error: BaseException) -> None:
        self.tidied: list[str] = []
        self.began_after: list[str] = []
        self._in_flight = [threading.Event(), threading.Event()]
        self._raised = threading.Event()
        self._error = error
        self._task, self._expander = place(self._fail)

    def _fail(self) -> None:
        for event in self._in_flight:
            hold(event)
        self._raised.set()
        raise self._error

    async def _wait_in_flight(self) -> str:
        await until(lambda: all(event.is_set() for event in self._in_flight))
        return "value"

    async def _on_loop(self) -> None:
        try:
            self._in_flight[0].set()
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await passes(3)
            self.tidied.append("loop")

    def _on_thread(self) -> None:
        self._in_flight[1].set()
        hold(self._raised)
        self.tidied.append("thread")

    def arguments(self) -> tuple[Any, Any]:
        dag = graph("loop", "thread", edges="flown-bad bad-after thread-late")
        executor = dagron.DynamicExecutor(
            dag, {"bad": self._expander} if self._expander else None, max_workers=2
        )
        tasks = {
            "loop": self._on_loop,
            "thread": self._on_thread,
            "flown": self._wait_in_flight,
            "bad": self._task,
            "after": lambda: self.began_after.append("after"),
            "late": lambda: self.began_after.append("late"),
        }
        return executor, tasks

    def assert_all_ended(self) -> None:
        assert sorted(self.tidied) == ["loop", "thread"]
        assert "after" not in self.began_after


@pytest.mark.parametrize("kind", [KeyboardInterrupt, OwnInterrupt])
@pytest.mark.parametrize("raised", RAISED)
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
async def test_a_keyboard_interrupt_leaves_execute_bare(
    place: Callable[[Raiser], Any], raised: str, kind: type[KeyboardInterrupt]
) -> None:
    """`KeyboardInterrupt` raised by a node or an expander (also inside a group) cancels the run and
    leaves `execute` bare, after every node has ended; the caller is not cancelled.
    """
    interrupt = kind("by a node")
    scene = Scene(place, RAISED[raised](interrupt))
    executor, tasks = scene.arguments()

    with anyio.fail_after(GUARD), pytest.raises(KeyboardInterrupt) as caught:
        await executor.execute(tasks)

    assert caught.value is interrupt
    scene.assert_all_ended()
    await passes(3)
    assert (await run(graph("a"), {"a": value})).ok


@pytest.fixture
def default_handler() -> Iterator[None]:
    """Python's own handler of SIGINT, which a test runner in the background may not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@BLOCKING
@pytest.mark.parametrize("raised", RAISED)
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
@pytest.mark.usefixtures("default_handler")
def test_a_keyboard_interrupt_leaves_execute_sync_bare(
    place: Callable[[Raiser], Any], raised: str, backend: str
) -> None:
    """E12: nodes are cancelled, their `finally` blocks run, `execute_sync` raises a bare
    `KeyboardInterrupt` on every backend; the handler of SIGINT is Python's own again.
    """
    interrupt = KeyboardInterrupt("by a node")
    scene = Scene(place, RAISED[raised](interrupt))
    executor, tasks = scene.arguments()

    with pytest.raises(KeyboardInterrupt) as caught:
        executor.execute_sync(tasks, backend=backend)

    assert caught.value is interrupt
    scene.assert_all_ended()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


async def test_the_first_of_two_keyboard_interrupts_is_raised() -> None:
    """When a second node raises `KeyboardInterrupt` while it is cancelled, the first one is
    raised.
    """
    first, second = KeyboardInterrupt("first"), KeyboardInterrupt("second")

    async def early() -> None:
        await passes(3)
        raise first

    async def late() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise second

    with anyio.fail_after(GUARD), pytest.raises(KeyboardInterrupt) as caught:
        await dagron.DynamicExecutor(graph("early", "late")).execute({"early": early, "late": late})

    assert caught.value is first


async def test_a_keyboard_interrupt_is_not_lost_in_a_cancellation() -> None:
    """A `KeyboardInterrupt` that a node raises while its run is being cancelled leaves `execute`
    bare: the cancellation does not hide it.
    """
    interrupt = KeyboardInterrupt("while cancelled")

    async def node() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise interrupt

    caught: list[BaseException] = []
    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as host:

            async def caller() -> None:
                try:
                    await dagron.DynamicExecutor(graph("node")).execute({"node": node})
                except BaseException as error:
                    caught.append(error)
                    if not isinstance(error, KeyboardInterrupt):
                        raise

            host.start_soon(caller)
            await passes(5)
            host.cancel_scope.cancel()
    assert caught == [interrupt]


# --- the handler of SIGINT -----------------------------------------------------------------------


@BLOCKING
@pytest.mark.usefixtures("default_handler")
def test_pythons_handler_is_restored(backend: str) -> None:
    """Inside `execute_sync` SIGINT is handled by the run; afterwards, whatever came out, by
    Python's own handler again.
    """
    during: list[Any] = []

    async def look() -> None:
        during.append(signal.getsignal(signal.SIGINT))

    executor = dagron.DynamicExecutor(graph("node"))
    assert executor.execute_sync({"node": look}, backend=backend).ok
    assert during[0] is not signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(dagron.UnknownNodeError):
        executor.execute_sync({"nobody": look}, backend=backend)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(dagron.MissingTaskError):
        executor.execute_sync({}, backend=backend)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@BLOCKING
@pytest.mark.parametrize("own", [signal.SIG_IGN, signal.SIG_DFL, lambda *_: None])
def test_a_programs_own_handler_is_left_alone(backend: str, own: Any) -> None:
    """A program that handles SIGINT itself, or ignores it, keeps its handler during the run."""
    during: list[Any] = []

    async def look() -> None:
        during.append(signal.getsignal(signal.SIGINT))

    before = signal.signal(signal.SIGINT, own)
    try:
        dagron.DynamicExecutor(graph("node")).execute_sync({"node": look}, backend=backend)
        assert during == [own]
        assert signal.getsignal(signal.SIGINT) == own
    finally:
        signal.signal(signal.SIGINT, before)


@BLOCKING
@pytest.mark.usefixtures("default_handler")
def test_execute_sync_in_another_thread_than_the_main_one(backend: str) -> None:
    """`execute_sync` in a thread runs as usual, and does not touch the handler of SIGINT; a
    `KeyboardInterrupt` out of a node is raised there, bare.
    """
    outcomes: list[Any] = []
    during: list[Any] = []
    interrupt = KeyboardInterrupt()

    async def look() -> None:
        during.append(signal.getsignal(signal.SIGINT))

    async def fail() -> None:
        raise interrupt

    def call() -> None:
        executor = dagron.DynamicExecutor(graph("a", "b"))
        outcomes.append(executor.execute_sync({"a": look, "b": lambda: None}, backend=backend))
        try:
            executor.execute_sync({"a": fail, "b": anyio.sleep_forever}, backend=backend)
        except BaseException as error:
            outcomes.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join(GUARD)

    assert not thread.is_alive()
    assert outcomes[0].ok
    assert outcomes[1] is interrupt
    assert during == [signal.default_int_handler]


# --- real signals, to programs of their own ------------------------------------------------------

PRELUDE = """
import os
import signal
import sys
import threading

import anyio
import dagron

# A parent in the background of a shell makes its children ignore SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)
backend = sys.argv[1]
gate, ended, in_flight = threading.Event(), threading.Event(), threading.Barrier(2)


def say(line):
    print(line, flush=True)


def open_gate():
    sys.stdin.readline()
    gate.set()


def on_thread():
    in_flight.wait()
    gate.wait()
    say("thread ended")
    ended.set()


async def on_loop():
    await anyio.to_thread.run_sync(in_flight.wait)
    try:
        say("in flight")  # trio may interrupt right here
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.lowlevel.checkpoint()
        say("tidied")


dag = dagron.DAG.builder().add_node("loop").add_node("thread").add_edge("thread", "next").build()
executor = dagron.DynamicExecutor(dag)
tasks = {"loop": on_loop, "thread": on_thread, "next": lambda: say("next")}
"""

ONCE = {
    "execute_sync": "executor.execute_sync(tasks, backend=backend)",
    "anyio.run": "anyio.run(executor.execute, tasks, backend=backend)",
}


@BLOCKING
@pytest.mark.parametrize("call", ONCE)
def test_ctrl_c_once(backend: str, call: str) -> None:
    """Ctrl-C once: nodes cancelled, `finally` blocks run, threads awaited, exit status 130 in a
    shell (-SIGINT to `subprocess`). So it is with `execute_sync`, and in the program's own event
    loop.
    """
    source = f"{PRELUDE}\nthreading.Thread(target=open_gate, daemon=True).start()\n{ONCE[call]}"
    with program(source, backend) as process:
        process.wait_for("in flight")
        process.signal(signal.SIGINT)
        process.wait_for("tidied")
        process.tell("open the gate")
        status, lines, errors = process.end()
    assert lines == ["thread ended"]
    assert status == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert "Group" not in errors


TWICE = """
try:
    executor.execute_sync(tasks, backend=backend)
except KeyboardInterrupt as interrupt:
    assert type(interrupt) is KeyboardInterrupt
    say("interrupted")
    say(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""


@BLOCKING
def test_ctrl_c_twice(backend: str) -> None:
    """Ctrl-C twice: `execute_sync` raises although a thread goes on, and never ends."""
    with program(f"{PRELUDE}{TWICE}os._exit(7)", backend) as process:
        process.wait_for("in flight")
        process.signal(signal.SIGINT)
        process.wait_for("tidied")
        process.signal(signal.SIGINT)
        process.wait_for("interrupted")
        status, lines, errors = process.end()
    assert (status, lines, errors) == (7, ["True"], "")


@BLOCKING
def test_a_thread_that_ends_after_its_run_is_not_noticed(backend: str) -> None:
    """A thread that ends after its run has ended: its result is dropped, nothing is written,
    nothing is raised anywhere, and the interpreter's own exit waits for no more than the thread.
    """
    after = """
open_gate()
ended.wait(30)
result = executor.execute_sync({"loop": lambda: None, "thread": lambda: None, "next": lambda: None})
say(result.ok)
"""
    with program(PRELUDE + TWICE + after, backend) as process:
        process.wait_for("in flight")
        process.signal(signal.SIGINT)
        process.wait_for("tidied")
        process.signal(signal.SIGINT)
        process.wait_for("interrupted")
        process.tell("open the gate")
        process.wait_for("thread ended")
        status, lines, errors = process.end()
    assert (status, lines[-1], errors) == (0, "True", "")


BLOCKED = """
other_began = False


async def blocking():
    while not other_began:
        await anyio.lowlevel.checkpoint()
    say("in flight")
    say(os.read(0, 100).decode().strip())
    say(os.read(0, 100).decode().strip())


async def other():
    global other_began
    other_began = True
    try:
        await anyio.sleep_forever()
    finally:
        say("tidied")


dag = dagron.DAG.builder().add_node("other").add_node("blocking").build()
executor = dagron.DynamicExecutor(dag)
executor.execute_sync({"other": other, "blocking": blocking}, backend=backend)
"""


@BLOCKING
def test_ctrl_c_while_an_async_node_blocks_the_loop(backend: str) -> None:
    """While an async node blocks the event loop, the first Ctrl-C cannot be carried out; the second
    is raised in that node, and the run ends like any other that is interrupted.
    """
    with program(PRELUDE + BLOCKED, backend) as process:
        process.wait_for("in flight")
        process.signal(signal.SIGINT)
        process.tell("still blocked")
        process.wait_for("still blocked")
        process.signal(signal.SIGINT)
        status, lines, errors = process.end()
    assert lines == ["tidied"]
    assert status == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert "Group" not in errors


BLOCKED_WHEN_CANCELLED = """
async def blocking():
    try:
        say("in flight")
        await anyio.sleep_forever()
    finally:
        signal.raise_signal(signal.SIGINT)
        say("second")
        signal.raise_signal(signal.SIGINT)
        say("third")


executor = dagron.DynamicExecutor(dagron.DAG.builder().add_node("blocking").build())
executor.execute_sync({"blocking": blocking}, backend=backend)
"""


@BLOCKING
def test_ctrl_c_while_a_cancelled_node_blocks_the_loop(backend: str) -> None:
    """A node that blocks the event loop in its `finally` is ended by the third Ctrl-C."""
    with program(PRELUDE + BLOCKED_WHEN_CANCELLED, backend) as process:
        process.wait_for("in flight")
        process.signal(signal.SIGINT)
        status, lines, errors = process.end()
    assert lines == ["second"]
    assert status == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert "Group" not in errors


OWN_HANDLER = """
calls = []


async def node():
    signal.raise_signal(signal.SIGINT)
    await anyio.lowlevel.checkpoint()
    return "done"


signal.signal(signal.SIGINT, lambda signum, frame: calls.append(signum))
executor = dagron.DynamicExecutor(dagron.DAG.builder().add_node("node").build())
say(executor.execute_sync({"node": node}, backend=backend)["node"].result)
say(calls == [signal.SIGINT])
"""


@BLOCKING
def test_ctrl_c_in_a_program_with_a_handler_of_its_own(backend: str) -> None:
    """A program's own handler is called on Ctrl-C, and the run goes on."""
    with program(PRELUDE + OWN_HANDLER, backend) as process:
        status, lines, errors = process.end()
    assert (status, lines, errors) == (0, ["done", "True"], "")


ANY_PASS = """
import asyncio
import contextlib

import trio

fired = False


def raise_after(turns, soon):
    global fired
    if turns:
        with contextlib.suppress(trio.RunFinishedError):
            soon(raise_after, turns - 1, soon)
    else:
        fired = True
        for _ in range(int(sys.argv[2])):
            signal.raise_signal(signal.SIGINT)


async def first(turns):
    if backend == "asyncio":
        soon = asyncio.get_running_loop().call_soon
    else:
        soon = trio.lowlevel.current_trio_token().run_sync_soon
    raise_after(turns, soon)


async def noop():
    await anyio.lowlevel.checkpoint()


dag = dagron.DAG.builder().add_edge("first", "second").build()
executor = dagron.DynamicExecutor(dag)


def run_is_hit(first, turns):
    global fired
    fired = False
    try:
        executor.execute_sync({"first": first, "second": noop}, backend=backend)
        if fired:
            say(f"lost, {turns} turns after the start")
    except KeyboardInterrupt as interrupt:
        if type(interrupt) is not KeyboardInterrupt or not fired:
            say(f"{interrupt!r}, {turns} turns after the start")
    except BaseException as error:
        say(f"{error!r}, {turns} turns after the start")
    return fired


async def on_loop():
    await first(turns)


for turns in range(100):
    if not run_is_hit(on_loop, turns):
        break
say(fired)
say(turns > 5)
# While it waits for a thread the loop turns as often as it can: any of these passes may be hit.
for turns in range(30):
    run_is_hit(lambda: first(turns), turns)
"""


@BLOCKING
@pytest.mark.parametrize("times", [1, 2, 3])
def test_ctrl_c_in_any_pass_of_the_loop(backend: str, times: int) -> None:
    """A Ctrl-C in any pass of the event loop, from a run's first step to the end of `execute_sync`,
    is raised as a bare `KeyboardInterrupt`: none is lost because it came with the last node's end,
    and more of them right behind it break nothing.
    """
    with program(PRELUDE + ANY_PASS, backend, str(times)) as process:
        status, lines, errors = process.end()
    assert (status, lines) == (0, ["False", "True"])
    # The third is raised wherever it finds the program, which may be asyncio's own shutdown.
    assert times == 3 or errors == ""


TOO_EARLY = """
class Tasks(dict):
    def __iter__(self):
        signal.raise_signal(signal.SIGINT)
        return super().__iter__()


async def on_loop():
    await anyio.lowlevel.checkpoint()
    say("loop")


executor = dagron.DynamicExecutor(dagron.DAG.builder().add_edge("loop", "thread").build())
executor.execute_sync(Tasks(loop=on_loop, thread=lambda: say("thread")), backend=backend)
"""


@BLOCKING
def test_ctrl_c_before_the_run(backend: str) -> None:
    """A Ctrl-C while `execute_sync` still checks its arguments is raised, and no work is done."""
    with program(PRELUDE + TOO_EARLY, backend) as process:
        status, lines, errors = process.end()
    assert lines == []
    assert status == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
