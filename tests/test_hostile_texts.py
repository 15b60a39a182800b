"""Whatever nodes are called and errors say: summaries, lines, drawings and streams stay whole."""

import dataclasses
import json
import re
from importlib.util import find_spec
from itertools import count
from typing import Any
from unicodedata import category

import anyio
import pytest

import dagron
from dagron import DAG, Event, ExecutionResult, NodeResult, NodeStatus, _events
from dagron._names import checked_name
from dagron._tidings import line_of
from faults import GUARD, graph
from handles import start
from pictures import HOSTILE, HOSTILE_TEXTS
from terminals import Terminal
from test_registry import registry
from test_registry_events import parsed
from test_tracking import Told

NEEDS_RICH = pytest.mark.skipif(
    not find_spec("rich"), reason="the extra 'progress' is not installed"
)
every_text = pytest.mark.parametrize("text", HOSTILE_TEXTS, ids=lambda text: ascii(text[:20]))


def is_harmless(line: str) -> bool:
    """It holds nothing that a terminal obeys, nor what turns, hides or ends a line."""
    return not {category(letter) for letter in line} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


def as_name(text: str) -> str:
    """The text if a node can be called so, else a name that nobody minds."""
    try:
        return checked_name(text)
    except dagron.InvalidNameError:
        return "name"


def summary_of(text: str) -> str:
    """The summary of a run in which the text is everywhere."""
    name = as_name(text)
    error = ValueError(text)
    nodes = [
        NodeResult(name, NodeStatus.COMPLETED, text, None, 2.0, 1.0, 2),
        NodeResult("bad", NodeStatus.FAILED, None, error, 1.0, 3.0, 1, name, 1, None, (error,)),
        NodeResult("child", NodeStatus.SKIPPED, added_by=name, depth=1, reason=text),
    ]
    builder = DAG.builder()
    for node in nodes:
        builder.add_node(node.name)
    return ExecutionResult(
        {node.name: node for node in nodes},
        builder.build(),
        removed=(name,),
        unused_expanders=(name,),
        total_duration_seconds=4.0,
        reason=text,
    ).summary()


@every_text
def test_a_summary_has_the_lines_that_it_has_else(text: str) -> None:
    """A name, an error or a reason begins no line, hides none, and makes none long."""
    lines, tame = summary_of(text).split("\n"), summary_of("harmless").split("\n")
    assert [re.match("( +[a-z ]*?  )?", line)[0] for line in lines] == [
        re.match("( +[a-z ]*?  )?", line)[0] for line in tame
    ]
    assert all(map(is_harmless, lines))
    assert max(map(len, lines)) < 500


TEXTUAL = [
    kind
    for kind in vars(_events).values()
    if isinstance(kind, type) and issubclass(kind, Event) and kind not in (Event, _events.NodeEvent)
]


def event_with(kind: type[Event], text: str) -> Event:
    """An event of this kind with the text in every place that takes one."""
    values: dict[str, Any] = {
        "str": text,
        "str | None": text,
        "int": 1,
        "float": 1.0,
        "float | None": 1.0,
        "bool": True,
        "tuple[str, ...]": (text,) * 10,
        "tuple[tuple[str, str], ...]": ((text, text),) * 10,
    }
    return kind(**{field.name: values[_spelled(field.type)] for field in dataclasses.fields(kind)})


def _spelled(annotation: Any) -> str:
    return annotation.__name__ if type(annotation) is type else str(annotation)


@pytest.mark.parametrize("kind", TEXTUAL, ids=lambda kind: kind.__name__)
def test_what_happened_is_one_line(kind: type[Event]) -> None:
    """Whatever an event says is one harmless line, which begins with its time."""
    for text in HOSTILE_TEXTS:
        line = line_of(event_with(kind, text))
        if line is not None:
            assert is_harmless(line)
            assert line.startswith("[     1.0 s] ")


@NEEDS_RICH
@every_text
def test_a_drawing_has_the_lines_that_it_has_else(text: str) -> None:
    """On a terminal no name and no error moves the cursor, breaks a line or styles another."""
    from rich.console import Console

    from dagron._rich import Drawing

    def drawn(text: str) -> list[str]:
        name = as_name(text)
        told = Told(name, "b")
        told(dagron.NodeStarted, name)
        told.add(name, "c")
        told(dagron.NodeFailed, "c", 1, 0.0, text)
        told(dagron.NodeProgress, name, 1.0, 2.0, text)
        stream = Terminal()
        console = Console(
            file=stream, width=100, height=40, force_terminal=True, color_system=None, _environ={}
        )
        console.print(Drawing(stream, console).picture([(told.tracking, 1.0)]))
        return stream.getvalue().split("\n")

    lines, tame = drawn(text), drawn("harmless")
    assert len(lines) == len(tame)
    assert all(map(is_harmless, lines))
    assert [line[:9] for line in lines] == [line[:9] for line in tame]


async def test_a_stream_is_one_message_per_event() -> None:
    """Names and errors of all kinds come out of Server-Sent Events as they went in."""

    def failing(text: str) -> Any:
        async def fail() -> None:
            raise ValueError(text)

        return fail

    errors = count()
    tasks = {name: failing(HOSTILE_TEXTS[next(errors)]) for name in HOSTILE}
    tasks["rest"] = failing("\n\n".join(HOSTILE_TEXTS))
    async with registry() as runs:
        run = runs.start(start(graph(*tasks), tasks))
        with anyio.fail_after(GUARD):
            text = b"".join([chunk async for chunk in run.sse()])
    assert text.isascii()
    messages = parsed(text)
    assert all(set(message) <= {"id", "event", "data"} for message in messages)
    told = [json.loads(message["data"]) for message in messages]
    assert {one["node"] for one in told if one.get("kind") == "node_failed"} == set(tasks)
    assert len(messages) == 2 + 3 * len(tasks) + 1
