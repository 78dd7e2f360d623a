"""Text towers: the vectors of OpenCLIP's zero-shot classifier, files that say where they come from, and bad input."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from c3.cli import main
from c3.common.errors import C3Error
from c3.extract.catalog.catalog import Catalog
from c3.extract.catalog.specs import VectorSpec
from c3.extract.options import ExtractOptions
from c3.extract.run import extract
from c3.extract.store.cache import FeatureCache
from c3.extract.store.inspect import inspect_store
from c3.extract.store.origin import VectorOrigin
from c3.extract.store.tables import Classes
from c3.extract.vectors import write_vectors
from c3.extract.words.class_vectors import class_vectors
from c3.extract.words.prompts import templates_of, tower_vectors
from c3.extract.words.text_towers import OpenClipTower, load_tower
from c3.extract.words.tower_files import origin_of, require_same_tower, write_tower_file
from c3.predict.vocabulary import ByTower, find_vocabulary
from c3.train.run import TrainOptions, train
from c3.train.run_folder import open_run
from click.testing import CliRunner
from safetensors.torch import save_file
from tiny_towers import write_clip, write_sentence, write_static

open_clip = pytest.importorskip("open_clip")
WORDS = ["dog", "polar_bear", "hot air balloon"]


@pytest.fixture(scope="module")
def clip_name(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def clip(clip_name: str) -> OpenClipTower:
    return OpenClipTower(clip_name)


@pytest.fixture(scope="module")
def static_name(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("model2vec")
    return write_static(tmp_path_factory.mktemp("static") / "m2v")


def zero_shot_weights(seed: int, words: list[str], templates: list[str]) -> np.ndarray:
    """(words, d) as OpenCLIP's own function computes them, from a model that is built here."""
    torch.manual_seed(seed)
    model = open_clip.create_model("tiny-clip").eval()
    tokenizer = open_clip.get_tokenizer("tiny-clip")
    weights: np.ndarray = open_clip.build_zero_shot_classifier(model, tokenizer, words, templates).T.numpy()
    return weights


@pytest.mark.parametrize("templates", [["a photo of a {}"], ["a {}", "the large {}.", "{}"]], ids=["one", "three"])
def test_vectors_are_the_weights_of_the_zero_shot_classifier(clip: OpenClipTower, templates: list[str]) -> None:
    found = tower_vectors(WORDS, clip, templates)
    expected = zero_shot_weights(0, [word.replace("_", " ") for word in WORDS], templates)
    np.testing.assert_allclose(found.vectors, expected, atol=1e-6)
    assert found.words == tuple(WORDS)
    assert found.origin == VectorOrigin("open_clip:tiny-clip:random:0", clip.sha256, tuple(templates))


def test_named_templates_are_those_of_open_clip() -> None:
    own = [template("cat") for template in open_clip.OPENAI_IMAGENET_TEMPLATES]
    assert [template.replace("{}", "cat") for template in templates_of(["openai-imagenet"])] == own
    assert len(templates_of(["simple-imagenet", "a {}", "a {}"])) == 8


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_of_weights_gives_the_same_tower(
    clip_name: str, clip: OpenClipTower, tmp_path: Path, suffix: str
) -> None:
    torch.manual_seed(0)
    state = open_clip.create_model("tiny-clip").state_dict()
    file = tmp_path / f"weights{suffix}"
    save_file(state, file) if suffix == ".safetensors" else torch.save({"state_dict": state}, file)
    found = OpenClipTower(f"open_clip:tiny-clip:{file}")
    assert found.name == f"open_clip:tiny-clip:weights{suffix}" and found.sha256 == clip.sha256
    assert OpenClipTower("open_clip:tiny-clip:random:1").sha256 != clip.sha256


