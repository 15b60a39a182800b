"""The nodes that one node has added, taken together: `ExecutionResult.family`."""

import pickle
from collections.abc import AsyncIterator
from math import ceil
from random import Random
from typing import Any

import pytest

from dagron import (
    DAG,
    DynamicModification,
    DynamicNodeSpec,
    ExecutionResult,
    Family,
    Fold,
    NodePolicy,
    NodeResult,
    NodeStatus,
    UnknownNodeError,
)
from dagron._family import SAMPLE, Tally
from faults import graph, run

DONE, BAD = NodeStatus.COMPLETED, NodeStatus.FAILED


def member(number: int, status: NodeStatus = DONE, seconds: float = 0.0) -> NodeResult:
    error = ValueError(number) if status is BAD else None
    return NodeResult(f"n{number}", status, None, error, seconds, added_by="by", depth=1)


def rank(seconds: list[float], share: float) -> float:
    """The nearest rank: the smallest of the values that so large a share of all does not exceed."""
    return sorted(seconds)[ceil(len(seconds) * share) - 1]


# --- counts and durations ------------------------------------------------------------------------


def test_a_family_counts_by_status() -> None:
    """Exactly, and its length is the sum."""
    statuses = [DONE] * 4 + [BAD] * 3 + [NodeStatus.SKIPPED] * 2 + [NodeStatus.CANCELLED]
    family = Family("by", [member(n, status) for n, status in enumerate(statuses)], None)
    assert (family.succeeded, family.failed, family.skipped, family.cancelled) == (4, 3, 2, 1)
    assert (len(family), family.forgotten, family.value, family.name) == (10, 0, None, "by")
    assert [(failure.name, str(failure.error)) for failure in family.failures] == [
        *(("n4", "4"), ("n5", "5"), ("n6", "6"))
    ]
    assert repr(family) == "<Family of 'by': 4 succeeded, 3 failed, 2 skipped, 1 cancelled>"


def test_a_family_without_nodes() -> None:
    """Nothing is known of it, and it says so."""
    family = Family("by", [], None)
    assert (len(family), family.durations, family.failures) == (0, None, ())
    assert repr(family) == "<Family of 'by': no nodes>"


@pytest.mark.parametrize("count", [1, 2, 3, 19, 20, 21, 40, 100, SAMPLE - 1])
def test_durations_of_few_nodes_are_those_of_all(count: int) -> None:
    """Median and p95 are nearest ranks: durations that some node had."""
    seconds = [Random(count).random() for _ in range(count)]
    family = Family("by", [member(n, seconds=s) for n, s in enumerate(seconds)], None)
    assert family.durations == (
        *(min(seconds), rank(seconds, 0.5), rank(seconds, 0.95), max(seconds)),
        False,
    )


def test_only_completed_nodes_have_durations() -> None:
    """How long a node took that failed or was cancelled says nothing of the others."""
    members = [member(1, seconds=2.0), member(2, BAD, seconds=9.0)]
    durations = Family("by", members, None).durations
    assert durations == (2.0, 2.0, 2.0, 2.0, False)
    assert Family("by", members[1:], None).durations is None


@pytest.mark.parametrize("count", [SAMPLE, SAMPLE + 1, 2 * SAMPLE, 5_000, 100_000])
def test_durations_of_many_nodes_are_sampled(count: int) -> None:
    """The sample stays bounded and has every 2nd, 4th, 8th ... node; min and max are of all."""
    seconds = [Random(count).random() for _ in range(count)]
    tally = Tally()
    stride = 1
    for position, duration in enumerate(seconds):
        tally.add(duration)
        assert len(tally._sample) < SAMPLE
        if len(seconds[: position + 1 : stride]) == SAMPLE:
            stride *= 2
    sample = seconds[::stride]
    assert tally.durations() == (
        *(min(seconds), rank(sample, 0.5), rank(sample, 0.95), max(seconds)),
        True,
    )
    assert tally.count == count


def test_a_sample_in_order_is_a_fair_one() -> None:
    """Durations that grow from node to node: the sample is spread over all of them."""
    tally = Tally()
    for number in range(50_000):
        tally.add(float(number))
    durations = tally.durations()
    assert durations is not None
    assert abs(durations.median - 25_000) < 250
    assert abs(durations.p95 - 47_500) < 250
    assert (durations.min, durations.max) == (0.0, 49_999.0)


