"""Errors in words: what a journal keeps of an exception, which it never pickles."""

from collections.abc import Iterator, Mapping
from traceback import TracebackException
from typing import Any

from dagron._errors import RecordedError

MOST_TEXT = 4_000  # characters
MOST_TRACEBACK = 8_000
MOST_NOTES = 20


def error_row(error: BaseException) -> dict[str, Any]:
    """Return what is written down of an error: values for JSON; never raises."""
    return {
        "type": type_name(error),
        "text": _clipped(text_of(error), MOST_TEXT),
        "traceback": _clipped(_formatted(error), MOST_TRACEBACK),
        "notes": list(_notes(error)),
    }


def recorded_error(row: Mapping[str, Any]) -> RecordedError:
    """Return the error that tells what was written down."""
    name, text = row["type"], row["text"]
    message = f"{name}: {text}" if text else name
    return RecordedError(message, name, text, row["traceback"], row["notes"])


def type_name(value: object) -> str:
    """Return the name of a value's class, with its module unless that is builtins."""
    # Not asked of the class, whose metaclass may answer anything.
    kind = type(value)
    name = type.__dict__["__qualname__"].__get__(kind)
    module = type.__dict__["__module__"].__get__(kind)
    return name if module == "builtins" or not isinstance(module, str) else f"{module}.{name}"


def text_of(error: BaseException) -> str:
    """Return the error's text, whatever its ``str()`` does."""
    try:
        return str.__str__(str(error))
    except Exception:
        return "<its str() raised>"


def _formatted(error: BaseException) -> str:
    try:
        told = TracebackException(type(error), error, error.__traceback__, compact=True)
        return "".join(told.format())
    except Exception:  # what the error is made of raises when it is looked at
        return f"{type_name(error)}: {text_of(error)}\n"


def _notes(error: BaseException) -> Iterator[str]:
    notes = BaseException.__getattribute__(error, "__dict__").get("__notes__")
    if isinstance(notes, (list, tuple)):
        for note in notes[:MOST_NOTES]:
            if isinstance(note, str):
                yield _clipped(str.__str__(note), MOST_TEXT)


def _clipped(text: str, most: int) -> str:
    """Return the text without its middle, where it is too long: both ends tell more."""
    if len(text) <= most:
        return text
    return f"{text[: most // 4]}\n... {len(text) - most:,} characters ...\n{text[-most * 3 // 4 :]}"
