"""The benchmarks of store, losses and methods run through: a quick run of each, whose figures mean nothing."""

from __future__ import annotations

import json
import logging
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from c3.extract.store.cache import FeatureCache
from c3.train.run import TrainOptions, train

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """run(script, *arguments) -> what a benchmark prints.

    It runs in this process, as `python` would run it: a process of its own would import torch first, which takes longer
    than the rest.
    """

    def in_this_process(script: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [str(BENCHMARKS / script), *arguments])
        runpy.run_path(sys.argv[0], run_name="__main__")
        return capfd.readouterr().out

    threads = torch.get_num_threads()
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setenv("LITDATA_DISABLE_VERSION_CHECK", "1")  # store.py sets it
    monkeypatch.setattr(logging.getLogger("c3"), "setLevel", lambda level: None)  # other tests read the log
    yield in_this_process
    torch.set_num_threads(threads)


def run_apart(*command: str) -> str:
    """What a benchmark prints that starts processes of its own kind, and so needs one to itself."""
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / command[0]), *command[1:]], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_codecs(run: Run, make_cache: Callable[..., FeatureCache]) -> None:
    table = run("codecs.py", str(make_cache(16).path), "--quick")
    assert "| float16 | auto | 16 |" in table
    assert "| int8 | auto | 16 |" in table


def test_reading(run: Run, make_cache: Callable[..., FeatureCache]) -> None:
    table = run("reading.py", str(make_cache(40).path))
    assert table.startswith("40 rows of train, codec auto")
    steps = {line.split(" |")[0]: line for line in table.splitlines()}
    for step in ("fetch", "crc32c", "decompress", "gather"):
        assert all(float(cell) > 0 for cell in steps[f"| {step}"].split("|")[2:5])


def test_cpu_settings(table_dataset: Path) -> None:
    data = ("--catalog", str(table_dataset / "catalog.yaml"), "--dataset", "tiny")
    table = run_apart("cpu_settings.py", "--quick", *data, "--ways", "a process per thread")
    assert re.search(r"\| a process per thread \| [\d.]+ \| 1.00 \| \d+ \| p4 0.0e\+00, p8 0.0e\+00", table), table


def test_losses() -> None:
    """The dense form gives the value of `hinge`, or the run fails; it is not measured where it does not fit."""
    table = run_apart("losses.py", "--quick")
    assert "| complete | 128 | 128 | dense hinge |" in table
    assert "| complete | 256 | 256 | dense hinge |" not in table
    assert "- complete, 256 classes: 0.005 GiB; not measured" in table
    assert table.count("| across |") == 3


def test_maps(run: Run, make_cache: Callable[..., FeatureCache], tmp_path: Path) -> None:
    settings = {"epochs": 1, "batch_size": 8, "lr": 1e-3}
    done = train(TrainOptions(make_cache(40).path, "c3-plus", tmp_path / "runs", settings, device="cpu"))
    (row,) = run("maps.py", str(done.path), "--images", "4").splitlines()[2:]
    name, labels, mean, *quantiles, _, constant = (cell.strip() for cell in row.split("|")[1:-1])
    assert (name, labels, constant) == (done.path.name, "8", "0")
    low, middle, high = map(float, quantiles)
    assert -1 <= low <= middle <= high <= 1 and low <= float(mean.split()[0]) <= high


def test_methods(run: Run) -> None:
    table = run("methods.py", "--quick", "--methods", "c3", "cnn-rnn")
    assert [line.split(" |")[0] for line in table.splitlines()[4:]] == ["| c3", "| cnn-rnn"]


def test_gpu_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU with tiny sizes. A check that fails is a row, and the others run all the same."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import gpu_check

    names = ["resume", "copies", "attention fp32", "predict", "train c3-plus"]
    command = ["gpu_check.py", "--quick", "--device", "cpu", "--out", str(tmp_path), "--only", *names]
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.setattr(logging.getLogger("c3"), "setLevel", lambda level: None)  # other tests read the log
    monkeypatch.setattr(gpu_check.Check, "attention", lambda *_: 1 / 0)
    with pytest.raises(SystemExit) as end:
        gpu_check.main()
    assert end.value.code == 1
    rows = {row.pop("check"): row for row in json.loads((tmp_path / "gpu_check.json").read_text())["checks"]}
    assert set(rows) == set(names)
    assert rows["attention fp32"]["failed"] == "ZeroDivisionError: division by zero"
    assert "not a CUDA device" in rows["copies"]["left out"]
    assert rows["resume"]["figures"] == {"bit-identical": True}
    assert {"bare rows/s", "ram of bare", "stream of bare", "ram int8 of bare"} <= set(rows["train c3-plus"]["figures"])
    assert "failed" not in rows["predict"]
    assert len((tmp_path / "gpu_check.md").read_text().splitlines()) == 2 + len(names)


@pytest.mark.parametrize(
    ("asked", "said"),
    [(["--device", "cuda:9"], "cuda:9"), (["--device", "cpu", "--only", "x"], "no check begins with x")],
)
def test_gpu_check_says_what_is_wrong_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], asked: list[str], said: str
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import gpu_check

    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--quick", "--out", str(tmp_path), *asked])
    monkeypatch.setattr(logging.getLogger("c3"), "setLevel", lambda level: None)
    with pytest.raises(SystemExit) as end:
        gpu_check.main()
    assert end.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_scale(run: Run) -> None:
    assert "| 10,000 | build tasks |" in run("scale.py", "--quick")


def test_search(run: Run) -> None:
    """The best rows are those of a full sort, or the run fails."""
    assert "| 1,000 |" in run("search.py", "--quick")


def test_store(run: Run, make_cache: Callable[..., FeatureCache]) -> None:
    """c3 beside the memmap and one peer: every epoch checks itself against the source."""
    pytest.importorskip("h5py")
    table = run("store.py", str(make_cache(40).path), "--quick", "--only", "c3", "HDF5 in chunks")
    assert "| c3 |" in table
    assert "| HDF5 in chunks |" in table


def test_training(run: Run, make_cache: Callable[..., FeatureCache]) -> None:
    """Every way to feed a head but the one that needs pictures."""
    pytest.importorskip("h5py")
    table = run("training.py", str(make_cache(40).path), "--quick", "--methods", "c3-plus")
    ways = [line.split(" |")[0] for line in table.splitlines() if line.startswith("| ")]
    assert ways == [f"| {way}" for way in ("way", "bare", "ram", "stream", "ram int8", "stream int8", "DataLoader, h5")]


def test_step(run: Run) -> None:
    table = run("step.py", "--quick", "--precision", "bf16")
    assert [line.split(" |")[0] for line in table.splitlines()[4:]] == [
        f"| {way}" for way in ("as it is", "attention, math", "shuffle, indexing", "both")
    ]


def test_table_reading(run: Run) -> None:
    assert "| strict |" in run("table_reading.py", "--quick")
