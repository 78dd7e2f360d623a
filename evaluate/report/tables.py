"""Runs -> the paper's tables: its rows and columns, measured values beside published ones."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from ...common.errors import unknown_name
from ...train.run_folder import Run
from ..protocol import LEAK_FREE, Protocol, protocols_for
from .groups import NOTHING, Group, Summary, group_runs
from .notes import Block, notes_of
from .published import TABLES, PublishedTable, Row
from .render import FIELDS, Table

TASKS = {"zsl": "ZSL", "gzsl": "GZSL", "seen": "MLL", LEAK_FREE: "ZSL, leak-free"}
FLOORS = {"random": "random scores", "frequency": "label frequency"}


@dataclass(frozen=True)
class _Line:
    """One line of a table: measured, published and differences have one entry for each metric."""

    label: str
    task: str
    measured: Sequence[Summary]
    published: Sequence[float]
    comparable: bool = False


def protocols_in(number: int, dataset: str) -> tuple[Protocol, ...]:
    """Return the protocols under which a table of the paper shows runs on a data set; none where it does not.

    Raises C3Error for a table that the paper does not have.
    """
    ks = _layout(number).ks
    return tuple(protocol for protocol in protocols_for(dataset) if not ks or set(protocol.ks) == set(ks))


def build(number: int, runs: Sequence[Run], problems: Mapping[str, str]) -> list[Table]:
    """Build one table of the paper, as one Table for each data set with runs and each protocol of it.

    The paper's own data set comes first, and stands alone where there is nothing to show. `runs` are oldest first;
    `problems` says, by run id, why a finished run could not be evaluated. Runs without numbers are named in the notes.
    Raises C3Error for a table that the paper does not have.
    """
    layout = _layout(number)
    runs = [run for run in runs if _belongs(layout, run)]
    shown = dict.fromkeys(run.dataset for run in runs if protocols_in(number, run.dataset))
    datasets = sorted(shown, key=lambda dataset: dataset != layout.dataset) or [layout.dataset]
    return [
        _table(layout, dataset, protocol, [run for run in runs if run.dataset == dataset], problems)
        for dataset in datasets
        for protocol in protocols_in(number, dataset)
    ]


def _layout(number: int) -> PublishedTable:
    if number not in TABLES:
        raise unknown_name("table", str(number), map(str, TABLES))
    return TABLES[number]


def _belongs(layout: PublishedTable, run: Run) -> bool:
    """Return whether a run belongs in a table.

    Tables 3 and 4 are about one method; a table of methods takes any but ablations. A method that can only score its
    own classes stays out of tables with unseen ones.
    """
    methods = {row.method for row in layout.rows}
    if "zsl" in layout.tasks and not run.zero_shot:
        return False
    if layout.by_backbone or layout.number == 3:
        return run.method in methods
    return run.method not in {row.method for row in TABLES[3].rows} - methods


def _table(
    layout: PublishedTable, dataset: str, protocol: Protocol, runs: Sequence[Run], problems: Mapping[str, str]
) -> Table:
    lost = {run.id: reason for run in runs if (reason := _without_numbers(run, protocol, problems))}
    groups, replaced = group_runs([run for run in runs if run.id not in lost])
    lost |= {run.id: "a later run has the same settings and seed" for run in replaced}
    block = Block(layout, dataset, protocol, groups)
    title = f"Table {layout.number}: {layout.subject} on {layout.dataset_title} (protocol {protocol.name})"
    if not block.at_home:
        title = f"Table {layout.number} layout: {layout.subject}, measured on {dataset} (protocol {protocol.name})"
    notes = [*notes_of(block), *(f"Not counted: {run}: {reason}." for run, reason in lost.items())]
    reference = "paper" if block.at_home else f"paper, {layout.dataset_title}"
    return Table(title, _frame(block), tuple(notes), reference)


def _without_numbers(run: Run, protocol: Protocol, problems: Mapping[str, str]) -> str | None:
    """Return why a run has no numbers to show, or None where it has."""
    if not run.finished:
        return f"not finished (status {run.record.status})"
    if run.metrics is None:
        return problems.get(run.id, f"not evaluated by this version; measure it: c3 evaluate --run {run.path}")
    if protocol.name not in run.metrics.protocols:
        return f"evaluated without protocol {protocol.name}; measure it again: c3 evaluate --run {run.path}"
    return None


def _frame(block: Block) -> pd.DataFrame:
    lines = [*_floor_lines(block), *_paper_lines(block), *_further_lines(block)]
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
        stores: dict[str, dict[str, None]] = {}
        for run, results in block.results:
            reached = results.random if name == "random" else results.frequency
            floor = json.dumps({task: reached.get(task) for task in block.layout.tasks}, sort_keys=True)
            stores.setdefault(floor, {})[run.record.features.digest[:8]] = None
        for floor, digests in (stores or {"{}": {}}).items():
            label = f"{title} (features {', '.join(digests)})" if len(stores) > 1 else title
            for task in block.layout.tasks:
                values = json.loads(floor).get(task) or {}
                measured = [NOTHING if values.get(m) is None else Summary(values[m]) for m in block.layout.metrics]
                yield _Line(label, task, measured, _unpublished(block))


def _paper_lines(block: Block) -> Iterator[_Line]:
    """Yield the paper's rows in its order, with dashes for a method without a run."""
    for row in block.layout.rows:
        foreign = block.at_home and row.protocol != block.protocol.name
        own = [group for group in block.groups if _is(row, group, block.layout)]
        for group in own or [Group(row.method, (), {})]:
            comparable = block.at_home and not foreign and group.backbone in (None, row.backbone)
            label = group.label(row.title if block.layout.by_backbone else block.title(row.method))
            for line in _lines_of(block, group, label, row.values, comparable):
                yield replace(line, label=f"{label} †") if foreign and line.task != LEAK_FREE else line


def _further_lines(block: Block) -> Iterator[_Line]:
    """Yield the methods (or backbones) that the paper's table does not have, in order of their first run."""
    listed = [group for row in block.layout.rows for group in block.groups if _is(row, group, block.layout)]
    for group in block.groups:
        if group not in listed:
            label = group.label((block.layout.by_backbone and group.backbone) or block.title(group.method))
            yield from _lines_of(block, group, label, [_unpublished(block)] * len(block.layout.tasks))


def _lines_of(
    block: Block, group: Group, label: str, published: Sequence[Sequence[float]], comparable: bool = False
) -> Iterator[_Line]:
    """Yield every task of a group, and ZSL without near-duplicates of seen classes where a store names them."""
    for task, values in zip(block.layout.tasks, published, strict=True):
        yield _Line(label, task, _measured(block, group, task), values, comparable)
        if task == "zsl":
            leak_free = _measured(block, group, LEAK_FREE)
            if any(found != NOTHING for found in leak_free):
                yield _Line(label, LEAK_FREE, leak_free, _unpublished(block))


def _is(row: Row, group: Group, layout: PublishedTable) -> bool:
    return group.method == row.method and (not layout.by_backbone or group.backbone == row.backbone)


def _measured(block: Block, group: Group, task: str) -> list[Summary]:
    return [group.summary(block.protocol.name, task, metric) for metric in block.layout.metrics]


def _unpublished(block: Block) -> list[float]:
    return [float("nan")] * len(block.layout.metrics)
