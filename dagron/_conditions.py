"""Where the conditions on edges are asked."""

from collections.abc import Callable, Mapping
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from dagron._calls import is_awaitable
from dagron._edge import Condition, condition_of
from dagron._errors import ConditionError
from dagron._landing import Landing
from dagron._raised import forget_our_frames, keyboard_interrupt
from dagron._results import NodeResult, error_text
from dagron._scheduler import Scheduler
from dagron._status import COMPLETED, PENDING, WAITING

_UNRUN = (GeneratorType, AsyncGeneratorType)


def judge(condition: Condition, source: str, target: str, value: Any) -> bool | ConditionError:
    """Return whether the edge is taken, or the error if the condition gives no answer."""
    where = f"the condition on the edge from {source!r:.60} to {target!r:.60}"
    try:
        answer = condition(value)
        if not is_awaitable(answer) and not isinstance(answer, _UNRUN):
            return bool(answer)
        if isinstance(answer, CoroutineType):
            answer.close()
        return ConditionError(
            f"{where} returned {type(answer).__name__}, whose code did not run\n"
            f"  help: conditions are plain functions; let the node {source!r:.60} find out",
            (source, target),
        )
    except BaseException as error:
        forget_our_frames(error)
        failure = ConditionError(f"{where} raised {error_text(error)}", (source, target))
        failure.__cause__ = error
        return failure


class Conditions:
    """Asks the conditions on the edges of one run.

    ``on_interrupt`` is called with a KeyboardInterrupt that one of them raised.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        results: Mapping[str, NodeResult],
        on_interrupt: Callable[[KeyboardInterrupt], None],
    ) -> None:
        self._scheduler = scheduler
        self._results = results
        self._on_interrupt = on_interrupt

    def of_node(
        self, name: str, value: Any, conditions: Mapping[str, Condition]
    ) -> tuple[set[str], dict[str, ConditionError]]:
        """Ask those on the edges from a node that succeeds with this value.

        Returns the targets whose condition is false, and the errors of those that gave no answer.
        """
        untaken: set[str] = set()
        broken: dict[str, ConditionError] = {}
        for target, condition in conditions.items():
            verdict = self._ask(condition, name, target, value)
            if isinstance(verdict, ConditionError):
                broken[target] = verdict
            elif not verdict:
                untaken.add(target)
        return untaken, broken

    def of_edges(
        self, landing: Landing
    ) -> tuple[set[tuple[str, str]], dict[tuple[str, str], ConditionError]]:
        """Ask those on edges that a modification adds from nodes that have succeeded before."""
        untaken: set[tuple[str, str]] = set()
        broken: dict[tuple[str, str], ConditionError] = {}
        status = self._scheduler.statuses().get
        removed = set(landing.removed_edges)
        for edge in dict.fromkeys(landing.added_edges):
            source, target = edge
            condition = condition_of(edge)
            if (
                condition is None
                or status(source) is not COMPLETED
                or status(target, PENDING) not in WAITING
                or (edge not in removed and self._scheduler.has_edge(*edge))
            ):
                continue
            verdict = self._ask(condition, source, target, self._results[source].result)
            if isinstance(verdict, ConditionError):
                broken[edge] = verdict
            elif not verdict:
                untaken.add(edge)
        return untaken, broken

    def _ask(
        self, condition: Condition, source: str, target: str, value: Any
    ) -> bool | ConditionError:
        verdict = judge(condition, source, target, value)
        if isinstance(verdict, ConditionError) and verdict.__cause__ is not None:
            interrupt = keyboard_interrupt(verdict.__cause__)
            if interrupt is not None:
                self._on_interrupt(interrupt)
        return verdict
