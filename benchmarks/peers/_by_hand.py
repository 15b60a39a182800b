"""What the schedulers by hand on asyncio and on anyio have in common: nodes made of work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from benchmarks.peers import CASES, LATENCIES, Way
from benchmarks.peers._work import Work


def cases_by_hand(prepare: Callable[[Work], Any]) -> dict[str, Way | str]:
    return {case: Way(prepare, kind="async" if case in LATENCIES else "") for case in CASES}


def prepared(
    work: Work,
    in_thread: Callable[..., Awaitable[Any]],
    limit: Any,
    static: Callable[..., Any],
    growing: Callable[..., Any],
) -> Any:
    """Fans and chained nodes grow, the other shapes are there from the start."""

    def call(number: int) -> Callable[[], Any]:
        task = work.task(number)
        if work.workload == "io":
            return partial(limited, limit, task)
        return partial(in_thread, task) if work.kind == "sync" else task

    async def expand(name: str, result: int) -> list[Any]:
        if work.workload != "chained":
            return [(f"n{number}", call(number), None) for number in work.children]
        number = result + 1
        return [(f"n{number}", call(number), expand)] if number < work.size else []

    expanders: tuple[Any, ...]
    if work.workload in ("fan", "io"):
        scheduler, expanders = growing, ({"n0": expand},)
        numbers, edges = [0, work.last], [(0, work.last)]
    elif work.workload == "chained":
        scheduler, expanders = growing, ({"n0": expand},)
        numbers, edges = [0], []
    else:
        scheduler, expanders = static, ()
        numbers, edges = list(work.nodes), work.edges
    dependents: dict[str, list[str]] = {f"n{number}": [] for number in numbers}
    counts = dict.fromkeys(dependents, 0)
    for source, target in edges:
        dependents[f"n{source}"].append(f"n{target}")
        counts[f"n{target}"] += 1
    calls = {f"n{number}": call(number) for number in numbers}

    async def run() -> int:
        results = await scheduler(calls, dependents, counts, *expanders)
        return sum(results.values())

    return run


async def limited(limit: Any, task: Callable[[], Any]) -> Any:
    async with limit:
        return await task()
