"""Slots: groups, priorities, nodes that rest, and what runs share with each other."""

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from dagron import DAG
from dagron._lanes import Lane, Lanes, Pool, SharedPool
from dagron._policy import NodePolicy, all_done
from dagron._scheduler import Scheduler
from machine import adding, dag, pools, removing, snapshot, spec, statuses


def run_to_the_end(run: Scheduler) -> list[str]:
    """Start and end everything, one after the other; return the names as they started."""
    started = []
    while taken := run.take_ready(1):
        started += taken
        if taken[0] in run.working:
            run.return_worker(taken[0])
        run.succeed(taken[0])
    return started


# --- groups and priorities -----------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 10])
def test_the_limit_of_a_group_holds(limit: int) -> None:
    """So many nodes of a group run at once, and no slot of it idles; others go past them."""
    names = [str(n) for n in range(10)]
    policies = {name: NodePolicy(group="g") for name in names}
    run = Scheduler(dag(*names, "free", policies=policies), pools=pools(g=limit))
    first = run.take_ready(100)
    assert first == [*names[:limit], "free"]
    for position, name in enumerate(first[:-1]):
        run.succeed(name)
        place = position + limit
        assert run.take_ready(100) == names[place : place + 1]


def test_a_node_in_several_groups_needs_a_slot_of_each() -> None:
    """It starts when each of its groups has a slot, takes none before, and holds up no other."""
    policies = {
        "a": NodePolicy(group="g"),
        "both": NodePolicy(group=("g", "h")),
        "b": NodePolicy(group="h"),
    }
    run = Scheduler(dag("a", "both", "b", policies=policies), pools=pools(g=1, h=1))
    assert run.take_ready(9) == ["a", "b"]
    run.succeed("a")
    assert run.take_ready(9) == []
    run.succeed("b")
    assert run.take_ready(9) == ["both"]


def test_who_waits_for_a_group_holds_up_no_other_group() -> None:
    """10,000 nodes of a busy group wait in line, and those behind them start."""
    names = [str(n) for n in range(10_000)]
    policies = {name: NodePolicy(group="busy") for name in names}
    policies["last"] = NodePolicy(group="idle")
    run = Scheduler(dag(*names, "last", policies=policies), pools=pools(busy=1, idle=1))
    assert run.take_ready(9) == ["0", "last"]


def test_the_larger_priority_goes_first() -> None:
    """Among ready nodes the largest priority goes first, equals as they became ready."""
    priorities = {"low": -1, "high": 2.5, "higher": 3, "high too": 2.5}
    policies = {name: NodePolicy(priority=value) for name, value in priorities.items()}
    names = ["usual", "low", "high", "usual too", "higher", "high too"]
    run = Scheduler(dag(*names, policies=policies), on_threads=["high", "usual"], max_concurrency=1)
    order = ["higher", "high", "high too", "usual", "usual too", "low"]
    assert run_to_the_end(run) == order


def test_a_priority_decides_only_among_those_who_can_start() -> None:
    """A node of high priority that waits for its group or a thread keeps nobody from starting."""
    policies = {
        **{name: NodePolicy(group="g", priority=9) for name in "ab"},
        **{name: NodePolicy(priority=5) for name in "cd"},
    }
    run = Scheduler(
        dag(*"abcde", policies=policies), on_threads=["c", "d"], max_workers=1, pools=pools(g=1)
    )
    assert run.take_ready(9) == ["a", "c", "e"]
    run.return_worker("c")
    run.succeed("a")
    assert run.take_ready(9) == ["b", "d"]


def test_a_node_in_flight_goes_before_any_priority() -> None:
    """What has started goes on before what has not, whatever the priorities."""
    run = Scheduler(
        dag(*"abc", policies={"c": NodePolicy(priority=1e300)}), max_workers=1, max_concurrency=1
    )
    assert run.take_ready(1) == ["c"]
    run.rest("c")
    assert run.take_ready(1) == ["a"]
    assert run.ask("c", worker=False) is False
    run.land(adding(spec("d", policy=NodePolicy(priority=1e308))), "a")
    run.succeed("a")
    assert run.take_ready(1) == ["c"]
    run.succeed("c")
    assert run_to_the_end(run) == ["d", "b"]


