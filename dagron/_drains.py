"""Worker threads that run one sync node after another, with no turn of the loop in between.

A call is handed to the threads when its node has a worker slot, or as an offer, ahead of that: the
thread that has ended one call takes the next in line in the same slot. So a thread that is at work
holds one slot, whichever nodes it runs.

    the event loop                           a thread
    take(node): a slot for one more     -->  takes the first call, and runs it
    offer(): those next in line         -->  takes one when the one before has ended
    recall(): what nobody took yet
    flush(): who began, who ended       <--  news; one wake-up for all since the last flush
                                        <--  parked: nothing is left, the slot is free

A lock decides who has a call. All else here belongs to the loop, or to the one thread.

    a call                  its node, as far as the loop knows
    offered, in the line    READY: in `offers` and the line, and behind those that have begun
    offered, taken          READY: in `offers`, and that a thread has it is in the news
    begun, in the line      RUNNING: in `running`; a thread at work has no call, and will take it
    begun, taken            RUNNING: in `running`; that it has ended will be in the news

    a thread    its slot
    at work     it holds one, and takes calls
    parked      it holds one, and has found no call: the next flush takes the slot back
    idle        none; it waits to be put to work, for so many seconds
    leaving     as before; it takes no calls any more
"""

from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import copy_context
from math import inf
from queue import Empty, SimpleQueue
from threading import RLock
from time import time
from typing import Any

from anyio import CapacityLimiter, TaskHandle

from dagron._backend import Host
from dagron._current import NodeHost, current_node
from dagron._scheduler import Scheduler
from dagron._threads import Call, ThreadCall

FEWEST = 2  # calls that are offered ahead, at first and after a recall
MOST = 128  # and while the threads take them all
LINGER = 2.0  # seconds that a parked thread waits for more before it ends


class Drained(Call):
    """A call of one node's task, on its way to a thread and back."""

    __slots__ = (
        "arguments",
        "function",
        "has_begun",
        "keeps_slot",
        "keywords",
        "name",
        "started_at",
        "thread",
    )

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        arguments: Sequence[Any],
        keywords: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.name = name
        self.function = function
        self.arguments = arguments
        self.keywords = keywords
        self.has_begun = False  # as far as the scheduler knows
        self.thread: Drain | None = None  # that took it
        self.started_at: float | None = None
        # The slot of its thread is its node's from its end on, which failed or is not done: unless
        # the thread finds that this is not so.
        self.keeps_slot = True


class Drain(ThreadCall):
    """A thread that runs calls until it is to leave."""

    __slots__ = (
        "_drains",
        "call",
        "handle",
        "has_lost_call",
        "is_at_work",
        "is_cancelled",
        "is_leaving",
        "turn",
    )

    def __init__(self, host: Host, drains: "Drains") -> None:
        super().__init__(host, self._work)
        self._drains = drains
        self.turn: SimpleQueue[None] = SimpleQueue()  # on which it waits while it is parked
        self.handle: TaskHandle[None]  # of the task that waits for it
        self.call: Drained | None = None  # that it runs
        self.is_at_work = True
        self.is_leaving = False
        self.is_cancelled = False  # it is to leave since its call is cancelled, that one alone
        self.has_lost_call = False  # nobody waits for what comes of its call

    def _work(self) -> None:
        # Its own context is the run's. No variable here outlives a call: who waits holds nothing.
        context = copy_context()
        while self._drains.advance(self):
            context.copy().run(self._run)

    def _run(self) -> None:
        call = self.call
        assert call is not None, "it was given one"
        current_node.set((self._drains.run, call.name, self))
        call.started_at = time()
        call.perform(call.function, call.arguments, call.keywords)
        call.keeps_slot = call.is_awaitable or call.error is not None

    async def outlast(self, deadline: float = inf) -> None:
        """Let the thread leave after its present call, and wait for that."""
        self._drains.heed_cancellation(self)
        await super().outlast(deadline)


