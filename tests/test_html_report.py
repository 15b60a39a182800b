"""The page of a run: what it holds, that nothing in it is more than text, and how it is written."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from os import pathsep
from pathlib import Path
from typing import Any

import pytest

import dagron
from dagron import (
    DynamicModification,
    DynamicNodeSpec,
    ExecutionResult,
    NodePolicy,
    NodeResult,
    NodeStatus,
    Retry,
    _history,
    _times,
)
from dagron.render import _files, _html, _html_data, _html_log
from dagron.render._style import STYLE
from html_pages import Page, read_page
from pictures import HOSTILE, HOSTILE_TEXTS


def nothing() -> None:
    """A task that does nothing."""


def broken() -> None:
    raise ValueError("line 7 has no date")


def run(
    *edges: tuple[str, str] | str,
    tasks: dict[str, Any] | None = None,
    expanders: dict[str, Any] | None = None,
    **options: Any,
) -> ExecutionResult:
    """Run a graph of these edges and nodes, whose tasks do nothing where none are given."""
    builder = dagron.DAG.builder()
    for edge in edges:
        if isinstance(edge, str):
            builder.add_node(edge)
        else:
            builder.add_edge(*edge)
    dag = builder.build()
    executor = dagron.DynamicExecutor(dag, expanders=expanders or {}, **options)
    return executor.execute_sync({**dict.fromkeys(dag, nothing), **(tasks or {})})


def adding(*specs: DynamicNodeSpec, **fields: Any) -> Callable[..., DynamicModification]:
    return lambda name, result: DynamicModification(list(specs), **fields)


def by_hand(*nodes: NodeResult, **fields: Any) -> ExecutionResult:
    builder = dagron.DAG.builder()
    for node in nodes:
        builder.add_node(node.name)
    return ExecutionResult({node.name: node for node in nodes}, builder.build(), **fields)


def file_of(result: ExecutionResult, path: Path, **options: Any) -> Path:
    result.save_html(path, **options)
    return path


@pytest.fixture
def page(tmp_path: Path) -> Callable[..., Page]:
    """Saves a result and reads the file back."""

    def save(result: ExecutionResult, **options: Any) -> Page:
        return read_page(file_of(result, tmp_path / "run.html", **options).read_bytes().decode())

    return save


def flaky(failures: int, value: object = None) -> Callable[[], object]:
    tries = []

    def task() -> object:
        tries.append(None)
        if len(tries) <= failures:
            raise ConnectionError(f"try {len(tries)}")
        return value

    return task


@pytest.fixture(scope="module")
def eventful() -> ExecutionResult:
    """A run in which one thing happens after another: one node at a time, in this order."""
    return run(
        ("load", "fit"),
        ("fit", "report"),
        ("load", "parse"),
        ("parse", "store"),
        tasks={"load": flaky(1, {"rows": 3}), "parse": broken},
        expanders={
            "load": adding(
                DynamicNodeSpec("exact", lambda: 1.5, ["load"], ["report"]), remove_nodes=["fit"]
            )
        },
        max_concurrency=1,
        policy=NodePolicy(retry=Retry(2, initial_delay=0, on=ConnectionError)),
    )


# --- what it holds -------------------------------------------------------------------------------


def test_a_page_knows_of_every_node(page: Callable[..., Page], eventful: ExecutionResult) -> None:
    """A node's data have its state, why, what it returned, who added it, and its neighbours."""
    nodes = page(eventful).nodes
    names = list(nodes)
    assert sorted(names) == ["exact", "fit", "load", "parse", "report", "store"]
    number = {name: names.index(name) for name in names}
    exact, load, parse = nodes["exact"], nodes["load"], nodes["parse"]
    assert exact["status"] == "COMPLETED"
    assert exact["result"] == "1.5"
    assert (exact["by"], exact["by_index"], exact["landed"]) == ("load", number["load"], 1)
    assert (exact["needs"], exact["feeds"]) == ([number["load"]], [number["report"]])
    assert load["children"] == [number["exact"]]
    assert load["result"] == "{'rows': 3}"
    assert load["attempts"] == 2
    assert load["start"] >= 0
    assert load["took"] >= 0
    assert "by" not in load
    (error,) = load["errors"]
    assert error["title"] == "Attempt 1 failed: ConnectionError: try 1"
    (error,) = parse["errors"]
    assert error["title"] == "ValueError: line 7 has no date"
    assert error["text"].startswith("Traceback (most recent call last):\n")
    assert (
        f'File "{__file__}", line {broken.__code__.co_firstlineno + 1}, in broken' in error["text"]
    )
    assert nodes["store"]["reason"] == "skipped because 'parse' failed"
    assert nodes["fit"] == {
        "name": "fit",
        "status": "REMOVED",
        "removed_by": "load",
        "removed_in": 1,
    }


