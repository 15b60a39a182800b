"""Pictures of graphs: they say what the graph says, whatever its nodes are called."""

import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from os import pathsep

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dagron
from dagron.render._text import visible
from pictures import (
    HOSTILE,
    Read,
    boxes_in,
    lines_in,
    read_dot,
    read_mermaid,
    read_svg,
    texts_in,
    title_of,
)

READERS: list[tuple[Callable[[dagron.DAG], str], Callable[[str], Read]]] = [
    (dagron.DAG.to_mermaid, read_mermaid),
    (dagron.DAG.to_dot, read_dot),
]
both = pytest.mark.parametrize(("write", "read"), READERS, ids=["mermaid", "dot"])

NAMES = st.text(
    st.characters(exclude_categories=["Cc", "Cs"]) | st.sampled_from('"\\<>&#;%`_*-|[]{}()\n'[:-1]),
    min_size=1,
    max_size=20,
)


@st.composite
def graphs(draw: st.DrawFn, names: st.SearchStrategy[str] = NAMES, most: int = 8) -> dagron.DAG:
    nodes = draw(st.lists(names, unique=True, max_size=most))
    builder = dagron.DAG.builder()
    for name in nodes:
        builder.add_node(name)
    pairs = [(a, b) for number, a in enumerate(nodes) for b in nodes[number + 1 :]]
    for edge in draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []:
        builder.add_edge(*edge, condition=draw(st.sampled_from([None, bool])))
    return builder.build()


def chain(*names: str) -> dagron.DAG:
    builder = dagron.DAG.builder().add_node(names[0])
    for source, target in pairwise(names):
        builder.add_edge(source, target)
    return builder.build()


# --- Mermaid and DOT -----------------------------------------------------------------------------

# With an edge beside a longer path, and one on a condition.
COUNTED = (
    dagron.DAG.builder()
    .add_edge("find", "count:haiku")
    .add_edge("count:haiku", "total", condition=bool)
    .add_edge("find", "total")
    .build()
)


def test_a_mermaid_flowchart() -> None:
    """Mermaid gets ids of its own; an edge beside a longer path is dim, a condition is said."""
    assert COUNTED.to_mermaid().splitlines() == [
        "flowchart LR",
        '    n0["find"]',
        '    n1["count:haiku"]',
        '    n2["total"]',
        "    n0 --> n1",
        "    n0 --> n2",
        '    n1 -->|"if"| n2',
        "    linkStyle 1 opacity:0.4",
    ]


def test_a_dot_digraph() -> None:
    """DOT gets ids of its own; an edge beside a longer path is pale, a condition is a diamond."""
    assert COUNTED.to_dot().splitlines() == [
        "digraph {",
        '    graph [rankdir="LR"];',
        '    node [shape="box", style="rounded,filled", fillcolor="#f6f8fa", color="#57606a"];',
        '    n0 [label="find"];',
        '    n1 [label="count:haiku"];',
        '    n2 [label="total"];',
        "    n0 -> n1;",
        '    n0 -> n2 [color="#c4cad1"];',
        '    n1 -> n2 [dir="both", arrowtail="odiamond"];',
        "}",
    ]


@both
@given(dag=graphs())
def test_a_text_reads_back_to_the_same_graph(
    write: Callable[[dagron.DAG], str], read: Callable[[str], Read], dag: dagron.DAG
) -> None:
    """Mermaid and DOT read back to the same nodes and edges, whatever the names; what turns or
    hides text is written out.
    """
    back = read(write(dag))
    assert back.names() == [*map(visible, dag.topological_order())]
    assert sorted(back.named_edges()) == sorted((visible(a), visible(b)) for a, b in dag.edges())


@both
def test_hostile_names_are_labels_and_nothing_else(
    write: Callable[[dagron.DAG], str], read: Callable[[str], Read]
) -> None:
    """A name that is code in the language of the picture stays a name."""
    back = read(write(chain(*HOSTILE)))
    names = [*map(visible, HOSTILE)]
    assert back.names() == names
    assert back.named_edges() == list(pairwise(names))
    assert sum(name == shown for name, shown in zip(HOSTILE, names, strict=True)) > 20


