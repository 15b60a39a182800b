"""OpenTelemetry: which spans a run has, what they say, and what is a child of what."""

import asyncio
import logging
import subprocess
import sys
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import anyio.from_thread
import pytest

pytest.importorskip("opentelemetry.sdk", reason="the extras 'otel' and 'docs' are not installed")

from opentelemetry import baggage, context, propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode

import dagron
from cancelling import EVERYWHERE, Twelve, assert_every_step_can_be_cancelled, ways
from cancelling import Way as CancelWay
from dagron import (
    DAG,
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    ExecutionResult,
    Fold,
    Grow,
    NodePolicy,
    Retry,
)
from dagron.integrations.opentelemetry import OpenTelemetry
from faults import new_objects_only
from ways import GUARD, Way, adding, chain, changing, nothing


class Open(SpanProcessor):
    """Counts the spans that have started and not ended; raises on purpose in one of the two."""

    def __init__(self) -> None:
        self.spans: list[str] = []
        self.raises_on_start: str | None = None
        self.raises_on_end: str | None = None

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if span.name == self.raises_on_start:
            raise ValueError("wrong on start")
        self.spans.append(span.name)

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.remove(span.name)
        if span.name == self.raises_on_end:
            raise ValueError("wrong on end")


class Traces:
    """A provider of tracers, and the spans that have ended."""

    def __init__(self) -> None:
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.open = Open()
        self._exporter = InMemorySpanExporter()
        self.provider.add_span_processor(self.open)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("a user's own")
        self.observer = OpenTelemetry(self.provider)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> ReadableSpan:
        [span] = [span for span in self.spans if span.name == name]
        return span

    def node(self, name: str) -> ReadableSpan:
        [span] = [span for span in self._of(name) if span.name.startswith("node ")]
        return span

    def attempts(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._of(name) if span.name.startswith("attempt ")]

    def _of(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if attributes(span).get("node.name") == name]

    @property
    def run(self) -> ReadableSpan:
        return self.named("dagron run")

    async def execute(
        self, dag: DAG, tasks: dict[str, Any], expanders: Any = None, **options: Any
    ) -> ExecutionResult:
        executor = DynamicExecutor(dag, expanders, observers=[self.observer], **options)
        with anyio.fail_after(GUARD):
            return await executor.execute(tasks)