def test_a_page_tells_what_happened(page: Callable[..., Page], eventful: ExecutionResult) -> None:
    """The log has every start, attempt, end, modification, addition and removal, in order."""
    entries = page(eventful).entries
    assert [entry[:2] for entry in entries] == [
        ("run", None),
        ("started", "load"),
        ("retried", "load"),
        ("started", "load"),
        ("landed", "load"),
        ("added", "exact"),
        ("removed", "fit"),
        ("completed", "load"),
        ("started", "parse"),
        ("failed", "parse"),
        ("skipped", "store"),
        ("started", "exact"),
        ("completed", "exact"),
        ("started", "report"),
        ("completed", "report"),
        ("run", None),
    ]
    texts = {entry[:2]: entry[2] for entry in entries}
    assert texts["retried", "load"] == "attempt 1: ConnectionError: try 1"
    assert texts["started", "load"] == "attempt 2 of 2"
    assert texts["landed", "load"] == "Modification 1: added 1 node, removed 1 node"
    assert texts["added", "exact"] == texts["removed", "fit"] == "by load"
    assert texts["failed", "parse"] == "ValueError: line 7 has no date"
    assert texts["skipped", "store"] == "skipped because 'parse' failed"
    assert re.fullmatch(r"after [\d.]+ m?s", texts["completed", "load"])
    times = [entry[0] for entry in page(eventful).data["entries"]]
    assert times == sorted(times)
    assert entries[0][2] == "The run began with 5 nodes."
    assert entries[-1][2] == "The run ended."


def test_a_page_tells_when_nodes_were_skipped() -> None:
    """A skipped node was skipped when what it waited for had ended, or when it landed: in order."""
    result = run(
        ("a", "b"),
        ("b", "c"),
        ("start", "late"),
        tasks={"a": broken},
        expanders={"late": adding(DynamicNodeSpec("d", nothing, ["c"]))},
        max_concurrency=1,
    )
    entries = _html_log.entries_of(_html_data.Roll(result))
    times = {(one.kind, one.text): one.time for one in entries if one.kind != "run"}
    skipped = [one.time for one in entries if one.kind == "skipped"]
    assert len(skipped) == 3
    failed = times["failed", "ValueError: line 7 has no date"]
    assert skipped[:2] == [failed, failed]
    assert skipped[2] == times["added", "by late"]


def test_what_happened_in_one_moment_is_in_its_order() -> None:
    """A clock that stands still for a while puts nothing before what led to it."""
    dag = dagron.DAG.builder().add_edge("a", "b").add_edge("b", "c").build()
    nodes = {
        "a": NodeResult("a", NodeStatus.COMPLETED, started_at=5.0, attempts=1),
        "b": NodeResult("b", NodeStatus.FAILED, error=OSError(), started_at=5.0, added_by="a"),
        "c": NodeResult("c", NodeStatus.SKIPPED, reason="skipped because 'b' failed"),
    }
    times = _times.Times(5.0)
    times.landings.append(_times.Landing(1, 5.0, "a", 1, 0, False))
    history = _history.History(dag, 1, {"b": (1, 1)})
    result = ExecutionResult(nodes, dag, history=history, times=times)
    entries = _html_log.entries_of(_html_data.Roll(result))
    names = list(result.node_results)
    assert [(one.kind, one.node is not None and names[one.node]) for one in entries[1:-1]] == [
        ("started", "a"),
        ("landed", "a"),
        ("added", "b"),
        ("completed", "a"),
        ("started", "b"),
        ("failed", "b"),
        ("skipped", "c"),
    ]
    assert {one.time for one in entries} == {0.0}


