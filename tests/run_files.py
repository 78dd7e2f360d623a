"""Run folders written by hand, complete but for what a test says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from c3.evaluate.report.block import Shown
from c3.evaluate.report.tables import Table, build
from c3.train.run_folder import list_runs, write_json

KS = {
    "nuswide": (3, 5),
    "nuswide-81": (3, 5),
    "table": (3, 5),
    "openimages-lesa": (10, 20),
    "openimages-biam": (10, 20),
}
PROTOCOLS = {"nuswide": ["nuswide"], "nuswide-81": ["nuswide-81"], "openimages": ["openimages-lesa", "openimages-biam"]}


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


def values(protocol: str, level: float) -> dict[str, Any]:
    numbers = {"mAP": level} | {f"F1@{k}": level + k for k in KS[protocol]}
    return numbers | {"classes": 10, "images": 7}


class RunFolders:
    """Writes run folders as training and evaluation would."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.count = 0

    def add(
        self, method: str = "c3", level: float | None = 20.0, *, dataset: str = "nuswide", status: str = "finished",
        digest: str = "0123456789abcdef", backbone: str = "vgg19", weights: str = "imagenet", floor: float = 1.0,
        leak_free: float = 0.0, val: float | None = None, recipe: str = "recipe nuswide/c3: the paper",
        reads: tuple[str, ...] = ("p8", "p16", "p32"),
        **config: Any,
    ) -> str:  # fmt: skip
        """A run whose mAP is `level` in ZSL and half of it in GZSL; None leaves it without metrics.

        `val` is the mAP of its seen classes on the validation split, and every other number there is 90.
        """
        self.count += 1
        settings = {"seed": 0, "epochs": 20} | config
        name = f"{method}-{dataset}-s{settings['seed']}-{self.count:08x}"
        (self.root / name).mkdir()
        record = run_json(
            name, method, status, created=f"2026-01-{self.count:02d}", config=settings, reads=list(reads),
            recipe=recipe,
            cache={"dataset": dataset, "digest": digest, "backbone": backbone, "weights": weights},
            zero_shot=method not in ("logistic", "warp", "wsabie", "cnn-rnn"),
        )  # fmt: skip
        write_json(self.root / name / "run.json", record)
        if level is not None:
            protocols = {
                protocol: {
                    "tasks": {
                        "zsl": values(protocol, level), "gzsl": values(protocol, level / 2),
                        "seen": values(protocol, level / 4),
                    } | ({"zsl-leak-free": values(protocol, leak_free)} if leak_free else {}),
                    "intervals": {"zsl": {"mAP": [level - 2, level + 3]}},
                    "random": {"zsl": values(protocol, floor), "gzsl": values(protocol, floor / 2), "seen": None},
                    "frequency": {"zsl": values(protocol, floor), "gzsl": values(protocol, floor), "seen": None},
                    "calibrated": None,
                }
                for protocol in PROTOCOLS.get(dataset, ["table"])
            }  # fmt: skip
            write_json(self.root / name / "metrics.json", metrics_json(protocols))
        if val is not None:
            tasks = {"zsl": {"mAP": 90.0}, "gzsl": {"mAP": 90.0}, "seen": {"mAP": val}}
            found = {"tasks": tasks, "intervals": {}, "random": {}, "frequency": {}, "calibrated": None}
            names = PROTOCOLS.get(dataset, ["table"])
            write_json(self.root / name / "metrics-val.json", metrics_json(dict.fromkeys(names, found)))
        return name

    def table(self, number: int = 1, position: int = 0, shown: Shown = Shown()) -> Table:
        return build(number, list_runs(self.root), {}, shown)[position]
