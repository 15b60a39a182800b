"""A virtual environment for each library, in one folder, made once."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

DEFAULT = Path.home() / ".cache" / "dagron-benchmarks"
COMMON = (3, 12)
"""What all environments are made with, where it is there: the other dagron runs on no older one."""
MINUTES = 15  # for one environment


class NoEnvironment(Exception):
    """Says why, in a few words for the table."""


def common_python() -> Path:
    """One Python for all, so that the table compares libraries: 3.12, else the one that runs."""
    for candidate in _candidates():
        if _version(candidate) == COMMON:
            return candidate
    return Path(sys.executable)


def _candidates() -> Iterator[Path]:
    name = ".".join(map(str, COMMON))
    yield Path(sys.executable)
    if found := shutil.which(f"python{name}"):
        yield Path(found)
    if pyenv := shutil.which("pyenv"):
        done = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=False)
        yield from sorted(Path(done.stdout.strip()).glob(f"versions/{name}.*/bin/python"))


def _version(python: Path) -> tuple[int, int] | None:
    code = "import sys; print(*sys.version_info[:2])"
    try:
        done = subprocess.run(
            [python, "-c", code], capture_output=True, text=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError):  # a shim of pyenv may lead nowhere
        return None
    major, minor = map(int, done.stdout.split())
    return major, minor


def environment(peer: ModuleType, folder: Path, python: Path) -> Path:
    """The interpreter of the peer's environment, which is built unless it is there."""
    if (version := _version(python)) is None:
        raise NoEnvironment(f"{python} does not run")
    if version < (oldest := getattr(peer, "PYTHON", version)):
        raise NoEnvironment("needs Python {}.{}".format(*oldest))
    there = folder / re.sub(r"[^a-z0-9]+", "-", peer.REQUIRES[0].lower()).strip("-")
    made_of = json.dumps({"requires": peer.REQUIRES, "python": version})
    ready = there / "ready.json"
    if not ready.exists() or ready.read_text(encoding="utf-8") != made_of:
        _build(there, python, peer.REQUIRES)
        ready.write_text(made_of, encoding="utf-8")
    return there / "bin" / "python"


def _build(there: Path, python: Path, requires: tuple[str, ...]) -> None:
    shutil.rmtree(there, ignore_errors=True)
    there.parent.mkdir(parents=True, exist_ok=True)
    pip = [there / "bin" / "python", "-m", "pip", "install", "-q", *requires]
    for command in ([python, "-m", "venv", there], pip):
        try:
            subprocess.run(
                command,
                env=clean(),
                capture_output=True,
                text=True,
                check=True,
                timeout=MINUTES * 60,
            )
        except subprocess.TimeoutExpired:
            raise NoEnvironment(f"not installed within {MINUTES} minutes") from None
        except (OSError, subprocess.CalledProcessError) as error:
            raise NoEnvironment(f"not installed: {_last_line(error)}") from error


def _last_line(error: Exception) -> str:
    lines = [line for line in str(getattr(error, "stderr", "") or error).splitlines() if line]
    return next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])[:200]


def clean() -> dict[str, str]:
    """Of the variables, all but those that would let another environment in."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def installed(python: Path, peer: ModuleType) -> str:
    """The version of the peer's distribution, as in "1.2.22"; empty if it is none."""
    name = getattr(peer, "DISTRIBUTION", re.split(r"[\[<>=!~]", peer.REQUIRES[0])[0])
    code = f"from importlib.metadata import version; print(version({name!r}))"
    done = subprocess.run(
        [python, "-P", "-c", code], capture_output=True, text=True, check=False, env=clean()
    )
    return done.stdout.strip()


def implementation(python: Path) -> str:
    code = "from platform import *; print(python_implementation(), python_version())"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()
