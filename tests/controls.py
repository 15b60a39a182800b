"""Graphs whose nodes have policies, tasks that fail so many times, and tasks that hold a thread."""

import threading
from collections.abc import Callable
from typing import Any

import anyio

from clocks import reached
from dagron import DAG, ExecutionResult, NodePolicy, Retry
from ways import GUARD, nothing, passes


def graph(edges: str = "", /, **policies: NodePolicy | Retry | None) -> DAG:
    """Return a graph of these nodes, and of edges written as ``"a>b b>c"``."""
    builder = DAG.builder()
    for name, policy in policies.items():
        policy = NodePolicy(retry=policy) if isinstance(policy, Retry) else policy
        builder.add_node(name, policy=policy)
    for edge in edges.split():
        builder.add_edge(*edge.split(">"))
    return builder.build()


def statuses(result: ExecutionResult) -> dict[str, str]:
    return {name: str(result[name].status) for name in result}


def texts(errors: tuple[BaseException, ...]) -> list[str]:
    return [str(error) for error in errors]


class Seconds:
    """The seconds since it was made, by the loop's clock."""

    def __init__(self) -> None:
        self._began = anyio.current_time()

    def __call__(self) -> float:
        return anyio.current_time() - self._began


class Flaky:
    """An async task that fails so many times, and notes the second of every attempt."""

    def __init__(self, failures: int, error: type[BaseException] = OSError) -> None:
        self.failures = failures
        self.error = error
        self.at: list[float] = []
        self._now = Seconds()

    async def __call__(self) -> str:
        self.at.append(self._now())
        if len(self.at) <= self.failures:
            raise self.error(f"attempt {len(self.at)}")
        return "done"


class Failing:
    """A sync task that fails so many times, and notes the threads of its attempts."""

    def __init__(self, failures: int, error: type[BaseException] = OSError) -> None:
        self.failures = failures
        self.error = error
        self.threads: list[threading.Thread] = []

    def __call__(self) -> Any:
        self.threads.append(threading.current_thread())
        if len(self.threads) <= self.failures:
            raise self.error(f"attempt {len(self.threads)}")
        return "done"


class Work:
    """A sync task that blocks its thread until it is let go, and tells of its begin and end."""

    def __init__(self, value: object = "work", then: Callable[[], object] = nothing) -> None:
        self.value = value
        self.then = then
        self.entered = threading.Event()
        self.left = threading.Event()
        self._may_go = threading.Event()
        self.raised: BaseException | None = None
        self.calls = 0

    def __call__(self, *arguments: object) -> object:
        self.calls += 1
        self.entered.set()
        try:
            assert self._may_go.wait(GUARD), "nobody let this thread go"
            self.then()
        except BaseException as error:
            self.raised = error
            raise
        finally:
            self.left.set()
        return self.value

    async def begins(self) -> None:
        """Return when a thread is in here."""
        await reached(self.entered)

    def let_go(self) -> None:
        self._may_go.set()

    async def ends(self) -> None:
        """Let the thread go, and return when it has ended and the loop knows."""
        self.let_go()
        await reached(self.left)
        await passes()
