"""CNN-RNN (Wang et al., CVPR 2016): an LSTM predicts the labels of a picture one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..settings import Count, Settings
from .base import Inputs, inner_products
from .losses import mean_over
from .picture_vector import PictureMethod

FLOOR = -100.0  # the smallest log-probability of a label in a beam; labels outside all beams score below it


@dataclass(frozen=True)
class CNNRNNOptions(Settings):
    """Widths of label embedding and LSTM; `beam` sequences kept in the search, of at most `steps` labels each.

    There is no `objective`: the loss is the likelihood of a sequence of labels, not a function of class scores.
    """

    label_width: Count = 64
    hidden: Count = 512
    beam: Count = 3
    steps: Count = 10


class CNNRNN(PictureMethod):
    """`cnn-rnn`: p(next label | labels so far, x) = softmax(E relu(P_o o + P_x x)), o of an LSTM over the labels.

    E (trained classes + 1, label_width) embeds the labels at the input and scores them at the output; its last row
    stands for the start and for the end of a sequence. Labels already in the sequence are left out of the softmax.
    `frequency` counts the positives seen in training: the labels of a picture are taught most frequent first.
    """

    Options = CNNRNNOptions
    options: CNNRNNOptions
    frequency: Tensor
    zero_shot = False

    def __init__(self, inputs: Inputs, options: CNNRNNOptions) -> None:
        super().__init__(inputs, options)
        width, self.bound = options.label_width, inputs.classes
        self.from_picture = nn.Linear(self.picture.width, width)
        self.from_labels = nn.Linear(options.hidden, width, bias=False)
        self.lstm = nn.LSTMCell(width, options.hidden)
        self.labels = nn.Parameter(torch.randn(inputs.classes + 1, width) * width**-0.5)
        self.register_buffer("frequency", torch.zeros(inputs.classes, dtype=torch.int64))

    def forward(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Return P_x x (batch, label_width)."""
        projected: Tensor = self.from_picture(self.picture(arrays))
        return projected

    @torch.no_grad()
    def scores(self, embedding: Tensor, vectors: Tensor) -> Tensor:
        """Return the best log-probability of a sequence in the beam that ends with the label.

        A label outside all beams gets FLOOR + its log-probability as the first label, below all labels in beams. In
        training, where scores are not used, every label gets its log-probability as the first label.
        """
        with torch.autocast(embedding.device.type, enabled=False):
            embedding = embedding.to(self.labels.dtype)
            hidden, _ = self._read(self._start(embedding), None)
            alone = self._next(embedding, hidden, self._all_open(embedding))[:, : self.bound]
            if self.training:
                return alone
            found = self._search(embedding)
        return torch.where(found > -torch.inf, found.clamp(min=FLOOR), FLOOR + alone)

    def loss(self, embedding: Tensor, scores: Tensor, labels: Tensor, vectors: Tensor) -> dict[str, Tensor]:
        """Return the mean of -log p over the labels of a picture, frequent ones first, and the end (teacher forcing).

        Labels that are unknown in a picture are left out of its softmax.
        """
        positive = labels > 0
        if self.training:
            self.frequency += positive.sum(dim=0)
        sequence = self._in_order(positive)
        closed = self._all_open(embedding)
        closed[:, : self.bound] = labels == 0
        state: tuple[Tensor, Tensor] | None = None
        last, total = self._start(embedding), embedding.new_zeros(len(embedding))
        for step, target in enumerate(sequence.T):
            state = self._read(last, state)
            likelihood = self._next(embedding, state[0], closed).gather(1, target[:, None]).squeeze(1)
            total = total - likelihood * (step <= positive.sum(dim=1))
            last, closed = target, self._closed_after(closed, target)
        return {"loss": mean_over(total / (positive.sum(dim=1) + 1), (labels != 0).any(dim=1))}

    def _in_order(self, positive: Tensor) -> Tensor:
        """Return the labels of each picture, frequent ones first, then `bound`: (batch, most labels of a picture + 1).

        positive is (batch, trained classes) bool.
        """
        rank = self.frequency.argsort(descending=True, stable=True).argsort()
        place = torch.where(positive, rank, self.bound)
        order = place.argsort(dim=1, stable=True)
        named = torch.where(place.gather(1, order) < self.bound, order, self.bound)
        named = torch.cat([named, torch.full_like(named[:, :1], self.bound)], dim=1)
        return named[:, : int(positive.sum(dim=1).max()) + 1]

    def _search(self, embedding: Tensor) -> Tensor:
        """Return (batch, trained classes): the best log-probability of a sequence in the beam that ends with the label.

        -inf for a label that was in no beam. A sequence that has ended keeps its place in the beam.
        """
        batch, beam = len(embedding), self.options.beam
        rows = embedding.repeat_interleave(beam, dim=0)
        state: tuple[Tensor, Tensor] | None = None
        last, closed = self._start(rows), self._all_open(rows)
        total = embedding.new_full((batch, beam), -torch.inf)
        total[:, 0] = 0  # all sequences of a beam start alike
        ended = torch.zeros_like(total, dtype=torch.bool)
        best = embedding.new_full((batch, self.bound + 1), -torch.inf)
        for _ in range(self.options.steps):
            hidden, cell = self._read(last, state)
            further = torch.unflatten(self._next(rows, hidden, closed), 0, (batch, beam))
            further.masked_fill_(ended[..., None], -torch.inf)
            further[..., self.bound].masked_fill_(ended, 0)
            total, chosen = (total[..., None] + further).flatten(1).topk(beam, dim=1)
            parent, label = chosen // (self.bound + 1), chosen % (self.bound + 1)
            best.scatter_reduce_(1, label, total, "amax")
            ended = label == self.bound
            row = (parent + beam * torch.arange(batch, device=parent.device)[:, None]).flatten()
            last, state = label.flatten(), (hidden[row], cell[row])
            closed = self._closed_after(closed[row], last)
        return best[:, : self.bound]

    def _start(self, embedding: Tensor) -> Tensor:
        return torch.full((len(embedding),), self.bound, device=embedding.device)

    def _all_open(self, embedding: Tensor) -> Tensor:
        """Return (batch, trained classes + 1) bool, the labels that cannot come next: none yet."""
        return torch.zeros(len(embedding), self.bound + 1, dtype=torch.bool, device=embedding.device)

    def _closed_after(self, closed: Tensor, label: Tensor) -> Tensor:
        """Return `closed` with the label of every row (batch,) added; the end stays open."""
        closed = closed.scatter(1, label[:, None], True)
        closed[:, self.bound] = False
        return closed

    def _read(self, label: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """Return the LSTM after one more label (batch,): o and its memory, each (batch, hidden)."""
        after: tuple[Tensor, Tensor] = self.lstm(self.labels[label], state)
        return after

    def _next(self, embedding: Tensor, hidden: Tensor, closed: Tensor) -> Tensor:
        """Return log p of every label and of the end, (batch, trained classes + 1); -inf where `closed`."""
        joint: Tensor = (self.from_labels(hidden) + embedding).relu()
        return inner_products(joint, self.labels).masked_fill(closed, -torch.inf).log_softmax(dim=1)
