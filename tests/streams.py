"""Expanders that are generators, for tests: on the event loop, in a thread, and watched."""

from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from typing import Any

import pytest

from dagron import DynamicModification, DynamicNodeSpec

Step = DynamicNodeSpec | DynamicModification | None
Stream = Callable[[str, Any], Any]
Make = Callable[[Callable[[], Generator[Step]]], Stream]


async def noop() -> None:
    return None


def new(
    name: str,
    *dependencies: str,
    task: Callable[..., Any] = noop,
    dependents: Iterable[str] = (),
    **options: Any,
) -> DynamicNodeSpec:
    return DynamicNodeSpec(name, task, dependencies, dependents, **options)


def on_thread(steps: Callable[[], Generator[Any]]) -> Stream:
    """An expander that is a generator function."""

    def expand(name: str, result: object) -> Generator[Any]:
        yield from steps()

    return expand


def on_loop(steps: Callable[[], Generator[Any]]) -> Stream:
    """An expander that is an async generator function."""

    async def expand(name: str, result: object) -> AsyncGenerator[Any]:
        generator = steps()
        try:
            for step in generator:
                yield step
        finally:
            generator.close()

    return expand


both = pytest.mark.parametrize("make", [on_thread, on_loop], ids=["thread", "loop"])


class Closing:
    """Steps of a generator which note when it is closed, and where."""

    def __init__(self, *steps: Any) -> None:
        self.steps = steps
        self.closed: list[bool] = []

    def __call__(self) -> Generator[Any]:
        try:
            for step in self.steps:
                if isinstance(step, BaseException):
                    raise step
                yield step
        finally:
            self.closed.append(True)
