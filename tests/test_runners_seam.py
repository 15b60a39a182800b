"""Between a run and its runners: what is checked, entered, admitted, and kept elsewhere."""

import gc
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

import dagron
from controls import graph, statuses
from dagron import (
    DynamicExecutor,
    NodePolicy,
    NodeStatus,
    NodeTimeoutError,
    Place,
    Retry,
    RunnerLostError,
    UnknownRunnerError,
    WorkerLostError,
)
from dagron._node_result import NodeResult, lost, replaced
from dagron._raised import forget_all_frames
from dagron._runner import Call, Lost, Result
from ways import GUARD, passes


class Here:
    """A runner that makes each call in the event loop, and notes what it was given."""

    def __init__(self, slots: Any = None) -> None:
        self.slots = slots
        self.calls: list[Call] = []
        self.entered = self.left = 0
        self.inside = self.most = 0

    async def __aenter__(self) -> "Here":
        self.entered += 1
        return self

    async def __aexit__(self, *error: object) -> None:
        self.left += 1

    async def run(self, call: Call) -> Any:
        self.calls.append(call)
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            value = call.function(*call.arguments, **call.keywords)
            return await value if hasattr(value, "__await__") else value
        finally:
            self.inside -= 1


class Kept(Result):
    def __init__(self, runner: Any, value: Any) -> None:
        super().__init__(runner)
        self.value = value


class Keeping(Here):
    """A runner that keeps its results."""

    def __init__(self, fetch: Callable[[Any], Any] = lambda value: value) -> None:
        super().__init__()
        self.fetched: list[list[Any]] = []
        self._fetch = fetch

    async def run(self, call: Call) -> Any:
        self.calls.append(call)
        values = [a.value if isinstance(a, Kept) else a for a in call.arguments]
        return Kept(self, call.function(*values))

    async def fetch(self, results: Sequence[Result]) -> Sequence[Any]:
        self.fetched.append([result.value for result in results])  # type: ignore[attr-defined]
        return [self._fetch(value) for value in self.fetched[-1]]


def one() -> int:
    return 1


async def ran(on: Any, tasks: dict[str, Any], edges: str = "", /, **options: Any) -> Any:
    executor = DynamicExecutor(
        graph(edges, **dict.fromkeys(tasks)), runners={"there": on}, runner="there", **options
    )
    with anyio.fail_after(GUARD):
        return await executor.execute(tasks)


# --- what is checked ---------------------------------------------------------------------------


def test_an_unknown_runner_is_refused_at_once() -> None:
    """A policy, or the default, that names no runner is an error with a close name."""
    dag = graph("", a=NodePolicy(runner="ther"))
    with pytest.raises(UnknownRunnerError, match="did you mean 'there'") as caught:
        DynamicExecutor(dag, runners={"there": Here()})
    assert (caught.value.runner, caught.value.close) == ("ther", ("there",))
    with pytest.raises(UnknownRunnerError, match="the executor's policy is to run on 'there'"):
        DynamicExecutor(graph("", a=None), runner="there")


@pytest.mark.parametrize(
    ("runners", "error", "words"),
    [
        ([Here()], TypeError, "runners is a dict"),
        ({"local": Here()}, ValueError, "give the runner another name"),
        ({"there": Here}, TypeError, "is no runner"),
        ({"there": "tcp://x"}, TypeError, "is no runner"),
        ({"": Here()}, ValueError, "runner"),
    ],
)
def test_wrong_runners_are_refused(runners: Any, error: type[Exception], words: str) -> None:
    """What is no runner, or takes the name of this process, is refused where it is written."""
    with pytest.raises(error, match=words):
        DynamicExecutor(graph("", a=None), runners=runners)


def test_the_default_is_said_once() -> None:
    """`runner=` and the runner of `policy=` must not contradict each other."""
    dag, runners = graph("", a=None), {"one": Here(), "two": Here()}
    policy = NodePolicy(runner="one", timeout=5)
    with pytest.raises(ValueError, match="say it in one of the two places"):
        DynamicExecutor(dag, runners=runners, policy=policy, runner="two")
    DynamicExecutor(dag, runners=runners, policy=policy, runner="one")


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"runner": 5}, TypeError),
        ({"runner": ""}, ValueError),
        ({"resources": ["GPU"]}, TypeError),
        ({"resources": {"GPU": -1}}, ValueError),
        ({"resources": {"GPU": "one"}}, TypeError),
    ],
)
def test_a_policy_refuses_what_cannot_be(fields: Any, error: type[Exception]) -> None:
    """The runner is a name, resources are amounts from zero on."""
    with pytest.raises(error, match=next(iter(fields))):
        NodePolicy(**fields)


