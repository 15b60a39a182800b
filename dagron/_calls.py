"""How a user's callable is called: on the loop or on a thread, and with which parameters."""

import inspect
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Mapping
from functools import partial
from types import AsyncGeneratorType, CoroutineType, FunctionType, GeneratorType, MethodType
from typing import Any, NamedTuple, NoReturn, TypeAlias

from dagron._errors import (
    ExpansionError,
    Fault,
    MissingTaskError,
    NotAwaitedError,
    TaskSignatureError,
    UnknownGroupError,
)
from dagron._graph import DAG
from dagron._landing import GROW, INPUTS, unfilled, unfilled_text
from dagron._modification import DynamicModification, DynamicNodeSpec
from dagron._names import DEFINED_AT, close_names, plain, question, uncallable
from dagron._policy import NodePolicy
from dagron._runner import Runner, runner_fault

NO_RUNNERS: Mapping[str, Runner] = {}
_COROUTINE = inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE
_GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_WRAPPERS = 20  # around a function, that are looked through
_SPECIAL = _GENERATOR | inspect.CO_VARARGS | inspect.CO_VARKEYWORDS  # a closer look is needed


class Parameters(NamedTuple):
    """The parameters without a default, which dependencies fill by name."""

    positional: tuple[str, ...] = ()
    keyword: tuple[str, ...] = ()

    def names(self) -> tuple[str, ...]:
        """Return all names."""
        return self.positional + self.keyword

    def fill(
        self, results: Mapping[str, Any], grow: object = None
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments, each from the result of the dependency of its name, or None."""

        def value(name: str) -> Any:
            if name == INPUTS:
                return results
            return grow if name == GROW else results.get(name)

        return [value(name) for name in self.positional], {n: value(n) for n in self.keyword}


class Task(NamedTuple):
    """How a task is to be called."""

    on_loop: bool  # an `async def`; everything else runs on a worker thread
    parameters: Parameters | None  # None: nothing to fill


_PLAIN_ASYNC = Task(True, None)
_PLAIN_SYNC = Task(False, None)


def read_task(node: str, task: Callable[..., Any]) -> Task:
    """Read how to call a node's task.

    A plain function is read from its code object, which costs a tenth of `inspect.signature`.
    Raises `TaskSignatureError` when it is a generator function or cannot be called.
    """
    if type(task) is not FunctionType:
        return _read_partial(node, task) if type(task) is partial else _inspected(node, task)
    code = task.__code__
    flags = code.co_flags
    if not (code.co_argcount or code.co_kwonlyargcount or flags & _SPECIAL):
        return _PLAIN_ASYNC if flags & _COROUTINE else _PLAIN_SYNC
    return _inspected(node, task) if _is_disguised(task) else _read_code(node, task, 0)


def _read_partial(node: str, task: "partial[Any]") -> Task:
    """Read what a partial leaves open of a plain function.

    A parameter that is bound by keyword changes the kind of those after it: then it is inspected.
    """
    function = task.func
    if task.keywords or type(function) is not FunctionType:
        return _inspected(node, task)
    bound = len(task.args)
    if bound > function.__code__.co_argcount or _is_disguised(function) or _is_disguised(task):
        return _inspected(node, task)
    return _read_code(node, function, bound)


def _read_code(node: str, function: FunctionType, bound: int) -> Task:
    """Read what is to be filled, when so many positional parameters are bound."""
    code = function.__code__
    flags = code.co_flags
    if flags & _GENERATOR and not flags & _COROUTINE:
        raise _generator_error(node)
    required = code.co_argcount - len(function.__defaults__ or ())
    if required <= bound and not code.co_kwonlyargcount:
        return _PLAIN_ASYNC if flags & _COROUTINE else _PLAIN_SYNC
    names = code.co_varnames
    keyword = names[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    if keyword and (defaults := function.__kwdefaults__):
        keyword = tuple(name for name in keyword if name not in defaults)
    parameters = Parameters(names[bound:required], keyword) if required > bound or keyword else None
    return _task(node, bool(flags & _COROUTINE), parameters)


def growing_tasks(tasks: Mapping[str, Callable[..., Any]]) -> list[str]:
    """Return the nodes whose tasks may add nodes."""
    read = {name: read_task(name, task).parameters for name, task in tasks.items()}
    return [name for name, found in read.items() if found is not None and GROW in found.names()]


def _is_disguised(task: Callable[..., Any]) -> bool:
    """Tell whether a decorator left word of another signature than the code's."""
    return hasattr(task, "__wrapped__") or hasattr(task, "__signature__")


def _inspected(node: str, task: Callable[..., Any]) -> Task:
    if not callable(task):
        raise TaskSignatureError(uncallable("task", node, task), node)
    flags = _flags(task)
    if flags & _GENERATOR and not flags & _COROUTINE:
        raise _generator_error(node)
    signature = _signature(task)
    parameters = Parameters() if signature is None else _required(signature)
    return _task(node, bool(flags & _COROUTINE), parameters if any(parameters) else None)


def _task(node: str, on_loop: bool, parameters: Parameters | None) -> Task:
    if parameters is not None and not on_loop and GROW in parameters.names():
        raise TaskSignatureError(
            f"the task of node {node!r:.60} has a parameter {GROW!r}, and is no async def\n"
            f"  help: write async def, and await grow(...); a sync task has an expander instead",
            node,
            GROW,
        )
    return Task(on_loop, parameters)


def _required(signature: inspect.Signature) -> Parameters:
    """Return the parameters that have no default and are not ``*args`` or ``**kwargs``."""
    needed = [p for p in signature.parameters.values() if p.default is p.empty]
    return Parameters(
        tuple(p.name for p in needed if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)),
        tuple(p.name for p in needed if p.kind is p.KEYWORD_ONLY),
    )


