"""The words of a user: compared in NFC, one a line, and never two in one without a word."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from c3.common.errors import C3Error
from c3.common.text_files import word_list
from c3.extract.catalog.catalog import Catalog
from c3.extract.store.tables import Classes
from c3.predict.vocabulary import find_vocabulary

VECTORS = np.eye(3, dtype=np.float32)


def classes(*names: str) -> Classes:
    return Classes(names, np.ones(len(names), bool), VECTORS[: len(names)])


@pytest.mark.parametrize("asked", ["caf\u00e9", "cafe\u0301", " caf\u00e9\u200b "])
@pytest.mark.parametrize("stored", ["caf\u00e9", "cafe\u0301"])
def test_a_word_is_found_in_every_unicode_form(asked: str, stored: str, tmp_path: Path) -> None:
    found = find_vocabulary([asked, "dog"], None, classes("dog", stored, "cat"), Catalog())
    assert found.words == ("caf\u00e9", "dog")
    assert found.vectors.tolist() == VECTORS[[1, 0]].tolist()
    (tmp_path / "glove.txt").write_text(f"dog 1 0 0\n{stored} 0 1 0\ncafe 0 0 1\n", "utf-8")
    looked_up = find_vocabulary([asked, "dog"], str(tmp_path / "glove.txt"), classes("dog", "cat"), Catalog())
    assert looked_up.vectors.tolist() == found.vectors.tolist()


@pytest.mark.parametrize("words", [["caf\u00e9", "cafe\u0301"], ["dark red", "dark\u00a0red"], ["dog", "dog "]])
def test_one_word_in_two_forms_is_repeated(words: list[str]) -> None:
    with pytest.raises(C3Error, match="1 repeated: "):
        find_vocabulary(words, None, classes("caf\u00e9", "dark red", "dog"), Catalog())


@pytest.mark.parametrize(
    ("word", "said"),
    [
        pytest.param("", "word 2 is empty", id="empty"),
        pytest.param("\u200b", "word 2 is empty", id="invisible"),
        pytest.param("a\0", r"'a\\x00' as word 2", id="nul"),
        pytest.param("\ud800", r"'\\ud800' as word 2", id="surrogate"),
    ],
)
def test_what_is_no_word_is_refused(word: str, said: str) -> None:
    with pytest.raises(C3Error, match=said):
        find_vocabulary(["dog", word], None, classes("dog"), Catalog())


def test_words_that_may_be_several_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "glove.txt").write_text("dog 1 0 0\ncat 0 1 0\n")
    words = ["dog, cat", "cat;dog", "dog", "flowers, potted"]
    with caplog.at_level(logging.WARNING):
        find_vocabulary(
            words, str(tmp_path / "glove.txt"), classes("dog", "flowers, potted"), Catalog(), drop_unknown=True
        )
    assert "words that may be several words in one: 'dog, cat', 'cat;dog'; give each on its own" in caplog.messages


@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16"])
def test_word_lists(tmp_path: Path, code: str) -> None:
    (tmp_path / "words.txt").write_bytes("# words\r\ndog\r\r\nnew  york\r\n\u200b\ncafe\u0301\x85x".encode(code))
    assert word_list(tmp_path / "words.txt") == ["dog", "new york", "caf\u00e9 x"]
    (tmp_path / "quoted.txt").write_text('"red, dog"\n"a ""b"""\n"a" "b"\n"\n""\n5" gun\n')
    assert word_list(tmp_path / "quoted.txt") == ["red, dog", 'a "b"', '"a" "b"', '"', '5" gun']
    (tmp_path / "words.txt").write_bytes("dog\n\ndog\t3\n".encode(code))
    with pytest.raises(C3Error, match=r"words\.txt line 3: expected one word or name per line, found a tab"):
        word_list(tmp_path / "words.txt")
