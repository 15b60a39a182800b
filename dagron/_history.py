"""What modifications changed: enough to tell what the graph was after each of them."""

from collections import deque
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import NamedTuple, TypeAlias

from dagron._graph import DAG

# The changes that are kept, the last ones: a picture has room for less, and a run may rewire
# without end. What a plain expander returns, nodes with their edges, needs none of them.
RECORDED = 10_000


class How(Enum):
    """What was done to an edge between nodes that were there before."""

    ADDED = "added"
    REMOVED = "removed"
    TAKEN_OUT = "taken out"  # with one of its nodes


class EdgeChange(NamedTuple):
    """An edge that came or went, but for those that come with a new node."""

    version: int
    source: str
    target: str
    how: How
    has_condition: bool


class Removal(NamedTuple):
    """A node that was removed by another one, or from outside, before it had started.

    ``added_by`` and ``added_in`` say who had added it, and with which modification.
    """

    version: int
    name: str
    by: str | None
    added_by: str | None
    added_in: int


Change: TypeAlias = EdgeChange | Removal

# How many expansions deep a node was added, and with which modification: one for all of it.
Origin: TypeAlias = tuple[int, int]
INITIAL: Origin = (0, 0)


class History:
    """How a graph came to be what it is: ``version`` modifications after ``before``.

    ``origins`` has the nodes that were added while it ran and are still there, ``changes`` the last
    of what else was changed, in the order in which it happened.
    """

    __slots__ = ("before", "changes", "origins", "version")

    def __init__(
        self,
        before: DAG,
        version: int = 0,
        origins: Mapping[str, Origin] | None = None,
        changes: Sequence[Change] = (),
    ) -> None:
        self.before = before
        self.version = version
        self.origins = origins or {}
        self.changes = changes

    def added_in(self, name: str) -> int:
        """Return which modification added a node that is still there; 0 for an initial one."""
        return self.origins.get(name, INITIAL)[1]

    def earliest(self) -> int:
        """Return the first version, besides 0, of which all is known."""
        return self.changes[0].version if len(self.changes) == RECORDED else 0


def new_changes() -> deque[Change]:
    """Return an empty record, which never holds more than the last changes."""
    return deque(maxlen=RECORDED)
