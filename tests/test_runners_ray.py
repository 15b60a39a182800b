"""RayRunner: results that stay at Ray, workers that are lost, bodies that are interrupted."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pytest

import dagron
from away import ROOT, Homebound, Marks, dies, holding, missing, one, ray_started
from controls import graph, statuses
from dagron import DynamicExecutor, NodePolicy, Retry, RunnerError, WorkerLostError
from dagron._runner import Call
from ways import GUARD, passes

pytestmark = missing("ray")


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return "asyncio", {"use_uvloop": False}


@pytest.fixture(scope="session", autouse=True)
def ray_here() -> Iterator[None]:
    """A Ray that is the program's own."""
    with ray_started():
        yield


@pytest.fixture
def marks(tmp_path: Path) -> Marks:
    return Marks(tmp_path)


def runner(**options: Any) -> Any:
    from dagron.runners import RayRunner

    return RayRunner(**options)


def executor(on: Any, edges: str = "", /, *, options: Any = None, **policies: Any) -> Any:
    dag = graph(edges, **policies)
    return DynamicExecutor(dag, runners={"big": on}, runner="big", **(options or {}))


async def ran(on: Any, tasks: dict[str, Any], edges: str = "", **options: Any) -> Any:
    with anyio.fail_after(2 * GUARD):
        policies = dict.fromkeys(tasks)
        return await executor(on, edges, options=options, **policies).execute(tasks)


async def test_results_that_are_passed_on_are_not_fetched() -> None:
    """Of three stages that hand 5 MB on, only the last result, a number, comes here."""
    from dagron.runners import RayRunner

    class Watched(RayRunner):
        fetched: ClassVar[list[int]] = []

        async def fetch(self, results: Sequence[Any]) -> Sequence[Any]:
            self.fetched.append(len(results))
            return await super().fetch(results)

    tasks = {"a": lambda: bytes(5_000_000), "b": lambda a: a + b"!", "c": lambda b: len(b)}
    result = await ran(Watched(), tasks, "a>b b>c", keep="leaves")
    assert result["c"].result == 5_000_001
    assert Watched.fetched == [1]


async def test_a_worker_that_dies_fails_its_node(marks: Marks) -> None:
    """It is FAILED with WorkerLostError, and tried again as its policy says, in another process."""

    def die_once() -> str:
        if marks.add("attempt") == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return "alive"

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    retry = NodePolicy(retry=Retry(attempts=2, initial_delay=0))
    with anyio.fail_after(2 * GUARD):
        result = await executor(runner(), "", a=None, b=retry, c=None).execute(
            {"a": die, "b": die_once, "c": one}
        )
    assert statuses(result) == {"a": "FAILED", "b": "COMPLETED", "c": "COMPLETED"}
    for error in (result["a"].error, result["b"].errors[0]):
        assert isinstance(error, WorkerLostError)
    assert result["a"].error.node == "a"


async def test_a_body_that_is_cancelled_is_killed(marks: Marks) -> None:
    """A body that asks nothing ends with its process, and the next node has its slot."""

    def work() -> None:
        marks.add("pid", str(os.getpid()))
        marks.set("began")
        while True:
            pass

    with anyio.fail_after(2 * GUARD):
        dag = executor(runner(slots=1), "", a=NodePolicy(priority=1), b=None)
        async with dag.start({"a": work, "b": os.getpid}) as run:
            await marks.reached("began")
            run.cancel_node("a")
        result = await run.wait()
    assert statuses(result) == {"a": "CANCELLED", "b": "COMPLETED"}
    pid = int(marks.contents("pid")[0])
    assert result["b"].result != pid
    await dies(pid)


async def test_resources_pass_through(marks: Marks) -> None:
    """A body may take two processors; one that asks for what nobody has waits, and is cancelled."""
    two = NodePolicy(resources={"CPU": 2})
    assert (await ran(runner(num_cpus=0.5), {"a": one, "b": one}, policy=two)).ok
    with anyio.fail_after(GUARD):
        dag = executor(runner(), "", a=NodePolicy(resources={"unheard": 1}), b=None)
        async with dag.start({"a": one, "b": one}) as run:
            async for name, _ in run.completed():
                assert name == "b"
                run.cancel_node("a")
        result = await run.wait()
    assert statuses(result) == {"a": "CANCELLED", "b": "COMPLETED"}


