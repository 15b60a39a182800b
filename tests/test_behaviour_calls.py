"""How tasks are called and what they are given: E5, parameters by name, and who is refused."""

import functools
import inspect
import threading
import types
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

import pytest
from anyio.lowlevel import checkpoint

from dagron import (
    DAG,
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    ExecutionResult,
    ModificationError,
    NodeStatus,
    NotAwaitedError,
    TaskSignatureError,
)
from dagron._calls import read_task
from ways import Way, adding, chain, changing, nothing


def kitchen(*order: str) -> DAG:
    """Return a graph in which `dish` waits for these, in this order."""
    builder = DAG.builder()
    for name in order:
        builder.add_edge(name, "dish")
    return builder.build()


def cook(execute: Way, task: Any, *order: str, **ingredients: Any) -> ExecutionResult:
    """Run `dish` with this task; what it depends on has these values."""
    tasks: dict[str, Any] = {name: lambda v=value: v for name, value in ingredients.items()}
    names = order or tuple(ingredients)
    dag = kitchen(*names) if names else chain("dish")
    return execute(DynamicExecutor(dag), {**tasks, "dish": task})


def dish(execute: Way, task: Any, *order: str, **ingredients: Any) -> Any:
    """Return what the task made of the ingredients."""
    result = cook(execute, task, *order, **ingredients)
    if result["dish"].error is not None:
        raise result["dish"].error
    return result["dish"].result


# -- E5: every kind of callable runs to its value


class Cook:
    def __init__(self, word: str = "hot") -> None:
        self.word = word

    def serve(self, rice: str) -> str:
        return f"{self.word} {rice}"

    async def serve_later(self, rice: str) -> str:
        await checkpoint()
        return f"{self.word} {rice}"

    def __call__(self, rice: str) -> str:
        return self.serve(rice)

    @classmethod
    def burn(cls, rice: str) -> str:
        return cls("burnt").serve(rice)

    @staticmethod
    async def freeze(rice: str) -> str:
        await checkpoint()
        return f"cold {rice}"


class AsyncCook(Cook):
    async def __call__(self, rice: str) -> str:
        return await self.serve_later(rice)


class Bowl:
    """A class as a task: calling it makes an object."""

    def __init__(self, rice: str) -> None:
        self.rice = rice

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bowl) and other.rice == self.rice

    __hash__ = None  # type: ignore[assignment]


def steam(word: str, rice: str) -> str:
    return f"{word} {rice}"


async def steam_later(word: str, rice: str) -> str:
    await checkpoint()
    return f"{word} {rice}"


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        return function(*arguments, **keywords)

    return call


