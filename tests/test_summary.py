"""`result.summary()`: what a run came to, in a few lines of text."""

import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import dagron
from dagron import (
    DAG,
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    ExecutionResult,
    Fold,
    NodePolicy,
    NodeResult,
    NodeStatus,
    Retry,
)
from dagron._calls import defined_at
from dagron._errors import RecordedError
from dagron._family import Tally
from ways import Way, adding, chain, nothing

COMPLETED, FAILED, SKIPPED = NodeStatus.COMPLETED, NodeStatus.FAILED, NodeStatus.SKIPPED
LARGEST = 8_000  # characters


def completed(seconds: dict[str, float], **fields: Any) -> dict[str, NodeResult]:
    return {
        name: NodeResult(name, COMPLETED, duration_seconds=took, attempts=1, **fields)
        for name, took in seconds.items()
    }


def came_to(results: dict[str, NodeResult], edges: str = "", **fields: Any) -> ExecutionResult:
    builder = DAG.builder()
    for name in results:
        builder.add_node(name)
    for edge in edges.split():
        builder.add_edge(*edge.split("-"))
    return ExecutionResult(results, builder.build(), **fields)


def run_of(task: Callable[..., Any]) -> str:
    """The summary of a run of one node."""
    return DynamicExecutor(chain("node")).execute_sync({"node": task}).summary()


def line_of(function: Callable[..., Any], offset: int = 1) -> str:
    return f"{__file__}:{function.__code__.co_firstlineno + offset} in {function.__name__}"


# --- the whole ------------------------------------------------------------------------------------


def test_a_run_in_a_few_lines() -> None:
    """Counts, seconds, work, parallelism, critical path, the slowest and what was added, exactly
    so.
    """
    results = completed({"find": 0.5, "total": 0.25})
    results |= completed({"x": 2, "y": 0.004}, added_by="find", depth=1)
    result = came_to(results, "find-x find-y x-total y-total", total_duration_seconds=1.377)
    assert result.summary() == "\n".join(
        [
            "4 nodes in 1.38 s, all succeeded",
            "  work           2.75 s in tasks, 2.0 nodes at once on average",
            "  critical path  2.75 s, 200% of the run",
            "                 'find' 500 ms -> 'x' 2 s -> 'total' 250 ms",
            "  slowest           2 s  'x', added by 'find'",
            "                 500 ms  'find'",
            "                 250 ms  'total'",
            "                   4 ms  'y', added by 'find'",
            "  added          2 by 'find'; median 4 ms, longest 2 s",
        ]
    )


def test_the_times_of_a_family_are_those_of_its_successes() -> None:
    """Where some failed, which may have taken longer, it says so."""
    results = completed({"list": 0.001})
    results |= completed({"a": 0.01, "b": 0.01}, added_by="list", depth=1)
    results["c"] = NodeResult("c", FAILED, None, OSError(), 0.2, None, 1, "list", 1)
    assert (
        "added          3 by 'list': 2 succeeded, 1 failed; "
        "median 10 ms, longest 10 ms of those that succeeded\n"
    ) in came_to(results).summary()


def test_a_run_of_nothing() -> None:
    """An empty run, and one whose nodes took no time, have a summary of one line."""
    assert came_to({}).summary() == "0 nodes in 0.000 ms"
    assert came_to({"a": NodeResult("a", SKIPPED)}).summary() == "1 node in 0.000 ms: 1 skipped"
    one = came_to(completed({"a": 0}), total_duration_seconds=12345.6)
    assert one.summary() == "1 node in 12,346 s: 1 succeeded"


