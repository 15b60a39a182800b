"""`result.to_timeline_svg()`: a run over time, each node a bar in a lane."""

import re
import subprocess
import sys
from collections.abc import Iterable
from itertools import combinations, pairwise
from typing import Any, NamedTuple
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagron import (
    DAG,
    DynamicExecutor,
    DynamicNodeSpec,
    ExecutionResult,
    NodePolicy,
    NodeResult,
    NodeStatus,
    Retry,
)
from dagron._history import EdgeChange, History, How
from dagron._times import Landing, Times
from dagron.render import _timeline_plan as plan
from dagron.render._course import Work, course_of
from dagron.render._packing import packed
from dagron.render._ticks import ticks
from pictures import HOSTILE, SVG, read_svg, texts_in, title_of
from ways import adding, nothing

COMPLETED, FAILED, SKIPPED, CANCELLED = (
    NodeStatus.COMPLETED,
    NodeStatus.FAILED,
    NodeStatus.SKIPPED,
    NodeStatus.CANCELLED,
)
BEGAN = 1_000.0  # of the runs that are made by hand


class Bar(NamedTuple):
    """What is drawn of a node; its stretches by their kinds, that of the task is ""."""

    classes: set[str]
    status: str
    title: str
    stretches: dict[str, list[tuple[int, int]]]
    top: int

    @property
    def extent(self) -> tuple[int, int]:
        both = [end for kind, of in self.stretches.items() if kind != "critical" for end in of]
        return min(left for left, _ in both), max(right for _, right in both)


def bars_in(root: ElementTree.Element) -> dict[str, Bar]:
    """The bars by the names of their nodes."""
    bars = {}
    for group in root.iter(f"{SVG}g"):
        if "data-node" not in group.attrib:
            continue
        stretches: dict[str, list[tuple[int, int]]] = {}
        tops = {}
        for rect in group.iter(f"{SVG}rect"):
            kind = rect.attrib.get("class", "")
            left, wide = int(rect.attrib["x"]), int(rect.attrib["width"])
            stretches.setdefault(kind, []).append((left, left + wide))
            tops[kind] = int(rect.attrib["y"])
        name = group.attrib["data-node"]
        assert name not in bars
        status = group.attrib["data-status"]
        classes = set(group.attrib["class"].split())
        bars[name] = Bar(classes, status, title_of(group), stretches, tops[""])
    return bars


def shown(result: ExecutionResult) -> dict[str, Bar]:
    return bars_in(read_svg(result.to_timeline_svg()))


def notes_of(result: ExecutionResult) -> list[str]:
    root = read_svg(result.to_timeline_svg())
    return [text.text or "" for text in root.iter(f"{SVG}text") if "note" in text.attrib["class"]]


def told(result: ExecutionResult) -> list[str]:
    return texts_in(read_svg(result.to_timeline_svg()))


def ran(
    edges: str = "",
    /,
    seconds: float = 10.0,
    times: Times | None = None,
    history: Any = None,
    **nodes: tuple[float, float] | NodeResult,
) -> ExecutionResult:
    """A run of these nodes: when each began, in seconds since the run did, and how long it took."""
    builder = DAG.builder()
    for name in nodes:
        builder.add_node(name)
    for edge in edges.split():
        builder.add_edge(*edge.split("-"))
    dag = builder.build()
    results = {}
    for name in dag.topological_order():
        node = nodes[name]
        if not isinstance(node, NodeResult):
            start, took = node
            node = node_of(name, start, took)
        results[name] = node
    return ExecutionResult(
        results,
        dag,
        total_duration_seconds=seconds,
        times=times or Times(BEGAN),
        history=history and history(dag),
    )


def node_of(
    name: str, start: float, took: float, status: NodeStatus = COMPLETED, **fields: Any
) -> NodeResult:
    fields = {"attempts": 1, **fields}
    return NodeResult(name, status, started_at=BEGAN + start, duration_seconds=took, **fields)


def landing(
    version: int, at: float, by: str | None = "a", added: int = 1, *, goes_on: bool = False
) -> Landing:
    return Landing(version, BEGAN + at, by, added, 0, goes_on)


