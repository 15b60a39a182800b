"""A journal's file: claimed, written, released; read, pruned and backed up while that goes on."""

import gc
import os
import sqlite3
import stat
import threading
import weakref
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dagron import (
    InternalError,
    InvalidNameError,
    JournalError,
    RunInUseError,
    UnknownRunError,
)
from dagron._names import checked_run_id
from dagron._rows import Row
from dagron.journal import _database, _locks, _store
from dagron.journal._begun import Begun, read_begun, still_in_flight
from dagron.journal._rows import MAX_ROWS, statement
from dagron.journal._store import Store
from faults import GUARD
from journals import Program, Told, finish, held_writer, in_writer, new_rows, pictured, row, write

GRAPH = '{"nodes": ["a"]}'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store(path) as store:
        yield store


# --- a run is written and read -------------------------------------------------------------------


def test_a_new_run_is_claimed(store: Store) -> None:
    """The first claim of an id makes the run, with the graph and the uid that it was given."""
    claim = store.claim("nightly", GRAPH, "uid-1")
    assert (claim.run_id, claim.uid, claim.graph) == ("nightly", "uid-1", GRAPH)
    assert (claim.is_new, claim.is_finished, claim.last_seq, claim.in_flight) == (
        True,
        False,
        0,
        {},
    )
    assert list(store.rows(claim)) == []
    assert store.graph(claim) == GRAPH


def test_a_run_is_found_again(store: Store) -> None:
    """A later claim finds what the first one recorded: not the graph and the uid of its own."""
    claim = store.claim("nightly", GRAPH, "uid-1")
    assert write(store, claim, 3) is None
    store.release(claim, clean=True)
    again = store.claim("nightly", "another", "uid-2")
    assert (again.uid, again.graph, again.created) == ("uid-1", GRAPH, claim.created)
    assert (again.number, again.is_new, again.last_seq) == (claim.number, False, 3)


FULL = Row(2, "done", "b", 1.25, 0.1, 1e-9, 3, b"\0\xff" * 9, '{"add": []}', '{"x": "\u2028"}')


def test_rows_come_back_as_they_were(store: Store) -> None:
    """Every field of a row is read as it was written, also those that are not there."""
    rows = [Row(1, "body", None, 1e9 + 0.1), FULL, Row(3, "\N{SNOWMAN}", "a\nb", 0.0, value=b"")]
    claim = store.claim("nightly", GRAPH, "uid")
    assert write(store, claim, rows) is None
    assert list(store.rows(claim)) == rows
    assert list(store.rows(claim.number)) == rows


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8, 100, 255, 256, 257, 600])
def test_a_batch_has_any_size(store: Store, count: int) -> None:
    """Batches of any number of rows, none included, are committed as they are."""
    claim = store.claim("nightly", GRAPH, "uid")
    assert write(store, claim, 1) is None
    assert write(store, claim, count) is None
    assert [row.seq for row in store.rows(claim)] == list(range(1, count + 2))


def test_rows_of_several_runs_do_not_mix(store: Store) -> None:
    """Runs that are written at the same time have rows of their own."""
    claims = [store.claim(run_id, GRAPH, run_id) for run_id in ("a", "b", "c")]
    told = Told()
    with held_writer(store):
        for claim in claims:
            store.submit(claim, [row(1, node=claim.run_id), row(2, node=claim.run_id)], told)
    assert [write(store, claim, 1) for claim in claims] == [None] * 3
    for claim in claims:
        assert [row.node for row in store.rows(claim)] == [claim.run_id, claim.run_id, "n3"]


def test_who_is_told_can_read_it(store: Store, path: Path) -> None:
    """At the moment of the acknowledgement another connection sees the rows: all of the batch."""
    claim, seen, told = store.claim("nightly", GRAPH, "uid"), [], threading.Event()

    def look(error: object) -> None:
        with sqlite3.connect(path) as other:
            seen.append((error, other.execute("SELECT count(*) FROM rows").fetchone()[0] - 1))
        other.close()
        told.set()

    store.submit(claim, new_rows(claim, 300), look)
    assert told.wait(GUARD)
    assert seen == [(None, 300)]


def test_what_waits_is_one_transaction(store: Store) -> None:
    """All batches that wait are committed by one statement, and told in their order."""
    claims = [store.claim(name, GRAPH, name) for name in ("a", "b")]
    assert [write(store, claim) for claim in claims] == [None, None]
    statements: list[str] = []
    in_writer(store, lambda connection: connection.set_trace_callback(statements.append))
    order: list[int] = []
    last = Told()
    with held_writer(store):
        for number in range(40):
            claim = claims[number % 2]
            store.submit(claim, new_rows(claim, 3), lambda error, n=number: order.append(n))
        store.submit(claims[0], new_rows(claims[0], 1), last)
    assert last.wait() is None
    assert order == list(range(40))
    assert len(statements) == 1


def test_many_rows_are_one_transaction(store: Store) -> None:
    """Where one statement does not hold them all, several are one transaction."""
    claim = store.claim("nightly", GRAPH, "uid")
    write(store, claim)
    statements: list[str] = []
    in_writer(store, lambda connection: connection.set_trace_callback(statements.append))
    assert write(store, claim, 2 * MAX_ROWS + 5) is None
    shown = [statement.partition(" INTO")[0] for statement in statements]
    # Immediate: else it would read first, and could not write any more when another had written.
    assert shown == ["BEGIN IMMEDIATE", "INSERT", "INSERT", "INSERT", "COMMIT"]


def test_few_statements_are_prepared() -> None:
    """Whatever the numbers of rows, there are nine texts of statements: SQLite keeps them ready."""
    sizes = {1 << (count - 1).bit_length() for count in range(1, MAX_ROWS + 1)}
    assert len({statement(size) for size in sizes}) == 9


def test_submit_does_not_wait(store: Store, path: Path) -> None:
    """While another process writes, `submit` returns at once; they are told once they are in."""
    claim = store.claim("nightly", GRAPH, "uid")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    told = Told()
    store.submit(claim, new_rows(claim, 1), told)
    assert not told.is_told
    assert other.execute("SELECT count(*) FROM rows").fetchone() == (1,)
    other.execute("COMMIT")
    other.close()
    assert told.wait() is None


