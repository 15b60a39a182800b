"""Who has a run: one process at a time, and nobody once that process is dead."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dagron import JournalError, RunInUseError
from dagron.journal import _locks
from dagron.journal._locks import hold, is_held
from dagron.journal._store import Store
from faults import GUARD
from journals import Program, Told, finish, held_writer, new_rows, write

GRAPH = "{}"

# A process that has the run and says so.
HOLDER = """
store = Store(path)
claim = store.claim("nightly", "{}", "uid")
write(store, claim, 3)
say(os.getpid())
stay()
"""

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
needs_proc = pytest.mark.skipif(
    not Path("/proc/locks").exists(), reason="there is no /proc/locks here"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store(path) as store:
        yield store


# --- one process ---------------------------------------------------------------------------------


def test_a_run_is_claimed_once(store: Store) -> None:
    """A second claim of a run by the same store is refused, until the first is released."""
    claim = store.claim("nightly", GRAPH, "uid")
    with pytest.raises(RunInUseError) as caught:
        store.claim("nightly", GRAPH, "uid")
    assert (caught.value.run_id, caught.value.pid) == ("nightly", os.getpid())
    assert f"process {os.getpid()} on " in str(caught.value)
    assert write(store, claim) is None
    store.release(claim, clean=True)
    assert store.claim("nightly", GRAPH, "uid").last_seq == 1


@pytest.mark.parametrize("how", ["same", "relative", "link to the file", "link to the folder"])
def test_a_run_is_claimed_once_by_any_path(
    path: Path, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two stores of one file, by whatever path, know of each other's runs."""
    other = path
    if how == "relative":
        monkeypatch.chdir(tmp_path)
        other = Path("./x/../runs.db")
    elif how == "link to the file":
        other = tmp_path / "link.db"
        other.symlink_to(path)
    elif how == "link to the folder":
        (tmp_path / "there").symlink_to(tmp_path)
        other = tmp_path / "there" / "runs.db"
    with Store(path) as first:
        claim = first.claim("nightly", GRAPH, "uid")
        with Store(other) as second:
            with pytest.raises(RunInUseError):
                second.claim("nightly", GRAPH, "uid")
            assert second.run("nightly").state == "running"
            assert write(second, second.claim("another", GRAPH, "uid")) is None
        assert write(first, claim) is None
        with Store(other) as second:
            with pytest.raises(RunInUseError):
                second.claim("nightly", GRAPH, "uid")


def test_a_refused_claim_leaves_the_run_alone(store: Store) -> None:
    """Who is refused changes nothing of the run, nor of what is said about who has it."""
    store.claim("nightly", GRAPH, "uid")
    before = store.run("nightly")
    with pytest.raises(RunInUseError):
        store.claim("nightly", "other", "other")
    assert store.run("nightly") == before


def test_many_threads_claim_one_run(store: Store) -> None:
    """Of many threads that claim a run at the same time exactly one gets it."""
    got: list[str] = []
    barrier = threading.Barrier(8)

    def claim() -> None:
        barrier.wait(GUARD)
        try:
            store.claim("nightly", GRAPH, "uid")
            got.append("claimed")
        except RunInUseError:
            got.append("refused")

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(GUARD)
    assert sorted(got) == ["claimed"] + ["refused"] * 7


# --- the lock file by itself ---------------------------------------------------------------------


def test_a_hold_is_given_back_once(tmp_path: Path) -> None:
    """`release` lets a byte go; a second call does not let go of somebody else's hold."""
    file = str(tmp_path / "locks")
    first = hold(file, 1)
    assert first is not None
    assert (hold(file, 1), is_held(file, 1), is_held(file, 2)) == (None, True, False)
    first.release()
    second = hold(file, 1)
    assert second is not None
    first.release()
    assert is_held(file, 1)
    second.release()
    second.release()
    assert not is_held(file, 1)
    assert _locks._files == {}


