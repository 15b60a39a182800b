"""A registry of runs that outlive what started them: start, look up, list, wait, forget."""

import gc
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

import dagron
from clocks import VIRTUAL
from dagron import DynamicExecutor, RegisteredRun, RunRegistry
from faults import GUARD, Alive, Canary, graph, hold, new_objects_only, passes, until
from handles import Tidying, fail, noop, start
from test_faults_scheduler import break_method


@asynccontextmanager
async def registry(**options: Any) -> AsyncIterator[RunRegistry]:
    """The block of a registry, under a guard against hanging."""
    with anyio.fail_after(GUARD):
        async with RunRegistry(**options) as runs:
            yield runs


def one(task: Any, **options: Any) -> dagron.Run:
    """A run of one node."""
    return start(graph("a"), {"a": task}, **options)


# --- start and wait ------------------------------------------------------------------------------


async def test_a_run_goes_on_in_the_background() -> None:
    """`start` returns at once, with an id, before a node has begun; the run ends by itself, and
    `wait` returns its result, during the block and after it.
    """
    gate, begun = anyio.Event(), []

    async def work() -> str:
        begun.append(1)
        await gate.wait()
        return "done"

    async with registry() as runs:
        registered = runs.start(one(work))
        assert (registered.state, registered.result, begun) == ("running", None, [])
        assert runs[registered.id] is registered
        await until(lambda: begun)
        assert runs.running == (registered,)
        gate.set()
        result = await registered.wait()
        assert result["a"].result == "done"
        assert (registered.state, registered.result, runs.running) == ("succeeded", result, ())
    assert await registered.wait() is result
    assert registered.ended_at is not None
    assert registered.ended_at >= registered.started_at


async def test_a_run_outlives_the_task_that_started_it() -> None:
    """A handler that starts a run and is cancelled, or has ended, leaves the run alone."""
    gate = anyio.Event()
    started: list[RegisteredRun] = []

    async with registry() as runs:

        async def handle(stays: bool) -> None:
            started.append(runs.start(one(gate.wait)))
            if stays:
                await anyio.sleep_forever()

        async with anyio.create_task_group() as requests:
            requests.start_soon(handle, False)
            requests.start_soon(handle, True)
            await until(lambda: len(started) == 2)
            requests.cancel_scope.cancel()
        await passes(10)
        assert [run.state for run in started] == ["running", "running"]
        gate.set()
        assert all([(await run.wait()).ok for run in started])


async def test_fifty_runs_at_once() -> None:
    """Fifty runs run side by side, each with an id and a result of its own."""
    inside, everybody = Alive(), anyio.Event()

    async def meet(number: int) -> int:
        with inside:
            if inside.now == 50:
                everybody.set()
            await everybody.wait()
        return number

    async with registry() as runs:
        started = [runs.start(one(lambda n=n: meet(n)), data=n) for n in range(50)]
        assert list(runs) == [run.id for run in started]
        assert len(runs) == len({*runs}) == 50
        results = [await run.wait() for run in started]
        assert [result["a"].result for result in results] == [*range(50)]
        assert [run.data for run in runs.values()] == [*range(50)]
    assert inside.most == 50


async def test_what_the_executor_refuses_is_refused_before_the_registry_hears_of_it() -> None:
    """A misspelt task raises in the handler that starts the run, and nothing is registered."""
    async with registry() as runs:
        with pytest.raises(dagron.UnknownNodeError, match="did you mean 'a'"):
            runs.start(start(graph("a"), {"a": noop, "aa": noop}))
        assert len(runs) == 0


async def test_what_is_no_run_is_refused() -> None:
    """`start` of an executor is a TypeError that says what to write."""
    async with registry() as runs:
        with pytest.raises(TypeError, match=r"not DynamicExecutor.*\n  help: write runs.start\(ex"):
            runs.start(DynamicExecutor(graph("a")))  # type: ignore[arg-type]


async def test_a_run_is_started_once() -> None:
    """A run that was started here, at once or later, or entered elsewhere, is refused."""
    async with registry() as runs, RunRegistry() as others:
        run = one(noop)
        registered = runs.start(run)
        for target in (runs, runs, others):
            if target is others:
                await registered.wait()
            with pytest.raises(RuntimeError, match=r"started once\n  help: call executor.start"):
                target.start(run)
        async with one(noop) as entered:
            with pytest.raises(RuntimeError, match="started once"):
                runs.start(entered)
        assert (await registered.wait()).ok
        assert len(others) == 0


