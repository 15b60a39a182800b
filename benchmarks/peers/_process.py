"""A cell in a process of its own, with a limit on its time and on its memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.peers._environments import clean

CELL = Path(__file__).with_name("_cell.py")
GIGABYTES = 6  # resident
LOOK = 0.2  # seconds between two looks at the memory

QUIET = {
    "DO_NOT_TRACK": "1",
    "HAMILTON_TELEMETRY_ENABLED": "false",
    "LANGSMITH_TRACING": "false",
    "PREFECT_LOGGING_LEVEL": "ERROR",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "60",
}
"""A benchmark sends no statistics, and a log line per node is not what is measured."""

Figures = dict[str, Any]
"""What `_cell.py` prints; or `over`, the limit that it went over; or `error`, its last line."""


def run_cell(python: Path, seconds: float, *arguments: Any) -> Figures:
    """Whatever the cell started has ended when this returns: it is a process group of its own."""
    with TemporaryDirectory() as home:
        environment = clean() | QUIET | {"HOME": home, "PREFECT_HOME": home}
        out, err = Path(home, "cell.out"), Path(home, "cell.err")
        with out.open("w") as stdout, err.open("w") as stderr:
            cell = subprocess.Popen(
                [python, "-P", CELL, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=environment,
                cwd=home,
                start_new_session=True,
            )
            try:
                over = _wait(cell, seconds)
            finally:
                _end(cell)
        if over:
            return {"over": over}
        return _answer(out) or {"error": _complaint(err) or f"ended with {cell.returncode}"}


def _wait(cell: subprocess.Popen[bytes], seconds: float) -> str:
    """The limit that the cell went over, or nothing."""
    end = time.monotonic() + seconds
    status = Path(f"/proc/{cell.pid}/status")
    while True:
        try:
            cell.wait(LOOK)
        except subprocess.TimeoutExpired:
            if time.monotonic() > end:
                return f"{seconds:g} s"
            if _resident(status) > GIGABYTES * 2**30:
                return f"{GIGABYTES} GB"
        else:
            return ""


def _resident(status: Path) -> int:
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return 0
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS")]
    return found[0] if found else 0


def _end(cell: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(cell.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # nothing is left of the group
    cell.wait()


def _answer(out: Path) -> Figures | None:
    for line in reversed(out.read_text(errors="replace").splitlines()):
        if line.startswith("{"):
            figures: Figures = json.loads(line)
            return figures
    return None


def _complaint(err: Path) -> str:
    lines = [line for line in err.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:160] if lines else ""
