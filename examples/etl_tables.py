"""Profile every table of a SQLite database and check every foreign key, as a graph that grows.

    python examples/etl_tables.py                 # the library of this Python, as a database
    python examples/etl_tables.py shop.db         # a database of your own; it is only read
    python examples/etl_tables.py shop.db --report shop.md --workers 8

The graph begins with three nodes, discover -> aggregate -> publish. Which tables there are is known
when `discover` is done: its expander adds one `profile:TABLE` node for each. Which foreign keys a
table has is known when it has been read: the expander of that profile node adds one
`check:TABLE.COLUMN->PARENT` node for each. `aggregate` waits for them all, and `publish` writes the
report.

One bad table must not cost the report on the others, and a failed node would: `aggregate` depends
on it. So a profile or a check that cannot read its table returns the error as its result.

Exit codes: 0, all was read (orphans and broken keys are findings, not failures); 1, something could
not be read, and the report says what; 2, nothing could be read, and there is no report.
"""

import argparse
import re
import sqlite3
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from _markdown_report import (
    Summary,
    figures,
    finding,
    markdown,
    no_findings,
    table_counts,
)
from _python_catalog import python_database
from _sqlite_profile import (
    BrokenKey,
    Check,
    ForeignKey,
    Profile,
    Table,
    TableVanished,
    check_key,
    connect,
    explain,
    is_locked,
    profile_table,
    read_tables,
)
from _terminal import count, visible

import dagron

UNREADABLE = (sqlite3.Error, OSError, TableVanished, BrokenKey)
MOST_LINES = 60  # of one listing on the terminal


# ---- the graph ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """One database and its report: the tasks of the nodes, and the expanders."""

    database: Path
    report: Path
    lock_wait: float = 2.0  # seconds
    views: bool = False

    def run(self, workers: int) -> dagron.ExecutionResult:
        dag = (
            dagron.DAG.builder()
            .add_edge("discover", "aggregate")
            .add_edge("aggregate", "publish")
            .build()
        )
        expanders = {"discover": self.add_profiles}
        executor = dagron.DynamicExecutor(dag, expanders=expanders, max_workers=workers)
        return executor.execute_sync(self.tasks())

    def tasks(self) -> dict[str, Callable[..., Any]]:
        return {"discover": self.discover, "aggregate": self.aggregate, "publish": self.publish}

    def discover(self) -> list[Table]:
        with connect(self.database, self.lock_wait) as connection:
            return read_tables(connection)

    def add_profiles(self, name: str, tables: list[Table]) -> dagron.DynamicModification:
        """After `discover`: one node per table, and each has an expander of its own."""
        kinds = {"table", "virtual", "view"} if self.views else {"table", "virtual"}
        return dagron.DynamicModification(
            add_nodes=[
                dagron.DynamicNodeSpec(
                    name=f"profile:{label(table.name)}",
                    task=partial(self.profile, table),
                    dependencies=[name],
                    dependents=["aggregate"],
                    expander=self.add_checks,
                )
                for table in tables
                if table.kind in kinds
            ]
        )

    def profile(self, table: Table) -> Profile:
        try:
            with connect(self.database, self.lock_wait) as connection:
                return profile_table(connection, table)
        except UNREADABLE as error:
            return Profile(table, error=explain(error, self.lock_wait))

    def add_checks(self, name: str, profile: Profile) -> dagron.DynamicModification:
        """After a profile: one node per foreign key of its table."""
        table = profile.table.name
        named = zip(check_names(table, profile.foreign_keys), profile.foreign_keys, strict=True)
        return dagron.DynamicModification(
            add_nodes=[
                dagron.DynamicNodeSpec(
                    name=check_name,
                    task=partial(self.check, table, key),
                    dependencies=[name],
                    dependents=["aggregate"],
                )
                for check_name, key in named
            ]
        )

    def check(self, table: str, key: ForeignKey) -> Check:
        try:
            with connect(self.database, self.lock_wait) as connection:
                return check_key(connection, table, key)
        except UNREADABLE as error:
            return Check(table, key, error=explain(error, self.lock_wait))

    def aggregate(self, inputs: Mapping[str, Any]) -> Summary:
        """Gather the results of nodes whose names nobody knew when this was written."""
        results = list(inputs.values())
        profiles = [result for result in results if isinstance(result, Profile)]
        checks = [result for result in results if isinstance(result, Check)]
        profiles.sort(key=lambda profile: profile.table.name)
        checks.sort(key=lambda check: (check.table, check.key.columns, check.key.parent))
        return Summary(inputs["discover"], profiles, checks)

    def publish(self, aggregate: Summary) -> Path:
        self.report.write_text(markdown(self.database, aggregate), encoding="utf-8")
        return self.report