@pytest.fixture
def traces(caplog: pytest.LogCaptureFixture) -> Iterator[Traces]:
    """Every span that a test has started has ended, and the SDK does not complain."""
    made = Traces()
    yield made
    assert made.open.spans == []
    assert made.observer._runs == {}
    assert complaints(caplog) == []


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the SDK has logged, of a span that was ended twice, say."""
    records = caplog.get_records("call")
    return [record.getMessage() for record in records if record.name.startswith("opentelemetry")]


def attributes(span: Any) -> dict[str, Any]:
    """The attributes of a span or of an event, without the prefix."""
    return {key.removeprefix("dagron."): value for key, value in (span.attributes or {}).items()}


def events(span: ReadableSpan) -> list[tuple[str, dict[str, Any]]]:
    return [(event.name.removeprefix("dagron."), attributes(event)) for event in span.events]


def is_child(child: ReadableSpan, parent: ReadableSpan) -> bool:
    if child.parent is None:
        return False
    same = child.parent.span_id == parent.context.span_id
    return same and child.context.trace_id == parent.context.trace_id


def graph(*names: str) -> DAG:
    builder = DAG.builder()
    for name in names:
        builder.add_node(name)
    return builder.build()


def id_here() -> int:
    return trace.get_current_span().get_span_context().span_id


async def id_on_loop() -> int:
    return id_here()


async def fail() -> None:
    raise ValueError("wrong")


# --- which spans there are ------------------------------------------------------------------------


def test_a_span_for_the_run_each_node_and_each_attempt(execute: Way, traces: Traces) -> None:
    """The run's is the root, a node's is a child of it and an attempt's a child of the node's; each
    way to execute gives the same.
    """
    executor = DynamicExecutor(chain("load", "sum"), observers=[traces.observer])
    execute(executor, {"load": id_on_loop, "sum": nothing})
    assert sorted(span.name for span in traces.spans) == [
        *("attempt load", "attempt sum", "dagron run", "node load", "node sum")
    ]
    assert traces.run.parent is None
    for name in ("load", "sum"):
        assert is_child(traces.node(name), traces.run)
        assert is_child(*traces.attempts(name), traces.node(name))
    assert all(span.status.status_code is StatusCode.UNSET for span in traces.spans)


async def test_the_runs_span_is_a_child_of_the_callers(traces: Traces) -> None:
    """What is current where `execute` is called, or where the block of a handle is entered, is the
    parent, baggage included.
    """
    seen = []

    async def task() -> None:
        seen.append(baggage.get_baggage("tenant"))

    executor = DynamicExecutor(chain("a"), observers=[traces.observer])
    token = context.attach(baggage.set_baggage("tenant", "acme"))
    try:
        with traces.tracer.start_as_current_span("caller"):
            await executor.execute({"a": task})
        with traces.tracer.start_as_current_span("other"):
            async with executor.start({"a": task}) as run:
                pass
            await run.wait()
    finally:
        context.detach(token)
    caller, other = traces.named("caller"), traces.named("other")
    runs = [span for span in traces.spans if span.name == "dagron run"]
    assert [is_child(span, parent) for span, parent in zip(runs, (caller, other), strict=True)]
    assert seen == ["acme", "acme"]


async def test_a_run_of_a_registry_is_traced_to_its_end(traces: Traces) -> None:
    """A run that outlives the request belongs to the trace of the request that started it."""
    executor = DynamicExecutor(chain("a"), observers=[traces.observer])
    with anyio.fail_after(GUARD):
        async with dagron.RunRegistry() as runs:
            with traces.tracer.start_as_current_span("request"):
                run = runs.start(executor.start({"a": nothing}))
            await run.wait()
    assert traces.run.context.trace_id == traces.named("request").context.trace_id
    assert attributes(traces.run)["run.id"] == run.id


async def test_the_attributes_of_a_good_run(traces: Traces) -> None:
    """Spans say which run, node and attempt they are, where nodes come from, and how it ended."""
    spec = DynamicNodeSpec("x", nothing, ["a"])
    dag = graph("a")
    result = await traces.execute(dag, {"a": nothing}, {"a": adding(spec)})
    assert result.ok
    id = attributes(traces.run)["run.id"]
    assert attributes(traces.run) == {
        "run.id": id,
        "run.nodes": 2,
        "run.ok": True,
        "run.succeeded": 2,
        **{f"run.{word}": 0 for word in ("failed", "skipped", "cancelled", "removed")},
    }
    ended = {"node.status": "COMPLETED", "node.attempts": 1, "run.id": id}
    assert attributes(traces.node("a")) == ended | {"node.name": "a", "node.depth": 0}
    added = {"node.name": "x", "node.depth": 1, "node.added_by": "a"}
    assert attributes(traces.node("x")) == ended | added
    [attempt] = traces.attempts("x")
    assert attributes(attempt) == {"node.name": "x", "node.attempt": 1}


async def test_a_grown_node_has_a_link_to_the_node_that_added_it(traces: Traces) -> None:
    """So has what it adds in turn, to itself; nodes of the graph as written have none. The names of
    spans stay few: all that grew from a node shares one.
    """

    def grandchildren(name: str, result: object) -> DynamicModification | None:
        if name.count(".") == 2:
            return None
        new = DynamicNodeSpec(f"{name}.1", nothing, [name], expander=grandchildren)
        return DynamicModification([new])

    await traces.execute(graph("a"), {"a": nothing}, {"a": grandchildren})
    assert traces.node("a").links == ()
    for child, parent in (("a.1", "a"), ("a.1.1", "a.1")):
        [link] = traces.node(child).links
        assert link.context == traces.node(parent).context
        assert attributes(traces.node(child))["node.added_by"] == parent
        assert is_child(traces.node(child), traces.run)
    assert {span.name for span in traces.spans} == {
        "dagron run",
        *("node a", "attempt a", "node (grown from a)", "attempt (grown from a)"),
    }


async def test_a_node_from_outside_has_no_link(traces: Traces) -> None:
    """It says where it is from by its name, and its modification is an event of the run."""
    begun, go = anyio.Event(), anyio.Event()

    async def waits() -> None:
        begun.set()
        await go.wait()

    executor = DynamicExecutor(graph("a"), observers=[traces.observer])
    with anyio.fail_after(GUARD):
        async with executor.start({"a": waits}) as run:
            await begun.wait()
            await run.modify(DynamicModification([DynamicNodeSpec("x", nothing)]))
            go.set()
    assert traces.node("x").name == "node (added from outside)"
    assert traces.node("x").links == ()
    assert "node.added_by" not in attributes(traces.node("x"))
    [(kind, details)] = events(traces.run)
    assert (kind, details["added_nodes.names"]) == ("graph_modified", ("x",))


async def test_a_modification_is_an_event_of_the_node_that_made_it(traces: Traces) -> None:
    """It counts what it changed, and names some of the nodes."""
    names = [f"x{number}" for number in range(12)]
    change = DynamicModification(
        [DynamicNodeSpec(name, nothing, ["a"], ["c"]) for name in names],
        remove_nodes=["b"],
        cancel_nodes=["d"],
    )
    dag = DAG.builder().add_edge("a", "b").add_edge("b", "c").add_edge("a", "d").build()
    await traces.execute(dag, dict.fromkeys("abcd", nothing), {"a": changing(change)})
    [(kind, details)] = events(traces.node("a"))
    assert kind == "graph_modified"
    assert details == {
        "graph.version": 1,
        "graph.nodes": 15,
        "added_nodes": 12,
        "added_nodes.names": tuple(names[:10]),
        "added_edges": 24,
        "removed_nodes": 1,
        "removed_nodes.names": ("b",),
        "cancelled_nodes": 1,
        "cancelled_nodes.names": ("d",),
    }
    told = ("node_cancelled", {"node.name": "d", "node.reason": "cancelled by 'a'"})
    assert told in events(traces.run)


# --- what is inside -------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [None, NodePolicy(timeout=GUARD)], ids=["bare", "policy"])
async def test_the_current_span_of_a_task_is_its_attempts(
    traces: Traces, policy: NodePolicy | None
) -> None:
    """In the event loop and in a worker thread, also where a thread could have run one sync node
    after another; and not that of the caller or of another node.
    """
    tasks = {"a": id_on_loop, "b": id_here, "c": id_here, "d": lambda: id_on_loop()}
    result = await traces.execute(chain(*tasks), tasks, policy=policy)
    for name in tasks:
        [attempt] = traces.attempts(name)
        assert result[name].result == attempt.context.span_id
    assert id_here() == 0


async def test_a_span_that_a_task_starts_is_a_child_of_its_attempts(traces: Traces) -> None:
    """In the task, in tasks that it starts, in a worker thread, and in what that thread calls."""

    def own(name: str) -> None:
        with traces.tracer.start_as_current_span(name):
            pass

    async def on_loop() -> None:
        own("on the loop")
        async with anyio.create_task_group() as group:
            group.start_soon(started)

    async def started() -> None:
        own("in a task of its own")

    def in_thread() -> None:
        own("in a thread")
        anyio.from_thread.run_sync(own, "called from a thread")

    await traces.execute(chain("a", "b"), {"a": on_loop, "b": in_thread})
    for name, node in (
        *(("on the loop", "a"), ("in a task of its own", "a")),
        *(("in a thread", "b"), ("called from a thread", "b")),
    ):
        assert is_child(traces.named(name), *traces.attempts(node))


async def test_the_current_span_of_an_expander_is_its_nodes(traces: Traces) -> None:
    """Of a plain one, an async one, and of generators of both kinds from step to step; of a fold,
    that of the child.
    """
    seen: dict[str, list[int]] = {name: [] for name in ("a", "b", "c", "d", "fold")}

    def plain(name: str, result: object) -> None:
        seen[name].append(id_here())

    async def on_loop(name: str, result: object) -> None:
        seen[name].append(id_here())

    def generating(name: str, result: object) -> Iterator[DynamicNodeSpec]:
        for number in range(3):
            seen[name].append(id_here())
            yield DynamicNodeSpec(f"{name}{number}", nothing, [name])

    async def generating_on_loop(name: str, result: object) -> AsyncIterator[DynamicNodeSpec]:
        for number in range(3):
            seen[name].append(id_here())
            yield DynamicNodeSpec(f"{name}{number}", nothing, [name])

    def fold(value: int, name: str, result: object) -> int:
        seen["fold"].append(id_here())
        return value

    policy = NodePolicy(keep=Fold(fold, lambda: 0))
    dag = graph("a", "b", "c").to_builder().add_node("d", policy=policy).build()
    expanders = {"a": plain, "b": on_loop, "c": generating, "d": generating_on_loop}
    (await traces.execute(dag, dict.fromkeys("abcd", nothing), expanders)).raise_for_failures()
    for name in "abcd":
        assert set(seen[name]) == {traces.node(name).context.span_id}
    folded = {traces.node(f"d{number}").context.span_id for number in range(3)}
    assert set(seen["fold"]) == folded
    for child in ("c0", "d2"):
        [link] = traces.node(child).links
        assert link.context == traces.node(child[0]).context


async def test_a_task_that_grows_the_graph_is_linked_to(traces: Traces) -> None:
    """Children that start while the task goes on have the link; the event is of its node."""

    async def grows(grow: Grow) -> None:
        await grow(DynamicNodeSpec("x", nothing))
        await grow(DynamicNodeSpec("y", nothing))

    (await traces.execute(graph("a"), {"a": grows})).raise_for_failures()
    for child in "xy":
        [link] = traces.node(child).links
        assert link.context == traces.node("a").context
    assert [kind for kind, _ in events(traces.node("a"))] == ["graph_modified"] * 2


@pytest.mark.parametrize("is_sync", [False, True], ids=["async", "sync"])
async def test_a_run_inside_a_node_belongs_to_that_node(traces: Traces, is_sync: bool) -> None:
    """Its span is a child of the node's attempt, from the event loop and from a thread."""
    inner = DynamicExecutor(graph("inner"), observers=[traces.observer])

    async def on_loop() -> None:
        await inner.execute({"inner": id_on_loop})

    def in_thread() -> None:
        inner.execute_sync({"inner": id_on_loop})

    await traces.execute(graph("outer"), {"outer": in_thread if is_sync else on_loop})
    [outer] = traces.attempts("outer")
    [run] = [span for span in traces.spans if span.name == "dagron run" and span.parent]
    assert is_child(run, outer)
    assert is_child(traces.node("inner"), run)


