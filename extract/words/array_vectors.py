"""Read word vectors from numpy arrays and archives, pickles (LESA, BiAM) and files of torch.save."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from ...common.errors import C3Error
from ...common.safe_pickle import PickleRefused, load_pickle
from ...common.text_files import read_names
from ...common.unpack import zip_members
from ..catalog.specs import VectorSpec
from .vector_formats import GENSIM, WRITE_NPZ
from .wanted_vectors import WantedVectors

# the library whose objects a pickle holds, and what to do instead
REMEDIES = {
    "gensim": GENSIM,
    "joblib": WRITE_NPZ,
    "torch": "save a dict of name -> tensor.numpy(), or use torch.save",
    "pandas": "write it with numpy: np.savez('vectors.npz', names=frame.index.to_numpy(str), vectors=frame.to_numpy())",
}
TORCH_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch.save before 1.6


def read_npz(spec: VectorSpec, stream: IO[bytes], found: WantedVectors) -> None:
    """Read an archive of one array of names and one (names, d_w) of numbers, or of one array (d_w,) for each name."""
    try:
        with zipfile.ZipFile(stream) as archive:
            parts = {}
            for name in archive.namelist():
                with archive.open(name) as member:
                    parts[name.removesuffix(".npy")] = _array(spec.path, io.BytesIO(member.read()))
    except C3Error:
        raise
    except Exception as error:  # the zip and npy readers raise many classes of error for damaged files
        raise C3Error(f"{spec.path} cannot be read as npz: {error}") from error
    _parts(spec, parts, found)


def read_npy(spec: VectorSpec, stream: IO[bytes], found: WantedVectors) -> None:
    """Read one array (names, d_w), whose rows the setting `names` of the catalog entry names, or a saved dict."""
    try:
        array = _array(spec.path, io.BytesIO(stream.read()))
    except C3Error:
        raise
    except Exception as error:  # as above
        raise C3Error(f"{spec.path} cannot be read as npy: {error}") from error
    _content(spec, array, found)


def read_pickle(spec: VectorSpec, stream: IO[bytes], found: WantedVectors) -> None:
    """Read a list of arrays with one `names` file each (LESA, BiAM), a dict of name -> vector, or names and a matrix.

    A file of torch.save holds the same, as tensors.
    """
    head = stream.read(len(TORCH_MAGIC))
    if head == TORCH_MAGIC or zip_members(stream):
        stream.seek(0)
        _content(spec, _torch_content(spec.path, io.BytesIO(stream.read())), found)
        return
    stream.seek(0)
    _content(spec, _plain(spec.path, stream), found)


def _plain(path: Path, stream: IO[bytes]) -> object:
    try:
        content: object = load_pickle(path, stream)
    except PickleRefused as error:
        library = error.asks_for.partition(".")[0]
        if library not in REMEDIES:
            raise
        raise C3Error(f"{path} holds objects of {library} ({error.asks_for}); {REMEDIES[library]}") from error
    return content


def _array(path: Path, stream: IO[bytes]) -> object:
    """Read one npy file; Python objects in it (texts, a dict) only through the restricted unpickler."""
    version = np.lib.format.read_magic(stream)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    if version < (3, 0) and header(stream)[2].hasobject:
        return _plain(path, stream)
    stream.seek(0)
    return np.lib.format.read_array(stream, allow_pickle=False)


def _torch_content(path: Path, stream: IO[bytes]) -> object:
    """Read a file of torch.save with torch's own restricted reader; tensors become arrays."""
    import torch  # loading it takes seconds, and few files need it

    try:
        content = torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:  # many classes, with advice to read the file without restrictions
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f"it holds objects of {asked[1]}" if asked else f"{type(error).__name__}"
        raise C3Error(
            f"{path} cannot be read as a file of torch.save ({reason}); save a dict of name -> tensor, or {WRITE_NPZ}"
        ) from error

    def arrays(value: object) -> object:
        if isinstance(value, torch.Tensor):
            return value.detach().to(torch.float64 if value.is_floating_point() else value.dtype).numpy()
        if isinstance(value, dict):
            return {name: arrays(item) for name, item in value.items()}
        return [arrays(item) for item in value] if isinstance(value, list | tuple) else value

    return arrays(content)


def _content(spec: VectorSpec, content: object, found: WantedVectors) -> None:
    """Take the vectors from what a pickle or an array holds."""
    if isinstance(content, np.ndarray) and content.shape == ():
        content = content.item()  # np.save of a dict
    if isinstance(content, Mapping):
        _parts(spec, {_text(name): value for name, value in content.items()}, found)
    elif isinstance(content, list | tuple):
        if content and all(isinstance(pair, tuple) and len(pair) == 2 and _is_text(pair[0]) for pair in content):
            _pairs(spec, ((_text(name), value) for name, value in content), found)
        else:
            _parts(spec, {str(number): part for number, part in enumerate(content)}, found)
    else:
        _parts(spec, {"array": content}, found)