def test_what_else_there_is_to_tell() -> None:
    """The reason of the end, what was removed, tried again, never called and dropped are told."""
    results = completed({"a": 0})
    results["b"] = NodeResult("b", COMPLETED, attempts=3)
    result = came_to(
        results,
        reason="the run's timeout of 5 s was over",
        removed=tuple(f"r{number}" for number in range(7)),
        unused_expanders=("typo",),
        dropped_observers=2,
    )
    lines = result.summary().splitlines()[1:]
    assert [line.split(maxsplit=1)[0] for line in lines] == [
        "cut",
        "removed",
        "tried",
        "never",
        "dropped",
    ]
    assert lines[0].endswith("  the run's timeout of 5 s was over")
    assert lines[1].endswith("  'r0', 'r1', 'r2', 'r3', 'r4' and 2 more")
    assert lines[2].endswith("  1 node, 2 times in all")
    assert lines[3].endswith("  the expander for 'typo'")
    assert lines[4].endswith("  2 observers that raised, see the log")


def test_retries_are_told_of_a_run(execute: Way) -> None:
    """A node that succeeded in its second attempt is counted as tried again."""
    attempts: list[int] = []

    def flaky() -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError("busy")

    policy = NodePolicy(retry=Retry(2, initial_delay=0))
    dag = DAG.builder().add_node("flaky", policy=policy).build()
    summary = execute(DynamicExecutor(dag), {"flaky": flaky}).summary()
    assert "tried again    1 node, 1 time in all" in summary
    assert "failed" not in summary


# --- failures -------------------------------------------------------------------------------------


def broken() -> None:
    raise ValueError("no date\nin line 7")


def in_a_library() -> None:
    json.loads("{")


def caught_and_raised() -> None:
    try:
        broken()
    except ValueError as error:
        raise RuntimeError("wrapped") from error


def test_a_failure_is_told_with_its_place_and_its_cost(execute: Way) -> None:
    """The node, who added it, the error in one line, file and line, and how many were skipped."""
    spec = DynamicNodeSpec("x", broken, ["find"], ["total"])
    executor = DynamicExecutor(chain("find", "total"), {"find": adding(spec)})
    summary = execute(executor, {"find": nothing, "total": nothing}).summary()
    assert "3 nodes in " in summary
    assert ": 1 succeeded, 1 failed, 1 skipped\n" in summary
    assert "1 by 'find': 1 failed\n" in summary
    told, place = summary.splitlines()[-2:]
    assert told.endswith("  'x', added by 'find': ValueError: no date in line 7")
    assert place.strip() == f"at {line_of(broken)}; 1 node skipped for it"


@pytest.mark.parametrize(
    ("task", "place"),
    [
        (in_a_library, line_of(in_a_library)),
        (caught_and_raised, line_of(caught_and_raised, 4)),
    ],
)
def test_the_place_is_in_the_users_own_code(task: Callable[[], None], place: str) -> None:
    """It is the innermost line that is neither of the standard library nor of a package."""
    assert run_of(task).endswith(f"at {place}")


def test_a_library_as_the_task_is_the_place() -> None:
    """Where none of the code is the user's own, the outermost line is told."""
    dag = DAG.builder().add_edge("text", "read").build()
    tasks = {"text": lambda: 1, "read": lambda text: json.loads(text)}
    result = DynamicExecutor(dag).execute_sync(tasks)
    assert f"at {__file__}" in result.summary()
    error = result["read"].error
    assert error is not None
    assert error.__traceback__ is not None
    error.__traceback__ = error.__traceback__.tb_next
    assert "json/__init__.py" in result.summary().replace("\\", "/")


def test_an_error_without_traceback_has_no_place() -> None:
    """An error that was never raised, or came out of a pickle, is told without a place."""
    result = came_to({"a": NodeResult("a", FAILED, error=OSError("gone"), attempts=1)})
    assert result.summary().splitlines()[1:] == ["  failed  'a': OSError: gone"]


def test_causes_in_a_circle_hang_nothing() -> None:
    """Errors that are each other's cause, and were never raised, have no place."""
    error, other = OSError("gone"), OSError("other")
    error.__cause__, other.__cause__ = other, error
    result = came_to({"a": NodeResult("a", FAILED, error=error, attempts=1)})
    assert result.summary().splitlines()[1:] == ["  failed  'a': OSError: gone"]


async def unawaited() -> Any:
    return passing()


async def passing() -> None:
    return


class Unawaited:
    async def method(self) -> Any:
        return passing()

    async def __call__(self) -> Any:
        return passing()


