"""The names and defaults of what a store records. Imports nothing, so that the command line can offer them."""

from __future__ import annotations

DTYPES = ("float16", "int8")
CODEC_NAMES = ("auto", "zstd", "zstd-shuffle", "zstd-bitshuffle", "lz4", "lz4-shuffle", "lz4-bitshuffle", "none")
TRUNCATED = STATUS, KEEP = ("status", "keep")  # what becomes of a picture whose file ends too early
MAX_MEGAPIXELS = 179  # of a picture that is read by default; Pillow's own limit
