"""ProcessRunner: bodies run in worker processes of this program, which can be killed."""

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self, cast

from anyio import (
    BrokenResourceError,
    CancelScope,
    CapacityLimiter,
    ClosedResourceError,
    EndOfStream,
    IncompleteRead,
    create_task_group,
    move_on_after,
    open_process,
    to_thread,
)
from anyio.abc import ByteReceiveStream, ByteSendStream, Process
from anyio.streams.buffered import BufferedByteReceiveStream

from dagron._checks import counted
from dagron._errors import NotPicklableError, WorkerLostError
from dagron._runner import Call
from dagron.runners._entries import (
    Entries,
    backend_name,
    boxed,
    checked_variables,
    loaded_here,
)
from dagron.runners._pickles import TooLarge, loaded
from dagron.runners._travel import packed
from dagron.runners._worker import CALL, ERROR, HEADER, PROGRESS, READY, SECONDS

GONE = (EndOfStream, IncompleteRead, BrokenResourceError, ClosedResourceError, OSError)
LARGE = 1 << 18  # bytes beyond which the event loop leaves pickling to a thread
PATIENCE = 2.0  # seconds that an idle worker has to end by itself
START = (
    "import sys; sys.path[:] = {path!r}; "
    "from dagron.runners._worker import main; main({shown!r}, {memory!r})"
)


class ProcessRunner:
    """Runs bodies in worker processes of this program: for what keeps a processor busy.

    ``workers`` is how many processes there are at most (default: one per processor); each makes one
    call at a time, and begins with its first. Tasks, arguments and results are pickled by
    cloudpickle, so that lambdas and closures work. An ``async def`` runs in an event loop of the
    worker's own, of the kind that the program has.

    A body that is cancelled or out of time is killed with its process, and whatever it has started;
    another process takes its place. A worker that ends by itself fails the node with
    `WorkerLostError`, which has its exit code. ``memory_limit`` bounds the address space of each
    worker, in bytes, where the system can: beyond it Python raises MemoryError.

    ``carry`` names the context variables whose values a body is to see; the context of
    OpenTelemetry travels by itself. `progress` works in a body, and `check_cancelled` never raises
    there. What a body prints goes where the program prints.

    As an async context manager it keeps its processes from run to run; a run that finds it not
    entered begins and ends them itself. Raises `TypeError` or `ValueError` that name the parameter.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        memory_limit: int | None = None,
        carry: Iterable[ContextVar[Any]] = (),
    ) -> None:
        count = getattr(os, "process_cpu_count", os.cpu_count)() or 1
        self._workers = count if workers is None else counted("workers", workers)
        self._memory = None if memory_limit is None else counted("memory_limit", memory_limit)
        self._carry = checked_variables(carry)
        self._entries = Entries("ProcessRunner", self._begin, self._end)
        self._idle: deque[_Worker] = deque()
        self._limiter: CapacityLimiter
        self._threads: CapacityLimiter
        self._backend = ""

    @property
    def slots(self) -> int:
        """How many processes there are at most."""
        return self._workers

    async def __aenter__(self) -> Self:
        """Begin to keep processes; none is started before it is needed."""
        await self._entries.enter()
        return self

    async def _begin(self) -> None:
        self._limiter = CapacityLimiter(self._workers)
        self._threads = CapacityLimiter(2)
        self._backend = backend_name()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the processes, if it is left for the last time."""
        await self._entries.leave()

    async def _end(self) -> None:
        async with create_task_group() as group:
            while self._idle:
                group.start_soon(self._idle.pop().end)

    async def run(self, call: Call) -> Any:
        """Make the call in a process, which is killed if this is cancelled."""
        self._entries.check()
        _refuse_resources(call)
        pickled = await self._packed(call)
        async with self._limiter:
            worker = await self._worker(call.node)
            try:
                kind, content = await worker.call(call, pickled)
                if kind == ERROR:
                    error = loaded_here(content[SECONDS.size :], call.node, "its error")
            except NotPicklableError:
                self._idle.append(worker)
                raise
            except BaseException:
                await worker.kill()
                raise
            if kind == ERROR and isinstance(error, MemoryError):
                await worker.kill()  # who knows what is missing there
            else:
                self._idle.append(worker)
        del pickled
        call.line.took(*SECONDS.unpack_from(content))
        if kind == ERROR:
            raise boxed(error, call.node)
        return await self._loaded(content[SECONDS.size :], call.node)

    async def _packed(self, call: Call) -> bytes:
        """Pack a call, in a thread if it is large."""
        try:
            return packed(call, self._backend, self._carry, limit=LARGE)[0]
        except TooLarge:
            return (
                await to_thread.run_sync(
                    packed, call, self._backend, self._carry, limiter=self._threads
                )
            )[0]

    async def _loaded(self, content: memoryview, node: str) -> Any:
        """Load a result, in a thread if it is large."""
        arguments = content, node, "its result"
        if len(content) <= LARGE:
            return loaded_here(*arguments)
        return await to_thread.run_sync(loaded_here, *arguments, limiter=self._threads)

    async def _worker(self, node: str) -> "_Worker":
        while self._idle:
            worker = self._idle.pop()
            if worker.is_alive:
                return worker
            await worker.kill()
        worker = await _started(self._memory)
        try:
            await worker.begin(node)
        except BaseException:
            await worker.kill()
            raise
        return worker


