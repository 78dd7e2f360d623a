"""Files that are written whole or not at all, and files that must exist."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import C3Error


def require_file(path: Path, what: str, command: str = "") -> Path:
    """Return `path`, or refuse with what it is, where it was expected and the command that says more."""
    if not path.is_file():
        raise C3Error(f"{what} not found: expected {path}" + (f"; see: {command}" if command else ""))
    return path


def write_text(path: Path, text: str) -> None:
    """Replace a text file whole: see `write_bytes`."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes | memoryview, durable: bool = False) -> None:
    """Replace a file whole: temporary file, then rename; `durable` waits in between until the disk has it.

    Raises C3Error when it cannot be written, a full disk mostly; the file is then what it was.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with scratch.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        kept = ", it is as it was before" if path.exists() else ""
        raise C3Error(f"{path} cannot be written ({error.strerror}){kept}; the same command continues") from error