class Drains:
    """The draining threads of a run.

    ``call_of`` gives the call of a node's task, unless the node needs more; ``spawn`` starts a task
    that waits for a thread. ``wake`` is called, in the loop, when there is news, ``end`` for every
    call that has ended, ``leave`` to `take_out` a thread that is gone, and ``halt`` when the run is
    cancelled. Nodes whose calls have begun are ``in_flight``.
    """

    def __init__(
        self,
        run: NodeHost,
        host: Host,
        scheduler: Scheduler,
        max_workers: int,
        *,
        in_flight: dict[str, TaskHandle[None] | None],
        call_of: Callable[[str], Drained | None],
        spawn: Callable[[Coroutine[Any, Any, None]], TaskHandle[None]],
        end: Callable[[Drained], object],
        leave: Callable[[Drain, Exception | None], object],
        halt: Callable[[], object],
        wake: Callable[[], object],
    ) -> None:
        self.run = run
        self._host = host
        self._scheduler = scheduler
        # Parked threads hold none of the run's slots: they are limited apart.
        self._limiter = CapacityLimiter(max_workers)
        self._in_flight = in_flight
        self._call_of = call_of
        self._spawn = spawn
        self._end = end
        self._leave = leave
        self._halt = halt
        self._wake = wake
        self.offers: dict[str, Drained] = {}  # whose nodes are READY, as far as the loop knows
        self.running: dict[str, Drained] = {}  # whose nodes are RUNNING
        self._reach = FEWEST  # how many calls may be offered ahead
        self.threads: set[Drain] = set()
        self._pending: deque[tuple[Drained, bool]] = deque()  # news that is being taken in
        self.on_begin: Callable[[str], object] | None = None  # called in the thread
        self._is_stopped = False
        self._lock = RLock()  # not a plain one: a finalizer that comes in between may cancel a run
        # Under the lock:
        self._line: deque[Drained] = deque()  # that nobody took; those that have begun first
        self._news: list[tuple[Drained, bool]] = []  # who took a call, and (True) who ended it
        self._parked: list[Drain] = []
        self._idle: list[Drain] = []
        self._is_told = False  # the loop will flush

    # -- in a thread

    def advance(self, thread: Drain) -> bool:
        """Pass on the call that ended, and give the thread its next one; False: it is to leave."""
        while True:
            with self._lock:
                self._take_back(thread)
                has_next = thread.is_at_work and not thread.is_leaving and self._give(thread)
                is_news = bool(self._news or self._parked) and not self._is_told
                self._is_told = self._is_told or is_news
            if is_news:
                self._tell()
            if has_next or thread.is_leaving:
                return has_next
            try:
                thread.turn.get(timeout=LINGER)
            except Empty:
                with self._lock:
                    if thread in self._idle:
                        self._dismiss(thread)

    def _take_back(self, thread: Drain) -> None:
        call, thread.call = thread.call, None
        if call is None:
            return
        if thread.has_lost_call:
            call.drop()
            return
        self._news.append((call, True))
        if call.keeps_slot:
            thread.is_at_work = False
            if not thread.is_leaving:
                self._idle.append(thread)

    def _give(self, thread: Drain) -> bool:
        if not self._line:
            thread.is_at_work = False
            self._parked.append(thread)
            return False
        thread.call = call = self._line.popleft()
        call.thread = thread
        if not call.has_begun:
            self._news.append((call, False))
            if self.on_begin is not None:
                self.on_begin(call.name)
        return True

    def _tell(self) -> None:
        try:
            self._host.call_soon(self._wake)
        except RuntimeError:  # the loop is gone: the thread was given up long ago
            return

    # -- in the event loop

    def take(self, name: str) -> bool:
        """Put one more thread to work, for a node that is RUNNING and holds a worker slot.

        Tells whether it did: a plain call may not be all that the node needs.
        """
        call = self.offers.get(name) or self._call_of(name)
        if call is None:
            return False
        self._scheduler.hand_over(name)
        self.running[name] = call
        self._in_flight[name] = None
        is_offered = self.offers.pop(name, None) is not None
        with self._lock:
            call.has_begun = True
            if not is_offered:
                self._line.append(call)
            thread = self._idle.pop() if self._idle else None
            if thread is not None:
                thread.is_at_work = True
                thread.turn.put(None)
        if thread is None:
            self._add_thread()
        return True

    def _add_thread(self) -> None:
        thread = Drain(self._host, self)
        self.threads.add(thread)
        thread.handle = self._spawn(self._wait_for(thread))

    async def _wait_for(self, thread: Drain) -> None:
        error: Exception | None = None
        try:
            await thread.run(self._limiter)
        except self._host.cancelled_class:
            self.heed_cancellation(thread)
            if self._host.is_cancelling():
                raise
        except Exception as failure:  # to start, say: what a call raises is its own affair
            error = failure
        finally:
            self._leave(thread, error)
        await self._host.absorb_cancellation()

    def offer(self) -> None:
        """Let threads that end a call go on with the nodes that are next in line."""
        if not (self.running or self.offers):
            return
        if self.offers and self._scheduler.is_overtaken(next(reversed(self.offers))):
            self.recall()
        if 2 * len(self.offers) > self._reach:
            return
        calls: list[Drained] = []
        for name in self._scheduler.following(self._reach - len(self.offers), self.offers):
            call = self._call_of(name)
            if call is None:
                break
            calls.append(call)
        self.offers.update((call.name, call) for call in calls)
        with self._lock:
            self._line.extend(calls)

    def recall(self) -> None:
        """Take back what was offered, but for what a thread took: the line has changed."""
        self._reach = FEWEST
        with self._lock:
            while self._line and not self._line[-1].has_begun:
                del self.offers[self._line.pop().name]

    def flush(self) -> None:
        """Take in what the threads have done since.

        No code of the user's is called from here but observers: an error that is kept would keep
        the frames of the host task, and with them the run.
        """
        with self._lock:
            self._pending.extend(self._news)
            self._news.clear()
            self._is_told = False
            freed = len(self._parked)
            self._idle += [thread for thread in self._parked if not thread.is_leaving]
            self._parked.clear()
        for _ in range(freed):
            self._scheduler.end_draining()
        if freed and self._reach < MOST:
            self._reach *= 2
        while self._pending:
            self._take_in(*self._pending.popleft())

    def _take_in(self, call: Drained, has_ended: bool) -> None:
        if not call.has_begun:
            call.has_begun = True
            del self.offers[call.name]
            self.running[call.name] = call
            self._in_flight[call.name] = None
            self._scheduler.begin(call.name)
        if has_ended:
            del self.running[call.name]
            if call.keeps_slot:
                self._scheduler.take_over(call.name)
            self._end(call)

    # -- endings

    def cancel(self, call: Drained) -> bool:
        """Let the thread of a running call leave after it.

        Tells whether no thread has taken it: then none will, and it comes to nothing.
        """
        with self._lock:
            thread = call.thread
            if thread is None and call in self._line:
                self._line.remove(call)
                del self.running[call.name]
                return True
            if thread is None or thread.call is not call:  # it has just ended
                return False
            thread.is_leaving = thread.is_cancelled = True
        thread.handle.cancel()
        return False

    def heed_cancellation(self, thread: Drain) -> None:
        """Let a thread leave after its present call, and all others if the run is cancelled."""
        if self._host.is_cancelling() and not thread.is_cancelled:
            self._halt()  # the host may hear of it later than this thread
        self._dismiss(thread)

    def _dismiss(self, thread: Drain) -> None:
        with self._lock:
            thread.is_leaving = True
            if thread in self._idle:
                self._idle.remove(thread)
            thread.turn.put(None)

    def stop(self) -> None:
        """Let all threads leave after their present calls: there will be no others."""
        self._is_stopped = True
        self.recall()
        for thread in self.threads:
            self._dismiss(thread)

    def take_out(self, thread: Drain, error: Exception | None) -> list[Drained]:
        """Note that a thread has ended, or is given up; return the calls that come to nothing.

        With an ``error`` it could not be started: that is what the call ends with that it was for.
        """
        self.threads.remove(thread)
        with self._lock:
            thread.is_leaving = thread.has_lost_call = True
            lost = [] if thread.call is None else [thread.call]
            is_short = thread.is_at_work and not lost
            if is_short and error is not None and self._has_begun_in_line():
                call = self._line.popleft()
                call.error = error
                self._news.append((call, True))
                is_short = False  # the slot is the node's
        if is_short and self._has_begun_in_line() and not self._is_stopped:
            self._add_thread()  # it was for a call that another is to take now, in its slot
        elif is_short:
            self._scheduler.end_draining()
        self.flush()
        if self._is_stopped and not self.threads:
            lost += self._line
            self._line.clear()
        for call in lost:
            del self.running[call.name]
        return lost

    def _has_begun_in_line(self) -> bool:
        return bool(self._line) and self._line[0].has_begun

    def close(self) -> None:
        """Let go of the run, which has ended; threads that were given up leave by themselves."""
        self.offers.clear()
        self.running.clear()
        del self.run, self._host, self._scheduler
        del self._call_of, self._spawn, self._end, self._leave, self._halt, self._wake
