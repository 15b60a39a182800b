"""Measure what runners cost: Dask beside bare Dask, bytes through the driver, two processes.

python benchmarks/runners.py [--repeats N] [--only dask|bytes|process]

It starts its own cluster on loopback: a scheduler and two workers of one thread each.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import dagron
from away import cluster
from dagron.runners import DaskRunner, ProcessRunner

NODES = 2_000
WIDTH = 100  # nodes of a layer
SECONDS = 0.005
MEGABYTES = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5, help="what counts is the smallest")
    parser.add_argument("--only", choices=("dask", "bytes", "process"), action="append")
    options = parser.parse_args()
    chosen = options.only or ["dask", "bytes", "process"]
    if "process" in chosen:
        measure_processes(options.repeats)
    if {"dask", "bytes"} & {*chosen}:
        with tempfile.TemporaryDirectory() as folder, cluster(Path(folder)) as there:
            if "bytes" in chosen:
                measure_bytes(there.address)
            if "dask" in chosen:
                measure_dask(there.address, options.repeats)


# -- Dask beside bare Dask


def layers() -> dict[str, list[str]]:
    """Each node of a layer depends on three of the layer before."""
    names = [[f"n{row}.{column}" for column in range(WIDTH)] for row in range(NODES // WIDTH)]
    graph: dict[str, list[str]] = {name: [] for name in names[0]}
    for before, row in pairwise(names):
        for column, name in enumerate(row):
            graph[name] = [before[(column + shift) % WIDTH] for shift in range(3)]
    return graph


def work(*results: Any) -> None:
    time.sleep(SECONDS)


def wait(inputs: dict[str, Any]) -> None:
    time.sleep(SECONDS)


def start() -> None:
    time.sleep(SECONDS)


def by_hand(address: str, graph: dict[str, list[str]]) -> float:
    """The same graph, submitted at once, with futures for dependencies."""
    from distributed import Client

    with Client(address, set_as_default=False) as client:
        began = time.perf_counter()
        futures: dict[str, Any] = {}
        for name, sources in graph.items():
            futures[name] = client.submit(work, *[futures[s] for s in sources], pure=False)
        client.gather([*futures.values()])
        return time.perf_counter() - began


def by_dagron(address: str, graph: dict[str, list[str]]) -> float:
    builder = dagron.DAG.builder()
    for name, sources in graph.items():
        builder.add_node(name)
        for source in sources:
            builder.add_edge(source, name)
    dag = builder.build()
    tasks = {name: wait if sources else start for name, sources in graph.items()}

    async def run() -> float:
        async with DaskRunner(address) as runner:
            executor = dagron.DynamicExecutor(dag, runners={"dask": runner}, runner="dask")
            began = time.perf_counter()
            result = await executor.execute(tasks)
            took = time.perf_counter() - began
        assert result.ok
        return took

    return asyncio.run(run())


def measure_dask(address: str, repeats: int) -> None:
    graph = layers()
    bare, ours = [], []
    for _ in range(repeats):
        bare.append(by_hand(address, graph))
        ours.append(by_dagron(address, graph))
    print(f"{NODES:,} nodes of {SECONDS * 1000:g} ms, layers of {WIDTH}, on two Dask workers")
    print(f"  bare submit  {min(bare):6.2f} s")
    print(f"  dagron       {min(ours):6.2f} s   {min(ours) / min(bare):.2f}x (at most 1.2x)")


# -- bytes through the driver


class Counter:
    """A server between this program and the scheduler that counts what goes through."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition("/")[2].rpartition(":")
        self._target = host, int(port)
        self.bytes = 0
        self.address = ""

    async def serve(self, ready: threading.Event) -> None:
        server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self.address = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        await server.serve_forever()

    async def _pass_on(self, reader: Any, writer: Any) -> None:
        there, back = await asyncio.open_connection(*self._target)
        await asyncio.gather(self._copy(reader, back), self._copy(there, writer))

    async def _copy(self, reader: Any, writer: Any) -> None:
        while data := await reader.read(1 << 16):
            self.bytes += len(data)
            writer.write(data)
            await writer.drain()
        writer.close()


@contextmanager
def counted(address: str) -> Iterator[Counter]:
    counter, ready = Counter(address), threading.Event()
    threading.Thread(target=asyncio.run, args=[counter.serve(ready)], daemon=True).start()
    ready.wait()
    yield counter


def stage(inputs: dict[str, Any]) -> Any:
    import numpy

    (before,) = inputs.values()
    return numpy.asarray(before) + 1.0


def first() -> Any:
    import numpy

    return numpy.zeros(MEGABYTES * 1_000_000 // 8)


def total(inputs: dict[str, Any]) -> float:
    return float(sum(array.sum() for array in inputs.values()))


def measure_bytes(address: str) -> None:
    builder = dagron.DAG.builder()
    for source, target in (("one", "two"), ("two", "three"), ("three", "sum")):
        builder.add_edge(source, target)
    tasks = {"one": first, "two": stage, "three": stage, "sum": total}
    with counted(address) as counter:
        big = DaskRunner(counter.address)
        executor = dagron.DynamicExecutor(
            builder.build(), runners={"big": big}, runner="big", keep="leaves"
        )
        result = executor.execute_sync(tasks)
        result.raise_for_failures()
    assert result["sum"].result == 2.0 * MEGABYTES * 1_000_000 // 8
    print(f"three stages that hand {MEGABYTES} MB on, and a sum")
    print(f"  through the driver  {counter.bytes / 1e6:.3f} MB (under 1 MB)")


# -- processes


def count_up() -> int:
    number = 0
    for value in range(3_000_000):
        number += value & 1
    return number


def in_processes(count: int) -> float:
    names = [f"n{number}" for number in range(16)]
    builder = dagron.DAG.builder()
    for name in names:
        builder.add_node(name)
    dag = builder.build()

    async def run() -> float:
        async with ProcessRunner(count) as runner:
            executor = dagron.DynamicExecutor(dag, runners={"cpu": runner}, runner="cpu")
            await executor.execute(dict.fromkeys(names, int))  # the processes are there
            began = time.perf_counter()
            result = await executor.execute(dict.fromkeys(names, count_up))
            assert result.ok
            return time.perf_counter() - began

    return asyncio.run(run())


def measure_processes(repeats: int) -> None:
    def least(measure: Callable[[], float]) -> float:
        return min(measure() for _ in range(repeats))

    one, two = least(lambda: in_processes(1)), least(lambda: in_processes(2))
    print("16 nodes that keep a processor busy")
    print(f"  one process    {one:6.2f} s")
    print(f"  two processes  {two:6.2f} s   {one / two:.2f}x (at least 1.8x)")


if __name__ == "__main__":
    main()
