"""Pictures that other viewers show: odd metadata, long texts, truncated and large. No setting of Pillow changes."""

from __future__ import annotations

import struct
import sys
import threading
import types
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from c3.common.errors import SettingError
from c3.extract.backbone.pictures import decode
from c3.extract.backbone.pictures.crops import Crop, load_crop
from c3.extract.backbone.pictures.decode_options import DEFAULT, DecodeOptions
from c3.extract.backbone.pictures.frame import read_frame
from c3.extract.backbone.pictures.remarks import Remark, RemarkCounts
from c3.extract.store.cache import Status
from odd_pictures import chunk, encoded, exif, jpeg_with, png_text, ramp_picture, with_chunks
from PIL import Image, ImageFile

WHOLE = np.float32([0, 0, 1, 1])
TURNED = (0x112, 3, 1, 6)  # the left becomes the top
KEEP = DecodeOptions(truncated="keep")
PNG = encoded(ramp_picture(), "PNG")
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
XMP = b'<x tiff:Orientation="6"/>'


def read(folder: Path, content: bytes, suffix: str = "jpg", options: DecodeOptions = DEFAULT) -> Crop:
    (folder / f"x.{suffix}").write_bytes(content)
    return load_crop(folder / f"x.{suffix}", WHOLE, 64, options)


def is_ramp(crop: Crop, turned: bool = False) -> bool:
    """Whether the pixels are the ramp, black on the left or, turned, on the top."""
    if crop.pixels is None:
        return False
    pixels = crop.pixels.transpose(1, 0, 2) if turned else crop.pixels
    return bool((np.abs(pixels[..., 0].astype(int) - np.asarray(ramp_picture())) < 8).all())


@pytest.mark.parametrize(
    "odd",
    [
        (0x100, 2, 4, 0x61626364),  # text for the width
        (306, 5, 1, 200),  # a fraction beyond the end for the date
        (282, 5, 1, 8),  # a resolution of something / 0
        (0x9286, 7, 0x7FFFFFFF, 9),  # two gigabytes of comment
        (0x100, 99, 1, 1),  # a type that does not exist
        (0x8769, 4, 1, 99999),  # a directory beyond the end
        (271, 11, 1, 5),  # a float for the maker
        (0x100, 9, 1, 2**32 - 1),
    ],
)
def test_an_odd_value_beside_the_orientation_does_not_matter(tmp_path: Path, odd: tuple[int, int, int, int]) -> None:
    assert is_ramp(read(tmp_path, jpeg_with(ramp_picture(), 0xE1, exif(TURNED, odd))), turned=True)
    frame = read_frame(tmp_path / "x.jpg")
    assert frame is not None
    assert frame.orientation == 6
    assert is_ramp(read(tmp_path, with_chunks(PNG, chunk(b"eXIf", exif(TURNED, odd)[6:])), "png"), turned=True)


@pytest.mark.parametrize(
    ("marker", "content"),
    [
        (0xE1, b"Exif\0\0" + bytes(range(1, 200))),
        (0xE1, b"Exif\0\0"),
        (0xE1, exif((0x112, 3, 1, 9))),
        (0xE1, exif((0x112, 3, 1, 0))),
        (0xE1, exif((0x112, 2, 2, 0x61))),
        (0xE2, b"MPF\0" + bytes(range(60))),
        (0xE2, b"ICC_PROFILE\0\x05\x09" + bytes(60)),
        (0xED, b"Photoshop 3.0\0" + bytes(range(60))),
        (0xEE, b"Adobe"),
        (0xE0, b"JFIF\0"),
    ],
)
def test_metadata_that_cannot_be_read_costs_no_picture(tmp_path: Path, marker: int, content: bytes) -> None:
    assert is_ramp(read(tmp_path, jpeg_with(ramp_picture(), marker, content)))


def wrong_checksum(name: bytes, data: bytes) -> bytes:
    return chunk(name, data)[:-1] + b"?"


