"""Prefect, docs.prefect.io: "Task runners" (`submit`, `ThreadPoolTaskRunner`, `wait_for`) and
"Run tasks concurrently". Its server is the temporary one that it starts by itself.

A flow is a plain function that submits tasks, and looks at results when it likes; each task runs
in a thread of the runner, an async one in a loop there.
"""

from __future__ import annotations

from typing import Any

from benchmarks.peers import KINDS, LIMIT, WORKERS, Way
from benchmarks.peers._work import BRANCHES, Work

NAME = "Prefect"
REQUIRES = ("prefect", "fastapi<0.140")  # its server does not start with the newest fastapi
IMPORT = "prefect"

FLOW = "the flow waits for each result, and submits the next"
SERVER = "its server is a process of its own, which is not in the figure for memory"


def cases() -> dict[str, Way | str]:
    ways: dict[str, Way | str] = {}
    for kind in KINDS:
        ways |= {f"{shape} {kind}": Way(prepare, SERVER) for shape in ("chain", "layers")}
        ways[f"fan {kind}"] = Way(prepare_fan, SERVER)
        ways[f"chained {kind}"] = Way(prepare_chained, f"{FLOW}; {SERVER}")
    return ways | {"io": Way(prepare_fan, kind="sync"), "uneven": Way(prepare, kind="sync")}


def flow_of(work: Work, function: Any) -> Any:
    from prefect import flow
    from prefect.task_runners import ThreadPoolTaskRunner

    workers = {"io": LIMIT, "uneven": BRANCHES}.get(work.workload, WORKERS)
    return flow(task_runner=ThreadPoolTaskRunner(max_workers=workers), log_prints=False)(function)


def task_of(work: Work, number: int) -> Any:
    from prefect import task

    body = work.task(number)

    def sync_node() -> Any:
        return body()

    async def async_node() -> Any:
        return await body()

    return task(sync_node if work.kind == "sync" else async_node, name=f"n{number}")


def prepare(work: Work) -> Any:
    tasks = [task_of(work, number) for number in work.nodes]

    def run() -> int:
        futures: list[Any] = []
        for node, dependencies in zip(tasks, work.dependencies, strict=True):
            before = [futures[dependency] for dependency in dependencies]
            futures.append(node.submit(wait_for=before))
        return sum(future.result() for future in futures)

    return flow_of(work, run)


def prepare_fan(work: Work) -> Any:
    first, last = task_of(work, 0), task_of(work, work.last)

    def run() -> int:
        total = first.submit().result()
        children = [task_of(work, number).submit() for number in work.children]
        end = last.submit(wait_for=children)
        return int(total + sum(child.result() for child in children) + end.result())

    return flow_of(work, run)


def prepare_chained(work: Work) -> Any:
    def run() -> int:
        total = 0
        for number in work.nodes:
            total += task_of(work, number).submit().result()
        return total

    return flow_of(work, run)
