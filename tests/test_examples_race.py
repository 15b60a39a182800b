"""examples/race.py: who wins, what becomes of the others, and the program as it is run."""

import os
import random
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import anyio.from_thread
import pytest
from anyio.lowlevel import checkpoint

from clocks import VIRTUAL
from example_runs import ROOT, Seen, caller, imported, runner

run = runner("race")
STRATEGIES = ["dealing", "differencing", "exhaustive"]


@pytest.fixture(scope="module")
def race() -> Iterator[ModuleType]:
    with imported("race") as [module]:
        yield module


@pytest.fixture(params=["asyncio", "trio"])
def seen(
    race: ModuleType, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Seen]:
    """Run the program in this process, on either backend."""
    return caller(race.main, request.param, capsys)


def fill(folder: Path, **sizes: int) -> Path:
    for name, size in sizes.items():
        (folder / name).write_bytes(b"." * size)
    return folder


def files_of(race: ModuleType, sizes: list[int]) -> list[Any]:
    return [race.File(Path(str(number)), size) for number, size in enumerate(sizes)]


def lines(seen: Seen) -> dict[str, str]:
    """What is said of each strategy."""
    found = [line.split(None, 1) for line in seen.out.splitlines() if line.startswith("  ")]
    return {name: text for name, text in found if name in STRATEGIES}


# ---- the library of this Python -----------------------------------------------------------------


def library_sizes() -> list[int]:
    """The sizes of its source files, in the order of their paths."""
    library = Path(sysconfig.get_path("stdlib"))
    found = {}
    for folder, folders, names in os.walk(library):
        folders[:] = [name for name in folders if name != "site-packages"]
        for path in (Path(folder, name) for name in names if name.endswith(".py")):
            if not path.is_symlink():
                found[path] = os.path.getsize(path)
    return [found[path] for path in sorted(found)]


@pytest.fixture(scope="module")
def default() -> subprocess.CompletedProcess[str]:
    return run()


def test_default_agrees_with_the_library(default: subprocess.CompletedProcess[str]) -> None:
    """The report counts the files and bytes that are there, and both discs together hold them."""
    assert (default.returncode, default.stderr) == (0, "")
    sizes = library_sizes()
    assert default.stdout.startswith(f"{len(sizes):,} files, {sum(sizes):,} bytes: ")
    discs = re.findall(r"^ +([\d,]+) files +([\d,]+) bytes$", default.stdout, re.MULTILINE)
    (files, full), (other_files, other_full) = (
        [int(number.replace(",", "")) for number in disc] for disc in discs
    )
    assert files + other_files == len(sizes)
    assert full + other_full == sum(sizes)
    assert abs(full - other_full) <= 100


def test_default_outcome(default: subprocess.CompletedProcess[str]) -> None:
    """The quick strategy is rejected for its answer, the next one wins, the thread is cancelled."""
    sizes = library_sizes()
    difference = abs(sum(sizes[::2]) - sum(sizes[1::2]))
    if difference <= 100:
        pytest.fail("on the library of this Python dealing is good: give the program --within 0")
    even = "1 byte" if sum(sizes) % 2 else "0 bytes"
    assert lines(Seen(0, default.stdout, "")) == {
        "dealing": f"COMPLETED  not good enough: {difference:,} bytes between the discs",
        "differencing": f"COMPLETED  good: {even} between the discs",
        "exhaustive": "CANCELLED  cancelled by 'differencing'",
    }
    assert "\ndifferencing wins:\n" in default.stdout
    assert default.stdout.endswith("\nresult.ok is True\n")


def test_default_is_the_same_on_trio(default: subprocess.CompletedProcess[str]) -> None:
    """Every word of the report is the same in a second run, on the other backend."""
    assert run("--backend", "trio").stdout == default.stdout


# ---- who wins -----------------------------------------------------------------------------------


def test_first_strategy_is_good(seen: Callable[..., Seen], tmp_path: Path) -> None:
    """Where the quick answer is good, the others are cancelled before they have one."""
    told = seen(fill(tmp_path, a=7, b=7))
    assert (told.code, told.err) == (0, "")
    assert lines(told) == {
        "dealing": "COMPLETED  good: 0 bytes between the discs",
        "differencing": "CANCELLED  cancelled by 'dealing'",
        "exhaustive": "CANCELLED  cancelled by 'dealing'",
    }
    assert "\ndealing wins:\n       1 files             7 bytes\n" in told.out


