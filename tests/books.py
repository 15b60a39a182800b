"""A journal in memory: rows in a list, so that a run can be cut off after any of them."""

import pickle
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

from dagron._errors import UnstorableError
from dagron._results import ExecutionResult, error_text
from dagron._rows import Row
from dagron.journal._telling import told


class Recorded(Exception):
    """What stands for an exception of an earlier life."""


class Page:
    """The rows of one run, and what else a journal knows of it."""

    def __init__(self, graph: str) -> None:
        self.graph = graph
        self.rows: list[Row] = []
        self.is_finished = False
        self.begun: dict[str, int] = {}
        self.is_clean = True
        self.is_held = False

    def cut(self, count: int, *, begun: Mapping[str, int] | None = None) -> "Page":
        """What would be there had the process died when so many rows were written."""
        page = Page(self.graph)
        page.rows = self.rows[:count]
        page.begun = dict(begun or {})
        page.is_clean = not begun
        return page


class MemoryJournal:
    """Journals runs in memory; transactions are safe as soon as another thread has said so."""

    def __init__(self, max_recoveries: int = 3) -> None:
        self.pages: dict[str, Page] = {}
        self.max_recoveries = max_recoveries
        self.fails_after: int | None = None  # rows that can still be written
        self.batches: list[int] = []
        self.hold = threading.Event()  # a transaction waits while this is not set
        self.hold.set()
        self.waiting = 0

    def _open(self, run_id: str, graph: str, patience: object) -> "MemoryBook":
        is_new = run_id not in self.pages
        page = self.pages.setdefault(run_id, Page(graph))
        assert not page.is_held
        page.is_held = True
        return MemoryBook(self, run_id, page, is_new)


class MemoryBook:
    def __init__(self, journal: MemoryJournal, run_id: str, page: Page, is_new: bool) -> None:
        self._journal = journal
        self._page = page
        self.uid = f"uid of {run_id}"
        self.is_new = is_new
        self.is_finished = page.is_finished
        self.graph = page.graph
        self.last_seq = len(page.rows)
        self.max_recoveries = journal.max_recoveries
        ended = {row.node for row in page.rows if row.kind in ("done", "failed", "cancelled")}
        begun = {} if page.is_clean else page.begun
        self.in_flight = {name: n for name, n in begun.items() if name not in ended}
        page.begun = {}
        page.is_clean = False

    def rows(self) -> Iterator[Row]:
        return iter(list(self._page.rows))

    def result(self) -> ExecutionResult:
        return told(self._page.graph, self.rows, self.load, tell_error=self.error)

    def dump(self, value: Any, name: str) -> bytes:
        try:
            return pickle.dumps(value)
        except Exception as error:
            raise UnstorableError(f"the result of node {name!r} cannot be stored") from error

    def load(self, stored: bytes) -> Any:
        return pickle.loads(stored)

    def error_row(self, error: BaseException) -> dict[str, Any]:
        return {"text": error_text(error)}

    def error(self, row: Mapping[str, Any]) -> BaseException:
        return Recorded(row["text"])

    def refer(self, function: Callable[..., Any], what: str) -> str:
        name = f"{function.__module__}:{function.__qualname__}"
        if "<" in name:
            raise UnstorableError(f"{what} is no function of a module")
        return name

    def resolve(self, reference: str) -> Any:
        module, _, name = reference.partition(":")
        return getattr(import_module(module), name)

    def append(self, rows: Sequence[Row], done: Callable[[Exception | None], object]) -> None:
        def write() -> None:
            self._journal.waiting += 1
            self._journal.hold.wait(30)
            self._journal.waiting -= 1
            left = self._journal.fails_after
            if left is not None and left < len(rows):
                done(OSError("the disk is full"))
                return
            if left is not None:
                self._journal.fails_after = left - len(rows)
            self._page.rows += rows
            self._page.is_finished = False
            self._journal.batches.append(len(rows))
            assert [row.seq for row in self._page.rows] == list(range(1, len(self._page.rows) + 1))
            done(None)

        thread = threading.Thread(target=write)
        thread.start()

    def finish(self, rows: Sequence[Row], done: Callable[[Exception | None], object]) -> None:
        def also(error: Exception | None) -> None:
            self._page.is_finished = error is None
            done(error)

        self.append(rows, also)

    def begin(self, attempts: Sequence[tuple[str, int]]) -> None:
        self._page.begun.update(attempts)

    def release(self) -> None:
        self._page.is_held = False
        self._page.is_clean = True
