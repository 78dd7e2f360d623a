"""What every method of the registry must hold, and the scale at which training starts."""

from __future__ import annotations

import pytest
import torch
from c3.train.methods.base import Inputs
from c3.train.registry import METHODS
from torch import Tensor
from torch.nn.functional import normalize

SMALL = Inputs({"p8": 5, "p16": 4, "p32": 3}, 6)
REAL = Inputs({"p8": 256, "p16": 512, "p32": 512}, 300)  # VGG19 and GloVe
NAMES = list(METHODS)


def levels_like(inputs: Inputs, batch: int) -> dict[str, Tensor]:
    """Maps with the means and the zero shares of pooled VGG19 features."""
    scales = dict(zip(inputs.channels, (1485.0, 181.0, 1.4), strict=True))
    kept = dict(zip(inputs.channels, (0.97, 0.5, 0.11), strict=True))
    return {
        name: scales[name] * -torch.rand(batch, count, 7, 7).log() * (torch.rand(batch, count, 7, 7) < kept[name])
        for name, count in inputs.channels.items()
    }


def labels_for(batch: int, classes: int, per_image: int = 3) -> Tensor:
    labels = torch.full((batch, classes), -1, dtype=torch.int8)
    for row in labels:
        row[torch.randperm(classes)[:per_image]] = 1
    return labels


def build(name: str, inputs: Inputs) -> torch.nn.Module:
    torch.manual_seed(0)
    return METHODS[name](inputs, METHODS[name].Options())


@pytest.mark.parametrize("name", NAMES)
def test_the_untrained_loss_is_of_order_one_on_real_sized_inputs(name: str) -> None:
    model = build(name, REAL).train()
    vectors = normalize(torch.randn(199, 300), dim=1)
    embedding = model(levels_like(REAL, 16))
    parts = model.loss(embedding, labels_for(16, 199), vectors)
    assert 0.1 < parts["loss"].item() < 5
    assert model.scores(embedding, vectors).std(dim=1).mean() < 5


@pytest.mark.parametrize("name", NAMES)
def test_scores_of_a_class_do_not_depend_on_the_other_classes(name: str) -> None:
    model = build(name, SMALL).eval()
    vectors = torch.randn(7, 6)
    embedding = model(levels_like(SMALL, 3))
    whole = model.scores(embedding, vectors)
    assert whole.shape == (3, 7)
    torch.testing.assert_close(model.scores(embedding, vectors[2:4]), whole[:, 2:4])


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_receives_a_gradient(name: str) -> None:
    model = build(name, SMALL).train()
    vectors = normalize(torch.randn(7, 6), dim=1)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(2):  # layers behind a weight that starts at zero wake up after the first step
        optimiser.zero_grad()
        model.loss(model(levels_like(SMALL, 16)), labels_for(16, 7), vectors)["loss"].backward()
        optimiser.step()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@pytest.mark.parametrize("name", NAMES)
def test_scoring_one_image_equals_scoring_it_in_a_batch(name: str) -> None:
    model = build(name, SMALL).eval()
    levels = levels_like(SMALL, 4)
    alone = model({level: maps[2:3] for level, maps in levels.items()})
    torch.testing.assert_close(alone, model(levels)[2:3], rtol=1e-4, atol=1e-5)


def test_c3_and_c3_released_differ_where_the_decisions_say() -> None:
    levels = levels_like(SMALL, 4)
    paper, released = build("c3", SMALL), build("c3-released", SMALL)
    x = released.group_vectors(levels)
    assert ((x > 0) & (x < 1)).all()
    assert (paper.train().group_vectors(levels) < 0).any()
    assert paper(levels).shape == released(levels).shape == (4, 7, 6)
    assert not any("temperature" in name for name, _ in paper.named_parameters())
