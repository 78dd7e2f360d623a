"""Open a picture file and return it upright, in 8 bits. Only this module opens the pictures of a data set or a user.

Pillow decodes. Its settings for large and for truncated files belong to the whole process, so they are left alone: the
size is checked here, and the part of a truncated file that was decoded is taken from the decoder.
"""

from __future__ import annotations

import functools
import importlib
import io
import math
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from PIL import Image, ImageFile, TiffImagePlugin

from ....common.file_kinds import HEAD, foreign_kind
from . import jpeg_segments, png_chunks
from .decode_options import DecodeOptions
from .decoder_warnings import collected_warnings
from .numeric import Undecodable, eight_bits, number_format, tiff_numbers, with_deep_planes
from .remarks import Remark

WORTH_SAYING = 2**30 // 4 // 3  # pixels: Pillow warns above
ORIENTATION, UPRIGHT = 0x0112, 1  # a tag of EXIF, and its default
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
HEIF_SUFFIXES = (".heic", ".heif", ".hif", ".heics", ".heifs")
HEIF_HINT = "install a decoder: pip install pillow-heif"
JPEG_XL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
NO_PICTURES = ("MPEG", "EPS")  # Pillow identifies videos and decodes none; PostScript is a program, run by another one
CUT_OFF = "cut off, or damaged at its beginning"
TRUNCATED = "image file is truncated"  # Pillow says it in words alone
LOCK = threading.Lock()


class PictureTooLarge(Undecodable):
    """The picture has more pixels than the options allow."""


@dataclass(frozen=True)
class Decoded:
    """An upright picture in a mode of 8 bits (or 1), and what is worth saying about it."""

    image: Image.Image
    remarks: dict[Remark, str]


def decode(path: Path, options: DecodeOptions) -> Decoded:
    """Decode a picture file. Raises what decoders raise (nearly anything) for a file that is no whole picture.

    Metadata that cannot be read is left out. Warnings of the decoder become a remark.
    """
    with path.open("rb") as file, collected_warnings() as warned:
        try:
            found = _decoded(file, path.suffix.lower(), options)
        except PictureTooLarge:
            raise
        except Exception as error:
            lean = None if TRUNCATED in str(error) else _picture_only(file)
            if lean is None:
                raise
            found = _decoded(lean, path.suffix.lower(), options)
    return Decoded(found.image, found.remarks | ({Remark.WARNING: warned[0]} if warned else {}))


def _decoded(file: IO[bytes], suffix: str, options: DecodeOptions) -> Decoded:
    image, remarks = identified(file, suffix), dict[Remark, str]()
    megapixels = image.width * image.height / 1e6
    told = f"{image.width} x {image.height}, {megapixels:.0f} megapixels, about {_gigabytes(image):.1f} GB of memory"
    if megapixels > options.max_megapixels:
        raise PictureTooLarge(
            f"larger than {options.max_megapixels} megapixels ({told}); to read it: "
            f"--max-megapixels {math.ceil(megapixels)}"
        )
    if image.width * image.height > WORTH_SAYING:
        remarks[Remark.LARGE] = told
        _make_room(image)
    numbers = number_format(image, file)
    try:
        image.load()
    except (OSError, SyntaxError) as error:
        if not _ends_early(error, file):
            raise
        if not options.keeps_truncated:
            raise Undecodable(f"{error}; --truncated keep uses the part that is there") from error
        image = _what_is_there(image, file, suffix)
        remarks[Remark.TRUNCATED] = ""
    try:
        turn = TURNS.get(orientation_of(image))
    except Exception as error:  # nearly anything, as in decoding
        turn = None
        remarks[Remark.METADATA] = f"{type(error).__name__}: {error}"
    shown, about_numbers = eight_bits(image, numbers, lambda: identified(file, suffix))
    return Decoded(shown if turn is None else shown.transpose(turn), remarks | about_numbers)


def identified(file: IO[bytes], suffix: str) -> ImageFile.ImageFile:
    """Open a picture like Image.open, which refuses large ones by a limit of the whole process."""
    file.seek(0)
    head = file.read(HEAD)
    if _is_heif(head):
        add_heif_decoder()
    refused = []
    for name in _formats(suffix):
        factory, accepts = Image.OPEN[name]
        if accepts is not None and not _accepted(accepts, head):
            continue
        file.seek(0)
        try:
            return with_deep_planes(factory(file, ""))
        except (SyntaxError, IndexError, TypeError, struct.error) as error:
            if accepts is not None:
                about = f" of {tiff_numbers(file)}" if "pixel mode" in str(error) else ""
                refused.append(f"{name}{about} ({CUT_OFF if _ends_in_head(error) else error})")
    if _is_heif(head):
        raise Undecodable(f"a HEIC picture; {HEIF_HINT}")
    if head.startswith(JPEG_XL):
        raise Undecodable("a JPEG XL picture, which Pillow does not decode; convert it to JPEG or PNG")
    found = "; ".join(refused) or foreign_kind(head) or f"a file of another kind, {CUT_OFF}"
    raise Undecodable(f"not a picture that can be decoded: {found}")


