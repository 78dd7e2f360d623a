"""What every page of c3 shares: its style, its templates, and images inside the page."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader
from PIL import Image

TEMPLATE = Path(__file__).with_name("template")
STYLE = "report.css"  # of all pages


def render(folder: Path, name: str, **values: object) -> str:
    """Return the page NAME.html of a folder of templates, with NAME.js and NAME.css after the style of all pages.

    It extends page.html, the frame of all pages. Every value is escaped. Our own style and script, and what a template
    itself marks, are safe.
    """
    environment = Environment(
        loader=FileSystemLoader([folder, TEMPLATE]), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    files = dict.fromkeys([TEMPLATE / STYLE, folder / f"{name}.css"])
    css = "".join(file.read_text(encoding="utf-8") for file in files)
    js = (folder / f"{name}.js").read_text(encoding="utf-8")
    return environment.get_template(f"{name}.html").render(css=css, js=js, **values)


def data_url(pixels: np.ndarray, kind: str) -> str:
    """Return pixels (height, width, 3 or 4) uint8 as an address that holds them, as `jpeg` or `png`."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
