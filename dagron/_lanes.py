"""Who waits for slots, and who may have them next.

Nodes that need slots of the same kinds wait in one lane, in order. A lane whose first node finds no
slot of some kind is parked at that kind until one is given back: it is not looked at meanwhile, and
holds up no other lane.

    lane (github,)          n7 n9 n12 ...    parked at github, 5 of 5 taken
    lane (worker,)          n3 n8            open: n3 may start
    lane (github, worker)   n5               parked at github
"""

from collections import deque
from collections.abc import Callable, Container
from heapq import heappop, heappush, heapreplace

# What stands in a lane: (minus priority, position, name). Positions are unique, and grow.
Entry = tuple[float, int, str]
Needs = tuple["Pool", ...]


class Pool:
    """The slots of one kind, of one run: ``size`` of them, of which ``free`` are free."""

    __slots__ = ("free", "name", "size")

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size
        self.free = size

    def is_free(self, lanes: "Lanes") -> bool:
        """Tell whether this run may take a slot."""
        return self.free > 0

    def take(self, lanes: "Lanes") -> None:
        """Take a slot, which must be free."""
        self.free -= 1

    def give(self, lanes: "Lanes") -> None:
        """Give a slot back."""
        self.free += 1
        lanes.unpark(self)

    def wait(self, lanes: "Lanes") -> None:
        """Note that this run wants a slot and found none free."""


class SharedPool(Pool):
    """Slots of one kind that several runs take: first come, first served among the runs."""

    __slots__ = ("_kept", "_queue")

    def __init__(self, name: str, size: int) -> None:
        super().__init__(name, size)
        self._queue: dict[Lanes, None] = {}  # the runs that found no slot free
        self._kept: dict[Lanes, int] = {}  # slots for runs whose turn came

    def is_free(self, lanes: "Lanes") -> bool:
        return self.free > 0 or lanes in self._kept

    def take(self, lanes: "Lanes") -> None:
        kept = self._kept.pop(lanes, 0)
        if not kept:
            self.free -= 1
        elif kept > 1:
            self._kept[lanes] = kept - 1

    def give(self, lanes: "Lanes") -> None:
        if not self._queue:
            self.free += 1
            return
        heir = next(iter(self._queue))
        del self._queue[heir]
        self._kept[heir] = self._kept.get(heir, 0) + 1
        heir.unpark(self)
        if heir is not lanes:
            heir.wake()

    def wait(self, lanes: "Lanes") -> None:
        self._queue[lanes] = None

    def pass_on(self, lanes: "Lanes") -> None:
        """Give up what is held ready for this run, which did not take it."""
        for _ in range(self._kept.pop(lanes, 0)):
            self.give(lanes)

    def leave(self, lanes: "Lanes") -> None:
        """Forget the run."""
        self._queue.pop(lanes, None)
        self.pass_on(lanes)

    def is_awaited(self, lanes: "Lanes") -> bool:
        """Tell whether the run waits for what others hold."""
        return lanes in self._queue or lanes in self._kept


class Lane:
    """The nodes that need the same slots, in order; ``first`` is the entry whose turn it is.

    Those of default priority are in a queue, which costs less than the heap for all others.
    """

    __slots__ = ("first", "heap", "is_parked", "needs", "number", "queue")

    def __init__(self, needs: Needs, number: int) -> None:
        self.needs = needs
        self.number = number
        self.is_parked = False
        self.first: Entry | None = None
        self.queue: deque[Entry] = deque()
        self.heap: list[Entry] = []

    def drop_first(self) -> Entry | None:
        """Drop the entry whose turn it is, and return the one after it; the heap is not empty."""
        queue, heap = self.queue, self.heap
        if heap[0] is self.first:
            heappop(heap)
        else:
            queue.popleft()
        self.first = min((line[0] for line in (queue, heap) if line), default=None)
        return self.first


