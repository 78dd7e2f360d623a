"""Pictures of numbers that are no bytes (16 bits, integers, floats) -> 8 bits, by the range that the file declares."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin

from .pixel_ranges import BULK, NEARLY_BLACK, PLAINLY, Range, range_of_floats, range_of_integers, to_bytes
from .png_chunks import significant_bits
from .remarks import Remark

BITS, PHOTOMETRIC, PLANES, SAMPLE_FORMAT, NO_DATA = 258, 262, 284, 339, 42113  # tags of TIFF
LEAST_TAGS, MOST_TAGS = (340, 280), (341, 281)  # SMinSampleValue, MinSampleValue; the same with Max
UNSIGNED, SIGNED, FLOATS = 1, 2, 3  # values of SAMPLE_FORMAT
SEPARATE = 2  # value of PLANES: all reds, then all greens, then all blues
SIXTEEN = Range(0, 65535)
# The unpacker that takes the other byte of 16. Pillow's own takes the high one, and the low one is lost.
LOW_BYTES = {
    f"{mode};16{order}": f"{mode};16{other}"
    for mode in ("RGB", "RGBA", "RGBX", "R", "G", "B", "A")
    for order, other in (("L", "B"), ("B", "L"), ("N", "B" if sys.byteorder == "little" else "L"))
}


class Undecodable(ValueError):
    """A file is no picture that can be read. The message says why to people."""


@dataclass(frozen=True)
class NumberFormat:
    """How a file stores its numbers, as known before its pixels are decoded.

    `room` is what the number type can hold, `declared` what the file says that it holds; `no_data` stands for a pixel
    without a value. `inverted` says that 0 is white, `signed` that Pillow takes signed numbers for unsigned ones, and
    `raw` is Pillow's name of the layout.
    """

    room: Range = SIXTEEN
    declared: Range | None = None
    no_data: float | None = None
    inverted: bool = False
    signed: bool = False
    raw: str = ""

    @property
    def deep(self) -> bool:
        """Whether Pillow reads only the high bytes of colours with 16 bits."""
        return ";16" in self.raw


def with_deep_planes(image: ImageFile.ImageFile) -> ImageFile.ImageFile:
    """Name the layout of an uncompressed TIFF of 16 bits in separate planes, which Pillow takes for bytes: noise.

    Compressed ones are right already.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or image.tag_v2.get(PLANES) != SEPARATE:
        return image
    order = "B" if image.tag_v2.prefix == b"MM" else "L"
    if _first(image.tag_v2.get(BITS)) == 16:
        image.tile = [
            tile._replace(args=(image.mode if tile.args[0] == "I" else f"{tile.args[0]};16{order}", *tile.args[1:]))
            if tile.codec_name == "raw" and isinstance(tile.args, tuple) and len(tile.args[0]) == 1
            else tile
            for tile in image.tile
        ]
    return image


def number_format(image: ImageFile.ImageFile, file: IO[bytes]) -> NumberFormat:
    """Return the number format of an opened picture. `file` is read where Pillow does not keep what is needed."""
    codec, args = (image.tile[0][0], image.tile[0][3]) if image.tile else ("", None)
    raw = str(args if isinstance(args, str) else args[0]) if args else ""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        if codec == "libtiff" and image.tag_v2.get(PLANES) == SEPARATE:
            raw = raw.replace("RGB", "planes")  # whose low bytes cannot be asked for
        return _tiff_format(image.tag_v2, image.mode, raw)
    if image.format == "PPM" and image.mode != "F" and isinstance(args, tuple) and codec.startswith("ppm"):
        # Pillow has scaled by the maximum of the header already, to 16 bits of grey or 8 of colour
        top = int(args[-1])
        return NumberFormat(declared=SIXTEEN if top < SIXTEEN.white else None, raw="RGB;16" if top > 255 else "")
    if image.format == "PNG" and (image.mode.startswith("I") or ";16" in raw):
        place = file.tell()
        file.seek(0)
        bits = significant_bits(file.read())
        file.seek(place)
        return NumberFormat(declared=Range(0, 2**bits - 1) if bits and bits < 16 else None, raw=raw)
    if image.format == "FITS" and image.mode == "I;16":  # signed; an offset in the header shifts black and white alike
        return NumberFormat(Range(-(2**15), 2**15 - 1), signed=True, raw=raw)
    if image.format not in ("PPM", "PNG") and image.mode == "I":
        return NumberFormat(Range(-(2**31), 2**31 - 1), raw=raw)
    return NumberFormat(raw=raw)


