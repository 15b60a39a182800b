"""Numbers and functions that a user gives: looked at where they come in.

What is refused is named, together with what to type.
"""

import inspect
from collections.abc import Callable
from math import inf, isfinite
from typing import Any


def unplain_kind(function: object) -> str | None:
    """Return what kind of function this is whose code does not run by a call, or None."""
    for code in (function, type(function).__call__):
        if inspect.iscoroutinefunction(code):
            return "an async function"
        if inspect.isgeneratorfunction(code):
            return "a generator function"
        if inspect.isasyncgenfunction(code):
            return "an async generator function"
    return None


def takes(function: Callable[..., Any], count: int) -> bool:
    """Tell whether a function can be called with so many values, as far as that can be known."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # `int` has none, for example
        return True
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def counted(parameter: str, value: object, least: int = 1) -> int:
    """Return a bound that is an int of at least ``least``, or refuse it."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(
            f"{parameter} is an int, not {type(value).__name__}: {value!r:.60}\n"
            f"  help: write {parameter}=4, for example"
        )
    if value < least:
        raise ValueError(
            f"{parameter} is at least {least}, not {value}\n  help: write {parameter}={least}"
        )
    return value


def seconds(parameter: str, value: object) -> float | None:
    """Return a span of time that is a number above 0, or None, or refuse it."""
    if value is None:
        return None
    number = finite(parameter, value, "a number of seconds")
    if not 0 < number < inf:
        raise ValueError(
            f"{parameter} is above 0 seconds, not {value}\n"
            f"  help: leave {parameter} out for no limit"
        )
    return number


def finite(parameter: str, value: object, what: str = "a number") -> float:
    """Return a finite number, or refuse it."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(
            f"{parameter} is {what}, not {type(value).__name__}: {value!r:.60}\n"
            f"  help: write {parameter}=2.5, for example"
        )
    try:
        number = float(value)
    except OverflowError:  # an int of hundreds of digits
        number = inf
    if not isfinite(number):
        help = f"write {parameter}=2.5, for example"
        if what == "a number":
            what = "a finite number"
        else:
            help = f"leave {parameter} out for no limit"
            what = "above 0 seconds"
        raise ValueError(f"{parameter} is {what}, not {value!r:.60}\n  help: {help}")
    return number


def within(parameter: str, value: object, low: float, high: float = inf) -> float:
    """Return a finite number from ``low`` to ``high``, or refuse it."""
    number = finite(parameter, value)
    if not low <= number <= high:
        nearest = low if number < low else high
        bounds = f"at least {low:g}" if high == inf else f"from {low:g} to {high:g}"
        raise ValueError(
            f"{parameter} is {bounds}, not {value}\n  help: write {parameter}={nearest:g}"
        )
    return number
