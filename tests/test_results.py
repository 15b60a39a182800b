"""What a run came to: counts, look-up by name, and one error for all that failed."""

import copy
import inspect
import pickle
from dataclasses import dataclass

import pytest

from dagron import (
    DAG,
    ExecutionResult,
    NodeResult,
    NodeStatus,
    RunFailedError,
    UnknownNodeError,
)
from dagron._collect import collect
from dagron._results import skip_reason
from dagron._scheduler import Scheduler
from dagron._times import Times
from machine import dag

FIELDS = (
    *("name", "status", "result", "error", "duration_seconds", "started_at", "attempts"),
    *("added_by", "depth", "reason", "errors", "place"),
)


def completed(name: str, value: object = None) -> NodeResult:
    return NodeResult(name, NodeStatus.COMPLETED, value, attempts=1)


def failed(name: str, error: BaseException, added_by: str | None = None) -> NodeResult:
    return NodeResult(name, NodeStatus.FAILED, error=error, attempts=1, added_by=added_by)


def skipped(name: str, because_of: str) -> NodeResult:
    return NodeResult(name, NodeStatus.SKIPPED, reason=skip_reason(because_of))


def cancelled(name: str) -> NodeResult:
    return NodeResult(name, NodeStatus.CANCELLED, reason="the run was cancelled")


def result_of(*results: NodeResult, reason: str | None = None) -> ExecutionResult:
    return ExecutionResult(
        {result.name: result for result in results},
        dag(*(r.name for r in results)),
        reason=reason,
    )


def failure_of(*results: NodeResult, reason: str | None = None) -> RunFailedError:
    with pytest.raises(RunFailedError) as caught:
        result_of(*results, reason=reason).raise_for_failures()
    return caught.value


# --- what it holds -------------------------------------------------------------------------------


def test_a_result_counts() -> None:
    """S7: `succeeded`, `failed`, `skipped`, `cancelled` are ints, `node_results` is ordered."""
    results = [
        *(completed(name) for name in "abc"),
        *(failed(name, ValueError(name)) for name in "de"),
        *(skipped(name, "d") for name in "fghi"),
        cancelled("j"),
    ]
    result = result_of(*results)
    assert (result.succeeded, result.failed, result.skipped, result.cancelled) == (3, 2, 4, 1)
    counts = [result.succeeded, result.failed, result.skipped, result.cancelled]
    assert all(type(count) is int for count in counts)
    assert list(result.node_results) == [*"abcdefghij"]
    assert list(result.node_results.values()) == results


def test_a_result_holds_what_it_was_given() -> None:
    """Removed names and unused expanders are tuples, the graph and the duration are the run's."""
    graph = dag("a")
    result = ExecutionResult(
        {"a": completed("a")},
        graph,
        removed=("b", "c"),
        unused_expanders=("d",),
        total_duration_seconds=1.5,
    )
    assert result.removed == ("b", "c")
    assert result.unused_expanders == ("d",)
    assert result.dag is graph
    assert result.total_duration_seconds == 1.5


def test_an_empty_result_is_ok() -> None:
    """E18: the result of an empty graph has no nodes, is ok, and raises nothing."""
    result = ExecutionResult({}, DAG())
    assert result.ok
    assert result.raise_for_failures() is None
    assert result.removed == result.unused_expanders == ()
    assert result.succeeded == result.failed == result.skipped == result.cancelled == 0


def test_a_node_result_is_looked_up_by_name() -> None:
    """`result[name]` is `result.node_results[name]`, and `in` tells whether it is there."""
    result = result_of(completed("discover", 5), skipped("merge", "x"))
    assert result["discover"] is result.node_results["discover"]
    assert result["discover"].result == 5
    assert "merge" in result
    assert "Merge" not in result
    assert 5 not in result
    assert list(result) == ["discover", "merge"]


def test_an_unknown_name_gives_close_ones() -> None:
    """`result[...]` of a name that is not there is an UnknownNodeError with close names."""
    with pytest.raises(UnknownNodeError, match="did you mean 'discover'") as caught:
        result_of(completed("discover"))["discovr"]
    assert caught.value.close == ("discover",)
    assert caught.value.name == "discovr"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_node_result_has_defaults() -> None:
    """A node that never started has no value, no error, no start, 0 attempts and 0.0 seconds."""
    assert list(inspect.signature(NodeResult).parameters) == [*FIELDS]
    result = NodeResult("a", NodeStatus.SKIPPED)
    assert (result.result, result.error, result.started_at, result.added_by, result.reason) == (
        *(None, None, None, None, None),
    )
    assert (result.duration_seconds, result.attempts, result.depth) == (0.0, 0, 0)


