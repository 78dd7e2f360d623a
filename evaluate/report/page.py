"""The whole report as one self-contained html page: summary, examples, tables, figures, classes, how to reproduce."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from ...common.errors import C3Error
from ...common.version import __version__
from ...train.run_folder import Run, read_per_class
from . import explain, figures, profiles, reliability, series
from .block import TITLES
from .html import TEMPLATE, data_url, render
from .render import Table, body_of, headings_of, rows_of
from .reproduce import reproduction
from .summary import TASKS, best_on_validation, summary

Data = TypeVar("Data")
EXAMPLES = 8
COMPARED = 4  # images of figure 6b
CAPTIONS = {
    1: "Every channel's maximum over the positions, averaged over the images of a class, in standard deviations from "
    "the mean of all test images. The coloured channels respond most to two classes at once.",
    3: "Images that have exactly one of the shown classes, before the (ML)2P-Encoder (the maximum of F_a over the "
    "positions) and after it (X). The silhouette is measured before the projection.",
    4: "mAP over the number of groups g and the weight λ of the regulariser. Settings are chosen on the validation "
    "split, never by this figure. Bars are the deviation over seeds.",
    5: "What a method reaches and what scoring one image cost when it was evaluated; making the features is not "
    "included.",
    7: "Known labels in 15 bins by probability: the nearer to the diagonal, the better. The error is the mean distance "
    "over all labels, most of which are unlikely ones. Raw scores are read as probabilities, which they are not. On "
    "val, probabilities of seen classes are of images left out of the fit.",
}


def page(
    tables: Sequence[Table], datasets: Mapping[str, Sequence[Run]], device: str, images: Path | None, maps: str
) -> str:
    """Return the page as text, from its tables and the measured runs of every data set.

    The models run again on `device`, over the photographs in `images`, by default those that the stores name. Where a
    figure or an example cannot be made, the page says why.
    """
    runs = [run for group in datasets.values() for run in group]
    best = {name: best_on_validation(group) for name, group in datasets.items()}
    first = [run for run, _ in best.values()]
    per_class = [_per_class(run) for run in sorted(runs, key=lambda run: run not in first)]
    return render(
        TEMPLATE,
        "report",
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
        tasks=TASKS,
        legend=figures.LEGENDS[maps],
        heat=[to_hex(figures.HEAT(level)) for level in (0.0, 0.25, 0.5, 0.75, 1.0)],
        tables=[_table(table) for table in tables],
        datasets=[_dataset(name, group, *best[name], device, images, maps) for name, group in datasets.items()],
        runs=[reproduction(run) for run in runs],
        per_class=per_class,
        per_class_json=json.dumps(per_class, ensure_ascii=False).replace("<", "\\u003c"),
    )


def _table(table: Table) -> dict[str, Any]:
    """Return one row a method, its tasks beside one another, with the numbers that cells are sorted by."""
    names = headings_of(table)[2:]
    rows: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for (method, task, entry), shown in zip(rows_of(table.frame), body_of(table, strong="\0{}".format), strict=True):
        values = [entry[metric, field] for metric in table.metrics for field in table.fields]
        rows.setdefault(method, {})[task] = [
            {"text": text.lstrip("\0"), "value": None if math.isnan(value) else value, "best": text.startswith("\0")}
            for text, value in zip(shown[2:], values, strict=True)
        ]
    tasks = list(dict.fromkeys(task for cells in rows.values() for task in cells))
    nothing = [{"text": "-", "value": None, "best": False}] * len(names)
    return {
        "title": table.title,
        "tasks": [{"name": task, "span": len(names)} for task in tasks],
        "headings": [{"task": task, "name": name, "source": source} for task in tasks for name, source in names],
        "rows": [
            {
                "method": method,
                "part": table.sections.get(method, ""),
                "cells": [cell for task in tasks for cell in cells.get(task, nothing)],
            }
            for method, cells in rows.items()
        ],
        "notes": table.notes,
        "measured": bool(table.frame.xs("n", axis=1, level="field").notna().to_numpy().any()),
    }


def _dataset(
    name: str, runs: Sequence[Run], best: Run, why: str, device: str, images: Path | None, maps: str
) -> dict[str, Any]:
    run = series.chosen_run(runs)
    title = f"{name}, test split"
    shown = [
        _figure(f"Figure 1, {name}", CAPTIONS[1], lambda: profiles.profiles(run, (), device),
                lambda found, narrow: figures.draw_profiles(found, run.id, narrow)),
        _figure(f"Figure 3, {name}", CAPTIONS[3], lambda: explain.embedding(run, device),
                lambda found, narrow: figures.draw_embedding(found, run.id, narrow)),
        _figure(f"Figure 4, {name}", CAPTIONS[4], lambda: series.curves(runs),
                lambda found, narrow: figures.draw_curves(found, title, narrow)),
        _figure(f"Figure 5, {name}", CAPTIONS[5], lambda: series.costs(runs),
                lambda found, narrow: figures.draw_costs(found, title, narrow)),
        _figure(f"Figure 7, {name}", CAPTIONS[7], lambda: reliability.diagram(runs),
                lambda found, narrow: figures.draw_reliability(found, found.run.id, narrow)),
        _figure(f"Training loss, {name}", "One line a run, a colour a method; the losses of different methods are "
                "different functions.", lambda: series.training(runs),
                lambda found, narrow: figures.draw_training(found, name, narrow)),
    ]  # fmt: skip
    pictures, choices, compared, problem = _examples(runs, best, device, images, maps)
    return {
        "name": name, "summary": summary(runs), "figures": shown, "examples": pictures, "choices": choices,
        "best": best.id, "why": why, "compared": compared, "example_problem": problem,
    }  # fmt: skip


def _figure(
    title: str, caption: str, compute: Callable[[], Data], draw: Callable[[Data, bool], Figure]
) -> dict[str, str]:
    """Return a figure twice, for a wide page and for a phone, or why it cannot be drawn."""
    try:
        found = compute()
    except C3Error as error:
        return {"title": title, "caption": f"Not drawn: {error}", "svg": ""}
    kinds = {"wide": False, "narrow": True}
    svg = "".join(figures.inline_svg(draw(found, narrow), title, kind) for kind, narrow in kinds.items())
    return {"title": title, "caption": caption, "svg": svg}


def _examples(
    runs: Sequence[Run], best: Run, device: str, images: Path | None, maps: str
) -> tuple[list[dict[str, Any]], list[dict[str, str]], list[dict[str, Any]], str]:
    """Return the example images, the runs to choose from (the best first), figure 6b, and what went wrong.

    Every image has the labels of every run: one for each method on the store of the best run.
    """
    same = [run for run in runs if run.record.features.digest == best.record.features.digest]
    others = [group.runs[0] for method, group in series.leading(same).items() if method != best.method]
    pictures: list[dict[str, Any]] = []
    choices, problems = [], []
    for run in (best, *others):
        try:
            found = explain.examples(run, EXAMPLES, device, images, maps=maps)
        except C3Error as error:
            problems.append(str(error))
            continue
        pictures = pictures or [_picture(example) for example in found]
        choices.append({"id": run.id, "title": TITLES.get(run.method, run.method)})
        for picture, example in zip(pictures, found, strict=True):
            picture["labels"].append({"unseen": _labels(example.unseen), "seen": _labels(example.seen)})
    if pictures and not any(each["photo"] for each in pictures):
        problems.append("The photographs were not found; c3 report --images FOLDER says where they are.")
    compared: list[dict[str, Any]] = []
    try:
        compared = _compared(runs, device, images, maps)
    except C3Error as error:
        problems.append(str(error))
    return pictures, choices, compared, " ".join(dict.fromkeys(problems))


def _compared(runs: Sequence[Run], device: str, images: Path | None, maps: str) -> list[dict[str, Any]]:
    """Return figure 6b: every method's map of one true label, for some of the examples; nothing for a single method."""
    rivals = series.rivals(runs)
    if len(rivals) < 2:
        return []
    return [
        {
            "id": shown.image_id,
            "photo": None if shown.pixels is None else data_url(shown.pixels, "jpeg"),
            "label": shown.label,
            "kind": "seen" if shown.seen else "unseen",
            "classes": shown.classes,
            "views": [
                {"title": TITLES.get(view.method, view.method), "rank": view.rank, "overlay": _overlay(view.response)}
                for view in shown.views
            ],
        }
        for shown in explain.comparisons(rivals, COMPARED, device, images, maps=maps)
    ]


def _picture(example: explain.Example) -> dict[str, Any]:
    return {
        "id": example.image_id,
        "photo": None if example.pixels is None else data_url(example.pixels, "jpeg"),
        "true_unseen": example.true_unseen,
        "true_seen": example.true_seen,
        "labels": [],
    }


def _labels(predicted: Sequence[explain.Prediction]) -> list[dict[str, Any]]:
    return [
        {
            "name": label.name,
            "rank": label.rank,
            "correct": label.correct,
            "overlay": _overlay(label.response),
        }
        for label in predicted
    ]


def _overlay(response: np.ndarray | None) -> str | None:
    return None if response is None else data_url(figures.heat(response), "png")


def _per_class(run: Run) -> dict[str, Any]:
    classes = [
        {
            "name": line.name,
            "kind": "seen" if line.seen else "unseen",
            "positives": line.positives,
            "ap": line.ap,
            "gain": None if line.ap is None or line.random_ap is None else line.ap - line.random_ap,
        }
        for line in read_per_class(run.path)
    ]
    return {"id": run.id, "dataset": run.dataset, "classes": classes}
