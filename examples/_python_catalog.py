"""Build a SQLite database from what every Python installation carries: its own library.

Packages, modules, classes, functions and imports come from reading the standard library with
`ast`, characters from `unicodedata`, time zones from `zoneinfo`. Nothing is downloaded and nothing
is made up, so what a profile finds in it (imports of modules that do not exist, say) is real.

Unicode's own block names are not in the standard library. A row of `blocks` is therefore one page
of 256 code points, and its `script` is the word with which most names on that page begin.
"""

import ast
import os
import sqlite3
import sys
import sysconfig
import tempfile
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

LAYOUT = 1  # raise it with every change to SCHEMA or to what is collected

SCHEMA = """
CREATE TABLE packages (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    parent_id INTEGER REFERENCES packages
);
CREATE TABLE modules (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    package_id INTEGER REFERENCES packages,
    path TEXT,
    bytes INTEGER,
    lines INTEGER
);
CREATE TABLE imports (
    module_id INTEGER NOT NULL REFERENCES modules,
    target TEXT NOT NULL REFERENCES modules (name),
    line INTEGER NOT NULL,
    PRIMARY KEY (module_id, target)
) WITHOUT ROWID;
CREATE TABLE classes (
    id INTEGER PRIMARY KEY,
    module_id INTEGER NOT NULL REFERENCES modules,
    name TEXT NOT NULL,
    line INTEGER NOT NULL,
    bases INTEGER NOT NULL,
    summary TEXT
);
CREATE TABLE functions (
    id INTEGER PRIMARY KEY,
    module_id INTEGER NOT NULL REFERENCES modules,
    class_id INTEGER REFERENCES classes,
    name TEXT NOT NULL,
    line INTEGER NOT NULL,
    parameters INTEGER NOT NULL,
    is_async INTEGER NOT NULL,
    summary TEXT
);
CREATE TABLE categories (
    code TEXT PRIMARY KEY,
    major TEXT NOT NULL GENERATED ALWAYS AS (substr(code, 1, 1)) VIRTUAL
) WITHOUT ROWID;
CREATE TABLE blocks (
    first INTEGER PRIMARY KEY,
    last INTEGER NOT NULL,
    plane INTEGER NOT NULL,
    script TEXT NOT NULL
);
CREATE TABLE characters (
    code INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    block INTEGER NOT NULL REFERENCES blocks,
    category TEXT NOT NULL REFERENCES categories,
    direction TEXT,
    value REAL,
    uppercase INTEGER REFERENCES characters
);
CREATE TABLE areas (
    name TEXT PRIMARY KEY
) WITHOUT ROWID;
CREATE TABLE time_zones (
    name TEXT PRIMARY KEY,
    area TEXT REFERENCES areas
) WITHOUT ROWID;
CREATE TABLE zone_offsets (
    zone TEXT NOT NULL REFERENCES time_zones,
    month INTEGER NOT NULL,
    minutes INTEGER NOT NULL,
    PRIMARY KEY (zone, month)
) WITHOUT ROWID;
"""

# Folders of the standard library that hold tests, an application, or what others installed.
NOT_READ = {"__pycache__", "idlelib", "site-packages", "test", "tests"}

# Their names are computed from the code point: 100,000 rows that would say nothing new.
COMPUTED_NAMES = ("CJK UNIFIED", "CJK COMPAT", "HANGUL SYLLABLE", "TANGUT ", "NUSHU ", "KHITAN ")


# ---- where the database is ----------------------------------------------------------------------


def python_database(folder: Path | None = None) -> tuple[Path, bool]:
    """Return the database of this Python and whether it was built just now.

    It is kept in the user's cache folder (or in `folder`) and reused by the same Python version.
    Without a cache folder that can be written to, it goes to a new temporary one.
    """
    folder = folder or cache_folder()
    version = ".".join(map(str, sys.version_info[:3]))
    name = f"{sys.implementation.name}-{version}-v{LAYOUT}.db"
    if (folder / name).is_file():
        return folder / name, False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        build_atomically(folder / name)
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix="dagron-examples-"))
        build_atomically(folder / name)
    return folder / name, True


