"""FRONT DOOR of export: a trained run as one ONNX graph, or as weights with what it takes to rebuild the model."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from ..common.errors import C3Error
from ..common.files import write_bytes, writing
from ..common.parsing import to_json
from ..evaluate.probabilities import probabilities_of
from ..extract.backbone.network import Backbone
from ..extract.store.layout import GRID
from ..train.models.base import Method
from ..train.models.word_forms import WordForm
from ..train.run_folder import Run, open_run, read_classes
from ..train.scorer import rebuild, word_form
from .card import model_card
from .tagger import load_parts

LOG = logging.getLogger(__name__)
TOLERANCE = 1e-4  # of scores, absolute and relative, between torch and the exported graph
# Licences that ask for no more than a notice
PERMISSIVE = ("apache-2.0", "mit", "bsd-3-clause", "bsd-2-clause", "isc", "cc0-1.0", "cc-by-4.0", "unlicense")
KEY, CARD = "c3", "card"  # of the metadata in both formats: JSON, and the model card
VECTORS = "class_vectors"  # the tensor that is no weight


class Exported(nn.Module):
    """Backbone and head in one: pixels (batch, 3, side, side) uint8 and vectors (classes, d_w) -> scores.

    The scores are (batch, classes) float32. Pixels are normalised inside, and vectors take the form that the run was
    trained with. A method that is not zero-shot takes no vectors and scores its trained classes.
    """

    def __init__(self, backbone: Backbone, head: Method, form: WordForm) -> None:
        super().__init__()
        self.backbone, self.head, self.form = backbone, head, form

    def forward(self, pixels: Tensor, vectors: Tensor | None = None) -> Tensor:
        """Return the scores of pixels for the classes of `vectors`, or for the trained classes."""
        embedding = self.head(self.backbone.features(pixels, lambda taps: [pooled(tap) for tap in taps]))
        if vectors is None:
            vectors = pixels.new_zeros((0, self.head.inputs.d_w), dtype=torch.float32)  # trained classes need none
        used = self.form(vectors)
        return self.head.comparable(self.head.scores(embedding, used), used)


def pooled(tap: Tensor) -> Tensor:
    """Pool (batch, C, H, W) to (batch, C, 7, 7) as `pool_levels` does, whose operator ONNX does not have.

    The windows are gathered; where they differ in length, short ones repeat their last row, which no maximum sees.
    """
    for axis in (2, 3):
        side = tap.shape[axis]
        edges = [(i * side // GRID, -(-(i + 1) * side // GRID)) for i in range(GRID)]
        longest = max(stop - start for start, stop in edges)
        rows = [min(start + step, stop - 1) for start, stop in edges for step in range(longest)]
        gathered = tap.index_select(axis, torch.tensor(rows, device=tap.device))
        tap = gathered.reshape(*tap.shape[:axis], GRID, longest, *tap.shape[axis + 1 :]).amax(axis + 1)
    return tap


def describe(run: Run, model: Method) -> dict[str, Any]:
    """Return what rebuilds a head and feeds it: method, options, inputs, classes, and how its features are made.

    `labels` are the names of its scores, in order, where no other vectors are given. `probabilities` is the content of
    probabilities.json, None where the run has none.
    """
    classes, made, maps = read_classes(run), run.record.features, probabilities_of(run)
    return {
        "run": run.id,
        "method": run.method,
        "options": asdict(model.options),
        "inputs": asdict(model.inputs),
        "vectors": run.record.vectors,
        "classes": list(classes.names),
        "seen": classes.seen.tolist(),
        "labels": [name for name, seen in zip(classes.names, classes.seen, strict=True) if seen or model.zero_shot],
        "probabilities": None if maps is None else to_json(maps.maps, defaults=True),
        "features": {
            "backbone": made.backbone,
            "weights": made.weights_title,
            "weights_sha256": made.weights_sha256,
            "licence": made.licence,
            "precision": made.precision,
            "crops": made.crops,
        },
    }


def export_safetensors(run_path: str | Path, out: Path) -> str:
    """Write the head's weights, the class vectors and `describe` as metadata; returns one line about it."""
    run = open_run(run_path)
    run.require_finished()
    model, classes = rebuild(run), read_classes(run)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    content = tensors | {VECTORS: torch.from_numpy(classes.vectors)}
    write_bytes(out, save(content, {KEY: json.dumps(describe(run, model)), CARD: model_card(run)}))
    return f"{out}: the weights of {run.method} with {len(classes)} classes, {_megabytes(out)}{_licence(run)}"


