"""Words, vectors, weights, runs and questions that tagging refuses, each in one line."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import pickle
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from c3 import Tagger
from c3.common.errors import C3Error
from c3.extract.catalog.catalog import Catalog
from c3.extract.store.tables import Classes
from c3.predict.vocabulary import find_vocabulary
from c3.train.run_folder import open_run, read_classes, write_json
from tagging_place import Placement, c3

gzipped = partial(gzip.compress, mtime=0)  # the same bytes in every process: xdist compares the names of tests


def test_words_that_cannot_be_asked_for_are_named_in_one_line(place: Placement, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("red\nxyzzy\ngreen\nred\nplugh\nredd\n")
    command = ("predict", place.images / "00.png", "--run", place.runs["c3"], "--vocabulary", words, "--device", "cpu",
               "--vectors", place.vectors)  # fmt: skip
    refused = c3(*command)
    assert (refused.exit_code, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert "1 repeated: red; 3 without a vector" in refused.stderr
    assert "xyzzy, plugh, redd (did you mean red?). Leave" in refused.stderr
    kept = c3(*command, "--drop-unknown", "--csv")
    assert kept.exit_code == 0, kept.output
    assert {row["label"] for row in csv.DictReader(io.StringIO(kept.stdout))} == {"red", "green"}
    assert "left out of the vocabulary, 3 without a vector" in kept.stderr


def test_other_vectors_are_refused(place: Placement, tagger: Tagger, tmp_path: Path) -> None:
    def file(name: str, *lines: str) -> Path:
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        return tmp_path / name

    picture = [place.images / "00.png"]
    wide = file("wide.txt", "sea 1 2 3 4 5", "sky 1 2 3 4 6")
    with pytest.raises(C3Error, match=r"trained on word vectors of 4 numbers, .*wide.txt has 5"):
        tagger.tag(picture, vocabulary=["sea"], vectors=wide)
    other = file("other.txt", "red 0 0 1 0", "blue 1 0 0 0", "dark 0 1 0 0", "sea 1 1 0 0")
    with pytest.raises(C3Error, match="of 3 of its classes that the file names, 0 have the same vector"):
        tagger.tag(picture, vocabulary=["sea"], vectors=other)
    new = file("new.vec", "1 4", "sea 1 1 0 0")  # names no class: nothing to compare
    assert tagger.tag(picture, vocabulary=["sea"], vectors=new)[0].labels[0].kind == "new"
    odd: Any
    for odd, said in (("absent.txt", "no such file, and no such name"), (np.eye(3), r"expected \(1, d_w\)"),
                      (np.full((1, 4), np.nan), "finite"), (np.full((1, 4), 1e39), r"the row of 'sea' holds 1e\+39"),
                      (np.full((1, 4), "1"), "the row of 'sea' is no list of numbers"),
                      (np.zeros((1, 4)), "1 without a vector in the array of vectors: sea"),
                      ({"sea": [1, 1, 0, 0]}, "expected a file, a name of the catalog, a tower or .* found dict"),
                      (torch.ones(1, 4), "found Tensor")):  # fmt: skip
        with pytest.raises(C3Error, match=said):
            tagger.tag(picture, vocabulary=["sea"], vectors=odd)
    named = Tagger.load(place.runs["c3"], catalog=place.catalog, device="cpu")
    assert named.tag(picture, vocabulary=["green"], vectors="words")[0].labels[0].name == "green"
    np.savez(tmp_path / "new.npz", name=np.array(["sea"]), vector=np.ones((1, 4), np.float32))
    assert tagger.tag(picture, vocabulary=["sea"], vectors=tmp_path / "new.npz")[0].labels


def test_files_of_vectors_are_recognised_by_their_content(place: Placement, tmp_path: Path) -> None:
    """Catalog and --vectors take the same files; the suffix says nothing."""
    words = tmp_path / "words.txt"
    words.write_text("sea\n", encoding="utf-8")
    odd = {
        "glove.bin": (codecs.BOM_UTF8 + b"sea 1 1 0 0\n", ""),
        "vectors.txt": (gzipped(b"1 4\nsea " + np.ones(4, "<f4").tobytes()), ""),
        "pickle": (pickle.dumps(OrderedDict(sea=np.ones(4))), ""),
        "zeros.txt": (b"sea 0 0 0 0\nsky 1 1 1 1\n", "sea. None is left to ask for"),
        "fast.txt": (b"\xba\x16\x4f\x2f" + bytes(9), "a model of fastText"),
    }
    for name, (content, said) in odd.items():
        (tmp_path / name).write_bytes(content)
        done = c3("predict", place.images / "00.png", "--run", place.runs["c3"], "--vocabulary", words,
                  "--device", "cpu", "--csv", "--vectors", tmp_path / name)  # fmt: skip
        assert done.exit_code == (2 if said else 0), done.output
        if said:
            assert (done.stdout, done.stderr.count("\n")) == ("", 1) and said in done.stderr
        else:
            assert [row["label"] for row in csv.DictReader(io.StringIO(done.stdout))] == ["sea"]


def test_an_empty_vocabulary_is_refused() -> None:
    classes = Classes(("a",), np.array([True]), np.ones((1, 2), np.float32))
    for words, said in (([], "is empty"), (["b"], "1 without a vector in the run's own classes")):
        with pytest.raises(C3Error, match=said):
            find_vocabulary(words, None, classes, Catalog(), drop_unknown=True)


def test_weights_of_another_hash_are_refused_with_both(place: Placement) -> None:
    expected = open_run(place.runs["c3"]).record.features.weights_sha256
    with pytest.raises(C3Error, match=f"expected sha256 {expected}, found (?!{expected})[0-9a-f]{{64}}"):
        Tagger.load(place.runs["c3"], weights="random:1", device="cpu")


def test_weights_that_are_not_here_say_how_to_name_them(place: Placement, run_copy: Path) -> None:
    record = json.loads((run_copy / "run.json").read_text())
    record["cache"]["weights_asked"] = "my-vgg"
    write_json(run_copy / "run.json", record)
    with pytest.raises(C3Error, match=r"squeezenet1_1 with weights 'my-vgg', .*--weights FILE"):
        Tagger.load(run_copy, device="cpu")
    assert Tagger.load(run_copy, weights="random:0", device="cpu").tag(place.images / "00.png")[0].ok


def test_run_folders_that_are_not_whole_are_refused(place: Placement, run_copy: Path, tmp_path: Path) -> None:
    def refused(said: str) -> None:
        shown = c3("predict", place.images, "--run", run_copy, "--device", "cpu")
        assert (shown.exit_code, shown.stdout, shown.stderr.count("\n")) == (2, "", 1)
        assert said in shown.stderr

    witness = tmp_path / "unpickled"

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (witness,)

    weights = (run_copy / "weights.safetensors").read_bytes()
    torch.save({"x": Trap()}, run_copy / "weights.safetensors")
    refused("weights.safetensors is missing or damaged")
    (run_copy / "weights.safetensors").write_bytes(weights)
    classes = (run_copy / "classes.npz").read_bytes()
    np.savez(run_copy / "classes.npz", name=np.array([Trap()]), seen=np.ones(1, bool), vector=np.ones((1, 4)))
    refused("classes.npz is damaged")
    assert not witness.exists()
    whole = read_classes(open_run(place.runs["c3"]))
    np.savez(run_copy / "classes.npz", name=np.array(whole.names), seen=whole.seen, vector=whole.vectors[:, :3])
    refused("does not belong to run")
    (run_copy / "classes.npz").write_bytes(classes[:50])
    refused("classes.npz is damaged")
    (run_copy / "classes.npz").unlink()
    refused("classes.npz is missing")
    record = json.loads((run_copy / "run.json").read_text())
    write_json(run_copy / "run.json", record | {"status": "training"})
    refused("is not finished")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"top": 0}, "top: expected at least 1"),
        ({"threshold": "high"}, "a number or val"),
        ({"threshold": float("nan")}, "a number or val"),
        ({"vectors": "x.txt"}, "without a vocabulary"),
        ({"vocabulary": "red"}, "expected a list of words"),
    ],
)
def test_questions_without_a_sense_are_refused(
    place: Placement, tagger: Tagger, asked: dict[str, object], said: str
) -> None:
    with pytest.raises(C3Error, match=said):
        tagger.tag(place.images, **asked)


def test_the_command_refuses_in_one_line(place: Placement, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("# nothing\n")
    for arguments, said in (
        ((tmp_path, "--run", place.runs["c3"]), "no pictures at"),
        ((place.images, "--run", tmp_path), "not a run folder"),
        ((place.images, "--run", place.runs["c3"], "--threshold", "x"), "a number or val"),
        ((place.images, "--run", place.runs["c3"], "--vocabulary", tmp_path / "empty.txt"), "vocabulary is empty"),
    ):
        shown = c3("predict", *arguments, "--device", "cpu")
        assert (shown.exit_code, shown.stdout, shown.stderr.count("\n")) == (2, "", 1)
        assert said in shown.stderr
