"""The comparison with other libraries runs. Nothing here installs anything or looks at a time."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GUARD = 240.0  # seconds; never waited for by a test that passes
HERE = ("dagron_here", "by_hand_asyncio", "by_hand_anyio", "by_hand_graphlib")


@pytest.fixture(autouse=True)
def _benchmarks_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.fixture(scope="module")
def printed() -> str:
    """The table of tiny graphs, of those contenders that need no environment of their own."""
    script = [sys.executable, "-W", "error", str(ROOT / "benchmarks" / "alternatives.py")]
    tiny = ["--here", "--sizes", "8,20", "--repeats", "1", "--only", *HERE]
    done = subprocess.run(
        [*script, *tiny], capture_output=True, text=True, timeout=GUARD, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_contender_has_its_rows_with_every_figure(printed: str) -> None:
    """A contender that can do a case has a figure for it, and its results were right."""
    from benchmarks.peers import KINDS, load

    rows = [line.strip("| ").split(" | ") for line in printed.splitlines() if line[:2] == "| "]
    head, body = rows[0], [dict(zip(rows[0], row, strict=False)) for row in rows[2:]]
    assert [(row["contender"].partition(" 4")[0], row["nodes are"]) for row in body] == [
        (load(name).NAME, kind) for name in HERE for kind in KINDS
    ]
    assert all(row["right"] == "yes" for row in body)
    for row in body:
        times = [row[column] for column in head if column.endswith(" us")]
        sorter = "graphlib" in row["contender"]
        assert [text[0] == "-" for text in times] == [False, False, False, sorter]
        assert all(text.count(" / ") == 1 for text in times if text[0] != "-")
    assert all(row["uneven"] for row in body if row["nodes are"] == "async")


def test_a_dash_has_its_reason(printed: str) -> None:
    """What a contender cannot do is said in a note, and so is what it does in another way."""
    notes = printed.rpartition(" |\n")[2].strip().splitlines()

    assert notes == [
        "1. static: the library cannot add nodes while a graph runs.",
        "2. a sorter takes no nodes once it is prepared.",
    ]
    assert "- [2]" in printed


def test_every_peer_answers_for_every_case() -> None:
    """Each file holds what `peers/__init__.py` asks for, and is imported without its library."""
    from benchmarks.peers import CASES, KINDS, LATENCIES, PEERS, Way, load

    files = {path.stem for path in (ROOT / "benchmarks" / "peers").glob("[!_]*.py")}
    assert files == set(PEERS)
    for name in PEERS:
        peer = load(name)
        cases = peer.cases()
        assert peer.NAME
        assert peer.IMPORT
        assert peer.REQUIRES
        assert sorted(cases) == sorted(CASES), name
        for case, way in cases.items():
            assert way, (name, case)
            if case in LATENCIES and isinstance(way, Way):
                assert way.kind in KINDS, (name, case)


@pytest.mark.parametrize(
    ("order", "total", "fault"),
    [
        ([0, 1, 2, 3, 4], 10, ""),
        ([0, 1, 3, 4], 10, "4 runs of 4 nodes, not of 5"),
        ([0, 1, 2, 2, 3, 4], 10, "6 runs of 5 nodes, not of 5"),
        ([0, 2, 1, 3, 4], 10, "node 2 ran before 1"),
        ([0, 1, 2, 3, 4], 9, "the results add up to 9, not to 10"),
    ],
)
def test_a_wrong_run_is_found_out(order: list[int], total: int, fault: str) -> None:
    """Lost, repeated and reordered nodes and lost results are no figure."""
    from benchmarks.peers._work import Work

    work = Work("chain", "sync", 5)
    for number in order:
        work.task(number)()
    assert work.fault(total) == fault


def test_a_limit_that_does_not_hold_is_found_out() -> None:
    """A contender that starts more children at once than it was told to is not right."""
    from benchmarks.peers import LIMIT
    from benchmarks.peers._work import Work

    work = Work("io", "sync", 6)
    for number in work.nodes:
        work.task(number)()
    assert work.fault(work.total) == ""
    work.watch.most = LIMIT + 1
    assert work.fault(work.total) == f"{LIMIT + 1} nodes at once, not {LIMIT}"


def test_a_node_that_starts_too_early_is_found_out() -> None:
    """Where tasks wait, it is their start that has to come after the ends of the dependencies."""
    from benchmarks.peers._work import UNEVEN_SIZE, Work

    work = Work("uneven", "sync", UNEVEN_SIZE)
    work.watch.order.extend(number for number in work.nodes if number != 2)
    work.task(2)()
    assert work.fault(work.total) == "node 2 ran before 1"


def test_a_cell_that_takes_too_long_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell that does not end within its limit is ended, and the limit is its figure."""
    from benchmarks.peers import _process

    os.mkfifo(tmp_path / "nobody writes")
    cell = tmp_path / "cell.py"
    cell.write_text(f"open({str(tmp_path / 'nobody writes')!r}).read()")
    monkeypatch.setattr(_process, "CELL", cell)

    assert _process.run_cell(Path(sys.executable), 0) == {"over": "0 s"}


