"""Groups and priorities, as a user of an executor sees them (DESIGN.md section 5)."""

import threading
from collections.abc import Callable
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
    InvalidNameError,
    Limits,
    ModificationError,
    NodePolicy,
    Retry,
    UnknownGroupError,
    check_cancelled,
)
from faults import run, until
from grouped import G, inside, inside_thread, nodes, numbered, wait
from ways import GUARD, Inside, Way, adding, changing, nothing, passes

A_MOMENT = 0.05  # seconds: a timeout for what would take for ever


# --- groups --------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_the_limit_of_a_group_holds(execute: Way, limit: int) -> None:
    """So many nodes of a group run at once, neither more nor fewer, while others go past them."""
    group, free = Inside(), Inside()
    names, others = numbered(12), ["a", "b", "c", "d"]
    dag = nodes(G, *names, others=" ".join(others))
    tasks = dict.fromkeys(names, inside(group)) | dict.fromkeys(others, inside(free))
    result = execute(DynamicExecutor(dag, limits={"g": limit}), tasks)
    assert result.succeeded == 16
    assert (group.most, group.entered) == (limit, 12)
    assert free.most == 4


def test_sync_and_async_nodes_share_a_group(execute: Way) -> None:
    """A group counts nodes on the loop and nodes in threads alike: with two slots, one of each can
    be inside at once, and never three."""
    group = Inside()
    in_thread, on_loop = threading.Event(), threading.Event()

    def sync() -> None:
        with group:
            in_thread.set()
            assert on_loop.wait(GUARD)

    async def asynchronous() -> None:
        with group:
            on_loop.set()
            await until(in_thread.is_set)

    names = numbered(10)
    dag = nodes(G, "sync", "async", *names)
    tasks: dict[str, Any] = {"sync": sync, "async": asynchronous}
    for position, name in enumerate(names):
        tasks[name] = inside(group) if position % 2 else inside_thread(group)
    assert execute(DynamicExecutor(dag, limits={"g": 2}), tasks).ok
    assert (group.most, group.entered) == (2, 12)


def test_a_node_in_several_groups_takes_a_slot_of_each(execute: Way) -> None:
    """While it runs, it counts in each of its groups; while it waits, in none."""
    g, h = Inside(), Inside()
    both = NodePolicy(group=("g", "h"))
    builder = DAG.builder()
    tasks: dict[str, Any] = {}
    for name in numbered(6):
        builder.add_node(f"g_{name}", policy=G)
        builder.add_node(f"both_{name}", policy=both)
        builder.add_node(f"h_{name}", policy=NodePolicy(group=["h"]))
        tasks |= {f"g_{name}": inside(g), f"h_{name}": inside(h), f"both_{name}": inside(g, h)}
    assert execute(DynamicExecutor(builder.build(), limits={"g": 2, "h": 1}), tasks).ok
    assert (g.most, h.most) == (2, 1)
    assert (g.entered, h.entered) == (12, 12)


def test_who_waits_for_one_of_two_groups_holds_none(execute: Way) -> None:
    """A node of two groups, of which one is busy, leaves the slot of the other to others."""
    done = anyio.Event()
    dag = nodes(G, "busy").to_builder().add_node("both", policy=NodePolicy(group=("g", "h")))
    dag = dag.add_node("other", policy=NodePolicy(group="h")).build()

    async def other() -> None:
        done.set()

    tasks = {"busy": lambda: wait(done), "both": nothing, "other": other}
    assert execute(DynamicExecutor(dag, limits={"g": 1, "h": 1}), tasks).ok


def test_who_waits_for_a_group_holds_nothing_back(execute: Way) -> None:
    """However many wait for a busy group, nodes of another group, sync nodes on the only worker,
    and nodes under `max_concurrency` go past them."""
    others = ["idle", "thread", "loop"]
    done: list[str] = []
    all_done = anyio.Event()

    async def busy() -> None:
        await wait(all_done)

    async def note(name: str) -> None:
        done.append(name)
        if len(done) == len(others):
            all_done.set()

    names = numbered(300)
    dag = nodes(G, "busy", *names).to_builder().add_node("idle", policy=NodePolicy(group="h"))
    dag = dag.add_node("thread").add_node("loop").build()
    tasks = {"busy": busy} | dict.fromkeys(names, nothing)
    tasks |= {name: lambda name=name: note(name) for name in others}
    bounds = {"limits": {"g": 1, "h": 1}, "max_workers": 1, "max_concurrency": 2}
    assert execute(DynamicExecutor(dag, **bounds), tasks).ok
    assert done == others