async def test_a_registry_has_one_run_of_each_id(tmp_path: Path) -> None:
    """A second run of an id, which is that of a journal's, is refused while there is the first, and
    told what to do: wait, or forget it; after that it goes on.
    """
    gate = anyio.Event()
    with dagron.Journal(tmp_path / "runs.db") as journal:
        async with registry() as runs:
            executor = DynamicExecutor(graph("a"), journal=journal)
            first = runs.start(executor.start({"a": gate.wait}, run_id="job"))
            with pytest.raises(
                RuntimeError,
                match=r"'job' has not ended.*\n  help: .* await runs\['job'\].wait\(\)",
            ):
                runs.start(executor.start({"a": noop}, run_id="job"))
            first.cancel("later")
            await first.wait()
            with pytest.raises(RuntimeError, match=r"kept.*\n  help: call runs.forget\('job'\)"):
                runs.start(executor.start({"a": noop}, run_id="job"))
            assert runs["job"] is first
            runs.forget("job")
            assert (await runs.start(executor.start({"a": noop}, run_id="job")).wait()).ok


async def test_a_run_is_started_in_the_event_loop() -> None:
    """A start in a worker thread, as of a handler that is a plain `def`, says what to change."""
    async with registry() as runs:
        with pytest.raises(RuntimeError, match="help: make the handler that starts it an async"):
            await anyio.to_thread.run_sync(lambda: runs.start(one(noop)))
        assert len(runs) == 0


async def test_the_tasks_of_a_run_see_the_context_of_its_start() -> None:
    """Context variables are those of the call of `start`, for every run its own."""
    request = ContextVar("request", default="none")
    seen: dict[str, str] = {}

    async def work(name: str) -> None:
        seen[name] = request.get()

    async with registry() as runs:
        for name in ("first", "second"):
            request.set(name)
            runs.start(one(lambda name=name: work(name)))
        request.set("none")
    assert seen == {"first": "first", "second": "second"}


async def test_a_node_may_start_a_run_that_is_no_part_of_its_own() -> None:
    """A node that starts a run in a registry does not wait for it: it may outlive the node, share
    the node's limits, and wait for the node's run.
    """
    limits = dagron.Limits(service=1)
    policy = dagron.NodePolicy(group="service")
    dag = dagron.DAG.builder().add_node("a", policy=policy).build()
    ended: list[str] = []

    async def inner() -> None:
        await outer.wait()
        ended.append("inner")

    async with registry() as runs:

        async def spawn() -> str:
            later = runs.start(start(dag, {"a": inner}, limits=limits))
            ended.append("node")
            return later.id

        outer = runs.start(start(dag, {"a": spawn}, limits=limits))
        result = await outer.wait()
        assert (await runs[result["a"].result].wait()).ok
    assert ended == ["node", "inner"]


async def test_a_node_cannot_wait_for_its_own_registered_run() -> None:
    """`wait` in a node of this very run is a RuntimeError, not a hang."""
    registered: list[RegisteredRun] = []

    async def wait() -> None:
        await registered[0].wait()

    async with registry() as runs:
        registered.append(runs.start(one(wait)))
        result = await registered[0].wait()
    assert "cannot wait for the run that it is part of" in str(result["a"].error)


async def test_a_waiter_that_leaves_changes_nothing() -> None:
    """A `wait` that is cancelled, as by a client that disconnects, leaves run and waiters alone."""
    gate, results = anyio.Event(), []
    async with registry() as runs:
        registered = runs.start(one(gate.wait))

        async def waiter() -> None:
            results.append(await registered.wait())

        async with anyio.create_task_group() as others:
            others.start_soon(waiter)
            with anyio.CancelScope() as scope:
                scope.cancel()
                await registered.wait()
            await passes(5)
            gate.set()
    assert results == [registered.result]
    assert registered.state == "succeeded"


# --- how a run ends ------------------------------------------------------------------------------


async def test_states_and_what_a_client_is_told() -> None:
    """The state is in one word, and `as_dict` has counts, reasons and failures, ready for JSON."""
    import json

    gate = anyio.Event()
    dag = graph("held", edges="bad-lost")
    async with registry() as runs:
        good = runs.start(one(noop))
        bad = runs.start(start(dag, {"held": gate.wait, "bad": fail, "lost": noop}))
        late = runs.start(DynamicExecutor(graph("a")).start({"a": gate.wait}, timeout=0.01))
        stopped = runs.start(one(gate.wait))
        await until(lambda: bad.as_dict()["nodes"]["failed"])
        told = bad.as_dict()
        assert (told["state"], told["ended_at"], told["failures"]) == ("running", None, {})
        assert (told["nodes"]["total"], told["nodes"]["running"]) == (3, 1)
        stopped.cancel("by its owner")
        await late.wait()
        await stopped.wait()
        gate.set()
        await bad.wait()
    states = [run.state for run in (good, bad, late, stopped)]
    assert states == ["succeeded", "failed", "cancelled", "cancelled"]
    assert bad.as_dict()["failures"] == {"bad": "ValueError: wrong"}
    assert "timeout" in late.as_dict()["reason"]
    assert stopped.as_dict()["reason"] == "the run was cancelled: by its owner"
    for run in runs.values():
        told = json.loads(json.dumps(run.as_dict()))
        assert told["id"] == run.id
        assert told["error"] is None
        counts = told["nodes"]
        assert counts.pop("total") == sum(counts.values())


