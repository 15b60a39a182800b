"""Every error that dagron raises: one root, standard bases beside it, the data as attributes.

The text says what went wrong and where on its first line, and what to type on the line ``help:``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class DagronError(Exception):
    """The root of all errors that dagron raises on purpose."""

    def __str__(self) -> str:
        # KeyError, a base of UnknownNodeError, would show the text quoted and escaped.
        return str(self.args[0]) if self.args else type(self).__name__


class GraphError(DagronError):
    """A graph that cannot be, or a question about a node that it does not have."""


class CycleError(GraphError, ValueError):
    """The edges form a cycle; ``cycle`` lists its nodes in edge order, the first one again last."""

    def __init__(self, message: str, cycle: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.cycle = list(cycle)


class DuplicateNodeError(GraphError, ValueError):
    """A node of this name was added before; ``name`` says which."""

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class DuplicateEdgeError(GraphError, ValueError):
    """An edge was added before, with another condition; ``edge`` says which."""

    def __init__(self, message: str, edge: tuple[str, str] = ("", "")) -> None:
        super().__init__(message)
        self.edge = edge


class InvalidNameError(GraphError, ValueError):
    """A string that cannot name a node: empty, too long, or with control characters."""

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class UnknownNodeError(GraphError, KeyError):
    """A name that no node has; ``name`` is the name, ``close`` the known names that resemble it."""

    def __init__(self, message: str, name: str = "", close: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.name = name
        self.close = tuple(close)


class MissingTaskError(DagronError, ValueError):
    """Nodes without a task; ``names`` lists all of them."""

    def __init__(self, message: str, names: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.names = tuple(names)


class TaskSignatureError(DagronError, TypeError):
    """A task or an expander that dagron cannot call; ``node`` and ``parameter`` say where."""

    def __init__(self, message: str, node: str = "", parameter: str | None = None) -> None:
        super().__init__(message)
        self.node = node
        self.parameter = parameter


class UnknownGroupError(DagronError, KeyError):
    """A policy names a group that the executor's ``limits`` do not have; ``group`` says which."""

    def __init__(self, message: str, group: str = "", close: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.group = group
        self.close = tuple(close)


class UnknownRunnerError(DagronError, KeyError):
    """A policy names a runner that the executor's ``runners`` do not have; ``runner`` says which.

    ``close`` has the known names that resemble it.
    """

    def __init__(self, message: str, runner: str = "", close: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.runner = runner
        self.close = tuple(close)


class RunnerError(DagronError, RuntimeError):
    """The runner of a node could not do what it was to; ``node`` says which node's."""

    def __init__(self, message: str, node: str = "") -> None:
        super().__init__(message)
        self.node = node


class WorkerLostError(RunnerError):
    """The worker that ran a node's body, or had its result, is gone.

    ``worker`` names it, and ``exit_code`` is that of its process where it is known: a negative one
    is the signal that ended it.
    """

    def __init__(
        self, message: str, node: str = "", worker: str = "", exit_code: int | None = None
    ) -> None:
        super().__init__(message, node)
        self.worker = worker
        self.exit_code = exit_code


class RunnerLostError(RunnerError):
    """A runner as a whole is gone, such as the scheduler of a cluster, or cannot be reached.

    It ends the run, and is raised when the other nodes have ended: those that had not finished are
    cancelled. ``runner`` is the name of the runner.
    """

    def __init__(self, message: str, node: str = "", runner: str = "") -> None:
        super().__init__(message, node)
        self.runner = runner


class NotPicklableError(RunnerError, TypeError):
    """A task, an argument, a result or an exception cannot travel to a worker or back.

    ``what`` says which; ``__cause__``, or a note, is what the attempt has raised.
    """

    def __init__(self, message: str, node: str = "", what: str = "") -> None:
        super().__init__(message, node)
        self.what = what


class ConditionError(DagronError, RuntimeError):
    """A condition raised, or gave no answer; ``edge`` says where, ``__cause__`` what it raised.

    The node to which the edge leads is FAILED with it.
    """

    def __init__(self, message: str, edge: tuple[str, str] = ("", "")) -> None:
        super().__init__(message)
        self.edge = edge


class NodeTimeoutError(DagronError, TimeoutError):
    """A task or an expander took longer than its node's ``timeout``; ``node`` says which one's."""

    def __init__(self, message: str, node: str = "", timeout: float = 0.0) -> None:
        super().__init__(message)
        self.node = node
        self.timeout = timeout


class Cancelled(BaseException):  # as asyncio and trio name theirs
    """Raised by `check_cancelled` in a task whose node is cancelled or out of time: let it pass.

    It is no `Exception`, so that a task that catches those does not catch it by mistake.
    """


class LimitsInUseError(DagronError, RuntimeError):
    """`Limits` that are shared cannot be used here: they count for another event loop at the
    moment, or the run's own caller holds a slot that the run would wait for.
    """


class GateError(DagronError, RuntimeError):
    """A gate was decided before: it opens or is rejected once."""


class GateRejectedError(DagronError, RuntimeError):
    """A gate was rejected; ``reason`` says why."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class NotAwaitedError(DagronError, TypeError):
    """A task's value was a coroutine that nobody awaited: its work was not done."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a modification: a kind, the node it is about, and the words.

    ``kind`` is one of ``"duplicate"``, ``"unknown"``, ``"started"``, ``"edge"``, ``"cycle"``,
    ``"limit"``, ``"group"``, ``"runner"``, ``"signature"``, ``"stale"`` and ``"invalid"``.
    """

    kind: str
    node: str
    message: str
    help: str = ""

    @classmethod
    def of(cls, kind: str, node: str, error: Exception) -> "Fault":
        """Return the fault that an error of our own tells in words."""
        message, _, help = str(error).partition("\n  help: ")
        return cls(kind, node, message, help)

    def __str__(self) -> str:
        return f"{self.message}\n  help: {self.help}" if self.help else self.message


SHOWN_FAULTS = 10


class ModificationError(DagronError, ValueError):
    """A modification was refused, and nothing of it was applied.

    ``faults`` holds every `Fault` that was found; ``by`` names the node whose expander returned it,
    or is None.
    """

    def __init__(self, faults: Sequence[Fault] = (), by: str | None = None) -> None:
        super().__init__(tuple(faults), by)
        self.faults = tuple(faults)
        self.by = by

    def __str__(self) -> str:
        found = len(self.faults)
        source = "the modification" if self.by is None else f"the modification by {self.by!r:.60}"
        lines = [f"{source} was refused, nothing was changed: {found} fault{'s'[: found != 1]}"]
        lines += (f"- {fault}" for fault in self.faults[:SHOWN_FAULTS])
        if found > SHOWN_FAULTS:
            lines.append(f"- and {found - SHOWN_FAULTS:,} more, see .faults")
        return "\n".join(lines)


class ExpansionError(DagronError, RuntimeError):
    """An expander returned something that is no modification."""


class RunFailedError(DagronError):
    """A run did not succeed; ``failures`` maps failed nodes to their exceptions."""

    def __init__(self, message: str, failures: Mapping[str, BaseException] | None = None) -> None:
        super().__init__(message)
        self.failures = dict(failures or {})


class RunFinishedError(DagronError, RuntimeError):
    """The run has ended: it takes no modification any more."""


class UnknownRunError(DagronError, KeyError):
    """No run of this id is in the registry, or in the journal; ``id`` is the id.

    ``was_forgotten`` says that the registry had one (of the last ten thousand that it forgot),
    ``close`` names runs of the journal whose ids resemble it.
    """

    def __init__(
        self, message: str, id: str = "", was_forgotten: bool = False, close: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.id = id
        self.was_forgotten = was_forgotten
        self.close = tuple(close)


class RegistryFullError(DagronError, RuntimeError):
    """A registry has as many unfinished runs as it takes; ``max_running`` says how many."""

    def __init__(self, message: str, max_running: int = 0) -> None:
        super().__init__(message)
        self.max_running = max_running


class RegistryClosedError(DagronError, RuntimeError):
    """A registry takes no new runs: its block is being left, or has been."""


class ReplayError(DagronError, RuntimeError):
    """A run cannot go on: an expander, or a condition, does not do what it did before.

    ``node`` says whose, ``differences`` lists what is different. Nothing was written.
    """

    def __init__(self, message: str, node: str = "", differences: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.node = node
        self.differences = tuple(differences)


class GraphMismatchError(DagronError, ValueError):
    """A run of this id began with another graph, or with an executor whose ``policy=`` or ``keep=``
    decides otherwise whether nodes run; ``differences`` lists what is different.
    """

    def __init__(self, message: str, differences: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.differences = tuple(differences)


class NodePoisonedError(DagronError, RuntimeError):
    """A node was at work each time that the process died, ``recoveries`` times: it is not tried
    again by itself.
    """

    def __init__(self, message: str, node: str = "", recoveries: int = 0) -> None:
        super().__init__(message)
        self.node = node
        self.recoveries = recoveries


class JournalError(DagronError, RuntimeError):
    """A journal could not be read or written; ``path`` is its file.

    Nothing that it had acknowledged is lost: the run goes on from there under the same ``run_id``.
    """

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class JournalCorruptError(JournalError):
    """A journal's file is damaged; ``run_id`` and ``seq`` say where, as far as that is known.

    What the run recorded up to ``last_good_seq`` was read and is sound; 0 if nothing was.
    """

    def __init__(
        self,
        message: str,
        path: str = "",
        run_id: str | None = None,
        seq: int | None = None,
        last_good_seq: int = 0,
    ) -> None:
        super().__init__(message, path)
        self.run_id = run_id
        self.seq = seq
        self.last_good_seq = last_good_seq


class RunInUseError(JournalError):
    """The run is being executed by another process, or elsewhere in this one.

    ``run_id`` names it; ``pid``, ``host`` and ``since`` (seconds since the epoch) say who has it.
    """

    def __init__(
        self,
        message: str,
        path: str = "",
        run_id: str = "",
        pid: int | None = None,
        host: str | None = None,
        since: float | None = None,
    ) -> None:
        super().__init__(message, path)
        self.run_id = run_id
        self.pid = pid
        self.host = host
        self.since = since


class UnstorableError(DagronError, TypeError):
    """A value that a journal cannot keep; ``node`` says whose, ``type_name`` what it is."""

    def __init__(self, message: str, node: str = "", type_name: str = "") -> None:
        super().__init__(message)
        self.node = node
        self.type_name = type_name


class RecordedError(DagronError):
    """What a node failed with in an earlier life of its run, as a journal tells it.

    The exception itself is gone: ``type_name``, ``text``, ``traceback_text`` and ``notes`` are what
    was written down of it. It reads ``type_name: text``.
    """

    def __init__(
        self,
        message: str = "",
        type_name: str = "",
        text: str = "",
        traceback_text: str = "",
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.type_name = type_name
        self.text = text
        self.traceback_text = traceback_text
        self.notes = tuple(notes)


class BlockingWarning(RuntimeWarning):
    """An ``async def`` task kept the event loop from turning: nothing else could run meanwhile."""


class MissingExtraError(DagronError, ImportError):
    """An optional part of dagron was asked for that is not installed; ``extra`` names it."""

    def __init__(self, message: str, extra: str = "") -> None:
        super().__init__(message)
        self.extra = extra


class EventLoopRunningError(DagronError, RuntimeError):
    """A blocking call was made where an event loop is running."""


class InternalError(DagronError, RuntimeError):
    """A bug in dagron itself: the run was ended at once. Please report it with its traceback."""
