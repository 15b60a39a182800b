"""`cancel_nodes` in a modification: the first good answer wins (DESIGN.md section 4)."""

import asyncio
import threading
from collections.abc import Mapping
from functools import partial
from typing import Any

import anyio
import pytest

from controls import statuses
from dagron import (
    DAG,
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    Gate,
    ModificationError,
    NodePolicy,
    Retry,
    all_done,
    any_succeeded,
    check_cancelled,
)
from faults import ON_ASYNCIO, graph, run, until
from ways import GUARD, Meeting, Way, adding, changing, nothing, passes


def cancelling(*names: str, **more: Any) -> Any:
    """Return an expander that cancels these nodes."""
    return changing(DynamicModification(cancel_nodes=names, **more))


def requested(by: str) -> str:
    return f"cancelled by {by!r}"


class Waits:
    """An async task that waits until it is cancelled, and tells when it has begun and ended."""

    def __init__(self) -> None:
        self.begun = anyio.Event()
        self.ended = False

    async def __call__(self) -> None:
        self.begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            self.ended = True

    async def has_begun(self) -> None:
        with anyio.fail_after(GUARD):
            await self.begun.wait()


# --- the first good answer wins ------------------------------------------------------------------


def race(winner: str, join: NodePolicy | None, cut: bool) -> DynamicExecutor:
    """Return a race of three, whose winner cancels the others, and cuts their edges if it is to."""
    racers = ["loop", "thread", "other"]
    builder = DAG.builder().add_node("join", policy=join)
    for name in racers:
        builder.add_edge(name, "join")
    losers = [name for name in racers if name != winner]
    edges = [(name, "join") for name in losers] if cut else []
    return DynamicExecutor(builder.build(), {winner: cancelling(*losers, remove_edges=edges)})


@pytest.mark.parametrize("winner", ["loop", "thread"])
@pytest.mark.parametrize("cut", [False, True], ids=["any_succeeded", "edges removed"])
def test_the_first_good_answer_wins(execute: Way, winner: str, cut: bool) -> None:
    """Of three racers, on the loop and in threads, the first that is done cancels the others. The
    join, by its trigger or since the losers' edges are gone, waits only for what is left: it runs
    while a losing thread is still at work."""
    loop, thread, release = threading.Event(), threading.Event(), threading.Event()
    tidied: list[str] = []

    async def on_loop() -> str:
        loop.set()
        try:
            await until(thread.is_set)
            if winner != "loop":
                await anyio.sleep_forever()
            return "loop"
        finally:
            tidied.append("loop")

    def in_thread() -> str:
        thread.set()
        assert loop.wait(GUARD)
        if winner != "thread":
            assert release.wait(GUARD)
        return "thread"

    async def join(inputs: Mapping[str, Any]) -> dict[str, Any]:
        release.set()
        return dict(inputs)

    tasks = {"loop": on_loop, "thread": in_thread, "other": anyio.sleep_forever, "join": join}
    policy = None if cut else NodePolicy(trigger=any_succeeded)
    result = execute(race(winner, policy, cut), tasks)
    losers = {"loop", "thread", "other"} - {winner}
    assert statuses(result) == {
        **dict.fromkeys([winner, "join"], "COMPLETED"),
        **dict.fromkeys(losers, "CANCELLED"),
    }
    assert result["join"].result == {winner: winner}
    assert {result[name].reason for name in losers} == {requested(winner)}
    assert tidied == ["loop"]
    assert (result.ok, result.cancelled, result.failed, result.reason) == (True, 2, 0, None)
    assert result.raise_for_failures() is None


def test_a_thread_may_stop_early(execute: Way) -> None:
    """`check_cancelled()` in a losing thread raises, and the node ends without an error."""
    begun = threading.Event()
    reached: list[str] = []

    def loser() -> None:
        begun.set()
        try:
            while True:
                check_cancelled()
        finally:
            reached.append("finally")

    dag = graph("winner", "loser")
    executor = DynamicExecutor(dag, {"winner": cancelling("loser")})
    result = execute(executor, {"winner": lambda: until(begun.is_set), "loser": loser})
    assert statuses(result) == {"winner": "COMPLETED", "loser": "CANCELLED"}
    assert (result["loser"].error, result["loser"].attempts) == (None, 1)
    assert reached == ["finally"]


