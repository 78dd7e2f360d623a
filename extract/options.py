"""What `c3 extract` was asked for: options, their record in a store, and the command line that repeats them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..common.records import Json, Record, boolean, integer, optional_integer, optional_text, text, texts
from .datasets.manifest import ReadOptions
from .store.layout import GLOBAL_VECTOR, REGIONS
from .store.storage import open_storage


@dataclass(frozen=True)
class ExtractOptions:
    """What `c3 extract` was asked for. None in a layout option: the default, or what the store has."""

    dataset: str
    backbone: str = "vgg19"
    weights: str = "imagenet"
    out: Path | str = Path("features.zarr")
    catalog: Path | None = None
    splits: tuple[str, ...] = ()
    limit: int | None = None
    batch_size: int = 32
    device: str = "auto"
    precision: str = "fp32"
    compiled: bool = False
    dtype: str = "float16"
    codec: str | None = None
    chunk_rows: int | None = None
    shard_rows: int | None = None
    append: bool = False
    overwrite: bool = False
    retry_failed: bool = False
    part: tuple[int, int] | None = None
    workers: int | None = None
    scheduler: str | None = None
    crops: str = "whole"
    label_source: str = "human"
    drop_unknown_classes: bool = False
    regions: bool = False
    global_vector: bool = False

    @property
    def extras(self) -> tuple[str, ...]:
        """The names of the optional arrays."""
        return tuple(name for name, asked in ((REGIONS, self.regions), (GLOBAL_VECTOR, self.global_vector)) if asked)

    @property
    def reading(self) -> ReadOptions:
        """The options that concern the reader of the data set."""
        return ReadOptions(self.crops, self.label_source, self.drop_unknown_classes, self.splits)

    def record(self) -> dict[str, Json]:
        """Return what asks for the same values again, for the provenance of a store; see `from_record`."""
        record: dict[str, Json] = {
            "dataset": self.dataset,
            "backbone": self.backbone,
            "weights": from_anywhere(self.weights),
            "catalog": str(self.catalog.resolve()) if self.catalog else None,
            "splits": list(self.splits),
            "limit": self.limit,
            "batch_size": self.batch_size,
            "precision": self.precision,
            "dtype": self.dtype,
            "crops": self.crops,
            "label_source": self.label_source,
            "drop_unknown_classes": self.drop_unknown_classes,
        }
        return record | {name: True for name in ("regions", "global_vector") if getattr(self, name)}

    def command(self) -> str:
        """Return the command line that makes the same store, wherever it is given."""
        plain = ExtractOptions("")
        words = ["c3", *(["--catalog", str(self.catalog.resolve())] if self.catalog else []), "extract"]
        for name in ("dataset", "backbone", "weights", "limit", "precision", "dtype", "crops", "label_source"):
            value = getattr(self, name)
            if value != getattr(plain, name):
                words += [_option(name), from_anywhere(value) if name == "weights" else str(value)]
        words += [word for split in self.splits for word in ("--splits", split)]
        words += [_option(name) for name in ("drop_unknown_classes", "regions", "global_vector") if getattr(self, name)]
        return shlex.join([*words, "--out", open_storage(self.out).address])

    @classmethod
    def from_record(cls, record: Mapping[str, Json], out: Path | str) -> ExtractOptions:
        """Return the options of a record, for the store at `out`. Raises C3Error for settings that are unknown."""
        renamed = {
            ("global_vector" if name == "vector" else name): value for name, value in record.items()
        }  # until 0.1
        fields = Record(renamed, f"{out}: request")
        plain = cls("")  # a setting that is not recorded has its default
        catalog = fields.take_or("catalog", optional_text, None)
        options = cls(
            dataset=fields.take("dataset", text),
            backbone=fields.take("backbone", text),
            weights=fields.take("weights", text),
            out=out,
            catalog=Path(catalog) if catalog else None,
            splits=tuple(fields.take_or("splits", texts, [])),
            limit=fields.take_or("limit", optional_integer, None),
            batch_size=fields.take_or("batch_size", integer, plain.batch_size),
            precision=fields.take_or("precision", text, plain.precision),
            dtype=fields.take_or("dtype", text, plain.dtype),
            append=fields.take_or("append", boolean, False),
            crops=fields.take_or("crops", text, plain.crops),
            label_source=fields.take_or("label_source", text, plain.label_source),
            drop_unknown_classes=fields.take_or("drop_unknown_classes", boolean, False),
            regions=fields.take_or("regions", boolean, False),
            global_vector=fields.take_or("global_vector", boolean, False),
        )
        fields.require_empty()
        return options


def _option(name: str) -> str:
    return "--global" if name == "global_vector" else f"--{name.replace('_', '-')}"


def from_anywhere(weights: str) -> str:
    """Return the absolute path of a weights file, which means the same in every folder; other forms as they are."""
    return str(Path(weights).resolve()) if Path(weights).is_file() else weights