def test_asking_makes_no_lock_file(tmp_path: Path) -> None:
    """Where there is no lock file nothing is held, and there is none afterwards."""
    assert not is_held(str(tmp_path / "locks"), 1)
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_no_lock_file(tmp_path: Path) -> None:
    """A symbolic link in the place of the lock file is not followed."""
    (tmp_path / "locks").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        hold(str(tmp_path / "locks"), 1)
    assert not (tmp_path / "elsewhere").exists()


def test_asking_keeps_our_own_holds(tmp_path: Path) -> None:
    """A process that asks who holds what does not lose its own locks by it, as it would by closing
    any descriptor of the file.
    """
    with Store(tmp_path / "runs.db") as store:
        claim = store.claim("nightly", GRAPH, "uid")
        other = store.claim("other", GRAPH, "uid")
        store.runs()
        store.release(other, clean=True)
        store.prune(-1)
        with Program(
            tmp_path / "runs.db",
            """
            store = Store(path)
            say(store.run("nightly").state, store.run("other").state)
            try:
                store.claim("nightly", "{}", "uid")
            except Exception as error:
                say(type(error).__name__, error.pid)
            """,
        ) as program:
            assert program.line() == "running interrupted"
            assert program.line() == f"RunInUseError {os.getpid()}"
            program.end()
        assert write(store, claim) is None


@needs_proc
def test_asking_opens_nothing_twice(tmp_path: Path) -> None:
    """A process opens a lock file once, however often it asks while it holds something."""
    file = str(tmp_path / "locks")
    held = hold(file, 1)
    assert held is not None
    before = len(os.listdir("/proc/self/fd"))
    for number in range(1, 10):
        is_held(file, number)
        hold(file, 1)
    assert len(os.listdir("/proc/self/fd")) == before
    held.release()
    assert len(os.listdir("/proc/self/fd")) == before - 1


@needs_proc
def test_reading_keeps_the_locks_of_sqlite(store: Store, path: Path) -> None:
    """Reading the journal, looking whether it is one and copying it leave the writer's locks on
    the file: else the next process to close it would take the WAL away from under it.
    """

    def locks() -> list[str]:
        inode = f":{path.stat().st_ino} "
        lines = Path("/proc/locks").read_text().splitlines()
        return sorted(line.split(maxsplit=1)[1] for line in lines if inode in line)

    claim = store.claim("nightly", GRAPH, "uid")
    write(store, claim)
    before = locks()
    assert before
    store.runs()
    list(store.rows(claim))
    store.backup(path.with_name("copy.db"))
    with Store(path) as other:
        other.claim("other", GRAPH, "uid")
    assert locks() == before


# --- two processes -------------------------------------------------------------------------------


def test_two_processes_one_run(path: Path) -> None:
    """A run that another process has is refused at once, with who has it."""
    with Program(path, HOLDER) as holder, Store(path) as store:
        pid = int(holder.line())
        with pytest.raises(RunInUseError) as caught:
            store.claim("nightly", GRAPH, "uid")
        assert caught.value.pid == pid
        assert caught.value.host
        assert caught.value.since
        run = store.run("nightly")
        assert run.state == "running"
        assert run.held_by is not None
        assert str(run.held_by) in str(caught.value)
        assert store.prune(-1) == []
        holder.end()
        assert store.claim("nightly", GRAPH, "uid").last_seq == 3


def test_a_dead_process_holds_nothing(path: Path) -> None:
    """A run is free as soon as the process that had it is dead, also by `kill -9`."""
    with Program(path, HOLDER) as holder, Store(path) as store:
        holder.line()
        holder.kill()
        assert store.run("nightly").state == "interrupted"
        claim = store.claim("nightly", GRAPH, "uid")
        assert claim.last_seq == 3
        assert write(store, claim) is None


