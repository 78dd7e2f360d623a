"""Arrays of other tools become a store: rows of the table, levels and vectors, methods that can train on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from c3.cli import main
from c3.common.errors import C3Error
from c3.extract.backbone.pooling import pool_levels
from c3.extract.feature_arrays import open_array, pooled
from c3.extract.import_features import ImportOptions, import_features
from c3.extract.store.cache import FeatureCache
from c3.predict.tagger import load_parts
from c3.train.run import TrainOptions, train
from click.testing import CliRunner

ROWS = 40  # of the table, in no order
ORDER = np.random.default_rng(0).permutation(ROWS)


def split_of(number: int) -> str:
    return "test" if number % 4 == 3 else "val" if number % 8 == 2 else "train"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A table, its unseen classes, class vectors and arrays whose values are the numbers of the images."""
    rows = [f"{n:02d}.jpg,{'abcde'[n % 5]}|{'abcde'[(n + 1) % 5]},{split_of(n)}" for n in ORDER.tolist()]
    (tmp_path / "labels.csv").write_text("\n".join(["image_path,labels,split", *rows]))
    (tmp_path / "unseen.txt").write_text("e\n")
    rng = np.random.default_rng(1)
    np.savez(tmp_path / "words.npz", **{name: rng.normal(size=4).astype(np.float32) for name in "abcde"})
    np.save(tmp_path / "vectors.npy", ORDER[:, None] + rng.random((ROWS, 6)))
    np.savez(tmp_path / "maps.npz", p16=ORDER[:, None, None, None] + rng.random((ROWS, 3, 10, 10)), other=np.zeros(3))
    return tmp_path


def options(folder: Path, *names: str, **asked: object) -> ImportOptions:
    files = tuple(folder / name for name in names)
    own = {"table": folder / "labels.csv", "unseen": folder / "unseen.txt", "vectors": str(folder / "words.npz")}
    return ImportOptions(files, **{**own, "out": folder / "f.zarr", **asked})  # type: ignore[arg-type]


def test_every_row_gets_its_own_values(folder: Path) -> None:
    summary = import_features(options(folder, "vectors.npy", source="a tower"))
    assert "global 6, 5 classes" in summary
    cache = FeatureCache.open(folder / "f.zarr")
    cache.require_complete()
    assert not cache.levels
    assert cache.classes.names == tuple("abcde")
    assert cache.classes.seen.tolist() == [True] * 4 + [False]
    assert cache.origin.backbone == "imported:a tower"
    for split in cache.splits:
        numbers = [int(path[:2]) for path in cache.image_paths(split).tolist()]
        assert {split_of(number) for number in numbers} == {split}
        assert np.floor(cache.read(split, "global", 0, len(numbers))[:, 0].astype(float)).tolist() == numbers
    assert "is complete" in import_features(options(folder, "vectors.npy", source="a tower"))  # again: nothing to do


def test_maps_are_pooled_as_the_backbones_are(folder: Path) -> None:
    import_features(options(folder, "maps.npz", arrays=("p16",)))
    cache = FeatureCache.open(folder / "f.zarr")
    (level,) = cache.levels
    assert (level.name, level.cell) == ("p16", (3, 7, 7))
    numbers = [int(path[:2]) for path in cache.image_paths("test").tolist()]
    source = open_array(folder / "maps.npz", "p16").values[[ORDER.tolist().index(number) for number in numbers]]
    (expected,) = pool_levels([torch.from_numpy(source.astype(np.float32))])
    np.testing.assert_allclose(cache.read("test", "p16", 0, len(numbers)), expected.numpy(), rtol=1e-3)


def test_several_arrays_of_one_file_are_several_levels(folder: Path) -> None:
    maps = ORDER[:, None, None, None] + np.zeros((ROWS, 2, 7, 7))
    np.savez(folder / "all.npz", p32=maps + 0.5, p8=maps, unused=maps)
    import_features(options(folder, "all.npz", arrays=("p8", "p32")))
    cache = FeatureCache.open(folder / "f.zarr")
    assert [level.name for level in cache.levels] == ["p8", "p32"]
    rows = len(cache.image_paths("test"))
    np.testing.assert_array_equal(cache.read("test", "p32", 0, rows), cache.read("test", "p8", 0, rows) + 0.5)


@pytest.mark.parametrize("side", [5, 7, 10, 14, 33])
def test_pooling_has_the_windows_of_torch(side: int) -> None:
    maps = np.random.default_rng(side).random((2, 3, side, side)).astype(np.float32)
    assert (pooled(maps) == pool_levels([torch.from_numpy(maps)])[0].numpy()).all()


@pytest.mark.parametrize("suffix", ["h5", "parquet"])
def test_other_files_hold_the_same(folder: Path, suffix: str) -> None:
    vectors = np.load(folder / "vectors.npy")
    if suffix == "h5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(folder / "v.h5", "w") as file:
            file["deep/vectors"] = vectors
    else:
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pa.table({"id": list(range(ROWS)), "v": vectors.tolist()}), folder / "v.parquet")
    rows = np.array([7, 3, 30])
    np.testing.assert_array_equal(
        open_array(folder / f"v.{suffix}").read(rows), open_array(folder / "vectors.npy").read(rows)
    )


