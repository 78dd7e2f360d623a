"""Read csv files strictly: whatever does not fit the header is refused with its line, as an editor counts lines.

Python's csv module and not pandas: it counts lines, blank ones and those inside quotes too, refuses an open quote, and
takes no column for an index. `benchmarks/table_reading.py` compares their speed.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .errors import C3Error, clipped
from .text_files import read_text

if TYPE_CHECKING:
    from _csv import Reader

DELIMITERS = ",;\t"  # which Excel writes, by country and format
HEAD = 1 << 22  # characters that hold the header, also one of a hundred thousand columns
EXCEL_LINE = re.compile(r'"?sep=(.)"?[,;\t ]*(?:\r\n|\r|\n)', re.IGNORECASE)  # Excel's own note of the delimiter


class CsvRow(NamedTuple):
    """The fields of a row, as many as the header has, and the first and last line where it stands."""

    fields: list[str]
    line: int
    last_line: int


class CsvFile:
    """A csv with the columns `needed`, among others. Fields are separated by comma, semicolon or tab.

    Raises C3Error for a file that is no text, for a header that lacks a column or names one twice.
    """

    def __init__(self, path: Path, needed: Sequence[str], what: str = "csv") -> None:
        text = read_text(path, what)
        # Python's limit of 131,072 characters is that of the whole process; some columns hold pictures or outlines
        csv.field_size_limit(max(csv.field_size_limit(), len(text)))
        note = EXCEL_LINE.match(text)
        self.path, self._text, self._skipped = path, text[note.end() :] if note else text, 1 if note else 0
        headers = {by: self._header(by) for by in (note[1] if note else DELIMITERS)}
        fits = (by for by, (header, _) in headers.items() if all(name in header for name in needed))
        self.delimiter = next(fits, max(headers, key=lambda by: len(headers[by][0])))
        header, line = headers[self.delimiter]
        self.columns, self._header_line = tuple(header), line
        expected = f"expected the columns {', '.join(needed)}"
        if not header:
            raise C3Error(f"{path} cannot be read as csv: it has no header; {expected}")
        if missing := [name for name in needed if name not in header]:
            found = clipped(", ".join(header))
            raise C3Error(f"{path} line {line}: {expected}; found {found}; missing {missing[0]}")
        for name in filter(None, header):
            if header.count(name) > 1:
                raise C3Error(f"{path} line {line}: expected each column once, found {name!r} twice")

    def _header(self, delimiter: str) -> tuple[list[str], int]:
        """Return the first row that is not blank, and its line."""
        try:
            for row in (reader := self._reader(delimiter, self._text[:HEAD])):
                if any(map(str.strip, row)):
                    return row, self._skipped + reader.line_num
        except csv.Error:
            pass  # an open quote: what it swallows is no header
        return [], self._skipped + 1

    def _reader(self, delimiter: str, text: str) -> Reader:
        return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)

    def __iter__(self) -> Iterator[CsvRow]:
        """Yield the rows below the header; blank lines and lines of separators alone are none.

        Raises C3Error naming the line of a row with more or fewer fields than the header, of a quote that is not
        closed, and of a value in a column without a name; the first column may have none, as pandas writes its index.
        """
        width, unnamed = len(self.columns), [n for n, name in enumerate(self.columns) if n and not name.strip()]
        reader = self._reader(self.delimiter, self._text)
        last = 0
        try:
            for fields in reader:
                line, last = last + 1, reader.line_num
                if line + self._skipped <= self._header_line or not fields:
                    continue
                if not any(map(str.strip, fields)) and len(fields) in (1, width):
                    continue  # a blank line, or one of separators only, as Excel writes rows without cells
                if len(fields) != width:
                    raise self._of_another_width(fields, line)
                if unnamed and (lost := [fields[n] for n in unnamed if fields[n].strip()]):
                    raise C3Error(f"{self._at(line)}: the column of the value {lost[0]!r} has no name in the header")
                yield CsvRow(fields, line + self._skipped, last + self._skipped)
        except csv.Error as error:
            raise C3Error(
                f"{self._at(last + 1)} cannot be read as csv: a quote is open or does not end its field ({error})"
            ) from error

    def _at(self, line: int) -> str:
        return f"{self.path} line {line + self._skipped}"

    def _of_another_width(self, fields: list[str], line: int) -> C3Error:
        found = clipped(self.delimiter.join(fields))
        hint = f"; a field that holds {self.delimiter!r} stands in quotes" if len(fields) > len(self.columns) else ""
        return C3Error(
            f"{self._at(line)}: expected {len(self.columns)} fields ({clipped(', '.join(self.columns))}), found "
            f"{len(fields)}: {found!r}{hint}"
        )
