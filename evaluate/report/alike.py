"""What the rows of a table do not have in common: recipes, budgets, arrays, draws. Like is compared with like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from ...common.csv_files import CsvFile
from ...train.recipes import FALLBACK
from .block import TITLES, Block, backbone_title
from .groups import Group, counted, draw_of, spans

SELECTION = "selection.csv"  # beside the runs: a line for every settings that c3 sweep --select tried
SEARCHED = ("store", "method", "hide_seed")
NOT_OWN = (f"recipe {FALLBACK}/", "no recipe")  # how recipes.py names what is not the data set's own


def differences(block: Block) -> Iterator[str]:
    """Yield a note for everything in which rows differ beside their method, and for recipes that are not their own."""
    for choice in block.choices:
        if len(choice.tried) > 1:
            yield f"{block.title(choice.tried[0].method)}{choice.note()}."
    if block.additions and block.layout.number != 3:
        titles = ", ".join(f"{TITLES[group.method]}, {group.addition}" for group in block.additions)
        yield f"Table 3 shows what differs in one named addition: {titles}."
    if fallback := [group for group in block.groups if _recipe(group).startswith(NOT_OWN)]:
        yield (
            f"Settings of the fallback recipes ({block.dataset} has none of its own for the method): "
            f"{_labels(block, fallback)}."
        )
    if block.layout.number == 3 or block.layout.by_backbone:
        yield from _recipes(block)
    tried = _tried(block)
    yield from _where_unequal(block, "Search budgets differ", lambda group: counted(tried[group.method], "setting"))
    yield from _where_unequal(block, "Epochs differ", lambda group: str(group.runs[0].record.settings.get("epochs")))
    yield from _where_unequal(block, "Rows read different arrays", lambda group: ", ".join(group.runs[0].record.reads))
    yield from _where_unequal(block, "Seeds and draws differ", _pairs)
    known = {row.backbone for row in block.layout.rows}
    if block.layout.by_backbone and (others := [group for group in block.groups if group.backbone not in known]):
        names = dict.fromkeys(backbone_title(group.backbone or "") for group in others)
        yield f"Not the paper's backbones: {', '.join(names)}."


def _tried(block: Block) -> dict[str, int]:
    """Return how many settings were tried for every method: among the rows, or by `c3 sweep --select` on folds."""
    tried: Counter[str] = Counter()
    for choice in block.choices:
        tried[choice.tried[0].method] = max(tried[choice.tried[0].method], len(choice.tried))
    stores = {run.record.features.digest for run in block.runs}
    for file in {run.path.parent / SELECTION for run in block.runs}:
        if file.exists():
            table = CsvFile(file, SEARCHED)
            places = [table.columns.index(name) for name in SEARCHED]
            lines = Counter(tuple(row.fields[place] for place in places) for row in table)
            for (store, method, _), count in lines.items():
                if store in stores and method in tried:
                    tried[method] = max(tried[method], count)
    return dict(tried)


def _recipe(group: Group) -> str:
    """Return the name of the recipe of a row, without its source."""
    return group.runs[0].record.recipe.partition(":")[0]


def _recipes(block: Block) -> Iterator[str]:
    """Say which recipe the variants of one method have: an ablation is fair where they share it."""
    if len(names := {_recipe(group) for group in block.groups}) == 1:
        yield f"Every row has the settings of {names.pop()}, but for what its name says."
    yield from _where_unequal(block, "Recipes differ", _recipe)


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