def test_it_is_told_that_the_journal_stays_busy(path: Path) -> None:
    """When another process writes for longer than busy_timeout the batch fails, and says so."""
    with Store(path, busy_timeout=0.0) as store:
        claim = store.claim("nightly", GRAPH, "uid")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        error = write(store, claim)
        other.close()
        assert isinstance(error, JournalError)
        assert "busy" in str(error)
        assert write(store, claim) is error


def test_a_claim_is_dead_after_a_failure(store: Store) -> None:
    """After a batch has failed every later one of its claim fails with the same error: nothing is
    left out of a run in the middle. Another claim goes on.
    """
    dead, alive = store.claim("a", GRAPH, "a"), store.claim("b", GRAPH, "b")
    write(store, dead)
    first, second, third = Told(), Told(), Told()
    with held_writer(store):
        store.submit(dead, [row(2, node="\ud800")], first)
        store.submit(dead, [row(3)], second)
        store.submit(alive, [row(1)], third)
    error = first.wait()
    assert isinstance(error, JournalError)
    assert second.wait() is error
    assert third.wait() is None
    assert write(store, dead, [row(4)]) is error
    assert [row.seq for row in store.rows(dead)] == [1]
    store.release(dead, clean=False)
    again = store.claim("a", GRAPH, "a")
    assert again.last_seq == 1
    assert write(store, again) is None


def test_what_came_before_a_failure_counts(store: Store) -> None:
    """A batch that was ready is committed and told so, though the next of its claim is not."""
    claim, good, bad = store.claim("a", GRAPH, "a"), Told(), Told()
    with held_writer(store):
        store.submit(claim, [row(1)], good)
        store.submit(claim, [row(2, detail="\udfff")], bad)
    assert good.wait() is None
    assert bad.wait() is not None
    assert [row.seq for row in store.rows(claim)] == [1]


def test_a_callback_that_raises_stops_nobody(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a callback raises is reported as of a thread; the others are told all the same."""
    reported: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: reported.append(args.exc_value))
    claim = store.claim("nightly", GRAPH, "uid")
    mistake = RuntimeError("Event loop is closed")

    def fail(_: object) -> None:
        raise mistake

    store.submit(claim, new_rows(claim, 1), fail)
    assert write(store, claim) is None
    assert reported == [mistake]


@pytest.mark.parametrize("seqs", [[0], [2], [1, 3], [1, 2, 2]])
def test_rows_are_numbered_without_a_gap(store: Store, seqs: list[int]) -> None:
    """Rows whose numbers do not go on where the last ones ended are a bug, and refused."""
    claim = store.claim("nightly", GRAPH, "uid")
    with pytest.raises(InternalError, match="expected row 1"):
        store.submit(claim, [row(seq) for seq in seqs], Told())
    assert write(store, claim) is None


def test_a_row_that_is_there_is_not_written_over(store: Store, path: Path) -> None:
    """If somebody wrote the run in spite of the lock, the batch fails and his rows stay."""
    claim = store.claim("nightly", GRAPH, "uid")
    write(store, claim)
    with sqlite3.connect(path) as other:
        other.execute("INSERT INTO rows (id, kind) VALUES ((1 << 40) + 2, 'his')")
    other.close()
    error = write(store, claim)
    assert isinstance(error, JournalError)
    assert "two processes" in str(error)
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT kind FROM rows WHERE id & 255 = 2").fetchone() == ("his",)
    other.close()


def test_order_is_by_number_not_by_the_clock(store: Store) -> None:
    """A clock that goes backwards changes nothing: rows come in the order of their numbers."""
    claim = store.claim("nightly", GRAPH, "uid")
    rows = [Row(seq, "done", "a", at=1000.0 - seq) for seq in range(1, 6)]
    write(store, claim, rows)
    assert list(store.rows(claim)) == rows


# --- the end of a run ----------------------------------------------------------------------------


def test_a_finished_run(store: Store) -> None:
    """The last rows and the mark that the run is finished are committed together."""
    claim = store.claim("nightly", GRAPH, "uid")
    write(store, claim, 2)
    assert finish(store, claim, 1) is None
    store.release(claim, clean=True)
    again = store.claim("nightly", GRAPH, "uid")
    assert (again.is_finished, again.last_seq, again.in_flight) == (True, 3, {})
    assert store.run("nightly").state == "finished"


def test_a_finished_run_takes_no_more(store: Store) -> None:
    """After the end of a run has been handed over, more rows of the claim are a bug."""
    claim = store.claim("nightly", GRAPH, "uid")
    finish(store, claim)
    with pytest.raises(InternalError):
        store.submit(claim, new_rows(claim, 1), Told())


def test_a_finished_run_goes_on(store: Store) -> None:
    """Who claims a finished run and writes to it makes it unfinished again, in a new life."""
    claim = store.claim("nightly", GRAPH, "uid")
    finish(store, claim)
    store.release(claim, clean=True)
    claim = store.claim("nightly", GRAPH, "uid")
    assert store.run("nightly").state == "finished"
    write(store, claim)
    assert (store.run("nightly").state, store.run("nightly").lives) == ("running", 2)
    store.release(claim, clean=True)
    assert store.run("nightly").state == "interrupted"


def test_looking_changes_no_life(store: Store) -> None:
    """A claim that writes nothing leaves the run as it was, finished or not."""
    claim = store.claim("nightly", GRAPH, "uid")
    finish(store, claim)
    store.release(claim, clean=True)
    before = store.run("nightly")
    store.release(store.claim("nightly", GRAPH, "uid"), clean=True)
    assert store.run("nightly") == before


def test_a_run_begins_and_ends_in_one_group(store: Store) -> None:
    """The first batch of a life and its last may be committed in one transaction."""
    claim = store.claim("nightly", GRAPH, "uid")
    finish(store, claim)
    store.release(claim, clean=True)
    claim = store.claim("nightly", GRAPH, "uid")
    first, last = Told(), Told()
    with held_writer(store):
        store.submit(claim, new_rows(claim, 2), first)
        store.finish(claim, new_rows(claim, 2), last)
    assert (first.wait(), last.wait()) == (None, None)
    run = store.run("nightly")
    assert (run.state, run.lives) == ("finished", 2)
    assert len(list(store.rows(claim))) == 5


def test_a_released_claim_writes_nothing(store: Store) -> None:
    """After `release`, which may be called twice, rows are refused."""
    claim = store.claim("nightly", GRAPH, "uid")
    store.release(claim, clean=True)
    store.release(claim, clean=True)
    assert "released" in str(write(store, claim))


def test_release_waits_for_what_was_submitted(store: Store) -> None:
    """Nobody else can have the run before all that was submitted is written."""
    claim, told = store.claim("nightly", GRAPH, "uid"), Told()
    thread = threading.Thread(target=store.release, args=(claim,), kwargs={"clean": True})
    with held_writer(store):
        store.submit(claim, new_rows(claim, 50), told)
        thread.start()
        with pytest.raises(RunInUseError), Store(store.path) as other:
            other.claim("nightly", GRAPH, "uid")
    thread.join(GUARD)
    assert told.answers == [None]
    assert store.claim("nightly", GRAPH, "uid").last_seq == 50


# --- looking at it -------------------------------------------------------------------------------


def test_the_list_of_runs(store: Store) -> None:
    """Runs are listed oldest first, with their state and with who has them."""
    for name in ("a", "b", "c"):
        claim = store.claim(name, GRAPH, f"uid-{name}")
        if name == "a":
            finish(store, claim)
        if name != "c":
            store.release(claim, clean=True)
    rows = store.runs()
    assert [(row.run_id, row.uid, row.state, row.lives) for row in rows] == [
        ("a", "uid-a", "finished", 1),
        ("b", "uid-b", "interrupted", 1),
        ("c", "uid-c", "running", 1),
    ]
    assert [row.held_by is None for row in rows] == [True, True, False]
    assert rows[2].held_by is not None
    assert rows[2].held_by.pid == os.getpid()
    assert store.run("b") == rows[1]


def test_no_file_has_no_runs(store: Store, path: Path) -> None:
    """A journal that has not been written to has no runs, and looking makes no file."""
    assert store.runs() == []
    with pytest.raises(UnknownRunError):
        store.run("nightly")
    assert not path.exists()
    path.touch()
    assert store.runs() == []
    assert path.read_bytes() == b""


def test_a_run_that_is_not_there(store: Store) -> None:
    """An unknown id is an error that suggests the ids that resemble it."""
    store.claim("nightly-2026-11-22", GRAPH, "uid")
    with pytest.raises(UnknownRunError, match="did you mean 'nightly-2026-11-22'") as caught:
        store.run("nigthly-2026-11-22")
    assert (caught.value.id, caught.value.close) == ("nigthly-2026-11-22", ("nightly-2026-11-22",))
    with pytest.raises(UnknownRunError):
        list(store.rows(7))


def test_readers_write_nothing(store: Store, path: Path, tmp_path: Path) -> None:
    """Listing, reading and copying leave the file and its WAL as they are, bit by bit."""
    claim = store.claim("nightly", GRAPH, "uid")
    write(store, claim, 200)

    def kept() -> dict[str, bytes]:
        return {n: b for n, b in pictured(tmp_path).items() if not n.endswith("-shm")}

    before = kept()
    assert len(before["runs.db-wal"]) > 10_000
    with Store(path) as other:
        assert len(list(other.rows(claim.number))) == 200
        assert len(other.runs()) == 1
        assert other.graph(claim.number) == GRAPH
    assert kept() == before


def test_readers_leave_what_a_killed_process_left(path: Path, tmp_path: Path) -> None:
    """Who only looks at the journal of a killed process moves nothing from the WAL into the file,
    though nobody else has it open.
    """
    with Program(
        path,
        """
        store = Store(path)
        write(store, store.claim("nightly", "{}", "uid"), 50)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
    ) as program:
        program.wait()
    before = {end: path.with_name(path.name + end).read_bytes() for end in ("", "-wal")}
    with Store(path) as store:
        assert len(list(store.rows(1))) == 50
        assert store.run("nightly").state == "interrupted"
    assert {end: path.with_name(path.name + end).read_bytes() for end in before} == before


