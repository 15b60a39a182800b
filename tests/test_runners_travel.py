"""What travels, and what is done with it at a worker: driven here, without any."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest

import dagron
from away import HAS, VARIABLE, Odd, boom, missing, one, two
from dagron import Cancelled, NotAwaitedError, NotPicklableError
from dagron._runner import Call, Result
from ways import GUARD

pytestmark = missing("process")
if HAS["process"]:
    from dagron.runners import _worker
    from dagron.runners._pickles import dumped, loaded, portable
    from dagron.runners._travel import Host, packed, perform

MODULE: ContextVar[int] = ContextVar("MODULE")


def call(function: Any, *arguments: Any, **keywords: Any) -> Call:
    return Call(function, arguments, keywords, "run", "a", 1, {}, 0, None, SimpleNamespace())  # type: ignore[arg-type]


def made(
    function: Any,
    *arguments: Any,
    values: Any = (),
    told: Any = None,
    is_cancelled: Any = None,
    carry: Any = (),
    **keywords: Any,
) -> Any:
    """What a worker makes of a call."""
    pickled, _ = packed(call(function, *arguments, **keywords), "asyncio", carry)
    host = Host(lambda *numbers: told.append(numbers), is_cancelled)
    value, seconds = perform(pickled, values, host, "the worker", portable)
    assert seconds >= 0
    return value


def test_a_call_arrives_as_it_was_sent() -> None:
    """Function, arguments and keywords, sync or async."""
    assert made(lambda a, *, b: (a, b), 1, b=2) == (1, 2)
    assert made(two) == 2
    assert made(lambda: two()) == 2


def test_results_that_are_kept_come_by_themselves() -> None:
    """In place of each, once however often it is used, comes its value; in a dict of them, too."""
    kept, other = Result(None), Result(None)  # type: ignore[arg-type]
    sent = call(lambda a, b, inputs: 0, kept, kept, {"x": other, "y": 5, "z": kept})
    pickled, results = packed(sent, "asyncio", ())
    assert results == [kept, other]
    assert len(pickled) < 2000

    sent = call(lambda *given, **more: (given, more), kept, {"x": other, "y": 5}, z=kept)
    pickled, _ = packed(sent, "asyncio", ())
    value, _ = perform(pickled, ["k", "o"], Host(print), "there", portable)
    assert value == (("k", {"x": "o", "y": 5}), {"z": "k"})


def test_each_call_has_a_context_of_its_own() -> None:
    """The variables that are carried are set, those without a value are not, and none stays set."""

    def change() -> Any:
        seen = VARIABLE.get(), MODULE.get("unset")
        VARIABLE.set("changed")
        return seen

    def send() -> bytes:
        VARIABLE.set("somebody")
        return packed(call(change), "asyncio", [VARIABLE, MODULE])[0]

    pickled = Context().run(send)
    for _ in range(2):
        value, _ = perform(pickled, (), Host(print), "there", portable)
        assert value == ("somebody", "unset")
    assert VARIABLE.get() == "nobody"


def test_progress_and_cancellation_are_those_of_the_worker() -> None:
    """`progress` tells the host, and `check_cancelled` asks it, with or without an answer."""
    told: list[Any] = []

    def work() -> str:
        dagron.progress(1, 2, "half")
        dagron.check_cancelled()
        return "done"

    assert made(work, told=told) == made(work, told=told, is_cancelled=lambda: False) == "done"
    assert told == [(1, 2, "half")] * 2
    with pytest.raises(Cancelled):
        made(work, told=told, is_cancelled=lambda: True)


def test_an_async_task_is_stopped_when_it_is_to_stop() -> None:
    """It is cancelled, cleans up, and Cancelled is raised; what it raises before that counts."""
    cleaned = []

    async def sleep() -> None:
        import anyio

        try:
            await anyio.sleep_forever()
        finally:
            cleaned.append(True)

    parts = Context().run(lambda: (sleep, cleaned))
    with pytest.raises(Cancelled):
        made(lambda: parts[0](), is_cancelled=lambda: True)

    async def fail() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        made(fail, is_cancelled=lambda: False)
    with pytest.raises(SystemExit):
        made(fail)


def test_a_coroutine_that_nobody_awaited_is_refused() -> None:
    """An async task that returns one has not done its work."""

    async def forgetful() -> Any:
        return two()

    with pytest.raises(NotAwaitedError):
        made(forgetful)


def test_an_error_has_a_note_of_where_it_was_raised() -> None:
    """The note has the worker and the line; the frames of this package are left out."""
    with pytest.raises(ValueError, match="boom") as caught:
        made(boom)
    [note] = caught.value.__notes__
    assert note.startswith("raised at the worker:\nTraceback")
    assert "in boom" in note
    assert "dagron/runners" not in note


def test_what_cannot_travel_is_named() -> None:
    """The task, an argument, a variable, the result, the error: which of them, and why."""
    lock = threading.Lock()
    variable: ContextVar[Any] = ContextVar("variable")
    token = variable.set(lock)

    def fail() -> None:
        raise Odd(1, 2)

    cases: list[tuple[str, Any]] = [
        ("its task", lambda: made(lambda: lock)),
        ("the argument 2", lambda: made(max, 1, lock)),
        ("the argument 'key'", lambda: made(max, 1, key=lock)),
        ("the context variable 'variable'", lambda: made(one, carry=[variable])),
        ("its result", lambda: made(threading.Lock)),
        ("its error (Odd: 1 and 2)", lambda: made(fail)),
    ]
    for what, attempt in cases:
        with pytest.raises(NotPicklableError, match="cannot be pickled") as caught:
            attempt()
        assert caught.value.what == what
        assert caught.value.node == "a"
        help = "write a __reduce__" if what.startswith("its error") else "inside the task"
        assert help in str(caught.value)
        assert f"{what}, of type" in str(caught.value)
    variable.reset(token)


def test_an_error_that_comes_back_as_another_is_refused() -> None:
    """An error whose reduction makes something else of it is told by its text."""

    class Turning(Exception):
        def __reduce__(self) -> Any:
            return ValueError, ("another",)

    def fail() -> None:
        raise Turning("this one")

    with pytest.raises(NotPicklableError, match="Turning: this one"):
        made(fail)


def test_what_cannot_be_loaded_is_named() -> None:
    """A pickle that fails to load says what is missing, and where."""
    with pytest.raises(NotPicklableError, match="could not be unpickled at the worker") as caught:
        perform(b"nonsense", (), Host(print), "the worker", portable)
    assert caught.value.what == "its call"


def test_a_body_may_rest_where_nobody_counts() -> None:
    """What a run would do for a node at a gate, a worker need not."""
    host = Host(print)
    assert host.groups_of("a") == ()
    assert not host.is_own_task()
    assert host.deadline("a") == float("inf")
    assert host.rest("a") is None


# --- context variables in pickles -----------------------------------------------------------------


def test_a_variable_of_a_module_is_that_of_the_module() -> None:
    """It is found by its module and name, also from inside of a function."""
    assert loaded(dumped(VARIABLE)) is VARIABLE
    assert loaded(dumped(lambda: VARIABLE))() is VARIABLE


def test_a_variable_of_no_module_is_one_and_the_same() -> None:
    """It comes back as itself; elsewhere one is made for it, once, with its default."""
    loose: ContextVar[int] = ContextVar("loose", default=5)
    assert loaded(dumped(loose)) is loose
    from dagron.runners import _pickles

    there = _pickles._makeshift("token", "loose", 5)
    assert there is _pickles._makeshift("token", "loose", 5)
    assert there.get() == 5
    assert loaded(dumped(there)) is there
    with pytest.raises(LookupError):
        _pickles._makeshift("another", "bare").get()
    assert loaded(dumped(ContextVar("bare"))).name == "bare"


def test_large_buffers_are_not_copied_to_see_that_they_can_travel() -> None:
    """Whether a value is portable is found out without its buffers."""
    import pickle

    class Large:
        def __reduce_ex__(self, protocol: int) -> Any:
            return bytes, (pickle.PickleBuffer(blob),)

    blob = bytearray(1000)
    value = Large()
    assert portable(value) is value


# --- a worker process, as it sees itself --------------------------------------------------------


@contextmanager
def worker() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """A worker that serves two pipes in a thread: to send it commands, and to read its replies."""
    (commands, send), (receive, replies) = os.pipe(), os.pipe()
    there = _worker.Worker(os.fdopen(commands, "rb"), os.fdopen(replies, "wb"))
    thread = threading.Thread(target=there.serve)
    thread.start()
    with os.fdopen(receive, "rb") as reading:
        with os.fdopen(send, "wb") as sending:
            yield sending, reading
        thread.join(GUARD)
    there._replies.close()
    there._commands.close()
    assert not thread.is_alive()


def reply(reading: BinaryIO) -> tuple[bytes, bytes]:
    kind, length = _worker.HEADER.unpack(reading.read(_worker.HEADER.size))
    return kind, reading.read(length)


def test_a_worker_makes_one_call_after_another() -> None:
    """It is ready, tells progress and outcome of each call, and ends when its pipe is closed."""

    def work() -> str:
        dagron.progress(1)
        return "value"

    with worker() as (sending, reading):
        assert reply(reading) == (_worker.READY, b"")
        for task in (work, boom):
            pickled, _ = packed(call(task), "asyncio", ())
            sending.write(_worker.HEADER.pack(_worker.CALL, len(pickled)) + pickled)
            sending.flush()
            kind, content = reply(reading)
            if kind == _worker.PROGRESS:
                assert loaded(content) == (1.0, None, "")
                kind, content = reply(reading)
                assert kind == _worker.VALUE
                assert loaded(content[_worker.SECONDS.size :]) == "value"
            else:
                assert kind == _worker.ERROR
                assert isinstance(loaded(content[_worker.SECONDS.size :]), ValueError)


# --- a worker of Dask ----------------------------------------------------------------------------


class DaskWorker:
    """What a body may ask the Dask worker on which it runs."""

    address = "tcp://there"

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.task = SimpleNamespace(state="executing")
        self.state = SimpleNamespace(tasks={"key": self.task}, all_running_tasks={id(self.task)})

    def get_current_task(self) -> str:
        return "key"

    def log_event(self, topic: str, message: Any) -> None:
        self.told.append((topic, *message))


@pytest.fixture
def dask_worker(monkeypatch: pytest.MonkeyPatch) -> DaskWorker:
    at_dask = pytest.importorskip(
        "dagron.runners._at_dask", reason="the extra 'dask' is not installed"
    )
    there = DaskWorker()
    monkeypatch.setattr(at_dask, "get_worker", lambda: there)
    return there


def test_a_body_at_dask_tells_of_itself(dask_worker: DaskWorker) -> None:
    """That it began and where, and its progress; its end only if nobody waits for its outcome."""
    from dagron.runners import _at_dask

    def work(a: int) -> int:
        dagron.progress(a)
        return a

    pickled, _ = packed(call(work, 3), "asyncio", ())
    assert _at_dask.call(b"topic", pickled) == 3
    assert dask_worker.told == [
        ("topic", "began", "key", "tcp://there"),
        ("topic", "progress", "key", 3.0, None, ""),
    ]


def test_an_error_at_dask_is_carried(dask_worker: DaskWorker) -> None:
    """It comes as one that Dask can pickle whatever it is, without a context."""
    from dagron.runners import _at_dask

    pickled, _ = packed(call(boom), "asyncio", ())
    with pytest.raises(_at_dask.Carried, match="ValueError: boom") as caught:
        _at_dask.call(b"topic", pickled)
    assert isinstance(loaded(caught.value.pickled), ValueError)
    assert caught.value.__context__ is None
    assert loaded(dumped(caught.value)).text == "ValueError: boom"


def test_a_call_at_dask_that_is_cancelled_by_then_does_not_begin(dask_worker: DaskWorker) -> None:
    """A key that the worker was told to forget is not called."""
    from dagron.runners import _at_dask

    dask_worker.task.state = "cancelled"
    pickled, _ = packed(call(one), "asyncio", ())
    with pytest.raises(_at_dask.Carried, match="Cancelled"):
        _at_dask.call(b"topic", pickled)
    assert dask_worker.told == []


def test_a_body_at_dask_that_goes_on_tells_of_its_end(dask_worker: DaskWorker) -> None:
    """One that was cancelled meanwhile says when it has ended."""
    from dagron.runners import _at_dask

    def cancel() -> None:
        from dagron.runners._at_dask import get_worker

        get_worker().task.state = "cancelled"

    _at_dask.call(b"topic", packed(call(cancel), "asyncio", ())[0])
    assert [told[1] for told in dask_worker.told] == ["began", "ended"]