async def test_forgotten_nodes_are_counted() -> None:
    """The counts of `as_dict` have the nodes that `keep=` forgets."""
    dag = graph(edges="a-b b-c")
    async with registry() as runs:
        run = runs.start(start(dag, dict.fromkeys("abc", noop), keep="failures"))
        await run.wait()
    assert run.as_dict()["nodes"]["completed"] == 3


async def test_many_failures_stay_short() -> None:
    """`as_dict` has the first ten failures of a thousand, and the count of all."""
    names = [f"n{number}" for number in range(1_000)]
    async with registry() as runs:
        run = runs.start(start(graph(*names), dict.fromkeys(names, fail)))
        await run.wait()
    told = run.as_dict()
    assert (len(told["failures"]), told["nodes"]["failed"]) == (10, 1_000)


async def test_cancel_while_starting() -> None:
    """A run that is cancelled in the same step as it is started ends with that reason, and none of
    its nodes begins; a second cancellation changes nothing.
    """
    called: list[int] = []
    async with registry() as runs:
        for count in range(12):
            run = runs.start(one(lambda: called.append(1)))
            await passes(0)
            run.cancel("first")
            run.cancel("second")
            result = await run.wait()
            assert (result.reason, run.state) == ("the run was cancelled: first", "cancelled")
            assert result["a"].started_at is None, count
    assert called == []


async def test_cancel_at_every_pass() -> None:
    """A run that is cancelled after any number of passes ends, with a result, and leaves nothing;
    also from a thread.
    """
    for count in range(20):
        task = Tidying()
        async with registry() as runs:
            run = runs.start(one(task))
            await passes(count)
            if count % 2:
                await anyio.to_thread.run_sync(run.cancel)
            else:
                run.cancel()
            assert (await run.wait()).reason == "the run was cancelled"
            task.assert_all_ended()


async def test_a_run_that_crashes_is_the_end_of_this_run_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An `InternalError` ends its own run at once, is logged, and raised by `wait`; the others and
    the block go on.
    """
    gate, tidy = anyio.Event(), Tidying()
    async with registry() as runs:
        other = runs.start(one(gate.wait))
        await passes(10)
        with monkeypatch.context() as patch:
            break_method(patch, "succeed", 0)
            broken = runs.start(start(graph("a", "b"), {"a": tidy.has_begun, "b": tidy}))
            with pytest.raises(dagron.InternalError):
                await broken.wait()
        tidy.assert_all_ended()
        assert (broken.state, broken.result) == ("failed", None)
        assert broken.as_dict()["error"].startswith("InternalError: ")
        assert [record.run_id for record in caplog.records] == [broken.id]
        assert other.state == "running"
        gate.set()
        assert (await other.wait()).ok


async def test_limits_of_another_loop_fail_the_run_alone() -> None:
    """What `execute` would raise when a run begins is the error of that run."""
    limits = dagron.Limits(service=1)
    limits.attach(object(), frozenset())
    policy = dagron.NodePolicy(group="service")
    dag = dagron.DAG.builder().add_node("a", policy=policy).build()
    async with registry() as runs:
        run = runs.start(start(dag, {"a": noop}, limits=limits))
        with pytest.raises(dagron.LimitsInUseError):
            await run.wait()
    assert run.state == "failed"


async def test_a_keyboard_interrupt_of_a_node_ends_everything() -> None:
    """A node's KeyboardInterrupt cancels all runs and the block, and comes out of it bare."""

    async def interrupt() -> None:
        raise KeyboardInterrupt

    tidy = Tidying()
    with pytest.raises(KeyboardInterrupt):
        async with registry() as runs:
            other = runs.start(one(tidy))
            await tidy.has_begun()
            run = runs.start(one(interrupt))
            await anyio.sleep_forever()
    tidy.assert_all_ended()
    assert (other.state, run.state) == ("cancelled", "failed")
    with pytest.raises(KeyboardInterrupt):
        await run.wait()


# --- looking up ----------------------------------------------------------------------------------


