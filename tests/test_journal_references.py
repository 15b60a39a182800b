"""What a journal keeps of callables that came from outside: names, and only of allowed modules."""

import json
import pickle
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial, wraps
from pathlib import Path
from shutil import rmtree  # what a module imports is there by name, and is not its own
from typing import Any

import anyio
import pytest

import storable
from dagron import (
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    ExecutionResult,
    Fold,
    Journal,
    JournalError,
    NodePolicy,
    Retry,
    UnstorableError,
)
from dagron._edge import Edge
from dagron._rows import OUTSIDE, STEP, Row
from dagron.journal._references import References
from dagron.journal._rows import parameters, statement
from dagron.journal._values import Values
from faults import GUARD, ROOT, graph, program

HERE = __name__


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


def text_of(*words: str, loud: bool = False) -> str:
    text = " ".join(words)
    return text.upper() if loud else text


def spread(name: str, result: str) -> DynamicModification:
    return DynamicModification([DynamicNodeSpec(f"{name}+", partial(text_of, result), [name])])


def is_loud(result: str) -> bool:
    return result.isupper()


def longest(most: int, name: str, result: str) -> int:
    return max(most, len(result))


def folded(folds: int) -> int:
    return folds


class Busy(Exception):
    pass


class Shape:
    def area(self) -> int:
        return 1


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def call(*arguments: Any) -> Any:
        return function(*arguments)

    return call


@decorated
def twice(number: int) -> int:
    return 2 * number


# --- what somebody else has written into the file ------------------------------------------------

KILLED = """
import shutil
import subprocess
import sys
from functools import partial

import anyio
import dagron

async def at_work():
    print("at work", flush=True)
    await anyio.sleep_forever()

folder = sys.argv[2]
tasks = {
    "copy": partial(shutil.copy, f"{folder}/a", f"{folder}/b"),
    "shell": partial(subprocess.call, ["true"]),
    "wait": at_work,
}
dag = dagron.DAG.builder().add_edge("wait", "copy").add_edge("wait", "shell").build()
executor = dagron.DynamicExecutor(dag, journal=dagron.Journal(sys.argv[1]))
executor.execute_sync(tasks, run_id="nightly")
"""


def bound(function: str, *arguments: object) -> dict[str, str]:
    """A partial, as a journal writes it."""
    return {"partial": function, "arguments": pickle.dumps((arguments, {})).hex()}