def test_what_is_not_known_has_no_time(page: Callable[..., Page]) -> None:
    """A node that was cancelled before it started has no time, and stands before the end."""
    result = run("a", "b", "c", tasks={"a": broken}, on_failure="cancel", max_concurrency=1)
    saved = page(result)
    assert saved.entries[-3:] == [
        ("cancelled", "b", result["b"].reason),
        ("cancelled", "c", result["c"].reason),
        ("run", None, f"The run was cut short: {result.reason}"),
    ]
    assert [time is None for time, *_ in saved.data["entries"]][-3:] == [True, True, False]


async def test_a_page_tells_of_changes_from_outside(page: Callable[..., Page]) -> None:
    """A modification from outside says so, and so do the nodes that it added and removed."""
    gate = dagron.Gate()

    async def wait() -> None:
        await gate.wait()

    dag = dagron.DAG.builder().add_edge("a", "b").build()
    async with dagron.DynamicExecutor(dag).start({"a": wait, "b": nothing}) as handle:
        await handle.modify(DynamicModification([DynamicNodeSpec("c", nothing, ["a"])], ["b"]))
        gate.open()
        result = await handle.wait()
    saved = page(result)
    assert ("landed", None, "Modification 1 from outside: added 1 node, removed 1 node") in (
        saved.entries
    )
    assert ("added", "c", "from outside") in saved.entries
    assert ("removed", "b", "from outside") in saved.entries
    assert saved.nodes["c"]["by"] is None
    assert saved.nodes["b"] == {"name": "b", "status": "REMOVED", "removed_in": 1}


def test_a_page_has_all_errors_of_a_node(page: Callable[..., Page]) -> None:
    """Each attempt that failed has its traceback, and so has the expander; of many, the last."""
    retry = NodePolicy(retry=Retry(30, initial_delay=0))

    def refuse(name: str, result: object) -> DynamicModification:
        raise LookupError("no such table")

    result = run(
        "a", "b", tasks={"a": broken, "b": flaky(1)}, expanders={"b": refuse}, policy=retry
    )
    nodes = page(result).nodes
    titles = [error["title"] for error in nodes["a"]["errors"]]
    assert len(titles) == 20
    assert titles[0] == "Attempt 1 failed: ValueError: line 7 has no date"
    assert titles[-1] == "Attempt 30 failed: ValueError: line 7 has no date"
    assert nodes["a"]["errors_more"] == 10
    assert [error["title"] for error in nodes["b"]["errors"]] == [
        "Attempt 1 failed: ConnectionError: try 1",
        "Its expander failed: LookupError: no such table",
    ]


def test_the_graph_stands_there_at_every_moment(page: Callable[..., Page]) -> None:
    """A page has the graph before, after each modification, and after; only the last one shows."""

    def grow(name: str, result: object) -> DynamicModification | None:
        if len(name) == 4:
            return None
        return DynamicModification([DynamicNodeSpec(f"{name}x", nothing, [name], expander=grow)])

    saved = page(run("x", expanders={"x": grow}))
    assert [moment["label"] for moment in saved.data["moments"]] == [
        "as it was written",
        "after 1 of 3 modifications",
        "after 2 of 3 modifications",
        "as it was at the end",
    ]
    pictures = saved.all("div", **{"class": "picture"})
    assert [("hidden" in one.attributes) for one in pictures] == [True, True, True, False, False]
    graphs = saved.all("svg")
    assert len(graphs) == 5
    assert saved.all("style")[0].text.count(STYLE) == 1
    assert [one.attributes["aria-label"].partition(",")[0] for one in graphs[:4]] == [
        "a graph: 1 node",
        *(f"a graph: {count} nodes" for count in (2, 3, 4)),
    ]


