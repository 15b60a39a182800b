"""Everything goes through the one scheduler and the one executor: so that all of it combines."""

import threading
from collections.abc import Mapping
from contextlib import ExitStack
from itertools import combinations
from random import Random
from typing import Any

import anyio
import pytest

from controls import statuses
from dagron import (
    DAG,
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    Edge,
    ExecutionResult,
    Gate,
    Limits,
    NodePolicy,
    Retry,
    all_done,
    all_succeeded,
    any_succeeded,
    at_least,
)
from faults import graph, run, until
from ways import GUARD, Inside, Meeting, Way, adding, changing, nothing, passes

A_MOMENT = 0.25  # seconds: a timeout for nodes that would wait for ever


def yes(result: Any) -> bool:
    return True


# --- every pair of features, in every ending -----------------------------------------------------

FEATURES = (
    "condition",  # on the edges to the node and from it
    "trigger",  # it starts at the first success
    "retry",  # its first attempt fails
    "timeout",
    "group",  # with room for one, which another node wants, too
    "priority",
    "added",  # by an expander
    "expander",  # of its own
    "thread",
    "gate",  # at which its body waits
)

ENDINGS = (
    "completes",
    "fails",
    "caller",  # who cancels
    "handle",  # cancels the run
    "on_failure",  # of another node, cancels the run
    "cancel_nodes",  # of another node's expander
    "cancel_node",  # of the handle
)

CHOICES = [(), *combinations(FEATURES, 1), *combinations(FEATURES, 2), FEATURES]


