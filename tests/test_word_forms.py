"""The forms of word vectors: what they are, and that training and every later use agree on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from c3.common.errors import C3Error
from c3.evaluate.score import open_store
from c3.extract.options import ExtractOptions
from c3.predict.search import Searcher
from c3.predict.tagger import Tagger, TagOptions
from c3.train import names, recipes
from c3.train.models.word_forms import NEARNESS, SHRINKAGE, WordForm, whitening
from c3.train.run import TrainOptions, train
from c3.train.run_folder import read_classes
from c3.train.scorer import restore
from torch.nn.functional import cosine_similarity

RNG = np.random.default_rng(0)
TRAINED = torch.from_numpy(RNG.normal(1, 1, size=(40, 6)) * [9, 3, 1, 1, 1, 1]).float()
OTHERS = torch.from_numpy(RNG.normal(1, 1, size=(5, 6))).float()


def test_plain_forms_know_no_class() -> None:
    assert torch.equal(WordForm("raw", TRAINED)(OTHERS), OTHERS)
    unit = OTHERS.numpy() / np.linalg.norm(OTHERS.numpy(), axis=1, keepdims=True)
    np.testing.assert_allclose(WordForm("l2", TRAINED)(OTHERS).numpy(), unit, rtol=1e-6)
    assert not list(WordForm("l2", TRAINED).parameters())


def test_whitening_makes_the_directions_of_trained_classes_alike_but_for_the_shrinkage() -> None:
    unit = TRAINED.double() / TRAINED.double().norm(dim=1, keepdim=True)
    for shrinkage, alike in ((0.0, torch.eye(6).double()), (1.0, None)):
        centre, matrix = whitening(TRAINED, shrinkage)
        white = (unit - centre.double()) @ matrix.double()
        covariance = white.T @ white / len(white)
        if alike is not None:
            torch.testing.assert_close(covariance, alike, atol=1e-4, rtol=0)
        else:  # nothing but one scale: the covariance of the directions, divided by its mean variance
            plain = torch.cov(unit.T, correction=0)
            torch.testing.assert_close(covariance, plain * 6 / plain.trace(), atol=1e-4, rtol=0)


def test_fewer_classes_than_dimensions_can_be_whitened() -> None:
    form = WordForm("whitened", TRAINED[:3])
    assert torch.isfinite(form(OTHERS)).all()
    torch.testing.assert_close(form(OTHERS).norm(dim=1), torch.ones(5))


def test_an_interpolated_vector_is_a_mean_of_the_trained_ones_by_their_nearness() -> None:
    white, form = WordForm("whitened", TRAINED), WordForm("interpolated", TRAINED)
    torch.testing.assert_close(form.trained, white(TRAINED))  # training takes the classes themselves
    own, trained = white(OTHERS), white(TRAINED)
    for word, found in zip(own, form(OTHERS), strict=True):
        weight = torch.exp(NEARNESS * cosine_similarity(word[None], trained))
        torch.testing.assert_close(found, (weight[:, None] * trained).sum(0) / weight.sum(), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(form(OTHERS), own, atol=0.1)
    assert 0 < SHRINKAGE < 1


def test_recipes_take_every_form_and_no_other() -> None:
    for form in names.WORD_FORMS:
        assert recipes.LoopOptions(vectors=form).vectors == form
    with pytest.raises(C3Error, match="whitend"):
        recipes.LoopOptions(vectors="whitend")


@pytest.mark.parametrize("form", names.WORD_FORMS)
def test_scores_of_a_store_and_of_pictures_use_the_vectors_of_the_training(
    finished: ExtractOptions, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"epochs": 1, "batch_size": 8, "vectors": form}
    run = train(TrainOptions(finished.out, "labelem", tmp_path, settings=settings))
    classes = read_classes(run)
    given = torch.from_numpy(classes.vectors)
    expected = WordForm(form, given[torch.from_numpy(classes.seen)])(given)
    torch.testing.assert_close(restore(run, open_store(run), torch.device("cpu")).vectors, expected)
    tagger, searcher = Tagger.load(run.path, device="cpu"), Searcher.load(finished.out, run.path, device="cpu")
    torch.testing.assert_close(tagger._own.vectors, expected)
    monkeypatch.setattr("c3.train.models.word_forms.whitening", lambda *_: pytest.fail("whitened for a question"))
    words = list(classes.names)
    torch.testing.assert_close(tagger._question(TagOptions(vocabulary=words)).scorer.vectors, expected)
    assert [found.word for found in searcher.search(words)] == words


@pytest.mark.parametrize(("form", "needs"), [("l2", False), ("interpolated", True)])
def test_only_forms_by_the_trained_classes_need_them(
    finished: ExtractOptions, tmp_path: Path, form: str, needs: bool
) -> None:
    run = train(TrainOptions(finished.out, "labelem", tmp_path, {"epochs": 1, "batch_size": 8, "vectors": form}))
    (run.path / "classes.npz").unlink()
    if needs:
        with pytest.raises(C3Error, match=r"classes\.npz is missing"):
            restore(run, open_store(run), torch.device("cpu"))
    else:
        assert restore(run, open_store(run), torch.device("cpu")).vectors.shape[0] == run.record.inputs.classes + 1
