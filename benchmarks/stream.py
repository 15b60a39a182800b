"""A million children of one streaming expander, folded as they finish: time, memory, lateness.

python benchmarks/stream.py [--size 1000000] [--write]
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from pathlib import Path
from time import thread_time
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import anyio

import dagron
from benchmarks.bars import SMALL, Bar
from benchmarks.report import machine, markdown, write
from benchmarks.timing import alone

START, END = "<!-- stream: start -->", "<!-- stream: end -->"
WINDOW = 64
TICK = 0.01  # seconds
POINTS = 10  # of the memory curve
STATUS = Path("/proc/self/status")

Run = dict[str, Any]
"""Of one run: the CPU seconds of the loop's thread per child, the largest number of tasks of
children that were alive at once, the longest time between two ticks, and the resident set, in
bytes, before and at `POINTS` points."""


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    small, large = options.small, options.size
    short = [alone("stream", "run", small) for _ in range(options.repeats)]
    long = alone("stream", "run", large)
    text = report(small, short, large, long)
    print(text)
    if options.write:
        write(text, start=START, end=END)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=int, default=1_000_000, help="children")
    parser.add_argument("--small", type=int, default=SMALL, help="children to compare with")
    parser.add_argument("--repeats", type=int, default=5, help="of the small one")
    parser.add_argument("--write", action="store_true", help="into benchmarks/README.md")
    return parser.parse_args(arguments)


def report(small: int, short: list[Run], large: int, long: Run) -> str:
    per_child = min(run["seconds"] for run in short), long["seconds"]
    growth = (max(long["resident"]) - long["resident"][0]) / 1e6
    late = statistics.median(run["late"] for run in short)
    bars = [
        Bar(f"time per child, {large:,} to {small:,}", 1.3, per_child[1] / per_child[0]),
        Bar("growth of the resident set", 100, growth, "MB"),
        Bar("children whose tasks are alive at once", WINDOW + 1, long["alive"], ""),
        Bar(f"a 10 ms ticker is late by ({small:,} children, median)", 100, late * 1e3, "ms"),
        Bar(
            f"a 10 ms ticker is late by ({large:,} children, at worst)",
            100,
            long["late"] * 1e3,
            "ms",
        ),
    ]
    rows = [
        [bar.claim, f"{bar.limit:g} {bar.unit}", f"{bar.measured:.2f} {bar.unit}", bar.verdict]
        for bar in bars
    ]
    curve = [f"{(resident - long['resident'][0]) / 1e6:.1f}" for resident in long["resident"][1:]]
    shares = [f"{number * 100 // POINTS} %" for number in range(1, POINTS + 1)]
    return "\n\n".join(
        (
            machine(),
            f"{per_child[0] * 1e6:.1f} us per child at {small:,}, "
            f"{per_child[1] * 1e6:.1f} us at {large:,}.",
            markdown(["", "promised: at most", "measured", ""], rows),
            f"Growth of the resident set in MB, when so many of {large:,} children were folded:",
            markdown(shares, [curve]),
        )
    )


async def run(size: int) -> Run:
    """One run, which nothing has warmed up but a short one."""
    await _stream(1_000)
    gc.collect()
    return await _stream(size)


async def _stream(size: int) -> Run:
    resident = [_resident()]
    ticks: list[float] = []
    alive = most = 0

    def task(number: int) -> Any:
        async def child() -> int:
            nonlocal alive, most
            alive += 1
            most = max(most, alive)
            await anyio.lowlevel.checkpoint()
            alive -= 1
            return number

        return child

    async def expand(name: str, count: int) -> AsyncIterator[dagron.DynamicNodeSpec]:
        for number in range(count):
            yield dagron.DynamicNodeSpec(f"n{number}", task(number))

    def fold(total: tuple[int, int], name: str, number: int) -> tuple[int, int]:
        count = total[0] + 1
        if count * POINTS // size > (count - 1) * POINTS // size:
            resident.append(_resident())
        return count, total[1] + number

    async def source() -> int:
        return size

    async def tick() -> None:
        while True:
            await anyio.sleep(TICK)
            ticks.append(thread_time())

    policy = dagron.NodePolicy(window=WINDOW, keep=dagron.Fold(fold, lambda: (0, 0)))
    dag = dagron.DAG.builder().add_node("source", policy=policy).add_edge("source", "sum").build()
    executor = dagron.DynamicExecutor(dag, expanders={"source": expand})

    async def total(source: tuple[int, int]) -> int:
        return source[1]

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        start = thread_time()
        result = await executor.execute({"source": source, "sum": total})
        seconds = thread_time() - start
        group.cancel_scope.cancel()
    result.raise_for_failures()
    assert (result["sum"].result, result.succeeded) == (size * (size - 1) // 2, size + 2)
    late = max((after - before for before, after in pairwise([start, *ticks])), default=0.0)
    return {"seconds": seconds / size, "alive": most, "late": late, "resident": resident}


def _resident() -> int:
    if not STATUS.exists():
        return 0
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        print(json.dumps(anyio.run(run, int(sys.argv[2]))))
    else:
        main()
