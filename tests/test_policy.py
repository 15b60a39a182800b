"""How a node is run, as values: triggers, retries, policies, and what they refuse."""

import copy
import inspect
import pickle
import re
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import pytest

from dagron import DAG, DynamicModification, DynamicNodeSpec, InvalidNameError
from dagron._policy import (
    NodePolicy,
    Retry,
    Trigger,
    all_done,
    all_succeeded,
    any_succeeded,
    at_least,
)
from machine import dag, nothing, spec

FULL = NodePolicy(
    timeout=30,
    retry=Retry(attempts=5, on=(OSError, ValueError), seed="x"),
    group=("github", "slow"),
    priority=2,
    trigger=at_least(0.5),
)
VALUES = [
    *(all_succeeded, all_done, any_succeeded, at_least(2), at_least(0.5)),
    *(Retry(), Retry(2, ValueError, jitter=0, seed=7)),
    *(NodePolicy(), NodePolicy(timeout=None), FULL),
]


# --- triggers ------------------------------------------------------------------------------------


def test_there_are_four_triggers() -> None:
    """all_succeeded, all_done, any_succeeded, and at_least with its number; each shows as typed."""
    shown = [repr(t) for t in (all_succeeded, all_done, any_succeeded, at_least(2), at_least(0.5))]
    assert shown == ["all_succeeded", "all_done", "any_succeeded", "at_least(2)", "at_least(0.5)"]


def test_triggers_are_equal_when_they_decide_alike() -> None:
    """Equal triggers hash alike; a count is no share: at_least(1) is one, at_least(1.0) all."""
    assert at_least(2) == at_least(2)
    assert hash(at_least(2)) == hash(at_least(2))
    different = [all_succeeded, all_done, any_succeeded, at_least(1), at_least(1.0), at_least(2)]
    assert len({*different, *different}) == 6
    for trigger in different:
        assert trigger != repr(trigger)


@pytest.mark.parametrize(
    ("trigger", "verdicts"),
    [
        # of 4 edges: (pending, met, inactive), the rest unmet
        (all_succeeded, {(1, 3, 0): None, (0, 4, 0): True, (0, 1, 3): True, (0, 0, 4): False}),
        (all_succeeded, {(3, 0, 0): False, (1, 0, 3): None, (0, 3, 0): False}),
        (all_done, {(1, 3, 0): None, (0, 0, 0): True, (0, 0, 4): True, (0, 2, 1): True}),
        (any_succeeded, {(3, 1, 0): True, (3, 0, 1): None, (0, 0, 3): False, (0, 1, 0): True}),
        (at_least(2), {(2, 1, 0): None, (2, 2, 0): True, (0, 1, 3): False, (1, 0, 0): None}),
        (at_least(0.5), {(2, 1, 1): None, (0, 2, 0): True, (0, 1, 2): True, (2, 1, 0): None}),
        (at_least(1.0), {(1, 3, 0): None, (0, 3, 1): True, (0, 3, 0): False, (1, 2, 1): None}),
        (at_least(0.01), {(3, 1, 0): True, (3, 0, 0): None, (0, 0, 4): False}),
    ],
)
def test_a_trigger_decides_by_counts(
    trigger: Trigger, verdicts: dict[tuple[int, int, int], bool | None]
) -> None:
    """Of so many edges, so many pending, met and inactive: True runs, False skips, None waits."""
    assert {counts: trigger.verdict(4, *counts) for counts in verdicts} == verdicts
    assert trigger.verdict(0, 0, 0, 0) is True


# --- retries -------------------------------------------------------------------------------------


def test_a_retry_has_defaults() -> None:
    """Three attempts after any Exception, 0.1 s and doubling, up to 30 s, with full jitter."""
    assert repr(Retry()) == (
        "Retry(attempts=3, on=<class 'Exception'>, initial_delay=0.1, max_delay=30.0, "
        "factor=2.0, jitter=1.0, seed=None)"
    )
    assert Retry(5, ValueError) == Retry(attempts=5, on=ValueError)


