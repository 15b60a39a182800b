"""What waits for room in the registry: jobs that an earlier process has left."""

from collections.abc import Sequence
from contextlib import suppress

from anyio import create_task_group
from tables import Job

import dagron


def start_some(jobs: dict[str, Job], runs: dagron.RunRegistry) -> None:
    """Start jobs, and take them out, until there is no more room."""
    with suppress(dagron.RegistryFullError):
        for id, job in [*jobs.items()]:
            runs.start(job.run(), data=job)
            del jobs[id]


async def start_rest(jobs: dict[str, Job], runs: dagron.RunRegistry) -> None:
    """Start all jobs, as others end; return when that is done, or the registry closes."""
    with suppress(dagron.RegistryClosedError):
        while jobs:
            await one_of(runs.running)
            start_some(jobs, runs)


async def one_of(runs: Sequence[dagron.RegisteredRun]) -> None:
    """Return when one of these has ended."""
    async with create_task_group() as group:

        async def wait(run: dagron.RegisteredRun) -> None:
            await run.has_ended()
            group.cancel_scope.cancel()

        for run in runs:
            group.start_soon(wait, run)
