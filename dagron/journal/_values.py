"""Results as bytes, and back: exactly what they were, and no code from the file.

A pickle is a program: it names functions and calls them. Here it may name only classes that hold
data (`_globals`), so that whoever can write the file can put wrong data into it, but no code.
"""

import copyreg
import io
import pickle
import pickletools
import sys
from collections.abc import Callable, Sequence
from enum import Enum
from types import FunctionType
from typing import Any, ClassVar, cast

from dagron._checks import counted
from dagron._errors import JournalError, UnstorableError
from dagron.journal._globals import RefusedError, resolve
from dagron.journal._recorded import text_of, type_name

PROTOCOL = 5
LARGEST = 900_000_000  # bytes: SQLite's rows end at 1,000,000,000


class Values:
    """Turns results into bytes and back, for a journal.

    Plain data, and the classes of the standard library that hold data (dates, decimals, paths,
    UUIDs, deques, ...), are stored as they are. ``allow`` names modules whose classes may be stored
    as well: dataclasses, enums, models. ``max_result_bytes`` bounds one result.

    ``trust=True`` loads whatever a pickle names. Warning: then a journal is a program. Whoever can
    write to the file can run code in the process that opens it: use it for files that nobody else
    can write to.
    """

    def __init__(
        self,
        allow: Sequence[str] = (),
        *,
        trust: bool = False,
        max_result_bytes: int | None = None,
    ) -> None:
        self._allow = _checked_modules(allow)
        self._trust = trust
        self._limit = LARGEST
        if max_result_bytes is not None:
            self._limit = min(LARGEST, counted("max_result_bytes", max_result_bytes))

    def dump(self, value: object, node: str) -> bytes:
        """Return the value of a node as bytes that `load` turns into an equal one.

        Raises `UnstorableError`, and nothing else, when that cannot be.
        """
        try:
            blob = pickle.dumps(value, PROTOCOL)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the user's `__reduce__` may raise anything
            raise _unpicklable(value, node, error) from error
        if len(blob) > self._limit:
            raise self._too_large(value, node, len(blob))
        if not self._trust and _may_name(blob):
            self._try(blob, value, node)
        return blob

    def load(self, blob: bytes) -> Any:
        """Return the value. Raises `JournalError` when it names what it may not, or is damaged."""
        try:
            if self._trust:
                return pickle.loads(blob)
            _refuse_numbers(blob)
            try:
                return _Plain(io.BytesIO(blob)).load()
            except _Named:
                return _Careful(blob, self._allow).load()
        except JournalError as error:
            raise JournalError(
                f"a recorded result cannot be loaded: {error}\n"
                f"  help: pass the same allow= and trust= with which it was recorded"
            ) from error
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # also what the constructor of an allowed class raises
            raise JournalError(
                f"a recorded result cannot be loaded: {_cause(error)}\n"
                f"  help: its classes must be where they were, and take what they took then"
            ) from error

    def _try(self, blob: bytes, value: object, node: str) -> None:
        """Load what was dumped, as it would be loaded later: better refused now than then."""
        try:
            _refuse_numbers(blob)
            _Trial(blob, self._allow).load()
        except RefusedError as error:
            raise _refused(value, node, error) from error
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise UnstorableError(
                f"the result of node {node!r:.60} could be stored, but not loaded again: "
                f"{type_name(value)}\n"
                f"  help: return plain data; the cause was {_cause(error)}",
                node,
                type_name(value),
            ) from error

    def _too_large(self, value: object, node: str, size: int) -> UnstorableError:
        return UnstorableError(
            f"the result of node {node!r:.60} is too large to be stored: {size:,} bytes, and "
            f"max_result_bytes is {self._limit:,}\n"
            f"  help: write it to a file and return the path, or raise max_result_bytes (at most "
            f"{LARGEST:,})",
            node,
            type_name(value),
        )


