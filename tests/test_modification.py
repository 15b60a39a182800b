"""The values that a user makes and meets: specs, modifications, names, statuses and errors."""

import copy
import pickle
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest

import dagron
from dagron import (
    DagronError,
    DynamicModification,
    DynamicNodeSpec,
    Fault,
    GraphDiff,
    InvalidNameError,
    ModificationError,
    NodeResult,
    NodeStatus,
)
from dagron._edge import Edge, condition_of
from dagron._names import MAX_NAME_LENGTH, close_names, did_you_mean, shown
from dagron._status import NEXT
from machine import dag, nothing, spec, yes


def expand(name: str, result: object) -> None:
    """An expander that can be pickled."""


# --- specs ---------------------------------------------------------------------------------------


def test_a_spec_holds_what_it_was_given() -> None:
    """S5: a spec has name, task, dependencies and dependents, the last two optional."""
    short = DynamicNodeSpec(name="a", task=nothing)
    assert (short.name, short.task, short.expander) == ("a", nothing, None)
    assert short.dependencies == short.dependents == []
    full = DynamicNodeSpec("b", nothing, ["a"], ["c", "d"], expander=expand)
    assert (full.dependencies, full.dependents, full.expander) == (["a"], ["c", "d"], expand)


def test_a_modification_holds_what_it_was_given() -> None:
    """S4: `add_nodes` and `remove_nodes` are optional, as is everything else."""
    empty = DynamicModification()
    assert empty.add_nodes == empty.remove_nodes == empty.add_edges == empty.remove_edges == []
    assert empty.cancel_nodes == []
    full = DynamicModification(
        [spec("a")],
        ["b"],
        add_edges=[("c", "d")],
        remove_edges=[["e", "f"]],
        cancel_nodes=("g", "h"),
    )
    assert full.add_nodes == [spec("a")]
    assert full.remove_nodes == ["b"]
    assert full.add_edges == [("c", "d")]
    assert full.remove_edges == [("e", "f")]
    assert full.cancel_nodes == ["g", "h"]
    by_name = DynamicModification(add_nodes=[spec("a")], remove_nodes=["b"])
    assert (by_name.add_nodes, by_name.remove_nodes) == ([spec("a")], ["b"])


def test_lists_are_copied_in() -> None:
    """The fields are lists of their own: what is done to the caller's later changes nothing."""
    names, pairs, specs = ["a"], [("a", "b")], [spec("n")]
    made = DynamicNodeSpec("x", nothing, names, names)
    modification = DynamicModification(
        specs, names, add_edges=pairs, remove_edges=pairs, cancel_nodes=names
    )
    for values in (names, pairs, specs):
        values.clear()
    assert made.dependencies == made.dependents == modification.remove_nodes == ["a"]
    assert modification.cancel_nodes == ["a"]
    assert modification.add_edges == modification.remove_edges == [("a", "b")]
    assert modification.add_nodes == [spec("n")]


def test_conditions_are_copied_in() -> None:
    """An `Edge` keeps its condition, in whatever iterable it comes; a set is put in order."""
    for edges in ([Edge("a", "b", yes), ("a", "c")], {("a", "c"), Edge("a", "b", yes)}):
        modification = DynamicModification(add_edges=edges)
        assert modification.add_edges == [("a", "b"), ("a", "c")]
        assert [condition_of(edge) for edge in modification.add_edges] == [yes, None]


def test_any_iterable_will_do() -> None:
    """Tuples, generators and the keys of a dict become lists."""
    made = DynamicNodeSpec("x", nothing, (name for name in "ab"), {"c": 1}.keys())
    assert (made.dependencies, made.dependents) == (["a", "b"], ["c"])
    modification = DynamicModification(iter([spec("n")]), iter("ab"), add_edges=iter([("a", "b")]))
    assert len(modification.add_nodes) == 1
    assert modification.remove_nodes == ["a", "b"]
    assert modification.add_edges == [("a", "b")]


