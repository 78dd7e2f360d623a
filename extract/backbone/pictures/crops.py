"""Turn a picture and a box into pixels, or into a named failure."""

from __future__ import annotations

import errno
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ....common.unicode_forms import on_disk
from ...store.cache import Status
from ..specs import INPUT_SIZE, SHORTEST, SQUASH
from .decode import WORTH_SAYING, decode
from .decode_options import DEFAULT, DecodeOptions
from .numeric import Undecodable
from .remarks import Remark

MIN_SIDE = 2  # pixels: a smaller crop has nothing to show a backbone
NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


@dataclass(frozen=True)
class Crop:
    """`pixels` (size, size, 3) uint8 when `status` is OK, else None; `reason` says what went wrong.

    `remarks` say in what a picture that was read is odd, with details.
    """

    pixels: np.ndarray | None
    status: Status
    reason: str = ""
    remarks: Mapping[Remark, str] = field(default_factory=dict)


def load_crop(
    path: Path,
    box: np.ndarray,
    size: int = INPUT_SIZE,
    options: DecodeOptions = DEFAULT,
    interpolation: str = "bilinear",
    fit: str = SQUASH,
) -> Crop:
    """Decode a picture, turn it upright, cut `box` (x0, y0, x1, y1 in 0..1) and resize it to size x size RGB.

    `fit` says how a box that is no square becomes one (see `Resize`), and a box with x0 > x1 is the mirrored crop.
    Grey, palette, CMYK and transparent pictures become RGB (transparency over white). Numbers of more than 8 bits are
    scaled by the range that the file declares or plainly uses. A bad picture raises nothing: its failure is the
    returned status. Its name may be stored in another Unicode form.
    """
    path = on_disk(path)
    failed = _not_a_file(path)
    if failed:
        return failed
    try:
        decoded = decode(path, options)
        crop = _cut(decoded.image, box, size, Image.Resampling[interpolation.upper()], fit)
    except Undecodable as error:
        return Crop(None, Status.UNREADABLE, str(error))
    except Exception as error:  # decoders raise OSError, ValueError, SyntaxError, struct.error ... on damaged files
        return Crop(None, Status.UNREADABLE, f"{type(error).__name__}: {error}")
    if crop.pixels is None:
        return crop
    remarks = dict(decoded.remarks)
    if _is_one_colour(crop.pixels):
        remarks[Remark.ONE_COLOUR] = "#{:02x}{:02x}{:02x}".format(*crop.pixels[0, 0])
    return Crop(crop.pixels, Status.OK, remarks=remarks)


def load_thumbnail(path: Path, side: int, options: DecodeOptions = DEFAULT) -> np.ndarray | None:
    """Return an upright picture as RGB (height, width, 3) uint8 whose sides are at most `side`; None for a bad one."""
    path = on_disk(path)
    if _not_a_file(path):
        return None
    try:
        image = _opaque(decode(path, options).image)
        image.thumbnail((side, side))
        return np.asarray(image.convert("RGB"))
    except Exception:  # decoders raise nearly anything
        return None


def _not_a_file(path: Path) -> Crop | None:
    """Return the failure of a path that leads to no file with content."""
    try:
        found = path.stat()
    except OSError as error:
        if error.errno in NOWHERE:
            return Crop(None, Status.MISSING, "no such file")
        return Crop(None, Status.UNREADABLE, error.strerror or str(error))
    except ValueError as error:  # a NUL, or a name that the encoding of file names lacks
        return Crop(None, Status.MISSING, f"no name of a file ({error})")
    if not stat.S_ISREG(found.st_mode):
        return Crop(None, Status.UNREADABLE, "a folder" if stat.S_ISDIR(found.st_mode) else "not a regular file")
    return Crop(None, Status.EMPTY, "the file is empty") if found.st_size == 0 else None


def _is_one_colour(pixels: np.ndarray) -> bool:
    flat = pixels.reshape(-1, 3)
    return bool((flat[::97] == flat[0]).all() and (flat == flat[0]).all())  # a few pixels first: most differ there


def _cut(image: Image.Image, box: np.ndarray, size: int, filtering: Image.Resampling, fit: str) -> Crop:
    # cut whole pixels first: resizing with a box would blend in pixels from outside it
    x0, y0, x1, y1 = map(float, box)
    left, right = round(min(x0, x1) * image.width), round(max(x0, x1) * image.width)
    top, bottom = round(y0 * image.height), round(y1 * image.height)
    if min(right - left, bottom - top) < MIN_SIDE:
        return Crop(None, Status.TOO_SMALL, f"the crop is {right - left} x {bottom - top} pixels")
    part = _opaque(_part(image, (left, top, right, bottom)))
    resized = (_middle(part, size, filtering) if fit == SHORTEST else part.resize((size, size), filtering)).convert(
        "RGB"
    )
    return Crop(np.asarray(ImageOps.mirror(resized) if x0 > x1 else resized), Status.OK)


def _middle(part: Image.Image, size: int, filtering: Image.Resampling) -> Image.Image:
    """Resize the shorter side to `size` and cut the square in the middle; sides are rounded as torchvision does."""
    shorter = min(part.size)
    width, height = (int(size * side / shorter) for side in part.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return part.resize((width, height), filtering).crop((left, top, left + size, top + size))


def _part(image: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    left, top, right, bottom = box
    if box == (0, 0, *image.size):
        return image
    if (right - left) * (bottom - top) > WORTH_SAYING:  # Pillow's crop warns of it, or refuses it
        return image.transform((right - left, bottom - top), Image.Transform.EXTENT, box)
    return image.crop(box)


def _opaque(image: Image.Image) -> Image.Image:
    """Return a picture in grey or RGB, transparency over white. Grey is resized as grey: it gives the same numbers."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if image.mode in ("1", "L") else "RGB") if image.mode != "RGB" else image
