"""Describe a store for a reader at a terminal or for a script. No torch."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ...common.parsing import to_json
from .cache import FeatureCache, Status
from .layout import row_bytes


def inspect_store(path: Path | str, as_json: bool = False, channels: bool = False) -> str:
    """Describe a store as aligned text, or as json with the same content; `channels` reads all maps for statistics."""
    cache = FeatureCache.open(path)
    content = describe(cache)
    if channels:
        content["channels"] = channel_statistics(cache)
    return json.dumps(content, indent=2) if as_json else _text(content)


def channel_statistics(cache: FeatureCache) -> dict[str, dict[str, list[float]]]:
    """Return array -> mean, max and zero share of every channel over the readable rows, and the int8 error bound.

    `bound` is half the largest step of the channel: no stored value is further than that from what was extracted.
    """
    import dask.array
    import dask.base
    import dask.config

    usable = {split: cache.status(split) == Status.OK for split in cache.splits}
    found = {}
    for array in cache.arrays:
        positions = math.prod(array.cell[1:])
        count = sum(int(rows.sum()) for rows in usable.values()) * positions
        parts = []
        for split in cache.splits:
            maps = cache.maps(split, array.name)
            others = (0, *range(2, maps.ndim))
            chunks = (cache.layout.shard_rows, *[-1] * (maps.ndim - 1))
            lazy = dask.array.from_array(maps, chunks=chunks, name=False)  # type: ignore[no-untyped-call]  # no types
            # rows that failed are zero maps: they add nothing to a sum and are subtracted from the zeros
            parts.append((lazy.sum(others, "float64"), lazy.max(others), (lazy == 0).sum(others)))
        with dask.config.set(scheduler="threads"):
            computed = dask.base.compute(*parts)  # type: ignore[no-untyped-call]  # dask has no types
            sums, highs, zeros = (np.stack(values) for values in zip(*computed, strict=True))
        failed = sum(int((~rows).sum()) for rows in usable.values()) * positions
        found[array.name] = {
            "mean": (sums.sum(0) / max(count, 1)).tolist(),
            "max": highs.max(0).astype(float).tolist(),
            "zeros": ((zeros.sum(0) - failed) / max(count, 1)).tolist(),
            "bound": _bounds(cache, array.name),
        }
    return found


def _bounds(cache: FeatureCache, array: str) -> list[float]:
    if cache.layout.dtype != "int8":
        return []
    steps = [
        cache.maps(split, array).scales[shard][:, 0] for split in cache.splits for shard in range(cache.shards(split))
    ]
    bounds: list[float] = (np.max(steps, axis=0) / 2).astype(float).tolist()
    return bounds


def describe(cache: FeatureCache) -> dict[str, Any]:
    """Return what `c3 inspect --json` prints: splits with their statuses and labels, arrays, bytes, classes, origin."""
    splits: dict[str, dict[str, Any]] = {}
    for split in cache.splits:
        values = cache.label_values(split)
        statuses = np.bincount(cache.status(split), minlength=len(Status))
        splits[split] = {
            "rows": cache.rows(split),
            "shards": cache.shards(split),
            "pending_shards": len(cache.pending(split)),
            "status": {status.name.lower(): int(statuses[status]) for status in Status if statuses[status]},
            "positives": int((values > 0).sum()),
            "negatives": int((values < 0).sum()),
        }
    rows = sum(split["rows"] for split in splits.values())
    raw = row_bytes(cache.arrays) * rows
    stored = sum(cache.storage.sizes().values())
    vectors = cache.classes.vectors
    return {
        "path": cache.location,
        "schema": cache.schema,
        "digest": cache.digest,
        "complete": not any(split["pending_shards"] for split in splits.values()),
        "splits": splits,
        "levels": {array.name: list(array.cell) for array in cache.arrays},
        "layout": asdict(cache.layout),
        "bytes_raw": raw,
        "bytes_stored": stored,
        "classes": {
            "seen": int(cache.classes.seen.sum()),
            "unseen": int((~cache.classes.seen).sum()),
            "d_w": cache.classes.d_w,
            "mean_vector_norm": round(float(np.linalg.norm(vectors, axis=1).mean()), 4) if len(vectors) else None,
            "vectors": to_json(cache.notes.vectors) if cache.notes.vectors else None,
        },
        "config": to_json(cache.origin),
        "provenance": to_json(cache.provenance),
    }


def _text(content: dict[str, Any]) -> str:
    config, classes, layout = content["config"], content["classes"], content["layout"]
    levels = [f"{name} {'x'.join(map(str, shape))}" for name, shape in content["levels"].items()]
    licence = content["provenance"].get("licence")
    licence = f", licence {licence}" if licence else ""
    ratio = content["bytes_stored"] / content["bytes_raw"]
    lines = [
        f"{content['path']}  schema {content['schema']}  digest {content['digest']}"
        f"  {'complete' if content['complete'] else 'NOT COMPLETE'}",
        f"data set  {config['dataset']}, labels {config['labelling']}, "
        f"{classes['seen']} seen + {classes['unseen']} unseen classes, "
        f"word vectors of {classes['d_w']} (mean norm {classes['mean_vector_norm']})"
        + (f" by {classes['vectors']['tower']}" if classes["vectors"] else ""),
        f"backbone  {config['backbone']}, weights {content['provenance']['weights']} "
        f"(sha256 {config['weights_sha256'][:16]}){licence}",
        f"levels    {', '.join(levels)}, {layout['dtype']}, codec {layout['codec']}, "
        f"shards of {layout['shard_rows']} rows, chunks of {layout['chunk_rows']}",
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
    for name, values in content.get("channels", {}).items():
        bound = f", int8 error at most {max(values['bound']):,.3g}" if values["bound"] else ""
        lines.append(
            f"{name:<9} mean {np.mean(values['mean']):,.4g}, max {max(values['max']):,.4g}, "
            f"zeros {100 * np.mean(values['zeros']):.1f} %, {np.sum(np.array(values['max']) == 0)} dead channels{bound}"
        )
    return "\n".join(lines)