class Combined:
    """A run around one node, "subject", which has some of the features, and ends in one way.

    before --> subject --> after          rival: in the same group as the subject
    slow ------^ (trigger)                watch: is cancelled whenever the subject is
                                          ender: brings the ending about when it has begun
    """

    def __init__(self, features: tuple[str, ...], ending: str) -> None:
        self.features = features
        self.ending = ending
        self.limits = Limits(g=1)
        self.group = Inside()
        self.begun = threading.Event()  # the attempt that is the last
        self.release = threading.Event()
        self.gate = Gate()
        self.attempts = 0
        self.tidied = 0
        self.last = 3 if ending == "fails" and "retry" in features else 1 + ("retry" in features)

    # -- the subject

    def policy(self) -> NodePolicy:
        fields: dict[str, Any] = {}
        if "trigger" in self.features:
            fields["trigger"] = any_succeeded
        if "retry" in self.features:
            fields["retry"] = Retry(3, initial_delay=0)
        if "timeout" in self.features:
            fields["timeout"] = GUARD
        if "group" in self.features:
            fields["group"] = "g"
        if "priority" in self.features:
            fields["priority"] = 5
        return NodePolicy(**fields)

    def body(self) -> Any:
        """Return the subject's task; one in a thread may return what is to be awaited."""

        def in_thread() -> Any:
            with ExitStack() as stack:
                self._enter(stack)
                if "gate" in self.features and self.ending != "fails":
                    return self._at_gate()
                if self.ending != "completes":
                    assert self.release.wait(GUARD)
                return "value"

        async def on_loop() -> str:
            with ExitStack() as stack:
                self._enter(stack)
                if "gate" in self.features:
                    stack.close()  # at a gate it holds no slot
                    stack.callback(self._tidy)
                    return await self.gate.wait()
                if self.ending != "completes":
                    await anyio.sleep_forever()
                return "value"

        return in_thread if "thread" in self.features else on_loop

    async def _at_gate(self) -> str:
        try:
            return await self.gate.wait()
        finally:
            self._tidy()

    def _enter(self, stack: ExitStack) -> None:
        self.attempts += 1
        stack.enter_context(self.group)
        if self.attempts < self.last or self.ending == "fails":
            raise ValueError(self.attempts)
        if "gate" not in self.features:
            stack.callback(self._tidy)
        self.begun.set()

    def _tidy(self) -> None:
        self.tidied += 1

    # -- around it

    def executor(self) -> DynamicExecutor:
        condition = yes if "condition" in self.features else None
        others = ["slow"] if "trigger" in self.features else []
        expander = adding(DynamicNodeSpec("child", nothing, ["subject"]))
        expanders: dict[str, Any] = {}
        builder = DAG.builder().add_node("watch").add_node("ender").add_node("before")
        builder.add_node("rival", policy=NodePolicy(group="g"))
        if "added" in self.features:
            builder.add_node("after")
            for name in others:
                builder.add_node(name)
            spec = DynamicNodeSpec(
                "subject",
                self.body(),
                others,
                expander=expander if "expander" in self.features else None,
                policy=self.policy(),
            )
            edges = [
                Edge("before", "subject", condition=condition),
                Edge("subject", "after", condition=condition),
            ]
            expanders["before"] = changing(DynamicModification([spec], add_edges=edges))
            builder.add_edge("before", "after")
        else:
            builder.add_node("subject", policy=self.policy())
            builder.add_edge("before", "subject", condition=condition)
            builder.add_edge("subject", "after", condition=condition)
            for name in others:
                builder.add_edge(name, "subject")
            if "expander" in self.features:
                expanders["subject"] = expander
        if self.ending == "cancel_nodes":
            expanders["ender"] = changing(DynamicModification(cancel_nodes=["subject", "watch"]))
        return DynamicExecutor(
            builder.build(),
            expanders,
            limits=self.limits,
            on_failure="cancel" if self.ending == "on_failure" else "skip",
        )

    def tasks(self) -> dict[str, Any]:
        tasks = {
            "before": nothing,
            "after": nothing,
            "rival": self.rival,
            "watch": self.watch,
            "ender": self.ender,
            "slow": self.slow,
            "subject": self.body(),
        }
        if "trigger" not in self.features:
            del tasks["slow"]
        if "added" in self.features:
            del tasks["subject"]
        return tasks

    async def rival(self) -> None:
        with self.group if "group" in self.features else ExitStack():
            await passes(5)

    async def watch(self) -> None:
        try:
            if self.ending not in ("completes", "fails"):
                await anyio.sleep_forever()
        finally:
            self.release.set()

    async def slow(self) -> None:
        if self.ending != "fails":
            await until(self.begun.is_set)

    async def ender(self) -> None:
        if self.ending != "fails":
            await until(self.begun.is_set)
        if self.ending == "completes":
            self.gate.open("value")
        if self.ending == "on_failure":
            await passes(3)
            raise ArithmeticError

    async def run(self) -> ExecutionResult | None:
        executor, tasks = self.executor(), self.tasks()
        with anyio.CancelScope() as scope:
            async with executor.start(tasks) as handle:
                if self.ending in ("caller", "handle", "cancel_node"):
                    await until(self.begun.is_set)
                if self.ending == "caller":
                    scope.cancel()
                elif self.ending == "handle":
                    handle.cancel("enough")
                elif self.ending == "cancel_node":
                    handle.cancel_node("subject")
                    handle.cancel_node("watch")
            return await handle.wait()
        return None


@pytest.mark.parametrize("ending", ENDINGS)
async def test_every_pair_of_features_in_every_ending(ending: str) -> None:
    """A node with any two of the features, or with all of them, in a run that ends in any way: it
    ends as it should, after as many attempts, having tidied up once; its group was never too full;
    and its slots are free for the next run."""
    for features in CHOICES:
        case = Combined(features, ending)
        with anyio.fail_after(GUARD):
            result = await case.run()
        wrong = check(case, result)
        assert not wrong, (features, wrong)
        again = DAG.builder().add_node("again", policy=NodePolicy(group="g")).build()
        assert (await run(again, {"again": nothing}, limits=case.limits)).ok


EXPECTED = {"completes": "COMPLETED", "fails": "FAILED", "caller": None}


