"""DAG and its builder: a graph value, what it refuses, and the questions that it answers."""

import copy
import enum
import pickle
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dagron import (
    DAG,
    CycleError,
    DuplicateNodeError,
    DynamicModification,
    GraphDiff,
    GraphError,
    InvalidNameError,
    UnknownNodeError,
)
from dagron._edge import Edge
from dagron._policy import NodePolicy, all_done
from machine import adding, chain, dag, is_cyclic, naive_order, no, spec, yes

LONG = 100_000

fixed = settings(
    derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture
def default_recursion_limit() -> Iterator[None]:
    """Python's default, whatever a test tool has made of it."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000)
    yield
    sys.setrecursionlimit(limit)


@pytest.fixture(scope="module")
def long_chain() -> DAG:
    return chain(LONG)


@pytest.fixture
def diamond() -> DAG:
    return dag(("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"))


# --- graphs at random, and the naive answers -----------------------------------------------------


@st.composite
def digraphs(draw: st.DrawFn, acyclic: bool = True) -> tuple[list[str], list[tuple[str, str]]]:
    """Nodes in insertion order, and edges that run forward in some other order."""
    names = [f"n{i}" for i in range(draw(st.integers(0, 8)))]
    pairs = [
        (a, b) for i, a in enumerate(names) for j, b in enumerate(names) if i < j or not acyclic
    ]
    edges = draw(st.lists(st.sampled_from(pairs), max_size=12)) if pairs else []
    return draw(st.permutations(names)), edges


def built(nodes: list[str], edges: list[tuple[str, str]]) -> DAG:
    return dag(*nodes, *edges)


def naive_ancestors(name: str, edges: list[tuple[str, str]]) -> set[str]:
    """Everything before the name, found by walking all edges until nothing is new."""
    found = {name}
    while more := {a for a, b in edges if b in found} - found:
        found |= more
    return found - {name}


def naive_level(name: str, edges: list[tuple[str, str]]) -> int:
    """The number of edges of the longest path to the name."""
    return max((1 + naive_level(a, edges) for a, b in edges if b == name), default=0)


# --- the builder ---------------------------------------------------------------------------------


def test_the_builder_chains() -> None:
    """S1: `add_node` and `add_edge` chain, and `build` returns a DAG."""
    graph = (
        DAG.builder().add_node("discover").add_node("merge").add_edge("discover", "merge").build()
    )
    assert isinstance(graph, DAG)
    assert graph.nodes() == ["discover", "merge"]
    assert graph.edges() == [("discover", "merge")]


def test_an_edge_brings_its_nodes() -> None:
    """S22: a DAG built from `add_edge` alone has the nodes that the edges name, as they come."""
    assert dag(("b", "a"), ("b", "c")).nodes() == ["b", "a", "c"]


def test_a_node_may_be_named_by_an_edge_first() -> None:
    """A node that only an edge has named may be added once, and keeps its place."""
    graph = DAG.builder().add_edge("a", "b").add_node("b").add_node("c").build()
    assert graph.nodes() == ["a", "b", "c"]


@pytest.mark.parametrize(
    "builder",
    [
        DAG.builder().add_node("a"),
        DAG.builder().add_edge("a", "b").add_node("a"),
        DAG.builder().add_node("a").add_edge("a", "b"),
        dag(("a", "b")).to_builder(),
    ],
)
def test_an_explicit_node_is_added_once(builder: "object") -> None:
    """Adding an explicit node again is a DuplicateNodeError that names it and says what to do."""
    with pytest.raises(DuplicateNodeError, match=r"node 'a' was added before\n  help: ") as caught:
        builder.add_node("a")
    assert caught.value.name == "a"


def test_a_repeated_edge_counts_once() -> None:
    """An edge that is added twice is one edge, among one dependent or several."""
    graph = dag(("a", "b"), ("a", "b"), ("a", "c"), ("a", "b"), ("a", "c"))
    assert graph.edges() == [("a", "b"), ("a", "c")]
    assert graph.edge_count() == 2
    assert graph.dependencies("b") == ["a"]


def test_an_edge_to_itself_is_a_cycle() -> None:
    """An edge from a node to itself is refused at once, and the builder goes on without it."""
    builder = DAG.builder().add_node("a")
    with pytest.raises(CycleError, match="node 'a' depends on itself") as caught:
        builder.add_edge("a", "a")
    assert caught.value.cycle == ["a", "a"]
    with pytest.raises(CycleError):
        builder.add_edge("fresh", "fresh")
    assert builder.build().nodes() == ["a"]


def test_a_cycle_is_refused_with_its_path() -> None:
    """A cycle is a CycleError whose `cycle` lists the nodes in edge order, the first again last."""
    builder = DAG.builder()
    for edge in [("x", "a"), ("a", "b"), ("b", "c"), ("c", "a"), ("c", "y")]:
        builder.add_edge(*edge)
    with pytest.raises(CycleError) as caught:
        builder.build()
    assert caught.value.cycle == ["a", "b", "c", "a"]
    assert isinstance(caught.value.cycle, list)
    assert str(caught.value) == (
        "3 nodes wait for each other in a cycle\n"
        "  'a' -> 'b' -> 'c' -> 'a'\n"
        "  help: remove one of these edges"
    )


@settings(fixed, max_examples=150)
@given(digraphs(acyclic=False))
def test_exactly_cyclic_graphs_are_refused(
    digraph: tuple[list[str], list[tuple[str, str]]],
) -> None:
    """`build` raises CycleError just when the edges form a cycle, and names one that is there."""
    nodes, edges = digraph
    if not is_cyclic(nodes, edges):
        assert built(nodes, edges).node_count() == len(nodes)
        return
    with pytest.raises(CycleError) as caught:
        built(nodes, edges)
    cycle = caught.value.cycle
    assert cycle[0] == cycle[-1]
    assert len(set(cycle)) == len(cycle) - 1 >= 1
    assert set(pairwise(cycle)) <= set(edges)


def test_a_ring_of_100_000_is_refused(default_recursion_limit: None) -> None:
    """E19: a ring of 100,000 nodes is a CycleError with all of them, in a text that can be read."""
    builder = DAG.builder()
    for n in range(LONG):
        builder.add_edge(str(n), str((n + 1) % LONG))
    with pytest.raises(CycleError) as caught:
        builder.build()
    assert len(caught.value.cycle) == LONG + 1
    assert len(set(caught.value.cycle)) == LONG
    assert "100,000 nodes wait for each other in a cycle\n" in str(caught.value)
    assert "-> ... ->" in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_builder_can_be_used_further() -> None:
    """What is added to a builder after `build` changes no graph that was built before."""
    builder = DAG.builder().add_edge("a", "b").add_edge("a", "c")
    before = builder.build()
    after = builder.add_edge("b", "c").add_edge("c", "d").build()
    assert before == dag(("a", "b"), ("a", "c"))
    assert after.edges() == [("a", "b"), ("a", "c"), ("b", "c"), ("c", "d")]
    assert builder.build() == after


def test_a_builder_says_how_large_it_is() -> None:
    """The repr of a builder tells the number of its nodes."""
    assert repr(DAG.builder().add_edge("a", "b")) == "<DAGBuilder: 2 nodes>"


@pytest.mark.parametrize("name", [1, None, b"a", ("a",), ["a"], {"a": 1}])
@pytest.mark.parametrize("place", ["node", "source", "target"])
def test_a_name_is_a_string(name: object, place: str) -> None:
    """A node or the end of an edge that is no str is a TypeError that says so."""
    builder = DAG.builder().add_node("known")
    with pytest.raises(TypeError, match=f"a node name is a str, not {type(name).__name__}: "):
        match place:
            case "node":
                builder.add_node(name)
            case "source":
                builder.add_edge(name, "known")
            case "target":
                builder.add_edge("known", name)
    assert builder.build().nodes() == ["known"]


@pytest.mark.parametrize("name", ["", "x" * 513, "a\nb", "\ud800"])
def test_a_name_is_checked_wherever_it_comes_in(name: str) -> None:
    """E21: `add_node` and both ends of `add_edge` refuse an impossible name, and add nothing."""
    builder = DAG.builder()
    for add in (
        lambda: builder.add_node(name),
        lambda: builder.add_edge(name, "fine"),
        lambda: builder.add_edge("fine", name),
    ):
        with pytest.raises(InvalidNameError) as caught:
            add()
        assert caught.value.name == name
    assert len(builder.build()) == 0


class Stage(enum.StrEnum):
    LOAD = "load"
    STORE = "store"


def test_a_name_is_a_plain_str() -> None:
    """Members of a StrEnum may stand for names; what the graph holds and gives is plain str."""
    mixed = DAG.builder().add_node("load").add_edge(Stage.LOAD, Stage.STORE)
    graph = mixed.add_edge(Stage.STORE, "end").add_edge(Stage.LOAD, "end").build()
    graph = graph.apply(adding(spec("extra", Stage.LOAD, to=[Stage.STORE])))
    seen = [*graph.nodes(), *graph.topological_order(), *graph.ancestors("end")]
    seen += [end for edge in graph.edges() for end in edge]
    seen += [source for name in graph for source in graph.dependencies(name)]
    seen += [target for name in graph for target in graph.dependents(name)]
    assert {type(name) for name in seen} == {str}


# --- questions -----------------------------------------------------------------------------------


def test_a_graph_answers(diamond: DAG) -> None:
    """Counts, membership, nodes, edges and neighbours are what was built, in that order."""
    assert diamond.node_count() == len(diamond) == 4
    assert diamond.edge_count() == 4
    assert diamond.nodes() == list(diamond) == ["a", "b", "c", "d"]
    assert diamond.edges() == [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]
    assert "a" in diamond
    assert "e" not in diamond
    assert diamond.dependencies("d") == ["b", "c"]
    assert diamond.dependents("a") == ["b", "c"]
    assert diamond.dependencies("a") == diamond.dependents("d") == []
    assert diamond.ancestors("d") == ["a", "b", "c"]
    assert diamond.descendants("a") == ["b", "c", "d"]
    assert diamond.ancestors("a") == diamond.descendants("d") == []
    assert diamond.roots() == ["a"]
    assert diamond.leaves() == ["d"]
    assert diamond.levels() == [["a"], ["b", "c"], ["d"]]


def test_an_empty_graph_answers() -> None:
    """An empty graph is a graph: true, without nodes, edges and levels."""
    empty = DAG.builder().build()
    assert empty
    assert empty == DAG()
    assert len(empty) == empty.node_count() == empty.edge_count() == 0
    assert empty.nodes() == empty.edges() == empty.roots() == empty.leaves() == []
    assert empty.topological_order() == empty.levels() == empty.match("*") == list(empty) == []
    assert repr(empty) == "<DAG: 0 nodes, 0 edges>"


@pytest.mark.parametrize("stranger", [None, 5, b"a", ["a"], ("a", "b")])
def test_what_is_no_name_is_not_in_a_graph(diamond: DAG, stranger: object) -> None:
    """`in` is False for anything but a str, also for what cannot be hashed."""
    assert stranger not in diamond


@pytest.mark.parametrize("question", ["dependencies", "dependents", "ancestors", "descendants"])
def test_an_unknown_name_gives_close_ones(question: str) -> None:
    """A question about a node that is not there is an UnknownNodeError with close names."""
    graph = dag("process_users", "process_orders", "merge")
    with pytest.raises(UnknownNodeError) as caught:
        getattr(graph, question)("proces_users")
    error = caught.value
    assert isinstance(error, KeyError)
    assert isinstance(error, GraphError)
    assert error.name == "proces_users"
    assert error.close[0] == "process_users"
    assert str(error).startswith("there is no node 'proces_users'\n  help: did you mean 'process_u")


@pytest.mark.parametrize("question", ["dependencies", "dependents", "ancestors", "descendants"])
@pytest.mark.parametrize("stranger", [None, 5, ["a"]])
def test_what_is_no_name_is_unknown(diamond: DAG, question: str, stranger: object) -> None:
    """A question about something that is no str is an UnknownNodeError as well."""
    with pytest.raises(UnknownNodeError, match="there is no node"):
        getattr(diamond, question)(stranger)


def test_without_close_names_the_help_lists_some() -> None:
    """Where nothing is close, the help shows what the graph has; an empty one has no nodes."""
    graph = dag("a", "b", "c", "d", "e", "f", "g")
    with pytest.raises(UnknownNodeError, match="the graph has 'a', 'b', 'c', 'd', 'e' and 2 more"):
        graph.ancestors("zzz")
    with pytest.raises(UnknownNodeError, match="the graph has no nodes"):
        DAG().ancestors("a")


@settings(fixed, max_examples=150)
@given(digraphs())
def test_answers_agree_with_naive_ones(digraph: tuple[list[str], list[tuple[str, str]]]) -> None:
    """Order, levels, reachability and neighbours equal what a walk over all edges finds."""
    nodes, edges = digraph
    graph = built(nodes, edges)
    rank = {name: position for position, name in enumerate(nodes)}
    order = naive_order(rank, edges)
    assert graph.topological_order() == order
    assert graph.nodes() == nodes
    assert sorted(graph.edges()) == sorted(set(edges))
    assert graph.edge_count() == len(set(edges))
    levels = [naive_level(name, edges) for name in order]
    assert graph.levels() == [
        [name for name, level in zip(order, levels, strict=True) if level == depth]
        for depth in range(max(levels, default=-1) + 1)
    ]
    for name in nodes:
        before = naive_ancestors(name, edges)
        assert graph.ancestors(name) == [other for other in order if other in before]
        after = naive_ancestors(name, [(b, a) for a, b in edges])
        assert graph.descendants(name) == [other for other in order if other in after]
        assert graph.dependencies(name) == list(dict.fromkeys(a for a, b in edges if b == name))
        assert graph.dependents(name) == list(dict.fromkeys(b for a, b in edges if a == name))
    assert graph.roots() == [name for name in nodes if not graph.dependencies(name)]
    assert graph.leaves() == [name for name in nodes if not graph.dependents(name)]


LISTS: Mapping[str, Callable[[DAG], list[object]]] = {
    "nodes": lambda graph: graph.nodes(),
    "edges": lambda graph: graph.edges(),
    "dependencies": lambda graph: graph.dependencies("d"),
    "dependents": lambda graph: graph.dependents("a"),
    "ancestors": lambda graph: graph.ancestors("d"),
    "descendants": lambda graph: graph.descendants("a"),
    "roots": lambda graph: graph.roots(),
    "leaves": lambda graph: graph.leaves(),
    "topological_order": lambda graph: graph.topological_order(),
    "levels": lambda graph: graph.levels(),
    "a level": lambda graph: graph.levels()[0],
    "match": lambda graph: graph.match("*"),
    "match_regex": lambda graph: graph.match_regex(".*"),
}


@pytest.mark.parametrize("question", LISTS)
def test_a_list_is_the_callers_own(diamond: DAG, question: str) -> None:
    """What a caller does to a list that a graph gave changes nothing in the graph."""
    before = {other: ask(diamond) for other, ask in LISTS.items()}
    given_out = LISTS[question](diamond)
    given_out.append("x")
    given_out.reverse()
    assert {other: ask(diamond) for other, ask in LISTS.items()} == before
    assert "x" not in diamond


# --- patterns ------------------------------------------------------------------------------------


def test_match_finds_names_by_shell_pattern() -> None:
    """`match` takes a shell pattern that fits the whole name, by case, in node order."""
    graph = dag("process_b", "process_a", "Process_c", "preprocess_a", "process.d", "process_")
    assert graph.match("process_*") == ["process_b", "process_a", "process_"]
    assert graph.match("process?d") == ["process.d"]
    assert graph.match("process_[ab]") == ["process_b", "process_a"]
    assert graph.match("process") == []


def test_match_regex_finds_names_by_regular_expression() -> None:
    """`match_regex` takes a regular expression that fits the whole name."""
    graph = dag("process_b", "process_a", "preprocess_a", "process_a\u2028x")
    assert graph.match_regex(r"process_.*") == ["process_b", "process_a", "process_a\u2028x"]
    assert graph.match_regex(r"process_a") == ["process_a"]
    assert graph.match_regex(r"(?i)PROCESS_A|.*b") == ["process_b", "process_a"]
    with pytest.raises(re.error):
        graph.match_regex("(")


def test_patterns_find_added_nodes() -> None:
    """S30: `match` and `match_regex` find the nodes that were added at run time."""
    graph = dag(("discover", "merge")).apply(
        adding(*(spec(f"process_{name}", "discover", to=["merge"]) for name in "ab")), by="discover"
    )
    assert (
        graph.match("process_*") == graph.match_regex(r"process_.*") == ["process_a", "process_b"]
    )


# --- the order -----------------------------------------------------------------------------------


def test_the_order_takes_the_smallest_rank_that_is_free() -> None:
    """`topological_order` is Kahn's: of the nodes that may go, the one that was inserted first."""
    graph = dag("d", "c", "b", "a", ("a", "c"), ("b", "d"))
    assert graph.topological_order() == ["b", "d", "a", "c"]


def test_added_nodes_rank_under_the_node_that_added_them() -> None:
    """S8: nodes that `discover` adds come after it, before its next sibling, as it named them."""
    graph = dag(("discover", "merge")).apply(
        adding(*(spec(f"process_{name}_csv", "discover", to=["merge"]) for name in "abc")),
        by="discover",
    )
    assert graph.topological_order() == [
        "discover",
        "process_a_csv",
        "process_b_csv",
        "process_c_csv",
        "merge",
    ]


def test_the_order_of_chained_expansion() -> None:
    """S20: a node that an added node adds ranks under that one."""
    graph = dag(("level_0", "final"))
    graph = graph.apply(adding(spec("level_1", "level_0", to=["final"])), by="level_0")
    graph = graph.apply(
        adding(*(spec(f"level_2_sub_{x}", "level_1", to=["final"]) for x in "ab")), by="level_1"
    )
    order = ["level_0", "level_1", "level_2_sub_a", "level_2_sub_b", "final"]
    assert graph.topological_order() == order


def test_the_order_does_not_depend_on_which_expander_landed_first() -> None:
    """Two expanders, landing in either order, give one topological order."""
    start = dag("x", "y", "z", "end", ("x", "end"), ("y", "end"))
    by_x = adding(spec("x1", "x", to=["end"]), spec("x0", "x", to=["end"]))
    by_y = adding(spec("y0", "y"), spec("y1", "x", to=["end"]))
    one = start.apply(by_x, by="x").apply(by_y, by="y")
    other = start.apply(by_y, by="y").apply(by_x, by="x")
    assert one == other
    assert one.nodes() != other.nodes()
    order = ["x", "x1", "x0", "y", "y0", "y1", "z", "end"]
    assert one.topological_order() == other.topological_order() == order


def test_nodes_from_outside_rank_last() -> None:
    """Nodes that no expander added rank after the initial ones, in landing order."""
    graph = dag("a", "z").apply(adding(spec("outside_1"))).apply(adding(spec("outside_0")))
    graph = graph.apply(adding(spec("under_a")), by="a")
    assert graph.topological_order() == ["a", "under_a", "z", "outside_1", "outside_0"]


def test_a_node_whose_adder_is_gone_ranks_by_insertion() -> None:
    """When the node that added it was removed, a node ranks among those that nobody added."""
    graph = dag("a", "z").apply(adding(spec("child")), by="a")
    graph = graph.apply(DynamicModification(remove_nodes=["a"]))
    assert graph.topological_order() == ["z", "child"]


def test_a_dependency_goes_before_rank() -> None:
    """Rank decides among free nodes only: a node that waits comes after what it waits for."""
    graph = dag("a", "b").apply(adding(spec("early", "b")), by="a")
    assert graph.topological_order() == ["a", "b", "early"]


# --- equality, difference, other graphs ----------------------------------------------------------


def test_equality_ignores_order() -> None:
    """Graphs are equal, and hash alike, when nodes and edges are the same, in whatever order."""
    one = dag("a", "b", ("a", "c"), ("b", "c"))
    other = dag(("b", "c"), ("a", "c"))
    assert one == other
    assert hash(one) == hash(other)
    assert len({one, other}) == 1


@pytest.mark.parametrize(
    "other",
    [
        dag(("a", "b")),
        dag("a", "b", "c"),
        dag(("a", "b"), ("a", "c")),
        dag(("a", "b"), ("c", "b"), "d"),
        dag(("a", "b"), ("c", "d")),
        "a graph",
        None,
    ],
)
def test_inequality(other: object) -> None:
    """Another node, another edge or another type makes the difference."""
    assert dag(("a", "b"), ("c", "b")) != other


def test_equality_looks_at_policies_and_not_at_conditions() -> None:
    """Graphs whose nodes are run in another way differ; conditions, being code, take no part."""
    policies = {"b": NodePolicy(priority=1)}
    assert dag("a", "b", policies=policies) == dag("b", "a", policies=dict(policies))
    assert dag("a", "b", policies=policies) != dag("a", "b")
    assert dag("a", "b", policies=policies) != dag("a", "b", policies={"b": NodePolicy()})
    assert dag("a", "b", policies=policies) != dag("a", "b", policies={"a": policies["b"]})
    one, other, plain = dag(Edge("a", "b", yes)), dag(Edge("a", "b", no)), dag(("a", "b"))
    assert one == other == plain
    assert hash(one) == hash(other) == hash(plain)


def test_the_difference_of_two_graphs() -> None:
    """`before.diff(after)` lists what came and what went, each in the order of its own graph."""
    before = dag("a", ("a", "b"), ("b", "c"), ("a", "c"), "x")
    after = dag("y", ("a", "z"), ("z", "c"), ("a", "c"))
    assert before.diff(after) == GraphDiff(
        added_nodes=["y", "z"],
        removed_nodes=["b", "x"],
        added_edges=[("a", "z"), ("z", "c")],
        removed_edges=[("a", "b"), ("b", "c")],
    )
    assert before.diff(after)
    assert not before.diff(before)


def test_a_difference_shows_conditions() -> None:
    """An edge that came or went is shown with its condition; a changed condition is none."""
    before, after = dag("a", "b", ("a", "c")), dag(Edge("a", "b", yes), Edge("a", "c", no))
    found = before.diff(after)
    assert repr(found.added_edges) == repr([Edge("a", "b", yes)])
    assert found.removed_edges == []
    assert repr(after.diff(before).removed_edges) == repr([Edge("a", "b", yes)])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (dag("a", "b"), dag("a", "b", "c")),
        (dag("a", "b"), dag("a")),
        (dag("a", "b"), dag(("a", "b"))),
        (dag(("a", "b")), dag("a", "b")),
    ],
)
def test_any_difference_counts(before: DAG, after: DAG) -> None:
    """A difference in nodes or in edges alone is a true GraphDiff."""
    assert before.diff(after)


