"""Compare size, writing and shuffled epochs of c3's store with other ways to keep features.

    python benchmarks/store.py STORE

A machine whose load is above 0.3 is refused unless --busy.

STORE is a feature store of real features. Its rows are repeated up to --rows, each time in another seeded order; chunks
are compressed separately, so that a repeated row helps no system. Every system runs in its own process: the page cache
is dropped, the first epoch is the cold one and the second the warm one. Before the third the page cache is dropped
again; unlike the first, it touches no memory for the first time. Each round measures all systems; the table has the
medians. Every epoch is checked: all rows came, and the sum over a channel of every level is that of the source.
The other libraries: pip install '.[benchmarks]'. MosaicML's library requires an older numpy than c3 is tested with;
install it with
pip install --no-deps mosaicml-streaming transformers huggingface-hub tokenizers tqdm httpx2 httpcore2 truststore brotli
python-snappy cramjam zstd xxhash catalogue
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from c3.common.errors import C3Error
from c3.extract.store.cache import FeatureCache
from c3.extract.store.layout import FeatureArray
from quiet import require_quiet
from store_systems import SYSTEMS, Source

KINDS = ("cold", "warm", "cold again")  # the epochs
DROP = Path("/proc/sys/vm/drop_caches")
NEEDS = {"tensorstore": "tensorstore", "HDF5": "h5py", "BiAM": "h5py", "LitData": "litdata", "MosaicML": "streaming",
         "WebDataset": "webdataset"}  # fmt: skip
LIBRARIES = ("numpy", "torch", "zarr", "numcodecs", "tensorstore", "h5py", "litdata", "mosaicml-streaming",
             "webdataset")  # fmt: skip


def make_source(store: str, rows: int, folder: Path) -> None:
    """Write the rows that all systems store: maps.bin, labels.npy and levels.json."""
    cache = FeatureCache.open(store)
    rng = np.random.default_rng(0)
    maps = np.concatenate(
        [np.concatenate([cache.maps(split, level.name)[:] for level in cache.levels], axis=1) for split in cache.splits]
    )
    labels = np.concatenate([cache.labels(split).dense(len(cache.classes), -1) for split in cache.splits])
    usable = np.flatnonzero((labels > 0).any(axis=1))  # training does not stream rows without a positive label
    order = np.concatenate([rng.permutation(usable) for _ in range(-(-rows // len(usable)))])[:rows]
    with (folder / "maps.bin").open("wb") as file:
        for start in range(0, rows, 1024):
            file.write(maps[order[start : start + 1024]].tobytes())
    np.save(folder / "labels.npy", labels[order])
    (folder / "levels.json").write_text(json.dumps([vars(level) for level in cache.levels]))


def load_source(folder: Path, rows: int | None) -> Source:
    """Map the rows that `make_source` wrote into memory."""
    levels = tuple(FeatureArray(**level) for level in json.loads((folder / "levels.json").read_text()))
    labels = np.load(folder / "labels.npy", mmap_mode="r")
    shape = (len(labels), sum(level.channels for level in levels), 7, 7)
    return Source(np.memmap(folder / "maps.bin", np.float16, "r", shape=shape)[:rows], np.array(labels[:rows]), levels)


def forget_pages(folder: Path) -> None:
    """Drop the files of a folder from the page cache, as far as they are written and not mapped."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def drop_page_cache(folder: Path) -> str:
    """Drop the files of a folder from the page cache; return how."""
    forget_pages(folder)
    try:
        DROP.write_text("3")
    except OSError:
        return "posix_fadvise"
    return "drop_caches and posix_fadvise"


def child(task: str, name: str, work: Path) -> dict[str, Any]:
    """Write one system, or read its epochs, in this process."""
    system = SYSTEMS[name]
    source = load_source(work / "source", system.rows)
    folder = work / "systems" / (system.stores or name)
    if task == "write":
        folder.mkdir(parents=True)
        np.asarray(source.maps).max()  # brings the source into the page cache
        start = time.perf_counter()
        system.write(source, folder)
        os.sync()
        seconds = time.perf_counter() - start
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return {"write": source.maps.nbytes / seconds / 1e6, "ratio": size / source.maps.nbytes}
    result: dict[str, Any] = {}
    firsts = [np.asarray(source.maps[:, end, 3, 3], np.float64).sum() for end in first_channels(source)]
    epochs = system.epochs(source, folder, 0)
    dropped = drop_page_cache(folder)
    for kind in KINDS:
        if kind == "cold again":
            drop_page_cache(folder)
        rows, found = 0, [0.0] * len(firsts)
        start = time.perf_counter()
        for maps, labels in next(epochs):
            rows += len(labels)
            picked = (
                [maps[0][:, end, 3, 3] for end in first_channels(source)]
                if len(maps) == 1
                else [level[:, 0, 3, 3] for level in maps]
            )
            found = [total + float(values.double().sum()) for total, values in zip(found, picked, strict=True)]
        result[kind] = rows / (time.perf_counter() - start)
        exact = "int8" not in name
        if rows != len(source) or (exact and not np.allclose(found, firsts, rtol=1e-9)):
            raise SystemExit(f"{name}: an epoch of {rows} rows is not the {len(source)} rows that were stored")
    return result | {"dropped": dropped}


