"""A table of measured and published numbers -> text, markdown, csv, latex or json."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ...common.errors import unknown_name
from ..names import FORMATS
from .text import WIDTH, Sheet, text_of

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
    one of FIELDS, all float and in percent, NaN where there is nothing. low and high are a confidence interval over
    images. A row whose n is NaN is a reference, and the methods in `unranked` are shown beside others: neither is ever
    the best. `sections` has the heading of the part of the table that a method stands in; methods of a part are
    neighbours, and the best is that of its part. `reference` heads the published columns: `paper`, or `paper, NUS-WIDE`
    beside another data set; empty, they are not shown. Differences are shown where there are any. `paired` has the
    differences to the method `against`, run by run, with the fields of paired.py and `paired_notes`.
    """

    title: str
    frame: pd.DataFrame
    notes: tuple[str, ...]
    reference: str = ""
    unranked: frozenset[str] = frozenset()
    sections: Mapping[str, str] = field(default_factory=dict)
    against: str = ""
    paired: pd.DataFrame | None = None
    paired_notes: tuple[str, ...] = ()

    @property
    def metrics(self) -> list[str]:
        """Return the metrics in column order."""
        return list(dict.fromkeys(self.frame.columns.get_level_values("metric")))

    @property
    def fields(self) -> tuple[str, ...]:
        """Return the fields that have a column under every metric: mean, and published and difference where shown."""
        published, difference = ("published",) * bool(self.reference), ("difference",) * compares(self.frame)
        return "mean", *published, *difference


def compares(frame: pd.DataFrame) -> bool:
    """Return whether any measured value of a frame stands beside a published one that it can be compared with."""
    return bool(frame.xs("difference", axis=1, level="field").notna().to_numpy().any())


def render(tables: Sequence[Table], format: str, width: int = WIDTH) -> str:
    """Return all tables as one text ending in a newline; `format` is one of `names.FORMATS`.

    Text is at most `width` columns wide, if names allow. It marks the best measured value with a star; markdown and
    latex set it bold. The csv is one long table (a line per method, task and metric, every digit, no notes), whatever
    the tables' columns; json has everything. Raises C3Error for another format.
    """
    require_format(format)
    if format in WHOLE:
        return WHOLE[format](tables)
    strong, escape, page = PAGES[format]
    sheets = (sheet for table in tables for sheet in _sheets(table, strong, escape))
    return "\n\n\n".join(page(sheet, width) for sheet in sheets) + "\n"


def require_format(format: str) -> None:
    """Refuse a format that `render` does not know; callers ask before they do any work for it."""
    if format not in FORMATS:
        raise unknown_name("report format", format, FORMATS)


def _sheets(table: Table, strong: Callable[[str], str], escape: Callable[[str], str]) -> Iterator[Sheet]:
    yield sheet_of(table, strong, escape)
    if table.paired is not None:
        yield paired_sheet(table, table.paired, escape)


def paired_sheet(table: Table, paired: pd.DataFrame, escape: Callable[[str], str] = str) -> Sheet:
    """Return the paired differences of a table as cells of text."""
    headings = [("Method", ""), ("Task", ""), ("Pairs", "")]
    for metric in table.metrics:
        headings += [(metric, "diff."), (metric, "rel."), (metric, "range")]
    rows, named = [], None
    for method, task, row in rows_of(paired):
        cells = ["" if method == named else escape(method), escape(task)]
        named = method
        pairs = max(row[metric]["pairs"] for metric in table.metrics)
        cells.append("0" if math.isnan(pairs) else f"{pairs:.0f}")
        for metric in table.metrics:
            cells += [escape(cell) for cell in _difference(row[metric])]
        rows.append(cells)
    return Sheet(f"Paired differences to {table.against}: {table.title}", headings, rows, table.paired_notes, {})