@pytest.mark.parametrize("method", ["conse", "labelem", "fast0tag", "c3-plus"])
def test_methods_of_vectors_train_on_vectors_alone(folder: Path, method: str) -> None:
    import_features(options(folder, "vectors.npy"))
    run = train(TrainOptions(folder / "f.zarr", method, folder / "runs", {"epochs": 1, "batch_size": 8}, device="cpu"))
    assert run.record.reads == ("global",)
    with pytest.raises(C3Error, match=r"imported:vectors\.npy were computed outside of c3"):
        load_parts(run.path, None, None, torch.device("cpu"))


@pytest.mark.parametrize("method", ["c3", "c3-a", "lesa", "biam", "ml-decoder"])
def test_methods_of_maps_are_refused_on_vectors_alone(folder: Path, method: str) -> None:
    import_features(options(folder, "vectors.npy"))
    with pytest.raises(C3Error, match="vectors of whole pictures, and this method reads maps"):
        train(TrainOptions(folder / "f.zarr", method, folder / "runs", {"epochs": 1}, device="cpu"))
    assert not (folder / "runs").exists()


def test_arrays_that_do_not_fit_are_refused_in_one_line(folder: Path) -> None:
    np.save(folder / "short.npy", np.zeros((ROWS - 1, 3)))
    np.save(folder / "flat.npy", np.zeros(ROWS))
    np.save(folder / "objects.npy", np.array([None] * ROWS), allow_pickle=True)
    np.save(folder / "9 maps.npy", np.zeros((ROWS, 1, 7, 7)))
    np.save(folder / "nan.npy", np.where(np.arange(ROWS)[:, None] < 3, 1, np.full((ROWS, 3), np.nan)))
    (folder / "cut.npy").write_bytes((folder / "vectors.npy").read_bytes()[:200])
    (folder / "v.txt").write_text("1")
    cases = {
        ("short.npy",): r"short\.npy has 39 rows, and .*labels\.csv has 40; row n",
        ("flat.npy",): r"shape \(40,\) and type float64; expected numbers, vectors \(rows, D\) or maps",
        ("objects.npy",): r"objects\.npy cannot be read as \.npy: Array can't be memory-mapped",
        ("cut.npy",): r"cut\.npy cannot be read as \.npy",
        ("maps.npz",): r"maps\.npz has the arrays p16, other; name those to read with --array",
        ("9 maps.npy",): "'9 maps' cannot be the name of a level",
        ("v.txt",): r"v\.txt: expected a file that ends in \.npy, \.npz",
        ("none.npy",): "none.npy",
        ("nan.npy",): r"nan\.npy: row 3 has a value that is not a finite float32",
        ("vectors.npy", "vectors.npy"): "a store has one array 'global'",
    }
    for names, said in cases.items():
        with pytest.raises(C3Error, match=said) as raised:
            import_features(options(folder, *names))
        assert "\n" not in str(raised.value)
    assert not (folder / "f.zarr").exists()
    both = CliRunner().invoke(main, ["import-features", str(folder / "vectors.npy"), "--out", str(folder / "g.zarr")])
    assert both.exit_code == 2
    assert "--table labels.csv, or with --dataset NAME" in both.output


