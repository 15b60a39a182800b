"""Where the time of one dagron run goes: `python benchmarks/profile_run.py SHAPE [KIND] [SIZE]`.

The profiler slows down calls more than what happens inside them: read the order, not the seconds.
Only the loop's thread is profiled.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import pstats
import sys
from pathlib import Path

import anyio

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.cases import SHAPES, make_case
from benchmarks.contenders import CONTENDERS, check


async def profile(shape: str, kind: str, size: int, contender: str) -> cProfile.Profile:
    case = make_case(shape, kind, size)
    run = CONTENDERS[contender](case)
    check(case, contender, await run())  # imports, caches, threads
    gc.collect()
    profiler = cProfile.Profile()
    profiler.enable()
    outcome = await run()
    profiler.disable()
    check(case, contender, outcome)
    return profiler


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("kind", choices=("async", "sync"), nargs="?", default="async")
    parser.add_argument("size", type=int, nargs="?", default=10_000)
    parser.add_argument("--contender", choices=CONTENDERS, default="dagron")
    parser.add_argument("--lines", type=int, default=25)
    options = parser.parse_args()
    arguments = (options.shape, options.kind, options.size, options.contender)
    stats = pstats.Stats(anyio.run(profile, *arguments))
    stats.strip_dirs().sort_stats("tottime").print_stats(options.lines)


if __name__ == "__main__":
    main()
