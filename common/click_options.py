"""Command line options that several commands share, and options that reach a command in groups."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from .errors import C3Error, clipped, unknown_name
from .help_page import HelpPage
from .user_paths import typed_path

RUNS = "runs"  # the folder of run folders
MOST_DIGITS = 100  # of a number; whether it is too large is said by what takes it
MOST_NUMBERS = 10_000  # of a range: more runs than any study has, and few enough to list
Command = TypeVar("Command", bound=Callable[..., Any])

if TYPE_CHECKING:
    Choice = click.Choice[str]
else:  # click before 8.2 has no type parameter
    Choice = click.Choice


TOWER_HELP = (
    "The text tower that reads the words: open_clip:ARCH:FILE, sentence-transformers:FOLDER or model2vec:FOLDER."
)
TEMPLATE_HELP = (
    "A prompt with {} in the place of the word; repeat the option to average several. openai-imagenet and "
    "simple-imagenet stand for the sets of open_clip. Default: 'a photo of a {}' for open_clip, else the word itself."
)


class Name(Choice):
    """One of a closed set of names. Another one is refused in one line that says which name is near.

    A name behind one of the `prefixes` belongs to a set that is known elsewhere: it passes as it is.
    """

    def __init__(self, kind: str, names: Iterable[str], prefixes: tuple[str, ...] = ()) -> None:
        super().__init__(tuple(names))
        self.kind, self.prefixes = kind, prefixes

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name. Raises C3Error for an unknown one."""
        if self.prefixes and str(value).startswith(self.prefixes):
            return str(value)
        if value not in self.choices:
            raise unknown_name(self.kind, str(value), self.choices)
        return super().convert(value, param, ctx)


class RealNumber(click.FloatRange):
    """A number of a range. The text `nan` is no number, and is outside of every range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


class Numbers(click.ParamType[tuple[int, ...]]):
    """A whole number of at least 0, or a range with both its ends, `0..9`; arrives as a tuple of numbers.

    The option is repeatable: `each_number` joins what it collects.
    """

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the numbers. Raises C3Error for anything else."""
        first, dots, last = str(super().convert(value, param, ctx)).partition("..")
        ends = (first, last) if dots else (first, first)
        option = param.opts[0] if param else "number"
        wrong = f"{option}: expected numbers such as 0 1 2, or a range such as 0..9, found {clipped(repr(value))}"
        if not all(end.isascii() and end.isdigit() and len(end) <= MOST_DIGITS for end in ends):
            raise C3Error(wrong)
        low, high = int(ends[0]), int(ends[1])
        if low > high:
            raise C3Error(f"{wrong}, which ends before it begins")
        if high - low >= MOST_NUMBERS:
            raise C3Error(f"{option}: a range has at most {MOST_NUMBERS:,} numbers, found {value!r}")
        return tuple(range(low, high + 1))


