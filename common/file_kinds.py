"""Recognise files that are not what they are taken for, by how they begin: a failed download, an archive, a pointer."""

from __future__ import annotations

from pathlib import Path

HEAD = 512  # bytes
_TAR_MAGIC = 257  # where the archive format names itself
_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself; get the file with: git lfs pull"),
    (b"\x1f\x8b", "a gzip archive; unpack it with: gunzip"),
    (b"BZh", "a bzip2 archive; unpack it with: bunzip2"),
    (b"\xfd7zXZ\x00", "an xz archive; unpack it with: unxz"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive; unpack it with: unzstd"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it"),
    (b"Rar!", "a rar archive; unpack it"),
    (b"%PDF", "a PDF document"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "an array of numpy (.npy)"),
    (b"PAR1", "a parquet table"),
    (b"SQLite format 3", "an SQLite database"),
    (b"GGUF", "a GGUF file"),
    (b"PK\x03\x04", "a zip archive, or an Excel workbook; unpack it with: unzip, or save the workbook as csv"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook; save it as csv"),
)


def head_of(path: Path) -> bytes:
    """Return the first bytes of a file."""
    with path.open("rb") as file:
        return file.read(HEAD)


def foreign_kind(head: bytes) -> str | None:
    """Say what a file is that begins like `head`, and what to do; None for a kind that this function does not know."""
    if not head:
        return "an empty file; get it again"
    if not head.strip(b"\0"):
        return "a file of zero bytes only, as a broken download leaves it; get it again"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<script")):
        return "an HTML page, as a failed download leaves it; get the file again"
    if text.startswith((b"<?xml", b"<annotation")):
        return "an XML document"
    if head[_TAR_MAGIC : _TAR_MAGIC + 5] == b"ustar":
        return "a tar archive; unpack it with: tar -xf"
    return next((said for begin, said in _BEGINNINGS if head.startswith(begin)), None)