@settings(fixed, max_examples=100)
@given(digraphs(), digraphs())
def test_the_difference_leads_from_one_graph_to_the_other(
    one: tuple[list[str], list[tuple[str, str]]], two: tuple[list[str], list[tuple[str, str]]]
) -> None:
    """Applied as a modification, the difference of two graphs makes the second out of the first."""
    before, after = built(*one), built(*two)
    found = before.diff(after)
    gone = {*found.removed_nodes}
    changed = before.apply(
        DynamicModification(
            [spec(name) for name in found.added_nodes],
            found.removed_nodes,
            add_edges=found.added_edges,
            remove_edges=[edge for edge in found.removed_edges if not gone & {*edge}],
        )
    )
    assert changed == after
    assert bool(found) == (before != after)


def test_a_builder_of_a_graph(diamond: DAG) -> None:
    """`to_builder` holds the graph, and adding to it leaves the graph alone."""
    builder = diamond.to_builder()
    assert builder.build() == diamond
    larger = builder.add_edge("a", "e").add_edge("d", "e").build()
    assert larger.dependencies("e") == ["a", "d"]
    assert larger.dependents("a") == ["b", "c", "e"]
    assert diamond == dag(("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"))


def test_a_builder_of_a_graph_keeps_its_order() -> None:
    """`to_builder` remembers who added whom, so the rebuilt graph has the same order."""
    graph = dag("a", "z").apply(adding(spec("under_a")), by="a")
    assert graph.to_builder().build().topological_order() == ["a", "under_a", "z"]


