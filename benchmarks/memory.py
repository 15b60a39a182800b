"""Peak memory of one dagron run, in a fresh process.

`traced` counts what Python allocated (tracemalloc): exact and repeatable. `resident` is the growth
of the resident set over the run, without tracing: what the machine sees, pools and all. Both count
from the moment before the run, when the graph and its tasks exist.
"""

from __future__ import annotations

import gc
import json
import sys
import tracemalloc
from pathlib import Path

import anyio

from benchmarks.cases import make_case
from benchmarks.contenders import CONTENDERS, check
from benchmarks.timing import alone

Memory = dict[str, float]
"""Bytes per node: `peak`, and if it was traced `kept`, by the result with the final graph, and
`working`, the rest."""


def traced_memory(contender: str, shape: str, kind: str, size: int) -> Memory:
    memory: Memory = alone("memory", "traced", contender, shape, kind, size)
    memory["working"] = memory["peak"] - memory["kept"]
    return {what: amount / size for what, amount in memory.items()}


def resident_memory(contender: str, shape: str, kind: str, size: int) -> Memory:
    """Empty where the system does not tell."""
    memory: Memory = alone("memory", "resident", contender, shape, kind, size)
    return {what: amount / size for what, amount in memory.items()}


async def traced(contender: str, shape: str, kind: str, size: int) -> Memory:
    await warm_up(contender, shape, kind)
    tracemalloc.start()
    case = make_case(shape, kind, size)
    run = CONTENDERS[contender](case)
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    outcome = await run()
    _, peak = tracemalloc.get_traced_memory()
    check(case, contender, outcome)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    return {"peak": peak - before, "kept": after - before}


async def resident(contender: str, shape: str, kind: str, size: int) -> Memory:
    status = Path("/proc/self/status")
    if not status.exists():
        return {}
    await warm_up(contender, shape, kind)
    case = make_case(shape, kind, size)
    run = CONTENDERS[contender](case)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark falls to what is held now
    before = _field(status, "VmRSS")
    check(case, contender, await run())
    return {"peak": _field(status, "VmHWM") - before}


async def warm_up(contender: str, shape: str, kind: str) -> None:
    """What is imported, started and cached once per process belongs to no run."""
    case = make_case(shape, kind, 200)
    check(case, contender, await CONTENDERS[contender](case)())


def _field(status: Path, name: str) -> int:
    line = next(line for line in status.read_text().splitlines() if line.startswith(name + ":"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    measure = {"traced": traced, "resident": resident}[sys.argv[1]]
    who, shape, kind, size = sys.argv[2:]
    print(json.dumps(anyio.run(measure, who, shape, kind, int(size))))
