"""The rules of the house, enforced: import direction, the pure core, the public names, the text."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest

import dagron

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "dagron"

# Imports go downward only: a module imports from those before it, never from those behind it.
PURE = (
    "_errors",
    "_names",
    "_checks",
    "_status",
    "_value",
    "_keep",
    "_blame",
    "_policy",
    "_edge",
    "_modification",
    "_adjacency",
    "_landing",
    "_graph",
    "_history",
    "_times",
    "_node_result",
    "_family",
    "_critical_path",
    "_results",
    "_rows",
    "_facts",
    "_written",
    "_summary",
    "_events",
    "_tracking",
    "_tidings",
    "_readiness",
    "_offspring",
    "_retention",
    "_lanes",
    "_admission",
    "_statuses",
    "_growth",
    "_scheduler",
    "_stories",
    "_collect",
)
SHELL = (
    "_runner",
    "_logs",
    "_calls",
    "_raised",
    "_around",
    "_backend",
    "_conditions",
    "_current",
    "_limits",
    "_settings",
    "_gate",
    "_threads",
    "_drains",
    "_slots",
    "_suspects",
    "_away",
    "_bodies",
    "_sameness",
    "_ledger",
    "_replay",
    "_pump",
    "_growing",
    "_blocking",
    "_stream",
    "_reports",
    "_interrupt",
    "_hosting",
    "_durable",
    "_shell",
    "_run",
    "_rich",
    "_showing",
    "_executor",
    "_registered",
    "_signals",
    "_registry",
    "__init__",
    "__main__",
)
ORDER = PURE + SHELL

# Rooms: sub-packages for what is optional. Their modules import from the pure core (those of a room
# that is not pure, from all that stands below), and downward among themselves; nothing imports a
# room but the modules named here, and they do so on use.
ROOMS = {
    "render": (
        "_picture",
        "_text",
        "_from_graph",
        "_past",
        "_families",
        "_from_result",
        "_mermaid",
        "_dot",
        "_layers",
        "_ranks",
        "_heights",
        "_plan",
        "_style",
        "_legend",
        "_svg",
        "_course",
        "_packing",
        "_ticks",
        "_timeline_plan",
        "_timeline",
        "_files",
        "_trace",
        "_html_text",
        "_html_data",
        "_html_log",
        "_html",
        "_notebook",
        "__init__",
    ),
    "journal": (
        "_rows",
        "_locks",
        "_begun",
        "_failures",
        "_database",
        "_runs",
        "_claim",
        "_writer",
        "_store",
        "_recorded",
        "_globals",
        "_values",
        "_references",
        "_telling",
        "_chronicle",
        "_recorded_run",
        "_book",
        "_journal",
        "__init__",
    ),
    "runners": (
        "_pickles",
        "_entries",
        "_travel",
        "_worker",
        "_process",
        "_at_dask",
        "_dask",
        "_one_ray",
        "_at_ray",
        "_ray",
        "__init__",
    ),
    "integrations": ("_spans", "opentelemetry", "__init__"),
}
# The room that touches the disk and has threads, and the one that stands above the shell.
IMPURE_ROOMS = {"journal", "runners"}
PURE_ROOMS = [room for room in ROOMS if room != "runners"]  # which need no more than the core
WITH_EXTRAS = {"integrations"}  # rooms whose modules need more than the standard library
# What a module may import although it comes later: in a function, so that it is loaded on use.
ON_USE = {
    "_graph": {"render.__init__"},
    "_results": {"render.__init__", "_summary"},
}
FOR_TYPES = """if TYPE_CHECKING:
    from dagron.journal import Journal, NotLoaded, RecordedRun
