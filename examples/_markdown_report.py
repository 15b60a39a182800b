"""Say what was found in a database: as a Markdown report, and in the words that the terminal shows.

Whatever comes out of a database (names, values, error texts) is escaped: it is read as text, never
as markup or as a command to the terminal.
"""

import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from _sqlite_profile import Check, ForeignKey, Profile, Table
from _terminal import count, visible

OTHERS = {"view": "view", "shadow": "shadow table"}  # a kind that is no table, and its noun


@dataclass(frozen=True)
class Summary:
    """What is known in the end; the profiles and the checks are in the order of their tables."""

    tables: list[Table]
    profiles: list[Profile]
    checks: list[Check]
    complete: bool = True  # False: a node failed, and what it was to find is not here

    @property
    def errors(self) -> list[tuple[str, str, str]]:
        """What could not be done, with what, and why."""
        unread = [("could not be read", p.table.name, p.error) for p in self.profiles]
        unchecked = [
            ("could not be checked", key_text(c.table, c.key), c.error) for c in self.checks
        ]
        return [problem for problem in unread + unchecked if problem[2]]

    @property
    def broken(self) -> list[Check]:
        return [check for check in self.checks if check.orphans or check.remark]

    @property
    def left_out(self) -> list[Table]:
        profiled = {profile.table.name for profile in self.profiles}
        return [table for table in self.tables if table.name not in profiled]


# ---- in words -----------------------------------------------------------------------------------


def table_counts(tables: Iterable[Table]) -> str:
    """How many tables there are, and how many of what is not quite a table, if any."""
    kinds = Counter(table.kind for table in tables)
    others = [count(kinds[kind], noun) for kind, noun in OTHERS.items() if kinds[kind]]
    return ", ".join([count(kinds["table"] + kinds["virtual"], "table"), *others])


def key_text(table: str, key: ForeignKey) -> str:
    parent_columns = f" ({', '.join(key.parent_columns)})" if key.parent_columns else ""
    return f"{table} ({', '.join(key.columns)}) -> {key.parent}{parent_columns}"


def verdict(
    check: Check, text: Callable[[str], str] = str, value: Callable[[str], str] = str
) -> str:
    """What came of a check; `text` and `value` escape what is not our own words."""
    if check.error:
        return f"could not be checked: {text(check.error)}"
    if not check.orphans:
        return text(check.remark) or "ok"
    examples = ", ".join(value(tuple_text(example)) for example in check.examples)
    why = f"; {text(check.remark)}" if check.remark else ""
    return (
        f"{check.orphans:,} of {count(check.rows, 'row')} without a parent, such as {examples}{why}"
    )


def finding(
    check: Check,
    text: Callable[[str], str] = str,
    value: Callable[[str], str] = str,
) -> str:
    what = "broken key" if check.remark else "orphans"
    return f"{what}: {value(key_text(check.table, check.key))}: {verdict(check, text, value)}"


def no_findings(summary: Summary) -> str:
    """What to say where there is neither an error nor a broken key."""
    if not summary.complete:
        return "not every node finished; in what was read, nothing was found"
    if not summary.profiles:
        return "the database has no tables"
    return "everything was read, and every foreign key holds"


def tuple_text(values: tuple[object, ...]) -> str:
    text = ", ".join(map(str, values))
    return text if len(values) == 1 else f"({text})"


def figures(summary: Summary, profile: Profile) -> list[str]:
    """The rest of a table's line: rows, columns, null cells, and how its foreign keys stand."""
    if profile.error:
        return ["", "", "", "could not be read"]
    nulls = sum(column.nulls for column in profile.columns)
    numbers = [f"{number:,}" for number in (profile.rows, len(profile.columns), nulls)]
    return [*numbers, tally([c for c in summary.checks if c.table == profile.table.name])]


def tally(checks: list[Check]) -> str:
    errors = sum(1 for check in checks if check.error)
    broken = sum(1 for check in checks if check.remark)
    orphans = sum(1 for check in checks if check.orphans and not check.remark)
    good = len(checks) - errors - broken - orphans
    parts = [
        (good, "ok"),
        (orphans, "with orphans"),
        (broken, "broken"),
        (errors, "not checked"),
    ]
    return ", ".join(f"{number} {what}" for number, what in parts if number)


