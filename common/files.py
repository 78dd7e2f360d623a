"""Replace files whole or not at all, and require files that must exist."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import C3Error
from .unicode_forms import on_disk


def require_file(path: Path, what: str, command: str = "") -> Path:
    """Return `path` as the file system spells it (see `on_disk`).

    Raises C3Error with what it is, where it was expected and the command that says more.
    """
    found = on_disk(path)
    if not os.path.isfile(found):  # noqa: PTH113 - Path.is_file raises for a name that is too long
        folder = os.path.isdir(found)  # noqa: PTH112 - like is_file
        fault = f"is a folder, expected a file: {path}" if folder else f"not found: expected {path}"
        raise C3Error(f"{what} {fault}" + (f"; see: {command}" if command else ""))
    return found


@contextmanager
def replacing(path: Path, durable: bool = False) -> Iterator[Path]:
    """Yield a scratch file beside `path`, and rename it to `path` when the block succeeds.

    After an error the scratch file is gone and `path` is what it was. A file that is replaced keeps its mode. With
    `durable`, the data is on the disk before the rename. Raises OSError as the system does; `writing` turns it into one
    line.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        scratch.touch()
        mode = (path if path.is_file() else scratch).stat().st_mode
        yield scratch
        scratch.chmod(mode)  # safetensors makes its own file, which only its owner may read
        if durable:
            flush(scratch)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


@contextmanager
def writing(path: Path, durable: bool = False) -> Iterator[Path]:
    """Like `replacing`; raise C3Error when the file cannot be written, on a full disk for example.

    `durable` files are what a training goes on from.
    """
    try:
        with replacing(path, durable) as scratch:
            yield scratch
    except OSError as error:
        kept = ", it is as it was before" if os.path.exists(path) else ""  # noqa: PTH110 - see above
        then = ", and the same command continues" if durable else " and run the command again"
        raise C3Error(f"{path} cannot be written ({error.strerror or error}){kept}; mend that{then}") from error


def write_text(path: Path, text: str) -> None:
    """Replace a text file, in UTF-8; see `writing`. File names in it that are no text keep their bytes."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_bytes(path: Path, data: bytes | memoryview, durable: bool = False) -> None:
    """Replace a file; see `writing`."""
    with writing(path, durable) as scratch:
        scratch.write_bytes(data)


def unwritable(folder: Path, made: bool = True) -> str:
    """Return why no file can be made in a folder; nothing where one can. Nothing is written.

    A folder that does not exist is one that will be `made`, or else a fault.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if there != folder and not made:
        return f"the folder {folder} does not exist; make it first"
    if not os.path.isdir(there):  # noqa: PTH112 - Path.is_dir raises for a name that is too long
        return f"{there} is a file, expected a folder"
    return "" if os.access(there, os.W_OK | os.X_OK) else f"{there} is read-only"


def flush(path: Path) -> None:
    """Return when a file, or the entries of a folder, would survive a power cut."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
