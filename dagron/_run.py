"""One run: the anyio shell around a `Scheduler`. All state of a run lives here and ends with it."""

from collections.abc import Callable, Mapping
from contextvars import copy_context
from math import inf
from time import perf_counter, time
from types import CoroutineType
from typing import Any, NamedTuple, ParamSpec, TypeVar

from anyio import CapacityLimiter, Event, TaskHandle, create_task_group, current_time
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from dagron._backend import Host
from dagron._calls import (
    Expander,
    is_awaitable,
    missing_task,
    not_a_modification,
    read_specs,
    read_tasks,
    refuse_coroutine,
)
from dagron._collect import collect
from dagron._errors import ModificationError, TaskSignatureError
from dagron._graph import DAG
from dagron._landing import unfilled
from dagron._modification import DynamicModification
from dagron._raised import (
    broken_open,
    forget_our_frames,
    internal_error,
    is_cancellation,
    keyboard_interrupt,
    leaves,
)
from dagron._results import EXPANDER_FAILED, ExecutionResult, NodeResult, new_result
from dagron._scheduler import Scheduler
from dagron._status import CANCELLED, COMPLETED, FAILED, NodeStatus
from dagron._threads import ThreadCall

# A large ready set becomes tasks batch by batch, one batch per pass of the event loop: the first
# nodes end before the last are created, and the program's other tasks get their turn. A batch is so
# small that its tasks stay in the garbage collector's youngest generation: with more alive at once,
# each of which holds some 3 kB in 20 objects, full collections set in that walk the whole graph.
# Where nodes do not end at once, the batches grow: then it is better to have started them.
BATCH = 32
LARGEST_BATCH = 256


P = ParamSpec("P")
T = TypeVar("T")


class Limits(NamedTuple):
    """What a run may take."""

    max_workers: int
    max_concurrency: int | None
    max_nodes: int
    max_depth: int


class Ending(NamedTuple):
    """What cuts a run short."""

    on_failure: bool = False  # the first failure
    timeout: float | None = None  # seconds


