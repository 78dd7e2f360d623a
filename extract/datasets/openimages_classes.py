"""Read the classes of Open Images V4: the 7,186 trainable ones are seen, the 400 of LESA and BiAM are unseen."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ...common.errors import C3Error
from ...common.text_files import class_list, numbered_lines, read_names
from ...common.unicode_forms import clean_name
from ..catalog.specs import OpenImagesSpec


@dataclass(frozen=True)
class OpenImagesClasses:
    """MIDs and names of the classes, the seen ones first.

    A name that several classes share is followed by the MID, so that names are unique. `described` counts the lines of
    class-descriptions.csv, `test_only` the classes among which the unseen ones were chosen.
    """

    seen: tuple[str, ...]
    unseen: tuple[str, ...]
    names: tuple[str, ...]
    described: int
    test_only: int

    @property
    def mids(self) -> tuple[str, ...]:
        """Return the MIDs of all classes, the seen ones first."""
        return self.seen + self.unseen


def read_classes(spec: OpenImagesSpec) -> OpenImagesClasses:
    """Read classes-trainable.txt, whose order is that of the seen classes, the unseen lists and the names.

    top_400_unseen.csv holds positions in unseen_labels.pkl; `unseen` in the catalog entry may name a plain list of MIDs
    instead. Raises C3Error naming file and line.
    """
    trainable = spec.official(spec.trainable)
    seen = class_list(trainable)
    spec.expect("seen", len(seen), trainable)
    unseen, test_only = _unseen(spec)
    both = set(seen) & set(unseen)
    if both:
        raise C3Error(f"{trainable}: {min(both)} is also an unseen class; the lists are of different editions")
    descriptions = spec.official(spec.descriptions)
    described = _descriptions(descriptions)
    spec.expect("class_descriptions", len(described), descriptions)
    mids = (*seen, *unseen)
    for mid in mids:
        if mid not in described:
            raise C3Error(f"{descriptions} has no line for {mid}, which is a class of {trainable.name} or unseen")
    names = [described[mid] for mid in mids]
    repeated = {name for name, count in Counter(names).items() if count > 1}
    unique = tuple(f"{name} ({mid})" if name in repeated else name for mid, name in zip(mids, names, strict=True))
    return OpenImagesClasses(tuple(seen), tuple(unseen), unique, len(described), test_only)


def _unseen(spec: OpenImagesSpec) -> tuple[list[str], int]:
    if spec.unseen is not None:
        mids = class_list(spec.own("unseen", spec.unseen))
        return mids, len(mids)
    path = spec.official(spec.unseen_labels)
    test_only = read_names(path)
    spec.expect("test_only", len(test_only), path)
    chosen = spec.official(spec.unseen_top)
    positions = []
    for number, text in numbered_lines(chosen):
        if not text.isdecimal() or int(text) >= len(test_only):
            raise C3Error(
                f"{chosen} line {number}: expected a position in {path.name}, 0 to {len(test_only) - 1}, found {text!r}"
            )
        if int(text) in positions:
            raise C3Error(f"{chosen} line {number}: position {text} is repeated")
        positions.append(int(text))
    spec.expect("unseen", len(positions), chosen)
    return [test_only[position] for position in positions], len(test_only)


def _descriptions(path: Path) -> dict[str, str]:
    described: dict[str, str] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            for row in (reader := csv.reader(file, strict=True)):
                if len(row) != 2 or not row[0].startswith("/"):
                    raise C3Error(f"{path} line {reader.line_num}: expected MID,name, found {','.join(row)!r}")
                mid, name = row[0], clean_name(row[1])
                if mid in described:
                    raise C3Error(f"{path} line {reader.line_num}: {mid} is repeated")
                described[mid] = name
        except (csv.Error, UnicodeDecodeError) as error:
            raise C3Error(f"{path} cannot be read as csv: {error}") from error
    return described
