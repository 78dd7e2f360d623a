"""A table of measured and published numbers -> text, markdown, csv or latex."""

from __future__ import annotations

import csv
import io
import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import pandas as pd

from ..errors import unknown_name

WIDTH = 100  # columns of a text report
NARROWEST_LABEL = 12
NARROW_HEADING = 6  # numbers are narrow, so their headings are broken to lines of this length
NOTHING = "-"
FIELDS = ("mean", "sd", "n", "published")
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "±": r"$\pm$", "†": r"$\dagger$",
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """One table to print.

    `frame` has the index (Method, Task), two rows a method, and the columns (metric, field) for every one of FIELDS,
    all float and in percent, NaN where there is nothing. A row whose n is NaN is a reference, never the best.
    `reference` heads the published columns: `paper`, or `paper, NUS-WIDE` beside another data set.
    """

    title: str
    frame: pd.DataFrame
    notes: tuple[str, ...]
    reference: str = "paper"

    @property
    def metrics(self) -> list[str]:
        """The metrics in column order."""
        return list(dict.fromkeys(metric for metric, _ in self.frame.columns))


def render(tables: Sequence[Table], format: str) -> str:
    """All tables as one text ending in a newline; `format` is text, markdown, csv or latex.

    The csv is one long table (a line per method, task and metric, every digit, no notes), whatever the tables' columns.
    Raises C3Error for another format.
    """
    require_format(format)
    return _csv(tables) if format == "csv" else "\n\n\n".join(PAGES[format](table) for table in tables) + "\n"


def require_format(format: str) -> None:
    """Refuse a format that `render` does not know, before any work is done for it."""
    if format not in FORMATS:
        raise unknown_name("report format", format, FORMATS)


def _text(table: Table) -> str:
    heading = [
        [name, *textwrap.wrap(source, NARROW_HEADING, break_long_words=False)] for name, source in _headings(table)
    ]
    body = _body(table, strong=str)
    widths = [max(map(len, [*lines, *cells])) for lines, cells in zip(heading, zip(*body, strict=True), strict=True)]
    widths[0] = min(widths[0], max(WIDTH - sum(2 + width for width in widths[1:]), NARROWEST_LABEL))

    def line(cells: Sequence[str]) -> str:
        sides = [cell.ljust(width) for cell, width in zip(cells[:2], widths[:2], strict=True)]
        sides += [cell.rjust(width) for cell, width in zip(cells[2:], widths[2:], strict=True)]
        return "  ".join(sides).rstrip()

    empty = [""] * (len(widths) - 1)
    lines = [line(row) for row in zip_longest(*heading, fillvalue="")]
    rule = "-" * max(map(len, lines))
    lines.append(rule)
    for first, second in zip(body[::2], body[1::2], strict=True):
        names = textwrap.wrap(first[0], widths[0], break_on_hyphens=False)
        rows = zip_longest(names, (first[1:], second[1:]))  # a long name runs past its two tasks
        lines += [line([name or "", *(cells or empty)]) for name, cells in rows]
    lines.append(rule)
    notes = [textwrap.fill(note, WIDTH, subsequent_indent="  ", break_on_hyphens=False) for note in table.notes]
    return "\n".join([table.title, "", *lines, "", *notes])


def _markdown(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    rows = [line(row) for row in _body(table, strong="**{}**".format)]
    alignment = line(["---", "---", *["---:"] * (2 * len(table.metrics))])
    notes = [f"- {note}" for note in table.notes]
    return "\n".join([f"### {table.title}", "", line(_flat_headings(table)), alignment, *rows, "", *notes])


def _latex(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return " & ".join(cells) + r" \\"

    rows = [line(map(str, row)) for row in _body(table, strong=r"\textbf{{{}}}".format, escape=_escape)]
    notes = [rf"\par\footnotesize {_escape(note)}" for note in table.notes]
    return "\n".join(
        [r"\begin{table}", r"\centering", rf"\caption{{{_escape(table.title)}}}",
         rf"\begin{{tabular}}{{ll{'r' * (2 * len(table.metrics))}}}", r"\toprule",
         line([_escape(cell) for cell in _flat_headings(table)]), r"\midrule", *rows, r"\bottomrule", r"\end{tabular}",
         *notes, r"\end{table}"]
    )  # fmt: skip


def _csv(tables: Sequence[Table]) -> str:
    page = io.StringIO()
    writer = csv.writer(page, lineterminator="\n")
    writer.writerow(["table", "method", "task", "metric", *FIELDS, "published in"])
    for table in tables:
        for (method, task), row in table.frame.iterrows():
            for metric in table.metrics:
                values = ["" if math.isnan(value) else f"{value:.10g}" for value in row[metric][list(FIELDS)]]
                writer.writerow([table.title, method, task, metric, *values, table.reference])
    return page.getvalue()


def _headings(table: Table) -> list[tuple[str, str]]:
    """What every column shows, and whose value of it."""
    pairs = [((metric, "measured"), (metric, table.reference)) for metric in table.metrics]
    return [("Method", ""), ("Task", ""), *(heading for pair in pairs for heading in pair)]


def _flat_headings(table: Table) -> list[str]:
    return [f"{name} ({source})" if source else name for name, source in _headings(table)]


def _body(table: Table, strong: Callable[[str], str], escape: Callable[[str], str] = str) -> list[list[str]]:
    """The cells of every row, the best measured value of each metric and task marked by `strong`."""
    best = {metric: table.frame[metric].query("n > 0").groupby("Task")["mean"].max() for metric in table.metrics}
    rows = []
    for position, ((method, task), row) in enumerate(table.frame.iterrows()):
        cells = [escape(method) if position % 2 == 0 else "", task]
        for metric in table.metrics:
            entry, shown = row[metric], escape(_measured(row[metric]))
            is_best = entry["n"] > 0 and entry["mean"] == best[metric][task]
            cells += [strong(shown) if is_best else shown, _number(entry["published"])]
        rows.append(cells)
    return rows


def _measured(entry: pd.Series) -> str:
    """`29.4 ± 0.2 (3)`; without a spread for one run, without a count for a reference."""
    spread = "" if math.isnan(entry["sd"]) else f" ± {entry['sd']:.1f}"
    return _number(entry["mean"]) + spread + ("" if math.isnan(entry["n"]) else f" ({entry['n']:.0f})")


def _number(value: float) -> str:
    return NOTHING if math.isnan(value) else f"{value:.1f}"


def _escape(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)


PAGES: dict[str, Callable[[Table], str]] = {"text": _text, "markdown": _markdown, "latex": _latex}
FORMATS = (*PAGES, "csv")