async def test_two_runs_at_once_do_not_mix(traces: Traces) -> None:
    """Runs of one executor whose nodes meet have their own spans, and tasks find their own."""
    inside = 0
    met = anyio.Event()
    found: list[int] = []

    async def meets() -> None:
        nonlocal inside
        inside += 1
        if inside == 2:
            met.set()
        await met.wait()
        found.append(id_here())

    executor = DynamicExecutor(chain("a", "b"), observers=[traces.observer])
    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(executor.execute, {"a": meets, "b": nothing})
    by_trace: dict[int, list[str]] = {}
    for span in traces.spans:
        by_trace.setdefault(span.context.trace_id, []).append(span.name)
    names = ["attempt a", "attempt b", "dagron run", "node a", "node b"]
    assert [sorted(spans) for spans in by_trace.values()] == [names, names]
    attempts = {span.context.span_id for span in traces.attempts("a")}
    assert set(found) == attempts
    assert len(attempts) == 2


async def test_the_context_of_a_node_can_be_carried_elsewhere(traces: Traces) -> None:
    """Before the task is called, in its own task, the context is there to be injected: so an
    observer that is entered after the first can send it to where the body really runs.
    """
    carriers: list[dict[str, str]] = []

    class Carrying:
        def __call__(self, event: dagron.Event) -> None: ...

        def around_attempt(self, run_id: str, node: str, attempt: int) -> Any:
            carriers.append({})
            propagate.inject(carriers[-1])
            return trace.use_span(trace.get_current_span())

    observers = [traces.observer, Carrying()]
    await DynamicExecutor(graph("a"), observers=observers).execute({"a": nothing})
    far = trace.get_current_span(propagate.extract(carriers[0])).get_span_context()
    [attempt] = traces.attempts("a")
    assert (far.trace_id, far.span_id) == (attempt.context.trace_id, attempt.context.span_id)


