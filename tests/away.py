"""Nodes that run elsewhere: where that is, how they tell of themselves, and a Dask cluster."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import anyio.lowlevel
import pytest

import dagron
from dagron import DAG, DynamicExecutor, NodePolicy
from ways import GUARD

ROOT = Path(__file__).resolve().parents[1]
VARIABLE: ContextVar[str] = ContextVar("VARIABLE", default="nobody")
HAS = {
    "local": True,
    "process": bool(find_spec("cloudpickle")),
    "dask": bool(find_spec("distributed") and find_spec("cloudpickle")),
    "ray": bool(find_spec("ray") and find_spec("cloudpickle")),
}
GLANCE = 0.002  # between two looks at a file: other processes tell of themselves in no other way


class Marks:
    """Signs that processes leave for each other: files in a folder, which any of them may await."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def set(self, name: str) -> None:
        """Leave a sign, once."""
        (self.folder / name).touch()

    def is_set(self, name: str) -> bool:
        return (self.folder / name).exists()

    def add(self, name: str, content: str = "") -> int:
        """Leave one more sign of this name, and return how many there are."""
        (self.folder / f"{name}.{time.monotonic_ns():020}.{uuid4().hex}").write_text(content)
        return self.count(name)

    def count(self, name: str) -> int:
        return len([*self.folder.glob(f"{name}.*")])

    def contents(self, name: str) -> list[str]:
        """What was left with these signs, in order."""
        return [path.read_text() for path in sorted(self.folder.glob(f"{name}.*"))]

    def wait(self, name: str) -> None:
        """Block until the sign is there: in a body, or where a test may block."""
        end = time.monotonic() + GUARD
        while not self.is_set(name):
            assert time.monotonic() < end, f"nobody has set {name!r}"
            time.sleep(GLANCE)

    async def reached(self, name: str) -> None:
        """Return when the sign is there."""
        with anyio.fail_after(GUARD):
            while not self.is_set(name):  # noqa: ASYNC110 (it is another process that sets it)
                await anyio.sleep(GLANCE)


def is_alive(pid: int) -> bool:
    """Whether there is such a process, other than one that has ended and is still to be read."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


async def dies(pid: int) -> None:
    with anyio.fail_after(GUARD):
        while is_alive(pid):  # noqa: ASYNC110 (it is another process)
            await anyio.sleep(GLANCE)


# -- bodies: of a module, so that workers import them


class Odd(Exception):
    """An error that holds what cannot travel."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")
        self.lock = threading.Lock()


class Rich(Exception):
    """An error with data."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text


@dataclass(frozen=True)
class Point:
    x: int
    y: int = 0
    more: dict[str, int] = field(default_factory=dict, hash=False)


class Adder:
    """A task that is an object."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, a: int) -> int:
        return a + self.number


