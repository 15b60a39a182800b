"""Hamilton, hamilton.dagworks.io: "Driver" and "Builder", "Parallel execution" (`Parallelizable`,
`Collect`, an executor for what is parallel) and "Asynchronous driver".

A node is a function of a module, and its parameters name its dependencies.
"""

from __future__ import annotations

import itertools
import sys
from types import ModuleType
from typing import Any

from benchmarks.peers import LIMIT, STATIC, WORKERS, Way
from benchmarks.peers._work import Work

NAME = "Hamilton"
REQUIRES = ("sf-hamilton",)
IMPORT = "hamilton.driver"

INLINE = "sync nodes run in the caller's thread"
MAPPED = "children are one function, known before, mapped over items: no new nodes"

counter = itertools.count()


def cases() -> dict[str, Way | str]:
    no = "functions are read before the run; `Parallelizable` gives one level of items"
    async_fan = f"{STATIC} (with the asynchronous driver)"
    return {
        "chain async": Way(prepare_async),
        "fan async": Way(prepare_async, async_fan),
        "layers async": Way(prepare_async),
        "chained async": no,
        "chain sync": Way(prepare_sync, INLINE),
        "fan sync": Way(prepare_fan, MAPPED),
        "layers sync": Way(prepare_sync, INLINE),
        "chained sync": no,
        "io": Way(prepare_fan, MAPPED, kind="sync"),
        "uneven": Way(prepare_async, kind="async"),
    }


def module_of(source: str, **names: Any) -> ModuleType:
    """As if it had been written to a file: Hamilton looks functions up by their module."""
    module = ModuleType(f"nodes_{next(counter)}")
    sys.modules[module.__name__] = module
    vars(module).update(names)
    exec(source, vars(module))
    return module


def static_module(work: Work) -> ModuleType:
    define, call = ("async def", "await _tasks") if work.kind == "async" else ("def", "_tasks")
    lines = []
    for number, dependencies in enumerate(work.dependencies):
        parameters = ", ".join(f"n{dependency}: int" for dependency in dependencies)
        lines.append(f"{define} n{number}({parameters}) -> int: return {call}[{number}]()")
    return module_of("\n".join(lines), _tasks=[work.task(number) for number in work.nodes])


async def prepare_async(work: Work) -> Any:
    from hamilton import async_driver, base

    builder = async_driver.Builder().with_modules(static_module(work))
    driver = await builder.with_adapters(base.DictResult()).build()
    names = [f"n{number}" for number in work.nodes]

    async def run() -> int:
        return sum((await driver.execute(names)).values())

    return run


def prepare_sync(work: Work) -> Any:
    from hamilton import base, driver

    builder = driver.Builder().with_modules(static_module(work))
    built = builder.with_adapters(base.DictResult()).build()
    names = [f"n{number}" for number in work.nodes]
    return lambda: sum(built.execute(names).values())


FAN = """
from hamilton.htypes import Collect, Parallelizable
def first() -> int: return _first()
def item(first: int) -> Parallelizable[int]: yield from _children
def child(item: int) -> int: return _body(item)
def children(child: Collect[int]) -> int: return sum(child)
def last(children: int) -> int: return children + _last()
"""


def prepare_fan(work: Work) -> Any:
    from hamilton import driver
    from hamilton.execution import executors

    first, last = work.task(0), work.task(work.last)
    names = {"_first": first, "_children": work.children, "_body": work.body, "_last": last}
    limit = LIMIT if work.workload == "io" else WORKERS
    built = (
        driver.Builder()
        .enable_dynamic_execution(allow_experimental_mode=True)
        .with_modules(module_of(FAN, **names))
        .with_remote_executor(executors.MultiThreadingExecutor(max_tasks=limit))
        .build()
    )
    return lambda: built.execute(["last"])["last"]
