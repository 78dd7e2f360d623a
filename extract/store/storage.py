"""Where the files of a store are: a folder, or any fsspec URL (s3://, gs://, memory:// ...).

Zarr reads and writes arrays through `zarr_store`; what needs exact bytes (the chunk reader, flags, verification) uses
the other methods. The drivers of fsspec take credentials and endpoints from the environment.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote
from typing import Any, ClassVar

from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore

from ...common.errors import C3Error, StoreDamaged
from ...common.files import flush, replacing
from ...common.unicode_forms import on_disk, path_text

# Empty; processes hold single bytes of it, which the system frees when they end. Inside an array, because zarr-python
# warns of strange files in a group.
LOCK_FILE = "classes/seen/.c3-lock"
OLD_LOCK_FILE = ".c3-lock"  # where older versions of c3 had it
ADVICE = 2**20  # bytes: Linux fetches no more than a disk's largest request for one advice, often 1.25 MiB


def open_storage(location: str | Path) -> Storage:
    """Return the storage behind a path or URL; `file://` is a local path."""
    text = os.fspath(location)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    return RemoteStorage(text) if "://" in text else LocalStorage(on_disk(Path(text)))


class Storage(ABC):
    """The files of one store by their keys, `train/pyramid/p8/c/0/0/0/0`."""

    location: str  # as the user gave it; stands in messages
    address: str  # means the same in every folder: an absolute path or a URL
    parallel_reads: int  # how many reads should be in flight at once

    def damaged(self, fault: str) -> StoreDamaged:
        """Return the error for a part of the store that is lost or damaged; it names the command that mends it."""
        return StoreDamaged(self.location, fault, f"mend it with: c3 verify {quote(self.location)} --repair")

    @abstractmethod
    def zarr_store(self, read_only: bool = False) -> Store:
        """Return the same files as a Zarr store."""

    @abstractmethod
    def exists(self) -> bool:
        """Return whether there is anything at the location."""

    @abstractmethod
    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes | bytearray:
        """Return bytes start..stop of a file; a negative start counts from its end. Raises FileNotFoundError."""

    def announce(self, key: str, start: int, stop: int) -> None:  # noqa: B027 - reads of a network overlap anyway
        """Let the system fetch bytes start..stop of a file, which will be read soon; do not wait for them."""

    @abstractmethod
    def names(self, prefix: str) -> list[str]:
        """Return the names directly below a prefix, in no order; none when there is no such folder."""

    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """Return key -> bytes, for every file."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Delete one file, if it exists."""

    @abstractmethod
    def delete_folder(self, prefix: str) -> None:
        """Delete everything below a prefix, scratch files of killed processes included."""

    @abstractmethod
    def write(self, key: str, data: bytes) -> None:
        """Replace one file whole."""

    def adopt(self, source: Storage, theirs: str, key: str) -> None:
        """Take over a finished file of another store as `key`: link it where possible, else copy it."""
        self.write(key, bytes(source.read(theirs)))

    def flush(self, keys: Sequence[str]) -> None:  # noqa: B027 - an object store answers only when an object is safe
        """Return when these files would survive a power cut."""

    @contextlib.contextmanager
    def claim(self, number: int) -> Iterator[bool]:
        """Hold the right to write shard `number` (counted over the store); False when another process holds it."""
        yield True  # an object store replaces whole objects: two writers of a shard would write the same bytes

    def free_bytes(self) -> int | None:
        """Return the free space in bytes, or None where it is unknown."""
        return None


