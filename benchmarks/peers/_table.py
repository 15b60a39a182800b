"""The table of the alternatives, as Markdown, with the notes beneath it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import report as first_table
from benchmarks.peers import CASES, KINDS, LATENCIES, LIMIT, SHAPES, Way, load
from benchmarks.peers._process import GIGABYTES
from benchmarks.peers._work import BRANCHES, STEPS, UNEVEN_SIZE, Work
from benchmarks.peers._work import LONG as LONG_SECONDS

START, END = "<!-- alternatives: start -->", "<!-- alternatives: end -->"
HEAD = ["contender", "nodes are", *(f"{shape} us" for shape in SHAPES)]
HEAD += [f"{shape} kB" for shape in SHAPES]
HEAD += ["1,000 of 10 ms", "uneven", "import ms", "right"]
BARRIER = f"{STEPS * LONG_SECONDS * 1e3:.0f}"
WORTH_SAYING = 0.1  # of the time of a run: a build that takes less is left out

Cell = dict[str, Any]


@dataclass
class Figures:
    sizes: list[int]
    limit: float
    cells: dict[str, Cell] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    python: str = ""
    absent: dict[str, str] = field(default_factory=dict)
    """Peers without an environment, and why."""

    def stopped(self, name: str, case: str, size: int) -> bool:
        """Whether a smaller size was too much already, or wrong."""
        keys = [key_of(name, case, other) for other in self.sizes if other < size]
        return any("run" not in self.cells[key] for key in keys if key in self.cells)

    def dump(self) -> dict[str, Any]:
        return {"cells": self.cells, "versions": self.versions}

    def load(self, kept: dict[str, Any]) -> None:
        self.cells |= kept["cells"]
        self.versions |= kept["versions"]


class Notes:
    """Numbered, in the order in which the table needs them; the same text has one number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def __call__(self, text: str) -> str:
        return f"[{self._numbers.setdefault(text, len(self._numbers) + 1)}]"

    def lines(self) -> list[str]:
        return [f"{number}. {text}." for text, number in self._numbers.items()]


def key_of(name: str, case: str, size: int) -> str:
    return f"{name} / {case} / {size}"


def report(figures: Figures, names: Sequence[str]) -> str:
    notes = Notes()
    rows = [row for name in names for row in rows_of(figures, name, notes)]
    parts = [machine(figures), legend(figures), first_table.markdown(HEAD, rows)]
    return "\n\n".join([*parts, "\n".join(notes.lines())]) + "\n"


def machine(figures: Figures) -> str:
    return f"Measured on {first_table.host()}, {figures.python}. All on asyncio's own loop."


def legend(figures: Figures) -> str:
    sizes = " / ".join(f"{size:,}" for size in sorted(figures.sizes))
    lines = [
        f"- **us**: microseconds per node of one run, of {sizes} nodes; in brackets those of",
        " building the graph before it, where that adds a tenth or more.\n",
        "- **kB**: by which the resident set grew, per node of the largest of these graphs that",
        " ran; graph and results included.\n",
        "- **1,000 of 10 ms**: milliseconds for 1,000 children that wait for 10 ms each, at most",
        f" {LIMIT} at once. {ideal('io', 1_002)} are ideal.\n",
        f"- **uneven**: milliseconds for {BRANCHES} branches of {STEPS} steps, of which another",
        " one takes long in each branch. The critical path takes",
        f" {ideal('uneven', UNEVEN_SIZE)}; one level after the other would take {BARRIER}.\n",
        "- **import**: milliseconds of CPU time, with compiled files.\n",
        "- **right**: each node ran once, none before a dependency, and the results that the",
        " library gave back add up.\n",
        "- A dash has its reason beneath the table. Where one graph went over the limit of",
        f" {figures.limit:g} s, imports and warming up included, or of {GIGABYTES} GB, larger ones",
        " were not tried.",
    ]
    return "".join(lines)


def ideal(workload: str, size: int) -> str:
    return f"{Work(workload, 'async', size).ideal * 1e3:.0f}"