def test_what_programs_leave_around_features_is_read(folder: Path) -> None:
    h5py, pa, parquet = map(pytest.importorskip, ("h5py", "pyarrow", "pyarrow.parquet"))
    vectors, maps = np.load(folder / "vectors.npy"), np.load(folder / "maps.npz")["p16"]
    np.save(folder / "pooled.npy", vectors[:, :, None, None])  # what a network leaves whose classifier is cut off
    ids = [f"/photos/{number:02d}.png" for number in ORDER]  # of other files, in the same order
    np.savez(folder / "objects.npz", x=vectors, info=np.array([None]), ids=np.array(ids))
    with h5py.File(folder / "ids.h5", "w") as file:
        file["deep/x"], file["ids"], file["nothing"] = vectors, ids, h5py.Empty("f4")
    with h5py.File(folder / "groups.h5", "w") as file:
        file["deep/p16"] = maps
    labels = {"tags": [["a"], ["a", "b"]] * (ROWS // 2), "boxes": [[1], [1, 2]] * (ROWS // 2)}
    parquet.write_table(pa.table({"x": vectors.tolist(), "ids": ids, "tags": labels["tags"]}), folder / "t.parquet")
    parquet.write_table(pa.table({"x": vectors.tolist()} | labels), folder / "boxes.parquet")
    rows = np.arange(ROWS)
    for name, key in (("pooled.npy", None), ("objects.npz", "x"), ("ids.h5", None), ("t.parquet", None),
                      ("boxes.parquet", "x"), ("vectors.npy", "p16")):  # fmt: skip
        array = open_array(folder / name, key)
        array.require_order([f"{number:02d}.jpg" for number in ORDER])
        np.testing.assert_array_equal(array.read(rows), vectors.astype(np.float16))
    assert open_array(folder / "groups.h5").name == "p16"


@pytest.mark.parametrize("suffix", ["npz", "h5", "parquet"])
def test_rows_in_another_order_than_the_table_are_refused_where_the_file_names_them(folder: Path, suffix: str) -> None:
    vectors, ids = np.sort(np.load(folder / "vectors.npy"), axis=0), [f"x/{n:02d}" for n in range(ROWS)]
    if suffix == "npz":
        np.savez(folder / "v.npz", ids=np.array(ids), v=vectors)
    elif suffix == "h5":
        with pytest.importorskip("h5py").File(folder / "v.h5", "w") as file:
            file["v"], file["ids"] = vectors, ids
    else:
        pa = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(
            pa.table({"v": vectors.tolist(), "ids": ids}), folder / "v.parquet"
        )
    with pytest.raises(
        C3Error, match=rf"not in the order of the table: in 'ids' .* row 0 is x/00.* {ORDER[0]:02d}\.jpg"
    ):
        import_features(options(folder, f"v.{suffix}", arrays=("v",)))
    assert not (folder / "f.zarr").exists()


def test_rows_of_zeros_are_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    np.save(folder / "half.npy", np.where(np.arange(ROWS)[:, None] < 30, 1.0, 0.0))
    import_features(options(folder, "half.npy"))
    assert "half.npy: 10 of 40 rows hold nothing but zeros, the first is row 30" in caplog.text


def test_files_that_are_damaged_or_of_another_kind_are_named(folder: Path) -> None:
    h5py, pa, parquet = map(pytest.importorskip, ("h5py", "pyarrow", "pyarrow.parquet"))
    np.save(folder / "last.npy", np.ones((ROWS, 10, 10, 3)))
    np.save(folder / "tiny.npy", np.full((ROWS, 3), 1e-6))
    (folder / "lfs.npy").write_text("version https://git-lfs.github.com/spec/v1")
    (folder / "parts.parquet").mkdir()
    parquet.write_table(pa.table({"d0": [0.0] * ROWS, "d1": [1.0] * ROWS}), folder / "columns.parquet")
    with h5py.File(folder / "bad.h5", "w") as file:
        file.create_dataset("x", data=np.random.default_rng(0).random((ROWS, 99)), compression="gzip")
        chunk = file["x"].id.get_chunk_info(0)
    damaged = bytearray((folder / "bad.h5").read_bytes())
    damaged[chunk.byte_offset + 50 : chunk.byte_offset + chunk.size] = bytes(chunk.size - 50)
    (folder / "bad.h5").write_bytes(damaged)
    for name, said in (
        ("last.npy", r"shape \(40, 10, 10, 3\), which looks like channels last; expected maps \(rows, C, H, W\)"),
        ("tiny.npy", "row 0 has no value of 6.1e-05 or more, and a store keeps float16"),
        ("lfs.npy", "lfs.npy is a pointer of Git LFS"),
        ("parts.parquet", "parts.parquet is a folder; join its parts"),
        ("columns.parquet", r"expected a column of lists of numbers, .*; found d0 \(double\), d1 \(double\)"),
        ("bad.h5", r"bad\.h5 \(x\) cannot be read: Can't synchronously read data"),
    ):
        with pytest.raises(C3Error, match=said):
            import_features(options(folder, name))
    assert not (folder / "f.zarr").exists()


def test_a_separator_of_labels_needs_a_catalog(folder: Path) -> None:
    table = folder / "labels.csv"
    table.write_text(table.read_text().replace("|", ";"))
    with pytest.raises(
        C3Error, match=r'label_separator: ";" in datasets\.labels of a catalog and give --dataset labels'
    ):
        import_features(options(folder, "vectors.npy"))


def test_another_array_of_a_file_is_another_store(folder: Path) -> None:
    np.savez(folder / "two.npz", a=np.ones((ROWS, 3)), b=np.zeros((ROWS, 3)))
    import_features(options(folder, "two.npz", arrays=("a",)))
    with pytest.raises(C3Error, match="was made by another request"):
        import_features(options(folder, "two.npz", arrays=("b",)))


def test_files_that_hold_no_rows_of_one_length_are_refused_in_one_line(folder: Path) -> None:
    parquet, pa = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    parquet.write_table(pa.table({"x": [[1.0] * 4, [2.0] * 12] * (ROWS // 2)}), folder / "ragged.parquet")
    whole = (folder / "maps.npz").read_bytes()
    (folder / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (folder / "no.npz").write_bytes((folder / "vectors.npy").read_bytes())
    np.save(folder / "inf.npy", np.full((ROWS, 2), np.inf, np.float16))
    for name, said in (("ragged.parquet", "of different lengths"), ("cut.npz", "no zip archive"),
                       ("no.npz", "is an array of numpy"), ("inf.npy", "row 0 has a value that is not")):  # fmt: skip
        with pytest.raises(C3Error, match=said):
            import_features(options(folder, name))
    assert not (folder / "f.zarr").exists()
