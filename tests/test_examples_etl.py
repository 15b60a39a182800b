"""examples/etl_tables.py on the database that it builds, on given ones, and on what goes wrong."""

import re
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import dagron
from example_runs import imported, runner

run = runner("etl_tables")

SHOP = """
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, friend INTEGER REFERENCES users);
INSERT INTO users VALUES (1, 'Ada', NULL), (2, 'Bob', 1), (3, 'Bob', 9);
CREATE TABLE orders (
    id INTEGER PRIMARY KEY, user_id REFERENCES users (id), total REAL,
    paid AS (total > 0), note BLOB
);
INSERT INTO orders (user_id, total, note) VALUES (1, 5.5, x'00ff'), (7, 2, NULL), (7, -1, NULL),
    (8, 0, NULL), (NULL, 9, NULL);
CREATE TABLE none (a, b);
"""

HOSTILE = [
    "select",
    "two words",
    'say "hi"',
    "it's",
    "a.b",
    "a",
    "b.c",
    "a->b",
    "a#2",
    "[x]",
    "`tick`",
    "back\\slash",
    "bar|bar",
    "<script>alert(1)</script>",
    "line\nbreak",
    "tab\tbell\a",
    "\u202egnp",
    "Ünï😀",
    "%00 ?mode=rw#",
    "; DROP TABLE users; --",
    "x" * 700,
    "x" * 701,
    "",
]


@pytest.fixture(scope="module")
def etl() -> Iterator[SimpleNamespace]:
    """The modules of the example, as a script in their folder sees them."""
    names = ["etl_tables", "_python_catalog", "_sqlite_profile", "_markdown_report"]
    with imported(*names) as [main, catalog, profile, report]:
        yield SimpleNamespace(main=main, catalog=catalog, profile=profile, report=report)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def first_run(home: Path) -> subprocess.CompletedProcess[str]:
    """The program as it is started for the first time: without a database."""
    return run(cwd=home, **caches_in(home))


@pytest.fixture(scope="module")
def library(first_run: subprocess.CompletedProcess[str]) -> Path:
    """The database that the first run has built."""
    [line] = [line for line in first_run.stdout.splitlines() if line.startswith("Database: ")]
    return Path(line.removeprefix("Database: "))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def caches_in(home: Path) -> dict[str, str]:
    """The environment in which this folder holds the user's cache, whatever the platform."""
    return {"HOME": str(home), "XDG_CACHE_HOME": str(home), "LOCALAPPDATA": str(home)}


def make(path: Path, script: str) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
    return path


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@dataclass
class Read:
    """What `main` did with a database, and what it said."""

    code: int
    out: str
    err: str
    report: str


@pytest.fixture
def read(
    etl: SimpleNamespace, here: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Read]:
    """Run the program in this process on a database in the current folder."""

    def call(database: Path, *options: str) -> Read:
        code = etl.main.main([str(database), "--report", "report.md", "--lock-wait", "0", *options])
        report = Path("report.md")
        text = report.read_text(encoding="utf-8") if report.exists() else ""
        return Read(code, *capsys.readouterr(), text)

    return call


@pytest.fixture
def after_discover(
    etl: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[Path], object]], None]:
    """Let something happen to the database between its discovery and the profiles."""

    def install(happen: Callable[[Path], object]) -> None:
        class Eventful(etl.main.Job):
            def discover(self) -> Any:
                tables = super().discover()
                happen(self.database)
                return tables

        monkeypatch.setattr(etl.main, "Job", Eventful)

    return install


@contextmanager
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program that holds the database for itself."""
    with closing(sqlite3.connect(path, check_same_thread=False)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield connection


# ---- the database that every machine has --------------------------------------------------------


def test_first_run(first_run: subprocess.CompletedProcess[str], home: Path, library: Path) -> None:
    """Given nothing, the program builds a database in the user's cache and reads it."""
    assert (first_run.returncode, first_run.stderr) == (0, "")
    assert "... built\n" in first_run.stdout
    assert library.is_relative_to(home)
    assert library.parent.name == "dagron-examples"
    report = Path(first_run.stdout.splitlines()[-1].removeprefix("Report: "))
    assert sorted(library.parent.iterdir()) == sorted([library, report])
    text = report.read_text(encoding="utf-8")
    assert text.startswith(f"# Profile of `{library.name}`\n")
    assert "\n### `characters`\n" in text


