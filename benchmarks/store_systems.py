"""The ways to keep feature maps that benchmarks/store.py compares: each writes the rows and yields shuffled epochs.

All get the same rows: maps (rows, channels of all levels, 7, 7) float16 in a raw file, and dense labels (rows, classes)
int8. An epoch yields batches of maps and labels as torch tensors, with the shuffle that the system recommends. Optional
libraries are imported where they are used.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from c3.extract.store.cache import FeatureCache
from c3.extract.store.layout import FeatureArray, Layout
from c3.extract.store.origin import FeatureOrigin, Provenance
from c3.extract.store.tables import Classes, Rows, SparseLabels, unknown_paths
from c3.train.data.batches import BUFFER_ROWS, BatchStream, epoch_buffers

BATCH = 48
BLOCK = 64  # rows of a chunk
WORKERS = 2
EPOCHS = 3  # as many as store.py measures

Batches = Iterator[tuple[list[torch.Tensor], torch.Tensor]]  # the maps as one tensor or one per level, and the labels


@dataclass(frozen=True)
class Source:
    """The rows that every system stores: maps (rows, channels, 7, 7) float16, labels (rows, classes) int8."""

    maps: np.ndarray
    labels: np.ndarray
    levels: tuple[FeatureArray, ...]

    def __len__(self) -> int:
        return len(self.maps)

    def split(self, start: int, stop: int) -> dict[str, np.ndarray]:
        """Return level -> its channels for the rows from start to stop."""
        ends = np.cumsum([level.channels for level in self.levels])
        return {
            level.name: self.maps[start:stop, end - level.channels : end]
            for level, end in zip(self.levels, ends, strict=True)
        }


@dataclass(frozen=True)
class System:
    """A way to keep features: `write` fills a folder, `epochs` opens it and yields one epoch of batches after another.

    `stores` names the system whose folder is read instead of an own one; `rows` limits a slow system.
    """

    write: Callable[[Source, Path], None] | None
    epochs: Callable[[Source, Path, int], Iterator[Batches]]
    stores: str | None = None
    rows: int | None = None


def ours(**layout: str) -> System:
    """Return c3's own store, read by the stream that `c3 train` uses."""

    def write(source: Source, folder: Path) -> None:
        count, classes = source.labels.shape
        labels = SparseLabels.from_lists((np.flatnonzero(row > 0), []) for row in source.labels)
        ids = np.arange(count).astype(str)
        cache = FeatureCache.create(
            folder / "features.zarr",
            origin=FeatureOrigin("benchmark", "0" * 64, "complete", "vgg19", "0" * 64, (), None, "whole"),
            provenance=Provenance("2026-01-01", "none"),
            levels=source.levels,
            classes=Classes(tuple(map(str, range(classes))), np.ones(classes, bool), np.eye(classes, dtype=np.float32)),
            splits={"train": Rows(ids, np.zeros((count, 4), np.float32), labels, unknown_paths(count))},
            layout=Layout(chunk_rows=BLOCK, shard_rows=1024, **layout),
        )
        for shard in range(cache.shards("train")):
            rows = cache.shard_rows("train", shard)
            cache.write_shard("train", shard, source.split(rows.start, rows.stop), np.ones(len(rows), np.uint8))

    def epochs(source: Source, folder: Path, seed: int) -> Iterator[Batches]:
        cache = FeatureCache.open(folder / "features.zarr")
        stream = BatchStream(cache, "train", [level.name for level in cache.levels], BATCH, seed)
        for epoch in range(EPOCHS):
            # a head cannot use int8, so that the int8 line includes the decoding
            yield (
                ([*(batch.features() if batch.scales else batch.arrays).values()], batch.labels)
                for batch in stream.epoch(epoch)
            )

    return System(write, epochs)


def write_memmap(source: Source, folder: Path) -> None:
    """Write the rows as one raw file."""
    (folder / "maps.bin").write_bytes(memoryview(source.maps).cast("B"))
    np.save(folder / "labels.npy", source.labels)


