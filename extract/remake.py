"""What it takes to compute rows of a store again: its backbone, and where its images are."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..common.devices import resolve_device
from ..common.errors import C3Error
from ..common.unicode_forms import on_disk, path_text
from .align import aligned
from .backbone.network import Backbone
from .backbone.pictures.decode_options import DecodeOptions
from .backbone.weights import load_backbone
from .catalog.catalog import Catalog, weights_of
from .datasets.manifest import Manifest
from .datasets.read import read_manifest
from .options import ExtractOptions
from .request import feature_origin
from .store.cache import FeatureCache
from .store.tables import UNKNOWN_PATH


@dataclass(frozen=True)
class Remake:
    """The backbone of a store and its images: `paths[split]` (rows,) text relative to `root`, empty where unknown."""

    backbone: Backbone
    root: Path
    paths: Mapping[str, np.ndarray]
    batch_size: int
    decoding: DecodeOptions


def prepare_remake(cache: FeatureCache, images: Path | None = None, catalog: Path | None = None) -> Remake:
    """Load the backbone of a store and find its images; `images` is their folder when they have moved.

    Data set and weights are looked up in the catalog that the store names, or in `catalog`.

    A store that knows the paths of its images needs no data set; for the others its data set is read again. Raises
    C3Error when the store does not say how it was made, or when backbone or data set are not what they were. A data set
    that cannot be read is no error where some paths are known.
    """
    options = options_of(cache, catalog)
    backbone = load_backbone(
        options.backbone,
        _weights(options),
        resolve_device(options.device),
        options.precision,
        options.extras,
        options.input_size,
    )
    origin = cache.origin
    cache.require_origin(feature_origin(backbone, origin, origin.manifest_sha256, origin.dtype, options.decoding))
    root = images or (Path(cache.provenance.image_root) if cache.provenance.image_root else None)
    paths = {split: cache.image_paths(split) for split in cache.splits}
    if not any((table != UNKNOWN_PATH).any() for table in paths.values()):
        try:
            manifest = manifest_of(cache, catalog)
            paths, root = paths_in(cache, manifest), images or manifest.root
        except C3Error as error:
            raise C3Error(
                f"{cache.location} does not know the paths of its images, and its data set, which does, is not what it "
                f"was: {error}; put its files back, or name the catalog that has it (c3 --catalog FILE before the "
                "command)"
            ) from error
    elif any((table == UNKNOWN_PATH).any() for table in paths.values()):  # a store of version 2 was joined to it
        with suppress(C3Error):
            manifest = manifest_of(cache, catalog)
            paths = _filled(paths, paths_in(cache, manifest), images or manifest.root)
    if root is None:
        raise C3Error(f"{cache.location} does not say where its images are; name their folder with --images")
    return Remake(backbone, root, paths, options.batch_size, options.decoding)


def _filled(paths: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray], root: Path) -> dict[str, np.ndarray]:
    """Return the paths of a store, and where it has none the absolute ones of those `found` below `root`."""
    filled = {}
    for split, table in paths.items():
        missing = (table == UNKNOWN_PATH) & (found[split] != UNKNOWN_PATH)
        filled[split] = table.copy()
        filled[split][missing] = [path_text((root / path).absolute()) for path in found[split][missing].tolist()]
    return filled


def options_of(cache: FeatureCache, catalog: Path | None = None) -> ExtractOptions:
    """Return the request that made a store, with another `catalog` where one is given.

    Raises C3Error for a store that was not extracted from images.
    """
    if cache.provenance.request is None:
        raise C3Error(f"{cache.location} does not say how it was made, so that nothing of it can be made again")
    made = ExtractOptions.from_record(cache.provenance.request, cache.location)
    return made if catalog is None else replace(made, catalog=catalog)


def manifest_of(cache: FeatureCache, catalog: Path | None = None) -> Manifest:
    """Read the data set of a store again, from its own catalog or from another one."""
    options = options_of(cache, catalog)
    spec = Catalog(options.catalog).dataset(options.dataset)
    return read_manifest(spec, options.reading, report=False).select(options.splits, options.limit)


def paths_in(cache: FeatureCache, manifest: Manifest) -> dict[str, np.ndarray]:
    """Return (rows,) paths by split, from the data set of a store; its digest proves that the rows are the same.

    Rows that were appended or merged are found by image and crop, and must have the same labels. Raises C3Error for a
    data set that is not what it was.
    """
    digest = manifest.digest()
    if digest == cache.origin.manifest_sha256:
        return {split: manifest.splits[split].path[:] for split in cache.splits}
    if not (options_of(cache).append or cache.provenance.merged):
        cache.require_origin(replace(cache.origin, manifest_sha256=digest))
    return {split: aligned(cache, split, manifest).path[: cache.rows(split)] for split in cache.splits}


def _weights(options: ExtractOptions) -> str:
    """Return the weights of a request; the catalog is read only for one of its names."""
    if (
        options.weights == "imagenet"
        or options.weights.startswith("random:")
        or on_disk(Path(options.weights)).is_file()
    ):
        return options.weights
    return weights_of(options.backbone, options.weights, Catalog(options.catalog))
