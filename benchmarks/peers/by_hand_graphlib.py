"""The standard library's `graphlib`: its documentation's loop of get_ready, a queue and done."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from graphlib import TopologicalSorter
from queue import SimpleQueue
from typing import Any

from benchmarks.peers import LIMIT, STATIC, WORKERS, Way
from benchmarks.peers._work import Work

NAME = "graphlib by hand"
REQUIRES = ("anyio>=4.14.2,<5",)
DISTRIBUTION = ""
IMPORT = "graphlib"


def cases() -> dict[str, Way | str]:
    no = "a sorter takes no nodes once it is prepared"
    ways: dict[str, Way | str] = {"chained async": no, "chained sync": no}
    for kind, prepare in (("async", in_loop), ("sync", in_threads)):
        ways |= {f"{shape} {kind}": Way(prepare) for shape in ("chain", "layers")}
        ways[f"fan {kind}"] = Way(prepare, STATIC)
    ways["io"] = Way(in_loop, STATIC, kind="async")
    ways["uneven"] = Way(in_loop, kind="async")
    return ways


def sorter_of(work: Work) -> TopologicalSorter[int]:
    sorter = TopologicalSorter(dict(enumerate(work.dependencies)))
    sorter.prepare()
    return sorter


async def in_loop(work: Work) -> Any:
    sorter, tasks = sorter_of(work), [work.task(number) for number in work.nodes]
    limit = asyncio.Semaphore(LIMIT)

    async def run() -> int:
        results: dict[int, int] = {}
        finished: asyncio.Queue[int] = asyncio.Queue()

        async def node(number: int) -> None:
            if work.workload == "io":
                async with limit:
                    results[number] = await tasks[number]()
            else:
                results[number] = await tasks[number]()
            finished.put_nowait(number)

        async with asyncio.TaskGroup() as group:
            while sorter.is_active():
                for number in sorter.get_ready():
                    group.create_task(node(number))
                sorter.done(await finished.get())
        return sum(results.values())

    return run


def in_threads(work: Work) -> Any:
    sorter, tasks = sorter_of(work), [work.task(number) for number in work.nodes]

    def run() -> int:
        results: dict[int, int] = {}
        finished: SimpleQueue[int] = SimpleQueue()

        def node(number: int) -> None:
            results[number] = tasks[number]()
            finished.put(number)

        with ThreadPoolExecutor(WORKERS) as pool:
            while sorter.is_active():
                for number in sorter.get_ready():
                    pool.submit(node, number)
                sorter.done(finished.get())
        return sum(results.values())

    return run
