"""A scheduler by hand on anyio's task group: `baselines.py`. Sync tasks by `to_thread.run_sync`."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.peers import LIMIT, WORKERS, Way
from benchmarks.peers._by_hand import cases_by_hand, prepared
from benchmarks.peers._work import Work

NAME = "anyio by hand"
REQUIRES = ("anyio>=4.14.2,<5",)
IMPORT = "anyio"


def cases() -> dict[str, Way | str]:
    return cases_by_hand(prepare)


async def prepare(work: Work) -> Any:
    import anyio

    from benchmarks import baselines

    in_thread = partial(anyio.to_thread.run_sync, limiter=anyio.CapacityLimiter(WORKERS))
    limit = anyio.Semaphore(LIMIT)
    schedulers = baselines.anyio_static, baselines.anyio_growing
    return prepared(work, in_thread, limit, *schedulers)
