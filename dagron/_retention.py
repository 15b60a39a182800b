"""Which completed nodes nobody needs any more, where not all are to be kept."""

from dagron._adjacency import Adjacency
from dagron._keep import Fold, Keep
from dagron._status import COMPLETED, UNDONE, NodeStatus


class Retention:
    """Counts the dependents that still need a completed node: with the last one, it is spare.

    Nodes that ended otherwise are kept in any case.
    """

    __slots__ = ("_consumers", "_default", "_graph", "_other", "_status", "active", "spare")

    def __init__(self, graph: Adjacency, status: dict[str, NodeStatus], default: str) -> None:
        self._graph = graph
        self._status = status
        self._default = default
        self._other: dict[str, str] = {}  # of nodes for which the one that added them says other
        self._consumers: dict[str, int] = {}  # unfinished dependents of completed nodes
        self.active = default != "all"
        self.spare: dict[str, None] = {}  # nodes to forget, until somebody takes them from here

    def adopt(self, name: str, keep: Keep) -> None:
        """Note what is to stay of a node that was added."""
        word = "failures" if isinstance(keep, Fold) else keep
        if word != self._default:
            self._other[name] = word
        self.active = self.active or word != "all"

    def forget(self, name: str) -> None:
        """Drop a node that is to be forgotten: what it depended on is no leaf for that."""
        for source in self._graph.dependencies[name]:
            if self._keep(source) == "leaves":
                self._other[source] = "failures"
        self.drop(name)

    def drop(self, name: str) -> None:
        """Forget all about a node that is gone."""
        self._other.pop(name, None)
        self._consumers.pop(name, None)
        self.spare.pop(name, None)

    def end(self, name: str) -> None:
        """Note that a node has ended, in whatever way."""
        for source in self._graph.dependencies[name]:
            self.release(source)
        if self._status[name] is COMPLETED:
            self.judge(name)

    def judge(self, name: str) -> bool:
        """Tell by the dependents of a completed node whether it is spare by now."""
        keep = self._keep(name)
        dependents = self._graph.dependents[name]
        self.spare.pop(name, None)
        if keep == "all" or (keep == "leaves" and not dependents):
            return False
        left = sum(self._status[dependent] in UNDONE for dependent in dependents)
        if left:
            self._consumers[name] = left
        else:
            self.spare[name] = None
        return not left

    def _keep(self, name: str) -> str:
        return self._other.get(name, self._default)

    def add_edge(self, source: str, target: str) -> None:
        """Note that a node depends on another one from now on."""
        if source in self._consumers:
            self._consumers[source] += self._status[target] in UNDONE
        elif self._status[source] is COMPLETED:  # a leaf until now
            self.judge(source)

    def remove_edge(self, source: str, target: str) -> None:
        """Note that a node does not depend on another one any more."""
        if self._status[target] in UNDONE:
            self.release(source)
        elif source in self.spare:  # it may be a leaf by now
            self.judge(source)

    def release(self, source: str) -> None:
        """Note that one of the unfinished nodes that depended on this one has ended, or is gone."""
        left = self._consumers.get(source)
        if left is None:
            return
        self._consumers[source] = left - 1
        if left == 1:
            del self._consumers[source]
            self.judge(source)
