"""Find the pictures in folders, and say what else is in them."""

from __future__ import annotations

import glob
import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ..extract.backbone.pictures.decode import (
    HEIF_HINT,
    HEIF_SUFFIXES,
    add_heif_decoder,
    decoded_suffixes,
    is_photograph,
)

SHOWN = 8  # kinds of files that are left out; the others are counted together
# What NAS systems, Windows and macOS keep beside pictures: thumbnails and metadata of them, and what was deleted.
SYSTEM_FOLDERS = frozenset({"@eaDir", "#recycle", "#snapshot", "$RECYCLE.BIN", "__MACOSX"})
HIDDEN, UNREADABLE, BROKEN, SPECIAL = "hidden", "folder without permission", "broken link", "no regular file"


class Walk:
    """A walk through folders that remembers where it was: a folder is entered once, whatever links lead to it."""

    def __init__(self) -> None:
        self._entered: set[tuple[int, int]] = set()
        self._resolved: dict[Path, Path] = {}
        self._others: Counter[str] = Counter()
        self._suffixes = decoded_suffixes()
        self.met_again = False  # whether a folder was left out, because it was entered before

    def pictures(self, folder: Path) -> list[Path]:
        """Return the pictures below a folder, sorted by path, without hidden files and folders.

        A picture has a suffix that Pillow decodes, or no suffix and the beginning of a picture. Links are followed.
        """
        folders = self._folders(folder, self._entered, self._others)
        return sorted(path for _, files in folders for path in files if self._is_picture(path))

    def matches(self, pattern: str) -> list[Path]:
        """Return the files and folders that a pattern matches, sorted by path; `**` enters every folder once.

        The standard library follows links there without end: two that lead upwards keep it busy for hours.
        """
        whole = Path(pattern)
        found = [Path(whole.anchor)]
        for part in whole.parts[bool(whole.anchor) :]:
            if part == "**":
                entered = set[tuple[int, int]]()
                found = [folder for start in found for folder, _ in self._folders(start, entered, Counter())]
            else:
                found = [folder / name for folder in found for name in _entries(folder, part)]
        return sorted(found)

    def _folders(
        self, root: Path, entered: set[tuple[int, int]], others: Counter[str]
    ) -> Iterator[tuple[Path, list[Path]]]:
        """Yield every folder below `root`, also behind links, that was not entered before, with what else is in it.

        Hidden entries and folders that cannot be read are added to `others`.
        """
        waiting, links = [root], list[Path]()
        while waiting or links:  # links last: a picture is shown where it lies if that is below the folder too
            here = waiting.pop() if waiting else links.pop(0)
            try:
                status = here.stat()
                entries = sorted(os.scandir(here), key=lambda entry: entry.name)
            except OSError:
                others[UNREADABLE] += 1
                continue
            if (status.st_dev, status.st_ino) in entered:
                self.met_again = True
                continue
            entered.add((status.st_dev, status.st_ino))
            files = []
            for entry in entries:
                if entry.name.startswith(".") or entry.name in SYSTEM_FOLDERS:
                    others[HIDDEN] += 1
                elif not _is_folder(entry):
                    files.append(here / entry.name)
                else:
                    (links if entry.is_symlink() else waiting).append(here / entry.name)
            yield here, files

    def identity(self, file: Path) -> Path:
        """Return a name that a file has in common with itself behind links to its folder."""
        folder = file.parent
        if folder not in self._resolved:
            try:
                self._resolved[folder] = folder.resolve()
            except (OSError, ValueError, RuntimeError):  # no folder can have this name, or links lead in a circle
                self._resolved[folder] = folder
        return self._resolved[folder] / file.name

    def left_out(self, form: str) -> str:
        """Say which files were left out and why, in a sentence such as "left out: {}"; nothing when none were."""
        if not self._others:
            return ""
        kinds = sorted(self._others, key=lambda kind: (-self._others[kind], kind))
        parts = [f"{self._others[kind]:,} {kind}" for kind in kinds[:SHOWN]]
        if rest := sum(self._others[kind] for kind in kinds[SHOWN:]):
            parts.append(f"{rest:,} others")
        heif = any(suffix in self._others for suffix in HEIF_SUFFIXES)
        return form.format(", ".join(parts) + (f"; for HEIC pictures {HEIF_HINT}" if heif else ""))

    def _is_picture(self, path: Path) -> bool:
        """Return whether to take a file; count it if not, unless it is the sidecar of a picture."""
        if is_sidecar(path):
            return False
        try:
            regular = stat.S_ISREG(path.stat().st_mode)
        except OSError:
            self._others[BROKEN] += 1
            return False
        suffix = path.suffix.lower()
        if suffix in HEIF_SUFFIXES and suffix not in self._suffixes and add_heif_decoder():
            self._suffixes = decoded_suffixes()
        if regular and (suffix in self._suffixes or (not suffix and is_photograph(path))):
            return True
        self._others[(suffix or "without suffix") if regular else SPECIAL] += 1
        return False


def is_sidecar(path: Path) -> bool:
    """Return whether a file lies beside pictures to hold their keywords (predict/sidecars.py)."""
    return path.suffix.lower() == ".xmp"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links in a circle
        return False


def _entries(folder: Path, pattern: str) -> list[str]:
    return glob.glob(pattern, root_dir=folder)  # noqa: PTH207 - Path.glob takes neither `..` nor an absolute pattern
