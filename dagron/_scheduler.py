"""The scheduler: which node may start, what an outcome releases, how a modification lands.

A synchronous state machine without I/O, clock or callables. It holds names, edges, counters and
statuses; the shell around it runs the nodes and reports one outcome for each.
"""

from collections.abc import Container, Iterable, Mapping, Sequence

from dagron._admission import Admission
from dagron._blame import Blame, Why
from dagron._edge import Condition
from dagron._graph import DAG
from dagron._growth import Growth
from dagron._history import INITIAL
from dagron._lanes import Lanes, Pool
from dagron._policy import NodePolicy
from dagron._status import (
    CANCELLED,
    COMPLETED,
    FAILED,
    PENDING,
    READY,
    RUNNING,
    UNDONE,
    WAITING,
    NodeStatus,
)

_NOTHING: Mapping[str, Condition] = {}


class Scheduler(Growth):
    """The state of one run.

    ``on_threads`` names the nodes that need one of the ``max_workers`` worker slots; every node
    needs one of ``max_concurrency`` places and a slot of each of its groups, for which ``pools``
    has the slots, while it is RUNNING and does not rest. ``policy`` is what nodes are run by as far
    as their own says nothing; ``posts`` has the slots of runners that have so many, of which a node
    on such a runner needs one until `leave_runner`. ``max_nodes`` bounds the nodes in the graph at
    any time, ``max_depth`` how many expansions deep a node may be added. ``keep`` says which
    completed nodes stay in the graph.

    A method that is called against the transition table raises `RuntimeError`: a bug of the caller.
    """

    __slots__ = ()

    def __init__(
        self,
        dag: DAG,
        *,
        on_threads: Iterable[str] = (),
        max_workers: int = 1,
        max_concurrency: int | None = None,
        max_nodes: int = 1_000_000,
        max_depth: int = 1_000,
        pools: Mapping[str, Pool] | None = None,
        policy: NodePolicy | None = None,
        lanes: Lanes | None = None,
        keep: str = "all",
        posts: Mapping[str, Pool] | None = None,
    ) -> None:
        lanes = lanes or Lanes()
        pools = {} if pools is None else pools
        admission = Admission(max_workers, max_concurrency, pools, lanes, posts or {})
        super().__init__(dag, admission, on_threads, policy, max_nodes, max_depth, keep)

    # -- questions

    def status(self, name: str) -> NodeStatus:
        """Return where a node of the graph stands."""
        return self._status[name]

    def statuses(self) -> Mapping[str, NodeStatus]:
        """Return the statuses of all nodes that are in the graph; not a copy."""
        return self._status

    def dependencies(self, name: str) -> Sequence[str]:
        """Return the nodes that this one depends on, in edge order."""
        return tuple(self._graph.dependencies[name])

    def met(self, name: str) -> Sequence[str]:
        """Return those of its dependencies that have succeeded, over edges that are active."""
        return self._readiness.met(name)

    def pending(self, name: str) -> Sequence[str]:
        """Return those of its dependencies that are not done."""
        return [
            source
            for source in self._graph.dependencies[name]
            if self._status[source] in UNDONE and not self._readiness.is_settled(source, name)
        ]

    def short_of(self, name: str, worker: bool) -> Pool | None:
        """Return the slots that a node in line is short of; ``worker``: if it wants a thread."""
        holds_place = self._status[name] is RUNNING and name not in self.resting
        return self._admission.short_of(name, worker, holds_place=holds_place)

    def conditions(self, name: str) -> Mapping[str, Condition]:
        """Return the conditions on edges from this node whose targets wait for the answer."""
        targets = self._graph.conditions.get(name)
        if targets is None:
            return _NOTHING
        return {
            target: condition
            for target, condition in targets.items()
            if self._status[target] in WAITING and not self._readiness.is_settled(name, target)
        }

    def origin(self, name: str) -> tuple[str | None, int]:
        """Return the node whose expander added this one, and how many expansions deep that was."""
        depth, _ = self._origins.get(name, INITIAL)  # 0 also for those that came from outside
        return (self._graph.added_by[name], depth) if depth else (None, 0)

    def blame(self, name: str) -> Blame | None:
        """Return why the node was skipped, or cancelled on its own; else None."""
        return self._blame.get(name)

    def removed(self) -> tuple[str, ...]:
        """Return the names of the nodes that were removed, in landing order."""
        return tuple(self._removed)

    def was_known(self, name: str) -> bool:
        """Tell whether a node of this name is in the graph or was removed from it."""
        return name in self._status or name in self._removed

    # -- slots

    def take_ready(self, most: int) -> list[str]:
        """Give slots to up to ``most`` nodes whose turn it is, and return them, in order.

        A node that was READY is RUNNING now; one that was RUNNING has what it asked for. A node on
        a worker thread holds its worker slot until `return_worker`, even beyond its end.
        """
        taken = self._admission.take(most)
        self._start(taken)
        return taken

    def _start(self, names: Iterable[str]) -> None:
        status, special = self._status, self._readiness.special
        for name in names:
            if status[name] is READY:
                status[name] = RUNNING
                self.running += 1
                if self.log is not None:
                    self.log.append((name, RUNNING))
                if special and name in special and self._starts_early(name):
                    self._early.add(name)

    def rest(self, name: str) -> None:
        """Take all slots from a running node, which goes on when it has asked for them again."""
        self._admission.rest(name)

    def ask(self, name: str, *, worker: bool) -> bool:
        """Give a running node the slots that it lacks, and tell so; if there are none, it is next.

        ``worker`` says whether it wants a worker slot, too. `take_ready` returns it when it has
        what it asked for.
        """
        return self._admission.ask(name, worker)

    def stop_asking(self, name: str) -> None:
        """Take back what a running node asked for and did not get yet."""
        self._admission.withdraw(name)

    def return_worker(self, name: str) -> None:
        """Take back the worker slot that the node holds."""
        self._admission.return_worker(name)

    def leave_runner(self, name: str) -> None:
        """Take back the slot of the runner on which the node's body has ended."""
        self._admission.leave_runner(name)

    def end_lingering(self, name: str) -> None:
        """Take back the slots of a node whose body went on beyond its end, and has ended now."""
        self._admission.end_lingering(name)

    # -- threads that run one node after another: they hold a worker slot, and not the nodes

    def hand_over(self, name: str) -> None:
        """Let the thread that begins with this node hold its worker slot, until `end_draining`."""
        self._admission.hand_over(name)

    def following(self, most: int, aside: Container[str]) -> list[str]:
        """Return up to ``most`` nodes of default priority that are next in line for a worker slot.

        They stay in line, in this order, and may `begin` where such a thread has ended a node.
        Those ``aside`` are left out. Ask right after a `take_ready` that ``most`` did not stop:
        then it is known who waits for what.
        """
        return self._admission.following(most, aside)

    def is_overtaken(self, name: str) -> bool:
        """Tell whether somebody who waits for a worker slot goes before this node in line.

        Ask when you would ask for those `following`.
        """
        return self._admission.is_overtaken(name)

    def begin(self, name: str) -> None:
        """Start a node that is in line, in the slot of a thread that has ended another."""
        if self._status[name] is not READY:
            raise self._refusal(name, RUNNING)
        self._admission.withdraw(name)
        self._start((name,))

    def recall(self, name: str) -> None:
        """Let a node run that did so in an earlier life of the run: it holds no slots, and rests.

        It need not be READY: what it waits for may have ended then, and be tried again now.
        """
        if self._status[name] is PENDING:
            self._make_ready(name)
            self._early.add(name)
        self.begin(name)
        self.resting.add(name)

    def take_over(self, name: str) -> None:
        """Let a node hold the worker slot of its thread, from now on."""
        self._admission.take_over(name)

    def end_draining(self) -> None:
        """Take back the worker slot of a thread that has nothing left to run."""
        self._admission.end_draining()

    # -- whether anything goes on

    def is_stuck(self) -> bool:
        """Tell whether nothing will ever happen again, although nodes are not done: a bug."""
        outside = self._admission.wait_outside()
        return bool(self.unfinished) and not self.running and not outside

    def stalled(self) -> Sequence[str]:
        """Return the nodes that wait for their children, if nothing else will ever happen again."""
        relying = self.offspring.relying
        if len(relying) < self.running or self._admission.wait_outside():
            return ()
        return sorted(relying)

    def leave(self) -> None:
        """End the run's part in slots that it shares with other runs."""
        self._admission.leave()

    # -- outcomes

    def succeed(self, name: str, untaken: Container[str] = (), broken: Container[str] = ()) -> None:
        """Complete a running node whose expander, if any, is done: it releases its dependents.

        ``untaken`` holds the dependents whose edge's condition was false, ``broken`` those whose
        condition gave no answer: they must be failed next.
        """
        readiness, status = self._readiness, self._status
        if status[name] is not RUNNING:
            raise self._refusal(name, COMPLETED)
        status[name] = COMPLETED
        if self.log is not None:
            self.log.append((name, COMPLETED))
        self.running -= 1
        self.unfinished -= 1
        if self._admission.bounded or self.resting:
            self._admission.release(name)
        if self.offspring.unfinished or self.retention.active:
            self._tell_end(name)
        if readiness.special or readiness.settled or untaken or broken:
            settled = readiness.settled.pop(name, ())
            conditions = self.conditional.get(name, _NOTHING)
            for dependent in self._graph.dependents[name]:
                if dependent in broken or dependent in settled:
                    continue
                # Over an edge that was not judged, since its target has started, comes nothing.
                unjudged = dependent in conditions and status[dependent] not in WAITING
                taken = dependent not in untaken and not unjudged
                readiness.pass_success(name, dependent, taken)
                self._decide(dependent)
            return
        waiting = readiness.waiting
        for dependent in self._graph.dependents[name]:
            waiting[dependent] = left = waiting[dependent] - 1
            if not left and status[dependent] is PENDING:
                self._make_ready(dependent)

    def fail(self, name: str, *, lingering: bool = False) -> None:
        """Fail a node: what depends on it is skipped, unless a trigger says otherwise.

        ``lingering`` says that its body goes on: the slots of its groups stay taken with the
        worker's, until `end_lingering`.
        """
        if lingering:
            self._admission.linger(name)
        had_started = self._status[name] is RUNNING
        self._finish(name, FAILED)
        if not had_started:
            self._early.add(name)
        self._pass_failure(name, Blame(Why.FAILED, name))

    def cancel(self, name: str, blame: Blame | None = None, *, lingering: bool = False) -> None:
        """Cancel a node that has not finished: what depends on it is skipped, as in `fail`.

        ``blame`` says why, where it is not the end of the run.
        """
        if lingering:
            self._admission.linger(name)
        self._finish(name, CANCELLED)
        if name in self._readiness.settled:
            self._early.add(name)
        if blame is not None:
            self._blame[name] = blame
        self._pass_failure(name, Blame(Why.CANCELLED, name))

    def cancel_rest(self) -> None:
        """Cancel every node that waits or is ready: the run ends before their turn came."""
        for name, status in self._status.items():
            if status in WAITING:
                self._finish(name, CANCELLED)
