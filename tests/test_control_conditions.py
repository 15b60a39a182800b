"""Conditions on edges, as a user of an executor sees them (DESIGN.md section 5, S31)."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import anyio
import pytest

from controls import statuses
from dagron import (
    DAG,
    ConditionError,
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    Edge,
    ModificationError,
    NodePolicy,
    Retry,
    any_succeeded,
)
from faults import ON_ASYNCIO, Canary, graph, new_objects_only, run
from ways import GUARD, Meeting, Way, adding, changing, nothing, passes


def yes(result: Any) -> bool:
    return True


def no(result: Any) -> bool:
    return False


class Asked:
    """A condition that keeps what it was asked, and in which thread; nodes may wait for that."""

    def __init__(self, answer: object = True) -> None:
        self.answer = answer
        self.results: list[Any] = []
        self.threads: set[int] = set()
        self._asked = anyio.Event()

    def __call__(self, result: Any) -> object:
        self.results.append(result)
        self.threads.add(threading.get_ident())
        self._asked.set()
        return self.answer

    async def wait(self) -> None:
        """Return some passes of the loop after it was asked."""
        with anyio.fail_after(GUARD):
            await self._asked.wait()
        await passes(10)


def by_condition(source: str, target: str) -> str:
    return f"skipped by condition: the edge from {source!r} to {target!r} is inactive"


# --- what a condition decides --------------------------------------------------------------------


@pytest.mark.parametrize(("size", "taken", "left"), [(5, "small", "large"), (50, "large", "small")])
def test_exclusive_branches_and_their_join(execute: Way, size: int, taken: str, left: str) -> None:
    """Of two branches the one whose condition is true runs; the join after them runs with what
    there is: the parameter of the other is None, and `inputs` leaves it out."""
    dag = (
        DAG.builder()
        .add_edge("measure", "small", condition=lambda size: size < 10)
        .add_edge("measure", "large", condition=lambda size: size >= 10)
        .add_edge("small", "join")
        .add_edge("large", "join")
        .build()
    )
    result = execute(
        DynamicExecutor(dag),
        {
            "measure": lambda: size,
            "small": lambda: "small",
            "large": lambda: "large",
            "join": lambda small, large, inputs: (small, large, inputs),
        },
    )
    expected = dict.fromkeys(["measure", taken, "join"], "COMPLETED")
    assert statuses(result) == {**expected, left: "SKIPPED"}
    values = (taken, None) if taken == "small" else (None, taken)
    assert result["join"].result == (*values, {taken: taken})
    assert result[left].reason == by_condition("measure", left)
    assert (result.succeeded, result.skipped, result.ok) == (3, 1, True)
    assert result.raise_for_failures() is None


def test_an_inactive_edge_is_as_if_it_were_not_there(execute: Way) -> None:
    """Over an inactive edge comes nothing, although its source has completed: the parameter is
    None, and `inputs` leaves it out."""
    dag = DAG.builder().add_edge("a", "c", condition=no).add_edge("b", "c").build()
    tasks = {"a": lambda: "a", "b": lambda: "b", "c": lambda a, *, b, inputs: (a, b, inputs)}
    result = execute(DynamicExecutor(dag), tasks)
    assert result["c"].result == (None, "b", {"b": "b"})
    assert statuses(result) == dict.fromkeys("abc", "COMPLETED")


def test_a_join_waits_for_what_is_active(execute: Way) -> None:
    """A node with an inactive edge still waits for the sources of its active ones."""
    condition = Asked(False)
    dag = DAG.builder().add_edge("a", "join", condition=condition).add_edge("slow", "join").build()
    order: list[str] = []

    async def slow() -> None:
        await condition.wait()
        order.append("slow")

    tasks = {"a": nothing, "slow": slow, "join": lambda: order.append("join")}
    assert execute(DynamicExecutor(dag), tasks).ok
    assert order == ["slow", "join"]


def test_a_skip_by_condition_is_passed_on(execute: Way) -> None:
    """A node that a condition skipped makes its edges inactive: what depends on it alone is skipped
    for the same reason, and what has another dependency runs."""
    dag = (
        DAG.builder()
        .add_edge("a", "b", condition=no)
        .add_edge("b", "c")
        .add_edge("c", "d")
        .add_edge("c", "join")
        .add_edge("a", "join")
        .build()
    )
    result = execute(DynamicExecutor(dag), dict.fromkeys("abcd", nothing) | {"join": nothing})
    assert {name: result[name].reason for name in "bcd"} == dict.fromkeys(
        "bcd", by_condition("a", "b")
    )
    assert statuses(result)["join"] == "COMPLETED"
    assert result.ok


def test_skips_by_condition_and_by_failure_are_told_apart(execute: Way) -> None:
    """`reason` says which it was, and whose fault; a failure counts where a node has both."""

    def fail() -> None:
        raise ValueError

    dag = (
        DAG.builder()
        .add_edge("good", "unwanted", condition=no)
        .add_edge("bad", "lost", condition=yes)
        .add_edge("good", "both", condition=no)
        .add_edge("bad", "both")
        .add_edge("unwanted", "after")
        .add_edge("lost", "after")
        .build()
    )
    tasks = dict.fromkeys(dag.nodes(), nothing) | {"bad": fail}
    result = execute(DynamicExecutor(dag), tasks)
    assert {name: result[name].reason for name in result if result[name].status == "SKIPPED"} == {
        "unwanted": by_condition("good", "unwanted"),
        "lost": "skipped because 'bad' failed",
        "both": "skipped because 'bad' failed",
        "after": "skipped because 'bad' failed",
    }
    assert not result.ok


@pytest.mark.parametrize(
    ("answer", "runs"), [(1, True), ("no", True), ([0], True), (0, False), ("", False), ([], False)]
)
def test_truthiness_counts(execute: Way, answer: object, runs: bool) -> None:
    """A condition may return anything: its truth counts."""
    dag = DAG.builder().add_edge("a", "b", condition=Asked(answer)).build()
    result = execute(DynamicExecutor(dag), dict.fromkeys("ab", nothing))
    assert statuses(result)["b"] == ("COMPLETED" if runs else "SKIPPED")


def test_a_long_chain_falls_without_recursion() -> None:
    """A condition at the head of a chain of 50,000 nodes skips all of it, for one reason."""
    names = [f"n{i}" for i in range(50_000)]
    builder = DAG.builder().add_edge("head", names[0], condition=no)
    for source, target in pairwise(names):
        builder.add_edge(source, target)
    executor = DynamicExecutor(builder.build())
    result = executor.execute_sync(dict.fromkeys([*names, "head"], nothing))
    assert (result.succeeded, result.skipped) == (1, 50_000)
    assert result[names[-1]].reason == by_condition("head", "n0")


@pytest.mark.parametrize("files", [0, 2])
def test_a_condition_gates_whether_expansion_happens_at_all(execute: Way, files: int) -> None:
    """S31: the expander stands behind the conditional edge; where that is not taken, it is not
    called, and nothing is added."""
    expanded: list[str] = []

    def expand(name: str, count: int) -> DynamicModification:
        expanded.append(name)
        return DynamicModification(
            [DynamicNodeSpec(f"file_{i}", nothing, [name], ["merge"]) for i in range(count)]
        )

    dag = (
        DAG.builder()
        .add_edge("list", "fan_out", condition=lambda count: count > 0)
        .add_edge("fan_out", "merge")
        .add_edge("list", "merge")
        .build()
    )
    result = execute(
        DynamicExecutor(dag, {"fan_out": expand}),
        {"list": lambda: files, "fan_out": lambda list: list, "merge": lambda inputs: inputs},
    )
    assert len(expanded) == (1 if files else 0)
    assert result.dag.match("file_*") == [f"file_{i}" for i in range(files)]
    assert statuses(result)["fan_out"] == ("COMPLETED" if files else "SKIPPED")
    assert statuses(result)["merge"] == "COMPLETED"
    assert "fan_out" in result["merge"].result if files else result["merge"].result == {"list": 0}


# --- when it is asked ----------------------------------------------------------------------------


@pytest.mark.parametrize("on_thread", [False, True])
def test_it_is_asked_once_on_the_loop(execute: Way, on_thread: bool) -> None:
    """Each condition is called once, with the source's result, in the event loop's thread; also
    where the source ran in another."""

    async def on_loop() -> str:
        return "value"

    conditions = {name: Asked(name != "b") for name in "bcd"}
    builder = DAG.builder()
    for name, condition in conditions.items():
        builder.add_edge("a", name, condition=condition)
    tasks = dict.fromkeys("abcd", nothing) | {"a": (lambda: "value") if on_thread else on_loop}
    result = execute(DynamicExecutor(builder.build()), tasks)
    assert (result.succeeded, result.skipped) == (3, 1)
    for condition in conditions.values():
        assert condition.results == ["value"]
        assert condition.threads == {threading.get_ident()}


async def test_it_is_asked_when_the_modification_has_landed() -> None:
    """A condition is called after the modification of its source's expander is in."""
    seen: list[tuple[int, bool]] = []

    def condition(result: Any) -> bool:
        seen.append((handle.version, "new" in handle.dag))
        return True

    dag = DAG.builder().add_edge("a", "b", condition=condition).build()
    executor = DynamicExecutor(dag, {"a": adding(DynamicNodeSpec("new", nothing))})
    async with executor.start(dict.fromkeys("ab", nothing)) as handle:
        result = await handle.wait()
    assert seen == [(1, True)]
    assert statuses(result) == dict.fromkeys(("a", "b", "new"), "COMPLETED")


