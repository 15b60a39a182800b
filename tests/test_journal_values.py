"""Results as bytes and back: exactly what they were, and no code from the file."""

import array
import collections
import copyreg
import datetime
import decimal
import functools
import io
import ipaddress
import json
import math
import operator
import os
import pathlib
import pickle
import re
import sys
import threading
import types
import uuid
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest

import storable
from dagron import JournalError, RecordedError, UnstorableError
from dagron.journal import _globals, _values
from dagron.journal._globals import KNOWN, resolve
from dagron.journal._recorded import error_row, recorded_error
from dagron.journal._values import Values
from journals import Program

PLAIN = Values()
ALLOWING = Values(allow=["storable"])
TRUSTING = Values(trust=True)


def again(value: object, values: Values = PLAIN) -> Any:
    """The value after it was stored and loaded."""
    return values.load(values.dump(value, "node"))


# --- what comes back -----------------------------------------------------------------------------

# A system may have no zones, and then this is no test of them.
PARIS = ZoneInfo("Europe/Paris") if "Europe/Paris" in available_timezones() else datetime.UTC
VALUES = [
    *(None, True, False, 0, -1, 255, 2**31, 2**63, -(2**200), 10**4000),
    *(0.0, -0.0, 1.5, math.inf, -math.inf, 5e-324, 1j, complex(-0.0, math.inf)),
    *("", "a", "ü\u2028\U0001f600", "\0", "\ud800", "a\udfffb", "x" * 100_000),
    *(b"", b"\0\xff\x93\x82", bytearray(b"abc"), b"x" * 70_000),
    *([], (), {}, set(), frozenset(), [[]], ((),), [None] * 1000, (1,), (1, 2, 3, 4)),
    {"a": [1, {"b": (2, {3, 4})}], 5: b"x", (1, 2): None, None: frozenset({1})},
    *(range(3), range(10, 0, -2), slice(1, None, 2), ..., NotImplemented, int, ValueError),
    datetime.datetime(2026, 11, 22, 1, 2, 3, 4, fold=1),
    datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC),
    datetime.datetime(2026, 11, 22, tzinfo=PARIS),
    datetime.datetime(1, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=-3), "x")),
    *(datetime.date(1, 1, 1), datetime.time(23, 59, 59, 999999), datetime.timedelta(-1, 2, 3)),
    *(PARIS, decimal.Decimal("1.10"), decimal.Decimal("NaN"), Fraction(1, 3)),
    uuid.UUID(int=7),
    *(pathlib.PurePosixPath("/a/../b"), pathlib.PureWindowsPath("c:/x"), pathlib.Path("a b")),
    *(ipaddress.ip_address("::1"), ipaddress.ip_network("10.0.0.0/8")),
    ipaddress.ip_interface("10.0.0.1/8"),
    collections.OrderedDict(b=1, a=2),
    collections.Counter("hello"),
    collections.deque([1, 2], maxlen=3),
    collections.defaultdict(list, {"a": [1]}),
    collections.ChainMap({"a": 1}, {"b": 2}),
    *(collections.UserDict(a=1), collections.UserList([1]), collections.UserString("a")),
    types.SimpleNamespace(a=1, b=[2]),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{value!r:.30}")
def test_a_value_comes_back_exactly(value: object) -> None:
    """Plain data and the library's classes that hold data come back equal, of the same types."""
    back = again(value)
    assert type(back) is type(value)
    assert repr(back) == repr(value)
    assert back == value or value != value


def test_what_is_not_a_number_comes_back() -> None:
    """NaN comes back as NaN."""
    back = again([math.nan, {"a": math.nan}])
    assert math.isnan(back[0])
    assert math.isnan(back[1]["a"])


def test_an_error_as_a_value_comes_back() -> None:
    """A result may be an exception of the language; arguments, notes and attributes are kept."""
    error = FileNotFoundError(2, "missing", "x.csv")
    error.add_note("look there")
    error.extra = [1]  # type: ignore[attr-defined]
    back = again(error)
    assert (type(back), back.args) == (FileNotFoundError, (2, "missing"))
    assert (back.filename, back.__notes__, back.extra) == ("x.csv", ["look there"], [1])
    group = again(ExceptionGroup("both", [ValueError(1), KeyError("a")]))
    assert [type(each) for each in group.exceptions] == [ValueError, KeyError]