def test_many_processes_write_one_file(path: Path) -> None:
    """Several processes make a journal and write to it at the same time: one file, in which each
    run is whole and in order.
    """
    code = """
    with Store(path) as store:
        say("ready")
        sys.stdin.readline()
        claim = store.claim(f"run-{os.getpid()}", "{}", "uid")
        answers = [Told() for _ in range(50)]
        for told in answers:
            store.submit(claim, new_rows(claim, 5), told)
            told.wait()
        assert finish(store, claim) is None
        say("done", *{told.answers[0] for told in answers})
        store.release(claim, clean=True)
    """
    programs = [Program(path, code) for _ in range(3)]
    for program in programs:
        assert program.line() == "ready"
    for program in programs:
        program.go()
    assert [program.end() for program in programs] == ["done None\n"] * 3
    with Store(path) as store:
        runs = store.runs()
        assert [run.state for run in runs] == ["finished"] * 3
        for run in runs:
            assert [row.seq for row in store.rows(run.number)] == list(range(1, 252))


def test_a_finished_run_that_is_held_is_not_pruned(path: Path) -> None:
    """Pruning leaves a run alone that another process looks at, though it is finished."""
    code = """
    store = Store(path)
    claim = store.claim("nightly", "{}", "uid")
    finish(store, claim)
    say("finished")
    stay()
    """
    with Program(path, code) as program, Store(path) as store:
        program.line()
        assert store.run("nightly").state == "finished"
        assert store.prune(-1) == []
        program.end()
        assert store.prune(-1) == ["nightly"]


def test_a_run_that_is_held_is_not_forgotten(path: Path) -> None:
    """A run that another process executes is not deleted: who has it is said instead."""
    code = """
    store = Store(path)
    claim = store.claim("nightly", "{}", "uid")
    say("claimed")
    stay()
    """
    with Program(path, code) as program, Store(path) as store:
        program.line()
        with pytest.raises(RunInUseError, match="run 'nightly' is being executed by process"):
            store.forget("nightly")
        assert store.run("nightly").state == "running"
        program.end()
        store.forget("nightly")
        assert store.runs() == []


# --- children ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["fork", "spawn"])
@needs_fork
def test_a_child_keeps_nothing(path: Path, method: str) -> None:
    """When a process that had a run is killed, its child that lives on does not keep the run."""
    code = """
    import multiprocessing, subprocess
    store = Store(path)
    claim = store.claim("nightly", "{}", "uid")
    write(store, claim)
    if sys.argv[2] == "fork":
        child = os.fork()
        if not child:
            signal.pause()
    else:
        child = subprocess.Popen([sys.executable, "-c", "input()"], close_fds=False).pid
    say(child)
    stay()
    """
    with Program(path, code, method) as program, Store(path) as store:
        child = int(program.line())
        try:
            program.kill()
            os.kill(child, 0)  # it is alive
            assert store.claim("nightly", GRAPH, "uid").last_seq == 1
        finally:
            os.kill(child, signal.SIGKILL)


@needs_fork
def test_a_forked_child_does_not_write_for_its_parent(path: Path) -> None:
    """A forked child that uses its parent's store, or opens the same file, gets an error that says
    what to do; it ends without a trace, and the parent goes on and still has its run.
    """
    code = """
    store = Store(path)
    claim = store.claim("nightly", "{}", "uid")
    write(store, claim)
    child = os.fork()
    if not child:
        def attempt(function, *arguments, **options):
            try:
                function(*arguments, **options)
                say("it worked")
            except JournalError as error:
                say("spawn" in str(error))
        attempt(store.submit, claim, [row(2)], say)
        attempt(store.begin, claim, [("a", 1)])
        attempt(store.claim, "other", "{}", "uid")
        attempt(store.runs)
        attempt(Store(path).runs)
        attempt(Store(path).claim, "other", "{}", "uid")
        other = Store(path + "-other")
        say(write(other, other.claim("mine", "{}", "uid")))
        store.close()
        sys.exit(0)
    say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    say(write(store, claim))
    stay()
    """
    with Program(path, code) as program, Store(path) as store:
        assert [program.line() for _ in range(7)] == ["True"] * 6 + ["None"]
        assert [program.line() for _ in range(2)] == ["0", "None"]
        with pytest.raises(RunInUseError):
            store.claim("nightly", GRAPH, "uid")
        program.end()
        assert store.claim("nightly", GRAPH, "uid").last_seq == 2


