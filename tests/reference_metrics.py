"""Slow, literal references of the published evaluation scripts, on dense matrices, and truths made from them.

labels is (images, classes) in {+1, 0, -1}, scores (images, classes).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from c3.evaluate.evidence import Evidence, collect
from c3.evaluate.protocol import Protocol, pools_of
from c3.evaluate.truth import Truth
from c3.extract.store.tables import SparseLabels
from sklearn.metrics import average_precision_score


def truth_of(labels: np.ndarray, seen: np.ndarray, absent: int, leaky: Sequence[int] = ()) -> Truth:
    """The truth that a store would give: with `absent` -1 negatives are not listed, with 0 unknown ones are not."""
    listed = [
        (np.flatnonzero(row == 1).tolist(), [] if absent == -1 else np.flatnonzero(row == -1).tolist())
        for row in labels
    ]
    return Truth(
        ids=np.array([f"image{number}" for number in range(len(labels))]),
        labels=SparseLabels.from_lists(listed),
        absent=absent,
        names=tuple(f"class{number}" for number in range(labels.shape[1])),
        seen=seen,
        leaky=np.isin(np.arange(labels.shape[1]), leaky),
        of_row=np.arange(len(labels)),
    )


def evidence_of(truth: Truth, scores: np.ndarray, *protocols: Protocol, block: int = 7) -> Evidence:
    """Scores collected in small blocks."""
    blocks = (scores[start : start + block].astype(np.float32) for start in range(0, len(scores), block))
    every = any(protocol.absent(truth) == -1 for protocol in protocols)
    deepest = max(k for protocol in protocols for k in protocol.ks)
    return collect(truth, blocks, pools_of(protocols, truth), deepest, every)


def per_class_ap(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The loop of LESA and C3: unknown labels dropped, a class without a positive stays at 0."""
    ap = np.zeros(labels.shape[1])
    for c in range(labels.shape[1]):
        mask = np.abs(labels[:, c]) == 1
        if np.sum(labels[mask, c] == 1) == 0:
            continue
        ap[c] = average_precision_score(labels[mask, c] == 1, scores[mask, c])
    return ap


def overall_f1(labels: np.ndarray, scores: np.ndarray, k: int) -> tuple[float, float, float]:
    """The loop of LESA and C3: one total over all images, every prediction that is not a positive is wrong."""
    found = predicted = 0
    for label, score in zip(labels, scores, strict=True):
        for c in np.argsort(-score, kind="stable")[:k]:
            predicted += 1
            found += label[c] == 1
    precision, recall = found / predicted, found / (labels == 1).sum()
    return precision, recall, 2 * precision * recall / (precision + recall) if found else 0.0


def lesa(labels: np.ndarray, scores: np.ndarray, classes: np.ndarray, k: int) -> tuple[float, float]:
    """mAP over every asked class and F1@K among them, on every image (LESA; on NUS-WIDE also BiAM and C3)."""
    part, part_scores = labels[:, classes], scores[:, classes]
    return 100 * per_class_ap(part, part_scores).mean(), 100 * overall_f1(part, part_scores, k)[2]


def biam(labels: np.ndarray, scores: np.ndarray, classes: np.ndarray, k: int) -> tuple[float, float]:
    """mAP over the classes with a verified label, on images with a positive; F1@K among all asked (BiAM)."""
    part, part_scores = labels[:, classes], scores[:, classes]
    kept = (part == 1).any(axis=1)
    part, part_scores = part[kept], part_scores[kept]
    annotated = (part != 0).any(axis=0)
    ap = per_class_ap(part[:, annotated], part_scores[:, annotated])
    return 100 * ap.mean(), 100 * overall_f1(part, part_scores, k)[2]
