"""Paths as a user writes them, in options and catalogs: `~` and `$VARIABLE` mean what a shell makes of them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .unicode_forms import on_disk

NAME_BYTES, PATH_BYTES = 255, 4095  # what Linux and macOS take
VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{(\w+)\})")


def expanded(text: str) -> str:
    """Return a path with `~`, `~user`, `$VARIABLE` and `${VARIABLE}` replaced; URLs keep their `~`.

    Raises ValueError with what was expected, for a variable without a value and for a path that no file can have.
    """
    if not text or "\0" in text:
        raise ValueError("the name of a file or folder")
    for named in VARIABLE.finditer(text):
        if not os.environ.get(named[1] or named[2]):
            raise ValueError(f"a path whose variables have a value ({named[0]} has none)")
    path = os.path.expandvars(text if "://" in text else os.path.expanduser(text))  # noqa: PTH111 - Path refuses unknown users
    lengths = [len(part.encode("utf-8", "surrogatepass")) for part in path.split("/")]
    if "://" not in path and (max(lengths) > NAME_BYTES or sum(lengths) + len(lengths) - 1 > PATH_BYTES):
        raise ValueError(f"names of at most {NAME_BYTES} bytes and paths of at most {PATH_BYTES:,}")
    return path


def typed_path(text: str) -> str:
    """Return the path that a user typed on a command line: a file of exactly that name, else `expanded`.

    It is spelled as the file system spells it (see `on_disk`). Raises ValueError as `expanded` does.
    """
    if not os.path.lexists(text):
        text = expanded(text)
    return text if "://" in text else os.fspath(on_disk(Path(text))) if not text.isascii() else text
