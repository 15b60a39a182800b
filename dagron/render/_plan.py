"""Where everything in a picture stands, in whole pixels."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from dagron.render._heights import Pulls, stacked
from dagron.render._layers import Layered, layered, line_of
from dagron.render._picture import SIGNS, Box, Kind, Picture
from dagron.render._ranks import ranked
from dagron.render._text import cells, fitted, visible

MARGIN = 16
NAME_CELLS = 30  # the most columns of a name, and of a line below it
CAPTION_CELLS = 34
SIGN_WIDTH = 18

_LINE = 14
_BETWEEN_BOXES = 14
_BESIDE_A_LINE = 9
_GAP = 44  # between layers, and more where lines are steep
_STEEPEST = 76
# How much it counts where a box stands, and a line that runs through; for dim ones it is 1: they
# make way.
_HEAVY, _HEAVIEST = 1_000, 4_000

Point = tuple[int, int]


class Rect(NamedTuple):
    """A box on paper: its corner at the top left, its size, and the lines of text in it."""

    left: int
    top: int
    width: int
    height: int
    name: str
    lines: Sequence[str]

    @property
    def middle(self) -> int:
        """How far down a line ends at it."""
        return self.top + self.height // 2


class Plan(NamedTuple):
    """A picture on paper. ``pieces`` has what is to be drawn of each link in ``graph``."""

    rects: list[Rect]
    graph: Layered
    edges: list[Point]  # where each layer begins and ends, from left to right
    heights: list[int]  # the middle of every vertex
    width: int
    height: int

    def corners(self, path: Sequence[int]) -> list[Point]:
        """Return the points of a line: in the gaps between layers it goes up or down, else not."""
        layer, heights, edges = self.graph.layer, self.heights, self.edges
        points = [(edges[layer[path[0]]][1], heights[path[0]])]
        for vertex in path[1:-1]:
            left, right = edges[layer[vertex]]
            points += [(left, heights[vertex]), (right, heights[vertex])]
        points.append((edges[layer[path[-1]]][0], heights[path[-1]]))
        return points


def planned(picture: Picture) -> Plan:
    """Return where the boxes stand and the lines run: no line runs through a box."""
    texts = [_texts(box) for box in picture.boxes]
    size = len(texts)
    graph = layered(size, picture.links)
    layers = ranked(graph.layer, graph.before, graph.after)
    tall = [_LINE * len(lines) + 30 for _, lines in texts] + [0] * (len(graph.layer) - size)
    apart = [_distances(vertices, size, tall) for vertices in layers]
    heights = stacked(layers, _pulls(graph, size), apart)
    top = min((middle - high // 2 for middle, high in zip(heights, tall, strict=True)), default=0)
    heights = [middle - top + MARGIN for middle in heights]
    wide = [_width(box, *text) for box, text in zip(picture.boxes, texts, strict=True)]
    edges = _edges(graph, layers, wide, heights)
    rects = []
    for box, (name, lines) in enumerate(texts):
        left, right = edges[graph.layer[box]]
        rects.append(
            Rect(left, heights[box] - tall[box] // 2, right - left, tall[box], name, lines)
        )
    below = max((middle + high // 2 for middle, high in zip(heights, tall, strict=True)), default=0)
    return Plan(rects, graph, edges, heights, edges[-1][1] if edges else MARGIN, below)


def _texts(box: Box) -> tuple[str, list[str]]:
    lines = [fitted(visible(line), CAPTION_CELLS) for line in box.captions()]
    return fitted(visible(box.name), NAME_CELLS), [""] * box.is_fold + lines


def _width(box: Box, name: str, lines: Sequence[str]) -> int:
    wide = cells(name) * 73 // 10 + (SIGN_WIDTH if box.status else 0)
    for line in lines:
        wide = max(wide, cells(line) * 61 // 10)
    counts = sum(width_of_count(word, count) for word, count in box.counts)
    return max(wide, counts, 32) + 24


def counted(word: str, count: int) -> tuple[int, str]:
    """Return how one of a folded box's counts is written: how far from its sign, and its text."""
    return (16, f"{count:,}") if word in SIGNS else (0, f"{count:,} {word.lower()}")


def width_of_count(word: str, count: int) -> int:
    """Return how much room one of a folded box's counts takes."""
    indent, text = counted(word, count)
    return indent + len(text) * 61 // 10 + 10


def _pulls(graph: Layered, size: int) -> Pulls:
    """Return what each vertex wants to be close to.

    A box does not care for its dim and dotted lines where it has others on that side, and a point
    cares most for the line that it is part of, so that it runs straight.
    """
    count = len(graph.layer)
    before: list[list[int]] = [[] for _ in range(count)]
    after: list[list[int]] = [[] for _ in range(count)]
    weight = [_HEAVY if not (graph.before[one] or graph.after[one]) else 1 for one in range(count)]
    for number, link in enumerate(graph.links):
        line = line_of(link)
        if line.kind is not Kind.EDGE or not line.is_bright:
            continue
        for source, target in pairwise(graph.piece(number)):
            before[target].append(source)
            after[source].append(target)
            for end in (source, target):
                weight[end] = _HEAVY if end < size else _HEAVIEST
    for table, full in ((before, graph.before), (after, graph.after)):
        for vertex, neighbours in enumerate(table):
            wanted = neighbours or full[vertex]
            if vertex >= size:
                wanted = [one for one in wanted if one >= size] or wanted
            table[vertex] = wanted
    return Pulls(before, after, weight)


def _distances(vertices: Sequence[int], size: int, tall: Sequence[int]) -> list[int]:
    """Return how far below the one above it the middle of each vertex stands at least."""
    distances = []
    above = None
    for vertex in vertices:
        distance = tall[vertex] // 2
        if above is not None:
            both_boxes = vertex < size > above
            distance += tall[above] // 2 + (_BETWEEN_BOXES if both_boxes else _BESIDE_A_LINE)
        distances.append(distance)
        above = vertex
    return distances


def _edges(
    graph: Layered,
    layers: Sequence[Sequence[int]],
    wide: Sequence[int],
    heights: Sequence[int],
) -> list[Point]:
    edges = []
    left = MARGIN
    for vertices in layers:
        right = left + max((wide[box] for box in vertices if box < len(wide)), default=0)
        edges.append((left, right))
        steepest = max(
            (
                abs(heights[vertex] - heights[target])
                for vertex in vertices
                for target in graph.after[vertex]
            ),
            default=0,
        )
        left = right + _GAP + min(_STEEPEST, steepest // 8)
    return edges