class LocalStorage(Storage):
    """A folder of this machine."""

    parallel_reads = os.cpu_count() or 1

    def __init__(self, path: Path) -> None:
        self.path = path
        self.location = str(path)
        self.address = path_text(path.resolve())

    def zarr_store(self, read_only: bool = False) -> Store:
        return LocalStore(self.path, read_only=read_only)

    def exists(self) -> bool:
        return self.path.exists()

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes | bytearray:
        file = os.open(self.path / key, os.O_RDONLY)
        try:
            size = os.fstat(file).st_size
            start = max(size + start, 0) if start < 0 else start
            wanted = max((size if stop is None else min(stop, size)) - start, 0)
            return os.pread(file, wanted, start)
        finally:
            os.close(file)

    def announce(self, key: str, start: int, stop: int) -> None:
        if not hasattr(os, "posix_fadvise"):  # macOS
            return
        file = os.open(self.path / key, os.O_RDONLY)
        try:
            for first in range(start, stop, ADVICE):
                os.posix_fadvise(file, first, min(ADVICE, stop - first), os.POSIX_FADV_WILLNEED)
        finally:
            os.close(file)

    def names(self, prefix: str) -> list[str]:
        try:
            with os.scandir(self.path / prefix) as entries:
                return [entry.name for entry in entries]
        except FileNotFoundError:
            return []

    def sizes(self) -> dict[str, int]:
        found = {}
        for folder, _, names in os.walk(self.path):
            for name in names:
                file = Path(folder, name)
                found[file.relative_to(self.path).as_posix()] = file.stat().st_size
        return found

    def delete(self, key: str) -> None:
        (self.path / key).unlink(missing_ok=True)

    def write(self, key: str, data: bytes) -> None:
        file = self.path / key
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as scratch:
            scratch.write_bytes(data)

    def delete_folder(self, prefix: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.path / prefix)

    def adopt(self, source: Storage, theirs: str, key: str) -> None:
        if not isinstance(source, LocalStorage):
            super().adopt(source, theirs, key)
            return
        target = self.path / key
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source.path / theirs, target)  # files are replaced, never changed in place: sharing one is safe
        except OSError:  # another disk, or a file system without links
            shutil.copyfile(source.path / theirs, target)

    def flush(self, keys: Sequence[str]) -> None:
        for path in {self.path / key for key in keys} | {(self.path / key).parent for key in keys}:
            flush(path)

    @contextlib.contextmanager
    def claim(self, number: int) -> Iterator[bool]:
        lock = _Lock.of(self.path / LOCK_FILE)
        free = lock.take(number)
        try:
            yield free
        finally:
            if free:
                lock.give(number)

    def free_bytes(self) -> int | None:
        folder = self.path
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free


class _Lock:
    """The bytes of a lock file that this process holds.

    There is one for each file: POSIX drops all locks of a process on a file when any descriptor of it is closed, and
    never makes a process exclude itself.
    """

    _open: ClassVar[dict[Path, _Lock]] = {}
    _guard = threading.Lock()

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        self._held: set[int] = set()

    @classmethod
    def of(cls, path: Path) -> _Lock:
        """Return the lock of a file; a store that was replaced since has a new file."""
        path = path.absolute()
        with cls._guard:
            known = cls._open.get(path)
            if known is None or not path.exists() or not os.path.samestat(os.fstat(known._file), path.stat()):
                known = cls._open[path] = cls(path)
            return known

    def take(self, number: int) -> bool:
        """Hold byte `number`; return False while another thread or process holds it."""
        with self._guard:
            if number in self._held:
                return False
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
            except (BlockingIOError, PermissionError):  # the two answers that POSIX allows for "held by another"
                return False
            self._held.add(number)
            return True

    def give(self, number: int) -> None:
        """Release byte `number`."""
        with self._guard:
            self._held.discard(number)
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, number)


class RemoteStorage(Storage):
    """The files behind an fsspec URL."""

    parallel_reads = 16  # a read waits for the network, not for a core

    def __init__(self, url: str) -> None:
        import fsspec

        self.location = self.address = url.rstrip("/")
        try:
            self._files, self._root = fsspec.core.url_to_fs(self.location)
        except (ImportError, ValueError) as error:  # the driver is not installed, or no such protocol
            raise C3Error(f"{url}: {error}") from error

    def zarr_store(self, read_only: bool = False) -> Store:
        return FsspecStore.from_url(self.location, read_only=read_only)

    def exists(self) -> bool:
        return self._files.exists(f"{self._root}/zarr.json") or bool(self.names(""))

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes | bytearray:
        data: bytes = self._files.cat_file(f"{self._root}/{key}", start=start or None, end=stop)
        return data

    def names(self, prefix: str) -> list[str]:
        self._files.invalidate_cache()  # another process may have written since
        try:
            found: list[Any] = self._files.ls(f"{self._root}/{prefix}".rstrip("/"), detail=False)
        except FileNotFoundError:
            return []
        return [path.rstrip("/").rsplit("/", 1)[-1] for path in found]

    def sizes(self) -> dict[str, int]:
        self._files.invalidate_cache()
        found = self._files.find(self._root, detail=True)
        return {path.removeprefix(f"{self._root}/"): info["size"] for path, info in found.items()}

    def delete(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._files.rm_file(f"{self._root}/{key}")

    def write(self, key: str, data: bytes) -> None:
        self._files.pipe_file(f"{self._root}/{key}", data)

    def delete_folder(self, prefix: str) -> None:
        self._files.invalidate_cache()
        with contextlib.suppress(FileNotFoundError):
            self._files.rm(f"{self._root}/{prefix}".rstrip("/"), recursive=True)