def test_a_node_of_priority_that_waits_again_leaves_no_gap() -> None:
    """A node that was first in line and was removed, or waits again, is passed over."""
    policies = {name: NodePolicy(priority=7) for name in ("gone", "held")}
    run = Scheduler(dag("x", "gone", "held", "a", policies=policies), max_concurrency=1)
    policies = {"gone": NodePolicy(priority=7)}
    assert run.take_ready(1) == ["gone"]
    run.succeed("gone")
    run.land(adding(spec("n", "x", to=["held"])))
    assert run_to_the_end(run) == ["x", "a", "n", "held"]


def test_added_nodes_have_groups_and_priorities() -> None:
    """The policy of a spec counts like that of an initial node, the default policy for both."""
    run = Scheduler(
        dag("x"),
        max_concurrency=2,
        pools=pools(g=1, h=9),
        policy=NodePolicy(group="g", priority=1),
    )
    assert run.take_ready(9) == ["x"]
    run.land(
        adding(
            spec("default"),
            spec("none", policy=NodePolicy(group=(), priority=0)),
            spec("high", policy=NodePolicy(priority=2)),
            spec("other", policy=NodePolicy(group="h")),
        ),
        "x",
    )
    assert run.take_ready(9) == ["other"]
    run.succeed("x")
    assert run.take_ready(9) == ["high"]
    assert {name: (p.groups, p.priority) for name, p in run.policies.items()} == {
        "x": (("g",), 1),
        "default": (("g",), 1),
        "none": ((), 0),
        "high": (("g",), 2),
        "other": (("h",), 1),
    }


def test_what_a_node_in_line_is_short_of() -> None:
    """`short_of` names the slots that keep a node in line; None when it is not in line, or next."""
    policies = {name: NodePolicy(group="g") for name in ("a", "b")}
    run = Scheduler(
        dag("a", "b", "t", ("a", "after"), policies=policies),
        on_threads=["t"],
        max_workers=0,
        pools=pools(g=1),
    )
    assert run.short_of("b", False) is None
    assert run.take_ready(9) == ["a"]
    found = {name: run.short_of(name, name == "t") for name in ("a", "b", "t", "after")}
    assert {name: pool and pool.name for name, pool in found.items()} == {
        "a": None,
        "b": "g",
        "t": "max_workers",
        "after": None,
    }
    assert run.ask("a", worker=True) is False
    short = run.short_of("a", True)
    assert short is not None
    assert short.name == "max_workers"


def test_what_is_asked_of_shared_slots_can_be_left() -> None:
    """`leave` ends a run's part in slots that it shares; slots of its own do not mind."""
    run = Scheduler(dag("a", policies={"a": NodePolicy(group="g")}), pools=pools(g=1))
    run.leave()
    assert run.take_ready(9) == ["a"]


# --- nodes that rest, and threads that go on -----------------------------------------------------


def test_a_resting_node_holds_no_slots() -> None:
    """A node at a gate, or between two attempts, gives all its slots back and stays RUNNING."""
    policies = {name: NodePolicy(group="g") for name in "ab"}
    run = Scheduler(
        dag("a", "b", policies=policies),
        on_threads=["a", "b"],
        max_workers=1,
        max_concurrency=1,
        pools=pools(g=1),
    )
    assert run.take_ready(9) == ["a"]
    run.rest("a")
    assert statuses(run, "a") == ["RUNNING"]
    assert (run.working, run.resting) == (set(), {"a"})
    assert run.take_ready(9) == ["b"]
    assert (run.working, run.resting) == ({"b"}, {"a"})


