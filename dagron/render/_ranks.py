"""The order of the vertices in each layer: few lines cross, and it stays natural where it can."""

from bisect import bisect_right, insort
from collections.abc import Sequence

ROUNDS = 4
SCALE = 1 << 10  # positions are compared as integers: no platform rounds them otherwise


def ranked(
    layer: Sequence[int], before: list[list[int]], after: list[list[int]], rounds: int = ROUNDS
) -> list[list[int]]:
    """Return the vertices of each layer from top to bottom.

    Up to so many rounds of sorting by the mean position of the neighbours, to the right and back;
    of all orders that come up, the one with the fewest crossings is taken.
    """
    layers: list[list[int]] = [[] for _ in range(max(layer, default=-1) + 1)]
    for vertex, number in enumerate(layer):
        layers[number].append(vertex)
    place = [0] * len(layer)
    for vertices in layers:
        _sort(vertices, before, place)
    best, fewest = _copy(layers), crossings(layers, after, place)
    for _ in range(rounds):
        if not fewest:
            break
        for vertices in reversed(layers):
            _sort(vertices, after, place)
        for vertices in layers:
            _sort(vertices, before, place)
        found = crossings(layers, after, place)
        if found >= fewest:
            break
        best, fewest = _copy(layers), found
    return best


def _copy(layers: list[list[int]]) -> list[list[int]]:
    return [vertices.copy() for vertices in layers]


def _sort(vertices: list[int], beside: list[list[int]], place: list[int]) -> None:
    """Sort by the mean place of the neighbours; who has none stays beside its predecessor."""
    keys = {}
    key = -1
    for vertex in vertices:
        neighbours = beside[vertex]
        if len(neighbours) == 1:
            key = place[neighbours[0]] * SCALE
        elif neighbours:
            key = sum([place[neighbour] for neighbour in neighbours]) * SCALE // len(neighbours)
        keys[vertex] = key
    vertices.sort(key=keys.__getitem__)
    for position, vertex in enumerate(vertices):
        place[vertex] = position


def crossings(layers: list[list[int]], after: list[list[int]], place: Sequence[int]) -> int:
    """Return how often two lines between neighbouring layers cross."""
    count = 0
    for vertices in layers:
        ends: list[int] = []  # of the lines so far, sorted
        for vertex in vertices:
            targets = [place[target] for target in after[vertex]]
            for target in targets:
                count += len(ends) - bisect_right(ends, target)
            for target in targets:
                if not ends or ends[-1] <= target:
                    ends.append(target)
                else:
                    insort(ends, target)
    return count
