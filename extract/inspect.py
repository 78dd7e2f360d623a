"""What a store holds, for a reader at a terminal or a script. numpy and zarr only."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from .cache import GRID, FeatureCache, Status


def inspect_store(path: Path | str, as_json: bool = False) -> str:
    """Describe a store as aligned text, or as json with the same content."""
    content = describe(FeatureCache.open(path))
    return json.dumps(content, indent=2) if as_json else _text(content)


def describe(cache: FeatureCache) -> dict[str, Any]:
    """Splits with their shards, statuses and labels; levels and bytes; classes; config and provenance."""
    splits = {}
    for split in cache.splits:
        labels = cache.labels(split)
        statuses = Counter(Status(value).name.lower() for value in cache.status(split).tolist())
        splits[split] = {
            "rows": cache.rows(split),
            "shards": cache.shards(split),
            "pending_shards": len(cache.pending(split)),
            "status": dict(statuses),
            "positives": int((labels.value > 0).sum()),
            "negatives": int((labels.value < 0).sum()),
        }
    rows = sum(split["rows"] for split in splits.values())
    raw = sum(level.channels for level in cache.levels) * GRID * GRID * 2 * rows
    stored = sum(cache.storage.sizes().values())
    vectors = cache.classes.vectors
    return {
        "path": cache.location,
        "schema": cache.attrs["schema"],
        "digest": cache.digest,
        "complete": not any(split["pending_shards"] for split in splits.values()),
        "splits": splits,
        "levels": {level.name: [level.channels, GRID, GRID] for level in cache.levels},
        "layout": vars(cache.layout),
        "bytes_raw": raw,
        "bytes_stored": stored,
        "classes": {
            "seen": int(cache.classes.seen.sum()),
            "unseen": int((~cache.classes.seen).sum()),
            "d_w": cache.classes.d_w,
            "mean_vector_norm": round(float(np.linalg.norm(vectors, axis=1).mean()), 4),
        },
        "config": cache.config,
        "provenance": cache.attrs["provenance"],
    }


def _text(content: dict[str, Any]) -> str:
    config, classes = content["config"], content["classes"]
    levels = [f"{name} {'x'.join(map(str, shape))}" for name, shape in content["levels"].items()]
    ratio = content["bytes_stored"] / content["bytes_raw"]
    lines = [
        f"{content['path']}  schema {content['schema']}  digest {content['digest']}"
        f"  {'complete' if content['complete'] else 'NOT COMPLETE'}",
        f"data set  {config['dataset']}, labels {config['labelling']}, "
        f"{classes['seen']} seen + {classes['unseen']} unseen classes, "
        f"word vectors of {classes['d_w']} (mean norm {classes['mean_vector_norm']})",
        f"backbone  {config['backbone']}, weights {content['provenance']['weights']} "
        f"(sha256 {config['weights_sha256'][:16]})",
        f"levels    {', '.join(levels)}, float16",
        f"size      {content['bytes_stored'] / 1e6:,.1f} MB stored, {content['bytes_raw'] / 1e6:,.1f} MB raw, "
        f"ratio {ratio:.2f}",
        f"created   {content['provenance']['created']}",
    ]
    for name, split in content["splits"].items():
        statuses = ", ".join(f"{count:,} {status}" for status, count in split["status"].items())
        lines.append(
            f"{name:<9} {split['rows']:,} rows ({statuses}), "
            f"{split['shards'] - split['pending_shards']} of {split['shards']} shards, "
            f"{split['positives']:,} positive and {split['negatives']:,} verified negative labels"
        )
    return "\n".join(lines)
