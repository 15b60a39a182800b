"""Nodes that go on adding nodes: by an expander that is a generator, and from inside a task."""

from collections.abc import Callable, Coroutine
from inspect import CORO_CREATED, getcoroutinestate, isawaitable
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any

from anyio import CancelScope, CapacityLimiter, Event, Lock, create_task_group
from anyio.lowlevel import checkpoint

from dagron._backend import Host
from dagron._bodies import EXPANDER, Bodies, due, too_late
from dagron._calls import has_not_run, not_a_modification
from dagron._checks import unplain_kind
from dagron._current import here
from dagron._errors import Cancelled, ExpansionError, ModificationError, NotAwaitedError
from dagron._graph import DAG
from dagron._keep import Fold
from dagron._modification import DynamicModification, DynamicNodeSpec
from dagron._names import plural, shown
from dagron._policy import WINDOW, NodePolicy
from dagron._pump import Pump
from dagron._scheduler import Scheduler
from dagron._slots import Slots
from dagron._threads import ThreadCall

if TYPE_CHECKING:
    from dagron._ledger import Ledger

STREAMS = (GeneratorType, AsyncGeneratorType)
_PAUSE = 16  # modifications after which others get their turn, however soon the next is there


class Grow:
    """Adds nodes to the graph from inside a task that runs: ``async def crawl(grow): ...``.

    A task with a parameter of this name gets one: ``await grow(DynamicNodeSpec(...))``.
    """

    __slots__ = ("_grower", "_growing", "_name")

    def __init__(self, growing: "Growing", name: str, grower: "_Grower") -> None:
        self._growing: Growing | None = growing
        self._name = name
        self._grower = grower

    def __call__(self, change: DynamicNodeSpec | DynamicModification) -> Coroutine[Any, Any, None]:
        """Land a new node, or a modification, when it is awaited: whole, or not at all.

        It waits while ``NodePolicy(window=...)`` children of this node are unfinished, and in the
        node's own task without any slots. New nodes start at once; those that depend on this node
        wait for its end.

        Where the task is tried again by its `Retry`, what it adds just as it had added it before
        (names, edges and policies) is there already, and counts once.

        Raises `ModificationError`, which changes nothing and may be caught; `TypeError` for
        anything else than these two; `ExpansionError` when the children that it waits for wait for
        this node; `Cancelled` where a shield keeps out the cancellation of the node; `RuntimeError`
        after the node has ended. The node fails if this was not awaited when its task ends.
        """
        return self._grower.called(self._land(change))

    async def _land(self, change: DynamicNodeSpec | DynamicModification) -> None:
        if not isinstance(change, (DynamicNodeSpec, DynamicModification)):
            if has_not_run(change):
                change = type(change).__name__
            raise TypeError(
                f"grow takes a DynamicNodeSpec or a DynamicModification, not {change!r:.60}\n"
                f"  help: write await grow(dagron.DynamicNodeSpec('name', task))"
            )
        self._open()
        async with self._grower.turn:
            await self._open().by_task(self._name, self._grower, change)

    @property
    def dag(self) -> DAG:
        """The graph as it is now, as a value: O(graph), made when it is asked for."""
        return self._open().dag()

    def _open(self) -> "Growing":
        if self._growing is None or self._growing.is_over(self._name, self._grower):
            self._growing = None
            raise _has_ended(self._name)
        return self._growing

    def __repr__(self) -> str:
        return f"<Grow of node {self._name!r}>"


def _has_ended(name: str) -> RuntimeError:
    return RuntimeError(
        f"node {name!r:.60} has ended: it can add no nodes any more\n"
        f"  help: let the task wait for whatever calls grow"
    )


class _Grower:
    """What is known of a node whose task adds others, from its first attempt to its end."""

    __slots__ = ("_before", "_calls", "_landed", "_limit", "turn")

    def __init__(self) -> None:
        self.turn = Lock()  # one modification at a time
        self._calls: list[Coroutine[Any, Any, None]] = []
        self._limit = 1  # of them, until those that were awaited are let go
        # By the names that were added: in all attempts, and in those that failed.
        self._landed: dict[tuple[str, ...], list[DynamicModification]] = {}
        self._before: dict[tuple[str, ...], list[DynamicModification]] = {}

    def called(self, call: Coroutine[Any, Any, None]) -> Coroutine[Any, Any, None]:
        if len(self._calls) >= self._limit:
            self._calls = self.unawaited()
            self._limit = 2 * len(self._calls) + 1
        self._calls.append(call)
        return call

    def unawaited(self) -> list[Coroutine[Any, Any, None]]:
        """Return the calls that nobody has awaited yet."""
        return [call for call in self._calls if getcoroutinestate(call) == CORO_CREATED]

    def try_again(self) -> None:
        """Begin another attempt; what the last one did not await does not happen."""
        for call in self.unawaited():
            call.close()
        self._calls = []
        self._before = {names: [*changes] for names, changes in self._landed.items()}

    def has_landed(self, change: DynamicModification) -> bool:
        """Tell whether an attempt that failed has landed it, and this one not yet."""
        changes = self._before.get(_names(change), [])
        if change not in changes:
            return False
        changes.remove(change)
        return True

    def land(self, change: DynamicModification) -> None:
        self._landed.setdefault(_names(change), []).append(change)