class Run:
    """A run in progress; made and awaited, with `main`, in the task that hosts it."""

    def __init__(
        self,
        dag: DAG,
        tasks: Mapping[str, Callable[..., Any]],
        expanders: Mapping[str, Expander],
        limits: Limits,
        ending: Ending,
    ) -> None:
        self._tasks = dict(tasks)
        self._expanders = dict(expanders)
        on_threads, self._parameters = read_tasks(self._tasks, dag)
        try:
            self._scheduler = Scheduler(dag, on_threads=on_threads, **limits._asdict())
        except Exception as bug:
            raise internal_error(bug) from bug
        self._on_threads = self._scheduler.on_threads
        self._results: dict[str, NodeResult] = {}
        self._host = Host()
        self._limiter = CapacityLimiter(limits.max_workers)
        self._context = copy_context()
        self._group: TaskGroup
        self._wake = Event()
        self._budget = 0  # tasks that may still be spawned before the pacer's next turn
        self._stopping = False
        self._ending = ending
        self._deadline = inf  # on the loop's clock
        self._cut: str | None = None  # why the run is ended, as a result, before all nodes are
        self._handles: dict[str, TaskHandle[None]] = {}  # of the nodes in flight
        self._askers: dict[str, Event] = {}  # nodes in flight that wait for a worker slot
        self._threads: set[ThreadCall] = set()
        self._unstarted: set[str] = set()  # sync nodes, cancelled before their thread began
        self._interrupt: KeyboardInterrupt | None = None
        self._bug: Exception | None = None

    # -- the host task

    async def main(self) -> ExecutionResult:
        """Run the graph to its end.

        Raises the caller's cancellation, a `KeyboardInterrupt` or an `InternalError`, bare, after
        every node has ended.
        """
        try:
            return await self._main()
        finally:
            # From Python 3.12 on the frames of an error that is kept lead back to this run.
            del self._tasks, self._parameters, self._expanders, self._results
            del self._scheduler, self._handles, self._on_threads

    async def _main(self) -> ExecutionResult:
        began = perf_counter()
        await checkpoint_if_cancelled()
        try:
            async with create_task_group() as self._group:
                if self._ending.timeout is not None:
                    self._deadline = current_time() + self._ending.timeout
                    self._group.cancel_scope.deadline = self._deadline
                await self._pace()
        except BaseException as error:
            # Nodes raise nothing into the group: this is the caller's cancellation, or what a
            # backend threw into the host. A KeyboardInterrupt is not lost in either.
            self._interrupt = self._interrupt or keyboard_interrupt(error)
            if self._interrupt is None and isinstance(error, Exception):
                raise broken_open(error, list(self._handles)) from next(leaves(error))
            if self._interrupt is None:
                raise
        finally:
            self._stopping = True
            for handle in self._handles.values():  # cancelled natively before their first step
                handle.coro.close()
        if self._interrupt is not None:
            raise self._interrupt from None
        if self._bug is None and self._handles:
            raise broken_open(None, list(self._handles))
        if self._bug is None:
            try:
                self._notice_deadline()
                if self._cut is not None:  # also what an expander in flight has added since
                    self._scheduler.cancel_rest()
                return collect(
                    self._scheduler,
                    self._results,
                    self._expanders,
                    self._cut,
                    perf_counter() - began,
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
                self._admit()
                if not self._scheduler.unfinished:
                    return
                await self._wake.wait()
                is_waiting = self._scheduler.running > 2 * batch
                batch = min(2 * batch, LARGEST_BATCH) if is_waiting else BATCH
        except Exception as bug:
            self._crash(bug)
        except BaseException:
            self._stopping = True
            raise

    def _admit(self) -> None:
        """Spawn the nodes that may start now, as far as the budget goes; the pacer has the rest.

        A node leaves the scheduler's queue and becomes a task in one synchronous step, so that no
        cancellation can lose it.
        """
        if self._stopping:
            return
        scheduler, group = self._scheduler, self._group
        budget = self._budget
        names = scheduler.take_ready(budget)
        if scheduler.running > BATCH:  # as long as so few are alive, nobody needs to be paced
            self._budget -= len(names)
        for name in names:
            # Under the run's own context: a spawn copies the current one, which here may be that of
            # the node that has just finished.
            self._handles[name] = group.create_task(
                self._run_node(name), name=name, context=self._context
            )
        if len(names) == budget or not scheduler.unfinished:
            self._wake.set()
        elif not scheduler.running:
            raise RuntimeError(f"{scheduler.unfinished:,} nodes wait, and nothing is running")

    def _notice_deadline(self) -> None:
        """End the run as a result if it was the run's own timeout that cancelled it."""
        is_over = self._group.cancel_scope.cancel_called and current_time() >= self._deadline
        if is_over and self._cut is None:
            self._cut_short(f"the run's timeout of {self._ending.timeout:g} s was over")

    def _cut_short(self, reason: str) -> None:
        """End the run as a result: what has not finished is cancelled."""
        self._cut = reason
        self._stop()
        try:
            self._scheduler.cancel_rest()
        except Exception as bug:
            self._crash(bug)

    def _stop(self) -> None:
        """Cancel everything: `main` says afterwards why."""
        self._stopping = True
        self._group.cancel_scope.cancel()

    # -- a node's own task

    async def _run_node(self, name: str) -> None:
        """Run one node from its body to its outcome. What user code raises is caught here only."""
        value = None
        seconds: float | None = None  # known when the body has ended
        started_at: float | None = None
        began = perf_counter()
        try:
            if self._stopping:  # cancelled between its spawn and this, its first step
                await checkpoint()
            started_at = time()
            task = self._tasks.get(name)
            if task is None:
                raise missing_task(name)
            if name in self._on_threads:
                call = await self._call_on_thread(name, task)
                if call.error is not None:
                    raise call.error
                value, seconds = call.value, call.seconds
            else:
                if name in self._parameters:
                    arguments, keywords = self._arguments(name)
                    value = await task(*arguments, **keywords)
                else:
                    value = await task()
                if type(value) is CoroutineType:
                    forgotten, value = value, None
                    refuse_coroutine(name, forgotten)
                seconds = perf_counter() - began
            if name in self._expanders:
                expander = self._expanders[name]
                graph = (self._core(self._scheduler.dag),) if expander.wants_graph else ()
                if expander.on_loop:
                    self._return_worker(name)
                    expansion = await expander.function(name, value, *graph)
                else:
                    expansion = await self._expand_on_thread(expander, name, value, *graph)
                if expansion is not None:
                    self._land(name, expansion)
        except BaseException as error:
            reason = None if seconds is None else EXPANDER_FAILED
            if seconds is None:
                seconds = perf_counter() - began
            if not self._report_failure(name, error, value, seconds, started_at, reason):
                raise
        else:
            self._report(name, COMPLETED, value, None, seconds, started_at)
        if (current_task := self._host.current_task) and current_task().cancelling():
            await self._absorb_cancellation()

    async def _absorb_cancellation(self) -> None:
        """Let a node that called ``Task.cancel()`` on its own task end like any other.

        A task that ends with such a request on it ends cancelled, and an anyio task group on
        asyncio takes that as a reason to cancel all the others.
        """
        try:
            await checkpoint()
        except self._host.cancelled_class:
            return

    async def _call_on_thread(self, name: str, task: Callable[..., Any]) -> ThreadCall:
        """Call a sync task in a thread; await, without the worker slot, an awaitable it returns."""
        arguments, keywords = self._arguments(name)
        call = ThreadCall(self._host, task, *arguments, **keywords)
        try:
            await self._in_thread(call)
        finally:
            if call.forbidden:
                self._unstarted.add(name)
        if call.error is None and is_awaitable(call.value):
            self._return_worker(name)
            began = perf_counter()
            call.value = await call.value
            call.seconds += perf_counter() - began
            if type(call.value) is CoroutineType:
                refuse_coroutine(name, call.value)
        return call

    def _arguments(self, name: str) -> tuple[list[Any], dict[str, Any]]:
        parameters = self._parameters.get(name)
        if parameters is None:
            return [], {}
        results = self._results
        sources = self._core(self._scheduler.dependencies, name)
        inputs = {source: results[source].result for source in sources}
        for parameter in unfilled(parameters.names(), inputs):
            raise TaskSignatureError(
                f"the task of node {name!r:.60} has a parameter {parameter!r:.60}, "
                f"and the edge from that node was removed while the graph ran\n"
                f"  help: write 'inputs' for a dict of the dependencies that are left",
                name,
                parameter,
            )
        return parameters.fill(inputs)

    async def _in_thread(self, call: ThreadCall) -> None:
        self._threads.add(call)
        try:
            await call.run(self._limiter)
        finally:
            self._threads.discard(call)

    # -- expansion

    async def _expand_on_thread(self, expander: Expander, name: str, *arguments: Any) -> Any:
        """Call a sync expander in a thread; await, without the slot, an awaitable it returns."""
        await self._hold_worker(name)
        call = ThreadCall(self._host, expander.function, name, *arguments)
        await self._in_thread(call)
        if call.error is not None:
            raise call.error
        if not is_awaitable(call.value):
            return call.value  # the slot goes back with the outcome: what lands now comes first
        self._return_worker(name)
        return await call.value

    async def _hold_worker(self, name: str) -> None:
        """Return when the node holds a worker slot: its body's, if it still does, or a new one."""
        if name in self._scheduler.working or self._core(self._scheduler.ask_worker, name):
            return
        self._askers[name] = granted = Event()
        try:
            await granted.wait()
        finally:
            del self._askers[name]
            self._core(self._scheduler.stop_asking, name)

    def _return_worker(self, name: str) -> None:
        """Give back the node's worker slot, if it holds one, before the node's end."""
        if name in self._scheduler.working:
            self._core(self._pass_worker_on, name)
            self._core(self._admit)

    def _pass_worker_on(self, name: str) -> None:
        heir = self._scheduler.return_worker(name)
        if heir is not None:
            self._askers[heir].set()

    def _land(self, name: str, modification: object) -> None:
        """Read the new nodes' callables and land the modification, or change nothing and raise."""
        if not isinstance(modification, DynamicModification):
            raise not_a_modification(name, modification)
        on_threads, parameters, expanders, faults = read_specs(
            modification, self._expanders[name], self._expanders
        )
        needs = {node: read.names() for node, read in parameters.items()} if parameters else None
        try:
            self._scheduler.land(
                modification, name, on_threads=on_threads, needs=needs, faults=faults
            )
        except ModificationError:  # which is the node's failure, unlike what `_core` sees
            raise
        except Exception as bug:
            self._crash(bug)
            raise
        for spec in modification.add_nodes:
            self._tasks[spec.name] = spec.task
        self._parameters.update(parameters)
        self._expanders.update(expanders)

    # -- outcomes: reported synchronously, without another await

    def _report(
        self,
        name: str,
        status: NodeStatus,
        value: Any,
        error: BaseException | None,
        seconds: float,
        started_at: float | None,
        reason: str | None = None,
        ends_run: bool = False,
    ) -> None:
        """Record what became of a node, and start what that releases."""
        scheduler = self._scheduler
        try:
            if status is CANCELLED:
                self._notice_deadline()
                reason = self._cut or "the run was cancelled"
                if name in self._unstarted:
                    started_at = None
                if started_at is None:
                    seconds = 0.0
            del self._handles[name]
            added_by, depth = scheduler.origin(name) if scheduler.version else (None, 0)
            self._results[name] = new_result(
                name,
                status,
                value,
                error,
                seconds,
                started_at,
                0 if started_at is None else 1,
                added_by,
                depth,
                reason,
            )
            if status is COMPLETED:
                scheduler.succeed(name)
            elif status is FAILED:
                scheduler.fail(name)
                if ends_run:
                    self._cut_short(f"the run was ended because {name!r} failed")
            else:
                scheduler.cancel(name)
            if name in scheduler.working:
                self._pass_worker_on(name)
            self._admit()
        except Exception as bug:
            self._crash(bug)

    def _report_failure(
        self,
        name: str,
        error: BaseException,
        value: Any,
        seconds: float,
        started_at: float | None,
        reason: str | None,
    ) -> bool:
        """Sort what user code raised; tell whether that settles it, else it is to be re-raised.

        A cancellation is the run's or its caller's and goes on, or it is some library's own affair
        and a failure like any other. KeyboardInterrupt cancels the run.
        """
        if is_cancellation(error, self._host.cancelled_class) and self._host.is_cancelling():
            self._stopping = True  # the host may hear of it later than this node
            self._report(name, CANCELLED, value, None, seconds, started_at)
            return False
        interrupt = keyboard_interrupt(error)
        if interrupt is not None:
            self._interrupt = self._interrupt or interrupt
            self._stop()
        self._notice_deadline()  # a failure that it caused is not what ends the run
        is_last_straw = self._ending.on_failure and not self._stopping
        self._stopping = self._stopping or is_last_straw
        forget_our_frames(error)
        self._report(name, FAILED, value, error, seconds, started_at, reason, is_last_straw)
        return True

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
        self._host.call_soon(self._interrupt_now)

    def _interrupt_now(self) -> None:
        self._interrupt = self._interrupt or KeyboardInterrupt()
        self._stop()

    def let_threads_be_abandoned(self) -> None:
        """Call threads so that `abandon_threads_soon` has an effect, at a price on trio."""
        self._host.abandonable = True

    def abandon_threads_soon(self) -> None:
        self._host.call_soon(self._abandon_threads)

    def _abandon_threads(self) -> None:
        for call in list(self._threads):
            call.abandon()
