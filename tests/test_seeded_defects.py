"""The tests are tested: a scheduler with a defect breaks a claim of the random programs.

Each defect below is a plausible slip. A defect that no program notices fails its test here: then
the property has a hole.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from dagron import DynamicModification, ModificationError, NodeStatus
from dagron import _growth as growth
from dagron import _landing as landing
from dagron import _retention as retention
from dagron._admission import Admission
from dagron._blame import Blame, Why
from dagron._landing import Landing, examine
from dagron._lanes import Lane, Lanes, Pool
from dagron._offspring import Offspring
from dagron._policy import Trigger, all_done
from dagron._readiness import Readiness
from dagron._retention import Retention
from dagron._scheduler import Scheduler
from machine import edges_of
from programs import PROGRAMS, Tape, drive

# The first failure is enough: nothing is shrunk.
find_a_failure = settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate,),
    max_examples=1_000,
)


def claim_broken_by(scheduler_class: type[Scheduler], *, questions: bool = False) -> str:
    """The first claim that a random program finds broken; empty if none does.

    What happens must give a defect away; where ``questions`` are asked, the answers may do so, too.
    """

    @find_a_failure
    @given(PROGRAMS)
    def claims_hold(program: Tape) -> None:
        drive(scheduler_class, program, questions=questions)

    return claim_broken_in(claims_hold)


def claim_broken_in_threads_by(scheduler_class: type[Scheduler]) -> str:
    """The same where threads run one node after another."""

    @find_a_failure
    @given(PROGRAMS)
    def claims_hold(program: Tape) -> None:
        drive(scheduler_class, program, questions=False, drains=True)

    return claim_broken_in(claims_hold)


def claim_broken_in(claims_hold: Callable[[], object]) -> str:
    try:
        claims_hold()
    except AssertionError as error:
        return str(error)
    return ""


# --- six defects ---------------------------------------------------------------------------------


class NonAtomicApply(Scheduler):
    """Lets in those of the nodes that have no fault."""

    def land(
        self, modification: DynamicModification, by: str | None = None, **options: Any
    ) -> Sequence[str]:
        try:
            return super().land(modification, by, **options)
        except ModificationError:
            for added in modification.add_nodes:
                with suppress(ModificationError):
                    super().land(DynamicModification([added]), by)
            raise


def test_a_modification_that_lands_in_part_is_caught() -> None:
    """Seeded defect 1, a non-atomic apply: a rejected modification leaves something behind."""
    assert claim_broken_by(NonAtomicApply).startswith("a rejected modification changes nothing")


def test_an_edge_into_a_started_node_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeded defect 2, an edge into a started node: nobody would wait for its source."""

    def examine_without_a_look_at_targets(
        modification: DynamicModification, graph: Any, status: Mapping[str, Any], **options: Any
    ) -> Landing:
        found = examine(modification, graph, status, **options)
        late = [fault for fault in found.faults if "cannot wait for" in fault.message]
        for fault in late:
            found.faults.remove(fault)
        edges = [edge for edge in edges_of(modification) if edge not in found.added_edges]
        found.added_edges += edges if late and not found.faults else []
        return found

    monkeypatch.setattr(growth, "examine", examine_without_a_look_at_targets)
    assert claim_broken_by(Scheduler).startswith(
        "a modification with faults is refused: {'started'}"
    )


