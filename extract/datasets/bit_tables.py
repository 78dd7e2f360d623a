"""Read text tables of 0 and 1 with one line per image: the label and tag files of NUS-WIDE."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...common.errors import C3Error

BLOCK = 1 << 25  # bytes of lines decoded at a time
BOM = b"\xef\xbb\xbf"


def read_bits(path: Path, columns: int) -> tuple[int, np.ndarray, np.ndarray]:
    """Return the number of lines, and the row and the column of every 1, both (ones,) int64, in the order of rows.

    Values are separated by one tab or blank; CRLF, a BOM and a separator at the end of a line are accepted. Raises
    C3Error naming the line that has another number of values or a value that is neither 0 nor 1.
    """
    lines, rows, found = 0, [], []
    width = 2 * columns - 1
    with path.open("rb") as file:
        while block := file.readlines(BLOCK):
            if lines == 0:
                block[0] = block[0].removeprefix(BOM)
            stripped = [line.strip() for line in block]
            if any(len(line) != width for line in stripped):
                _refuse(path, lines, stripped, columns)
            text = np.frombuffer(b"".join(stripped), np.uint8).reshape(len(stripped), width)
            values, separators = text[:, ::2], text[:, 1::2]
            if (values & 0xFE != ord("0")).any() or not ((separators == 9) | (separators == 32)).all():
                _refuse(path, lines, stripped, columns)
            row, column = np.nonzero(values == ord("1"))
            rows.append(row + lines)
            found.append(column)
            lines += len(block)
    if not lines:
        raise C3Error(f"{path} is empty")
    return lines, np.concatenate(rows), np.concatenate(found)


def _refuse(path: Path, before: int, lines: list[bytes], columns: int) -> None:
    """Find the first bad line of a block that follows `before` lines."""
    for number, line in enumerate(lines, start=before + 1):
        values = line.split()
        if len(values) != columns:
            raise C3Error(f"{path} line {number}: expected {columns} values of 0 or 1, found {len(values)}")
        wrong = [value for value in values if value not in (b"0", b"1")]
        if wrong:
            shown = wrong[0].decode("utf-8", "replace")
            raise C3Error(f"{path} line {number}: expected 0 or 1, found {shown!r}")
        if len(line) != 2 * columns - 1:
            raise C3Error(f"{path} line {number}: expected values separated by one tab or blank")
