"""What the tests of faults share: graphs in one line, loops that count their passes, programs."""

import asyncio
import gc
import os
import selectors
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import anyio
import pytest
import trio
from anyio.lowlevel import checkpoint

import dagron
from conftest import BACKENDS
from dagron._scheduler import Scheduler

ROOT = Path(__file__).resolve().parents[1]

# Guards against hanging: none is waited for in full by a test that passes.
GUARD = 10.0

# A parameter for async tests about asyncio's own cancellation, and for those about two threads.
ON_ASYNCIO = pytest.mark.parametrize(
    "anyio_backend", [p for p in BACKENDS if p.values[0][0] == "asyncio"]
)


def graph(*nodes: str, edges: str = "") -> dagron.DAG:
    """A DAG of these nodes, and of edges written as ``"a-b b-c"``."""
    builder = dagron.DAG.builder()
    for name in nodes:
        builder = builder.add_node(name)
    for edge in edges.split():
        source, _, target = edge.partition("-")
        builder = builder.add_edge(source, target)
    return builder.build()


async def run(
    dag: dagron.DAG,
    tasks: Mapping[str, Callable[..., Any]],
    expanders: Mapping[str, Callable[..., Any]] | None = None,
    **options: Any,
) -> dagron.ExecutionResult:
    """Execute, under a guard against hanging."""
    with anyio.fail_after(GUARD):
        return await dagron.DynamicExecutor(dag, expanders, **options).execute(tasks)


async def passes(count: int) -> None:
    """Let the event loop turn this often."""
    for _ in range(count):
        await checkpoint()


async def until(condition: Callable[[], object]) -> None:
    """Let the event loop turn until the condition holds."""
    with anyio.fail_after(GUARD):
        while not condition():
            await checkpoint()


def hold(gate: threading.Event) -> None:
    """Block a worker thread until the gate opens."""
    assert gate.wait(GUARD), "the gate of a thread stayed shut"


class Alive:
    """Counts what runs inside its blocks, in any thread, and the most that ever did at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = self.most = self.total = 0

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.total += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self.now -= 1


@contextmanager
def new_objects_only() -> Iterator[Callable[..., list[object]]]:
    """Give a function that returns the state of runs which something still refers to.

    What existed before the block is hidden from the garbage collector: it has less to do, and finds
    nothing of an earlier test. A worker thread that has told of its result lets go of what it ran
    only afterwards, when it gets its turn: so the function looks again until there is no more than
    expected. The event loop does not turn meanwhile, so nothing else becomes less.
    """

    def alive(expected: int = 0) -> list[object]:
        end = time.monotonic() + GUARD
        while True:
            gc.collect()
            found = [thing for thing in gc.get_objects() if type(thing) in (Scheduler, Canary)]
            if len(found) <= expected or time.monotonic() > end:
                return found
            del found  # which would keep them

    gc.freeze()
    try:
        yield alive
    finally:
        gc.unfreeze()


class Canary(list[int]):
    """What a node returns: it is alive as long as its run's results are."""


# -- counted loops


class Passes:
    """Counts the passes of an event loop, and knows when the loop has nothing to do."""

    def __init__(self) -> None:
        self.count = 0
        self.idle = threading.Event()  # set when the loop is about to block

    def take(self, timeout: float | None) -> None:
        self.count += 1
        if timeout is None or timeout > 0:
            self.idle.set()


class _CountingSelector(selectors.DefaultSelector):
    def __init__(self, passes: Passes) -> None:
        super().__init__()
        self._passes = passes

    def select(self, timeout: float | None = None) -> list[Any]:
        self._passes.take(timeout)
        return super().select(timeout)


class _CountingInstrument(trio.abc.Instrument):
    def __init__(self, passes: Passes) -> None:
        self._passes = passes

    def before_io_wait(self, timeout: float) -> None:
        self._passes.take(timeout)


def run_counted(backend: str, function: Callable[[Passes], Awaitable[Any]]) -> Any:
    """Run an async function of the counter of its loop's passes, from a sync test."""
    passes = Passes()
    options: dict[str, Any] = {"instruments": [_CountingInstrument(passes)]}
    if backend == "asyncio":
        options = {"loop_factory": lambda: asyncio.SelectorEventLoop(_CountingSelector(passes))}
    return anyio.run(function, passes, backend=backend, backend_options=options)


# -- programs


class Program:
    """A Python program in a process of its own, which prints what it does line by line."""

    def __init__(self, source: str, *arguments: str, **environment: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", dedent(source), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        )
        self._guard = threading.Timer(4 * GUARD, self._process.kill)
        self._guard.daemon = True
        self._guard.start()
        self._last: deque[str] = deque(maxlen=20)
        assert self._process.stdout is not None
        self._out: Iterator[str] = iter(self._process.stdout)

    @property
    def pid(self) -> int:
        return self._process.pid

    def line(self) -> str:
        """Return the next line that the program prints."""
        self._last.append(next(self._out, "").rstrip("\n"))
        return self._last[-1]

    def wait_for(self, line: str) -> None:
        """Return when the program prints this line."""
        for printed in self._out:
            self._last.append(printed.rstrip("\n"))
            if self._last[-1] == line:
                return
        self._process.wait()
        errors = self._process.stderr.read() if self._process.stderr else ""
        raise AssertionError(f"no line {line!r}, but {list(self._last)}\n{errors}")

    def signal(self, signum: int) -> None:
        self._process.send_signal(signum)

    def tell(self, line: str) -> None:
        """Write a line to the program's standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def end(self) -> tuple[int, list[str], str]:
        """Wait for the end; return the exit status, the lines left to read, and standard error."""
        lines = [line.rstrip("\n") for line in self._out]
        assert self._process.stderr is not None
        errors = self._process.stderr.read()
        return self._process.wait(), lines, errors

    def close(self) -> None:
        """Kill the program, if it has not ended."""
        self._guard.cancel()
        with self._process:  # closes its pipes and waits
            self._process.kill()


@contextmanager
def program(source: str, *arguments: str, **environment: str) -> Iterator[Program]:
    """Start a program, and see to it that it ends."""
    started = Program(source, *arguments, **environment)
    try:
        yield started
    finally:
        started.close()
