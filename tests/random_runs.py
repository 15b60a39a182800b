"""Random programs for runs that have a journal: what they do depends on a seed and on names alone.

What two nodes do at the same moment may come to different ends each time: a modification that
names a node which has started is refused. So a run is compared with what it has written itself.

``python tests/random_runs.py asyncio 0 500`` attacks the programs of these seeds at every row.
"""

import json
import logging
import pickle
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from random import Random
from typing import Any
from zlib import crc32

import anyio
from anyio.lowlevel import checkpoint

from books import MemoryBook, MemoryJournal, Page
from dagron import (
    DAG,
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    ExecutionResult,
    Fold,
    ModificationError,
    NodePolicy,
    Retry,
    all_done,
    all_succeeded,
    any_succeeded,
    at_least,
)
from dagron._edge import Edge
from dagron._facts import Facts
from dagron._rows import Row
from dagron.journal._telling import told

GUARD = 30
TRIGGERS = [all_succeeded, all_done, any_succeeded, at_least(2), at_least(0.5)]


async def grown() -> str:
    await checkpoint()
    return "grown"


def grown_in_thread() -> str:
    return "grown in a thread"


def fold(total: int, name: str, result: Any) -> int:
    return total + crc32(f"{name}{result}".encode())


async def slow_fold(total: int, name: str, result: Any) -> int:
    await checkpoint()
    return fold(total, name, result)


class Trouble(Exception):
    pass


