"""A trained run -> a scorer of classes: its model rebuilt, and checked against the features at hand."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ..common.errors import C3Error
from ..extract.store.cache import FeatureCache
from ..extract.store.layout import GRID
from ..extract.store.tables import Classes
from .models.base import Embedding, Method
from .models.word_forms import WHITENED, WordForm
from .registry import EXTRACT_OPTIONS, inputs_of, method_class, require_one_space
from .run_folder import RECORD, WEIGHTS, Run, read_classes
from .settings import options_from

LOG = logging.getLogger(__name__)
PLACES = GRID * GRID


def word_form(classes: Classes, form: str) -> WordForm:
    """Return what turns word vectors into those that a method scores which was trained on the seen of `classes`."""
    return WordForm(form, torch.from_numpy(classes.vectors[classes.seen]))


@torch.inference_mode()
def gflops(model: Method, vectors: Tensor | None = None) -> float:
    """Count 10^9 floating-point operations (a multiply-add is two) of the head on one picture.

    With `vectors` (classes, d_w) the scores of these classes are counted too.
    """
    model.eval()
    device = next(model.parameters()).device
    arrays = {name: torch.zeros(1, *model.inputs.shape(name), device=device) for name in model.reads(model.inputs)}
    with FlopCounterMode(display=False) as counter:
        embedding = model(arrays)
        if vectors is not None:
            model.scores(embedding, vectors)
    return float(counter.get_total_flops()) / 1e9


class Scorer:
    """A trained method with the vectors of classes: feature maps in, class scores out.

    `arrays` are the names of the arrays that it reads. Where `zero_shot` is False, it can only score the classes that
    it was trained on.
    """

    def __init__(self, model: Method, vectors: Tensor, device: torch.device) -> None:
        self.model, self.vectors, self.device = model.to(device).eval(), vectors.to(device), device
        self.arrays, self.zero_shot = model.reads(model.inputs), model.zero_shot

    @torch.inference_mode()
    def __call__(self, arrays: Mapping[str, np.ndarray | Tensor]) -> np.ndarray:
        """Return (rows, classes) float32 scores of arrays (rows, *shape) of any float type, by name.

        The classes are those of the vectors, or those that the method was trained on where it is not zero-shot.
        """
        return self._scores(self._placed(arrays)).cpu().numpy()

    @torch.inference_mode()
    def condense(self, arrays: Mapping[str, np.ndarray | Tensor]) -> Embedding:
        """Return what the scores need of the images (rows, ...), whatever the classes: see `Method.condense`."""
        return self.model.condense(self.model(self._placed(arrays)))

    @torch.inference_mode()
    def compare(self, condensed: Embedding) -> np.ndarray:
        """Return (rows, classes) float32 scores of what `condense` returned."""
        scores = self.model.compare(condensed, self.vectors)
        return self.model.comparable(scores, self.vectors).cpu().numpy()

    @torch.inference_mode()
    def stages(self, arrays: Mapping[str, np.ndarray | Tensor]) -> dict[str, np.ndarray]:
        """Return name -> (rows, width) float32 vectors before and after the encoder; empty where there is none."""
        return {name: values.cpu().numpy() for name, values in self.model.stages(self._placed(arrays)).items()}

    @torch.inference_mode()
    def responses(self, arrays: Mapping[str, np.ndarray | Tensor], classes: Sequence[int]) -> np.ndarray | None:
        """Return (rows, len(classes), 7, 7) float32 shares of the positions in the scores; None where unknown."""
        vectors = self.vectors[list(classes)]
        found = self.model.responses(self._placed(arrays), vectors)
        if found is None:
            return None
        ends = self.model.comparable(torch.tensor([[0.0], [1.0]], device=self.device).expand(2, len(vectors)), vectors)
        offset, scale = (values[:, None, None] for values in (ends[0], ends[1] - ends[0]))
        return (scale * found + offset / found[0, 0].numel()).cpu().numpy()

    @torch.inference_mode()
    def occlusion(self, arrays: Mapping[str, np.ndarray | Tensor], classes: Sequence[int]) -> np.ndarray | None:
        """Return (rows, len(classes), 7, 7) float32: how much a score falls when one place of the picture is hidden.

        A place is a cell of the 7x7 grid, in `regions` a block of 2x2 positions. To hide it, its features are replaced
        by the mean over the positions of the same picture (Zeiler, Fergus, ECCV 2014, on features instead of pixels).
        None for a method that reads no array with positions.
        """
        placed = self._placed(arrays)
        hiding = {name: _hiding(values.shape[-1], self.device) for name, values in placed.items() if values.dim() == 4}
        if not hiding:
            return None
        falls = []
        for row in range(len(next(iter(placed.values())))):
            picture = {name: values[row].expand(1 + PLACES, *values.shape[1:]) for name, values in placed.items()}
            for name, hidden in hiding.items():
                mean = placed[name][row].mean(dim=(1, 2), keepdim=True)
                picture[name] = torch.where(hidden, mean, picture[name])
            scores = self._scores(picture)[:, list(classes)]
            falls.append((scores[0] - scores[1:]).T.unflatten(1, (GRID, GRID)))
        return torch.stack(falls).cpu().numpy()

    def label_maps(
        self, kind: str, arrays: Mapping[str, np.ndarray | Tensor], classes: Sequence[int]
    ) -> np.ndarray | None:
        """Return the maps of one of `names.LABEL_MAPS`, or None where the method has none of the kind."""
        return (self.occlusion if kind == "occlusion" else self.responses)(arrays, classes)

    def gflops(self) -> float:
        """Count 10^9 floating-point operations of the head and all class scores on one picture."""
        return gflops(self.model, self.vectors)

    def _scores(self, placed: Mapping[str, Tensor]) -> Tensor:
        return self.model.comparable(self.model.scores(self.model(placed), self.vectors), self.vectors)

    def _placed(self, arrays: Mapping[str, np.ndarray | Tensor]) -> dict[str, Tensor]:
        return {name: torch.as_tensor(values).to(self.device).float() for name, values in arrays.items()}


def _hiding(side: int, device: torch.device) -> Tensor:
    """Return (1 + 49, 1, side, side) bool: which positions of an array are hidden: none, then one place at a time."""
    block = side // GRID
    places = torch.eye(PLACES, dtype=torch.bool, device=device).view(PLACES, 1, GRID, GRID)
    shown = places.repeat_interleave(block, dim=2).repeat_interleave(block, dim=3)
    return torch.cat([torch.zeros_like(shown[:1]), shown])


def require_arrays(run: Run, offered: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Refuse features of another kind than a run was trained on; `offered` is the shape of one row by array."""
    trained = run.record.inputs
    needed = {name: trained.shape(name) for name in method_class(run.method).reads(trained)}
    if lacking := {name: shape for name, shape in needed.items() if offered.get(name) != shape}:
        there = {name: offered[name] for name in lacking if name in offered} or "no such array"
        options = " ".join(option for name, option in EXTRACT_OPTIONS.items() if name in lacking)
        remedy = f"extract them with: c3 extract {options}" if options else "use features of its kind"
        raise C3Error(f"run {run.id} was trained on {lacking}, {where} has {there}; {remedy}")


