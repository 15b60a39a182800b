"""The one Ray that a process can have: who has started it, and who is the last to leave it."""

from collections import Counter
from collections.abc import Mapping
from threading import Lock
from typing import Any, TypeAlias

import ray

# As `ray.get_runtime_context`, which starts a Ray where there is none.
from ray.runtime_context import get_runtime_context

Session: TypeAlias = tuple[str, str]  # tells one Ray from those before and after it

_turn = Lock()  # of threads: runners of several event loops share the one Ray
_users: Counter[Session] = Counter()  # runners that are entered, of each Ray that one has started


def session() -> Session | None:
    """Return which Ray is here, or None if there is none."""
    if not ray.is_initialized():
        return None
    context = get_runtime_context()
    return context.get_node_id(), context.get_job_id()


def join(address: str | None, options: Mapping[str, Any]) -> Session:
    """Use the Ray that is here, or start one or connect to it. Blocks."""
    with _turn:
        here = session()
        if here is None:
            ray.init(address, **options)
            here = session()
            assert here is not None, "it was started just now"
            _users[here] = 1
        elif here in _users:
            _users[here] += 1
        return here


def leave(here: Session) -> None:
    """Shut a Ray down that a runner has started, if this was the last that used it. Blocks."""
    with _turn:
        if here not in _users:  # it is the program's own
            return
        _users[here] -= 1
        if not _users[here]:
            del _users[here]
            if session() == here:
                ray.shutdown()