def logged_async(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def call(*arguments: Any, **keywords: Any) -> Any:
        return await function(*arguments, **keywords)

    return call


@types.coroutine
def old_style(rice: str) -> Generator[Any, Any, str]:
    yield from steam_later("old", rice).__await__()
    return f"old {rice}"


class Promise:
    """An awaitable that is no coroutine."""

    def __init__(self, value: str) -> None:
        self.value = value

    def __await__(self) -> Generator[Any, Any, str]:
        yield from checkpoint().__await__()
        return self.value


CALLABLES: dict[str, tuple[Callable[..., Any], Any]] = {
    "function": (lambda rice: f"plain {rice}", "plain rice"),
    "method": (Cook().serve, "hot rice"),
    "async method": (Cook().serve_later, "hot rice"),
    "class method": (Cook.burn, "burnt rice"),
    "static async method": (Cook.freeze, "cold rice"),
    "object": (Cook(), "hot rice"),
    "async object": (AsyncCook(), "hot rice"),
    "class": (Bowl, Bowl("rice")),
    "partial": (functools.partial(steam, "soft"), "soft rice"),
    "partial by keyword": (functools.partial(steam, word="soft"), "soft rice"),
    "async partial": (functools.partial(steam_later, "soft"), "soft rice"),
    "partial of partial": (
        functools.partial(functools.partial(steam_later), word="soft"),
        "soft rice",
    ),
    "partial of method": (functools.partial(Cook("sticky").serve_later), "sticky rice"),
    "partial of object": (functools.partial(AsyncCook()), "hot rice"),
    "lambda that returns a coroutine": (lambda rice: steam_later("lazy", rice), "lazy rice"),
    "lambda that returns an awaitable": (lambda rice: Promise(f"lazy {rice}"), "lazy rice"),
    "decorated": (logged(Cook.burn), "burnt rice"),
    "decorated async": (logged_async(Cook.freeze), "cold rice"),
    "async decorated by a sync one": (logged(Cook.freeze), "cold rice"),
    "cached": (functools.cache(Cook("stored").serve), "stored rice"),
    "types.coroutine": (old_style, "old rice"),
}


@pytest.mark.parametrize("kind", CALLABLES)
def test_e5_kinds_of_callables(execute: Way, kind: str) -> None:
    """E5: `functools.partial`, bound methods, objects with `async __call__`, sync lambdas that
    return a coroutine, decorated functions: all run to their value, with what they ask for."""
    task, value = CALLABLES[kind]
    assert dish(execute, task, rice="rice") == value


def test_e5_all_kinds_in_one_dict(execute: Way) -> None:
    """E5: Both kinds of callable in one dict: all run to their value."""
    builder = DAG.builder().add_node("rice")
    for kind in CALLABLES:
        builder.add_edge("rice", kind)
    tasks = {kind: task for kind, (task, _) in CALLABLES.items()}
    result = execute(DynamicExecutor(builder.build()), {**tasks, "rice": lambda: "rice"})
    assert {name: node.result for name, node in result.node_results.items() if name != "rice"} == {
        kind: value for kind, (_, value) in CALLABLES.items()
    }


@pytest.mark.parametrize("kind", CALLABLES)
def test_e5_kinds_of_callables_in_a_spec(execute: Way, kind: str) -> None:
    """E5: All kinds of callable run to their value as tasks of nodes that an expander adds, too."""
    task, value = CALLABLES[kind]
    executor = DynamicExecutor(
        chain("rice"), expanders={"rice": adding(DynamicNodeSpec("dish", task, ["rice"]))}
    )
    assert execute(executor, {"rice": lambda: "rice"})["dish"].result == value


def test_e5_callables_in_c(execute: Way) -> None:
    """E5: A callable without a signature (`dict`, `max`) is called without arguments."""
    assert dish(execute, dict, rice=1) == {}
    result = cook(execute, max, rice=1)
    assert isinstance(result["dish"].error, TypeError)
    assert not isinstance(result["dish"].error, TaskSignatureError)


def test_e5_where_tasks_run(execute: Way) -> None:
    """E5: An `async def` runs in the event loop, everything else in a worker thread; the coroutine
    that a sync callable returns is awaited in the event loop."""
    threads: dict[str, int] = {}

    def note(name: str) -> None:
        threads[name] = threading.get_ident()

    async def on_loop() -> None:
        note("async")

    async def noted_later() -> None:
        note("awaited")

    def lazy() -> Any:
        note("lazy")
        return noted_later()

    dag = DAG.builder().add_node("async").add_node("sync").add_node("lazy").build()
    execute(DynamicExecutor(dag), {"async": on_loop, "sync": lambda: note("sync"), "lazy": lazy})
    assert threads["async"] == threads["awaited"] == threading.get_ident()
    assert threading.get_ident() not in (threads["sync"], threads["lazy"])


def numbers(*arguments: int) -> Generator[int]:
    yield 1


async def later_numbers() -> AsyncGenerator[int]:
    yield 1


class Counting:
    def __call__(self) -> Generator[int]:
        yield 1

    def count(self) -> Generator[int]:
        yield 1


GENERATORS: dict[str, Callable[..., Any]] = {
    "generator function": numbers,
    "async generator function": later_numbers,
    "lambda": lambda: (yield),
    "partial": functools.partial(numbers, 7),
    "method": Counting().count,
    "object": Counting(),
}


@pytest.mark.parametrize("kind", GENERATORS)
def test_e5_generator_functions_are_refused(execute: Way, kind: str) -> None:
    """E5: A generator or async generator function as a task is refused before anything runs."""
    ran: list[str] = []
    with pytest.raises(TaskSignatureError, match="generator function") as refused:
        cook(execute, GENERATORS[kind], rice=ran.append)
    assert refused.value.node == "dish"
    executor = DynamicExecutor(kitchen("rice"))
    with pytest.raises(TaskSignatureError):
        execute(executor, {"rice": lambda: ran.append("rice"), "dish": GENERATORS[kind]})
    assert ran == []


@pytest.mark.parametrize("kind", GENERATORS)
def test_e5_generator_functions_in_a_spec(execute: Way, kind: str) -> None:
    """E5: A generator function as the task of a new node is a fault of the modification."""
    fault = signature_fault(execute, DynamicNodeSpec("dish", GENERATORS[kind], ["rice"]))
    assert "generator function" in fault.message
    assert fault.help


def signature_fault(execute: Way, *specs: DynamicNodeSpec) -> Any:
    """Return the only fault of a modification that adds these nodes to a graph of `rice`."""
    executor = DynamicExecutor(chain("rice", "last"), expanders={"rice": adding(*specs)})
    result = execute(executor, {"rice": nothing, "last": nothing})
    error = result["rice"].error
    assert isinstance(error, ModificationError)
    [fault] = error.faults
    assert (fault.kind, fault.node) == ("signature", specs[0].name)
    assert result.dag == chain("rice", "last")
    assert result["last"].status is NodeStatus.SKIPPED
    return fault


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_e5_forgotten_await(execute: Way, kind: str) -> None:
    """E5: A task whose value is a coroutine is FAILED with "did you forget 'await'?"; the coroutine
    is closed, so that no warning of a coroutine that was never awaited follows."""
    made = []

    async def fetch() -> str:
        return "rice"

    async def forgetful() -> Any:
        made.append(fetch())
        return made[-1]

    task = forgetful if kind == "async" else lambda: forgetful()
    node = cook(execute, task)["dish"]
    assert node.status is NodeStatus.FAILED
    assert isinstance(node.error, NotAwaitedError)
    assert "did you forget 'await'?" in str(node.error)
    assert "fetch" in str(node.error)
    assert node.result is None
    assert inspect.getcoroutinestate(made[0]) == inspect.CORO_CLOSED


def test_e5_task_that_cannot_be_called(execute: Way) -> None:
    """E5: A task that is no callable is refused before anything runs."""
    ran: list[str] = []
    executor = DynamicExecutor(kitchen("rice"))
    with pytest.raises(TaskSignatureError, match="cannot be called") as refused:
        execute(executor, {"rice": lambda: ran.append("rice"), "dish": "a dish"})
    assert refused.value.node == "dish"
    assert ran == []


# -- parameters, by name


def test_parameters_by_name(execute: Way) -> None:
    """A parameter without a default that is called like a direct dependency gets its result, in
    whatever order; sync and async alike."""

    def mix(beans: str, rice: str) -> str:
        return f"{rice} with {beans}"

    async def mix_later(beans: str, rice: str) -> str:
        return f"{rice} with {beans}"

    for task in (mix, mix_later):
        assert dish(execute, task, rice="rice", beans="beans") == "rice with beans"


def test_results_are_handed_over_as_they_are(execute: Way) -> None:
    """A dependent gets the very object that the dependency returned; None is a result as well."""
    basket: list[str] = []
    assert dish(execute, lambda rice: rice, rice=basket) is basket
    assert dish(execute, lambda rice: rice is None, rice=None) is True


@pytest.mark.parametrize("order", [("rice", "beans", "salt"), ("salt", "rice", "beans")])
def test_inputs_in_edge_order(execute: Way, order: tuple[str, ...]) -> None:
    """`inputs` is a dict of the results of all direct dependencies, in edge order."""

    def mix(inputs: dict[str, int]) -> list[tuple[str, int]]:
        assert type(inputs) is dict
        return list(inputs.items())

    values = {"rice": 1, "beans": 2, "salt": 3}
    assert dish(execute, mix, *order, **values) == [(name, values[name]) for name in order]


def test_inputs_of_run_time_nodes(execute: Way) -> None:
    """`inputs` gathers the results of nodes whose names nobody knew, in the order of their edges;
    what is no direct dependency is not in it."""

    def expand(name: str, sorts: list[str]) -> DynamicModification:
        return DynamicModification(
            [DynamicNodeSpec(f"cook {s}", lambda s=s: s.upper(), [name], ["dish"]) for s in sorts],
            remove_edges=[("order", "dish")],
        )

    executor = DynamicExecutor(chain("order", "dish"), expanders={"order": expand})
    result = execute(
        executor, {"order": lambda: ["rye", "oat", "rice"], "dish": lambda inputs: inputs}
    )
    assert list(result["dish"].result.items()) == [
        ("cook rye", "RYE"),
        ("cook oat", "OAT"),
        ("cook rice", "RICE"),
    ]


def test_inputs_beside_names(execute: Way) -> None:
    """`inputs` and names of dependencies may be asked for together."""
    both = dish(execute, lambda rice, inputs: (rice, inputs), rice=1, beans=2)
    assert both == (1, {"rice": 1, "beans": 2})


def test_inputs_of_a_root(execute: Way) -> None:
    """`inputs` of a node without dependencies is an empty dict."""
    assert dish(execute, lambda inputs: inputs) == {}


def test_inputs_belong_to_their_node(execute: Way) -> None:
    """A node that changes its `inputs` changes them for itself alone."""
    dag = DAG.builder().add_edge("rice", "first").add_edge("rice", "second").build()
    dag = dag.to_builder().add_edge("first", "second").build()

    def eat_up(inputs: dict[str, str]) -> str:
        inputs.clear()
        return "eaten"

    result = execute(
        DynamicExecutor(dag),
        {"rice": lambda: "rice", "first": eat_up, "second": lambda inputs: inputs},
    )
    assert result["second"].result == {"rice": "rice", "first": "eaten"}


def test_dependency_called_inputs(execute: Way) -> None:
    """A dependency that is itself called `inputs` is found in the mapping."""
    given = dish(execute, lambda inputs: inputs, inputs=1, rice=2)
    assert given == {"inputs": 1, "rice": 2}


def test_defaults_are_left_alone(execute: Way) -> None:
    """A parameter with a default keeps it, also where a dependency has its name."""

    async def later(rice: str = "own rice", inputs: str = "own inputs") -> str:
        return f"{rice}, {inputs}"

    assert dish(execute, lambda rice="own rice": rice, rice="given") == "own rice"
    assert dish(execute, later, rice="given") == "own rice, own inputs"
    assert dish(execute, lambda beans, rice="own": beans + rice, rice="x", beans="b ") == "b own"


def test_keyword_only_parameters(execute: Way) -> None:
    """A keyword-only parameter without a default is filled, one with a default is left alone."""

    def mix(beans: str, *, rice: str, salt: str = "no salt") -> str:
        return f"{beans}, {rice}, {salt}"

    async def later(*, rice: str) -> str:
        return rice

    given = {"rice": "rice", "beans": "beans", "salt": "salt"}
    assert dish(execute, mix, **given) == "beans, rice, no salt"
    assert dish(execute, later, **given) == "rice"


def test_positional_only_parameters(execute: Way) -> None:
    """A positional-only parameter is filled like any other, also that of a callable in C."""

    def mix(rice: str, beans: str, /, *, salt: str) -> str:
        return f"{rice}, {beans}, {salt}"

    assert dish(execute, mix, salt="salt", beans="beans", rice="rice") == "rice, beans, salt"
    assert dish(execute, len, obj="rice") == 4


def test_variadic_parameters(execute: Way) -> None:
    """`*args` and `**kwargs` receive nothing."""

    def take(*args: object, **kwargs: object) -> object:
        return (args, kwargs)

    async def take_later(rice: str, *args: object, **kwargs: object) -> object:
        return (rice, args, kwargs)

    given = {"rice": "rice", "args": 1, "kwargs": 2}
    assert dish(execute, take, **given) == ((), {})
    assert dish(execute, take_later, **given) == ("rice", (), {})


def test_partial_parameters(execute: Way) -> None:
    """What a partial has bound is not asked for, also where a dependency has its name."""

    def mix(rice: str, beans: str, *, salt: str) -> str:
        return f"{rice}, {beans}, {salt}"

    given = {"rice": "rice", "beans": "beans", "salt": "salt"}
    assert dish(execute, functools.partial(mix, "mine"), **given) == "mine, beans, salt"
    assert dish(execute, functools.partial(mix, salt="mine"), **given) == "rice, beans, mine"
    assert dish(execute, functools.partial(mix, rice="mine"), **given) == "mine, beans, salt"
    assert dish(execute, functools.partial(mix, "a", "b", salt="c"), **given) == "a, b, c"


@functools.wraps(nothing)
def wrapping(*arguments: object) -> object:
    return arguments


wrapped_partial = functools.partial(lambda a, b: (a, b), 1)
functools.update_wrapper(wrapped_partial, nothing)

FUNCTIONS: list[Callable[..., Any]] = [
    lambda: None,
    lambda a, b=2, *c, d, e=5, **f: None,
    lambda a, b, /, c, *, d: None,
    lambda *a: None,
    lambda a=1, b=2: None,
    wrapping,
    functools.partial(lambda a, b, c: None, 1),
    len,
    str.upper,
]


@pytest.mark.parametrize("bound", [(), (1,), (1, 2), (1, 2, 3, 4)])
@pytest.mark.parametrize("keywords", [(), ("b",), ("a", "d")])
def test_what_a_partial_leaves_open(bound: tuple[int, ...], keywords: tuple[str, ...]) -> None:
    """A partial of whatever function is read as `inspect.signature` reads it."""
    for function in (*FUNCTIONS, wrapped_partial):
        task = functools.partial(function, *bound, **dict.fromkeys(keywords, 0))
        try:
            parameters = inspect.signature(task).parameters.values()
        except (TypeError, ValueError):
            parameters = {}.values()
        needed = [p for p in parameters if p.default is p.empty]
        wanted = (
            tuple(p.name for p in needed if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)),
            tuple(p.name for p in needed if p.kind is p.KEYWORD_ONLY),
        )
        found = read_task("dish", task).parameters
        assert (found or ((), ())) == wanted, (inspect.signature(function), bound, keywords)


