"""How a node is run: when it may start, how often it is tried, how long it may take."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, Literal

from dagron._checks import counted, finite, seconds, within
from dagron._keep import Keep, checked_keep
from dagron._names import checked_name
from dagron._value import Value, setter


class Trigger(Value):
    """Decides from the finished dependencies of a node whether it runs.

    There are four: `all_succeeded`, which is the default, `all_done`, `any_succeeded`, and
    `at_least`. A node without dependencies runs under any of them.
    """

    __slots__ = _fields = _compared = ("kind", "need")

    kind: str
    need: int | float | None

    def __init__(self, kind: str, need: int | float | None = None) -> None:
        _set_kind(self, kind)
        _set_need(self, need)

    def verdict(self, total: int, pending: int, met: int, inactive: int) -> bool | None:
        """Return True to run the node, False to skip it, None to wait for more.

        Of the ``total`` edges to the node, ``pending`` lead from nodes that are not done, ``met``
        from nodes that succeeded, and ``inactive`` are switched off by a condition; what is left
        leads from nodes that failed, were cancelled, or skipped because of those.
        """
        if not total:
            return True
        if self.kind == "all_succeeded":
            if pending + met + inactive < total:
                return False
            return None if pending else met > 0
        if self.kind == "all_done":
            return None if pending else True
        if met and met >= self._needed(total - inactive):
            return True
        return None if pending else False  # who is still at work may add dependencies

    def _needed(self, active: int) -> int:
        if isinstance(self.need, float):
            return ceil(round(self.need * active, 9))  # 0.1 * 30 is 3.0000000000000004
        return self.need or 1

    def __eq__(self, other: object) -> bool:
        return repr(self) == repr(other) if isinstance(other, Trigger) else NotImplemented

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(repr(self))  # at_least(1) is one of them, at_least(1.0) all

    def __repr__(self) -> str:
        return self.kind if self.need is None else f"{self.kind}({self.need})"

    def __reduce__(self) -> tuple[type["Trigger"], tuple[str, int | float | None]]:
        return Trigger, (self.kind, self.need)


_set_kind = setter(Trigger, "kind")
_set_need = setter(Trigger, "need")

all_succeeded = Trigger("all_succeeded")
all_done = Trigger("all_done")
any_succeeded = Trigger("any_succeeded")


def at_least(need: int | float) -> Trigger:
    """Return the trigger that runs a node as soon as so many of its dependencies have succeeded.

    ``need`` is a count (an int of at least 1) or a share of the active edges (a float above 0 and
    up to 1.0, rounded up to whole nodes). When everything is done and they were too few, the node
    is SKIPPED.
    """
    help = "write at_least(2) for two of them, at_least(0.5) for half"
    if isinstance(need, bool) or not isinstance(need, (int, float)):
        raise TypeError(
            f"at_least takes an int or a float, not {type(need).__name__}: {need!r:.60}\n"
            f"  help: {help}"
        )
    if isinstance(need, float) and not 0 < need <= 1:
        raise ValueError(
            f"at_least takes a share above 0 and up to 1.0, not {need}\n  help: {help}"
        )
    if need <= 0:
        raise ValueError(f"at_least takes a count of at least 1, not {need}\n  help: {help}")
    return Trigger("at_least", need)


class Retry(Value):
    """How often a node's task is tried, and how long to wait in between.

    ``attempts`` counts all of them, the first one too. Only exceptions of the type, or tuple of
    types, ``on`` are a reason to try again. The wait after attempt n is
    ``initial_delay * factor ** (n - 1)`` seconds, at most ``max_delay``; of that, a share between
    none and ``jitter`` (0 to 1) is taken off at random, so that many nodes that failed together do
    not come back together ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015; its "full
    jitter" is ``jitter=1``). With a ``seed`` the waits of a node are the same in every run.

    A cancellation is never retried, nor is what is no `Exception`. The expander runs once, after
    the attempt that succeeds.

    Raises `TypeError` or `ValueError` that name the parameter and the value.
    """

    __slots__ = _fields = _compared = (
        "attempts",
        "on",
        "initial_delay",
        "max_delay",
        "factor",
        "jitter",
        "seed",
    )

    attempts: int
    on: type[Exception] | tuple[type[Exception], ...]
    initial_delay: float
    max_delay: float
    factor: float
    jitter: float
    seed: int | str | None

    def __init__(
        self,
        attempts: int = 3,
        on: type[Exception] | tuple[type[Exception], ...] = Exception,
        *,
        initial_delay: float = 0.1,
        max_delay: float = 30.0,
        factor: float = 2.0,
        jitter: float = 1.0,
        seed: int | str | None = None,
    ) -> None:
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, (int, str))):
            raise TypeError(
                f"seed is an int or a str, not {type(seed).__name__}: {seed!r:.60}\n"
                f"  help: write seed=42, for example"
            )
        self.__setstate__(
            (
                counted("attempts", attempts),
                _exceptions(on),
                within("initial_delay", initial_delay, 0),
                within("max_delay", max_delay, 0),
                within("factor", factor, 1),
                within("jitter", jitter, 0, 1),
                seed,
            )
        )

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(repr(self))

    def delay(self, attempt: int, draw: float = 0.0) -> float:
        """Return the seconds to wait after this attempt, counted from 1.

        ``draw``, from 0.0 to 1.0, stands for the die: how much of the jitter is taken off.
        """
        try:
            delay = min(self.initial_delay * self.factor ** (attempt - 1), self.max_delay)
        except OverflowError:
            delay = self.max_delay if self.initial_delay else 0.0
        return delay * (1 - self.jitter * draw)


def _exceptions(on: object) -> Any:
    for kind in on if isinstance(on, tuple) else (on,):
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise TypeError(
                f"on is an exception type or a tuple of them, not {kind!r:.60}\n"
                f"  help: write on=ConnectionError, for example; only an Exception can be retried"
            )
    return on


class _LeftOut:
    """Stands for an argument that was not given."""

    def __repr__(self) -> str:
        return "<the executor's>"


_LEFT_OUT: Any = _LeftOut()


class NodePolicy(Value):
    """How a node is run.

    ``timeout`` is in seconds, for each attempt of the task and again for the expander's call; an
    attempt that takes longer fails with `NodeTimeoutError`. ``retry`` is a `Retry`. ``group`` names
    one of the executor's ``limits``, or is a tuple of such names: the node needs a slot of each
    while it runs. Among ready nodes that wait for slots, the largest ``priority`` goes first; the
    default is 0, and equals start in the order in which they became ready. ``trigger`` decides from
    the finished dependencies whether the node runs.

    ``runner`` names one of the executor's ``runners``, where the task's body runs; ``"local"`` is
    this process. ``resources`` are amounts by name that the body takes there while it runs, such as
    ``{"GPU": 1}``, for runners that count them.

    Of a node that goes on adding nodes, its children: by an expander that is a generator, or by
    `Grow`. It goes on while fewer than ``window`` of its children are unfinished, 256 by default.
    The ``timeout`` is for each step of the generator. ``orphans`` says what becomes of children
    that are unfinished when it fails or is cancelled: "finish" (the default) or "cancel". ``keep``
    says what stays of its children when they have completed, however they were added: "all",
    "leaves" (only of those without dependents), "failures" (nothing), or a `Fold`; the default is
    the executor's ``keep``. With a fold, the node has ended when all its children have, and what
    its dependents get as its result is the accumulator; children that complete after it has failed
    or was cancelled are counted, and folded no more.

    What is left out is taken from the executor's ``policy``, and is nothing where that says nothing
    either: ``timeout=None`` on a node switches the executor's timeout off.

    Raises `TypeError` or `ValueError` that name the parameter and the value.
    """

    __slots__ = (
        "timeout",
        "retry",
        "group",
        "priority",
        "trigger",
        "window",
        "orphans",
        "keep",
        "runner",
        "resources",
        "given",
    )
    _fields = _compared = __slots__

    timeout: float | None
    retry: Retry | None
    group: str | tuple[str, ...]
    priority: float
    trigger: Trigger
    window: int
    orphans: Literal["finish", "cancel"]
    keep: Keep | None
    runner: str
    resources: Mapping[str, float]
    given: frozenset[str]  # the names of the fields that were not left out

    def __init__(
        self,
        *,
        timeout: float | None = _LEFT_OUT,
        retry: Retry | None = _LEFT_OUT,
        group: str | Sequence[str] = _LEFT_OUT,
        priority: float = _LEFT_OUT,
        trigger: Trigger = _LEFT_OUT,
        window: int = _LEFT_OUT,
        orphans: Literal["finish", "cancel"] = _LEFT_OUT,
        keep: Keep | None = _LEFT_OUT,
        runner: str = _LEFT_OUT,
        resources: Mapping[str, float] = _LEFT_OUT,
    ) -> None:
        given = []
        values = (
            *(timeout, retry, group, priority, trigger, window, orphans, keep),
            *(runner, resources),
        )
        for field, value in zip(_FIELDS, values, strict=True):
            read, default = _FIELDS[field]
            if value is not _LEFT_OUT:
                given.append(field)
                value = read(field, value)
            else:
                value = default
            object.__setattr__(self, field, value)
        object.__setattr__(self, "given", frozenset(given))

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of the groups, as a tuple in any case."""
        return (self.group,) if isinstance(self.group, str) else self.group

    def over(self, default: "NodePolicy | None") -> "NodePolicy":
        """Return this policy with what it leaves out taken from the other one."""
        if default is None or not default.given - self.given:
            return self
        fields = {name: getattr(default, name) for name in default.given}
        return NodePolicy(**{**fields, **{name: getattr(self, name) for name in self.given}})

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(repr(self))

    def __repr__(self) -> str:
        given = [name for name in self.__slots__ if name in self.given]
        return f"NodePolicy({', '.join(f'{name}={getattr(self, name)!r}' for name in given)})"


