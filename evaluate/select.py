"""Choose settings by class-wise cross-validation on the validation split.

Every combination of settings is trained on every fold of the seen classes and scored on the classes that the fold
holds back (ZSL) and on all seen classes (GZSL). The folds may hold back images of train as well, which are scored with
those of val: a small val has no positive of most rare classes, and a store may have none at all. Neither a label of an
unseen class nor one of the test split is read.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from ..common.errors import C3Error
from ..extract.store.cache import FeatureCache
from ..train.class_split import ClassSplit, with_positive
from ..train.registry import method_class
from ..train.run import TrainOptions, planned
from ..train.run_folder import Run, evaluate_command, read_metrics
from ..train.settings import options_from
from ..train.sweep import Settings, Swept, in_words, request_of, sweep
from .sweep import evaluate_sweep

LOG = logging.getLogger(__name__)
TASKS = ("zsl", "gzsl")
OF_FOLDS = ("folds", "fold", "held_images")
LEAST = 2  # classes of every part that need a positive where they are scored: their mean AP is the proxy


@dataclass(frozen=True)
class Candidate:
    """A combination of settings, and its mAP on val in percent: the mean over folds for zsl and gzsl."""

    settings: Settings
    zsl: float
    gzsl: float

    @property
    def proxy(self) -> float:
        """Return what chooses: the sum of both."""
        return self.zsl + self.gzsl


@dataclass(frozen=True)
class Selection:
    """The candidates of one method in the order of the request, on the store's split or on a drawn one.

    `hide_seed` is the seed of the draw, None on the store's own split. `held_images` is the share of train that every
    fold held back. `failures` are (settings, reason).
    """

    method: str
    hide_seed: int | None
    folds: int
    candidates: tuple[Candidate, ...]
    failures: tuple[tuple[Settings, str], ...]
    held_images: float = 0.0

    @property
    def chosen(self) -> Candidate:
        """Return the best candidate, the first of equals."""
        return max(self.candidates, key=lambda candidate: candidate.proxy)

    @property
    def split(self) -> dict[str, int]:
        """Return the setting that draws the split, if any."""
        return {} if self.hide_seed is None else {"hide_seed": self.hide_seed}

    def table(self) -> str:
        """Return a line for each candidate: settings, ZSL and GZSL mAP, their sum; a star is at the chosen one."""
        names = list(dict.fromkeys(name for candidate in self.candidates for name in candidate.settings))
        lines = [["", *names, "ZSL", "GZSL", "sum"]]
        for candidate in self.candidates:
            star = "*" if candidate is self.chosen else ""
            values = [str(candidate.settings[name]) for name in names]
            lines.append([star, *values, *(f"{v:.2f}" for v in (candidate.zsl, candidate.gzsl, candidate.proxy))])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = ["  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]
        draw = "" if self.hide_seed is None else f", unseen classes drawn with seed {self.hide_seed}"
        title = f"{self.method}{draw}: mAP on {scored_on(self.held_images)} of seen classes, mean of {self.folds} folds"
        lost = [f"failed: {in_words(settings)}: {reason}" for settings, reason in self.failures]
        return "\n".join([title, *table, *lost])


def scored_on(held_images: float) -> str:
    """Say which images the runs of folds are scored on."""
    return f"val and {100 * held_images:g} % of train" if held_images else "val"


def select(
    base: TrainOptions, asked: Sequence[Settings], folds: int, jobs: int = 1, held_images: float = 0.0
) -> list[Selection]:
    """Train every combination on every fold, at most `jobs` runs at a time, and choose one for each method and draw.

    Every fold also holds back `held_images`, a share of the images of train, and is scored on them too. A combination
    has its `method`, a seed, and perhaps a `hide_seed`. The runs lie in RUNS/folds; finished ones are
    not repeated. A combination that fails on a fold is not a candidate. Raises C3Error before anything is trained where
    the store or a method allows no choice, and where no combination of a method can be trained.
    """
    if named := [name for name in OF_FOLDS if any(name in settings for settings in asked)]:
        option = "--held-images X" if named[0] == "held_images" else "--folds N"
        raise C3Error(f"--select makes the folds itself; leave out the setting {named[0]}, and use {option}")
    for method in dict.fromkeys(str(settings["method"]) for settings in asked):
        if not method_class(method).zero_shot:
            raise C3Error(f"--select: method {method} scores no unseen classes; choose among zero-shot methods")
    cache = FeatureCache.open(base.cache)
    held = {"held_images": held_images} if held_images else {}
    splits = [{"folds": folds, "fold": fold, **held} for fold in range(folds)]
    for seed in dict.fromkeys(settings.get("hide_seed") for settings in asked):
        _require_classes(cache, seed, splits)
    on_folds = [{**settings, **split} for settings in asked for split in splits]
    done = sweep(base, on_folds, evaluate_sweep, jobs, tolerant=True)
    keys = dict.fromkeys((str(settings["method"]), settings.get("hide_seed")) for settings in asked)
    return [
        _selection(base, cache, [s for s in asked if (s["method"], s.get("hide_seed")) == key], splits, done)
        for key in keys
    ]


def _require_classes(cache: FeatureCache, hide_seed: int | None, splits: Sequence[Settings]) -> None:
    drawn = {} if hide_seed is None else {"hide_seed": hide_seed}
    for split in splits:
        view = options_from(ClassSplit, {**drawn, **split}).view(cache)
        if "val" not in view.splits:
            raise C3Error(
                f"{cache.location} has no split val, on which --select measures; hold back images of train with "
                "--held-images 0.2, or extract one"
            )
        found = int((with_positive(view, "val") & ~view.classes.seen).sum())
        if found < LEAST:
            held = float(split.get("held_images", 0))
            raise C3Error(
                f"{cache.location}: every fold needs at least {LEAST} classes with a positive in {scored_on(held)}, "
                f"fold {split['fold']} of {len(splits)} has {found}; use fewer --folds, or more --held-images"
            )


def _selection(
    base: TrainOptions, cache: FeatureCache, asked: Sequence[Settings], splits: Sequence[Settings], done: Swept
) -> Selection:
    reached = {run.path: run for run in done.runs}
    reasons = {in_words(settings): reason for settings, reason in done.failures}
    candidates: list[Candidate] = []
    failures: list[tuple[Settings, str]] = []
    for settings in asked:
        own = {name: value for name, value in settings.items() if name not in ("method", "seed", "hide_seed")}
        of_folds = [{**settings, **split} for split in splits]
        lost = [reasons[words] for words in map(in_words, of_folds) if words in reasons]
        paths = [] if lost else [planned(request_of(base, fold), cache)[2] for fold in of_folds]
        if lost or not reached.keys() >= set(paths):
            failures.append((own, lost[0] if lost else "equal settings in another spelling failed"))
            continue
        runs = [reached[path] for path in paths]
        zsl, gzsl = (mean(_value(run, task) for run in runs) for task in TASKS)
        candidates.append(Candidate(own, zsl, gzsl))
    if not candidates:
        raise C3Error(f"--select: no combination of {asked[0]['method']} could be trained: {failures[0][1]}")
    return Selection(
        method=str(asked[0]["method"]),
        hide_seed=asked[0].get("hide_seed"),
        folds=len(splits),
        candidates=tuple(candidates),
        failures=tuple(failures),
        held_images=float(splits[0].get("held_images", 0)),
    )


def _value(run: Run, task: str) -> float:
    metrics = read_metrics(run.path, "val")
    value = metrics.first.value(task, "mAP") if metrics else None
    if value is None:
        raise C3Error(f"{run.path} has no {task.upper()} mAP on val; measure it: {evaluate_command(run.path, 'val')}")
    return value


def final_settings(selections: Sequence[Selection], seeds: Sequence[int]) -> list[Settings]:
    """Return the chosen settings of every selection with every seed, without folds: the runs that count."""
    return [
        {"method": selection.method, **selection.chosen.settings, **selection.split, "seed": seed}
        for selection in selections
        for seed in seeds
    ]
