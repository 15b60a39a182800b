"""A run that this process has claimed: nobody else writes it until it is released."""

from collections.abc import Mapping, Sequence
from time import time

from dagron._errors import JournalError
from dagron._rows import Patience, Row
from dagron.journal._begun import Begun
from dagron.journal._locks import Hold
from dagron.journal._runs import RunRecord


class Claim:
    """What was found of a run when it was claimed; whoever has this may write to it.

    ``is_new`` says that the run was made by this claim, ``last_seq`` the last row that was found
    (0: none), ``in_flight`` which attempt of which nodes had begun and not ended when the process
    died that had the run before: it stays so until the first rows of this claim are committed.
    """

    def __init__(
        self, record: RunRecord, graph: str, last_seq: int, hold: Hold, begun: Begun
    ) -> None:
        self.number = record.number
        self.run_id = record.run_id
        self.uid = record.uid
        self.created = record.created
        self.graph = graph
        self.is_new = False
        self.is_finished = record.ended is not None
        self.last_seq = last_seq
        self.in_flight: Mapping[str, int] = {}

        # The rest is the store's.
        self.record = record
        self.hold = hold
        self.begun = begun
        self.next_seq = last_seq + 1
        self.is_open = False  # whether the run's record knows of this life
        self.is_ended = False  # whether its end was submitted
        self.patience = Patience()
        self.submitted = 0  # batches, and how many of them were answered
        self.answered = 0
        self.error: JournalError | None = None

    def __repr__(self) -> str:
        return f"<claim of run {self.run_id!r}, number {self.number}>"

    def fail(self, error: JournalError) -> None:
        """Let all that is submitted from now on fail with this error; the first one stays."""
        self.error = self.error or error

    def opened(self) -> RunRecord:
        """Return the run's record as the first commit of this life makes it."""
        if self.is_open:
            return self.record
        return self.record._replace(life=self.record.life + 1, ended=None, last_seq=None)

    def committed(self, rows: Sequence[Row], record: RunRecord) -> None:
        """Take over what was committed. Raises `OSError` when what begins cannot be noted."""
        self.record = record
        self.begun.end(rows)
        if not self.is_open:
            self.is_open = True
            self.begun.open(record.life)
        if record.ended is not None:
            self.begun.close(remove=True)


def ended(record: RunRecord, last_seq: int) -> RunRecord:
    """Return the run's record as its end makes it."""
    return record._replace(ended=time(), last_seq=last_seq)
