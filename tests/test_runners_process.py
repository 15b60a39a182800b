"""ProcessRunner: processes that are killed, end by themselves, and leave nothing behind."""

import contextvars
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import anyio
import pytest

import dagron
from away import ROOT, VARIABLE, Homebound, Marks, dies, holding, is_alive, missing, one
from controls import graph, statuses
from dagron import DynamicExecutor, NodePolicy, Retry, WorkerLostError
from ways import GUARD

pytestmark = missing("process")
QUICK = Retry(attempts=3, initial_delay=0)
OWN: ContextVar[str] = ContextVar("OWN", default="default")


@pytest.fixture
def marks(tmp_path: Path) -> Marks:
    return Marks(tmp_path)


def runner(workers: int = 1, **options: Any) -> Any:
    from dagron.runners import ProcessRunner

    return ProcessRunner(workers, **options)


async def ran(tasks: dict[str, Any], edges: str = "", /, on: Any = None, **options: Any) -> Any:
    """The result of a graph whose nodes run in processes: in one, if nothing else is said."""
    on = runner() if on is None else on
    executor = DynamicExecutor(
        graph(edges, **dict.fromkeys(tasks)), runners={"cpu": on}, runner="cpu", **options
    )
    with anyio.fail_after(2 * GUARD):
        return await executor.execute(tasks)


# --- processes that end ---------------------------------------------------------------------------


def exit_at_once() -> None:
    os._exit(3)


def segfault() -> None:
    ctypes.string_at(0)


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("task", "code", "words"),
    [
        (exit_at_once, 3, "exit code 3"),
        (segfault, -signal.SIGSEGV, "killed by SIGSEGV"),
        (kill_itself, -signal.SIGKILL, "killed by SIGKILL"),
    ],
)
async def test_a_worker_that_ends_fails_its_node(
    task: Callable[[], None], code: int, words: str
) -> None:
    """The node is FAILED with WorkerLostError, with node, worker and exit code; the pool heals."""
    result = await ran({"a": task, "b": one, "c": one})
    assert statuses(result) == {"a": "FAILED", "b": "COMPLETED", "c": "COMPLETED"}
    error = result["a"].error
    assert isinstance(error, WorkerLostError)
    assert (error.node, error.exit_code) == ("a", code)
    assert error.worker == result["a"].place.worker != result["b"].place.worker
    assert words in str(error)


async def test_a_node_whose_worker_ended_is_tried_again(marks: Marks) -> None:
    """WorkerLostError is a failure like others: the policy's retry applies."""

    def die_once() -> str:
        if marks.add("attempt") == 1:
            os._exit(1)
        return "alive"

    result = await ran({"a": die_once}, policy=NodePolicy(retry=QUICK))
    assert result["a"].result == "alive"
    assert result["a"].attempts == 2
    assert isinstance(result["a"].errors[0], WorkerLostError)


async def test_a_worker_that_eats_its_memory_limit_fails_its_node() -> None:
    """It is a MemoryError, or the loss of the worker; the next node has a new process."""

    def eat() -> int:
        return len(bytearray(8 << 30))

    limited = runner(memory_limit=2 << 30)
    result = await ran({"a": os.getpid, "b": eat, "c": os.getpid}, "a>b", on=limited)
    assert statuses(result) == {"a": "COMPLETED", "b": "FAILED", "c": "COMPLETED"}
    assert isinstance(result["b"].error, (MemoryError, WorkerLostError))

    async with limited:
        first = await ran({"a": os.getpid, "b": eat}, "a>b", on=limited)
        second = await ran({"a": os.getpid}, on=limited)
    assert first["a"].result != second["a"].result


async def test_what_a_lost_worker_has_started_holds_nothing_up() -> None:
    """A child that has the pipe of a worker open outlives it: the loss is noticed all the same."""

    def fork_and_die() -> None:
        if os.fork():
            os._exit(4)
        signal.pause()

    error = (await ran({"a": fork_and_die}))["a"].error
    assert isinstance(error, WorkerLostError)
    assert error.exit_code == 4


