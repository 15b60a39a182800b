"""Runs of one journal in several processes: held, freed by death, poisoned, interrupted."""

import os
import signal
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

import dagron
from dagron import DynamicExecutor, Journal, RunInUseError
from faults import GUARD, graph, program

BOTH = pytest.mark.parametrize("backend", ["asyncio", "trio"])
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


PRELUDE = """
import os
import signal
import sys
import threading
import warnings

import anyio
import dagron

# A parent in the background of a shell makes its children ignore SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
backend, path = sys.argv[1:3]


def say(*words):
    print(*words, flush=True)


async def quick():
    pass
"""

# --- two processes, one run ----------------------------------------------------------------------

HOLDER = """
async def slow():
    %s
    say("at work")
    await anyio.sleep_forever()

dag = dagron.DAG.builder().add_edge("quick", "slow").build()
executor = dagron.DynamicExecutor(dag, journal=dagron.Journal(path))
executor.execute_sync({"quick": quick, "slow": slow}, run_id="a", backend=backend)
"""


class Counted:
    """The same graph in this process: what its tasks have run."""

    def __init__(self, journal: Journal) -> None:
        self.ran: list[str] = []
        self._executor = DynamicExecutor(graph(edges="quick-slow"), journal=journal)

    def execute(self, backend: str) -> dagron.ExecutionResult:
        tasks: dict[str, Any] = {name: partial(self.ran.append, name) for name in ("quick", "slow")}
        return self._executor.execute_sync(tasks, run_id="a", backend=backend)


@BOTH
def test_a_run_that_another_process_executes(path: Path, backend: str) -> None:
    """`execute` of a run that another process executes is refused at once, with who has it, and
    runs nothing; as soon as that process is killed, the run goes on here.
    """
    with program(PRELUDE + HOLDER % "pass", backend, str(path)) as holder, Journal(path) as journal:
        holder.wait_for("at work")
        here = Counted(journal)
        with pytest.raises(RunInUseError) as caught:
            here.execute(backend)
        assert caught.value.pid == holder.pid
        assert f"run 'a' is being executed by process {holder.pid}" in str(caught.value)
        assert not here.ran
        holder.signal(signal.SIGKILL)
        assert holder.end()[0] == -signal.SIGKILL
        assert here.execute(backend).ok
        assert here.ran == ["slow"]


FORK = """
    child = os.fork()
    if not child:
        signal.pause()
    say(child)"""


@BOTH
@needs_fork
def test_a_child_of_a_dead_process_keeps_nothing(path: Path, backend: str) -> None:
    """A child that a node has forked, and that outlives the process, does not keep the run."""
    with program(PRELUDE + HOLDER % FORK, backend, str(path)) as holder, Journal(path) as journal:
        child = int(holder.line())
        try:
            holder.wait_for("at work")
            holder.signal(signal.SIGKILL)
            os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
            os.kill(child, 0)  # it is alive
            assert Counted(journal).execute(backend).ok
        finally:
            os.kill(child, signal.SIGKILL)


# --- many runs, one file -------------------------------------------------------------------------

MANY = """
def spread(name, count):
    return dagron.DynamicModification(
        [dagron.DynamicNodeSpec(f"part {n}", quick, [name], ["end"]) for n in range(count)]
    )


async def count():
    return 20


async def main():
    dag = dagron.DAG.builder().add_edge("begin", "end").build()
    executor = dagron.DynamicExecutor(dag, {"begin": spread}, journal=dagron.Journal(path))

    async def run(run_id):
        result = await executor.execute({"begin": count, "end": quick}, run_id=run_id)
        say(run_id, result.ok, result.succeeded)

    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(run, f"{sys.argv[3]}-{number}")


say("ready")
sys.stdin.readline()
anyio.run(main, backend=backend)
"""