def test_a_journal_is_read_where_nothing_can_be_made(path: Path, tmp_path: Path) -> None:
    """A journal, or a backup, that nobody has open is read also where SQLite cannot make its -shm,
    as on a read-only disk.
    """
    with Store(path) as store:
        finish(store, store.claim("nightly", GRAPH, "uid"), 30)
        store.backup(tmp_path / "copy.db")
    for name in ("runs.db", "copy.db"):
        not_to_be_opened(tmp_path / f"{name}-shm")
        before = (tmp_path / name).read_bytes()
        with Store(tmp_path / name) as store:
            assert [run.run_id for run in store.runs()] == ["nightly"]
            assert len(list(store.rows(1))) == 30
        assert (tmp_path / name).read_bytes() == before


def not_to_be_opened(path: Path) -> None:
    path.symlink_to("nowhere")  # SQLite does not follow it


def test_a_wal_that_cannot_be_read_is_not_passed_over(store: Store, path: Path) -> None:
    """Where there is something in the WAL, and it cannot be read, that is an error: what the file
    had before is no answer.
    """
    finish(store, store.claim("nightly", GRAPH, "uid"))
    wal = path.with_name("runs.db-wal").read_bytes()
    store.close()
    path.with_name("runs.db-wal").write_bytes(wal)
    not_to_be_opened(path.with_name("runs.db-shm"))
    with pytest.raises(JournalError, match="-shm, cannot be opened"):
        store.runs()


def test_a_reader_sees_one_moment(store: Store) -> None:
    """What is committed while rows are read is not among them."""
    claim = store.claim("nightly", GRAPH, "uid")
    write(store, claim, 10)
    rows = store.rows(claim)
    assert next(rows).seq == 1
    write(store, claim, 10)
    assert [row.seq for row in rows] == list(range(2, 11))


def test_runs_are_read_while_they_are_written(path: Path) -> None:
    """Another process reads a run that is going on: whole batches, never less."""
    with Program(
        path,
        """
        with Store(path) as store:
            claim = store.claim("nightly", "{}", "uid")
            write(store, claim, 7)
            say("there")
            for _ in range(200):
                write(store, claim, 7)
            say("written")
            stay()
        """,
    ) as writer:
        assert writer.line() == "there"
        with Store(path) as store:
            counts = [len(list(store.rows(1))) for _ in range(20)]
        assert counts == sorted(counts)
        assert {count % 7 for count in counts} == {0}
        assert writer.line() == "written"
        assert writer.end() == ""


