"""A run that is killed after any row of its journal ends as if nothing had happened."""

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, ClassVar

import anyio
import pytest

from books import MemoryJournal, Page
from dagron import (
    DAG,
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    ExecutionResult,
    Fold,
    NodePolicy,
    Retry,
    all_done,
    any_succeeded,
)

GUARD = 30


class Program:
    """A graph with tasks and expanders that count what is called."""

    dag: DAG

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def value(self, name: str, value: Any, *, sync: bool = False) -> Callable[..., Any]:
        def task() -> Any:
            self.calls[name] += 1
            if isinstance(value, Exception):
                raise value
            return value

        async def async_task() -> Any:
            return task()

        return task if sync else async_task

    def executor(self, journal: MemoryJournal) -> DynamicExecutor:
        return DynamicExecutor(self.dag, self.expanders(), journal=journal, **self.settings)  # type: ignore[arg-type]

    settings: ClassVar[dict[str, Any]] = {}

    def tasks(self) -> dict[str, Callable[..., Any]]:
        raise NotImplementedError

    def expanders(self) -> dict[str, Callable[..., Any]]:
        return {}


def joined(inputs: dict[str, Any]) -> list[Any]:
    return sorted(inputs.items())


class FanOut(Program):
    """An expander adds async and sync nodes, one of which has an expander of its own."""

    dag = DAG.builder().add_edge("find", "merge").add_edge("find", "audit").build()

    def tasks(self) -> dict[str, Callable[..., Any]]:
        return {
            "find": self.value("find", ["x", "y", "z"]),
            "merge": joined,
            "audit": self.value("audit", "ok", sync=True),
        }

    def expanders(self) -> dict[str, Callable[..., Any]]:
        def deeper(name: str, result: str) -> DynamicModification:
            return DynamicModification(
                [DynamicNodeSpec(f"{name}+", self.value(f"{name}+", 1), [name], ["merge"])]
            )

        async def expand(name: str, found: list[str]) -> DynamicModification:
            return DynamicModification(
                [
                    DynamicNodeSpec(
                        each,
                        self.value(each, each.upper(), sync=each == "y"),
                        ["find"],
                        ["merge"],
                        expander=deeper if each == "z" else None,
                    )
                    for each in found
                ]
            )

        return {"find": expand}


class Rewired(Program):
    """A loop of steps rewires the answer; a placeholder is removed; the graph is looked at."""

    dag = DAG.builder().add_edge("step 0", "answer").add_edge("step 0", "spare").build()

    def tasks(self) -> dict[str, Callable[..., Any]]:
        return {"step 0": self.value("step 0", 0), "answer": joined}

    def expanders(self) -> dict[str, Callable[..., Any]]:
        def following(name: str, number: int, graph: DAG) -> DynamicModification | None:
            if number == 3:
                return None
            after = f"step {number + 1}"
            return DynamicModification(
                [
                    DynamicNodeSpec(
                        after, self.value(after, number + 1), [name], expander=following
                    ),
                    DynamicNodeSpec(f"seen by {name}", self.value(f"seen by {name}", len(graph))),
                ],
                remove_nodes=["spare"] if number == 0 else [],
                remove_edges=[(name, "answer")],
                add_edges=[(after, "answer")],
            )

        return {"step 0": following}


class Branches(Program):
    """Conditions, triggers, failures, skips and a clean-up that runs whatever happens."""

    dag = (
        DAG.builder()
        .add_edge("classify", "refund", condition=lambda kind: kind == "complaint")
        .add_edge("classify", "thank", condition=lambda kind: kind == "praise")
        .add_edge("classify", "broken", condition=lambda kind: 1 / 0)
        .add_edge("refund", "reply")
        .add_edge("thank", "reply")
        .add_edge("reply", "close")
        .add_edge("fails", "after it")
        .add_edge("fails", "close")
        .add_edge("fails", "first")
        .add_edge("thank", "first")
        .add_node("close", policy=NodePolicy(trigger=all_done))
        .add_node("first", policy=NodePolicy(trigger=any_succeeded))
        .build()
    )

    def tasks(self) -> dict[str, Callable[..., Any]]:
        return {
            "classify": self.value("classify", "praise"),
            "refund": self.value("refund", 1),
            "thank": self.value("thank", 2, sync=True),
            "broken": self.value("broken", 3),
            "reply": joined,
            "fails": self.value("fails", OSError("no signal")),
            "after it": self.value("after it", 4),
            "close": joined,
            "first": joined,
        }


