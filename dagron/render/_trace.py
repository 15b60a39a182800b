"""A run over time in the trace event format, for Perfetto and chrome://tracing."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dagron._names import plural
from dagron._results import ExecutionResult, error_text
from dagron._status import FAILED
from dagron._times import Landing
from dagron.render._course import Course, Span, Work, course_of
from dagron.render._files import checked_path, write
from dagron.render._packing import packed

_PROCESS = 1

Record = dict[str, Any]


def to_chrome_trace(result: ExecutionResult, path: str | Path) -> None:
    """Write the trace into a file."""
    checked = checked_path(path, "result.to_chrome_trace(...)", "run.json")
    write(trace_of(result), checked)


def trace_of(result: ExecutionResult) -> str:
    """Return the text of a JSON object, with one event in each line.

    Slices of one lane never overlap, nor do they nest: a node has one for each attempt, and one
    for its expander. Times are whole microseconds since the run began; no slice is shorter than 1.
    """
    course = course_of(result)
    events = [json.dumps(event) for event in _events(result, course)]
    about = json.dumps({"title": repr(result), "nodes not started": _unstarted(result, course)})
    lines = ",\n".join(events)
    return f'{{"displayTimeUnit": "ms", "otherData": {about}, "traceEvents": [\n{lines}\n]}}\n'


def _unstarted(result: ExecutionResult, course: Course) -> int:
    return len(result.node_results) - len(course.works)


def _events(result: ExecutionResult, course: Course) -> Iterator[Record]:
    slices = [list(_slices(work)) for work in course.works]
    lanes = packed([(of[0]["ts"], of[-1]["ts"] + of[-1]["dur"]) for of in slices])
    yield _named("process_name", name="dagron")
    for lane in range(max(lanes, default=-1) + 1):
        yield _named("thread_name", lane, name=f"lane {lane + 1}")
        yield _named("thread_sort_index", lane, sort_index=lane)
    for lane, of in zip(lanes, slices, strict=True):
        for event in of:
            yield {**event, "pid": _PROCESS, "tid": lane}
    for at, landing in course.landings:
        yield _instant(at, landing)


def _named(what: str, lane: int = 0, **args: object) -> Record:
    return {"ph": "M", "name": what, "pid": _PROCESS, "tid": lane, "args": args}


def _slices(work: Work) -> Iterator[Record]:
    """Give the slices of a node, one after another; the last attempt says what it came to."""
    node = work.result
    end = 0
    count = len(work.attempts)
    for number, span in enumerate(_apart(work.attempts), 1):
        end = span[1]
        args = _args(work) if number == count else {}
        if number < count and number <= len(node.errors):
            args["error"] = error_text(node.errors[number - 1])
        if count > 1:
            args["attempt"] = f"{number:,} of {count:,}"
        yield _slice(node.name, "node" if number == count else "failed attempt", span, args)
    if work.end > end:
        yield _slice(f"{node.name}: expander", "expander", (end, work.end), {"node": node.name})


def _apart(spans: Iterable[Span]) -> Iterator[Span]:
    """Give each span a length, and let none begin before the end of the one before."""
    last = 0
    for start, end in spans:
        start = max(start, last)
        last = max(end, start + 1)
        yield start, last


def _slice(name: str, category: str, span: Span, args: Record) -> Record:
    start, end = span
    return {"ph": "X", "name": name, "cat": category, "ts": start, "dur": end - start, "args": args}


def _args(work: Work) -> Record:
    node = work.result
    args: Record = {"status": str(node.status), "attempts": node.attempts}
    if node.added_by is not None:
        args["added_by"] = node.added_by
    if node.reason is not None:
        args["reason"] = node.reason
    if node.status is FAILED:
        args["error"] = error_text(node.error)
    if work.ready < work.start:
        args["waited_us"] = work.start - work.ready
    return args


def _instant(at: int, landing: Landing) -> Record:
    by = "from outside" if landing.by is None else f"by {landing.by}"
    changed = f"{plural(landing.added, 'node')} added, {landing.removed:,} removed"
    args = {"version": landing.version, "by": landing.by, "changed": changed}
    return {
        "ph": "i",
        "s": "p",
        "name": f"modification {landing.version:,} {by}",
        "cat": "modification",
        "ts": at,
        "pid": _PROCESS,
        "tid": 0,
        "args": args,
    }