async def test_an_unknown_id() -> None:
    """An id that is not known is an `UnknownRunError`, a KeyError, that says what is kept."""
    async with registry(keep=5, keep_for=60) as runs:
        with pytest.raises(dagron.UnknownRunError) as caught:
            runs["nope"]
        assert isinstance(caught.value, KeyError)
        assert (caught.value.id, caught.value.was_forgotten) == ("nope", False)
        assert str(caught.value) == (
            "run 'nope' is not known here\n"
            "  help: the last 5 that have ended are kept, for 60 s: answer with status 404"
        )
        assert runs.get("nope") is None
        assert "nope" not in runs
        assert [] not in runs.values()


async def test_a_registry_is_a_mapping_with_an_identity() -> None:
    """It is a mapping of ids, in the order of starts, and hashable: two are never equal."""
    async with registry() as runs, RunRegistry() as others:
        assert runs != others
        assert len({runs, others}) == 2
        gate = anyio.Event()
        first, second = runs.start(one(gate.wait)), runs.start(one(noop))
        await second.wait()
        assert dict(runs) == {first.id: first, second.id: second}
        assert repr(runs) == "<RunRegistry, open: 1 running, 1 ended and kept>"
        assert repr(first) == f"<RegisteredRun {first.id}: running>"
        for id in runs:
            if runs[id].state != "running":
                runs.forget(id)
        runs.close_soon()
        assert repr(runs) == "<RunRegistry, closing: 1 running, 0 ended and kept>"
        gate.set()
    assert repr(runs) == "<RunRegistry, closed: 0 running, 1 ended and kept>"


# --- forgetting ----------------------------------------------------------------------------------


@VIRTUAL
async def test_a_run_is_forgotten_in_time() -> None:
    """A run is forgotten so many seconds after its end, not its start, even if nobody looks; then
    its id is refused as forgotten, and who holds it can go on reading it.
    """

    async def work() -> str:
        await anyio.sleep(100)
        return "done"

    async with RunRegistry(keep_for=10) as runs:
        run = runs.start(one(work))
        await anyio.sleep(105)
        assert runs[run.id].state == "succeeded"
        await anyio.sleep(4)
        assert run.id in runs
        await anyio.sleep(2)
        assert len(runs) == 0
        with pytest.raises(dagron.UnknownRunError, match=r"was forgotten here\n.*410") as caught:
            runs[run.id]
        assert caught.value.was_forgotten
        assert (await run.wait())["a"].result == "done"


@VIRTUAL
async def test_without_a_bound_runs_are_kept_for_ever() -> None:
    """With `keep_for=None` time forgets nothing."""
    async with RunRegistry(keep_for=None) as runs:
        run = runs.start(one(noop))
        await anyio.sleep(80_000)
        assert runs[run.id] is run
        with pytest.raises(dagron.UnknownRunError, match="last 1,000 that have ended are kept: "):
            runs["x"]


@VIRTUAL
async def test_each_run_has_its_own_time() -> None:
    """Runs that end at different seconds are forgotten at different seconds, one by one."""
    left: list[int] = []

    async def work(seconds: float) -> None:
        await anyio.sleep(seconds)

    async with RunRegistry(keep_for=10) as runs:
        for seconds in (2.5, 0.5, 1.5):
            runs.start(one(partial(work, seconds)))
        for _ in range(14):
            await anyio.sleep(1)
            left.append(len(runs))
    assert left == [3] * 10 + [2, 1, 0, 0]


async def test_only_so_many_ended_runs_are_kept() -> None:
    """Of the runs that have ended the last ones are kept, in the order of their ends; those that
    run are not counted.
    """
    gate = anyio.Event()
    async with registry(keep=3) as runs:
        first = runs.start(one(gate.wait))
        others = []
        for _ in range(5):
            others.append(runs.start(one(noop)))
            await others[-1].wait()
        await until(lambda: len(runs) == 4)
        assert [*runs] == [first.id, *(run.id for run in others[2:])]
        gate.set()
        await first.wait()
        await until(lambda: len(runs) == 3)
        assert [*runs] == [first.id, *(run.id for run in others[3:])]


async def test_nothing_is_kept_with_keep_0() -> None:
    """With `keep=0` a run is forgotten when it ends; who holds it has its result."""
    async with registry(keep=0) as runs:
        run = runs.start(one(noop))
        assert run.id in runs
        assert (await run.wait()).ok
        await until(lambda: not runs)


