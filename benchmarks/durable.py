"""Durable runs: what the journal costs a run, how long it takes to go on with one, and two others.

python benchmarks/durable.py [--size 10000] [--resumed 100000] [--peers] [--write]
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import anyio

import dagron
from benchmarks.bars import Bar, as_rows
from benchmarks.durable_peers import IN_FLIGHT, PEERS, load
from benchmarks.peers._environments import (
    DEFAULT,
    NoEnvironment,
    clean,
    common_python,
    environment,
    installed,
)
from benchmarks.peers._process import QUIET
from benchmarks.report import machine, markdown, write
from benchmarks.timing import ROOT, alone

START, END = "<!-- durable: start -->", "<!-- durable: end -->"
WAYS = ("no journal", "process", "power")
PEER_LIMIT = 600  # seconds

Times = dict[str, dict[str, float]]
"""Of each of `WAYS`, the smallest wall and CPU seconds of a run."""


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    times: Times = alone("durable", "throughput", options.size, options.repeats)
    resumed = [
        (f"a fan of {options.resumed:,}", resume("fan", options.resumed, options.resumes)),
        (
            f"a chain of {options.chained:,} expansions",
            resume("chained", options.chained, options.resumes),
        ),
    ]
    parts = report(options.size, times, resumed, options.resumed)
    if options.peers:
        parts.append(compared(options))
    text = "\n\n".join(parts)
    print(text)
    if options.write:
        write(text, start=START, end=END)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--size", type=int, default=10_000, help="children of the run that is timed")
    add("--repeats", type=int, default=15, help="of it; the smallest time counts")
    add("--resumed", type=int, default=100_000, help="nodes of a run that is gone on with")
    add("--chained", type=int, default=10_000, help="of one whose nodes add each other")
    add("--resumes", type=int, default=3, help="of each of these; the smallest times count")
    add("--peers", action="store_true", help="beside LangGraph and DBOS, installed by themselves")
    add("--peer-size", type=int, default=1_000, help="children of the runs of these")
    add("--rounds", type=int, default=5, help="in which these take turns")
    add("--environments", type=Path, default=DEFAULT, help=f"folder, {DEFAULT} unless told")
    add("--write", action="store_true", help="into benchmarks/README.md")
    options = parser.parse_args(arguments)
    if options.write and not options.peers:
        parser.error("--write is for all of it: add --peers")
    return options


# -- the tables


def report(
    size: int, times: Times, resumed: list[tuple[str, dict[str, float]]], large: int
) -> list[str]:
    plain = times["no journal"]["wall"]
    rows = [
        [
            way,
            f"{size / found['wall']:,.0f}",
            f"{found['wall'] / size * 1e6:.0f}",
            f"{found['cpu'] / size * 1e6:.0f}",
            f"{found['wall'] / plain:.2f}",
        ]
        for way, found in times.items()
    ]
    went_on = [
        [what, f"{found['seconds']:.1f}", f"{found['cpu']:.1f}", f"{found['bytes'] / 1e6:.1f}"]
        for what, found in resumed
    ]
    head = ["journal", "nodes/s", "us per node", "CPU us per node", "to no journal"]
    return [
        f"{machine()} The disk takes {sync_seconds() * 1e3:.2f} ms to write 4 kB and to say so.",
        f"{size:,} children of one node, {IN_FLIGHT} at a time:",
        markdown(head, rows),
        "Going on with a run that was killed in its last node:",
        markdown(["run", "seconds", "CPU seconds", "MB in the file"], went_on),
        markdown(["", "promised", "measured", ""], bars(size, times, resumed[0][1], large)),
    ]


def sync_seconds(times: int = 50) -> float:
    """What a transaction waits for at least with "power": the smallest time of some."""
    found = []
    with TemporaryDirectory() as folder, Path(folder, "file").open("wb", buffering=0) as file:
        for _ in range(times):
            start = perf_counter()
            file.write(bytes(4_096))
            os.fsync(file.fileno())
            found.append(perf_counter() - start)
    return min(found)


def bars(size: int, times: Times, fan: dict[str, float], large: int) -> list[list[str]]:
    """What is promised: rates are at least, the rest at most."""
    rates = {way: size / found["wall"] for way, found in times.items()}
    ratio = times["process"]["wall"] / times["no journal"]["wall"]
    process = as_rows([Bar("process, to no journal (or 10,000 nodes/s)", 3.0, ratio)])[0]
    if rates["process"] >= 10_000:
        process[3] = "met"
    power = "met" if rates["power"] >= 5_000 else f"missed: {rates['power'] / 5_000:.0%} of it"
    return [
        process,
        ["power", "5,000 nodes/s", f"{rates['power']:,.0f} nodes/s", power],
        as_rows([Bar(f"going on with {large:,} nodes, CPU", 10.0, fan["cpu"], "s")])[0],
    ]


def compared(options: argparse.Namespace) -> str:
    size = options.peer_size
    pythons, rows = {}, []
    for name in PEERS:
        try:
            pythons[name] = environment(load(name), options.environments, common_python())
        except NoEnvironment as reason:
            rows.append([load(name).NAME, str(reason), load(name).NOTE])
    best: dict[str, float] = {}
    for _ in range(options.rounds):
        times: Times = alone("durable", "throughput", size, 1)
        found = {way: times[way]["wall"] for way in NOTES}
        found |= {name: peer_seconds(name, python, size) for name, python in pythons.items()}
        best = {who: min(best.get(who, seconds), seconds) for who, seconds in found.items()}
    ours = [[f"dagron, {way}", f"{size / best[way]:,.0f}", note] for way, note in NOTES.items()]
    theirs = [
        [
            f"{load(name).NAME} {installed(python, load(name))}",
            f"{size / best[name]:,.0f}",
            load(name).NOTE,
        ]
        for name, python in pythons.items()
    ]
    head = ["", "children/s", "SQLite, and when a child counts"]
    return f"Beside others, {size:,} children:\n\n{markdown(head, [*ours, *theirs, *rows])}"


NOTES = {
    "process": "WAL, NORMAL; its dependents wait for its transaction, which it shares with others",
    "power": "WAL, FULL; otherwise as above",
}


def peer_seconds(name: str, python: Path, size: int) -> float:
    """The time of one run, in a process of its own."""
    done = subprocess.run(
        [python, "-m", "benchmarks.durable_peers", name, str(size)],
        cwd=ROOT,
        env=clean() | QUIET,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=PEER_LIMIT,
    )
    seconds: float = json.loads(done.stdout.splitlines()[-1])["seconds"]
    return seconds


# -- dagron: throughput


async def throughput(size: int, repeats: int) -> Times:
    """The ways take turns, each with a file of its own."""
    best: Times = {}
    await once("process", min(size, 1_000))
    for _ in range(repeats):
        for way in WAYS:
            found = await once(way, size)
            before = best.get(way, found)
            best[way] = {clock: min(before[clock], found[clock]) for clock in found}
    return best


async def once(way: str, size: int) -> dict[str, float]:
    with TemporaryDirectory() as folder:
        journal = None
        if way != "no journal":
            durability: Any = way
            journal = dagron.Journal(Path(folder, "runs.db"), durability=durability)
        executor, tasks = fan(size, sum_up, journal)
        gc.collect()
        wall, cpu = perf_counter(), process_time()
        result = await executor.execute(tasks)
        found = {"wall": perf_counter() - wall, "cpu": process_time() - cpu}
        if journal is not None:
            journal.close()
    result.raise_for_failures()
    if (result["sum"].result, result.succeeded) != (size * (size - 1) // 2, size + 2):
        raise RuntimeError(f"some of {size:,} results were lost")
    return found


Case = tuple[dagron.DynamicExecutor, dict[str, Callable[..., Any]]]


def fan(size: int, last: Callable[..., Any], journal: dagron.Journal | None) -> Case:
    """One expander adds all children, and the last node waits for them."""

    async def source() -> int:
        return size

    async def child(number: int) -> int:
        await anyio.lowlevel.checkpoint()
        return number

    def expand(name: str, count: int) -> dagron.DynamicModification:
        return dagron.DynamicModification(
            [
                dagron.DynamicNodeSpec(f"n{n}", partial(child, n), [name], ["sum"])
                for n in range(count)
            ]
        )

    dag = dagron.DAG.builder().add_edge("source", "sum").build()
    executor = dagron.DynamicExecutor(
        dag, {"source": expand}, max_concurrency=IN_FLIGHT, journal=journal
    )
    return executor, {"source": source, "sum": last}


async def sum_up(inputs: dict[str, int]) -> int:
    return sum(number for name, number in inputs.items() if name != "source")


def chained(size: int, last: Callable[..., Any], journal: dagron.Journal | None) -> Case:
    """Each node adds the next one."""

    async def step(number: int) -> int:
        return number

    async def expand(name: str, number: int) -> dagron.DynamicModification | None:
        task = partial(step, number + 1) if number + 1 < size else last
        return dagron.DynamicModification(
            [
                dagron.DynamicNodeSpec(
                    f"n{number + 1}",
                    task,
                    dependencies=[name],
                    expander=expand if number + 1 < size else None,
                )
            ]
        )

    dag = dagron.DAG.builder().add_node("n0").build()
    executor = dagron.DynamicExecutor(dag, {"n0": expand}, max_depth=size + 1, journal=journal)
    return executor, {"n0": partial(step, 0)}


SHAPES = {"fan": fan, "chained": chained}


# -- dagron: going on


def resume(shape: str, size: int, repeats: int) -> dict[str, float]:
    """A process dies in the last node of a run, and others go on with copies of what it left."""
    with TemporaryDirectory() as folder:
        left = Path(folder, "left")
        left.mkdir()
        path = left / "runs.db"
        command = [sys.executable, "-m", "benchmarks.durable", "begin", shape, str(size), str(path)]
        ended = subprocess.run(command, cwd=ROOT, check=False).returncode
        if ended != KILLED:
            raise RuntimeError(f"the first process ended with {ended}")
        found = []
        for number in range(repeats):
            copy = Path(shutil.copytree(left, Path(folder, str(number))))
            found.append(alone("durable", "resume", shape, size, copy / "runs.db"))
        taken = max(file.stat().st_size for file in left.iterdir())  # the file, or its WAL
    return {clock: min(each[clock] for each in found) for clock in found[0]} | {"bytes": taken}


KILLED = 42


async def begin(shape: str, size: int, path: str) -> None:
    async def dies() -> None:
        os._exit(KILLED)

    executor, tasks = SHAPES[shape](size, dies, dagron.Journal(path))
    await executor.execute(tasks, run_id="run")


async def go_on(shape: str, size: int, path: str) -> dict[str, float]:
    async def last() -> None:
        pass

    with dagron.Journal(path) as journal:
        executor, tasks = SHAPES[shape](size, last, journal)
        start, cpu = perf_counter(), process_time()
        result = await executor.execute(tasks, run_id="run")
        found = {"seconds": perf_counter() - start, "cpu": process_time() - cpu}
    result.raise_for_failures()
    if result.succeeded < size:
        raise RuntimeError(f"{result.succeeded:,} nodes, not {size:,}")
    return found


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["throughput", size, repeats]:
            print(json.dumps(anyio.run(throughput, int(size), int(repeats))))
        case ["begin", shape, size, path]:
            anyio.run(begin, shape, int(size), path)
        case ["resume", shape, size, path]:
            print(json.dumps(anyio.run(go_on, shape, int(size), path)))
        case _:
            main()