def test_signature_attribute(execute: Way) -> None:
    """A decorator that leaves word of a signature in `__signature__` is believed."""

    def call(*arguments: Any, **keywords: Any) -> Any:
        return (arguments, keywords)

    call.__signature__ = inspect.signature(steam)  # type: ignore[attr-defined]
    assert dish(execute, call, rice="rice", word="soft") == (("soft", "rice"), {})


def test_decorator_that_changes_the_signature(execute: Way) -> None:
    """A decorator without `functools.wraps` is asked for its own parameters."""

    def doubled(function: Callable[[int], int]) -> Callable[[int], int]:
        return lambda rice: 2 * function(rice)

    assert dish(execute, doubled(lambda number: number + 1), rice=3) == 8


def test_same_code_other_defaults(execute: Way) -> None:
    """Functions made by the same code, with other defaults, are each called by their own."""

    def make(*defaults: str) -> Callable[..., Any]:
        def mix(rice: str, beans: str) -> tuple[str, str]:
            return (rice, beans)

        mix.__defaults__ = defaults
        return mix

    given = {"rice": "rice", "beans": "beans"}
    assert dish(execute, make(), **given) == ("rice", "beans")
    assert dish(execute, make("b"), **given) == ("rice", "b")
    assert dish(execute, make("r", "b"), **given) == ("r", "b")


