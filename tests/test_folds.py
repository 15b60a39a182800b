"""A node folds the results of its children: `NodePolicy(keep=Fold(...))`."""

import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

import dagron
from dagron import (
    DAG,
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    ExecutionResult,
    ExpansionError,
    Fold,
    NodePolicy,
    NodeStatus,
    Retry,
    RunFailedError,
)
from faults import GUARD, ON_ASYNCIO, run, until
from ways import Way, passes


def add_up(total: int, name: str, result: int) -> int:
    return total + result


def note(names: list[str], name: str, result: Any) -> list[str]:
    names.append(name)
    return names


def one() -> int:
    return 1


def folding(fold: Fold, *edges: str, **options: Any) -> DAG:
    """A graph whose node "by" folds its children, with edges written as "a-b"."""
    builder = DAG.builder().add_node("by", policy=NodePolicy(keep=fold, **options))
    for edge in edges:
        builder.add_edge(*edge.split("-"))
    return builder.build()


def specs(count: int, task: Callable[..., Any] = one, *deps: str) -> list[DynamicNodeSpec]:
    return [DynamicNodeSpec(f"c{number}", task, deps) for number in range(count)]


def at_once(count: int, task: Callable[..., Any] = one, *deps: str) -> Callable[..., Any]:
    return lambda name, result: DynamicModification(specs(count, task, *deps))


def one_by_one(count: int, task: Callable[..., Any] = one, *deps: str) -> Callable[..., Any]:
    def expand(name: str, result: Any) -> Iterator[DynamicNodeSpec]:
        yield from specs(count, task, *deps)

    return expand


# --- what is folded ------------------------------------------------------------------------------


@pytest.mark.parametrize("expand", [at_once(20), one_by_one(20)], ids=["at once", "one by one"])
def test_dependents_get_what_the_fold_made_of_all_children(
    execute: Way, expand: Callable[..., Any]
) -> None:
    """Sync children, folded in the order in which they end; the record keeps the node's own value.

    The children are forgotten, and counted.
    """
    end: list[Any] = []
    executor = DynamicExecutor(folding(Fold(add_up, int), "by-end"), {"by": expand})
    result = execute(executor, {"by": lambda: "own", "end": lambda by: end.append(by)})
    assert end == [20]
    assert list(result) == ["by", "end"]
    assert result["by"].result == "own"
    assert (result.succeeded, result.forgotten, result.ok) == (22, 20, True)
    assert result.family("by").value == 20
    assert repr(result.family("by")) == "<Family of 'by': 20 succeeded>"


def test_every_run_begins_anew(execute: Way) -> None:
    """An accumulator that is changed in place is that of one run."""
    executor = DynamicExecutor(folding(Fold(note, list)), {"by": at_once(2)})
    for _ in range(2):
        assert sorted(execute(executor, {"by": one}).family("by").value) == ["c0", "c1"]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("expand", [at_once, one_by_one])
async def test_children_get_the_value_of_the_node_and_dependents_the_accumulator(
    expand: Callable[..., Any], is_async: bool
) -> None:
    """By its name, both of them: for children, the node has not been folded yet."""

    async def fold(total: list[Any], name: str, result: Any) -> list[Any]:
        return note(total, name, result)

    seen: dict[str, Any] = {}

    async def look(by: Any, inputs: Any) -> None:
        seen["child"] = (by, inputs)

    async def end(by: Any, inputs: Any) -> None:
        seen["end"] = (by, inputs)

    dag = folding(Fold(fold if is_async else note, list), "by-end")
    result = await run(dag, {"by": lambda: "own", "end": end}, {"by": expand(1, look, "by")})
    assert result.ok
    assert seen == {"child": ("own", {"by": "own"}), "end": (["c0"], {"by": ["c0"]})}


async def test_a_node_that_adds_no_children_folds_to_the_start() -> None:
    """With an expander that returns nothing, and without one."""
    for expanders in ({}, {"by": lambda name, result: None}):
        dag = folding(Fold(add_up, lambda: 7), "by-end")
        result = await run(dag, {"by": one, "end": lambda by: by}, expanders)
        assert (result["end"].result, result.family("by").value) == (7, 7)