def rows_of(figures: Figures, name: str, notes: Notes) -> list[list[str]]:
    peer = load(name)
    version = figures.versions.get(name, "")
    title = peer.NAME if not version or version in peer.NAME else f"{peer.NAME} {version}"
    if reason := figures.absent.get(name):
        return [[title, "-", *["-"] * (len(HEAD) - 3), notes(reason)]]
    ways: dict[str, Way | str] = peer.cases()
    seconds = [
        cell["seconds"]
        for key, cell in figures.cells.items()
        if key.startswith(f"{name} / import") and "seconds" in cell
    ]
    imported = f"{min(seconds) * 1e3:,.0f}" if seconds else "-"
    rows = []
    for kind in KINDS:
        cases = [f"{shape} {kind}" for shape in SHAPES]
        times = [times_of(figures, name, case, ways[case], notes) for case in cases]
        memory = [memory_of(figures, name, case, ways[case]) for case in cases]
        late = [latency_of(figures, name, case, ways[case], kind, notes) for case in LATENCIES]
        faults = faults_of(figures, name, [case for case in CASES if is_of(case, kind, ways[case])])
        right = notes(f"{peer.NAME}: {'; '.join(faults)}") if faults else "yes"
        if all(isinstance(ways[case], str) for case in cases) and not any(late):
            right = "-"
        rows.append([title, kind, *times, *memory, *late, imported, right])
    return rows


def is_of(case: str, kind: str, way: Way | str) -> bool:
    return isinstance(way, Way) and kind in (way.kind, case.partition(" ")[2])


def times_of(figures: Figures, name: str, case: str, way: Way | str, notes: Notes) -> str:
    if isinstance(way, str):
        return f"- {notes(way)}"
    texts = []
    for size in sorted(figures.sizes):
        cell = figures.cells.get(key_of(name, case, size), {})
        if "run" in cell:
            texts.append(time_of(cell, size))
        else:
            texts.append(f"- {why(cell, notes)}" if cell else "-")
    mark = f" {notes(way.note)}" if way.note else ""
    return " / ".join(texts) + mark


def time_of(cell: Cell, size: int) -> str:
    run, build = (cell[what] * 1e6 / size for what in ("run", "build"))
    return number(run) + (f" (+{number(build)})" if build >= run * WORTH_SAYING else "")


def number(value: float) -> str:
    return f"{value:,.1f}" if value < 10 else f"{value:,.0f}"


def why(cell: Cell, notes: Notes) -> str:
    if "over" in cell:
        return notes(f"over {cell['over']}")
    return notes(cell.get("wrong") or cell.get("error", "no figure"))


def memory_of(figures: Figures, name: str, case: str, way: Way | str) -> str:
    for size in sorted(figures.sizes, reverse=True):
        grown = figures.cells.get(key_of(name, case, size), {}).get("memory")
        if grown is not None and not isinstance(way, str):
            return number(grown / size / 1e3)
    return "-"


def latency_of(
    figures: Figures, name: str, case: str, way: Way | str, kind: str, notes: Notes
) -> str:
    """In the row of the kind of tasks that it is done with."""
    if isinstance(way, str):
        return f"- {notes(way)}"
    if way.kind != kind:
        return ""
    keys = [key for key in figures.cells if key.startswith(f"{name} / {case} / ")]
    cell = figures.cells[keys[-1]] if keys else {}
    mark = f" {notes(way.note)}" if way.note else ""
    if "run" not in cell:
        return f"- {why(cell, notes)}{mark}" if cell else "-"
    return f"{cell['run'] * 1e3:,.0f}{mark}"


def faults_of(figures: Figures, name: str, cases: list[str]) -> list[str]:
    faults = {}
    for case in cases:
        for key, cell in figures.cells.items():
            if key.startswith(f"{name} / {case} / ") and (fault := cell.get("wrong")):
                faults[case] = f"{case}: {fault}"
    return list(faults.values())


def write(text: str, readme: Path = first_table.README) -> None:
    first_table.write(text, readme, START, END)
