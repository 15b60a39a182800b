"""What a run came to: a result per node, and one for the whole."""

from collections import Counter
from collections.abc import Iterator
from functools import wraps
from typing import TYPE_CHECKING, Any, cast

from dagron._blame import Blame, Why
from dagron._errors import RunFailedError
from dagron._graph import DAG, unknown_node
from dagron._status import CANCELLED, COMPLETED, FAILED, SKIPPED, NodeStatus
from dagron._value import Value

SHOWN_FAILURES = 10
SHOWN_TEXT = 600  # characters of one failure's text
EXPANDER_FAILED = "its expander failed"


class _OpenResult:
    """The fields of a `NodeResult` before they are frozen, set by plain assignment.

    ``new_result(...)`` makes a `NodeResult`. It takes half a microsecond less per node, which is a
    third of what recording an outcome costs.
    """

    __slots__ = (
        "name",
        "status",
        "result",
        "error",
        "duration_seconds",
        "started_at",
        "attempts",
        "added_by",
        "depth",
        "reason",
        "errors",
    )

    name: str
    status: NodeStatus
    result: Any
    error: BaseException | None
    duration_seconds: float
    started_at: float | None
    attempts: int
    added_by: str | None
    depth: int
    reason: str | None
    errors: tuple[BaseException, ...]

    def __init__(
        self,
        name: str,
        status: NodeStatus,
        result: Any = None,
        error: BaseException | None = None,
        duration_seconds: float = 0.0,
        started_at: float | None = None,
        attempts: int = 0,
        added_by: str | None = None,
        depth: int = 0,
        reason: str | None = None,
        errors: tuple[BaseException, ...] = (),
    ) -> None:
        self.name = name
        self.status = status
        self.result = result
        self.error = error
        self.duration_seconds = duration_seconds
        self.started_at = started_at
        self.attempts = attempts
        self.added_by = added_by
        self.depth = depth
        self.reason = reason
        self.errors = errors
        self.__class__ = NodeResult


class NodeResult(Value, _OpenResult):
    """What became of one node.

    ``result`` is the task's value, also where the expander failed afterwards; ``error`` the
    exception of a FAILED node, or what a node raised on its cancellation. ``duration_seconds`` is
    the time in the task's body alone, in all its attempts, without waiting for a slot or between
    attempts and without the expander, and 0.0 for a node that never started; ``started_at`` the
    wall-clock time of its first start in seconds since the epoch, or None. ``attempts`` counts how
    often the body was started, and ``errors`` has the exceptions of the attempts that failed, in
    order, also where a later one succeeded. ``added_by`` names the node whose expander added this
    one, and ``depth`` says how many expansions deep that was; None and 0 for an initial
    node. ``reason`` says why a node was skipped or cancelled, and names the node to blame; that of
    a node that FAILED after its body had completed says that its expander failed.
    """

    __slots__ = ()
    _fields = _compared = _OpenResult.__slots__

    if not TYPE_CHECKING:  # pragma: no branch (the signature is the same, and shown as such)

        @wraps(_OpenResult.__init__)
        def __init__(self, *arguments, **fields):
            self.__setstate__(new_result(*arguments, **fields).__getstate__())


new_result = cast("type[NodeResult]", _OpenResult)


