"""Runs -> the paper's tables: its rows and columns, measured values beside published ones."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from ..errors import unknown_name
from ..train.runs import Run
from .groups import NOTHING, Group, Summary, group_runs
from .protocol import Protocol, protocols_for
from .published import TABLES, PublishedTable
from .render import FIELDS, Table

TASKS = {"zsl": "ZSL", "gzsl": "GZSL"}
# The paper's titles, and those of rows that it does not have or that need to say more here.
TITLES = {row.method: row.title for table in TABLES.values() for row in table.rows} | {
    "c3": "Our Approach (C3-MLZSL)",
    "c3-released": "C3-MLZSL, released code",
}


@dataclass(frozen=True)
class _Line:
    """One line of a table: measured and published have one entry for each metric."""

    label: str
    task: str
    measured: Sequence[Summary]
    published: Sequence[float]


@dataclass(frozen=True)
class _Block:
    """What one Table is made of: the paper's table, and the groups measured on one data set under one protocol."""

    layout: PublishedTable
    dataset: str
    protocol: Protocol
    groups: Sequence[Group]

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("mAP", *(f"F1@{k}" for k in self.layout.ks))

    @property
    def at_home(self) -> bool:
        """Whether this is the data set of the paper's table."""
        return self.dataset == self.layout.dataset

    @property
    def runs(self) -> list[Run]:
        return [run for group in self.groups for run in group.runs]

    def of(self, method: str) -> list[Group]:
        return [group for group in self.groups if group.method == method]


def protocols_in(number: int, dataset: str) -> tuple[Protocol, ...]:
    """The protocols under which a table of the paper shows runs on a data set; none where it does not show them.

    Raises C3Error for a table that is not reproduced.
    """
    layout = _layout(number)
    return tuple(protocol for protocol in protocols_for(dataset) if protocol.ks == layout.ks)


def build(number: int, runs: Sequence[Run], problems: Mapping[str, str]) -> list[Table]:
    """One table of the paper, as one Table for each data set with runs and each protocol of it.

    The paper's own data set comes first, and stands alone where there is nothing to show. `runs` are oldest first;
    `problems` says, by run id, why a finished run could not be evaluated. Runs without numbers are named in the notes.
    Raises C3Error for a table that is not reproduced.
    """
    home = _layout(number).dataset
    shown = dict.fromkeys(run.dataset for run in runs if protocols_in(number, run.dataset))
    datasets = sorted(shown, key=lambda dataset: dataset != home) or [home]
    return [
        _table(_layout(number), dataset, protocol, [run for run in runs if run.dataset == dataset], problems)
        for dataset in datasets
        for protocol in protocols_in(number, dataset)
    ]


def _layout(number: int) -> PublishedTable:
    if number not in TABLES:
        raise unknown_name("table", str(number), map(str, TABLES))
    return TABLES[number]


def _table(
    layout: PublishedTable, dataset: str, protocol: Protocol, runs: Sequence[Run], problems: Mapping[str, str]
) -> Table:
    lost = {run.id: reason for run in runs if (reason := _without_numbers(run, protocol, problems))}
    groups, replaced = group_runs([run for run in runs if run.id not in lost])
    lost |= {run.id: "a later run has the same settings and seed" for run in replaced}
    block = _Block(layout, dataset, protocol, groups)
    title = f"Table {layout.number}: multi-label ZSL and GZSL on {layout.dataset_title} (protocol {protocol.name})"
    if not block.at_home:
        title = f"Table {layout.number} layout, measured on {dataset} (protocol {protocol.name})"
    notes = [*_notes(block), *(f"Not counted: {run}: {reason}." for run, reason in lost.items())]
    reference = "paper" if block.at_home else f"paper, {layout.dataset_title}"
    return Table(title, _frame(block), tuple(notes), reference)


def _without_numbers(run: Run, protocol: Protocol, problems: Mapping[str, str]) -> str | None:
    """Why a run has no numbers to show, or None where it has."""
    if not run.finished:
        return f"not finished (status {run.record['status']})"
    if run.metrics is None:
        return problems.get(run.id, "not evaluated")
    if protocol.name not in run.metrics["protocols"]:
        return f"evaluated without protocol {protocol.name}; measure it again: c3 evaluate --run {run.path}"
    return None


