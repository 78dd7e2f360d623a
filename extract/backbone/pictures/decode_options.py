"""Settings that decide whether a picture is read. A store records them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ....common.errors import SettingError
from ...store.names import KEEP, MAX_MEGAPIXELS, STATUS, TRUNCATED


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
        if not isinstance(self.max_megapixels, int) or self.max_megapixels < 1:
            raise SettingError(f"max megapixels: expected at least 1, found {self.max_megapixels}")

    @classmethod
    def recorded(cls, request: Mapping[str, object] | None) -> DecodeOptions:
        """Return the settings in the record of a request, in which defaults are left out."""
        known = {name: value for name, value in (request or {}).items() if name in cls.__dataclass_fields__}
        return cls(**known)  # type: ignore[arg-type]  # JSON, which __post_init__ checks

    @property
    def keeps_truncated(self) -> bool:
        """Whether the part of a picture that is in a truncated file is used."""
        return self.truncated == KEEP


DEFAULT = DecodeOptions()
