"""Fit the tensors of a weights file to a network, and say what does not fit."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from ...common.errors import C3Error
from ...common.unicode_forms import on_disk
from .weight_files import read_weights
from .weight_search import Found, named_tensors, search

LOG = logging.getLogger(__name__)
Hint = Callable[[object], str]  # the content of a file -> the end of a message, which says what it does fit


def weights_file(weights: str) -> tuple[Path, object]:
    """Return the path and the content of a weights file. Raises C3Error for one that is missing or no such file."""
    path = on_disk(Path(weights))
    if not _exists(path):
        raise C3Error(
            f"--weights {os.fspath(path)!r}: no such file, and no such name in the catalog; see: c3 catalog list"
        )
    return path, read_weights(path)


def seed_of(weights: str) -> int:
    """Return the seed of `random:SEED`."""
    seed = weights.removeprefix("random:")
    if not seed.isdigit():
        raise C3Error(f"--weights {weights!r}: expected random:SEED with a whole number, for example random:0")
    return int(seed)


def require_fit(name: str, path: Path, content: object, needed: Mapping[str, Tensor], hint: Hint) -> Found:
    """Return the tensors that fit backbone `name`, and log where they were; say how many fit where not all do."""
    places = search(content, needed)
    if not places:
        names = named_tensors(content)
        has = f"{len(names)} tensors, such as {', '.join(names[:3])}" if names else f"no tensors, but {_kind(content)}"
        raise C3Error(f"{path} is not of {name}: 0 of {len(needed)} tensors fit; it has {has}{hint(content)}")
    best, *others = places
    if not best.complete(needed):
        require_all(name, path, best, needed, hint(content))
    also = [found for found in others if found.complete(needed)]
    if also:
        LOG.warning("%s holds several networks that fit: %s is used, not %s", path, best.described or "the file itself",
                    ", ".join(found.described or "the file itself" for found in also))  # fmt: skip
    elif best.described:
        LOG.info("%s: the weights are under %s", path, best.described)
    return best


def require_all(name: str, path: Path, found: Found, needed: Mapping[str, Tensor], hint: str = "") -> None:
    """Refuse tensors that backbone `name` lacks, or has in another shape, naming the first of them."""
    faults = {key: fault for key, tensor in needed.items() if (fault := found.fault(key, tensor))}
    if faults:
        key, fault = next(iter(faults.items()))
        where = f" (under {found.described})" if found.described else ""
        raise C3Error(
            f"{path} does not fit {name}: {len(found.fits(needed))} of {len(needed)} tensors fit{where}; the "
            f"first that does not: {key} {fault}{hint}"
        )


def fitted(found: Found, needed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors in the number types that are computed with; counters that old files lack are 0."""
    return {name: _value(found.tensors.get(name, tensor), tensor) for name, tensor in needed.items()}


def _value(found: Tensor, needed: Tensor) -> Tensor:
    return found.float() if needed.is_floating_point() else found.reshape(needed.shape).to(needed.dtype)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long, or a folder that may not be read
        return False


def _kind(content: object) -> str:
    """Say what a file without tensors holds."""
    if isinstance(content, Mapping):
        return f"the keys {', '.join(map(str, list(content)[:5])) or '(none)'}"
    return f"a {type(content).__name__}"
