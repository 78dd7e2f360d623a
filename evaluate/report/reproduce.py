"""A run -> the commands that make it again, and where it came from, for the page. No torch."""

from __future__ import annotations

import shlex
from typing import Any

from ...train.run_folder import Run, evaluate_command

ON_COMMAND = ("groups", "lambda_reg", "epochs", "batch_size", "lr", "weight_decay", "seed")


def reproduction(run: Run) -> dict[str, Any]:
    """Return `id`, `command` (a text of one line a command) and `facts` (names and texts) of a run."""
    record, made = run.record, run.record.features
    settings = record.settings
    flags = [f"--{'lambda' if name == 'lambda_reg' else name.replace('_', '-')} {settings[name]}"
             for name in ON_COMMAND if name in settings]  # fmt: skip
    flags += [f"--set {name}={value}" for name, value in settings.items() if name not in ON_COMMAND]
    train = f"c3 train --cache {shlex.quote(made.path)} --method {run.method} {' '.join(flags)}"
    facts = {
        "recipe": record.recipe,
        "store": f"{made.path}, digest {made.digest}",
        "features": f"{made.backbone}, weights {made.weights_title} ({made.weights_sha256 or 'no hash'})",
        "trained": f"{record.created} on {record.device}, {record.rows} rows, {record.parameters} parameters",
    }
    if metrics := run.metrics:
        facts["measured"] = (
            f"{metrics.split}, {metrics.images} images, ties {metrics.ties}, bootstrap {metrics.bootstrap.resamples} "
            f"resamples with seed {metrics.bootstrap.seed}"
        )
    facts["versions"] = ", ".join(f"{name} {value}" for name, value in record.versions.items())
    command = f"{train}\n{evaluate_command(run.path)}"
    return {"id": run.id, "command": command, "facts": list(facts.items())}