def test_a_modification_is_true_when_it_changes_something() -> None:
    """S28: a modification without members is false; any member makes it true."""
    assert not DynamicModification(add_nodes=[], remove_nodes=[])
    assert DynamicModification([spec("a")])
    assert DynamicModification(remove_nodes=["a"])
    assert DynamicModification(add_edges=[("a", "b")])
    assert DynamicModification(remove_edges=[("a", "b")])
    assert DynamicModification(cancel_nodes=["a"])


def test_equality_leaves_tasks_and_conditions_out() -> None:
    """S29: specs and modifications are equal when everything but tasks and conditions is."""
    assert DynamicNodeSpec("a", lambda: 1, ["b"]) == DynamicNodeSpec("a", lambda: 2, ["b"])
    one = DynamicModification([DynamicNodeSpec("a", lambda: 1)], ["b"])
    assert one == DynamicModification([DynamicNodeSpec("a", lambda: 2)], ["b"])
    conditional = DynamicModification(add_edges=[Edge("a", "b", lambda result: True)])
    assert conditional == DynamicModification(add_edges=[Edge("a", "b", lambda result: False)])
    assert conditional == DynamicModification(add_edges=[("a", "b")])


@pytest.mark.parametrize(
    "other",
    [
        DynamicNodeSpec("x", nothing, ["b"], ["c"], expander=expand),
        DynamicNodeSpec("a", nothing, ["x"], ["c"], expander=expand),
        DynamicNodeSpec("a", nothing, ["b"], ["x"], expander=expand),
        DynamicNodeSpec("a", nothing, ["b"], ["c"]),
        DynamicModification(),
        None,
    ],
)
def test_another_field_makes_another_spec(other: object) -> None:
    """Name, dependencies, dependents and expander all take part in the equality of specs."""
    assert DynamicNodeSpec("a", nothing, ["b"], ["c"], expander=expand) != other


@pytest.mark.parametrize(
    "other",
    [
        DynamicModification([spec("x")], ["b"], add_edges=[("c", "d")], remove_edges=[("e", "f")]),
        DynamicModification([spec("a")], ["x"], add_edges=[("c", "d")], remove_edges=[("e", "f")]),
        DynamicModification([spec("a")], ["b"], add_edges=[("c", "x")], remove_edges=[("e", "f")]),
        DynamicModification([spec("a")], ["b"], add_edges=[("c", "d")], remove_edges=[("e", "x")]),
        DynamicModification([spec("a")], ["b"], add_edges=[("c", "d")]),
        DynamicModification(
            *([spec("a")], ["b"]),
            add_edges=[("c", "d")],
            remove_edges=[("e", "f")],
            cancel_nodes=["g"],
        ),
    ],
)
def test_another_field_makes_another_modification(other: DynamicModification) -> None:
    """All five fields take part in the equality of modifications."""
    pairs = {"add_edges": [("c", "d")], "remove_edges": [("e", "f")]}
    assert DynamicModification([spec("a")], ["b"], **pairs) != other


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (spec("a"), "dependencies"),
        (DynamicModification(), "add_nodes"),
        (NodeResult("a", NodeStatus.READY), "status"),
    ],
)
def test_a_value_is_frozen(value: Any, field: str) -> None:
    """No field of a value can be set or deleted, none can be added, and a value has no hash."""
    kind = type(value).__name__
    with pytest.raises(AttributeError, match=f"a {kind} is frozen: make a new one instead"):
        setattr(value, field, "x")
    with pytest.raises(AttributeError, match=f"a {kind} is frozen: make a new one instead"):
        delattr(value, field)
    with pytest.raises(AttributeError):
        value.extra = 1
    with pytest.raises(TypeError, match="unhashable"):
        hash(value)


