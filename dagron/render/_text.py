"""Text of any kind inside a picture: escaped, shortened, and as wide as it is."""

import re
from unicodedata import category, combining, east_asian_width

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_XML = str.maketrans(
    {
        "&": "&amp;",
        "<": "&lt;",
        ">": "&gt;",
        '"': "&quot;",
        "'": "&#39;",
        "\t": "&#9;",
        "\n": "&#10;",
        "\r": "&#13;",
    }
)
_DOT = str.maketrans({"&": "&amp;", "\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "", "\0": ""})
# What Mermaid takes as it is: letters and digits, and a few signs between two of them. Everywhere
# else they may mean something: a list, emphasis, a link, a directive, the end of the label.
_PLAIN = re.compile(r"[^\W_]+(?:[ _:/-](?=[^\W_])[^\W_]+)*")
_JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"


def xml_text(text: str) -> str:
    """Return the text with U+FFFD for what XML cannot hold."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def xml(text: str) -> str:
    """Return the text for an attribute or an element; what XML cannot hold becomes U+FFFD."""
    return xml_text(text).translate(_XML)


def dot(text: str) -> str:
    """Return the text for a quoted string of DOT in which backslashes mean something."""
    return visible_lines(text).translate(_DOT)


def mermaid(text: str) -> str:
    """Return the text for a quoted label of Mermaid: nothing in it means anything."""
    text = visible(text)
    parts = []
    end = 0
    for match in _PLAIN.finditer(text):
        parts += [f"#{ord(char)};" for char in text[end : match.start()]]
        parts.append(match[0])
        end = match.end()
    parts += [f"#{ord(char)};" for char in text[end:]]
    return "".join(parts)


def visible(text: str) -> str:
    """Return the text with marks that turn or hide what follows them written out."""
    if text.isprintable():
        return text
    return "".join(char if _is_harmless(char) else f"\\u{ord(char):04x}" for char in text)


def visible_lines(text: str) -> str:
    """Return the text of several lines, each of them made visible."""
    return "\n".join(map(visible, text.split("\n")))


def _is_harmless(char: str) -> bool:
    return char.isprintable() or char in _JOINERS or category(char) == "Zs"


def cells(text: str) -> int:
    """Return how many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_cells, text))


def _cells(char: str) -> int:
    if combining(char) or category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if east_asian_width(char) in "WF" else 1


def noted(text: str, most: int = 160) -> str:
    """Return a text of any length, as a run's reason may be, for a line of at most that width."""
    return visible(fitted(text, most))


def fitted(text: str, most: int) -> str:
    """Return the text in at most so many columns, what is too much left out of its middle."""
    if len(text) <= most and cells(text) <= most:
        return text
    head = (most - 1) - (most - 1) // 2
    return f"{_start(text, head)}\N{HORIZONTAL ELLIPSIS}{_start(text[::-1], most - 1 - head)[::-1]}"


def _start(text: str, most: int) -> str:
    """Return the longest beginning of a longer text that takes at most so many columns.

    Marks that take none count all the same: there may be very many of them.
    """
    end = 0
    while most >= (taken := max(_cells(text[end]), 1)):
        most -= taken
        end += 1
    return text[:end]
