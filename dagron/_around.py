"""What observers put around the code of a node: context managers, entered in the node's own task.

An observer asks for it by having one of these methods, or both; each returns a context manager:

    around_node(run_id, node)                 from the first attempt to the end of its expander
    around_attempt(run_id, node, attempt)     one call of its task; attempts count from 1
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from inspect import getattr_static
from typing import Any, TypeAlias

from dagron._calls import has_not_run
from dagron._events import Event
from dagron._raised import forget_our_frames, frames_of

METHODS = ("around_node", "around_attempt")

Observer: TypeAlias = Callable[[Event], object]
Drop: TypeAlias = Callable[[Observer, BaseException], object]


def method_of(observer: object, method: str) -> Any:
    """Return what an observer has by the name of one of the methods, or None.

    Whoever answers to any name, as mocks do, has none: what it would return is no context manager.
    """
    if getattr_static(observer, method, None) is None:
        return None
    return getattr(observer, method)


def puts_around(observers: Iterable[Observer]) -> bool:
    """Tell whether any of them puts something around nodes."""
    return any(
        method_of(observer, method) is not None for observer in observers for method in METHODS
    )


class Entered:
    """Context managers of observers that have been entered, to be left in the same task."""

    __slots__ = ("_drop", "_managers")

    def __init__(self, drop: Drop) -> None:
        self._drop = drop
        self._managers: list[tuple[Observer, AbstractContextManager[Any]]] = []

    def enter(self, observer: Observer, manager: AbstractContextManager[Any]) -> None:
        """Enter what an observer gave; raises what it raises."""
        _check_manager(observer, manager)
        manager.__enter__()
        self._managers.append((observer, manager))

    def leave(self, error: BaseException | None) -> None:
        """Leave them in turn, last first; they see what was raised, and cannot change it."""
        if error is not None:
            forget_our_frames(error)
        frames = None if error is None else frames_of(error)
        for observer, manager in reversed(self._managers):
            try:
                manager.__exit__(None if error is None else type(error), error, frames)
            except BaseException as broken:
                if broken is not error:
                    self._drop(observer, broken)
            if error is not None:  # a generator through which it was thrown has added its own
                BaseException.with_traceback(error, frames)


class Around:
    """Enters what the observers of a run put around its nodes and their attempts.

    Nothing raises here: an observer of which anything does is given to ``drop``.
    """

    __slots__ = ("_drop", "_observers", "_run_id")

    def __init__(
        self, run_id: str, observers: Callable[[], Iterable[Observer]], drop: Drop
    ) -> None:
        self._run_id = run_id
        self._observers = observers
        self._drop = drop

    def node(self, name: str) -> Entered:
        """Enter what is around a node; its task is about to be called."""
        return self._enter("around_node", name)

    def attempt(self, name: str, number: int) -> Entered:
        """Enter what is around an attempt."""
        return self._enter("around_attempt", name, number)

    def _enter(self, method: str, *arguments: Any) -> Entered:
        entered = Entered(self._drop_once)
        for observer in self._observers():
            try:
                around = method_of(observer, method)
                if around is not None:
                    entered.enter(observer, around(self._run_id, *arguments))
            except BaseException as error:
                self._drop_once(observer, error)
        return entered

    def _drop_once(self, observer: Observer, error: BaseException) -> None:
        """Drop an observer that has raised, unless it has been: nodes have more to leave of it."""
        if any(other is observer for other in self._observers()):
            self._drop(observer, error)


def _check_manager(observer: Observer, manager: object) -> None:
    if not (hasattr(type(manager), "__enter__") and hasattr(type(manager), "__exit__")):
        has_not_run(manager)  # which closes a coroutine
        raise TypeError(
            f"what an observer puts around a node is a context manager, "
            f"not {type(manager).__name__}: {observer!r:.60}\n"
            f"  help: write @contextlib.contextmanager above the method"
        )
