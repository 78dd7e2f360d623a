"""FRONT DOOR of `c3 import-biam`: the published HDF5 features of BiAM -> a feature store, shard by shard.

BiAM's files hold three data sets for every image of NUS-WIDE: `<name>-features`, conv5_4 of an ImageNet VGG19 after its
ReLU as (512, 196), `<name>-labels` of the 925 seen classes (test: 1,006, the unseen ones last), and `<name>-labels_81`.
The maximum over 2x2 positions of conv5_4 is pool5, the level p32 of the backbone `vgg19`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..common.errors import C3Error
from ..common.files import require_file
from ..common.progress import progress
from .backbone.pictures.crop_policies import WHOLE_IMAGE
from .catalog.catalog import Catalog
from .catalog.specs import DatasetSpec
from .datasets.manifest import Manifest
from .datasets.read import joined_classes, leaks
from .store.cache import FeatureCache, Status
from .store.layout import GRID, FeatureArray
from .store.origin import FeatureOrigin, Notes, Provenance
from .store.quantise import FLOAT16_MAX
from .store.tables import Classes, Rows, SparseLabels, unknown_paths
from .store.texts import Texts
from .words.tower_files import origin_of

if TYPE_CHECKING:
    import h5py

CHANNELS = 512
LEVEL = FeatureArray("p32", CHANNELS)
FEATURES, LABELS, UNSEEN_LABELS = "-features", "-labels", "-labels_81"


@dataclass(frozen=True)
class BiamOptions:
    """The HDF5 files by split (None: not imported), and the data set whose classes and word vectors they belong to."""

    files: Mapping[str, Path | None]
    dataset: str = "nuswide"
    out: Path = Path("features.zarr")
    catalog: Path | None = None
    overwrite: bool = False


def import_biam(options: BiamOptions) -> str:
    """Fill a store of one level from BiAM's files and return a summary; a stopped import continues where it was.

    Rows are sorted by image name. Raises C3Error for a file that is truncated or of another layout, naming the image;
    nothing is written before all names and labels have been read.
    """
    files = {split: path for split, path in options.files.items() if path is not None}
    if not files:
        raise C3Error("nothing to import: give --train FILE, --test FILE or both")
    spec = Catalog(options.catalog).dataset(options.dataset)
    with ExitStack() as stack:
        opened = {split: stack.enter_context(_open(path)) for split, path in files.items()}
        classes = joined_classes(spec)
        splits = {split: _rows(files[split], file, classes) for split, file in opened.items()}
        cache = _store(options, spec, classes, splits)
        rows = sum(len(cache.shard_rows(split, shard)) for split in cache.splits for shard in cache.pending(split))
        with progress("import", rows, "rows") as bar:
            for split in cache.splits:
                names = splits[split].image_id
                for shard in cache.pending(split):
                    where = cache.shard_rows(split, shard)
                    maps = np.stack([_map(files[split], opened[split], names[row]) for row in where])
                    cache.write_shard(split, shard, {LEVEL.name: maps}, np.full(len(where), Status.OK, np.uint8))
                    bar.advance(len(where))
    shown = ", ".join(f"{split} {cache.rows(split):,}" for split in cache.splits)
    return f"{options.out} is complete: {shown} rows, {LEVEL.name}({CHANNELS}), {len(classes)} classes"


def _open(path: Path) -> h5py.File:
    try:
        import h5py
    except ImportError as error:
        raise C3Error("reading HDF5 needs the package h5py: pip install 'c3-mlzsl[biam]'") from error
    require_file(path, "BiAM features")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise C3Error(f"{path} is not a whole HDF5 file ({error}); copy it again") from error


def _rows(path: Path, file: h5py.File, classes: Classes) -> Rows:
    """Return names and labels of every image of a file. The features are read later, shard by shard."""
    names = sorted(key.removesuffix(FEATURES) for key in file if key.endswith(FEATURES))
    if not names:
        raise C3Error(f"{path} has no data set that ends in {FEATURES!r}; is it one of BiAM's feature files?")
    with progress(f"labels of {path.name}", len(names), "images") as bar:
        positives = []
        for name in names:
            positives.append((_positives(path, file, name, classes), ()))
            bar.advance(1)
    crops = np.tile(np.array(WHOLE_IMAGE, np.float32), (len(names), 1))
    column = Texts.of(names)
    return Rows(column, crops, SparseLabels.from_lists(positives), column)


def _positives(path: Path, file: h5py.File, name: str, classes: Classes) -> list[int]:
    """Return the positive classes of one image."""
    seen = int(classes.seen.sum())
    labels = _read(path, file, name + LABELS)
    unseen = _read(path, file, name + UNSEEN_LABELS) if name + UNSEEN_LABELS in file else labels[seen:]
    expected = len(classes) - seen
    if labels.shape not in ((seen,), (len(classes),)) or unseen.shape not in ((expected,), (0,)):
        raise C3Error(
            f"{path}: {name} has labels of shape {labels.shape} and {unseen.shape}, expected ({seen},) or "
            f"({len(classes)},) and ({expected},)"
        )
    every = np.concatenate([labels[:seen], unseen])
    if not np.isin(every, (-1, 0, 1)).all():
        raise C3Error(f"{path}: {name} has a label that is none of -1, 0 and 1")
    return np.flatnonzero(every == 1).tolist()


def _read(path: Path, file: h5py.File, key: str) -> np.ndarray:
    try:
        return np.asarray(file[key][()])
    except (KeyError, OSError, RuntimeError) as error:  # absent, or damaged chunks
        raise C3Error(f"{path}: {key} is missing or damaged ({error})") from error


def _map(path: Path, file: h5py.File, name: str) -> np.ndarray:
    """Return (512, 7, 7) float16 of one image, from (512, 196), (512, 14, 14), (512, 49) or (512, 7, 7)."""
    values = _read(path, file, name + FEATURES).astype(np.float32)
    side = {CHANNELS * (2 * GRID) ** 2: 2 * GRID, CHANNELS * GRID**2: GRID}.get(values.size)
    if side is None or values.shape[0] != CHANNELS:
        raise C3Error(f"{path}: {name}{FEATURES} has shape {values.shape}, expected (512, 196) or (512, 49)")
    if not np.isfinite(values).all() or np.abs(values).max() > FLOAT16_MAX:
        raise C3Error(f"{path}: {name}{FEATURES} has a value that is not finite or beyond float16")
    step = side // GRID
    pooled: np.ndarray = values.reshape(CHANNELS, GRID, step, GRID, step).max(axis=(2, 4))
    return pooled.astype(np.float16)


def _store(options: BiamOptions, spec: DatasetSpec, classes: Classes, splits: dict[str, Rows]) -> FeatureCache:
    manifest = Manifest(spec.name, Path(), spec.labelling, classes, splits)
    origin = FeatureOrigin(
        dataset=spec.name,
        manifest_sha256=manifest.digest(),
        labelling=spec.labelling,
        backbone="vgg19",
        weights_sha256="unknown",
        taps=({"level": LEVEL.name, "source": "maximum over 2x2 of conv5_4"},),
        transform="BiAM: resized to 224x224, ImageNet mean and deviation",
        crops="whole",
    )
    if not options.overwrite and (made := FeatureCache.begun(options.out, origin)):
        return made
    return FeatureCache.create(
        options.out,
        origin=origin,
        provenance=Provenance(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            weights="imagenet (BiAM's published features)",
            device="none",
            versions={name: version(name) for name in ("c3-mlzsl", "h5py", "zarr", "numpy")},
            files={split: str(path) for split, path in options.files.items() if path is not None},
        ),
        levels=(LEVEL,),
        classes=classes,
        splits={name: replace(rows, path=Texts.of(unknown_paths(len(rows)))) for name, rows in splits.items()},
        notes=Notes(leaks(spec, classes), vectors=origin_of(spec.vectors.path) if spec.vectors else None),
        overwrite=options.overwrite,
    )
