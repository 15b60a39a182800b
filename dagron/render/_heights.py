"""How high each vertex stands: close to its neighbours, and never over another."""

from collections.abc import Sequence
from typing import NamedTuple

UNIT = 64  # parts of a pixel: whole numbers, so that every platform draws the same
ROUNDS = 3  # at least, and more for small pictures, on which one looks closely
MOST_ROUNDS = 12
_STEPS = 6_000


class Pulls(NamedTuple):
    """What each vertex wants to be close to, before and after it, and how much that counts."""

    before: Sequence[Sequence[int]]
    after: Sequence[Sequence[int]]
    weight: Sequence[int]


def stacked(
    layers: Sequence[Sequence[int]], pulls: Pulls, apart: Sequence[Sequence[int]]
) -> list[int]:
    """Return the middle of each vertex in pixels; ``apart`` says how far below the one above it.

    Each layer in turn is moved as close to its neighbours as its order allows: the weighted sum of
    the squares of the distances is the least possible. What has no neighbours at all goes along
    with the vertex above it: else it would stay wherever it was pushed on the way.
    """
    heights = [0] * len(pulls.weight)
    for vertices, gaps in zip(layers, apart, strict=True):
        below = 0
        for vertex, gap in zip(vertices, gaps, strict=True):
            below += gap * UNIT
            heights[vertex] = below
    both = [[*left, *right] for left, right in zip(pulls.before, pulls.after, strict=True)]
    is_loose = [not beside for beside in both]
    rounds = min(max(ROUNDS, _STEPS // (len(heights) + 1)), MOST_ROUNDS)
    for turn in range(rounds):
        is_last = turn == rounds - 1
        for number in range(len(layers)):
            _settle(layers[number], pulls.before, pulls.weight, heights, apart[number], is_loose)
        for number in reversed(range(len(layers))):
            beside = both if is_last else pulls.after
            _settle(layers[number], beside, pulls.weight, heights, apart[number], is_loose)
    for number in range(len(layers)):
        _settle(layers[number], both, pulls.weight, heights, apart[number], is_loose)
    return [height // UNIT for height in heights]


def _settle(
    vertices: Sequence[int],
    beside: Sequence[Sequence[int]],
    weights: Sequence[int],
    heights: list[int],
    gaps: Sequence[int],
    is_loose: Sequence[bool],
) -> None:
    """Move a layer's vertices to where they want to be, as far as their order and size allow.

    Vertices that would overlap move as one block, to the mean of what they want (this is isotonic
    regression, by pooling adjacent violators).
    """
    blocks: list[tuple[int, int, int]] = []  # where, with which weight, how many vertices
    below = 0
    first = 0  # loose vertices above the first block
    for vertex, gap in zip(vertices, gaps, strict=True):
        below += gap * UNIT
        neighbours = beside[vertex]
        if is_loose[vertex]:
            if blocks:
                wish, weight, count = blocks[-1]
                blocks[-1] = wish, weight, count + 1
            else:
                first += 1
            continue
        if len(neighbours) == 1:
            wish = heights[neighbours[0]] - below
        elif neighbours:
            wish = sum([heights[one] for one in neighbours]) // len(neighbours) - below
        else:
            wish = heights[vertex] - below
        weight = weights[vertex]
        count = 1 + first
        first = 0
        while blocks and blocks[-1][0] > wish:
            above, heavy, many = blocks.pop()
            wish = (above * heavy + wish * weight) // (heavy + weight)
            weight += heavy
            count += many
        blocks.append((wish, weight, count))
    if not blocks:
        return  # all are loose, and stay as they were stacked
    number = 0
    below = 0
    for wish, _, count in blocks:
        for vertex in vertices[number : number + count]:
            below += gaps[number] * UNIT
            heights[vertex] = wish + below
            number += 1