def waits_of(result: ExecutionResult) -> dict[str, tuple[int, int]]:
    """From when to when each node waited, in seconds; those that did not are left out."""
    works = course_of(result).works
    assert all(work.ready <= work.start for work in works)
    return {
        work.result.name: (work.ready // 1_000_000, work.start // 1_000_000)
        for work in works
        if work.ready < work.start
    }


# --- bars ----------------------------------------------------------------------------------------


def test_a_node_is_a_bar_from_its_start_to_its_end() -> None:
    """Bars stand where their nodes were at work, on an axis that ends with the run."""
    bars = shown(ran(a=(0, 5), b=(5, 2.5), c=(7.5, 2.5)))
    assert {name: bar.stretches[""] for name, bar in bars.items()} == {
        "a": [(16, 416)],
        "b": [(416, 616)],
        "c": [(616, 816)],
    }
    assert bars["a"].title == "a\ntook 5 s, began 0.000 ms into the run"


def test_states_have_colours_and_signs() -> None:
    """What became of a node is the class of its bar, a sign in it or beside it, and in the text."""
    error = ValueError("line 7 has no date")
    result = ran(
        a=(0, 1),
        b=node_of("b", 1, 1, FAILED, error=error, errors=(error,)),
        c=node_of("c", 2, 1, CANCELLED, reason="the run was cancelled"),
        d=NodeResult("d", SKIPPED),
    )
    root = read_svg(result.to_timeline_svg())
    bars = bars_in(root)
    assert {name: (bar.classes, bar.status) for name, bar in bars.items()} == {
        "a": ({"box", "completed"}, "COMPLETED"),
        "b": ({"box", "failed"}, "FAILED"),
        "c": ({"box", "cancelled"}, "CANCELLED"),
    }
    assert bars["b"].title.endswith("ValueError: line 7 has no date")
    assert bars["c"].title.endswith("the run was cancelled")
    groups = [group for group in root.iter(f"{SVG}g") if "data-node" in group.attrib]
    signs = [
        path.attrib["d"] for of in groups for path in of if "sign" in path.attrib.get("class", "")
    ]
    assert len(signs) == len(set(signs)) == 3
    assert root.attrib["aria-label"] == (
        "a timeline: 4 nodes in 10 s, 1 completed, 1 failed, 1 skipped, 1 cancelled"
    )
    assert notes_of(result) == ["not shown: 1 node that never started"]


def test_names_stand_in_bars_or_beside_them() -> None:
    """Each name is there, and no bar of its lane, nor the name beside it, overlaps it."""
    result = ran(**{f"a node with a long name {n}": (n / 10, 0.1) for n in range(60)}, seconds=6)
    root = read_svg(result.to_timeline_svg())
    assert set(result.node_results) <= set(texts_in(root))
    spans: dict[int, list[tuple[int, int]]] = {}
    for group in root.iter(f"{SVG}g"):
        if "data-node" in group.attrib:
            rect, text = group.find(f"{SVG}rect"), group.find(f"{SVG}text")
            assert rect is not None
            assert text is not None
            left = int(rect.attrib["x"])
            right = int(text.attrib["x"]) + 6 * len(text.text or "")
            spans.setdefault(int(rect.attrib["y"]), []).append((left, right))
    for of in spans.values():
        assert all(end <= start for (_, end), (start, _) in pairwise(sorted(of)))


def test_a_node_of_no_time_can_be_seen() -> None:
    """A bar is at least two pixels wide, also at the end of the run."""
    bars = shown(ran(a=(0, 0), b=(10, 0)))
    assert all(right - left == 2 for bar in bars.values() for left, right in bar.stretches[""])


def test_bars_of_one_lane_do_not_overlap() -> None:
    """Nodes that were at work at the same time stand in lanes of their own; one after another may
    share a lane.
    """
    result = ran(a=(0, 3), b=(1, 3), c=(2, 3), d=(5, 1), e=(5.5, 1), f=(8, 1), times=Times())
    bars = shown(result)
    one_after_another = [*bars.values(), *shown(many(300, 100)).values()]
    for one, other in combinations(one_after_another, 2):
        if one.top == other.top:
            first, second = sorted([one.extent, other.extent])
            assert first[1] < second[0]
    assert len({bar.top for bar in bars.values()}) == 3


def test_nodes_that_were_added_are_dashed() -> None:
    """A node that was added while the run was on looks as it does in the graph, and says who
    added it.
    """
    result = ran(a=(0, 1), b=node_of("b", 1, 1, added_by="a", depth=1))
    bars = shown(result)
    assert bars["b"].classes == {"box", "completed", "added"}
    assert "added by a" in bars["b"].title
    assert "added while it ran" in told(result)


# --- waiting -------------------------------------------------------------------------------------


def test_waiting_is_grey() -> None:
    """A node that was ready before it started has a grey stretch up to its bar."""
    result = ran("a-b", a=(0, 2), b=(7, 2))
    assert waits_of(result) == {"b": (2, 7)}
    bars = shown(result)
    assert bars["b"].stretches["wait"] == [(176, 576)]
    assert "wait" not in bars["a"].stretches
    assert "waited 5 s for its turn" in bars["b"].title
    assert "waiting for its turn" in told(result)
    assert "waiting for its turn" not in told(ran("a-b", a=(0, 2), b=(2, 2)))


def test_a_node_is_ready_when_the_last_of_its_dependencies_has_ended() -> None:
    """One that was skipped had its fate when its own dependencies had theirs."""
    assert waits_of(ran("a-c b-c", a=(0, 2), b=(0, 3), c=(4, 1))) == {"c": (3, 4)}
    skipped = NodeResult("b", SKIPPED)
    assert waits_of(ran("a-b b-c x-c", a=(0, 4), b=skipped, x=(0, 1), c=(6, 1))) == {"c": (4, 6)}


def test_a_node_with_an_expander_ends_with_it() -> None:
    """What depends on it was not ready before; the stretch behind its bar is the expander's."""
    times = Times(BEGAN)
    times.ended["a"] = BEGAN + 5
    result = ran("a-b", a=(0, 2), b=(7, 1), times=times)
    assert waits_of(result) == {"b": (5, 7)}
    (stretch,) = shown(result)["a"].stretches["after"]
    assert stretch[1] == 416
    assert "its expander took 3 s" in shown(result)["a"].title


def grown(**origins: int) -> Any:
    """A history in which nodes were added by modifications."""
    last = max(origins.values())
    return lambda dag: History(dag, last, {name: (1, of) for name, of in origins.items()})


def test_a_node_that_was_added_is_ready_when_it_landed() -> None:
    """It waits for its adder's end, unless that goes on: then it may start at once."""
    for goes_on, wait in ((False, (5, 7)), (True, (1, 7))):
        times = Times(BEGAN)
        times.ended["a"] = BEGAN + 5
        times.landings.append(landing(1, 1, goes_on=goes_on))
        result = ran("a-b", a=(0, 1), b=(7, 1), times=times, history=grown(b=1))
        assert waits_of(result) == {"b": wait}


def test_no_wait_is_told_where_it_is_not_known() -> None:
    """Where it is not known when a node landed, when a dependency was cancelled, or who was
    forgotten, and for a node that started before its dependencies had ended, none is drawn.
    """
    assert waits_of(ran("a-b", a=(0, 1), b=(7, 1), history=grown(a=1, b=1))) == {}
    cancelled = NodeResult("a", CANCELLED)
    assert waits_of(ran("a-b", a=cancelled, b=(7, 1))) == {}
    assert waits_of(ran("a-b", a=(0, 9), b=(7, 1))) == {}
    times = Times(BEGAN)
    assert waits_of(ran(a=(0, 9), b=(7, 1), times=times)) == {"b": (0, 7)}
    times.began = None
    assert waits_of(ran(a=(0, 9), b=(7, 1), times=times)) == {}

    dag = DAG.builder().add_edge("a", "b").build()
    result = DynamicExecutor(dag, keep="leaves").execute_sync(dict.fromkeys("ab", nothing))
    assert result.forgotten
    assert waits_of(result) == {}


def test_a_node_that_lost_a_dependency_was_ready_then() -> None:
    """An edge that was taken away may have been what the node waited for."""
    times = Times(BEGAN)
    times.landings.append(landing(1, 4, added=0))

    def history(dag: DAG) -> History:
        changes = [
            EdgeChange(1, "gone", "b", How.TAKEN_OUT, has_condition=False),
            EdgeChange(1, "a", "c", How.ADDED, has_condition=False),
        ]
        return History(dag, 1, {}, changes)

    result = ran("a-b a-c", a=(0, 1), b=(7, 1), c=(7, 1), times=times, history=history)
    assert waits_of(result) == {"b": (4, 7), "c": (1, 7)}


def test_who_waits_for_a_thread_waits() -> None:
    """In a run with one worker, all sync nodes but the first have waited for their turn."""
    dag = DAG.builder()
    for number in range(5):
        dag.add_node(f"n{number}")
    executor = DynamicExecutor(dag.build(), max_workers=1)
    result = executor.execute_sync({f"n{number}": nothing for number in range(5)})
    ready = {work.result.name: work.ready for work in course_of(result).works}
    assert set(ready.values()) == {0}


# --- attempts ------------------------------------------------------------------------------------


def test_attempts_that_failed_are_hatched() -> None:
    """Each is a stretch of its own, hatched; the last one has the colour of what the node came to,
    and between them is a dotted line.
    """
    times = Times(BEGAN)
    times.attempts["a"] = ((BEGAN, BEGAN + 2), (BEGAN + 3, BEGAN + 4), (BEGAN + 8, BEGAN + 9))
    result = ran(a=node_of("a", 0, 4, attempts=3), times=times)
    root = read_svg(result.to_timeline_svg())
    bar = bars_in(root)["a"]
    assert bar.stretches == {"again": [(16, 176), (256, 336)], "": [(656, 736)]}
    paths = [path.attrib.get("class") for path in root.iter(f"{SVG}path")]
    assert paths.count("pause") == 2
    assert paths.count("hatch") == 2 + 1  # and in the legend
    assert "attempts: 3" in bar.title
    assert "an attempt that failed" in told(result)


async def test_the_attempts_of_a_run_are_drawn() -> None:
    """In a run with retries the picture has as many stretches as there were attempts."""
    errors = [OSError("first"), OSError("second")]

    async def flaky() -> None:
        if errors:
            raise errors.pop()

    policy = NodePolicy(retry=Retry(attempts=3, initial_delay=0.0, jitter=0.0))
    dag = DAG.builder().add_node("a", policy=policy).build()
    result = await DynamicExecutor(dag).execute({"a": flaky})
    stretches = shown(result)["a"].stretches
    assert (len(stretches["again"]), len(stretches[""])) == (2, 1)


# --- modifications -------------------------------------------------------------------------------


def marks_in(result: ExecutionResult) -> list[tuple[str, list[str], int]]:
    """Of each mark its tooltip, what is written beside it, and how many lines it has."""
    root = read_svg(result.to_timeline_svg())
    return [
        (title_of(of), texts_in(of), len(of.findall(f"{SVG}path")))
        for of in root.iter(f"{SVG}g")
        if of.attrib.get("class") == "landing" and of.find(f"{SVG}title") is not None
    ]


def test_a_modification_is_a_line() -> None:
    """It says who made it, and how many nodes came and went, and it stands where it landed."""
    times = Times(BEGAN)
    times.landings.append(landing(1, 2, "discover", 3))
    times.landings.append(Landing(2, BEGAN + 8, None, 0, 1, goes_on=False))
    result = ran(a=(0, 1), times=times)
    assert marks_in(result) == [
        ("modification 1: discover +3", ["discover +3"], 2),
        ("modification 2: from outside \N{MINUS SIGN}1", ["from outside \N{MINUS SIGN}1"], 2),
    ]
    assert 'd="M176 ' in result.to_timeline_svg()
    assert 'd="M656 ' in result.to_timeline_svg()
    assert "the graph was changed" in told(result)


def test_modifications_at_the_same_place_are_one_line() -> None:
    """It counts them; where they are by several nodes it does not name them, its tooltip does."""
    times = Times(BEGAN)
    times.landings.extend(landing(n, 2 + n / 1e6, f"node {n}") for n in range(1, 13))
    ((title, captions, _),) = marks_in(ran(a=(0, 1), times=times))
    assert captions == ["12 modifications +12"]
    assert title.splitlines()[0] == "modification 1: node 1 +1"
    assert title.splitlines()[-1] == "and 3 more"


def test_very_many_modifications_are_ticks() -> None:
    """More than 24 lines would be a fence: they are ticks above the bars, without captions, and the
    legend says who made them if it was one node.
    """
    times = Times(BEGAN)
    times.landings.extend(landing(n, n / 5, "source") for n in range(40))
    result = ran(a=(0, 1), times=times)
    assert {(tuple(captions), lines) for _, captions, lines in marks_in(result)} == {((), 1)}
    assert "the graph was changed by source" in told(result)
    times.landings.append(landing(50, 9.9, None))
    assert "the graph was changed" in told(result)
    outside = Times(BEGAN)
    outside.landings.extend(landing(n, n / 5, None) for n in range(40))
    assert "the graph was changed from outside" in told(ran(a=(0, 1), times=outside))


@pytest.mark.parametrize(
    ("result", "field"),
    [
        (ran(a=(float("nan"), 1)), "node 'a' has started_at=nan"),
        (ran(a=(0, float("inf"))), "node 'a' has duration_seconds=inf"),
        (ran(seconds=float("nan"), a=(0, 1)), "the run has total_duration_seconds=nan"),
    ],
)
def test_times_that_are_no_numbers_are_refused(result: ExecutionResult, field: str) -> None:
    """A result that was made by hand may have them: it is said which, and what to give."""
    with pytest.raises(ValueError, match=f"{field}.*\n  help: give a finite number"):
        result.to_timeline_svg()


# --- the critical path ---------------------------------------------------------------------------


def test_the_critical_path_has_an_outline() -> None:
    """The bars of its nodes, and no others, have one, and the legend says what it means."""
    result = ran("a-b a-c b-d c-d", a=(0, 1), b=(1, 2), c=(1, 5), d=(6, 1))
    bars = shown(result)
    assert [name for name, bar in bars.items() if "critical" in bar.stretches] == [*"acd"]
    assert list(bars) == [*"bacd"]  # outlines reach into other lanes, and are drawn last
    assert "the critical path" in told(result)


def test_a_path_that_is_all_has_no_outline() -> None:
    """Where every node is on the critical path, an outline would say nothing."""
    result = ran("a-b", a=(0, 1), b=(1, 2))
    assert all("critical" not in bar.stretches for bar in shown(result).values())
    assert "the critical path" not in told(result)


# --- large runs ----------------------------------------------------------------------------------


def many(count: int, width: float = 1.0, status: dict[int, NodeStatus] | None = None) -> Any:
    """So many nodes, one after another but for their ``width``: how many are at work at once."""
    nodes = {}
    for number in range(count):
        name = f"n{number}"
        of = (status or {}).get(number, COMPLETED)
        error = OSError(name) if of is FAILED else None
        start, took = 10 * number / (count + width), 10 * width / (count + width)
        nodes[name] = node_of(name, start, took * (1 - 1e-3), of, error=error)
    return ran(**nodes)


def test_many_bars_are_low_and_without_names() -> None:
    """Past 72 lanes there is no room for names; failures keep their sign."""
    result = many(300, 100, {150: FAILED})
    root = read_svg(result.to_timeline_svg())
    assert len(bars_in(root)) == 300
    assert not {"n1", "n150"} & set(texts_in(root))
    groups = [group for group in root.iter(f"{SVG}g") if "data-node" in group.attrib]
    with_sign = [
        of.attrib["data-node"]
        for of in groups
        if any("sign" in path.attrib.get("class", "") for path in of)
    ]
    assert with_sign == ["n150"]


def test_of_very_many_bars_the_important_ones_are_shown() -> None:
    """Of more than 2,000 bars the failures are there, and the critical path, and a note says it."""
    broken = dict.fromkeys(range(5, 2_600, 260), FAILED)
    result = many(2_600, 3, broken)
    bars = shown(result)
    assert len(bars) == plan.MOST_BARS
    assert {f"n{number}" for number in broken} <= bars.keys()
    assert set(result.critical_path()) <= bars.keys()
    assert notes_of(result) == [
        "2,000 of 2,600 bars are shown: failures, the critical path, and what took longest"
    ]


def test_of_very_many_bars_at_once_the_important_ones_are_shown() -> None:
    """There are at most 240 lanes; failures are in them."""
    result = many(1_000, 5_000, {700: FAILED})
    bars = shown(result)
    assert len({bar.top for bar in bars.values()}) <= plan.MOST_LANES
    assert "n700" in bars
    (note,) = notes_of(result)
    assert note.startswith(f"{len(bars):,} of 1,000 bars are shown")


def test_of_very_many_failures_some_are_shown() -> None:
    """When there are more failures than bars, bars are not without bound."""
    result = many(3_000, 2, dict.fromkeys(range(3_000), FAILED))
    assert len(shown(result)) == plan.MOST_BARS


def test_very_many_that_wait_are_counted() -> None:
    """When more wait at once than there are lanes, a curve below the bars says how many."""
    result = ran(**{f"n{n}": (n / 100, 0.01) for n in range(1_000)})
    root = read_svg(result.to_timeline_svg())
    assert len(bars_in(root)) == 1_000
    assert all("wait" not in bar.stretches for bar in bars_in(root).values())
    (curve,) = [path for path in root.iter(f"{SVG}path") if path.attrib.get("class") == "queue"]
    assert re.fullmatch(r"M\d+ \d+(V\d+H\d+)+V\d+Z", curve.attrib["d"])
    assert title_of(curve).startswith("up to 99")
    assert any("how many nodes waited for their turn" in text for text in texts_in(root))


# --- little to show ------------------------------------------------------------------------------


def test_a_run_of_nothing_has_a_picture() -> None:
    """It says that there was nothing."""
    result = DynamicExecutor(DAG.builder().build()).execute_sync({})
    assert notes_of(result) == ["the run had no nodes"]
    assert shown(result) == {}


def test_a_result_without_times_says_so() -> None:
    """A result that was made by hand may not say when its nodes started; the picture does."""
    dag = DAG.builder().add_node("a").build()
    result = ExecutionResult({"a": NodeResult("a", COMPLETED, attempts=1)}, dag)
    assert notes_of(result) == ["nothing is drawn: the result does not say when its nodes started"]
    never = ExecutionResult({"a": NodeResult("a", SKIPPED)}, dag)
    assert notes_of(never) == ["nothing is drawn: no node started"]


def test_a_result_that_was_made_by_hand_shows_what_it_has() -> None:
    """Without the times that a run keeps there are bars from the first start on: no waits, no
    attempts, no modifications.
    """
    dag = DAG.builder().add_edge("a", "b").build()
    nodes = {"a": node_of("a", 0, 2, attempts=3), "b": node_of("b", 3, 1)}
    bars = shown(ExecutionResult(nodes, dag))
    assert {name: bar.stretches for name, bar in bars.items()} == {
        "a": {"": [(16, 416)]},
        "b": {"": [(616, 816)]},
    }


def test_what_was_cut_short_and_forgotten_is_noted() -> None:
    """The notes say why a run ended early, and how many nodes are known by their number alone."""
    dag = DAG.builder().add_edge("a", "b").build()

    def broken() -> None:
        raise ValueError

    executor = DynamicExecutor(dag, keep="failures", on_failure="cancel")
    result = executor.execute_sync({"a": nothing, "b": broken})
    assert notes_of(result) == [
        "cut short: the run was ended because 'b' failed",
        "not shown: 1 forgotten node",
    ]


# --- clocks --------------------------------------------------------------------------------------


@given(
    starts=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8),
    took=st.floats(0, 5),
    landed=st.floats(-1e6, 1e6),
    ended=st.floats(-1e6, 1e6),
)
def test_a_clock_that_steps_breaks_nothing(
    starts: list[float], took: float, landed: float, ended: float
) -> None:
    """Whatever the wall clock said, all lies within the run, and no bar loses its length."""
    times = Times(BEGAN)
    times.landings.append(landing(1, landed))
    times.ended["n0"] = BEGAN + ended
    times.attempts["n0"] = ((BEGAN + starts[0], BEGAN + starts[0] + took), (BEGAN, BEGAN + took))
    result = ran(**{f"n{n}": (start, took) for n, start in enumerate(starts)}, times=times)
    course = course_of(result)
    for work in course.works:
        edges = [work.ready, *(at for span in work.attempts for at in span), work.end]
        assert edges == sorted(edges)
        assert edges[0] >= 0
        if len(work.attempts) == 1:
            assert edges[-1] <= course.length
            assert work.attempts[0][1] - work.start == pytest.approx(took * 1e6, abs=1)
    assert all(0 <= at <= course.length for at, _ in course.landings)
    read_svg(result.to_timeline_svg())