def test_the_sources_expander_may_replace_it(execute: Way) -> None:
    """An expander that removes the edge and adds it with another condition has the last word."""
    before, after = Asked(False), Asked(True)
    dag = DAG.builder().add_edge("a", "b", condition=before).build()
    replace = DynamicModification(
        remove_edges=[("a", "b")], add_edges=[Edge("a", "b", condition=after)]
    )
    result = execute(DynamicExecutor(dag, {"a": changing(replace)}), dict.fromkeys("ab", nothing))
    assert result.succeeded == 2
    assert (len(before.results), len(after.results)) == (0, 1)


def test_it_is_asked_after_the_last_attempt(execute: Way) -> None:
    """The condition on an edge from a retried node is asked once, about what came of it."""
    attempts: list[int] = []

    def flaky() -> int:
        attempts.append(1)
        if len(attempts) < 3:
            raise ValueError
        return len(attempts)

    condition = Asked()
    policy = NodePolicy(retry=Retry(5, initial_delay=0))
    dag = DAG.builder().add_node("a", policy=policy).add_edge("a", "b", condition=condition).build()
    assert execute(DynamicExecutor(dag), {"a": flaky, "b": nothing}).ok
    assert condition.results == [3]


@pytest.mark.parametrize("what", ["task", "expander"])
def test_it_is_not_asked_of_a_node_that_failed(execute: Way, what: str) -> None:
    """Where the source's task or expander failed, the target is skipped without being asked for."""
    condition = Asked()

    def fail(*arguments: Any) -> Any:
        raise ValueError

    dag = DAG.builder().add_edge("a", "b", condition=condition).build()
    expanders = {"a": fail} if what == "expander" else {}
    tasks = {"a": fail if what == "task" else nothing, "b": nothing}
    result = execute(DynamicExecutor(dag, expanders), tasks)
    assert statuses(result) == {"a": "FAILED", "b": "SKIPPED"}
    assert result["b"].reason == "skipped because 'a' failed"
    assert condition.results == []