def _flags(task: Callable[..., Any]) -> int:
    """Return the code flags of what a call would run, through partials, methods and objects."""
    function: Any = task
    while isinstance(function, (partial, MethodType)):
        function = function.func if isinstance(function, partial) else function.__func__
    if not isinstance(function, (FunctionType, type)):
        function = getattr(type(function), "__call__", None)  # noqa: B004 (its code is read)
    code = getattr(function, "__code__", None)
    return code.co_flags if code is not None else 0


def defined_at(what: str, function: object) -> str | None:
    """Return in words where a callable is defined: file, line and function, for people.

    None where that is not known, as of a builtin, or where it is code of dagron's own.
    """
    for _ in range(_WRAPPERS):
        if isinstance(function, partial):
            function = function.func
        elif isinstance(function, MethodType):
            function = function.__func__
        elif type(function) is not FunctionType:
            function = getattr(type(function), "__call__", None)  # noqa: B004 (where its code is)
        elif callable(wrapped := vars(function).get("__wrapped__")):
            function = wrapped
        else:
            break
    if type(function) is not FunctionType or function.__module__.startswith("dagron."):
        return None
    code = function.__code__
    place = f"{code.co_filename}:{code.co_firstlineno} in {code.co_name}"
    return f"{what}{DEFINED_AT}{plain(place)}"


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (ValueError, TypeError):  # dict, max: callables in C that do not tell
        return None


def _generator_error(node: str) -> TaskSignatureError:
    return TaskSignatureError(
        f"the task of node {node!r:.60} is a generator function (it has a yield): "
        f"calling it runs nothing\n"
        f"  help: return a list, or collect the values inside the task",
        node,
    )


def refuse_coroutine(
    node: str, value: Coroutine[Any, Any, Any], runner: str | None = None
) -> NoReturn:
    """Refuse a task's value that is a coroutine: nobody awaited it, so its work was not done.

    ``runner`` is the name of the one that returned it, where it is that one's fault.
    """
    name = getattr(value, "__name__", "")
    value.close()
    if runner is not None:
        raise NotAwaitedError(
            f"the runner {runner!r:.60} returned the coroutine {name!r:.60} of node {node!r:.60}, "
            f"not its value\n"
            f"  help: in its run(), await what the function returned, if it is awaitable"
        )
    raise NotAwaitedError(
        f"the task of node {node!r:.60} returned the coroutine {name!r:.60}, not its value\n"
        f"  help: did you forget 'await'? write: return await {name}(...)"
    )


