"""Probabilities: fitted on seen classes of validation, against slow fits; stored, read back, and what is refused."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from c3.common.errors import C3Error
from c3.evaluate.evidence import Evidence
from c3.evaluate.fit_probabilities import (
    INTERCEPT,
    SHARED,
    SLOPE,
    Known,
    class_lines,
    fit_probabilities,
    known_labels,
)
from c3.evaluate.probabilities import Probabilities, log_odds, probabilities_of
from c3.evaluate.protocol import TABLE
from c3.evaluate.reliability import binned, reliability
from c3.train.run_folder import Bins, ClassMap, OtherMap, ProbabilityMaps, Run, SharedMap, open_run, write_json
from reference_metrics import evidence_of, truth_of
from run_files import run_json
from scipy.optimize import minimize
from scipy.special import expit

IMAGES, CLASSES = 600, 12
SEEN = np.arange(CLASSES) < 9


def simulated(odds: Callable[[np.ndarray], np.ndarray] = lambda scores: 2 * scores - 3, absent: int = -1) -> Evidence:
    """Labels that are positive with the log odds `odds` of their scores, plus a number of their class."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(IMAGES, CLASSES)).astype(np.float32)
    labels = np.where(rng.random(scores.shape) < expit(odds(scores) + np.resize([-1, 0, 1], CLASSES)), 1, -1)
    return evidence_of(truth_of(labels.astype(np.int8), SEEN, absent), scores, TABLE)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return run_in(tmp_path, "one")


def run_in(root: Path, name: str, **config: int) -> Run:
    (root / name).mkdir(parents=True)
    write_json(root / name / "run.json", run_json(name, config=config))
    return open_run(root / name)


def fitted(run: Run, evidence: Evidence) -> ProbabilityMaps:
    assert fit_probabilities(run, evidence)
    return probabilities_of(run).maps


def test_a_class_has_the_best_line_under_its_priors() -> None:
    evidence = simulated()
    known = known_labels(evidence, np.flatnonzero(SEEN), np.arange(IMAGES) % 7 == 0)
    shared = SharedMap("platt", (-1.0, 1.0), (-4.0, 1.0))
    lines = class_lines(known, shared, 10)
    for c in range(9):
        own = known.take(known.group == c)
        z = log_odds(shared, own.scores)

        def loss(line: np.ndarray, z: np.ndarray = z, positive: np.ndarray = own.positive) -> float:
            odds = line[0] * z + line[1]
            prior = (line[0] - 1) ** 2 / SLOPE**2 + line[1] ** 2 / INTERCEPT**2
            return float((np.logaddexp(0, odds) - positive * odds).sum() + prior / 2)

        np.testing.assert_allclose(lines[c], minimize(loss, [1, 0], bounds=[(0, None), (None, None)]).x, atol=1e-3)
    assert lines[9].tolist() == [1, 0]  # no label at all


def test_a_class_whose_labels_contradict_its_scores_has_one_probability() -> None:
    positive = np.repeat([True, False], 200)
    known = Known(np.zeros(400, int), np.arange(400), positive, np.where(positive, -2.0, 2.0))
    slope, intercept = class_lines(known, SharedMap("platt", (-1.0, 1.0), (-1.0, 1.0)), 1)[0]
    assert slope == 0 and intercept == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", SHARED)
def test_a_shared_map_finds_the_odds_that_made_the_labels(kind: str) -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(size=20_000)
    known = Known(np.zeros(20_000, int), np.arange(20_000), rng.random(20_000) < expit(2 * scores - 3), scores)
    shared = SHARED[kind](known)
    at = np.linspace(-1.5, 2, 20)
    np.testing.assert_allclose(expit(log_odds(shared, at)), expit(2 * at - 3), atol=0.04)
    assert (np.diff(log_odds(shared, np.linspace(-9, 9, 50))) >= 0).all()


@pytest.mark.parametrize(("odds", "kind"), [
    (lambda scores: 2 * scores - 3, "platt"), (lambda scores: np.where(scores > 1, 1.5, -4), "isotonic"),
], ids=["line", "step"])  # fmt: skip
def test_the_smaller_error_on_images_left_out_chooses(
    run: Run, odds: Callable[[np.ndarray], np.ndarray], kind: str
) -> None:
    maps = fitted(run, simulated(odds))
    assert maps.shared.kind == kind == min(maps.errors, key=maps.errors.get)


def test_calibration_brings_the_error_down_on_other_images(run: Run) -> None:
    evidence = simulated()
    held_out = fit_probabilities(run, evidence)
    found = reliability(evidence, probabilities_of(run))
    for one in (held_out, found["seen"], found["unseen"]):
        assert one.after.error < 0.04 < 0.15 < one.before.error
    assert held_out.before == found["seen"].before
    assert sum(found["unseen"].after.labels) == 3 * IMAGES


