"""Pictures of runs: what became of each node, who added it, what was removed, before and after."""

import re
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dagron
from dagron import (
    DAG,
    DynamicModification,
    DynamicNodeSpec,
    ExecutionResult,
    NodePolicy,
    NodeResult,
    NodeStatus,
    Place,
    _history,
)
from dagron.render import _picture
from dagron.render._families import Fold, Outside, folded
from dagron.render._text import visible
from pictures import (
    HOSTILE,
    SVG,
    Read,
    boxes_in,
    lines_in,
    name_in,
    read_dot,
    read_mermaid,
    read_svg,
    texts_in,
    title_of,
)

Expander = Callable[[str, Any], DynamicModification | None]

both = pytest.mark.parametrize(
    ("write", "read"),
    [(ExecutionResult.to_mermaid, read_mermaid), (ExecutionResult.to_dot, read_dot)],
    ids=["mermaid", "dot"],
)


def nothing() -> None:
    """A task that does nothing."""


def broken() -> None:
    raise ValueError("line 7 has no date")


def run(
    *edges: tuple[str, str] | str,
    tasks: dict[str, Any] | None = None,
    expanders: dict[str, Any] | None = None,
    **options: Any,
) -> ExecutionResult:
    """Run a graph of these edges and nodes, whose tasks do nothing where none are given."""
    builder = dagron.DAG.builder()
    for edge in edges:
        if isinstance(edge, str):
            builder.add_node(edge)
        else:
            builder.add_edge(*edge)
    dag = builder.build()
    executor = dagron.DynamicExecutor(dag, expanders=expanders or {}, **options)
    return executor.execute_sync({**dict.fromkeys(dag, nothing), **(tasks or {})})


def adding(*specs: DynamicNodeSpec) -> Expander:
    return lambda name, result: DynamicModification(list(specs))


def children(count: int, failing: int = 0, **fields: Any) -> Expander:
    """An expander that adds so many nodes below its own, of which the first ones fail."""
    return lambda name, result: DynamicModification(
        [
            DynamicNodeSpec(
                f"{name}.{number}", broken if number < failing else nothing, [name], **fields
            )
            for number in range(count)
        ]
    )


def swap(name: str, result: object) -> DynamicModification:
    """Put one node in the place of another."""
    return DynamicModification(
        [DynamicNodeSpec("exact", nothing, ["load"], ["report"])], remove_nodes=["fit"]
    )


@pytest.fixture(scope="module")
def swapped() -> ExecutionResult:
    return run(("load", "fit"), ("fit", "report"), expanders={"load": swap})


@pytest.fixture(scope="module")
def failed() -> ExecutionResult:
    return run(("parse", "load"), "ping", tasks={"parse": broken})


# --- what became of each node --------------------------------------------------------------------


def test_states_have_colours_and_signs(failed: ExecutionResult) -> None:
    """What became of a node is its colour, a sign before its name, and in its tooltip."""
    root = read_svg(failed.to_svg())
    seen = {
        box.attrib["data-node"]: (box.attrib["class"], box.attrib["data-status"], title_of(box))
        for box in boxes_in(root).values()
    }
    assert seen == {
        "parse": ("box failed", "FAILED", "parse\nValueError: line 7 has no date"),
        "load": ("box skipped", "SKIPPED", "load\nskipped because 'parse' failed"),
        "ping": ("box completed", "COMPLETED", "ping"),
    }
    signs = {
        box.attrib["data-node"]: [
            path.attrib["d"] for path in box.iter() if "sign" in path.attrib.get("class", "")
        ]
        for box in boxes_in(root).values()
    }
    assert len({sign for (sign,) in signs.values()}) == 3
    assert texts_in(root)[-3:] == ["1 completed", "1 failed", "1 skipped"]
    assert root.attrib["aria-label"] == (
        "a graph: 3 nodes, 1 edge, 1 completed, 1 failed, 1 skipped"
    )


@both
def test_states_have_signs_in_texts(
    write: Callable[..., str], read: Callable[[str], Read], failed: ExecutionResult
) -> None:
    """Each status has a sign of its own before the name."""
    back = read(write(failed))
    assert list(back.labels.values()) == [["✗ parse"], ["⊘ load"], ["✓ ping"]]


def test_states_have_colours_in_texts(failed: ExecutionResult) -> None:
    """Mermaid has a class for each status, DOT fills the boxes, and says why in tooltips."""
    assert read_mermaid(failed.to_mermaid()).classes == {
        "n0": {"failed"},
        "n1": {"skipped"},
        "n2": {"completed"},
    }
    attributes = read_dot(failed.to_dot()).attributes
    assert len({attributes[f"n{number}"]["fillcolor"] for number in range(3)}) == 3
    assert attributes["n0"]["tooltip"] == "ValueError: line 7 has no date"


