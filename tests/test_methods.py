"""What every method of the registry must hold, and the scale at which training starts."""

from __future__ import annotations

import pytest
import torch
from c3.extract.store.layout import GLOBAL_VECTOR, REGIONS
from c3.train.loop import batch_loss
from c3.train.models.base import Inputs, Method
from c3.train.registry import METHODS
from torch import Tensor
from torch.nn.functional import normalize

SMALL = Inputs({"p8": 5, "p16": 4, "p32": 3}, 6, 7)
FULL = Inputs(
    {"p8": 5, "p16": 4, "p32": 3}, 6, 7, regions=3, global_vector=10
)  # a store with regions and global vectors
REAL = Inputs({"p8": 256, "p16": 512, "p32": 512}, 300, 199)  # VGG19 and GloVe
NAMES = [name for name in METHODS if not METHODS[name].image_text]  # those: tests/test_clip_methods.py
SCALES = {"p8": (1485.0, 0.97), "p16": (181.0, 0.5), "p32": (1.4, 0.11), REGIONS: (1.4, 0.2), GLOBAL_VECTOR: (0.5, 0.2)}


def arrays_like(inputs: Inputs, batch: int) -> dict[str, Tensor]:
    """Arrays with the means and the zero shares of VGG19 features."""
    arrays = {}
    for name in inputs.names:
        scale, kept = SCALES[name]
        shape = (batch, *inputs.shape(name))
        arrays[name] = scale * -torch.rand(shape).log() * (torch.rand(shape) < kept)
    return arrays


def labels_for(batch: int, classes: int, per_image: int = 3) -> Tensor:
    labels = torch.full((batch, classes), -1, dtype=torch.int8)
    for row in labels:
        row[torch.randperm(classes)[:per_image]] = 1
    return labels


def build(name: str, inputs: Inputs) -> tuple[Method, Tensor]:
    """An untrained method and the word vectors of its trained classes."""
    torch.manual_seed(0)
    vectors = normalize(torch.randn(inputs.classes, inputs.d_w), dim=1)
    model = METHODS[name](inputs, METHODS[name].Options())
    model.prepare(vectors)
    return model, vectors


def part(embedding: object, rows: slice) -> object:
    return tuple(x[rows] for x in embedding) if isinstance(embedding, tuple) else embedding[rows]


@pytest.mark.parametrize("name", NAMES)
def test_the_untrained_loss_is_of_order_one_on_real_sized_inputs(name: str) -> None:
    model, vectors = build(name, REAL)
    model.train()
    arrays = arrays_like(REAL, 16)
    loss = batch_loss(model, arrays, labels_for(16, 199), vectors)["loss"].item()
    assert 0.1 < (loss / 199 if name == "c3-plus" else loss) < 8  # the loss of c3-plus is a sum over classes
    assert model.scores(model(arrays), vectors).std(dim=1).mean() < 5


@pytest.mark.parametrize("inputs", [SMALL, FULL], ids=["levels", "everything"])
@pytest.mark.parametrize("name", NAMES)
def test_a_method_works_with_what_it_says_it_reads(name: str, inputs: Inputs) -> None:
    model, vectors = build(name, inputs)
    arrays = arrays_like(inputs, 3)
    read = {key: arrays[key] for key in model.reads(inputs)}
    assert model.eval().scores(model(read), vectors).shape == (3, inputs.classes)


@pytest.mark.parametrize("name", [name for name in NAMES if METHODS[name].zero_shot])
def test_scores_of_a_class_do_not_depend_on_the_other_classes(name: str) -> None:
    model, _ = build(name, SMALL)
    model.eval()
    vectors = torch.randn(7, 6)
    embedding = model(arrays_like(SMALL, 3))
    whole = model.scores(embedding, vectors)
    assert whole.shape == (3, 7)
    torch.testing.assert_close(model.scores(embedding, vectors[2:4]), whole[:, 2:4], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_receives_a_gradient(name: str) -> None:
    model, vectors = build(name, SMALL)
    model.train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(2):  # layers behind a weight that starts at zero wake up after the first step
        optimiser.zero_grad()
        batch_loss(model, arrays_like(SMALL, 16), labels_for(16, 7), vectors)["loss"].backward()
        optimiser.step()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@pytest.mark.parametrize("name", NAMES)
def test_scoring_one_image_equals_scoring_it_in_a_batch(name: str) -> None:
    model, vectors = build(name, SMALL)
    model.eval()
    arrays = arrays_like(SMALL, 4)
    whole = model.scores(model(arrays), vectors)
    alone = model.scores(model({key: values[2:3] for key, values in arrays.items()}), vectors)
    torch.testing.assert_close(alone, whole[2:3], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_agree_with_finite_differences(name: str) -> None:
    """In float64, along a random direction of all parameters at once."""
    model, vectors = build(name, SMALL)
    model, vectors = model.double().eval(), vectors.double()
    arrays = {key: values.double() for key, values in arrays_like(SMALL, 6).items()}
    labels = labels_for(6, 7)
    parameters = [p for p in model.parameters() if p.requires_grad]

    def loss() -> Tensor:
        return batch_loss(model, arrays, labels, vectors)["loss"]

    with torch.no_grad():  # away from the zeros that some layers start at
        for p in parameters:
            p += 0.05 * torch.randn_like(p)
    directions = [torch.randn_like(p) for p in parameters]
    gradients = torch.autograd.grad(loss(), parameters, allow_unused=True)
    slope = sum((g * d).sum().item() for g, d in zip(gradients, directions, strict=True) if g is not None)
    step, ends = 1e-6, []
    for sign in (1, -1):
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p += sign * step * d
            ends.append(loss().item())
            for p, d in zip(parameters, directions, strict=True):
                p -= sign * step * d
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_classes_that_nobody_labelled_in_a_batch_change_nothing(name: str) -> None:
    model, vectors = build(name, SMALL)
    model.eval()
    arrays, labels = arrays_like(SMALL, 6), labels_for(6, 7, per_image=2)
    labels[:, 3] = 0  # unknown in the whole batch
    labels[2, 5] = 0  # unknown in one image
    whole = batch_loss(model, arrays, labels, vectors)["loss"]
    moved = vectors.clone()
    moved[3] = 100.0
    torch.testing.assert_close(batch_loss(model, arrays, labels, moved)["loss"], whole)


def test_c3_and_c3_released_differ_where_the_decisions_say() -> None:
    arrays = arrays_like(SMALL, 4)
    paper, released = build("c3", SMALL)[0], build("c3-released", SMALL)[0]
    x = released.group_vectors(arrays)
    assert ((x > 0) & (x < 1)).all()
    assert (paper.train().group_vectors(arrays) < 0).any()
    assert paper(arrays).shape == released(arrays).shape == (4, 7, 6)
    assert not any("temperature" in name for name, _ in paper.named_parameters())