def _tiff_format(tags: Mapping[int, Any], mode: str, raw: str) -> NumberFormat:
    bits, kind = int(_first(tags.get(BITS)) or 1), int(_first(tags.get(SAMPLE_FORMAT)) or UNSIGNED)
    room = Range(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if kind == SIGNED else Range(0, 2**bits - 1)
    black = next((value for tag in LEAST_TAGS if (value := _first(tags.get(tag))) is not None), room.black)
    white = next((value for tag in MOST_TAGS if (value := _first(tags.get(tag))) is not None), None)
    declared = Range(black, white) if white is not None and black < white and (black, white) != _ends(room) else None
    if bits == 12:  # packed: no type has 12 bits
        declared, room = declared or room, SIXTEEN
    return NumberFormat(
        room=room,
        declared=declared,
        no_data=_number(tags.get(NO_DATA)),
        inverted=tags.get(PHOTOMETRIC) == 0 and not mode.startswith(("1", "L", "P")),
        signed=mode == "L" and bits == 8 and kind == SIGNED,
        raw=raw,
    )


def tiff_numbers(file: IO[bytes]) -> str:
    """Say what numbers a TIFF holds, also one that Pillow does not open."""
    kinds = {UNSIGNED: "unsigned integers", SIGNED: "signed integers", FLOATS: "floats"}
    try:
        file.seek(0)
        tags = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
        file.seek(tags.next)
        tags.load(file)
        bits, kind = tags.get(BITS, (1,)), _first(tags.get(SAMPLE_FORMAT)) or UNSIGNED
        return f"{len(bits)} x {bits[0]} bits a pixel ({kinds.get(int(kind), 'an unknown type')})"
    except Exception:  # nearly anything, as in decoding
        return "an unreadable header"


def eight_bits(
    image: Image.Image, numbers: NumberFormat, again: Callable[[], ImageFile.ImageFile]
) -> tuple[Image.Image, dict[Remark, str]]:
    """Return a decoded picture in a mode of 8 bits, and what is worth saying about its numbers.

    `again` opens the file once more. Raises Undecodable when no pixel has a value.
    """
    if numbers.deep and image.mode in ("RGB", "RGBA", "CMYK"):
        return _deep_colours(image, numbers, again)
    if not (image.mode.startswith("I") or image.mode == "F" or numbers.signed):
        return image, {}
    values, remarks = _values(image, numbers), dict[Remark, str]()
    known = np.isfinite(values)
    if numbers.no_data is not None:
        known &= values != numbers.no_data
    if not known.any():
        raise Undecodable("no pixel is a finite number")
    found = values[known]
    if image.mode == "F":
        scale = range_of_floats(found, numbers.declared)
    else:
        bulk = float(np.percentile(found, BULK))
        scale = range_of_integers(int(found.min()), int(found.max()), numbers.room, numbers.declared, bulk)
    if scale.guessed:
        remarks[Remark.RANGE] = _told(found.min(), found.max(), scale)
    if len(found) < values.size:
        remarks[Remark.NOT_FINITE] = f"{1 - len(found) / values.size:.1%} of its pixels"
    grey = to_bytes(np.where(known, values, values.dtype.type(scale.black)), scale)
    if numbers.inverted:
        grey = 255 - grey
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey), remarks


def _values(image: Image.Image, numbers: NumberFormat) -> np.ndarray:
    values = np.asarray(image)
    if numbers.signed:
        return values.astype(f"i{values.itemsize}")
    if image.mode == "I" and numbers.room.white > 2**31:
        return values.view(np.uint32)
    return values