def test_only_the_exhaustive_is_good(seen: Callable[..., Seen], tmp_path: Path) -> None:
    """A good answer that comes last wins too: those that are not good do not start the join."""
    told = seen(fill(tmp_path, a=8, b=7, c=6, d=5, e=4), "--within", "0")
    assert (told.code, told.err) == (0, "")
    assert lines(told) == {
        "dealing": "COMPLETED  not good enough: 6 bytes between the discs",
        "differencing": "COMPLETED  not good enough: 2 bytes between the discs",
        "exhaustive": "COMPLETED  good: 0 bytes between the discs",
    }
    assert "\nexhaustive wins:\n" in told.out
    assert told.out.endswith("\nresult.ok is True\n")


def test_none_is_good(seen: Callable[..., Seen], tmp_path: Path) -> None:
    """Where no answer is good the join is skipped by condition, which is no failure; code 1."""
    told = seen(fill(tmp_path, a=1, b=10), "--within", "8")
    assert (told.code, told.err) == (1, "")
    assert list(lines(told).values()) == [
        "COMPLETED  not good enough: 9 bytes between the discs"
    ] * len(STRATEGIES)
    assert "\nno answer is good enough: skipped by condition: " in told.out
    assert told.out.endswith("\nresult.ok is True\n")


def test_no_files(seen: Callable[..., Seen], tmp_path: Path) -> None:
    """An empty folder is shared evenly, by whichever strategy is the first to say so."""
    told = seen(tmp_path)
    assert (told.code, told.err) == (0, "")
    assert told.out.startswith("0 files, 0 bytes: ")
    assert told.out.count("       0 files             0 bytes\n") == 2
    assert told.out.count(" wins:\n") == 1


