"""`progress=True`: what is shown of a run, where, and that the run does not notice."""

import asyncio
import io
import logging
import re
import signal
import sys
import threading
from importlib.util import find_spec
from typing import Any

import anyio
import pytest

import dagron
from dagron import DAG, DynamicExecutor, DynamicNodeSpec, MissingExtraError
from dagron._showing import MOST_LINES, Lines, Screen, Showing, showing
from terminals import Broken, Clock, Noted, Stopped, Terminal
from ways import GUARD, Way, adding, chain, nothing

NEEDS_RICH = pytest.mark.skipif(
    not find_spec("rich"), reason="the extra 'progress' is not installed"
)


@pytest.fixture(autouse=True)
def no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own environment is that of a person at a terminal."""
    for name in ("CI", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def growing() -> tuple[DynamicExecutor, dict[str, Any]]:
    """A run in which a node adds one that fails."""
    executor = DynamicExecutor(
        chain("find", "total"), {"find": adding(DynamicNodeSpec("x", fail, ["find"], ["total"]))}
    )
    return executor, {"find": nothing, "total": nothing}


def fail() -> None:
    raise ValueError("[red]wrong[/red]")


def no_thread_is_left() -> bool:
    return all(thread.name != "dagron progress" for thread in threading.enumerate())


# --- where it is shown ----------------------------------------------------------------------------


def test_a_stderr_that_is_no_terminal_stays_silent(
    execute: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Into a file or a pipe nothing is written, not even a summary, and rich is not asked for."""
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    executor, tasks = growing()
    assert execute(executor, tasks, progress=True).failed == 1
    assert stream.getvalue() == ""
    monkeypatch.setenv("TERM", "dumb")
    execute(executor, tasks, progress=True)
    assert stream.getvalue() == ""


@pytest.mark.parametrize("ci", ["1", "true"])
def test_ci_gets_a_plain_line_per_change_and_the_summary(
    execute: Way, monkeypatch: pytest.MonkeyPatch, ci: str
) -> None:
    """With CI in the environment, text without control characters, in order, and rich is not
    needed, whatever stderr is.
    """
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    executor, tasks = growing()
    result = execute(executor, tasks, progress=True)
    lines = stream.getvalue().splitlines()
    assert all(line.isprintable() for line in lines)
    assert [line.partition("] ")[2].partition(" in ")[0] for line in lines[1:7]] == [
        "'find' started",
        "'find' added 1 node: 'x'",
        "'find' completed",
        "'x' started",
        "'x' failed: ValueError: [red]wrong[/red]",
        "'total' skipped because 'x' failed",
    ]
    assert stream.getvalue().endswith(f"{result.summary()}\n")
    assert no_thread_is_left()


