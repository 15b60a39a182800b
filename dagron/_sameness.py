"""What has to be in another life of a run as it was: the errors that say what is not."""

from collections.abc import Mapping
from typing import Any

from dagron._errors import GraphMismatchError, ModificationError, ReplayError
from dagron._rows import Book
from dagron._written import graph_differences, settings_differences, shown_differences


def check_same_graph(book: Book, run_id: str, graph: str) -> None:
    """Raise `GraphMismatchError` where a run began with another graph than this one."""
    lines = graph_differences(book.graph, graph)
    if lines:
        raise GraphMismatchError(
            f"run {run_id!r} began with another graph\n  {shown_differences(lines)}\n"
            f"  help: go on with the graph that it began with, or take another run_id",
            lines,
        )


def check_same_settings(then: Mapping[str, Any], now: Mapping[str, Any], run_id: str) -> None:
    """Raise `GraphMismatchError` where a run began with an executor that treats nodes otherwise."""
    lines = settings_differences(then, now)
    if lines:
        raise GraphMismatchError(
            f"run {run_id!r} began with another executor\n  {shown_differences(lines)}\n"
            f"  help: go on with the policy= and keep= that it began with, or take another run_id",
            lines,
        )


def flipped(source: str | None, then: list[Any], now: list[Any]) -> ReplayError:
    """Return the error for conditions that answer otherwise than they did: these were false."""
    lines = []
    for edges, words in ((then, "false, and is not now"), (now, "not false, and is now")):
        for edge in edges:
            if edge not in (now if edges is then else then):
                a, b = edge if source is None else (source, edge)
                lines.append(f"the condition on {a!r:.60} -> {b!r:.60} was {words}")
    return ReplayError(
        f"conditions do not say what they said before\n  {shown_differences(lines)}\n"
        f"  help: let conditions depend on the result that they are called with alone",
        source or "",
        lines,
    )


def unreadable(by: str | None, error: ModificationError) -> ReplayError:
    """Return the error for nodes that were added, and that no graph could take any more."""
    lines = [fault.message for fault in error.faults]
    return ReplayError(
        f"what {'was added from outside' if by is None else f'node {by!r:.60} has added'} cannot "
        f"be added again\n  {shown_differences(lines)}\n"
        f"  help: go on with the tasks, the limits= and the runners= that there were",
        by or "",
        lines,
    )
