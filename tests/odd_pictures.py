"""Odd picture files, written byte by byte where Pillow would write ordinary ones."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, PngImagePlugin

RAMP = np.tile(np.linspace(0, 1, 64), (64, 1))  # (64, 64): black on the left, white on the right
TAG_BITS, TAG_SHORT, TAG_LONG = 258, 3, 4


def ramp_picture(mode: str = "L") -> Image.Image:
    """The ramp in 8 bits."""
    return Image.fromarray(np.rint(255 * RAMP).astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def deep_png(values: np.ndarray, colour: int, *extra: bytes) -> bytes:
    """A PNG of 16 bits; `colour` is 0 (grey), 2 (RGB), 4 (grey and alpha) or 6 (RGBA)."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    parts = (chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def with_chunks(png: bytes, *extra: bytes) -> bytes:
    """A PNG with more chunks behind its header."""
    return png[:33] + b"".join(extra) + png[33:]


def tiff(values: np.ndarray, kind: int = 1, photometric: int = 1, order: str = "<", bits: int | None = None) -> bytes:
    """An uncompressed TIFF; `kind` is 1 (unsigned), 2 (signed) or 3 (float)."""
    height, width = values.shape[:2]
    samples = 1 if values.ndim == 2 else values.shape[2]
    bits = bits or 8 * values.itemsize
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    end = 8 + 2 + 10 * 12 + 4
    start = end + 2 * samples
    tags: list[tuple[int, int, int, int]] = [
        (256, TAG_SHORT, 1, width), (257, TAG_SHORT, 1, height),
        (TAG_BITS, TAG_SHORT, samples, bits if samples == 1 else end), (259, TAG_SHORT, 1, 1),
        (262, TAG_SHORT, 1, photometric), (273, TAG_LONG, 1, start), (277, TAG_SHORT, 1, samples),
        (278, TAG_SHORT, 1, height), (279, TAG_LONG, 1, len(data)), (339, TAG_SHORT, 1, kind),
    ]  # fmt: skip
    entries = b""
    for tag, form, count, value in tags:
        short = form == TAG_SHORT and count == 1
        entries += struct.pack(order + "HHI", tag, form, count)
        entries += struct.pack(order + "HH", value, 0) if short else struct.pack(order + "I", value)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags))
    return head + entries + struct.pack(order + "I", 0) + struct.pack(order + "H", bits) * samples + data


def exif(*tags: tuple[int, int, int, int]) -> bytes:
    """An EXIF block of (tag, type, count, value) entries of four bytes."""
    entries = b"".join(
        struct.pack("<HHIHH", tag, form, count, value, 0) if form == TAG_SHORT
        else struct.pack("<HHII", tag, form, count, value)
        for tag, form, count, value in tags
    )  # fmt: skip
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def jpeg_with(image: Image.Image, marker: int, content: bytes) -> bytes:
    """A JPEG with one more segment behind its start."""
    whole = encoded(image, "JPEG", quality=95)
    return whole[:2] + struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content + whole[2:]


def png_text(image: Image.Image, texts: Sequence[str], zip: bool = True) -> bytes:
    info = PngImagePlugin.PngInfo()
    for number, text in enumerate(texts):
        info.add_text(f"text{number}", text, zip=zip)
    return encoded(image, "PNG", pnginfo=info)
