"""What a picture shows: boxes and links between them, whatever it is drawn as."""

from collections import deque
from collections.abc import Iterable, Sequence
from enum import IntEnum
from itertools import islice, pairwise
from typing import NamedTuple

from dagron._names import plural
from dagron._status import CANCELLED, COMPLETED, FAILED, PENDING, READY, RUNNING, SKIPPED

SIGNS: dict[str, str] = {
    PENDING: "\N{HORIZONTAL ELLIPSIS}",
    READY: "\N{HORIZONTAL ELLIPSIS}",
    RUNNING: "\N{BLACK RIGHT-POINTING TRIANGLE}",
    COMPLETED: "\N{CHECK MARK}",
    FAILED: "\N{BALLOT X}",
    SKIPPED: "\N{CIRCLED DIVISION SLASH}",
    CANCELLED: "\N{BLACK SQUARE}",
}
NODES, REMOVED = "NODES", "REMOVED"  # what a folded box counts besides statuses
MOST_BOXES = 3_000  # of a picture
MOST_REDUCED = 3_000  # boxes of a picture in which links that only shorten a path are looked for


class Kind(IntEnum):
    """What a link stands for; where several share a line, the largest says how it looks.

    A GROWTH link leads from the node that added others to one that has no edge from it, a GHOST
    link was an edge of a node that was removed, and an EDGE is one.
    """

    GROWTH = 0
    GHOST = 1
    EDGE = 2


class Box(NamedTuple):
    """A node, or many nodes of one family that are folded into one box.

    ``is_critical`` says that it is on the critical path.
    ``counts`` says of a folded box how many of its nodes have which status, and is empty for a
    node. ``origin`` says who added the node while the graph ran, ``fate`` who removed it, ``place``
    where it ran, if not in the process of the run; ``detail`` is the rest of what is worth knowing.
    ``members`` names the nodes of a folded box.
    """

    name: str
    status: str | None = None
    counts: tuple[tuple[str, int], ...] = ()
    origin: str = ""
    fate: str = ""
    is_critical: bool = False
    detail: str = ""
    members: Sequence[str] = ()
    place: str = ""

    @property
    def is_fold(self) -> bool:
        """Tell whether it stands for many nodes."""
        return bool(self.counts)

    def counted(self) -> str:
        """Return the counts as text."""
        return ", ".join(f"{count:,} {word.lower()}" for word, count in self.counts)

    def captions(self) -> list[str]:
        """Return the lines below the name, but for the counts."""
        return [line for line in (self.place, self.origin, self.fate) if line]


class Link(NamedTuple):
    """A line from one box to another, by their positions in the picture: always to a later one.

    ``is_dim`` says that a longer path leads there, too, ``is_critical`` that the critical path
    leads over it.
    """

    source: int
    target: int
    kind: Kind = Kind.EDGE
    has_condition: bool = False
    is_dim: bool = False
    is_critical: bool = False


class Picture(NamedTuple):
    """Boxes in topological order of the links, and what is to be written below them.

    ``totals`` says how many nodes have which status, also of those that are not shown.
    """

    boxes: Sequence[Box]
    links: Sequence[Link]
    notes: Sequence[str] = ()
    totals: Sequence[tuple[str, int]] = ()

    def summary(self) -> str:
        """Return one sentence for those who cannot see it."""
        living = [box for box in self.boxes if not box.fate]
        nodes = sum(sum(count for _, count in box.counts) or 1 for box in living)
        edges = sum(link.kind is Kind.EDGE for link in self.links)
        parts = [plural(nodes, "node"), plural(edges, "edge")]
        parts += [f"{count:,} {word.lower()}" for word, count in self.totals]
        return f"a graph: {', '.join(parts)}"