def test_shared_things_stay_shared() -> None:
    """What was one object in a value is one object again; so is what contains itself."""
    shared = [1]
    back = again({"a": shared, "b": [shared]})
    assert back["a"] is back["b"][0]
    circle: list[object] = []
    circle.append(circle)
    back = again(circle)
    assert back[0] is back
    loop: dict[str, object] = {"at": collections.deque()}
    loop["at"].append(loop)  # type: ignore[attr-defined]
    back = again(loop)
    assert back["at"][0] is back


ALLOWED = [
    storable.Colour.RED,
    storable.Colour.BLUE,
    storable.Size.SMALL,
    storable.Word.YES,
    storable.Bits.A | storable.Bits.B,
    storable.Bits(0),
    storable.Invoice(1, [storable.Invoice(2)]),
    storable.Point(1.5),
    storable.Pair(1, [2]),
    storable.Triple(1, storable.Triple(2)),
    storable.Celsius(36.6),
    storable.Plain({"a": storable.Plain(None)}),
    storable.Colour,
]


@pytest.mark.parametrize("value", ALLOWED, ids=lambda value: f"{value!r:.30}")
def test_values_of_an_allowed_module_come_back(value: object) -> None:
    """Dataclasses, enums, named tuples and plain classes of an allowed module come back."""
    back = again(value, ALLOWING)
    assert back == value
    assert type(back) is type(value)


def test_members_of_an_enum_are_the_members() -> None:
    """A member comes back as the very same one."""
    assert again([storable.Colour.CRIMSON], ALLOWING)[0] is storable.Colour.RED


def test_an_instance_that_can_be_called_comes_back() -> None:
    """That a value can be called makes it no function."""
    counting = storable.Callable_()
    counting()
    assert again(counting, ALLOWING).calls == 1


@pytest.mark.parametrize("value", ALLOWED, ids=lambda value: f"{value!r:.30}")
def test_a_class_that_nobody_allowed_is_refused(value: object) -> None:
    """A value of one's own class is refused when it is stored: it says what to type."""
    with pytest.raises(UnstorableError, match=r'allow=\["storable"\]') as caught:
        PLAIN.dump([value], "build")
    assert caught.value.node == "build"
    assert caught.value.type_name.startswith("storable.")
    assert "'build'" in str(caught.value).splitlines()[0]


def test_a_module_is_allowed_by_its_full_name() -> None:
    """Allowing a package allows nothing of the modules in it."""
    with pytest.raises(UnstorableError):
        Values(allow=["stor"]).dump(storable.Point(1), "a")
    with pytest.raises(UnstorableError):
        Values(allow=["collections.abc"]).dump(storable.Point(1), "a")


def test_what_was_allowed_must_be_allowed_when_it_is_loaded() -> None:
    """A value that was stored with allow= is refused without it: an error that says so."""
    blob = ALLOWING.dump(storable.Point(1), "a")
    with pytest.raises(JournalError, match=r"storable\.Point is not allowed\n  help: .*allow="):
        PLAIN.load(blob)


def test_trust_loads_everything() -> None:
    """With trust=True what pickle can store is stored: also functions by their names."""
    value = [operator.add, functools.partial(operator.add, 1), array.array("i", [1])]
    back = again(value, TRUSTING)
    assert back[0] is operator.add
    assert back[1](2) == 3
    assert back[2] == value[2]


def test_what_pickle_writes_for_a_path_on_any_python() -> None:
    """What Python 3.13 wrote for a path is loaded by every version, and the other way round."""
    for module in ("pathlib", "pathlib._local"):
        assert PLAIN.load(call(module, "PurePosixPath", "a", "b")) == pathlib.PurePosixPath("a/b")


# --- what is refused when it is stored -----------------------------------------------------------


def local() -> object:
    class Local:
        pass

    return Local()


