"""What the equations of C3 leave open: each option against its definition."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from c3.common.errors import C3Error
from c3.train.loop import batch_loss
from c3.train.models.base import Inputs
from c3.train.models.c3 import C3, SCALAR, C3Options
from c3.train.models.c3_released import C3Released
from c3.train.models.losses import group_spread, has_pair, inner_weight, mean_over
from c3.train.models.objectives import Objective
from c3.train.recipes import LoopOptions
from c3.train.training_state import TrainingState
from torch import Tensor

INPUTS = Inputs({"p8": 5, "p16": 4, "p32": 3}, 6, 7)
SMALL = C3Options(groups=2, width=8)


def build(options: C3Options, kind: type[C3] = C3) -> C3:
    torch.manual_seed(0)
    return kind(INPUTS, options).double()


@pytest.fixture
def arrays() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {name: torch.rand(4, *INPUTS.shape(name), dtype=torch.float64) for name in INPUTS.channels}


def test_the_shuffle_only_renames_what_a_dense_projection_computes(arrays: dict[str, Tensor]) -> None:
    shuffled, plain = build(SMALL).eval(), build(replace(SMALL, shuffle=False)).eval()
    assert plain.projection.shuffle.tolist() == list(range(12))
    state = dict(shuffled.state_dict())
    order = state.pop("projection.shuffle")
    assert not torch.equal(order, plain.projection.shuffle)
    renamed = {
        name: value[order] if name.startswith("projection.project") and value.dim() else value
        for name, value in state.items()
    }
    plain.load_state_dict(renamed | {"projection.shuffle": plain.projection.shuffle})
    torch.testing.assert_close(plain(arrays), shuffled(arrays))


@pytest.mark.parametrize("kind", [C3, C3Released])
def test_x_scale_is_a_batch_norm_one_number_or_nothing(arrays: dict[str, Tensor], kind: type[C3]) -> None:
    models = {name: build(replace(SMALL, x_scale=name), kind) for name in ("batchnorm", "scalar", "none")}
    sizes = {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}
    assert sizes["batchnorm"] - sizes["none"] == 2 * 2 * 6
    assert sizes["scalar"] - sizes["none"] == 1
    for model in models.values():
        model.load_state_dict(models["none"].state_dict(), strict=False)
        model.eval()
    x = models["none"].cells(arrays).amax(dim=-2)
    start = SCALAR * 6**-0.5 if kind is C3 else 1.0
    scaled, plain = start * x, x
    if kind is C3Released:
        scaled, plain = scaled.sigmoid(), plain.sigmoid()
    torch.testing.assert_close(models["scalar"].group_vectors(arrays), scaled)
    torch.testing.assert_close(models["none"].group_vectors(arrays), plain)


def test_x_scale_unit_gives_every_image_the_same_norm(arrays: dict[str, Tensor]) -> None:
    model, plain = build(replace(SMALL, x_scale="unit")), build(replace(SMALL, x_scale="none"))
    plain.load_state_dict(model.state_dict(), strict=False)
    x = plain.train().cells(arrays).amax(dim=-2).flatten(1)
    expected = (x - x.mean(dim=0)) / (x.var(dim=0, unbiased=False) + 1e-5).sqrt()
    expected = 3 * 2**0.5 * expected / expected.norm(dim=1, keepdim=True)
    with torch.no_grad():
        model.standardise.scale.fill_(3)
    torch.testing.assert_close(model.train().group_vectors(arrays).flatten(1), expected)


def test_init_torch_leaves_the_initial_values_of_torch() -> None:
    ours, plain = build(SMALL), build(replace(SMALL, init="torch"))
    assert ours.projection.project[1].weight.unique().tolist() == pytest.approx([6**-0.5])
    assert plain.projection.project[1].weight.unique().tolist() == [1]
    assert torch.equal(ours.group_attention.query.weight, torch.eye(6).double())
    assert torch.equal(plain.projection.project[0].weight, ours.projection.project[0].weight)
    for name in ("group_attention.query.weight", "encoder.mixer.mlp2.2.weight"):
        values = plain.get_parameter(name)
        assert 0 < values.abs().max() < 1
        assert not torch.equal(values, ours.get_parameter(name))


def test_width_is_that_of_the_deepest_level_and_twice_that_of_the_others() -> None:
    widths = [branch[1].out_features for branch in build(replace(SMALL, width=10)).projection.branches]
    assert widths == [5, 5, 10]
    assert [branch[1].out_features for branch in build(C3Options()).projection.branches] == [512, 512, 1024]


def test_levels_stay_as_stored_without_standardise_levels(arrays: dict[str, Tensor]) -> None:
    model = build(replace(SMALL, standardise_levels=False)).train()
    seen: list[Tensor] = []
    model.projection.branches[0][1].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    model(arrays)
    torch.testing.assert_close(seen[0], arrays["p8"].flatten(2).transpose(1, 2).flatten(0, 1))


def test_channel_dropout_removes_whole_channels_of_an_image_in_training(arrays: dict[str, Tensor]) -> None:
    model = build(replace(SMALL, channel_dropout=0.5))
    whole = build(SMALL)
    seen: list[Tensor] = []
    for m in (model, whole):
        m.projection.branches[0][1].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        m.train()(arrays)
    dropped, kept = (rows.unflatten(0, (4, 49)) for rows in seen)
    gone = (dropped == 0).all(dim=1)
    assert 0 < gone.sum() < gone.numel()
    torch.testing.assert_close(dropped, torch.where(gone[:, None], 0.0, 2 * kept))
    torch.testing.assert_close(model.eval()(arrays), model(arrays))


def test_dropout_acts_on_the_numbers_of_x_in_training_alone(arrays: dict[str, Tensor]) -> None:
    model, whole = build(replace(SMALL, dropout=0.5)), build(SMALL)
    x, expected = model.train().group_vectors(arrays), whole.train().group_vectors(arrays)
    gone = x == 0
    assert 0 < gone.sum() < gone.numel()
    torch.testing.assert_close(x, torch.where(gone, 0.0, 2 * expected))
    torch.testing.assert_close(model.eval()(arrays), model(arrays))


@pytest.mark.parametrize("objective", ["ranknet", "across", "both"])
def test_omega_within_weighs_the_loss_of_equation_12(arrays: dict[str, Tensor], objective: str) -> None:
    model = build(replace(SMALL, omega="within", objective=objective, lambda_reg=0.25)).eval()
    vectors = torch.randn(7, 6, dtype=torch.float64)
    labels = torch.full((4, 7), -1, dtype=torch.int8)
    labels[torch.arange(4), torch.arange(4)] = labels[0, 5] = 1
    s = model(arrays)
    fits = Objective(objective, *vectors.shape)
    rank = fits(model.scores(s, vectors), labels, inner_weight(labels, vectors))
    expected = 0.75 * rank + 0.25 * mean_over(group_spread(s), has_pair(labels))
    torch.testing.assert_close(batch_loss(model, arrays, labels, vectors)["loss"], expected)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"x_scale": "layernorm"}, "setting x_scale: expected one of batchnorm, unit, scalar, none, found 'layernorm'"),
        ({"omega": "all"}, "setting omega: expected between or within, found 'all'"),
        ({"init": "ours"}, "setting init: expected scaled or torch, found 'ours'"),
    ],
    ids=["x_scale", "omega", "init"],
)
def test_an_unknown_value_lists_the_known_ones(wrong: dict[str, str], said: str) -> None:
    with pytest.raises(C3Error, match=said):
        C3Options(**wrong)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_adamw_shrinks_a_weight_without_a_gradient_by_lr_times_decay(optimizer: str) -> None:
    model = build(SMALL)
    before = model.projection.project[0].weight.detach().clone()
    options = LoopOptions(lr=0.1, weight_decay=0.5, optimizer=optimizer)
    state = TrainingState(model, options, torch.device("cpu"))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    state.optimiser.step()
    after = model.projection.project[0].weight
    if optimizer == "adamw":
        torch.testing.assert_close(after.detach(), 0.95 * before)
    else:  # the decay is the whole gradient, and a step of Adam has the size of the learning rate
        torch.testing.assert_close(after.detach(), before - 0.1 * before.sign(), rtol=1e-3, atol=1e-3)
