"""Tasks that add nodes while they run: the parameter `grow`."""

from collections.abc import Callable
from inspect import getcoroutinestate
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
from anyio.lowlevel import checkpoint

from controls import graph, statuses
from dagron import (
    DAG,
    Cancelled,
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    ExecutionResult,
    ExpansionError,
    Gate,
    Grow,
    ModificationError,
    NodePolicy,
    NodeStatus,
    NotAwaitedError,
    Retry,
    TaskSignatureError,
    UnknownNodeError,
)
from faults import new_objects_only, run
from ways import GUARD, Inside, Meeting, Way, chain, passes


async def noop() -> None:
    return None


def new(name: str, *dependencies: str, task: Callable[..., Any] = noop) -> DynamicNodeSpec:
    return DynamicNodeSpec(name, task, dependencies)


ENDED = "node 'a' has ended: it can add no nodes any more"


# -- what it is


def test_a_task_adds_nodes_that_run_while_it_runs(execute: Way) -> None:
    """A task with a parameter `grow` adds single specs and modifications; the nodes start at once,
    are its children, and may depend on nothing or on each other.
    """

    async def grower(grow: Grow) -> str:
        ran = anyio.Event()

        async def first() -> str:
            ran.set()
            return "one"

        await grow(new("first", task=first))
        with anyio.fail_after(GUARD):
            await ran.wait()

        async def second(first: str) -> str:
            return first + " two"

        modification = DynamicModification([new("second", "first", task=second), new("third")])
        assert await grow(modification) is None
        return "grown"

    result = execute(DynamicExecutor(graph(a=None)), {"a": grower})
    assert result.ok
    assert {name: result[name].result for name in result} == {
        "a": "grown",
        "first": "one",
        "second": "one two",
        "third": None,
    }
    assert {result[name].added_by for name in ("first", "second", "third")} == {"a"}
    assert {result[name].depth for name in ("first", "second", "third")} == {1}


def test_children_that_depend_on_it_wait_for_task_and_expander(execute: Way) -> None:
    """A node that a running task adds and that depends on that task waits until task and expander
    are done, and gets its result.
    """
    log: list[object] = []

    async def child(a: str) -> None:
        log.append(a)

    async def grower(grow: Grow) -> str:
        await grow(new("child", "a", task=child))
        await passes()
        log.append("task")
        return "result of a"

    async def expand(name: str, result: str) -> None:
        await passes()
        log.append("expander")

    result = execute(DynamicExecutor(graph(a=None), {"a": expand}), {"a": grower})
    assert result.ok
    assert log == ["task", "expander", "result of a"]


def test_a_child_of_a_task_that_fails(execute: Way) -> None:
    """What a task has added stays when it fails; of that, what depends on it is skipped."""

    async def grower(grow: Grow) -> None:
        await grow(new("free"))
        await grow(new("bound", "a"))
        raise OSError("late")

    result = execute(DynamicExecutor(graph(a=None)), {"a": grower})
    assert statuses(result) == {"a": "FAILED", "bound": "SKIPPED", "free": "COMPLETED"}


def test_orphans_of_a_task_are_cancelled_by_choice(execute: Way) -> None:
    """With `NodePolicy(orphans="cancel")`, unfinished children of a task that fails are cancelled,
    and the reason names it.
    """

    async def grower(grow: Grow) -> None:
        await grow(new("done"))
        await grow(new("runs", task=anyio.sleep_forever))
        await grow(new("waits", "runs"))
        await passes()
        raise OSError("late")

    dag = graph(a=NodePolicy(orphans="cancel"))
    result = execute(DynamicExecutor(dag), {"a": grower})
    assert statuses(result) == {
        "a": "FAILED",
        "done": "COMPLETED",
        "runs": "CANCELLED",
        "waits": "CANCELLED",
    }
    assert result["runs"].reason == "cancelled because 'a', which had added it, did not complete"


