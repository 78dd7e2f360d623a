"""Read docs/benchmarks.md: its tables by section, and the claims of its first table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from c3.common.errors import C3Error

PAGE = Path(__file__).resolve().parents[1] / "docs/benchmarks.md"
CLAIMS = "Claims"
LINK = re.compile(r"\[([^]]*)\]\([^)]*\)")
NUMBER = re.compile(r"-?[\d,]*\.?\d+")


@dataclass(frozen=True)
class Table:
    """A markdown table, the heading it stands under and the paragraph before it."""

    section: str
    before: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def texts(self, column: str, nth: int = 0) -> list[str]:
        """Return the cells of a column without bold and code marks; `nth` counts columns of one name from 0."""
        places = [place for place, name in enumerate(self.header) if name == column]
        if nth >= len(places):
            raise C3Error(
                f"the table under {self.section!r} has the columns {', '.join(self.header)}: expected {nth + 1} named "
                f"{column!r}. Name it so, or change benchmarks/charts.py"
            )
        return [row[places[nth]].strip("*`") for row in self.rows]

    def numbers(self, column: str, nth: int = 0) -> list[float | None]:
        """Return the first number of every cell of a column, None where a cell is empty."""
        return [number(text) if text else None for text in self.texts(column, nth)]


@dataclass(frozen=True)
class Claim:
    """A row of the first table: what was measured, and whether the aim was reached by it."""

    what: str
    measured: str
    aim: str
    said: str

    @property
    def share(self) -> float:
        """Return how many times the aim was reached: 1 or more where it was."""
        found, aim = number(self.measured), number(self.aim)
        return found / aim if self.aim.startswith("at least") else aim / found

    @property
    def reached(self) -> str:
        """Return what the row has to say."""
        return "reached" if self.share >= 1 else "not reached"


@dataclass(frozen=True)
class Page:
    """The page as text."""

    text: str

    @classmethod
    def read(cls, path: Path = PAGE) -> Page:
        """Read the page of a file."""
        return cls(path.read_text(encoding="utf-8"))

    @cached_property
    def tables(self) -> tuple[Table, ...]:
        """All tables in their order."""
        return tuple(_tables(self.text.splitlines()))

    def under(self, section: str, *columns: str) -> list[Table]:
        """Return the tables under a heading that have these columns. Raises C3Error where there is none."""
        found = [table for table in self.tables if table.section == section and set(columns) <= set(table.header)]
        if not found:
            raise C3Error(
                f"docs/benchmarks.md has no table with the columns {', '.join(columns)} under {section!r}: a chart is "
                "drawn from it. Keep heading and columns, or change benchmarks/charts.py"
            )
        return found

    @property
    def claims(self) -> list[Claim]:
        """The claims with a measurement and an aim, in the order of the page."""
        (table,) = self.under(CLAIMS, "claim", "measured", "aim", "")
        texts = (table.texts(column) for column in ("claim", "measured", "aim", ""))
        claims = [Claim(*cells) for cells in zip(*texts, strict=True)]
        return [claim for claim in claims if claim.measured and claim.aim]


def number(text: str) -> float:
    """Return the first number of a text such as `1,234 (0.5)`, `at most 5 s` or `0.4 %`."""
    found = NUMBER.search(text)
    if found is None:
        raise C3Error(f"docs/benchmarks.md: expected a number, found {text!r}")
    return float(found.group().replace(",", ""))


def _tables(lines: Sequence[str]) -> Iterator[Table]:
    """Yield every table; the paragraph before one ends at an empty line."""
    section, before, block = "", "", []
    fenced = ended = False
    for line in [*lines, ""]:
        fenced ^= line.startswith("```")
        if line.startswith("|"):
            cells = line.strip("|").split("|")
            block.append(tuple(LINK.sub(r"\1", cell).strip() for cell in cells))
            continue
        if block:
            yield Table(section, before, block[0], tuple(block[2:]))
            block = []
        if line.startswith("#") and not fenced:
            section, before = line.lstrip("#").strip(), ""
        elif line:
            before = line if ended else f"{before} {line}".strip()
        ended = not line
