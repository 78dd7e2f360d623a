"""Text towers: texts -> vectors, by models of OpenCLIP, sentence-transformers and model2vec on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...common.errors import C3Error, clipped
from ...common.optional_packages import from_disk_only, optional_package
from ...common.unicode_forms import on_disk


class TextTower(Protocol):
    """A model that reads texts.

    `name` is KIND:MODEL without folders, `sha256` the hash of its weights, `context` the number of tokens that it reads
    (None: any), `templates` those of prompts where none are asked for.
    """

    name: str
    sha256: str
    context: int | None
    templates: tuple[str, ...]

    def is_too_long(self, text: str) -> bool:
        """Return whether the model would leave out the end of a text."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return (texts, d_w) float32; a text of which the model knows no part has zeros."""


class OpenClipTower:
    """The text tower of a model of OpenCLIP, `open_clip:ARCH:WEIGHTS`."""

    templates: tuple[str, ...] = ("a photo of a {}",)

    def __init__(self, name: str) -> None:
        from ..backbone.open_clip_models import load_open_clip, tokenizer_of

        found = load_open_clip(name)
        self.name, self.sha256 = found.name, found.sha256
        self._model: Any = found.model  # open_clip has no types
        self._tokenizer = tokenizer_of(found.arch)
        self._places = int(self._tokenizer.context_length)
        self.context: int | None = self._places

    def is_too_long(self, text: str) -> bool:
        """Return whether a text has more tokens than the context: one more place would then change what is read."""
        read, more = (self._tokenizer([text], context_length=self._places + extra)[0] for extra in (0, 1))
        return not bool((read == more[: self._places]).all())

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return `encode_text` (texts, d_w) float32."""
        import torch

        with torch.inference_mode():
            encoded: np.ndarray = self._model.encode_text(self._tokenizer(list(texts))).float().numpy()
        return encoded


class SentenceTower:
    """A model of sentence-transformers, `sentence-transformers:FOLDER`."""

    templates: tuple[str, ...] = ("{}",)

    def __init__(self, name: str) -> None:
        library = optional_package("sentence_transformers", "words", name)
        from ..backbone.network import state_hash

        folder, shown = _folder(name)
        optional_package("transformers", "words", name).utils.logging.disable_progress_bar()
        self._model = _loaded(
            name, folder, lambda: library.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        )
        self.name, self.sha256 = shown, state_hash(self._model.state_dict())
        self.context: int | None = self._model.max_seq_length

    def is_too_long(self, text: str) -> bool:
        """Return whether a text has more tokens than the model reads, its two marks included."""
        if self.context is None or not callable(self._model.tokenizer):  # a static model reads every token
            return False
        return len(self._model.tokenizer(text, truncation=False, verbose=False)["input_ids"]) > self.context

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return `encode` (texts, d_w) float32."""
        encoded: np.ndarray = self._model.encode(list(texts), show_progress_bar=False, convert_to_numpy=True)
        return encoded.astype(np.float32)


class StaticTower:
    """A model of model2vec, `model2vec:FOLDER`: the mean of static vectors of tokens. Needs no torch."""

    templates: tuple[str, ...] = ("{}",)
    context: int | None = None  # a mean has no longest text

    def __init__(self, name: str) -> None:
        library = optional_package("model2vec", "words", name)
        folder, shown = _folder(name)
        self._model = _loaded(
            name,
            folder,
            lambda: library.StaticModel.from_pretrained(str(folder), max_length=None, force_download=False),
        )
        self.name, self.sha256 = shown, self._hash()

    def _hash(self) -> str:
        digest = hashlib.sha256(str(self._model.tokens).encode())
        for part in (self._model.embedding, self._model.weights, self._model.token_mapping):
            digest.update(b"none" if part is None else np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()

    def is_too_long(self, text: str) -> bool:  # noqa: ARG002 - as of the other towers
        """Return False: every token counts."""
        return False

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return `encode` (texts, d_w) float32."""
        encoded: np.ndarray = self._model.encode(list(texts))
        return encoded.astype(np.float32)


TOWERS: dict[str, Callable[[str], TextTower]] = {
    "open_clip": OpenClipTower,
    "sentence-transformers": SentenceTower,
    "model2vec": StaticTower,
}
FORMS = "open_clip:ARCH:FILE, sentence-transformers:FOLDER or model2vec:FOLDER"


def load_tower(name: str) -> TextTower:
    """Load a text tower by KIND:MODEL from this machine; nothing is downloaded.

    Raises C3Error for another kind, a package that is not installed, and files that are missing or do not fit.
    """
    kind, colon, model = name.partition(":")
    if kind not in TOWERS or not (colon and model):
        raise C3Error(f"--tower {clipped(repr(name))}: expected {FORMS}")
    return TOWERS[kind](name)


def _folder(name: str) -> tuple[Path, str]:
    """Return the folder of a model, or of its copy in the cache of Hugging Face, and KIND:MODEL without folders."""
    kind, _, model = name.partition(":")
    folder = on_disk(Path(model))
    if folder.is_dir():
        return folder, f"{kind}:{folder.resolve().name}"
    hub = optional_package("huggingface_hub", "words", name)
    try:
        return Path(hub.snapshot_download(model, local_files_only=True)), f"{kind}:{model}"
    except (OSError, ValueError) as error:  # ValueError: a text that is no name of a repository
        raise C3Error(
            f"--tower {name}: {model!r} is neither a folder nor in the cache of Hugging Face, and c3 downloads none; "
            f"expected {FORMS}"
        ) from error


def _loaded(name: str, folder: Path, load: Callable[[], Any]) -> Any:
    try:
        with from_disk_only():
            return load()
    except Exception as error:  # the libraries raise many classes for files that are missing or damaged
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise C3Error(f"--tower {name}: {folder} holds no model of {name.partition(':')[0]} ({reason})") from error