# --- how it ended ---------------------------------------------------------------------------------


async def test_a_failure_is_an_error_of_attempt_node_and_run(traces: Traces) -> None:
    """The exception is recorded on attempt and node, with a stack that begins in the user's code;
    the node that is skipped for it is an event of the run.
    """
    await traces.execute(chain("a", "b"), {"a": fail, "b": nothing})
    [attempt] = traces.attempts("a")
    for span in (attempt, traces.node("a")):
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description == "ValueError: wrong"
        [(kind, details)] = events(span)
        assert kind == "exception"
        assert details["exception.type"] == "ValueError"
        assert details["exception.message"] == "wrong"
        stack = details["exception.stacktrace"].splitlines()
        assert stack[0] == "Traceback (most recent call last):"
        assert stack[1].endswith("in fail")
        assert stack[-1] == "ValueError: wrong"
    assert attributes(traces.node("a"))["node.status"] == "FAILED"
    assert traces.run.status.status_code is StatusCode.ERROR
    assert traces.run.status.description == "1 node failed"
    assert attributes(traces.run)["run.ok"] is False
    reason = "skipped because 'a' failed"
    assert events(traces.run) == [("node_skipped", {"node.name": "b", "node.reason": reason})]
    assert not any(attributes(span).get("node.name") == "b" for span in traces.spans)


