"""Functions by name: what a journal keeps of a callable that came from outside.

A journal names a module and a function or class in it, as pickle does. What is read from a file may
name only what the program itself would run: functions that modules define which take part in the
run, or which the user has allowed.
"""

import sys
from collections.abc import Callable, Collection
from functools import partial
from importlib import import_module
from types import FunctionType
from typing import Any

from dagron._errors import JournalError, UnstorableError
from dagron.journal._values import Values


class References:
    """Writes and reads the names of callables.

    ``modules`` are those whose functions may be named, ``trust`` says that all may be.
    """

    def __init__(self, values: Values, modules: Collection[str], *, trust: bool) -> None:
        self._values = values
        self._modules = modules
        self._trust = trust

    def refer(self, function: Callable[..., Any], what: str) -> Any:
        """Return a name for a callable, for JSON. Raises `UnstorableError` where it has none."""
        if isinstance(function, partial):
            return {
                "partial": self.refer(function.func, what),
                "arguments": self._values.dump((function.args, function.keywords), what).hex(),
            }
        module, name = _name_of(function)
        reason = self._objection(module, name)
        if reason is None and getattr(sys.modules.get(module), name, None) is not function:
            reason = f"{module}.{name} is something else"
        if reason is not None:
            raise UnstorableError(
                f"{what} cannot be written into the journal: {reason}\n"
                f"  help: make it a function of a module, and bind values with functools.partial: "
                f"nobody could make it again when the run goes on",
                what,
                type(function).__name__,
            )
        return f"{module}:{name}"

    def _objection(self, module: str, name: str) -> str | None:
        if not name or "." in name or "<" in name:
            return f"{name or 'it'} is no function at the top level of a module"
        if not self._trust and module not in self._modules:
            return f"the module {module} is not one of the run's own, nor in Journal(allow=...)"
        return None

    def resolve(self, reference: Any) -> Any:
        """Return the callable of a name. Raises `JournalError` where it may not be had."""
        if isinstance(reference, dict):
            arguments, keywords = self._values.load(bytes.fromhex(reference["arguments"]))
            return partial(self.resolve(reference["partial"]), *arguments, **keywords)
        module, _, name = str(reference).partition(":")
        reason = self._objection(module, name)
        if reason is None:
            try:
                found = getattr(import_module(module), name)
            except (ImportError, AttributeError) as error:
                reason = str(error)
            else:
                if self._trust or _name_of(found) == (module, name):
                    return found
                reason = f"{module}.{name} is something else"
        raise JournalError(
            f"a recorded function cannot be had: {reference!r:.200}: {reason}\n"
            f"  help: go on with the program that began the run, and with the same allow="
        )


def _name_of(function: object) -> tuple[str, str]:
    if not isinstance(function, (FunctionType, type)):
        return "", ""
    return function.__module__, function.__qualname__