def test_a_resting_node_takes_its_slots_again() -> None:
    """It asks for all of them at once, with a worker or without, and goes before ready nodes."""
    policies = {name: NodePolicy(group="g") for name in "ab"}
    run = Scheduler(
        dag(*"ab", policies=policies), on_threads=["b"], max_concurrency=2, pools=pools(g=1)
    )
    assert run.take_ready(9) == ["a"]
    run.rest("a")
    assert run.take_ready(9) == ["b"]
    assert run.ask("a", worker=True) is False
    assert run.take_ready(9) == []
    run.succeed("b")
    assert run.take_ready(9) == []  # its thread still holds the worker, for which "a" waits
    run.return_worker("b")
    assert run.take_ready(9) == ["a"]
    assert (run.working, run.resting) == ({"a"}, set())
    run.rest("a")
    assert run.ask("a", worker=False) is True
    assert (run.working, run.resting) == (set(), set())
    assert run.take_ready(9) == []


def test_a_resting_node_may_end() -> None:
    """A node that is cancelled at a gate, or while it asks, leaves no slot taken or given twice."""
    run = Scheduler(dag(*"abcd"), max_concurrency=1)
    assert run.take_ready(9) == ["a"]
    run.rest("a")
    assert run.take_ready(9) == ["b"]
    run.cancel("a")
    assert run.resting == set()
    assert run.take_ready(9) == []
    run.rest("b")
    assert run.take_ready(9) == ["c"]
    assert run.ask("b", worker=False) is False
    run.cancel("b")
    run.succeed("c")
    assert run.take_ready(9) == ["d"]
    assert run.running == 1


def test_without_bounds_a_node_rests_and_goes_on() -> None:
    """In a run without limits, what rests may go on at once."""
    run = Scheduler(dag("a"))
    run.take_ready(9)
    run.rest("a")
    assert run.resting == {"a"}
    assert run.ask("a", worker=False) is True
    assert run.resting == set()


def test_a_thread_that_goes_on_keeps_the_slots_of_its_groups() -> None:
    """max_workers and the limit of a group hold through a timeout: until the thread has ended."""
    policies = {name: NodePolicy(group="g") for name in "abc"}
    run = Scheduler(
        dag(*"abc", policies=policies), on_threads=["a"], max_concurrency=1, pools=pools(g=1)
    )
    for end in (run.fail, run.cancel):
        [name] = run.take_ready(9)
        if end == run.fail:
            end(name, lingering=True)
            assert run.working == {"a"}
            assert run.take_ready(9) == []
            run.return_worker(name)
            assert run.working == set()
        else:
            end(name)
    assert run.take_ready(9) == ["c"]


def test_a_cancelled_thread_that_goes_on_keeps_its_slots() -> None:
    """The same for a node that is cancelled: its place is free, its group's slot is not."""
    run = Scheduler(
        dag("a", "b", "c", policies={name: NodePolicy(group="g") for name in "ab"}),
        on_threads=["a"],
        max_concurrency=1,
        pools=pools(g=1),
    )
    assert run.take_ready(9) == ["a"]
    run.cancel("a", lingering=True)
    assert run.take_ready(9) == ["c"]
    run.succeed("c")
    assert run.take_ready(9) == []
    run.return_worker("a")
    assert run.take_ready(9) == ["b"]


# --- threads that run one node after another -----------------------------------------------------


def draining(names: str, **policies: NodePolicy) -> Scheduler:
    """A run of one worker slot, held by a thread that runs the first node, a usual one.

    Nodes have the names of one letter, and need a thread; "g" is a group of one.
    """
    run = Scheduler(
        dag(*names, policies=policies), on_threads=[*names], max_workers=1, pools=pools(g=1)
    )
    [first] = run.take_ready(9)
    run.hand_over(first)
    return run


def test_what_follows_is_next_in_line() -> None:
    """`following` names so many as are asked for, in order, without those aside; they stay."""
    run = draining("abcde")
    assert run.following(9, ()) == ["b", "c", "d", "e"]
    assert run.following(2, ()) == ["b", "c"]
    assert run.following(2, {"b", "d"}) == ["c", "e"]
    assert run.following(0, ()) == []
    assert statuses(run, *"bcde") == ["READY"] * 4
    run.end_draining()
    assert run_to_the_end(run) == ["b", "c", "d", "e"]