"""
ROOM_MODULES = [f"{room}.{module}" for room, modules in ROOMS.items() for module in modules]
PURE_ROOM_MODULES = [
    module for module in ROOM_MODULES if module.partition(".")[0] not in IMPURE_ROOMS
]

IMPURE = {
    *("anyio", "asyncio", "trio"),
    *("threading", "queue", "concurrent"),
    *("time", "random", "logging", "os"),
}
HEAVY = {"asyncio", "concurrent", "email", "http", "logging", "sqlite3", "trio", "unittest"}

PUBLIC = [
    "BlockingWarning",
    "Cancelled",
    "ConditionError",
    "Current",
    "CycleError",
    "DAG",
    "DAGBuilder",
    "DagronError",
    "DuplicateEdgeError",
    "DuplicateNodeError",
    "Durations",
    "DynamicExecutor",
    "DynamicModification",
    "DynamicNodeSpec",
    "Edge",
    "Event",
    "EventLoopRunningError",
    "EventReader",
    "EventsMissed",
    "ExecutionResult",
    "ExpansionError",
    "Explanation",
    "Family",
    "Fault",
    "Fold",
    "Gate",
    "GateError",
    "GateRejectedError",
    "GraphDiff",
    "GraphError",
    "GraphMismatchError",
    "GraphModified",
    "Grow",
    "InternalError",
    "InvalidNameError",
    "Journal",
    "JournalCorruptError",
    "JournalError",
    "Limits",
    "LimitsInUseError",
    "LiveEvents",
    "LoopBlocked",
    "MissingExtraError",
    "MissingTaskError",
    "ModificationError",
    "NodeAdded",
    "NodeCancelled",
    "NodeCompleted",
    "NodeEvent",
    "NodeFailed",
    "NodePlaced",
    "NodePoisonedError",
    "NodePolicy",
    "NodeProgress",
    "NodeReady",
    "NodeRemoved",
    "NodeResult",
    "NodeRetrying",
    "NodeSkipped",
    "NodeStarted",
    "NodeStatus",
    "NodeTimeoutError",
    "NotAwaitedError",
    "NotLoaded",
    "NotPicklableError",
    "Place",
    "RecordedError",
    "RecordedRun",
    "RegisteredRun",
    "RegistryClosedError",
    "RegistryFullError",
    "ReplayError",
    "Retry",
    "Run",
    "RunFailedError",
    "RunFinished",
    "RunFinishedError",
    "RunInUseError",
    "RunRegistry",
    "RunSnapshot",
    "RunStarted",
    "Runner",
    "RunnerError",
    "RunnerLostError",
    "ServerSentEvents",
    "TaskSignatureError",
    "Trigger",
    "UnknownGroupError",
    "UnknownNodeError",
    "UnknownRunError",
    "UnknownRunnerError",
    "UnstorableError",
    "WorkerLostError",
    "all_done",
    "all_succeeded",
    "any_succeeded",
    "at_least",
    "check_cancelled",
    "current",
    "progress",
]


# --- what a module imports, by its syntax -------------------------------------------------------


def imported(source: str) -> set[str]:
    """The dotted names that a module of the package imports, wherever the statement stands."""
    found: set[str] = set()
    for statement in ast.walk(ast.parse(source)):
        if isinstance(statement, ast.Import):
            found.update(alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            # Level 1 is the package itself: it has one level, so there is nothing above to import.
            base = ".".join(filter(None, ["dagron" * statement.level, statement.module]))
            found.update(
                f"{base}.{alias.name}" if base == "dagron" else base for alias in statement.names
            )
    return found


def inner(source: str) -> set[str]:
    """The package's own modules among them; a name taken from `dagron` itself is its `__init__`."""
    found = set()
    for name in imported(source):
        root, _, rest = name.partition(".")
        if root == "dagron":
            first, *others = rest.split(".")
            if first in ROOMS:
                found.add(f"{first}.{others[0] if others else '__init__'}")
            else:
                found.add(first if first.startswith("_") else "__init__")
    return found


def rooms_on_import(source: str) -> set[str]:
    """The rooms that importing the module would import: those named outside of functions."""
    return {name for name in inner(on_import(source)) if name in ROOM_MODULES}


