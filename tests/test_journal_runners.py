"""Durable runs whose nodes run elsewhere."""

from pathlib import Path
from typing import Any

import anyio
import pytest

import dagron
from dagron import DAG, DynamicExecutor, Journal, NodePolicy, Retry, RunnerLostError
from ways import GUARD


class Faraway:
    """A runner in this process, which is lost at the n-th call."""

    slots = 1

    def __init__(self, lost_at: int) -> None:
        self.calls: list[str] = []
        self._lost_at = lost_at

    async def run(self, call: Any) -> Any:
        self.calls.append(call.node)
        if len(self.calls) == self._lost_at:
            raise RunnerLostError("the cluster is gone")
        return call.function(*call.arguments, **call.keywords)

    async def __aenter__(self) -> "Faraway":
        return self

    async def __aexit__(self, *error: object) -> None:
        return None


def length(inputs: dict[str, int]) -> int:
    return len(inputs)


async def test_a_run_whose_cluster_is_lost_goes_on_elsewhere(tmp_path: Path) -> None:
    """The run ends with RunnerLostError, unfinished; what was written counts, nobody is blamed for
    a crash, and on another runner, or on none, the run comes to its end.
    """
    dag = DAG.builder().add_edge("a", "b").add_edge("b", "c").add_edge("c", "d").build()
    tasks = dict.fromkeys("abcd", length)
    policy = NodePolicy(runner="big", retry=Retry(2), resources={"memory": 1.0})
    lost, other = Faraway(lost_at=3), Faraway(lost_at=99)
    with Journal(tmp_path / "runs.db", max_recoveries=1) as journal, anyio.fail_after(GUARD):
        with pytest.raises(RunnerLostError, match="the cluster is gone"):
            await DynamicExecutor(
                dag, runners={"big": lost}, policy=policy, journal=journal
            ).execute(tasks, run_id="a")
        recorded = journal.run("a")
        assert recorded.state == "unfinished"
        assert [str(node.status) for node in recorded.nodes.values()][:2] == ["COMPLETED"] * 2
        result = await DynamicExecutor(
            dag, runners={"big": other}, policy=policy, journal=journal
        ).execute(tasks, run_id="a")
    assert lost.calls == ["a", "b", "c"]
    assert other.calls == ["c", "d"]
    assert result.ok
    assert isinstance(result, dagron.ExecutionResult)