def test_two_who_are_done_at_once(execute: Way) -> None:
    """Two racers whose bodies end in the same moment: one wins, and the other, whose expander has
    not landed, is cancelled; never both, never none."""
    meeting = Meeting(2)

    async def expand(name: str, result: Any) -> DynamicModification:
        await passes(3)
        return DynamicModification(
            [DynamicNodeSpec(f"after_{name}", nothing, [name])],
            cancel_nodes=["b" if name == "a" else "a"],
        )

    dag = DAG.builder().add_edge("a", "join").add_edge("b", "join")
    dag = dag.add_node("join", policy=NodePolicy(trigger=any_succeeded)).build()
    executor = DynamicExecutor(dag, {"a": expand, "b": expand})
    result = execute(executor, {"a": meeting.join, "b": meeting.join, "join": nothing})
    assert {statuses(result)[name] for name in "ab"} == {"COMPLETED", "CANCELLED"}
    winner = "a" if statuses(result)["a"] == "COMPLETED" else "b"
    assert result.dag.match("after_*") == [f"after_{winner}"]
    assert result.ok


def test_a_bad_answer_does_not_end_the_race(execute: Way) -> None:
    """An expander that finds its racer's answer no good changes nothing; one that failed is out,
    and stays FAILED whoever wins."""

    async def fail() -> None:
        raise ValueError

    async def bad() -> str:
        return "bad"

    async def judge(name: str, answer: str) -> DynamicModification | None:
        others = [other for other in "abcd" if other != name]
        return DynamicModification(cancel_nodes=others) if answer == "good" else None

    waits = Waits()

    async def late() -> str:
        await waits.has_begun()
        await passes(10)
        return "good"

    builder = DAG.builder().add_node("join", policy=NodePolicy(trigger=any_succeeded))
    for name in "abcd":
        builder.add_edge(name, "join")
    executor = DynamicExecutor(builder.build(), dict.fromkeys("abcd", judge))
    tasks = {"a": fail, "b": bad, "c": waits, "d": late, "join": nothing}
    result = execute(executor, tasks)
    assert statuses(result) == {
        "a": "FAILED",
        **dict.fromkeys(["b", "d", "join"], "COMPLETED"),
        "c": "CANCELLED",
    }
    assert not result.ok


# --- whom it reaches -----------------------------------------------------------------------------


def test_waiting_and_ready_nodes_never_start(execute: Way) -> None:
    """A node that waits for dependencies or for a slot ends CANCELLED without an attempt; in
    whatever order they are named."""
    for names in (["ready", "waiting", "behind"], ["behind", "waiting", "ready"]):
        ran: list[str] = []
        dag = graph("first", "ready", edges="first-waiting waiting-behind behind-last")
        tasks = {name: partial(ran.append, name) for name in dag}
        executor = DynamicExecutor(dag, {"first": cancelling(*names)}, max_concurrency=1)
        result = execute(executor, tasks)
        assert ran == ["first"]
        for name in names:
            node = result[name]
            assert (node.status, node.reason) == ("CANCELLED", requested("first"))
            assert (node.attempts, node.started_at, node.duration_seconds) == (0, None, 0.0)
        assert result["last"].reason == "skipped because 'behind' was cancelled"
        assert result.ok


def test_what_needs_a_cancelled_node_is_skipped(execute: Way) -> None:
    """Dependents that still need it are SKIPPED, with a reason that names it, and theirs too;
    triggers decide as ever; who was cut loose runs."""
    waits = Waits()
    builder = DAG.builder().add_edge("loser", "needs").add_edge("needs", "after")
    for name, trigger in {"done": all_done, "any": any_succeeded}.items():
        builder.add_edge("loser", name).add_edge("winner", name)
        builder.add_node(name, policy=NodePolicy(trigger=trigger))
    dag = builder.add_edge("loser", "loose").add_edge("loser", "needs_too").build()
    expander = cancelling("loser", remove_edges=[("loser", "loose")])
    tasks = dict.fromkeys(dag, nothing) | {"winner": waits.has_begun, "loser": waits}
    result = execute(DynamicExecutor(dag, {"winner": expander}), tasks)
    skipped = dict.fromkeys(["needs", "after", "needs_too"], "SKIPPED")
    completed = dict.fromkeys(["winner", "done", "any", "loose"], "COMPLETED")
    assert statuses(result) == {"loser": "CANCELLED", **skipped, **completed}
    assert {result[name].reason for name in skipped} == {"skipped because 'loser' was cancelled"}


