"""A sync generator in a worker thread, advanced step by step as the event loop says."""

from collections import deque
from collections.abc import Generator
from threading import Semaphore
from typing import Any

from anyio import Event

from dagron._backend import Host
from dagron._calls import returned_by_generator


class Pump:
    """Advances a generator in the one thread that calls this, from its start to its closing.

    ``call_soon`` of the host is the only way from the thread to the loop; a semaphore, on which the
    thread waits for its next turn, the only way back.
    """

    def __init__(self, host: Host, generator: Generator[Any, Any, Any]) -> None:
        self._host = host
        self._generator = generator
        self._turn = Semaphore(0)
        self._is_stopped = False
        self._items: deque[Any] = deque()
        self._news = Event()
        self._is_over = False

    # -- in the thread

    def __call__(self) -> None:
        """Run the generator to its end, or until it is stopped."""
        generator = self._generator
        try:
            while self._turn.acquire() and not self._is_stopped:
                try:
                    item = next(generator)
                except StopIteration as end:
                    if end.value is not None:
                        raise returned_by_generator(end.value) from None
                    return
                self._items.append(item)
                del item
                self._host.call_soon(self._tell)
        finally:
            generator.close()

    # -- in the event loop

    def _tell(self) -> None:
        self._news.set()

    async def advance(self) -> bool:
        """Let the thread take a step, and return whether there is an item when it has."""
        self._turn.release()
        while not (self._items or self._is_over):
            self._news = Event()
            await self._news.wait()
        return bool(self._items)

    def take(self) -> Any:
        """Return the item."""
        return self._items.popleft()

    def stop(self) -> None:
        """Let the thread close the generator as soon as it has its next turn."""
        self._is_stopped = True
        self._turn.release()

    def end(self) -> None:
        """Note that the thread has ended, or will not be waited for."""
        self._is_over = True
        self._news.set()
