"""RayRunner: bodies run on Ray, and their results stay there."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from math import inf
from types import TracebackType
from typing import Any, Self

import ray
from anyio import CancelScope, to_thread
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    OutOfMemoryError,
    RayError,
    RaySystemError,
    RayTaskError,
    TaskCancelledError,
    WorkerCrashedError,
)

from dagron._checks import counted
from dagron._errors import NotPicklableError, RunnerError, RunnerLostError, WorkerLostError
from dagron._logs import WARNING, log
from dagron._results import error_text
from dagron._runner import Call, Lost, Result
from dagron.runners._at_ray import Outcome, Pickler
from dagron.runners._at_ray import call as call_there
from dagron.runners._entries import (
    Entries,
    boxed,
    checked_variables,
    loaded_here,
    not_loaded,
    refuse_trio,
)
from dagron.runners._one_ray import Session, join, leave, session
from dagron.runners._travel import packed

LACKING = "node %r waits at Ray for %g of the resource %r, of which no machine has more than %g"
RUNS = 100  # of which it is known what their nodes need
INTERVAL = 1.0  # seconds between two looks whether Ray is still there
DEAD = (WorkerCrashedError, OutOfMemoryError, NodeDiedError)


class RayResult(Result):
    """A result at Ray; it is there as long as this object is."""

    __slots__ = ("node", "reference")

    def __init__(self, runner: "RayRunner", reference: Any, node: str, *, is_wanted: bool) -> None:
        super().__init__(runner, is_wanted=is_wanted)
        self.reference = reference
        self.node = node


class RayRunner:
    """Runs bodies as tasks of Ray.

    A Ray that the program has started is used as it is, and never shut down. Else the runner starts
    one by ``ray.init(address, **options)`` when it is entered, or connects to the one at
    ``address``. A process has one Ray: runners that are entered meanwhile use that, and the last to
    be left shuts it down. ``slots`` is how many calls are made at once (default: the processors
    that Ray has).

    Each body takes ``num_cpus`` processors and ``num_gpus`` GPUs. The policy's ``resources`` say
    something else for a node: ``{"CPU": 2, "GPU": 1, "disk": 0.5}``, where all but the first two
    are resources that Ray was started with; calls that need what is taken wait, and of what no
    machine has the logger ``dagron`` warns. A node's timeout counts from when its body begins.

    A result stays at Ray and is passed on, fetched and freed as by a `DaskRunner`, and so are
    ``keep_remote`` and ``carry``. Ray computes none again: a node that needs one that is lost fails
    with `WorkerLostError`, and so does a node whose worker is lost. If somebody shuts Ray down
    meanwhile, the run ends with `RunnerLostError`. A body that is cancelled or out of time is
    killed with its worker. `progress` tells nothing there, and `check_cancelled` never raises. It
    works on asyncio, and on uvloop, in a program on a machine of the cluster.

    It is entered and left as a `ProcessRunner` is. Raises `TypeError` or `ValueError` that name the
    parameter; entering raises `RunnerError` on trio, and `RunnerLostError` if there is no Ray.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        num_cpus: float = 1,
        num_gpus: float = 0,
        slots: int | None = None,
        keep_remote: bool = True,
        carry: Iterable[ContextVar[Any]] = (),
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if address is not None and not isinstance(address, str):
            raise TypeError(
                f"address is that of a Ray cluster, or None, not {address!r:.60}\n"
                f"  help: write RayRunner('auto'), or RayRunner() to start Ray here"
            )
        if address is not None and address.startswith("ray://"):
            raise ValueError(
                f"address={address!r:.60} is that of a Ray Client, which has no news of its tasks\n"
                f"  help: run the program on a machine of the cluster: RayRunner('auto')"
            )
        self._address = address
        self._needs = {"CPU": num_cpus, "GPU": num_gpus}
        self._given_slots = None if slots is None else counted("slots", slots)
        self._keep_remote = keep_remote
        self._carry = checked_variables(carry)
        self._options = {"include_dashboard": False, **(options or {})}
        self._entries = Entries("RayRunner", self._begin, self._end)
        self._slots = self._given_slots
        self._session: Session | None = None
        self._task: Any = None
        self._known_needs: dict[str, dict[str, float]] = {}  # the largest, by run and resource
        self._watcher: asyncio.Task[None]
        self._scopes: set[CancelScope] = set()  # of what waits for Ray

    @property
    def slots(self) -> int | None:
        """How many calls are made at once."""
        return self._slots

    # -- the context manager

    async def __aenter__(self) -> Self:
        """Start Ray, or connect to it."""
        refuse_trio("RayRunner", "Ray")
        await self._entries.enter()
        return self

    async def _begin(self) -> None:
        try:
            cpus = await to_thread.run_sync(self._join)
        except (ConnectionError, RayError, RuntimeError, TimeoutError, ValueError) as error:
            raise RunnerLostError(
                f"Ray cannot be started or reached: {error_text(error):.200}\n"
                f"  help: leave the address out to start one here, or type: ray start --head"
            ) from error
        self._slots = self._given_slots or max(1, int(cpus))
        self._task = ray.remote(max_retries=0, num_returns="streaming")(call_there)
        self._watcher = asyncio.create_task(self._watch())

    def _join(self) -> float:
        self._session = here = join(self._address, self._options)
        try:
            cpus: float = ray.cluster_resources().get("CPU", 1)
        except BaseException:
            leave(here)
            raise
        return cpus

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Shut Ray down, if no runner uses it any more, and it was one that has started it."""
        await self._entries.leave()

    async def _end(self) -> None:
        self._watcher.cancel()
        await asyncio.gather(self._watcher, return_exceptions=True)
        if self._session is not None:
            await to_thread.run_sync(leave, self._session)

    # -- a Ray that is gone, which answers nothing and which most of its functions start anew

    def _is_lost(self) -> bool:
        return session() != self._session

    async def _watch(self) -> None:
        while not self._is_lost():  # noqa: ASYNC110 (Ray tells nobody of its end)
            await asyncio.sleep(INTERVAL)
        for scope in [*self._scopes]:
            scope.cancel()

    @contextmanager
    def _while_it_lasts(self, node: str = "") -> Iterator[None]:
        """Raise, in place of waiting for ever, if Ray is gone or goes."""
        if self._is_lost():
            raise _lost(node)
        with CancelScope() as scope:
            self._scopes.add(scope)
            try:
                yield
            finally:
                self._scopes.discard(scope)
        if scope.cancelled_caught:
            raise _lost(node)

    # -- calls

    async def run(self, call: Call) -> Any:
        """Make the call as a task of Ray, and return its result as one that stays there."""
        self._entries.check()
        pickled, results = packed(call, "asyncio", self._carry, Pickler)
        needs = {**self._needs, **call.resources}
        call.line.queued()
        await self._warn_of_needs(call, needs)
        options = self._options_of(call, needs)
        with self._while_it_lasts(call.node):
            news = options.remote(pickled, *(result.reference for result in results))
            try:
                call.line.placed(await (await anext(news)))
                await news.completed()
                outcome: Outcome = await next(news)
                value = next(news)  # which is there: anext() would fetch it, to wait for it
            except RayError as error:
                raise _failure(call.node, error) from error
            except BaseException:
                # Once, and by force: a second cancel, of a task that has ended by then, makes Ray
                # abort the program ("Tried to complete task that was not pending").
                if not self._is_lost():
                    ray.cancel(news, force=True)
                raise
        if outcome.error is not None:
            raise boxed(loaded_here(outcome.error, call.node, "its error"), call.node)
        call.line.took(outcome.seconds)
        return RayResult(self, value, call.node, is_wanted=not self._keep_remote)

    def _options_of(self, call: Call, needs: Mapping[str, float]) -> Any:
        others = {name: amount for name, amount in needs.items() if name not in ("CPU", "GPU")}
        return self._task.options(
            num_cpus=needs["CPU"],
            num_gpus=needs["GPU"],
            resources=others or None,
            name=f"{getattr(call.function, '__name__', 'task')}: {call.node}",
        )

    async def _warn_of_needs(self, call: Call, needs: Mapping[str, float]) -> None:
        """Warn, once in a run, of resources that no machine of Ray has: such calls wait."""
        known = self._known_needs.setdefault(call.run_id, {})
        while len(self._known_needs) > RUNS:
            del self._known_needs[next(iter(self._known_needs))]
        if all(amount <= known.get(name, 0) for name, amount in needs.items()):
            return
        with self._while_it_lasts(call.node):
            machines = [one for one in await to_thread.run_sync(ray.nodes) if one["Alive"]]
        for name, amount in needs.items():
            if amount > known.get(name, 0):
                most = max((one["Resources"].get(name, 0) for one in machines), default=0)
                known[name] = amount if amount <= most else inf
                if amount > most:
                    log(WARNING, call.run_id, call.node, LACKING, call.node, amount, name, most)

    # -- results

    async def fetch(self, results: Sequence[Result]) -> Sequence[Any]:
        """Return the values of results that are at Ray."""
        self._entries.check()
        own = [result for result in results if isinstance(result, RayResult)]
        with self._while_it_lasts():
            values = await asyncio.gather(
                *(asyncio.wrap_future(result.reference.future()) for result in own),
                return_exceptions=True,
            )
        return [
            Lost(_failure(result.node, value)) if isinstance(value, RayError) else value
            for result, value in zip(own, values, strict=True)
        ]


def _lost(node: str, why: str = "; somebody has shut it down") -> RunnerLostError:
    return RunnerLostError(
        f"Ray is lost{why}\n  help: start it again, and run again; a journal keeps what was done",
        node,
    )


def _failure(node: str, error: RayError) -> RunnerError:
    """Return what it means that Ray has no outcome of a call."""
    if isinstance(error, DEAD):
        return WorkerLostError(
            f"the Ray worker of node {node!r:.60} was lost: {error_text(error):.200}\n"
            f"  help: if it may succeed when tried again, give it NodePolicy(retry=...)",
            node,
        )
    if isinstance(error, RaySystemError) and isinstance(error.client_exc, Exception):
        return not_loaded(node, "its result", error.client_exc)
    if isinstance(error, (LocalRayletDiedError, RaySystemError)):
        return _lost(node, f": {error_text(error):.200}")
    if isinstance(error, TaskCancelledError):
        return RunnerError(f"the call of node {node!r:.60} was cancelled at Ray", node)
    if isinstance(error, RayTaskError):  # nothing that a body raises comes as one
        return NotPicklableError(
            f"the call of node {node!r:.60} did not begin at its Ray worker: "
            f"{error_text(error.cause):.300}\n"
            f"  help: dagron and what the task imports must be installed there",
            node,
            "its call",
        )
    return WorkerLostError(
        f"what node {node!r:.60} needs is lost at Ray: {error_text(error):.300}\n"
        f"  help: run it again, or use keep_remote=False",
        node,
    )