def test_a_cancelled_node_has_a_sign_and_a_reason() -> None:
    """A node that was cancelled is a square, and its tooltip says by whom."""
    result = run(
        "a",
        ("late", "b"),
        tasks={"late": nothing},
        expanders={"a": lambda name, result: DynamicModification(cancel_nodes=["b"])},
        max_concurrency=1,
    )
    assert result["b"].status == "CANCELLED"
    assert name_in(read_mermaid(result.to_mermaid()).labels["n2"]) == "b"
    box = boxes_in(read_svg(result.to_svg()))["n2"]
    assert box.attrib["class"] == "box cancelled"
    assert title_of(box) == f"b\n{result['b'].reason}"


def test_a_run_that_was_cut_short_says_so() -> None:
    """Why a run was ended early stands below its picture."""
    result = run("a", ("a", "b"), tasks={"a": broken}, on_failure="cancel")
    assert result.reason is not None
    assert texts_in(read_svg(result.to_svg()))[-1] == f"cut short: {result.reason}"


def test_attempts_are_in_the_tooltip() -> None:
    """A node that was tried again says how often."""
    retry = dagron.Retry(attempts=3, initial_delay=0)
    result = run("a", tasks={"a": broken}, policy=NodePolicy(retry=retry))
    box = boxes_in(read_svg(result.to_svg()))["n0"]
    assert title_of(box) == "a\nattempts: 3\nValueError: line 7 has no date"


def test_a_hostile_error_is_text() -> None:
    """An error's text cannot end the element that it stands in, nor hide what follows."""

    def fail() -> None:
        raise ValueError(
            '</title><script>alert(1)</script>\x00\x1b[31m \u202e "]]> ' + "x" * 100_000
        )

    result = run("a", tasks={"a": fail})
    title = title_of(boxes_in(read_svg(result.to_svg()))["n0"])
    assert title.startswith("a\nValueError: </title><script>alert(1)</script>\\u0000\\u001b[31m ")
    assert len(title) < 1_000
    assert read_dot(result.to_dot()).names() == ["a"]


# --- who added what, and what was removed --------------------------------------------------------


def test_nodes_that_were_added_are_dashed_and_say_by_whom(swapped: ExecutionResult) -> None:
    """A node that was added while the graph ran is dashed, and its second line says who did it."""
    boxes = boxes_in(read_svg(swapped.to_svg()))
    (box,) = [box for box in boxes.values() if box.attrib["data-node"] == "exact"]
    assert box.attrib["class"] == "box completed added"
    assert texts_in(box) == ["exact", "added by load"]


def test_removed_nodes_are_ghosts_between_their_neighbours(swapped: ExecutionResult) -> None:
    """A node that was removed is a ghost with its old edges, and says who removed it."""
    root = read_svg(swapped.to_svg())
    boxes = boxes_in(root)
    ids = {box.attrib["data-node"]: number for number, box in boxes.items()}
    assert boxes[ids["fit"]].attrib["class"] == "box removed"
    assert texts_in(boxes[ids["fit"]]) == ["fit", "removed by load"]
    groups = {group.attrib.get("class"): lines_in(group) for group in root}
    assert groups["line ghost"] == [(ids["load"], ids["fit"]), (ids["fit"], ids["report"])]
    assert groups["line edge"] == [(ids["load"], ids["exact"]), (ids["exact"], ids["report"])]
    assert texts_in(root)[-3:] == ["3 completed", "added while it ran", "removed"]
    assert root.attrib["aria-label"] == "a graph: 3 nodes, 2 edges, 3 completed"


@both
def test_ghosts_and_provenance_in_texts(
    write: Callable[..., str], read: Callable[[str], Read], swapped: ExecutionResult
) -> None:
    """Mermaid and DOT say who added and removed a node, and dot the edges that went with it."""
    back = read(write(swapped))
    assert sorted(back.names()) == ["exact", "fit", "load", "report"]
    assert back.of("exact") == ["added by load"]
    assert back.of("fit") == ["removed by load"]
    looks = {(name_in(back.labels[a]), name_in(back.labels[b])): look for a, b, look in back.edges}
    assert looks["load", "fit"] == looks["fit", "report"] in ("-.->", "dotted")
    assert looks["load", "exact"] == looks["exact", "report"] in ("-->", "")


def test_a_ghost_whose_old_place_would_close_a_cycle_loses_its_edges() -> None:
    """What was turned round is drawn as it is now; old edges that contradict it are left out."""
    result = run(
        ("start", "x"),
        ("x", "ghost"),
        ("ghost", "y"),
        expanders={
            "start": lambda name, result: DynamicModification(
                remove_nodes=["ghost"], add_edges=[("y", "x")], remove_edges=[("start", "x")]
            )
        },
    )
    back = read_mermaid(result.to_mermaid())
    assert set(back.names()) == {"start", "x", "y", "ghost"}
    assert ("y", "x") in back.named_edges()
    assert not {("x", "ghost"), ("ghost", "y")} <= set(back.named_edges())
    read_svg(result.to_svg())