def export_onnx(run_path: str | Path, out: Path, weights: str | None = None, catalog: Path | None = None) -> str:
    """Write backbone and head as one ONNX graph, in float32; returns one line about it.

    Inputs `pixels` and, for zero-shot methods, `vectors`; output `scores`; batch and classes are dynamic. `vectors`
    may be left out: they are then those of the run's classes, an initializer that an input overrides. The file is
    compared with torch by onnxruntime where that is installed. Raises C3Error for a method that cannot be exported,
    packages that are missing, and scores that differ; nothing is written then.
    """
    for package in ("onnx", "onnxscript"):
        if find_spec(package) is None:
            raise C3Error(f"ONNX needs the package {package}, which is not installed: pip install 'c3-mlzsl[onnx]'")
    for name in ("onnxscript", "onnx_ir", "torch.onnx"):  # they report every rewrite of the graph
        logging.getLogger(name).setLevel(logging.WARNING)
    parts = load_parts(run_path, weights, catalog, torch.device("cpu"), precision="fp32")
    run, model = parts.run, parts.model.eval()
    module = Exported(parts.backbone, model, word_form(parts.classes, run.record.vectors)).eval()
    program = traced(module, run.method)
    resize = parts.backbone.resize
    described = describe(run, model)
    described["features"]["transform"] = parts.backbone.transform
    described["resize"] = {"side": resize.side, "filter": resize.interpolation, "fit": resize.fit}
    program.model.metadata_props.update({KEY: json.dumps(described), CARD: model_card(run)})
    own = parts.classes.vectors.astype(np.float32) if model.zero_shot else None
    if own is not None:
        _give_default(program.model, "vectors", own)
    with writing(out) as scratch:
        program.save(scratch, external_data=False)
        require_equal(scratch, module, own)
    asked = "pixels and vectors" if model.zero_shot else "pixels"
    return (
        f"{out}: {parts.backbone.spec.name} and {run.method} from {asked} to scores, {_megabytes(out)}{_licence(run)}"
    )


def traced(module: Exported, method: str) -> Any:
    """Return the program that `torch.onnx` makes of a module, for any batch and any number of classes.

    Raises C3Error for a `method` that it cannot translate.
    """
    inputs = _example(module, batch=2, classes=3)
    dynamic = {"pixels": {0: torch.export.Dim("batch")}, "vectors": {0: torch.export.Dim("classes")}}
    try:
        program = torch.onnx.export(
            module, tuple(inputs.values()), dynamo=True, input_names=list(inputs), output_names=["scores"],
            dynamic_shapes={name: dynamic[name] for name in inputs}, verbose=False,
        )  # fmt: skip
    except Exception as error:  # torch.export, its decompositions and onnxscript each raise their own kinds
        cause = str(error.__cause__ or error).strip().splitlines()[0]
        raise C3Error(f"method {method} cannot be exported to ONNX: {type(error).__name__}: {cause}") from error
    if program is None:  # only the old exporter, without dynamo, returns none
        raise C3Error(f"method {method} cannot be exported to ONNX: torch gave no program")
    return program


def _licence(run: Run) -> str:
    """Return the end of a summary, the licence of the backbone's weights, and warn of one that may forbid uses."""
    made = run.record.features
    if made.licence is None:
        return ""
    name = made.licence.partition(",")[0]
    if name not in PERMISSIVE:
        forbids = "forbids commercial use" if "-nc" in name or "noncommercial" in name else "has terms of its own"
        LOG.warning("the weights %s of %s are under the licence %s, which %s: it holds for what is exported too",
                    made.weights_title, made.backbone, made.licence, forbids)  # fmt: skip
    return f"; weights of the backbone: licence {made.licence}"


def _example(module: Exported, batch: int, classes: int) -> dict[str, Tensor]:
    """Return noise of the right shapes; `vectors` only where the method takes them."""
    noise = torch.Generator().manual_seed(batch)
    model, side = module.head, module.backbone.resize.side
    pixels = torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8, generator=noise)
    vectors = torch.randn(classes, model.inputs.d_w, generator=noise)
    return {"pixels": pixels} | ({"vectors": vectors} if model.zero_shot else {})


def _give_default(model: Any, name: str, values: np.ndarray) -> None:
    """Let an input of a graph have these values where none are given: an initializer of its name, as ONNX has it."""
    import onnx_ir

    value = next(value for value in model.graph.inputs if value.name == name)
    value.const_value = onnx_ir.tensor(values, name=name)
    model.graph.register_initializer(value)


def require_equal(path: Path, module: Exported, own: np.ndarray | None) -> None:
    """Compare the graph with torch on other numbers of pictures and classes than it was traced with.

    Without vectors it must give the scores of the run's `own` ones. Raises C3Error where it differs or does not run.
    """
    if find_spec("onnxruntime") is None:
        LOG.warning("the graph is not compared with torch: the package onnxruntime is not installed")
        return
    import onnxruntime

    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3  # it warns that an input with a default is no constant
    session = onnxruntime.InferenceSession(path, quiet, providers=["CPUExecutionProvider"])
    cases = [_example(module, batch, classes) for batch, classes in ((1, 1), (3, 5))]
    if own is not None:
        cases.append({"pixels": cases[0]["pixels"]})
    for inputs in cases:
        with torch.inference_mode():
            expected = module(**({} if own is None else {"vectors": torch.from_numpy(own)}) | inputs).numpy()
        try:
            (found,) = session.run(None, {name: values.numpy() for name, values in inputs.items()})
        except Exception as error:  # onnxruntime has a kind of its own for every status
            shapes = ", ".join(f"{name} {tuple(values.shape)}" for name, values in inputs.items())
            raise C3Error(
                f"the exported graph of {type(module.head).__name__} does not run on {shapes}: "
                f"{' '.join(str(error).split())}"
            ) from error
        if found.shape != expected.shape or not np.allclose(found, expected, TOLERANCE, TOLERANCE):
            raise C3Error(
                f"the exported graph of {type(module.head).__name__} differs from torch: {found.shape} and "
                f"{expected.shape}, expected scores within {TOLERANCE}"
            )


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"
