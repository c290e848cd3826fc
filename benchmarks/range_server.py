"""A folder over HTTP, in parts, as an object store gives it: slow or failing where it is told so.

``python benchmarks/range_server.py FOLDER [--latency SECONDS]`` prints its URL and serves until it is killed.
"""

import argparse
import re
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

RANGE = re.compile(r"bytes=(\d+)-(\d*)$")


class RangeServer(ThreadingHTTPServer):
    """Serves the files of a folder.

    Args:
        folder: Which one.
        latency: Seconds before each answer.
        answers: Told the number of a request and its path, gives the status to fail with, or 0.
    """

    daemon_threads = True

    def __init__(
        self, folder: Path, latency: float = 0.0, answers: Callable[[int, str], int] = lambda number, path: 0
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Files)
        self.folder, self.latency, self.answers = folder, latency, answers
        self.ranges = True
        self.asked: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked has left: nothing to say."""


class _Files(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: RangeServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else the end of each answer waits for the receipt of its beginning

    def do_HEAD(self) -> None:
        """The length of a file."""
        self._answer(body=False)

    def do_GET(self) -> None:
        """A file, or a part of it."""
        self._answer(body=True)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed for a request."""

    def _answer(self, *, body: bool) -> None:
        """Send a file or what is asked of it."""
        self.server.asked.append((self.command, self.path))
        time.sleep(self.server.latency)
        file, status = self.server.folder / self.path.lstrip("/"), 200
        failure = self.server.answers(len(self.server.asked), self.path)
        if failure or not file.is_file():
            self.send_response(failure or 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        size = file.stat().st_size
        asked = RANGE.match(self.headers.get("Range", "")) if self.server.ranges else None
        first, end = 0, size
        if asked:
            first, end, status = int(asked[1]), min(size, int(asked[2]) + 1 if asked[2] else size), 206
        self.send_response(status)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(end - first))
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{end - 1}/{size}")
        self.end_headers()
        if body:
            with file.open("rb") as stream:
                stream.seek(first)
                self.wfile.write(stream.read(end - first))


def main() -> None:
    """Serve a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--latency", type=float, default=0.0)
    chosen = parser.parse_args()
    server = RangeServer(chosen.folder, chosen.latency)
    print(server.url, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
