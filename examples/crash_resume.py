"""Load this Python's own library into a database; be killed half-way; go on, and lose nothing.

    python examples/crash_resume.py                   # all of it: starts, kills, starts again
    python examples/crash_resume.py --db runs.db      # by hand: kill -9 it, and type it again

`list` finds the modules of the standard library. Its expander adds a node `read MODULE` for each,
which parses the module's source, and the expander of those adds `load MODULE`, which writes what is
defined there into a database of its own. `report` waits for them all.

    list --+--> read json.decoder ----> load json.decoder --+--> report
           +--> read json.encoder ----> load json.encoder --+
           +--> ...                                         |

The run has a journal, so that one which was killed goes on: what had ended is not run again, and
the nodes that were added are there. A node that was at work when the process died is run again: it
may have done its work already, and only not said so. So `load` writes the node's idempotency key in
the same transaction as the rows, and where that is written already it writes nothing.

Each body says in a log that it has begun, and an observer that its node is done. From that log the
program tells what was run twice. (The log is for this demonstration: a program needs none.)

Exit codes: 0, it went on as it should; 1, something was lost, or run twice that must not be.
"""

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import sysconfig
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from _python_catalog import Definitions, library_sources
from _terminal import count, positive, visible

import dagron

SCHEMA = """
CREATE TABLE IF NOT EXISTS modules (name TEXT PRIMARY KEY, bytes INTEGER, lines INTEGER);
CREATE TABLE IF NOT EXISTS definitions (module TEXT, kind TEXT, name TEXT, line INTEGER);
CREATE TABLE IF NOT EXISTS loads (key TEXT PRIMARY KEY) WITHOUT ROWID;
"""
EVERY = 10  # nodes, until it says how far it is

Module = dict[str, Any]


# ---- the graph ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Library:
    """What is read, the database into which it goes, and the log of what was run."""

    database: Path
    log: "Log"
    modules: int | None = None  # so many; None: all

    def executor(self, journal: dagron.Journal) -> dagron.DynamicExecutor:
        dag = dagron.DAG.builder().add_edge("list", "report").build()
        return dagron.DynamicExecutor(
            dag,
            expanders={"list": self.add_reads},
            max_workers=4,
            limits={"database": 1},
            observers=[self.log.see],
            journal=journal,
        )

    def tasks(self) -> dict[str, Callable[..., Any]]:
        return {"list": self.list_modules, "report": self.report}

    def list_modules(self) -> list[tuple[str, str, bool]]:
        """The modules there are: looked up in a node, since an expander may look nothing up."""
        self.log.begin()
        with closing(sqlite3.connect(self.database)) as connection:
            connection.executescript(SCHEMA)
        root = Path(sysconfig.get_path("stdlib"))
        found = sorted(library_sources(root, ""))[: self.modules]
        return [(name, str(path), path.name == "__init__.py") for name, path in found]

    def add_reads(
        self, name: str, modules: list[tuple[str, str, bool]]
    ) -> dagron.DynamicModification:
        return dagron.DynamicModification(
            [
                dagron.DynamicNodeSpec(
                    f"read {module}",
                    partial(self.read, module, path, is_package),
                    dependencies=[name],
                    dependents=["report"],
                    expander=self.add_load,
                )
                for module, path, is_package in modules
            ]
        )

    def read(self, module: str, path: str, is_package: bool) -> Module:
        self.log.begin()
        source = Path(path).read_bytes()
        found = Definitions()
        found.read(0, module if is_package else module.rpartition(".")[0], source)
        rows = [("class", row["name"], row["line"]) for row in found.classes]
        rows += [("function", row["name"], row["line"]) for row in found.functions]
        return {"name": module, "bytes": len(source), "lines": source.count(b"\n"), "rows": rows}

    def add_load(self, name: str, module: Module) -> dagron.DynamicModification | None:
        if not module["rows"]:
            return None
        load = dagron.DynamicNodeSpec(
            f"load {module['name']}",
            lambda inputs: self.load(inputs[name]),
            dependencies=[name],
            dependents=["report"],
            policy=dagron.NodePolicy(group="database", priority=1),
        )
        return dagron.DynamicModification([load])

    def load(self, module: Module) -> int:
        """Write the rows of a module, once, however often this is called for the same node."""
        self.log.begin()
        key = dagron.current().idempotency_key
        with closing(sqlite3.connect(self.database)) as connection, connection:
            if connection.execute("SELECT 1 FROM loads WHERE key = ?", [key]).fetchone() is None:
                connection.execute("INSERT INTO loads VALUES (?)", [key])
                rows = [(module["name"], *row) for row in module["rows"]]
                connection.executemany("INSERT INTO definitions VALUES (?, ?, ?, ?)", rows)
                row = (module["name"], module["bytes"], module["lines"])
                connection.execute("INSERT INTO modules VALUES (?, ?, ?)", row)
        return len(module["rows"])

    def report(self, inputs: Mapping[str, Any]) -> dict[str, int]:
        """How much was to be loaded, and how much is there."""
        self.log.begin()
        loaded = [number for name, number in inputs.items() if name.startswith("load ")]
        with closing(sqlite3.connect(self.database)) as connection:
            [(there,)] = connection.execute("SELECT count(*) FROM definitions").fetchall()
        return {"modules": len(loaded), "definitions": sum(loaded), "there": there}


# ---- what was run -------------------------------------------------------------------------------