def test_nothing_follows_while_a_slot_is_free() -> None:
    """Who may start is not kept for a thread: neither before a look at the line, nor after it."""
    run = Scheduler(dag(*"abc"), on_threads="abc", max_workers=2)
    assert run.following(9, ()) == []
    assert run.take_ready(1) == ["a"]
    assert run.following(9, ()) == []
    assert run.take_ready(9) == ["b"]
    assert run.following(9, ()) == ["c"]
    run.return_worker("a")
    assert run.following(9, ()) == []
    assert run.take_ready(9) == ["c"]


def test_who_left_the_line_does_not_follow() -> None:
    """Nodes that were removed, cancelled or wait again are passed over, wherever they stood."""
    run = draining("abcdef")
    run.land(removing("b"))
    run.cancel("d")
    run.land(adding(spec("n", to=["e"])))
    assert run.following(9, ()) == ["c", "f"]
    assert run.take_ready(9) == ["n"]
    run.succeed("n")
    assert run.following(9, ()) == ["c", "f", "e"]
    run.end_draining()
    assert run_to_the_end(run) == ["c", "f", "e"]


@pytest.mark.parametrize("is_asked", [True, False])
def test_a_line_may_empty_while_it_waits(is_asked: bool) -> None:
    """A slot that comes back finds nobody, and who comes later is next, with it or before it."""
    for comes_before in (True, False):
        run = draining("abc")
        run.cancel("b")
        run.begin("c")
        assert not is_asked or run.following(9, ()) == []
        if comes_before:
            run.land(adding(spec("n"), spec("o")), on_threads=["n", "o"])
            assert run.following(9, ()) == ["n", "o"]
        run.end_draining()
        assert run.take_ready(9) == ["n"][:comes_before]
        run.land(adding(spec("p")), on_threads=["p"])
        if comes_before:
            assert run.following(9, ()) == ["o", "p"]
        else:
            assert run.take_ready(9) == ["p"]


def test_a_policy_alone_changes_nothing_about_who_follows() -> None:
    """What follows has default priority and no group; whatever else its policy says."""
    run = draining("abc", b=NodePolicy(trigger=all_done), c=NodePolicy(priority=0))
    assert run.following(9, ()) == ["b", "c"]


def test_a_small_priority_holds_nobody_up() -> None:
    """Who has less than default priority does not follow, and keeps nobody from it."""
    run = draining("abc", b=NodePolicy(priority=-1))
    assert run.following(9, ()) == ["c"]
    assert not run.is_overtaken("c")
    run.begin("c")
    run.end_draining()
    assert run.take_ready(9) == ["b"]


@pytest.mark.parametrize("policy", [NodePolicy(priority=1), NodePolicy(priority=1, group="g")])
def test_who_goes_first_overtakes(policy: NodePolicy) -> None:
    """Nobody follows when one of larger priority wants the slot: in the same lane or another."""
    run = draining("abc")
    assert run.following(9, ()) == ["b", "c"]
    run.land(adding(spec("n", policy=policy)), on_threads=["n"])
    assert run.take_ready(9) == []
    assert run.is_overtaken("b")
    assert run.following(9, ()) == []
    run.end_draining()
    assert run.take_ready(9) == ["n"]
    assert not run.is_overtaken("b")
    assert run.following(9, ()) == ["b", "c"]


def test_who_asks_overtakes() -> None:
    """A node in flight that wants the slot goes before all who follow, until it stops asking.

    What it leaves in line is gone when a slot is free again.
    """
    run = draining("abc")
    run.land(adding(spec("n")))
    assert run.take_ready(9) == ["n"]
    assert run.ask("n", worker=True) is False
    assert run.is_overtaken("b")
    assert run.following(9, ()) == []
    run.stop_asking("n")
    run.end_draining()
    assert run.take_ready(9) == ["b"]
    assert not run.is_overtaken("c")
    assert run.following(9, ()) == ["c"]


def test_those_before_a_group_follow() -> None:
    """Who needs a slot of a group besides has its turn: what is behind does not go past it."""
    run = draining("abcd", c=NodePolicy(group="g"))
    assert not run.is_overtaken("b")
    assert run.following(9, ()) == ["b"]
    assert run.following(9, "b") == []


