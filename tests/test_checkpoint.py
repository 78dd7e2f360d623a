"""Nothing of a training is lost: kills, signals, full disks, damaged files; the weights are always the same."""

from __future__ import annotations

import os
import pickle
import random
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from c3.cli import main
from c3.common.errors import C3Error
from c3.extract.store.cache import FeatureCache
from c3.train.run import TrainOptions, train
from c3.train.run_folder import Run, list_runs
from click.testing import CliRunner
from forks import FORKS
from mid_training import after
from safetensors.torch import load_file
from small_disk import SmallDisk

KILLS = 20
Make = Callable[..., FeatureCache]
SETTINGS = {"epochs": 2, "batch_size": 4, "lr": 1e-3, "hidden1": 16, "hidden2": 8}  # with dropout: random numbers count


def options(cache: FeatureCache, folder: Path, **settings: object) -> TrainOptions:
    return TrainOptions(cache.path, "fast0tag", folder, SETTINGS | settings, device="cpu", checkpoint_steps=1)


def the_run(folder: Path) -> Path:
    (run,) = list_runs(folder)
    return run.path


def assert_same(found: Run, expected: Run) -> None:
    one, other = (load_file(run.path / "weights.safetensors") for run in (found, expected))
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name
    assert not (found.path / "checkpoint.safetensors").exists()
    assert not list(found.path.glob(".*"))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def train_and_die(options: TrainOptions, saves: int, while_writing: bool) -> None:
    """What a child runs: it is killed in the middle of its n-th checkpoint, or just after it."""
    if while_writing:
        left, real = [saves], os.fsync

        def fsync(file: int) -> None:
            left[0] -= 1
            die() if not left[0] else real(file)

        os.fsync = fsync
    else:
        after(saves, die, pytest.MonkeyPatch())
    train(options)


