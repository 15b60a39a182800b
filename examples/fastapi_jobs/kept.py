"""Jobs that outlive the process: uploads in a folder, and a journal beside them.

    uploads/ID.zip, or ID.approval.zip     until its job has ended and is not to go on
    uploads/ID.cancelled                   until what its client has cancelled has ended
    uploads/....bad                        uploads that could not be read at a start of the service
    runs.db                                what the jobs came to, for a week

An upload is there before its job is acknowledged, so that nothing which was acknowledged is lost.
What its client has cancelled stays unfinished in the journal, and is forgotten at the next start.
"""

import logging
import os
import re
import secrets
from collections import Counter
from collections.abc import Collection
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from tables import Job, failures
from uploads import BadUpload, Upload, look_at

import dagron

WEEK = timedelta(days=7)
APPROVAL = ".approval"
OURS = re.compile(r"([0-9a-f]{32})(\.approval)?\.(zip|draft|cancelled)")


class KeptJobs:
    """The jobs of a service, in its folder; all methods block. A context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._uploads = folder / "uploads"
        self._uploads.mkdir(parents=True, exist_ok=True)
        self.journal = dagron.Journal(folder / "runs.db")
        self._told: dict[str, dict[str, Any]] = {}  # of jobs that have ended: it stays as it is

    def __enter__(self) -> "KeptJobs":
        return self

    def __exit__(self, *error: object) -> None:
        self.journal.close()

    def keep(self, upload: Upload, approval: bool) -> Job:
        """Write the upload down, whole or not at all, and return its job, which has not begun."""
        id = secrets.token_hex(16)
        path = self._uploads / f"{id}{APPROVAL if approval else ''}.zip"
        draft = path.with_suffix(".draft")
        with draft.open("wb") as file:
            file.write(upload.read())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        return self._job(id, Upload(path, upload.tables), approval)

    def cancel(self, id: str) -> None:
        """Note that a job is not to go on later; its threads may still read what was uploaded."""
        self._mark(id).touch()

    def discard(self, id: str) -> None:
        """Delete what was uploaded for a job."""
        for end in (".zip", f"{APPROVAL}.zip", ".cancelled"):
            (self._uploads / f"{id}{end}").unlink(missing_ok=True)

    def _see(self, event: dagron.Event) -> None:
        # Without a reason it was not cut short, and has ended in the journal by now.
        if isinstance(event, dagron.RunFinished) and (
            event.reason is None or self._mark(event.run_id).exists()
        ):
            self.discard(event.run_id)

    def _mark(self, id: str) -> Path:
        return self._uploads / f"{id}.cancelled"

    def _job(self, id: str, upload: Upload, approval: bool) -> Job:
        job = Job(upload, self._folder, approval=approval, id=id, journal=self.journal)
        job.observers.append(self._see)
        return job

    # -- after a restart

    def unfinished(self) -> dict[str, Job]:
        """Return the jobs that an earlier process has left, by id, and tidy up after all others."""
        self.journal.prune(older_than=WEEK)
        states = {run.id: run.state for run in self.journal.runs()}
        jobs = {}
        for path in sorted(self._uploads.glob("*.zip"), key=lambda path: path.stat().st_mtime):
            ours = OURS.fullmatch(path.name)
            if ours is None or states.get(ours[1]) == "finished" or self._mark(ours[1]).exists():
                continue
            try:
                upload = Upload(path, look_at(path.read_bytes()).tables)
            except (BadUpload, OSError) as error:
                logging.error("%s cannot be read and is set aside: %s", path, error)
                path.replace(path.with_suffix(".bad"))
            else:
                jobs[ours[1]] = self._job(ours[1], upload, ours[2] is not None)
        for ours in filter(None, map(OURS.fullmatch, os.listdir(self._uploads))):
            if ours[3] == "draft":
                (self._uploads / ours[0]).unlink()
            elif ours[1] not in jobs:
                self.discard(ours[1])
        for id, state in states.items():
            if state == "unfinished" and id not in jobs:
                self.journal.forget(id)
        return jobs

    def finished(self, id: str) -> dagron.RecordedRun | None:
        """Return what is recorded of a job that has ended by itself, if it is."""
        try:
            run = self.journal.run(id)
        except dagron.UnknownRunError:
            return None
        return run if run.state == "finished" else None

    def index(self, but: Collection[str], count: int = 100) -> list[dict[str, Any]]:
        """Return how the last jobs ended that are recorded, but for some, the oldest first."""
        newest = (run for run in reversed(self.journal.runs()) if run.id not in but)
        found = [*islice((run for run in newest if run.state == "finished"), count)]
        return [self._told.get(run.id) or self._read(run) for run in reversed(found)]

    def _read(self, run: dagron.RecordedRun) -> dict[str, Any]:
        self._told[run.id] = as_dict(run)
        return self._told[run.id]


def as_dict(run: dagron.RecordedRun) -> dict[str, Any]:
    """Return of a recorded run what `RegisteredRun.as_dict` does of one in this process."""
    counts = Counter(node.status for node in run.nodes.values())
    return {
        "id": run.id,
        "state": "succeeded" if run.result.ok else "failed",
        "started_at": run.created,
        "ended_at": run.ended,
        "nodes": {"total": counts.total(), **{s.lower(): counts[s] for s in dagron.NodeStatus}},
        "reason": run.result.reason,
        "error": None,
        "failures": failures(run.result),
    }
