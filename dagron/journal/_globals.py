"""Which classes a pickle may name: those that can only hold data.

Whatever a pickle can reach here it may call with arguments of its own. So there is nothing here
that calls what it is given (`map`, `functools.partial`), reaches into objects (`getattr`), makes
classes (`type`) or imports; and what is needed of `getattr` is here as two cases of it.
"""

import builtins
from collections.abc import Callable
from enum import EnumType
from importlib import import_module
from typing import Any

from dagron._errors import JournalError

_NAMES = {
    "builtins": (
        "bool bytearray bytes complex dict float frozenset int list object range set slice str "
        "tuple Ellipsis NotImplemented"
    ),
    "collections": "ChainMap Counter OrderedDict UserDict UserList UserString defaultdict deque",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "fractions": "Fraction",
    "ipaddress": ("IPv4Address IPv4Interface IPv4Network IPv6Address IPv6Interface IPv6Network"),
    "pathlib": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
    "types": "SimpleNamespace",
    "uuid": "UUID",
    "zoneinfo": "ZoneInfo",
}

# Python 3.13 wrote down where the classes of pathlib are at home; later ones moved them back.
_MOVED = {"pathlib._local": "pathlib"}

KNOWN = {(module, name) for module, names in _NAMES.items() for name in names.split()} | {
    ("builtins", name)
    for name, found in vars(builtins).items()
    if isinstance(found, type) and issubclass(found, BaseException)
}


class RefusedError(JournalError):
    """A pickle names what it may not; ``module`` and ``name`` say what."""

    def __init__(self, message: str = "", module: str = "", name: str = "") -> None:
        super().__init__(message)
        self.module = module
        self.name = name


def resolve(module: str, name: str, allow: frozenset[str]) -> Any:
    """Return what a pickle names, or raise `RefusedError` without importing anything for it."""
    module = _MOVED.get(module, module)
    if (module, name) in KNOWN:
        return getattr(import_module(module), name)
    if (module, name) == ("builtins", "getattr"):
        return _attribute
    if module in allow and "." not in name:
        found = getattr(import_module(module), name)
        if isinstance(found, type) and _home(found) in allow:
            return found
    raise RefusedError(f"{module}.{name} is not allowed", module, name)


def _home(found: type) -> object:
    """Return where a class says that it was made; not asked of a metaclass, which may lie."""
    return type.__dict__["__module__"].__get__(found)


def _attribute(owner: Any, name: Any) -> Any:
    """What a pickle gets for `getattr`: it finds members of enums, and how zones are made."""
    from zoneinfo import ZoneInfo

    if owner is ZoneInfo and name == "_unpickle":
        return _zone
    if type(name) is str and isinstance(owner, EnumType) and name in owner.__members__:
        return owner.__members__[name]
    raise RefusedError("getattr is not allowed", "builtins", "getattr")


def _zone(key: Any, from_cache: Any) -> Any:
    from zoneinfo import ZoneInfo

    make: Callable[[str], ZoneInfo] = ZoneInfo if from_cache else ZoneInfo.no_cache
    return make(str(key))
