"""The calls of user code that a node consists of: attempts at its task, then its expander."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from math import inf
from time import perf_counter, time
from types import CoroutineType
from typing import Any, TypeAlias

from anyio import CancelScope, CapacityLimiter, current_time, sleep, sleep_forever

from dagron._around import Around
from dagron._away import Away, Outliving, refuse_grow
from dagron._backend import Host
from dagron._calls import Expander, Parameters, refuse_coroutine
from dagron._current import current_node, here
from dagron._errors import Cancelled, NodeTimeoutError, TaskSignatureError
from dagron._landing import GROW, unfilled
from dagron._node_result import NodeResult, Place
from dagron._policy import LOCAL, NodePolicy, Retry
from dagron._raised import forget_our_frames, is_cancellation
from dagron._runner import Result, Runner
from dagron._scheduler import Scheduler
from dagron._slots import Slots
from dagron._threads import Call, ThreadCall, unboxed

EXPANDER = "the expander of node"
INPUTS = "fetching what is passed to node"
OUTPUT = "fetching the result of node"

Attempt: TypeAlias = Callable[..., Awaitable[tuple[Any, float]]]


class Note:
    """What there is to say of a node in flight that is no plain call of its task."""

    __slots__ = (
        "attempts",
        "before",
        "earlier",
        "errors",
        "failed_before",
        "lingering",
        "pause_until",
        "place",
        "seconds",
        "thread_began",
    )

    def __init__(self) -> None:
        self.attempts: int | None = None  # how often its task was started, if it has a policy
        self.seconds = 0.0  # in all attempts
        # Of all attempts but the last: the seconds in it, and when the next one began.
        self.earlier: list[tuple[float, float]] | None = None
        self.errors: list[BaseException] = []  # of attempts that failed
        self.pause_until: float | None = None  # by the loop's clock, while it waits in between
        self.lingering: ThreadCall | Outliving | None = None  # what was given up, and goes on
        self.place: Place | None = None  # where its task runs, if that is not here
        self.before = 0  # attempts in earlier lives of the run
        self.failed_before = 0  # those of them that failed, and were not cut off
        self.thread_began = True  # False: it was cancelled before its thread began


class Bodies:
    """Calls tasks and expanders, on the loop or in threads, and in time.

    ``core`` calls a method of the scheduler on behalf of a node, ``grow`` makes what its task adds
    nodes with, ``is_cancelled`` tells whether it is to stop, ``is_needed`` whether its result is
    needed here as soon as its task is done, ``on_retry`` hears of every attempt that is to be
    followed by another, and ``on_attempt`` of every one that follows; ``around`` enters what is
    around each of them.
    """

    def __init__(
        self,
        host: Host,
        limiter: CapacityLimiter,
        scheduler: Scheduler,
        slots: Slots,
        parameters: Mapping[str, Parameters],
        results: Mapping[str, NodeResult],
        *,
        core: Callable[..., Any],
        grow: Callable[[str], Any],
        is_cancelled: Callable[[str], bool],
        is_needed: Callable[[str], bool],
        on_retry: Callable[[str, int, float, BaseException], None],
        on_attempt: Callable[[str, int], None],
        around: Around | None,
    ) -> None:
        self._host = host
        self._limiter = limiter
        self._scheduler = scheduler
        self._slots = slots
        self._parameters = parameters
        self._results = results
        self._core = core
        self._grow = grow
        # What dependents get of a node where that is not, or not yet, the result of its record.
        self.values: dict[str, Any] = {}
        self.away: Away  # is set before any node runs
        self._is_cancelled = is_cancelled
        self._is_needed = is_needed
        self._on_retry = on_retry
        self._on_attempt = on_attempt
        self._around = around
        self.threads: set[ThreadCall] = set()
        self.notes: dict[str, Note] = {}
        # Of the calls on the loop that have a timeout: their scopes, and when they are over.
        self._scopes: dict[str, tuple[CancelScope, float]] = {}

    # -- tasks

    async def run(
        self,
        name: str,
        task: Callable[..., Any],
        policy: NodePolicy | None,
        call: Call | None = None,
    ) -> tuple[Any, float]:
        """Call a task as often as its policy says; return its value and the seconds in it.

        A ``call`` of it has ended by now, and counts.
        """
        if call is not None:
            call.raise_error()
            return await self._outcome(name, call, inf, None)
        attempt: Attempt = self._on_thread if name in self._scheduler.on_threads else self._on_loop
        if policy is not None and policy.runner != LOCAL:
            attempt = partial(self._elsewhere, policy)
        if self._around is not None:
            attempt = partial(self._surrounded, self._around, attempt)
        if self.away.remote:
            limit = None if policy is None else policy.timeout
            await self.in_time(name, self.bring(name, policy), due(limit), limit, INPUTS)
        if policy is None:
            return await attempt(name, task, *self.arguments(name), None)
        note = self.note(name)
        note.attempts = 0
        while True:
            # Anew each time: a task may change what it gets.
            arguments, keywords = self.arguments(name, policy)
            note.attempts += 1
            if note.attempts > 1:
                self._on_attempt(name, note.before + note.attempts)
            began, before = perf_counter(), note.seconds
            try:
                value, seconds = await attempt(name, task, arguments, keywords, policy.timeout)
                note.seconds += seconds
                return value, note.seconds
            except Exception as error:
                note.errors.append(unboxed(error))
                failed = note.failed_before + len(note.errors)
                if not self._may_retry(name, policy.retry, note.errors[-1], failed):
                    raise
                forget_our_frames(note.errors[-1])
            finally:
                if note.seconds == before:
                    note.seconds += perf_counter() - began
            assert policy.retry is not None
            await self._pause(name, note, policy.retry)
            note.earlier = note.earlier or []
            note.earlier.append((note.seconds - before, time()))

    async def _surrounded(
        self, around: Around, attempt: Attempt, name: str, *call: Any
    ) -> tuple[Any, float]:
        note = self.notes.get(name)
        entered = around.attempt(name, (note and note.attempts) or 1)
        try:
            outcome = await attempt(name, *call)
        except BaseException as error:
            entered.leave(unboxed(error))
            raise
        entered.leave(None)
        return outcome

    def note(self, name: str) -> Note:
        """Return what there is to say of a node, made where there is nothing yet."""
        note = self.notes.get(name)
        if note is None:
            self.notes[name] = note = Note()
        return note

    def _may_retry(self, name: str, retry: Retry | None, error: BaseException, failed: int) -> bool:
        return (
            retry is not None
            and failed < retry.attempts
            and issubclass(type(error), retry.on)
            and not self._host.is_cancelling()
            and not self._is_cancelled(name)
        )

    async def _pause(self, name: str, note: Note, retry: Retry) -> None:
        """Wait between two attempts, without any slot; a thread that was given up ends first."""
        from random import Random  # on use

        attempt = len(note.errors)
        seed = None if retry.seed is None else f"{retry.seed}/{name}/{attempt}"
        delay = retry.delay(attempt, Random(seed).random())
        self._on_retry(name, attempt, delay, note.errors[-1])
        if note.lingering is not None:
            await note.lingering.wait()
            note.lingering = None
        self._slots.rest(name)
        note.pause_until = current_time() + delay
        await sleep(delay)
        note.pause_until = None
        await self._slots.hold(name, worker=name in self._scheduler.on_threads)
        if self._is_cancelled(name):
            await sleep_forever()  # the cancellation is on its way here

    async def bring(self, name: str, policy: NodePolicy | None = None) -> None:
        """Fetch what a node's task is called with, and is kept elsewhere."""
        if name in self._parameters:
            met = self._core(self._scheduler.met, name)
            await self.away.bring(met, self.away.runner(policy))

    def arguments(
        self, name: str, policy: NodePolicy | None = None
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return what a node's task is called with."""
        parameters = self._parameters.get(name)
        if parameters is None:
            return [], {}
        results = self._results
        sources = self._core(self._scheduler.dependencies, name)
        for parameter in unfilled(parameters.names(), sources):
            raise TaskSignatureError(
                f"the task of node {name!r:.60} has a parameter {parameter!r:.60}, "
                f"and the edge from that node was removed while the graph ran\n"
                f"  help: write 'inputs' for a dict of the dependencies that are left",
                name,
                parameter,
            )
        met = self._core(self._scheduler.met, name)
        if self.away.remote:
            inputs = self._given(met, self.away.runner(policy))
        elif self.values:
            inputs = {source: self.value(source) for source in met}
        else:
            inputs = {source: results[source].result for source in met}
        grow = None
        if GROW in parameters.names():
            if policy is not None and policy.runner != LOCAL:
                raise refuse_grow(name, policy.runner)
            grow = self._grow(name)
        return parameters.fill(inputs, grow)

    def _given(self, sources: Iterable[str], runner: Runner | None) -> dict[str, Any]:
        remote = self.away.remote
        return {
            source: self.value(source)
            if source in self.values or source not in remote
            else self.away.given(source, runner)
            for source in sources
        }

    def value(self, name: str) -> Any:
        """Return what dependents get of a node."""
        return self.values[name] if name in self.values else self._results[name].result

    async def _elsewhere(
        self,
        policy: NodePolicy,
        name: str,
        task: Callable[..., Any],
        arguments: list[Any],
        keywords: dict[str, Any],
        timeout: float | None,
    ) -> tuple[Any, float]:
        """Have a task called by its runner, whose slot is free again when it is done."""

        def in_time(call: Awaitable[Any]) -> Awaitable[Any]:
            return self.in_time(name, call, due(timeout), timeout)

        value, seconds = await self.away.run(name, policy, task, arguments, keywords, in_time)
        self._core(self._scheduler.leave_runner, name)
        if isinstance(value, Result) and (value.is_wanted or self._is_needed(name)):
            fetching = self.away.value(name)
            value = await self.in_time(name, fetching, due(timeout), timeout, OUTPUT)
        return value, seconds

    def delay(self, name: str, timeout: float | None) -> None:
        """Let the time of a call begin now, or not yet: for None."""
        if name in self._scopes:
            scope, _ = self._scopes[name]
            scope.deadline = due(timeout)
            self._scopes[name] = scope, inf if timeout is None else perf_counter() + timeout

    async def _on_loop(
        self,
        name: str,
        task: Callable[..., Any],
        arguments: list[Any],
        keywords: dict[str, Any],
        timeout: float | None,
    ) -> tuple[Any, float]:
        began = perf_counter()
        value = await self.in_time(name, task(*arguments, **keywords), due(timeout), timeout)
        if type(value) is CoroutineType:
            refuse_coroutine(name, value)
        return value, perf_counter() - began

    async def _on_thread(
        self,
        name: str,
        task: Callable[..., Any],
        arguments: list[Any],
        keywords: dict[str, Any],
        timeout: float | None,
    ) -> tuple[Any, float]:
        """Call a sync task in a thread; await, without the worker slot, an awaitable it returns."""
        deadline = due(timeout)
        call = ThreadCall(self._host, task, *arguments, **keywords)
        try:
            await self.in_thread(name, call, deadline, timeout)
        finally:
            if call.forbidden:
                self.note(name).thread_began = False
        return await self._outcome(name, call, deadline, timeout)

    async def _outcome(
        self, name: str, call: Call, deadline: float, timeout: float | None
    ) -> tuple[Any, float]:
        if not call.is_awaitable:
            return call.value, call.seconds
        self._slots.return_worker(name)
        began = perf_counter()
        value = await self.in_time(name, call.value, deadline, timeout)
        if type(value) is CoroutineType:
            refuse_coroutine(name, value)
        return value, call.seconds + perf_counter() - began

    # -- expanders

    async def expand(
        self, expander: Expander, name: str, arguments: tuple[Any, ...], timeout: float | None
    ) -> Any:
        """Call a node's expander and return what it returned."""
        if expander.on_loop:
            self._slots.return_worker(name)
            expansion = expander.function(name, *arguments)
            if expander.streams:
                return expansion
            return await self.in_time(name, expansion, due(timeout), timeout, EXPANDER)
        await self._slots.hold(name, worker=True)
        deadline = due(timeout)
        call = ThreadCall(self._host, expander.function, name, *arguments)
        await self.in_thread(name, call, deadline, timeout, EXPANDER)
        if not call.is_awaitable:
            return call.value  # the slot goes back with the outcome: what lands now comes first
        self._slots.return_worker(name)
        return await self.in_time(name, call.value, deadline, timeout, EXPANDER)

    # -- in time

    def deadline(self, name: str) -> float:
        """Return when the call on the loop is over, by the loop's clock."""
        return self._scopes[name][0].deadline if name in self._scopes else inf

    def is_late(self, name: str) -> bool:
        """Tell whether the time of the call on the loop is over; from any thread."""
        found = self._scopes.get(name)
        if found is None:
            return False
        scope, end = found
        try:
            return scope.cancel_called
        except RuntimeError:  # trio asks its clock, which it cannot in a thread
            return perf_counter() >= end

    async def in_time(
        self,
        name: str,
        awaitable: Awaitable[Any],
        deadline: float,
        timeout: float | None,
        whose: str = "node",
    ) -> Any:
        if timeout is None:
            return await awaitable
        with CancelScope(deadline=deadline) as scope:
            self._scopes[name] = scope, perf_counter() + deadline - current_time()
            try:
                return await awaitable
            except BaseException as error:
                if not (scope.cancel_called and is_cancellation(error, Cancelled)):
                    raise
            finally:
                del self._scopes[name]
        raise too_late(whose, name, timeout)

    async def in_thread(
        self,
        name: str,
        call: ThreadCall,
        deadline: float = inf,
        timeout: float | None = None,
        whose: str = "node",
        *,
        limiter: CapacityLimiter | None = None,
        abandonable: bool = False,
    ) -> None:
        """Run the call in a thread; raises what it raised."""
        self.threads.add(call)
        node = here()
        token = current_node.set(node and node._replace(call=call))
        try:
            await call.run(limiter or self._limiter, deadline, abandonable=abandonable)
        finally:
            current_node.reset(token)
            self.threads.discard(call)
            if call.lingers:
                self.note(name).lingering = call
        if call.timed_out and timeout is not None:
            raise too_late(whose, name, timeout, in_thread=True)
        call.raise_error()


def due(timeout: float | None) -> float:
    """Return when a call that begins now is out of time, by the loop's clock."""
    return inf if timeout is None else current_time() + timeout


def too_late(whose: str, name: str, timeout: float, *, in_thread: bool = False) -> NodeTimeoutError:
    help = "give it a longer NodePolicy(timeout=...), or none"
    if in_thread:
        help = (
            "its thread goes on, and keeps its slot, until it returns: "
            "let it call dagron.check_cancelled() now and then"
        )
    return NodeTimeoutError(
        f"{whose} {name!r:.60} took longer than its timeout of {timeout:g} s\n  help: {help}",
        name,
        timeout,
    )
