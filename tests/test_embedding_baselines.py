"""The baselines that know nothing of places, and the two with an attention map per label or cluster, against loops."""

from __future__ import annotations

import math

import pytest
import torch
from c3.common.errors import C3Error
from c3.extract.store.layout import GLOBAL_VECTOR, REGIONS
from c3.train.loop import batch_loss
from c3.train.models.base import Inputs, Method
from c3.train.registry import GROUPS, METHODS
from reference_methods import EVERYTHING, LEVELS, SEEN, Largest, build, cells, dot, picture, softmax
from torch.nn.functional import relu

REGION_METHODS = ("kim", "lesa-apc", "lesa", "biam")
BOTH = pytest.mark.parametrize("inputs", [LEVELS, EVERYTHING], ids=["levels", "everything"])


@BOTH
def test_conse_averages_the_vectors_of_its_most_probable_classes(inputs: Inputs) -> None:
    model, arrays, trained, other = build("conse", inputs, top=3)
    scale, offset = model.objective.scale.item(), model.objective.offset.item()
    scores = model.scores(model(arrays), other)
    for image in range(2):
        x = picture(model, arrays, image)
        weight, bias = model.combination.classifier.weight, model.combination.classifier.bias
        logits = [scale * (dot(x, weight[c]) + bias[c].item()) + offset for c in range(SEEN)]
        p = [1 / (1 + math.exp(-value)) for value in logits]
        best = sorted(range(SEEN), key=lambda c: -p[c])[:3]
        combined = torch.zeros(6, dtype=torch.float64)
        for c in best:
            combined += p[c] / sum(p[c] for c in best) * trained[c]
        for c, vector in enumerate(other):
            cosine = dot(combined, vector) / math.sqrt(dot(combined, combined) * dot(vector, vector))
            assert scores[image, c].item() == pytest.approx(cosine, rel=1e-9)


def test_conse_averages_all_classes_where_there_are_fewer_than_top() -> None:
    model, arrays, _, other = build("conse", LEVELS, top=50)
    torch.testing.assert_close(model.scores(model(arrays), other), _with_top(model, SEEN).scores(model(arrays), other))


def _with_top(model: Method, top: int) -> Method:
    other = METHODS["conse"](model.inputs, METHODS["conse"].Options(top=top)).double()
    other.load_state_dict(model.state_dict())
    return other.eval()


def test_conse_trains_its_logits_on_the_labels_of_their_own_class() -> None:
    model, arrays, trained, _ = build("conse", LEVELS)
    labels = torch.tensor([[0, 1, -1, 0, 0, -1, 0], [0, -1, 1, 0, 0, 1, 0]], dtype=torch.int8)
    expected = []
    for logits, row in zip(model.objective.as_read(model(arrays)), labels, strict=True):
        p = [1 / (1 + math.exp(-value.item())) for value in logits]
        terms = [-math.log(p[c]) if row[c] > 0 else -math.log(1 - p[c]) for c in range(SEEN) if row[c] != 0]
        expected.append(sum(terms) / int((row > 0).sum()))
    loss = batch_loss(model, arrays, labels, trained)["loss"]
    assert loss.item() == pytest.approx(sum(expected) / 2, rel=1e-9)
    loss.backward()
    assert (model.combination.classifier.weight.grad.abs().sum(dim=1) > 0).tolist() == (labels != 0).any(dim=0).tolist()


@BOTH
def test_labelem_is_a_bilinear_form(inputs: Inputs) -> None:
    model, arrays, _, other = build("labelem", inputs)
    scores = model.scores(model(arrays), other)
    for image in range(2):
        projected = model.compatibility.weight @ picture(model, arrays, image)
        assert scores[image].tolist() == pytest.approx([dot(projected, vector) for vector in other], rel=1e-9)


@BOTH
def test_bilinear_attention_attends_for_every_class(inputs: Inputs) -> None:
    model, arrays, _, other = build("kim", inputs, hidden=4)
    scores = model.scores(model(arrays), other)
    for image in range(2):
        found = cells(model.regions, arrays, image)
        keys = [relu(model.region.weight @ cell + model.region.bias) for cell in found]
        for c, vector in enumerate(other):
            query = relu(model.label.weight @ vector + model.label.bias)
            alpha = softmax([(model.mix * key * query).sum().item() for key in keys])
            z = sum(a * cell for a, cell in zip(alpha, found, strict=True))
            assert scores[image, c].item() == pytest.approx(dot(model.project.weight @ z, vector), rel=1e-9)


def test_bilinear_attention_never_builds_a_feature_for_every_class() -> None:
    inputs = Inputs({"p32": 64}, 6, 100)
    model = METHODS["kim"](inputs, METHODS["kim"].Options(hidden=8))
    arrays = {"p32": torch.rand(2, 64, 7, 7)}
    labels = torch.full((2, 100), -1, dtype=torch.int8)
    labels[:, 0] = 1
    with Largest() as largest:
        batch_loss(model, arrays, labels, torch.randn(100, 6))["loss"].backward()
    assert largest.size == 2 * 49 * 100  # (batch, classes, channels) would be 2 * 100 * 64


@pytest.mark.parametrize("name", REGION_METHODS)
@BOTH
def test_responses_sum_to_the_scores(name: str, inputs: Inputs) -> None:
    model, arrays, _, other = build(name, inputs)
    shares = model.responses(arrays, other)
    side = 14 if inputs.regions else 7
    assert shares.shape == (2, 4, side, side)
    torch.testing.assert_close(shares.sum(dim=(2, 3)), model.scores(model(arrays), other), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", REGION_METHODS)
def test_regions_are_read_where_the_store_has_them(name: str) -> None:
    assert REGIONS in METHODS[name].reads(EVERYTHING)
    assert "p32" not in METHODS[name].reads(EVERYTHING)
    assert "p32" in METHODS[name].reads(LEVELS)
    assert set(METHODS["biam"].reads(EVERYTHING)) == {REGIONS, GLOBAL_VECTOR}


def test_the_group_of_table_1_has_every_row_of_the_paper_in_order() -> None:
    from c3.evaluate.report.published import TABLES

    assert [row.method for row in TABLES[1].rows] == list(GROUPS["table1"][:-3])


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("conse", {"top": 0}),
        ("fast0tag", {"hidden1": 0}),
        ("fast0tag", {"dropout": 1.5}),
        ("fast0tag", {"objective": "mse"}),
        ("kim", {"hidden": 0}),
        ("lesa", {"heads": 0}),
        ("lesa", {"lambda_span": -1.0}),
        ("lesa-apc", {"clusters": 0}),
        ("biam", {"top_regions": 0}),
        ("biam", {"width": 10, "heads": 4}),
        ("biam", {"dropout": 1.0}),
    ],
)
def test_settings_out_of_range_are_refused(name: str, settings: dict[str, object]) -> None:
    with pytest.raises(C3Error, match=f"{next(iter(settings))}.*: expected"):
        METHODS[name].Options(**settings)
