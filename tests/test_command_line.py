"""``python -m dagron runs`` looks into a journal."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from dagron import (
    DAG,
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    Journal,
    NodeResult,
    NodeStatus,
)
from dagron.__main__ import age, main, node_lines, shown_value
from storable import Point

GUARD = 30


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal with a run that succeeded, one that failed, and one that was cut off."""
    path = tmp_path / "runs.db"
    anyio.run(record, path)
    return path


async def record(path: Path) -> None:
    async def find() -> Any:
        return Point(1, 2)

    def expand(name: str, found: Any) -> DynamicModification:
        return DynamicModification(
            [DynamicNodeSpec(f"page {number}", find, [name]) for number in range(7)]
        )

    async def fails() -> None:
        raise OSError("no \x1b[31msignal\u202e")

    dag = DAG.builder().add_edge("find", "end").build()
    with Journal(path, allow=["storable"]) as journal, anyio.fail_after(GUARD):
        executor = DynamicExecutor(dag, {"find": expand}, journal=journal)
        await executor.execute({"find": find, "end": lambda: None}, run_id="good")
        await executor.execute({"find": find, "end": fails}, run_id="bad")
        async with executor.start({"find": find, "end": anyio.sleep_forever}, run_id="cut") as run:
            async for event in run.events():
                if event.kind == "node_started" and getattr(event, "node", "") == "end":
                    run.cancel()


