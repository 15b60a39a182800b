"""How values travel: pickled by cloudpickle, and context variables beside what it can."""

import sys
from collections import ChainMap
from collections.abc import Callable
from contextvars import Context, ContextVar
from importlib import import_module
from io import BytesIO
from pickle import HIGHEST_PROTOCOL
from typing import Any, TypeVar
from uuid import uuid4

import cloudpickle

T = TypeVar("T")
PICKLING = Exception  # what pickling may raise: whatever the user's __reduce__ does


class TooLarge(Exception):
    """A pickle is larger than it may be."""


class _Bounded(BytesIO):
    def __init__(self, limit: int) -> None:
        super().__init__()
        self._left = limit

    def write(self, data: Any) -> int:
        self._left -= memoryview(data).nbytes
        if self._left < 0:
            raise TooLarge
        return super().write(data)


def dumped(value: Any, pickler: Any = None, limit: int | None = None) -> bytes:
    """Pickle a value, lambdas and closures too. Raises `TooLarge` beyond so many bytes."""
    file = BytesIO() if limit is None else _Bounded(limit)
    (pickler or _Pickler)(file, protocol=HIGHEST_PROTOCOL).dump(value)
    return file.getvalue()


def loaded(pickled: bytes | bytearray | memoryview) -> Any:
    """Return the value that was pickled."""
    return cloudpickle.loads(pickled)


def portable(value: T) -> T:
    """Return the value, or raise if it could not be pickled. Its buffers are not copied for it."""
    if type(value) not in _PLAIN:
        file = BytesIO()
        _Pickler(file, protocol=HIGHEST_PROTOCOL, buffer_callback=_leave_out).dump(value)
    return value


_PLAIN = (type(None), bool, int, float, str, bytes)


def _leave_out(buffer: object) -> None:
    """Take a buffer out of the pickle."""


# -- context variables: pickled by where they are found, or else one for each at every worker

_tokens: dict[ContextVar[Any], str] = {}  # of those that no module has
_made: dict[str, ContextVar[Any]] = {}  # here, for variables of other processes, by their tokens


def _reduced(variable: ContextVar[Any]) -> tuple[Callable[..., ContextVar[Any]], tuple[Any, ...]]:
    home = _home(variable)
    if home is not None:
        return _found, home
    token = next((token for token, made in _made.items() if made is variable), None)
    if token is None:
        token = _tokens.setdefault(variable, uuid4().hex)
    try:
        return _makeshift, (token, variable.name, Context().run(variable.get))
    except LookupError:  # it has no default
        return _makeshift, (token, variable.name)


def _home(variable: ContextVar[Any]) -> tuple[str, str] | None:
    """Return the module, but for the main one, that has the variable, and its name there."""
    for module, content in [*sys.modules.items()]:
        if module != "__main__":
            for name, value in [*getattr(content, "__dict__", {}).items()]:
                if value is variable:
                    return module, name
    return None


def _found(module: str, name: str) -> ContextVar[Any]:
    variable: ContextVar[Any] = getattr(import_module(module), name)
    return variable


def _makeshift(token: str, name: str, *default: Any) -> ContextVar[Any]:
    own = next((variable for variable, mine in _tokens.items() if mine == token), None)
    if own is not None:  # it has come back
        return own
    if token not in _made:
        _made[token] = ContextVar(name, default=default[0]) if default else ContextVar(name)
    return _made[token]


def with_variables(pickler: Any) -> Any:
    """Return a pickler that can do what this one can, and context variables."""
    table = ChainMap({ContextVar: _reduced}, getattr(pickler, "dispatch_table", {}))
    return type("Pickler", (pickler,), {"dispatch_table": table})


_Pickler = with_variables(cloudpickle.Pickler)