PNGS = {
    "2 MB of text": png_text(ramp_picture(), ["x" * (2 << 20)]),
    "70 texts of 1 MB": png_text(ramp_picture(), ["x" * (1 << 20)] * 70),
    "colour profile of 3 MB": with_chunks(PNG, chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(3 << 20)))),
    "colour profile, unknown method": with_chunks(PNG, chunk(b"iCCP", b"p\0\7abc")),
    "text, unknown method": with_chunks(PNG, chunk(b"zTXt", b"a\0\5b")),
    "text, wrong checksum": with_chunks(PNG, wrong_checksum(b"tEXt", b"a\0b")),
    "EXIF, wrong checksum": with_chunks(PNG, wrong_checksum(b"eXIf", b"II*\0")),
    "short gamma": with_chunks(PNG, chunk(b"gAMA", b"a")),
    "private chunks": with_chunks(PNG, *[chunk(b"abCD", b"a" * 500)] * 500),
    "profile that is no hex": with_chunks(PNG, chunk(b"tEXt", b"Raw profile type exif\0\nexif\n  9\nnothex")),
    "text behind the pixels": PNG[:-12] + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2 << 20))) + PNG[-12:],
    "no end": PNG[:-12],
}


@pytest.mark.parametrize("name", PNGS)
def test_a_png_needs_only_its_pixels(tmp_path: Path, name: str) -> None:
    crop = read(tmp_path, PNGS[name], "png")
    assert is_ramp(crop), crop.reason
    assert (Remark.METADATA in crop.remarks) == (name == "profile that is no hex")


def test_a_png_with_long_metadata_keeps_its_orientation(tmp_path: Path) -> None:
    long = [
        with_chunks(PNG, chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP + b" " * (3 << 20)))),
        with_chunks(PNGS["2 MB of text"], chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)),
        with_chunks(PNGS["2 MB of text"], chunk(b"eXIf", exif(TURNED)[6:])),
    ]
    assert all(is_ramp(read(tmp_path, content, "png"), turned=True) for content in long)


@pytest.mark.parametrize(("name", "skip"), [(b"fcTL", 0), (b"fcTL", 1), (b"acTL", 0)])
def test_the_first_picture_of_a_broken_animation_is_read(tmp_path: Path, name: bytes, skip: int) -> None:
    frames = [ramp_picture().rotate(90), ramp_picture()]
    animation = bytearray(encoded(ramp_picture(), "PNG", save_all=True, append_images=frames, duration=9))
    assert is_ramp(read(tmp_path, bytes(animation), "png"))
    place = animation.index(name)
    for _ in range(skip):
        place = animation.index(name, place + 1)
    length = struct.unpack(">I", animation[place - 4 : place])[0]
    animation[place + 4 : place + 8] = struct.pack(">I", 0 if name == b"acTL" else 77)  # of no frame, out of order
    checksum = struct.pack(">I", zlib.crc32(animation[place : place + 4 + length]))
    animation[place + 4 + length : place + 8 + length] = checksum
    assert is_ramp(read(tmp_path, bytes(animation), "png"))


@pytest.mark.parametrize(
    ("form", "missing", "options"),
    [
        ("JPEG", 1, {}), ("JPEG", 2, {}), ("JPEG", 600, {}), ("JPEG", 1000, {"progressive": True}), ("PNG", 3000, {}),
        ("GIF", 900, {}), ("BMP", 3000, {}), ("TIFF", 3000, {}), ("PPM", 3000, {}), ("TGA", 3000, {}),
    ],
)  # fmt: skip
def test_a_truncated_picture_has_a_status_or_is_kept(
    tmp_path: Path, form: str, missing: int, options: dict[str, object]
) -> None:
    content = encoded(NOISE, form, **({"quality": 95} | options if form == "JPEG" else options))
    expected = read(tmp_path, content, form.lower()).pixels
    cut = read(tmp_path, content[:-missing], form.lower())
    assert (cut.status, cut.pixels) == (Status.UNREADABLE, None)
    kept = read(tmp_path, content[:-missing], form.lower(), KEEP)
    assert kept.status == Status.OK
    assert set(kept.remarks) == {Remark.TRUNCATED}
    upper = slice(34, 62) if form in ("BMP", "TGA") else slice(2, 30)  # these begin at the bottom
    same = np.abs(kept.pixels[upper].astype(int) - expected[upper]).mean()
    assert same == 0 if not options else same < 30  # an early scan of a progressive picture is rough
    if missing <= 2:
        np.testing.assert_array_equal(kept.pixels, expected)


