"""Word vectors: every file format, how a name finds its vector, the report, pickles that are refused."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from c3.common.errors import C3Error
from c3.common.safe_pickle import load_pickle
from c3.extract.catalog.catalog import Catalog
from c3.extract.catalog.specs import VectorSpec
from c3.extract.datasets.manifest import ReadOptions
from c3.extract.datasets.read import read_manifest
from c3.extract.store.tables import Classes
from c3.extract.words.class_vectors import class_vectors
from c3.extract.words.near_duplicates import near_duplicates
from c3.extract.words.vector_files import read_vectors

RED, STAR = np.float32([1, 0]), np.float32([0, 1])


def text(path: Path, content: str) -> VectorSpec:
    path.write_text(content)
    return VectorSpec(name="words", kind="text", path=path)


def word2vec(path: Path, words: dict[str, np.ndarray], end: bytes = b"\n") -> VectorSpec:
    body = b"".join(name.encode() + b" " + vector.astype("<f4").tobytes() + end for name, vector in words.items())
    path.write_bytes(b"%d 2\n" % len(words) + body)
    return VectorSpec(name="words", kind="word2vec", path=path)


def every_format(folder: Path) -> dict[str, VectorSpec]:
    """The same two words in every format that is read."""
    words, matrix = {"red": RED, "star": STAR}, np.stack([RED, STAR])
    (folder / "names.txt").write_text("\ufeffred\r\nstar\r\n")
    (folder / "first.txt").write_text("red\n")
    (folder / "second.pkl").write_bytes(pickle.dumps(np.array(["star"], dtype=object), protocol=2))
    np.savez(folder / "v.npz", names=np.array(["red", "star"]), vectors=matrix)
    np.save(folder / "v.npy", matrix.astype(np.float64))
    (folder / "two.pkl").write_bytes(pickle.dumps([matrix[:1], matrix[1:]]))
    (folder / "dict.pkl").write_bytes(pickle.dumps({"red": RED, "star": [0.0, 1.0]}))
    return {
        "glove": text(folder / "glove.txt", "red 1 0\nstar 0 1\n"),
        "fasttext": text(folder / "fast.vec", "2 2\nred 1 0 \nstar 0 1 \n"),
        "word2vec": word2vec(folder / "v.bin", words),
        "word2vec without line ends": word2vec(folder / "w.bin", words, b""),
        "npz": VectorSpec(name="words", kind="npz", path=folder / "v.npz"),
        "npy": VectorSpec(name="words", kind="npy", path=folder / "v.npy", names=(folder / "names.txt",)),
        "lesa": VectorSpec(
            name="words", kind="pickle", path=folder / "two.pkl", names=(folder / "first.txt", folder / "second.pkl")
        ),
        "dict": VectorSpec(name="words", kind="pickle", path=folder / "dict.pkl"),
    }


def test_every_format_gives_the_same_vectors(tmp_path: Path) -> None:
    for name, spec in every_format(tmp_path).items():
        found = read_vectors(spec, {"red", "star", "moon"})
        assert sorted(found) == ["red", "star"], name
        np.testing.assert_array_equal(found["red"], RED)
        np.testing.assert_array_equal(found["star"], STAR)
        assert found["red"].dtype == np.float32


def test_invisible_characters_of_a_text_file_do_not_count(tmp_path: Path) -> None:
    lines = "d\u200bog 1 0\ncafe\u0301\u200b 0 1\nNew\u00a0York 2 2\n"
    found, coverage = class_vectors(["dog", "café", "New York"], text(tmp_path / "v.txt", lines))
    np.testing.assert_array_equal(found, [[1, 0], [0, 1], [2, 2]])
    assert coverage.whole == 3


def test_whole_numbers_beside_names_and_vectors_do_not_matter(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", names=["red", "star"], vectors=np.stack([RED, STAR]), spans=np.zeros((2, 2), int))
    found = read_vectors(VectorSpec(name="v", path=tmp_path / "v.npz"), {"red", "star"})
    np.testing.assert_array_equal(found["star"], STAR)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("red", [1, 0]),
        ("Red", [1, 0]),
        ("New York", [7, 7]),  # as written, with an underscore
        ("red star", [0.5, 0.5]),
        ("Red-Star!", [0.5, 0.5]),
        ("the star of red", [0.5, 0.5]),  # stop words do not count
        ("star's", [0, 1]),
        ("of", [4, 4]),  # a name that is nothing else
        ("Réd (stár)", [0.5, 0.5]),
        ("red unicorn", [1, 0]),
        ("ice cream", [3, 3]),  # the whole name before its words
    ],
)
def test_a_name_finds_its_vector(tmp_path: Path, name: str, expected: list[float]) -> None:
    lines = "red 1 0\nstar 0 1\nnew_york 7 7\nof 4 4\nice-cream 3 3\nice 9 9\nthe 8 8\ns 6 6\n"
    found, _ = class_vectors([name], text(tmp_path / "v.txt", lines))
    np.testing.assert_allclose(found, [expected])


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        ("New York", "New_York 9\nnew_york 8\nNEW_YORK 7\nNew-York 6\nnew 1\nyork 3", 9),
        ("New York", "New-York 6\nnew_york 8\nNEW_YORK 7\nnew 1\nyork 3", 6),
        ("New York", "new_york 8\nNEW_YORK 7\nnew 1\nyork 3", 8),
        ("New York", "NEW_YORK 7\nnew 1\nyork 3", 7),
        ("New York", "new 1\nyork 3", 2),
        ("new york", "New_York 9\nnew 1\nyork 3", 9),  # as GoogleNews writes it
        ("NEW YORK", "New_York 9\nnew 1\nyork 3", 9),
        ("new-york", "New York 9\nnew 1\nyork 3", 9),  # as glove.840B would
        ("ice cream", "Ice_cream 9\nice 1\ncream 3", 9),  # as Wikipedia's titles
        ("paris", "Paris 4\nPARIS 5", 4),
        ("usa", "USA 5", 5),
        ("São Paulo", "são_paulo 5\nsao 1\npaulo 3", 5),
        ("são paulo", "Sao_Paulo 5\nsao 1\npaulo 3", 5),
        ("café noir", "café 2\ncafe 8\nnoir 4", 3),
        ("cafe\u0301", "café 2\ncafe 8", 2),
        ("New Zealand beach", "new 1\nZealand 2\nbeach 6", 3),
    ],
)
def test_a_name_is_tried_in_every_case_before_the_mean_of_its_words(
    tmp_path: Path, name: str, words: str, expected: float
) -> None:
    lines = "".join(f"{line} 0\n" for line in (words + "\nx 1\ny 1\nz 1\nu 1\nv 1").split("\n"))
    found, _ = class_vectors([name], text(tmp_path / "v.txt", lines))
    assert found.tolist() == [[expected, 0]]


@pytest.mark.parametrize("line", ["red 0 0", "red -0.0 0", "red 1e-13 0", "red 0e5 1e-40"])
def test_a_vector_of_zeros_counts_as_none_and_is_named(tmp_path: Path, line: str) -> None:
    found, coverage = class_vectors(["red", "red star"], text(tmp_path / "v.txt", f"{line}\nstar 1 3\n"))
    assert np.isnan(found[0]).all() and found[1].tolist() == [1, 3]
    assert coverage.missing == ("red",) and coverage.partly == {"red star": ["red"]} and coverage.zeros == ("red",)
    assert "words whose vector is all zeros, which counts as none: red" in coverage.lines()


def test_words_that_cancel_each_other_give_no_vector(tmp_path: Path) -> None:
    _, coverage = class_vectors(["red star"], text(tmp_path / "v.txt", "red 1 2\nstar -1 -2\n"))
    assert coverage.missing == ("red star",)


def test_a_key_comes_before_the_name_and_is_no_word_of_it(tmp_path: Path) -> None:
    spec = text(tmp_path / "v.txt", "/m/0a 5 5\ntree 1 0\nm 9 9\n")
    found, _ = class_vectors(["thing", "tree (/m/0b)", "tree (/m/0c)"], spec, ["/m/0a", "/m/0b", "/m/0c"])
    np.testing.assert_allclose(found, [[5, 5], [1, 0], [1, 0]])


def test_text_embeddings_are_looked_up_by_whole_names_only(tmp_path: Path) -> None:
    np.savez(tmp_path / "clip.npz", embeddings=np.ones((2, 512), np.float16), texts=np.array(["red star", "red"]))
    spec = VectorSpec(name="clip", kind="npz", path=tmp_path / "clip.npz", lookup="names")
    found, coverage = class_vectors(["red star", "red", "red moon"], spec)
    assert found.shape == (3, 512)
    assert coverage.missing == ("red moon",)


def test_the_report_says_what_was_found_and_what_cannot_be_told_apart(tmp_path: Path) -> None:
    spec = text(tmp_path / "v.txt", "red 1 0\nstar 0 1\ncrimson 1 0\n")
    names = ["red", "crimson", "red star", "red unicorn", "zebra", "star"]
    vectors, coverage = class_vectors(names, spec)
    assert np.isnan(vectors[4]).all() and not np.isnan(vectors[[0, 1, 2, 3, 5]]).any()
    assert (coverage.classes, coverage.whole, coverage.averaged) == (6, 3, 2)
    assert coverage.partly == {"red unicorn": ["unicorn"]}
    assert coverage.missing == ("zebra",)
    assert coverage.identical == (("red", "crimson", "red unicorn"),)
    shown = "\n".join(coverage.lines())
    for part in ("5 of 6 classes have a vector: 3 by their whole name, 2 as the mean", "red unicorn (unicorn)",
                 "classes without a vector: zebra", "red = crimson = red unicorn"):  # fmt: skip
        assert part in shown


def test_a_class_without_a_vector_is_an_error_unless_it_may_be_dropped(
    table_dataset: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (table_dataset / "labels.csv").write_text(
        "image_path,labels,split\n00.png,red|zebra,train\n01.png,zebra,train\n02.png,dark red,test\n"
    )
    spec = Catalog(table_dataset / "catalog.yaml").dataset("tiny")
    with pytest.raises(C3Error, match=r"1 of 3 classes have no vector in .*: zebra.*--drop-unknown-classes"):
        read_manifest(spec)
    tiny = read_manifest(spec, ReadOptions(drop_unknown_classes=True))
    assert tiny.classes.names == ("dark red", "red")
    assert tiny.classes.seen.tolist() == [False, True]
    assert tiny.splits["train"].labels.dense(2, absent=-1).tolist() == [[-1, 1], [-1, -1]]
    assert "classes without a vector: zebra" in caplog.text
    (table_dataset / "vectors.txt").write_text("moon 1 2\n")
    with pytest.raises(C3Error, match=r"holds none of the words that are looked up \(among its 1: 'moon'\)"):
        read_manifest(spec, ReadOptions(drop_unknown_classes=True))


def test_the_length_of_a_vector_that_the_catalog_states_is_checked(tmp_path: Path) -> None:
    spec = text(tmp_path / "two.txt", "red 1 2\nstar 3 4\n")
    assert read_vectors(spec.model_copy(update={"dim": 2}), {"red"})["red"].tolist() == [1, 2]
    with pytest.raises(C3Error, match=r"two\.txt has vectors of 2 numbers, the catalog says `dim: 300`"):
        read_vectors(spec.model_copy(update={"dim": 300}), {"red"})


def test_a_token_with_a_blank_inside_is_skipped(tmp_path: Path) -> None:
    spec = text(tmp_path / "v.txt", "red 1 0\nstar name@x.com 5 5\nstar 0 1\n")
    np.testing.assert_array_equal(read_vectors(spec, {"red", "star"})["star"], STAR)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("red 1 x", "line 1: the vector of 'red' holds 'x', which is not a number"),
        ("red 1 nan", r"line 1: the vector of 'red' holds nan \(number 2 of 2\), expected finite"),
        (
            "red 1 1e39",
            r"line 1: the vector of 'red' holds 1e\+39 \(number 2 of 2\), expected finite numbers up to 1e\+16",
        ),
        ("red -inf 1", r"line 1: the vector of 'red' holds -inf \(number 1 of 2\)"),
        ("red 1_0 1", "line 1: the vector of 'red' holds '1_0', which is not a number"),
        ("red 0,1 0", r"holds '0,1', which is not a number; it has decimal commas: tr"),
        ("red 1\nstar 1 2", "line 2: the vector of 'star' has 2 numbers, expected 1"),
        ("2 3\nred 1 2", "line 2: the vector of 'red' has 2 numbers, expected 3"),
    ],
)
def test_bad_text_vectors_are_refused_with_their_line(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(C3Error, match=said):
        class_vectors(["red", "star"], text(tmp_path / "v.txt", content + "\n"))


def test_bad_vector_files_are_refused(tmp_path: Path) -> None:
    specs = every_format(tmp_path)
    whole = specs["word2vec"].path.read_bytes()

    def refused(spec: VectorSpec, content: bytes | None, said: str) -> None:
        if content is not None:
            spec.path.write_bytes(content)
        with pytest.raises(C3Error, match=said):
            read_vectors(spec, {"red", "star"})

    refused(specs["word2vec"], whole[:-5], "ends inside word 2 of 2")
    refused(specs["word2vec"], b"red 1 0\n", "is a text file of word vectors, but .*write `kind: text`")
    refused(specs["word2vec"], b"", "it is an empty file")
    refused(
        specs["word2vec"],
        b"1 2\nred " + struct.pack("<2f", 1, float("inf")),
        r"vector of 'red' holds inf \(number 2 of 2\)",
    )
    refused(specs["npz"], b"garbage", "cannot be read as npz")
    np.savez(specs["npz"].path, a=np.zeros((2, 3)))
    refused(specs["npz"], None, r"expected one array of names and one .*float64\(2, 3\)")
    np.savez(specs["npz"].path, names=np.array(["red", "star", "moon"]), vectors=np.zeros((2, 3)))
    refused(specs["npz"], None, r"arrays of \[\(2, 3\)\], but its lists of names have \[3\] entries")
    refused(specs["npy"], b"\x93NUMPY", "cannot be read as npy")
    refused(
        VectorSpec(name="words", kind="pickle", path=specs["lesa"].path),
        None,
        "set `names` of vectors words to one file for each",
    )
    refused(specs["dict"], pickle.dumps({"red": [1.0], "star": [1.0, 2.0]}), "do not have one length")
    refused(VectorSpec(name="words", kind="text", path=tmp_path / "none"), None, "vectors words not found")


class Evil:
    """What a hostile pickle looks like: reading it calls a function."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (exec, (f"import pathlib; pathlib.Path({str(self.path)!r}).touch()",))


