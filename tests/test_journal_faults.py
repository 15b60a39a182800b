"""Disks that are full or broken, processes killed between any two writes, files that were cut and
whose bits have flipped: a clear error or a valid prefix, and nothing acknowledged is lost.

`EVERY_FAULT=1 python -m pytest tests/test_journal_faults.py` tries every place, not some.
"""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import dedent

import pytest

from dagron import JournalCorruptError, JournalError
from dagron.journal._rows import Row
from dagron.journal._store import Store
from faults import GUARD, ROOT
from journals import Program, Told, finish, held_writer, in_writer, new_rows, write

GRAPH = '{"nodes": ["a", "b"]}'
EVERY = "EVERY_FAULT" in os.environ

needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace is not installed: faults cannot be put in"
)
needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="limits and users are of POSIX")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


def prefix(store: Store, run_id: str = "run") -> list[Row]:
    """The rows of a run, which must be sound and without a gap."""
    rows = list(store.rows(store.run(run_id).number))
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
    assert all(row.value == b"%d" % row.seq for row in rows)
    return rows


# --- a full disk ---------------------------------------------------------------------------------


def test_a_full_disk(path: Path) -> None:
    """When the disk is full the batch fails and says so; all that was acknowledged before is there,
    and with room again the run goes on in the same process.
    """
    with Store(path) as store:
        claim = store.claim("run", GRAPH, "uid")
        in_writer(store, lambda c: c.execute("PRAGMA max_page_count=24").fetchone())
        error, acknowledged = None, 0
        while error is None:
            error = write(store, claim, 40)
            acknowledged += 40 * (error is None)
        assert "disk of the journal is full" in str(error)
        assert "help: make room" in str(error)
        assert isinstance(error.__cause__, sqlite3.Error)
        assert acknowledged > 0
        assert write(store, claim) is error
        assert len(prefix(store)) == acknowledged
        store.release(claim, clean=False)
        in_writer(store, lambda c: c.execute("PRAGMA max_page_count=1000").fetchone())
        claim = store.claim("run", GRAPH, "uid")
        assert claim.last_seq == acknowledged
        assert write(store, claim, 40) is None
        assert len(prefix(store)) == acknowledged + 40


def test_a_full_disk_stops_all_that_were_written_together(path: Path) -> None:
    """When a transaction fails all whose rows were in it are told, each by an error of its own; a
    run that was not in it goes on when there is room.
    """
    with Store(path) as store:
        claims = [store.claim(name, GRAPH, name) for name in "abc"]
        pages = in_writer(store, lambda c: c.execute("PRAGMA page_count").fetchone()[0])
        in_writer(store, lambda c: c.execute(f"PRAGMA max_page_count={pages}").fetchone())
        told = [Told(), Told()]
        with held_writer(store):
            for claim, each in zip(claims, told, strict=False):
                store.submit(claim, new_rows(claim, 300), each)
        one, other = (each.wait() for each in told)
        assert isinstance(one, JournalError)
        assert isinstance(other, JournalError)
        assert one is not other
        in_writer(store, lambda c: c.execute("PRAGMA max_page_count=1000").fetchone())
        assert write(store, claims[2], 300) is None
        assert write(store, claims[0]) is one


@needs_posix
def test_a_file_that_may_not_grow(path: Path) -> None:
    """When the system stops a file from growing the batch fails; nothing acknowledged is lost."""
    code = """
    import resource
    store = Store(path)
    claim = store.claim("run", "{}", "uid")
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, -1))
    acknowledged = 0
    while (error := write(store, claim, 50)) is None:
        acknowledged += 50
        store.begin(claim, [("x" * 500, 1)] * 10)
    say(acknowledged, type(error).__name__)
    say(write(store, claim) is error)
    os.kill(os.getpid(), signal.SIGKILL)
    """
    with Program(path, code) as program:
        acknowledged, kind = program.line().split()
        assert program.line() == "True"
    assert kind == "JournalError"
    assert int(acknowledged) > 0
    with Store(path) as store:
        assert len(prefix(store)) == int(acknowledged)
        claim = store.claim("run", GRAPH, "uid")
        assert write(store, claim) is None


