"""LangGraph with SQLite, docs.langchain.com/oss/python/langgraph/persistence: there
"Checkpointer libraries" and "Pending writes"; "Send" (map-reduce) for the children.
"""

from __future__ import annotations

import operator
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, TypedDict

from benchmarks.durable_peers import IN_FLIGHT, child

NAME = "LangGraph, AsyncSqliteSaver"
REQUIRES = ("langgraph-checkpoint-sqlite", "langgraph")
NOTE = "WAL, FULL; a transaction per child (its pending write), which nothing waits for"


class State(TypedDict):
    total: Annotated[int, operator.add]


async def run(size: int, folder: Path) -> tuple[float, int]:
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
    from langgraph.graph import END, START, StateGraph
    from langgraph.types import Send

    async def begin(state: State) -> State:
        return {"total": 0}

    async def one(item: Any) -> State:
        return {"total": await child(item["number"])}

    builder: Any = StateGraph(State)
    builder.add_node("begin", begin)
    builder.add_node("child", one)
    builder.add_edge(START, "begin")
    builder.add_conditional_edges(
        "begin", lambda state: [Send("child", {"number": n}) for n in range(size)], ["child"]
    )
    builder.add_edge("child", END)
    async with AsyncSqliteSaver.from_conn_string(str(folder / "runs.db")) as saver:
        graph = builder.compile(checkpointer=saver)
        config = {"configurable": {"thread_id": "1"}, "max_concurrency": IN_FLIGHT}
        start = perf_counter()
        state = await graph.ainvoke({"total": 0}, config)
        return perf_counter() - start, state["total"]