@functools.wraps(passing)
async def wrapped() -> Any:
    return passing()


@pytest.mark.parametrize(
    ("task", "function"),
    [
        (unawaited, unawaited),
        (functools.partial(functools.partial(unawaited)), unawaited),
        (Unawaited().method, Unawaited.method),
        (Unawaited(), Unawaited.__call__),
        (wrapped, passing),
    ],
)
def test_an_error_of_ours_is_told_with_the_definition(task: Any, function: Any) -> None:
    """Where no line of the user's raised it, it is said where the task is defined: also through
    partials, methods, objects and what `functools.wraps` was put around.
    """
    told, place, _ = run_of(task).splitlines()[-3:]
    assert "NotAwaitedError" in told
    assert place.strip() == f"the task is defined at {line_of(function, 0)}"


def test_a_task_that_is_out_of_time_is_told_with_its_definition(tmp_path: Path) -> None:
    """So it is, as a recorded run tells it, too; the error holds but words."""

    async def slow() -> None:
        await anyio.sleep_forever()

    dag = DAG.builder().add_node("a", policy=dagron.NodePolicy(timeout=1e-3)).build()
    place = f"the task is defined at {line_of(slow, 0)}"
    with dagron.Journal(tmp_path / "runs.db") as journal:
        executor = DynamicExecutor(dag, journal=journal)
        result = executor.execute_sync({"a": slow}, run_id="a")
        recorded = journal.run("a").result
    assert place in result.summary()
    assert recorded is not result
    assert type(recorded["a"].error) is RecordedError
    assert place in recorded.summary()
    error = result["a"].error
    assert error is not None
    assert error.__notes__ == [place]


def test_what_has_no_definition_of_the_users_is_told_without() -> None:
    """A node without a task has none, nor has a callable in C, or of dagron's own; a subclass that
    answers wrongly breaks nothing.
    """

    class Odd(dagron.DagronError):
        pass

    error: dagron.DagronError = Odd("odd")
    vars(error)["__notes__"] = [3, "another note"]
    result = came_to({"a": NodeResult("a", FAILED, error=error, attempts=1)})
    assert result.summary().splitlines()[1:] == ["  failed  'a': Odd: odd"]
    vars(error)["__notes__"] = 3
    assert result.summary().splitlines()[1:] == ["  failed  'a': Odd: odd"]
    assert defined_at("the task", len) is None
    assert defined_at("the task", dagron.Gate().wait) is None
    endless = functools.wraps(nothing)(lambda: None)
    endless.__wrapped__ = endless  # type: ignore[attr-defined]
    assert str(defined_at("the task", endless)).endswith("in <lambda>")
    error = dagron.NodeTimeoutError("late")
    error.add_note(f"the task is defined at {'x' * 500}.py:7 in f")
    (_, _, place) = came_to({"a": NodeResult("a", FAILED, error=error)}).summary().splitlines()
    assert len(place) < 300
    assert place.endswith("x.py:7 in f")


def test_a_group_is_told_by_its_first_error() -> None:
    """Of an exception group, of any depth, the first error is told, and where it was raised."""

    def grouped() -> None:
        try:
            broken()
        except ValueError as error:
            raise ExceptionGroup("several", [ExceptionGroup("more", [error]), OSError()]) from None

    summary = run_of(grouped)
    assert "'node': ValueError: no date in line 7 (in an ExceptionGroup)" in summary
    assert summary.endswith(f"at {line_of(broken)}")


def test_an_expander_that_fails_is_told_as_one() -> None:
    """What failed is the expander, and the place is in it; that of a refused modification is where
    the expander is defined.
    """

    def expand(name: str, result: Any) -> None:
        raise KeyError(name)

    summary = DynamicExecutor(chain("a"), {"a": expand}).execute_sync({"a": nothing}).summary()
    assert "the expander of node 'a': KeyError: 'a'" in summary
    assert summary.endswith(f"at {line_of(expand)}")
    bad = DynamicModification([DynamicNodeSpec("x", nothing, ["b"])])
    executor = DynamicExecutor(chain("a"), {"a": lambda name, result: bad})
    told, place, help = executor.execute_sync({"a": nothing}).summary().splitlines()[-3:]
    assert "the expander of node 'a': ModificationError: " in told
    assert re.fullmatch(f"the expander is defined at {__file__}:\\d+ in <lambda>", place.strip())
    assert told.endswith("node 'x' depends on 'b', which does not exist")
    assert help.strip().startswith("help: ")