def upward(module: str, source: str) -> set[str]:
    """The imports of a module that do not go downward, but for those that it may make on use."""
    room, _, name = module.rpartition(".")
    if room:
        modules = ROOMS[room]
        below = modules[: modules.index(name)]
        above = PURE if room in PURE_ROOMS else ORDER
        return inner(source) - {*above, *(f"{room}.{other}" for other in below)}
    used = ON_USE.get(module, set()) - inner(on_import(source))
    return inner(source) - {*ORDER[: ORDER.index(module)], *used}


def on_import(source: str) -> str:
    """The source without what stands in functions: what runs when the module is imported."""
    tree = ast.parse(source)
    for statement in ast.walk(tree):
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            statement.body = [ast.Pass()]
    return ast.unparse(tree)


def impure(source: str) -> set[str]:
    return {name.partition(".")[0] for name in imported(source)} & IMPURE


def source_of(module: str) -> str:
    path = PACKAGE.joinpath(*module.split("."))
    source = path.with_name(f"{path.name}.py").read_text(encoding="utf-8")
    # A public name that is had on use needs its type all the same.
    return source if module != "__init__" else source.replace(FOR_TYPES, "")


def test_every_module_has_its_place_in_the_order() -> None:
    """Each module of the package stands in ORDER, and ORDER names no module that is gone."""
    there = {path.stem for path in PACKAGE.glob("*.py")}
    assert there == set(ORDER), (
        f"give these a place in ORDER (tests/test_house.py): {sorted(there - set(ORDER))}; "
        f"take these out of it: {sorted(set(ORDER) - there)}"
    )


@pytest.mark.parametrize("room", ROOMS)
def test_every_module_of_a_room_has_its_place(room: str) -> None:
    """Each module of a room stands in ROOMS, which names no module and no room that is gone."""
    assert {path.stem for path in (PACKAGE / room).glob("*.py")} == set(ROOMS[room])
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(ROOMS)


@pytest.mark.parametrize("module", [*ORDER, *ROOM_MODULES])
def test_imports_go_downward(module: str) -> None:
    """A module imports only modules that come before it, also on use and for the type checker."""
    assert upward(module, source_of(module)) == set()


@pytest.mark.parametrize("module", ORDER)
def test_rooms_are_imported_on_use(module: str) -> None:
    """Importing a module of the package imports no room: that waits for the first use."""
    assert rooms_on_import(source_of(module)) == set()


@pytest.mark.parametrize("module", [*PURE, *PURE_ROOM_MODULES])
def test_the_pure_core_names_no_impure_import(module: str) -> None:
    """No module of the core imports an event loop, threads, a clock, dice, a log or the system."""
    assert impure(source_of(module)) == set()


@pytest.mark.parametrize(
    "source",
    [
        "from ._executor import DynamicExecutor",
        "from . import _executor",
        "import dagron._executor",
        "from dagron import _executor, DAG",
        "from dagron import DAG",
        "import dagron",
        "from ._errors import GraphError, CycleError\nfrom ._graph import DAG",
        "def later():\n    from ._graph import DAG",
        "if TYPE_CHECKING:\n    from ._graph import DAG",
        "def later():\n    from dagron.render._svg import to_svg",
    ],
)
def test_an_upward_import_is_seen(source: str) -> None:
    """Every spelling of an import that does not go downward is found."""
    assert upward("_graph", source)


def test_an_import_on_use_stands_in_a_function() -> None:
    """A module that may import a later one on use may not do so when it is itself imported."""
    assert upward("_results", "def later():\n    from dagron._summary import summary_of") == set()
    assert upward("_results", "from dagron._summary import summary_of") == {"_summary"}
    assert upward("_events", "def later():\n    from dagron._tracking import x") == {"_tracking"}