UNSTORABLE: list[tuple[Callable[[], object], str]] = [
    (lambda: lambda: None, "function"),
    (lambda: print, r"builtins\.print"),
    (lambda: len, r"builtins\.len"),
    (lambda: "".join, "getattr"),
    (lambda: type, r"builtins\.type"),
    (lambda: type(None), r"builtins\.type"),
    (lambda: map(str, [1]), r"builtins\.map"),
    (lambda: iter([1]), r"builtins\.iter"),
    (lambda: functools.partial(print), r"functools\.partial"),
    (lambda: operator.attrgetter("x"), r"operator\.attrgetter"),
    (lambda: re.compile("x"), "re"),
    (lambda: array.array("i"), "array"),
    (lambda: storable.function, r"storable\.function"),
    (lambda: storable.Outer.Inner(), "top level"),
    (lambda: threading.Lock(), "lock"),
    (lambda: sys, "module"),
    (lambda: io.StringIO(), "StringIO"),
    (lambda: (each for each in ()), "generator"),
    (local, "Local"),
    (lambda: collections.defaultdict(lambda: 0), "lambda"),
    (lambda: collections.defaultdict(storable.function), r"storable\.function"),
]


@pytest.mark.parametrize(("make", "match"), UNSTORABLE)
@pytest.mark.parametrize("values", [PLAIN, ALLOWING], ids=["plain", "allowing"])
def test_what_cannot_be_stored_is_refused(
    make: Callable[[], object], match: str, values: Values
) -> None:
    """What cannot be pickled, or would not be loaded, is refused at once, with what to do."""
    for value in (make(), [make()], {"deep": [(make(),)]}):
        with pytest.raises(UnstorableError, match=match) as caught:
            values.dump(value, "build")
        assert "\n  help: " in str(caught.value)
        assert caught.value.node == "build"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        SystemExit(3),
        GeneratorExit(),
        RecursionError(),
        MemoryError(),
        type("Odd", (Exception,), {"__str__": lambda self: 1 / 0})(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_pickling_raises(error: BaseException) -> None:
    """Whatever a value raises when it is pickled, it is refused as one that cannot be stored."""
    with pytest.raises(UnstorableError, match=type(error).__name__) as caught:
        TRUSTING.dump(storable.Raises(error), "a")
    assert caught.value.__cause__ is error


def test_ctrl_c_goes_through() -> None:
    """KeyboardInterrupt is nobody's mistake: it is raised as it is, in storing and in loading."""
    with pytest.raises(KeyboardInterrupt):
        PLAIN.dump(storable.Raises(KeyboardInterrupt()), "a")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storable.Plain, "__setstate__", interrupt, raising=False)
        for values in (ALLOWING, TRUSTING):
            with pytest.raises(KeyboardInterrupt):
                values.load(pickle.dumps(storable.Plain(1), 5))
        with pytest.raises(KeyboardInterrupt):
            ALLOWING.dump(storable.Plain(1), "a")


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_value_that_is_too_deep() -> None:
    """A value that is nested deeper than pickle goes is refused."""
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(UnstorableError, match="RecursionError"):
        PLAIN.dump(deep, "a")


def test_what_cannot_be_loaded_again_is_refused_now() -> None:
    """A value of an allowed class that can be pickled but not loaded is refused at once."""
    with pytest.raises(UnstorableError, match=r"not loaded again.*\n.*no such thing any more"):
        ALLOWING.dump(storable.LoadsBadly(), "a")


def test_the_largest_result() -> None:
    """`max_result_bytes` bounds a pickled result, and is named when one is larger."""
    values = Values(max_result_bytes=1000)
    assert again("x" * 900, values) == "x" * 900
    with pytest.raises(UnstorableError, match=r"'a' is too large .* max_result_bytes is 1,000"):
        values.dump("x" * 1000, "a")


def test_what_a_row_cannot_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a bound of the user's there is that of the file, and a larger one is cut to it."""
    monkeypatch.setattr(_values, "LARGEST", 1000)
    for values in (Values(), Values(max_result_bytes=10_000)):
        with pytest.raises(UnstorableError, match="too large"):
            values.dump("x" * 1000, "a")