def test_what_is_over_is_left_alone(execute: Way) -> None:
    """Cancelling a node that has completed, failed, been skipped or removed, also by this very
    modification, changes nothing: it lost the race."""

    def fail() -> None:
        raise ValueError

    builder = DAG.builder().add_node("last", policy=NodePolicy(trigger=all_done))
    for edge in ["bad-lost", "good-step", "good-gone", "step-going", "lost-last", "step-last"]:
        builder.add_edge(*edge.split("-"))
    late = DynamicNodeSpec("late", nothing, ["last"])
    over = ["good", "bad", "lost", "step", "gone", "going"]
    expanders = {
        "good": changing(DynamicModification(remove_nodes=["gone"])),
        "step": cancelling("good", "gone", "going", remove_nodes=["going"]),
        "last": cancelling(*over, add_nodes=[late]),
    }
    dag = builder.build()
    tasks = dict.fromkeys(dag, nothing) | {"bad": fail}
    result = execute(DynamicExecutor(dag, expanders), tasks)
    assert statuses(result) == {
        **dict.fromkeys(["good", "step", "last", "late"], "COMPLETED"),
        "bad": "FAILED",
        "lost": "SKIPPED",
    }
    assert result.removed == ("gone", "going")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "losr",
            "node 'losr' cannot be cancelled: it does not exist\n  help: did you mean 'loser'?",
        ),
        ("winner", "node 'winner' cannot cancel itself\n  help: raise"),
        (
            "new",
            "node 'new' cannot be cancelled: it is only just being added\n  help: leave it out",
        ),
    ],
)
def test_whom_nobody_can_cancel(execute: Way, name: str, text: str) -> None:
    """A name that does not exist, the expanding node itself, and a node that is only being added:
    a fault, and nothing of the modification lands."""
    last = anyio.Event()

    async def loser() -> str:
        with anyio.fail_after(GUARD):
            await last.wait()
        return "done"

    async def after() -> None:
        last.set()

    builder = DAG.builder().add_node("after", policy=NodePolicy(trigger=all_done))
    dag = builder.add_edge("winner", "after").add_node("loser").build()
    new = DynamicNodeSpec("new", nothing)
    expander = changing(DynamicModification([new], cancel_nodes=["loser", name]))
    tasks = {"winner": nothing, "loser": loser, "after": after}
    result = execute(DynamicExecutor(dag, {"winner": expander}), tasks)
    assert statuses(result) == {"winner": "FAILED", "loser": "COMPLETED", "after": "COMPLETED"}
    error = result["winner"].error
    assert isinstance(error, ModificationError)
    assert text in str(error)


def test_a_new_node_after_one_that_is_cancelled(execute: Way) -> None:
    """A node that the same modification puts behind one that it cancels is SKIPPED, and a clean-up
    behind it runs; be it at work or waiting."""
    waits = Waits()
    added = []
    for name in ("loser", "waiting"):
        added.append(DynamicNodeSpec(f"after_{name}", nothing, [name]))
        policy = NodePolicy(trigger=all_done)
        added.append(DynamicNodeSpec(f"clean_{name}", nothing, [name], policy=policy))
    dag = graph("winner", "loser", edges="loser-waiting")
    expander = changing(DynamicModification(added, cancel_nodes=["loser", "waiting"]))
    tasks = {"winner": waits.has_begun, "loser": waits, "waiting": nothing}
    result = execute(DynamicExecutor(dag, {"winner": expander}), tasks)
    assert statuses(result) == {
        "winner": "COMPLETED",
        **dict.fromkeys(["loser", "waiting"], "CANCELLED"),
        **dict.fromkeys(["after_loser", "after_waiting"], "SKIPPED"),
        **dict.fromkeys(["clean_loser", "clean_waiting"], "COMPLETED"),
    }


