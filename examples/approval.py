"""A change that waits for a person: find duplicate files, propose a plan, and apply it if approved.

    python examples/approval.py                   # approves by itself, over HTTP
    python examples/approval.py --reject          # rejects by itself
    python examples/approval.py --ask ~/photos    # asks you, about a folder of yours
    python examples/approval.py --wait ~/photos   # waits until you send the decision with curl

The plan replaces every file that repeats another one by a hard link to it. The folder itself is
only read: the change is made in a copy, which is thrown away in the end unless you name a place for
it with --copy. Without a FOLDER, one is filled with the package `json` of this Python, compiled at
the three levels of optimisation: many of the files that come out are the same.

    find --+--> compare 1 --+--> plan --+--> approve --> replace 1 --+--> verify
           +--> compare 2 --+           |            --> replace 2 --+
           +--> ...       --+           +--> copy -------------------+

What is shown: the node `approve` waits at a `dagron.Gate`, which the thread of a web server opens
or rejects. `max_concurrency=1` lets one node work at a time, and yet `copy` works while `approve`
waits: waiting takes no slot. A reader of `run.events()` writes the log while the run goes on. And
where there is nothing to propose, a condition on the edges skips the rest.

Exit codes: 0, the change was applied, or there was nothing to change; 1, it was rejected, or
something failed; 2, there is no such folder.
"""

import argparse
import filecmp
import hashlib
import json
import os
import py_compile
import secrets
import shutil
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import anyio
from _loopback import Quiet, serving
from _terminal import count, visible

import dagron

# ---- the graph ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Replacement:
    """A file, and the one that it repeats: paths within the folder."""

    path: Path
    original: Path
    size: int

    def __str__(self) -> str:
        return f"{self.path} is a copy of {self.original}, {self.size:,} bytes"


