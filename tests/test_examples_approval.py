"""examples/approval.py: approved, rejected, asked on a terminal or over HTTP; what goes wrong."""

import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import dagron
from example_runs import Seen, caller, command, imported, runner
from ways import GUARD

run = runner("approval")


@pytest.fixture(scope="module")
def approval() -> Iterator[ModuleType]:
    with imported("approval") as [module]:
        yield module


@pytest.fixture(params=["asyncio", "trio"])
def seen(
    approval: ModuleType, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Seen]:
    """Run the program in this process, on either backend."""
    return caller(approval.main, request.param, capsys)


def fill(folder: Path, contents: dict[str, str]) -> Path:
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


PHOTOS = {"a/beach": "sand", "b/beach": "sand", "b/copy of beach": "sand", "forest": "tree"}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three files that are the same, and one of the same size that is not."""
    return fill(tmp_path / "photos", PHOTOS)


def state(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """What a change of any file in the folder would change."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_ino,
            path.lstat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in folder.rglob("*")
    }


def contents(folder: Path) -> dict[str, bytes]:
    return {path: content for path, (_, _, content) in state(folder).items()}


def repeats(folder: Path) -> tuple[int, int]:
    """How many files repeat another one, and their bytes, by an independent count."""
    sizes, groups = {}, Counter()
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and (content := path.read_bytes()):
            digest = hashlib.blake2b(content).digest()
            sizes[digest] = len(content)
            groups[digest] += 1
    return (
        sum(number - 1 for number in groups.values()),
        sum(sizes[digest] * (number - 1) for digest, number in groups.items()),
    )


def bytes_on_disc(folder: Path) -> int:
    """The bytes of all files; those under several names count once."""
    files = {path.lstat().st_ino: path.lstat().st_size for path in folder.rglob("*")}
    folders = {path.lstat().st_ino for path in folder.rglob("*") if path.is_dir()}
    return sum(size for inode, size in files.items() if inode not in folders)


# ---- the folder that every machine has ----------------------------------------------------------


def test_default_agrees_with_the_files(tmp_path: Path) -> None:
    """Given nothing, the program compiles a package, and replaces what an independent count says.

    The copy that it leaves has the links, and the bytes are gone from the disc.
    """
    done = run("--copy", tmp_path / "copy")
    assert (done.returncode, done.stderr) == (0, "")
    files, freed = repeats(tmp_path / "copy")
    assert files >= 3
    assert f"\napplied: {files} files replaced by a link, {freed:,} bytes freed, " in done.stdout
    assert done.stdout.count("plan: level ") == done.stdout.count("replace ") == files
    whole = sum(len(content) for content in contents(tmp_path / "copy").values())
    assert bytes_on_disc(tmp_path / "copy") == whole - freed
    for level in (0, 1, 2):
        assert "encoder.pyc" in {path.name for path in (tmp_path / f"copy/level {level}").iterdir()}


@pytest.mark.parametrize("mode", [[], ["--reject"]])
def test_default_is_the_same_on_trio(mode: list[str]) -> None:
    """Every word of the log and of the report is the same on both backends."""
    asyncio, trio = run(*mode), run(*mode, "--backend", "trio")
    assert (asyncio.returncode, asyncio.stderr) == (1 if mode else 0, "")
    assert asyncio.stdout == trio.stdout


# ---- approved, rejected, nothing to do ----------------------------------------------------------


def test_approved(seen: Callable[..., Seen], photos: Path, tmp_path: Path) -> None:
    """The files that repeat another are links to it in the copy; the folder is only read."""
    before = state(photos)
    told = seen(photos, "--copy", tmp_path / "copy")
    assert (told.code, told.err) == (0, "")
    assert "  plan: b/beach is a copy of a/beach, 4 bytes\n" in told.out
    assert "  plan: b/copy of beach is a copy of a/beach, 4 bytes\n" in told.out
    assert told.out.endswith(
        "\napplied: 2 files replaced by a link, 8 bytes freed, "
        "and every file of the copy reads as before\n"
    )
    assert state(photos) == before
    assert contents(tmp_path / "copy") == contents(photos)
    assert (tmp_path / "copy/b/beach").samefile(tmp_path / "copy/a/beach")
    assert (tmp_path / "copy/forest").stat().st_nlink == 1
    assert bytes_on_disc(tmp_path / "copy") == bytes_on_disc(photos) - 8


