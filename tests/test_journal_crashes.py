"""Killed at any moment, begun again, and ended as if nothing had happened: see `crashes`."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import crash_run
from crash_points import Death, all_points
from crashes import SABOTAGES, Crashes, Lives

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

WIDTH = 4  # of the fan-out: with that, a run has some forty nodes
EACH = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@pytest.fixture(scope="module")
def lives() -> Iterator[Lives]:
    with Lives() as lives:
        yield lives


@EACH
def test_killed_between_any_two_steps(lives: Lives, tmp_path: Path, backend: str) -> None:
    """Killed at the first passing of any named point, and half-way through its passings: nothing
    that was acknowledged is lost, no finished node runs again, no parent is without its children,
    and the run comes to the end of one that was never killed.
    """
    crashes = Crashes(lives, tmp_path, backend, WIDTH)
    passings = crashes.whole.passings
    deaths = [Death(point, max(1, passings[point] // 2)) for point in all_points(passings)]
    if backend == "asyncio":
        deaths += [Death(point, 1) for point in all_points(passings)]
    missed = crashes.die(deaths)
    assert crashes.tally.violations == []
    assert len(missed) < len(deaths) // 10, "a point is passed a little more or less often"
    assert not [death for death in missed if death.passing == 1]


@EACH
def test_killed_while_it_is_told_again(lives: Lives, tmp_path: Path, backend: str) -> None:
    """Killed again at its claim, or while its earlier life is told: that changes nothing."""
    crashes = Crashes(lives, tmp_path, backend, WIDTH)
    half = {"death": Death("before what is written happens", 27)}
    for what, passing in AGAIN:
        for moment in ("before", "after"):
            again = {"death": Death(f"{moment} {what}", passing)}
            assert crashes.run(half, again, again).kills >= 2
            assert crashes.tally.violations == []


AGAIN = [
    ("a row is told", 1),
    ("a row is told", 12),
    ("it lands again", 3),
    ("an earlier life is told", 1),
    ("what was in flight is read", 1),
    ("UPDATE", 2),
    ("the file is renamed", 1),
]


def test_killed_at_random(tmp_path: Path) -> None:
    """Killed at random points and moments: so it is then, too; `tests/crash_run.py` does more."""
    assert crash_run.run(20, 7, ["asyncio", "trio"], tmp_path, [WIDTH]).violations == []


@pytest.mark.parametrize(
    ("sabotage", "kind"),
    [("write_nothing", "lost"), ("write_expansions_later", "torn"), ("forget_a_node", "rerun")],
)
def test_defects_are_seen(lives: Lives, tmp_path: Path, sabotage: str, kind: str) -> None:
    """A journal that does not write, one that tears a parent from its children and one that forgets
    a finished node are each found out.
    """
    assert sabotage in SABOTAGES
    crashes = Crashes(lives, tmp_path, "asyncio", WIDTH)
    late = crashes.whole.passings["before an outcome is reported"] - 2
    crashes.run(
        {"death": Death("before an outcome is reported", late), "sabotage": sabotage},
        {"sabotage": sabotage},
    )
    assert getattr(crashes.tally, kind)
