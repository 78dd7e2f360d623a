"""The images of a search as one self-contained html page, with thumbnails where the images can be read."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ..common.files import write_text
from ..common.version import __version__
from ..common.words import counted
from ..evaluate.probabilities import probabilities_of
from ..evaluate.report.html import data_url, render
from ..extract.backbone.pictures.crops import load_thumbnail
from ..extract.backbone.pictures.decode_options import DecodeOptions
from ..extract.store.cache import FeatureCache
from ..train.run_folder import Run
from .found import Hit, Ranking, lost_images
from .results import printable

TEMPLATE = Path(__file__).with_name("template")
SIDE = 480  # pixels of a thumbnail, which the page also shows enlarged
CALIBRATED = (
    "The number is the probability that the image shows the word: of all images with 0.7, about seven in ten should. "
    "It was calibrated on the trained classes of the validation split."
)
OFF = (
    "The model was not trained on some of these words. Nothing was measured for such words, so their probabilities are "
    "those of trained words, and can be far off."
)
RAW = "The number is the score of the method. It has no fixed scale: compare it between images of one word only."


def write_page(
    path: Path, rankings: Sequence[Ranking], run: Run, store: FeatureCache, images: Path | None = None
) -> str:
    """Write the page of a search and return a line about it. Images that cannot be read are counted there, once.

    `images` is the folder of the images that was asked for, if any.

    Raises C3Error where the file cannot be written.
    """
    options = DecodeOptions(store.origin.truncated, store.origin.max_megapixels)
    files = list(dict.fromkeys(hit.image for ranking in rankings for hit in ranking.hits if hit.there))
    with ThreadPoolExecutor(thread_name_prefix="thumbnail") as threads:
        pixels = dict(zip(files, threads.map(lambda file: load_thumbnail(Path(file), SIDE, options), files),
                          strict=True))  # fmt: skip
    hits = [hit for ranking in rankings for hit in ranking.hits]
    lost = sum(pixels.get(hit.image) is None for hit in hits)
    problem = lost_images(hits, lost, images, ", or cannot be read") if lost else ""
    calibrated = any(hit.probability is not None for hit in hits)
    maps = probabilities_of(run) if calibrated else None
    lack = OFF if maps and maps.lacks_folds([ranking.kind for ranking in rankings]) else ""
    text = render(
        TEMPLATE,
        "search",
        words=[
            {
                "word": ranking.word,
                "kind": ranking.kind,
                "hits": [_shown(hit, pixels.get(hit.image)) for hit in ranking.hits],
            }
            for ranking in rankings
        ],
        facts=[("store", printable(store.location)), ("data set", run.dataset), ("run", run.id)],
        meaning=[CALIBRATED if calibrated else RAW, lack],
        problem=problem,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
    )
    write_text(path, text)
    return f"{path}: {counted(len(hits), 'image')}, {len(text.encode()) / 1e6:.1f} MB{problem and '; '}{problem}"


def _shown(hit: Hit, pixels: np.ndarray | None) -> dict[str, Any]:
    return {
        "rank": hit.rank,
        "told": f"{hit.score if hit.probability is None else hit.probability:.3f}",
        "share": hit.probability,
        "image": printable(hit.image),
        "name": printable(Path(hit.image).name),
        "split": hit.split,
        "photo": None if pixels is None else data_url(pixels, "jpeg"),
        "height": None if pixels is None else pixels.shape[0],
        "width": None if pixels is None else pixels.shape[1],
    }