async def test_children_that_a_task_adds_are_folded() -> None:
    """The node ends when they have, whatever its task does meanwhile."""

    async def crawl(grow: dagron.Grow) -> str:
        for added in specs(5):
            await grow(added)
        return "own"

    result = await run(folding(Fold(add_up, int), "by-end"), {"by": crawl, "end": lambda by: by})
    assert (result["by"].result, result["end"].result) == ("own", 5)


async def test_a_fold_under_a_fold() -> None:
    """What a folding child hands up is its accumulator, and it is folded after its own children."""

    def grandchildren(name: str, result: Any) -> DynamicModification:
        return DynamicModification([DynamicNodeSpec(f"{name}.{n}", one) for n in range(3)])

    inner = NodePolicy(keep=Fold(add_up, lambda: 10))
    children = [DynamicNodeSpec(n, one, expander=grandchildren, policy=inner) for n in "xyz"]
    order: list[str] = []

    def outer(total: int, name: str, result: int) -> int:
        order.append(name)
        return total + result

    result = await run(
        folding(Fold(outer, int)), {"by": one}, {"by": lambda *_: DynamicModification(children)}
    )
    assert result.family("by").value == 3 * 13
    assert result.family("x").value == 13
    assert sorted(order) == ["x", "y", "z"]
    assert (result.succeeded, result.forgotten) == (13, 12)


async def test_grandchildren_are_not_folded() -> None:
    """A fold is for the children of one node; their children are kept as the run says."""

    def expand(name: str, result: Any) -> DynamicModification:
        return DynamicModification([DynamicNodeSpec("grandchild", one)])

    change = DynamicModification([DynamicNodeSpec("child", one, expander=expand)])
    result = await run(folding(Fold(note, list)), {"by": one}, {"by": lambda *_: change})
    assert result.family("by").value == ["child"]
    assert set(result) == {"by", "grandchild"}


async def test_conditions_ask_the_accumulator() -> None:
    """An edge from a folding node is judged by what its target would get."""
    asked: list[Any] = []

    def condition(value: Any) -> bool:
        asked.append(value)
        return False

    builder = folding(Fold(add_up, int)).to_builder().add_edge("by", "end", condition=condition)
    result = await run(builder.build(), {"by": lambda: "own", "end": one}, {"by": at_once(3)})
    assert asked == [3]
    assert result["end"].status is NodeStatus.SKIPPED


async def test_a_condition_on_an_edge_that_is_added_later_asks_the_accumulator_too() -> None:
    """From a node that has ended by then."""
    asked: list[Any] = []

    def late(name: str, result: Any) -> DynamicModification:
        edge = dagron.Edge("by", "new", condition=lambda value: asked.append(value) or True)
        return DynamicModification([DynamicNodeSpec("new", lambda by: by)], add_edges=[edge])

    result = await run(
        folding(Fold(add_up, int), "by-late"),
        {"by": lambda: "own", "late": one},
        {"by": at_once(3), "late": late},
    )
    assert asked == [3]
    assert result["new"].result == 3


async def test_completions_have_the_value_of_the_node() -> None:
    """`Run.completed` gives what is in the records, to those who come early and late."""
    early, late = [], []
    executor = DynamicExecutor(folding(Fold(add_up, int)), {"by": at_once(2)})
    with anyio.fail_after(GUARD):
        async with executor.start({"by": lambda: "own"}) as handle:
            early = [pair async for pair in handle.completed()]
            late = [pair async for pair in handle.completed()]
    assert sorted(early[:2]) == [("c0", 1), ("c1", 1)]
    assert early[2:] == [("by", "own")]
    assert late == [("by", "own")]


# --- one call at a time --------------------------------------------------------------------------


async def test_one_call_of_an_async_fold_ends_before_the_next_begins() -> None:
    """However many children wait for it: each gets what the one before returned."""
    inside = most = 0
    seen = []

    async def fold(total: int, name: str, result: int) -> int:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await passes(3)
        inside -= 1
        seen.append(name)
        return total + result

    result = await run(folding(Fold(fold, int)), {"by": one}, {"by": at_once(10)})
    assert (result.family("by").value, most, len(set(seen))) == (10, 1, 10)


