"""The libraries whose durable runs `durable.py` compares, one small file each.

A peer is a module of this folder with

    NAME          as it stands in the table
    REQUIRES      what is installed into an environment of its own, in pip's words
    NOTE          what its SQLite is told, and when a node counts
    run(size, folder)
                  runs that many children once, at most `IN_FLIGHT` at a time, each recorded on its
                  own; returns the seconds that it took, and the sum of what they returned

It imports its library only inside functions. Its docstring names the page of the library's
documentation from which the idiom is taken.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

PEERS = ("langgraph_sqlite", "dbos_sqlite")
IN_FLIGHT = 64
WARM = 50  # children of a run that comes first, and starts and imports what a process needs once

Run = Callable[[int, Path], Awaitable[tuple[float, int]]]


def load(peer: str) -> ModuleType:
    return import_module(f"benchmarks.durable_peers.{peer}")


async def child(number: int) -> int:
    """What each of them does: it lets the others have their turn once."""
    await asyncio.sleep(0)
    return number


def answer(peer: str, size: int) -> str:
    """Return the seconds per child, as JSON; a warm run comes first, with a file of its own."""
    run: Run = load(peer).run

    async def both() -> float:
        seconds = 0.0
        for children in (min(WARM, size), size):
            with TemporaryDirectory() as folder:
                seconds, total = await run(children, Path(folder))
            if total != children * (children - 1) // 2:
                raise RuntimeError(f"{peer} lost some of {children:,} results: {total:,}")
        return seconds

    return json.dumps({"seconds": asyncio.run(both())})


def main() -> None:
    print("\n" + answer(sys.argv[1], int(sys.argv[2])), flush=True)
