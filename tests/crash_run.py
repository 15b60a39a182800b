"""Kill a run with every feature many times, at named points and at random moments.

    python tests/crash_run.py --kills 200 --seed 1

Prints what was counted. The exit code is 1 where a promise was broken: then the folder of the run,
with its journal and what its lives have told, stays.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from crash_points import ANY, Death, all_points
from crashes import Crashes, Life, Lives, Tally

WIDTHS = (4, 16, 64)  # of the fan-out, whose nodes are all in flight at once
MOST_DEATHS = 4  # of one run


class Fates:
    """How the lives of one program end: at each named point in turn, or at any moment."""

    def __init__(self, crashes: Crashes, dice: random.Random) -> None:
        self._crashes = crashes
        self._dice = dice
        self._first = Turns(crashes.whole, dice)
        resumed: list[Life] = []
        middle = Death(ANY, crashes.whole.passings[ANY] // 2)
        crashes.run({"death": middle}, keep=resumed.append)
        self._later = Turns(resumed[-1], dice)
        self.kinds: Counter[str] = Counter()

    @property
    def points(self) -> set[str]:
        return {*self._first.points, *self._later.points}

    def deaths(self) -> list[dict[str, Any]]:
        """Return the ends of some lives of one run."""
        count = self._dice.randint(1, MOST_DEATHS)
        return [self._death(self._later if number else self._first) for number in range(count)]

    def _death(self, turns: "Turns") -> dict[str, Any]:
        kind = self._dice.choice(["at a named point", *["at a moment"] * 2])
        if kind == "at a named point":
            return {"death": turns.next()}
        kind = self._dice.choice(["death", "after_bytes", "after_seconds"])
        if kind == "death":
            return {kind: Death(ANY, self._dice.randint(1, turns.passings[ANY]))}
        if kind == "after_bytes":
            return {kind: self._dice.randint(1, self._crashes.bytes)}
        return {kind: self._dice.uniform(0, self._crashes.length)}


class Turns:
    """The points of a life, one after another, in an order of chance."""

    def __init__(self, life: Life, dice: random.Random) -> None:
        self.passings = life.passings
        self.points = all_points(life.passings)
        self._dice = dice
        self._rest: Iterator[str] = iter(())

    def next(self) -> Death:
        for point in self._rest:
            return Death(point, self._dice.randint(1, self.passings[point]))
        self._rest = iter(self._dice.sample(self.points, len(self.points)))
        return self.next()


def run(
    kills: int, seed: int, backends: list[str], folder: Path, widths: Sequence[int] = WIDTHS
) -> Tally:
    """Kill so many times, and tell what was counted."""
    dice, tally, began = random.Random(seed), Tally(), time.monotonic()
    with Lives() as lives:
        programs = [
            Crashes(lives, folder / str(width), backend, width, tally)
            for backend in backends
            for width in widths
        ]
        fates = [Fates(crashes, dice) for crashes in programs]
        points = set[str]().union(*(each.points for each in fates))
        shown = began
        while tally.kills < kills and not tally.violations:
            crashes, fate = dice.choice([*zip(programs, fates, strict=True)])
            crashes.run(*fate.deaths())
            if time.monotonic() - shown > 30:
                shown = time.monotonic()
                print(f"  ... {tally.kills:,} kills", file=sys.stderr, flush=True)
    print(
        f"seed {seed}, {' and '.join(backends)}, {len(points)} named points and any moment\n"
        f"{tally.kills:>9,} kills\n"
        f"{tally.lives:>9,} lives of {tally.runs:,} runs\n"
        f"{tally.acknowledged:>9,} outcomes of nodes acknowledged, {tally.bodies:,} bodies begun\n"
        f"{tally.lost:>9,} acknowledged outcomes lost or changed\n"
        f"{tally.rerun:>9,} finished nodes run again\n"
        f"{tally.torn:>9,} parents without all their children, or other results\n"
        f"{tally.other:>9,} other faults\n"
        f"{time.monotonic() - began:>9,.1f} s",
        flush=True,
    )
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--backend", choices=["asyncio", "trio"], action="append")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="crashes-"))
    tally = run(given.kills, given.seed, given.backend or ["asyncio", "trio"], folder)
    for violation in tally.violations:
        print(violation)
    if not tally.violations:
        for left in sorted(folder.rglob("*"), reverse=True):
            left.rmdir() if left.is_dir() else left.unlink()
        folder.rmdir()
    return bool(tally.violations)


if __name__ == "__main__":
    sys.exit(main())