@pytest.mark.parametrize("in_thread", [False, True], ids=["loop", "thread"])
async def test_each_attempt_has_its_span(traces: Traces, in_thread: bool) -> None:
    """The attempts that failed are errors, the node that succeeded at last is none; each retry is
    an event of the node.
    """
    ids: list[int] = []

    def flaky() -> str:
        ids.append(id_here())
        if len(ids) < 3:
            raise ConnectionError(f"attempt {len(ids)}")
        return "done"

    async def flaky_on_loop() -> str:
        return flaky()

    policy = NodePolicy(retry=Retry(3, initial_delay=0))
    task = flaky if in_thread else flaky_on_loop
    result = await traces.execute(graph("a"), {"a": task}, policy=policy)
    assert result.ok
    attempts = traces.attempts("a")
    assert [attributes(span)["node.attempt"] for span in attempts] == [1, 2, 3]
    assert [span.context.span_id for span in attempts] == ids
    error, unset = StatusCode.ERROR, StatusCode.UNSET
    assert [span.status.status_code for span in attempts] == [error, error, unset]
    assert all(is_child(span, traces.node("a")) for span in attempts)
    assert traces.node("a").status.status_code is unset
    assert attributes(traces.node("a"))["node.attempts"] == 3
    told = [("node_retrying", {"node.attempt": n, "delay_seconds": 0.0}) for n in (1, 2)]
    assert events(traces.node("a")) == told


