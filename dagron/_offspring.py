"""The children of nodes that go on adding nodes: how many are unfinished, and who waits."""

from collections.abc import Collection, Iterable


class Offspring:
    """The unfinished children of every node that grows the graph step by step."""

    __slots__ = ("relying", "roomy", "unfinished", "waiting")

    def __init__(self) -> None:
        self.unfinished: dict[str, set[str]] = {}  # by the node that added them; for reading
        # The nodes that wait until fewer than so many children are unfinished; for reading.
        self.waiting: dict[str, int] = {}
        self.relying: set[str] = set()  # those of them that do nothing else meanwhile; for reading
        self.roomy: list[str] = []  # nodes whose wait is over, until somebody takes them from here

    def begin(self, parent: str) -> None:
        """Count the children of this node from now on."""
        self.unfinished.setdefault(parent, set())

    def end(self, parent: str) -> Collection[str]:
        """Stop counting; return the children that are unfinished."""
        self.stop_waiting(parent)
        return self.unfinished.pop(parent, ())

    def add(self, parent: str, names: Iterable[str]) -> None:
        """Count these too, of a parent that counts."""
        self.unfinished[parent].update(names)

    def finish(self, name: str, parent: str | None) -> None:
        """Note that a node is done, or gone."""
        children = self.unfinished.get(parent) if parent is not None else None
        if children is not None and parent is not None:
            children.discard(name)
            if len(children) < self.waiting.get(parent, 0):
                self.stop_waiting(parent)
                self.roomy.append(parent)

    def let_go(self, parent: str) -> None:
        """Count the children of this node as done that are not: it does not wait for them."""
        for name in list(self.unfinished.get(parent, ())):
            self.finish(name, parent)

    def wait(self, parent: str, limit: int) -> bool:
        """Tell whether fewer than ``limit`` children are unfinished; if not, this node waits."""
        if len(self.unfinished[parent]) < limit:
            return True
        self.waiting[parent] = limit
        return False

    def rely(self, parent: str) -> None:
        """Note that a node which waits does nothing else: without its children it stands still."""
        self.relying.add(parent)

    def stop_waiting(self, parent: str) -> None:
        """Let a node not wait any longer."""
        self.waiting.pop(parent, None)
        self.relying.discard(parent)