def test_it_is_not_asked_for_a_target_that_does_not_wait(execute: Way) -> None:
    """No condition is asked about a target that was removed, cancelled, skipped, or has started."""
    conditions = {name: Asked() for name in ("removed", "cancelled", "skipped", "started")}
    builder = DAG.builder().add_node("started", policy=NodePolicy(trigger=any_succeeded))
    for name, condition in conditions.items():
        builder.add_edge("source", name, condition=condition)
    dag = builder.add_edge("quick", "started").add_edge("bad", "skipped").build()
    go_on = anyio.Event()

    async def source() -> None:
        await go_on.wait()

    async def started() -> None:
        go_on.set()

    async def bad() -> None:
        raise ValueError

    modification = DynamicModification(remove_nodes=["removed"], cancel_nodes=["cancelled"])
    tasks = {"source": source, "started": started, "bad": bad}
    tasks |= dict.fromkeys(["removed", "cancelled", "skipped"], nothing)
    executor = DynamicExecutor(dag, {"quick": changing(modification)})
    result = execute(executor, {**tasks, "quick": nothing})
    assert statuses(result) == {
        "source": "COMPLETED",
        "quick": "COMPLETED",
        "started": "COMPLETED",
        "cancelled": "CANCELLED",
        "bad": "FAILED",
        "skipped": "SKIPPED",
    }
    assert {name for name, condition in conditions.items() if condition.results} == set()