def test_a_pickle_that_tries_to_run_code_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "evil.pkl").write_bytes(pickle.dumps([np.zeros(2), Evil(trace)], protocol=protocol))
        with pytest.raises(C3Error, match=r"is refused: it asks for \w+\.exec"):
            load_pickle(tmp_path / "evil.pkl")
    assert not trace.exists()
    pickle.loads((tmp_path / "evil.pkl").read_bytes())
    assert trace.exists()  # the ordinary reader would have run it


@pytest.mark.parametrize(
    "content",
    [b"cos\nsystem\n(S'true'\ntR.", b"c_codecs\nencode\n(S'a'\nS'zlib_codec'\ntR.", b"cbuiltins\neval\n(S'1'\ntR.",
     b"cnumpy.core.multiarray\n_reconstruct\n(cbuiltins\nlist\n(I0\ntS'b'\ntR.", b"", b"\x80\x04.",
     pickle.dumps([1])[:-4]],
)  # fmt: skip
def test_unusual_pickles_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pkl").write_bytes(content)
    with pytest.raises(C3Error, match=r"x\.pkl is (refused|not a readable pickle)"):
        load_pickle(tmp_path / "x.pkl")


def test_arrays_of_every_protocol_are_read(tmp_path: Path) -> None:
    exchanged = np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2)  # neither C nor Fortran order
    texts = np.array(["a", "bc"])
    for array in (np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(2, 3).T, exchanged, texts, texts.astype(object)):
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            (tmp_path / "x.pkl").write_bytes(pickle.dumps((array, {"k": [1, "x"]}), protocol=protocol))
            found, rest = load_pickle(tmp_path / "x.pkl")
            np.testing.assert_array_equal(found, array)
            assert rest == {"k": [1, "x"]}