def is_awaitable(value: object) -> bool:
    """Tell whether a sync callable's value is to be awaited."""
    return hasattr(type(value), "__await__")


def has_not_run(value: object) -> bool:
    """Tell whether this is what a function returned whose code waits to be driven; close it."""
    if isinstance(value, CoroutineType):
        value.close()
    return is_awaitable(value) or isinstance(value, (GeneratorType, AsyncGeneratorType))


class Expander(NamedTuple):
    """An expander, and how it is to be called."""

    function: Callable[..., Any]
    on_loop: bool
    wants_graph: bool  # a third required parameter
    streams: bool = False  # it is a generator function: a call runs nothing yet


def read_expander(node: str, function: Callable[..., Any]) -> Expander:
    """Read how to call a node's expander.

    Raises `TaskSignatureError` when it cannot be called with (name, result) or (name, result, dag).
    """
    if type(function) is FunctionType and not _is_disguised(function):
        code = function.__code__
        required = code.co_argcount - len(function.__defaults__ or ())
        if required <= 3 and code.co_argcount >= 2 and not code.co_kwonlyargcount:
            return _expander(function, code.co_flags, required == 3)
    return _read_expander_by_inspection(node, function)


def _read_expander_by_inspection(node: str, function: Callable[..., Any]) -> Expander:
    if not callable(function):
        raise TaskSignatureError(uncallable("expander", node, function), node)
    signature = _signature(function)
    if signature is None:
        return Expander(function, False, False)
    wants_graph = len(_required(signature).positional) == 3
    try:
        signature.bind(*range(3 if wants_graph else 2))
    except TypeError as error:
        raise TaskSignatureError(
            f"the expander of node {node!r:.60} cannot be called with (name, result): {error}\n"
            f"  help: write def expander(name, result): ..., or (name, result, graph)",
            node,
        ) from None
    return _expander(function, _flags(function), wants_graph)


def _expander(function: Callable[..., Any], flags: int, wants_graph: bool) -> Expander:
    streams = bool(flags & _GENERATOR) and not flags & _COROUTINE
    return Expander(function, streams or bool(flags & _COROUTINE), wants_graph, streams)


def missing_task(name: str) -> MissingTaskError:
    return MissingTaskError(
        f"node {name!r:.60} was reached, and it has no task\n"
        f"  help: give it one in tasks, or let an expander remove it before",
        (name,),
    )


def returned_by_generator(value: object) -> ExpansionError:
    return ExpansionError(
        f"the expander is a generator, and it returned {value!r:.60}, which nobody gets\n"
        f"  help: write yield in place of return"
    )


def not_a_modification(name: str, returned: object, verb: str = "returned") -> ExpansionError:
    help = "return dagron.DynamicModification(add_nodes=[...]), or None for no change"
    if isinstance(returned, CoroutineType):
        returned.close()
        help = f"did you forget 'await'? write: return await {returned.__name__}(...)"
    elif isinstance(returned, DynamicNodeSpec):
        help = "wrap it: return dagron.DynamicModification(add_nodes=[spec])"
    elif isinstance(returned, list) and not returned:
        help = "return None for no change"
    elif isinstance(returned, list):
        help = "wrap it: return dagron.DynamicModification(add_nodes=the_list)"
    if verb == "yielded":
        help = "yield a dagron.DynamicNodeSpec, or a dagron.DynamicModification(add_nodes=[...])"
    return ExpansionError(
        f"the expander of node {name!r:.60} {verb} {_described(returned)}\n  help: {help}"
    )


def _described(value: object) -> str:
    kind = type(value).__name__
    if isinstance(value, list) and value and isinstance(value[0], DynamicNodeSpec):
        return f"a list of {len(value):,} DynamicNodeSpec"
    try:
        text = repr(value)
    except Exception as broken:
        text = f"<its repr() raised {type(broken).__name__}>"
    return f"{kind}: {text[:60]}{'...' * (len(text) > 60)}"


