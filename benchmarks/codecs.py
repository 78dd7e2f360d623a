"""Measure size and speed of every codec on the maps of a real store.

    python benchmarks/codecs.py STORE

The codecs of c3, and Blosc with its own block size, compress chunks of 16, 64 and 256 rows. Each chunk is encoded and
decoded by one thread. Times are processor time per row, the median over the chunks, summed over the levels. Sizes are
relative to float16.

A second table has the order-0 entropy of the int8 values: what an ideal coder that knows how often each value comes, in
each channel of each shard, would need. The last column lets it also know how many of the cells to the left and above
are above the lowest value of the shard.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from importlib.metadata import version
from statistics import median

import numcodecs
import numcodecs.blosc
import numpy as np
from c3.extract.store import quantise
from c3.extract.store.cache import FeatureCache
from c3.extract.store.layout import CODECS, Layout

CHUNK_ROWS = (16, 64, 256)
Encode = Callable[[np.ndarray], np.ndarray]
Decode = Callable[[np.ndarray, np.ndarray], object]


def packers(name: str) -> tuple[Encode, Decode]:
    """Return two functions: one compresses a chunk, the other decompresses it into a given array."""
    if name == "none":
        return lambda maps: maps.reshape(-1).view(np.uint8).copy(), CODECS[name].decompress
    if name.startswith("default block "):
        codec, decode = (
            _default_block(CODECS[name.removeprefix("default block ")].compressor),
            numcodecs.blosc.decompress,
        )
    else:
        settings = CODECS[name].compressor.to_dict()["configuration"]
        codec, decode = _numcodecs(settings), CODECS[name].decompress
    return lambda maps: np.frombuffer(codec.encode(maps), np.uint8), decode


def _numcodecs(settings: dict) -> numcodecs.abc.Codec:
    if "cname" not in settings:
        return numcodecs.Zstd(level=settings["level"])
    shuffle = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}[settings["shuffle"]]
    return numcodecs.Blosc(settings["cname"], settings["clevel"], shuffle, settings["blocksize"])


def _default_block(compressor: object) -> numcodecs.abc.Codec:
    return _numcodecs(compressor.to_dict()["configuration"] | {"blocksize": 0})


def measure(name: str, chunks: list[np.ndarray]) -> tuple[float, float, float]:
    """Return compressed bytes per row, and the seconds to encode and to decode a row."""
    encode, decode = packers(name)
    packed, encoding, decoding = 0, [], []
    out = np.empty_like(chunks[0])
    for chunk in chunks:
        start = time.thread_time()
        data = encode(chunk)
        middle = time.thread_time()
        decode(data, out)
        decoding.append(time.thread_time() - middle)
        encoding.append(middle - start)
        packed += len(data)
        if not np.array_equal(out.view(np.uint8), chunk.view(np.uint8)):
            raise SystemExit(f"{name}: the decoded chunk differs from the original")
    rows = len(chunks[0])
    return packed / rows / len(chunks), median(encoding) / rows, median(decoding) / rows


def main() -> None:
    """Measure every codec, number type and chunk size on the first rows of a split; print a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", help="a float16 feature store, extracted from real pictures")
    parser.add_argument("--split", default="train")
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--quick", action="store_true", help="the first 16 rows only, to check that everything runs")
    arguments = parser.parse_args()
    numcodecs.blosc.use_threads = False
    cache = FeatureCache.open(arguments.store)
    sizes = CHUNK_ROWS[:1] if arguments.quick else CHUNK_ROWS
    count = min(sizes[0] if arguments.quick else arguments.rows, cache.rows(arguments.split))
    maps = {level.name: cache.maps(arguments.split, level.name)[:count] for level in cache.levels}
    levels = [level.name for level in cache.levels]
    raw = {name: values.nbytes / count for name, values in maps.items()}
    named = [*CODECS, *(f"default block {name}" for name in CODECS if name not in ("zstd", "none"))]
    versions = ", ".join(f"{name} {version(name)}" for name in ("numcodecs", "zarr", "numpy"))
    print(f"{versions}; {count} rows of {arguments.split}; processor time of one thread\n")
    print(f"| number | codec | chunk rows | {' | '.join(levels)} | together | encode us/row | decode us/row |")
    print("|---|---|---|" + "---|" * (len(levels) + 3))
    for dtype in ("float16", "int8"):
        stored = {name: quantise.encode(values, dtype)[0] for name, values in maps.items()}
        for rows in (size for size in sizes if size <= count):
            found = {}
            for name in named:
                found[name] = {level: measure(name, _chunks(stored[level], rows)) for level in levels}
            layout = Layout(dtype=dtype)
            found["auto"] = {
                level.name: found[layout.codec_of(level, cache.levels)][level.name] for level in cache.levels
            }
            for name, values in found.items():
                ratios = [values[level][0] / raw[level] for level in levels]
                together = sum(values[level][0] for level in levels) / sum(raw.values())
                encode, decode = (1e6 * sum(values[level][place] for level in levels) for place in (1, 2))
                cells = " | ".join(f"{ratio:.3f}" for ratio in [*ratios, together])
                print(f"| {dtype} | {name} | {rows} | {cells} | {encode:.0f} | {decode:.0f} |", flush=True)
    print("\n| int8, entropy | of the level | of channels | of channels, by neighbours |\n|---|---:|---:|---:|")
    needed = {name: entropies(values, cache.layout.shard_rows) / count for name, values in maps.items()}
    for name, values in needed.items():
        print(f"| {name} | {' | '.join(f'{value:.3f}' for value in values / raw[name])} |")
    together = sum(needed.values()) / sum(raw.values())
    print(f"| together | {' | '.join(f'{value:.3f}' for value in together)} |")


def entropy(values: np.ndarray, groups: np.ndarray) -> float:
    """Return the bytes that an ideal coder needs for (n,) uint8 values, given the number of each one's group, (n,)."""
    counts = np.bincount(groups * 256 + values, minlength=256 * (groups.max() + 1)).reshape(-1, 256)
    totals = np.broadcast_to(counts.sum(axis=1, keepdims=True), counts.shape)
    used = counts > 0
    return float(-(counts[used] * np.log2(counts[used] / totals[used])).sum() / 8)


def entropies(maps: np.ndarray, shard_rows: int) -> np.ndarray:
    """Return the bytes of int8 maps by the entropy of a level, of its channels, and of these beside their neighbours.

    maps (rows, channels, 7, 7) float16; steps are those of shards of `shard_rows` rows.
    """
    found = np.zeros(3)
    for start in range(0, len(maps), shard_rows):
        stored = quantise.encode(maps[start : start + shard_rows], "int8")[0]
        values = (stored.astype(np.int64) + 128).reshape(stored.shape)
        channels = np.broadcast_to(np.arange(values.shape[1])[:, None, None], values.shape)
        above = np.zeros_like(values)
        above[..., 1:] += values[..., :-1] > 0
        above[..., 1:, :] += values[..., :-1, :] > 0
        groups = (np.zeros_like(values), channels, channels * 3 + above)
        found += [entropy(values.reshape(-1), group.reshape(-1)) for group in groups]
    return found


def _chunks(maps: np.ndarray, rows: int) -> list[np.ndarray]:
    return [np.ascontiguousarray(maps[start : start + rows]) for start in range(0, len(maps) - rows + 1, rows)]


if __name__ == "__main__":
    main()