def require_width(run: Run, d_w: int, where: object) -> None:
    """Refuse word vectors of another width than those of the training."""
    trained = run.record.inputs.d_w
    if d_w != trained:
        raise C3Error(f"run {run.id} was trained on word vectors of {trained} numbers, {where} has {d_w}")


def rebuild(run: Run) -> Method:
    """Return the trained model of a run folder, on the CPU. The weights are read without pickle."""
    kind, settings = method_class(run.method), run.record.settings
    if lacking := [option.name for option in fields(kind.Options) if option.name not in settings]:
        LOG.warning("%s was trained by an older c3, which had no %s; the defaults stand", run.path, ", ".join(lacking))
    try:
        options = options_from(kind.Options, settings)
    except C3Error as error:
        raise C3Error(f"{run.path / RECORD}: {error}; train the run again: {run.train_again}") from error
    model = kind(run.record.inputs, options)
    try:
        model.load_state_dict(load_file(run.path / WEIGHTS))
    except RuntimeError as error:  # names or shapes of parameters differ
        raise C3Error(
            f"{run.path / WEIGHTS} holds weights of another version of {run.method}; train the run again: "
            f"{run.train_again}"
        ) from error
    except (OSError, SafetensorError) as error:
        raise C3Error(
            f"{run.path / WEIGHTS} is missing or damaged ({type(error).__name__}); train the run again: "
            f"{run.train_again}"
        ) from error
    return model


def restore(run: Run, cache: FeatureCache, device: torch.device) -> Scorer:
    """Return the trained model of a run for the classes of a store, which must have features of the same kind."""
    require_one_space(run.method, cache)
    found, trained = inputs_of(cache), run.record.inputs.classes
    require_arrays(run, {name: found.shape(name) for name in found.names}, cache.location)
    require_width(run, found.d_w, cache.location)
    if not method_class(run.method).zero_shot and found.classes != trained:
        raise C3Error(
            f"run {run.id} only knows the {trained} classes it was trained on, {cache.location} has "
            f"{found.classes} seen classes; evaluate it on its own store"
        )
    form = run.record.vectors
    own = read_classes(run) if form in WHITENED else cache.classes  # an older run may lack its classes.npz
    vectors = word_form(own, form)(torch.from_numpy(cache.classes.vectors))
    return Scorer(rebuild(run), vectors, device)
