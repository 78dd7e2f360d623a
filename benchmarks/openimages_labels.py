"""Measure time and peak memory of reading Open Images annotation files of the official size.

    python benchmarks/openimages_labels.py --folder /tmp/openimages-size [--ways labels manifest boxes dask]

The files are written once (2.3 GB at full size: 27.9 million label rows, 14.6 million box rows), in the official layout
with made-up ids and classes. Every way runs in its own process. `labels` reads the label file into columns; `manifest`
also builds rows, paths and the digest; `boxes` makes a row of every box; `dask` does what `labels` does through
dask.dataframe (which needs pyarrow).
"""

from __future__ import annotations

import argparse
import json
import pickle
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

LABEL_ROWS, BOX_ROWS = 27_894_289, 14_610_229
IMAGES, BOXABLE = 5_655_108, 1_743_042
CLASSES, SEEN, UNSEEN, BOX_CLASSES = 19_794, 7_186, 400, 600
BLOCK = 1 << 20
LABELS, BOXES = "train-annotations-human-imagelabels.csv", "train-annotations-bbox.csv"
WAYS = ("labels", "manifest", "boxes", "dask")


def generate(folder: Path, share: float) -> None:
    """Write the class lists, the label file and the box file, sorted by image id like the official ones."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    mids = np.array([f"/m/0{number:05x}" for number in range(CLASSES)])
    (folder / "class-descriptions.csv").write_text("".join(f"{mid},thing {mid[3:]}\n" for mid in mids))
    (folder / "classes-trainable.txt").write_text("".join(f"{mid}\n" for mid in mids[:SEEN]))
    (folder / "unseen_labels.pkl").write_bytes(pickle.dumps(mids[SEEN : SEEN + 2594].astype(object), protocol=2))
    (folder / "top_400_unseen.csv").write_text("\n".join(map(str, range(UNSEEN))))
    ids = np.sort(rng.integers(0, 2**63, int(IMAGES * share), dtype=np.uint64))
    with (folder / LABELS).open("w") as file:
        file.write("ImageID,Source,LabelName,Confidence\n")
        for image in _blocks(ids, int(LABEL_ROWS * share), rng):
            # frequent classes first, as in the official file
            classes = mids[(CLASSES * rng.random(len(image)) ** 2).astype(int)]
            sources = np.where(rng.random(len(image)) < 0.7, "verification", "crowdsource-verification")
            table = {"i": image, "s": sources, "l": classes, "c": rng.integers(0, 2, len(image))}
            pd.DataFrame(table).to_csv(file, header=False, index=False)
    with (folder / BOXES).open("w") as file:
        file.write("ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,")
        file.write("IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n")
        for image in _blocks(ids[: int(BOXABLE * share)], int(BOX_ROWS * share), rng):
            low, size = rng.random((2, len(image), 2)) * 0.49
            flags = dict.fromkeys("abcde", 0)
            high = low + size + 1e-3
            table = {"i": image, "s": "xclick", "l": mids[rng.integers(0, BOX_CLASSES, len(image))], "c": 1}
            sides = {"x0": low[:, 0], "x1": high[:, 0], "y0": low[:, 1], "y1": high[:, 1]}
            pd.DataFrame(table | sides | flags).to_csv(file, header=False, index=False, float_format="%.6f")


def _blocks(ids: np.ndarray, rows: int, rng: np.random.Generator) -> Iterator[list[str]]:
    of_row = np.sort(rng.integers(0, len(ids), rows, dtype=np.int32))
    for start in range(0, rows, BLOCK):
        yield [f"{image:016x}" for image in ids[of_row[start : start + BLOCK]].tolist()]


def measure(way: str, folder: Path) -> dict[str, float]:
    """Run one way in this process; return rows, seconds, and resident memory at the peak and before in GiB."""
    from c3.extract.catalog.specs import OpenImagesSpec
    from c3.extract.datasets import openimages_csv
    from c3.extract.datasets.manifest import ReadOptions
    from c3.extract.datasets.openimages import openimages_manifest

    spec = OpenImagesSpec(name="openimages", kind="openimages", root=folder, labels="verified")
    mids = (folder / "classes-trainable.txt").read_text().split()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    if way == "labels":
        rows = openimages_csv.read_labels(folder / LABELS, mids).rows
    elif way == "dask":
        rows = _dask(folder / LABELS, mids)
    else:
        crops = "boxes" if way == "boxes" else "whole"
        manifest = openimages_manifest(spec, ReadOptions(crops=crops, splits=("train",)))
        manifest.digest()
        rows = len(manifest.splits["train"])
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"rows": rows, "seconds": round(seconds, 1), "peak_gib": round(peak / 2**20, 2),
            "before_gib": round(before / 2**20, 2)}  # fmt: skip


def _dask(path: Path, mids: list[str]) -> int:
    """Read the label columns through dask.dataframe (ids as numbers, classes as indices, +1 and -1); return rows."""
    import dask.dataframe as dd

    index = pd.Index(mids)

    def encode(piece: pd.DataFrame) -> pd.DataFrame:
        code, unique = pd.factorize(piece["ImageID"])
        ids = np.array([int(name, 16) for name in unique], np.uint64)
        column = index.get_indexer(piece["LabelName"]).astype(np.int32)
        value = np.where(piece["Confidence"] == "1", 1, -1).astype(np.int8)
        return pd.DataFrame({"image": ids[code], "column": column, "value": value})

    table = dd.read_csv(path, dtype=str, blocksize=2**26)
    meta = pd.DataFrame({"image": np.uint64([]), "column": np.int32([]), "value": np.int8([])})
    return len(table.map_partitions(encode, meta=meta).compute())


def main() -> None:
    """Measure how the label files of Open Images are read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--share", type=float, default=1.0, help="share of the official size")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS[:3])
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--generate", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.generate:
        generate(options.folder, options.share)
        return
    if options.measure:
        print(json.dumps(measure(options.measure, options.folder)))
        return
    itself = [sys.executable, __file__, "--folder", str(options.folder)]
    if not (options.folder / BOXES).exists():  # in its own process: a child inherits the peak of its parent
        subprocess.run([*itself, "--share", str(options.share), "--generate"], check=True)
    sizes = {path.name: f"{path.stat().st_size / 1e9:.2f} GB" for path in sorted(options.folder.glob("train-*.csv"))}
    print(f"files: {sizes}")
    for way in options.ways:
        print(
            way,
            subprocess.run([*itself, "--measure", way], check=True, stdout=subprocess.PIPE, text=True).stdout.strip(),
            flush=True,
        )


if __name__ == "__main__":
    main()