@needs_fork
def test_a_child_of_a_parent_that_has_closed_its_journal(path: Path) -> None:
    """A child that was forked after its parent had closed the file may open it."""
    code = """
    with Store(path) as store:
        write(store, store.claim("nightly", "{}", "uid"))
    child = os.fork()
    if not child:
        with Store(path) as store:
            say(write(store, store.claim("nightly", "{}", "uid")))
        os._exit(0)
    say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    with Program(path, code) as program:
        assert program.end() == "None\n0\n"


def test_a_lock_file_that_was_deleted(store: Store, path: Path) -> None:
    """When somebody deletes the lock file another process may take a run that this one has: this
    one notices that before it writes anything more, and the other has the run.
    """
    first = store.claim("nightly", GRAPH, "uid")
    write(store, first)
    path.with_name("runs.db-locks").unlink()
    with Store(path) as other:
        second = other.claim("nightly", GRAPH, "uid")
        error = write(store, first)
        assert isinstance(error, JournalError)
        assert f"deleted or replaced while it was in use: {path}-locks\n" in str(error)
        assert finish(other, second) is None
        store.release(first, clean=False)
        assert is_held(f"{path}-locks", second.number)
        other.release(second, clean=True)
    assert _locks._files == {}


def test_only_runs_of_the_lock_file_that_was_deleted_end(store: Store, path: Path) -> None:
    """A run that was taken by the new lock file goes on, in the same transaction."""
    lost = store.claim("lost", GRAPH, "uid")
    write(store, lost)
    path.with_name("runs.db-locks").unlink()
    found = store.claim("found", GRAPH, "uid")
    told = Told(), Told()
    with held_writer(store):
        for claim, each in zip((lost, found), told, strict=True):
            store.submit(claim, new_rows(claim, 1), each)
    assert isinstance(told[0].wait(), JournalError)
    assert told[1].wait() is None


def test_two_processes_write_one_run(store: Store, path: Path) -> None:
    """Where locks do not keep two processes apart, as on a network disk, the second to write the
    same row is refused, and nothing is written over.
    """
    first = store.claim("nightly", GRAPH, "uid")
    write(store, first)
    before, fresh = path.with_name("runs.db-locks"), path.with_name("moved")
    before.rename(fresh)
    with Store(path) as other:
        second = other.claim("nightly", GRAPH, "uid")
        assert write(other, second) is None
        fresh.rename(before)  # so that the first sees nothing of it
        error = write(store, first)
        assert isinstance(error, JournalError)
        assert "two processes" in str(error)


def test_no_lock_file_can_be_made(store: Store, path: Path) -> None:
    """Where no lock file can be, no run is claimed: it says why, and makes no run."""
    path.with_name("runs.db-locks").mkdir()
    with pytest.raises(JournalError, match="locks"):
        store.claim("nightly", GRAPH, "uid")
    assert store.runs() == []
    path.with_name("runs.db-locks").rmdir()
    assert store.claim("nightly", GRAPH, "uid").is_new


@pytest.mark.skipif(sys.platform != "linux", reason="a lock on such a disk is tried on Linux only")
def test_a_disk_without_locks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system cannot lock, that is an error, not a run that nobody holds; where it cannot
    unlock, the run is free all the same.
    """
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "lockf", refuse)
        with pytest.raises(JournalError, match="No locks available"):
            store.claim("nightly", GRAPH, "uid")
    assert _locks._files == {}
    claim = store.claim("nightly", GRAPH, "uid")
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "lockf", refuse)
        store.release(claim, clean=True)
    assert not is_held(f"{store.path}-locks", claim.number)