async def test_a_forgotten_run_leaves_no_memory() -> None:
    """What a run's nodes returned is free when the run is forgotten; its id alone is remembered."""

    async def work() -> Canary:
        return Canary()

    with new_objects_only() as alive:
        async with registry() as runs:
            ids = [runs.start(one(work)).id for _ in range(3)]
            await until(lambda: not runs.running)
            await passes(5)
            assert len(alive(6)) == 6
            for id in ids:
                runs.forget(id)
            assert alive() == []
            for id in ids:
                with pytest.raises(dagron.UnknownRunError, match="was forgotten"):
                    runs.forget(id)


async def test_a_run_that_goes_on_cannot_be_forgotten() -> None:
    """To forget a run that has not ended is a RuntimeError that says what to do first."""
    gate = anyio.Event()
    async with registry() as runs:
        run = runs.start(one(gate.wait))
        with pytest.raises(RuntimeError, match=r"has not ended.*\n  help: call runs\[id\].cancel"):
            runs.forget(run.id)
        assert run.id in runs
        gate.set()


async def test_only_so_many_forgotten_ids_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ids of the last forgotten runs are told from unknown ones; the memory is bounded."""
    monkeypatch.setattr("dagron._registry.REMEMBERED", 2)
    async with registry() as runs:
        ids = []
        for _ in range(3):
            run = runs.start(one(noop))
            await run.wait()
            runs.forget(run.id)
            ids.append(run.id)
        told = []
        for id in ids:
            with pytest.raises(dagron.UnknownRunError) as caught:
                runs[id]
            told.append(caught.value.was_forgotten)
        assert told == [False, True, True]


# --- refusing ------------------------------------------------------------------------------------


async def test_a_full_registry_refuses() -> None:
    """With `max_running` unfinished runs a start is a `RegistryFullError`; the next end makes room,
    and ended runs do not count.
    """
    gates = [anyio.Event() for _ in range(2)]
    async with registry(max_running=2) as runs:
        first, second = (runs.start(one(gate.wait)) for gate in gates)
        refused = one(noop)
        with pytest.raises(dagron.RegistryFullError, match=r"2 runs.*\n.*503") as caught:
            runs.start(refused)
        assert caught.value.max_running == 2
        assert [*runs] == [first.id, second.id]
        gates[0].set()
        await first.wait()
        assert (await runs.start(refused).wait()).ok
        assert (await runs.start(one(noop)).wait()).ok
        gates[1].set()


async def test_a_registry_that_is_not_open_refuses() -> None:
    """Before its block, while that is left, and after it, a start is a `RegistryClosedError`."""
    gate = anyio.Event()
    runs = RunRegistry()
    assert repr(runs) == "<RunRegistry, not open yet: 0 running, 0 ended and kept>"
    with pytest.raises(dagron.RegistryClosedError, match="not open yet\n  help: write async with"):
        runs.start(one(noop))
    refused: list[bool] = []

    async def start_while_closing() -> None:
        await until(lambda: runs.is_closing)
        with pytest.raises(dagron.RegistryClosedError, match="503"):
            runs.start(one(noop))
        refused.append(True)
        gate.set()

    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as others:
            async with runs:
                run = runs.start(one(gate.wait))
                others.start_soon(start_while_closing)
    assert refused == [True]
    assert (await run.wait()).ok
    with pytest.raises(dagron.RegistryClosedError):
        runs.start(one(noop))
    assert [*runs] == [run.id]


async def test_a_registry_is_entered_once() -> None:
    """To enter a second time is a RuntimeError."""
    async with registry() as runs:
        with pytest.raises(RuntimeError, match="entered once"):
            await runs.__aenter__()


@pytest.mark.parametrize(
    "option", ["max_running", "keep", "keep_for", "grace", "thread_grace"], ids=str
)
def test_options_are_checked(option: str) -> None:
    """A wrong option is refused with its name and its value."""
    for value, kind in ((-1, ValueError), ("x", TypeError), (True, TypeError)):
        with pytest.raises(kind, match=f"{option} is .*\n  help: "):
            RunRegistry(**{option: value})


async def test_an_unused_registry_leaves_nothing() -> None:
    """A registry that is never entered, or has no runs, warns of nothing and waits for nothing."""
    RunRegistry()
    gc.collect()
    async with registry(grace=None, thread_grace=None):
        pass


async def test_threads_of_many_runs_end_with_them() -> None:
    """Sync nodes of registered runs use threads, which end before the block does."""
    alive, gate = Alive(), threading.Event()

    def work() -> None:
        with alive:
            if alive.now == 4:
                gate.set()
            hold(gate)

    async with registry() as runs:
        for _ in range(4):
            runs.start(one(work))
    assert (alive.now, alive.most) == (0, 4)
    assert {run.state for run in runs.values()} == {"succeeded"}