# -- parameters that nothing fills


def test_parameter_that_fits_nothing(execute: Way) -> None:
    """A parameter that names no direct dependency is a `TaskSignatureError` before anything runs,
    with the close names and what else there is."""
    ran: list[str] = []
    executor = DynamicExecutor(kitchen("rice", "beans"))
    tasks = {"rice": lambda: ran.append("rice"), "beans": nothing}
    wrong = (
        lambda rcie: rcie,
        lambda rice, *, rcie: rcie,
        functools.partial(lambda rcie, x: x, x=1),
    )
    for task in wrong:
        with pytest.raises(TaskSignatureError, match="did you mean 'rice'") as refused:
            execute(executor, {**tasks, "dish": task})
        assert (refused.value.node, refused.value.parameter) == ("dish", "rcie")
        assert isinstance(refused.value, TypeError)
        assert "'beans'" in str(refused.value)
        assert "'inputs'" in str(refused.value)
    assert ran == []


def test_parameter_that_names_an_ancestor(execute: Way) -> None:
    """Only direct dependencies fill parameters: an ancestor further up does not."""
    with pytest.raises(TaskSignatureError) as refused:
        execute(
            DynamicExecutor(chain("field", "rice", "dish")),
            {"field": nothing, "rice": nothing, "dish": lambda field: field},
        )
    assert (refused.value.node, refused.value.parameter) == ("dish", "field")


