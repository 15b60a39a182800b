"""A picture as SVG: readable on light and dark pages, and in black and white."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dagron.render._layers import Line, line_of
from dagron.render._legend import drawn_legend, drawn_sign, entries_of
from dagron.render._picture import Box, Kind, Picture, capped
from dagron.render._plan import (
    MARGIN,
    SIGN_WIDTH,
    Plan,
    Point,
    Rect,
    counted,
    planned,
    width_of_count,
)
from dagron.render._style import STYLE, document
from dagron.render._text import visible_lines, xml

_ARROW = 6


class Drawn(NamedTuple):
    """The text of a picture, and the boxes in it: that with the id ``n3`` is ``boxes[3]``."""

    text: str
    boxes: Sequence[Box]


def to_svg(picture: Picture, most: int | None = None) -> str:
    """Return the text of a picture that stands alone; the same picture gives the same text.

    Of more than ``most`` boxes, 3,000 if not said, the first are drawn, with a note; up to a third
    of them are failures, which go before others.
    """
    return drawn(picture, most).text


def drawn(picture: Picture, most: int | None = None) -> Drawn:
    """Return the text of `to_svg`, and what is in it."""
    summary = picture.summary()
    picture = capped(picture, most)
    plan = planned(picture)
    notes = list(picture.notes) if picture.boxes else ["no nodes", *picture.notes]
    if plan.graph.dropped:
        notes.append(f"{plan.graph.dropped:,} of {len(picture.links):,} lines are not drawn")
    legend, width, height = drawn_legend(list(entries_of(picture)), notes, plan.width, plan.height)
    width += MARGIN
    height += MARGIN
    shapes = [
        *_drawn_lines(plan),
        *map(_drawn_box, range(len(plan.rects)), picture.boxes, plan.rects),
        *legend,
    ]
    return Drawn(document(STYLE, summary, width, height, shapes), picture.boxes)


# -- lines


def _drawn_lines(plan: Plan) -> Iterator[str]:
    """Draw the lines, the important ones last; then what stands upon them."""
    graph = plan.graph
    drawn: dict[Line, list[str]] = {}
    heads: dict[int, Line] = {}
    diamonds = []
    critical = []
    for number, link in enumerate(graph.links):
        line = line_of(link)
        piece = graph.piece(number)
        corners = plan.corners(piece)
        if line.kind is not Kind.GROWTH and piece[-1] < len(plan.rects):
            heads[link.target] = max(line, heads.get(link.target, line))
            corners[-1] = (corners[-1][0] - _ARROW, corners[-1][1])
        ends = f'data-source="n{link.source}" data-target="n{link.target}"'
        drawn.setdefault(line, []).append(f'<path {ends} d="{_curve(corners)}"/>')
        if link.is_critical:
            whole = plan.corners(graph.path(number))
            whole[-1] = (whole[-1][0] - _ARROW, whole[-1][1])
            critical.append(f'<path d="{_curve(whole)}"/>')
        if line.has_condition:
            diamonds.append((line, _halfway(corners)))
    for line in sorted(drawn):
        yield f'<g class="line {_look(line)}">'
        yield from drawn[line]
        yield "</g>"
    if critical:
        yield f'<g class="line critical">{"".join(critical)}</g>'
    for target in sorted(heads):
        left, middle = plan.rects[target].left, plan.rects[target].middle
        look = _look(heads[target])
        yield f'<path class="head {look}" d="M{left} {middle}l-8 -4v8z"/>'
    for line, (across, down) in diamonds:
        yield f'<path class="diamond {_look(line)}" d="M{across - 6} {down}l6 -4l6 4l-6 4z"/>'


def _look(line: Line) -> str:
    if line.kind is Kind.EDGE:
        return "edge" if line.is_bright else "dim"
    return line.kind.name.lower()


def _curve(corners: Sequence[Point]) -> str:
    (across, down), *rest = corners
    parts = [f"M{across} {down}"]
    for right, height in rest:
        if height == down:
            parts.append(f"H{right}")
        else:
            between = (across + right) // 2
            parts.append(f"C{between} {down} {between} {height} {right} {height}")
        across, down = right, height
    return "".join(parts)


def _halfway(corners: Sequence[Point]) -> Point:
    """Return the middle of the line's first curve."""
    (left, above), (right, below) = corners[:2]
    return (left + right) // 2, (above + below) // 2


# -- boxes


def _drawn_box(number: int, box: Box, rect: Rect) -> str:
    classes = ["box"]
    if box.status:
        classes.append(box.status.lower())
    if box.fate:
        classes.append("removed")
    elif box.origin:
        classes.append("added")
    parts = [
        f'<g class="{" ".join(classes)}" data-id="n{number}"{_data(box)}>',
        f"<title>{xml(_tooltip(box))}</title>",
    ]
    size = f'width="{rect.width}" height="{rect.height}" rx="6"/>'
    for shift in (6, 3) if box.is_fold else ():
        parts.append(f'<rect class="under" x="{rect.left + shift}" y="{rect.top + shift}" {size}')
    parts.append(f'<rect x="{rect.left}" y="{rect.top}" {size}')
    if box.is_critical:
        parts.append(_outline(rect, 6 if box.is_fold else 0))
    left, line = rect.left + 12, rect.top + 19
    if box.status:
        parts.append(drawn_sign(box.status, left + 5, line - 4))
        left += SIGN_WIDTH
    parts.append(f'<text x="{left}" y="{line}">{xml(rect.name)}</text>')
    for text in rect.lines:
        line += 14
        if text:
            parts.append(f'<text class="small" x="{rect.left + 12}" y="{line}">{xml(text)}</text>')
        else:
            parts += _counts(box, rect.left + 12, line)
    parts.append("</g>")
    return "".join(parts)


def _outline(rect: Rect, below: int) -> str:
    return (
        f'<rect class="critical" x="{rect.left - 4}" y="{rect.top - 4}" '
        f'width="{rect.width + 8 + below}" height="{rect.height + 8 + below}" rx="10"/>'
    )


def _data(box: Box) -> str:
    data = f' data-node="{xml(box.name)}"' if not box.is_fold else ""
    if box.status:
        data += f' data-status="{box.status}"'
    return data


def _tooltip(box: Box) -> str:
    lines = (box.name, box.counted(), *box.captions(), box.detail)
    return visible_lines("\n".join(line for line in lines if line))


def _counts(box: Box, left: int, line: int) -> Iterator[str]:
    for word, count in box.counts:
        indent, text = counted(word, count)
        if indent:
            yield drawn_sign(word, left + 5, line - 3)
        yield f'<text class="small" x="{left + indent}" y="{line}">{text}</text>'
        left += width_of_count(word, count)