def test_what_to_type_instead_has_its_own_line() -> None:
    """Of an error of dagron's, the help stands below; where there are several, all is one line."""
    spec = DynamicNodeSpec("x", nothing)

    def wrong(name: str, result: object) -> Any:
        return [spec]

    executor = DynamicExecutor(chain("a"), {"a": wrong})
    lines = executor.execute_sync({"a": nothing}).summary().splitlines()
    assert [line.strip() for line in lines[-3:]] == [
        "failed         the expander of node 'a': ExpansionError: "
        "the expander of node 'a' returned a list of 1 DynamicNodeSpec",
        f"the expander is defined at {line_of(wrong, 0)}",
        "help: wrap it: return dagron.DynamicModification(add_nodes=the_list)",
    ]
    bad = DynamicModification(remove_nodes=["aa", "aaa"])
    executor = DynamicExecutor(chain("a"), {"a": lambda name, result: bad})
    last = executor.execute_sync({"a": nothing}).summary().splitlines()[-2]
    assert "2 faults - node 'aa' cannot be removed" in last
    assert last.count(" help: did you mean 'a'? ") == 1


def test_an_error_of_many_lines_is_told_in_one() -> None:
    """Line ends and indents of an error's text are single spaces."""
    error = ValueError("2 faults\n\n    id\n\t\tmissing")
    result = came_to({"a": NodeResult("a", FAILED, error=error, attempts=1)})
    assert result.summary().splitlines()[1:] == ["  failed  'a': ValueError: 2 faults id missing"]


def test_a_condition_that_raises_has_its_place() -> None:
    """The place of a condition's error is found by its cause."""

    def judge(result: Any) -> bool:
        raise ZeroDivisionError

    dag = DAG.builder().add_edge("a", "b", condition=judge).build()
    summary = DynamicExecutor(dag).execute_sync({"a": nothing, "b": nothing}).summary()
    assert f"at {line_of(judge)}" in summary


class Hostile(Exception):
    def __str__(self) -> str:
        raise RuntimeError

    @property
    def __traceback__(self) -> Any:
        raise RuntimeError

    @property
    def __cause__(self) -> Any:
        raise RuntimeError


class HostileGroup(ExceptionGroup[Exception]):
    @property
    def exceptions(self) -> Any:
        raise RuntimeError


@pytest.mark.parametrize("error", [Hostile(), HostileGroup("", [Hostile()])])
def test_an_error_that_answers_wrongly_breaks_nothing(error: Exception) -> None:
    """An error whose text, traceback, cause or members cannot be asked for is told even so."""
    result = came_to({"a": NodeResult("a", FAILED, error=error, attempts=1)})
    assert "'a': Hostile: <its text cannot be shown: str() raised RuntimeError>" in result.summary()


# --- bounded and harmless -------------------------------------------------------------------------


def test_a_summary_stays_short() -> None:
    """Of 20,000 failures with long names and texts, 1,000 adders and a long path it shows the
    beginning, and how much more there is.
    """
    long = "x" * 500
    results = {}
    for number in range(20_000):
        error = OSError(long * 5) if number % 2 else ValueError(long)
        name = f"{number} {long}"
        results[name] = NodeResult(
            name, FAILED, None, error, 1.0, None, 2, f"adder {number % 1_000} {long}", 1
        )
    builder = DAG.builder()
    last = None
    for name in results:
        builder.add_node(name)
        if last is not None:
            builder.add_edge(last, name)
        last = name
    removed = tuple(f"{number} {long}" for number in range(1_000))
    result = ExecutionResult(results, builder.build(), removed=removed, reason=long * 9)
    summary = result.summary()
    assert len(summary) < LARGEST
    assert "and 19,990 more: 9,995 ValueError, 9,995 OSError" in summary
    assert "19,900 more by 995 others" in summary
    assert "... 19,993 more ..." in summary


