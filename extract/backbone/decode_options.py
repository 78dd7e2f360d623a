"""Settings that decide whether and how a picture is read. Imports nothing heavy: the command line offers them."""

from __future__ import annotations

from dataclasses import dataclass

from ...common.errors import SettingError

STATUS, KEEP = "status", "keep"
TRUNCATED = (STATUS, KEEP)  # what becomes of a picture whose file ends too early
MAX_MEGAPIXELS = 179  # as Pillow's own limit


@dataclass(frozen=True)
class DecodeOptions:
    """How pictures are read.

    `truncated` is `status` (a picture whose file ends too early counts as unreadable) or `keep` (the part in the file
    is used). A picture of more than `max_megapixels` million pixels counts as unreadable.
    """

    truncated: str = STATUS
    max_megapixels: int = MAX_MEGAPIXELS

    def __post_init__(self) -> None:
        if self.truncated not in TRUNCATED:
            raise SettingError(f"truncated: expected {' or '.join(TRUNCATED)}, found {self.truncated!r}")
        if self.max_megapixels < 1:
            raise SettingError(f"max megapixels: expected at least 1, found {self.max_megapixels}")

    @property
    def keeps_truncated(self) -> bool:
        """Whether the part of a picture that is in a truncated file is used."""
        return self.truncated == KEEP


DEFAULT = DecodeOptions()
