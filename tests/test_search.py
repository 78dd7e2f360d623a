"""Search: the order of evaluation, projections that are kept and made again, words, outputs, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from c3 import Searcher
from c3.cli import main
from c3.common.errors import C3Error
from c3.extract.store.cache import FeatureCache
from c3.predict import projections
from c3.predict.found import Ranking
from c3.predict.ranking import BestRows
from c3.train.models.base import Inputs
from c3.train.models.clip import Clip, ClipOptions
from c3.train.registry import METHODS
from c3.train.run import TrainOptions, train
from c3.train.run_folder import open_run
from c3.train.scorer import restore
from click.testing import CliRunner, Result
from search_place import QUICK, SIZES, WORDS, Place, make_place


@pytest.fixture(scope="module")
def place(caches_in: Callable[[Path], Callable[..., FeatureCache]], tmp_path_factory: pytest.TempPathFactory) -> Place:
    root = tmp_path_factory.mktemp("search")
    return make_place(root, caches_in(root), SIZES)


@pytest.fixture
def copied(place: Place, tmp_path: Path) -> Place:
    """The same store in a folder of its own, without projections."""
    shutil.copytree(place.store, tmp_path / "store.zarr")
    return Place(tmp_path / "store.zarr", place.runs, place.images, place.vectors)


def c3(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def expected_order(place: Place, method: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows (rows, classes) of a split from best to worst, and their scores (rows, classes), as evaluation has them."""
    cache = FeatureCache.open(place.store)
    scorer = restore(open_run(place.runs[method]), cache, torch.device("cpu"))
    scores = scorer({name: cache.read(split, name, 0, cache.rows(split)) for name in scorer.arrays})
    return np.argsort(-scores, axis=0, kind="stable"), scores


def places(found: Ranking) -> list[tuple[str, int]]:
    """Where the images of a word are. The last digits of a score depend on how many words are asked for."""
    return [(hit.split, hit.row) for hit in found.hits]


@pytest.mark.parametrize("method", SIZES)
def test_images_are_ranked_as_in_evaluation(place: Place, method: str) -> None:
    searcher = Searcher.load(place.store, place.runs[method], device="cpu")
    for split in ("train", "test"):
        order, scores = expected_order(place, method, split)
        for number, found in enumerate(searcher.search(WORDS, split=split, top=7)):
            assert found.word == WORDS[number]
            assert found.kind == ("seen" if found.word in "cde" else "unseen")
            np.testing.assert_allclose(
                [hit.score for hit in found.hits], scores[order[:7, number], number], rtol=2e-3, atol=5e-4
            )
            assert [hit.rank for hit in found.hits] == list(range(1, 8))
            for hit in found.hits:  # rounding to float16 may swap neighbours
                assert scores[hit.row, number] == pytest.approx(hit.score, rel=2e-3, abs=5e-4)
                assert hit.id == f"{split}{hit.row}"


def test_all_splits_are_searched_together(place: Place) -> None:
    searcher = Searcher.load(place.store, place.runs["c3-plus"], device="cpu")
    alone = [hit for split in ("train", "val", "test") for hit in searcher.search(["a"], split=split, top=56)[0].hits]
    (found,) = searcher.search(["a"], top=56)
    assert len(found.hits) == 56
    assert [hit.score for hit in found.hits] == sorted((hit.score for hit in alone), reverse=True)
    assert {(hit.split, hit.row) for hit in found.hits} == {(hit.split, hit.row) for hit in alone}
    assert searcher.search(["a"], top=9)[0].hits == found.hits[:9]


