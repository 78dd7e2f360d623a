"""What is worth saying about pictures that were read: counted over a whole run, with the first example of each kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Remark(StrEnum):
    """Why a picture that was read deserves a look. The value completes a sentence that begins with "3 images"."""

    ONE_COLOUR = "of one single colour"
    RANGE = "whose file does not declare the range of its numbers, scaled by the numbers themselves"
    NOT_FINITE = "with pixels that are not finite numbers, drawn black"
    TRUNCATED = "cut off, used as far as the file goes"
    METADATA = "with metadata that cannot be read, used as stored"
    LARGE = "of more than 89 megapixels"
    WARNING = "with a warning from the decoder"


@dataclass
class RemarkCounts:
    """How many pictures have each remark, and the first of them in words."""

    counts: Counter[Remark] = field(default_factory=Counter)
    first: dict[Remark, str] = field(default_factory=dict)

    def note(self, name: str, remarks: Mapping[Remark, str]) -> None:
        """Count the remarks of a picture; the values say details, and may be empty."""
        for remark, detail in remarks.items():
            self.counts[remark] += 1
            self.first.setdefault(remark, f"{name}: {detail}" if detail else name)

    def add(self, other: RemarkCounts) -> None:
        """Add the counts of later pictures."""
        self.counts += other.counts
        self.first = other.first | self.first

    def lines(self, noun: str = "image") -> Iterator[str]:
        """Yield one line for each kind of remark, in a fixed order."""
        for remark in Remark:
            if count := self.counts[remark]:
                yield f"{count:,} {noun}{'s' * (count > 1)} {remark} (first: {self.first[remark]})"
