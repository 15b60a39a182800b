"""Where the conditions on edges are asked."""

from collections.abc import Callable, Mapping
from typing import Any

from dagron._calls import has_not_run
from dagron._edge import Condition, condition_of
from dagron._errors import ConditionError
from dagron._landing import Landing
from dagron._raised import forget_our_frames, keyboard_interrupt
from dagron._results import error_text
from dagron._scheduler import Scheduler
from dagron._status import COMPLETED, PENDING, WAITING


def judge(condition: Condition, source: str, target: str, value: Any) -> bool | ConditionError:
    """Return whether the edge is taken, or the error if the condition gives no answer."""
    where = f"the condition on the edge from {source!r:.60} to {target!r:.60}"
    try:
        answer = condition(value)
        if not has_not_run(answer):
            return bool(answer)
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

    ``value`` returns what dependents get of a node; ``on_interrupt`` is called with a
    KeyboardInterrupt that one of them raised.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        value: Callable[[str], Any],
        on_interrupt: Callable[[KeyboardInterrupt], None],
    ) -> None:
        self._scheduler = scheduler
        self._value = value
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
        self, landing: Landing, settled: str | None = None
    ) -> tuple[set[tuple[str, str]], dict[tuple[str, str], ConditionError]]:
        """Ask those on edges that a modification adds from nodes that have succeeded before.

        ``settled`` is a node that goes on, which counts as one of these for the nodes that it adds.
        """
        untaken: set[tuple[str, str]] = set()
        broken: dict[tuple[str, str], ConditionError] = {}
        status = self._scheduler.statuses().get
        removed = set(landing.removed_edges)
        for edge in dict.fromkeys(landing.added_edges):
            source, target = edge
            condition = condition_of(edge)
            is_settled = source == settled and target in landing.added_nodes
            if (
                condition is None
                or not (is_settled or status(source) is COMPLETED)
                or status(target, PENDING) not in WAITING
                or (edge not in removed and self._scheduler.has_edge(*edge))
            ):
                continue
            verdict = self._ask(condition, source, target, self._value(source))
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
