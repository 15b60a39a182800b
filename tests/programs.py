"""Random programs for the pure scheduler, which a naive model follows step by step.

`drive` runs a program on a scheduler and on the model, and looks at both after every step; the
assertion that fails names the claim that breaks.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from random import Random
from typing import Any

from hypothesis import strategies as st

from dagron import (
    DynamicModification,
    DynamicNodeSpec,
    Fault,
    Fold,
    ModificationError,
    NodeStatus,
)
from dagron._blame import Blame, Why
from dagron._edge import Edge, condition_of
from dagron._lanes import Pool
from dagron._modification import touches_others
from dagron._policy import NodePolicy, all_done, all_succeeded, any_succeeded, at_least
from dagron._scheduler import Scheduler
from dagron._statuses import Landed
from machine import (
    CANCELLED,
    COMPLETED,
    FAILED,
    PENDING,
    READY,
    RUNNING,
    SKIPPED,
    STARTED,
    UNMET,
    WAITING,
    Answer,
    Model,
    Pair,
    asked_by,
    dag,
    nothing,
    pools,
    snapshot,
    spelled,
)

FINAL = (COMPLETED, FAILED, SKIPPED, CANCELLED)
Tape = tuple[bytes, list[bytes]]
LEGAL = {
    *((PENDING, READY), (PENDING, SKIPPED), (PENDING, CANCELLED), (PENDING, FAILED)),
    *((READY, RUNNING), (READY, PENDING), (READY, SKIPPED), (READY, CANCELLED), (READY, FAILED)),
    *((RUNNING, COMPLETED), (RUNNING, FAILED), (RUNNING, CANCELLED)),
}
TRIGGERS = [
    *(all_succeeded, all_done, any_succeeded),
    *(at_least(2), at_least(0.5), at_least(1), at_least(0.3), at_least(1.0)),
]

# --- programs ------------------------------------------------------------------------------------

# A program is the bytes from which its graph is made, and then those of each step: hypothesis
# shrinks it by leaving out steps and zeroing bytes, and a step is one draw, whatever it chooses.
START = st.binary(min_size=100, max_size=100).map(lambda rolls: rolls.rstrip(b"\0"))
STEP = st.binary(min_size=60, max_size=60).map(lambda rolls: rolls.rstrip(b"\0"))
PROGRAMS = st.tuples(START, st.lists(STEP, min_size=20, max_size=30))


def random_programs(count: int) -> Iterator[Tape]:
    """The same programs each time; they are rougher than those of hypothesis."""
    for seed in range(count):
        dice = Random(seed)
        yield dice.randbytes(100), [dice.randbytes(60) for _ in range(40)]


def drive(
    scheduler_class: type[Scheduler],
    program: Tape,
    *,
    questions: bool = True,
    drains: bool = False,
) -> Counter[str]:
    """Run the program, checking every claim after every step, on its ``questions``, too.

    Where it ``drains``, threads run one node after another, and most nodes are such as they run.
    Returns what happened, and how often. Where a claim breaks, the error carries the steps.
    """
    start, steps = program
    run = Program(scheduler_class, questions, drains)
    try:
        run.begin(Dice(start))
        for step in steps:
            run.step(Dice(step))
        run.finish()
    except Exception as error:
        error.add_note("\n".join(["the program:", *run.log]))
        raise
    return run.seen


class Dice:
    """Choices read from bytes: the first alternative for a zero, and when the bytes have ended."""

    def __init__(self, rolls: bytes = b"") -> None:
        self._rolls = iter(rolls)

    def number(self, least: int, most: int) -> int:
        return least + next(self._rolls, 0) % (most - least + 1)

    def one(self, values: Iterable[Any]) -> Any:
        values = list(values)
        return values[self.number(0, len(values) - 1)]

    def some(self, values: Iterable[Any], most: int) -> list[Any]:
        """Up to ``most`` different ones, in any order."""
        left = list(values)
        count = min(self.number(0, most), len(left))
        return [left.pop(self.number(0, len(left) - 1)) for _ in range(count)]

    def happens(self, one_in: int) -> bool:
        return self.number(0, one_in - 1) == one_in - 1


# --- a run of a program --------------------------------------------------------------------------


class Program:
    """A scheduler and the model of it, moved in step."""

    model: Model
    scheduler: Scheduler

    def __init__(
        self, scheduler_class: type[Scheduler], questions: bool = True, drains: bool = False
    ) -> None:
        self.scheduler_class = scheduler_class
        self.questions = questions
        self.drains = drains
        self.dice = Dice()
        self.seen: Counter[str] = Counter()
        self.log: list[str] = []
        self.made = 0  # how many names were given to new nodes
        self.answers = 0  # how many conditions were made
        self.turns = 0  # how often a node became ready
        self.landed: list[Landed] = []  # what this step has landed
        self.lost: list[str] = []  # names of forgotten nodes
        self.before: dict[str, NodeStatus] = {}
        self.groups: list[str] = []
        self.ghosts = False  # an unusual node left the line before its turn, and may stand there

    def begin(self, dice: Dice) -> None:
        self.dice = dice
        nodes = [f"i{n}" for n in range(dice.number(1, 7))]
        pairs = [(a, b) for i, a in enumerate(nodes) for b in nodes[i + 1 :]]
        edges = [self.perhaps_conditional(*pair) for pair in dice.some(pairs, most=7)]
        inserted = dice.some(nodes, most=len(nodes))
        inserted += [name for name in nodes if name not in inserted]
        on_threads = self._threaded(inserted, most=5)
        sizes = dice.one([{}, {"g": dice.number(1, 2), "h": dice.number(1, 3)}])
        self.groups = [*sizes]
        limits = {
            "max_workers": dice.number(1, 3),
            "max_concurrency": None if self.drains else dice.one([None, 1, 2, 3]),
            "max_nodes": len(nodes) + dice.one([100, 100, 100, 6]),
            "max_depth": dice.one([1_000, 1_000, 1_000, 2]),
            "policy": self.policy() if not self.drains and dice.happens(one_in=4) else None,
            "keep": dice.one(["all", "all", "leaves", "failures"]),
        }
        policies = {name: made for name in inserted if (made := self.policy()) is not None}
        self.log.append(
            f"dag(*{inserted}, *{edges}, policies={policies}), on_threads={on_threads}, "
            f"pools=pools(**{sizes}), {limits}"
        )
        self.model = Model(inserted, edges, on_threads, groups=sizes, policies=policies, **limits)
        graph = dag(*inserted, *edges, policies=policies)
        self.pools = pools(**sizes)
        self.scheduler = self.scheduler_class(
            graph, on_threads=on_threads, pools=self.pools, **limits
        )
        self.scheduler.log = []
        for name in self.model.all(READY):
            self._note_turn(name)
        self.before = dict(self.model.status)
        self.check()

    def perhaps_conditional(self, source: str, target: str) -> Pair:
        """The edge, one in three with a condition."""
        if not self.dice.happens(one_in=3):
            return source, target
        self.answers += 1
        return Edge(source, target, Answer(self.answers))

    def _threaded(self, names: list[str], most: int) -> list[str]:
        """Some of the nodes, or most of them where threads drain."""
        if self.drains:
            return [name for name in names if not self.dice.happens(one_in=5)]
        return self.dice.some(names, most)

    def policy(self) -> NodePolicy | None:
        """A policy, one in two with a trigger."""
        fields: dict[str, Any] = {}
        if self.drains and not self.dice.happens(one_in=4):
            return None
        if self.dice.happens(one_in=2):
            fields["trigger"] = self.dice.one(TRIGGERS)
        if self.groups and self.dice.happens(one_in=2):
            fields["group"] = self.dice.one([*self.groups, self.groups, ()])
        if self.drains or self.dice.happens(one_in=3):
            fields["priority"] = self.dice.one([1, -1, 2.5, 0])
        if self.dice.happens(one_in=4):
            fields["keep"] = self.dice.one(["failures", "leaves", "all", None, Fold(max, int)])
        return NodePolicy(**fields) if fields else None

    # -- steps

    def step(self, dice: Dice) -> None:
        self.dice, model = dice, self.model
        steps = [self.idle, self.take, self.modify]
        if model.all(READY) or model.asking:
            steps += [self.take] * 4
        if model.all(*WAITING):
            steps += [self.cancel_waiting] * dice.happens(one_in=2)
            steps += [self.cancel_rest] * dice.happens(one_in=20)
        if model.all(RUNNING):
            steps += [self.succeed] * 4 + [self.expand] * 3 + [self.fail, self.rest, self.ask]
            steps += [self.ask] * len(model.resting)
            steps += [self.cancel_running] * dice.happens(one_in=2)
            steps += [self.stream]
        if any(map(model.children, model.counted)):
            steps += [self.stream] * 2 + [self.wait_for_room] * 3
        if self.scheduler.retention.spare:
            steps += [self.forget] * 2
        if model.workers:
            steps += [self.give_back]
        if model.asking:
            steps += [self.stop_asking]
        if model.offered:
            steps += [self.ask] * 3
        if not self._in_tasks():
            of_tasks = (self.expand, self.stream, self.rest, self.ask)
            steps = [step for step in steps if step not in of_tasks]
        if model.drained:
            steps += [self.succeed] * 4 + [self.look_ahead]
            steps += [self.go_on_in_task] * dice.happens(one_in=2)
        if model.draining > len(model.drained):
            steps += [self.drain] * 6
        dice.one(steps)()
        self.check()

    def idle(self) -> None:
        """Nothing happens: what hypothesis makes of a step that a failure does not need."""

    def take(self) -> None:
        """Nothing that may start is left behind, nothing else is taken, turns are kept."""
        model, most = self.model, self.dice.one([100, 1, 2, 3])
        taken = self.scheduler.take_ready(most)
        self.log.append(f"take_ready({most}) == {taken}")
        assert len(taken) <= most, f"no more are taken than asked for: {taken}"
        for name in taken:
            line, worker = model.line(), model.status.get(name) and model.wants_worker(name)
            assert name in line, f"what starts is ready, and starts once: {name} of {taken}"
            lacking = model.lacks(name, worker)
            assert not lacking, f"the limits hold: {name} of {taken} took from {lacking}"
            due = model.next_in_line()
            assert name == due, f"turns are kept: {self._whose_turn(due, name)}"
            self.seen["inherited" if name in model.asking else "started"] += 1
            self.seen["started past others"] += due != line[0]
            is_new = name not in model.asking
            model.grant(name)
            if name in model.offered or (is_new and self._is_drained(name)):
                self._hand_over(name)
        due = model.next_in_line()
        assert len(taken) == most or due is None, f"no slot idles: {due} could start"
        if len(taken) < most:
            assert not self.scheduler.is_stuck(), "no node is stranded"
            if self.drains:
                self._offer()

    def _whose_turn(self, due: str, name: str) -> str:
        """Why one of two nodes goes before the other."""
        if due in self.model.asking:
            return f"{due} asked before {name} was to start"
        if self.model.priority(due) > self.model.priority(name):
            return f"{due} has a larger priority than {name}"
        return f"{due} was ready before {name}"

    def succeed(self) -> None:
        self._end(self.dice.one(self.model.all(RUNNING)), COMPLETED)

    def fail(self) -> None:
        self._end(self.dice.one(self.model.all(RUNNING)), FAILED)

    def cancel_running(self) -> None:
        blame = self.dice.one([None, Blame(Why.OUTSIDE)])
        self._end(self.dice.one(self.model.all(RUNNING)), CANCELLED, blame)

    def cancel_waiting(self) -> None:
        name = self.dice.one(self.model.all(*WAITING))
        blame = self.dice.one([None, Blame(Why.OUTSIDE)])
        if name in self.model.offered:
            self.model.offered.clear()
        self.log.append(f"cancel({name!r}, {blame!r})")
        self.scheduler.cancel(name, blame)
        self.model.end(name, CANCELLED, blame=blame)
        self.seen["cancelled before its start"] += 1

    def cancel_rest(self) -> None:
        self.model.offered.clear()
        self.log.append("cancel_rest()")
        self.scheduler.cancel_rest()
        self.model.end(*self.model.all(*WAITING), CANCELLED)
        self.seen["the rest was cancelled"] += 1

    def _end(self, name: str, status: NodeStatus, blame: Blame | None = None) -> None:
        """Report an outcome as the shell does: a worker may be returned just before or after.

        A thread that goes on beyond the end of its node returns it later.
        """
        model, dice = self.model, self.dice
        if name in model.drained:
            self._leave_thread(name, takes_over=status is FAILED or dice.happens(one_in=4))
        self.ghosts |= model.asking.get(name, False)
        if name in model.asking and (status is COMPLETED or dice.happens(one_in=2)):
            self._stop_asking(name)
        if dice.happens(one_in=2):
            self._return_worker(name)
        lingers = name in model.workers and status is not COMPLETED and dice.happens(one_in=2)
        lingering = {"lingering": True} if lingers else {}
        if name in model.counted:
            left = self.scheduler.offspring.end(name)
            self.log.append(f"offspring.end({name!r}) == {sorted(left)}")
            assert set(left) == model.children(name), f"the unfinished children of {name}: {left}"
        if status is COMPLETED:
            self._complete(name)
        elif status is FAILED:
            self.log.append(f"fail({name!r}, **{lingering})")
            self.scheduler.fail(name, **lingering)
            model.end(name, FAILED)
        else:
            self.log.append(f"cancel({name!r}, {blame!r}, **{lingering})")
            self.scheduler.cancel(name, blame, **lingering)
            model.end(name, CANCELLED, blame=blame)
        if lingers:
            model.lingering.add(name)
            self.seen["a thread goes on"] += 1
        else:
            self._return_worker(name)
        self.seen[str(status)] += 1

    def _complete(self, name: str) -> None:
        """Complete a node, with an answer from each condition that is asked for one."""
        model = self.model
        asked = self.scheduler.conditions(name)
        due = {b: c for (a, b), c in model.conditions.items() if a == name}
        due = {
            target: due[target]
            for target in due
            if model.status[target] in WAITING and (name, target) not in model.settled
        }
        assert asked == due, f"conditions are asked for those that wait: {asked}"
        untaken, broken = self._answers(due)
        self.log.append(f"succeed({name!r}, {untaken}, {broken})")
        self.scheduler.succeed(name, untaken, broken)
        model.complete(name, untaken, broken)
        self._fail_broken(broken)

    def _answers(self, asked: Iterable[Any]) -> tuple[list[Any], list[Any]]:
        """Of what is asked for, what is answered with no, and what gets no answer."""
        answers = {key: self.dice.one(["yes", "no", "yes", "no", "broken"]) for key in asked}
        self.seen.update(f"a condition: {answer}" for answer in answers.values())
        return (
            [key for key in answers if answers[key] == "no"],
            [key for key in answers if answers[key] == "broken"],
        )

    def _fail_broken(self, targets: Iterable[str]) -> None:
        for target in targets:
            if self.model.status[target] in WAITING:  # and did not fall with another one
                self.log.append(f"fail({target!r})")
                self.scheduler.fail(target)
                self.model.end(target, FAILED)
                self.seen["failed by a condition"] += 1

    # -- slots

    def rest(self) -> None:
        model = self.model
        active = [
            name
            for name in self._in_tasks()
            if name not in model.asking and name not in model.resting
        ]
        if active:
            name = self.dice.one(active)
            self.log.append(f"rest({name!r})")
            self.scheduler.rest(name)
            model.rest(name)
            self.seen["rested"] += 1

    def ask(self) -> None:
        model = self.model
        idle = [name for name in self._in_tasks() if name not in {*model.workers, *model.asking}]
        if not idle:
            return
        name = self.dice.one([*(name for name in idle if name in model.resting), *idle])
        worker = self.dice.one([True, False])
        lacking = model.lacks(name, worker)
        granted = self.scheduler.ask(name, worker=worker)
        self.log.append(f"ask({name!r}, worker={worker}) == {granted}")
        assert granted == (not lacking), f"the limits hold: {name} lacked {lacking}"
        model.asking[name] = worker
        if granted:
            self.seen["went on at once"] += name in model.resting
            model.grant(name)
        else:
            self.seen["asked in vain"] += 1

    def stop_asking(self) -> None:
        self._stop_asking(self.dice.one(self.model.asking))

    def _stop_asking(self, name: str) -> None:
        self.log.append(f"stop_asking({name!r})")
        self.scheduler.stop_asking(name)
        self.ghosts |= self.model.asking.pop(name)

    def give_back(self) -> None:
        self._return_worker(self.dice.one(sorted(self.model.workers)))

    def _return_worker(self, name: str) -> None:
        if name in self.model.workers:
            self.log.append(f"return_worker({name!r})")
            self.scheduler.return_worker(name)
            self.model.return_worker(name)

    # -- threads that run one node after another

    def _in_tasks(self) -> list[str]:
        """The running nodes that can do more than end."""
        return [name for name in self.model.all(RUNNING) if name not in self.model.drained]

    def _is_drained(self, name: str) -> bool:
        """Whether a draining thread runs a node that was taken: five of six that it may run."""
        return self.drains and self._may_drain(name) and bool(self.dice.number(0, 5))

    def _may_drain(self, name: str) -> bool:
        """Whether it is a plain call of a sync task."""
        return name in self.model.on_threads and name not in self.model.policies

    def _hand_over(self, name: str) -> None:
        model = self.model
        if name in model.offered:
            model.offered.remove(name)
            self.seen["taken after it was offered"] += 1
        self.log.append(f"hand_over({name!r})")
        self.scheduler.hand_over(name)
        model.hand_over(name)

    def _offer(self) -> None:
        """Let threads go on with what is next in line, right after a look at who may start."""
        model = self.model
        if model.offered:
            last = model.offered[-1]
            overtaken = self.scheduler.is_overtaken(last)
            self.log.append(f"is_overtaken({last!r}) == {overtaken}")
            first, perhaps = (model.overtaking(last, only=only) for only in (True, False))
            assert overtaken or not first, f"who goes first is noticed: {first}"
            assert perhaps or self.ghosts or not overtaken, "nobody is overtaken by nobody"
            if overtaken:
                self.seen["recalled"] += 1
                model.offered.clear()
        most = self.dice.number(1, 4)
        found = self._following(most)
        following, certain = (
            [name for name in model.following(only=only) if name not in model.offered]
            for only in (True, False)
        )
        assert found == following[: len(found)], f"who follows is next: {found} of {following}"
        assert self.ghosts or len(found) >= len(certain[:most]), (
            f"nobody is left out who follows: {found} of {certain}"
        )
        for name in found:
            if not self._may_drain(name):
                break
            model.offered.append(name)
            self.seen["offered"] += 1

    def _following(self, most: int) -> list[str]:
        offered = [*self.model.offered]
        found = self.scheduler.following(most, offered)
        self.log.append(f"following({most}, {offered}) == {found}")
        assert len(found) <= most, f"no more follow than asked for: {found}"
        return found

    def look_ahead(self) -> None:
        """At any time it is usual nodes in line that follow, and only where no slot is free."""
        model, most = self.model, self.dice.number(1, 4)
        found = self._following(most)
        usual = [name for name in model.usual() if name not in model.offered][:most]
        assert found == usual[: len(found)], f"who follows is usual: {found} of {usual}"
        assert all(model.lacks(name, worker=True) for name in found), "no slot idles"

    def drain(self) -> None:
        """A thread that has ended a node takes the next one, or gives its slot back."""
        model = self.model
        unready = [name for name in model.status if name not in model.all(READY)]
        if unready and self.dice.happens(one_in=4):
            self._begin_wrongly(self.dice.one(unready))
        if model.offered and not self.dice.happens(one_in=4):
            name = model.offered[0]
            self.log.append(f"begin({name!r})")
            self.scheduler.begin(name)
            model.begin(name)
            self.seen["begun"] += 1
        else:
            self.log.append("end_draining()")
            self.scheduler.end_draining()
            model.draining -= 1
            self.seen["parked"] += 1

    def _begin_wrongly(self, name: str) -> None:
        before = snapshot(self.scheduler)
        self.log.append(f"begin({name!r}), which is {self.model.status[name]}")
        with suppress(RuntimeError):
            self.scheduler.begin(name)
            raise AssertionError(f"nobody begins who is not ready: {name}")
        assert snapshot(self.scheduler) == before, "a start that is refused changes nothing"

    def go_on_in_task(self) -> None:
        """A thread is done with a node that is not done, or is given up."""
        name = self.dice.one(sorted(self.model.drained))
        self._leave_thread(name, takes_over=self.dice.happens(one_in=2))

    def _leave_thread(self, name: str, *, takes_over: bool) -> None:
        self.model.drained.remove(name)
        if takes_over:
            self.log.append(f"take_over({name!r})")
            self.scheduler.take_over(name)
            self.model.take_over(name)
            self._check_workers()
            self.seen["taken over"] += 1

    # -- nodes that go on adding nodes

    def stream(self) -> None:
        """A running node lands a modification and goes on: its expander, or its task."""
        by = self.dice.one(self._in_tasks())
        settled = self.dice.one([True, True, False])
        if by not in self.model.counted:
            self.log.append(f"offspring.begin({by!r})")
            self.scheduler.offspring.begin(by)
            self.model.counted.add(by)
        if not self._land(by, settled=settled) and settled:
            self._end(by, FAILED)
        else:
            self.seen["streamed"] += 1

    def wait_for_room(self) -> None:
        model, offspring = self.model, self.scheduler.offspring
        idle = [name for name in sorted(model.counted) if name not in model.waits]
        if not (idle := [name for name in idle if model.children(name)]):
            return
        name = self.dice.one(idle)
        limit = self.dice.number(1, len(model.children(name)) + 1)
        answer = offspring.wait(name, limit)
        self.log.append(f"offspring.wait({name!r}, {limit}) == {answer}")
        room = model.has_room(name, limit)
        assert answer == room, f"a window is as wide as it says: {limit}, {model.children(name)}"
        self.seen["had room"] += answer
        if not answer:
            model.waits[name] = limit
            self.seen["waited for room"] += 1
            if self.dice.happens(one_in=2):
                self.log.append(f"offspring.rely({name!r})")
                offspring.rely(name)
                model.relying.add(name)

    # -- retention

    def forget(self) -> None:
        """Forget some of the nodes that nobody needs, as the shell does some time."""
        for name in self.dice.some(sorted(self.scheduler.retention.spare), most=3):
            self.log.append(f"forget({name!r})")
            assert self.scheduler.forget(name), f"what is spare is forgotten: {name}"
            self.model.forget(name)
            self.lost.append(name)
            del self.before[name]
            self.seen["forgotten"] += 1

    # -- modifications

    def expand(self) -> None:
        by = self.dice.one(self._in_tasks())
        if not self._land(by):
            self._end(by, FAILED)
        elif self.dice.number(0, 2):
            self._end(by, COMPLETED)

    def modify(self) -> None:
        self._land(None)

    def _land(self, by: str | None, *, settled: bool = False) -> bool:
        """Land a modification on both; tell whether it was accepted."""
        model = self.model
        modification = Modifications(self, by).make()
        if touches_others(modification):
            model.offered.clear()
        new = {added.name for added in modification.add_nodes}
        asked = [
            (source, target)
            for source, target in filter(condition_of, modification.add_edges)
            if (
                model.status.get(source) is COMPLETED
                or (settled and source == by and target in new)
            )
            and model.status.get(target, PENDING) in WAITING
        ]
        untaken, broken = self._answers(dict.fromkeys(asked))
        broken = [edge for edge in broken if edge in model.new_edges(modification)]
        options = {
            "on_threads": self._threaded(sorted(new), most=3),
            "untaken": untaken,
            "broken": broken,
            "settled": settled,
        }
        objections = model.objections(modification, by)
        before = snapshot(self.scheduler)
        self.log.append(f"land({spelled(modification)}, {by!r}, **{options})")
        foreseen = self._foreseen(modification, by)
        assert snapshot(self.scheduler) == before, "to check a modification changes nothing"
        landed = self._landed(modification, by, options)
        faults = landed.faults if isinstance(landed, ModificationError) else ()
        assert foreseen == faults, f"what `check` says is what happens: {foreseen}, {faults}"
        if isinstance(landed, ModificationError):
            kinds = {fault.kind for fault in landed.faults}
            assert objections, f"a legal modification is accepted: {landed}"
            assert kinds <= {*objections, "cycle"}, f"faults are real: {kinds}, not {objections}"
            assert snapshot(self.scheduler) == before, "a rejected modification changes nothing"
            assert landed.by == by, "the error names who made the modification"
            self._check_words(landed.faults)
            self.seen.update(f"refused: {kind}" for kind in kinds)
            self.seen["refused"] += 1
            return False
        assert not objections, f"a modification with faults is refused: {objections}"
        self._follow(modification, by, options, landed)
        return True

    def _check_words(self, faults: Iterable[Fault]) -> None:
        """A name that nobody knows may be that of a forgotten node, and the error says so."""
        for fault in faults:
            told = "forgotten (keep=...)" in fault.help
            unknown = fault.message.endswith("not exist")
            assert not unknown or told == bool(self.model.forgotten), f"forgotten nodes: {fault}"
            self.seen["an unknown name, with forgotten nodes"] += unknown and told

    def _foreseen(self, modification: DynamicModification, by: str | None) -> Sequence[Fault]:
        """The faults with which the modification would be refused."""
        try:
            self.scheduler.check(modification, by)
        except ModificationError as error:
            return error.faults
        return ()

    def _landed(
        self, modification: DynamicModification, by: str | None, options: Mapping[str, Any]
    ) -> list[str] | ModificationError:
        try:
            return list(self.scheduler.land(modification, by, **options))
        except ModificationError as error:
            return error

    def _follow(
        self,
        modification: DynamicModification,
        by: str | None,
        options: Mapping[str, Any],
        to_cancel: list[str],
    ) -> None:
        """Do on the model what has landed, and as the shell what is left to do."""
        model, before = self.model, dict(self.model.status)
        removed = model.vanishing(modification)
        cancelled = model.cancelled(modification)
        record = Landed(
            by,
            version=model.version + 1,
            depth=0 if by is None else model.depths[by] + 1,
            node_count=len(model.status) - len(removed) + len(modification.add_nodes),
            added_nodes=[added.name for added in modification.add_nodes],
            removed_nodes=removed,
            added_edges=model.new_edges(modification),
            removed_edges=[*dict.fromkeys(modification.remove_edges)],
            cancelled_nodes=cancelled,
        )
        model.land(modification, by, **options)
        if model.version == record.version:
            self.landed.append(record)
        running = [name for name in cancelled if before[name] is RUNNING]
        assert to_cancel == running, f"the running ones are to be cancelled: {to_cancel}"
        self._fail_broken(dict.fromkeys(target for _, target in options["broken"]))
        for name in running:
            if self.dice.number(0, 2):  # else it ends in some other way first
                self._end(name, CANCELLED, asked_by(by))
        new = [added.name for added in modification.add_nodes]
        self.seen["landed"] += 1
        self.seen["a name was used again"] += bool({*new} & {*self.lost})
        self.seen["settled"] += any(edge[1] in new for edge in model.settled)
        self.seen["removed"] += len(removed)
        self.seen["cancelled by a modification"] += len(cancelled)
        self.seen["cancelled while running"] += len(running)
        self.seen["skipped at landing"] += sum(model.status[name] is SKIPPED for name in new)

    def finish(self) -> None:
        """Run what is left to its end: every node gets there."""
        self.dice = Dice()
        model, scheduler = self.model, self.scheduler
        while model.all(*WAITING, RUNNING):
            self.take()
            self.check()
            while model.draining > len(model.drained):
                self.drain()
                self.check()
            for name in [name for name in model.workers if model.status[name] in FINAL]:
                self._return_worker(name)
            running = model.all(RUNNING)
            free = model.next_in_line()
            assert running or free, f"no node is stranded: {model.all(*WAITING)} wait for nothing"
            if running:
                self._end(running[0], COMPLETED)
            self.check()
        while model.draining:
            self.drain()
        assert scheduler.unfinished == scheduler.running == 0, "all that remains has ended"
        assert set(scheduler.statuses().values()) <= set(FINAL), "every node ends in a final state"
        assert scheduler.take_ready(100) == [], "a run that has ended starts nothing"
        for name in [*model.workers]:
            self._return_worker(name)
        taken = [name for name, pool in self._all_pools().items() if pool.free != pool.size]
        assert not taken, f"all slots are free at the end: {taken}"

    # -- what holds after every step

    def check(self) -> None:
        model, scheduler = self.model, self.scheduler
        now = dict(scheduler.statuses())
        assert now == model.status, f"one state per node, the one by the rules: {self._wrong(now)}"
        self._check_log(now)
        for name, status in now.items():
            assert scheduler.status(name) is status, "the questions agree"
            self._check_node(name, status)
        counts = Counter(now.values())
        assert scheduler.running == counts[RUNNING], "the count of running nodes is true"
        unfinished = counts[PENDING] + counts[READY] + counts[RUNNING]
        assert scheduler.unfinished == unfinished, "the count of unfinished nodes is true"
        assert list(scheduler.removed()) == model.removed, "removed nodes are listed as they went"
        kept = {*scheduler.policies, *scheduler.on_threads}
        assert kept <= {*now}, f"nothing is kept of removed nodes: {kept - {*now}}"
        self._check_slots()
        self._check_graph()
        self._check_children()
        self._check_retention()
        for name in now if self.questions else ():
            self._check_questions(name)

    def _wrong(self, now: Mapping[str, NodeStatus]) -> str:
        """Where the scheduler and the model differ."""
        due = self.model.status
        return ", ".join(
            f"{name} is {now.get(name)} and should be {due.get(name)}"
            for name in sorted({*now, *due})
            if now.get(name) is not due.get(name)
        )

    def _note_turn(self, name: str) -> None:
        self.turns += 1
        self.model.turn[name] = self.turns

    def _check_log(self, now: Mapping[str, NodeStatus]) -> None:
        """Told again, what the log holds since the last step leads from there to here."""
        told, landed = dict(self.before), []
        log = self.scheduler.log
        for entry in log:
            if isinstance(entry, Landed):
                landed.append(entry._replace(**{f: [*getattr(entry, f)] for f in LISTS}))
                self.ghosts |= any(told[name] is READY for name in entry.removed_nodes)
                told = {name: told[name] for name in told if name not in entry.removed_nodes}
                told.update(dict.fromkeys(entry.added_nodes, PENDING))
                continue
            name, status = entry
            step = (told[name], status)
            if step[0] is READY and status is not RUNNING:
                self.ghosts |= not self.model.is_usual(name)
            assert step in LEGAL, f"transitions are legal: {name}, {step[0]} to {step[1]}"
            told[name] = status
            if status is READY:
                self._note_turn(name)
            self.seen["went back to waiting"] += step == (READY, PENDING)
        assert told == now, f"the log tells what happened: {log}"
        assert landed == self.landed, f"the log tells what landed: {landed}, not {self.landed}"
        log.clear()
        self.landed.clear()
        self.before = dict(now)

    def _check_node(self, name: str, status: NodeStatus) -> None:
        model, scheduler = self.model, self.scheduler
        dependencies = scheduler.dependencies(name)
        assert sorted(dependencies) == model.dependencies(name), "the edges are those that landed"
        origin = (model.added_by[name], model.depths[name])
        assert scheduler.origin(name) == origin, "provenance: who added a node, and how deep"
        assert scheduler.was_known(name), "a node of the graph is known"
        policy = scheduler.policies.get(name, NodePolicy())
        assert policy.trigger == model.trigger(name), f"the trigger of {name}"
        assert policy.priority == model.priority(name), f"the priority of {name}"
        assert [*policy.groups] == model.groups(name), f"the groups of {name}"

    def _check_slots(self) -> None:
        model, scheduler = self.model, self.scheduler
        taken = model.taken()
        over = {slot: size for slot, size in model.slots.items() if taken[slot] > size}
        assert not over, f"the limits hold: {taken} of {over}"
        self._check_workers()
        assert scheduler.resting == model.resting, "who rests, rests"
        assert model.offered == model.usual()[: len(model.offered)], "what was offered is next"
        for name, pool in self._all_pools().items():
            assert pool.size - pool.free == taken[name], (
                f"the slots of {name} are where they belong"
            )

    def _check_workers(self) -> None:
        model, draining = self.model, self.scheduler._admission.draining
        assert self.scheduler.working == model.workers, "worker slots are where they were given"
        assert draining == model.draining, "slots of threads are where they were given"
        assert len(model.drained) <= draining, "a thread runs one node at a time"

    def _all_pools(self) -> Mapping[str, Pool]:
        return {**self.pools, "max_workers": self.scheduler._admission._workers}

    def _check_children(self) -> None:
        """Who counts children counts the unfinished ones, and hears of room as soon as it is."""
        model, offspring = self.model, self.scheduler.offspring
        due = {name: model.children(name) for name in model.counted}
        assert offspring.unfinished == due, f"the unfinished children: {offspring.unfinished}"
        roomy = {name for name in offspring.roomy if name in model.waits}
        offspring.roomy.clear()
        due = {name for name, limit in model.waits.items() if model.has_room(name, limit)}
        assert roomy == due, f"who waits hears of room: {roomy} and not {due}"
        for name in roomy:
            model.stop_waiting(name)
        self.seen["there was room"] += len(roomy)
        assert offspring.waiting == model.waits, "who waits for room, waits"
        held = model.taken()["max_workers"]
        alone = not held and set(model.all(RUNNING)) <= model.relying
        stalled = sorted(model.relying) if alone else []
        assert list(self.scheduler.stalled()) == stalled, "who waits for ever is found"
        self.seen["stalled"] += bool(stalled)

    def _check_retention(self) -> None:
        model, scheduler = self.model, self.scheduler
        spare, due = set(scheduler.retention.spare), {n for n in model.status if model.is_spare(n)}
        assert spare == due, f"what nobody needs is spare, and nothing else: {spare}, not {due}"
        assert scheduler.forgotten == model.forgotten, "the count of forgotten nodes is true"

    def _check_questions(self, name: str) -> None:
        """Who is to blame for a node, what it waits for, and whose results it has."""
        model, scheduler = self.model, self.scheduler
        blame, due = scheduler.blame(name), model.blames.get(name, {None})
        assert blame in due, f"who is to blame for {name}: {blame} and not {due}"
        dependencies = scheduler.dependencies(name)
        pending = [s for s in dependencies if model.status[s] in (*WAITING, RUNNING)]
        pending = [source for source in pending if (source, name) not in model.settled]
        assert scheduler.pending(name) == pending, f"what {name} waits for"
        if model.status[name] in (*WAITING, RUNNING):
            met = [source for source in dependencies if model.edge(source, name) == "met"]
            assert scheduler.met(name) == met, f"whose results {name} has"
        worker = model.wants_worker(name)
        lacks = model.lacks(name, worker) if name in model.line() else []
        if lacks or name not in model.asking:  # else it is to be told with the next `take_ready`
            short = scheduler.short_of(name, worker)
            assert (short is not None) == bool(lacks), f"what {name} is short of: {lacks}"
            assert short is None or short.name in lacks, f"what {name} is short of: {lacks}"

    def _check_graph(self) -> None:
        model, scheduler = self.model, self.scheduler
        graph = scheduler.dag()
        assert scheduler.version == model.version, "the version counts what has landed"
        assert scheduler.dag() is graph, "a graph is made once per version"
        assert set(graph.nodes()) == set(model.status), "the graph has the nodes that landed"
        assert set(graph.edges()) == model.edges, "the graph has the edges that landed"
        conditions = {(e[0], e[1]): c for e in graph.edges() if (c := condition_of(e))}
        assert conditions == model.conditions, "the graph has the conditions that landed"
        policies = {name: policy for name in graph if (policy := graph.policy(name))}
        assert policies == model.policies, "the graph has the policies that landed"
        order = model.order()
        assert len(order) == len(model.status), "the graph is acyclic"
        assert graph.topological_order() == order, "the order is by rank, whatever the timing"


# The fields of `Landed` that hold any sequence.
LISTS = [field for field in Landed._fields if field.endswith(("_nodes", "_edges"))]

# --- modifications -------------------------------------------------------------------------------


class Modifications:
    """Makes modifications of a graph in a run: nine of ten legal, the tenth corrupted."""

    def __init__(self, program: Program, by: str | None) -> None:
        self.program = program
        self.dice = program.dice
        self.model = program.model
        self.by = by
        self.new: dict[str, tuple[list[str], list[str]]] = {}  # its dependencies, its dependents
        self.twice: list[str] = []
        self.remove_nodes: list[str] = []
        self.add_edges: list[Pair] = []
        self.remove_edges: list[Pair] = []
        self.cancel_nodes: list[str] = []

    def make(self) -> DynamicModification:
        self._make_legal()
        policies = {name: self.program.policy() for name in self.new}
        if self.dice.happens(one_in=10):
            self._corrupt()
        return DynamicModification(
            [
                DynamicNodeSpec(name, nothing, *edges, policy=policies.get(name))
                for name, edges in self.new.items()
            ]
            + [DynamicNodeSpec(name, nothing) for name in self.twice],
            self.remove_nodes,
            add_edges=self.add_edges,
            remove_edges=self.remove_edges,
            cancel_nodes=self.cancel_nodes,
        )

    def _make_legal(self) -> None:
        """Draw edges forward along a line of all nodes that will be there: they close no cycle."""
        dice, model = self.dice, self.model
        if dice.happens(one_in=4):
            self.remove_nodes = dice.some(model.all(PENDING, READY, SKIPPED), most=2)
            self.remove_nodes += dice.some(model.removed, most=1)
        if dice.happens(one_in=4):
            edges = self._edges(started=False)
            decided = [edge for edge in edges if model.edge(*edge) != "pending"]
            self.remove_edges = list(dict.fromkeys(dice.some([*decided, *decided, *edges], most=2)))
        if dice.happens(one_in=4):
            known = [name for name in (*model.status, *model.removed) if name != self.by]
            self.cancel_nodes = dice.some(known, most=3)
        line = [name for name in model.order() if name not in self.remove_nodes]
        for _ in range(dice.number(0, 3)):
            name, _ = self._another()
            line.insert(dice.number(0, len(line)), name)
        for name, (dependencies, dependents) in self.new.items():
            place = line.index(name)
            dependencies += dice.some(line[:place], most=2)
            if self.by in line[:place] and self.by not in dependencies and dice.happens(one_in=2):
                if dice.happens(one_in=2):
                    self._add_edge(self.by, name)  # perhaps with a condition
                else:
                    dependencies.append(self.by)
            dependents += dice.some(filter(self._is_open, line[place + 1 :]), most=2)
        for _ in range(dice.one([0, 0, 1, 2]) if len(line) > 1 else 0):
            place = dice.number(1, len(line) - 1)
            if self._is_open(line[place]):
                self._add_edge(dice.one(line[:place]), line[place])

    def _add_edge(self, source: str, target: str) -> None:
        """Add an edge; one that is there, or comes already, is given again as it is."""
        edge = (source, target)
        if edge in self.model.edges and edge not in self.remove_edges:
            self.add_edges.append(Edge(source, target, self.model.conditions.get(edge)))
        elif edge in self.add_edges:
            self.add_edges.append(self.add_edges[self.add_edges.index(edge)])
        elif edge in self._planned():
            self.add_edges.append(edge)
        else:
            self.add_edges.append(self.program.perhaps_conditional(source, target))

    def _planned(self) -> list[Pair]:
        """The edges of the new nodes."""
        edges = [(source, name) for name, (sources, _) in self.new.items() for source in sources]
        return edges + [(n, target) for n, (_, targets) in self.new.items() for target in targets]

    def _another(self) -> tuple[str, tuple[list[str], list[str]]]:
        """One more new node, and its edges."""
        used = {*self.model.status, *self.model.removed, *self.new}
        lost = [name for name in dict.fromkeys(self.program.lost) if name not in used]
        if lost and self.dice.happens(one_in=2):
            name = self.dice.one(lost)
        else:
            name = f"n{self.program.made}"
            self.program.made += 1
        self.new[name] = ([], [])
        return name, self.new[name]

    def _is_open(self, name: str) -> bool:
        return self.model.status.get(name) not in STARTED

    def _edges(self, started: bool) -> list[Pair]:
        """The edges whose target has started, or has not."""
        return sorted(edge for edge in self.model.edges if self._is_open(edge[1]) is not started)

    # -- what a faulty expander may come up with; the last thing in it is wrong

    def _corrupt(self) -> None:
        corruptions = [
            self._depend_on_a_ghost,
            self._remove_a_ghost,
            self._remove_a_missing_edge,
            self._use_a_name_again,
            self._name_a_node_twice,
            self._hold_up_a_started_node,
            self._remove_a_started_node,
            self._cut_a_started_node,
            self._close_a_cycle,
            self._close_a_cycle,
            self._close_a_cycle_over_a_dead_node,
            self._add_too_many,
            self._cancel_what_cannot_be,
            self._give_an_edge_another_condition,
        ]
        self._another()
        self.dice.one(corruptions)()

    def _depend_on_a_ghost(self) -> None:
        _, (dependencies, _) = self._another()
        dependencies.append(self.dice.one(["ghost", *self.model.removed, *self.program.lost]))

    def _remove_a_ghost(self) -> None:
        self.remove_nodes.append("ghost")

    def _remove_a_missing_edge(self) -> None:
        name = self.dice.one([*self.model.status, "ghost"])
        self.remove_edges.append((name, name))

    def _use_a_name_again(self) -> None:
        used = [*self.model.status, *self.model.removed]
        self.twice.append(self.dice.one(used or ["ghost"]))
        if self.dice.happens(one_in=2):
            self.remove_nodes.append(self.twice[0])

    def _name_a_node_twice(self) -> None:
        self.twice.append(self.dice.one(self.new))

    def _hold_up_a_started_node(self) -> None:
        if started := self.model.all(*STARTED):
            target = self.dice.one(started)
            name, (_, dependents) = self._another()
            if self.dice.happens(one_in=2):
                self.add_edges.append((name, target))
            else:
                dependents.append(target)

    def _remove_a_started_node(self) -> None:
        if started := self.model.all(*STARTED):
            self.remove_nodes.append(self.dice.one(started))

    def _cut_a_started_node(self) -> None:
        if edges := self._edges(started=True):
            self.remove_edges.append(self.dice.one(edges))

    def _close_a_cycle(self) -> None:
        """Add the way back along a path that begins where nothing has started."""
        name, (dependencies, _) = self._another()
        dependencies += self.dice.some(self.model.all(PENDING, READY, SKIPPED), most=1)
        edges = [*self.model.edges, *self._planned()]
        start = end = self.dice.one(filter(self._is_open, [name, *self.model.status]))
        for _ in range(self.dice.number(1, 3)):
            end = self.dice.one(sorted(b for a, b in edges if a == end) or [end])
        self.add_edges.append((end, start))

    def _close_a_cycle_over_a_dead_node(self) -> None:
        """Remove a node that was skipped or cancelled, which leaves it there, and go around it."""
        edges = self.model.edges
        ways_round = sorted(
            (below, dead, above)
            for above, dead in edges
            for other, below in edges
            if dead == other and self.model.status[dead] in UNMET and self._is_open(above)
        )
        if ways_round:
            below, dead, above = self.dice.one(ways_round)
            self.remove_nodes = [dead]
            self.add_edges = [(below, above)]

    def _add_too_many(self) -> None:
        for _ in range(self.model.max_nodes - len(self.model.status) + 1):
            self._another()

    def _cancel_what_cannot_be(self) -> None:
        self.cancel_nodes.append(self.by or self.dice.one(["ghost", *self.new]))

    def _give_an_edge_another_condition(self) -> None:
        edges = [edge for edge in self._edges(started=False) if edge not in self.remove_edges]
        edges = [edge for edge in edges if not {*edge} & {*self.remove_nodes}]
        if edges := [*edges, *self._planned()]:
            self.add_edges.append(Edge(*self.dice.one(edges), Answer(0)))
