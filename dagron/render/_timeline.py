"""A run over time, as SVG: a bar for each node, in lanes, and a line for each modification."""

from collections.abc import Collection, Iterable, Iterator
from itertools import pairwise

from dagron._names import plural, shown_time
from dagron._results import SHOWN_TEXT, ExecutionResult, error_text
from dagron._status import CANCELLED, COMPLETED, FAILED, SKIPPED
from dagron.render._course import Course, Work, course_of
from dagron.render._legend import (
    ADDED,
    CRITICAL,
    Entry,
    drawn_legend,
    drawn_sign,
    entries_of_totals,
)
from dagron.render._plan import MARGIN, NAME_CELLS
from dagron.render._style import Colours, document, sheet
from dagron.render._text import cells, fitted, noted, visible, xml
from dagron.render._timeline_plan import MOST_FULL_LINES, Bar, Mark, Plan, planned, told_of

_SHAPES = """\
.grid path,.landing path{stroke-width:1;fill:none}
.landing path{stroke-dasharray:2 4}
.landing path.mark{stroke-width:1.4;stroke-dasharray:none}
.box>rect.again,.box>rect.after{stroke-width:1.2;stroke-dasharray:none}
.hatch{fill:none;stroke-dasharray:1.6 3.4}
.pause{fill:none;stroke-width:1.2;stroke-dasharray:1 3;stroke-linecap:round}"""


def _painted(colours: Colours) -> str:
    return "\n".join(
        [
            f".grid path{{stroke:{colours.dim}}}",
            f".landing path{{stroke:{colours.edge}}}",
            f".queue{{fill:{colours.quiet};fill-opacity:.4}}",
            f".box>rect.wait{{fill:{colours.quiet};fill-opacity:.4;stroke:none}}",
            f".box>rect.again{{fill:{colours.box[0]};stroke:{colours.box[1]}}}",
            f".box>rect.after{{fill:{colours.paper}}}",
            f".hatch,.pause{{stroke:{colours.box[1]}}}",
            f".box>text.small{{fill:{colours.text}}}",
        ]
    )


_WIDE = 10  # a bar whose dashes look like dashes
_QUEUE = 40  # how high it is drawn, where nodes wait

_KIND = "timeline"
_STYLE = sheet(_KIND, _SHAPES, _painted)


def to_timeline_svg(result: ExecutionResult) -> str:
    """Return the text of a picture that stands alone; the same result gives the same text."""
    course = course_of(result)
    path = result.critical_path()
    critical = set(path) if len(path) < len(course.works) else set()
    plan = planned(course, path)
    entries = list(_entries(result, plan, critical))
    notes = list(_notes(result, course, plan))
    bottom = plan.bottom + (_QUEUE + 12 if plan.queue else 0)
    legend, width, height = drawn_legend(entries, notes, plan.width, bottom)
    width += MARGIN
    height += MARGIN
    drawn = [
        *_drawn_axis(plan),
        *_drawn_marks(plan),
        *(_drawn_bar(plan, bar, critical) for bar in _in_order(plan.bars, critical)),
        *_drawn_queue(plan),
        *legend,
    ]
    return document(_STYLE, _summary(result), width, height, drawn, _KIND)


def _summary(result: ExecutionResult) -> str:
    nodes = plural(len(result.node_results) + result.forgotten, "node")
    counts = [f"{count:,} {word.lower()}" for word, count in _totals(result)]
    took = shown_time(result.total_duration_seconds)
    return f"a timeline: {', '.join([f'{nodes} in {took}', *counts])}"


def _totals(result: ExecutionResult) -> list[tuple[str, int]]:
    totals = (
        (COMPLETED, result.succeeded),
        (FAILED, result.failed),
        (SKIPPED, result.skipped),
        (CANCELLED, result.cancelled),
    )
    return [(word, count) for word, count in totals if count]


# -- behind the bars


