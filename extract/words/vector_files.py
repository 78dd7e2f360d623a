"""Read files of word vectors: GloVe, fastText and word2vec, numpy arrays and archives, pickles of LESA and BiAM."""

from __future__ import annotations

import mmap
import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ...common.errors import C3Error
from ...common.files import require_file
from ...common.safe_pickle import load_pickle
from ...common.text_files import read_names
from ..catalog.specs import VectorSpec

Vectors = dict[str, np.ndarray]


def read_vectors(spec: VectorSpec, wanted: set[str]) -> Vectors:
    """Return the vectors (d_w,) float32 of the `wanted` names that the file holds; all have one length.

    Raises C3Error when the file is missing, has another format than the catalog says, or holds a value that is not
    finite.
    """
    require_file(spec.path, f"vectors {spec.name}")
    vectors = KINDS[spec.kind](spec, wanted)
    for name, vector in vectors.items():
        if not np.isfinite(vector).all():
            raise C3Error(f"{spec.path}: the vector of {name!r} is not finite")
    return vectors


def _text(spec: VectorSpec, wanted: set[str]) -> Vectors:
    """Read lines `word 0.1 -0.2 ...` in one pass; skip a first line of two integers (fastText, word2vec)."""
    path, vectors = spec.path, Vectors()
    d_w = None
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if number == 1 and re.fullmatch(r"\d+ \d+\s*", line):
                d_w = int(line.split()[1])
                continue
            word, _, rest = line.rstrip().partition(" ")
            if word not in wanted or word in vectors:
                continue
            values = rest.split()
            if d_w is not None and len(values) > d_w and not _is_number(values[0]):
                continue  # glove.840B has tokens that hold a space, such as "at name@domain.com"
            try:
                vector = np.array(values, dtype=np.float32)
            except ValueError:
                raise C3Error(
                    f"{path} line {number}: the vector of {word!r} holds a value that is not a number"
                ) from None
            d_w = d_w or len(vector)
            if len(vector) != d_w or not np.isfinite(vector).all():
                raise C3Error(f"{path} line {number}: {word!r} has {len(vector)} finite values, expected {d_w}")
            vectors[word] = vector
    return vectors


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _word2vec(spec: VectorSpec, wanted: set[str]) -> Vectors:
    """Read the binary format of word2vec: a header `words d_w`, then each word, a space and d_w float32."""
    vectors = Vectors()
    path = spec.path
    if not path.stat().st_size:
        raise C3Error(f"{path} is empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        header = re.match(rb"(\d+) (\d+)\n", data[:64])
        if not header:
            raise C3Error(f"{path} is not a word2vec binary file: it does not start with two numbers; try kind: text")
        words, d_w = int(header[1]), int(header[2])
        position = header.end()
        for number in range(words):
            space = data.find(b" ", position, position + 4096)
            end = space + 1 + 4 * d_w
            if space < 0 or end > len(data):
                raise C3Error(f"{path} ends inside word {number + 1} of {words:,}; copy it again")
            word = data[position:space].lstrip(b"\n").decode("utf-8", errors="replace")
            if word in wanted:
                vectors[word] = np.frombuffer(data[space + 1 : end], "<f4").astype(np.float32)
            position = end
    return vectors


def _npz(spec: VectorSpec, wanted: set[str]) -> Vectors:
    """Read an archive of one text array (names,) and one array of numbers (names, d_w), under any key."""
    try:
        with np.load(spec.path, allow_pickle=False) as archive:
            arrays = [archive[key] for key in archive.files]
    except Exception as error:  # the zip and npy readers raise many classes of error for damaged files
        raise C3Error(
            f"{spec.path} cannot be read as npz: {error}. Names must be numpy texts, not Python objects"
        ) from error
    names = [array for array in arrays if array.ndim == 1 and array.dtype.kind in "UT"]
    matrices = [array for array in arrays if array.ndim == 2 and array.dtype.kind == "f"]
    if len(names) != 1 or len(matrices) != 1:
        found = ", ".join(f"{array.dtype}{array.shape}" for array in arrays)
        raise C3Error(f"{spec.path}: expected one array of names and one (names, d_w) of numbers, found {found}")
    return _named(spec, [names[0].tolist()], matrices, wanted)


def _npy(spec: VectorSpec, wanted: set[str]) -> Vectors:
    """Read one array (names, d_w); the setting `names` of the catalog entry names its rows."""
    try:
        matrix = np.load(spec.path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise C3Error(f"{spec.path} cannot be read as npy: {error}") from error
    return _named(spec, map(read_names, spec.names), [matrix], wanted)


def _pickle(spec: VectorSpec, wanted: set[str]) -> Vectors:
    """Read the layout of LESA and BiAM, a list of arrays with one `names` file each; or a dict of name -> vector."""
    content = load_pickle(spec.path)
    if isinstance(content, dict):
        names = [[str(name) for name in content]]
        try:
            content = [np.stack([np.asarray(vector, np.float32) for vector in content.values()])]
        except (ValueError, TypeError) as error:
            raise C3Error(f"{spec.path}: the vectors of the dict do not have one length ({error})") from error
    else:
        names = [read_names(path) for path in spec.names]
    return _named(spec, names, content if isinstance(content, list | tuple) else [content], wanted)


def _named(
    spec: VectorSpec, names: Iterable[Sequence[str]], matrices: Sequence[np.ndarray], wanted: set[str]
) -> Vectors:
    """Join lists of names with their matrices, in order; the first vector of a name counts."""
    names, vectors = list(names), Vectors()
    shapes = [np.shape(matrix) for matrix in matrices]
    if [len(part) for part in names] != [shape[0] if shape else 0 for shape in shapes]:
        raise C3Error(
            f"{spec.path} holds arrays of {shapes}, but its lists of names have {[len(part) for part in names]} "
            f"entries; set `names` of vectors {spec.name} to one file for each array, in their order"
        )
    if any(len(shape) != 2 for shape in shapes) or len({shape[1] for shape in shapes}) != 1:
        raise C3Error(f"{spec.path}: expected arrays (names, d_w) of one d_w, found {shapes}")
    for part, matrix in zip(names, matrices, strict=True):
        for name, vector in zip(part, np.asarray(matrix), strict=True):
            if name in wanted:
                vectors.setdefault(name, np.asarray(vector, np.float32))
    return vectors


KINDS: dict[str, Callable[[VectorSpec, set[str]], Vectors]] = {
    "text": _text,
    "word2vec": _word2vec,
    "npz": _npz,
    "npy": _npy,
    "pickle": _pickle,
}