class Script:
    """A program; ``calls`` counts how often the body of each node was called."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.calls: Counter[str] = Counter()
        dice = self.dice("graph")
        self.names = [f"n{number}" for number in range(dice.randint(2, 7))]
        self.wild = dice.random() < 0.6
        # Then no expander looks at the graph: what is in it depends on the moment.
        self.forgets = dice.random() < 0.5
        builder = DAG.builder()
        for name in self.names:
            builder.add_node(name, policy=self.policy(name))
        for number, target in enumerate(self.names):
            for source in self.names[:number]:
                if dice.random() < 0.35:
                    builder.add_edge(source, target, condition=self.condition(source, target))
        self.dag = builder.build()

    def dice(self, *what: object) -> Random:
        return Random("/".join(map(str, [self.seed, *what])))

    # -- what there is

    def policy(self, name: str) -> NodePolicy | None:
        dice = self.dice("policy", name)
        if dice.random() < 0.5:
            return None
        fields: dict[str, Any] = {}
        if dice.random() < 0.4:
            fields["trigger"] = dice.choice(TRIGGERS)
        if dice.random() < 0.3:
            fields["retry"] = Retry(attempts=2, initial_delay=0.0)
        if dice.random() < 0.4:
            fields["window"] = dice.randint(1, 2)
        if dice.random() < 0.2:
            fields["orphans"] = "cancel"
        if dice.random() < 0.3 and self.forgets:
            fields["keep"] = Fold(dice.choice([fold, slow_fold]), int)
        if dice.random() < 0.2:
            fields["timeout"] = 60
        if dice.random() < 0.2:
            fields["group"] = "one"
        if dice.random() < 0.2:
            fields["priority"] = dice.randint(-1, 1)
        return NodePolicy(**fields)

    def condition(self, source: str, target: str) -> Callable[[Any], Any] | None:
        dice = self.dice("condition", source, target)
        roll = dice.random()
        if roll < 0.75:
            return None

        def judge(result: Any) -> bool:
            if roll > 0.96:
                raise Trouble(f"{source} -> {target}")
            return self.dice("judge", source, target, result).random() < 0.6

        return judge

    def tasks(self) -> dict[str, Callable[..., Any]]:
        return {name: self.task(name) for name in self.names}

    def task(self, name: str) -> Callable[..., Any]:
        dice = self.dice("task", name)
        kind, fails = dice.random(), dice.random()
        steps = dice.choice([0, 0, 1, 2, 5])

        def come_to(inputs: Any) -> Any:
            self.calls[name] += 1
            if fails < 0.12 or (fails < 0.2 and self.calls[name] == 1):
                raise Trouble(name)
            seen = sorted((key, str(value)) for key, value in inputs.items())
            return f"{name}:{crc32(str(seen).encode()):x}"

        async def on_loop(inputs: Any) -> Any:
            for _ in range(steps):
                await checkpoint()
            return come_to(inputs)

        def in_thread(inputs: Any) -> Any:
            return come_to(inputs)

        def plain() -> Any:
            return come_to({})

        def half(inputs: Any) -> Any:
            return on_loop(inputs)

        async def growing(grow: Any, inputs: Any) -> Any:
            for number in range(dice.randint(1, 3)):
                task = grown_in_thread if number % 2 else grown
                after = [name] if kind > 0.9 else []
                await grow(DynamicNodeSpec(f"{name}g{number}", task, after))
            return await on_loop(inputs)

        if kind < 0.45:
            return on_loop
        if kind < 0.6:
            return in_thread
        if kind < 0.75:
            return plain
        if kind < 0.82:
            return half
        return growing

    def expanders(self) -> dict[str, Callable[..., Any]]:
        found = {}
        for name in self.names:
            expander = self.expander(name)
            if expander is not None:
                found[name] = expander
        return found

    # -- expanders

    def expander(self, name: str, depth: int = 0) -> Callable[..., Any] | None:
        dice = self.dice("expander", name)
        if dice.random() < 0.45 + 0.2 * depth:
            return None
        wants_graph = dice.random() < 0.3 and not self.forgets
        fails, kind = dice.random(), dice.randint(0, 3)

        def sizes(graph: DAG | None) -> int:
            return 0 if graph is None else len(graph)

        def expand(name: str, result: Any, graph: DAG | None = None) -> Any:
            if fails < 0.1:
                raise Trouble(f"expander of {name}")
            return self.change(name, result, depth, 0, sizes(graph))

        async def expand_on_loop(name: str, result: Any, graph: DAG | None = None) -> Any:
            await checkpoint()
            return expand(name, result, graph)

        def pieces(name: str, result: Any, graph: DAG | None = None) -> Iterator[Any]:
            count = self.dice("pieces", name, result).randint(0, 4)
            for number in range(count):
                if fails < 0.2 and number == count // 2:
                    raise Trouble(f"expander of {name}")
                change = self.change(name, result, depth, number, sizes(graph))
                yield change

        def generate(name: str, result: Any, graph: DAG | None = None) -> Generator[Any]:
            yield from pieces(name, result, graph)

        async def generate_on_loop(
            name: str, result: Any, graph: DAG | None = None
        ) -> AsyncGenerator[Any]:
            for piece in pieces(name, result, graph):
                await checkpoint()
                yield piece

        found = [expand, expand_on_loop, generate, generate_on_loop][kind]
        if not wants_graph:
            return found
        wanting: list[Callable[..., Any]] = [
            lambda name, result, graph: expand(name, result, graph),
            with_graph(expand_on_loop),
            generating_with_graph(generate),
            generating_on_loop_with_graph(generate_on_loop),
        ]
        return wanting[kind]

    def change(
        self, name: str, result: Any, depth: int, number: int, size: int
    ) -> DynamicModification | DynamicNodeSpec | None:
        dice = self.dice("change", name, result, number, size)
        if dice.random() < 0.1:
            return None
        specs: list[DynamicNodeSpec] = []
        others = [other for other in self.names if other != name]
        for child in range(dice.randint(0, 3)):
            new = f"{name}.{number}{child}"
            known = [name, *others] if self.wild else [name]
            after = [name] if dice.random() < 0.6 else []
            after += [spec.name for spec in specs if dice.random() < 0.3]
            if self.wild and dice.random() < 0.2:
                after.append(dice.choice(known))
            before = []
            if others and dice.random() < (0.25 if self.wild else 0):
                before.append(dice.choice(others))
            specs.append(
                DynamicNodeSpec(
                    new,
                    self.task(new),
                    list(dict.fromkeys(after)),
                    before,
                    expander=self.expander(new, depth + 1) if depth < 2 else None,
                    policy=self.policy(new),
                )
            )
        if len(specs) == 1 and dice.random() < 0.5 and number:
            return specs[0]
        more: dict[str, Any] = {}
        if self.wild and others:
            if dice.random() < 0.15:
                more["remove_nodes"] = [dice.choice(others)]
            if dice.random() < 0.2:
                more["cancel_nodes"] = dice.sample(others, min(2, len(others)))
            if dice.random() < 0.15 and self.dag.edges():
                more["remove_edges"] = [dice.choice(list(self.dag.edges()))]
            if specs and dice.random() < 0.2:
                target = dice.choice(others)
                source = specs[-1].name
                condition = self.condition(source, target)
                more["add_edges"] = [
                    (source, target) if condition is None else Edge(source, target, condition)
                ]
        return DynamicModification(specs, **more)

    # -- the executor

    def executor(self, journal: Any, **more: Any) -> DynamicExecutor:
        dice = self.dice("executor")
        settings: dict[str, Any] = {
            "max_workers": dice.choice([1, 1, 4]),
            "max_concurrency": dice.choice([None, None, 1, 2]),
            "on_failure": dice.choice(["skip", "skip", "skip", "cancel"]),
            "keep": dice.choice(["leaves", "failures"]) if self.forgets else "all",
            "limits": {"one": 1},
            "detect_blocking": dice.choice([None, None, 30.0]),
        }
        return DynamicExecutor(self.dag, self.expanders(), journal=journal, **{**settings, **more})


def with_graph(function: Callable[..., Any]) -> Callable[..., Any]:
    async def expand(name: str, result: Any, graph: DAG) -> Any:
        return await function(name, result, graph)

    return expand


def generating_with_graph(function: Callable[..., Any]) -> Callable[..., Any]:
    def expand(name: str, result: Any, graph: DAG) -> Generator[Any]:
        yield from function(name, result, graph)

    return expand


def generating_on_loop_with_graph(function: Callable[..., Any]) -> Callable[..., Any]:
    async def expand(name: str, result: Any, graph: DAG) -> AsyncGenerator[Any]:
        async with aclosing(function(name, result, graph)) as pieces:
            async for piece in pieces:
                yield piece

    return expand


# -- lives of a run


class Journal(MemoryJournal):
    """Knows when nodes began; without a ``thread`` its transactions are safe at once."""

    def __init__(self, *, thread: bool) -> None:
        super().__init__(max_recoveries=50)
        self.thread = thread
        self.begun: list[tuple[int, str, int]] = []  # after so many rows, which node's attempt

    def _open(self, run_id: str, graph: str, patience: object) -> "RandomBook":
        book = super()._open(run_id, graph, patience)
        return RandomBook(self, run_id, book)

    def begun_at(self, count: int) -> dict[str, int]:
        return {name: attempt for at, name, attempt in self.begun if at <= count}


class RandomBook(MemoryBook):
    def __init__(self, journal: Journal, run_id: str, book: MemoryBook) -> None:
        vars(self).update(vars(book))
        self.journal = journal

    def begin(self, attempts: Sequence[tuple[str, int]]) -> None:
        count = len(self._page.rows)
        self.journal.begun += [(count, name, attempt) for name, attempt in attempts]
        super().begin(attempts)

    def append(self, rows: Sequence[Row], done: Callable[[Exception | None], object]) -> None:
        if self.journal.thread:
            super().append(rows, done)
            return
        self._page.rows += rows
        self._page.is_finished = False
        done(None)


class Life:
    """One execution of a script's run: it goes on with the ``page``, if there is one."""

    def __init__(
        self, seed: int, *, page: Page | None = None, thread: bool = True, retries: bool = False
    ) -> None:
        self.script = Script(seed)
        self.journal = Journal(thread=thread)
        self.before: list[Row] = []
        if page is not None:
            self.journal.pages["a"] = page
            self.before = list(page.rows)
        self.retries = retries
        self.result: ExecutionResult

    @property
    def page(self) -> Page:
        return self.journal.pages["a"]

    async def run(self) -> None:
        executor, tasks = self.script.executor(self.journal), self.script.tasks()
        with anyio.fail_after(GUARD):
            self.result = await executor.execute(tasks, run_id="a", retry_failed=self.retries)
        self.check()

    def check(self) -> None:
        """What was written counts, runs no more, and what is recorded is what was returned."""
        page = self.page
        assert page.is_finished
        assert not page.is_held
        facts = Facts(self.before, {}, self.retries)
        named = Counter(name for row in self.before for name in added_by(row))
        for name, (seq, kind) in facts.ends.items():
            if named[name] > 1:  # the first of them was forgotten, and its name used again
                continue
            assert not self.script.calls[name], f"{name} ran again"
            node = self.result.node_results.get(name)
            if node is None or str(node.status) == STATUSES[kind]:
                continue
            assert self.before[seq - 1].change, f"{name} is {node.status}, and was {kind}"
            assert isinstance(node.error, ModificationError)  # which was not written yet
        recorded = told(page.graph, lambda: iter(page.rows), pickle.loads, tell_error=told_error)
        assert summary(recorded) == summary(self.result)

    def cut(self, count: int, *, begun: bool) -> Page:
        return self.page.cut(count, begun=self.journal.begun_at(count) if begun else None)