def test_who_waits_for_a_group_only_holds_nobody_up() -> None:
    """What would not start if the slot were free does not keep others from it."""
    policies = {name: NodePolicy(group="g", priority=5) for name in "xy"}
    run = Scheduler(
        dag(*"xyab", policies=policies), on_threads=[*"yab"], max_workers=1, pools=pools(g=1)
    )
    assert run.take_ready(9) == ["x", "a"]
    assert not run.is_overtaken("b")
    assert run.following(9, ()) == ["b"]
    run.succeed("x")
    assert run.take_ready(9) == []
    assert run.is_overtaken("b")
    assert run.following(9, ()) == []


def test_who_was_ready_first_overtakes() -> None:
    """Equals go as they became ready: also past what was offered before a slot of a group came."""
    policies = {name: NodePolicy(group="g") for name in "xy"}
    run = Scheduler(
        dag(*"xyabc", policies=policies), on_threads=[*"yabc"], max_workers=1, pools=pools(g=1)
    )
    assert run.take_ready(9) == ["x", "a"]
    run.hand_over("a")
    assert run.following(9, ()) == ["b", "c"]
    run.succeed("x")
    assert run.take_ready(9) == []
    assert run.following(9, ()) == []  # for it is the turn of "y"
    assert run.is_overtaken("b")


def test_first_beside_is_the_first_of_the_others() -> None:
    """`first_beside` sees who waits at the same pool, and the heap of the lane, not its queue."""
    lanes, pool, other = Lanes(), Pool("max_workers", 0), Pool("g", 0)
    lane, both, elsewhere = (lanes.lane(needs) for needs in ((pool,), (pool, other), (other,)))
    place: dict[str, int] = {}

    def put(where: Lane, *entry: Any) -> None:
        place[entry[2]] = entry[1]
        lanes.add(where, entry)
        lanes.park_short(where)

    put(lane, 0, 1, "a")
    put(elsewhere, -9, 2, "b")
    assert lanes.first_beside(lane, pool) is None
    put(both, 0, 3, "c")
    put(both, 0, 4, "d")
    put(lane, 0, 5, "e")
    assert lanes.first_beside(lane, pool) == (0, 3, "c")
    assert lanes.following(lane, pool, place, 9, ()) == ["a"]
    put(lane, 2, 6, "f")
    assert lanes.first_beside(lane, pool) == (0, 3, "c")
    put(lane, -2, 7, "h")
    assert lanes.first_beside(lane, pool) == (-2, 7, "h")
    assert lanes.following(lane, pool, place, 9, ()) == []


def test_a_node_begins_in_the_slot_of_another() -> None:
    """`begin` takes a node out of line and no slot; it is not taken again when slots are free."""
    run = draining("abcd")
    run.log = []
    run.succeed("a")
    run.begin("b")
    assert run.log == [("a", "COMPLETED"), ("b", "RUNNING")]
    assert (run.running, run.working) == (1, set())
    assert run.following(9, ()) == ["c", "d"]
    assert run.take_ready(9) == []
    run.succeed("b")
    run.end_draining()
    assert run.take_ready(9) == ["c"]
    run.begin("d")
    run.return_worker("c")
    assert run.take_ready(9) == []


def test_only_a_ready_node_begins() -> None:
    """`begin` refuses a node that is PENDING, RUNNING or done, and changes nothing."""
    run = Scheduler(dag(("a", "b"), "c"), on_threads="abc")
    run.cancel("c")
    assert run.take_ready(9) == ["a"]
    before = snapshot(run)
    for name, status in {"a": "RUNNING", "b": "PENDING", "c": "CANCELLED"}.items():
        with pytest.raises(RuntimeError, match=f"{name!r} cannot go from {status} to RUNNING"):
            run.begin(name)
    assert snapshot(run) == before


