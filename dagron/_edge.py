"""Edge: a pair of names, with the condition under which it is taken."""

from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias

from dagron._checks import unplain_kind

Condition: TypeAlias = Callable[[Any], object]  # of the source's result; its truth counts


class Edge(tuple[str, str]):
    """An edge ``(source, target)`` with an optional condition.

    It equals the bare pair: a condition, being code, has no identity that could be compared.
    ``condition`` is a plain function of the source's result, called in the event loop when the
    source has completed; where its answer is false the edge is inactive, as if it were not there.

    Raises `TypeError` for a condition that cannot be called, and for an ``async def``.
    """

    condition: Condition | None

    def __new__(cls, source: str, target: str, condition: Condition | None = None) -> "Edge":
        for end in (source, target):
            if not isinstance(end, str):
                raise TypeError(
                    f"an edge is between two node names, not {type(end).__name__}: {end!r:.60}\n"
                    f"  help: write dagron.Edge('a', 'b'): 'b' waits for 'a'"
                )
        edge = super().__new__(cls, (str.__str__(source), str.__str__(target)))
        edge.__dict__["condition"] = checked_condition(condition, source, target)
        return edge

    @property
    def source(self) -> str:
        """The node that the target waits for."""
        return self[0]

    @property
    def target(self) -> str:
        """The node that waits for the source."""
        return self[1]

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("an Edge is frozen: make a new one instead")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("an Edge is frozen: make a new one instead")

    def __getnewargs__(self) -> tuple[Any, ...]:
        return (self[0], self[1], self.condition)

    def __reduce__(self) -> tuple[Any, ...]:
        return Edge, self.__getnewargs__()

    def __repr__(self) -> str:
        condition = "" if self.condition is None else f", condition={self.condition!r}"
        return f"Edge({self[0]!r}, {self[1]!r}{condition})"


def checked_condition(condition: object, source: str, target: str) -> Any:
    """Return a condition or None as it is, or refuse it."""
    if condition is None:
        return None
    where = f"the condition on the edge from {source!r:.60} to {target!r:.60}"
    if not callable(condition):
        raise TypeError(
            f"{where} is {condition!r:.60}, which cannot be called\n"
            f"  help: give a function of the source's result: condition=lambda result: ..."
        )
    kind = unplain_kind(condition)
    if kind is not None:
        raise TypeError(
            f"{where} is {kind}\n"
            f"  help: let the node {source!r:.60} find out, and return it in its result"
        )
    return condition


def condition_of(edge: tuple[str, str]) -> Condition | None:
    """Return the condition of an edge that may be a bare pair."""
    return edge.condition if isinstance(edge, Edge) else None
