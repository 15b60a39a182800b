"""Boxes in layers from left to right, and long links routed through the layers between."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import isqrt
from typing import NamedTuple

from dagron.render._picture import Kind, Link

MOST_LINKS = 9_000  # that are drawn
MOST_BENDS = 9_000  # points at which long links pass a layer


class Line(NamedTuple):
    """How links look that may share a line; a larger one is drawn above a smaller one."""

    kind: Kind
    is_bright: bool
    has_condition: bool


class Trunk:
    """The line that long links to one target, or from one source, share in the layers between.

    ``points`` are its vertices, one per layer from layer ``first`` on.
    """

    __slots__ = ("at_target", "first", "line", "links", "points")

    def __init__(self, line: Line, at_target: bool) -> None:
        self.line = line
        self.at_target = at_target
        self.links: list[int] = []
        self.first = 0
        self.points = range(0)


class Layered(NamedTuple):
    """A graph in which every line leads from a layer to the next.

    Its vertices are the boxes, by their positions, and after them the points of the trunks.
    ``before`` and ``after`` hold the neighbours of each in the layers beside it. ``paths`` has for
    each link that is drawn the vertices that its line visits; ``dropped`` counts the others.
    """

    layer: list[int]
    before: list[list[int]]
    after: list[list[int]]
    trunks: list[Trunk]
    links: list[Link]
    trunk_of: dict[int, Trunk]  # by the position of a long link among the links
    dropped: int

    def path(self, number: int) -> list[int]:
        """Return the vertices that the line of a link visits, one per layer."""
        link = self.links[number]
        trunk = self.trunk_of.get(number)
        if trunk is None:
            return [link.source, link.target]
        return [link.source, *self._passed(link, trunk), link.target]

    def piece(self, number: int) -> list[int]:
        """Return the part of the path that no link before it has in common: each is drawn once."""
        trunk = self.trunk_of.get(number)
        if trunk is None or trunk.links[0] == number:
            return self.path(number)
        link = self.links[number]
        passed = self._passed(link, trunk)
        return [link.source, passed[0]] if trunk.at_target else [passed[-1], link.target]

    def _passed(self, link: Link, trunk: Trunk) -> range:
        start = self.layer[link.source] + 1 - trunk.first
        return trunk.points[start : self.layer[link.target] - trunk.first]


def line_of(link: Link) -> Line:
    """Return how a link looks."""
    return Line(link.kind, not link.is_dim, link.has_condition)


def layered(size: int, links: Sequence[Link]) -> Layered:
    """Return the layers of so many boxes, between which the links lead from left to right."""
    layer = _layer_of_each(size, links)
    drawn = _strongest(links, MOST_LINKS)
    trunks = _trunks(layer, drawn)
    total = sum(_extent(layer, drawn, trunk)[1] for trunk in trunks)
    if total > MOST_BENDS:
        drawn = _without_longest(layer, drawn, trunks, total)
        trunks = _trunks(layer, drawn)
    graph = Layered(
        layer,
        [[] for _ in range(size)],
        [[] for _ in range(size)],
        trunks,
        drawn,
        {number: trunk for trunk in trunks for number in trunk.links},
        len(links) - len(drawn),
    )
    _add_points(graph)
    _join(graph)
    return graph


def _layer_of_each(size: int, links: Iterable[Link]) -> list[int]:
    """Return each box's layer: behind all that it depends on, and no further left than it needs."""
    layer = [0] * size
    nearest = [size] * size  # the leftmost layer to which a link leads from the box
    is_target = bytearray(size)
    for link in links:  # sorted by their sources: a box's layer is known when its links come
        source, target, *_ = link
        is_target[target] = 1
        if layer[target] <= layer[source]:
            layer[target] = layer[source] + 1
    for source, target, *_ in links:
        nearest[source] = min(nearest[source], layer[target])
    alone = []
    for box in range(size):
        if not is_target[box]:
            if nearest[box] < size:
                layer[box] = nearest[box] - 1
            else:
                alone.append(box)
    columns = max(max(layer, default=0) + 1, isqrt(len(alone)) // 2)
    for number, box in enumerate(alone):
        layer[box] = number % columns
    return layer


def _strongest(links: Sequence[Link], most: int) -> list[Link]:
    if len(links) <= most:
        return list(links)
    ranked = sorted(range(len(links)), key=lambda number: -_weight(links[number]))
    return [links[number] for number in sorted(ranked[:most])]


def _weight(link: Link) -> int:
    return 2 * link.kind + (not link.is_dim)


def _trunks(layer: Sequence[int], links: Sequence[Link]) -> list[Trunk]:
    """Return the trunks of all long links: each joins the end that has more of them."""
    leaving: dict[int, int] = {}
    arriving: dict[int, int] = {}
    long = [number for number, link in enumerate(links) if _span(layer, link) > 1]
    for number in long:
        source, target, *_ = links[number]
        leaving[source] = leaving.get(source, 0) + 1
        arriving[target] = arriving.get(target, 0) + 1
    trunks: dict[tuple[int, bool, Line], Trunk] = {}
    for number in long:
        source, target, *_ = links[number]
        at_target = arriving[target] >= leaving[source]
        line = line_of(links[number])
        key = (target if at_target else source, at_target, line)
        trunk = trunks.get(key)
        if trunk is None:
            trunk = trunks[key] = Trunk(line, at_target)
        trunk.links.append(number)
    for trunk in trunks.values():  # the longest comes first, and passes all points
        trunk.links.sort(key=lambda number: -_span(layer, links[number]))
    return list(trunks.values())


def _span(layer: Sequence[int], link: Link) -> int:
    return layer[link.target] - layer[link.source]


def _extent(layer: Sequence[int], links: Sequence[Link], trunk: Trunk) -> tuple[int, int]:
    """Return the trunk's first layer, and how many layers it passes."""
    longest = links[trunk.links[0]]
    return layer[longest.source] + 1, _span(layer, longest) - 1


def _without_longest(
    layer: Sequence[int], links: list[Link], trunks: list[Trunk], total: int
) -> list[Link]:
    """Return the links without those of the longest trunks, dim ones first."""
    dropped: set[int] = set()
    lengths = [_extent(layer, links, trunk)[1] for trunk in trunks]
    order = sorted(  # the one to drop next is the last
        range(len(trunks)),
        key=lambda number: (trunks[number].line, -lengths[number], number),
        reverse=True,
    )
    while total > MOST_BENDS:
        number = order.pop()
        dropped.update(trunks[number].links)
        total -= lengths[number]
    return [link for number, link in enumerate(links) if number not in dropped]


def _add_points(graph: Layered) -> None:
    layer = graph.layer
    for trunk in graph.trunks:
        trunk.first, length = _extent(layer, graph.links, trunk)
        trunk.points = range(len(layer), len(layer) + length)
        layer += range(trunk.first, trunk.first + length)
        graph.before.extend([] for _ in range(length))
        graph.after.extend([] for _ in range(length))


def _join(graph: Layered) -> None:
    """Note who is beside whom."""
    for number in range(len(graph.links)):
        piece = graph.piece(number)
        for source, target in pairwise(piece):
            graph.after[source].append(target)
            graph.before[target].append(source)