def test_delays_grow_to_a_limit() -> None:
    """The wait after attempt n is initial_delay * factor ** (n - 1), at most max_delay."""
    retry = Retry(initial_delay=0.5, factor=3, max_delay=10, jitter=0)
    assert [retry.delay(attempt) for attempt in range(1, 6)] == [0.5, 1.5, 4.5, 10, 10]
    steady = Retry(initial_delay=2, factor=1)
    assert [steady.delay(attempt) for attempt in (1, 2, 1000)] == [2, 2, 2]


def test_a_delay_never_overflows() -> None:
    """After thousands of attempts the wait is max_delay, and none if there was none at first."""
    assert Retry(factor=10, max_delay=60).delay(100_000) == 60
    assert Retry(factor=10, max_delay=60, initial_delay=0).delay(100_000) == 0
    assert Retry(factor=1e300, initial_delay=1e300, max_delay=7).delay(2) == 7


def test_jitter_takes_a_share_off() -> None:
    """The die, 0 to 1, takes off up to the share that jitter says: all of it for full jitter."""
    for jitter, draw, share in [(1, 0, 1), (1, 1, 0), (1, 0.25, 0.75), (0.5, 1, 0.5), (0, 1, 1)]:
        retry = Retry(initial_delay=8, jitter=jitter)
        assert retry.delay(1, draw) == 8 * share


# --- policies ------------------------------------------------------------------------------------


def test_a_policy_without_arguments_changes_nothing() -> None:
    """What is left out has the usual value, and is marked as left out."""
    policy = NodePolicy()
    assert (policy.timeout, policy.retry, policy.group, policy.groups) == (None, None, (), ())
    assert (policy.priority, policy.trigger) == (0, all_succeeded)
    assert policy.given == frozenset()
    assert repr(policy) == "NodePolicy()"


def test_the_signature_says_where_the_rest_comes_from() -> None:
    """`help(NodePolicy)` shows that what is left out is the executor's."""
    parameters = inspect.signature(NodePolicy).parameters
    run = ["timeout", "retry", "group", "priority", "trigger"]
    assert [*parameters] == [*run, "window", "orphans", "keep", "runner", "resources"]
    assert {repr(parameter.default) for parameter in parameters.values()} == {"<the executor's>"}


def test_a_policy_holds_what_it_was_given() -> None:
    """A policy shows what it was given, in the order of its parameters."""
    assert (FULL.timeout, FULL.priority, FULL.trigger) == (30, 2, at_least(0.5))
    assert FULL.groups == FULL.group == ("github", "slow")
    assert repr(NodePolicy(trigger=all_done, group="github", timeout=1.5)) == (
        "NodePolicy(timeout=1.5, group='github', trigger=all_done)"
    )
    assert repr(NodePolicy(timeout=None)) == "NodePolicy(timeout=None)"


class Site(StrEnum):
    GITHUB = "github"


def test_a_group_is_a_name_or_several() -> None:
    """A name, a list or a tuple of names; each counts once, and is a plain str."""
    assert NodePolicy(group="github").groups == ("github",)
    assert NodePolicy(group=["b", "a", "b"]).groups == ("b", "a")
    assert NodePolicy(group=()).groups == ()
    policy = NodePolicy(group=Site.GITHUB)
    assert policy == NodePolicy(group="github")
    assert {type(name) for name in (*policy.groups, *NodePolicy(group=[Site.GITHUB]).groups)} == {
        str
    }


def test_a_policy_over_a_default() -> None:
    """What a node's policy leaves out is taken from the executor's; what it says, counts."""
    default = NodePolicy(timeout=30, priority=5, trigger=all_done)
    assert NodePolicy().over(default) == default
    assert NodePolicy(priority=1).over(default) == NodePolicy(
        timeout=30, priority=1, trigger=all_done
    )
    switched_off = NodePolicy(timeout=None, group="g").over(default)
    assert switched_off.timeout is None
    assert (switched_off.group, switched_off.priority) == ("g", 5)
    usual = NodePolicy(trigger=all_succeeded, priority=0).over(default)
    assert (usual.trigger, usual.priority, usual.timeout) == (all_succeeded, 0, 30)


def test_a_policy_over_none() -> None:
    """Without a default, or with one that adds nothing, a policy is what it is."""
    policy = NodePolicy(priority=1)
    assert policy.over(None) is policy
    assert policy.over(NodePolicy(priority=7)) is policy
    assert policy.over(NodePolicy()) is policy