def check(case: Combined, result: ExecutionResult | None) -> list[str]:
    """Return what is not as it should be."""
    wrong = []
    if case.attempts != case.last:
        wrong.append(f"{case.attempts} attempts, not {case.last}")
    if case.group.most > 1 and "group" in case.features:
        wrong.append("the group was too full")
    if case.tidied != (case.ending != "fails"):
        wrong.append(f"tidied {case.tidied} times")
    if (result is None) != (case.ending == "caller"):
        return [*wrong, f"the result is {result}"]
    if result is None:
        return wrong
    status = EXPECTED.get(case.ending, "CANCELLED")
    subject = result["subject"]
    was_late = (
        status == "CANCELLED"
        and "thread" in case.features
        and not {"gate", "expander"} & set(case.features)
        and not case.ending.startswith("cancel_node")
    )
    if was_late:  # a thread cannot be stopped: what it returns after the end of the run counts
        status = "COMPLETED"
    if subject.status != status:
        wrong.append(f"it is {subject}")
    if subject.attempts != case.last:
        wrong.append(f"attempts of {subject}")
    errors = case.last if case.ending == "fails" else case.last - 1
    if [type(error) for error in subject.errors] != [ValueError] * errors:
        wrong.append(f"errors of {subject}")
    after = {"completes": "COMPLETED", "handle": "CANCELLED", "on_failure": "CANCELLED"}
    if result["after"].status != after.get(case.ending, "SKIPPED"):
        wrong.append(f"after is {result['after']}")
    if result.ok != (case.ending not in ("fails", "handle", "on_failure")):
        wrong.append(f"ok is {result.ok}")
    if ("child" in result) != ("expander" in case.features and case.ending == "completes"):
        wrong.append("the child")
    return wrong


# --- a few in full -------------------------------------------------------------------------------


def test_much_at_once(execute: Way) -> None:
    """A retried node with a condition on its edge, in a limited group, added at run time, in a run
    that a failure cancels: its second attempt is cancelled, and it tells all of that."""
    group, second = Inside(), anyio.Event()
    attempts: list[int] = []

    async def flaky() -> None:
        attempts.append(1)
        with group:
            if len(attempts) == 1:
                raise OSError("first")
            second.set()
            await anyio.sleep_forever()

    async def fail() -> None:
        with anyio.fail_after(GUARD):
            await second.wait()
        raise ValueError

    async def rival() -> None:
        with group:
            await passes(3)

    policy = NodePolicy(retry=Retry(3, initial_delay=0, on=OSError), group="g", priority=1)
    modification = DynamicModification(
        [
            DynamicNodeSpec("new", flaky, policy=policy),
            DynamicNodeSpec("off", flaky, policy=policy),
        ],
        add_edges=[
            Edge("grow", "new", condition=lambda result: result == "yes"),
            Edge("grow", "off", condition=lambda result: result == "no"),
        ],
    )
    names = [f"rival_{i}" for i in range(3)]
    builder = DAG.builder().add_node("fail").add_node("grow")
    for name in names:
        builder.add_node(name, policy=NodePolicy(group="g"))
    executor = DynamicExecutor(
        builder.build(), {"grow": changing(modification)}, limits={"g": 1}, on_failure="cancel"
    )
    tasks = {"grow": lambda: "yes", "fail": fail} | dict.fromkeys(names, rival)
    result = execute(executor, tasks)
    new = result["new"]
    assert (new.status, new.attempts, new.added_by, new.depth) == ("CANCELLED", 2, "grow", 1)
    assert new.reason == "the run was ended because 'fail' failed"
    assert [str(error) for error in new.errors] == ["first"]
    assert new.error is None
    assert statuses(result)["off"] == "SKIPPED"
    assert group.most == 1