def test_a_node_that_depends_on_nothing_is_led_to_by_who_added_it() -> None:
    """A dotted line without a head leads from a node to those that it added without an edge."""

    async def listen(grow: dagron.Grow) -> None:
        for word in ("to", "be"):
            await grow(DynamicNodeSpec(word, nothing))

    result = run("listen", tasks={"listen": listen})
    back = read_mermaid(result.to_mermaid())
    assert back.edges == [("n0", "n1", "-.-"), ("n0", "n2", "-.-")]
    assert read_dot(result.to_dot()).attributes["n0->n1"]["arrowhead"] == "none"
    root = read_svg(result.to_svg())
    assert {group.attrib.get("class"): lines_in(group) for group in root}["line growth"] == [
        ("n0", "n1"),
        ("n0", "n2"),
    ]
    assert 'class="head' not in result.to_svg()
    assert root.attrib["aria-label"] == "a graph: 3 nodes, 0 edges, 3 completed"


async def test_a_node_from_outside_says_so() -> None:
    """A node that a modification from outside has added is dashed, one that it removed a ghost."""
    gate = dagron.Gate()

    async def wait() -> None:
        await gate.wait()

    dag = dagron.DAG.builder().add_edge("a", "b").build()
    async with dagron.DynamicExecutor(dag).start({"a": wait, "b": nothing}) as handle:
        await handle.modify(DynamicModification([DynamicNodeSpec("c", nothing, ["a"])], ["b"]))
        gate.open()
        result = await handle.wait()
    back = read_mermaid(result.to_mermaid())
    assert back.of("c") == ["added from outside"]
    assert back.of("b") == ["removed from outside"]


# --- families ------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(("count", "boxes"), [(12, 13), (13, 2), (5_000, 2)])
def test_a_large_family_is_one_box(
    write: Callable[..., str], read: Callable[[str], Read], count: int, boxes: int
) -> None:
    """Over twelve nodes that one node has added are one box with what became of them."""
    result = run("a", expanders={"a": children(count)})
    back = read(write(result))
    assert len(back.labels) == boxes
    if boxes == 2:
        assert back.names()[1] == f"{count:,} × a.…"
        assert back.labels["n1"][1:] == [f"{count:,} completed", "added by a"]
        assert [edge[:2] for edge in back.edges] == [("n0", "n1")]


@both
def test_failures_stay_visible_beside_their_family(
    write: Callable[..., str], read: Callable[[str], Read]
) -> None:
    """Up to twelve failures of a folded family stand alone; the others are counted."""
    result = run("a", expanders={"a": children(100, failing=20)})
    back = read(write(result))
    assert back.names() == ["a", *(f"a.{number}" for number in range(12)), "88 × a.…"]
    assert back.of("88 × a.…") == ["80 completed, 8 failed", "added by a"]
    assert back.labels["n13"][0].startswith("✗ ")


def test_a_folded_box_shows_counts_with_signs() -> None:
    """A folded box is a pile of sheets, with a sign and a number for each status."""
    result = run("a", expanders={"a": children(2_000, failing=1)})
    root = read_svg(result.to_svg())
    failure, pile = list(boxes_in(root).values())[1:]
    assert texts_in(failure) == ["a.0", "added by a"]
    assert texts_in(pile) == ["1,999 × a.…", "1,999", "added by a"]
    assert title_of(pile) == "1,999 × a.…\n1,999 completed\nadded by a"
    assert "data-node" not in pile.attrib
    assert texts_in(root)[-3:] == ["2,000 completed", "1 failed", "added while it ran"]
    assert root.attrib["aria-label"].startswith("a graph: 2,001 nodes, 2 edges, 2,000 completed")


def test_fold_says_from_how_many_on() -> None:
    """`fold` is the size of the largest family that is not folded, None folds none."""
    result = run("a", expanders={"a": children(20)})
    assert len(read_mermaid(result.to_mermaid(fold=19)).labels) == 2
    assert len(read_mermaid(result.to_mermaid(fold=20)).labels) == 21
    assert len(read_mermaid(result.to_mermaid(fold=None)).labels) == 21
    assert len(read_dot(result.to_dot(fold=None)).labels) == 21
    assert len(boxes_in(read_svg(result.to_svg(fold=None)))) == 21


