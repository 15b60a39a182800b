"""How a run ends before its nodes have: at the first failure, and when its time is over."""

import threading
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from dagron import (
    DAG,
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    ExecutionResult,
    RunFailedError,
)
from ways import GUARD, Way, nothing, passes

A_MOMENT = 0.25  # seconds: a timeout for nodes that would wait for ever


def graph(*names: str, edges: str = "") -> DAG:
    builder = DAG.builder()
    for name in names:
        builder.add_node(name)
    for edge in edges.split():
        builder.add_edge(*edge.split(">"))
    return builder.build()


def statuses(result: ExecutionResult) -> dict[str, str]:
    return {name: str(result[name].status) for name in result}


async def burn() -> None:
    await passes(5)
    raise ValueError("burnt")


# --- on_failure --------------------------------------------------------------------------------


def test_the_first_failure_ends_the_run(execute: Way) -> None:
    """`on_failure="cancel"`: what is in flight is cancelled and tidies up, what depends on the
    failed node is skipped, nothing else starts, and the result is returned."""
    tidied: list[str] = []

    async def simmer() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            tidied.append("simmer")

    dag = graph("simmer", "burn", edges="burn>serve simmer>taste")
    tasks = {"simmer": simmer, "burn": burn, "serve": nothing, "taste": nothing}
    result = execute(DynamicExecutor(dag, on_failure="cancel"), tasks)
    assert statuses(result) == {
        "simmer": "CANCELLED",
        "burn": "FAILED",
        "serve": "SKIPPED",
        "taste": "CANCELLED",
    }
    assert tidied == ["simmer"]
    assert result["simmer"].reason == "the run was ended because 'burn' failed"
    assert result["taste"].reason == "the run was ended because 'burn' failed"
    assert result["serve"].reason == "skipped because 'burn' failed"
    assert (result["simmer"].attempts, result["taste"].attempts) == (1, 0)
    assert not result.ok
    with pytest.raises(RunFailedError, match="cut short: the run was ended because 'burn' failed"):
        result.raise_for_failures()


def test_other_nodes_go_on_by_default(execute: Way) -> None:
    """`on_failure="skip"`, the default: independent nodes finish after a failure."""

    async def slower() -> str:
        await passes(20)
        return "done"

    dag = graph("burn", "slower")
    for executor in (DynamicExecutor(dag), DynamicExecutor(dag, on_failure="skip")):
        result = execute(executor, {"burn": burn, "slower": slower})
        assert statuses(result) == {"burn": "FAILED", "slower": "COMPLETED"}


def test_ready_nodes_never_start_after_the_failure(execute: Way) -> None:
    """The failure of a node that held the only place starts none of those that waited for it."""
    ran: list[str] = []
    names = [f"n{i}" for i in range(50)]
    tasks: dict[str, Any] = {name: lambda name=name: ran.append(name) for name in names}

    def fail() -> None:
        raise ValueError

    for bounds in ({"max_concurrency": 1}, {"max_workers": 1}):
        executor = DynamicExecutor(graph("bad", *names), on_failure="cancel", **bounds)
        result = execute(executor, {"bad": fail, **tasks})
        assert ran == []
        assert (result.failed, result.cancelled) == (1, 50)


def test_a_thread_at_work_is_waited_for_and_counts(execute: Way) -> None:
    """A sync node cannot be stopped: the ended run waits for it, and it is COMPLETED."""
    entered, ended = threading.Event(), threading.Event()

    def knead() -> str:
        entered.set()
        assert ended.wait(GUARD)
        return "dough"

    async def fail() -> None:
        while not entered.is_set():
            await checkpoint()
        ended.set()
        raise ValueError

    dag = graph("knead", "fail", edges="knead>bake")
    tasks = {"knead": knead, "fail": fail, "bake": nothing}
    result = execute(DynamicExecutor(dag, on_failure="cancel"), tasks)
    assert statuses(result) == {"knead": "COMPLETED", "bake": "CANCELLED", "fail": "FAILED"}
    assert result["knead"].result == "dough"


def test_a_failing_expander_ends_the_run_too(execute: Way) -> None:
    """The node of an expander that fails, or whose modification is refused, is a failed node."""

    def unknown(name: str, result: object) -> DynamicModification:
        return DynamicModification([DynamicNodeSpec("new", nothing, ["nowhere"])])

    dag = graph("grow", "wait")
    executor = DynamicExecutor(dag, {"grow": unknown}, on_failure="cancel")
    result = execute(executor, {"grow": nothing, "wait": anyio.sleep_forever})
    assert statuses(result) == {"grow": "FAILED", "wait": "CANCELLED"}


