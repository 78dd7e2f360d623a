"""Average precision under weights of the images against scikit-learn on repeated rows."""

from __future__ import annotations

import numpy as np
import pytest
from c3.evaluate import rankings as rankings_module
from c3.evaluate.rankings import rankings
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

IMAGES, DRAWS = 40, 6


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1).map(np.random.default_rng), st.sampled_from([1, 12, 1 << 10]))
def test_weighted_average_precision_is_that_of_the_repeated_rows(rng: np.random.Generator, group: int) -> None:
    each = []
    for number in range(5):
        image = rng.permutation(IMAGES)[:25]  # rows of the weights that this ranking knows
        each.append((number, rng.random(25) < 0.3 * (number != 2), rng.integers(0, 8, 25).astype(np.float32), image))
    weights = rng.integers(0, 3, (IMAGES, DRAWS)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rankings_module, "GROUP", group)
        groups = list(rankings(each, IMAGES))
    found = {
        number: values
        for part in groups
        for number, *values in zip(part.classes, *part.average_precision(weights), strict=True)
    }
    assert sorted(found) == [number for number, positive, *_ in each if positive.any()]
    for number, (precision, positives) in found.items():
        _, positive, scores, image = each[number]
        for draw in range(DRAWS):
            times = weights[image, draw].astype(int)
            repeated, repeated_scores = np.repeat(positive, times), np.repeat(scores, times)
            assert positives[draw] == repeated.sum()
            if repeated.any():
                expected = average_precision_score(repeated, repeated_scores)
                assert precision[draw] == pytest.approx(expected, abs=1e-9)
            else:
                assert np.isnan(precision[draw])
