"""A picture as a Mermaid flowchart."""

from collections.abc import Iterator, Mapping

from dagron._status import CANCELLED, COMPLETED, FAILED, RUNNING, SKIPPED
from dagron.render._picture import SIGNS, Box, Kind, Link, Picture, capped
from dagron.render._text import mermaid

_CLASSES: Mapping[str, str] = {
    COMPLETED.lower(): "fill:#e3f4e7,stroke:#1a7f37,color:#0d2d16",
    FAILED.lower(): "fill:#ffe3e0,stroke:#cf222e,color:#49080d,stroke-width:3px",
    SKIPPED.lower(): "fill:#fdf3d4,stroke:#9a6700,color:#3b2900",
    CANCELLED.lower(): "fill:#f1e8fd,stroke:#8250df,color:#2a1052",
    RUNNING.lower(): "fill:#ddf0ff,stroke:#0969da,color:#04264f",
    "added": "stroke-dasharray:6 4",
    "removed": "fill:none,stroke:#8c959f,color:#8c959f,stroke-dasharray:2 4",
}
_ARROWS = {Kind.EDGE: "-->", Kind.GHOST: "-.->", Kind.GROWTH: "-.-"}


def to_mermaid(picture: Picture) -> str:
    """Return the text of a flowchart, left to right, that ends with a newline."""
    return "\n".join([*_lines(capped(picture)), ""])


def _lines(picture: Picture) -> Iterator[str]:
    yield "flowchart LR"
    members: dict[str, list[str]] = {}
    for number, box in enumerate(picture.boxes):
        opening, closing = ("[[", "]]") if box.is_fold else ("[", "]")
        yield f'    n{number}{opening}"{_label(box)}"{closing}'
        for name in _classes(box):
            members.setdefault(name, []).append(f"n{number}")
    dim = []
    for number, link in enumerate(picture.links):
        yield f"    {_edge(link)}"
        if link.is_dim or link.kind is not Kind.EDGE:
            dim.append(str(number))
    if dim:
        yield f"    linkStyle {','.join(dim)} opacity:0.4"
    for name, style in _CLASSES.items():
        if name in members:
            yield f"    classDef {name} {style}"
            yield f"    class {','.join(members[name])} {name}"
    for number, note in enumerate(picture.notes):
        yield f'    note{number}["{mermaid(note)}"]'
        yield f"    style note{number} fill:none,stroke:none"


def _label(box: Box) -> str:
    sign = f"{SIGNS[box.status]} " if box.status else ""
    counts = [box.counted()] if box.is_fold else []
    lines = [f"<small>{mermaid(line)}</small>" for line in (*counts, *box.captions())]
    return "<br/>".join([f"{sign}{mermaid(box.name)}", *lines])


def _classes(box: Box) -> Iterator[str]:
    if box.status:
        yield box.status.lower()
    if box.origin:
        yield "added"
    if box.fate:
        yield "removed"


def _edge(link: Link) -> str:
    condition = '|"if"|' if link.has_condition else ""
    return f"n{link.source} {_ARROWS[link.kind]}{condition} n{link.target}"