@pytest.mark.parametrize(
    "source",
    [
        "from dagron import render",
        "import dagron.render",
        "from dagron.render import to_svg",
        "from dagron.render._svg import to_svg",
        "if TYPE_CHECKING:\n    from dagron import render",
        "class A:\n    from dagron import render",
    ],
)
def test_a_room_that_is_not_imported_on_use_is_seen(source: str) -> None:
    """Every spelling of an import of a room that does not wait for a use is found."""
    assert rooms_on_import(source)
    assert upward("_status", source)
    assert not rooms_on_import(f"def later():\n    import dagron.render\n    {source!r}")


@pytest.mark.parametrize(
    "source",
    [
        "from dagron._executor import DynamicExecutor",
        "import dagron",
        "from dagron.render import x",
    ],
)
def test_an_import_that_does_not_go_downward_in_a_room_is_seen(source: str) -> None:
    """A room's module may import the pure core and what stands below it, and nothing else."""
    assert upward("render._svg", source)
    assert upward("render._svg", "from dagron._graph import DAG") == set()


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "import os.path as p",
        "from concurrent.futures import Future",
        "import re, os",
    ],
)
def test_an_impure_import_is_seen(source: str) -> None:
    """Every spelling of an import that the core must not have is found."""
    assert impure(source)


def test_a_downward_import_is_allowed() -> None:
    """The errors are imported by all, and the standard library's pure modules as well."""
    source = "import heapq\nfrom ._errors import GraphError\nfrom dagron._errors import Fault"
    assert inner(source) == {"_errors"}
    assert upward("_graph", source) == set() == impure(source)


# --- what it imports when it runs ----------------------------------------------------------------


def python(*arguments: str) -> str:
    """What a fresh interpreter prints."""
    ran = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


# No site-packages, so there is no anyio to import, and an importer that refuses the rest to dagron
# (and only to dagron: `fnmatch` may import `os`). A stub stands for the package, since the real
# `__init__` imports the shell.
LOAD_THE_CORE = """
import builtins, importlib, sys, types

folder, modules, impure = sys.argv[1], sys.argv[2].split(), set(sys.argv[3].split())
honest = builtins.__import__

def guarded(name, globals=None, locals=None, fromlist=(), level=0):
    caller = (globals or {}).get("__name__", "")
    if level == 0 and caller.startswith("dagron.") and name.partition(".")[0] in impure:
        raise ImportError(f"{caller} imports {name}")
    return honest(name, globals, locals, fromlist, level)

builtins.__import__ = guarded
package = sys.modules["dagron"] = types.ModuleType("dagron")
package.__path__ = [folder]
for module in modules:
    importlib.import_module("dagron." + module)
print(*sorted(name for name in sys.modules if name.startswith("dagron.")))
"""


def load_the_core(folder: Path, *modules: str, refused: Iterable[str] = IMPURE) -> list[str]:
    arguments = (str(folder), " ".join(modules), " ".join(sorted(refused)))
    return python("-I", "-S", "-c", LOAD_THE_CORE, *arguments).split()


def test_the_pure_core_runs_without_anyio_and_the_system() -> None:
    """The core loads without anyio, with its own imports of I/O, clocks and threads refused."""
    assert load_the_core(PACKAGE, *PURE) == sorted(f"dagron.{module}" for module in PURE)


def test_the_scheduler_alone_needs_only_the_pure_core() -> None:
    """What importing the scheduler pulls in is part of the core."""
    assert set(load_the_core(PACKAGE, "_scheduler")) <= {f"dagron.{module}" for module in PURE}


@pytest.mark.parametrize("room", PURE_ROOMS)
def test_a_room_needs_only_itself_and_the_pure_core(room: str) -> None:
    """A room loads without anyio, and pulls in nothing of the package but the pure core."""
    own = {f"dagron.{room}", *(f"dagron.{room}.{module}" for module in ROOMS[room])}
    refused = {"anyio", "asyncio", "trio"} if room in IMPURE_ROOMS else IMPURE
    modules = [room]
    if room not in WITH_EXTRAS:
        modules += (f"{room}.{module}" for module in ROOMS[room] if module != "__init__")
    assert set(load_the_core(PACKAGE, *modules, refused=refused)) <= own | {
        f"dagron.{module}" for module in PURE
    }


