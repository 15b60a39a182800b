"""What an executor has been told about its runs."""

from collections.abc import Callable, Collection
from typing import NamedTuple

from dagron._events import Event
from dagron._keep import Word
from dagron._limits import Limits
from dagron._policy import NodePolicy
from dagron._rows import JournalLike
from dagron._runner import Runner


class Settings(NamedTuple):
    """The arguments of an executor, checked."""

    max_workers: int
    max_concurrency: int | None
    max_nodes: int
    max_depth: int
    limits: Limits | dict[str, int]
    policy: NodePolicy | None
    cancel_on_failure: bool
    observers: tuple[Callable[[Event], object], ...]
    detect_blocking: float | None
    keep: Word
    runners: dict[str, Runner]
    journal: JournalLike | None = None

    @property
    def groups(self) -> Collection[str]:
        """The names of the groups that have a limit."""
        return self.limits.pools if isinstance(self.limits, Limits) else self.limits
