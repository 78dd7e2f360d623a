"""The floors of a table: what scores reach that see no image, averaged over draws as the rows are."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean, stdev

from .block import Block
from .groups import Summary, draw_of

FLOORS = {"random": "random scores", "frequency": "label frequency"}
Values = Mapping[tuple[str, str], Summary]  # by task and metric


def floors(block: Block, name: str) -> list[tuple[tuple[str, ...], Values]]:
    """Return the values of one of FLOORS, with the digests of the stores that have them: stores may differ.

    A draw counts once, whatever the number of its runs.
    """
    stores: dict[str, dict[int | None, dict[tuple[str, str], float]]] = {}
    for run, results in block.results:
        reached = results.random if name == "random" else results.frequency
        stores.setdefault(run.record.features.digest[:8], {})[draw_of(run)] = {
            (task, metric): float(value)
            for task in block.layout.tasks
            for metric in block.layout.metrics
            if (value := (reached.get(task) or {}).get(metric)) is not None
        }
    found: list[tuple[tuple[str, ...], Values]] = []
    for digest, draws in stores.items():
        values = _averaged(list(draws.values()))
        same = next((place for place, (_, others) in enumerate(found) if repr(others) == repr(values)), None)
        if same is None:
            found.append(((digest,), values))
        else:
            found[same] = (*found[same][0], digest), values
    return found


def _averaged(draws: list[dict[tuple[str, str], float]]) -> Values:
    """Return the mean over draws, with a spread where there are several."""
    keys = [key for key in draws[0] if all(key in draw for draw in draws)]
    series = {key: [draw[key] for draw in draws] for key in keys}
    return {key: Summary(mean(part), stdev(part) if len(part) > 1 else float("nan")) for key, part in series.items()}