def _retry(field: str, value: object) -> Retry | None:
    if value is None or isinstance(value, Retry):
        return value
    raise TypeError(
        f"{field} is a dagron.Retry, not {type(value).__name__}: {value!r:.60}\n"
        f"  help: write retry=dagron.Retry(attempts=3)"
    )


def _group(field: str, value: object) -> str | tuple[str, ...]:
    if isinstance(value, str):
        return checked_name(value, "group")
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return tuple(dict.fromkeys(checked_name(name, "group") for name in value))
    raise TypeError(
        f"{field} is a name or a tuple of names, not {type(value).__name__}: {value!r:.60}\n"
        f"  help: write group='github', one of the executor's limits"
    )


def _trigger(field: str, value: object) -> Trigger:
    if isinstance(value, Trigger):
        return value
    help = "write trigger=dagron.all_done, dagron.any_succeeded or dagron.at_least(2)"
    if value is at_least:
        help = "say how many: trigger=dagron.at_least(2)"
    raise TypeError(f"{field} is one of dagron's four triggers, not {value!r:.60}\n  help: {help}")


def _orphans(field: str, value: object) -> str:
    if value in ("finish", "cancel"):
        return str(value)
    raise ValueError(
        f"{field} is 'finish' or 'cancel', not {value!r:.60}\n"
        f"  help: write {field}='cancel' to cancel the children of a node that fails"
    )


