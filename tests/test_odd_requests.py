"""Odd values on the command line of training: each is refused in one line, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from c3.common.errors import C3Error
from c3.common.memory import told_when_full
from c3.extract.store.cache import FeatureCache
from c3.train.recipes import LoopOptions
from c3.train.settings import options_from
from tagging_place import c3

Make = Callable[..., FeatureCache]
TWICE = "is given twice; give it once"


@pytest.mark.parametrize(
    ("command", "options", "said"),
    [
        ("train", ("--set", "lr=1e-3", "--set", "lr=1e-2"), f"--set: lr {TWICE}"),
        ("train", ("--set", "lr=1e-3", "--lr", 1e-2), f"--lr: lr {TWICE}"),
        ("train", ("--epochs", 1, "--set", "epochs=1"), f"--set: epochs {TWICE}"),
        ("train", ("--set", "seed=3"), "--set seed=3: --seeds gives the seeds"),
        ("train", ("--seeds", "0..99999999999"), "--seeds: a range has at most 10,000 numbers"),
        ("train", ("--seeds", "3..1"), "found '3..1', which ends before it begins"),
        ("train", ("--seeds", "9" * 5000), "--seeds: expected numbers such as 0 1 2"),
        ("train", ("--checkpoint-minutes", "nan"), "'nan' is not a number"),
        ("train", ("--set", "drop_epoch=-3"), "setting drop_epoch: expected at least 0, found -3"),
        ("train", ("--method", "c3", "--set", f"width={10**20}"), "setting width: expected below 2^31"),
        ("train", ("--method", "c3", "--set", "groups=999999999"), "the memory does not suffice for a block of"),
        ("train", ("--set", "hide_seed=0", "--set", "folds=9"), "found 3; leave folds out"),
        ("sweep", ("--lr", 1e-3, "--set", "lr=1e-2"), f"--set: lr {TWICE}"),
        ("sweep", ("--set", "lr=1e-3", "--set", "lr=1e-2"), f"--set: lr {TWICE}"),
        ("sweep", ("--folds", 2, "--set", "folds=3"), "--set: folds is given by --folds and --held-images too"),
        ("sweep", ("--folds", 99999999999), "not in the range 2<=x<=1000"),
        ("sweep", ("--hide-seeds", "0..99999999999"), "--hide-seeds: a range has at most 10,000 numbers"),
        ("sweep", ("--folds", 2, "--held-images", "nan"), "'nan' is not a number"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 9 else "",
)  # fmt: skip
def test_an_odd_value_is_refused_before_anything_is_trained(
    command: str, options: tuple[object, ...], said: str, make_cache: Make, tmp_path: Path
) -> None:
    method = () if "--method" in options else ("--method", "conse")
    done = c3(command, "--cache", make_cache().path, "--runs", tmp_path / "runs", *method, *map(str, options))
    assert done.exit_code == 2, done.output
    assert said in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_range_of_seeds_trains_each_once(make_cache: Make, tmp_path: Path) -> None:
    done = c3("train", "--cache", make_cache().path, "--runs", tmp_path / "runs", "--method", "conse", "--epochs", 1,
              "--seeds", "1..2", 2, "--device", "cpu")  # fmt: skip
    assert done.exit_code == 0, done.output
    names = [Path(line.split()[0]).name for line in done.stdout.splitlines()[:-1]]
    assert [name.split("-")[2] for name in names] == ["s1", "s2"]


@pytest.mark.parametrize("name", ["lr", "epochs"])
def test_true_is_no_number(name: str) -> None:
    with pytest.raises(C3Error, match=f"setting {name}: expected a (whole )?number, found True"):
        options_from(LoopOptions, {name: True})


@pytest.mark.parametrize("make", [torch.empty, np.empty], ids=["torch", "numpy"])
def test_memory_that_runs_out_is_one_line_and_other_errors_pass(make: Callable[[int], object]) -> None:
    with (
        pytest.raises(C3Error, match=r"the memory does not suffice for a block of .*; buy some"),
        told_when_full("buy some"),
    ):
        make(2**45)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), told_when_full("buy some"):
        torch.zeros(2, 3) @ torch.zeros(2, 3)
