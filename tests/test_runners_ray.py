"""RayRunner: results that stay at Ray, workers that are lost, bodies that are interrupted."""

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pytest

import dagron
from away import Marks, dies, missing, one, ray_started
from controls import graph, statuses
from dagron import DynamicExecutor, NodePolicy, Retry, RunnerError, WorkerLostError
from ways import GUARD

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


async def test_a_task_that_a_worker_cannot_import_is_named(tmp_path: Path) -> None:
    """A module that is missing there fails the node with what is missing."""
    (tmp_path / "only_in_the_driver.py").write_text("def task():\n    return 1\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        import only_in_the_driver

    error = (await ran(runner(), {"a": only_in_the_driver.task}))["a"].error
    assert isinstance(error, dagron.NotPicklableError)
    assert (error.node, "only_in_the_driver" in str(error)) == ("a", True)


def test_it_says_that_it_needs_asyncio() -> None:
    """On trio the run ends with an error that says so, before anything runs."""
    with pytest.raises(RunnerError, match="works on asyncio"):
        executor(runner(), "", a=None).execute_sync({"a": one}, backend="trio")


@pytest.mark.parametrize("options", [{"address": 5}, {"slots": 0}, {"carry": ["x"]}])
def test_wrong_arguments_are_refused(options: dict[str, Any]) -> None:
    """What cannot be is refused where it is written."""
    with pytest.raises((TypeError, ValueError), match=r"help:"):
        runner(**options)