# ---- node names: predictable, and never the same for two tables or two keys ---------------------


def check_names(table: str, keys: Iterable[ForeignKey]) -> list[str]:
    names: list[str] = []
    for key in keys:
        columns = shortened(",".join(map(label, key.columns)))
        names.append(f"check:{label(table)}.{columns}->{label(key.parent)}")
    # The same key may be declared twice.
    return [
        f"{name}#{again + 1}" if (again := names[:position].count(name)) else name
        for position, name in enumerate(names)
    ]


def label(identifier: str) -> str:
    """Return the name of a table or a column as a part of a node name.

    It stays as it is unless it is empty or holds what separates the parts or cannot be shown: then
    it is quoted as in SQL. So the table `a.b` is not mistaken for the column `b` of the table `a`.
    """
    if identifier.isprintable() and not re.search(r'^$|[".,:>#\\…]', identifier):
        return shortened(identifier)
    escaped = visible(identifier.replace("\\", "\\\\")).replace('"', '""')
    return shortened(f'"{escaped}"')


def shortened(text: str, most: int = 120) -> str:
    """Cut a long text and put a digest of it in place of the rest: node names have a limit."""
    if len(text) <= most:
        return text
    return f"{text[: most - 11]}…{sha256(text.encode()).hexdigest()[:10]}"


# ---- the terminal -------------------------------------------------------------------------------


def print_tables(summary: Summary) -> None:
    names = ["Table", *(cut(profile.table.name, 40) for profile in summary.profiles)]
    rows = [["Rows", "Columns", "Null cells", "Foreign keys"]]
    rows += [figures(summary, profile) for profile in summary.profiles]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    widest = max(map(len, names))
    print_some(
        f"{name:<{widest}}  "
        + "  ".join(f"{number:>{width}}" for number, width in zip(row, widths, strict=False))
        + f"  {row[3]}".rstrip()
        for name, row in zip(names, rows, strict=True)
    )
    print()


def print_findings(summary: Summary) -> None:
    print("Findings")
    print_some(": ".join(error) for error in summary.errors)
    print_some(finding(check) for check in summary.broken)
    if not (summary.errors or summary.broken):
        print(f"  {no_findings(summary)}")


def print_growth(result: dagron.ExecutionResult) -> None:
    """Print every node under the one that added it."""
    added: dict[str | None, list[str]] = {}
    for name, node in result.node_results.items():
        added.setdefault(node.added_by, []).append(name)
    lines = []
    stack = [(name, 0) for name in reversed(added[None])]
    while stack:
        name, depth = stack.pop()
        shown = f"{'  ' * depth}{'+ ' if depth else ''}{cut(name, 60)}"
        lines.append((shown, outcome(result[name])))
        stack += [(child, depth + 1) for child in reversed(added.get(name, []))]

    first, all_nodes = len(added[None]), len(result.node_results)
    print(
        f"\nWhat ran: {count(all_nodes, 'node')} in {result.total_duration_seconds:.2f} s. "
        f"The graph began with {first};\n{all_nodes - first} were added at run time (+), "
        f"each by the node that it stands under:"
    )
    width = max(len(name) for name, _ in lines)
    print_some(f"{name:<{width}}  {what}" for name, what in lines)


def outcome(node: dagron.NodeResult) -> str:
    """How a node ended, in a few words."""
    if node.status != "COMPLETED":
        return f"{node.status}: {node.error or node.reason}"
    match node.result:
        case Profile(error="", rows=rows, columns=columns):
            text = f"{count(rows, 'row')}, {count(len(columns), 'column')}"
        case Check(error="", remark="", orphans=orphans):
            text = count(orphans, "orphan") if orphans else "ok"
        case Check(error=""):
            text = "broken key"
        case Profile():
            text = "could not be read"
        case Check():
            text = "could not be checked"
        case Summary(profiles=profiles, checks=checks):
            text = f"{count(len(profiles), 'profile')}, {count(len(checks), 'check')}"
        case Path():
            text = "report written"
        case tables:
            text = table_counts(tables)
    milliseconds = node.duration_seconds * 1000
    return f"{text}, {f'{milliseconds:,.0f}' if milliseconds >= 1 else '<1'} ms"