def test_a_thread_holds_the_slot_of_its_nodes() -> None:
    """From `hand_over` to `end_draining` the slot is taken, whichever node runs, or none."""
    run = draining("abc")
    assert run.working == set()
    assert run.take_ready(9) == []
    run.succeed("a")
    assert run.take_ready(9) == []
    assert not run.is_stuck()
    run.end_draining()
    assert run.take_ready(9) == ["b"]
    assert run.working == {"b"}


def test_a_node_that_waits_for_children_waits_for_threads_too() -> None:
    """While a thread holds a slot, nobody who waits for children is said to wait for ever."""
    run = draining("abp")
    run.cancel("b")
    run.begin("p")
    run.land(adding(spec("n", "p")), "p")
    run.offspring.begin("p")
    run.land(adding(spec("o", "p")), "p")
    run.succeed("a")
    assert run.offspring.wait("p", 1) is False
    run.offspring.rely("p")
    assert run.stalled() == ()
    run.end_draining()
    assert run.stalled() == ["p"]


@pytest.mark.parametrize("lingering", [True, False])
def test_a_node_may_keep_the_slot_of_its_thread(lingering: bool) -> None:
    """After `take_over` the slot is the node's, as if no thread had held it: it gives it back."""
    run = draining("abc")
    run.succeed("a")
    run.begin("b")
    run.take_over("b")
    assert run.working == {"b"}
    run.cancel("b", lingering=lingering)
    assert run.take_ready(9) == []
    run.return_worker("b")
    assert (run.working, run.lingering) == (set(), set())
    assert run.take_ready(9) == ["c"]


# --- slots that runs share -----------------------------------------------------------------------


class Sharer:
    """A run that shares slots, and how often it was woken."""

    def __init__(self, *shared: SharedPool) -> None:
        self.lanes = Lanes()
        self.lanes.shared = shared
        self.lanes.wake = self._wake
        self.run = Scheduler(DAG(), pools={pool.name: pool for pool in shared}, lanes=self.lanes)
        self.woken = 0

    def _wake(self) -> None:
        self.woken += 1

    def want(self, *names: str, groups: str = "g") -> None:
        """Add nodes that need a slot of each of the groups, one letter for each."""
        policy = NodePolicy(group=[*groups])
        self.run.land(adding(*(spec(name, policy=policy) for name in names)))

    def take(self) -> list[str]:
        return self.run.take_ready(99)


def sharers(count: int, *shared: SharedPool) -> list[Sharer]:
    return [Sharer(*shared) for _ in range(count)]


def test_shared_slots_count_across_runs() -> None:
    """A limit that two runs share holds for both together."""
    pool = SharedPool("g", 2)
    one, two = sharers(2, pool)
    one.want("a", "b", "c")
    two.want("x")
    assert one.take() == ["a", "b"]
    assert two.take() == []
    assert pool.free == 0


def test_first_come_first_served() -> None:
    """A slot that is given back goes to the run that waited first, then to the next one."""
    pool = SharedPool("g", 1)
    one, two, three = runs = sharers(3, pool)
    for sharer in (one, three, two):
        sharer.want("a", "b")
        sharer.take()
    served: list[Sharer | None] = [one]
    while served[-1] is not None:
        [name] = [name for name, now in served[-1].run.statuses().items() if now == "RUNNING"]
        served[-1].run.succeed(name)
        served += [sharer for sharer in runs if sharer.take()] or [None]
    assert served == [one, one, three, two, three, two, None]
    assert pool.free == 1


def test_a_slot_that_is_kept_wakes_its_heir() -> None:
    """The run whose turn came is woken, once for each slot; nobody else can take it meanwhile."""
    pool = SharedPool("g", 1)
    one, two, late = sharers(3, pool)
    one.want("a")
    two.want("x")
    assert (one.take(), two.take()) == (["a"], [])
    one.run.succeed("a")
    assert (one.woken, two.woken, late.woken) == (0, 1, 0)
    late.want("z")
    one.want("b")
    assert (late.take(), one.take()) == ([], [])
    assert two.take() == ["x"]
    assert pool.free == 0


def test_a_run_is_not_woken_for_its_own_slot() -> None:
    """What a run gives back while it is first in line itself, it finds when it looks."""
    pool = SharedPool("g", 1)
    [one] = sharers(1, pool)
    one.want("a", "b")
    assert one.take() == ["a"]
    one.run.succeed("a")
    assert one.woken == 0
    assert one.take() == ["b"]


