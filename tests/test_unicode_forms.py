"""Names are compared in NFC, and files are found whatever the form in which their names are stored."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from unicodedata import normalize

import pytest
from c3.common.errors import C3Error
from c3.common.files import require_file
from c3.common.unicode_forms import clean_name, is_text, nfc, on_disk

COMPOSED, DECOMPOSED = (normalize(form, "Ünïté/Ålesund é.jpg") for form in ("NFC", "NFD"))
MIXED = normalize("NFC", "Ünïté/") + normalize("NFD", "Ålesund ") + normalize("NFC", "é.jpg")
HALF_MIXED = "Ünïté/Ålesund é".replace("é", "e\u0301") + ".jpg"  # one letter of a name decomposed, another not


@pytest.mark.parametrize("stored", [COMPOSED, DECOMPOSED, MIXED, HALF_MIXED])
@pytest.mark.parametrize("asked", [COMPOSED, DECOMPOSED, MIXED, HALF_MIXED])
def test_a_file_is_found_in_every_form(tmp_path: Path, stored: str, asked: str) -> None:
    file = tmp_path / stored
    file.parent.mkdir()
    file.touch()
    assert on_disk(tmp_path / asked) == file
    assert require_file(tmp_path / asked, "picture") == file


def test_the_exact_name_wins_where_both_forms_exist(tmp_path: Path) -> None:
    for name in (nfc("é.jpg"), normalize("NFD", "é.jpg")):
        (tmp_path / name).touch()
        assert on_disk(tmp_path / name) == tmp_path / name


def test_a_folder_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    asked, stored = tmp_path / "é û.jpg", tmp_path / "e\u0301 û.jpg"
    assert on_disk(asked) == asked
    stored.touch()
    assert on_disk(asked) == stored


@pytest.mark.parametrize("name", ["é\0.jpg", "é" * 300, "\ud800é.jpg", "a" * 300, "a\0"])
def test_a_name_that_no_file_can_have_is_not_found(tmp_path: Path, name: str) -> None:
    assert on_disk(tmp_path / name) == tmp_path / name
    with pytest.raises(C3Error, match="picture not found"):
        require_file(tmp_path / name, "picture")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("caf\u00e9", "café"),
        ("cafe\u0301", "café"),
        ("\u212bngstr\u00f6m", "Ångström"),
        ("\u1100\u1161", "가"),
        ("dark\u00a0red", "dark red"),
        (" dark \t  red\u3000", "dark red"),
        ("\ufeffdog", "dog"),
        ("do\u200bg\u200e", "dog"),
        ("wood\u00adpecker", "woodpecker"),
        ("नी\u200dला", "नी\u200dला"),
    ],
)
def test_names_that_look_the_same_are_the_same(text: str, name: str) -> None:
    assert clean_name(text) == normalize("NFC", name)


def test_text_that_cannot_be_written_is_told_apart() -> None:
    assert [is_text(text) for text in ("日本", "", "a\0", "\ud800", "\udce6")] == [True, True, False, False, False]


def test_an_ascii_locale_finds_utf8_names(tmp_path: Path) -> None:
    (tmp_path / "日本.jpg").write_text("here")
    program = (
        "import sys; from pathlib import Path; from c3.common.unicode_forms import on_disk\n"
        "print(on_disk(Path(sys.argv[1]) / '\\u65e5\\u672c.jpg').read_text())"
    )
    posix = {"LC_ALL": "POSIX", "LANG": "", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], env=posix, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("here\n", "")