def _names(change: DynamicModification) -> tuple[str, ...]:
    return tuple(spec.name for spec in change.add_nodes)


class _Room:
    """What a node waits for: that fewer of its children are unfinished."""

    __slots__ = ("is_stalled", "opened")

    def __init__(self) -> None:
        self.opened = Event()
        self.is_stalled = False  # it would not be, ever


class _Folding:
    """A fold on its way: one call at a time."""

    def __init__(self, fold: Fold) -> None:
        self.value = fold.start()
        if has_not_run(self.value):
            raise ExpansionError(
                f"the start of the fold returned {type(self.value).__name__}, which did not run\n"
                f"  help: write a plain function that returns the first accumulator"
            )
        self._function = fold.function
        self._is_async = unplain_kind(fold.function) is not None
        self._lock = Lock()

    async def add(self, name: str, result: Any) -> None:
        if self._is_async:
            async with self._lock:
                self._set(name, await self._function(self.value, name, result))
        else:
            self._set(name, self._function(self.value, name, result))

    def _set(self, name: str, value: Any) -> None:
        if isawaitable(value) and has_not_run(value):
            raise ExpansionError(
                f"the fold returned {type(value).__name__} for {name!r:.60}, which did not run\n"
                f"  help: write it as an async def"
            )
        if value is None and self.value is not None:
            raise ExpansionError(
                f"the fold returned None for {name!r:.60}\n"
                f"  help: return the accumulator, also where it was changed in place"
            )
        self.value = value


