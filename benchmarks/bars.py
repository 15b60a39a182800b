"""The speeds that dagron promises, and how a measurement compares with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from benchmarks.cases import SHAPES
from benchmarks.contenders import ATTENDED, OBSERVED, POOL
from benchmarks.memory import Memory
from benchmarks.timing import Times

SMALL, LARGE = 10_000, 100_000

Key = tuple[str, str, int]
"""Shape, kind, size."""


@dataclass(slots=True)
class Figures:
    """All that was measured. What was not is not there, and its bars are left out."""

    times: dict[Key, dict[str, Times]] = field(default_factory=dict)
    rounds: dict[Key, dict[str, int]] = field(default_factory=dict)
    memory: dict[Key, Memory] = field(default_factory=dict)
    others: dict[str, dict[str, float]] = field(default_factory=dict)

    def per_node(self, key: Key, contender: str = "dagron", what: str = "run") -> float | None:
        """Microseconds."""
        seconds = self.times.get(key, {}).get(contender, {}).get(what)
        return None if seconds is None else seconds / key[2] * 1e6

    def ratio(self, key: Key, contender: str = "dagron", to: str = "anyio") -> float | None:
        """Unless told otherwise, dagron to the hand-written anyio scheduler."""
        return _divide(self.per_node(key, contender), self.per_node(key, to))

    def growth(self, key: Key) -> float | None:
        """Time per node to that at 10,000 nodes."""
        return _divide(self.per_node(key), self.per_node((key[0], key[1], SMALL)))


@dataclass(frozen=True, slots=True)
class Bar:
    claim: str
    limit: float
    measured: float
    unit: str = "x"

    @property
    def verdict(self) -> str:
        if self.measured <= self.limit:
            return "met"
        return f"missed by {(self.measured / self.limit - 1) * 100:.0f} %"


def bars(figures: Figures) -> list[Bar]:
    candidates = [*_ratios(figures), *_growth(figures), *_borders(figures), *_others(figures)]
    return [
        Bar(claim, limit, measured, unit)
        for claim, limit, measured, unit in candidates
        if measured is not None
    ]


Candidate = tuple[str, float, float | None, str]


def _ratios(figures: Figures) -> Iterator[Candidate]:
    for shape, limit in (("chain", 1.3), ("layers", 1.3), ("chained", 1.4), ("expand", 1.4)):
        claim = f"{shape}, {SMALL:,} async nodes, to anyio by hand"
        yield claim, limit, figures.ratio((shape, "async", SMALL)), "x"
    fan: Key = ("fan", "async", LARGE)
    yield f"fan, {LARGE:,} async nodes, to anyio by hand", 0.5, figures.ratio(fan), "x"
    for shape, limit, to, who in (
        ("chain", 1.0, "anyio", "run_sync by hand"),
        ("fan", 1.0, POOL, "ThreadPoolExecutor.submit by hand"),
        ("layers", 1.0, POOL, "ThreadPoolExecutor.submit by hand"),
        ("expand", 1.25, "anyio", "run_sync by hand"),
        ("chained", 1.25, "anyio", "run_sync by hand"),
    ):
        claim = f"{shape}, {SMALL:,} sync nodes, to {who}"
        yield claim, limit, figures.ratio((shape, "sync", SMALL), to=to), "x"
    for shape in ATTENDED:
        claim = f"{shape}, {SMALL:,} async nodes, with an observer that does nothing, to without"
        yield claim, 1.6, figures.ratio((shape, "async", SMALL), OBSERVED, "dagron"), "x"


def _growth(figures: Figures) -> Iterator[Candidate]:
    for shape in SHAPES:
        claim = f"{shape}, time per async node at {LARGE:,} to that at {SMALL:,}"
        yield claim, 1.4, figures.growth((shape, "async", LARGE)), "x"


def _borders(figures: Figures) -> Iterator[Candidate]:
    """What a run costs before its first node, after its last, and between."""
    for shape in ("fan", "chain", "layers"):
        key: Key = (shape, "async", LARGE)
        what = f"{shape}, {LARGE:,} nodes"
        yield f"{what}: set-up", 3.0, figures.per_node(key, what="setup"), "us/node"
        yield f"{what}: the result", 3.0, figures.per_node(key, what="collecting"), "us/node"
    landing = figures.times.get(("expand", "async", LARGE), {}).get("dagron", {}).get("landing")
    yield f"one modification that adds {LARGE - 2:,} nodes lands in", 1.0, landing, "s"
    memory = figures.memory.get(("fan", "async", LARGE), {})
    claim = f"fan, {LARGE:,} nodes: memory above the graph, its tasks and the result"
    yield claim, 1_000, memory.get("working"), "B/node"
    claim = f"fan, {LARGE:,} nodes: all memory above the graph and its tasks, results kept"
    yield claim, 1_200, memory.get("peak"), "B/node"


def _others(figures: Figures) -> Iterator[Candidate]:
    def other(name: str, figure: str, scale: float = 1.0) -> float | None:
        value = figures.others.get(name, {}).get(figure)
        return None if value is None else value * scale

    above = _difference(other("import", "dagron", 1e3), other("import", "anyio", 1e3))
    yield "import dagron, above import anyio, CPU", 40, above, "ms"
    build = _divide(other("build", "dagron"), other("build", "networkx"))
    yield f"building a chain of {SMALL:,} nodes, to networkx.DiGraph", 2.0, build, "x"
    late = other("ticker", "ready", 1e3)
    yield f"a 10 ms ticker beside {LARGE:,} ready nodes is late by at most", 100, late, "ms"
    yield f"cancelling {SMALL:,} waiting nodes, CPU", 2.0, other("cancelling", "cpu"), "s"
    yield "20,000 failing nodes, CPU", 5.0, other("failing", "cpu"), "s"
    yield "20,000 failing nodes, the report", 10.0, other("failing", "report", 1e-3), "kB"
    growth = other("many_runs", "growth", 1e-6)
    yield "resident growth over 900 more runs of 1,000 nodes", 1.0, growth, "MB"


def _divide(value: float | None, by: float | None) -> float | None:
    return None if value is None or by is None else value / by


def _difference(value: float | None, less: float | None) -> float | None:
    return None if value is None or less is None else value - less


def as_rows(found: list[Bar]) -> list[list[Any]]:
    return [
        [bar.claim, f"{bar.limit:g} {bar.unit}", f"{bar.measured:.2f} {bar.unit}", bar.verdict]
        for bar in found
    ]
