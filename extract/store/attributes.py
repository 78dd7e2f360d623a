"""The attributes of a store: what its arrays mean. Kept twice, each copy with its own checksum.

`sealed` holds the sha256 of every file that never changes: classes, row tables and the metadata of all arrays. So a
flipped bit anywhere is found and named (extract/verify.py).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from ...common.parsing import STRICT, parse, to_json
from .layout import FeatureArray, Layout
from .origin import FeatureOrigin, Notes, Provenance
from .shape import StoreShape
from .storage import Storage

SCHEMA = 3
READABLE = (2, SCHEMA)  # version 2 has no image paths and no names of dimensions
KIND = "c3-features"
ROOT_KEY, COPY_KEY = "zarr.json", "classes/zarr.json"  # the two files that hold the attributes


@dataclass(frozen=True)
class Attributes:
    """What a store says of itself. `rows` by split; `arrays` are the levels, then the extras, in the order of `scale`.

    `sealed` maps the key of a file to its sha256.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    origin: Annotated[FeatureOrigin, Field(alias="config")]
    provenance: Provenance
    notes: Notes
    arrays: Annotated[tuple[FeatureArray, ...], Field(alias="levels")]
    layout: Layout
    rows: Annotated[Mapping[str, int], Field(alias="splits")]
    sealed: Mapping[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    @classmethod
    def parse(cls, content: Mapping[str, object], location: str) -> Attributes:
        """Read the attributes of a store. Raises C3Error for content that this c3 does not know."""
        own = {name: value for name, value in content.items() if name not in ("kind", "checksum")}
        return parse(cls, own, location)

    def record(self) -> dict[str, object]:
        """Return the JSON to store, checksum included."""
        content: dict[str, object] = {
            "schema": self.schema,
            "kind": KIND,
            "config": to_json(self.origin),
            "provenance": to_json(self.provenance),
            "notes": to_json(self.notes),
            "levels": [to_json(array) for array in self.arrays],
            "layout": asdict(self.layout),
            "splits": self.rows,
            "sealed": self.sealed,
        }
        return content | {"checksum": checksum(content)}

    @property
    def digest(self) -> str:
        """Sixteen hex digits that name the content: origin (weights, manifest, transform), arrays and rows."""
        return content_digest(self.origin, self.arrays, self.rows)

    def shape(self, location: str) -> StoreShape:
        """Return splits, arrays and shards in numbers; `location` stands in its messages."""
        return StoreShape(location, self.arrays, self.layout, self.rows)

    def sealing(self, storage: Storage, keys: Iterable[str]) -> Attributes:
        """Return the attributes with the sha256 that the files `keys` have now."""
        return replace(self, sealed={key: hashlib.sha256(storage.read(key)).hexdigest() for key in keys})

    def broken_seals(self, storage: Storage) -> dict[str, str]:
        """Return key -> what is wrong, for every sealed file that is lost or changed."""
        broken = {}
        for key, expected in self.sealed.items():
            try:
                found = hashlib.sha256(storage.read(key)).hexdigest()
            except FileNotFoundError:
                broken[key] = f"{key} is missing"
                continue
            if found != expected:
                broken[key] = f"{key} is damaged (sha256 {found[:12]}, sealed {expected[:12]})"
        return broken


def content_digest(origin: FeatureOrigin, arrays: Sequence[FeatureArray], rows: Mapping[str, int]) -> str:
    """Return the digest of a store of this origin, these arrays and `rows` by split, whether it exists or not."""
    content = [to_json(origin), [to_json(array) for array in arrays], rows]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def checksum(content: Mapping[str, object]) -> str:
    """Return the sha256 of attributes, their own checksum left out."""
    rest = {key: value for key, value in content.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def is_whole(content: object) -> bool:
    """Return whether attributes agree with their own checksum."""
    return isinstance(content, Mapping) and "checksum" in content and content["checksum"] == checksum(content)


def write_attributes(storage: Storage, content: Mapping[str, object]) -> None:
    """Write the record of attributes: the second copy first, so that the root never runs ahead of it."""
    for key, attributes in ((COPY_KEY, {"root": content}), (ROOT_KEY, content)):
        storage.write(key, group_file(attributes))
    storage.flush([COPY_KEY, ROOT_KEY])


def group_metadata(attributes: Mapping[str, object]) -> dict[str, object]:
    """Return the whole metadata of a Zarr v3 group with these attributes."""
    return {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}


def group_file(attributes: Mapping[str, object]) -> bytes:
    """Return the file that holds the metadata of a Zarr v3 group."""
    return json.dumps(group_metadata(attributes), indent=2).encode()


def second_copy(storage: Storage) -> dict[str, object] | None:
    """Return the record of attributes that the group `classes` keeps, or None when that copy is damaged too."""
    try:
        content: Any = json.loads(bytes(storage.read(COPY_KEY)))["attributes"]["root"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return content if is_whole(content) else None