def each_number(ranges: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the numbers that a repeatable option of `Numbers` has collected, each once.

    >>> each_number([(0, 1, 2), (7,), (1,)])
    (0, 1, 2, 7)
    """
    return tuple(dict.fromkeys(chain(*ranges)))


class DatasetName(click.ParamType[str]):
    """The name of a data set; a shell completes it from the built-in catalog and that of `--catalog`."""

    name = "name"

    def shell_complete(self, ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the names that begin so; none where a catalog cannot be read."""
        from .catalog_file import read_catalog

        try:
            names = read_catalog(ctx.find_root().params.get("catalog")).datasets
        except C3Error:
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class UserPath(click.Path):
    """A path as a user types it, see `typed_path`; a name of a file that no file can have is refused in one line."""

    def __init__(self, *, dir_okay: bool = True) -> None:
        super().__init__(path_type=Path, dir_okay=dir_okay)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path. Raises C3Error for one that no file can have."""
        return super().convert(_typed(value, param), param, ctx)


class RunPath(UserPath):
    """The path of a run folder; a shell completes those in `runs`."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the runs that begin so, else what the shell knows of files."""
        runs = sorted(str(record.parent) for record in Path(RUNS).glob("*/run.json"))
        found = [CompletionItem(run) for run in runs if run.startswith(incomplete)]
        return found or super().shell_complete(ctx, param, incomplete)


class UserPlace(click.ParamType[str]):
    """A path as a user types it, an fsspec URL, or a name of something else; arrives as a text."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text. Raises C3Error for a path that no file can have."""
        return str(super().convert(_typed(value, param), param, ctx))


def _typed(value: Any, param: click.Parameter | None) -> str:
    try:
        return typed_path(os.fspath(value))
    except ValueError as fault:
        option = (
            param.opts[0] if param and param.param_type_name == "option" else param.human_readable_name if param else ""
        )
        raise C3Error(f"{option} {clipped(repr(value))}: expected {fault}") from fault


def cache_option(command: Command) -> Command:
    """Add --cache."""
    return click.option(
        "--cache", required=True, type=UserPlace(), metavar="STORE", help="A complete store: a path or an fsspec URL."
    )(command)


def device_option(command: Command) -> Command:
    """Add --device."""
    return click.option("--device", default="auto", show_default=True, help="The device: auto, cpu, cuda or cuda:N.")(
        command
    )


def runs_option(command: Command) -> Command:
    """Add --runs."""
    return click.option(
        "--runs", default=RUNS, show_default=True, type=UserPath(), metavar="FOLDER", help="Folder of run folders."
    )(command)


def grouped(group: str, *names: str, **attributes: Any) -> Callable[[Command], Command]:
    """Add an option whose value arrives as an entry of the dictionary parameter `group`, if it has a value.

    Raises C3Error where `named_values` of the group give the entry too.
    """

    def collect(ctx: click.Context, option: click.Parameter, value: Any) -> None:
        entries = ctx.params.setdefault(group, {})
        if value is not None and value != ():
            _enter(entries, str(option.name), value, option)

    return click.option(*names, expose_value=False, callback=collect, **attributes)


FORMS = {"json": "JSON lines: one object {0}.", "csv": "One line {1}.", "table": "A table to read (default)."}


def form_options(one: str, line: str) -> Callable[[Command], Command]:
    """Add --json, --csv and --table; the name of the one that is given arrives as `form`, if any.

    `one` says what has an object of the JSON lines (a word), and `line` what has a line of the csv. Raises C3Error for
    two of them.
    """

    def choose(ctx: click.Context, option: click.Parameter, given: bool) -> None:
        if given and (other := ctx.params.setdefault("form", option.name)) != option.name:
            raise C3Error(f"--{other} and --{option.name} both say how results are printed; give one of them")

    return together(
        *(
            click.option(f"--{form}", is_flag=True, expose_value=False, callback=choose, help=text.format(one, line))
            for form, text in FORMS.items()
        )
    )


def named_values(group: str, *names: str, many: bool = False, **attributes: Any) -> Callable[[Command], Command]:
    """Add a repeatable option NAME=VALUE whose pairs arrive in the dictionary parameter `group`.

    With `many` the value is NAME=V1,V2 and arrives as a tuple. Raises C3Error for a value without `=`, and for a name
    that is given twice.
    """

    def collect(ctx: click.Context, option: click.Parameter, pairs: Iterable[str]) -> None:
        entries = ctx.params.setdefault(group, {})
        for pair in pairs:
            name, equals, value = pair.partition("=")
            if not equals:
                expected = "NAME=VALUE or NAME=VALUE,VALUE" if many else "NAME=VALUE"
                raise C3Error(f"{option.opts[0]} {pair!r}: expected {expected}")
            _enter(entries, name, tuple(value.split(",")) if many else value, option)

    return click.option(*names, multiple=True, expose_value=False, callback=collect, **attributes)


def _enter(entries: dict[str, Any], name: str, value: Any, option: click.Parameter) -> None:
    if name in entries:
        raise C3Error(f"{option.opts[0]}: {name} is given twice; give it once")
    entries[name] = value


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Combine options into one decorator; the help shows them in this order."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


# How runs are computed, which never changes their weights.
running_options = together(
    grouped("running", "--device", default="auto", show_default=True, help="The device: auto, cpu, cuda or cuda:N."),
    grouped("running", "--checkpoint-minutes", default=5.0, show_default=True, type=RealNumber(min=0),
            metavar="X", help="Save a checkpoint after this number of minutes."),
    grouped("running", "--checkpoint-steps", default=0, show_default=True, type=click.IntRange(min=0), metavar="N",
            help="Also save a checkpoint after this number of steps; 0 saves by the clock alone."),
)  # fmt: skip


class ManyValues(HelpPage):
    """A command whose repeatable options take all values that follow: `--groups 1 3 5` is `--groups 1 --groups 3 ...`.

    Click's own options take a fixed number of values; arguments of such a command stand before its options.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Write the name of a repeatable option before each of its values, then parse as click does."""
        repeatable = {
            name
            for option in self.params
            if isinstance(option, click.Option) and option.multiple
            for name in option.opts
        }
        spread: list[str] = []
        current, values = "", 0
        for argument in args:
            if argument.startswith("--") or argument in ctx.help_option_names:
                current, values = argument, 0
            elif current in repeatable:
                values += 1
                if values > 1:
                    spread.append(current)
            spread.append(argument)
        return super().parse_args(ctx, spread)
