"""What the examples show on the terminal, and what they read from its command line."""

import argparse
from math import inf


def visible(text: object) -> str:
    """Return the text with escapes for what a terminal or a page would act upon, and line ends."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a whole number from 0 on, not {text!r}")
    return int(text)


def positive(text: str) -> int:
    if natural(text) == 0:
        raise argparse.ArgumentTypeError("a whole number from 1 on, not '0'")
    return int(text)


def seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < inf:
        raise argparse.ArgumentTypeError(f"a number above 0, not {text!r}")
    return number