def test_options_that_are_wrong() -> None:
    """Modules are a list of names, the bound is a count."""
    with pytest.raises(TypeError, match=r"write allow=\['myapp'\]"):
        Values(allow="myapp")
    with pytest.raises(TypeError, match="allow holds"):
        Values(allow=[storable])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="max_result_bytes"):
        Values(max_result_bytes=0)


# --- what an attacker would write ----------------------------------------------------------------


def text(value: str) -> bytes:
    """The opcode that pushes a text."""
    data = value.encode()
    return pickle.BINUNICODE + len(data).to_bytes(4, "little") + data


def named(module: str, name: str) -> bytes:
    """The opcodes that push what has such a name."""
    return text(module) + text(name) + pickle.STACK_GLOBAL


def made(*parts: bytes) -> bytes:
    return pickle.PROTO + b"\x05" + b"".join(parts) + pickle.STOP


def called(function: bytes, *arguments: bytes) -> bytes:
    return function + pickle.MARK + b"".join(arguments) + pickle.TUPLE + pickle.REDUCE


def call(module: str, name: str, *arguments: str) -> bytes:
    return made(called(named(module, name), *map(text, arguments)))


ATTACKS = {
    "eval": call("builtins", "eval", "1"),
    "exec": call("builtins", "exec", "1"),
    "compile": call("builtins", "compile", "1", "x", "eval"),
    "open": call("builtins", "open", "/etc/passwd"),
    "input": call("builtins", "input", "x"),
    "__import__": call("builtins", "__import__", "antigravity"),
    "getattr": made(called(named("builtins", "getattr"), named("builtins", "str"), text("join"))),
    "getattr of an enum's class": made(
        called(named("builtins", "getattr"), named("storable", "Colour"), text("__subclasses__"))
    ),
    "setattr": made(
        called(named("builtins", "setattr"), named("builtins", "int"), text("a"), text("b"))
    ),
    "type": made(
        called(named("builtins", "type"), text("X"), pickle.EMPTY_TUPLE, pickle.EMPTY_DICT)
    ),
    "super": made(called(named("builtins", "super"), named("builtins", "int"), text("x"))),
    "map": made(called(named("builtins", "map"), named("builtins", "str"), text("abc"))),
    "property": made(called(named("builtins", "property"), named("builtins", "str"))),
    "memoryview": made(called(named("builtins", "memoryview"), text("abc"))),
    "classmethod": made(called(named("builtins", "classmethod"), named("builtins", "str"))),
    "os.system": call("os", "system", "true"),
    "posix.system": call("posix", "system", "true"),
    "subprocess": call("subprocess", "Popen", "true"),
    "subprocess of an allowed module": call("storable", "Popen", "true"),
    "partial of an allowed module": made(
        called(named("storable", "partial"), named("builtins", "str"))
    ),
    "function of an allowed module": made(called(named("storable", "function"))),
    "dotted name of a known module": call("builtins", "str.format", "{}"),
    "dotted name of an allowed module": made(called(named("storable", "Outer.Inner"))),
    "dotted path out of an allowed module": call("storable", "Popen.__init__.__globals__"),
    "dunder of a module": made(named("storable", "__builtins__")),
    "attribute of datetime": made(called(named("datetime", "datetime.now"))),
    "attribute of a path": call("pathlib", "Path.home"),
    "module of pathlib": made(named("pathlib", "os")),
    "sys.modules": made(named("sys", "modules")),
    "operator": call("operator", "attrgetter", "__class__"),
    "functools": made(called(named("functools", "partial"), named("builtins", "str"))),
    "copyreg": made(
        called(
            named("copyreg", "_reconstructor"),
            named("builtins", "int"),
            named("builtins", "object"),
            pickle.NONE,
        )
    ),
    "copyreg.__newobj__": made(called(named("copyreg", "__newobj__"), named("builtins", "int"))),
    "copyreg.add_extension": call("copyreg", "add_extension", "os", "system", "1"),
    "importlib": call("importlib", "import_module", "antigravity"),
    "runpy": call("runpy", "run_module", "antigravity"),
    "pickle.loads": call("pickle", "loads", "x"),
    "types.FunctionType": made(named("types", "FunctionType")),
    "types.CodeType": made(named("types", "CodeType")),
    "GLOBAL": made(b"cos\nsystem\n", b"(S'true'\ntR"),
    "INST": made(b"(S'true'\nios\nsystem\n"),
    "OBJ": made(b"(cos\nsystem\nS'true'\no"),
    "persistent id": made(text("x"), pickle.BINPERSID),
    "persistent id as text": made(b"Px\n"),
    "out-of-band buffer": made(b"\x97"),
    "a liar": made(called(named("storable", "Liar"))),
    "an odd home": made(called(named("storable", "OddHome"))),
    "state of an allowed class": made(
        named("storable", "Plain"),
        pickle.NONE + pickle.EMPTY_DICT + text("value") + named("builtins", "str"),
        pickle.SETITEM + pickle.TUPLE2 + pickle.BUILD,
    ),
    "state of a known class": made(
        named("fractions", "Fraction"),
        pickle.NONE + pickle.EMPTY_DICT + text("__add__") + named("builtins", "str"),
        pickle.SETITEM + pickle.TUPLE2 + pickle.BUILD,
    ),
    "state of a member": made(
        called(named("storable", "Colour"), pickle.BININT1 + b"\x01"),
        pickle.EMPTY_DICT + text("_value_") + text("x") + pickle.SETITEM + pickle.BUILD,
    ),
    "state of a function": made(
        named("builtins", "getattr"),
        pickle.EMPTY_DICT + text("x") + text("y") + pickle.SETITEM + pickle.BUILD,
    ),
    "items of a class": made(
        named("collections", "UserDict"), text("a") + text("b") + pickle.SETITEM
    ),
    "nothing": b"",
    "no end": made(pickle.NONE)[:-1],
    "garbage": b"\x80\x05\xff\xff",
    "an endless text": pickle.BINUNICODE + b"\xff\xff\xff\x7f" + b"a",
    "a newer protocol": b"\x80\x7f.",
}


