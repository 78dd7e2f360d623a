"""The commands that turn the features of other tools into a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..common.click_options import DatasetName, UserPath, UserPlace


@click.command("import-features")
@click.argument("files", nargs=-1, required=True, type=UserPath(), metavar="ARRAY...")
@click.option("--table", type=UserPath(), metavar="CSV",
              help="The rows of the arrays, in order: a csv with the columns image_path, labels and "
                   "split. Required without --dataset.")  # fmt: skip
@click.option("--vectors", type=UserPlace(), metavar="NAME|FILE",
              help="The vectors of the classes: a name of the catalog, or a file. Required with --table.")  # fmt: skip
@click.option("--unseen", type=UserPath(), metavar="FILE",
              help="With --table: the unseen classes, one a line. Default: none, all classes are seen.")  # fmt: skip
@click.option("--classes", type=UserPath(), metavar="FILE",
              help="With --table: all classes, one a line. Default: those of the labels.")  # fmt: skip
@click.option("--labels", "labelling", default="complete", show_default=True,
              type=click.Choice(("complete", "verified")),
              help="With --table: whether an absent label is negative, or unknown.")  # fmt: skip
@click.option("--dataset", type=DatasetName(), metavar="NAME",
              help="A data set of kind table in the catalog. Required without --table.")  # fmt: skip
@click.option("--array", "arrays", multiple=True, metavar="NAME",
              help="An array to read where files hold several: a key of .npz or .h5, a column of .parquet. Repeat the "
                   "option for more levels, shallow to deep. Default: the only array of a file.")  # fmt: skip
@click.option("--source", metavar="TEXT", help="What computed the features. Default: the name of the first file.")
@click.option(
    "--out", default="features.zarr", show_default=True, type=UserPath(), metavar="STORE", help="The store to fill."
)
@click.option("--overwrite", is_flag=True, help="Delete the store at --out and start again.")
@click.pass_obj
def import_features(catalog: Path | None, /, files: tuple[Path, ...], **options: Any) -> None:
    """Turn feature arrays of other tools (.npy, .npz, .h5, .parquet) into a store.

    Maps (rows, C, H, W) become levels, vectors (rows, D) the vector of the whole picture.
    """
    from .import_features import ImportOptions
    from .import_features import import_features as run

    click.echo(run(ImportOptions(files, catalog=catalog, **options)))


@click.command("import-biam")
@click.option("--train", type=UserPath(), metavar="FILE",
              help="The HDF5 file of BiAM's training features. Required without --test.")  # fmt: skip
@click.option("--test", type=UserPath(), metavar="FILE",
              help="The HDF5 file of BiAM's test features. Required without --train.")  # fmt: skip
@click.option("--dataset", default="nuswide", show_default=True, type=DatasetName(), metavar="NAME",
              help="The data set whose classes and word vectors the store gets.")  # fmt: skip
@click.option(
    "--out", default="features.zarr", show_default=True, type=UserPath(), metavar="STORE", help="The store to fill."
)
@click.option("--overwrite", is_flag=True, help="Delete the store at --out and start again.")
@click.pass_obj
def import_biam(catalog: Path | None, /, train: Path | None, test: Path | None, **options: Any) -> None:
    """Turn the published HDF5 features of BiAM into a store.

    The same command continues an import that was stopped.
    """
    from .import_biam import BiamOptions
    from .import_biam import import_biam as run

    click.echo(run(BiamOptions({"train": train, "test": test}, catalog=catalog, **options)))
