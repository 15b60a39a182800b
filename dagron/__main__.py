"""The command line: ``python -m dagron runs list runs.db`` looks into a journal."""

import json
import os
import re
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dagron._errors import DagronError, JournalError, RecordedError
from dagron._events import Event
from dagron._names import plain, plural, shown_time
from dagron._node_result import NodeResult
from dagron._results import error_text

if TYPE_CHECKING:
    from dagron import Journal, RecordedRun

SHOWN_RESULT = 2_000  # characters
UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
# What every event has is told in its first columns.
STAMPS = {"kind", "seq", "version", "time", "elapsed", "run_id", "node"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code: 0, or 1 where it could not be done."""
    options = parser().parse_args(arguments)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # whatever the terminal can show
    try:
        with opened(options) as journal:
            options.command(journal, options)
        sys.stdout.flush()
    except BrokenPipeError:  # who reads the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (DagronError, OSError) as error:
        text = error.args[0] if isinstance(error, DagronError) and error.args else error
        print("error:", "\n".join(map(plain, str(text).splitlines())), file=sys.stderr)
        return 1
    return 0


def parser() -> ArgumentParser:
    """Return what reads the command line."""
    top = ArgumentParser(prog="python -m dagron", description="Look into what dagron has recorded.")
    runs = top.add_subparsers(required=True, metavar="runs").add_parser(
        "runs", help="the runs of a journal", description="The runs of a journal."
    )
    commands = runs.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: Callable[..., None], help: str) -> ArgumentParser:
        found = commands.add_parser(name, help=help, description=f"{help.capitalize()}.")
        found.add_argument("path", metavar="PATH", help="the file of the journal")
        found.set_defaults(command=function, allow=[])
        return found

    listing = command("list", list_runs, "list all runs, the oldest first")
    listing.add_argument("--json", action="store_true", help="print JSON")
    show = command("show", show_run, "show what a run came to, or has come to so far")
    show.add_argument("run_id", metavar="RUN_ID")
    show.add_argument("--events", action="store_true", help="also what happened, in order")
    show.add_argument("--node", metavar="NAME", help="this node alone, with result and traceback")
    show.add_argument("--json", action="store_true", help="print JSON")
    show.add_argument("--svg", metavar="FILE", help="write a picture of the run")
    show.add_argument("--html", metavar="FILE", help="write a report of the run")
    show.add_argument(
        "--allow",
        metavar="MODULE",
        action="append",
        help="load results that are of this module's classes, as Journal(allow=...) does",
    )
    prune = command("prune", prune_runs, "delete runs that ended long ago; others stay")
    prune.add_argument(
        "--older-than", metavar="AGE", type=age, required=True, help="30d, or 12h, 90m, 8w, 60s"
    )
    forget = command("forget", forget_run, "delete a run, ended or not, that nobody executes")
    forget.add_argument("run_id", metavar="RUN_ID")
    backup = command("backup", back_up, "copy the journal, also while runs are written to it")
    backup.add_argument("target", metavar="COPY", help="the file to make; it must not exist")
    return top


def age(text: str) -> float:
    """Return the seconds that "30d" is."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smhdw])", text)
    if found is None:
        raise ArgumentTypeError(f"{text!a:.60} is no age: write 30d, 12h, 90m, 8w or 60s")
    return float(found[1]) * UNITS[found[2]]


def opened(options: Namespace) -> "Journal":
    """Return the journal, which must be there: to look at it makes no file."""
    from dagron import Journal

    if not os.path.exists(options.path):
        raise JournalError(
            f"there is no such file: {options.path}\n  help: look at the path", options.path
        )
    return Journal(options.path, allow=options.allow)


# -- commands


def list_runs(journal: "Journal", options: Namespace) -> None:
    """Print all runs, a line each."""
    runs = journal.runs()
    if options.json:
        print_json([about(run) for run in runs])
        return
    if not runs:
        print("no runs")
        return
    rows: list[tuple[str, ...]] = [("RUN", "STATE", "BEGAN", "ENDED", "EXECUTED", "BY")]
    for run in runs:
        times = [moment(run.created), "" if run.ended is None else moment(run.ended)]
        holder = "" if run.holder is None else plain(str(run.holder))
        rows.append((run.id, run.state, *times, plural(run.lives, "time"), holder))
    for line in columns(rows):
        print(line)


