"""BiAM's HDF5 files become a store that trains: maps, labels, order, resuming and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from c3.cli import main
from c3.common.errors import C3Error
from c3.common.parsing import to_json
from c3.extract.import_biam import BiamOptions, import_biam
from c3.extract.store.cache import FeatureCache
from c3.extract.store.layout import Layout
from click.testing import CliRunner
from official_trees import Tree, write_nuswide

h5py = pytest.importorskip("h5py")
SEEN, UNSEEN = 7, 6  # classes of the small NUS-WIDE


def write(
    path: Path, count: int, seed: int, test: bool = False, shape: tuple[int, ...] = (512, 196)
) -> dict[str, dict]:
    """A file in BiAM's layout; returns what is in it by image name."""
    rng = np.random.default_rng(seed)
    content = {}
    with h5py.File(path, "w", track_order=True) as file:  # images in the order of writing
        for number in rng.permutation(count):
            name = f"actor_{number:04d}_{seed}{number}.jpg"
            every = (rng.random(SEEN + UNSEEN) < 0.4).astype(np.int8)
            every[number % SEEN] = 1
            maps = (rng.random(shape) * 50).astype(np.float32)
            content[name] = {"maps": maps, "labels": every}
            file.create_dataset(f"{name}-features", data=maps, compression="gzip")
            file.create_dataset(f"{name}-labels", data=every if test else every[:SEEN], compression="gzip")
            file.create_dataset(f"{name}-labels_81", data=every[SEEN:], compression="gzip")
    return content


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return write_nuswide(tmp_path)