def test_the_graph_of_a_task_that_grows(execute: Way) -> None:
    """`grow.dag` is the graph as it is now, as a value."""
    sizes: list[int] = []

    async def grower(grow: Grow) -> None:
        before = grow.dag
        await grow(new("b", "a"))
        sizes.extend([before.node_count(), grow.dag.node_count()])
        assert grow.dag.dependencies("b") == ["a"]
        assert repr(grow) == "<Grow of node 'a'>"

    assert execute(DynamicExecutor(graph(a=None)), {"a": grower}).ok
    assert sizes == [1, 2]


def test_grow_beside_other_parameters(execute: Way) -> None:
    """It may be a keyword-only parameter, stand beside results of dependencies, and a parameter
    with a default is left alone.
    """

    async def keyword(a: str, *, grow: Grow) -> None:
        await grow(new(f"after {a}"))

    async def default(a: str, grow: object = "mine") -> object:
        return grow

    async def first() -> str:
        return "first"

    dag = chain("a", "b").to_builder().add_edge("a", "c").build()
    result = execute(DynamicExecutor(dag), {"a": first, "b": keyword, "c": default})
    assert "after first" in result
    assert result["c"].result == "mine"


def test_a_child_may_grow_too(execute: Way) -> None:
    """A node that was added this way may have the parameter as well."""

    def level(number: int) -> Callable[..., Any]:
        async def grower(grow: Grow) -> int:
            if number < 5:
                await grow(new(f"level {number + 1}", task=level(number + 1)))
            return number

        return grower

    result = execute(DynamicExecutor(graph(a=None)), {"a": level(0)})
    assert result.succeeded == 6
    assert result["level 5"].depth == 5
    assert result["level 5"].added_by == "level 4"


def test_a_task_and_its_expander_both_add(execute: Way) -> None:
    """A node may grow by its task and then by its expander, plain or streaming."""

    async def grower(grow: Grow) -> None:
        await grow(new("by task"))

    async def stream(name: str, result: object) -> Any:
        yield new("by stream", "a")

    def plain(name: str, result: object) -> DynamicModification:
        return DynamicModification([new("by expander")])

    dag = DAG.builder().add_node("a").add_node("b").build()
    result = execute(DynamicExecutor(dag, {"a": stream}), {"a": grower, "b": noop})
    assert statuses(result) == {
        "a": "COMPLETED",
        "by task": "COMPLETED",
        "by stream": "COMPLETED",
        "b": "COMPLETED",
    }
    result = execute(DynamicExecutor(graph(a=None), {"a": plain}), {"a": grower})
    assert [*result] == ["a", "by task", "by expander"]


# -- what is refused


def test_a_sync_task_with_this_parameter_is_refused(execute: Way) -> None:
    """A sync task cannot await: it is refused before anything runs, and told what to write."""

    def task(grow: Grow) -> None:
        raise AssertionError("it ran")

    with pytest.raises(TaskSignatureError) as caught:
        execute(DynamicExecutor(graph(a=None)), {"a": task})
    assert str(caught.value) == (
        "the task of node 'a' has a parameter 'grow', and is no async def\n"
        "  help: write async def, and await grow(...); a sync task has an expander instead"
    )
    assert (caught.value.node, caught.value.parameter) == ("a", "grow")


def test_a_sync_child_with_this_parameter_is_a_fault(execute: Way) -> None:
    """The same task on a dynamic node: the modification is refused, and nothing changed."""

    async def grower(grow: Grow) -> None:
        with pytest.raises(ModificationError, match="has a parameter 'grow', and is no async def"):
            await grow(new("b", task=lambda grow: None))
        assert grow.dag.node_count() == 1

    assert execute(DynamicExecutor(graph(a=None)), {"a": grower}).ok