@pytest.mark.parametrize("blob", ATTACKS.values(), ids=ATTACKS)
def test_an_attack_is_refused(blob: bytes) -> None:
    """Bytes that name a function, reach into objects or change a class are refused with a journal's
    error: nothing was imported, and no class is other than before.
    """
    kinds = (storable.Plain, storable.Colour, Fraction, collections.UserDict)
    before = [dict(vars(kind)) for kind in kinds]
    modules = set(sys.modules)
    for values in (ALLOWING, PLAIN):
        with pytest.raises(JournalError, match="recorded result cannot be loaded"):
            values.load(blob)
    assert set(sys.modules) == modules
    assert [dict(vars(kind)) for kind in kinds] == before
    assert storable.Colour.RED.value == 1


def test_an_attack_runs_nothing(tmp_path: Path) -> None:
    """While such bytes are loaded the process compiles, opens, imports and starts nothing."""
    blobs = tmp_path / "blobs.json"
    blobs.write_text(json.dumps([blob.hex() for blob in ATTACKS.values()]))
    with Program(
        blobs,
        """
        import json, storable
        from dagron.journal._values import Values
        values = Values(allow=["storable"])
        for module in ("zoneinfo", "pathlib", "uuid", "fractions", "decimal", "ipaddress"):
            __import__(module)
        blobs = [bytes.fromhex(blob) for blob in json.loads(Path(path).read_text())]
        seen = []
        def load(blob):
            try:
                values.load(blob)
            except JournalError:
                return
            seen.append("loaded")
        load(blobs[0])
        sys.addaudithook(lambda event, arguments: seen.append((event, arguments)))
        for blob in blobs:
            load(blob)
        harmless = ("pickle.find_class", "object.__getattr__")
        say([event for event in seen if event[0] not in harmless])
        """,
    ) as program:
        assert program.line() == "[]"