def test_maps_and_labels_are_those_of_the_file(tree: Tree, tmp_path: Path) -> None:
    truth = {
        "train": write(tmp_path / "train.h5", 12, 1),
        "test": write(tmp_path / "test.h5", 8, 2, test=True, shape=(512, 14, 14)),
    }
    files = {"train": tmp_path / "train.h5", "test": tmp_path / "test.h5"}
    summary = import_biam(BiamOptions(files, out=tmp_path / "f.zarr", catalog=tree.catalog))
    assert "train 12, test 8 rows, p32(512), 13 classes" in summary
    cache = FeatureCache.open(tmp_path / "f.zarr")
    cache.require_complete()
    assert cache.classes.seen.sum() == SEEN
    assert cache.origin.dataset == "nuswide"
    assert to_json(cache.notes) == {"leaks": {"boat": ["boats"]}}
    for split, content in truth.items():
        ids = cache.image_ids(split).tolist()
        assert ids == sorted(content)
        labels = cache.labels(split).dense(SEEN + UNSEEN, absent=-1)
        maps = cache.read(split, "p32", 0, len(ids))
        for row, name in enumerate(ids):
            assert ((labels[row] == 1) == (content[name]["labels"] == 1)).all()
            square = content[name]["maps"].reshape(512, 14, 14)
            for c, y, x in ((0, 0, 0), (511, 6, 6), (7, 3, 5)):  # every cell is the maximum of its four
                window = square[c, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
                assert maps[row, c, y, x] == np.float16(window.max())


def test_maps_that_are_pooled_already_are_kept(tree: Tree, tmp_path: Path) -> None:
    content = write(tmp_path / "train.h5", 3, 1, shape=(512, 49))
    import_biam(BiamOptions({"train": tmp_path / "train.h5"}, out=tmp_path / "f.zarr", catalog=tree.catalog))
    cache = FeatureCache.open(tmp_path / "f.zarr")
    expected = [content[name]["maps"].reshape(512, 7, 7) for name in sorted(content)]
    np.testing.assert_array_equal(cache.read("train", "p32", 0, 3), np.float16(expected))


def test_a_stopped_import_goes_on(tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "train.h5", 6, 1)
    options = BiamOptions({"train": tmp_path / "train.h5"}, out=tmp_path / "f.zarr", catalog=tree.catalog)
    create = FeatureCache.create.__func__
    monkeypatch.setattr(create, "__kwdefaults__", create.__kwdefaults__ | {"layout": Layout(2, 2)})
    whole = FeatureCache.write_shard

    def stop(self: FeatureCache, split: str, shard: int, *rest: object) -> None:
        if shard == 2:
            raise KeyboardInterrupt
        whole(self, split, shard, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(FeatureCache, "write_shard", stop)
        import_biam(options)
    assert FeatureCache.open(options.out).pending("train") == [2]
    assert "is complete" in import_biam(options)
    with h5py.File(tmp_path / "train.h5", "a") as file:
        file["actor_0000_10.jpg-labels"][0] = 1 - file["actor_0000_10.jpg-labels"][0]
    with pytest.raises(C3Error, match=r"was made by another request .manifest_sha256"):
        import_biam(options)


def test_imported_features_train_and_are_evaluated(tree: Tree, tmp_path: Path) -> None:
    write(tmp_path / "train.h5", 12, 1)
    write(tmp_path / "test.h5", 8, 2, test=True)

    def c3(*arguments: object) -> str:
        done = CliRunner().invoke(main, ["--catalog", str(tree.catalog), *map(str, arguments)])
        assert done.exit_code == 0, done.output
        return done.stdout

    c3("import-biam", "--train", tmp_path / "train.h5", "--test", tmp_path / "test.h5", "--out", tmp_path / "f.zarr")
    runs = tmp_path / "runs"
    c3("train", "--cache", tmp_path / "f.zarr", "--method", "c3", "--runs", runs, "--epochs", 1, "--batch-size", 4,
       "--groups", 2, "--device", "cpu")  # fmt: skip
    (run,) = runs.iterdir()
    assert "nuswide ZSL" in c3("evaluate", "--run", run, "--device", "cpu")
    assert "p32" in c3("inspect", tmp_path / "f.zarr")


def damage(path: Path, key: str, value: np.ndarray | None) -> None:
    with h5py.File(path, "a") as file:
        name = next(iter(file)).rsplit("-", 1)[0]
        del file[name + key]
        if value is not None:
            file[name + key] = value


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("-labels", None, "-labels is missing or damaged"),
        ("-labels", np.zeros(5, np.int8), r"has labels of shape \(5,\) and \(6,\), expected \(7,\) or \(13,\)"),
        ("-labels_81", np.zeros(5, np.int8), r"has labels of shape \(7,\) and \(5,\)"),
        ("-labels", np.full(7, 3, np.int8), "has a label that is none of -1, 0 and 1"),
        ("-features", np.zeros((512, 10), np.float32), r"has shape \(512, 10\), expected"),
        ("-features", np.full((512, 196), 7e4, np.float32), "beyond float16"),
        ("-features", np.full((512, 196), np.nan, np.float32), "not finite"),
    ],
)
def test_bad_contents_are_refused_with_the_image(
    tree: Tree, tmp_path: Path, key: str, value: np.ndarray | None, said: str
) -> None:
    write(tmp_path / "train.h5", 3, 1)
    damage(tmp_path / "train.h5", key, value)
    options = BiamOptions({"train": tmp_path / "train.h5"}, out=tmp_path / "f.zarr", catalog=tree.catalog)
    with pytest.raises(C3Error, match=rf"train\.h5: actor_\d+_\d+\.jpg.*{said}"):
        import_biam(options)
    if key != "-features":
        assert not options.out.exists()


def test_files_that_are_none_are_refused_before_anything_is_written(tree: Tree, tmp_path: Path) -> None:
    write(tmp_path / "train.h5", 3, 1)
    whole = (tmp_path / "train.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.h5").write_text("no HDF5")
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass

    def refused(files: dict[str, Path | None], said: str) -> None:
        with pytest.raises(C3Error, match=said):
            import_biam(BiamOptions(files, out=tmp_path / "f.zarr", catalog=tree.catalog))
        assert not (tmp_path / "f.zarr").exists()

    refused({"train": tmp_path / "cut.h5"}, r"cut\.h5 is not a whole HDF5 file \(.*truncated.*\); copy it again")
    refused({"train": tmp_path / "train.h5", "test": tmp_path / "cut.h5"}, "cut")
    refused({"train": tmp_path / "text.h5"}, "not a whole HDF5 file")
    refused({"train": tmp_path / "none.h5"}, "BiAM features not found")
    refused({"train": tmp_path / "empty.h5"}, "no data set that ends in '-features'")
    refused({"train": None, "test": None}, "nothing to import")
