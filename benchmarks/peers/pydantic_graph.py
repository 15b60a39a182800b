"""pydantic-graph, ai.pydantic.dev/graph: "Graph Builder", "Parallel Execution", "Joins and
Reducers" and "Decisions"."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.peers import LIMIT, SEMAPHORE, SHAPES, TEMPLATE, Way
from benchmarks.peers._work import Work

NAME = "pydantic-graph"
REQUIRES = ("pydantic-graph",)
IMPORT = "pydantic_graph"

MAPPED = "children are one step, known before, mapped over items: no new nodes"


def cases() -> dict[str, Way | str]:
    no_sync = "a step is awaited: plain functions are no steps"
    ways: dict[str, Way | str] = {f"{shape} sync": no_sync for shape in SHAPES}
    return ways | {
        "chain async": Way(prepare_chain),
        "fan async": Way(prepare_fan, MAPPED),
        "layers async": Way(prepare_graph),
        "chained async": Way(prepare_chained, TEMPLATE),
        "io": Way(prepare_fan, f"{MAPPED}; {SEMAPHORE}", kind="async"),
        "uneven": Way(prepare_graph, kind="async"),
    }


async def prepare_chain(work: Work) -> Any:
    from pydantic_graph import GraphBuilder

    builder: Any = GraphBuilder(input_type=int, output_type=int)
    before = builder.start_node
    for number in work.nodes:
        node = builder.step(adding(work, number), node_id=f"n{number}")
        builder.add(builder.edge_from(before).to(node))
        before = node
    builder.add(builder.edge_from(before).to(builder.end_node))
    graph = builder.build()
    return lambda: graph.run(inputs=0)


def adding(work: Work, number: int) -> Any:
    task = work.task(number)

    async def step(ctx: Any) -> int:
        return int(ctx.inputs + await task())

    return step


async def prepare_fan(work: Work) -> Any:
    from pydantic_graph import GraphBuilder, StepContext, reduce_sum

    builder: Any = GraphBuilder(output_type=int)
    first, last = work.task(0), work.task(work.last)
    body, limit = work.body, asyncio.Semaphore(LIMIT)

    async def start(ctx: StepContext[None, None, None]) -> range:
        await first()
        return work.children

    async def child(ctx: StepContext[None, None, int]) -> int:
        if work.workload != "io":
            return int(await body(ctx.inputs))
        async with limit:
            return int(await body(ctx.inputs))

    async def end(ctx: StepContext[None, None, int]) -> int:
        return int(ctx.inputs + await last())

    nodes = [builder.step(function, node_id=function.__name__) for function in (start, child, end)]
    join = builder.join(reduce_sum, initial=0)
    builder.add(
        builder.edge_from(builder.start_node).to(nodes[0]),
        builder.edge_from(nodes[0]).map().to(nodes[1]),
        builder.edge_from(nodes[1]).to(join),
        builder.edge_from(join).to(nodes[2]),
        builder.edge_from(nodes[2]).to(builder.end_node),
    )
    graph = builder.build()
    return graph.run


async def prepare_chained(work: Work) -> Any:
    from pydantic_graph import GraphBuilder

    builder: Any = GraphBuilder(state_type=list, input_type=int, output_type=int)
    body, size = work.body, work.size

    async def step(ctx: Any) -> int:
        number = int(await body(ctx.inputs))
        ctx.state.append(number)
        return number + 1

    async def end(ctx: Any) -> int:
        return sum(ctx.state)

    again, done = builder.step(step, node_id="step"), builder.step(end, node_id="end")
    decision = (
        builder.decision()
        .branch(builder.match(int, matches=lambda number: number < size).to(again))
        .branch(builder.match(int).to(done))
    )
    builder.add(
        builder.edge_from(builder.start_node).to(again),
        builder.edge_from(again).to(decision),
        builder.edge_from(done).to(builder.end_node),
    )
    graph = builder.build()
    return lambda: graph.run(state=[], inputs=0)


async def prepare_graph(work: Work) -> Any:
    """A node with several dependencies waits at a join of its own."""
    from pydantic_graph import GraphBuilder, reduce_null

    builder: Any = GraphBuilder(state_type=list, output_type=int)

    def step_of(number: int) -> Any:
        task = work.task(number)

        async def step(ctx: Any) -> None:
            ctx.state.append(await task())

        return step

    def join_of(name: str) -> Any:
        return builder.join(reduce_null, initial=None, node_id=name)

    async def end(ctx: Any) -> int:
        return sum(ctx.state)

    nodes = [builder.step(step_of(number), node_id=f"n{number}") for number in work.nodes]
    done, joined = builder.step(end, node_id="done"), join_of("join done")
    entries = list(nodes)
    for number, dependencies in enumerate(work.dependencies):
        if len(dependencies) > 1:
            entries[number] = join_of(f"join n{number}")
            builder.add(builder.edge_from(entries[number]).to(nodes[number]))
    for number, dependents in enumerate(work.dependents):
        targets = [entries[dependent] for dependent in dependents] or [joined]
        builder.add(builder.edge_from(nodes[number]).to(*targets))
    roots = [entries[number] for number in work.nodes if not work.dependencies[number]]
    builder.add(
        builder.edge_from(builder.start_node).to(*roots),
        builder.edge_from(joined).to(done),
        builder.edge_from(done).to(builder.end_node),
    )
    graph = builder.build()
    return lambda: graph.run(state=[])