# --- names and bytes -----------------------------------------------------------------------------


def test_hostile_names_are_text() -> None:
    """Names come back from an XML parser as they were, but for what XML cannot hold."""
    specs = [DynamicNodeSpec(f"{name[:500]}+", nothing, [name]) for name in HOSTILE]
    dag = DAG.builder()
    for name in HOSTILE:
        dag.add_node(name)
    expanders = {spec.dependencies[0]: adding(spec) for spec in specs}
    result = DynamicExecutor(dag.build(), expanders=expanders).execute_sync(
        dict.fromkeys(HOSTILE, nothing)
    )
    assert result.ok
    bars = shown(result)
    told = [name.replace("\uffff", "\ufffd") for name in HOSTILE]
    assert set(told) <= bars.keys()
    assert "\u202e" not in "".join(told_texts(result))


def told_texts(result: ExecutionResult) -> Iterable[str]:
    return texts_in(read_svg(result.to_timeline_svg()))


def test_hostile_errors_are_text() -> None:
    """So do the texts of errors and reasons."""
    for text in [*HOSTILE, "x" * 100_000]:
        error = ValueError(text)
        result = ran(a=node_of("a", 0, 1, FAILED, error=error, reason=text))
        read_svg(result.to_timeline_svg())


PROGRAM = """
import dagron
from dagron import DAG, NodeResult, NodeStatus, ExecutionResult
from dagron._times import Landing, Times
dag = DAG.builder()
for n in range(40):
    dag.add_edge(f"n{n % 7}", f"m{n}")
dag = dag.build()
times = Times(5.0)
times.landings.append(Landing(1, 6.0, "n1", 3, 0, False))
nodes = {
    name: NodeResult(name, NodeStatus.COMPLETED, None, None, 1.0, 5.0 + number % 5, 1)
    for number, name in enumerate(dag.topological_order())
}
result = ExecutionResult(nodes, dag, total_duration_seconds=9.0, times=times)
print(result.to_timeline_svg() == result.to_timeline_svg())
print(result.to_timeline_svg())
"""