def test_the_first_request_counts(execute: Way) -> None:
    """A node that two expanders cancel tells who was first."""
    waits = Waits()
    first = anyio.Event()

    async def loser() -> None:
        try:
            await waits()
        finally:
            with anyio.CancelScope(shield=True), anyio.fail_after(GUARD):
                await first.wait()

    async def open_first() -> None:
        first.set()

    dag = graph("a", "loser", edges="a-b b-c")
    expanders = {"a": cancelling("loser"), "b": cancelling("loser")}
    tasks = {"a": waits.has_begun, "b": nothing, "c": open_first, "loser": loser}
    result = execute(DynamicExecutor(dag, expanders), tasks)
    assert result["loser"].reason == requested("a")


async def test_a_modification_from_outside() -> None:
    """`run.modify` with `cancel_nodes`: the reason says that it came from the program."""
    waits = Waits()
    dag = graph("loser", "waiting", edges="loser-waiting")
    async with DynamicExecutor(dag).start({"loser": waits, "waiting": nothing}) as handle:
        await waits.has_begun()
        await handle.modify(DynamicModification(cancel_nodes=["loser", "waiting"]))
        result = await handle.wait()
    reason = "cancelled by the program, through the run's handle"
    assert [result[name].reason for name in result] == [reason, reason]
    assert result.ok


def test_a_crowd_of_losers(execute: Way) -> None:
    """2,000 nodes, some at work, the others ready or waiting, are cancelled at one go."""
    names = [f"n{i}" for i in range(1_000)]
    dag = graph("winner", *names, edges=" ".join(f"{name}-{name}_after" for name in names))
    losers = [name for name in dag if name != "winner"]
    tasks = dict.fromkeys(losers, anyio.sleep_forever) | {"winner": passes}
    executor = DynamicExecutor(dag, {"winner": cancelling(*losers)}, max_concurrency=100)
    result = execute(executor, tasks)
    assert (result.succeeded, result.cancelled, result.skipped) == (1, 2_000, 0)
    assert sum(node.attempts for node in result.node_results.values()) == 100


# --- how they end --------------------------------------------------------------------------------


class Unusual(BaseException):
    pass


def test_a_cancelled_node_tidies_up(execute: Way) -> None:
    """Its `finally` blocks run, and what they await behind a shield is awaited, before the run
    ends."""
    begun = anyio.Event()
    log: list[str] = []

    async def loser() -> None:
        try:
            begun.set()
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await passes(20)
                log.append("tidied")

    async def winner() -> None:
        with anyio.fail_after(GUARD):
            await begun.wait()

    dag = graph("winner", "loser")
    executor = DynamicExecutor(dag, {"winner": cancelling("loser")})
    result = execute(executor, {"winner": winner, "loser": loser})
    assert log == ["tidied"]
    assert statuses(result)["loser"] == "CANCELLED"


@pytest.mark.parametrize("on_failure", ["skip", "cancel"])
def test_one_that_swallows_its_cancellation(execute: Way, on_failure: Any) -> None:
    """A node that returns a value all the same ends CANCELLED: nobody waits for that value."""
    begun = anyio.Event()

    async def loser() -> str:
        begun.set()
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            return "a value"
        raise AssertionError

    async def winner() -> None:
        with anyio.fail_after(GUARD):
            await begun.wait()

    dag = graph("winner", "loser", edges="loser-after winner-last")
    expanded: list[str] = []
    expanders = {"winner": cancelling("loser"), "loser": lambda name, result: expanded.append(name)}
    tasks = {"winner": winner, "loser": loser, "after": nothing, "last": passes}
    result = execute(DynamicExecutor(dag, expanders, on_failure=on_failure), tasks)
    assert statuses(result) == {
        **dict.fromkeys(["winner", "last"], "COMPLETED"),
        "loser": "CANCELLED",
        "after": "SKIPPED",
    }
    assert (result["loser"].error, result["loser"].reason) == (None, requested("winner"))
    assert expanded == []
    assert result.ok


@pytest.mark.parametrize("on_failure", ["skip", "cancel"])
@pytest.mark.parametrize(
    "error", [ValueError("untidy"), SystemExit(3), Unusual(), StopAsyncIteration()]
)
def test_one_that_raises_while_it_tidies_up(
    execute: Way, error: BaseException, on_failure: Any
) -> None:
    """What a cancelled node raises instead is kept in `error`; it ends CANCELLED, and the run is
    `ok` and goes on."""
    waits = Waits()

    async def loser() -> None:
        try:
            await waits()
        finally:
            raise error

    dag = graph("winner", "loser", edges="loser-after winner-last")
    tasks = {"winner": waits.has_begun, "loser": loser, "after": nothing, "last": passes}
    executor = DynamicExecutor(dag, {"winner": cancelling("loser")}, on_failure=on_failure)
    result = execute(executor, tasks)
    assert statuses(result) == {
        **dict.fromkeys(["winner", "last"], "COMPLETED"),
        "loser": "CANCELLED",
        "after": "SKIPPED",
    }
    assert result["loser"].error is error
    assert result["loser"].reason == requested("winner")
    assert result.ok
    assert result.raise_for_failures() is None


