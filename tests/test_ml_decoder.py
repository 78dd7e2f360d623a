"""ML-Decoder against loops written from its description, and its memory at the size of Open Images."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from c3.common.errors import C3Error
from c3.extract.store.layout import REGIONS
from c3.train.models.base import Inputs
from c3.train.models.ml_decoder import QUERIES_AT_ONCE, MLDecoder, MLDecoderOptions
from torch import Tensor

INPUTS = Inputs({"p16": 4, "p32": 5}, 6, 7)
OPTIONS = MLDecoderOptions(width=8, heads=2, hidden=10)


def small() -> MLDecoder:
    torch.manual_seed(0)
    model = MLDecoder(INPUTS, OPTIONS).double().eval()
    model.regions.standardise.running_mean.uniform_(-1, 1)
    model.regions.standardise.running_var.uniform_(0.5, 2)
    for norm in (model.layer.norm1, model.layer.norm2, model.layer.norm3):
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    return model


def linear(layer: torch.nn.Linear, x: Tensor) -> Tensor:
    return torch.stack([(layer.weight[i] * x).sum() + layer.bias[i] for i in range(len(layer.weight))])


def norm(layer: torch.nn.LayerNorm, x: Tensor) -> Tensor:
    return layer.weight * (x - x.mean()) / (x.var(unbiased=False) + layer.eps).sqrt() + layer.bias


def reference(model: MLDecoder, image: Tensor, vector: Tensor) -> Tensor:
    """The score of one class on one picture (channels, side, side), a head and a cell at a time."""
    layer, (_, side, _) = model.layer, image.shape
    own = model.regions.standardise
    mean, deviation = own.running_mean, (own.running_var + own.eps).sqrt()
    tokens = []
    for row in range(side):
        for column in range(side):
            tokens.append(linear(model.token[0], (image[:, row, column] - mean) / deviation).clamp(min=0))
    x = norm(layer.norm1, linear(model.question[0], vector).clamp(min=0))
    query, size = linear(layer.query, x), OPTIONS.width // OPTIONS.heads
    answer = torch.zeros(OPTIONS.width, dtype=torch.float64)
    for head in range(OPTIONS.heads):
        part = slice(head * size, (head + 1) * size)
        weights = [(query[part] @ linear(layer.key, token)[part] / size**0.5).exp() for token in tokens]
        for weight, token in zip(weights, tokens, strict=True):
            answer[part] += weight / sum(weights) * linear(layer.value, token)[part]
    x = norm(layer.norm2, x + linear(layer.merge, answer))
    hidden = linear(layer.feed_forward[0], x).clamp(min=0)
    x = norm(layer.norm3, x + linear(layer.feed_forward[3], hidden))
    return (model.output.weight[0] * x).sum()


def test_scores_equal_the_loops() -> None:
    model = small()
    level, vectors = torch.randn(2, 5, 7, 7, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)
    found = model.scores(model({"p32": level}), vectors)
    expected = torch.stack([torch.stack([reference(model, image, vector) for vector in vectors]) for image in level])
    torch.testing.assert_close(found, expected)


def test_blocks_of_classes_change_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    model, vectors = small(), torch.randn(11, 6, dtype=torch.float64)
    tokens = model({"p32": torch.randn(3, 5, 7, 7, dtype=torch.float64)})
    whole = model.scores(tokens, vectors)
    for at_once in (1, 7, 12):  # below one class of three images, two classes, four
        monkeypatch.setattr("c3.train.models.ml_decoder.QUERIES_AT_ONCE", at_once)
        with torch.no_grad():
            torch.testing.assert_close(model.scores(tokens, vectors), whole)


def test_regions_are_read_where_the_store_has_them() -> None:
    assert MLDecoder.reads(INPUTS) == ("p32",)
    with_regions = Inputs({"p16": 4, "p32": 5}, 6, 7, regions=3)
    assert MLDecoder.reads(with_regions) == (REGIONS,)
    assert MLDecoder(with_regions, OPTIONS)({REGIONS: torch.randn(2, 3, 14, 14)}).shape == (2, 196, 8)


def test_there_is_one_output_for_all_classes_and_one_offset() -> None:
    names = dict(small().named_parameters())
    assert names["output.weight"].shape == (1, 8)
    assert "output.bias" not in names
    assert {"objective.scale", "objective.offset"} <= names.keys()
    ranked = MLDecoder(INPUTS, MLDecoderOptions("ranknet", width=8, heads=2))
    assert not any(name.startswith("objective") for name, _ in ranked.named_parameters())


def test_the_dropout_of_training_is_the_options() -> None:
    model = small()
    tokens, vectors = torch.randn(2, 4, 8, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)
    torch.testing.assert_close(model.scores(tokens, vectors), model.scores(tokens, vectors))
    model.train()
    assert not torch.equal(model.scores(tokens, vectors), model.scores(tokens, vectors))


@pytest.mark.parametrize("wrong", [{"width": 10, "heads": 4}, {"heads": 0}, {"hidden": 0}, {"dropout": 1.0}])
def test_bad_options_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(C3Error, match=next(iter(wrong))):
        MLDecoderOptions(**wrong)


MEMORY = """
import resource, torch
from c3.train.models.base import Inputs
from c3.train.models.ml_decoder import MLDecoder, MLDecoderOptions
model = MLDecoder(Inputs({"p32": 512}, 300, 7186), MLDecoderOptions()).eval()
with torch.inference_mode():
    tokens = model({"p32": torch.randn(48, 512, 7, 7)})
    vectors = torch.randn(CLASSES, 300)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert model.scores(tokens, vectors).shape == (48, CLASSES)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_the_classes() -> None:
    """Two blocks of classes need what the 7,586 of Open Images need, but for the scores themselves: below 2 GiB."""
    classes = 2 * QUERIES_AT_ONCE // 48
    code = MEMORY.replace("CLASSES", str(classes))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) / 2**20 < 1.5
