"""The result of a run, put together when all its nodes are done."""

from collections.abc import Iterable, Mapping

from dagron._results import ExecutionResult, NodeResult, new_result, skip_reason
from dagron._scheduler import Scheduler
from dagron._status import SKIPPED


def collect(
    scheduler: Scheduler,
    results: Mapping[str, NodeResult],
    expanders: Iterable[str],
    cut: str | None,
    seconds: float,
) -> ExecutionResult:
    """Return the result, with a `NodeResult` also for the nodes that never ran.

    ``cut`` says why the run was ended early, if it was. Raises `RuntimeError`, a bug of ours, when
    a node is not done.
    """
    if scheduler.unfinished:
        raise RuntimeError(f"{scheduler.unfinished:,} nodes were left unfinished")
    dag = scheduler.dag()
    ordered: dict[str, NodeResult] = {}
    reasons: dict[str, str] = {}  # one text for all that a node is to blame for
    for name in dag._order:
        result = results.get(name)
        ordered[name] = result or _never_run(scheduler, name, cut, reasons)
    return ExecutionResult(
        ordered,
        dag,
        removed=scheduler.removed(),
        unused_expanders=tuple(name for name in expanders if not scheduler.was_known(name)),
        total_duration_seconds=seconds,
    )


def _never_run(
    scheduler: Scheduler, name: str, cut: str | None, reasons: dict[str, str]
) -> NodeResult:
    status = scheduler.status(name)
    blamed = scheduler.blame(name) or ""
    reason = reasons.get(blamed)
    if reason is None:
        reason = reasons[blamed] = skip_reason(blamed) if status is SKIPPED else cut or ""
    added_by, depth = scheduler.origin(name)
    return new_result(name, status, None, None, 0.0, None, 0, added_by, depth, reason)
