"""C3+ against loops from its definition, and what its training counts and follows."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from c3.common.errors import C3Error
from c3.train.loop import batch_loss
from c3.train.models.base import Inputs
from c3.train.models.c3_plus import FLOOR, C3Plus, C3PlusOptions
from reference_methods import dot, softmax
from torch import Tensor

INPUTS = Inputs({"p8": 5, "p16": 4, "p32": 3}, 6, 7)


@pytest.fixture
def vectors() -> Tensor:
    torch.manual_seed(2)
    return torch.randn(7, 6, dtype=torch.float64)


@pytest.fixture
def model(vectors: Tensor) -> C3Plus:
    """In float64, with nothing left at the values it starts from."""
    torch.manual_seed(0)
    model = C3Plus(INPUTS, C3PlusOptions(shrinkage=0.4, nearness=3.0, contrast=0.9)).double().eval()
    model.prepare(vectors)
    with torch.no_grad():
        model.classifier.weight.uniform_(-1, 1)
        for buffer in (model.standardise.running_mean, model.mean, model.theme_mean):
            buffer.uniform_(-0.5, 0.5)
        for buffer in (model.standardise.running_var, model.variance, model.theme_spread):
            buffer.uniform_(0.5, 2)
        model.positives.uniform_(1, 20)
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


def direction(model: C3Plus, trained: Tensor, vector: Tensor) -> Tensor:
    """u of one word vector: the covariance of the trained classes by loops, its inverse root by an eigenbasis."""
    unit = [v / v.norm() for v in trained]
    mean = sum(unit) / len(unit)
    covariance = sum(torch.outer(v - mean, v - mean) for v in unit) / len(unit)
    a = model.options.shrinkage
    shrunk = (1 - a) * covariance + a * torch.eye(6, dtype=torch.float64) * covariance.trace() / 6
    values, axes = torch.linalg.eigh(shrunk)
    centred = vector / vector.norm() - mean
    u = sum(dot(axes[:, i], centred) / values[i].sqrt() * axes[:, i] for i in range(6))
    return u / u.norm()


@torch.no_grad()
def by_hand(model: C3Plus, arrays: dict[str, Tensor], trained: Tensor, vectors: Tensor, image: int) -> list[float]:
    """The scores of one image, class by class."""
    options, norm = model.options, model.standardise
    pooled = [
        pool(maps[image, channel])
        for name, maps in arrays.items()
        for pool in (torch.mean, torch.max)
        for channel in range(INPUTS.channels[name])
    ]
    x = (torch.stack(pooled) - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
    fitted = [dot(row, x / x.norm()) for row in model.classifier.weight]
    z = [(fitted[k] - model.mean[k].item()) / (model.variance[k].item() ** 0.5 + FLOOR) for k in range(7)]
    frequency = [model.positives[k].item() / model.known[k].item() for k in range(7)]
    u = [direction(model, trained, v) for v in trained]
    pi = softmax([options.contrast * z[k] for k in range(7)])
    f = sum(pi[k] * u[k] for k in range(7))
    scores = []
    for vector in vectors:
        own = direction(model, trained, vector)
        q = softmax([options.nearness * dot(own, u[k]) for k in range(7)])
        p = math.exp(sum(q[k] * math.log(frequency[k]) for k in range(7)))
        near = sum(q[k] * z[k] for k in range(7))
        theme = dot(f / f.norm() - model.theme_mean, own) / model.theme_spread.item()
        scores.append(p + options.calibration * math.sqrt(p * (1 - p)) * (near + theme))
    return scores


def test_scores_equal_their_definition(model: C3Plus, arrays: dict[str, Tensor], vectors: Tensor) -> None:
    torch.manual_seed(3)
    asked = torch.cat([vectors, torch.randn(3, 6, dtype=torch.float64)])  # classes never trained on too
    scores = model.scores(model(arrays), asked)
    for image in range(4):
        assert scores[image].tolist() == pytest.approx(by_hand(model, arrays, vectors, asked, image), rel=1e-9)


def test_the_loss_is_the_squared_error_of_standardised_labels(
    model: C3Plus, arrays: dict[str, Tensor], vectors: Tensor, labels: Tensor
) -> None:
    z, p = model(arrays), model.positives / model.known
    by_image = []
    for image in range(4):
        errors = [
            (z[image, k] - ((labels[image, k] > 0).double() - p[k]) / (p[k] * (1 - p[k])).sqrt()) ** 2
            for k in range(7)
            if labels[image, k] != 0
        ]
        by_image.append(sum(errors).item() / 2)
    assert batch_loss(model, arrays, labels, vectors)["loss"].item() == pytest.approx(sum(by_image) / 4)


def test_training_counts_labels_and_follows_the_scores(
    model: C3Plus, arrays: dict[str, Tensor], vectors: Tensor, labels: Tensor
) -> None:
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    batch_loss(model, arrays, labels, vectors)
    assert all(torch.equal(before[name], buffer) for name, buffer in model.named_buffers())  # in eval mode
    z = model.train()(arrays).detach()
    batch_loss(model, arrays, labels, vectors)
    counted = torch.tensor([1, 1, 1, 1, 0, 0, 0], dtype=torch.float64), torch.tensor([4, 4, 4, 4, 4, 3, 4])
    torch.testing.assert_close(model.positives, before["positives"] + counted[0])
    torch.testing.assert_close(model.known, before["known"] + counted[1])
    torch.testing.assert_close(model.mean, 0.9 * before["mean"] + 0.1 * z.mean(dim=0))
    torch.testing.assert_close(model.variance, 0.9 * before["variance"] + 0.1 * z.var(dim=0))
    f = model.theme(model.compared(z))
    torch.testing.assert_close(model.theme_mean, 0.9 * before["theme_mean"] + 0.1 * f.mean(dim=0))
    spread = torch.stack([torch.stack([f[i] @ u for i in range(4)]).std() for u in model.trained]).mean()
    torch.testing.assert_close(model.theme_spread, 0.9 * before["theme_spread"] + 0.1 * spread)


def test_calibration_never_changes_how_a_class_ranks_the_images(
    model: C3Plus, arrays: dict[str, Tensor], vectors: Tensor
) -> None:
    z = model(arrays)
    before = model.scores(z, vectors)
    model.options = replace(model.options, calibration=0.01)
    after = model.scores(z, vectors)
    assert torch.equal(before.argsort(dim=0), after.argsort(dim=0))
    assert not torch.equal(before.argsort(dim=1), after.argsort(dim=1))


def test_word_vectors_count_by_direction_alone(model: C3Plus, arrays: dict[str, Tensor], vectors: Tensor) -> None:
    """Raw and normalised vectors give the same scores, and one trained class is enough to be prepared."""
    z = model(arrays)
    torch.testing.assert_close(model.scores(z, 3 * vectors), model.scores(z, vectors))
    single = C3Plus(Inputs(INPUTS.channels, 6, 1), C3PlusOptions()).double().eval()
    single.prepare(vectors[:1])
    assert single.scores(single(arrays), vectors).isfinite().all()


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(C3Error, match="setting nearness: expected a positive number, found -1"):
        C3PlusOptions(nearness=-1)


def test_the_share_of_a_position_is_what_its_pooled_channels_contribute(
    model: C3Plus, arrays: dict[str, Tensor], vectors: Tensor
) -> None:
    """Gradient times part, by autograd over what every position puts into every pooled channel, the norm of x fixed."""
    found = model.responses(arrays, vectors).detach()
    norm = model.standardise
    for image in range(4):
        parts = []
        for maps in arrays.values():
            level = maps[image].flatten(1)
            at_maximum = torch.zeros_like(level)
            for channel, values in enumerate(level):
                at_maximum[channel, values.argmax()] = values.max()
            parts += [level / 49, at_maximum]
        part = torch.cat(parts).requires_grad_()
        x = (part.sum(dim=1) - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
        scores = model.scores((model.classifier.weight @ x / x.norm().detach())[None], vectors)[0]
        torch.testing.assert_close(scores, model.scores(model(arrays), vectors)[image])
        for c in range(7):
            (gradient,) = torch.autograd.grad(scores[c], part, retain_graph=True)
            own = (gradient * part).sum(dim=0).detach()
            expected = own + (scores[c].detach() - own.sum()) / 49  # what belongs to no position is spread evenly
            torch.testing.assert_close(found[image, c].flatten(), expected)
    assert torch.unique(found[0, 0]).numel() > 40


def test_a_picture_without_positions_has_no_shares(vectors: Tensor) -> None:
    single = C3Plus(Inputs({}, 6, 7, global_vector=9), C3PlusOptions()).double().eval()
    single.prepare(vectors)
    assert single.responses({"global_vector": torch.rand(2, 9, dtype=torch.float64)}, vectors) is None
