"""How high each vertex stands: close to its neighbours, and never over another."""

from collections.abc import Sequence

UNIT = 64  # parts of a pixel: whole numbers, so that every platform draws the same
ROUNDS = 3
STRAIGHT = 8  # how much more it counts that a line runs straight through the layers than elsewhere


def stacked(
    layers: Sequence[Sequence[int]],
    before: Sequence[Sequence[int]],
    after: Sequence[Sequence[int]],
    size: int,
    apart: Sequence[Sequence[int]],
) -> list[int]:
    """Return the middle of each vertex in pixels; ``apart`` says how far below the one above it.

    ``before`` and ``after`` hold the neighbours that it wants to be close to.

    Each layer in turn is moved as close to its neighbours as its order allows: the sum of the
    squares of the distances is the least possible. The first ``size`` vertices are boxes.
    """
    heights = [0] * len(before)
    for vertices, gaps in zip(layers, apart, strict=True):
        below = 0
        for vertex, gap in zip(vertices, gaps, strict=True):
            below += gap * UNIT
            heights[vertex] = below
    both = [[*left, *right] for left, right in zip(before, after, strict=True)]
    for turn in range(ROUNDS):
        sides = (before, after) if turn < ROUNDS - 1 else (before, both)
        for beside, order in zip(sides, (layers, layers[::-1]), strict=True):
            numbers = range(len(layers)) if order is layers else range(len(layers))[::-1]
            for number in numbers:
                _settle(layers[number], beside, heights, size, apart[number])
    return [height // UNIT for height in heights]


def _settle(
    vertices: Sequence[int],
    beside: Sequence[Sequence[int]],
    heights: list[int],
    size: int,
    gaps: Sequence[int],
) -> None:
    """Move a layer's vertices to where they want to be, as far as their order and size allow.

    Vertices that would overlap move as one block, to the mean of what they want (this is isotonic
    regression, by pooling adjacent violators).
    """
    blocks: list[tuple[int, int, int]] = []  # where, with which weight, how many vertices
    below = 0
    for vertex, gap in zip(vertices, gaps, strict=True):
        below += gap * UNIT
        wish, weight = _wish(vertex, beside[vertex], heights, size)
        wish -= below
        count = 1
        while blocks and blocks[-1][0] > wish:
            above, heavy, many = blocks.pop()
            wish = (above * heavy + wish * weight) // (heavy + weight)
            weight += heavy
            count += many
        blocks.append((wish, weight, count))
    number = 0
    below = 0
    for wish, _, count in blocks:
        for vertex in vertices[number : number + count]:
            below += gaps[number] * UNIT
            heights[vertex] = wish + below
            number += 1


def _wish(
    vertex: int, neighbours: Sequence[int], heights: Sequence[int], size: int
) -> tuple[int, int]:
    """Return where the vertex wants to be, and how much that counts."""
    if not neighbours:
        return heights[vertex], 1
    if len(neighbours) == 1:
        return heights[neighbours[0]], STRAIGHT if vertex >= size <= neighbours[0] else 2
    if vertex < size:
        return sum([heights[neighbour] for neighbour in neighbours]) // len(neighbours), 2
    straight = [neighbour for neighbour in neighbours if neighbour >= size]
    wanted = straight or neighbours
    return sum([heights[one] for one in wanted]) // len(wanted), STRAIGHT if straight else 2
