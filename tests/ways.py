"""What `execute` means in the numbered statements, and what their nodes wait at and are made of."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from dagron import (
    DAG,
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    ExecutionResult,
)

# A guard against hanging for ever, never waited for in full by a test that passes.
GUARD = 30.0


class Way:
    """One way to run an executor: awaited in a program, or blocking in a script."""

    def __init__(self, name: str, backend: str, *, blocking: bool, uvloop: bool = False) -> None:
        self.name = name
        self.backend = backend
        self.blocking = blocking
        self.options = {"use_uvloop": uvloop} if backend == "asyncio" else {}

    def __str__(self) -> str:
        return self.name

    def __call__(
        self, executor: DynamicExecutor, tasks: Mapping[str, Any], **options: Any
    ) -> ExecutionResult:
        if self.blocking:
            return executor.execute_sync(tasks, backend=self.backend, **options)
        return anyio.run(
            partial(self._await, **options),
            executor,
            tasks,
            backend=self.backend,
            backend_options=self.options,
        )

    async def _await(
        self, executor: DynamicExecutor, tasks: Mapping[str, Any], **options: Any
    ) -> ExecutionResult:
        try:
            return await executor.execute(tasks, **options)
        finally:
            if self.backend == "asyncio":
                assert asyncio.all_tasks() == {asyncio.current_task()}, "a task was left behind"


WAYS = [
    Way("await-asyncio", "asyncio", blocking=False),
    Way("await-trio", "trio", blocking=False),
    Way("sync-asyncio", "asyncio", blocking=True),
    Way("sync-trio", "trio", blocking=True),
]
if find_spec("uvloop"):
    WAYS.append(Way("await-uvloop", "asyncio", blocking=False, uvloop=True))


async def passes(count: int = 25) -> None:
    """Let the event loop come round so often: whatever may start has started by then."""
    for _ in range(count):
        await checkpoint()


class Meeting:
    """Async nodes meet: `join` returns when so many are inside at once; then it begins anew."""

    def __init__(self, parties: int) -> None:
        self._parties = parties
        self._inside = 0
        self._complete = anyio.Event()

    async def join(self) -> None:
        complete = self._complete
        self._inside += 1
        if self._inside == self._parties:
            self._inside = 0
            self._complete = anyio.Event()
            complete.set()
        with anyio.fail_after(GUARD):
            await complete.wait()


class Inside:
    """A `with` block that counts how many are in it, and the most there ever were."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self.most = 0
        self.entered = 0

    def __enter__(self) -> None:
        with self._lock:
            self._count += 1
            self.entered += 1
            self.most = max(self.most, self._count)

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._count -= 1


def chain(*names: str) -> DAG:
    """Return a graph in which each node waits for the one before it."""
    builder = DAG.builder()
    for name in names:
        builder.add_node(name)
    for source, target in pairwise(names):
        builder.add_edge(source, target)
    return builder.build()


def adding(*specs: DynamicNodeSpec) -> Callable[[str, Any], DynamicModification]:
    """Return an expander that adds these nodes."""
    return changing(DynamicModification(specs))


def changing(modification: DynamicModification) -> Callable[[str, Any], DynamicModification]:
    """Return an expander that returns this modification."""

    def expand(name: str, result: Any) -> DynamicModification:
        return modification

    return expand


def nothing() -> None:
    return None