@pytest.mark.parametrize("order", [("quick", "off"), ("off", "quick")], ids="-".join)
def test_no_value_passes_an_edge_that_was_not_judged(execute: Way, order: tuple[str, str]) -> None:
    """A dependency that completes between the turn of a node that starts early and its first step:
    what its edge's condition would refuse does not reach the node, asked or not."""
    for _ in range(8):  # on trio the two end in random order
        meeting = Meeting(2)
        condition = Asked(False)

        async def end(name: str, meeting: Meeting = meeting) -> str:
            await meeting.join()
            return name

        builder = DAG.builder().add_node("join", policy=NodePolicy(trigger=any_succeeded))
        for name in order:
            builder.add_edge(name, "join", condition=condition if name == "off" else None)
        tasks: dict[str, Any] = {name: partial(end, name) for name in order}

        async def join(inputs: dict[str, str], off: str | None) -> Any:
            return dict(inputs), off

        result = execute(DynamicExecutor(builder.build()), {**tasks, "join": join})
        assert result["join"].result == ({"quick": "quick"}, None)
        assert len(condition.results) <= 1


# --- in a modification ---------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [True, False])
def test_an_edge_to_a_completed_source_is_judged_at_landing(execute: Way, answer: bool) -> None:
    """A condition on an edge that comes later is asked when it lands, once, about the result that
    is stored."""
    condition = Asked(answer)
    new = DynamicNodeSpec("new", lambda inputs: inputs)
    modification = DynamicModification([new], add_edges=[Edge("a", "new", condition=condition)])
    executor = DynamicExecutor(graph("a", "b", edges="a-b"), {"b": changing(modification)})
    result = execute(executor, {"a": lambda: "stored", "b": nothing})
    assert condition.results == ["stored"]
    assert condition.threads == {threading.get_ident()}
    if answer:
        assert result["new"].result == {"a": "stored"}
    else:
        assert result["new"].reason == by_condition("a", "new")


@pytest.mark.parametrize("answer", [True, False])
def test_an_edge_from_the_expanding_node_is_judged_when_it_completes(
    execute: Way, answer: bool
) -> None:
    """A condition on an edge from the expanding node itself is asked once the node is done."""
    condition = Asked(answer)
    modification = DynamicModification(
        [DynamicNodeSpec("new", nothing), DynamicNodeSpec("after", nothing, ["new"])],
        add_edges=[Edge("a", "new", condition=condition), Edge("a", "b", condition=condition)],
    )
    executor = DynamicExecutor(graph("a", "z", edges="z-b"), {"a": changing(modification)})
    result = execute(executor, {"a": lambda: "value", "z": condition.wait, "b": nothing})
    assert condition.results == ["value", "value"]
    assert statuses(result)["b"] == "COMPLETED"
    expected = "COMPLETED" if answer else "SKIPPED"
    assert {name: statuses(result)[name] for name in ("new", "after")} == {
        "new": expected,
        "after": expected,
    }