def test_runner_and_resources_are_parts_of_a_policy() -> None:
    """They are refined field by field, compared, hashed, shown and pickled like the others."""
    default = NodePolicy(runner="big", resources={"GPU": 1}, timeout=3)
    own = NodePolicy(timeout=5).over(default)
    assert (own.runner, own.resources, own.timeout) == ("big", {"GPU": 1}, 5)
    assert NodePolicy(runner="local").over(default).runner == "local"
    assert NodePolicy(runner="a") != NodePolicy(runner="b")
    assert repr(NodePolicy(runner="a")) == "NodePolicy(runner='a')"
    assert pickle.loads(pickle.dumps(default)) == default
    assert len({default, NodePolicy(resources={"GPU": 1}, runner="big", timeout=3)}) == 1
    given = {"GPU": 1}
    copied = NodePolicy(resources=given)
    given["GPU"] = 2
    assert copied.resources == {"GPU": 1}


async def test_slots_are_checked() -> None:
    """A runner that says nonsense about its slots is refused when the run begins."""
    with pytest.raises(ValueError, match="slots is at least 1"):
        await ran(Here(slots=0), {"a": one})


# --- calls ---------------------------------------------------------------------------------------


async def test_a_call_has_all_that_a_runner_may_use() -> None:
    """Function, arguments, a key of its own for every attempt, and what the policy says."""
    on, failures = Here(), [OSError(), OSError()]

    def flaky(a: int, *, b: int) -> int:
        if failures:
            raise failures.pop()
        return a + b

    policy = NodePolicy(
        retry=Retry(attempts=3, initial_delay=0), timeout=GUARD, priority=2, resources={"GPU": 1}
    )
    dag = graph("a>c b>c", a=None, b=None, c=policy)
    executor = DynamicExecutor(dag, runners={"there": on}, runner="there")
    async with executor.start({"a": one, "b": lambda: 2, "c": flaky}) as run:
        pass
    result = await run.wait()
    assert result["c"].result == 3
    calls = on.calls[2:]
    assert [call.key for call in calls] == [f"{run.id}/c/{attempt}" for attempt in (1, 2, 3)]
    call = calls[0]
    assert (call.function, call.arguments, call.keywords) == (flaky, (1,), {"b": 2})
    assert (call.priority, call.timeout, call.resources) == (2, GUARD, {"GPU": 1})
    assert result["c"].place == Place("there", None)
    assert str(result["c"].place) == "there"
    assert str(Place("there", "w1")) == "there (w1)"


async def test_a_runner_is_entered_and_left_once_per_run() -> None:
    """Before the first node and after the last, also where no node of the run needs it."""
    on, idle = Here(), Here()
    dag = graph("a>b", a=NodePolicy(runner="there"), b=None)
    executor = DynamicExecutor(dag, runners={"there": on, "idle": idle})
    assert (await executor.execute({"a": one, "b": lambda: on.left})).node_results["b"].result == 0
    assert (on.entered, on.left, idle.entered, idle.left) == (1, 1, 1, 1)


async def test_never_more_calls_than_slots() -> None:
    """Of ten ready nodes two are called at once, and the others wait READY in the run."""
    on, gate = Here(slots=2), anyio.Event()
    dag = graph("", **{f"n{n}": None for n in range(10)})
    executor = DynamicExecutor(dag, runners={"there": on}, runner="there")
    with anyio.fail_after(GUARD):
        async with executor.start(dict.fromkeys(dag, gate.wait)) as run:
            await passes()
            assert len(on.calls) == 2
            found = [run.status(name) for name in dag]
            assert found.count(NodeStatus.RUNNING) == 2
            assert found.count(NodeStatus.READY) == 8
            assert "waits for a slot of 'there', which has 2" in str(run.explain("n9"))
            gate.set()
    assert on.most == 2


async def test_slots_are_those_of_the_runner_and_not_of_a_run() -> None:
    """Two runs, of two executors, that share a runner of one slot make one call at a time."""
    on = Here(slots=1)

    async def task() -> None:
        await passes(3)

    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(ran, on, dict.fromkeys("abc", task))
    assert len(on.calls) == 6
    assert on.most == 1


