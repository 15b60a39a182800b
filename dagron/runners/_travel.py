"""What travels to a worker and back: a call in one piece, its context, and what came of it."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar, copy_context
from time import perf_counter
from traceback import format_exception
from types import CoroutineType
from typing import Any, NamedTuple, TypeVar

import anyio

from dagron._calls import is_awaitable, refuse_coroutine
from dagron._current import current_node, here
from dagron._errors import Cancelled, NotPicklableError
from dagron._raised import forget_our_frames
from dagron._results import error_text
from dagron._runner import Call, Result
from dagron.runners._pickles import PICKLING, TooLarge, dumped, loaded

T = TypeVar("T")


class Parcel(NamedTuple):
    """A call as a worker gets it; a `Slot` stands for each value that comes by itself."""

    function: Callable[..., Any]
    arguments: Sequence[Any]
    keywords: Mapping[str, Any]
    node: str
    backend: str  # the event loop for what is to be awaited
    variables: Mapping[ContextVar[Any], Any]
    carrier: Mapping[str, str]  # of OpenTelemetry
    identity: tuple[str, str, int]  # the run's id, its uid, and which attempt it is


class Slot(NamedTuple):
    """Stands in a parcel for a value that is kept at the workers."""

    at: int


def packed(
    call: Call,
    backend: str,
    carry: Iterable[ContextVar[Any]],
    pickler: Any = None,
    limit: int | None = None,
) -> tuple[bytes, list[Any]]:
    """Return the call in one piece, and the results that are to come by themselves.

    Raises `NotPicklableError` that names the part which cannot travel, and `TooLarge` if the piece
    would have more bytes than the limit.
    """
    results: dict[int, Result] = {}
    arguments = [_with_slots(value, results) for value in call.arguments]
    keywords = {name: _with_slots(value, results) for name, value in call.keywords.items()}
    variables = {variable: variable.get() for variable in carry if _is_set(variable)}
    node = here()
    uid = call.run_id if node is None else node.run.uid
    attempt = call.attempt if node is None else node.run.attempt_of(call.node)
    parcel = Parcel(
        call.function,
        arguments,
        keywords,
        call.node,
        backend,
        variables,
        _injected(),
        (call.run_id, uid, attempt),
    )
    try:
        return dumped(tuple(parcel), pickler, limit), list(results.values())
    except TooLarge:
        raise
    except PICKLING as error:
        raise _blamed(parcel, error) from error


def _with_slots(value: Any, results: dict[int, Result]) -> Any:
    """Return the argument with slots in place of results, which it is or is a dict of."""
    if isinstance(value, Result):
        results.setdefault(id(value), value)
        return Slot([*results].index(id(value)))
    if type(value) is dict and any(isinstance(item, Result) for item in value.values()):
        return {name: _with_slots(item, results) for name, item in value.items()}
    return value


def _filled(value: Any, values: Sequence[Any]) -> Any:
    if type(value) is Slot:
        return values[value.at]
    if type(value) is dict and any(type(item) is Slot for item in value.values()):
        return {name: _filled(item, values) for name, item in value.items()}
    return value


def _is_set(variable: ContextVar[Any]) -> bool:
    try:
        variable.get()
    except LookupError:
        return False
    return True


def _blamed(parcel: Parcel, error: BaseException) -> NotPicklableError:
    """Return the error that names the part of a call that cannot be pickled."""
    parts: list[tuple[str, Any]] = [("its task", parcel.function)]
    parts += [(f"the argument {at}", value) for at, value in enumerate(parcel.arguments, 1)]
    parts += [(f"the argument {name!r:.60}", value) for name, value in parcel.keywords.items()]
    for variable, value in parcel.variables.items():
        parts.append((f"the context variable {variable.name!r:.60}", value))
    for what, value in parts:
        try:
            dumped(value)
        except PICKLING as own:
            return not_picklable(parcel.node, what, value, own)
    return not_picklable(parcel.node, "its call", parcel, error)


INSIDE = (
    "open files, locks and connections inside the task, "
    "or let it run here: NodePolicy(runner='local')"
)
REDUCE = (
    "let its __init__ give all its arguments to super().__init__(), in their order, and hold "
    "nothing that cannot travel; or write a __reduce__"
)


def not_picklable(
    node: str, what: str, value: Any, error: BaseException, help: str = INSIDE
) -> NotPicklableError:
    return NotPicklableError(
        f"node {node!r:.60} cannot run elsewhere: {what}, of type {type(value).__name__}, "
        f"cannot be pickled: {error_text(error):.200}\n"
        f"  help: {help}",
        node,
        what,
    )


# -- at the worker


class Host:
    """The run, as `progress`, `current` and `check_cancelled` see it from a body at a worker."""

    limits = None
    outer = None
    id = ""
    uid = ""
    _attempt = 1

    def __init__(
        self,
        tell: Callable[[float, float | None, str], object],
        is_cancelled: Callable[[], bool] | None = None,
    ) -> None:
        self._tell = tell
        self._is_cancelled = is_cancelled
        self.may_be_cancelled = is_cancelled is not None  # else it is killed

    def stand_for(self, identity: tuple[str, str, int]) -> None:
        """Take the run's id, its uid, and which attempt it is, from a call that came."""
        self.id, self.uid, self._attempt = identity

    def groups_of(self, name: str) -> tuple[str, ...]:
        return ()

    def attempt_of(self, name: str) -> int:
        return self._attempt

    def is_cancelled(self, name: str) -> bool:
        return self._is_cancelled is not None and self._is_cancelled()

    def tell_progress(self, name: str, done: float, total: float | None, note: str) -> None:
        self._tell(done, total, note)

    def is_own_task(self) -> bool:
        return False

    def deadline(self, name: str) -> float:
        return float("inf")

    def rest(self, name: str) -> None:
        """Do nothing: who waits at a worker keeps its place."""

    async def go_on(self, name: str) -> None:
        """Do nothing, as `rest`."""