def test_an_edge_that_is_added_again_is_not_asked_again(execute: Way) -> None:
    """An edge that is there already, with this condition, was judged: adding it changes nothing."""
    condition = Asked()
    dag = DAG.builder().add_edge("a", "b", condition=condition).build()
    dag = dag.to_builder().add_edge("a", "c").add_edge("c", "b").build()
    again = DynamicModification(add_edges=[Edge("a", "b", condition=condition)])
    assert execute(DynamicExecutor(dag, {"c": changing(again)}), dict.fromkeys("abc", nothing)).ok
    assert len(condition.results) == 1


def test_an_edge_that_is_listed_twice_is_asked_once(execute: Way) -> None:
    """The same edge with the same condition twice in one modification is one edge."""
    condition = Asked()
    edge = Edge("a", "new", condition=condition)
    twice = DynamicModification([DynamicNodeSpec("new", nothing)], add_edges=[edge, edge])
    executor = DynamicExecutor(graph("a", "b", edges="a-b"), {"b": changing(twice)})
    assert execute(executor, dict.fromkeys("ab", nothing)).succeeded == 3
    assert len(condition.results) == 1


def test_a_refused_modification_asks_nothing(execute: Way) -> None:
    """A modification that is refused has no effect: its conditions are not called either."""
    condition = Asked()
    modification = DynamicModification(
        [DynamicNodeSpec("new", nothing)],
        add_edges=[Edge("a", "new", condition=condition), ("nowhere", "new")],
    )
    executor = DynamicExecutor(graph("a", "b", edges="a-b"), {"b": changing(modification)})
    result = execute(executor, dict.fromkeys("ab", nothing))
    assert isinstance(result["b"].error, ModificationError)
    assert condition.results == []


def test_removing_the_last_active_edge_skips_the_target(execute: Way) -> None:
    """What is left with inactive edges only is skipped by condition; what is left without edges
    runs."""
    removal = DynamicModification(
        remove_edges=[("cut", "edge"), ("cut", "free"), ("a", "free")], remove_nodes=["hub"]
    )
    builder = DAG.builder().add_edge("a", "cut")
    for name in ("edge", "free", "node"):
        builder.add_edge("a", name, condition=no)
        builder.add_edge("hub" if name == "node" else "cut", name)
    dag = builder.add_edge("cut", "hub").build()
    tasks = dict.fromkeys(dag.nodes(), nothing)
    result = execute(DynamicExecutor(dag, {"cut": changing(removal)}), tasks)
    assert {name: result[name].reason for name in ("edge", "free", "node")} == {
        "edge": by_condition("a", "edge"),
        "free": None,
        "node": by_condition("a", "node"),
    }
    assert statuses(result)["free"] == "COMPLETED"


def test_the_final_graph_has_the_conditions(execute: Way) -> None:
    """`result.dag` tells the condition of an edge, given at first or added."""
    first, second = Asked(), Asked()
    dag = DAG.builder().add_edge("a", "b", condition=first).build()
    modification = DynamicModification(
        [DynamicNodeSpec("c", nothing)], add_edges=[Edge("b", "c", condition=second)]
    )
    executor = DynamicExecutor(dag, {"b": changing(modification)})
    found = execute(executor, dict.fromkeys("ab", nothing)).dag
    assert found.condition("a", "b") is first
    assert found.condition("b", "c") is second
    assert dag.edges() == [("a", "b")]


