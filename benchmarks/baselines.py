"""The tightest schedulers that we could write by hand: no names checked, no failures, no limits.

Each is a dict of countdowns and one task per ready node, spawned at once. A graph is given as
adjacency and in-degrees that were prepared before the clock started. The growing ones call a
node's expander after it and run what it returns before that node's dependents.

`tasks` and `expanders` hold callables that return an awaitable. For sync nodes that is the hop to
a worker thread itself (`partial(to_thread.run_sync, function, limiter=limiter)`), so that one
scheduler serves both kinds without another call in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Any

import anyio

Call = Callable[[], Awaitable[Any]]
Expander = Callable[[str, Any], Awaitable["list[Addition]"]]
Addition = tuple[str, Call, Expander | None]
Adjacency = dict[str, list[str]]
Results = dict[str, Any]


async def asyncio_static(
    tasks: dict[str, Call], dependents: Adjacency, counts: dict[str, int]
) -> Results:
    waiting = counts.copy()
    results: Results = {}

    async def run(name: str) -> None:
        results[name] = await tasks[name]()
        for dependent in dependents[name]:
            waiting[dependent] -= 1
            if not waiting[dependent]:
                spawn(run(dependent), name=dependent)

    async with asyncio.TaskGroup() as group:
        spawn = group.create_task
        for name in [name for name, count in waiting.items() if not count]:
            spawn(run(name), name=name)
    return results


async def anyio_static(
    tasks: dict[str, Call], dependents: Adjacency, counts: dict[str, int]
) -> Results:
    waiting = counts.copy()
    results: Results = {}

    async def run(name: str) -> None:
        results[name] = await tasks[name]()
        for dependent in dependents[name]:
            waiting[dependent] -= 1
            if not waiting[dependent]:
                spawn(run, dependent, name=dependent)

    async with anyio.create_task_group() as group:
        spawn = group.start_soon
        for name in [name for name, count in waiting.items() if not count]:
            spawn(run, name, name=name)
    return results


def pool_static(
    pool: Executor, tasks: dict[str, Any], dependents: Adjacency, counts: dict[str, int]
) -> Results:
    """One `submit` per sync node; the thread that waits here does all the counting."""
    waiting = counts.copy()
    results: Results = {}
    ended: SimpleQueue[tuple[str, Future[Any]]] = SimpleQueue()

    def submit(name: str) -> None:
        future = pool.submit(tasks[name])
        future.add_done_callback(lambda future: ended.put((name, future)))

    for name in [name for name, count in waiting.items() if not count]:
        submit(name)
    while len(results) < len(tasks):
        name, future = ended.get()
        results[name] = future.result()
        for dependent in dependents[name]:
            waiting[dependent] -= 1
            if not waiting[dependent]:
                submit(dependent)
    return results


async def asyncio_growing(
    tasks: dict[str, Call],
    dependents: Adjacency,
    counts: dict[str, int],
    expanders: dict[str, Expander],
) -> Results:
    tasks, dependents, waiting = tasks.copy(), dependents.copy(), counts.copy()
    expand = expanders.copy()
    results: Results = {}

    async def run(name: str) -> None:
        result = results[name] = await tasks[name]()
        expander = expand.get(name)
        if expander is not None:
            add(await expander(name, result), dependents[name])
        for dependent in dependents[name]:
            waiting[dependent] -= 1
            if not waiting[dependent]:
                spawn(run(dependent), name=dependent)

    def add(additions: list[Addition], targets: list[str]) -> None:
        for name, task, expander in additions:
            tasks[name] = task
            dependents[name] = targets
            if expander is not None:
                expand[name] = expander
            spawn(run(name), name=name)
        for target in targets:
            waiting[target] += len(additions)

    async with asyncio.TaskGroup() as group:
        spawn = group.create_task
        for name in [name for name, count in waiting.items() if not count]:
            spawn(run(name), name=name)
    return results


async def anyio_growing(
    tasks: dict[str, Call],
    dependents: Adjacency,
    counts: dict[str, int],
    expanders: dict[str, Expander],
) -> Results:
    tasks, dependents, waiting = tasks.copy(), dependents.copy(), counts.copy()
    expand = expanders.copy()
    results: Results = {}

    async def run(name: str) -> None:
        result = results[name] = await tasks[name]()
        expander = expand.get(name)
        if expander is not None:
            add(await expander(name, result), dependents[name])
        for dependent in dependents[name]:
            waiting[dependent] -= 1
            if not waiting[dependent]:
                spawn(run, dependent, name=dependent)

    def add(additions: list[Addition], targets: list[str]) -> None:
        for name, task, expander in additions:
            tasks[name] = task
            dependents[name] = targets
            if expander is not None:
                expand[name] = expander
            spawn(run, name, name=name)
        for target in targets:
            waiting[target] += len(additions)

    async with anyio.create_task_group() as group:
        spawn = group.start_soon
        for name in [name for name, count in waiting.items() if not count]:
            spawn(run, name, name=name)
    return results
