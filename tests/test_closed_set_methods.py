"""The methods of Table 5 that know only their own classes, against loops, and what evaluation makes of them."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from c3.common.errors import C3Error
from c3.evaluate.report.run import report
from c3.evaluate.run import evaluate
from c3.extract.store.cache import FeatureCache
from c3.extract.store.layout import GLOBAL_VECTOR
from c3.train.loop import batch_loss
from c3.train.models.base import Inputs
from c3.train.models.cnn_rnn import CNNRNN, FLOOR, CNNRNNOptions
from c3.train.models.logistic import Logistic, LogisticOptions
from c3.train.models.warp import Warp, WarpOptions
from c3.train.models.wsabie import Wsabie, WsabieOptions
from c3.train.run import TrainOptions, train
from safetensors.torch import load_file
from torch import Tensor

INPUTS = Inputs({"p32": 3}, 6, 4, global_vector=5)
BATCH = 3


def pictures() -> dict[str, Tensor]:
    torch.manual_seed(3)
    return {GLOBAL_VECTOR: torch.randn(BATCH, 5, dtype=torch.float64)}


def dot(a: Tensor, b: Tensor) -> Tensor:
    return sum((x * y for x, y in zip(a, b, strict=True)), a.new_zeros(()))


@pytest.mark.parametrize(("kind", "options"), [(Logistic, LogisticOptions()), (Warp, WarpOptions())])
def test_linear_scores_are_a_row_of_weights_for_every_class(kind: type[Logistic], options: LogisticOptions) -> None:
    model = kind(INPUTS, options).double().eval()
    arrays = pictures()
    found = model.scores(model(arrays), torch.zeros(9, 6))
    x = arrays[GLOBAL_VECTOR] / math.sqrt(1 + model.picture.standardise.eps)
    for image in range(BATCH):
        for c in range(4):
            torch.testing.assert_close(found[image, c], dot(x[image], model.linear.weight[c]) + model.linear.bias[c])


def test_wsabie_compares_pictures_and_classes_in_one_space() -> None:
    model = Wsabie(INPUTS, WsabieOptions(d=2)).double().eval()
    arrays = pictures()
    found = model.scores(model(arrays), torch.zeros(9, 6))
    x = arrays[GLOBAL_VECTOR] / math.sqrt(1 + model.picture.standardise.eps)
    for image in range(BATCH):
        place = torch.stack([dot(x[image], row) for row in model.project.weight])
        for c in range(4):
            torch.testing.assert_close(found[image, c], dot(place, model.classes[c]))


def test_the_vectors_of_wsabie_stay_within_their_norm() -> None:
    model = Wsabie(INPUTS, WsabieOptions(d=2, max_norm=0.5))
    with torch.no_grad():
        model.classes.copy_(torch.tensor([[3.0, 4.0], [0.1, 0.2], [0.0, 0.6], [0.0, 0.0]]))
        model.project.weight.copy_(torch.tensor([[3.0, 0.1, 0.0, 0.3, 0.0], [4.0, 0.2, 0.6, 0.4, 0.0]]))
    model.after_step()
    torch.testing.assert_close(
        model.classes.detach(), torch.tensor([[0.3, 0.4], [0.1, 0.2], [0.0, 0.5], [0.0, 0.0]]), rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(
        model.project.weight.detach().T,
        torch.tensor([[0.3, 0.4], [0.1, 0.2], [0.0, 0.5], [0.3, 0.4], [0.0, 0.0]]),
        rtol=1e-5,
        atol=1e-6,
    )


def test_training_projects_wsabie_after_every_step(make_cache: Callable[..., FeatureCache], tmp_path: Path) -> None:
    settings = {"epochs": 2, "batch_size": 8, "lr": 0.5, "d": 4, "max_norm": 0.25}
    run = train(TrainOptions(make_cache().path, "wsabie", tmp_path, settings, device="cpu"))
    norms = load_file(run.path / "weights.safetensors")["classes"].norm(dim=1)
    torch.testing.assert_close(norms.max(), torch.tensor(0.25), rtol=1e-4, atol=0)


def cnn_rnn(**options: int) -> CNNRNN:
    torch.manual_seed(1)
    model = CNNRNN(INPUTS, CNNRNNOptions(label_width=3, hidden=4, **options)).double().eval()
    with torch.no_grad():
        model.labels.mul_(4)  # far from equal probabilities
    return model


def gate(weight: Tensor, recurrent: Tensor, bias: Tensor, x: Tensor, h: Tensor) -> Tensor:
    return torch.stack([dot(weight[i], x) + dot(recurrent[i], h) + bias[i] for i in range(len(bias))])


def likelihoods(model: CNNRNN, picture: Tensor, named: list[int], barred: frozenset[int] = frozenset()) -> list[float]:
    """log p of every label and of the end after the labels `named`, from the equations of an LSTM; -inf if barred."""
    cell, size = model.lstm, 4
    h = c = torch.zeros(size, dtype=torch.float64)
    for label in [4, *named]:  # row 4 is the start
        x = model.labels[label]
        gates = gate(cell.weight_ih, cell.weight_hh, cell.bias_ih + cell.bias_hh, x, h)
        into, forget, new, out = (gates[k * size : (k + 1) * size] for k in range(4))
        c = forget.sigmoid() * c + into.sigmoid() * new.tanh()
        h = out.sigmoid() * c.tanh()
    x = picture / math.sqrt(1 + model.picture.standardise.eps)
    joint = [
        max(0.0, (dot(model.from_labels.weight[i], h) + dot(model.from_picture.weight[i], x)).item()
            + model.from_picture.bias[i].item())
        for i in range(3)
    ]  # fmt: skip
    raw = [sum(joint[i] * model.labels[k, i].item() for i in range(3)) for k in range(5)]
    open_ = [k for k in range(5) if k == 4 or (k not in named and k not in barred)]
    norm = math.log(sum(math.exp(raw[k]) for k in open_))
    return [raw[k] - norm if k in open_ else -math.inf for k in range(5)]


def test_the_loss_of_cnn_rnn_is_that_of_the_true_sequence() -> None:
    model, arrays = cnn_rnn(), pictures()
    model.frequency.copy_(torch.tensor([5, 9, 5, 1]))
    labels = torch.tensor([[1, 1, 1, -1], [-1, -1, 0, 1], [-1, 1, -1, 1]], dtype=torch.int8)
    sequences = [[1, 0, 2], [3], [1, 3]]  # frequent first, equal ones by their number
    expected = []
    for image, sequence in enumerate(sequences):
        barred = frozenset(k for k in range(4) if labels[image, k] == 0)
        steps = [
            likelihoods(model, arrays[GLOBAL_VECTOR][image], sequence[:step], barred)[target]
            for step, target in enumerate([*sequence, 4])
        ]
        expected.append(-sum(steps) / len(steps))
    found = batch_loss(model, arrays, labels, torch.zeros(4, 6, dtype=torch.float64))["loss"]
    assert found.item() == pytest.approx(sum(expected) / 3, rel=1e-9)


def test_frequencies_are_counted_in_training_only() -> None:
    model, arrays = cnn_rnn(), pictures()
    labels = torch.tensor([[1, 1, 1, -1], [-1, -1, 0, 1], [-1, 1, -1, 1]], dtype=torch.int8)
    batch_loss(model, arrays, labels, torch.zeros(4, 6))
    assert model.frequency.tolist() == [0, 0, 0, 0]
    model.train()
    for _ in range(2):
        batch_loss(model, arrays, labels, torch.zeros(4, 6))
    assert model.frequency.tolist() == [2, 4, 2, 4]


def best_of_all(model: CNNRNN, picture: Tensor) -> list[float]:
    """The best log-probability of any sequence without repeats that ends with each label."""
    best = [-math.inf] * 4
    for length in range(1, 5):
        for sequence in itertools.permutations(range(4), length):
            total = sum(likelihoods(model, picture, list(sequence[:k]))[sequence[k]] for k in range(length))
            best[sequence[-1]] = max(best[sequence[-1]], total)
    return best


def beam_by_hand(model: CNNRNN, picture: Tensor, beam: int, steps: int) -> list[float]:
    first = likelihoods(model, picture, [])
    found, kept = [-math.inf] * 4, [(0.0, [])]
    for _ in range(steps):
        longer = [(total, named) for total, named in kept if named[-1:] == [4]]
        for total, named in kept:
            if named[-1:] != [4]:
                further = likelihoods(model, picture, named)
                longer += [(total + further[k], [*named, k]) for k in range(5) if k not in named]
        kept = sorted(longer, key=lambda pair: -pair[0])[:beam]
        for total, named in kept:
            if named[-1] != 4:
                found[named[-1]] = max(found[named[-1]], total)
    return [max(s, FLOOR) if s > -math.inf else FLOOR + first[k] for k, s in enumerate(found)]


def test_a_wide_beam_finds_the_best_of_all_sequences() -> None:
    model, arrays = cnn_rnn(beam=70, steps=4), pictures()
    found = model.scores(model(arrays), torch.zeros(4, 6))
    expected = torch.tensor([best_of_all(model, picture) for picture in arrays[GLOBAL_VECTOR]], dtype=torch.float64)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("beam", "steps"), [(1, 1), (1, 4), (2, 3), (3, 10)])
def test_a_narrow_beam_keeps_the_best_sequences(beam: int, steps: int) -> None:
    model, arrays = cnn_rnn(beam=beam, steps=steps), pictures()
    found = model.scores(model(arrays), torch.zeros(4, 6))
    expected = [beam_by_hand(model, picture, beam, steps) for picture in arrays[GLOBAL_VECTOR]]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    assert torch.isfinite(found).all()


def test_labels_that_no_beam_named_rank_below_all_that_were_named() -> None:
    model, arrays = cnn_rnn(beam=1, steps=1), pictures()
    found = model.scores(model(arrays), torch.zeros(4, 6))
    assert (found < FLOOR).sum(dim=1).min() >= 3
    model.train()
    alone = model.scores(model(arrays), torch.zeros(4, 6))
    assert ((alone > FLOOR) & (alone < 0)).all()


def test_bad_options_are_refused() -> None:
    for kind, settings in ((CNNRNNOptions, {"beam": 0}), (WsabieOptions, {"d": 0}), (WsabieOptions, {"max_norm": 0.0})):
        with pytest.raises(C3Error, match=next(iter(settings))):
            kind(**settings)


def test_cnn_rnn_has_no_objective_to_choose(make_cache: Callable[..., FeatureCache], tmp_path: Path) -> None:
    with pytest.raises(C3Error, match="'objective'"):
        train(TrainOptions(make_cache().path, "cnn-rnn", tmp_path, {"objective": "bce"}, device="cpu"))


@pytest.mark.parametrize("seen", ["abcde", "cde"])
def test_plain_and_zero_shot_methods_are_measured_side_by_side(
    make_cache: Callable[..., FeatureCache], tmp_path: Path, seen: str
) -> None:
    """On a store whose classes are all seen, and on one with unseen ones, which a plain method does not score."""
    cache = make_cache(seen=seen)
    small = {"wsabie": {"d": 4}, "cnn-rnn": {"hidden": 8}, "c3": {"groups": 2}, "logistic": {}}
    for method, settings in small.items():
        settings = {"epochs": 1, "batch_size": 8} | settings
        run = train(TrainOptions(cache.path, method, tmp_path / "runs", settings, device="cpu"))
        found = evaluate(run.path, device="cpu").metrics.protocols["table"].tasks
        assert found["seen"]["mAP"] > 0
        asked_for_unseen = method == "c3" and seen == "cde"
        assert (found["zsl"] is not None) == (found["gzsl"] is not None) == asked_for_unseen
    lines = {line.split("  ")[0]: line for line in report([5], tmp_path / "runs").splitlines()}
    for title in ("Logistic", "WSABIE", "CNN-RNN"):
        assert re.search(r"MLL +\d+\.\d", lines[title])
