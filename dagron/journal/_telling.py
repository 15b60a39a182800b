"""A recorded run, told from its rows: what it had come to at any of them.

No code of the user's is called. Where callables were there are stand-ins, and what conditions
answered is recorded. What happens is decided by the same scheduler as then; the rules of what
counts, and when, are those of `Replay`, which tells a run again in order to go on with it.
"""

import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from dagron._blame import Blame, Why, blame_of, ended_by
from dagron._collect import collect
from dagron._errors import ConditionError, InternalError, ModificationError
from dagron._facts import ALL_TAKEN, Facts, detail_of
from dagron._family import Tally
from dagron._graph import DAG
from dagron._lanes import Pool
from dagron._modification import DynamicModification
from dagron._node_result import NodeResult, new_result
from dagron._results import ExecutionResult
from dagron._rows import BODY, CANCEL, DONE, FAILED, LIFE, OUTCOMES, OUTSIDE, STATUS_OF, STEP, Row
from dagron._scheduler import Scheduler
from dagron._status import CANCELLED, COMPLETED, READY, RUNNING, WAITING, NodeStatus
from dagron._times import Landing, Times
from dagron._written import read_graph, read_modification, read_policy, stand_in
from dagron.journal._recorded import recorded_error

UNFINISHED = "the run has not ended"

Load = Callable[[bytes], Any]
TellError = Callable[[Mapping[str, Any]], BaseException]


class _Pools(dict[str, Pool]):
    """Slots of all groups, without end: whoever had one then has one now."""

    def __missing__(self, name: str) -> Pool:
        pool = self[name] = Pool(name, sys.maxsize)
        return pool


