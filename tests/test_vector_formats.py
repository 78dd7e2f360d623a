"""Files of word vectors as other tools write and pack them: read right, or refused in one line that names the file."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import json
import lzma
import pickle
import re
import struct
import tarfile
import unicodedata
import zipfile
from collections import OrderedDict, defaultdict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from c3.cli import main
from c3.common.errors import C3Error
from c3.extract.catalog.specs import VectorKind, VectorSpec
from c3.extract.words.class_vectors import class_vectors
from c3.extract.words.vector_files import read_vectors
from click.testing import CliRunner

gzipped = partial(gzip.compress, mtime=0)  # the same bytes in every process: xdist compares the names of tests

WORDS = {"red": [1.0, 0.5, 0.0], "café": [0.0, -2.0, 1e-3], "new york": [7.0, 7.0, 7.0]}
NAMES, MATRIX = list(WORDS), np.array(list(WORDS.values()), np.float32)
GLOVE = "red 1 0.5 0\ncafé 0 -2 1e-3\nnew york 7 7 7\nmoon 2 2 2\n"
TABBED = "red\t1\t0.5\t0\ncafé\t0\t-2\t1e-3\nnew york\t7\t7\t7\n"


def packed(name: str, content: bytes, *others: str) -> bytes:
    """A zip archive of one file, and perhaps others beside it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in (*others, name):
            archive.writestr(member, content)
    return stream.getvalue()


def tar(content: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo("glove.txt")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def binary(end: bytes = b"\n", dtype: str = "<f4", stated: int = len(WORDS)) -> bytes:
    rows = (name.replace(" ", "_").encode() + b" " + np.array(v, dtype).tobytes() + end for name, v in WORDS.items())
    return b"%d 3\n" % stated + b"".join(rows)


def npz(**arrays: object) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **{name: np.asanyarray(array) for name, array in arrays.items()})
    return stream.getvalue()


def npy(array: object) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.asanyarray(array))
    return stream.getvalue()


def saved(content: object, **options: bool) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def objects(items: list[object]) -> np.ndarray:
    array = np.empty(len(items), object)
    array[:] = items
    return array


PYTHON_2 = b"\x80\x02}q\x00(U\x05caf\xc3\xa9]q\x01(G" + struct.pack(">d", 3) + b"K\x01eu."  # {'café': [3.0, 1]}
TENSORS = {name: torch.tensor(vector) for name, vector in WORDS.items()}
LIST_OF_PAIRS = [(name, np.array(vector)) for name, vector in WORDS.items()]

