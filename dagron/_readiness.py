"""From the edges to a node to the verdict on it: run it, skip it, or wait for more.

Of the edges to a node some are pending, since their source is not done, some met (it succeeded),
some inactive (a condition switched them off, or skipped the source), and the rest unmet (it failed,
was cancelled, or was skipped because of such a node). They are counted down, never scanned.
"""

from collections.abc import Sequence

from dagron._adjacency import Adjacency
from dagron._blame import Blame, Why
from dagron._policy import Trigger, all_succeeded
from dagron._status import COMPLETED, FAILED, SKIPPED, UNMET, NodeStatus


class Readiness:
    """The counts of the edges to each node of a graph that grows."""

    __slots__ = (
        "_graph",
        "_inactive",
        "_met",
        "_status",
        "_triggers",
        "settled",
        "special",
        "waiting",
    )

    def __init__(self, graph: Adjacency, status: dict[str, NodeStatus]) -> None:
        self._graph = graph
        self._status = status
        # How many edges to a node are pending: all that there is to know of a plain node, since a
        # failure of what it depends on skips it at once. Special are the nodes that have a trigger,
        # or to which an edge became inactive.
        self.waiting = {name: len(edges) for name, edges in graph.dependencies.items()}
        self.special: set[str] = set()
        self._triggers: dict[str, Trigger] = {}
        self._met: dict[str, int] = {}  # how many edges are met, of the nodes with a trigger
        self._inactive: dict[str, dict[str, Blame]] = {}  # which ones, and why, by target
        # The targets of edges that count as if their source had succeeded, although it has not, or
        # not yet: from a node whose expander goes on to the nodes that it has added.
        self.settled: dict[str, set[str]] = {}

    def set_trigger(self, name: str, trigger: Trigger) -> None:
        """Let this trigger decide; none of the node's dependencies may be done."""
        if trigger != all_succeeded:
            self._triggers[name] = trigger
            self._met[name] = 0
            self.special.add(name)

    def forget(self, name: str) -> None:
        """Drop a node that is gone."""
        del self.waiting[name]
        if self.settled:
            self.settled.pop(name, None)
            for source in self._graph.dependencies.get(name, ()):
                self._unsettle(source, name)
        if name in self.special:
            self.special.remove(name)
            for table in (self._triggers, self._met, self._inactive):
                table.pop(name, None)

    # -- answers

    def met(self, name: str) -> Sequence[str]:
        """Return the dependencies that have succeeded, over edges that are active."""
        inactive = self._inactive.get(name, ())
        return [
            source
            for source in self._graph.dependencies[name]
            if source not in inactive
            and (self._status[source] is COMPLETED or self.is_settled(source, name))
        ]

    def is_settled(self, source: str, target: str) -> bool:
        """Tell whether the edge counts as if its source had succeeded."""
        return target in self.settled.get(source, ())

    def verdict(self, name: str) -> bool | None:
        """Return True to run the node, False to skip it, None to wait for more."""
        pending = self.waiting[name]
        if name not in self.special:
            return None if pending else True
        total = len(self._graph.dependencies[name])
        off = self._inactive.get(name, {})
        met = self._met.get(name, total - pending - len(off))
        trigger = self._triggers.get(name, all_succeeded)
        verdict = trigger.verdict(total, pending, met, len(off))
        if verdict and total and len(off) == total:  # all_done, which its own conditions prevent
            return any(blame[1:] != (source, name) for source, blame in off.items())
        return verdict

    def blame(self, name: str) -> Blame:
        """Return why the verdict on a node is to skip it."""
        off = self._inactive.get(name, {})
        sources = self._graph.dependencies[name]
        if len(off) == len(sources):
            return off[next(iter(sources))]
        active = [source for source in sources if source not in off]
        why = f"{len(self.met(name))} of {len(active)}, and its trigger is {self._triggers[name]!r}"
        for source in active:
            if self._status[source] in UNMET:
                why += f"; {source!r} is {self._status[source]}"
                break
        return Blame(Why.TRIGGER, name, why)

    # -- what changes the counts

    def pass_success(self, source: str, target: str, taken: bool) -> None:
        """Count an edge whose source has just completed, and whose condition was judged."""
        self.waiting[target] -= 1
        if not taken:
            self._switch_off(source, target, Blame(Why.CONDITION, source, target))
        elif target in self._met:
            self._met[target] += 1

    def pass_unmet(self, source: str, target: str, blame: Blame) -> bool:
        """Count an edge whose source has just ended without success.

        Returns True when that dooms the target, which then needs no more counting.
        """
        if blame.why is Why.CONDITION:
            self.waiting[target] -= 1
            self._switch_off(source, target, blame)
            return False
        if target in self._triggers:
            self.waiting[target] -= 1
            return False
        return True

    def settle(self, source: str, target: str) -> None:
        """Let an edge count as if its source had succeeded."""
        self.settled.setdefault(source, set()).add(target)

    def _unsettle(self, source: str, target: str) -> bool:
        """Let an edge count as its source does; tell whether it did not."""
        targets = self.settled.get(source)
        if targets is None or target not in targets:
            return False
        targets.remove(target)
        if not targets:
            del self.settled[source]
        return True

    def add_edge(
        self,
        source: str,
        target: str,
        blame: Blame | None,
        *,
        taken: bool,
        judged: bool,
        settled: bool = False,
    ) -> bool:
        """Count an edge that is new; ``blame`` is why its source was skipped, if it was.

        Returns True when it dooms the target.
        """
        now = self._status[source]
        if settled and judged:
            self.settle(source, target)
            now = COMPLETED
        if now is COMPLETED and judged:
            if not taken:
                self._switch_off(source, target, Blame(Why.CONDITION, source, target))
            elif target in self._met:
                self._met[target] += 1
        elif now is SKIPPED and blame is not None and blame.why is Why.CONDITION:
            self._switch_off(source, target, blame)
        elif now in UNMET:
            return target not in self._triggers
        else:
            self.waiting[target] += 1
        return False

    def remove_edge(self, source: str, target: str) -> None:
        """Stop counting an edge."""
        was_settled = self._unsettle(source, target)
        if source in self._inactive.get(target, ()):
            del self._inactive[target][source]
        elif was_settled or self._status[source] is COMPLETED:
            if target in self._met:
                self._met[target] -= 1
        elif self._status[source] not in UNMET:
            self.waiting[target] -= 1

    def _switch_off(self, source: str, target: str, blame: Blame) -> None:
        self._inactive.setdefault(target, {})[source] = blame
        self.special.add(target)


def blame_for(source: str, status: NodeStatus, blame: Blame | None) -> Blame:
    """Return why nodes that need this one, which ended without success, are skipped."""
    if status is SKIPPED and blame is not None:
        return blame
    return Blame(Why.FAILED if status is FAILED else Why.CANCELLED, source)