def test_who_waits_for_a_worker_holds_no_group(execute: Way) -> None:
    """A sync node of a group, for which no worker is free, leaves the group's slot to others."""
    opened = threading.Event()

    async def opener() -> None:
        opened.set()

    builder = DAG.builder().add_node("thread").add_node("sync", policy=G)
    dag = builder.add_node("async", policy=G).build()
    tasks = {"thread": lambda: opened.wait(GUARD), "sync": nothing, "async": opener}
    result = execute(DynamicExecutor(dag, limits={"g": 1}, max_workers=1), tasks)
    assert result["thread"].result is True
    assert result.ok


async def test_waiting_for_a_group_takes_no_task() -> None:
    """With a thousand nodes in line there are no more tasks than with ten."""
    counts = []
    for size in (10, 1_000):
        release = anyio.Event()
        names = numbered(size)

        async def look(release: anyio.Event = release) -> None:
            await passes(20)
            counts.append(len(anyio.get_running_tasks()))
            release.set()

        dag = nodes(G, *names, others="look")
        tasks = dict.fromkeys(names, release.wait) | {"look": look}
        assert (await run(dag, tasks, limits={"g": 3})).ok
    assert counts[0] == counts[1]


def test_a_slot_is_kept_until_the_expander_is_done(execute: Way) -> None:
    """A node has its groups' slots until its modification has landed."""
    order: list[str] = []

    async def expand(name: str, result: Any) -> None:
        await passes(10)
        order.append("expanded")

    tasks = {"a": nothing, "b": lambda: order.append("b")}
    executor = DynamicExecutor(nodes(G, "a", "b"), {"a": expand}, limits={"g": 1})
    assert execute(executor, tasks).ok
    assert order == ["expanded", "b"]


def test_a_node_between_attempts_gives_its_slots_back(execute: Way) -> None:
    """While a node waits for its next attempt another of its group runs; then it goes first."""
    order: list[str] = []

    async def flaky() -> None:
        order.append("flaky")
        if order.count("flaky") < 3:
            raise ValueError

    async def other(name: str) -> None:
        order.append(name)
        await passes(5)

    builder = DAG.builder()
    builder.add_node("flaky", policy=NodePolicy(group="g", retry=Retry(3, initial_delay=0)))
    for name in "abc":
        builder.add_node(name, policy=NodePolicy(group="g", priority=-1))
    tasks = {"flaky": flaky, **{name: lambda name=name: other(name) for name in "abc"}}
    assert execute(DynamicExecutor(builder.build(), limits={"g": 1}), tasks).ok
    assert order == ["flaky", "a", "flaky", "b", "flaky", "c"]


def test_a_node_at_a_gate_gives_its_slots_back(execute: Way) -> None:
    """At a gate a node holds no slot: another of its group opens the gate; it goes on with one."""
    gate, group = Gate(), Inside()

    async def waits() -> str:
        value = await gate.wait()
        with group:
            await passes(3)
        return value

    async def opens() -> None:
        with group:
            gate.open("opened")
            await passes(10)

    tasks = {"waits": waits, "opens": opens, "n": inside(group)}
    result = execute(DynamicExecutor(nodes(G, *tasks), limits={"g": 1}), tasks)
    assert result["waits"].result == "opened"
    assert (group.most, group.entered) == (1, 3)


def test_whatever_ends_a_node_frees_its_slot(execute: Way) -> None:
    """Failed, cancelled one by one, with an expander that failed: the next of the group starts."""

    def fail(*arguments: Any) -> None:
        raise ValueError

    dag = nodes(G, "fails", "fails_too", "expands", "hangs", "last", others="free")
    expanders = {"expands": fail, "free": changing(DynamicModification(cancel_nodes=["hangs"]))}
    release = anyio.Event()

    async def free() -> None:
        await wait(release)

    async def hangs() -> None:
        release.set()
        await anyio.sleep_forever()

    tasks = {"fails": fail, "fails_too": fail, "expands": nothing, "hangs": hangs, "free": free}
    result = execute(DynamicExecutor(dag, expanders, limits={"g": 1}), {**tasks, "last": nothing})
    assert statuses(result) == {
        **dict.fromkeys(["fails", "fails_too", "expands"], "FAILED"),
        "hangs": "CANCELLED",
        **dict.fromkeys(["last", "free"], "COMPLETED"),
    }


