"""What is logged: to the logger `dagron`, for whoever listens, and safe to show in a terminal."""

import io
import logging
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

import dagron
from controls import graph
from dagron import (
    DAG,
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    Event,
    NodePolicy,
    Retry,
)
from dagron._logs import plain
from ways import Way, nothing

AT_ONCE = NodePolicy(retry=Retry(3, initial_delay=0))


class Records(logging.Handler):
    """Keeps the records of a logger, and what a format with our fields makes of each."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(levelname)s %(run_id)s %(node)s: %(message)s"))
        self.records: list[Any] = []
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.lines.append(self.format(record))

    def told(self, least: int = logging.INFO) -> list[tuple[str, str | None, str]]:
        """Return level, node and message of all records from that level on."""
        return [
            (record.levelname, record.node, record.getMessage())
            for record in self.records
            if record.levelno >= least
        ]


@pytest.fixture
def records() -> Iterator[Records]:
    logger = logging.getLogger("dagron")
    handler = Records()
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)


async def fail() -> None:
    raise ValueError("burnt")


def test_nothing_is_configured(execute: Way) -> None:
    """The logger has no handlers, no level and no filters of ours, neither before nor after a run
    that had things to log: that is the program's affair.
    """
    result = execute(DynamicExecutor(graph(a=AT_ONCE)), {"a": fail})
    assert result.failed == 1
    logger = logging.getLogger("dagron")
    assert (logger.handlers, logger.filters) == ([], [])
    assert (logger.level, logger.propagate, logger.disabled) == (logging.NOTSET, True, False)
    assert [name for name in logging.root.manager.loggerDict if name.startswith("dagron.")] == []


def test_every_record_has_the_run_and_the_node(execute: Way, records: Records) -> None:
    """All records of a run have its id as `run_id`, and as `node` the name of the node that they
    are about, or None: a format may use both.
    """

    def observe(event: Event) -> None:
        raise RuntimeError("observer")

    executor = DynamicExecutor(
        graph("a>b", a=AT_ONCE), {"b": nothing2, "unused": nothing2}, observers=[observe]
    )
    execute(executor, {"a": fail, "b": nothing})
    assert len({record.run_id for record in records.records}) == 1
    assert records.records[0].run_id
    assert {record.node for record in records.records} == {None, "a", "unused"}
    assert {record.name for record in records.records} == {"dagron"}
    assert len(records.lines) == len(records.records)


def nothing2(name: str, result: object) -> None:
    return None


async def test_the_run_id_is_the_handles(records: Records) -> None:
    """`run_id` is `run.id`, and another run has another."""
    ids = []
    for _ in range(2):
        async with DynamicExecutor(graph(a=None)).start({"a": fail}) as run:
            ids.append(run.id)
    assert [record.run_id for record in records.records if record.node] == ids
    assert ids[0] != ids[1]


def test_a_run_begins_and_ends_at_debug(execute: Way, records: Records) -> None:
    """A run in which nothing goes wrong logs its begin and its end, at DEBUG."""
    execute(DynamicExecutor(graph("a>b")), {"a": nothing, "b": nothing})
    assert [record.levelname for record in records.records] == ["DEBUG", "DEBUG"]
    assert [record.getMessage().split()[-1] for record in records.records] == ["started", "ended"]
    assert records.told() == []


def test_a_failed_node_is_logged_at_info(execute: Way, records: Records) -> None:
    """A failure is in the result: it is logged once, at INFO, with the error's type and text; nodes
    that are skipped because of it are not.
    """
    execute(DynamicExecutor(graph("a>b b>c")), {"a": fail, "b": nothing, "c": nothing})
    assert records.told() == [("INFO", "a", "node 'a' failed: ValueError: burnt")]


def test_an_attempt_that_is_retried_is_logged_at_info(execute: Way, records: Records) -> None:
    """Every attempt that is followed by another says so, with its number, the wait, the error."""
    executor = DynamicExecutor(graph(a=AT_ONCE))
    execute(executor, {"a": fail})
    text = "node 'a' failed in attempt {} and is tried again in 0 s: ValueError: burnt"
    assert records.told() == [
        ("INFO", "a", text.format(1)),
        ("INFO", "a", text.format(2)),
        ("INFO", "a", "node 'a' failed: ValueError: burnt"),
    ]


def test_ordinary_failures_warn_of_nothing(execute: Way, records: Records) -> None:
    """Tasks and expanders that fail, are out of time, are cancelled or end a run early, refused
    modifications and conditions that raise: nothing of it is logged at WARNING or above.
    """

    def refused(name: str, result: object) -> DynamicModification:
        return DynamicModification([DynamicNodeSpec("new", nothing, ["nowhere"])])

    def broken(result: object) -> bool:
        raise ValueError("condition")

    builder = DAG.builder().add_node("late", policy=NodePolicy(timeout=0.01))
    for name in ("fails", "grows", "refuses", "exits"):
        builder.add_node(name)
    builder.add_edge("source", "target", condition=broken)
    executor = DynamicExecutor(builder.build(), {"grows": fail2, "refuses": refused})
    tasks = {
        "late": anyio.sleep_forever,
        "fails": fail,
        "grows": nothing,
        "refuses": nothing,
        "exits": exits,
        "source": nothing,
        "target": nothing,
    }
    result = execute(executor, tasks)
    assert result.failed == 6
    execute(DynamicExecutor(graph(a=None)), {"a": anyio.sleep_forever}, timeout=0.01)
    execute(
        DynamicExecutor(graph(a=None, b=None), on_failure="cancel"),
        {"a": anyio.sleep_forever, "b": fail},
    )
    assert records.told(logging.WARNING) == []
    failed = [node for level, node, _ in records.told() if level == "INFO"]
    assert sorted(map(str, failed)) == [
        "b",
        "exits",
        "fails",
        "grows",
        "late",
        "refuses",
        "target",
    ]


def fail2(name: str, result: object) -> None:
    raise ValueError("expander")


def exits() -> None:
    raise SystemExit(3)


def test_a_cancelled_node_is_not_logged(execute: Way, records: Records) -> None:
    """A node that is cancelled did not fail."""
    execute(DynamicExecutor(graph(a=None)), {"a": anyio.sleep_forever}, timeout=0.01)
    assert records.told() == []


def test_an_observer_that_raises_is_logged_at_error(execute: Way, records: Records) -> None:
    """FAULTS, Events and observers: once, with its error and traceback; then it is dropped."""

    def observe(event: Event) -> None:
        raise RuntimeError("observer")

    execute(DynamicExecutor(graph(a=None), observers=[observe]), {"a": nothing})
    errors = [record for record in records.records if record.levelno >= logging.WARNING]
    assert [(record.levelname, record.node) for record in errors] == [("ERROR", None)]
    assert errors[0].getMessage() == ("an observer raised and was dropped: RuntimeError: observer")
    kind, error, traceback = errors[0].exc_info
    assert (kind, str(error)) == (RuntimeError, "observer")
    assert traceback is not None
    assert "in observe" in next(line for line in records.lines if line.startswith("ERROR"))


def test_an_unused_expander_is_a_warning(execute: Way, records: Records) -> None:
    """E3: an expander whose node never appeared is the one thing that is logged at WARNING."""
    executor = DynamicExecutor(graph(clean=None), {"clean": nothing2, "claen": nothing2})
    execute(executor, {"clean": nothing})
    told = records.told(logging.WARNING)
    assert [level for level, _, _ in told] == ["WARNING"]
    assert "the expander for 'claen' was never called" in told[0][2]
    assert "'clean'" in told[0][2]


# --- hostile texts -------------------------------------------------------------------------------

HOSTILE = [
    "\x1b[31mred",
    "bell\x07",
    "\x9b31mred",
    "two\nlines",
    "carriage\rreturn",
    "\u202egnp.exe",
    "\u2066isolated\u2069",
    "line\u2028separator",
    "paragraph\u2029separator",
    "zero\u200bwidth",
    "tag\U000e0041",
    "null\x00",
    "half\ud800pair",
]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_a_text_without_what_a_terminal_obeys(text: str) -> None:
    """Control characters, direction marks and line ends become spaces; what can be seen stays."""
    shown = plain(text)
    assert shown.isprintable()
    assert len(shown) == len(text)
    assert shown.replace(" ", "") == "".join(letter for letter in text if letter.isprintable())


@pytest.mark.parametrize("text", ["", "plain", "with space", "größer", "中文", "🙂", "%s %d"])
def test_a_text_that_is_harmless_stays_as_it_is(text: str) -> None:
    """Letters of all scripts are left alone."""
    assert plain(text) == text


def test_names_and_errors_are_made_harmless(execute: Way, records: Records) -> None:
    """Node names that try to play with the terminal, and errors, in a message and in the field
    `node`: every line that is logged is one printable line.
    """
    names = [text for text in HOSTILE if "\u202e" in text or "\u2028" in text or "\u2066" in text]
    names.append("%s%(run_id)s {0}")
    dag = graph(**dict.fromkeys(names, AT_ONCE))
    results = [
        execute(DynamicExecutor(dag), dict.fromkeys(names, raising(text))) for text in HOSTILE
    ]
    assert all(result.failed == len(names) for result in results)
    assert len(records.lines) == len(HOSTILE) * (2 + 3 * len(names))
    assert [line for line in records.lines if not line.isprintable()] == []
    assert {record.node for record in records.records if record.node} == set(map(plain, names))


def raising(text: str) -> Any:
    async def task() -> None:
        raise ValueError(text)

    return task


def test_an_error_of_100_kb_is_a_short_line(execute: Way, records: Records) -> None:
    """FAULTS: the text of an error is shortened."""
    execute(DynamicExecutor(graph(a=None)), {"a": raising("x" * 100_000)})
    assert max(map(len, records.lines)) < 1_000


def test_an_error_without_a_text_or_with_a_broken_one(execute: Way, records: Records) -> None:
    """An exception whose `__str__` raises is logged by its type."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    async def mute() -> None:
        raise Mute

    async def empty() -> None:
        raise KeyError

    execute(DynamicExecutor(graph(mute=None, empty=None)), {"mute": mute, "empty": empty})
    told = {node: message for _, node, message in records.told()}
    assert told["mute"].startswith("node 'mute' failed: Mute: <its text cannot be shown")
    assert told["empty"] == "node 'empty' failed: KeyError"


def test_a_handler_that_raises_is_loggings_own_affair(
    execute: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler that cannot write does not touch the run."""
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logger = logging.getLogger("dagron")
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        result = execute(DynamicExecutor(graph(a=AT_ONCE, b=None)), {"a": fail, "b": checkpoint})
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    assert (result.failed, result.succeeded) == (1, 1)


async def test_a_level_that_is_not_asked_for_is_not_logged(records: Records) -> None:
    """The logger's level is obeyed: at WARNING a run full of failures logs nothing."""
    logging.getLogger("dagron").setLevel(logging.WARNING)
    result = await DynamicExecutor(graph(a=AT_ONCE)).execute({"a": fail})
    assert result.failed == 1
    assert records.records == []
    assert dagron.__version__