class ExecutionResult:
    """What a run came to.

    ``node_results`` maps names to `NodeResult`, in ``dag.topological_order()`` of the final graph
    ``dag``; nodes that were removed are not in it but in ``removed``. ``succeeded``, ``failed``,
    ``skipped`` and ``cancelled`` are counts. ``unused_expanders`` names the expanders whose node
    never appeared. ``reason`` says why the run was cut short, and is None where it was not.
    ``dropped_observers`` counts the observers that raised. ``result["name"]`` is short for
    ``result.node_results["name"]``.
    """

    __slots__ = (
        "cancelled",
        "dag",
        "dropped_observers",
        "failed",
        "node_results",
        "reason",
        "removed",
        "skipped",
        "succeeded",
        "total_duration_seconds",
        "unused_expanders",
    )

    def __init__(
        self,
        node_results: dict[str, NodeResult],
        dag: DAG,
        *,
        removed: tuple[str, ...] = (),
        unused_expanders: tuple[str, ...] = (),
        total_duration_seconds: float = 0.0,
        reason: str | None = None,
        dropped_observers: int = 0,
    ) -> None:
        counts = Counter(result.status for result in node_results.values())
        self.node_results = node_results
        self.dag = dag
        self.removed = removed
        self.unused_expanders = unused_expanders
        self.total_duration_seconds = total_duration_seconds
        self.reason = reason
        self.dropped_observers = dropped_observers
        self.succeeded = counts[COMPLETED]
        self.failed = counts[FAILED]
        self.skipped = counts[SKIPPED]
        self.cancelled = counts[CANCELLED]

    @property
    def ok(self) -> bool:
        """Tell whether no node failed and the run was not cut short.

        Nodes that a condition skipped do not count against it, nor do nodes that were cancelled one
        by one, on purpose: by ``cancel_nodes`` or `Run.cancel_node`.
        """
        return not self.failed and self.reason is None

    def __getitem__(self, name: str) -> NodeResult:
        try:
            return self.node_results[name]
        except KeyError:
            raise unknown_node(name, self.node_results) from None

    def __contains__(self, name: object) -> bool:
        return name in self.node_results

    def __iter__(self) -> Iterator[str]:
        return iter(self.node_results)

    def raise_for_failures(self) -> None:
        """Return None when `ok`, else raise one `RunFailedError` for all that failed.

        Its ``failures`` maps names to exceptions, the first of which is its cause. Each exception
        gets a note that says which node it failed, once, however often this is called.
        """
        if self.ok:
            return
        failed = [result for result in self.node_results.values() if result.status is FAILED]
        skipped_by = Counter(
            result.reason for result in self.node_results.values() if result.status is SKIPPED
        )
        for result in failed:
            assert result.error is not None, "a FAILED node has its error"
            _add_note_once(result.error, _note(result, skipped_by[skip_reason(result.name)]))
        failures = {result.name: result.error for result in failed if result.error is not None}
        raise RunFailedError(self._failure_text(failed), failures) from (
            failed[0].error if failed else None
        )

    def _failure_text(self, failed: list[NodeResult]) -> str:
        lines = [f"{self._counts()}"]
        for result in failed[:SHOWN_FAILURES]:
            added = f", added by {result.added_by!r:.60}" if result.added_by else ""
            where = "expander of node" if result.reason == EXPANDER_FAILED else "node"
            text = error_text(result.error).replace("\n", "\n    ")
            lines.append(f"  {where} {result.name!r:.60}{added}: {text}")
        if self.reason is not None:
            lines.append(f"  cut short: {self.reason}")
        if len(failed) > SHOWN_FAILURES:
            lines.append(f"  and {len(failed) - SHOWN_FAILURES:,} more")
        lines.append("  help: .failures maps each failed node to its exception")
        return "\n".join(lines)

    def _counts(self) -> str:
        named = ((self.failed, "failed"), (self.skipped, "skipped"), (self.cancelled, "cancelled"))
        parts = [f"{count:,} {word}" for count, word in named if count]
        return f"{', '.join(parts or ['none failed'])} of {len(self.node_results):,} nodes"

    def __repr__(self) -> str:
        return (
            f"<ExecutionResult: {self.succeeded:,} succeeded, {self._counts()}, "
            f"{self.total_duration_seconds:.3f} s>"
        )


def skip_reason(blamed: str) -> str:
    """Return the reason of a node that was skipped because another one failed."""
    return str(Blame(Why.FAILED, blamed))


def error_text(error: BaseException | None) -> str:
    """Return the exception's type and text for a message, shortened; it may raise in ``str()``."""
    try:
        text = str(error)
    except BaseException as broken:
        text = f"<its text cannot be shown: str() raised {type(broken).__name__}>"
    if len(text) > SHOWN_TEXT:
        text = f"{text[:SHOWN_TEXT]}..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _note(result: NodeResult, skipped: int) -> str:
    added = f", added by {result.added_by!r}" if result.added_by else ""
    cost = f", skipped {skipped:,} node{'s'[: skipped != 1]}" if skipped else ""
    where = "the expander of node" if result.reason == EXPANDER_FAILED else "node"
    return f"in {where} {result.name!r}{added}, attempt {max(result.attempts, 1)}{cost}"


def _add_note_once(error: BaseException, note: str) -> None:
    try:
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
    except BaseException:  # a frozen exception takes no notes, and its failure counts all the same
        return