def forge(path: Path, change: dict[str, Any], kind: str = OUTSIDE, node: str | None = None) -> None:
    """Put a row into a file as the journal itself would have written it, with its checksum."""
    with closing(sqlite3.connect(path)) as connection, connection:
        [number] = connection.execute("SELECT number FROM runs").fetchone()
        [key] = connection.execute("SELECT max(id) FROM rows").fetchone()
        row = Row((key & (1 << 40) - 1) + 1, kind, node, 1.0, change=json.dumps(change))
        connection.execute(statement(1), parameters(number, [row]))


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that a killed run has left behind."""
    folder = tmp_path_factory.mktemp("killed")
    with program(KILLED, str(folder / "runs.db"), str(folder)) as running:
        running.wait_for("at work")
        running.signal(signal.SIGKILL)
        assert running.end()[0] == -signal.SIGKILL
    return folder


@pytest.fixture
def precious(killed: Path, tmp_path: Path) -> "Precious":
    return Precious(killed, tmp_path)


class Precious:
    """A folder, and a run that was killed, which goes on with tasks of `shutil`, `subprocess`."""

    def __init__(self, killed: Path, folder: Path) -> None:
        shutil.copytree(killed, folder, dirs_exist_ok=True)
        self.path = folder / "runs.db"
        self.folder = folder / "precious"
        self.folder.mkdir()
        (self.folder / "a").write_text("a")
        self.mark = folder / "mark"

    async def go_on(self, **options: Any) -> ExecutionResult:
        tasks = {
            "wait": lambda: None,
            "copy": partial(shutil.copy, self.folder / "a", self.folder / "b"),
            "shell": partial(subprocess.call, ["true"]),
        }
        dag = graph(edges="wait-copy wait-shell")
        with Journal(self.path, **options) as journal, anyio.fail_after(GUARD):
            return await DynamicExecutor(dag, journal=journal).execute(tasks, run_id="nightly")

    def is_untouched(self) -> bool:
        """Whether nothing has run: neither what was forged, nor what is left of the run."""
        names = {path.name for path in self.folder.iterdir()} if self.folder.exists() else set()
        return names == {"a"} and not self.mark.exists()


FORGED: list[tuple[str, str, list[str]]] = [
    ("shutil:rmtree", "the module 'shutil' is not allowed", []),
    ("subprocess:getoutput", "the module 'subprocess' is not allowed", []),
    ("subprocess:Popen", "the module 'subprocess' is not allowed", []),
    ("os:system", "the module 'os' is not allowed", []),
    ("builtins:exec", "the module 'builtins' is not allowed", []),
    (f"{HERE}:rmtree", f"the module '{HERE}' is not allowed", []),
    (f"{HERE}:rmtree", "rmtree is something else", [HERE]),
    ("storable:Popen", "storable.Popen is something else", ["storable"]),
    ("storable:partial", "storable.partial is something else", ["storable"]),
    ("storable:Popen.kill", "no function at the top level", ["storable"]),
    ("storable:nothing", "no attribute 'nothing'", ["storable"]),
    ("os:system", "os.system is something else", ["os"]),
]


@pytest.mark.parametrize(("kind", "node"), [(OUTSIDE, None), (STEP, "wait")])
@pytest.mark.parametrize(("function", "match", "allow"), FORGED)
async def test_a_forged_row_runs_nothing(
    precious: Precious, function: str, match: str, allow: list[str], kind: str, node: str | None
) -> None:
    """Who can write to the file of a killed run can have nothing called that no allowed module
    defines, though functions of the same modules are tasks of the run: the run is refused with an
    error that names the function, before anything of it runs.
    """
    argument = str(precious.folder) if "rmtree" in function else f"touch {precious.mark}"
    change = {"add": [{"name": "evil", "task": bound(function, argument)}]}
    forge(precious.path, change, kind, node)
    with pytest.raises(JournalError) as caught:
        await precious.go_on(allow=allow)
    assert precious.is_untouched()
    first, _, help = str(caught.value).partition("\n  help: ")
    assert match in first
    assert function in first
    assert help


async def test_without_the_forged_row(precious: Precious) -> None:
    """The run of the tests above does go on when nothing was forged; and with ``trust=True``,
    which promises nothing, what was forged runs: so the tests above can fail.
    """
    copy = precious.path.with_name("copy.db")
    with Journal(precious.path) as journal:
        journal.backup(copy)
    assert (await precious.go_on()).ok
    assert {path.name for path in precious.folder.iterdir()} == {"a", "b"}
    task = bound("subprocess:getoutput", f"touch {precious.mark}")
    precious.path = copy
    forge(copy, {"add": [{"name": "evil", "task": task}]})
    assert (await precious.go_on(trust=True)).ok
    assert precious.mark.exists()


async def test_forged_arguments(precious: Precious) -> None:
    """What is bound to a function of an allowed module is loaded as results are."""
    task = bound(f"{HERE}:text_of", partial(print, "code"))
    forge(precious.path, {"add": [{"name": "evil", "task": task}]})
    with pytest.raises(JournalError, match=r"functools\.partial is not allowed"):
        await precious.go_on(allow=[HERE])
    assert precious.is_untouched()


@pytest.mark.parametrize("where", ["task", "expander", "condition", "fold", "start"])
async def test_every_place_of_a_forged_row(precious: Precious, where: str) -> None:
    """It does not matter as what the function is to be called."""
    evil = bound("subprocess:getoutput", f"touch {precious.mark}")
    spec: dict[str, Any] = {"name": "evil", "task": f"{HERE}:text_of"}
    change: dict[str, Any] = {"add": [spec]}
    if where == "condition":
        change["connect"] = [["wait", "evil", evil]]
    elif where in ("fold", "start"):
        fold = {"fold": f"{HERE}:longest", "start": "builtins:int"}
        spec["policy"] = {"keep": {**fold, where: evil}}
    else:
        spec[where] = evil
    forge(precious.path, change)
    with pytest.raises(JournalError, match="'subprocess:getoutput': the module 'subprocess'"):
        await precious.go_on(allow=[HERE])
    assert precious.is_untouched()


# --- what the user has allowed -------------------------------------------------------------------


async def test_functions_of_an_allowed_module(path: Path) -> None:
    """What comes from outside may name functions and classes that an allowed module defines, the
    library's classes for data and its exceptions; when the run goes on, they are there. Without
    ``allow=`` it does not go on, and nothing is lost.
    """
    done: list[str] = []

    async def wait() -> str:
        if "cut" not in done:
            await anyio.sleep_forever()
        return "WAITED"

    policy = NodePolicy(
        retry=Retry(attempts=2, on=(Busy, OSError), initial_delay=0.0), keep=Fold(longest, int)
    )
    change = DynamicModification(
        [
            DynamicNodeSpec("text", partial(text_of, "a", loud=True), expander=spread),
            DynamicNodeSpec(
                "folds", partial(text_of, "b"), ["wait"], expander=spread, policy=policy
            ),
            DynamicNodeSpec("folded", folded, ["folds"]),
            DynamicNodeSpec("twice", partial(twice, 4), ["wait"]),
            DynamicNodeSpec("point", partial(storable.Point, 1.5), ["wait"]),
            DynamicNodeSpec("retried", text_of, ["wait"], policy=NodePolicy(retry=Retry(2))),
        ],
        add_edges=[Edge("wait", "text", condition=is_loud)],
    )

    def executor(journal: Journal) -> DynamicExecutor:
        return DynamicExecutor(graph("wait"), journal=journal)

    allow = [HERE, "storable"]
    with Journal(path, allow=allow) as journal, anyio.fail_after(GUARD):
        async with executor(journal).start({"wait": wait}, run_id="a") as run:
            await run.modify(change)
            run.cancel()
    done.append("cut")
    for missing in allow:
        rest = [module for module in allow if module != missing]
        with Journal(path, allow=rest) as journal:
            with pytest.raises(JournalError, match=rf'allow=\["{missing}"\]'):
                await executor(journal).execute({"wait": wait}, run_id="a")
    with Journal(path, allow=allow) as journal, anyio.fail_after(GUARD):
        result = await executor(journal).execute({"wait": wait}, run_id="a")
    assert {name: node.result for name, node in result.node_results.items()} == {
        "wait": "WAITED",
        "text": "A",
        "text+": "A",
        "folds": "b",
        "folded": 1,
        "twice": 8,
        "point": storable.Point(1.5),
        "retried": "",
    }


SCRIPT = """
import os
import signal
import sys
from functools import partial

