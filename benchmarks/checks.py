"""Single figures that no scheduler by hand has a counterpart for, each in a fresh process."""

from __future__ import annotations

import gc
import json
import statistics
import sys
import traceback
from itertools import pairwise
from pathlib import Path
from time import process_time, thread_time
from typing import Any

import anyio

import dagron
from benchmarks.cases import make_case
from benchmarks.contenders import dagron_graph

Figures = dict[str, float]


def flat(size: int) -> dagron.DAG:
    """Nodes that are all ready at once."""
    builder = dagron.DAG.builder()
    for i in range(size):
        builder.add_node(f"n{i}")
    return builder.build()


async def ticker(size: int, runs: int = 5) -> Figures:
    """How long a run keeps the host's loop from a ticker of 10 ms, at worst.

    `ready`: all nodes are ready from the start. `released`: one node that ends makes all the others
    ready, in one step. The lateness of one run is the largest CPU time of the loop's thread between
    two ticks, from the start of the first node to the end of the last one: other programs do not
    count.
    """
    ready, released = flat(size), dagron_graph(make_case("fan", "async", size))
    return {
        "ready": statistics.median([await _one_ticker(ready) for _ in range(runs)]),
        "released": statistics.median([await _one_ticker(released) for _ in range(runs)]),
    }


async def _one_ticker(dag: dagron.DAG) -> float:
    names = dag.nodes()
    ticks: list[float] = []
    ends: dict[str, float] = {}

    def task(number: int) -> Any:
        async def noop() -> int:
            return number

        return noop

    def stamp(name: str) -> Any:
        async def stamping() -> None:
            ends[name] = thread_time()

        return stamping

    async def tick() -> None:
        while True:
            await anyio.sleep(0.01)
            ticks.append(thread_time())

    first, last = names[0], names[-1]
    tasks = {name: task(number) for number, name in enumerate(names)}
    tasks |= {first: stamp(first), last: stamp(last)}
    executor = dagron.DynamicExecutor(dag)
    gc.collect()
    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        result = await executor.execute(tasks)
        group.cancel_scope.cancel()
    assert result.succeeded == len(names)
    during = [ends[first], *(t for t in ticks if ends[first] < t < ends[last]), ends[last]]
    return max(after - before for before, after in pairwise(during))


async def cancelling(size: int) -> Figures:
    """CPU seconds from the caller's cancellation until `execute` has raised."""
    dag, started = flat(size), 0
    all_started = anyio.Event()

    async def wait() -> None:
        nonlocal started
        started += 1
        if started == size:
            all_started.set()
        await anyio.sleep_forever()

    execute = dagron.DynamicExecutor(dag).execute
    gc.collect()
    async with anyio.create_task_group() as group:
        group.start_soon(execute, dict.fromkeys(dag.nodes(), wait))
        await all_started.wait()
        start = process_time()
        group.cancel_scope.cancel()
    return {"cpu": process_time() - start}


async def failing(size: int) -> Figures:
    """CPU seconds of a run in which every node fails, and the size of the report in bytes."""
    dag = flat(size)

    async def task() -> None:
        raise RuntimeError("this node always fails")

    executor = dagron.DynamicExecutor(dag)
    gc.collect()
    start = process_time()
    result = await executor.execute(dict.fromkeys(dag.nodes(), task))
    cpu = process_time() - start
    assert result.failed == size
    try:
        result.raise_for_failures()
    except dagron.RunFailedError as error:
        return {"cpu": cpu, "report": len("".join(traceback.format_exception(error)).encode())}
    raise AssertionError("nodes failed, and raise_for_failures() did not raise")


async def many_runs(runs: int) -> Figures:
    """Growth of the resident set from a tenth of the runs to the last; each has a failed node."""
    size = 1_000
    dag = flat(size)
    status = Path("/proc/self/statm")

    async def task() -> None:
        return None

    async def fail() -> None:
        raise RuntimeError("one node fails")

    tasks = dict.fromkeys(dag.nodes(), task) | {"n7": fail}
    executor = dagron.DynamicExecutor(dag)
    resident: list[int] = []
    for run in range(1, runs + 1):
        result = await executor.execute(tasks)
        assert (result.succeeded, result.failed) == (size - 1, 1)
        if status.exists() and run in (max(1, runs // 10), runs):
            resident.append(int(status.read_text().split()[1]) * 4096)
    return {"growth": resident[-1] - resident[0]} if resident else {}


if __name__ == "__main__":
    figure = {
        "ticker": ticker,
        "cancelling": cancelling,
        "failing": failing,
        "many_runs": many_runs,
    }[sys.argv[1]]
    print(json.dumps(anyio.run(figure, int(sys.argv[2]))))
