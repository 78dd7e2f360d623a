"""A disk that is soon full, for tests of what a full disk leaves behind; the fixture is in conftest.py."""

from __future__ import annotations

import subprocess
from pathlib import Path


class SmallDisk:
    """A small disk mounted at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def grow(self, megabytes: int) -> None:
        """Make it larger, with all that is on it."""
        subprocess.run(["mount", "-o", f"remount,size={megabytes}m", self.path], check=True)