def test_killed_again_and_again_it_ends_with_the_same_weights(make_cache: Make, tmp_path: Path) -> None:
    cache = make_cache()
    settings = {"epochs": 6, "ema": 0.9, "patience": 3, "warmup": 5, "schedule": "cosine"}
    reference = train(options(cache, tmp_path / "whole", **settings))
    rng, killed = random.Random(0), 0
    asked = options(cache, tmp_path / "killed", **settings)
    for _ in range(KILLS):
        process = FORKS.Process(
            target=train_and_die, args=(asked, rng.choice((2, 2, 3)), rng.random() < 0.5), daemon=True
        )
        process.start()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        if not process.exitcode:
            break
    assert killed >= 15
    assert_same(train(asked), reference)
    logs = [(run / "log.csv").read_text().splitlines() for run in (reference.path, the_run(tmp_path / "killed"))]
    untimed = [[line.split(",")[:4] for line in log] for log in logs]
    assert untimed[0] == untimed[1]  # epoch, step, lr and loss


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_and_says_how_to_go_on(
    make_cache: Make, tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make_cache()
    reference = train(options(cache, tmp_path / "whole"))
    arguments = ["train", "--cache", str(cache.path), "--method", "fast0tag", "--runs", str(tmp_path / "stopped"),
                 "--device", "cpu"]  # fmt: skip
    for name, value in SETTINGS.items():
        arguments += ["--set", f"{name}={value}"]
    with monkeypatch.context() as patch:
        after(3, lambda: os.kill(os.getpid(), number), patch)
        result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 130
    path = the_run(tmp_path / "stopped")
    assert f"c3: interrupted. {path} keeps the training up to step 3; the same command continues" in result.stderr
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "continuing after 3 batches of epoch 1" in result.stderr
    assert_same(list_runs(tmp_path / "stopped")[0], reference)


def interrupted(asked: TrainOptions, steps: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Interrupt a run after `steps` steps and return its checkpoint."""

    def leave() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        after(steps, leave, patch)
        train(asked)
    return the_run(asked.runs) / "checkpoint.safetensors"


class Trap:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_damaged_and_foreign_checkpoints_are_refused(
    make_cache: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make_cache()
    asked = options(cache, tmp_path / "runs")
    checkpoint = interrupted(asked, 3, monkeypatch)
    whole = checkpoint.read_bytes()
    torch.save({"x": Trap(tmp_path / "sprung")}, tmp_path / "zip")
    flipped = bytearray(whole)
    flipped[-100] ^= 1
    for damaged in (
        whole[:-1], whole[:1000], whole[:5], b"", bytes(flipped), (tmp_path / "zip").read_bytes(),
        pickle.dumps(Trap(tmp_path / "sprung")), whole.replace(b'\\"batch\\": 2', b'\\"batch\\": 1'),
    ):  # fmt: skip
        assert damaged != whole
        checkpoint.write_bytes(damaged)
        with pytest.raises(C3Error, match=r"checkpoint\.safetensors is damaged .*--overwrite trains the run again"):
            train(asked)
        assert checkpoint.read_bytes() == damaged  # it is the user who throws it away
    assert not (tmp_path / "sprung").exists()

    other = interrupted(options(cache, tmp_path / "other", lr=0.5), 3, monkeypatch)
    shutil.copy(other, checkpoint)
    with pytest.raises(C3Error, match=r"of another training \(lr: checkpoint 0.5, request 0.001\)"):
        train(asked)
    reference = train(options(cache, tmp_path / "whole"))
    assert_same(train(replace(asked, overwrite=True)), reference)


def test_a_full_disk_leaves_the_last_checkpoint_whole(make_cache: Make, tmp_path: Path, small_disk: SmallDisk) -> None:
    cache = make_cache()
    # three megabytes with the state of Adam
    asked = options(cache, small_disk.path / "runs", hidden1=1000, hidden2=220)
    with pytest.raises(C3Error, match=r"checkpoint.* cannot be written \(No space left.*the same command continues"):
        train(asked)
    assert [file.name for file in the_run(small_disk.path / "runs").iterdir() if file.name.startswith(".")] == []
    assert (the_run(small_disk.path / "runs") / "checkpoint.safetensors").exists()
    small_disk.grow(50)
    assert_same(train(asked), train(replace(asked, runs=tmp_path / "whole")))


def test_a_loss_that_is_not_finite_leaves_the_last_good_checkpoint(
    make_cache: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make_cache()
    asked = options(cache, tmp_path / "runs")
    with monkeypatch.context() as patch:
        real, calls = torch.Tensor.item, []

        def item(self: torch.Tensor) -> float:
            calls.append(1)
            return float("nan") if len(calls) == 6 else real(self)  # one call a step: fast0tag's loss has no parts

        patch.setattr(torch.Tensor, "item", item)
        with pytest.raises(C3Error, match=r"loss is nan at step 5 of epoch 0 \(rows (\d+, )+\d+ of train"):
            train(asked)
    assert_same(train(asked), train(replace(asked, runs=tmp_path / "whole")))


def test_weights_that_are_not_finite_are_never_saved(
    make_cache: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = options(make_cache(), tmp_path / "runs", objective="ranknet")
    checkpoint = interrupted(asked, 3, monkeypatch)
    good = checkpoint.read_bytes()
    real = torch.optim.Adam.step

    def overflow(self: torch.optim.Adam) -> None:
        real(self)
        self.param_groups[0]["params"][0].data.fill_(float("inf"))

    monkeypatch.setattr(torch.optim.Adam, "step", overflow)
    with pytest.raises(C3Error, match="weight is not finite after 3 batches of epoch 0; lower --lr"):
        train(asked)
    assert checkpoint.read_bytes() == good


def test_a_damaged_store_is_named_after_what_was_trained_is_saved(
    make_cache: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make_cache()
    reference = train(options(cache, tmp_path / "whole"))
    shard = cache.path / "train/pyramid/p16/c/1/0/0/0"
    whole = shard.read_bytes()
    asked = replace(options(cache, tmp_path / "runs"), residency="stream", checkpoint_steps=0)
    with monkeypatch.context() as patch:
        after(5, lambda: shard.write_bytes(bytes([whole[0] ^ 1]) + whole[1:]), patch)
        with pytest.raises(C3Error, match=r"shard 1 of train/pyramid/p16 is damaged .*c3 verify .*--repair"):
            train(asked)
    assert (the_run(tmp_path / "runs") / "checkpoint.safetensors").exists()
    shard.write_bytes(whole)
    assert_same(train(asked), reference)
