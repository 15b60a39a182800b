"""examples/crash_resume.py: killed for real, by itself and by hand, and what it tells of that."""

import json
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest

import dagron
from example_runs import command, imported, run


@pytest.fixture(scope="module")
def example() -> Iterator[ModuleType]:
    """The module of the example."""
    with imported("crash_resume") as [module]:
        yield module


def numbers(text: str) -> dict[str, int]:
    """The lines that begin with a number, by the rest of them."""
    lines = re.findall(r"^ *([\d,]+)  ([\w ]+)", text, re.MULTILINE)
    return {what: int(number.replace(",", "")) for number, what in lines}


def test_it_is_killed_half_way_and_goes_on() -> None:
    """Nothing that was done before the kill runs again, and of the rest only what was at work; the
    database has each row once.
    """
    done = run("crash_resume", "--modules", 40)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    told = numbers(done.stdout)
    assert "killed it, when some 40 nodes were done: signal 9\n" in done.stdout
    assert told["done before it was killed"] >= 40
    assert told["of these run again"] <= told["at work when it was killed"]
    assert told["run for the first time afterwards"] > 0
    assert told["rows in the database too many or too few"] == 0
    assert re.search(r" definitions of \d+ modules loaded\n$", done.stdout)


def test_it_is_killed_by_hand(tmp_path: Path) -> None:
    """Whoever types it again after a kill goes on with the run, twice over."""
    how = command("crash_resume", "--db", tmp_path / "runs.db", "--modules", 40)
    for place in ("10 nodes done\n", "20 nodes done\n"):
        with subprocess.Popen(**how, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            for line in process.stdout:
                if line == place:
                    break
            process.kill()
        assert "run 'library'" in first
        assert process.returncode == -9
    last = run("crash_resume", "--db", tmp_path / "runs.db", "--modules", 40)
    assert (last.returncode, last.stderr) == (0, ""), last.stdout
    assert re.match(r"process \d+ goes on with run 'library'\n", last.stdout)
    assert numbers(last.stdout)["done before it was killed"] >= 30
    with closing(sqlite3.connect(tmp_path / "runs.db.library.db")) as connection:
        [(modules, loads)] = connection.execute(
            "SELECT (SELECT count(*) FROM modules), (SELECT count(*) FROM loads)"
        )
    assert modules == loads > 30


def test_a_module_is_loaded_once_per_node(example: ModuleType, tmp_path: Path) -> None:
    """The body of a node that runs twice, as after a kill, writes its rows once."""
    log = example.Log(tmp_path / "log")
    library = example.Library(tmp_path / "library.db", log, 1)
    module = {"name": "abc", "bytes": 10, "lines": 1, "rows": [("class", "ABC", 1)]}

    def twice() -> list[int]:
        return [library.load(module), library.load(module)]

    dag = dagron.DAG.builder().add_edge("list", "load").build()
    with closing(log):
        tasks = {"list": library.list_modules, "load": twice}
        result = dagron.DynamicExecutor(dag).execute_sync(tasks)
    assert result["load"].result == [1, 1]
    with closing(sqlite3.connect(library.database)) as connection:
        assert connection.execute("SELECT * FROM definitions").fetchall() == [
            ("abc", "class", "ABC", 1)
        ]


def test_what_is_wrongly_run_again_is_told(example: ModuleType, tmp_path: Path) -> None:
    """A node that was done in one life and began in the next one is found out."""
    lines = [
        *[(1, "begun", "a"), (1, "done", "a"), (1, "begun", "b"), (1, "begun", "c")],
        *[(2, "begun", "a"), (2, "begun", "b"), (2, "done", "b"), (2, "begun", "d")],
    ]
    path = tmp_path / "log"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    tally = example.Tally.of(example.read_log(path))
    assert tally.wrongly_again == {"a"}
    assert [line.split(None, 1) for line in tally.lines()] == [
        ["1", "done before it was killed"],
        ["1", "of these run again"],
        ["2", "at work when it was killed"],
        ["1", "of these run again: b"],
        ["1", "run for the first time afterwards"],
    ]


def test_a_run_that_another_process_has_is_left_alone(example: ModuleType, tmp_path: Path) -> None:
    """While somebody executes the run, the program says who, and ends with 1."""
    db = tmp_path / "runs.db"
    nested: list[subprocess.CompletedProcess[str]] = []
    dag = dagron.DAG.builder().add_node("a").build()
    with dagron.Journal(db) as journal:
        dagron.DynamicExecutor(dag, journal=journal).execute_sync(
            {"a": lambda: nested.append(run("crash_resume", "--db", db, "--modules", 5))},
            run_id="library",
        )
    [told] = nested
    assert told.returncode == 1
    assert "run 'library' is being executed by process" in told.stderr
