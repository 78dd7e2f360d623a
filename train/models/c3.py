"""C3-MLZSL by the equations of the paper (sections 3.2-3.4): Forward Pyramid, (ML)2P-Encoder, Group Attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from ..settings import BelowOne, Count, Weight, one_of
from .attention import GroupAttention, linear
from .base import Inputs, Method, MethodOptions, inner_products
from .encoder import (
    SIDE,
    WIDTH,
    ChannelAttention,
    ML2PEncoder,
    PyramidProjection,
    ScaledGroups,
    StandardisedGroups,
    group_scale,
)
from .losses import c3_loss, image_weight, inner_weight

INITS = ("scaled", "torch")
X_SCALES = ("batchnorm", "unit", "scalar", "none")
OMEGAS = {"between": image_weight, "within": inner_weight}
SCALAR = 2.8  # the scalar of X starts at this over sqrt(d_w)


@dataclass(frozen=True)
class C3Options(MethodOptions):
    """Groups g and weight lambda of L_reg (eq. 12), the reading of eq. 10, and what the equations leave open.

    What keeps the equations trainable: `standardise_levels` before the first convolution, `x_scale` between eq. 5 and
    eq. 6, `init` (`torch`: the initial values of torch.nn). What keeps them from overfitting: `width` (encoder.py),
    `dropout` of the numbers of X, and `channel_dropout` of whole channels of the levels.
    """

    groups: Count = 7
    lambda_reg: Weight = 0.4
    omega: Annotated[str, one_of(OMEGAS)] = "between"
    x_scale: Annotated[str, one_of(X_SCALES)] = "batchnorm"
    standardise_levels: bool = True
    init: Annotated[str, one_of(INITS)] = "scaled"
    shuffle: bool = True
    width: Count = WIDTH
    dropout: BelowOne = 0.0
    channel_dropout: BelowOne = 0.0


class C3(Method[Tensor]):
    """`c3`: per-group Q, K, V with a residual, linear W_Q and W_K, no sigmoid.

    `pyramid`, `encodes` and `attends` say which of the three parts a method has; the rows of Table 3 remove them.
    """

    Options = C3Options
    options: C3Options
    pyramid: ClassVar[bool] = True  # all levels, or the deepest alone
    encodes: ClassVar[bool] = True  # (ML)2P-Encoder, or only the maximum over the positions
    attends: ClassVar[bool] = True  # Group Attention, or S = X

    def __init__(self, inputs: Inputs, options: C3Options) -> None:
        super().__init__(inputs, options)
        channels = {name: inputs.channels[name] for name in self.reads(inputs)}
        self.projection = PyramidProjection(
            channels,
            options.groups,
            inputs.d_w,
            width=options.width,
            standardised=options.standardise_levels,
            channel_dropout=options.channel_dropout,
            shuffle=options.shuffle,
        )
        self.standardise = group_scale(options.x_scale, options.groups, inputs.d_w)
        self.dropout = nn.Dropout(options.dropout)
        self._build(options.groups, inputs.d_w)
        if options.init == "scaled":
            with torch.no_grad():
                self._scale_start()

    @classmethod
    def reads(cls, inputs: Inputs) -> tuple[str, ...]:
        return inputs.levels if cls.pyramid else (inputs.deepest,)

    def _build(self, groups: int, d_w: int) -> None:
        """Build encoder and Group Attention."""
        if self.encodes:
            self.encoder = ML2PEncoder(ChannelAttention(groups, d_w), d_w)
        if self.attends:
            self.group_attention = GroupAttention(d_w, linear)

    def _scale_start(self) -> None:
        """Set initial values that keep eq. 1-7 and give scores of order 1: see "Scaling" in docs/decisions.md."""
        d_w = self.inputs.d_w
        # F_a has entries of order d_w^-1/2 and so cells of norm 1
        self.projection.project[1].get_parameter("weight").fill_(d_w**-0.5)
        if isinstance(self.standardise, StandardisedGroups):
            self.standardise.norm.weight.fill_(d_w**-0.5)
        if isinstance(self.standardise, ScaledGroups):
            self.standardise.scale.fill_(SCALAR * d_w**-0.5)
        if self.encodes:
            attention, mixer = self.encoder.attention, self.encoder.mixer
            # K Q sums over the positions; it starts of order 1, a softmax that is alive
            attention.get_parameter("weight")[:, :, 1] /= SIDE
            for perceptron in (mixer.mlp1, mixer.mlp2):
                perceptron[-1].get_parameter("weight").zero_()
                perceptron[-1].get_parameter("bias").zero_()
        if self.attends:
            for projection in (self.group_attention.query, self.group_attention.key):
                # S_i starts as x_i plus what the other groups have in common with it
                nn.init.eye_(projection.get_parameter("weight"))

    def cells(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Return M (batch, g, 49, d_w), or F_a in a method without an encoder."""
        groups: Tensor = self.projection(arrays)
        return self.encoder.cells(groups) if self.encodes else groups

    def finished(self, x: Tensor) -> Tensor:
        """Turn the maxima over the positions (batch, g, d_w) into X."""
        finished: Tensor = self.dropout(self.standardise(x))
        return finished

    def group_vectors(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Return X (batch, g, d_w), the input of Group Attention."""
        return self.finished(self.cells(arrays).amax(dim=-2))

    def relations(self, x: Tensor) -> Tensor:
        """Return (batch, g, g): how much of every group goes into S."""
        if self.attends:
            return self.group_attention.relations(x)
        return torch.eye(x.shape[1], dtype=x.dtype, device=x.device).expand(len(x), -1, -1)

    def forward(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Return S (batch, g, d_w), eq. 7."""
        x = self.group_vectors(arrays)
        return self.group_attention(x) if self.attends else x

    def scores(self, embedding: Tensor, vectors: Tensor) -> Tensor:
        """Return score_c = max over the groups of S v_c (inside eq. 8)."""
        return inner_products(embedding, vectors).amax(dim=1)

    def loss(self, embedding: Tensor, scores: Tensor, labels: Tensor, vectors: Tensor) -> dict[str, Tensor]:
        """Return the loss of eq. 12 and its parts (eq. 8-11).

        omega weighs an image; where a class ranks the images (`across`), it weighs the pairs that the image wins.
        """
        omega = OMEGAS[self.options.omega](labels, vectors)
        rank = self.objective(scores, labels, omega)
        return c3_loss(embedding, rank, self.options.lambda_reg, self.objective.usable(labels))

    def stages(self, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the maximum of F_a over the positions, and X."""
        if not self.encodes:
            return {}
        before, after = self.projection(arrays).amax(dim=-2), self.group_vectors(arrays)
        return {"without the encoder": before.flatten(1), "with the encoder": after.flatten(1)}

    def responses(self, arrays: Mapping[str, Tensor], vectors: Tensor) -> Tensor:
        """Return the exact share of every position in the score of every class.

        The score of a class is that of one group, a sum over groups j and dimensions d of (Q K^T)_j X_jd v_d. X_jd is
        the maximum at one position, and the term belongs to that position.
        """
        cells = self.cells(arrays)
        x, position = self.finished(cells.amax(dim=-2)), cells.argmax(dim=-2)
        relations = self.relations(x)
        winner = ((relations @ x) @ vectors.T).argmax(dim=1)  # (batch, classes)
        weights = relations.gather(1, winner[:, :, None].expand(-1, -1, relations.shape[2]))  # (batch, classes, g)
        terms = weights[..., None] * x[:, None] * vectors[None, :, None]  # (batch, classes, g, d_w)
        shares = terms.new_zeros(*winner.shape, cells.shape[2])
        shares.scatter_add_(2, position.flatten(1)[:, None].expand(-1, len(vectors), -1), terms.flatten(2))
        return torch.unflatten(shares, 2, (SIDE, SIDE))
