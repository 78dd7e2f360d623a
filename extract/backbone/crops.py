"""Turn a picture and a box into pixels, or into a named failure. Only this module opens pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from ...common.unicode_forms import on_disk
from ..store.cache import Status
from .specs import INPUT_SIZE

FIRST_ON_ITS_SIDE = 5  # EXIF orientations from here on exchange width and height
MIN_SIDE = 2  # pixels: a smaller crop has nothing to show a backbone


@dataclass(frozen=True)
class Crop:
    """`pixels` (size, size, 3) uint8 when `status` is OK, else None; `reason` says what went wrong."""

    pixels: np.ndarray | None
    status: Status
    reason: str = ""


@dataclass(frozen=True)
class Frame:
    """How a picture lies in its file: `size` is width and height in stored pixels; `orientation` is that of EXIF.

    An orientation of 2 to 8 says how to flip and turn the stored pixels, so that the picture is upright.
    """

    size: tuple[int, int]
    orientation: int

    @property
    def upright_size(self) -> tuple[int, int]:
        """Return the width and height of the picture that `load_crop` cuts."""
        width, height = self.size
        return (height, width) if self.orientation >= FIRST_ON_ITS_SIDE else (width, height)


def read_frame(path: Path) -> Frame | None:
    """Read size and orientation from the header of a picture; None for a file that is missing or no picture."""
    try:
        with Image.open(path) as image:
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            frame = Frame(image.size, orientation if orientation in range(1, 9) else 1)
            # Pillow gives the size of a TIFF as it is after turning
            return Frame(frame.upright_size, frame.orientation) if image.format == "TIFF" else frame
    except Exception:  # as many types as in `load_crop`, which will say the reason
        return None


def load_crop(path: Path, box: np.ndarray, size: int = INPUT_SIZE) -> Crop:
    """Decode a picture, turn it upright, cut `box` (x0, y0, x1, y1 in 0..1) and resize it to size x size RGB.

    A box with x0 > x1 is the mirrored crop. Grey, 16-bit, palette, CMYK and transparent pictures become RGB
    (transparency over white). A bad picture raises nothing: its failure is the returned status. Its name may be stored
    in another Unicode form.
    """
    path = on_disk(path)
    try:
        if path.stat().st_size == 0:
            return Crop(None, Status.EMPTY, "the file is empty")
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return Crop(None, Status.MISSING, "no such file")
    try:
        with Image.open(path) as image:
            image.load()
            rgb = _to_rgb(ImageOps.exif_transpose(image))
    except Exception as error:  # decoders raise OSError, ValueError, SyntaxError, struct.error ... on damaged files
        return Crop(None, Status.UNREADABLE, f"{type(error).__name__}: {error}")
    # cut whole pixels first: resizing with a box would blend in pixels from outside it
    x0, y0, x1, y1 = map(float, box)
    left, right = round(min(x0, x1) * rgb.width), round(max(x0, x1) * rgb.width)
    top, bottom = round(y0 * rgb.height), round(y1 * rgb.height)
    if min(right - left, bottom - top) < MIN_SIDE:
        return Crop(None, Status.TOO_SMALL, f"the crop is {right - left} x {bottom - top} pixels")
    resized = rgb.crop((left, top, right, bottom)).resize((size, size), Image.Resampling.BILINEAR)
    return Crop(np.asarray(ImageOps.mirror(resized) if x0 > x1 else resized), Status.OK)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        # Pillow clips 16-bit greys at 255 when it converts them; keep their high byte instead.
        grey = np.asarray(image).astype(np.int64).clip(0, 65535) >> 8
        image = Image.fromarray(grey.astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
