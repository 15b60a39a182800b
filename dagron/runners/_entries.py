"""What all runners do when they are entered, and with what users give them."""

from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any

from anyio.lowlevel import current_token

from dagron._threads import Boxed


class Entries:
    """How often a runner is entered, and in which event loop."""

    def __init__(self, runner: object) -> None:
        self._what = type(runner).__name__
        self._count = 0
        self._loop: object = None

    def enter(self) -> bool:
        """Count one more; tell whether it is the first."""
        loop = current_token().native_token
        if self._count and self._loop is not loop:
            raise RuntimeError(
                f"this {self._what} is in use on another event loop\n"
                f"  help: give each event loop a {self._what} of its own"
            )
        self._loop = loop
        self._count += 1
        return self._count == 1

    def leave(self) -> bool:
        """Count one less; tell whether it was the last."""
        self._count -= 1
        if not self._count:
            self._loop = None
        return not self._count

    def check(self) -> None:
        """Raise if it is not entered."""
        if not self._count:
            raise RuntimeError(
                f"this {self._what} is not entered\n  help: write async with runner: ..."
            )


def backend_name() -> str:
    """Return the kind of event loop that runs here."""
    loop = current_token().native_token
    return "asyncio" if hasattr(loop, "call_soon_threadsafe") else "trio"


def boxed(error: BaseException) -> BaseException:
    """Return what to raise in a coroutine, which refuses a StopIteration."""
    return Boxed(error) if isinstance(error, StopIteration) else error


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
