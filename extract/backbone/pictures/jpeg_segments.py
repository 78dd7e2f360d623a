"""The segments of a JPEG file, as far as pictures depend on them."""

from __future__ import annotations

import struct

START, END = b"\xff\xd8", b"\xff\xd9"
SCAN, EXIF, COMMENT = 0xDA, 0xE1, 0xFE
APPLICATIONS = range(0xE0, 0xF0)
COLOURS = {0xE0: 16, 0xEE: 14}  # JFIF and Adobe say how colours are stored; the least size of each, in bytes
RESTARTS = range(0xD0, 0xD8)


def picture_only(content: bytes) -> bytes | None:
    """Return a JPEG without comments and segments of applications, or None when there is nothing to leave out.

    EXIF stays for the orientation, JFIF and Adobe for the colours. Decoders refuse a picture for a short segment
    that every viewer passes over.
    """
    if not content.startswith(START):
        return None
    kept, place = [START], len(START)
    while place + 4 <= len(content):
        mark, kind, length = struct.unpack_from(">BBH", content, place)
        if mark != 0xFF or kind == SCAN:
            break
        end = place + 2 + length
        needed = kind == EXIF or (kind in COLOURS and length >= COLOURS[kind])
        if needed or not (kind in APPLICATIONS or kind == COMMENT):
            kept.append(content[place:end])
        place = end
    lean = b"".join(kept) + content[place:]
    return None if len(lean) == len(content) else lean


def ended(content: bytes) -> tuple[bytes, bytes]:
    """Return a truncated JPEG with an end, in two ways: as far as it goes, and as far as its last whole segment."""
    last = len(content) - 1
    while (last := content.rfind(b"\xff", 0, last)) > 0:
        if content[last + 1] not in (0, 0xFF, *RESTARTS):
            break
    return content + END, content[: max(last, 0)] + END
