"""Image towers of OpenCLIP: its own features, its own preprocessing, and zero-shot tagging from file to row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from c3.cli import main
from c3.common.errors import C3Error
from c3.extract.backbone.pictures.crops import load_crop
from c3.extract.backbone.weights import backbone_spec, load_backbone
from c3.extract.store.cache import FeatureCache
from c3.extract.store.layout import GLOBAL_VECTOR
from c3.extract.words.text_towers import load_tower
from click.testing import CliRunner
from PIL import Image
from tiny_towers import write_clip
from torch.nn.functional import normalize

open_clip = pytest.importorskip("open_clip")
TEMPLATES = ["a photo of a {}", "the {}."]


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The backbone; with `:random:0` behind it, the tower."""
    return write_clip(tmp_path_factory.mktemp("clip")).removesuffix(":random:0")


@pytest.fixture(scope="module")
def original(name: str) -> torch.nn.Module:
    load_tower(f"{name}:random:0")  # makes the architecture known
    torch.manual_seed(0)
    model: torch.nn.Module = open_clip.create_model("tiny-clip").eval()
    return model


def picture(path: Path, size: tuple[int, int]) -> Path:
    pixels = np.random.default_rng(sum(size)).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_one_pass_gives_three_depths_and_the_embedding(name: str, original: torch.nn.Module) -> None:
    backbone = load_backbone(name, "random:0", extras=[GLOBAL_VECTOR])
    assert [array.name for array in backbone.arrays] == ["b1", "b2", "b3", GLOBAL_VECTOR]
    pixels = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = backbone(pixels)
    inputs = (pixels / 255 - backbone.mean) / backbone.std
    with torch.inference_mode():
        torch.testing.assert_close(found[GLOBAL_VECTOR], original.encode_image(inputs), rtol=1e-4, atol=1e-5)
        blocks = original.visual.forward_intermediates(inputs, normalize_intermediates=True)["image_intermediates"]
    for level, block in zip(("b1", "b2", "b3"), blocks, strict=True):
        torch.testing.assert_close(found[level], block, rtol=1e-4, atol=1e-5)  # patches of 32 pixels: 7 x 7
    assert backbone.weights_sha256 == load_tower(f"{name}:random:0").sha256
    alone = load_backbone(name, "random:0")
    torch.testing.assert_close(alone(pixels)["b2"], found["b2"])
    assert alone.weights_sha256 == backbone.weights_sha256


@pytest.mark.parametrize("size", [(300, 201), (97, 260), (224, 224)], ids=str)
def test_pictures_are_prepared_as_open_clip_does(name: str, tmp_path: Path, size: tuple[int, int]) -> None:
    path, transform = picture(tmp_path / "x.png", size), backbone_spec(name).transform
    resize = transform.resize
    whole = np.float32([0, 0, 1, 1])
    crop = load_crop(path, whole, resize.side, interpolation=resize.interpolation, fit=resize.fit)
    assert crop.pixels is not None
    own = (crop.pixels / 255 - np.array(transform.mean)) / np.array(transform.std)
    _, _, prepare = open_clip.create_model_and_transforms("tiny-clip")
    np.testing.assert_allclose(own.transpose(2, 0, 1), prepare(Image.open(path)).numpy(), atol=1e-5)


def test_the_preprocessing_is_that_of_the_weights() -> None:
    siglip = backbone_spec("open_clip:ViT-B-16-SigLIP").transform
    assert (siglip.mean, siglip.resize.fit, siglip.resize.interpolation) == ((0.5, 0.5, 0.5), "squash", "bicubic")
    tagged = backbone_spec("open_clip:ViT-L-14:laion2b_s32b_b82k")
    assert tagged.transform.mean == (0.5, 0.5, 0.5) and [tap.level for tap in tagged.taps] == ["b8", "b16", "b24"]
    with pytest.raises(
        C3Error, match="the weights of ViT-L-14 were trained with 2 kinds of preprocessing; name the tag"
    ):
        backbone_spec("open_clip:ViT-L-14")


def test_what_does_not_fit_is_refused(name: str) -> None:
    for asked, weights, said in (
        (name, "imagenet", "names no weights: give a file or random:SEED with --weights"),
        ("open_clip:ViT-B-32", "laion400m_e32", "or a tag in the name, open_clip:ViT-B-32:laion400m_e32"),
        ("open_clip:ViT-B-32:openai1", "imagenet", "expected a tag of ViT-B-32"),
        ("open_clip:ViT-B-33", "random:0", "unknown architecture of open_clip 'ViT-B-33'"),
        (name, "none.pt", "'none.pt' is neither a file nor a tag"),
    ):
        with pytest.raises(C3Error, match=said):
            load_backbone(asked, weights)
    with pytest.raises(C3Error, match=r"--input-size 384: .* takes 224 pixels"):
        backbone_spec(name, 384)


@pytest.mark.slow
def test_from_files_to_the_row_of_a_table(
    name: str, original: torch.nn.Module, draw_table: Callable[[Path, int], Path], tmp_path: Path
) -> None:
    """Vectors by the text tower, features by the image tower, and the scores of OpenCLIP's own functions."""
    tiny, store, runs = draw_table(tmp_path / "tiny", 12), tmp_path / "f.zarr", tmp_path / "runs"
    catalog = tiny / "catalog.yaml"
    tower = ["--tower", f"{name}:random:0", *[word for text in TEMPLATES for word in ("--template", text)]]

    def c3(*arguments: str | Path) -> str:
        done = CliRunner().invoke(main, ["--catalog", str(catalog), *map(str, arguments)])
        assert done.exit_code == 0, done.output
        return str(done.stdout)

    c3("vectors", "--dataset", "tiny", *tower, "--out", tiny / "vectors.npz")
    catalog.write_text(catalog.read_text().replace("{kind: text, path: vectors.txt}", "{path: vectors.npz}"))
    device = ("--device", "cpu")
    c3("extract", "--dataset", "tiny", "--backbone", name, "--weights", "random:0", "--global", "--out", store, *device)
    cache = FeatureCache.open(store)
    assert cache.notes.vectors and cache.notes.vectors.sha256 == cache.origin.weights_sha256
    assert cache.origin.fit == "shortest"
    for method in ("clip", "clip-adapter"):
        c3("train", "--cache", store, "--method", method, "--runs", runs, "--epochs", "1", "--batch-size", "4", *device)
    (run,) = runs.glob("clip-tiny-*")
    c3("evaluate", "--run", run, *device)
    words = ["dark red", "blue", "night sky"]
    image = tiny / "images" / "00.png"
    said = c3("predict", image, "--run", run, "--words", ",".join(words), "--tower", tower[1], "--json", *device)
    scores = {label["label"]: label["score"] for label in json.loads(said)["labels"]}
    _, _, prepare = open_clip.create_model_and_transforms("tiny-clip")
    with torch.inference_mode():
        embedding = normalize(original.encode_image(prepare(Image.open(image))[None]), dim=1)
        tokenizer = open_clip.get_tokenizer("tiny-clip")
        expected = (embedding @ open_clip.build_zero_shot_classifier(original, tokenizer, words, TEMPLATES))[0]
    np.testing.assert_allclose([scores[word] for word in words], expected.numpy(), atol=1e-3)
    assert "with image-text pretraining" in c3("report", "--tables", "1", "--runs", runs)
