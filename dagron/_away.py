"""The bodies of a run that run somewhere else, and the results that stay there."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from inspect import isawaitable
from time import perf_counter
from types import CoroutineType, TracebackType
from typing import Any, Protocol, TypeVar

from anyio import CancelScope, Event, Lock, create_task_group, sleep, sleep_forever

from dagron._calls import refuse_coroutine
from dagron._errors import RunnerError, RunnerLostError, TaskSignatureError, WorkerLostError
from dagron._landing import GROW
from dagron._logs import ERROR, log
from dagron._node_result import LostResult, NodeResult, Place, lost, replaced
from dagron._policy import LOCAL, NodePolicy
from dagron._raised import leaves
from dagron._results import error_text
from dagron._runner import Call, Lost, Result, Runner, checked_slots, post_of

T = TypeVar("T")
GLANCE = 0.1  # seconds between two looks whether what a run waits for at its end is still there


class Notes(Protocol):
    """What is kept of a node in flight."""

    attempts: int | None
    lingering: Any
    place: Place | None


class Outliving:
    """A body that goes on after its node has ended."""

    def __init__(self) -> None:
        self._ended = Event()
        self._then: Callable[[], object] | None = None

    def end(self) -> None:
        """Tell that it has ended, once."""
        if not self._ended.is_set():
            self._ended.set()
            if self._then is not None:
                self._then()

    async def wait(self) -> None:
        """Wait for its end."""
        await self._ended.wait()

    def when_ended(self, then: Callable[[], object]) -> None:
        """Call this when it has ended, which it has not yet."""
        self._then = then


class Away:
    """What one run has to do with its runners.

    ``place`` hears on which worker a body runs, ``progress`` what it reports, ``delay`` that its
    time begins now, and ``lost`` that a runner is gone, which ends the run.
    """

    def __init__(
        self,
        runners: Mapping[str, Runner],
        run_id: str,
        results: dict[str, NodeResult],
        *,
        note: Callable[[str], Notes],
        place: Callable[[str, Place, int], object],
        progress: Callable[[str, float, float | None, str], object],
        delay: Callable[[str, float | None], object],
        lost: Callable[[RunnerLostError], object],
    ) -> None:
        self.runners = runners
        self._run_id = run_id
        self._results = results
        self.note = note
        self.place = place
        self.progress = progress
        self.delay = delay
        self._lost = lost
        self.remote: dict[str, Result] = {}  # by the nodes whose results they are
        self.again: dict[str, str] = {}  # nodes that were computed again, and why
        self._values: dict[str, Any] = {}  # of those that were fetched
        self._turns: dict[str, Lock] = {}

    # -- calls

    def runner(self, policy: NodePolicy | None) -> Runner | None:
        """Return where a node of this policy runs, if that is not here."""
        if policy is None or policy.runner == LOCAL:
            return None
        return self.runners[policy.runner]

    async def run(
        self,
        name: str,
        policy: NodePolicy,
        function: Callable[..., Any],
        arguments: Iterable[Any],
        keywords: Mapping[str, Any],
        in_time: Callable[[Any], Any],
    ) -> tuple[Any, float]:
        """Have a body run by its runner; return its value and the seconds in it."""
        runner, line = self.runners[policy.runner], _Line(self, name, policy)
        call = Call(
            function,
            tuple(arguments),
            dict(keywords),
            self._run_id,
            name,
            line.attempt,
            policy.resources,
            policy.priority,
            policy.timeout,
            line,
        )
        try:
            value = await in_time(_checked_awaitable(runner.run(call), name, policy.runner))
        except RunnerLostError as error:
            await self._end_run(error, policy.runner)
        line.end()
        if isinstance(value, Result):
            self.remote[name] = value
        elif type(value) is CoroutineType:
            refuse_coroutine(name, value, policy.runner)
        return value, line.seconds

    async def _end_run(self, error: RunnerLostError, runner: str) -> None:
        error.runner = error.runner or runner
        self._lost(error)
        await sleep_forever()  # the cancellation is on its way here

    # -- results that stay away

    def given(self, name: str, runner: Runner | None) -> Any:
        """Return what a body on that runner gets of a node whose result stays away."""
        result = self.remote[name]
        return result if result.runner is runner else self._values[name]

    async def bring(self, names: Collection[str], runner: Runner | None) -> None:
        """Fetch the results of these nodes that a body on that runner cannot take as they are."""
        for name in names:
            result = self.remote.get(name)
            if result is not None and result.runner is not runner:
                await self.value(name)

    async def value(self, name: str) -> Any:
        """Return a node's result, fetched once."""
        result = self.remote[name]
        async with self._turns.setdefault(name, Lock()):
            if name not in self._values:
                (value,) = await self._fetch([result])
                if isinstance(value, Lost):
                    raise value.error
                self._values[name] = value
        return self._values[name]

    async def _fetch(self, results: list[Result]) -> list[Any]:
        try:
            return await self._fetched(results)
        except RunnerLostError as error:
            await self._end_run(error, error.runner)
            raise

    async def _fetched(self, results: list[Result]) -> list[Any]:
        """Return the values of results of one runner; of what it does not give, that they are lost.

        Raises `RunnerLostError`, with its name.
        """
        runner = results[0].runner
        try:
            if not hasattr(runner, "fetch"):
                raise RunnerError(
                    f"the runner {self._name_of(runner)!r:.60} returned a Result, and has no "
                    f"fetch()\n  help: write async def fetch(self, results): ..., for their values"
                )
            values = list(await runner.fetch(results))
            if len(values) != len(results):
                raise RunnerError(
                    f"fetch() of the runner {self._name_of(runner)!r:.60} returned {len(values):,} "
                    f"values for {len(results):,} results\n"
                    f"  help: in the place of a value that is lost, return a dagron.runners.Lost"
                )
        except RunnerLostError as error:
            error.runner = error.runner or self._name_of(runner)
            raise
        except Exception as error:
            return [Lost(error)] * len(results)
        return values

    def _name_of(self, runner: Runner) -> str:
        return next(name for name, other in self.runners.items() if other is runner)

    async def bring_home(self, is_late: Callable[[], bool]) -> None:
        """Put the values of what is still away into the results of the nodes, at the run's end.

        When it is late, only what is there is waited for, and the rest is lost.
        """
        waiting: dict[int, list[str]] = {}
        for name, result in self.remote.items():
            record = self._results.get(name)
            if record is None or record.result is not result:
                continue
            if name in self._values:
                self._put(name, self._values[name])
            else:
                waiting.setdefault(id(result.runner), []).append(name)
        for names in waiting.values():
            await self._fetch_home(names, is_late)
        for name, reason in self.again.items():
            if name in self._results and not isinstance(self._results[name], LostResult):
                self._results[name] = replaced(self._results[name], reason=reason)

    async def _fetch_home(self, names: list[str], is_late: Callable[[], bool]) -> None:
        values: Sequence[Any] | None = None
        while names and values is None:
            if is_late():
                for name in [name for name in names if not self.remote[name].is_there]:
                    self._put(name, Lost(_not_there(name)))
                    names.remove(name)
            results = [self.remote[name] for name in names]

            # Its frame lives on in the traceback of its cancellation: it holds no results.
            async def in_vain() -> None:
                while not is_late() or self._are_there(names):  # noqa: ASYNC110
                    await sleep(GLANCE)

            values = await unless(in_vain, self._fetched(results)) if results else []
        for name, value in zip(names, values or (), strict=True):
            self._put(name, value)

    def _are_there(self, names: Iterable[str]) -> bool:
        return all(self.remote[name].is_there for name in names)

    def _put(self, name: str, value: Any) -> None:
        record = self._results[name]
        if isinstance(value, Lost):
            self._results[name] = lost(record, value.error)
        else:
            self._results[name] = replaced(record, result=value)

    def forget(self, name: str) -> None:
        """Let go of a node's result, which nobody needs any more."""
        self.remote.pop(name, None)
        self._values.pop(name, None)
        self._turns.pop(name, None)

    def close(self) -> None:
        """Let go of everything: runners, whose results lead back to here, outlive the run."""
        for kept in (self.remote, self._values, self._turns, self.again):
            kept.clear()
        self._results = {}