@pytest.mark.parametrize(
    ("fold", "error", "text"),
    [
        (-1, ValueError, "fold is at least 0, not -1"),
        ("12", TypeError, "fold is an int, not str: '12'"),
        (True, TypeError, "fold is an int, not bool: True"),
    ],
)
def test_a_fold_that_is_no_size_is_refused(
    tmp_path: Path, fold: Any, error: type[Exception], text: str
) -> None:
    """`fold` is a count of nodes, or None: all else is refused at once, whatever the run was."""
    result = run("a")
    page = tmp_path / "run.html"
    draws = (result.to_svg, result.to_mermaid, result.to_dot, partial(result.save_html, page))
    for draw in draws:
        with pytest.raises(error, match=f"^{re.escape(text)}\n  help: "):
            draw(fold=fold)
    assert not page.exists()


def test_what_members_of_a_folded_family_added_is_folded_with_it() -> None:
    """Grandchildren of a folded family are one family, however few each member has added."""
    result = run("a", expanders={"a": children(20, expander=children(2))})
    back = read_mermaid(result.to_mermaid())
    assert back.names() == ["a", "20 × a.…", "40 × a.…"]
    assert back.of("40 × a.…") == ["40 completed", "added by 20 nodes"]
    assert back.edges == [("n0", "n1", "-->"), ("n1", "n2", "-->")]


def test_a_family_in_stages_is_a_box_per_stage() -> None:
    """A family with over twelve members in each of several layers is a box per layer."""

    def stages(name: str, result: object) -> DynamicModification:
        first = [DynamicNodeSpec(f"read {n}", nothing, ["a"]) for n in range(20)]
        second = [DynamicNodeSpec(f"write {n}", nothing, [f"read {n}"], ["z"]) for n in range(20)]
        return DynamicModification(first + second)

    back = read_mermaid(run("a", "z", ("a", "z"), expanders={"a": stages}).to_mermaid())
    assert back.names() == ["a", "20 × read …", "20 × write …", "z"]
    assert back.edges == [
        ("n0", "n1", "-->"),
        ("n0", "n3", "-->"),
        ("n1", "n2", "-->"),
        ("n2", "n3", "-->"),
    ]


def test_a_chain_of_children_is_one_box() -> None:
    """A family whose members depend on one another is one box all the same."""

    def chain(name: str, result: object) -> DynamicModification:
        names = ["a", *(f"step {number}" for number in range(500))]
        return DynamicModification(
            [DynamicNodeSpec(this, nothing, [before]) for before, this in pairwise(names)]
        )

    back = read_mermaid(run("a", expanders={"a": chain}).to_mermaid())
    assert back.names() == ["a", "500 × step …"]


def test_a_family_around_another_node_is_folded_by_layers() -> None:
    """Where one box would stand before and behind another node, there are two of it."""
    adders: dict[str, str | Outside] = {f"{side}{n}": "a" for side in "lr" for n in range(5)}
    edges = [(f"l{n}", "middle") for n in range(5)] + [("middle", f"r{n}") for n in range(5)]
    fold_of = folded(adders, edges, 6, lambda name: False)
    assert set(fold_of.values()) == {Fold("a", 0), Fold("a", 2)}
    assert len({fold for name, fold in fold_of.items() if name[0] == "l"}) == 1


@given(st.data())
def test_folding_never_closes_a_cycle(data: st.DataObject) -> None:
    """Whatever the families and edges, the boxes still stand in an order."""
    size = data.draw(st.integers(0, 16))
    names = [str(number) for number in range(size)]
    pairs = [(a, b) for number, a in enumerate(names) for b in names[number + 1 :]]
    edges = data.draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    adders: dict[str, str | Outside] = {}
    for number, name in enumerate(names):
        adder = data.draw(st.sampled_from([None, Outside(None), Outside("x"), *names[:number]]))
        if adder is not None:
            adders[name] = adder
    shown = set(data.draw(st.lists(st.sampled_from(names)))) if names else set()
    most = data.draw(st.integers(0, 4))
    fold_of = folded(adders, edges, most, shown.__contains__)
    assert fold_of.keys() <= adders.keys()
    waiting = {(fold_of.get(a, a), fold_of.get(b, b)) for a, b in edges}
    waiting = {(a, b) for a, b in waiting if a != b}
    while waiting:
        free = {a for a, _ in waiting} - {b for _, b in waiting}
        assert free
        waiting = {(a, b) for a, b in waiting if a not in free}


def test_many_removed_children_are_one_box() -> None:
    """Ghosts are a pile of their own, beside those of their family that stayed."""

    def take_back(name: str, result: object) -> DynamicModification:
        return DynamicModification(remove_nodes=[f"a.{number}" for number in range(20)])

    def grow(name: str, result: object) -> DynamicModification:
        return DynamicModification(
            [DynamicNodeSpec(f"a.{number}", nothing, ["b"]) for number in range(40)]
        )

    result = run(("a", "b"), expanders={"a": grow, "b": take_back})
    back = read_mermaid(result.to_mermaid())
    assert back.names() == ["a", "b", "20 × a.…", "20 × a.…"]
    assert back.labels["n2"][1:] == ["20 completed", "added by a"]
    assert back.labels["n3"][1:] == ["20 removed", "added by a", "removed by b"]
    assert back.edges == [("n0", "n1", "-->"), ("n1", "n2", "-->"), ("n1", "n3", "-.->")]
    boxes = boxes_in(read_svg(result.to_svg()))
    assert texts_in(boxes["n3"]) == ["20 × a.…", "20 removed", "added by a", "removed by b"]
    assert boxes["n3"].attrib["class"] == "box removed"
    assert read_svg(result.to_svg()).attrib["aria-label"] == (
        "a graph: 22 nodes, 2 edges, 22 completed"
    )