def test_labels_of_unseen_classes_decide_nothing(run: Run, tmp_path: Path) -> None:
    evidence = simulated()
    written = fitted(run, evidence)
    labels = evidence.truth.labels
    other = replace(labels, value=np.where(SEEN[labels.indices], labels.value, -1).astype(np.int8))
    changed = replace(evidence, truth=replace(evidence.truth, labels=other))
    assert fitted(run_in(tmp_path, "two"), changed) == written
    assert {one.name for one in written.classes} == {f"class{c}" for c in range(9)}


def test_known_labels_alone_count_where_labels_are_sparse(run: Run) -> None:
    """Of a store that lists every negative, the fit is the same whether an unlisted label is unknown or negative."""
    assert fitted(run, simulated()) == fitted(run, simulated(absent=0))


def test_words_have_the_line_of_their_class_or_that_of_all_others() -> None:
    own = {"positives": 3, "slope": 2.0, "intercept": -1.0}
    maps = ProbabilityMaps(9, 9, {}, "clipped", SharedMap("platt", (0.0, 2.0), (-2.0, 2.0)), OtherMap(0.5, 1.0, 3), ())
    found = Probabilities(replace(maps, classes=(ClassMap("Café", **own),))).of(["Cafe\u0301", "tram"], [[0.0, 3.0]])
    np.testing.assert_allclose(found, [[expit(2 * -2 - 1), expit(0.5 * 4 + 1)]])


def test_other_classes_follow_the_folds_of_the_run(tmp_path: Path) -> None:
    evidence = simulated(lambda scores: np.where(SEEN, 2 * scores - 3, 0.5 * scores - 2))
    run = run_in(tmp_path, "one")
    lines = []
    for fold in (0, 1):
        assert fitted(run, evidence).other == OtherMap()  # a fold is missing
        own = run_in(tmp_path / "folds", f"fold{fold}", folds=2, fold=fold)
        part = evidence if fold else simulated(lambda scores: np.where(SEEN, 2 * scores - 3, scores - 2))
        fit_probabilities(own, part, folds=2)
        lines.append(probabilities_of(own).maps.other)
    run_in(tmp_path / "folds", "of-another-setting", folds=2, fold=0, epochs=3)
    other = fitted(run, evidence).other
    assert other.folds == 2
    assert (other.slope, other.intercept) == pytest.approx(np.mean([(x.slope, x.intercept) for x in lines], axis=0))
    assert lines[1].slope < lines[0].slope < 0.8
    assert reliability(evidence, probabilities_of(run))["unseen"].after.error < 0.06


def test_a_small_validation_split_is_said_in_one_line(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    evidence = simulated()
    truth = evidence.truth
    few = truth.labels.take(np.arange(19))
    small = replace(evidence, truth=replace(truth, ids=truth.ids[:19], labels=few, of_row=truth.of_row[:19]))
    small = replace(small, every=evidence.every[:, :19], listed=evidence.listed[: len(few.indices)])
    with caplog.at_level(logging.INFO, logger="c3"):
        assert fit_probabilities(run, small) is None
    (line,) = caplog.messages
    assert "and 19 with a negative label, and 20 of each are needed" in line
    assert probabilities_of(run) is None


@pytest.mark.parametrize(("change", "told"), [
    (lambda content: content.update(schema=2), "has schema 2, this c3 reads schema 1; install a newer c3"),
    (lambda content: content.pop("shared"), "entry shared is missing"),
    (lambda content: content["classes"][0].update(slope=-1.0), "entry classes.0.slope: expected at least 0, found -1"),
    (lambda content: content["classes"][0].update(slope=float("nan")), "entry classes.0.slope"),
    (lambda content: content["shared"].update(scores=[1.0, 1.0]), "expected scores that ascend, found 1.0 after 1.0"),
    (lambda content: content["shared"].update(logits=[1.0]), "expected as many log odds as scores"),
], ids=["newer", "missing", "falling", "no number", "order", "length"])  # fmt: skip
def test_a_damaged_file_is_one_line(run: Run, change: Callable[[dict], object], told: str) -> None:
    fit_probabilities(run, simulated())
    path = run.path / "probabilities.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(C3Error, match=told) as raised:
        probabilities_of(run)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_a_file_that_is_cut_off_is_one_line(run: Run) -> None:
    fit_probabilities(run, simulated())
    path = run.path / "probabilities.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(C3Error, match=f"cannot be read as json.*write it again: c3 evaluate --run {run.path}"):
        probabilities_of(run)


def test_the_expected_calibration_error_is_the_mean_distance_of_bins() -> None:
    p, positive = np.array([0.01, 0.05, 0.5, 0.5, 1.0]), np.array([False, True, True, False, True])
    found = binned(p, positive)
    assert [found.labels[b] for b in (0, 7, 14)] == [2, 2, 1] and sum(found.labels) == 5
    assert found.error == pytest.approx((2 * abs(0.03 - 0.5) + 2 * 0 + 0) / 5)
    assert found.likely_error == pytest.approx(0)
    assert Bins((3, 0), (0.1, 0.0), (0.2, 0.0)).likely_error is None