CHILD = "import sys; out = open(sys.argv[1], 'w'); print('up', file=out, flush=True); input()"
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"


def test_what_a_cell_started_ends_with_it(tmp_path: Path) -> None:
    """A server that a library started is ended, too: the last end of its pipe is closed."""
    from benchmarks.peers._process import _end

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    cell = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD, str(pipe)],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    assert cell.stdin is not None
    with cell.stdin, pipe.open() as told:
        assert told.readline() == "up\n"
        _end(cell)
        assert told.read() == ""
    assert cell.returncode == -signal.SIGKILL


def test_a_cell_that_fails_says_why() -> None:
    """The last line of what a cell complained stands in the table."""
    from benchmarks.peers._process import run_cell

    figures = run_cell(Path(sys.executable), GUARD, "by_hand_graphlib", "chained sync", 8, 1, 1)

    assert figures == {"error": "AttributeError: 'str' object has no attribute 'prepare'"}


def test_a_library_that_is_not_there_has_a_row(tmp_path: Path) -> None:
    """An environment that cannot be built is a reason in the table, and not the end of the run."""
    from benchmarks.peers import load
    from benchmarks.peers._environments import NoEnvironment, environment
    from benchmarks.peers._table import Figures, report

    with pytest.raises(NoEnvironment) as caught:
        environment(load("dagron_original"), tmp_path, Path(tmp_path, "no-python"))
    figures = Figures([8], 60.0, absent={"dagron_original": str(caught.value)})
    text = report(figures, ["dagron_original"])

    assert "| dagron 0.1.1 (the original) | - |" in text
    assert f"1. {tmp_path / 'no-python'} does not run." in text


def test_larger_graphs_are_not_tried_after_one_that_was_too_large() -> None:
    """A limit that was reached stands in the table, and a dash for each larger graph."""
    from benchmarks.peers._table import Figures, key_of, report

    figures = Figures([8, 20, 40], 1.0)
    figures.cells[key_of("dagron_here", "chain async", 8)] = {"run": 1e-3, "build": 1e-6}
    assert not figures.stopped("dagron_here", "chain async", 20)
    figures.cells[key_of("dagron_here", "chain async", 20)] = {"over": "1 s"}
    assert figures.stopped("dagron_here", "chain async", 40)

    text = report(figures, ["dagron_here"])
    assert "| dagron (this checkout) | async | 125 / - [1] / - |" in text
    assert "1. over 1 s." in text


def test_a_wrong_result_is_told_apart_from_none() -> None:
    """A run that was wrong makes its row wrong; one that failed is a dash with its reason."""
    from benchmarks.peers._table import Figures, key_of, report

    figures = Figures([8], 1.0)
    figures.cells[key_of("dagron_here", "chain async", 8)] = {"error": "OSError: no"}
    figures.cells[key_of("dagron_here", "chain sync", 8)] = {"wrong": "node 2 ran before 1"}
    text = report(figures, ["dagron_here"])

    first, second = (line.split(" | ") for line in text.splitlines() if line.startswith("| dagron"))
    assert (first[2], first[-1]) == ("- [1]", "yes |")
    assert (second[2], second[-1]) == ("- [2]", "[3] |")
    assert "1. OSError: no.\n2. node 2 ran before 1.\n" in text
    assert "3. dagron (this checkout): chain sync: node 2 ran before 1." in text


def test_the_two_tables_have_marks_of_their_own(tmp_path: Path) -> None:
    """Writing one table leaves the other alone."""
    from benchmarks import report as first_table
    from benchmarks.peers import _table

    text = first_table.README.read_text(encoding="utf-8")
    assert text.count(_table.START) == text.count(_table.END) == 1
    readme = tmp_path / "README.md"
    readme.write_text(text, encoding="utf-8")
    _table.write("new", readme)
    assert first_table.START in readme.read_text(encoding="utf-8")
    assert f"{_table.START}\n\nnew\n{_table.END}" in readme.read_text(encoding="utf-8")
