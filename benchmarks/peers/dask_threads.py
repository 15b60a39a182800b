"""Dask's threaded scheduler, docs.dask.org: "Specification" (a graph is a dict) and "Scheduling".

A dict, and not `dask.delayed`: each delayed call copies what is known of the graphs before it, so
that a long chain takes quadratic time to build.
"""

from __future__ import annotations

from typing import Any

from benchmarks.peers import LIMIT, SHAPES, STATIC, WORKERS, Way
from benchmarks.peers._work import BRANCHES, Work

NAME = "Dask, threads"
REQUIRES = ("dask[distributed]",)
DISTRIBUTION = "dask"
IMPORT = "dask.threaded"


def cases() -> dict[str, Way | str]:
    no_async = "a task is a plain function: what a coroutine function returns is not awaited"
    ways: dict[str, Way | str] = {f"{shape} async": no_async for shape in SHAPES}
    return ways | {
        "chain sync": Way(prepare),
        "fan sync": Way(prepare, STATIC),
        "layers sync": Way(prepare),
        "chained sync": "a graph cannot grow while it runs",
        "io": Way(prepare, STATIC, kind="sync"),
        "uneven": Way(prepare, kind="sync"),
    }


def prepare(work: Work) -> Any:
    from dask.threaded import get

    def node(number: int) -> Any:
        task = work.task(number)
        return lambda *dependencies: task()

    graph = {
        f"n{number}": (node(number), *(f"n{dependency}" for dependency in dependencies))
        for number, dependencies in enumerate(work.dependencies)
    }
    names = list(graph)
    workers = {"io": LIMIT, "uneven": BRANCHES}.get(work.workload, WORKERS)
    return lambda: sum(get(graph, names, num_workers=workers))
