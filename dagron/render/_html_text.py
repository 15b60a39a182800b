"""Texts that users' objects give of themselves, for a page: bounded, and whatever they are."""

from collections.abc import Callable
from reprlib import Repr
from traceback import format_exception

from dagron._results import error_text
from dagron.render._text import visible

MOST_OF_A_RESULT = 2_000  # characters
MOST_OF_A_TRACEBACK = 8_000

_short = Repr()
_short.maxlevel = 4
_short.maxtuple = _short.maxlist = _short.maxset = _short.maxfrozenset = _short.maxdict = 30
_short.maxdeque = _short.maxarray = 30
_short.maxstring = _short.maxlong = 500
_short.maxother = MOST_OF_A_RESULT


def lines_of(text: str) -> str:
    """Return the text line by line; what turns or hides other text is written out."""
    return "\n".join(map(visible, text.expandtabs(4).splitlines()))


def result_text(value: object) -> str:
    """Return the ``repr()`` of what a node returned, of large containers the beginning."""
    return lines_of(_clipped(_asked(lambda: _short.repr(value), value), MOST_OF_A_RESULT))


def traceback_text(error: BaseException) -> str:
    """Return the traceback as Python prints it, with causes and notes."""
    text = _asked(lambda: "".join(format_exception(error)), error)
    return lines_of(_clipped(text, MOST_OF_A_TRACEBACK))


def error_line(error: BaseException) -> str:
    """Return the exception's type and text, shortened, in one line."""
    return " ".join(map(visible, error_text(error).split()))


def _asked(ask: Callable[[], str], value: object) -> str:
    """Return what the user's code answers, or how it failed to."""
    try:
        return ask()
    except KeyboardInterrupt:  # of the person who waits for the page
        raise
    except BaseException as broken:
        kinds = type(value).__name__, type(broken).__name__
        return "<a {} that cannot be shown: it raised {}>".format(*kinds)


def _clipped(text: str, most: int) -> str:
    """Return a text that is too long without its middle: a traceback tells most at its end."""
    if len(text) <= most:
        return text
    head, tail = text[: most // 3], text[-(most - most // 3) :]
    return f"{head}\n... {len(text) - most:,} characters are left out here ...\n{tail}"