# What the callables of a modification's new nodes turned out to be: which nodes run on threads, the
# parameters of the tasks that have any to fill, the expanders, and what is wrong. A plain tuple,
# since every expansion makes one.
NewNodes: TypeAlias = tuple[list[str], dict[str, Parameters], dict[str, Expander], list[Fault]]


def read_tasks(
    tasks: Mapping[str, Callable[..., Any]], dag: DAG
) -> tuple[list[str], dict[str, Parameters]]:
    """Return which of the initial tasks run on threads, and the parameters of those that have any.

    Raises `TaskSignatureError` for a task that cannot be called, or not with what its node has.
    """
    on_threads = []
    parameters = {}
    for name, task in tasks.items():
        read = read_task(name, task)
        if not read.on_loop:
            on_threads.append(name)
        if read.parameters is not None:
            dependencies = dag.dependencies(name)
            for parameter in unfilled(read.parameters.names(), dependencies):
                message, help = unfilled_text(name, parameter, dependencies)
                raise TaskSignatureError(f"{message}\n  help: {help}", name, parameter)
            parameters[name] = read.parameters
    return on_threads, parameters


def read_specs(
    modification: DynamicModification,
    by: Expander | None,
    known: Mapping[str, Expander],
    groups: Collection[str] = (),
    runners: Mapping[str, Runner] = NO_RUNNERS,
) -> NewNodes:
    """Read the callables of the nodes that a modification adds; what is wrong becomes a fault.

    ``by`` is the expander that returned it, if one did, ``known`` the expanders by the names of
    their nodes, ``groups`` the groups that have a limit, and ``runners`` what nodes may run on.
    """
    on_threads: list[str] = []
    parameters: dict[str, Parameters] = {}
    expanders: dict[str, Expander] = {}
    faults: list[Fault] = []
    for spec in modification.add_nodes:
        if not isinstance(spec, DynamicNodeSpec):
            continue  # the list was spoilt after it was made: landing it tells so
        name = spec.name
        if spec.policy is not None:
            faults += _group_faults(name, spec.policy, groups)
            if fault := runner_fault(name, spec.policy.runner, runners):
                faults.append(fault)
        try:
            if spec.expander is not None:
                expanders[name] = _read_spec_expander(name, spec.expander, by, known)
        except TaskSignatureError as error:
            faults.append(Fault.of("signature", name, error))
        try:
            read = read_task(name, spec.task)
        except TaskSignatureError as error:
            faults.append(Fault.of("signature", name, error))
            continue
        if not read.on_loop:
            on_threads.append(name)
        if read.parameters is not None:
            parameters[name] = read.parameters
    return on_threads, parameters, expanders, faults


def _group_faults(name: str, policy: NodePolicy, groups: Collection[str]) -> Iterator[Fault]:
    for group in policy.groups:
        if group not in groups:
            error = unknown_group(group, groups, f"node {name!r:.60}")
            yield Fault.of("group", name, error)


def unknown_group(group: str, known: Iterable[str], where: str) -> UnknownGroupError:
    """Return the error for a policy's group that no limit is given for."""
    close = close_names(group, known)
    help = question(close) or f"give it a limit: DynamicExecutor(..., limits={{{group!r:.60}: 5}})"
    return UnknownGroupError(
        f"{where} is in the group {group!r:.60}, which has no limit\n  help: {help}", group, close
    )


def _read_spec_expander(
    name: str, function: Callable[..., Any], by: Expander | None, known: Mapping[str, Expander]
) -> Expander:
    if name in known:
        raise TaskSignatureError(
            f"node {name!r:.60} has two expanders, one of its spec and one of the executor\n"
            f"  help: give it one of them",
            name,
        )
    # Children of one kind often expand as their parent does: read that function once.
    return by if by is not None and by.function is function else read_expander(name, function)
