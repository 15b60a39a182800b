"""The result of a run, put together from what became of its nodes."""

from collections.abc import Iterable, Mapping

from dagron._blame import Blame
from dagron._family import Tally
from dagron._node_result import NodeResult, new_result
from dagron._results import ExecutionResult
from dagron._scheduler import Scheduler
from dagron._status import UNDONE
from dagron._times import Times


def collect(
    scheduler: Scheduler,
    results: Mapping[str, NodeResult],
    unreached: Iterable[str],
    cut: str | None,
    seconds: float,
    tallies: Mapping[str | None, Tally],
    times: Times,
    *,
    is_whole: bool = True,
) -> ExecutionResult:
    """Return the result, with a `NodeResult` also for the nodes that never ran.

    ``unreached`` names the nodes that have an expander, but for those that were forgotten; ``cut``
    says why the run was ended early, if it was. Raises `RuntimeError`, a bug of ours, when
    a node is not done and ``is_whole`` does not say that this is so.
    """
    if scheduler.unfinished and is_whole:
        raise RuntimeError(f"{scheduler.unfinished:,} nodes were left unfinished")
    dag = scheduler.dag()
    ordered: dict[str, NodeResult] = {}
    reasons: dict[Blame | None, str] = {None: cut or ""}  # one text for all of one blame
    for name in dag._order:
        result = results.get(name)
        ordered[name] = result or _never_run(scheduler, name, reasons)
    return ExecutionResult(
        ordered,
        dag,
        removed=scheduler.removed(),
        unused_expanders=tuple(name for name in unreached if not scheduler.was_known(name)),
        total_duration_seconds=seconds,
        reason=cut,
        tallies=tallies,
        history=scheduler.history(),
        times=times,
    )


def _never_run(scheduler: Scheduler, name: str, reasons: dict[Blame | None, str]) -> NodeResult:
    status = scheduler.status(name)
    blame = scheduler.blame(name)
    reason = None if status in UNDONE else reasons.get(blame)
    if reason is None and status not in UNDONE:
        reason = reasons[blame] = str(blame)
    added_by, depth = scheduler.origin(name)
    return new_result(name, status, None, None, 0.0, None, 0, added_by, depth, reason)
