"""How a picture lies in its file: its size and its orientation, from the header alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ....common.unicode_forms import on_disk
from .decode import identified, orientation_of
from .decoder_warnings import collected_warnings

FIRST_ON_ITS_SIDE = 5  # EXIF orientations from here on exchange width and height


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
        with on_disk(path).open("rb") as file, collected_warnings():
            image = identified(file, path.suffix.lower())
            frame = Frame(image.size, orientation_of(image))
            # Pillow gives the size of a TIFF as it is after turning
            return Frame(frame.upright_size, frame.orientation) if image.format == "TIFF" else frame
    except Exception:  # as many types as in `load_crop`, which will say the reason
        return None
