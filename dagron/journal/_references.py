"""Functions by name: what a journal keeps of a callable that came from outside.

A journal names a module and a function or class in it, as pickle does. What is read from a file may
name only what the user has let in: what the allowed modules define themselves. That functions of a
module are tasks of the run lets nothing in: beside `shutil.copy` stands `shutil.rmtree`.
"""

import json
import sys
from collections.abc import Callable, Collection
from functools import partial
from importlib import import_module
from types import FunctionType
from typing import Any

from dagron._errors import JournalError, UnstorableError
from dagron.journal._globals import KNOWN
from dagron.journal._values import Values


class References:
    """Writes and reads the names of callables.

    ``allow`` are the modules whose functions and classes may be named, ``trust`` says that all may
    be. The library's classes for data, and its exceptions, may be named as they may in results.
    """

    def __init__(self, values: Values, allow: Collection[str], *, trust: bool) -> None:
        self._values = values
        self._allow = allow
        self._trust = trust

    def refer(self, function: Callable[..., Any], what: str) -> Any:
        """Return a name for a callable, for JSON. Raises `UnstorableError` where it has none."""
        if isinstance(function, partial):
            return {
                "partial": self.refer(function.func, what),
                "arguments": self._values.dump((function.args, function.keywords), what).hex(),
            }
        module, name = _name_of(function)
        help = (
            "make it a function of a module, and bind values with functools.partial: nobody could "
            "make it again when the run goes on"
        )
        if not name.isidentifier():
            reason = f"{name or 'it'} is no function at the top level of a module"
        elif getattr(sys.modules.get(module), name, None) is not function:
            reason = f"{module}.{name} is something else"
        elif not self._lets_in(module, name):
            reason = _not_allowed(module)
            if module != "builtins":  # some of what is in there calls whatever it is given
                help = (
                    f"write {_allowing(module)}: then whoever can write to the file can call what "
                    f"that module defines"
                )
        else:
            return f"{module}:{name}"
        raise UnstorableError(
            f"{what} cannot be written into the journal: {reason}\n  help: {help}",
            what,
            type(function).__name__,
        )

    def resolve(self, reference: Any) -> Any:
        """Return the callable of a name. Raises `JournalError` where it may not be had."""
        if isinstance(reference, dict):
            arguments, keywords = self._values.load(bytes.fromhex(reference["arguments"]))
            return partial(self.resolve(reference["partial"]), *arguments, **keywords)
        module, _, name = str(reference).partition(":")
        help = "go on with the program that began the run, and with the same allow="
        if not name.isidentifier():
            reason = "it is no function at the top level of a module"
        elif not self._lets_in(module, name):  # then it is not even imported
            reason = _not_allowed(module)
            if module != "builtins":
                help = (
                    f"if your program adds it, write {_allowing(module)}; if not, somebody has "
                    f"changed the file"
                )
        else:
            try:
                found = getattr(import_module(module), name)
            except (ImportError, AttributeError) as error:
                reason = str(error)
            else:
                if self._trust or _name_of(found) == (module, name):
                    return found
                reason = f"{module}.{name} is something else"
        raise JournalError(
            f"a recorded function cannot be had: {reference!r:.200}: {reason}\n  help: {help}"
        )

    def _lets_in(self, module: str, name: str) -> bool:
        return self._trust or module in self._allow or (module, name) in KNOWN


def _name_of(function: object) -> tuple[str, str]:
    if not isinstance(function, (FunctionType, type)):
        return "", ""
    return function.__module__, function.__qualname__


def _not_allowed(module: str) -> str:
    return f"the module {module!r:.60} is not allowed"


def _allowing(module: str) -> str:
    return f"Journal(..., allow=[{json.dumps(module):.100}])"
