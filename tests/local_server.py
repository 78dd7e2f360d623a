"""A web server on this machine that misbehaves as its paths say: what `c3 fetch` is tested on."""

from __future__ import annotations

import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

JPEG = b"\xff\xd8\xff" + bytes(range(256)) * 40


class Server(ThreadingHTTPServer):
    """Serves JPEG under every path; the path says how it misbehaves, `asked` counts requests and keeps ranges."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: Counter[str] = Counter()
        self.ranges: list[str | None] = []
        self.times: list[float] = []
        self.lock = threading.Lock()
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        with self.server.lock:
            self.server.asked[self.path] += 1
            times = self.server.asked[self.path]
            self.server.ranges.append(wanted)
            self.server.times.append(time.monotonic())
        kind = self.path.split("/")[1]
        body = b"<html>hello</html>" if kind == "html" else JPEG
        if kind == "gone":
            self._send(404)
        elif kind == "forbidden":
            self._send(403)
        elif kind == "removed":
            self._send(302, Location=f"{self.server.url}/images/photo_unavailable.png")
        elif kind == "busy" and times < 3:
            self._send(429, **{"Retry-After": "0"})
        elif kind == "broken" and times < 3:
            self._send(503)
        elif kind == "always-broken":
            self._send(500)
        elif kind == "drop" and times < 3:
            self.close_connection = True  # no answer at all
        elif (kind == "half" and times == 1) or (kind == "half-no-range" and times < 3):
            self._send(200, body, sent=len(body) // 2)
        elif kind == "endless":
            self.send_response(200)
            self.send_header("Content-Length", str(1 << 30))
            self.end_headers()
            while not self.server.closing.wait(0.01):
                self.wfile.write(JPEG)
        elif kind == "loop":
            self._send(302, Location=self.server.url + "/loop")
        elif wanted and kind == "half":
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                self._send(416, **{"Content-Range": f"bytes */{len(body)}"})
            else:
                self._send(206, body[start:], **{"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"})
        else:
            self._send(200, body)

    def _send(self, status: int, body: bytes = b"", sent: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if sent is None else body[:sent])
        if sent is not None:
            self.close_connection = True
