"""DynamicExecutor: what a run is made of, checked before it starts."""

import os
from collections.abc import Callable, Mapping
from math import inf
from typing import Any, Literal

import anyio
from anyio.lowlevel import current_token

from dagron._calls import read_expander
from dagron._errors import EventLoopRunningError, MissingTaskError
from dagron._graph import DAG, DAGBuilder, unknown_node
from dagron._interrupt import Interrupts, interrupts
from dagron._landing import SUGGESTIONS
from dagron._modification import ExpanderFunction
from dagron._names import checked_name, did_you_mean, shown
from dagron._results import ExecutionResult
from dagron._run import Ending, Limits, Run


class DynamicExecutor:
    """Runs a graph, and lets expanders change it while it runs.

    ``expanders`` maps names to functions. When the node of that name has completed, its expander
    is called with ``(name, result)`` and returns a `DynamicModification` or None; it may be a plain
    function, which runs in a worker thread, or an ``async def``. A third parameter without a
    default receives the current graph as a `DAG`: a snapshot that costs time in proportion to the
    graph. A node is not done until its expander is done and the modification is in: nothing that
    depends on it starts in between. The node may also be one that only appears during the run.

    ``max_workers`` bounds the worker threads of a run that sync tasks and sync expanders take
    (default: as many as `concurrent.futures` would), ``max_concurrency`` all nodes that run at once
    (None: no bound). ``max_nodes`` bounds the nodes in the graph, and ``max_depth`` how many
    expansions deep a node may be added: a modification that goes beyond is refused.

    ``on_failure`` says what a failed node does to the rest: ``"skip"``, its descendants are
    skipped and everything else goes on, or ``"cancel"``, the first failure ends the run and all
    that has not finished is cancelled.

    An executor keeps no state of a run, and never changes its DAG: any number of runs may use it at
    once. Raises `TypeError` or `ValueError` that name the parameter and the value, and
    `TaskSignatureError` for an expander that cannot be called with these arguments.
    """

    def __init__(
        self,
        dag: DAG,
        expanders: Mapping[str, ExpanderFunction] | None = None,
        *,
        max_workers: int | None = None,
        max_concurrency: int | None = None,
        max_nodes: int = 1_000_000,
        max_depth: int = 1_000,
        on_failure: Literal["skip", "cancel"] = "skip",
    ) -> None:
        if not isinstance(dag, DAG):
            help = "write dagron.DAG.builder().add_node(...).build()"
            if isinstance(dag, DAGBuilder):
                help = "this is the builder: call its .build()"
            raise TypeError(f"dag is a dagron.DAG, not {type(dag).__name__}\n  help: {help}")
        expanders = {} if expanders is None else expanders
        _check_mapping("expanders", expanders, "a function of (name, result)")
        self._dag = dag
        self._expanders = {
            checked_name(name): read_expander(name, function)
            for name, function in expanders.items()
        }
        if on_failure not in ("skip", "cancel"):
            raise ValueError(
                f"on_failure is 'skip' or 'cancel', not {on_failure!r:.60}\n"
                f"  help: write on_failure='cancel' to end the run at the first failure"
            )
        self._cancel_on_failure = on_failure == "cancel"
        self._limits = Limits(
            _counted("max_workers", _default_workers() if max_workers is None else max_workers),
            None if max_concurrency is None else _counted("max_concurrency", max_concurrency),
            _counted("max_nodes", max_nodes),
            _counted("max_depth", max_depth),
        )

    async def execute(
        self, tasks: Mapping[str, Callable[..., Any]], *, timeout: float | None = None
    ) -> ExecutionResult:
        """Run the graph to its end and return what became of every node.

        ``tasks`` maps the name of each node to a callable. An ``async def`` runs in the event loop,
        everything else in a worker thread; an awaitable that a sync callable returns is awaited.
        Parameters without a default are filled by name: the name of a direct dependency gives its
        result, ``inputs`` a dict of the results of all direct dependencies, in edge order.
        Parameters with a default are left alone. Only a node downstream of an expander may come
        without a task: a placeholder, to be removed before it is reached.

        A node that fails, or whose expander does, makes its descendants SKIPPED; everything else
        goes on, and nothing is raised: see `ExecutionResult.raise_for_failures`.

        ``timeout`` ends the run after that many seconds: nodes that have not finished are
        CANCELLED, and the result is returned with ``ok`` False. Who wants an exception writes
        ``anyio.fail_after`` or ``asyncio.timeout`` around the call instead.

        Cancelling the awaiting task cancels all nodes, and raises when they have ended; a worker
        thread cannot be stopped and is waited for. KeyboardInterrupt does the same.

        Raises, before anything runs: `UnknownNodeError` for a task or for expanders that name no
        node, `MissingTaskError`, `TaskSignatureError` for a task that cannot be called.
        """
        return await self._finish(self._new_run(tasks, timeout))

    def execute_sync(
        self,
        tasks: Mapping[str, Callable[..., Any]],
        *,
        timeout: float | None = None,
        backend: str = "asyncio",
    ) -> ExecutionResult:
        """Do what `execute` does from a program without an event loop, and block until the end.

        ``backend`` is ``"asyncio"`` or ``"trio"``. On the main thread, unless the program handles
        SIGINT itself, the first Ctrl-C cancels the run and waits for its threads, and the second
        stops waiting for them; then KeyboardInterrupt is raised.

        Raises `EventLoopRunningError`, a `RuntimeError`, where an event loop is running already,
        `ValueError` for another backend, and `LookupError` if trio is not installed.
        """
        if backend not in ("asyncio", "trio"):
            raise ValueError(
                f"backend is 'asyncio' or 'trio', not {backend!r:.60}\n"
                f"  help: on uvloop, write uvloop.run(executor.execute(tasks))"
            )
        _refuse_inside_event_loop()
        with interrupts() as handler:
            outcome = anyio.run(
                self._execute_interruptible, tasks, timeout, handler, backend=backend
            )
        if isinstance(outcome, KeyboardInterrupt):
            raise outcome
        if handler.count:  # it came with the last node's end, or after it
            raise KeyboardInterrupt
        return outcome

    async def _execute_interruptible(
        self,
        tasks: Mapping[str, Callable[..., Any]],
        timeout: float | None,
        handler: Interrupts,
    ) -> ExecutionResult | KeyboardInterrupt:
        """Return a KeyboardInterrupt instead of raising it through the event loop."""
        handler.run = run = self._new_run(tasks, timeout)
        if handler.installed:
            run.let_threads_be_abandoned()
        if handler.count:  # it came before there was a run
            run.interrupt_soon()
        try:
            return await self._finish(run)
        except KeyboardInterrupt as interrupt:
            return interrupt.with_traceback(None)
        finally:
            handler.run = None

    def _new_run(self, tasks: Mapping[str, Callable[..., Any]], timeout: float | None) -> Run:
        self._check_tasks(tasks)
        ending = Ending(self._cancel_on_failure, _seconds("timeout", timeout))
        return Run(self._dag, tasks, self._expanders, self._limits, ending)

    async def _finish(self, run: Run) -> ExecutionResult:
        result = await run.main()
        if result.unused_expanders:
            _warn_of_unused(result)
        return result

    # -- checks before anything runs

    def _check_tasks(self, tasks: Mapping[str, Callable[..., Any]]) -> None:
        _check_mapping("tasks", tasks, "a callable")
        for name in tasks:
            if name not in self._dag:
                raise unknown_node(name, self._dag, "tasks")
        if self._expanders and not any(name in self._dag for name in self._expanders):
            raise unknown_node(next(iter(self._expanders)), self._dag, "expanders")
        if len(tasks) < len(self._dag):
            self._check_missing([name for name in self._dag if name not in tasks])

    def _check_missing(self, missing: list[str]) -> None:
        """Refuse nodes without a task, except downstream of an expander: those are placeholders."""
        downstream: set[str] = set()
        stack = [name for name in self._expanders if name in self._dag]
        while stack:
            for dependent in self._dag.dependents(stack.pop()):
                if dependent not in downstream:
                    downstream.add(dependent)
                    stack.append(dependent)
        lost = [name for name in missing if name not in downstream]
        if lost:
            raise MissingTaskError(
                f"{len(lost):,} node{'s' * (len(lost) > 1)} without a task: {shown(lost)}\n"
                f"  help: give each a callable: execute({{{lost[0]!r:.60}: ..., }})",
                lost,
            )