def _parts(spec: VectorSpec, parts: Mapping[str, object], found: WantedVectors) -> None:
    """Match names and matrices: by the setting `names`, one list of names beside one matrix, or a vector for a name."""
    matrices = [matrix for part in parts.values() if (matrix := _matrix(part)) is not None]
    lists = [names for part in parts.values() if (names := _names(part)) is not None]
    if len(matrices) > 1 and len(floats := [matrix for matrix in matrices if matrix.dtype.kind == "f"]) == 1:
        matrices = floats  # beside numbers of something else
    if spec.names:
        _named(spec, [read_names(path) for path in spec.names], matrices, found)
    elif len(lists) == len(matrices) == 1:
        _named(spec, lists, matrices, found)
    elif parts and not matrices and all(_length(part) is not None for part in parts.values()):
        _pairs(spec, parts.items(), found)
    else:
        shown = ", ".join(_described(part) for part in list(parts.values())[:4]) + (" ..." if len(parts) > 4 else "")
        hint = f"; set `names` of vectors {spec.name} to one file for each array" if matrices and not lists else ""
        raise C3Error(
            f"{spec.path}: expected one array of names and one (names, d_w) of numbers, or a vector for each name, "
            f"found {shown or 'nothing'}{hint}"
        )


def _pairs(spec: VectorSpec, pairs: Iterable[tuple[str, object]], found: WantedVectors) -> None:
    width: int | None = None
    for name, vector in pairs:
        length = _length(vector)
        width = length if width is None else width
        if length is None or length != width:
            raise C3Error(
                f"{spec.path}: the vectors do not have one length: that of {name!r} is {_described(vector)}, others "
                f"have {width} numbers"
            )
        word = found.wants(name)
        if word is not None:
            found.add(word, np.asarray(vector))


def _named(
    spec: VectorSpec, names: Sequence[Sequence[str]], matrices: Sequence[np.ndarray], found: WantedVectors
) -> None:
    """Join lists of names with their matrices, in order."""
    shapes = [matrix.shape for matrix in matrices]
    if [len(part) for part in names] != [shape[0] for shape in shapes]:
        raise C3Error(
            f"{spec.path} holds arrays of {shapes}, but its lists of names have {[len(part) for part in names]} "
            f"entries; set `names` of vectors {spec.name} to one file for each array, in their order"
        )
    if len({shape[1] for shape in shapes}) != 1:
        raise C3Error(f"{spec.path}: expected arrays (names, d_w) of one d_w, found {shapes}")
    for part, matrix in zip(names, matrices, strict=True):
        for name, vector in zip(part, matrix, strict=True):
            word = found.wants(name)
            if word is not None:
                found.add(word, vector)


def _is_text(value: object) -> bool:
    return isinstance(value, str | bytes)


def _text(name: object) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def _names(part: object) -> list[str] | None:
    """Return a list or an array of texts as names; None for anything else."""
    if isinstance(part, np.ndarray) and part.ndim == 1:
        part = part.tolist()
    if isinstance(part, list | tuple) and part and all(map(_is_text, part)):
        return [_text(name) for name in part]
    return None


def _matrix(part: object) -> np.ndarray | None:
    """Return (names, d_w) numbers; None for anything else. Rows may be arrays or lists of one length."""
    rows = part if isinstance(part, list | tuple) or (isinstance(part, np.ndarray) and part.dtype.hasobject) else None
    if rows is not None and len(rows) and isinstance(rows[0], list | tuple | np.ndarray):
        try:
            part = np.stack([np.asarray(row, np.float64) for row in rows])
        except (ValueError, TypeError):
            return None
    return part if isinstance(part, np.ndarray) and part.ndim == 2 and part.dtype.kind in "fiu" else None


def _length(part: object) -> int | None:
    """Return the count of numbers of a vector; None for anything else."""
    if isinstance(part, np.ndarray) and part.ndim == 1 and part.dtype.kind in "fiuO":
        return len(part)
    if isinstance(part, list | tuple) and part and isinstance(part[0], int | float | np.number):
        return len(part)
    return None


def _described(part: object) -> str:
    """Return the type and shape of a part for an error."""
    if isinstance(part, np.ndarray):
        return f"{part.dtype}{part.shape}"
    return f"a {type(part).__name__}" + (f" of {len(part)}" if isinstance(part, list | tuple | dict) else "")