@pytest.fixture
def controlled() -> DAG:
    """A graph with a policy and a condition."""
    policies = {"clean": NodePolicy(trigger=all_done)}
    return dag("a", Edge("a", "b", yes), ("b", "clean"), ("a", "c"), policies=policies)


def control_of(graph: DAG) -> tuple[dict[str, object], dict[tuple[str, str], object]]:
    """The policies and the conditions of a graph, where there are any."""
    policies = {name: graph.policy(name) for name in graph if graph.policy(name) is not None}
    conditions = {edge: graph.condition(*edge) for edge in graph.edges()}
    return policies, {edge: found for edge, found in conditions.items() if found is not None}


def test_a_builder_of_a_graph_keeps_policies_and_conditions(controlled: DAG) -> None:
    """`to_builder` holds both, and what is added to it changes neither in the graph."""
    before = control_of(controlled)
    assert before == ({"clean": NodePolicy(trigger=all_done)}, {("a", "b"): yes})
    builder = controlled.to_builder()
    assert control_of(builder.build()) == before
    builder.add_node("d", policy=NodePolicy(priority=1)).add_edge("a", "d", condition=no)
    builder.add_edge("a", "b", condition=yes)
    larger = control_of(builder.build())
    assert larger[0] == before[0] | {"d": NodePolicy(priority=1)}
    assert larger[1] == {("a", "b"): yes, ("a", "d"): no}
    assert control_of(controlled) == before


