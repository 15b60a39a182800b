"""What a page knows of each node, as plain data for JSON: bounded, however large the run was."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from dagron._history import Removal
from dagron._node_result import LostResult, NodeResult
from dagron._results import ExecutionResult, failed_part
from dagron._status import FAILED
from dagron.render._html_text import error_line, reason_text, result_text, traceback_text
from dagron.render._picture import REMOVED
from dagron.render._text import visible, xml_text

MOST_NODES = 3_000
MOST_FAILURES = 1_000  # that are told of in any case
MOST_NEIGHBOURS = 100
MOST_ATTEMPTS = 20
MOST_TRACEBACKS = 200

Data = dict[str, Any]


class Roll:
    """The nodes that a page tells of, numbered: those that failed before others, then ghosts."""

    def __init__(self, result: ExecutionResult) -> None:
        self.result = result
        changes = result._history.changes
        self.ghosts = {
            change.name: change
            for change in changes
            if isinstance(change, Removal) and change.name not in result.node_results
        }
        self.total = len(result.node_results) + len(self.ghosts)
        self.number = {name: number for number, name in enumerate(self._chosen())}

    def _chosen(self) -> list[str]:
        results = self.result.node_results
        if self.total <= MOST_NODES:
            return [*results, *self.ghosts]
        failed = (name for name, node in results.items() if node.status is FAILED)
        chosen = set(islice(failed, MOST_FAILURES))
        others = (name for name in (*results, *self.ghosts) if name not in chosen)
        chosen.update(islice(others, MOST_NODES - len(chosen)))
        return [name for name in (*results, *self.ghosts) if name in chosen]

    def numbers(self, names: Iterable[str]) -> list[int]:
        """Return the numbers of those that the page tells of."""
        return [self.number[name] for name in names if name in self.number]


def nodes_of(roll: Roll, began: float | None, with_results: bool) -> list[Data]:
    """Return what there is to know of each node; ``began`` is when the run did, if it is known."""
    return _Telling(roll, began, with_results).nodes()


class _Telling:
    def __init__(self, roll: Roll, began: float | None, with_results: bool) -> None:
        self._roll = roll
        self._began = began or 0.0
        self._with_results = with_results
        self._tracebacks = 0
        self._children: dict[str, list[str]] = {}
        for node in roll.result.node_results.values():
            if node.added_by is not None:
                self._children.setdefault(node.added_by, []).append(node.name)

    def nodes(self) -> list[Data]:
        results, ghosts = self._roll.result.node_results, self._roll.ghosts
        return [
            self._node(results[name]) if name in results else self._ghost(ghosts[name])
            for name in self._roll.number
        ]

    def _node(self, node: NodeResult) -> Data:
        history = self._roll.result._history
        data = _named(node.name) | {"status": str(node.status)}
        data |= self._origin(node.added_by, history.added_in(node.name))
        if node.started_at is not None:
            data["start"] = round(max(0.0, node.started_at - self._began), 6)
            data["took"] = round(node.duration_seconds, 6)
        if node.attempts > 1:
            data["attempts"] = node.attempts
        if node.reason:
            data["reason"] = reason_text(node.reason)
        data |= self._errors(node)
        is_lost = isinstance(node, LostResult)  # its error says so
        if self._with_results and not is_lost and node.result is not None:
            data["result"] = result_text(node.result)
        return data | self._neighbours(node.name)

    def _ghost(self, removal: Removal) -> Data:
        data = _named(removal.name) | {"status": REMOVED, "removed_in": removal.version}
        if removal.by is not None:
            data["removed_by"] = visible(removal.by)
        return data | self._origin(removal.added_by, removal.added_in)

    def _origin(self, added_by: str | None, added_in: int) -> Data:
        """Return who added a node: ``by`` is None for one from outside; an initial one has none."""
        if added_by is None and not added_in:
            return {}
        data: Data = {"by": None if added_by is None else visible(added_by), "landed": added_in}
        if added_by in self._roll.number:
            data["by_index"] = self._roll.number[added_by]
        return data

    # -- errors

    def _errors(self, node: NodeResult) -> Data:
        """Return what went wrong: in the attempts, and after them in its expander or its fold."""
        attempts, last = node.errors, node.error
        told = [(f"Attempt {number} failed: ", error) for number, error in enumerate(attempts, 1)]
        if last is not None and not any(error is last for error in attempts):
            told.append((f"Its {failed_part(node).partition(' ')[0]} failed: ", last))
        if not told:
            return {}
        if len(told) == 1 and last is not None and node.reason is None:
            told = [("", last)]
        shown = told if len(told) <= MOST_ATTEMPTS else [*told[: MOST_ATTEMPTS - 1], told[-1]]
        data: Data = {
            "errors": [
                {"title": f"{what}{error_line(error)}", "text": self._traceback(error)}
                for what, error in shown
            ]
        }
        if len(told) > len(shown):
            data["errors_more"] = len(told) - len(shown)
        return data

    def _traceback(self, error: BaseException) -> str:
        self._tracebacks += 1
        if self._tracebacks <= MOST_TRACEBACKS:
            return traceback_text(error)
        return (
            f"The page has the tracebacks of the first {MOST_TRACEBACKS} errors, not of this one."
        )

    # -- neighbours

    def _neighbours(self, name: str) -> Data:
        graph = self._roll.result.dag._graph
        data: Data = {}
        needs = graph.dependencies.get(name, ())
        for field, names in (
            ("needs", needs),
            ("feeds", graph.dependents.get(name, ())),
            ("children", self._children.get(name, ())),
        ):
            numbers = self._roll.numbers(islice(names, MOST_NEIGHBOURS))
            if numbers:
                data[field] = numbers
            if len(names) > len(numbers):
                data[f"{field}_more"] = len(names) - len(numbers)
        ifs = [source for source in needs if name in graph.conditions.get(source, ())]
        if ifs:
            data["ifs"] = self._roll.numbers(ifs[:MOST_NEIGHBOURS])
        return data


def _named(name: str) -> Data:
    """Return the name as it is shown, and as the pictures spell it where that is different."""
    shown, key = visible(name), xml_text(name)
    return {"name": shown} if shown == key else {"name": shown, "key": key}


def folds_of(roll: Roll, boxes: Sequence[Any]) -> Mapping[str, Any]:
    """Return by the id of each folded box how many nodes it stands for, and which."""
    return {
        f"n{place}": [len(box.members), roll.numbers(box.members)]
        for place, box in enumerate(boxes)
        if box.members
    }
