"""c3 sweep in processes: the same weights, the store read once, and nothing lost by signals and deaths."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from c3.cli import main
from c3.common.devices import nth_device
from c3.common.errors import C3Error
from c3.common.signals import stop_requests
from c3.extract.store.cache import FeatureCache
from c3.train import sweep as sweeping
from c3.train.data import placement as residency
from c3.train.data.shared_arrays import SharedArrays
from c3.train.data.shuffle_buffers import ChunkedArrays
from c3.train.run import TrainOptions
from c3.train.run_folder import Run, list_runs
from c3.train.sweep import Swept, combinations, sweep
from click.testing import CliRunner
from forks import start_server
from safetensors.torch import load_file

Make = Callable[..., FeatureCache]
SETTINGS = {"epochs": 2, "batch_size": 8, "lr": 1e-3, "hidden1": 16, "hidden2": 8}  # with dropout: random numbers count


@pytest.fixture(scope="module", autouse=True)
def server() -> None:
    """A sweep takes the server of all tests."""
    start_server()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As many threads here as two processes of a sweep have each: sums are then added in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def options(cache: FeatureCache, folder: Path, **settings: object) -> TrainOptions:
    return TrainOptions(cache.path, "fast0tag", folder, SETTINGS | settings, device="cpu")


def seeds(count: int) -> list[dict[str, int]]:
    return combinations({"seed": range(count)})


def as_it_is(run: Run) -> Run:
    return run


def die_with_seed_1(run: Run) -> Run:
    if run.seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if run.seed == 2:
        raise ZeroDivisionError("unexpected")
    return run


def assert_same_weights(found: Swept, expected: Swept) -> None:
    assert len(found.runs) == len(expected.runs)
    for one, other in zip(found.runs, expected.runs, strict=True):
        assert one.id == other.id
        weights = load_file(one.path / "weights.safetensors"), load_file(other.path / "weights.safetensors")
        assert all(torch.equal(weights[0][name], values) for name, values in weights[1].items())


def test_processes_give_the_weights_of_one_and_never_read_the_arrays(
    make_cache: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    cache, real = make_cache(), sweeping._load
    expected = sweep(options(cache, tmp_path / "one"), seeds(3), as_it_is)

    def load_and_take_away(*arguments: object) -> str:
        found = real(*arguments)
        (cache.path / "train" / "pyramid").rename(tmp_path / "away")
        return found

    monkeypatch.setattr(sweeping, "_load", load_and_take_away)
    assert_same_weights(sweep(options(cache, tmp_path / "two"), seeds(3), as_it_is, jobs=2), expected)
    assert "the processes share 0.00 GB of arrays, which are read once" in caplog.text
    assert "2 processes, threads in each: 1" in caplog.text
    assert f"3 of 3: {expected.runs[2].id} on cpu: recipe" in caplog.text
    assert "residency" not in "".join(line for line in caplog.text.splitlines() if " of 3: " in line)


def test_one_process_reads_the_arrays_once_too(
    make_cache: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, read = ChunkedArrays.read, []

    def counted(self: ChunkedArrays, chunks: np.ndarray, memory: dict[str, np.ndarray]) -> None:
        read.extend(chunks.tolist())
        real(self, chunks, memory)

    monkeypatch.setattr(ChunkedArrays, "read", counted)
    assert len(sweep(options(make_cache(rows=40), tmp_path), seeds(3), as_it_is).runs) == 3
    assert read == [0, 1, 2, 3, 4]


def test_arrays_that_do_not_fit_are_streamed_and_this_is_said(
    make_cache: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    cache = make_cache()
    expected = sweep(options(cache, tmp_path / "one"), seeds(2), as_it_is)
    monkeypatch.setattr(residency, "free_memory", lambda: 1000)
    assert_same_weights(sweep(options(cache, tmp_path / "two"), seeds(2), as_it_is, jobs=2), expected)
    assert "residency stream: the arrays are 0.00 GB" in caplog.text
    assert "every process reads the arrays itself, in every epoch" in caplog.text


def test_a_process_that_dies_is_one_failure_and_the_rest_goes_on(
    make_cache: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    base = options(make_cache(), tmp_path / "runs")
    done = sweep(base, seeds(4), die_with_seed_1, jobs=2)
    assert [run.seed for run in done.runs] == [0, 3]
    assert [settings["seed"] for settings, _ in done.failures] == [1, 2]
    assert "ended by SIGKILL, which the system sends when memory runs out" in done.failures[0][1]
    assert "exit code 1 (ZeroDivisionError: unexpected); the same command" in done.failures[1][1]
    assert "3 of 4: Traceback" in caplog.text
    assert [run.seed for run in sweep(base, seeds(4), as_it_is, jobs=2).runs] == [0, 1, 2, 3]


def test_what_stops_the_first_one_stops_the_sweep(make_cache: Make, tmp_path: Path) -> None:
    cache = make_cache()
    with pytest.raises(C3Error, match=r"--residency device: .*use --residency ram, or --jobs 1"):
        sweep(TrainOptions(cache.path, residency="device"), seeds(2), as_it_is, jobs=2)
    diverging = combinations({"lr": (1e30, 1e-3, 2e-3)})
    with pytest.raises(C3Error, match=r"loss is|not finite"):
        sweep(options(cache, tmp_path / "runs", epochs=50), diverging, as_it_is, jobs=2)
    assert multiprocessing.active_children() == []


def arguments(cache: FeatureCache, folder: Path, epochs: int) -> list[str]:
    asked = ["sweep", "--cache", str(cache.path), "--method", "fast0tag", "--runs", str(folder), "--device", "cpu",
             "--seeds", "0", "1", "2", "--epochs", str(epochs), "--jobs", "2"]  # fmt: skip
    for name in ("batch_size", "lr", "hidden1", "hidden2"):
        asked += ["--set", f"{name}={SETTINGS[name]}"]
    return asked


def two_checkpoints(folder: Path, newer: float = 0.0) -> bool:
    return sum(file.stat().st_mtime > newer for file in folder.glob("*/checkpoint.safetensors")) == 2


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until, "what two processes do has not come in two minutes"
        time.sleep(0.01)


def send_when_two_are_under_way(number: signal.Signals, folder: Path) -> None:
    started = time.time()
    wait_for(lambda: two_checkpoints(folder, started))
    os.kill(os.getpid(), number)


def test_a_signal_lets_every_process_save_and_the_same_command_continues(make_cache: Make, tmp_path: Path) -> None:
    cache, folder = make_cache(), tmp_path / "runs"
    asked = arguments(cache, folder, epochs=80)
    for number in (signal.SIGINT, signal.SIGTERM):
        threading.Thread(target=send_when_two_are_under_way, args=(number, folder), daemon=True).start()
        stopped = CliRunner().invoke(main, [*asked, "--checkpoint-steps", "1"])
        assert stopped.exit_code == 130, stopped.output
        assert "c3: interrupted. 0 of 3 are done; the same command continues with the others" in stopped.stderr
        for place in (1, 2):
            assert f"{place} of 3: interrupted. {folder}" in stopped.stderr
        assert [run.finished for run in list_runs(folder)] == [False, False]
    went_on = CliRunner().invoke(main, asked)
    assert went_on.exit_code == 0, went_on.output
    assert went_on.stderr.count("continuing after") == 2
    one = sweep(options(cache, tmp_path / "one", epochs=80), seeds(3), as_it_is)
    assert_same_weights(Swept(tuple(sorted(list_runs(folder), key=lambda run: run.seed)), ()), one)


def test_processes_stop_in_good_order_when_their_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from c3.train.processes import outcomes; import endless_task; "
        "list(outcomes(endless_task.wait_for_a_signal, [Path(sys.argv[1])] * 2, jobs=2))"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    with subprocess.Popen([sys.executable, "-c", code, tmp_path], env={**os.environ, "PYTHONPATH": path}) as parent:
        wait_for(lambda: len(list(tmp_path.glob("began-*"))) == 2)
        parent.kill()
    wait_for(lambda: len(list(tmp_path.glob("saved-*"))) == 2)


def test_sigterm_may_come_twice_and_ctrl_c_does_not_wait() -> None:
    with stop_requests() as stop:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_devices_are_dealt_in_turn_where_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [nth_device("auto", slot) for slot in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert [nth_device(name, 1) for name in ("cuda", "cuda:0", "cpu")] == ["cuda:1", "cuda:0", "cpu"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert nth_device("auto", 1) == "auto"


def test_memory_is_held_in_a_temporary_file_where_the_system_has_no_better(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    with SharedArrays() as held:
        tensor = held.empty((3, 4), dtype=torch.float16, device=torch.device("cpu"))
        held.put(("digest", "train", "p8"), tensor.fill_(2))
        assert held.size == 24
        assert held.get(("digest", "train", "p8")).tolist() == [[2.0] * 4] * 3
        assert held.get(("other", "train", "p8")) is None
