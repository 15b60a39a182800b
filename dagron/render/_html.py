"""A run on one page: its graph, its timeline, its events, and what is known of each node."""

import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from importlib.resources import files
from json import dumps
from pathlib import Path
from typing import Any, NamedTuple

from dagron._names import plural
from dagron._results import ExecutionResult
from dagron._summary import headline, sections_of
from dagron.render._files import checked_path, write
from dagron.render._from_result import When, picture_of_result
from dagron.render._html_data import Roll, folds_of, nodes_of
from dagron.render._html_log import MOST_ENTRIES, began_at, entries_of
from dagron.render._svg import Drawn, drawn
from dagron.render._text import fitted, visible, xml
from dagron.render._timeline import to_timeline_svg

MOST_MOMENTS = 12  # between before and after
MOST_OF_A_TITLE = 300
MOST_OF_MOMENTS = 500_000  # characters of their pictures, about

_STYLE_ELEMENT = re.compile("<style>(.*?)</style>", re.DOTALL)
_GAP = re.compile(r"\{\{(\w+)\}\}")
# In JSON these stand only in strings. Nothing in the element that holds it can end it, then.
_HIDDEN = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&"}


class Moment(NamedTuple):
    """The graph at a moment: what to call it, and its picture."""

    label: str
    drawn: Drawn


def save_html(
    result: ExecutionResult,
    path: str | Path,
    title: str | None,
    with_results: bool,
    fold: int | None,
) -> None:
    """Write the page into a file."""
    checked = checked_path(path, "result.save_html(...)", "run.html")
    if title is not None and not isinstance(title, str):
        raise TypeError(
            f"title is a str, not {type(title).__name__}: {title!r:.60}\n"
            f'  help: write title="Tuesday", for example, or leave it out'
        )
    write(page_of(result, title, with_results, fold), checked)


def page_of(
    result: ExecutionResult, title: str | None, with_results: bool, fold: int | None
) -> str:
    """Return the text of a page that loads nothing; the same result gives the same text."""
    title = None if title is None else fitted(title, MOST_OF_A_TITLE)
    roll = Roll(result)
    began = began_at(roll)
    moments = list(_moments(result, fold))
    pictures = "\n".join(_picture(moments, number) for number in range(len(moments)))
    pictures, style = _without_styles(pictures, _asset("page.css"))
    timeline, style = _without_styles(to_timeline_svg(result), style)
    entries = entries_of(roll)
    data = {
        "nodes": nodes_of(roll, began, with_results),
        "entries": entries,
        "moments": [
            {"label": moment.label, "folds": folds_of(roll, moment.drawn.boxes)}
            for moment in moments
        ],
    }
    script = _asset("page.js")
    parts = {
        "policy": _policy(script, style),
        "title": _text(headline(result) if title is None else title),
        "style": style,
        "headline": _headline(result, title),
        "began": _time(began),
        "pictures": pictures,
        "timeline": timeline,
        "summary": "\n".join(
            f"<dt>{_text(term)}</dt><dd>{_lines(lines)}</dd>" for term, lines in sections_of(result)
        ),
        "notes": _notes(_left_out(roll, len(entries))),
        "data": _json(data),
        "script": script,
    }
    return _GAP.sub(lambda gap: parts[gap[1]], _asset("page.html"))


def _asset(name: str) -> str:
    return files("dagron.render").joinpath("report", name).read_text(encoding="utf-8")


# -- the graph at each moment


def _moments(result: ExecutionResult, fold: int | None) -> Iterator[Moment]:
    """Give the graph before and after, and in between as far as there is room for it."""
    count = result.version
    after = _drawn(result, "after", fold)
    if count:
        yield Moment("as it was written", _drawn(result, "before", fold))
        for version in _between(result, len(after.text)):
            label = f"after {version:,} of {plural(count, 'modification')}"
            yield Moment(label, _drawn(result, version, fold))
    yield Moment("as it was at the end" if count else "which did not change", after)


def _between(result: ExecutionResult, size: int) -> list[int]:
    """Return the versions to show, evenly spread over those of which all is known."""
    versions = range(max(1, result._history.earliest()), result.version)
    most = min(MOST_MOMENTS, MOST_OF_MOMENTS // size)
    if len(versions) <= most:
        return list(versions)
    return [versions[len(versions) * number // (most + 1)] for number in range(1, most + 1)]


def _drawn(result: ExecutionResult, when: When, fold: int | None) -> Drawn:
    return drawn(picture_of_result(result, when, fold))


def _without_styles(pictures: str, style: str) -> tuple[str, str]:
    """Return the pictures, and the style with theirs behind it, each of them once."""
    theirs = dict.fromkeys(_STYLE_ELEMENT.findall(pictures))
    return _STYLE_ELEMENT.sub("", pictures), "".join([style, *theirs])


def _picture(moments: Sequence[Moment], number: int) -> str:
    hidden = "" if number == len(moments) - 1 else " hidden"
    return f'<div class="picture"{hidden}>\n{moments[number].drawn.text}</div>'


# -- the rest of the page


def _headline(result: ExecutionResult, title: str | None) -> str:
    verdict = "verdict" if result.ok else "verdict not-ok"
    if title is None:
        return f'<h1 class="{verdict}">{_text(headline(result))}</h1>'
    return f'<h1>{_text(title)}</h1>\n<p class="{verdict}">{_text(headline(result))}</p>'


def _left_out(roll: Roll, entries: int) -> Iterator[str]:
    """Say what the page does not tell, or nobody knows."""
    result = roll.result
    if len(roll.number) < roll.total:
        yield (
            f"Of {roll.total:,} nodes this page tells of {len(roll.number):,}, of failures before "
            "others; the counts and the summary are of all."
        )
    if result.forgotten:
        yield (
            f"{plural(result.forgotten, 'node')} that completed and were not needed any more were "
            "forgotten while the graph ran (keep=...): they are in the counts alone."
        )
    removed = len(result.removed) - len(roll.ghosts)
    if removed > 0:
        yield f"Of the nodes that were removed, {removed:,} are not known any more."
    unknown = result.version - len(result._times.landings)
    if unknown > 0:
        yield f"When the first {plural(unknown, 'modification')} landed is not known any more."
    if entries == MOST_ENTRIES:
        yield f"Of the events the first {MOST_ENTRIES:,} are shown."


def _notes(notes: Iterator[str]) -> str:
    items = "".join(f"<li>{_text(note)}</li>" for note in notes)
    return f'<ul class="notes">{items}</ul>' if items else ""


def _time(began: float | None) -> str:
    if began is None:
        return ""
    moment = datetime.fromtimestamp(began, UTC)
    iso = moment.isoformat(timespec="seconds")
    return (
        f'<p class="began">Began <time datetime="{iso}">{moment:%Y-%m-%d %H:%M:%S} UTC</time></p>'
    )


def _policy(script: str, style: str) -> str:
    """Return what the page may do: run its own script, look as it does, and nothing else."""
    return (
        f"default-src 'none'; script-src {_digest(script)}; style-src {_digest(style)}; "
        "base-uri 'none'; form-action 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _digest(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _json(data: Any) -> str:
    return dumps(data, separators=(",", ":")).translate(_HIDDEN)


def _lines(lines: Sequence[str]) -> str:
    return "\n".join(map(_text, lines))


def _text(text: str) -> str:
    return xml(visible(text))
