"""Stores of version 2 open as they are, and `c3 migrate` brings them to version 3."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest
import zarr
from c3.cli import main
from c3.common.errors import C3Error
from c3.extract.merge import merge
from c3.extract.migrate import migrate
from c3.extract.options import ExtractOptions
from c3.extract.run import extract
from c3.extract.spot_check import check_images
from c3.extract.store.cache import FeatureCache
from c3.extract.verify import verify
from click.testing import CliRunner
from schema_2 import new_stores_of_version_2
from small_disk import SmallDisk
from small_stores import make_store


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, small_extraction: Callable[..., ExtractOptions]) -> ExtractOptions:
    """A complete store of version 2; one of its eight images was missing."""
    options = small_extraction(tmp_path_factory.mktemp("version2"), 8)
    (options.catalog.parent / "images/01.png").unlink()
    with new_stores_of_version_2():
        extract(options)
    return options


@pytest.fixture
def options(made: ExtractOptions, tmp_path: Path) -> ExtractOptions:
    """A copy of the store and of its data set, which a test may change."""
    shutil.copytree(made.catalog.parent, tmp_path / "tiny")
    shutil.copytree(made.out, tmp_path / "f.zarr")
    return replace(made, out=tmp_path / "f.zarr", catalog=tmp_path / "tiny/catalog.yaml")


def maps(path: Path | str) -> dict[str, np.ndarray]:
    cache = FeatureCache.open(path)
    return {f"{s}/{level.name}": cache.maps(s, level.name)[:] for s in cache.splits for level in cache.levels}


def chunks(path: Path) -> dict[Path, tuple[int, int]]:
    """Inode and time of every file that holds values."""
    found = [
        file for file in path.rglob("*") if file.is_file() and "/c/" in str(file) and "image_path" not in str(file)
    ]
    return {file: (file.stat().st_ino, file.stat().st_mtime_ns) for file in found}


def damage(path: Path, split: str = "train") -> None:
    file = path / f"{split}/pyramid/p8/c/0/0/0/0"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


def paths_of(cache: FeatureCache) -> list[str]:
    return [path for split in cache.splits for path in cache.image_paths(split).tolist()]


def test_a_store_of_version_2_opens_as_it_is(options: ExtractOptions) -> None:
    cache = FeatureCache.open(options.out)
    assert (cache.schema, paths_of(cache)) == (2, [""] * 8)
    assert not (options.out / "train/image_path").exists()
    assert "dimension_names" not in (options.out / "train/status/zarr.json").read_text()
    assert "is sound" in verify(options.out)
    before = maps(options.out)
    assert "Nothing to do" in extract(replace(options, catalog=options.catalog))
    damage(options.out)
    said = verify(options.out, repair=True)  # reads the data set again
    assert "1 shard made again (1 ok, 1 missing rows)" in said
    assert FeatureCache.open(options.out).schema == 2
    for name, values in maps(options.out).items():
        np.testing.assert_array_equal(values, before[name], err_msg=name)
    assert "4 random rows extracted again" in check_images(options.out, 4)
    done = CliRunner().invoke(main, ["inspect", str(options.out)])
    assert "schema 2" in done.stdout


def test_a_broken_table_of_version_2_is_mended_as_version_2(options: ExtractOptions) -> None:
    (options.out / "val/crop/c/0/0").write_bytes(b"broken")
    assert "is mended" in verify(options.out, repair=True)
    assert FeatureCache.open(options.out).schema == 2
    assert "is sound" in verify(options.out)


def test_migration_adds_paths_and_names_and_touches_no_value(options: ExtractOptions) -> None:
    before, values, digest = chunks(options.out), maps(options.out), FeatureCache.open(options.out).digest
    done = CliRunner().invoke(main, ["migrate", str(options.out)])
    assert done.exit_code == 0, done.output
    assert f"{options.out} has schema 3 now" in done.stdout and "8 of 8 rows" in done.stdout
    cache = FeatureCache.open(options.out)
    assert (cache.schema, cache.digest) == (3, digest)
    assert paths_of(cache) == [f"{number:02d}.png" for number in range(8)]
    assert chunks(options.out) == before
    for name, maps_now in maps(options.out).items():
        np.testing.assert_array_equal(maps_now, values[name], err_msg=name)
    assert zarr.open_array(options.out / "train/pyramid/p8").metadata.dimension_names == (
        "row", "p8_channel", "y", "x",
    )  # fmt: skip
    assert "is sound" in verify(options.out)
    again = CliRunner().invoke(main, ["migrate", str(options.out)])
    assert (again.exit_code, again.stdout) == (
        0, f"{options.out} has schema 3 already; there is nothing to do\n",
    )  # fmt: skip


def test_a_migrated_store_equals_a_new_one(options: ExtractOptions, tmp_path: Path) -> None:
    migrate(options.out)
    new = tmp_path / "new.zarr"
    extract(replace(options, out=new))
    one, other = FeatureCache.open(options.out), FeatureCache.open(new)
    assert one.digest == other.digest
    assert paths_of(one) == paths_of(other)
    metadata = sorted(file.relative_to(options.out) for file in options.out.rglob("zarr.json"))
    assert metadata == sorted(
        file.relative_to(tmp_path / "new.zarr") for file in (tmp_path / "new.zarr").rglob("zarr.json")
    )
    for file in metadata:
        found, expected = (zarr.open(store / file.parent, mode="r") for store in (options.out, new))
        if isinstance(found, zarr.Array):
            assert found.metadata == expected.metadata, file


@pytest.fixture
def without_data_set(made: ExtractOptions, tmp_path: Path) -> Iterator[Path]:
    """The folder of the data set while only its images are left."""
    home = made.catalog.parent
    shutil.copytree(home, tmp_path / "kept")
    for file in ("catalog.yaml", "labels.csv", "unseen.txt", "vectors.txt"):
        (home / file).unlink()
    yield home
    shutil.rmtree(home)
    shutil.copytree(tmp_path / "kept", home)


@pytest.mark.parametrize("moved", [False, True])
def test_a_store_of_version_3_is_repaired_from_its_images_alone(
    options: ExtractOptions, tmp_path: Path, request: pytest.FixtureRequest, moved: bool
) -> None:
    migrate(options.out)
    before = maps(options.out)
    home = request.getfixturevalue("without_data_set")
    where: list[str] = []
    if moved:
        (home / "images").rename(tmp_path / "elsewhere")
        where = ["--images", str(tmp_path / "elsewhere")]
    damage(options.out)
    done = CliRunner().invoke(main, ["verify", str(options.out), "--repair", *where])
    assert done.exit_code == 0, done.output
    assert "1 shard made again" in done.stdout
    for name, values in maps(options.out).items():
        np.testing.assert_array_equal(values, before[name], err_msg=name)
    done = CliRunner().invoke(main, ["inspect", str(options.out), "--check-images", "8", *where])
    assert "8 random rows extracted again" in done.output
    assert "is sound" in verify(options.out)


def test_a_store_of_version_2_is_not_repaired_without_its_data_set(
    options: ExtractOptions, without_data_set: Path
) -> None:
    damage(options.out)
    told = r"does not know the paths of its images, and its data set, .*catalog\.yaml .*; put its files back, or name"
    with pytest.raises(C3Error, match=told):
        verify(options.out, repair=True)
    said = migrate(options.out)
    assert "The paths of its 8 rows stay unknown" in said and "catalog.yaml" in said
    done = CliRunner().invoke(main, ["inspect", str(options.out), "--check-images", "2"])
    assert done.exit_code == 2 and re.search(told, done.stderr)
    kept = str(options.catalog)
    for command in (["verify", str(options.out), "--repair"], ["inspect", str(options.out), "--check-images", "2"]):
        done = CliRunner().invoke(main, ["--catalog", kept, *command])
        assert done.exit_code == 0 and re.search("1 shard made again|2 random rows", done.output), done.output


def test_repair_never_makes_a_shard_worse(options: ExtractOptions) -> None:
    migrate(options.out)
    damage(options.out, "val")
    with pytest.raises(C3Error, match="but it was read when the store was made"):
        verify(options.out, repair=True, images=options.catalog.parent / "nowhere")
    assert FeatureCache.open(options.out).pending("val") == []


def test_without_its_data_set_the_paths_stay_unknown(options: ExtractOptions, made: ExtractOptions) -> None:
    other = options.catalog.parent / "labels.csv"
    text = other.read_text()
    other.write_text(text.replace("00.png,red", "00.png,blue"))
    said = migrate(options.out, options.catalog)
    assert "The paths of its 8 rows stay unknown" in said
    assert "manifest_sha256: store" in said  # the data set is not what it was
    assert "need the data set as before" in said
    again = migrate(
        options.out, made.catalog
    )  # a store of the present version is left as it is, and says what it lacks
    assert "nothing to do. The paths of 8 rows stay unknown" in again
    assert FeatureCache.open(options.out).schema == 3
    assert "is sound" in verify(options.out)
    damage(options.out)
    assert "made again" in verify(options.out, repair=True)  # from the data set that the store names, which is whole


def test_a_store_without_a_request_migrates_without_paths(tmp_path: Path) -> None:
    with new_stores_of_version_2():
        cache = make_store(tmp_path / "s.zarr", rows=20)
    assert cache.schema == 2
    said = migrate(cache.path)
    assert "does not say how it was made" in said
    again = FeatureCache.open(cache.path)
    assert (again.schema, again.digest) == (3, cache.digest)
    np.testing.assert_array_equal(again.read("train", "p8", 0, 20), cache.read("train", "p8", 0, 20))
    assert "is sound" in verify(cache.path)


def test_an_appended_store_finds_the_paths_of_its_rows(options: ExtractOptions, tmp_path: Path) -> None:
    out = tmp_path / "grown.zarr"
    with new_stores_of_version_2():
        extract(replace(options, out=out, splits=("train",), limit=3))
        extract(replace(options, out=out, append=True))
    assert FeatureCache.open(out).schema == 2
    assert "8 of 8 rows" in migrate(out)
    assert paths_of(FeatureCache.open(out)) == [f"{number:02d}.png" for number in range(8)]


def test_a_store_of_version_2_joined_to_one_of_version_3_is_repaired_from_its_data_set(
    options: ExtractOptions, tmp_path: Path
) -> None:
    old, new, joined = tmp_path / "old.zarr", tmp_path / "new.zarr", tmp_path / "joined.zarr"
    with new_stores_of_version_2():
        extract(replace(options, out=old, splits=("train",)))
    extract(replace(options, out=new, splits=("val",)))
    merge([old, new], joined)
    cache = FeatureCache.open(joined)
    assert not any(cache.image_paths("train")) and all(cache.image_paths("val"))
    before = maps(joined)
    for split in ("train", "val"):
        damage(joined, split)
    assert "2 shards made again" in verify(joined, repair=True)
    for name, values in maps(joined).items():
        np.testing.assert_array_equal(values, before[name], err_msg=name)


def test_a_run_is_valid_before_and_after(options: ExtractOptions, tmp_path: Path) -> None:
    def c3(*words: object) -> str:
        done = CliRunner().invoke(main, [*map(str, words), "--device", "cpu"])
        assert done.exit_code == 0, done.output
        return done.stdout

    c3("train", "--cache", options.out, "--method", "fast0tag", "--runs", tmp_path / "runs", "--epochs", 1,
       "--batch-size", 2, "--set", "hidden1=8", "--set", "hidden2=8")  # fmt: skip
    (run,) = (tmp_path / "runs").iterdir()
    c3("evaluate", "--run", run)
    before = json.loads((run / "metrics.json").read_text())["protocols"]
    migrate(options.out)
    (run / "metrics.json").unlink()
    c3("evaluate", "--run", run)
    assert json.loads((run / "metrics.json").read_text())["protocols"] == before


def test_damage_is_never_sealed(options: ExtractOptions) -> None:
    for key in ("train/labels/value/c/0", "val/pyramid/p8/zarr.json"):
        file = options.out / key
        content = file.read_bytes()
        file.write_bytes(content.replace(content[-9:-6], b"???"))
        with pytest.raises(C3Error, match=f"{key} is damaged.*c3 verify .* --repair"):
            migrate(options.out)
        file.unlink()
        with pytest.raises(C3Error, match=f"{key} is missing.*c3 verify .* --repair"):
            migrate(options.out)
        file.write_bytes(content)
        assert FeatureCache.open(options.out).schema == 2
    assert "is sound" in verify(options.out)


def test_no_space_and_no_permission_are_one_line(tmp_path: Path, small_disk: SmallDisk) -> None:
    path = small_disk.path / "s.zarr"
    with new_stores_of_version_2():
        shutil.copytree(make_store(tmp_path / "s.zarr", rows=20).path, path)
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    small_disk.grow(1)
    with pytest.raises(C3Error, match=r"cannot be migrated: 0\.\d MB are needed for a moment, 0\.\d MB are free"):
        fill = small_disk.path / "fill"
        with pytest.raises(OSError, match="No space left"):
            fill.write_bytes(bytes(2**20))
        migrate(path)
    fill.unlink()
    subprocess.run(["mount", "-o", "remount,ro", small_disk.path], check=True)
    try:
        done = CliRunner().invoke(main, ["migrate", str(path)])
    finally:
        subprocess.run(["mount", "-o", "remount,rw", small_disk.path], check=True)
    assert done.exit_code == 2
    assert f"c3: {path} cannot be migrated (Read-only file system); it opens as before" in done.stderr
    assert done.stderr.count("\n") == 1
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


def test_a_store_behind_a_url_migrates(options: ExtractOptions) -> None:
    url = "memory://migrate/f.zarr"
    fsspec.filesystem("memory").put(str(options.out), "/migrate/f.zarr", recursive=True)
    assert FeatureCache.open(url).schema == 2
    assert "8 of 8 rows" in migrate(url)
    assert paths_of(FeatureCache.open(url)) == [f"{number:02d}.png" for number in range(8)]
    assert "is sound" in verify(url)
