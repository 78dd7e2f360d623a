"""Download one file from one address, whole and verified or not at all. Nothing else in c3 speaks HTTP."""

from __future__ import annotations

import hashlib
import logging
import random
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from ...common.version import __version__

logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells every request at the level INFO

RETRIED = (408, 425, 429, 500, 502, 503, 504)
GONE = (404, 410)
PLACEHOLDER = re.compile(r"/photo_(unavailable|gone)\w*\.(png|gif|jpg)$")  # where Flickr sends requests for lost photos
IMAGE_HEADS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM")


@dataclass(frozen=True)
class Target:
    """What to download, and the path to save it at. `size` is in bytes, `md5` and `sha256` are hexadecimal digits."""

    url: str
    path: Path
    size: int | None = None
    md5: str | None = None
    sha256: str | None = None
    image: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a download ended.

    `status` is ok, gone, placeholder, mismatch (wrong size or checksum, or no image), or failed (worth another try).
    """

    target: Target
    status: str
    size: int = 0
    detail: str = ""


@dataclass(frozen=True)
class Politeness:
    """Limits on what is asked of a server.

    `rate` is requests per second over all threads, `tries` the attempts per file, `backoff` the seconds before the
    second attempt (doubled before each later one), `timeout` the seconds without an answer.
    """

    rate: float = 10.0
    tries: int = 5
    backoff: float = 1.0
    timeout: float = 30.0


class Downloader:
    """Downloads files, from any number of threads, with one pool of connections and one rate limit."""

    def __init__(self, politeness: Politeness = Politeness(), connections: int = 8) -> None:
        self.politeness = politeness
        self._gate = _Gate(politeness.rate)
        self._stopped = threading.Event()
        self._client = httpx.Client(
            follow_redirects=True,
            timeout=politeness.timeout,
            limits=httpx.Limits(max_connections=connections),
            # a range counts the bytes of the file itself, so the server must not compress it
            headers={"User-Agent": f"c3-mlzsl/{__version__}", "Accept-Encoding": "identity"},
        )

    def __enter__(self) -> Downloader:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def stop(self) -> None:
        """End running downloads at once, as failed; the parts of their files are kept for the next run."""
        self._stopped.set()

    def fetch(self, target: Target) -> Outcome:
        """Download one file; whatever the network does becomes an outcome, never an exception.

        The part that an earlier attempt saved beside the file (`.part`) is continued where the server allows it. The
        file gets its name only when it is whole and verified.
        """
        part = target.path.with_name(target.path.name + ".part")
        detail = "not tried"
        for attempt in range(self.politeness.tries):
            if attempt:
                self._stopped.wait(self.politeness.backoff * 2 ** (attempt - 1) * random.uniform(0.75, 1.25))
            if self._stopped.is_set():
                return Outcome(target, "failed", detail="stopped")
            self._gate.wait()
            resumed = part.exists()
            try:
                outcome = self._attempt(target, part)
            except (httpx.TransportError, httpx.TooManyRedirects) as error:
                detail = f"{type(error).__name__}: {error}"
                continue
            except (httpx.InvalidURL, UnicodeError) as error:
                return Outcome(target, "failed", detail=f"not an address: {error}")
            except OSError as error:
                return Outcome(target, "failed", detail=f"cannot write {part}: {error.strerror or error}")
            if isinstance(outcome, str):
                detail = outcome
            elif outcome.status == "mismatch" and resumed:
                part.unlink(missing_ok=True)  # the part may belong to another edition: start again
                detail = outcome.detail
            else:
                if outcome.status not in ("ok", "failed"):
                    part.unlink(missing_ok=True)
                return outcome
        return Outcome(target, "failed", detail=f"{detail} ({self.politeness.tries} tries)")

    def _attempt(self, target: Target, part: Path) -> Outcome | str:
        """Make one request; return the reason as text where another attempt may help."""
        have = part.stat().st_size if part.exists() else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        with self._client.stream("GET", target.url, headers=headers) as response:
            if PLACEHOLDER.search(response.url.path):
                return Outcome(target, "placeholder", detail=str(response.url))
            if response.status_code in GONE:
                return Outcome(target, "gone", detail=f"HTTP {response.status_code}")
            if response.status_code == 416:
                if response.headers.get("Content-Range") == f"bytes */{have}":  # killed before it was verified
                    return _verified(target, part)
                part.unlink(missing_ok=True)
                return "HTTP 416: the part was longer than the file"
            if response.status_code in RETRIED:
                self._gate.pause(_retry_after(response))
                return f"HTTP {response.status_code}"
            if response.status_code not in (200, 206):
                return Outcome(target, "failed", detail=f"HTTP {response.status_code}")
            start = _range_start(response) if response.status_code == 206 else 0
            if start not in (0, have):
                part.unlink(missing_ok=True)
                return f"the server sent bytes from {start}, asked for {have}"
            part.parent.mkdir(parents=True, exist_ok=True)
            with part.open("ab" if start else "wb") as file:
                for chunk in response.iter_raw():  # unbuffered, so that a dropped connection loses nothing
                    if self._stopped.is_set():  # asked before the chunk: after the last one the file is whole
                        return "stopped"
                    file.write(chunk)
        return _verified(target, part)


class _Gate:
    """Lets through a limited number of requests per second, and none while a server has asked for a pause."""

    def __init__(self, rate: float) -> None:
        self._interval = 1 / rate
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self) -> None:
        """Wait for the turn of one request."""
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next)
            self._next = start + self._interval
        time.sleep(start - now)

    def pause(self, seconds: float) -> None:
        """Hold back the requests of every thread for a while."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


def _retry_after(response: httpx.Response) -> float:
    """Return the seconds that the server asks to wait, at most a minute; 0 for a date or no header."""
    value = response.headers.get("Retry-After", "")
    return min(float(value), 60.0) if value.isdecimal() else 0.0


def _range_start(response: httpx.Response) -> int:
    """Return the position of the first byte of a partial answer; -1 where the server does not say it."""
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else -1


def _verified(target: Target, part: Path) -> Outcome:
    """Compare a finished part with what is known about the file, and give it its name when it fits."""
    size = part.stat().st_size
    if target.size is not None and size != target.size:
        return Outcome(target, "mismatch", size, f"{size} bytes, expected {target.size}")
    for kind in ("md5", "sha256"):
        expected = getattr(target, kind)
        if expected is not None:
            with part.open("rb") as file:
                found = hashlib.file_digest(file, kind).hexdigest()
            if found != expected:
                return Outcome(target, "mismatch", size, f"{kind} {found}, expected {expected}")
    if target.image:
        with part.open("rb") as file:
            head = file.read(8)
        if not head.startswith(IMAGE_HEADS):
            return Outcome(target, "mismatch", size, f"not an image: it starts with {head!r}")
    part.replace(target.path)
    return Outcome(target, "ok", size)
