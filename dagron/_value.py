"""What the frozen values of the hot path share."""

from collections.abc import Callable
from typing import Any, NoReturn


class Value:
    """A frozen, slotted value: set once, compared and shown field by field.

    A frozen dataclass would do the same; it sets a field through ``object.__setattr__``, and these
    values, made once or more per node, set theirs through the slots, in half the time.
    """

    __slots__: tuple[str, ...] = ()
    _fields: tuple[str, ...] = ()
    _compared: tuple[str, ...] = ()  # the fields that take part in ==

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a {type(self).__name__} is frozen: make a new one instead")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a {type(self).__name__} is frozen: make a new one instead")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, field) == getattr(other, field) for field in self._compared)

    __hash__ = None  # type: ignore[assignment]  # the fields hold lists and results

    def __repr__(self) -> str:
        fields = ", ".join(f"{field}={getattr(self, field)!r}" for field in self._fields)
        return f"{type(self).__name__}({fields})"

    def __getstate__(self) -> tuple[Any, ...]:
        return tuple(getattr(self, field) for field in self._fields)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        for field, value in zip(self._fields, state, strict=True):
            object.__setattr__(self, field, value)


def setter(owner: type[Value], field: str) -> Callable[[Any, Any], None]:
    """Return the setter of a slot: the only way past `Value.__setattr__`, and the fastest."""
    set_field: Callable[[Any, Any], None] = vars(owner)[field].__set__
    return set_field
