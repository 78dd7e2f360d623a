"""FRONT DOOR of pictures: figures 3 to 6 as files, and the whole report as one page."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...common.errors import C3Error
from ...common.files import write_text
from ...train.run_folder import Run
from .run import measured_runs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOG = logging.getLogger(__name__)
EXAMPLES = 8
EVERY_TABLE = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class FigureOptions:
    """The folder of runs, the folder for figures, the new place of moved photographs, and the device."""

    runs: Path = Path("runs")
    out: Path = Path("figures")
    images: Path | None = None
    device: str = "auto"


def draw(numbers: Sequence[int], options: FigureOptions) -> Iterator[str]:
    """Write figures of every data set with runs, as png and svg, and yield a line for each.

    A figure that cannot be drawn is a warning that says what is missing, and the others are drawn. Raises C3Error where
    there are no runs, where no figure at all can be drawn, and where the folder cannot be written.
    """
    if not numbers:
        return
    from .figures import save

    drawn, problems = 0, []
    for dataset, runs in runs_by_dataset(options.runs).items():
        for number in numbers:
            try:
                figure = make_figure(number, dataset, runs, options)
            except C3Error as error:
                problems.append(f"figure {number} of {dataset} is not drawn: {error}")
                continue
            try:
                options.out.mkdir(parents=True, exist_ok=True)
                paths = save(figure, options.out, f"figure-{number}-{dataset}")
            except OSError as error:
                raise C3Error(f"cannot write figure {number} to {options.out}: {error.strerror}") from error
            drawn += 1
            yield f"figure {number} of {dataset}: {', '.join(map(str, paths))}"
    for problem in problems if drawn else problems[1:]:
        LOG.warning("%s", problem)
    if problems and not drawn:
        raise C3Error(problems[0])


def make_figure(number: int, dataset: str, runs: Sequence[Run], options: FigureOptions) -> Figure:
    """Draw one figure of the paper from the runs of one data set."""
    from . import explain, figures, series

    if number == 3:
        run = series.chosen_run(runs)
        title = f"t-SNE of {dataset} test images, {run.id}"
        return figures.draw_embedding(explain.embedding(run, options.device), title)
    if number == 4:
        return figures.draw_curves(series.curves(runs), f"mAP on {dataset} test images")
    if number == 5:
        shown = series.costs(runs)
        devices = ", ".join(dict.fromkeys(cost.device for cost in shown))
        return figures.draw_costs(shown, f"{dataset} test images, scored on {devices}")
    run = series.chosen_run(runs)
    found = explain.examples(run, EXAMPLES // 2, options.device, options.images)
    if missing := [example.image_id for example in found if example.pixels is None]:
        raise C3Error(f"the photograph {missing[0]} was not found; say where they are: --images FOLDER")
    if all(label.response is None for example in found for label in example.unseen + example.seen):
        raise C3Error(f"method {run.method} keeps no track of positions; train one of: c3, c3-released")
    return figures.draw_examples(found, f"Where labels come from, {run.id} on {dataset} test images")


def runs_by_dataset(root: Path) -> dict[str, list[Run]]:
    """Return the finished and measured runs below a folder, by data set. Raises C3Error where there is none."""
    from .series import measured

    runs, problems = measured_runs(root, EVERY_TABLE)
    found: dict[str, list[Run]] = {}
    for run in measured(runs):
        found.setdefault(run.dataset, []).append(run)
    if not found:
        reason = next(iter(problems.values()), "train one with: c3 train --cache features.zarr")
        raise C3Error(f"no evaluated run below {root}; {reason}")
    return found


def write_page(path: Path, options: FigureOptions) -> str:
    """Write the whole report as one self-contained html file, and return a line about it.

    What cannot be drawn (a figure that needs other runs, photographs that have gone) is said on the page.
    """
    from .page import page
    from .run import report_tables

    by_dataset = runs_by_dataset(options.runs)
    text = page(report_tables(EVERY_TABLE, options.runs), by_dataset, options.device, options.images)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError as error:
        raise C3Error(f"cannot write {path}: {error.strerror}") from error
    count = sum(map(len, by_dataset.values()))
    return f"{path}: {len(text) / 1e6:.1f} MB, {count} runs on {', '.join(by_dataset)}"
