"""The tests are tested: a scheduler with a defect breaks a claim of the random programs.

Each defect below is a plausible slip. A defect that no program notices fails its test here: then
the property has a hole.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from dagron import DynamicModification, ModificationError, NodeStatus
from dagron import _landing as landing
from dagron import _scheduler as scheduler_module
from dagron._landing import Landing, examine
from dagron._scheduler import Scheduler
from machine import edges_of
from test_scheduler_properties import PROGRAMS, Tape, drive

# The first failure is enough: nothing is shrunk.
find_a_failure = settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate,),
    max_examples=1_000,
)


def claim_broken_by(scheduler_class: type[Scheduler]) -> str:
    """The first claim that a random program finds broken; empty if none does."""

    @find_a_failure
    @given(PROGRAMS)
    def claims_hold(program: Tape) -> None:
        drive(scheduler_class, program)

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
    ) -> None:
        try:
            super().land(modification, by, **options)
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

    monkeypatch.setattr(scheduler_module, "examine", examine_without_a_look_at_targets)
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

    def _skip(self, names: Iterable[str], blame: str) -> None:
        pass


class StrandedUnderAFailedNode(Scheduler):
    """Adds a new node under a failed one as if there were still something to wait for."""

    landing = False

    def land(self, *arguments: Any, **keywords: Any) -> None:
        self.landing = True
        try:
            super().land(*arguments, **keywords)
        finally:
            self.landing = False

    def _skip(self, names: Iterable[str], blame: str) -> None:
        if not self.landing:
            super()._skip(names, blame)


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


# --- slips that are quieter still ----------------------------------------------------------------


class IdleSlots(Scheduler):
    """Keeps the last place free."""

    def take_ready(self, most: int) -> list[str]:
        return super().take_ready(most if self.running == 0 else min(most, 1))


class UnfairTurns(Scheduler):
    """Serves who came last first."""

    def take_ready(self, most: int) -> list[str]:
        queues = self._ready_on_loop, self._ready_on_threads
        for queue in queues:
            queue.reverse()
        taken = super().take_ready(most)
        for queue in queues:
            queue.reverse()
        return taken


class TwoFinalStates(Scheduler):
    """Cancels a node that has failed, too."""

    def fail(self, name: str) -> None:
        super().fail(name)
        self.statuses()[name] = NodeStatus.CANCELLED


@pytest.mark.parametrize(
    ("defect", "claim"),
    [
        (IdleSlots, "no slot idles"),
        (UnfairTurns, "was ready before"),
        (TwoFinalStates, "one state per node"),
    ],
)
def test_a_quieter_slip_is_caught(defect: type[Scheduler], claim: str) -> None:
    """Idle slots, unfair turns and a second final state are noticed as well."""
    assert claim in claim_broken_by(defect)
