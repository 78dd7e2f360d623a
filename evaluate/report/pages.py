"""FRONT DOOR of pictures: figures 1 and 3 to 7 as files, and the whole report as one page."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ...common.errors import C3Error
from ...common.files import unwritable, write_text
from ...train.names import LABEL_MAPS
from ...train.run_folder import Run, require_output, write_lines
from . import series
from .groups import draw_of
from .run import measured_runs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .explain import Comparison, Example

LOG = logging.getLogger(__name__)
EXAMPLES = 8
EVERY_TABLE = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class FigureOptions:
    """The folder of runs, the folder for figures, the new place of moved photographs, the device, and what maps show.

    `maps` is one of `LABEL_MAPS`; `classes` are those of figure 1, by default chosen from the data.
    """

    runs: Path = Path("runs")
    out: Path = Path("figures")
    images: Path | None = None
    device: str = "auto"
    maps: str = LABEL_MAPS[0]
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Picture:
    """A figure under its number in the paper, and its data: columns and lines of csv files by the end of their name."""

    name: str
    figure: Figure
    tables: Mapping[str, tuple[Sequence[str], Sequence[Sequence[object]]]] = field(default_factory=dict)


def draw(numbers: Sequence[int], options: FigureOptions) -> Iterator[str]:
    """Write figures of every data set with runs, as png and svg, and yield a line for each.

    A figure that cannot be drawn is a warning that says what is missing, and the others are drawn. Raises C3Error where
    there are no runs, where no figure at all can be drawn, and where the folder cannot be written.
    """
    if not numbers:
        return
    if fault := unwritable(options.out):  # before what may take minutes
        raise C3Error(f"figures cannot be written to {options.out}: {fault}; choose another folder with --out")
    drawn, problems = 0, []
    for dataset, runs in runs_by_dataset(options.runs).items():
        for number in numbers:
            for make in FIGURES[number]:
                try:
                    picture = make(dataset, runs, options)
                except C3Error as error:
                    problems.append(f"figure {number} of {dataset} is not drawn: {error}")
                    continue
                if picture:
                    paths = _write(picture, dataset, options)
                    yield f"figure {picture.name} of {dataset}: {', '.join(map(str, paths))}"
                    drawn += 1
    for problem in problems if drawn else problems[1:]:
        LOG.warning("%s", problem)
    if problems and not drawn:
        raise C3Error(problems[0])


def _profiles(dataset: str, runs: Sequence[Run], options: FigureOptions) -> Picture:
    from .figures import draw_profiles
    from .profiles import profiles

    run = series.chosen_run(runs)
    shown = profiles(run, options.classes, options.device)
    title = f"Responses of channels to classes, {dataset} test images, {run.id}"
    return Picture("1", draw_profiles(shown, title), shown.tables())


def _embedding(dataset: str, runs: Sequence[Run], options: FigureOptions) -> Picture:
    from .explain import embedding
    from .figures import draw_embedding

    run = series.chosen_run(runs)
    return Picture("3", draw_embedding(embedding(run, options.device), f"t-SNE of {dataset} test images, {run.id}"))


def _curves(dataset: str, runs: Sequence[Run], options: FigureOptions) -> Picture:  # noqa: ARG001
    from .figures import draw_curves

    return Picture("4", draw_curves(series.curves(runs), f"mAP on {dataset} test images"))


def _costs(dataset: str, runs: Sequence[Run], options: FigureOptions) -> Picture:  # noqa: ARG001
    from .figures import draw_costs

    costs = series.costs(runs)
    devices = ", ".join(dict.fromkeys(cost.device for cost in costs))
    return Picture("5", draw_costs(costs, f"{dataset} test images, scored on {devices}"))


def _examples(dataset: str, runs: Sequence[Run], options: FigureOptions) -> Picture:
    from .explain import examples
    from .figures import draw_examples

    run = series.chosen_run(runs)
    found = examples(run, EXAMPLES // 2, options.device, options.images, maps=options.maps)
    _require_photographs(found)
    if all(label.response is None for example in found for label in example.unseen + example.seen):
        raise C3Error(f"method {run.method} of run {run.id} has no map of the kind {options.maps}")
    title = f"Where labels come from, {run.id} on {dataset} test images"
    return Picture("6", draw_examples(found, title, options.maps))


def _require_photographs(found: Sequence[Example | Comparison]) -> None:
    """Refuse pictures of which a photograph is missing: maps over nothing explain nothing."""
    if missing := [shown.image_id for shown in found if shown.pixels is None]:
        raise C3Error(f"the photograph {missing[0]} was not found; say where they are: --images FOLDER")


def _comparisons(dataset: str, runs: Sequence[Run], options: FigureOptions) -> Picture | None:
    from .explain import comparisons
    from .figures import draw_comparisons

    rivals = series.rivals(runs)
    if len(rivals) < 2:
        return None
    found = comparisons(rivals, EXAMPLES // 2, options.device, options.images, maps=options.maps)
    _require_photographs(found)
    title = f"Where methods see the same label, {dataset} test images"
    return Picture("6b", draw_comparisons(found, title, options.maps))


def _reliability(dataset: str, runs: Sequence[Run], options: FigureOptions) -> Picture:  # noqa: ARG001
    from .figures import draw_reliability
    from .reliability import diagram

    found = diagram(runs)
    title = f"Whether probabilities are right, {dataset}, {found.run.id}"
    return Picture("7", draw_reliability(found, title), found.tables())


# How to draw every figure; what returns nothing has nothing to show, which is no fault.
FIGURES: dict[int, tuple[Callable[[str, Sequence[Run], FigureOptions], Picture | None], ...]] = {
    1: (_profiles,), 3: (_embedding,), 4: (_curves,), 5: (_costs,), 6: (_examples, _comparisons),
    7: (_reliability,),
}  # fmt: skip


def _write(picture: Picture, dataset: str, options: FigureOptions) -> list[Path]:
    """Write a picture as png and svg, and its tables as csv."""
    from .figures import save

    name = f"figure-{picture.name}-{dataset}"
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        paths = save(picture.figure, options.out, name)
        for suffix, (columns, lines) in picture.tables.items():
            paths.append(options.out / f"{name}{suffix}.csv")
            write_lines(paths[-1], columns, lines)
    except OSError as error:
        raise C3Error(f"cannot write figure {picture.name} to {options.out}: {error.strerror}") from error
    return paths


def runs_by_dataset(root: Path) -> dict[str, list[Run]]:
    """Return the finished and measured runs below a folder, by data set. Raises C3Error where there is none.

    Runs whose hidden classes were drawn are left out beside runs on the store's own split: their classes differ.
    """
    runs, problems = measured_runs(root, EVERY_TABLE)
    found: dict[str, list[Run]] = {}
    for run in series.measured(runs):
        found.setdefault(run.dataset, []).append(run)
    for dataset, own in found.items():
        found[dataset] = [run for run in own if draw_of(run) is None] or own
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

    require_output(path, "--html", made=True)  # before what may take minutes
    by_dataset = runs_by_dataset(options.runs)
    text = page(report_tables(EVERY_TABLE, options.runs), by_dataset, options.device, options.images, options.maps)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError as error:
        raise C3Error(f"cannot write {path}: {error.strerror}") from error
    count = sum(map(len, by_dataset.values()))
    return f"{path}: {len(text) / 1e6:.1f} MB, {count} runs on {', '.join(by_dataset)}"