class Streamed(Program):
    """Generators, sync and async, with small windows; one of them fails at its end."""

    dag = (
        DAG.builder()
        .add_node("lines", policy=NodePolicy(window=2))
        .add_node("pages", policy=NodePolicy(window=1))
        .add_edge("lines", "end")
        .add_edge("pages", "end")
        .add_edge("broken", "never")
        .build()
    )

    def tasks(self) -> dict[str, Callable[..., Any]]:
        return {
            "lines": self.value("lines", 4),
            "pages": self.value("pages", 3, sync=True),
            "broken": self.value("broken", 2),
            "never": self.value("never", None),
            "end": joined,
        }

    def spec(self, name: str, parent: str, **more: Any) -> DynamicNodeSpec:
        return DynamicNodeSpec(name, self.value(name, name), [parent], **more)

    def expanders(self) -> dict[str, Callable[..., Any]]:
        def lines(name: str, count: int) -> Generator[DynamicNodeSpec]:
            for number in range(count):
                yield self.spec(f"line {number}", name)

        async def pages(
            name: str, count: int
        ) -> AsyncGenerator[DynamicNodeSpec | DynamicModification | None]:
            for number in range(count):
                page = self.spec(f"page {number}", name, dependents=["end"])
                yield DynamicModification([page]) if number else page
                yield None

        def broken(name: str, count: int) -> Generator[DynamicNodeSpec]:
            for number in range(count):
                yield self.spec(f"piece {number}", name)
            raise ValueError("the file ends in the middle")

        return {"lines": lines, "pages": pages, "broken": broken}


def add_up(total: int, name: str, result: int) -> int:
    return total + result


async def add_up_slowly(total: int, name: str, result: int) -> int:
    return total + result


class Folded(Program):
    """Folds over the children of a stream, of a plain expander, and of a stream in a fold."""

    dag = (
        DAG.builder()
        .add_node("stream", policy=NodePolicy(window=2, keep=Fold(add_up, int)))
        .add_node("plain", policy=NodePolicy(keep=Fold(add_up_slowly, int)))
        .add_edge("stream", "sum")
        .add_edge("plain", "sum")
        .build()
    )

    def tasks(self) -> dict[str, Callable[..., Any]]:
        return {
            "stream": self.value("stream", 5),
            "plain": self.value("plain", 3, sync=True),
            "sum": joined,
        }

    def expanders(self) -> dict[str, Callable[..., Any]]:
        def squares(name: str, count: int) -> Generator[DynamicNodeSpec]:
            for number in range(count):
                square = f"square {number}"
                yield DynamicNodeSpec(square, self.value(square, number * number))

        async def cubes(name: str, count: int) -> DynamicModification:
            names = {f"cube {number}": number**3 for number in range(count)}
            return DynamicModification(
                [DynamicNodeSpec(name, self.value(name, cube)) for name, cube in names.items()]
            )

        return {"stream": squares, "plain": cubes}


async def grown() -> str:
    return "grown"


class Grown(Program):
    """A task adds nodes while it runs, whose tasks are functions of a module."""

    dag = DAG.builder().add_edge("listen", "end").add_edge("listen", "last word").build()

    def tasks(self) -> dict[str, Callable[..., Any]]:
        async def listen(grow: Any) -> str:
            self.calls["listen"] += 1
            for word in ("to", "be"):
                await grow(DynamicNodeSpec(word, grown, dependents=["end"]))
            return "."

        return {"listen": listen, "end": joined, "last word": self.value("last word", 1)}


class Race(Program):
    """The first answer cancels the others: those that wait, and those that run."""

    dag = (
        DAG.builder()
        .add_node("quick")
        .add_edge("gate", "late")
        .add_node("slow")
        .add_edge("quick", "answer")
        .build()
    )

    def tasks(self) -> dict[str, Callable[..., Any]]:
        async def for_ever() -> None:
            await anyio.sleep_forever()

        return {
            "quick": self.value("quick", "page 12"),
            "slow": for_ever,
            "gate": for_ever,
            "late": self.value("late", 1),
            "answer": joined,
        }

    def expanders(self) -> dict[str, Callable[..., Any]]:
        def judge(name: str, answer: str) -> DynamicModification:
            return DynamicModification(cancel_nodes=["slow", "late", "gate"])

        return {"quick": judge}