def _drawn_axis(plan: Plan) -> Iterator[str]:
    if not plan.bars:
        return
    lines = [f'<path d="M{left} {MARGIN + 14}V{plan.bottom}"/>' for left, _ in plan.ticks]
    yield f'<g class="grid">{"".join(lines)}</g>'
    for left, text in plan.ticks:
        across = max(left - cells(text) * 61 // 20, MARGIN - 4)
        yield f'<text class="small" x="{across}" y="{MARGIN + 8}">{text}</text>'


def _drawn_queue(plan: Plan) -> Iterator[str]:
    if not plan.queue:
        return
    most = max(count for _, count in plan.queue)
    floor = plan.bottom + 8 + _QUEUE
    path = [f"M{plan.queue[0][0]} {floor}"]
    path += [f"V{floor - -(-_QUEUE * count // most)}H{left}" for left, count in _steps(plan.queue)]
    title = f"up to {plural(most, 'node')} waited at once"
    yield f'<path class="queue" d="{"".join(path)}V{floor}Z"><title>{title}</title></path>'


def _steps(queue: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Give until where how many waited."""
    for (_, count), (left, _) in pairwise(queue):
        yield left, count


def _drawn_marks(plan: Plan) -> Iterator[str]:
    is_full = len(plan.marks) <= MOST_FULL_LINES
    for mark in plan.marks:
        top = MARGIN + 22
        yield f'<g class="landing"><title>{xml(_tooltip_of(mark))}</title>'
        head = "m-3 -4l3 4l3 -4" if is_full else ""
        yield f'<path class="mark" d="M{mark.left} {top}v10{head}"/>'
        if is_full:
            yield f'<path d="M{mark.left} {top + 12}V{plan.bottom}"/>'
        if mark.caption:
            across, down = mark.left + 8, top + 8
            yield f'<text class="small" x="{across}" y="{down}">{xml(mark.caption)}</text>'
        yield "</g>"


def _tooltip_of(mark: Mark) -> str:
    lines = [f"modification {of.version:,}: {visible(told_of([of]))}" for of in mark.landings[:9]]
    if len(mark.landings) > 9:
        lines.append(f"and {len(mark.landings) - 9:,} more")
    return "\n".join(lines)


# -- bars


def _in_order(bars: Iterable[Bar], critical: Collection[str]) -> list[Bar]:
    """Return them in the order in which they are drawn: outlines reach beyond their lanes."""
    return sorted(bars, key=lambda bar: bar.work.result.name in critical)


def _drawn_bar(plan: Plan, bar: Bar, critical: Collection[str]) -> str:
    node = bar.work.result
    middle, high = plan.middle(bar.lane), plan.size.bar
    top, round = middle - high // 2, 3 if plan.size.has_names else 1
    (first, _), (last, last_end) = bar.attempts[0], bar.attempts[-1]
    classes = f"box {node.status.lower()}"
    if _is_dashed(bar):
        classes += " added"
    parts = [
        f'<g class="{classes}" data-node="{xml(node.name)}" data-status="{node.status}">',
        f"<title>{xml(_tooltip(bar.work))}</title>",
    ]
    if bar.wait is not None:
        parts.append(_rect("wait", bar.wait, first, middle - high // 4, high // 2, 0))
    if bar.end - last_end > 1:
        parts.append(_rect("after", last_end - 2, bar.end, middle - high // 4, high // 2, 0))
    for (left, right), (again, _) in pairwise(bar.attempts):
        parts.append(f'<path class="pause" d="M{right} {middle}H{again}"/>')
        parts.append(_rect("again", left, right, top, high, round))
        parts.append(
            f'<path class="hatch" stroke-width="{high - 2}" d="M{left + 2} {middle}H{right}"/>'
        )
    parts.append(_rect("", last, last_end, top, high, round))
    if node.name in critical:
        parts.append(_rect("critical", first - 3, bar.end + 3, top - 3, high + 6, round + 3))
    if bar.label is not None:
        parts.append(drawn_sign(node.status, bar.label + 5, middle))
        if bar.name:
            parts.append(
                f'<text class="small" x="{bar.label + 15}" y="{middle + 4}">{xml(bar.name)}</text>'
            )
    parts.append("</g>")
    return "".join(parts)


def _is_dashed(bar: Bar) -> bool:
    first, last = bar.attempts[-1]
    return bar.work.result.added_by is not None and last - first >= _WIDE


def _rect(kind: str, left: int, right: int, top: int, high: int, round: int) -> str:
    of = f'class="{kind}" ' if kind else ""
    rx = f' rx="{round}"' if round else ""
    return f'<rect {of}x="{left}" y="{top}" width="{right - left}" height="{high}"{rx}/>'


def _tooltip(work: Work) -> str:
    node = work.result
    took = shown_time(node.duration_seconds)
    lines = [visible(node.name), f"took {took}, began {_time(work.start)} into the run"]
    if work.ready < work.start:
        lines.append(f"waited {_time(work.start - work.ready)} for its turn")
    if node.attempts > 1:
        lines.append(f"attempts: {node.attempts:,}")
    if work.end - work.attempts[-1][1] > 1_000:
        lines.append(f"its expander took {_time(work.end - work.attempts[-1][1])}")
    if node.added_by is not None:
        lines.append(f"added by {visible(node.added_by)}")
    if node.reason:
        lines.append(noted(node.reason, SHOWN_TEXT))
    if node.status is FAILED:
        lines += [visible(line) for line in error_text(node.error).splitlines()]
    return "\n".join(lines)


def _time(micros: int) -> str:
    return shown_time(micros / 1_000_000)


# -- below


def _entries(result: ExecutionResult, plan: Plan, critical: Collection[str]) -> Iterator[Entry]:
    yield from entries_of_totals(_totals(result))
    bars = plan.bars
    if any(map(_is_dashed, bars)):
        yield ADDED
    if any(bar.wait is not None for bar in bars):
        yield _swatch("wait", 6), "waiting for its turn"
    if plan.queue:
        most = max(count for _, count in plan.queue)
        yield _swatch("wait", 10), f"how many nodes waited for their turn: up to {most:,}"
    if any(len(bar.attempts) > 1 for bar in bars):
        hatch = '<path class="hatch" stroke-width="8" d="M2 -3H14"/>'
        yield f"{_swatch('again', 10)}{hatch}", "an attempt that failed"
    if any(bar.end - bar.attempts[-1][1] > 1 for bar in bars):
        yield _swatch("after", 6), "its expander, or its children"
    if plan.marks:
        head = "m-3 -4l3 4l3 -4" if len(plan.marks) <= MOST_FULL_LINES else ""
        mark = f'<path class="mark" d="M7 -9v10{head}"/>'
        yield f'<g class="landing">{mark}</g>', f"the graph was changed{_changer(plan.marks)}"
    if any(bar.work.result.name in critical for bar in bars):
        yield CRITICAL


def _changer(marks: Iterable[Mark]) -> str:
    """Return who made all modifications, if it was one, and beside the marks is no room for it."""
    marks = list(marks)
    by = {landing.by for mark in marks for landing in mark.landings}
    if len(by) > 1 or all(mark.caption for mark in marks):
        return ""
    who = by.pop()
    return " from outside" if who is None else f" by {fitted(visible(who), NAME_CELLS)}"


def _swatch(kind: str, high: int) -> str:
    top = -3 - high // 2
    return f'<g class="box"><rect class="{kind}" y="{top}" width="14" height="{high}"/></g>'


def _notes(result: ExecutionResult, course: Course, plan: Plan) -> Iterator[str]:
    started, nodes = len(course.works), result.node_results.values()
    if result.reason is not None:
        yield f"cut short: {noted(result.reason)}"
    if not nodes and not result.forgotten:
        yield "the run had no nodes"
    elif not started and any(node.attempts for node in nodes):
        yield "nothing is drawn: the result does not say when its nodes started"
    elif not started and nodes:
        yield "nothing is drawn: no node started"
    elif started < len(nodes):
        yield f"not shown: {plural(len(nodes) - started, 'node')} that never started"
    if len(plan.bars) < started:
        yield (
            f"{len(plan.bars):,} of {started:,} bars are shown: "
            f"failures, the critical path, and what took longest"
        )
    if result.forgotten:
        yield f"not shown: {plural(result.forgotten, 'forgotten node')}"
