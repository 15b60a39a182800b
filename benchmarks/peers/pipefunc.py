"""pipefunc, pipefunc.readthedocs.io: "Tutorial" (`Pipeline`, `mapspec`, dynamic output sizes) and
"Execution and parallelism" (`executor`, `storage="dict"`, `scheduling_strategy="eager"`)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.peers import LIMIT, SHAPES, WORKERS, Way
from benchmarks.peers._work import BRANCHES, Work

NAME = "pipefunc"
REQUIRES = ("pipefunc",)
IMPORT = "pipefunc"

MAPPED = "children are one function, known before, mapped over items: no new nodes"


def cases() -> dict[str, Way | str]:
    no_async = "a function is called in an executor: coroutine functions are not awaited"
    ways: dict[str, Way | str] = {f"{shape} async": no_async for shape in SHAPES}
    return ways | {
        "chain sync": Way(prepare),
        "fan sync": Way(prepare_fan, MAPPED),
        "layers sync": Way(prepare),
        "chained sync": "a pipeline cannot grow while it runs",
        "io": Way(prepare_fan, MAPPED, kind="sync"),
        "uneven": Way(prepare, "with its eager scheduling, which has no level barrier", "sync"),
    }


def prepare(work: Work) -> Any:
    from pipefunc import PipeFunc, Pipeline

    def node(number: int, dependencies: list[int]) -> Any:
        task, name = work.task(number), f"n{number}"
        parameters = ", ".join(f"n{dependency}" for dependency in dependencies)
        function = eval(f"lambda {parameters}: task()", {"task": task})
        function.__name__ = f"make_{name}"
        return PipeFunc(function, output_name=name)

    pipeline = Pipeline([node(*each) for each in enumerate(work.dependencies)])
    workers = BRANCHES if work.workload == "uneven" else WORKERS
    strategy = "eager" if work.workload == "uneven" else "generation"

    def run() -> int:
        with ThreadPoolExecutor(workers) as pool:
            results = pipeline.map({}, executor=pool, storage="dict", scheduling_strategy=strategy)
        return sum(int(result.output) for result in results.values())

    return run


def prepare_fan(work: Work) -> Any:
    from pipefunc import PipeFunc, Pipeline

    first, last, body = work.task(0), work.task(work.last), work.body

    def items() -> list[int]:
        first()
        return list(work.children)

    def child(item: int) -> int:
        return int(body(item))

    def end(results: Any) -> int:
        return int(sum(results) + last())

    pipeline = Pipeline(
        [
            PipeFunc(items, output_name="item", mapspec="... -> item[i]"),
            PipeFunc(child, output_name="results", mapspec="item[i] -> results[i]"),
            PipeFunc(end, output_name="total"),
        ]
    )
    workers = LIMIT if work.workload == "io" else WORKERS

    def run() -> int:
        with ThreadPoolExecutor(workers) as pool:
            results = pipeline.map({}, executor=pool, storage="dict")
        return int(results["total"].output)

    return run
