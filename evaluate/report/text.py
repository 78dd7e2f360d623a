"""Cells -> a text table that fits the terminal: the columns of a metric that find no room go below, under the names."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest

WIDTH = 120  # columns of a text that goes to a file
NARROWEST_LABEL = 14
NARROW_HEADING = 6  # numbers are narrow, so their headings are broken to lines of this length
GAP = 2
NAMES = 2  # the columns on the left that every panel repeats: the method and the task


@dataclass(frozen=True)
class Sheet:
    """A table as cells.

    `headings` has (name, source) for every column, `rows` a list of cells for every row. The first two columns are
    names; of the others, neighbours of one name belong together. `sections` has the headings that stand before rows, by
    the number of the row.
    """

    title: str
    headings: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]
    sections: Mapping[int, str]


def text_of(sheet: Sheet, width: int = WIDTH) -> str:
    """Return a sheet as text of at most `width` columns; only names and cells without a space can make it wider."""
    names = [[name, *textwrap.wrap(source, NARROW_HEADING, break_long_words=False)] for name, source in sheet.headings]
    columns = list(zip(*sheet.rows, strict=True)) if sheet.rows else [()] * len(names)
    widths = [max(map(len, [*lines, *cells])) for lines, cells in zip(names, columns, strict=True)]
    label = min(widths[0], NARROWEST_LABEL)  # a name has the lines of all its tasks
    panels = list(_panels(sheet, widths, width - label - GAP - widths[1]))
    room = width - max(sum(GAP + widths[column] for column in (1, *panel)) for panel in panels)
    widths[0] = min(widths[0], max(room, label))
    lines: list[str] = []
    for panel in panels:
        lines += ["", *_panel(sheet, names, widths, (0, 1, *panel))]
    notes = [
        textwrap.fill(note, min(width, WIDTH), subsequent_indent="  ", break_on_hyphens=False) for note in sheet.notes
    ]
    return "\n".join([*textwrap.wrap(sheet.title, width), *lines, "", *notes])


def _panels(sheet: Sheet, widths: Sequence[int], room: int) -> Iterator[list[int]]:
    """Yield the columns of every panel: as many metrics side by side as fit."""
    panel: list[int] = []
    taken = 0
    for _, group in groupby(range(NAMES, len(sheet.headings)), key=lambda column: sheet.headings[column][0]):
        columns = list(group)
        needed = sum(GAP + widths[column] for column in columns)
        if panel and taken + needed > room:
            yield panel
            panel, taken = [], 0
        panel, taken = panel + columns, taken + needed
    if panel:
        yield panel


def _panel(
    sheet: Sheet, names: Sequence[Sequence[str]], widths: Sequence[int], columns: Sequence[int]
) -> Iterator[str]:
    def line(cells: Sequence[str]) -> str:
        sides = [cell.ljust(widths[column]) for cell, column in zip(cells[:NAMES], columns[:NAMES], strict=True)]
        sides += [cell.rjust(widths[column]) for cell, column in zip(cells[NAMES:], columns[NAMES:], strict=True)]
        return (" " * GAP).join(sides).rstrip()

    rule = "-" * (sum(widths[column] for column in columns) + GAP * (len(columns) - 1))
    yield from (line(row) for row in zip_longest(*(names[column] for column in columns), fillvalue=""))
    yield rule
    for rows in _methods(sheet):
        if heading := sheet.sections.get(rows[0]):
            yield heading
        label = textwrap.wrap(sheet.rows[rows[0]][0], widths[0], break_on_hyphens=False)
        for name, row in zip_longest(label, rows):  # a long name runs past the tasks of its row
            cells = [""] * (len(columns) - 1) if row is None else [sheet.rows[row][column] for column in columns[1:]]
            yield line([name or "", *cells])
    yield rule


def _methods(sheet: Sheet) -> Iterator[list[int]]:
    """Yield the numbers of the rows of every method: a row without a name continues the one above it."""
    found: list[int] = []
    for number, cells in enumerate(sheet.rows):
        if cells[0] and found:
            yield found
            found = []
        found.append(number)
    if found:
        yield found
