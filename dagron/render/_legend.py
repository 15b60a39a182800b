"""What is written below a picture: how many nodes came to what, what the lines mean, notes."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from dagron._status import CANCELLED, COMPLETED, FAILED, PENDING, READY, RUNNING, SKIPPED
from dagron.render._picture import Kind, Picture
from dagron.render._plan import MARGIN
from dagron.render._text import cells, xml

# Signs are drawn, not written: no font lacks them. Each fits a square of 10 pixels around (0, 0).
_SIGNS: dict[str, str] = {
    PENDING: "M-4 0h1M0 0h1M4 0h1",
    READY: "M-4 0h1M0 0h1M4 0h1",
    RUNNING: "M-3 -5L4 0L-3 5Z",
    COMPLETED: "M-5 0L-1 4L5 -4",
    FAILED: "M-4 -4L4 4M-4 4L4 -4",
    SKIPPED: "M-5 -4L0 0L-5 4M0 -4L5 0L0 4",
    CANCELLED: "M-4 -4H4V4H-4Z",
}

Entry: TypeAlias = tuple[str, str]  # what stands in front, 14 pixels wide, and the text

ADDED: Entry = (
    '<g class="box added"><rect y="-8" width="14" height="10" rx="2"/></g>',
    "added while it ran",
)
CRITICAL: Entry = (
    '<g class="box"><rect class="critical" y="-9" width="14" height="12" rx="4"/></g>',
    "the critical path",
)
_NARROWEST = 420  # the least width that the legend takes before it begins a new line
_LINE = 18


def drawn_sign(status: str, across: int, down: int) -> str:
    """Draw the sign of a status around a point."""
    return (
        f'<path class="sign {status.lower()}" transform="translate({across} {down})" '
        f'd="{_SIGNS[status]}"/>'
    )


def entries_of_totals(totals: Iterable[tuple[str, int]]) -> Iterator[Entry]:
    """How many nodes came to what."""
    for status, count in totals:
        yield drawn_sign(status, 7, -3), f"{count:,} {status.lower()}"


def drawn_legend(
    entries: Sequence[Entry], notes: Sequence[str], width: int, height: int
) -> tuple[list[str], int, int]:
    """Draw it below a picture of that size; return it, and the size of all."""
    drawn = []
    left, down, most = MARGIN, height + 30, max(width, _NARROWEST)
    for mark, text in entries:
        wide = 20 + cells(text) * 61 // 10
        if left > MARGIN and left + wide > most:
            left, down = MARGIN, down + _LINE
        drawn.append(f'<g transform="translate({left} {down})">{mark}')
        drawn.append(f'<text class="small" x="20">{xml(text)}</text></g>')
        width = max(width, left + wide)
        left += wide + 18
    if entries:
        height = down
    for note in notes:
        height += _LINE if height == down else 30
        down = height
        drawn.append(f'<text class="small note" x="{MARGIN}" y="{height}">{xml(note)}</text>')
        width = max(width, MARGIN + cells(note) * 61 // 10)
    return drawn, width, height


def entries_of(picture: Picture) -> Iterator[Entry]:
    """What a picture of a graph has to explain."""
    yield from entries_of_totals(picture.totals)
    if any(box.origin for box in picture.boxes):
        yield ADDED
    if any(box.is_critical for box in picture.boxes):
        yield CRITICAL
    if any(box.fate for box in picture.boxes):
        yield '<g class="box removed"><rect y="-8" width="14" height="10" rx="2"/></g>', "removed"
    if any(link.is_dim for link in picture.links):
        yield '<g class="line dim"><path d="M0 -3h14"/></g>', "a longer path leads there, too"
    if any(link.has_condition for link in picture.links):
        yield '<path class="diamond edge" d="M1 -3l6 -4l6 4l-6 4z"/>', "on a condition"
    if any(link.kind is Kind.GROWTH for link in picture.links):
        yield '<g class="line growth"><path d="M0 -3h14"/></g>', "added by, without an edge"
