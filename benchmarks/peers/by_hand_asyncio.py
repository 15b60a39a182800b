"""A scheduler by hand on asyncio's task group: `baselines.py`. Sync tasks in a pool of threads."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from benchmarks.peers import LIMIT, WORKERS, Way
from benchmarks.peers._by_hand import cases_by_hand, prepared
from benchmarks.peers._work import Work

NAME = "asyncio by hand"
REQUIRES = ("anyio>=4.14.2,<5",)
DISTRIBUTION = ""
IMPORT = "asyncio"


def cases() -> dict[str, Way | str]:
    return cases_by_hand(prepare)


async def prepare(work: Work) -> Any:
    from benchmarks import baselines

    pool = ThreadPoolExecutor(WORKERS)
    in_thread = partial(asyncio.get_running_loop().run_in_executor, pool)
    limit = asyncio.Semaphore(LIMIT)
    schedulers = baselines.asyncio_static, baselines.asyncio_growing
    return prepared(work, in_thread, limit, *schedulers)
