"""The waiting of nodes in flight for slots."""

from collections.abc import Callable
from typing import Any

from anyio import Event

from dagron._scheduler import Scheduler


class Slots:
    """What a node in flight does with its slots, by way of the scheduler, which owns them.

    ``core`` calls a method on behalf of a node: what fails in there is no failure of the node.
    ``admit`` is called where slots became free.
    """

    def __init__(
        self, scheduler: Scheduler, core: Callable[..., Any], admit: Callable[[], None]
    ) -> None:
        self._scheduler = scheduler
        self._core = core
        self._admit = admit
        self._askers: dict[str, Event] = {}  # nodes in flight that wait for slots
        self._is_over = False
        self.is_free = False  # a run is told again: who goes on in it needs no slots yet

    def grant(self, name: str) -> bool:
        """Let a node go on that has what it asked for; tell whether it had asked for anything."""
        asker = self._askers.get(name)
        if asker is None:
            return False
        asker.set()
        return True

    def stop(self) -> None:
        """Let nobody wait any longer: the run is being cancelled."""
        self._is_over = True
        for asker in self._askers.values():
            asker.set()

    def release(self, name: str) -> None:
        """Let a node not wait any longer: it is being cancelled."""
        asker = self._askers.get(name)
        if asker is not None:
            asker.set()

    def rest(self, name: str) -> None:
        """Give back all slots of the node."""
        self._core(self._scheduler.rest, name)
        self._core(self._admit)

    def return_worker(self, name: str) -> None:
        """Give back the node's worker slot, if it holds one, before the node's end."""
        if name in self._scheduler.working:
            self._core(self._scheduler.return_worker, name)
            self._core(self._admit)

    async def hold(self, name: str, *, worker: bool) -> None:
        """Return when the node holds the slots that it gave back, and a worker's if it wants one.

        It goes before nodes that are only ready.
        """
        wants_worker = worker and name not in self._scheduler.working
        if not wants_worker and name not in self._scheduler.resting:
            return
        if self.is_free:
            return
        if self._is_over or self._core(self._scheduler.ask, name, worker=wants_worker):
            return
        self._askers[name] = granted = Event()
        self._core(self._admit)  # what was offered to threads that end a node is not theirs now
        try:
            await granted.wait()
        finally:
            del self._askers[name]
            self._core(self._scheduler.stop_asking, name)
