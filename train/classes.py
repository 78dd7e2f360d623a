"""The classes of a run, kept in its folder: a run can be used when its store has gone. numpy only."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from ..errors import C3Error
from ..extract.cache import Classes
from .runs import CLASSES, Run


def write_classes(folder: Path, classes: Classes) -> None:
    """Write classes.npz into a run folder: name (classes,) text, seen (classes,) bool, vector (classes, d_w) float32.

    The vectors are those of the store, as read: not normalised.
    """
    np.savez_compressed(folder / CLASSES, name=np.array(classes.names), seen=classes.seen, vector=classes.vectors)


def read_classes(run: Run) -> Classes:
    """The classes of the store that a run was trained on. Raises C3Error when the file is missing or damaged."""
    path = run.path / CLASSES
    if not path.exists():
        raise C3Error(f"{path} is missing: the run was trained by an older c3, or copied in part; train it again")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            name, seen, vector = archive["name"], archive["seen"], archive["vector"]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise C3Error(f"{path} is damaged ({type(error).__name__}); train the run again") from error
    trained = run.record["inputs"]
    expected = (trained["classes"], (len(name), trained["d_w"]))
    if (int(seen.sum()), vector.shape) != expected or seen.shape != name.shape or not np.isfinite(vector).all():
        raise C3Error(
            f"{path} does not belong to run {run.id}: expected {trained['classes']} seen classes and vectors of "
            f"{trained['d_w']} finite numbers, found {int(seen.sum())} and {vector.shape}; train the run again"
        )
    return Classes(tuple(name.tolist()), seen, vector)
