"""What a run keeps of when things happened: modifications, attempts, the ends of expanders."""

import pickle
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import anyio
import pytest

import dagron
from dagron import DAG, DynamicExecutor, DynamicModification, DynamicNodeSpec, NodePolicy, Retry
from dagron import _hosting as hosting
from dagron import _shell as shell
from dagron._history import RECORDED
from dagron._times import Landing, Times, spans_of
from ways import GUARD, adding, nothing


async def finished(
    dag: DAG, tasks: dict[str, Any], **options: Any
) -> tuple[dagron.ExecutionResult, Times]:
    with anyio.fail_after(GUARD):
        result = await DynamicExecutor(dag, **options).execute(tasks)
    return result, result._times


def added(*names: str) -> Any:
    return adding(*(DynamicNodeSpec(name, nothing) for name in names))


def landed(times: Times) -> list[tuple[object, ...]]:
    """The landings without their moments."""
    return [(at.version, at.by, at.added, at.removed, at.goes_on) for at in times.landings]


# --- modifications -------------------------------------------------------------------------------


async def test_each_modification_that_lands_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each it is kept who made it, how many nodes it added and removed, and when: in order, and
    not before the run began.
    """
    clock = count(100)
    monkeypatch.setattr(shell, "time", lambda: float(next(clock)))
    monkeypatch.setattr(hosting, "time", lambda: float(next(clock)))
    dag = DAG.builder().add_edge("a", "b").add_edge("a", "c").build()
    change = DynamicModification([DynamicNodeSpec("d", nothing, ["a"])], remove_nodes=["c"])
    expanders = {"a": lambda name, value: change, "b": added("e", "f"), "d": lambda *_: None}
    result, times = await finished(dag, dict.fromkeys("ab", nothing), expanders=expanders)
    assert result.ok
    assert landed(times) == [(1, "a", 1, 1, False), (2, "b", 2, 0, False)]
    first, second = (landing.time for landing in times.landings)
    assert times.began == 100
    assert 100 < first < second


async def test_what_does_not_land_is_not_kept() -> None:
    """A modification that is refused, or that changes nothing, is no landing."""
    dag = DAG.builder().add_node("a").add_node("b").build()
    expanders = {
        "a": lambda name, value: DynamicModification([DynamicNodeSpec("b", nothing)]),
        "b": lambda name, value: DynamicModification(),
    }
    result, times = await finished(dag, dict.fromkeys("ab", nothing), expanders=expanders)
    assert (result.failed, result.version, landed(times)) == (1, 0, [])


async def test_modifications_of_generators_tasks_and_from_outside_are_kept() -> None:
    """A generator's go on, a task's and those from outside do not, and these are nobody's."""

    async def expand(name: str, value: object) -> AsyncIterator[DynamicNodeSpec]:
        yield DynamicNodeSpec("streamed", nothing)

    async def task(grow: dagron.Grow) -> None:
        await grow(DynamicNodeSpec("grown", nothing))

    dag = DAG.builder().add_edge("a", "b").build()
    executor = DynamicExecutor(dag, expanders={"a": expand})
    with anyio.fail_after(GUARD):
        async with executor.start({"a": nothing, "b": task}) as run:
            await run.modify(DynamicModification([DynamicNodeSpec("outside", nothing)]))
        result = await run.wait()
    assert result.ok
    kept = [(by, goes_on) for _, by, _, _, goes_on in landed(result._times)]
    assert kept == [(None, False), ("a", True), ("b", False)]


def test_only_the_last_landings_are_kept() -> None:
    """A run that changes its graph without end keeps the last 10,000 moments."""
    times = Times()
    for version in range(RECORDED + 5):
        times.landings.append(Landing(version, 0.0, None, 0, 0, False))
    assert len(times.landings) == RECORDED == 10_000
    assert times.landings[0].version == 5


# --- attempts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
async def test_attempts_are_kept_of_nodes_with_more_than_one(is_async: bool) -> None:
    """They follow one another from the node's start on, and add up to its duration; a node with
    one attempt has none of them.
    """
    left = [OSError("first"), OSError("second")]

    def flaky() -> str:
        if left:
            raise left.pop(0)
        return "done"

    async def flaky_async() -> str:
        return flaky()

    policy = NodePolicy(retry=Retry(attempts=4, initial_delay=0.0, jitter=0.0))
    dag = DAG.builder().add_node("a", policy=policy).add_node("once", policy=policy).build()
    tasks = {"a": flaky_async if is_async else flaky, "once": nothing}
    result, times = await finished(dag, tasks)
    assert result["a"].attempts == 3
    assert list(times.attempts) == ["a"]
    spans = times.attempts["a"]
    assert len(spans) == 3
    assert spans[0][0] == result["a"].started_at
    assert all(start <= end for start, end in spans)
    assert sum(end - start for start, end in spans) == pytest.approx(
        result["a"].duration_seconds, abs=1e-5
    )