STATUSES = {"done": "COMPLETED", "failed": "FAILED", "cancelled": "CANCELLED"}


def added_by(row: Row) -> list[str]:
    return [spec["name"] for spec in json.loads(row.change or "{}").get("add", ())]


def told_error(row: Any) -> Exception:
    return Exception(row["text"])


def summary(result: ExecutionResult) -> dict[str, Any]:
    """What a run came to, but for times, and for what the end of the run has cancelled."""
    return {
        "nodes": {
            name: (
                str(node.status),
                node.added_by,
                node.depth,
                node.reason,
                node.error is None,
                node.status == "CANCELLED" or (node.result, node.attempts, len(node.errors)),
            )
            for name, node in result.node_results.items()
        },
        "graph": (list(result.dag), sorted(map(tuple, result.dag.edges()))),
        "removed": result.removed,
        "forgotten": result.forgotten,
        "ended": (result.ok, result.version, result.reason),
    }


async def attack(seed: int, *, cuts: int | None = None) -> int:
    """Cut a program's run off after rows of its journal, go on, cut that off, and go on again.

    Tells how many lives that were; with ``cuts`` only after so many of its rows.
    """
    dice = Random(seed)
    thread = dice.random() < 0.5
    first = Life(seed, thread=thread)
    await first.run()
    rows = len(first.page.rows)
    counts = list(range(rows)) if cuts is None else dice.sample(range(rows), min(rows, cuts))
    lives = 1
    for count in counts:
        life = Life(
            seed,
            page=first.cut(count, begun=dice.random() < 0.5),
            thread=thread,
            retries=dice.random() < 0.3,
        )
        await life.run()
        if count == rows - 1 and not life.retries and first.result.reason is None:
            assert summary(life.result) == summary(first.result)
        again = dice.randint(count, len(life.page.rows) - 1)
        if dice.random() < 0.5:
            page = life.cut(again, begun=dice.random() < 0.5)
            await Life(seed, page=page, thread=thread, retries=dice.random() < 0.2).run()
            lives += 1
        lives += 1
    return lives


def main(backend: str, first: int, last: int) -> None:
    """Attack the programs of these seeds, and say which of them went wrong, and how."""
    logging.disable(logging.CRITICAL)
    lives, wrong = 0, 0
    for seed in range(first, last):
        try:
            lives += anyio.run(partial(attack, seed), backend=backend)
        except Exception as error:
            wrong += 1
            print(f"seed {seed}: {type(error).__name__}: {error!s:.2000}", flush=True)
    print(f"{lives:,} lives of {last - first:,} programs, {wrong:,} wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