def test_a_cycle_that_lands_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeded defect 3, no cycle check: the nodes on it would wait for each other for ever."""
    monkeypatch.setattr(landing, "find_cycle", lambda starts, successors: None)
    assert claim_broken_by(Scheduler).startswith("a modification with faults is refused: {'cycle'}")


class WorkersWithoutLimit(Scheduler):
    """Starts as many nodes on threads as are ready."""

    def __init__(self, dag: Any, **limits: Any) -> None:
        super().__init__(dag, **{**limits, "max_workers": 1_000})


class NodesWithoutLimit(Scheduler):
    """Starts whatever is ready."""

    def __init__(self, dag: Any, **limits: Any) -> None:
        super().__init__(dag, **{**limits, "max_concurrency": None})


@pytest.mark.parametrize("defect", [WorkersWithoutLimit, NodesWithoutLimit])
def test_a_limit_that_does_not_hold_is_caught(defect: type[Scheduler]) -> None:
    """Seeded defect 4, the limit ignored: more nodes start than there are places for."""
    assert claim_broken_by(defect).startswith("the limits hold")


class GrowthWithoutLimit(Scheduler):
    """Lets the graph grow for ever."""

    def __init__(self, dag: Any, **limits: Any) -> None:
        super().__init__(dag, **{**limits, "max_nodes": 10**9, "max_depth": 10**9})


def test_growth_without_a_limit_is_caught() -> None:
    """Seeded defect 4, for growth: a graph beyond `max_nodes` or `max_depth` is noticed."""
    claim = claim_broken_by(GrowthWithoutLimit)
    assert claim.startswith("a modification with faults is refused: {'limit'}")


class NoSkipCascade(Scheduler):
    """Leaves what depends on a failed node waiting."""

    def _skip(self, name: str, blame: Blame) -> None:
        pass


class StrandedUnderAFailedNode(Scheduler):
    """Adds a new node under a failed one as if there were still something to wait for."""

    landing = False

    def land(self, *arguments: Any, **keywords: Any) -> Sequence[str]:
        self.landing = True
        try:
            return super().land(*arguments, **keywords)
        finally:
            self.landing = False

    def _skip(self, name: str, blame: Blame) -> None:
        if not self.landing:
            super()._skip(name, blame)


def test_a_missing_skip_cascade_is_caught() -> None:
    """Seeded defect 5, no skip cascade: what depends on a failed node is left waiting."""
    claim = claim_broken_by(NoSkipCascade)
    assert claim.startswith("one state per node")
    assert "PENDING and should be SKIPPED" in claim


def test_a_new_node_stranded_under_a_failed_one_is_caught() -> None:
    """Seeded defect 6, a new node under a failed one stays PENDING for ever."""
    claim = claim_broken_by(StrandedUnderAFailedNode)
    assert claim.startswith("one state per node")
    assert "n" in claim
    assert "PENDING and should be SKIPPED" in claim


# --- conditions and triggers ---------------------------------------------------------------------


def test_an_inactive_edge_that_counts_as_met_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeded defect 7: the answer of a condition makes no difference."""
    honest = Readiness.pass_success

    def deaf(self: Readiness, source: str, target: str, taken: bool) -> None:
        honest(self, source, target, True)

    monkeypatch.setattr(Readiness, "pass_success", deaf)
    assert claim_broken_by(Scheduler).startswith("one state per node")


def test_an_answer_at_landing_that_is_not_heard_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeded defect 7, for an edge that is added after its source: the answer is not heard."""
    honest = Readiness.add_edge

    def deaf(self: Readiness, source: str, target: str, blame: Any, **answers: Any) -> bool:
        return honest(self, source, target, blame, **{**answers, "taken": True})

    monkeypatch.setattr(Readiness, "add_edge", deaf)
    assert claim_broken_by(Scheduler).startswith("one state per node")


def test_a_stranded_clean_up_node_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeded defect 8: an all_done node waits for ever for a dependency that was skipped."""
    honest = Readiness.pass_unmet

    def forgetful(self: Readiness, source: str, target: str, blame: Blame) -> bool:
        if self._triggers.get(target) == all_done and self._status[source] is NodeStatus.SKIPPED:
            return False
        return honest(self, source, target, blame)

    monkeypatch.setattr(Readiness, "pass_unmet", forgetful)
    assert "PENDING and should be READY" in claim_broken_by(Scheduler)


