"""Which nodes hold slots, and whose turn it is to get some."""

from collections.abc import Container, Mapping
from math import inf

from dagron._lanes import Lanes, Needs, Pool


class Admission:
    """The slots of one run, and the nodes that wait for them.

    A node needs one of the worker slots if it runs in a thread, one of the places that
    ``max_concurrency`` bounds, and a slot of each of its groups. A node in flight that asks for
    slots goes before nodes that are only ready. A node whose body runs on a runner needs, instead
    of a worker slot, one of that runner's until its body is done.
    """

    __slots__ = (
        "_groups",
        "_lanes",
        "_loop_lane",
        "_place",
        "_places",
        "_pools",
        "_position",
        "_posts",
        "_thread_lane",
        "_workers",
        "bounded",
        "draining",
        "lingering",
        "resting",
        "working",
    )

    def __init__(
        self,
        max_workers: int,
        max_concurrency: int | None,
        pools: Mapping[str, Pool],
        lanes: Lanes,
        posts: Mapping[str, Pool],
    ) -> None:
        self._lanes = lanes
        self._pools = pools
        self._posts = posts  # the slots of each runner that has so many
        # Of the nodes that are in any, the slots of their runner last.
        self._groups: dict[str, Needs] = {}
        self._workers = Pool("max_workers", max_workers)
        self._places = None
        if max_concurrency is not None:
            self._places = Pool("max_concurrency", max_concurrency)
        self.bounded = self._places is not None or bool(pools) or bool(posts)
        self._loop_lane = lanes.lane(self._needs("", False))
        self._thread_lane = lanes.lane(self._needs("", True))
        # An entry in a lane counts only while `_place` has its position, so that a node that was
        # removed, or waits again, needs no search.
        self._position = 0
        self._place: dict[str, int] = {}
        self.working: set[str] = set()  # the nodes that hold a worker slot
        self.draining = 0  # worker slots that threads hold which run one node after another
        self.resting: set[str] = set()  # running nodes that hold no slots
        self.lingering: set[str] = set()  # ended nodes whose thread has not

    # -- in line

    def enrol(self, name: str, groups: tuple[str, ...], runner: str) -> None:
        """Note which groups a node is in, and on which runner its body runs."""
        needs = tuple(self._pools[group] for group in groups)
        if runner in self._posts:
            needs += (self._posts[runner],)
        if needs:
            self._groups[name] = needs

    def add(self, name: str, on_thread: bool, priority: float) -> None:
        """Put a node that became ready in line."""
        self._place[name] = self._position = position = self._position + 1
        if not (on_thread or priority or self.bounded):
            self._lanes.free.append((0, position, name))
            return
        if name in self._groups:
            lane = self._lanes.lane(self._needs(name, on_thread))
        else:
            lane = self._thread_lane if on_thread else self._loop_lane
        self._lanes.add(lane, (-priority, position, name))

    def withdraw(self, name: str) -> None:
        """Take a node out of line, if it is in it."""
        self._place.pop(name, None)

    def forget(self, name: str) -> None:
        """Drop a node that was removed."""
        self._place.pop(name, None)
        self._groups.pop(name, None)

    def take(self, most: int) -> list[str]:
        """Give slots to up to ``most`` nodes whose turn it is, and return them."""
        return self._lanes.take(most, self._place, self._hold)

    def short_of(self, name: str, on_thread: bool, *, holds_place: bool = False) -> Pool | None:
        """Return the slots that a node in line is short of, if it is short of any."""
        if name not in self._place:
            return None
        needs = (self._workers,) if holds_place else self._needs(name, on_thread)
        return next((pool for pool in needs if not pool.is_free(self._lanes)), None)

    # -- threads that run one node after another, in one slot

    def hand_over(self, name: str) -> None:
        """Let the thread that begins with this node hold its worker slot."""
        self.working.remove(name)
        self.draining += 1

    def take_over(self, name: str) -> None:
        """Let a node hold the worker slot of its thread, from now on."""
        self.draining -= 1
        self.working.add(name)

    def end_draining(self) -> None:
        """Take back the slot of a thread that has nothing left to run."""
        self.draining -= 1
        self._workers.give(self._lanes)

    def following(self, most: int, aside: Container[str]) -> list[str]:
        """Return up to ``most`` names of default priority that are next in line for a worker slot.

        Those ``aside`` are left out. They stay in line.
        """
        return self._lanes.following(self._thread_lane, self._workers, self._place, most, aside)

    def is_overtaken(self, name: str) -> bool:
        """Tell whether somebody who waits for a worker slot goes before this node in line."""
        first = self._lanes.first_beside(self._thread_lane, self._workers)
        return first is not None and first < (0, self._place[name], name)

    # -- in flight

    def rest(self, name: str) -> None:
        """Take all slots from a running node, which goes on when it has asked for them again."""
        if name in self.working:
            self.return_worker(name)
        self.release(name)
        self.resting.add(name)

    def ask(self, name: str, worker: bool) -> bool:
        """Give a running node the slots that it lacks, and tell so; if there are none, it is next.

        ``worker`` says whether it wants a worker slot, too. `take` returns it when its turn came.
        """
        if name in self.resting:
            needs = self._needs(name, worker)
        else:
            needs = (self._workers,) if worker else ()
        if all(pool.is_free(self._lanes) for pool in needs):
            self._hold(name, needs)
            return True
        self._position += 1
        self._place[name] = self._position
        lane = self._lanes.lane(needs)
        self._lanes.add(lane, (-inf, self._position, name))
        self._lanes.park_short(lane)
        return False

    def return_worker(self, name: str) -> None:
        """Take back the worker slot that the node holds, and with a thread that lingered, all."""
        self.working.remove(name)
        self._workers.give(self._lanes)
        if name in self.lingering:
            self._give_groups(name)

    def _give_groups(self, name: str) -> None:
        self.lingering.remove(name)
        for pool in self._groups.get(name, ()):
            pool.give(self._lanes)

    def leave_runner(self, name: str) -> None:
        """Take back the slot of a runner: the node's body is done, and what follows runs here."""
        *groups, post = self._groups[name]
        self._groups[name] = tuple(groups)
        post.give(self._lanes)

    def linger(self, name: str) -> None:
        """Note that a node's body goes on beyond its end: its groups' slots stay taken."""
        self.lingering.add(name)

    def end_lingering(self, name: str) -> None:
        """Take back the slots of a node whose body went on beyond its end."""
        if name in self.working:
            self.return_worker(name)
        else:
            self._give_groups(name)

    def release(self, name: str) -> None:
        """Free a running node's slots, but for its worker's, and its groups' if that lingers."""
        if name in self.resting:
            self.resting.remove(name)
        elif self.bounded:
            if self._places is not None:
                self._places.give(self._lanes)
            if name not in self.lingering:
                for pool in self._groups.get(name, ()):
                    pool.give(self._lanes)

    def wait_outside(self) -> bool:
        """Tell whether nodes wait for what is not this run's: threads given up, or other runs."""
        is_taken = self.working or self.draining or self.lingering
        return bool(is_taken) or self._lanes.wait_outside()

    def leave(self) -> None:
        """End the run's part in slots that it shares with other runs."""
        self._lanes.leave()

    def _needs(self, name: str, worker: bool) -> Needs:
        """Return the slots of which a node needs one each, the worker's first."""
        needs = self._groups.get(name, ())
        if self._places is not None:
            needs = (self._places, *needs)
        return (self._workers, *needs) if worker else needs

    def _hold(self, name: str, needs: Needs) -> None:
        for pool in needs:
            pool.take(self._lanes)
        if needs and needs[0] is self._workers:
            self.working.add(name)
        self.resting.discard(name)
