"""The picture of what a run came to, and of what its graph was at any moment before."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from dagron._checks import counted
from dagron._history import RECORDED, History, Removal
from dagron._names import did_you_mean, plural
from dagron._node_result import NodeResult
from dagron._results import SHOWN_TEXT, ExecutionResult, error_text
from dagron._status import CANCELLED, COMPLETED, FAILED, PENDING, READY, RUNNING, SKIPPED
from dagron.render._families import Fold, Key, Outside, Removed, folded
from dagron.render._past import Birth, Moment, moment
from dagron.render._picture import NODES, REMOVED, Box, Kind, Picture, Sketch
from dagron.render._text import fitted, noted, visible

When: TypeAlias = str | int
STATUSES = (COMPLETED, FAILED, SKIPPED, CANCELLED, RUNNING, READY, PENDING)  # in this order


def picture_of_result(
    result: ExecutionResult, when: When, fold: int | None, *, critical_path: bool = False
) -> Picture:
    """Return the picture at a moment: "before", "after", or after so many modifications.

    Families of more than ``fold`` nodes are one box, but for failures. With ``critical_path`` it
    is marked, where it is known how far the nodes were.
    """
    history = result._history
    version = _version(history, when)
    if fold is not None:
        counted("fold", fold, least=0)
    at = moment(history, result.dag, None if when == "after" else version)
    results = result.node_results if when == "after" else {}
    drawing = _Drawing(at, results, fold)
    if critical_path and when == "after":
        drawing.mark(result.critical_path())
    return drawing.picture(result, when, version)


def _version(history: History, when: When) -> int:
    if when == "before":
        return 0
    if when == "after":
        return history.version
    if not isinstance(when, (str, int)) or isinstance(when, bool):
        raise TypeError(
            f"when is a str or an int, not {type(when).__name__}: {when!r:.60}\n"
            f"  help: {_help(history)}"
        )
    if isinstance(when, str) or not 0 <= when <= history.version:
        help = did_you_mean(when, ("before", "after")) or _help(history)
        raise ValueError(f"there is no moment {when!r:.60} in this run\n  help: {help}")
    if 0 < when < history.earliest():
        raise ValueError(
            f"what the graph was after {when:,} modifications is not known any more: of what was "
            f"removed and rewired, the last {RECORDED:,} changes are kept\n  help: {_help(history)}"
        )
    return when


def _help(history: History) -> str:
    first, last = max(history.earliest(), 1), history.version
    if not last:
        return "give 'before' or 'after'"
    numbers = str(last) if first == last else f"a number from {first} to {last}"
    return f"give 'before', 'after', or {numbers}"


class _Drawing:
    """Makes boxes of the nodes at one moment, and links of the edges."""

    def __init__(self, at: Moment, results: Mapping[str, NodeResult], fold: int | None) -> None:
        self._at = at
        self._results = results
        self._sketch = Sketch()
        self._adders_of = dict(self._adders())
        ghosts = {name: Removed(removal.by) for name, removal in at.ghosts.items()}
        families = {**self._adders_of, **ghosts}
        self._fold_of = folded(families, list(at.edges), fold, self._has_failed)
        self._members: dict[Fold, list[str]] = {}
        for name, of in self._fold_of.items():
            self._members.setdefault(of, []).append(name)

    def _adders(self) -> Iterator[tuple[str, str | Outside]]:
        """Give who added each node that was added while the graph ran, ghosts last."""
        nodes = self._at.nodes
        seen: set[str] = set()
        for name, birth in nodes.items():
            if birth.added_in or birth.added_by is not None:
                yield name, self._adder(birth, seen)
            seen.add(name)
        for name, removal in self._at.ghosts.items():
            if removal.added_in:
                yield name, self._adder(Birth(removal.added_by, removal.added_in), seen)

    def _adder(self, birth: Birth, seen: set[str]) -> str | Outside:
        # Who is not there before its child was forgotten; another node may have its name by now.
        return birth.added_by if birth.added_by in seen else Outside(birth.added_by)

    def _has_failed(self, name: str) -> bool:
        result = self._results.get(name)
        return result is not None and result.status is FAILED

    def _key(self, name: str) -> Key:
        return self._fold_of.get(name, name)

    def mark(self, path: list[str]) -> None:
        """Mark the boxes of these nodes as the critical path."""
        self._sketch.critical = list(dict.fromkeys(map(self._key, path)))

    # -- what is drawn

    def picture(self, result: ExecutionResult, when: When, version: int) -> Picture:
        """Return it, with notes on what it does not show."""
        at, sketch = self._at, self._sketch
        drawn: set[Fold] = set()
        for name in result.dag._order if when == "after" else at.nodes:
            self._draw(name, drawn)
        for name in at.ghosts:
            self._draw(name, drawn)
        for edges, kind in ((at.edges, Kind.EDGE), (at.ghost_edges, Kind.GHOST)):
            for (source, target), has_condition in edges.items():
                self._join(self._key(source), self._key(target), kind, has_condition)
        self._join_lonely()
        if when == "after":
            self._draw_forgotten(result)
            statuses = Counter(node.status for node in result.node_results.values())
            statuses[COMPLETED] += result.forgotten
            sketch.totals = [(word, statuses[word]) for word in STATUSES if statuses[word]]
        sketch.notes += self._notes(result, when, version)
        return sketch.arranged()

    def _notes(self, result: ExecutionResult, when: When, version: int) -> Iterator[str]:
        if when == "after":
            missing = len(result.removed) - len(self._at.ghosts)
            if missing:
                yield f"{missing:,} removed nodes are not shown"
            if result.reason is not None:
                yield f"cut short: {noted(result.reason)}"
            return
        if not version:
            yield "as it was before the run"
            return
        count = result._history.version
        yield f"after {version:,} of {plural(count, 'modification')}"
        if result.forgotten:
            yield f"{result.forgotten:,} forgotten nodes are not shown"

    def _draw(self, name: str, drawn: set[Fold]) -> None:
        fold = self._fold_of.get(name)
        if fold is None:
            self._sketch.add_box(name, self._box(name))
        elif fold not in drawn:
            drawn.add(fold)
            self._sketch.add_box(fold, self._folded_box(fold))

    def _join(
        self, source: Key, target: Key, kind: Kind = Kind.EDGE, has_condition: bool = False
    ) -> None:
        if source != target:
            self._sketch.add_link(source, target, kind, has_condition)

    def _join_lonely(self) -> None:
        """Link those that depend on nothing to the node that added them."""
        led_to = {self._key(target) for _, target in (*self._at.edges, *self._at.ghost_edges)}
        for name, adder in self._adders_of.items():
            if isinstance(adder, str) and self._key(name) not in led_to:
                self._join(self._key(adder), self._key(name), Kind.GROWTH)

    # -- boxes

    def _box(self, name: str) -> Box:
        removal = self._at.ghosts.get(name)
        if removal is not None:
            return Box(name, origin=self._origin(name), fate=_fate(removal))
        result = self._results.get(name)
        if result is None:
            return Box(name, origin=self._origin(name))
        detail, place = _detail(result), _place([result])
        return Box(name, result.status, origin=self._origin(name), detail=detail, place=place)

    def _origin(self, name: str) -> str:
        adder = self._adders_of.get(name)
        if adder is None:
            return ""
        by = adder.name if isinstance(adder, Outside) else adder
        return "added from outside" if by is None else f"added by {by}"

    def _folded_box(self, fold: Fold) -> Box:
        names = self._members[fold]
        words = Counter(self._word(name) for name in names)
        order = (*STATUSES, NODES, REMOVED)
        counts = tuple((word, words[word]) for word in order if words[word])
        origins = dict.fromkeys(self._origin(name) for name in names)
        origin = next(iter(origins))
        if len(origins) > 1:  # of ghosts, some may be initial nodes
            origin = "" if "" in origins else f"added by {len(origins):,} nodes"
        first = self._at.ghosts.get(names[0])
        fate = _fate(first) if first else ""  # one for all: see `Removed`
        place = _place([self._results[name] for name in names if name in self._results])
        pattern, status = _pattern(names), _status(counts)
        return Box(pattern, status, counts, origin, fate, members=names, place=place)

    def _word(self, name: str) -> str:
        if name in self._at.ghosts:
            return REMOVED
        result = self._results.get(name)
        return NODES if result is None else result.status

    def _draw_forgotten(self, result: ExecutionResult) -> None:
        """Draw the nodes of which only counts are left: one box for all that one box has added."""
        forgotten: dict[Key, int] = {}
        for adder, tally in result._tallies.items():
            key = self._key(adder) if adder is not None and adder in self._at.nodes else None
            forgotten[key] = forgotten.get(key, 0) + tally.count
        for key, count in forgotten.items():
            if not count:
                continue
            origin = ""
            if isinstance(key, str):
                origin = f"added by {key}"
            elif isinstance(key, Fold):
                origin = f"added by {len(self._members[key]):,} nodes"
            name = f"{plural(count, 'node')}, forgotten"
            box = Fold(("forgotten", key))
            self._sketch.add_box(box, Box(name, COMPLETED, ((COMPLETED, count),), origin))
            if key is not None:
                self._sketch.add_link(key, box, Kind.GROWTH)


def _fate(removal: Removal) -> str:
    return "removed from outside" if removal.by is None else f"removed by {removal.by}"


def _status(counts: tuple[tuple[str, int], ...]) -> str | None:
    """Return the status of a folded box: that of all its nodes, or that some have failed."""
    words = [word for word, _ in counts]
    if FAILED in words:
        return FAILED
    return words[0] if len(words) == 1 and words[0] not in (NODES, REMOVED) else None


def _pattern(names: list[str]) -> str:
    """Return what the names have in common at their beginnings, and how many there are."""
    first, last = min(names), max(names)
    start = first
    while not last.startswith(start):
        start = start[:-1]
    start = start.rstrip("0123456789")
    return f"{len(names):,} \N{MULTIPLICATION SIGN} {start}\N{HORIZONTAL ELLIPSIS}"


def _place(results: Sequence[NodeResult]) -> str:
    """Return on which runners the nodes ran, if they did not all run in the process of the run."""
    runners = {None if result.place is None else result.place.runner for result in results}
    names = sorted(name for name in runners if name is not None)
    return f"on {', '.join(map(visible, names))}" if names and None not in runners else ""


def _detail(result: NodeResult) -> str:
    """Return what a tooltip says: where a node ran, how often, and why it did not complete."""
    lines = []
    if result.place is not None and result.place.worker is not None:
        lines.append(f"worker: {result.place.worker}")
    if result.attempts > 1:
        lines.append(f"attempts: {result.attempts:,}")
    if result.reason:
        lines.append(fitted(result.reason, SHOWN_TEXT))
    if result.status is FAILED:
        lines.append(error_text(result.error))
    return "\n".join(visible(line) for text in lines for line in text.splitlines())
