"""A web server for an example: on 127.0.0.1, on a port that the system chooses, in a thread."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import Any


class Server(ThreadingTCPServer):
    daemon_threads = True  # a client that never goes away does not keep the program alive
    request_queue_size = 100


@contextmanager
def serving(handler: Any) -> Iterator[str]:
    """Serve with this handler class during the block, which is given "host:port"."""
    with Server(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, args=[0.02], daemon=True)
        thread.start()
        try:
            yield "{}:{}".format(*server.server_address)
        finally:
            server.shutdown()
            thread.join()


class Quiet(BaseHTTPRequestHandler):
    """Writes no line to stderr for every request."""

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def answer(self, status: int, text: str, kind: str = "text/plain") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class QuietFolder(Quiet, SimpleHTTPRequestHandler):
    pass


def folder_handler(folder: Path) -> partial[BaseRequestHandler]:
    """Return a handler for the files of a folder; where there is no index.html, it lists them."""
    return partial(QuietFolder, directory=str(folder))
