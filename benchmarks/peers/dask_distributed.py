"""Dask's distributed scheduler in this process, distributed.dask.org: "Client" (submit, map,
gather; "Async functions") and docs.dask.org, "Python API" (`Client(processes=False)`).

The client is the program that looks at results and submits more: "Futures", docs.dask.org.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from benchmarks.peers import KINDS, LIMIT, WORKERS, Way
from benchmarks.peers._work import BRANCHES, Work

NAME = "Dask, distributed"
REQUIRES = ("dask[distributed]",)
DISTRIBUTION = "distributed"
IMPORT = "distributed"


def cases() -> dict[str, Way | str]:
    ways: dict[str, Way | str] = {}
    for kind in KINDS:
        ways |= {f"{shape} {kind}": Way(prepare) for shape in ("chain", "layers")}
        ways[f"fan {kind}"] = Way(prepare_fan)
        ways[f"chained {kind}"] = Way(prepare_chained, OUTSIDE)
    return ways | {"io": Way(prepare_fan, kind="async"), "uneven": Way(prepare, kind="async")}


OUTSIDE = "the program that submits waits for each result, and submits the next"


@cache
def client(threads: int) -> Any:
    """Started once, by the run that warms up."""
    import dask
    from distributed import Client

    dask.config.set({"distributed.admin.low-level-log-length": 0})
    return Client(processes=False, n_workers=1, threads_per_worker=threads, dashboard_address=None)


def client_for(work: Work) -> Any:
    return client({"io": LIMIT, "uneven": BRANCHES}.get(work.workload, WORKERS))


TASKS: dict[int, Any] = {}
"""A function travels to a worker as bytes, even in one process: these two find the tasks here."""


def sync_node(number: int, *dependencies: int) -> Any:
    return TASKS[number]()


async def async_node(number: int, *dependencies: int) -> Any:
    return await TASKS[number]()


def submitter(work: Work) -> Any:
    submit, function = client_for(work).submit, sync_node if work.kind == "sync" else async_node

    def submit_node(number: int, *dependencies: Any) -> Any:
        TASKS[number] = work.task(number)
        return submit(function, number, *dependencies, pure=False)

    return submit_node


def prepare(work: Work) -> Any:
    submit, gather = submitter(work), client_for(work).gather

    def run() -> int:
        futures: list[Any] = []
        for number, dependencies in enumerate(work.dependencies):
            futures.append(submit(number, *(futures[dependency] for dependency in dependencies)))
        return sum(gather(futures))

    return run


def prepare_fan(work: Work) -> Any:
    submit, gather = submitter(work), client_for(work).gather

    def run() -> int:
        total = submit(0).result()
        children = [submit(number) for number in work.children]
        end = submit(work.last, *children)
        return int(total + sum(gather(children)) + end.result())

    return run


def prepare_chained(work: Work) -> Any:
    submit = submitter(work)
    return lambda: sum(submit(number).result() for number in work.nodes)
