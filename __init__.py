"""c3: multi-label zero-shot image tagging from a feature cache.

`import c3` loads neither torch nor zarr; the names below are loaded when they are first used (PEP 562).
"""

from __future__ import annotations

from typing import Any

from .common.version import __version__

__all__ = ["Searcher", "Tagger", "__version__", "open_features"]


def __getattr__(name: str) -> Any:
    if name == "open_features":
        from .extract.store.cache import FeatureCache

        return FeatureCache.open
    if name == "Tagger":
        from .predict.tagger import Tagger

        return Tagger
    if name == "Searcher":
        from .predict.search import Searcher

        return Searcher
    raise AttributeError(f"module 'c3' has no attribute {name!r}")