class _Line:
    """From one call back to its run; after that has ended, nobody hears it."""

    def __init__(self, away: Away, name: str, policy: NodePolicy) -> None:
        self._away = away
        self._name = name
        self._policy = policy
        self._note: Notes | None = away.note(name)
        self.attempt = self._note.attempts or 0
        self._note.place = Place(policy.runner, None)
        self._began = perf_counter()
        self.seconds: float = 0.0
        self._is_told = False

    def queued(self) -> None:
        if self._note is not None:
            self._away.delay(self._name, None)

    def placed(self, worker: str) -> None:
        if self._note is None:
            return
        self._began = perf_counter()
        self._note.place = place = Place(self._policy.runner, worker)
        self._away.delay(self._name, self._policy.timeout)
        self._away.place(self._name, place, self.attempt)

    def took(self, seconds: float) -> None:
        self.seconds = seconds
        self._is_told = True

    def end(self) -> None:
        self._note = None
        if not self._is_told:
            self.seconds = perf_counter() - self._began

    def progress(self, done: float, total: float | None, note: str) -> None:
        if self._note is not None:
            self._away.progress(self._name, done, total, note)

    def computed_again(self, reason: str) -> None:
        self._away.again[self._name] = reason

    def outlive(self) -> Callable[[], object]:
        outliving = Outliving()
        if self._note is not None:
            self._note.lingering = outliving
        self._note = None
        return outliving.end