async def test_an_expander_that_fails_is_an_error_of_the_node(traces: Traces) -> None:
    """The attempt was good: it is not an error. The same for a modification that is refused."""

    def broken(name: str, result: object) -> None:
        raise KeyError("nothing here")

    expanders = {"a": broken, "b": adding(DynamicNodeSpec("a", nothing))}
    await traces.execute(graph("a", "b"), dict.fromkeys("ab", nothing), expanders)
    for name, kind in (("a", "KeyError"), ("b", "dagron.ModificationError")):
        [attempt] = traces.attempts(name)
        assert attempt.status.status_code is StatusCode.UNSET
        assert traces.node(name).status.status_code is StatusCode.ERROR
        [(_, details)] = events(traces.node(name))
        assert details["exception.type"] == kind


async def test_what_is_no_exception_is_an_error_of_its_attempt_where_the_node_failed(
    traces: Traces,
) -> None:
    """SystemExit, and a cancellation that nobody asked for, are failures like any other."""

    async def leave() -> None:
        raise SystemExit(3)

    async def cancel() -> None:
        raise asyncio.CancelledError

    result = await traces.execute(graph("a", "b"), {"a": leave, "b": cancel})
    assert result.failed == 2
    for name, kind in (("a", "SystemExit"), ("b", "asyncio.exceptions.CancelledError")):
        for span in (*traces.attempts(name), traces.node(name)):
            assert span.status.status_code is StatusCode.ERROR
            assert events(span)[0][1]["exception.type"] == kind


async def test_an_exception_that_cannot_be_shown_or_sent_is_recorded(traces: Traces) -> None:
    """A broken `str()` and a surrogate neither lose the trace nor the batch that it is in."""

    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    async def broken() -> None:
        raise Broken

    async def odd() -> None:
        raise ValueError("\udcff")

    result = await traces.execute(graph("a", "b"), {"a": broken, "b": odd})
    assert result.dropped_observers == 0
    [(_, details)] = events(traces.node("a"))
    assert details["exception.message"].startswith("<its text cannot be shown")
    assert traces.node("b").status.description == "ValueError: \\udcff"
    for span in traces.spans:
        span.to_json().encode()
        for _, details in events(span):
            assert all(str(value).encode() for value in details.values())


async def test_a_node_that_failed_before_it_began_has_a_span(traces: Traces) -> None:
    """A condition that raised fails its target: that is a span of no length, with the error's text;
    no failure goes without one.
    """

    def broken(result: object) -> bool:
        raise KeyError("wrong")

    dag = DAG.builder().add_edge("a", "b", condition=broken).build()
    result = await traces.execute(dag, dict.fromkeys("ab", nothing))
    assert result["b"].status is dagron.NodeStatus.FAILED
    assert traces.node("b").status.status_code is StatusCode.ERROR
    assert str(traces.node("b").status.description).startswith("ConditionError")
    assert traces.attempts("b") == []
    assert attributes(traces.node("b"))["node.attempts"] == 0


async def test_a_timeout_ends_the_spans_although_the_thread_goes_on(traces: Traces) -> None:
    """A thread that is given up holds no span open; what it does later finds an ended one."""
    go, over = threading.Event(), threading.Event()
    late: list[int] = []

    def blocks() -> None:
        go.wait(GUARD)
        late.append(id_here())
        with traces.tracer.start_as_current_span("late"):
            pass
        over.set()

    try:
        await traces.execute(graph("a"), {"a": blocks}, policy=NodePolicy(timeout=0.01))
        [attempt] = traces.attempts("a")
        for span in (attempt, traces.node("a")):
            assert str(span.status.description).startswith("NodeTimeoutError")
    finally:
        go.set()
    assert over.wait(GUARD)
    assert late == [attempt.context.span_id]
    assert is_child(traces.named("late"), attempt)