class Lanes:
    """All lanes of one run."""

    __slots__ = ("_by_needs", "_heads", "_lanes", "_parked", "free", "shared", "wake")

    def __init__(self) -> None:
        # The express lane, of nodes that need no slots and have default priority: the usual case.
        self.free: deque[Entry] = deque()
        self._lanes: list[Lane] = []
        self._by_needs: dict[Needs, Lane] = {}
        # The first entry of every lane that is neither empty nor parked, with the lane's number,
        # and beside those some that are first no longer.
        self._heads: list[tuple[Entry, int]] = []
        self._parked: dict[Pool, list[Lane]] = {}
        self.shared: tuple[SharedPool, ...] = ()  # pools that other runs take from, too
        self.wake: Callable[[], object] = list  # called when another run has left a slot to this

    def lane(self, needs: Needs) -> Lane:
        """Return the lane of those who need these slots."""
        lane = self._by_needs.get(needs)
        if lane is None:
            self._by_needs[needs] = lane = Lane(needs, len(self._lanes))
            self._lanes.append(lane)
        return lane

    def add(self, lane: Lane, entry: Entry) -> None:
        """Put an entry in line."""
        if entry[0]:
            heappush(lane.heap, entry)
        else:
            lane.queue.append(entry)
        if lane.first is None or entry < lane.first:
            lane.first = entry
            if not lane.is_parked:
                heappush(self._heads, (entry, lane.number))

    def take(
        self, most: int, place: dict[str, int], hold: Callable[[str, Needs], object]
    ) -> list[str]:
        """Take up to ``most`` names out of line that may have their slots, and return them.

        An entry counts only while ``place`` has its position; ``hold`` takes the slots.
        """
        taken: list[str] = []
        free, heads, lanes = self.free, self._heads, self._lanes
        while (free or heads) and len(taken) < most:
            if not heads or (free and free[0] < heads[0][0]):
                _, position, name = free.popleft()
                if place.get(name) == position:
                    del place[name]
                    taken.append(name)
                continue
            entry, number = heads[0]
            lane = lanes[number]
            if lane.is_parked or lane.first is not entry:
                heappop(heads)
                continue
            if lane.needs and (short := self._short_of(lane)) is not None:
                heappop(heads)
                self._park(lane, short)
                continue
            queue = lane.queue
            if lane.heap:
                following = lane.drop_first()
            else:  # the usual case, without a call
                queue.popleft()
                while queue and place.get(queue[0][2]) != queue[0][1]:  # it left the line
                    queue.popleft()
                lane.first = following = queue[0] if queue else None
            if following is None:
                heappop(heads)
            else:
                heapreplace(heads, (following, number))
            name = entry[2]
            if place.get(name) == entry[1]:
                del place[name]
                if lane.needs:
                    hold(name, lane.needs)
                taken.append(name)
        if self.shared and len(taken) < most:
            self._pass_on()
        return taken

    def park_short(self, lane: Lane) -> None:
        """Park a lane that finds some slots short, so that their return is noticed."""
        if not lane.is_parked and (short := self._short_of(lane)) is not None:
            self._park(lane, short)

    def _short_of(self, lane: Lane) -> Pool | None:
        for pool in lane.needs:
            if not pool.is_free(self):
                return pool
        return None

    def _park(self, lane: Lane, pool: Pool) -> None:
        lane.is_parked = True
        self._parked.setdefault(pool, []).append(lane)
        pool.wait(self)

    def unpark(self, pool: Pool) -> None:
        """Look again at the lanes that found no slot in this pool."""
        for lane in self._parked.pop(pool, ()):
            lane.is_parked = False
            if lane.first is not None:
                heappush(self._heads, (lane.first, lane.number))

    # -- what is next in a lane that is parked

    def following(
        self, lane: Lane, pool: Pool, place: dict[str, int], most: int, aside: Container[str]
    ) -> list[str]:
        """Return up to ``most`` names of default priority that are next for a slot of the pool.

        Only while the lane waits for one; nobody else who does is behind them. Those ``aside`` are
        left out.
        """
        if not lane.is_parked:
            return []
        queue = lane.queue
        while queue and place.get(queue[0][2]) != queue[0][1]:
            queue.popleft()
        lane.first = min((line[0] for line in (queue, lane.heap) if line), default=None)
        bound = self.first_beside(lane, pool)
        names: list[str] = []
        for entry in queue:
            if len(names) == most or (bound is not None and bound < entry):
                break
            name = entry[2]
            if name not in aside and place.get(name) == entry[1]:
                names.append(name)
        return names

    def first_beside(self, lane: Lane, pool: Pool) -> Entry | None:
        """Return who is first of those who wait for a slot of the pool, but for a lane's queue."""
        others = [other.first for other in self._parked.get(pool, ()) if other is not lane]
        if lane.heap:
            others.append(lane.heap[0])
        return min((entry for entry in others if entry is not None), default=None)

    # -- slots that are shared with other runs

    def _pass_on(self) -> None:
        """Leave to other runs what was kept for this one and not taken."""
        for pool in self.shared:
            pool.pass_on(self)

    def wait_outside(self) -> bool:
        """Tell whether somebody waits for a slot that another run holds."""
        return any(pool.is_awaited(self) for pool in self.shared)

    def leave(self) -> None:
        """End the run's part in all shared pools."""
        for pool in self.shared:
            pool.leave(self)
