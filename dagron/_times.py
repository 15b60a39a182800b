"""When things happened in a run, as far as the results of its nodes do not say it."""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from dagron._history import RECORDED

# From when to when, by the wall clock: in seconds since the epoch.
Span: TypeAlias = tuple[float, float]


class Landing(NamedTuple):
    """A modification that landed, and when.

    ``by`` names the node that made it, and is None for one from outside. ``goes_on`` says that the
    node's expander went on, so that what it added had not to wait for its end.
    """

    version: int
    time: float
    by: str | None
    added: int
    removed: int
    goes_on: bool


class Times:
    """When a run ``began``, when its last modifications landed, how long nodes were at work.

    ``attempts`` has all attempts of the nodes that had more than one; where it is not known when
    each of them was, one span from the first to the last. ``ended`` says of nodes that
    went on after their tasks, with an expander or a fold, when they were done; what was forgotten
    is in neither.
    """

    __slots__ = ("attempts", "began", "ended", "landings")

    def __init__(self, began: float | None = None) -> None:
        self.began = began
        self.landings: deque[Landing] = deque(maxlen=RECORDED)
        self.attempts: dict[str, tuple[Span, ...]] = {}
        self.ended: dict[str, float] = {}

    def forget(self, name: str) -> None:
        """Let go of what is known of a node."""
        self.attempts.pop(name, None)
        self.ended.pop(name, None)


def spans_of(
    began: float, earlier: Iterable[tuple[float, float]], seconds: float
) -> tuple[Span, ...]:
    """Return when each attempt began and ended.

    ``earlier`` says of each but the last how long it took, and when the next one began;
    ``seconds`` is how long all took together.
    """
    spans = []
    for took, again in earlier:
        spans.append((began, began + took))
        seconds -= took
        began = again
    spans.append((began, began + max(seconds, 0.0)))
    return tuple(spans)
