"""What the rows of a table do not have in common: recipes, budgets, arrays, draws. Like is compared with like."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ...train.recipes import FALLBACK
from .block import Block, backbone_title
from .groups import Group, counted, draw_of, spans


def differences(block: Block) -> Iterator[str]:
    """Yield a note for everything in which rows differ beside their method, and for recipes that are not their own."""
    for choice in block.choices:
        if len(choice.tried) > 1:
            yield f"{block.title(choice.tried[0].method)}{choice.note()}."
    if fallback := [group for group in block.groups if group.runs[0].record.recipe.startswith(f"recipe {FALLBACK}/")]:
        yield (
            f"Settings of the fallback recipes ({block.dataset} has none of its own for the method): "
            f"{_labels(block, fallback)}."
        )
    tried = {choice.tried[0].method: len(choice.tried) for choice in block.choices}
    yield from _where_unequal(block, "Search budgets differ", lambda group: counted(tried[group.method], "setting"))
    yield from _where_unequal(block, "Epochs differ", lambda group: str(group.runs[0].record.settings.get("epochs")))
    yield from _where_unequal(block, "Rows read different arrays", lambda group: ", ".join(group.runs[0].record.reads))
    yield from _where_unequal(block, "Seeds and draws differ", _pairs)
    known = {row.backbone for row in block.layout.rows}
    if block.layout.by_backbone and (others := [group for group in block.groups if group.backbone not in known]):
        names = dict.fromkeys(backbone_title(group.backbone or "") for group in others)
        yield f"Not the paper's backbones: {', '.join(names)}."


def _where_unequal(block: Block, heading: str, value: Callable[[Group], str]) -> Iterator[str]:
    """Yield which rows have which value, where they do not all have the same."""
    found: dict[str, list[Group]] = {}
    for group in block.groups:
        found.setdefault(value(group), []).append(group)
    if len(found) > 1:
        yield f"{heading}: {'; '.join(f'{shown}: {_labels(block, groups)}' for shown, groups in found.items())}."


def _pairs(group: Group) -> str:
    seeds = sorted({run.seed for run in group.runs})
    draws = sorted({draw for run in group.runs if (draw := draw_of(run)) is not None})
    return f"seeds {spans(seeds)}" + (f" of draws {spans(draws)}" if draws else "")


def _labels(block: Block, groups: list[Group]) -> str:
    return ", ".join(block.label(group) for group in groups)