def test_first_run_shows_what_was_added_by_whom(
    first_run: subprocess.CompletedProcess[str],
) -> None:
    """Each node that was added at run time stands, with a plus, under the node that added it."""
    tree = first_run.stdout[first_run.stdout.index("What ran: 26 nodes in ") :]
    assert "The graph began with 3;\n23 were added at run time (+)" in tree
    order = [
        "\n  discover  ",
        "\n    + profile:areas  ",
        "\n    + profile:functions  ",
        "\n      + check:functions.module_id->modules  ",
        "\n      + check:functions.class_id->classes  ",
        "\n    + profile:imports  ",
        "\n  aggregate  ",
        "\n  publish  ",
    ]
    places = [tree.index(text) for text in order]
    assert places == sorted(places)


def test_second_run(library: Path, home: Path, here: Path) -> None:
    """The database is built once, reading it does not change it, and nothing else is left."""
    before = library.read_bytes()
    done = run(cwd=here, **caches_in(home))
    assert (done.returncode, done.stderr) == (0, "")
    assert "... built earlier\n" in done.stdout
    assert library.read_bytes() == before
    assert list(here.iterdir()) == []


def test_library_is_real(library: Path) -> None:
    """The built database holds tens of thousands of rows of what this Python is made of."""
    with closing(sqlite3.connect(library)) as connection:

        def ask(sql: str) -> list[tuple[Any, ...]]:
            return connection.execute(sql).fetchall()

        tables = [name for [name] in ask("SELECT name FROM sqlite_master WHERE type = 'table'")]
        assert sum(ask(f"SELECT count(*) FROM {name}")[0][0] for name in tables) > 20_000
        assert ask(
            "SELECT m.name, p.name, f.name, f.summary FROM functions f JOIN modules m "
            "ON m.id = f.module_id JOIN packages p ON p.id = m.package_id "
            "WHERE p.name = 'json' AND f.name = 'dumps'"
        ) == [("json", "json", "dumps", "Serialize ``obj`` to a JSON formatted ``str``.")]
        assert ask(
            "SELECT c.name, m.name FROM classes c JOIN functions f ON f.class_id = c.id "
            "JOIN modules m ON m.id = c.module_id WHERE f.name = 'total_seconds'"
        )
        assert ask(
            "SELECT c.name, c.category, u.name, b.script FROM characters c "
            "JOIN characters u ON u.code = c.uppercase JOIN blocks b ON b.first = c.block "
            "WHERE c.code = 233"
        ) == [
            (
                "LATIN SMALL LETTER E WITH ACUTE",
                "Ll",
                "LATIN CAPITAL LETTER E WITH ACUTE",
                "LATIN",
            )
        ]
        # SQLite's own check finds orphans in one key alone: imports of what this Python lacks.
        broken = {(row[0], row[2]) for row in ask("PRAGMA foreign_key_check")}
        assert broken == {("imports", "modules")}


def test_program_agrees_with_sqlite(etl: SimpleNamespace, library: Path, here: Path) -> None:
    """The orphans that the check nodes count are those that SQLite's own check finds."""
    with closing(sqlite3.connect(library)) as connection:
        expected = len(connection.execute("PRAGMA foreign_key_check").fetchall())
    result = etl.main.Job(library, here / "report.md").run(workers=2)
    summary = result["aggregate"].result
    assert result.ok
    assert [(c.table, c.key.columns, c.orphans) for c in summary.broken] == [
        ("imports", ("target",), expected)
    ]