def _accepted(accepts: Callable[[bytes], bool | str], head: bytes) -> bool:
    """Return whether a file begins as a format does; some formats read numbers there, which a short file lacks."""
    try:
        return accepts(head[:16]) is True
    except (IndexError, struct.error):
        return False


def _ends_in_head(error: Exception) -> bool:
    """Return whether a format found too little to read, which Pillow says in buffers, offsets and drivers."""
    short = (IndexError, struct.error)
    return isinstance(error, short) or isinstance(error.__cause__, short) or "not identified" in str(error)


def _formats(suffix: str) -> list[str]:
    """Return the names of Pillow's formats: those with a signature first, then the one of the suffix."""
    _load_plugins()
    own = Image.EXTENSION.get(suffix)
    return sorted(Image.ID, key=lambda name: (Image.OPEN[name][1] is None, name != own))


def _load_plugins() -> None:
    with LOCK:
        Image.preinit()
        Image.init()


def _is_heif(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS


@functools.cache
def add_heif_decoder() -> bool:
    """Let Pillow decode HEIC where the package pillow-heif is installed, and return whether it is."""
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except (ImportError, OSError):  # not installed, or its library does not load
        return False
    return True


def decoded_suffixes() -> frozenset[str]:
    """Return the suffixes of picture files that can be decoded, in lower case, with their dot."""
    _load_plugins()
    pictures = {
        name
        for name, (factory, _) in Image.OPEN.items()
        if name not in NO_PICTURES and not (isinstance(factory, type) and issubclass(factory, ImageFile.StubImageFile))
    }
    pictures.add("MPO")  # decoded as JPEG
    return frozenset(suffix.lower() for suffix, name in Image.EXTENSION.items() if name in pictures)


def is_photograph(path: Path) -> bool:
    """Return whether a file without a suffix begins like a picture of a common format."""
    _load_plugins()
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError:
        return False
    accepts = [Image.OPEN[name][1] for name in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "AVIF", "JPEG2000", "BMP")
               if name in Image.OPEN]  # fmt: skip
    return _is_heif(head) or any(accept is not None and accept(head) is True for accept in accepts)


def _gigabytes(image: Image.Image) -> float:
    """Return the memory that Pillow needs for the pixels, and for converting them to RGB."""
    narrow = {"1": 1, "L": 1, "P": 1 + 4}
    return image.width * image.height * narrow.get(image.mode, 4 + 4 * (image.mode != "RGB")) / 1e9


def _make_room(image: ImageFile.ImageFile) -> None:
    """Allocate the pixels of a large TIFF, which Pillow does only up to its limit."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        size = image.tag_v2[TiffImagePlugin.IMAGEWIDTH], image.tag_v2[TiffImagePlugin.IMAGELENGTH]
        image.im = Image.new(image.mode, size).im


def _ends_early(error: Exception, file: IO[bytes]) -> bool:
    """Return whether decoding failed because the file ends."""
    return TRUNCATED in str(error) or (isinstance(error, SyntaxError) and not file.read(1))


def _what_is_there(image: ImageFile.ImageFile, file: IO[bytes], suffix: str) -> ImageFile.ImageFile:
    """Return the decoded part of a truncated picture. What is missing is grey in a JPEG and black elsewhere."""
    if image.format not in ("JPEG", "MPO"):
        image.tile = []  # nothing is left to decode
        image.load()
        return image
    file.seek(0)
    whole, shorter = jpeg_segments.ended(file.read())  # its decoder holds rows back until it sees the end
    try:
        return _loaded(whole, suffix)
    except OSError:  # the file ends inside a table
        return _loaded(shorter, suffix)


def _loaded(content: bytes, suffix: str) -> ImageFile.ImageFile:
    image = identified(io.BytesIO(content), suffix)
    image.load()
    return image


def orientation_of(image: Image.Image) -> int:
    """Return the orientation of EXIF, 1 to 8. Raises nearly anything for metadata that cannot be read.

    Pillow's exif_transpose also fails where another value beside the orientation is odd.
    """
    found = image.getexif().get(ORIENTATION)
    orientation = int(found[0] if isinstance(found, tuple) else found or UPRIGHT)
    return orientation if orientation in TURNS else UPRIGHT


def _picture_only(file: IO[bytes]) -> IO[bytes] | None:
    """Return a PNG or JPEG without metadata, or None for other files and where there is none."""
    file.seek(0)
    head = file.read(HEAD)
    for form, signature in ((png_chunks, png_chunks.SIGNATURE), (jpeg_segments, jpeg_segments.START)):
        if head.startswith(signature):
            lean = form.picture_only(head + file.read())
            return None if lean is None else io.BytesIO(lean)
    return None