def test_one_whose_task_group_fails_while_it_tidies_up(execute: Way) -> None:
    """A loser that works in a task group, of which one child raises on its cancellation, ends
    CANCELLED with the group as its error."""
    waits = Waits()

    async def untidy() -> None:
        try:
            await waits()
        finally:
            raise OSError

    async def loser() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(untidy)
            group.start_soon(anyio.sleep_forever)

    executor = DynamicExecutor(graph("winner", "loser"), {"winner": cancelling("loser")})
    result = execute(executor, {"winner": waits.has_begun, "loser": loser})
    assert statuses(result)["loser"] == "CANCELLED"
    error = result["loser"].error
    assert isinstance(error, BaseExceptionGroup)
    assert error.subgroup(OSError) is not None
    assert result.ok


def test_a_keyboard_interrupt_is_not_lost_in_a_clean_up(execute: Way) -> None:
    """`KeyboardInterrupt` raised by a node on its cancellation still cancels the run."""
    waits, other = Waits(), Waits()

    async def loser() -> None:
        try:
            await waits()
        finally:
            raise KeyboardInterrupt

    dag = graph("winner", "loser", "other", edges="winner-last")
    executor = DynamicExecutor(dag, {"winner": cancelling("loser")})
    tasks = {"winner": waits.has_begun, "loser": loser, "other": other}
    with pytest.raises(KeyboardInterrupt):
        execute(executor, {**tasks, "last": anyio.sleep_forever})
    assert other.ended


def test_a_thread_that_raises_after_it_was_cancelled(execute: Way) -> None:
    """A losing thread's exception is kept in `error`; it is neither retried nor a failure."""
    begun, lost = threading.Event(), threading.Event()
    attempts: list[int] = []

    def loser() -> None:
        attempts.append(1)
        begun.set()
        assert lost.wait(GUARD)
        raise ValueError("too late")

    async def winner() -> None:
        await until(begun.is_set)

    async def after() -> None:
        lost.set()

    policy = NodePolicy(retry=Retry(5, initial_delay=0))
    dag = DAG.builder().add_node("loser", policy=policy).add_edge("winner", "after").build()
    executor = DynamicExecutor(dag, {"winner": cancelling("loser")}, on_failure="cancel")
    result = execute(executor, {"winner": winner, "loser": loser, "after": after})
    assert attempts == [1]
    assert statuses(result)["loser"] == "CANCELLED"
    assert str(result["loser"].error) == "too late"
    assert result.ok


def test_a_node_that_was_about_to_start(execute: Way) -> None:
    """A node that is cancelled between its turn and its first step never begins: what was called
    was an attempt, and what was not was none."""
    called: list[str] = []

    async def winner() -> None:
        return None

    async def expand(name: str, result: Any) -> DynamicModification:
        return DynamicModification(cancel_nodes=losers)

    async def on_loop() -> None:
        called.append("on_loop")
        await anyio.sleep_forever()

    losers = ["sync_0", "async_0", "sync_1", "async_1"]
    tasks: dict[str, Any] = {"winner": winner}
    for name in losers:
        tasks[name] = on_loop if "async" in name else lambda: called.append("sync")
    executor = DynamicExecutor(graph("winner", *losers), {"winner": expand}, max_workers=2)
    result = execute(executor, tasks)
    ended = [result[name] for name in losers if result[name].status == "CANCELLED"]
    assert len(ended) >= 2
    assert len(called) == sum(result[name].attempts for name in losers)
    for node in ended:
        assert node.reason == requested("winner")
        assert (node.started_at is None) == (node.attempts == 0)