def test_nodes_that_were_added_are_cancelled_too(execute: Way) -> None:
    """Nodes that an expander added end like the others, with who added them."""

    async def expand(name: str, result: object) -> DynamicModification:
        return DynamicModification(
            [
                DynamicNodeSpec("waits", anyio.sleep_forever, [name]),
                DynamicNodeSpec("burns", burn, [name]),
                DynamicNodeSpec("later", nothing, ["waits"]),
            ]
        )

    executor = DynamicExecutor(graph("grow"), {"grow": expand}, on_failure="cancel")
    result = execute(executor, {"grow": nothing})
    assert statuses(result) == {
        "grow": "COMPLETED",
        "waits": "CANCELLED",
        "burns": "FAILED",
        "later": "CANCELLED",
    }
    assert result["later"].added_by == "grow"


def test_two_failures_at_once(execute: Way) -> None:
    """Of two nodes that fail in the same moment, one ends the run, and the rest is cancelled."""

    async def fail() -> None:
        raise ValueError

    dag = graph("a", "b", "rest")
    result = execute(
        DynamicExecutor(dag, on_failure="cancel"),
        {"a": fail, "b": fail, "rest": anyio.sleep_forever},
    )
    assert result.failed + result.cancelled == 3
    assert result.failed >= 1
    assert "failed" in (result["rest"].reason or "")


async def test_the_callers_cancellation_still_raises() -> None:
    """A caller that is cancelled gets its cancellation, whatever `on_failure` and `timeout` say."""
    executor = DynamicExecutor(graph("node"), on_failure="cancel")
    with anyio.fail_after(GUARD), anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(passes, 5)
            scope.cancel()
            await executor.execute({"node": anyio.sleep_forever}, timeout=GUARD)
    assert scope.cancelled_caught


@pytest.mark.parametrize("value", ["stop", "", None, True])
def test_on_failure_is_one_of_two_words(value: Any) -> None:
    """Another value is a `ValueError` that names the parameter, the value, and the choice."""
    with pytest.raises(ValueError, match=r"on_failure is 'skip' or 'cancel', not .*\n  help: "):
        DynamicExecutor(graph("a"), on_failure=value)


# --- what is in flight when the run is ended -----------------------------------------------------

ENDINGS = pytest.mark.parametrize("ending", ["on_failure", "timeout"])


def run_until(ending: str, execute: Way, dag: DAG, expander: Any, tasks: dict[str, Any]) -> Any:
    """Run with a node 'end' that ends the run at once when the event is set, or let time do it."""
    if ending == "timeout":
        executor = DynamicExecutor(dag, {"grow": expander})
        return execute(executor, {**tasks, "end": nothing}, timeout=4 * A_MOMENT)
    return execute(DynamicExecutor(dag, {"grow": expander}, on_failure="cancel"), tasks)


@ENDINGS
def test_an_expander_in_a_thread_that_ends_after_the_run_was_ended(
    execute: Way, ending: str
) -> None:
    """A sync expander cannot be stopped: its modification lands, and its nodes are CANCELLED."""
    entered, cut = threading.Event(), threading.Event()

    def expand(name: str, result: object) -> DynamicModification:
        entered.set()
        assert cut.wait(GUARD)
        return DynamicModification([DynamicNodeSpec("new", nothing, [name], ["last"])])

    async def watch() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cut.set()

    async def end() -> None:
        while not entered.is_set():
            await checkpoint()
        raise ValueError

    dag = graph("grow", "watch", "end", edges="grow>last")
    tasks = {"grow": nothing, "watch": watch, "end": end, "last": nothing}
    result = run_until(ending, execute, dag, expand, tasks)
    found = statuses(result)
    assert found["grow"] == "COMPLETED"
    assert found["new"] == found["last"] == found["watch"] == "CANCELLED"
    assert result["new"].added_by == "grow"
    assert result["new"].reason == result["watch"].reason


@ENDINGS
def test_an_async_expander_that_shields_itself(execute: Way, ending: str) -> None:
    """An async expander that is not cancelled lands its modification; its nodes are CANCELLED."""
    begun = []

    async def expand(name: str, result: object) -> DynamicModification:
        begun.append(name)
        with anyio.CancelScope(shield=True):
            while not cut:
                await checkpoint()
        return DynamicModification([DynamicNodeSpec("new", nothing, [name])])

    cut: list[bool] = []

    async def watch() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cut.append(True)

    async def end() -> None:
        while not begun:
            await checkpoint()
        raise ValueError

    dag = graph("grow", "watch", "end")
    result = run_until(ending, execute, dag, expand, {"grow": nothing, "watch": watch, "end": end})
    assert statuses(result)["grow"] == "COMPLETED"
    assert statuses(result)["new"] == "CANCELLED"


