"""DaskRunner: bodies run on a cluster of Dask, and their results stay there."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from os import urandom
from types import TracebackType
from typing import Any, Self
from weakref import WeakValueDictionary

from anyio import CancelScope
from dask import config
from distributed import Client, Future, KilledWorker
from distributed.client import ClosedClientError
from distributed.comm import CommClosedError

from dagron._away import unless
from dagron._checks import counted, finite
from dagron._errors import NotPicklableError, RunnerError, RunnerLostError, WorkerLostError
from dagron._logs import WARNING, log
from dagron._names import plain
from dagron._raised import forget_all_frames, forget_our_frames
from dagron._results import error_text
from dagron._runner import Call, Line, Lost, Result
from dagron.runners._at_dask import BEGAN, ENDED, PROGRESS, Carried, forget_topic, is_executing
from dagron.runners._at_dask import call as call_there
from dagron.runners._entries import Entries, boxed, checked_variables, refuse_trio
from dagron.runners._pickles import loaded
from dagron.runners._travel import packed

AHEAD = 16  # calls per thread of the cluster, most of them in line there, so that it never idles
WARNING_FROM = "distributed.admin.large-graph-warning-threshold"
INTERVAL = 1.0  # seconds between two looks at a body that goes on


class DaskResult(Result):
    """A result on a cluster; it is there as long as this object is."""

    __slots__ = ("future", "line", "node")

    def __init__(self, runner: "DaskRunner", future: Future, sent: "_Sent") -> None:
        super().__init__(runner, is_wanted=not runner._keep_remote)
        self.future = future
        self.node = sent.node
        self.line = sent.line

    @property
    def is_there(self) -> bool:
        """Tell whether a worker has it."""
        return self.future.status not in ("lost", "pending")


class DaskRunner:
    """Runs bodies on the workers of a Dask cluster.

    ``cluster`` is the address of its scheduler, or a `distributed.Client` or a cluster object that
    knows it; the runner has a client of its own, and never shuts the cluster down. ``slots`` is how
    many calls it is given at once (default: 16 for each thread of the workers that it has when the
    runner is entered); ready nodes wait in the run. The workers need dagron, and what the tasks
    import. It works on asyncio, and on uvloop.

    A result stays on the workers while the run goes on: a node on the same runner that depends on
    it gets it from there. It is fetched, once, where it is needed here: by the node's expander, a
    condition or a fold, by a node that runs elsewhere, by ``run.completed()``, and at the end of
    the run for its `ExecutionResult`. What ``DynamicExecutor(keep="leaves")`` forgets is freed
    with the last node that depends on it, and never comes here. With ``keep_remote=False`` every
    result is fetched as soon as its node is done; other nodes get it from the workers all the same.

    The policy's ``resources`` and ``priority`` are passed to Dask. A node waits for a worker that
    has them, without a limit, and a warning is logged where none has. Dask's own retries are not
    used: a node whose worker is lost while its body runs fails with `WorkerLostError`, and is
    retried as its policy says. A result that is lost with a worker is computed again by Dask, and
    the node's ``reason`` says so. If the scheduler is lost, the run ends with `RunnerLostError`. A
    runner that stays entered uses it again if it is back in time; else leave and enter it again.

    A body cannot be stopped by force: one that is cancelled or out of time goes on, unless it asks
    `check_cancelled` or is an ``async def``, and its slot is taken until it ends. `progress` works.
    ``carry`` is that of `ProcessRunner`; ``timeout`` is how many seconds it may take to connect.

    It is entered and left as a `ProcessRunner` is. Raises `TypeError` or `ValueError` that name the
    parameter; entering raises `RunnerError` on trio, and `RunnerLostError` if there is no cluster.
    """

    def __init__(
        self,
        cluster: Any,
        *,
        slots: int | None = None,
        keep_remote: bool = True,
        carry: Iterable[ContextVar[Any]] = (),
        timeout: float = 30.0,
    ) -> None:
        self._address = _address(cluster)
        self._security = getattr(cluster, "security", None)
        self._given_slots = None if slots is None else counted("slots", slots)
        self._keep_remote = keep_remote
        self._carry = checked_variables(carry)
        self._timeout = finite("timeout", timeout)
        self._entries = Entries("DaskRunner", self._connect, self._disconnect)
        self._slots = self._given_slots
        self._client: Any = None
        self._topic = ""
        self._offers: list[dict[str, float]] | None = None  # resources of the workers; or not known
        self._warned: deque[tuple[str, str]] = deque(maxlen=1000)  # runs, and of what they lack
        self._source: Any = None  # the connection by which news come
        self._calls: dict[str, _Sent] = {}
        self._followers: set[asyncio.Task[None]] = set()
        # Only the runs hold their results: what none of them holds is freed on the workers.
        self._kept: WeakValueDictionary[str, DaskResult] = WeakValueDictionary()

    @property
    def slots(self) -> int | None:
        """How many calls the cluster is given at once."""
        return self._slots

    # -- the context manager

    async def __aenter__(self) -> Self:
        """Connect to the scheduler."""
        refuse_trio("DaskRunner", "Dask")
        await self._entries.enter()
        return self

    async def _connect(self) -> None:
        try:
            self._client = client = await Client(
                self._address,
                asynchronous=True,
                set_as_default=False,
                security=self._security,
                timeout=self._timeout,
                name="dagron",
            )
            there = await client.scheduler.identity(n_workers=-1)
            self._offers = [worker["resources"] for worker in there["workers"].values()]
        except (OSError, TimeoutError) as error:
            raise RunnerLostError(
                f"there is no Dask scheduler at {self._address}: {error_text(error):.200}\n"
                f"  help: start one: dask scheduler, and beside it: dask worker {self._address}"
            ) from error
        threads = sum(worker["nthreads"] for worker in there["workers"].values())
        self._slots = self._given_slots or AHEAD * max(threads, 1)
        self._topic = f"dagron-{urandom(6).hex()}"
        self._listen()

    def _listen(self) -> None:
        """Subscribe to news; anew when the scheduler is another since, which knows nobody."""
        client = self._client
        if self._source is not client.scheduler_comm:
            self._source = client.scheduler_comm
            client.subscribe_topic(self._topic, self._hear)
            client.subscribe_topic("all", self._hear_of_cluster)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Disconnect, if it is left for the last time; the cluster frees what it has kept."""
        await self._entries.leave()

    async def _disconnect(self) -> None:
        client, self._client, self._source = self._client, None, None
        for follower in self._followers:
            follower.cancel()
        await asyncio.gather(*self._followers, return_exceptions=True)
        calls, self._calls = self._calls, {}
        for sent in calls.values():
            sent.end()
        is_there = client.status == "running"
        if is_there:
            client.unsubscribe_topic("all")  # before it goes: else the scheduler goes on to tell it
            # Dask has nothing else for it: where that is not so any more, the topic stays.
            with suppress(OSError, AttributeError, ImportError):
                await client.run_on_scheduler(forget_topic, self._topic)
        await client._close(fast=not is_there)

    # -- calls

    async def run(self, call: Call) -> Any:
        """Make the call at a worker, and return its result as one that stays there."""
        self._entries.check()
        if self._is_lost():
            raise self._lost(call.node)
        self._listen()
        await self._warn_if_none_has(call)
        pickled, results = packed(call, "asyncio", self._carry)
        key = f"{_prefix(call.function)}-{self._topic}/{call.key}"
        self._calls[key] = sent = _Sent(call.node, call.line)
        call.line.queued()
        try:
            # The call is in the graph, however large it is: data that were scattered to a worker
            # would be lost with it, and what was computed from them could not be computed again.
            with config.set({WARNING_FROM: "1 PB"}):
                sent.future = future = self._client.submit(
                    call_there,
                    self._topic.encode(),
                    pickled,
                    *(result.future for result in results),
                    key=key,
                    pure=False,
                    priority=int(call.priority),
                    resources=dict(call.resources) or None,
                )
            return await self._outcome(key, sent, future)
        except ClosedClientError as error:
            self._give_up(key, sent)
            raise self._lost(call.node) from error
        except BaseException:
            self._give_up(key, sent)
            raise

    async def _warn_if_none_has(self, call: Call) -> None:
        """Tell of a call that will wait for a worker such as the cluster has none: it may come."""
        if self._offers is None:
            try:
                there = await self._client.scheduler.identity(n_workers=-1)
            except OSError:  # the scheduler is lost, which the call tells
                return
            self._offers = [worker["resources"] for worker in there["workers"].values()]
        needs = call.resources.items()
        if any(all(offer.get(name, 0) >= need for name, need in needs) for offer in self._offers):
            return
        lack = ", ".join(f"{name}={need:g}" for name, need in needs)
        if (call.run_id, lack) not in self._warned:
            self._warned.append((call.run_id, lack))
            log(
                WARNING,
                call.run_id,
                call.node,
                "node %r waits for a worker%s, and the Dask cluster at %s has none: "
                "its timeout does not count until it runs",
                call.node,
                lack and f" with the resources {lack}",
                self._address,
            )

    async def _outcome(self, key: str, sent: "_Sent", future: Future) -> Any:
        error = await sent.first(future.exception())
        if error is None and future.status != "cancelled":
            del self._calls[key]
            self._kept[key] = result = DaskResult(self, future, sent)
            return result
        if isinstance(error, Carried):
            sent.is_running = False
            failure = loaded(error.pickled)
            forget_all_frames(failure)  # its note tells them
            raise boxed(failure, sent.node)
        if future.status == "cancelled":
            raise self._cancelled(sent.node, future)
        if isinstance(error, KilledWorker):
            raise sent.worker_lost(str(error.last_worker.address)) from error
        raise _not_sent(sent.node, error)

    def _cancelled(self, node: str, future: Future) -> RunnerError:
        """Return what it means that Dask has cancelled a call: its own word for it is no error."""
        reason = getattr(future._state.exception, "reason", "unknown")
        if reason == "scheduler-connection-lost" or self._is_lost():
            return self._lost(node)
        return RunnerError(
            f"the call of node {node!r:.60} was cancelled on the Dask cluster: {reason}\n"
            f"  help: find out who did, or give it NodePolicy(retry=...)",
            node,
        )

    def _is_lost(self) -> bool:
        return self._client is None or self._client.status != "running"

    def _lost(self, node: str = "") -> RunnerLostError:
        return RunnerLostError(
            f"the Dask scheduler at {self._address} is lost\n"
            f"  help: start it again, enter the runner again, and run again; "
            f"a journal keeps what was done",
            node,
        )

    def _give_up(self, key: str, sent: "_Sent") -> None:
        """Take a call back; one whose body has begun, and cannot be stopped, keeps its slot."""
        if sent.future is not None:
            sent.future.release()
        if sent.is_running and not self._is_lost():
            sent.outlive()
            self._followers.add(follower := asyncio.create_task(self._follow(key, sent)))
            follower.add_done_callback(self._followers.discard)
        else:
            self._calls.pop(key, None)

    async def _follow(self, key: str, sent: "_Sent") -> None:
        """Free the slot of a body that goes on, also if it ended just before it was cancelled."""
        try:
            while key in self._calls and not self._is_lost():
                await asyncio.sleep(INTERVAL)
                answers = await self._client.run(
                    is_executing, key, workers=[sent.worker], on_error="ignore"
                )
                if not any(answers.values()):
                    break
        except (OSError, ClosedClientError):  # the scheduler is lost, and what goes on is not ours
            pass
        finally:
            if self._calls.pop(key, None) is sent:
                sent.end()

    # -- results

    async def fetch(self, results: Sequence[Result]) -> Sequence[Any]:
        """Return the values of results that are on the cluster."""
        self._entries.check()
        if self._is_lost():
            raise self._lost()
        own = [result for result in results if isinstance(result, DaskResult)]
        # Not as a list, of which those are left out that failed; nor with errors="raise", which
        # leaves tasks behind that raise, when it is cancelled.
        wanted = {number: result.future for number, result in enumerate(own)}
        gathering = self._client.gather(wanted, errors="skip")
        try:
            values: dict[int, Any] | None = await unless(self._deserted, gathering)
        except Exception as error:
            if self._is_lost():
                raise self._lost() from error
            if len(own) > 1:
                return [(await self.fetch([result]))[0] for result in own]
            forget_our_frames(error)
            is_there = own[0].is_there and not isinstance(error, CommClosedError)
            return [Lost((_not_loaded if is_there else _lost_value)(own[0].node, error))]
        if values is None:
            why = RunnerError(f"for {self._timeout:g} s the cluster has had no worker")
            return [Lost(_lost_value(result.node, why)) for result in own]
        for number, future in wanted.items():
            if values[number] is None and future.status in ("error", "cancelled"):
                if self._is_lost():
                    raise self._lost()
                values[number] = Lost(_lost_value(own[number].node, await future.exception()))
        return [*values.values()]

    async def _deserted(self) -> None:
        """Return when the cluster has had no worker for as long as it may take to connect."""
        looks = 0
        while looks * INTERVAL < self._timeout:
            await asyncio.sleep(INTERVAL)
            try:
                looks = 0 if await self._client.scheduler.ncores() else looks + 1
            except (OSError, AttributeError):  # the scheduler is lost: what is fetched tells that
                await asyncio.sleep(self._timeout)

    # -- news

    def _hear(self, event: tuple[float, Any]) -> None:
        what, key, *details = event[1]
        sent = self._calls.get(key)
        if sent is None:
            return
        if what == BEGAN:
            sent.began(*details)
        elif what == PROGRESS:
            sent.line.progress(*details)
        elif what == ENDED:
            sent.end()
            if sent.is_over:
                self._calls.pop(key, None)

    def _hear_of_cluster(self, event: tuple[float, Any]) -> None:
        news = event[1]
        action = news.get("action") if isinstance(news, dict) else None
        if action in ("add-worker", "remove-worker"):
            self._offers = None
        if action != "remove-worker":
            return
        worker = news["worker"]
        for key in news.get("lost-computed-tasks", ()):
            if (result := self._kept.get(key)) is not None:
                result.line.computed_again(
                    f"its result was lost with worker {worker}, and computed again"
                )
        for sent in [*self._calls.values()]:
            if sent.worker == worker and sent.is_running:
                sent.lose(worker)


