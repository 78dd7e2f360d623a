"""The chunks of a PNG file, as far as pictures depend on them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PICTURE = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf")  # what pixels and orientation depend on
XMP = b"XML:com.adobe.xmp\0"  # may hold an orientation
LONGEST_XMP = 64 << 20  # bytes


def chunks(content: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Yield name, data and whether the checksum is right, of every chunk; the last one of a truncated file is short."""
    place = len(SIGNATURE)
    while place + 8 <= len(content):
        length, name = struct.unpack_from(">I4s", content, place)
        data = content[place + 8 : place + 8 + length]
        found = content[place + 8 + length : place + 12 + length]
        yield name, data, found == struct.pack(">I", zlib.crc32(name + data))
        place += 12 + length


def significant_bits(content: bytes) -> int | None:
    """Return the number of bits that hold information, by the chunk sBIT before the pixels; None without one."""
    for name, data, _ in chunks(content):
        if name == b"IDAT":
            return None
        if name == b"sBIT" and data:
            return max(data)
    return None


def picture_only(content: bytes) -> bytes | None:
    """Return a PNG without the chunks that decide no pixel, or None when there is nothing to leave out.

    Text, colour profiles and animation go, also chunks of metadata with a wrong checksum: decoders refuse a picture
    for them that every viewer shows.
    """
    if not content.startswith(SIGNATURE):
        return None
    kept, place = [SIGNATURE], len(SIGNATURE)
    for name, data, whole in chunks(content):
        end = place + 12 + len(data)
        if name in PICTURE and (whole or name != b"eXIf"):
            kept.append(content[place:end])
        elif name == b"iTXt" and data.startswith(XMP) and whole:
            kept.append(_plain_xmp(data))
        place = end
    lean = b"".join(kept)
    return None if len(lean) == len(content) else lean


def _plain_xmp(data: bytes) -> bytes:
    """Return the chunk of an XMP packet, uncompressed, so that its length is no reason to refuse it."""
    rest = data[len(XMP) :]
    text = rest[2:].split(b"\0", 2)[-1]
    if rest[:1] == b"\1":
        try:
            text = zlib.decompressobj().decompress(text, LONGEST_XMP)
        except zlib.error:
            return b""
    plain = b"iTXt" + XMP + b"\0\0\0\0" + text
    return struct.pack(">I", len(plain) - 4) + plain + struct.pack(">I", zlib.crc32(plain))