def test_parameter_that_names_a_node_to_come(execute: Way) -> None:
    """A parameter that names a node which an expander will add is refused, and the help says to use
    `inputs`."""
    executor = DynamicExecutor(
        chain("rice", "dish"),
        expanders={"rice": adding(DynamicNodeSpec("beans", nothing, dependents=["dish"]))},
    )
    with pytest.raises(TaskSignatureError, match=r"(?s)help: .*'inputs'"):
        execute(executor, {"rice": nothing, "dish": lambda beans: beans})
    assert execute(executor, {"rice": nothing, "dish": lambda inputs: list(inputs)})[
        "dish"
    ].result == ["rice", "beans"]


def test_parameter_of_a_root(execute: Way) -> None:
    """A root that has a parameter is told that there is nothing to fill it."""
    with pytest.raises(TaskSignatureError, match="it has no dependencies"):
        cook(execute, lambda rice: rice)


def test_parameter_of_a_new_node_that_fits_nothing(execute: Way) -> None:
    """A parameter of a new node that names no direct dependency is a fault of the modification."""
    fault = signature_fault(execute, DynamicNodeSpec("dish", lambda rcie: rcie, ["rice"]))
    assert "'rcie'" in fault.message
    assert "did you mean 'rice'" in fault.help


def test_parameters_of_new_nodes(execute: Way) -> None:
    """A new node's parameters are filled by all of its edges: its own dependencies, the dependents
    of other new nodes and the added edges."""
    specs = [
        DynamicNodeSpec("dish", lambda rice, beans, salt: [rice, beans, salt], ["rice"]),
        DynamicNodeSpec("beans", lambda: "beans", dependents=["dish"]),
        DynamicNodeSpec("salt", lambda rice: f"{rice} salt", ["rice"]),
    ]
    modification = DynamicModification(specs, add_edges=[("salt", "dish")])
    executor = DynamicExecutor(chain("rice"), expanders={"rice": changing(modification)})
    result = execute(executor, {"rice": lambda: "rice"})
    assert result["dish"].result == ["rice", "beans", "rice salt"]


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("removed", ["node", "edge"])
def test_dependency_that_was_removed(execute: Way, kind: str, removed: str) -> None:
    """A node whose parameter named a dependency that was removed is FAILED with
    `TaskSignatureError` instead of starting."""
    ran: list[str] = []

    def mix(rice: str, beans: str) -> None:
        ran.append("mixed")

    async def mix_later(*, rice: str, beans: str) -> None:
        ran.append("mixed")

    dag = kitchen("rice", "beans").to_builder().add_edge("rice", "beans").build()
    dag = dag.to_builder().add_edge("dish", "guest").add_node("beside").build()
    modification = (
        DynamicModification(remove_nodes=["beans"])
        if removed == "node"
        else DynamicModification(remove_edges=[("beans", "dish")])
    )
    executor = DynamicExecutor(dag, expanders={"rice": changing(modification)}, max_workers=1)
    task = mix if kind == "sync" else mix_later
    result = execute(executor, {**dict.fromkeys(dag, nothing), "dish": task})
    error = result["dish"].error
    assert isinstance(error, TaskSignatureError)
    assert (error.node, error.parameter) == ("dish", "beans")
    assert "removed" in str(error)
    assert result["guest"].status is NodeStatus.SKIPPED
    assert result["beside"].status is NodeStatus.COMPLETED
    assert ran == []


