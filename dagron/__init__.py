"""dagron runs graphs of work that grow while they run, on asyncio, uvloop and trio."""

from types import FunctionType

from dagron._current import check_cancelled, progress
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
    InternalError,
    InvalidNameError,
    LimitsInUseError,
    MissingExtraError,
    MissingTaskError,
    ModificationError,
    NodeTimeoutError,
    NotAwaitedError,
    NotPicklableError,
    RegistryClosedError,
    RegistryFullError,
    RunFailedError,
    RunFinishedError,
    RunnerError,
    RunnerLostError,
    TaskSignatureError,
    UnknownGroupError,
    UnknownNodeError,
    UnknownRunError,
    UnknownRunnerError,
    WorkerLostError,
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
    NodePlaced,
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
from dagron._node_result import NodeResult, Place
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
from dagron._runner import Runner
from dagron._status import NodeStatus
from dagron._stream import EventReader

__version__ = "0.1.0"

__all__ = [
    "DAG",
    "BlockingWarning",
    "Cancelled",
    "ConditionError",
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
    "GraphModified",
    "Grow",
    "InternalError",
    "InvalidNameError",
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
    "NodePlaced",
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
    "NotPicklableError",
    "Place",
    "RegisteredRun",
    "RegistryClosedError",
    "RegistryFullError",
    "Retry",
    "Run",
    "RunFailedError",
    "RunFinished",
    "RunFinishedError",
    "RunRegistry",
    "RunSnapshot",
    "RunStarted",
    "Runner",
    "RunnerError",
    "RunnerLostError",
    "ServerSentEvents",
    "TaskSignatureError",
    "Trigger",
    "UnknownGroupError",
    "UnknownNodeError",
    "UnknownRunError",
    "UnknownRunnerError",
    "WorkerLostError",
    "all_done",
    "all_succeeded",
    "any_succeeded",
    "at_least",
    "check_cancelled",
    "progress",
]

for _name in __all__:  # tracebacks and pickles say dagron.X, wherever X is written down
    if isinstance(globals()[_name], type | FunctionType):
        globals()[_name].__module__ = "dagron"
del FunctionType, _name
