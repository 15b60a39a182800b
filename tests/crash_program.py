"""The program that is killed: every feature in one run, and witnesses of what has happened.

A process runs it once: see `live`. Each body writes its begin into the file of effects, with one
`os.write`, and so does an observer for each outcome that it hears of: so that file tells, in which
order bodies began and outcomes were acknowledged. A pipe tells whoever started the process.
"""

import json
import os
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from functools import partial
from typing import Any, NamedTuple

import anyio
from anyio.lowlevel import checkpoint

import dagron
from dagron import (
    DAG,
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    Edge,
    ExecutionResult,
    Fold,
    NodePolicy,
    Retry,
    all_done,
)
from dagron._results import error_text

RUN_ID = "crashes"
Witness = Callable[[dict[str, Any]], None]


class Witnesses(NamedTuple):
    """Where this process tells what happens."""

    effects: int  # a descriptor
    pipe: int


witnesses = Witnesses(-1, -1)


def write(descriptor: int, **what: Any) -> None:
    """Tell it with one system call: who is killed has told all of it, or nothing."""
    data = json.dumps(what).encode() + b"\n"
    assert os.write(descriptor, data) == len(data)


def begins(name: str, inputs: Mapping[str, Any]) -> None:
    """Tell that the body of a node begins, and what it is called with."""
    now = dagron.current()
    assert now.node == name
    write(
        witnesses.effects,
        begins=name,
        attempt=now.attempt,
        key=now.idempotency_key,
        inputs={source: repr(value) for source, value in inputs.items()},
    )


# --- bodies --------------------------------------------------------------------------------------


def steps(name: str) -> int:
    """In how many passes of the loop the node runs: few, and not the same for all."""
    return sum(name.encode()) % 4


async def on_loop(name: str, value: Any, inputs: Mapping[str, Any]) -> Any:
    begins(name, inputs)
    for _ in range(steps(name)):
        await checkpoint()
    write(witnesses.effects, ends=name)
    return value


def on_thread(name: str, value: Any, inputs: Mapping[str, Any]) -> Any:
    begins(name, inputs)
    write(witnesses.effects, ends=name)
    return value


def node(name: str, value: Any = None, *, sync: bool = False) -> Callable[..., Any]:
    """A task that returns this value, or raises it if it is an exception."""
    if sync:
        return lambda inputs: raised(on_thread(name, value, inputs))

    async def task(inputs: Mapping[str, Any]) -> Any:
        return raised(await on_loop(name, value, inputs))

    return task


def raised(value: Any) -> Any:
    if isinstance(value, Exception):
        raise value
    return value


def joined(name: str) -> Callable[..., Any]:
    """A task that returns what it gets."""

    async def task(inputs: Mapping[str, Any]) -> Any:
        return await on_loop(name, sorted((key, repr(value)) for key, value in inputs.items()), {})

    return task


def third_time(name: str, *, sync: bool) -> Callable[..., Any]:
    """A task that fails in its first two attempts, those that were cut off included."""

    def attempt(inputs: Mapping[str, Any]) -> str:
        begins(name, inputs)
        if dagron.current().attempt < 3:
            raise OSError("the line is busy")
        write(witnesses.effects, ends=name)
        return "200 OK"

    async def task(inputs: Mapping[str, Any]) -> str:
        await checkpoint()
        return attempt(inputs)

    return attempt if sync else task


async def word(text: str, inputs: Mapping[str, Any]) -> str:
    """The task of a node that comes from a running task, or from outside."""
    return str(await on_loop(text, text.upper(), inputs))


def is_praise(kind: str) -> bool:
    return kind == "praise"


def is_one(result: int) -> bool:
    return result == 1


def is_complaint(kind: str) -> bool:
    return kind == "complaint"


# --- the graph -----------------------------------------------------------------------------------

AGAIN = NodePolicy(retry=Retry(attempts=9, initial_delay=0.0), timeout=60)


def graph() -> DAG:
    """What there is before anything has run."""
    return (
        DAG.builder()
        .add_edge("discover", "merge")
        .add_edge("discover", "placeholder")
        .add_edge("placeholder", "merge")
        .add_node("lines", policy=NodePolicy(window=2))
        .add_node("pages", policy=NodePolicy(window=1))
        .add_node("numbers", policy=NodePolicy(window=2, keep=Fold(add_up, int)))
        .add_edge("lines", "merge")
        .add_edge("pages", "merge")
        .add_edge("numbers", "merge")
        .add_edge("listen", "merge")
        .add_node("fetch", policy=AGAIN)
        .add_node("fetch on a thread", policy=AGAIN)
        .add_edge("fetch", "classify")
        .add_edge("fetch on a thread", "classify")
        .add_edge("classify", "thank", condition=is_praise)
        .add_edge("classify", "refund", condition=is_complaint)
        .add_edge("thank", "reply")
        .add_edge("refund", "reply")
        .add_edge("reply", "merge")
        .add_edge("fails", "after it")
        .add_node("close", policy=NodePolicy(trigger=all_done))
        .add_edge("fails", "close")
        .add_edge("merge", "close")
        .add_node("race")
        .add_node("loser")
        .add_node("doomed")
        .add_node("last")
        .add_edge("last", "close")
        .build()
    )


def add_up(total: int, name: str, result: int) -> int:
    return total + result