def test_without_time_zone_data(etl: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without time zone data gets the three tables, empty."""
    monkeypatch.setattr(etl.catalog, "available_timezones", set)
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(etl.catalog.SCHEMA)
        etl.catalog.fill_time_zones(connection)
        for table in ("areas", "time_zones", "zone_offsets"):
            assert connection.execute(f"SELECT * FROM {table}").fetchall() == []


def test_interrupted_build_leaves_nothing(
    etl: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A build that is interrupted half-way leaves no file, and the next one succeeds."""

    def interrupted(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO areas VALUES ('half')")
        assert len(list(tmp_path.iterdir())) == 1
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(etl.catalog, "fill", interrupted)
        with pytest.raises(KeyboardInterrupt):
            etl.catalog.python_database(tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(etl.catalog, "fill", lambda connection: None)
    path, is_new = etl.catalog.python_database(tmp_path)
    assert (list(tmp_path.iterdir()), is_new) == ([path], True)
    assert etl.catalog.python_database(tmp_path) == (path, False)


def test_no_cache_folder(
    etl: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where no cache can be written, the database goes to a temporary folder."""
    monkeypatch.setattr(etl.catalog, "fill", lambda connection: None)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "file").touch()
    path, is_new = etl.catalog.python_database(tmp_path / "file" / "cache")
    assert is_new
    assert path.parent.parent == tmp_path


# ---- a given database ---------------------------------------------------------------------------


def test_given_database(here: Path) -> None:
    """A given database is not changed; orphans in it are found, and are no failure."""
    database = make(here / "shop.db", SHOP)
    before = database.read_bytes()
    done = run("shop.db", "--workers", "1", cwd=here)
    assert (done.returncode, done.stderr) == (0, "")
    assert "orphans: orders (user_id) -> users (id): 3 of 4 rows without a parent" in done.stdout
    assert "+ check:users.friend->users " in done.stdout
    text = (here / "shop.report.md").read_text(encoding="utf-8")
    assert done.stdout.endswith(f"\nReport: {here / 'shop.report.md'}\n")
    assert "| `orders (user_id) -> users (id)` | 4 | 3 of 4 rows without a parent, such as" in text
    assert "such as `7`, `8` |" in text
    assert sorted(path.name for path in here.iterdir()) == ["shop.db", "shop.report.md"]
    assert database.read_bytes() == before


def test_profile_of_a_table(etl: SimpleNamespace, here: Path) -> None:
    """A profile has rows, columns, nulls, minimum and maximum, and the most frequent values."""
    job = etl.main.Job(make(here / "shop.db", SHOP), here / "report.md")
    profiles = {p.table.name: p for p in job.run(workers=2)["aggregate"].result.profiles}
    column = etl.profile.Column
    assert profiles["users"].rows == 3
    assert profiles["users"].columns == (
        column("id", "INTEGER", 0, 1, 3, ()),
        column("name", "TEXT", 0, "Ada", "Bob", (("Bob", 2), ("Ada", 1))),
        column("friend", "INTEGER", 1, 1, 9, ((1, 1), (9, 1))),
    )
    assert profiles["orders"].columns[3:] == (
        column("paid", "any (generated)", 0, 0, 1, ((1, 3), (0, 2))),
        column("note", "BLOB", 4, *["(blob of 2 bytes)"] * 2, (("(blob of 2 bytes)", 1),)),
    )
    assert profiles["none"].rows == 0
    assert profiles["none"].columns[0] == column("a", "any", 0, None, None, ())


def test_who_added_what(etl: SimpleNamespace, here: Path) -> None:
    """`discover` adds the profiles, a profile its checks, and `aggregate` waits for all."""
    result = etl.main.Job(make(here / "shop.db", SHOP), here / "report.md").run(workers=2)
    assert {name: node.added_by for name, node in result.node_results.items()} == {
        "discover": None,
        "profile:none": "discover",
        "profile:orders": "discover",
        "check:orders.user_id->users": "profile:orders",
        "profile:users": "discover",
        "check:users.friend->users": "profile:users",
        "aggregate": None,
        "publish": None,
    }
    waits_for = set(result.dag.dependencies("aggregate"))
    assert waits_for == set(result.dag.nodes()) - {"aggregate", "publish"}


KEYS = """
CREATE TABLE pairs (a, b, label, PRIMARY KEY (a, b)) WITHOUT ROWID;
INSERT INTO pairs VALUES (1, 1, 'x'), (1, 2, 'y');
CREATE TABLE whole (a, b, FOREIGN KEY (a, b) REFERENCES pairs (a, b));
INSERT INTO whole VALUES (1, 1), (1, 2), (2, 1), (1, NULL);
CREATE TABLE unnamed (a, b, FOREIGN KEY (a, b) REFERENCES pairs);
INSERT INTO unnamed VALUES (1, 2), (2, 2);
CREATE TABLE caseless (code TEXT COLLATE NOCASE UNIQUE);
INSERT INTO caseless VALUES ('abc'), ('7');
CREATE TABLE sloppy (code TEXT REFERENCES caseless (code));
INSERT INTO sloppy VALUES ('ABC'), ('7'), ('nope');
CREATE TABLE lost (a REFERENCES nowhere, b REFERENCES pairs (missing));
INSERT INTO lost VALUES (1, 1), (NULL, 1);
CREATE TABLE narrow (a REFERENCES pairs);
CREATE TABLE twice (a REFERENCES caseless (code) REFERENCES caseless (code));
CREATE TABLE tree (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES tree);
INSERT INTO tree VALUES (1, NULL), (2, 1), (3, 2), (4, 44);
"""


def test_kinds_of_foreign_keys(etl: SimpleNamespace, here: Path) -> None:
    """Composite keys, those that name no column, self-references and nonsense are told apart."""
    result = etl.main.Job(make(here / "keys.db", KEYS), here / "report.md").run(workers=2)
    checks = {
        name: (node.result.rows, node.result.orphans, node.result.examples)
        for name, node in result.node_results.items()
        if name.startswith("check:")
    }
    assert checks == {
        "check:whole.a,b->pairs": (3, 1, ((2, 1),)),
        "check:unnamed.a,b->pairs": (2, 1, ((2, 2),)),
        "check:sloppy.code->caseless": (3, 1, (("nope",),)),
        "check:lost.a->nowhere": (1, 1, ((1,),)),
        "check:lost.b->pairs": (0, 0, ()),
        "check:narrow.a->pairs": (0, 0, ()),
        "check:twice.a->caseless": (0, 0, ()),
        "check:twice.a->caseless#2": (0, 0, ()),
        "check:tree.parent->tree": (3, 1, ((44,),)),
    }
    assert result["check:lost.a->nowhere"].result.remark == "there is no table nowhere"
    assert [error for _, _, error in result["aggregate"].result.errors] == [
        "no such column: p.missing",
        "the key has 1 column(s), but the primary key of pairs has 2",
    ]


@pytest.mark.parametrize(
    "row", ["", "INSERT INTO child VALUES (1);", "INSERT INTO child VALUES (NULL)"]
)
def test_key_to_a_missing_table(read: Callable[..., Read], here: Path, row: str) -> None:
    """A key to a table that does not exist is a finding, whatever rows the child table has."""
    seen = read(make(here / "x.db", f"CREATE TABLE child (a REFERENCES gone); {row}"))
    orphans = "1 of 1 row without a parent, such as {}; " if "(1)" in row else ""
    assert (seen.code, seen.err) == (0, "")
    assert (
        f"\n  broken key: child (a) -> gone: {orphans.format(1)}there is no table gone\n"
        in seen.out
    )
    assert (
        f"- broken key: `child (a) -> gone`: {orphans.format('`1`')}there is no table gone\n"
        in seen.report
    )
    for text in (seen.out, seen.report):
        assert "1 broken" in text
        assert "ok" not in text.replace("broken", "").split()
        assert "every foreign key holds" not in text


def test_hostile_names(read: Callable[..., Read], here: Path) -> None:
    """Any name of a table or column and any value is read, and is shown as text only."""
    with closing(sqlite3.connect(here / "hostile.db")) as connection:
        for name in HOSTILE:
            it = quoted(name)
            connection.execute(f"CREATE TABLE {it} ({it} PRIMARY KEY, up REFERENCES {it})")
            connection.execute(f"INSERT INTO {it} VALUES (?, ?)", [name, name])
        connection.commit()
    seen = read(here / "hostile.db")
    assert (seen.code, seen.err) == (0, "")
    assert (
        f"{len(HOSTILE)} tables, {len(HOSTILE)} rows, {len(HOSTILE)} foreign keys." in seen.report
    )
    assert seen.report.count("| 1 ok |") == len(HOSTILE)
    assert "`<script>alert(1)</script>`" in seen.report
    assert "<code>bar&#124;bar</code>" in seen.report
    for text in (seen.report, seen.out):
        assert all(line.isprintable() for line in text.split("\n"))
    # Every line of a table of the report has as many cells as its heading: no name ends one early.
    rows = [line.count("|") for line in seen.report.splitlines() if line.startswith("| `")]
    assert set(rows) <= {4, 6, 7}


def test_labels_never_meet(etl: SimpleNamespace) -> None:
    """No two tables or keys have the same node name, and the executor accepts every one."""
    key = etl.profile.ForeignKey
    tables = [f"profile:{etl.main.label(name)}" for name in HOSTILE]
    checks = [
        name
        for table, column, parent in product(HOSTILE, repeat=3)
        for name in etl.main.check_names(table, [key((column,), parent, ())])
    ]
    composite = [
        etl.main.check_names("t", [key(columns, "p", ())])[0]
        for columns in [("a", "b"), ("a,b",), ('"a"', "b"), tuple("abcdef" * 90)]
    ]
    names = tables + checks + composite
    assert len(set(names)) == len(names)
    for name in names:
        assert dagron.DynamicNodeSpec(name, print).name == name
    assert "check:two words.it's->select" in checks


def test_shown_path(read: Callable[..., Read], here: Path) -> None:
    """A path is shown as where the file is, however it was given."""
    (here / "elsewhere" / "deep").mkdir(parents=True)
    (here / "link").symlink_to(here / "elsewhere" / "deep", target_is_directory=True)
    database = make(here / "elsewhere" / "shop.db", SHOP)
    # Behind a link, ".." is not the folder in which the link is.
    seen = read(Path("link", "..", "shop.db"), "--report", "link/../../report.md")
    assert (seen.code, seen.err) == (0, "")
    assert seen.out.startswith(f"Database: {database}\n")
    assert seen.out.endswith(f"\nReport: {here / 'report.md'}\n")
    assert f" from `{database}`." in seen.report


@pytest.mark.parametrize("name", ["a?b.db", "a#b.db", "100%41.db", 'it\'s a "file".db', "ü;x.db"])
def test_hostile_paths(read: Callable[..., Read], here: Path, name: str) -> None:
    """The file that is read has exactly the name that was given, and no other appears."""
    seen = read(make(here / name, SHOP))
    assert (seen.code, seen.err) == (0, "")
    assert "3 tables, 8 rows" in seen.report
    assert sorted(path.name for path in here.iterdir()) == sorted([name, "report.md"])


def test_connection_only_reads(etl: SimpleNamespace, here: Path) -> None:
    """A connection cannot write, and sees one state of the database while others write to it."""
    database = make(here / "wal.db", "PRAGMA journal_mode = WAL; CREATE TABLE t (a);")
    with etl.profile.connect(database, 0) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
        make(database, "INSERT INTO t VALUES (1)")
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM t")
    with etl.profile.connect(database, 0) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (1,)


def test_text_that_is_no_text(read: Callable[..., Read], here: Path) -> None:
    """Bytes in a text column that are no UTF-8 are shown with a sign in their place."""
    script = "CREATE TABLE t (a TEXT); INSERT INTO t VALUES (CAST(x'41ff42' AS TEXT));"
    seen = read(make(here / "odd.db", script))
    assert seen.code == 0
    assert "`A\ufffdB`" in seen.report


VIEWS = """
CREATE TABLE t (a); INSERT INTO t VALUES (1), (2);
CREATE VIEW good AS SELECT a + 1 AS b FROM t;
CREATE VIEW bad AS SELECT * FROM gone;
"""


def test_views(read: Callable[..., Read], here: Path) -> None:
    """Views are named, and read when they are asked for; a broken one is an error."""
    database = make(here / "views.db", VIEWS)
    seen = read(database)
    assert seen.code == 0
    assert "- `good`: a view (ask for it with --views)" in seen.report
    assert "### `good`" not in seen.report
    seen = read(database, "--views")
    assert seen.code == 1
    assert "### `good`\n\n2 rows, view." in seen.report
    assert "could not be read: bad: no such table: main.gone" in seen.out


def test_views_are_no_tables(read: Callable[..., Read], here: Path) -> None:
    """Views are counted as views, by `discover` and in the report, whether they are read or not."""
    database = make(here / "views.db", VIEWS)
    seen = read(database)
    assert re.search(r"\n  discover +1 table, 2 views, ", seen.out)
    assert re.search(r"\n  aggregate +1 profile, 0 checks, ", seen.out)
    assert "\n1 table, 2 rows, 0 foreign keys." in seen.report
    seen = read(database, "--views")
    assert re.search(r"\n  discover +1 table, 2 views, ", seen.out)
    assert re.search(r"\n  aggregate +3 profiles, 0 checks, ", seen.out)
    assert "\n1 table, 2 views, 4 rows, 0 foreign keys." in seen.report


def test_virtual_tables(etl: SimpleNamespace, here: Path) -> None:
    """A virtual table is read, the tables in which it is stored are left out, on old SQLite too."""
    with closing(sqlite3.connect(here / "virtual.db")) as connection:
        modules = {name for [name] in connection.execute("PRAGMA module_list")}
        module = next(name for name in ("fts5", "fts4") if name in modules)
        connection.execute(f"CREATE VIRTUAL TABLE notes USING {module} (body)")
        connection.execute("INSERT INTO notes VALUES ('some words')")
        connection.execute("CREATE TABLE note (body)")
        connection.commit()
        old = {table.name: table.kind for table in etl.profile.tables_of_old_sqlite(connection)}
    summary = etl.main.Job(here / "virtual.db", here / "report.md").run(2)["aggregate"].result
    assert [(p.table.name, p.rows, p.error) for p in summary.profiles] == [
        ("note", 0, ""),
        ("notes", 1, ""),
    ]
    assert {table.kind for table in summary.left_out} == {"shadow"}
    assert {table.name: table.kind for table in summary.tables} == old


# ---- what goes wrong ----------------------------------------------------------------------------


def test_vanished_table(
    read: Callable[..., Read], here: Path, after_discover: Callable[..., None]
) -> None:
    """A table that vanishes after its discovery is an error in the report on all the others."""
    database = make(here / "shop.db", SHOP)
    after_discover(lambda path: make(path, "DROP TABLE users"))
    seen = read(database)
    assert seen.code == 1
    assert "could not be read: users: the table was there when the tables were listed" in seen.out
    assert "- could not be read: `users`: the table was there" in seen.report
    assert "### `orders`\n\n5 rows." in seen.report
    assert (
        "4 of 4 rows without a parent, such as `7`, `1`, `8`; there is no table users"
        in seen.report
    )


def test_table_that_vanishes_after_its_profile(
    etl: SimpleNamespace,
    read: Callable[..., Read],
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A table that vanishes between its profile and its check keeps its profile in the report."""

    class Dropping(etl.main.Job):
        def check(self, table: str, key: Any) -> Any:
            make(self.database, "DROP TABLE IF EXISTS child")
            return super().check(table, key)

    monkeypatch.setattr(etl.main, "Job", Dropping)
    script = "CREATE TABLE child (a REFERENCES child); INSERT INTO child VALUES (1);"
    seen = read(make(here / "x.db", script))
    assert seen.code == 1
    assert "could not be checked: the table was there when it was profiled" in seen.report
    assert "### `child`\n\n1 row." in seen.report


def test_locked_file(read: Callable[..., Read], here: Path) -> None:
    """A file that another program has locked is told so, with the code 2 and no report."""
    database = make(here / "shop.db", SHOP)
    with locked(database):
        seen = read(database)
    assert (seen.code, seen.out, seen.report) == (2, "", "")
    assert seen.err.splitlines() == [
        f"error: {database} cannot be read: "
        "another program has locked the database (waited 0 s for it)",
        "  help: close what uses it, or wait longer with --lock-wait SECONDS",
    ]


def test_locked_in_between(
    read: Callable[..., Read], here: Path, after_discover: Callable[..., None]
) -> None:
    """A file that is locked after its discovery: the report says so of each table."""
    database = make(here / "shop.db", SHOP)
    with closing(sqlite3.connect(database, check_same_thread=False)) as other:
        after_discover(lambda path: other.execute("BEGIN EXCLUSIVE"))
        seen = read(database)
    assert seen.code == 1
    assert seen.report.count("- could not be read: ") == 3
    assert "`users`: another program has locked the database (waited 0 s for it)" in seen.report


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"id,name\n1,Ada\n" * 100, "the file is not a SQLite database (or it is encrypted)"),
        (b"SQLite format 3\0" + b"\xff" * 500, "the file is not a SQLite database"),
        (None, "there is no such file, or it may not be read"),
        ("folder", "it is a folder"),
    ],
)
def test_not_a_database(
    read: Callable[..., Read], here: Path, content: bytes | str | None, why: str
) -> None:
    """A file that is no database, a folder, or nothing at all: one clear error and the code 2."""
    database = here / "data.csv"
    if isinstance(content, bytes):
        database.write_bytes(content)
    elif content:
        database.mkdir()
    seen = read(database)
    assert (seen.code, seen.out, seen.report) == (2, "", "")
    assert seen.err.startswith(f"error: {database} cannot be read: {why}")
    assert seen.err.count("\n") == 2


def test_not_a_database_as_a_program(here: Path) -> None:
    """As a program: no traceback, the error on stderr, and the code 2."""
    (here / "data.csv").write_text("id,name\n" * 100)
    done = run("data.csv", cwd=here)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: data.csv cannot be read: the file is not a SQLite data")
    assert [path.name for path in here.iterdir()] == ["data.csv"]


@pytest.mark.parametrize("script", ["", "CREATE VIEW only AS SELECT 1;"])
def test_no_tables(read: Callable[..., Read], here: Path, script: str) -> None:
    """Of an empty file, or of views alone, it is said that there are no tables, and no more."""
    (here / "empty.db").touch()
    seen = read(make(here / "empty.db", script))
    assert (seen.code, seen.err) == (0, "")
    start = f"Database: {here / 'empty.db'}\n\nFindings\n  the database has no tables\n\nWhat ran: "
    assert seen.out.startswith(start)
    assert "0 tables, 0 rows, 0 foreign keys." in seen.report
    assert "## Findings\n\nThe database has no tables.\n" in seen.report
    assert "## Tables" not in seen.report


def test_damaged_table(read: Callable[..., Read], here: Path) -> None:
    """One damaged table costs its own profile, and no other."""
    database = make(here / "shop.db", "PRAGMA page_size = 1024; VACUUM;" + SHOP)
    with closing(sqlite3.connect(database)) as connection:
        [page] = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'orders'"
        ).fetchone()
    content = bytearray(database.read_bytes())
    content[(page - 1) * 1024 : page * 1024] = b"\xee" * 1024
    database.write_bytes(content)
    seen = read(database)
    assert seen.code == 1
    assert "could not be read: orders: the database is damaged" in seen.out
    assert "### `users`\n\n3 rows." in seen.report


