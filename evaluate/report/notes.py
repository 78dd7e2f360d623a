"""What is printed under a table: the protocol, what the columns mean, and where every row comes from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...train.run_folder import ProtocolResults, Run
from ..protocol import LEAK_FREE, Protocol
from .groups import Group
from .published import GZSL_CLASSES, TABLES, PublishedTable

# The paper's titles, and those of rows that it does not have or that need to say more here.
TITLES = {row.method: row.title for number in (5, 2, 1) for row in TABLES[number].rows} | {
    "c3": "Our Approach (C3-MLZSL)",
    "c3-released": "C3-MLZSL, released code",
    "ml-decoder": "ML-Decoder head",
    "c3-plus": "C3+ (ours)",
}


@dataclass(frozen=True)
class Block:
    """What one Table is made of: the paper's table, and the groups measured on one data set under one protocol."""

    layout: PublishedTable
    dataset: str
    protocol: Protocol
    groups: Sequence[Group]

    @property
    def at_home(self) -> bool:
        """Return whether this is the data set of the paper's table."""
        return self.dataset == self.layout.dataset

    @property
    def runs(self) -> list[Run]:
        """Return the runs of all rows."""
        return [run for group in self.groups for run in group.runs]

    @property
    def results(self) -> list[tuple[Run, ProtocolResults]]:
        """Return the runs with what was measured under the protocol."""
        return [(run, run.metrics.protocols[self.protocol.name]) for run in self.runs if run.metrics]

    def title(self, method: str) -> str:
        """Return the title of a method: that of this table of the paper, else of another one, else its name."""
        if self.layout.number == 3:
            return next((row.title for row in self.layout.rows if row.method == method), method)
        return TITLES.get(method, method)


def notes_of(block: Block) -> Iterator[str]:
    """Yield every note of a table, the most general first."""
    layout, protocol = block.layout, block.protocol
    yield f"Protocol {protocol.name}: {protocol.note}"
    yield (
        "Values are percentages: the mean over seeds ± the sample standard deviation (number of runs), and a dash "
        "where nothing was measured or published."
    )
    yield (
        "random scores: the exact expectation for scores that know nothing, on the same rows and labels. label "
        "frequency: every image gets the seen classes in the order of their training labels, unseen ones at random."
    )
    yield from _comparison(block)
    tasks = [results.tasks for _, results in block.results]
    for k in layout.ks:
        if any((values := task.get(name)) and values[f"F1@{k}"] is None for task in tasks for name in layout.tasks):
            yield f"F1@{k} is a dash where a task has fewer than {k} classes."
    if any(task.get(LEAK_FREE) for task in tasks):
        yield "ZSL, leak-free leaves out the unseen classes that the store lists as near-duplicates of seen ones."
    weights = dict.fromkeys(run.record.features.weights_title for run in block.runs)
    if untrained := [name for name in weights if name.startswith("random:")]:
        yield f"The backbone has seeded random weights ({', '.join(untrained)}): it was not pre-trained."
    for group in block.groups:
        yield f"{group.label(block.title(group.method))}: {group.origin()}.{_interval(block, group)}"


def _comparison(block: Block) -> Iterator[str]:
    """Say what the published numbers can and cannot be compared with."""
    layout, protocol = block.layout, block.protocol
    if not block.at_home:
        yield (
            f"The columns headed 'paper, {layout.dataset_title}' are the authors' numbers on {layout.dataset_title}, "
            f"another data set than {block.dataset}: they show the order of the methods there and cannot be compared."
        )
        return
    yield "The difference is measured less published, in points; both follow the same protocol."
    if any(row.protocol != protocol.name for row in layout.rows):
        yield f"†: the published numbers follow another protocol than {protocol.name} and cannot be compared here."
        yield _conversion(layout)


def _conversion(layout: PublishedTable) -> str:
    """Say what the GZSL mAP of the LESA rows would be if only annotated classes counted."""
    lesa, biam = GZSL_CLASSES["openimages-lesa"], GZSL_CLASSES["openimages-biam"]
    gzsl, mean = layout.tasks.index("gzsl"), layout.metrics.index("mAP")
    shown = [
        f"{row.title} {row.values[gzsl][mean] * lesa / biam:.1f}"
        for row in layout.rows
        if row.protocol == "openimages-lesa"
    ]
    return (
        f"Conversion: the mean over {lesa} classes counts {lesa - biam} classes without a verified label as 0. Over "
        f"the {biam} others the published GZSL mAP would be {', '.join(shown)}, if nothing else "
        "differed; openimages-biam also drops images without a positive label."
    )


def _interval(block: Block, group: Group) -> str:
    """Say the confidence interval of mAP over images, where one was drawn."""
    shown = []
    for task in block.layout.tasks:
        found = group.summary(block.protocol.name, task, "mAP")
        if not math.isnan(found.low):
            shown.append(f"{task.upper()} {found.low:.1f} to {found.high:.1f}")
    metrics = group.runs[0].metrics
    if not shown or metrics is None:
        return ""
    drawn = metrics.bootstrap
    return (
        f" {100 * drawn.level:.0f} % interval of mAP over images ({drawn.resamples:,} resamples, mean over runs): "
        f"{', '.join(shown)}."
    )