def test_a_core_that_reads_a_clock_does_not_load(tmp_path: Path) -> None:
    """The guard of the two tests above does refuse."""
    (tmp_path / "_scheduler.py").write_text("import time\n")
    with pytest.raises(AssertionError, match=r"dagron\._scheduler imports time"):
        load_the_core(tmp_path, "_scheduler")


def test_importing_dagron_stays_light() -> None:
    """`import dagron` loads nothing heavy beyond what `import anyio` does; that waits for use."""
    code = "import sys, anyio; had = {*sys.modules}; import dagron; print(*{*sys.modules} - had)"
    added = python("-c", code).split()
    assert "dagron" in added
    assert HEAVY & {name.partition(".")[0] for name in added} == set()
    assert {f"dagron.{room}" for room in ROOMS} & set(added) == set()


# --- the public names ----------------------------------------------------------------------------


def test_the_public_names() -> None:
    """`dagron.__all__` holds these names and no others, each once."""
    assert sorted(dagron.__all__) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_documented_as_its_own(name: str) -> None:
    """Tracebacks and documentation say `dagron.X`, and X has a docstring that somebody wrote."""
    public = getattr(dagron, name)
    assert public.__module__ == "dagron"
    written = public.__doc__ or ""
    # A dataclass without a docstring is given its signature for one.
    assert written.strip()
    assert not written.startswith(f"{name}(")


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_method_is_documented(name: str) -> None:
    """Every public method and property of a public class has a docstring."""
    public = getattr(dagron, name)
    members = vars(public if isinstance(public, type) else type(public)).items()
    bare = [
        member
        for member, value in members
        if not member.startswith("_")
        and (callable(value) or isinstance(value, (property, classmethod, staticmethod)))
        and not (value.__doc__ or "").strip()
    ]
    assert bare == []


# --- the project ---------------------------------------------------------------------------------


def test_anyio_is_the_only_runtime_dependency() -> None:
    """Installing dagron installs anyio and nothing else."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [re.split(r"[^\w.-]", requirement)[0] for requirement in project["dependencies"]]
    assert names == ["anyio"]
    assert "dependencies" not in project.get("dynamic", [])


# A path that exists on one machine only, and the name of a folder beside the checkout.
FOREIGN = re.compile(r"(?<![\w.-])/(?:home|opt|root|Users|work)/|/tmp/\w/|\.\./shared\b")


def repository() -> list[Path]:
    """The files that are tracked or about to be; without git, all but hidden folders and caches."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        names = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return [path for path in ROOT.rglob("*") if path.is_file() and not hidden(path)]
    files = [ROOT / name for name in names.decode().split("\0") if name]
    return [path for path in files if path.is_file()]


def hidden(path: Path) -> bool:
    parts = path.relative_to(ROOT).parts[:-1]
    return any(part.startswith(".") or part in ("__pycache__", "venv") for part in parts)


def test_the_text_of_the_repository_is_about_the_project_alone() -> None:
    """No file names a path of somebody's machine."""
    files = repository()
    assert Path(__file__).resolve() in files
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in files
        for number, line in enumerate(path.read_bytes().decode(errors="replace").splitlines(), 1)
        if FOREIGN.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("line", ["see /{}/main", "PYTHONPATH=/{}/x", '"/{}/y"', "`/{}/`"])
@pytest.mark.parametrize("folder", ["work", "root", "home", "opt", "Users"])
def test_a_path_of_a_machine_is_seen(line: str, folder: str) -> None:
    """The pattern of the test above finds such a path in running text, code and settings."""
    assert FOREIGN.search(line.format(folder))
    assert not FOREIGN.search(f"https://example.org/{folder}/x and a/{folder}/x")