def test_a_thread_that_was_given_up_keeps_its_slot(execute: Way) -> None:
    """A node that waits for a thread which its timeout gave up, to try again, is cancelled: the
    thread still counts in the group until it ends."""
    group, end = Inside(), threading.Event()
    timed_out = threading.Event()

    def slow() -> None:
        with group:
            while not timed_out.is_set():  # its own time is over, but it does not stop
                try:
                    check_cancelled()
                except BaseException:
                    timed_out.set()
            assert end.wait(GUARD)

    async def winner() -> None:
        await until(timed_out.is_set)
        await passes(200)  # the node waits for its thread by then

    async def after() -> None:
        await passes(10)
        end.set()

    builder = DAG.builder().add_node("other", policy=NodePolicy(group="g", priority=-1))
    policy = NodePolicy(group="g", timeout=A_MOMENT, retry=Retry(3, initial_delay=0))
    dag = builder.add_node("slow", policy=policy).add_edge("winner", "after").build()
    expander = changing(DynamicModification(cancel_nodes=["slow"]))
    executor = DynamicExecutor(dag, {"winner": expander}, limits={"g": 1})
    tasks = {"slow": slow, "winner": winner, "after": after, "other": inside(group)}
    result = execute(executor, tasks)
    assert statuses(result)["slow"] == "CANCELLED"
    assert statuses(result)["other"] == "COMPLETED"
    assert (group.most, group.entered) == (1, 2)


# --- priorities ----------------------------------------------------------------------------------

SHORT = pytest.mark.parametrize(
    ("bounds", "group", "on_thread"),
    [
        pytest.param({"max_concurrency": 1}, (), False, id="places"),
        pytest.param({"max_workers": 1}, (), True, id="workers"),
        pytest.param({"limits": {"g": 1}}, "g", False, id="group"),
        pytest.param({"limits": {"g": 1}, "max_workers": 1}, "g", True, id="group and workers"),
    ],
)


def in_order(order: list[str], name: str, on_thread: bool) -> Callable[[], Any]:
    async def task() -> None:
        order.append(name)
        await passes(1)

    return (lambda: order.append(name)) if on_thread else task


@SHORT
def test_the_larger_priority_goes_first(
    execute: Way, bounds: dict[str, Any], group: Any, on_thread: bool
) -> None:
    """When slots are short the largest priority goes first; equals, as they became ready."""
    order: list[str] = []
    priorities = {"a": 0, "b": -1.5, "c": 7, "d": 0, "e": 7, "f": 9.25, "g": -1.5}
    builder = DAG.builder()
    for name, priority in priorities.items():
        builder.add_node(name, policy=NodePolicy(priority=priority, group=group))
    tasks = {name: in_order(order, name, on_thread) for name in priorities}
    assert execute(DynamicExecutor(builder.build(), **bounds), tasks).ok
    assert order == ["f", "c", "e", "a", "d", "b", "g"]


@SHORT
def test_the_default_order_is_readiness(
    execute: Way, bounds: dict[str, Any], group: Any, on_thread: bool
) -> None:
    """Without priorities nodes start in the order in which they became ready, not in that in which
    they were added."""
    order: list[str] = []
    builder = DAG.builder()
    for name in ("late", "later", "first", "second", "third"):
        builder.add_node(name, policy=NodePolicy(group=group))
    builder.add_edge("first", "later").add_edge("first", "late")
    dag = builder.build()
    tasks = {name: in_order(order, name, on_thread) for name in dag}
    assert execute(DynamicExecutor(dag, **bounds), tasks).ok
    assert order == ["first", "second", "third", "later", "late"]


def test_an_added_node_of_priority_overtakes(execute: Way) -> None:
    """A node that an expander adds goes before those in line, if its priority is larger, be it its
    own or the executor's; one of low priority waits."""
    order: list[str] = []
    added = [
        DynamicNodeSpec(name, in_order(order, name, False), policy=policy)
        for name, policy in {
            "low": NodePolicy(priority=1),
            "usual": None,
            "urgent": NodePolicy(priority=6),
        }.items()
    ]
    names = ["grow", "x", "y"]
    tasks = {name: in_order(order, name, False) for name in names}
    executor = DynamicExecutor(
        nodes(None, *names),
        {"grow": adding(*added)},
        max_concurrency=1,
        policy=NodePolicy(priority=5),
    )
    assert execute(executor, tasks).ok
    assert order == ["grow", "urgent", "x", "y", "usual", "low"]


