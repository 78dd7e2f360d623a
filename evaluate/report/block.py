"""What one table is made of: the paper's layout, and the groups measured on one data set, split and protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...train.run_folder import ProtocolResults, Run
from ..protocol import Protocol
from .choice import Choice
from .groups import Group, draw_of
from .published import TABLES, PublishedTable

# The paper's titles, and those of rows that it does not have or that need to say more here.
TITLES = {row.method: row.title for number in (5, 2, 1) for row in TABLES[number].rows} | {
    "c3": "C3-MLZSL",
    "c3-released": "C3-MLZSL, released code",
    "ml-decoder": "ML-Decoder head",
    "c3-plus": "C3+",
    "clip": "CLIP",
    "clip-adapter": "CLIP adapter",
}
KINDS = {"timm": "timm", "open_clip": "OpenCLIP"}  # of backbones, by the prefix of their names


@dataclass(frozen=True)
class Shown:
    """What tables show: the paper's values also beside other data, every setting that was tried, and differences.

    `against` is the method that every other one is compared with, run by run; None compares none.
    """

    published: bool = False
    all_settings: bool = False
    against: str | None = None


@dataclass(frozen=True)
class Block:
    """One Table before it is laid out.

    `groups` are its rows. Those in `ranked` can be the best of a column: one for each method and features, whose
    settings `choices` chose. `additions` are runs of C3-MLZSL with one named addition, which Table 3 shows.
    """

    layout: PublishedTable
    dataset: str
    protocol: Protocol
    shown: Shown = Shown()
    groups: Sequence[Group] = ()
    choices: Sequence[Choice] = ()
    ranked: Sequence[Group] = ()
    additions: Sequence[Group] = ()

    @property
    def at_home(self) -> bool:
        """Return whether this is the data set of the paper's table, with its own split of the classes."""
        return self.dataset == self.layout.dataset and not self.draws

    @property
    def reference(self) -> str:
        """Return the heading of the published values; empty where they are not shown."""
        if self.at_home:
            return "paper"
        return f"paper, {self.layout.dataset_title}" if self.shown.published else ""

    @property
    def runs(self) -> list[Run]:
        """Return the runs of all rows."""
        return [run for group in self.groups for run in group.runs]

    @property
    def draws(self) -> list[int]:
        """Return the draws of the hidden classes; none on a store's own split."""
        return sorted({draw for run in self.runs if (draw := draw_of(run)) is not None})

    @property
    def results(self) -> list[tuple[Run, ProtocolResults]]:
        """Return the runs with what was measured under the protocol."""
        return [(run, run.metrics.protocols[self.protocol.name]) for run in self.runs if run.metrics]

    def title(self, method: str) -> str:
        """Return the title of a method: that of this table of the paper, else of another one, else its name."""
        if self.layout.number == 3:
            return next((row.title for row in self.layout.rows if row.method == method), method)
        return TITLES.get(method, method)

    def label(self, group: Group, title: str = "") -> str:
        """Return the name of a row: its method, or its backbone in a table of these, and what sets it apart."""
        if not title and self.layout.by_backbone and group.backbone:
            title = backbone_title(group.backbone)
        if not title and group.addition:
            title = TITLES[group.method]
        return group.label(title or self.title(group.method))


def backbone_title(name: str) -> str:
    """Return the name of a backbone for people.

    >>> backbone_title("timm:convnext_tiny.fb_in22k")
    'convnext_tiny.fb_in22k (timm)'
    """
    kind, _, rest = name.partition(":")
    return f"{rest} ({KINDS[kind]})" if kind in KINDS and rest else name