def test_near_duplicates_are_plurals_and_close_vectors() -> None:
    names = ("boats", "horse", "city", "plane", "glass", "sky", "boat", "horses", "cities", "airplane", "gas", "bus")
    vectors = np.eye(12, 12)
    vectors[9] = vectors[3] * 0.9 + vectors[9] * 0.3  # airplane is close to plane
    leaks = near_duplicates(Classes(names, np.arange(12) < 6, vectors.astype(np.float32)), cosine=0.8)
    assert leaks == {"boat": ["boats"], "horses": ["horse"], "cities": ["city"], "airplane": ["plane"]}


@pytest.mark.parametrize(
    ("unseen", "seen", "leaks"),
    [
        ("犬", "猫", False), ("кошка", "собака", False), ("कु", "कि", False), ("(red)", "(blue)", False),
        ("!", "?", False),
        ("Élan", "élan", True), ("cafe\u0301", "Café", True), ("Кошка", "кошка", True), ("T-shirt", "t shirts", True),
    ],
)  # fmt: skip
def test_names_in_any_script_are_near_duplicates_only_of_their_like(unseen: str, seen: str, leaks: bool) -> None:
    classes = Classes((unseen, seen), np.array([False, True]), np.eye(2, dtype=np.float32))
    assert near_duplicates(classes) == ({unseen: [seen]} if leaks else {})
