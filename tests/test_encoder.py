"""Equations 1-7 against loops written from the paper, position by position."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from c3.train.models.attention import GroupAttention, linear, perceptron
from c3.train.models.base import Inputs
from c3.train.models.c3 import C3, C3Options
from c3.train.models.encoder import (
    ChannelAttention,
    DenseChannelAttention,
    MixerBlock,
    ML2PEncoder,
    PyramidProjection,
    StandardisedGroups,
)
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

BATCH, GROUPS, D_W = 2, 3, 4


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture
def groups() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(BATCH, GROUPS, 49, D_W, dtype=torch.float64)


def test_channel_attention_equals_equations_1_to_3(groups: Tensor) -> None:
    attention = ChannelAttention(GROUPS, D_W).double()
    out = attention(groups)
    for image in range(BATCH):
        for group in range(GROUPS):
            feature = groups[image, group].T  # (d_w, positions)
            query, key, value = (attention.weight[group, :, part].T @ feature for part in range(3))  # eq. 1
            for target in range(D_W):
                products = [float(key[source] @ query[target]) for source in range(D_W)]
                total = sum(math.exp(product) for product in products)
                expected = feature[target].clone()  # the residual of eq. 3
                for source in range(D_W):
                    expected += value[source] * (math.exp(products[source]) / total)  # eq. 2
                torch.testing.assert_close(out[image, group, :, target], expected)


@pytest.mark.parametrize("make", [ChannelAttention, DenseChannelAttention])
def test_the_relation_of_channels_is_never_held_in_memory(make: Callable[..., torch.nn.Module]) -> None:
    cells = torch.randn(BATCH, GROUPS, 49, D_W)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # refuses what this kernel cannot take
        assert make(GROUPS, D_W)(cells).shape == cells.shape


def test_gradients_find_their_way_back_through_the_shuffle() -> None:
    torch.manual_seed(0)
    pyramid = PyramidProjection({"p8": 5, "p16": 4, "p32": 3}, GROUPS, D_W).double().eval()
    level = torch.rand(1, 3, 7, 7, dtype=torch.float64, requires_grad=True)
    others = {"p8": torch.rand(1, 5, 7, 7).double(), "p16": torch.rand(1, 4, 7, 7).double()}
    with torch.enable_grad():
        assert torch.autograd.gradcheck(lambda value: pyramid(others | {"p32": value})[0, :, 10], level)


def test_groups_have_their_own_weights(groups: Tensor) -> None:
    attention = ChannelAttention(GROUPS, D_W).double()
    before = attention(groups)
    attention.weight[1] += torch.randn(D_W, 3, D_W)
    changed = (attention(groups) != before).flatten(start_dim=2).any(dim=2)
    assert changed.tolist() == [[False, True, False]] * BATCH


def test_released_attention_equals_its_definition(groups: Tensor) -> None:
    torch.manual_seed(1)
    attention = DenseChannelAttention(GROUPS, D_W).double()
    attention.temperature.copy_(torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1))
    channels = 3 * GROUPS * D_W
    image = groups[0].transpose(1, 2).reshape(GROUPS * D_W, 49)
    dense = attention.qkv.weight @ image
    padded = torch.nn.functional.pad(dense.reshape(channels, 7, 7), (1, 1, 1, 1))
    local = torch.zeros(channels, 7, 7, dtype=torch.float64)
    for row in range(3):
        for column in range(3):
            local += (
                attention.local.weight[:, 0, row, column].view(-1, 1, 1) * padded[:, row : row + 7, column : column + 7]
            )
    query, key, value = local.reshape(3, GROUPS, D_W, 49)
    out = attention(groups)
    for group in range(GROUPS):
        for target in range(D_W):
            q = query[group, target] / query[group, target].norm()
            weights = [
                math.exp(float(attention.temperature[group]) * float(q @ (key[group, s] / key[group, s].norm())))
                for s in range(D_W)
            ]
            expected = sum(weights[s] * value[group, s] for s in range(D_W)) / sum(weights)
            torch.testing.assert_close(out[0, group, :, target], expected)


def layer_norm(values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return (values - values.mean()) / (values.var(unbiased=False) + 1e-5).sqrt() * weight + bias


def perceptron_by_hand(network: torch.nn.Sequential, values: Tensor) -> Tensor:
    hidden = network[0].weight @ values + network[0].bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))  # GELU
    return network[2].weight @ hidden + network[2].bias


def test_mixer_equals_equations_4_and_5(groups: Tensor) -> None:
    mixer = MixerBlock(D_W, reduction=2).double()
    torch.nn.init.normal_(mixer.norm1.weight)
    torch.nn.init.normal_(mixer.norm2.bias)
    out = mixer(groups)
    cells = groups[0, 1].clone()  # (positions, d_w)
    normed = torch.stack([layer_norm(cell, mixer.norm1.weight, mixer.norm1.bias) for cell in cells])
    for channel in range(D_W):
        cells[:, channel] += perceptron_by_hand(mixer.mlp1, normed[:, channel])
    for position in range(49):
        normed_cell = layer_norm(cells[position], mixer.norm2.weight, mixer.norm2.bias)
        cells[position] = cells[position] + perceptron_by_hand(mixer.mlp2, normed_cell)
    torch.testing.assert_close(out[0, 1], cells)


def test_encoder_takes_the_maximum_over_positions(groups: Tensor) -> None:
    encoder = ML2PEncoder(ChannelAttention(GROUPS, 5), 5).double()
    wide = torch.randn(BATCH, GROUPS, 49, 5, dtype=torch.float64)
    assert encoder(wide).shape == (BATCH, GROUPS, 5)
    torch.testing.assert_close(encoder(wide), encoder.mixer(encoder.attention(wide)).max(dim=2).values)


def test_pyramid_projection_groups_and_shuffles() -> None:
    torch.manual_seed(0)
    pyramid = PyramidProjection({"p8": 5, "p16": 4, "p32": 3}, GROUPS, D_W).double().eval()
    shapes = {"p8": (2, 5, 7, 7), "p16": (2, 4, 7, 7), "p32": (2, 3, 7, 7)}
    levels = {name: torch.rand(shape, dtype=torch.float64) for name, shape in shapes.items()}
    out = pyramid(levels)
    assert out.shape == (2, GROUPS, 49, D_W)
    assert sorted(pyramid.shuffle.tolist()) == list(range(GROUPS * D_W))
    for image, row, column in ((0, 0, 0), (1, 3, 5)):  # a 1x1 convolution sees one position at a time
        cells = [
            branch(levels[name][image : image + 1, :, row, column])
            for name, branch in zip(levels, pyramid.branches, strict=True)
        ]
        straight = pyramid.project(torch.cat(cells, dim=1))[0]
        grouped = out[image, :, 7 * row + column].flatten()
        for place, source in enumerate(pyramid.shuffle.tolist()):
            torch.testing.assert_close(grouped[place], straight[source])


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_levels_are_standardised_before_they_are_mixed(scale: float) -> None:
    torch.manual_seed(0)
    pyramid = PyramidProjection({"p8": 5, "p16": 4, "p32": 3}, GROUPS, D_W).train()
    levels = {"p8": torch.rand(8, 5, 7, 7), "p16": torch.rand(8, 4, 7, 7), "p32": torch.rand(8, 3, 7, 7)}
    plain = pyramid(levels)
    scaled = pyramid({"p8": scale * levels["p8"], "p16": levels["p16"], "p32": levels["p32"]})
    torch.testing.assert_close(plain, scaled, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("make", [linear, perceptron])
def test_group_attention_equals_equations_6_and_7(make: Callable[[int], torch.nn.Module]) -> None:
    torch.manual_seed(0)
    attention = GroupAttention(D_W, make).double()
    x = torch.randn(BATCH, GROUPS, D_W, dtype=torch.float64)
    s = attention(x)
    for image in range(BATCH):
        query = [attention.query(vector) for vector in x[image]]
        key = [attention.key(vector) for vector in x[image]]
        for row in range(GROUPS):
            expected = sum((query[row] @ key[other]) * x[image, other] for other in range(GROUPS))
            torch.testing.assert_close(s[image, row], expected)


def test_class_score_is_the_best_group() -> None:
    s, vectors = torch.randn(BATCH, GROUPS, D_W), torch.randn(6, D_W)
    scores = C3(Inputs({"p8": 3}, D_W, 6), C3Options(groups=GROUPS)).scores(s, vectors)
    for image in range(BATCH):
        for c in range(6):
            assert scores[image, c] == pytest.approx(max(float(row @ vectors[c]) for row in s[image]), abs=1e-5)


def test_standardised_groups_forget_what_all_images_share() -> None:
    torch.manual_seed(0)
    standardise = StandardisedGroups(GROUPS, D_W).train()
    x = torch.randn(64, GROUPS, D_W)
    torch.nn.init.constant_(standardise.norm.weight, D_W**-0.5)
    out = standardise(x)
    torch.testing.assert_close(standardise(100 + 3 * x), out, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(out.mean(dim=0), torch.zeros(GROUPS, D_W), rtol=0, atol=1e-5)
    assert out.square().sum(dim=2).mean().item() == pytest.approx(1, rel=0.01)
