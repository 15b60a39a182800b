"""Classes whose values a journal keeps, or does not: as a user's module of models has them."""

from collections import namedtuple
from dataclasses import dataclass, field
from enum import Enum, Flag, IntEnum, StrEnum
from functools import partial  # noqa: F401  # a pickle may ask for what a module has imported
from subprocess import Popen  # noqa: F401
from typing import NamedTuple


class Colour(Enum):
    RED = 1
    CRIMSON = RED
    BLUE = "blue"


class Size(IntEnum):
    SMALL = 1


class Word(StrEnum):
    YES = "yes"


class Bits(Flag):
    A = 1
    B = 2


@dataclass
class Invoice:
    number: int
    lines: list["Invoice"] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Point:
    x: float
    y: float = 0.0


Pair = namedtuple("Pair", "a b")


class Triple(NamedTuple):
    a: int
    b: "Triple | None" = None
    c: tuple[int, ...] = ()


class Celsius(float):
    pass


class Plain:
    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plain) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


class Callable_:
    """An instance that can be called is data as well."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1


class AppError(Exception):
    pass


class Outer:
    class Inner:
        pass


class Liar:
    """Says that it is at home where everything is allowed."""

    __module__ = "builtins"


class OddHome:
    __module__ = 7  # type: ignore[assignment]


def function() -> None:
    raise AssertionError("a function of an allowed module was called")


class Raises:
    """Cannot be pickled, and says so in a way of its own."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> tuple[object, ...]:
        raise self.error


class LoadsBadly:
    """Is pickled, and cannot be loaded."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        raise OSError("no such thing any more")

    def __getstate__(self) -> object:
        return {"a": 1}