def test_a_trigger_that_waits_for_all_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeded defect 9: any_succeeded does not start at the first success."""
    honest = Trigger.verdict

    def patient(self: Trigger, total: int, pending: int, met: int, inactive: int) -> bool | None:
        if self.kind == "any_succeeded" and pending:
            return None
        return honest(self, total, pending, met, inactive)

    monkeypatch.setattr(Trigger, "verdict", patient)
    assert "PENDING and should be READY" in claim_broken_by(Scheduler)


def test_a_share_of_all_edges_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """at_least(0.5) of the active edges is not half of all edges."""
    honest = Trigger._needed
    counts: list[int] = []

    def verdict(self: Trigger, total: int, pending: int, met: int, inactive: int) -> bool | None:
        counts[:] = [total]
        return honest_verdict(self, total, pending, met, inactive)

    honest_verdict = Trigger.verdict
    monkeypatch.setattr(Trigger, "verdict", verdict)
    monkeypatch.setattr(Trigger, "_needed", lambda self, active: honest(self, counts[0]))
    assert "should be READY" in claim_broken_by(Scheduler)


# --- cancellation --------------------------------------------------------------------------------


class StrandedByCancellation(Scheduler):
    """Cancels a node that waits, and forgets who waits for it."""

    def cancel(self, name: str, blame: Blame | None = None, **options: Any) -> None:
        if self.status(name) is NodeStatus.RUNNING:
            super().cancel(name, blame, **options)
        else:
            self._finish(name, NodeStatus.CANCELLED)


def test_a_cancelled_node_that_strands_others_is_caught() -> None:
    """Seeded defect 10: dependents of a node that was cancelled while it waited are left."""
    claim = claim_broken_by(StrandedByCancellation)
    assert claim.startswith("one state per node")
    assert "PENDING and should be SKIPPED" in claim


# --- slots and turns -----------------------------------------------------------------------------


class EndlessPool(Pool):
    """Has a slot for everybody."""

    __slots__ = ()

    def is_free(self, lanes: Lanes) -> bool:
        return True


class GroupsWithoutLimit(Scheduler):
    """Starts as many nodes of a group as are ready."""

    def __init__(self, dag: Any, *, pools: Mapping[str, Pool], **options: Any) -> None:
        for pool in pools.values():
            pool.__class__ = EndlessPool
        super().__init__(dag, pools=pools, **options)


def test_a_group_without_a_limit_is_caught() -> None:
    """Seeded defect 11: a group's limit is ignored."""
    assert claim_broken_by(GroupsWithoutLimit).startswith("the limits hold")


def test_a_priority_that_is_ignored_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeded defect 12: ready nodes start in the order of readiness, whatever their priority."""
    honest = Admission.add

    def blind(self: Admission, name: str, on_thread: bool, priority: float) -> None:
        honest(self, name, on_thread, 0)

    monkeypatch.setattr(Admission, "add", blind)
    assert "has a larger priority than" in claim_broken_by(Scheduler)


def test_slots_that_a_resting_node_keeps_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeded defect 13: a node that waits at a gate gives nothing back."""
    monkeypatch.setattr(Admission, "rest", lambda self, name: self.resting.add(name))
    claim = claim_broken_by(Scheduler)
    assert claim.startswith(("no slot idles", "worker slots are", "the slots of"))


def test_a_place_that_a_resting_node_keeps_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeded defect 13, for `max_concurrency` alone."""
    honest = Admission.rest

    def greedy(self: Admission, name: str) -> None:
        places, self._places = self._places, None
        try:
            honest(self, name)
        finally:
            self._places = places

    monkeypatch.setattr(Admission, "rest", greedy)
    assert claim_broken_by(Scheduler).startswith(("no slot idles", "the limits hold"))


def test_slots_of_a_thread_that_goes_on_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group's slot is given back at the end of the node, while its thread still runs."""
    monkeypatch.setattr(Admission, "linger", lambda self, name: None)
    assert claim_broken_by(Scheduler).startswith("the slots of")


class IdleSlots(Scheduler):
    """Keeps the last place free."""

    def take_ready(self, most: int) -> list[str]:
        return super().take_ready(most if self.running == 0 else min(most, 1))


def test_idle_slots_are_caught() -> None:
    """A slot that idles while a node could start is noticed."""
    assert claim_broken_by(IdleSlots).startswith("no slot idles")


def test_unfair_turns_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who came last is served first."""

    honest, times = Admission.add, count()

    def unfair(self: Admission, name: str, on_thread: bool, priority: float) -> None:
        honest(self, name, on_thread, priority + next(times) * 1e-6)

    monkeypatch.setattr(Admission, "add", unfair)
    assert claim_broken_by(Scheduler).startswith("turns are kept")


# --- threads that run one node after another -----------------------------------------------------


class InLineForEver(Scheduler):
    """Starts a node in a thread's slot, and leaves it in line."""

    def begin(self, name: str) -> None:
        place = dict(self._admission._place)
        super().begin(name)
        self._admission._place.update(place)


class BeginsAnything(Scheduler):
    """Takes a thread's word for it that a node is ready."""

    def begin(self, name: str) -> None:
        self._admission.withdraw(name)
        self._start((name,))


class SlotForTwo(Scheduler):
    """Lets a node keep the slot that its thread has."""

    def hand_over(self, name: str) -> None:
        super().hand_over(name)
        self.working.add(name)