READ: dict[str, bytes] = {
    # how a text is encoded
    "byte order mark": codecs.BOM_UTF8 + GLOVE.encode(),
    "byte order mark before a header": codecs.BOM_UTF8 + b"4 3\n" + GLOVE.encode(),
    "UTF-16": GLOVE.encode("utf-16"),
    "UTF-16 big-endian": codecs.BOM_UTF16_BE + GLOVE.encode("utf-16-be"),
    "UTF-16 with CRLF": GLOVE.replace("\n", "\r\n").encode("utf-16"),
    "UTF-32": GLOVE.encode("utf-32"),
    "a byte order mark inside": GLOVE.encode()[:12] + codecs.BOM_UTF8 + GLOVE.encode()[12:],
    "NFD": unicodedata.normalize("NFD", GLOVE).encode(),
    # how its lines are built
    "header": b"4 3\n" + GLOVE.encode(),
    "header with a tab": b"3\t3\n" + TABBED.encode(),
    "tabs": TABBED.encode(),
    "names of columns": b"word\td0\td1\td2\n" + TABBED.encode(),
    "a comment first": b"# trained on 6 billion words\n" + GLOVE.encode(),
    "tab behind the word": b"red\t1 0.5 0\ncaf\xc3\xa9\t0 -2 1e-3\nnew york\t7 7 7\n",
    "tabs at the ends of lines": GLOVE.replace("\n", "\t\n").encode(),
    "several blanks": GLOVE.replace(" ", "   ").replace("new   york", "new york").encode(),
    "blanks at both ends": GLOVE.replace("\n", "  \n  ").encode(),
    "CRLF": GLOVE.replace("\n", "\r\n").encode(),
    "CR": GLOVE.replace("\n", "\r").encode(),
    "no line break at the end": GLOVE.strip().encode(),
    "a blank as the last word": GLOVE.encode() + b" 5 5 5\n",
    "blank lines": GLOVE.replace("\n", "\n\n").encode(),
    "the first of two vectors": GLOVE.encode() + b"red 5 5 5\n",
    "tokens of several parts first": b". . . 1 2 3\nnew 1 5 5 5\n" + GLOVE.encode() + b"new 4 4 4\n",
    # how it is packed
    "gzip": gzipped(GLOVE.encode()),
    "gzip in two pieces": gzipped(GLOVE.encode()[:20]) + gzipped(GLOVE.encode()[20:]),
    "bzip2": bz2.compress(GLOVE.encode()),
    "xz": lzma.compress(GLOVE.encode()),
    "lzma": lzma.compress(GLOVE.encode(), lzma.FORMAT_ALONE),
    "zip": packed("glove.txt", GLOVE.encode()),
    "zip with notes of macOS": packed("v/glove.txt", GLOVE.encode(), "v/", "__MACOSX/v/._glove.txt", "v/.DS_Store"),
    "gzip of UTF-16": gzipped(GLOVE.encode("utf-16")),
    "gzip twice": gzipped(gzipped(GLOVE.encode())),
    "gzip of word2vec": gzipped(binary()),
    "zip of word2vec": packed("v.bin", binary(b"")),
    "xz of npz": lzma.compress(npz(names=NAMES, vectors=MATRIX)),
    "bzip2 of a pickle": bz2.compress(pickle.dumps(WORDS)),
    # binary formats
    "word2vec": binary(),
    "word2vec without line breaks": binary(b""),
    "npz": npz(vectors=MATRIX, names=NAMES),
    "npz with names in bytes": npz(names=[name.encode() for name in NAMES], vectors=MATRIX),
    "npz with names as objects": npz(names=objects(list(NAMES)), vectors=MATRIX),
    "npz with names of variable width": npz(names=np.array(NAMES, object), vectors=MATRIX),
    "npz with other things beside": npz(names=NAMES, vectors=MATRIX, count=3, mean=MATRIX.mean()),
    "npz in Fortran order": npz(names=NAMES, vectors=np.asfortranarray(MATRIX)),
    "npz big-endian": npz(names=NAMES, vectors=MATRIX.astype(">f8")),
    "npz of objects": npz(names=NAMES, vectors=MATRIX.astype(object)),
    "npz of one array for a name": npz(**{name: np.array(vector) for name, vector in WORDS.items()}),
    "npy of a dict": npy(WORDS),
    "pickle of a dict": pickle.dumps(WORDS),
    "pickle in protocol 0": pickle.dumps(WORDS, protocol=0),
    "pickle in protocol 1": pickle.dumps(WORDS, protocol=1),
    "pickle of an OrderedDict": pickle.dumps(OrderedDict((name, np.array(vector)) for name, vector in WORDS.items())),
    "pickle of a defaultdict": pickle.dumps(defaultdict(list, WORDS)),
    "pickle of names in bytes": pickle.dumps({name.encode(): vector for name, vector in WORDS.items()}),
    "pickle of numpy numbers": pickle.dumps({name: [np.float32(x) for x in v] for name, v in WORDS.items()}),
    "pickle of pairs": pickle.dumps(LIST_OF_PAIRS),
    "pickle of names and a matrix": pickle.dumps({"words": NAMES, "matrix": MATRIX}),
    "pickle of a tuple": pickle.dumps((NAMES, MATRIX.tolist())),
    "torch.save of a dict": saved(TENSORS),
    "torch.save of old": saved(TENSORS, _use_new_zipfile_serialization=False),
    "torch.save of half precision": saved({name: tensor.half() for name, tensor in TENSORS.items()}),
    "torch.save of names and a matrix": saved((NAMES, {"red": 0, "café": 1}, torch.tensor(MATRIX), 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_what_other_tools_write_is_read_right(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "vectors").write_bytes(READ[name])
    spec = VectorSpec(name="v", path=tmp_path / "vectors")
    found, coverage = class_vectors(NAMES, spec)
    np.testing.assert_allclose(found, MATRIX, rtol=1e-3)
    assert found.dtype == np.float32 and coverage.whole == 3
    assert bool(caplog.records) == (name == "the first of two vectors")


def test_old_texts_of_python_2_are_read(tmp_path: Path) -> None:
    (tmp_path / "v.pkl").write_bytes(PYTHON_2)
    assert read_vectors(VectorSpec(name="v", path=tmp_path / "v.pkl"), ["café"])["café"].tolist() == [3, 1]


class Stranger:
    """Stands for a class of a library that is not installed."""


def foreign(module: str, name: str = "KeyedVectors") -> bytes:
    return b"\x80\x02c" + module.encode() + b"\n" + name.encode() + b"\n)\x81}b."


REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "it is an empty file"),
    "zeros": (b"\0" * 999, "it is a file of zero bytes only"),
    "gzip of nothing": (gzipped(b""), "it is an empty file"),
    "blank": (b"\n \n", "no format of word vectors"),
    "a header alone": (b"400000 300\n", "none of the words that are looked up .it holds no word at all"),
    "HTML": (b"<!DOCTYPE html>\n<html><p style='margin: 0 auto'>Sign in</html>", "it is an HTML page"),
    "HTML with a mark": (codecs.BOM_UTF8 + b"\n<html lang=en>", "it is an HTML page"),
    "gzip of HTML": (gzipped(b"<html>"), "it is an HTML page"),
    "XML": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "it is an XML document"),
    "JSON": (json.dumps(WORDS).encode(), "it is a JSON file; write one line"),
    "JSON on many lines": (b'{\n  "dim": 3,\n  "red": [1, 2, 3]\n}', "it is a JSON file"),
    "JSON lines": (b'{"word": "red", "vector": [1, 2]}\n' * 3, "it is a JSON file"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n", "pointer of Git LFS.*git lfs"),
    "git-annex": (b"/annex/objects/SHA256E-s12--0.txt\n", "pointer of git-annex.*git annex get"),
    "fastText": (struct.pack("<ii", 793712314, 12) + b"\0" * 99, r"model of fastText .*\.vec .*load_facebook_vectors"),
    "gzip of fastText": (gzipped(struct.pack("<ii", 793712314, 12)), "a model of fastText"),
    "gensim": (foreign("gensim.models.keyedvectors"), r"objects of gensim \(gensim\.models\.keyedvectors\.Keyed.*\); "
               "write it with gensim: .*save_word2vec_format"),
    "pandas": (foreign("pandas.core.frame", "DataFrame"), "objects of pandas .*np.savez"),
    "joblib": (foreign("joblib.numpy_pickle", "NumpyArrayWrapper"), "objects of joblib .*np.savez"),
    "a pickle of tensors": (pickle.dumps(TENSORS), r"objects of torch .*tensor\.numpy\(\)"),
    "a pickle of something else": (foreign("mylib", "Model"), r"refused: it asks for mylib\.Model"),
    "torch.save of a module": (saved({"red": torch.nn.Linear(1, 1)}), r"torch\.save \(it holds objects of torch\.nn"),
    "parquet": (b"PAR1" + b"\0" * 99, "it is a parquet table; write its names"),
    "HDF5": (b"\x89HDF\r\n\x1a\n", "it is an HDF5 file; write its names"),
    "SQLite": (b"SQLite format 3\0", "it is an SQLite database"),
    "safetensors": (struct.pack("<Q", 12) + b'{"a": "b"}  ', "it is a safetensors file"),
    "Excel": (packed("[Content_Types].xml", b""), "it is a spreadsheet of Excel"),
    "zstd": (b"\x28\xb5\x2f\xfd\0\0", "it is a zstd archive; unpack it with: unzstd"),
    "7z": (b"7z\xbc\xaf\x27\x1c\0\0", "it is a 7z archive"),
    "tar": (tar(GLOVE.encode()), "it is a tar archive; unpack it with: tar -xf"),
    "tar.gz": (gzipped(tar(GLOVE.encode())), "it is a tar archive"),
    "UTF-16 without a mark": (GLOVE.encode("utf-16-le"), "UTF-16 without a byte order mark; .*iconv -f UTF-16LE"),
    "UTF-16 big-endian without a mark": (GLOVE.encode("utf-16-be"), "iconv -f UTF-16BE"),
    "commas": (b"word,a,b\nred,1,2\n", "a table whose fields are separated by commas; use blanks or tabs: tr ',' ' '"),
    "semicolons": (b"red;1;2\n", "separated by semicolons"),
    "decimal commas": (b"red 0,1 0,2 -0,5\ncat 0,1 0,2 0,3\n", "a text with decimal commas; write points: tr ',' '.'"),
    "one decimal comma": (b"red 0,1 1 2\n", r"line 1: the vector of 'red' holds '0,1', .*decimal commas: tr"),
    "prose": (b"We trained our vectors on Wikipedia.\nEnjoy.\n", "no format of word vectors .*begins with b'We"),
    "noise": (bytes(range(128, 256)) * 9, "no format of word vectors"),
    "other words": (b"/c/en/red 1 2\n/c/en/sea 2 1\n", r"none of the words .*among its 2: '/c/en/red', '/c/en/sea'"),
    "a short line at the end": (b"moon 1 2 3\nred 1 2 3\nsun 1", "ends inside line 3, after 1 of 3 numbers"),
    "half a word at the end": (b"moon 1 2 3\nred 1 2 3\nsu", "ends inside line 3, after 0 of 3 numbers"),
    "gzip that ends early": (gzipped(GLOVE.encode())[:-12], "is damaged or ends early"),
    "gzip with a wrong byte": (gzipped(GLOVE.encode())[:-8] + b"\1" * 8, "is damaged"),
    "bzip2 that ends early": (bz2.compress(GLOVE.encode())[:-12], "is damaged or ends early"),
    "xz that ends early": (lzma.compress(GLOVE.encode())[:-12], "is damaged or ends early"),
    "xz with a wrong byte": (lzma.compress(GLOVE.encode())[:-40] + b"\1" * 40, "is damaged or ends early"),
    "zip that ends early": (packed("glove.txt", GLOVE.encode())[:-12], "is damaged or ends early"),
    "zip of two": (packed("glove.50d.txt", b"", "glove.300d.txt"),
                   r"expected one file in the archive, found 2 \(glove.300d.txt, glove.50d.txt\); unpack one: unzip"),
    "word2vec that ends early": (binary()[:-5], "ends inside word 3 of 3"),
    "word2vec in double precision": (binary(dtype="<f8"), "(ends inside word|goes on behind its 3 words)"),
    "word2vec with more words than stated": (binary(stated=2), "goes on behind its 2 words"),
    "word2vec with an infinity": (b"1 2\nred " + struct.pack("<2f", 1, np.inf), r"'red' holds inf \(number 2 of 2\)"),
    "npz transposed": (npz(names=NAMES[:2], vectors=MATRIX), r"arrays of \[\(3, 3\)\], .* have \[2\]"),
    "npz of two matrices": (npz(a=MATRIX, b=MATRIX), r"expected one array of names .*float32\(3, 3\), float32\(3, 3\)"),
    "npz of texts": (npz(names=NAMES, vectors=MATRIX.astype(str)), r"expected one array of names .*<U"),
    "npz of complex numbers": (npz(names=NAMES, vectors=MATRIX.astype(complex)), r"found .*complex128\(3, 3\)"),
    "npz that overflows": (npz(names=NAMES, vectors=MATRIX.astype(float) * 1e39), r"holds 1e\+39 \(number 1 of 3\)"),
    "npz cut short": (npz(names=NAMES, vectors=MATRIX)[:-30], "is damaged or ends early"),
    "npy without names": (npy(MATRIX), r"found float32\(3, 3\); set `names` of vectors v to one file"),
    "npy of a picture": (npy(np.zeros((2, 3, 3))), r"found float64\(2, 3, 3\)"),
    "npy cut short": (npy(MATRIX)[:-5], "cannot be read as npy"),
    "npy of a stranger": (npy(objects([Stranger()])), r"refused: it asks for \S+\.Stranger"),
    "pickle of several lengths": (pickle.dumps({"red": [1.0], "x": [1.0, 2.0]}), "not have one length: that of 'x'"),
    "pickle of texts": (pickle.dumps({"red": "1 2"}), "found a str"),
    "pickle of NaN": (pickle.dumps({"red": [1.0, np.nan]}), r"'red' holds nan \(number 2 of 2\)"),
    "pickle of None": (pickle.dumps({"red": [1.0, None]}), "the vector of 'red' is no list of numbers"),
    "pickle of nothing": (pickle.dumps({}), "found nothing"),
    "pickle of a number": (pickle.dumps(3), "found a int"),
    "pickle cut short": (pickle.dumps(WORDS)[:-9], "not a readable pickle|is refused"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_named_in_one_line(tmp_path: Path, name: str) -> None:
    content, said = REFUSED[name]
    (tmp_path / "vectors").write_bytes(content)
    with pytest.raises(C3Error, match=said) as caught:
        read_vectors(VectorSpec(name="v", path=tmp_path / "vectors"), {"red", "star"})
    assert str(tmp_path / "vectors") in str(caught.value)


KINDS: tuple[VectorKind, ...] = ("text", "word2vec", "npz", "npy", "pickle")


def test_a_kind_that_is_not_that_of_the_file_is_refused_with_the_right_one(tmp_path: Path) -> None:
    right: dict[VectorKind, bytes] = {
        "text": GLOVE.encode(), "word2vec": binary(), "npz": READ["npz"], "npy": READ["npy of a dict"],
        "pickle": READ["pickle of a dict"],
    }  # fmt: skip
    for kind, content in right.items():
        (tmp_path / "vectors").write_bytes(content)
        for declared in KINDS:
            spec = VectorSpec(name="v", kind=declared, path=tmp_path / "vectors")
            if declared == kind:
                assert "red" in read_vectors(spec, {"red"})
            else:
                with pytest.raises(C3Error, match=rf"the catalog says `kind: {declared}` .* write `kind: {kind}`, or"):
                    read_vectors(spec, {"red"})


def spec_of(folder: Path, content: str | bytes) -> VectorSpec:
    (folder / "v.txt").write_bytes(content.encode() if isinstance(content, str) else content)
    return VectorSpec(name="v", path=folder / "v.txt")


@pytest.mark.parametrize("word", ["red", "7", "3.14", "a b", "1 2"])
def test_the_first_word_may_be_a_number_or_have_blanks(tmp_path: Path, word: str) -> None:
    found = read_vectors(spec_of(tmp_path, f"{word} 1 2 3\nx 4 5 6\ny 7 8 9\n"), {word})
    assert found[word].tolist() == [1, 2, 3]


def test_a_vector_that_is_too_long_is_refused_unless_the_word_stands_elsewhere(tmp_path: Path) -> None:
    lines = "x 1 2\ny 1 2\nred 1 2 3\n"
    with pytest.raises(C3Error, match="line 3: the vector of 'red' has 3 numbers, expected 2"):
        read_vectors(spec_of(tmp_path, lines), {"red"})
    assert read_vectors(spec_of(tmp_path, lines + "red 5 6\n"), {"red"})["red"].tolist() == [5, 6]


def test_words_in_another_encoding_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_vectors(spec_of(tmp_path, GLOVE.encode("latin1")), NAMES)
    assert "v.txt holds words that are not in UTF-8, the first in line 2" in caplog.text


def test_a_file_that_holds_fewer_words_than_it_states_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_vectors(spec_of(tmp_path, "2000000 3\n" + GLOVE), NAMES)
    assert "v.txt: its first line states 2,000,000 words, the file holds 4; download it again unless" in caplog.text


def test_a_second_vector_of_a_word_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for content in (GLOVE + "red 1 0.5 0\n", GLOVE + "moon 8 8 8\n"):  # the same again, and a word that is not wanted
        read_vectors(spec_of(tmp_path, content), NAMES)
    assert not caplog.records
    twice = b"2 2\nred " + struct.pack("<2f", 1, 2) + b"red " + struct.pack("<2f", 3, 4)
    assert read_vectors(spec_of(tmp_path, twice), {"red"})["red"].tolist() == [1, 2]
    assert "v.txt holds other vectors for the same word, the first counts: 'red'" in caplog.text


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (READ["gzip"], 0, "3 of 3 classes have a vector"),
        (READ["byte order mark"], 0, "3 of 3 classes have a vector: 3 by their whole name"),
        (b"red 0 0 0\n" + GLOVE.split("\n", 1)[1].encode(), 2,
         "1 of 3 classes have no vector in .*: red .all zeros in the file, which counts as no vector: red.. Add"),
        (REFUSED["fastText"][0], 2, "a model of fastText"),
        (b"red nan 1 1\n" + GLOVE.encode(), 2, "line 1: the vector of 'red' holds nan"),
    ],
)  # fmt: skip
def test_the_check_and_extraction_read_the_same_file_alike(
    table_dataset: Path, content: bytes, code: int, said: str
) -> None:
    root = table_dataset
    (root / "labels.csv").write_text("image_path,labels,split\n00.png,red|café,train\n01.png,new york,test\n")
    (root / "unseen.txt").write_text("new york\n")
    (root / "vectors.txt").write_bytes(content)
    entry = (root / "catalog.yaml").read_text().replace("kind: text, ", "")
    (root / "catalog.yaml").write_text(entry)
    catalog = ["--catalog", str(root / "catalog.yaml")]
    check = CliRunner().invoke(main, [*catalog, "catalog", "check", "tiny"])
    command = [
        "extract",
        "--dataset",
        "tiny",
        "--backbone",
        "squeezenet1_1",
        "--weights",
        "random:0",
        "--device",
        "cpu",
    ]
    extract = CliRunner().invoke(main, [*catalog, *command, "--out", str(root / "o.zarr")])
    assert (check.exit_code, extract.exit_code) == (code and (1, 2)[check.exit_code - 1], code)
    assert (root / "o.zarr").exists() == (code == 0)
    shown = " ".join(extract.output.split())
    assert re.search(said, shown), shown
