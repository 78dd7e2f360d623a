"""Open a file that may be compressed (gzip, bzip2, xz, lzma, zip), whatever its name, as a stream of its content."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from .errors import C3Error

BUFFER = 1 << 20
LAYERS = 4  # of compression around the content


@contextmanager
def open_unpacked(path: Path) -> Iterator[IO[bytes]]:
    """Yield the content of a file, uncompressed, from its first byte; it can be read again after `seek(0)`.

    A zip archive must hold one file. Archives that are formats of their own (.npz, torch.save, .xlsx) stay closed.
    Raises C3Error for a file that cannot be read, is damaged or ends early.
    """
    with ExitStack() as open_files:
        try:
            stream: IO[bytes] = open_files.enter_context(path.open("rb", buffering=BUFFER))
            for _ in range(LAYERS):
                inner = _unpacked(path, stream, open_files)
                if inner is None:
                    break
                stream = inner
            stream.seek(0)
            yield stream
        except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
            raise C3Error(f"{path} is damaged or ends early ({error}); copy or download it again") from error
        except OSError as error:
            if error.errno is None:  # of gzip and bz2
                raise C3Error(f"{path} is damaged ({error}); copy or download it again") from error
            raise C3Error(f"{path} cannot be read ({error.strerror})") from error


def zip_members(stream: IO[bytes]) -> list[str]:
    """Return the names of the files in a zip archive; empty for any other file."""
    stream.seek(0)
    if stream.read(4) != b"PK\x03\x04":
        return []
    with zipfile.ZipFile(stream) as archive:
        return [member.filename for member in archive.infolist() if not member.is_dir()]


def _unpacked(path: Path, stream: IO[bytes], open_files: ExitStack) -> IO[bytes] | None:
    """Return the content of one layer of compression; None where there is none."""
    stream.seek(0)
    head = stream.read(512)
    stream.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return io.BufferedReader(open_files.enter_context(gzip.open(stream)), BUFFER)
    if re.match(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)", head):
        return io.BufferedReader(open_files.enter_context(bz2.open(stream)), BUFFER)
    if head.startswith((b"\xfd7zXZ\x00", b"\x5d\x00\x00")):
        return io.BufferedReader(open_files.enter_context(lzma.open(stream)), BUFFER)
    if head.startswith(b"PK\x03\x04"):
        return _only_member(path, stream, open_files)
    return None


def _only_member(path: Path, stream: IO[bytes], open_files: ExitStack) -> IO[bytes] | None:
    archive = open_files.enter_context(zipfile.ZipFile(stream))
    files = [member for member in archive.infolist() if not member.is_dir() and not _is_clutter(member.filename)]
    names = [member.filename for member in files]
    if any(name.endswith((".npy", "data.pkl")) or name == "[Content_Types].xml" for name in names):
        return None
    if len(files) != 1:
        found = ", ".join(names[:6]) + (" ..." if len(names) > 6 else "")
        example = f": unzip {path} '{names[0]}'" if names else ""
        raise C3Error(f"{path}: expected one file in the archive, found {len(files)} ({found}); unpack one{example}")
    if files[0].flag_bits & 1:
        raise C3Error(f"{path} is encrypted; unpack it first: unzip {path}")
    try:
        return open_files.enter_context(archive.open(files[0]))
    except NotImplementedError as error:  # a method of compression that Python lacks
        raise C3Error(f"{path} cannot be unpacked here ({error}); unpack it first: unzip {path}") from error


def _is_clutter(name: str) -> bool:
    """Return whether a file of an archive is a note of macOS or Windows beside the content."""
    return name.startswith("__MACOSX/") or Path(name).name in (".DS_Store", "Thumbs.db", "desktop.ini")
