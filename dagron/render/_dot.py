"""A picture in DOT, the language of Graphviz."""

from collections.abc import Iterator, Mapping

from dagron._status import CANCELLED, COMPLETED, FAILED, RUNNING, SKIPPED
from dagron.render._picture import SIGNS, Box, Kind, Link, Picture, capped
from dagron.render._text import dot

_COLOURS: Mapping[str, tuple[str, str]] = {
    COMPLETED: ("#e3f4e7", "#1a7f37"),
    FAILED: ("#ffe3e0", "#cf222e"),
    SKIPPED: ("#fdf3d4", "#9a6700"),
    CANCELLED: ("#f1e8fd", "#8250df"),
    RUNNING: ("#ddf0ff", "#0969da"),
}
_GREY = "#8c959f"


def to_dot(picture: Picture) -> str:
    """Return the text of a directed graph, left to right, that ends with a newline."""
    return "\n".join([*_lines(capped(picture)), ""])


def _lines(picture: Picture) -> Iterator[str]:
    yield "digraph {"
    yield '    graph [rankdir="LR"];'
    yield '    node [shape="box", style="rounded,filled", fillcolor="#f6f8fa", color="#57606a"];'
    for number, box in enumerate(picture.boxes):
        yield f"    n{number} [{_attributes(_of_box(box))}];"
    for link in picture.links:
        of_link = _attributes(_of_link(link))
        yield f"    n{link.source} -> n{link.target}{f' [{of_link}]' if of_link else ''};"
    if picture.notes:
        note = "\\l".join([*map(dot, picture.notes), ""])
        yield f'    label="{note}";'
    yield "}"


def _attributes(given: dict[str, str]) -> str:
    return ", ".join(f'{name}="{value}"' for name, value in given.items())


def _of_box(box: Box) -> dict[str, str]:
    sign = f"{SIGNS[box.status]} " if box.status else ""
    counts = [box.counted()] if box.is_fold else []
    lines = [sign + dot(box.name), *map(dot, (*counts, *box.captions()))]
    given = {"label": "\\n".join(lines)}
    if box.is_fold:
        given["peripheries"] = "2"
    if box.status is not None and box.status in _COLOURS:
        given["fillcolor"], given["color"] = _COLOURS[box.status]
    if box.fate:
        given |= {"style": "rounded,dotted", "color": _GREY, "fontcolor": _GREY}
    elif box.origin:
        given["style"] = "rounded,filled,dashed"
    if box.status == FAILED:
        given["penwidth"] = "3"
    if box.detail:
        given["tooltip"] = dot(box.detail)
    return given


def _of_link(link: Link) -> dict[str, str]:
    given: dict[str, str] = {}
    if link.kind is not Kind.EDGE:
        given |= {"style": "dotted", "color": _GREY}
    elif link.is_dim:
        given["color"] = "#c4cad1"
    if link.kind is Kind.GROWTH:
        given["arrowhead"] = "none"
    if link.has_condition:
        given |= {"dir": "both", "arrowtail": "odiamond"}
    return given