async def test_a_child_is_unfinished_until_it_is_folded() -> None:
    """So a window bounds also those that wait for the fold."""
    folded = landed = ahead = 0

    async def fold(total: int, name: str, result: int) -> int:
        nonlocal folded
        await passes(2)
        folded += 1
        return total + result

    async def expand(name: str, result: Any) -> AsyncIterator[DynamicNodeSpec]:
        nonlocal landed, ahead
        for added in specs(20):
            ahead = max(ahead, landed - folded)
            landed += 1
            yield added

    result = await run(folding(Fold(fold, int), window=3), {"by": one}, {"by": expand})
    assert (result.family("by").value, ahead) == (20, 2)


async def test_results_are_folded_in_the_order_in_which_children_end() -> None:
    """The later one first, where it ends first."""
    gates = [anyio.Event() for _ in range(3)]

    async def child(number: int) -> None:
        await gates[number].wait()
        if number:
            gates[number - 1].set()

    def expand(name: str, result: Any) -> DynamicModification:
        gates[2].set()
        tasks = enumerate(partial(child, number=n) for n in range(3))
        return DynamicModification([DynamicNodeSpec(f"c{n}", task) for n, task in tasks])

    async def by_loop(name: str, result: Any) -> DynamicModification:
        return expand(name, result)

    result = await run(folding(Fold(note, list)), {"by": one}, {"by": by_loop})
    assert result.family("by").value == ["c2", "c1", "c0"]


# --- a fold that goes wrong ----------------------------------------------------------------------


def three(verdict: Callable[[], Any]) -> Callable[[int, str, int], Any]:
    """A fold that adds up, and for the second child gives that verdict."""

    def fold(total: int, name: str, result: int) -> Any:
        return verdict() if name == "c1" else total + result

    return fold


def refuse() -> None:
    raise ZeroDivisionError("no")


async def forgotten_await() -> int:
    return 3


@pytest.mark.parametrize(
    ("verdict", "kind", "text"),
    [
        (refuse, ZeroDivisionError, "no"),
        (lambda: None, ExpansionError, "the fold returned None for 'c1'\n  help: return the acc"),
        (forgotten_await, ExpansionError, "the fold returned coroutine for 'c1', which did not"),
    ],
    ids=["raises", "None", "coroutine"],
)
async def test_a_child_whose_fold_goes_wrong_has_failed(
    verdict: Callable[[], Any], kind: type[Exception], text: str
) -> None:
    """That child alone, with its result and the reason; the others are in the accumulator."""
    dag = folding(Fold(three(verdict), int), "by-end")
    result = await run(dag, {"by": one, "end": lambda by: by}, {"by": at_once(3)})
    assert (result["end"].result, result.succeeded, result.failed) == (2, 4, 1)
    child = result["c1"]
    assert (child.status, child.result, child.attempts) == (NodeStatus.FAILED, 1, 1)
    assert child.reason == "folding its result failed"
    assert isinstance(child.error, kind)
    assert str(child.error).startswith(text)
    assert [failure.name for failure in result.family("by").failures] == ["c1"]
    with pytest.raises(RunFailedError, match="fold of node 'c1', added by 'by'"):
        result.raise_for_failures()
    assert child.error.__notes__ == ["in the fold of node 'c1', added by 'by', attempt 1"]


async def test_an_async_fold_that_raises_lets_the_next_one_in() -> None:
    """The accumulator is what it was before."""

    async def fold(total: int, name: str, result: int) -> int:
        await checkpoint()
        return three(refuse)(total, name, result)

    result = await run(folding(Fold(fold, int)), {"by": one}, {"by": at_once(3)})
    assert (result.family("by").value, result.failed) == (2, 1)


async def test_a_fold_that_only_looks_may_return_none() -> None:
    """Where the start is None, None is a value like any other."""
    seen: list[str] = []
    look = Fold(lambda nothing, name, result: seen.append(name), lambda: None)
    result = await run(folding(look), {"by": one}, {"by": at_once(3)})
    assert result.ok
    assert sorted(seen) == ["c0", "c1", "c2"]
    assert result.family("by").value is None


