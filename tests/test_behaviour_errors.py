"""What is refused, when, and in which words: E1 to E3, E10, E14, E18, E20 to E22, and results."""

import enum
import logging
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import dagron
from dagron import (
    DAG,
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    ExecutionResult,
    InvalidNameError,
    MissingTaskError,
    ModificationError,
    NodeResult,
    NodeStatus,
    RunFailedError,
    TaskSignatureError,
    UnknownNodeError,
)
from ways import Way, adding, chain, changing, nothing


def no_change(name: str, result: object) -> None:
    return None


def shelves(count: int) -> DAG:
    builder = DAG.builder()
    for number in range(count):
        builder.add_node(f"shelf {number}")
    return builder.build()


# -- E1 to E3: tasks and expanders that do not fit the graph


def test_e1_missing_tasks(execute: Way) -> None:
    """E1: A node without a task: `MissingTaskError` before anything runs, naming up to 20."""
    ran: list[str] = []
    dag = shelves(26)
    with pytest.raises(MissingTaskError) as refused:
        execute(DynamicExecutor(dag), {"shelf 3": lambda: ran.append("shelf 3")})
    missing = [name for name in dag if name != "shelf 3"]
    assert refused.value.names == tuple(missing)
    text = str(refused.value)
    assert all(repr(name) in text for name in missing[:20])
    assert not any(repr(name) in text for name in missing[20:])
    assert "25 nodes" in text
    assert "5 more" in text
    assert isinstance(refused.value, ValueError)
    assert ran == []


def test_e1_placeholders(execute: Way) -> None:
    """E1: Allowed without a task: a node downstream of a node that has an expander, directly or
    not; the expanding node itself and all others need one."""
    dag = chain("start", "scout", "near", "far").to_builder().add_edge("scout", "nigh").build()
    dag = dag.to_builder().add_edge("nigh", "wide").add_edge("start", "beside").build()
    executor = DynamicExecutor(dag, expanders={"scout": no_change})
    with pytest.raises(MissingTaskError) as refused:
        execute(executor, {})
    assert refused.value.names == ("start", "scout", "beside")
    removing = changing(DynamicModification(remove_nodes=["near", "far", "nigh", "wide"]))
    executor = DynamicExecutor(dag, expanders={"scout": removing})
    assert execute(executor, dict.fromkeys(["start", "scout", "beside"], nothing)).ok


@pytest.mark.parametrize("max_workers", [1, 4])
def test_e1_placeholder_that_is_reached(execute: Way, max_workers: int) -> None:
    """E1: If a node without a task is reached all the same, it is FAILED with
    `MissingTaskError`."""
    dag = chain("scout", "placeholder", "end").to_builder().add_node("beside").build()
    executor = DynamicExecutor(dag, expanders={"scout": no_change}, max_workers=max_workers)
    result = execute(executor, {"scout": nothing, "end": nothing, "beside": nothing})
    assert result["placeholder"].status is NodeStatus.FAILED
    error = result["placeholder"].error
    assert isinstance(error, MissingTaskError)
    assert error.names == ("placeholder",)
    assert "'placeholder'" in str(error)
    assert result["end"].status is NodeStatus.SKIPPED
    assert result["beside"].status is NodeStatus.COMPLETED


def test_e1_placeholder_without_edges(execute: Way) -> None:
    """E1: A node that only an expander of a node to come could remove needs a task."""
    executor = DynamicExecutor(
        chain("scout").to_builder().add_edge("other", "lost").build(),
        expanders={"scout": no_change, "later": no_change},
    )
    with pytest.raises(MissingTaskError) as refused:
        execute(executor, {"scout": nothing, "other": nothing})
    assert refused.value.names == ("lost",)


