"""The state of a training between two steps, and when it is saved."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..common.errors import C3Error
from .averaging import Average
from .checkpoint import read_checkpoint, write_checkpoint
from .distributed.world import World
from .models.base import Method
from .recipes import LoopOptions


@dataclass
class Position:
    """How far a training is: `batch` batches of `epoch` are done. Seconds include those before an interruption."""

    epoch: int = 0
    batch: int = 0
    totals: dict[str, float] = field(default_factory=dict)  # of this epoch: the loss and its parts, mean over rows
    epoch_seconds: float = 0.0
    epoch_waited: float = 0.0
    lines: list[dict[str, float]] = field(default_factory=list)  # of the log
    seconds: float = 0.0
    waited: float = 0.0
    best: float = -1.0  # validation score
    best_epoch: int = 0

    @property
    def wait_share(self) -> float:
        """The share of this epoch's time that was spent waiting for data."""
        return self.epoch_waited / self.epoch_seconds

    def add(self, parts: Mapping[str, float], share: float, seconds: float, waited: float) -> None:
        """Count a batch with its loss parts; `share` is its share of the rows of the epoch."""
        self.batch += 1
        self.epoch_seconds += seconds
        self.epoch_waited += waited
        for name, value in parts.items():
            self.totals[name] = self.totals.get(name, 0.0) + value * share

    def next_epoch(self, line: dict[str, float]) -> None:
        """Close the epoch with its line of the log and begin the next."""
        self.lines.append(line)
        self.seconds += self.epoch_seconds
        self.waited += self.epoch_waited
        self.epoch, self.batch, self.totals, self.epoch_seconds, self.epoch_waited = self.epoch + 1, 0, {}, 0.0, 0.0


class TrainingState:
    """Model, Adam, averaged weights, best weights and position. `restore` is the inverse of `tensors` and `at`.

    All processes of the world have the same state, but for their random generators.
    """

    def __init__(self, model: Method, options: LoopOptions, device: torch.device, world: World = World()) -> None:
        self.model, self.device, self.world, self.at = model, device, world, Position()
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[options.optimizer]
        self.optimiser = kind(model.parameter_groups(), lr=options.lr, weight_decay=options.weight_decay, fused=True)
        self.average = Average(model, options.ema) if options.ema else None
        self.best: dict[str, Tensor] | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name, with the states of the random generators of all ranks, concatenated."""
        found = {"random/cpu": self.world.gather(torch.get_rng_state())}
        if self.device.type == "cuda":
            found["random/cuda"] = self.world.gather(torch.cuda.get_rng_state(self.device))
        found |= _named("model", self.model.state_dict())
        found |= _named("average", self.average.state if self.average else {})
        found |= _named("best", self.best or {})
        for number, state in self.optimiser.state_dict()["state"].items():
            found |= _named(f"adam/{number}", state)
        return found

    def restore(self, numbers: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Restore the state from the fields of a `Position` and the result of `tensors`."""
        self.at = Position(**numbers)
        self.model.load_state_dict(_below("model", tensors))
        if self.average:
            for name, value in _below("average", tensors).items():
                self.average.state[name].copy_(value)
        if best := _below("best", tensors):
            self.best = {name: value.to(self.device) for name, value in best.items()}
        adam: dict[int, dict[str, Tensor]] = {}
        weights = [weight for group in self.optimiser.param_groups for weight in group["params"]]
        for name, value in _below("adam", tensors).items():
            number, entry = name.split("/")
            weight = weights[int(number)]
            # fused Adam pairs weights and moments by their order in memory, which channels_last changes
            moved = torch.empty_like(weight).copy_(value) if value.shape == weight.shape else value
            adam.setdefault(int(number), {})[entry] = moved
        self.optimiser.load_state_dict({"state": adam, "param_groups": self.optimiser.state_dict()["param_groups"]})
        torch.set_rng_state(self._own(tensors["random/cpu"]))
        if self.device.type == "cuda" and "random/cuda" in tensors:
            torch.cuda.set_rng_state(self._own(tensors["random/cuda"]), self.device)

    def _own(self, generators: Tensor) -> Tensor:
        return generators.chunk(self.world.size)[self.world.rank].clone()

    def require_finite(self) -> None:
        """Raise C3Error if a weight is not a finite number."""
        for name, value in self.model.state_dict().items():
            if value.is_floating_point() and not value.isfinite().all():
                where = f"{self.at.batch} batches of epoch {self.at.epoch}"
                raise C3Error(f"{name} is not finite after {where}; lower --lr, or set clip")


class Checkpointer:
    """Saves the state of a training every `minutes`, and after every `steps` steps (0: by the clock alone).

    `identity` is what decides the weights: method, settings and store. A checkpoint of another identity is refused.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], minutes: float = 5.0, steps: int = 0) -> None:
        self.path, self.identity, self.minutes, self.steps = path, dict(identity), minutes, steps
        self._saved, self._unsaved = time.monotonic(), 0

    def restore(self, state: TrainingState) -> bool:
        """Restore a state from the checkpoint, if there is one; return whether. Raises C3Error if it does not fit."""
        if not self.path.exists():
            return False
        numbers, tensors = read_checkpoint(self.path, self.identity)
        try:
            state.restore(numbers, tensors)
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            raise C3Error(
                f"{self.path} does not fit this version of the method ({type(error).__name__}); "
                "--overwrite trains the run again from the start"
            ) from error
        return True

    def step(self) -> None:
        """Count a step."""
        self._unsaved += 1

    @property
    def due(self) -> bool:
        """Whether it is time to save a checkpoint."""
        late = time.monotonic() - self._saved >= 60 * self.minutes
        return self._unsaved > 0 and (self._unsaved == self.steps or late)

    def save(self, state: TrainingState) -> None:
        """Write the checkpoint; collective. Raises C3Error, and writes nothing, if a weight is not finite."""
        state.require_finite()
        tensors = state.tensors()
        with state.world.together():
            if state.world.first:
                write_checkpoint(self.path, self.identity, asdict(state.at), tensors)
        self._saved, self._unsaved = time.monotonic(), 0


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}/"
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
