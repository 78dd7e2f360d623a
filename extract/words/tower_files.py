"""Files of vectors that a text tower made: a plain npz of names and vectors, which also says where they come from."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...common.errors import C3Error
from ...common.files import writing
from ...common.parsing import parse, to_json
from ..store.origin import VectorOrigin

ENTRY = "tower"  # a text, which other readers of names and vectors pass over


def write_tower_file(path: Path, names: Sequence[str], vectors: np.ndarray, origin: VectorOrigin) -> None:
    """Write vectors (names, d_w) float32 with their names and their origin. Raises C3Error when that fails."""
    text = json.dumps(to_json(origin))
    with writing(path) as scratch, scratch.open("wb") as file:
        np.savez(file, names=np.array(names), vectors=vectors.astype(np.float32), tower=np.array(text))


def origin_of(path: Path) -> VectorOrigin | None:
    """Return the tower that made a file of vectors; None for a file that does not say so.

    Raises C3Error where what it says is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{ENTRY}.npy") as member:
            text = str(np.lib.format.read_array(member, allow_pickle=False))
    except (OSError, zipfile.BadZipFile, KeyError):
        return None
    except ValueError as error:
        raise C3Error(f"{path}: its entry {ENTRY} cannot be read ({error}); write it again: c3 vectors") from error
    try:
        content = json.loads(text)
    except ValueError as error:
        raise C3Error(f"{path}: its entry {ENTRY} is no JSON; write it again: c3 vectors") from error
    return parse(VectorOrigin, content, f"{path}: its entry {ENTRY}", "write it again: c3 vectors")


def require_same_tower(expected: VectorOrigin | None, found: VectorOrigin | None, holder: str, other: str) -> None:
    """Refuse vectors of two towers: their numbers have nothing to do with each other. An unknown one passes."""
    if expected and found and expected.sha256 != found.sha256:
        raise C3Error(
            f"{other} has vectors of {found.title}, {holder} has those of {expected.title}; give vectors of the same "
            f"tower: c3 vectors --tower {expected.tower}"
        )
