"""The graph of a job: one node per table of an upload, added while it runs.

list --+--> table a.csv --+--> report --> approve --> publish
       +--> table b.csv --+
       +------ ... -------+
"""

import csv
import io
import json
import zipfile
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from uploads import Upload

import dagron


class Job:
    """One upload on its way: the graph and the tasks of its run, and what its run waits at."""

    def __init__(
        self,
        upload: Upload,
        folder: Path | None = None,
        *,
        approval: bool = False,
        id: str | None = None,
        journal: dagron.Journal | None = None,
    ):
        self.upload = upload
        self.id = id
        self._folder = folder
        self._journal = journal
        self.observers: list[Callable[[dagron.Event], None]] = []
        self.gate = dagron.Gate("publish?")
        self.tasks: dict[str, Callable[..., Any]] = {
            "list": lambda: upload.tables,
            "report": self._report,
            "approve": self.gate.wait,
            "publish": self._publish,
        }
        dag = dagron.DAG.builder().add_edge("list", "report")
        if approval:
            dag.add_edge("report", "approve").add_edge("approve", "publish")
        if folder is not None:
            dag.add_edge("report", "publish")
        self._dag = dag.build()

    def run(self) -> dagron.Run:
        """Return the run of this job, which has not begun, or goes on where it was."""
        executor = dagron.DynamicExecutor(
            self._dag,
            {"list": self._add_tables},
            max_workers=4,
            journal=self._journal,
            observers=self.observers,
        )
        tasks = {name: task for name, task in self.tasks.items() if name in self._dag}
        return executor.start(tasks, run_id=self.id)

    async def _add_tables(self, name: str, tables: tuple[str, ...]) -> dagron.DynamicModification:
        return dagron.DynamicModification(
            add_nodes=[
                dagron.DynamicNodeSpec(
                    f"table {table}", partial(profile, self.upload, table), [name], ["report"]
                )
                for table in tables
            ]
        )

    async def _report(self, list: tuple[str, ...], inputs: dict[str, Any]) -> dict[str, Any]:
        return {table: inputs[f"table {table}"] for table in list}

    def _publish(self, report: dict[str, Any]) -> str:
        assert self._folder is not None, "a job that publishes has a folder"
        path = self._folder / f"{dagron.current().run_id}.json"
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(report, indent=2), encoding="utf-8")
        draft.replace(path)
        return path.name


def profile(upload: Upload, table: str) -> dict[str, Any]:
    """Return the columns of a table, the number of its rows, and of the cells that are empty."""
    with (
        upload.open() as opened,
        zipfile.ZipFile(opened) as archive,
        archive.open(table) as file,
    ):
        lines = io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="")
        rows = csv.reader(lines)
        columns = next(rows, [])
        count = empty = 0
        for row in rows:
            count += 1
            empty += row.count("")
            if count % 10_000 == 0:
                dagron.progress(count, note=table)
                dagron.check_cancelled()  # a thread cannot be stopped from outside
    return {"columns": columns, "rows": count, "empty": empty}


def failures(result: dagron.ExecutionResult) -> dict[str, str]:
    """Return which nodes failed, ten at most, and why, for people."""
    failed = (node for node in result.node_results.values() if node.status == "FAILED")
    return {node.name: str(node.error) for node in islice(failed, 10)}