@pytest.mark.parametrize(
    ("wrong", "shown"),
    [
        (None, "None"),
        ("b", "'b'"),
        ([], "[]"),
        (noop, "<function noop"),
        ({"name": "b"}, "{'name'"),
    ],
    ids=["None", "a name", "a list", "a task", "a dict"],
)
def test_what_is_no_change_is_refused(execute: Way, wrong: Any, shown: str) -> None:
    """Anything but a spec and a modification is a `TypeError` that says what to write."""

    async def grower(grow: Grow) -> None:
        with pytest.raises(TypeError) as caught:
            await grow(wrong)
        what, help = str(caught.value).split("\n")
        assert what.startswith("grow takes a DynamicNodeSpec or a DynamicModification, not ")
        assert shown in what
        assert help == "  help: write await grow(dagron.DynamicNodeSpec('name', task))"

    assert execute(DynamicExecutor(graph(a=None)), {"a": grower}).ok


def test_a_coroutine_in_place_of_a_spec_is_closed(execute: Way) -> None:
    """Who writes `grow(task())` is told so, and the coroutine is not left to be collected."""

    async def grower(grow: Grow) -> None:
        with pytest.raises(TypeError, match="not 'coroutine'"):
            await grow(noop())  # type: ignore[arg-type]

    assert execute(DynamicExecutor(graph(a=None)), {"a": grower}).ok


def test_a_refused_modification_changes_nothing_and_can_be_caught(execute: Way) -> None:
    """`grow` raises the faults where it is called: who catches them goes on, and may try again."""

    async def grower(grow: Grow) -> str:
        with pytest.raises(ModificationError) as caught:
            await grow(DynamicModification([new("good"), new("bad", "nowhere")]))
        assert [(fault.kind, fault.node) for fault in caught.value.faults] == [
            ("unknown", "nowhere")
        ]
        assert caught.value.by == "a"
        assert "good" not in grow.dag
        await grow(new("good"))
        return "went on"

    result = execute(DynamicExecutor(graph(a=None)), {"a": grower})
    assert result.ok
    assert result["a"].result == "went on"
    assert result["good"].status is NodeStatus.COMPLETED


def test_a_refused_modification_that_is_not_caught_fails_the_node(execute: Way) -> None:
    """Nothing else fails from it, and what had landed before stays."""

    async def grower(grow: Grow) -> None:
        await grow(new("b"))
        await grow(new("b"))

    dag = chain("a", "after").to_builder().add_node("other").build()
    result = execute(DynamicExecutor(dag), {"a": grower, "after": noop, "other": noop})
    assert isinstance(result["a"].error, ModificationError)
    assert statuses(result) == {
        "a": "FAILED",
        "b": "COMPLETED",
        "after": "SKIPPED",
        "other": "COMPLETED",
    }


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (DynamicModification(cancel_nodes=["a"]), "cannot cancel itself"),
        (DynamicModification(remove_nodes=["a"]), "node 'a' cannot be removed: it is RUNNING"),
        (DynamicModification(add_edges=[("z", "a")]), "'a' is RUNNING already"),
        (DynamicModification([new("b", task=lambda: (yield))]), "is a generator function"),
    ],
    ids=["cancel", "remove", "edge", "generator"],
)
def test_faults_of_a_growing_task(execute: Way, change: DynamicModification, text: str) -> None:
    """A task grows by the rules of expanders."""

    async def grower(grow: Grow) -> None:
        with pytest.raises(ModificationError, match=text):
            await grow(change)

    assert execute(DynamicExecutor(graph(a=None, z=None)), {"a": grower, "z": noop}).ok


@pytest.mark.parametrize("limit", [{"max_nodes": 3}, {"max_depth": 2}], ids=str)
def test_the_limits_of_growth_hold(execute: Way, limit: dict[str, int]) -> None:
    """`max_nodes` and `max_depth` bound what tasks add; the refusal may be caught."""
    refused: list[str] = []

    def level(number: int) -> Callable[..., Any]:
        async def grower(grow: Grow) -> None:
            try:
                await grow(new(f"level {number + 1}", task=level(number + 1)))
            except ModificationError as error:
                refused.extend(fault.kind for fault in error.faults)

        return grower

    result = execute(DynamicExecutor(graph(a=None), **limit), {"a": level(0)})
    assert result.ok
    assert result.succeeded == 3
    assert refused == ["limit"]