def _check_mapping(parameter: str, value: object, what: str) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(
            f"{parameter} is a dict of node names to callables, not {type(value).__name__}\n"
            f"  help: write {{'name': ...}}, where ... is {what}"
        )


def _counted(parameter: str, value: object) -> int:
    """Return a bound that is an int of at least 1, or refuse it."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(
            f"{parameter} is an int, not {type(value).__name__}: {value!r:.60}\n"
            f"  help: write {parameter}=4, for example"
        )
    if value < 1:
        raise ValueError(f"{parameter} is at least 1, not {value}\n  help: write {parameter}=1")
    return value


def _seconds(parameter: str, value: object) -> float | None:
    """Return a span of time that is a number above 0, or None, or refuse it."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(
            f"{parameter} is a number of seconds, not {type(value).__name__}: {value!r:.60}\n"
            f"  help: write {parameter}=2.5, for example"
        )
    if not 0 < value < inf:
        raise ValueError(
            f"{parameter} is above 0 seconds, not {value}\n"
            f"  help: leave {parameter} out for no limit"
        )
    return float(value)


def _default_workers() -> int:
    """Return what `concurrent.futures.ThreadPoolExecutor` would choose."""
    count = getattr(os, "process_cpu_count", os.cpu_count)()
    return min(32, (count or 1) + 4)


def _refuse_inside_event_loop() -> None:
    try:
        current_token()
    except RuntimeError:  # anyio's NoEventLoopError: there is none, as it should be
        return
    raise EventLoopRunningError(
        "execute_sync() blocks, and an event loop is running in this thread\n"
        "  help: write await executor.execute(tasks)"
    )


def _warn_of_unused(result: ExecutionResult) -> None:
    import logging  # loaded on use

    known = [*result.node_results, *result.removed]
    log = logging.getLogger("dagron")
    for count, name in enumerate(result.unused_expanders):
        hint = did_you_mean(name, known) if count < SUGGESTIONS else ""
        log.warning(
            "the expander for %r was never called: no node of that name appeared%s",
            name,
            f"; {hint}" if hint else "",
        )
