"""The other `dagron`, 0.1.1 on the package index: its README's "Quick start" and "Dynamic DAG
Modification", and the docstrings of its executors.

Sync graphs are run by `DAGExecutor`, async ones by `AsyncDAGExecutor`, and what grows by
`DynamicExecutor`, which takes plain functions only and runs one after another.
"""

from __future__ import annotations

from typing import Any

from benchmarks.peers import LEVELS, LIMIT, STATIC, WORKERS, Way
from benchmarks.peers._work import Work

NAME = "dagron 0.1.1 (the original)"
REQUIRES = ("dagron==0.1.1",)
IMPORT = "dagron"
PYTHON = (3, 12)

INLINE = "one node after another, in the caller's thread, whatever `max_workers` says"


def cases() -> dict[str, Way | str]:
    static_fan = f"{STATIC} (its dynamic executor takes no async tasks)"
    return {
        "chain async": Way(prepare_async),
        "fan async": Way(prepare_async, static_fan),
        "layers async": Way(prepare_async),
        "chained async": "its dynamic executor takes no async tasks",
        "chain sync": Way(prepare_sync),
        "fan sync": Way(prepare_fan, INLINE),
        "layers sync": Way(prepare_sync),
        "chained sync": Way(prepare_chained, INLINE),
        "io": Way(prepare_async, static_fan, kind="async"),
        "uneven": Way(prepare_async, LEVELS, "async"),
    }


def dag_of(work: Work) -> Any:
    from dagron import DAGBuilder

    builder: Any = DAGBuilder()
    for number in work.nodes:
        builder.add_node(f"n{number}")
    for source, target in work.edges:
        builder.add_edge(f"n{source}", f"n{target}")
    return builder.build()


async def prepare_async(work: Work) -> Any:
    from dagron import AsyncDAGExecutor

    tasks = {f"n{number}": work.task(number) for number in work.nodes}
    limit = LIMIT if work.workload == "io" else None
    executor = AsyncDAGExecutor(dag_of(work), max_workers=limit)

    async def run() -> int:
        return total(await executor.execute(tasks))

    return run


def prepare_sync(work: Work) -> Any:
    from dagron import DAGExecutor

    tasks = {f"n{number}": work.task(number) for number in work.nodes}
    executor = DAGExecutor(dag_of(work), max_workers=WORKERS)
    return lambda: total(executor.execute(tasks))


def prepare_fan(work: Work) -> Any:
    from dagron import DAGBuilder, DynamicExecutor, DynamicModification, DynamicNodeSpec

    last = f"n{work.last}"

    def expand(name: str, result: int) -> Any:
        specs = [
            DynamicNodeSpec(f"n{number}", work.task(number), [name], [last])
            for number in work.children
        ]
        return DynamicModification(add_nodes=specs)

    dag = DAGBuilder().add_node("n0").add_node(last).add_edge("n0", last).build()
    executor = DynamicExecutor(dag, expanders={"n0": expand}, max_workers=WORKERS)
    tasks = {"n0": work.task(0), last: work.task(work.last)}
    return lambda: total(executor.execute(tasks))


def prepare_chained(work: Work) -> Any:
    """Expanders are given by name, before the run."""
    from dagron import DAGBuilder, DynamicExecutor, DynamicModification, DynamicNodeSpec

    def expand(name: str, result: int) -> Any:
        number = result + 1
        spec = DynamicNodeSpec(f"n{number}", work.task(number), [name])
        return DynamicModification(add_nodes=[spec])

    expanders = {f"n{number}": expand for number in range(work.last)}
    dag = DAGBuilder().add_node("n0").build()
    executor = DynamicExecutor(dag, expanders=expanders, max_workers=WORKERS)
    return lambda: total(executor.execute({"n0": work.task(0)}))


def total(result: Any) -> int:
    return sum(node.result for node in result.node_results.values())
