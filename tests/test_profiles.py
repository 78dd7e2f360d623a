"""Figure 1 and figure 6b: profiles of classes against a slow loop, the choice of classes, and methods side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from c3.common.errors import C3Error
from c3.evaluate.report import explain, profiles, series
from c3.evaluate.report.figures import draw_profiles
from c3.evaluate.run import evaluate
from c3.extract.store.cache import FeatureCache
from c3.train.run import TrainOptions, train
from c3.train.run_folder import Run

TINY = {"epochs": 1, "batch_size": 8, "lr": 1e-3}


@pytest.fixture
def runs(make_cache: Callable[..., FeatureCache], tmp_path: Path) -> list[Run]:
    """A C3 run and one of Fast0Tag on one small store."""
    cache = make_cache(d_w=6)
    made = []
    for method, settings in (("fast0tag", {"hidden1": 8, "hidden2": 8}), ("c3", {"groups": 2})):
        run = train(TrainOptions(cache.path, method, tmp_path / "runs", TINY | settings, device="cpu"))
        made.append(evaluate(run.path, device="cpu"))
    return made


def test_a_profile_is_the_mean_over_the_images_of_a_class(runs: list[Run]) -> None:
    fast0tag, c3 = runs
    shown = profiles.profiles(c3, ("a", "c"), "cpu")
    assert shown.names == ("a", "c") and shown.seen.tolist() == [False, True]
    store = FeatureCache.open(c3.record.features.path)
    rows = {"a": [0, 4, 5, 9], "c": [1, 2, 6, 7]}  # row r has classes r % 5 and (r + 1) % 5
    assert shown.images.tolist() == [4, 4]
    maps = store.read("test", "p16", 0, 10).astype(np.float64)
    maxima = np.array([[channel.max() for channel in row] for row in maps])
    for place, name in enumerate(shown.names):
        mean = np.mean([maxima[row] for row in rows[name]], axis=0)
        np.testing.assert_allclose(shown.mean["p16"][place], mean)
        spread = (mean - maxima.mean(axis=0)) / maxima.std(axis=0)
        np.testing.assert_allclose(shown.spread["p16"][place], spread, atol=1e-6)
    assert {part: values.shape for part, values in shown.mean.items()} == {
        "p8": (2, 5), "p16": (2, 4), "p32": (2, 3), "X": (2, 12),
    }  # fmt: skip
    ((_, _, cosine, correlations),) = shown.pairs()
    first, second = store.classes.vectors[[0, 2]]
    assert cosine == pytest.approx(first @ second / np.linalg.norm(first) / np.linalg.norm(second), rel=1e-5)
    levels = shown.columns["pooled levels"]
    assert levels.shape == (2, 12)
    assert correlations["pooled levels"] == pytest.approx(np.corrcoef(levels)[0, 1])
    assert "X" not in profiles.profiles(fast0tag, ("a", "c"), "cpu").mean
    rows = [axis.get_ylabel().partition("\n")[0] for axis in draw_profiles(shown, "profiles", narrow=True).axes]
    assert rows == ["a", "c", "a", "c"]  # levels above X on a phone: every panel names its class


def test_classes_are_two_near_ones_and_those_far_from_them(runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(C3Error, match=r"no two classes have 10 images of test .* choose classes with --classes"):
        profiles.profiles(runs[1], (), "cpu")
    monkeypatch.setattr(profiles, "LEAST_IMAGES", 1)
    monkeypatch.setattr(profiles, "MOST_IMAGES", 1.0)
    vectors = FeatureCache.open(runs[1].record.features.path).classes.vectors
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    names = "abcde"
    pairs = [(u, s) for u in "ab" for s in "cde"]
    near = max(pairs, key=lambda pair: unit[names.index(pair[0])] @ unit[names.index(pair[1])])
    shown = profiles.profiles(runs[1], (), "cpu")
    assert shown.names[:2] == near and len(set(shown.names)) == 4
    # neighbours a-e, b-c share half of their images; with less allowed, the pair is another
    monkeypatch.setattr(profiles, "MOST_SHARED", 0.1)
    kept = profiles.profiles(runs[1], (), "cpu").names[:2]
    assert kept in {("a", "c"), ("a", "d"), ("b", "d"), ("b", "e")}


def test_agreement_is_a_rank_correlation_over_classes_of_different_images(
    runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert profiles.profiles(runs[1], ("a", "c"), "cpu").agreement is None  # five pairs of classes say nothing
    for name, value in (("LEAST_IMAGES", 1), ("MOST_IMAGES", 1.0), ("FEWEST_PAIRS", 5)):
        monkeypatch.setattr(profiles, name, value)
    agreed = profiles.profiles(runs[1], ("a", "c"), "cpu").agreement
    assert agreed is not None and (agreed.classes, agreed.pairs) == (5, 5)
    every = profiles.profiles(runs[1], tuple("abcde"), "cpu")
    apart = {("a", "c"), ("a", "d"), ("b", "d"), ("b", "e"), ("c", "e")}  # the others are on images together
    pairs = [(cosine, found) for first, second, cosine, found in every.pairs() if (first, second) in apart]

    def rank(values: list[float]) -> np.ndarray:
        return np.array([sum(other < value for other in values) for value in values])

    for part, r in agreed.correlation.items():
        distances = rank([cosine for cosine, _ in pairs]) - rank([found[part] for _, found in pairs])
        assert r == pytest.approx(1 - 6 * (distances**2).sum() / (5 * 24))  # Spearman's formula without ties
    title = draw_profiles(every, "profiles").get_supxlabel()
    assert "5 pairs of 5 classes that share no image, rank correlation of the two: pooled levels " in title


@pytest.mark.parametrize(
    ("classes", "said"),
    [(("a", "f"), "unknown class 'f'"), (("a", "a"), "two different classes at least, found a, a")],
    ids=["unknown", "one"],
)
def test_classes_that_cannot_be_shown_are_named(runs: list[Run], classes: tuple[str, ...], said: str) -> None:
    with pytest.raises(C3Error, match=said):
        profiles.profiles(runs[0], classes, "cpu")


def test_methods_are_compared_on_the_same_true_label_of_the_same_images(runs: list[Run]) -> None:
    rivals = series.rivals(runs)
    assert [run.method for run in rivals] == ["c3", "fast0tag"]
    found = explain.comparisons(rivals, 3, "cpu")
    assert [one.image_id for one in found] == [one.image_id for one in explain.examples(rivals[0], 3, "cpu")]
    for one in found:
        row = int(one.image_id[4:])
        own = {"abcde"[row % 5], "abcde"[(row + 1) % 5]}
        assert one.label in own and one.seen == (not own & {"a", "b"}) and one.classes == 5
        assert [view.method for view in one.views] == ["c3", "fast0tag"]
        assert all(view.response.shape == (7, 7) and 1 <= view.rank <= 5 for view in one.views)
    shares = explain.comparisons(rivals, 1, "cpu", maps="shares")[0].views
    assert shares[0].response is not None and shares[1].response is None