@both
def test_a_large_graph_is_capped_with_a_note_in_texts_too(
    write: Callable[[dagron.DAG], str], read: Callable[[str], Read]
) -> None:
    """Texts have the first 3,000 nodes, as pictures, and say so; also those of a chain that is
    longer than Python's stack.
    """
    back = read(write(chain(*map(str, range(20_000)))))
    assert back.names() == [*map(str, range(3_000))]
    assert len(back.edges) == 2_999
    assert back.notes == ["3,000 of 20,000 boxes are shown"]
    assert read(write(chain(*map(str, range(3_000))))).notes == []


@both
def test_an_empty_graph_has_a_text(
    write: Callable[[dagron.DAG], str], read: Callable[[str], Read]
) -> None:
    """A graph without nodes is written as one."""
    assert read(write(dagron.DAG())) == Read()


# --- SVG -----------------------------------------------------------------------------------------


def clean(text: str) -> str:
    """The text as XML can hold it."""
    return text.replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd")


@given(dag=graphs())
def test_a_picture_has_all_nodes_and_edges(dag: dagron.DAG) -> None:
    """SVG is XML with a box for each node, a line for each edge, and names in data and titles."""
    root = read_svg(dag.to_svg())
    boxes = boxes_in(root)
    order = dag.topological_order()
    assert [box.attrib["data-node"] for box in boxes.values()] == [*map(clean, order)]
    assert [title_of(box) for box in boxes.values()] == [*map(visible, order)]
    ids = dict(zip(order, boxes, strict=True))
    assert sorted(lines_in(root)) == sorted((ids[a], ids[b]) for a, b in dag.edges())


def test_hostile_names_are_text_in_a_picture() -> None:
    """A name that is markup or a link stays text, and stands in no attribute but its own."""
    root = read_svg(chain(*HOSTILE).to_svg())
    boxes = boxes_in(root)
    assert [box.attrib["data-node"] for box in boxes.values()] == [*map(clean, HOSTILE)]
    for element in root.iter():
        for attribute, value in element.attrib.items():
            assert attribute == "data-node" or "alert" not in value


def test_a_picture_shows_what_turns_or_hides_text() -> None:
    """A character that would reverse or hide what follows is written out; joiners are left."""
    dag = chain("a\u202eb\u2028c\u2066d", "\U0001f468\u200d\U0001f680")
    root = read_svg(dag.to_svg())
    assert [title_of(box) for box in boxes_in(root).values()] == [
        "a\\u202eb\\u2028c\\u2066d",
        "\U0001f468\u200d\U0001f680",
    ]
    marks = "\u202e\u2028\u2066"
    assert not set(dag.to_dot()) & set(marks)
    assert not [mark for mark in marks if f"#{ord(mark)};" in dag.to_mermaid()]
    assert [texts_in(box) for box in boxes_in(root).values()] == [
        ["a\\u202eb\\u2028c\\u2066d"],
        ["\U0001f468\u200d\U0001f680"],
    ]


def test_a_long_name_loses_its_middle() -> None:
    """A long name is shortened in the middle, and is whole in the title."""
    root = read_svg(chain("beginning of " + "x" * 50 + " its end").to_svg())
    (box,) = boxes_in(root).values()
    assert texts_in(box) == ["beginning of xx\N{HORIZONTAL ELLIPSIS}xxxxxx its end"]
    assert title_of(box) == "beginning of " + "x" * 50 + " its end"


def test_marks_without_width_do_not_make_a_name_endless() -> None:
    """A heap of accents on one letter is shortened as other letters are."""
    root = read_svg(chain("a" + "\u0301" * 500).to_svg())
    (box,) = boxes_in(root).values()
    assert texts_in(box) == ["a" + "\u0301" * 14 + "\N{HORIZONTAL ELLIPSIS}" + "\u0301" * 14]


def test_a_wide_name_has_a_wide_box() -> None:
    """Letters that take two columns get the room, and are shortened by it."""
    narrow, wide, longest = boxes_in(
        read_svg(chain("abcd", "\u6f22\u5b57\u6f22\u5b57", "\u6f22" * 40).to_svg())
    ).values()
    assert int(wide[1].attrib["width"]) > int(narrow[1].attrib["width"])
    assert texts_in(longest) == ["\u6f22" * 7 + "\N{HORIZONTAL ELLIPSIS}" + "\u6f22" * 7]


