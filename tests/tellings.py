"""Recorded runs, compared with what was returned when they ran."""

import json
from pickle import loads
from typing import Any

from books import Page, Recorded
from dagron import DAG, ExecutionResult, NodeResult
from dagron._results import error_text
from dagron._written import written_graph
from dagron.journal._telling import told as told_rows


def recorded_error(row: dict[str, Any]) -> Recorded:
    return Recorded(row["text"])


def told(page: Page, **more: Any) -> ExecutionResult:
    """What the rows of a run tell."""
    return told_rows(page.graph, lambda: iter(page.rows), loads, tell_error=recorded_error, **more)


def node_facts(node: NodeResult, cut: str | None = None) -> dict[str, Any]:
    """All that there is to know of a node; of an error its text.

    Of a node that was at work when the run was ended no journal knows for how long.
    """
    facts = dict(zip(NodeResult._fields, node.__getstate__(), strict=True))
    if cut is not None and node.reason == cut:
        facts |= {"duration_seconds": 0.0, "started_at": None, "attempts": 0}
    facts["error"] = _words(node.error)
    facts["errors"] = tuple(map(_words, node.errors))
    return facts


def _words(error: BaseException | None) -> str | None:
    return str(error) if isinstance(error, Recorded) else error and error_text(error)


def _structure(dag: DAG) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(written_graph(dag, ()))
    for policy in found["policies"].values():
        policy.get("retry", {}).pop("on", None)  # the classes are not known
    return found


def is_completed(result: ExecutionResult, name: str) -> bool:
    return name not in result or result[name].status == "COMPLETED"


def all_facts(result: ExecutionResult) -> dict[str, Any]:
    """All that there is to know of a run, but for its callables."""
    history = result._history
    return {
        "nodes": {
            name: node_facts(node, result.reason) for name, node in result.node_results.items()
        },
        "order": list(result.dag.topological_order()),
        "graph": _structure(result.dag),
        "before": _structure(history.before),
        "changes": list(history.changes),
        "origins": dict(history.origins),
        "removed": result.removed,
        "forgotten": result.forgotten,
        "families": {
            name: (
                repr(family),
                family.forgotten,
                family.durations,
                # Of a fold that came to no end none knows how far it had come.
                family.value if is_completed(result, name) else None,
                [node_facts(node) for node in family.failures],
            )
            for name, family in result.families().items()
            if len(family) or is_completed(result, name)
        },
        "version": result.version,
        "ok": result.ok,
        "reason": result.reason,
        "seconds": result.total_duration_seconds,
        "unused": sorted(result.unused_expanders),
    }
