"""Graphs of nodes in groups, and tasks that show how many of a group are inside at once."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import anyio

from dagron import DAG, NodePolicy
from ways import GUARD, passes

G = NodePolicy(group="g")


def nodes(policy: NodePolicy | None, *names: str, others: str = "") -> DAG:
    """Return a graph without edges: nodes with this policy, and others without one."""
    builder = DAG.builder()
    for name in names:
        builder.add_node(name, policy=policy)
    for name in others.split():
        builder.add_node(name)
    return builder.build()


def numbered(count: int) -> list[str]:
    return [f"n{i}" for i in range(count)]


def inside(*blocks: AbstractContextManager[Any], turns: int = 3) -> Callable[[], Any]:
    """Return an async task that is in these blocks for some passes of the loop."""

    async def task() -> None:
        with ExitStack() as stack:
            for block in blocks:
                stack.enter_context(block)
            await passes(turns)

    return task


def inside_thread(*blocks: AbstractContextManager[Any]) -> Callable[[], Any]:
    def task() -> None:
        with ExitStack() as stack:
            for block in blocks:
                stack.enter_context(block)

    return task


async def wait(event: anyio.Event) -> None:
    with anyio.fail_after(GUARD):
        await event.wait()