class Told:
    """A line from a call, which notes what it hears in a list for several calls."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log
        self.is_placed = anyio.Event()

    def queued(self) -> None:
        self.log.append(f"{self.name} queued")

    def placed(self, worker: str) -> None:
        self.log.append(f"{self.name} placed")
        self.is_placed.set()

    def took(self, seconds: float) -> None:
        assert seconds >= 0


async def test_a_call_tells_when_its_body_begins(marks: Marks) -> None:
    """In line for processors that another body has, it is queued, and no time of it counts."""
    log: list[str] = []
    first, second = Told("a", log), Told("b", log)

    def call(line: Any, function: Any) -> Call:
        return Call(function, (), {}, "run", line.name, 1, {"CPU": 2}, 0, None, line)

    with anyio.fail_after(2 * GUARD):
        async with runner() as on, anyio.create_task_group() as group:
            group.start_soon(on.run, call(first, holding(marks)))
            await first.is_placed.wait()
            group.start_soon(on.run, call(second, one))
            await passes()
            log.append("a ends")
            marks.set("go")
    assert log == ["a queued", "a placed", "b queued", "a ends", "b placed"]


async def test_what_no_machine_has_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """Once in a run for each resource; the nodes wait, for a machine may come that has it."""
    lacking = NodePolicy(resources={"unheard": 1})
    both = NodePolicy(resources={"unheard": 1, "CPU": 64})
    dag = executor(runner(slots=4), "", a=lacking, b=lacking, c=both, d=None)
    with anyio.fail_after(GUARD):
        async with dag.start(dict.fromkeys("abcd", one)) as run:
            async for _ in run.completed():
                for name in "abc":
                    run.cancel_node(name)
    told = sorted(record.getMessage().partition("waits at ")[2] for record in caplog.records)
    assert told == [
        "Ray for 1 of the resource 'unheard', of which no machine has more than 0",
        "Ray for 64 of the resource 'CPU', of which no machine has more than 2",
    ]


# --- the one Ray of a process ------------------------------------------------------------------


def own_ray(program: str, folder: Path) -> list[str]:
    """Return what a program of its own prints, which has no Ray unless a runner starts one."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    path = folder / "program.py"
    path.write_text(OWN_RAY + program)
    ran = subprocess.run(
        [sys.executable, str(path), str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=3 * GUARD,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


OWN_RAY = """
import pathlib, sys
import anyio, ray
import dagron
from away import Marks, holding
from controls import graph
from dagron.runners import RayRunner

marks = Marks(pathlib.Path(sys.argv[1]))
options = {"num_cpus": 1, "log_to_driver": False}

async def ran(task):
    runners = {"ray": RayRunner(options=options)}
    executor = dagron.DynamicExecutor(graph("", a=None), runners=runners, runner="ray")
    try:
        print((await executor.execute({"a": task}))["a"].result)
    except dagron.RunnerLostError as error:
        print(type(error).__name__, error.node)
"""


def test_the_last_runner_shuts_the_ray_down_that_the_first_has_started(tmp_path: Path) -> None:
    """A run goes on when the runner is left that has started Ray, and then Ray is shut down."""
    program = """
async def main():
    first = RayRunner(options=options)
    async with anyio.create_task_group() as group:
        async with first:
            group.start_soon(ran, holding(marks))
            await marks.reached("began")
        marks.set("go")
    print(ray.is_initialized())

anyio.run(main)
"""
    assert own_ray(program, tmp_path) == ["held", "False"]


def test_a_ray_that_is_shut_down_meanwhile_ends_the_run(tmp_path: Path) -> None:
    """The run raises RunnerLostError, which names a node, and no other Ray is started for it."""
    program = """
async def main():
    async with anyio.create_task_group() as group:
        group.start_soon(ran, holding(marks))
        await marks.reached("began")
        ray.shutdown()
    print(ray.is_initialized())

anyio.run(main)
"""
    assert own_ray(program, tmp_path) == ["RunnerLostError", "a", "False"]


class FakeRay:
    """Stands for `ray`: one at a time in a process."""

    def __init__(self) -> None:
        self.number = 0
        self.is_here = False

    def is_initialized(self) -> bool:
        return self.is_here

    def init(self, address: str | None) -> None:
        self.number, self.is_here = self.number + 1, True

    def shutdown(self) -> None:
        self.is_here = False

    def get_node_id(self) -> str:
        return str(self.number)

    get_job_id = get_node_id


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    from dagron.runners import _one_ray

    fake = FakeRay()
    monkeypatch.setattr(_one_ray, "ray", fake)
    monkeypatch.setattr(_one_ray, "get_runtime_context", lambda: fake)
    return fake


def test_who_joins_a_ray_that_a_runner_has_started_keeps_it(fake: FakeRay) -> None:
    """It is there until all have left who have joined, and the next one starts another."""
    from dagron.runners._one_ray import join, leave

    here = join(None, {})
    assert join(None, {}) == here
    leave(here)
    assert fake.is_here
    leave(here)
    assert not fake.is_here
    assert join(None, {}) != here


def test_a_ray_of_the_program_is_never_shut_down(fake: FakeRay) -> None:
    """Neither one that was there before, nor one that took the place of a runner's own."""
    from dagron.runners._one_ray import join, leave

    fake.init(None)
    leave(join(None, {}))
    assert fake.is_here
    fake.shutdown()
    ours = join(None, {})
    fake.shutdown()
    fake.init(None)
    leave(ours)
    assert fake.is_here


async def test_a_task_that_a_worker_cannot_import_is_named(tmp_path: Path) -> None:
    """A module that is missing there fails the node with what is missing."""
    (tmp_path / "only_in_the_driver.py").write_text("def task():\n    return 1\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        import only_in_the_driver

    error = (await ran(runner(), {"a": only_in_the_driver.task}))["a"].error
    assert isinstance(error, dagron.NotPicklableError)
    assert (error.node, "only_in_the_driver" in str(error)) == ("a", True)


async def test_a_result_that_cannot_be_loaded_here_is_lost_here() -> None:
    """Nodes at Ray get it; to ask for it here raises what the attempt to load it has raised."""
    pid = os.getpid()
    result = await ran(runner(), {"a": lambda: Homebound(pid), "b": lambda a: a.pid}, "a>b")
    assert result["b"].result == pid
    with pytest.raises(dagron.NotPicklableError, match="cannot be loaded here") as caught:
        result["a"].result  # noqa: B018
    assert (caught.value.node, caught.value.what) == ("a", "its result")
    assert "LookupError: not in this process" in str(caught.value)


async def test_an_error_that_cannot_be_loaded_here_fails_its_node() -> None:
    """It is FAILED with that."""
    pid = os.getpid()

    def fail() -> None:
        raise ValueError(Homebound(pid))

    error = (await ran(runner(), {"a": fail}))["a"].error
    assert isinstance(error, dagron.NotPicklableError)
    assert (error.node, error.what) == ("a", "its error")


def test_it_says_that_it_needs_asyncio() -> None:
    """On trio the run ends with an error that says so, before anything runs."""
    with pytest.raises(RunnerError, match="works on asyncio"):
        executor(runner(), "", a=None).execute_sync({"a": one}, backend="trio")


@pytest.mark.parametrize(
    "options", [{"address": 5}, {"address": "ray://x"}, {"slots": 0}, {"carry": ["x"]}]
)
def test_wrong_arguments_are_refused(options: dict[str, Any]) -> None:
    """What cannot be is refused where it is written."""
    with pytest.raises((TypeError, ValueError), match=r"help:"):
        runner(**options)
