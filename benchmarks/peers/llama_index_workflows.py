"""llama-index-workflows, developers.llamaindex.ai: "Concurrent execution of workflows" (a list that
a step returns fans out, a list parameter fans in), "Branches and loops", and, for graphs that are
there from the start, steps that are functions, each with an event class of its own; where several
dependencies meet, `ctx.collect_events`, from the first page's "dynamic API".

Annotations are evaluated in this file, since steps are chosen by them, and their classes are local.
"""

import functools
import operator
from typing import Any

from benchmarks.peers import KINDS, LIMIT, TEMPLATE, WORKERS, Way
from benchmarks.peers._work import Work

NAME = "llama-index-workflows"
REQUIRES = ("llama-index-workflows",)
IMPORT = "workflows"

MAPPED = "children are one step, known before, that handles items: no new nodes"


def cases() -> dict[str, Way | str]:
    ways: dict[str, Way | str] = {}
    for kind in KINDS:
        ways |= {f"{shape} {kind}": Way(prepare_graph) for shape in ("chain", "layers")}
        ways[f"fan {kind}"] = Way(prepare_fan, MAPPED)
        ways[f"chained {kind}"] = Way(prepare_chained, TEMPLATE)
    ways["io"] = Way(prepare_fan, MAPPED, kind="async")
    ways["uneven"] = Way(prepare_graph, kind="async")
    return ways


async def prepare_fan(work: Work) -> Any:
    from workflows import Workflow, step
    from workflows.events import Event, StartEvent, StopEvent

    first, last, body = work.task(0), work.task(work.last), work.body
    workers = LIMIT if work.workload == "io" else WORKERS

    class Item(Event):
        number: int

    class Done(Event):
        number: int

    class AsyncFan(Workflow):
        @step
        async def start(self, ev: StartEvent) -> list[Item]:
            await first()
            return [Item(number=number) for number in work.children]

        @step(num_workers=workers)
        async def child(self, ev: Item) -> Done:
            return Done(number=await body(ev.number))

        @step
        async def end(self, ev: list[Done]) -> StopEvent:
            return StopEvent(result=sum(done.number for done in ev) + await last())

    class SyncFan(Workflow):
        @step
        def start(self, ev: StartEvent) -> list[Item]:
            first()
            return [Item(number=number) for number in work.children]

        @step(num_workers=workers)
        def child(self, ev: Item) -> Done:
            return Done(number=body(ev.number))

        @step
        def end(self, ev: list[Done]) -> StopEvent:
            return StopEvent(result=sum(done.number for done in ev) + last())

    return runner(AsyncFan if work.kind == "async" else SyncFan)


async def prepare_chained(work: Work) -> Any:
    from workflows import Workflow, step
    from workflows.events import Event, StartEvent, StopEvent

    body, size = work.body, work.size

    class Step(Event):
        number: int
        total: int

    def following(number: int, total: int) -> Step | StopEvent:
        if number + 1 == size:
            return StopEvent(result=total)
        return Step(number=number + 1, total=total)

    class AsyncChained(Workflow):
        @step
        async def start(self, ev: StartEvent) -> Step:
            return Step(number=0, total=0)

        @step
        async def again(self, ev: Step) -> Step | StopEvent:
            return following(ev.number, ev.total + await body(ev.number))

    class SyncChained(Workflow):
        @step
        def start(self, ev: StartEvent) -> Step:
            return Step(number=0, total=0)

        @step
        def again(self, ev: Step) -> Step | StopEvent:
            return following(ev.number, ev.total + body(ev.number))

    return runner(AsyncChained if work.kind == "async" else SyncChained)


async def prepare_graph(work: Work) -> Any:
    """A node hands its total on to one of its dependents, so that each is added up once."""
    from workflows import Context, Workflow, step
    from workflows.events import Event, StartEvent, StopEvent

    class Graph(Workflow):
        pass

    class Ended(Event):
        heir: int
        total: int

    def add_step(name: str, function: Any, into: list[Any], out: Any) -> None:
        function.__name__ = function.__qualname__ = name
        either = functools.reduce(operator.or_, into)
        function.__annotations__ = {"ctx": Context, "ev": either, "return": out | None}
        step(workflow=Graph)(function)

    events = [type(Event)(f"Ended{number}", (Ended,), {}) for number in work.nodes]
    for number, dependencies in enumerate(work.dependencies):
        into = [events[dependency] for dependency in dependencies] or [StartEvent]
        function = node(work, number, into, events[number])
        add_step(f"n{number}", function, into, events[number])
    leaves = [events[number] for number in work.nodes if not work.dependents[number]]

    async def end(ctx: Any, ev: Any) -> Any:
        before = ctx.collect_events(ev, leaves)
        return before and StopEvent(result=sum(event.total for event in before))

    add_step("end", end, leaves, StopEvent)
    return runner(Graph)


def node(work: Work, number: int, into: list[Any], ended: Any) -> Any:
    task, heir = work.task(number), next(iter(work.dependents[number]), -1)

    def gathered(ctx: Any, ev: Any) -> Any:
        return ctx.collect_events(ev, into) if len(into) > 1 else [ev]

    def handed(before: list[Any], result: int) -> Any:
        if not work.dependencies[number]:
            return ended(heir=heir, total=result)
        totals = [event.total for event in before if event.heir == number]
        return ended(heir=heir, total=sum(totals) + result)

    async def async_node(ctx: Any, ev: Any) -> Any:
        before = gathered(ctx, ev)
        return before and handed(before, await task())

    def sync_node(ctx: Any, ev: Any) -> Any:
        before = gathered(ctx, ev)
        return before and handed(before, task())

    return sync_node if work.kind == "sync" else async_node


def runner(workflow_class: Any) -> Any:
    workflow = workflow_class(timeout=None)

    async def run() -> int:
        return int(await workflow.run())

    return run
