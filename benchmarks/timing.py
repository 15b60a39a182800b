"""Timing by interleaved repeats.

Why a loop of our own and not pyperf: pyperf runs one benchmark after another, each in processes of
its own, so that a machine that slows down meanwhile changes a *ratio*. Here the contenders take
turns (A, B, C, A, B, C, ...) in one process, the sizes take turns in one process each (a graph of
100,000 nodes in memory would slow down the garbage collector for one of 10,000), and the smallest
time of each is kept. The collector runs as it does in any program: a collection before the clock
starts, and switched on while it runs.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio

from benchmarks.cases import CLOCKS, Case, make_case
from benchmarks.contenders import CONTENDERS, Run, check

ROOT = Path(__file__).resolve().parent.parent

Times = dict[str, float]
"""Seconds: `run`, and of it `setup` (until n0 starts), `collecting` (since the last node ended)
and `landing` (from the return of an expander until the first node it added starts)."""


async def time_once(case: Case, contender: str, run: Run) -> Times:
    clock = CLOCKS[case.kind]
    case.marks.clear()
    gc.collect()
    start = clock()
    outcome = await run()
    end = clock()
    check(case, contender, outcome)
    marks = case.marks
    times = {"run": end - start, "setup": marks["first"] - start}
    if "last" in marks:
        times["collecting"] = end - marks["last"]
    if case.shape == "expand" and contender == "dagron":
        times["landing"] = marks["second"] - marks["expanded"]
    return times


async def serve(shape: str, kind: str, size: int) -> None:
    """Answer each line on stdin, contenders to run once each in turn, with a line of times.

    Reading blocks the loop, on purpose: between rounds nothing else is to run in it.
    """
    case = make_case(shape, kind, size)
    ready: dict[str, Run] = {}
    for line in sys.stdin:
        round_of: dict[str, Times] = {}
        for contender in line.split():
            if contender not in ready:
                ready[contender] = CONTENDERS[contender](case)
            round_of[contender] = await time_once(case, contender, ready[contender])
        print(json.dumps(round_of), flush=True)


def import_dagron_from(checkout: Path) -> None:
    """Make sure that this process measures that package, whatever is installed."""
    sys.path.insert(0, str(checkout))  # `benchmarks` is imported already, and stays what it is
    import dagron

    if not Path(dagron.__file__).is_relative_to(checkout):
        raise ImportError(f"dagron was to come from {checkout}, and came from {dagron.__file__}")


class Worker:
    """A process that holds one case, ready to run, in a loop that is running.

    `checkout` is the folder of the package that it measures. The rest is of this checkout.
    """

    def __init__(self, shape: str, kind: str, size: int, checkout: Path = ROOT) -> None:
        self.best: dict[str, Times] = {}
        self.rounds: dict[str, int] = {}
        command = [sys.executable, "-m", "benchmarks.timing", shape, kind, str(size), str(checkout)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)

    def round(self, contenders: tuple[str, ...]) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(*contenders, file=self._process.stdin, flush=True)
        answer: dict[str, Times] = json.loads(self._process.stdout.readline() or "null")
        if answer is None:
            raise RuntimeError(f"a worker ended early: {self._process.args}")
        for contender, times in answer.items():
            best = self.best.setdefault(contender, times)
            self.best[contender] = {what: min(best[what], times[what]) for what in times}
            self.rounds[contender] = self.rounds.get(contender, 0) + 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def alone(module: str, *arguments: Any) -> Any:
    """The answer of a module of this folder, run in a fresh process."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    import_dagron_from(Path(sys.argv[4]))
    anyio.run(serve, sys.argv[1], sys.argv[2], int(sys.argv[3]))