class Refused(Program):
    """A modification that is refused fails its node; so does an expander that raises."""

    dag = (
        DAG.builder()
        .add_edge("bad", "after bad")
        .add_edge("raises", "after raises")
        .add_node("good")
        .build()
    )

    def tasks(self) -> dict[str, Callable[..., Any]]:
        return {name: self.value(name, name) for name in self.dag}

    def expanders(self) -> dict[str, Callable[..., Any]]:
        def bad(name: str, result: str) -> DynamicModification:
            return DynamicModification([DynamicNodeSpec("new", self.value("new", 1), ["nobody"])])

        def raises(name: str, result: str) -> None:
            raise RuntimeError("no idea")

        return {"bad": bad, "raises": raises}


class Retried(Program):
    """Attempts that fail are followed by others; the last one succeeds."""

    dag = (
        DAG.builder()
        .add_node(
            "fetch", policy=NodePolicy(retry=Retry(attempts=3, initial_delay=0.0), timeout=20)
        )
        .add_edge("fetch", "use")
        .build()
    )

    def tasks(self) -> dict[str, Callable[..., Any]]:
        failures = iter([OSError("refused"), OSError("reset")])

        async def fetch() -> str:
            self.calls["fetch"] += 1
            for failure in failures:
                raise failure
            return "200 OK"

        return {"fetch": fetch, "use": joined}


class Forgetful(Program):
    """Nodes that nobody needs any more are forgotten, also when they are told again."""

    dag = DAG.builder().add_edge("a", "b").add_edge("b", "c").build()
    settings: ClassVar[dict[str, Any]] = {"keep": "leaves", "max_concurrency": 1}

    def tasks(self) -> dict[str, Callable[..., Any]]:
        return {
            "a": self.value("a", 3),
            "b": self.value("b", 2, sync=True),
            "c": joined,
        }

    def expanders(self) -> dict[str, Callable[..., Any]]:
        def chain(name: str, left: int) -> DynamicModification | None:
            if not left:
                return None
            after = f"{name[0]}{left}"
            return DynamicModification(
                [DynamicNodeSpec(after, self.value(after, left - 1), [name], expander=chain)]
            )

        return {"a": chain, "b": chain}


PROGRAMS: list[type[Program]] = [
    FanOut,
    Rewired,
    Branches,
    Streamed,
    Folded,
    Grown,
    Race,
    Refused,
    Retried,
    Forgetful,
]


def told(result: ExecutionResult) -> dict[str, Any]:
    """What a run came to, but for its times and for what an exception was."""
    return {
        "nodes": {
            name: (
                str(node.status),
                node.result,
                node.added_by,
                node.depth,
                node.reason,
                node.error is None,
            )
            for name, node in result.node_results.items()
        },
        "dag": result.dag,
        "removed": result.removed,
        "forgotten": result.forgotten,
        "families": {name: repr(family) for name, family in result.families().items()},
        "ok": result.ok,
    }


async def run(
    make: type[Program], page: Page | None = None
) -> tuple[Program, Page, dict[str, Any]]:
    program, journal = make(), MemoryJournal()
    if page is not None:
        journal.pages["a"] = page
    with anyio.fail_after(GUARD):
        result = await program.executor(journal).execute(program.tasks(), run_id="a")
    return program, journal.pages["a"], told(result)


@pytest.mark.parametrize("make", PROGRAMS)
async def test_a_run_that_is_cut_off_anywhere_goes_on_to_the_same_end(make: type[Program]) -> None:
    """Whatever the row after which the process died: the run that goes on comes to the same end as
    one that was never cut off, and runs no node whose outcome was written.
    """
    _, whole, expected = await run(make)
    for count in range(len(whole.rows)):
        program, page, found = await run(make, whole.cut(count))
        assert found == expected, f"cut off after {count} rows"
        done = {row.node for row in whole.rows[:count] if row.kind == "done"}
        again = done & {name for name, calls in program.calls.items() if calls}
        assert not again, f"cut off after {count} rows"
        assert page.is_finished


@pytest.mark.parametrize("make", PROGRAMS)
async def test_a_run_that_is_cut_off_twice(make: type[Program]) -> None:
    """What a second life has written counts in a third one as the first one's does."""
    _, whole, expected = await run(make)
    _, second, _ = await run(make, whole.cut(len(whole.rows) // 2))
    for count in range(len(whole.rows) // 2, len(second.rows)):
        _, _, found = await run(make, second.cut(count))
        assert found == expected, f"cut off after {count} rows"