async def unless(given_up: Callable[[], Awaitable[object]], awaited: Awaitable[T]) -> T | None:
    """Return what is awaited, or None if ``given_up`` has returned before."""
    outcome: T | None = None

    async def watch(scope: CancelScope) -> None:
        await given_up()
        scope.cancel()

    try:
        async with create_task_group() as group:
            group.start_soon(watch, group.cancel_scope)
            outcome = await awaited
            group.cancel_scope.cancel()
    except BaseExceptionGroup as errors:
        error = next(leaves(errors))
        raise error from error.__cause__
    return outcome


def _not_there(name: str) -> WorkerLostError:
    return WorkerLostError(
        f"the result of node {name!r:.60} was lost with its worker, and when the run was out of "
        f"time, or was cut short, no other worker had it\n"
        f"  help: give the run more time, or its runner keep_remote=False",
        name,
    )


def refuse_grow(name: str, runner: str) -> TaskSignatureError:
    """Return the error for a task that adds nodes, and is to run elsewhere."""
    return TaskSignatureError(
        f"the task of node {name!r:.60} has a parameter {GROW!r}, and is to run on {runner!r:.60}\n"
        f"  help: nodes are added from here: give it NodePolicy(runner={LOCAL!r})",
        name,
        GROW,
    )


def _checked_awaitable(returned: object, node: str, runner: str) -> Awaitable[Any]:
    """Return what a runner's `run` returned, or refuse it if it cannot be awaited."""
    if isawaitable(returned):
        return returned
    raise RunnerError(
        f"run() of the runner {runner!r:.60} returned {type(returned).__name__} for node "
        f"{node!r:.60}, which cannot be awaited\n"
        f"  help: write async def run(self, call): ...",
        node,
    )


async def entered(stack: AsyncExitStack, run_id: str, runners: Mapping[str, Runner]) -> None:
    """Enter the runners of a run, and let as many of its nodes start as they have slots."""
    for name, runner in runners.items():
        try:
            await stack.enter_async_context(_Entered(run_id, name, runner))
        except RunnerLostError as error:
            error.runner = error.runner or name
            raise
        post_of(name, runner).resize(checked_slots(runner))


class _Entered:
    """A runner that a run has entered. That it cannot be left well does not change a result."""

    def __init__(self, run_id: str, name: str, runner: Runner) -> None:
        self._run_id = run_id
        self._name = name
        self._runner = runner

    async def __aenter__(self) -> None:
        await self._runner.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._runner.__aexit__(kind, error, traceback)
        except Exception as fault:
            text = "the runner %r could not be left: %s"
            log(ERROR, self._run_id, None, text, self._name, error_text(fault), error=fault)
