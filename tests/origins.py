"""Origins of the stores that tests fill by hand."""

from __future__ import annotations

from typing import Any

from c3.extract.store.origin import FeatureOrigin, Provenance

PROVENANCE = Provenance("2026-01-01", "random:1")


def origin_of(**settings: Any) -> FeatureOrigin:
    """Return an origin that differs from that of a small table data set by these settings."""
    plain = {"dataset": "tiny", "manifest_sha256": "1" * 64, "labelling": "complete", "backbone": "none",
             "weights_sha256": "0" * 64, "taps": (), "transform": None, "crops": "whole"}  # fmt: skip
    return FeatureOrigin(**plain | settings)