class Log:
    """A file with a line for each body that begins and each node that is done, life by life.

    A line is written by one call: it is there also if this process is killed right afterwards.
    """

    def __init__(self, path: Path) -> None:
        self.lives = read_log(path)
        self._begun: set[str] = set()
        self._mutex = threading.Lock()
        self._done = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._file = os.open(path, flags, 0o600)

    def begin(self) -> None:
        node = dagron.current().node
        with self._mutex:
            self._begun.add(node)
            self._write("begun", node)

    def see(self, event: dagron.Event) -> None:
        """An observer. It also hears of what an earlier life had done."""
        if event.kind == "node_completed" and event.node in self._begun:
            self._write("done", event.node)
            self._done += 1
            if self._done % EVERY == 0:
                print(f"{self._done} nodes done", flush=True)

    def close(self) -> None:
        os.close(self._file)

    def _write(self, what: str, node: str) -> None:
        life = len(self.lives) + 1
        os.write(self._file, (json.dumps([life, what, node]) + "\n").encode())


@dataclass
class Life:
    """What one process did for the run."""

    begun: Counter[str] = field(default_factory=Counter)
    done: set[str] = field(default_factory=set)


def read_log(path: Path) -> list[Life]:
    """Return the lives of a run, as they are logged; none where there is no log."""
    lives: list[Life] = []
    if path.exists():
        for life, what, node in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            lives += [Life() for _ in range(life - len(lives))]
            if what == "begun":
                lives[-1].begun[node] += 1
            else:
                lives[-1].done.add(node)
    return lives


@dataclass
class Tally:
    """What became of the work of all lives but the last, in the last one."""

    done: set[str]
    at_work: set[str]  # it had begun, and nobody had heard of its end
    last: Life

    @classmethod
    def of(cls, lives: list[Life]) -> "Tally":
        done = {node for life in lives[:-1] for node in life.done}
        begun = {node for life in lives[:-1] for node in life.begun}
        return cls(done, begun - done, lives[-1] if lives else Life())

    @property
    def wrongly_again(self) -> set[str]:
        return self.done & {*self.last.begun}

    @property
    def again(self) -> set[str]:
        return self.at_work & {*self.last.begun}

    def lines(self) -> Iterator[str]:
        first = {*self.last.begun} - self.done - self.at_work
        yield f"{len(self.done):>6,}  done before it was killed"
        yield f"{len(self.wrongly_again):>6,}  of these run again"
        yield f"{len(self.at_work):>6,}  at work when it was killed"
        yield f"{len(self.again):>6,}  of these run again{shown(self.again)}"
        yield f"{len(first):>6,}  run for the first time afterwards"


def shown(nodes: set[str], most: int = 4) -> str:
    names = [visible(name) for name in sorted(nodes)]
    return ": " + ", ".join(names[:most] + ["..."][: len(names) > most]) if names else ""


# ---- one life of the run ------------------------------------------------------------------------


def work(options: argparse.Namespace) -> int:
    """Begin the run, or go on with it, to its end."""
    log = Log(beside(options.db, ".log"))
    if log.lives:
        print(f"process {os.getpid()} goes on with run {options.run_id!r}", flush=True)
    else:
        print(f"process {os.getpid()} begins run {options.run_id!r}", flush=True)
    library = Library(beside(options.db, ".library.db"), log, options.modules)
    try:
        with closing(log), dagron.Journal(options.db) as journal:
            executor = library.executor(journal)
            result = executor.execute_sync(library.tasks(), run_id=options.run_id)
    except dagron.JournalError as error:
        print(error, file=sys.stderr)
        return 1
    return conclude(result, read_log(beside(options.db, ".log")))


def conclude(result: dagron.ExecutionResult, lives: list[Life]) -> int:
    if not result.ok:
        print(result.summary(), file=sys.stderr)
        return 1
    tally = Tally.of(lives)
    if len(lives) > 1:
        print(*tally.lines(), sep="\n")
    report = result["report"].result
    twice = report["there"] - report["definitions"]
    print(f"{twice:>6,}  rows in the database too many or too few")
    print(
        f"{count(result.succeeded, 'node')}; {count(report['definitions'], 'definition')} "
        f"of {count(report['modules'], 'module')} loaded"
    )
    return 1 if tally.wrongly_again or twice else 0


def beside(db: Path, what: str) -> Path:
    return db.with_name(db.name + what)


# ---- both parts ---------------------------------------------------------------------------------


def play(options: argparse.Namespace) -> int:
    """Start it, kill it half-way, start it again."""
    with TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--db", str(Path(folder, "runs.db"))]
        if options.modules:
            command += ["--modules", str(options.modules)]
        half = options.modules or len(list(library_sources(Path(sysconfig.get_path("stdlib")), "")))
        with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as first:
            told = first.stdout
            assert told is not None, "it was asked for"
            for line in told:
                if line.startswith("process"):
                    print(line, end="")
                elif line.endswith(" nodes done\n") and int(line.split()[0]) >= half:
                    break
            first.kill()
        if first.returncode == 0:
            print("it ended before it could be killed", file=sys.stderr)
            return 1
        print(f"killed it, when some {half:,} nodes were done: signal {-first.returncode}")
        second = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", check=False)
        print(*(line for line in second.stdout.splitlines() if "nodes done" not in line), sep="\n")
        return second.returncode


# ---- the command --------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        return play(options) if options.db is None else work(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A run that is killed, and goes on.")
    parser.add_argument(
        "--db", metavar="PATH", type=Path, help="the journal: run it by hand, kill it, run it again"
    )
    parser.add_argument("--run-id", metavar="ID", default="library", help="default: library")
    parser.add_argument(
        "--modules", metavar="N", type=positive, help="so many of the library's modules (all)"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
