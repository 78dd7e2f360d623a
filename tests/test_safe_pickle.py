"""Pickles of plain data are read; the rest is in test_word_vectors.py, where most of them come from."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from c3.common.errors import C3Error
from c3.common.safe_pickle import load_pickle


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_ordered_dicts_and_numpy_numbers_are_read(tmp_path: Path, protocol: int) -> None:
    numbers = [np.float32(1.5), np.int64(-3), np.bool_(True), np.str_("ab"), np.float16(2), np.complex64(1j)]
    content = OrderedDict(dog=np.arange(3.0), cat=np.arange(3, dtype=">f4")[::-1], numbers=numbers)
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    found = load_pickle(tmp_path / "x.pkl")
    assert isinstance(found, OrderedDict)
    assert list(found) == ["dog", "cat", "numbers"]
    np.testing.assert_array_equal(found["cat"], [2, 1, 0])
    assert found["numbers"] == numbers


@pytest.mark.parametrize(
    "arguments",
    [
        b"(S'O8'\nI00\nI01\ntRS'abcdefgh'\n",  # a number that would be an object
        b"(S'f8'\nI00\nI01\ntRS'abc'\n",
        b"(S'f8'\nI00\nI01\ntRI5\n",
    ],
)
def test_unusual_numbers_are_refused(tmp_path: Path, arguments: bytes) -> None:
    (tmp_path / "x.pkl").write_bytes(b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n" + arguments + b"tR.")
    with pytest.raises(C3Error, match=r"x\.pkl is refused: a number of an unusual kind"):
        load_pickle(tmp_path / "x.pkl")