class Program:
    """Tasks and expanders of a life; ``width`` is how many nodes the fan-out has."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.changed = anyio.Event()  # what comes from outside has come

    def tasks(self) -> dict[str, Callable[..., Any]]:
        return {
            "discover": node("discover", self.width),
            "lines": node("lines", 3),
            "pages": node("pages", 2, sync=True),
            "numbers": node("numbers", 4),
            "listen": self._listen,
            "merge": joined("merge"),
            "fetch": third_time("fetch", sync=False),
            "fetch on a thread": third_time("fetch on a thread", sync=True),
            "classify": node("classify", "praise", sync=True),
            "thank": node("thank", "you are welcome"),
            "refund": node("refund"),
            "reply": joined("reply"),
            "fails": node("fails", ValueError("no such thing")),
            "after it": node("after it"),
            "close": joined("close"),
            "race": node("race", "won", sync=True),
            "loser": anyio.sleep_forever,
            "doomed": anyio.sleep_forever,
            "last": self._last,
        }

    def expanders(self) -> dict[str, Callable[..., Any]]:
        return {
            "discover": self._discovered,
            "lines": self._lines,
            "pages": self._pages,
            "numbers": self._numbers,
            "race": lambda name, result: DynamicModification(cancel_nodes=["loser"]),
        }

    async def _listen(self, grow: Any) -> str:
        """Add nodes while it runs; those that an earlier life has added stay as they are."""
        begins("listen", {})
        for text in ("to be", "or not"):
            task = partial(word, text)
            await grow(DynamicNodeSpec(text, task, dependents=["merge"]))
        write(witnesses.effects, ends="listen")
        return "that is the question"

    async def _last(self) -> str:
        """Wait until what comes from outside has come, so that the run has not ended by then."""
        begins("last", {})
        await self.changed.wait()
        write(witnesses.effects, ends="last")
        return "at last"

    # -- expanders

    def _discovered(self, name: str, width: int) -> DynamicModification:
        """A fan-out; the first node in it has an expander of its own. A placeholder goes."""
        return DynamicModification(
            [
                DynamicNodeSpec(
                    f"item {number}",
                    node(f"item {number}", number, sync=number % 3 == 1),
                    [name],
                    ["merge"],
                    expander=self._deeper if number == 0 else None,
                )
                for number in range(width)
            ],
            remove_nodes=["placeholder"],
        )

    async def _deeper(self, name: str, result: int) -> DynamicModification | None:
        """Two generations below the fan-out, the second behind a condition."""
        if name.count("+") == 2:
            return None
        child = f"{name}+"
        spec = DynamicNodeSpec(child, node(child, result + 1), [name], expander=self._deeper)
        return DynamicModification([spec], add_edges=[Edge(child, "merge", condition=is_one)])

    def _lines(self, name: str, count: int) -> Generator[DynamicNodeSpec]:
        for number in range(count):
            line = f"line {number}"
            yield DynamicNodeSpec(line, node(line, number, sync=number == 1), [name], ["merge"])

    async def _pages(self, name: str, count: int) -> AsyncGenerator[DynamicModification]:
        for number in range(count):
            page = f"page {number}"
            yield DynamicModification(
                [DynamicNodeSpec(page, node(page, number), dependents=["merge"])]
            )

    def _numbers(self, name: str, count: int) -> Generator[DynamicNodeSpec]:
        for number in range(count):
            square = f"square {number}"
            yield DynamicNodeSpec(square, node(square, number * number))

    # -- a life

    async def run(self, journal: dagron.Journal) -> ExecutionResult:
        """Begin the run, or go on with it, and acknowledge what is heard of it."""
        executor = DynamicExecutor(
            graph(), self.expanders(), journal=journal, observers=[hear], max_workers=4
        )
        async with executor.start(self.tasks(), run_id=RUN_ID) as run:
            events = run.events()
            async with anyio.create_task_group() as group:
                group.start_soon(acknowledge, run)
                async for _ in events:  # there is none where the run had ended before
                    await self._change(run)
                    break
        return await run.wait()

    async def _change(self, run: dagron.Run) -> None:
        """Add a node from outside, unless an earlier life has done so, and cancel one."""
        if "from outside" not in run.dag:
            task = partial(word, "from outside")
            await run.modify(DynamicModification([DynamicNodeSpec("from outside", task)]))
        run.cancel_node("doomed")
        self.changed.set()


def hear(event: dagron.Event) -> None:
    """Write down in order with the beginnings of bodies what became of nodes."""
    if isinstance(event, (dagron.NodeCompleted, dagron.NodeFailed, dagron.NodeCancelled)):
        write(witnesses.effects, heard=event.node, kind=event.kind)
        write(witnesses.pipe, heard=event.node, kind=event.kind)


async def acknowledge(run: dagron.Run) -> None:
    """Tell the world of each result."""
    async for name, value in run.completed():
        write(witnesses.pipe, completed=name, result=repr(value))


def told(result: ExecutionResult) -> dict[str, Any]:
    """What a run came to, but for its times and for how often nodes were tried."""
    return {
        "nodes": {
            name: [
                str(node.status),
                repr(node.result),
                node.added_by,
                node.depth,
                node.reason,
                None if node.error is None else error_text(node.error),
            ]
            for name, node in result.node_results.items()
        },
        "edges": sorted([*edge] for edge in result.dag.edges()),
        "removed": sorted(result.removed),
        "forgotten": result.forgotten,
        "families": {name or "": repr(family) for name, family in result.families().items()},
        "ok": result.ok,
    }
