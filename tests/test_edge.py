"""Edge: a pair of names that may carry a condition, and what is refused as one."""

import copy
import functools
import pickle
import re
from collections.abc import AsyncIterator, Callable, Iterator
from enum import StrEnum
from typing import Any

import pytest

from dagron import DAG, CycleError, DynamicModification
from dagron._edge import Edge, condition_of
from dagron._errors import DuplicateEdgeError
from machine import dag, no, yes


class Stage(StrEnum):
    LOAD = "load"


class Threshold:
    """A condition that is an object."""

    def __call__(self, result: object) -> bool:
        return True


class AsyncThreshold:
    async def __call__(self, result: object) -> bool:
        return True


async def later(result: object) -> bool:
    return True


def one_by_one(result: object) -> Iterator[bool]:
    yield True


async def one_by_one_later(result: object) -> AsyncIterator[bool]:
    yield True


def test_an_edge_is_a_pair() -> None:
    """An Edge is a tuple of source and target, equal to it, and to an Edge with any condition."""
    edge = Edge("a", "b", yes)
    assert edge == ("a", "b") == Edge("a", "b") == Edge("a", "b", condition=no)
    assert hash(edge) == hash(("a", "b"))
    assert edge != ("b", "a")
    assert (edge.source, edge.target, edge.condition) == ("a", "b", yes)
    source, target = edge
    assert [source, target] == [edge[0], edge[1]] == [*edge]
    assert edge in {("a", "b")}
    assert Edge("a", "b").condition is None


def test_the_ends_of_an_edge_are_plain_str() -> None:
    """A member of a StrEnum stands for its text."""
    edge = Edge(Stage.LOAD, Stage.LOAD)
    assert [type(end) for end in edge] == [str, str]
    assert edge == ("load", "load")


def test_an_edge_shows_itself_as_typed() -> None:
    """The repr of an Edge leaves the condition out where there is none."""
    assert repr(Edge("a", "b")) == "Edge('a', 'b')"
    assert repr(Edge("a", "b", len)) == "Edge('a', 'b', condition=<built-in function len>)"


def test_an_edge_is_frozen() -> None:
    """Neither its condition nor anything else about an Edge can be set or deleted."""
    edge: Any = Edge("a", "b", yes)
    for change in (
        lambda: setattr(edge, "condition", no),
        lambda: setattr(edge, "source", "c"),
        lambda: setattr(edge, "extra", 1),
        lambda: delattr(edge, "condition"),
    ):
        with pytest.raises(AttributeError, match="an Edge is frozen: make a new one instead"):
            change()
    assert edge.condition is yes


