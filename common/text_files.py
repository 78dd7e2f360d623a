"""Read small text files of names and paths. Paths must not lead outside.

UTF-8 and UTF-16 (with a byte order mark), and line ends of every system are accepted.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from .errors import C3Error
from .file_kinds import HEAD, foreign_kind
from .files import require_file
from .safe_pickle import load_pickle
from .unicode_forms import clean_name, is_text, nfc, on_disk

LINE_END = re.compile(r"\r\n|\r|\n")  # str.splitlines knows more of them, which stand inside of names
BYTE_ORDER_MARKS = {  # UTF-32 before UTF-16, because its mark begins with that of UTF-16
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_text(path: Path, what: str = "list") -> str:
    """Return the text of a file, without its byte order mark.

    `what` says in errors what the file is. Raises C3Error for one that cannot be read, and for one that is no text,
    with the first line at fault.
    """
    try:
        data = on_disk(path).read_bytes()
    except (OSError, ValueError) as error:
        raise C3Error(f"{what} {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if data and (kind := foreign_kind(data[:HEAD])):
        raise C3Error(f"{what} {path} is {kind}; expected text in UTF-8")
    code = next((code for mark, code in BYTE_ORDER_MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(code).lstrip("\ufeff")  # two: a file that was saved with a mark by two programs
    except UnicodeDecodeError as error:
        line = len(LINE_END.split(data[: error.start].decode(code, "replace")))
        raise C3Error(
            f"{path} is not a text file in {code.upper()} (line {line}, byte {data[error.start]:#x}); save it as UTF-8"
        ) from error
    if "\0" in text:
        line = len(LINE_END.split(text[: text.index("\0")]))
        raise C3Error(f"{path} line {line} holds a NUL character; if the file is in UTF-16, save it as UTF-8")
    return text


def numbered_lines(path: Path, what: str = "list") -> list[tuple[int, str]]:
    """Return (line number, stripped text) of every line that is not blank; `what` as in `read_text`."""
    lines = LINE_END.split(read_text(path, what))
    return [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]


def read_names(path: Path) -> list[str]:
    """Read names, one per line; from a .pkl file, those of a pickled array of texts."""
    if path.suffix != ".pkl":
        return [clean_name(name) for _, name in numbered_lines(path)]
    path = require_file(path, "list")
    return [clean_name(str(name)) for name in np.asarray(load_pickle(path)).tolist()]


def class_list(path: Path) -> list[str]:
    """Read class names, one per line; an empty list is refused, and a repeated name with both lines."""
    if names := _unique(path, _named_lines(path)):
        return names
    raise C3Error(f"{path} is empty; expected class names, one per line")


def word_list(path: Path) -> list[str]:
    """Read a user's words, one per line; blank lines and lines that start with # are skipped, repeats stay.

    A word in double quotes, as spreadsheets write one with a comma, is read without them. Raises C3Error for a line of
    several columns.
    """
    lines = [(number, line) for number, line in numbered_lines(path, "word list") if not line.startswith("#")]
    for number, line in lines:
        if "\t" in line:
            raise C3Error(f"{path} line {number}: expected one word or name per line, found a tab: {line!r}")
    return [name for _, line in lines if (name := clean_name(_unquoted(line)))]


def _unquoted(line: str) -> str:
    inside = line[1:-1].replace('""', "")
    return line[1:-1].replace('""', '"') if line == f'"{line[1:-1]}"' and '"' not in inside else line


def image_list(path: Path) -> list[str]:
    """Read relative image paths, one per line, and replace backslashes by slashes.

    A repeated path, and one that leads out of the images folder, is refused with its line number.
    """
    lines = numbered_lines(path)
    return _unique(path, [(number, nfc(relative_path(line, f"{path} line {number}"))) for number, line in lines])


def relative_path(text: str, where: str) -> str:
    """Return `tidy_path` of a text, after replacing backslashes by slashes; a fault becomes a C3Error as `where`."""
    try:
        return tidy_path(text.replace("\\", "/"))
    except ValueError as fault:
        raise C3Error(f"{where}: {fault}") from fault


def tidy_path(text: str) -> str:
    """Return a relative path in POSIX form, without `.` and double slashes.

    Raises ValueError for one that could lead out of the images folder, or that no file can have.
    """
    path = PurePosixPath(text)
    inside = path.parts and not path.is_absolute() and ".." not in path.parts and not PureWindowsPath(text).drive
    if not inside or "\\" in text or "://" in text or not is_text(text):
        raise ValueError(f"expected a path below the images folder, with '/' and without '..', found {text!r}")
    return str(path)


def require_lines(path: Path, found: int, expected: int, listed: Path) -> None:
    """Refuse a label file that does not have one line for every image of a list."""
    if found != expected:
        raise C3Error(
            f"{path} has {found:,} lines, expected {expected:,}, one for every image of {listed.name}; "
            "one of the two files is incomplete, so none of its labels can be trusted"
        )


def _named_lines(path: Path) -> list[tuple[int, str]]:
    lines = ((number, clean_name(line)) for number, line in numbered_lines(path))
    return [(number, name) for number, name in lines if name]


def _unique(path: Path, lines: list[tuple[int, str]]) -> list[str]:
    first: dict[str, int] = {}
    for number, text in lines:
        if first.setdefault(text, number) != number:
            raise C3Error(f"{path} line {number}: {text!r} is already in line {first[text]}")
    return list(first)
