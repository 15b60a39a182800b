"""Why a node was skipped or cancelled, in words that name the node to blame."""

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple


class Why(Enum):
    """What happened to the node, or the edge, that is to blame."""

    FAILED = "skipped because {node!r} failed"
    CANCELLED = "skipped because {node!r} was cancelled"
    CONDITION = "skipped by condition: the edge from {node!r} to {other!r} is inactive"
    TRIGGER = "skipped because too few dependencies of {node!r} succeeded: {other}"
    ORPHAN = "cancelled because {node!r}, which had added it, did not complete"
    REQUEST = "cancelled by {node!r}"
    OUTSIDE = "cancelled by the program, through the run's handle"


class Blame(NamedTuple):
    """Why, and who."""

    why: Why
    node: str = ""
    other: str = ""

    def __str__(self) -> str:
        return self.why.value.format(node=self.node, other=self.other)


def blame_of(row: Sequence[str]) -> Blame:
    """Return a blame from JSON."""
    why, node, other = row
    return Blame(Why[why], node, other)


def blame_row(blame: Blame) -> list[str]:
    """Return a blame for JSON."""
    return [blame.why.name, blame.node, blame.other]


def ended_by(name: str) -> str:
    """Return why a run has ended before all its nodes had, that was to end at the first failure."""
    return f"the run was ended because {name!r} failed"