@pytest.mark.parametrize("on_thread", [False, True])
def test_a_node_whose_expander_is_in_flight(execute: Way, on_thread: bool) -> None:
    """A node is cancelled until its modification has landed: an async expander is cancelled, what a
    sync one returns is dropped, and the value of the body is kept."""
    begun, end = threading.Event(), threading.Event()
    log: list[str] = []

    async def on_loop(name: str, result: Any) -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            log.append("tidied")

    def in_thread(name: str, result: Any) -> DynamicModification:
        begun.set()
        assert end.wait(GUARD)
        log.append("tidied")
        return DynamicModification([DynamicNodeSpec("new", nothing, [name])])

    async def winner() -> None:
        await until(begun.is_set)

    async def after() -> None:
        end.set()

    dag = graph("loser", edges="loser-needs winner-after")
    expanders = {"loser": in_thread if on_thread else on_loop, "winner": cancelling("loser")}
    tasks = {"loser": lambda: "value", "winner": winner, "after": after, "needs": nothing}
    result = execute(DynamicExecutor(dag, expanders), tasks)
    assert statuses(result) == {
        "loser": "CANCELLED",
        "needs": "SKIPPED",
        **dict.fromkeys(["winner", "after"], "COMPLETED"),
    }
    assert (result["loser"].result, result["loser"].error) == ("value", None)
    assert log == ["tidied"]


# --- who holds no slot at the moment -------------------------------------------------------------


def test_a_node_between_attempts(execute: Way) -> None:
    """A node that waits an hour for its next attempt is cancelled at once; the errors of its
    attempts are kept."""
    error = ValueError()
    failed = anyio.Event()

    async def flaky() -> None:
        failed.set()
        raise error

    async def winner() -> None:
        with anyio.fail_after(GUARD):
            await failed.wait()
        await passes(5)

    policy = NodePolicy(retry=Retry(5, initial_delay=3600, max_delay=3600, jitter=0))
    dag = DAG.builder().add_node("flaky", policy=policy).add_node("winner").build()
    executor = DynamicExecutor(dag, {"winner": cancelling("flaky")})
    with_guard = execute(executor, {"flaky": flaky, "winner": winner}, timeout=GUARD)
    node = with_guard["flaky"]
    assert (node.status, node.reason) == ("CANCELLED", requested("winner"))
    assert (node.attempts, node.errors) == (1, (error,))
    assert with_guard.ok


def test_a_node_that_waits_for_a_slot_again(execute: Way) -> None:
    """A node whose next attempt waits for a slot is cancelled there, and takes none."""
    attempts: list[int] = []
    failed = anyio.Event()

    async def flaky() -> None:
        attempts.append(1)
        failed.set()
        raise ValueError

    async def winner() -> None:
        with anyio.fail_after(GUARD):
            await failed.wait()
        await passes(20)

    policy = NodePolicy(retry=Retry(9, initial_delay=0), priority=1)
    dag = DAG.builder().add_node("flaky", policy=policy).add_node("winner").add_node("last")
    executor = DynamicExecutor(dag.build(), {"winner": cancelling("flaky")}, max_concurrency=1)
    result = execute(executor, {"flaky": flaky, "winner": winner, "last": nothing})
    assert attempts == [1]
    assert statuses(result) == {
        "flaky": "CANCELLED",
        **dict.fromkeys(["winner", "last"], "COMPLETED"),
    }


def test_a_node_at_a_gate(execute: Way) -> None:
    """A node that waits at a gate is cancelled; others who wait there go on."""
    gate = Gate()

    async def opens() -> None:
        gate.open("opened")

    dag = graph("loser", "waits", edges="winner-opens")
    executor = DynamicExecutor(dag, {"winner": cancelling("loser")}, max_concurrency=1)
    tasks = {"loser": gate.wait, "waits": gate.wait, "winner": nothing, "opens": opens}
    result = execute(executor, tasks)
    assert statuses(result) == {
        "loser": "CANCELLED",
        **dict.fromkeys(["waits", "winner", "opens"], "COMPLETED"),
    }
    assert result["waits"].result == "opened"