def test_e2_task_of_no_node(execute: Way) -> None:
    """E2: A key in `tasks` that names no node: `UnknownNodeError` with close matches, before
    anything runs."""
    ran: list[str] = []
    executor = DynamicExecutor(chain("discover", "merge"))
    tasks = {"discover": lambda: ran.append("discover"), "merge": nothing}
    with pytest.raises(UnknownNodeError, match="did you mean 'discover'") as refused:
        execute(executor, {**tasks, "discvoer": nothing})
    assert (refused.value.name, refused.value.close) == ("discvoer", ("discover",))
    assert isinstance(refused.value, KeyError)
    with pytest.raises(UnknownNodeError, match=r"'zebra'.*\n.*'discover', 'merge'") as refused:
        execute(executor, {**tasks, "zebra": nothing})
    assert refused.value.close == ()
    with pytest.raises(UnknownNodeError, match="7"):
        execute(executor, {**tasks, 7: nothing})  # type: ignore[dict-item]
    assert ran == []


def test_e2_task_of_a_node_to_come(execute: Way) -> None:
    """E2: A node that an expander will add brings its task in its spec; a key of its name is no
    node yet."""
    executor = DynamicExecutor(
        chain("scout"), expanders={"scout": adding(DynamicNodeSpec("find", nothing))}
    )
    with pytest.raises(UnknownNodeError):
        execute(executor, {"scout": nothing, "find": nothing})


def test_e3_unused_expander(execute: Way, caplog: pytest.LogCaptureFixture) -> None:
    """E3: An expander for a node that never appeared: in `result.unused_expanders`, and a WARNING
    with close names."""
    executor = DynamicExecutor(
        chain("scout", "end"),
        expanders={
            "zebra": no_change,
            "scout": adding(DynamicNodeSpec("process_users", nothing)),
            "proces_users": no_change,
        },
    )
    with caplog.at_level(logging.WARNING, "dagron"):
        result = execute(executor, {"scout": nothing, "end": nothing})
    assert result.ok
    assert result.unused_expanders == ("zebra", "proces_users")
    records = [record for record in caplog.records if record.name == "dagron"]
    assert [record.levelname for record in records] == ["WARNING", "WARNING"]
    zebra, proces_users = (record.getMessage() for record in records)
    assert "'zebra'" in zebra
    assert "did you mean" not in zebra
    assert "'proces_users'" in proces_users
    assert "did you mean 'process_users'?" in proces_users


def test_e3_expanders_that_are_accounted_for(
    execute: Way, caplog: pytest.LogCaptureFixture
) -> None:
    """E3: An expander whose node appeared is not unused, though the node failed, was skipped or was
    removed before it was called."""

    def fail() -> None:
        raise OSError("torn")

    dag = chain("scout", "removed").to_builder().add_edge("failed", "skipped").build()
    executor = DynamicExecutor(
        dag,
        expanders={
            "scout": changing(DynamicModification(remove_nodes=["removed"])),
            "removed": no_change,
            "failed": no_change,
            "skipped": no_change,
        },
    )
    result = execute(
        executor, {"scout": nothing, "removed": nothing, "failed": fail, "skipped": nothing}
    )
    assert result.unused_expanders == ()
    assert [record for record in caplog.records if record.name == "dagron"] == []


def test_e3_no_expander_can_ever_be_called(execute: Way) -> None:
    """E3: If no expander key names an initial node, nothing can add nodes: `UnknownNodeError` with
    close names before anything runs."""
    ran: list[str] = []
    executor = DynamicExecutor(chain("scout"), expanders={"scuot": no_change, "x": no_change})
    with pytest.raises(UnknownNodeError, match="did you mean 'scout'") as refused:
        execute(executor, {"scout": lambda: ran.append("scout")})
    assert refused.value.name == "scuot"
    assert ran == []


# -- E10, E14, E18: the executor

BOUNDS = ["max_workers", "max_concurrency", "max_nodes", "max_depth"]


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize(
    ("value", "error"),
    [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError), ("4", TypeError)],
    ids=repr,
)
def test_e10_bounds(bound: str, value: object, error: type[Exception]) -> None:
    """E10: `max_workers` or `max_concurrency` (and `max_nodes`, `max_depth`) of 0, -1, 1.5, True,
    "4": `ValueError` or `TypeError` that names the parameter and value."""
    with pytest.raises(error) as refused:
        DynamicExecutor(chain("a"), **{bound: value})  # type: ignore[arg-type]
    first_line = str(refused.value).splitlines()[0]
    assert bound in first_line
    assert repr(value) in first_line


