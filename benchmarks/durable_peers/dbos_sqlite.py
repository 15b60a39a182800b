"""DBOS on SQLite, docs.dbos.dev/python: "Learn DBOS Python", there "Workflows and steps", and
"Configuration", there `system_database_url`.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from pathlib import Path
from time import perf_counter

from benchmarks.durable_peers import IN_FLIGHT, child

NAME = "DBOS, SQLite"
REQUIRES = ("dbos", "pysqlite3-binary")
NOTE = "a rollback journal, FULL; a transaction per step, for which the step waits"


async def run(size: int, folder: Path) -> tuple[float, int]:
    if sqlite3.sqlite_version_info < (3, 42):  # its tables call a function that came with that
        sys.modules["sqlite3"] = __import__("pysqlite3")
    from dbos import DBOS

    DBOS(
        config={
            "name": "benchmark",
            "system_database_url": f"sqlite:///{folder / 'runs.db'}",
            "run_admin_server": False,
            "log_level": "ERROR",
        }
    )

    @DBOS.step(name="child")
    async def one(number: int) -> int:
        return await child(number)

    @DBOS.workflow(name="fan")
    async def fan(size: int) -> int:
        free = asyncio.Semaphore(IN_FLIGHT)

        async def limited(number: int) -> int:
            async with free:
                return await one(number)

        return sum(await asyncio.gather(*map(limited, range(size))))

    DBOS.launch()
    try:
        start = perf_counter()
        total = await fan(size)
        return perf_counter() - start, total
    finally:
        DBOS.destroy()