class SlotForNobody(Scheduler):
    """Takes the slot from a thread that was given up, and does not say whose it is."""

    def take_over(self, name: str) -> None:
        super().take_over(name)
        self.working.remove(name)


class SlotOfBoth(Scheduler):
    """Gives a node the slot of its thread, and leaves it to the thread as well."""

    def take_over(self, name: str) -> None:
        self.working.add(name)


class LostSlot(Scheduler):
    """Takes the slot from a thread that has nothing left to run, and gives it to nobody."""

    def end_draining(self) -> None:
        self._admission.draining -= 1


class UnnoticedSlot(Scheduler):
    """Frees a slot without a word to those who wait for it."""

    def end_draining(self) -> None:
        self._admission.draining -= 1
        self._admission._workers.free += 1


class GivesUp(Scheduler):
    """Takes a run for stuck whose worker slots are all held by threads."""

    def is_stuck(self) -> bool:
        return bool(self.unfinished) and not self.running and not self.working


@pytest.mark.parametrize(
    ("defect", "claim"),
    [
        (InLineForEver, ("what starts is ready, and starts once", "who follows is next")),
        (BeginsAnything, "nobody begins who is not ready"),
        (SlotForTwo, "worker slots are where they were given"),
        (SlotForNobody, "worker slots are where they were given"),
        (SlotOfBoth, "slots of threads are where they were given"),
        (LostSlot, "the slots of max_workers are where they belong"),
        (UnnoticedSlot, "no slot idles"),
        (GivesUp, "no node is stranded"),
    ],
)
def test_a_slot_of_a_thread_that_goes_astray_is_caught(defect: type[Scheduler], claim: str) -> None:
    """Seeded defect 28: on its way from a node to a thread, to another node, or back."""
    assert claim_broken_in_threads_by(defect).startswith(claim)


class NoRecall(Scheduler):
    """Sees nobody who goes before those who were offered."""

    def is_overtaken(self, name: str) -> bool:
        return False


class AlwaysRecall(Scheduler):
    """Sees somebody who goes before those who were offered, always."""

    def is_overtaken(self, name: str) -> bool:
        return True


class OfferedTwice(Scheduler):
    """Returns those aside, too."""

    def following(self, most: int, aside: Container[str]) -> list[str]:
        return super().following(most, ())


class LastComeFirst(Scheduler):
    """Returns those who follow the wrong way round."""

    def following(self, most: int, aside: Container[str]) -> list[str]:
        return super().following(most, aside)[::-1]


class PastOthers(Scheduler):
    """Asks nobody who waits for a worker slot in another lane."""

    def following(self, most: int, aside: Container[str]) -> list[str]:
        lanes = self._admission._lanes
        parked, lanes._parked = lanes._parked, {}
        try:
            return super().following(most, aside)
        finally:
            lanes._parked = parked


class OneTooFew(Scheduler):
    """Returns one less than there are."""

    def following(self, most: int, aside: Container[str]) -> list[str]:
        return super().following(most, aside)[:-1]


@pytest.mark.parametrize(
    ("defect", "claim"),
    [
        (NoRecall, "who goes first is noticed"),
        (AlwaysRecall, "nobody is overtaken by nobody"),
        (OfferedTwice, "who follows is next"),
        (LastComeFirst, "who follows is next"),
        (PastOthers, "who follows is next"),
        (OneTooFew, "nobody is left out who follows"),
    ],
)
def test_a_wrong_word_on_who_follows_is_caught(defect: type[Scheduler], claim: str) -> None:
    """Seeded defect 29: what a thread is to run next is not what the line says."""
    assert claim_broken_in_threads_by(defect).startswith(claim)