def test_log(seen: Callable[..., Seen], photos: Path) -> None:
    """The log tells what happens in its order; the copy is made while the approval is awaited."""
    told = seen(photos)
    assert told.out.splitlines()[:16] == [
        "  find: 1 node added",
        "  find: done",
        "  compare 1: done",
        "  plan: b/beach is a copy of a/beach, 4 bytes",
        "  plan: b/copy of beach is a copy of a/beach, 4 bytes",
        "  plan: done",
        "  copy: done",
        "",
        "node 'approve' is RUNNING: it waits at a gate",
        "POST /approve: 200",
        "",
        "  approve: approved: decided by the example itself",
        "  approve: 2 nodes added",
        "  approve: done",
        "  replace 1: done",
        "  replace 2: done",
    ]


def test_rejected(seen: Callable[..., Seen], photos: Path, tmp_path: Path) -> None:
    """After a rejection nothing is replaced, the report says who and why, and the code is 1."""
    before = state(photos)
    told = seen(photos, "--reject", "--copy", tmp_path / "copy")
    assert (told.code, told.err) == (1, "")
    assert "POST /reject: 200\n" in told.out
    assert "replace" not in told.out
    assert told.out.endswith("\nrejected: decided by the example itself; nothing was changed\n")
    assert state(photos) == before
    assert bytes_on_disc(tmp_path / "copy") == bytes_on_disc(photos)


@pytest.mark.parametrize(
    "files", [{}, {"a": "1", "b": "22"}, {"a": "1", "b": "2"}, {"empty": "", "as empty": ""}]
)
def test_nothing_to_change(seen: Callable[..., Seen], tmp_path: Path, files: dict) -> None:
    """Where no file repeats another, nobody is asked and nothing copied; that is no failure."""
    folder = fill(tmp_path / "folder", files)
    folder.mkdir(exist_ok=True)
    told = seen(folder, "--copy", tmp_path / "copy")
    assert (told.code, told.err) == (0, "")
    assert "POST" not in told.out
    assert "  approve: skipped by condition: the edge from 'plan' to 'approve' is " in told.out
    assert told.out.endswith("\nno file repeats another: there is nothing to change\n")
    assert not (tmp_path / "copy").exists()


def test_links_are_not_followed(seen: Callable[..., Seen], photos: Path, tmp_path: Path) -> None:
    """A symbolic link repeats no file, and is a link in the copy too, wherever it leads."""
    (photos / "link").symlink_to("forest")
    (photos / "nowhere").symlink_to("gone")
    (photos / "loop").symlink_to(".", target_is_directory=True)
    told = seen(photos, "--copy", tmp_path / "copy")
    assert (told.code, told.err) == (0, "")
    assert "applied: 2 files replaced" in told.out
    assert {name: os.readlink(tmp_path / "copy" / name) for name in ("link", "nowhere")} == {
        "link": "forest",
        "nowhere": "gone",
    }


def test_hostile_names(seen: Callable[..., Seen], tmp_path: Path) -> None:
    """Files of any name are replaced, and their names are shown as text only."""
    names = ["line\nbreak", "\x1b[31mred", "\u202egnp", "<b>", "'; rm -rf", "-rf", "x" * 255, " "]
    folder = fill(tmp_path / "folder", dict.fromkeys(names, "same"))
    if sys.platform == "linux":
        names.append(os.fsdecode(b"no text \xff"))
        (folder / names[-1]).write_text("same")
    told = seen(folder, "--copy", tmp_path / "copy")
    assert (told.code, told.err) == (0, "")
    assert f"\napplied: {len(names) - 1} files replaced by a link" in told.out
    assert all(line.isprintable() for line in told.out.splitlines())
    assert contents(tmp_path / "copy") == contents(folder)
    assert {path.stat().st_nlink for path in (tmp_path / "copy").iterdir()} == {len(names)}


def test_many_repeats(seen: Callable[..., Seen], tmp_path: Path) -> None:
    """Hundreds of nodes are added at once, and each does its work."""
    folder = fill(tmp_path / "folder", {f"{number}": "same" for number in range(300)})
    told = seen(folder)
    assert told.code == 0
    assert "  approve: 299 nodes added\n" in told.out
    assert "\napplied: 299 files replaced" in told.out


