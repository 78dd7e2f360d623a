"""Take ten networks of timm through extract, train and predict, and print the seconds of each.

    python benchmarks/backbones.py --input-size 64

Weights are random and the pictures few: the table says that every network runs, and what it costs beside the others.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from pathlib import Path

import click
from c3 import Tagger
from c3.extract.datasets.demo.data_set import DemoSpec, write_demo
from c3.extract.options import ExtractOptions
from c3.extract.run import extract
from c3.extract.store.cache import FeatureCache
from c3.train.run import TrainOptions, train

NETWORKS = (  # residual, mobile, channels last, plain and hierarchical transformers, mixers
    "resnet18", "tf_efficientnet_lite0", "mobilenetv4_conv_small", "convnext_atto", "regnety_002", "repvgg_a0",
    "swin_tiny_patch4_window7_224", "vit_tiny_patch16_224", "vit_small_patch14_dinov2", "maxvit_rmlp_nano_rw_256",
)  # fmt: skip
NATIVE = {"swin_tiny_patch4_window7_224": 224, "vit_small_patch14_dinov2": 70, "maxvit_rmlp_nano_rw_256": 256}
CATALOG = """version: 1
datasets:
  drawn: {kind: table, root: drawn, images: images, table: labels.csv, classes: classes.txt,
          unseen: unseen.txt, vectors: words, labels: complete}
vectors:
  words: {kind: text, path: drawn/vectors.txt}
"""


def seconds(network: str, side: int, root: Path) -> tuple[str, list[float]]:
    """Return the levels of a network, and the seconds of extraction, training and prediction."""
    store, marks = root / f"{network}.zarr", [time.perf_counter()]
    asked = ExtractOptions("drawn", f"timm:{network}", "random:0", store, root / "catalog.yaml", batch_size=8,
                           device="cpu", input_size=NATIVE.get(network, side))  # fmt: skip
    extract(asked)
    marks.append(time.perf_counter())
    run = train(TrainOptions(store, "c3", root / "runs", {"epochs": 1, "batch_size": 8}, device="cpu"))
    marks.append(time.perf_counter())
    tagged = Tagger.load(run.path, device="cpu").tag(sorted((root / "drawn" / "images").iterdir())[:8])
    marks.append(time.perf_counter())
    if not all(picture.labels for picture in tagged):
        raise RuntimeError(f"{network} gave a picture no label")
    levels = " ".join(f"{level.name}({level.channels})" for level in FeatureCache.open(store).levels)
    return levels, [stop - start for start, stop in itertools.pairwise(marks)]


@click.command()
@click.option("--networks", multiple=True, default=NETWORKS, help="Names of timm; default: ten kinds.")
@click.option("--input-size", default=64, show_default=True, help="Edge of the pictures, where a network takes it.")
@click.option("--images", default=16, show_default=True, help="Pictures of the training split.")
def main(networks: tuple[str, ...], input_size: int, images: int) -> None:
    """Print a line for every network."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_demo(root / "drawn", DemoSpec(train=images, val=4, test=4))
        (root / "catalog.yaml").write_text(CATALOG)
        click.echo(f"{'network':<32} {'extract':>8} {'train':>8} {'predict':>8}  levels")
        for network in networks:
            levels, spent = seconds(network, input_size, root)
            click.echo(f"{network:<32} {spent[0]:7.1f}s {spent[1]:7.1f}s {spent[2]:7.1f}s  {levels}")


if __name__ == "__main__":
    main()