@pytest.mark.parametrize(
    ("start", "kind", "text"),
    [
        (refuse, ZeroDivisionError, "no"),
        (lambda: forgotten_await(), ExpansionError, "the start of the fold returned coroutine"),
    ],
)
async def test_a_start_that_goes_wrong_fails_the_node(
    start: Callable[[], Any], kind: type[Exception], text: str
) -> None:
    """Before its task runs: its children would have nowhere to go."""
    ran = []
    tasks = {"by": lambda: ran.append(1), "end": one}
    result = await run(folding(Fold(add_up, start), "by-end"), tasks, {"by": at_once(2)})
    assert (result.failed, result.skipped, ran) == (1, 1, [])
    assert isinstance(result["by"].error, kind)
    assert str(result["by"].error).startswith(text)


@ON_ASYNCIO
async def test_a_cancellation_of_its_own_is_a_failure_of_the_fold() -> None:
    """A fold cannot cancel its siblings by raising what cancels."""

    def fold(total: int, name: str, result: int) -> int:
        raise anyio.get_cancelled_exc_class()() if name == "c1" else KeyError(name)

    result = await run(folding(Fold(fold, int)), {"by": one}, {"by": at_once(3)})
    assert (result.failed, result.succeeded, result.cancelled) == (3, 1, 0)


async def test_an_interrupt_in_a_fold_ends_the_run() -> None:
    """As anywhere in user code."""

    def fold(total: int, name: str, result: int) -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await run(folding(Fold(fold, int)), {"by": one}, {"by": at_once(3)})


# --- children that do not succeed ----------------------------------------------------------------


async def test_only_children_that_succeed_are_folded() -> None:
    """Those that fail, are skipped or cancelled have a record instead; the node goes on."""

    async def bad() -> int:
        raise ValueError

    def expand(name: str, result: Any) -> Iterator[DynamicModification]:
        yield DynamicModification(
            [
                *(DynamicNodeSpec("bad", bad), DynamicNodeSpec("skipped", one, ["bad"])),
                *(DynamicNodeSpec("good", one), DynamicNodeSpec("never", one, ["bad"])),
            ],
        )
        yield DynamicModification(cancel_nodes=["never"])

    result = await run(folding(Fold(note, list)), {"by": one}, {"by": expand})
    assert result.family("by").value == ["good"]
    assert set(result) == {"by", "bad", "skipped", "never"}
    assert result["by"].status is NodeStatus.COMPLETED


async def test_a_child_is_folded_once_after_its_retries() -> None:
    """Not after the attempt that failed."""
    attempts = 0

    async def child() -> int:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise ValueError
        return attempts

    policy = NodePolicy(retry=Retry(attempts=3, initial_delay=0, jitter=0))
    change = DynamicModification([DynamicNodeSpec("c", child, policy=policy)])
    result = await run(folding(Fold(add_up, int)), {"by": one}, {"by": lambda *_: change})
    assert result.family("by").value == 3


async def test_a_child_that_was_cancelled_is_not_folded() -> None:
    """Also where its task returns all the same: its outcome is CANCELLED, and counted as such."""
    gate, inside = anyio.Event(), anyio.Event()

    async def child() -> int:
        inside.set()
        await gate.wait()
        return 1

    executor = DynamicExecutor(folding(Fold(add_up, int)), {"by": at_once(1, child)})
    with anyio.fail_after(GUARD):
        async with executor.start({"by": one}) as handle:
            await inside.wait()
            gate.set()
            handle.cancel_node("c0")
        result = await handle.wait()
    assert result["c0"].status is NodeStatus.CANCELLED
    assert (result.family("by").value, result.family("by").cancelled) == (0, 1)


async def test_a_generator_that_fails_leaves_what_was_folded() -> None:
    """The node has FAILED; what its children made is with the family, for what it is worth."""
    folded = anyio.Event()

    def fold(total: int, name: str, result: int) -> int:
        folded.set()
        return total + result

    async def expand(name: str, result: Any) -> AsyncIterator[DynamicNodeSpec]:
        yield specs(1)[0]
        await folded.wait()
        raise ValueError("the source broke")

    result = await run(folding(Fold(fold, int), "by-end"), {"by": one, "end": one}, {"by": expand})
    assert result["by"].status is NodeStatus.FAILED
    assert result["by"].reason == "its expander failed"
    assert result["end"].status is NodeStatus.SKIPPED
    assert repr(result.family("by")) == "<Family of 'by': 1 succeeded>"
    assert (result.family("by").value, result.forgotten) == (1, 1)