def test_apply_keeps_policies_and_conditions(controlled: DAG) -> None:
    """What a modification leaves alone keeps both; the graph that it was applied to as well."""
    before = control_of(controlled)
    modification = DynamicModification(
        [spec("n", "a", policy=NodePolicy(priority=1))], add_edges=[Edge("n", "clean", no)]
    )
    policies, conditions = control_of(controlled.apply(modification, "a"))
    assert policies == before[0] | {"n": NodePolicy(priority=1)}
    assert conditions == {("a", "b"): yes, ("n", "clean"): no}
    assert control_of(controlled) == before


def test_apply_drops_what_belonged_to_what_is_removed(controlled: DAG) -> None:
    """A policy goes with its node, a condition with its edge or an end of it."""
    for modification in (
        DynamicModification(remove_nodes=["b", "clean"]),
        DynamicModification(remove_nodes=["a", "clean"]),
        DynamicModification(remove_nodes=["clean"], remove_edges=[("a", "b")]),
    ):
        assert control_of(controlled.apply(modification)) == ({}, {})
    assert len(control_of(controlled)[1]) == 1


# --- apply ---------------------------------------------------------------------------------------


def test_apply_returns_another_graph(diamond: DAG) -> None:
    """`apply` returns the changed graph; the one it was asked of stays as it was."""
    modification = DynamicModification(
        [spec("new", "a", to=["d"])],
        ["b"],
        add_edges=[("new", "c")],
        remove_edges=[("a", "c")],
    )
    changed = diamond.apply(modification)
    assert changed == dag(("a", "new"), ("new", "c"), ("new", "d"), ("c", "d"))
    assert diamond == dag(("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"))


