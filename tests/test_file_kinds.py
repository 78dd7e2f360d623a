"""A file that is not what its name says is called what it is."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from functools import partial
from pathlib import Path

import pytest
from c3.common.file_kinds import foreign_kind, head_of

gzipped = partial(gzip.compress, mtime=0)  # the same bytes in every process: xdist compares the names of tests


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"))
    return buffer.getvalue()


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.txt", "a")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty file"),
        (bytes(600), "zero bytes only"),
        (b"\n <!DOCTYPE HTML><title>404", "an HTML page"),
        (b"\xef\xbb\xbf<html>", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:", "git lfs pull"),
        (gzipped(b"{}"), "gunzip"),
        (tar(), "tar -xf"),
        (archive(), "unzip"),
        (b'{"images": []}', None),
        (b"dog 0.1 0.2", None),
    ],
)
def test_a_file_is_known_by_how_it_begins(tmp_path: Path, content: bytes, said: str | None) -> None:
    (tmp_path / "x").write_bytes(content)
    found = foreign_kind(head_of(tmp_path / "x"))
    assert found is None if said is None else said in str(found)