# --- conditions that give no answer --------------------------------------------------------------


class Undecided:
    def __bool__(self) -> bool:
        raise ArithmeticError("neither")


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Strange(BaseException):
    pass


class Later:
    def __await__(self) -> Iterator[None]:
        yield


async def coroutine() -> bool:
    return True


async def asynchronous_generator() -> Any:
    yield True


def generator() -> Iterator[bool]:
    yield True


def throws(error: BaseException) -> Callable[[Any], bool]:
    def condition(result: Any) -> bool:
        raise error

    return condition


BROKEN = [
    pytest.param(throws(ValueError("text")), ValueError, id="raises"),
    pytest.param(throws(Mute()), Mute, id="raises-what-has-no-text"),
    pytest.param(throws(StopIteration()), StopIteration, id="StopIteration"),
    pytest.param(throws(GeneratorExit()), GeneratorExit, id="GeneratorExit"),
    pytest.param(throws(SystemExit(3)), SystemExit, id="SystemExit"),
    pytest.param(throws(asyncio.CancelledError()), asyncio.CancelledError, id="CancelledError"),
    pytest.param(throws(Strange()), Strange, id="BaseException"),
    pytest.param(throws(ExceptionGroup("", [OSError()])), ExceptionGroup, id="group"),
    pytest.param(lambda: True, TypeError, id="takes-no-result"),
    pytest.param(lambda result: Undecided(), ArithmeticError, id="bool-raises"),
    pytest.param(lambda result: coroutine(), None, id="coroutine"),
    pytest.param(lambda result: Later(), None, id="awaitable"),
    pytest.param(lambda result: generator(), None, id="generator"),
    pytest.param(lambda result: asynchronous_generator(), None, id="async-generator"),
]


@pytest.mark.parametrize(("condition", "cause"), BROKEN)
@pytest.mark.parametrize("added", [False, True], ids=["builder", "add_edges"])
def test_a_condition_without_an_answer_fails_its_target(
    execute: Way, condition: Any, cause: type[BaseException] | None, added: bool
) -> None:
    """A condition that raises, or returns what is no answer, fails the target with `ConditionError`
    that names the edge, and has what was raised as its cause; everything else goes on."""
    builder = DAG.builder().add_edge("a", "aside").add_edge("a", "grow").add_edge("grow", "b")
    builder.add_edge("b", "after").add_edge("aside", "last")
    expanders = {}
    if added:
        edge = Edge("a", "b", condition=condition)
        expanders = {"grow": changing(DynamicModification(add_edges=[edge]))}
    else:
        builder.add_edge("a", "b", condition=condition)
    dag = builder.build()
    result = execute(DynamicExecutor(dag, expanders), dict.fromkeys(dag.nodes(), nothing))
    assert statuses(result) == {
        **dict.fromkeys(["a", "aside", "grow", "last"], "COMPLETED"),
        "b": "FAILED",
        "after": "SKIPPED",
    }
    error = result["b"].error
    assert isinstance(error, ConditionError)
    assert error.edge == ("a", "b")
    assert "the condition on the edge from 'a' to 'b'" in str(error)
    assert type(error.__cause__) is (type(None) if cause is None else cause)
    assert (result["b"].attempts, result["b"].started_at) == (0, None)
    assert result["after"].reason == "skipped because 'b' failed"


def test_one_broken_condition_leaves_the_others_in_peace(execute: Way) -> None:
    """Of several edges from one node, one may break, one be inactive, and one be taken."""
    dag = (
        DAG.builder()
        .add_edge("a", "broken", condition=throws(ValueError()))
        .add_edge("a", "inactive", condition=no)
        .add_edge("a", "taken", condition=yes)
        .add_edge("inactive", "broken")
        .build()
    )
    result = execute(DynamicExecutor(dag), dict.fromkeys(dag.nodes(), nothing))
    assert statuses(result) == {
        "a": "COMPLETED",
        "broken": "FAILED",
        "inactive": "SKIPPED",
        "taken": "COMPLETED",
    }


