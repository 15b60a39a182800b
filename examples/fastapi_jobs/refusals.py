"""What is answered to what cannot be done."""

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from uploads import BadUpload

import dagron


def add_refusals(app: FastAPI) -> None:
    """Answer the errors that the service raises with a status, and a `detail` that says why."""

    @app.exception_handler(BadUpload)
    async def refuse_upload(request: Request, error: BadUpload) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, error.status)

    @app.exception_handler(dagron.UnknownRunError)
    async def refuse_id(request: Request, error: dagron.UnknownRunError) -> JSONResponse:
        return JSONResponse({"detail": told(error)}, 410 if error.was_forgotten else 404)

    @app.exception_handler(dagron.RegistryFullError)
    @app.exception_handler(dagron.RegistryClosedError)
    async def refuse_job(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": told(error)}, 503, {"Retry-After": "5"})


def told(error: Exception) -> str:
    """Return what is wrong, without the lines on what a developer may do about it."""
    return str(error).partition("\n")[0]