@pytest.mark.parametrize("content", [encoded(NOISE, "JPEG")[:400], encoded(NOISE, "WEBP")[:900], PNG[:20], b"\xff\xd8"])
def test_what_ends_before_the_first_pixel_is_not_kept(tmp_path: Path, content: bytes) -> None:
    assert read(tmp_path, content, options=KEEP).status == Status.UNREADABLE


def test_damage_is_not_truncation(tmp_path: Path) -> None:
    content = bytearray(encoded(NOISE, "PNG"))
    content[len(content) // 2] ^= 255
    assert read(tmp_path, bytes(content), "png", KEEP).status == Status.UNREADABLE


@pytest.mark.parametrize("form", ["PNG", "TIFF", "BMP"])
def test_a_panorama_is_read_up_to_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)  # so that small pictures stand for large ones
    monkeypatch.setattr("c3.extract.backbone.pictures.decode.WORTH_SAYING", 1_000_000)
    monkeypatch.setattr("c3.extract.backbone.pictures.crops.WORTH_SAYING", 1_000_000)
    panorama = encoded(ramp_picture().resize((3000, 1000)), form)
    refused = read(tmp_path, panorama, form.lower(), DecodeOptions(max_megapixels=2))
    assert refused.status == Status.UNREADABLE
    assert refused.reason == (
        "larger than 2 megapixels (3000 x 1000, 3 megapixels, about 0.0 GB of memory); to read it: --max-megapixels 3"
    )
    found = read(tmp_path, panorama, form.lower(), DecodeOptions(max_megapixels=3))
    assert is_ramp(found)
    assert found.remarks == {Remark.LARGE: "3000 x 1000, 3 megapixels, about 0.0 GB of memory"}
    most = load_crop(tmp_path / f"x.{form.lower()}", np.float32([0.1, 0, 1, 1]), 64)
    assert most.status == Status.OK  # a part that is itself beyond Pillow's limit
    assert abs(int(most.pixels[30, 0, 0]) - 25) < 6