def perform(
    pickled: bytes,
    values: Sequence[Any],
    host: Host,
    where: str,
    finish: Callable[[Any], T],
) -> tuple[T, float]:
    """Make the call that was packed, with these values in its slots.

    Returns what ``finish`` makes of what was returned, which fails where that cannot be pickled,
    and the seconds in the call. What is raised can be pickled, and has a note with its traceback.
    """
    node = "?"
    try:
        try:
            parcel = Parcel(*loaded(pickled))
        except PICKLING as error:
            raise _not_loaded(where, error) from error
        node = parcel.node
        began = perf_counter()
        value = copy_context().run(_called, parcel, values, host)
        seconds = perf_counter() - began
        try:
            return finish(value), seconds
        except PICKLING as error:
            raise not_picklable(node, "its result", value, error) from error
    except BaseException as error:
        raise _travelling(error, node, where) from None


def _called(parcel: Parcel, values: Sequence[Any], host: Host) -> Any:
    for variable, content in parcel.variables.items():
        variable.set(content)
    _extract(parcel.carrier)
    host.stand_for(parcel.identity)
    current_node.set((host, parcel.node, None))
    arguments = [_filled(value, values) for value in parcel.arguments]
    keywords = {name: _filled(value, values) for name, value in parcel.keywords.items()}
    value = parcel.function(*arguments, **keywords)
    if is_awaitable(value):
        value = _awaited(value, parcel, host)
        if type(value) is CoroutineType:
            refuse_coroutine(parcel.node, value)
    return value


def _awaited(value: Any, parcel: Parcel, host: Host) -> Any:
    """Await what the task returned, in an event loop of its own, and stop it when it is to stop."""

    async def main() -> Any:
        outcome = None
        async with anyio.create_task_group() as group:
            if host.may_be_cancelled:
                group.start_soon(watch, group.cancel_scope)
            try:
                outcome = await value
            except BaseException as error:
                if group.cancel_scope.cancel_called:
                    raise
                raised.append(error)  # not from in here: it would come as a group
            group.cancel_scope.cancel()
        return outcome

    async def watch(scope: anyio.CancelScope) -> None:
        while not host.is_cancelled(parcel.node):  # noqa: ASYNC110 (it is the cluster that knows)
            await anyio.sleep(GLANCE)
        stopped.append(True)
        scope.cancel()

    raised: list[BaseException] = []
    stopped: list[bool] = []
    result = anyio.run(main, backend=parcel.backend)
    if raised:
        raise raised[0]
    if stopped:
        raise Cancelled(f"node {parcel.node!r:.60} is cancelled, or its time is over")
    return result


GLANCE = 0.1  # seconds between two looks whether an awaitable is to be stopped


def _not_loaded(where: str, error: BaseException) -> NotPicklableError:
    return NotPicklableError(
        f"a call could not be unpickled at {where}: {error_text(error):.200}\n"
        f"  help: what the task imports must be installed there, in the same versions",
        "",
        "its call",
    )


def _travelling(error: BaseException, node: str, where: str) -> BaseException:
    """Return the error with a note of where it was raised, as one that survives the way back."""
    forget_our_frames(error)
    trace = "".join(format_exception(error)).rstrip()
    try:
        error.add_note(f"raised at {where}:\n{trace}")
        if type(loaded(dumped(error))) is not type(error):
            raise TypeError("it comes back as another type")
    except PICKLING as own:
        what = f"its error ({error_text(error):.200})"
        failure = not_picklable(node, what, error, own, REDUCE)
        failure.add_note(f"raised at {where}:\n{trace}")
        return failure
    return error


# -- OpenTelemetry, where the program has loaded it: in the format of W3C Trace Context


def _injected() -> dict[str, str]:
    carrier: dict[str, str] = {}
    if "opentelemetry" in sys.modules:
        from opentelemetry import propagate

        propagate.inject(carrier)
    return carrier


def _extract(carrier: Mapping[str, str]) -> None:
    if not carrier:
        return
    try:
        from opentelemetry import context, propagate
    except ImportError:  # this worker does without
        return
    context.attach(propagate.extract(carrier))
