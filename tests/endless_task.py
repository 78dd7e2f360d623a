"""A task without an end, for tests of who ends it. It needs no torch."""

from __future__ import annotations

import time
from pathlib import Path


def wait_for_a_signal(folder: Path, slot: int) -> None:
    """Leave `began-SLOT` in the folder, and `saved-SLOT` when it is interrupted."""
    (folder / f"began-{slot}").touch()
    try:
        while True:
            time.sleep(0.01)
    except KeyboardInterrupt:
        (folder / f"saved-{slot}").touch()
        raise
