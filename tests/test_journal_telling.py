"""What a run came to can be told from its rows alone, without a call of the user's code."""

from typing import Any

import anyio
import pytest

from books import MemoryJournal, Page
from dagron import ExecutionResult
from tellings import all_facts, told
from test_journal_resume import GUARD, PROGRAMS, Program


async def run(
    make: type[Program], page: Page | None = None, **more: Any
) -> tuple[ExecutionResult, Page]:
    program, journal = make(), MemoryJournal()
    if page is not None:
        journal.pages["a"] = page
    with anyio.fail_after(GUARD):
        result = await program.executor(journal).execute(program.tasks(), run_id="a", **more)
    return result, journal.pages["a"]


@pytest.mark.parametrize("make", PROGRAMS)
async def test_what_is_told_is_what_was_returned(make: type[Program]) -> None:
    """The rows of a finished run tell the result that it returned."""
    result, page = await run(make)
    assert all_facts(told(page)) == all_facts(result)


@pytest.mark.parametrize("make", PROGRAMS)
async def test_a_run_of_two_lives_is_told(make: type[Program]) -> None:
    """The rows of a run that was cut off anywhere and went on tell the result of its last life."""
    _, whole = await run(make)
    for count in range(1, len(whole.rows)):
        result, page = await run(make, whole.cut(count))
        assert all_facts(told(page)) == all_facts(result), f"cut off after {count} rows"