@pytest.mark.parametrize("field", FIELDS)
def test_node_results_differ_by_every_field(field: str) -> None:
    """All fields take part in the equality of node results, and are shown in the repr."""
    values = dict.fromkeys(FIELDS, "x")
    assert f"{field}='x'" in repr(NodeResult(**values))
    assert NodeResult(**values) == NodeResult(**values)
    assert NodeResult(**values) != NodeResult(**{**values, field: "y"})


def test_a_result_can_be_pickled() -> None:
    """A result survives pickling and copying with all that it holds."""
    result = ExecutionResult(
        {"a": completed("a", [1]), "b": failed("b", ValueError("x"), "a")},
        dag(("a", "b")),
        removed=("c",),
        unused_expanders=("d",),
        total_duration_seconds=0.5,
    )
    for again in (pickle.loads(pickle.dumps(result)), copy.copy(result), copy.deepcopy(result)):
        assert again["a"] == result["a"]
        assert repr(again["b"]) == repr(result["b"])
        assert repr(again) == repr(result)
        assert (again.dag, again.removed, again.unused_expanders, again.failed) == (
            *(result.dag, ("c",), ("d",), 1),
        )


@pytest.mark.parametrize(
    ("results", "text"),
    [
        ([], "<ExecutionResult: 0 succeeded, none failed of 0 nodes, 0.000 s>"),
        ([completed("a")], "<ExecutionResult: 1 succeeded, none failed of 1 nodes, 0.000 s>"),
        (
            [completed("a"), failed("b", ValueError()), skipped("c", "b"), cancelled("d")],
            "<ExecutionResult: 1 succeeded, 1 failed, 1 skipped, 1 cancelled of 4 nodes, 0.000 s>",
        ),
    ],
)
def test_the_repr_is_one_line_of_counts(results: list[NodeResult], text: str) -> None:
    """The repr of a result is one line with its counts and its duration."""
    assert repr(result_of(*results)) == text


# --- ok, and the error for the rest --------------------------------------------------------------


@pytest.mark.parametrize(
    ("results", "ok"),
    [
        ([completed("a")], True),
        ([completed("a"), skipped("b", "x")], True),
        ([completed("a"), cancelled("b")], True),
        ([completed("a"), failed("b", ValueError())], False),
        ([completed("a"), cancelled("b")], False),
        ([completed("a")], False),
    ],
)
def test_ok_means_that_nothing_failed_and_the_run_was_not_cut_short(
    results: list[NodeResult], ok: bool
) -> None:
    """`ok` is False if a node failed or the run was cut short, while nodes that were cancelled one
    by one are no reason; `raise_for_failures` raises exactly then."""
    is_cut = not ok and not any(result.status is NodeStatus.FAILED for result in results)
    result = result_of(*results, reason="the run was cancelled" if is_cut else None)
    assert result.ok is ok
    if ok:
        assert result.raise_for_failures() is None
    else:
        with pytest.raises(RunFailedError):
            result.raise_for_failures()


def test_one_error_for_all_that_failed() -> None:
    """`raise_for_failures` raises one error: `failures` in result order, the first is its cause."""
    first, second = ValueError("no rows"), KeyError("id")
    error = failure_of(
        completed("a"), failed("load", first), failed("check", second, "load"), skipped("z", "load")
    )
    assert error.failures == {"load": first, "check": second}
    assert list(error.failures) == ["load", "check"]
    assert error.__cause__ is first
    assert str(error) == (
        "2 failed, 1 skipped of 4 nodes\n"
        "  node 'load': ValueError: no rows\n"
        "  node 'check', added by 'load': KeyError: 'id'\n"
        "  help: .failures maps each failed node to its exception"
    )


def test_a_cancelled_run_has_an_error_without_failures() -> None:
    """Where nodes were only cancelled, the error has no failures and no cause."""
    error = failure_of(completed("a"), cancelled("b"), reason="the run was cancelled")
    assert error.failures == {}
    assert error.__cause__ is None
    assert str(error).startswith("1 cancelled of 2 nodes\n")