# -- which nodes may come without a task, or have an expander


def test_an_expander_of_a_node_that_a_task_adds(execute: Way) -> None:
    """E3, S19: an expander may be registered for a name that only a growing task will add."""

    async def grower(grow: Grow) -> None:
        await grow(new("b"))

    def expand(name: str, result: object) -> DynamicModification:
        return DynamicModification([new("c", "b")])

    result = execute(DynamicExecutor(graph(a=None), {"b": expand}), {"a": grower})
    assert [*result] == ["a", "b", "c"]
    with pytest.raises(UnknownNodeError):  # here nothing could add it
        execute(DynamicExecutor(graph(a=None), {"b": expand}), {"a": noop})


def test_a_placeholder_downstream_of_a_task_that_grows(execute: Way) -> None:
    """E1: a node downstream of a growing task may come without a task: it may be a placeholder."""

    async def grower(grow: Grow) -> None:
        await grow(DynamicModification([new("real", "a")], remove_nodes=["placeholder"]))

    result = execute(DynamicExecutor(chain("a", "placeholder")), {"a": grower})
    assert [*result] == ["a", "real"]
    assert result.removed == ("placeholder",)


# -- retries and timeouts


async def test_what_an_attempt_has_added_stays() -> None:
    """A task that is tried again finds the nodes that it has added; its handle is good in each."""
    handles: list[Grow] = []

    async def grower(grow: Grow) -> str:
        handles.append(grow)
        name = f"attempt {len(handles)}"
        await grow(new(name))
        await handles[0](new(f"{name} by the first"))
        with pytest.raises(ModificationError):
            await grow(new(name))
        if len(handles) < 3:
            raise OSError(name)
        return name

    dag = graph(a=Retry(attempts=3, initial_delay=0))
    result = await run(dag, {"a": grower})
    assert result.ok
    assert result["a"].attempts == 3
    assert [*result] == [
        "a",
        *(f"attempt {n}{by}" for n in (1, 2, 3) for by in ("", " by the first")),
    ]


async def test_an_attempt_may_add_again_what_one_before_has_added() -> None:
    """A task that is tried again may add the same nodes again: they are there, and count once. What
    is added otherwise, or twice by one attempt, is refused.
    """
    runs: list[str] = []
    refused: list[str] = []

    def child(name: str, **more: Any) -> DynamicNodeSpec:
        async def task() -> None:
            runs.append(name)

        return DynamicNodeSpec(name, task, **more)

    attempts: list[int] = []

    async def grower(grow: Grow) -> int:
        attempts.append(len(attempts) + 1)
        for number in range(attempts[-1]):
            await grow(child(f"child {number}"))
        for spec in (child("child 0"), child("child 0", dependencies=["other"])):
            try:
                await grow(spec)
            except ModificationError as error:
                refused.append(error.faults[0].node)
        if attempts[-1] < 3:
            raise OSError
        return attempts[-1]

    dag = graph(a=Retry(attempts=3, initial_delay=0), other=None)
    result = await run(dag, {"a": grower, "other": noop})
    assert result["a"].result == 3
    assert sorted(result) == ["a", "child 0", "child 1", "child 2", "other"]
    assert sorted(runs) == ["child 0", "child 1", "child 2"]
    assert refused == ["child 0"] * 6


