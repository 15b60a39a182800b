"""Async tests run on asyncio, trio and, where installed, uvloop; no test leaves anything behind."""

import asyncio
import threading
from collections.abc import Generator
from functools import wraps
from importlib.util import find_spec
from inspect import iscoroutinefunction
from typing import Any

import pytest

from ways import GUARD, WAYS, Way

BACKENDS = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("trio", {}), id="trio"),
]
if find_spec("uvloop"):
    BACKENDS.append(pytest.param(("asyncio", {"use_uvloop": True}), id="asyncio+uvloop"))


@pytest.fixture(scope="module", params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Asked for by anyio's plugin: which event loop the test runs on, and its options."""
    return request.param


@pytest.fixture(params=WAYS, ids=str)
def execute(request: pytest.FixtureRequest) -> Way:
    """`await executor.execute(tasks)` or `execute_sync(tasks)`: both must give the same."""
    return request.param


@pytest.fixture(autouse=True)
def no_thread_survives() -> Generator[None]:
    """A thread that a test has started ends with it (trio's idle workers are daemons, and stay)."""
    before = set(threading.enumerate())
    yield
    started = [t for t in threading.enumerate() if t not in before and not t.daemon]
    for thread in started:
        thread.join(GUARD)
    assert [t.name for t in started if t.is_alive()] == []


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """An asyncio task that a test has started ends with it; anyio would cancel it unsaid."""
    backend = pyfuncitem.funcargs.get("anyio_backend")
    if backend and backend[0] == "asyncio" and iscoroutinefunction(pyfuncitem.obj):
        pyfuncitem.obj = _leaving_no_task(pyfuncitem.obj)
    return (yield)


def _leaving_no_task(test: Any) -> Any:
    @wraps(test)
    async def checked(**fixtures: object) -> None:
        before = asyncio.all_tasks()
        await test(**fixtures)
        assert asyncio.all_tasks() - before == set()

    return checked
