"""A table of measured and published numbers -> text, markdown, csv, latex or json."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest

import pandas as pd

from ...common.errors import unknown_name
from ..names import FORMATS

WIDTH = 120  # columns of a text report
NARROWEST_LABEL = 12
NARROW_HEADING = 6  # numbers are narrow, so their headings are broken to lines of this length
NOTHING = "-"
FIELDS = ("mean", "sd", "n", "low", "high", "published", "difference")
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "±": r"$\pm$", "†": r"$\dagger$",
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """One table to print.

    `frame` has the index (Method, Task), a row for every task of a method, and the columns (metric, field) for every
    one of FIELDS, all float and in percent, NaN where there is nothing. A row whose n is NaN is a reference, never the
    best. low and high are a confidence interval over images. Differences are shown where there are any.
    `reference` heads the published columns: `paper`, or `paper, NUS-WIDE` beside another data set.
    """

    title: str
    frame: pd.DataFrame
    notes: tuple[str, ...]
    reference: str = "paper"

    @property
    def metrics(self) -> list[str]:
        """Return the metrics in column order."""
        return list(dict.fromkeys(self.frame.columns.get_level_values("metric")))

    @property
    def compares(self) -> bool:
        """Return whether any measured value stands beside a published one of the same data set and protocol."""
        return bool(self.frame.xs("difference", axis=1, level="field").notna().to_numpy().any())


def render(tables: Sequence[Table], format: str) -> str:
    """Return all tables as one text ending in a newline; `format` is one of `names.FORMATS`.

    Text marks the best measured value with a star, markdown and latex set it bold. The csv is one long table (a line
    per method, task and metric, every digit, no notes), whatever the tables' columns; json has everything.
    Raises C3Error for another format.
    """
    require_format(format)
    if format in WHOLE:
        return WHOLE[format](tables)
    return "\n\n\n".join(PAGES[format](table) for table in tables) + "\n"


def require_format(format: str) -> None:
    """Refuse a format that `render` does not know; callers ask before they do any work for it."""
    if format not in FORMATS:
        raise unknown_name("report format", format, FORMATS)


def _text(table: Table) -> str:
    heading = [
        [name, *textwrap.wrap(source, NARROW_HEADING, break_long_words=False)] for name, source in headings_of(table)
    ]
    body = body_of(table, strong="{}*".format)
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
    for _, rows_of in groupby(zip(table.frame.index, body, strict=True), key=lambda pair: pair[0][0]):
        rows = [cells for _, cells in rows_of]
        names = textwrap.wrap(rows[0][0], widths[0], break_on_hyphens=False)
        # a long name runs past the tasks of its row
        lines += [line([name or "", *(cells[1:] if cells else empty)]) for name, cells in zip_longest(names, rows)]
    lines.append(rule)
    notes = [textwrap.fill(note, WIDTH, subsequent_indent="  ", break_on_hyphens=False) for note in table.notes]
    return "\n".join([table.title, "", *lines, "", *notes])


def _markdown(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    rows = [line(row) for row in body_of(table, strong="**{}**".format)]
    alignment = line(["---", "---", *["---:"] * (len(flat_headings(table)) - 2)])
    notes = [f"- {note}" for note in table.notes]
    return "\n".join([f"### {table.title}", "", line(flat_headings(table)), alignment, *rows, "", *notes])


def _latex(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return " & ".join(cells) + r" \\"

    rows = [line(row) for row in body_of(table, strong=r"\textbf{{{}}}".format, escape=_escape)]
    notes = [rf"\par\footnotesize {_escape(note)}" for note in table.notes]
    return "\n".join(
        [r"\begin{table}", r"\centering", rf"\caption{{{_escape(table.title)}}}",
         rf"\begin{{tabular}}{{ll{'r' * (len(flat_headings(table)) - 2)}}}", r"\toprule",
         line([_escape(cell) for cell in flat_headings(table)]), r"\midrule", *rows, r"\bottomrule", r"\end{tabular}",
         *notes, r"\end{table}"]
    )  # fmt: skip


def _csv(tables: Sequence[Table]) -> str:
    lines = pd.concat(
        pd.DataFrame(table.frame.stack("metric", future_stack=True))
        .reset_index(names=["method", "task", "metric"])
        .assign(table=table.title, **{"published in": table.reference})
        for table in tables
    )
    columns = ["table", "method", "task", "metric", *FIELDS, "published in"]
    return lines[columns].to_csv(index=False, float_format="%.10g", lineterminator="\n")


def _json(tables: Sequence[Table]) -> str:
    """Return a list of tables, every digit, None where there is nothing."""
    content = []
    for table in tables:
        frame = table.frame.astype(object).where(table.frame.notna(), None)
        rows = [
            {"method": method, "task": task, "metrics": {name: row[name].to_dict() for name in table.metrics}}
            for method, task, row in rows_of(frame)
        ]
        content.append({"title": table.title, "published in": table.reference, "rows": rows, "notes": table.notes})
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def rows_of(frame: pd.DataFrame) -> Iterator[tuple[str, str, pd.Series]]:
    """Yield method, task and values of every row of a table's frame."""
    methods, tasks = (frame.index.get_level_values(level) for level in ("Method", "Task"))
    for method, task, (_, row) in zip(methods, tasks, frame.iterrows(), strict=True):
        yield str(method), str(task), row


def headings_of(table: Table) -> list[tuple[str, str]]:
    """Return what every column shows, and where its values come from (empty for labels)."""
    sources = ("measured", table.reference, *(["diff."] * table.compares))
    return [("Method", ""), ("Task", ""), *((metric, source) for metric in table.metrics for source in sources)]


def flat_headings(table: Table) -> list[str]:
    """Return the headings in one line each."""
    return [f"{name} ({source})" if source else name for name, source in headings_of(table)]


def body_of(table: Table, strong: Callable[[str], str], escape: Callable[[str], str] = str) -> list[list[str]]:
    """Return the cells of every row, the best measured value of each metric and task marked by `strong`.

    A method is named in its first row only.
    """
    best = {metric: table.frame[metric].query("n > 0").groupby("Task")["mean"].max() for metric in table.metrics}
    rows, named = [], None
    for method, task, row in rows_of(table.frame):
        cells = ["" if method == named else escape(method), escape(task)]
        named = method
        for metric in table.metrics:
            entry, shown = row[metric], escape(_measured(row[metric]))
            is_best = entry["n"] > 0 and entry["mean"] == best[metric][task]
            cells += [strong(shown) if is_best else shown, _number(entry["published"])]
            if table.compares:
                cells.append(_number(entry["difference"], sign="+"))
        rows.append(cells)
    return rows


def _measured(entry: pd.Series) -> str:
    """Return `29.4 ± 0.2 (3)`; without a spread for one run, without a count for a reference."""
    spread = "" if math.isnan(entry["sd"]) else f" ± {entry['sd']:.1f}"
    return _number(entry["mean"]) + spread + ("" if math.isnan(entry["n"]) else f" ({entry['n']:.0f})")


def _number(value: float, sign: str = "") -> str:
    return NOTHING if math.isnan(value) else f"{value:{sign}.1f}"


def _escape(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)


WHOLE: dict[str, Callable[[Sequence[Table]], str]] = {"csv": _csv, "json": _json}
PAGES: dict[str, Callable[[Table], str]] = {"text": _text, "markdown": _markdown, "latex": _latex}
