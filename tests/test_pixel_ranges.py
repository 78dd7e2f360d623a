"""A ramp from black to white stays one, whatever numbers it is stored in: 0, a half and 255, never a black picture."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from c3.extract.backbone.pictures.crops import Crop, load_crop
from c3.extract.backbone.pictures.remarks import Remark
from c3.extract.store.cache import Status
from odd_pictures import RAMP, chunk, deep_png, tiff
from PIL import Image, TiffImagePlugin

WHOLE = np.float32([0, 0, 1, 1])
COLOURS = np.dstack([4095 * RAMP, 2000 * RAMP, 4095 * (1 - RAMP)]).astype(np.uint16)  # 12 bits
OPAQUE = np.full((64, 64, 1), 65535)


def read(folder: Path, content: bytes, suffix: str = "tif") -> Crop:
    (folder / f"x.{suffix}").write_bytes(content)
    return load_crop(folder / f"x.{suffix}", WHOLE, 64)


def ends(crop: Crop) -> list[list[int]]:
    """The first and the last pixel of a row."""
    assert crop.pixels is not None, crop.reason
    return [crop.pixels[30, 0].tolist(), crop.pixels[30, 63].tolist()]


def whole(kind: str, low: float, high: float) -> np.ndarray:
    return np.rint(low + (high - low) * RAMP).astype(kind)


def declared(values: np.ndarray, **tags: tuple[int, float | str]) -> bytes:
    """A TIFF with tags such as _281=(type, value)."""
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    for name, (form, value) in tags.items():
        directory.tagtype[int(name[1:])] = form
        directory[int(name[1:])] = value
    out = io.BytesIO()
    Image.fromarray(values).save(out, "TIFF", tiffinfo=directory)
    return out.getvalue()


def pnm(head: str, values: np.ndarray) -> bytes:
    return head.encode() + b"\n" + np.rint(values).astype(">u2").tobytes()


RAMPS = {
    "float 0..1": (tiff(RAMP.astype("f4"), 3), False),
    "float 0..1, big-endian": (tiff(RAMP.astype("f4"), 3, order=">"), False),
    "float -1..1": (tiff((2 * RAMP - 1).astype("f4"), 3), False),
    "float 0..255": (tiff((255 * RAMP).astype("f4"), 3), True),
    "float 0..4095": (tiff((4095 * RAMP).astype("f4"), 3), True),
    "float 0..0.01": (tiff((0.01 * RAMP).astype("f4"), 3), True),
    "float -1000..3000": (tiff((4000 * RAMP - 1000).astype("f4"), 3), True),
    "float with overshoot": (tiff((1.04 * RAMP - 0.02).astype("f4"), 3), False),
    "8 bits in 16": (tiff(whole("u2", 0, 255)), True),
    "10 bits in 16": (tiff(whole("u2", 0, 1023)), True),
    "12 bits in 16": (tiff(whole("u2", 0, 4095)), True),
    "12 bits in 16, big-endian": (tiff(whole("u2", 0, 4095), order=">"), True),
    "14 bits in 16": (tiff(whole("u2", 0, 16383)), True),
    "16 bits": (tiff(whole("u2", 0, 65535)), False),
    "signed 8": (tiff(whole("i1", -128, 127), 2), False),
    "signed 16": (tiff(whole("i2", -32768, 32767), 2), False),
    "signed 16, positive half": (tiff(whole("i2", 0, 32767), 2), False),
    "signed 16, tomography": (tiff(whole("i2", -1024, 3071), 2, order=">"), True),
    "signed 32, 8 bits": (tiff(whole("i4", 0, 255), 2), True),
    "signed 32, 16 bits": (tiff(whole("i4", 0, 65535), 2), True),
    "unsigned 32": (tiff(whole("u4", 0, 2**32 - 1)), False),
    "unsigned 32, 12 bits": (tiff(whole("u4", 0, 4095)), True),
    "declared by MaxSampleValue": (declared(whole("u2", 0, 4000), _281=(3, 4000)), False),
    "declared by SMaxSampleValue": (declared((2 * RAMP).astype("f4"), _340=(11, 0.0), _341=(11, 2.0)), False),
    "PGM of 4095": (pnm("P5 64 64 4095", 4095 * RAMP), False),
    "PGM of 65535 with 12 bits": (pnm("P5 64 64 65535", 4095 * RAMP), True),
    "plain PGM": (("P2 64 64 4095\n" + " ".join(map(str, whole("i4", 0, 4095).ravel()))).encode() + b"\n", False),
    "PFM": (b"Pf\n64 64\n-1.0\n" + RAMP.astype("<f4").tobytes(), False),
    "PNG of 16 bits": (deep_png(whole("u2", 0, 65535), 0), False),
    "PNG of 12 in 16 bits": (deep_png(whole("u2", 0, 4095), 0), True),
    "PNG of 12 bits, shifted as sBIT says": (deep_png(whole("u2", 0, 4095) << 4, 0, chunk(b"sBIT", b"\x0c")), False),
}  # fmt: skip


@pytest.mark.parametrize("name", RAMPS)
def test_a_ramp_is_a_ramp_whatever_its_numbers(tmp_path: Path, name: str) -> None:
    content, guessed = RAMPS[name]
    crop = read(tmp_path, content)
    assert ends(crop) == [[0] * 3, [255] * 3]
    assert 127 <= crop.pixels[30, 32, 0] <= 131
    assert (Remark.RANGE in crop.remarks) == guessed
    assert len(crop.remarks) == guessed


DARK = {  # half as bright as what is declared
    "MaxSampleValue": declared(whole("u2", 0, 2000), _281=(3, 4000)),
    "SMaxSampleValue of floats": declared(RAMP.astype("f4"), _340=(11, 0.0), _341=(11, 2.0)),
    "sBIT": deep_png(whole("u2", 0, 2047), 0, chunk(b"sBIT", b"\x0c")),
    "maxval of a PGM": pnm("P5 64 64 4095", 2047 * RAMP),
}


@pytest.mark.parametrize("name", DARK)
def test_a_dark_picture_stays_dark_where_its_range_is_declared(tmp_path: Path, name: str) -> None:
    crop = read(tmp_path, DARK[name])
    black, white = ends(crop)
    assert black == [0] * 3
    assert white[0] in (127, 128)
    assert not crop.remarks


DEEP = {
    "PNG": deep_png(COLOURS, 2),
    "PNG with sBIT": deep_png(COLOURS, 2, chunk(b"sBIT", b"\x0c\x0c\x0c")),
    "PNG with alpha": deep_png(np.dstack([COLOURS, OPAQUE]), 6),
    "PNG with alpha of 12 bits": deep_png(np.dstack([COLOURS, OPAQUE >> 4]), 6),
    "TIFF": tiff(COLOURS, photometric=2),
    "TIFF, big-endian": tiff(COLOURS, photometric=2, order=">"),
    "PPM of 4095": pnm("P6 64 64 4095", COLOURS),
    "PPM of 65535": pnm("P6 64 64 65535", COLOURS),
    "8 bits in 16": deep_png(COLOURS >> 4, 2),
}


@pytest.mark.parametrize("name", DEEP)
def test_colours_of_few_bits_in_sixteen_keep_all_their_levels(tmp_path: Path, name: str) -> None:
    crop = read(tmp_path, DEEP[name])
    assert ends(crop) in ([[0, 0, 255], [255, 125, 0]], [[0, 0, 255], [255, 124, 0]])
    assert len(np.unique(crop.pixels[30, :, 0])) == 64  # of which the high bytes have sixteen


def planes(values: np.ndarray, order: str = "<", zipped: bool = False) -> bytes:
    """A TIFF of 16 bits whose colours follow each other, one strip each, as tifffile and GDAL write bands."""
    height, width, samples = values.shape
    strips = [values[..., band].astype(f"{order}u2").tobytes() for band in range(samples)]
    strips = [zlib.compress(strip) for strip in strips] if zipped else strips
    lengths = [len(strip) for strip in strips]
    tags = {256: ("H", [width]), 257: ("H", [height]), 258: ("H", [16] * samples), 259: ("H", [8 if zipped else 1]),
            262: ("H", [2 if samples > 1 else 1]), 273: ("I", [8 + sum(lengths[:band]) for band in range(samples)]),
            277: ("H", [samples]), 278: ("H", [height]), 279: ("I", lengths), 284: ("H", [2])}  # fmt: skip
    end = 8 + sum(lengths)
    entries, values_behind = b"", b""
    for tag, (form, numbers) in tags.items():
        packed = struct.pack(f"{order}{len(numbers)}{form}", *numbers)
        if len(packed) > 4:
            place = end + 2 + 12 * len(tags) + 4 + len(values_behind)
            values_behind += packed
            packed = struct.pack(f"{order}I", place)
        entries += struct.pack(f"{order}HHI", tag, 3 if form == "H" else 4, len(numbers)) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", end) + b"".join(strips)
    return head + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + values_behind


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_colours_in_planes_of_sixteen_bits_are_no_noise(tmp_path: Path, order: str, zipped: bool) -> None:
    crop = read(tmp_path, planes(COLOURS << 4, order, zipped))
    np.testing.assert_array_equal(crop.pixels[30], COLOURS[30] >> 4)
    assert not crop.remarks
    few = read(tmp_path, planes(COLOURS, order, zipped))
    assert ends(few)[0] == [0, 0, 255]
    assert ends(few)[1][0] == 255
    assert set(few.remarks) == {Remark.RANGE}


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_single_plane_of_sixteen_bits_is_grey(tmp_path: Path, order: str) -> None:
    crop = read(tmp_path, planes(whole("u2", 0, 65535)[..., None], order))
    assert ends(crop) == [[0] * 3, [255] * 3]


def test_colours_that_use_their_sixteen_bits_are_read_as_before(tmp_path: Path) -> None:
    crop = read(tmp_path, deep_png(COLOURS << 4, 2))
    np.testing.assert_array_equal(crop.pixels[30], COLOURS[30] >> 4)
    assert not crop.remarks


def test_grey_with_alpha_in_sixteen_bits_is_not_black(tmp_path: Path) -> None:
    crop = read(tmp_path, deep_png(np.dstack([4095 * RAMP, OPAQUE]), 4))
    assert ends(crop) == [[0] * 3, [255] * 3]


HOT = np.arange(4096).reshape(64, 64) == 70  # one pixel of all


@pytest.mark.parametrize(
    "content",
    [
        tiff(np.where(HOT, 65535, 4095 * RAMP).astype("u2")),
        tiff(np.where(HOT, 2**31 - 1, 4095 * RAMP).astype("i4"), 2),
        tiff(np.where(HOT, 1e6, RAMP).astype("f4"), 3),
        deep_png(np.where(HOT[..., None], 65535, np.dstack([4095 * RAMP] * 3)), 2),
    ],
)
def test_a_hot_pixel_does_not_turn_the_picture_black(tmp_path: Path, content: bytes) -> None:
    crop = read(tmp_path, content)
    assert ends(crop) == [[0] * 3, [255] * 3]
    assert set(crop.remarks) == {Remark.RANGE}


def test_few_levels_are_spread(tmp_path: Path) -> None:
    assert ends(read(tmp_path, tiff(whole("i4", 0, 20), 2))) == [[0] * 3, [255] * 3]  # a map of twenty classes
    flat = tiff(whole("u2", 60000, 60100))
    assert ends(read(tmp_path, flat)) == [[0] * 3, [255] * 3]


def test_a_dark_photograph_of_sixteen_bits_keeps_its_brightness(tmp_path: Path) -> None:
    crop = read(tmp_path, deep_png(whole("u2", 0, 20000), 0))
    assert ends(crop)[1][0] == 78
    assert not crop.remarks


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, -9999, -3.4028235e38])
def test_pixels_without_a_value_are_black_and_change_no_other(tmp_path: Path, odd: float) -> None:
    values = RAMP.astype("f4")
    values[5, 40] = odd
    crop = read(tmp_path, tiff(values, 3))
    assert ends(crop) == [[0] * 3, [255] * 3]
    assert crop.pixels[5, 40].tolist() == [0] * 3
    assert set(crop.remarks) & {Remark.NOT_FINITE, Remark.RANGE}


def test_the_mark_for_no_data_is_not_a_number(tmp_path: Path) -> None:
    values = whole("u2", 0, 4000)
    values[0] = 65535
    crop = read(tmp_path, declared(values, _42113=(2, "65535")))
    assert ends(crop)[1][0] == 249  # 4000 of 4095
    assert crop.pixels[0].max() == 0
    assert set(crop.remarks) == {Remark.NOT_FINITE, Remark.RANGE}


@pytest.mark.parametrize("values", [whole("u2", 0, 65535), RAMP.astype("f4")])
def test_white_may_be_zero(tmp_path: Path, values: np.ndarray) -> None:
    crop = read(tmp_path, tiff(values, 3 if values.dtype.kind == "f" else 1, photometric=0))
    assert ends(crop) == [[255] * 3, [0] * 3]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (tiff(np.full((64, 64), np.nan, "f4"), 3), "no pixel is a finite number"),
        (tiff(RAMP.astype("f2"), 3), "1 x 16 bits a pixel (floats)"),
        (tiff(RAMP.astype("f8"), 3), "1 x 64 bits a pixel (floats)"),
        (tiff(COLOURS.astype("f4"), 3, photometric=2), "3 x 32 bits a pixel (floats)"),
        (tiff(whole("u2", 0, 1023), bits=10), "1 x 10 bits a pixel (unsigned integers)"),
    ],
)
def test_numbers_that_cannot_be_read_are_named(tmp_path: Path, content: bytes, said: str) -> None:
    crop = read(tmp_path, content)
    assert crop.status == Status.UNREADABLE
    assert said in crop.reason


@pytest.mark.parametrize(
    "values", [np.zeros((9, 9), "u1"), np.full((9, 9), 70, "u2"), np.full((9, 9), -5, "f4"), np.full((9, 9), 0.5, "f4")]
)
def test_one_single_colour_is_worth_a_remark(tmp_path: Path, values: np.ndarray) -> None:
    crop = read(tmp_path, tiff(values, 3 if values.dtype.kind == "f" else 1))
    assert crop.status == Status.OK
    assert Remark.ONE_COLOUR in crop.remarks
