"""Recorded runs, compared with what was returned when they ran."""

import json
from pickle import loads
from typing import Any

from books import Page, Recorded
from dagron import DAG, ExecutionResult, NodeResult
from dagron._results import error_text
from dagron._written import written_graph
from dagron.journal._telling import tell


def recorded_error(row: dict[str, Any]) -> Recorded:
    return Recorded(row["text"])


def told(page: Page, **more: Any) -> ExecutionResult:
    """What the rows of a run tell."""
    return tell(page.graph, lambda: iter(page.rows), loads, recorded_error, **more)


def node_facts(node: NodeResult) -> dict[str, Any]:
    """All that there is to know of a node; of an error its text."""
    facts = dict(zip(NodeResult._fields, node.__getstate__(), strict=True))
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


def all_facts(result: ExecutionResult) -> dict[str, Any]:
    """All that there is to know of a run, but for its callables."""
    history = result._history
    return {
        "nodes": {name: node_facts(node) for name, node in result.node_results.items()},
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
                family.value,
                [node_facts(node) for node in family.failures],
            )
            for name, family in result.families().items()
        },
        "version": result.version,
        "ok": result.ok,
        "reason": result.reason,
        "seconds": result.total_duration_seconds,
        "unused": sorted(result.unused_expanders),
    }