async def test_calls_of_an_attempt_that_failed() -> None:
    """What an attempt that failed had called and not awaited does not happen, and is nobody's
    fault; changes that add no node count once as well.
    """
    attempts: list[int] = []

    async def grower(grow: Grow) -> int:
        attempts.append(1)
        await grow(DynamicModification(remove_edges=[("x", "z")]))
        await grow(DynamicModification(remove_edges=[("y", "z")]))
        calls = [grow(new(f"child {number}")) for number in range(3)]
        if len(attempts) == 1:
            raise OSError
        for call in calls:
            await call
        return len(attempts)

    dag = DAG.builder().add_node("a", policy=NodePolicy(retry=Retry(2, initial_delay=0)))
    dag.add_edge("a", "y").add_edge("a", "x").add_edge("x", "z").add_edge("y", "z")
    result = await run(dag.build(), {"a": grower, "x": noop, "y": noop, "z": noop})
    assert result.ok
    assert result["a"].result == 2
    assert sorted(result) == ["a", "child 0", "child 1", "child 2", "x", "y", "z"]


async def test_many_calls_that_are_awaited_together() -> None:
    """Calls may be awaited later, many at once: each is looked at a few times, and not by all."""
    looks: list[object] = []

    async def grower(grow: Grow) -> None:
        calls = [grow(new(f"child {number}")) for number in range(1_000)]
        async with anyio.create_task_group() as group:
            for call in calls:
                group.start_soon(lambda call=call: call)

    def looked(call: Any) -> str:
        looks.append(call)
        return getcoroutinestate(call)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dagron._growing.getcoroutinestate", looked)
        result = await run(graph(a=None), {"a": grower})
    assert result.succeeded == 1_001
    assert len(looks) < 4_000


@pytest.mark.parametrize("count", [1, 2])
def test_a_forgotten_await(execute: Way, count: int) -> None:
    """A task that calls `grow` and does not await it fails: nothing was added."""

    async def grower(grow: Grow) -> int:
        await grow(new("good"))
        for number in range(count):
            grow(new(f"child {number}"))
        return count

    result = execute(DynamicExecutor(graph(a=None)), {"a": grower})
    error = result["a"].error
    assert isinstance(error, NotAwaitedError)
    assert ("1 time: nothing was added" if count == 1 else "2 times: nothing was") in str(error)
    assert "help: did you forget 'await'? write: await grow(...)" in str(error)
    assert [*result] == ["a", "good"]


async def test_children_of_all_attempts_count_for_the_window() -> None:
    """What an attempt left unfinished takes room from the next."""
    gate = Gate()
    events: list[object] = []

    async def grower(grow: Grow) -> None:
        events.append("attempt")
        await grow(new(f"child {len(events)}", task=gate.wait))
        if len(events) == 1:
            raise OSError
        events.append("grown")

    dag = graph(a=NodePolicy(window=1, retry=Retry(2, initial_delay=0)))
    async with DynamicExecutor(dag).start({"a": grower}) as run:
        await passes()
        assert events == ["attempt", "attempt"]
        explanation = "node 'a' is RUNNING: 1 node that it added is unfinished, and it waits for"
        assert str(run.explain("a")).startswith(explanation)
        gate.open()
    assert events[-1] == "grown"
    assert (await run.wait()).ok


# -- the window


def test_the_window_of_a_task(execute: Way) -> None:
    """`grow` waits while as many children as the policy's window are unfinished."""
    four, inside = Meeting(4), Inside()

    async def child() -> None:
        with inside:
            await four.join()

    async def grower(grow: Grow) -> None:
        for number in range(20):
            await grow(new(str(number), task=child))

    result = execute(DynamicExecutor(graph(a=NodePolicy(window=4))), {"a": grower})
    assert result.succeeded == 21
    assert inside.most == 4


