"""The loop: learning rates, clipping, averaged weights and the end by validation, each against a slow reference."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from c3.common.average_precision import average_precision, mean_average_precision
from c3.common.errors import C3Error
from c3.extract.store.cache import FeatureCache
from c3.train.averaging import RAMP, Average
from c3.train.recipes import LoopOptions
from c3.train.run import TrainOptions, train
from c3.train.run_folder import Run
from c3.train.schedule import learning_rate
from c3.train.scorer import restore
from c3.train.validation import Validation
from safetensors.torch import load_file
from sklearn.metrics import average_precision_score
from torch import nn

Make = Callable[..., FeatureCache]
QUICK = {"epochs": 2, "batch_size": 8, "lr": 1e-3, "hidden1": 16, "hidden2": 8}


def trained(cache: FeatureCache, folder: Path, **settings: object) -> Run:
    return train(TrainOptions(cache.path, "fast0tag", folder, QUICK | settings, device="cpu"))


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.path / "weights.safetensors")


def log(run: Run) -> list[dict[str, float]]:
    with (run.path / "log.csv").open(newline="") as file:
        return [{name: float(value) for name, value in line.items()} for line in csv.DictReader(file)]


def test_learning_rates_of_both_schedules() -> None:
    step = LoopOptions(epochs=4, lr=2.0, drop_epoch=2, warmup=3)
    rates = [learning_rate(step, number, 5) for number in range(20)]
    assert rates == pytest.approx([2 / 3, 4 / 3, 2] + [2] * 7 + [0.2] * 10)
    cosine = LoopOptions(epochs=4, lr=2.0, schedule="cosine", warmup=2)
    rates = [learning_rate(cosine, number, 5) for number in range(20)]
    assert rates[:3] == pytest.approx([1, 2, 2])
    assert rates[11] == pytest.approx(1.0)  # half way between the warmup and the end
    assert rates[19] == pytest.approx(1 + math.cos(math.pi * 17 / 18))
    assert sorted(rates[2:], reverse=True) == rates[2:]


def test_the_average_is_the_weighted_sum_of_all_weights_but_the_first() -> None:
    model = nn.BatchNorm1d(3)
    average, seen = Average(model, 0.9), []
    for step in range(40):
        with torch.no_grad():
            model.weight.copy_(torch.randn(3))
            model.running_mean.copy_(torch.randn(3))
            model.num_batches_tracked += 1
        average.update(model, step)
        seen.append(torch.cat([model.weight.detach().clone(), model.running_mean]))
    keeps = [min(0.9, step / (step + RAMP)) for step in range(40)]
    expected = sum((1 - keeps[i]) * math.prod(keeps[i + 1 :]) * values for i, values in enumerate(seen))
    found = torch.cat([average.state["weight"], average.state["running_mean"]])
    torch.testing.assert_close(found, expected)
    assert average.state["num_batches_tracked"] == 40
    own = model.weight.detach().clone()
    with average.applied(model):
        assert torch.equal(model.weight, average.state["weight"])
    assert torch.equal(model.weight, own)


def test_averaged_weights_are_what_is_kept(make_cache: Make, tmp_path: Path) -> None:
    cache = make_cache()
    plain, averaged = weights(trained(cache, tmp_path)), weights(trained(cache, tmp_path, ema=0.9))
    assert plain.keys() == averaged.keys()
    assert not torch.equal(plain["network.0.weight"], averaged["network.0.weight"])
    assert (plain["network.0.weight"] - averaged["network.0.weight"]).abs().max() < 0.02  # but near


def test_clipping_bounds_the_norm_that_the_optimiser_sees(
    make_cache: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms = []
    real = torch.optim.Adam.step

    def watched(self: torch.optim.Adam, *arguments: object) -> object:
        grads = [p.grad.flatten() for group in self.param_groups for p in group["params"]]
        norms.append(torch.cat(grads).norm().item())
        return real(self, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    cache = make_cache()
    trained(cache, tmp_path)
    free, norms[:] = list(norms), []
    bound = min(free) / 2
    trained(cache, tmp_path, clip=bound)
    assert norms == pytest.approx([bound] * len(free), rel=1e-3)


def test_the_validation_score_is_the_mean_ap_of_the_seen_classes_alone(make_cache: Make, tmp_path: Path) -> None:
    for labelling in ("complete", "verified"):
        cache = make_cache(labelling=labelling, name=f"{labelling}.zarr")
        run = trained(cache, tmp_path / labelling, patience=5)
        scorer = restore(run, cache, torch.device("cpu"))
        scores = scorer({name: cache.read("val", name, 0, 6) for name in scorer.arrays})
        labels = cache.labels("val").dense(5, cache.absent_label)
        aps = []
        for number in np.flatnonzero(cache.classes.seen):
            known = labels[:, number] != 0
            if (labels[:, number] > 0).any():
                aps.append(average_precision(labels[known, number] > 0, scores[known, number]))
        assert max(line["val_mAP"] for line in log(run)) == pytest.approx(np.mean(aps))  # the best epoch was kept


@pytest.mark.parametrize("seed", range(5))
def test_mean_average_precision_is_the_mean_of_sklearns_also_with_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    group, positive = rng.integers(0, 6, 300), rng.random(300) < 0.1
    scores = rng.integers(0, 40, 300).astype(np.float32)
    present = [g for g in range(6) if positive[group == g].any()]
    expected = [average_precision_score(positive[group == g], scores[group == g]) for g in present]
    assert mean_average_precision(group, positive, scores) == pytest.approx(np.mean(expected))


def test_training_ends_when_validation_gets_no_better_and_keeps_the_best(
    make_cache: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make_cache()
    three = weights(trained(cache, tmp_path / "three", epochs=3))
    scores = iter([0.1, 0.2, 0.4, 0.3, 0.4, 0.5])
    monkeypatch.setattr(Validation, "score", lambda *_: next(scores))
    run = trained(cache, tmp_path, epochs=9, patience=2)
    assert [line["val_mAP"] for line in log(run)] == [0.1, 0.2, 0.4, 0.3, 0.4]
    found = weights(run)
    assert all(torch.equal(found[name], three[name]) for name in three)  # those after epoch 3


def test_the_log_has_rates_and_wait_shares(make_cache: Make, tmp_path: Path) -> None:
    for line in log(trained(make_cache(), tmp_path)):
        assert line["rows_per_s"] > 0
        assert 0 < line["wait_share"] < 1


def test_settings_of_the_loop_are_checked(make_cache: Make, tmp_path: Path) -> None:
    cache = make_cache()
    for settings, said in (
        ({"schedule": "linear"}, "step or cosine"),
        ({"warmup": -1}, "at least 0"),
        ({"clip": -1.0}, "0 .off. or a positive"),
        ({"ema": 1.0}, "below 1"),
        ({"compile": "maybe"}, "true or false, found 'maybe'"),
    ):
        with pytest.raises(C3Error, match=said):
            trained(cache, tmp_path, **settings)


def test_compiled_training_compiles_the_model(
    make_cache: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(self))
    cache = make_cache()
    assert weights(trained(cache, tmp_path, compile="true")).keys() == weights(trained(cache, tmp_path)).keys()
    assert len(compiled) == 1


def test_tensorboard_gets_every_column_of_the_log(
    make_cache: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make_cache()
    asked = TrainOptions(cache.path, "fast0tag", tmp_path, QUICK, device="cpu", tensorboard=True)
    monkeypatch.setattr("c3.train.tensorboard.find_spec", lambda name: None)
    with pytest.raises(C3Error, match="--tensorboard needs the package tensorboard: pip install tensorboard"):
        train(asked)
    assert list(tmp_path.glob("fast0tag-*")) == []
    scalars: list[tuple[str, float, int]] = []

    class Writer:
        def __init__(self, folder: Path, purge_step: int) -> None:
            scalars.append(("purge", 0.0, purge_step))

        def add_scalar(self, *scalar: object) -> None:
            scalars.append(scalar)

        def __enter__(self) -> Writer:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr("c3.train.tensorboard.find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    first, second = log(train(asked))
    for line, epoch in ((first, 1), (second, 2)):
        found = {name: value for name, value, step in scalars if step == epoch and name != "purge"}
        assert found == pytest.approx({name: value for name, value in line.items() if name != "epoch"})