def test_old_runs_are_pruned(store: Store) -> None:
    """Finished runs that ended longer ago are deleted with their rows; others are left alone."""
    for name in ("a", "b", "c"):
        claim = store.claim(name, GRAPH, name)
        write(store, claim, 5)
        if name != "b":
            finish(store, claim)
        if name != "c":
            store.release(claim, clean=True)
    assert store.prune(3600) == []
    assert store.prune(timedelta(hours=1)) == []
    assert store.prune(-1.0) == ["a"]
    assert [run.run_id for run in store.runs()] == ["b", "c"]
    assert in_writer(
        store, lambda c: c.execute("SELECT count(*) FROM rows WHERE id >> 40 = 1").fetchone()
    ) == (0,)
    assert store.claim("a", "new", "a2").number == 4  # no number comes twice


def test_a_run_that_goes_on_again_is_not_pruned(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was finished when it was listed, and is not any more, is left alone."""
    claim = store.claim("a", GRAPH, "a")
    finish(store, claim)
    store.release(claim, clean=True)
    listed = store.runs()
    claim = store.claim("a", GRAPH, "a")
    write(store, claim)
    store.release(claim, clean=False)
    monkeypatch.setattr(Store, "runs", lambda self: listed)
    assert store.prune(-1.0) == []
    assert store.run("a").state == "interrupted"


def test_a_run_is_forgotten(store: Store) -> None:
    """A run is deleted with its rows, also one that has not ended; its id begins anew then."""
    for name in ("a", "b"):
        claim = store.claim(name, GRAPH, name)
        write(store, claim, 5)
        with pytest.raises(RunInUseError):
            store.forget(name)
        store.release(claim, clean=False)
    finished = store.claim("b", GRAPH, "b")
    finish(store, finished)
    store.release(finished, clean=True)
    store.forget("a")
    store.forget("b")
    assert store.runs() == []
    assert in_writer(store, lambda c: c.execute("SELECT count(*) FROM rows").fetchone()) == (0,)
    again = store.claim("a", "new", "a2")
    assert (again.number, again.is_new, dict(again.in_flight)) == (3, True, {})
    with pytest.raises(UnknownRunError) as caught:
        store.forget("aa")
    assert caught.value.close == ("a",)


def test_a_run_that_two_forget(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that somebody else has deleted since it was looked up is unknown, and no other goes."""
    claim = store.claim("a", GRAPH, "a")
    store.release(claim, clean=False)
    seen = store.run("a")
    store.forget("a")
    store.release(store.claim("a", GRAPH, "a"), clean=False)
    monkeypatch.setattr(Store, "run", lambda self, run_id: seen)
    with pytest.raises(UnknownRunError):
        store.forget("a")
    assert [run.number for run in store.runs()] == [2]


def test_a_backup(store: Store, tmp_path: Path) -> None:
    """A backup holds what was committed, while the run goes on; it is a journal by itself."""
    claim = store.claim("nightly", GRAPH, "uid")
    write(store, claim, 20)
    target = tmp_path / "copy.db"
    store.backup(target)
    write(store, claim, 20)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with Store(target) as copy:
        assert len(list(copy.rows(claim.number))) == 20
        assert copy.claim("nightly", GRAPH, "uid").last_seq == 20


def test_a_backup_overwrites_nothing(store: Store, tmp_path: Path) -> None:
    """A file that is there, a journal or not, is refused and stays."""
    store.claim("nightly", GRAPH, "uid")
    target = tmp_path / "copy.db"
    target.write_bytes(b"mine")
    with pytest.raises(JournalError, match="new file"):
        store.backup(target)
    assert target.read_bytes() == b"mine"
    with pytest.raises(JournalError, match="new file"):
        store.backup(store.path)
    with pytest.raises(JournalError, match="folder"):
        store.backup(tmp_path / "nowhere" / "copy.db")


def test_a_backup_that_fails_leaves_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When copying fails half-way, there is no file that looks like a backup."""
    store.claim("nightly", GRAPH, "uid")

    class Full:
        def __init__(self, path: str) -> None:
            Path(path).write_bytes(b"half")

        def close(self) -> None:
            pass

    monkeypatch.setattr(_store, "open_backup", Full)
    with pytest.raises(TypeError):
        store.backup(tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_nothing_to_back_up(store: Store, tmp_path: Path) -> None:
    """A backup of a journal that is not there is an error, and makes no file."""
    with pytest.raises(JournalError, match="no journal"):
        store.backup(tmp_path / "copy.db")
    assert list(tmp_path.iterdir()) == []


# --- closing -------------------------------------------------------------------------------------


def test_closing_waits_for_what_was_submitted(path: Path) -> None:
    """`close` returns when all that was submitted is written and told; the runs are free then."""
    store = Store(path)
    claim = store.claim("nightly", GRAPH, "uid")
    told = [Told() for _ in range(20)]
    for each in told:
        store.submit(claim, new_rows(claim, 10), each)
    store.close()
    store.close()
    assert [each.answers for each in told] == [[None]] * 20
    with Store(path) as other:
        assert other.claim("nightly", GRAPH, "uid").last_seq == 200


def test_a_run_that_is_claimed_while_the_store_is_closed(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is free after `close`, also one whose claim was made just before, and not told yet."""
    call = store._writer.call

    def close_first(*arguments: Any) -> Any:
        claim = call(*arguments)
        store.close()
        return claim

    monkeypatch.setattr(store._writer, "call", close_first)
    claim = store.claim("nightly", GRAPH, "uid")
    assert isinstance(write(store, claim), JournalError)
    with Store(path) as other:
        assert other.claim("nightly", GRAPH, "uid").last_seq == 0


def test_a_closed_store_says_so(path: Path) -> None:
    """After `close` rows are refused by their callback, and runs by an error; reading works."""
    store = Store(path)
    claim = store.claim("nightly", GRAPH, "uid")
    write(store, claim)
    store.close()
    store.release(claim, clean=True)
    assert isinstance(write(store, claim), JournalError)
    with pytest.raises(JournalError, match="closed"):
        store.claim("other", GRAPH, "uid")
    assert [run.run_id for run in store.runs()] == ["nightly"]


def test_a_store_that_was_never_used_is_closed(path: Path) -> None:
    """A store that has written nothing has no thread and makes no file."""
    before = threading.active_count()
    with Store(path):
        assert threading.active_count() == before
    assert not path.exists()


def test_a_closed_journal_is_one_file(path: Path, tmp_path: Path) -> None:
    """After the last connection has gone the file holds it all, and can be moved or copied."""
    with Store(path) as store:
        claim = store.claim("nightly", GRAPH, "uid")
        finish(store, claim, 30)
        store.release(claim, clean=True)
    assert set(pictured(tmp_path)) == {"runs.db", "runs.db-locks"}
    moved = tmp_path / "moved.db"
    path.rename(moved)
    with Store(moved) as store:
        assert len(list(store.rows(1))) == 30


def test_a_forgotten_store_closes_itself(path: Path) -> None:
    """A store that nobody has any more ends its thread and lets its runs go."""
    store = Store(path)
    claim = store.claim("nightly", GRAPH, "uid")
    write(store, claim)
    (thread,) = (t for t in threading.enumerate() if t.name == "dagron-journal")
    gone = weakref.ref(store)
    del store
    gc.collect()
    assert gone() is None
    thread.join(GUARD)
    assert not thread.is_alive()
    with Store(path) as other:
        assert other.claim("nightly", GRAPH, "uid").last_seq == 1


def test_the_writer_keeps_nothing_of_a_run_alive(store: Store) -> None:
    """When a batch has been told, its callback and its claim are forgotten."""

    class Callback(Told):
        pass

    claim, told = store.claim("nightly", GRAPH, "uid"), Callback()
    store.submit(claim, new_rows(claim, 1), told)
    told.wait()
    gone = weakref.ref(told)
    write(store, claim)  # that one was told when the writer was done with the first
    del told
    gc.collect()
    assert gone() is None


def test_the_interpreter_ends_with_an_open_store(path: Path) -> None:
    """A program that ends without closing keeps what it submitted, and ends."""
    with Program(
        path,
        """
        store = Store(path)
        claim = store.claim("nightly", "{}", "uid")
        for _ in range(100):
            store.submit(claim, new_rows(claim, 10), lambda error: None)
        """,
    ) as program:
        assert program.end() == ""
    with Store(path) as store:
        claim = store.claim("nightly", GRAPH, "uid")
        assert claim.last_seq == 1000


def test_a_store_works_while_the_interpreter_ends(path: Path) -> None:
    """What is registered to run at exit may write, release and close."""
    with Program(
        path,
        """
        import atexit
        store = Store(path)
        claim = store.claim("nightly", "{}", "uid")
        @atexit.register
        def last():
            say(write(store, claim, 3))
            store.release(claim, clean=True)
            store.close()
        """,
    ) as program:
        assert program.end() == "None\n"
    with Store(path) as store:
        assert store.claim("nightly", GRAPH, "uid").last_seq == 3


def test_no_thread_can_be_started(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the system has no thread left, that is an error of the journal; later it works."""
    store = Store(path)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(JournalError, match="can't start new thread"):
            store.claim("nightly", GRAPH, "uid")
    assert store.claim("nightly", GRAPH, "uid").is_new
    store.close()


# --- files and names -----------------------------------------------------------------------------


def test_files_are_private(store: Store, tmp_path: Path) -> None:
    """All files of a journal are made for their owner alone, whatever the umask."""
    before = os.umask(0)
    try:
        claim = store.claim("nightly", GRAPH, "uid")
        write(store, claim)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    names = ["runs.db", "runs.db-1.begun", "runs.db-locks", "runs.db-shm", "runs.db-wal"]
    assert sorted(modes) == names
    assert set(modes.values()) == {0o600}


HOSTILE = ["", "../x", "a/b", "a b", "x" * 101, "a\0b", "ü", "a\n", "a;b", "~", "$(id)", "a\\b"]


@pytest.mark.parametrize("run_id", HOSTILE)
def test_a_hostile_run_id(store: Store, path: Path, run_id: str) -> None:
    """An id that is not 1 to 100 letters, digits, dots, dashes and underscores is refused."""
    with pytest.raises(InvalidNameError, match="run_id"):
        store.claim(run_id, GRAPH, "uid")
    assert not path.exists()


def test_run_ids_that_are_fine() -> None:
    """Dots alone are a fine id, since no file is called after it; a str of a kind becomes plain."""

    class Id(str):
        pass

    for run_id in (".", "..", "-", "A.b_c-9", "x" * 100):
        assert checked_run_id(run_id) == run_id
    assert type(checked_run_id(Id("a"))) is str
    with pytest.raises(TypeError, match="not int"):
        checked_run_id(7)


@pytest.mark.parametrize("wrong", ["", ":memory:", "a\0b", b"runs.db"])
def test_a_path_that_names_no_file(wrong: Any) -> None:
    """What cannot be a file's name is refused where it is given."""
    with pytest.raises((ValueError, TypeError), match="journal"):
        Store(wrong)


def test_options_that_are_wrong(path: Path) -> None:
    """Durability and the time to wait are looked at where they are given."""
    with pytest.raises(ValueError, match="'process' or 'power'"):
        Store(path, durability="paper")
    with pytest.raises(TypeError, match="busy_timeout"):
        Store(path, busy_timeout="long")  # type: ignore[arg-type]


@pytest.mark.parametrize("durability", ["process", "power"])
def test_durability_is_what_was_asked_for(path: Path, durability: str) -> None:
    """The writer forces commits to the disk with "power", and leaves that out with "process"."""
    with Store(path, durability=durability) as store:
        store.claim("nightly", GRAPH, "uid")
        level = in_writer(store, lambda c: c.execute("PRAGMA synchronous").fetchone()[0])
        mode = in_writer(store, lambda c: c.execute("PRAGMA journal_mode").fetchone()[0])
        is_full = in_writer(store, lambda c: c.execute("PRAGMA fullfsync").fetchone()[0])
    assert (level, mode, is_full) == (
        {"process": (1, "wal", 0), "power": (2, "wal", 1)}[durability]
    )


def test_an_odd_file_name(tmp_path: Path) -> None:
    """Characters that mean something in a URI are plain characters of a file's name."""
    path = tmp_path / "a b?mode=memory#%20'ü.db"
    with Store(path) as store:
        claim = store.claim("nightly", GRAPH, "uid")
        write(store, claim)
        assert path.stat().st_size
        assert len(list(store.rows(claim))) == 1


def test_a_relative_path_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that changes its folder later writes to the same file."""
    monkeypatch.chdir(tmp_path)
    with Store("runs.db") as store:
        monkeypatch.chdir("/")
        store.claim("nightly", GRAPH, "uid")
    assert (tmp_path / "runs.db").stat().st_size


# --- files that are no journal -------------------------------------------------------------------


def foreign(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for text in statements:
        connection.execute(text)
    connection.commit()
    connection.close()


def refused(path: Path, match: str) -> None:
    """Neither writing nor reading takes the file, nor changes it or its folder."""
    before = pictured(path.parent)
    with Store(path) as store:
        with pytest.raises(JournalError, match=match) as caught:
            store.claim("nightly", GRAPH, "uid")
        assert "help: " in str(caught.value)
        assert caught.value.path == str(path)
        with pytest.raises(JournalError, match=match):
            store.runs()
    assert pictured(path.parent) == before


@pytest.mark.parametrize(
    "content", [b"x", b"hello\n" * 1000, b"SQLite format 3\0" + b"\xff" * 5000, bytes(4096)]
)
def test_a_file_that_is_no_database(path: Path, content: bytes) -> None:
    """Garbage is refused and left as it is."""
    path.write_bytes(content)
    refused(path, "no journal, nor any database|damaged")


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_the_database_of_another_program(path: Path, mode: str) -> None:
    """A database with tables of its own is refused and left as it is."""
    foreign(
        path, f"PRAGMA journal_mode={mode}", "CREATE TABLE runs (a)", "INSERT INTO runs VALUES(1)"
    )
    refused(path, "another program")


def test_the_database_that_another_program_left_behind(path: Path, tmp_path: Path) -> None:
    """A database of another program that was killed is refused, and its WAL is left to it."""
    there = tmp_path / "there"
    there.mkdir()
    foreign(there / "x", "PRAGMA journal_mode=WAL", "CREATE TABLE t (a)")
    other = sqlite3.connect(there / "x")
    other.execute("INSERT INTO t VALUES (1)")
    other.commit()
    for end in ("", "-wal"):
        path.with_name(path.name + end).write_bytes((there / f"x{end}").read_bytes())
    other.close()
    refused(path, "another program")


def test_the_empty_database_of_another_program(path: Path) -> None:
    """A database without tables that says whose it is is refused."""
    foreign(path, "PRAGMA application_id=7")
    refused(path, "another program")


def test_a_newer_schema(path: Path, store: Store) -> None:
    """A journal that a later version has written is refused, and left as it is."""
    store.claim("nightly", GRAPH, "uid")
    store.close()
    foreign(path, "PRAGMA user_version=2")
    refused(path, "newer dagron")


def test_a_folder(tmp_path: Path) -> None:
    """A folder is no file."""
    with Store(tmp_path) as store, pytest.raises(JournalError, match="this is a folder"):
        store.claim("nightly", GRAPH, "uid")
    assert list(tmp_path.iterdir()) == []


def test_a_pipe(path: Path) -> None:
    """A pipe is no file, and nobody waits at it."""
    os.mkfifo(path)
    with Store(path) as store, pytest.raises(JournalError, match="no plain file"):
        store.claim("nightly", GRAPH, "uid")


def test_a_missing_folder(tmp_path: Path) -> None:
    """A folder that is not there is not made."""
    with Store(tmp_path / "nowhere" / "runs.db") as store:
        for look in (lambda: store.claim("nightly", GRAPH, "uid"), store.runs):
            with pytest.raises(JournalError, match="folder of the journal is not there"):
                look()
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    """A path through a file is refused in words."""
    (tmp_path / "file").touch()
    with Store(tmp_path / "file" / "runs.db") as store, pytest.raises(JournalError):
        store.claim("nightly", GRAPH, "uid")


def test_an_empty_file_is_a_new_journal(path: Path, store: Store) -> None:
    """An empty file is taken for a journal, and stays as public or private as it is."""
    path.touch(0o640)
    path.chmod(0o640)
    assert store.claim("nightly", GRAPH, "uid").is_new
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_file_that_was_half_made(path: Path, store: Store, tmp_path: Path) -> None:
    """Where a process died while it made the file, readers find no runs and change nothing; who
    writes undoes that, and makes it.
    """
    other = tmp_path / "other"
    with closing(sqlite3.connect(other, isolation_level=None)) as maker:
        maker.execute("PRAGMA cache_size=1")  # so that it is written before the commit
        maker.execute("BEGIN IMMEDIATE")
        maker.execute("CREATE TABLE runs (number)")
        maker.executemany("INSERT INTO runs VALUES (?)", [("x" * 1000,)] * 100)
        files = {path: other, Path(f"{path}-journal"): tmp_path / "other-journal"}
        for target, source in files.items():
            target.write_bytes(source.read_bytes())
    before = [file.read_bytes() for file in files]
    assert before[0]
    assert store.runs() == []
    assert [file.read_bytes() for file in files] == before
    assert write(store, store.claim("run", GRAPH, "uid")) is None
    assert [run.run_id for run in store.runs()] == ["run"]


def test_a_disk_without_shared_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where SQLite does not get its WAL, as on network disks, that is said and nothing is run."""
    with Store(path) as store:
        # A file in memory cannot have a WAL either.
        monkeypatch.setattr(
            "dagron.journal._database._connect",
            lambda path, how, busy_timeout=0.0: _memory(path),
        )
        with pytest.raises(JournalError, match="needs SQLite's WAL"):
            store.claim("nightly", GRAPH, "uid")


def _memory(path: str) -> Any:
    from dagron.journal._database import Connection

    connection = sqlite3.connect(":memory:", isolation_level=None, factory=Connection)
    connection.path = path
    return connection


# --- the file goes away underneath ---------------------------------------------------------------


@pytest.mark.parametrize("which", ["runs.db", "runs.db-wal", "runs.db-shm", "runs.db-locks"])
@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_file_that_goes_away_is_noticed(
    store: Store, tmp_path: Path, which: str, how: str
) -> None:
    """No batch is acknowledged that went into a file which is not there any more, or beside one
    that other processes do not see.
    """
    claim = store.claim("nightly", GRAPH, "uid")
    assert write(store, claim) is None
    go_away(tmp_path / which, how)
    error = write(store, claim)
    assert isinstance(error, JournalError)
    assert f"deleted or replaced while it was in use: {tmp_path / which}\n" in str(error)
    assert write(store, claim) is error


def go_away(gone: Path, how: str) -> None:
    copy = gone.read_bytes()
    gone.unlink()
    if how == "replaced":
        gone.write_bytes(copy)


@pytest.mark.parametrize("which", ["runs.db", "runs.db-wal", "runs.db-shm"])
def test_no_run_is_claimed_in_a_file_that_has_gone_away(
    store: Store, tmp_path: Path, which: str
) -> None:
    """Nor is a run claimed there, or deleted: nothing is written."""
    ended = store.claim("nightly", GRAPH, "uid")
    finish(store, ended)
    store.release(ended, clean=True)
    go_away(tmp_path / which, "deleted")
    with pytest.raises(JournalError, match="deleted or replaced"):
        store.claim("other", GRAPH, "uid")
    with pytest.raises(JournalError, match="deleted or replaced"):
        in_writer(store, partial(store._forgotten, "nightly", ended.number))


@pytest.mark.parametrize("how", ["goes on", "is idle"])
def test_what_another_process_writes_beside_another_shm_stays(
    store: Store, tmp_path: Path, how: str
) -> None:
    """When somebody deletes the -shm, the next process makes another one, of which SQLite does not
    know in this one. What that process is told to be written stays: nothing is written over it,
    also by the end of this process, and what this one had written before is there, too.
    """
    claim = store.claim("nightly", GRAPH, "uid")
    assert write(store, claim, 3) is None
    (tmp_path / "runs.db-shm").unlink()
    with Program(
        tmp_path / "runs.db",
        """
        with Store(path) as store:
            claim = store.claim("other", "{}", "uid")
            say(write(store, claim, 30), finish(store, claim))
            store.release(claim, clean=True)
        """,
    ) as program:
        assert program.end() == "None None\n"
    if how == "goes on":
        error = write(store, claim, 2)
        assert isinstance(error, JournalError)
        assert f"{tmp_path / 'runs.db-shm'}\n  help: open the journal anew" in str(error)
    store.close()
    with Store(tmp_path / "runs.db") as other:
        assert [(run.run_id, run.state) for run in other.runs()] == [
            ("nightly", "interrupted"),
            ("other", "finished"),
        ]
        assert len(list(other.rows(2))) == 31
        assert other.claim("nightly", GRAPH, "uid").last_seq == 3


# --- what is in flight ---------------------------------------------------------------------------


def reclaimed(store: Store) -> dict[str, int]:
    """What a claim finds in flight; it writes nothing, and lets go."""
    claim = store.claim("nightly", GRAPH, "uid")
    store.release(claim, clean=False)
    return dict(claim.in_flight)


def test_what_was_in_flight_when_a_process_died(path: Path) -> None:
    """After `kill -9` the next claim knows which attempts had begun and not ended."""
    with Program(
        path,
        """
        store = Store(path)
        claim = store.claim("nightly", "{}", "uid")
        write(store, claim, [row(1, "failed", "d"), row(2, "retry", None)])
        store.begin(claim, [("a", 1), ("b", 1), ("c", 1), ("d", 2), ("é\\n", 1)])
        write(store, claim, [row(3, node="a"), row(4, "failed", "b"), row(5, "cancelled", "c")])
        say("begun")
        stay()
        """,
    ) as program:
        assert program.line() == "begun"
        program.kill()
    with Store(path) as store:
        claim = store.claim("nightly", GRAPH, "uid")
        assert claim.in_flight == {"d": 2, "é\n": 1}


def test_what_was_in_flight_is_known_until_it_is_written_down(store: Store) -> None:
    """A process that dies before it has written anything loses nothing of what it was told; once
    it has, the next one is not told the same again.
    """
    claim = store.claim("nightly", GRAPH, "uid")
    store.begin(claim, [("a", 1)])
    store.release(claim, clean=False)
    assert reclaimed(store) == {"a": 1}
    claim = store.claim("nightly", GRAPH, "uid")
    store.begin(claim, [("b", 1)])
    store.release(claim, clean=False)
    assert reclaimed(store) == {"a": 1}
    claim = store.claim("nightly", GRAPH, "uid")
    store.begin(claim, [("b", 1)])
    assert write(store, claim, [row(1, "life", None)]) is None
    store.begin(claim, [("a", 2)])
    store.release(claim, clean=False)
    assert reclaimed(store) == {"a": 2, "b": 1}


def test_a_process_that_dies_between_two_lives(store: Store, tmp_path: Path) -> None:
    """When a life was written down but its file not begun, the file of the last one is not
    believed.
    """
    claim = store.claim("nightly", GRAPH, "uid")
    store.begin(claim, [("a", 1)])
    store.release(claim, clean=False)
    old = (tmp_path / "runs.db-1.begun").read_bytes()
    claim = store.claim("nightly", GRAPH, "uid")
    write(store, claim, [row(1, "life", None)])
    store.release(claim, clean=False)
    (tmp_path / "runs.db-1.begun").write_bytes(old)
    assert reclaimed(store) == {}


@pytest.mark.parametrize("how", ["released", "finished"])
def test_nothing_is_in_flight_after_a_clean_end(store: Store, tmp_path: Path, how: str) -> None:
    """When a run was cancelled or finished in order, the file of what is in flight is gone."""
    claim = store.claim("nightly", GRAPH, "uid")
    store.begin(claim, [("a", 1)])
    if how == "finished":
        finish(store, claim)
    else:
        store.release(claim, clean=True)
    assert "runs.db-1.begun" not in pictured(tmp_path)
    store.release(claim, clean=True)
    assert reclaimed(store) == {}


def test_a_pruned_run_leaves_no_file(store: Store, tmp_path: Path) -> None:
    """With a run the file of what it had in flight is removed."""
    claim = store.claim("nightly", GRAPH, "uid")
    finish(store, claim)
    store.release(claim, clean=True)
    (tmp_path / "runs.db-1.begun").write_text("left by somebody")
    assert store.prune(-1) == ["nightly"]
    assert set(pictured(tmp_path)) == {"runs.db", "runs.db-wal", "runs.db-shm", "runs.db-locks"}


BEGUN = b'{"life": 3}\n["a", 1]\n["b", 2]\n["a", 2]\n'


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (BEGUN, {"a": 2, "b": 2}),
        (BEGUN + b'["c', {"a": 2, "b": 2}),
        (BEGUN + b'["c", 1]', {"a": 2, "b": 2, "c": 1}),
        (
            BEGUN + b'\xff\xfe\0\n[]\n["c"]\n[1, 2]\n["d", "1"]\n{}\nnull\n["e", true]\n["f", 1]\n',
            {"a": 2, "b": 2, "f": 1},
        ),
        (BEGUN + b"[" * 100_000 + b"\n", {"a": 2, "b": 2}),
        (BEGUN.replace(b"3", b"2", 1), {}),
        (BEGUN[12:], {}),
        (b'{"life": 3', {}),
        (b"", {}),
        (b"\n" + BEGUN, {}),
    ],
)
def test_a_file_of_what_is_in_flight_that_is_torn(
    tmp_path: Path, content: bytes, found: dict[str, int]
) -> None:
    """What is torn, garbage or of another life is passed over."""
    (tmp_path / "x.begun").write_bytes(content)
    assert read_begun(str(tmp_path / "x.begun"), 3) == found