def test_weights_that_do_not_fit_are_refused(clip: OpenClipTower, tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(2)}, tmp_path / "other.pt")
    (tmp_path / "photo.pt").write_bytes(b"\xff\xd8\xff\xe0 a picture")
    for name, said in {
        f"open_clip:tiny-clip:{tmp_path / 'other.pt'}": "holds no weights of both towers of tiny-clip",
        f"open_clip:tiny-clip:{tmp_path / 'photo.pt'}": "photo.pt cannot be read as weights",
        "open_clip:tiny-clip": "names no weights: expected open_clip:ARCH:FILE",
        "open_clip:tiny-clap:random:0": "unknown architecture of open_clip 'tiny-clap'. Did you mean 'tiny-clip'",
        "open_clip:tiny-clip:random:x": "expected random:SEED with a whole number",
        "open_clip:tiny-clip:gone.pt": "'gone.pt' is neither a file nor a tag of tiny-clip",
        "open_clip:ViT-B-32:openai": "trained with another GELU; name ViT-B-32-quickgelu",
        "open_clip:ViT-B-32:laion2b_s34b_b79k": "its weights are not on this machine, and c3 downloads none",
        "open_clip:none.json:random:0": "none.json cannot be read as an architecture|is no architecture",
        "clip:ViT-B-32": "expected open_clip:ARCH:FILE, sentence-transformers:FOLDER or model2vec:FOLDER",
        "model2vec:": "expected open_clip:ARCH:FILE",
        "model2vec:minishlab/none": "is neither a folder nor in the cache of Hugging Face",
        f"model2vec:{tmp_path}": f"{tmp_path} holds no model of model2vec",
    }.items():
        with pytest.raises(C3Error, match=said):
            load_tower(name)


@pytest.mark.parametrize(
    ("words", "templates", "said"),
    [
        ([], [], "the list of words is empty"),
        (["dog", "cat", "dog"], [], "1 words are repeated: dog"),
        (["dog", "..."], [], r"1 words have no letter, digit or symbol: '\.\.\.'"),
        (["dog"], ["a photo"], "expected a text with one {} in the place of the word"),
        (["dog"], ["{} and {}"], "expected a text with one {}"),
        (["sea " * 200], [], "1 of 1 prompts are longer than the 12 tokens that open_clip:tiny-clip:random:0 reads"),
    ],
    ids=["none", "repeated", "no-letter", "no-place", "two-places", "too-long"],
)
def test_words_that_cannot_be_read_are_refused(
    clip: OpenClipTower, words: list[str], templates: list[str], said: str
) -> None:
    with pytest.raises(C3Error, match=said):
        tower_vectors(words, clip, templates)


def test_a_prompt_that_just_fits_is_read(clip: OpenClipTower) -> None:
    assert not clip.is_too_long("sea " * 10)  # between the marks of begin and end
    assert clip.is_too_long("sea " * 11)


def test_static_vectors_are_means_of_tokens(static_name: str) -> None:
    from model2vec import StaticModel

    model = StaticModel.from_pretrained(static_name.partition(":")[2])
    mean = np.stack([model.encode("red"), model.encode("dog")]).mean(0)
    found = tower_vectors(["red dog", "cat"], load_tower(static_name))
    np.testing.assert_allclose(found.vectors[0], mean / np.linalg.norm(mean), rtol=1e-5)
    assert found.origin.tower == "model2vec:m2v" and found.origin.templates == ("{}",)
    with pytest.raises(C3Error, match="has no vector for 1 prompts, such as 'zebra'"):
        tower_vectors(["red dog", "zebra"], load_tower(static_name))


