"""A web service whose runs outlive the requests that start them, in its smallest useful form.

    python -m pip install -e ".[services]"
    python examples/aiohttp_service.py
    curl -d '{"haiku": "an old silent pond", "motto": "festina lente"}' localhost:8080/jobs
    curl localhost:8080/jobs/ID
    curl localhost:8080/jobs/ID/events

A job counts the words of texts: its graph gets one node per text while it runs. What is shown:

- `cleanup_ctx` opens a `dagron.RunRegistry` with the application and closes it at the end, where
  jobs get some seconds to end by themselves;
- `on_shutdown` comes before that, while aiohttp still waits for open requests: there `close_soon`
  ends the event streams;
- a middleware makes answers of what the registry refuses;
- `serve` ends the process at Ctrl-C, or SIGTERM, whatever threads block.
"""

import argparse
import os
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from aiohttp import web

import dagron

RUNS = web.AppKey("RUNS", dagron.RunRegistry)
DAG = dagron.DAG.builder().add_edge("find", "total").build()


def one_node_per_text(name: str, texts: dict[str, str]) -> dagron.DynamicModification:
    return dagron.DynamicModification(
        add_nodes=[
            dagron.DynamicNodeSpec(
                f"count:{title}", lambda text=text: len(text.split()), ["find"], ["total"]
            )
            for title, text in texts.items()
        ]
    )


EXECUTOR = dagron.DynamicExecutor(DAG, {"find": one_node_per_text})


def tasks(texts: dict[str, str]) -> dict[str, Any]:
    return {
        "find": lambda: texts,
        "total": lambda find, inputs: sum(inputs[f"count:{title}"] for title in find),
    }


async def start(request: web.Request) -> web.Response:
    """POST /jobs: begin to count, and answer at once."""
    try:
        texts = await request.json()
    except (ValueError, LookupError, RecursionError):  # no JSON, in no encoding, or too deep
        texts = None
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise web.HTTPBadRequest(text="send a JSON object of texts\n")
    one_node_per_text("find", texts)  # here, so that a title which is no name is refused
    job = request.app[RUNS].start(EXECUTOR.start(tasks(texts)))
    return web.json_response({"id": job.id}, status=202, headers={"Location": f"/jobs/{job.id}"})


async def show(request: web.Request) -> web.Response:
    """GET /jobs/ID: how the job stands, and what it came to."""
    job = request.app[RUNS][request.match_info["id"]]
    total = job.result["total"].result if job.result is not None else None
    return web.json_response({**job.as_dict(), "total": total})


async def events(request: web.Request) -> web.StreamResponse:
    """GET /jobs/ID/events: what happens in it, as Server-Sent Events."""
    job = request.app[RUNS][request.match_info["id"]]
    headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
    response = web.StreamResponse(headers=headers)
    with suppress(ConnectionError):  # the client has gone
        await response.prepare(request)
        async for text in job.sse(request.headers.get("Last-Event-ID")):
            await response.write(text)
    return response


async def cancel(request: web.Request) -> web.Response:
    """POST /jobs/ID/cancel."""
    job = request.app[RUNS][request.match_info["id"]]
    job.cancel("by a request")
    return web.json_response(job.as_dict(), status=202)


@web.middleware
async def refusing(request: web.Request, handler: Any) -> web.StreamResponse:
    try:
        answer: web.StreamResponse = await handler(request)
        return answer
    except dagron.InvalidNameError as error:
        raise web.HTTPBadRequest(text=told(error)) from None
    except dagron.UnknownRunError as error:
        refused: type[web.HTTPError] = web.HTTPGone if error.was_forgotten else web.HTTPNotFound
        raise refused(text=told(error)) from None
    except (dagron.RegistryFullError, dagron.RegistryClosedError) as error:
        headers = {"Retry-After": "5"}
        raise web.HTTPServiceUnavailable(text=told(error), headers=headers) from None


def told(error: Exception) -> str:
    """Return what is wrong, without the lines on what a developer may do about it."""
    return str(error).partition("\n")[0] + "\n"


async def own_runs(app: web.Application) -> AsyncIterator[None]:
    async with dagron.RunRegistry(max_running=1_000) as runs:
        app[RUNS] = runs
        yield


async def end_streams(app: web.Application) -> None:
    app[RUNS].close_soon()


def create_app() -> web.Application:
    app = web.Application(middlewares=[refusing])
    app.cleanup_ctx.append(own_runs)
    app.on_shutdown.append(end_streams)
    app.router.add_post("/jobs", start)
    app.router.add_get("/jobs/{id}", show)
    app.router.add_get("/jobs/{id}/events", events)
    app.router.add_post("/jobs/{id}/cancel", cancel)
    return app


def serve(**options: Any) -> None:
    """Serve until a signal comes, close everything, and end the process."""
    web.run_app(create_app(), **options)
    sys.stdout.flush()
    os._exit(0)  # Python's own exit would wait for threads that the registry gave up


def main() -> None:
    parser = argparse.ArgumentParser(description="Count words, as a service.")
    parser.add_argument("--port", type=int, default=8080)
    # A client that takes no answer holds up the end for twice so many seconds, and no longer.
    serve(host="127.0.0.1", port=parser.parse_args().port, shutdown_timeout=5.0)


if __name__ == "__main__":
    main()
