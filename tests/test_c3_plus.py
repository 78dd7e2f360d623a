"""C3+ against loops from its definition, and that neither of its rankings moves what the other one trains."""

from __future__ import annotations

import pytest
import torch
from c3.common.errors import C3Error
from c3.train.loop import batch_loss
from c3.train.models.base import Inputs
from c3.train.models.c3_plus import RATE, C3Plus, C3PlusOptions
from c3.train.models.losses import across, has_pair, mean_over
from torch import Tensor

INPUTS = Inputs({"p8": 5, "p16": 4, "p32": 3}, 6, 7)


@pytest.fixture
def vectors() -> Tensor:
    torch.manual_seed(2)
    return torch.randn(7, 6, dtype=torch.float64)


@pytest.fixture
def model(vectors: Tensor) -> C3Plus:
    """In float64, with nothing left at the zeros it starts from."""
    torch.manual_seed(0)
    model = C3Plus(INPUTS, C3PlusOptions(top=3)).double().eval()
    model.prepare(vectors)
    with torch.no_grad():
        model.gate.fill_(0.7)
        for parameter in (model.calibration.weight, model.calibration.bias, *(head.bias for head in model.heads)):
            parameter.uniform_(-0.05, 0.05)
        model.standardise.running_mean.uniform_(-1, 1)
        model.standardise.running_var.uniform_(0.5, 2)
        model.spread.copy_(torch.tensor([1.5, 0.25]))
    return model


@pytest.fixture
def arrays() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {name: torch.randn(4, *INPUTS.shape(name), dtype=torch.float64) for name in INPUTS.channels}


@pytest.fixture
def labels() -> Tensor:
    labels = torch.full((4, 7), -1, dtype=torch.int8)
    labels[torch.arange(4), torch.arange(4)] = 1
    labels[1, 5] = 0
    return labels


@torch.no_grad()
def by_hand(model: C3Plus, arrays: dict[str, Tensor], vectors: Tensor, image: int) -> list[float]:
    """The scores of one image, group by group and class by class."""
    pooled = [
        torch.stack([pool(maps[image, channel]) for channel in range(INPUTS.channels[name])])
        for name, maps in arrays.items()
        for pool in (torch.mean, torch.max)
    ]
    z = torch.cat(pooled) - model.standardise.running_mean
    z = z / (model.standardise.running_var + model.standardise.eps).sqrt()
    z = z / z.norm() * len(z) ** 0.5
    x = [head.weight @ part + head.bias for head, part in zip(model.heads, z.split(model.widths), strict=True)]
    unit = [row / row.norm() for row in x]
    query = [model.group_attention.query.weight @ row for row in unit]
    key = [model.group_attention.key.weight @ row for row in unit]
    e = sum(x)
    for i in range(len(x)):
        for j in range(len(x)):
            e = e + model.gate * (query[i] @ key[j]) * x[j]
    logits = model.combination.classifier.weight @ z + model.combination.classifier.bias
    p = [float(1 / (1 + (-(model.presence.scale * value + model.presence.offset)).exp())) for value in logits]
    best = sorted(range(7), key=lambda c: -p[c])[:3]
    f = sum(p[c] * model.combination.trained[c] for c in best)
    scores = []
    for vector in vectors:
        cosine = (f @ vector) / (f.norm() * vector.norm())
        mixed = (e @ vector) / 1.5 + 0.5 * cosine / 0.25
        log_scale, offset = RATE * (model.calibration.weight @ vector + model.calibration.bias)
        scores.append(float(log_scale.exp() * mixed + offset))
    return scores


def test_scores_equal_their_definition(model: C3Plus, arrays: dict[str, Tensor], vectors: Tensor) -> None:
    torch.manual_seed(3)
    asked = torch.cat([vectors, torch.randn(3, 6, dtype=torch.float64)])  # classes never trained on too
    scores = model.scores(model(arrays), asked)
    for image in range(4):
        assert scores[image].tolist() == pytest.approx(by_hand(model, arrays, asked, image), rel=1e-9)


def test_calibration_never_changes_how_a_class_ranks_the_images(
    model: C3Plus, arrays: dict[str, Tensor], vectors: Tensor
) -> None:
    embedding = model(arrays)
    mixed, final = model.mixed(model.opinions(embedding, vectors)), model.scores(embedding, vectors)
    assert torch.equal(mixed.argsort(dim=0), final.argsort(dim=0))
    assert not torch.equal(mixed.argsort(dim=1), final.argsort(dim=1))


def test_each_part_of_the_loss_trains_its_own_weights(
    model: C3Plus, arrays: dict[str, Tensor], vectors: Tensor, labels: Tensor
) -> None:
    parts = {name for name, _ in model.named_parameters()}
    calibration = {name for name in parts if name.startswith("calibration")}
    classifier = {name for name in parts if name.startswith(("combination", "presence"))}
    loss = batch_loss(model, arrays, labels, vectors)
    assert loss["loss"].item() == pytest.approx(sum(loss[name].item() for name in ("images", "presence", "classes")))
    loss["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    together = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    raw = model.training_scores(model(arrays), vectors)
    mean_over(across(raw, labels), has_pair(labels.T)).backward()
    for name, p in model.named_parameters():
        if name in calibration | classifier:
            assert p.grad is None, name
        else:
            torch.testing.assert_close(p.grad, together[name], msg=name)


def test_spreads_follow_the_opinions_in_training_only(
    model: C3Plus, arrays: dict[str, Tensor], vectors: Tensor, labels: Tensor
) -> None:
    before = model.spread.clone()
    batch_loss(model, arrays, labels, vectors)
    assert torch.equal(model.spread, before)
    found = model.opinions(model.train()(arrays), vectors).detach()
    expected = [0.9 * float(before[k]) + 0.1 * float(found[k].std(dim=0).mean()) for k in range(2)]
    batch_loss(model, arrays, labels, vectors)
    assert model.spread.tolist() == pytest.approx(expected, rel=1e-6)


def test_it_starts_as_the_sum_of_its_groups(arrays: dict[str, Tensor], vectors: Tensor) -> None:
    torch.manual_seed(0)
    fresh = C3Plus(INPUTS, C3PlusOptions(neighbours=0)).double().eval()
    fresh.prepare(vectors)
    e, _ = embedding = fresh(arrays)
    torch.testing.assert_close(fresh.scores(embedding, vectors), e @ vectors.T)
    assert fresh.options.neighbours == 0
    with pytest.raises(C3Error, match="setting neighbours: expected 0 or more, found -1"):
        C3PlusOptions(neighbours=-1)