def test_a_value_shows_its_fields() -> None:
    """The repr of a value names every field."""
    modification = DynamicModification(remove_nodes=["a"], add_edges=[("b", "c")])
    assert repr(modification) == (
        "DynamicModification(add_nodes=[], remove_nodes=['a'], "
        "add_edges=[('b', 'c')], remove_edges=[], cancel_nodes=[])"
    )
    shown_spec = repr(DynamicNodeSpec("n", len, ["a"], ["b"]))
    assert shown_spec == (
        "DynamicNodeSpec(name='n', task=<built-in function len>, dependencies=['a'], "
        "dependents=['b'], expander=None, policy=None)"
    )


@pytest.mark.parametrize("field", ["dependencies", "dependents"])
@pytest.mark.parametrize("bare", ["abc", "", b"abc"])
def test_a_bare_string_is_no_list_of_edges(field: str, bare: object) -> None:
    """E20: a bare string for `dependencies` or `dependents` is a TypeError, not three letters."""
    with pytest.raises(TypeError, match=f"{field} is a list of node names, not the bare ") as e:
        DynamicNodeSpec("a", nothing, **{field: bare})
    assert f"help: write {field}=['" in str(e.value)


def test_a_bare_string_is_no_list_of_nodes() -> None:
    """E20: a bare string for `remove_nodes` or `cancel_nodes` is a TypeError as well."""
    for field in ("remove_nodes", "cancel_nodes"):
        with pytest.raises(TypeError, match=f"{field} is a list of node names, not the bare "):
            DynamicModification(**{field: "abc"})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: spec(5), "a node name is a str, not int: 5"),
        (lambda: DynamicNodeSpec("a", 5), "the task of node 'a' is "),
        (
            lambda: DynamicNodeSpec("a", nothing, expander=5),
            "the expander of node 'a' is ",
        ),
        (
            lambda: DynamicNodeSpec("a", nothing, 5),
            "dependencies is a list of node names, not int: 5",
        ),
        (
            lambda: DynamicNodeSpec("a", nothing, ["b", 5]),
            "dependencies holds 5, which is int, not a node name",
        ),
        (
            lambda: DynamicNodeSpec("a", nothing, [], [None]),
            "dependents holds None, which is NoneType, not a node name",
        ),
        (lambda: DynamicNodeSpec("a", nothing, None), "dependencies is a list of node names, not "),
        (lambda: DynamicModification(5), "add_nodes is a list of "),
        (lambda: DynamicModification(None), "add_nodes is a list of "),
        (lambda: DynamicModification(remove_nodes=None), "remove_nodes is a list of node names, "),
        (lambda: DynamicModification(add_edges=None), "add_edges is a list of pairs (source, "),
        (
            lambda: DynamicModification(spec("a")),
            "add_nodes is a list of ",
        ),
        (lambda: DynamicModification(["a"]), "add_nodes holds 'a', which is str"),
        (
            lambda: DynamicModification(remove_nodes=[spec("a")]),
            "remove_nodes holds DynamicNodeSpec",
        ),
        (
            lambda: DynamicModification(remove_nodes=5),
            "remove_nodes is a list of node names, not int: 5",
        ),
        (lambda: DynamicModification(cancel_nodes=None), "cancel_nodes is a list of node names, "),
        (
            lambda: DynamicModification(cancel_nodes=["a", 5]),
            "cancel_nodes holds 5, which is int, not a node name",
        ),
        (
            lambda: DynamicModification(add_edges="ab"),
            "add_edges is a list of pairs (source, target), not str",
        ),
        (
            lambda: DynamicModification(remove_edges=5),
            "remove_edges is a list of pairs (source, target), not int",
        ),
        (
            lambda: DynamicModification(add_edges=("a", "b")),
            "add_edges holds 'a', which is no pair of node names",
        ),
        (
            lambda: DynamicModification(add_edges=[("a", "b", "c")]),
            "add_edges holds ('a', 'b', 'c'), which is no pair of node names",
        ),
        (
            lambda: DynamicModification(add_edges=[("a", 5)]),
            "add_edges holds ('a', 5), which is no pair of node names",
        ),
        (
            lambda: DynamicModification(remove_edges=[(5, "a")]),
            "remove_edges holds (5, 'a'), which is no pair of node names",
        ),
        (
            lambda: DynamicModification(remove_edges=[5]),
            "remove_edges holds 5, which is no pair of node names",
        ),
    ],
)
def test_what_does_not_fit_is_a_type_error(make: Callable[[], object], message: str) -> None:
    """A member of the wrong type is refused where it is written, saying what to write."""
    with pytest.raises(TypeError) as caught:
        make()
    first, _, rest = str(caught.value).partition("\n")
    assert first.startswith(message)
    assert len(first) < 130
    assert rest.startswith("  help: ")


