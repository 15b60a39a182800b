"""Lives of a program that is killed, and what must be true whatever killed it.

To start an interpreter takes longer than a life. So one process imports everything and forks for
each life; it knows nothing of journals itself, and never runs an event loop. Run as a program, this
file is that process.
"""

import faulthandler
import json
import os
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import anyio
import trio  # noqa: F401  (so that no life has to)

import crash_points
import crash_program
import dagron
from crash_points import Death
from dagron import _ledger
from dagron._rows import BODY, CANCEL, DONE, OUTCOMES, VOID, Row
from dagron._written import read_graph
from dagron.journal import _book, _writer
from dagron.journal._store import Store
from dagron.journal._values import Values

GUARD = 60  # seconds; a life that takes longer tells where it hangs, and ends


@dataclass(frozen=True)
class Job:
    """One life of a run, and how it ends before its time, if it does.

    It is killed at ``death``; or as soon as it has acknowledged so many bytes, or so many seconds
    have gone by.
    """

    folder: str
    backend: str
    width: int
    death: Death | None = None
    after_bytes: int | None = None
    after_seconds: float | None = None
    durability: str = "process"
    sabotage: str | None = None


@dataclass
class Life:
    """What became of a life: the status that ``waitpid`` gives, and what was acknowledged."""

    status: int
    heard: list[dict[str, Any]] = field(default_factory=list)
    told: dict[str, Any] | None = None  # what the run came to
    attempts: dict[str, int] = field(default_factory=dict)
    passings: dict[str, int] = field(default_factory=dict)
    failure: str | None = None

    @property
    def was_killed(self) -> bool:
        return os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) == signal.SIGKILL


# --- in the process that forks -------------------------------------------------------------------


def serve() -> None:
    """Live one life for each line of stdin, and tell of it in a line of stdout."""
    for line in sys.stdin:
        job = json.loads(line)
        job["death"] = job["death"] and Death(*job["death"])
        print(json.dumps(asdict(_lived(Job(**job)))), flush=True)


def _lived(job: Job) -> Life:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        os._exit(_child(job, writing))
    os.close(writing)
    try:
        data = _heard(job, child, reading)
    finally:
        os.close(reading)
    _, status = os.waitpid(child, 0)
    life = Life(status)
    for line in data.splitlines():
        what = json.loads(line)
        if "told" in what or "failure" in what:
            vars(life).update(what)
        else:
            life.heard.append(what)
    return life


def _heard(job: Job, child: int, reading: int) -> bytes:
    """Return all that the life has acknowledged; kill it meanwhile, if that was asked for."""
    data = b""
    due = None if job.after_seconds is None else time.monotonic() + job.after_seconds
    while True:
        left = None if due is None else max(0.0, due - time.monotonic())
        if left == 0 or not select.select([reading], [], [], left)[0]:
            os.kill(child, signal.SIGKILL)
            due = None
            continue
        more = os.read(reading, 200 if job.after_bytes is not None else 1 << 16)
        if not more:
            return data
        data += more
        if job.after_bytes is not None and len(data) >= job.after_bytes:
            os.kill(child, signal.SIGKILL)