class Telling:
    """Tells a run, row by row; ``scheduler`` and ``results`` are what it has come to.

    ``load`` returns the value that was stored as these bytes, ``tell_error`` the exception that
    stands for one that was written down.
    """

    def __init__(self, graph: str, facts: Facts, load: Load, tell_error: TellError) -> None:
        dag, self._expanders = read_graph(graph)
        policy = facts.settings.get("policy")
        self.scheduler = Scheduler(
            dag,
            max_nodes=sys.maxsize,  # what had landed is not refused now
            max_depth=sys.maxsize,
            pools=_Pools(),
            policy=None if policy is None else read_policy(policy, stand_in),
            keep=facts.settings.get("keep", "all"),
        )
        self.results: dict[str, NodeResult] = {}
        self.cut: str | None = None  # why the run was ended before all nodes were
        self.on_landed: Callable[[], object] | None = None
        self.on_forgetting: Callable[[], object] | None = None  # it is about to
        self._facts = facts
        self._load = load
        self._tell_error = tell_error
        self._tallies: dict[str | None, Tally] = {}
        self._forgotten: set[str] = set()
        self._bodies: dict[str, Row] = {}  # of nodes that go on
        self._values: dict[str, bytes] = {}  # what these returned, and others that are not done
        self._growing: set[str] = set()  # nodes whose task adds others
        self._times = Times()
        self._seq = 0  # of the row that is told
        self._last = 0.0

    # -- rows

    def tell(self, row: Row) -> None:
        """Let happen what this row says."""
        if self._times.began is None or row.kind == LIFE:
            self._times.began = row.at  # of its last life, as the seconds in the end's row are
        self._last = max(self._last, row.at)
        self._seq = row.seq
        name = row.node
        if row.kind == OUTSIDE:
            self._land(row, None)
        elif name is None:
            return
        elif row.kind == DONE:
            self._tell_done(row, name)
        elif row.kind == BODY:
            self._tell_body(row, name)
        elif row.kind == STEP:
            self._tell_step(row, name)
        elif row.kind in OUTCOMES:
            self._tell_failure(row, name)
        elif row.kind == CANCEL:
            self._cancel(name, blame_of(detail_of(row)["blame"]))

    def _tell_done(self, row: Row, name: str) -> None:
        if row.seq in self._facts.voids and not self._facts.ended_next(name, row.seq):
            self._keep_value(row, name)
            return
        if not self._begin(name):
            raise _contradiction(row, self.scheduler.statuses().get(name))
        if row.seq in self._facts.voids or not (row.change is None or self._land(row, name)):
            self._keep_value(row, name)  # its failure comes later
            return
        detail = detail_of(row)
        self._record(row, name, COMPLETED, detail)
        self._end_growth(row, name, detail)
        answers = self._facts.answers.get((row.seq, name), ALL_TAKEN)
        self.scheduler.succeed(name, answers.untaken, answers.broken)
        for target in answers.broken:
            self._fail_unstarted(name, target)
        self._forget_spare()

    def _tell_body(self, row: Row, name: str) -> None:
        self._bodies[name] = row
        self._keep_value(row, name)
        if self._facts.went_on(row):
            self._begin(name)
        self.scheduler.offspring.begin(name)

    def _tell_step(self, row: Row, name: str) -> None:
        self.scheduler.offspring.begin(name)
        self._growing.add(name)
        self._land(row, name)

    def _tell_failure(self, row: Row, name: str) -> None:
        if not self._facts.counts(row):  # it was tried again
            self._keep_value(row, name)
            return
        detail = detail_of(row)
        if detail.get("unstarted"):
            self._fail_unstarted(None, name)
        elif self._begin(name):
            self._fail(row, name, detail)
        elif row.kind == FAILED:
            raise _contradiction(row, self.scheduler.statuses().get(name))
        self._forget_spare()

    def _fail(self, row: Row, name: str, detail: Mapping[str, Any]) -> None:
        blame = blame_of(detail["blame"]) if "blame" in detail else None
        self._record(row, name, STATUS_OF[row.kind], detail, blame)
        children = self._end_growth(row, name, detail)
        if row.kind == FAILED:
            self.scheduler.fail(name)
            if detail.get("ends_run"):
                self._cut_short(name)
        else:
            self.scheduler.cancel(name, blame)
        for child in children:
            self._cancel(child, Blame(Why.ORPHAN, name))

    def _fail_unstarted(self, source: str | None, name: str) -> None:
        """Fail a node that waits: as is written, if the process did not die before."""
        if self.scheduler.statuses().get(name) not in WAITING:
            return
        detail = self._facts.unstarted.get(name, {})
        if "error" in detail:
            error = self._tell_error(detail["error"])
        else:
            error = _unknown_answer(source or "", name)
        added_by, depth = self.scheduler.origin(name)
        self.results[name] = new_result(
            name,
            NodeStatus.FAILED,
            error=error,
            attempts=detail.get("attempts", 0),
            added_by=added_by,
            depth=depth,
            errors=(error,),
        )
        self.scheduler.fail(name)
        if detail.get("ends_run"):
            self._cut_short(name)

    # -- nodes

    def _begin(self, name: str) -> bool:
        """Let a node run that waits; tell whether it runs."""
        if self.scheduler.statuses().get(name) in WAITING:
            self.scheduler.recall(name)
        return self.scheduler.statuses().get(name) is RUNNING

    def _keep_value(self, row: Row, name: str) -> None:
        if row.value is not None:
            self._values[name] = row.value

    def _record(
        self,
        row: Row,
        name: str,
        status: NodeStatus,
        detail: Mapping[str, Any],
        blame: Blame | None = None,
    ) -> None:
        """Note what became of a node, in the same words as when it ran."""
        self._keep_value(row, name)
        if self._bodies.pop(name, None) is not None or row.change is not None:
            self._times.ended[name] = row.at
        elif (row.attempts or 0) > 1 and row.started is not None:
            # Where one attempt ended, and the next began, is not written: they are told as one.
            self._times.attempts[name] = ((row.started, row.at),)
        self._growing.discard(name)
        seconds, attempts, reason = row.seconds or 0.0, row.attempts or 0, detail.get("reason")
        if status is CANCELLED:
            reason = self.cut or str(blame)
            if row.started is None:
                seconds, attempts = 0.0, attempts - 1
        error, errors = self._errors(detail, is_own=row.kind == FAILED and reason is None)
        stored = self._values.pop(name, None)
        self.results[name] = new_result(
            name,
            status,
            None if stored is None else self._load(stored),
            error,
            seconds,
            row.started,
            attempts,
            *self.scheduler.origin(name),
            reason,
            errors,
        )

    def _errors(
        self, detail: Mapping[str, Any], *, is_own: bool
    ) -> tuple[BaseException | None, tuple[BaseException, ...]]:
        """Return what a node failed with, and its attempts; the last one may be both."""
        rows = detail.get("errors", ())
        errors = [self._tell_error(row) for row in rows]
        if "error" not in detail:
            return None, tuple(errors)
        if errors and rows[-1] == detail["error"]:
            return errors[-1], tuple(errors)
        error = self._tell_error(detail["error"])
        return error, (*errors, error) if is_own else tuple(errors)

    def _cancel(self, name: str, blame: Blame) -> None:
        """Cancel a node that waits; what became of one that ran is told in its time."""
        if self._facts.has_ended(name, self._seq):
            self._begin(name)
        elif self.scheduler.statuses().get(name) in WAITING:
            self.scheduler.cancel(name, blame)

    def _cut_short(self, name: str) -> None:
        """End the run as this failure did: what waits is cancelled, but not what was at work."""
        self.cut = ended_by(name)
        for other in self._facts.ended_after(self._seq):
            self._begin(other)
        self.scheduler.cancel_rest()

    def _end_growth(self, row: Row, name: str, detail: Mapping[str, Any]) -> Collection[str]:
        """Let go of what is known of a node that added others; return the children to cancel."""
        policy = self.scheduler.policies.get(name)
        if "folded" in detail:
            self._tally(name).value = self._load(bytes.fromhex(detail["folded"]))
        children = self.scheduler.offspring.end(name)
        if row.kind == DONE or policy is None or policy.orphans != "cancel":
            return ()
        return sorted(children)

    def _tally(self, name: str | None) -> Tally:
        return self._tallies.setdefault(name, Tally())

    def _forget_spare(self) -> None:
        if self.scheduler.retention.spare and self.on_forgetting is not None:
            self.on_forgetting()
        for name in list(self.scheduler.retention.spare):
            if self.scheduler.forget(name):
                result = self.results.pop(name)
                self._tally(result.added_by).add(result.duration_seconds)
                self._forgotten.add(name)
                self._times.forget(name)

    # -- modifications

    def _land(self, row: Row, by: str | None) -> bool:
        """Land a modification; tell whether it did: it may be refused, and the word for that lost.

        Who was at work then, and was to be cancelled, is so now.
        """
        if row.seq in self._facts.voids:
            return False
        assert row.change is not None, "it is a modification"
        change = read_modification(row.change, stand_in)
        for name in change.cancel_nodes:
            if self._facts.has_ended(name, row.seq):
                self._begin(name)
        for name in detail_of(row).get("at_work", ()):
            if self._facts.ended_next(name, row.seq):
                self._begin(name)
        if detail_of(row).get("expected", self.scheduler.version) != self.scheduler.version:
            return False
        answers = self._facts.answers.get((row.seq, None), ALL_TAKEN)
        broken = dict.fromkeys(map(tuple, answers.broken))
        is_settled = row.kind == STEP and by in self._bodies
        version = self.scheduler.version
        is_in = self._is_accepted(
            change,
            by,
            untaken=set(map(tuple, answers.untaken)),
            broken=broken,
            settled=is_settled,
        )
        if version != self.scheduler.version:
            added, removed = len(change.add_nodes), len(change.remove_nodes)
            landed = Landing(version + 1, row.at, by, added, removed, is_settled)
            self._times.landings.append(landed)
            if self.on_landed is not None:
                self.on_landed()
        for source, target in broken:
            self._fail_unstarted(source, target)
        return is_in

    def _is_accepted(self, change: DynamicModification, by: str | None, **how: Any) -> bool:
        """Land a modification as far as the scheduler takes it.

        It may need a name, or a leaf, of a node that the run had forgotten in its turns between two
        modifications.
        """
        try:
            self.scheduler.land(change, by, **how)
        except ModificationError:
            if not self.scheduler.retention.spare:
                return False
            self._forget_spare()
            return self._is_accepted(change, by, **how)
        return True

    # -- the end

    def finish(self, reason: str | None) -> None:
        """End the run: what has not ended has done so with it."""
        self.cut = reason
        self._forget_spare()
        statuses = self.scheduler.statuses()
        if reason is None and self.scheduler.unfinished:
            raise InternalError(
                f"the record of the run contradicts itself: it ended by itself, and "
                f"{self.scheduler.unfinished:,} of its nodes did not\n"
                f"  help: please report this, with the journal if you can"
            )
        for name in [name for name, status in statuses.items() if status is RUNNING]:
            self._record_unended(name, CANCELLED, reason)
            self.scheduler.cancel(name)
        self.scheduler.cancel_rest()
        self._forget_spare()

    def _record_unended(self, name: str, status: NodeStatus, reason: str | None) -> None:
        row, stored = self._bodies.get(name), self._values.get(name)
        self.results[name] = new_result(
            name,
            status,
            None if stored is None else self._load(stored),
            None,
            (row.seconds if row else None) or 0.0,
            row.started if row else None,
            (row.attempts if row else None) or 0,
            *self.scheduler.origin(name),
            reason,
        )

    def result(
        self, in_flight: Iterable[str] = (), unfinished: str = UNFINISHED
    ) -> ExecutionResult:
        """Return what the run came to, or has come to so far.

        ``in_flight`` names nodes that are known to be at work; ``unfinished`` is the reason of a
        run that has no end.
        """
        end = self._facts.end
        if end is None:
            self._forget_spare()
            at_work = {*in_flight, *self._bodies, *self._growing}
            for name, status in self.scheduler.statuses().items():
                if status is RUNNING or (status is READY and name in at_work):
                    self._record_unended(name, RUNNING, None)
        seconds = self._last - (self._times.began or self._last)
        return collect(
            self.scheduler,
            self.results,
            [name for name in self._expanders if name not in self._forgotten],
            end["reason"] if end is not None else unfinished,
            end["seconds"] if end is not None else seconds,
            self._tallies,
            self._times,
            is_whole=end is not None,
        )