def test_the_same_result_gives_the_same_bytes() -> None:
    """The text is the same each time, with whatever seed strings are hashed."""
    seen = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1
    assert seen.pop().startswith(b"True")


# --- lanes and ticks -----------------------------------------------------------------------------

stretches = st.lists(
    st.tuples(st.integers(0, 60), st.integers(1, 30)).map(lambda of: (of[0], of[0] + of[1]))
)


@given(stretches)
def test_lanes_are_as_few_as_can_be(of: list[tuple[int, int]]) -> None:
    """No two stretches of one lane overlap, and there are as many lanes as stretches at a point."""
    lanes = packed(of)
    for (one, first), (other, second) in combinations(zip(of, lanes, strict=True), 2):
        if first == second:
            assert one[1] <= other[0] or other[1] <= one[0]
    most = max((sum(a <= start < b for a, b in of) for start, _ in of), default=0)
    assert len(set(lanes)) == most


@pytest.mark.parametrize(
    ("length", "texts"),
    [
        (0, "0"),
        (30, "0, 5 µs, 10 µs, 15 µs, 20 µs, 25 µs, 30 µs"),
        (2_500, "0, 0.5 ms, 1 ms, 1.5 ms, 2 ms, 2.5 ms"),
        (1_200_000, "0, 0.2 s, 0.4 s, 0.6 s, 0.8 s, 1 s, 1.2 s"),
        (100_000_000, "0, 15 s, 30 s, 45 s, 60 s, 75 s, 90 s"),
        (150_000_000, "0, 30 s, 1 min, 1 min 30 s, 2 min, 2 min 30 s"),
        (2 * 3_600_000_000, "0, 15 min, 30 min, 45 min, 1 h, 1 h 15 min, 1 h 30 min, 1 h 45 min"),
        (200_000 * 3_600_000_000, "0, 1,000 d, 2,000 d, 3,000 d, 4,000 d, 5,000 d, 6,000 d"),
    ],
)
def test_ticks_are_round(length: int, texts: str) -> None:
    """They are at round numbers, in the unit that suits the whole."""
    assert ", ".join(text for _, text in ticks(length, 9)).startswith(texts)


@given(st.integers(0, 10**16), st.integers(2, 12))
def test_ticks_are_not_too_many(length: int, most: int) -> None:
    """There are no more than wanted, and more than one where there is any length."""
    found = ticks(length, most)
    assert 1 <= len(found) <= most
    assert all(0 <= at <= length for at, _ in found)
    assert len({text for _, text in found}) == len(found)


def test_works_are_in_the_order_of_the_results() -> None:
    """A course has the nodes that started, in the order of the results."""
    result = ran("b-a", a=(2, 1), b=(0, 1), c=NodeResult("c", SKIPPED))
    works: list[Work] = course_of(result).works
    assert [work.result.name for work in works] == ["b", "a"]