def test_a_look_while_slots_are_free_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeded defect 30: a lane that does not wait for a slot is taken for one that does."""
    honest = Lanes.following

    def hasty(self: Lanes, lane: Lane, *arguments: Any) -> list[str]:
        is_parked, lane.is_parked = lane.is_parked, True
        try:
            return honest(self, lane, *arguments)
        finally:
            lane.is_parked = is_parked

    monkeypatch.setattr(Lanes, "following", hasty)
    assert claim_broken_in_threads_by(Scheduler).startswith("no slot idles")


# --- streaming -----------------------------------------------------------------------------------


class SettledTwice(Scheduler):
    """Counts an edge that counts as met once more when its source succeeds."""

    def succeed(self, name: str, *answers: Any) -> None:
        self._readiness.settled.pop(name, None)
        super().succeed(name, *answers)


def test_a_settled_edge_that_counts_twice_is_caught() -> None:
    """Seeded defect 14: the success of a streaming node releases its children once more."""
    assert claim_broken_by(SettledTwice).startswith("one state per node")


class SettledForNothing(Scheduler):
    """Skips what a streaming node has added when that fails."""

    def _pass_failure(self, name: str, blame: Blame) -> None:
        self._readiness.settled.pop(name, None)
        super()._pass_failure(name, blame)


def test_a_child_that_falls_with_a_streaming_node_is_caught() -> None:
    """Seeded defect 15: a settled edge does not stay so when its source fails."""
    claim = claim_broken_by(SettledForNothing)
    assert claim.startswith("one state per node")
    assert "is SKIPPED and should be" in claim


class WaitsForTheExpander(Scheduler):
    """Lets the children of a streaming node wait for its end."""

    def land(self, *arguments: Any, settled: bool = False, **keywords: Any) -> Sequence[str]:
        return super().land(*arguments, **keywords)


def test_children_that_wait_for_a_streaming_node_are_caught() -> None:
    """Seeded defect 16: an edge from the node that adds a node does not count as met."""
    assert claim_broken_by(WaitsForTheExpander).startswith("one state per node")


def test_a_settled_edge_that_is_removed_wrongly_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeded defect 17: an edge that counted as met is removed as one that was waited for."""
    honest = Readiness.remove_edge

    def hasty(self: Readiness, source: str, target: str) -> None:
        self._unsettle(source, target)
        honest(self, source, target)

    monkeypatch.setattr(Readiness, "remove_edge", hasty)
    assert claim_broken_by(Scheduler).startswith("one state per node")


def test_a_condition_that_is_asked_twice_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeded defect 18: at the end of a streaming node, over edges that were judged at landing."""
    honest = Scheduler.conditions

    def curious(self: Scheduler, name: str) -> Mapping[str, Any]:
        settled, self._readiness.settled = self._readiness.settled, {}
        try:
            return honest(self, name)
        finally:
            self._readiness.settled = settled

    monkeypatch.setattr(Scheduler, "conditions", curious)
    assert claim_broken_by(Scheduler).startswith("conditions are asked for those that wait")


@pytest.mark.parametrize("by", [1, -1])
def test_a_window_that_is_off_by_one_is_caught(by: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeded defect 19: one child too many, or too few, before a streaming node waits."""
    honest = Offspring.wait
    monkeypatch.setattr(
        Offspring, "wait", lambda self, parent, limit: honest(self, parent, limit + by)
    )
    assert claim_broken_by(Scheduler).startswith("a window is as wide as it says")


def test_room_of_which_nobody_hears_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeded defect 20: a streaming node is woken one child late."""
    honest = Offspring.finish

    def late(self: Offspring, name: str, parent: str | None) -> None:
        waiting = self.waiting.get(parent or "", 0)
        if waiting > 1:
            self.waiting[parent or ""] = waiting - 1
        honest(self, name, parent)
        if (parent or "") in self.waiting:
            self.waiting[parent or ""] = waiting

    monkeypatch.setattr(Offspring, "finish", late)
    assert claim_broken_by(Scheduler).startswith("who waits hears of room")


def test_a_removed_child_that_takes_room_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeded defect 21: a child that was removed counts as unfinished."""
    honest = Offspring.finish
    gone: list[str] = []

    class Removing(Scheduler):
        def _take_out(self, name: str, by: str | None, touched: dict[str, None]) -> None:
            gone[:] = [name]
            super()._take_out(name, by, touched)
            gone.clear()

    def forgetful(self: Offspring, name: str, parent: str | None) -> None:
        if name not in gone:
            honest(self, name, parent)

    monkeypatch.setattr(Offspring, "finish", forgetful)
    assert claim_broken_by(Removing).startswith("the unfinished children")


# --- retention -----------------------------------------------------------------------------------


