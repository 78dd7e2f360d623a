"""How the arrays of a store lie on disk: chunks, shards, number type and codec. Pure.

docs/benchmarks.md has the measurements behind the defaults.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numcodecs
import numcodecs.blosc
import numcodecs.zstd
import numpy as np
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from ...common.errors import SettingError, unknown_name
from .names import CODEC_NAMES, DTYPES

GRID = 7  # every level is pooled to GRID x GRID
ROW = "row"  # the name of the first dimension of everything that has a value for each row
REGIONS, GLOBAL_VECTOR = "regions", "global"  # the arrays that a store may have beside its levels
# Byte shuffle puts the high bytes of a block before its low ones. Entropy coders see the two kinds apart only when a
# half block is at least one of their own blocks (128 KiB in zstd); Blosc's own choice of block is far too small.
BLOSC_BLOCK = 512 * 1024

Decompress = Callable[[np.ndarray, np.ndarray], object]


@dataclass(frozen=True)
class Codec:
    """A compressor as Zarr writes it, and the function that decompresses into the caller's array."""

    compressor: Any  # a zarr.codecs codec; None stores plain bytes
    decompress: Decompress
    numcodec: Any = None  # the same compressor as numcodecs has it

    def packed_bytes(self, values: np.ndarray) -> int:
        """Return the number of bytes that these values take, checksums aside."""
        return values.nbytes if self.numcodec is None else len(self.numcodec.encode(np.ascontiguousarray(values)))


def _plain(source: np.ndarray, out: np.ndarray) -> None:
    out.reshape(-1).view(np.uint8)[:] = source


def _blosc(cname: Literal["zstd", "lz4"], clevel: int, shuffle: Literal["noshuffle", "shuffle", "bitshuffle"]) -> Codec:
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


@dataclass(frozen=True)
class FeatureArray:
    """One array of features: a pyramid level, named by the stride of the backbone there (p8, p16, p32), or an extra.

    `side` is the edge of its map in cells: 7 for a level, 14 for `regions`, 0 for `global`, which is a vector.
    """

    name: str
    channels: int
    side: int = GRID

    @property
    def pooled(self) -> bool:
        """Whether it is a level of the pyramid."""
        return self.side == GRID

    @property
    def cell(self) -> tuple[int, ...]:
        """The shape of one row: (channels, side, side), or (channels,) of a vector."""
        return (self.channels, self.side, self.side) if self.side else (self.channels,)

    @property
    def path(self) -> str:
        """Its place in a split of a store."""
        return f"pyramid/{self.name}" if self.pooled else self.name

    def shard_path(self, shard: int) -> str:
        """Return the file of a shard, in a split of a store."""
        return "/".join([self.path, "c", str(shard), *["0"] * len(self.cell)])

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The names of its dimensions: (row, p8_channel, y, x), (row, regions_channel, regions_y, regions_x) ...

        Maps of another size than 7 x 7 stand beside the pyramid and name their own y and x.
        """
        own = "" if self.pooled else f"{self.name}_"
        return (ROW, f"{self.name}_channel", f"{own}y", f"{own}x")[: 1 + len(self.cell)]

    def __str__(self) -> str:
        return f"{self.name} {'x'.join(map(str, self.cell))}"


def row_bytes(arrays: Sequence[FeatureArray]) -> int:
    """Return the bytes of one row in float16, all arrays."""
    return sum(math.prod(array.cell) for array in arrays) * np.dtype(np.float16).itemsize


@dataclass(frozen=True)
class Layout:
    """How rows are cut and packed: a chunk is the unit of reading, a shard the unit of writing, resuming and retrying.

    `codec` is one name for all arrays or `auto`: zstd for the deepest level and the extras, whose zeros it packs best,
    and for the other levels zstd after a byte shuffle when they are float16.
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
            raise SettingError(
                f"a shard must hold whole chunks of at least one row; found --shard-rows {self.shard_rows}, "
                f"--chunk-rows {self.chunk_rows}"
            )

    def codec_of(self, array: FeatureArray, arrays: Sequence[FeatureArray]) -> str:
        """Return the name of the codec that packs one of the arrays of a store."""
        if self.codec != "auto":
            return self.codec
        shuffled = [level for level in arrays if level.pooled][:-1] if self.dtype == "float16" else []
        return "zstd-shuffle" if array in shuffled else "zstd"

    def array(self, array: FeatureArray, arrays: Sequence[FeatureArray], rows: int) -> dict[str, Any]:
        """Return the arguments of zarr.create_array for one of the arrays of a store."""
        cell = array.cell
        compressor = CODECS[self.codec_of(array, arrays)].compressor
        return {
            "shape": (rows, *cell),
            "shards": (self.shard_rows, *cell),
            "chunks": (self.chunk_rows, *cell),
            "dtype": self.dtype,
            "compressors": [*([compressor] if compressor else []), Crc32cCodec()],
        }
