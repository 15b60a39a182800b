"""examples/monte_carlo.py: the same prices from every runner."""

from collections.abc import Iterator
from types import ModuleType

import pytest

from away import missing
from example_runs import imported, runner

run = runner("monte_carlo")
QUICK = ("--paths", 50, "--target", 0.4)


@pytest.fixture(scope="module")
def monte_carlo() -> Iterator[ModuleType]:
    with imported("monte_carlo") as [module]:
        yield module


def test_more_is_sampled_where_the_variance_asks_for_it(monte_carlo: ModuleType) -> None:
    """Samples add up, and the batches that are missing bring the error down to the target."""
    sample = monte_carlo.draw(100, 0, 100)
    assert sample == monte_carlo.draw(100, 0, 100)
    assert sample != monte_carlo.draw(100, 1, 100)
    both = sample + monte_carlo.draw(100, 1, 100)
    assert both.count == 200
    assert both.error < sample.error
    few, many = (monte_carlo.missing_batches(sample, target) for target in (0.5, 0.05))
    assert 0 <= few < many <= monte_carlo.MOST
    assert monte_carlo.missing_batches(sample, 1000.0) == 0


def test_the_prices_are_plausible() -> None:
    """A lower strike is worth more; every error is near the target; the counts differ."""
    ended = run(*QUICK)
    assert ended.returncode == 0, ended.stderr
    rows = [line.split() for line in ended.stdout.splitlines()[1:]]
    assert [row[1] for row in rows] == ["80", "90", "100", "110", "120"]
    prices = [float(row[2]) for row in rows]
    assert prices == sorted(prices, reverse=True)
    assert all(0 < float(row[3]) < 0.8 for row in rows)
    assert len({row[4] for row in rows}) > 1
    assert "sampling nodes added" in ended.stderr


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@missing("process")
def test_processes_give_the_same(backend: str) -> None:
    """The same file on processes prints the same table."""
    ended = run(*QUICK, "--runner", "process", "--backend", backend)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == run(*QUICK).stdout


@missing("ray")
def test_ray_gives_the_same() -> None:
    """The program starts a Ray of its own, prints the same table, and shuts it down."""
    environment = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    ended = run(*QUICK, "--runner", "ray", **environment)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == run(*QUICK).stdout


@missing("dask")
def test_a_cluster_that_is_not_there_is_told() -> None:
    """Exit code 2, and how to start one."""
    ended = run(*QUICK, "--runner", "dask", "--address", "tcp://127.0.0.1:9", "--wait", 0.5)
    assert ended.returncode == 2
    assert "dask scheduler" in ended.stderr
