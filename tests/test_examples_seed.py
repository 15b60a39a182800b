"""examples/seed_examples.py: its scenarios, awaited and blocking, and the program as it is run."""

from collections.abc import Iterator
from types import ModuleType

import anyio
import pytest

from example_runs import imported, runner

run = runner("seed_examples")


@pytest.fixture(scope="module")
def seed() -> Iterator[ModuleType]:
    with imported("seed_examples") as [module]:
        yield module


@pytest.fixture(params=["asyncio", "trio"])
def blocking(request: pytest.FixtureRequest) -> str:
    return request.param


async def test_fan_out(seed: ModuleType) -> None:
    """S8: the nodes that an expander adds stand between its own node and the merge."""
    result = await seed.fan_out().awaited()
    assert result.succeeded == 5
    assert list(result.node_results) == [
        "find_photos",
        "thumbnail:beach",
        "thumbnail:forest",
        "thumbnail:harbour",
        "contact_sheet",
    ]
    assert result["thumbnail:forest"].result == "forest at 200 pixels"
    assert result["contact_sheet"].result == "a sheet of 3 thumbnails"


async def test_replacement(seed: ModuleType) -> None:
    """S13: one modification removes the placeholder and adds two nodes that `bind` waits for."""
    result = await seed.replacement().awaited()
    assert result.removed == ("translate",)
    assert "translate" not in result
    assert result["bind"].result == ["Guten Tag, reader", "Bonjour, reader"]
    assert result.dag.dependencies("bind") == ["translate:german", "translate:french"]


async def test_etl(seed: ModuleType) -> None:
    """S14: a discovery, four stations, an aggregation over `inputs` and a bulletin: 7 tasks."""
    result = await seed.etl().awaited()
    assert result.succeeded == 7
    assert result.dag.match("station:*") == [
        "station:coast",
        "station:hills",
        "station:plain",
        "station:valley",
    ]
    assert result["bulletin"].result == "warmest: plain with 16.0 degrees"


async def test_chained(seed: ModuleType) -> None:
    """S20: a node added at run time has an expander, whose nodes the last one waits for."""
    result = await seed.chained().awaited()
    assert list(result.node_results) == [
        "book",
        "contents",
        "chapter:departure",
        "chapter:return",
        "index",
    ]
    assert [node.added_by for node in result.node_results.values()] == [
        None,
        "book",
        "contents",
        "contents",
        None,
    ]
    assert [node.depth for node in result.node_results.values()] == [0, 1, 2, 2, 0]


@pytest.mark.parametrize(
    ("rows", "model"),
    [
        (9, "fit_mean"),
        (10, "fit_line"),
        (999, "fit_line"),
        (1_000, "fit_nearest"),
    ],
)
async def test_model_selection(seed: ModuleType, rows: int, model: str) -> None:
    """S23, S24: the data chooses one model; those that were not chosen are not in the results."""
    result = await seed.model_selection(rows).awaited()
    assert list(result.node_results) == ["measure", "select_model", model, "evaluate"]
    assert result["evaluate"].result.startswith(f"{model} on {rows} rows")


async def test_failing_expander(seed: ModuleType) -> None:
    """S25, S26: an expander that raises fails its node and skips its descendants, and no more."""
    result = await seed.failing_expander().awaited()
    assert str(result["manifest"].status) == "FAILED"
    assert isinstance(result["manifest"].error, KeyError)
    assert result["manifest"].result == {"letters": ["to A", "to B"]}
    assert str(result["dispatch"].status) == "SKIPPED"
    assert "manifest" in result["dispatch"].reason
    assert result["weather"].result == "dry"


async def test_failing_expander_handled(seed: ModuleType) -> None:
    """S37: an expander that catches its error and returns an empty modification fails nothing."""
    result = await seed.failing_expander(careful=True).awaited()
    assert result.ok
    assert result.succeeded == 3


def test_blocking_is_the_same(seed: ModuleType, blocking: str) -> None:
    """`execute_sync` gives the nodes, outcomes and values of the awaited run, on either backend."""
    for make in seed.SCENARIOS:
        scenario = make()
        [awaited] = anyio.run(seed.run_awaited, [scenario], backend=blocking)
        result = scenario.executor().execute_sync(scenario.tasks, backend=blocking)
        assert seed.same(result, awaited), scenario.title


def test_a_difference_is_seen(seed: ModuleType) -> None:
    """What the program compares the two runs with tells a different run apart."""
    good, bad = seed.failing_expander(careful=True), seed.failing_expander()
    assert not seed.same(good.blocking(), bad.blocking())
    assert not seed.same(seed.fan_out().blocking(), seed.etl().blocking())


def test_as_a_program() -> None:
    """Run as a program it shows every scenario, what was added and removed, and ends with 0."""
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    assert "fan-out: 2 nodes became 5" in done.stdout
    assert "+ thumbnail:beach" in done.stdout
    assert "- translate" in done.stdout
    assert "KeyError('parcels')" in done.stdout
    assert done.stdout.count("execute_sync: ") == 7
    assert done.stdout.endswith("await and execute_sync gave the same.\n")


def test_one_scenario_as_a_program() -> None:
    """A word on the command line chooses the scenarios that have it in their names."""
    assert run("chained").stdout.startswith("chained: 2 nodes became 5")
    wrong = run("chaned")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "no scenario is called chaned" in wrong.stderr
