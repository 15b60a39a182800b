"""dagron, from this checkout: README.md, "How to use it"."""

from __future__ import annotations

from typing import Any

from benchmarks.peers import KINDS, LIMIT, WORKERS, Way
from benchmarks.peers._work import Work

NAME = "dagron (this checkout)"
REQUIRES = ("anyio>=4.14.2,<5",)
DISTRIBUTION = ""
IMPORT = "dagron"


def cases() -> dict[str, Way | str]:
    ways: dict[str, Way | str] = {}
    for kind in KINDS:
        ways |= {f"{shape} {kind}": Way(prepare) for shape in ("chain", "layers")}
        ways[f"fan {kind}"] = Way(prepare_fan)
        ways[f"chained {kind}"] = Way(prepare_chained)
    return ways | {"io": Way(prepare_fan, kind="async"), "uneven": Way(prepare, kind="async")}


async def prepare(work: Work) -> Any:
    from dagron import DAG

    builder = DAG.builder()
    for source, target in work.edges:
        builder.add_edge(f"n{source}", f"n{target}")
    return ready(work, builder.build(), list(work.nodes), {})


async def prepare_fan(work: Work) -> Any:
    from dagron import DAG, DynamicModification, DynamicNodeSpec

    last = f"n{work.last}"

    def expand(name: str, result: int) -> DynamicModification:
        return DynamicModification(
            [
                DynamicNodeSpec(f"n{number}", work.task(number), [name], [last])
                for number in work.children
            ]
        )

    dag = DAG.builder().add_edge("n0", last).build()
    return ready(work, dag, [0, work.last], {"n0": of_kind(work, expand)})


async def prepare_chained(work: Work) -> Any:
    from dagron import DAG, DynamicModification, DynamicNodeSpec

    def expand(name: str, result: int) -> DynamicModification | None:
        if result == work.last:
            return None
        number = result + 1
        task = work.task(number)
        return DynamicModification([DynamicNodeSpec(f"n{number}", task, [name], expander=expander)])

    expander = of_kind(work, expand)
    return ready(work, DAG.builder().add_node("n0").build(), [0], {"n0": expander})


def of_kind(work: Work, expand: Any) -> Any:
    """Plain expanders run in a worker thread, so that those of async nodes are async."""

    async def async_expand(name: str, result: int) -> Any:
        return expand(name, result)

    return expand if work.kind == "sync" else async_expand


def ready(work: Work, dag: Any, numbers: list[int], expanders: dict[str, Any]) -> Any:
    from dagron import DynamicExecutor

    executor = DynamicExecutor(
        dag,
        expanders=expanders,
        max_workers=WORKERS,
        max_concurrency=LIMIT if work.workload == "io" else None,
        max_depth=max(1_000, work.size),
    )
    tasks = {f"n{number}": work.task(number) for number in numbers}

    async def run() -> int:
        result = await executor.execute(tasks)
        return sum(node.result for node in result.node_results.values())

    return run
