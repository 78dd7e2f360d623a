"""Whatever a user's file holds, c3 reads it or refuses it in one line: exit 0 or 2, and never a traceback.

`make test` tries a few dozen files of each kind, always the same ones. C3_FUZZ_EXAMPLES=2000 tries that many new ones.
A new kind of file needs a strategy of its bytes, and a test that passes them to `answers` or `reads`.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import tempfile
import zipfile
from argparse import Namespace
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from c3.cli import main
from c3.common.errors import C3Error
from c3.common.text_files import class_list, image_list, word_list
from c3.extract.backbone.weight_files import read_weights
from c3.extract.backbone.weight_search import search
from c3.extract.catalog.specs import CocoSpec, VectorSpec
from c3.extract.datasets.coco import coco_manifest
from c3.extract.datasets.manifest import ReadOptions
from c3.extract.words.class_vectors import class_vectors
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

ASKED = int(os.environ.get("C3_FUZZ_EXAMPLES", "0"))
fuzz = settings(
    max_examples=ASKED or 40, derandomize=not ASKED, database=None, deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip

CATALOG = """version: 1
datasets:
  d: {kind: table, root: ., vectors: g, table: labels.csv}
vectors: {g: {kind: text, path: glove.txt}}
"""
GLOVE = "dog 0.1 0.2\ncat 0.3 0.4\ncafé 0.5 0.6\ntree 0.7 0.8\n"
TABLE = "image_path,labels,split\na.jpg,dog|cat,train\nb.jpg,tree,test\n"


USUAL: dict[str, bytes | str] = {"catalog.yaml": CATALOG, "labels.csv": TABLE, "glove.txt": GLOVE}


def answers(contents: Mapping[str, bytes | str], *command: str) -> int:
    """Run a command (default: the check) on a table data set of two rows, some of whose files have other `contents`.

    It must succeed or refuse in one line. Return its exit code.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, content in (USUAL | contents).items():
            Path(folder, name).write_bytes(content.encode() if isinstance(content, str) else content)
        words = command or ("catalog", "check", "d")
        done = CliRunner().invoke(main, ["--catalog", f"{folder}/catalog.yaml", *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code in (0, 2)
    told = [line for line in done.stderr.splitlines() if line.startswith(("c3: ", "Error: "))]
    assert len(told) == (done.exit_code == 2), done.stderr
    return done.exit_code


def reads(content: bytes, reader: Callable[[Path], object], name: str = "file.txt") -> None:
    """Read a file of these bytes: the reader returns, or refuses them in one line that names the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            reader(path)
        except C3Error as error:
            assert str(path) in str(error)  # noqa: PT017
            assert str(error).encode("utf-8", "surrogateescape")  # noqa: PT017


def encoded(texts: st.SearchStrategy[str]) -> st.SearchStrategy[bytes]:
    """Texts in the encodings that users' programs write, now and then cut short or with a wrong byte in them."""
    whole = st.builds(
        lambda text, code: text.encode(code, "replace"),
        texts,
        st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252", "utf-32"]),
    )
    cut = st.builds(lambda data, end: data[:end], whole, st.integers(0, 200))
    broken = st.builds(lambda data, place, byte: data[:place] + byte + data[place + 1 :], whole, st.integers(0, 100),
                       st.binary(min_size=1, max_size=2))  # fmt: skip
    return whole | whole | whole | cut | broken


ODD = st.sampled_from(
    ["", " ", "|", ";", ",", "\t", '"', '""', "'", "[", "]", "{", "\\", "/", ".", "..", "./", "//", "~", "$HOME", "\0",
     "\r", "\n", "\r\n", "\x85", "\u2028", "\ufeff", "\u00a0", "e\u0301", "é", "#", "nan", "null", "sep=;", "1",
     "*", "&a", "<<"]
)  # fmt: skip
WORD = st.sampled_from(["dog", "cat", "café", "cafe\u0301", "tree", "new york", "Dog"])
TEXT = st.lists(WORD | ODD | st.text(max_size=5), max_size=4).map("".join)

# Tables: mostly in order, with odd cells, odd rows, odd headers, delimiters and line ends.
PATHS = st.sampled_from(["a.jpg", "b.jpg", "./a.jpg", "x//a.jpg", "é.jpg", "e\u0301.jpg", "A.jpg"]) | TEXT
SPLITS = st.sampled_from(["train", "val", "test"])
LABELS = st.lists(WORD, max_size=3).flatmap(
    lambda names: (
        st.sampled_from(["|", ";", ",", ", "]).map(lambda by: by.join(names))
        | st.sampled_from([str(names), str(names).replace("'", '"'), repr(tuple(names))])
    )
)
CELLS = PATHS | LABELS | SPLITS | TEXT


def quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"'


def rows(by: str) -> st.SearchStrategy[str]:
    def field(cell: str) -> str:
        return quoted(cell) if any(mark in cell for mark in (by, '"', "\n", "\r")) else cell

    right = st.tuples(PATHS, LABELS, SPLITS).map(lambda row: by.join(map(field, row)))
    odd = st.lists(CELLS.map(field) | CELLS, max_size=5).map(by.join)
    return right | right | right | odd | TEXT


@st.composite
def tables(draw: st.DrawFn) -> str:
    by, end = draw(st.sampled_from(",,,;\t")), draw(st.sampled_from(["\n", "\r\n", "\r"]))
    header = draw(st.sampled_from([["image_path", "labels", "split"]] * 5 + [
        ["image_path", "labels", "split", "labels"], ["", "image_path", "labels", "split"], ["image_path", "labels"],
        ["image_path", "labels", "split", "negatives"], ["split", "labels", "image_path", "", ""],
    ]))  # fmt: skip
    start = draw(st.sampled_from(["", "", "", f"sep={by}{end}", end, "\ufeff"]))
    return start + end.join([by.join(header), *draw(st.lists(rows(by), max_size=6)), draw(st.sampled_from(["", end]))])


@fuzz
@given(encoded(tables()))
@example(b"image_path,labels,split\na.jpg,dog,cat,train\n")
def test_tables(content: bytes) -> None:
    answers({"labels.csv": content})


@fuzz
@given(encoded(st.lists(TEXT, max_size=8).map("\n".join)))
def test_word_and_class_lists(content: bytes) -> None:
    for reader in (word_list, class_list, image_list):
        reads(content, reader)
    catalog = CATALOG.replace("labels.csv}", "labels.csv, classes: list.txt, unseen: list.txt}")
    answers({"catalog.yaml": catalog, "list.txt": content})


# Catalogs: settings of the right names with values of any shape, and YAML that is none.
SCALARS = (
    st.sampled_from(
        ["labels.csv", "glove.txt", "g", ".", "table", "coco", "complete", "verified", "text", "1", "0.5", "yes",
         "null", "2024-01-01", "1e400", ".nan", "0x1f", "~", "~/x", "$HOME", "*a", "&a x", "!!python/name:os.system",
         "'a\\0b'", '"a\\0b"', '"\\ud800"', "a: b", "- a", "#", "|", ">", "%", "@", "`", "\t", "é", "a" * 300]
    )
    | st.text(max_size=4)
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(SCALARS, inner, max_size=3).map(
            lambda items: "{" + ", ".join(f"{name}: {value}" for name, value in items.items()) + "}"
        )
    ),
    max_leaves=6,
)
SETTINGS = st.sampled_from(
    ["kind", "root", "vectors", "table", "unseen", "classes", "labels", "images", "files", "counts", "image_urls",
     "title", "leak_cosine", "label_separator", "years", "seen", "validation", "name", "tabel", "<<"]
)  # fmt: skip


@st.composite
def catalogs(draw: st.DrawFn) -> str:
    entry = {"kind": "table", "root": ".", "vectors": "g", "table": "labels.csv"}
    changed = draw(st.dictionaries(SETTINGS | SCALARS, VALUES, max_size=3))
    inner = ", ".join(f"{name}: {value}" for name, value in (entry | changed).items())
    vectors = draw(st.sampled_from(["{g: {kind: text, path: glove.txt}}"] * 3) | VALUES)
    more = draw(st.sampled_from(["", "", "weights: ", "recipes: "]) | st.sampled_from(["extra: "]))
    version = draw(st.sampled_from(["1"] * 5 + ["2", "[1]", ""]))
    return (
        f"version: {version}\ndatasets:\n  d: {{{inner}}}\nvectors: {vectors}\n"
        f"{more and more + draw(VALUES)}\n{draw(st.sampled_from(['', '', '']) | TEXT)}"
    )


@fuzz
@given(encoded(catalogs()), st.sampled_from(["check", "show", "list"]))
@example(b"version: 1\ndatasets: {d: " + b"[" * 5000, "check")
def test_catalogs(content: bytes, command: str) -> None:
    answers({"catalog.yaml": content}, "catalog", command, *(() if command == "list" else ("d",)))


# Word vectors: lines of numbers with odd ones among them, other formats, all of them packed, cut or with a wrong byte.
NUMBERS = st.sampled_from(["0.1", "-2", "1e-3", "0", "1e39", "nan", "inf", "0,5", "1_0", "", "x"]) | st.floats().map(
    str
)
LINES = st.tuples(WORD | TEXT, st.sampled_from([" ", " ", " ", "\t", "  ", ",", ";"]), st.lists(NUMBERS, max_size=5))
ENDS = st.sampled_from(["\n", "\n", "\r\n", "\r"])


@st.composite
def glove_texts(draw: st.DrawFn) -> str:
    usual = [f"{word} {n} 0.5 1" for n, word in enumerate(["dog", "cat", "tree", "café", "new", "new york"])]
    odd = [by.join([word, *numbers]) for word, by, numbers in draw(st.lists(LINES, max_size=4))]
    header = draw(
        st.sampled_from(["", "", "", "6 3", "6\t3", "9 3", "6 2", "3", "<html>", "{", "version https://git-lfs"])
    )
    return draw(ENDS).join([header] * bool(header) + draw(st.permutations(usual + odd)) + [""])


PICKLED = st.recursive(
    st.none() | st.integers() | st.floats() | st.sampled_from(["dog", "cat", "tree", b"dog"]) | st.just(np.ones(3)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.lists(inner, max_size=3).map(lambda items: np.array([*items, None], object)[:-1])
        | st.dictionaries(st.sampled_from(["dog", "cat", "tree", b"dog", 7]), inner, max_size=3)
    ),
    max_leaves=8,
)
ARRAYS = st.sampled_from(
    [np.array(["dog", "cat", "tree"]), np.array([b"dog", b"cat", b"tree"]), np.array(["dog", "cat", "tree"], object),
     np.ones((3, 2)), np.zeros((3, 2)), np.full((3, 2), np.nan), np.ones((3, 2), "f2"), np.ones((3, 2), ">i4"),
     np.ones((2, 3)).T, np.ones(3), np.ones(()), np.ones((1, 2, 3)), np.ones((3, 2), complex), np.ones((3, 2), bool)]
)  # fmt: skip


def zipped(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("vectors", content)
    return stream.getvalue()


def saved_arrays(arrays: list[np.ndarray]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, *arrays)
    return stream.getvalue()


def word2vec(words: list[str], d_w: int, stated: int, numbers: bytes) -> bytes:
    return b"%d %d\n" % (stated, d_w) + b"".join(word.encode() + b" " + numbers[: 4 * d_w] + b"\n" for word in words)


def damaged(contents: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Files as they are, packed, cut short, or with a wrong byte."""
    packed = st.builds(
        lambda pack, data: pack(data), st.sampled_from([gzip.compress, bz2.compress, lzma.compress, zipped]), contents
    )
    whole = contents | packed
    cut = st.builds(lambda data, end: data[:-end], whole, st.integers(1, 60))
    broken = st.builds(lambda data, place, byte: data[:place] + byte + data[place + 1 :], whole, st.integers(0, 400),
                       st.binary(min_size=1, max_size=1))  # fmt: skip
    return whole | whole | cut | broken


VECTORS = damaged(
    encoded(glove_texts())
    | encoded(glove_texts())
    | st.builds(pickle.dumps, PICKLED, st.integers(0, 5))
    | st.lists(ARRAYS, max_size=3).map(saved_arrays)
    | st.builds(word2vec, st.lists(WORD, max_size=4), st.integers(0, 4), st.integers(0, 5),
                st.binary(min_size=16, max_size=16))
    | st.binary(max_size=40)
)  # fmt: skip


@fuzz
@given(VECTORS, st.sampled_from(["", "", "text", "word2vec", "npz", "npy", "pickle"]))
def test_word_vectors(content: bytes, kind: str) -> None:
    spec = CATALOG.replace("kind: text, ", f"kind: {kind}, " if kind else "")
    answers({"catalog.yaml": spec, "glove.txt": content})
    reads(content, lambda path: class_vectors(["dog", "New York", "cafe\u0301"], VectorSpec(name="v", path=path)))


# COCO files: entries mostly in order, with odd ids, names, sizes and boxes, odd sections, and JSON that is cut or none.
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 400) | st.floats() | TEXT
    | st.sampled_from([10**400, -(10**30), "\ud800", "1", "01", "1.0", 1.0, "../x.jpg", "/x/y.jpg", "C:\\\\x.jpg",
                       "http://a.org/b.jpg", "http://[", "a" * 300 + ".jpg", "a/b.jpg", "train/a.jpg"]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(["id", "name"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
IDS = st.integers(1, 3) | st.sampled_from(["1", "2", 1.0])
BOXES = st.lists(st.floats(-50, 400) | st.integers(-5, 90), min_size=4, max_size=4)


def entries(**fields: st.SearchStrategy[object]) -> st.SearchStrategy[list[object]]:
    """Lists of objects of which one or two have fields of other kinds, or lack them."""
    right = st.fixed_dictionaries(fields)
    name = st.sampled_from([*fields, "segmentation", "iscrowd"])
    odd = st.builds(lambda entry, name, value: entry | {name: value}, right, name, JSON_VALUES)
    short = st.builds(lambda entry, name: {key: entry[key] for key in entry if key != name}, right, name)
    return st.builds(
        lambda usual, others: [*usual, *others],
        st.lists(right, min_size=1, max_size=4),
        st.sampled_from([0, 0, 1]).flatmap(lambda count: st.lists(odd | short | odd, max_size=count)),
    )


COCO = st.fixed_dictionaries(
    {
        "images": st.integers(1, 4).map(
            lambda count: [{"id": n, "file_name": f"{n}.jpg", "width": 64, "height": 48} for n in range(1, count + 1)]
        ) | entries(id=st.integers(), file_name=PATHS, width=st.integers(1, 64), height=st.integers(1, 64)),
        "categories": st.just([{"id": 1, "name": "dog"}, {"id": "2", "name": "cat"}, {"id": 3, "name": "tree"}])
        | entries(id=IDS, name=WORD),
        "annotations": entries(image_id=st.just(1), category_id=st.just(1), bbox=BOXES),
    }
)  # fmt: skip
COCO_FILES = (
    COCO
    | st.builds(lambda content, name, value: content | {name: value}, COCO,
                st.sampled_from(["x", "images", "categories", "annotations"]), JSON_VALUES)
    | JSON_VALUES
).map(json.dumps)  # fmt: skip
COCO_CATALOG = """version: 1
datasets:
  d: {kind: coco, root: ., vectors: g, train_annotations: train.json, test_annotations: train.json}
vectors: {g: {kind: text, path: glove.txt}}
"""


@fuzz
@given(
    COCO.map(json.dumps).map(str.encode) | COCO_FILES.map(str.encode) | damaged(encoded(COCO_FILES)),
    st.sampled_from(["whole", "boxes"]),
)
def test_coco_files(content: bytes, crops: str) -> None:
    answers({"catalog.yaml": COCO_CATALOG, "train.json": content})

    def read(path: Path) -> object:
        spec = CocoSpec(
            name="d", kind="coco", root=path.parent, train_annotations=path.name, test_annotations=path.name
        )
        return coco_manifest(spec, ReadOptions(crops=crops)).digest()

    reads(content, read)


# Weights: tensors behind keys and prefixes, with anything beside them; damaged files.
NEEDED = {"conv1.weight": torch.zeros(2, 3), "bn1.num_batches_tracked": torch.tensor(0)}
HELD = st.sampled_from(
    [torch.zeros(2, 3), torch.zeros(3), torch.tensor(1), torch.zeros(2, 3, dtype=torch.int8), np.zeros((2, 3)),
     np.float32(1), Namespace(lr=1), datetime(2024, 1, 1, tzinfo=UTC), Path("x"), {1, 2}, 1j, io.BytesIO, os.system]
)  # fmt: skip
CHECKPOINTS = st.recursive(
    HELD | st.none() | st.floats() | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["conv1.weight", "module.conv1.weight", "model", "state_dict", "bn1.num_batches_tracked"])
            | TEXT,
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


def saved_by_torch(content: object, zipped: bool) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


@fuzz
@given(damaged(st.builds(saved_by_torch, CHECKPOINTS, st.booleans()) | st.builds(pickle.dumps, CHECKPOINTS)))
def test_weights(content: bytes) -> None:
    reads(content, lambda path: [found.fits(NEEDED) for found in search(read_weights(path), NEEDED)], "w.pth")


def test_the_usual_files_are_read() -> None:
    assert answers({}) == 0
    with pytest.raises(KeyError):
        reads(b"", lambda _: {}["a"])
