"""Words -> prompts -> vectors: a text tower reads every word in every template, and the mean is the vector."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ...common.errors import C3Error, clipped
from ...common.optional_packages import optional_package
from ...common.progress import progress
from ..store.origin import VectorOrigin
from .text_towers import TextTower
from .wanted_vectors import is_zero

PLACE = "{}"  # of the word in a template
SETS = {"openai-imagenet": "OPENAI_IMAGENET_TEMPLATES", "simple-imagenet": "SIMPLE_IMAGENET_TEMPLATES"}  # in open_clip
BATCH = 256  # prompts
SHOWN = 5  # words in an error


@dataclass(frozen=True)
class TowerVectors:
    """Words, each once, their vectors (words, d_w) float32 of length 1, and the tower that made them."""

    words: tuple[str, ...]
    vectors: np.ndarray
    origin: VectorOrigin


def templates_of(asked: Sequence[str]) -> tuple[str, ...]:
    """Return templates, each once; a name of `SETS` stands for the templates of open_clip of that name.

    Raises C3Error for a template without the place of the word.
    """
    found: list[str] = []
    for template in asked:
        if template in SETS:
            fill: Sequence[Callable[[str], str]] = getattr(
                optional_package("open_clip", "clip", f"--template {template}"), SETS[template]
            )
            found += [written(PLACE) for written in fill]
        elif template.count(PLACE) == 1:
            found.append(template)
        else:
            raise C3Error(
                f"--template {clipped(repr(template))}: expected a text with one {PLACE} in the place of the word, "
                f"such as 'a photo of a {PLACE}', or one of {', '.join(SETS)}"
            )
    return tuple(dict.fromkeys(found))


def tower_vectors(words: Sequence[str], tower: TextTower, templates: Sequence[str] = ()) -> TowerVectors:
    """Return the vectors of words: v = u / |u|, u = mean over templates of e / |e|, e the tower's output of a prompt.

    These are the weights of OpenCLIP's zero-shot classifier (Radford et al. 2021, section 3.1.4). `_` in a word is a
    blank in its prompt. Without templates those of the tower are taken. Raises C3Error for no words, repeated words,
    words without a letter, and prompts that are longer than the tower reads.
    """
    require_words(words)
    templates = templates_of(templates or tower.templates)
    prompts = [template.replace(PLACE, word.replace("_", " ")) for word in words for template in templates]
    if long := [prompt for prompt in prompts if tower.is_too_long(prompt)]:
        raise C3Error(
            f"{len(long)} of {len(prompts)} prompts are longer than the {tower.context} tokens that {tower.name} "
            f"reads, such as {clipped(repr(long[0]))}; shorten the words or the templates"
        )
    parts = []
    with progress("vectors", len(prompts), "prompts") as bar:
        for start in range(0, len(prompts), BATCH):
            batch = prompts[start : start + BATCH]
            parts.append(tower.encode(batch))
            bar.advance(len(batch))
    embedded = np.concatenate(parts)
    lost = {prompts[number] for number, vector in enumerate(embedded) if is_zero(vector)}
    if lost:
        raise C3Error(f"{tower.name} has no vector for {len(lost)} prompts, such as {clipped(repr(min(lost)))}")
    means = _unit(embedded).reshape(len(words), len(templates), -1).mean(axis=1)
    return TowerVectors(
        tuple(words), _unit(means).astype(np.float32), VectorOrigin(tower.name, tower.sha256, templates)
    )


def _unit(vectors: np.ndarray) -> np.ndarray:
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return unit


def require_words(words: Sequence[str]) -> None:
    """Refuse an empty list, repeated words, and words without a letter, digit or symbol."""
    if not words:
        raise C3Error("the list of words is empty: expected at least one word")
    if repeated := [word for word, count in Counter(words).items() if count > 1]:
        raise C3Error(f"{len(repeated)} words are repeated: {_some(repeated)}; give each once")
    if empty := [word for word in words if not any(unicodedata.category(sign)[0] in "LNS" for sign in word)]:
        raise C3Error(f"{len(empty)} words have no letter, digit or symbol: {_some(map(repr, empty))}")


def _some(words: Iterable[str]) -> str:
    words = list(words)
    return ", ".join(words[:SHOWN]) + (" ..." if len(words) > SHOWN else "")