class _Sent:
    """A call that a cluster was given; not its arguments, which the cluster keeps for as long."""

    def __init__(self, node: str, line: Line) -> None:
        self.node = node
        self.line = line
        self.future: Future | None = None
        self.worker: str | None = None  # on which it runs
        self.is_running = False
        self.is_over = False  # nobody waits for it
        self._ended: Callable[[], object] | None = None
        self._scope: CancelScope | None = None
        self._loss: WorkerLostError | None = None

    async def first(self, outcome: Any) -> Any:
        """Wait for the outcome, or raise if its worker is lost first."""
        with CancelScope() as self._scope:
            return await outcome
        self._scope = None
        assert self._loss is not None, "nothing else cancels this scope"
        raise self._loss

    def began(self, worker: str) -> None:
        if self._loss is not None:  # a second copy, which is being taken back
            return
        self.worker, self.is_running = worker, True
        self.line.placed(worker)

    def end(self) -> None:
        self.is_running = False
        if self._ended is not None:
            self._ended()

    def outlive(self) -> None:
        self.is_over = True
        self._ended = self.line.outlive()

    def lose(self, worker: str) -> None:
        """Fail the call with its worker."""
        self.end()
        self._loss = self.worker_lost(worker)
        if self._scope is not None:
            self._scope.cancel()

    def worker_lost(self, worker: str) -> WorkerLostError:
        return WorkerLostError(
            f"the Dask worker {worker} was lost while node {self.node!r:.60} ran on it\n"
            f"  help: if it may succeed when tried again, give it NodePolicy(retry=...)",
            self.node,
            worker,
        )


