"""Runs -> the paper's tables: its rows and columns, measured values beside published ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from ...common.errors import unknown_name
from ...train.run_folder import Run, evaluate_command
from ..protocol import LEAK_FREE, Protocol, protocols_for
from .additions import named_additions
from .block import Block, Shown
from .choice import choices
from .floors import FLOORS, floors
from .groups import NOTHING, Group, Summary, draw_of, group_runs, hidden, set_apart
from .notes import notes_of
from .paired import paired, paired_notes
from .published import TABLES, PublishedTable
from .render import FIELDS, Table, compares

TASKS = {"zsl": "ZSL", "gzsl": "GZSL", "seen": "MLL", LEAK_FREE: "ZSL, leak-free"}
ADDITIONS = "additions"
WITH, WITHOUT = "with image-text pretraining", "without image-text pretraining"


@dataclass(frozen=True)
class _Line:
    """One line of a table: measured and published have one entry for each metric; `section` is the part it is in."""

    label: str
    task: str
    measured: Sequence[Summary]
    published: Sequence[float]
    comparable: bool = False
    section: str = ""


def protocols_in(number: int, dataset: str) -> tuple[Protocol, ...]:
    """Return the protocols under which a table of the paper shows runs on a data set; none where it does not.

    Raises C3Error for a table that the paper does not have.
    """
    ks = require_table(number).ks
    return tuple(protocol for protocol in protocols_for(dataset) if not ks or set(protocol.ks) == set(ks))


def build(number: int, runs: Sequence[Run], problems: Mapping[str, str], shown: Shown = Shown()) -> list[Table]:
    """Build one table of the paper, as one Table for each data set with runs, each protocol of it and each split.

    The paper's own data set comes first; runs on drawn splits of the classes have tables of their own. `runs` are
    oldest first; `problems` says, by run id, why a finished run could not be evaluated. Runs without numbers are named
    in the notes. Raises C3Error for a table that the paper does not have.
    """
    layout = require_table(number)
    runs = [run for run in runs if _belongs(layout, run)]
    datasets = dict.fromkeys(run.dataset for run in runs if protocols_in(number, run.dataset))
    if shown.published and layout.dataset not in datasets:
        datasets[layout.dataset] = None
    tables = []
    for dataset in sorted(datasets, key=lambda dataset: dataset != layout.dataset):
        own = [run for run in runs if run.dataset == dataset]
        for protocol in protocols_in(number, dataset):
            splits = _splits(own, protocol, problems)
            tables += [_table(Block(layout, dataset, protocol, shown), part, problems) for part in splits]
    return tables


def _splits(runs: list[Run], protocol: Protocol, problems: Mapping[str, str]) -> list[list[Run]]:
    """Return the runs on the store's own split and those on drawn ones; all together where one kind has no numbers."""
    parts = [[run for run in runs if (draw_of(run) is not None) == drawn] for drawn in (False, True)]
    if all(any(not _without_numbers(run, protocol, problems) for run in part) for part in parts):
        return parts
    return [runs]


def require_table(number: int) -> PublishedTable:
    """Return the layout of a table. Raises C3Error for a table that the paper does not have."""
    if number not in TABLES:
        raise unknown_name("table", str(number), map(str, TABLES))
    return TABLES[number]


def _belongs(layout: PublishedTable, run: Run) -> bool:
    """Return whether a run belongs in a table.

    Tables 3 and 4 are about one method; a table of methods takes any but ablations. A method that can only score its
    own classes stays out of tables with unseen ones.
    """
    methods = {row.method for row in layout.rows}
    if run.record.of_fold or ("zsl" in layout.tasks and not run.zero_shot):
        return False
    if layout.by_backbone or layout.number == 3:
        return run.method in methods
    return run.method not in {row.method for row in TABLES[3].rows} - methods


def _table(block: Block, runs: Sequence[Run], problems: Mapping[str, str]) -> Table:
    lost = {run.id: reason for run in runs if (reason := _without_numbers(run, block.protocol, problems))}
    groups, replaced = group_runs([run for run in runs if run.id not in lost])
    lost |= {run.id: "a later run has the same settings, seed and draw" for run in replaced}
    block = _chosen(block, groups)
    lines = _lines(block)
    frame = _frame(block, lines)
    notes = [*notes_of(block, compares(frame)), *(f"Not counted: {run}: {reason}." for run, reason in lost.items())]
    return Table(
        title=_title(block),
        frame=frame,
        notes=tuple(notes),
        reference=block.reference,
        unranked=frozenset(block.label(group) for group in block.groups if group not in block.ranked),
        sections={line.label: line.section for line in lines if line.section},
        against=block.title(block.shown.against) if block.shown.against else "",
        paired=paired(block, {task: TASKS[task] for task in block.layout.tasks}) if block.shown.against else None,
        paired_notes=tuple(paired_notes(block)) if block.shown.against else (),
    )


def _chosen(block: Block, groups: Sequence[Group]) -> Block:
    """Keep the settings that the validation split chooses; all of them where asked for, or where it cannot choose.

    Additions to a method are rows of Table 3 and are not chosen from.
    """
    groups = named_additions(groups)
    additions = [group for group in groups if group.addition]
    made = choices([group for group in groups if not group.addition], block.protocol)
    kept = [
        group.runs
        for choice in made
        for group in ([choice.chosen] if choice.chosen and not block.shown.all_settings else choice.tried)
    ]
    ranked = [choice.chosen.runs for choice in made if choice.chosen]
    shown = [group for group in groups if group.runs in kept]
    if block.layout.number == 3:
        shown += additions
        ranked += [group.runs for group in additions]
    shown = sorted(set_apart(shown), key=lambda group: _place(group, block.layout))
    ranks = [group for group in shown if group.runs in ranked]
    return replace(block, groups=shown, choices=made, ranked=ranks, additions=additions)