def test_a_real_panorama_of_more_pixels_than_pillow_allows(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.new("1", (14000, 14000)).save(path)
    refused = load_crop(path, WHOLE)
    assert "14000 x 14000, 196 megapixels, about 0.2 GB of memory" in refused.reason
    assert "--max-megapixels 196" in refused.reason
    found = load_crop(path, WHOLE, options=DecodeOptions(max_megapixels=196))
    assert set(found.remarks) == {Remark.LARGE, Remark.ONE_COLOUR}


def test_settings_of_pillow_stay_as_they_are(tmp_path: Path) -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    seen = set()
    (tmp_path / "x.jpg").write_bytes(encoded(NOISE.resize((900, 900)), "JPEG")[:-2])
    working = threading.Event()

    def watch() -> None:
        while not working.is_set() or not seen:  # once at least, however late this thread runs
            seen.add((Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    for _ in range(10):
        assert load_crop(tmp_path / "x.jpg", WHOLE, options=KEEP).status == Status.OK
        assert load_crop(tmp_path / "x.jpg", WHOLE).status == Status.UNREADABLE
    working.set()
    watcher.join()
    assert seen == {before}


def test_a_warning_of_the_decoder_belongs_to_its_picture_and_nobody_else_loses_one(tmp_path: Path) -> None:
    half = jpeg_with(ramp_picture(), 0xE1, exif(TURNED)[:20])
    crop = read(tmp_path, half)  # warnings are errors in these tests
    assert is_ramp(crop)
    assert crop.remarks[Remark.WARNING].startswith("Corrupt EXIF data")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read(tmp_path, half)
        warnings.warn("a warning of someone else", stacklevel=1)
    assert [str(warning.message) for warning in caught] == ["a warning of someone else"]


@pytest.mark.parametrize(
    "content", [b"abc", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0", b"BM\0", b"GIF89a\1", b"\x89PNG\r\n\x1a\n"]
)
def test_a_file_of_few_bytes_is_refused_in_plain_words(tmp_path: Path, content: bytes) -> None:
    crop = read(tmp_path, content)
    assert crop.status == Status.UNREADABLE
    assert "cut off, or damaged at its beginning" in crop.reason and "buffer" not in crop.reason


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"\0\0\0\x18ftypheic", "pip install pillow-heif"),
        (b"\xff\x0a", "JPEG XL"),
        (b"<!DOCTYPE html>", "HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"%PDF-1.7", "PDF"),
        (bytes(99), "zero bytes"),
        (b"what is this?", "a file of another kind"),
    ],
)
def test_a_file_that_is_no_picture_is_called_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: bytes, said: str
) -> None:
    decode.add_heif_decoder.cache_clear()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # not installed
    crop = read(tmp_path, head + bytes(40))
    assert crop.status == Status.UNREADABLE
    assert said in crop.reason


def test_heic_is_read_where_its_package_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Heif(ImageFile.ImageFile):
        format = "HEIF"

        def _open(self) -> None:
            self._mode, self._size = "L", (64, 64)
            self.im = ramp_picture().im

    def register() -> None:
        Image.register_open("HEIF", Heif, lambda head: head[8:12] == b"heic")

    monkeypatch.setattr(Image, "ID", [*Image.ID])
    monkeypatch.setattr(Image, "OPEN", {**Image.OPEN})
    monkeypatch.setitem(sys.modules, "pillow_heif", types.SimpleNamespace(register_heif_opener=register))
    decode.add_heif_decoder.cache_clear()
    assert is_ramp(read(tmp_path, b"\0\0\0\x18ftypheic" + bytes(40), "HEIC"))
    decode.add_heif_decoder.cache_clear()


def test_places_that_hold_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    expected = {
        "folder.jpg": (Status.UNREADABLE, "a folder"),
        "loop.jpg": (Status.MISSING, "no such file"),
        "none.jpg/below.jpg": (Status.MISSING, "no such file"),
        "long" * 80: (Status.MISSING, "no such file"),
        "nul\0.jpg": (Status.MISSING, "no name of a file (embedded null byte)"),
    }
    found = {name: load_crop(tmp_path / name, WHOLE) for name in expected}
    assert {name: (crop.status, crop.reason) for name, crop in found.items()} == expected


def test_a_folder_without_permission_is_not_a_missing_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", denied)
    crop = load_crop(tmp_path / "x.jpg", WHOLE)
    assert (crop.status, crop.reason) == (Status.UNREADABLE, "Permission denied")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.jpg")
    assert load_crop(tmp_path / "pipe.jpg", WHOLE).reason == "not a regular file"


def test_remarks_are_counted_with_the_first_picture() -> None:
    first, second = RemarkCounts(), RemarkCounts()
    first.note("a.png", {Remark.ONE_COLOUR: "#000000"})
    second.note("b.png", {Remark.ONE_COLOUR: "#ffffff", Remark.TRUNCATED: ""})
    first.add(second)
    assert list(first.lines()) == [
        "2 images are one single colour, first: a.png (#000000)",
        "1 image is cut off, and used as far as the file goes, first: b.png",
    ]


@pytest.mark.parametrize(("name", "value"), [("truncated", "maybe"), ("max_megapixels", 0)])
def test_settings_of_decoding_are_checked(name: str, value: object) -> None:
    with pytest.raises(SettingError, match=name.split("_")[0]):
        DecodeOptions(**{name: value})
