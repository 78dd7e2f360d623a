"""Every code block of docs/reading.md runs, on a float16 and on an int8 store, and gives the right values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c3.extract.store.cache import FeatureCache, Status
from c3.extract.store.layout import Layout

Make = Callable[..., FeatureCache]
PAGE = Path(__file__).resolve().parents[1] / "docs/reading.md"
BLOCKS = re.findall(r"^## (\w+)\n|^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
ROWS, FAILED = 40, 3  # a row that could not be read


def blocks() -> list[Any]:
    """(section, code) of every block, in the order of the page."""
    found, section = [], ""
    for heading, code in BLOCKS:
        section = heading or section
        if code:
            found.append(pytest.param(section, code, id=f"{section}-{len(found)}"))
    return found


@pytest.mark.parametrize("dtype", ["float16", "int8"])
@pytest.mark.parametrize(("section", "code"), blocks())
def test_block_of_the_page(
    section: str, code: str, dtype: str, make_cache: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for library in re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE):
        pytest.importorskip(library)
    cache = make_cache(ROWS, name="features.zarr", layout=Layout(8, 16, dtype))
    fail_row(cache)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code, f"{PAGE.name}, {section}", "exec"), names)
    assert CHECKS[section](names, cache), section


def fail_row(cache: FeatureCache) -> None:
    maps = {level.name: cache.read("train", level.name, 0, 16).copy() for level in cache.levels}
    status = np.full(16, Status.OK, np.uint8)
    status[FAILED] = Status.UNREADABLE
    for values in maps.values():
        values[FAILED] = 0
    cache.write_shard("train", 0, maps, status)


def true_maps(cache: FeatureCache) -> np.ndarray:
    return cache.read("train", "p32", 0, ROWS).astype(np.float32)


def stored(cache: FeatureCache) -> np.ndarray:
    """The first rows as they lie in the store, worked out from the features."""
    if cache.layout.dtype == "float16":
        return true_maps(cache)[:8]
    step, offset = cache._arrays.read("train/scale", 0)[-3:].T[:, :, None, None]
    return np.rint((true_maps(cache)[:8] - offset) / step)


def check_c3(names: Mapping[str, Any], cache: FeatureCache) -> bool:
    rows = [row for row in range(9) if row != FAILED]
    labels = cache.labels("train").dense(5, absent=-1)[rows]
    return (
        np.array_equal(names["batch"], true_maps(cache)[rows])
        and np.array_equal(names["labels"], labels)
        and names["paths"].tolist() == [f"train{row}.png" for row in range(9) if row != FAILED]
    )


def check_zarr(names: Mapping[str, Any], cache: FeatureCache) -> bool:
    if "values" in names:
        return np.allclose(names["values"], true_maps(cache)[:16], rtol=1e-3)
    usable = names["usable"].tolist() == [row != FAILED for row in range(8)]
    return usable and np.array_equal(names["rows"], stored(cache)) and names["names"].tolist() == list("abcde")


def check_xarray(names: Mapping[str, Any], cache: FeatureCache) -> bool:
    if "tree" in names:
        usable = names["usable"][:8].values.tolist() == [row != FAILED for row in range(8)]
        found = names["rows"].values.copy()
        names["tree"].close()
        return usable and np.array_equal(found, stored(cache))
    expected = np.delete(true_maps(cache), FAILED, axis=0).mean(axis=(2, 3))
    return names["means"].row[FAILED] == "train4" and np.allclose(names["means"], expected, rtol=2e-3)


CHECKS: dict[str, Callable[[Mapping[str, Any], FeatureCache], bool]] = {
    "c3": check_c3,
    "torch": lambda names, cache: names["rows"] == ROWS,
    "dask": lambda names, cache: np.allclose(names["channel_mean"], true_maps(cache).mean(axis=(0, 2, 3)), rtol=1e-5),
    "zarr": check_zarr,
    "xarray": check_xarray,
    "tensorstore": lambda names, cache: np.array_equal(names["rows"], stored(cache)),
    "JAX": lambda names, cache: np.array_equal(names["pooled"], true_maps(cache)[:8].max(axis=(2, 3))),
}
