"""Rows of a table -> differences to one method, run by run: the same seed and the same draw of the hidden classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from statistics import mean, stdev

import pandas as pd

from .block import Block
from .groups import Group, Pair, counted, draw_of, spans

LEVEL = 0.95  # of the t interval over draws
FIELDS = ("mean", "relative", "low", "high", "pairs", "smallest", "largest")


@dataclass(frozen=True)
class Difference:
    """A row less the reference in one metric, over pairs of runs of equal seed and draw; NaN where it is unknown.

    mean, smallest and largest are in points, relative is the mean in percent of the mean of the reference. low and high
    are the ends of a t interval over draws. Seeds of one draw are averaged first, because the draw is what was sampled.
    """

    mean: float = float("nan")
    relative: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    pairs: float = float("nan")
    smallest: float = float("nan")
    largest: float = float("nan")


def difference(values: dict[Pair, float], reference: dict[Pair, float]) -> Difference:
    """Return the paired difference of two rows, each with a value in percent by draw and seed."""
    shared = [pair for pair in values if pair in reference]
    if not shared:
        return Difference()
    found = {pair: values[pair] - reference[pair] for pair in shared}
    by_draw = [[pair for pair in shared if pair[0] == draw] for draw in dict.fromkeys(pair[0] for pair in shared)]
    means = [mean(found[pair] for pair in pairs) for pairs in by_draw]
    middle, scale = mean(means), mean(mean(reference[pair] for pair in pairs) for pairs in by_draw)
    relative = 100 * middle / scale if scale else float("nan")
    ends = _interval(means)
    return Difference(middle, relative, *ends, len(shared), min(found.values()), max(found.values()))


def _interval(means: Sequence[float]) -> tuple[float, float]:
    """Return the t interval of the mean over draws, of the mean differences of the draws; NaN with fewer than two."""
    if len(means) < 2:
        return float("nan"), float("nan")
    from scipy.special import stdtrit

    half = float(stdtrit(len(means) - 1, 0.5 + LEVEL / 2)) * stdev(means) / len(means) ** 0.5
    return mean(means) - half, mean(means) + half


def paired(block: Block, tasks: dict[str, str]) -> pd.DataFrame | None:
    """Return every row less the reference that `--against` names: a frame as that of a table, with these FIELDS.

    `tasks` are the tasks and their titles. A row is compared with the reference on the same features; None where there
    is none.
    """
    rows, index = [], []
    for group in block.groups:
        if (reference := reference_of(block, group)) is None:
            continue
        for task, title in tasks.items():
            index.append((block.label(group), title))
            found = [
                difference(_values(group, block, task, name), _values(reference, block, task, name))
                for name in block.layout.metrics
            ]
            rows.append([value for part in found for value in astuple(part)])
    if not rows:
        return None
    columns = pd.MultiIndex.from_product([block.layout.metrics, FIELDS], names=["metric", "field"])
    return pd.DataFrame(rows, pd.MultiIndex.from_tuples(index, names=["Method", "Task"]), columns, dtype=float)


def reference_of(block: Block, group: Group) -> Group | None:
    """Return the row that a row is compared with; None for the reference itself, and where none has its features."""
    features = group.runs[0].record.first_features
    rivals = [
        other
        for other in block.ranked
        if other.method == block.shown.against and other.runs[0].record.first_features == features
    ]
    return rivals[0] if rivals and rivals[0].runs != group.runs else None


def unpaired(block: Block) -> Iterator[str]:
    """Say which rows are not compared, because the reference has no run on their features."""
    against = block.shown.against
    alone = [group for group in block.groups if group.method != against and reference_of(block, group) is None]
    if against and alone:
        names, title = ", ".join(map(block.label, alone)), block.title(against)
        if any(group.method == against for group in block.groups) and not any(
            group.method == against for group in block.ranked
        ):
            yield f"Not compared with {title}, none of whose settings is chosen (measure them on val): {names}."
        else:
            yield f"Not compared with {title}, which has no run on their features: {names}."


def paired_notes(block: Block) -> Iterator[str]:
    """Say what the differences are made of."""
    yield (
        "Differences are those of runs of equal seed and draw, in points: their mean, the mean in percent of the "
        "reference, and the smallest and the largest."
    )
    if not block.draws:
        yield (
            "There is one split of the classes, so there is no interval over splits; c3 compare RUN RUN gives a paired "
            "bootstrap interval over images."
        )
        return
    yield (
        f"In brackets: {100 * LEVEL:.0f} % t interval over draws of the hidden classes, each draw's seeds averaged "
        "first. The images are the same in all draws."
    )
    for group in block.groups:
        if reference := reference_of(block, group):
            shared = [pair for pair in group.by_pair if pair in reference.by_pair]
            draws = sorted({pair[0] for pair in shared if pair[0] is not None})
            if len(shared) < max(len(group.runs), len(reference.runs)):
                of_draws = f", of draws {spans(draws)}" if draws else ""
                yield f"{block.label(group)}: {counted(len(shared), 'pair')} only{of_draws}."


def _values(group: Group, block: Block, task: str, metric: str) -> dict[Pair, float]:
    found: dict[Pair, float] = {}
    for run in group.runs:
        value = run.metrics.protocols[block.protocol.name].value(task, metric) if run.metrics else None
        if value is not None:
            found[draw_of(run), run.seed] = float(value)
    return found