def _difference(entry: pd.Series) -> tuple[str, str, str]:
    """Return `+2.1 [+0.9, +3.3]`, `+12 %` and `-0.2 to +4.0`."""
    if math.isnan(entry["mean"]):
        return NOTHING, NOTHING, NOTHING
    interval = "" if math.isnan(entry["low"]) else f" [{entry['low']:+.1f}, {entry['high']:+.1f}]"
    relative = NOTHING if math.isnan(entry["relative"]) else f"{entry['relative']:+.0f} %"
    return f"{entry['mean']:+.1f}{interval}", relative, f"{entry['smallest']:+.1f} to {entry['largest']:+.1f}"


def sheet_of(table: Table, strong: Callable[[str], str], escape: Callable[[str], str] = str) -> Sheet:
    """Return a table as cells of text."""
    names = table.frame.index.get_level_values("Method")
    parts = [table.sections.get(name, "") for name in names]
    sections = {row: part for row, part in enumerate(parts) if part and (row == 0 or part != parts[row - 1])}
    return Sheet(table.title, headings_of(table), body_of(table, strong, escape), table.notes, sections)


def _markdown(sheet: Sheet) -> str:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    rest = [""] * (len(sheet.headings) - 1)
    rows = _with_sections(sheet, line, lambda part: line([f"*{part}*", *rest]))
    alignment = line(["---", "---", *["---:"] * (len(sheet.headings) - 2)])
    notes = [f"- {note}" for note in sheet.notes]
    return "\n".join([f"### {sheet.title}", "", line(_flat(sheet)), alignment, *rows, "", *notes])


def _latex(sheet: Sheet) -> str:
    def line(cells: Sequence[str]) -> str:
        return " & ".join(cells) + r" \\"

    columns = len(sheet.headings)
    rows = _with_sections(
        sheet, line, lambda part: line([rf"\multicolumn{{{columns}}}{{l}}{{\textit{{{_escape(part)}}}}}"])
    )
    notes = [rf"\par\footnotesize {_escape(note)}" for note in sheet.notes]
    return "\n".join(
        [r"\begin{table}", r"\centering", rf"\caption{{{_escape(sheet.title)}}}",
         rf"\begin{{tabular}}{{ll{'r' * (columns - 2)}}}", r"\toprule",
         line([_escape(cell) for cell in _flat(sheet)]), r"\midrule", *rows, r"\bottomrule", r"\end{tabular}",
         *notes, r"\end{table}"]
    )  # fmt: skip


def _with_sections(sheet: Sheet, line: Callable[[Sequence[str]], str], heading: Callable[[str], str]) -> list[str]:
    """Return the lines of a sheet, with those of its headings between them."""
    lines = []
    for number, row in enumerate(sheet.rows):
        lines += [heading(sheet.sections[number])] if number in sheet.sections else []
        lines.append(line(row))
    return lines


def _csv(tables: Sequence[Table]) -> str:
    lines = pd.concat(
        _long(table.frame)
        .join([] if table.paired is None else _long(table.paired).add_prefix("paired "))
        .reset_index(names=["method", "task", "metric"])
        .assign(table=table.title, **{"published in": table.reference, "paired with": table.against})
        for table in tables
    )
    columns = ["table", "method", "task", "metric", *FIELDS, "published in"]
    columns += ["paired with"] * any(table.against for table in tables)
    columns += [name for name in lines.columns if name.startswith("paired ") and name not in columns]
    return lines[columns].to_csv(index=False, float_format="%.10g", lineterminator="\n")


