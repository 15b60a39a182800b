"""examples/log_stream.py on the logs that it writes, on given ones, and on broken ones."""

import gzip
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import dagron
from example_runs import Seen, caller, imported, run


@pytest.fixture(scope="module")
def example() -> Iterator[SimpleNamespace]:
    """The modules of the example."""
    with imported("log_stream", "_access_logs") as (main, logs):
        yield SimpleNamespace(main=main, logs=logs)


@pytest.fixture(params=["asyncio", "trio"])
def seen(
    example: SimpleNamespace, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Seen]:
    """Run the program in this process, on either backend."""
    return caller(example.main.main, request.param, capsys)


@pytest.fixture(scope="module")
def week(example: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three short days."""
    folder = tmp_path_factory.mktemp("logs")
    example.logs.write_logs(folder, days=3, lines=1_000)
    return folder


def lines_of(folder: Path) -> list[str]:
    paths = sorted(folder.glob("*.gz"))
    return [line for path in paths for line in gzip.open(path, "rt").read().splitlines()]


def pack(path: Path, *lines: str) -> None:
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))


def asked(path: str, status: int = 200) -> str:
    return f'10.0.0.1 - - [02/Mar/2026:00:00:00 +0000] "GET {path} HTTP/1.1" {status} 17'


def test_the_command_on_its_own_logs(tmp_path: Path) -> None:
    """Without arguments it writes a week of logs once, and reads all of it."""
    cache = str(tmp_path)
    first = run("log_stream", "--top", 1, XDG_CACHE_HOME=cache, LOCALAPPDATA=cache, HOME=cache)
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.startswith("140,000 lines of 7 files\n")
    assert "79 nodes in all, of which 2 were kept" in first.stdout
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.gz")}
    again = run("log_stream", "--top", 1, XDG_CACHE_HOME=cache, LOCALAPPDATA=cache, HOME=cache)
    assert again.stdout == first.stdout
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.gz")} == written


@pytest.mark.parametrize(("window", "lines"), [(1, 7), (3, 100), (8, 5_000)])
def test_the_counts_are_those_of_a_naive_reader(
    seen: Callable[..., Seen], week: Path, window: int, lines: int
) -> None:
    """Whatever the chunks and the window, the report says what one loop over the lines would."""
    told = seen(week, "--window", window, "--lines", lines, "--top", 5)
    everything = lines_of(week)
    requests = [re.search(r'"GET (\S+)', line) for line in everything]
    paths = Counter(request[1] for request in requests if request)
    top = sorted(paths.items(), key=lambda item: (-item[1], item[0]))[:5]
    chunks = sum(-(-1_000 // lines) for _ in range(3))
    assert told.out.splitlines()[0] == "3,000 lines of 3 files"
    assert told.out.splitlines()[1].startswith(f"{3_000 - paths.total():,} line")
    assert [tuple(line.split()) for line in told.out.splitlines()[4:9]] == [
        (f"{number:,}", path) for path, number in top
    ]
    assert f"{2 + 3 + chunks:,} nodes in all, of which 2 were kept" in told.out
    assert (told.code, told.err) == (0, "")


def test_few_chunks_are_in_the_graph_at_once(example: SimpleNamespace, week: Path) -> None:
    """At any time no more chunks are unfinished than two windows have room for, one per file."""
    now: set[str] = set()
    most = 0

    def watch(event: dagron.Event) -> None:
        nonlocal most
        if event.kind == "node_added" and ": its lines" in event.node:
            now.add(event.node)
        elif event.kind in ("node_completed", "node_failed"):
            now.discard(event.node)
        most = max(most, len(now))

    executor = dagron.DynamicExecutor
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            example.main.dagron,
            "DynamicExecutor",
            lambda *arguments, **options: executor(*arguments, observers=[watch], **options),
        )
        result = example.main.LogStream(window=3, lines=10).run(sorted(week.glob("*.gz")))
    assert result.succeeded == 2 + 3 + 300
    assert 0 < most <= 6
    assert not now


def test_a_file_that_is_cut_off_is_named_and_not_counted(
    seen: Callable[..., Seen], tmp_path: Path
) -> None:
    """The other files are counted all the same, and the exit code tells."""
    pack(tmp_path / "good.gz", asked("/a"), asked("/b", 404), "what is this?")
    pack(tmp_path / "cut.gz", *(asked(f"/{number}") for number in range(9_000)))
    whole = (tmp_path / "cut.gz").read_bytes()
    (tmp_path / "cut.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.gz").write_text("not compressed")
    told = seen(tmp_path, "--lines", 100)
    assert told.code == 1
    assert told.out.startswith(
        "3 lines of 1 file\n1 line could not be read\nby status: 2xx 1, 4xx 1"
    )
    assert [line.partition(" E")[0] for line in told.err.splitlines()] == [
        "not counted: cut.gz:",
        "not counted: text.gz: BadGzipFile: Not a gzipped file (b'no')",
    ]


def test_a_name_with_escapes_does_not_reach_the_terminal(
    seen: Callable[..., Seen], tmp_path: Path
) -> None:
    """What a client asked for is shown with escapes."""
    pack(tmp_path / "a.gz", asked("/\x1b[31mred"))
    assert "\x1b" not in seen(tmp_path).out
    assert "/\\x1b[31mred" in seen(tmp_path).out


def test_nothing_to_read(seen: Callable[..., Seen], tmp_path: Path) -> None:
    """A folder without logs is an error that names it."""
    told = seen(tmp_path)
    assert (told.code, told.out) == (2, "")
    assert told.err == f"error: there are no *.gz files in {tmp_path}\n"


def test_memory_for_paths_is_bounded(example: SimpleNamespace) -> None:
    """Of very many paths the frequent ones are kept, too low by no more than it says."""
    counts = example.main.Counts()
    real: Counter[str] = Counter()
    for part in range(40):
        paths = Counter({f"/{part}/{number}": 1 for number in range(1_000)} | {"/often": 500})
        real += paths
        counts.add("", example.main.Counts(paths=paths))
        assert len(counts.paths) <= example.main.MOST_PATHS
    assert 0 < counts.missed < 500
    assert real["/often"] - counts.missed <= counts.paths["/often"] <= real["/often"]
