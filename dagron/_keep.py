"""What stays of a node that has completed: its record, or what a fold made of it."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from dagron._checks import takes, unplain_kind
from dagron._value import Value

WORDS = ("all", "leaves", "failures")
Word: TypeAlias = Literal["all", "leaves", "failures"]


class Fold(Value):
    """Folds the results of one node's children into one value as they finish, and forgets them.

    ``function(accumulator, name, result)`` returns the next accumulator; ``start()`` makes the
    first one, so that every run has its own: ``Fold(add_up, int)``, ``Fold(count, Counter)``. A
    plain function is called in the event loop and has to be quick, an ``async def`` is awaited;
    either way one call ends before the next begins. A child whose fold raises has FAILED.

    Raises `TypeError` for what cannot be called.
    """

    __slots__ = _fields = _compared = ("function", "start")

    function: Callable[[Any, str, Any], Any]
    start: Callable[[], Any]

    def __init__(self, function: Callable[[Any, str, Any], Any], start: Callable[[], Any]) -> None:
        if not callable(function) or unplain_kind(function) in (
            "a generator function",
            "an async generator function",
        ):
            raise TypeError(
                f"a fold is a function (accumulator, name, result), not {function!r:.60}\n"
                f"  help: write Fold(lambda total, name, result: total + result, int)"
            )
        if not takes(function, 3):
            raise TypeError(
                f"a fold is called with (accumulator, name, result), which {function!r:.60} does "
                f"not take\n"
                f"  help: write def add(accumulator, name, result): ..."
            )
        if not callable(start) or unplain_kind(start) is not None or not takes(start, 0):
            raise TypeError(
                f"start is called without arguments and makes the first accumulator, which "
                f"{start!r:.60} does not\n"
                f"  help: write start=int, start=list or start=lambda: {start!r:.60}"
            )
        self.__setstate__((function, start))

    def __hash__(self) -> int:  # type: ignore[override]
        return hash((self.function, self.start))


Keep: TypeAlias = Word | Fold


def checked_word(parameter: str, value: object) -> Word:
    """Return one of the words as it is, or refuse it."""
    for word in WORDS:
        if value == word:
            return word  # type: ignore[return-value]
    help = f"write {parameter}='leaves' or {parameter}='failures'"
    if isinstance(value, Fold):
        help = "a fold is for the children of one node: give that node a NodePolicy(keep=Fold(...))"
    raise ValueError(f"{parameter} is one of {', '.join(WORDS)}, not {value!r:.60}\n  help: {help}")


def checked_keep(parameter: str, value: object) -> Keep | None:
    """Return a word, a fold or None as it is, or refuse it."""
    if value is None or isinstance(value, Fold):
        return value
    if callable(value):
        raise TypeError(
            f"{parameter} is a function, {value!r:.60}, and no Fold\n"
            f"  help: say where it begins, too: {parameter}=dagron.Fold(function, start=list)"
        )
    return checked_word(parameter, value)
