"""Options of `c3 extract` -> data set, backbone and store; every check comes before any work."""

from __future__ import annotations

import logging
import platform
import subprocess
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch

from ..common.devices import resolve_device
from ..common.errors import C3Error, SettingError
from ..common.unicode_forms import path_text
from .backbone.names import AUTO, PACKAGES
from .backbone.network import Backbone
from .backbone.pictures.decode_options import DecodeOptions
from .backbone.precision import fastest_precision
from .backbone.weights import backbone_spec, load_backbone
from .catalog.catalog import Catalog, weights_of
from .datasets.manifest import Manifest
from .datasets.read import read_manifest
from .options import ExtractOptions
from .store.attributes import content_digest
from .store.cache import FeatureCache
from .store.layout import GLOBAL_VECTOR, REGIONS, Layout, row_bytes
from .store.origin import FeatureOrigin, Provenance
from .store.storage import open_storage

LOG = logging.getLogger(__name__)

BIG = 100_000  # rows beyond which shards are larger, so that files stay few
# Stored bytes as a share of float16 bytes, real VGG19 features (docs/benchmarks.md)
TYPICAL_RATIO = {"float16": 0.42, "int8": 0.23}
EXTRAS_RATIO = {"float16": 0.06, "int8": 0.04}  # of conv5_4, nearly all zeros


@dataclass(frozen=True)
class Request:
    """The options of an extraction, with the data set and the backbone that they name."""

    options: ExtractOptions
    manifest: Manifest
    backbone: Backbone

    @property
    def rows(self) -> int:
        """The number of rows of all splits."""
        return sum(len(split) for split in self.manifest.splits.values())

    def layout(self, rows: int | None = None) -> Layout:
        """Return the layout of a new store of `rows` rows (default: those of the data set)."""
        options = self.options
        shard_rows = options.shard_rows or (256 if (rows or self.rows) <= BIG else 1024)
        chunk_rows = options.chunk_rows or min(64, shard_rows)
        return Layout(chunk_rows, shard_rows, options.dtype, options.codec or "auto")

    @property
    def origin(self) -> FeatureOrigin:
        """What decides the values of its store; a store of another origin is refused on resume."""
        return feature_origin(
            self.backbone, self.manifest, self.manifest.digest(), self.options.dtype, self.options.decoding
        )

    @property
    def digest(self) -> str:
        """The digest of its store, known before there is one."""
        rows = {name: len(rows) for name, rows in self.manifest.splits.items()}
        return content_digest(self.origin, self.backbone.arrays, rows)


def feature_origin(
    backbone: Backbone, rows: Manifest | FeatureOrigin, manifest_sha256: str, dtype: str, decoding: DecodeOptions
) -> FeatureOrigin:
    """Return the origin of the features that a backbone computes of the rows of a manifest, or of a known origin."""
    extras = {name: tap.record() for name, tap in backbone.extras.items()}
    return FeatureOrigin(
        dataset=rows.dataset,
        manifest_sha256=manifest_sha256,
        labelling=rows.labelling,
        backbone=backbone.spec.name,
        weights_sha256=backbone.weights_sha256,
        taps=tuple(tap.record() for tap in backbone.spec.taps),
        transform=backbone.transform,
        crops=rows.crops,
        regions=extras.get(REGIONS),
        global_vector=extras.get(GLOBAL_VECTOR),
        precision=backbone.precision,
        dtype=dtype,
        truncated=decoding.truncated,
        max_megapixels=decoding.max_megapixels,
    )


