"""Random programs are killed at random rows of their journals, and go on: see `random_runs`."""

import pytest

from random_runs import attack


@pytest.mark.parametrize("seed", range(24))
async def test_a_random_run_goes_on_wherever_it_was_cut_off(seed: int) -> None:
    """Whatever a program does and wherever it is cut off, once and twice, with what was at work
    noted or lost, with retries or without: it comes to an end, no node runs again whose outcome was
    written, and what is recorded in the end is what was returned.
    """
    assert await attack(seed, cuts=4) > 1
