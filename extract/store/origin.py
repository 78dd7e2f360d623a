"""Where the features of a store come from: CONTRACT 1 as types, parsed once when a store opens.

`FeatureOrigin` decides the values and names the content, `Provenance` says who made them when and from what, `Notes`
hold facts about the data set. Their JSON (common/parsing.py) leaves out what has its default.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from .names import MAX_MEGAPIXELS, STATUS


@dataclass(frozen=True)
class FeatureOrigin:
    """Everything that decides the values in a store. Two stores of equal origin and shape hold the same features.

    manifest_sha256 is the digest of rows, labels and classes; weights_sha256 that of the layers that ran. labelling is
    `complete` (an absent label is negative) or `verified` (it is unknown). taps, regions and global_vector say where
    the arrays leave the backbone, transform how pixels are prepared: they are compared, never read. precision is the
    backbone's arithmetic, dtype the stored number type. truncated (`status` or `keep`) and max_megapixels say which
    images count as readable. No older digest may depend on what has a default here.
    """

    dataset: str
    manifest_sha256: str
    labelling: str
    backbone: str
    weights_sha256: str
    taps: tuple[object, ...]
    transform: object
    crops: str
    regions: object = None
    global_vector: Annotated[object, Field(alias="global")] = None
    precision: str = "fp32"
    dtype: str = "float16"
    truncated: str = STATUS
    max_megapixels: int = MAX_MEGAPIXELS

    @property
    def fit(self) -> str:
        """How a crop that is no square became one: `squash`, or `shortest` (backbone/specs.py)."""
        return str(self.transform.get("fit", "squash")) if isinstance(self.transform, Mapping) else "squash"


@dataclass(frozen=True)
class Provenance:
    """Who made a store, when and from what; it decides no value.

    created is an ISO 8601 time, weights the name of the backbone's weights, licence theirs, image_root the folder of
    the images, versions those of the packages. request holds the options of `c3 extract` (extract/options.py reads
    them), files the imported files by split, merged the stores that were joined. What was not recorded is None or
    empty.
    """

    created: str
    weights: str
    image_root: str | None = None
    device: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    request: Mapping[str, object] | None = None
    licence: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    merged: tuple[Provenance, ...] = ()

    @property
    def weights_asked(self) -> str:
        """The weights as `c3 extract` was asked for them; their name where nothing was asked."""
        asked = (self.request or {}).get("weights", self.weights)
        return asked if isinstance(asked, str) else self.weights


@dataclass(frozen=True)
class VectorOrigin:
    """The text tower that made class vectors: its name, the sha256 of its weights, the templates of its prompts.

    Vectors of one sha256 lie in one space, whatever their templates.
    """

    tower: str
    sha256: str
    templates: tuple[str, ...]

    @property
    def title(self) -> str:
        """Return the tower for people: its name and the beginning of the hash."""
        return f"{self.tower} (sha256 {self.sha256[:12]})"


@dataclass(frozen=True)
class Notes:
    """Facts about a data set that evaluation may use.

    leaks: unseen class -> the seen classes whose names mean nearly the same. label_source: `human` or `human+machine`
    (Open Images), None for other data sets. vectors: the text tower of the class vectors, None where none is known.
    """

    leaks: Mapping[str, Sequence[str]] | None = None
    label_source: str | None = None
    vectors: VectorOrigin | None = None


def differing_settings(
    store: Mapping[str, object], request: Mapping[str, object], holder: str = "store"
) -> dict[str, str]:
    """Return name -> both values in words, for every setting in which a `holder` and a request differ."""
    store, request = (json.loads(json.dumps(dict(settings))) for settings in (store, request))  # lists, not tuples
    return {
        key: f"{key}: {holder} {store.get(key)!r}, request {request.get(key)!r}"
        for key in {**request, **store}
        if request.get(key) != store.get(key)
    }