@pytest.mark.slow
def test_sentence_vectors(tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    name = write_sentence(tmp_path)
    tower = load_tower(name)
    model = library.SentenceTransformer(str(tmp_path / "model"), device="cpu")
    found = tower_vectors(["dog", "red cat"], tower)
    np.testing.assert_allclose(found.vectors, model.encode(["dog", "red cat"], normalize_embeddings=True), atol=1e-5)
    assert (tower.name, tower.context) == ("sentence-transformers:model", 8)
    assert not tower.is_too_long("dog " * 6) and tower.is_too_long("dog " * 7)


@pytest.mark.parametrize("kind", ["open_clip:ViT-B-32:x", "sentence-transformers:x", "model2vec:x"])
def test_a_package_that_is_not_installed_is_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("open_clip", "sentence_transformers", "model2vec"):
        monkeypatch.setitem(sys.modules, module, None)
    extra = "clip" if kind.startswith("open_clip") else "words"
    with pytest.raises(C3Error, match=rf"{kind} needs the package .*: pip install 'c3-mlzsl\[{extra}\]'"):
        load_tower(kind)


def test_a_file_says_where_its_vectors_come_from(static_name: str, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("# mine\nred dog\ncat\n")
    out = tmp_path / "mine.npz"
    arguments = ["vectors", "--words", str(tmp_path / "words.txt"), "--tower", static_name, "--out", str(out)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert "holds 2 vectors of 8 numbers by model2vec:m2v" in done.output
    origin = origin_of(out)
    assert origin == VectorOrigin("model2vec:m2v", load_tower(static_name).sha256, ("{}",))
    vectors, coverage = class_vectors(["Red_dog", "cat", "red cat"], VectorSpec(name="mine", path=out))
    assert coverage.whole == 2 and coverage.missing == ("red cat",)  # whole names only: no mean of words
    np.testing.assert_allclose(np.linalg.norm(vectors[:2], axis=1), 1, rtol=1e-5)
    assert CliRunner().invoke(main, arguments).exit_code == 2  # it is there already
    assert CliRunner().invoke(main, [*arguments, "--overwrite"]).exit_code == 0


def test_the_words_may_be_the_classes_of_a_data_set(static_name: str, table_dataset: Path, tmp_path: Path) -> None:
    catalog, out = str(table_dataset / "catalog.yaml"), str(tmp_path / "tiny.npz")
    arguments = ["--catalog", catalog, "vectors", "--dataset", "tiny", "--tower", static_name, "--out", out]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert np.load(out)["names"].tolist() == ["blue", "dark red", "red"]
    words = str(table_dataset / "unseen.txt")
    photo = ["vectors", "--words", words, "--tower", "model2vec:gone", "--template", "photo", "--out", f"{out}.npz"]
    said = {
        "give --words FILE or --dataset NAME": arguments[:3] + arguments[5:],
        "expected a name that ends in .npz": [*arguments[:-1], "tiny.txt"],
        "expected a text with one {}": photo,  # before the tower is looked for
    }
    for message, wrong in said.items():
        refused = CliRunner().invoke(main, wrong)
        assert refused.exit_code == 2 and refused.output.count("\n") == 1 and message in refused.output


def test_words_that_may_be_several_are_told_and_a_folder_that_is_missing_is_refused_first(
    static_name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "words.txt").write_text("dog, cat\nsea\n")
    write_vectors(tmp_path / "v.npz", static_name, tmp_path / "words.txt")
    assert "words.txt: 1 words that may be several in one: 'dog, cat'" in caplog.text
    with pytest.raises(C3Error, match=r"--out .*v\.npz: the folder .*none does not exist; make it first"):
        write_vectors(tmp_path / "none/v.npz", "model2vec:gone", tmp_path / "words.txt")


def test_a_damaged_origin_is_refused(tmp_path: Path) -> None:
    origin = VectorOrigin("model2vec:a", "00", ("{}",))
    write_tower_file(tmp_path / "a.npz", ["a"], np.ones((1, 2)), origin)
    assert origin_of(tmp_path / "a.npz") == origin
    np.savez(tmp_path / "b.npz", names=["a"], vectors=np.ones((1, 2)), tower=np.array('{"tower": 3}'))
    with pytest.raises(C3Error, match=r"b\.npz: its entry tower cannot be read"):
        origin_of(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", names=["a"], vectors=np.ones((1, 2)))
    assert origin_of(tmp_path / "c.npz") is None and origin_of(tmp_path / "none.npz") is None


def test_two_towers_are_told_apart() -> None:
    first, second = VectorOrigin("model2vec:a", "00", ("{}",)), VectorOrigin("model2vec:a", "11", ("{}",))
    require_same_tower(first, VectorOrigin("model2vec:b", "00", ("a {}",)), "the run", "words.npz")
    require_same_tower(first, None, "the run", "words.npz")
    with pytest.raises(C3Error, match=r"words\.npz has vectors of model2vec:a \(sha256 11\), the run has those of"):
        require_same_tower(first, second, "the run", "words.npz")


def classes_of(*names: str, vectors: np.ndarray) -> Classes:
    return Classes(names, np.ones(len(names), bool), vectors)


def test_a_tower_reads_the_words_of_a_user(static_name: str, tmp_path: Path) -> None:
    tower = load_tower(static_name)
    made = tower_vectors(["dog", "cat"], tower, ["a photo of a {}"])
    classes = classes_of("dog", "cat", vectors=made.vectors)
    found = find_vocabulary(["sea", "dog"], ByTower(static_name), classes, Catalog(), trained=made.origin)
    np.testing.assert_array_equal(found.vectors[1], made.vectors[0])  # the templates of the run
    plain = find_vocabulary(["dog"], ByTower(static_name, ("{}",)), classes, Catalog(), trained=made.origin)
    assert not np.allclose(plain.vectors[0], made.vectors[0])
    other = replace(made.origin, sha256="11", tower="model2vec:other")
    with pytest.raises(C3Error, match=rf"{static_name} has vectors of model2vec:m2v .*, the run has those of"):
        find_vocabulary(["sea"], ByTower(static_name), classes, Catalog(), trained=other)


def test_a_tower_must_give_the_vectors_of_the_classes_where_theirs_is_unknown(static_name: str) -> None:
    made = tower_vectors(["dog", "cat"], load_tower(static_name))
    found = find_vocabulary(["sea"], ByTower(static_name), classes_of("dog", "cat", vectors=made.vectors), Catalog())
    assert found.vectors.shape == (1, 8)
    swapped = classes_of("dog", "cat", vectors=made.vectors[::-1])
    with pytest.raises(C3Error, match="holds other vectors than the run was trained with"):
        find_vocabulary(["sea"], ByTower(static_name), swapped, Catalog())


def test_a_file_of_another_tower_is_refused(static_name: str, tmp_path: Path) -> None:
    made = tower_vectors(["dog", "cat"], load_tower(static_name))
    file = tmp_path / "sea.npz"
    write_tower_file(file, ["sea"], made.vectors[:1], replace(made.origin, sha256="11"))
    classes = classes_of("dog", "cat", vectors=made.vectors)
    find_vocabulary(["sea"], str(file), classes, Catalog())  # none of its words is a class: nothing shows it
    with pytest.raises(C3Error, match=r"sea\.npz has vectors of model2vec:m2v \(sha256 11\), the run has those of"):
        find_vocabulary(["sea"], str(file), classes, Catalog(), trained=made.origin)


def test_the_tower_travels_from_the_file_to_the_labels(
    static_name: str, draw_table: Callable[[Path, int], Path], tmp_path: Path
) -> None:
    tiny, store = draw_table(tmp_path / "tiny", 12), tmp_path / "f.zarr"
    vectors = tiny / "vectors.npz"
    made = tower_vectors(["red", "dark red", "blue"], load_tower(static_name))
    write_tower_file(vectors, made.words, made.vectors, made.origin)
    catalog = tiny / "catalog.yaml"
    catalog.write_text(catalog.read_text().replace("{kind: text, path: vectors.txt}", "{path: vectors.npz}"))
    extract(ExtractOptions("tiny", "squeezenet1_1", "random:0", store, catalog, device="cpu"))
    assert FeatureCache.open(store).notes.vectors == made.origin
    assert "word vectors of 8 (mean norm 1.0) by model2vec:m2v" in inspect_store(store)
    run = train(TrainOptions(store, "labelem", tmp_path / "runs", {"epochs": 1, "batch_size": 4}, device="cpu"))
    assert open_run(run.path).record.features.vectors == made.origin
    arguments = ["predict", str(tiny / "images" / "00.png"), "--run", str(run.path), "--words", "sea,dark blue,blue"]
    done = CliRunner().invoke(main, [*arguments, "--tower", static_name, "--json", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    labels = json.loads(done.stdout)["labels"]
    assert {label["label"]: label["kind"] for label in labels} == {"sea": "new", "dark blue": "new", "blue": "seen"}
    for wrong in (["--tower", static_name, "--vectors", str(vectors)], ["--template", "a {}"], ["--vocabulary", "w"]):
        refused = CliRunner().invoke(main, [*arguments, *wrong])
        assert refused.exit_code == 2 and refused.stderr.count("\n") == 1, refused.output