def test_a_target_that_is_skipped_in_the_same_step(execute: Way) -> None:
    """A broken condition and a skip meet in one target: one of them settles it, and the run ends
    as it should."""

    async def fail() -> None:
        raise ValueError

    async def later() -> None:
        await passes(10)

    dag = (
        DAG.builder()
        .add_node("b", policy=NodePolicy(trigger=any_succeeded))
        .add_edge("z", "b")
        .add_edge("a", "b", condition=no)
        .add_edge("a", "c", condition=throws(ValueError()))
        .add_edge("b", "c")
        .build()
    )
    tasks = {"z": fail, "a": later, "b": nothing, "c": nothing}
    result = execute(DynamicExecutor(dag), tasks)
    assert statuses(result)["b"] == "SKIPPED"
    assert statuses(result)["c"] in ("FAILED", "SKIPPED")
    assert statuses(result)["a"] == "COMPLETED"


@pytest.mark.parametrize("added", [False, True], ids=["builder", "add_edges"])
def test_a_keyboard_interrupt_cancels_the_run(execute: Way, added: bool) -> None:
    """`KeyboardInterrupt` from a condition: nodes are cancelled and tidy up, nothing more starts,
    and it leaves `execute` bare."""
    log: list[str] = []

    async def wait() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            log.append("tidied")

    edge = Edge("a", "b", condition=throws(KeyboardInterrupt()))
    builder = DAG.builder().add_node("wait").add_edge("a", "grow").add_edge("grow", "b")
    expanders = {"grow": changing(DynamicModification(add_edges=[edge]))} if added else {}
    if not added:
        builder.add_edge("a", "b", condition=edge.condition)
    tasks = {"wait": wait, "b": lambda: log.append("b"), "a": nothing, "grow": nothing}
    with pytest.raises(KeyboardInterrupt):
        execute(DynamicExecutor(builder.build(), expanders), tasks)
    assert log == ["tidied"]


@pytest.mark.parametrize("added", [False, True], ids=["builder", "add_edges"])
def test_the_first_failure_may_be_a_condition(execute: Way, added: bool) -> None:
    """`on_failure="cancel"`: a condition that raises ends the run like any other failure, and the
    node that it was asked about stays COMPLETED."""
    edge = Edge("a", "b", condition=throws(ValueError()))
    builder = DAG.builder().add_node("wait").add_edge("a", "grow").add_edge("grow", "b")
    builder.add_edge("wait", "never").add_edge("b", "after")
    expanders = {"grow": changing(DynamicModification(add_edges=[edge]))} if added else {}
    if not added:
        builder.add_edge("a", "b", condition=edge.condition)
    executor = DynamicExecutor(builder.build(), expanders, on_failure="cancel")
    tasks = {"wait": anyio.sleep_forever, **dict.fromkeys(["a", "b", "after", "never"], nothing)}
    result = execute(executor, {**tasks, "grow": nothing})
    found = statuses(result)
    assert (found["a"], found["b"], found["after"]) == ("COMPLETED", "FAILED", "SKIPPED")
    assert (found["wait"], found["never"]) == ("CANCELLED", "CANCELLED")
    assert found["grow"] == ("COMPLETED" if added else "CANCELLED")
    assert result.reason == "the run was ended because 'b' failed"
    assert result["never"].reason == result.reason