def test_an_early_start_into_a_busy_group(execute: Way) -> None:
    """A node that may start at the first success still waits for its group, and meanwhile more may
    succeed: it gets what there is when it starts."""
    started = anyio.Event()

    async def busy() -> None:
        with anyio.fail_after(GUARD):
            await started.wait()
        await passes(10)

    async def second() -> str:
        started.set()
        return "second"

    policy = NodePolicy(trigger=any_succeeded, group="g")
    builder = DAG.builder().add_node("busy", policy=NodePolicy(group="g"))
    builder.add_node("join", policy=policy).add_edge("first", "second")
    for name in ("first", "second", "bad"):
        builder.add_edge(name, "join")

    async def bad() -> None:
        raise ValueError

    tasks = {"busy": busy, "first": lambda: "first", "second": second, "bad": bad}
    tasks["join"] = lambda inputs: dict(inputs)
    result = execute(DynamicExecutor(builder.build(), limits={"g": 1}), tasks)
    assert result["join"].result == {"first": "first", "second": "second"}


def test_losers_in_a_group_make_room_for_the_join(execute: Way) -> None:
    """The join of a race needs the slot that a loser holds: it starts when that has tidied up."""
    group = Inside()
    begun = anyio.Event()

    async def loser() -> None:
        with group:
            begun.set()
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await passes(10)

    async def winner() -> str:
        with anyio.fail_after(GUARD):
            await begun.wait()
        return "won"

    async def join(inputs: Mapping[str, Any]) -> dict[str, Any]:
        with group:
            return dict(inputs)

    builder = DAG.builder().add_node("loser", policy=NodePolicy(group="g")).add_node("winner")
    builder.add_node("join", policy=NodePolicy(group="g", trigger=at_least(1)))
    dag = builder.add_edge("loser", "join").add_edge("winner", "join").build()
    expander = changing(DynamicModification(cancel_nodes=["loser"]))
    executor = DynamicExecutor(dag, {"winner": expander}, limits={"g": 1})
    result = execute(executor, {"loser": loser, "winner": winner, "join": join})
    assert result["join"].result == {"winner": "won"}
    assert (group.most, group.entered, result.ok) == (1, 2, True)


def test_a_condition_decides_a_race(execute: Way) -> None:
    """The condition on a racer's edge says whether its answer is good: the join starts at the first
    that is, and gets no other."""
    order: list[str] = []

    def racer(name: str, value: int, before: anyio.Event | None, after: anyio.Event) -> Any:
        async def task() -> int:
            if before is not None:
                with anyio.fail_after(GUARD):
                    await before.wait()
                await passes(10)
            after.set()
            order.append(name)
            return value

        return task

    first, second, third = anyio.Event(), anyio.Event(), anyio.Event()
    builder = DAG.builder().add_node("join", policy=NodePolicy(trigger=any_succeeded))
    for name in ("bad", "good", "late"):
        builder.add_edge(name, "join", condition=lambda value: value > 0)

    async def join(inputs: Mapping[str, int], bad: int | None) -> Any:
        order.append("join")
        third.set()
        return dict(inputs), bad

    tasks = {
        "bad": racer("bad", -1, None, first),
        "good": racer("good", 1, first, second),
        "late": racer("late", 2, third, anyio.Event()),
        "join": join,
    }
    result = execute(DynamicExecutor(builder.build()), tasks)
    assert order == ["bad", "good", "join", "late"]
    assert result["join"].result == ({"good": 1}, None)
    assert result.ok