def cut(text: str, most: int) -> str:
    text = visible(text)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def print_some(lines: Iterable[str]) -> None:
    lines = list(lines)
    for line in lines[:MOST_LINES]:
        print(f"  {visible(line)}")
    if len(lines) > MOST_LINES:
        print(f"  ... and {len(lines) - MOST_LINES:,} more")


# ---- the command --------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        return work(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def work(options: argparse.Namespace) -> int:
    try:
        database = options.database or own_database()
    except (OSError, sqlite3.Error) as error:
        return complain(f"this Python's library made no database: {error}", "name a DATABASE")
    folder = Path() if options.database else database.parent
    report = options.report or folder / f"{database.stem}.report.md"
    if report.exists() and database.exists() and report.samefile(database):
        return complain(f"the report would overwrite {database}", "give --report another name")
    job = Job(database, report, options.lock_wait, options.views)
    return conclude(job, job.run(options.workers))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Profile every table of a SQLite database and check every foreign key.",
        epilog="Exit code: 0 all was read, 1 something could not be read, 2 nothing could be read.",
    )
    parser.add_argument(
        "database",
        metavar="DATABASE",
        nargs="?",
        type=path,
        help="a SQLite file, only read (default: one built from the library of this Python)",
    )
    parser.add_argument(
        "--report",
        metavar="PATH",
        type=path,
        help="where the report goes (default: NAME.report.md in the current folder; "
        "beside the database if that was built)",
    )
    parser.add_argument(
        "--workers", metavar="N", type=positive, default=4, help="tables read at once (default: 4)"
    )
    parser.add_argument(
        "--lock-wait",
        metavar="SECONDS",
        type=seconds,
        default=2.0,
        help="how long to wait for another program's lock (default: 2)",
    )
    parser.add_argument("--views", action="store_true", help="profile views too")
    return parser.parse_args(arguments)


def path(text: str) -> Path:
    if not text:  # a variable of the shell that is not set, say; Path would take it for a "."
        raise argparse.ArgumentTypeError("it is empty: name a file, or leave it out")
    return Path(text)


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on, not {text!r}")
    return int(text)


def seconds(text: str) -> float:
    if not 0 <= (number := float(text)) <= 3600:
        raise argparse.ArgumentTypeError(f"between 0 and 3600, not {text!r}")
    return number


def own_database() -> Path:
    print(
        "No DATABASE given: taking one made of this Python's own library ... ", end="", flush=True
    )
    path, is_new = python_database()
    print("built" if is_new else "built earlier")
    return path


def conclude(job: Job, result: dagron.ExecutionResult) -> int:
    """Print what came of the run and return the exit code."""
    error = result["discover"].error
    if error and result["discover"].result is None:
        what = f"{job.database} cannot be read: {explain(error, job.lock_wait)}"
        if is_locked(error):
            return complain(what, "close what uses it, or wait longer with --lock-wait SECONDS")
        return complain(
            what, "name a SQLite database, or none for one made of this Python's library"
        )

    # Should a node fail in spite of all, what the others found is written here.
    done = {
        name: node.result
        for name, node in result.node_results.items()
        if node.status == "COMPLETED" or name == "discover"
    }
    summary = done.get("aggregate") or replace(job.aggregate(done), complete=False)
    print(f"Database: {visible(str(job.database.resolve()))}\n")
    if summary.profiles:
        print_tables(summary)
    print_findings(summary)
    print_growth(result)
    try:
        report = done.get("publish") or job.publish(summary)
    except OSError as error:
        complain(f"the report cannot be written: {error}", "name another place with --report")
        return 1
    print(f"\nReport: {visible(str(report.resolve()))}")
    return 0 if result.ok and not summary.errors else 1


def complain(what: str, advice: str) -> int:
    print(f"error: {visible(what)}\n  help: {advice}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a name may hold what the terminal lacks
    sys.exit(main())