# --- nothing may be written ----------------------------------------------------------------------

READ_ONLY = """
import urllib.parse  # what is imported later may be out of reach then
if os.getuid() == 0:
    os.setuid(65534)  # root may write anywhere
store = Store(path)
try:
    claim = store.claim("run", "{}", "uid")
    say("claimed")
except JournalError as error:
    say(str(error).replace(chr(10), " "))
say(attempted(store))
"""
LOOK = """
def attempted(store):
    try:
        return [run.run_id for run in store.runs()]
    except JournalError as error:
        return "refused, " + str("help: " in str(error))
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can get to."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@needs_posix
@pytest.mark.parametrize("what", ["a folder without a journal", "a folder", "a file"])
def test_what_is_read_only(open_folder: Path, what: str) -> None:
    """In a read-only folder, and of a read-only file, no run is claimed: it says what must be
    writable, and all files stay as they are. What is recorded can be looked at.
    """
    path = open_folder / "runs.db"
    if what != "a folder without a journal":
        with Store(path) as store:
            write(store, store.claim("run", GRAPH, "uid"))
        path.chmod(0o444)
    open_folder.chmod(0o777 if what == "a file" else 0o555)
    before = path.read_bytes() if path.exists() else b""
    with Program(path, LOOK + READ_ONLY) as program:
        said = program.line()
        assert "help: the journal's folder and all files beside it must be writable" in said
        assert program.line() == ("[]" if what == "a folder without a journal" else "['run']")
    assert (path.read_bytes() if path.exists() else b"") == before


# --- a write that fails, or the last one of a process --------------------------------------------

# It is run by a bare interpreter, since there are many: the package is loaded without its shell.
WORK = """
import sys, threading, types
package = sys.modules["dagron"] = types.ModuleType("dagron")
package.__path__ = [sys.argv[1]]
from dagron._errors import JournalError
from dagron.journal._rows import Row
from dagron.journal._store import Store

def commit(claim, rows):
    told, answers = threading.Event(), []
    store.submit(claim, rows, lambda error: (answers.append(error), told.set()))
    told.wait()
    return answers[0]

store = Store(sys.argv[2], durability=sys.argv[3])
done = 0
for attempt in range(4):
    try:
        claim = store.claim("run", "{}", "uid")
    except JournalError as error:
        print("refused", error, flush=True)
        continue
    store._writer.call(lambda connection: connection.execute("PRAGMA wal_autocheckpoint=6"))
    print("claimed", claim.last_seq, flush=True)
    done = claim.last_seq
    while done < 44:
        size = {0: 1, 1: 3, 4: 40}[done]
        names = range(done + 1, done + size + 1)
        store.begin(claim, [(f"n{seq}", 1) for seq in names])
        rows = [Row(s, "done", f"n{s}", 1.5, value=b"%d" % s, detail="x" * 300) for s in names]
        error = commit(claim, rows)
        if error is not None:
            assert commit(claim, []) is error
            print("failed", error, flush=True)
            break
        done += size
        print("acknowledged", done, flush=True)
    store.release(claim, clean=False)
    if done == 44:
        break
