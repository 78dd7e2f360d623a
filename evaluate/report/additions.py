"""Runs of C3-MLZSL that differ from the recipe in one named addition: rows of Table 3, and no rivals elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .groups import Group, in_words, set_apart, settings_of

METHOD = "c3"
# What the equations leave open, and the loss: the options whose worth an ablation shows.
ADDITIONS = {
    "omega", "x_scale", "standardise_levels", "init", "shuffle", "width", "dropout", "channel_dropout", "objective",
}  # fmt: skip


def named_additions(groups: Sequence[Group]) -> list[Group]:
    """Return the groups, those that differ from one of the recipe in one of ADDITIONS alone with its name.

    A group is of the recipe if its request changed none of them. Where every group was asked for with one (a sweep over
    it), there is nothing to add to, and all are settings to choose from.
    """
    bases = [group for group in groups if group.method == METHOD and not _asked(group)]
    named = []
    for group in groups:
        found = [base for base in bases if len(_differing(group, base)) == 1] if _asked(group) else []
        changed = {name: value for base in found[:1] for name, value in _differing(group, base).items()}
        is_addition = group.method == METHOD and changed.keys() <= ADDITIONS
        named.append(replace(group, addition=in_words(changed)) if is_addition else group)
    return set_apart(named)


def _asked(group: Group) -> set[str]:
    return group.runs[0].record.changed.keys() & ADDITIONS


def _differing(group: Group, base: Group) -> dict[str, object]:
    own, others = settings_of(group.runs[0]), settings_of(base.runs[0])
    return {name: own.get(name) for name in own.keys() | others.keys() if own.get(name) != others.get(name)}
