"""ML-Decoder (Ridnik et al., WACV 2023) in its zero-shot form: every class attends to the positions of a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from ..settings import BelowOne, Count
from .base import Inputs, Method, MethodOptions, ObjectiveName, inner_products, require_heads
from .regions import Regions, as_cells

QUERIES_AT_ONCE = 16_384  # (image, class) pairs decoded together when no gradient is needed


@dataclass(frozen=True)
class MLDecoderOptions(MethodOptions):
    """Width of tokens and queries, attention heads, hidden width of the feed-forward part, dropout."""

    objective: ObjectiveName = "asl"
    width: Count = 768
    heads: Count = 8
    hidden: Count = 2048
    dropout: BelowOne = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_heads(self.width, self.heads)


class DecoderLayer(nn.Module):
    """A transformer decoder layer without self-attention: queries (classes, width) read tokens (batch, n, width).

    x = norm(q), x = norm(x + attention(x, tokens)), x = norm(x + FF(x)), with dropout on the attention weights, inside
    FF and before both sums. The first norm is all that remains of the self-attention.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)
        self.merge = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, width)
        )
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def read(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values of the tokens, each (batch, heads, n, width / heads)."""
        return self._headed(self.key(tokens)), self._headed(self.value(tokens))

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Decode queries (classes, width) with the keys and values of `read` to (batch, classes, width)."""
        x = self.norm1(queries)
        asked = self._headed(self.query(x)[None]).expand(len(keys), -1, -1, -1)  # the same for every image
        dropped = self.dropout.p if self.training else 0.0
        answers = scaled_dot_product_attention(asked, keys, values, dropout_p=dropped)
        x = self.norm2(x + self.dropout(self.merge(answers.transpose(1, 2).flatten(2))))
        decoded: Tensor = self.norm3(x + self.dropout(self.feed_forward(x)))
        return decoded

    def _headed(self, rows: Tensor) -> Tensor:
        return torch.unflatten(rows, -1, (self.heads, -1)).transpose(1, 2)


class MLDecoder(Method[Tensor]):
    """`ml-decoder`: tokens from cells, queries from word vectors, one decoder layer, one output for all classes.

    The output has no bias: losses of log-odds have a learnt offset already (objectives.py), and rankings need none.
    """

    Options = MLDecoderOptions
    options: MLDecoderOptions
    reads = staticmethod(Regions.reads)

    def __init__(self, inputs: Inputs, options: MLDecoderOptions) -> None:
        super().__init__(inputs, options)
        self.regions = Regions(inputs)
        self.token = nn.Sequential(nn.Linear(self.regions.channels, options.width), nn.ReLU())
        self.question = nn.Sequential(nn.Linear(inputs.d_w, options.width), nn.ReLU())
        self.layer = DecoderLayer(options.width, options.heads, options.hidden, options.dropout)
        self.output = nn.Linear(options.width, 1, bias=False)

    def forward(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Return tokens (batch, positions, width)."""
        tokens: Tensor = self.token(as_cells(self.regions(arrays)))
        return tokens

    def scores(self, embedding: Tensor, vectors: Tensor) -> Tensor:
        """Return class scores (batch, classes), before the offset that makes them log-odds.

        Without gradients, classes are decoded in blocks: 48 images and 7,586 classes then need less than 2 GiB at the
        default width. With gradients, all classes are decoded at once.
        """
        keys, values = self.layer.read(embedding)
        block = len(vectors) if torch.is_grad_enabled() else max(QUERIES_AT_ONCE // len(embedding), 1)
        decoded = (self.layer(self.question(part), keys, values) for part in torch.split(vectors, block))
        return torch.cat([inner_products(x, self.output.weight).squeeze(-1) for x in decoded], dim=1)
