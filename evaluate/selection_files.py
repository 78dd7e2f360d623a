"""The files of a choice of settings: `selection.csv`, all candidates, and `selected.yaml`, a catalog of recipes."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from ..common.catalog_file import VERSION, read_yaml
from ..common.csv_files import CsvFile
from ..common.errors import C3Error
from ..common.files import write_text
from ..extract.store.cache import FeatureCache
from ..train.run import TrainOptions, planned
from ..train.sweep import in_words, request_of
from .select import Selection, scored_on

CSV, CATALOG = "selection.csv", "selected.yaml"
COLUMNS = ("store", "dataset", "hide_seed", "method", "settings", "folds", "ZSL", "GZSL", "sum", "chosen")
HELD = "held_images"  # the last column; files of an older c3, which held back no images, lack it
OF_RUNS = ("seed", "hide_seed", "folds", "fold", HELD)  # settings that no recipe has


def command_of(
    cache: str,
    methods: Sequence[str],
    grid: Mapping[str, Sequence[Any]],
    listed: Path | None,
    folds: int,
    held_images: float = 0.0,
) -> str:
    """Return the command that makes the same choice, in the general spelling of settings."""
    parts = ["c3", "sweep", "--select-only", "--cache", cache, "--method", *methods, "--folds", str(folds)]
    parts += ["--held-images", str(held_images)] if held_images else []
    for name, values in grid.items():
        parts += ["--set", f"{name}={','.join(map(str, values))}"]
    return shlex.join([*parts, *(["--list", str(listed)] if listed else [])])


def write_selection(base: TrainOptions, selections: Sequence[Selection], command: str) -> list[Path]:
    """Write both files into the folder of the runs and return them; earlier choices of other methods stay.

    A choice on a drawn split has a catalog of its own, `selected-h3.yaml` for the hide seed 3. Raises C3Error for
    earlier files that are damaged, before anything is written.
    """
    cache = FeatureCache.open(base.cache)
    table = _table(base.runs / CSV, cache, selections)
    catalogs = {
        path: _catalog(path, base, cache, [s for s in selections if s.hide_seed == seed], command)
        for seed in dict.fromkeys(selection.hide_seed for selection in selections)
        for path in [base.runs / (CATALOG if seed is None else CATALOG.replace(".", f"-h{seed}."))]
    }
    write_text(base.runs / CSV, table)
    for path, text in catalogs.items():
        write_text(path, text)
    return [base.runs / CSV, *catalogs]


def _table(path: Path, cache: FeatureCache, selections: Sequence[Selection]) -> str:
    """Return the lines of the candidates, after those of other stores, draws and methods that stand in the file."""
    lines: list[list[str]] = []
    for selection in selections:
        key = [cache.digest, cache.origin.dataset, _text(selection.hide_seed), selection.method]
        for found in selection.candidates:
            numbers = [f"{value:.4f}" for value in (found.zsl, found.gzsl, found.proxy)]
            chosen = str(int(found is selection.chosen))
            held = f"{selection.held_images:g}"
            lines.append([*key, in_words(found.settings), str(selection.folds), *numbers, chosen, held])
    keys = [line[:4] for line in lines]
    found_before = [row.fields for row in CsvFile(path, COLUMNS)] if path.exists() else []
    earlier = [fields if len(fields) > len(COLUMNS) else [*fields, "0"] for fields in found_before]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, HELD])
    writer.writerows([*(line for line in earlier if line[:4] not in keys), *lines])
    return text.getvalue()


def _catalog(path: Path, base: TrainOptions, cache: FeatureCache, selections: Sequence[Selection], command: str) -> str:
    """Return a catalog with the chosen recipes, beside those that stand in the file."""
    content = read_yaml(path, "catalog") if path.exists() else {}
    recipes = content.get("recipes", {}) if isinstance(content, dict) else None
    if not isinstance(recipes, dict):
        raise C3Error(f"{path}: expected recipes by data set and method; delete the file, and give the command again")
    of_dataset: dict[str, Any] = dict(recipes.get(cache.origin.dataset) or {})
    today = datetime.now(UTC).date().isoformat()
    for selection in selections:
        recipe, _, _ = planned(request_of(base, {"method": selection.method, **selection.chosen.settings}), cache)
        count = len(selection.candidates)
        source = (
            f"{command}; best of {count} combination{'s' * (count > 1)} on {selection.folds} folds of store "
            f"{cache.digest}, scored on {scored_on(selection.held_images)}, {today}"
        )
        settings = {name: value for name, value in recipe.as_dict().items() if name not in OF_RUNS}
        of_dataset[selection.method] = {**settings, "source": source}
    written = {"version": int(VERSION), "recipes": {**recipes, cache.origin.dataset: of_dataset}}
    return str(yaml.safe_dump(written, sort_keys=False, allow_unicode=True, width=1000))


def _text(value: int | None) -> str:
    return "" if value is None else str(value)
