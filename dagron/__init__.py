"""dagron runs graphs of work that grow while they run, on asyncio, uvloop and trio."""

from dagron._errors import (
    CycleError,
    DagronError,
    DuplicateNodeError,
    EventLoopRunningError,
    ExpansionError,
    Fault,
    GraphError,
    InternalError,
    InvalidNameError,
    MissingTaskError,
    ModificationError,
    NotAwaitedError,
    RunFailedError,
    TaskSignatureError,
    UnknownNodeError,
)
from dagron._executor import DynamicExecutor
from dagron._graph import DAG, DAGBuilder, GraphDiff
from dagron._modification import DynamicModification, DynamicNodeSpec
from dagron._results import ExecutionResult, NodeResult
from dagron._status import NodeStatus

__version__ = "0.1.0"

__all__ = [
    "DAG",
    "CycleError",
    "DAGBuilder",
    "DagronError",
    "DuplicateNodeError",
    "DynamicExecutor",
    "DynamicModification",
    "DynamicNodeSpec",
    "EventLoopRunningError",
    "ExecutionResult",
    "ExpansionError",
    "Fault",
    "GraphDiff",
    "GraphError",
    "InternalError",
    "InvalidNameError",
    "MissingTaskError",
    "ModificationError",
    "NodeResult",
    "NodeStatus",
    "NotAwaitedError",
    "RunFailedError",
    "TaskSignatureError",
    "UnknownNodeError",
]

for _name in __all__:  # tracebacks and pickles say dagron.X, wherever X is written down
    globals()[_name].__module__ = "dagron"
del _name
