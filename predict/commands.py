"""The commands that use a trained run: parse, call one function, print one summary. Heavy imports stay inside."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..common.click_options import (
    TEMPLATE_HELP,
    TOWER_HELP,
    RunPath,
    UserPath,
    UserPlace,
    device_option,
    form_options,
    together,
)
from ..common.errors import C3Error
from ..common.files import unwritable
from ..common.help_page import HelpPage
from ..common.optional_packages import optional_package
from ..extract.backbone.names import IMPORTED
from ..extract.store.names import TRUNCATED
from ..train.names import LABEL_MAPS
from .names import SIDECAR_NAMES

if TYPE_CHECKING:
    from .sidecars import Sidecars
    from .vocabulary import VectorSource

LOG = logging.getLogger(__name__)
PATH = UserPath()
WEIGHTS_HELP = (
    "The backbone's weights, if they are not where they were: imagenet, random:SEED, a file, a name of the catalog. "
    "Default: those of the extraction."
)
PREDICT_SECTIONS = {
    "Words": ("vocabulary", "words", "vectors", "tower", "templates", "drop_unknown"),
    "Labels": ("run_path", "top", "threshold", "raw"),
    "Output": ("json", "csv", "table", "overlay", "maps"),
    "Sidecars": ("xmp", "xmp_name", "label_tree"),
    "How to compute": ("weights", "truncated", "max_megapixels", "batch_size", "device"),
}
CARD = "RUN/README.md"  # stands for the README.md of the run folder
SEARCH_SECTIONS = {
    "Words": ("vectors", "tower", "templates", "drop_unknown"),
    "Images": ("run_path", "top", "split"),
    "Output": ("raw", "json", "csv", "table", "html", "copy", "images"),
    "How to compute": ("projections", "device"),
}
SOME_FAILED = 3  # exit code: some pictures could not be read or their sidecars not written, all others are done
# Where the vectors of words are; `vector_source` reads the values.
word_options = together(
    click.option("--vectors", type=UserPlace(), metavar="NAME|FILE",
                 help="Where the vectors of the words are: a file, or a name of the catalog. Default: those of the "
                      "run's data set."),
    click.option("--tower", type=UserPlace(), metavar="KIND:MODEL",
                 help=f"{TOWER_HELP} Default: no tower; --vectors has the vectors."),
    click.option("--template", "templates", multiple=True, metavar="TEXT",
                 help=f"Goes with --tower. {TEMPLATE_HELP}"),
    click.option("--drop-unknown", is_flag=True, help="Leave out words without a vector, and repeats."),
)  # fmt: skip


@click.command(cls=HelpPage, sections=PREDICT_SECTIONS)
@click.argument("images", nargs=-1, required=True, type=UserPlace())
@click.option("--run", "run_path", default="runs", show_default=True, type=RunPath(), metavar="FOLDER",
              help="A finished run folder; or a folder of runs, whose best one on the split val is taken.")  # fmt: skip
@click.option(
    "--vocabulary",
    type=PATH,
    metavar="FILE",
    help="A file of words to ask for, one a line. Default: the store's classes.",
)
@click.option("--words", metavar="WORD,WORD",
              help="The words themselves, in place of --vocabulary. Default: those of --vocabulary.")  # fmt: skip
@word_options
@click.option(
    "--top",
    type=click.IntRange(min=1),
    metavar="N",
    help="Labels of an image. Default: 5, or all that reach a threshold.",
)
@click.option("--threshold", metavar="X|val",
              help="What a label must reach: a probability (with --raw a score), or val for the score of each class "
                   "that c3 evaluate chose on val (thresholds.csv). Default: no threshold.")  # fmt: skip
@click.option("--raw", is_flag=True, help="Show and sort by the scores of the method, in place of probabilities.")
@form_options("an image", "a label")
@click.option("--overlay", type=PATH, metavar="FOLDER",
              help="Folder for drawings of where the labels of each image come from, as png. Default: no "
                   "drawings.")  # fmt: skip
@click.option("--map", "maps", default=LABEL_MAPS[0], show_default=True, type=click.Choice(LABEL_MAPS),
              help="What the drawings show: how much a score falls when a place is hidden (any method), or the shares "
                   "of the positions in it.")  # fmt: skip
@click.option("--xmp", is_flag=True,
              help="Also add the labels to the XMP file beside each image, for photo programs. All else in it stays, "
                   "and so does the image.")  # fmt: skip
@click.option("--xmp-name", type=click.Choice(SIDECAR_NAMES),
              help="Goes with --xmp. The name of new XMP files: full is photo.jpg.xmp, stem is photo.xmp. An existing "
                   "one of either name is taken. Default: full.")  # fmt: skip
@click.option("--label-tree", type=PATH, metavar="FILE",
              help="Goes with --xmp. A file of lines such as animal|dog, which place labels below wider terms. "
                   "Default: no tree.")  # fmt: skip
@click.option("--weights", type=UserPlace(), metavar="NAME|FILE", help=WEIGHTS_HELP)
@click.option("--truncated", type=click.Choice(TRUNCATED),
              help="An image whose file ends too early: status leaves it out and says so, keep takes the part that is "
                   "in the file. Default: as in the store of the run.")  # fmt: skip
@click.option("--max-megapixels", type=click.IntRange(min=1), metavar="N",
              help="The largest image to read, in million pixels. Default: as in the store of the run.")  # fmt: skip
@click.option("--batch-size", default=32, show_default=True, type=click.IntRange(min=1), metavar="N",
              help="The number of images in one forward pass.")  # fmt: skip
@device_option
@click.pass_context
def predict(
    ctx: click.Context,
    /,
    images: tuple[str, ...],
    run_path: Path,
    vocabulary: Path | None,
    words: str | None,
    vectors: str | None,
    tower: str | None,
    templates: tuple[str, ...],
    threshold: str | None,
    overlay: Path | None,
    xmp: bool,
    xmp_name: str | None,
    label_tree: Path | None,
    weights: str | None,
    device: str,
    form: str = "table",
    **asked: Any,
) -> None:
    """Tag images (files, folders, globs) by a trained run, with its classes or with any words that have a vector.

    Exit code 3: some images could not be read, or their XMP files not written; the others are done.
    """
    from ..common.text_files import word_list
    from ..train.run_folder import RECORD, best_run, open_run

    if not (run_path / RECORD).exists() and any(run_path.glob(f"*/{RECORD}")):
        new_words = bool(words or vocabulary)
        best = best_run(
            run_path,
            lambda run: not run.record.features.backbone.startswith(IMPORTED) and (run.zero_shot or not new_words),
        )
        LOG.info("%s is the run with the best mAP of seen classes on val", best.path)
        run_path = best.path
    sidecars = _sidecars(xmp, xmp_name, label_tree)
    open_run(run_path).require_finished()  # before torch is imported, which takes seconds
    from .images import find_pictures
    from .results import publish
    from .tagger import Tagger, TagOptions

    if vocabulary and words is not None:
        raise C3Error("--vocabulary and --words both name words; give one of them")
    if threshold not in (None, "val"):
        try:
            asked["threshold"] = float(threshold)
        except ValueError:
            raise C3Error(f"--threshold {threshold!r}: expected a number or val") from None
    options = TagOptions(
        vocabulary=word_list(vocabulary) if vocabulary else words.split(",") if words is not None else None,
        vectors=vector_source(vectors, tower, templates),
        responses=overlay is not None,
        **{"threshold": threshold} | asked,
    )
    paths = find_pictures(images)
    tagger = Tagger.load(run_path, weights, ctx.obj, device)
    if sidecars:
        sidecars.require_words(tagger.classes.names if options.vocabulary is None else options.vocabulary)
    found = tagger.stream(paths, options)
    ctx.exit(SOME_FAILED if publish(found, len(paths), form, click.echo, overlay, options.maps, sidecars) else 0)


def _sidecars(xmp: bool, name: str | None, tree: Path | None) -> Sidecars | None:
    """Return the writer of sidecars that the options ask for, if any."""
    if not xmp:
        if name or tree:
            raise C3Error(f"{'--xmp-name' if name else '--label-tree'} goes with --xmp, which writes XMP files")
        return None
    optional_package("lxml", "xmp", "--xmp")
    from .label_tree import read_label_tree
    from .sidecars import Sidecars

    return Sidecars(name or SIDECAR_NAMES[0], read_label_tree(tree) if tree else None)


def vector_source(vectors: str | None, tower: str | None, templates: tuple[str, ...]) -> VectorSource | None:
    """Return the source of vectors that `word_options` name. Raises C3Error where they contradict one another."""
    if tower and vectors:
        raise C3Error("--vectors and --tower both give vectors; give one of them")
    if templates and not tower:
        raise C3Error("--template goes with --tower, which reads the words in it")
    if tower is None:
        return vectors
    from .vocabulary import ByTower

    return ByTower(tower, templates)


@click.command(cls=HelpPage, sections=SEARCH_SECTIONS)
@click.argument("store", type=UserPlace())
@click.argument("words", nargs=-1, required=True, metavar="WORD...")
@click.option("--run", "run_path", default="runs", show_default=True, type=RunPath(), metavar="FOLDER",
              help="A finished run folder, or a folder of runs: of those on features like these, the best on the "
                   "split val is taken.")  # fmt: skip
@word_options
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True, metavar="N",
              help="Images of a word.")  # fmt: skip
@click.option("--split", metavar="NAME", help="Search the images of this split alone. Default: all splits.")
@click.option("--raw", is_flag=True, help="Show the scores of the method, in place of probabilities.")
@form_options("a word", "an image")
@click.option("--html", type=UserPath(dir_okay=False), metavar="FILE",
              help="Also write a page with the images, which needs nothing but itself. Default: no page.")  # fmt: skip
@click.option("--copy", type=PATH, metavar="FOLDER",
              help="Also copy the images to this folder, as WORD-RANK-NAME; nothing is overwritten. Default: no "
                   "copies.")  # fmt: skip
@click.option("--images", type=PATH, metavar="FOLDER",
              help="The folder of the images, if it has moved. Default: the one that the store names.")  # fmt: skip
@click.option("--projections", type=PATH, metavar="FOLDER",
              help="Where to keep what the run says of every image, so that the next search reads no feature map. "
                   "Default: the folder projections beside the store.")  # fmt: skip
@device_option
@click.pass_obj
def search(
    catalog: Path | None,
    store: str,
    words: tuple[str, ...],
    run_path: Path,
    vectors: str | None,
    tower: str | None,
    templates: tuple[str, ...],
    drop_unknown: bool,
    top: int,
    split: str | None,
    raw: bool,
    html: Path | None,
    copy: Path | None,
    images: Path | None,
    projections: Path | None,
    device: str,
    form: str = "table",
) -> None:
    """Rank the images of a store by words, seen in training or not: c3 search features.zarr "red boat" tram."""
    if any(not word.strip() for word in words):
        raise C3Error("a word to search for is empty; give at least one sign, such as: c3 search STORE boat")
    from ..train.run_folder import RECORD, best_run, open_run, require_output

    if html:
        require_output(html, "--html")
    if copy and (fault := unwritable(copy)):
        raise C3Error(f"--copy {copy} cannot be written: {fault}")
    source = vector_source(vectors, tower, templates)
    from ..extract.store.cache import FeatureCache

    features = FeatureCache.open(store)
    if split is not None:
        features.rows(split)
    if not (run_path / RECORD).exists() and any(run_path.glob(f"*/{RECORD}")):
        made = features.origin
        best = best_run(
            run_path,
            lambda run: (
                run.zero_shot
                and (run.record.features.backbone, run.record.features.weights_sha256)
                == (made.backbone, made.weights_sha256)
            ),
        )
        LOG.info("%s is the run with the best mAP of seen classes on val", best.path)
        run_path = best.path
    open_run(run_path).require_finished()  # before torch is imported, which takes seconds
    from .found import copies_of, copy_images, text_of
    from .search import Searcher

    searcher = Searcher.load(store, run_path, catalog, device, projections, images)
    rankings = searcher.search(words, vectors=source, top=top, split=split, raw=raw, drop_unknown=drop_unknown)
    copies = copies_of(rankings, copy, images) if copy else {}  # refuses before anything is printed or written
    click.echo(text_of(rankings, form))
    if html:
        from .search_page import write_page

        click.echo(write_page(html, rankings, searcher.run, searcher.store, images), err=True)
    if copy:
        click.echo(copy_images(copies, copy, images), err=True)


@click.command()
@click.argument("run_path", metavar="RUN", type=RunPath())
@click.option(
    "--onnx",
    type=PATH,
    metavar="FILE",
    help="Write backbone and head as one graph to this file: uint8 pixels and word vectors to scores. It carries the "
    "model card, and the vectors of the run's own classes. Default: no graph.",
)
@click.option(
    "--safetensors",
    type=PATH,
    metavar="FILE",
    help="Write the head's weights with what it takes to rebuild it, and the model card, to this file. Default: no "
    "such file.",
)
@click.option("--card", is_flag=False, flag_value=CARD, type=PATH, metavar="[FILE]",
              help="Write a model card for people and hubs: data, classes, numbers with intervals, licences, limits, "
                   "use. Without FILE: README.md in the run folder. Default: no card.")  # fmt: skip
@click.option("--weights", type=UserPlace(), metavar="NAME|FILE", help=WEIGHTS_HELP)
@click.pass_obj
def export(
    catalog: Path | None,
    run_path: Path,
    onnx: Path | None,
    safetensors: Path | None,
    card: Path | None,
    weights: str | None,
) -> None:
    """Write a trained run for other programs and people: c3 export RUN --onnx model.onnx --card."""
    if not (onnx or safetensors or card):
        raise C3Error("nothing to write: give --onnx FILE, --safetensors FILE, --card, or several of them")
    from ..common.files import write_text
    from ..train.run_folder import open_run, require_output

    run = open_run(run_path)
    run.require_finished()  # before torch is imported, which takes seconds
    card = run_path / "README.md" if card == Path(CARD) else card
    outputs = {"--onnx": onnx, "--safetensors": safetensors, "--card": card}
    asked = {option: path for option, path in outputs.items() if path}
    for option, path in asked.items():
        require_output(path, option)
    if len({path.absolute() for path in asked.values()}) < len(asked):
        raise C3Error(f"{' and '.join(asked)} name the same file; give each a name of its own")
    if card:
        from .card import model_card

        write_text(card, model_card(run))
        click.echo(f"{card}: the model card of {run.id}")
    if not (onnx or safetensors):
        return
    from .export import export_onnx, export_safetensors

    if safetensors:
        click.echo(export_safetensors(run_path, safetensors))
    if onnx:
        click.echo(export_onnx(run_path, onnx, weights, catalog))


COMMANDS = (predict, search, export)