def test_a_node_that_waits_for_a_worker(execute: Way) -> None:
    """A sync node in line for the only worker is cancelled without a thread; the next one runs."""
    begun, end = threading.Event(), threading.Event()
    ran: list[str] = []

    def busy() -> None:
        begun.set()
        assert end.wait(GUARD)

    async def winner() -> None:
        await until(begun.is_set)

    async def expand(name: str, result: Any) -> DynamicModification:
        return DynamicModification(cancel_nodes=["loser"])

    async def after() -> None:
        end.set()

    tasks: dict[str, Any] = {"busy": busy, "winner": winner, "after": after}
    tasks |= {name: lambda name=name: ran.append(name) for name in ("loser", "next")}
    dag = graph("busy", "loser", "next", edges="winner-after")
    result = execute(DynamicExecutor(dag, {"winner": expand}, max_workers=1), tasks)
    assert ran == ["next"]
    assert (result["loser"].status, result["loser"].attempts) == ("CANCELLED", 0)


# --- what a loser may be doing -------------------------------------------------------------------


def test_a_loser_that_runs_a_graph_of_its_own(execute: Way) -> None:
    """A nested run in a cancelled node is cancelled with it: its nodes tidy up."""
    inner = Waits()
    nested = DynamicExecutor(graph("inner"))
    dag = graph("winner", "loser")
    executor = DynamicExecutor(dag, {"winner": cancelling("loser")})
    tasks = {"winner": inner.has_begun, "loser": lambda: nested.execute({"inner": inner})}
    result = execute(executor, tasks)
    assert statuses(result) == {"winner": "COMPLETED", "loser": "CANCELLED"}
    assert inner.ended


async def in_task_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(3600))
        await asyncio.sleep(3600)


async def in_timeout() -> None:
    async with asyncio.timeout(3600):
        await asyncio.sleep(3600)


async def in_wait_for() -> None:
    await asyncio.wait_for(asyncio.sleep(3600), 3600)


async def in_gather() -> None:
    await asyncio.gather(asyncio.sleep(3600), asyncio.sleep(3600))


async def on_a_future() -> None:
    await asyncio.get_running_loop().create_future()


@ON_ASYNCIO
@pytest.mark.parametrize("loser", [in_task_group, in_timeout, in_wait_for, in_gather, on_a_future])
async def test_a_loser_in_asyncios_own_constructs(loser: Any) -> None:
    """Whatever of asyncio a loser waits in, it is cancelled, alone, and leaves nothing behind."""

    async def winner() -> None:
        await passes(5)

    tasks = {"winner": winner, "loser": loser, "other": passes, "last": passes}
    dag = graph("winner", "loser", "other", edges="winner-last")
    result = await run(dag, tasks, {"winner": cancelling("loser")})
    assert statuses(result) == {
        **dict.fromkeys(["winner", "other", "last"], "COMPLETED"),
        "loser": "CANCELLED",
    }
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@ON_ASYNCIO
async def test_a_loser_that_fails_by_a_foreign_cancellation() -> None:
    """A node that a library cancelled before anybody else did is FAILED, not CANCELLED: cancelling
    it afterwards changes nothing."""

    async def loser() -> None:
        raise asyncio.CancelledError

    dag = graph("winner", "loser")
    tasks = {"winner": passes, "loser": loser}
    result = await run(dag, tasks, {"winner": cancelling("loser")})
    assert statuses(result) == {"winner": "COMPLETED", "loser": "FAILED"}


def test_an_expander_may_add_the_next_round(execute: Way) -> None:
    """A modification may cancel the losers of one round and add the racers of the next, thrice."""
    begun: list[Waits] = []

    def round_of(number: int) -> list[DynamicNodeSpec]:
        waits = Waits()
        begun.append(waits)
        names = [f"quick_{number}", f"slow_{number}"]
        before = [f"quick_{number - 1}"] if number else ["start"]
        quick = DynamicNodeSpec(names[0], waits.has_begun, before, expander=expand)
        return [quick, DynamicNodeSpec(names[1], waits, before, ["end"])]

    def expand(name: str, result: Any) -> DynamicModification:
        number = int(name.rpartition("_")[2])
        specs = round_of(number + 1) if number < 2 else []
        slow = f"slow_{number}"
        return DynamicModification(specs, cancel_nodes=[slow], remove_edges=[(slow, "end")])

    dag = graph(edges="start-end")
    executor = DynamicExecutor(dag, {"start": adding(*round_of(0))})
    result = execute(executor, {"start": nothing, "end": nothing})
    assert (result.succeeded, result.cancelled, result.ok) == (5, 3, True)
    assert [waits.ended for waits in begun] == [True, True, True]
    assert result["slow_2"].reason == requested("quick_2")