@BOTH
def test_many_runs_of_many_processes_in_one_file(path: Path, backend: str) -> None:
    """Runs of three processes, four in each, go into one new file at the same time: all of them
    finish, and nothing of them is lost.
    """
    programs = [program(PRELUDE + MANY, backend, str(path), name) for name in "abc"]
    with programs[0] as first, programs[1] as second, programs[2] as third:
        each = (first, second, third)
        for one in each:
            one.wait_for("ready")
        for one in each:
            one.tell("go")
        ends = [one.end() for one in each]
    names = [f"{name}-{number}" for name in "abc" for number in range(4)]
    assert [(status, errors) for status, _, errors in ends] == [(0, "")] * 3
    assert sorted(line for _, lines, _ in ends for line in lines) == [
        f"{name} True 22" for name in names
    ]
    with Journal(path) as journal:
        assert sorted(run.id for run in journal.runs()) == names
        assert {run.state for run in journal.runs()} == {"finished"}
        for name in names:
            assert journal.run(name).result.succeeded == 22


async def test_another_process_that_writes_blocks_no_event_loop(path: Path) -> None:
    """While somebody else holds SQLite's lock on the file, a run waits, at its claim and with each
    outcome, and the event loop turns; when the lock is free, the run goes on.
    """
    passes: list[int] = []

    async def locked(run: dagron.Run | None = None) -> None:
        """Let the loop turn while the file is locked."""
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            if run is not None:
                gate.set()
                while "being written" not in str(run.explain("a")):
                    await checkpoint()
            for _ in range(500):
                await checkpoint()
            passes.append(0 if run is None else list(run.dag).index("b"))
            assert run is None or run.status("b") == "PENDING"
            other.execute("COMMIT")

    gate = anyio.Event()
    with Journal(path) as journal:
        await DynamicExecutor(graph("first"), journal=journal).execute({"first": lambda: None})
        executor = DynamicExecutor(graph(edges="a-b"), journal=journal)
        ran: list[str] = []

        async def b() -> None:
            ran.append("b")

        with anyio.fail_after(GUARD):
            async with anyio.create_task_group() as group:
                group.start_soon(locked)
                await checkpoint()
                async with executor.start({"a": gate.wait, "b": b}, run_id="x") as run:
                    async for event in run.events():
                        if isinstance(event, dagron.NodeStarted):
                            assert len(passes) == 1
                            await locked(run)
                            break
    assert ran == ["b"]
    assert len(passes) == 2


# --- poison --------------------------------------------------------------------------------------

# Until so many lives have ended by themselves.
LIVES = """

statuses = []
while statuses.count(0) < %d and len(statuses) < 10:
    child = os.fork()
    if not child:
        life()
        os._exit(0)
    statuses.append(os.waitpid(child, 0)[1])
say(statuses)
"""

POISONED = """
def pieces(name, count):
    for number in range(count):
        yield dagron.DynamicNodeSpec(f"piece {number}", piece(number), [name], ["end"])


def piece(number):
    async def at_work():
        if number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    return at_work


async def source():
    return 3


def life():
    dag = (
        dagron.DAG.builder()
        .add_node("source", policy=dagron.NodePolicy(window=1))
        .add_edge("source", "end")
        .add_edge("quick", "after")
        .add_node("end", policy=dagron.NodePolicy(trigger=dagron.all_done))
        .build()
    )
    tasks = {"source": source, "end": quick, "quick": quick, "after": quick}
    with dagron.Journal(path, max_recoveries=2) as journal:
        executor = dagron.DynamicExecutor(dag, {"source": pieces}, journal=journal)
        result = executor.execute_sync(tasks, run_id="a", backend=backend)
    for name, node in result.node_results.items():
        is_poisoned = "was at work each of the 2 times" in str(node.error)
        say(f"{name}: {node.status}, {node.attempts}{', poisoned' * is_poisoned}")

"""