def return_from_fork() -> str:
    pid = os.fork()
    if not pid:
        dagron.progress(1, note="of the child")
        return "the child's"
    return f"exit code {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}"


def exit_from_fork() -> str:
    pid = os.fork()
    if not pid:
        sys.exit(3)
    return f"exit code {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}"


def raise_from_fork() -> str:
    pid = os.fork()
    if not pid:
        raise ValueError("of the child")
    return f"exit code {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}"


@pytest.mark.parametrize(
    ("task", "code"), [(return_from_fork, 0), (exit_from_fork, 3), (raise_from_fork, 1)]
)
async def test_a_child_that_a_body_forks_ends_with_it(task: Callable[[], str], code: int) -> None:
    """It does not answer for its parent, nor serve: the nodes have their own outcomes."""
    events: list[Any] = []
    tasks = {"a": task, "b": lambda: "b's own", "c": lambda: "c's own"}
    result = await ran(tasks, "a>b b>c", observers=[events.append])
    assert result["a"].result == f"exit code {code}"
    assert (result["b"].result, result["c"].result) == ("b's own", "c's own")
    assert "node_progress" not in {event.kind for event in events}


async def test_the_progress_of_a_thread_that_was_left_is_not_that_of_the_next_node() -> None:
    """What a thread reports when its body has ended is dropped."""
    events: list[Any] = []

    def leave_a_thread() -> None:
        context = contextvars.copy_context()
        threading.go, threading.gone = threading.Event(), threading.Event()  # type: ignore[attr-defined]

        def report() -> None:
            threading.go.wait()  # type: ignore[attr-defined]
            context.run(dagron.progress, 1, note="of the thread")
            threading.gone.set()  # type: ignore[attr-defined]

        threading.Thread(target=report, daemon=True).start()

    def let_it_report() -> None:
        threading.go.set()  # type: ignore[attr-defined]
        threading.gone.wait()  # type: ignore[attr-defined]
        dagron.progress(1, note="its own")

    await ran({"a": leave_a_thread, "b": let_it_report}, "a>b", observers=[events.append])
    told = [(event.node, event.note) for event in events if event.kind == "node_progress"]
    assert told == [("b", "its own")]


# --- processes that are killed -----------------------------------------------------------------


async def test_a_task_that_is_out_of_time_is_killed(marks: Marks) -> None:
    """Its process, and what that has started, are gone; the one slot is free for the next node."""

    def work() -> None:
        child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
        marks.add("pid", str(os.getpid()))
        marks.add("pid", str(child.pid))
        signal.pause()

    dag = graph("", a=NodePolicy(timeout=2.0), b=None)
    executor = DynamicExecutor(dag, runners={"cpu": runner()}, runner="cpu")
    with anyio.fail_after(GUARD):
        result = await executor.execute({"a": work, "b": os.getpid})
    assert statuses(result) == {"a": "FAILED", "b": "COMPLETED"}
    assert isinstance(result["a"].error, dagron.NodeTimeoutError)
    pids = [int(pid) for pid in marks.contents("pid")]
    assert len(pids) == 2
    for pid in pids:
        await dies(pid)
    assert result["b"].result not in pids


async def test_a_cancelled_task_is_killed(marks: Marks) -> None:
    """A sync task that holds a processor, and asks nothing, ends with its node."""

    def spin() -> None:
        marks.add("pid", str(os.getpid()))
        marks.set("began")
        while True:
            pass

    executor = DynamicExecutor(graph("", a=None), runners={"cpu": runner()}, runner="cpu")
    with anyio.fail_after(GUARD):
        async with executor.start({"a": spin}) as run:
            await marks.reached("began")
            run.cancel_node("a")
        assert statuses(await run.wait()) == {"a": "CANCELLED"}
    await dies(int(marks.contents("pid")[0]))


async def test_no_process_survives_a_run() -> None:
    """A run that has entered its runner itself ends the processes, idle as they are."""
    result = await ran({"a": os.getpid, "b": os.getpid}, on=runner(2))
    assert not any(is_alive(result[name].result) for name in "ab")


