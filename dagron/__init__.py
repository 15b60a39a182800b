"""dagron runs graphs of work that grow while they run, on asyncio, uvloop and trio."""

from importlib import import_module
from types import FunctionType
from typing import TYPE_CHECKING, Any

from dagron._current import Current, check_cancelled, current, progress
from dagron._edge import Edge
from dagron._errors import (
    BlockingWarning,
    Cancelled,
    ConditionError,
    CycleError,
    DagronError,
    DuplicateEdgeError,
    DuplicateNodeError,
    EventLoopRunningError,
    ExpansionError,
    Fault,
    GateError,
    GateRejectedError,
    GraphError,
    GraphMismatchError,
    InternalError,
    InvalidNameError,
    JournalCorruptError,
    JournalError,
    LimitsInUseError,
    MissingExtraError,
    MissingTaskError,
    ModificationError,
    NodePoisonedError,
    NodeTimeoutError,
    NotAwaitedError,
    RecordedError,
    RegistryClosedError,
    RegistryFullError,
    ReplayError,
    RunFailedError,
    RunFinishedError,
    RunInUseError,
    TaskSignatureError,
    UnknownGroupError,
    UnknownNodeError,
    UnknownRunError,
    UnstorableError,
)
from dagron._events import (
    Event,
    EventsMissed,
    GraphModified,
    LoopBlocked,
    NodeAdded,
    NodeCancelled,
    NodeCompleted,
    NodeEvent,
    NodeFailed,
    NodeProgress,
    NodeReady,
    NodeRemoved,
    NodeRetrying,
    NodeSkipped,
    NodeStarted,
    RunFinished,
    RunSnapshot,
    RunStarted,
)
from dagron._executor import DynamicExecutor
from dagron._family import Durations, Family
from dagron._gate import Gate
from dagron._graph import DAG, DAGBuilder, GraphDiff
from dagron._growing import Grow
from dagron._keep import Fold
from dagron._limits import Limits
from dagron._modification import DynamicModification, DynamicNodeSpec
from dagron._node_result import NodeResult
from dagron._policy import (
    NodePolicy,
    Retry,
    Trigger,
    all_done,
    all_succeeded,
    any_succeeded,
    at_least,
)
from dagron._registered import LiveEvents, RegisteredRun, ServerSentEvents
from dagron._registry import RunRegistry
from dagron._results import ExecutionResult
from dagron._run import Explanation, Run
from dagron._status import NodeStatus
from dagron._stream import EventReader

if TYPE_CHECKING:
    from dagron.journal import Journal, NotLoaded, RecordedRun

__version__ = "0.1.0"

__all__ = [
    "DAG",
    "BlockingWarning",
    "Cancelled",
    "ConditionError",
    "Current",
    "CycleError",
    "DAGBuilder",
    "DagronError",
    "DuplicateEdgeError",
    "DuplicateNodeError",
    "Durations",
    "DynamicExecutor",
    "DynamicModification",
    "DynamicNodeSpec",
    "Edge",
    "Event",
    "EventLoopRunningError",
    "EventReader",
    "EventsMissed",
    "ExecutionResult",
    "ExpansionError",
    "Explanation",
    "Family",
    "Fault",
    "Fold",
    "Gate",
    "GateError",
    "GateRejectedError",
    "GraphDiff",
    "GraphError",
    "GraphMismatchError",
    "GraphModified",
    "Grow",
    "InternalError",
    "InvalidNameError",
    "Journal",
    "JournalCorruptError",
    "JournalError",
    "Limits",
    "LimitsInUseError",
    "LiveEvents",
    "LoopBlocked",
    "MissingExtraError",
    "MissingTaskError",
    "ModificationError",
    "NodeAdded",
    "NodeCancelled",
    "NodeCompleted",
    "NodeEvent",
    "NodeFailed",
    "NodePoisonedError",
    "NodePolicy",
    "NodeProgress",
    "NodeReady",
    "NodeRemoved",
    "NodeResult",
    "NodeRetrying",
    "NodeSkipped",
    "NodeStarted",
    "NodeStatus",
    "NodeTimeoutError",
    "NotAwaitedError",
    "NotLoaded",
    "RecordedError",
    "RecordedRun",
    "RegisteredRun",
    "RegistryClosedError",
    "RegistryFullError",
    "ReplayError",
    "Retry",
    "Run",
    "RunFailedError",
    "RunFinished",
    "RunFinishedError",
    "RunInUseError",
    "RunRegistry",
    "RunSnapshot",
    "RunStarted",
    "ServerSentEvents",
    "TaskSignatureError",
    "Trigger",
    "UnknownGroupError",
    "UnknownNodeError",
    "UnknownRunError",
    "UnstorableError",
    "all_done",
    "all_succeeded",
    "any_succeeded",
    "at_least",
    "check_cancelled",
    "current",
    "progress",
]

# What most programs do without.
_ON_USE = dict.fromkeys(("Journal", "NotLoaded", "RecordedRun"), "dagron.journal")


def __getattr__(name: str) -> Any:
    if name in _ON_USE:
        found = getattr(import_module(_ON_USE[name]), name)
        found.__module__ = "dagron"
        return found
    raise AttributeError(f"module 'dagron' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ON_USE})


for _name in __all__:  # tracebacks and pickles say dagron.X, wherever X is written down
    if isinstance(globals().get(_name), type | FunctionType):
        globals()[_name].__module__ = "dagron"
del FunctionType, _name
