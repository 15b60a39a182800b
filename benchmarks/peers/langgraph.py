"""LangGraph, docs.langchain.com/oss/python/langgraph: "Graph API", there "Send" (map-reduce), and
"Use the graph API", there "Create branches" and "Impose a recursion limit".

Nodes write to one channel of the state, whose reducer adds.
"""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

from benchmarks.peers import KINDS, LEVELS, LIMIT, TEMPLATE, WORKERS, Way
from benchmarks.peers._work import Work

NAME = "LangGraph"
REQUIRES = ("langgraph",)
IMPORT = "langgraph.graph"

SENT = "children are one node, known before, to which items are sent: no new nodes"


def cases() -> dict[str, Way | str]:
    ways: dict[str, Way | str] = {}
    for kind in KINDS:
        prepare, fan, chained = MAKERS[kind]
        ways |= {f"{shape} {kind}": Way(prepare) for shape in ("chain", "layers")}
        ways[f"fan {kind}"] = Way(fan, SENT)
        ways[f"chained {kind}"] = Way(chained, TEMPLATE)
    ways["io"] = Way(MAKERS["async"][1], SENT, kind="async")
    ways["uneven"] = Way(MAKERS["async"][0], LEVELS, "async")
    return ways


class State(TypedDict):
    total: Annotated[int, operator.add]


class Item(TypedDict):
    number: int


def static_graph(work: Work) -> Any:
    from langgraph.graph import END, START, StateGraph

    builder: Any = StateGraph(State)
    for number in work.nodes:
        builder.add_node(f"n{number}", node(work, work.task(number)))
    for number, dependencies in enumerate(work.dependencies):
        names = [f"n{dependency}" for dependency in dependencies]
        builder.add_edge((names[0] if len(names) == 1 else names) if names else START, f"n{number}")
    for number, dependents in enumerate(work.dependents):
        if not dependents:
            builder.add_edge(f"n{number}", END)
    return builder.compile()


def fan_graph(work: Work) -> Any:
    from langgraph.graph import END, START, StateGraph
    from langgraph.types import Send

    def children(state: State) -> Any:
        return [Send("child", {"number": number}) for number in work.children]

    builder: Any = StateGraph(State)
    builder.add_node("first", node(work, work.task(0)))
    builder.add_node("child", item_node(work))
    builder.add_node("last", node(work, work.task(work.last)))
    builder.add_edge(START, "first")
    builder.add_conditional_edges("first", children, ["child"])
    builder.add_edge("child", "last")
    builder.add_edge("last", END)
    return builder.compile()


def chained_graph(work: Work) -> Any:
    from langgraph.graph import START, StateGraph
    from langgraph.types import Command, Send

    body, size = work.body, work.size

    def command(number: int) -> Any:
        following = [Send("step", {"number": number + 1})] if number + 1 < size else []
        return Command(update={"total": number}, goto=following)

    def sync_step(item: Item) -> Any:
        return command(body(item["number"]))

    async def async_step(item: Item) -> Any:
        return command(await body(item["number"]))

    builder: Any = StateGraph(State)
    builder.add_node("step", sync_step if work.kind == "sync" else async_step)
    builder.add_conditional_edges(START, lambda state: Send("step", {"number": 0}), ["step"])
    return builder.compile()


def node(work: Work, task: Any) -> Any:
    def sync_node(state: State) -> State:
        return {"total": task()}

    async def async_node(state: State) -> State:
        return {"total": await task()}

    return sync_node if work.kind == "sync" else async_node


def item_node(work: Work) -> Any:
    body = work.body

    def sync_node(item: Item) -> State:
        return {"total": body(item["number"])}

    async def async_node(item: Item) -> State:
        return {"total": await body(item["number"])}

    return sync_node if work.kind == "sync" else async_node


def config(work: Work) -> dict[str, Any]:
    """A step is a level of the graph; the limit on steps is 25 unless told."""
    limit = {"io": LIMIT, "uneven": None}.get(work.workload, WORKERS)
    bound = {"max_concurrency": limit} if limit and (work.kind == "sync" or limit == LIMIT) else {}
    return {"recursion_limit": work.size + 10, **bound}


def makers(make: Any) -> tuple[Any, Any]:
    async def prepare_async(work: Work) -> Any:
        graph = make(work)

        async def run() -> int:
            state = await graph.ainvoke({"total": 0}, config(work))
            return int(state["total"])

        return run

    def prepare_sync(work: Work) -> Any:
        graph = make(work)
        return lambda: graph.invoke({"total": 0}, config(work))["total"]

    return prepare_async, prepare_sync


MAKERS = dict(
    zip(
        KINDS, zip(*map(makers, (static_graph, fan_graph, chained_graph)), strict=True), strict=True
    )
)