async def test_a_runner_that_is_entered_keeps_its_processes() -> None:
    """Runs inside of its block share a process, which ends with the block."""
    async with runner() as shared:
        first = await ran({"a": os.getpid}, on=shared)
        second = await ran({"a": os.getpid}, on=shared)
        pid = first["a"].result
        assert pid == second["a"].result
        assert is_alive(pid)
    assert not is_alive(pid)


async def test_an_idle_process_that_died_is_replaced() -> None:
    """A node finds the process of an earlier one gone, and gets another."""
    async with runner() as shared:
        pid = (await ran({"a": os.getpid}, on=shared))["a"].result
        os.kill(pid, signal.SIGKILL)
        await dies(pid)
        assert (await ran({"a": os.getpid}, on=shared))["a"].result != pid


def test_a_program_that_is_killed_takes_its_processes_along(tmp_path: Path) -> None:
    """A worker that is busy ends when the program is gone."""
    program = """
import os, pathlib, sys, time
import dagron
from dagron.runners import ProcessRunner
folder = pathlib.Path(sys.argv[1])
def work():
    folder.joinpath("new").write_text(str(os.getpid()))
    folder.joinpath("new").rename(folder / "pid")
    time.sleep(600)
dag = dagron.DAG.builder().add_node("a").build()
executor = dagron.DynamicExecutor(dag, runners={"cpu": ProcessRunner(1)}, runner="cpu")
executor.execute_sync({"a": work})
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    marks = Marks(tmp_path)
    with subprocess.Popen([sys.executable, "-c", program, tmp_path], env=environment) as process:
        marks.wait("pid")
        process.kill()
    pid = int((tmp_path / "pid").read_text())
    anyio.run(dies, pid)


# --- what a worker sees -------------------------------------------------------------------------


async def test_what_a_task_prints_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    """It goes to the program's stdout, and its stdin is empty."""

    def talk() -> str:
        print("hello")
        return sys.stdin.read()

    result = await ran({"a": talk})
    assert result["a"].result == ""
    assert capfd.readouterr().out == "hello\n"


async def test_a_variable_of_the_task_itself_travels(marks: Marks) -> None:
    """A context variable that the task's code names, and no module has, is carried as others."""
    loose: ContextVar[str] = ContextVar("loose")
    carried = runner(carry=[loose, OWN])
    loose.set("value")
    result = await ran({"a": lambda: (loose.get(), OWN.get(), VARIABLE.get())}, on=carried)
    assert result["a"].result == ("value", "default", "nobody")


async def test_the_trace_of_opentelemetry_travels() -> None:
    """The span in which `execute` was called is the current one in the worker."""
    trace = pytest.importorskip("opentelemetry.trace", reason="opentelemetry is not installed")
    context = pytest.importorskip("opentelemetry.context")
    there = trace.SpanContext(trace_id=0xABC, span_id=0xDEF, is_remote=False, trace_flags=1)
    span = trace.set_span_in_context(trace.NonRecordingSpan(there))

    def ids() -> tuple[int, int]:
        from opentelemetry.trace import get_current_span

        found = get_current_span().get_span_context()
        return found.trace_id, found.span_id

    token = context.attach(span)
    try:
        result = await ran({"a": ids})
    finally:
        context.detach(token)
    assert result["a"].result == (0xABC, 0xDEF)


