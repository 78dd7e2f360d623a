"""Read word vectors in text: a line `word 0.1 -0.2 ...` for each word (GloVe, fastText, word2vec)."""

from __future__ import annotations

import io
import itertools
import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ...common.errors import C3Error
from ...common.text_files import BYTE_ORDER_MARKS
from ...common.unicode_forms import clean_name
from .vector_formats import HEADER, LINES, SAMPLE, is_number
from .wanted_vectors import SHOWN, WantedVectors

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Layout:
    """How the lines of a file are built: numbers of a vector, the sign behind a word, and the words of the header."""

    d_w: int
    separator: bytes
    stated: int | None


def read_text(path: Path, stream: IO[bytes], found: WantedVectors) -> None:
    """Read the vectors of the wanted words in one pass.

    Blanks or tabs separate the fields. A first line of two integers (words, d_w) is skipped. A word may hold blanks, as
    some of glove.840B do. Raises C3Error with the line for a wanted word whose vector is incomplete or not finite, and
    for a file that ends inside a line.
    """
    lines = _lines(stream)
    sample = list(itertools.islice(lines, LINES))
    layout = _layout(sample)
    separator = layout.separator
    starts = {(word.split(" ")[0] if separator == b" " else word).encode() for word in found.wanted}
    doubtful: dict[str, C3Error] = {}  # wanted words of lines that are too long: perhaps those of a longer word
    foreign = 0  # the first line whose word is not UTF-8
    number, line = 0, b""
    for number, line in enumerate(itertools.chain(sample, lines), start=1):
        start = line[: line.find(separator)]
        if not start.isascii():
            try:
                start = _first_word(start.decode(), separator)
            except UnicodeDecodeError:
                foreign = foreign or number
        if start not in starts and line[:1] not in (b" ", b"\t"):
            continue
        if number == 1 and layout.stated is not None:
            continue
        word, values = _word_and_values(line, layout)
        if word in found.wanted:
            found.add(word, _numbers(path, number, word, values, layout.d_w), f"line {number}")
        elif len(values) == layout.d_w and (first := word.partition(" ")[0]) in found.wanted and " " in word:
            rest = word.encode().split()[1:]
            if all(map(is_number, rest)):
                count = len(rest) + len(values)
                doubtful.setdefault(first, _wrong_length(path, number, first, count, layout.d_w))
    _require_whole_end(path, number, line, layout)
    for word, error in doubtful.items():
        if word not in found.vectors:
            raise error
    _report(path, number, layout, foreign)
    body = sample[layout.stated is not None :]
    found.words = number - (len(sample) - len(body))
    found.first = [_word_and_values(line, layout)[0] for line in body[:SHOWN]]


def _word_and_values(line: bytes, layout: _Layout) -> tuple[str, list[bytes]]:
    """Split a line; where blanks separate, what comes before the last d_w fields is the word."""
    if layout.separator == b"\t":
        word, _, rest = line.strip(b"\r\n").partition(b"\t")
        values = rest.split()
    else:
        fields = line.split()
        nameless = line[:1] == b" " and len(fields) == layout.d_w  # the word is a blank
        length = 0 if nameless else max(1, len(fields) - layout.d_w)
        word, values = b" ".join(fields[:length]), fields[length:]
    return clean_name(word.decode(errors="replace")), values


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of a text in UTF-8, without byte order mark; texts in UTF-16 and UTF-32 are recoded."""
    sample = stream.read(SAMPLE)
    stream.seek(0)
    mark = next((mark for mark in BYTE_ORDER_MARKS if sample.startswith(mark)), b"")
    if BYTE_ORDER_MARKS.get(mark, "utf-8") != "utf-8":
        with io.TextIOWrapper(stream, BYTE_ORDER_MARKS[mark], errors="replace", newline=None) as text:
            yield from (line.encode() for line in text)
        return
    stream.seek(len(mark))
    if b"\r" in sample and b"\n" not in sample:  # old Mac; a lone CR elsewhere belongs to a word
        with io.TextIOWrapper(stream, "utf-8", errors="surrogateescape", newline=None) as text:
            yield from (line.encode(errors="surrogateescape") for line in text)
        return
    yield from stream


def _layout(sample: list[bytes]) -> _Layout:
    """Tell the layout from the first lines: the header where there is one, else what most lines agree on."""
    header = HEADER.fullmatch(sample[0]) if sample else None
    lines = [line.strip() for line in sample[1 if header else 0 :] if line.strip()]
    tabs = Counter(_ends_at_a_tab(line) for line in lines)
    separator = b"\t" if tabs[True] > tabs[False] else b" "
    counts = [len(line.partition(separator)[2].split()) for line in lines]
    numbers = [count for count in counts if count] or [1]
    usual = Counter(numbers).most_common(1)[0][0]  # of equals the first
    return _Layout(int(header[2]) if header else usual, separator, int(header[1]) if header else None)


def _first_word(text: str, separator: bytes) -> bytes:
    """Return what stands before the separator in the form in which names are compared, as `starts` has them."""
    name = clean_name(text)
    return (name.split(" ")[0] if separator == b" " else name).encode()


def _ends_at_a_tab(line: bytes) -> bool:
    word, tab, _ = line.partition(b"\t")
    rest = word.split()[1:]
    return bool(tab) and not (rest and is_number(rest[0]))


def _numbers(path: Path, number: int, word: str, values: list[bytes], d_w: int) -> list[float]:
    for value in values:
        if not is_number(value):
            comma = re.fullmatch(rb"[-+]?\d+,\d+(e[-+]?\d+)?", value, re.IGNORECASE)
            hint = f"; it has decimal commas: tr ',' '.' < {path} > NEW" if comma else ""
            raise C3Error(
                f"{path} line {number}: the vector of {word!r} holds {value.decode(errors='replace')!r}, which is not "
                f"a number{hint}"
            )
    if len(values) != d_w:
        raise _wrong_length(path, number, word, len(values), d_w)
    return [float(value) for value in values]


def _wrong_length(path: Path, number: int, word: str, found: int, d_w: int) -> C3Error:
    return C3Error(
        f"{path} line {number}: the vector of {word!r} has {found} number{'s' * (found != 1)}, expected {d_w}"
    )


def _require_whole_end(path: Path, number: int, line: bytes, layout: _Layout) -> None:
    """Refuse a file whose last line is shorter than the others: it is an incomplete copy."""
    values = len(_word_and_values(line, layout)[1])
    if number > 1 and line.strip() and values < layout.d_w:
        raise C3Error(
            f"{path} ends inside line {number}, after {values} of {layout.d_w} numbers; copy or download it again"
        )


def _report(path: Path, lines: int, layout: _Layout, foreign: int) -> None:
    if foreign:
        LOG.warning(
            "%s holds words that are not in UTF-8, the first in line %d; they match no class. If it is in Latin-1: "
            "iconv -f LATIN1 -t UTF-8 FILE > NEW", path, foreign,
        )  # fmt: skip
    if layout.stated is not None and lines - 1 < layout.stated:
        LOG.warning(
            "%s: its first line states %s words, the file holds %s; download it again unless you shortened it",
            path, f"{layout.stated:,}", f"{lines - 1:,}",
        )  # fmt: skip
