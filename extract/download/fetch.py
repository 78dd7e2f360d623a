"""`c3 fetch`: download the official files and the images of a data set; the same command continues a stopped one."""

from __future__ import annotations

import csv
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ...common.errors import C3Error
from ...common.progress import progress
from ...common.signals import terminated_like_interrupted
from ..catalog.catalog import Catalog
from ..catalog.specs import DatasetSpec
from .downloader import Downloader, Outcome, Politeness, Target
from .url_lists import image_folder, image_targets, list_path

LOG = logging.getLogger(__name__)
STATUS_FILE = "fetch-status.csv"
COLUMNS = ("path", "status", "bytes", "url", "detail")
FINAL = ("gone", "placeholder", "mismatch")  # retried only with --retry-failed


@dataclass(frozen=True)
class FetchOptions:
    """The options of `c3 fetch`.

    Required files are always downloaded; `optional` adds the other files, `images` the images. `splits` and `limit`
    select images.
    """

    dataset: str
    catalog: Path | None = None
    optional: bool = False
    images: bool = False
    splits: tuple[str, ...] = ()
    limit: int | None = None
    jobs: int = 8
    retry_failed: bool = False
    politeness: Politeness = Politeness()


def fetch(options: FetchOptions) -> str:
    """Download the files that are missing and return a summary.

    Every image gets a line in fetch-status.csv beside the images: ok, gone, placeholder, mismatch or failed. Raises
    C3Error when a file (not an image) cannot be downloaded, or when no file of the data set has a plain address.
    """
    spec = Catalog(options.catalog).dataset(options.dataset)
    files = [
        Target(file.url, spec.root / file.path, file.size, sha256=file.sha256)
        for file in spec.files
        if file.url and (not file.optional or options.optional or (options.images and file.path == list_path(spec)))
    ]
    if not files and not options.images:
        raise C3Error(
            f"no file of data set {spec.name} has a plain official address; see where to get them: {spec.check}"
        )
    summary = []
    try:
        with Downloader(options.politeness, options.jobs) as downloader, terminated_like_interrupted():
            if files:
                summary.append(_fetch_files(spec, files, downloader, options))
            if options.images:
                summary.append(_fetch_images(spec, downloader, options))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"{spec.root} keeps what is downloaded, also parts of files; the same command continues"
        ) from None
    return "\n".join(summary)


def _fetch_files(spec: DatasetSpec, targets: list[Target], downloader: Downloader, options: FetchOptions) -> str:
    missing = [target for target in targets if not target.path.exists()]
    outcomes = []
    with progress("files", len(missing), "files") as bar:
        for outcome in _outcomes(downloader, iter(missing), options.jobs):
            outcomes.append(outcome)
            bar.advance(1, outcome.status != "ok", outcome.target.path.name)
    failed = [outcome for outcome in outcomes if outcome.status != "ok"]
    if failed:
        first = failed[0]
        raise C3Error(
            f"{len(failed)} of {len(missing)} files could not be downloaded, first {first.target.url}: "
            f"{first.status}, {first.detail}. Finished files are kept; the same command continues"
        )
    return f"{spec.name}: {len(outcomes)} files fetched, {len(targets) - len(missing)} were there, below {spec.root}"


def _fetch_images(spec: DatasetSpec, downloader: Downloader, options: FetchOptions) -> str:
    wanted = islice(image_targets(spec, options.splits), options.limit)
    folder = image_folder(spec)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        journal = _Journal(folder)
        counts: Counter[str] = Counter()
        pending = (target for target in wanted if journal.pending(target, counts, options.retry_failed))
        with journal, progress("images", min(_lines(spec), options.limit or sys.maxsize), "images") as bar:
            for outcome in _outcomes(downloader, pending, options.jobs):
                counts[outcome.status] += 1
                journal.write(outcome)
                bar.advance(1, outcome.status != "ok")
    except OSError as error:
        raise C3Error(f"cannot write below {folder}: {error.strerror or error}; the same command continues") from error
    shown = ", ".join(f"{count:,} {status}" for status, count in sorted(counts.items())) or "none selected"
    return f"{spec.name}: images {shown}; a line for each in {folder / STATUS_FILE}"


def _outcomes(downloader: Downloader, targets: Iterator[Target], jobs: int) -> Iterator[Outcome]:
    """Yield outcomes as downloads finish; at most two targets per thread are taken from the list ahead of time."""
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        try:
            waiting: set[Future[Outcome]] = {pool.submit(downloader.fetch, t) for t in islice(targets, 2 * jobs)}
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
                waiting |= {pool.submit(downloader.fetch, target) for target in islice(targets, len(done))}
        except BaseException:  # an interrupt too: stop what runs instead of waiting for it
            downloader.stop()
            pool.shutdown(cancel_futures=True)
            raise


class _Journal:
    """fetch-status.csv: one line per attempted image, appended as they finish; the last line of a path counts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / STATUS_FILE
        self._final: dict[str, str] = {}  # without the images that exist: there may be millions
        self._running: set[str] = set()
        if self.path.exists():
            with self.path.open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    if row.get("status") in FINAL:
                        self._final[row["path"]] = row["status"]
                    else:
                        self._final.pop(row["path"], None)

        before = _last_byte(self.path)
        self._file = self.path.open("a", encoding="utf-8", newline="")
        self._csv = csv.writer(self._file)
        if not before:
            self._csv.writerow(COLUMNS)
        elif before != b"\n":  # an earlier run was killed in the middle of a line
            self._file.write("\n")

    def __enter__(self) -> _Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def pending(self, target: Target, counts: Counter[str], retry_failed: bool) -> bool:
        """Decide whether to download a target; count it when not."""
        if target.path.exists():
            counts["there already"] += 1
            return False
        name = self._name(target)
        known = self._final.get(name)
        if known and not retry_failed:
            counts[f"{known} before"] += 1
            return False
        if name in self._running:  # two downloads never write one file
            counts["listed twice"] += 1
            return False
        self._running.add(name)
        return True

    def write(self, outcome: Outcome) -> None:
        """Append the line of a finished image."""
        name = self._name(outcome.target)
        self._running.discard(name)
        self._csv.writerow((name, outcome.status, outcome.size, outcome.target.url, outcome.detail))
        self._file.flush()

    def _name(self, target: Target) -> str:
        return target.path.relative_to(self.folder).as_posix()


def _last_byte(path: Path) -> bytes:
    """Return the last byte of a file; nothing when it is empty or missing."""
    if not path.exists() or not path.stat().st_size:
        return b""
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)


def _lines(spec: DatasetSpec) -> int:
    """Count the lines of the list of addresses, for the progress bar."""
    with (spec.root / list_path(spec)).open("rb") as file:
        return max(sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 22), b"")) - 1, 0)
