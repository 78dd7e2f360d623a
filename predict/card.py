"""FRONT DOOR of model cards: a run's own records as markdown with YAML front matter, as model hubs read it. No torch.

The card says what was recorded. What was not is called unknown; nothing is guessed, also where it could be.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import fields
from pathlib import PurePosixPath
from typing import Any

import yaml

from ..evaluate.probabilities import probabilities_of
from ..evaluate.protocol import LEAK_FREE, PROTOCOLS
from ..evaluate.report.block import TITLES
from ..extract.store.tables import Classes
from ..train.names import METHODS
from ..train.run_folder import BACKBONE, Metrics, ProtocolResults, Run, read_classes
from .names import ONNX_EXAMPLE

TASKS = {
    "zsl": "ZSL: unseen classes",
    LEAK_FREE: "ZSL without near-duplicates of seen classes",
    "gzsl": "GZSL: all classes",
    "seen": "seen classes",
}
LISTED = 300  # class names of a kind; the others are counted
LABELLING = {"complete": "a label that is absent is negative", "verified": "a label that is absent is unknown"}
CLOSED, OPEN = "image-classification", "zero-shot-image-classification"  # pipelines of the hub
UNKNOWN = "unknown: the run does not record it"


def model_card(run: Run) -> str:
    """Return the card of a finished run. Raises C3Error where its classes are missing or damaged."""
    classes = read_classes(run)
    sections = {
        "": _about(run, classes),
        "Use": _use(run),
        "Measured": _measured(run),
        "Data": _data(run),
        "Classes": _classes(run, classes),
        "Limits": _limits(run),
        "Licences": _licences(run),
        "Training": _training(run),
    }
    front = yaml.safe_dump(_front_matter(run), sort_keys=False, allow_unicode=True, width=120)
    parts = [f"---\n{front}---", f"# {run.id}"]
    for title, lines in sections.items():
        parts += ([f"## {title}"] if title else []) + list(lines)
    return "\n\n".join(parts) + "\n"


def training_command(run: Run) -> str:
    """Return the command line that trains the same run, with every setting and the name of the store, not its path."""
    record = run.record
    settings = {name: value for name, value in record.settings.items() if name != "seed"}
    if record.tuned_from:
        from ..train.recipes import LoopOptions

        tuned = {field.name for field in fields(LoopOptions)} - {"vectors"} | {"backbone_lr"}
        settings = {name: value for name, value in settings.items() if name in tuned}
        words = ["c3", "finetune", record.tuned_from.run, "--dataset", run.dataset]
    else:
        words = ["c3", "train", "--cache", _name(record.features.path), "--method", run.method]
    words += ["--seed", str(run.seed)]
    for name, value in settings.items():
        words += ["--set", f"{name}={str(value).lower() if isinstance(value, bool) else value}"]
    return shlex.join(words)


def _front_matter(run: Run) -> dict[str, Any]:
    results = run.metrics.first if run.metrics else None
    task = {"type": OPEN if run.zero_shot else CLOSED}
    found = [
        {
            "task": task | {"name": title},
            "dataset": {"name": run.dataset, "type": run.dataset, "split": run.metrics.split},
            "metrics": [
                {"type": name, "name": f"{name} ({title})", "value": round(value, 2)}
                for name in _shown(results)
                if (value := results.value(key, name)) is not None
            ],
        }
        for key, title in TASKS.items()
        if run.metrics and results and results.value(key, "mAP") is not None
    ]
    index = {"model-index": [{"name": run.id, "results": found}]} if found else {}
    return {
        "license": "unknown",  # of the head: its maker decides, and the run does not say
        "library_name": "c3-mlzsl",
        "pipeline_tag": task["type"],
        "tags": ["multi-label", "image-tagging", *(["zero-shot-learning"] if run.zero_shot else []), run.method],
    } | index


def _about(run: Run, classes: Classes) -> Iterator[str]:
    made, seen = run.record.features, int(classes.seen.sum())
    title = TITLES.get(run.method, run.method)
    head = f"{title} (`{run.method}`)" if run.method in METHODS else f"`{run.method}`"
    scores = (
        f"It scores {len(classes):,} classes, of which it was trained on {seen:,}, and any other word with a vector "
        f"of the same kind ({run.record.inputs.d_w} numbers)."
        if run.zero_shot
        else f"It scores the {seen:,} classes that it was trained on, and no others."
    )
    yield (
        f"A head for multi-label image tagging, {head}, with {run.record.parameters:,} parameters, on features of "
        f"`{made.backbone}` with the weights `{made.weights_title}`. {scores} Written by c3 from the run's records."
    )


def _use(run: Run) -> Iterator[str]:
    made = run.record.features
    yield f"With c3 {run.record.versions.get('c3-mlzsl', '(version unknown)')} or later, where RUN is the run folder:"
    yield "```sh\nc3 predict photos/ --run RUN\n```"
    yield '```python\nfrom c3 import Tagger\n\nTagger.load("RUN").tag("photos/")\n```'
    where = (
        "The run folder has the weights of head and backbone."
        if (run.path / BACKBONE).is_file()
        else f"The run folder has the head alone. c3 looks for the backbone's weights as `{_name(run.weights_asked)}`; "
        "`--weights FILE` says where they are."
    )
    yield f"{where} sha256 of the layers of the backbone that run: `{made.weights_sha256 or 'unknown'}`."
    yield "As the ONNX file that `c3 export RUN --onnx model.onnx` writes, with neither c3 nor torch:"
    yield f"```python\n{ONNX_EXAMPLE}```"


def _measured(run: Run) -> Iterator[str]:
    if run.metrics is None:
        yield f"Not measured. `c3 evaluate --run {run.id}` measures it."
        return
    metrics = run.metrics
    drawn = metrics.bootstrap
    yield (
        f"On the split `{metrics.split}` of `{metrics.dataset}` ({metrics.images:,} images), in percent. In brackets: "
        f"intervals of {drawn.level:.0%}, {drawn.resamples:,} bootstrap resamples of the images (seed {drawn.seed}). "
        "Random: the mAP that random scores reach. Constant: the same classes for every image, the most frequent in "
        "training first."
    )
    for name, results in metrics.protocols.items():
        note = f": {PROTOCOLS[name].note}" if name in PROTOCOLS else ""
        yield f"Protocol `{name}`{note}"
        yield _table(results)
    if metrics.reliability:
        errors = (
            f"{found.after.error:.4f} for {kind} classes ({found.before.error:.4f} of scores read without a map)"
            for kind, found in metrics.reliability.items()
        )
        yield f"Expected calibration error of the probabilities, 0 to 1: {', '.join(errors)}."
    if masked := sum(metrics.rows.masked.values()):
        yield f"{masked:,} rows could not be read and are left out."


def _table(results: ProtocolResults) -> str:
    columns = _shown(results)
    lines = [["task", "classes", *columns, "random mAP", "constant mAP"]]
    lines.append(["---"] * len(lines[0]))
    for task, title in TASKS.items():
        if results.value(task, "mAP") is None:
            continue
        floors = [(floor.get(task) or {}).get("mAP") for floor in (results.random, results.frequency)]
        cells = [_cell(results.value(task, name), results.interval(task, name)) for name in columns]
        lines.append([title, f"{results.value(task, 'classes'):,}", *cells, *map(_cell, floors)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(results: ProtocolResults | None) -> list[str]:
    """Return the names of the metrics of a card: mAP, and F1 at every K."""
    names = dict.fromkeys(name for values in (results.tasks if results else {}).values() for name in values or ())
    return [name for name in names if name == "mAP" or name.startswith("F1@")]


def _cell(value: float | None, interval: tuple[float, float] | None = None) -> str:
    if value is None:
        return "unknown"
    return f"{value:.1f}" + (f" [{interval[0]:.1f}, {interval[1]:.1f}]" if interval else "")


def _data(run: Run) -> Iterator[str]:
    made = run.record.features
    splits = ", ".join(f"{name} {count:,}" for name, count in made.splits.items())
    asked = made.request or {}
    source = f" Labels: {asked['label_source']}." if "label_source" in asked else ""
    yield (
        f"Data set `{made.dataset}`; rows: {splits}. {run.record.rows:,} rows of `train` have a label to train on. "
        f"In its labels, {LABELLING.get(made.labelling, made.labelling)}.{source}"
    )
    yield (
        f"Features: `{made.backbone}`, weights `{made.weights_title}`, {made.precision}, crops `{made.crops}`; store "
        f"`{_name(made.path)}` with digest `{made.digest}`."
    )
    vectors = made.vectors
    told = (
        f"by {vectors.title}, templates {', '.join(map(repr, vectors.templates))}" if vectors else f"source {UNKNOWN}"
    )
    form = {"l2": "normalised", "raw": "as read"}.get(run.record.vectors, run.record.vectors)
    yield f"Class vectors ({run.record.inputs.d_w} numbers, {form}): {told}."


def _classes(run: Run, classes: Classes) -> Iterator[str]:
    kinds = {"Seen in training": classes.seen, "Unseen": ~classes.seen}
    for title, chosen in kinds.items():
        names = [name for name, own in zip(classes.names, chosen.tolist(), strict=True) if own]
        more = f" and {len(names) - LISTED:,} more, in classes.npz" if len(names) > LISTED else ""
        yield f"{title} ({len(names):,}): {', '.join(names[:LISTED]) or 'none'}{more}."
    if run.record.class_split:
        drawn = ", ".join(f"{name} {value}" for name, value in run.record.class_split.items())
        yield f"The unseen classes are not those of the store: they were drawn for this run ({drawn})."


def _limits(run: Run) -> Iterator[str]:
    lines = [
        "Meant for tagging images like those of its data set. How it does on other images, on other words, and whether "
        "it treats groups of people alike, is unknown: only the tables above were measured.",
        "The scores of the head are no probabilities. They order classes and images; their scale is that of this run.",
    ]
    if found := probabilities_of(run):
        lines.append(
            f"c3 turns scores into probabilities by maps fitted on {found.maps.images:,} images of `val`; these hold "
            "where the classes are as frequent as there."
        )
    if run.zero_shot:
        lines.append(f"Expect less of classes and words without training images: {_gap(run.metrics)}.")
    if run.metrics and LEAK_FREE in run.metrics.first.tasks:
        lines.append("Some unseen classes mean nearly the same as a seen one; a row of the tables leaves them out.")
    yield "\n".join(f"- {line}" for line in lines)


def _gap(metrics: Metrics | None) -> str:
    values = {task: metrics.first.value(task, "mAP") for task in ("zsl", "seen")} if metrics else {}
    if any(value is None for value in values.values()) or not values:
        return "how much less is not measured"
    return f"mAP was {values['zsl']:.1f} among the unseen and {values['seen']:.1f} among the seen classes"


def _licences(run: Run) -> Iterator[str]:
    made = run.record.features
    lines = {
        "this head": f"{UNKNOWN}; its maker decides",
        f"weights of the backbone, `{made.weights_title}`": made.licence or UNKNOWN,
        f"images and labels of `{made.dataset}`": UNKNOWN,
        "class vectors": UNKNOWN,
        "c3": "apache-2.0",
    }
    yield "\n".join(f"- {what}: {licence}" for what, licence in lines.items())


def _training(run: Run) -> Iterator[str]:
    record = run.record
    yield f"```sh\n{training_command(run)}\n```"
    cost = f", {record.timings.seconds:,.0f} s at {record.timings.rows_per_s:,.0f} rows/s" if record.timings else ""
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items()) or "unknown"
    yield f"{record.recipe}. Begun {record.created}, on {record.device}{cost}. Versions: {versions}."
    if record.seen:
        yield (
            f"mAP over the seen classes of `val` after training: {100 * record.seen.mAP:.1f} (random scores: "
            f"{100 * record.seen.random:.1f})."
        )


def _name(place: str) -> str:
    """Return the last part of a path: the folders of its maker are of no use to others, and may say who it was."""
    return PurePosixPath(place.rstrip("/")).name or place
