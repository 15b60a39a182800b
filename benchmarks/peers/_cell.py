"""One cell of the table, or one import: run in a peer's environment, in a process of its own.

    python -P _cell.py PEER CASE SIZE REPEATS BUDGET     a line of JSON with the figures
    python -P _cell.py PEER import MODULE                the CPU seconds of an import

Without -P this folder would come first on the path, and its modules bear the libraries' names.
"""

from __future__ import annotations

import os
import sys
from time import perf_counter, process_time

TYPE_CHECKING = False
if TYPE_CHECKING:  # an import is timed here, so that nothing is imported before that is not needed
    from typing import Any

    Figures = dict[str, Any]

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
STATUS = "/proc/self/status"
WARM = 20  # nodes of the run that starts and imports what a process needs once


def main(peer: str, what: str, *more: str) -> Figures:
    """The checkout comes last on the path: the other dagron has the same name as its package."""
    if peer.startswith(("dagron_here", "by_hand")):
        sys.path.insert(0, ROOT)
    else:
        sys.path.append(ROOT)
    if what == "import":
        return {"seconds": import_seconds(*more)}
    size, repeats, budget = more
    return measure(peer, what, int(size), int(repeats), float(budget))


def import_seconds(module: str) -> float:
    start = process_time()
    __import__(module)
    return process_time() - start


def measure(peer: str, case: str, size: int, repeats: int, budget: float) -> Figures:
    """The smallest time of the repeats. None begins when `budget` seconds are over."""
    from inspect import iscoroutinefunction

    from benchmarks.peers import load

    way = load(peer).cases()[case]
    workload, _, kind = case.partition(" ")
    once = once_in_loop if iscoroutinefunction(way.prepare) else once_alone
    if fault := once(way, workload, kind or way.kind, WARM if kind else size)["wrong"]:
        return {"wrong": fault}
    best: Figures = {}
    start = perf_counter()
    while best.get("repeats", 0) < repeats:
        before = resident() if not best else 0
        figures = once(way, workload, kind or way.kind, size)
        if figures["wrong"]:
            return {"wrong": figures["wrong"]}
        if not best:
            best = figures | {"memory": resident("VmHWM") - before if before else None}
        for time in ("build", "run"):
            best[time] = min(best[time], figures[time])
        best["repeats"] = best.get("repeats", 0) + 1
        if perf_counter() - start > budget:
            break
    return best


def once_alone(way: Any, workload: str, kind: str, size: int) -> Figures:
    work = make_work(workload, kind, size)
    start = perf_counter()
    run = way.prepare(work)
    built = perf_counter()
    total = run()
    return figures_of(work, start, built, perf_counter(), total)


def once_in_loop(way: Any, workload: str, kind: str, size: int) -> Figures:
    import asyncio

    work = make_work(workload, kind, size)

    async def timed() -> Figures:
        start = perf_counter()
        run = await way.prepare(work)
        built = perf_counter()
        total = await run()
        return figures_of(work, start, built, perf_counter(), total)

    return asyncio.run(timed())


def make_work(workload: str, kind: str, size: int) -> Any:
    import gc

    from benchmarks.peers._work import Work

    work = Work(workload, kind, size)
    _ = work.dependencies, work.dependents  # made here, and not on the clock
    gc.collect()
    return work


def figures_of(work: Any, start: float, built: float, ended: float, total: Any) -> Figures:
    return {"build": built - start, "run": ended - built, "wrong": work.fault(total)}


def resident(field: str = "VmRSS") -> int:
    """Bytes; asked for what is held now, the high-water mark falls to that. 0: not told."""
    import gc

    if not os.path.exists(STATUS):
        return 0
    if field == "VmRSS":
        gc.collect()
        with open("/proc/self/clear_refs", "w") as marks:
            marks.write("5")
    with open(STATUS) as status:
        line = next(line for line in status if line.startswith(field))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    figures = main(*sys.argv[1:])
    import json

    print("\n" + json.dumps(figures), flush=True)
    os._exit(0)  # servers and threads that a library left are not waited for
