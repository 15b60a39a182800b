"""The layout of pictures: boxes apart, lines around them, from left to right, in bounded steps."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dagron.render import _layers
from dagron.render._heights import Pulls, stacked
from dagron.render._layers import MOST_BENDS, MOST_LINKS
from dagron.render._picture import Box, Kind, Link, Picture, Sketch
from dagron.render._plan import Plan, Rect, planned
from dagron.render._ranks import crossings, ranked

KINDS = [(Kind.EDGE, False), (Kind.EDGE, True), (Kind.GHOST, False), (Kind.GROWTH, False)]


@st.composite
def pictures(draw: st.DrawFn, most: int = 14) -> Picture:
    """Pictures of boxes of all sizes, with links of all kinds, short and long."""
    size = draw(st.integers(0, most))
    boxes = [
        Box(
            "x" * draw(st.integers(1, 40)),
            draw(st.sampled_from([None, "COMPLETED", "FAILED"])),
            (("COMPLETED", draw(st.integers(1, 9_999))),) * draw(st.integers(0, 2)),
            draw(st.sampled_from(["", "added by x"])),
            draw(st.sampled_from(["", "removed by y"])),
        )
        for _ in range(size)
    ]
    pairs = [(a, b) for a in range(size) for b in range(a + 1, size)]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    # Mostly links that look alike: only those share trunks.
    kinds, conditions = draw(st.sampled_from([(KINDS[:1], [False])] * 2 + [(KINDS, [False, True])]))
    links = []
    for a, b in sorted(chosen):
        kind, is_dim = draw(st.sampled_from(kinds))
        links.append(Link(a, b, kind, draw(st.sampled_from(conditions)), is_dim))
    return Picture(boxes, links)


def overlap(one: Rect, other: Rect) -> bool:
    return (
        one.left < other.left + other.width
        and other.left < one.left + one.width
        and one.top < other.top + other.height
        and other.top < one.top + one.height
    )


def crosses(plan: Plan, path: list[int]) -> list[Rect]:
    """The boxes through which a line runs, but for those at its ends.

    Between two corners a line stays within the rectangle that they span.
    """
    crossed = []
    ends = {path[0], path[-1]}
    for (left, one), (right, other) in pairwise(plan.corners(path)):
        top, bottom = sorted((one, other))
        span = Rect(left, top, right - left, max(bottom - top, 1), "", ())
        crossed += [
            rect
            for number, rect in enumerate(plan.rects)
            if number not in ends and overlap(rect, span)
        ]
    return crossed


@given(pictures())
@example(Picture([Box("a")] * 3, [Link(0, 1), Link(0, 2, is_dim=True), Link(1, 2)]))
def test_boxes_are_apart_and_lines_run_around_them(picture: Picture) -> None:
    """No two boxes overlap, no line runs through a box, and every line goes from left to right."""
    plan = planned(picture)
    assert len(plan.rects) == len(picture.boxes)
    for number, rect in enumerate(plan.rects):
        assert rect.left >= 0
        assert rect.top >= 0
        assert rect.left + rect.width <= plan.width
        assert rect.top + rect.height <= plan.height
        assert not any(overlap(rect, other) for other in plan.rects[:number])
    for number, link in enumerate(plan.graph.links):
        path = plan.graph.path(number)
        corners = plan.corners(path)
        assert corners == sorted(corners, key=lambda corner: corner[0])
        assert crosses(plan, path) == []
        source, target = plan.rects[link.source], plan.rects[link.target]
        assert corners[0] == (source.left + source.width, source.middle)
        assert corners[-1] == (target.left, target.middle)
        assert corners[0][0] < corners[-1][0]


@given(pictures())
def test_all_of_a_line_is_drawn_once(picture: Picture) -> None:
    """The pieces of all links make up the whole lines, and no two pieces share a stretch."""
    graph = planned(picture).graph
    drawn = [step for number in range(len(graph.links)) for step in pairwise(graph.piece(number))]
    needed = {step for number in range(len(graph.links)) for step in pairwise(graph.path(number))}
    assert sorted(drawn) == sorted(needed)


@given(pictures())
def test_a_shared_line_looks_the_same_and_has_one_end(picture: Picture) -> None:
    """Links that share a trunk look alike, and all lead to one box or all come from one."""
    graph = planned(picture).graph
    for trunk in graph.trunks:
        links = [graph.links[number] for number in trunk.links]
        assert {_layers.line_of(link) for link in links} == {trunk.line}
        assert len({link.target if trunk.at_target else link.source for link in links}) == 1


@given(pictures())
def test_a_line_leads_from_each_layer_to_the_next(picture: Picture) -> None:
    """A path visits every layer between its ends once: dummies stand where no box is."""
    graph = planned(picture).graph
    assert graph.dropped == 0
    for number in range(len(graph.links)):
        path = graph.path(number)
        layers = [graph.layer[vertex] for vertex in path]
        assert layers == list(range(layers[0], layers[-1] + 1))
        assert all(vertex >= len(picture.boxes) for vertex in path[1:-1])


@given(pictures())
def test_the_order_is_never_worse_than_the_first(picture: Picture) -> None:
    """The rounds never give an order with more crossings than sorting once does."""
    graph = planned(picture).graph

    def count(layers: list[list[int]]) -> int:
        place = [0] * len(graph.layer)
        for vertices in layers:
            for number, vertex in enumerate(vertices):
                place[vertex] = number
        return crossings(layers, graph.after, place)

    first = ranked(graph.layer, graph.before, graph.after, rounds=0)
    best = ranked(graph.layer, graph.before, graph.after)
    assert count(best) <= count(first)
    assert [sorted(vertices) for vertices in best] == [sorted(vertices) for vertices in first]


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), unique=True, max_size=25),
)
def test_crossings_are_counted(lines: list[tuple[int, int]]) -> None:
    """The count is that of all pairs of lines whose ends are in opposite orders."""
    after: list[list[int]] = [[5 + b for a, b in lines if a == vertex] for vertex in range(5)]
    after += [[] for _ in range(5)]
    place = [*range(5), *range(5)]
    expected = sum((a - c) * (b - d) < 0 for n, (a, b) in enumerate(lines) for c, d in lines[:n])
    assert crossings([[*range(5)], [*range(5, 10)]], after, place) == expected


def test_a_natural_order_stays() -> None:
    """Where nothing crosses, boxes stand in the order of the graph, from top to bottom."""
    links = [Link(0, number) for number in range(1, 6)]
    plan = planned(Picture([Box(str(number)) for number in range(6)], links))
    tops = [rect.top for rect in plan.rects[1:]]
    assert tops == sorted(tops)
    assert plan.rects[0].middle == plan.rects[3].middle


def test_a_chain_is_straight() -> None:
    """The boxes of a chain stand on one line."""
    links = [Link(number, number + 1) for number in range(50)]
    plan = planned(Picture([Box(str(number)) for number in range(51)], links))
    assert len({rect.middle for rect in plan.rects}) == 1


def test_a_late_root_stands_beside_what_needs_it() -> None:
    """A box without dependencies stands one layer before the first that waits for it."""
    graph = planned(
        Picture([Box("x")] * 4, [Link(0, 1), Link(1, 3), Link(2, 3)]),
    ).graph
    assert graph.layer == [0, 1, 1, 2]


def test_boxes_without_links_stand_in_a_grid() -> None:
    """Boxes that nothing connects are spread over several columns."""
    plan = planned(Picture([Box("x")] * 400, []))
    assert max(plan.graph.layer) == 9
    assert plan.height < 2_000


def test_blocks_settle_at_the_mean_of_their_wishes() -> None:
    """Boxes that want the same place stand around it, as close as they may."""
    layers = [[0], [1, 2, 3]]
    before: list[list[int]] = [[], [0], [0], [0]]
    after: list[list[int]] = [[1, 2, 3], [], [], []]
    heights = stacked(layers, Pulls(before, after, [1] * 4), [[10], [10, 30, 30]])
    assert [height - heights[0] for height in heights] == [0, -30, 0, 30]


def test_a_box_without_links_goes_along_with_the_one_above_it() -> None:
    """Boxes that nothing connects leave no hole between those of their layer, wherever these go."""
    fan = [Link(1, 2 + number) for number in range(9)] + [
        Link(2 + number, 11) for number in range(9)
    ]
    plan = planned(Picture([Box("x")] * 15, fan))  # 0 and 12 to 14 are alone
    for layer in range(3):
        column = [
            rect for rect, of in zip(plan.rects, plan.graph.layer, strict=True) if of == layer
        ]
        tops = sorted(rect.top for rect in column)
        assert {below - above for above, below in pairwise(tops)} == {column[0].height + 14}


def test_of_links_between_the_same_boxes_the_strongest_counts() -> None:
    """An edge stays an edge, whatever else leads there; a condition counts if all have one."""
    sketch = Sketch()
    for key in "abc":
        sketch.add_box(key, Box(key))
    for kind in (Kind.GHOST, Kind.EDGE, Kind.GROWTH):
        sketch.add_link("a", "b", kind, has_condition=kind is Kind.EDGE)
    sketch.add_link("b", "c", has_condition=True)
    sketch.add_link("b", "c")
    assert list(sketch.arranged().links) == [
        Link(0, 1, Kind.EDGE, has_condition=True),
        Link(1, 2, Kind.EDGE, has_condition=False),
    ]


@pytest.mark.parametrize("size", [200, 3_000])
def test_very_many_links_are_bounded(size: int) -> None:
    """However many links there are, what is drawn is bounded, and the rest is counted."""
    links = [Link(a, b) for a in range(0, size, max(1, size // 200)) for b in range(a + 1, size)]
    graph = planned(Picture([Box("x")] * size, links)).graph
    assert len(graph.links) <= MOST_LINKS
    assert len(graph.layer) - size <= MOST_BENDS
    assert graph.dropped == len(links) - len(graph.links)


def test_a_line_to_the_end_from_every_box_of_a_chain_is_one_trunk() -> None:
    """A chain all of whose boxes lead to the last one, too, needs one dummy per layer."""
    links = [Link(number, number + 1) for number in range(1_999)]
    links += [Link(number, 1_999, is_dim=True) for number in range(1_998)]
    graph = planned(Picture([Box("x")] * 2_000, sorted(links))).graph
    assert graph.dropped == 0
    assert len(graph.layer) - 2_000 == 1_998
