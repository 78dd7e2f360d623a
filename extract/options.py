"""What `c3 extract` was asked for: options, their record in a store, and the command line that repeats them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..common.errors import C3Error
from ..common.records import Json
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
        """What of this concerns the reader of the data set."""
        return ReadOptions(self.crops, self.label_source, self.drop_unknown_classes, self.splits)

    def record(self) -> dict[str, Json]:
        """What `c3 verify --repair` needs to ask for the same values again, for the store's provenance."""
        kept = ("dataset", "backbone", "weights", "catalog", "splits", "limit", "batch_size", "precision", "dtype",
                "crops", "label_source", "drop_unknown_classes")  # fmt: skip
        values = {name: getattr(self, name) for name in kept}
        values |= {name: True for name in ("regions", "global_vector") if getattr(self, name)}
        catalog = str(self.catalog.resolve()) if self.catalog else None
        return values | {"catalog": catalog, "weights": from_anywhere(self.weights), "splits": list(self.splits)}

    def command(self) -> str:
        """The command line that makes the same store, wherever it is given."""
        record, plain = self.record(), ExtractOptions("").record()
        words = ["c3", *(["--catalog", record.pop("catalog")] if record["catalog"] else []), "extract"]
        for name, value in record.items():
            if name == "batch_size" or value == plain.get(name):  # a batch decides no value
                continue
            option = "--global" if name == "global_vector" else f"--{name.replace('_', '-')}"
            for one in value if isinstance(value, list) else [value]:
                words += [option] if one is True else [option, str(one)]
        return shlex.join([*words, "--out", open_storage(self.out).address])

    @classmethod
    def from_record(cls, record: dict[str, Any], out: Path | str) -> ExtractOptions:
        """The options that `record` described; unknown settings of another version are refused."""
        record = {("global_vector" if name == "vector" else name): value for name, value in record.items()}  # until 0.1
        unknown = set(record) - {field.name for field in fields(cls)}
        if unknown:
            raise C3Error(f"{out} was made by another version of c3 (setting {sorted(unknown)[0]!r}); extract by hand")
        catalog = Path(record["catalog"]) if record.get("catalog") else None
        return cls(**record | {"catalog": catalog, "splits": tuple(record["splits"]), "out": out})


def from_anywhere(weights: str) -> str:
    """The whole path of a weights file, so that it means the same in every folder; other forms stay as they are."""
    return str(Path(weights).resolve()) if Path(weights).is_file() else weights