def printed(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    """What a command prints, to either stream, if this is its exit code."""
    assert main(["runs", *map(str, arguments)]) == code
    out, err = capsys.readouterr()
    assert not (out if code else err)
    return out + err


def test_list(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`list` has a line for each run, the oldest first, or says that there are none."""
    header, *lines = printed(capsys, "list", path).splitlines()
    assert header.split() == ["RUN", "STATE", "BEGAN", "ENDED", "EXECUTED", "BY"]
    assert [line.split()[:2] for line in lines] == [
        ["good", "finished"],
        ["bad", "finished"],
        ["cut", "unfinished"],
    ]
    found = json.loads(printed(capsys, "list", path, "--json"))
    assert [run["id"] for run in found] == ["good", "bad", "cut"]
    assert [run["ended"] is None for run in found] == [False, False, True]
    assert {run["executions"] for run in found} == {1}


def test_show(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`show` prints how the run stands and its summary, and no control characters."""
    text = printed(capsys, "show", path, "bad")
    assert text.startswith("run 'bad': finished; began ")
    assert "OSError: no  [31msignal" in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    text = printed(capsys, "show", path, "cut", "--events")
    assert text.startswith("run 'cut': unfinished; began ")
    assert "1 READY, 8 COMPLETED" in text
    assert "added_nodes=('page 0', 'page 1', 'page 2', 'page 3', 'page 4', and 2 more)" in text
    assert "run_finished" not in text
    text = printed(capsys, "show", path, "good", "--events")
    assert text.splitlines()[-1].split()[2:4] == ["run_finished", "ok=True"]


def test_show_as_json(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`show --json` has every node, with results and errors as text, and the events if asked."""
    found = json.loads(printed(capsys, "show", path, "bad", "--json"))
    assert (found["ok"], found["reason"], len(found["nodes"])) == (False, None, 9)
    assert "events" not in found
    (end,) = (node for node in found["nodes"] if node["name"] == "end")
    assert end["error"] == "OSError: no \x1b[31msignal\u202e"
    assert end["errors"] == [end["error"]]
    found = json.loads(printed(capsys, "show", path, "good", "--json", "--events"))
    assert found["events"][0]["kind"] == "run_started"
    assert found["events"][-1]["kind"] == "run_finished"


def test_show_a_node(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`show --node` has all that there is to know of it, also its result where that may be loaded,
    and its traceback.
    """
    text = printed(capsys, "show", path, "bad", "--node", "end", "--events")
    assert text.startswith("node 'end': FAILED\n")
    assert "Traceback" in text
    assert " in fails" in text
    assert "\x1b" not in text
    assert "node_failed" in text
    assert "node_completed" not in text
    text = printed(capsys, "show", path, "good", "--node", "page 1")
    assert "added by  'find', 1 expansion deep" in text
    assert "result    <NotLoaded: a recorded result cannot be loaded: " in text
    text = printed(capsys, "show", path, "good", "--node", "page 1", "--allow", "storable")
    assert "result    Point(x=1, y=2)" in text
    text = printed(capsys, "show", path, "good", "--node", "page", code=1)
    assert text.startswith("error: there is no node 'page'\n  help: did you mean 'page ")
    found = json.loads(printed(capsys, "show", path, "good", "--node", "end", "--json"))
    assert [node["name"] for node in found["nodes"]] == ["end"]


def test_pictures(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`show --svg` and `--html` write files, and say so beside JSON on the other stream."""
    svg, html = tmp_path / "run.svg", tmp_path / "run.html"
    text = printed(capsys, "show", path, "good", "--svg", svg, "--html", html)
    assert text.endswith(f"wrote {svg}\nwrote {html}\n")
    assert svg.read_text(encoding="utf-8").startswith("<svg")
    assert "page 1" in html.read_text(encoding="utf-8")
    assert main(["runs", "show", str(path), "good", "--json", "--svg", str(svg)]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["id"] == "good"
    assert err == f"wrote {svg}\n"
    nowhere = tmp_path / "no" / "run.svg"
    main(["runs", "show", str(path), "good", "--svg", str(nowhere)])
    assert "No such file" in capsys.readouterr().err


def test_prune_and_backup(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`backup` makes a copy, once; `prune` deletes what ended long enough ago."""
    copy = tmp_path / "copy.db"
    assert printed(capsys, "backup", path, copy) == f"wrote {copy}\n"
    assert printed(capsys, "backup", path, copy, code=1).startswith("error: ")
    assert printed(capsys, "prune", copy, "--older-than", "30d") == "nothing to delete\n"
    assert printed(capsys, "prune", copy, "--older-than", "0s") == "good\nbad\ndeleted 2 runs\n"
    assert printed(capsys, "list", copy).count("\n") == 2
    assert printed(capsys, "list", path).count("\n") == 4


def test_forget(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`forget` deletes one run, also one that has not ended; close names are told of others."""
    before = printed(capsys, "list", path)
    assert "unfinished" in before
    assert "did you mean 'bad'?" in printed(capsys, "forget", path, "bat", code=1)
    (unfinished,) = [line.split()[0] for line in before.splitlines() if "unfinished" in line]
    assert printed(capsys, "forget", path, unfinished) == f"deleted {unfinished}\n"
    assert printed(capsys, "list", path).count("\n") == before.count("\n") - 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60s", 60), ("90m", 5_400), ("12h", 43_200), ("30d", 2_592_000), ("1.5w", 907_200)],
)
def test_ages(text: str, seconds: float) -> None:
    """An age is a number with a unit."""
    assert age(text) == seconds


@pytest.mark.parametrize("text", ["30", "d", "-1d", "1y", "1 d", "1e9d", "1.d"])
def test_what_is_no_age(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is no age is refused, with examples, by exit code 2."""
    with pytest.raises(SystemExit) as caught:
        main(["runs", "prune", "runs.db", f"--older-than={text}"])
    assert caught.value.code == 2
    assert "write 30d, 12h, 90m, 8w or 60s" in capsys.readouterr().err


def test_errors(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is not there, or is no journal, is an error with help, by exit code 1, and left so."""
    text = printed(capsys, "show", path, "god", code=1)
    assert text == ("error: no run of the journal has the id 'god'\n  help: did you mean 'good'?\n")
    missing = tmp_path / "run.db"
    text = printed(capsys, "list", missing, code=1)
    assert text == f"error: there is no such file: {missing}\n  help: look at the path\n"
    assert not missing.exists()
    other = tmp_path / "notes.txt"
    other.write_text("a note, and no database at all")
    assert printed(capsys, "list", other, code=1).startswith("error: ")
    assert other.read_text() == "a note, and no database at all"
    empty = tmp_path / "empty.db"
    empty.touch()
    assert printed(capsys, "list", empty) == "no runs\n"


def test_a_result_whose_repr_raises_and_a_long_one() -> None:
    """Whatever a result's `repr()` does, there is something to show; what is long is cut."""

    class Mute:
        def __repr__(self) -> str:
            raise ValueError("no words")

    assert shown_value(Mute()) == "<its repr() raised ValueError>"
    text = shown_value("x" * 3_000)
    assert text.endswith("... and 1,002 characters more")
    assert len(text) < 2_100


def test_a_node_that_never_ran() -> None:
    """Of a node that never ran it is said why."""
    node = NodeResult("a", NodeStatus.SKIPPED, reason="skipped because 'b' failed")
    assert list(node_lines(node)) == [
        "node 'a': SKIPPED",
        "  reason    skipped because 'b' failed",
        "  attempts  0",
        "  result    None",
    ]


def test_as_a_module(path: Path) -> None:
    """`python -m dagron` is this program, also where who reads its output has seen enough."""
    command = [sys.executable, "-m", "dagron", "runs", "list", str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.count("\n") == 4
    code = (
        "import os, sys; from dagron.__main__ import main; "
        "reader, writer = os.pipe(); os.close(reader); os.dup2(writer, 1); "
        "sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["runs", "show", str(path), "good", "--events"]
    ran = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