def test_moments_are_spread_over_what_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more moments than fit some are left out, evenly; large pictures leave room for fewer."""

    def grow(name: str, result: object) -> DynamicModification | None:
        number = int(name) + 1
        if number == 101:
            return None
        return DynamicModification([DynamicNodeSpec(str(number), nothing, [name], expander=grow)])

    result = run("0", expanders={"0": grow})
    assert result.version == 100
    between = _html._between(result, 1_000)
    assert len(between) == 12
    assert {later - one for one, later in pairwise([0, *between, 100])} == {7, 8}
    assert len(_html._between(result, 200_000)) == 2
    assert _html._between(result, 600_000) == []
    monkeypatch.setattr(type(result._history), "earliest", lambda history: 95)
    assert _html._between(result, 1_000) == [95, 96, 97, 98, 99]


def test_a_graph_that_did_not_change_has_one_moment(page: Callable[..., Page]) -> None:
    """Without modifications there is one picture."""
    saved = page(run(("a", "b")))
    assert saved.data["moments"] == [{"label": "which did not change", "folds": {}}]
    assert len(saved.all("svg")) == 2


def test_a_folded_family_knows_its_members(page: Callable[..., Page]) -> None:
    """The box of many nodes leads to each of them."""
    specs = [DynamicNodeSpec(f"a.{number}", nothing, ["a"]) for number in range(20)]
    saved = page(run("a", expanders={"a": adding(*specs)}))
    folds = saved.data["moments"][-1]["folds"]
    names = [node["name"] for node in saved.data["nodes"]]
    ((id, (count, members)),) = folds.items()
    assert count == 20
    assert sorted(names[number] for number in members) == sorted(spec.name for spec in specs)
    (box,) = [one for one in saved.all("g") if one.attributes.get("data-id") == id]
    assert "data-node" not in box.attributes
    assert saved.data["moments"][0]["folds"] == {}
    assert (
        len(page(run("a", expanders={"a": adding(*specs)}), fold=None).data["moments"][-1]["folds"])
        == 0
    )


def test_every_picture_on_the_page_leads_to_nodes_that_the_page_knows(
    page: Callable[..., Page], eventful: ExecutionResult
) -> None:
    """What the graph and the timeline call a node is the name, or the key, of one in the data."""
    for result in (eventful, run(*HOSTILE)):
        saved = page(result)
        keys = {node.get("key", node["name"]) for node in saved.data["nodes"]}
        marks = [
            one.attributes["data-node"] for one in saved.all("g") if "data-node" in one.attributes
        ]
        assert set(marks) == keys


def test_results_may_be_left_out(page: Callable[..., Page], eventful: ExecutionResult) -> None:
    """`results=False` leaves out what nodes returned, and nothing else."""
    kept, left_out = page(eventful), page(eventful, results=False)
    for name, node in kept.nodes.items():
        node.pop("result", None)
        assert left_out.nodes[name] == node
    assert (
        "rows"
        not in left_out.source.replace("th:nth", "")
        .partition('id="data"')[2]
        .partition("</script>")[0]
    )


def test_a_title_is_the_headline(page: Callable[..., Page], eventful: ExecutionResult) -> None:
    """The title stands in the tab and above the page; without one the counts do."""
    bare, titled = page(eventful), page(eventful, title="Tuesday's <import>")
    assert bare.all("title")[0].text == bare.all("h1")[0].text
    assert bare.all("h1")[0].text.endswith("3 succeeded, 1 failed, 1 skipped")
    assert bare.all("h1")[0].attributes["class"] == "verdict not-ok"
    assert titled.all("title")[0].text == titled.all("h1")[0].text == "Tuesday's <import>"
    assert page(run("a")).all("h1")[0].attributes["class"] == "verdict"


def test_the_summary_is_on_the_page(page: Callable[..., Page], eventful: ExecutionResult) -> None:
    """What `summary` says is on the page, section by section."""
    saved = page(eventful)
    told = dict(
        zip((dt.text for dt in saved.all("dt")), (dd.text for dd in saved.all("dd")), strict=True)
    )
    assert told["removed"] == "'fit'"
    assert "'parse': ValueError: line 7 has no date" in told["failed"]
    for text in told.values():
        for line in text.splitlines():
            assert line in eventful.summary()


def test_a_result_made_by_hand_has_a_page(page: Callable[..., Page]) -> None:
    """A result that no run has made, as in a test, is told of as far as it goes."""
    saved = page(by_hand(NodeResult("a", NodeStatus.COMPLETED, 7)))
    assert saved.nodes["a"] == {"name": "a", "status": "COMPLETED", "result": "7"}
    assert saved.entries == [
        ("run", None, "The run began with 1 node."),
        ("completed", "a", ""),
        ("run", None, "The run ended."),
    ]
    assert saved.all("time") == []
    started = by_hand(NodeResult("a", NodeStatus.COMPLETED, 7, None, 2.0, 1_800_000_000.0, 1))
    saved = page(started)
    assert saved.nodes["a"]["start"] == 0
    assert saved.all("time")[0].attributes == {"datetime": "2027-01-15T08:00:00+00:00"}
    assert page(by_hand()).nodes == {}


# --- large ---------------------------------------------------------------------------------------


def test_of_very_many_nodes_failures_are_told_of_first(
    page: Callable[..., Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more nodes than a page holds some are left out, those that failed last; it says so."""
    monkeypatch.setattr(_html_data, "MOST_NODES", 30)
    monkeypatch.setattr(_html_data, "MOST_FAILURES", 10)
    names = [f"{number:02}" for number in range(50)]
    result = run("all", *((name, "all") for name in names), tasks=dict.fromkeys(names[35:], broken))
    saved = page(result)
    assert list(saved.nodes) == [*names[:20], *names[35:45]]
    assert saved.notes == [
        "Of 51 nodes this page tells of 30, of failures before others; "
        "the counts and the summary are of all."
    ]
    saved = page(run("first", *(("first", name) for name in names)))
    first = saved.nodes["first"]
    assert (len(first["feeds"]), first["feeds_more"]) == (29, 21)