def test_order_of_the_strategies_does_not_decide(
    race: ModuleType,
    seen: Callable[..., Seen],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The quick strategy is rejected before the next one wins, whichever of them starts first."""
    dice = random.Random(1)
    fill(tmp_path, **{f"file{number}": dice.randrange(1, 5000) for number in range(200)})
    forward = seen(tmp_path, "--within", "1")
    monkeypatch.setattr(race, "STRATEGIES", dict(reversed(race.STRATEGIES.items())))
    backward = seen(tmp_path, "--within", "1")
    assert forward.code == backward.code == 0
    assert lines(forward) == lines(backward)
    assert list(lines(forward)) == list(reversed(lines(backward))) == STRATEGIES
    assert lines(forward)["dealing"].startswith("COMPLETED  not good enough")
    assert "\ndifferencing wins:\n" in forward.out


@pytest.fixture
def endless(race: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty files that no split makes even: the exhaustive strategy has work for ever."""

    async def files(self: Any) -> list[Any]:
        return files_of(race, [10**9] + [1] * 59)

    monkeypatch.setattr(race.Race, "files", files)


@pytest.mark.usefixtures("endless")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_thread_is_stopped(race: ModuleType, monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    """A thread that is in the middle of its work is stopped by the first good answer."""
    begun = anyio.Event()

    def long(files: list[Any]) -> Any:
        anyio.from_thread.run_sync(begun.set)
        return race.exhaustive(files)

    async def patient(files: list[Any]) -> Any:
        await begun.wait()
        return race.Split()

    monkeypatch.setattr(race, "STRATEGIES", {"long": long, "patient": patient})
    competition = race.Race(Path(), within=0)
    result = competition.executor().execute_sync(competition.tasks(), backend=backend)
    assert result["answer"].result == ("patient", race.Split())
    assert result["long"].status == "CANCELLED"
    assert result["long"].reason == "cancelled by 'patient'"
    assert (result["long"].attempts, result["long"].error) == (1, None)
    assert result.ok


@VIRTUAL
@pytest.mark.usefixtures("endless")
async def test_time_is_over(race: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """A race that nobody wins is ended by its timeout, thread and all, and the report says so."""
    competition = race.Race(Path(), within=0)
    result = await competition.executor().execute(competition.tasks(), timeout=60)
    race.report(competition, result)
    told = Seen(1, *capsys.readouterr())
    assert lines(told)["exhaustive"] == "CANCELLED  the run's timeout of 60 s was over"
    assert "\nno answer is good enough: the run's timeout of 60 s was over\n" in told.out
    assert told.out.endswith("\nresult.ok is False: the run's timeout of 60 s was over\n")


# ---- the strategies by themselves ---------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
async def test_strategies_share_all_files(race: ModuleType, seed: int) -> None:
    """Each file is on one disc; the exhaustive split is the best there is, and none beats it."""
    dice = random.Random(seed)
    files = files_of(race, [dice.randrange(20) for _ in range(dice.randrange(9))])
    total = race.size(files)
    best = min(
        abs(total - 2 * race.size(left))
        for number in range(len(files) + 1)
        for left in combinations(files, number)
    )
    splits = [await race.dealing(files), await race.differencing(files), race.exhaustive(files)]
    for split in splits:
        assert sorted(split.left + split.right, key=files.index) == files
        assert split.difference >= best
    assert splits[2].difference == best


async def test_differencing_lets_others_work(race: ModuleType) -> None:
    """On many files the differencing strategy gives the event loop a turn now and then."""
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await checkpoint()
            turns += 1

    async with anyio.create_task_group() as group:
        group.start_soon(count_turns)
        await race.differencing(files_of(race, list(range(1001))))
        group.cancel_scope.cancel()
    assert turns >= 10


# ---- what goes wrong ----------------------------------------------------------------------------


def test_hostile_names(seen: Callable[..., Seen], tmp_path: Path) -> None:
    """Files of any name are shared, links are not, and the folder's name is shown as text only."""
    folder = tmp_path / "line\nbreak\x1b[31m\u202e"
    (folder / "deep").mkdir(parents=True)
    for name in ["new\nline", "\x1b]0;title\x07", "<script>", "deep/same"]:
        (folder / name).write_bytes(b"12345")
    (folder / "link").symlink_to("<script>")
    (folder / "nowhere").symlink_to("gone")
    told = seen(folder)
    assert (told.code, told.err) == (0, "")
    assert told.out.startswith("4 files, 20 bytes: ")
    assert all(line.isprintable() for line in told.out.splitlines())


@pytest.mark.skipif(sys.platform != "linux", reason="a name that is no text")
def test_name_that_is_no_text(seen: Callable[..., Seen], tmp_path: Path) -> None:
    """A file whose name is no text in any encoding is a file like any other."""
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).write_bytes(b"1")
    assert seen(tmp_path).out.startswith("1 file, 1 byte: ")


def test_no_folder(seen: Callable[..., Seen], tmp_path: Path) -> None:
    """What is no folder is refused with one line and the code 2."""
    told = seen(tmp_path / "gone")
    assert (told.code, told.out) == (2, "")
    assert told.err == f"error: {tmp_path / 'gone'} is no folder\n"


def test_folder_that_cannot_be_read(
    race: ModuleType, seen: Callable[..., Seen], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the files cannot be listed there is no race: one line, and the code 2."""

    def vanished(self: Any) -> None:
        raise FileNotFoundError("a file is gone")

    monkeypatch.setattr(race.Race, "files", vanished)
    told = seen(ROOT)
    assert (told.code, told.out, told.err) == (2, "", "error: a file is gone\n")


def test_ctrl_c(
    race: ModuleType, seen: Callable[..., Seen], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C ends the program with 130 and one line."""

    def interrupt(self: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(race.Race, "files", interrupt)
    told = seen(ROOT)
    assert (told.code, told.out, told.err) == (130, "", "interrupted\n")


@pytest.mark.parametrize(
    "options", [["--within", "-1"], ["--timeout", "0"], ["--timeout", "nan"], ["--backend", "x"]]
)
def test_impossible_options(
    race: ModuleType, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """An impossible option is refused with the code 2 before anything runs."""
    with pytest.raises(SystemExit) as caught:
        race.main(options)
    assert caught.value.code == 2
    assert f"argument {options[0]}: " in capsys.readouterr().err
