"""Web services as real servers in processes of their own, and a client, for tests of examples."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from example_runs import EXAMPLES
from faults import GUARD, Program, program

# Whoever imports this module is skipped where one of these is missing.
EXTRA = "needs the extra: python -m pip install -e '.[services]'"
aiohttp: Any = pytest.importorskip("aiohttp", reason=EXTRA)
pytest.importorskip("fastapi", reason=EXTRA)
pytest.importorskip("uvicorn", reason=EXTRA)

# Jobs that block do so until the test writes a line to the server's standard input.
PREAMBLE = """
import socket, sys, threading

sys.path[:0] = sys.argv[1].split("|")
go = threading.Event()

def say(line):  # in one piece: print() lets another thread in between a line and its end
    sys.stdout.write(line + "\\n")
    sys.stdout.flush()

def read_stdin():
    for line in sys.stdin:
        go.set()

threading.Thread(target=read_stdin, daemon=True).start()
listening = socket.socket()
listening.bind(("127.0.0.1", 0))
listening.listen(500)
print(listening.getsockname()[1], flush=True)
"""


class Service:
    """A server that runs: where it listens, and its process."""

    def __init__(self, process: Program) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{int(next(process._out))}"

    def call(self, client: Callable[["Client"], Coroutine[Any, Any, Any]]) -> Any:
        """Run a client to its end."""

        async def main() -> Any:
            connector = aiohttp.TCPConnector(limit=0)
            async with asyncio.timeout(3 * GUARD):
                async with aiohttp.ClientSession(self.url, connector=connector) as session:
                    return await client(Client(session))

        return asyncio.run(main())


class Client:
    """Asks a service of jobs."""

    def __init__(self, session: Any) -> None:
        self.session = session

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.session.get(path) as response:
            return response.status, await _body(response)

    async def post(self, path: str, data: bytes = b"") -> tuple[int, Any]:
        async with self.session.post(path, data=BytesIO(data)) as response:
            return response.status, await _body(response)

    async def start(self, data: bytes, path: str = "/jobs") -> str:
        status, job = await self.post(path, data)
        assert status == 202, job
        id: str = job["id"]
        return id

    @asynccontextmanager
    async def opened(self, id: str, last: str | None = None) -> AsyncIterator[Any]:
        """The event stream of a job, of which nothing has been read."""
        headers = {} if last is None else {"Last-Event-ID": last}
        async with self.session.get(f"/jobs/{id}/events", headers=headers) as response:
            assert response.status == 200
            assert response.content_type == "text/event-stream"
            yield response.content

    async def messages(self, id: str, last: str | None = None) -> AsyncIterator[dict[str, str]]:
        """The messages of a job's event stream, to its end."""
        async with self.opened(id, last) as stream:
            fields: dict[str, str] = {}
            async for line in stream:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    fields[name] = value
                elif fields:
                    yield fields
                    fields = {}

    async def forgotten(self, id: str, path: str = "") -> tuple[int, Any]:
        """The answer when a job is known no more which is forgotten when it ends."""
        while True:
            status, answer = await self.get(f"/jobs/{id}{path}")
            if status != 200:
                return status, answer

    async def ended(self, id: str) -> dict[str, Any]:
        """Read a job's events to `end`; return what that says."""
        async for message in self.messages(id):
            if message["event"] == "end":
                told: dict[str, Any] = json.loads(message["data"])
                return told
        raise AssertionError("the stream ended before the job")


def seq_of(message: dict[str, str]) -> int:
    """The number of the event in a message's id."""
    return int(message["id"].rpartition("-")[2])


async def _body(response: Any) -> Any:
    if response.content_type == "application/json":
        return await response.json()
    return await response.text()


@contextmanager
def served(source: str, folder: Path) -> Iterator[Service]:
    """Serve with this program, which finds `listening`, `go` and the folder as `sys.argv[2]`."""
    places = "|".join(map(str, (EXAMPLES, EXAMPLES / "fastapi_jobs")))
    with program(PREAMBLE + source, places, str(folder)) as process:
        yield Service(process)