# --- names ---------------------------------------------------------------------------------------


def test_every_character_but_controls_and_surrogates_may_be_in_a_name() -> None:
    """E21: of all Unicode, names exclude the categories Cc and Cs, and nothing else."""
    allowed = []
    for code in range(0x110000):
        if unicodedata.category(chr(code)) in ("Cc", "Cs"):
            with pytest.raises(InvalidNameError, match=f"holds the character U\\+{code:04X}"):
                spec(f"a{chr(code)}b")
        else:
            allowed.append(chr(code))
    for start in range(0, len(allowed), MAX_NAME_LENGTH):
        name = "".join(allowed[start : start + MAX_NAME_LENGTH])
        assert spec(name).name == name


def test_a_name_has_1_to_512_characters() -> None:
    """E21: the empty name and one of 513 characters are refused, and the error keeps the name."""
    assert spec("x").name == "x"
    assert spec("x" * 512).name == "x" * 512
    too_long = r"node name 'x{{30}}'... has {} characters, and at most 512 are allowed\n  help: "
    for name, text in [
        ("", "a node name is empty\n  help: "),
        ("x" * 513, too_long.format("513")),
        ("x" * 100_000, too_long.format("100,000")),
    ]:
        with pytest.raises(InvalidNameError, match=text) as e:
            spec(name)
        assert e.value.name == name
        assert len(str(e.value)) < 300


@pytest.mark.parametrize(
    "name",
    [
        *('"]; click a href "javascript:alert(1)"', "</script>", "%%{init: {}}%%", "__proto__"),
        *("../../etc/passwd", "end", "\u202e", "\u2028", "trailing\\", " "),
    ],
)
def test_a_hostile_name_is_a_name(name: str) -> None:
    """Whatever an output would have to escape is a legal name, and is kept as it is."""
    graph = dag((name, "after"))
    assert graph.dependencies("after") == [name]


def test_close_names_are_few_and_the_likeliest_first() -> None:
    """A suggestion has up to three known names, the likeliest first, and none that is far."""
    known = ["table_a", "table_b", "table_c", "tables_a", "zebra"]
    assert close_names("table_aa", known)[0] == "table_a"
    assert len(close_names("table", known)) == 3
    assert close_names("quux", known) == []
    assert close_names(5, ["5"]) == ["5"]
    assert did_you_mean("zebr", known) == "did you mean 'zebra'?"
    assert did_you_mean("table_d", ["table_a", "table_b"]) == "did you mean 'table_b' or 'table_a'?"
    assert did_you_mean("quux", known) == ""


def test_names_in_a_message_are_limited() -> None:
    """A list of names in a message shows the first ones and counts the others."""
    assert shown(["a", "b"]) == "'a', 'b'"
    assert shown(iter("abc"), 2) == "'a', 'b' and 1 more"
    assert shown(map(str, range(5_000))).endswith("'19' and 4,980 more")


# --- statuses ------------------------------------------------------------------------------------


def test_a_status_prints_its_bare_name() -> None:
    """S27: `print(status)` prints `FAILED`; the seven statuses are singletons, also when copied."""
    assert [str(status) for status in NodeStatus] == [
        *("PENDING", "READY", "RUNNING", "COMPLETED", "FAILED", "SKIPPED", "CANCELLED")
    ]
    assert f"{NodeStatus.FAILED}" == NodeStatus.FAILED.name == "FAILED"
    for status in NodeStatus:
        assert pickle.loads(pickle.dumps(status)) is status
        assert copy.deepcopy(status) is status
    assert len(set(NodeStatus)) == 7


