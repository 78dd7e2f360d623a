"""What a store offers a method: pure data, which run.json keeps. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..common.errors import SettingError
from ..extract.store.layout import GLOBAL_VECTOR, GRID, REGIONS

REGION_SIDE = 14  # cells along the edge of `regions`


@dataclass(frozen=True)
class Inputs:
    """The arrays and the classes that a method is built for.

    `channels` of each pooled level, shallow to deep; `d_w`, the width of a word vector; the number of `classes` trained
    on; the channels of the unpooled `regions` and the width of the `global_vector` of the whole picture (0: absent).
    """

    channels: Mapping[str, int]
    d_w: int
    classes: int
    regions: int = 0
    global_vector: int = 0

    @property
    def levels(self) -> tuple[str, ...]:
        """Return the names of the levels. Raises SettingError where there are only vectors of whole pictures."""
        if not self.channels:
            raise SettingError(
                "these features are vectors of whole pictures, and this method reads maps; use one that reads vectors, "
                "such as conse, labelem, fast0tag or c3-plus"
            )
        return tuple(self.channels)

    @property
    def deepest(self) -> str:
        """Return the name of the last level. Raises SettingError where there is none."""
        return self.levels[-1]

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of all arrays on offer, the levels first."""
        return (*self.channels, *[REGIONS] * (self.regions > 0), *[GLOBAL_VECTOR] * (self.global_vector > 0))

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of one row of an array: (channels, 7, 7), (channels, 14, 14) or (width,)."""
        if name == GLOBAL_VECTOR:
            return (self.global_vector,)
        if name == REGIONS:
            return (self.regions, REGION_SIDE, REGION_SIDE)
        return (self.channels[name], GRID, GRID)