@pytest.mark.parametrize(
    "bound", [{"max_concurrency": 1}, {"limits": {"g": 1}}, {}], ids=["places", "group", "none"]
)
def test_a_task_waits_without_slots(execute: Way, bound: dict[str, Any]) -> None:
    """While it waits for room, its slots are its children's, and it has them again afterwards."""
    inside: list[str] = []

    async def child() -> None:
        if bound:
            assert inside == []
        inside.append("child")
        await checkpoint()
        inside.remove("child")

    policy = NodePolicy(group="g" if "limits" in bound else ())

    async def grower(grow: Grow) -> None:
        for number in range(6):
            await grow(DynamicNodeSpec(str(number), child, policy=policy))
            if bound:
                assert inside == []
            inside.append("grower")
            await passes(3)
            inside.remove("grower")

    dag = graph(a=NodePolicy(window=1, group=policy.group))
    result = execute(DynamicExecutor(dag, **bound), {"a": grower})
    assert result.succeeded == 7, [node.error for node in result.node_results.values()]


async def test_a_task_that_stops_waiting_has_its_slots_again() -> None:
    """A task that gives up waiting, by a scope of its own, goes on with its slots: those whom they
    were lent to have ended first.
    """
    inside: list[str] = []

    async def child() -> None:
        inside.append("child")
        await release.wait()
        await passes()
        inside.remove("child")

    async def grower(grow: Grow) -> str:
        await grow(new("child", task=child))
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:

                async def give_up() -> None:
                    await passes(5)
                    scope.cancel()
                    release.set()

                group.start_soon(give_up)
                await grow(new("too many"))
        assert scope.cancelled_caught
        assert inside == []
        await passes()
        return "went on"

    release = anyio.Event()
    dag = graph(a=NodePolicy(window=1), z=None)
    result = await run(dag, {"a": grower, "z": noop}, max_concurrency=1)
    assert result["a"].result == "went on", result["a"].error
    assert statuses(result) == {"a": "COMPLETED", "child": "COMPLETED", "z": "COMPLETED"}


async def test_a_second_child_does_not_start_beside_a_task_that_stopped_waiting() -> None:
    """At `max_concurrency=1`, nobody starts while such a task goes on."""
    busy: list[str] = []

    async def other() -> None:
        assert busy == []

    async def grower(grow: Grow) -> None:
        await grow(new("child", "z", task=other))
        with anyio.move_on_after(0):
            await grow(new("too many"))
        busy.append("a")
        await passes()
        busy.clear()

    dag = graph(a=NodePolicy(window=1, priority=1), z=None)
    result = await run(dag, {"a": grower, "z": other}, max_concurrency=1)
    assert result.ok, [node.error for node in result.node_results.values()]


def test_children_that_wait_for_the_task_stall_it(execute: Way) -> None:
    """A task that waits for room while its children wait for its end gets `ExpansionError`, which
    says so, and may go on.
    """
    texts: list[str] = []

    async def grower(grow: Grow) -> None:
        await grow(new("child", "a"))
        with pytest.raises(ExpansionError) as caught:
            await grow(new("another"))
        texts.append(str(caught.value))

    dag = graph(a=NodePolicy(window=1))
    result = execute(DynamicExecutor(dag, max_concurrency=1), {"a": grower})
    assert statuses(result) == {"a": "COMPLETED", "child": "COMPLETED"}
    assert texts == [
        "node 'a' waits for its children to end, and they wait for others that cannot run before "
        "it has ended: 'child' waits for 'a'\n"
        "  help: let its children not depend on what depends on it, "
        "or give it a larger NodePolicy(window=...)"
    ]


async def test_a_task_that_caught_the_stall_holds_its_slots() -> None:
    """It goes on under the limits: nothing starts beside it at `max_concurrency=1`."""
    busy: list[str] = []
    late: list[str] = []

    async def other() -> None:
        assert busy == []
        late.append("other")

    async def grower(grow: Grow) -> None:
        await grow(new("child", "a"))
        with pytest.raises(ExpansionError):
            await grow(new("another"))
        busy.append("a")
        await run.modify(DynamicModification([new("other", task=other)]))
        await passes()
        busy.clear()

    dag = graph(a=NodePolicy(window=1))
    async with DynamicExecutor(dag, max_concurrency=1).start({"a": grower}) as run:
        pass
    result = await run.wait()
    assert result.ok, [node.error for node in result.node_results.values()]
    assert late == ["other"]


