"""Nodes that may have killed the process of their run: one at a time."""

from collections.abc import Iterable
from math import inf

from anyio import Event, current_time, move_on_after

PATIENCE = 10.0  # seconds


class Suspects:
    """Nodes that were at work at so many crashes that with one more they fail.

    They are at work one after another, so that the next crash has one of them to blame, and not
    all that were beside it. Others run as ever. One that is at work for long is not waited for:
    it may wait for what another one does.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = set(names)
        self._turn: str | None = None
        self._since = inf  # when the turn began, by the loop's clock
        self._line: dict[str, None] = {}
        self._moved = Event()

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def begin(self, name: str) -> bool:
        """Tell whether it is the node's turn; else it is to `wait`."""
        if self._turn is None:
            self._turn, self._since = name, current_time()
        return self._turn == name

    async def wait(self, name: str) -> None:
        """Return when it is the node's turn."""
        self._line[name] = None
        try:
            while name in self._line:
                is_next = next(iter(self._line)) == name
                patience = self._since + PATIENCE - current_time() if is_next else inf
                with move_on_after(patience):
                    await self._moved.wait()
                if is_next and current_time() >= self._since + PATIENCE:
                    self._go_on()
        finally:
            if self._line.pop(name, self) is None:
                self._move()

    def end(self, name: str) -> None:
        """Let the next one have its turn: it is written what became of this one."""
        self._names.discard(name)
        if self._turn == name:
            self._go_on()

    def _go_on(self) -> None:
        self._turn, self._since = next(iter(self._line), None), current_time()
        if self._turn is not None:
            del self._line[self._turn]
        self._move()

    def _move(self) -> None:
        self._moved.set()
        self._moved = Event()