def prepare(options: ExtractOptions) -> Request:
    """Read the data set and load the backbone. Raises C3Error when the request cannot be met; nothing is written."""
    catalog = Catalog(options.catalog)
    spec = catalog.dataset(options.dataset)
    backbone_spec(options.backbone, options.input_size).extras(options.extras)
    device = resolve_device(options.device)
    storage = open_storage(options.out)
    fresh = options.overwrite or options.append or not storage.exists()  # what was read is told once
    store = None if options.overwrite or not storage.exists() else FeatureCache.open(options.out)  # refuses other files
    if options.precision == AUTO:
        options = replace(options, precision=_precision(store, device))
    manifest = read_manifest(spec, options.reading, report=fresh).select(options.splits, options.limit)
    if fresh and (counts := manifest.untrainable()):
        told = ", ".join(f"{count:,} of {len(manifest.splits[name]):,} in {name}" for name, count in counts.items())
        LOG.info("%s: rows without a label of a seen class: %s; c3 train leaves them out", spec.name, told)
    weights = weights_of(options.backbone, options.weights, catalog)
    backbone = load_backbone(options.backbone, weights, device, options.precision, options.extras, options.input_size)
    if options.compiled:
        backbone.compile_for(options.batch_size)
    request = Request(options, manifest, backbone)
    request.layout()  # refuses rows of chunks and shards that do not fit
    return request


def _precision(store: FeatureCache | None, device: torch.device) -> str:
    """Return the precision for `auto`: what a store began with goes on, on a machine of any kind."""
    if store:
        return store.origin.precision
    precision, reason = fastest_precision(device)
    LOG.info("precision %s: %s", precision, reason)
    return precision


def open_or_create(request: Request) -> FeatureCache:
    """Return the store of a request: the existing one, when the same request made it, else a new one."""
    options = request.options
    fresh = options.overwrite or not open_storage(options.out).exists()
    if fresh and not options.retry_failed:
        require_space(request)
        return _create(request)
    store = FeatureCache.open(options.out, mode="r+")
    store.require_origin(
        request.origin, "Give another --out, or --overwrite", "New images or splits are added with --append"
    )
    for name in ("codec", "chunk_rows", "shard_rows"):
        asked, found = getattr(options, name), getattr(store.layout, name)
        if asked is not None and asked != found:
            raise SettingError(
                f"{options.out} has --{name.replace('_', '-')} {found}, the request says {asked}; "
                "leave the option out, give another --out, or --overwrite"
            )
    return store


def _create(request: Request) -> FeatureCache:
    backbone = request.backbone
    return FeatureCache.create(
        request.options.out,
        origin=request.origin,
        provenance=Provenance(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            weights=backbone.weights_id,
            licence=backbone.licence,
            image_root=path_text(request.manifest.root.resolve()),
            device=str(backbone.device),
            versions={"python": platform.python_version()} | package_versions(backbone.spec.name),
            git_commit=_git_commit(),
            request=request.options.record(),
        ),
        levels=backbone.arrays,
        classes=request.manifest.classes,
        splits=request.manifest.splits,
        layout=request.layout(),
        notes=request.manifest.notes,
        overwrite=request.options.overwrite,
    )


@cache
def package_versions(backbone: str = "") -> dict[str, str]:
    """Return the versions of the packages that decide the values in a store of this backbone."""
    own = [name for prefix, names in PACKAGES.items() if backbone.startswith(prefix) for name in names]
    return {name: version(name) for name in ("c3-mlzsl", "torch", "torchvision", "zarr", "numpy", "pillow", *own)}


def require_space(request: Request) -> None:
    """Refuse to begin when this disk has no room for the whole store."""
    free = open_storage(request.options.out).free_bytes()
    dtype, arrays = request.options.dtype, request.backbone.arrays
    raw = row_bytes(arrays) * request.rows
    levels = row_bytes([array for array in arrays if array.pooled]) * request.rows
    expected = levels * TYPICAL_RATIO[dtype] + (raw - levels) * EXTRAS_RATIO[dtype]
    if free is not None and expected > free:
        raise C3Error(
            f"{request.options.out}: about {expected / 1e9:,.1f} GB are needed ({request.rows:,} rows, "
            f"{raw / 1e9:,.1f} GB raw), {free / 1e9:,.1f} GB are free; see c3 extract --plan, or use --dtype int8 "
            "or another --out"
        )


def _git_commit() -> str | None:
    """Return the commit of a source checkout; None for an installed package."""
    package = Path(__file__).resolve().parents[1]
    command = ["git", "-C", str(package), "rev-parse", "--show-toplevel", "HEAD"]
    try:
        top, commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, ValueError, subprocess.CalledProcessError):
        return None
    return commit if Path(top) == package else None  # not the commit of a project whose venv holds c3
