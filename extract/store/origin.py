"""Where the features of a store come from: CONTRACT 1 as types, parsed once when a store opens.

`FeatureOrigin` decides the values and names the content, `Provenance` says who made them when and from what, `Notes`
hold facts about the data set. `record()` of each gives back the JSON that the store holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ...common.records import Json, Record, anything, array, mapping, mapping_of, optional_text, text, texts
from .layout import GLOBAL_VECTOR, REGIONS

FP32, FLOAT16 = "fp32", "float16"  # the defaults, which a record leaves out


@dataclass(frozen=True)
class FeatureOrigin:
    """Everything that decides the values in a store. Two stores of equal origin and shape hold the same features.

    manifest_sha256 is the digest of rows, labels and classes; weights_sha256 that of the layers that ran. labelling is
    `complete` (an absent label is negative) or `verified` (it is unknown). taps and extras (by array: `regions`,
    `global`) say where the arrays leave the backbone, transform how pixels are prepared: both are compared, never read.
    precision is the backbone's arithmetic, dtype the stored number type.
    """

    dataset: str
    manifest_sha256: str
    labelling: str
    backbone: str
    weights_sha256: str
    taps: Sequence[Json] = ()
    transform: Json = None
    crops: str = "whole"
    extras: Mapping[str, Json] = field(default_factory=dict)
    precision: str = FP32
    dtype: str = FLOAT16

    @classmethod
    def parse(cls, record: Json, location: str) -> FeatureOrigin:
        """Read the attribute `config` of a store. Raises C3Error for content that this c3 does not know."""
        fields = Record(record, f"{location}: config")
        extras = {name: fields.take(name, anything) for name in (REGIONS, GLOBAL_VECTOR) if name in fields}
        origin = cls(
            dataset=fields.take("dataset", text),
            manifest_sha256=fields.take("manifest_sha256", text),
            labelling=fields.take("labelling", text),
            backbone=fields.take("backbone", text),
            weights_sha256=fields.take("weights_sha256", text),
            taps=fields.take("taps", array),
            transform=fields.take("transform", anything),
            crops=fields.take("crops", text),
            extras=extras,
            precision=fields.take_or("precision", text, FP32),
            dtype=fields.take_or("dtype", text, FLOAT16),
        )
        fields.require_empty()
        return origin

    def record(self) -> dict[str, Json]:
        """Return the stored JSON. It leaves out defaults of later options, on which no older digest may depend."""
        record: dict[str, Json] = {
            "dataset": self.dataset,
            "manifest_sha256": self.manifest_sha256,
            "labelling": self.labelling,
            "backbone": self.backbone,
            "weights_sha256": self.weights_sha256,
            "taps": self.taps,
            "transform": self.transform,
            "crops": self.crops,
            **self.extras,
        }
        record |= {"precision": self.precision} if self.precision != FP32 else {}
        return record | ({"dtype": self.dtype} if self.dtype != FLOAT16 else {})


@dataclass(frozen=True)
class Provenance:
    """Who made a store, when and from what; it decides no value.

    created is an ISO 8601 time, weights the name of the backbone's weights, image_root the folder of the images,
    versions those of the packages. request holds the options of `c3 extract` (extract/options.py reads them), files
    the imported HDF5 files by split, merged the stores that were joined. What was not recorded is None or empty.
    """

    created: str
    weights: str
    image_root: str | None = None
    device: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    request: Mapping[str, Json] | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    merged: tuple[Provenance, ...] = ()

    @classmethod
    def parse(cls, record: Json, location: str) -> Provenance:
        """Read the attribute `provenance` of a store. Raises C3Error for content that this c3 does not know."""
        fields = Record(record, f"{location}: provenance")
        provenance = cls(
            created=fields.take("created", text),
            weights=fields.take("weights", text),
            image_root=fields.take_or("image_root", optional_text, None),
            device=fields.take_or("device", optional_text, None),
            versions=fields.take_or("versions", mapping_of(text), {}),
            git_commit=fields.take_or("git_commit", optional_text, None),
            request=fields.take_or("request", mapping, None),
            files=fields.take_or("files", mapping_of(text), {}),
            merged=tuple(cls.parse(part, location) for part in fields.take_or("merged", array, ())),
        )
        fields.require_empty()
        return provenance

    def record(self) -> dict[str, Json]:
        """Return the JSON to store: only what is known."""
        record: dict[str, Json] = {
            "created": self.created,
            "weights": self.weights,
            "image_root": self.image_root,
            "device": self.device,
            "versions": self.versions,
            "git_commit": self.git_commit,
            "request": self.request,
            "files": self.files,
            "merged": [part.record() for part in self.merged],
        }
        return {name: value for name, value in record.items() if value is not None and value not in ({}, [])}

    @property
    def weights_asked(self) -> str:
        """The weights as `c3 extract` was asked for them; their name where nothing was asked."""
        asked = (self.request or {}).get("weights", self.weights)
        return asked if isinstance(asked, str) else self.weights


@dataclass(frozen=True)
class Notes:
    """Facts about a data set that evaluation may use.

    leaks: unseen class -> the seen classes whose names mean nearly the same. label_source: `human` or `human+machine`
    (Open Images), None for other data sets.
    """

    leaks: Mapping[str, Sequence[str]] | None = None
    label_source: str | None = None

    @classmethod
    def parse(cls, record: Json, location: str) -> Notes:
        """Read the attribute `notes` of a store. Raises C3Error for content that this c3 does not know."""
        fields = Record(record, f"{location}: notes")
        notes = cls(
            fields.take_or("leaks", mapping_of(texts), None), fields.take_or("label_source", optional_text, None)
        )
        fields.require_empty()
        return notes

    def record(self) -> dict[str, Json]:
        """Return the JSON to store: only what is known."""
        found: dict[str, Json] = {"leaks": self.leaks, "label_source": self.label_source}
        return {name: value for name, value in found.items() if value is not None}


def differing_settings(store: Mapping[str, Json], request: Mapping[str, Json], holder: str = "store") -> dict[str, str]:
    """Return name -> both values in words, for every setting in which a `holder` and a request differ."""
    store, request = (json.loads(json.dumps(dict(settings))) for settings in (store, request))  # lists, not tuples
    return {
        key: f"{key}: {holder} {store.get(key)!r}, request {request.get(key)!r}"
        for key in {**request, **store}
        if request.get(key) != store.get(key)
    }