async def test_an_expander_needs_no_slot_of_the_runner() -> None:
    """While a node's expander waits for its own children, they have the runner's one slot."""
    on, done = Here(slots=1), anyio.Event()

    async def expand(name: str, result: int) -> Any:
        yield dagron.DynamicNodeSpec("child", done.set)
        await done.wait()

    executor = DynamicExecutor(
        graph("", a=None), {"a": expand}, runners={"there": on}, runner="there"
    )
    with anyio.fail_after(GUARD):
        result = await executor.execute({"a": one})
    assert statuses(result) == {"a": "COMPLETED", "child": "COMPLETED"}


class Stubborn(Here):
    """Its bodies outlive their nodes, until `ended` is called."""

    async def run(self, call: Call) -> Any:
        try:
            return await super().run(call)
        except BaseException:
            self.ended = call.line.outlive()
            raise


async def test_a_body_that_outlives_its_node_keeps_its_slot() -> None:
    """The slot is free when the runner says so, and not when the node was cancelled."""
    on = Stubborn(slots=1)
    executor = DynamicExecutor(graph("", a=None, b=None), runners={"there": on}, runner="there")
    with anyio.fail_after(GUARD):
        async with executor.start({"a": anyio.sleep_forever, "b": lambda: None}) as run:
            await passes()
            run.cancel_node("a")
            await passes()
            assert run.status("a") is NodeStatus.CANCELLED
            assert run.status("b") is NodeStatus.READY
            on.ended()
            on.ended()  # once is enough
        result = await run.wait()
    assert statuses(result) == {"a": "CANCELLED", "b": "COMPLETED"}


async def test_no_time_counts_while_a_call_is_in_line() -> None:
    """The timeout begins when the runner tells that the body was placed."""

    class Slow(Here):
        async def run(self, call: Call) -> Any:
            call.line.queued()
            await anyio.sleep(0.2)
            call.line.placed("worker")
            return await super().run(call)

    policy = NodePolicy(timeout=0.1)
    result = await ran(Slow(), {"a": one, "b": anyio.sleep_forever}, policy=policy)
    assert statuses(result) == {"a": "COMPLETED", "b": "FAILED"}
    assert isinstance(result["b"].error, dagron.NodeTimeoutError)
    assert result["a"].place == ("there", "worker")


@dataclass
class Equal(Here):
    """A runner that has no hash, and is equal to others of its class."""

    slots: Any = 1

    def __post_init__(self) -> None:
        super().__init__(self.slots)


class Bare:
    """A runner of which there are no weak references."""

    __slots__ = ("calls", "entered", "inside", "left", "most", "slots")
    __init__ = Here.__init__
    __aenter__, __aexit__, run = Here.__aenter__, Here.__aexit__, Here.run


@pytest.mark.parametrize("kind", [Equal, Bare])
async def test_a_runner_may_be_any_object(kind: Any) -> None:
    """It needs no hash and no weak references; its slots are its own, also beside its equal."""
    on, gate = kind(1), anyio.Event()
    tasks = dict.fromkeys("ab", gate.wait)
    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as group:
            group.start_soon(ran, on, tasks)
            group.start_soon(ran, on, tasks)
            group.start_soon(ran, other := kind(1), tasks)
            await passes()
            assert (len(on.calls), len(other.calls)) == (1, 1)
            gate.set()
    assert (len(on.calls), on.most) == (4, 1)


async def test_a_body_that_outlives_its_run_keeps_its_slot() -> None:
    """The next run on that runner waits until the body has ended."""
    on = Stubborn(slots=1)
    await ran(on, {"a": anyio.sleep_forever}, policy=NodePolicy(timeout=0.01))
    gc.collect()
    async with anyio.create_task_group() as group:
        group.start_soon(ran, on, {"b": one})
        await passes()
        assert len(on.calls) == 1
        on.ended()
    assert len(on.calls) == 2


# --- runners that are not what they should be ----------------------------------------------------


async def test_a_coroutine_that_a_runner_returns_fails_its_node() -> None:
    """The node is FAILED with an error that names the runner, for nobody has done its work."""

    class Hasty(Here):
        async def run(self, call: Call) -> Any:
            return call.function()

    async def work() -> None:
        raise AssertionError("nobody awaits this")

    error = (await ran(Hasty(), {"a": work}))["a"].error
    assert isinstance(error, dagron.NotAwaitedError)
    assert "the runner 'there' returned the coroutine 'work' of node 'a'" in str(error)


