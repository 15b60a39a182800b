"""The libraries that `alternatives.py` compares, one small file each.

A peer is a module of this folder whose name has no leading underscore, with

    NAME          as it stands in the table
    REQUIRES      what is installed into its environment, in pip's words; nothing for what needs
                  no more than this checkout
    DISTRIBUTION  optional: what tells the version, if not the first of these
    IMPORT        the module whose import is timed
    PYTHON        optional: the oldest Python that it runs on, as in (3, 12)
    cases()       for each of `CASES` a `Way` to do it, or a string: the reason why it cannot

It imports its library only inside functions: every module here is imported without it, too. So a
new peer is a new file, and its name in `PEERS`. Its docstring names the page of the library's
documentation from which the idiom is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

PEERS = (
    "dagron_here",
    "dagron_original",
    "pydantic_graph",
    "langgraph",
    "llama_index_workflows",
    "dask_threads",
    "dask_distributed",
    "prefect",
    "hamilton",
    "pipefunc",
    "by_hand_asyncio",
    "by_hand_anyio",
    "by_hand_graphlib",
)

SHAPES = ("chain", "fan", "layers", "chained")
LATENCIES = ("io", "uneven")
KINDS = ("async", "sync")
CASES = (*(f"{shape} {kind}" for kind in KINDS for shape in SHAPES), *LATENCIES)
"""In `io` and `uneven` a peer takes the kind of tasks that it is best with."""

WORKERS = 4  # threads for sync nodes, wherever a library lets the user say so
LIMIT = 100  # nodes at once in `io`


@dataclass(frozen=True, slots=True)
class Way:
    """How a peer does a case.

    `prepare` receives the `Work` and builds what the library runs; what it returns runs it once,
    and returns the sum of all nodes' results as the library gave them back. Both are plain
    functions, or both are coroutine functions, which then share a loop. What a library starts
    once and for many runs, such as a server, is started by the first, which is not timed.
    """

    prepare: Callable[[Any], Any]
    note: str = ""
    """What a reader of the table has to know; equal notes share a number."""
    kind: str = ""
    """Of the tasks of `io` and `uneven`: "async" or "sync". Other cases say so in their name."""


STATIC = "static: the library cannot add nodes while a graph runs"
TEMPLATE = "one node, known before, that is run again for each item: no new nodes"
LEVELS = "level by level: no node starts before all of the level before have ended"
SEMAPHORE = "no limit of its own: the tasks share a semaphore"


def load(peer: str) -> ModuleType:
    return import_module(f"benchmarks.peers.{peer}")