def test_several_slots_may_come_back_before_a_run_looks() -> None:
    """A run that is woken takes what is kept for it, and what else is free by then."""
    pool = SharedPool("g", 3)
    one, two = sharers(2, pool)
    one.want("a", "b", "c")
    assert one.take() == ["a", "b", "c"]
    two.want("x", "y", "z")
    assert two.take() == []
    one.run.succeed("a")
    one.run.succeed("b")
    assert two.woken == 1
    assert two.take() == ["x", "y"]
    assert pool.free == 0


def test_a_run_that_waits_in_two_lines_may_be_the_heir_twice() -> None:
    """Slots are kept for a run as often as its turn comes, and each of them counts."""
    pool = SharedPool("g", 2)
    one, two = Lanes(), Lanes()
    pool.take(one)
    pool.take(one)
    for _ in range(2):
        pool.wait(two)
        pool.give(one)
    assert pool.free == 0
    assert not pool.is_free(one)
    for _ in range(2):
        assert pool.is_free(two)
        pool.take(two)
    assert not pool.is_free(two)


def test_a_kept_slot_that_is_not_wanted_is_passed_on() -> None:
    """A run that has no use for its slot any more leaves it to the next, or to nobody."""
    pool = SharedPool("g", 1)
    one, two, three = runs = sharers(3, pool)
    for sharer in runs:
        sharer.want("n")
        sharer.take()
    one.run.succeed("n")
    assert two.woken == 1
    two.run.cancel("n")
    assert two.take() == []
    assert three.woken == 1
    assert three.take() == ["n"]
    three.run.succeed("n")
    assert pool.free == 1
    assert [sharer.take() for sharer in runs] == [[], [], []]


def test_a_run_that_leaves_is_passed_over() -> None:
    """A run that ends while it waits, or while a slot is kept for it, loses the slot for nobody."""
    pool = SharedPool("g", 1)
    one, two, three = runs = sharers(3, pool)
    for sharer in runs:
        sharer.want("n")
        sharer.take()
    two.run.leave()
    one.run.succeed("n")
    assert (two.woken, three.woken) == (0, 1)
    three.run.leave()
    assert pool.free == 1
    one.want("b")
    assert one.take() == ["b"]


def test_nobody_holds_one_slot_while_it_waits_for_another() -> None:
    """A node that needs two shared slots takes both or none: two runs cannot lock each other."""
    g, h = SharedPool("g", 1), SharedPool("h", 1)
    one, two = sharers(2, g, h)
    one.want("a", groups="g")
    two.want("x", groups="h")
    assert (one.take(), two.take()) == (["a"], ["x"])
    one.want("b", groups="gh")
    two.want("y", groups="hg")
    assert (one.take(), two.take()) == ([], [])
    one.run.succeed("a")
    assert (one.take(), two.take()) == ([], [])
    assert (g.free, h.free) == (1, 0)
    two.run.succeed("x")
    assert (one.take(), two.take()) == ([], ["y"])
    two.run.succeed("y")
    assert one.take() == ["b"]


def test_all_lines_of_a_run_are_looked_at_again() -> None:
    """A slot that comes back is offered to all nodes of the run that wait for it, in turn."""
    g, h = SharedPool("g", 1), SharedPool("h", 1)
    [one] = sharers(1, g, h)
    one.want("a", groups="g")
    assert one.take() == ["a"]
    one.want("b", groups="gh")
    one.want("c", groups="g")
    assert one.take() == []
    one.run.succeed("a")
    assert one.take() == ["b"]
    one.run.succeed("b")
    assert one.take() == ["c"]


def test_a_run_knows_whether_it_waits_for_others() -> None:
    """`wait_outside` tells that slots which other runs hold are all that is missing."""
    pool = SharedPool("g", 1)
    one, two = sharers(2, pool)
    one.want("a")
    two.want("x")
    one.take()
    assert not two.lanes.wait_outside()
    two.take()
    assert two.lanes.wait_outside()
    one.run.succeed("a")
    assert two.lanes.wait_outside()  # the slot is kept for it, and it was woken
    two.take()
    assert not two.lanes.wait_outside()


