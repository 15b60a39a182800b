"""Stretches of time, or of paper, packed in lanes so that no two of a lane overlap."""

from collections.abc import Iterable
from heapq import heappop, heappush


def packed(stretches: Iterable[tuple[int, int]]) -> list[int]:
    """Return the lane of each stretch, from 0: the first one that is free where it begins.

    A stretch may begin where another one ends. There are as few lanes as can be: as many as there
    are stretches at one point.
    """
    stretches = list(stretches)
    lanes = [0] * len(stretches)
    busy: list[tuple[int, int]] = []  # until when, and which lane
    free: list[int] = []
    for number in sorted(range(len(stretches)), key=stretches.__getitem__):
        start, end = stretches[number]
        while busy and busy[0][0] <= start:
            heappush(free, heappop(busy)[1])
        lane = heappop(free) if free else len(busy)
        lanes[number] = lane
        heappush(busy, (end, lane))
    return lanes
