"""The document around a picture, and its style sheet.

All rules begin with the picture's own class, since a page may hold other things. There are no
variables in it: not all that shows SVG knows them.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from dagron.render._text import xml


class Colours(NamedTuple):
    paper: str
    text: str
    quiet: str  # small text, ghosts
    edge: str
    dim: str
    box: tuple[str, str]  # fill and stroke
    completed: tuple[str, str]
    failed: tuple[str, str]
    skipped: tuple[str, str]
    cancelled: tuple[str, str]
    running: tuple[str, str]


_LIGHT = Colours(
    paper="#ffffff",
    text="#1f2328",
    quiet="#656d76",
    edge="#57606a",
    dim="#cfd6dd",
    box=("#f6f8fa", "#6e7781"),
    completed=("#eaf7ee", "#1a7f37"),
    failed=("#ffe9e7", "#cf222e"),
    skipped=("#fdf6df", "#9a6700"),
    cancelled=("#f5effe", "#8250df"),
    running=("#e4f3ff", "#0969da"),
)
_DARK = Colours(
    paper="#0d1117",
    text="#e6edf3",
    quiet="#8d96a0",
    edge="#8b949e",
    dim="#30373f",
    box=("#161b22", "#768390"),
    completed=("#11261a", "#3fb950"),
    failed=("#3a1619", "#ff7b72"),
    skipped=("#2b2111", "#d29922"),
    cancelled=("#241a37", "#bc8cff"),
    running=("#10243e", "#58a6ff"),
)

_SHAPES = """\
text{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;\
white-space:pre;unicode-bidi:isolate}
text.small{font-size:10px}
.line path,.sign,.diamond{fill:none;stroke-width:1.4}
.line.dim path{stroke-width:1.2}
.line.ghost path,.line.growth path{stroke-dasharray:1 4;stroke-linecap:round}
.box>rect{stroke-width:1.3}
.box.failed>rect{stroke-width:2.6}
.box.added>rect{stroke-dasharray:6 4}
.box>rect.critical{stroke-width:1.6;stroke-dasharray:none}
.line.critical path{stroke-width:2.4}
.box>rect.under{stroke-width:1;stroke-dasharray:none}
.box.removed>rect{stroke-dasharray:1.5 4;stroke-linecap:round}
.box.removed>text:not(.small){text-decoration:line-through}
.sign{stroke-width:2;stroke-linecap:round;stroke-linejoin:round}"""


def _painted(colours: Colours) -> str:
    rules = [
        f".paper{{fill:{colours.paper}}}",
        f"text{{fill:{colours.text}}}",
        f"text.small,.box.removed>text{{fill:{colours.quiet}}}",
        f".line.edge path,.line.critical path,.diamond.edge{{stroke:{colours.edge}}}",
        f".line.dim path,.diamond.dim{{stroke:{colours.dim}}}",
        f".line.ghost path,.line.growth path,.diamond.ghost{{stroke:{colours.quiet}}}",
        f".head.edge{{fill:{colours.edge}}}",
        f".head.dim{{fill:{colours.dim}}}",
        f".head.ghost{{fill:{colours.quiet}}}",
        f".diamond{{fill:{colours.paper}}}",
        f".box>rect{{fill:{colours.box[0]};stroke:{colours.box[1]}}}",
        f".sign{{stroke:{colours.quiet}}}",
    ]
    for status in ("completed", "failed", "skipped", "cancelled", "running"):
        fill, stroke = getattr(colours, status)
        rules.append(f".box.{status}>rect{{fill:{fill};stroke:{stroke}}}")
        rules.append(f".sign.{status}{{stroke:{stroke}}}")
    rules.append(f".box.removed>rect{{fill:none;stroke:{colours.quiet}}}")
    rules.append(f".box>rect.critical{{fill:none;stroke:{colours.edge}}}")
    return "\n".join(rules)


def _scoped(rules: str, kind: str = "") -> str:
    """Return the rules with the class of the picture, and of its kind, before each selector."""
    lines = []
    for rule in filter(None, rules.split("\n")):
        selectors, brace, rest = rule.partition("{")
        scoped = ",".join(f".dagron{kind} {selector}" for selector in selectors.split(","))
        lines.append(f"{scoped}{brace}{rest}")
    return "\n".join(lines)


def sheet(
    kind: str = "", shapes: str = "", painted: Callable[[Colours], str] = lambda colours: ""
) -> str:
    """Return a style sheet: the rules that all pictures have, then those of one kind alone.

    A page may hold pictures of several kinds, and every rule is for all of the page.
    """
    of = f".{kind}"
    parts = [
        "",
        _scoped(_SHAPES),
        _scoped(shapes, of),
        _scoped(_painted(_LIGHT)),
        _scoped(painted(_LIGHT), of),
        "@media screen{svg.dagron{max-width:100%;height:auto}}",
        "@media (prefers-color-scheme:dark){",
        _scoped(_painted(_DARK)),
        _scoped(painted(_DARK), of),
        "}",
    ]
    return "\n".join(["", *filter(None, parts), ""])


STYLE = sheet()


def document(
    style: str, summary: str, width: int, height: int, drawn: Iterable[str], kind: str = ""
) -> str:
    """Return a picture of that size, with a sentence for those who cannot see it."""
    of = f"dagron {kind}".rstrip()
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="{of}" role="img" '
            f'width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            f'aria-label="{xml(summary)}">',
            f"<style>{style}</style>",
            f'<rect class="paper" width="{width}" height="{height}" rx="8"/>',
            *drawn,
            "</svg>\n",
        ]
    )