def capped(picture: Picture, most: int | None = None) -> Picture:
    """Return the picture, of more than so many boxes (3,000 if not said) the first, with a note.

    Up to a third of them are failures, which go before others.
    """
    most = MOST_BOXES if most is None else most
    boxes = picture.boxes
    if len(boxes) <= most:
        return picture
    failed = [number for number, box in enumerate(boxes) if box.status == FAILED]
    chosen = set(failed[: most // 3])
    others = (number for number in range(len(boxes)) if number not in chosen)
    kept = sorted([*chosen, *islice(others, most - len(chosen))])
    position = {number: place for place, number in enumerate(kept)}
    links = [
        link._replace(source=position[link.source], target=position[link.target])
        for link in picture.links
        if link.source in position and link.target in position
    ]
    note = f"{most:,} of {len(boxes):,} boxes are shown"
    return picture._replace(
        boxes=[boxes[number] for number in kept], links=links, notes=(*picture.notes, note)
    )


class Sketch:
    """Collects boxes and links by keys of any kind, in any order, and arranges them."""

    __slots__ = ("_boxes", "_links", "critical", "notes", "totals")

    def __init__(self) -> None:
        self._boxes: dict[object, Box] = {}
        self._links: dict[tuple[object, object], tuple[Kind, bool]] = {}
        self.critical: list[object] = []  # the keys of the critical path
        self.notes: list[str] = []
        self.totals: list[tuple[str, int]] = []

    def add_box(self, key: object, box: Box) -> None:
        self._boxes[key] = box

    def add_link(
        self, source: object, target: object, kind: Kind = Kind.EDGE, has_condition: bool = False
    ) -> None:
        """Add a link between two boxes; of links between the same two, the strongest counts.

        It has a condition only if all of them have.
        """
        ends = (source, target)
        known = self._links.get(ends)
        if known is None or known[0] < kind:
            self._links[ends] = (kind, has_condition)
        elif known[0] == kind:
            self._links[ends] = (kind, has_condition and known[1])

    def arranged(self) -> Picture:
        """Return the picture; links that are no edges and would close a cycle are left out."""
        order = _sorted(self._boxes, self._links)
        if len(order) < len(self._boxes):
            ordered = set(order)
            self._links = {
                ends: link
                for ends, link in self._links.items()
                if link[0] is Kind.EDGE or ends[0] in ordered or ends[1] in ordered
            }
            order = _sorted(self._boxes, self._links)
        position = {key: number for number, key in enumerate(order)}
        links = sorted(
            Link(position[source], position[target], kind, has_condition)
            for (source, target), (kind, has_condition) in self._links.items()
        )
        boxes = [self._boxes[key] for key in order]
        links = _dimmed(len(boxes), links)
        if self.critical:
            at = [position[key] for key in self.critical]
            for number in at:
                boxes[number] = boxes[number]._replace(is_critical=True)
            steps = set(pairwise(at))
            links = [link._replace(is_critical=link[:2] in steps) for link in links]
        return Picture(boxes, links, self.notes, self.totals)


def _sorted(boxes: Iterable[object], links: Iterable[tuple[object, object]]) -> list[object]:
    """Return the keys in topological order, ties by their order; without those on a cycle."""
    waiting: dict[object, int] = dict.fromkeys(boxes, 0)
    targets: dict[object, list[object]] = {}
    for source, target in links:
        waiting[target] += 1
        targets.setdefault(source, []).append(target)
    if not _are_sorted(waiting, targets):
        return _kahn(waiting, targets)
    return list(waiting)


def _are_sorted(order: Iterable[object], targets: dict[object, list[object]]) -> bool:
    seen: set[object] = set()
    for key in order:
        seen.add(key)
        if key in targets and not seen.isdisjoint(targets[key]):
            return False
    return True


def _kahn(waiting: dict[object, int], targets: dict[object, list[object]]) -> list[object]:
    free = deque(key for key, count in waiting.items() if not count)
    order = []
    while free:
        key = free.popleft()
        order.append(key)
        for target in targets.get(key, ()):
            waiting[target] -= 1
            if not waiting[target]:
                free.append(target)
    return order


def _dimmed(size: int, links: list[Link]) -> list[Link]:
    """Return the sorted links, dim where a longer path leads from the source to the target."""
    if size > MOST_REDUCED:
        return links
    first = [0] * (size + 1)  # where the links of each source begin
    for link in links:
        first[link.source + 1] += 1
    for source in range(size):
        first[source + 1] += first[source]
    reached = [0] * size  # from each box, as a set of bits: those of its targets, and itself
    for source in reversed(range(size)):
        seen = 0
        for number in range(first[source], first[source + 1]):
            link = links[number]
            if link.kind is Kind.EDGE:
                if seen >> link.target & 1:
                    links[number] = link._replace(is_dim=True)
                seen |= reached[link.target]
        reached[source] = seen | 1 << source
    return links