def told(
    graph: str,
    read: Callable[[], Iterable[Row]],
    load: Load,
    *,
    tell_error: TellError = recorded_error,
    in_flight: Iterable[str] = (),
    unfinished: str = UNFINISHED,
) -> ExecutionResult:
    """Return what a run came to, or has come to so far, with stand-ins for its callables.

    ``read`` yields the rows, and is called twice; what comes only the second time does not count.
    ``load`` and ``tell_error`` are those of `Telling`, the rest is of `Telling.result`. The result
    is the one that was returned then, but for these: an ``error`` is what was written down of it;
    nodes that were at work when another one's failure ended the run have no times; a fold that came
    to no end has no value; and ``unused_expanders`` are in alphabetical order.
    """
    facts = Facts(read(), {}, False)
    telling = Telling(graph, facts, load, tell_error)
    for row in read():
        if row.seq > facts.last:  # the run goes on meanwhile
            break
        telling.tell(row)
    if facts.end is not None:
        telling.finish(facts.end["reason"])
    return telling.result(in_flight, unfinished)


def told_graph(graph: str, read: Callable[[], Iterable[Row]], version: int) -> DAG | None:
    """Return the graph after so many modifications, or None where there were fewer.

    What was forgotten by then is not in it.
    """
    facts = Facts(read(), {}, False)
    telling = Telling(graph, facts, no_value, no_error)
    found = telling.scheduler.dag() if version == 0 else None

    def look() -> None:
        nonlocal found
        if telling.scheduler.version == version:
            found = telling.scheduler.dag()

    telling.on_landed = look
    for row in read():
        if found is not None or row.seq > facts.last:
            break
        telling.tell(row)
    return found


def no_value(stored: bytes) -> None:
    """Load nothing, where results are not asked for."""


def no_error(row: Mapping[str, Any]) -> BaseException:
    return RuntimeError()


def _contradiction(row: Row, status: NodeStatus | None) -> InternalError:
    where = "is not in the graph" if status is None else f"is {status}"
    return InternalError(
        f"the record of the run contradicts itself at row {row.seq:,}: "
        f"node {row.node!r:.60} ended there, and {where}\n"
        f"  help: please report this, with the journal if you can"
    )


def _unknown_answer(source: str, target: str) -> ConditionError:
    return ConditionError(
        f"the condition on the edge from {source!r:.60} to {target!r:.60} gave no answer\n"
        f"  help: the process died before it was written what it raised; go on with the run",
        (source, target),
    )
