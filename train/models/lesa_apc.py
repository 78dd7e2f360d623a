"""Attention per Cluster (a baseline of LESA's paper): labels with similar word vectors share an attention map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from sklearn.cluster import KMeans
from torch import Tensor

from ..settings import Count
from .base import Inputs, Method, MethodOptions, ObjectiveName, inner_products
from .lesa import SharedAttention
from .regions import Regions, as_maps

SEED = 0  # of k-means: the clusters are the same for every seed of the training


@dataclass(frozen=True)
class ApcOptions(MethodOptions):
    """M clusters (no more than there are trained classes), the width of convolution and attention."""

    objective: ObjectiveName = "hinge"
    clusters: Count = 10
    width: Count = 512


class AttentionPerCluster(Method[Tensor]):
    """`lesa-apc`: s_c = z_m W v_c, m the cluster whose centroid is nearest to v_c, seen or unseen."""

    Options = ApcOptions
    options: ApcOptions
    reads = staticmethod(Regions.reads)
    centroids: Tensor

    def __init__(self, inputs: Inputs, options: ApcOptions) -> None:
        super().__init__(inputs, options)
        clusters = min(options.clusters, inputs.classes)
        self.shared = SharedAttention(inputs, options.width, clusters, bias=False)  # a bias cancels in the softmax
        self.register_buffer("centroids", torch.zeros(clusters, inputs.d_w))

    def prepare(self, vectors: Tensor) -> None:
        """Cluster the trained classes by k-means."""
        super().prepare(vectors)
        found = KMeans(len(self.centroids), n_init=10, random_state=SEED).fit_predict(vectors.double().numpy())
        # the last bits of the means that k-means returns depend on its threads
        for number, centroid in enumerate(self.centroids):
            centroid.copy_(vectors[torch.from_numpy(found == number)].mean(dim=0))

    def clusters_of(self, vectors: Tensor) -> Tensor:
        """Return the cluster of every class, (classes,)."""
        wide, centroids = vectors.double(), self.centroids.double()  # ONNX has no exact cdist; this loses no digits
        return (centroids.square().sum(dim=1) - 2 * wide @ centroids.T).argmin(dim=1)  # |v - m|^2 - |v|^2

    def forward(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Return what every attention map sees (batch, M, d_w)."""
        return self.shared.attended(*self.shared(arrays))

    def scores(self, embedding: Tensor, vectors: Tensor) -> Tensor:
        return self.compare(embedding, vectors)

    def compare(self, condensed: Tensor, vectors: Tensor) -> Tensor:
        every = inner_products(condensed, vectors)  # (batch, M, classes)
        return every[:, self.clusters_of(vectors), torch.arange(vectors.shape[0], device=vectors.device)]

    def responses(self, arrays: Mapping[str, Tensor], vectors: Tensor) -> Tensor:
        """Return the share of every position in the attention map of a class."""
        cells, logits = self.shared(arrays)
        attention = logits.softmax(dim=1)[:, :, self.clusters_of(vectors)]
        return as_maps(attention * inner_products(self.shared.project(cells), vectors), self.shared.side)
