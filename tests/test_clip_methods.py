"""The methods that compare an image embedding with class vectors of the same model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from c3.common.errors import C3Error
from c3.evaluate.run import evaluate
from c3.extract.revector import revector
from c3.extract.store.cache import FeatureCache
from c3.extract.store.layout import GLOBAL_VECTOR, FeatureArray
from c3.extract.store.origin import VectorOrigin
from c3.extract.words.tower_files import write_tower_file
from c3.train.loop import batch_loss
from c3.train.models.base import Inputs
from c3.train.models.clip import Clip, ClipAdapter, ClipAdapterOptions, ClipOptions
from c3.train.run import TrainOptions, train
from c3.train.scorer import restore
from torch.nn.functional import normalize

INPUTS = Inputs({"p8": 5, "p16": 4, "p32": 3}, 6, 3, global_vector=6)
KINDS = [(Clip, ClipOptions), (ClipAdapter, ClipAdapterOptions)]


def embeddings(rows: int) -> dict[str, torch.Tensor]:
    return {GLOBAL_VECTOR: torch.randn(rows, 6, generator=torch.Generator().manual_seed(rows))}


def cosines(x: torch.Tensor, vectors: torch.Tensor) -> np.ndarray:
    """A slow loop."""
    return np.array([[float(a @ b / (a.norm() * b.norm())) for b in vectors] for a in x])


@pytest.mark.parametrize(("kind", "options"), KINDS, ids=["clip", "clip-adapter"])
def test_an_untrained_score_is_a_cosine(kind: type[Clip], options: type[ClipOptions]) -> None:
    model, x, vectors = kind(INPUTS, options()).eval(), embeddings(4), 3 * torch.randn(5, 6)
    assert kind.reads(INPUTS) == (GLOBAL_VECTOR,)
    found = model.scores(model(x), vectors).detach().numpy()
    np.testing.assert_allclose(found, cosines(x[GLOBAL_VECTOR], vectors), atol=1e-6)


@pytest.mark.parametrize("standardise", ["prompt", "image", "both"])
def test_standardised_scores(standardise: str) -> None:
    """By prompt with the deviation over the training images, seen in batches; by image over the classes asked for."""
    model = Clip(INPUTS, ClipOptions(standardise=standardise)).train()
    vectors, images = torch.randn(5, 6), [embeddings(rows) for rows in (7, 5, 9)]
    labels = torch.tensor([[1, 1, -1, -1, -1]], dtype=torch.int8)

    def step(batch: dict[str, torch.Tensor]) -> None:
        model.loss(
            model(batch), model.scores(model(batch), vectors), labels.expand(len(batch[GLOBAL_VECTOR]), -1), vectors
        )

    for batch in images:
        step(batch)
    model.eval()
    step(embeddings(3))  # is not counted
    trained = np.concatenate([cosines(batch[GLOBAL_VECTOR], vectors) for batch in images])
    expected = cosines(images[0][GLOBAL_VECTOR], vectors)
    if standardise != "image":
        expected = (expected - trained.mean(0)) / trained.std(0)
    if standardise != "prompt":
        expected = (expected - expected.mean(1, keepdims=True)) / expected.std(1, keepdims=True)
    np.testing.assert_allclose(model.scores(model(images[0]), vectors).numpy(), expected, atol=1e-4)


def test_the_adapter_learns_and_clip_does_not() -> None:
    x, labels = embeddings(16), torch.ones(16, 3, dtype=torch.int8)
    labels[:, 1:] = -1
    vectors = normalize(torch.eye(6)[:3], dim=1)
    for kind, options in KINDS:
        torch.manual_seed(0)
        model = kind(INPUTS, options()).train()
        before = model.scores(model(x), vectors).detach()
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(20):
            optimiser.zero_grad()
            batch_loss(model, x, labels, vectors)["loss"].backward()
            optimiser.step()
        after = model.scores(model(x), vectors).detach()
        assert torch.equal(before, after) == (kind is Clip)
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("width", [0, 5])
def test_an_embedding_of_another_width_is_refused(width: int) -> None:
    said = f"the image embedding has {width or 'no'} numbers and class vectors have 6"
    with pytest.raises(C3Error, match=said):
        Clip(replace(INPUTS, global_vector=width), ClipOptions())
    with pytest.raises(C3Error, match="setting objective: expected bce or asl"):
        ClipOptions(objective="hinge")


def test_only_a_store_of_one_tower_is_taken(make_cache: Callable[..., FeatureCache], tmp_path: Path) -> None:
    cache = make_cache(extras=(FeatureArray(GLOBAL_VECTOR, 6, 0),))
    options = TrainOptions(cache.path, "clip", tmp_path / "runs", {"epochs": 1, "batch_size": 8}, device="cpu")
    with pytest.raises(C3Error, match=r"method clip compares images .* and vectors of no known tower"):
        train(options)
    stores = {}
    for name, sha256 in {"same": cache.origin.weights_sha256, "other": "11"}.items():
        file, stores[name] = tmp_path / f"{name}.npz", tmp_path / f"{name}.zarr"
        write_tower_file(file, list("abcde"), cache.classes.vectors, VectorOrigin("open_clip:tiny:x", sha256, ("{}",)))
        revector(cache.path, str(file), stores[name])
    with pytest.raises(C3Error, match=r"and those of open_clip:tiny:x \(sha256 11\)"):
        train(replace(options, cache=stores["other"]))
    assert not (tmp_path / "runs").exists()
    run = train(replace(options, cache=stores["same"]))
    assert run.record.reads == (GLOBAL_VECTOR,) and run.record.parameters == 2
    scored = restore(run, FeatureCache.open(stores["same"]), torch.device("cpu"))
    x = cache.read("test", GLOBAL_VECTOR, 0, 10).astype(np.float32)
    expected = cosines(torch.from_numpy(x), torch.from_numpy(cache.classes.vectors))
    np.testing.assert_allclose(scored({GLOBAL_VECTOR: x}), expected, atol=1e-5)
    assert evaluate(run.path, device="cpu").metrics
    with pytest.raises(C3Error, match="vectors of no known tower"):
        evaluate(run.path, device="cpu", cache=cache.path)
