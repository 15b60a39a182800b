"""Limits: how many nodes of a group run at once, counted over several runs."""

from collections.abc import Collection, Mapping
from threading import Lock

from dagron._checks import counted
from dagron._current import Here
from dagron._errors import LimitsInUseError
from dagron._lanes import SharedPool
from dagron._names import checked_name, shown


class Limits:
    """How many nodes of each group may run at once, in all the runs that are given this object.

    ``Limits(github=5)``, or ``Limits({"github": 5})``. A plain dict given as ``limits=`` counts for
    each run by itself; this counts for all runs of all executors that share it, first come, first
    served among the runs. The runs must be on one event loop; when the last of them has ended, the
    object may be used on another.

    Raises `TypeError` or `ValueError` that name the group and the value.
    """

    __slots__ = ("_lock", "_loop", "_users", "pools")

    def __init__(self, limits: Mapping[str, int] | None = None, /, **more: int) -> None:
        sizes = read_sizes({**(limits or {}), **more})
        self.pools = {name: SharedPool(name, n) for name, n in sizes.items()}
        self._lock = Lock()
        self._loop: object = None
        self._users = 0

    def attach(self, loop: object, held: Collection[str]) -> None:
        """Count a run on this event loop; ``held`` are groups of its nodes that its callers hold.

        Raises `LimitsInUseError` while runs on another loop are counted, and for any such group.
        """
        for group in held:
            message, help = held_text("the graph", group)
            raise LimitsInUseError(f"{message}\n  help: {help}")
        with self._lock:
            if self._users and self._loop is not loop:
                raise LimitsInUseError(
                    f"these limits ({shown(self.pools, 5)}) count for runs on another event loop\n"
                    f"  help: give each event loop a dagron.Limits(...) of its own"
                )
            self._loop = loop
            self._users += 1

    def detach(self) -> None:
        """Stop counting a run."""
        with self._lock:
            self._users -= 1
            if not self._users:
                self._loop = None

    def __repr__(self) -> str:
        return f"Limits({{{', '.join(f'{n!r}: {pool.size}' for n, pool in self.pools.items())}}})"


def read_sizes(limits: object) -> dict[str, int]:
    """Return the sizes of a dict of limits, or refuse it."""
    if not isinstance(limits, Mapping):
        raise TypeError(
            f"limits is a dict of group names to numbers, not {type(limits).__name__}\n"
            f"  help: write limits={{'github': 5}}"
        )
    return {
        checked_name(name, "group"): counted(f"limits[{name!r:.60}]", size)
        for name, size in limits.items()
    }


def held_by_callers(limits: Limits, caller: Here | None) -> frozenset[str]:
    """Return the groups of these limits in which nodes hold a slot that wait for a nested run."""
    held: set[str] = set()
    while caller is not None:
        if caller.run.limits is limits:
            held.update(caller.run.groups_of(caller.name))
        caller = caller.run.outer
    return frozenset(held)


def held_text(who: str, group: str) -> tuple[str, str]:
    """Return what is wrong with a nested run that needs what its own caller holds."""
    return (
        f"{who} needs a slot of {group!r:.60}, of which the node that waits for this run holds one",
        "take the group from the outer node, or give the nested executor limits of its own",
    )
