"""What `c3 extract` was asked for: options, their record in a store, and the command line that repeats them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict

from ..common.parsing import STRICT, parse
from ..common.unicode_forms import path_text
from .backbone.pictures.decode_options import DecodeOptions
from .datasets.manifest import ReadOptions
from .store.layout import GLOBAL_VECTOR, REGIONS
from .store.names import MAX_MEGAPIXELS, STATUS
from .store.storage import open_storage

RECORDED = (
    "dataset", "backbone", "weights", "catalog", "splits", "limit", "batch_size", "precision", "dtype", "crops",
    "label_source", "drop_unknown_classes",
)  # fmt: skip
# later than the first stores
RECORDED_IF_ASKED = ("regions", "global_vector", "truncated", "max_megapixels", "input_size")


@dataclass(frozen=True)
class ExtractOptions:
    """What `c3 extract` was asked for. None in a layout option: the default, or what the store has."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

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
    truncated: str = STATUS
    max_megapixels: int = MAX_MEGAPIXELS
    input_size: int | None = None

    @property
    def extras(self) -> tuple[str, ...]:
        """The names of the optional arrays."""
        return tuple(name for name, asked in ((REGIONS, self.regions), (GLOBAL_VECTOR, self.global_vector)) if asked)

    @property
    def reading(self) -> ReadOptions:
        """The options that concern the reader of the data set."""
        return ReadOptions(self.crops, self.label_source, self.drop_unknown_classes, self.splits)

    @property
    def decoding(self) -> DecodeOptions:
        """The options that concern the decoding of images."""
        return DecodeOptions(self.truncated, self.max_megapixels)

    def record(self) -> dict[str, object]:
        """Return what asks for the same values again, for the provenance of a store; see `from_record`."""
        record = {name: getattr(self, name) for name in RECORDED} | {
            "dataset": path_text(self.dataset),
            "weights": from_anywhere(self.weights),
            "catalog": path_text(self.catalog.resolve()) if self.catalog else None,
            "splits": list(self.splits),
        }
        plain = ExtractOptions("")
        asked = [name for name in RECORDED_IF_ASKED if getattr(self, name) != getattr(plain, name)]
        return record | {name: getattr(self, name) for name in asked}

    def command(self) -> str:
        """Return the command line that makes the same store, wherever it is given."""
        plain = ExtractOptions("")
        words = ["c3", *(["--catalog", path_text(self.catalog.resolve())] if self.catalog else []), "extract"]
        for name in ("dataset", "backbone", "weights", "limit", "precision", "dtype", "crops", "label_source",
                     "truncated", "max_megapixels", "input_size"):  # fmt: skip
            value = getattr(self, name)
            if value != getattr(plain, name):
                words += [_option(name), from_anywhere(value) if name == "weights" else str(value)]
        words += [word for split in self.splits for word in ("--splits", split)]
        words += [_option(name) for name in ("drop_unknown_classes", "regions", "global_vector") if getattr(self, name)]
        return shlex.join([*words, "--out", open_storage(self.out).address])

    @classmethod
    def from_record(cls, record: Mapping[str, object], out: Path | str) -> ExtractOptions:
        """Return the options of a record, for the store at `out`. Raises C3Error for settings that are unknown."""
        # until version 0.1 `global_vector` was `vector`
        today = {("global_vector" if name == "vector" else name): value for name, value in record.items()}
        return replace(parse(cls, today, f"the request of {out}"), out=out)


def _option(name: str) -> str:
    return "--global" if name == "global_vector" else f"--{name.replace('_', '-')}"


def from_anywhere(weights: str) -> str:
    """Return the absolute path of a weights file, which means the same in every folder; other forms as they are."""
    return path_text(Path(weights).resolve()) if Path(weights).is_file() else weights
