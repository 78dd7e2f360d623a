"""Compare texts whatever their Unicode form, and find files whose names are stored in another one.

The same `é` is one character (NFC, as most keyboards write it) or an `e` and an accent (NFD, as macOS stores file
names). Whatever c3 compares, it compares in NFC.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path
from unicodedata import normalize

# Soft hyphens, zero-width spaces, direction marks, byte order marks: they come with pasted text and show nothing. The
# joiners U+200C and U+200D stay, for they change what is shown.
INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
FOLDERS = 64  # whose entries are remembered


def nfc(text: str) -> str:
    r"""Return a text with composed characters.

    >>> nfc("cafe\u0301") == "caf\u00e9"
    True
    """
    return text if text.isascii() else normalize("NFC", text)


def clean_name(text: str) -> str:
    r"""Return the name of a class or word in the form in which names are compared and kept.

    It is in NFC, without invisible characters, and with single blanks; a no-break space is a blank.

    >>> clean_name(" dark\u00a0 red\u200b")
    'dark red'
    """
    return " ".join((text if text.isascii() else INVISIBLE.sub("", nfc(text))).split())


def is_text(text: str) -> bool:
    """Return whether a text can be written to a file: no NUL, no half of a surrogate pair (JSON can spell both)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def on_disk(path: Path) -> Path:
    """Return a path as the file system spells it; the path that was asked for where there is no such file.

    The exact spelling wins; then each part is looked for in NFC, in NFD and in any mixture of both. In a locale without
    UTF-8, in which Python cannot name such a file, the result stands for its UTF-8 bytes (`os.fsencode`).
    """
    if os.fspath(path).isascii() or os.path.exists(path):  # noqa: PTH110 - Path.exists raises for names too long
        return path
    found = Path(path.anchor)
    for part in path.parts[bool(path.anchor) :]:
        found /= part if part.isascii() else _entry(found, part)
    return found


def path_text(path: str | os.PathLike[str]) -> str:
    """Return a path as text for records and messages: in UTF-8 whatever the locale; `on_disk` finds it again."""
    try:
        return os.fsencode(path).decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # the locale knows fewer characters than the path has
        return os.fspath(path)


def _entry(folder: Path, name: str) -> str:
    """Return the entry of a folder that has a name in some Unicode form; else the name itself, as UTF-8 bytes."""
    text = path_text(name)
    try:
        forms = [os.fsdecode(normalize(form, text).encode("utf-8", "surrogateescape")) for form in ("NFC", "NFD")]
        exact = os.fsdecode(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:  # half a surrogate pair names no file
        return name
    for form in (exact, *forms):
        if os.path.lexists(folder / form):
            return form
    try:
        return _entries(folder, folder.stat().st_mtime_ns).get(nfc(text), exact)
    except (OSError, ValueError):
        return exact


@lru_cache(FOLDERS)
def _entries(folder: Path, _changed: int) -> dict[str, str]:
    """Return the non-ASCII names in a folder by their NFC form; read again when the folder has changed."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.name.isascii()]
    return {nfc(path_text(name)): name for name in sorted(names)}