def cache_folder() -> Path:
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "")
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME", "")
    expanded = Path(base or "~/.cache").expanduser()
    return (expanded if expanded.is_absolute() else Path(tempfile.gettempdir())) / "dagron-examples"


def build_atomically(path: Path) -> None:
    """Build under a temporary name: `path` is there complete or not at all."""
    handle, name = tempfile.mkstemp(prefix=path.stem, suffix=".partial", dir=path.parent)
    os.close(handle)
    try:
        with closing(sqlite3.connect(name)) as connection:
            # Nobody else sees this file, so a rollback journal on disk protects nothing.
            connection.execute("PRAGMA journal_mode = MEMORY")
            connection.executescript(SCHEMA)
            with connection:
                fill(connection)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def fill(connection: sqlite3.Connection) -> None:
    fill_library(connection, Path(sysconfig.get_path("stdlib")))
    fill_characters(connection)
    fill_time_zones(connection)


def insert(connection: sqlite3.Connection, table: str, rows: list[dict]) -> None:
    """Insert rows that all have the keys of the first one."""
    if rows:
        names = ", ".join(rows[0])
        values = ", ".join(f":{name}" for name in rows[0])
        connection.executemany(f"INSERT INTO {table} ({names}) VALUES ({values})", rows)


# ---- packages, modules, classes, functions, imports ---------------------------------------------


def fill_library(connection: sqlite3.Connection, root: Path) -> None:
    sources = dict(library_sources(root, ""))
    names = sorted(set(sources) | set(sys.stdlib_module_names))
    module_ids = {name: number for number, name in enumerate(names, start=1)}
    is_package = (name for name, path in sources.items() if path.name == "__init__.py")
    package_ids = {name: number for number, name in enumerate(sorted(is_package), start=1)}

    packages = [
        {"id": number, "name": name, "parent_id": package_ids.get(name.rpartition(".")[0])}
        for name, number in package_ids.items()
    ]
    modules = []
    found = Definitions()
    for name, number in module_ids.items():
        path = sources.get(name)
        package = name if name in package_ids else name.rpartition(".")[0]
        source = path.read_bytes() if path else None
        modules.append(
            {
                "id": number,
                "name": name,
                "package_id": package_ids.get(package),
                "path": path and path.relative_to(root).as_posix(),
                "bytes": None if source is None else len(source),
                "lines": None if source is None else source.count(b"\n"),
            }
        )
        if source:
            found.read(number, package, source)

    insert(connection, "packages", packages)
    insert(connection, "modules", modules)
    insert(connection, "imports", found.imports)
    insert(connection, "classes", found.classes)
    insert(connection, "functions", found.functions)


