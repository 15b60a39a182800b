"""Stream compressed access logs into a report of what was asked for most, in constant memory.

    python examples/log_stream.py                     # a week of logs, which it writes once
    python examples/log_stream.py /var/log/nginx      # the *.gz files of a folder of your own
    python examples/log_stream.py --top 20 --window 4

Nobody knows how long a log is before it has been read, and none is ever in memory as a whole: the
graph grows while they are read, and what was counted is forgotten.

    logs --+--> access-2026-03-02.log.gz --+--> its lines from 1 ------+
           |                               +--> its lines from 2,001 --+--> (folded, forgotten)
           +--> access-2026-03-03.log.gz --+--> ...
           |
           '--> report

`logs` has a streaming expander that adds a node for each file, and each of those has one that reads
its file in a worker thread and adds a node for each chunk of lines. Both are generators, and each
goes on only while a few of the nodes that it has added are unfinished: `NodePolicy(window=...)`. A
`dagron.Fold` adds up the counts of a file's chunks, another one those of the files, and what they
have added up is forgotten. `report` depends on `logs` alone, and gets the sum.

Exit codes: 0, all files were read; 1, some could not be read to their end, and are not counted; 2,
there is nothing to read.
"""

import argparse
import gzip
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

from _access_logs import write_logs
from _python_catalog import cache_folder
from _terminal import count, positive, visible

import dagron

# host ident user [time] "method path protocol" status bytes
REQUEST = re.compile(r'\S+ \S+ \S+ \[[^]]+\] "\S+ (\S+)[^"]*" (\d{3}) (?:\d+|-)')

MOST_PATHS = 10_000  # that are counted at a time

# ---- what is counted ----------------------------------------------------------------------------


@dataclass
class Counts:
    """Counts of a part of the logs; those of two parts can be added."""

    lines: int = 0
    broken: int = 0
    chunks: int = 0
    files: int = 0
    paths: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    missed: int = 0  # the count of a path may be too low by so much

    def add(self, name: str, other: "Counts") -> "Counts":
        """Add the counts of another part, in place."""
        for part in ("lines", "broken", "chunks", "files", "missed"):
            setattr(self, part, getattr(self, part) + getattr(other, part))
        self.paths.update(other.paths)
        self.statuses.update(other.statuses)
        if len(self.paths) > MOST_PATHS:
            self.forget_rare_paths()
        return self

    def forget_rare_paths(self) -> None:
        """Keep memory bounded: take so much off all counts that half of them are gone.

        What remains is too low by at most that much, see J. Misra, D. Gries, "Finding repeated
        elements", Science of Computer Programming 2 (1982).
        """
        cut = sorted(self.paths.values(), reverse=True)[MOST_PATHS // 2]
        self.missed += cut
        self.paths = Counter({path: n - cut for path, n in self.paths.items() if n > cut})


def parse_lines(lines: list[str]) -> Counts:
    """The task of a chunk."""
    counts = Counts(lines=len(lines), chunks=1)
    for line in lines:
        request = REQUEST.match(line)
        if request is None:
            counts.broken += 1
        else:
            path, status = request.groups()
            counts.paths[path.partition("?")[0]] += 1
            counts.statuses[f"{status[0]}xx"] += 1
    return counts


# ---- the graph ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class LogStream:
    window: int = 8  # chunks of a file that are in memory at once
    lines: int = 2_000  # of a chunk
    files: int = 2  # that are read at once

    def run(self, paths: list[Path], backend: str = "asyncio") -> dagron.ExecutionResult:
        policy = dagron.NodePolicy(window=self.files, keep=dagron.Fold(add_file, Counts))
        dag = (
            dagron.DAG.builder().add_node("logs", policy=policy).add_edge("logs", "report").build()
        )
        executor = dagron.DynamicExecutor(dag, expanders={"logs": self.expand_logs})
        tasks = {"logs": lambda: paths, "report": lambda logs: logs}
        return executor.execute_sync(tasks, backend=backend)

    def expand_logs(self, name: str, paths: list[Path]) -> Iterator[dagron.DynamicNodeSpec]:
        policy = dagron.NodePolicy(window=self.window, keep=dagron.Fold(Counts.add, Counts))
        for path in paths:
            yield dagron.DynamicNodeSpec(
                name=path.name,
                task=partial(str, path),
                expander=self.expand_file,
                policy=policy,
            )

    def expand_file(self, name: str, path: str) -> Iterator[dagron.DynamicNodeSpec]:
        with gzip.open(path, "rt", encoding="utf-8", errors="replace") as log:
            first = 1
            while chunk := list(islice(log, self.lines)):
                yield dagron.DynamicNodeSpec(
                    name=f"{name}: its lines from {first:,}", task=partial(parse_lines, chunk)
                )
                first += len(chunk)


def add_file(total: Counts, name: str, counts: Counts) -> Counts:
    total.files += 1
    return total.add(name, counts)


# ---- the report ---------------------------------------------------------------------------------


def report(result: dagron.ExecutionResult, top: int) -> Iterator[str]:
    counts: Counts = result["report"].result
    yield f"{count(counts.lines, 'line')} of {count(counts.files, 'file')}"
    yield f"{count(counts.broken, 'line')} could not be read"
    yield "by status: " + ", ".join(f"{s} {n:,}" for s, n in sorted(counts.statuses.items()))
    if counts.missed:
        yield f"too many different paths: counts may be too low by {counts.missed:,}"
    yield ""
    for path, number in sorted(counts.paths.items(), key=lambda item: (-item[1], item[0]))[:top]:
        yield f"{number:>9,}  {path}"
    yield ""
    nodes = result.succeeded + result.failed + result.skipped
    kept = len(result.node_results)
    yield f"{count(nodes, 'node')} in all, of which {kept:,} were kept"


def unread(result: dagron.ExecutionResult) -> Iterator[str]:
    """What could not be read, and why."""
    for failed in result.family("logs").failures:
        yield f"{failed.name}: {type(failed.error).__name__}: {failed.error}"


# ---- the command --------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    folder = options.folder
    if folder is None:
        folder = cache_folder() / "access-logs"
        write_logs(folder)
    paths = sorted(folder.glob("*.gz"))
    if not paths:
        print(f"error: there are no *.gz files in {visible(folder)}", file=sys.stderr)
        return 2
    stream = LogStream(options.window, options.lines)
    try:
        result = stream.run(paths, options.backend)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print(*map(visible, report(result, options.top)), sep="\n")
    errors = list(unread(result))
    for error in errors:
        print(f"not counted: {visible(error)}", file=sys.stderr)
    return 1 if errors else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What was asked for most, by access logs.")
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        type=Path,
        help="a folder of *.gz files (default: a week of logs that are written once)",
    )
    parser.add_argument("--top", metavar="N", type=positive, default=10, help="paths to show")
    parser.add_argument(
        "--window",
        metavar="N",
        type=positive,
        default=8,
        help="chunks of each file to have in memory at once (default: 8)",
    )
    parser.add_argument(
        "--lines", metavar="N", type=positive, default=2_000, help="of a chunk (default: 2,000)"
    )
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a log may say what the terminal lacks
    sys.exit(main())
