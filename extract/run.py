"""FRONT DOOR of extraction: manifest -> pending shards -> workers -> report."""

from __future__ import annotations

import logging
import os
import platform
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..devices import resolve_device
from ..errors import C3Error
from ..progress import progress
from .backbones import Backbone, backbone_spec, load_backbone
from .cache import FeatureCache, Level, Status
from .catalog import Catalog
from .datasets import read_manifest
from .manifest import Manifest, ReadOptions
from .shard import Report, ShardTask, run_shard

LOG = logging.getLogger("c3")


@dataclass(frozen=True)
class ExtractOptions:
    """What `c3 extract` was asked for."""

    dataset: str
    backbone: str = "vgg19"
    weights: str = "imagenet"
    out: Path = Path("features.zarr")
    catalog: Path | None = None
    splits: tuple[str, ...] = ()
    limit: int | None = None
    batch_size: int = 32
    device: str = "auto"
    overwrite: bool = False
    crops: str = "whole"
    label_source: str = "human"
    drop_unknown_classes: bool = False

    @property
    def reading(self) -> ReadOptions:
        """What of this concerns the reader of the data set."""
        return ReadOptions(self.crops, self.label_source, self.drop_unknown_classes, self.splits)


def extract(options: ExtractOptions) -> str:
    """Fill a feature store and return a summary; continues a store that was begun by the same request.

    Raises C3Error when the request cannot be met; the store is then untouched.
    """
    catalog = Catalog(options.catalog)
    spec = catalog.dataset(options.dataset)
    backbone_spec(options.backbone)
    device = resolve_device(options.device)
    if options.out.exists() and not options.overwrite:
        FeatureCache.open(options.out)  # refuse a path that holds something else before any work
    manifest = read_manifest(spec, options.reading).select(options.splits, options.limit)
    backbone = load_backbone(options.backbone, _weights(options, catalog), device)

    config = _config(manifest, backbone)
    if options.out.exists() and not options.overwrite:
        cache = FeatureCache.open(options.out, mode="r+")
        cache.require_config(config)
    else:
        cache = _create(options, manifest, backbone, config)
    tasks = [ShardTask(split, shard) for split in cache.splits for shard in cache.pending(split)]
    if not tasks:
        return f"{options.out} is complete already: {_contents(cache)}. Nothing to do"

    LOG.info(
        "%s with %s (%s) on %s -> %s", manifest.dataset, options.backbone, backbone.weights_id, device, options.out
    )
    report = _run(tasks, manifest, backbone, cache, options.batch_size)
    for failure in report.failures:
        LOG.warning("failed: %s", failure)
    if not any((cache.status(split) == Status.OK).any() for split in cache.splits):
        raise C3Error(
            f"not one image under {manifest.root} could be read (first: {report.failures[0]}). "
            f"{options.out} holds failures only: mend the image folder, then extract again with --overwrite"
        )
    failed = ", ".join(f"{count} {status.name.lower()}" for status, count in report.rows.items() if status != Status.OK)
    return f"{options.out} is complete: {_contents(cache)}; {failed or 'no failures'}; {report.shares()}"


def _run(
    tasks: list[ShardTask], manifest: Manifest, backbone: Backbone, cache: FeatureCache, batch_size: int
) -> Report:
    report = Report()
    total = sum(len(cache.shard_rows(task.split, task.shard)) for task in tasks)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool, progress("extract", total, "images") as bar:
        for task in tasks:
            try:
                report.add(run_shard(task, manifest, backbone, cache, pool, batch_size, bar.advance))
            except OSError as error:
                raise C3Error(
                    f"shard {task.shard} of {task.split} cannot be written to {cache.path}: {error.strerror or error}; "
                    "what is written is kept, the same command continues"
                ) from error
            bar.note = report.shares()
    return report


def _weights(options: ExtractOptions, catalog: Catalog) -> str:
    """Turn a catalog name into its file; other forms stay as they are."""
    if options.weights not in catalog.weights:
        return options.weights
    weight = catalog.weight(options.weights)
    if weight.backbone != options.backbone:
        raise C3Error(
            f"weights {weight.name} are of {weight.backbone}, not {options.backbone}; use --backbone {weight.backbone}"
        )
    return str(weight.path)


def _config(manifest: Manifest, backbone: Backbone) -> dict[str, Any]:
    """Everything that decides the values in a store; a request that differs in any of it is refused on resume."""
    return {
        "dataset": manifest.dataset,
        "manifest_sha256": manifest.digest(),
        "labelling": manifest.labelling,
        "backbone": backbone.spec.name,
        "weights_sha256": backbone.weights_sha256,
        "taps": [asdict(tap) for tap in backbone.spec.taps],
        "transform": backbone.transform,
        "crops": manifest.crops,
    }


def _create(options: ExtractOptions, manifest: Manifest, backbone: Backbone, config: dict[str, Any]) -> FeatureCache:
    return FeatureCache.create(
        options.out,
        config=config,
        provenance={
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "weights": backbone.weights_id,
            "image_root": str(manifest.root.resolve()),
            "device": str(backbone.mean.device),
            "versions": {"python": platform.python_version()}
            | {name: version(name) for name in ("c3-mlzsl", "torch", "torchvision", "zarr", "numpy", "pillow")},
            "git_commit": _git_commit(),
        },
        levels=tuple(Level(tap.level, tap.channels) for tap in backbone.spec.taps),
        classes=manifest.classes,
        splits={name: split.rows for name, split in manifest.splits.items()},
        overwrite=options.overwrite,
    )


def _git_commit() -> str | None:
    """The commit of a source checkout; None for an installed package."""
    package = Path(__file__).resolve().parents[1]
    command = ["git", "-C", str(package), "rev-parse", "--show-toplevel", "HEAD"]
    try:
        top, commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, ValueError, subprocess.CalledProcessError):
        return None
    return commit if Path(top) == package else None  # not the commit of a project whose venv holds c3


def _contents(cache: FeatureCache) -> str:
    splits = ", ".join(f"{split} {cache.rows(split):,}" for split in cache.splits)
    levels = " ".join(f"{level.name}({level.channels})" for level in cache.levels)
    return f"{splits} rows, {levels}, {len(cache.classes)} classes"
