"""Class splits of one store: drawn unseen classes and folds, and that no label held back reaches anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from c3.common.errors import C3Error
from c3.evaluate.run import EvaluateOptions, compare, evaluate
from c3.evaluate.score import open_store
from c3.extract.store.cache import FeatureCache
from c3.extract.store.layout import Layout
from c3.train.class_split import ClassSplit, with_positive
from c3.train.run import TrainOptions, train
from c3.train.run_folder import Run, list_runs, read_classes, read_per_class
from c3.train.settings import options_from
from c3.train.sweep import sweep
from safetensors.torch import load_file

Make = Callable[..., FeatureCache]
SEEN = np.array([True] * 20 + [False] * 6)
LEARNABLE = np.arange(26) != 3
TINY = {"epochs": 1, "batch_size": 8, "hidden1": 8, "hidden2": 4}


def options(cache: FeatureCache, runs: Path, **settings: object) -> TrainOptions:
    return TrainOptions(cache.path, "fast0tag", runs, TINY | settings, device="cpu")


def same(first: Run, second: Run) -> bool:
    one, two = (load_file(run.path / "weights.safetensors") for run in (first, second))
    return all(torch.equal(one[name], two[name]) for name in one)


def test_a_drawn_split_hides_as_many_classes_as_the_store() -> None:
    draws = []
    for seed in range(20):
        kept, seen = ClassSplit(hide_seed=seed).masks(SEEN, LEARNABLE)
        assert kept.tolist() == LEARNABLE.tolist()  # a class without a positive in train is neither learnt nor drawn
        assert (kept & ~seen).sum() == 6
        assert not (seen & ~kept).any()
        draws.append(tuple(np.flatnonzero(kept & ~seen)))
    assert len(set(draws)) == 20
    assert {index for draw in draws for index in draw} == set(np.flatnonzero(LEARNABLE))
    again = ClassSplit(hide_seed=0).masks(~SEEN ^ (np.arange(26) < 14), LEARNABLE)[1]  # another six are unseen now
    assert tuple(np.flatnonzero(LEARNABLE & ~again)) == draws[0]


@pytest.mark.parametrize("hide_seed", [-1, 4])
def test_folds_divide_the_seen_classes_and_forget_the_others(hide_seed: int) -> None:
    _, before = ClassSplit(hide_seed=hide_seed).masks(SEEN, LEARNABLE)
    held_back = np.zeros(26, int)
    for fold in range(3):
        kept, seen = ClassSplit(hide_seed=hide_seed, folds=3, fold=fold).masks(SEEN, LEARNABLE)
        assert kept.tolist() == before.tolist()
        held_back += kept & ~seen
        assert abs((kept & ~seen).sum() - before.sum() / 3) < 1
    assert held_back.tolist() == before.astype(int).tolist()


@pytest.mark.parametrize(
    ("split", "seen", "said"),
    [
        ({"hide_seed": -2}, SEEN, r"setting hide_seed: expected -1 \(off\) or a seed from 0 to 2\^63 - 1, found -2"),
        ({"folds": 1}, SEEN, r"setting folds: expected 0 \(off\) or at least 2, found 1"),
        ({"folds": 3, "fold": 3}, SEEN, "setting fold: expected 0 to 2, one of 3 folds, found 3"),
        ({"fold": 1}, SEEN, "setting fold: expected none without folds, found 1"),
        ({"held_images": 0.2}, SEEN, r"setting held_images: expected 0 \(off\) without folds, found 0.2"),
        ({"folds": 2, "held_images": 1.0}, SEEN, r"setting held_images: expected 0 \(off\) to below 1, found 1.0"),
        ({"hide_seed": 1}, SEEN | True, "the store hides no class"),
        ({"hide_seed": 1}, SEEN & (np.arange(26) < 1), "expected at least 27 classes .*, found 25"),
        ({"folds": 11}, SEEN, "11 folds need at least 22 seen classes, two each, found 20; use at most 10 folds"),
    ],
    ids=["seed", "one-fold", "fold-too-high", "fold-alone", "held-alone", "all-held", "nothing-hidden",
         "too-few-classes", "too-many-folds"],
)  # fmt: skip
def test_impossible_splits_are_refused_in_one_line(split: dict[str, float], seen: np.ndarray, said: str) -> None:
    with pytest.raises(C3Error, match=said):
        options_from(ClassSplit, split).masks(seen, LEARNABLE)


def test_a_run_is_measured_with_the_split_it_was_trained_with(make_cache: Make, tmp_path: Path) -> None:
    cache = make_cache()
    own = train(options(cache, tmp_path / "runs"))
    drawn = train(options(cache, tmp_path / "runs", hide_seed=1))
    assert not {"hide_seed", "folds", "fold"} & set(own.record.settings)
    assert drawn.record.class_split == {"hide_seed": 1}
    classes = read_classes(drawn)
    assert classes.names == cache.classes.names
    assert classes.seen.sum() == 3
    assert classes.seen.tolist() != cache.classes.seen.tolist()
    assert open_store(drawn).classes.seen.tolist() == classes.seen.tolist()
    evaluate(drawn.path, device="cpu", options=EvaluateOptions(resamples=0))
    assert [line.seen for line in read_per_class(drawn.path)] == classes.seen.tolist()
    with pytest.raises(C3Error, match="measured on different classes"):
        compare(own.path, drawn.path, device="cpu")


def test_a_fold_lies_apart_and_knows_only_seen_classes(make_cache: Make, tmp_path: Path) -> None:
    cache = make_cache(seen="abcd")
    run = train(options(cache, tmp_path / "runs", folds=2, fold=1))
    assert run.path.parent == tmp_path / "runs" / "folds"
    assert list_runs(tmp_path / "runs") == []
    classes = read_classes(run)
    assert classes.names == tuple("abcd")
    assert classes.seen.sum() == 2 == run.record.inputs.classes
    found = evaluate(run.path, "val", device="cpu", options=EvaluateOptions(resamples=0)).metrics
    assert found is not None
    assert found.first.tasks["gzsl"]["classes"] == 4


@pytest.mark.parametrize(
    ("seen", "split"), [("cde", {"hide_seed": 1}), ("abcd", {"folds": 2, "fold": 0})], ids=["drawn", "fold"]
)
def test_labels_held_back_never_reach_a_loss(
    make_cache: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: str, split: dict[str, int]
) -> None:
    """The same weights, also those that validation chooses, when the labels of all classes held back are shuffled."""
    cache = make_cache(rows=24, seen=seen)
    settings = split | {"patience": 2, "epochs": 2}
    before = train(options(cache, tmp_path / "a", **settings))
    trained = read_classes(before)
    own = np.isin(cache.classes.names, np.array(trained.names)[trained.seen])
    learnable, real = with_positive(cache, "train"), FeatureCache.labels

    def shuffled(self: FeatureCache, split: str) -> object:
        labels = real(self, split)
        if type(self) is FeatureCache:
            labels.value[~own[labels.indices]] *= -1
        return labels

    monkeypatch.setattr(FeatureCache, "labels", shuffled)
    assert with_positive(cache, "train").tolist() == learnable.tolist()  # a draw may only know that there is one
    assert same(before, train(options(cache, tmp_path / "b", **settings)))
    monkeypatch.setattr("c3.train.class_split.ClassSplit.view", lambda _split, store: store)
    assert not same(before, train(options(cache, tmp_path / "c", **settings)))  # the test can fail


def test_splits_that_train_on_other_rows_share_memory(make_cache: Make, tmp_path: Path) -> None:
    cache = make_cache(rows=20, layout=Layout(chunk_rows=1, shard_rows=4))  # a row without a seen label is a chunk
    asked = [{"hide_seed": seed} for seed in (0, 1, 2)]
    together = sweep(options(cache, tmp_path / "a"), asked, lambda run: run).runs
    assert len({run.record.rows for run in together}) > 1
    for run, settings in zip(together, asked, strict=True):
        assert same(run, train(options(cache, tmp_path / "b", **settings)))
