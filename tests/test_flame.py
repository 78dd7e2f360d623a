"""benchmarks/flame.py draws the samples of py-spy: shares of the main thread below a function."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from c3.common.errors import C3Error
from PIL import Image

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
MODULE = "<module> (c3/__main__.py:1)"
FIT = f"thread (7): MainThread;{MODULE};fit (c3/train/loop.py:92)"
FORWARD = "forward (c3/train/models/x.py:9)"
READ = "run (threading.py:971);read (c3/extract/store/arrays.py:40)"
STACKS = f"""thread (7): MainThread;{MODULE};train (c3/train/run.py:103);load (torch/serialization.py:5) 900
{FIT};_call_impl (torch/nn/modules/module.py:1783);{FORWARD};relu (torch/nn/functional.py:1766) 30
{FIT};{FORWARD} 20
{FIT};backward (torch/_tensor.py:1) 49
thread (8): decode_0;{READ} 300
thread (9): decode_1;{READ} 200
thread (3): asyncio_0;run (threading.py:971) 700
"""


@pytest.fixture
def flame(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return import_module("flame")


def test_a_checkout_of_any_name_is_c3(flame: ModuleType) -> None:
    assert flame.from_package("checkout/train/loop.py") == "c3/train/loop.py"
    assert flame.from_package("torch/nn/functional.py") == "torch/nn/functional.py"


def test_boxes_are_shares_below_the_function(flame: ModuleType) -> None:
    root = flame.below(STACKS, "fit")
    boxes = [(node.name, left, width, depth) for node, left, width, depth in root.boxes()]
    assert boxes == [
        ("fit", 0.0, 1.0, 0),
        ("forward", 0.0, pytest.approx(50 / 99), 1),  # with and without the frame that passes the call on
        ("relu", 0.0, pytest.approx(30 / 99), 2),
        ("backward", pytest.approx(50 / 99), pytest.approx(49 / 99), 1),
    ]
    assert list(flame.shares(root))[3] == "| 50.5% | 20.2% | forward | c3/train/models/x.py |"


def test_other_threads_are_counted_by_pool(flame: ModuleType) -> None:
    """Those of c3: a thread of asyncio waits in the system, which looks like work."""
    assert flame.others(STACKS) == {"decode": pytest.approx(500 / 999)}


def test_a_function_that_is_not_called(flame: ModuleType) -> None:
    with pytest.raises(C3Error, match="no sample of the main thread is in fits"):
        flame.below(STACKS, "fits")


@pytest.mark.parametrize("recorded", [False, True], ids=["kept", "recorded"])
def test_samples_are_drawn(
    flame: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    recorded: bool,
) -> None:  # fmt: skip
    """Of a command that py-spy runs, or of a file that has them."""
    kept, ran = tmp_path / "stacks.txt", []

    def record(command: list[str], stacks: Path, rate: int) -> None:
        ran.append((command, rate))
        stacks.write_text(STACKS)

    monkeypatch.setattr(flame, "record", record)
    if not recorded:
        kept.write_text(STACKS)
    command = ["--", "train", "--cache", "s.zarr", "--below"] if recorded else []
    options = [str(tmp_path / "flame.png"), "--below", "fit", "--stacks", str(kept), "--rate", "20"]
    monkeypatch.setattr(sys, "argv", ["flame.py", *options, *command])
    flame.main()
    assert ran == ([(command[1:], 20)] if recorded else [])
    assert "99 samples below fit" in capsys.readouterr().out
    with Image.open(tmp_path / "flame.png") as picture:
        assert picture.format == "PNG"


def test_no_command_and_no_samples(
    flame: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(tmp_path / "flame.png"), "--below", "fit", "--stacks", str(tmp_path / "none.txt")]
    monkeypatch.setattr(sys, "argv", ["flame.py", *command])
    with pytest.raises(SystemExit) as end:
        flame.main()
    assert end.value.code == 2
    assert "samples of py-spy not found" in capsys.readouterr().err.splitlines()[-1]