def test_the_transition_table() -> None:
    """A node waits, is ready, runs and ends; what has ended never moves again.

    A node may fail before it starts: by a condition that raised.
    """
    table = {str(status): {str(to) for to in follow} for status, follow in NEXT.items()}
    ends = {"COMPLETED", "FAILED", "SKIPPED", "CANCELLED"}
    assert table == {
        "PENDING": {"READY", "SKIPPED", "CANCELLED", "FAILED"},
        "READY": {"RUNNING", "PENDING", "SKIPPED", "CANCELLED", "FAILED"},
        "RUNNING": {"COMPLETED", "FAILED", "CANCELLED"},
        **{end: set() for end in ends},
    }


# --- errors --------------------------------------------------------------------------------------

FAULT = Fault("unknown", "a", "node 'a' is missing", "add it")
ERRORS: dict[str, tuple[DagronError, tuple[type, ...], dict[str, object]]] = {
    "DagronError": (DagronError("text"), (Exception,), {}),
    "GraphError": (dagron.GraphError("text"), (DagronError,), {}),
    "CycleError": (
        dagron.CycleError("text", ["a", "b", "a"]),
        (dagron.GraphError, ValueError),
        {"cycle": ["a", "b", "a"]},
    ),
    "DuplicateNodeError": (
        dagron.DuplicateNodeError("text", "a"),
        (dagron.GraphError, ValueError),
        {"name": "a"},
    ),
    "DuplicateEdgeError": (
        dagron.DuplicateEdgeError("text", ("a", "b")),
        (dagron.GraphError, ValueError),
        {"edge": ("a", "b")},
    ),
    "InvalidNameError": (
        dagron.InvalidNameError("text", "a\n"),
        (dagron.GraphError, ValueError),
        {"name": "a\n"},
    ),
    "UnknownNodeError": (
        dagron.UnknownNodeError("text", "a", ["b"]),
        (dagron.GraphError, KeyError),
        {"name": "a", "close": ("b",)},
    ),
    "MissingTaskError": (
        dagron.MissingTaskError("text", ["a", "b"]),
        (DagronError, ValueError),
        {"names": ("a", "b")},
    ),
    "TaskSignatureError": (
        dagron.TaskSignatureError("text", "a", "x"),
        (DagronError, TypeError),
        {"node": "a", "parameter": "x"},
    ),
    "UnknownGroupError": (
        dagron.UnknownGroupError("text", "githb", ["github"]),
        (DagronError, KeyError),
        {"group": "githb", "close": ("github",)},
    ),
    "UnknownRunnerError": (
        dagron.UnknownRunnerError("text", "bog", ["big"]),
        (DagronError, KeyError),
        {"runner": "bog", "close": ("big",)},
    ),
    "RunnerError": (dagron.RunnerError("text", "a"), (DagronError, RuntimeError), {"node": "a"}),
    "WorkerLostError": (
        dagron.WorkerLostError("text", "a", "process 7", -9),
        (dagron.RunnerError, RuntimeError),
        {"node": "a", "worker": "process 7", "exit_code": -9},
    ),
    "RunnerLostError": (
        dagron.RunnerLostError("text", "a", "big"),
        (dagron.RunnerError, RuntimeError),
        {"node": "a", "runner": "big"},
    ),
    "NotPicklableError": (
        dagron.NotPicklableError("text", "a", "its task"),
        (dagron.RunnerError, TypeError),
        {"node": "a", "what": "its task"},
    ),
    "ConditionError": (
        dagron.ConditionError("text", ("a", "b")),
        (DagronError, RuntimeError),
        {"edge": ("a", "b")},
    ),
    "NodeTimeoutError": (
        dagron.NodeTimeoutError("text", "a", 2.5),
        (DagronError, TimeoutError),
        {"node": "a", "timeout": 2.5},
    ),
    "MissingExtraError": (
        dagron.MissingExtraError("text", "progress"),
        (DagronError, ImportError),
        {"extra": "progress"},
    ),
    "RegistryClosedError": (dagron.RegistryClosedError("text"), (DagronError, RuntimeError), {}),
    "RegistryFullError": (
        dagron.RegistryFullError("text", 3),
        (DagronError, RuntimeError),
        {"max_running": 3},
    ),
    "UnknownRunError": (
        dagron.UnknownRunError("text", "id", True, ["ids"]),
        (DagronError, KeyError),
        {"id": "id", "was_forgotten": True, "close": ("ids",)},
    ),
    "JournalError": (
        dagron.JournalError("text", "runs.db"),
        (DagronError, RuntimeError),
        {"path": "runs.db"},
    ),
    "JournalCorruptError": (
        dagron.JournalCorruptError("text", "runs.db", "nightly", 7, 6),
        (dagron.JournalError,),
        {"path": "runs.db", "run_id": "nightly", "seq": 7, "last_good_seq": 6},
    ),
    "RunInUseError": (
        dagron.RunInUseError("text", "runs.db", "nightly", 123, "host", 1.5),
        (dagron.JournalError,),
        {"path": "runs.db", "run_id": "nightly", "pid": 123, "host": "host", "since": 1.5},
    ),
    "UnstorableError": (
        dagron.UnstorableError("text", "a", "socket.socket"),
        (DagronError, TypeError),
        {"node": "a", "type_name": "socket.socket"},
    ),
    "RecordedError": (
        dagron.RecordedError("OSError: no", "OSError", "no", "Traceback", ["a note"]),
        (DagronError,),
        {
            "type_name": "OSError",
            "text": "no",
            "traceback_text": "Traceback",
            "notes": ("a note",),
        },
    ),
    "ReplayError": (
        dagron.ReplayError("text", "a", ["node 'b': new"]),
        (DagronError, RuntimeError),
        {"node": "a", "differences": ("node 'b': new",)},
    ),
    "GraphMismatchError": (
        dagron.GraphMismatchError("text", ["node 'b': new"]),
        (DagronError, ValueError),
        {"differences": ("node 'b': new",)},
    ),
    "NodePoisonedError": (
        dagron.NodePoisonedError("text", "a", 3),
        (DagronError, RuntimeError),
        {"node": "a", "recoveries": 3},
    ),
    "LimitsInUseError": (dagron.LimitsInUseError("text"), (DagronError, RuntimeError), {}),
    "GateError": (dagron.GateError("text"), (DagronError, RuntimeError), {}),
    "GateRejectedError": (
        dagron.GateRejectedError("text", "no"),
        (DagronError, RuntimeError),
        {"reason": "no"},
    ),
    "NotAwaitedError": (dagron.NotAwaitedError("text"), (DagronError, TypeError), {}),
    "ModificationError": (
        ModificationError([FAULT], "a"),
        (DagronError, ValueError),
        {"faults": (FAULT,), "by": "a"},
    ),
    "ExpansionError": (dagron.ExpansionError("text"), (DagronError, RuntimeError), {}),
    "RunFailedError": (
        dagron.RunFailedError("text", {"a": ValueError("x")}),
        (DagronError,),
        {},
    ),
    "RunFinishedError": (dagron.RunFinishedError("text"), (DagronError, RuntimeError), {}),
    "EventLoopRunningError": (
        dagron.EventLoopRunningError("text"),
        (DagronError, RuntimeError),
        {},
    ),
    "InternalError": (dagron.InternalError("text"), (DagronError, RuntimeError), {}),
}