def test_an_edge_beside_a_longer_path_is_dim() -> None:
    """Only the edge that shortens a path is dim, and the legend says what that means."""
    dag = dagron.DAG.builder().add_edge("a", "b").add_edge("b", "c").add_edge("a", "c").build()
    root = read_svg(dag.to_svg())
    groups = {group.attrib.get("class"): lines_in(group) for group in root}
    assert groups["line dim"] == [("n0", "n2")]
    assert groups["line edge"] == [("n0", "n1"), ("n1", "n2")]
    assert texts_in(root)[-1] == "a longer path leads there, too"


def test_an_edge_with_a_condition_has_a_diamond() -> None:
    """A diamond stands on each edge that has a condition, and on no other."""
    dag = dagron.DAG.builder().add_edge("a", "b", condition=bool).add_edge("a", "c").build()
    text = dag.to_svg()
    assert text.count('<path class="diamond') == 2  # one of them in the legend
    assert texts_in(read_svg(text))[-1] == "on a condition"


@pytest.mark.parametrize("size", [3_000, 3_001, 100_000])
def test_a_large_picture_is_capped_with_a_note(size: int) -> None:
    """Of more than 3,000 nodes the first 3,000 are drawn, and the picture says so."""
    root = read_svg(chain(*map(str, range(size))).to_svg())
    boxes = boxes_in(root)
    assert [box.attrib["data-node"] for box in boxes.values()] == [*map(str, range(3_000))]
    note = [f"3,000 of {size:,} boxes are shown"] if size > 3_000 else []
    assert texts_in(root)[3_000:] == note
    assert root.attrib["aria-label"] == f"a graph: {size:,} nodes, {size - 1:,} edges"


def test_more_lines_than_a_picture_holds_are_counted() -> None:
    """Of very many edges the dim ones are left out first, and the picture says how many."""
    builder = dagron.DAG.builder()
    for source in range(140):
        for target in range(source + 1, 140):
            builder.add_edge(str(source), str(target))
    root = read_svg(builder.build().to_svg())
    drawn = lines_in(root)
    assert {(f"n{number}", f"n{number + 1}") for number in range(139)} <= set(drawn)
    assert texts_in(root)[-1] == f"{9_730 - len(drawn):,} of 9,730 lines are not drawn"


def test_an_empty_graph_has_a_picture() -> None:
    """A graph without nodes is a sheet that says so, and so is a run of it."""
    result = dagron.DynamicExecutor(dagron.DAG()).execute_sync({})
    for svg in (dagron.DAG().to_svg(), result.to_svg()):
        root = read_svg(svg)
        assert boxes_in(root) == {}
        assert texts_in(root) == ["no nodes"]


def test_a_notebook_shows_the_picture() -> None:
    """The representation that notebooks ask for is the picture, of at most 500 boxes."""
    dag = chain("a", "b")
    assert dag._repr_svg_() == dag.to_svg()
    large = read_svg(chain(*map(str, range(501)))._repr_svg_())
    assert len(boxes_in(large)) == 500
    assert "500 of 501 boxes are shown" in texts_in(large)


DRAW = """
import sys, dagron
builder = dagron.DAG.builder()
for source in "abcdef":
    for target in "abcdef":
        if source < target and (ord(source) * ord(target)) % 3:
            builder.add_edge(source, target)
dag = builder.build()
sys.stdout.write(dag.to_mermaid() + dag.to_dot() + dag.to_svg())
"""


def test_pictures_do_not_depend_on_the_process() -> None:
    """The same graph gives the same bytes, with whatever seed strings are hashed."""
    texts = {
        subprocess.run(
            [sys.executable, "-c", DRAW],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": pathsep.join(filter(None, sys.path))},
            capture_output=True,
            check=True,
        ).stdout
        for seed in "012"
    }
    assert len(texts) == 1
    assert texts.pop().startswith(b"flowchart LR\n")
