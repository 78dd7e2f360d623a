"""Recognise the format of a file of word vectors by its content, and say what to do with one that is not read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import IO

from ...common.file_kinds import HEAD, foreign_kind
from ...common.text_files import BYTE_ORDER_MARKS
from ...common.unpack import zip_members
from ..catalog.specs import VectorKind

SAMPLE = 1 << 18  # bytes that are looked at: about a hundred lines of 300 numbers
LINES = 50  # of the sample
HEADER = re.compile(rb"(\d+)[ \t]+(\d+)\s*")
WRITE_TEXT = "write one line `word 0.1 -0.2 ...` for each word"
WRITE_NPZ = "write its names and numbers with numpy: np.savez('vectors.npz', names=names, vectors=matrix)"
FASTTEXT = (
    "give its .vec (or .vec.gz), which is offered beside it, or write one with gensim: "
    "load_facebook_vectors('FILE.bin').save_word2vec_format('FILE.vec')"
)
GENSIM = "write it with gensim: model.wv.save_word2vec_format('FILE.bin', binary=True)"


@dataclass(frozen=True)
class Format:
    """What a file is, in words; the kind that reads it, or None and what to do instead."""

    what: str
    kind: VectorKind | None = None
    remedy: str = ""


TEXT = Format("a text file of word vectors", "text")
WORD2VEC = Format("a binary file of word2vec", "word2vec")
NPZ = Format("a numpy archive (npz)", "npz")
NPY = Format("a numpy array (npy)", "npy")
PICKLE = Format("a pickle", "pickle")
BINARY = {
    b"\x93NUMPY": NPY,
    b"\xba\x16\x4f\x2f": Format("a model of fastText (.bin, .ftz)", remedy=FASTTEXT),
    b"PAR1": Format("a parquet table", remedy=WRITE_NPZ),
    b"ARROW1": Format("an Arrow file", remedy=WRITE_NPZ),
    b"FEA1": Format("a feather file", remedy=WRITE_NPZ),
    b"\x89HDF": Format("an HDF5 file", remedy=WRITE_NPZ),
    b"SQLite format 3": Format("an SQLite database", remedy=WRITE_NPZ),
}
PROTOCOL_0 = re.compile(rb"\(?[dl](p\d*)?\n|[\]}]q.|c[\w.]+\n\w+\n|\([dl]p\d+\n", re.DOTALL)


def recognise(stream: IO[bytes], declared: VectorKind | None = None) -> Format | None:
    """Return the format of a file by its first bytes; None where they tell nothing.

    `declared` decides between formats that can begin alike. The stream is at its first byte afterwards.
    """
    members = zip_members(stream)
    stream.seek(0)
    sample = stream.read(SAMPLE)
    stream.seek(0)
    if members:
        return _archive(members)
    for magic, known in BINARY.items():
        if sample.startswith(magic):
            return known
    if foreign := foreign_kind(sample[:HEAD]):
        return Format(foreign)
    if re.match(rb"\x80[\x01-\x05]", sample):
        return PICKLE
    if re.match(rb".{6}\0\0\{\s*\"", sample, re.DOTALL):
        return Format("a safetensors file", remedy=WRITE_NPZ)
    if sample.startswith(tuple(BYTE_ORDER_MARKS)):
        mark = next(mark for mark in BYTE_ORDER_MARKS if sample.startswith(mark))
        text = sample.decode(BYTE_ORDER_MARKS[mark], errors="ignore").removeprefix("\ufeff").encode()
        return _text(text, len(sample) < SAMPLE) or Format("a text without word vectors", remedy=WRITE_TEXT)
    return _binary(sample, declared) or _text(sample, len(sample) < SAMPLE)


def is_number(text: bytes) -> bool:
    """Return whether a field of a line is a number as C and numpy write it."""
    try:
        float(text)
    except ValueError:
        return False
    return b"_" not in text  # Python alone reads 1_000


def _archive(members: list[str]) -> Format:
    if any(name.endswith("data.pkl") for name in members):
        return Format("a file of torch.save", "pickle")
    if all(name.endswith(".npy") for name in members):
        return NPZ
    what = "a spreadsheet of Excel" if "[Content_Types].xml" in members else "an archive of other files"
    return Format(what, remedy=WRITE_TEXT)


def _binary(sample: bytes, declared: VectorKind | None) -> Format | None:
    header = HEADER.match(sample[:64])
    if header and header[0].endswith(b"\n"):
        first = sample[header.end() :]
        words, d_w = int(header[1]), int(header[2])
        record = first[: first.find(b" ") + 1 + 4 * d_w]
        line = first.partition(b"\n")[0].split()
        as_text = len(line) > d_w and all(map(is_number, line[len(line) - d_w :]))
        if words and not as_text and (declared == "word2vec" or re.search(rb"[\x00-\x08\x0e-\x1f\x7f]", record)):
            return WORD2VEC
    if b"\0" not in sample:
        return None
    for start, name in ((1, "UTF-16LE"), (0, "UTF-16BE")):
        if sample[start::2].count(0) > 0.9 * len(sample[start::2]):
            remedy = f"write it in UTF-8: iconv -f {name} -t UTF-8 FILE > NEW"
            return Format("a text in UTF-16 without a byte order mark", remedy=remedy)
    return None


def _text(sample: bytes, whole: bool) -> Format | None:
    start = sample.lstrip()[:64].lower()
    if re.match(rb"(\.\./)*(\.git)?/annex/objects/", start):
        return Format("a pointer of git-annex", remedy="get the file with: git annex get")
    if PROTOCOL_0.match(sample):
        return PICKLE
    if re.match(rb"\{\s*\"|\[\s*[\"\[{]", sample.lstrip()):
        return Format("a JSON file", remedy=WRITE_TEXT)
    lines = re.split(rb"\r?\n|\r", sample)
    lines = [line for line in (lines if whole or len(lines) == 1 else lines[:-1])[: LINES + 1] if line.strip()]
    if HEADER.fullmatch(lines[0] if lines else b""):
        lines = lines[1:]
        if not lines:
            return TEXT
    fields = [line.split() for line in lines]
    if any(len(row) > 1 and any(map(is_number, row[1:])) for row in fields):
        return TEXT
    if any(re.fullmatch(rb"-?\d+,\d+", field) for row in fields for field in row[1:]):
        return Format("a text with decimal commas", remedy="write points: tr ',' '.' < FILE > NEW")
    for sign, name in ((b",", "commas"), (b";", "semicolons"), (b"|", "bars")):
        if any(sum(map(is_number, line.split(sign)[1:])) for line in lines):
            remedy = f"use blanks or tabs: tr '{sign.decode()}' ' ' < FILE > NEW"
            return Format(f"a table whose fields are separated by {name}", remedy=remedy)
    return None
