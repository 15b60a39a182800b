"""DynamicExecutor: what a run is made of, checked before it starts."""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import anyio
from anyio.lowlevel import current_token

from dagron._around import METHODS, method_of
from dagron._calls import growing_tasks, read_expander, unknown_group
from dagron._checks import counted, seconds, unplain_kind
from dagron._errors import EventLoopRunningError, MissingTaskError
from dagron._events import Event
from dagron._graph import DAG, DAGBuilder, unknown_node
from dagron._interrupt import Interrupts, interrupts
from dagron._keep import Word, checked_word
from dagron._landing import SUGGESTIONS
from dagron._limits import Limits, read_sizes
from dagron._logs import WARNING, log
from dagron._modification import ExpanderFunction
from dagron._names import checked_name, checked_run_id, did_you_mean, shown
from dagron._policy import LOCAL, NodePolicy, checked_policy
from dagron._results import ExecutionResult
from dagron._rows import JournalLike
from dagron._run import Run
from dagron._runner import Runner, checked_runners, unknown_runner
from dagron._settings import Settings
from dagron._shell import Shell

if TYPE_CHECKING:
    from dagron._showing import Showing


Observers: TypeAlias = tuple[Callable[[Event], object], ...]


class DynamicExecutor:
    """Runs a graph, and lets expanders change it while it runs.

    ``expanders`` maps names to functions. When the node of that name has completed, its expander
    is called with ``(name, result)`` and returns a `DynamicModification` or None; it may be a plain
    function, which runs in a worker thread, or an ``async def``. A third parameter without a
    default receives the current graph as a `DAG`: a snapshot that costs time in proportion to the
    graph. A node is not done until its expander is done and the modification is in: nothing that
    depends on it starts in between. The node may also be one that only appears during the run.

    An expander may also be a generator, sync or async, which yields modifications or single
    `DynamicNodeSpec` values. Each lands at once, and its nodes start while the generator goes on,
    also those that depend on the expanding node. It is advanced only while fewer than
    ``NodePolicy(window=...)`` of the node's children are unfinished, and waits without any slots
    for more room. What had landed when it fails stays, see ``NodePolicy(orphans=...)``. A sync one
    runs in one worker thread from its start to its closing.

    ``max_workers`` bounds the worker threads of a run that sync tasks and sync expanders take
    (default: as many as `concurrent.futures` would), ``max_concurrency`` all nodes that run at once
    (None: no bound). ``max_nodes`` bounds the nodes in the graph, and ``max_depth`` how many
    expansions deep a node may be added: a modification that goes beyond is refused.

    ``limits`` maps group names to how many nodes of the group run at once: ``{"github": 5}``, for
    nodes whose `NodePolicy` names that group (sync ones need a thread, too: see ``max_workers``).
    A dict counts for each run by itself; a `Limits`
    object counts for all the runs of all executors that are given it. ``policy`` is what nodes are
    run by as far as policies of their own say nothing.

    ``on_failure`` says what a failed node does to the rest: ``"skip"``, its descendants are
    skipped and everything else goes on, or ``"cancel"``, the first failure ends the run and all
    that has not finished is cancelled.

    ``observers`` are plain functions, which are called in the event loop with every event of every
    run, in order (see `dagron.events`); one that raises is logged and dropped. One that has a
    method ``around_node(run_id, node)``, or ``around_attempt(run_id, node, attempt)``, is asked for
    a context manager around each node, its expander included, or around each call of its task: what
    that sets in context variables, the code inside finds, also in a worker thread. It is entered
    and left in the event loop, in the node's own task; it sees what is raised inside, and cannot
    change it. Where there is one, each sync node has a call of its own in a worker thread.

    With ``detect_blocking=0.1``, an ``async def`` task that keeps the event loop from turning for a
    tenth of a second is named in a `BlockingWarning` and a `LoopBlocked` event, once per node.

    ``keep`` says what stays of nodes that have completed: ``"all"``; ``"leaves"``, only those on
    which nothing depends; or ``"failures"``, none. The rest is forgotten as soon as the last node
    that depends on it has ended: it is in no graph and no ``node_results`` any more, but in all
    counts and families. Nodes that failed, were skipped or cancelled always stay.

    With a ``journal`` runs are durable: what their nodes come to is written into a file, and a run
    that was killed goes on where it was when `execute` is called with its ``run_id`` again. See
    `Journal` for what is promised. Expanders and conditions must then be pure functions of what
    they are called with, since they are called again.

    ``runners`` maps names to runners, such as those in `dagron.runners`: a node whose policy says
    ``NodePolicy(runner="big")`` has its task's body run by the runner of that name, in other
    processes or on a cluster; everything else stays here. ``runner`` is the one for nodes that name
    none; ``"local"``, the default, is this process. A run enters its runners, and leaves them at
    its end; a runner that is to outlive it is entered around it: ``async with runner: ...``.

    An executor keeps no state of a run, and never changes its DAG: any number of runs may use it at
    once. Raises `TypeError` or `ValueError` that name the parameter and the value,
    `UnknownGroupError` for a policy whose group has no limit, `UnknownRunnerError` for one whose
    runner is none of ``runners``, and `TaskSignatureError` for an
    expander that cannot be called with these arguments.
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
        limits: Limits | Mapping[str, int] | None = None,
        policy: NodePolicy | None = None,
        on_failure: Literal["skip", "cancel"] = "skip",
        observers: Iterable[Callable[[Event], object]] = (),
        detect_blocking: float | None = None,
        keep: Word = "all",
        journal: JournalLike | None = None,
        runners: Mapping[str, Runner] | None = None,
        runner: str = LOCAL,
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
        limits = limits if isinstance(limits, Limits) else read_sizes(limits or {})
        self._settings = Settings(
            counted("max_workers", _default_workers() if max_workers is None else max_workers),
            None if max_concurrency is None else counted("max_concurrency", max_concurrency),
            counted("max_nodes", max_nodes),
            counted("max_depth", max_depth),
            limits,
            _with_runner(checked_policy(policy), runner),
            on_failure == "cancel",
            _checked_observers(observers),
            seconds("detect_blocking", detect_blocking),
            checked_word("keep", keep),
            checked_runners(runners),
            _checked_journal(journal),
        )
        self._check_policies()

    def _check_policies(self) -> None:
        policies = {f"node {name!r:.60}": p for name, p in self._dag._graph.policies.items()}
        if self._settings.policy is not None:
            policies["the executor's policy"] = self._settings.policy
        for where, policy in policies.items():
            if policy.runner != LOCAL and policy.runner not in self._settings.runners:
                raise unknown_runner(policy.runner, self._settings.runners, where)
            for group in policy.groups:
                if group not in self._settings.groups:
                    raise unknown_group(group, self._settings.groups, where)

    async def execute(
        self,
        tasks: Mapping[str, Callable[..., Any]],
        *,
        timeout: float | None = None,
        progress: bool = False,
        run_id: str | None = None,
        retry_failed: bool = False,
    ) -> ExecutionResult:
        """Run the graph to its end and return what became of every node.

        ``tasks`` maps the name of each node to a callable. An ``async def`` runs in the event loop,
        everything else in a worker thread; an awaitable that a sync callable returns is awaited.
        Parameters without a default are filled by name: the name of a direct dependency gives its
        result, ``inputs`` a dict of the results of all direct dependencies, in edge order.
        Parameters with a default are left alone. The parameter ``grow`` of an ``async def`` gives a
        `Grow`, which adds nodes while the task runs. Only a node downstream of an expander, or of
        such a task, may come without a task: a placeholder, to be removed before it is reached.

        A node that fails, or whose expander does, makes its descendants SKIPPED; everything else
        goes on, and nothing is raised: see `ExecutionResult.raise_for_failures`.

        ``timeout`` ends the run after that many seconds: nodes that have not finished are
        CANCELLED, and the result is returned with ``ok`` False. Who wants an exception writes
        ``anyio.fail_after`` or ``asyncio.timeout`` around the call instead.

        With ``progress=True`` the run shows how far it is where stderr is a terminal, with a line
        for the nodes that each node has added, and at its end `ExecutionResult.summary`. That needs
        the extra ``dagron[progress]``. Where stderr is no terminal nothing is shown; but where the
        environment has ``CI`` (also where a terminal is ``dumb``), a line of plain text for each
        change of a node's state. What is shown has no part in the run: if it fails, that is logged.

        ``run_id`` names the run in the executor's ``journal``. A new id begins a run. One that is
        unfinished goes on: nodes that have ended keep their recorded results and do not run again,
        what they have added is in place. Of one that has finished, the recorded result is returned
        and nothing runs; with ``retry_failed=True`` what has failed, was skipped or cancelled runs
        again. A run that ends by a timeout, `Run.cancel` or a cancellation stays unfinished.

        Cancelling the awaiting task cancels all nodes, and raises when they have ended; a worker
        thread cannot be stopped and is waited for. KeyboardInterrupt does the same.

        Raises, before anything runs: `UnknownNodeError` for a task or for expanders that name no
        node, `MissingTaskError`, `TaskSignatureError` for a task that cannot be called, and
        `MissingExtraError` for ``progress=True`` on a terminal without the extra. With a journal:
        `JournalError` where that cannot be read or written, which ends the run at any time,
        `RunInUseError` where another process runs it, `GraphMismatchError` where it began with
        another graph, and `ReplayError` where an expander does not do what it did before.
        """
        with _shown(progress) as shown:
            shell = self._new_shell(
                tasks,
                timeout,
                observers=_observers(shown),
                run_id=run_id,
                retry_failed=retry_failed,
            )
            result = await shell.main()
            _warn_of_unused(shell.id, result)
            if shown is not None:
                shown.result = result
        return result

    def start(
        self,
        tasks: Mapping[str, Callable[..., Any]],
        *,
        timeout: float | None = None,
        run_id: str | None = None,
        retry_failed: bool = False,
    ) -> Run:
        """Return a handle on a new run, which begins where the block begins.

        ``async with executor.start(tasks) as run:`` does what `execute` does, beside the block: it
        can be looked at, cancelled and modified meanwhile, see `Run`. Leaving the block waits for
        the end of the run; ``await run.wait()`` returns its result.

        Raises what `execute` raises before anything runs; but expanders may name nodes that nothing
        but the handle could add.
        """
        shell = self._new_shell(
            tasks, timeout, may_grow=True, run_id=run_id, retry_failed=retry_failed
        )
        return Run(shell, _warn_of_unused)

    def execute_sync(
        self,
        tasks: Mapping[str, Callable[..., Any]],
        *,
        timeout: float | None = None,
        backend: str = "asyncio",
        progress: bool = False,
        run_id: str | None = None,
        retry_failed: bool = False,
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
        with interrupts() as handler, _shown(progress) as shown:
            outcome = anyio.run(
                partial(
                    self._execute_interruptible,
                    tasks,
                    timeout,
                    handler,
                    _observers(shown),
                    run_id,
                    retry_failed,
                ),
                backend=backend,
            )
            if shown is not None and isinstance(outcome, ExecutionResult):
                shown.result = outcome
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
        observers: Observers,
        run_id: str | None,
        retry_failed: bool,
    ) -> ExecutionResult | KeyboardInterrupt:
        """Return a KeyboardInterrupt instead of raising it through the event loop."""
        handler.run = shell = self._new_shell(
            tasks, timeout, observers=observers, run_id=run_id, retry_failed=retry_failed
        )
        if handler.installed:
            shell.let_threads_be_abandoned()
        if handler.count:  # it came before there was a run
            shell.interrupt_soon()
        try:
            result = await shell.main()
            _warn_of_unused(shell.id, result)
            return result
        except KeyboardInterrupt as interrupt:
            return interrupt.with_traceback(None)
        finally:
            handler.run = None

    def _new_shell(
        self,
        tasks: Mapping[str, Callable[..., Any]],
        timeout: float | None,
        may_grow: bool = False,
        observers: Observers = (),
        run_id: str | None = None,
        retry_failed: bool = False,
    ) -> Shell:
        """Return a run of its own; ``observers`` hear of this one alone."""
        self._check_tasks(tasks, may_grow)
        if run_id is not None:
            self._check_run_id(run_id)
        elif retry_failed:
            raise ValueError(
                "retry_failed=True is for a run that was recorded, and there is no run_id\n"
                "  help: pass the run_id of the run, to an executor with its journal"
            )
        timeout = seconds("timeout", timeout)
        settings = self._settings
        if observers:
            settings = settings._replace(observers=(*settings.observers, *observers))
        return Shell(self._dag, tasks, self._expanders, settings, timeout, run_id, retry_failed)

    def _check_run_id(self, run_id: str) -> None:
        if self._settings.journal is None:
            raise ValueError(
                f"run_id={run_id!r:.60} names a run in a journal, and this executor has none\n"
                f"  help: write DynamicExecutor(..., journal=dagron.Journal('runs.db'))"
            )
        checked_run_id(run_id)

    # -- checks before anything runs

    def _check_tasks(self, tasks: Mapping[str, Callable[..., Any]], may_grow: bool) -> None:
        _check_mapping("tasks", tasks, "a callable")
        known = self._dag._graph.dependencies
        for name in tasks:
            if name not in known:
                raise unknown_node(name, self._dag, "tasks")
        expanders = () if may_grow else self._expanders
        is_known = any(name in self._dag for name in expanders)
        if expanders and not is_known and not growing_tasks(tasks):
            raise unknown_node(next(iter(self._expanders)), self._dag, "expanders")
        if len(tasks) < len(self._dag):
            self._check_missing(
                [name for name in self._dag if name not in tasks], growing_tasks(tasks)
            )

    def _check_missing(self, missing: list[str], growing: list[str]) -> None:
        """Refuse nodes without a task, except downstream of a node that may change the graph: those
        are placeholders.
        """
        downstream: set[str] = set()
        stack = [*growing, *(name for name in self._expanders if name in self._dag)]
        while stack:
            for dependent in self._dag.dependents(stack.pop()):
                if dependent not in downstream:
                    downstream.add(dependent)
                    stack.append(dependent)
        lost = [name for name in missing if name not in downstream]
        if lost:
            raise MissingTaskError(
                f"{len(lost):,} node{'s' * (len(lost) > 1)} without a task: {shown(lost)}\n"
                f"  help: give {'each' if len(lost) > 1 else 'it'} a callable: "
                f"execute({{{lost[0]!r:.60}: ...}})",
                lost,
            )


def _with_runner(policy: NodePolicy | None, runner: str) -> NodePolicy | None:
    """Return the default policy with the runner of nodes that name none."""
    if runner == LOCAL:
        return policy
    if policy is not None and "runner" in policy.given and policy.runner != runner:
        raise ValueError(
            f"runner={runner!r:.60}, and the policy says {policy.runner!r:.60}\n"
            f"  help: say it in one of the two places"
        )
    return NodePolicy(runner=runner).over(policy)


def _check_mapping(parameter: str, value: object, what: str) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(
            f"{parameter} is a dict of node names to callables, not {type(value).__name__}\n"
            f"  help: write {{'name': ...}}, where ... is {what}"
        )


def _checked_journal(journal: JournalLike | None) -> JournalLike | None:
    if journal is None or hasattr(journal, "_open"):
        return journal
    help = "write journal=dagron.Journal('runs.db')"
    raise TypeError(
        f"journal is a dagron.Journal, not {type(journal).__name__}: {journal!r:.60}\n"
        f"  help: {help}"
    )


def _checked_observers(observers: object) -> tuple[Callable[[Event], object], ...]:
    if not isinstance(observers, Iterable) or isinstance(observers, (str, bytes)):
        raise TypeError(
            f"observers is a list of functions, not {type(observers).__name__}\n"
            f"  help: write observers=[print]"
        )
    checked = tuple(observers)
    for observer in checked:
        if not callable(observer) or unplain_kind(observer) is not None:
            raise TypeError(
                f"observers holds {observer!r:.60}, which is no plain function of an event\n"
                f"  help: for async code write async for event in run.events()"
            )
        _check_around(observer)
    return checked


def _check_around(observer: object) -> None:
    for method in METHODS:
        around = method_of(observer, method)
        if around is not None and (not callable(around) or unplain_kind(around) is not None):
            raise TypeError(
                f"{method} of the observer {observer!r:.60} returns no context manager\n"
                f"  help: write @contextlib.contextmanager above a plain function that yields once"
            )


def _shown(progress: object) -> "AbstractContextManager[Showing | None]":
    """Return a block inside which a run is shown, if it is to be, and anybody would see it."""
    if progress is False:
        return nullcontext()
    if progress is not True:
        raise TypeError(
            f"progress is True or False, not {type(progress).__name__}: {progress!r:.60}\n"
            f"  help: write progress=True; to report from inside a task, call dagron.progress(...)"
        )
    from dagron._showing import showing  # on use: most runs are not shown

    return showing() or nullcontext()


def _observers(shown: "Showing | None") -> Observers:
    return () if shown is None else shown.observers


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


def _warn_of_unused(run_id: str, result: ExecutionResult) -> None:
    known = [*result.node_results, *result.removed] if result.unused_expanders else ()
    for count, name in enumerate(result.unused_expanders):
        hint = did_you_mean(name, known) if count < SUGGESTIONS else ""
        message = "the expander for %r was never called: no node of that name appeared%s"
        log(WARNING, run_id, name, message, name, f"; {hint}" if hint else "")
