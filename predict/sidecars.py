"""FRONT DOOR of sidecars: write the labels of a picture into the XMP file beside it. The picture is never opened."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from lxml.etree import XMLSyntaxError

from ..common.errors import C3Error
from ..common.files import replacing
from ..common.unicode_forms import clean_name
from .label_tree import NOT_IN_XML, LabelTree, same_word
from .names import SIDECAR_NAMES
from .xmp_keywords import Keywords, add_keywords

SUFFIXES = (".xmp", ".XMP")


class Sidecars:
    """Writes sidecars and counts them: `written`, `unchanged` and `failed`.

    `name` is `full` (photo.jpg.xmp) or `stem` (photo.xmp) and decides where there is no sidecar yet, or both;
    an existing one of either name gets the labels. `tree` places labels below wider terms (`read_label_tree`).
    """

    def __init__(self, name: str = SIDECAR_NAMES[0], tree: LabelTree | None = None) -> None:
        self.name, self.tree = name, tree
        self.counts: Counter[str] = Counter()
        self._in_tree = False

    def require_words(self, words: Iterable[str]) -> None:
        """Raise C3Error for words that no XMP file can hold, before a picture is read."""
        if wrong := [word for word in words if NOT_IN_XML.search(clean_name(word))]:
            raise C3Error(
                f"--xmp: labels with a control character, which XMP cannot hold: {', '.join(map(repr, wrong))}"
            )

    def add(self, picture: Path, labels: Sequence[str]) -> None:
        """Add labels to the sidecar of a picture; it keeps all that is in it, and is replaced whole or not at all.

        Raises C3Error, which names the sidecar, where it is no XMP, read-only, or cannot be read or written.
        """
        try:
            written = bool(labels) and self._add(picture, labels)
        except C3Error:
            self.counts["failed"] += 1
            raise
        self.counts["written" if written else "unchanged"] += 1

    def summary(self) -> str:
        """Return one line about what was done."""
        said = {"written": "written", "unchanged": "had nothing to add", "failed": "not written"}
        parts = [f"{self.counts[key]:,} {words}" for key, words in said.items() if self.counts[key]]
        line = f"sidecars: {', '.join(parts) or 'none'}"
        if self.tree is not None and not self._in_tree:
            line += "; the label tree has none of the labels"
        return line

    def _add(self, picture: Path, labels: Sequence[str]) -> bool:
        sidecar = self._sidecar(picture)
        try:
            real = Path(os.path.realpath(sidecar))  # a link to a sidecar stays a link
            old = real.read_bytes() if os.path.lexists(real) else None
            new = add_keywords(old, self._keywords(labels))
        except OSError as error:
            raise C3Error(f"{sidecar} cannot be read: {error.strerror or error}") from error
        except XMLSyntaxError as error:
            raise C3Error(f"{sidecar} stays as it is: it is not well-formed XML ({error.msg})") from error
        except ValueError as error:
            raise C3Error(f"{sidecar} stays as it is: {error}") from error
        if new is None:
            return False
        try:
            # a rename asks the folder alone, and root may do everything
            if old is not None and not (real.stat().st_mode & 0o222 and os.access(real, os.W_OK)):
                raise C3Error(f"{sidecar} is read-only and stays as it is; {_allowing(sidecar, real)}")
            with replacing(real) as scratch:
                scratch.write_bytes(new)
        except OSError as error:
            link = f" as {real}, to which it is a link" if os.path.islink(sidecar) else ""  # noqa: PTH114 - Path.is_symlink raises for a name that is too long
            raise C3Error(f"{sidecar} cannot be written{link}: {error.strerror or error}") from error
        return True

    def _sidecar(self, picture: Path) -> Path:
        full = [picture.with_name(picture.name + suffix) for suffix in SUFFIXES]
        stem = [picture.with_suffix(suffix) for suffix in SUFFIXES]
        places = stem + full if self.name == "stem" else full + stem
        return next((place for place in places if os.path.lexists(place)), places[0])

    def _keywords(self, labels: Sequence[str]) -> Keywords:
        tree = self.tree or {}
        found = [tree.get(same_word(label)) for label in labels]
        self._in_tree |= any(found)
        paths = [path for label, own in zip(labels, found, strict=True) for path in own or ((label,),)]
        return Keywords(labels, paths, self.tree is not None)


def _allowing(sidecar: Path, real: Path) -> str:
    """Say how a file could be written: only its owner and root may change its mode, which need not be the reason."""
    status = real.stat()
    if os.geteuid() in (0, status.st_uid) and not status.st_mode & 0o200:
        return f"allow it with: chmod u+w {shlex.quote(str(sidecar))}"
    return "it belongs to another user, or its disk is read-only"