def _deep_colours(
    image: Image.Image, numbers: NumberFormat, again: Callable[[], ImageFile.ImageFile]
) -> tuple[Image.Image, dict[Remark, str]]:
    """Return colours of 16 bits in 8. Where all high bytes are small, the low bytes are decoded as well."""
    colours = len([band for band in image.getbands() if band != "A"])
    shown = np.array(image.histogram()).reshape(-1, 256)[:colours].sum(0).cumsum()  # pixels by high byte
    largest, bulk = (int(np.searchsorted(shown, shown[-1] * share / 100)) for share in (100, BULK))
    if bulk * NEARLY_BLACK < 255:  # but for hot pixels
        largest = bulk
    if image.format == "PPM":
        return (image, {}) if numbers.declared else _ppm_colours(image, largest, again)
    if largest * PLAINLY > 255 and not numbers.declared:
        return image, {}
    if image.mode == "CMYK" or numbers.raw not in LOW_BYTES:
        return _stretched(image, largest)
    other = again()
    other.tile = [tile._replace(args=_low_bytes(tile.args)) for tile in other.tile]
    other.load()
    values = np.asarray(image).astype(np.uint16) << 8 | np.asarray(other)
    least, most = int(values[..., :colours].min()), int(values[..., :colours].max())
    scale = range_of_integers(least, most, SIXTEEN, numbers.declared, float(np.percentile(values[..., :colours], BULK)))
    pixels = to_bytes(values, scale)
    if image.mode == "RGBA" and values[..., 3].max() > scale.white:
        pixels[..., 3] = values[..., 3] >> 8
    remarks = {Remark.RANGE: _told(least, most, scale)} if scale.guessed else {}
    return Image.fromarray(pixels), remarks


def _low_bytes(args: tuple[Any, ...] | str | None) -> tuple[Any, ...] | str:
    """Return the arguments of a decoder that takes the low bytes where it took the high ones."""
    if isinstance(args, str):
        return LOW_BYTES[args]
    layout, *others = args or ("",)
    return (LOW_BYTES[layout], *others)


def _ppm_colours(
    image: Image.Image, largest: int, again: Callable[[], ImageFile.ImageFile]
) -> tuple[Image.Image, dict[Remark, str]]:
    """Return colours that Pillow divided by 257; `largest` is the largest of them."""
    scale = range_of_integers(0, max(257 * largest - 128, 0), SIXTEEN)
    if not scale.guessed:
        return image, {}
    other = again()
    other.tile = [tile._replace(args=("RGB", int(scale.white))) for tile in other.tile]
    other.load()
    return other, {Remark.RANGE: _told(0, 257 * largest, scale)}


def _stretched(image: Image.Image, largest: int) -> tuple[Image.Image, dict[Remark, str]]:
    """Return a picture whose high bytes alone are known, scaled by the depth that they suggest."""
    if largest == 0 or largest * PLAINLY > 255:
        return image, {}
    scale = range_of_integers(0, largest, Range(0, 255))
    pixels = np.asarray(image)
    stretched = to_bytes(pixels, scale)
    if image.mode == "RGBA" and pixels[..., 3].max() > scale.white:
        stretched[..., 3] = pixels[..., 3]
    return Image.fromarray(stretched, image.mode), {Remark.RANGE: f"high bytes from 0 to {largest}"}


def _told(low: float, high: float, scale: Range) -> str:
    return f"{low:g} to {high:g}, of which {scale.black:g} is black and {scale.white:g} is white"


def _first(value: object) -> float | None:
    """Return the first number of a tag, or None."""
    if isinstance(value, tuple):
        value = value[0] if value else None
    try:
        number = float(value)  # type: ignore[arg-type]  # whatever it is: what is no number raises
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if np.isfinite(number) else None


def _number(value: object) -> float | None:
    return _first(value.strip("\0 ") if isinstance(value, str) else value)


def _ends(found: Range) -> tuple[float, float]:
    return found.black, found.white
