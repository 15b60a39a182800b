"""Running the examples: their modules in this process, and the programs as a user would."""

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"


@contextmanager
def imported(*names: str) -> Iterator[list[ModuleType]]:
    """The modules of these names, as a script in the folder of the examples sees them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        yield [importlib.import_module(name) for name in names]


@dataclass
class Seen:
    """What `main` returned, and what it said."""

    code: int
    out: str
    err: str


def caller(
    main: Callable[[list[str]], int],
    backend: str,
    capsys: pytest.CaptureFixture[str],
    kind: type[Seen] = Seen,
) -> Callable[..., Any]:
    """Return what runs a program in this process, on a backend, with other arguments as given."""

    def call(*arguments: object) -> Seen:
        code = main([*map(str, arguments), "--backend", backend])
        return kind(code, *capsys.readouterr())

    return call


def command(name: str, *arguments: object, **environment: str) -> dict[str, Any]:
    """How `subprocess` runs an example as a user would."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    program = str(EXAMPLES / f"{name}.py")
    return {
        "args": [sys.executable, "-W", "error", program, *map(str, arguments)],
        "env": {**os.environ, "PYTHONPATH": path, "PYTHONUTF8": "1", **environment},
        "encoding": "utf-8",
    }


def run(
    name: str, *arguments: object, cwd: Path | None = None, typed: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run an example as a user would, to its end."""
    how = command(name, *arguments, **environment)
    return subprocess.run(**how, cwd=cwd, input=typed, capture_output=True, timeout=120)


def runner(name: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return what runs an example as a user would, to its end."""
    return partial(run, name)
