"""Where the bodies of tasks may run, beside this process: ``DynamicExecutor(..., runners=...)``."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dagron._errors import MissingExtraError
from dagron._runner import Call, Line, Lost, Result, Runner

if TYPE_CHECKING:
    from dagron.runners._dask import DaskRunner
    from dagron.runners._process import ProcessRunner
    from dagron.runners._ray import RayRunner

__all__ = [
    "Call",
    "DaskRunner",
    "Line",
    "Lost",
    "ProcessRunner",
    "RayRunner",
    "Result",
    "Runner",
]

# Each is imported with what it needs when it is asked for: its module, and the extra.
_ON_USE = {
    "DaskRunner": ("dagron.runners._dask", "dask"),
    "ProcessRunner": ("dagron.runners._process", "process"),
    "RayRunner": ("dagron.runners._ray", "ray"),
}


def __getattr__(name: str) -> Any:
    if name not in _ON_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, extra = _ON_USE[name]
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "dagron":
            raise
        raise MissingExtraError(
            f"{name} needs {error.name or extra!r}, which is not installed\n"
            f'  help: type pip install "dagron[{extra}]"',
            extra,
        ) from error