store.close()
print("closed", flush=True)
"""


UNHARMED = ["claimed 0", "acknowledged 1", "acknowledged 4", "acknowledged 44", "closed"]


class Outcome:
    """What a process said before its end, and what it left."""

    def __init__(self, path: Path, said: str) -> None:
        self.path = path
        self.lines = said.splitlines()

    def number(self, word: str) -> int:
        return max([0, *(int(line.split()[1]) for line in self.lines if line.startswith(word))])

    def check(self) -> None:
        """Nothing acknowledged is lost, all is whole and sound, and the run goes on."""
        acknowledged, claimed = self.number("acknowledged"), self.number("claimed")
        with Store(self.path) as store:
            claim = store.claim("run", "{}", "uid")
            rows = prefix(store)
            assert len(rows) in (0, 1, 4, 44)  # batches are there whole, or not at all
            assert len(rows) >= max(acknowledged, claimed)
            assert claim.last_seq == len(rows)
            recorded = {row.node for row in rows}
            assert not recorded & set(claim.in_flight)
            assert set(claim.in_flight) <= {f"n{seq}" for seq in range(1, 45)}
            assert write(store, claim) is None
            assert finish(store, claim) is None
        with Store(self.path) as store:
            assert len(list(store.rows(1))) == len(rows) + 2
        with sqlite3.connect(self.path) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()


def struck(folder: Path, call: str, fault: str, when: str, durability: str) -> Outcome:
    """What comes of the work when that call of the system is the one that fails."""
    folder.mkdir()
    path = folder / "runs.db"
    strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}"]
    for end in FILES.get(call, ()):  # other files are written and locked as well
        strace += ["-P", f"{path}{end}"]
    ran = subprocess.run(
        [
            *(*strace, "-e", f"inject={call}:{fault}:when={when}"),
            *(sys.executable, "-I", "-S", "-c", dedent(WORK)),
            *(str(ROOT / "dagron"), str(path), durability),
        ],
        capture_output=True,
        text=True,
        timeout=6 * GUARD,
    )
    assert "Traceback" not in ran.stderr, ran.stderr
    return Outcome(path, ran.stdout)


FILES = {"write": ["-1.begun", "-1.begun.new"], "fcntl": ["-locks", "-shm"]}

# The call, the fault, whether it stays, and the places to try: all of them, or these.
FAULTS = [
    ("pwrite64", "signal=KILL", "", (1, 3, 6, 9, 12, 17, 21, 26, 31, 37, 43, 52, 61, 70)),
    ("fdatasync", "signal=KILL", "", (1, 3, 5, 8, 11)),
    ("write", "signal=KILL", "", (1, 2, 3)),
    ("rename", "signal=KILL", "", (1,)),
    ("unlink", "signal=KILL", "", (1, 2)),
    ("pwrite64", "error=ENOSPC", "", (2, 8, 15, 24, 39)),
    ("pwrite64", "error=ENOSPC", "+", (5, 20, 33)),
    ("pwrite64", "error=EIO", "", (4, 11, 28)),
    ("fdatasync", "error=EIO", "", (1, 4, 7, 10)),
    ("fdatasync", "error=EIO", "+", (6,)),
    ("ftruncate", "error=EIO", "", (1,)),
    ("write", "error=ENOSPC", "+", (1, 2)),
    ("rename", "error=EACCES", "", (1,)),
    ("fcntl", "error=ENOLCK", "", (1, 2, 4, 20, 40)),
]


@needs_strace
@pytest.mark.parametrize(("call", "fault", "stays", "places"), FAULTS)
def test_a_fault_at_any_call_of_the_system(
    tmp_path: Path, call: str, fault: str, stays: str, places: tuple[int, ...]
) -> None:
    """When the process is killed at any write, or a write fails, what was acknowledged is there,
    whole batches of it, and the run goes on: in the same process too.
    """

    def attempt(place: int) -> bool:
        durability = "power" if call == "fdatasync" or place % 2 else "process"
        folder = tmp_path / f"{call}-{place}"
        outcome = struck(folder, call, fault, f"{place}{stays}", durability)
        outcome.check()
        assert outcome.lines[-1:] == ["closed"] or "KILL" in fault
        shutil.rmtree(folder)
        return outcome.lines == UNHARMED

    with ThreadPoolExecutor(2) as pool:
        tried = list(pool.map(attempt, places))
        assert not all(tried)
        at = 1
        while EVERY and not all(pool.map(attempt, range(at, at + 8))):
            at += 8


@needs_strace
def test_the_faults_are_put_in(tmp_path: Path) -> None:
    """The method works: a process dies at a write, a failing write is told."""
    said = struck(tmp_path / "a", "pwrite64", "signal=KILL", "20", "power").lines
    assert "closed" not in said
    said = struck(tmp_path / "b", "pwrite64", "error=ENOSPC", "30", "power").lines
    assert any("disk of the journal is full" in line for line in said)
    assert struck(tmp_path / "c", "pwrite64", "error=EIO", "30000", "power").lines == UNHARMED


# --- files that were cut, and flipped bits -------------------------------------------------------

BATCHES = [1, 2, 5, 30, 3]
SUMS = [sum(BATCHES[:count]) for count in range(len(BATCHES) + 1)]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a journal as a killed process leaves them: all that it wrote is in the WAL."""
    path = tmp_path_factory.mktemp("killed") / "runs.db"
    with Store(path) as store:
        claim = store.claim("run", GRAPH, "uid")
        for count in BATCHES:
            assert write(store, claim, count) is None
        files = {end: path.with_name(path.name + end).read_bytes() for end in ("", "-wal")}
    return files


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a journal that was closed, with an unfinished run and a finished one."""
    path = tmp_path_factory.mktemp("closed") / "runs.db"
    with Store(path) as store:
        claim, other = store.claim("run", GRAPH, "uid"), store.claim("other", GRAPH, "uid")
        for count in BATCHES:
            assert write(store, claim, count) is None
            assert write(store, other, count) is None
        assert finish(store, other) is None
    return path.read_bytes()


def restored(path: Path, files: dict[str, bytes]) -> None:
    """Put the files there, and nothing else beside them."""
    for end in ("", "-wal", "-shm", "-locks", "-1.begun", "-journal"):
        file = Path(f"{path}{end}")
        if end in files:
            file.write_bytes(files[end])
        else:
            file.unlink(missing_ok=True)


def survivors(path: Path) -> int:
    """How many rows a claim finds; they are sound, and the run goes on after them."""
    with Store(path) as store:
        claim = store.claim("run", GRAPH, "uid")
        rows = prefix(store)
        assert claim.last_seq == len(rows)
        assert write(store, claim) is None
        assert len(prefix(store)) == len(rows) + 1
        store.release(claim, clean=True)
    return len(rows)


def frames(wal: bytes) -> list[int]:
    """Where the frames of a WAL begin, and its end."""
    page = int.from_bytes(wal[8:12], "big")
    return list(range(32, len(wal) + 1, page + 24))


def test_a_wal_that_was_cut(path: Path, killed: dict[str, bytes]) -> None:
    """Cut anywhere, the WAL gives the batches before the cut, whole, and the run goes on."""
    wal = killed["-wal"]
    starts = frames(wal)
    near = {at + step for at in starts for step in (-1, 0, 1, 23, 24, 25, 2000)}
    cuts = sorted({0, 1, 31, *near} & set(range(len(wal) + 1)))
    found = []
    for cut in cuts if EVERY else cuts[::3]:
        restored(path, {**killed, "-wal": wal[:cut]})
        found.append(survivors(path))
    assert found == sorted(found)  # the later the cut, the more is there
    assert set(found) <= set(SUMS)
    restored(path, killed)
    assert survivors(path) == SUMS[-1]


def test_a_wal_with_a_flipped_bit(path: Path, killed: dict[str, bytes]) -> None:
    """Where a bit of the WAL has flipped, the batches before it are there, whole."""
    wal, dice = killed["-wal"], random.Random(7)
    places = list(range(32))
    for start, end in zip(frames(wal), frames(wal)[1:], strict=False):
        places += [*range(start, start + 24), *dice.sample(range(start + 24, end), 10)]
    found = set()
    for place in places if EVERY else places[::7]:
        hurt = bytearray(wal)
        hurt[place] ^= 1 << dice.randrange(8)
        restored(path, {**killed, "-wal": bytes(hurt)})
        found.add(survivors(path))
    assert found <= set(SUMS)
    assert len(found) > 2


def test_a_lost_wal(path: Path, killed: dict[str, bytes]) -> None:
    """Without its WAL a journal is as it was at the last checkpoint, and can be used."""
    restored(path, {"": killed[""]})
    assert survivors(path) == 0


def test_another_runs_wal(path: Path, killed: dict[str, bytes]) -> None:
    """A WAL of garbage is passed over."""
    for garbage in (b"x", b"\0" * 5000, bytes(range(256)) * 40):
        restored(path, {**killed, "-wal": garbage})
        assert survivors(path) == 0


def looked_at(path: Path) -> tuple[bool, int, int]:
    """Read all of a journal; whether it was damaged, and how many rows of both runs are there."""
    counts, is_damaged, told = [], False, []
    with Store(path) as store:
        for run_id in ("run", "other"):
            seqs: list[int] = []
            try:
                number = store.run(run_id).number
                for row in store.rows(number):
                    assert row.value == b"%d" % row.seq
                    seqs.append(row.seq)
                assert run_id == "run" or len(seqs) == SUMS[-1] + 1, "nobody says what is missing"
            except JournalError as error:
                is_damaged = True
                told.append(error)
            assert seqs == list(range(1, len(seqs) + 1))
            counts.append(len(seqs))
    assert all("help: " in str(error) for error in told)
    return is_damaged, counts[0], counts[1]


def test_a_file_with_a_flipped_bit(path: Path, closed: bytes) -> None:
    """Where a bit of the file itself has flipped, all is read as it was, or it is said that the
    journal is damaged, after the rows before it: a run is never missing, nor a row of one that was
    finished.
    """
    dice = random.Random(11)
    pages = range(0, len(closed), 4096)
    heads = [page + at for page in pages for at in range(120)]
    others = range(3, len(closed), 7 if EVERY else 197)
    places = [*(heads if EVERY else heads[::9]), *others]
    damaged = 0
    for place in places:
        hurt = bytearray(closed)
        hurt[place] ^= 1 << dice.randrange(8)
        restored(path, {"": bytes(hurt)})
        damaged += looked_at(path)[0]
    assert damaged > 10


def test_a_flipped_bit_starts_no_run_anew(path: Path, closed: bytes) -> None:
    """Where a bit has flipped, a claim finds all of the run or fails: it neither makes a second one
    nor goes on before the last row.
    """
    dice = random.Random(13)
    places = range(0, len(closed), 7 if EVERY else 127)
    for place in places:
        hurt = bytearray(closed)
        hurt[place] ^= 1 << dice.randrange(8)
        restored(path, {"": bytes(hurt)})
        with Store(path) as store:
            try:
                claim = store.claim("run", GRAPH, "uid")
            except JournalError:
                continue
            assert (claim.is_new, claim.uid, claim.last_seq) == (False, "uid", SUMS[-1])


def test_a_page_that_lost_its_last_rows(path: Path, closed: bytes) -> None:
    """Where a page of the file says that it has fewer rows than it has, no run goes on before them,
    and none begins anew.
    """
    refusals = 0
    for page in range(4096, len(closed), 4096):
        if closed[page] != 13:
            continue  # no leaf of a table
        hurt = bytearray(closed)
        hurt[page + 4] -= 1
        restored(path, {"": bytes(hurt)})
        for run_id, last in (("run", SUMS[-1]), ("other", SUMS[-1] + 1)):
            with Store(path) as store:
                try:
                    claim = store.claim(run_id, GRAPH, "uid")
                except JournalCorruptError:
                    refusals += 1
                    continue
                assert (claim.is_new, claim.last_seq) == (False, last)
    assert refusals > 3


def field_of(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("change", "seq"),
    [
        ("UPDATE rows SET value = x'00' WHERE id = (1 << 40) + 7", 7),
        ("UPDATE rows SET node = 'other' WHERE id = (1 << 40) + 7", 7),
        ("UPDATE rows SET at = at + 1e-6 WHERE id = (1 << 40) + 7", 7),
        ("UPDATE rows SET kind = 'failed' WHERE id = (1 << 40) + 7", 7),
        ("UPDATE rows SET value = 'text' WHERE id = (1 << 40) + 7", 7),
        ("UPDATE rows SET node = CAST(x'ff' AS TEXT) WHERE id = (1 << 40) + 7", 7),
        ("DELETE FROM rows WHERE id = (1 << 40) + 7", 7),
        ("UPDATE rows SET id = id + 1000 WHERE id = (1 << 40) + 7", 7),
        ("UPDATE rows SET id = (2 << 40) + 43 WHERE id = (1 << 40) + 7", 7),
    ],
)
def test_a_row_that_is_not_what_was_written(
    path: Path, closed: bytes, change: str, seq: int
) -> None:
    """A row that was changed, moved or removed is named; those before it are read and sound."""
    restored(path, {"": closed})
    field_of(path, change)
    got = []
    with Store(path) as store, pytest.raises(JournalCorruptError) as caught:
        for row in store.rows(1):
            got.append(row.seq)
    assert (caught.value.run_id, caught.value.seq) == ("run", seq)
    assert caught.value.last_good_seq == seq - 1
    assert got == list(range(1, seq))
    assert f"run 'run', row {seq}" in str(caught.value)


def test_the_end_of_a_finished_run_is_missed(path: Path, closed: bytes) -> None:
    """Of a finished run it is known how many rows it has: when the last is gone that is said."""
    restored(path, {"": closed})
    field_of(path, f"DELETE FROM rows WHERE id = (2 << 40) + {SUMS[-1] + 1}")
    with Store(path) as store:
        with pytest.raises(JournalCorruptError) as caught:
            list(store.rows(2))
        assert caught.value.last_good_seq == SUMS[-1]
        with pytest.raises(JournalCorruptError):
            store.claim("other", GRAPH, "uid")


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE runs SET uid = 'other' WHERE number = 1",
        "UPDATE runs SET ended = 1.5 WHERE number = 1",
        "UPDATE runs SET life = 7 WHERE number = 1",
        "DELETE FROM rows WHERE id = 1 << 40",
        "UPDATE rows SET change = '{}' WHERE id = 1 << 40",
        "DROP TABLE rows",
        "DROP TABLE runs",
    ],
)
def test_a_run_that_is_not_what_was_written(path: Path, closed: bytes, change: str) -> None:
    """A run whose record or graph was changed is not claimed, and nothing is written to it."""
    restored(path, {"": closed})
    field_of(path, change)
    before = path.read_bytes()
    with Store(path) as store:
        with pytest.raises(JournalCorruptError, match="damaged"):
            store.claim("run", GRAPH, "uid")
        look: list[Callable[[], object]] = [lambda: list(store.rows(1)), lambda: store.graph(1)]
        for each in look:
            with pytest.raises(JournalCorruptError):
                each()
    assert path.read_bytes() == before


def test_an_index_that_lost_a_run(path: Path, closed: bytes) -> None:
    """A run that the index of ids leads past is found all the same: it does not begin anew."""
    places = [at for at in range(len(closed)) if closed.startswith(b"run", at)]
    assert len(places) > 2
    for place in places:
        hurt = bytearray(closed)
        hurt[place] ^= 4
        restored(path, {"": bytes(hurt)})
        with Store(path) as store:
            try:
                claim = store.claim("run", GRAPH, "uid")
            except JournalError:
                continue
            assert (claim.is_new, claim.last_seq) == (False, SUMS[-1])
