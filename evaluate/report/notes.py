"""What is printed under a table: the protocol, what the columns mean, and where every row comes from."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..protocol import LEAK_FREE
from .alike import differences
from .block import Block
from .groups import Group
from .paired import unpaired
from .published import GZSL_CLASSES, PublishedTable

INTERVAL = (
    "An interval of mAP over images is a bootstrap: it is for the mean of mAP over samples of this many images, not "
    "for the mAP of all images there are. In simulations it held that mean in 91 to 95 % of the samples, and in 83 to "
    "91 % where classes are rare. It says nothing about other seeds or other hidden classes."
)


def notes_of(block: Block, compares: bool) -> Iterator[str]:
    """Yield every note of a table, the most general first; `compares`: it has differences to published values."""
    layout, protocol = block.layout, block.protocol
    yield f"Protocol {protocol.name}: {protocol.note}"
    repeats = "seeds and draws of the hidden classes" if block.draws else "seeds"
    yield (
        f"Values are percentages: the mean over {repeats} ± the sample standard deviation (number of runs), and a dash "
        "where nothing was measured or published. A star (bold in markdown and LaTeX) marks the best method of a "
        "column and task."
    )
    yield (
        "random scores: the expectation for scores that know nothing, on the same rows and labels. label frequency: "
        "every image gets the seen classes in the order of their training labels, unseen ones at random."
    )
    yield from _comparison(block, compares)
    tasks = [results.tasks for _, results in block.results]
    for k in layout.ks:
        if any((values := task.get(name)) and values[f"F1@{k}"] is None for task in tasks for name in layout.tasks):
            yield f"F1@{k} is a dash where a task has fewer than {k} classes."
    if any(task.get(LEAK_FREE) for task in tasks):
        yield "ZSL, leak-free leaves out the unseen classes that the store lists as near-duplicates of seen ones."
    weights = dict.fromkeys(run.record.features.weights_title for run in block.runs)
    if untrained := [name for name in weights if name.startswith("random:")]:
        yield f"The backbone has seeded random weights ({', '.join(untrained)}): it was not pre-trained."
    yield from differences(block)
    yield from unpaired(block)
    if any(
        not math.isnan(group.summary(protocol.name, name, "mAP").low) for group in block.groups for name in layout.tasks
    ):
        yield INTERVAL
    for group in block.groups:
        yield f"{block.label(group)}: {group.origin()}.{_interval(block, group)}"


def _comparison(block: Block, compares: bool) -> Iterator[str]:
    """Say what the published numbers can and cannot be compared with."""
    layout, protocol = block.layout, block.protocol
    if not block.reference:
        return
    if not block.at_home:
        yield (
            f"The columns headed 'paper, {layout.dataset_title}' are the authors' numbers on {layout.dataset_title}, "
            f"another data set than {block.dataset}: they show the order of the methods there and cannot be compared."
        )
        return
    if compares:
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
