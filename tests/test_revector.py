"""A store with other class vectors: the same rows and maps, other numbers to learn, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from c3.cli import main
from c3.common.errors import C3Error
from c3.extract.revector import revector
from c3.extract.store.cache import FeatureCache
from c3.extract.store.origin import VectorOrigin
from c3.extract.verify import verify
from c3.extract.words.tower_files import write_tower_file
from click.testing import CliRunner


def write_vectors(path: Path, names: str = "abcde", seed: int = 5) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(len(names), 3)).astype(np.float32)
    write_tower_file(path, list(names), vectors, VectorOrigin("model2vec:a", "00", ("{}",)))
    return vectors


def test_only_the_vectors_change(make_cache: Callable[..., FeatureCache], tmp_path: Path) -> None:
    cache, out = make_cache(), tmp_path / "other.zarr"
    vectors = write_vectors(tmp_path / "v.npz")
    done = CliRunner().invoke(
        main, ["revector", str(cache.path), "--vectors", str(tmp_path / "v.npz"), "--out", str(out)]
    )
    assert done.exit_code == 0, done.output
    assert "vectors of 3 numbers; 5 of 5 classes have a vector" in done.output
    made = FeatureCache.open(out)
    made.require_complete()
    verify(out)  # every checksum
    np.testing.assert_array_equal(made.classes.vectors, vectors)
    assert made.notes.vectors == VectorOrigin("model2vec:a", "00", ("{}",))
    assert made.classes.names == cache.classes.names and made.digest != cache.digest
    for split in cache.splits:
        assert made.image_ids(split).tolist() == cache.image_ids(split).tolist()
        for array in cache.arrays:
            np.testing.assert_array_equal(made.maps(split, array.name)[:], cache.maps(split, array.name)[:])
    again = tmp_path / "again.zarr"
    revector(cache.path, str(tmp_path / "v.npz"), again)
    assert FeatureCache.open(again).digest == made.digest
    (tmp_path / "others").mkdir()
    write_vectors(tmp_path / "others/v.npz", seed=1)
    with pytest.raises(
        C3Error, match=r"another request \(manifest_sha256: .*\)\. Give another --out, or remove the store$"
    ):
        revector(cache.path, str(tmp_path / "others/v.npz"), again)


def test_a_class_without_a_vector_is_refused(make_cache: Callable[..., FeatureCache], tmp_path: Path) -> None:
    cache = make_cache()
    write_vectors(tmp_path / "v.npz", "abcd")
    with pytest.raises(C3Error, match=r"1 of 5 classes have no vector in .*v\.npz: e; add them"):
        revector(cache.path, str(tmp_path / "v.npz"), tmp_path / "other.zarr")
    assert not (tmp_path / "other.zarr").exists()


def test_a_stopped_command_goes_on(
    make_cache: Callable[..., FeatureCache], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, out, vectors = make_cache(), tmp_path / "other.zarr", str(tmp_path / "v.npz")
    write_vectors(tmp_path / "v.npz")
    adopt, calls = FeatureCache.adopt_shard, []

    def stopping(*arguments: object) -> None:
        calls.append(arguments[1:3])
        if len(calls) == 2:
            raise KeyboardInterrupt
        adopt(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(FeatureCache, "adopt_shard", stopping)
    with pytest.raises(KeyboardInterrupt):
        revector(cache.path, vectors, out)
    revector(cache.path, vectors, out)
    FeatureCache.open(out).require_complete()
    assert calls[0] not in calls[1:]  # what was done is not done again