def test_no_file_of_what_is_in_flight(tmp_path: Path) -> None:
    """A file that is not there says nothing, nor does a folder in its place."""
    assert read_begun(str(tmp_path / "x.begun"), 1) == read_begun(str(tmp_path), 1) == {}


def test_what_failed_may_be_at_work_again() -> None:
    """From the row on by which failures are tried again, what failed before may be at work."""
    begun = {"a": 1, "b": 2, "c": 1}
    rows = [("failed", "a"), ("done", "b"), ("retry", None), ("cancelled", "c")]
    assert still_in_flight(begun, rows) == {"a": 1}
    assert still_in_flight(begun, [*rows, ("failed", "a")]) == {}


def test_the_file_of_what_is_in_flight_stays_small(store: Store, tmp_path: Path) -> None:
    """After a megabyte it is written anew with what is in flight then: nothing of it is lost."""
    claim = store.claim("nightly", GRAPH, "uid")
    store.begin(claim, [("first", 1)])
    file = tmp_path / "runs.db-1.begun"
    name, largest, rounds = "x" * 500, 0, 30
    for round in range(rounds):
        names = [f"{name}{round}-{number}" for number in range(100)]
        store.begin(claim, [(each, 1) for each in names])
        seq = claim.next_seq
        write(store, claim, [row(seq + i, node=each) for i, each in enumerate(names)])
        largest = max(largest, file.stat().st_size)
    assert rounds * 100 * 500 > largest + 300_000
    assert largest < 1_100_000
    store.begin(claim, [("last", 1)])
    store.release(claim, clean=False)
    assert reclaimed(store) == {"first": 1, "last": 1}