def test_a_failure_carries_a_note() -> None:
    """E22: a note says which node the exception failed, who added it, the attempt and the cost."""
    lone, cause = ValueError("lone"), ValueError("cause")
    other = NodeResult("other", NodeStatus.FAILED, error=KeyError(), attempts=3, added_by="a")
    error = failure_of(
        failed("lone", lone),
        failed("process", cause, "discover"),
        *(skipped(name, "process") for name in "bcd"),
        other,
        skipped("e", "other"),
    )
    assert lone.__notes__ == ["in node 'lone', attempt 1"]
    assert cause.__notes__ == ["in node 'process', added by 'discover', attempt 1, skipped 3 nodes"]
    assert error.failures["other"].__notes__ == [
        "in node 'other', added by 'a', attempt 3, skipped 1 node"
    ]


def test_raising_again_adds_no_second_note() -> None:
    """E22: a second call raises again and adds no second note; what was noted before stays."""
    error = ValueError("x")
    error.add_note("mine")
    result = result_of(failed("a", error))
    for _ in range(3):
        with pytest.raises(RunFailedError):
            result.raise_for_failures()
    assert error.__notes__ == ["mine", "in node 'a', attempt 1"]


def test_one_exception_that_failed_two_nodes() -> None:
    """E22: an exception object that two nodes raised carries a note for each."""
    shared = ValueError("x")
    failure_of(failed("a", shared), failed("b", shared))
    assert shared.__notes__ == ["in node 'a', attempt 1", "in node 'b', attempt 1"]


def test_20_000_failures_make_a_short_report() -> None:
    """The report of 20,000 failures stays under 10 kB, however long names and texts are."""
    long = "x" * 100_000
    error = failure_of(
        *(
            failed(f"{n}_{long}"[:500], ValueError(f"{n} {long}"), f"adder_{long}"[:500])
            for n in range(20_000)
        )
    )
    assert len(str(error)) < 10_000
    assert "20,000 failed of 20,000 nodes\n" in str(error)
    assert "\n  and 19,990 more\n" in str(error)
    assert len(error.failures) == 20_000
    notes = error.failures[f"0_{long}"[:500]].__notes__
    assert len(notes) == 1


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def test_an_exception_without_a_text_is_reported() -> None:
    """E11: an exception whose `__str__` raises, or gives nothing, is in the report by its type."""
    error = failure_of(failed("a", Unprintable()), failed("b", ValueError()))
    assert "node 'a': Unprintable: <its text cannot be shown: str() raised RuntimeError>" in str(
        error
    )
    assert "node 'b': ValueError\n" in str(error)
    assert [*error.failures] == ["a", "b"]


@dataclass(frozen=True)
class Frozen(Exception):
    code: int


def test_an_exception_that_takes_no_note_is_reported() -> None:
    """E22: an exception that cannot be changed is in the report all the same, without a note."""
    error = failure_of(failed("a", Frozen(5)), failed("b", ValueError("fine")))
    assert "node 'a': Frozen: 5" in str(error)
    assert not hasattr(error.failures["a"], "__notes__")
    assert error.failures["b"].__notes__ == ["in node 'b', attempt 1"]


class WithOddNotes(Exception):
    __notes__ = None


def test_an_exception_with_odd_notes_is_reported() -> None:
    """E22: an exception whose notes are no list is in the report all the same."""
    error = failure_of(failed("a", WithOddNotes("odd")))
    assert "node 'a': WithOddNotes: odd" in str(error)


def test_base_exceptions_are_reported() -> None:
    """E11: SystemExit, GeneratorExit and groups are failures like any other."""
    group = ExceptionGroup("several", [ValueError("x")])
    error = failure_of(failed("a", SystemExit(3)), failed("b", GeneratorExit()), failed("c", group))
    assert "node 'a': SystemExit: 3\n  node 'b': GeneratorExit\n" in str(error)
    assert "node 'c': ExceptionGroup: several (1 sub-exception)" in str(error)
    assert isinstance(error.__cause__, SystemExit)


def test_a_run_whose_nodes_are_not_done_has_no_result() -> None:
    """A node that is left unfinished is a bug of ours: it is told, and no result made of it."""
    scheduler = Scheduler(DAG.builder().add_node("a").build())
    with pytest.raises(RuntimeError, match="1 nodes were left unfinished"):
        collect(scheduler, {}, (), None, 0.0, {}, Times())