async def held_children(count: int = 2) -> tuple[anyio.Event, Callable[..., Any]]:
    gate = anyio.Event()

    async def child() -> int:
        with anyio.fail_after(GUARD):
            await gate.wait()
        return 1

    return gate, at_once(count, child)


async def test_a_node_that_is_cancelled_while_it_waits_for_its_children() -> None:
    """They finish, folded no more, and are counted."""
    gate, expand = await held_children()
    executor = DynamicExecutor(folding(Fold(add_up, int), "by-end"), {"by": expand})
    with anyio.fail_after(GUARD):
        async with executor.start({"by": one, "end": one}) as handle:
            await until(lambda: "waits" in str(handle.explain("by")))
            assert str(handle.explain("by")) == (
                "node 'by' is RUNNING: 2 nodes that it added are unfinished, "
                "and it waits for their end"
            )
            handle.cancel_node("by")
            await until(lambda: handle.status("by") is NodeStatus.CANCELLED)
            gate.set()
        result = await handle.wait()
    assert str(result["by"].status) == "CANCELLED"
    assert (result.forgotten, result.family("by").value, result.ok) == (2, 0, True)


async def test_orphans_of_a_folding_node_are_cancelled_where_it_says_so() -> None:
    """With ``orphans="cancel"``."""
    _, expand = await held_children()
    dag = folding(Fold(add_up, int), orphans="cancel")
    executor = DynamicExecutor(dag, {"by": expand})
    with anyio.fail_after(GUARD):
        async with executor.start({"by": one}) as handle:
            await until(lambda: "waits" in str(handle.explain("by")))
            handle.cancel_node("by")
        result = await handle.wait()
    assert (result.cancelled, result.family("by").cancelled) == (3, 2)


async def test_a_run_that_is_cancelled_while_children_are_folded() -> None:
    """It ends as a result that counts everybody."""
    gate, expand = await held_children(5)
    executor = DynamicExecutor(folding(Fold(add_up, int)), {"by": expand})
    with anyio.fail_after(GUARD):
        async with executor.start({"by": one}) as handle:
            await until(lambda: "waits" in str(handle.explain("by")))
            gate.set()
            handle.cancel("enough")
        result = await handle.wait()
    assert (result.succeeded + result.cancelled, result.reason) == (
        6,
        "the run was cancelled: enough",
    )
    assert result.family("by").value <= result.forgotten  # after the node itself, none is folded


async def test_children_that_wait_for_the_folding_node_end_it() -> None:
    """It waits for them and they for it: an error that says so, never a hang."""

    async def crawl(grow: dagron.Grow) -> None:
        await grow(DynamicNodeSpec("late", one, ["by"]))

    result = await run(folding(Fold(add_up, int)), {"by": crawl})
    assert isinstance(result["by"].error, ExpansionError)
    assert "'late' waits for 'by'" in str(result["by"].error)
    assert result["late"].status is NodeStatus.SKIPPED


async def test_a_folding_node_waits_without_slots() -> None:
    """With one place and one worker its children can run, and it goes on after them."""
    dag = folding(Fold(add_up, int), "by-end")
    options = {"max_workers": 1, "max_concurrency": 1}
    result = await run(dag, {"by": one, "end": lambda by: by}, {"by": at_once(3)}, **options)
    assert result["end"].result == 3


async def test_a_child_of_a_forgotten_node_is_not_folded_by_another_of_that_name() -> None:
    """The new node of that name folds its own children."""
    gate, used = anyio.Event(), anyio.Event()

    async def old_child() -> int:
        await gate.wait()
        return 100

    async def again() -> int:
        await used.wait()
        return 1

    async def by() -> None:
        gate.set()
        await passes()

    def old(name: str, result: Any) -> DynamicModification:
        return DynamicModification([DynamicNodeSpec("old", old_child)])

    dag = DAG.builder().add_node("hub").build()
    executor = DynamicExecutor(dag, keep="failures")
    with anyio.fail_after(GUARD):
        async with executor.start({"hub": again}) as handle:
            await handle.modify(DynamicModification([DynamicNodeSpec("x", one, expander=old)]))
            await until(lambda: "x" not in handle.dag and "old" in handle.dag)
            policy = NodePolicy(keep=Fold(add_up, int))
            spec = DynamicNodeSpec("x", by, expander=at_once(2), policy=policy)
            await handle.modify(DynamicModification([spec]))
            used.set()
        result = await handle.wait()
    assert result.family("x").value == 2
    assert (len(result.family("x")), result.succeeded) == (3, 6)