def show_run(journal: "Journal", options: Namespace) -> None:
    """Print what became of a run, or of one of its nodes; write its picture and its report."""
    run = journal.run(options.run_id)
    nodes = [run.result[options.node]] if options.node is not None else [*run.nodes.values()]
    if options.json:
        print_json(
            {
                **about(run),
                "ok": run.result.ok,
                "reason": run.result.reason,
                "seconds": run.result.total_duration_seconds,
                "nodes": [node_facts(node) for node in nodes],
                **({"events": [e.as_dict() for e in run.events()]} if options.events else {}),
            }
        )
    else:
        show_text(run, nodes, options)
    note = sys.stderr if options.json else sys.stdout
    if options.svg is not None:
        with open(options.svg, "w", encoding="utf-8") as file:
            file.write(run.to_svg())
        print(f"wrote {plain(options.svg)}", file=note)
    if options.html is not None:
        run.result.save_html(options.html)
        print(f"wrote {plain(options.html)}", file=note)


def show_text(run: "RecordedRun", nodes: Iterable[NodeResult], options: Namespace) -> None:
    """Print what `show_run` prints for people."""
    if options.node is not None:
        for node in nodes:
            print("\n".join(node_lines(node)))
    else:
        print(run.summary())
    if options.events:
        print()
        events = [e for e in run.events() if options.node in (None, getattr(e, "node", None))]
        for line in columns(map(event_row, events)):
            print(line)


def prune_runs(journal: "Journal", options: Namespace) -> None:
    """Delete runs, and print which."""
    pruned = journal.prune(older_than=options.older_than)
    for run_id in pruned:
        print(run_id)
    print(f"deleted {plural(len(pruned), 'run')}" if pruned else "nothing to delete")


def forget_run(journal: "Journal", options: Namespace) -> None:
    """Delete one run."""
    journal.forget(options.run_id)
    print(f"deleted {options.run_id}")


def back_up(journal: "Journal", options: Namespace) -> None:
    """Copy the journal."""
    journal.backup(options.target)
    print(f"wrote {plain(options.target)}")


# -- words


def about(run: "RecordedRun") -> dict[str, Any]:
    """Return what there is to say of a run before it is read, for JSON."""
    return {
        "id": run.id,
        "state": run.state,
        "created": run.created,
        "ended": run.ended,
        "executions": run.lives,
        "holder": None if run.holder is None else run.holder._asdict(),
    }


def node_facts(node: NodeResult) -> dict[str, Any]:
    """Return what became of a node, for JSON: its result and its errors as text."""
    facts = dict(zip(NodeResult._fields, node.__getstate__(), strict=True))
    facts["result"] = shown_value(node.result)
    facts["error"] = None if node.error is None else error_text(node.error)
    facts["errors"] = [error_text(error) for error in node.errors]
    return facts


def node_lines(node: NodeResult) -> Iterator[str]:
    """Yield what became of a node, for people."""
    yield f"node {node.name!r}: {node.status}"
    if node.reason is not None:
        yield f"  reason    {plain(node.reason)}"
    if node.added_by is not None:
        yield f"  added by  {node.added_by!r}, {plural(node.depth, 'expansion')} deep"
    if node.started_at is not None:
        yield f"  started   {moment(node.started_at)}"
        yield f"  took      {shown_time(node.duration_seconds)}"
    yield f"  attempts  {node.attempts:,}"
    yield f"  result    {plain(shown_value(node.result))}"
    for error in dict.fromkeys([*node.errors, node.error]):
        if error is not None:
            yield f"  error     {plain(error_text(error))}"
            told = error.traceback_text if isinstance(error, RecordedError) else ""
            yield from (f"    {plain(line)}" for line in told.splitlines())


def event_row(event: Event) -> tuple[str, ...]:
    """Return what happened, in columns."""
    details = ((key, value) for key, value in event.as_dict().items() if key not in STAMPS)
    told = (f"{key}={shown_detail(value)}" for key, value in details)
    name = getattr(event, "node", None)
    node = "" if name is None else repr(name)
    return (f"+{event.elapsed:.3f} s", event.kind, node, plain(" ".join(told)))


def shown_detail(value: object) -> str:
    """Return a field of an event as text: of long lists how many there are."""
    if isinstance(value, tuple) and len(value) > 5:
        return f"({', '.join(map(repr, value[:5]))}, and {len(value) - 5:,} more)"
    return f"{value:.6g}" if isinstance(value, float) else repr(value)


def shown_value(value: object) -> str:
    """Return a result as text, whatever its ``repr()`` does."""
    try:
        text = repr(value)
    except Exception as error:
        text = f"<its repr() raised {type(error).__name__}>"
    more = len(text) - SHOWN_RESULT
    return text if more <= 0 else f"{text[:SHOWN_RESULT]}... and {more:,} characters more"


def moment(time: float) -> str:
    """Return a moment as text, in UTC."""
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S}Z"


def columns(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Yield rows as lines whose columns are as wide as they need to be."""
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def print_json(value: object) -> None:
    """Print a value as JSON; all beyond ASCII, and so all control characters, are escaped."""
    print(json.dumps(value, indent=2))


if __name__ == "__main__":
    sys.exit(main())
