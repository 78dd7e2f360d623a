"""The examples in docstrings give what they say.

`--doctest-modules` is not used: it would import the checkout under the name of its folder and not as `c3`.
"""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(
    ".".join(("c3", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for folder in ("", "common/**", "extract/**", "train/**", "evaluate/**", "predict/**")
    for path in ROOT.glob(f"{folder}/*.py".lstrip("/"))
    if ">>> " in path.read_text()
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # examples may write files
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert found.attempted > 0
    assert found.failed == 0