# -- from other tasks


def test_grow_from_child_tasks(execute: Way) -> None:
    """Tasks that the node's task has started may add nodes, any number at a time, within the
    window.
    """
    three, inside = Meeting(3), Inside()

    async def child() -> None:
        with inside:
            await three.join()

    async def grower(grow: Grow) -> None:
        async with anyio.create_task_group() as group:
            for number in range(9):
                group.start_soon(grow, new(str(number), task=child))

    result = execute(DynamicExecutor(graph(a=NodePolicy(window=3))), {"a": grower})
    assert result.succeeded == 10
    assert inside.most == 3


async def test_grow_from_a_thread_of_the_task() -> None:
    """What the task runs in a thread calls it through `anyio.from_thread`."""

    async def grower(grow: Grow) -> None:
        def thread() -> None:
            for name in "bcd":
                anyio.from_thread.run(grow, new(name))

        await anyio.to_thread.run_sync(thread)

    result = await run(graph(a=NodePolicy(window=1)), {"a": grower})
    assert result.succeeded == 4


async def test_grow_from_another_nodes_task() -> None:
    """A child that adds nodes by its parent's handle adds the parent's children, and takes no slots
    from the parent.
    """
    gate = Gate()
    resting: list[bool] = []

    async def grower(grow: Grow) -> None:
        async def child() -> None:
            await grow(new("by child"))
            done.set()

        done = anyio.Event()
        await grow(new("waits", task=gate.wait))
        await grow(new("child", task=child))
        await passes()
        resting.append("a" in run._scheduler.resting)
        gate.open()
        await done.wait()

    dag = graph(a=NodePolicy(window=2))
    async with DynamicExecutor(dag, max_concurrency=3).start({"a": grower}) as run:
        pass
    result = await run.wait()
    assert resting == [False]
    assert result["by child"].added_by == "a"
    assert result.ok


# -- after its end


async def kept_handle() -> Grow:
    """Return the handle of a run that is over."""
    kept: list[Grow] = []

    async def grower(grow: Grow) -> None:
        kept.append(grow)

    await run(graph(a=None), {"a": grower})
    return kept[0]


async def test_a_handle_that_outlives_its_run() -> None:
    """It raises a RuntimeError that names the node, and keeps nothing of the run alive."""
    with new_objects_only() as alive:
        grow = await kept_handle()
        assert alive() == []
    for _ in range(2):
        with pytest.raises(RuntimeError) as caught:
            await grow(new("b"))
        assert str(caught.value) == f"{ENDED}\n  help: let the task wait for whatever calls grow"
        with pytest.raises(RuntimeError, match=ENDED):
            _ = grow.dag
    assert repr(grow) == "<Grow of node 'a'>"


def test_a_handle_that_outlives_its_node(execute: Way) -> None:
    """The same while the run goes on; a node that comes later cannot use it."""
    kept: list[Grow] = []

    async def grower(grow: Grow) -> None:
        kept.append(grow)

    async def later() -> None:
        with pytest.raises(RuntimeError, match=ENDED):
            await kept[0](new("c"))

    result = execute(DynamicExecutor(chain("a", "b")), {"a": grower, "b": later})
    assert result.ok
    assert [*result] == ["a", "b"]


@pytest.mark.parametrize("expander", ["none", "stream"])
@pytest.mark.parametrize("waiters", [1, 3])
async def test_tasks_that_still_wait_when_the_node_ends(expander: str, waiters: int) -> None:
    """Whoever waits for room when the task ends is told that it is too late; the run, and a
    streaming expander of the node, which waits for room itself, go on undisturbed.
    """
    gate = Gate()
    told: list[str] = []

    async def stray(grow: Grow, name: str) -> None:
        with pytest.raises(RuntimeError, match=ENDED):
            await grow(new(name))
        told.append(name)

    async def grower(grow: Grow) -> None:
        await grow(new("child", task=gate.wait))
        for number in range(waiters):
            program.start_soon(stray, grow, str(number))
        await passes()

    async def stream(name: str, result: object) -> Any:
        yield new("by expander")

    async def open_later() -> None:
        await passes(60)
        gate.open()

    async with anyio.create_task_group() as program:
        program.start_soon(open_later)
        expanders = {"a": stream} if expander == "stream" else {}
        result = await run(graph(a=NodePolicy(window=1)), {"a": grower}, expanders)
    assert result.ok
    assert sorted(told) == [str(number) for number in range(waiters)]
    assert [*result] == ["a", "child", *["by expander"] * (expander == "stream")]