async def test_a_module_that_is_missing_there_is_named(tmp_path: Path) -> None:
    """A task that cannot be unpickled fails its node with what is missing."""
    (tmp_path / "only_here.py").write_text("def task():\n    return 1\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        import only_here

    error = (await ran({"a": only_here.task}))["a"].error
    assert isinstance(error, dagron.NotPicklableError)
    assert "only_here" in str(error)


# --- values ------------------------------------------------------------------------------------


async def test_a_result_that_cannot_be_loaded_here_fails_its_node() -> None:
    """It is FAILED with what the attempt has raised, and its process goes on."""
    pid = os.getpid()
    result = await ran({"a": os.getpid, "b": lambda a: Homebound(pid), "c": os.getpid}, "a>b a>c")
    error = result["b"].error
    assert isinstance(error, dagron.NotPicklableError)
    assert (error.node, error.what) == ("b", "its result")
    assert "its result cannot be loaded here: LookupError: not in this process" in str(error)
    assert result["a"].result == result["c"].result


async def test_an_error_that_cannot_be_loaded_here_fails_its_node() -> None:
    """It is FAILED with that, and its process goes on."""
    pid = os.getpid()

    def fail() -> None:
        raise ValueError(Homebound(pid))

    result = await ran({"a": os.getpid, "b": fail, "c": os.getpid}, "a>b a>c")
    error = result["b"].error
    assert isinstance(error, dagron.NotPicklableError)
    assert (error.node, error.what) == ("b", "its error")
    assert result["a"].result == result["c"].result


class Seen:
    """Tells, when it comes back, in which threads it was pickled and loaded."""

    def __reduce__(self) -> Any:
        return _seen, (threading.get_ident(),)


def _seen(pickled_in: int) -> tuple[int, int]:
    return pickled_in, threading.get_ident()


async def test_large_values_are_pickled_and_loaded_beside_the_event_loop() -> None:
    """Those of 2 MB in another thread, whose work the loop does not wait for; small ones in it."""
    here, blob, seen = threading.get_ident(), bytes(2_000_000), Seen()
    result = await ran(
        {
            "small": lambda: Seen(),
            "large": lambda: [Seen(), blob],
            "given": lambda: (seen, blob)[0],
        }
    )
    assert result["small"].result[1] == here
    assert result["large"].result[0][1] != here
    assert result["given"].result[0] != here


# --- mistakes ------------------------------------------------------------------------------------


async def test_resources_are_refused() -> None:
    """A node that asks for resources fails, since nobody would count them."""
    error = (await ran({"a": one}, policy=NodePolicy(resources={"GPU": 1})))["a"].error
    assert isinstance(error, ValueError)
    assert "GPU" in str(error)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"workers": 0}, ValueError),
        ({"workers": "two"}, TypeError),
        ({"memory_limit": 0.5}, TypeError),
        ({"carry": ["name"]}, TypeError),
        ({"carry": 5}, TypeError),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], error: type[Exception]) -> None:
    """What cannot be is refused where it is written, with the parameter's name."""
    with pytest.raises(error, match=next(iter(options))):
        runner(**options)


def test_a_runner_serves_one_event_loop_at_a_time() -> None:
    """While it is entered on one loop, a run on another is refused, and afterwards it is not."""
    shared = runner()

    async def outer() -> None:
        async with shared:
            await anyio.to_thread.run_sync(elsewhere)

    def elsewhere() -> None:
        with pytest.raises(RuntimeError, match="in use on another event loop"):
            anyio.run(ran, {"a": one}, "", shared)

    anyio.run(outer)
    assert anyio.run(lambda: ran({"a": one}, on=shared), backend="trio").ok


async def test_a_call_outside_of_the_block_is_refused() -> None:
    """A runner that was not entered says what to type."""
    with pytest.raises(RuntimeError, match="async with runner"):
        await runner().run(None)


def test_a_missing_extra_is_named() -> None:
    """Without cloudpickle, asking for the runner says which extra it is in."""
    program = "import sys; sys.modules['cloudpickle'] = None\nfrom dagron import runners\n"
    program += "try:\n    runners.ProcessRunner\nexcept Exception as error:\n"
    program += "    print(type(error).__name__, error.extra, error)"
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout.startswith("MissingExtraError process ProcessRunner needs 'cloudpickle'")
    assert 'pip install "dagron[process]"' in ran.stdout


async def test_a_task_that_holds_its_process_leaves_the_loop_free(marks: Marks) -> None:
    """While a body runs in a process, nodes here go on."""
    dag = graph("", a=NodePolicy(runner="cpu"), b=None)
    executor = DynamicExecutor(dag, runners={"cpu": runner()})

    async def here() -> None:
        await marks.reached("began")
        marks.set("go")

    with anyio.fail_after(GUARD):
        result = await executor.execute({"a": holding(marks), "b": here})
    assert result["a"].result == "held"
