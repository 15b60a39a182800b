"""Each contender, made ready for one case: what it returns runs the case once and says how many
nodes ran. Everything that a user prepares before a run is prepared here, off the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import anyio

from benchmarks import baselines
from benchmarks.cases import CLOCKS, GROWING, MAX_WORKERS, Case

Run = Callable[[], Awaitable[Any]]
"""Runs a case once; the value is the contender's own result."""

OBSERVED, HELD = "dagron+observer", "dagron+handle"
POOL = "pool"
ATTENDED = ("chain", "layers", "fan")
"""The shapes whose async runs are measured with an observer and with a handle, too."""


def dagron_contender(case: Case) -> Run:
    return partial(dagron_executor(case).execute, case.tasks)


def observed_contender(case: Case) -> Run:
    return partial(dagron_executor(case, observers=[ignore]).execute, case.tasks)


def ignore(event: Any) -> None:
    """Be an observer that does nothing."""


def held_contender(case: Case) -> Run:
    executor = dagron_executor(case)

    async def hold() -> Any:
        async with executor.start(case.tasks) as run:
            pass
        return await run.wait()

    return hold


def dagron_executor(case: Case, **options: Any) -> Any:
    """Without options it asks for nothing that an older dagron lacks: `against.py` runs one."""
    import dagron

    return dagron.DynamicExecutor(
        dagron_graph(case),
        expanders={"n0": dagron_expander(case)} if case.grows else {},
        max_workers=MAX_WORKERS,
        max_depth=max(1_000, case.size),
        **options,
    )


def dagron_graph(case: Case) -> Any:
    import dagron

    builder = dagron.DAG.builder()
    for name in case.nodes:
        builder.add_node(name)
    for source, target in case.edges:
        builder.add_edge(source, target)
    return builder.build()


def dagron_expander(case: Case) -> Callable[[str, Any], Any]:
    """The expander of a user: it makes specs, and a modification of them."""
    from dagron import DynamicModification, DynamicNodeSpec

    chained = case.shape == "chained"
    dependents = [] if chained else [case.nodes[-1]]

    def expand(name: str, result: Any) -> DynamicModification:
        specs = [
            DynamicNodeSpec(
                f"n{number}",
                case.task(number),
                dependencies=[name],
                dependents=dependents,
                expander=expander if chained else None,
            )
            for number in case.added_after(name)
        ]
        modification = DynamicModification(specs)
        if not chained:
            case.marks["expanded"] = CLOCKS[case.kind]()
        return modification

    async def async_expand(name: str, result: Any) -> DynamicModification:
        return expand(name, result)

    expander = expand if case.kind == "sync" else async_expand
    return expander


def anyio_contender(case: Case) -> Run:
    limiter = anyio.CapacityLimiter(MAX_WORKERS)
    run_sync = partial(anyio.to_thread.run_sync, limiter=limiter)
    return _by_hand(case, run_sync, baselines.anyio_static, baselines.anyio_growing)


def asyncio_contender(case: Case) -> Run:
    """Must be made inside the loop; its threads end with the process."""
    pool = ThreadPoolExecutor(MAX_WORKERS)
    run_sync = partial(asyncio.get_running_loop().run_in_executor, pool)
    return _by_hand(case, run_sync, baselines.asyncio_static, baselines.asyncio_growing)


def pool_contender(case: Case) -> Run:
    """Blocks the loop, which has nothing else to do; its threads end with the process."""
    pool = ThreadPoolExecutor(MAX_WORKERS)
    dependents, counts = _adjacency(case)

    async def run() -> Any:
        return baselines.pool_static(pool, case.tasks, dependents, counts)

    return run


def _adjacency(case: Case) -> tuple[dict[str, list[str]], dict[str, int]]:
    dependents: dict[str, list[str]] = {name: [] for name in case.nodes}
    counts = dict.fromkeys(case.nodes, 0)
    for source, target in case.edges:
        dependents[source].append(target)
        counts[target] += 1
    return dependents, counts


def _by_hand(case: Case, run_sync: Callable[..., Awaitable[Any]], static: Any, growing: Any) -> Run:
    dependents, counts = _adjacency(case)

    def call(task: Callable[[], Any]) -> Callable[[], Any]:
        return partial(run_sync, task) if case.kind == "sync" else task

    calls = {name: call(task) for name, task in case.tasks.items()}
    if not case.grows:
        return partial(static, calls, dependents, counts)
    chained = case.shape == "chained"

    def expand(name: str, result: Any) -> list[baselines.Addition]:
        again = expander if chained else None
        return [(f"n{i}", call(case.task(i)), again) for i in case.added_after(name)]

    async def async_expand(name: str, result: Any) -> list[baselines.Addition]:
        return expand(name, result)

    expander = partial(run_sync, expand) if case.kind == "sync" else async_expand
    return partial(growing, calls, dependents, counts, {"n0": expander})


CONTENDERS: dict[str, Callable[[Case], Run]] = {
    "dagron": dagron_contender,
    "asyncio": asyncio_contender,
    "anyio": anyio_contender,
    POOL: pool_contender,
    OBSERVED: observed_contender,
    HELD: held_contender,
}


def contenders_for(shape: str, kind: str) -> tuple[str, ...]:
    """The schedulers by hand know no failures, and that with a bare pool knows only sync nodes."""
    if shape == "failure":
        return ("dagron",)
    is_for_pool = kind == "sync" and shape not in GROWING
    return ("dagron", "asyncio", "anyio", *([POOL] if is_for_pool else []))


def attended_for(shape: str, kind: str) -> tuple[str, ...]:
    return (OBSERVED, HELD) if kind == "async" and shape in ATTENDED else ()


def check(case: Case, contender: str, outcome: Any) -> None:
    """A run that did not do the work must not be in the table."""
    ran: object
    wanted: object
    if case.shape == "failure":
        ran, wanted = (outcome.failed, outcome.skipped), (1, case.size - 1)
    elif contender in ("dagron", OBSERVED, HELD):
        ran, wanted = (outcome.succeeded, len(outcome.node_results)), (case.size, case.size)
    else:
        ran, wanted = len(outcome), case.size
    if ran != wanted:
        raise AssertionError(f"{contender}, {case.shape} of {case.size}: {ran}, not {wanted}")
