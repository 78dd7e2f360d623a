"""A manifest row -> pixels, or a named failure. The only place that opens an image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..store.cache import Status

MIN_SIDE = 2  # pixels: a smaller crop has nothing to show a backbone


@dataclass(frozen=True)
class Crop:
    """`pixels` is (size, size, 3) uint8 when `status` is OK, otherwise None; `reason` says what went wrong."""

    pixels: np.ndarray | None
    status: Status
    reason: str = ""


def load_crop(path: Path, box: np.ndarray, size: int) -> Crop:
    """Decode an image fully, turn it upright, cut `box` (x0, y0, x1, y1 in 0..1) and resize it to size x size RGB.

    A box with x0 > x1 is the mirrored crop.
    Grey, 16-bit, palette, CMYK and transparent pictures become RGB (transparency over white). Never raises for a bad
    image: the failure is the returned status.
    """
    try:
        if path.stat().st_size == 0:
            return Crop(None, Status.EMPTY, "the file is empty")
    except OSError:
        return Crop(None, Status.MISSING, "no such file")
    try:
        with Image.open(path) as image:
            image.load()
            rgb = _to_rgb(ImageOps.exif_transpose(image))
    except Exception as error:  # decoders raise OSError, ValueError, SyntaxError, struct.error ... on damaged files
        return Crop(None, Status.UNREADABLE, f"{type(error).__name__}: {error}")
    # cut whole pixels first: resizing with a box would blend in pixels from outside it
    left, right = sorted((float(box[0]), float(box[2])))
    upright = (left, float(box[1]), right, float(box[3]))
    edges = tuple(round(edge * side) for edge, side in zip(upright, rgb.size * 2, strict=True))
    width, height = edges[2] - edges[0], edges[3] - edges[1]
    if min(width, height) < MIN_SIDE:
        return Crop(None, Status.TOO_SMALL, f"the crop is {width} x {height} pixels")
    resized = rgb.crop(edges).resize((size, size), Image.Resampling.BILINEAR)
    mirrored = box[0] > box[2]
    return Crop(np.asarray(ImageOps.mirror(resized) if mirrored else resized), Status.OK)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        # Pillow clips 16-bit greys at 255 when it converts them; keep their high byte instead.
        grey = np.asarray(image).astype(np.int64).clip(0, 65535) >> 8
        image = Image.fromarray(grey.astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