def test_a_clean_up_after_everything(execute: Way) -> None:
    """An `all_done` node, retried, in a group, behind nodes that a condition skipped, that were
    cancelled, that failed in their last attempt, and that an expander added."""
    attempts: list[str] = []

    def flaky(name: str, times: int) -> Any:
        def task() -> str:
            attempts.append(name)
            if attempts.count(name) <= times:
                raise ValueError(name)
            return name

        return task

    retry = Retry(2, initial_delay=0)
    builder = DAG.builder().add_node("fails", policy=NodePolicy(retry=retry, group="g"))
    builder.add_node("clean_up", policy=NodePolicy(trigger=all_done, retry=retry, group="g"))
    builder.add_edge("grow", "off", condition=lambda result: False)
    for name in ("fails", "off", "grow", "hangs"):
        builder.add_edge(name, "clean_up")
    spec = DynamicNodeSpec(
        "new", flaky("new", 1), ["grow"], ["clean_up"], policy=NodePolicy(retry=retry)
    )
    expander = changing(DynamicModification([spec], cancel_nodes=["hangs"]))
    tasks = {"fails": flaky("fails", 9), "clean_up": flaky("clean_up", 1)}
    tasks |= {"off": nothing, "grow": nothing, "hangs": anyio.sleep_forever}
    executor = DynamicExecutor(builder.build(), {"grow": expander}, limits={"g": 1})
    result = execute(executor, tasks)
    assert statuses(result) == {
        "fails": "FAILED",
        "off": "SKIPPED",
        "hangs": "CANCELLED",
        **dict.fromkeys(["grow", "new", "clean_up"], "COMPLETED"),
    }
    assert {name: result[name].attempts for name in ("fails", "new", "clean_up")} == dict.fromkeys(
        ("fails", "new", "clean_up"), 2
    )
    assert [str(error) for error in result["clean_up"].errors] == ["clean_up"]


@pytest.mark.parametrize("how", ["caller", "handle", "cancel_node", "on_failure", "timeout"])
@pytest.mark.parametrize("what", ["retry", "gate"])
async def test_who_waits_for_a_slot_again_when_it_is_cancelled(what: str, how: str) -> None:
    """A node in line for the slot that it gave back, for its next attempt or after a gate, is
    cancelled there, with its run or alone: nothing more of its task is called."""
    called: list[str] = []
    group, gate, in_line, fail = Inside(), Gate(), anyio.Event(), anyio.Event()

    async def waits() -> None:
        called.append("begun")
        if what == "gate":
            await gate.wait()
        with group:
            called.append("went on")
            if called.count("went on") == 1 and what == "retry":
                raise ValueError

    async def holds() -> None:
        with group:
            gate.open()
            await passes(10)
            in_line.set()
            await anyio.sleep_forever()

    async def failing() -> None:
        await fail.wait()
        raise ArithmeticError

    policy = NodePolicy(group="g", retry=Retry(3, initial_delay=0))
    builder = DAG.builder().add_node("waits", policy=policy).add_node("failing")
    dag = builder.add_node("holds", policy=NodePolicy(group="g")).build()
    on_failure: Any = "cancel" if how == "on_failure" else "skip"
    executor = DynamicExecutor(dag, limits={"g": 1}, on_failure=on_failure)
    tasks = {"waits": waits, "holds": holds, "failing": failing}
    with anyio.fail_after(GUARD), anyio.CancelScope() as scope:
        timeout = A_MOMENT if how == "timeout" else None
        async with executor.start(tasks, timeout=timeout) as handle:
            await in_line.wait()
            if how == "caller":
                scope.cancel()
            elif how == "handle":
                handle.cancel()
            elif how == "cancel_node":
                handle.cancel_node("waits")
                await passes(10)
                handle.cancel()
            elif how == "on_failure":
                fail.set()
    assert called == ["begun", *(["went on"] if what == "retry" else [])]
    assert group.most == 1
    if how != "caller":
        result = await handle.wait()
        assert (result["waits"].status, result["waits"].attempts) == ("CANCELLED", 1)