async def test_a_runner_whose_run_is_no_coroutine_fails_its_node() -> None:
    """The error names the runner and says what to type; what returns an awaitable is fine."""

    class Plain(Here):
        def run(self, call: Call) -> Any:  # type: ignore[override]
            return call.function()

    class Wrapped(Here):
        def run(self, call: Call) -> Any:  # type: ignore[override]
            return super().run(call)

    error = (await ran(Plain(), {"a": one}))["a"].error
    assert isinstance(error, dagron.RunnerError)
    assert error.node == "a"
    assert "run() of the runner 'there' returned int" in str(error)
    assert "async def run" in str(error)
    assert (await ran(Wrapped(), {"a": one}))["a"].result == 1


async def test_a_runner_that_cannot_be_left_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The result counts, whatever __aexit__ raises or returns."""

    class Stuck(Here):
        async def __aexit__(self, *error: object) -> None:
            raise OSError("the door is stuck")

    class Greedy(Here):
        async def __aexit__(self, *error: object) -> bool:  # type: ignore[override]
            return True

    assert (await ran(Stuck(), {"a": one}))["a"].result == 1
    (record,) = caplog.records
    assert "the runner 'there' could not be left: OSError: the door is stuck" in record.message
    assert (await ran(Greedy(), {"a": one}))["a"].result == 1


# --- runners that are lost -----------------------------------------------------------------------


async def test_a_lost_runner_ends_the_run() -> None:
    """RunnerLostError is raised, once all nodes have ended, with the runner's name; no retry."""

    class Gone(Here):
        async def run(self, call: Call) -> Any:
            self.calls.append(call)
            await passes()
            raise RunnerLostError("the cluster is gone")

    on, ended, events = Gone(), [], []

    async def here() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    dag = graph("a>c", a=NodePolicy(runner="there", retry=Retry()), b=None, c=None)
    executor = DynamicExecutor(dag, runners={"there": on}, observers=[events.append])
    with anyio.fail_after(GUARD), pytest.raises(RunnerLostError, match="is gone") as caught:
        await executor.execute({"a": one, "b": here, "c": one})
    assert caught.value.runner == "there"
    assert ended == [True]
    assert len(on.calls) == on.left == 1
    assert events[-1].reason == "the cluster is gone"
    assert {e.kind for e in events} & {"node_failed", "node_retrying"} == set()


async def test_a_runner_that_cannot_be_entered_ends_the_run_before_it_begins() -> None:
    """Its error is raised, and what was entered before it is left."""

    class Closed(Here):
        async def __aenter__(self) -> "Here":
            raise RunnerLostError("nobody is there")

    first, ran_tasks = Here(), []
    executor = DynamicExecutor(graph("", a=None), runners={"first": first, "second": Closed()})
    with pytest.raises(RunnerLostError) as caught:
        await executor.execute({"a": lambda: ran_tasks.append(1)})
    assert caught.value.runner == "second"
    assert (first.left, ran_tasks) == (1, [])


# --- results that are kept elsewhere ------------------------------------------------------------


async def test_results_are_passed_as_they_are_kept() -> None:
    """A node there gets the runner's own result; what is left is fetched at the end, at once."""
    on = Keeping()
    result = await ran(on, {"a": one, "b": lambda a: a + 1, "c": lambda b: b + 1}, "a>b b>c")
    assert [type(call.arguments[0]) for call in on.calls[1:]] == [Kept, Kept]
    assert on.fetched == [[1, 2, 3]]
    assert [result[name].result for name in "abc"] == [1, 2, 3]


async def test_a_reader_who_is_late_gets_the_values() -> None:
    """Who reads completions after the run has ended, and its runner was left, gets all values."""
    on = Keeping()
    dag = graph("a>b", a=None, b=None)
    executor = DynamicExecutor(dag, runners={"there": on}, runner="there")
    with anyio.fail_after(GUARD):
        async with executor.start({"a": one, "b": lambda a: a + 1}) as run:
            early = run.completed()
            first = await anext(early)
        assert on.left == 1
        late = [first, *[pair async for pair in early]]
        assert late == [pair async for pair in run.completed()] == [("a", 1), ("b", 2)]
    assert on.fetched == [[1], [1, 2]]