def test_the_attacks_would_work() -> None:
    """The attacks above are real: with trust=True such bytes do run."""
    assert TRUSTING.load(call("builtins", "eval", "40 + 2")) == 42
    got = TRUSTING.load(ATTACKS["state of an allowed class"])
    assert got is storable.Plain
    assert got.value is str
    del storable.Plain.value


def test_nothing_known_is_a_function() -> None:
    """What a pickle may name without allow= are classes and two constants; none of the classes
    calls what it is given, makes classes, or reaches into objects.
    """
    for module, name in KNOWN:
        if hasattr(__import__(module), name):
            found = resolve(module, name, frozenset())
            assert isinstance(found, type) or found in (..., NotImplemented)
            assert not (isinstance(found, type) and issubclass(found, type))
            assert "." not in name
    dangerous = "map filter zip enumerate reversed property classmethod staticmethod super type"
    assert not {("builtins", name) for name in dangerous.split()} & KNOWN


def test_a_number_for_a_name() -> None:
    """Numbers that stand for registered names are refused in storing and loading, also when the
    process has looked one up before and pickle would not ask again.
    """
    copyreg.add_extension("os", "getcwd", 200)
    copyreg.add_extension("storable", "Point", 201)
    try:
        for code, safe in ((200, os.getcwd), (201, storable.Point)):
            blob = made(pickle.EXT1 + bytes([code]))
            assert TRUSTING.load(blob) is safe  # now pickle keeps it
            for other in (blob, made(called(pickle.EXT1 + bytes([code])))):
                with pytest.raises(JournalError):
                    ALLOWING.load(other)
            both = made(named("builtins", "int"), pickle.POP, pickle.EXT2 + bytes([code, 0]))
            with pytest.raises(JournalError):
                ALLOWING.load(both)
        with pytest.raises(UnstorableError):
            PLAIN.dump(os.getcwd, "a")
        with pytest.raises(UnstorableError):
            ALLOWING.dump(storable.Point, "a")
    finally:
        copyreg.remove_extension("os", "getcwd", 200)
        copyreg.remove_extension("storable", "Point", 201)
        copyreg.clear_extension_cache()


def test_a_class_that_is_gone() -> None:
    """A value whose class was renamed is an error that says so."""
    with pytest.raises(JournalError, match="AttributeError"):
        ALLOWING.load(made(called(named("storable", "Renamed"))))
    with pytest.raises(JournalError, match="ModuleNotFoundError"):
        Values(allow=["nowhere"]).load(made(called(named("nowhere", "Thing"))))


def test_only_allowed_modules_are_imported() -> None:
    """A name of a module that is not allowed imports nothing, not even to look at it."""
    assert "antigravity" not in sys.modules
    with pytest.raises(JournalError):
        PLAIN.load(made(named("antigravity", "Thing")))
    assert "antigravity" not in sys.modules


@pytest.mark.skipif(PARIS is datetime.UTC, reason="this system has no time zones")
def test_a_zone_is_only_a_zone() -> None:
    """What makes a zone takes a key, and nothing that leads out of the zones."""
    zone = called(named("builtins", "getattr"), named("zoneinfo", "ZoneInfo"), text("_unpickle"))
    assert PLAIN.load(made(called(zone, text("UTC"), pickle.NEWFALSE))).key == "UTC"
    for key in ("../../etc/passwd", "/etc/passwd", "nowhere"):
        with pytest.raises(JournalError):
            PLAIN.load(made(called(zone, text(key), pickle.NEWTRUE)))
    with pytest.raises(_globals.RefusedError):
        resolve("builtins", "getattr", frozenset())(ZoneInfo, "from_file")


def test_every_member_is_found_by_its_name() -> None:
    """Some versions of Python store a member as an attribute of its class: that is found, and
    nothing else of the class.
    """
    of_class = called(named("builtins", "getattr"), named("storable", "Colour"), text("BLUE"))
    assert ALLOWING.load(made(of_class)) is storable.Colour.BLUE


