"""METHODS = {name: class}, in table order, and the way back from a run folder to a scorer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils.flop_counter import FlopCounterMode

from ..errors import C3Error, unknown_name
from ..extract.cache import GRID, FeatureCache
from .methods.base import Inputs, Method
from .methods.c3 import C3
from .methods.c3_released import C3Released
from .methods.fast0tag import Fast0Tag
from .runs import WEIGHTS, Run

METHODS: dict[str, type[Method]] = {
    "fast0tag": Fast0Tag,
    "c3": C3,
    "c3-released": C3Released,
}


def method_class(name: str) -> type[Method]:
    """The class of a method; an unknown name lists the known ones."""
    if name not in METHODS:
        raise unknown_name("method", name, METHODS)
    return METHODS[name]


def inputs_of(cache: FeatureCache) -> Inputs:
    """What a method is built for on this cache."""
    return Inputs({level.name: level.channels for level in cache.levels}, cache.classes.d_w)


def class_vectors(cache: FeatureCache, form: str) -> Tensor:
    """(classes, d_w) float32 in the order of the cache: `l2` normalised, or `raw` as read."""
    vectors = torch.from_numpy(cache.classes.vectors)
    return normalize(vectors, dim=1) if form == "l2" else vectors


class Scorer:
    """A trained method with the class vectors of a cache: maps in, class scores out."""

    def __init__(self, model: Method, vectors: Tensor, device: torch.device) -> None:
        self.model, self.vectors, self.device = model.to(device).eval(), vectors.to(device), device
        self.levels = tuple(model.inputs.channels)

    @torch.inference_mode()
    def __call__(self, maps: Mapping[str, np.ndarray]) -> np.ndarray:
        """name -> (rows, channels, 7, 7) float16 maps to (rows, classes) float32 scores."""
        return self.model.scores(self.model(self._levels(maps)), self.vectors).cpu().numpy()

    @torch.inference_mode()
    def stages(self, maps: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Name -> (rows, width) float32 vectors before and after the method's encoder; empty where it has none."""
        return {name: values.cpu().numpy() for name, values in self.model.stages(self._levels(maps)).items()}

    @torch.inference_mode()
    def responses(self, maps: Mapping[str, np.ndarray], classes: Sequence[int]) -> np.ndarray | None:
        """(rows, len(classes), 7, 7) float32 shares of the positions in the scores; None where a method has none."""
        found = self.model.responses(self._levels(maps), self.vectors[list(classes)])
        return None if found is None else found.cpu().numpy()

    @torch.inference_mode()
    def gflops(self) -> float:
        """10^9 floating-point operations (a multiply-add is two) of the head and all class scores on one image."""
        channels = self.model.inputs.channels
        levels = {name: torch.zeros(1, count, GRID, GRID, device=self.device) for name, count in channels.items()}
        with FlopCounterMode(display=False) as counter:
            self.model.scores(self.model(levels), self.vectors)
        return counter.get_total_flops() / 1e9

    def _levels(self, maps: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        return {name: torch.from_numpy(values).to(self.device).float() for name, values in maps.items()}


def restore(run: Run, cache: FeatureCache, device: torch.device) -> Scorer:
    """Rebuild the trained model of a run for the classes of a cache. The weights are read without pickle."""
    kind = method_class(run.method)
    inputs = inputs_of(cache)
    trained = Inputs(run.record["inputs"]["channels"], run.record["inputs"]["d_w"])
    if inputs != trained:
        raise C3Error(
            f"run {run.id} was trained on {trained}, {cache.location} has {inputs}; evaluate it on a cache of its kind"
        )
    config = run.record["config"]
    options = kind.Options(**{name: config[name] for name in kind.Options.__dataclass_fields__})
    model = kind(inputs, options)
    try:
        model.load_state_dict(load_file(run.path / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise C3Error(
            f"{run.path / WEIGHTS} is missing or damaged ({type(error).__name__}); train the run again"
        ) from error
    return Scorer(model, class_vectors(cache, config["vectors"]), device)