def test_apply_of_nothing_changes_nothing(diamond: DAG) -> None:
    """S28: an empty modification changes nothing."""
    assert diamond.apply(DynamicModification(add_nodes=[], remove_nodes=[])) == diamond
    assert diamond.apply(DynamicModification(), by="a") == diamond


def test_apply_takes_what_an_expander_returns(diamond: DAG) -> None:
    """S28, S29: None gives an equal graph; what is no modification is a TypeError that says so."""
    assert diamond.apply(None) == diamond.apply(None, by="a") == diamond
    for wrong in ([], {}, False, spec("n")):
        with pytest.raises(
            TypeError, match=r"a modification is a dagron\.DynamicModification, not "
        ):
            diamond.apply(wrong)


def test_apply_replaces_a_placeholder() -> None:
    """S13: one modification removes a placeholder between two nodes and adds two in its place."""
    graph = dag(("upstream", "placeholder"), ("placeholder", "downstream"))
    implementations = [spec(name, "upstream", to=["downstream"]) for name in ("fast", "exact")]
    changed = graph.apply(DynamicModification(implementations, ["placeholder"]), by="upstream")
    assert changed.dependencies("downstream") == ["fast", "exact"]
    assert "placeholder" not in changed


def test_apply_by_an_unknown_node(diamond: DAG) -> None:
    """`by` names a node of the graph; another name is an UnknownNodeError with close names."""
    graph = dag("discover")
    with pytest.raises(UnknownNodeError, match="did you mean 'discover'"):
        graph.apply(DynamicModification(), by="discovr")


