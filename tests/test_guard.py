"""benchmarks/guard.py fails where a ratio became worse, and only a quiet machine may store ratios."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from c3.extract.store.cache import FeatureCache

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def guard(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, on a quiet machine."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr("os.getloadavg", lambda: (0.1, 0.1, 0.1))
    return import_module("guard")


@pytest.fixture
def run(
    guard: ModuleType, make_cache: Callable[..., FeatureCache], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., int]:
    """A run that finds these ratios beside the stored 10 and 2, tolerance 20 %; returns its exit code."""
    monkeypatch.setattr(guard, "STORED", tmp_path / "guard.json")
    bounds = {name: guard.Bound(ratio, 0.2) for name, ratio in (("c3 / memmap", 10.0), ("evaluate / sklearn", 2.0))}
    guard.Stored("a machine of old", bounds).write()

    def run(*options: str, reading: float = 10.0, evaluating: float = 2.0) -> int:
        found = {"c3 / memmap": reading, "evaluate / sklearn": evaluating}
        monkeypatch.setattr(guard, "PARTS", (lambda store, size: found,))
        monkeypatch.setattr(sys, "argv", ["guard.py", str(make_cache().path), *options])
        with pytest.raises(SystemExit) as end:
            guard.main()
        return int(end.value.code or 0)

    return run


@pytest.mark.parametrize("found", [2.0, 1.61, 30.0], ids=["as before", "tolerated", "better"])
def test_a_ratio_within_its_tolerance_passes(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], found: float
) -> None:
    assert run(evaluating=found) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert ("| better: --write |" in printed.out) is (found > 2.5)


def test_a_worse_ratio_fails_with_a_line(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(evaluating=1.59) == 1
    printed = capsys.readouterr()
    assert printed.err == (
        "evaluate / sklearn: found 1.590, expected 2.000 less 20%, so at least 1.600; "
        "guard.json was measured on a machine of old\n"
    )
    assert printed.out.count("| worse |") == 1


def test_write_keeps_tolerances_and_says_where(
    run: Callable[..., int], guard: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a ratio is worse, which still fails."""
    monkeypatch.setattr(guard, "here", lambda load: f"this machine, load {load}")
    assert run("--write", reading=7.0) == 1
    assert json.loads(guard.STORED.read_text()) == {
        "measured": "this machine, load 0.1",
        "bounds": {
            "c3 / memmap": {"ratio": 7.0, "tolerance": 0.2},
            "evaluate / sklearn": {"ratio": 2.0, "tolerance": 0.2},
        },
    }


@pytest.mark.parametrize("option", ["--busy", "--quick"])
def test_write_wants_a_quiet_machine_and_all_rows(
    run: Callable[..., int], guard: ModuleType, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    before = guard.STORED.read_bytes()
    assert run("--write", option, reading=20.0) == 2
    assert "leave --busy and --quick out" in capsys.readouterr().err.splitlines()[-1]
    assert guard.STORED.read_bytes() == before


def test_the_stored_ratios_can_be_read(guard: ModuleType) -> None:
    assert set(guard.Stored.read().bounds) == {
        "c3 / memmap, cold", "c3 / memmap, warm", "extract / forward", "train / bare step, ram",
        "train / bare step, stream", "evaluate / sklearn",
    }  # fmt: skip


@pytest.mark.slow
def test_every_part_measures_its_ratios(
    guard: ModuleType, make_cache: Callable[..., FeatureCache], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A quick run of everything, whose figures mean nothing: all ratios are found, and none fails."""
    pytest.importorskip("h5py")
    monkeypatch.setattr(sys, "argv", ["guard.py", str(make_cache(40).path), "--quick", "--busy"])
    with pytest.raises(SystemExit) as end:
        guard.main()
    assert end.value.code == 0
    rows = [line.split(" | ")[:2] for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][1:]
    assert [name.removeprefix("| ") for name, _ in rows] == list(guard.Stored.read().bounds)
    assert all(float(found) > 0 for _, found in rows)


def test_a_store_that_is_none_is_refused(
    guard: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["guard.py", "none.zarr"])
    with pytest.raises(SystemExit) as end:
        guard.main()
    assert end.value.code == 2
    assert "no feature store at none.zarr" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("script", ["guard", "store"])
def test_a_busy_machine_is_refused(
    guard: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], script: str
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (1.6, 1.0, 1.0))
    monkeypatch.setattr(sys, "argv", [f"{script}.py", "features.zarr"])
    with pytest.raises(SystemExit) as end:
        import_module(script).main()
    assert end.value.code == 2
    assert "the load of this machine is 1.6, expected at most 0.3" in capsys.readouterr().err