def test_placeholders_that_were_removed_are_one_box() -> None:
    """Many nodes that one node removed are one box of ghosts, also those of the first graph."""
    names = [f"place {number}" for number in range(20)]
    result = run(
        *(("a", name) for name in names),
        expanders={"a": lambda name, result: DynamicModification(remove_nodes=names)},
    )
    back = read_mermaid(result.to_mermaid())
    assert back.names() == ["a", "20 × place …"]
    assert back.of("20 × place …") == ["20 removed", "removed by a"]


def test_forgotten_nodes_are_a_box_of_counts() -> None:
    """Of nodes that were forgotten the picture has how many there were, beside who added them."""
    policy = NodePolicy(keep=dagron.Fold(lambda total, name, result: total + 1, start=int))
    dag = dagron.DAG.builder().add_node("a", policy=policy).build()
    executor = dagron.DynamicExecutor(dag, expanders={"a": children(30, failing=2)})
    result = executor.execute_sync({"a": nothing})
    back = read_mermaid(result.to_mermaid())
    assert back.names() == ["a", "a.0", "a.1", "28 nodes, forgotten"]
    assert back.of("28 nodes, forgotten") == ["28 completed", "added by a"]
    assert ("n0", "n3", "-.-") in back.edges
    root = read_svg(result.to_svg())
    assert root.attrib["aria-label"] == "a graph: 31 nodes, 2 edges, 29 completed, 2 failed"
    assert read_mermaid(result.to_mermaid(when=1)).notes == [
        "after 1 of 1 modification",
        "28 forgotten nodes are not shown",
    ]


def test_a_fold_of_nothing_is_no_box() -> None:
    """A node that may have forgotten children, and had none, stands alone."""
    policy = NodePolicy(keep=dagron.Fold(lambda total, name, result: total + 1, start=int))
    dag = dagron.DAG.builder().add_node("a", policy=policy).build()
    executor = dagron.DynamicExecutor(dag, expanders={"a": lambda name, result: iter(())})
    assert read_mermaid(executor.execute_sync({"a": nothing}).to_mermaid()).names() == ["a"]


def test_a_run_that_forgot_all_has_a_picture() -> None:
    """Where nothing is left but counts, the counts are the picture."""
    result = run(("a", "b"), expanders={"b": children(3)}, keep="failures")
    back = read_mermaid(result.to_mermaid())
    assert back.names() == ["5 nodes, forgotten"]
    assert read_mermaid(result.to_mermaid("before")).names() == ["a", "b"]


def test_what_folded_nodes_added_and_was_forgotten_hangs_on_their_box() -> None:
    """Counts of forgotten nodes stand beside the folded box of those that added them."""
    kept = NodePolicy(keep="failures")
    result = run("a", expanders={"a": children(20, expander=children(2), policy=kept)})
    back = read_mermaid(result.to_mermaid())
    assert back.names() == ["a", "20 × a.…", "40 nodes, forgotten"]
    assert back.of("40 nodes, forgotten") == ["40 completed", "added by 20 nodes"]
    assert back.edges[-1] == ("n1", "n2", "-.-")


# --- before, after, and between ------------------------------------------------------------------


def next_step(name: str, number: int) -> DynamicModification | None:
    if number == 3:
        return None
    following = f"step {number + 1}"
    return DynamicModification(
        [DynamicNodeSpec(following, lambda: number + 1, [name], expander=next_step)],
        remove_edges=[(name, "answer")],
        add_edges=[(following, "answer")],
    )


@both
def test_any_moment_of_a_run_can_be_drawn(
    write: Callable[..., str], read: Callable[[str], Read]
) -> None:
    """A number gives the graph after so many modifications, and a note says which moment it is."""
    result = run(("step 0", "answer"), tasks={"step 0": lambda: 0}, expanders={"step 0": next_step})
    assert result.version == 3
    for version in range(4):
        back = read(write(result, version))
        names = [f"step {number}" for number in range(version + 1)] + ["answer"]
        assert back.names() == names
        assert back.named_edges() == list(pairwise(names))
        moment = f"after {version} of 3 modifications" if version else "as it was before the run"
        assert back.notes == [moment]
        assert [lines[0] for lines in back.labels.values()] == names, "no signs: it is not over"
    assert read(write(result, when="before")) == read(write(result, when=0))
    assert read(write(result, when="after")) == read(write(result))
    assert read(write(result)).notes == []


