"""Gate: a node waits for a decision from outside the graph."""

from collections.abc import Callable
from math import inf
from threading import Lock
from typing import Any

from anyio import (
    CancelScope,
    Event,
    current_effective_deadline,
    get_cancelled_exc_class,
    sleep_forever,
)
from anyio.lowlevel import checkpoint

from dagron._backend import loop_caller
from dagron._current import NodeHost, check_calling_thread, here
from dagron._errors import GateError, GateRejectedError


class Gate:
    """A decision that nodes wait for, made once: by a person, another service, another thread.

    ``await gate.wait()`` in an async task, or ``gate.wait`` as a task by itself, holds no thread
    and, in the node's own task, no slot while it waits. `open` lets all waiters go on with a value,
    `reject` raises in all of them; who comes later gets the same at once. A gate may be made
    anywhere, also outside an event loop. ``name`` is for its texts.
    """

    def __init__(self, name: str = "") -> None:
        self._name = name
        self._lock = Lock()
        self._waiting: dict[Event, Callable[..., object]] = {}  # with how to reach its event loop
        self._state = "closed"
        self._value: Any = None

    @property
    def is_decided(self) -> bool:
        """Whether it was opened or rejected."""
        return self._state != "closed"

    def open(self, value: Any = None) -> None:
        """Let all who wait go on with this value; from any thread.

        Raises `GateError` when it was opened or rejected before.
        """
        self._decide("open", value)

    def reject(self, reason: str = "") -> None:
        """Raise `GateRejectedError` in all who wait; from any thread.

        Raises `GateError` when it was opened or rejected before.
        """
        self._decide("rejected", str(reason))

    def _decide(self, state: str, value: Any) -> None:
        with self._lock:
            if self.is_decided:
                raise GateError(
                    f"{self!r} cannot be decided again\n"
                    f"  help: a gate is decided once; look at gate.is_decided before"
                )
            self._state, self._value = state, value
            waiting, self._waiting = self._waiting, {}
        for event, call_soon in waiting.items():
            try:
                call_soon(event.set)
            except RuntimeError:  # that event loop is gone, and its waiter with it
                continue

    async def wait(self) -> Any:
        """Return the value with which the gate is opened, as soon as it is.

        Raises `GateRejectedError` when it is rejected.
        """
        check_calling_thread()
        if self.is_decided:
            await checkpoint()
        else:
            node = here()
            if node is None or node.call is not None or not node.run.is_own_task():
                await self._decision()
            else:
                await self._decision_without_slots(node.run, node.name)
        if self._state == "rejected":
            reason = self._value
            gate = f"gate {self._name!r}" if self._name else "the gate"
            raise GateRejectedError(f"{gate} was rejected{f': {reason}' if reason else ''}", reason)
        return self._value

    async def _decision(self) -> None:
        event = Event()
        with self._lock:
            if self.is_decided:
                return
            self._waiting[event] = loop_caller()
        try:
            await event.wait()
        finally:
            with self._lock:
                self._waiting.pop(event, None)

    async def _decision_without_slots(self, run: NodeHost, name: str) -> None:
        run.rest(name)
        try:
            await self._decision()
            await run.go_on(name)
            if run.is_cancelled(name) and current_effective_deadline() == -inf:
                await sleep_forever()  # the cancellation is on its way here, past no shield
        except get_cancelled_exc_class():
            # The task may have a scope of its own, and go on after this: then it needs its slots.
            if not run.is_cancelled(name):
                with CancelScope(shield=True, deadline=run.deadline(name)):
                    await run.go_on(name)
            raise

    def __repr__(self) -> str:
        name = f" {self._name!r}" if self._name else ""
        return f"<Gate{name}: {self._state}>"