async def test_a_cancelled_node_is_no_error(traces: Traces) -> None:
    """Its span says that it was cancelled and why; a node that never ran is an event of the run."""
    begun = anyio.Event()

    async def waits() -> None:
        begun.set()
        await anyio.sleep_forever()

    executor = DynamicExecutor(chain("a", "b"), observers=[traces.observer])
    with anyio.fail_after(GUARD):
        async with executor.start({"a": waits, "b": nothing}) as run:
            await begun.wait()
            run.cancel("enough")
    reason = "the run was cancelled: enough"
    assert attributes(traces.node("a"))["node.status"] == "CANCELLED"
    assert attributes(traces.node("a"))["node.reason"] == reason
    for span in (*traces.attempts("a"), traces.node("a")):
        assert span.status.status_code is StatusCode.UNSET
        assert events(span) == []
    assert events(traces.run) == [("node_cancelled", {"node.name": "b", "node.reason": reason})]
    assert traces.run.status.description == attributes(traces.run)["run.reason"] == reason


class TracedTwelve(Twelve):
    """Twelve nodes, sync and async, that are traced."""

    traces: Traces

    def _executor(self) -> DynamicExecutor:
        executor = super()._executor()
        observers = (self.traces.observer,)
        executor._settings = executor._settings._replace(observers=observers)
        return executor

    def assert_nothing_is_left(self) -> None:
        super().assert_nothing_is_left()
        assert self.traces.open.spans == []


@ways(*EVERYWHERE)
async def test_a_caller_that_is_cancelled_at_any_step_leaves_no_span_open(
    traces: Traces, way: CancelWay
) -> None:
    """At each step of nodes and expanders, on the loop and in threads: every span has ended when
    `execute` has raised.
    """

    def make(step: Callable[[], None], threads: bool) -> Twelve:
        twelve = TracedTwelve(step, threads)
        twelve.traces = traces
        return twelve

    await assert_every_step_can_be_cancelled(way, make)


