"""The whole report as one self-contained html page: tables, figures, curves, classes, examples, how to reproduce."""

from __future__ import annotations

import base64
import io
import json
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader
from PIL import Image

from ...common.errors import C3Error
from ...common.version import __version__
from ...train.run_folder import Run, read_per_class
from . import explain, figures, series
from .render import Table, body_of, headings_of, rows_of

TEMPLATE = Path(__file__).with_name("template")
EXAMPLES = 8
ON_COMMAND = ("groups", "lambda_reg", "epochs", "batch_size", "lr", "weight_decay", "seed")
CAPTIONS = {
    3: "Images that have exactly one of the shown classes, before the (ML)2P-Encoder (the maximum of F_a over the "
    "positions) and after it (X). The silhouette is measured before the projection.",
    4: "mAP over the number of groups g and the weight λ of the regulariser. Settings are chosen on the validation "
    "split, never by this figure. Bars are the deviation over seeds.",
    5: "What a method reaches and what scoring one image cost when it was evaluated; making the features is not "
    "included.",
}


def page(tables: Sequence[Table], datasets: Mapping[str, Sequence[Run]], device: str, images: Path | None) -> str:
    """Return the page as text, from its tables and the measured runs of every data set.

    The models run again on `device`, over the photographs in `images`, by default those that the stores name. Where a
    figure or an example cannot be made, the page says why.
    """
    runs = [run for group in datasets.values() for run in group]
    shown_first = [series.chosen_run(group) for group in datasets.values()]
    per_class = [_per_class(run) for run in sorted(runs, key=lambda run: run not in shown_first)]
    # autoescape covers every value; only our own svg, script and json (with < escaped) are marked safe
    environment = Environment(loader=FileSystemLoader(TEMPLATE), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("report.html").render(
        css=(TEMPLATE / "report.css").read_text(encoding="utf-8"),
        js=(TEMPLATE / "report.js").read_text(encoding="utf-8"),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
        tables=[_table(table) for table in tables],
        datasets=[_dataset(name, group, device, images) for name, group in datasets.items()],
        runs=[_run(run) for run in runs],
        per_class=per_class,
        per_class_json=json.dumps(per_class, ensure_ascii=False).replace("<", "\\u003c"),
    )


def _table(table: Table) -> dict[str, Any]:
    """Return the cells with the numbers that they are sorted by."""
    rows = []
    for (method, task, entry), shown in zip(rows_of(table.frame), body_of(table, strong="\0{}".format), strict=True):
        values = [entry[metric, field] for metric in table.metrics for field in table.fields]
        cells: list[dict[str, Any]] = [{"text": method, "value": None}, {"text": task, "value": None}]
        for text, value in zip(shown[2:], values, strict=True):
            best = text.startswith("\0")
            cells.append({"text": text.lstrip("\0"), "value": None if math.isnan(value) else value, "best": best})
        rows.append(cells)
    return {
        "title": table.title,
        "headings": [{"name": name, "source": source} for name, source in headings_of(table)],
        "rows": rows,
        "notes": table.notes,
        "measured": bool(table.frame.xs("n", axis=1, level="field").notna().to_numpy().any()),
    }


def _dataset(name: str, runs: Sequence[Run], device: str, images: Path | None) -> dict[str, Any]:
    run = series.chosen_run(runs)
    makers: dict[int, Callable[[], Any]] = {
        3: lambda: figures.draw_embedding(explain.embedding(run, device), run.id),
        4: lambda: figures.draw_curves(series.curves(runs), f"{name}, test split"),
        5: lambda: figures.draw_costs(series.costs(runs), f"{name}, test split"),
    }
    shown = [_figure(f"Figure {number}, {name}", CAPTIONS[number], make) for number, make in makers.items()]
    training = _figure(
        f"Training loss, {name}", "One line a run, a colour a method; the losses of different methods are different "
        "functions.", lambda: figures.draw_training(series.training(runs), name),
    )  # fmt: skip
    found, problem = [], ""
    try:
        found = [_example(each) for each in explain.examples(run, EXAMPLES, device, images)]
    except C3Error as error:
        problem = str(error)
    if found and not any(example["photo"] for example in found):
        problem = "The photographs were not found; c3 report --images FOLDER says where they are."
    return {
        "name": name, "figures": shown, "training": training, "examples": found, "example_run": run.id,
        "example_problem": problem,
    }  # fmt: skip


def _figure(title: str, caption: str, make: Callable[[], Any]) -> dict[str, str]:
    try:
        return {"title": title, "caption": caption, "svg": figures.inline_svg(make(), title)}
    except C3Error as error:
        return {"title": title, "caption": f"Not drawn: {error}", "svg": ""}


def _example(example: explain.Example) -> dict[str, Any]:
    def labels(predicted: Sequence[explain.Prediction]) -> list[dict[str, Any]]:
        return [
            {
                "name": label.name,
                "score": f"{label.score:.2f}",
                "correct": label.correct,
                "overlay": None if label.response is None else _data_url(figures.heat(label.response), "png"),
            }
            for label in predicted
        ]

    return {
        "id": example.image_id,
        "photo": None if example.pixels is None else _data_url(example.pixels, "jpeg"),
        "unseen": labels(example.unseen), "seen": labels(example.seen),
        "true_unseen": example.true_unseen, "true_seen": example.true_seen,
    }  # fmt: skip


def _data_url(pixels: np.ndarray, kind: str) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _per_class(run: Run) -> dict[str, Any]:
    classes = [
        {
            "name": line.name,
            "kind": "seen" if line.seen else "unseen",
            "positives": line.positives,
            "negatives": line.negatives,
            "ap": line.ap,
            "floor": line.random_ap,
        }
        for line in read_per_class(run.path)
    ]
    return {"id": run.id, "classes": classes}


def _run(run: Run) -> dict[str, Any]:
    record, made = run.record, run.record.features
    settings = record.settings
    flags = [f"--{'lambda' if name == 'lambda_reg' else name.replace('_', '-')} {settings[name]}"
             for name in ON_COMMAND if name in settings]  # fmt: skip
    flags += [f"--set {name}={value}" for name, value in settings.items() if name not in ON_COMMAND]
    train = f"c3 train --cache {shlex.quote(made.path)} --method {run.method} \\\n    {' '.join(flags)}"
    facts = {
        "recipe": record.recipe,
        "store": f"{made.path}, digest {made.digest}",
        "features": f"{made.backbone}, weights {made.weights_title} ({made.weights_sha256 or 'no hash'})",
        "trained": f"{record.created} on {record.device}, {record.rows} rows, {record.parameters} parameters",
    }
    if metrics := run.metrics:
        facts["measured"] = (
            f"{metrics.split}, {metrics.images} images, ties {metrics.ties}, bootstrap {metrics.bootstrap.resamples} "
            f"resamples with seed {metrics.bootstrap.seed}"
        )
    facts["versions"] = ", ".join(f"{name} {value}" for name, value in record.versions.items())
    return {
        "id": run.id,
        "command": f"{train}\nc3 evaluate --run {shlex.quote(str(run.path))}",
        "facts": list(facts.items()),
    }
