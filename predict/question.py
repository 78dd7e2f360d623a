"""The words that a user asks a run for: their kinds, and their vectors as its method takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..common.errors import C3Error
from ..common.unicode_forms import clean_name
from ..extract.catalog.catalog import Catalog
from ..extract.store.tables import Classes
from ..train.models.word_forms import WordForm
from ..train.registry import method_class
from ..train.run_folder import Run
from ..train.scorer import require_width
from .vocabulary import VectorSource, find_vocabulary


@dataclass(frozen=True)
class Question:
    """Words, each once, their kinds (`seen` or `unseen` in training, or `new`), and vectors (words, d_w) in use."""

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    vectors: Tensor


def kinds_of(names: Sequence[str], classes: Classes) -> tuple[str, ...]:
    """Return the kind of every name: `seen` or `unseen`, as the class of a run is, else `new`."""
    kind = {
        clean_name(name): "seen" if seen else "unseen" for name, seen in zip(classes.names, classes.seen, strict=True)
    }
    return tuple(kind.get(clean_name(name), "new") for name in names)


def ask(
    run: Run,
    classes: Classes,
    form: WordForm,
    catalog: Catalog,
    words: Sequence[str],
    vectors: VectorSource | None = None,
    drop_unknown: bool = False,
) -> Question:
    """Look up the vectors of words for a run with these classes, and give them its `form`; see `find_vocabulary`.

    Without `vectors`, words that are no classes are looked up in the vectors of the run's data set, where the catalog
    still names their file. Raises C3Error for a method that is not zero-shot, for words without a vector, and for
    vectors of another width or space than those of the training.
    """
    if not method_class(run.method).zero_shot:
        raise C3Error(
            f"method {run.method} can only tag with the {classes.seen.sum()} classes that it was trained "
            "on; leave the vocabulary out, or use a run of a zero-shot method such as c3"
        )
    source = _vectors_of(run, classes, catalog, words) if vectors is None else vectors
    found = find_vocabulary(words, source, classes, catalog, drop_unknown, run.record.features.vectors)
    require_width(run, found.vectors.shape[1], found.source)
    return Question(found.words, kinds_of(found.words, classes), form(torch.from_numpy(found.vectors)))


def _vectors_of(run: Run, classes: Classes, catalog: Catalog, words: Sequence[str]) -> str | None:
    """Return the name of the vectors of the run's data set, if there are words that the run does not know.

    None where the catalog does not name them, or their file is gone.
    """
    known = set(map(clean_name, classes.names))
    if all(clean_name(word) in known for word in words) or run.dataset not in catalog.datasets:
        return None
    spec = catalog.dataset(run.dataset).vectors
    return spec.name if spec and spec.path.exists() else None