async def test_a_blocked_loop_is_an_event_of_the_node(
    traces: Traces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says in which file, line and function."""
    noticed = threading.Event()

    async def blocks() -> None:
        assert noticed.wait(GUARD)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", lambda *warning: noticed.set())
        await traces.execute(graph("a"), {"a": blocks}, detect_blocking=0.01)
    [(kind, details)] = events(traces.node("a"))
    assert kind == "loop_blocked"
    assert details["file"] == __file__
    assert details["function"] == "blocks"
    assert details["line"] > 0
    assert details["seconds"] > 0


# --- what it costs, and what goes wrong -----------------------------------------------------------


async def test_nothing_is_kept_of_nodes_that_have_ended(traces: Traces) -> None:
    """However many nodes a stream adds, only those in its window are held, and no run afterwards;
    nodes that are removed or skipped before they start are let go as well.
    """
    held: list[int] = []

    async def look() -> None:
        [run] = traces.observer._runs.values()
        held.append(len(run.nodes) + len(run._origins))

    async def many(name: str, result: object) -> AsyncIterator[DynamicModification]:
        for number in range(300):
            new = DynamicNodeSpec(f"x{number}", look, [name])
            spare = DynamicNodeSpec(f"y{number}", nothing, ["end"])
            lost = DynamicNodeSpec(f"z{number}", nothing, ["bad"])
            yield DynamicModification([new, spare, lost])
            yield DynamicModification(remove_nodes=[f"y{number}"])

    policy = NodePolicy(window=20, trigger=dagron.all_done)
    builder = DAG.builder().add_node("a", policy=policy)
    dag = builder.add_edge("bad", "a").add_edge("a", "end").build()
    tasks = {"a": nothing, "bad": fail, "end": nothing}
    result = await traces.execute(dag, tasks, {"a": many}, keep="failures")
    assert (result.failed, result.skipped) == (1, 300)
    assert len(held) == 300
    assert max(held) <= 25
    assert traces.observer._runs == {}


async def test_a_result_that_is_kept_keeps_no_run(traces: Traces) -> None:
    """What an exception has passed through, its spans included, does not keep the run alive."""
    with new_objects_only() as alive:
        result = await traces.execute(graph("a", "b"), {"a": fail, "b": nothing})
        assert result.failed == 1
        assert alive() == []


def raising_span(traces: Traces, span: str, *, on_start: bool) -> None:
    if on_start:
        traces.open.raises_on_start = span
    else:
        traces.open.raises_on_end = span


@pytest.mark.parametrize("on_start", [True, False], ids=["start", "end"])
@pytest.mark.parametrize("span", ["dagron run", "node b", "attempt b"])
async def test_a_processor_that_raises_changes_no_node(
    traces: Traces, span: str, on_start: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Tracing the run ends there, logged once and counted, with every span that was open ended; the
    nodes end as they would have, and the next run is traced again.
    """
    raising_span(traces, span, on_start=on_start)
    b_is_over = anyio.Event()

    async def waits_and_fails() -> None:
        await b_is_over.wait()
        raise ValueError

    go = lambda: anyio.from_thread.run_sync(b_is_over.set)
    tasks = {"a": nothing, "b": id_on_loop, "c": go, "d": waits_and_fails}
    dag = chain("a", "b", "c").to_builder().add_node("d").build()
    executor = DynamicExecutor(dag, observers=[traces.observer])
    result = await executor.execute(tasks)
    assert (result.succeeded, result.failed) == (3, 1)
    assert result.dropped_observers == len(caplog.records) == 1
    assert caplog.records[0].name == "dagron"
    assert traces.open.spans == []
    caplog.clear()
    traces.open.raises_on_start = traces.open.raises_on_end = None
    assert (await executor.execute(tasks)).dropped_observers == 0
    assert traces.spans[-1].name == "dagron run"


async def test_spans_that_are_not_sampled_carry_on_the_trace() -> None:
    """With a sampler that takes nothing, tasks find a span that is not recorded, and its trace."""
    observer = OpenTelemetry(TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False))
    seen = []

    async def task() -> None:
        seen.append(trace.get_current_span().get_span_context())
        raise ValueError

    result = await DynamicExecutor(graph("a"), observers=[observer]).execute({"a": task})
    assert result.dropped_observers == 0
    assert seen[0].is_valid
    assert not seen[0].trace_flags.sampled
    assert observer._runs == {}


async def test_without_a_provider_nothing_is_recorded() -> None:
    """Where the program has set up no SDK, the API's own tracer does nothing, and nothing fails."""
    executor = DynamicExecutor(graph("a"), observers=[OpenTelemetry()])
    result = await executor.execute({"a": id_here})
    assert result.dropped_observers == 0
    assert result["a"].result == 0


def test_without_the_extra_the_import_says_what_to_type() -> None:
    """`MissingExtraError`, which is an ImportError, names the extra and the command."""
    code = """
import sys
sys.modules["opentelemetry"] = None
try:
    from dagron.integrations.opentelemetry import OpenTelemetry
except ImportError as error:
    print(type(error).__name__, error.extra, error, sep="\\n")
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    name, extra, *text = ran.stdout.splitlines()
    assert (name, extra) == ("MissingExtraError", "otel")
    assert text[-1] == '  help: type pip install "dagron[otel]" opentelemetry-sdk'


def test_the_sdk_would_complain(caplog: pytest.LogCaptureFixture) -> None:
    """The guard of the fixture sees a span that is ended twice."""
    span = Traces().tracer.start_span("twice")
    span.end()
    with caplog.at_level(logging.WARNING):
        span.end()
    assert len(complaints(caplog)) == 1
