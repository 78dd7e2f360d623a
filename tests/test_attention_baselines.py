"""LESA, Attention per Cluster and BiAM against loops written from their equations, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from c3.train.models.lesa import SharedAttention
from c3.train.models.losses import hinge
from c3.train.registry import METHODS
from reference_methods import EVERYTHING, LEVELS, SEEN, build, cells, dot, picture, softmax, standardised
from torch import Tensor, nn

BOTH = pytest.mark.parametrize("inputs", [LEVELS, EVERYTHING], ids=["levels", "everything"])
LABELS = torch.tensor([[1, 1, -1, 0], [-1, 1, -1, -1]], dtype=torch.int8)


def normed(values: Tensor, norm: nn.Module) -> Tensor:
    found = torch.stack([standardised(value, norm, i) for i, value in enumerate(values)])
    return norm.weight * found + norm.bias


def convolved(grid: dict[tuple[int, int], Tensor], conv: nn.Module, at: tuple[int, int], first: int) -> Tensor:
    """A convolution at one place; its window starts `first` rows and columns before it, and what is outside is zero."""
    total = torch.zeros(conv.out_channels, dtype=torch.float64)
    for dy in range(conv.kernel_size[0]):
        for dx in range(conv.kernel_size[1]):
            cell = grid.get((at[0] - first + dy, at[1] - first + dx))
            if cell is not None:
                total += conv.weight[:, :, dy, dx] @ cell
    return total if conv.bias is None else total + conv.bias


def as_grid(found: list[Tensor], side: int) -> dict[tuple[int, int], Tensor]:
    return {(r // side, r % side): cell for r, cell in enumerate(found)}


def shared_by_hand(shared: SharedAttention, arrays: dict[str, Tensor], image: int) -> tuple[list[Tensor], list[Tensor]]:
    """f_r and the attention logits of every position."""
    grid = as_grid(cells(shared.regions, arrays, image), shared.side)
    _, conv, norm, _ = shared.local
    features = [normed(convolved(grid, conv, at, 0), norm).clamp(min=0) for at in grid]
    first, _, second = shared.attention
    bias = 0 if second.bias is None else second.bias
    return features, [second.weight @ torch.tanh(first.weight @ f + first.bias) + bias for f in features]


def heads_by_hand(shared: SharedAttention, arrays: dict[str, Tensor], image: int) -> list[Tensor]:
    """z_t of every attention map."""
    features, logits = shared_by_hand(shared, arrays, image)
    alphas = [softmax([row[t].item() for row in logits]) for t in range(len(logits[0]))]
    return [sum(a * f for a, f in zip(alpha, features, strict=True)) for alpha in alphas]


@BOTH
def test_lesa_takes_the_best_of_its_shared_attention_maps(inputs: object) -> None:
    model, arrays, _, other = build("lesa", inputs, heads=3, width=4)
    scores = model.scores(model(arrays), other)
    for image in range(2):
        heads = heads_by_hand(model.shared, arrays, image)
        expected = [max(dot(z, model.shared.project.weight.T @ vector) for z in heads) for vector in other]
        assert scores[image].tolist() == pytest.approx(expected, rel=1e-9)


def test_the_four_losses_of_lesa() -> None:
    model, arrays, _, other = build("lesa", LEVELS, heads=3, width=4, lambda_dist=0.2)
    embedding = model(arrays)
    scores = model.scores(embedding, other)
    parts = model.loss(embedding, scores, LABELS, other)
    weight, dist, far, squares = model.shared.project.weight, 0.0, 0.0, 0.0
    for image in range(2):
        heads = heads_by_hand(model.shared, arrays, image)
        features, logits = shared_by_hand(model.shared, arrays, image)
        by_head = [[dot(z, weight.T @ vector) for z in heads] for vector in other]
        for t in range(3):
            dist += sum(softmax(by_head[c])[t] for c in range(4) if LABELS[image, c] > 0) ** 2 / (2 * 3)
        mean = sum(features) / len(features)
        for c, vector in enumerate(other):
            gain = max(by_head[c]) - dot(mean, weight.T @ vector)
            far += max(0.0, -gain * int(LABELS[image, c]))
        columns = [torch.stack([row[t] for row in logits]) for t in range(3)]
        for t in range(3):
            for u in range(3):
                if t != u:
                    norms = math.sqrt(dot(columns[t], columns[t]) * dot(columns[u], columns[u]))
                    squares += (dot(columns[t], columns[u]) / norms) ** 2
    rank = hinge(scores, LABELS).mean().item()
    found = [parts[name].item() for name in ("rank", "dist", "global", "span")]
    assert found == pytest.approx([rank, dist, far, math.sqrt(squares)], rel=1e-9)
    assert min(found) > 0
    assert parts["loss"].item() == pytest.approx(rank + 0.2 * dist + 0.001 * far + 0.01 * math.sqrt(squares), rel=1e-9)


@BOTH
def test_attention_per_cluster_uses_the_map_of_the_nearest_centroid(inputs: object) -> None:
    model, arrays, trained, other = build("lesa-apc", inputs, clusters=3, width=4)
    scores = model.scores(model(arrays), other)
    chosen = [min(range(3), key=lambda m: (vector - model.centroids[m]).norm().item()) for vector in other]
    for image in range(2):
        heads = heads_by_hand(model.shared, arrays, image)
        expected = [
            dot(heads[m], model.shared.project.weight.T @ vector) for m, vector in zip(chosen, other, strict=True)
        ]
        assert scores[image].tolist() == pytest.approx(expected, rel=1e-9)
    assert len(set(chosen)) > 1
    own = model.clusters_of(trained)
    for m in range(3):  # what k-means ends with: every centroid is the mean of the classes that are nearest to it
        torch.testing.assert_close(model.centroids[m], trained[own == m].mean(dim=0), rtol=1e-5, atol=1e-6)


def test_an_unseen_class_joins_the_cluster_it_is_nearest_to() -> None:
    groups = torch.eye(6)[[0, 0, 0, 1, 1, 2, 2]] + 0.05 * torch.randn(7, 6)
    model = METHODS["lesa-apc"](LEVELS, METHODS["lesa-apc"].Options(clusters=3, width=4))
    model.prepare(groups)
    trained, unseen = model.clusters_of(groups), model.clusters_of(1.3 * torch.eye(6)[:3])
    assert len(set(unseen.tolist())) == 3
    assert unseen.tolist() == trained[[0, 3, 5]].tolist()
    assert len(METHODS["lesa-apc"](LEVELS, METHODS["lesa-apc"].Options(clusters=50)).centroids) == SEEN


def region_block_by_hand(block: nn.Module, found: list[Tensor]) -> list[Tensor]:
    width, heads = len(found[0]), block.heads
    part = width // heads
    query, value = ([layer.weight @ h + layer.bias for h in found] for layer in (block.query, block.value))
    key = [block.key.weight @ h for h in found]
    out = []
    for r, h in enumerate(found):
        mixed = []
        for head in range(heads):
            cut = slice(head * part, (head + 1) * part)
            alpha = softmax([dot(query[r][cut], other[cut]) / math.sqrt(part) for other in key])
            mixed.append(sum(a * v[cut] for a, v in zip(alpha, value, strict=True)))
        h = h + block.out.weight @ torch.cat(mixed) + block.out.bias
        first, _, second = block.network
        out.append(h + second.weight @ (first.weight @ h + first.bias).clamp(min=0) + second.bias)
    return out


def leaky(values: Tensor) -> Tensor:
    return torch.where(values > 0, values, 0.2 * values)


def conv_relu_norm(grid: dict[tuple[int, int], Tensor], layers: nn.Module) -> list[Tensor]:
    conv, _, norm = layers
    return [normed(convolved(grid, conv, at, 1).clamp(min=0), norm) for at in grid]


@BOTH
def test_biam_averages_the_best_regions(inputs: object) -> None:
    model, arrays, _, other = build("biam", inputs, width=4, heads=2)
    scores = model.scores(model(arrays), other)
    side, k = model.regions.side, 6 if inputs.regions else 2
    image = 1
    local = conv_relu_norm(as_grid(cells(model.regions, arrays, image), side), model.local)
    regions = region_block_by_hand(model.region_block, local)
    scene = model.scene_block
    value = [leaky(scene.channel.weight[:, :, 0, 0] @ h + scene.channel.bias) for h in local]
    linear = scene.scene[1]
    fit = sum(value) / len(value) * (linear.weight @ picture(model, arrays, image) + linear.bias)
    gated = [v / (1 + (-fit).exp()) for v in value]
    scenes = [c + more for c, more in zip(gated, conv_relu_norm(as_grid(gated, side), scene.local), strict=True)]
    joined = [
        leaky(model.join.weight @ torch.cat(pair) + model.join.bias) for pair in zip(regions, scenes, strict=True)
    ]
    for c, vector in enumerate(other):
        theta = model.label.weight @ vector + model.label.bias
        best = sorted((dot(e, theta) for e in joined), reverse=True)[:k]
        assert scores[image, c].item() == pytest.approx(sum(best) / k, rel=1e-9)


def test_the_mean_of_the_positions_by_one_flat_map_is_their_mean() -> None:
    shared = SharedAttention(LEVELS, width=4, heads=1, bias=False)
    cells = torch.randn(2, 49, 4)
    found = shared.attended(cells, torch.zeros(2, 49, 1))[:, 0]
    torch.testing.assert_close(found, shared.project(cells).mean(dim=1))