@pytest.mark.parametrize("bound", BOUNDS)
def test_e10_smallest_bounds(execute: Way, bound: str) -> None:
    """E10: 1 is a bound like any other."""
    executor = DynamicExecutor(chain("a"), **{bound: 1})
    assert execute(executor, {"a": nothing}).ok


def test_e10_no_bound(execute: Way) -> None:
    """E10: None stands for the default number of workers, and for no bound of concurrency."""
    executor = DynamicExecutor(chain("a"), max_workers=None, max_concurrency=None)
    assert execute(executor, {"a": nothing}).ok


@pytest.mark.parametrize("wrong", [DAG.builder().add_node("a"), None, {"a": []}, "a"])
def test_executor_of_something_else(wrong: Any) -> None:
    """Something else than a DAG is a `TypeError` that says how to make one."""
    with pytest.raises(TypeError, match=r"dag is a dagron\.DAG, not .*\n.*\.build\(\)"):
        DynamicExecutor(wrong)


@pytest.mark.parametrize("wrong", [["a"], "a", 5, [("a", no_change)]])
def test_mappings_that_are_none(execute: Way, wrong: Any) -> None:
    """`tasks` and `expanders` that are no dict are a `TypeError` that names the parameter."""
    with pytest.raises(TypeError, match="expanders"):
        DynamicExecutor(chain("a"), expanders=wrong)
    with pytest.raises(TypeError, match="tasks"):
        execute(DynamicExecutor(chain("a")), wrong)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
async def test_e14_blocking_call_in_a_loop(backend: str) -> None:
    """E14: `execute_sync` inside a running loop: `RuntimeError` at once, whose text says to write
    `await executor.execute(tasks)`."""
    ran: list[str] = []
    executor = DynamicExecutor(chain("a"))
    with pytest.raises(RuntimeError, match=r"await executor\.execute\(tasks\)") as refused:
        executor.execute_sync({"a": lambda: ran.append("a")}, backend=backend)
    assert isinstance(refused.value, dagron.EventLoopRunningError)
    assert ran == []
    assert (await executor.execute({"a": nothing})).ok


def test_e14_blocking_call_in_an_async_node(execute: Way) -> None:
    """E14: `execute_sync` in an async node blocks a running loop: that node fails at once."""
    inner = DynamicExecutor(chain("a"))

    async def block() -> object:
        return inner.execute_sync({"a": nothing})

    result = execute(DynamicExecutor(chain("outer")), {"outer": block})
    assert isinstance(result["outer"].error, dagron.EventLoopRunningError)


def test_e18_empty_graph(execute: Way) -> None:
    """E18: An empty DAG gives an empty result."""
    result = execute(DynamicExecutor(DAG.builder().build()), {})
    assert result.node_results == {}
    assert result.ok
    assert (result.succeeded, result.failed, result.skipped, result.cancelled) == (0, 0, 0, 0)
    assert (result.removed, result.unused_expanders) == ((), ())
    assert result.dag == DAG.builder().build()
    assert result.total_duration_seconds >= 0
    assert result.raise_for_failures() is None


# -- E20, E21: names


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda value: DynamicNodeSpec("x", nothing, dependencies=value), "dependencies"),
        (lambda value: DynamicNodeSpec("x", nothing, dependents=value), "dependents"),
        (lambda value: DynamicModification(remove_nodes=value), "remove_nodes"),
    ],
    ids=["dependencies", "dependents", "remove_nodes"],
)
def test_e20_bare_strings(make: Callable[[Any], object], field: str) -> None:
    """E20: `DynamicNodeSpec(dependencies="abc")`, a bare string, is a `TypeError`, not three
    letters."""
    with pytest.raises(TypeError, match=rf"{field}=\['abc'\]"):
        make("abc")
    for wrong in (b"abc", 7, [7], [None], [b"abc"], [["abc"]]):
        with pytest.raises(TypeError, match=field):
            make(wrong)


