"""The table, the bars and the machine, as Markdown."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.bars import LARGE, Figures, Key, as_rows, bars
from benchmarks.contenders import HELD, OBSERVED, POOL

README = Path(__file__).with_name("README.md")
START, END = "<!-- measured: start -->", "<!-- measured: end -->"


def report(figures: Figures) -> str:
    parts = [machine(), "### Time and memory per node", time_table(figures)]
    if attended := [key for key, times in figures.times.items() if OBSERVED in times]:
        parts += ["### With an observer, and with a handle", attended_table(figures, attended)]
    if found := bars(figures):
        parts += [
            "### What is promised",
            markdown(["", "promised: at most", "measured", ""], as_rows(found)),
        ]
    if notes := remarks(figures):
        parts += ["\n".join(notes)]
    return "\n\n".join(parts) + "\n"


def time_table(figures: Figures) -> str:
    head = ["shape", "nodes are", "nodes", "dagron us", "asyncio us", "anyio us", "pool us"]
    head += ["dagron / anyio", "to 10,000", "peak B", "of it working", "repeats"]
    return markdown(head, (_row(figures, key) for key in figures.times))


def _row(figures: Figures, key: Key) -> list[str]:
    shape, kind, size = key
    memory = figures.memory.get(key, {})
    return [
        shape,
        kind,
        f"{size:,}",
        *(
            _text(figures.per_node(key, contender), 1)
            for contender in ("dagron", "asyncio", "anyio", POOL)
        ),
        _text(figures.ratio(key), 2),
        _text(figures.growth(key), 2),
        _text(memory.get("peak"), 0),
        _text(memory.get("working"), 0),
        _repeats(figures.rounds[key]),
    ]


def attended_table(figures: Figures, keys: list[Key]) -> str:
    head = ["shape", "nodes are", "nodes", "dagron us", "with an observer us", "to dagron"]
    head += ["with a handle us", "to dagron"]
    return markdown(head, (_attended_row(figures, key) for key in keys))


def _attended_row(figures: Figures, key: Key) -> list[str]:
    shape, kind, size = key
    row = [shape, kind, f"{size:,}", _text(figures.per_node(key), 1)]
    for contender in (OBSERVED, HELD):
        row.append(_text(figures.per_node(key, contender), 1))
        row.append(_text(figures.ratio(key, contender, "dagron"), 2))
    return row


def _repeats(rounds: dict[str, int]) -> str:
    """One number if all contenders were repeated alike, else one for each."""
    counts = list(rounds.values())
    return ", ".join(map(str, counts if len(set(counts)) > 1 else counts[:1]))


def remarks(figures: Figures) -> list[str]:
    """What was measured and no bar speaks of."""
    lines = []
    others = figures.others
    for who, what in (("dagron", ""), ("anyio by hand, all at once", "anyio ")):
        if resident := others.get(f"{what}resident"):
            lines.append(
                f"- fan of {LARGE:,}, {who}: the resident set grew by {resident['peak']:,.0f} B"
                " per node."
            )
    if traced := others.get("anyio memory"):
        lines.append(
            f"- fan of {LARGE:,}, anyio by hand, all at once: peak {traced['peak']:,.0f} B"
            f" per node, {traced['working']:,.0f} B of it working."
        )
    if late := others.get("ticker"):
        lines.append(
            f"- a ticker of 10 ms is late by at most {late['released'] * 1e3:.0f} ms"
            f" when one node's end makes {LARGE - 2:,} others ready."
        )
    if seconds := others.get("import"):
        lines.append(
            f"- `import anyio` {seconds['anyio'] * 1e3:.0f} ms,"
            f" `import dagron` {seconds['dagron'] * 1e3:.0f} ms, anyio included."
        )
    if seconds := others.get("build"):
        listed = ", ".join(f"{who} {took * 1e3:.1f} ms" for who, took in seconds.items())
        lines.append(f"- building a chain of 10,000: {listed}.")
        if "networkx" not in seconds:
            lines.append("- networkx is not installed: its row was skipped.")
    return lines


def host() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{datetime.now(UTC):%Y-%m-%d}: {_cpu()}, {os.cpu_count()} cores,"
        f" {memory:.0f} GB, {platform.system()} {platform.machine()}"
    )


def machine() -> str:
    return (
        f"Measured on {host()},"
        f" {platform.python_implementation()} {platform.python_version()},"
        f" anyio {_version('anyio')}, dagron {_version('dagron')}, asyncio's own loop."
    )


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists() and (found := re.search(r"model name\s*:\s*(.+)", info.read_text())):
        return found[1]
    return platform.processor() or "an unknown processor"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(from the checkout)"


def _text(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def markdown(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write(text: str, readme: Path = README, start: str = START, end: str = END) -> None:
    """Replace what stands between the two marks, and nothing else."""
    before, found, rest = readme.read_text(encoding="utf-8").partition(start)
    _, found_end, after = rest.partition(end)
    if not (found and found_end):
        raise ValueError(f"{readme} has lost its marks {start} and {end}")
    readme.write_text(f"{before}{start}\n\n{text}\n{end}{after}", encoding="utf-8")