def test_a_wide_run_does_not_write_its_file_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more than a megabyte in flight the file may grow to twice of that in between."""
    written: list[str] = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (written.append(a), replace(a, b)))
    begun = Begun(str(tmp_path / "x.begun"))
    begun.open(1)
    begun.begin((f"{'x' * 500}{number}", 1) for number in range(3000))
    for number in range(100):
        begun.begin([(f"y{number}", 1)])
    assert len(written) == 2
    begun.close(remove=False)
    assert len(read_begun(str(tmp_path / "x.begun"), 1)) == 3100


def test_what_begins_cannot_be_noted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the file of what is in flight cannot be written, `begin` says nothing and the next
    batch fails: no node ends unnoticed that had begun unnoticed.
    """
    claim = store.claim("nightly", GRAPH, "uid")
    write(store, claim)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: len(data) - 1)
        store.begin(claim, [("a", 1)])
    assert "could not be written whole" in str(write(store, claim))


def test_the_file_of_what_is_in_flight_cannot_be_made(
    store: Store, path: Path, tmp_path: Path
) -> None:
    """A claim whose file cannot be made fails, and holds nothing; so does a life that begins."""
    (tmp_path / "runs.db-1.begun").mkdir()
    with pytest.raises(JournalError, match=r"begun"):
        store.claim("nightly", GRAPH, "uid")
    claim = store.claim("nightly", GRAPH, "uid")
    assert not claim.is_new
    assert write(store, claim) is None  # it is written, and that was told
    assert "begun" in str(write(store, claim))
    store.release(claim, clean=False)
    (tmp_path / "runs.db-1.begun").rmdir()
    claim = store.claim("nightly", GRAPH, "uid")
    assert (claim.last_seq, write(store, claim)) == (1, None)


def test_a_forgotten_journal_is_closed_from_anywhere(tmp_path: Path) -> None:
    """A journal that nobody has any more may be collected in any thread, also in another journal's
    and while that holds the locks of the room: it ends by itself, and its runs are free.
    """

    def forgotten() -> None:
        """Leave an open journal, with a run, to the garbage collector."""
        store = Store(tmp_path / "forgotten.db")
        store.claim("nightly", GRAPH, "uid")
        circle: list[Any] = [store]
        circle.append(circle)

    def collect(connection: object) -> None:
        with _database._mutex, _locks._mutex:
            gc.collect()

    before = {thread for thread in threading.enumerate() if thread.name == "dagron-journal"}
    with Store(tmp_path / "other.db") as other:
        other.claim("nightly", GRAPH, "uid")
        gc.disable()
        try:
            forgotten()
            other._writer.call(collect)
        finally:
            gc.enable()
    for thread in threading.enumerate():
        if thread.name == "dagron-journal" and thread not in before:
            thread.join(30)
            assert not thread.is_alive()
    with Store(tmp_path / "forgotten.db") as store:
        assert not store.claim("nightly", GRAPH, "uid").is_new