def test_turns_are_kept_in_a_long_line() -> None:
    """Of many nodes, of all priorities, those that are ready go by priority, then by readiness."""
    dice = Random(5)
    priorities = {str(n): dice.choice([0, 0, 1, -1, 2.5]) for n in range(300)}
    policies = {
        name: NodePolicy(priority=value, group=dice.choice([(), "g", ("g", "h")]))
        for name, value in priorities.items()
    }
    run = Scheduler(
        dag(*priorities, policies=policies),
        on_threads=[name for name in priorities if dice.random() < 0.5],
        max_concurrency=1,
        pools=pools(g=1, h=1),
    )
    assert run_to_the_end(run) == sorted(priorities, key=lambda name: -priorities[name])


def runs_that_share(dice: Random, pool: SharedPool) -> tuple[list[Scheduler], set[int]]:
    """Two or three runs of up to six nodes, most of them in the group, and who is to look."""
    runs: list[Scheduler] = []
    to_look: set[int] = set()
    for number in range(dice.randint(2, 3)):
        names = [str(n) for n in range(dice.randint(1, 6))]
        policies = {name: NodePolicy(group="g") for name in names if dice.random() < 0.8}
        lanes = Lanes()
        lanes.shared = (pool,)
        lanes.wake = lambda number=number: to_look.add(number)
        run = Scheduler(
            dag(*names, policies=policies),
            on_threads=[name for name in names if dice.random() < 0.3],
            max_concurrency=dice.choice([None, 1, 2]),
            pools={"g": pool},
            lanes=lanes,
        )
        runs.append(run)
    return runs, to_look


@pytest.mark.parametrize("seed", range(60))
def test_runs_that_share_slots_all_end(seed: int) -> None:
    """Whatever the order of events, the shared limit holds, no slot is lost, and nobody starves.

    A run looks for slots only after an event of its own, or when it is woken.
    """
    dice = Random(seed)
    pool = SharedPool("g", dice.randint(1, 3))
    runs, to_look = runs_that_share(dice, pool)
    to_look.update(range(len(runs)))
    while any(run.unfinished for run in runs):
        moves = [*events(runs), *(("look", number, "") for number in sorted(to_look))]
        assert moves, f"nobody starves: {[dict(run.statuses()) for run in runs]}"
        what, number, name = dice.choice(moves)
        run = runs[number]
        if what == "look":
            to_look.discard(number)
            run.take_ready(9)
        else:
            if name in run.working:
                run.return_worker(name)
            run.succeed(name)
            to_look.add(number)
            if not run.unfinished:
                run.leave()
        in_group = [name for run in runs for name in run.policies if run.status(name) == "RUNNING"]
        assert len(in_group) <= pool.size
    assert pool.free == pool.size


def events(runs: list[Scheduler]) -> Iterator[tuple[str, int, str]]:
    """What may happen next: a running node ends."""
    for number, run in enumerate(runs):
        for name, status in run.statuses().items():
            if status == "RUNNING":
                yield "end", number, name


def test_a_node_in_flight_waits_for_a_shared_slot_like_others() -> None:
    """A run whose node asks for a shared slot in vain is woken when another run gives one back."""
    pool = SharedPool("g", 1)
    policies = {"a": NodePolicy(group="g")}
    runs, woken = [], []
    for number in range(2):
        lanes = Lanes()
        lanes.shared = (pool,)
        lanes.wake = lambda number=number: woken.append(number)
        runs.append(Scheduler(dag("a", policies=policies), pools={"g": pool}, lanes=lanes))
    one, two = runs
    assert one.take_ready(9) == ["a"]
    one.rest("a")
    assert two.take_ready(9) == ["a"]
    assert one.ask("a", worker=False) is False
    two.succeed("a")
    assert woken == [0]
    assert one.take_ready(9) == ["a"]
    assert one.resting == set()
