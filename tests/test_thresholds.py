"""Thresholds: chosen on val for seen classes, applied when tagging."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from c3 import Tagger
from c3.common.errors import C3Error
from c3.evaluate.thresholds import SHRINK, best_threshold, thresholds_of
from c3.extract.store.cache import FeatureCache
from c3.train.run_folder import open_run
from tagging_place import Placement, scores_of_store


def slow_threshold(positive: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    best = (-1.0, 0.0)
    for threshold in sorted(set(scores.tolist()), reverse=True):
        yes = [score >= threshold for score in scores.tolist()]
        hits = sum(1 for said, true in zip(yes, positive.tolist(), strict=True) if said and true)
        f1 = 2 * hits / (sum(yes) + int(positive.sum()))
        if f1 > best[0]:
            best = (f1, threshold)
    return best[1], best[0]


@pytest.mark.parametrize("seed", range(40))
def test_a_threshold_is_the_best_of_all_of_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 6, 12) / 4 if seed % 2 else rng.normal(size=12)  # with and without ties
    positive = rng.random(12) < 0.4
    positive[seed % 12] = True
    assert best_threshold(positive, scores) == pytest.approx(slow_threshold(positive, scores))


def test_a_class_without_a_positive_has_no_threshold_of_its_own() -> None:
    assert np.isnan(best_threshold(np.zeros(3, bool), np.arange(3.0))).all()


def test_thresholds_are_chosen_on_val_for_seen_classes(place: Placement, tagger: Tagger) -> None:
    cache = FeatureCache.open(place.store)
    scores = scores_of_store(place, "c3", "val")
    labels = cache.labels("val").dense(len(cache.classes), cache.absent_label)
    with (place.runs["c3"] / "thresholds.csv").open() as file:
        lines = {line["class"]: line for line in csv.DictReader(file)}
    seen = np.flatnonzero(cache.classes.seen).tolist()
    positives = {c: int((labels[:, c] > 0).sum()) for c in seen}
    best = {c: slow_threshold(labels[:, c] > 0, scores[:, c])[0] for c in seen}
    median = np.median([best[c] for c in seen for _ in range(positives[c])])
    expected = {}
    for c in seen:  # few positives: nearer to the median
        name, count = cache.classes.names[c], positives[c]
        expected[name] = (count * best[c] + SHRINK * median) / (count + SHRINK)
        assert lines[name]["source"] == "val"
        assert float(lines[name]["threshold"]) == pytest.approx(expected[name])
        predicted = scores[:, c] >= expected[name]
        f1 = 2 * (predicted & (labels[:, c] > 0)).sum() / (predicted.sum() + count)
        assert float(lines[name]["F1"]) == pytest.approx(f1, abs=1e-4)
    assert lines["dark red"]["source"] == "median"  # though val has labels of it
    assert float(lines["dark red"]["threshold"]) == pytest.approx(median)
    assert thresholds_of(open_run(place.runs["c3"])).take(["a stranger's word"]) == pytest.approx(median)
    everything = tagger.tag(place.images, top=3)
    for tagged, whole in zip(tagger.tag(place.images, threshold="val"), everything, strict=True):
        kept = {label.name for label in whole.labels if label.score >= expected.get(label.name, median)}
        assert {label.name for label in tagged.labels} == kept
        assert all(label.threshold == pytest.approx(expected.get(label.name, median)) for label in tagged.labels)


def test_a_number_as_threshold_gives_all_that_reach_it(place: Placement, tagger: Tagger) -> None:
    whole = tagger.tag(place.images, top=3)
    middle = float(np.median([label.score for tagged in whole for label in tagged.labels]))
    for tagged, before in zip(tagger.tag(place.images, threshold=middle), whole, strict=True):
        assert [label.name for label in tagged.labels] == [
            label.name for label in before.labels if label.score >= middle
        ]
    assert all(not tagged.labels and tagged.ok for tagged in tagger.tag(place.images, threshold=1e9))


def test_thresholds_that_are_not_there_or_damaged_are_refused(place: Placement, run_copy: Path) -> None:
    tagger = Tagger.load(run_copy, device="cpu")
    (run_copy / "thresholds.csv").write_text("class,threshold\nred,x\n")
    with pytest.raises(C3Error, match=r"damaged.*c3 evaluate --run"):
        tagger.tag(place.images, threshold="val")
    (run_copy / "thresholds.csv").unlink()
    with pytest.raises(C3Error, match="chosen on the validation split by c3 evaluate"):
        tagger.tag(place.images, threshold="val")