@BOTH
@needs_fork
def test_a_node_that_kills_its_process_is_poisoned(path: Path, backend: str) -> None:
    """A node that kills its process is tried so often as `max_recoveries` says, and fails in the
    next life; the stream that it comes from is not blamed, and all else is done. So it is recorded.
    """
    with program(PRELUDE + POISONED + LIVES % 2, backend, str(path)) as lives:
        status, lines, errors = lives.end()
    assert (status, errors) == (0, "")
    told = [
        "source: COMPLETED, 1",
        "piece 0: COMPLETED, 1",
        "piece 1: FAILED, 2, poisoned",
        "piece 2: COMPLETED, 1",
        "end: COMPLETED, 1",
        "quick: COMPLETED, 1",
        "after: COMPLETED, 1",
    ]
    assert lines == [*told, *told, "[9, 9, 0, 0]"]


STREAM = """
def stream(name, count):
    for number in range(count):
        if number == %d:
            os.kill(os.getpid(), signal.SIGKILL)
        yield dagron.DynamicNodeSpec(f"piece {number}", quick, [name], ["end"])


async def async_stream(name, count):
    for spec in stream(name, count):
        yield spec


async def source():
    return 3


def life():
    builder = dagron.DAG.builder().add_node("source", policy=dagron.NodePolicy(window=1))
    dag = builder.add_edge("source", "end").build()
    tasks = {"source": source, "end": quick}
    with dagron.Journal(path, max_recoveries=2) as journal:
        executor = dagron.DynamicExecutor(dag, {"source": %s}, journal=journal)
        result = executor.execute_sync(tasks, run_id="a", backend=backend)
    for name, node in result.node_results.items():
        is_poisoned = "was at work each of the 2 times" in str(node.error)
        say(f"{name}: {node.status}{', poisoned' * is_poisoned}")

"""


@BOTH
@needs_fork
@pytest.mark.parametrize("at", [0, 2])
@pytest.mark.parametrize("kind", ["stream", "async_stream"])
def test_a_stream_that_kills_its_process_is_poisoned(
    path: Path, backend: str, at: int, kind: str
) -> None:
    """A stream that kills its process, at once or after some children, is tried so often as
    `max_recoveries` says, and fails in the next life; the children that it has added have run.
    """
    with program(PRELUDE + STREAM % (at, kind) + LIVES % 2, backend, str(path)) as lives:
        status, lines, errors = lives.end()
    assert (status, errors) == (0, "")
    told = [
        "source: FAILED, poisoned",
        *(f"piece {number}: COMPLETED" for number in range(at)),
        "end: SKIPPED",
    ]
    # Whether the process dies before it is written that the task has returned is a matter of luck.
    assert lines[:-1] == [*told, *told]
    assert lines[-1] in ("[9, 9, 0, 0]", "[9, 9, 9, 0, 0]")


CROWD = """
async def quick():
    await anyio.lowlevel.checkpoint()
    return 0


async def kills():
    os.kill(os.getpid(), signal.SIGKILL)


def sync():
    return 0


def life():
    builder = dagron.DAG.builder()
    for number in range(9):
        builder.add_node(f"node {number}", policy=dagron.NodePolicy(priority=-number))
    tasks = {f"node {number}": sync if number %% 2 else quick for number in range(9)}
    tasks["node 4"] = kills
    with dagron.Journal(path) as journal:
        executor = dagron.DynamicExecutor(builder.build(), journal=journal, %s)
        result = executor.execute_sync(tasks, run_id="a", backend=backend)
    say([name for name, node in result.node_results.items() if str(node.status) != "COMPLETED"])
    say(str(result["node 4"].error).splitlines()[0])

"""


@BOTH
@needs_fork
@pytest.mark.parametrize("settings", ["max_workers=9", "max_concurrency=3", "max_workers=1"])
def test_who_was_beside_the_one_that_kills_the_process_is_not_poisoned(
    path: Path, backend: str, settings: str
) -> None:
    """Nodes that were at work at all crashes but the last run one at a time: the one that kills the
    process fails alone, and all that were at work beside it complete.
    """
    with program(PRELUDE + CROWD % settings + LIVES % 1, backend, str(path)) as lives:
        status, lines, errors = lives.end()
    assert (status, errors) == (0, "")
    assert lines == [
        "['node 4']",
        "node 'node 4' was at work each of the 3 times when the process died",
        "[9, 9, 9, 0]",
    ]


