"""What a journal keeps of a run: rows, in the order in which things happened."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from dagron._results import ExecutionResult
from dagron._status import NodeStatus

# The kinds of rows. An outcome is one of the first three.
DONE = "done"  # the node succeeded, and its expander's modification is part of the row
FAILED = "failed"
CANCELLED = "cancelled"  # on purpose, that node alone
BODY = "body"  # the node's task has returned; its expander, or its children, go on
STEP = "step"  # a modification by a node that goes on
OUTSIDE = "outside"  # a modification from outside
CANCEL = "cancel"  # somebody outside asked to cancel this node
VOID = "void"  # the modification in the row of this number was refused
ANSWERS = "answers"  # which conditions on edges were false, or gave no answer
LIFE = "life"  # a process began with the run, or went on with it
RETRY = "retry"  # from here on, what had failed counts as not yet run
END = "end"

STATUS_OF = {
    DONE: NodeStatus.COMPLETED,
    FAILED: NodeStatus.FAILED,
    CANCELLED: NodeStatus.CANCELLED,
}
OUTCOME_OF = {status: kind for kind, status in STATUS_OF.items()}
OUTCOMES = frozenset(STATUS_OF)


class Row(NamedTuple):
    """One thing that happened in a run.

    ``seq`` numbers the rows of a run from 1, ``at`` is the wall clock. ``value`` is a stored
    result, ``change`` the text of a modification, ``detail`` JSON.
    """

    seq: int
    kind: str
    node: str | None
    at: float
    started: float | None = None
    seconds: float | None = None
    attempts: int | None = None
    value: bytes | None = None
    change: str | None = None
    detail: str | None = None


class Patience:
    """How long a run waits for other processes that write to its journal."""

    __slots__ = ("is_short", "is_spent")

    def __init__(self) -> None:
        self.is_short = False  # set by the run, which is to end: for a moment, not for long
        self.is_spent = False  # set by the journal: something is not written on account of that


class Book(Protocol):
    """What a journal has of one run, held by this process. What reads or waits is blocking."""

    @property
    def uid(self) -> str: ...
    @property
    def is_new(self) -> bool: ...
    @property
    def is_finished(self) -> bool: ...
    @property
    def graph(self) -> str:
        """The text of the graph that the run began with."""

    @property
    def last_seq(self) -> int: ...
    @property
    def in_flight(self) -> Mapping[str, int]:
        """The nodes that were at work when the process before died, and in which attempt."""

    @property
    def max_recoveries(self) -> int: ...

    def rows(self) -> Iterator[Row]: ...
    def result(self) -> ExecutionResult: ...
    def dump(self, value: Any, name: str) -> bytes: ...
    def load(self, stored: bytes) -> Any: ...
    def error_row(self, error: BaseException) -> dict[str, Any]: ...
    def error(self, row: Mapping[str, Any]) -> BaseException: ...
    def refer(self, function: Callable[..., Any], what: str) -> Any: ...
    def resolve(self, reference: Any) -> Any: ...

    def append(self, rows: Sequence[Row], done: Callable[[Exception | None], object]) -> None:
        """Write these; ``done`` hears, in another thread, when they are safe, or what went wrong.

        Never blocks.
        """

    def finish(self, rows: Sequence[Row], done: Callable[[Exception | None], object]) -> None: ...
    def begin(self, attempts: Sequence[tuple[str, int]]) -> None: ...
    def release(self) -> None: ...


class JournalLike(Protocol):
    """What an executor needs of a `Journal`, which it does not import."""

    def _open(self, run_id: str, graph: str, patience: Patience) -> Book:
        """Claim a run, new or not."""
