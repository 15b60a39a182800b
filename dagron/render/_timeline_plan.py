"""Where everything in a timeline stands, in whole pixels."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, islice, zip_longest
from typing import NamedTuple, TypeAlias

from dagron._status import COMPLETED, FAILED
from dagron._times import Landing
from dagron.render._course import Course, Work
from dagron.render._packing import packed
from dagron.render._plan import MARGIN, NAME_CELLS
from dagron.render._text import cells, fitted, visible
from dagron.render._ticks import ticks

MOST_BARS = 2_000
MOST_LANES = 240  # of low bars without names
MOST_FAILURES = 1_000  # that are shown in any case
MOST_FULL_LINES = 24  # of modifications; where there are more they are but ticks above the lanes

_PLOT = 800  # how wide the whole run is
_MOST_TICKS = 9
_MOST_NAMED = 72  # lanes, where the bars have names
_MOST_PLAIN = 48  # lanes, where they have none, but are high
_CLOSE = 6  # modifications that are closer are one line
_CAPTION_CELLS = 24
_SIGN = 15  # how much room a sign takes, beside its text
_PAD = 5
_LEAST = 2  # pixels that a wait is longer than, to be drawn

Stretch: TypeAlias = tuple[int, int]


class Size(NamedTuple):
    """How high the lanes are, and the bars in them; ``gap`` is between two bars of one lane."""

    pitch: int
    bar: int
    gap: int
    has_names: bool


NAMED = Size(pitch=22, bar=14, gap=6, has_names=True)
PLAIN = Size(pitch=15, bar=10, gap=2, has_names=False)
LOW = Size(pitch=9, bar=6, gap=2, has_names=False)


class Bar(NamedTuple):
    """What is drawn of a node: from left to right, all in its lane.

    ``wait`` is where the waiting begins, and ``label`` where the sign stands and the name begins;
    there is none where it is None.
    """

    work: Work
    lane: int
    wait: int | None
    attempts: Sequence[Stretch]
    end: int
    label: int | None
    name: str


class Mark(NamedTuple):
    """Modifications that landed at the same place on paper, and what is written beside them."""

    left: int
    landings: Sequence[Landing]
    caption: str


class Plan(NamedTuple):
    """A timeline on paper; ``bars`` are in the order of the results.

    ``queue`` says from where on how many nodes waited at once, where the bars cannot show it.
    """

    size: Size
    bars: list[Bar]
    marks: list[Mark]
    ticks: list[tuple[int, str]]
    top: int  # of the first lane
    bottom: int
    width: int
    queue: list[tuple[int, int]]

    def middle(self, lane: int) -> int:
        """Return how far down the bars of a lane are."""
        return self.top + lane * self.size.pitch + self.size.pitch // 2


def planned(course: Course, critical: Sequence[str]) -> Plan:
    """Return where the bars stand: in names' size where there is room for that, else low."""
    scale = _scale(course.length)
    works = _capped(course.works, critical, MOST_BARS)
    size = NAMED
    queue: list[tuple[int, int]] = []
    bars = _bars(works, scale, size)
    if _lanes(bars) > _MOST_NAMED:
        size = LOW
        bars = _bars(works, scale, size)
    if _lanes(bars) > MOST_LANES:
        if any(bar.wait is not None for bar in bars):
            queue = _queue(course.works, scale)
        works = [work._replace(ready=work.start) for work in works]
        bars = _bars(works, scale, size)
    while _lanes(bars) > MOST_LANES:
        works = _capped(works, critical, max(MOST_LANES, len(works) * 3 // 4))
        bars = _bars(works, scale, size)
    if size is LOW and _lanes(bars) <= _MOST_PLAIN:
        size = PLAIN
    marks = list(_marks(course.landings, scale))
    top = MARGIN + 18 + (20 if marks else 6)
    written = [
        *(bar.label + _width(bar.name) for bar in bars if bar.label is not None),
        *(mark.left + 12 + cells(mark.caption) * 61 // 10 for mark in marks),
    ]
    return Plan(
        size,
        bars,
        marks,
        [(scale(at), text) for at, text in ticks(course.length, _MOST_TICKS)],
        top,
        top + _lanes(bars) * size.pitch if bars or marks else 0,
        max(MARGIN + _PLOT if bars or marks else 0, *written, 0),
        queue,
    )


def _scale(length: int) -> Callable[[int], int]:
    length = max(length, 1)
    return lambda at: MARGIN + (at * _PLOT * 2 + length) // (length * 2)


def _capped(works: list[Work], critical: Iterable[str], most: int) -> list[Work]:
    """Return so many: failures first, then the critical path, then what took longest."""
    if len(works) <= most:
        return works
    failed = (number for number, work in enumerate(works) if work.result.status is FAILED)
    chosen = dict.fromkeys(islice(failed, MOST_FAILURES))
    path = set(critical)
    chosen |= dict.fromkeys(n for n, work in enumerate(works) if work.result.name in path)
    by_length = sorted(range(len(works)), key=lambda n: works[n].start - works[n].end)
    chosen |= dict.fromkeys(by_length)
    return [works[number] for number in sorted(islice(chosen, most))]


def _lanes(bars: Iterable[Bar]) -> int:
    return max((bar.lane + 1 for bar in bars), default=0)


def _bars(works: Iterable[Work], scale: Callable[[int], int], size: Size) -> list[Bar]:
    bars = [_bar(work, scale, size) for work in works]
    lanes = packed([_room(bar, size) for bar in bars])
    return [bar._replace(lane=lane) for bar, lane in zip(bars, lanes, strict=True)]


def _bar(work: Work, scale: Callable[[int], int], size: Size) -> Bar:
    attempts = []
    left = 0
    for start, end in work.attempts:
        start = max(scale(start), left)
        left = max(scale(end), start + 2)
        attempts.append((start, left))
    end = max(scale(work.end), left)
    ready = scale(work.ready)
    wait = ready if ready < attempts[0][0] - _LEAST else None
    name = fitted(visible(work.result.name), NAME_CELLS) if size.has_names else ""
    label = None
    if size.has_names or work.result.status is not COMPLETED:
        first, last = attempts[-1]
        fits = last - first >= _width(name) + 2 * _PAD
        label = first + _PAD if fits else end + _PAD
    return Bar(work, 0, wait, attempts, end, label, name)


def _width(name: str) -> int:
    """Return how much room a sign and a name take."""
    return (_SIGN if name else 10) + cells(name) * 61 // 10


def _room(bar: Bar, size: Size) -> Stretch:
    left = bar.attempts[0][0] if bar.wait is None else bar.wait
    right = bar.end
    if bar.label is not None:
        right = max(right, bar.label + _width(bar.name))
    return left, right + size.gap


def _queue(works: Iterable[Work], scale: Callable[[int], int]) -> list[tuple[int, int]]:
    """Return, from left to right, where it changed how many nodes waited, and to how many."""
    changes: Counter[int] = Counter()
    for work in works:
        changes[scale(work.ready)] += 1
        changes[scale(work.start)] -= 1
    lefts = sorted(changes)
    return list(zip(lefts, accumulate(changes[left] for left in lefts), strict=True))


# -- modifications


def _marks(landings: Iterable[tuple[int, Landing]], scale: Callable[[int], int]) -> Iterable[Mark]:
    """Give those that are far enough from each other, with captions where there is room."""
    groups: list[tuple[int, list[Landing]]] = []
    for at, landing in landings:
        left = scale(at)
        if groups and left - groups[-1][0] < _CLOSE:
            groups[-1][1].append(landing)
        else:
            groups.append((left, [landing]))
    are_few = len(groups) <= MOST_FULL_LINES
    following = [left for left, _ in groups[1:]]
    for (left, group), end in zip_longest(groups, following):
        caption = fitted(visible(told_of(group)), _CAPTION_CELLS)
        has_room = end is None or left + cells(caption) * 61 // 10 + 16 < end
        yield Mark(left, group, caption if are_few and has_room else "")


def told_of(landings: Sequence[Landing]) -> str:
    """Return who changed the graph, and by how many nodes."""
    by = {landing.by for landing in landings}
    who = f"{len(landings):,} modifications"
    if len(by) == 1:
        who = next(iter(by)) or "from outside"
    added = sum(landing.added for landing in landings)
    removed = sum(landing.removed for landing in landings)
    parts = [f"+{added:,}" * bool(added), f"\N{MINUS SIGN}{removed:,}" * bool(removed)]
    return " ".join([who, *filter(None, parts)])
