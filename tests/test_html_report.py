"""The page of a run: what it holds, that nothing in it is more than text, and how it is written."""

import fcntl
import os
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from os import pathsep
from pathlib import Path
from typing import Any

import pytest

import dagron
from dagron import (
    DynamicModification,
    DynamicNodeSpec,
    ExecutionResult,
    NodePolicy,
    NodeResult,
    NodeStatus,
    Retry,
)
from dagron.render import _html, _html_data, _html_file, _html_log
from html_pages import Page, read_page
from pictures import HOSTILE, boxes_in, read_svg

# What those names that no node can have are in errors, reasons and results.
HOSTILE_TEXTS = [
    *HOSTILE,
    "a name\nwith newlines\r\n\tand more",
    "\x00\x1b[31mred\x07",
    "\ud800 alone",
    "{{script}} {{data}}",
    "]]></script></style></title></textarea></noscript><script>alert(1)</script>",
    "x" * 100_000,
]


def nothing() -> None:
    """A task that does nothing."""


def broken() -> None:
    raise ValueError("line 7 has no date")


def run(
    *edges: tuple[str, str] | str,
    tasks: dict[str, Any] | None = None,
    expanders: dict[str, Any] | None = None,
    **options: Any,
) -> ExecutionResult:
    """Run a graph of these edges and nodes, whose tasks do nothing where none are given."""
    builder = dagron.DAG.builder()
    for edge in edges:
        if isinstance(edge, str):
            builder.add_node(edge)
        else:
            builder.add_edge(*edge)
    dag = builder.build()
    executor = dagron.DynamicExecutor(dag, expanders=expanders or {}, **options)
    return executor.execute_sync({**dict.fromkeys(dag, nothing), **(tasks or {})})


def adding(*specs: DynamicNodeSpec, **fields: Any) -> Callable[..., DynamicModification]:
    return lambda name, result: DynamicModification(list(specs), **fields)


def by_hand(*nodes: NodeResult, **fields: Any) -> ExecutionResult:
    builder = dagron.DAG.builder()
    for node in nodes:
        builder.add_node(node.name)
    return ExecutionResult({node.name: node for node in nodes}, builder.build(), **fields)


@pytest.fixture
def page(tmp_path: Path) -> Callable[..., Page]:
    """Saves a result and reads the file back."""

    def save(result: ExecutionResult, **options: Any) -> Page:
        path = result.save_html(tmp_path / "run.html", **options)
        return read_page(path.read_bytes().decode())

    return save


def flaky(failures: int, value: object = None) -> Callable[[], object]:
    tries = []

    def task() -> object:
        tries.append(None)
        if len(tries) <= failures:
            raise ConnectionError(f"try {len(tries)}")
        return value

    return task


@pytest.fixture(scope="module")
def eventful() -> ExecutionResult:
    """A run in which one thing happens after another: one node at a time, in this order."""
    return run(
        ("load", "fit"),
        ("fit", "report"),
        ("load", "parse"),
        ("parse", "store"),
        tasks={"load": flaky(1, {"rows": 3}), "parse": broken},
        expanders={
            "load": adding(
                DynamicNodeSpec("exact", lambda: 1.5, ["load"], ["report"]), remove_nodes=["fit"]
            )
        },
        max_concurrency=1,
        policy=NodePolicy(retry=Retry(2, initial_delay=0, on=ConnectionError)),
    )


# --- what it holds -------------------------------------------------------------------------------


def test_a_page_knows_of_every_node(page: Callable[..., Page], eventful: ExecutionResult) -> None:
    """A node's data have its state, why, what it returned, who added it, and its neighbours."""
    nodes = page(eventful).nodes
    names = list(nodes)
    assert sorted(names) == ["exact", "fit", "load", "parse", "report", "store"]
    number = {name: names.index(name) for name in names}
    exact, load, parse = nodes["exact"], nodes["load"], nodes["parse"]
    assert exact["status"] == "COMPLETED"
    assert exact["result"] == "1.5"
    assert (exact["by"], exact["by_index"], exact["landed"]) == ("load", number["load"], 1)
    assert (exact["needs"], exact["feeds"]) == ([number["load"]], [number["report"]])
    assert load["children"] == [number["exact"]]
    assert load["result"] == "{'rows': 3}"
    assert load["attempts"] == 2
    assert load["start"] >= 0
    assert load["took"] >= 0
    assert "by" not in load
    assert [error["title"] for error in load["errors"]] == ["ConnectionError: try 1"]
    (error,) = parse["errors"]
    assert error["title"] == "ValueError: line 7 has no date"
    assert error["text"].startswith("Traceback (most recent call last):\n")
    assert (
        f'File "{__file__}", line {broken.__code__.co_firstlineno + 1}, in broken' in error["text"]
    )
    assert nodes["store"]["reason"] == "skipped because 'parse' failed"
    assert nodes["fit"] == {
        "name": "fit",
        "status": "REMOVED",
        "removed_by": "load",
        "removed_in": 1,
    }


def test_a_page_tells_what_happened(page: Callable[..., Page], eventful: ExecutionResult) -> None:
    """The log has every start, attempt, end, modification, addition and removal, in order."""
    entries = page(eventful).entries
    assert [entry[:2] for entry in entries] == [
        ("run", None),
        ("started", "load"),
        ("retried", "load"),
        ("started", "load"),
        ("landed", "load"),
        ("added", "exact"),
        ("removed", "fit"),
        ("completed", "load"),
        ("started", "parse"),
        ("failed", "parse"),
        ("skipped", "store"),
        ("started", "exact"),
        ("completed", "exact"),
        ("started", "report"),
        ("completed", "report"),
        ("run", None),
    ]
    texts = {entry[:2]: entry[2] for entry in entries}
    assert texts["retried", "load"] == "attempt 1: ConnectionError: try 1"
    assert texts["started", "load"] == "attempt 2 of 2"
    assert texts["landed", "load"] == "Modification 1: added 1 node, removed 1 node"
    assert texts["added", "exact"] == texts["removed", "fit"] == "by load"
    assert texts["failed", "parse"] == "ValueError: line 7 has no date"
    assert texts["skipped", "store"] == "skipped because 'parse' failed"
    assert re.fullmatch(r"after [\d.]+ m?s", texts["completed", "load"])
    times = [entry[0] for entry in page(eventful).data["entries"]]
    assert times == sorted(times)
    assert entries[0][2] == "The run began with 5 nodes."
    assert entries[-1][2] == "The run ended."
