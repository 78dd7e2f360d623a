"""Groups of one method -> the one whose settings the validation split chooses. Never by what test says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from ...train.run_folder import Run, evaluate_command, read_metrics
from ..protocol import Protocol
from .groups import Group, Pair, in_words, set_apart


@dataclass(frozen=True)
class Choice:
    """The settings of one method that were tried on the same features, in order of their first run.

    `scores` are seen-class mAP on val, in percent, the mean over the runs (seed and draw) that all settings have; they
    are empty where these were not all measured on val. A choice of one group needs no score.
    """

    tried: tuple[Group, ...]
    scores: tuple[float, ...]

    @property
    def chosen(self) -> Group | None:
        """Return the group with the best score, the first of equals; None where nothing can be chosen."""
        if len(self.tried) == 1:
            return self.tried[0]
        if not self.scores:
            return None
        return self.tried[self.scores.index(max(self.scores))]

    def note(self) -> str:
        """Return what was tried and how one was chosen, as it follows the title of the method."""
        count = f": {len(self.tried)} settings were tried"
        if self.chosen is None:
            first = self.tried[0].runs[0].path
            return (
                f"{count}, and all are shown: they have no run in common that is measured on val, so none is chosen "
                f"and none can be the best of a column; measure them: {evaluate_command(first, 'val')}"
            )
        ranked = sorted(zip(self.scores, self.tried, strict=True), key=lambda pair: -pair[0])
        (best, first_group), *others = ranked
        told = "; ".join(f"{in_words(group.apart)}: {score:.1f}" for score, group in others)
        return (
            f"{count}; mAP of the seen classes on val chose {in_words(first_group.apart)} ({best:.1f}) over {told}. "
            "--all-settings shows all"
        )


def choices(groups: Sequence[Group], protocol: Protocol) -> list[Choice]:
    """Return a choice for every method and features, in order of their first group."""
    families: dict[tuple[str, ...], list[Group]] = {}
    for group in groups:
        run = group.runs[0]
        made = run.record.features
        key = group.method, run.record.first_features, made.backbone, made.weights_title
        families.setdefault(key, []).append(group)
    return [Choice(tuple(set_apart(family)), _scores(family, protocol)) for family in families.values()]


def _scores(family: Sequence[Group], protocol: Protocol) -> tuple[float, ...]:
    if len(family) == 1:
        return ()
    measured = [
        {pair: score for pair, run in group.by_pair.items() if (score := _score(run, protocol)) is not None}
        for group in family
    ]
    shared: set[Pair] = set.intersection(*map(set, measured))
    return tuple(mean(scores[pair] for pair in shared) for scores in measured) if shared else ()


def _score(run: Run, protocol: Protocol) -> float | None:
    """Return mAP of the seen classes on val: it reads no label of an unseen class."""
    metrics = read_metrics(run.path, "val")
    results = metrics.protocols.get(protocol.name) if metrics else None
    return results.value("seen", "mAP") if results else None
