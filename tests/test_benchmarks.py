"""The benchmarks run. Nothing here looks at a time."""

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import dagron

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


@pytest.fixture(scope="module")
def printed() -> str:
    """The whole table, of tiny graphs."""
    return run_script("run.py", "--sizes", "40", "--repeats", "1")


def test_every_shape_runs_with_every_contender_and_is_in_the_table(printed: str) -> None:
    """The whole harness works: each shape and kind has a row, and bars are compared."""
    from benchmarks.cases import SHAPES, kinds_of

    rows = [line.split(" | ")[:3] for line in printed.splitlines()]
    for shape in SHAPES:
        for kind in kinds_of(shape):
            assert [f"| {shape}", kind, "40"] in rows
    assert "| import dagron, above import anyio, CPU | 40 ms |" in printed


def test_runs_with_an_observer_and_with_a_handle_have_a_table_of_their_own(printed: str) -> None:
    """What looking on costs stands beside dagron without, for the shapes that a bar speaks of."""
    from benchmarks.contenders import ATTENDED

    _, _, table = printed.partition("### With an observer, and with a handle\n\n")
    lines = table.partition("\n\n")[0].splitlines()[2:]
    rows = [line.strip("| ").split(" | ") for line in lines]
    assert sorted(row[:3] for row in rows) == [[shape, "async", "40"] for shape in sorted(ATTENDED)]
    assert all(float(figure) > 0 for row in rows for figure in row[3:])


def test_the_observer_of_the_benchmark_gets_the_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run that is called observed is observed: its observer is handed every event."""
    from benchmarks import contenders
    from benchmarks.cases import make_case

    seen: list[dagron.Event] = []
    monkeypatch.setattr(contenders, "ignore", seen.append)
    case = make_case("fan", "async", 40)
    contenders.check(
        case, contenders.OBSERVED, anyio.run(contenders.CONTENDERS[contenders.OBSERVED](case))
    )

    kinds = Counter(event.kind for event in seen)
    assert kinds["node_started"] == kinds["node_completed"] == 40


def test_the_run_with_a_handle_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run that is called held was started by `start`, and ran every node."""
    from benchmarks import contenders
    from benchmarks.cases import make_case

    started: list[dagron.Run] = []
    start = dagron.DynamicExecutor.start

    def recording_start(executor: dagron.DynamicExecutor, tasks: Any) -> dagron.Run:
        started.append(start(executor, tasks))
        return started[-1]

    monkeypatch.setattr(dagron.DynamicExecutor, "start", recording_start)
    case = make_case("fan", "async", 40)
    outcome = anyio.run(contenders.CONTENDERS[contenders.HELD](case))

    contenders.check(case, contenders.HELD, outcome)
    assert len(started) == 1


def test_the_bar_for_an_observer_compares_with_dagron_without() -> None:
    """Its ratio is to plain dagron, not to a scheduler by hand, and that of a handle has no bar."""
    from benchmarks.bars import SMALL, Figures, bars
    from benchmarks.contenders import HELD, OBSERVED

    figures = Figures()
    figures.times["chain", "async", SMALL] = {
        "dagron": {"run": 2.0},
        OBSERVED: {"run": 4.0},
        HELD: {"run": 3.0},
    }

    (bar,) = [bar for bar in bars(figures) if "observer" in bar.claim]
    assert (bar.limit, bar.measured, bar.verdict) == (1.6, 2.0, "missed by 25 %")
    assert not [bar for bar in bars(figures) if "handle" in bar.claim]


OLDER = """

class DynamicExecutor(DynamicExecutor):
    start = None

    def __init__(self, dag, expanders, *, max_workers, max_depth):
        super().__init__(dag, expanders, max_workers=max_workers, max_depth=max_depth)
        with open(__file__ + ".used", "a") as used:
            print(dag.node_count(), file=used)
"""


def test_a_checkout_is_compared_with_an_older_one(tmp_path: Path) -> None:
    """One of the two measured packages is the other checkout's, which knows no newer feature."""
    shutil.copytree(ROOT / "dagron", tmp_path / "dagron")
    package = tmp_path / "dagron" / "__init__.py"
    package.write_text(package.read_text(encoding="utf-8") + OLDER, encoding="utf-8")

    shapes = ["chain", "layers", "fan", "chained"]
    printed = run_script(
        "against.py", str(tmp_path), "--shapes", *shapes, "--size", "40", "--repeats", "2"
    )

    rows = [line.strip("| ").split(" | ") for line in printed.splitlines()[-len(shapes) :]]
    assert [row[:2] for row in rows] == [[shape, "40"] for shape in shapes]
    assert all(float(figure) > 0 for row in rows for figure in row[2:5])
    assert Path(f"{package}.used").read_text().split() == ["40", "40", "40", "1"]


def test_a_folder_without_dagron_is_no_checkout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong path is named, and never compared with what is installed."""
    from benchmarks.against import parse
    from benchmarks.timing import import_dagron_from

    with pytest.raises(SystemExit):
        parse([str(tmp_path)])
    assert f"{tmp_path} is no checkout of dagron" in capsys.readouterr().err
    with pytest.raises(ImportError, match="dagron was to come from"):
        import_dagron_from(tmp_path)


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


def test_the_stream() -> None:
    """The million children, here 2,000: no more tasks than the window, and a curve of memory."""
    text = run_script("stream.py", "--size", "2000", "--small", "500", "--repeats", "1")
    assert "| children whose tasks are alive at once | 65  |" in text
    assert "| 10 % | 20 % |" in text


# --- durable runs


def test_the_price_of_a_journal_is_told() -> None:
    """Each way to run and each run that is gone on with has its row, and each promise a verdict."""
    tiny = ("--size", "30", "--repeats", "1", "--resumed", "40", "--chained", "20")
    lines = run_script("durable.py", *tiny, "--resumes", "1").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    firsts = [row[0] for row in rows]
    assert firsts[2:5] == ["no journal", "process", "power"]
    assert {"a fan of 40", "a chain of 20 expansions"} <= {*firsts}
    verdicts = [row[-1].split()[0] for row in rows[-3:]]
    assert {*verdicts} <= {"met", "missed", "missed:"}


def test_what_is_beside_it_is_known() -> None:
    """Each file of a durable peer holds what it has to, and is imported without its library."""
    from benchmarks.durable_peers import PEERS, load

    files = {path.stem for path in (ROOT / "benchmarks" / "durable_peers").glob("[!_]*.py")}
    assert files == {*PEERS}
    for name in PEERS:
        peer = load(name)
        assert peer.NAME
        assert peer.REQUIRES
        assert peer.NOTE
        assert callable(peer.run)
