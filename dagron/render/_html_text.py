"""Texts that users' objects give of themselves, for a page: bounded, and whatever they are."""

from collections.abc import Callable
from reprlib import Repr
from traceback import format_exception

from dagron._results import error_text
from dagron.render._text import visible

MOST_OF_A_RESULT = 2_000  # characters
MOST_OF_A_REASON = 1_000
MOST_OF_A_TRACEBACK = 8_000


def lines_of(text: str) -> str:
    """Return the text line by line; what turns or hides other text is written out."""
    return "\n".join(map(visible, text.expandtabs(4).splitlines()))


class _Short(Repr):
    """Asks large containers for their beginning only; what raises costs its own text alone."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxtuple = self.maxlist = self.maxset = self.maxfrozenset = self.maxdict = 30
        self.maxdeque = self.maxarray = 30
        self.maxstring = self.maxlong = 500

    def repr_instance(self, x: object, level: int) -> str:
        return clipped(_asked(lambda: repr(x), x), MOST_OF_A_RESULT)


_short = _Short()


def result_text(value: object) -> str:
    """Return the ``repr()`` of what a node returned, of large containers the beginning."""
    return lines_of(clipped(_asked(lambda: _short.repr(value), value), MOST_OF_A_RESULT))


def reason_text(reason: str) -> str:
    """Return why something was so, shortened: who cancels a run may say what they like."""
    return lines_of(clipped(reason, MOST_OF_A_REASON))


def traceback_text(error: BaseException) -> str:
    """Return the traceback as Python prints it, with causes and notes."""
    text = _asked(lambda: "".join(format_exception(error)), error)
    return lines_of(clipped(text, MOST_OF_A_TRACEBACK))


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
        return f"<a {_kind_of(value)} that cannot be shown: it raised {_kind_of(broken)}>"


def _kind_of(value: object) -> str:
    # Not ``type(value).__name__``: a metaclass may answer wrongly.
    name: str = vars(type)["__name__"].__get__(type(value))
    return name


def clipped(text: str, most: int) -> str:
    """Return a text that is too long without its middle: a traceback tells most at its end."""
    if len(text) <= most:
        return text
    head, tail = text[: most // 3], text[-(most - most // 3) :]
    return f"{head}\n... {len(text) - most:,} characters are left out here ...\n{tail}"
