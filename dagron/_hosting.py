"""The host task of a run: it begins, paces and ends it. All state of a run lives and ends here."""

import os
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import AbstractContextManager, AsyncExitStack
from contextvars import copy_context
from math import inf
from time import perf_counter, time
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from anyio import (
    CapacityLimiter,
    Event,
    TaskHandle,
    create_task_group,
    current_time,
    get_current_task,
)
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled, current_token

from dagron._around import Around, puts_around
from dagron._away import Away, entered, refuse_grow
from dagron._backend import Host
from dagron._blame import Blame
from dagron._blocking import watching
from dagron._bodies import Bodies
from dagron._calls import Expander, read_tasks
from dagron._collect import collect
from dagron._conditions import Conditions
from dagron._current import Here, NodeHost, check_calling_thread, here
from dagron._drains import Drain, Drained, Drains
from dagron._errors import Cancelled, RunnerLostError, TaskSignatureError
from dagron._family import Tally
from dagron._graph import DAG
from dagron._growing import Grow, Growing
from dagron._landing import GROW
from dagron._lanes import Lanes, Pool, SharedPool
from dagron._limits import Limits, held_by_callers
from dagron._logs import DEBUG, log
from dagron._node_result import NodeResult
from dagron._policy import LOCAL
from dagron._raised import broken_open, internal_error, keyboard_interrupt, leaves
from dagron._reports import Reports
from dagron._results import ExecutionResult
from dagron._runner import post_of
from dagron._scheduler import Scheduler
from dagron._settings import Settings
from dagron._slots import Slots
from dagron._stream import Stream
from dagron._times import Times

if TYPE_CHECKING:
    from dagron._ledger import Ledger
    from dagron._replay import Recalled, Replay
    from dagron._rows import Patience
    from dagron._suspects import Suspects

# A large ready set becomes tasks batch by batch, one batch per pass of the event loop: the first
# nodes end before the last are created, and the program's other tasks get their turn. A batch is so
# small that its tasks stay in the garbage collector's youngest generation: with more alive at once,
# each of which holds some 3 kB in 20 objects, full collections set in that walk the whole graph.
# Where nodes do not end at once, the batches grow: then it is better to have started them.
BATCH = 32
LARGEST_BATCH = 256

LATEST_CANCELLATION = 10  # passes of the loop; anyio repeats a cancellation in each of them

WORKER = "dagron worker"  # the name of a task that waits for a draining thread

NOTHING: Mapping[str, Any] = {}


P = ParamSpec("P")
T = TypeVar("T")