@pytest.mark.parametrize("field", ["add_edges", "remove_edges"])
@pytest.mark.parametrize(
    "wrong", ["ab", 7, ["ab"], [("a",)], [("a", "b", "c")], [("a", 7)], ("a", "b"), [None]]
)
def test_e20_edges_that_are_no_pairs(field: str, wrong: Any) -> None:
    """E20: Edges are pairs of names: a string of two letters is none."""
    with pytest.raises(TypeError, match=field):
        DynamicModification(**{field: wrong})


@pytest.mark.parametrize("wrong", [DynamicNodeSpec("x", nothing), ["x"], [nothing], "x", 7])
def test_e20_specs_that_are_none(wrong: Any) -> None:
    """E20: `add_nodes` takes a list of specs: a single one, a name or a task is a `TypeError`."""
    with pytest.raises(TypeError, match="add_nodes"):
        DynamicModification(wrong)


def test_e20_callables_of_a_spec() -> None:
    """E20: A task or an expander that cannot be called is a `TypeError` that names the node."""
    for wrong in ("task", 7, None):
        with pytest.raises(TypeError, match="task of node 'x'"):
            DynamicNodeSpec("x", wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expander of node 'x'"):
        DynamicNodeSpec("x", nothing, expander="task")  # type: ignore[arg-type]


def test_e20_a_call_in_place_of_its_function() -> None:
    """E20: A task that was called where it should have been given says to leave out the ()."""

    async def fetch() -> None:
        pytest.fail("nobody awaits this")

    with pytest.raises(TypeError) as refused:
        DynamicNodeSpec("x", fetch())  # type: ignore[arg-type]
    assert str(refused.value) == (
        "the task of node 'x' is the coroutine of a call of fetch(), which cannot be called\n"
        "  help: leave out the parentheses: write fetch, not fetch(...), or lambda: fetch(...)"
    )
    with pytest.raises(TypeError) as refused:
        DynamicNodeSpec("x", print(end=""))  # type: ignore[arg-type, func-returns-value]
    assert str(refused.value) == (
        "the task of node 'x' is None, which cannot be called\n"
        "  help: give a function, not what a call of it returns: leave out the parentheses"
    )


def test_e20_iterables_are_copied() -> None:
    """E20: Any iterable of names will do, and is copied into a list."""
    names = {"a": 1, "b": 2}
    spec = DynamicNodeSpec("x", nothing, dependencies=(n for n in "ab"), dependents=names)
    names.clear()
    assert (spec.dependencies, spec.dependents) == (["a", "b"], ["a", "b"])


NAMED: list[Callable[[Any], object]] = [
    lambda name: DAG.builder().add_node(name),
    lambda name: DAG.builder().add_edge(name, "other"),
    lambda name: DAG.builder().add_edge("other", name),
    lambda name: DynamicNodeSpec(name, nothing),
    lambda name: DynamicExecutor(chain("a"), expanders={name: no_change}),
]


@pytest.mark.parametrize("make", NAMED, ids=["node", "source", "target", "spec", "expander"])
def test_e21_names(make: Callable[[Any], object]) -> None:
    """E21: Node names: `str`, 1 to 512 characters, none of category Cc or Cs."""
    for good in ("a", "a" * 512, " ", "münchen ☃ 名前", "\u202e\u2028", "a.b/c*[x]?", "\xad"):
        make(good)
    for bad in ("", "a" * 513, "a\nb", "\x00", "\x1f", "\x7f", "\x85", "\x9f", "\ud800", "x\udfff"):
        with pytest.raises(InvalidNameError) as refused:
            make(bad)
        assert refused.value.name == bad
        assert isinstance(refused.value, ValueError)
        str(refused.value).encode()  # it can be printed: no surrogate is quoted as it is
    for wrong in (7, None, b"a", ("a",), 1.5):
        with pytest.raises(TypeError, match="a node name is a str"):
            make(wrong)


def test_e21_plain_strings() -> None:
    """E21: A subclass of `str` is taken for the text that it stands for: names are plain `str`."""

    class Step(enum.StrEnum):
        MIX = "mix"

    class Loud(str):
        def __str__(self) -> str:
            return "LOUD"

    dag = DAG.builder().add_node(Step.MIX).add_edge(Step.MIX, Loud("bake")).build()
    assert dag.nodes() == ["mix", "bake"]
    assert {type(name) for name in dag.nodes()} == {str}
    assert type(DynamicNodeSpec(Step.MIX, nothing).name) is str


def test_e21_names_that_are_enums_work_in_a_run(execute: Way) -> None:
    """E21: Names may be members of a `StrEnum` wherever a name is given."""

    class Step(enum.StrEnum):
        MIX = "mix"
        BAKE = "bake"
        COOL = "cool"

    dag = DAG.builder().add_edge(Step.MIX, Step.COOL).build()
    spec = DynamicNodeSpec(Step.BAKE, lambda mix: f"baked {mix}", [Step.MIX], [Step.COOL])
    executor = DynamicExecutor(dag, expanders={Step.MIX: adding(spec)})
    result = execute(executor, {Step.MIX: lambda: "dough", Step.COOL: lambda inputs: inputs})
    assert list(result.node_results) == ["mix", "bake", "cool"]
    assert result[Step.COOL].result == {"mix": "dough", "bake": "baked dough"}
    assert {type(name) for name in result.node_results} == {str}
    assert {type(end) for edge in result.dag.edges() for end in edge} == {str}


# -- E22, and what else a result tells


def run_with_failures(execute: Way) -> tuple[ExecutionResult, OSError, LookupError]:
    """Run start -> scout, whose added node fails and skips two; `lone` fails and skips none."""
    torn, lost = OSError("the page is torn"), LookupError("no such book")

    def fail_torn() -> None:
        raise torn

    async def fail_lost() -> None:
        raise lost

    specs = [
        DynamicNodeSpec("page", fail_torn, ["scout"]),
        DynamicNodeSpec("copy", nothing, ["page"]),
        DynamicNodeSpec("bind", nothing, ["copy"]),
    ]
    dag = chain("start", "scout").to_builder().add_node("lone").build()
    executor = DynamicExecutor(dag, expanders={"scout": adding(*specs)})
    result = execute(executor, {"start": nothing, "scout": nothing, "lone": fail_lost})
    return result, torn, lost


def test_e22_notes(execute: Way) -> None:
    """E22: A failing node's error in `raise_for_failures()` carries a note: node, who added it,
    attempt, how many nodes it skipped."""
    result, torn, lost = run_with_failures(execute)
    assert not hasattr(torn, "__notes__")
    with pytest.raises(RunFailedError):
        result.raise_for_failures()
    assert torn.__notes__ == ["in node 'page', added by 'scout', attempt 1, skipped 2 nodes"]
    assert lost.__notes__ == ["in node 'lone', attempt 1"]


def test_e22_calling_again_adds_no_second_note(execute: Way) -> None:
    """E22: A note is added once, however often `raise_for_failures()` is called."""
    result, torn, _ = run_with_failures(execute)
    for _ in range(3):
        with pytest.raises(RunFailedError):
            result.raise_for_failures()
    assert len(torn.__notes__) == 1


def test_e22_one_exception_in_two_nodes(execute: Way) -> None:
    """E22: An exception that failed two nodes carries a note of each."""
    same = OSError("no paper")

    def fail() -> None:
        raise same

    dag = DAG.builder().add_node("a").add_node("b").build()
    result = execute(DynamicExecutor(dag), {"a": fail, "b": fail})
    with pytest.raises(RunFailedError) as raised:
        result.raise_for_failures()
    assert raised.value.failures == {"a": same, "b": same}
    assert same.__notes__ == ["in node 'a', attempt 1", "in node 'b', attempt 1"]


def test_raise_for_failures(execute: Way) -> None:
    """`raise_for_failures()` raises one `RunFailedError` for all that failed: `.failures` maps
    names to exceptions, the first is its cause, its text counts and quotes them."""
    result, torn, lost = run_with_failures(execute)
    with pytest.raises(RunFailedError) as raised:
        result.raise_for_failures()
    assert raised.value.failures == {"page": torn, "lone": lost}
    assert list(raised.value.failures) == ["page", "lone"]
    assert raised.value.__cause__ is torn
    text = str(raised.value)
    assert text.startswith("2 failed, 2 skipped of 6 nodes")
    assert "'page', added by 'scout': OSError: the page is torn" in text
    assert "'lone': LookupError: no such book" in text
    assert ".failures" in text


def test_raise_for_failures_of_a_good_run(execute: Way) -> None:
    """`raise_for_failures()` returns None when everything is ok."""
    assert execute(DynamicExecutor(chain("a")), {"a": nothing}).raise_for_failures() is None


def test_raise_for_many_failures(execute: Way) -> None:
    """The text of a `RunFailedError` stays short: ten failures and the number of the others, each
    quoted up to a length; `.failures` has all."""
    dag = shelves(40)

    async def collapse() -> None:
        raise OSError("x" * 100_000)

    result = execute(DynamicExecutor(dag), dict.fromkeys(dag, collapse))
    with pytest.raises(RunFailedError) as raised:
        result.raise_for_failures()
    assert len(raised.value.failures) == 40
    assert "30 more" in str(raised.value)
    assert len(str(raised.value)) < 10_000


def test_result_of_a_failed_run(execute: Way) -> None:
    """A result counts, and tells of each node its status, error, reason, attempts and times."""
    result, torn, _ = run_with_failures(execute)
    assert not result.ok
    assert (result.succeeded, result.failed, result.skipped, result.cancelled) == (2, 2, 2, 0)
    assert list(result.node_results) == result.dag.topological_order()
    assert list(result.node_results) == ["start", "scout", "page", "copy", "bind", "lone"]
    page, bind, start = result["page"], result["bind"], result["start"]
    assert (page.status, page.error, page.result) == (NodeStatus.FAILED, torn, None)
    assert (page.attempts, page.added_by, page.depth, page.reason) == (1, "scout", 1, None)
    assert page.started_at is not None
    assert page.duration_seconds >= 0
    assert (bind.status, bind.error, bind.result) == (NodeStatus.SKIPPED, None, None)
    assert (bind.attempts, bind.added_by, bind.depth) == (0, "scout", 1)
    assert (bind.started_at, bind.duration_seconds) == (None, 0.0)
    assert "'page'" in (bind.reason or "")
    assert (start.status, start.error, start.reason) == (NodeStatus.COMPLETED, None, None)
    assert (start.attempts, start.added_by, start.depth) == (1, None, 0)
    assert start.started_at is not None
    assert page.started_at >= start.started_at


def test_result_is_asked_by_name(execute: Way) -> None:
    """`result["name"]` is short for `result.node_results["name"]`, `"name" in result` tells whether
    it is there, and an unknown name is an `UnknownNodeError` with close names."""
    result = execute(DynamicExecutor(chain("mix", "bake")), {"mix": nothing, "bake": nothing})
    assert type(result["mix"]) is NodeResult
    assert result["mix"] is result.node_results["mix"]
    assert "mix" in result
    assert "mxi" not in result
    with pytest.raises(UnknownNodeError, match="did you mean 'mix'"):
        result["mxi"]


def test_result_is_shown_briefly(execute: Way) -> None:
    """The `repr` of a result counts and holds no result of a node."""
    result, _, _ = run_with_failures(execute)
    assert repr(result).startswith(
        "<ExecutionResult: 2 succeeded, 2 failed, 2 skipped of 6 nodes, "
    )
    assert "page" not in repr(result)


def test_node_result_is_frozen(execute: Way) -> None:
    """A `NodeResult` is a value: it does not change, and compares by its fields."""
    node = execute(DynamicExecutor(chain("a")), {"a": lambda: 5})["a"]
    with pytest.raises(AttributeError, match="frozen"):
        node.result = 6
    with pytest.raises(AttributeError, match="frozen"):
        del node.result
    assert pickle.loads(pickle.dumps(node)) == node
    assert repr(node).startswith("NodeResult(name='a', status=<NodeStatus.COMPLETED")


# -- the tree of errors


def errors() -> list[dagron.DagronError]:
    """Return one of each error, as it is raised."""

    def fail() -> None:
        raise OSError("broken")

    async def forget() -> Any:
        return some_coroutine()

    async def some_coroutine() -> None:
        return None

    dag = chain("mix", "bake")
    bad = DynamicModification([DynamicNodeSpec("x", nothing, ["miks"])], ["mix"])
    both = {"mix": nothing, "bake": nothing}
    provoke: list[Callable[[], object]] = [
        lambda: DAG.builder().add_edge("a", "b").add_edge("b", "a").build(),
        lambda: DAG.builder().add_node("a").add_node("a"),
        lambda: dag.dependencies("miks"),
        lambda: DAG.builder().add_node(""),
        lambda: DynamicExecutor(dag).execute_sync({}),
        lambda: DynamicExecutor(dag).execute_sync({"mix": nothing, "bake": lambda miks: miks}),
        lambda: DynamicExecutor(dag, expanders={"mix": nothing}),
        lambda: dag.apply(bad, by="mix"),
        lambda: DynamicExecutor(dag).execute_sync({**both, "mix": fail}).raise_for_failures(),
    ]
    raised = []
    for call in provoke:
        with pytest.raises(dagron.DagronError) as info:
            call()
        raised.append(info.value)
    forgotten = DynamicExecutor(dag).execute_sync({**both, "mix": forget})["mix"].error
    assert isinstance(forgotten, dagron.DagronError)
    expanded = DynamicExecutor(dag, expanders={"mix": lambda name, result: 7}).execute_sync(both)
    assert isinstance(expanded["mix"].error, dagron.DagronError)
    return [*raised, forgotten, expanded["mix"].error]


def test_words_of_the_errors() -> None:
    """Every error says what and where in under 100 characters, and what to type after `help:`."""
    for error in errors():
        first, *rest = str(error).splitlines()
        assert len(first) < 100
        assert not first.startswith(("help", " "))
        assert any(line.startswith("  help: ") for line in rest), str(error)


def test_errors_can_be_pickled() -> None:
    """An error that comes back from another process has kept its text and its data."""
    for error in errors():
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert str(copy) == str(error)
        assert {name: repr(value) for name, value in vars(copy).items()} == {
            name: repr(value) for name, value in vars(error).items()
        }


def test_many_faults_are_shown_shortly() -> None:
    """The text of a `ModificationError` shows ten faults and the number of the others; `.faults`
    has all of them."""
    specs = [DynamicNodeSpec(f"x{number}", nothing, ["nowhere"]) for number in range(1_013)]
    with pytest.raises(ModificationError) as refused:
        chain("a").apply(DynamicModification(specs))
    assert len(refused.value.faults) == 1_013
    assert "1013 faults" in str(refused.value).replace(",", "")
    assert "1003 more" in str(refused.value).replace(",", "")
    assert len(str(refused.value)) < 10_000


def test_task_that_cannot_be_called_leaves_the_other_runs_alone(execute: Way) -> None:
    """An executor that refused tasks runs the next ones."""
    executor = DynamicExecutor(chain("a"))
    with pytest.raises(TaskSignatureError):
        execute(executor, {"a": 7})
    assert execute(executor, {"a": nothing}).ok