def test_of_very_many_events_the_first_are_shown(
    page: Callable[..., Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more events than a page holds it has the first ones, and says so."""
    for module in (_html, _html_log):
        monkeypatch.setattr(module, "MOST_ENTRIES", 7)
    saved = page(run(*"abcdefgh"))
    assert len(saved.entries) == 7
    assert saved.notes == ["Of the events the first 7 are shown."]


def test_later_tracebacks_are_left_out(
    page: Callable[..., Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more tracebacks than a page holds the later ones are left out, each with a note."""
    monkeypatch.setattr(_html_data, "MOST_TRACEBACKS", 1)
    nodes = page(run("a", "b", tasks={"a": broken, "b": broken})).nodes
    assert nodes["a"]["errors"][0]["text"].startswith("Traceback")
    assert nodes["b"]["errors"] == [
        {
            "title": "ValueError: line 7 has no date",
            "text": "The page has the tracebacks of the first 1 errors, not of this one.",
        }
    ]


def test_a_page_says_how_many_nodes_were_forgotten(page: Callable[..., Page]) -> None:
    """Of forgotten nodes the page has the counts, and says that this is all."""
    result = run(("a", "b"), ("b", "c"), keep="leaves")
    saved = page(result)
    assert list(saved.nodes) == ["c"]
    assert saved.notes == [
        "2 nodes that completed and were not needed any more were forgotten while the graph ran "
        "(keep=...): they are in the counts alone."
    ]


def test_a_page_says_what_is_not_known_any_more(
    page: Callable[..., Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of very many changes the last are known: of the others the page says that they are not."""
    monkeypatch.setattr(_history, "RECORDED", 4)
    monkeypatch.setattr(_times, "RECORDED", 4)

    def drop(name: str, result: object) -> DynamicModification | None:
        number = int(name)
        return DynamicModification(remove_nodes=[f"x{number}"]) if number < 6 else None

    names = [str(number) for number in range(7)]
    placeholders = [(name, f"x{number}") for number, name in enumerate(names[1:])]
    result = run(
        *pairwise(names), *placeholders, expanders=dict.fromkeys(names, drop), max_concurrency=1
    )
    saved = page(result)
    known = [node for node in saved.nodes.values() if node["status"] == "REMOVED"]
    assert 0 < len(known) < 6
    assert saved.notes == [
        f"Of the nodes that were removed, {6 - len(known)} are not known any more.",
        "When the first 2 modifications landed is not known any more.",
    ]


def test_a_condition_is_told_of(page: Callable[..., Page]) -> None:
    """A node knows which of its dependencies it needed on a condition."""
    dag = dagron.DAG.builder().add_edge("a", "b", condition=bool).add_edge("c", "b").build()
    result = dagron.DynamicExecutor(dag).execute_sync(dict.fromkeys(dag, nothing))
    saved = page(result)
    names = [node["name"] for node in saved.data["nodes"]]
    assert [names[number] for number in saved.nodes["b"]["needs"]] == ["a", "c"]
    assert [names[number] for number in saved.nodes["b"]["ifs"]] == ["a"]


def test_a_skip_after_what_has_no_time_has_none(page: Callable[..., Page]) -> None:
    """Where it is not known when a dependency ended, it is not known when a node was skipped."""
    dag = dagron.DAG.builder().add_edge("a", "b").build()
    nodes = {
        "a": NodeResult("a", NodeStatus.SKIPPED, reason="no reason"),
        "b": NodeResult("b", NodeStatus.SKIPPED, reason="no reason"),
    }
    entries = page(ExecutionResult(nodes, dag)).data["entries"]
    assert [time for time, *_ in entries] == [0, None, None, 0]


def test_a_page_is_small(tmp_path: Path, eventful: ExecutionResult) -> None:
    """What a page has besides the run is under 200 kB, and far below; long texts are clipped."""
    size = file_of(by_hand(), tmp_path / "empty.html").stat().st_size
    assert size < 60_000

    def fail() -> None:
        raise ValueError("x" * 1_000_000)

    specs = [
        DynamicNodeSpec(str(number), lambda: ["y" * 1_000] * 10_000, ["a"]) for number in range(9)
    ]
    result = run("a", "b", tasks={"b": fail}, expanders={"a": adding(*specs)})
    assert file_of(result, tmp_path / "run.html").stat().st_size < 150_000


@pytest.mark.parametrize("fold", [12, None])
def test_a_page_of_two_thousand_nodes(page: Callable[..., Page], fold: int | None) -> None:
    """Two thousand nodes are told of one by one, whether the graph shows them or folds them."""
    specs = [DynamicNodeSpec(f"a.{number}", nothing, ["a"], ["z"]) for number in range(2_000)]
    saved = page(run(("a", "z"), expanders={"a": adding(*specs)}), fold=fold)
    assert len(saved.nodes) == 2_002
    assert len(saved.entries) == 2 + 3 * 2_000 + 2 * 2 + 1
    assert len(saved.source) < 3_000_000
    assert saved.notes == []


# --- hostile -------------------------------------------------------------------------------------


def full_run(texts: list[str], adder: str) -> ExecutionResult:
    """A run in which these names are everywhere: of nodes that were there, added, and removed."""
    names = [text for text in texts if text != adder]

    def grow(name: str, result: object) -> DynamicModification:
        new = [
            DynamicNodeSpec(f"new {old}"[:512], broken if number % 2 else nothing, [name])
            for number, old in enumerate(names)
        ]
        new += [
            DynamicNodeSpec(f"late {old}"[:512], nothing, [f"new {old}"[:512]]) for old in names
        ]
        return DynamicModification(new, remove_nodes=names)

    return run(adder, *names, expanders={adder: grow}, max_concurrency=1)


@pytest.mark.parametrize("adder", HOSTILE[:10])
def test_hostile_names_change_nothing_but_texts(page: Callable[..., Page], adder: str) -> None:
    """Whatever nodes are called, the page has the elements and attributes that it has else."""
    harmless = [f"{'x' * 400} {number:02}" for number in range(len(HOSTILE))]
    twin = harmless[HOSTILE.index(adder)]
    hostile, tame = full_run(HOSTILE, adder), full_run(harmless, twin)
    saved = page(hostile, fold=None)
    parts = [shape_of(saved), shape_of(page(tame, fold=None))]
    assert parts[0] == parts[1]
    names = [node["name"] for node in saved.data["nodes"]]
    assert len(names) == len({*hostile.node_results, *hostile.removed})
    for element in saved.elements:
        for name, value in element.attributes.items():
            assert name in ("data-node", "content", "aria-label") or "alert" not in value


def shape_of(page: Page) -> list[tuple[str, tuple[str, ...]]]:
    """The tags and attributes of a page, but for the timeline, whose shape is that of the times."""
    first = [one.attributes.get("id") for one in page.elements].index("timeline")
    last = [one.attributes.get("id") for one in page.elements].index("summary")
    return page.shape[:first] + page.shape[last:]


class Shown:
    """A result whose ``repr()`` is a text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


@pytest.mark.parametrize("text", HOSTILE_TEXTS, ids=lambda text: ascii(text[:20]))
def test_hostile_texts_change_nothing_but_texts(page: Callable[..., Page], text: str) -> None:
    """An error, a reason, a result or a title cannot be more than text, nor turn what follows."""

    def written(text: str) -> ExecutionResult:
        error = ValueError(text)
        error.add_note(text)
        nodes = [
            NodeResult("failed", NodeStatus.FAILED, error=error, errors=(ValueError(text), error)),
            NodeResult("shown", NodeStatus.COMPLETED, Shown(text)),
            NodeResult("text", NodeStatus.COMPLETED, text),
            NodeResult("within", NodeStatus.COMPLETED, {text: [text]}),
            NodeResult("skipped", NodeStatus.SKIPPED, reason=text),
        ]
        return by_hand(*nodes, reason=text)

    saved = page(written(text), title=text)
    assert saved.shape == page(written("harmless"), title="harmless").shape
    for node in saved.data["nodes"]:
        told = [node.get("result", ""), node.get("reason", "")]
        told += [value for error in node.get("errors", ()) for value in error.values()]
        for value in told:
            assert len(value) < 50_000
            assert re.sub("[\n\xa0\u200d]", "", value).isprintable()
    assert len(saved.source) < 400_000
    for element in saved.elements:
        if element.tag not in ("script", "style", "html", "head", "body"):
            assert not {"\u202e", "\u2028", "\x1b", "\0"} & set(element.text)


def test_a_text_cannot_stand_in_for_a_part_of_the_page(page: Callable[..., Page]) -> None:
    """What looks like a gap of the page's template is text."""
    saved = page(run("{{script}}"), title="{{data}}")
    assert saved.all("h1")[0].text == "{{data}}"
    assert list(saved.nodes) == ["{{script}}"]


@pytest.mark.parametrize("kind", [RuntimeError, SystemExit, RecursionError, GeneratorExit])
def test_a_result_that_cannot_be_shown_says_so(
    page: Callable[..., Page], kind: type[BaseException]
) -> None:
    """A ``repr()`` that raises costs the text of its result, not the page."""

    class Broken:
        def __repr__(self) -> str:
            raise kind("no")

    (node,) = page(run("a", tasks={"a": Broken})).nodes.values()
    assert node["result"] == f"<a Broken that cannot be shown: it raised {kind.__name__}>"


def test_a_result_whose_class_does_not_tell_its_name_is_shown(page: Callable[..., Page]) -> None:
    """A metaclass that raises for the name of its class costs nothing but the `repr()`."""

    class Nameless(type):
        @property
        def __name__(cls) -> str:  # type: ignore[override]
            raise RuntimeError

    class Broken(metaclass=Nameless):
        pass

    (node,) = page(run("a", tasks={"a": Broken})).nodes.values()
    assert node["result"] == "<a Broken that cannot be shown: it raised RuntimeError>"


def test_an_interrupt_while_results_are_asked_is_the_persons(tmp_path: Path) -> None:
    """Ctrl-C while the page is made ends its making, and leaves the file as it was."""

    class Slow:
        def __repr__(self) -> str:
            raise KeyboardInterrupt

    path = tmp_path / "run.html"
    path.write_text("old")
    result = run("a", tasks={"a": Slow})
    with pytest.raises(KeyboardInterrupt):
        result.save_html(path)
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_text() == "old"


def test_an_error_that_cannot_be_shown_says_so(page: Callable[..., Page]) -> None:
    """An exception whose text, notes and causes raise is named by its class."""

    class Hostile(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

        @property
        def __notes__(self) -> list[str]:
            raise SystemExit("no")

    def fail() -> None:
        raise Hostile

    (node,) = page(run("a", tasks={"a": fail})).nodes.values()
    (error,) = node["errors"]
    assert error["title"] == "Hostile: <its text cannot be shown: str() raised RuntimeError>"
    assert error["text"] == "<a Hostile that cannot be shown: it raised SystemExit>"


def test_a_large_result_is_asked_for_its_beginning(page: Callable[..., Page]) -> None:
    """Of a large list the beginning is shown, without asking the rest."""
    asked = []

    class Counted:
        def __repr__(self) -> str:
            asked.append(None)
            return "x"

    (node,) = page(run("a", tasks={"a": lambda: [Counted()] * 100_000})).nodes.values()
    assert node["result"].startswith("[x, x, x,")
    assert node["result"].endswith("...]")
    assert len(asked) == 30


# --- the file ------------------------------------------------------------------------------------


def test_the_same_result_gives_the_same_file(tmp_path: Path, eventful: ExecutionResult) -> None:
    """Two pages of one result are the same, byte by byte."""
    paths = [file_of(eventful, tmp_path / f"{number}.html") for number in range(2)]
    assert paths[0].read_bytes() == paths[1].read_bytes()


SAVE = """
import sys, dagron
from dagron import NodeResult, NodeStatus
builder = dagron.DAG.builder()
nodes = {}
for name in "abcdef":
    builder.add_node(name)
    nodes[name] = NodeResult(name, NodeStatus.COMPLETED, {"b", "a", name}, None, 1.0, 1e9, 1)
for edge in ("ab", "ac", "bd", "cd", "af"):
    builder.add_edge(*edge)
dagron.ExecutionResult(nodes, builder.build()).save_html(sys.argv[1])
"""


def test_a_page_does_not_depend_on_the_process(tmp_path: Path) -> None:
    """The same result gives the same bytes, with whatever seed strings are hashed."""
    texts = set()
    for seed in "012":
        path = tmp_path / f"{seed}.html"
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": pathsep.join(filter(None, sys.path))}
        subprocess.run([sys.executable, "-c", SAVE, str(path)], env=environment, check=True)
        texts.add(path.read_bytes())
    assert len(texts) == 1


def test_a_path_may_be_text(
    tmp_path: Path, eventful: ExecutionResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path is a `Path` or a text, from the current folder on."""
    monkeypatch.chdir(tmp_path)
    eventful.save_html("run.html")
    eventful.save_html(tmp_path / "other.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.html", "run.html"]


@pytest.mark.parametrize(
    ("path", "error", "text"),
    [
        (
            ".",
            IsADirectoryError,
            "'.' is a folder: what is written is one file\n"
            "  help: name it: result.save_html('run.html')",
        ),
        ("", IsADirectoryError, "the path is empty: what is written is one file\n  "),
        (
            "no/run.html",
            FileNotFoundError,
            "there is no folder 'no' to write 'run.html' into\n"
            "  help: make it first: pathlib.Path('no').mkdir(parents=True)",
        ),
        (7, TypeError, "path is a str or a pathlib.Path, not int: 7\n  help: name a file: "),
        (b"run.html", TypeError, "path is a str or a pathlib.Path, not bytes: "),
    ],
)
def test_a_path_that_no_file_can_have_is_refused(
    path: Any,
    error: type[Exception],
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    eventful: ExecutionResult,
) -> None:
    """A folder, a folder that is not there, and what is no path are refused, with what to do."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=re.escape(text)):
        eventful.save_html(path)
    assert [*tmp_path.iterdir()] == []


def test_a_title_that_is_no_text_is_refused(tmp_path: Path, eventful: ExecutionResult) -> None:
    """A title is a text: all else is refused with what to write, and no file is there."""
    with pytest.raises(TypeError, match=r"^title is a str, not int: 7\n  help: write title="):
        eventful.save_html(tmp_path / "run.html", title=7)  # type: ignore[arg-type]
    assert [*tmp_path.iterdir()] == []


def test_a_page_is_written_whole_or_not_at_all(
    tmp_path: Path, eventful: ExecutionResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that fails leaves the old file, and nothing beside it."""
    path = file_of(eventful, tmp_path / "run.html")
    path.write_text("old")

    def fail(self: Path, target: Path) -> None:
        assert self.parent == target.parent
        assert read_page(self.read_text(encoding="utf-8")).nodes
        raise OSError("the disk is full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="the disk is full"):
        eventful.save_html(path)
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_text() == "old"


def test_what_a_link_leads_to_is_written(tmp_path: Path, eventful: ExecutionResult) -> None:
    """A symbolic link stays one."""
    (tmp_path / "there").mkdir()
    link = tmp_path / "run.html"
    link.symlink_to(tmp_path / "there" / "page.html")
    eventful.save_html(link)
    assert link.is_symlink()
    assert read_page((tmp_path / "there" / "page.html").read_text(encoding="utf-8")).nodes


def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    """What is no ordinary file is not put out of its place by one."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        _files.write("a page", path)
        assert os.read(reader, 100) == b"a page"
    finally:
        os.close(reader)
    assert path.is_fifo()
