"""How the maps of a store lie on disk: chunks, shards, number type and codec. Pure.

docs/benchmarks.md holds the measurements behind the defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numcodecs
import numcodecs.blosc
import numcodecs.zstd
import numpy as np
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from ..errors import C3Error, unknown_name

GRID = 7  # every level is pooled to GRID x GRID
DTYPES = ("float16", "int8")
# Byte shuffle puts the high bytes of a block before its low ones. Entropy coders see the two kinds apart only when a
# half block is at least one of their own blocks (128 KiB in zstd); Blosc's own choice of block is far too small.
BLOSC_BLOCK = 512 * 1024

Decompress = Callable[[np.ndarray, np.ndarray], object]


@dataclass(frozen=True)
class Codec:
    """A compressor as Zarr writes it, and the function that undoes it into memory that is there already."""

    compressor: Any  # a zarr.codecs codec; None stores plain bytes
    decompress: Decompress
    numcodec: Any = None  # the same compressor as numcodecs has it

    def packed_bytes(self, values: np.ndarray) -> int:
        """How many bytes these values take, checksums aside."""
        return values.nbytes if self.numcodec is None else len(self.numcodec.encode(np.ascontiguousarray(values)))


def _plain(source: np.ndarray, out: np.ndarray) -> None:
    out.reshape(-1).view(np.uint8)[:] = source


def _blosc(cname: str, clevel: int, shuffle: str) -> Codec:
    codec = BloscCodec(cname=cname, clevel=clevel, shuffle=shuffle, blocksize=BLOSC_BLOCK)
    same = numcodecs.Blosc(cname, clevel, getattr(numcodecs.Blosc, shuffle.upper()), BLOSC_BLOCK)
    return Codec(codec, numcodecs.blosc.decompress, same)


CODECS = {
    "zstd": Codec(ZstdCodec(level=1), numcodecs.zstd.decompress, numcodecs.Zstd(1)),
    "zstd-shuffle": _blosc("zstd", 1, "shuffle"),
    "zstd-bitshuffle": _blosc("zstd", 1, "bitshuffle"),
    "lz4": _blosc("lz4", 5, "noshuffle"),
    "lz4-shuffle": _blosc("lz4", 5, "shuffle"),
    "lz4-bitshuffle": _blosc("lz4", 5, "bitshuffle"),
    "none": Codec(None, _plain),
}
CODEC_NAMES = ("auto", *CODECS)


@dataclass(frozen=True)
class Level:
    """One pyramid level: its name says the stride of the backbone there (p8, p16, p32)."""

    name: str
    channels: int


def row_bytes(levels: Sequence[Level]) -> int:
    """Bytes of one row in float16, all levels."""
    return sum(level.channels for level in levels) * GRID * GRID * np.dtype(np.float16).itemsize


@dataclass(frozen=True)
class Layout:
    """How rows are cut and packed: a chunk is the unit of reading, a shard the unit of writing, resuming and retrying.

    `codec` is one name for all levels or `auto`: zstd for the deepest level, whose zeros it packs best, and for the
    others zstd after a byte shuffle when they are float16.
    """

    chunk_rows: int = 64
    shard_rows: int = 256
    dtype: str = "float16"
    codec: str = "auto"

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise unknown_name("dtype", self.dtype, DTYPES)
        if self.codec not in CODEC_NAMES:
            raise unknown_name("codec", self.codec, CODEC_NAMES)
        if self.chunk_rows < 1 or self.shard_rows < 1 or self.shard_rows % self.chunk_rows:
            raise C3Error(
                f"a shard must hold whole chunks of at least one row; found --shard-rows {self.shard_rows}, "
                f"--chunk-rows {self.chunk_rows}"
            )

    def codec_of(self, level: Level, levels: Sequence[Level]) -> str:
        """The name of the codec that packs one level."""
        if self.codec != "auto":
            return self.codec
        return "zstd" if self.dtype == "int8" or level == levels[-1] else "zstd-shuffle"

    def array(self, level: Level, levels: Sequence[Level], rows: int) -> dict[str, Any]:
        """What zarr.create_array needs for the maps of a level."""
        cell = (level.channels, GRID, GRID)
        compressor = CODECS[self.codec_of(level, levels)].compressor
        return {
            "shape": (rows, *cell),
            "shards": (self.shard_rows, *cell),
            "chunks": (self.chunk_rows, *cell),
            "dtype": self.dtype,
            "compressors": [*([compressor] if compressor else []), Crc32cCodec()],
        }
