"""Export: one graph that gives torch's scores for any batch and vocabulary, weights that rebuild, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from c3 import Tagger
from c3.cli import main
from c3.common.errors import C3Error
from c3.extract.backbone.pooling import pool_levels
from c3.extract.options import ExtractOptions
from c3.extract.run import extract
from c3.predict import export
from c3.predict.export import export_onnx, export_safetensors, pooled
from c3.train.models.base import Inputs
from c3.train.registry import method_class
from c3.train.run import TrainOptions, train
from c3.train.run_folder import open_run
from c3.train.scorer import Scorer, vectors_in_use
from click.testing import CliRunner
from safetensors import safe_open

SIZES = {"c3": {"groups": 2}, "fast0tag": {"hidden1": 16, "hidden2": 8}, "c3-plus": {}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, draw_table: Callable[[Path, int], Path]) -> dict[str, Path]:
    """A run of each method on a store of eight pictures by an untrained SqueezeNet, d_w 4."""
    root = tmp_path_factory.mktemp("export")
    tiny = draw_table(root / "tiny", 8)
    extract(ExtractOptions("tiny", "squeezenet1_1", "random:0", root / "f.zarr", tiny / "catalog.yaml", device="cpu"))
    quick = {"epochs": 1, "batch_size": 4, "lr": 1e-3}
    return {
        method: train(TrainOptions(root / "f.zarr", method, root / "runs", quick | size, device="cpu")).path
        for method, size in SIZES.items()
    }


@pytest.mark.parametrize("side", [7, 13, 14, 27, 28])
def test_the_windows_are_those_of_the_pyramid(side: int) -> None:
    tap = torch.randn(2, 3, side, side)
    assert torch.equal(pooled(tap), *pool_levels([tap]))


@pytest.mark.parametrize("method", SIZES)
def test_the_graph_gives_the_scores_of_the_tagger(runs: dict[str, Path], tmp_path: Path, method: str) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    out = tmp_path / "model.onnx"
    assert f"squeezenet1_1 and {method} from pixels and vectors" in export_onnx(runs[method], out)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(out)
    shapes = {value.name: value.shape for value in session.get_inputs()}
    assert shapes == {"pixels": ["batch", 3, 224, 224], "vectors": ["classes", 4]}
    described = json.loads(session.get_modelmeta().custom_metadata_map["c3"])
    assert (described["method"], described["classes"]) == (method, ["blue", "dark red", "red"])
    tagger, rng = Tagger.load(runs[method], device="cpu"), np.random.default_rng(0)
    for batch, classes in ((1, 2), (4, 9)):  # neither is what the graph was traced with
        pixels = rng.integers(0, 256, (batch, 3, 224, 224), dtype=np.uint8)
        vectors = 3 * rng.normal(size=(classes, 4)).astype(np.float32)
        (found,) = session.run(None, {"pixels": pixels, "vectors": vectors})
        scorer = Scorer(tagger._own.model, vectors_in_use(vectors, "l2"), torch.device("cpu"))
        np.testing.assert_allclose(found, scorer(tagger.backbone(torch.from_numpy(pixels))), atol=1e-4)


def test_safetensors_rebuild_the_model(runs: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "head.safetensors"
    shown = CliRunner().invoke(main, ["export", str(runs["c3"]), "--safetensors", str(out)])
    assert shown.exit_code == 0, shown.output
    assert "the weights of c3 with 3 classes" in shown.stdout
    with safe_open(out, "pt") as file:
        content = json.loads(file.metadata()["c3"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    vectors = tensors.pop("class_vectors")
    kind = method_class(content["method"])
    model = kind(Inputs(**content["inputs"]), kind.Options(**content["options"]))
    model.load_state_dict(tensors)
    tagger = Tagger.load(runs["c3"], device="cpu")
    arrays = tagger.backbone(torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8))
    rebuilt = Scorer(model, vectors_in_use(vectors.numpy(), content["vectors"]), torch.device("cpu"))
    np.testing.assert_array_equal(rebuilt(arrays), tagger._own(arrays))
    assert content["seen"] == [True, False, True]
    assert content["features"]["weights_sha256"] == open_run(runs["c3"]).record.features.weights_sha256


def test_a_method_that_cannot_be_exported_says_so(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxscript")

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("Failed to convert\nmany lines") from ValueError("no function for aten.odd\nmore")

    monkeypatch.setattr(torch.onnx, "export", refuse)
    said = r"method fast0tag cannot be exported to ONNX: RuntimeError: no function for aten\.odd$"
    with pytest.raises(C3Error, match=said):
        export_onnx(runs["fast0tag"], tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_differs_from_torch_is_not_kept(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Program:
        model = type("Model", (), {"metadata_props": {}})

        def save(self, path: Path, external_data: bool) -> None:
            import onnx
            from onnx import TensorProto, helper

            pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, [None, 3, 224, 224])
            vectors = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, [None, 4])
            scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, 4])
            graph = helper.make_graph(
                [helper.make_node("Identity", ["vectors"], ["scores"])], "g", [pixels, vectors], [scores]
            )
            onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)

    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: Program())
    with pytest.raises(C3Error, match=r"graph of C3 differs from torch: \(1, 4\) and \(1, 1\)"):
        export_onnx(runs["c3"], tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_said_in_one_line(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments, said in (
        ((runs["c3"],), "give --onnx FILE, --safetensors FILE or both"),
        ((tmp_path, "--safetensors", tmp_path / "x"), "not a run folder"),
        ((runs["c3"], "--safetensors", tmp_path / "no/folder/x"), "cannot be written"),
    ):
        shown = CliRunner().invoke(main, ["export", *map(str, arguments)])
        assert (shown.exit_code, shown.stdout, shown.stderr.count("\n")) == (2, "", 1)
        assert said in shown.stderr
    monkeypatch.setattr(export, "find_spec", lambda _: None)
    with pytest.raises(C3Error, match=r"pip install 'c3-mlzsl\[onnx\]'"):
        export_onnx(runs["c3"], tmp_path / "model.onnx")
    with pytest.raises(C3Error, match="cannot be written"):
        export_safetensors(runs["c3"], tmp_path / "no/folder/x")
    assert list(tmp_path.iterdir()) == []


def test_the_files_have_the_mode_that_open_gives(runs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "open").write_bytes(b"")
    export_safetensors(runs["c3"], tmp_path / "weights.safetensors")
    assert (tmp_path / "weights.safetensors").stat().st_mode == (tmp_path / "open").stat().st_mode
