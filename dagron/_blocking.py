"""The detector of async tasks that block the event loop: a thread that looks at what runs there."""

import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from types import FrameType
from typing import Any

from anyio import TaskHandle

from dagron._errors import BlockingWarning
from dagron._logs import ERROR, log

LOOKS = 5  # in the time after which a task counts as blocking

# node, file, line, function, seconds
Tell = Callable[[str, str, int, str, float], None]


class Sightings:
    """Tells from looks at the event loop's thread which node blocks it.

    ``turns`` counts how often the loop came round: a node that is seen in look after look while it
    does not come round has been in one step all the time.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._seen: tuple[str, int] | None = None
        self._since = 0.0
        self._told: set[str] = set()

    def look(self, node: str | None, turns: int, now: float) -> float | None:
        """Return how long the node has been blocking, the first time that it is too long."""
        if node is None or (node, turns) != self._seen:
            self._seen = None if node is None else (node, turns)
            self._since = now
            return None
        seconds = now - self._since
        if seconds < self._threshold or node in self._told:
            return None
        self._told.add(node)
        return seconds


class _Detector(threading.Thread):
    def __init__(
        self,
        threshold: float,
        run_id: str,
        handles: Mapping[str, TaskHandle[None] | None],
        call_soon: Callable[[Callable[[], object]], object],
        tell: Tell,
    ) -> None:
        super().__init__(name="dagron blocking detector", daemon=True)
        self._interval = threshold / LOOKS
        self._run_id = run_id
        self._handles = handles
        self._call_soon = call_soon
        self._tell = tell
        self._sightings = Sightings(threshold)
        self._loop_thread = threading.get_ident()
        self._turns = 0
        self._is_asked = False  # the loop has not come round since it was asked to
        self.over = threading.Event()

    def _turn(self) -> None:
        self._turns += 1
        self._is_asked = False

    def run(self) -> None:
        while not self.over.wait(self._interval):
            if not self._is_asked:  # it has come round: nothing blocks it
                self._is_asked = True
                self._call_soon(self._turn)
                continue
            stack = _stack(sys._current_frames().get(self._loop_thread))
            node = self._node_on(stack)
            seconds = self._sightings.look(node, self._turns, perf_counter())
            if seconds is not None and node is not None:
                self._warn(node, _users_own(stack), seconds)
            del stack

    def _node_on(self, stack: list[FrameType]) -> str | None:
        """Return the node that runs on this stack."""
        steps: dict[Any, str] = {
            handle.coro.cr_frame: name for name, handle in self._in_flight() if handle is not None
        }
        return next((steps[frame] for frame in stack if frame in steps), None)

    def _in_flight(self) -> list[tuple[str, Any]]:
        try:
            return list(self._handles.items())
        except RuntimeError:  # it changed meanwhile: then the loop turns
            return []

    def _warn(self, node: str, frame: FrameType, seconds: float) -> None:
        file, line, function = frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name
        message = (
            f"node {node!r:.60} has blocked the event loop for {seconds:.3g} s, "
            f"in {function}() at {file}:{line}\n"
            f"  help: make its task a plain def, which runs in a worker thread, "
            f"or await anyio.to_thread.run_sync(...) there"
        )
        self._tell(node, file, line, function, seconds)
        try:
            warnings.warn_explicit(message, BlockingWarning, file, line)
        except Exception as error:  # warnings are errors, say: but this thread has nobody to tell
            log(ERROR, self._run_id, node, "%s", message, error=error)


def _stack(frame: FrameType | None) -> list[FrameType]:
    """Return the frames of a stack, the innermost first."""
    stack = []
    while frame is not None:
        stack.append(frame)
        frame = frame.f_back
    return stack


def _users_own(stack: list[FrameType]) -> FrameType:
    """Return the innermost frame that is not in a library: there is something to change."""
    from sysconfig import get_paths  # on use: warnings are rare

    libraries = tuple({path for name, path in get_paths().items() if "lib" in name})
    own = (frame for frame in stack if not frame.f_code.co_filename.startswith(libraries))
    return next(own, stack[0])


@contextmanager
def watching(
    threshold: float | None,
    run_id: str,
    handles: Mapping[str, TaskHandle[None] | None],
    call_soon: Callable[[Callable[[], object]], object],
    tell: Tell,
) -> Iterator[None]:
    """Watch the current thread's event loop inside the block, if there is a threshold."""
    if threshold is None:
        yield
        return
    detector = _Detector(threshold, run_id, handles, call_soon, tell)
    detector.start()
    try:
        yield
    finally:
        detector.over.set()
        detector.join()
