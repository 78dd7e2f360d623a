"""Make the pictures in docs/img again: `make pictures [DEMO=c3-demo] [REAL=FOLDER]`.

The demo is trained first where DEMO has no runs. REAL is a folder of runs on real photographs; without it, the pictures
of Corel5k stay as they are, because their photographs cannot be shipped.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

IMAGES = Path(__file__).with_name("img")
RESPONSES = "responses.jpg"
DEMO_PAGE = "report.jpg"
REAL = {1: "corel5k-figure-1.png"}
WIDTH = 1200  # pixels of a jpg
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={WIDTH},1500"]


def main() -> None:
    """Parse the command line and draw what its folders allow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, default=Path("c3-demo"))
    parser.add_argument("--real", type=Path)
    asked = parser.parse_args()
    if not (asked.demo / "runs").is_dir():
        c3("demo", "--out", asked.demo)
    with tempfile.TemporaryDirectory() as scratch:
        demo_pictures(asked.demo / "runs", Path(scratch))
        if asked.real:
            real_pictures(asked.real, Path(scratch))
        else:
            print(f"kept: {', '.join(REAL.values())} need runs on real photographs: make pictures REAL=FOLDER")


def demo_pictures(runs: Path, scratch: Path) -> None:
    """Draw figure 6 of the demo's runs and, where there is a browser, the page of its report."""
    c3("report", "--runs", runs, "--figures", 6, "--out", scratch)
    to_jpg(scratch / "figure-6-demo.png", IMAGES / RESPONSES)
    chromium = shutil.which("chromium")
    if chromium is None:
        print(f"kept: {DEMO_PAGE} needs a browser: apt-get install chromium")
        return
    page, shot = scratch / "report.html", scratch / "report.png"
    c3("report", "--runs", runs, "--html", page)
    subprocess.run([chromium, *FLAGS, f"--screenshot={shot}", page.as_uri()], check=True, capture_output=True)
    to_jpg(shot, IMAGES / DEMO_PAGE)


def real_pictures(runs: Path, scratch: Path) -> None:
    """Draw the figures of `REAL` from runs on Corel5k; say which could not be drawn."""
    c3("report", "--runs", runs, "--figures", *REAL, "--out", scratch)
    for number, name in REAL.items():
        drawn = scratch / f"figure-{number}-corel5k.png"
        if drawn.exists():
            shutil.copyfile(drawn, IMAGES / name)
            print(IMAGES / name)
        else:
            print(f"kept: {name}, because figure {number} of {runs} was not drawn")


def c3(*arguments: object) -> None:
    """Run a command of this c3 in a process of its own. Raises CalledProcessError where it fails."""
    subprocess.run([sys.executable, "-m", "c3", *map(str, arguments)], check=True)


def to_jpg(drawn: Path, path: Path) -> None:
    """Write a picture as a jpg of `WIDTH` pixels and tell where."""
    with Image.open(drawn) as picture:
        picture.convert("RGB").resize((WIDTH, round(WIDTH * picture.height / picture.width))).save(path, quality=80)
    print(path)


if __name__ == "__main__":
    main()