def test_before_is_the_graph_as_it_was_written(swapped: ExecutionResult) -> None:
    """Before the run there were no states, no ghosts, and nothing was added."""
    root = read_svg(swapped.to_svg("before"))
    boxes = boxes_in(root)
    assert [box.attrib["data-node"] for box in boxes.values()] == ["load", "fit", "report"]
    assert {box.attrib["class"] for box in boxes.values()} == {"box"}
    assert lines_in(root) == [("n0", "n1"), ("n1", "n2")]


def test_a_node_that_is_removed_later_is_there_between() -> None:
    """At a moment before its removal a node stands where it stood, as it was added."""
    result = run(
        ("a", "b"),
        expanders={
            "a": adding(DynamicNodeSpec("c", nothing, ["b"])),
            "b": lambda name, result: DynamicModification(remove_nodes=["c"]),
        },
    )
    between = read_mermaid(result.to_mermaid(1))
    assert between.names() == ["a", "b", "c"]
    assert between.of("c") == ["added by a"]
    assert between.named_edges() == [("a", "b"), ("b", "c")]
    after = read_mermaid(result.to_mermaid())
    assert after.of("c") == ["added by a", "removed by b"]


@pytest.mark.parametrize(
    ("when", "error", "text"),
    [
        ("befor", ValueError, "there is no moment 'befor' in this run"),
        (2, ValueError, "there is no moment 2 in this run"),
        (-1, ValueError, "there is no moment -1 in this run"),
        (True, TypeError, "when is a str or an int, not bool: True"),
        (1.0, TypeError, "when is a str or an int, not float: 1.0"),
        (None, TypeError, "when is a str or an int, not NoneType: None"),
    ],
)
def test_a_moment_that_there_was_not_is_refused(
    swapped: ExecutionResult, when: Any, error: type[Exception], text: str
) -> None:
    """A wrong moment is an error that says which there are."""
    for draw in (swapped.to_svg, swapped.to_mermaid, swapped.to_dot):
        with pytest.raises(error) as caught:
            draw(when)
        help = "did you mean 'before'?" if when == "befor" else "give 'before', 'after', or 1"
        assert str(caught.value) == f"{text}\n  help: {help}"


def test_without_modifications_there_are_two_moments() -> None:
    """The help of a run that did not grow names no numbers."""
    with pytest.raises(ValueError, match=r"help: give 'before' or 'after'$"):
        run("a").to_svg(1)


def test_a_moment_before_the_record_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not known any more is not made up, and ghosts that are missing are counted."""
    monkeypatch.setattr(_history, "RECORDED", 4)

    def drop(name: str, result: object) -> DynamicModification | None:
        number = int(name)
        return DynamicModification(remove_nodes=[f"x{number}"]) if number < 6 else None

    names = [str(number) for number in range(7)]
    result = run(
        *pairwise(names),
        *(f"x{number}" for number in range(6)),
        *((name, f"x{number}") for number, name in enumerate(names[1:])),
        expanders=dict.fromkeys(names, drop),
        max_concurrency=1,
    )
    back = read_mermaid(result.to_mermaid())
    missing = len(result.removed) - sum(line.startswith("x") for line in back.names())
    assert missing
    assert back.notes == [f"{missing} removed nodes are not shown"]
    with pytest.raises(ValueError, match="is not known any more"):
        result.to_svg(1)
    assert "x0" in read_mermaid(result.to_mermaid("before")).names()


# --- large, hostile, stable ----------------------------------------------------------------------


def test_failures_stay_visible_in_a_picture_that_is_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more boxes than a picture holds, those that failed are drawn before others."""
    monkeypatch.setattr(_picture, "MOST_BOXES", 30)
    result = run(
        *(f"{number:02}" for number in range(50)),
        tasks={f"{number}": broken for number in range(35, 50)},
    )
    root = read_svg(result.to_svg())
    drawn = [box.attrib["data-node"] for box in boxes_in(root).values()]
    assert drawn == [*(f"{n:02}" for n in range(20)), *(str(n) for n in range(35, 45))]
    assert texts_in(root)[-1] == "30 of 50 boxes are shown"
    assert texts_in(root)[-3:-1] == ["35 completed", "15 failed"]
    for read in (read_mermaid(result.to_mermaid()), read_dot(result.to_dot())):
        assert len(read.labels) == 30
        assert read.names() == drawn
        assert read.notes[-1] == "30 of 50 boxes are shown"


