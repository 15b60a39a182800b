"""The benchmarks run. Nothing here looks at a time."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

ROOT = Path(__file__).resolve().parent.parent
GUARD = 120.0  # seconds; never waited for by a test that passes


@pytest.fixture(autouse=True)
def _benchmarks_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def run_script(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "benchmarks" / name), *arguments],
        capture_output=True,
        text=True,
        timeout=GUARD,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def recording(names: list[str], ran: list[str]) -> dict[str, Callable[[], Any]]:
    def task(name: str) -> Callable[[], Any]:
        async def call() -> str:
            ran.append(name)
            return name

        return call

    return {name: task(name) for name in names}


def test_every_shape_runs_with_every_contender_and_is_in_the_table() -> None:
    """The whole harness works: each shape and kind has a row, and bars are compared."""
    from benchmarks.cases import SHAPES, kinds_of

    printed = run_script("run.py", "--sizes", "40", "--repeats", "1")

    rows = [line.split(" | ")[:3] for line in printed.splitlines()]
    for shape in SHAPES:
        for kind in kinds_of(shape):
            assert [f"| {shape}", kind, "40"] in rows
    assert "| import dagron, above import anyio, CPU | 40 ms |" in printed


@pytest.mark.parametrize("check", ["ticker", "cancelling", "failing", "many_runs"])
def test_single_figures_are_measured(check: str) -> None:
    """Each figure that has no counterpart by hand is measured by a process of its own."""
    from benchmarks.timing import alone

    figures = alone("checks", check, 20)

    assert all(isinstance(figure, (int, float)) for figure in figures.values())


def test_a_run_can_be_profiled() -> None:
    """The profiler prints where the time of a run went."""
    assert "function calls" in run_script("profile_run.py", "chained", "async", "40")


@pytest.mark.parametrize("shape", ["chain", "fan", "layers"])
@pytest.mark.parametrize("scheduler", ["asyncio_static", "anyio_static"])
def test_the_schedulers_by_hand_respect_dependencies(shape: str, scheduler: str) -> None:
    """What dagron is compared with is a scheduler: all nodes run, none before a dependency."""
    from benchmarks import baselines
    from benchmarks.cases import make_case

    case = make_case(shape, "async", 40)
    ran: list[str] = []
    dependents: dict[str, list[str]] = {name: [] for name in case.nodes}
    counts = dict.fromkeys(case.nodes, 0)
    for source, target in case.edges:
        dependents[source].append(target)
        counts[target] += 1

    results = anyio.run(
        getattr(baselines, scheduler), recording(case.nodes, ran), dependents, counts
    )

    assert results == {name: name for name in case.nodes}
    assert sorted(ran) == sorted(case.nodes)
    assert all(ran.index(source) < ran.index(target) for source, target in case.edges)


@pytest.mark.parametrize("scheduler", ["asyncio_growing", "anyio_growing"])
def test_the_growing_schedulers_by_hand_hold_dependents_back(scheduler: str) -> None:
    """What an expander adds, and what its additions add, runs before the node that follows."""
    from benchmarks import baselines

    ran: list[str] = []
    calls = recording(["first", "a", "b", "c", "last"], ran)

    async def expand(name: str, result: str) -> list[baselines.Addition]:
        if name == "first":
            return [("a", calls["a"], None), ("b", calls["b"], expand)]
        return [("c", calls["c"], None)]

    results = anyio.run(
        getattr(baselines, scheduler),
        {"first": calls["first"], "last": calls["last"]},
        {"first": ["last"], "last": []},
        {"first": 0, "last": 1},
        {"first": expand},
    )

    assert sorted(results) == ["a", "b", "c", "first", "last"]
    assert ran[0] == "first"
    assert ran[-1] == "last"
    assert ran.index("b") < ran.index("c")


def test_a_run_that_left_out_a_node_is_no_measurement() -> None:
    """A contender that did not run every node ends the benchmark."""
    from benchmarks.cases import make_case
    from benchmarks.contenders import check

    case = make_case("chain", "async", 40)
    check(case, "anyio", dict.fromkeys(case.nodes))
    with pytest.raises(AssertionError, match="anyio, chain of 40: 39, not 40"):
        check(case, "anyio", dict.fromkeys(case.nodes[1:]))


def test_a_bar_says_by_how_much_it_was_missed() -> None:
    """A figure at its bar meets it; one above it is missed by its share above."""
    from benchmarks.bars import Bar

    assert Bar("speed", 2.0, 2.0).verdict == "met"
    assert Bar("speed", 2.0, 3.0).verdict == "missed by 50 %"


def test_writing_keeps_what_stands_around_the_measured_part(tmp_path: Path) -> None:
    """`--write` replaces the text between its marks, and refuses a file that has lost them."""
    from benchmarks.report import END, README, START, write

    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{START}\nold\n{END}\nafter\n")
    write("new", readme)
    assert readme.read_text() == f"before\n{START}\n\nnew\n{END}\nafter\n"
    readme.write_text("no marks")
    with pytest.raises(ValueError, match="lost its marks"):
        write("new", readme)
    assert START in README.read_text(encoding="utf-8")
