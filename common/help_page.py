"""The help of a command: its options under headings, and examples at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

OTHERS = "Other options"


class HelpPage(click.Command):
    """A command whose help shows options under headings: `sections` is heading -> names of parameters."""

    def __init__(self, *args: Any, sections: Mapping[str, Sequence[str]] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sections = sections or {}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options of every section, then those of none."""
        params = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        placed = {name for names in self.sections.values() for name in names}
        others = [param.name for param in params if param.name not in placed]
        for heading, names in {**self.sections, OTHERS if placed else "Options": dict.fromkeys(others)}.items():
            with formatter.section(heading):
                same = [param.get_help_record(ctx) for name in names for param in params if param.name == name]
                formatter.write_dl([record for record in same if record])


def with_examples(command: click.Command, examples: Sequence[str]) -> None:
    """End the help of a command with examples, a line each."""
    command.epilog = "\n".join(["\b", "Examples:", *(f"  {example}" for example in examples)])