def test_every_error_is_in_the_table_below() -> None:
    """No public error escapes the tests of errors."""
    public = {
        name
        for name in dagron.__all__
        if isinstance(kind := getattr(dagron, name), type) and issubclass(kind, BaseException)
    }
    assert public == {*ERRORS, "BlockingWarning", "Cancelled"}


def test_what_is_raised_but_is_no_error() -> None:
    """A warning is one, and a task that catches every Exception does not catch a cancellation."""
    assert issubclass(dagron.BlockingWarning, RuntimeWarning)
    assert issubclass(dagron.Cancelled, BaseException)
    assert not issubclass(dagron.Cancelled, Exception)


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_can_be_caught_by_its_bases(name: str) -> None:
    """Every error is a DagronError, and beside it the standard error that one would expect."""
    error, bases, attributes = ERRORS[name]
    assert all(isinstance(error, base) for base in (DagronError, *bases))
    for attribute, value in attributes.items():
        assert getattr(error, attribute) == value


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_can_be_pickled(name: str, protocol: int) -> None:
    """An error survives pickling with its text, its attributes and its notes."""
    error, _, attributes = ERRORS[name]
    error = copy.copy(error)
    error.add_note("a note")
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.__notes__ == ["a note"]
    for attribute, value in attributes.items():
        assert getattr(again, attribute) == value