@pytest.mark.parametrize("edge", [Edge("a", "b"), Edge("a", "b", yes)])
def test_an_edge_can_be_pickled(edge: Edge) -> None:
    """An Edge survives pickling by every protocol, and copying, with its condition."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(edge, protocol))
        assert type(again) is Edge
        assert again == edge
        assert again.condition is edge.condition
    for again in (copy.copy(edge), copy.deepcopy(edge)):
        assert (again, again.condition) == (edge, edge.condition)


def test_the_condition_of_any_pair() -> None:
    """`condition_of` tells the condition of an Edge, also of a subclass; a bare pair has none."""

    class Weighted(Edge):
        pass

    assert condition_of(("a", "b")) is condition_of(Edge("a", "b")) is None
    assert condition_of(Edge("a", "b", yes)) is yes
    [kept] = DynamicModification(add_edges=[Weighted("a", "b", yes)]).add_edges
    assert condition_of(kept) is yes


@pytest.mark.parametrize(
    "condition",
    [yes, lambda result: result, len, bool, Threshold(), functools.partial(yes), "abc".startswith],
)
def test_anything_that_is_called_plainly_is_a_condition(condition: Callable[..., object]) -> None:
    """A function, a lambda, a type, an object with `__call__`, a partial, a bound method."""
    assert Edge("a", "b", condition).condition is condition
    graph = DAG.builder().add_edge("a", "b", condition=condition).build()
    assert graph.condition("a", "b") is condition


WHERE = "the condition on the edge from 'a' to 'b' is "
REFUSED = [
    (5, "5, which cannot be called"),
    ("done", "'done', which cannot be called"),
    (True, "True, which cannot be called"),
    (later, "an async function"),
    (functools.partial(later), "an async function"),
    (AsyncThreshold(), "an async function"),
    (one_by_one, "a generator function"),
    (one_by_one_later, "an async generator function"),
]


@pytest.mark.parametrize(("condition", "message"), REFUSED)
def test_what_cannot_answer_is_no_condition(condition: Any, message: str) -> None:
    """What cannot be called, or whose code would not run, is refused; the error names the edge."""
    for make in (
        lambda: Edge("a", "b", condition),
        lambda: DAG.builder().add_edge("a", "b", condition=condition),
    ):
        with pytest.raises(TypeError) as caught:
            make()
        first, _, rest = str(caught.value).partition("\n")
        assert first == WHERE + message
        assert re.fullmatch(r"  help: \S.*", rest)
        assert len(first) < 100


def test_the_help_for_a_condition_can_be_typed() -> None:
    """The help says what a condition is, or who else could find out."""
    with pytest.raises(TypeError, match="help: give a function of the source's result: condition="):
        Edge("a", "b", 5)
    with pytest.raises(TypeError, match="help: let the node 'a' find out, and return it in its re"):
        Edge("a", "b", later)


@pytest.mark.parametrize("end", [5, None, b"a", ("a",)])
def test_an_end_that_is_no_name(end: Any) -> None:
    """An Edge is between two names: anything else is a TypeError that shows how to write one."""
    for ends in ((end, "b"), ("a", end)):
        with pytest.raises(TypeError) as caught:
            Edge(*ends)
        assert str(caught.value) == (
            f"an edge is between two node names, not {type(end).__name__}: {end!r}\n"
            f"  help: write dagron.Edge('a', 'b'): 'b' waits for 'a'"
        )


# --- edges of a graph ----------------------------------------------------------------------------


def test_a_graph_keeps_conditions() -> None:
    """`add_edge` takes a condition; `condition` and `edges` give it back."""
    graph = DAG.builder().add_edge("a", "b", condition=yes).add_edge("a", "c").build()
    assert graph.condition("a", "b") is yes
    assert graph.condition("a", "c") is graph.condition("b", "a") is None
    assert graph.edges() == [("a", "b"), ("a", "c")]
    assert [condition_of(edge) for edge in graph.edges()] == [yes, None]
    assert [type(edge) for edge in graph.edges()] == [Edge, tuple]


def test_the_condition_of_an_edge_between_strangers() -> None:
    """Asking for the condition between names that are no nodes is an UnknownNodeError."""
    graph = dag(Edge("alpha", "beta", yes))
    for ends in (("alpa", "beta"), ("alpha", "bet")):
        with pytest.raises(KeyError, match=r"there is no node '.*\n  help: did you mean '"):
            graph.condition(*ends)


def test_an_edge_may_be_repeated_with_its_condition() -> None:
    """A repeat with the same condition counts once, as a repeat without one does."""
    builder = DAG.builder()
    for _ in range(2):
        builder.add_edge("a", "b", condition=yes).add_edge("b", "c")
    assert builder.build().edge_count() == 2


@pytest.mark.parametrize(("first", "second"), [(yes, no), (yes, None), (None, yes)])
def test_an_edge_has_one_condition(first: Any, second: Any) -> None:
    """A repeat with another condition is a DuplicateEdgeError, and changes nothing."""
    builder = DAG.builder().add_edge("a", "b", condition=first)
    with pytest.raises(DuplicateEdgeError) as caught:
        builder.add_edge("a", "b", condition=second)
    assert caught.value.edge == ("a", "b")
    assert isinstance(caught.value, ValueError)
    assert str(caught.value) == (
        "the edge from 'a' to 'b' was added before, with another condition\n"
        "  help: join them: condition=lambda result: ... and ..."
    )
    assert builder.build().condition("a", "b") is first


def test_a_condition_makes_no_cycle_legal() -> None:
    """A cycle is one whatever the conditions on its edges."""
    with pytest.raises(CycleError, match="node 'a' depends on itself"):
        DAG.builder().add_edge("a", "a", condition=no)
    with pytest.raises(CycleError, match="'a' -> 'b' -> 'a'"):
        dag(Edge("a", "b", no), ("b", "a"))
