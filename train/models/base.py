"""The interface of a method: what the training loop, the registry and the scorer rely on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic

import torch
from torch import Tensor, nn

from ...common.errors import C3Error
from ..inputs import REGION_SIDE as REGION_SIDE
from ..inputs import Inputs as Inputs
from ..settings import Settings as Settings
from ..settings import one_of
from .objectives import OBJECTIVES, Objective

Embedding = Tensor | tuple[Tensor, ...]
if TYPE_CHECKING:  # a type variable with a default is in `typing` from Python 3.13 on
    from typing_extensions import TypeVar

    EmbeddingT = TypeVar("EmbeddingT", bound=Embedding, default=Any)
else:
    from typing import TypeVar

    EmbeddingT = TypeVar("EmbeddingT")


ObjectiveName = Annotated[str, one_of(OBJECTIVES)]


@dataclass(frozen=True)
class MethodOptions(Settings):
    """Settings of a method; a subclass adds its own. `objective` names the loss of the class scores (objectives.py).

    The options of a method whose loss is not a function of class scores do not derive from this class.
    """

    objective: ObjectiveName = "ranknet"


class Method(nn.Module, ABC, Generic[EmbeddingT]):
    """A trainable scorer of classes. A subclass is one row of a table, generic in the embedding that it computes.

    `Options` is a frozen dataclass of the settings that the method has; recipes and `--set` fill it by name.
    `zero_shot` is False for a classifier that can only score the classes it was trained on. `image_text` is True where
    the image embedding is compared with class vectors as it is, so that both must be of one space. `asks_all` is True
    where every training step needs the scores of all trained classes, not only of those with a known label in the
    batch.

    Several processes may share a batch (distributed/world.py): `loss` sees all its rows, `forward` and the scores see
    some. A computation across rows therefore belongs in a batch norm or in `loss`.
    """

    Options: ClassVar[type[Settings]]
    zero_shot: bool = True
    image_text: bool = False
    asks_all: bool = False
    options: Settings

    def __init__(self, inputs: Inputs, options: Settings) -> None:
        super().__init__()
        self.inputs, self.options = inputs, options
        if isinstance(options, MethodOptions):
            self.objective = Objective(options.objective, inputs.classes, inputs.d_w)
            self.asks_all = self.asks_all or self.objective.asks_all

    @classmethod
    def reads(cls, inputs: Inputs) -> tuple[str, ...]:
        """Return the names of the arrays that the method reads from a store; no other array is loaded."""
        return inputs.levels

    def prepare(self, vectors: Tensor) -> None:
        """Set up from the word vectors (classes, d_w) of the trained classes, before the first step."""
        if isinstance(self.options, MethodOptions):
            self.objective.prepare(vectors)

    @abstractmethod
    def forward(self, arrays: Mapping[str, Tensor]) -> EmbeddingT:
        """Compute the embedding that `scores` compares, from float32 arrays (batch, *shape) named as in `reads`."""

    @abstractmethod
    def scores(self, embedding: EmbeddingT, vectors: Tensor) -> Tensor:
        """Return class scores (batch, classes); vectors is (classes, d_w) and may hold classes never trained on.

        A method that is not `zero_shot` returns the scores of the trained classes, whatever the vectors.
        """

    def condense(self, embedding: EmbeddingT) -> Embedding:
        """Return what the scores need of the images (batch, ...), whatever the classes: `compare` takes it.

        It is what `c3 search` keeps of every image, so it should be small and leave `compare` little to do.
        """
        return embedding

    def compare(self, condensed: Any, vectors: Tensor) -> Tensor:
        """Return the scores (batch, classes) of what `condense` returned."""
        return self.scores(condensed, vectors)

    def comparable(self, scores: Tensor, vectors: Tensor) -> Tensor:
        """Return scores (batch, classes) of `scores` or `compare` as everything outside of training takes them.

        They compare within an image, which those that a loss fits need not (`Objective.comparable`). A new score is an
        increasing and affine function of the old one.
        """
        if not isinstance(self.options, MethodOptions):
            return scores
        return self.objective.comparable(scores, vectors if self.zero_shot else None)

    @property
    def scores_alone(self) -> bool:
        """Whether the score of a class does not depend on which other classes are asked for."""
        return True

    def training_scores(self, embedding: EmbeddingT, vectors: Tensor) -> Tensor:
        """Return what `loss` compares, (batch, classes): the class scores, unless a method trains on other scores."""
        return self.scores(embedding, vectors)

    def loss(self, embedding: EmbeddingT, scores: Tensor, labels: Tensor, vectors: Tensor) -> dict[str, Tensor]:
        """Return scalars by name, of which `loss` is minimised.

        scores (batch, classes) float32 and labels (batch, classes) int8 are those of `vectors` (classes, d_w).
        """
        return {"loss": self.objective(scores, labels)}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return groups for the optimiser: `params`, and the `scale` of their learning rate."""
        return [{"params": list(self.parameters()), "scale": 1.0}]

    def after_step(self) -> None:
        """Project the weights after a step of the optimiser, where the method constrains them."""

    def stages(self, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return vectors (batch, width) of the images before and after the method's encoder, by name.

        Empty for a method without an encoder. Figure 3 shows them.
        """
        return {}

    def responses(self, arrays: Mapping[str, Tensor], vectors: Tensor) -> Tensor | None:
        """Return what every position adds to a score, (batch, classes, side, side); the sum is the score.

        None for a method that does not keep track of positions. Figure 6 shows them on request.
        """
        return None


def inner_products(embedding: Tensor, vectors: Tensor) -> Tensor:
    """Multiply embedding (..., d_w) with vectors (classes, d_w) to (..., classes), in float32 under any autocast.

    Half precision has three digits, and ranks are decided by less.
    """
    with torch.autocast(embedding.device.type, enabled=False):
        wide = torch.promote_types(embedding.dtype, torch.float32)
        return embedding.to(wide) @ vectors.to(wide).T


def require_heads(width: int, heads: int) -> None:
    """Raise C3Error for a width that attention cannot share out between its heads."""
    if width % heads:
        raise C3Error(f"settings width and heads: expected a multiple of {heads} heads, found {width}")