@both
def test_hostile_names_of_all_kinds_of_nodes(
    write: Callable[..., str], read: Callable[[str], Read]
) -> None:
    """A name is a label wherever it stands: of nodes, of who added them, of who removed them."""

    def grow(name: str, result: object) -> DynamicModification:
        new = [DynamicNodeSpec(f"new {old}"[:512], nothing, [name]) for old in HOSTILE]
        return DynamicModification(new, remove_nodes=HOSTILE)

    for adder in ['"]; click a', "-->\\", "</text><script>", "\u202e", "\uffff"]:
        result = run(adder, *HOSTILE, expanders={adder: grow}, max_concurrency=1)
        back = read(write(result, fold=None))
        assert sorted(back.names()) == sorted(
            map(visible, [adder, *HOSTILE, *(f"new {old}"[:512] for old in HOSTILE)])
        )
        assert back.of(HOSTILE[0]) == [f"removed by {visible(adder)}"]
        assert back.of(f"new {HOSTILE[0]}") == [f"added by {visible(adder)}"]
        titles = map(title_of, boxes_in(read_svg(result.to_svg(fold=None))).values())
        assert not any("\u202e" in title for title in titles)


def test_a_deep_run_has_a_picture() -> None:
    """A chain of ten thousand expansions is drawn without recursion."""

    def deeper(name: str, result: object) -> DynamicModification | None:
        number = int(name) + 1
        if number == 3_500:
            return None
        return DynamicModification([DynamicNodeSpec(str(number), nothing, [name], expander=deeper)])

    result = run("0", expanders={"0": deeper}, max_depth=4_000)
    assert len(read_mermaid(result.to_mermaid()).labels) == 3_000
    assert len(boxes_in(read_svg(result.to_svg()))) == 3_000


def test_the_same_result_gives_the_same_text() -> None:
    """Two runs that came to the same give the same bytes, whichever node finished first."""
    results = [run("a", ("a", "z"), expanders={"a": children(9, failing=2)}) for _ in range(2)]
    for write in (ExecutionResult.to_svg, ExecutionResult.to_mermaid, ExecutionResult.to_dot):
        assert write(results[0]) == write(results[0]) == write(results[1])


def test_a_notebook_shows_the_run(swapped: ExecutionResult) -> None:
    """What notebooks ask for is the picture of what the run came to, with the summary below it."""
    page = swapped._repr_html_()
    picture, summary = ElementTree.fromstring(page)
    assert swapped.to_svg() in page
    assert picture.tag == f"{SVG}svg"
    assert (summary.tag, summary.text) == ("pre", swapped.summary())


def test_a_notebook_takes_hostile_text_as_text() -> None:
    """Names and errors are text in a notebook's page: no element, and no formula."""
    names = [name for name in HOSTILE if name.isprintable()]

    def hostile() -> None:
        raise ValueError("</pre><script>alert(1)</script> & $x$")

    page = ElementTree.fromstring(run(*names, tasks={names[0]: hostile})._repr_html_())
    picture, summary = page
    kinds = {element.tag.removeprefix(SVG) for element in page.iter()}
    assert kinds <= {"div", "pre", "svg", "style", "rect", "g", "path", "text", "title"}
    assert [*summary] == []
    assert "</pre><script>alert(1)</script> & $x$" in (summary.text or "")
    assert len(boxes_in(picture)) == len(names)
    assert page.attrib == {"class": "tex2jax_ignore mathjax_ignore"}


def test_a_notebook_stays_small() -> None:
    """Of a large run a notebook keeps 500 boxes, failures among them, and the picture says so."""
    names = [str(number) for number in range(700)]
    result = run(*names, tasks={names[-1]: broken})
    page = result._repr_html_()
    picture, _ = ElementTree.fromstring(page)
    assert len(boxes_in(picture)) == 500
    assert "500 of 700 boxes are shown" in texts_in(picture)
    assert any(box.attrib.get("data-node") == names[-1] for box in boxes_in(picture).values())
    assert len(boxes_in(read_svg(result.to_svg()))) == 700


@pytest.mark.parametrize("grows", [False, True])
def test_forgotten_nodes_leave_their_edges_out(grows: bool) -> None:
    """What was forgotten is a count, also where no modification has landed; before, it is there."""
    expander = children(1) if grows else None
    result = run(
        ("a", "b"), ("b", "c"), expanders={"c": expander} if expander else {}, keep="leaves"
    )
    after = read_mermaid(result.to_mermaid())
    assert "c" in after.names() or grows
    assert not {"a", "b"} & set(after.names())
    assert any("forgotten" in name for name in after.names())
    assert read_mermaid(result.to_mermaid("before")).names() == ["a", "b", "c"]
    read_svg(result.to_svg())