def _child(job: Job, pipe: int) -> int:
    """Live; the code that the process ends with."""
    faulthandler.dump_traceback_later(GUARD, exit=True)
    folder = Path(job.folder)
    effects = os.open(folder / "effects", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    crash_program.witnesses = crash_program.Witnesses(effects, pipe)
    if job.sabotage is not None:
        SABOTAGES[job.sabotage]()
    points = crash_points.install(job.death)
    crash_program.write(effects, life=os.getpid())
    try:
        with dagron.Journal(
            folder / "runs.db",
            durability=job.durability,  # type: ignore[arg-type]
            allow=["crash_program"],  # whose functions come from outside
            max_recoveries=1_000_000,
        ) as journal:
            program = crash_program.Program(job.width)
            result = anyio.run(program.run, journal, backend=job.backend)
        crash_program.write(
            pipe,
            told=crash_program.told(result),
            attempts={name: node.attempts for name, node in result.node_results.items()},
            passings=dict(points.passings),
        )
    except BaseException:
        crash_program.write(pipe, failure=traceback.format_exc())
        return 1
    return 0


# --- defects, so that it is seen that they are seen ----------------------------------------------


def write_nothing() -> None:
    """What the journal says is written is not."""
    _writer.statements = lambda flat: []  # type: ignore[assignment]


def write_expansions_later() -> None:
    """A parent is written without its children."""
    honest = _ledger.written
    _ledger.written = lambda change, *refer: honest(change) if refer else "{}"  # type: ignore[assignment]


def forget_a_node() -> None:
    """An earlier life is told without the outcome of one node."""
    honest = _book.Book.rows
    _book.Book.rows = lambda book: (  # type: ignore[method-assign]
        row for row in honest(book) if row.node != "from outside" or row.kind != DONE
    )


SABOTAGES = {each.__name__: each for each in (write_nothing, write_expansions_later, forget_a_node)}


# --- in the process that asks for lives ----------------------------------------------------------


class Lives:
    """The process that forks, from outside."""

    def __enter__(self) -> "Lives":
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(GUARD)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def live(self, job: Job) -> Life:
        """Return when that life is over."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(job)) + "\n")
        self._process.stdin.flush()
        return Life(**json.loads(self._process.stdout.readline()))


# --- what must be true ---------------------------------------------------------------------------


@dataclass
class Tally:
    """What was counted over many runs; the last four must stay 0."""

    runs: int = 0
    lives: int = 0
    kills: int = 0
    acknowledged: int = 0
    bodies: int = 0
    lost: int = 0
    rerun: int = 0
    torn: int = 0
    other: int = 0
    violations: list[str] = field(default_factory=list)

    def note(self, kind: str, text: str) -> None:
        """Count a violation."""
        setattr(self, kind, getattr(self, kind) + 1)
        self.violations.append(f"{kind}: {text}")


class Witness:
    """Looks at one run after each of its lives."""

    def __init__(self, folder: Path, tally: Tally) -> None:
        self.folder = folder
        self.tally = tally
        self.acknowledged: dict[str, str] = {}  # kinds of outcomes
        self.results: dict[str, str] = {}
        self.begun: Counter[str] = Counter()
        self.keys: dict[str, str] = {}
        self.kills = 0

    def look(self, life: Life) -> None:
        """Take in what a life has left behind, and note what is wrong with it."""
        self.tally.lives += 1
        self.kills += life.was_killed
        self.tally.kills += life.was_killed
        if not life.was_killed and life.told is None:
            self.tally.note("other", f"a life ended with {life.status}: {life.failure}")
        self._look_at_effects()
        self._take_acknowledged(life)
        if (self.folder / "runs.db").exists():
            self._look_at_file()

    def _take_acknowledged(self, life: Life) -> None:
        for what in life.heard:
            if "heard" in what:
                self._same(self.acknowledged, what["heard"], what["kind"])
            else:
                self._same(self.results, what["completed"], what["result"])

    def _same(self, known: dict[str, str], name: str, what: str) -> None:
        if known.setdefault(name, what) != what:
            self.tally.note("lost", f"node {name!r} was {known[name]}, and is {what}")

    def _look_at_effects(self) -> None:
        """A body whose outcome was heard of, or that another body has used, begins no more."""
        done: set[str] = set()
        self.begun.clear()
        for line in (self.folder / "effects").read_text().splitlines():
            what = json.loads(line)
            if "heard" in what:
                done.add(what["heard"])
            elif "begins" in what:
                name = what["begins"]
                self.begun[name] += 1
                if name in done:
                    self.tally.note("rerun", f"node {name!r} began after its outcome was told")
                done.update(what["inputs"])
                for source, value in what["inputs"].items():
                    if source != "numbers":  # what its children came to, which is told nowhere
                        self._same(self.results, source, value)
                if self.keys.setdefault(name, what["key"]) != what["key"]:
                    self.tally.note("other", f"another idempotency_key for {name!r}")

    def _look_at_file(self) -> None:
        store = Store(self.folder / "runs.db")
        if not (runs := store.runs()):
            if self.acknowledged:
                self.tally.note("lost", "the run is not in the journal")
            return
        graph, rows = store.graph(runs[0].number), list(store.rows(runs[0].number))
        self._look_for_acknowledged(rows)
        self._look_at_growth(graph, rows)
        path = self.folder / "runs.db"
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            if (found := connection.execute("PRAGMA integrity_check").fetchall()) != [("ok",)]:
                self.tally.note("other", f"the file is damaged: {found}")
        if runs[0].held_by is not None:
            self.tally.note("other", f"a dead process has the run: {runs[0].held_by}")

    def _look_for_acknowledged(self, rows: list[Row]) -> None:
        """What was acknowledged is written, once, and is what was acknowledged."""
        outcomes = Counter(row.node for row in rows if row.kind in OUTCOMES)
        voids = {_detail(row)["seq"] for row in rows if row.kind == VOID}
        ends = {row.node: row for row in rows if row.kind in OUTCOMES and row.seq not in voids}
        bodies = {row.node: row.value for row in rows if row.kind == BODY}
        asked = {row.node for row in rows if row.kind == CANCEL}  # waiting ones end by that alone
        asked.update(name for row in rows for name in _change(row).get("cancel", ()))
        load = Values((), trust=False, max_result_bytes=None).load
        for name, kind in self.acknowledged.items():
            if name not in ends and name in asked and kind == "node_cancelled":
                continue
            if name not in ends or f"node_{_PAST[ends[name].kind]}" != kind:
                self.tally.note("lost", f"node {name!r}, {kind}, is {ends.get(name)}")
            if outcomes[name] > 1 and not voids:
                self.tally.note("other", f"{outcomes[name]} outcomes of {name!r}")
        for name, result in self.results.items():
            if name not in ends and name not in bodies:
                self.tally.note("lost", f"the result of node {name!r}")
                continue
            stored = (name in ends and ends[name].value) or bodies.get(name)
            if repr(None if stored is None else load(stored)) != result:
                self.tally.note("lost", f"the result {result} of {name!r} is not what is written")

    def _look_at_growth(self, graph: str, rows: list[Row]) -> None:
        """Who adds nodes is written with all of them, before any of them, and once."""
        dag, _ = read_graph(graph)
        known = set(dag)
        for row in rows:
            if row.node is not None and row.node not in known:
                self.tally.note("torn", f"{row.kind} of {row.node!r}, which nobody has added")
            for spec in _change(row).get("add", ()):
                if spec["name"] in known:
                    self.tally.note("torn", f"node {spec['name']!r} was added twice")
                known.add(spec["name"])

    def end(self, life: Life, expected: dict[str, Any]) -> None:
        """Compare what the run came to with what it comes to undisturbed."""
        self.tally.runs += 1
        self.tally.acknowledged += len(self.acknowledged)
        self.tally.bodies += self.begun.total()
        for key, value in expected.items():
            if life.told is not None and life.told[key] != value:
                kind = "torn" if key in ("nodes", "edges", "removed") else "other"
                lines = [*_differences(value, life.told[key])]
                self.tally.note(kind, f"the result's {key}: {lines}")
        for name, begun in self.begun.items():
            counted = life.attempts.get(name, begun)  # what was folded is forgotten
            if not begun <= counted <= begun + self.kills:
                self.tally.note("other", f"{name!r} began {begun} times, and counts {counted}")


_PAST = {"done": "completed", "failed": "failed", "cancelled": "cancelled"}


def _detail(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(row.detail) if row.detail else {}
    return found


def _change(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(row.change) if row.seq and row.change else {}
    return found


def _differences(expected: Any, found: Any) -> Iterator[str]:
    if isinstance(expected, dict):
        for key in {**expected, **found}:
            if expected.get(key) != found.get(key):
                yield f"{key}: {found.get(key)} instead of {expected.get(key)}"
    else:
        yield f"{found} instead of {expected}"


# --- runs ----------------------------------------------------------------------------------------

CHAIN = 6  # deaths of one run


class Crashes:
    """Runs of one program on one backend, killed and begun again until they end."""

    def __init__(
        self, lives: Lives, folder: Path, backend: str, width: int, tally: Tally | None = None
    ) -> None:
        self._lives = lives
        self._folder = folder
        self._backend = backend
        self._width = width
        self._count = 0
        self.tally = Tally() if tally is None else tally
        self.whole = self._undisturbed()
        assert self.whole.told is not None, self.whole.failure

    def _undisturbed(self) -> Life:
        folder = self._new_folder()
        witness = Witness(folder, self.tally)
        before = time.monotonic()
        life = self._live(folder)
        self.length = time.monotonic() - before  # seconds
        witness.look(life)
        assert life.told is not None, life.failure
        witness.end(life, life.told)
        for name, begun in witness.begun.items():
            if (counted := life.attempts.get(name, begun)) != begun:
                self.tally.note("other", f"{name!r} began {begun} times, and counts {counted}")
        self.bytes = sum(len(json.dumps(what)) + 1 for what in life.heard)
        return life

    def _new_folder(self) -> Path:
        self._count += 1
        folder = self._folder / f"{self._backend}-{self._count}"
        folder.mkdir(parents=True)
        (folder / "effects").touch()
        return folder

    def _live(self, folder: Path, **ends: Any) -> Life:
        return self._lives.live(Job(str(folder), self._backend, self._width, **ends))

    def die(self, deaths: Iterable[Death]) -> list[Death]:
        """Die each of these deaths, some of them in one run; return those that never came."""
        waiting, missed = deque(deaths), []
        while waiting:
            chain = [waiting.popleft() for _ in range(min(CHAIN, len(waiting)))]
            died = self.run(*({"death": death} for death in chain)).kills
            if not died:
                missed.append(chain.pop(0))
            waiting.extendleft(reversed(chain[died:]))
            if self.tally.violations:
                break
        return missed

    def run(self, *deaths: dict[str, Any], keep: Callable[[Life], object] = id) -> Witness:
        """Live until the run has ended; each life but the last is killed, if it comes so far."""
        folder = self._new_folder()
        witness = Witness(folder, self.tally)
        for ends in (*deaths, {}):
            before = len(self.tally.violations)
            life = self._live(folder, **ends)
            witness.look(life)
            keep(life)
            if len(self.tally.violations) > before or life.told is not None:
                break
        if life.told is not None:
            assert self.whole.told is not None
            witness.end(life, self.whole.told)
        if self.tally.violations:
            self.tally.violations[-1] += f"\n  after {deaths}, in {folder}"
        else:
            shutil.rmtree(folder)
        return witness


if __name__ == "__main__":
    serve()
