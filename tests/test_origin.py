"""Contract 1 as types: what a store says of its features is read back exactly, or refused in one line."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from c3.common.errors import C3Error, StoreDamaged
from c3.common.parsing import parse, to_json
from c3.extract.options import ExtractOptions
from c3.extract.store.attributes import checksum, content_digest, write_attributes
from c3.extract.store.cache import FeatureCache
from c3.extract.store.layout import FeatureArray
from c3.extract.store.origin import FeatureOrigin, Notes, Provenance
from origins import PROVENANCE

# as a store of the demo data set holds them; runs state its digest
CONFIG = json.loads("""{
  "dataset": "demo", "manifest_sha256": "bb9977f4a2d9034e59103ce662e5b3f8babee4d696e0e4bea2ca4b487caa8b1c",
  "labelling": "complete", "backbone": "squeezenet1_1",
  "weights_sha256": "fb2fcb34cb4486b0e7fc4cd13eaa7d6c2e939b7dd7133175e0814bd0fd01c680",
  "taps": [{"node": "features.4", "channels": 128, "stride": 4}, {"node": "features.7", "channels": 256, "stride": 8},
           {"node": "features.12", "channels": 512, "stride": 16}],
  "transform": {"size": [224, 224], "interpolation": "bilinear, antialiased", "mean": [0.485, 0.456, 0.406],
                "std": [0.229, 0.224, 0.225]},
  "crops": "whole"}""")
ARRAYS = (FeatureArray("p4", 128), FeatureArray("p8", 256), FeatureArray("p16", 512))
ROWS = {"train": 1200, "val": 200, "test": 400}
OPTIONAL = {"regions": {"node": "layer3", "channels": 256, "stride": 16}, "precision": "bf16", "dtype": "int8"}
MADE = {"created": "2026-11-25T18:01:58+00:00", "weights": "random:0", "image_root": "images", "device": "cpu",
        "versions": {"torch": "2.4"}, "git_commit": "9e14", "request": {"dataset": "demo", "weights": "w"}}  # fmt: skip


def test_the_digest_of_a_store_never_changes() -> None:
    origin = parse(FeatureOrigin, CONFIG, "here")
    assert content_digest(origin, ARRAYS, ROWS) == "49e43ec1ef00a6c9"
    assert origin.taps[0] == {"node": "features.4", "channels": 128, "stride": 4}


@pytest.mark.parametrize("config", [CONFIG, CONFIG | OPTIONAL, CONFIG | {"transform": "BiAM: resized"}])
def test_an_origin_gives_back_the_stored_record(config: dict[str, Any]) -> None:
    origin = parse(FeatureOrigin, config, "here")
    assert to_json(origin) == config
    assert parse(FeatureOrigin, to_json(origin), "here") == origin


def test_provenance_and_notes_give_back_the_stored_record() -> None:
    made = MADE | {"merged": [MADE, {"created": "then", "weights": "imagenet", "files": {"train": "t.h5"}}]}
    provenance = parse(Provenance, made, "here")
    assert to_json(provenance) == made
    assert (provenance.weights_asked, PROVENANCE.weights_asked) == ("w", "random:1")
    assert provenance.merged[1].files == {"train": "t.h5"}
    for notes in ({}, {"leaks": {}}, {"leaks": {"boats": ["boat"]}, "label_source": "human"}):
        assert to_json(parse(Notes, notes, "here")) == notes


def test_names_that_are_not_utf8_come_back_as_they_were() -> None:
    made = MADE | {"image_root": "/caf\udce9", "request": {"dataset": "demo", "catalog": "/caf\udce9/c.yaml"}}
    made = made | {"merged": [made]}
    provenance = parse(Provenance, json.loads(json.dumps(made)), "here")
    assert to_json(provenance) == made
    options = ExtractOptions.from_record(provenance.request, "out")
    assert options.catalog == Path("/caf\udce9/c.yaml")


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("config", {"colour": "red"}, "entry config.colour is unknown to this c3"),
        ("config", {"dataset": 5}, "entry config.dataset: expected a text, found 5"),
        ("config", {"taps": "none"}, "entry config.taps: expected a list, found 'none'"),
        ("config", {"backbone": None}, "entry config.backbone: expected a text, found nothing"),
        ("provenance", {"mood": "good"}, "entry provenance.mood is unknown to this c3"),
        ("provenance", {"request": 1}, "entry provenance.request: expected settings (name: value), found 1"),
        ("notes", {"leaks": {"boats": "boat"}}, "entry notes.leaks.boats: expected a list, found 'boat'"),
        ("notes", {"rumour": 1}, "entry notes.rumour is unknown to this c3"),
    ],
)
def test_unknown_and_wrong_content_is_refused_when_a_store_opens(
    make_cache: Any, part: str, change: dict[str, Any], said: str
) -> None:
    cache = make_cache(rows=3)
    attributes = json.loads((cache.path / "zarr.json").read_text())["attributes"]
    attributes[part] |= change
    write_attributes(cache.storage, attributes | {"checksum": checksum(attributes)})
    with pytest.raises(C3Error) as caught:
        FeatureCache.open(cache.path)
    assert f"{cache.path} cannot be read: {said}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damage_says_where_what_and_how_to_mend_it(make_cache: Any) -> None:
    cache = make_cache(rows=3)
    Path(cache.path, "train/pyramid/p8/c/0/0/0/0").unlink()
    with pytest.raises(StoreDamaged) as caught:
        cache.read("train", "p8", 0, 3)
    error = pickle.loads(pickle.dumps(caught.value))  # as a worker of a cluster sends it
    assert error.location == str(cache.path)
    assert error.fault == "shard 0 of train/pyramid/p8 is missing, lost or not extracted yet"
    assert error.remedy == f"mend it with: c3 verify {cache.path} --repair"
    assert str(error) == f"{error.location}: {error.fault}; {error.remedy}"