# --- the value -----------------------------------------------------------------------------------


def test_a_fold_is_a_value() -> None:
    """It compares, hashes, shows and pickles by its two functions, and is frozen."""
    fold = Fold(add_up, int)
    assert fold == Fold(add_up, int) != Fold(add_up, list)
    assert hash(fold) == hash(Fold(add_up, int))
    assert pickle.loads(pickle.dumps(fold)) == fold
    assert repr(Fold(max, int)) == "Fold(function=<built-in function max>, start=<class 'int'>)"
    with pytest.raises(AttributeError, match="a Fold is frozen"):
        fold.start = list  # type: ignore[misc]
    policy = NodePolicy(keep=fold)
    assert pickle.loads(pickle.dumps(policy)) == policy
    assert "keep=Fold(" in repr(policy)


def stream(total: int, name: str, result: int) -> Iterator[int]:
    yield total


async def astream(total: int, name: str, result: int) -> AsyncIterator[int]:
    yield total


@pytest.mark.parametrize("function", [stream, astream, 3, None])
def test_what_cannot_fold_is_refused(function: Any) -> None:
    """Generators run nothing by a call."""
    with pytest.raises(TypeError, match=r"a fold is a function .* not .*\n  help: write Fold\("):
        Fold(function, int)


@pytest.mark.parametrize("start", [0, [], None, forgotten_await, stream, lambda total: total])
def test_what_cannot_start_is_refused(start: Any) -> None:
    """An accumulator is made for each run: by a plain function that takes nothing."""
    with pytest.raises(TypeError, match=r"start is called without .*\n  help: write start=int"):
        Fold(add_up, start)


@pytest.mark.parametrize("function", [lambda total, result: total, lambda a, b, c, d: a])
def test_a_fold_that_takes_something_else_is_refused(function: Any) -> None:
    """A fold that cannot be called is refused when it is made, and not for each child."""
    with pytest.raises(TypeError, match=r"is called with \(accumulator, name, result\), which "):
        Fold(function, int)
    assert Fold(lambda *values: values[0], lambda first=0: first)


@pytest.mark.parametrize(
    ("keep", "kind", "text"),
    [
        (add_up, TypeError, r"keep=dagron\.Fold\(function, start=list\)"),
        ("none", ValueError, r"keep is one of all, leaves, failures, not 'none'\n  help: write"),
        (3, ValueError, "keep is one of"),
    ],
)
def test_a_policy_refuses_what_is_no_way_to_keep(
    keep: Any, kind: type[Exception], text: str
) -> None:
    """A function alone does not say where it begins."""
    with pytest.raises(kind, match=text):
        NodePolicy(keep=keep)


def test_an_executor_refuses_a_fold() -> None:
    """Whose children would it fold? That of a node has an owner."""
    with pytest.raises(ValueError, match=r"give that node a NodePolicy\(keep=Fold\(\.\.\.\)\)"):
        DynamicExecutor(DAG.builder().build(), keep=Fold(add_up, int))  # type: ignore[arg-type]


def test_a_default_policy_folds_the_children_of_every_node(execute: Way) -> None:
    """Each node its own; one that says None keeps them as the run says."""
    dag = DAG.builder().add_node("by").add_node("other", policy=NodePolicy(keep=None)).build()
    fold = NodePolicy(keep=Fold(note, list))
    expanders = {
        name: lambda name, result: DynamicModification([DynamicNodeSpec(f"{name}.c", one)])
        for name in ("by", "other")
    }
    executor = DynamicExecutor(dag, expanders, policy=fold)
    result: ExecutionResult = execute(executor, {"by": one, "other": one})
    assert result.family("by").value == ["by.c"]
    assert result.family("other").value is None
    assert set(result) == {"by", "other", "other.c"}
