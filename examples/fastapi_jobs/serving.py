"""What the server does not do by itself."""

import os
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI, Request

import dagron


def serve(app: FastAPI, **options: Any) -> None:
    """Serve until a signal comes, close everything, and end the process.

    SIGTERM ends it in uvicorn. After Ctrl-C Python's own exit would wait for threads that block,
    also for those that the registry gave up.
    """
    uvicorn.run(app, **options)
    sys.stdout.flush()
    os._exit(0)


async def cancel_when_gone(request: Request, run: dagron.Run) -> None:
    """Cancel a run when the client that waits for it has disconnected."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    run.cancel("the client has gone")