def _runner(field: str, value: object) -> str:
    if isinstance(value, str):
        return checked_name(value, "runner")
    raise TypeError(
        f"{field} is a name, not {type(value).__name__}: {value!r:.60}\n"
        f"  help: write {field}='big', one of DynamicExecutor(..., runners={{'big': ...}})"
    )


def _resources(field: str, value: object) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise TypeError(
            f"{field} is a dict of names to amounts, not {type(value).__name__}: {value!r:.60}\n"
            f"  help: write {field}={{'GPU': 1}}"
        )
    return {
        checked_name(name, "resource"): within(f"{field}[{name!r:.60}]", amount, 0)
        for name, amount in sorted(value.items())
    }


LOCAL = "local"  # the runner of nodes that name none: this process
NO_RESOURCES: Mapping[str, float] = {}
WINDOW = 256  # unfinished children, by default
_FIELDS: dict[str, tuple[Any, Any]] = {
    "timeout": (seconds, None),
    "retry": (_retry, None),
    "group": (_group, ()),
    "priority": (finite, 0),
    "trigger": (_trigger, all_succeeded),
    "window": (counted, WINDOW),
    "orphans": (_orphans, "finish"),
    "keep": (checked_keep, None),
    "runner": (_runner, LOCAL),
    "resources": (_resources, NO_RESOURCES),
}


def checked_policy(value: object) -> NodePolicy | None:
    """Return a policy or None as it is, or refuse it."""
    if value is None or isinstance(value, NodePolicy):
        return value
    raise TypeError(
        f"policy is a dagron.NodePolicy, not {type(value).__name__}: {value!r:.60}\n"
        f"  help: write policy=dagron.NodePolicy(timeout=30)"
    )
