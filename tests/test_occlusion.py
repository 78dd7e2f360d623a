"""Occlusion maps: what a score loses when a place of the picture is hidden, against a slow loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from c3.extract.store.layout import GLOBAL_VECTOR, REGIONS
from c3.train.models.base import Inputs
from c3.train.registry import method_class
from c3.train.scorer import Scorer
from c3.train.settings import options_from
from torch.nn.functional import normalize

LEVELS = {"p8": 5, "p16": 4, "p32": 3}
SMALL = {
    "c3": {"groups": 2},
    "c3-plus": {},
    "biam": {"width": 8, "heads": 2},
    "fast0tag": {"hidden1": 8, "hidden2": 8},
    "logistic": {},
}


def scorer_of(name: str, inputs: Inputs) -> Scorer:
    torch.manual_seed(0)
    kind = method_class(name)
    model = kind(inputs, options_from(kind.Options, SMALL[name]))
    vectors = normalize(torch.randn(inputs.classes, inputs.d_w), dim=1)
    model.prepare(vectors)
    if name == "c3-plus":  # its map starts at zero
        torch.nn.init.normal_(model.classifier.weight)
    return Scorer(model, vectors, torch.device("cpu"))


def pictures(scorer: Scorer, count: int = 2) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    inputs = scorer.model.inputs
    return {name: rng.random((count, *inputs.shape(name))).astype(np.float32) for name in scorer.arrays}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("regions", [0, 6])
def test_a_map_is_what_the_score_loses_place_by_place(name: str, regions: int) -> None:
    scorer = scorer_of(name, Inputs(LEVELS, 12, 5, regions=regions))
    arrays, classes = pictures(scorer), [3, 1]
    found = scorer.occlusion(arrays, classes)
    assert found.shape == (2, 2, 7, 7) and found.dtype == np.float32
    whole = scorer(arrays)
    for y, x in ((0, 0), (2, 5), (6, 6)):
        hidden = {name: values.copy() for name, values in arrays.items()}
        for values in hidden.values():
            block = values.shape[2] // 7
            for row in range(2):
                for channel in range(values.shape[1]):
                    mean = values[row, channel].mean()
                    hidden_place = values[row, channel, block * y : block * (y + 1), block * x : block * (x + 1)]
                    hidden_place[...] = mean
        lost = (whole - scorer(hidden))[:, classes]
        np.testing.assert_allclose(found[:, :, y, x], lost, atol=0.01 * np.abs(found).max())
    assert np.abs(found).max() > 1e-3 * np.abs(whole).max()  # beyond rounding


def test_the_place_that_holds_all_the_evidence_is_the_strongest_and_an_even_picture_has_none() -> None:
    scorer = scorer_of("c3-plus", Inputs(LEVELS, 12, 5))
    arrays = {name: np.ones((1, count, 7, 7), np.float32) for name, count in LEVELS.items()}
    assert np.abs(scorer.occlusion(arrays, range(5))).max() == pytest.approx(0, abs=1e-6)
    for values in arrays.values():
        values[0, :, 4, 2] = 5
    maps = np.abs(scorer.occlusion(arrays, range(5)))[0]
    assert (maps.reshape(5, -1).argmax(axis=1) == 4 * 7 + 2).all()


def test_a_method_that_reads_no_positions_has_no_map() -> None:
    scorer = scorer_of("fast0tag", Inputs(LEVELS, 12, 5, global_vector=9))
    assert scorer.arrays == (GLOBAL_VECTOR,)
    assert scorer.label_maps("occlusion", pictures(scorer), [0]) is None
    assert REGIONS in scorer_of("biam", Inputs(LEVELS, 12, 5, regions=6)).arrays


@pytest.mark.parametrize(("regions", "side"), [(0, 7), (6, 14)])
def test_shares_add_up_to_scores_whose_standardisation_is_undone(regions: int, side: int) -> None:
    torch.manual_seed(0)
    kind = method_class("kim")
    model = kind(Inputs(LEVELS, 12, 5, regions=regions), options_from(kind.Options, {"objective": "squares"}))
    vectors = normalize(torch.randn(5, 12), dim=1)
    model.prepare(vectors)
    model.objective.count_labels(torch.tensor([[1, 1, 1, -1, -1]] * 40 + [[1, -1, -1, -1, 1]] * 40))
    scorer = Scorer(model, vectors, torch.device("cpu"))
    arrays = pictures(scorer)
    shares, scores = scorer.responses(arrays, [3, 0]), scorer(arrays)
    assert shares.shape == (2, 2, side, side)
    np.testing.assert_allclose(shares.sum(axis=(2, 3)), scores[:, [3, 0]], rtol=1e-4)
    raw = model.scores(model({name: torch.from_numpy(values) for name, values in arrays.items()}), vectors)
    p = model.objective.frequency()
    np.testing.assert_allclose(scores, (p + (p * (1 - p)).sqrt() * raw).detach(), rtol=0.2, atol=0.02)
    assert (np.argsort(scores, axis=0) == np.argsort(raw.detach().numpy(), axis=0)).all()