import dagron


def hello(name):
    return f"hello {name}"


async def meet(grow):
    await grow(dagron.DynamicNodeSpec("hello", partial(hello, "Ada"), ["meet"]))
    if sys.argv[2] == "die":
        os.kill(os.getpid(), signal.SIGKILL)


dag = dagron.DAG.builder().add_node("meet").build()
with dagron.Journal(sys.argv[1], allow=eval(sys.argv[3])) as journal:
    result = dagron.DynamicExecutor(dag, journal=journal).execute_sync({"meet": meet}, run_id="a")
    print(result["hello"].result if "hello" in result else result["meet"].error)
"""


def test_functions_of_the_script_itself(path: Path) -> None:
    """A script lets its own functions in by the name ``__main__``, and finds them again when it
    goes on after it was killed; without, it says what to type.
    """
    script = path.with_name("script.py")
    script.write_text(SCRIPT)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(script), str(path), *arguments]
        return subprocess.run(
            command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60
        )

    assert run("die", "['__main__']").returncode == -signal.SIGKILL
    refused = run("live", "[]")
    assert 'write Journal(..., allow=["__main__"])' in refused.stderr
    assert "JournalError: a recorded function cannot be had" in refused.stderr
    assert run("live", "['__main__']").stdout == "hello Ada\n"
    path.unlink()
    assert run("live", "[]").stdout == (
        "the task of node 'hello' cannot be written into the journal: "
        "the module '__main__' is not allowed\n"
        '  help: write Journal(..., allow=["__main__"]): then whoever can write to the file can '
        "call what that module defines\n"
    )


# --- what is said --------------------------------------------------------------------------------


def references(*allow: str, trust: bool = False) -> References:
    return References(Values(allow, trust=trust), allow, trust=trust)


def nested() -> Callable[..., Any]:
    def inner() -> None:
        pass

    return inner


LIKE_PRESENT = (
    "\n  help: make it a function of a module, and bind values with functools.partial: nobody "
    "could make it again when the run goes on"
)
UNNAMED: list[tuple[Callable[..., Any], str]] = [
    (lambda: None, "<lambda> is no function at the top level of a module"),
    (nested(), "nested.<locals>.inner is no function at the top level of a module"),
    (Shape.area, "Shape.area is no function at the top level of a module"),
    (Shape().area, "it is no function at the top level of a module"),
    (print, "it is no function at the top level of a module"),
    (storable.Liar, "builtins.Liar is something else"),
    (twice.__wrapped__, f"{HERE}.twice is something else"),  # type: ignore[attr-defined]
    (map, "the module 'builtins' is not allowed"),
]


@pytest.mark.parametrize("is_bound", [False, True])
@pytest.mark.parametrize(("function", "reason"), UNNAMED)
def test_what_has_no_name(function: Callable[..., Any], reason: str, is_bound: bool) -> None:
    """What no ``allow=`` would let in, bound or not, is refused with what to do instead."""
    with pytest.raises(UnstorableError) as caught:
        references(HERE).refer(partial(function) if is_bound else function, "the task of node 'a'")
    assert str(caught.value) == (
        f"the task of node 'a' cannot be written into the journal: {reason}{LIKE_PRESENT}"
    )
    assert caught.value.node == "the task of node 'a'"


@pytest.mark.parametrize(
    ("function", "module"),
    [(text_of, HERE), (rmtree, "shutil"), (anyio.sleep, anyio.sleep.__module__), (Busy, HERE)],
)
def test_what_is_not_allowed_says_what_to_type(function: Callable[..., Any], module: str) -> None:
    """A function whose module is not allowed is refused with the module that defines it, wherever
    it was imported from.
    """
    with pytest.raises(UnstorableError) as caught:
        references("storable").refer(partial(partial(function)), "the task of node 'a'")
    assert str(caught.value) == (
        f"the task of node 'a' cannot be written into the journal: the module '{module}' is not "
        f'allowed\n  help: write Journal(..., allow=["{module}"]): then whoever can write to the '
        f"file can call what that module defines"
    )


def test_what_is_recorded_and_not_allowed_says_what_to_type() -> None:
    """On a resume the error names the module as well, and that it may have been somebody else."""
    with pytest.raises(JournalError) as caught:
        references("storable").resolve("myapp.crawler:fetch")
    assert str(caught.value) == (
        "a recorded function cannot be had: 'myapp.crawler:fetch': the module 'myapp.crawler' is "
        "not allowed\n  help: if your program adds it, write Journal(..., "
        'allow=["myapp.crawler"]); if not, somebody has changed the file'
    )


@pytest.mark.parametrize(
    ("reference", "allow"),
    [("builtins:eval", ()), (f"{HERE}:gone", (HERE,)), (f"{HERE}:a.b", ()), (None, ())],
)
def test_what_is_recorded_and_cannot_be_had(reference: Any, allow: tuple[str, ...]) -> None:
    """Where no ``allow=`` would help, or none is missing, the program is another one."""
    with pytest.raises(JournalError, match="help: go on with the program that began the run"):
        references(*allow).resolve(reference)


def test_a_module_that_is_not_allowed_is_not_imported() -> None:
    """To import a module is to run it: one that nobody has allowed is refused before."""
    assert "antigravity" not in sys.modules
    with pytest.raises(JournalError, match="is not allowed"):
        references().resolve("antigravity:fly")
    assert "antigravity" not in sys.modules


def test_a_hostile_module_stays_in_its_line() -> None:
    """What the file names is shown quoted, and cut."""
    with pytest.raises(JournalError) as caught:
        references().resolve("a\nhelp: b\x1b[31m" + "c" * 10_000 + ":d")
    assert str(caught.value).count("\n") == 1
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_trust_lets_in_everything_that_has_a_name() -> None:
    """With trust=True functions of every module are written and found again."""
    for function in (rmtree, anyio.sleep, map, Busy):
        trusting = references(trust=True)
        assert trusting.resolve(trusting.refer(function, "it")) is function
