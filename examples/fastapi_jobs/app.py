"""A web service to start from: uploads become jobs, graphs that grow with what is in the upload.

    python -m pip install -e ".[services]"
    python examples/fastapi_jobs/app.py             # or, with settings of your own:
    uvicorn --app-dir examples/fastapi_jobs app:app --timeout-graceful-shutdown 5

    curl --data-binary @tables.zip localhost:8000/jobs            # {"id": ..., "state": ...}
    curl localhost:8000/jobs/ID                                   # how it stands
    curl localhost:8000/jobs/ID/events                            # Server-Sent Events
    curl localhost:8000/jobs/ID/graph.svg                         # a picture of its graph
    curl --data-binary @tables.zip "localhost:8000/jobs?approval=true"
    curl -X POST localhost:8000/jobs/ID/approve                   # or .../cancel
    curl --data-binary @tables.zip localhost:8000/profile         # small ones: wait for the report

Reports are written to the folder `reports`. At SIGTERM event streams end, jobs get some seconds to
end by themselves, and the rest is cut off. What was cut off, by that or by a crash, goes on when
the service is started again: each job that was answered with an id ends.
"""

import argparse
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import anyio
import uvicorn
from anyio.to_thread import run_sync
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import Response, StreamingResponse
from kept import KeptJobs
from refusals import add_refusals
from tables import Job, failures
from uploads import Upload, receive

import dagron


def registry(request: Request) -> dagron.RunRegistry:
    runs: dagron.RunRegistry = request.app.state.runs
    return runs


def find(id: str, runs: Annotated[dagron.RunRegistry, Depends(registry)]) -> dagron.RegisteredRun:
    return runs[id]


Runs = Annotated[dagron.RunRegistry, Depends(registry)]
Found = Annotated[dagron.RegisteredRun, Depends(find)]
Received = Annotated[Upload, Depends(receive)]


def create_app(folder: Path, **options: Any) -> FastAPI:
    """Return the application; the options are those of `dagron.RunRegistry`."""
    options = {"max_running": 100, "close_on": [signal.SIGTERM, signal.SIGINT], **options}

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with KeptJobs(folder) as app.state.kept:
            async with dagron.RunRegistry(**options) as app.state.runs:
                for job in app.state.kept.unfinished():
                    app.state.runs.start(job.run(), data=job)
                yield

    app = FastAPI(title="Tables", lifespan=lifespan)

    @app.post("/jobs", status_code=202)
    async def start(upload: Received, runs: Runs, approval: bool = False) -> dict[str, Any]:
        job = await run_sync(app.state.kept.keep, upload, approval)
        try:
            return runs.start(job.run(), data=job).as_dict()
        except dagron.DagronError:
            job.upload.forget()
            raise

    @app.get("/jobs")
    async def index(runs: Runs) -> list[dict[str, Any]]:
        return [run.as_dict() for run in runs.values()]

    @app.get("/jobs/{id}")
    async def show(run: Found) -> dict[str, Any]:
        report = run.result["report"].result if run.result is not None else None
        return {**run.as_dict(), "report": report}

    @app.get("/jobs/{id}/events")
    async def events(
        run: Found, last_event_id: Annotated[str | None, Header()] = None
    ) -> StreamingResponse:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        return StreamingResponse(run.sse(last_event_id), 200, headers, "text/event-stream")

    @app.get("/jobs/{id}/graph.svg")
    async def picture(run: Found) -> Response:
        drawn = run.run.dag if run.result is None else run.result
        return Response(drawn.to_svg(), media_type="image/svg+xml")

    @app.post("/jobs/{id}/cancel", status_code=202)
    async def cancel(run: Found) -> dict[str, Any]:
        run.data.upload.forget()  # so that it does not go on later
        run.cancel("by a request")
        return run.as_dict()

    @app.post("/jobs/{id}/approve")
    async def approve(run: Found) -> dict[str, Any]:
        if "approve" not in run.run.dag or run.state != "running" or run.data.gate.is_decided:
            raise HTTPException(409, f"the job waits for no approval: it is {run.state}")
        run.data.gate.open("by a request")
        return run.as_dict()

    @app.post("/profile")
    async def profile(upload: Received, request: Request) -> dict[str, Any]:
        """A short run, awaited here; a client that disconnects cancels it."""
        async with Job(upload).run() as run, anyio.create_task_group() as watch:
            watch.start_soon(cancel_when_gone, request, run)
            result = await run.wait()
            watch.cancel_scope.cancel()
        if not result.ok:
            raise HTTPException(422, result.reason or failures(result))
        report: dict[str, Any] = result["report"].result
        return report

    add_refusals(app)
    return app


async def cancel_when_gone(request: Request, run: dagron.Run) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    run.cancel("the client has gone")


app = create_app(Path("reports"))


def serve(app: FastAPI, **options: Any) -> None:
    """Serve until a signal comes, close everything, and end the process.

    SIGTERM ends it in uvicorn. After Ctrl-C Python's own exit would wait for threads that block,
    also for those that the registry gave up.
    """
    uvicorn.run(app, **options)
    sys.stdout.flush()
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description="Profile tables, as a service.")
    parser.add_argument("--port", type=int, default=8000)
    # A client that takes no answer holds up the end for so many seconds, and no longer.
    serve(app, port=parser.parse_args().port, timeout_graceful_shutdown=5)


if __name__ == "__main__":
    main()