def test_node_that_fails_in_spite_of_all(
    etl: SimpleNamespace,
    read: Callable[..., Read],
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A defect in one node skips the aggregation, and yet the others are in the report."""

    class Defective(etl.main.Job):
        def profile(self, table: Any) -> Any:
            return 1 / 0 if table.name == "users" else super().profile(table)

    monkeypatch.setattr(etl.main, "Job", Defective)
    seen = read(make(here / "shop.db", SHOP))
    assert seen.code == 1
    assert "FAILED: division by zero" in seen.out
    assert "SKIPPED: skipped because 'profile:users' failed" in seen.out
    assert "### `orders`\n\n5 rows." in seen.report
    assert "- `users`: its node did not finish" in seen.report


def test_node_that_fails_where_nothing_else_is_found(
    etl: SimpleNamespace,
    read: Callable[..., Read],
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where a node failed, neither terminal nor report says that all was read, or is empty."""
    monkeypatch.setattr(etl.main.Job, "profile", lambda self, table: 1 / 0)
    seen = read(make(here / "x.db", "CREATE TABLE t (a)"))
    assert seen.code == 1
    assert "\n  not every node finished; in what was read, nothing was found\n" in seen.out
    assert "\nNot every node finished; in what was read, nothing was found.\n" in seen.report


def test_report_that_cannot_be_written(
    etl: SimpleNamespace, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A report that cannot be written: the findings are printed, and what to do; code 1."""
    database = make(here / "shop.db", SHOP)
    assert etl.main.main([str(database), "--report", "no/such/folder.md"]) == 1
    out, err = capsys.readouterr()
    assert "orphans: orders (user_id)" in out
    assert "Report: " not in out
    assert err.endswith("  help: name another place with --report\n")


def test_report_over_the_database(read: Callable[..., Read], here: Path) -> None:
    """A report never overwrites the database, under whatever name."""
    database = make(here / "shop.db", SHOP)
    before = database.read_bytes()
    (here / "link.db").symlink_to(database)
    seen = read(here / "link.db", "--report", "shop.db")
    assert seen.code == 2
    assert "the report would overwrite" in seen.err
    assert database.read_bytes() == before


@pytest.mark.parametrize(
    "options",
    [["--workers", "0"], ["--workers", "two"], ["--lock-wait", "-1"], ["--lock-wait", "nan"]],
)
def test_impossible_options(
    etl: SimpleNamespace, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """An impossible number is refused with the code 2 before anything is opened."""
    with pytest.raises(SystemExit) as caught:
        etl.main.main(["none.db", *options])
    assert caught.value.code == 2
    assert f"argument {options[0]}: " in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[""], ["none.db", "--report", ""]])
def test_empty_path(
    etl: SimpleNamespace, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty path is refused as that, with the code 2, and is not the current folder."""
    with pytest.raises(SystemExit) as caught:
        etl.main.main(arguments)
    assert caught.value.code == 2
    name = "--report" if "--report" in arguments else "DATABASE"
    expected = f"error: argument {name}: it is empty: name a file, or leave it out\n"
    assert capsys.readouterr().err.endswith(expected)


def test_ctrl_c(read: Callable[..., Read], here: Path, after_discover: Callable[..., None]) -> None:
    """Ctrl-C ends the program with 130 and one line; no report is written."""

    def interrupt(path: Path) -> None:
        raise KeyboardInterrupt

    after_discover(interrupt)
    seen = read(make(here / "shop.db", SHOP))
    assert (seen.code, seen.out, seen.report) == (130, "", "")
    assert seen.err == "interrupted\n"


def test_many_tables(read: Callable[..., Read], here: Path) -> None:
    """Of hundreds of tables the terminal shows some and how many more, the report shows all."""
    script = "".join(f"CREATE TABLE t{number} (a);" for number in range(300))
    seen = read(make(here / "many.db", script))
    assert seen.code == 0
    assert "  ... and 241 more\n" in seen.out
    assert seen.report.count("\n### `t") == 300
