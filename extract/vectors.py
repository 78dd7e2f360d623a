"""FRONT DOOR of `c3 vectors`: words -> a file of vectors, by a text tower."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from ..common.errors import C3Error
from ..common.files import unwritable
from ..common.text_files import word_list
from ..common.unicode_forms import clean_name
from .catalog.catalog import Catalog
from .datasets.kinds import reader_of
from .datasets.label_cells import SEPARATORS
from .words.prompts import require_words, templates_of, tower_vectors
from .words.text_towers import load_tower
from .words.tower_files import write_tower_file

LOG = logging.getLogger(__name__)
SHOWN = 5  # words in a line of the log


def write_vectors(
    out: Path,
    tower: str,
    words: Path | None = None,
    dataset: str | None = None,
    templates: Sequence[str] = (),
    catalog: Path | None = None,
    overwrite: bool = False,
) -> str:
    """Write the vectors of the words of a file, or of the classes of a data set, to `out` and return a summary.

    Raises C3Error before anything is written for words, templates and towers that do not fit.
    """
    if (words is None) == (dataset is None):
        raise C3Error("c3 vectors needs words: give --words FILE or --dataset NAME, one of the two")
    if out.suffix != ".npz":
        raise C3Error(f"--out {out}: expected a name that ends in .npz")
    if out.exists() and not overwrite:
        raise C3Error(f"{out} exists already; give another --out, or --overwrite")
    if fault := unwritable(out.parent, made=False):
        raise C3Error(f"--out {out}: {fault}")
    asked = word_list(words) if words else _class_names(dataset or "", catalog)
    require_words(asked)  # before a tower is loaded, which takes seconds
    if words and (joined := [word for word in asked if any(mark in word for mark in SEPARATORS)]):
        LOG.warning("%s: %d words that may be several in one: %s; give each its own line if they are",
                    words, len(joined), ", ".join(map(repr, joined[:SHOWN])))  # fmt: skip
    templates = templates_of(templates)
    found = tower_vectors(asked, load_tower(tower), templates)
    write_tower_file(out, found.words, found.vectors, found.origin)
    count = len(found.origin.templates)
    shown = found.origin.templates[0] if count == 1 else f"{count} templates"
    count_words, d_w = found.vectors.shape
    return (
        f"{out} holds {count_words:,} vectors of {d_w} numbers by {found.origin.title}, {shown}\n"
        f"In a catalog: vectors: {{{out.stem}: {{path: {out}}}}}. Tagging: c3 predict IMAGES --run RUN --vocabulary "
        f"{words or 'words.txt'} --vectors {out}"
    )


def _class_names(dataset: str, catalog: Path | None) -> list[str]:
    """Return the names of the classes of a data set, each once, without the keys of classes that share a name."""
    classes, keys = reader_of(Catalog(catalog).dataset(dataset)).classes()
    pairs = zip(classes.names, keys or [""] * len(classes), strict=True)
    return list(dict.fromkeys(clean_name(name.removesuffix(f" ({key})")) for name, key in pairs))