def library_sources(folder: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    """Every module of the library with its file: `json.decoder`, and `json` for a package."""
    for path in sorted(folder.iterdir()):
        if path.suffix == ".py" and path.stem.isidentifier():
            is_init = path.stem == "__init__"
            yield (prefix.rstrip(".") if is_init else prefix + path.stem), path
        elif path.name not in NOT_READ and (path / "__init__.py").is_file():
            yield from library_sources(path, f"{prefix}{path.name}.")


class Definitions:
    """The rows that reading source files adds to `imports`, `classes` and `functions`."""

    def __init__(self) -> None:
        self.imports: list[dict] = []
        self.classes: list[dict] = []
        self.functions: list[dict] = []

    def read(self, module_id: int, package: str, source: bytes) -> None:
        """Add what one module defines; a file that this Python cannot parse adds nothing."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(source)
        except (SyntaxError, ValueError):
            return
        lines: dict[str, int] = {}
        self._read_body(tree, module_id, None, package, lines)
        self.imports += [
            {"module_id": module_id, "target": target, "line": line}
            for target, line in lines.items()
        ]

    def _read_body(
        self,
        parent: ast.AST,
        module_id: int,
        class_id: int | None,
        package: str,
        lines: dict[str, int],
    ) -> None:
        for node in ast.iter_child_nodes(parent):
            inside = class_id
            if isinstance(node, ast.ClassDef):
                inside = self._add_class(node, module_id)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self._add_function(node, module_id, class_id)
                inside = None
            elif isinstance(node, ast.Import | ast.ImportFrom):
                for target in imported(node, package):
                    lines.setdefault(target, node.lineno)
            elif not isinstance(node, ast.stmt | ast.excepthandler | ast.match_case):
                continue  # an expression defines nothing
            self._read_body(node, module_id, inside, package, lines)

    def _add_class(self, node: ast.ClassDef, module_id: int) -> int:
        number = len(self.classes) + 1
        self.classes.append(
            {
                "id": number,
                "module_id": module_id,
                "name": node.name,
                "line": node.lineno,
                "bases": len(node.bases),
                "summary": summary(node),
            }
        )
        return number

    def _add_function(
        self,
        node: ast.FunctionDef | ast.AsyncFunctionDef,
        module_id: int,
        class_id: int | None,
    ) -> None:
        taken = node.args
        rest = (taken.vararg is not None) + (taken.kwarg is not None)
        self.functions.append(
            {
                "id": len(self.functions) + 1,
                "module_id": module_id,
                "class_id": class_id,
                "name": node.name,
                "line": node.lineno,
                "parameters": len(taken.posonlyargs + taken.args + taken.kwonlyargs) + rest,
                "is_async": isinstance(node, ast.AsyncFunctionDef),
                "summary": summary(node),
            }
        )


def imported(node: ast.Import | ast.ImportFrom, package: str) -> list[str]:
    """The absolute names of the modules that an import statement names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if node.level == 0:
        return [node.module or ""]
    above = package.split(".")[: len(package.split(".")) - node.level + 1]
    return [".".join(above + ([node.module] if node.module else []))]


def summary(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str | None:
    text = ast.get_docstring(node, clean=False)
    lines = text.strip().splitlines() if text else []
    return lines[0].strip() if lines else None


# ---- Unicode ------------------------------------------------------------------------------------


def fill_characters(connection: sqlite3.Connection) -> None:
    characters = list(named_characters())
    codes = {character["code"] for character in characters}
    scripts: dict[int, Counter[str]] = {}
    for character in characters:
        if character["uppercase"] not in codes:
            character["uppercase"] = None
        scripts.setdefault(character["block"], Counter())[first_word(character["name"])] += 1

    categories = sorted({character["category"] for character in characters})
    blocks = [
        {
            "first": first,
            "last": first + 255,
            "plane": first >> 16,
            "script": words.most_common(1)[0][0],
        }
        for first, words in scripts.items()
    ]
    insert(connection, "categories", [{"code": code} for code in categories])
    insert(connection, "blocks", blocks)
    insert(connection, "characters", characters)


def named_characters() -> Iterator[dict]:
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        name = unicodedata.name(character, "")
        if not name or name.startswith(COMPUTED_NAMES):
            continue
        upper = character.upper()
        yield {
            "code": code,
            "name": name,
            "block": code & ~0xFF,
            "category": unicodedata.category(character),
            "direction": unicodedata.bidirectional(character) or None,
            "value": unicodedata.numeric(character, None),
            "uppercase": ord(upper) if len(upper) == 1 and upper != character else None,
        }


def first_word(name: str) -> str:
    return name.partition(" ")[0]


# ---- time zones ---------------------------------------------------------------------------------


def fill_time_zones(connection: sqlite3.Connection) -> None:
    """Add what this machine knows of time zones; without tzdata the three tables stay empty."""
    names = sorted(available_timezones())
    zones = [{"name": name, "area": name.rpartition("/")[0] or None} for name in names]
    areas = sorted({zone["area"] for zone in zones if zone["area"]})
    insert(connection, "areas", [{"name": area} for area in areas])
    insert(connection, "time_zones", zones)
    insert(connection, "zone_offsets", [row for name in names for row in offsets(name)])


def offsets(zone: str, year: int = 2024) -> list[dict]:
    """The distance from UTC at noon on the first day of each month."""
    clock = ZoneInfo(zone)
    noons = (datetime(year, month, 1, 12, tzinfo=clock) for month in range(1, 13))
    return [
        {"zone": zone, "month": noon.month, "minutes": noon.utcoffset() // timedelta(minutes=1)}
        for noon in noons
    ]
