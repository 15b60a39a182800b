"""Three strategies race for one task: the first good answer wins, and the others are cancelled.

    python examples/race.py                      # on the library of this Python
    python examples/race.py ~/photos             # on the files of a folder of your own
    python examples/race.py ~/photos --within 1000000

The task: share the files between two discs so that both hold the same number of bytes, or nearly.

    files --+--> dealing ------+
            +--> differencing -+--> answer
            +--> exhaustive ---+

- `dealing` gives each disc every other file. That is quick, and hardly ever good enough.
- `differencing` (Karmarkar and Karp, 1982) puts the two largest files on different discs and goes
  on with their difference in place of both, until one number is left.
- `exhaustive` tries every split, in a worker thread. It finds the best there is, if it ever ends.

What is shown: a condition on an edge that says which answer is good, an expander that cancels the
rest with `cancel_nodes`, a join that starts with the first good answer (`any_succeeded`), and how a
thread is stopped (`dagron.check_cancelled`). A node that loses a race has not failed: `result.ok`
stays True.

Exit codes: 0, there is a good answer; 1, there is none; 2, the folder cannot be read.
"""

import argparse
import heapq
import itertools
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import compress, product
from pathlib import Path
from typing import Any

from _terminal import count, natural, seconds, visible
from anyio.lowlevel import checkpoint

import dagron


@dataclass(frozen=True)
class File:
    path: Path
    size: int


@dataclass(frozen=True)
class Split:
    """Which files go onto which disc."""

    left: tuple[File, ...] = ()
    right: tuple[File, ...] = ()

    @property
    def difference(self) -> int:
        """By how many bytes the two discs differ."""
        return abs(size(self.left) - size(self.right))


def size(files: tuple[File, ...]) -> int:
    return sum(file.size for file in files)


# ---- the strategies: `files` is filled with the result of the node of that name -----------------


async def dealing(files: list[File]) -> Split:
    return Split(tuple(files[::2]), tuple(files[1::2]))


async def differencing(files: list[File]) -> Split:
    number = (
        itertools.count()
    )  # tells equal differences apart, so that no two splits are ever compared
    heap = [(-file.size, next(number), Split((file,))) for file in files]
    heapq.heapify(heap)
    for merge in range(len(files) - 1):
        if merge % 50 == 0:
            await checkpoint()  # the other nodes get their turn, and this one can be cancelled
        larger, _, one = heapq.heappop(heap)
        smaller, _, other = heapq.heappop(heap)
        both = Split(one.left + other.right, one.right + other.left)
        heapq.heappush(heap, (larger - smaller, next(number), both))
    return heap[0][2] if heap else Split()


def exhaustive(files: list[File]) -> Split:
    best = Split(tuple(files))
    for choice in product([True, False], repeat=len(files)):
        dagron.check_cancelled()  # a thread cannot be stopped from outside: it has to ask
        left = tuple(compress(files, choice))
        right = tuple(compress(files, (not chosen for chosen in choice)))
        best = min(best, Split(left, right), key=lambda split: split.difference)
        if best.difference <= 1:
            break
    return best


STRATEGIES: dict[str, Callable[..., Any]] = {
    "dealing": dealing,
    "differencing": differencing,
    "exhaustive": exhaustive,
}


# ---- the race -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Race:
    folder: Path
    within: int  # bytes by which the discs may differ
    pattern: str = "*"
    leave_out: str = ""  # a folder in it

    def executor(self) -> dagron.DynamicExecutor:
        builder = dagron.DAG.builder()
        for strategy in STRATEGIES:
            builder.add_edge("files", strategy)
            builder.add_edge(strategy, "answer", condition=self.is_good)
        builder.add_node("answer", policy=dagron.NodePolicy(trigger=dagron.any_succeeded))
        expanders = dict.fromkeys(STRATEGIES, self.cancel_others)
        return dagron.DynamicExecutor(builder.build(), expanders)

    def tasks(self) -> dict[str, Callable[..., Any]]:
        return {"files": self.files, **STRATEGIES, "answer": self.answer}

    def files(self) -> list[File]:
        paths = sorted(self.folder.rglob(self.pattern))
        return [
            File(path, path.stat().st_size)
            for path in paths
            if path.is_file()
            and not path.is_symlink()
            and self.leave_out not in path.relative_to(self.folder).parts
        ]

    def is_good(self, split: Split) -> bool:
        return split.difference <= self.within

    async def cancel_others(self, name: str, split: Split) -> dagron.DynamicModification | None:
        """After each strategy: its answer wins, or it is not good enough and changes nothing."""
        if not self.is_good(split):
            return None
        others = [strategy for strategy in STRATEGIES if strategy != name]
        return dagron.DynamicModification(cancel_nodes=others)

    def answer(self, inputs: Mapping[str, Split]) -> tuple[str, Split]:
        """The winner: an edge that is inactive, or a node that is cancelled, gives no input."""
        [winner] = inputs.items()
        return winner


# ---- the report ---------------------------------------------------------------------------------


def report(race: Race, result: dagron.ExecutionResult) -> None:
    files = result["files"].result
    print(f"{count(len(files), 'file')}, {count(size(files), 'byte')}: {visible(race.folder)}")
    print(f"a good answer puts the same on both discs, within {count(race.within, 'byte')}\n")
    for strategy in STRATEGIES:
        node = result[strategy]
        print(f"  {strategy:<13}{node.status:<10} {verdict(race, node)}")
    answer = result["answer"]
    if answer.status == "COMPLETED":
        winner, split = answer.result
        print(f"\n{winner} wins:")
        for disc in (split.left, split.right):
            print(f"  {len(disc):>6,} files  {size(disc):>12,} bytes")
    else:
        print(f"\nno answer is good enough: {answer.reason}")
    print(f"\nresult.ok is {result.ok}" + (f": {result.reason}" if result.reason else ""))


def verdict(race: Race, node: dagron.NodeResult) -> str:
    if node.status != "COMPLETED":
        return visible(node.error or node.reason)
    good = "good" if race.is_good(node.result) else "not good enough"
    return f"{good}: {count(node.result.difference, 'byte')} between the discs"


# ---- the command --------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.folder:
        race = Race(options.folder, options.within)
    else:
        library = Path(sysconfig.get_path("stdlib"))
        race = Race(library, options.within, pattern="*.py", leave_out="site-packages")
    if not race.folder.is_dir():
        print(f"error: {visible(race.folder)} is no folder", file=sys.stderr)
        return 2
    try:
        result = race.executor().execute_sync(
            race.tasks(), timeout=options.timeout, backend=options.backend
        )
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    if result["files"].status != "COMPLETED":
        print(f"error: {visible(result['files'].error)}", file=sys.stderr)
        return 2
    report(race, result)
    return 0 if result["answer"].status == "COMPLETED" else 1


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Share files evenly between two discs.")
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        type=Path,
        help="whose files are shared; they are only looked at (default: this Python's library)",
    )
    parser.add_argument(
        "--within",
        metavar="BYTES",
        type=natural,
        default=100,
        help="how far from even a good answer may be (default: 100)",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        default=60,
        help="when to give up, should no strategy find a good answer (default: 60)",
    )
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a name may hold what the terminal lacks
    sys.exit(main())