def _may_name(blob: bytes) -> bool:
    """Tell whether a pickle that was made here may name something: else it has no such opcode.

    STACK_GLOBAL, EXT1, EXT2 and EXT4; written out, since it is asked of every result.
    """
    return b"\x93" in blob or b"\x82" in blob or b"\x83" in blob or b"\x84" in blob


def _refuse_numbers(blob: bytes) -> None:
    """Refuse numbers that stand for names: pickle does not ask for what it has looked up before.

    No pickle holds one unless somebody in this process has registered names, which is rare.
    """
    if not getattr(copyreg, "_inverted_registry", True):
        return
    for opcode, number, _ in pickletools.genops(blob):
        if opcode.name.startswith("EXT"):
            raise RefusedError(f"the number {number} for a name is not allowed", "copyreg", "")


class _Named(Exception):
    """The pickle names something."""


class _Plain(pickle.Unpickler):
    """Loads what names nothing, at full speed."""

    def find_class(self, module: str, name: str) -> Any:
        """Give up: this one is for the careful loader."""
        raise _Named


class _Trial(pickle.Unpickler):
    """Loads, at full speed, what this process has just pickled, if it could be loaded later."""

    def __init__(self, blob: bytes, allow: frozenset[str]) -> None:
        super().__init__(io.BytesIO(blob))
        self._allow = allow

    def find_class(self, module: str, name: str) -> Any:
        """Return what may be named."""
        return resolve(module, name, self._allow)


class _Careful(pickle._Unpickler):
    """Loads what somebody else may have written. The loader that is written in Python, since that
    one can be told to put state on fresh instances only: a class, and a member of an enum, is the
    process's own.
    """

    def __init__(self, blob: bytes, allow: frozenset[str]) -> None:
        super().__init__(io.BytesIO(blob))
        self._allow = allow

    def find_class(self, module: str, name: str) -> Any:
        """Return what may be named."""
        return resolve(module, name, self._allow)

    def _load_build(self) -> None:
        target = cast("Any", self).stack[-2]
        if isinstance(target, (type, FunctionType, Enum)):
            raise RefusedError(f"state for {type_name(target)} is not allowed")
        _BUILD(self)

    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch,
        pickle.BUILD[0]: _load_build,
    }


_BUILD: Callable[[Any], None] = cast("Any", pickle._Unpickler.dispatch)[pickle.BUILD[0]]


def _checked_modules(allow: Sequence[str]) -> frozenset[str]:
    if isinstance(allow, str):
        raise TypeError(
            f"allow is a list of modules, not the bare str {allow!r:.60}\n"
            f"  help: write allow=[{allow!r:.60}]"
        )
    for module in allow:
        if not isinstance(module, str):
            raise TypeError(
                f"allow holds {module!r:.60}, which is {type(module).__name__}, not a module's "
                f"name\n"
                f'  help: write the name as text, as in allow=["myapp.models"]'
            )
    return frozenset(allow)


def _unpicklable(value: object, node: str, error: BaseException) -> UnstorableError:
    return UnstorableError(
        f"the result of node {node!r:.60} cannot be pickled: {type_name(value)}\n"
        f"  help: return plain data (str, int, list, dict, dataclasses ...) and keep connections, "
        f"files and functions out of it; the cause was {_cause(error)}",
        node,
        type_name(value),
    )


def _refused(value: object, node: str, error: RefusedError) -> UnstorableError:
    named = f"{error.module}.{error.name}"
    is_class = isinstance(getattr(sys.modules.get(error.module), error.name, None), type)
    if "." in error.name:
        help = "move the class to the top level of its module, and let it in by allow=; or "
    elif is_class and error.module != "builtins":
        help = f'if it only holds data, let it in by allow=["{error.module}"]; or '
    else:
        help = "no allow= lets in a function, such as numpy and pandas need; "
    return UnstorableError(
        f"the result of node {node!r:.60} holds what a journal does not load: {named}\n"
        f"  help: {help}return plain data, or pass trust=True if nobody else can write the file",
        node,
        named,
    )


def _cause(error: BaseException) -> str:
    return f"{type_name(error)}: {text_of(error):.200}"
