"""Event loops with a clock of their own: nobody waits, and what happens at which second is exact.

A virtual clock jumps to the next timer as soon as there is nothing else to do. It does not wait for
threads: sync nodes in such tests hold gates, or the test has no timers meanwhile. A manual clock
stands still until the test calls `advance`: for threads that run out of time.
"""

import asyncio
import selectors
import sys
import threading
import time
from typing import Any

import pytest
import trio
import trio.testing
from anyio.lowlevel import checkpoint, current_token

from ways import GUARD


class _Selector(selectors.DefaultSelector):
    """Never waits for a timer: it sets the clock to the next one, or leaves the clock alone."""

    def __init__(self, *, jumps: bool) -> None:
        super().__init__()
        self.now = 1_000_000.0  # far from zero, as real clocks are
        self._jumps = jumps

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        if not self._jumps:
            return super().select(None)
        events = super().select(0)
        if not events:
            self.now += timeout
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop with a clock that jumps."""

    _jumps = True

    def __init__(self) -> None:
        self._clock = _Selector(jumps=self._jumps)
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now

    def advance(self, seconds: float) -> None:
        self._clock.now += seconds


class ManualLoop(VirtualLoop):
    """An asyncio event loop with a clock that stands still."""

    _jumps = False


def virtual_asyncio() -> tuple[str, dict[str, Any]]:
    """Return anyio's name of a backend and its options: asyncio, with a clock that jumps."""
    return "asyncio", {"loop_factory": VirtualLoop}


def virtual_trio() -> tuple[str, dict[str, Any]]:
    """Return anyio's name of a backend and its options: trio, with a clock that jumps."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


def manual_asyncio() -> tuple[str, dict[str, Any]]:
    """Return anyio's name of a backend and its options: asyncio, with a clock that stands still."""
    return "asyncio", {"loop_factory": ManualLoop}


def manual_trio() -> tuple[str, dict[str, Any]]:
    """Return anyio's name of a backend and its options: trio, with a clock that stands still."""
    return "trio", {"clock": trio.testing.MockClock()}


@pytest.fixture(params=[virtual_asyncio, virtual_trio], ids=["asyncio", "trio"])
def virtual_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """A backend with a clock that jumps.

    A module whose tests all want it says: `from clocks import virtual_backend as anyio_backend`.
    """
    backend: tuple[str, dict[str, Any]] = request.param()
    return backend


# For single tests: which clock they run on.
VIRTUAL = pytest.mark.parametrize(
    "anyio_backend",
    [pytest.param(virtual_asyncio(), id="asyncio"), pytest.param(virtual_trio(), id="trio")],
)
MANUAL = pytest.mark.parametrize(
    "anyio_backend",
    [pytest.param(manual_asyncio(), id="asyncio"), pytest.param(manual_trio(), id="trio")],
)


def advance(seconds: float) -> None:
    """Move the clock of the running event loop on; what is due then is done in its next pass."""
    loop: Any = current_token().native_token
    if isinstance(loop, VirtualLoop):
        loop.advance(seconds)
    else:
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, trio.testing.MockClock)
        clock.jump(seconds)


async def reached(event: threading.Event) -> None:
    """Return when a thread has set the event; no clock moves meanwhile."""
    end = time.monotonic() + GUARD
    while not event.is_set():
        assert time.monotonic() < end, "a thread did not get where it should"
        await checkpoint()


class Stopwatch:
    """What dagron measures durations with, in the hands of a test."""

    def __init__(self) -> None:
        self.now = 5_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def stopwatch(monkeypatch: pytest.MonkeyPatch) -> Stopwatch:
    """A stopwatch that every module of dagron uses, and that moves when the test moves it."""
    stopwatch = Stopwatch()
    for name, module in list(sys.modules.items()):
        if name.startswith("dagron.") and hasattr(module, "perf_counter"):
            monkeypatch.setattr(module, "perf_counter", stopwatch)
    return stopwatch
