"""Named points between every two steps of the way of an outcome into its journal, to die at.

`install` wraps what stands at these steps, in the process that is to be killed. Each point counts
how often it is passed; the one that was asked for kills the process at its k-th passing.
"""

import os
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterable
from functools import wraps
from typing import Any, NamedTuple

from dagron import _durable, _ledger, _replay, _scheduler, _shell
from dagron.journal import _begun, _claim, _database, _journal, _locks, _store, _writer

ANY = "any"  # the k-th passing of whatever points there are


class Death(NamedTuple):
    """At which passing of which point the process is to die."""

    point: str
    passing: int

    def __str__(self) -> str:
        return f"{self.point}, passing {self.passing}"


class Points:
    """Counts passings, and kills the process at the one that was asked for."""

    def __init__(self, death: Death | None) -> None:
        self._death = death
        self._mutex = threading.Lock()
        self.passings: Counter[str] = Counter()

    def at(self, point: str) -> None:
        """Pass a point."""
        with self._mutex:
            self.passings[point] += 1
            self.passings[ANY] += 1
        death = self._death
        if death is None or death.point not in (point, ANY):
            return
        if self.passings[death.point] == death.passing:
            os.kill(os.getpid(), signal.SIGKILL)
            signal.pause()  # until it has come

    # -- wrapping

    def around(self, owner: Any, attribute: str, what: str) -> None:
        """Make points before and after each call of a function."""
        honest = getattr(owner, attribute)

        @wraps(honest)
        def passing(*arguments: Any, **keywords: Any) -> Any:
            self.at(f"before {what}")
            found = honest(*arguments, **keywords)
            self.at(f"after {what}")
            return found

        setattr(owner, attribute, passing)

    def around_async(self, owner: Any, attribute: str, what: str) -> None:
        """Make points before and after each call of an ``async def``."""
        honest = getattr(owner, attribute)

        @wraps(honest)
        async def passing(*arguments: Any, **keywords: Any) -> Any:
            self.at(f"before {what}")
            found = await honest(*arguments, **keywords)
            self.at(f"after {what}")
            return found

        setattr(owner, attribute, passing)

    def around_statements(self) -> None:
        """Make points before and after the statements that write, and in the midst of them."""
        honest = _database.Connection.execute

        def execute(connection: _database.Connection, text: str, *values: Any) -> sqlite3.Cursor:
            verb = text.split(None, 1)[0]
            if verb not in ("BEGIN", "INSERT", "UPDATE", "COMMIT"):
                return honest(connection, text, *values)
            verb = (
                f"{verb} by itself" if verb == "INSERT" and not connection.in_transaction else verb
            )
            self.at(f"before {verb}")
            connection.set_progress_handler(lambda: self.at(f"in {verb}"), 7)
            try:
                found = honest(connection, text, *values)
            finally:
                connection.set_progress_handler(None, 0)
            self.at(f"after {verb}")
            return found

        _database.Connection.execute = execute  # type: ignore[assignment]

    def around_answers(self) -> None:
        """Make points around what the writer's thread calls when something is safe, or not."""
        honest = _writer.Batch.tell

        def tell(batch: _writer.Batch) -> None:
            self.at("before the answer")
            honest(batch)
            self.at("after the answer")

        _writer.Batch.tell = tell  # type: ignore[method-assign]


class _Calls:
    """A module's functions by name, of a module that says ``os.replace``."""

    def __init__(self, module: Any, points: Points, **what: str) -> None:
        self._module = module
        for attribute, word in what.items():
            setattr(self, attribute, getattr(module, attribute))
            points.around(self, attribute, word)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._module, attribute)


def install(death: Death | None) -> Points:
    """Wrap all steps, in this process, for good."""
    points = Points(death)
    points.around_statements()
    points.around_answers()
    # A run and its journal, on the loop.
    points.around(_ledger.Ledger, "_append", "a row is made")
    points.around(_ledger.Ledger, "turn", "the ledger's turn")
    points.around(_ledger.Ledger, "_numbered", "rows are handed over")
    points.around(_ledger.Ledger, "_settle", "settling")
    points.around(_ledger.Ledger, "apply", "what is written happens")
    points.around(_shell.Shell, "_land", "landing")
    points.around(_scheduler.Scheduler, "land", "landing in the core")
    points.around(_shell.Shell, "_report", "an outcome is reported")
    points.around(_store.Store, "submit", "rows are submitted")
    points.around(_ledger.Ledger, "finish", "the end is handed over")
    points.around_async(_ledger.Ledger, "finished", "the end is written")
    points.around_async(_ledger.Ledger, "flush", "all is flushed")
    # The writer's thread.
    points.around(_writer.Writer, "_write", "writing")
    points.around(_database.Connection, "check_place", "looking for the file")
    points.around(_claim.Claim, "committed", "a claim learns of its rows")
    # What is in flight.
    points.around(_begun.Begun, "begin", "an attempt is noted")
    points.around(_begun.Begun, "open", "the file of what is in flight is made")
    calls = _Calls(os, points, write="a line in flight is written", replace="the file is renamed")
    _begun.os = calls  # type: ignore[attr-defined]
    # The claim of a run, and its release.
    points.around(_journal.Journal, "_open", "a run is opened")
    points.around(_store.Store, "_claimed", "the claim")
    points.around(_store, "hold", "the lock is taken")
    points.around(_store.Store, "_in_flight", "what was in flight is read")
    points.around(_store.Store, "release", "the release")
    points.around(_begun.Begun, "close", "the file of what is in flight goes")
    points.around(_locks.Hold, "release", "the lock goes")
    points.around(_database.Connection, "close", "a connection is closed")
    # An earlier life.
    points.around_async(_durable.Durable, "_tell_earlier_life", "an earlier life is told")
    points.around_async(_replay.Replay, "_tell", "a row is told")
    points.around(_replay.Replay, "_land", "it lands again")
    points.around(_ledger.Ledger, "note", "a note on the run")
    return points


def all_points(passings: Iterable[str]) -> list[str]:
    """Return the names of points, but for the one that stands for all."""
    return sorted(set(passings) - {ANY})