# ---- a decision from outside --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "code"), [("y\n", 0), (" YES \n", 0), ("n\n", 1), ("\n", 1), ("", 1), ("yeah\n", 1)]
)
def test_asked_on_the_terminal(photos: Path, typed: str, code: int) -> None:
    """With --ask, "y" and "yes" approve; anything else rejects, the end of the input as well."""
    done = run(photos, "--ask", typed=typed)
    assert (done.returncode, done.stderr) == (code, "")
    assert "Apply this plan? [y/N] " in done.stdout
    end = "rejected: not approved on the terminal; nothing was changed\n" if code else "as before\n"
    assert done.stdout.endswith(end)


@contextmanager
def waiting(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """The program with --wait, its address, and the path of its server under which one decides."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(**command("approval", *arguments, "--wait"), **pipes) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if found := re.search(r"http://([\d.:]+)(/\S+)/reject", line):
                    yield process, found[1], found[2]
                    break
        finally:
            process.kill()


def post(address: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, str]:
    with closing(HTTPConnection(address, timeout=GUARD)) as connection:
        connection.request("POST", path, body, headers)
        with connection.getresponse() as answer:
            return answer.status, answer.read().decode()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_decided_by_another_program(photos: Path, backend: str) -> None:
    """With --wait, a request with the printed address decides, and its body is the comment."""
    with waiting(photos, "--backend", backend) as (process, address, path):
        assert post(address, f"{path}/approve", b"looks \x1b[31mgood") == (200, "so be it\n")
        out, err = process.communicate(timeout=GUARD)
    assert (process.returncode, err) == (0, "")
    assert "  approve: approved: looks \\x1b[31mgood\n" in out
    assert "applied: 2 files replaced" in out


def test_only_who_knows_the_address_decides(photos: Path) -> None:
    """A request without the token is answered with 404, and decides nothing."""
    with waiting(photos) as (process, address, path):
        for wrong in ["/approve", "/", f"{path}", f"{path}/approve/", f"{path[:-1]}/approve", "x"]:
            assert post(address, wrong) == (404, "no such page\n")
        assert post(address, f"{path}/reject")[0] == 200
        out, err = process.communicate(timeout=GUARD)
    assert (process.returncode, err) == (1, "")
    assert out.endswith("\nrejected: without a comment; nothing was changed\n")


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_ctrl_c(photos: Path, backend: str) -> None:
    """Ctrl-C while it waits for a decision ends the program with 130 and one line."""
    before = state(photos)
    with waiting(photos, "--backend", backend) as (process, _, _):
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=GUARD)
    assert (process.returncode, err) == (130, "interrupted\n")
    assert state(photos) == before


@pytest.fixture
def served(approval: ModuleType) -> Iterator[tuple[dagron.Gate, str]]:
    """A gate, and the address of a server that decides it; the token is "token"."""
    gate = dagron.Gate()
    with approval.serving(partial(approval.Decision, gate=gate, token="token")) as address:
        yield gate, address


def test_second_decision(served: tuple[dagron.Gate, str]) -> None:
    """A gate is decided once: the second request is answered with 409 and what to do."""
    gate, address = served
    assert post(address, "/token/approve")[0] == 200
    for decision in ("approve", "reject"):
        status, text = post(address, f"/token/{decision}", b"changed my mind")
        assert status == 409
        assert "a gate is decided once" in text
    assert gate.is_decided


@pytest.mark.parametrize("length", ["", "-1", "x", "9" * 30, "\xb2"])
def test_hostile_length(served: tuple[dagron.Gate, str], length: str) -> None:
    """A request that lies about the length of its comment is answered all the same."""
    gate, address = served
    with closing(HTTPConnection(address, timeout=GUARD)) as connection:
        connection.putrequest("POST", "/token/approve")
        connection.putheader("Content-Length", length)
        connection.endheaders()
        if length.startswith("9"):
            connection.sock.shutdown(socket.SHUT_WR)
        with connection.getresponse() as answer:
            assert answer.status == 200
    assert gate.is_decided


async def test_long_comment(served: tuple[dagron.Gate, str]) -> None:
    """Of a long comment the beginning counts."""
    gate, address = served
    assert post(address, "/token/approve", b"no " * 10_000)[0] == 200
    assert await gate.wait() == ("no " * 10_000)[:500]


async def test_decided_early(approval: ModuleType, photos: Path, tmp_path: Path) -> None:
    """A decision may come before anybody waits for it; it is applied when the copy is made."""
    change = approval.Change(photos, tmp_path / "copy")
    change.gate.open("beforehand")
    decided = []

    async def decide() -> None:
        decided.append("in vain")

    result = await approval.carry_out(change, decide)
    assert result.ok
    assert result["verify"].result == 8
    assert result.dag.dependencies("replace 1") == ["approve", "copy"]
    assert decided == ["in vain"]


# ---- what goes wrong ----------------------------------------------------------------------------


async def test_changed_while_it_waited(approval: ModuleType, photos: Path, tmp_path: Path) -> None:
    """A file that is no longer what it was when the plan was made is not replaced."""
    change = approval.Change(photos, tmp_path / "copy")

    async def decide() -> None:
        (tmp_path / "copy/b/beach").write_text("rock")
        change.gate.open("late")

    result = await approval.carry_out(change, decide)
    assert not result.ok
    assert "b/beach has changed since the plan was made" in str(result["replace 1"].error)
    assert (tmp_path / "copy/b/beach").read_text() == "rock"
    assert result["verify"].status in ("SKIPPED", "CANCELLED")
    assert approval.conclusion(result) == "something failed; the folder itself was not touched"


async def test_copy_that_reads_differently(
    approval: ModuleType, photos: Path, tmp_path: Path
) -> None:
    """The last node notices a copy that does not read as the folder does."""
    change = approval.Change(photos, tmp_path / "copy")

    async def decide() -> None:
        (tmp_path / "copy/forest").write_text("fire")
        change.gate.open()

    result = await approval.carry_out(change, decide)
    assert f"{tmp_path / 'copy/forest'} differs from" in str(result["verify"].error)


async def test_copy_that_fails(approval: ModuleType, photos: Path, tmp_path: Path) -> None:
    """Where no copy can be made nobody is asked: the run ends, and waits at no gate."""
    change = approval.Change(photos, tmp_path / "photos")
    result = await approval.carry_out(change, decide=None)
    assert isinstance(result["copy"].error, FileExistsError)
    assert result["approve"].status == "CANCELLED"
    assert result.reason == "the run was ended because 'copy' failed"
    assert not change.gate.is_decided


async def test_file_that_vanishes(approval: ModuleType, photos: Path, tmp_path: Path) -> None:
    """A file that vanishes while it is looked for ends the run before anybody is asked."""

    class Vanishing(approval.Change):
        def find(self) -> list[list[Path]]:
            found = super().find()
            (self.folder / "b/beach").unlink()
            return found

    result = await approval.carry_out(Vanishing(photos, tmp_path / "copy"), decide=None)
    assert isinstance(result["compare 1"].error, FileNotFoundError)
    assert result["plan"].status in ("SKIPPED", "CANCELLED")
    assert not (tmp_path / "copy").exists()


def test_failure_in_the_program(
    approval: ModuleType, seen: Callable[..., Seen], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure is in the log with its error, and the code is 1."""

    def full(self: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(approval.Change, "make_copy", full)
    told = seen(photos)
    assert (told.code, told.err) == (1, "")
    assert "  copy: failed: OSError: no space left\n" in told.out
    assert told.out.endswith("\nsomething failed; the folder itself was not touched\n")


def test_refused_places(seen: Callable[..., Seen], photos: Path, tmp_path: Path) -> None:
    """What is no folder, and a copy over something or into the folder, is refused with code 2."""
    before = state(tmp_path)
    for arguments, why in [
        ([tmp_path / "gone"], "is no folder\n"),
        ([photos, "--copy", photos], "is there already: name a place for a new folder\n"),
        ([photos, "--copy", photos / "x"], "the copy of a folder cannot be in the folder itself\n"),
        ([photos, "--copy", tmp_path / "z/../photos/x"], "cannot be in the folder itself\n"),
    ]:
        told = seen(*arguments)
        assert (told.code, told.out) == (2, "")
        assert told.err.startswith("error: ")
        assert told.err.endswith(why)
    assert state(tmp_path) == before


def test_one_way_to_decide(approval: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """Two ways to decide at once are refused with the code 2."""
    with pytest.raises(SystemExit) as caught:
        approval.main(["--ask", "--reject"])
    assert caught.value.code == 2
    assert "not allowed with argument" in capsys.readouterr().err