@pytest.mark.parametrize(
    "write",
    [
        ExecutionResult.to_mermaid,
        ExecutionResult.to_dot,
        ExecutionResult.to_svg,
        ExecutionResult.to_timeline_svg,
    ],
)
def test_a_reason_of_any_length_is_a_line(write: Callable[..., str]) -> None:
    """Whatever somebody says who cancels a run, its pictures stay small and what they are."""
    reason = "</svg>\u202e\x1b\n" + "x" * 100_000
    dag = dagron.DAG.builder().add_edge("a", "b").build()
    nodes = {
        name: dagron.NodeResult(name, dagron.NodeStatus.CANCELLED, reason=reason, started_at=1e9)
        for name in dag
    }
    text = write(ExecutionResult(nodes, dag, reason=reason))
    assert len(text) < 20_000
    if text.startswith("<"):
        root = read_svg(text)
        assert int(root.attrib["width"]) < 2_000
        assert "cut short: </svg>\\u202e\\u001b\\u000a" in "\n".join(texts_in(root))
    else:
        read = read_mermaid if text.startswith("flowchart") else read_dot
        assert read(text).notes[0].startswith("cut short: </svg>\\u202e\\u001b\\u000a")


def test_a_result_made_by_hand_has_a_picture() -> None:
    """A result that no run has made, as in a test, is drawn without a past."""
    dag = dagron.DAG.builder().add_node("a").build()
    result = ExecutionResult({"a": dagron.NodeResult("a", dagron.NodeStatus.COMPLETED)}, dag)
    assert result.version == 0
    assert read_mermaid(result.to_mermaid()).labels == {"n0": ["✓ a"]}
    assert read_mermaid(result.to_mermaid("before")).labels == {"n0": ["a"]}


# --- the critical path ---------------------------------------------------------------------------


def timed(edges: str, /, **seconds: float) -> ExecutionResult:
    """A result of these nodes: how long each took."""
    builder = dagron.DAG.builder()
    for edge in edges.split():
        builder.add_edge(*edge.split("-"))
    dag = builder.build()
    nodes = {
        name: dagron.NodeResult(
            name, dagron.NodeStatus.COMPLETED, duration_seconds=seconds[name], attempts=1
        )
        for name in dag
    }
    return ExecutionResult(nodes, dag)


def outlined(svg: str) -> set[str]:
    """The names of the nodes that have an outline."""
    return {
        box.attrib["data-node"]
        for box in boxes_in(read_svg(svg)).values()
        if any(part.attrib.get("class") == "critical" for part in box)
    }


def test_the_critical_path_has_an_outline_where_it_is_asked_for() -> None:
    """Its nodes have one, the lines between them are drawn thicker, and the legend says so; only
    in a picture of what the nodes came to, since it is measured.
    """
    result = timed("a-b a-c b-d c-d d-e a-d", a=1, b=2, c=5, d=1, e=1)
    svg = result.to_svg(critical_path=True)
    assert outlined(svg) == {*"acde"}
    root = read_svg(svg)
    (lines,) = [of for of in root.iter() if of.attrib.get("class") == "line critical"]
    assert len(lines) == 3
    assert "the critical path" in texts_in(root)
    for plain in (result.to_svg(), result.to_svg("before", critical_path=True)):
        assert outlined(plain) == set()
        assert "the critical path" not in texts_in(read_svg(plain))
        assert "line critical" not in plain


def test_a_folded_node_of_the_critical_path_outlines_its_family() -> None:
    """The path leads through the box that stands for it, also for several nodes in a row."""

    def expand(name: str, result: object) -> DynamicModification:
        specs = [DynamicNodeSpec(f"c{number}", nothing, ["a"], ["b"]) for number in range(20)]
        return DynamicModification(specs)

    result = run(("a", "b"), expanders={"a": expand})
    root = read_svg(result.to_svg(critical_path=True))
    (fold,) = [box for box in boxes_in(root).values() if "data-node" not in box.attrib]
    (outline,) = [part for part in fold if part.attrib.get("class") == "critical"]
    sizes = [int(part.attrib["width"]) for part in fold if part.tag == outline.tag]
    assert int(outline.attrib["width"]) > max(size for size in sizes[:3])


def test_where_nodes_ran_is_in_the_picture() -> None:
    """A box has the runner's name, a tooltip the worker's; a fold has it if all ran elsewhere."""
    names = [f"n{number}" for number in range(20)]
    placed = {
        name: NodeResult(name, NodeStatus.COMPLETED, attempts=1, place=Place("big", "w1"))
        for name in ("a", *names)
    }
    builder = DAG.builder().add_node("a").add_node("b")
    dag = builder.build().apply(
        DynamicModification([DynamicNodeSpec(name, len, ["a"]) for name in names]), by="a"
    )
    here = {"b": NodeResult("b", NodeStatus.COMPLETED, attempts=1)}
    result = ExecutionResult({**placed, **here}, dag)
    text = result.to_svg()
    assert text.count(">on big<") >= 1
    assert "worker: w1" in text
    assert "on big" in result.to_mermaid()
    assert "on big" in result.to_dot()
    assert "on big" not in ExecutionResult(here, DAG.builder().add_node("b").build()).to_svg()