def _long(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame with a row for every method, task and metric."""
    return pd.DataFrame(frame.stack("metric", future_stack=True))


def _json(tables: Sequence[Table]) -> str:
    """Return a list of tables, every digit, None where there is nothing."""
    content = []
    for table in tables:
        entry: dict[str, Any] = {
            "title": table.title,
            "published in": table.reference,
            "rows": _entries(table.frame, table.metrics),
        }
        if table.paired is not None:
            paired = {"against": table.against, "rows": _entries(table.paired, table.metrics)}
            entry["paired"] = {**paired, "notes": table.paired_notes}
        content.append({**entry, "notes": table.notes})
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _entries(frame: pd.DataFrame, metrics: Sequence[str]) -> list[dict[str, Any]]:
    known = frame.astype(object).where(frame.notna(), None)
    return [
        {"method": method, "task": task, "metrics": {name: row[name].to_dict() for name in metrics}}
        for method, task, row in rows_of(known)
    ]


def rows_of(frame: pd.DataFrame) -> Iterator[tuple[str, str, pd.Series]]:
    """Yield method, task and values of every row of a table's frame."""
    methods, tasks = (frame.index.get_level_values(level) for level in ("Method", "Task"))
    for method, task, (_, row) in zip(methods, tasks, frame.iterrows(), strict=True):
        yield str(method), str(task), row


def headings_of(table: Table) -> list[tuple[str, str]]:
    """Return what every column shows, and where its values come from (empty for labels)."""
    sources = {"mean": "measured" if len(table.fields) > 1 else "", "published": table.reference, "difference": "diff."}
    shown = [(metric, sources[name]) for metric in table.metrics for name in table.fields]
    return [("Method", ""), ("Task", ""), *shown]


def _flat(sheet: Sheet) -> list[str]:
    """Return the headings in one line each."""
    return [f"{name} ({source})" if source else name for name, source in sheet.headings]


def body_of(table: Table, strong: Callable[[str], str], escape: Callable[[str], str] = str) -> list[list[str]]:
    """Return the cells of every row, the best measured value of each metric and task marked by `strong`.

    A method is named in its first row only. A value that has no rival is not the best.
    """
    best = _best(table)
    rows, named = [], None
    for method, task, row in rows_of(table.frame):
        cells = ["" if method == named else escape(method), escape(task)]
        named = method
        for metric in table.metrics:
            entry, shown = row[metric], escape(_measured(row[metric]))
            is_best = method not in table.unranked and entry["n"] > 0
            is_best &= entry["mean"] == best.get((table.sections.get(method, ""), task, metric))
            cells.append(strong(shown) if is_best else shown)
            cells += [_number(entry[name], "+" * (name == "difference")) for name in table.fields[1:]]
        rows.append(cells)
    return rows


def _best(table: Table) -> dict[tuple[str, str, str], float]:
    """Return the best value by section, task and metric, where at least two methods compete."""
    values: dict[tuple[str, str, str], list[float]] = {}
    for method, task, row in rows_of(table.frame):
        for metric in table.metrics:
            if row[metric]["n"] > 0 and method not in table.unranked:
                values.setdefault((table.sections.get(method, ""), task, metric), []).append(row[metric]["mean"])
    return {key: max(found) for key, found in values.items() if len(found) > 1}


def _measured(entry: pd.Series) -> str:
    """Return `29.4 ± 0.2 (3)`; without a spread for one run, without a count for a reference."""
    spread = "" if math.isnan(entry["sd"]) else f" ± {entry['sd']:.1f}"
    return _number(entry["mean"]) + spread + ("" if math.isnan(entry["n"]) else f" ({entry['n']:.0f})")


def _number(value: float, sign: str = "") -> str:
    return NOTHING if math.isnan(value) else f"{value:{sign}.1f}"


def _escape(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)


WHOLE: dict[str, Callable[[Sequence[Table]], str]] = {"csv": _csv, "json": _json}
# How the best value is marked and cells are escaped, and the page of a sheet.
PAGES: dict[str, tuple[Callable[[str], str], Callable[[str], str], Callable[[Sheet, int], str]]] = {
    "text": ("{}*".format, str, text_of),
    "markdown": ("**{}**".format, str, lambda sheet, _: _markdown(sheet)),
    "latex": (r"\textbf{{{}}}".format, _escape, lambda sheet, _: _latex(sheet)),
}
