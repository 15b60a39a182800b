"""Jobs that outlive the process: uploads in a folder, and a journal beside them.

    uploads/ID.zip, or ID.approval.zip     until its job has ended
    runs.db                                what the jobs came to, for a week

An upload is there before its job is acknowledged, so that nothing which was acknowledged is lost.
"""

import os
import secrets
from datetime import timedelta
from pathlib import Path

from tables import Job
from uploads import Upload, look_at

import dagron

WEEK = timedelta(days=7)
APPROVAL = ".approval"


class KeptJobs:
    """The jobs of a service, in its folder; all methods block. A context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._uploads = folder / "uploads"
        self._uploads.mkdir(parents=True, exist_ok=True)
        self.journal = dagron.Journal(folder / "runs.db")

    def __enter__(self) -> "KeptJobs":
        return self

    def __exit__(self, *error: object) -> None:
        self.journal.close()

    def keep(self, upload: Upload, approval: bool) -> Job:
        """Write the upload down, whole or not at all, and return its job, which has not begun."""
        id = secrets.token_hex(16)
        path = self._uploads / f"{id}{APPROVAL if approval else ''}.zip"
        draft = path.with_suffix(".draft")
        draft.write_bytes(upload.read())
        os.replace(draft, path)
        return self._job(id, Upload(path, upload.tables), approval)

    def unfinished(self) -> list[Job]:
        """Return the jobs that an earlier process has left, and tidy up after all others."""
        self.journal.prune(older_than=WEEK)
        states = {run.id: run.state for run in self.journal.runs()}
        jobs = {}
        for path in sorted(self._uploads.iterdir(), key=lambda path: path.stat().st_mtime):
            id, _, kind = path.name.partition(".")
            if states.get(id) == "finished" or path.suffix == ".draft":
                path.unlink()
            else:
                upload = Upload(path, look_at(path.read_bytes()).tables)
                jobs[id] = self._job(id, upload, kind.startswith(APPROVAL[1:]))
        for id, state in states.items():
            if state == "unfinished" and id not in jobs:  # its client has cancelled it
                self.journal.forget(id)
        return list(jobs.values())

    def _job(self, id: str, upload: Upload, approval: bool) -> Job:
        return Job(upload, self._folder, approval=approval, id=id, journal=self.journal)