def test_a_failed_run_can_be_pickled() -> None:
    """The exceptions of the failed nodes go with the error."""
    again = pickle.loads(pickle.dumps(dagron.RunFailedError("text", {"a": ValueError("x")})))
    assert repr(again.failures) == "{'a': ValueError('x')}"


@pytest.mark.parametrize("name", set(ERRORS) - {"ModificationError"})
def test_an_error_can_be_made_bare(name: str) -> None:
    """An error made without arguments shows its name; one with a text alone shows that."""
    _, _, attributes = ERRORS[name]
    kind = getattr(dagron, name)
    assert str(kind("text")) == "text"
    if not attributes and name != "RunFailedError":
        assert str(kind()) == name


def test_an_unknown_node_reads_like_any_other_error() -> None:
    """The text of an UnknownNodeError is not quoted, although it is a KeyError."""
    assert str(dagron.UnknownNodeError("there is no\n  help")) == "there is no\n  help"


def test_a_fault_reads_as_message_and_help() -> None:
    """The text of a fault is its message, and its help on a line of its own if it has any."""
    assert str(FAULT) == "node 'a' is missing\n  help: add it"
    assert str(Fault("cycle", "a", "a cycle")) == "a cycle"


def test_a_refused_modification_reads_well() -> None:
    """The first line says who was refused and how many faults there are; then they follow."""
    assert str(ModificationError([FAULT, Fault("cycle", "b", "a cycle")], "a")) == (
        "the modification by 'a' was refused, nothing was changed: 2 faults\n"
        "- node 'a' is missing\n"
        "  help: add it\n"
        "- a cycle"
    )
    from_outside = str(ModificationError([FAULT]))
    assert from_outside.startswith("the modification was refused, nothing was changed: 1 fault\n")


def test_many_faults_are_counted() -> None:
    """The text shows ten faults and counts the others, which are all in `faults`."""
    error = ModificationError([FAULT] * 20_000, "a")
    assert str(error).count("node 'a' is missing") == 10
    assert str(error).endswith("- and 19,990 more, see .faults")
    assert len(error.faults) == 20_000


def test_public_values_can_be_pickled() -> None:
    """Specs, modifications, faults, differences and results survive pickling and copying."""
    made = DynamicNodeSpec("a", nothing, ["b"], ["c"], expander=expand)
    values = [
        made,
        DynamicModification(
            *([made], ["b"]),
            add_edges=[("c", "d"), Edge("c", "e", yes)],
            remove_edges=[("e", "f")],
            cancel_nodes=["g"],
        ),
        FAULT,
        GraphDiff(["a"], ["b"], [("a", "c")], [("b", "c")]),
        NodeResult("a", NodeStatus.COMPLETED, 5, None, 0.5, 1.5, 1, "b", 2, None),
    ]
    for value in values:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            again = pickle.loads(pickle.dumps(value, protocol))
            assert again == value
            assert repr(again) == repr(value)
        assert copy.copy(value) == copy.deepcopy(value) == value
    assert pickle.loads(pickle.dumps(made)).task is nothing
