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
the service is started again: each job that was answered with an id ends, unless its client cancels
it. After a restart a job that has ended by itself is known for a week, but its events are a 410;
one that was cancelled is forgotten, and a 404.
"""

import argparse
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import anyio
from anyio.to_thread import run_sync
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import Response, StreamingResponse
from finding import Found, LookedUp, Runs
from kept import KeptJobs, as_dict
from refusals import add_refusals
from room import start_rest, start_some
from serving import cancel_when_gone, serve
from tables import Job, failures
from uploads import Upload, receive

import dagron

Received = Annotated[Upload, Depends(receive)]


def create_app(folder: Path, **options: Any) -> FastAPI:
    """Return the application; the options are those of `dagron.RunRegistry`."""
    options = {"max_running": 100, "close_on": [signal.SIGTERM, signal.SIGINT], **options}

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with KeptJobs(folder) as app.state.kept:
            jobs = app.state.waiting = app.state.kept.unfinished()
            async with dagron.RunRegistry(**options) as runs, anyio.create_task_group() as group:
                app.state.runs = runs
                start_some(jobs, runs)
                group.start_soon(start_rest, jobs, runs)
                yield
                group.cancel_scope.cancel()

    app = FastAPI(title="Tables", lifespan=lifespan)

    @app.post("/jobs", status_code=202)
    async def start(upload: Received, runs: Runs, approval: bool = False) -> dict[str, Any]:
        job = await run_sync(app.state.kept.keep, upload, approval)
        try:
            return runs.start(job.run(), data=job).as_dict()
        except BaseException:  # it is not acknowledged
            app.state.kept.discard(job.id)
            raise

    @app.get("/jobs")
    async def index(runs: Runs) -> list[dict[str, Any]]:
        ended = await run_sync(app.state.kept.index, {*runs})
        return [*ended, *(run.as_dict() for run in runs.values())]

    @app.get("/jobs/{id}")
    async def show(run: LookedUp) -> dict[str, Any]:
        if isinstance(run, dagron.RecordedRun):
            told = await run_sync(as_dict, run)
        else:
            told = run.as_dict()
        return {**told, "report": run.result["report"].result if run.result else None}

    @app.get("/jobs/{id}/events")
    async def events(
        run: Found, last_event_id: Annotated[str | None, Header()] = None
    ) -> StreamingResponse:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        return StreamingResponse(run.sse(last_event_id), 200, headers, "text/event-stream")

    @app.get("/jobs/{id}/graph.svg")
    async def picture(run: LookedUp) -> Response:
        if isinstance(run, dagron.RecordedRun):
            svg = await run_sync(run.to_svg)
        else:
            svg = run.run.to_svg()
        return Response(svg, media_type="image/svg+xml")

    @app.post("/jobs/{id}/cancel", status_code=202)
    async def cancel(run: Found) -> dict[str, Any]:
        if run.state == "running":
            await run_sync(app.state.kept.cancel, run.id)  # so that it does not go on later
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
            failed = "; ".join(f"{name}: {why}" for name, why in failures(result).items())
            raise HTTPException(422, result.reason or failed)
        report: dict[str, Any] = result["report"].result
        return report

    add_refusals(app)
    return app


app = create_app(Path("reports"))


def main() -> None:
    parser = argparse.ArgumentParser(description="Profile tables, as a service.")
    parser.add_argument("--port", type=int, default=8000)
    # A client that takes no answer holds up the end for so many seconds, and no longer.
    serve(app, port=parser.parse_args().port, timeout_graceful_shutdown=5)


if __name__ == "__main__":
    main()