class Homebound:
    """A value that can be loaded in every process but one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def __reduce__(self) -> Any:
        return _homebound, (self.pid,)


def _homebound(pid: int) -> Homebound:
    if os.getpid() == pid:
        raise LookupError("not in this process")
    return Homebound(pid)


def one() -> int:
    return 1


async def two() -> int:
    await anyio.lowlevel.checkpoint()
    return 2


def boom() -> None:
    raise ValueError("boom")


def holding(marks: Marks, name: str = "go") -> Callable[[], str]:
    """Return a sync body that sets `began`, and returns when it is let go."""

    def hold() -> str:
        marks.set("began")
        marks.wait(name)
        marks.set("ended")
        return "held"

    return hold


def working(marks: Marks) -> Callable[[], None]:
    """Return a sync body that sets `began`, and works until it is cancelled."""

    def work() -> None:
        marks.add("pid", str(os.getpid()))
        marks.set("began")
        while True:
            dagron.check_cancelled()
            time.sleep(GLANCE)

    return work


def sleeping(marks: Marks) -> Callable[[], Any]:
    """Return an async body that sets `began`, and never ends by itself."""

    async def sleep() -> None:
        marks.set("began")
        try:
            await anyio.sleep_forever()
        finally:
            marks.set("cleaned")

    return sleep


def failing(marks: Marks, times: int) -> Callable[[], str]:
    """Return a body that fails so many times."""

    def fail() -> str:
        attempt = marks.add("attempt")
        if attempt <= times:
            raise OSError(f"attempt {attempt}")
        return f"done in attempt {attempt}"

    return fail


def counting(marks: Marks, name: str = "inside") -> Callable[[], None]:
    """Return a body that notes how many are inside at once."""

    def count() -> None:
        path = marks.folder / f"in.{name}.{uuid4().hex}"
        path.touch()
        marks.add(name, str(len([*marks.folder.glob(f"in.{name}.*")])))
        path.unlink()

    return count


def most(marks: Marks, name: str = "inside") -> int:
    return max(int(content) for content in marks.contents(name))


# -- where


@dataclass
class Place:
    """Where the nodes of a test run."""

    where: str
    runner: Any = None
    slots: int | None = None

    @property
    def is_away(self) -> bool:
        return self.runner is not None

    @property
    def kills(self) -> bool:
        """Whether a body that is cancelled is killed."""
        return self.where in ("process", "ray")

    @property
    def options(self) -> dict[str, Any]:
        if self.runner is None:
            return {}
        return {"runners": {self.where: self.runner}, "runner": self.where}

    def executor(
        self, dag: DAG, expanders: Mapping[str, Any] | None = None, **options: Any
    ) -> DynamicExecutor:
        """Return an executor whose nodes run there, unless they say something else."""
        return DynamicExecutor(dag, expanders, **{**self.options, **options})

    def policy(self, **fields: Any) -> NodePolicy:
        """Return a policy of a node there."""
        return NodePolicy(runner=self.where, **fields)


LOCAL_POLICY = NodePolicy(runner="local")


# -- a Dask cluster on loopback


class Cluster:
    """A scheduler and its workers, each a process of this test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self.begin_scheduler()
        self.address = self._address()
        self.workers: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def _file(self) -> str:
        return str(self._folder / "scheduler.json")

    def _start(self, program: str, *arguments: str) -> "subprocess.Popen[bytes]":
        paths = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH")]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE": "False",
        }
        with (self._folder / f"{program}.{len(self._processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{program}", *arguments, "--no-dashboard"],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self._folder,
                env=environment,
            )
        self._processes.append(process)
        return process

    def begin_scheduler(self, port: str = "0") -> None:
        """Begin to start a scheduler: on any port, or on that of one that was killed."""
        self.scheduler = self._start(
            "dask_scheduler",
            *("--host", "127.0.0.1", "--port", port, "--scheduler-file", self._file),
        )

    def _address(self) -> str:
        import json

        end = time.monotonic() + GUARD
        while time.monotonic() < end:
            try:
                address: str = json.loads(Path(self._file).read_text())["address"]
                return address
            except (OSError, ValueError, KeyError):
                time.sleep(0.02)
        raise AssertionError("the scheduler did not begin")

    def add_worker(self, name: str, *arguments: str) -> None:
        """Begin to start a worker of one thread."""
        self.workers[name] = self._start(
            "dask_worker",
            self.address,
            *("--no-nanny", "--nthreads", "1", "--host", "127.0.0.1", "--name", name),
            *arguments,
        )

    def wait_for_workers(self, count: int) -> None:
        from distributed import Client

        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(count, timeout=GUARD)

    def close(self) -> None:
        for process in reversed(self._processes):
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
        for process in self._processes:
            process.wait()


@contextmanager
def cluster(folder: Path, workers: int = 2) -> Iterator[Cluster]:
    """A cluster of workers of one thread each, which have a resource of the name `token`."""
    there = Cluster(folder)
    try:
        for number in range(workers):
            there.add_worker(f"w{number}", "--resources", "token=1")
        if workers:
            there.wait_for_workers(workers)
        yield there
    finally:
        there.close()


@contextmanager
def ray_started() -> Iterator[None]:
    """A Ray of two processors on this machine, as a program starts its own."""
    import ray

    if ray.is_initialized():  # by other tests of this session
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        try:
            yield
            assert ray.is_initialized(), "a runner has shut down what it did not start"
        finally:
            ray.shutdown()


def missing(where: str) -> Any:
    """The mark of tests of a runner that is skipped where its extra is not installed."""
    return pytest.mark.skipif(not HAS[where], reason=f"the extra {where!r} is not installed")
