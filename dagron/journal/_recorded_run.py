"""RecordedRun: a run of a journal, to look at."""

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from time import gmtime, strftime
from types import MappingProxyType
from typing import Any

from dagron._errors import JournalError
from dagron._events import Event
from dagron._graph import DAG
from dagron._names import plural
from dagron._node_result import NodeResult
from dagron._results import ExecutionResult
from dagron._rows import Row
from dagron._status import NodeStatus
from dagron.journal._chronicle import Chronicle
from dagron.journal._recorded import recorded_error
from dagron.journal._store import Holder, RunRow
from dagron.journal._telling import TellError, told, told_graph

RUNNING, UNFINISHED, FINISHED = "running", "unfinished", "finished"
REASONS = {
    RUNNING: "the run is going on",
    UNFINISHED: "the run has not ended: it goes on when it is executed again",
}


class NotLoaded:
    """What stands for a recorded result that could not be loaded; ``error`` says why.

    A journal loads plain data, and the classes that it was told to allow: open it with the
    ``allow=`` with which the run was recorded.
    """

    __slots__ = ("error",)

    def __init__(self, error: JournalError) -> None:
        self.error = error

    def __repr__(self) -> str:
        why = str(self.error).partition("\n")[0]
        return f"<NotLoaded: {why}>"


class RecordedRun:
    """A run of a journal, as it was when it was first looked into; see `Journal.run`.

    ``id`` is the run's id, ``created`` when it began and ``ended`` when it ended, in seconds since
    the epoch, or None. ``state`` is "running" while a process has it, and "unfinished" or
    "finished" when none does; ``lives`` counts how often it was executed, and ``holder`` says by
    whom it is now, or is None.

    Nothing of the run is read before it is asked for, and no code of yours is called: callables are
    stand-ins, and conditions are not asked. A result that cannot be loaded is a `NotLoaded` that
    says why, so that the rest can be read all the same.

    Raises `JournalCorruptError` for a file that is damaged, when that is read.
    """

    def __init__(
        self,
        row: RunRow,
        graph: Callable[[], str],
        read: Callable[[], Iterable[Row]],
        load: Callable[[bytes], Any],
        *,
        in_flight: Callable[[], Iterable[str]] = tuple,
        tell_error: TellError = recorded_error,
    ) -> None:
        self.id = row.run_id
        self.created = row.created
        self.ended = row.ended
        self.state = row.state if row.state in (RUNNING, FINISHED) else UNFINISHED
        self.lives = row.lives
        self.holder: Holder | None = row.held_by
        self._read_graph = graph
        self._read = read
        self._load = load
        self._in_flight = in_flight
        self._tell_error = tell_error

    @cached_property
    def _graph(self) -> str:
        return self._read_graph()

    @cached_property
    def result(self) -> ExecutionResult:
        """What the run came to: what `DynamicExecutor.execute` returned.

        Of a run that has not ended it is what it has come to so far: nodes may be PENDING, READY or
        RUNNING, ``ok`` is False and ``reason`` says why. An ``error`` is a `RecordedError`. Nodes
        that were at work when another one's failure ended the run have no times, and a fold that
        came to no end has no value.
        """
        return told(
            self._graph,
            self._read,
            self._value,
            tell_error=self._tell_error,
            in_flight=() if self.state == FINISHED else self._in_flight(),
            unfinished=REASONS.get(self.state, REASONS[UNFINISHED]),
        )

    def _value(self, stored: bytes) -> Any:
        try:
            return self._load(stored)
        except JournalError as error:
            return NotLoaded(error)

    @property
    def nodes(self) -> Mapping[str, NodeResult]:
        """The nodes by name, in ``result.dag.topological_order()``."""
        return MappingProxyType(self.result.node_results)

    def events(self) -> list[Event]:
        """Return what happened in the run, in order.

        `RunStarted` for each time that it was executed, `GraphModified`, `NodeAdded`,
        `NodeRemoved`, `NodeCompleted`, `NodeFailed`, `NodeSkipped`, `NodeCancelled`, and
        `RunFinished`. When nodes were ready and started is not recorded. ``time`` is when it was
        written down; ``elapsed`` counts from the beginning of the run, and time in which no process
        had the run is part of it.
        """
        return Chronicle(self.id, self._graph, self._read, self._tell_error).events

    def graph(self, version: int | None = None) -> DAG:
        """Return the graph after so many modifications, or as it is now, with stand-ins for the
        conditions on its edges.

        Nodes that had been forgotten by then are not in it, see ``DynamicExecutor(keep=...)``.
        Raises `ValueError` for a version that there was not.
        """
        if version is None:
            return self.result.dag
        found = None
        if isinstance(version, int) and version >= 0:
            found = told_graph(self._graph, self._read, version)
        if found is None:
            raise ValueError(
                f"run {self.id!r} has no graph of version {version!r:.60}\n"
                f"  help: it has those from 0 to {self.result.version:,}"
            )
        return found

    def to_svg(self, when: str | int = "after", *, fold: int | None = 12) -> str:
        """Return a picture of the run: see `ExecutionResult.to_svg`."""
        return self.result.to_svg(when, fold=fold)

    def to_mermaid(self, when: str | int = "after", *, fold: int | None = 12) -> str:
        """Return the run as a Mermaid flowchart: see `ExecutionResult.to_mermaid`."""
        return self.result.to_mermaid(when, fold=fold)

    def summary(self) -> str:
        """Return a few lines of text: how the run stands, and `ExecutionResult.summary`."""
        lines = [str(self)]
        if self.state != FINISHED:
            statuses = [node.status for node in self.nodes.values()]
            counts = ((statuses.count(status), str(status)) for status in NodeStatus)
            lines.append(", ".join(f"{count:,} {word}" for count, word in counts if count))
        return "\n".join([*filter(None, lines), self.result.summary()])

    def __str__(self) -> str:
        since = f"began {shown_moment(self.created)}"
        until = "" if self.ended is None else f", ended {shown_moment(self.ended)}"
        lives = "" if self.lives <= 1 else f", executed {plural(self.lives, 'time')}"
        holder = "" if self.holder is None else f", by {self.holder}"
        return f"run {self.id!r}: {self.state}{holder}; {since}{until}{lives}"

    def __repr__(self) -> str:
        return f"<RecordedRun {self.id!r}: {self.state}, began {shown_moment(self.created)}>"


def shown_moment(time: float) -> str:
    """Return a moment as text for people, in UTC."""
    return strftime("%Y-%m-%d %H:%M:%S UTC", gmtime(time))
