"""Graphs whose nodes have policies, and tasks that fail so many times."""

import threading
from typing import Any

import anyio

from dagron import DAG, ExecutionResult, NodePolicy, Retry


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
