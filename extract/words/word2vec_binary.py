"""Read word vectors in the binary format of word2vec: a line `words d_w`, then each word, a blank and d_w float32."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import numpy as np

from ...common.errors import C3Error
from .vector_formats import HEADER
from .wanted_vectors import WantedVectors

BLOCK = 1 << 24  # bytes read at a time
LONGEST = 4096  # bytes of a word


def read_word2vec(path: Path, stream: IO[bytes], found: WantedVectors) -> None:
    """Read the vectors of the wanted words; a line break behind each vector is optional.

    Raises C3Error for a file that ends inside a word or goes on behind its last one.
    """
    header = HEADER.fullmatch(stream.readline(64))
    if not header:
        raise C3Error(f"{path} is not a binary file of word2vec: it does not start with a line of two numbers")
    words, d_w = int(header[1]), int(header[2])
    block, position = b"", 0
    for number in range(words):
        if len(block) - position < LONGEST + 4 * d_w:
            block, position = block[position:] + stream.read(BLOCK), 0
        space = block.find(b" ", position, position + LONGEST)
        end = space + 1 + 4 * d_w
        if space < 0 or end > len(block):
            raise C3Error(f"{path} ends inside word {number + 1:,} of {words:,}; copy or download it again")
        word = found.wants(block[position:space].decode(errors="replace"))
        if word is not None:
            found.add(word, np.frombuffer(block, "<f4", d_w, space + 1))
        position = end
    if (block[position:] + stream.read(LONGEST)).strip(b"\n"):
        raise C3Error(
            f"{path} goes on behind its {words:,} words of {d_w} float32 numbers; it has another precision, or was "
            "not written completely"
        )