@pytest.mark.parametrize(
    "other",
    [
        NodePolicy(
            timeout=31, retry=FULL.retry, group=FULL.group, priority=2, trigger=FULL.trigger
        ),
        NodePolicy(timeout=30, retry=Retry(), group=FULL.group, priority=2, trigger=FULL.trigger),
        NodePolicy(timeout=30, retry=FULL.retry, group="slow", priority=2, trigger=FULL.trigger),
        NodePolicy(timeout=30, retry=FULL.retry, group=FULL.group, trigger=FULL.trigger),
        NodePolicy(timeout=30, retry=FULL.retry, group=FULL.group, priority=2, trigger=all_done),
        NodePolicy(timeout=30, retry=FULL.retry, group=FULL.group, priority=2),
        None,
    ],
)
def test_another_field_makes_another_policy(other: object) -> None:
    """All fields take part in equality, and so does whether they were given."""
    same = NodePolicy(
        timeout=30.0,
        retry=copy.copy(FULL.retry),
        group=FULL.group,
        priority=2,
        trigger=FULL.trigger,
    )
    assert same == FULL
    assert other != FULL
    assert NodePolicy(priority=0) != NodePolicy()


@pytest.mark.parametrize(
    ("value", "field"), [(all_done, "kind"), (Retry(), "attempts"), (FULL, "timeout")]
)
def test_a_value_is_frozen(value: Any, field: str) -> None:
    """No field can be set or deleted, and none can be added."""
    kind = type(value).__name__
    before = repr(value)
    for change in (
        lambda: setattr(value, field, 1),
        lambda: delattr(value, field),
        lambda: setattr(value, "extra", 1),
    ):
        with pytest.raises(AttributeError, match=f"a {kind} is frozen: make a new one instead"):
            change()
    assert repr(value) == before


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_can_be_pickled(value: object) -> None:
    """Triggers, retries and policies survive pickling by every protocol, and copying."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(value, protocol))
        assert again == value
        assert repr(again) == repr(value)
    assert copy.copy(value) == copy.deepcopy(value) == value


def test_what_is_left_out_stays_so_in_a_pickle() -> None:
    """A policy that went through a pickle still takes what it leaves out from the default."""
    again = pickle.loads(pickle.dumps(NodePolicy(priority=1)))
    assert again.over(NodePolicy(timeout=5)) == NodePolicy(timeout=5, priority=1)


# --- what is refused -----------------------------------------------------------------------------

REFUSED: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: at_least(0), ValueError, "at_least takes a count of at least 1, not 0"),
    (lambda: at_least(-3), ValueError, "at_least takes a count of at least 1, not -3"),
    (lambda: at_least(0.0), ValueError, "at_least takes a share above 0 and up to 1.0, not 0.0"),
    (lambda: at_least(1.5), ValueError, "at_least takes a share above 0 and up to 1.0, not 1.5"),
    (lambda: at_least(float("nan")), ValueError, "at_least takes a share above 0 and up to 1.0, n"),
    (lambda: at_least(True), TypeError, "at_least takes an int or a float, not bool: True"),
    (lambda: at_least("half"), TypeError, "at_least takes an int or a float, not str: 'half'"),
    (lambda: NodePolicy(window=0), ValueError, "window is at least 1, not 0"),
    (lambda: NodePolicy(orphans="kill"), ValueError, "orphans is 'finish' or 'cancel', not 'kill'"),
    (lambda: Retry(0), ValueError, "attempts is at least 1, not 0"),
    (lambda: Retry(2.0), TypeError, "attempts is an int, not float: 2.0"),
    (lambda: Retry(True), TypeError, "attempts is an int, not bool: True"),
    (
        lambda: Retry(on=[OSError]),
        TypeError,
        "on is an exception type or a tuple of them, not [<cl",
    ),
    (
        lambda: Retry(on=(OSError, 5)),
        TypeError,
        "on is an exception type or a tuple of them, not 5",
    ),
    (
        lambda: Retry(on=KeyboardInterrupt),
        TypeError,
        "on is an exception type or a tuple of them, ",
    ),
    (
        lambda: Retry(on=OSError("x")),
        TypeError,
        "on is an exception type or a tuple of them, not O",
    ),
    (lambda: Retry(initial_delay=-1), ValueError, "initial_delay is at least 0, not -1"),
    (lambda: Retry(initial_delay="1"), TypeError, "initial_delay is a number, not str: '1'"),
    (lambda: Retry(max_delay=float("inf")), ValueError, "max_delay is a finite number, not inf"),
    (lambda: Retry(max_delay=float("nan")), ValueError, "max_delay is a finite number, not nan"),
    (lambda: Retry(max_delay=10**400), ValueError, "max_delay is a finite number, not 1000"),
    (lambda: NodePolicy(timeout=10**400), ValueError, "timeout is above 0 seconds, not 10000"),
    (lambda: Retry(factor=0.5), ValueError, "factor is at least 1, not 0.5"),
    (lambda: Retry(jitter=1.5), ValueError, "jitter is from 0 to 1, not 1.5"),
    (lambda: Retry(jitter=-0.5), ValueError, "jitter is from 0 to 1, not -0.5"),
    (lambda: Retry(seed=1.5), TypeError, "seed is an int or a str, not float: 1.5"),
    (lambda: Retry(seed=True), TypeError, "seed is an int or a str, not bool: True"),
    (lambda: NodePolicy(timeout=0), ValueError, "timeout is above 0 seconds, not 0"),
    (lambda: NodePolicy(timeout=-1.5), ValueError, "timeout is above 0 seconds, not -1.5"),
    (lambda: NodePolicy(timeout=float("inf")), ValueError, "timeout is above 0 seconds, not inf"),
    (lambda: NodePolicy(timeout="5"), TypeError, "timeout is a number of seconds, not str: '5'"),
    (lambda: NodePolicy(timeout=True), TypeError, "timeout is a number of seconds, not bool: True"),
    (lambda: NodePolicy(retry=3), TypeError, "retry is a dagron.Retry, not int: 3"),
    (lambda: NodePolicy(group=5), TypeError, "group is a name or a tuple of names, not int: 5"),
    (lambda: NodePolicy(group={"g"}), TypeError, "group is a name or a tuple of names, not set: {"),
    (
        lambda: NodePolicy(group=b"g"),
        TypeError,
        "group is a name or a tuple of names, not bytes: b",
    ),
    (
        lambda: NodePolicy(group=None),
        TypeError,
        "group is a name or a tuple of names, not NoneType",
    ),
    (lambda: NodePolicy(group=["g", 5]), TypeError, "a group name is a str, not int: 5"),
    (lambda: NodePolicy(group=""), InvalidNameError, "a group name is empty"),
    (
        lambda: NodePolicy(group="a\nb"),
        InvalidNameError,
        "group name 'a\\nb' holds the character U+",
    ),
    (
        lambda: NodePolicy(group="g" * 513),
        InvalidNameError,
        f"group name '{'g' * 30}'... has 513 characters, and at most 512",
    ),
    (lambda: NodePolicy(priority="high"), TypeError, "priority is a number, not str: 'high'"),
    (lambda: NodePolicy(priority=True), TypeError, "priority is a number, not bool: True"),
    (lambda: NodePolicy(priority=float("nan")), ValueError, "priority is a finite number, not nan"),
    (lambda: NodePolicy(priority=None), TypeError, "priority is a number, not NoneType: None"),
    (
        lambda: NodePolicy(trigger="all_done"),
        TypeError,
        "trigger is one of dagron's four triggers, n",
    ),
    (
        lambda: NodePolicy(trigger=all),
        TypeError,
        "trigger is one of dagron's four triggers, not <bu",
    ),
    (
        lambda: NodePolicy(trigger=at_least),
        TypeError,
        "trigger is one of dagron's four triggers, no",
    ),
    (lambda: spec("n", policy=5), TypeError, "policy is a dagron.NodePolicy, not int: 5"),
    (
        lambda: DAG.builder().add_node("n", policy={}),
        TypeError,
        "policy is a dagron.NodePolicy, not ",
    ),
]


@pytest.mark.parametrize(("make", "kind", "message"), REFUSED)
def test_what_does_not_fit_is_refused(
    make: Callable[[], object], kind: type[Exception], message: str
) -> None:
    """A wrong argument is refused where it is given, with its name, its value, and what to type."""
    with pytest.raises(kind) as caught:
        make()
    first, _, rest = str(caught.value).partition("\n")
    assert first.startswith(message)
    assert len(first) < 100
    assert re.fullmatch(r"  help: \S.*", rest)


HELPS = [
    (lambda: at_least(2.0), "write at_least(2) for two of them, at_least(0.5) for half"),
    (lambda: NodePolicy(trigger=at_least), "say how many: trigger=dagron.at_least(2)"),
    (
        lambda: NodePolicy(trigger="all_done"),
        "write trigger=dagron.all_done, dagron.any_succeeded or dagron.at_least(2)",
    ),
    (lambda: NodePolicy(timeout=0), "leave timeout out for no limit"),
    (lambda: NodePolicy(timeout=float("inf")), "leave timeout out for no limit"),
    (lambda: Retry(jitter=7), "write jitter=1"),
    (lambda: Retry(jitter=-7), "write jitter=0"),
    (lambda: NodePolicy(retry=3), "write retry=dagron.Retry(attempts=3)"),
    (
        lambda: Retry(on=BaseException),
        "write on=ConnectionError, for example; only an Exception can be retried",
    ),
]


@pytest.mark.parametrize(("make", "help"), HELPS)
def test_the_help_can_be_typed(make: Callable[[], object], help: str) -> None:
    """The help says what to write instead, fitting to the mistake."""
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    assert str(caught.value).endswith(f"\n  help: {help}")


def test_a_huge_argument_makes_no_huge_message() -> None:
    """What was given is shown in up to 60 characters."""
    for make in (
        lambda: NodePolicy(priority="x" * 100_000),
        lambda: NodePolicy(trigger="x" * 100_000),
        lambda: NodePolicy(retry="x" * 100_000),
        lambda: at_least("x" * 100_000),
        lambda: Retry(on="x" * 100_000),
    ):
        with pytest.raises(TypeError) as caught:
            make()
        assert len(str(caught.value)) < 300


# --- policies of nodes ---------------------------------------------------------------------------


def test_a_spec_has_a_policy() -> None:
    """A policy is an argument of a spec, and takes part in its equality."""
    made = DynamicNodeSpec("n", nothing, policy=FULL)
    assert made.policy is FULL
    assert made == spec("n", policy=copy.deepcopy(FULL))
    assert made != spec("n") != spec("n", policy=NodePolicy())
    assert spec("n").policy is None
    assert DynamicModification([made]) != DynamicModification([spec("n")])


def test_a_node_of_a_graph_has_a_policy() -> None:
    """A policy is an argument of `add_node`; `DAG.policy` gives it back, or None."""
    graph = DAG.builder().add_node("a", policy=FULL).add_edge("a", "b").build()
    assert graph.policy("a") is FULL
    assert graph.policy("b") is None
    with pytest.raises(KeyError, match="there is no node 'c'"):
        graph.policy("c")


def test_a_node_that_an_edge_has_named_may_be_given_a_policy() -> None:
    """`add_node` confirms a node that only an edge has named so far, with its policy."""
    graph = DAG.builder().add_edge("a", "b").add_node("b", policy=FULL).build()
    assert graph.policy("b") is FULL
    assert graph.nodes() == ["a", "b"]


def test_a_refused_node_changes_no_policy() -> None:
    """Adding a node again fails, and leaves its policy alone."""
    builder = DAG.builder().add_node("a", policy=FULL)
    with pytest.raises(ValueError, match="node 'a' was added before"):
        builder.add_node("a", policy=NodePolicy())
    assert builder.build().policy("a") is FULL
    assert dag("a", policies={"a": FULL}) == builder.build()


def test_a_policy_can_be_a_default_of_a_dataclass() -> None:
    """Equal policies and retries hash alike: a dataclass takes them for defaults, a set as one."""
    assert len({NodePolicy(timeout=2), NodePolicy(timeout=2), NodePolicy()}) == 2
    assert len({Retry(2, OSError), Retry(2, OSError), Retry(3, OSError)}) == 2
