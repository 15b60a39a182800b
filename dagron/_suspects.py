"""Nodes that may have killed the process of their run: one at a time."""

from collections.abc import Iterable

from anyio import Event, move_on_after

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
        self._waiting: dict[str, Event] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def begin(self, name: str) -> bool:
        """Tell whether it is the node's turn; else it is to `wait`."""
        if self._turn is None:
            self._turn = name
        return self._turn == name

    async def wait(self, name: str) -> None:
        """Return when it is the node's turn."""
        self._waiting[name] = turn = Event()
        while not turn.is_set():
            with move_on_after(PATIENCE) as patience:
                await turn.wait()
            if patience.cancelled_caught and next(iter(self._waiting)) == name:
                self._go_on()

    def end(self, name: str) -> None:
        """Let the next one have its turn: it is written what became of this one."""
        self._names.discard(name)
        self._waiting.pop(name, None)
        if self._turn == name:
            self._go_on()

    def _go_on(self) -> None:
        self._turn = next(iter(self._waiting), None)
        if self._turn is not None:
            self._waiting.pop(self._turn).set()
