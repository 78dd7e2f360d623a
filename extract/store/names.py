"""The names of number types and codecs of a store. Imports nothing, so that the command line can offer them."""

from __future__ import annotations

DTYPES = ("float16", "int8")
CODEC_NAMES = ("auto", "zstd", "zstd-shuffle", "zstd-bitshuffle", "lz4", "lz4-shuffle", "lz4-bitshuffle", "none")
