"""Where the body of a task may run: what a runner promises, and what it is given."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable
from weakref import WeakValueDictionary

from dagron._checks import counted
from dagron._errors import Fault, UnknownRunnerError
from dagron._lanes import SharedPool
from dagron._names import checked_name, close_names, question
from dagron._policy import LOCAL


class Line(Protocol):
    """The line from a call back to its run, for the event loop of the run."""

    def queued(self) -> None:
        """Tell that the call waits for a worker: until it is `placed`, no time counts."""

    def placed(self, worker: str) -> None:
        """Tell on which worker the body runs from now on: a `NodePlaced` event.

        The node's timeout and its duration count from here.
        """

    def took(self, seconds: float) -> None:
        """Tell how long the body took, where the worker knows it better than the run."""

    def progress(self, done: float, total: float | None, note: str) -> None:
        """Pass on what the body reported by `progress`."""

    def computed_again(self, reason: str) -> None:
        """Tell that the result was lost after the node had completed, and was computed again."""

    def outlive(self) -> Callable[[], object]:
        """Tell, in a call that is being cancelled, that the body goes on: it cannot be stopped.

        Its slot stays taken until what this returns is called.
        """


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One attempt at the body of one node, to be made by a runner.

    ``function`` is called with ``arguments`` and ``keywords``; what it returns is awaited if it is
    awaitable. Any `Result` among the arguments, or in a dict of them, is one of the runner's own
    results: the function gets its value. ``resources``, ``priority`` and ``timeout`` are those of
    the node's policy; the timeout is kept by the run, which cancels the call. ``key`` names the
    attempt: no other has the same.
    """

    function: Callable[..., Any]
    arguments: Sequence[Any]
    keywords: Mapping[str, Any]
    run_id: str
    node: str
    attempt: int
    resources: Mapping[str, float]
    priority: float
    timeout: float | None
    line: Line

    @property
    def key(self) -> str:
        """The run's id, the node's name and the number of the attempt."""
        return f"{self.run_id}/{self.node}/{self.attempt}"


@runtime_checkable
class Runner(Protocol):
    """Runs the bodies of nodes somewhere: it moves where a body runs, and never when.

    A run enters each of its runners as an async context manager before its first node starts, and
    leaves it after its last. A program that shares a runner among runs enters it around them: so it
    may be entered again while it is, and ends what it has begun when it was left as often.

    ``slots`` says how many calls it takes at once, or is None for any number: ready nodes wait in
    the run until one is free. It is asked for at the begin of a run, after that has entered it.
    """

    @property
    def slots(self) -> int | None:
        """How many calls are made at once; None: any number."""

    async def run(self, call: Call) -> Any:
        """Make the call and return what the function returned, or a `Result` of it.

        Raises what the function raised; `WorkerLostError` where its worker is gone;
        `NotPicklableError` for what cannot travel; `RunnerLostError` if the runner as a whole is
        gone, which ends the run. A cancellation ends the work, and is raised again.
        """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None: ...


class Result:
    """A result that stays where it was computed, until somebody here needs it.

    A runner returns one of its own. ``runner`` is the runner: its calls take it as an argument.
    ``is_wanted`` says that its value is to be fetched at once, whoever needs it.
    """

    __slots__ = ("__weakref__", "is_wanted", "runner")

    def __init__(self, runner: "RemoteRunner", *, is_wanted: bool = False) -> None:
        self.runner = runner
        self.is_wanted = is_wanted

    @property
    def is_there(self) -> bool:
        """Tell whether the value can be had at once; a run that is out of time awaits no other."""
        return True


class RemoteRunner(Runner, Protocol):
    """A runner that returns a `Result` in place of values."""

    async def fetch(self, results: Sequence[Result]) -> Sequence[Any]:
        """Return the values, in order; in place of one that is lost, a `Lost`.

        What this raises stands for all of them; but `RunnerLostError` ends the run.
        """


class Lost:
    """Stands for a value that is lost, and holds the error that says how."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Post(SharedPool):
    """The slots of a runner, for all runs that use it; their number is known when it is entered."""

    __slots__ = ("__weakref__", "_runner")

    def __init__(self, name: str, runner: Runner) -> None:
        super().__init__(name, UNBOUNDED)
        self._runner = runner  # so that no other gets its id as long as there are these slots

    def resize(self, size: int | None) -> None:
        """Let there be so many slots; those that are taken stay so."""
        size = UNBOUNDED if size is None else size
        self.free += size - self.size
        self.size = size


UNBOUNDED = 1_000_000_000
# By the ids of the runners, which need not be hashable nor known by weak references: as long as a
# run, or a body that outlives one, has to do with the slots.
_posts: WeakValueDictionary[int, Post] = WeakValueDictionary()


def post_of(name: str, runner: Runner) -> Post:
    """Return the slots of a runner: the same for all who ask."""
    return _posts.setdefault(id(runner), Post(name, runner))


def checked_runners(value: object) -> dict[str, Runner]:
    """Return the runners by their names, or refuse them."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(
            f"runners is a dict of names to runners, not {type(value).__name__}\n"
            f"  help: write runners={{'cpu': dagron.runners.ProcessRunner()}}"
        )
    for name, runner in value.items():
        if checked_name(name, "runner") == LOCAL:
            raise ValueError(
                f"runners has the name {LOCAL!r}, which is that of this process\n"
                f"  help: give the runner another name"
            )
        if not isinstance(runner, Runner) or isinstance(runner, type):
            raise TypeError(
                f"runners[{name!r:.60}] is no runner, but {runner!r:.60}\n"
                f"  help: write runners={{{name!r:.60}: dagron.runners.ProcessRunner()}}"
            )
    return dict(value)


def checked_slots(runner: Runner) -> int | None:
    """Return how many calls the runner takes at once, or refuse what it says."""
    slots = runner.slots
    return None if slots is None else counted("slots", slots)


def unknown_runner(name: str, known: Mapping[str, Runner], where: str) -> UnknownRunnerError:
    """Return the error for a policy's runner that the executor does not have."""
    close = close_names(name, [*known, LOCAL])
    help = question(close) or f"give it one: DynamicExecutor(..., runners={{{name!r:.60}: ...}})"
    return UnknownRunnerError(
        f"{where} is to run on {name!r:.60}, which is no runner of the executor\n  help: {help}",
        name,
        close,
    )


def runner_fault(node: str, name: str, known: Mapping[str, Runner]) -> Fault | None:
    """Return what is wrong with the runner that a new node's policy names."""
    if name == LOCAL or name in known:
        return None
    return Fault.of("runner", node, unknown_runner(name, known, f"node {node!r:.60}"))