def test_a_node_that_is_forgotten_while_it_is_needed_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Seeded defect 22: a dependent that has started counts as done."""
    monkeypatch.setattr(retention, "UNDONE", (NodeStatus.PENDING, NodeStatus.READY))
    assert claim_broken_by(Scheduler).startswith("what nobody needs is spare, and nothing else")


SPARE = "what nobody needs is spare"


@pytest.mark.parametrize("method", ["add_edge", "remove_edge", "release"])
def test_retention_that_misses_a_change_is_caught(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seeded defect 23: an edge that is added or removed, or an end, makes no difference."""
    monkeypatch.setattr(Retention, method, lambda self, *names: None)
    assert claim_broken_by(Scheduler).startswith((SPARE, "what is spare is forgotten"))


class RemovedButNeeding(Scheduler):
    """Judges what a removed node depended on while that node is still there."""

    def _take_out(self, name: str, by: str | None, touched: dict[str, None]) -> None:
        sources = self._graph.dependencies[name]
        for source in sources:
            self.retention.release(source)
        honest, self.retention.active = self.retention.active, False
        super()._take_out(name, by, touched)
        self.retention.active = honest


def test_a_removed_node_that_still_needs_others_is_caught() -> None:
    """Seeded defect 24: what a removed node depended on is kept for ever."""
    assert claim_broken_by(RemovedButNeeding).startswith(SPARE)


def test_a_word_that_nobody_heeds_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeded defect 25: what a node says is to stay of its children."""
    monkeypatch.setattr(Retention, "adopt", lambda self, name, keep: None)
    assert claim_broken_by(Scheduler).startswith(SPARE)


def test_leaves_that_are_not_kept_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeded defect 26: "leaves" means "failures"."""
    honest = Retention._keep

    def careless(self: Retention, name: str) -> str:
        return honest(self, name).replace("leaves", "failures")

    monkeypatch.setattr(Retention, "_keep", careless)
    assert claim_broken_by(Scheduler).startswith(SPARE)


class Reminiscent(Scheduler):
    """Remembers the names of forgotten nodes."""

    def forget(self, name: str) -> bool:
        self._removed[name] = None
        return super().forget(name)


class Clinging(Scheduler):
    """Forgets a node, but not how it was to be run."""

    def forget(self, name: str) -> bool:
        policy = self.policies.get(name)
        forgotten = super().forget(name)
        if policy is not None:
            self.policies[name] = policy
        return forgotten


class Uncounted(Scheduler):
    """Forgets without counting."""

    def forget(self, name: str) -> bool:
        super().forget(name)
        self.forgotten = 0
        return True


@pytest.mark.parametrize(
    ("defect", "claim"),
    [
        (Reminiscent, "removed nodes are listed as they went"),
        (Clinging, "nothing is kept of removed nodes"),
        (Uncounted, "the count of forgotten nodes is true"),
    ],
)
def test_what_is_left_of_a_forgotten_node_is_caught(defect: type[Scheduler], claim: str) -> None:
    """Seeded defect 27: its name, what it is run by, or no count of it."""
    assert claim_broken_by(defect).startswith(claim)


# --- what is told --------------------------------------------------------------------------------


class TwoFinalStates(Scheduler):
    """Cancels a node that has failed, too."""

    def fail(self, name: str, **options: Any) -> None:
        super().fail(name, **options)
        self.statuses()[name] = NodeStatus.CANCELLED


class SecretSkips(Scheduler):
    """Logs what it does to nodes, but not what follows from it."""

    def _skip(self, name: str, blame: Blame) -> None:
        log, self.log = self.log, None
        super()._skip(name, blame)
        self.log = log


class DeafToCancellation(Scheduler):
    """Does not tell which running nodes a modification cancels."""

    def land(self, *arguments: Any, **keywords: Any) -> Sequence[str]:
        super().land(*arguments, **keywords)
        return ()


@pytest.mark.parametrize(
    ("defect", "claim"),
    [
        (TwoFinalStates, "one state per node"),
        (SecretSkips, "the log tells what happened"),
        (DeafToCancellation, "the running ones are to be cancelled"),
    ],
)
def test_a_false_account_is_caught(defect: type[Scheduler], claim: str) -> None:
    """A second final state, a transition that is not logged and a cancellation that is not told."""
    assert claim_broken_by(defect).startswith(claim)


def test_a_wrong_reason_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that is added under a skipped one is told that this one has failed."""
    monkeypatch.setattr(growth, "blame_for", lambda source, *_: Blame(Why.FAILED, source))
    assert claim_broken_by(Scheduler, questions=True).startswith("who is to blame for")
