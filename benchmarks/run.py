"""Measure dagron against schedulers written by hand, and print one table.

python benchmarks/run.py [--quick] [--only SHAPE] [--repeats N] [--sizes N,N] [--write]
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bars import LARGE, SMALL, Figures
from benchmarks.border import build_seconds, import_seconds
from benchmarks.cases import SHAPES, kinds_of
from benchmarks.contenders import attended_for, contenders_for
from benchmarks.memory import resident_memory, traced_memory
from benchmarks.report import report, write
from benchmarks.timing import Worker, alone

LONG = 50_000
"""From this size on, only what a bar speaks of is repeated as often: the rest takes minutes."""


def main() -> None:
    options = parse()
    figures = Figures()
    for shape in options.only or SHAPES:
        for kind in kinds_of(shape):
            measure(figures, shape, kind, options.sizes, options.repeats)
    if not options.only:
        measure_others(figures, options.repeats, options.sizes)
    text = report(figures)
    print(text)
    if options.write:
        write(text)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    quick = "1,000 and 10,000 nodes, 3 repeats: no figure to quote"
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--only", action="append", choices=SHAPES, help="may be repeated")
    parser.add_argument("--repeats", type=int, help="10 unless told; what counts is the smallest")
    parser.add_argument("--sizes", type=numbers, help="as in 1000,10000")
    parser.add_argument("--write", action="store_true", help="into benchmarks/README.md")
    options = parser.parse_args()
    if options.write and (options.quick or options.only):
        parser.error("--write is for the whole table: leave out --quick and --only")
    options.repeats = options.repeats or (3 if options.quick else 10)
    options.sizes = options.sizes or ([1_000, SMALL] if options.quick else [1_000, SMALL, LARGE])
    return options


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def measure(figures: Figures, shape: str, kind: str, sizes: list[int], repeats: int) -> None:
    with ExitStack() as stack:
        workers = {size: stack.enter_context(Worker(shape, kind, size)) for size in sizes}
        for repeat in range(repeats):
            for size, worker in workers.items():
                if contenders := turn(shape, kind, size, repeat):
                    say(f"{shape}, {size:,} {kind} nodes, repeat {repeat + 1} of {repeats}")
                    worker.round(contenders)
    for size, worker in workers.items():
        figures.times[shape, kind, size] = worker.best
        figures.rounds[shape, kind, size] = worker.rounds
        if kind == "async" or size < LONG:
            say(f"{shape}, {size:,} {kind} nodes, memory")
            figures.memory[shape, kind, size] = traced_memory("dagron", shape, kind, size)


def turn(shape: str, kind: str, size: int, repeat: int) -> tuple[str, ...]:
    """Who runs in this repeat: all of them, but for what `LONG` says."""
    contenders = contenders_for(shape, kind)
    if size < LONG:
        return contenders + attended_for(shape, kind)
    if kind == "sync":
        return ("dagron", "anyio") if repeat == 0 else ()
    if repeat < 3:
        return contenders
    return ("dagron", "anyio") if shape == "fan" else ("dagron",)


def measure_others(figures: Figures, repeats: int, sizes: list[int]) -> None:
    others = figures.others
    say("import and build")
    others["import"] = import_seconds(repeats)
    others["build"] = build_seconds(min(SMALL, max(sizes)), repeats)
    if LARGE not in sizes:
        return
    say("memory of a fan")
    others["resident"] = resident_memory("dagron", "fan", "async", LARGE)
    others["anyio memory"] = traced_memory("anyio", "fan", "async", LARGE)
    others["anyio resident"] = resident_memory("anyio", "fan", "async", LARGE)
    for name, size in (
        ("ticker", LARGE),
        ("cancelling", SMALL),
        ("failing", 2 * SMALL),
        ("many_runs", 1_000),
    ):
        say(name)
        others[name] = alone("checks", name, size)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
