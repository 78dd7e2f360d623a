"""Export: one graph that gives torch's scores for any batch and vocabulary, weights that rebuild, what is refused."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
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
from c3.predict.card import model_card
from c3.predict.export import export_onnx, export_safetensors, pooled
from c3.predict.names import ONNX_EXAMPLE
from c3.train.models.base import Inputs
from c3.train.models.word_forms import WordForm
from c3.train.registry import method_class
from c3.train.run import TrainOptions, train
from c3.train.run_folder import open_run
from c3.train.scorer import Scorer, word_form
from click.testing import CliRunner
from PIL import Image
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


@pytest.fixture(scope="module")
def graph_of(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The graph of a run by its method, exported once, which takes seconds."""
    pytest.importorskip("onnxscript")

    @cache
    def exported(method: str) -> Path:
        out = tmp_path_factory.mktemp(method) / "model.onnx"
        assert f"squeezenet1_1 and {method} from pixels and vectors" in export_onnx(runs[method], out)
        return out

    return exported


@pytest.mark.parametrize("side", [7, 13, 14, 27, 28])
def test_the_windows_are_those_of_the_pyramid(side: int) -> None:
    tap = torch.randn(2, 3, side, side)
    assert torch.equal(pooled(tap), *pool_levels([tap]))


@pytest.mark.parametrize("method", SIZES)
def test_the_graph_gives_the_scores_of_the_tagger(
    runs: dict[str, Path], graph_of: Callable[[str], Path], method: str
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    out = graph_of(method)
    assert [path.name for path in out.parent.iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(out)
    assert {value.name: value.shape for value in session.get_inputs()} == {"pixels": ["batch", 3, 224, 224]}
    given = {value.name: value.shape for value in session.get_overridable_initializers()}
    assert given == {"vectors": ["classes", 4]}
    about = session.get_modelmeta().custom_metadata_map
    described = json.loads(about["c3"])
    assert (described["method"], described["classes"]) == (method, ["blue", "dark red", "red"])
    assert about["card"] == model_card(open_run(runs[method]))
    tagger, rng = Tagger.load(runs[method], device="cpu"), np.random.default_rng(0)
    for batch, classes in ((1, 2), (4, 9)):  # neither is what the graph was traced with
        pixels = rng.integers(0, 256, (batch, 3, 224, 224), dtype=np.uint8)
        vectors = 3 * rng.normal(size=(classes, 4)).astype(np.float32)
        (found,) = session.run(None, {"pixels": pixels, "vectors": vectors})
        used = word_form(tagger.classes, tagger.run.record.vectors)(torch.from_numpy(vectors))
        scorer = Scorer(tagger._own.model, used, torch.device("cpu"))
        np.testing.assert_allclose(found, scorer(tagger.backbone(torch.from_numpy(pixels))), atol=1e-4)


def test_the_file_alone_tags_a_photograph(
    runs: dict[str, Path], graph_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """The example of docs/export.md, where neither c3 nor torch can be imported."""
    pytest.importorskip("onnxruntime")
    assert ONNX_EXAMPLE in (Path(__file__).parents[1] / "docs/export.md").read_text(encoding="utf-8")
    shutil.copy(graph_of("c3"), tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((500, 300)).save(tmp_path / "photo.jpg")
    code = "import sys\nsys.modules['c3'] = sys.modules['torch'] = None\n" + ONNX_EXAMPLE
    shown = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, check=True, text=True)
    found = {name: float(score) for name, score in (line.rsplit(" ", 1) for line in shown.stdout.splitlines())}
    (tagged,) = Tagger.load(runs["c3"], device="cpu").tag(tmp_path / "photo.jpg")
    assert list(found) == [label.name for label in tagged.labels]
    assert found == pytest.approx({label.name: label.score for label in tagged.labels}, abs=1e-4)


def test_the_command_of_a_card_finds_the_run(runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs["c3"].parents[1])
    shown = CliRunner().invoke(main, ["export", str(runs["c3"]), "--card"])
    assert (shown.exit_code, shown.stdout) == (0, f"{runs['c3']}/README.md: the model card of {runs['c3'].name}\n")
    card = (runs["c3"] / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall("^c3 train .*", card, re.MULTILINE)
    trained = CliRunner().invoke(main, shlex.split(command)[1:])
    assert trained.exit_code == 0 and f"runs/{runs['c3'].name} is trained" in trained.stdout, trained.output


def test_safetensors_rebuild_the_model(runs: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "head.safetensors"
    shown = CliRunner().invoke(main, ["export", str(runs["c3"]), "--safetensors", str(out)])
    assert shown.exit_code == 0, shown.output
    assert "the weights of c3 with 3 classes" in shown.stdout
    with safe_open(out, "pt") as file:
        content, card = json.loads(file.metadata()["c3"]), file.metadata()["card"]
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    vectors = tensors.pop("class_vectors")
    kind = method_class(content["method"])
    model = kind(Inputs(**content["inputs"]), kind.Options(**content["options"]))
    model.load_state_dict(tensors)
    tagger = Tagger.load(runs["c3"], device="cpu")
    arrays = tagger.backbone(torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8))
    rebuilt = Scorer(model, WordForm(content["vectors"], vectors[content["seen"]])(vectors), torch.device("cpu"))
    np.testing.assert_array_equal(rebuilt(arrays), tagger._own(arrays))
    assert content["seen"] == [True, False, True]
    assert content["labels"] == content["classes"]
    assert card == model_card(open_run(runs["c3"]))
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
        def __init__(self) -> None:
            import onnx_ir
            from onnx import TensorProto, helper

            pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, [None, 3, 224, 224])
            vectors = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, [None, 4])
            scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, 4])
            graph = helper.make_graph(
                [helper.make_node("Identity", ["vectors"], ["scores"])], "g", [pixels, vectors], [scores]
            )
            proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
            self.model = onnx_ir.from_proto(proto)

        def save(self, path: Path, external_data: bool) -> None:
            import onnx_ir

            onnx_ir.save(self.model, path)

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
        ((runs["c3"],), "give --onnx FILE, --safetensors FILE, --card"),
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