def test_the_second_search_reads_no_map(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = Searcher.load(place.store, place.runs["c3"], device="cpu").search(WORDS)
    monkeypatch.setattr(FeatureCache, "read", lambda *_: pytest.fail("a map was read"))
    monkeypatch.setattr(FeatureCache, "image_ids", lambda *_: pytest.fail("a table was read"))
    again = Searcher.load(place.store, place.runs["c3"], device="cpu")
    assert again.search(WORDS) == first
    assert [places(found) for found in again.search(["d", "a"])] == [places(first[3]), places(first[0])]
    with pytest.raises(pytest.fail.Exception, match="was read"):
        Searcher.load(place.store, place.runs["kim"], device="cpu").search(["a"])  # attends per class


def kept_files(place: Place) -> list[str]:
    return sorted(path.name for path in (place.store.parent / "projections").glob("*"))


def test_projections_are_made_again_for_other_weights_and_other_rows(copied: Place, tmp_path: Path) -> None:
    run = Path(shutil.copytree(copied.runs["c3"], tmp_path / "run"))
    first = Searcher.load(copied.store, run, device="cpu").search(WORDS, split="test")
    (before, rows) = kept_files(copied)
    assert rows == before.replace(".npy", ".rows.npy") and before.startswith(f"{open_run(run).id}-store.zarr-test-")
    assert Searcher.load(copied.store, run, device="cpu").search(WORDS, split="test") == first
    assert kept_files(copied) == [before, rows]

    other = train(TrainOptions(copied.store, "c3", tmp_path / "runs", QUICK | {"groups": 2, "seed": 1}, device="cpu"))
    shutil.copy(other.path / "weights.safetensors", run / "weights.safetensors")
    second = Searcher.load(copied.store, run, device="cpu").search(WORDS, split="test")
    assert [[hit.score for hit in found.hits] for found in second] != [[hit.score for hit in f.hits] for f in first]
    (after, _) = kept_files(copied)  # and the old ones are gone
    assert after != before

    cache = FeatureCache.open(copied.store, mode="r+")
    status = np.ones(10, np.uint8)
    status[4] = 3
    maps = {array.name: cache.read("test", array.name, 0, 10) for array in cache.arrays}
    maps = {name: np.where(status.reshape(-1, 1, 1, 1) == 1, values, 0) for name, values in maps.items()}
    cache.write_shard("test", 0, maps, status)
    third = Searcher.load(copied.store, run, device="cpu").search(WORDS, split="test")
    assert all({hit.row for hit in found.hits} == {*range(10)} - {4} for found in third)
    assert len(kept_files(copied)) == 2 and after not in kept_files(copied)


def test_a_damaged_projection_is_named_and_made_again(copied: Place, caplog: pytest.LogCaptureFixture) -> None:
    first = Searcher.load(copied.store, copied.runs["conse"], device="cpu").search(WORDS, split="test")
    for name in kept_files(copied):
        path = copied.store.parent / "projections" / name
        for content in (path.read_bytes()[:-9], b"", b"other"):
            path.write_bytes(content)
            caplog.clear()
            assert Searcher.load(copied.store, copied.runs["conse"], device="cpu").search(WORDS, split="test") == first
            assert "is damaged" in caplog.text and "made again" in caplog.text


def test_nothing_half_written_is_left(copied: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    read = FeatureCache.read

    def failing(self: FeatureCache, split: str, name: str, start: int, stop: int) -> np.ndarray:
        if start:
            raise KeyboardInterrupt
        return read(self, split, name, start, stop)

    monkeypatch.setattr(FeatureCache, "read", failing)
    with pytest.raises(KeyboardInterrupt):
        Searcher.load(copied.store, copied.runs["c3"], device="cpu").search(WORDS, split="train")
    assert [name for name in kept_files(copied) if not name.endswith(".rows.npy")] == []


def test_values_beyond_float16_are_kept_in_float32(copied: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projections, "FLOAT16", 1e-6)
    found = Searcher.load(copied.store, copied.runs["c3"], device="cpu").search(WORDS, split="test", top=10)
    values = np.load(copied.store.parent / "projections" / kept_files(copied)[0])
    assert (values.dtype, values.shape) == (np.float32, (10, 2, 6))
    _, scores = expected_order(copied, "c3", "test")
    for number, ranking in enumerate(found):
        np.testing.assert_allclose([hit.score for hit in ranking.hits], np.sort(-scores[:, number]) * -1, rtol=1e-5)


def test_a_folder_that_cannot_be_written_is_said_once_and_the_store_is_read(
    copied: Place, place: Place, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (copied.store.parent / "projections").write_text("a file")
    searcher = Searcher.load(copied.store, copied.runs["c3"], device="cpu")
    caplog.set_level(logging.INFO)
    searcher.search(WORDS)  # all splits
    found = [searcher.search(WORDS, split="test", top=3) for _ in range(2)]
    assert found[0] == found[1]
    assert caplog.text.count("no projections are kept") == 1 and "--projections FOLDER" in caplog.text
    assert "projections is a file, expected a folder" in caplog.text
    kept = Searcher.load(copied.store, copied.runs["c3"], device="cpu", projections=tmp_path / "elsewhere")
    for one, other in zip(found[0], kept.search(WORDS, split="test", top=3), strict=True):
        np.testing.assert_allclose(
            [hit.score for hit in one.hits], [hit.score for hit in other.hits], rtol=2e-3, atol=5e-4
        )
    assert len(list((tmp_path / "elsewhere").iterdir())) == 2


def test_an_image_counts_once_with_its_best_crop(copied: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = FeatureCache.image_ids
    monkeypatch.setattr(FeatureCache, "image_ids", lambda self, split: np.repeat(ids(self, split)[::2], 2))
    _, scores = expected_order(copied, "c3-plus", "test")
    for number, found in enumerate(
        Searcher.load(copied.store, copied.runs["c3-plus"], device="cpu").search(WORDS, split="test")
    ):
        best = scores[:, number].reshape(5, 2).max(axis=1)
        assert sorted(hit.row // 2 for hit in found.hits) == list(range(5))
        for hit in found.hits:
            assert hit.score == pytest.approx(best[hit.row // 2], abs=5e-4)
            assert scores[hit.row, number] == pytest.approx(hit.score, abs=5e-4)


@pytest.mark.parametrize("crops", [1, 3])
def test_the_best_rows_are_those_of_a_full_sort(crops: int) -> None:
    rng = np.random.default_rng(0)
    image = np.repeat(np.arange(100), crops)
    for top in (1, 5, 100, 300):
        scores = rng.integers(0, 12, len(image)).astype(np.float32)  # many ties
        best = BestRows(top, image)
        for first in range(0, len(scores), 17):
            best.add(first, scores[first : first + 17])
        order = sorted(range(len(scores)), key=lambda row: (-scores[row], row))
        seen: dict[int, int] = {}
        for row in order:
            seen.setdefault(int(image[row]), row)
        assert best.rows.tolist() == list(seen.values())[:top]
        assert best.scores.tolist() == scores[best.rows].tolist()


@pytest.mark.parametrize("method", METHODS)
def test_scores_are_what_compare_makes_of_what_is_condensed(method: str) -> None:
    torch.manual_seed(0)
    kind = METHODS[method]
    inputs = Inputs({"p8": 4, "p16": 6, "p32": 8}, 8, 5, 6, 8 if kind.image_text else 0)
    model = kind(inputs, kind.Options()).eval()
    vectors = torch.nn.functional.normalize(torch.randn(7, 8), dim=1)
    model.prepare(vectors[:5])
    arrays = {name: torch.rand(3, *inputs.shape(name)) for name in model.reads(inputs)}
    with torch.inference_mode():
        embedding = model(arrays)
        found = model.compare(model.condense(embedding), vectors)
        torch.testing.assert_close(found, model.scores(embedding, vectors), rtol=0, atol=0)


def test_words_are_looked_up_as_in_predict(place: Place) -> None:
    searcher = Searcher.load(place.store, place.runs["c3"], device="cpu")
    found = searcher.search(["sea", "a", "red boat"], vectors=str(place.vectors), split="test")
    assert [(ranking.word, ranking.kind) for ranking in found] == [
        ("sea", "new"), ("a", "unseen"), ("red boat", "new"),
    ]  # fmt: skip
    assert places(found[1]) == places(searcher.search(["a"], split="test")[0])
    mean = np.array([[1.5, 1, 1, 0, 0.5, 0.5]], np.float32)
    other = searcher.search(["red boat"], vectors=mean, split="test")[0].hits
    assert [hit.row for hit in found[2].hits] == [hit.row for hit in other]


def test_the_forms_of_output_say_the_same(place: Place, tmp_path: Path) -> None:
    command = ("search", place.store, "a", "c", "--run", place.runs["c3"], "--split", "test", "--top", "3",
               "--device", "cpu", "--images", place.images)  # fmt: skip
    lines = [json.loads(line) for line in c3(*command, "--json").stdout.splitlines()]
    rows = list(csv.DictReader(io.StringIO(c3(*command, "--csv").stdout)))
    assert [line["word"] for line in lines] == ["a", "c"]
    flat = [(line["word"], hit["rank"], hit["image"], hit["score"]) for line in lines for hit in line["images"]]
    assert flat == [(row["word"], int(row["rank"]), row["image"], float(row["score"])) for row in rows]
    assert all(Path(row["image"]).is_file() for row in rows)
    shown = c3(*command, "--copy", tmp_path / "copies")
    assert all(Path(row["image"]).name in shown.stdout for row in rows)
    names = sorted(path.name for path in (tmp_path / "copies").iterdir())
    assert names == sorted(f"{row['word']}-{int(row['rank']):03d}-{Path(row['image']).name}" for row in rows)
    for row in rows:
        copy = tmp_path / "copies" / f"{row['word']}-{int(row['rank']):03d}-{Path(row['image']).name}"
        assert copy.read_bytes() == Path(row["image"]).read_bytes()
    again = c3(*command, "--copy", tmp_path / "copies")
    assert (again.exit_code, again.stdout) == (2, "") and "and 5 more exist already" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([""], "a word to search for is empty"),
        (["a", " "], "a word to search for is empty"),
        (["a", "--split", "dev"], "has no split 'dev'; it has train, val, test"),
        (["a", "--vectors", "x", "--tower", "model2vec:x"], "give one of them"),
        (["a", "--run", "absent"], "not a run folder"),
        (["a", "a"], "1 repeated: a"),
        (["aa"], "1 without a vector"),
        (["aa", "--drop-unknown"], "None is left to ask for: give other words, or vectors that have these with"),
        (["a", "--json", "--csv"], "--json and --csv both say how results are printed; give one of them"),
    ],
    ids=["empty", "blank", "split", "two sources", "no run", "repeated", "unknown", "none left", "two forms"],
)
def test_what_cannot_be_asked_is_refused_in_one_line(place: Place, arguments: list[str], said: str) -> None:
    run = () if "--run" in arguments else ("--run", place.runs["c3"])
    shown = c3("search", place.store, *arguments, *run, "--device", "cpu")
    assert (shown.exit_code, shown.stdout, shown.stderr.count("\n")) == (2, "", 1)
    assert said in shown.stderr


def test_a_store_of_another_backbone_is_refused(
    place: Place, caches_in: Callable[[Path], Callable[..., FeatureCache]], tmp_path: Path
) -> None:
    narrow = caches_in(tmp_path)(levels={"p8": 5, "p16": 4, "p32": 2})
    with pytest.raises(C3Error, match=r"was trained on {'p32': \(3, 7, 7\)}, .* has {'p32': \(2, 7, 7\)}"):
        Searcher.load(narrow.path, place.runs["c3"])
    run = Path(shutil.copytree(place.runs["c3"], tmp_path / "run"))
    record = json.loads((run / "run.json").read_text())
    record["cache"]["backbone"] = "resnet50"
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(C3Error, match="expected backbone resnet50, found"):
        Searcher.load(place.store, run)


def test_a_method_whose_scores_depend_on_the_other_words_is_refused(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = Inputs({}, 4, 3, 0, 4)
    alone = {
        name: Clip(inputs, ClipOptions(standardise=name)).scores_alone for name in ("none", "prompt", "image", "both")
    }
    assert alone == {"none": True, "prompt": True, "image": False, "both": False}
    monkeypatch.setattr(METHODS["c3"], "scores_alone", False)
    with pytest.raises(C3Error, match="cannot be compared under one word"):
        Searcher.load(place.store, place.runs["c3"], device="cpu")


def test_a_folder_of_runs_gives_its_best_of_these_features(place: Place) -> None:
    runs = place.runs["c3"].parent
    shown = c3("search", place.store, "a", "--run", runs, "--split", "test", "--top", "1", "--device", "cpu")
    assert shown.exit_code == 0 and "is the run with the best mAP of seen classes on val" in shown.stderr