async def test_a_nested_run_with_all_of_it_in_a_cancelled_node() -> None:
    """A node that runs `Combined` things of its own is cancelled: they tidy up, and give the slots
    of the limits that both runs share back."""
    case = Combined(("condition", "retry", "group", "added"), "caller")

    async def outer() -> None:
        await case.executor().execute(case.tasks())

    async def winner() -> None:
        await until(case.begun.is_set)

    cancel = changing(DynamicModification(cancel_nodes=["outer"]))
    result = await run(
        graph("outer", "winner"),
        {"outer": outer, "winner": winner},
        {"winner": cancel},
        limits=case.limits,
    )
    assert statuses(result) == {"outer": "CANCELLED", "winner": "COMPLETED"}
    assert (case.attempts, case.tidied, case.group.most) == (2, 1, 1)
    again = DAG.builder().add_node("again", policy=NodePolicy(group="g")).build()
    assert (await run(again, {"again": nothing}, limits=case.limits)).ok


# --- random graphs of everything -----------------------------------------------------------------

TRIGGERS = [all_succeeded, all_done, any_succeeded, at_least(2), at_least(0.5)]


class Anything:
    """A random run: nodes, edges, policies, expanders that change all of it, and an ending."""

    def __init__(
        self, seed: float, limits: Limits, groups: Mapping[str, Inside], asked: list[list[Any]]
    ) -> None:
        self.dice = Random(seed)
        self.limits = limits
        self.groups = groups
        self.asked = asked  # what each condition was asked

    def happens(self, share: float) -> bool:
        return self.dice.random() < share

    def policy(self) -> NodePolicy:
        fields: dict[str, Any] = {}
        if self.happens(0.4):
            fields["group"] = self.dice.sample(list(self.groups), self.dice.randint(0, 2))
        if self.happens(0.5):
            fields["trigger"] = self.dice.choice(TRIGGERS)
        if self.happens(0.3):
            fields["retry"] = Retry(self.dice.randint(2, 3), initial_delay=0)
        if self.happens(0.3):
            fields["priority"] = self.dice.choice([-1, 1, 2.5])
        return NodePolicy(**fields)

    def condition(self) -> Any:
        answer = self.dice.choice([True, True, False, ValueError(), SystemExit()])
        asked: list[Any] = []
        self.asked.append(asked)

        def condition(result: Any) -> bool:
            asked.append(result)
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return condition

    def task(self, policy: NodePolicy) -> Any:
        fails = self.dice.choice([0, 0, 0, 1, 9])
        turns = self.dice.choice([0, 1, 5, 100])
        swallows, raises, on_thread = self.happens(0.1), self.happens(0.1), self.happens(0.3)
        attempts: list[int] = []

        def enter(stack: ExitStack) -> None:
            for group in policy.groups:
                stack.enter_context(self.groups[group])
            attempts.append(1)
            if len(attempts) <= fails:
                raise ValueError

        async def on_loop() -> None:
            with ExitStack() as stack:
                enter(stack)
                try:
                    await passes(turns)
                except anyio.get_cancelled_exc_class():
                    if raises:
                        raise RuntimeError from None
                    if not swallows:
                        raise

        def in_thread() -> None:
            with ExitStack() as stack:
                enter(stack)

        return in_thread if on_thread else on_loop

    def expander(self, depth: int = 0) -> Any:
        seed = self.dice.random()

        def in_thread(name: str, result: Any, dag: DAG) -> DynamicModification:
            another = Anything(seed, self.limits, self.groups, self.asked)
            return another.modification(name, dag, depth)

        async def on_loop(name: str, result: Any, dag: DAG) -> DynamicModification:
            return in_thread(name, result, dag)

        return on_loop if self.happens(0.6) else in_thread

    def modification(self, by: str, dag: DAG, depth: int) -> DynamicModification:
        dice, names, specs = self.dice, dag.nodes(), []
        for position in range(dice.randint(0, 2)):
            policy = self.policy()
            specs.append(
                DynamicNodeSpec(
                    f"{by}.{position}",
                    self.task(policy),
                    dice.sample(names, min(len(names), dice.randint(0, 2))),
                    dice.sample(names, 1) if self.happens(0.2) else [],
                    expander=self.expander(depth + 1) if depth < 3 and self.happens(0.4) else None,
                    policy=policy,
                )
            )
        source, target = dice.choice(names), dice.choice([*names, *(spec.name for spec in specs)])
        fresh = source != target and (source, target) not in dag.edges()
        edges = [Edge(source, target, condition=self.condition())] if fresh else []
        cut = dice.sample(dag.edges(), 1) if dag.edge_count() and self.happens(0.2) else []
        cancel = [name for name in dice.sample(names, min(3, len(names))) if name != by]
        return DynamicModification(
            specs,
            dice.sample(names, 1) if self.happens(0.15) else [],
            add_edges=edges,
            remove_edges=cut,
            cancel_nodes=cancel if self.happens(0.3) else [],
        )

    def executor(self) -> tuple[DynamicExecutor, dict[str, Any]]:
        builder, tasks, expanders = DAG.builder(), {}, {}
        names = [f"n{i}" for i in range(self.dice.randint(3, 12))]
        for name in names:
            policy = self.policy()
            builder.add_node(name, policy=policy)
            tasks[name] = self.task(policy)
            if self.happens(0.4):
                expanders[name] = self.expander()
        for source, target in combinations(names, 2):
            if self.happens(0.25):
                builder.add_edge(
                    source, target, condition=self.condition() if self.happens(0.4) else None
                )
        executor = DynamicExecutor(
            builder.build(),
            expanders,
            limits=self.limits,
            max_workers=self.dice.randint(1, 3),
            max_concurrency=self.dice.choice([None, None, 1, 3]),
            on_failure="cancel" if self.happens(0.2) else "skip",
        )
        return executor, tasks

    async def run(self) -> ExecutionResult | None:
        executor, tasks = self.executor()
        ending, turns = (
            self.dice.choice(["", "", "caller", "handle", "node"]),
            self.dice.randint(0, 40),
        )
        with anyio.CancelScope() as scope:
            async with executor.start(tasks) as handle:
                if ending:
                    await passes(turns)
                if ending == "caller":
                    scope.cancel()
                elif ending == "handle":
                    handle.cancel()
                elif ending == "node":
                    handle.cancel_node("n0")
            return await handle.wait()
        return None


