"""Measure dagron beside the libraries that one might take instead, and print one table.

python benchmarks/alternatives.py [--quick] [--only PEER ...] [--sizes N,N] [--write]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from types import ModuleType

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.peers import CASES, LATENCIES, PEERS, load
from benchmarks.peers._environments import (
    DEFAULT,
    NoEnvironment,
    common_python,
    environment,
    implementation,
    installed,
)
from benchmarks.peers._process import run_cell
from benchmarks.peers._table import Figures, key_of, report, write
from benchmarks.peers._work import UNEVEN_SIZE

IO_SIZE = 1_002  # 1,000 children, one node before them and one after
IMPORTS = 3
SHARE = 6  # a repeat begins only in the first sixth of a cell's time


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    figures = Figures(options.sizes, options.limit)
    if options.keep and options.keep.exists():
        figures.load(json.loads(options.keep.read_text(encoding="utf-8")))
    for name in options.only:
        measure(load(name), name, figures, options)
    text = report(figures, options.only)
    print(text)
    if options.write:
        write(text)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="1,000 nodes, once: no figure to quote")
    add("--only", nargs="+", choices=PEERS, metavar="PEER", default=PEERS, help=", ".join(PEERS))
    add("--sizes", type=numbers, help="as in 1000,10000")
    add("--repeats", type=int, help="5 unless told; what counts is the smallest")
    add("--limit", type=float, default=60.0, help="seconds for one cell, its import included")
    add("--write", action="store_true", help="into benchmarks/README.md")
    add("--environments", type=Path, default=DEFAULT, help=f"folder, {DEFAULT} unless told")
    add("--python", type=Path, help="the environments are made with it; Python 3.12 unless told")
    add("--here", action="store_true", help="no environments: what this Python has installed")
    add("--keep", type=Path, help="a JSON file of all figures; what it holds is not measured again")
    options = parser.parse_args(arguments)
    if options.write and (options.quick or options.only != PEERS):
        parser.error("--write is for the whole table: leave out --quick and --only")
    options.repeats = options.repeats or (1 if options.quick else 5)
    options.sizes = options.sizes or ([1_000] if options.quick else [1_000, 10_000, 100_000])
    return options


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def measure(peer: ModuleType, name: str, figures: Figures, options: argparse.Namespace) -> None:
    try:
        python = python_of(peer, options)
    except NoEnvironment as reason:
        figures.absent[name] = str(reason)
        return
    figures.versions[name] = installed(python, peer)
    figures.python = implementation(python)

    def cell(case: str, size: int, *measured: object) -> None:
        key = key_of(name, case, size)
        if key not in figures.cells:
            say(f"{peer.NAME}: {case}, {size:,}")
            figures.cells[key] = run_cell(python, options.limit, name, case, *measured)
            if options.keep:
                options.keep.write_text(json.dumps(figures.dump()), encoding="utf-8")

    for number in range(IMPORTS):
        cell("import", number, peer.IMPORT)
    budget = options.limit / SHARE
    for case in CASES:
        if isinstance(peer.cases()[case], str):
            continue
        for size in sizes_of(case, options.sizes):
            if figures.stopped(name, case, size):
                break  # it would take longer still
            cell(case, size, size, options.repeats, budget)


def python_of(peer: ModuleType, options: argparse.Namespace) -> Path:
    if options.here:
        return Path(sys.executable)
    say(f"{peer.NAME}: environment")
    options.python = options.python or common_python()
    return environment(peer, options.environments, options.python)


def sizes_of(case: str, sizes: list[int]) -> list[int]:
    if case not in LATENCIES:
        return sorted(sizes)
    return [UNEVEN_SIZE if case == "uneven" else IO_SIZE]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
