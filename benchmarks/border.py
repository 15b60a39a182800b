"""What a program pays before any run: the import, and the building of a DAG."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from benchmarks.timing import ROOT, alone

CLOCKED = "from time import process_time as now; start = now(); import {}; print(now() - start)"


def import_seconds(repeats: int) -> dict[str, float]:
    """CPU time: the smallest of the repeats, interleaved, each in a fresh interpreter.

    All of them find compiled files, as after an installation, whatever the checkout holds.
    """
    best = {"anyio": float("inf"), "dagron": float("inf")}
    with TemporaryDirectory() as compiled:
        environment = os.environ | {"PYTHONPYCACHEPREFIX": compiled}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for module in best:
            _import_once(module, environment)
        for _ in range(repeats):
            for module in best:
                best[module] = min(best[module], _import_once(module, environment))
    return best


def _import_once(module: str, environment: dict[str, str]) -> float:
    command = [sys.executable, "-c", CLOCKED.format(module)]
    pipe = subprocess.PIPE
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=pipe, text=True, check=True)
    return float(done.stdout)


def build_seconds(size: int, repeats: int) -> dict[str, float]:
    """A chain, edge by edge, with dagron and (if it is there) with networkx."""
    best: dict[str, float] = alone("border", size, repeats)
    return best


def _build_with_dagron(names: list[str]) -> Any:
    import dagron

    builder = dagron.DAG.builder()
    for source, target in pairwise(names):
        builder.add_edge(source, target)
    return builder.build()


def _build_with_networkx(names: list[str]) -> Any:
    import networkx  # type: ignore[import-untyped]

    graph = networkx.DiGraph()
    for source, target in pairwise(names):
        graph.add_edge(source, target)
    return graph


def _build_and_check_with_networkx(names: list[str]) -> Any:
    """What a DAG promises and a DiGraph does not: that there is no cycle."""
    import networkx

    graph = _build_with_networkx(names)
    assert networkx.is_directed_acyclic_graph(graph)
    return graph


def _interleaved(names: list[str], repeats: int) -> dict[str, float]:
    builds: dict[str, Callable[[list[str]], Any]] = {"dagron": _build_with_dagron}
    if find_spec("networkx") is not None:
        builds["networkx"] = _build_with_networkx
        builds["networkx, checked"] = _build_and_check_with_networkx
    best = dict.fromkeys(builds, float("inf"))
    for repeat in range(repeats + 1):
        for contender, build in builds.items():
            gc.collect()
            start = perf_counter()
            graph = build(names)
            seconds = perf_counter() - start
            assert len(graph) == len(names), contender
            if repeat:  # the first one imports
                best[contender] = min(best[contender], seconds)
    return best


if __name__ == "__main__":
    print(json.dumps(_interleaved([f"n{i}" for i in range(int(sys.argv[1]))], int(sys.argv[2]))))
