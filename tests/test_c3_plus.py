"""C3+ against loops from its definition, and that neither of its rankings moves what the other one trains."""

from __future__ import annotations

import pytest
import torch
from c3.train.loop import batch_loss
from c3.train.methods.base import Inputs
from c3.train.methods.c3_plus import RATE, C3Plus, C3PlusOptions
from torch import Tensor

INPUTS = Inputs({"p8": 5, "p16": 4, "p32": 3}, 6, 7)


@pytest.fixture
def model() -> C3Plus:
    """In float64, with nothing left at the zeros it starts from."""
    torch.manual_seed(0)
    model = C3Plus(INPUTS, C3PlusOptions()).double().eval()
    with torch.no_grad():
        model.gate.fill_(0.7)
        for parameter in (model.calibration.weight, model.calibration.bias, *(head.bias for head in model.heads)):
            parameter.uniform_(-0.05, 0.05)
        model.standardise.running_mean.uniform_(-1, 1)
        model.standardise.running_var.uniform_(0.5, 2)
    return model


@pytest.fixture
def arrays() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {name: torch.randn(4, *INPUTS.shape(name), dtype=torch.float64) for name in INPUTS.channels}


@pytest.fixture
def vectors() -> Tensor:
    torch.manual_seed(2)
    return torch.randn(7, 6, dtype=torch.float64)


@torch.no_grad()
def by_hand(model: C3Plus, arrays: dict[str, Tensor], vectors: Tensor, image: int) -> list[float]:
    """The scores of one image, group by group and class by class."""
    x, start = [], 0
    for name, maps in arrays.items():
        for pool in (lambda cell: cell.mean(), lambda cell: cell.max()):
            pooled = torch.stack([pool(maps[image, channel]) for channel in range(INPUTS.channels[name])])
            stop = start + len(pooled)
            deviation = (model.standardise.running_var[start:stop] + model.standardise.eps).sqrt()
            pooled, start = (pooled - model.standardise.running_mean[start:stop]) / deviation, stop
            x.append(model.heads[len(x)].weight @ pooled + model.heads[len(x)].bias)
    unit = [row / row.norm() for row in x]
    query = [model.group_attention.query.weight @ row for row in unit]
    key = [model.group_attention.key.weight @ row for row in unit]
    e = sum(x)
    for i in range(len(x)):
        for j in range(len(x)):
            e = e + model.gate * (query[i] @ key[j]) * x[j]
    scores = []
    for vector in vectors:
        log_scale, offset = RATE * (model.calibration.weight @ vector + model.calibration.bias)
        scores.append(float(log_scale.exp() * (e @ vector) + offset))
    return scores


def test_scores_equal_their_definition(model: C3Plus, arrays: dict[str, Tensor], vectors: Tensor) -> None:
    scores = model.scores(model(arrays), vectors)
    for image in range(4):
        assert scores[image].tolist() == pytest.approx(by_hand(model, arrays, vectors, image), rel=1e-9)


def test_the_shares_of_the_positions_sum_to_the_score(
    model: C3Plus, arrays: dict[str, Tensor], vectors: Tensor
) -> None:
    shares = model.responses(arrays, vectors)
    assert shares.shape == (4, 7, 7, 7)
    torch.testing.assert_close(shares.sum(dim=(2, 3)), model.scores(model(arrays), vectors))


def test_what_one_channel_has_at_one_place_is_put_there(
    model: C3Plus, arrays: dict[str, Tensor], vectors: Tensor
) -> None:
    """Moving a value that is no maximum changes the share of its own place only, by its part of the mean."""
    with torch.no_grad():
        model.gate.fill_(0.0)
    before = model.responses(arrays, vectors)[0]
    place = int(arrays["p16"][0, 2].argmin())
    moved = {name: values.clone() for name, values in arrays.items()}
    moved["p16"][0, 2].view(-1)[place] -= 1.0
    change = (model.responses(moved, vectors)[0] - before).flatten(1).abs()
    assert (change[:, place] > 1e-9).all()
    assert change.sum(dim=1).tolist() == pytest.approx(change[:, place].tolist(), rel=1e-9)


def test_calibration_never_changes_how_a_class_ranks_the_images(
    model: C3Plus, arrays: dict[str, Tensor], vectors: Tensor
) -> None:
    embedding = model(arrays)
    raw, final = model.training_scores(embedding, vectors), model.scores(embedding, vectors)
    assert torch.equal(raw.argsort(dim=0), final.argsort(dim=0))
    assert not torch.equal(raw.argsort(dim=1), final.argsort(dim=1))


def test_each_ranking_trains_its_own_weights(model: C3Plus, arrays: dict[str, Tensor], vectors: Tensor) -> None:
    labels = torch.full((4, 7), -1, dtype=torch.int8)
    labels[torch.arange(4), torch.arange(4)] = 1
    own = set(model.calibration.parameters())
    others = [p for p in model.parameters() if p not in own]
    embedding = model(arrays)
    raw = model.training_scores(embedding, vectors)
    classes = model.objective(model.calibrated(raw.detach(), vectors), labels).mean()
    assert all(g is None for g in torch.autograd.grad(classes, others, allow_unused=True, retain_graph=True))
    parts = batch_loss(model, arrays, labels, vectors)
    assert parts["loss"].item() == pytest.approx(parts["images"].item() + parts["classes"].item(), rel=1e-12)
    whole = torch.autograd.grad(parts["loss"], [*own, *others], allow_unused=True)
    assert all(g is not None and g.abs().sum() > 0 for g in whole)


def test_it_starts_as_the_sum_of_its_groups(arrays: dict[str, Tensor], vectors: Tensor) -> None:
    torch.manual_seed(0)
    fresh = C3Plus(INPUTS, C3PlusOptions()).double().eval()
    embedding = fresh(arrays)
    torch.testing.assert_close(embedding, fresh.group_vectors(arrays).sum(dim=1))
    torch.testing.assert_close(fresh.scores(embedding, vectors), embedding @ vectors.T)