# -- cancellation


@pytest.mark.parametrize("shield", ["before", "after"])
@pytest.mark.parametrize("what", ["run", "node"])
async def test_grow_in_a_shield_of_a_cancelled_node(what: str, shield: str) -> None:
    """Clean-up that shields itself and adds nodes waits for no room: it is told that the node is
    cancelled, and nothing is added.
    """
    raised: list[str] = []
    gate = Gate()

    async def shielded(grow: Grow) -> None:
        with anyio.CancelScope(shield=True):
            try:
                await grow(new("late"))
            except Cancelled as error:
                raised.append(str(error))
                raise

    async def grower(grow: Grow) -> None:
        await grow(new("child", task=gate.wait))
        if shield == "before":
            await shielded(grow)
        try:
            await anyio.sleep_forever()
        finally:
            await shielded(grow)

    dag = graph(a=NodePolicy(window=1))
    with anyio.fail_after(GUARD):
        async with DynamicExecutor(dag).start({"a": grower}) as run:
            await passes()
            if what == "run":
                run.cancel("enough")
            else:
                run.cancel_node("a")
                await passes()
                assert str(run.status("a")) == "CANCELLED"
                gate.open()
    result: ExecutionResult = await run.wait()
    assert raised == ["node 'a' is cancelled: it can add no nodes any more"]
    child = "CANCELLED" if what == "run" else "COMPLETED"
    assert statuses(result) == {"a": "CANCELLED", "child": child}


async def test_a_task_that_is_cancelled_while_it_waits_for_room() -> None:
    """It ends CANCELLED, its children go on, and who depends on it is skipped."""
    gate = Gate()

    async def grower(grow: Grow) -> None:
        await grow(new("child", task=gate.wait))
        await grow(new("another"))

    dag = graph("a>after", a=NodePolicy(window=1))
    async with DynamicExecutor(dag, max_concurrency=1).start({"a": grower, "after": noop}) as run:
        await passes()
        run.cancel_node("a")
        await passes()
        assert str(run.status("child")) == "RUNNING"
        gate.open("opened")
    result = await run.wait()
    assert statuses(result) == {"a": "CANCELLED", "child": "COMPLETED", "after": "SKIPPED"}
    assert result["child"].result == "opened"


async def test_an_endless_task_ends_with_its_run() -> None:
    """A task that adds nodes for ever goes through its window until the run is cancelled, and
    keeps the loop turning.
    """

    async def grower(grow: Grow) -> None:
        number = 0
        while True:
            await grow(new(str(number)))
            number += 1

    with anyio.fail_after(GUARD):
        async with DynamicExecutor(graph(a=NodePolicy(window=3))).start({"a": grower}) as run:
            while run.version < 100:
                await checkpoint()
            run.cancel("enough")
    result = await run.wait()
    assert result["a"].status is NodeStatus.CANCELLED
    assert result.succeeded > 90
    assert not result.failed


async def test_a_failure_keeps_no_run_alive() -> None:
    """A kept result of a task that failed by `grow` keeps none of the run's state alive."""

    async def grower(grow: Grow) -> None:
        await grow(new("b", "nowhere"))

    with new_objects_only() as alive:
        result = await run(graph(a=None), {"a": grower})
        assert isinstance(result["a"].error, ModificationError)
        assert alive() == []