async def test_a_value_that_is_lost_fails_the_node_that_needs_it_here() -> None:
    """Its dependents here fail with what the runner says; to ask for it raises that, too."""
    on = Keeping(fetch=lambda value: Lost(WorkerLostError("it went with its worker")))
    dag = graph("a>b", a=NodePolicy(runner="there"), b=None)
    with anyio.fail_after(GUARD):
        result = await DynamicExecutor(dag, runners={"there": on}).execute(
            {"a": one, "b": lambda a: a}
        )
    assert statuses(result) == {"a": "COMPLETED", "b": "FAILED"}
    assert isinstance(result["b"].error, WorkerLostError)
    with pytest.raises(WorkerLostError, match="went with its worker"):
        result["a"].result  # noqa: B018
    assert "whose result is lost" in repr(result["a"])


class Waiting(Keeping):
    """A runner of whose results those that are true are there, and nobody can have others."""

    class Kept(Kept):
        @property
        def is_there(self) -> bool:
            return bool(self.value)

    async def run(self, call: Call) -> Any:
        return self.Kept(self, (await super().run(call)).value)

    async def fetch(self, results: Sequence[Result]) -> Sequence[Any]:
        if not all(result.is_there for result in results):
            await anyio.sleep_forever()
        return await super().fetch(results)


async def test_a_run_that_is_out_of_time_does_not_wait_for_what_is_not_there() -> None:
    """Its result comes with the values that can be had, and says which are lost."""
    with anyio.fail_after(GUARD):
        executor = DynamicExecutor(
            graph("", a=None, b=None), runners={"there": Waiting()}, runner="there"
        )
        result = await executor.execute({"a": one, "b": lambda: 0}, timeout=0.2)
    assert statuses(result) == {"a": "COMPLETED", "b": "COMPLETED"}
    assert result["a"].result == 1
    with pytest.raises(WorkerLostError, match="node 'b' was lost with its worker") as caught:
        result["b"].result  # noqa: B018
    assert caught.value.node == "b"


async def test_a_run_that_is_cut_short_does_not_wait_for_what_is_not_there() -> None:
    """Nor does one that was cancelled, where nothing at all can be had."""
    dag = graph("", a=NodePolicy(runner="there"), b=None)
    with anyio.fail_after(GUARD):
        executor = DynamicExecutor(dag, runners={"there": Waiting()})
        async with executor.start({"a": lambda: 0, "b": anyio.sleep_forever}) as run:
            await passes()
            run.cancel()
        result = await run.wait()
    assert statuses(result) == {"a": "COMPLETED", "b": "CANCELLED"}
    assert "whose result is lost" in repr(result["a"])


@pytest.mark.parametrize("where", ["there", "local"])
async def test_what_is_fetched_for_a_node_counts_in_its_timeout(where: str) -> None:
    """A node whose input cannot be had, or its own result for its expander, is FAILED in time."""
    policy = NodePolicy(runner=where, timeout=0.1)
    dag = graph("a>b", a=NodePolicy(runner="there"), b=policy)
    tasks = {"a": lambda: where == "there", "b": lambda a: 0}
    expanders = {"b": lambda name, value: None}
    with anyio.fail_after(GUARD):
        executor = DynamicExecutor(dag, expanders, runners={"there": Waiting()})
        result = await executor.execute(tasks, timeout=0.5)
    error = result["b"].error
    assert isinstance(error, NodeTimeoutError)
    what = "the result of" if where == "there" else "what is passed to"
    assert f"fetching {what} node 'b' took longer than its timeout" in str(error)


async def test_a_runner_that_is_lost_at_the_end_ends_the_run() -> None:
    """When the results cannot be fetched any more, RunnerLostError is raised with its name."""

    def gone(value: Any) -> Any:
        raise RunnerLostError("it is gone by now")

    with pytest.raises(RunnerLostError) as caught:
        await ran(Keeping(fetch=gone), {"a": one})
    assert caught.value.runner == "there"
    dag = graph("a>b", a=NodePolicy(runner="there"), b=None)
    executor = DynamicExecutor(dag, runners={"there": Keeping(fetch=gone)})
    with pytest.raises(RunnerLostError):
        await executor.execute({"a": one, "b": lambda a: a})


class Empty(Keeping):
    async def fetch(self, results: Sequence[Result]) -> Sequence[Any]:
        return []


class Broken(Keeping):
    async def fetch(self, results: Sequence[Result]) -> Sequence[Any]:
        raise OSError("the net is down")


