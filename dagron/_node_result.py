"""What became of one node."""

from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, cast

from dagron._status import NodeStatus
from dagron._value import Value

EXPANDER_FAILED = "its expander failed"
FOLD_FAILED = "folding its result failed"


class Place(NamedTuple):
    """Where a node's body ran: the name of its runner, and the worker there where it is known."""

    runner: str
    worker: str | None

    def __str__(self) -> str:
        return self.runner if self.worker is None else f"{self.runner} ({self.worker})"


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
        "place",
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
    place: Place | None

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
        place: Place | None = None,
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
        self.place = place
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
    a node that FAILED after its body had completed says that its expander failed, or a fold; that
    of a node that COMPLETED on a runner says so where its body ran again since its result was lost.
    ``place`` says on which runner and worker the body ran last, and is None for this process.
    """

    __slots__ = ()
    _fields: tuple[str, ...] = _OpenResult.__slots__
    _compared: tuple[str, ...] = _fields

    if not TYPE_CHECKING:  # pragma: no branch (the signature is the same, and shown as such)

        @wraps(_OpenResult.__init__)
        def __init__(self, *arguments, **fields):
            self.__setstate__(new_result(*arguments, **fields).__getstate__())


new_result = cast("type[NodeResult]", _OpenResult)


class LostResult(NodeResult):
    """Of a node that completed, and whose result was lost since: to ask for it raises ``error``."""

    __slots__ = ()
    _compared = tuple(field for field in NodeResult._fields if field != "result")

    if not TYPE_CHECKING:  # pragma: no branch (a field there)

        @property
        def result(self) -> NoReturn:
            raise self.error

    def __getstate__(self) -> tuple[Any, ...]:
        fields = self._fields
        return tuple(None if field == "result" else getattr(self, field) for field in fields)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        for field, value in zip(self._fields, state, strict=True):
            if field != "result":
                object.__setattr__(self, field, value)

    def __repr__(self) -> str:
        return f"<NodeResult of {self.name!r}, whose result is lost: {self.error!r}>"


def replaced(record: NodeResult, **fields: Any) -> NodeResult:
    """Return a record that differs in these fields; of a lost result, one that is lost as well."""
    made: NodeResult = type(record).__new__(type(record))
    state = zip(record._fields, record.__getstate__(), strict=True)
    made.__setstate__(tuple(fields.get(field, value) for field, value in state))
    return made


def lost(record: NodeResult, error: BaseException) -> NodeResult:
    """Return the record of a node that completed, and whose result is lost."""
    gone = LostResult.__new__(LostResult)
    gone.__setstate__(replaced(record, error=error).__getstate__())
    return gone
