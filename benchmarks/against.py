"""Compare the dagron of this checkout with that of another one, say of an earlier commit.

git worktree add ../before COMMIT && python benchmarks/against.py ../before [--shapes SHAPE ...]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bars import SMALL, Bar
from benchmarks.cases import SHAPES
from benchmarks.report import machine, markdown
from benchmarks.timing import Worker

LIMIT = 1.10


def main() -> None:
    options = parse()
    head = ["shape", "nodes", "before us/node", "now us/node", "now / before"]
    head.append(f"at most {LIMIT:.2f}")
    size, repeats, other = options.size, options.repeats, options.other
    rows = [compare(shape, size, repeats, other) for shape in options.shapes]
    print(machine(), markdown(head, rows), sep="\n\n")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("other", type=Path, metavar="OTHER_CHECKOUT", help="what was before")
    shapes = ("chain", "layers", "fan", "chained")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=shapes, metavar="SHAPE")
    parser.add_argument("--size", type=int, default=SMALL)
    parser.add_argument("--repeats", type=int, default=10, help="what counts is the smallest")
    options = parser.parse_args(arguments)
    options.other = options.other.resolve()
    if not (options.other / "dagron" / "__init__.py").exists():
        parser.error(f"{options.other} is no checkout of dagron: it has no dagron/__init__.py")
    return options


def compare(shape: str, size: int, repeats: int, other: Path) -> list[str]:
    """Two packages of one name need a process each. These take turns."""
    with Worker(shape, "async", size, other) as before, Worker(shape, "async", size) as now:
        for _ in range(repeats):
            before.round(("dagron",))
            now.round(("dagron",))
    per_node = [worker.best["dagron"]["run"] / size * 1e6 for worker in (before, now)]
    bar = Bar(shape, LIMIT, per_node[1] / per_node[0])
    figures = [f"{microseconds:.1f}" for microseconds in per_node]
    return [shape, f"{size:,}", *figures, f"{bar.measured:.2f}", bar.verdict]


if __name__ == "__main__":
    main()
