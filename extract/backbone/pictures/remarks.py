"""What is worth saying about pictures that were read: counted over a whole run, with the first example of each kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Remark(StrEnum):
    """Why a picture that was read deserves a look. The value completes a sentence that begins with "3 images are"."""

    ONE_COLOUR = "one single colour"
    RANGE = "made of numbers whose range the file does not declare, and scaled by what was found"
    NOT_FINITE = "without a finite number in some pixels, which are black"
    TRUNCATED = "cut off, and used as far as the file goes"
    METADATA = "not turned, because the metadata cannot be read"
    LARGE = "larger than 89 megapixels"
    WARNING = "read with a warning of the decoder"


@dataclass
class RemarkCounts:
    """How many pictures have each remark, and the first of them in words."""

    counts: Counter[Remark] = field(default_factory=Counter)
    first: dict[Remark, str] = field(default_factory=dict)

    def note(self, name: str, remarks: Mapping[Remark, str]) -> None:
        """Count the remarks of a picture; the values say details, and may be empty."""
        for remark, detail in remarks.items():
            self.counts[remark] += 1
            self.first.setdefault(remark, f"{name} ({detail})" if detail else name)

    def add(self, other: RemarkCounts) -> None:
        """Add the counts of later pictures."""
        self.counts += other.counts
        self.first = other.first | self.first

    def lines(self, noun: str = "image") -> Iterator[str]:
        """Yield one line for each kind of remark, in a fixed order."""
        for remark in Remark:
            if count := self.counts[remark]:
                subject = f"1 {noun} is" if count == 1 else f"{count:,} {noun}s are"
                yield f"{subject} {remark}, first: {self.first[remark]}"


def shared_remarks(crops: Sequence[Mapping[Remark, str]]) -> dict[Remark, str]:
    """Return the remarks that all crops of a picture share: a part of one colour does not make the picture so."""
    return {remark: detail for remark, detail in crops[0].items() if all(remark in other for other in crops[1:])}
