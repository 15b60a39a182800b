"""What the tests of the handle, of events and of observers share: names, and runs in one line."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio

import dagron
from dagron import DynamicExecutor, NodeStatus, Run
from faults import GUARD, passes, until

Node = dagron.DynamicNodeSpec
Modification = dagron.DynamicModification
PENDING, READY, RUNNING, COMPLETED, FAILED, SKIPPED, CANCELLED = NodeStatus


def start(dag: dagron.DAG, tasks: dict[str, Any], **options: Any) -> Run:
    return DynamicExecutor(dag, **options).start(tasks)


@asynccontextmanager
async def running(
    dag: dagron.DAG,
    tasks: Mapping[str, Any],
    expanders: Mapping[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[Run]:
    """The block of a run, under a guard against hanging."""
    with anyio.fail_after(GUARD):
        async with DynamicExecutor(dag, expanders, **options).start(tasks) as run:
            yield run


async def noop() -> str:
    return "done"


async def fail() -> None:
    raise ValueError("wrong")


class Tidying:
    """A task that runs until it is cancelled, and takes its time to tidy up."""

    def __init__(self) -> None:
        self.begun = self.ended = 0

    async def __call__(self) -> None:
        self.begun += 1
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await passes(5)
            self.ended += 1

    async def has_begun(self) -> None:
        await until(lambda: self.begun)

    def assert_all_ended(self) -> None:
        assert self.begun == self.ended
