"""A small web site that every machine can build: what pydoc says of a package, and a calendar.

The documentation is a folder of HTML pages, with the links that pydoc makes; those to modules whose
pages were not written are broken. The calendar is made on demand: every month links to its days
and to the next month, so it has no end.
"""

import json
import pydoc
from calendar import HTMLCalendar
from functools import partial
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from threading import Event
from urllib.parse import parse_qs, urlsplit

from _loopback import Quiet

INDEX = """<!DOCTYPE html>
<title>json</title>
<p>The package <a href="json.html">json</a> of this Python.
<p><a href="http://{calendar}/?year=1991&amp;month=2">The month</a> of Python's first release.
"""


def write_documentation(folder: Path, calendar: str) -> None:
    """Write an index, which links to the calendar's host, and a page per module of `json`."""
    modules = ["json", *(f"json.{module.name}" for module in iter_modules(json.__path__))]
    for name in modules:
        page = pydoc.html.page(name, pydoc.html.document(import_module(name), name))
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    (folder / "index.html").write_text(INDEX.format(calendar=calendar), encoding="utf-8")


class LinkedCalendar(HTMLCalendar):
    """A month as the standard library renders it, with a link on each day."""

    def __init__(self, year: int, month: int) -> None:
        super().__init__()
        self.link = f"/?year={year}&amp;month={month}"

    def formatday(self, day: int, weekday: int) -> str:
        text = f'<a href="{self.link}&amp;day={day}">{day}</a>' if day else ""
        return f"<td>{text}</td>"


class Calendar(Quiet):
    """Serves months and days, and hangs up on its first visitor, as servers sometimes do."""

    def __init__(self, *arguments: object, has_hung_up: Event) -> None:
        self.has_hung_up = has_hung_up
        super().__init__(*arguments)

    def do_GET(self) -> None:
        if not self.has_hung_up.is_set():
            self.has_hung_up.set()
            return
        try:
            self.answer(200, calendar_page(urlsplit(self.path).query), "text/html")
        except (KeyError, ValueError):
            self.answer(404, "no such page")


def calendar_page(query: str) -> str:
    numbers = {name: int(values[0]) for name, values in parse_qs(query).items()}
    year, month = numbers["year"], numbers["month"]
    if "day" in numbers:
        return f'<a href="/?year={year}&amp;month={month}">Nothing on {numbers["day"]}.</a>'
    later, next_month = divmod(month, 12)
    link = f'<a href="/?year={year + later}&amp;month={next_month + 1}">next month</a>'
    return LinkedCalendar(year, month).formatmonth(year, month) + link


def calendar_handler() -> partial[Calendar]:
    return partial(Calendar, has_hung_up=Event())