def test_a_family_of_forgotten_and_kept_nodes() -> None:
    """Both count, and both have durations; making one changes no tally."""
    tally = Tally()
    for seconds in (1.0, 2.0, 3.0):
        tally.add(seconds)
    tally.value = {"sum": 6}
    members = [member(1, seconds=10.0), member(2, BAD)]
    for _ in range(2):
        family = Family("by", members, tally)
        assert (len(family), family.succeeded, family.forgotten) == (5, 4, 3)
        assert family.durations == (1.0, 2.0, 10.0, 10.0, False)
        assert family.value == {"sum": 6}
    assert (tally.count, tally._sample) == (3, [1.0, 2.0, 3.0])


# --- of a result ---------------------------------------------------------------------------------


def result_of(members: list[NodeResult], tallies: dict[str | None, Tally]) -> ExecutionResult:
    return ExecutionResult({of.name: of for of in members}, DAG.builder().build(), tallies=tallies)


def test_a_result_has_exact_counts_whatever_was_forgotten() -> None:
    """Forgotten nodes have succeeded; those that no node added are of no family."""
    tallies: dict[str | None, Tally] = {None: Tally(), "by": Tally()}
    for name in (None, "by", "by"):
        tallies[name].add(1.0)
    result = result_of([member(1), member(2, BAD)], tallies)
    assert (result.succeeded, result.failed, result.forgotten) == (4, 1, 3)
    assert repr(result).startswith("<ExecutionResult: 4 succeeded, 1 failed of 5 nodes, ")
    assert [(name, len(family)) for name, family in result.families().items()] == [("by", 4)]
    assert len(result.family("by")) == 4
    assert repr(pickle.loads(pickle.dumps(result)).family("by")) == repr(result.family("by"))


@pytest.mark.parametrize("name", ["", "nobody"])
def test_an_unknown_name_has_no_family(name: str) -> None:
    """Not even the empty one, although initial nodes were forgotten."""
    tallies: dict[str | None, Tally] = {None: Tally()}
    tallies[None].add(1.0)
    with pytest.raises(UnknownNodeError, match=r"1 node of this run was forgotten \(keep=\.\.\.\)"):
        result_of([member(1)], tallies).family(name)


async def test_the_family_of_a_node_that_added_nothing_is_empty() -> None:
    """It is known, and has no members: no families are made of such nodes."""
    result = await run(graph("a"), {"a": lambda: None})
    assert repr(result.family("a")) == "<Family of 'a': no nodes>"
    assert result.families() == {}


@pytest.mark.parametrize("keep", ["all", "leaves", "failures", Fold(lambda t, n, r: t + r, int)])
async def test_a_family_is_the_same_whatever_is_kept(keep: Any) -> None:
    """Of a streaming expander: its children of every outcome, but not those it removed again.

    Grandchildren are of the family of their own parent.
    """

    async def good() -> int:
        return 1

    async def bad() -> int:
        raise ValueError("no")

    def grandchildren(name: str, value: Any) -> DynamicModification:
        return DynamicModification([DynamicNodeSpec("g", good)])

    async def expand(name: str, value: Any) -> AsyncIterator[DynamicModification]:
        for number in range(5):
            yield DynamicNodeSpec(f"good{number}", good)
        yield DynamicNodeSpec("parent", good, expander=grandchildren)
        specs = [
            *(DynamicNodeSpec("bad", bad), DynamicNodeSpec("after", good, ["bad"])),
            *(DynamicNodeSpec("never", good, ["bad"]), DynamicNodeSpec("gone", good, ["bad"])),
        ]
        yield DynamicModification(specs)
        yield DynamicModification(remove_nodes=["gone"], cancel_nodes=["never"])

    dag = graph("by", "other")
    result = await run(
        DAG.builder().add_node("by", policy=NodePolicy(keep=keep)).add_node("other").build(),
        dict.fromkeys(dag, good),
        {"by": expand},
    )
    family = result.family("by")
    assert repr(family) == "<Family of 'by': 6 succeeded, 1 failed, 1 skipped, 1 cancelled>"
    assert [failure.name for failure in family.failures] == ["bad"]
    assert family.forgotten == {"all": 0, "leaves": 0}.get(str(keep), 6)
    assert family.value == (6 if isinstance(keep, Fold) else None)
    assert family.durations is not None
    assert family.durations.min <= family.durations.median <= family.durations.max
    assert repr(result.family("parent")) == "<Family of 'parent': 1 succeeded>"
    assert result.families().keys() == {"by", "parent"}
    assert (result.succeeded, result.failed, result.skipped, result.cancelled) == (9, 1, 1, 1)