class Growing:
    """What the nodes of one run do that go on adding nodes.

    ``land`` lands a modification, ``core`` calls a method of the scheduler on behalf of a node,
    ``admit`` lets nodes start, ``is_own_task`` tells whether the current task is a node's own, and
    ``is_cancelled`` whether a node is to stop.
    """

    def __init__(
        self,
        host: Host,
        scheduler: Scheduler,
        slots: Slots,
        bodies: Bodies,
        *,
        core: Callable[..., Any],
        land: Callable[..., object],
        admit: Callable[[], None],
        is_own_task: Callable[[], bool],
        is_cancelled: Callable[[str], bool],
    ) -> None:
        self._host = host
        self._scheduler = scheduler
        self._slots = slots
        self._bodies = bodies
        self._core = core
        self._land = land
        self._admit = admit
        self._is_own_task = is_own_task
        self._is_cancelled = is_cancelled
        self.ledger: Ledger | None = None  # of a run that has a journal
        self._rooms: dict[str, _Room] = {}  # of the nodes that wait for room
        self.growers: dict[str, _Grower] = {}  # of the nodes whose tasks may add others
        self.folds: dict[str, _Folding] = {}  # of the children of these nodes
        self.values = bodies.values

    # -- a node's expander

    async def expand(
        self, name: str, expansion: Any, value: Any, policy: NodePolicy | None
    ) -> None:
        """Land what an expander returned, while its node goes on.

        What a generator yields lands piece by piece, as long as there is room, until it is
        exhausted.
        """
        self.end_task(name)
        self.count_children(name)
        self.values[name] = value
        if self.ledger is not None:
            self.ledger.go_on(name)
        if not isinstance(expansion, STREAMS):
            await self._land_item(name, expansion, "returned")
            return
        window = policy.window if policy else WINDOW
        timeout = policy.timeout if policy else None
        if isinstance(expansion, AsyncGeneratorType):
            self._slots.return_worker(name)
            await self._stream_on_loop(name, expansion, window, timeout)
        else:
            await self._stream_from_thread(name, expansion, window, timeout)

    async def _stream_on_loop(
        self, name: str, generator: Any, window: int, timeout: float | None
    ) -> None:
        landed = 0
        try:
            while True:
                await self._wait_for_room(name, window)
                try:
                    step = generator.__anext__()
                    item = await self._bodies.in_time(name, step, due(timeout), timeout, EXPANDER)
                except StopAsyncIteration:
                    return
                await self._land_item(name, item)
                landed += 1
                if not landed % _PAUSE:
                    await checkpoint()
        finally:
            await generator.aclose()

    async def _stream_from_thread(
        self, name: str, generator: Any, window: int, timeout: float | None
    ) -> None:
        pump = Pump(self._host, generator)
        call = ThreadCall(self._host, pump)
        failure: BaseException | None = None

        async def drive() -> None:
            nonlocal failure
            try:
                # While the generator waits for room it holds a thread, but no slot. So it has a
                # limiter of its own, and the scheduler counts.
                limiter = CapacityLimiter(1)
                may_be_late = timeout is not None
                await self._bodies.in_thread(name, call, limiter=limiter, abandonable=may_be_late)
            except self._host.cancelled_class:
                raise
            except BaseException as error:
                failure = failure or error
            finally:
                pump.end()

        async with create_task_group() as group:
            group.start_soon(drive, name=name)
            try:
                while True:
                    await self._wait_for_room(name, window)
                    await self._slots.hold(name, worker=True)
                    with CancelScope(deadline=due(timeout)) as scope:
                        has_item = await pump.advance()
                    if scope.cancelled_caught and timeout is not None:
                        call.abandon()
                        group.cancel_scope.cancel()
                        failure = too_late(EXPANDER, name, timeout, in_thread=True)
                        break
                    if not has_item:
                        break
                    await self._land_item(name, pump.take())
            except (Exception, Cancelled) as error:
                failure = failure or error
            finally:
                pump.stop()
        failure = failure or call.error
        if failure is not None:
            raise failure

    async def _land_item(self, name: str, item: object, verb: str = "yielded") -> None:
        if isinstance(item, DynamicNodeSpec) and verb == "yielded":
            item = DynamicModification([item])
        if item is not None:
            if not isinstance(item, DynamicModification):
                raise not_a_modification(name, item, verb)
            self._check_cancelled(name)
            await self._land_next(name, item, settled=True)

    async def _land_next(self, name: str, change: DynamicModification, *, settled: bool) -> None:
        if self.ledger is None:
            self._land(name, change, settled=settled)
            self._admit()
            return
        if settled:
            self._slots.return_worker(name)  # of a sync generator, which takes no step meanwhile
        await self.ledger.land(name, change, settled=settled)

    # -- a task that adds nodes

    def handle(self, name: str) -> Grow:
        """Return what the task of a node adds nodes with."""
        self.count_children(name)
        grower = self.growers.setdefault(name, _Grower())
        grower.try_again()
        return Grow(self, name, grower)

    def is_over(self, name: str, grower: _Grower) -> bool:
        """Tell whether the node has ended; a later one of its name is another grower."""
        return self.growers.get(name) is not grower

    def check_awaited(self, name: str) -> None:
        """Raise where the task of this node, which has returned, added nodes and did not wait."""
        grower = self.growers.get(name)
        if grower is not None and (calls := grower.unawaited()):
            for call in calls:
                call.close()
            raise NotAwaitedError(
                f"the task of node {name!r:.60} called grow(...) and did not wait for it, "
                f"{plural(len(calls), 'time')}: nothing was added\n"
                f"  help: did you forget 'await'? write: await grow(...)"
            )

    def dag(self) -> DAG:
        """Return the graph."""
        dag: DAG = self._core(self._scheduler.dag)
        return dag

    async def by_task(
        self, name: str, grower: _Grower, change: DynamicNodeSpec | DynamicModification
    ) -> None:
        """Land what a task adds to the graph, as soon as there is room."""
        if isinstance(change, DynamicNodeSpec):
            change = DynamicModification([change])
        if grower.has_landed(change):
            return
        policy = self._scheduler.policies.get(name)
        await self._wait_for_room(name, policy.window if policy else WINDOW)
        if self.is_over(name, grower):
            raise _has_ended(name)
        self._check_cancelled(name)
        try:
            await self._land_next(name, change, settled=False)
            if policy is not None and policy.retry is not None:
                grower.land(change)
        except ModificationError as error:
            error.with_traceback(None)  # its frames would keep the run alive
            raise

    def _check_cancelled(self, name: str) -> None:
        """Raise in a node that is cancelled."""
        if self._is_cancelled(name):
            raise Cancelled(f"node {name!r:.60} is cancelled: it can add no nodes any more")

    # -- room

    def count_children(self, name: str) -> None:
        """Count the node's children from now on."""
        self._core(self._scheduler.offspring.begin, name)
        self._bodies.note(name)  # so that its end is reported in full

    async def _wait_for_room(self, name: str, window: int) -> None:
        """Return when there is room in the node's window.

        While an earlier life is told again there is, as long as it tells more of the node: that
        went on when it was recorded, and children for which it waited then may be tried again
        later.
        """
        if self.ledger is not None and self.ledger.tells_more_of(name):
            await self._heed_cancellation(name)
        else:
            await self._wait_until_fewer(name, window)

    async def _wait_until_fewer(self, name: str, limit: int) -> None:
        """Return when fewer than ``limit`` children are unfinished, or the node has ended.

        The node's own task waits without any slots; another one cannot give them away.
        """
        await self._heed_cancellation(name)
        if self._core(self._scheduler.offspring.wait, name, limit):
            return
        room = _Room()
        node = here()
        if node is not None and node.name == name and self._is_own_task():
            await self._wait_without_slots(name, room)
        else:
            await self._wait(name, room)
        await self._heed_cancellation(name)

    async def _heed_cancellation(self, name: str) -> None:
        """Let the cancellation of a node that is cancelled come, in spite of a shield."""
        if self._is_cancelled(name):
            await checkpoint()
            self._check_cancelled(name)

    async def _wait_without_slots(self, name: str, room: _Room) -> None:
        try:
            await self._wait(name, room, is_alone=True)
            stalled = self._stalled_error(name) if room.is_stalled else None
            await self._slots.hold(name, worker=False)
        except self._host.cancelled_class:
            # The task may have a scope of its own, and go on after this: then it needs its slots.
            if not self._is_cancelled(name):
                with CancelScope(shield=True, deadline=self._bodies.deadline(name)):
                    await self._slots.hold(name, worker=False)
            raise
        if stalled is not None:
            raise stalled

    async def _wait(self, name: str, room: _Room, *, is_alone: bool = False) -> None:
        offspring = self._scheduler.offspring
        self._rooms[name] = room
        try:
            if is_alone:
                self._core(offspring.rely, name)
                self._slots.rest(name)
            await room.opened.wait()
        finally:
            if self._rooms.get(name) is room:  # else the node has gone on to its expander
                del self._rooms[name]
                offspring.stop_waiting(name)

    def tend(self, *, is_idle: bool) -> None:
        """Let those go on for whom there is room now, and fail who would wait for ever.

        ``is_idle`` says that no node is ready that might start.
        """
        offspring = self._scheduler.offspring
        while offspring.roomy:
            self.release(offspring.roomy.pop())
        if is_idle and offspring.relying and (stalled := self._scheduler.stalled()):
            self._rooms[stalled[0]].is_stalled = True
            offspring.stop_waiting(stalled[0])
            self.release(stalled[0])

    def release(self, name: str) -> None:
        """Let a node not wait any longer: there is room, or it is being cancelled."""
        room = self._rooms.get(name)
        if room is not None:
            room.opened.set()

    def stop(self) -> None:
        """Let nobody wait any longer: the run is being cancelled."""
        for room in self._rooms.values():
            room.opened.set()

    def _stalled_error(self, name: str) -> ExpansionError:
        scheduler = self._scheduler
        children = sorted(scheduler.offspring.unfinished.get(name, ()))
        waits = [
            f"{child!r:.60} waits for {shown(scheduler.pending(child), 3) or 'its own children'}"
            for child in children[:3]
        ]
        more = f", and {len(children) - 3:,} more wait" if len(children) > 3 else ""
        return ExpansionError(
            f"node {name!r:.60} waits for its children to end, and they wait for others that "
            f"cannot run before it has ended: {'; '.join(waits)}{more}\n"
            f"  help: let its children not depend on what depends on it, "
            f"or give it a larger NodePolicy(window=...)"
        )

    # -- folds

    def begin(self, name: str, fold: Fold) -> None:
        """Fold the results of the node's children from now on."""
        if name not in self.folds:
            self.count_children(name)
            self.folds[name] = _Folding(fold)

    async def finish(self, name: str, value: Any) -> None:
        """Wait for the end of all children whose results are folded; then fold this node's own."""
        folding = self.folds.get(name)
        if folding is not None:
            self.end_task(name)
            if self.ledger is not None:
                self.ledger.go_on(name)
            await self._wait_until_fewer(name, 1)
            self.values[name] = value = folding.value
            if self.ledger is not None:
                self.ledger.keep_folded(name, value)
        await self.fold(name, value)

    async def fold(self, name: str, value: Any) -> None:
        """Fold the result of a node into what its parent makes of its children, if it does."""
        added_by, _ = self._scheduler.origin(name)
        above = self.folds.get(added_by) if added_by is not None else None
        if above is None:
            return
        assert added_by is not None
        if name in self._scheduler.offspring.unfinished[added_by]:  # else of one of the same name
            await above.add(name, value)

    # -- ends

    def end_task(self, name: str) -> None:
        """Let a node's task add nodes no longer."""
        if self.growers.pop(name, None) is not None:
            self.release(name)

    def end(self, name: str) -> "_Folding | None":
        """Let go of a node that has ended; return its fold, if it has one."""
        self.end_task(name)
        return self.folds.pop(name, None)

    def close(self) -> None:
        """Let go of the run, which has ended; tasks that outlive it may still ask `is_over`."""
        vars(self).clear()
        self._rooms, self.growers = {}, {}
        self._is_cancelled = lambda name: False