def _refuse_resources(call: Call) -> None:
    if call.resources:
        raise ValueError(
            f"node {call.node!r:.60} asks for the resources {dict(call.resources)!r:.60}, and a "
            f"ProcessRunner counts none\n"
            f"  help: give it a group with a limit: NodePolicy(group=...)"
        )


async def _started(memory: int | None) -> "_Worker":
    """Start a process, in a session of its own: Ctrl-C is for the program, which ends it."""
    shown = _own_stdout()
    code = START.format(path=sys.path, shown=shown, memory=memory)
    try:
        with CancelScope(shield=True):  # a process that is half started would be nobody's
            process = await open_process(
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None,
                start_new_session=True,
                pass_fds=() if shown is None else (shown,),
            )
    finally:
        if shown is not None:
            os.close(shown)
    return _Worker(process)


def _own_stdout() -> int | None:
    """Return a copy of the descriptor to which this program prints, if it has one to pass on."""
    if os.name == "nt":
        return None
    try:
        return os.dup(1)
    except OSError:
        return None


class _Worker:
    """One process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._stdin = cast("ByteSendStream", process.stdin)
        self._stdout = BufferedByteReceiveStream(cast("ByteReceiveStream", process.stdout))
        self.name = f"process {process.pid}"

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None

    async def begin(self, node: str) -> None:
        """Return when it is ready."""
        try:
            kind, _ = await self._receive()
        except GONE:
            raise await self._lost(node, "could not begin") from None
        if kind != READY:
            raise await self._lost(node, "answered something else than that it is ready")

    async def call(self, call: Call, pickled: bytes) -> tuple[bytes, memoryview]:
        """Make a call and return the kind of its outcome, and what came: the seconds, and that.

        Raises `WorkerLostError` if the process ends first.
        """
        call.line.placed(self.name)
        reply: tuple[bytes, bytes | bytearray] | None = None
        async with create_task_group() as group:
            group.start_soon(self._clear_away)
            with suppress(*GONE):
                await self._send(pickled)
                reply = await self._receive()
                while reply[0] == PROGRESS:
                    call.line.progress(*loaded(reply[1]))
                    reply = await self._receive()
            group.cancel_scope.cancel()
        if reply is None or reply[0] == PROGRESS:
            raise await self._lost(call.node, "ended while it ran")
        return reply[0], memoryview(reply[1])

    async def _send(self, pickled: bytes) -> None:
        """Send a call; a large one in pieces, for the event loop copies what it cannot send."""
        await self._stdin.send(HEADER.pack(CALL, len(pickled)))
        content = memoryview(pickled)
        for at in range(0, len(pickled), LARGE):
            await self._stdin.send(cast("bytes", content[at : at + LARGE]))

    async def _receive(self) -> tuple[bytes, bytes | bytearray]:
        header = await self._stdout.receive_exactly(HEADER.size)
        kind, length = HEADER.unpack(header)
        if length <= LARGE:
            return kind, await self._stdout.receive_exactly(length) if length else b""
        content, at = bytearray(length), 0
        while at < length:
            piece = await self._stdout.receive(min(length - at, LARGE))
            content[at : at + len(piece)] = piece
            at += len(piece)
        return kind, content

    async def _clear_away(self) -> None:
        """Let nothing that the process has started hold its pipe open after its end."""
        await self._process.wait()
        self._kill()

    async def _lost(self, node: str, what: str) -> WorkerLostError:
        with CancelScope(shield=True):
            await self.kill()
        code = self._process.returncode
        return WorkerLostError(
            f"the worker of node {node!r:.60}, {self.name}, {what}: {_shown_code(code)}\n"
            f"  help: if it may succeed when tried again, give it NodePolicy(retry=...)",
            node,
            self.name,
            code,
        )

    async def end(self) -> None:
        """Let an idle process end by itself, or kill it if it does not."""
        with move_on_after(PATIENCE):
            await self._stdin.aclose()
            await self._process.wait()
        await self.kill()

    async def kill(self) -> None:
        """End the process and all that it has started, and wait until it has ended."""
        self._kill()
        with CancelScope(shield=True):
            await self._process.wait()
            await self._process.aclose()

    def _kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            if os.name == "nt":
                self._process.kill()
            else:
                os.killpg(self._process.pid, signal.SIGKILL)


def _shown_code(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    return f"exit code {code}"