def first_channels(source: Source) -> list[int]:
    """Return the number of the first channel of every level."""
    ends = np.cumsum([level.channels for level in source.levels])
    return [int(end - level.channels) for end, level in zip(ends, source.levels, strict=True)]


def run(task: str, name: str, work: Path) -> dict[str, Any]:
    """Run `child` in a new process."""
    command = [sys.executable, __file__, "--child", task, name, str(work)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} ({task}): {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def available(name: str) -> bool:
    """Return whether the library that a system needs is installed."""
    return all(importlib.util.find_spec(module) for word, module in NEEDS.items() if word in name)


def machine() -> str:
    """Describe the processor, cores and memory of this machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores of {model}, {memory:.0f} GiB"


def table(names: list[str], written: dict[str, Any], read: dict[str, list[dict[str, Any]]]) -> str:
    """Return the markdown table; ratios are to the memmap of the same run."""

    def middle(name: str, kind: str) -> float:
        return median(result[kind] for result in read[name])

    limit = names[0]
    lines = [
        f"| store | bytes / raw | write MB/s | {' | '.join(f'{kind} samples/s | / memmap' for kind in KINDS)} |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in names:
        own = written.get(name)
        size = f"{own['ratio']:.3f} | {own['write']:,.0f}" if own else "the same | "
        speeds = [f"{middle(name, kind):,.0f} | {middle(name, kind) / middle(limit, kind):.2f}" for kind in KINDS]
        lines.append(f"| {name} | {size} | {' | '.join(speeds)} |")
    return "\n".join(lines)


def main() -> None:
    """Write every system once and read it in rounds; print a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", nargs="?", help="a feature store of real features")
    parser.add_argument("--rows", type=int, default=16_384)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS), metavar="SYSTEM")
    parser.add_argument("--work", type=Path, help="folder to write to, which is kept; default: a temporary folder")
    parser.add_argument(
        "--quick", action="store_true", help="500 rows, one round and one process, to check that everything runs"
    )
    parser.add_argument("--busy", action="store_true", help="measure although other work runs")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ["LITDATA_DISABLE_VERSION_CHECK"] = "1"  # it would need the network
    if arguments.child:
        task, name, work = arguments.child
        print(json.dumps(child(task, name, Path(work))))
        return
    if arguments.store is None:
        parser.error("give a feature store of real features")
    try:
        load = require_quiet(arguments.busy or arguments.quick)
    except C3Error as error:
        parser.error(str(error))
    measure = child if arguments.quick else run
    rows, rounds = (500, 1) if arguments.quick else (arguments.rows, arguments.rounds)
    first = next(iter(SYSTEMS))
    names = [name for name in SYSTEMS if name in {first, *arguments.only} and available(name)]
    work = arguments.work or Path(tempfile.mkdtemp(prefix="c3-bench-"))
    try:
        if not (work / "source/levels.json").exists():
            (work / "source").mkdir(parents=True, exist_ok=True)
            make_source(arguments.store, rows, work / "source")
        written: dict[str, Any] = {}
        for name in dict.fromkeys(SYSTEMS[name].stores or name for name in names):
            shutil.rmtree(work / "systems" / name, ignore_errors=True)  # of an earlier run in the same --work
            written[name] = measure("write", name, work)
        read: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for _ in range(rounds):
            for name in names:
                read[name].append(measure("read", name, work))
        print(f"machine: {machine()}; load {load:.1f} before, {os.getloadavg()[0]:.1f} after")
        fewer = ", ".join(f"{name} {SYSTEMS[name].rows:,}" for name in names if (SYSTEMS[name].rows or rows) < rows)
        row_bytes = load_source(work / "source", 1).maps.nbytes
        print(f"{rows:,} rows of {row_bytes:,} bytes" + (f" (fewer: {fewer})" if fewer else ""))
        print(f"median of {rounds} rounds; cold: page cache dropped by {read[first][0]['dropped']}")
        print(
            f"versions: Python {platform.python_version()},",
            ", ".join(f"{library} {version(library)}" for library in LIBRARIES if has(library)),
        )
        missing = [name for name in SYSTEMS if not available(name)]
        print(f"left out, not installed: {', '.join(missing) or 'none'}\n")
        print(table(names, written, read))
    finally:
        if arguments.work is None:
            shutil.rmtree(work)


def has(library: str) -> bool:
    """Return whether a distribution is installed."""
    try:
        version(library)
    except ImportError:  # PackageNotFoundError
        return False
    return True


if __name__ == "__main__":
    main()
