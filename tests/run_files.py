"""Run folders written by hand, complete but for what a test says of them."""

from __future__ import annotations

from typing import Any


def run_json(id: str, method: str = "c3", status: str = "finished", **entries: Any) -> dict[str, Any]:
    """The content of a run.json; `config` and `cache` extend what stands here, other entries replace it."""
    features = {
        "path": "gone.zarr", "digest": "0123456789abcdef", "dataset": "demo", "backbone": "vgg19",
        "weights": "random:0", "weights_asked": "random:0", "weights_sha256": None, "precision": "fp32",
        "crops": "whole", "labelling": "complete", "splits": {}, "tuned": False, "request": None,
    }  # fmt: skip
    return {
        "schema": 3, "id": id, "method": method, "status": status, "created": "2026-01-01", "recipe": "by hand",
        "inputs": {"channels": {"p8": 1}, "d_w": 4, "classes": 2}, "zero_shot": True, "reads": ["p8"], "rows": 1,
        "parameters": 1, "gflops": 0.1, "device": "cpu",
        **entries,
        "config": {"seed": 0, "vectors": "l2", "epochs": 20} | entries.get("config", {}),
        "cache": features | entries.get("cache", {}),
    }  # fmt: skip


def metrics_json(protocols: dict[str, Any]) -> dict[str, Any]:
    """The content of a metrics.json."""
    return {
        "schema": 2, "split": "test", "cache": "0123456789abcdef", "dataset": "demo", "path": "gone.zarr",
        "device": "cpu", "seconds": 1.0, "ms_per_image": 1.5, "gflops": 0.2, "rows": {"used": 7, "masked": {}},
        "images": 7, "ties": "grouped", "bootstrap": {"resamples": 1000, "seed": 0, "level": 0.95},
        "protocols": protocols,
    }  # fmt: skip