FULL_DISK = """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def room(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


async def slow():
    tries.append(1)
    if len(tries) < 4:
        await anyio.sleep_forever()


async def quick():
    room(1)
    return 0


tries = []
dag = dagron.DAG.builder().add_node("slow").add_node("quick").build()
for life in range(3):
    with dagron.Journal(path, max_recoveries=2) as journal:
        executor = dagron.DynamicExecutor(dag, journal=journal)
        try:
            executor.execute_sync({"slow": slow, "quick": quick}, run_id="a", backend=backend)
        except dagron.JournalError as error:
            room(resource.RLIM_INFINITY)
            say(str(error).splitlines()[0].partition(":")[0])
with dagron.Journal(path, max_recoveries=2) as journal:
    executor = dagron.DynamicExecutor(dag, journal=journal)
    tasks = {"slow": slow, "quick": lambda: 0}
    result = executor.execute_sync(tasks, run_id="a", backend=backend)
    say([str(node.status) for node in result.node_results.values()])
"""


@BOTH
def test_nobody_is_to_blame_for_a_full_disk(path: Path, backend: str) -> None:
    """A run that its journal ends, again and again, is no crash: whoever was at work then runs."""
    source = "import resource\n" + PRELUDE + FULL_DISK
    with program(source, backend, str(path)) as lives:
        status, lines, errors = lives.end()
    assert (status, errors) == (0, "")
    assert lines[:-1] == [lines[0]] * 3
    assert lines[-1] == "['COMPLETED', 'COMPLETED']"


# --- Ctrl-C --------------------------------------------------------------------------------------

TWICE = """
gate, ended, in_flight = threading.Event(), threading.Event(), threading.Event()


def blocked():
    in_flight.set()
    gate.wait()
    ended.set()
    return "too late"


async def on_loop():
    await anyio.to_thread.run_sync(in_flight.wait)
    try:
        say("in flight")  # trio may interrupt right here
        await anyio.sleep_forever()
    finally:
        say("tidied")


dag = dagron.DAG.builder().add_edge("quick", "thread").add_edge("quick", "loop").build()
dag = dag.to_builder().add_edge("thread", "end").add_edge("loop", "end").build()


def execute(journal, thread, loop):
    executor = dagron.DynamicExecutor(dag, journal=journal)
    tasks = {"quick": quick, "thread": thread, "loop": loop, "end": quick}
    return executor.execute_sync(tasks, run_id="a", backend=backend)


journal = dagron.Journal(path)
try:
    execute(journal, blocked, on_loop)
except KeyboardInterrupt:
    say("interrupted")
%s
with dagron.Journal(path) as another:
    result = execute(another, lambda: "in time", quick)
say([(name, str(node.status), node.attempts) for name, node in result.node_results.items()])
say(result["thread"].result)
gate.set()
ended.wait(30)
journal.close()
"""


@BOTH
@pytest.mark.parametrize("close", ["journal.close()", ""])
def test_ctrl_c_twice_and_a_journal_still_opens(path: Path, backend: str, close: str) -> None:
    """After a second Ctrl-C, while a thread of the run goes on, the run is let go, with or without
    its journal being closed, and goes on by another one; what the thread returns is dropped.
    """
    with program(PRELUDE + TWICE % close, backend, str(path)) as process:
        process.wait_for("in flight")
        process.signal(signal.SIGINT)
        process.wait_for("tidied")
        process.signal(signal.SIGINT)
        process.wait_for("interrupted")
        status, lines, errors = process.end()
    assert (status, errors) == (0, "")
    assert lines == [
        "[('quick', 'COMPLETED', 1), ('thread', 'COMPLETED', 1), ('loop', 'COMPLETED', 1), "
        "('end', 'COMPLETED', 1)]",
        "in time",
    ]