# ---- in Markdown --------------------------------------------------------------------------------


def markdown(database: Path, summary: Summary) -> str:
    rows = sum(profile.rows for profile in summary.profiles)
    lines = [
        f"# Profile of {code(database.name)}",
        "",
        f"{table_counts(profile.table for profile in summary.profiles)}, {count(rows, 'row')}, "
        f"{count(len(summary.checks), 'foreign key')}. "
        f"Read on {datetime.now(UTC):%Y-%m-%d at %H:%M} UTC with SQLite {sqlite3.sqlite_version} "
        f"from {code(str(database.resolve()))}.",
        "",
        "## Findings",
        "",
        *findings(summary),
    ]
    if summary.profiles:
        headings = ["Table", "Rows", "Columns", "Null cells", "Foreign keys"]
        table = [[code(p.table.name), *figures(summary, p)] for p in summary.profiles]
        lines += ["", "## Tables", "", *grid(headings, table, numbers={1, 2, 3})]
    if summary.checks:
        headings = ["Foreign key", "Rows that have it", "Result"]
        table = [
            [code(key_text(c.table, c.key)), f"{c.rows:,}", verdict(c, prose, code)]
            for c in summary.checks
        ]
        lines += ["", "## Foreign keys", "", *grid(headings, table, numbers={1})]
    if summary.profiles:
        lines += ["", "## Columns"]
    for profile in summary.profiles:
        lines += ["", *section(profile)]
    if summary.left_out:
        lines += ["", "## Not profiled", "", *map(reason, summary.left_out)]
    return "\n".join(lines) + "\n"


def findings(summary: Summary) -> list[str]:
    errors = [f"- {prefix}: {code(what)}: {prose(why)}" for prefix, what, why in summary.errors]
    broken = [f"- {finding(check, prose, code)}" for check in summary.broken]
    return errors + broken or [f"{no_findings(summary).capitalize()}."]


def section(profile: Profile) -> list[str]:
    title = [f"### {code(profile.table.name)}", ""]
    if profile.error:
        return [*title, f"Could not be read: {prose(profile.error)}."]
    kind = [] if profile.table.kind == "table" else [profile.table.kind]
    headings = ["Column", "Type", "Nulls", "Minimum", "Maximum", "Most frequent"]
    columns = [
        [
            code(column.name),
            prose(column.type),
            share(column.nulls, profile.rows),
            cell(column.minimum),
            cell(column.maximum),
            frequent(column.frequent, column.nulls < profile.rows),
        ]
        for column in profile.columns
    ]
    facts = ", ".join([count(profile.rows, "row"), *kind, *profile.table.remarks])
    return [*title, f"{facts}.", "", *grid(headings, columns, numbers={2})]


def share(part: int, whole: int) -> str:
    if not part:
        return "0"
    percent = 100 * part / whole
    return f"{part:,} ({'<1' if percent < 1 else f'{percent:.0f}'} %)"


def frequent(values: tuple[tuple[object, int], ...], any_value: bool) -> str:
    if values and values[0][1] > 1:
        return ", ".join(f"{cell(value)} ({times:,})" for value, times in values)
    return "all different" if any_value else ""


def reason(table: Table) -> str:
    reasons = {"view": "a view (ask for it with --views)", "shadow": "storage of a virtual table"}
    return f"- {code(table.name)}: {reasons.get(table.kind, 'its node did not finish')}"


def cell(value: object) -> str:
    if value is None:
        return ""
    return code(value) if isinstance(value, str) else str(value)


def grid(headings: list[str], rows: list[list[str]], numbers: set[int]) -> list[str]:
    rule = ["---:" if column in numbers else "---" for column in range(len(headings))]
    return [f"| {' | '.join(row)} |" for row in [headings, rule, *rows]]


def code(text: str) -> str:
    """Return the text as code, wherever in Markdown it stands."""
    text = visible(text)
    if text.strip() == text != "" and not re.search(r"[`|]", text):
        return f"`{text}`"
    # A backquote would end the code and a bar the cell: as HTML, both can be escaped.
    return f"<code>{prose(text)}</code>"


def prose(text: str) -> str:
    """Return the text with an escape for each character that could be markup."""
    return re.sub(r"[\\`*_{}\[\]<>#|&~!]", lambda mark: f"&#{ord(mark[0])};", visible(text))
