"""Record where a command spends its time, and draw it as a flame: every call below the one that made it.

    python benchmarks/flame.py PICTURE.png --below FUNCTION -- COMMAND ...
    python benchmarks/flame.py flame.png --below fit -- train --cache STORE --method c3 --epochs 1 --runs runs

COMMAND is one of c3's with its arguments. py-spy looks --rate times a second which Python functions every thread is in;
compiled code counts for the function that called it. The picture shows the main thread below FUNCTION: a box is as wide
as its share of the samples there. Frames that only pass a call on are left out, and so are shares below a hundredth.
The shares are printed too, and for each of the other threads how often it was at work.

With --stacks the samples are kept in a file; without COMMAND they are drawn again from it. Needs py-spy, and the right
to look into a process of one's own: pip install '.[benchmarks]'.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import c3
import matplotlib
from c3.common.errors import C3Error
from c3.common.files import require_file
from c3.evaluate.report.figures import COLOURS, STYLE
from charts import WIDTH, save_small
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

USAGE = "%(prog)s PICTURE --below FUNCTION [--stacks FILE] [--rate N] [--title TEXT] [-- COMMAND ...]"
MAIN = "MainThread"
# Files whose frames only pass a call on: decorators, torch's module calls, graphs and the start of a program.
PASSING = (
    "contextlib.py", "torch/_compile.py", "torch/_jit_internal.py", "torch/autograd/graph.py",
    "torch/fx/graph_module.py",
    "torch/nn/modules/module.py", "torch/optim/optimizer.py", "torch/utils/_contextlib.py",
)  # fmt: skip
PACKAGE = Path(c3.__file__).parent
FRAME = re.compile(r"(?P<name>.+) \((?P<file>.+):\d+\)$")
LEAST, LABELLED = 0.01, 0.025  # share of a box that is drawn, and of one that has a name
HEIGHT = 0.2  # inches of a box


@dataclass
class Node:
    """A function, the samples in which it was called from the one above, and what it called."""

    name: str
    file: str
    samples: int = 0
    called: dict[tuple[str, str], Node] = field(default_factory=dict)

    def add(self, frames: Iterable[tuple[str, str]], samples: int) -> None:
        """Count the samples of a stack below this function."""
        node = self
        node.samples += samples
        for frame in frames:
            node = node.called.setdefault(frame, Node(*frame))
            node.samples += samples

    def boxes(self, left: float = 0.0, depth: int = 0, whole: int = 0) -> Iterator[tuple[Node, float, float, int]]:
        """Yield every function with the left edge and the width of its box, as shares, and its depth; widest first."""
        whole = whole or self.samples
        if self.samples < LEAST * whole:
            return
        yield self, left, self.samples / whole, depth
        for node in sorted(self.called.values(), key=lambda node: -node.samples):
            yield from node.boxes(left, depth + 1, whole)
            left += node.samples / whole


def stacks(text: str) -> Iterator[tuple[str, list[tuple[str, str]], int]]:
    """Yield the name of a thread, its frames as (function, file) and the samples, of what py-spy wrote."""
    for line in text.splitlines():
        path, _, samples = line.rpartition(" ")
        thread, *frames = path.split(";")
        found = [FRAME.match(frame) for frame in frames]
        named = [(frame["name"], from_package(frame["file"])) for frame in found if frame]
        yield thread.rpartition(": ")[2], named, int(samples)


def from_package(file: str) -> str:
    """Return the path of a file from its package on: a checkout of c3 may lie in a folder of any name."""
    rest = file.partition("/")[2]
    return f"c3/{rest}" if rest and (PACKAGE / rest).exists() else file


def passes_on(name: str, file: str) -> bool:
    """Return whether a frame only passes a call on, or is a comprehension of the function above it."""
    return file.endswith(PASSING) or name.endswith(("<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>"))


def below(text: str, function: str) -> Node:
    """Return the calls of the main thread below a function. Raises C3Error where no sample is in it."""
    root = Node(function, "")
    for thread, frames, samples in stacks(text):
        names = [name for name, _ in frames]
        if thread == MAIN and function in names:
            start = names.index(function)
            root.file = frames[start][1]
            root.add((frame for frame in frames[start + 1 :] if not passes_on(*frame)), samples)
    if not root.samples:
        raise C3Error(f"no sample of the main thread is in {function}: name a function of c3 that the command calls")
    return root


def others(text: str) -> dict[str, float]:
    """Return name of the threads of a pool -> how often one was at work, for every sample of the main thread.

    Only functions of c3 count: py-spy also takes a thread that waits in the system for one that works.
    """
    found: Counter[str] = Counter()
    for thread, frames, samples in stacks(text):
        named = not thread.startswith("thread (")  # a thread that has just begun has no name yet
        if named and any(file.startswith("c3/") for _, file in frames):
            found[re.sub(r"_\d+$", "", thread)] += samples
    main = found.pop(MAIN, 1)
    return {name: samples / main for name, samples in found.most_common()}


@matplotlib.rc_context(STYLE)
def draw(root: Node, title: str) -> Figure:
    """Draw the boxes from the top down: functions of c3 blue, those of torch orange, all others grey."""
    boxes = list(root.boxes())
    rows = 1 + max(depth for *_, depth in boxes)
    figure = Figure(figsize=(1.6 * WIDTH, HEIGHT * rows + 0.4), layout="constrained")
    axis = figure.subplots()
    axis.set_title(title, loc="left")
    axis.set(xlim=(0, 1), ylim=(rows, 0))
    axis.axis("off")
    for node, left, width, depth in boxes:
        colour = COLOURS[5] if node.file.startswith("c3/") else COLOURS[4] if "torch" in node.file else "#D9D9D9"
        box = axis.add_patch(Rectangle((left, depth), width, 1, facecolor=colour, edgecolor="white", linewidth=0.8))
        if width > LABELLED:
            said = f"{width:.0%} {node.name.rpartition('.<locals>.')[2]}"
            text = axis.text(left + 0.003, depth + 0.5, said, va="center", fontsize=7, clip_on=True, in_layout=False)
            text.set_clip_path(box)
    return figure


def shares(root: Node) -> Iterator[str]:
    """Yield the rows of a table: every function that is drawn and its share, the largest first."""
    yield "| share | alone | function | file |"
    yield "|---:|---:|---|---|"
    for node, _, width, _ in sorted(root.boxes(), key=lambda box: -box[2]):
        alone = (node.samples - sum(child.samples for child in node.called.values())) / root.samples
        yield f"| {width:.1%} | {alone:.1%} | {node.name} | {node.file} |"


def record(command: list[str], stacks_file: Path, rate: int) -> None:
    """Run a command of c3 under py-spy, which writes its samples."""
    spy = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if spy is None:
        raise C3Error("py-spy is not installed; pip install py-spy")
    spied = [spy, "record", "--format", "raw", "--function", "--threads", "--rate", str(rate), "--output", stacks_file]
    subprocess.run([*spied, "--", sys.executable, "-m", "c3", *command], check=True)


def main() -> None:
    """Record a command, or read what was recorded; draw and print."""
    parser = argparse.ArgumentParser(
        usage=USAGE, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("picture", type=Path)
    parser.add_argument("--below", required=True, metavar="FUNCTION", help="the function that the picture begins with")
    parser.add_argument(
        "--stacks", type=Path, metavar="FILE", help="keep the samples here; drawn again without COMMAND"
    )
    parser.add_argument("--rate", type=int, default=50, help="samples a second")
    parser.add_argument("--title", default="")
    words = sys.argv[1:]
    ours = words.index("--") if "--" in words else len(words)
    asked, command = parser.parse_args(words[:ours]), words[ours + 1 :]
    with tempfile.TemporaryDirectory() as folder:
        kept = asked.stacks or Path(folder, "stacks.txt")
        try:
            if command:
                record(command, kept, asked.rate)
            text = require_file(kept, "samples of py-spy").read_text(encoding="utf-8")
            root = below(text, asked.below)
        except C3Error as error:
            parser.error(str(error))
    save_small(draw(root, asked.title or " ".join(["c3", *command])[:80]), asked.picture)
    print(f"{root.samples:,} samples below {asked.below}", *shares(root), sep="\n")
    for name, share in others(text).items():
        print(f"beside them, threads {name}: {share:.2f}")


if __name__ == "__main__":
    main()