@pytest.mark.parametrize("added", [False, True], ids=["builder", "add_edges"])
async def test_a_kept_error_does_not_keep_the_run(added: bool) -> None:
    """FAULTS: the error of a condition, kept by the program, keeps neither the state of its run nor
    the results of other nodes."""

    def sing() -> Canary:
        return Canary()

    edge = Edge("a", "b", condition=throws(ValueError()))
    builder = DAG.builder().add_node("canary").add_edge("a", "grow").add_edge("grow", "b")
    expanders = {"grow": changing(DynamicModification(add_edges=[edge]))} if added else {}
    if not added:
        builder.add_edge("a", "b", condition=edge.condition)
    tasks = dict.fromkeys(["a", "b", "grow"], nothing) | {"canary": sing}
    with new_objects_only() as alive:
        result = await run(builder.build(), tasks, expanders)
        error = result["b"].error
        assert isinstance(error, ConditionError)
        assert [type(thing) for thing in alive(1)] == [Canary]
        del result
        assert alive() == []


async def test_a_condition_may_cancel_the_node_that_it_asks_about() -> None:
    """The source has finished when its conditions are asked: cancelling it does nothing."""

    def condition(result: Any) -> bool:
        handle.cancel_node("a")
        return True

    dag = DAG.builder().add_edge("a", "b", condition=condition).build()
    async with DynamicExecutor(dag).start(dict.fromkeys("ab", nothing)) as handle:
        result = await handle.wait()
    assert statuses(result) == {"a": "COMPLETED", "b": "COMPLETED"}


async def test_a_condition_may_cancel_its_target() -> None:
    """A condition that cancels its own target through the handle: the target is CANCELLED."""

    def condition(result: Any) -> bool:
        handle.cancel_node("b")
        return True

    dag = DAG.builder().add_edge("a", "b", condition=condition).add_edge("b", "c").build()
    async with DynamicExecutor(dag).start(dict.fromkeys("abc", nothing)) as handle:
        result = await handle.wait()
    assert statuses(result) == {"a": "COMPLETED", "b": "CANCELLED", "c": "SKIPPED"}


async def test_a_condition_may_end_the_run() -> None:
    """`run.cancel()` from within a condition: what was asked about has completed, the rest is
    CANCELLED."""

    def condition(result: Any) -> bool:
        handle.cancel("enough")
        return True

    dag = DAG.builder().add_edge("a", "b", condition=condition).add_edge("b", "c").build()
    async with DynamicExecutor(dag).start(dict.fromkeys("abc", nothing)) as handle:
        result = await handle.wait()
    assert statuses(result) == {"a": "COMPLETED", "b": "CANCELLED", "c": "CANCELLED"}
    assert result.reason == "the run was cancelled: enough"


@ON_ASYNCIO
async def test_a_condition_that_cancels_the_current_task() -> None:
    """FAULTS: a condition can cancel neither the node that it asks about nor any other."""

    def condition(result: Any) -> bool:
        task = asyncio.current_task()
        assert task is not None
        return task.cancel()

    dag = DAG.builder().add_edge("a", "b", condition=condition).add_node("other").build()
    tasks = {"a": coroutine, "b": coroutine, "other": passes}
    result = await run(dag, tasks)
    assert statuses(result) == dict.fromkeys(("a", "b", "other"), "COMPLETED")


# --- what is refused before ----------------------------------------------------------------------


class AsyncCall:
    async def __call__(self, result: Any) -> bool:
        return True


@pytest.mark.parametrize(
    ("condition", "what"),
    [
        (coroutine, "an async function"),
        (partial(coroutine), "an async function"),
        (AsyncCall(), "an async function"),
        (AsyncCall().__call__, "an async function"),
        (generator, "a generator function"),
        (asynchronous_generator, "an async generator function"),
        ("yes", "'yes', which cannot be called"),
        (True, "True, which cannot be called"),
    ],
)
def test_what_cannot_answer_is_refused(condition: Any, what: str) -> None:
    """`async def`, generators and what is no function are a `TypeError` that names the edge."""
    text = rf"the condition on the edge from 'a' to 'b' is {what}.*\n  help: "
    with pytest.raises(TypeError, match=text):
        DAG.builder().add_edge("a", "b", condition=condition)
    with pytest.raises(TypeError, match=text):
        Edge("a", "b", condition=condition)