def _address(cluster: Any) -> str:
    """Return the address of the scheduler."""
    if isinstance(cluster, str) and cluster:
        return cluster
    if isinstance(cluster, Client):
        address = getattr(cluster.scheduler, "addr", None) or cluster.scheduler.address
    else:
        address = getattr(cluster, "scheduler_address", None)
    if isinstance(address, str) and address:
        return address
    raise TypeError(
        f"cluster is the address of a Dask scheduler, a client or a cluster, not {cluster!r:.60}\n"
        f"  help: write DaskRunner('tcp://127.0.0.1:8786')"
    )


def _prefix(function: Any) -> str:
    """Return what Dask's pages call a task: by it they tell kinds of tasks apart."""
    name = getattr(function, "__name__", type(function).__name__)
    return plain(str(name)).replace("-", "_")[:40]


def _not_sent(node: str, error: BaseException | None) -> RunnerError:
    """Return what a failure means that is none of the body's: the call did not get there."""
    return NotPicklableError(
        f"the call of node {node!r:.60} did not reach a Dask worker: {error_text(error):.300}\n"
        f"  help: dagron and what the task imports must be installed there, in the same versions",
        node,
        "its call",
    )


def _lost_value(node: str, error: BaseException) -> BaseException:
    lost = WorkerLostError(
        f"the result of node {node!r:.60} was lost with its Dask worker, and could not be computed "
        f"again: {str(error) if isinstance(error, Carried) else error_text(error):.200}\n"
        f"  help: run it again, or use keep_remote=False",
        node,
    )
    lost.__cause__ = error
    return lost


def _not_loaded(node: str, error: BaseException) -> BaseException:
    failure = NotPicklableError(
        f"the result of node {node!r:.60} cannot be unpickled here: {error_text(error):.200}\n"
        f"  help: what it is made of must be installed here, in the versions of the workers",
        node,
        "its result",
    )
    failure.__cause__ = error
    return failure
