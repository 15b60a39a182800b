"""What a task can say to its run, from wherever in it: progress, and whether to stop."""

from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context, ContextVar
from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple, Protocol, TypeVar

from anyio import current_effective_deadline

from dagron._checks import finite
from dagron._errors import Cancelled

T = TypeVar("T")


class NodeHost(Protocol):
    """The run of a node, as seen from inside the node."""

    @property
    def id(self) -> str: ...
    @property
    def uid(self) -> str:
        """What tells the run from all others, also from one of the same id in another journal."""

    @property
    def limits(self) -> object | None: ...
    @property
    def outer(self) -> "Here | None":
        """The node in which this run is nested."""

    def groups_of(self, name: str) -> tuple[str, ...]: ...
    def is_cancelled(self, name: str) -> bool: ...
    def attempt_of(self, name: str) -> int: ...
    def tell_progress(self, name: str, done: float, total: float | None, note: str) -> None: ...
    def is_own_task(self) -> bool: ...
    def deadline(self, name: str) -> float: ...
    def rest(self, name: str) -> None: ...
    async def go_on(self, name: str) -> None: ...


class Given(Protocol):
    """A call in a thread."""

    @property
    def is_given_up(self) -> bool:
        """Whether nobody waits for it any longer."""


class Here(NamedTuple):
    """The node whose code runs here: its run, its name, and the call if this is a thread of it."""

    run: NodeHost
    name: str
    call: Given | None = None


# The fields of a `Here`. Every node sets it, and few ask: a plain tuple takes a third of the time.
# In threads that a node starts, and in its tasks, a copy of the context has it, too.
current_node: ContextVar[tuple[NodeHost, str, Given | None] | None] = ContextVar(
    "current_node", default=None
)


class InContext(Awaitable[T]):
    """Awaits a coroutine in a context of its own, without a task of its own."""

    def __init__(self, coroutine: Coroutine[Any, Any, T], context: Context) -> None:
        self._coroutine = coroutine
        self._context = context

    def __await__(self) -> Generator[Any, Any, T]:
        step: Callable[[Any], Any] = self._coroutine.send
        given: Any = None
        while True:
            try:
                wish = self._context.run(step, given)
            except StopIteration as end:
                value: T = end.value
                return value
            try:
                given, step = (yield wish), self._coroutine.send
            except BaseException as error:
                given, step = error, self._coroutine.throw


def here() -> Here | None:
    """Return the node whose code calls this, if there is one."""
    found = current_node.get()
    return None if found is None else Here._make(found)


@dataclass(frozen=True, slots=True)
class Current:
    """The node whose task is running: see `current`.

    ``attempt`` counts from 1; with a journal it also counts what was cut off when a process died.
    """

    run_id: str
    node: str
    attempt: int
    uid: str

    @property
    def idempotency_key(self) -> str:
        """64 hexadecimal digits that are the same in every attempt at this node of this run.

        With a journal they are so after a crash, too: give them to a service that does a thing once
        per key, and it is done once, however often the task is tried.
        """
        from hashlib import sha256  # on use

        return sha256(f"{self.uid}\0{self.node}".encode()).hexdigest()


def current() -> Current:
    """Return where the caller is: the run, the node and its attempt; from a task, sync or async.

    Raises `LookupError` outside a run.
    """
    node = here()
    if node is None:
        raise LookupError(
            "dagron.current() was called outside of a run\n"
            "  help: call it in a node's task; pass what it gives to what runs elsewhere"
        )
    return Current(node.run.id, node.name, node.run.attempt_of(node.name), node.run.uid)


def progress(done: float, total: float | None = None, note: str = "") -> None:
    """Report from inside a task, sync or async, how far it is: a `NodeProgress` event.

    ``done`` and ``total`` are in whatever unit the task counts. What a worker thread reports faster
    than the event loop turns is reported once, with the latest numbers. Where nobody listens, and
    outside a run, it does nothing: a task that calls it can be tested by itself.

    Raises `TypeError` or `ValueError` for what is no finite number.
    """
    done = finite("done", done)
    if total is not None:
        total = finite("total", total)
    if not isinstance(note, str):
        raise TypeError(
            f"note is a str, not {type(note).__name__}: {note!r:.60}\n"
            f"  help: write progress(3, 10, note='page 3')"
        )
    node = here()
    if node is not None:
        node.run.tell_progress(node.name, done, total, str.__str__(note))


def check_cancelled() -> None:
    """Raise `Cancelled` if the node whose task calls this is to stop; else do nothing.

    That is so when the run or the node is cancelled, and when the node's timeout is over. A thread
    cannot be stopped from outside: a sync task that runs for long, or might be given up, calls this
    now and then, and before it calls into the event loop, where nothing may cancel it any more.
    Outside a run it does nothing.
    """
    node = here()
    if node is None:
        return
    is_given_up = node.call is not None and node.call.is_given_up
    if is_given_up or node.run.is_cancelled(node.name):
        raise Cancelled(
            f"node {node.name!r:.60} is cancelled, or its time is over\n"
            f"  help: let this pass; clean up in finally"
        )


def check_calling_thread() -> None:
    """Raise `Cancelled` in what a thread calls in the event loop after its node was to stop.

    On asyncio nothing would cancel what it waits for: anyio runs it in the scope of the thread's
    own call, which may be over.
    """
    node = here()
    if node is not None and node.call is not None:
        check_cancelled()
        if current_effective_deadline() == -inf:  # the run has not heard of it yet
            raise Cancelled(f"node {node.name!r:.60} is being cancelled")