class Hosting(ABC):
    """A run, as seen from the task that hosts it: made anywhere, and awaited there, with `main`."""

    __slots__ = (
        "_abandonable",
        "_around",
        "_asked",
        "_attached",
        "_budget",
        "_bug",
        "_context",
        "_cut",
        "_cut_by_failure",
        "_deadline",
        "_expanders",
        "_failure",
        "_group",
        "_handles",
        "_held",
        "_host",
        "_host_task",
        "_interrupt",
        "_is_cut_off",
        "_lanes",
        "_ledger",
        "_limited",
        "_lost",
        "_may_drain",
        "_opened",
        "_on_threads",
        "_parameters",
        "_patience",
        "_policies",
        "_conditions",
        "_prior",
        "_reached",
        "_recalled",
        "_replay",
        "_reports",
        "_retries",
        "_returned",
        "_settings",
        "_standing",
        "_suspects",
        "_tasks",
        "_timeout",
        "_to_cancel",
        "_wake",
        "bodies",
        "drains",
        "growing",
        "id",
        "is_over",
        "limits",
        "nested",
        "on_completed",
        "on_forgotten",
        "outer",
        "results",
        "scheduler",
        "slots",
        "stopping",
        "stream",
        "tallies",
        "times",
    )

    def __init__(
        self,
        dag: DAG,
        tasks: Mapping[str, Callable[..., Any]],
        expanders: Mapping[str, Expander],
        settings: Settings,
        timeout: float | None,
        run_id: str | None = None,
        retries: bool = False,
    ) -> None:
        self.id = os.urandom(6).hex() if run_id is None else run_id
        self._retries = retries  # what had failed in an earlier life of the run is tried again
        self._ledger: Ledger | None = None  # of a run that has a journal, while it is on
        self._patience: Patience | None = None  # of a run that has a journal
        self._replay: Replay | None = None  # while an earlier life is told again
        self._recalled: dict[str, Recalled] = {}  # nodes whose tasks have returned in one
        self._prior: dict[str, int] = {}  # attempts in earlier lives
        self._suspects: Suspects | None = None  # of having killed one of these
        self._failure: BaseException | None = None  # of the journal: it ends the run
        self._opened = Event()  # there is a ledger, or will be none
        self._asked: dict[str, Blame] = {}  # nodes to cancel, as was said before that
        self._cut_by_failure = False
        self._settings = settings
        self._limited = settings.groups
        self._timeout = timeout
        self._tasks = dict(tasks)
        self._expanders = dict(expanders)
        self._standing = expanders  # they are for whatever node has the name, one after another
        self._reached: set[str] = set()  # those of them of which a node was forgotten
        on_threads, self._parameters = read_tasks(self._tasks, dag)
        self._lanes = Lanes()
        self.limits = settings.limits if isinstance(settings.limits, Limits) else None
        try:
            self.scheduler = Scheduler(
                dag,
                on_threads=on_threads,
                max_workers=settings.max_workers,
                max_concurrency=settings.max_concurrency,
                max_nodes=settings.max_nodes,
                max_depth=settings.max_depth,
                pools=self._pools(),
                policy=settings.policy,
                lanes=self._lanes,
                keep=settings.keep,
                posts=self._posts(),
            )
        except Exception as bug:
            raise internal_error(bug) from bug
        self._on_threads = self.scheduler.on_threads
        self._policies = self.scheduler.policies
        for name, policy in self._policies.items() if settings.runners else ():
            if policy.runner != LOCAL and self._grows(name):
                raise refuse_grow(name, policy.runner)
        self.results: dict[str, NodeResult] = {}
        self.stream = Stream(
            self.id,
            self.scheduler,
            self.results,
            settings.observers,
            self._be_interrupted,
            self._crash,
        )
        stream = self.stream
        self._around: Around | None = None
        if settings.observers and puts_around(settings.observers):
            self._around = Around(self.id, lambda: stream.observers, stream.drop)
        # Else a node needs more than a thread, or a task of its own for what is around it.
        self._may_drain = settings.max_concurrency is None and self._around is None
        self._conditions = Conditions(self.scheduler, self._value_of, self._be_interrupted)
        self.slots = Slots(self.scheduler, self._core, self._admit)
        self.bodies: Bodies
        self.growing: Growing
        # Of forgotten nodes, and of folds, by the node that added them.
        self.tallies: dict[str | None, Tally] = {}
        self.times = Times()
        self._host: Host = cast("Host", None)  # from when `main` has begun
        self._abandonable = False
        self._host_task = 0
        self.outer: Here | None = None
        self.nested: set[Hosting] = set()  # runs that nodes of this one wait for
        self._held: frozenset[str] = frozenset()  # groups of which a caller of ours holds a slot
        self._group: TaskGroup | None = None
        self._wake = Event()
        self._budget = 0  # tasks that may still be spawned before the pacer's next turn
        self._deadline = inf  # on the loop's clock
        self._cut: str | None = None  # why the run is ended, as a result, before all nodes are
        self.stopping = False
        self._is_cut_off = False  # a node has heard of the caller's cancellation
        self.is_over = False
        # Of the nodes in flight; None for one that is in a draining thread.
        self._handles: dict[str, TaskHandle[None] | None] = {}
        self.drains: Drains
        self._returned: list[Drained] = []  # from there, to be gone on with in a task
        self.on_completed: Callable[[str, Any], None] | None = None
        self.on_forgotten: Callable[[str], None] | None = None
        self._to_cancel: dict[str, Blame] = {}  # running nodes that somebody asked to cancel
        self._attached = 0  # for how many reasons shared limits are in use: the run, and threads
        self._reports: Reports
        self._interrupt: KeyboardInterrupt | None = None
        self._lost: RunnerLostError | None = None
        self._bug: Exception | None = None

    def _pools(self) -> Mapping[str, Pool]:
        if self.limits is None:
            return {name: Pool(name, size) for name, size in self._settings.limits.items()}  # type: ignore[union-attr]
        self._share(self.limits.pools.values())
        return self.limits.pools

    def _posts(self) -> Mapping[str, Pool]:
        posts = {name: post_of(name, runner) for name, runner in self._settings.runners.items()}
        if posts:
            self._share(posts.values())
        return posts

    def _share(self, pools: Iterable[SharedPool]) -> None:
        self._lanes.shared += tuple(pools)
        self._lanes.wake = self._wake_up

    # -- the host task

    async def main(self) -> ExecutionResult:
        """Run the graph to its end.

        Raises the caller's cancellation, a `KeyboardInterrupt` or an `InternalError`, bare, after
        every node has ended.
        """
        result = None
        try:
            check_calling_thread()
            await checkpoint_if_cancelled()
            self._find_host()
            if self._settings.journal is not None:
                result = await self._main_in_journal()
            else:
                result = await self._main_with_runners()
            return result
        finally:
            self._wind_up(result)

    async def _main_with_runners(self) -> ExecutionResult:
        """Run the graph, with its runners entered and the event loop watched."""
        with self._watching():
            if not self._settings.runners:
                return await self._main()
            async with AsyncExitStack() as stack:
                await entered(stack, self.id, self._settings.runners)
                return await self._main()

    def end_unbegun(self) -> None:
        """End a run whose `main` was not called, and will not be."""
        self._wind_up(None)

    def _wind_up(self, result: ExecutionResult | None) -> None:
        """End what goes on beside the run, whatever has ended it, and let go of all state."""
        bug = self._bug
        self._halt()
        try:
            if result is None and (self.stream.is_heard or self.on_completed is not None):
                self.scheduler.cancel_rest()
        except Exception as another:
            self._bug = self._bug or another
        self.stream.end(result, self._cut or "the run was cancelled")
        if result is not None:
            result.dropped_observers = self.stream.dropped_observers
        interrupt, self._interrupt = self._interrupt, None
        self.is_over = True
        self._ledger = self._replay = None
        self._opened.set()
        if self.outer is not None and isinstance(self.outer.run, Hosting):
            self.outer.run.nested.discard(self)
        self._detach()
        self._forget()
        if self._bug is not None and self._bug is not bug:
            raise internal_error(self._bug) from self._bug
        if result is not None and interrupt is not None:  # by an observer of the end
            raise interrupt from None

    def _forget(self) -> None:
        """Let go of all state: the frames of an error that is kept lead back to this run."""
        if hasattr(self, "bodies"):
            self._reports.flush_blocked()
            self._reports.end()
            self.bodies.away.close()
            vars(self.bodies).clear()
            self.growing.close()
            self.drains.close()
            del self.bodies, self.growing, self.drains
        vars(self.slots).clear()
        vars(self._conditions).clear()
        del self._tasks, self._parameters, self._expanders, self.results, self.scheduler
        del self._handles, self._on_threads, self._policies, self.stream, self.slots
        del self._conditions, self._lanes, self._standing, self.tallies, self.times, self._around

    def _find_host(self) -> None:
        """Read from the current task where this run takes place."""
        self.outer = here()
        if self.outer is not None and isinstance(self.outer.run, Hosting):
            self.outer.run.nested.add(self)
            self._abandonable = self._abandonable or self.outer.run._abandonable
        if self.limits is not None:
            groups = {group for policy in self._policies.values() for group in policy.groups}
            self._held = held_by_callers(self.limits, self.outer)
            self.limits.attach(current_token().native_token, groups & self._held)
            self._attached = 1
        self._host = host = Host()
        host.abandonable = host.abandonable or self._abandonable
        self._context = copy_context()
        self._host_task = get_current_task().id
        self.drains = Drains(
            cast("NodeHost", self),
            host,
            self.scheduler,
            self._settings.max_workers,
            in_flight=self._handles,
            call_of=self._drained,
            spawn=self._spawn_drain,
            end=self._end_drained,
            leave=self._leave_drain,
            halt=self._cut_off,
            wake=self._wake_up,
        )
        self._reports = Reports(self.id, self.stream, self._handles, host.call_soon, self._look)
        self.bodies = Bodies(
            host,
            CapacityLimiter(self._settings.max_workers),
            self.scheduler,
            self.slots,
            self._parameters,
            self.results,
            core=self._core,
            grow=self._grow_handle,
            is_cancelled=self.is_cancelled,
            is_needed=self._is_needed,
            on_retry=self._reports.retrying,
            on_attempt=self._begin_attempt,
            around=self._around,
        )
        self.bodies.away = Away(
            self._settings.runners,
            self.id,
            self.results,
            note=self.bodies.note,
            place=self._reports.placed,
            progress=self._reports.progress,
            delay=self.bodies.delay,
            lost=self._lose_runner,
        )
        self.growing = Growing(
            host,
            self.scheduler,
            self.slots,
            self.bodies,
            core=self._core,
            land=self._land,
            admit=self._admit,
            is_own_task=self.is_own_task,
            is_cancelled=self.is_cancelled,
        )

    def _grows(self, name: str) -> bool:
        parameters = self._parameters.get(name)
        return parameters is not None and GROW in parameters.names()

    def _grow_handle(self, name: str) -> Grow:
        return self.growing.handle(name)

    def _value_of(self, name: str) -> Any:
        """Return what dependents get of a node."""
        if self._group is None:  # nothing has run
            return self.results[name].result
        return self.bodies.value(name)

    def _is_needed(self, name: str) -> bool:
        """Tell whether a node's result is needed here as soon as its task is done."""
        return (
            self._ledger is not None
            or name in self._expanders
            or bool(self.growing.folds)
            or bool(self.scheduler.conditions(name))
        )

    def _watching(self) -> AbstractContextManager[None]:
        threshold = self._settings.detect_blocking
        return watching(
            threshold, self.id, self._handles, self._host.call_soon, self._reports.blocked
        )

    def _detach(self) -> None:
        """Stop being a user of shared limits, with the last thread that holds a slot of them."""
        if self._attached:
            self._attached -= 1
            if not self._attached and self.limits is not None:
                self.limits.detach()

    async def _main(self) -> ExecutionResult:
        began = perf_counter()
        self.times.began = time()
        log(DEBUG, self.id, None, "run %s started", self.id)
        try:
            async with create_task_group() as self._group:
                if self._timeout is not None:
                    self._deadline = current_time() + self._timeout
                    self._group.cancel_scope.deadline = self._deadline
                if self._ledger is not None:
                    await self._tell_earlier_life()
                self.stream.begin()
                if self._cut is not None:  # by the handle, before this began
                    self._cut_short(self._cut)
                if self._interrupt is not None:
                    self._stop()
                await self._pace()
        except BaseException as error:
            # Nodes raise nothing into the group: this is the caller's cancellation, or what a
            # backend threw into the host. A KeyboardInterrupt is not lost in either.
            self._hurry()
            self._interrupt = self._interrupt or keyboard_interrupt(error)
            if self._interrupt is None and isinstance(error, Exception):
                raise broken_open(error, list(self._handles)) from next(leaves(error))
            if self._interrupt is None:
                raise
        finally:
            self._halt()
            drains = [thread.handle for thread in self.drains.threads]
            for handle in [*self._handles.values(), *drains]:
                if handle is not None:  # cancelled natively before its first step
                    handle.coro.close()
            if self._ledger is not None:
                group = self._group
                if group and group.cancel_scope.cancel_called and not self._cut_by_failure:
                    self._hurry()
                await self._outlast(self._ledger.flush)
            log(DEBUG, self.id, None, "run %s ended", self.id)
        if self._interrupt is not None:
            raise self._interrupt from None
        if self._failure is not None:
            raise self._failure
        if self._lost is not None:
            raise self._lost
        if self._bug is None and (self._handles or self.drains.threads):
            raise broken_open(None, [*self._handles] or [WORKER])
        if self._bug is None and self._is_cut_off:
            self._notice_deadline()
            if self._cut is None:
                await self._be_cancelled()
        if self._bug is None:
            try:
                self._notice_deadline()
                if self._cut is not None:  # also what an expander in flight has added since
                    self.scheduler.cancel_rest()
                self.stream.catch_up()
                self._forget_spare()
            except Exception as bug:
                raise internal_error(bug) from bug
            await self.bodies.away.bring_home(self._is_late)
            try:
                return collect(
                    self.scheduler,
                    self.results,
                    [name for name in self._expanders if name not in self._reached],
                    self._cut,
                    perf_counter() - began,
                    self.tallies,
                    self.times,
                )
            except Exception as bug:
                self._bug = bug
        raise internal_error(self._bug) from self._bug

    async def _pace(self) -> None:
        """Spawn ready nodes, one batch per pass of the event loop, until all nodes are done."""
        batch = BATCH
        try:
            while True:
                self._wake = Event()
                self._budget = batch
                if self.drains.threads:
                    self.drains.flush()
                if self._ledger is not None:
                    self._ledger.turn()
                self._admit()
                if self.scheduler.retention.spare:
                    self._forget_spare()
                is_done = not self.scheduler.unfinished
                if self._is_cut_off or (is_done and not (self._ledger and self._ledger.is_busy)):
                    self.drains.stop()
                    return
                await self._wake.wait()
                is_waiting = self.scheduler.running > 2 * batch
                batch = min(2 * batch, LARGEST_BATCH) if is_waiting else BATCH
        except Exception as bug:
            self._crash(bug)
        except BaseException:
            self._halt()
            raise

    def _is_late(self) -> bool:
        """Tell whether the run has no time left to wait for what may never come."""
        return self._cut is not None or current_time() >= self._deadline

    def _wake_up(self) -> None:
        """Let the pacer take its turn: another run has left a slot for this one."""
        self._wake.set()

    def _admit(self) -> None:
        """Spawn the nodes that may start now, as far as the budget goes; the pacer has the rest.

        A node leaves the scheduler's queue and becomes a task in one synchronous step, so that no
        cancellation can lose it.
        """
        scheduler = self.scheduler
        group = self._group
        assert group is not None, "nodes are admitted while the run is on"
        if self._returned:
            self._go_on_with_returned(group)
        if not self.stopping and self._replay is None:
            budget = self._budget
            names = scheduler.take_ready(budget)
            if names and self._ledger is not None:
                self._begin_attempts(self._ledger, names)
            if scheduler.running > BATCH:  # as long as so few are alive, nobody needs to be paced
                self._budget -= len(names)
            for name in names:
                if name in self._handles and self.slots.grant(name):
                    continue
                if name in self._on_threads and self.drains.take(name):
                    continue
                # Under the run's own context: a spawn copies the current one, which here may be
                # that of the node that has just finished.
                call = self._recalled.pop(name, None) if self._recalled else None
                self._handles[name] = group.create_task(
                    self._run_node(name, call), name=name, context=self._context
                )
            if len(names) == budget or not scheduler.unfinished:
                self._wake.set()
            elif not scheduler.running and scheduler.is_stuck():
                raise RuntimeError(f"{scheduler.unfinished:,} nodes wait, and nothing is running")
            elif self.drains.threads and not self._settings.cancel_on_failure:
                self.drains.offer()  # else what is next must wait to hear how the others end
            if scheduler.offspring.unfinished:
                self.growing.tend(is_idle=len(names) < budget)
        if scheduler.log:
            self.stream.catch_up()

    # -- sync nodes that threads run one after another

    def _drained(self, name: str) -> Drained | None:
        """Return the call of a node's task, if that is all there is to it, and can be made.

        A node with an expander is more than that: it keeps its slot until that is done.
        """
        task = self._tasks.get(name)
        if task is None or name in self._policies or name in self._expanders:
            return None
        if self.bodies.away.remote:  # what it gets may have to be fetched
            return None
        if not self._may_drain or self.growing.folds:
            return None
        if self._recalled or self._prior:
            return None
        if name not in self._parameters:
            return Drained(name, task, (), NOTHING)
        try:
            return Drained(name, task, *self.bodies.arguments(name))
        except TaskSignatureError:  # as it will be in its own task
            return None

    def _look(self) -> None:
        """Take in what draining threads have done, and tell it."""
        try:
            self.drains.flush()
        except Exception as bug:
            self._crash(bug)
        if self.scheduler.log:  # whoever reads a snapshot next finds nothing in it untold
            self.stream.catch_up()

    def _settle(self) -> None:
        """Take back what was offered to threads, so that the scheduler knows where each node is."""
        if self._group is not None and self.drains.threads:
            self.drains.recall()
            self._look()

    def _spawn_drain(self, waiting: Coroutine[Any, Any, None]) -> TaskHandle[None]:
        assert self._group is not None, "nodes are admitted while the run is on"
        return self._group.create_task(waiting, name=WORKER, context=self._context)

    def _leave_drain(self, thread: Drain, error: Exception | None) -> None:
        """Report the nodes that are lost with a thread, and use its slot."""
        try:
            for call in self.drains.take_out(thread, error):
                self._report_lost(call)
            self._admit()
        except Exception as bug:
            self._crash(bug)

    def _go_on_with_returned(self, group: TaskGroup) -> None:
        """Give nodes a task whose threads are done with them, and which are not done."""
        returned, self._returned = self._returned, []
        for call in returned:
            self._handles[call.name] = handle = group.create_task(
                self._run_node(call.name, call), name=call.name, context=self._context
            )
            if call.name in self._to_cancel:
                handle.cancel()

    # -- endings

    def _notice_deadline(self) -> None:
        """End the run as a result if it was the run's own timeout that cancelled it."""
        assert self._group is not None, "the run is on"
        is_over = self._group.cancel_scope.cancel_called and current_time() >= self._deadline
        if is_over and self._cut is None:
            self._cut_short(f"the run's timeout of {self._timeout:g} s was over")

    def _cut_short(self, reason: str) -> None:
        """End the run as a result: what has not finished is cancelled."""
        self._cut = self.stream.cut = reason
        self._stop()
        if self._replay is not None:
            return  # it ends at its next step, and must find nothing cancelled until then
        try:
            self._settle()
            self.scheduler.cancel_rest()
        except Exception as bug:
            self._crash(bug)
        self.stream.catch_up()

    def _lose_runner(self, error: RunnerLostError) -> None:
        """End the run: what was to run there cannot, and is cancelled."""
        self._lost = self._lost or error
        self._cut_short(str(error).partition("\n")[0])

    def _cut_off(self) -> None:
        """Take from a node that the caller is being cancelled: the host may hear of it later."""
        self._is_cut_off = True
        self._hurry()
        self._halt()
        self._wake_up()

    async def _be_cancelled(self) -> None:
        """Raise the caller's cancellation, of which a node has heard.

        It reaches this task in one of the next passes of the loop; or never: on asyncio, where a
        thread has called us, and the scope of that thread's own call is over.
        """
        for _ in range(LATEST_CANCELLATION):
            await checkpoint()
        raise Cancelled("the node whose thread has called this run is being cancelled")

    def _stop(self) -> None:
        """Cancel everything: `main` says afterwards why."""
        if self._interrupt is not None or not self._cut_by_failure:
            self._hurry()  # else all is still written, for that is how the run ends
        self._halt()
        if self._group is not None:
            self._group.cancel_scope.cancel()

    def _hurry(self) -> None:
        """Wait no longer for other processes that write to the journal than for a moment."""
        if self._patience is not None:
            self._patience.is_short = True

    def _halt(self) -> None:
        """Start nothing any more: everything is being cancelled, or soon will be."""
        if not self.stopping:
            self.stopping = True
            self.slots.stop()
            if self._group is not None:
                self.growing.stop()
                self.drains.stop()
            try:
                self.scheduler.leave()
            except Exception as bug:
                self._bug = self._bug or bug

    def _core(self, method: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
        """Call the scheduler on behalf of a node: what fails in there is no failure of the node."""
        try:
            return method(*arguments, **keywords)
        except Exception as bug:
            self._crash(bug)
            raise

    def _crash(self, bug: Exception) -> None:
        """End the run: what failed here is dagron itself."""
        self._bug = self._bug or bug
        self._stop()

    # -- interrupts: called from a signal handler, at any moment

    @property
    def interrupted(self) -> bool:
        return self._interrupt is not None

    def interrupt_soon(self) -> None:
        if self._host is None:
            self._interrupt = KeyboardInterrupt()
        else:
            self._host.call_soon(self._interrupt_now)

    def _interrupt_now(self) -> None:
        if self.is_over:
            return
        self._be_interrupted(KeyboardInterrupt())

    def _be_interrupted(self, interrupt: KeyboardInterrupt) -> None:
        self._interrupt = self._interrupt or interrupt
        self._stop()

    def let_threads_be_abandoned(self) -> None:
        """Call threads so that `abandon_threads_soon` has an effect, at a price on trio."""
        self._abandonable = True

    def abandon_threads_soon(self) -> None:
        if self._host is not None:
            self._host.call_soon(self._abandon_threads)

    def _abandon_threads(self) -> None:
        for call in () if self.is_over else [*self.bodies.threads, *self.drains.threads]:
            call.abandon()
        for run in list(self.nested):
            if run.stopping:  # else somebody shields it, and waits for what its threads return
                run.abandon_threads_soon()

    # -- the nodes' side

    @abstractmethod
    async def _run_node(self, name: str, call: "Drained | Recalled | None" = None) -> None:
        """Run one node from its body, or from the end of that call, to its outcome; report that."""

    @abstractmethod
    def _end_drained(self, call: Drained) -> None:
        """Report a node that a draining thread is done with, or have it gone on with in a task."""

    @abstractmethod
    def _report_lost(self, call: Drained) -> None:
        """Report a node whose call came to nothing, since it is cancelled."""

    @abstractmethod
    def is_cancelled(self, name: str) -> bool:
        """Tell whether the node is to stop; from any thread."""

    @abstractmethod
    def is_own_task(self) -> bool:
        """Tell whether the current task is a node's own, and not one that a node has started."""

    @abstractmethod
    def _land(self, by: str | None, modification: object, *, settled: bool = False) -> None:
        """Land a modification, or change nothing and raise."""

    # -- what a journal has to do with it: see `Durable`

    @abstractmethod
    async def _main_in_journal(self) -> ExecutionResult:
        """Run the graph, or what is left to run of it, or return what is recorded."""

    @abstractmethod
    async def _tell_earlier_life(self) -> None:
        """Let happen again what is recorded of the run; or end it."""

    @abstractmethod
    async def _outlast(self, wait: Callable[[], Awaitable[T]]) -> T:
        """Wait for what ends by itself, also while the caller is cancelled; then raise that."""

    @abstractmethod
    def _begin_attempt(self, name: str, attempt: int) -> None:
        """Note that an attempt begins at a node; from any thread."""

    @abstractmethod
    def _begin_attempts(self, ledger: "Ledger", names: list[str]) -> None:
        """Note, before they do, that nodes which have just got their slots begin."""

    @abstractmethod
    def _forget_spare(self) -> None:
        """Let go of completed nodes that nobody needs."""