def test_control_characters_are_stripped() -> None:
    """Nothing in names or errors acts upon a terminal, and nothing begins a line of its own."""
    name = "a\u202eb\u2028c"
    results = {name: NodeResult(name, FAILED, None, OSError("\x1b[31m\r\nred\u202e"), 1.0, None, 1)}
    summary = came_to(results, reason="\x1b[2J", removed=(name,)).summary()
    assert all(line.isprintable() for line in summary.split("\n"))


# --- what was forgotten ---------------------------------------------------------------------------


def test_the_work_of_forgotten_nodes_counts() -> None:
    """Counts and work are exact where nodes were forgotten, and it is said what is not known."""
    tally = Tally()
    for _ in range(480):
        tally.add(0.25)
    tally.add(7.5)
    result = came_to(
        completed({"find": 0.5, "total": 1.0}),
        "find-total",
        total_duration_seconds=10,
        tallies={"find": tally},
    )
    assert result.summary() == "\n".join(
        [
            "483 nodes in 10 s, all succeeded",
            "  forgotten      481 of those that succeeded (keep=...): they are in the counts and "
            "the work, their names are not known",
            "  work           129 s in tasks, 12.9 nodes at once on average",
            "  critical path  at least 1.5 s, 15% of the run",
            "                 'find' 500 ms -> 'total' 1 s",
            "  slowest           1 s  'total'",
            "                 500 ms  'find'",
            "                 7.5 s  was the slowest of those that are forgotten",
            "  added          481 by 'find'; median 250 ms, longest 7.5 s",
        ]
    )


def test_five_slower_ones_are_the_slowest_whatever_was_forgotten() -> None:
    """Where no forgotten node was slower than those shown, there is nothing more to say."""
    tally = Tally()
    tally.add(0.5)
    kept = completed(dict.fromkeys("abcde", 1.0))
    assert "was the slowest" not in came_to(kept, tallies={None: tally}).summary()
    del kept["a"]
    assert "500 ms  was the slowest" in came_to(kept, tallies={None: tally}).summary()


@pytest.mark.parametrize("keep", ["leaves", "failures"])
def test_a_run_that_forgets_has_a_summary(execute: Way, keep: Any) -> None:
    """Of a run that forgot most of its nodes, the counts are those of all."""

    def squares(name: str, result: Any) -> Any:
        for number in range(50):
            yield DynamicNodeSpec(f"n{number}", lambda n=number: n * n, [name])

    policy = NodePolicy(keep=Fold(lambda total, name, result: total + result, int))
    dag = DAG.builder().add_node("source", policy=policy).add_edge("source", "sum").build()
    executor = DynamicExecutor(dag, {"source": squares}, keep=keep)
    result = execute(executor, {"source": nothing, "sum": lambda source: source})
    summary = result.summary()
    assert result.forgotten >= 50
    assert summary.startswith("52 nodes in ")
    assert ", all succeeded\n" in summary
    assert f" {result.forgotten} of those that succeeded (keep=...)" in summary
    assert "50 by 'source'; median " in summary


def test_a_recorded_failure_says_where_it_was() -> None:
    """Of an error that a journal tells of, the last place of its recorded traceback is shown."""
    told = (
        'Traceback (most recent call last):\n  File "etl.py", line 7, in load\n    x\nOSError: no'
    )
    error = dagron.RecordedError("OSError: no", "OSError", "no", told)
    for traceback, place in ((told, "etl.py:7 in load"), ("OSError: no", None)):
        error.traceback_text = traceback
        dag = dagron.DAG.builder().add_node("load").build()
        node = dagron.NodeResult("load", dagron.NodeStatus.FAILED, error=error)
        text = dagron.ExecutionResult({"load": node}, dag).summary()
        assert "'load': OSError: no" in text
        assert (f"at {place}" in text) is (place is not None)