def _title(block: Block) -> str:
    layout, protocol = block.layout, block.protocol
    if block.at_home:
        return f"Table {layout.number}: {layout.subject} on {layout.dataset_title} (protocol {protocol.name})"
    drawn = f", mean over {hidden(len(block.draws))}" if block.draws else ""
    return (
        f"Table {layout.number} layout: {layout.subject}, measured on {block.dataset}{drawn} (protocol {protocol.name})"
    )


def _without_numbers(run: Run, protocol: Protocol, problems: Mapping[str, str]) -> str | None:
    """Return why a run has no numbers to show, or None where it has."""
    if not run.finished:
        return f"not finished (status {run.record.status})"
    if run.metrics is None:
        return problems.get(run.id, f"not evaluated by this version; measure it: {evaluate_command(run.path)}")
    if protocol.name not in run.metrics.protocols:
        return f"evaluated without protocol {protocol.name}; measure it again: {evaluate_command(run.path)}"
    return None


def _lines(block: Block) -> list[_Line]:
    """Return all lines, those of a section together."""
    lines = [*_floor_lines(block), *_paper_lines(block), *_further_lines(block)]
    order = dict.fromkeys(sorted((line.section for line in lines), key=["", WITHOUT, WITH, ADDITIONS].index))
    return [line for section in order for line in lines if line.section == section]


def _frame(block: Block, lines: Sequence[_Line]) -> pd.DataFrame:
    index = pd.MultiIndex.from_tuples([(line.label, TASKS[line.task]) for line in lines], names=["Method", "Task"])
    columns = pd.MultiIndex.from_product([block.layout.metrics, FIELDS], names=["metric", "field"])
    values = [
        [
            value
            for found, published in zip(line.measured, line.published, strict=True)
            for value in (
                *(found.mean, found.sd, found.n, found.low, found.high, published),
                found.mean - published if line.comparable else float("nan"),
            )
        ]
        for line in lines
    ]
    return pd.DataFrame(values, index=index, columns=columns, dtype=float)


def _floor_lines(block: Block) -> Iterator[_Line]:
    """Yield the floors: a row for each, or one for each value where stores differ in rows or labels."""
    for name, title in FLOORS.items():
        found = floors(block, name)
        for digests, values in found or [((), {})]:
            label = f"{title} (features {', '.join(digests)})" if len(found) > 1 else title
            for task in block.layout.tasks:
                measured = [values.get((task, metric), NOTHING) for metric in block.layout.metrics]
                yield _Line(label, task, measured, _unpublished(block))


def _paper_lines(block: Block) -> Iterator[_Line]:
    """Yield the paper's rows in its order; a method without a run has dashes, where published values are shown."""
    for place, row in enumerate(block.layout.rows):
        foreign = block.at_home and row.protocol != block.protocol.name
        own = [group for group in block.groups if _place(group, block.layout) == place]
        for group in own or ([Group(row.method, ())] if block.reference else []):
            comparable = block.at_home and not foreign and group.backbone in (None, row.backbone)
            label = block.label(group, row.title if block.layout.by_backbone else "")
            for line in _lines_of(block, group, label, row.values, comparable):
                yield replace(line, label=f"{label} †") if foreign and line.task != LEAK_FREE else line


def _further_lines(block: Block) -> Iterator[_Line]:
    """Yield the methods (or backbones) that the paper's table does not have, in order of their first run."""
    for group in block.groups:
        if _place(group, block.layout) == len(block.layout.rows):
            yield from _lines_of(block, group, block.label(group), [_unpublished(block)] * len(block.layout.tasks))


def _lines_of(
    block: Block, group: Group, label: str, published: Sequence[Sequence[float]], comparable: bool = False
) -> Iterator[_Line]:
    """Yield every task of a group, and ZSL without near-duplicates of seen classes where a store names them."""
    section = ADDITIONS if group.addition else ""
    if not section and any(other.image_text for other in block.groups):
        section = WITH if group.image_text else WITHOUT
    for task, values in zip(block.layout.tasks, published, strict=True):
        yield _Line(label, task, _measured(block, group, task), values, comparable, section)
        if task == "zsl":
            leak_free = _measured(block, group, LEAK_FREE)
            if any(found != NOTHING for found in leak_free):
                yield _Line(label, LEAK_FREE, leak_free, _unpublished(block), section=section)


def _place(group: Group, layout: PublishedTable) -> int:
    """Return the number of the paper's row that a group belongs to, or the number of rows where it has none."""
    kind = group.method, group.backbone if layout.by_backbone else None
    rows = [(row.method, row.backbone if layout.by_backbone else None) for row in layout.rows]
    return rows.index(kind) if kind in rows and not group.addition else len(rows)


def _measured(block: Block, group: Group, task: str) -> list[Summary]:
    return [group.summary(block.protocol.name, task, metric) for metric in block.layout.metrics]


def _unpublished(block: Block) -> list[float]:
    return [float("nan")] * len(block.layout.metrics)