@dataclass(frozen=True)
class Change:
    folder: Path
    copy: Path
    gate: dagron.Gate = field(default_factory=dagron.Gate)

    def executor(self) -> dagron.DynamicExecutor:
        dag = (
            dagron.DAG.builder()
            .add_edge("find", "plan")
            .add_edge("plan", "approve", condition=bool)  # an empty plan needs no approval
            .add_edge("plan", "copy", condition=bool)
            .add_edge("approve", "verify")
            .add_edge("copy", "verify")
            .build()
        )
        expanders = {"find": self.add_comparisons, "approve": self.add_replacements}
        return dagron.DynamicExecutor(dag, expanders, max_concurrency=1, on_failure="cancel")

    def tasks(self) -> dict[str, Callable[..., Any]]:
        return {
            "find": self.find,
            "plan": self.plan,
            "approve": self.approve,
            "copy": self.make_copy,
            "verify": self.verify,
        }

    def find(self) -> list[list[Path]]:
        """Files of the same size, which may be the same."""
        by_size = defaultdict(list)
        for path in files_in(self.folder):
            by_size[path.stat().st_size].append(path.relative_to(self.folder))
        return [paths for size, paths in sorted(by_size.items()) if size and len(paths) > 1]

    def add_comparisons(self, name: str, found: list[list[Path]]) -> dagron.DynamicModification:
        return dagron.DynamicModification(
            add_nodes=[
                dagron.DynamicNodeSpec(
                    name=f"compare {number}",
                    task=partial(self.compare, paths),
                    dependencies=[name],
                    dependents=["plan"],
                )
                for number, paths in enumerate(found, 1)
            ]
        )

    def compare(self, paths: list[Path]) -> list[Replacement]:
        originals: dict[bytes, Path] = {}
        replacements = []
        for path in paths:
            with open(self.folder / path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").digest()
            original = originals.setdefault(digest, path)
            if original is not path:
                size = (self.folder / path).stat().st_size
                replacements.append(Replacement(path, original, size))
        return replacements

    async def plan(self, inputs: Mapping[str, Any]) -> list[Replacement]:
        compared = [found for name, found in inputs.items() if name != "find"]
        plan = [replacement for found in compared for replacement in found]
        for number, replacement in enumerate(plan, 1):
            dagron.progress(number, len(plan), str(replacement))
        return plan

    async def approve(self, plan: list[Replacement]) -> list[Replacement]:
        comment = await self.gate.wait()
        dagron.progress(1, 1, f"approved: {comment}")
        return plan

    def add_replacements(self, name: str, plan: list[Replacement]) -> dagron.DynamicModification:
        return dagron.DynamicModification(
            add_nodes=[
                dagron.DynamicNodeSpec(
                    name=f"replace {number}",
                    task=partial(self.replace, replacement),
                    dependencies=[name, "copy"],
                    dependents=["verify"],
                )
                for number, replacement in enumerate(plan, 1)
            ]
        )

    def make_copy(self) -> None:
        shutil.copytree(self.folder, self.copy, symlinks=True)

    def replace(self, replacement: Replacement) -> None:
        path, original = self.copy / replacement.path, self.copy / replacement.original
        if not filecmp.cmp(path, original, shallow=False):
            raise RuntimeError(f"{replacement.path} has changed since the plan was made")
        link = path.with_name(secrets.token_hex(16))
        os.link(original, link)
        os.replace(link, path)  # at no moment is there no file

    def verify(self, approve: list[Replacement]) -> int:
        """Return how many bytes are free now; every file of the copy reads as in the folder."""
        for path in files_in(self.folder):
            copy = self.copy / path.relative_to(self.folder)
            if not filecmp.cmp(path, copy, shallow=False):
                raise RuntimeError(f"{copy} differs from {path}")
        return sum(replacement.size for replacement in approve)


def files_in(folder: Path) -> list[Path]:
    paths = sorted(folder.rglob("*"))
    return [path for path in paths if path.is_file() and not path.is_symlink()]


# ---- the decision -------------------------------------------------------------------------------


class Decision(Quiet):
    """Takes POST /TOKEN/approve and POST /TOKEN/reject; the body is a comment."""

    def __init__(self, *arguments: object, gate: dagron.Gate, token: str) -> None:
        self.decisions = {f"/{token}/approve": gate.open, f"/{token}/reject": gate.reject}
        super().__init__(*arguments)

    def do_POST(self) -> None:
        # Any page in a browser could send a POST to this address: only we know the token.
        if self.path not in self.decisions:
            return self.answer(404, "no such page\n")
        length = self.headers.get("Content-Length", "")
        body = self.rfile.read(min(int(length), 65_536) if length.isdecimal() else 0)
        comment = body[:500].decode(errors="replace") or "without a comment"
        try:
            self.decisions[self.path](comment)
        except dagron.GateError as error:  # it was decided before
            return self.answer(409, f"{error}\n")
        return self.answer(200, "so be it\n")


def post(address: str, path: str, comment: str) -> int:
    """Send a decision, and return the status of the answer."""
    with closing(HTTPConnection(address, timeout=20)) as connection:
        connection.request("POST", path, comment.encode())
        with connection.getresponse() as response:
            return response.status


def ask(gate: dagron.Gate) -> None:
    print("Apply this plan? [y/N] ", end="", flush=True)
    answer = os.read(sys.stdin.fileno(), 100)  # input() holds a lock that Python wants at its exit
    if answer.strip().lower() in (b"y", b"yes"):
        gate.open("on the terminal")
    else:
        gate.reject("not approved on the terminal")


async def send(address: str, token: str, decision: str) -> None:
    """Decide as another program would, by a request to the server."""
    comment = "decided by the example itself"
    path = f"/{token}/{decision}"
    status = await anyio.to_thread.run_sync(post, address, path, comment)
    print(f"POST /{decision}: {status}\n")


async def ask_on_terminal(gate: dagron.Gate) -> None:
    # Not in a thread of anyio's: after Ctrl-C that would be waited for until Enter is pressed.
    Thread(target=ask, args=[gate], daemon=True).start()


async def tell_how(address: str, token: str) -> None:
    for decision in ("approve", "reject"):
        print(f"  curl --data 'your comment' http://{address}/{token}/{decision}")
    print()


# ---- the run ------------------------------------------------------------------------------------


async def carry_out(
    change: Change, decide: Callable[[], Awaitable[None]]
) -> dagron.ExecutionResult:
    async with change.executor().start(change.tasks()) as run:
        async for event in run.events():
            if line := described(event):
                print(f"  {visible(line)}", flush=True)
            if isinstance(event, dagron.NodeCompleted) and event.node == "copy":
                print(f"\n{run.explain('approve')}")
                await decide()
        return await run.wait()


def described(event: dagron.Event) -> str:
    match event:
        case dagron.NodeProgress():
            return f"{event.node}: {event.note}"
        case dagron.NodeCompleted():
            return f"{event.node}: done"
        case dagron.NodeFailed():
            return f"{event.node}: failed: {event.error}"
        case dagron.NodeSkipped() | dagron.NodeCancelled():
            return f"{event.node}: {event.reason}"
        case dagron.GraphModified():
            return f"{event.by}: {count(len(event.added_nodes), 'node')} added"
        case dagron.EventsMissed():
            return f"... {count(event.last - event.first + 1, 'event')} not shown"
    return ""


def conclusion(result: dagron.ExecutionResult) -> str:
    plan, error = result["plan"].result, result["approve"].error
    if isinstance(error, dagron.GateRejectedError):
        return f"rejected: {error.reason}; nothing was changed"
    if not result.ok:
        return "something failed; the folder itself was not touched"
    if not plan:
        return "no file repeats another: there is nothing to change"
    freed = result["verify"].result
    return (
        f"applied: {count(len(plan), 'file')} replaced by a link, {freed:,} bytes freed, "
        f"and every file of the copy reads as before"
    )


# ---- the command --------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.folder and not options.folder.is_dir():
        return complain(f"{options.folder} is no folder")
    if options.copy and options.copy.exists():
        return complain(f"{options.copy} is there already: name a place for a new folder")
    if options.folder and is_within(options.copy, options.folder):
        return complain("the copy of a folder cannot be in the folder itself")
    try:
        with TemporaryDirectory() as temporary:
            folder = options.folder or compile_package(Path(temporary, "json"))
            change = Change(folder, options.copy or Path(temporary, "copy"))
            return work(change, options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def work(change: Change, options: argparse.Namespace) -> int:
    token = secrets.token_urlsafe()
    with serving(partial(Decision, gate=change.gate, token=token)) as address:
        if options.ask:
            decide = partial(ask_on_terminal, change.gate)
        elif options.wait:
            decide = partial(tell_how, address, token)
        else:
            decide = partial(send, address, token, "reject" if options.reject else "approve")
        result = anyio.run(carry_out, change, decide, backend=options.backend)
    print(f"\n{visible(conclusion(result))}")
    return 0 if result.ok else 1


def is_within(path: Path | None, folder: Path) -> bool:
    return path is not None and path.resolve().is_relative_to(folder.resolve())


def complain(what: str) -> int:
    print(f"error: {visible(what)}", file=sys.stderr)
    return 2


def compile_package(folder: Path) -> Path:
    """Fill a folder with the package `json`, compiled at the three levels of optimisation."""
    for level in (0, 1, 2):
        for source in Path(json.__file__).parent.glob("*.py"):
            compiled = folder / f"level {level}" / f"{source.stem}.pyc"
            py_compile.compile(str(source), str(compiled), doraise=True, optimize=level)
    return folder


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Replace duplicate files by links, if approved.")
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        type=Path,
        help="where to look for duplicates; it is only read (default: a compiled package)",
    )
    parser.add_argument(
        "--copy",
        metavar="PATH",
        type=Path,
        help="where the changed copy goes (default: it is thrown away)",
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--reject", action="store_true", help="reject the plan, over HTTP")
    mode.add_argument("--ask", action="store_true", help="ask on the terminal")
    mode.add_argument("--wait", action="store_true", help="wait for a request by another program")
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a name may hold what the terminal lacks
    sys.exit(main())