def test_a_failed_apply_changes_nothing(diamond: DAG) -> None:
    """When a modification is refused, the graph is what it was."""
    edges = diamond.edges()
    with pytest.raises(ValueError, match="was refused, nothing was changed"):
        diamond.apply(DynamicModification([spec("new", "ghost")], ["b"]))
    assert diamond.edges() == edges


# --- repr and pickling ---------------------------------------------------------------------------


def test_the_repr_counts(diamond: DAG) -> None:
    """The repr of a graph is one short line with its counts."""
    assert repr(diamond) == "<DAG: 4 nodes, 4 edges>"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_graph_can_be_pickled(protocol: int) -> None:
    """A graph survives pickling by every protocol: nodes, edges, order and who added whom."""
    graph = dag("z", "a", ("a", "m")).apply(adding(spec("under", "a", to=["m"])), by="a")
    again = pickle.loads(pickle.dumps(graph, protocol))
    assert again == graph
    assert again.nodes() == graph.nodes()
    assert again.edges() == graph.edges()
    assert again.topological_order() == graph.topological_order()
    later = again.apply(adding(spec("later")), by="a")
    assert later.topological_order() == ["z", "a", "under", "later", "m"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_policies_and_conditions_can_be_pickled(controlled: DAG, protocol: int) -> None:
    """A graph whose conditions are functions of a module survives pickling with both."""
    again = pickle.loads(pickle.dumps(controlled, protocol))
    assert again == controlled
    assert control_of(again) == control_of(controlled)
    for copied in (copy.copy(controlled), copy.deepcopy(controlled)):
        assert control_of(copied) == control_of(controlled)


def test_a_local_condition_cannot_be_pickled() -> None:
    """A lambda has no name to be found by: pickling such a graph fails, as of any such value."""
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(dag(Edge("a", "b", lambda result: True)))


def test_a_graph_can_be_copied(diamond: DAG) -> None:
    """`copy` and `deepcopy` give equal graphs."""
    assert copy.copy(diamond) == copy.deepcopy(diamond) == diamond


def test_chains_of_100_000(default_recursion_limit: None, long_chain: DAG) -> None:
    """E19: order, levels, reachability, equality, difference and repr need no recursion."""
    names = [str(n) for n in range(LONG)]
    assert long_chain.topological_order() == names
    assert long_chain.levels() == [[name] for name in names]
    assert long_chain.ancestors(names[-1]) == names[:-1]
    assert long_chain.descendants("0") == names[1:]
    assert repr(long_chain) == "<DAG: 100,000 nodes, 99,999 edges>"
    again = pickle.loads(pickle.dumps(long_chain))
    assert again == long_chain
    assert not long_chain.diff(again)
    assert long_chain.match_regex("9+") == ["9", "99", "999", "9999", "99999"]


def test_a_chain_against_its_insertion(default_recursion_limit: None) -> None:
    """E19: a chain of 100,000 whose nodes were inserted last first is ordered all the same."""
    names = [str(n) for n in range(LONG)]
    graph = dag(*reversed(names), *((str(n), str(n + 1)) for n in range(LONG - 1)))
    assert graph.topological_order() == names


def test_a_modification_of_a_long_chain(default_recursion_limit: None, long_chain: DAG) -> None:
    """E19: applying to a chain of 100,000, with a search through all of it, needs no recursion."""
    last = str(LONG - 1)
    changed = long_chain.apply(adding(spec("new", last)))
    assert changed.topological_order()[-1] == "new"
    with pytest.raises(ValueError, match="would close a cycle"):
        long_chain.apply(adding(spec("new", last, to=["0"])))
    rebuilt = long_chain.to_builder().add_edge(last, "end").build()
    assert len(rebuilt) == LONG + 1