@pytest.mark.parametrize("start", range(0, 60, 10))
async def test_random_graphs_of_everything(start: int) -> None:
    """Up to three random runs at once, which share limits: all of them end, without an error of
    dagron's own; every node has ended in one way, and says why; no group was ever too full, no
    condition asked twice, and all slots are free afterwards."""
    for seed in range(start, start + 10):
        dice = Random(seed)
        limits, groups = Limits(g=1, h=2), {"g": Inside(), "h": Inside()}
        asked: list[list[Any]] = []
        runs = [Anything(dice.random(), limits, groups, asked) for _ in range(dice.randint(1, 3))]
        results: list[ExecutionResult | None] = []

        async def one(anything: Anything, results: Any = results) -> None:
            results.append(await anything.run())

        with anyio.fail_after(GUARD):
            async with anyio.create_task_group() as group:
                for anything in runs:
                    group.start_soon(one, anything)
        for node in (node for r in results if r is not None for node in r.node_results.values()):
            assert node.status in ("COMPLETED", "FAILED", "SKIPPED", "CANCELLED"), seed
            assert node.status not in ("SKIPPED", "CANCELLED") or node.reason, seed
            assert node.status != "FAILED" or node.error is not None, seed
        assert groups["g"].most <= 1, seed
        assert groups["h"].most <= 2, seed
        assert max(map(len, asked), default=0) <= 1, seed
        meeting = Meeting(3)
        builder = DAG.builder().add_node("g", policy=NodePolicy(group="g"))
        for name in ("h", "h too"):
            builder.add_node(name, policy=NodePolicy(group="h"))
        dag = builder.build()
        assert (await run(dag, dict.fromkeys(dag, meeting.join), limits=limits)).ok
