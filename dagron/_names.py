"""What a node may be called, and which known name a wrong one was meant to be."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import islice
from types import CoroutineType

from dagron._errors import InvalidNameError

MAX_NAME_LENGTH = 512
DEFINED_AT = " is defined at "  # in the note of an error that no line of the user's raised
SEARCHED_NAMES = 10_000  # a suggestion is a courtesy: in a huge graph it must not cost seconds

_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # the categories Cc and Cs

_RUN_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")


def checked_name(name: object, what: str = "node") -> str:
    """Return the name of a node, or of what else, as a plain ``str``, or refuse it.

    Raises `TypeError` when it is no string and `InvalidNameError` when it is empty, longer than
    512 characters, or holds a control character or a surrogate.
    """
    if not isinstance(name, str):
        raise TypeError(
            f"a {what} name is a str, not {type(name).__name__}: {name!r:.60}\n"
            f"  help: write the name as text"
        )
    name = str.__str__(name)  # a StrEnum member becomes the text that it stands for
    if not name:
        raise InvalidNameError(
            f"a {what} name is empty\n  help: give it at least one character", name
        )
    if len(name) > MAX_NAME_LENGTH:
        raise InvalidNameError(
            f"{what} name {name[:30]!a}... has {len(name):,} characters, and at most "
            f"{MAX_NAME_LENGTH} are allowed\n"
            f"  help: shorten it, and keep the long text in the result or in a closure",
            name,
        )
    if not name.isprintable() and (found := _FORBIDDEN.search(name)):
        raise InvalidNameError(
            f"{what} name {name!a:.60} holds the character U+{ord(found[0]):04X}\n"
            f"  help: leave control characters and surrogates out of names",
            name,
        )
    return name


def checked_run_id(run_id: object) -> str:
    """Return the id of a run, which may also be part of a file's name, or refuse it."""
    if not isinstance(run_id, str):
        raise TypeError(
            f"a run_id is a str, not {type(run_id).__name__}: {run_id!r:.60}\n"
            f"  help: write run_id='nightly-2026-11-22', for example"
        )
    if not _RUN_ID.fullmatch(run_id):
        raise InvalidNameError(
            f"run_id {run_id!a:.60} is not 1 to 100 of the characters A-Z a-z 0-9 . _ -\n"
            f"  help: write run_id='nightly-2026-11-22', for example",
            run_id,
        )
    return str.__str__(run_id)


def names_in(value: Iterable[str], field: str) -> list[str]:
    """Copy an iterable of names into a list; refuse a bare string, and members that are none."""
    if type(value) is list:
        for name in value:
            if type(name) is not str:
                break
        else:
            return value.copy()
    if isinstance(value, (str, bytes)):
        text = value if isinstance(value, str) else value.decode(errors="replace")
        raise TypeError(
            f"{field} is a list of node names, not the bare {type(value).__name__} {value!r:.60}\n"
            f"  help: write {field}=[{text!r:.60}]"
        )
    try:
        # A set has no order of its own, and the order of edges shows.
        names = sorted(value) if isinstance(value, (set, frozenset)) else list(value)
    except TypeError:
        raise TypeError(
            f"{field} is a list of node names, not {type(value).__name__}: {value!r:.60}\n"
            f"  help: write {field}=[...]"
        ) from None
    for name in names:
        if not isinstance(name, str):
            raise TypeError(
                f"{field} holds {name!r:.60}, which is {type(name).__name__}, not a node name\n"
                f"  help: write the name of a node, a str"
            )
    return [str.__str__(name) for name in names]


def close_names(name: object, known: Iterable[str]) -> list[str]:
    """Return up to three known names that look like this one, the likeliest first."""
    from difflib import get_close_matches  # imported on use: errors are rare

    return get_close_matches(str(name), list(islice(known, SEARCHED_NAMES)), n=3, cutoff=0.6)


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return ``did you mean 'x'?``, or an empty string when nothing known is close."""
    return question(close_names(name, known))


def question(close: Sequence[str]) -> str:
    """Return the close names as a question, or an empty string when there are none."""
    return f"did you mean {' or '.join(map(repr, close))}?" if close else ""


def uncallable(role: str, node: str, value: object) -> str:
    """Return the text of the error for a node's task or expander that cannot be called."""
    takes = "a function of (name, result)" if role == "expander" else "a function"
    help = f"give {takes}; to pass arguments, use lambda or functools.partial"
    if isinstance(value, CoroutineType):
        value.close()
        name = value.__name__
        help = f"leave out the parentheses: write {name}, not {name}(...), or lambda: {name}(...)"
        shown_value = f"the coroutine of a call of {name}()"
    elif value is None:
        shown_value = "None"
        help = f"give {takes}, not what a call of it returns: leave out the parentheses"
    else:
        shown_value = f"{value!r:.60}"
    return (
        f"the {role} of node {node!r:.60} is {shown_value}, which cannot be called\n  help: {help}"
    )


def shown(names: Iterable[str], most: int = 20) -> str:
    """Return the names as text for a message: the first ``most``, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def shown_path(names: Sequence[str]) -> str:
    """Return a path as text for a message: its first six names and its last, with arrows."""
    quoted = [f"{name!r:.60}" for name in (names if len(names) <= 8 else (*names[:6], names[-1]))]
    if len(names) > 8:
        quoted.insert(6, "...")
    return " -> ".join(quoted)


def plain(text: str) -> str:
    """Return the text without control characters, direction marks and line ends, for a terminal."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        " " if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") else letter
        for letter in text
    )


def shown_seconds(seconds: float) -> str:
    """Return a span of time as text for a message: three digits, and never an exponent."""
    return f"{seconds:,.0f} s" if seconds >= 100 else f"{seconds:.3g} s"


def shown_time(seconds: float) -> str:
    """Return a measured time as text for people: in milliseconds where it is below a second."""
    if seconds >= 0.9995:
        return shown_seconds(seconds)
    milliseconds = 1_000 * seconds
    return f"{milliseconds:.3g} ms" if milliseconds >= 0.9995 else f"{milliseconds:.3f} ms"


def plural(count: int, noun: str) -> str:
    """Return so many of it as text: "1 node", "2,000 nodes"."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def with_forgotten(help: str, count: int) -> str:
    """Return the help for an unknown name, with how many forgotten nodes it may be one of."""
    if not count:
        return help
    were = "node of this run was" if count == 1 else "nodes of this run were"
    text = f"{count:,} {were} forgotten (keep=...)"
    return f"{help}; {text}" if help else text