def read_memmap(source: Source, folder: Path, seed: int) -> Iterator[Batches]:
    """Read blocks in random order, shuffle inside each, and copy once from the page cache: the upper limit."""
    import mmap

    labels = np.load(folder / "labels.npy")
    block_bytes = BLOCK * source.maps[0].nbytes

    def epoch(number: int) -> Batches:
        maps = np.memmap(folder / "maps.bin", np.float16, "r", shape=source.maps.shape)  # a mapped page stays cached
        order = np.concatenate(epoch_buffers(np.arange(len(maps)), BLOCK, BLOCK, seed, number))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            coming = order[start + 2 * BLOCK : start + 2 * BLOCK + BATCH] // BLOCK
            for block in np.unique(coming).tolist():
                start_of = block * block_bytes // mmap.PAGESIZE * mmap.PAGESIZE
                maps._mmap.madvise(mmap.MADV_WILLNEED, start_of, min(block_bytes, maps.nbytes - start_of))
            batch = torch.empty((len(rows), *maps.shape[1:]), dtype=torch.float16)
            np.take(maps, rows, axis=0, out=batch.numpy(), mode="clip")
            yield [batch], torch.from_numpy(labels[rows])

    for number in range(EPOCHS):
        yield epoch(number)


def in_pools(
    source: Source, seed: int, shapes: list[tuple[int, ...]], read: Callable[[list[slice], list[np.ndarray]], None]
) -> Iterator[Batches]:
    """Yield epochs in the order of c3's own reader; `read(chunks as row slices, one array per level)` gives the maps.

    The next buffer is read ahead, into arrays that are used again.
    """
    buffer_rows = min(BUFFER_ROWS, -(-len(source) // BLOCK) * BLOCK)
    memory = [[torch.empty((buffer_rows, *shape), dtype=torch.float16).numpy() for shape in shapes] for _ in range(2)]

    def fill(pool: np.ndarray, into: list[np.ndarray]) -> None:
        chunks = np.unique(pool // BLOCK) * BLOCK
        read([slice(start, min(start + BLOCK, len(source))) for start in chunks.tolist()], into)

    def epoch(number: int, ahead: ThreadPoolExecutor) -> Batches:
        pools = epoch_buffers(np.arange(len(source)), BLOCK, BUFFER_ROWS, seed, number)
        coming = ahead.submit(fill, pools[0], memory[0])
        for place, rows in enumerate(pools):
            coming.result()
            if place + 1 < len(pools):
                coming = ahead.submit(fill, pools[place + 1], memory[(place + 1) % 2])
            where = np.searchsorted(np.unique(rows // BLOCK), rows // BLOCK) * BLOCK + rows % BLOCK
            for start in range(0, len(rows), BATCH):
                index = where[start : start + BATCH]
                batch = [torch.from_numpy(level.take(index, axis=0)) for level in memory[place % 2]]  # as c3 does
                yield batch, torch.from_numpy(source.labels[rows[start : start + BATCH]])

    with ThreadPoolExecutor(1) as ahead:
        for number in range(EPOCHS):
            yield epoch(number, ahead)


def places(chunks: list[slice]) -> list[slice]:
    """Return the slices that consecutive chunks take in a buffer."""
    ends = np.cumsum([rows.stop - rows.start for rows in chunks]).tolist()
    return [slice(end - (rows.stop - rows.start), end) for rows, end in zip(chunks, ends, strict=True)]


def our_arrays(folder: Path, source: Source) -> list[str]:
    """Return the paths of the arrays of c3's store."""
    return [str(folder / "features.zarr/train/pyramid" / level.name) for level in source.levels]


def read_zarr_default(source: Source, folder: Path, seed: int) -> Iterator[Batches]:
    """Read c3's store with zarr-python, chunk by chunk."""
    import zarr

    arrays = [zarr.open_array(path, mode="r") for path in our_arrays(folder, source)]

    def read(chunks: list[slice], memory: list[np.ndarray]) -> None:
        for array, into in zip(arrays, memory, strict=True):
            for rows, place in zip(chunks, places(chunks), strict=True):
                into[place] = array[rows]

    return in_pools(source, seed, [array.shape[1:] for array in arrays], read)


def read_tensorstore(source: Source, folder: Path, seed: int) -> Iterator[Batches]:
    """Read c3's store with tensorstore: request all chunks of a buffer at once and decode them into it."""
    import tensorstore as ts

    specs = [{"driver": "zarr3", "kvstore": {"driver": "file", "path": path}} for path in our_arrays(folder, source)]
    arrays = [ts.open(spec, read=True).result() for spec in specs]

    def read(chunks: list[slice], memory: list[np.ndarray]) -> None:
        asked = []
        for array, into in zip(arrays, map(ts.array, memory), strict=True):
            for rows, place in zip(chunks, places(chunks), strict=True):
                asked.append(into[place].write(array[rows][ts.d[0].translate_to[place.start]]))
        for future in asked:
            future.result()

    return in_pools(source, seed, [array.shape[1:] for array in arrays], read)


def write_hdf5_images(source: Source, folder: Path) -> None:
    """Write the layout of BiAM: per image one gzip float32 data set for the maps and one for the labels."""
    import h5py

    with h5py.File(folder / "images.h5", "w") as file:
        for row, (maps, labels) in enumerate(zip(source.maps, source.labels, strict=True)):
            file.create_dataset(f"{row}-features", data=maps.astype(np.float32), compression="gzip")
            file.create_dataset(f"{row}-labels", data=labels, compression="gzip")


def read_hdf5_images(source: Source, folder: Path, seed: int) -> Iterator[Batches]:
    """Read images by name, in random order."""
    import h5py

    def epoch(number: int) -> Batches:
        order = np.random.default_rng([seed, number]).permutation(len(source))
        with h5py.File(folder / "images.h5") as file:
            for start in range(0, len(order), BATCH):
                rows = order[start : start + BATCH]
                maps = np.stack([file[f"{row}-features"][()] for row in rows])
                labels = np.stack([file[f"{row}-labels"][()] for row in rows])
                yield [torch.from_numpy(maps).half()], torch.from_numpy(labels)

    for number in range(EPOCHS):
        yield epoch(number)


def write_hdf5_chunks(source: Source, folder: Path) -> None:
    """Write one uncompressed data set in chunks."""
    import h5py

    with h5py.File(folder / "chunks.h5", "w") as file:
        chunks = (min(BLOCK, len(source)), *source.maps.shape[1:])
        maps = file.create_dataset("maps", source.maps.shape, np.float16, chunks=chunks)
        for start in range(0, len(source), BLOCK):
            maps[start : start + BLOCK] = source.maps[start : start + BLOCK]


def read_hdf5_chunks(source: Source, folder: Path, seed: int) -> Iterator[Batches]:
    """Read chunk by chunk into the buffer."""
    import h5py

    maps = h5py.File(folder / "chunks.h5")["maps"]

    def read(chunks: list[slice], memory: list[np.ndarray]) -> None:
        for rows, place in zip(chunks, places(chunks), strict=True):
            maps.read_direct(memory[0], rows, place)

    return in_pools(source, seed, [maps.shape[1:]], read)


def write_webdataset(source: Source, folder: Path) -> None:
    """Write npy files in tar shards of 256 MB."""
    import webdataset

    with webdataset.ShardWriter(str(folder / "%05d.tar"), maxsize=256e6, verbose=0) as sink:
        for row in range(len(source)):
            sink.write({"__key__": f"{row:08d}", "maps.npy": source.maps[row], "labels.npy": source.labels[row]})


def read_webdataset(source: Source, folder: Path, seed: int) -> Iterator[Batches]:
    """Read shuffled shards, then shuffle in a buffer of 1,000 samples in each of two workers."""
    import webdataset

    shards = sorted(map(str, folder.glob("*.tar")))
    data = webdataset.WebDataset(shards, shardshuffle=len(shards), seed=seed, empty_check=False)
    data = data.shuffle(1000).decode().to_tuple("maps.npy", "labels.npy").batched(BATCH)
    loader = webdataset.WebLoader(data, batch_size=None, num_workers=WORKERS, persistent_workers=True)
    for _ in range(EPOCHS):
        yield (([torch.as_tensor(maps)], torch.as_tensor(labels)) for maps, labels in loader)


def write_mds(source: Source, folder: Path) -> None:
    """Write MosaicML MDS shards of the default size."""
    from streaming import MDSWriter

    logging.getLogger("streaming").setLevel(logging.ERROR)
    shape = ",".join(map(str, source.maps.shape[1:]))
    columns = {"maps": f"ndarray:float16:{shape}", "labels": f"ndarray:int8:{source.labels.shape[1]}"}
    with MDSWriter(columns=columns, out=str(folder / "mds")) as sink:
        for row in range(len(source)):
            sink.write({"maps": source.maps[row], "labels": source.labels[row]})


def read_mds(source: Source, folder: Path, seed: int) -> Iterator[Batches]:
    """Read with its own shuffle (py1e) and two workers."""
    from streaming import StreamingDataLoader, StreamingDataset

    data = StreamingDataset(local=str(folder / "mds"), shuffle=True, shuffle_seed=seed, batch_size=BATCH)
    loader = StreamingDataLoader(data, batch_size=BATCH, num_workers=WORKERS, persistent_workers=True)
    for _ in range(EPOCHS):
        yield (([batch["maps"]], batch["labels"]) for batch in loader)


def write_litdata(source: Source, folder: Path) -> None:
    """Write LitData chunks of 64 MB."""
    from litdata.streaming.writer import BinaryWriter

    writer = BinaryWriter(str(folder / "lit"), chunk_bytes=64_000_000)
    for row in range(len(source)):
        maps, labels = torch.from_numpy(np.array(source.maps[row])), torch.from_numpy(source.labels[row])
        writer.add_item(row, {"maps": maps, "labels": labels})
    writer.done()
    writer.merge()


def read_litdata(source: Source, folder: Path, seed: int) -> Iterator[Batches]:
    """Read with its own shuffle and two workers."""
    from litdata import StreamingDataLoader, StreamingDataset

    data = StreamingDataset(str(folder / "lit"), shuffle=True, seed=seed)
    loader = StreamingDataLoader(data, batch_size=BATCH, num_workers=WORKERS, persistent_workers=True)
    for _ in range(EPOCHS):
        yield (([batch["maps"]], batch["labels"]) for batch in loader)


SYSTEMS = {
    "numpy memmap": System(write_memmap, read_memmap),
    "c3": ours(),
    "c3 lz4": ours(codec="lz4"),
    "c3 none": ours(codec="none"),
    "c3 int8": ours(dtype="int8"),
    "tensorstore on c3": System(None, read_tensorstore, stores="c3"),
    "tensorstore on c3 lz4": System(None, read_tensorstore, stores="c3 lz4"),
    "zarr-python on c3": System(None, read_zarr_default, stores="c3"),
    "zarr-python on c3 lz4": System(None, read_zarr_default, stores="c3 lz4"),
    "HDF5 in chunks": System(write_hdf5_chunks, read_hdf5_chunks),
    "LitData": System(write_litdata, read_litdata),
    "MosaicML MDS": System(write_mds, read_mds),
    "WebDataset": System(write_webdataset, read_webdataset),
    "BiAM layout": System(write_hdf5_images, read_hdf5_images, rows=2048),
}
