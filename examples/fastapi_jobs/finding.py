"""What handlers are given by the id in their path."""

from typing import Annotated, TypeAlias

from anyio.to_thread import run_sync
from fastapi import Depends, HTTPException, Request
from kept import KeptJobs

import dagron

Ended: TypeAlias = dagron.RecordedRun  # by itself, in an earlier process say


def registry(request: Request) -> dagron.RunRegistry:
    runs: dagron.RunRegistry = request.app.state.runs
    return runs


Runs = Annotated[dagron.RunRegistry, Depends(registry)]


async def find(id: str, runs: Runs, request: Request) -> dagron.RegisteredRun:
    """Return a job of this process, which alone has events and can be acted upon."""
    if id in request.app.state.waiting:
        raise HTTPException(503, "the job waits for room", {"Retry-After": "5"})
    try:
        return runs[id]
    except dagron.UnknownRunError as error:
        kept: KeptJobs = request.app.state.kept
        if error.was_forgotten or await run_sync(kept.finished, id) is None:
            raise
        raise HTTPException(410, f"job {id} has ended before the restart") from None


async def look_up(id: str, runs: Runs, request: Request) -> dagron.RegisteredRun | Ended:
    """Return a job, also one that this process does not have any more, or never had."""
    kept: KeptJobs = request.app.state.kept
    recorded = None if id in runs else await run_sync(kept.finished, id)
    return recorded or await find(id, runs, request)


Found = Annotated[dagron.RegisteredRun, Depends(find)]
LookedUp = Annotated[dagron.RegisteredRun | Ended, Depends(look_up)]
