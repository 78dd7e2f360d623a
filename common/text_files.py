"""Read small text files of names and paths. BOM, CRLF and backslashes are accepted; paths must not lead outside."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from .errors import C3Error
from .files import require_file
from .safe_pickle import load_pickle


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """Return (line number, stripped text) of every line that is not blank."""
    require_file(path, "list")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise C3Error(f"{path} is not a text file in UTF-8 (byte {error.start})") from error
    return [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]


def read_names(path: Path) -> list[str]:
    """Read names, one per line; from a .pkl file, those of a pickled array of texts."""
    if path.suffix != ".pkl":
        return [name for _, name in numbered_lines(path)]
    require_file(path, "list")
    return [str(name) for name in np.asarray(load_pickle(path)).tolist()]


def class_list(path: Path) -> list[str]:
    """Read class names, one per line; a repeated name is refused with both line numbers."""
    return _unique(path, numbered_lines(path))


def word_list(path: Path) -> list[str]:
    """Read a user's words, one per line; blank lines and lines that start with # are skipped, repeats stay."""
    return [line for _, line in numbered_lines(path) if not line.startswith("#")]


def image_list(path: Path) -> list[str]:
    """Read relative image paths, one per line, and replace backslashes by slashes.

    A repeated path, and one that leads out of the images folder, is refused with its line number.
    """
    lines = numbered_lines(path)
    return _unique(path, [(number, relative_path(line, f"{path} line {number}")) for number, line in lines])


def relative_path(text: str, where: str) -> str:
    """Return a relative path in POSIX form; one that could lead out of the images folder is refused as `where`."""
    path = PurePosixPath(text.replace("\\", "/"))
    inside = text and not path.is_absolute() and ".." not in path.parts and not PureWindowsPath(text).drive
    if not inside or "\0" in text:
        raise C3Error(f"{where}: expected a path below the images folder, found {text!r}")
    return str(path)


def require_lines(path: Path, found: int, expected: int, listed: Path) -> None:
    """Refuse a label file that does not have one line for every image of a list."""
    if found != expected:
        raise C3Error(
            f"{path} has {found:,} lines, expected {expected:,}, one for every image of {listed.name}; "
            "one of the two files is incomplete, so none of its labels can be trusted"
        )


def _unique(path: Path, lines: list[tuple[int, str]]) -> list[str]:
    first: dict[str, int] = {}
    for number, text in lines:
        if first.setdefault(text, number) != number:
            raise C3Error(f"{path} line {number}: {text!r} is already in line {first[text]}")
    return list(first)
