"""Terminals that pages show: servers that are started, and asked by `curl`, for real."""

import json
import os
import queue
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

from faults import GUARD
from pages import ROOT, Block, agree

RUNNING = re.compile(r"unning on http://127\.0\.0\.1:(\d+)")


class Server:
    """A server in a process of its own: a page's command, but for the port, which is a free one."""

    def __init__(self, command: str, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", *_arguments(command)],
            cwd=folder,
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reading = threading.Thread(target=self._read)
        self._reading.start()
        self._unseen = ""
        self.port = 0
        self._last_id = ""
        self._last_event = ""

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def starts(self, expected: str) -> None:
        """Check what it prints until it is ready."""
        while not (found := RUNNING.search(self._unseen)):
            self._unseen += self._next_line()
        self.port = int(found[1])
        if expected:
            self.says(re.sub(r":80[08]0\b", f":{self.port}", expected))

    def says(self, expected: str) -> None:
        """Return when it has printed this since it was last looked at, whatever stands before."""
        while not agree(f"...\n{expected}", f"\n{self._unseen}"):
            self._unseen += self._next_line(expected)
        self._unseen = ""

    def _next_line(self, expected: str = "") -> str:
        try:
            line = self._lines.get(timeout=GUARD)
        except queue.Empty:
            line = None  # it hangs
        assert line is not None, f"the server printed\n{self._unseen}\nand not\n{expected}"
        return line

    def last_words(self) -> str:
        """Kill it, and return what it has printed since it was last looked at."""
        self.close()
        while (line := self._lines.get()) is not None:
            self._unseen += line
        return self._unseen

    def ends(self, expected: str) -> int:
        """Have it end by Ctrl-C; check what it prints from then on, and return its status."""
        self._process.send_signal(signal.SIGINT)
        status = self._process.wait(timeout=GUARD)
        self._reading.join(GUARD)
        while (line := self._lines.get(timeout=GUARD)) is not None:
            self._unseen += line
        assert agree(f"...\n{expected}", f"\n{self._unseen}"), self._unseen
        return status

    def close(self) -> None:
        """Kill it, if it has not ended."""
        with self._process:
            self._process.kill()
        self._reading.join(GUARD)

    # -- requests

    def curl(self, command: str) -> str:
        """Do what `curl` would do with these arguments, and return what it would print.

        `ID` stands for the last id that the server has answered to a POST, and ` LAST` for that of
        the last event.
        """
        asked = _Asked(
            re.sub(r"(?<=/)ID\b", self._last_id, command).replace(" LAST", f" {self._last_event}")
        )
        connection = HTTPConnection("127.0.0.1", self.port, timeout=asked.max_time or GUARD)
        printed = ""
        try:
            connection.request(asked.method, asked.path, asked.data, asked.headers)
            response = connection.getresponse()
            printed = _head(response) if asked.shows_head else ""
            for line in response:
                printed += line.decode()
                if line.startswith(b"id: "):
                    self._last_event = line.decode().strip().removeprefix("id: ")
        except TimeoutError:
            return f"{printed}curl: (28) Operation timed out\n"
        finally:
            connection.close()
        if asked.method == "POST" and (found := re.search(r'"id": ?"(\w+)"', printed)):
            self._last_id = found[1]
        return printed if printed.endswith("\n") else f"{printed}\n"


class _Asked:
    """The arguments of a `curl` command; it refuses what it does not know."""

    def __init__(self, command: str) -> None:
        self.method = ""
        self.path = ""
        self.data: bytes | None = None
        self.headers: dict[str, str] = {}
        self.shows_head = False
        self.max_time: float | None = None
        words = iter(shlex.split(command)[1:])
        for word in words:
            self._take(word, words)
        assert self.path, command
        self.method = self.method or ("GET" if self.data is None else "POST")

    def _take(self, word: str, words: Iterator[str]) -> None:
        match word:
            case "-X":
                self.method = next(words)
            case "--json":
                self.data = next(words).encode()
                json.loads(self.data)
                self.headers["Content-Type"] = "application/json"
            case "-H":
                name, _, value = next(words).partition(": ")
                self.headers[name] = value
            case "-i":
                self.shows_head = True
            case "-N":  # what comes is printed at once
                pass
            case "--max-time":
                self.max_time = float(next(words))
            case _:
                url = urlsplit(f"http://{word}")
                assert url.hostname == "localhost", word
                assert not self.path, word
                self.path = f"{url.path}?{url.query}" if url.query else url.path


def _head(response: HTTPResponse) -> str:
    lines = [f"HTTP/1.1 {response.status} {response.reason}"]
    lines += [f"{name.lower()}: {value}" for name, value in response.getheaders()]
    return "\n".join([*lines, "", ""])


def _arguments(command: str) -> list[str]:
    words = command.split()
    if words[0] == "uvicorn":
        return ["-m", *words, "--port", "0"]
    assert words == ["python", "app.py"], command
    return words[1:]


class Terminals:
    """Goes through the terminals of a page; what they show is what the page shows."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: Server | None = None
        self.asked = 0
        self.status: int | None = None

    def __enter__(self) -> "Terminals":
        return self

    def __exit__(self, *error: object) -> None:
        if self._server is not None:
            self._server.close()

    @property
    def server(self) -> Server:
        assert self._server is not None, "no server was started"
        return self._server

    def show(self, block: Block) -> None:
        """Do what stands in a terminal, or wait for what the server prints meanwhile: a text."""
        if block.language == "text":
            self.server.says(block.text)
            return
        for command, expected in block.commands():
            printed = self._do(command, expected)
            assert agree(expected, printed), (
                f"{block.file}:{block.line}: {command} prints\n{printed}\nand not\n{expected}\n"
                f"the server:\n{self._server and self._server.last_words()}"
            )

    def _do(self, command: str, expected: str) -> str:
        """Return what a command prints; a server prints what is expected, or raises."""
        if command == "^C":
            self.status = self.server.ends(expected)
        elif command.startswith("curl "):
            self.asked += 1
            return self.server.curl(command)
        elif self._server is None and re.match(r"uvicorn |python app\.py$", command):
            self._server = Server(command, self._folder)
            self._server.starts(expected)
        else:
            return program(command, self._folder)
        return expected


def program(command: str, folder: Path) -> str:
    """What `python FILE` prints, and the shell if it was killed; `NAME=value` before it is its
    environment.
    """
    settings, python, arguments = command.partition("python ")
    assert python, command
    ran = subprocess.run(
        [sys.executable, "-W", "error", *arguments.split()],
        cwd=folder,
        env=_environment() | dict(word.split("=") for word in settings.split()),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=3 * GUARD,
    )
    assert ran.returncode in (0, -signal.SIGKILL), ran.stdout
    return ran.stdout + ("Killed\n" if ran.returncode else "")


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