class Fetchless(Here):
    async def run(self, call: Call) -> Any:
        return Kept(self, call.function())


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        (Empty, dagron.RunnerError, "'there' returned 0 values for 1 results"),
        (Broken, OSError, "the net is down"),
        (Fetchless, dagron.RunnerError, "'there' returned a Result, and has no fetch()"),
    ],
)
async def test_results_that_a_runner_does_not_give_are_lost(
    kind: Any, error: type[Exception], words: str
) -> None:
    """The run has its result, and to ask for the node's raises what went wrong; so does a use."""
    result = await ran(kind(), {"a": one})
    assert statuses(result) == {"a": "COMPLETED"}
    with pytest.raises(error) as caught:
        result["a"].result  # noqa: B018
    assert words in str(caught.value)
    dag = graph("a>b", a=NodePolicy(runner="there"), b=None)
    used = await DynamicExecutor(dag, runners={"there": kind()}).execute(
        {"a": one, "b": lambda a: a}
    )
    assert statuses(used) == {"a": "COMPLETED", "b": "FAILED"}
    assert words in str(used["b"].error)


async def test_what_is_fetched_for_the_run_counts_in_a_result_that_was_cut_short() -> None:
    """A run that is cancelled has the values of the nodes that had completed."""
    on = Keeping()
    dag = graph("a>b", a=NodePolicy(runner="there"), b=None)
    with anyio.fail_after(GUARD):
        executor = DynamicExecutor(dag, runners={"there": on})
        async with executor.start({"a": one, "b": anyio.sleep_forever}) as run:
            await passes()
            run.cancel()
        result = await run.wait()
    assert statuses(result) == {"a": "COMPLETED", "b": "CANCELLED"}
    assert result["a"].result == 1


async def test_a_result_that_was_computed_again_says_so() -> None:
    """The reason of a node that has completed tells what the runner told."""

    class Again(Keeping):
        async def run(self, call: Call) -> Any:
            if call.node == "b":
                self.calls[0].line.computed_again("it was lost with worker w1")
            return await super().run(call)

    result = await ran(Again(), {"a": one, "b": lambda a: a}, "a>b")
    assert result["a"].reason == "it was lost with worker w1"
    assert result["a"].result == 1
    assert result["b"].reason is None
    assert result.ok


def test_a_lost_result_is_a_node_result() -> None:
    """It has all the other fields of the node."""
    record = NodeResult("a", NodeStatus.COMPLETED, 5, attempts=2)
    gone = lost(record, OSError("gone"))
    assert isinstance(gone, NodeResult)
    assert (gone.name, gone.status, gone.attempts) == ("a", NodeStatus.COMPLETED, 2)
    with pytest.raises(OSError, match="gone"):
        gone.result  # noqa: B018
    again = replaced(gone, reason="since")
    assert (again.reason, again.attempts, gone.reason) == ("since", 2, None)
    with pytest.raises(OSError, match="gone"):
        again.result  # noqa: B018
    assert again == replaced(again)
    assert again != gone
    assert gone != record
    copied = pickle.loads(pickle.dumps(again))
    assert (copied.name, copied.reason, repr(copied)) == ("a", "since", repr(again))
    with pytest.raises(OSError, match="gone"):
        copied.result  # noqa: B018


async def test_a_result_that_cannot_be_computed_again_leaves_the_run_its_result(
    tmp_path: Path,
) -> None:
    """Lost, begun again, and not had then either: the node says so, and the report is made."""

    class Again(Keeping):
        async def run(self, call: Call) -> Any:
            call.line.computed_again("it was lost with worker w1")
            return await super().run(call)

    gone = Lost(WorkerLostError("it failed the second time"))
    result = await ran(Again(fetch=lambda value: gone), {"a": one})
    assert result["a"].reason is None
    with pytest.raises(WorkerLostError, match="the second time"):
        result["a"].result  # noqa: B018
    result.save_html(tmp_path / "run.html")
    assert "it failed the second time" in (tmp_path / "run.html").read_text()
    again = pickle.loads(pickle.dumps(result))
    assert repr(again["a"]) == repr(result["a"])
    assert repr(again) == repr(result)
    assert again.summary() == result.summary()


def test_an_error_and_all_that_it_comes_of_let_go_of_their_frames() -> None:
    """Causes, contexts and members of groups are without a traceback, also in a circle."""
    errors = [OSError("first"), KeyError("second"), ValueError("last")]
    for error in errors:
        with pytest.raises(type(error)):
            raise error
    first, second, last = errors
    last.__cause__ = ExceptionGroup("all", [first])
    first.__context__ = second
    second.__context__ = last
    forget_all_frames(last)
    assert [error.__traceback__ for error in errors] == [None, None, None]
    assert last.__cause__.exceptions == (first,)