def _frame(block: _Block) -> pd.DataFrame:
    lines = [*_floor_lines(block), *_paper_lines(block), *_further_lines(block)]
    index = pd.MultiIndex.from_tuples([(line.label, TASKS[line.task]) for line in lines], names=["Method", "Task"])
    columns = pd.MultiIndex.from_product([block.metrics, FIELDS], names=["metric", "field"])
    values = [
        [
            value
            for summary, published in zip(line.measured, line.published, strict=True)
            for value in (summary.mean, summary.sd, summary.n, published)
        ]
        for line in lines
    ]
    return pd.DataFrame(values, index=index, columns=columns, dtype=float)


def _floor_lines(block: _Block) -> Iterator[_Line]:
    """Random scores: one row, or one for each floor where the stores' rows or labels differ."""
    stores: dict[str, dict[str, None]] = {}
    for run in block.runs:
        floor = json.dumps(run.metrics["protocols"][block.protocol.name]["random"], sort_keys=True)
        stores.setdefault(floor, {})[run.record["cache"]["digest"][:8]] = None
    for floor, digests in (stores or {"{}": {}}).items():
        label = f"random scores (features {', '.join(digests)})" if len(stores) > 1 else "random scores"
        for task in TASKS:
            values = json.loads(floor).get(task) or {}
            measured = [NOTHING if values.get(m) is None else Summary(mean=values[m]) for m in block.metrics]
            yield _Line(label, task, measured, _unpublished(block))


def _paper_lines(block: _Block) -> Iterator[_Line]:
    """The paper's rows in its order, with dashes for a method that nobody has trained."""
    for row in block.layout.rows:
        mark = " †" if block.at_home and row.protocol != block.protocol.name else ""
        for group in block.of(row.method) or [Group(row.method, (), {})]:
            for task, published in (("zsl", row.zsl), ("gzsl", row.gzsl)):
                yield _Line(_label(group) + mark, task, _measured(block, group, task), published)


def _further_lines(block: _Block) -> Iterator[_Line]:
    """The methods that the paper's table does not have, in order of their first run."""
    listed = {row.method for row in block.layout.rows}
    for method in dict.fromkeys(group.method for group in block.groups if group.method not in listed):
        for group in block.of(method):
            for task in TASKS:
                yield _Line(_label(group), task, _measured(block, group, task), _unpublished(block))


def _label(group: Group) -> str:
    return group.label(TITLES.get(group.method, group.method))


def _measured(block: _Block, group: Group, task: str) -> list[Summary]:
    return [group.summary(block.protocol.name, task, metric) for metric in block.metrics]


def _unpublished(block: _Block) -> list[float]:
    return [float("nan")] * len(block.metrics)


def _notes(block: _Block) -> Iterator[str]:
    layout, protocol = block.layout, block.protocol
    yield f"Protocol {protocol.name}: {protocol.note}"
    yield (
        "Values are percentages: the mean over seeds ± the sample standard deviation (number of runs), and a dash "
        "where nothing was measured or published."
    )
    yield "random scores: the exact expectation for scores that know nothing, on the same rows and labels."
    if not block.at_home:
        yield (
            f"The columns headed 'paper, {layout.dataset_title}' are the authors' numbers on {layout.dataset_title}, "
            f"another data set than {block.dataset}: they show the order of the methods there and cannot be compared."
        )
    elif any(row.protocol != protocol.name for row in layout.rows):
        yield f"†: the published numbers follow another protocol than {protocol.name} and cannot be compared here."
    tasks = [run.metrics["protocols"][protocol.name][task] for run in block.runs for task in TASKS]
    for k in layout.ks:
        if any(task and task[f"F1@{k}"] is None for task in tasks):
            yield f"F1@{k} is a dash where a task has fewer than {k} classes."
    weights = dict.fromkeys(run.record["cache"]["weights"] for run in block.runs)
    if untrained := [name for name in weights if name.startswith("random:")]:
        yield f"The backbone has seeded random weights ({', '.join(untrained)}): it was not pre-trained."
    for group in block.groups:
        yield f"{_label(group)}: {group.origin()}."