def test_inputs_without_a_dependency_that_was_removed(execute: Way) -> None:
    """`inputs` has what is left when a dependency was removed, and what was added since."""
    executor = DynamicExecutor(
        kitchen("rice", "beans").to_builder().add_edge("rice", "beans").build(),
        expanders={
            "rice": changing(
                DynamicModification(
                    [DynamicNodeSpec("peas", lambda: "peas", dependents=["dish"])], ["beans"]
                )
            )
        },
    )
    result = execute(
        executor, {"rice": lambda: "rice", "beans": nothing, "dish": lambda inputs: inputs}
    )
    assert result["dish"].result == {"rice": "rice", "peas": "peas"}


# -- expanders that cannot be called

EXPANDERS: dict[str, Any] = {
    "no parameter": lambda: None,
    "one parameter": lambda name: None,
    "four parameters": lambda name, result, dag, more: None,
    "keyword-only": lambda name, result, *, more: None,
    "method": Cook().serve,
    "partial": functools.partial(lambda name, result: None, "name"),
    "no callable": "expand",
}


@pytest.mark.parametrize("kind", EXPANDERS)
def test_expander_with_a_wrong_signature(kind: str) -> None:
    """An expander that cannot be called with (name, result) is refused by the executor."""
    with pytest.raises(TaskSignatureError, match="'rice'") as refused:
        DynamicExecutor(chain("rice"), expanders={"rice": EXPANDERS[kind]})
    assert refused.value.node == "rice"
    assert "help: " in str(refused.value)
