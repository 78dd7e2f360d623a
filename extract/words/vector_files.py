"""FRONT DOOR of word vectors: read the vectors of words from a file of any format, compressed or not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import IO

import numpy as np

from ...common.errors import C3Error
from ...common.files import require_file
from ...common.unicode_forms import nfc
from ...common.unpack import open_unpacked
from ..catalog.specs import VectorKind, VectorSpec
from .array_vectors import read_npy, read_npz, read_pickle
from .text_vectors import read_text
from .vector_formats import recognise
from .wanted_vectors import WantedVectors
from .word2vec_binary import read_word2vec

LOG = logging.getLogger(__name__)

Reader = Callable[[VectorSpec, IO[bytes], WantedVectors], None]
KINDS: dict[VectorKind, Reader] = {
    "text": lambda spec, stream, found: read_text(spec.path, stream, found),
    "word2vec": lambda spec, stream, found: read_word2vec(spec.path, stream, found),
    "npz": read_npz,
    "npy": read_npy,
    "pickle": read_pickle,
}


def read_vectors(spec: VectorSpec, wanted: Iterable[str]) -> dict[str, np.ndarray]:
    """Return the vectors (d_w,) float32 of the `wanted` names that the file holds; all have one length.

    Names are compared in NFC and returned so. The first vector of a name counts; a second, other one is warned of.
    Raises C3Error when the file is missing, damaged, of another format than the catalog says or of none that is read,
    when a vector holds a value that is not finite, and when the file holds none of the names.
    """
    require_file(spec.path, f"vectors {spec.name}")
    found = WantedVectors(spec.path, frozenset(nfc(word) for word in wanted))
    with open_unpacked(spec.path) as stream:
        KINDS[_kind(spec, stream)](spec, stream, found)
    if found.wanted and not found.vectors:
        raise _nothing(found)
    width = len(next(iter(found.vectors.values()), ()))
    if found.vectors and spec.dim not in (None, width):
        raise C3Error(
            f"{spec.path} has vectors of {width} numbers, the catalog says `dim: {spec.dim}` for vectors {spec.name}: "
            "correct the catalog, or give the file meant"
        )
    if found.repeated:
        LOG.warning("%s holds other vectors for the same word, the first counts: %s", spec.path, _some(found.repeated))
    return found.vectors


def _kind(spec: VectorSpec, stream: IO[bytes]) -> VectorKind:
    """Return the kind that reads the file: what its content says, which a declared kind must not contradict."""
    known = recognise(stream, spec.kind)
    if known is None:
        if spec.kind is None:
            start = stream.read(20)
            raise C3Error(
                f"{spec.path} has no format of word vectors that is known here (it begins with {start!r}); expected "
                "lines `word 0.1 -0.2 ...`, or a file of word2vec (binary), numpy or pickle"
            )
        return spec.kind
    if known.kind is None:
        raise C3Error(f"{spec.path} holds no word vectors: it is {known.what}{known.remedy and '; '}{known.remedy}")
    if spec.kind not in (None, known.kind):
        raise C3Error(
            f"{spec.path} is {known.what}, but the catalog says `kind: {spec.kind}` for vectors {spec.name}; write "
            f"`kind: {known.kind}`, or leave it out"
        )
    return known.kind


def _nothing(found: WantedVectors) -> C3Error:
    held = f"among its {found.words:,}: {_some(found.first)}" if found.words else "it holds no word at all"
    return C3Error(f"{found.path} holds none of the words that are looked up ({held})")


def _some(words: Iterable[str], shown: int = 3) -> str:
    words = list(words)
    return ", ".join(map(repr, words[:shown])) + (" ..." if len(words) > shown else "")
