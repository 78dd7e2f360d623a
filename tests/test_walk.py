"""Folders of pictures: links, suffixes, names, what is left out and why, and what is refused."""

from __future__ import annotations

import logging
import os
import socket
import sys
import unicodedata
from pathlib import Path

import pytest
from c3.common.errors import C3Error
from c3.extract.backbone.pictures import decode
from c3.predict.images import find_pictures
from odd_pictures import encoded, ramp_picture


def build(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(folder: Path, *places: str) -> list[str]:
    return [
        path.relative_to(folder).as_posix() for path in find_pictures([folder / place for place in places or ["."]])
    ]


def test_links_are_followed_and_every_folder_is_entered_once(tmp_path: Path) -> None:
    build(tmp_path, "in/a.jpg", "in/real/b.jpg", "elsewhere/c.jpg", "elsewhere/deep/d.jpg")
    links = {
        "in/album": "../elsewhere", "in/again": "../elsewhere", "in/0real": "real", "in/real/up": "..",
        "elsewhere/back": "../in", "in/self": "self", "in/e.jpg": "../elsewhere/c.jpg",
    }  # fmt: skip
    for link, target in links.items():
        (tmp_path / link).symlink_to(target)
    expected = ["in/a.jpg", "in/again/c.jpg", "in/again/deep/d.jpg", "in/e.jpg", "in/real/b.jpg"]
    assert found(tmp_path, "in") == expected
    assert found(tmp_path, "in", "in/real", "in/album", "elsewhere") == expected  # nothing new, and no error
    alone = found(tmp_path, "in/**/[bd].jpg")
    assert len(alone) == 2  # though links lead round in circles


def test_every_suffix_with_a_decoder_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    taken = ["a.jpg", "b.JPEG", "c.jfif", "d.jpe", "e.mpo", "f.avif", "g.jp2", "h.j2k", "i.webp", "j.Png", "k.apng",
             "l.TIF", "m.tiff", "n.bmp", "o.gif", "p.ppm", "q.pgm", "r.ico", "s.tga", "t.psd", "u.qoi"]  # fmt: skip
    build(tmp_path, *taken, "0.txt", "1.txt", "2.mp4", "3.mpg", "4.h5", "5.eps", "6.dng", "7.svg", ".hidden.jpg")
    build(tmp_path, ".thumbnails/x.jpg")
    assert found(tmp_path) == taken
    assert caplog.messages == ["left out: 2 .txt, 2 hidden, 1 .dng, 1 .eps, 1 .h5, 1 .mp4, 1 .mpg, 1 .svg"]


def test_what_systems_keep_beside_pictures_is_hidden(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = ["@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg", "#recycle/b.jpg", "$RECYCLE.BIN/c.jpg", "__MACOSX/._a.jpg"]
    build(tmp_path, "in/a.jpg", *(f"in/{name}" for name in names))
    assert found(tmp_path, "in") == found(tmp_path, "in/**/*.jpg") == ["in/a.jpg"]
    assert caplog.messages == ["left out: 4 hidden"]
    assert found(tmp_path, "in/#recycle") == ["in/#recycle/b.jpg"]  # asked for by name


def test_a_file_without_a_suffix_is_taken_for_what_is_in_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number, form in enumerate(("JPEG", "PNG", "GIF", "WEBP", "TIFF", "AVIF", "BMP")):
        (tmp_path / str(number)).write_bytes(encoded(ramp_picture(), form))
    (tmp_path / "README").write_text("no picture")
    (tmp_path / "empty").touch()
    assert found(tmp_path) == list("0123456")
    assert caplog.messages == ["left out: 2 without suffix"]


def test_sidecars_are_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    build(tmp_path, "in/a.jpg", "in/a.jpg.xmp", "in/b.XMP")
    for places in (["in"], ["in/*"], ["in/a.jpg", "in/a.jpg.xmp", "in/b.XMP"]):
        assert found(tmp_path, *places) == ["in/a.jpg"]
    assert caplog.messages == []
    with pytest.raises(C3Error, match="no pictures"):
        found(tmp_path, "in/b.XMP")


def test_heic_has_a_hint(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    decode.add_heif_decoder.cache_clear()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    build(tmp_path, "a.jpg", "b.HEIC", "c.heif")
    assert found(tmp_path) == ["a.jpg"]
    assert caplog.messages == [
        "left out: 1 .heic, 1 .heif; for HEIC pictures install a decoder: pip install pillow-heif"
    ]
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(C3Error, match=r"no pictures at .* \(left out: 1 .heic, 1 .heif; .*pip install pillow-heif"):
        find_pictures([tmp_path])


def test_names_in_any_form_are_found(tmp_path: Path) -> None:
    names = [
        "é.jpg", unicodedata.normalize("NFD", "ü.jpg"), "日本.png", "🙂.gif", " blank .jpg", "a[1].jpg",
        "#%20?.png", os.fsdecode(b"\xff\xfe.jpg"), "line\nbreak.jpg", "-x.jpg",
    ]  # fmt: skip
    build(tmp_path, *names)
    assert sorted(found(tmp_path)) == sorted(names)
    assert find_pictures([tmp_path / "a[1].jpg"]) == [tmp_path / "a[1].jpg"]


def test_what_is_no_file_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(tmp_path, "a.jpg", "folder.jpg/b.jpg", "locked/c.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.png")
    (tmp_path / "broken.jpg").symlink_to("nowhere.jpg")
    scan = os.scandir

    def scandir(path: Path) -> object:
        if path.name == "locked":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert found(tmp_path) == ["a.jpg", "folder.jpg/b.jpg"]
    assert caplog.messages == ["left out: 2 no regular file, 1 broken link, 1 folder without permission"]
    with pytest.raises(C3Error, match=r"no pictures at .*locked \(left out: 1 folder without permission\)"):
        find_pictures([tmp_path / "locked"])


def test_many_kinds_of_files_still_make_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    build(tmp_path, "a.jpg", *(f"x.{number}" for number in range(20)))
    assert found(tmp_path) == ["a.jpg"]
    assert caplog.messages[0].endswith(", 12 others")


def test_nothing_is_logged_where_nothing_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    build(tmp_path, "a.jpg")
    assert found(tmp_path) == ["a.jpg"]
    assert not caplog.messages


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    build(tmp_path, "a.jpg", "none/deep/.keep")
    with pytest.raises(C3Error, match=r"no pictures at .*none \(left out: 1 hidden\): expected files such as a.jpg"):
        find_pictures([tmp_path / "a.jpg", tmp_path / "none"])
    for places in ([], [f"{tmp_path}/*.gif"]):
        with pytest.raises(C3Error, match="no pictures"):
            find_pictures(places)
    assert find_pictures(["x\0.jpg", "y" * 300]) == [Path("x\0.jpg"), Path("y" * 300)]  # reading them will fail by name