def test_a_priority_decides_among_those_who_can_start(execute: Way) -> None:
    """The most urgent node, whose group is busy, keeps nobody of another group from starting."""
    done = anyio.Event()

    async def other() -> None:
        done.set()

    order: list[str] = []
    builder = DAG.builder().add_node("busy", policy=NodePolicy(group="g", priority=10))
    builder.add_node("urgent", policy=NodePolicy(group="g", priority=9))
    builder.add_node("other", policy=NodePolicy(priority=-9))
    tasks = {"busy": lambda: wait(done), "urgent": lambda: order.append("urgent"), "other": other}
    assert execute(DynamicExecutor(builder.build(), limits={"g": 1}), tasks).ok
    assert order == ["urgent"]


# --- groups that nobody declared -----------------------------------------------------------------


@pytest.mark.parametrize("where", ["node", "executor"])
@pytest.mark.parametrize("shared", [False, True])
def test_an_undeclared_group_is_refused(where: str, shared: bool) -> None:
    """A policy of a node or of the executor that names no limit is an error with close names."""
    policy = NodePolicy(group=("github", "gitbul"))
    sizes = {"github": 5, "gitlab": 2}
    limits: Any = Limits(sizes) if shared else sizes
    dag = nodes(policy if where == "node" else None, "a")
    with pytest.raises(UnknownGroupError) as caught:
        DynamicExecutor(dag, limits=limits, policy=policy if where == "executor" else None)
    assert caught.value.group == "gitbul"
    assert set(caught.value.close) == {"github", "gitlab"}
    who = "node 'a'" if where == "node" else "the executor's policy"
    first, help = str(caught.value).split("\n")
    assert first == f"{who} is in the group 'gitbul', which has no limit"
    assert help.startswith("  help: did you mean ")


def test_no_limits_at_all() -> None:
    """Where no limits are given, the help says how to give them."""
    with pytest.raises(UnknownGroupError, match=r"help: give it a limit: .*limits=\{'g': 5\}"):
        DynamicExecutor(nodes(G, "a"))


def test_an_undeclared_group_of_a_new_node_is_a_fault(execute: Way) -> None:
    """A spec in a group without a limit: the modification is refused, with close names."""
    spec = DynamicNodeSpec("new", nothing, ["a"], policy=NodePolicy(group="githbu"))
    other = DynamicNodeSpec("fine", nothing, ["a"], policy=NodePolicy(group="github"))
    executor = DynamicExecutor(nodes(None, "a"), {"a": adding(other, spec)}, limits={"github": 1})
    result = execute(executor, {"a": nothing})
    error = result["a"].error
    assert isinstance(error, ModificationError)
    assert [(fault.kind, fault.node) for fault in error.faults] == [("group", "new")]
    assert "did you mean 'github'?" in str(error)
    assert list(result) == ["a"]


@pytest.mark.parametrize(
    ("limits", "error", "text"),
    [
        ({"g": 0}, ValueError, r"limits\['g'\] is at least 1, not 0"),
        ({"g": -1}, ValueError, r"limits\['g'\] is at least 1, not -1"),
        ({"g": True}, TypeError, r"limits\['g'\] is an int, not bool"),
        ({"g": 1.5}, TypeError, r"limits\['g'\] is an int, not float: 1.5"),
        ({"g": "5"}, TypeError, r"limits\['g'\] is an int, not str: '5'"),
        ({"g": None}, TypeError, r"limits\['g'\] is an int, not NoneType"),
        ({5: 5}, TypeError, r"a group name is a str, not int: 5"),
        ({"": 5}, InvalidNameError, r"a group name is empty"),
    ],
)
@pytest.mark.parametrize("shared", [False, True])
def test_a_limit_is_a_number_of_slots(
    limits: dict[Any, Any], error: type[Exception], text: str, shared: bool
) -> None:
    """What is no name, or no int of at least 1, is refused with the group and the value."""
    with pytest.raises(error, match=text):
        if shared:
            Limits(limits)
        else:
            DynamicExecutor(nodes(None, "a"), limits=limits)