async def test_attempts_of_a_node_that_failed_are_kept() -> None:
    """All attempts of a node whose last one failed as well are there."""

    def broken() -> None:
        raise OSError("gone")

    policy = NodePolicy(retry=Retry(attempts=3, initial_delay=0.0, jitter=0.0))
    dag = DAG.builder().add_node("a", policy=policy).build()
    result, times = await finished(dag, {"a": broken})
    assert result.failed == 1
    assert len(times.attempts["a"]) == 3


def test_spans_begin_where_they_began() -> None:
    """Of the last attempt it is known how long all took: it has what the others leave, if any."""
    assert spans_of(10.0, [(1.0, 20.0), (2.0, 30.0)], 6.0) == ((10, 11), (20, 22), (30, 33))
    assert spans_of(10.0, [(1.0, 20.0)], 0.5) == ((10, 11), (20, 20))


# --- expanders -----------------------------------------------------------------------------------


async def test_the_end_of_an_expander_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a node with an expander it is kept when that was done, whatever came of it; of others
    nothing is.
    """
    now = [100.0]
    monkeypatch.setattr(shell, "time", lambda: now[0])

    async def late(name: str, value: object) -> None:
        now[0] += 5.0

    async def broken(name: str, value: object) -> None:
        now[0] += 5.0
        raise ValueError(name)

    dag = DAG.builder().add_edge("a", "b").add_edge("b", "c").build()
    tasks = dict.fromkeys("abc", _nothing)
    result, times = await finished(dag, tasks, expanders={"a": late, "b": broken})
    assert (result.succeeded, result.failed, result.skipped) == (1, 1, 1)
    assert times.ended == {"a": 105.0, "b": 110.0}
    assert result["a"].started_at == 100.0


async def _nothing() -> None:
    """A task in the event loop that does nothing."""


async def test_the_end_of_children_is_kept() -> None:
    """A node that folds its children's results is done when they are, and not before."""
    seen: list[str] = []

    async def expand(name: str, value: object) -> AsyncIterator[DynamicNodeSpec]:
        for number in range(3):
            yield DynamicNodeSpec(f"child {number}", _nothing)

    def add(total: int, name: str, value: object) -> int:
        seen.append(name)
        return total + 1

    policy = NodePolicy(keep=dagron.Fold(add, start=int))
    dag = DAG.builder().add_node("a", policy=policy).build()
    result, times = await finished(dag, {"a": _nothing}, expanders={"a": expand})
    assert (result.forgotten, len(seen)) == (3, 3)
    assert list(times.ended) == ["a"]


async def test_what_is_forgotten_is_forgotten_here_too() -> None:
    """Of nodes that are in no result, no attempt and no end is kept."""
    tries: list[int] = []

    async def flaky() -> None:
        tries.append(1)
        if len(tries) % 2:
            raise OSError

    def expand(name: str, value: object) -> DynamicModification:
        policy = NodePolicy(retry=Retry(attempts=2, initial_delay=0.0, jitter=0.0))
        spec = DynamicNodeSpec("child", flaky, ["a"], policy=policy, expander=lambda *_: None)
        return DynamicModification([spec])

    dag = DAG.builder().add_node("a").build()
    result, times = await finished(dag, {"a": nothing}, expanders={"a": expand}, keep="failures")
    assert (result.forgotten, len(tries)) == (2, 2)
    assert (times.attempts, times.ended) == ({}, {})


def test_a_result_with_its_times_can_be_pickled() -> None:
    """What is kept travels with the result, and its picture is the same afterwards."""
    dag = DAG.builder().add_node("a").build()
    result = DynamicExecutor(dag, expanders={"a": added("b")}).execute_sync({"a": nothing})
    back = pickle.loads(pickle.dumps(result))
    assert landed(back._times) == [(1, "a", 1, 0, False)]
    assert back.to_timeline_svg() == result.to_timeline_svg()