def test_a_thread_that_never_began_was_never_attempted(execute: Way) -> None:
    """A sync node that is cancelled before its thread begins has no attempt and no start."""
    called: list[int] = []

    async def fail() -> None:
        raise ValueError

    names = [f"n{i}" for i in range(5)]
    executor = DynamicExecutor(graph("fail", *names), on_failure="cancel", max_workers=5)
    result = execute(executor, {"fail": fail, **dict.fromkeys(names, lambda: called.append(1))})
    began = [result[name] for name in names if result[name].attempts]
    assert len(began) == len(called)
    for node in (result[name] for name in names if not result[name].attempts):
        assert (node.started_at, node.duration_seconds) == (None, 0.0)
        assert node.status == "CANCELLED"


def test_a_failure_that_the_timeout_caused_does_not_end_the_run(execute: Way) -> None:
    """A node that fails because it was cancelled is FAILED; the rest names the timeout."""

    async def untidy() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise ValueError("untidy")

    dag = graph("untidy", "other", edges="untidy>after")
    tasks = {"untidy": untidy, "other": anyio.sleep_forever, "after": nothing}
    executor = DynamicExecutor(dag, on_failure="cancel")
    result = execute(executor, tasks, timeout=A_MOMENT)
    assert statuses(result) == {"untidy": "FAILED", "after": "CANCELLED", "other": "CANCELLED"}
    assert result["other"].reason == result["after"].reason
    assert "timeout of 0.25 s" in (result["other"].reason or "")


# --- timeout -----------------------------------------------------------------------------------


def test_a_timeout_ends_the_run_as_a_result(execute: Way) -> None:
    """`timeout=`: nodes in flight are cancelled and tidy up, the rest never starts, what was done
    stays done, and the result says so."""
    tidied: list[str] = []

    async def wait() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            tidied.append("wait")

    dag = graph("quick", "wait", edges="wait>after")
    tasks = {"quick": lambda: "done", "wait": wait, "after": nothing}
    result = execute(DynamicExecutor(dag), tasks, timeout=A_MOMENT)
    assert statuses(result) == {"quick": "COMPLETED", "wait": "CANCELLED", "after": "CANCELLED"}
    assert tidied == ["wait"]
    assert result["wait"].reason == "the run's timeout of 0.25 s was over"
    assert result["after"].reason == "the run's timeout of 0.25 s was over"
    assert not result.ok
    with pytest.raises(RunFailedError, match="2 cancelled of 3 nodes"):
        result.raise_for_failures()


def test_a_timeout_that_is_not_reached_changes_nothing(execute: Way) -> None:
    """A run that ends in time is a run like any other."""
    result = execute(DynamicExecutor(graph(edges="a>b")), {"a": nothing, "b": nothing}, timeout=60)
    assert result.ok


def test_a_timeout_waits_for_threads(execute: Way) -> None:
    """A thread that is at work when the time is over is waited for, and its work counts."""
    entered, ended = threading.Event(), threading.Event()

    def work() -> str:
        entered.set()
        assert ended.wait(GUARD)
        return "done"

    async def watch() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            assert entered.wait(GUARD)
            ended.set()

    dag = graph("work", "watch", edges="work>after")
    tasks = {"work": work, "watch": watch, "after": nothing}
    result = execute(DynamicExecutor(dag), tasks, timeout=4 * A_MOMENT)
    assert statuses(result) == {"work": "COMPLETED", "after": "CANCELLED", "watch": "CANCELLED"}


async def test_a_timeout_leaves_its_caller_uncancelled() -> None:
    """After a run that its timeout ended, the caller goes on and can run the next."""
    executor = DynamicExecutor(graph("node"))
    with anyio.fail_after(GUARD):
        result = await executor.execute({"node": anyio.sleep_forever}, timeout=A_MOMENT)
        assert result.cancelled == 1
        await passes(3)
        assert (await executor.execute({"node": nothing})).ok


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (True, TypeError),
        ("5", TypeError),
    ],
)
def test_a_timeout_is_a_number_of_seconds(execute: Way, value: Any, error: type) -> None:
    """E10: what is no number above 0 is refused before anything runs, with the value."""
    ran: list[int] = []
    with pytest.raises(error, match=r"timeout is .* seconds, not .*\n  help: "):
        execute(DynamicExecutor(graph("a")), {"a": lambda: ran.append(1)}, timeout=value)
    assert ran == []
