"""What all runners do when they are entered, and with what users give them."""

from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from typing import Any

from anyio import CancelScope, Lock
from anyio.lowlevel import current_token

from dagron._errors import NotPicklableError, RunnerError
from dagron._results import error_text
from dagron._threads import Boxed
from dagron.runners._pickles import PICKLING, loaded


class Entries:
    """How often a runner is entered, and in which event loop.

    ``begin`` is called when it is entered while it is not, and ``end`` when it was left as often as
    entered; who comes while either is on waits for it.
    """

    def __init__(
        self,
        what: str,
        begin: Callable[[], Awaitable[None]],
        end: Callable[[], Awaitable[None]],
    ) -> None:
        self._what = what
        self._begin = begin
        self._end = end
        self._count = 0
        self._loop: object = None
        self._turn: Lock
        self._is_begun = False

    async def enter(self) -> None:
        """Count one more."""
        loop = current_token().native_token
        if self._loop is None:
            self._loop, self._turn = loop, Lock()
        if self._loop is not loop:
            raise RuntimeError(
                f"this {self._what} is in use on another event loop\n"
                f"  help: give each event loop a {self._what} of its own"
            )
        self._count += 1
        try:
            async with self._turn:
                if not self._is_begun:
                    await self._begin()
                    self._is_begun = True
        except BaseException:
            self._count -= 1
            if not (self._count or self._is_begun):
                self._loop = None
            raise

    async def leave(self) -> None:
        """Count one less."""
        self._count -= 1
        if self._count:
            return
        with CancelScope(shield=True):
            async with self._turn:
                if not self._count:
                    self._is_begun = False
                    try:
                        await self._end()
                    finally:
                        if not self._count:
                            self._loop = None

    def check(self) -> None:
        """Raise if it is not entered."""
        if not self._is_begun:
            raise RuntimeError(
                f"this {self._what} is not entered\n  help: write async with runner: ..."
            )


def backend_name() -> str:
    """Return the kind of event loop that runs here."""
    loop = current_token().native_token
    return "asyncio" if hasattr(loop, "call_soon_threadsafe") else "trio"


def refuse_trio(runner: str, engine: str) -> None:
    """Raise `RunnerError` on trio, for a runner whose engine knows only asyncio."""
    if backend_name() != "asyncio":
        raise RunnerError(
            f"a {runner} works on asyncio, as {engine} does, and this is trio\n"
            f"  help: write backend='asyncio', or anyio.run(main, backend='asyncio')"
        )


def boxed(error: BaseException, node: str) -> BaseException:
    """Return what to raise in a coroutine, which refuses a StopIteration, for a node's error."""
    if isinstance(error, NotPicklableError):
        error.node = error.node or node
    return Boxed(error) if isinstance(error, StopIteration) else error


def loaded_here(pickled: bytes | bytearray | memoryview, node: str, what: str) -> Any:
    """Return what came from a worker; raises `NotPicklableError` if it cannot be loaded here."""
    try:
        return loaded(pickled)
    except PICKLING as error:
        raise not_loaded(node, what, error) from error


def not_loaded(node: str, what: str, error: BaseException) -> NotPicklableError:
    """Return the error for what came from a worker, and cannot be loaded here."""
    where = f"of node {node!r:.60}: " if node else ""
    return NotPicklableError(
        f"{where}{what} cannot be loaded here: {error_text(error):.200}\n"
        f"  help: its class must be importable here as there, or return plain data: dicts, lists",
        node,
        what,
    )


def checked_variables(carry: object) -> tuple[ContextVar[Any], ...]:
    """Return the context variables that are to travel, or refuse what is none."""
    variables = tuple(carry) if isinstance(carry, Iterable) else (carry,)
    for variable in variables:
        if not isinstance(variable, ContextVar):
            raise TypeError(
                f"carry holds context variables, not {variable!r:.60}\n"
                f"  help: write carry=[request_id], where request_id = ContextVar(...)"
            )
    return variables