def test_damaged_bytes_are_never_something_else_than_an_error() -> None:
    """Bytes with a flipped bit load as some value or fail with a journal's error, nothing else."""
    blob = ALLOWING.dump([storable.Point(1.5), {"a": PARIS}, (1, "x", b"y")], "a")
    for position in range(len(blob)):
        for bit in range(8):
            hurt = bytearray(blob)
            hurt[position] ^= 1 << bit
            if hurt[position] == pickle.BYTEARRAY8[0]:
                continue  # pickle reserves as much memory as it says, before it reads
            try:
                ALLOWING.load(bytes(hurt))
            except JournalError:
                pass


# --- errors in words -----------------------------------------------------------------------------


def failed(error: BaseException) -> BaseException:
    """The error, after it was raised."""
    try:
        raise error
    except BaseException as caught:
        return caught


def test_an_error_in_words() -> None:
    """An error is written down as its type, its text, its traceback and its notes."""
    error = failed(storable.AppError("no such customer", 7))
    error.add_note("while importing")
    row = json.loads(json.dumps(error_row(error)))
    assert row["type"] == "storable.AppError"
    assert row["text"] == "('no such customer', 7)"
    assert "in failed\n" in row["traceback"]
    assert row["traceback"].endswith("while importing\n")
    assert row["notes"] == ["while importing"]
    assert error_row(ValueError())["type"] == "ValueError"


def test_a_recorded_error_tells_it() -> None:
    """What stands for the error later has its words, and reads like it."""
    error = recorded_error(error_row(failed(ValueError("bad"))))
    assert isinstance(error, RecordedError)
    assert (str(error), error.type_name, error.text) == ("ValueError: bad", "ValueError", "bad")
    assert "in failed" in error.traceback_text
    assert error.notes == ()
    assert str(recorded_error(error_row(KeyError()))) == "KeyError"
    back = pickle.loads(pickle.dumps(error))
    assert (str(back), vars(back)) == (str(error), vars(error))


class Hostile(Exception):
    """Raises whatever it is asked."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("no attributes")


class Odd(Exception):
    def __str__(self) -> str:
        return Text("odd")


class Text(str):
    def __getitem__(self, index: Any) -> Any:
        raise RuntimeError("no parts")

    def __len__(self) -> int:
        return -1


def noted(notes: object) -> Exception:
    error = ValueError("x")
    error.__notes__ = notes  # type: ignore[assignment]
    return error


def circular() -> Exception:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    return one


def deep() -> Exception:
    error = ValueError("innermost")
    for _ in range(5_000):
        error, inner = ValueError("outer"), error
        error.__cause__ = inner
    return error


HOSTILE: dict[str, Callable[[], BaseException]] = {
    "raises": Hostile,
    "odd text": Odd,
    "notes that are none": lambda: noted(7),
    "some notes": lambda: noted([1, "b", Text("c")]),
    "a circle": circular,
    "a long chain": deep,
    "a group": lambda: ExceptionGroup("several", [Hostile(), ValueError()]),
    "syntax": lambda: SyntaxError("x", ("f", 1, 10**9, "text")),
    "unicode": lambda: UnicodeDecodeError("utf8", b"x", 0, 1, "r"),
    "exit": SystemExit,
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_error_is_written_down(make: Callable[[], BaseException]) -> None:
    """Whatever an error does when it is asked for its text, there are words for it."""
    row = error_row(make())
    assert type(row["text"]) is str
    assert all(type(note) is str for note in row["notes"])
    assert row["type"]
    assert isinstance(recorded_error(json.loads(json.dumps(row))), RecordedError)


def test_a_long_error_is_cut() -> None:
    """Of a long text both ends are kept, and a traceback is cut to some kilobytes."""

    def dive(depth: int) -> None:
        if not depth:
            raise ValueError("first" + "x" * 100_000 + "last")
        dive(depth - 1)

    try:
        dive(200)
    except ValueError as caught:
        caught.__notes__ = ["n" * 10_000] * 100
        row = error_row(caught)
    assert row["text"].startswith("first")
    assert row["text"].endswith("last")
    assert len(json.dumps(row)) < 120_000
    assert len(row["traceback"]) < 9_000
    assert len(row["notes"]) == 20