def test_a_dumb_terminal_gets_plain_lines(execute: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal on which nothing can be drawn gets the same text."""
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setenv("TERM", "dumb")
    executor, tasks = growing()
    execute(executor, tasks, progress=True)
    assert "'x' started\n" in terminal.getvalue()
    assert "\x1b" not in terminal.getvalue()


@pytest.mark.parametrize("ci", ["", "0", "false", "False"])
def test_a_ci_that_says_no_is_none(ci: str) -> None:
    """CI=0 and CI=false are no CI."""
    assert showing(io.StringIO(), {"CI": ci}) is None


def test_no_stderr_at_all_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program without stderr, or whose stderr is closed, is silent."""
    closed = Terminal()
    closed.isatty = io.StringIO().isatty  # type: ignore[method-assign]
    closed.close()
    real = io.StringIO()
    real.close()
    monkeypatch.setattr(sys, "stderr", None)
    assert showing(None, {}) is None
    assert showing(None, {"CI": "1"}) is None
    assert showing(real, {}) is None


def test_without_rich_it_is_said_what_to_type(
    execute: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal without rich, an error names the extra before anything has run."""
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.delitem(sys.modules, "dagron._rich", raising=False)
    began: list[int] = []
    with pytest.raises(MissingExtraError, match=r'pip install "dagron\[progress\]"') as caught:
        execute(DynamicExecutor(chain("a")), {"a": lambda: began.append(1)}, progress=True)
    assert caught.value.extra == "progress"
    assert isinstance(caught.value, (dagron.DagronError, ImportError))
    assert began == []
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("progress", [1, None, "rich", dagron.progress])
def test_progress_is_true_or_false(execute: Way, progress: Any) -> None:
    """Anything else is refused before anything has run."""
    with pytest.raises(TypeError, match="progress is True or False"):
        execute(DynamicExecutor(chain("a")), {"a": nothing}, progress=progress)


# --- what a terminal shows ------------------------------------------------------------------------


@NEEDS_RICH
def test_a_terminal_shows_the_run_and_then_the_summary(
    execute: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was drawn is taken away at the end, the cursor is back, and the summary stays."""
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    stderr, stdout = sys.stderr, sys.stdout
    executor, tasks = growing()
    result = execute(executor, tasks, progress=True)
    assert terminal.getvalue().endswith(f"{result.summary()}\n")
    assert terminal.getvalue().count("\x1b[?25l") == terminal.getvalue().count("\x1b[?25h") == 1
    assert (sys.stderr, sys.stdout) == (stderr, stdout)
    assert result.dropped_observers == 0
    assert no_thread_is_left()


@NEEDS_RICH
def test_a_line_per_family() -> None:
    """Families with their counts, running nodes, the last failure and the time, as text."""
    from rich.console import Console

    from dagron._rich import Drawing
    from test_tracking import Told

    told = Told("find", "total")
    told.complete("find")
    told.add("find", "[bold]a[/bold]", "b", "c", "d")
    told(dagron.NodeStarted, "[bold]a[/bold]")
    told(dagron.NodeFailed, "[bold]a[/bold]", 1, 0.1, "ValueError: [/red]\x1b[2J\nx")
    for name in "bc":
        told(dagron.NodeStarted, name)
    told.complete("d")
    told.add("b", *map(str, range(1_234)))
    stream = Terminal()
    console = Console(
        file=stream, width=100, height=40, force_terminal=True, color_system=None, _environ={}
    )
    console.print(Drawing(stream, console).picture([(told.tracking, 3723.9)]))
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    assert lines[0] == "3 of 1,240 nodes  1:02:03"
    assert [
        (line.split("━")[0].split("╸")[0].strip(), line.split()[-1]) for line in lines[1:3]
    ] == [
        ("the graph", "1/2"),
        ("added by 'find'", "failed"),
    ]
    assert lines[2].endswith("2/4  2 running, 1 failed")
    assert lines[3].endswith("0/1,234")
    assert lines[4] == "  running: 'b', 'c'"
    assert lines[5] == "  last failure: '[bold]a[/bold]': ValueError: [/red] [2J x"
    assert len(lines) == 6


@NEEDS_RICH
@pytest.mark.parametrize(("width", "height"), [(200, 50), (80, 24), (30, 10), (10, 3)])
def test_it_fits_the_terminal(width: int, height: int) -> None:
    """However many families and however small the terminal, no line is wrapped; of two runs, each
    has its id.
    """
    from rich.console import Console

    from dagron._rich import Drawing
    from test_tracking import Told

    told = Told("a")
    for number in range(50):
        told.add(f"adder {number} {'x' * 100}", f"child {number} {'y' * 100}")
        told(dagron.NodeStarted, f"child {number} {'y' * 100}")
    told(dagron.NodeFailed, f"child 7 {'y' * 100}", 1, 0.0, "z" * 500)
    stream = Terminal()
    console = Console(file=stream, width=width, height=height, force_terminal=True, _environ={})
    drawing = Drawing(stream, console)
    for runs in (1, 2):
        rows = console.render_lines(drawing.picture([(told.tracking, 1.0)] * runs), pad=False)
        assert all(sum(segment.cell_length for segment in row) <= width for row in rows)
        assert len(rows) <= max(runs * 6, height - 1)
    assert "run run" in "".join(segment.text for segment in rows[0])[:width] or width < 10


@NEEDS_RICH
def test_what_the_program_prints_appears_above(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole lines appear at once, the beginning of one when it is flushed or the run ends, all in
    order and unchanged.
    """
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())

    def talk() -> None:
        print("one", "\x1b[1mtwo\x1b[0m", file=sys.stderr)
        print("[red]begun", end="", file=sys.stderr)
        assert sys.stderr.write(" ended\nrest") == 11
        sys.stderr.flush()
        sys.stderr.writelines(["a\n", "left"])
        assert sys.stderr.isatty()

    kept = []

    def look() -> None:
        kept.append(sys.stderr)

    result = DynamicExecutor(chain("talk", "look")).execute_sync(
        {"talk": until_drawn(terminal, talk), "look": look}, progress=True
    )
    assert result.ok, result.summary()
    shown = terminal.getvalue()
    places = [
        shown.index(text)
        for text in ("one \x1b[1mtwo\x1b[0m", "[red]begun ended", "rest", "a", "left")
    ]
    assert places[:3] == sorted(places[:3])
    assert shown.index("left") < shown.index(result.summary())
    kept[0].write("later")
    assert terminal.getvalue().endswith("later")


def until_drawn(terminal: Terminal, task: Any) -> Any:
    """The task, called when the terminal shows something."""

    def wait_and_call() -> None:
        end = threading.Event()
        for _ in range(10_000):
            if type(sys.stderr) is not Terminal:
                break
            end.wait(0.001)
        task()

    return wait_and_call


# --- when it is shown -----------------------------------------------------------------------------


def test_it_is_drawn_by_time() -> None:
    """What is drawn has the seconds since the run began, and goes on while nothing happens."""
    clock, surface = Clock(), Noted()

    def work() -> None:
        surface.wait_for(0.0)
        clock.now += 61
        surface.wait_for(61.0)

    result = run_shown(Showing(surface, Terminal(), clock), {"work": work})
    assert result.ok
    assert surface.calls == ["open", "close"]
    assert surface.lines == [result.summary()]


def run_shown(shown: Showing, tasks: dict[str, Any], **options: Any) -> dagron.ExecutionResult:
    """Run these nodes, shown like that."""
    dag = DAG.builder()
    for name in tasks:
        dag.add_node(name)
    executor = DynamicExecutor(dag.build(), observers=shown.observers, **options)
    with shown:
        shown.result = executor.execute_sync(tasks)
    return shown.result


def test_ten_thousand_events_are_few_drawings() -> None:
    """How often is drawn does not depend on how much happens."""
    surface = Noted()
    tasks = {f"n{number}": nothing for number in range(3_000)}
    assert run_shown(Showing(surface, Terminal()), tasks).succeeded == 3_000
    assert len(surface.elapsed) < 300


async def test_runs_at_once_share_one_screen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Runs on one stream are shown by one thread; their lines say of which run they are."""
    monkeypatch.setenv("CI", "1")
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    inside = 0
    both = anyio.Event()
    threads = []

    async def meet() -> None:
        nonlocal inside
        inside += 1
        threads.append([t.name for t in threading.enumerate()].count("dagron progress"))
        if inside == 2:
            both.set()
        await both.wait()

    executor = DynamicExecutor(chain("meet"))
    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(lambda: executor.execute({"meet": meet}, progress=True))
    assert max(threads) == 1
    lines = stream.getvalue().splitlines()
    ids = {line.split()[3] for line in lines if " started: " in line and line.startswith("[")}
    assert len([line for line in lines if line.endswith("1 node in") or "1 succeeded" in line]) >= 2
    assert any(line.split()[0] not in ("[", *ids) for line in lines)
    assert no_thread_is_left()


STARTED = re.compile(r"run (\S+) started")


async def test_runs_that_were_shown_at_once_keep_their_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the other run has ended, the lines of one have its id all the same, and so has each of
    the summaries; a run that begins after both is alone again.
    """
    monkeypatch.setenv("CI", "1")
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    begun, over = anyio.Event(), anyio.Event()

    async def first() -> None:
        begun.set()
        await over.wait()

    async def run(name: str, task: Any) -> dagron.ExecutionResult:
        executor = DynamicExecutor(chain(name, f"{name} again"))
        tasks = {name: task, f"{name} again": nothing}
        return await executor.execute(tasks, progress=True)

    async def second() -> None:
        await begun.wait()
        results["second"] = await run("second", nothing)
        over.set()

    results = {}
    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as group:
            group.start_soon(second)
            results["first"] = await run("first", first)
        shown = stream.getvalue()
        await run("third", nothing)
    ids = dict(zip(("first", "second", "third"), STARTED.findall(stream.getvalue()), strict=True))
    lines = shown.splitlines()
    later = lines[next(n for n, line in enumerate(lines) if "'first' completed" in line) :]
    assert any("'first again' completed" in line for line in later)
    of_first = [line for line in later if "'first" in line and "]" in line]
    assert all(line.startswith(f"{ids['first']} [") for line in of_first)
    for name, result in results.items():
        assert f"\n{ids[name]} {result.summary()}\n" in shown
    assert f"\n{ids['third']}" not in stream.getvalue()


@NEEDS_RICH
async def test_runs_at_once_are_drawn_one_under_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that begins while another is drawn on the terminal is drawn with it; both summaries
    stay, and stderr is what it was.
    """
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    begun, over = anyio.Event(), anyio.Event()
    results = []

    async def first() -> None:
        while type(sys.stderr) is Terminal:
            await anyio.lowlevel.checkpoint()
        begun.set()
        await over.wait()

    async def second() -> None:
        await begun.wait()
        executor = DynamicExecutor(chain("second"))
        results.append(await executor.execute({"second": fail}, progress=True))
        over.set()

    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as group:
            group.start_soon(second)
            executor = DynamicExecutor(chain("first"))
            results.append(await executor.execute({"first": first}, progress=True))
    shown = terminal.getvalue()
    assert all(result.summary() in shown for result in results)
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1
    assert sys.stderr is terminal
    assert no_thread_is_left()


# --- the run does not notice ----------------------------------------------------------------------


@pytest.mark.parametrize("ci", [pytest.param("", marks=NEEDS_RICH), "1"])
def test_a_terminal_that_is_gone_harms_nothing(
    execute: Way, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, ci: str
) -> None:
    """A stderr that raises is logged once; the run and its result are as without."""
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(sys, "stderr", Broken())
    executor, tasks = growing()
    with caplog.at_level(logging.ERROR, "dagron"):
        result = execute(executor, tasks, progress=True)
    assert (result.succeeded, result.failed, result.skipped) == (1, 1, 1)
    assert [record.message.count("gone") for record in caplog.records] == [1]
    assert no_thread_is_left()


def test_a_surface_that_breaks_on_the_way_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    """It is dropped as any observer that raises, and counted; there is no summary then."""

    class Breaking(Noted):
        def draw(self, runs: Any) -> None:
            raise RuntimeError("torn")

    surface = Breaking()
    shown = Showing(surface, Terminal())

    def wait() -> None:
        assert shown._screen is not None
        shown._screen._thread.join(GUARD)

    with caplog.at_level(logging.ERROR, "dagron"):
        result = run_shown(shown, {"wait": wait})
    assert result.ok
    assert result.dropped_observers == 1
    assert surface.lines == []
    assert surface.calls == ["open", "close"]
    assert [record.message for record in caplog.records] == [
        "an observer raised and was dropped: RuntimeError: torn"
    ]


def test_a_terminal_that_takes_nothing_holds_up_no_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """After Ctrl-S, all nodes run; only the end waits, and not for ever."""
    monkeypatch.setattr("dagron._showing.GRACE", 0.0)
    stream = Stopped()
    shown = Showing(Lines(stream), stream)

    def wait() -> None:
        assert stream.reached.wait(GUARD)

    result = run_shown(shown, {"wait": wait, **{f"n{n}": nothing for n in range(100)}})
    assert result.succeeded == 101
    stream.go_on.set()
    assert shown._screen is not None
    shown._screen._thread.join(GUARD)
    assert stream.getvalue().endswith(f"{result.summary()}\n")


def test_what_waits_to_be_written_is_bounded() -> None:
    """Lines that nobody takes are left out past some number, and it is said how many."""
    surface = Noted()
    screen = Screen(surface, Terminal())
    for number in range(MOST_LINES + 5):
        screen.post(str(number))
    screen.tick()
    assert len(surface.lines) == MOST_LINES + 1
    assert surface.lines[-1] == "5 lines were left out here: nobody read fast enough"
    screen.tick()
    assert len(surface.lines) == MOST_LINES + 1


async def test_a_cancelled_run_is_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the caller is cancelled, the thread ends, and a line tells of the end."""
    monkeypatch.setenv("CI", "1")
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    began = anyio.Event()

    async def wait() -> None:
        began.set()
        await anyio.sleep_forever()

    async def cancel() -> None:
        await began.wait()
        scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(cancel)
        with anyio.CancelScope() as scope:
            await DynamicExecutor(chain("wait")).execute({"wait": wait}, progress=True)
    assert scope.cancelled_caught
    last = stream.getvalue().splitlines()[-1]
    assert last.endswith(": the run was cancelled; nodes: 1 cancelled")
    assert no_thread_is_left()


@NEEDS_RICH
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_ctrl_c_leaves_the_terminal_as_it_was(
    monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """The cursor is back, no thread is left, and KeyboardInterrupt is raised."""
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())

    async def interrupt() -> None:
        signal.raise_signal(signal.SIGINT)
        await anyio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        DynamicExecutor(chain("a")).execute_sync({"a": interrupt}, backend=backend, progress=True)
    shown = terminal.getvalue()
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l")
    assert "the run was cancelled; nodes: 1 cancelled" in shown
    assert type(sys.stderr) is Terminal
    assert no_thread_is_left()


def test_a_run_that_is_refused_shows_nothing(execute: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is raised before anything runs leaves stderr alone."""
    monkeypatch.setenv("CI", "1")
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    with pytest.raises(dagron.MissingTaskError):
        execute(DynamicExecutor(chain("a")), {}, progress=True)
    assert stream.getvalue() == ""
    assert no_thread_is_left()


def test_a_thread_that_cannot_start_harms_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a thread to show it, the run goes on unseen."""
    monkeypatch.setattr(Screen, "add", lambda screen, run: 1 / 0)
    result = run_shown(Showing(Noted(), Terminal()), {"a": nothing})
    assert result.ok
    assert result.dropped_observers == 1


async def test_the_event_loop_is_not_what_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """All writing is done in a thread of its own."""
    monkeypatch.setenv("CI", "1")
    writers = set()

    class Watched(io.StringIO):
        def write(self, text: str) -> int:
            writers.add(threading.current_thread().name)
            return super().write(text)

    monkeypatch.setattr(sys, "stderr", Watched())
    await DynamicExecutor(chain("a", "b")).execute({"a": nothing, "b": nothing}, progress=True)
    assert writers == {"dagron progress"}


def test_other_observers_hear_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Observers of the executor are called beside it, and for runs that are not shown, too."""
    monkeypatch.setenv("CI", "1")
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    kinds: list[str] = []
    executor = DynamicExecutor(chain("a"), observers=[lambda event: kinds.append(event.kind)])
    asyncio.run(executor.execute({"a": nothing}, progress=True))
    once = kinds.copy()
    executor.execute_sync({"a": nothing})
    assert kinds == once * 2
    assert once[0] == "run_started"
    assert once[-1] == "run_finished"
