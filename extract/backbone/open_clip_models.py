"""Models of OpenCLIP: an image and a text tower that share one space, by ARCH:WEIGHTS, from this machine alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...common.errors import C3Error, unknown_name
from ...common.optional_packages import from_disk_only, optional_package
from ...common.unicode_forms import on_disk
from .network import state_hash
from .weight_files import read_weights

PREFIX = "open_clip:"
EXPECTED = "expected open_clip:ARCH:FILE, open_clip:ARCH:TAG or open_clip:ARCH:random:SEED"


@dataclass(frozen=True)
class OpenClip:
    """A model in eval mode, the name of its architecture, its name without folders, and the sha256 of all weights.

    The hash is over both towers: features and class vectors of one hash lie in one space.
    """

    model: nn.Module
    arch: str
    name: str
    sha256: str


def load_open_clip(name: str) -> OpenClip:
    """Build `open_clip:ARCH:WEIGHTS` on the CPU.

    ARCH is an architecture of open_clip, or the json file of another one. WEIGHTS are a file of torch.save or
    safetensors, `random:SEED`, or a tag of open_clip whose files are in the cache of Hugging Face; nothing is
    downloaded. Reading a file runs no code. Raises C3Error in one line for everything that does not fit.
    """
    open_clip = optional_package("open_clip", "clip", name)
    asked, _, weights = name.removeprefix(PREFIX).partition(":")
    arch = architecture(open_clip, asked)
    if not weights:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(arch)) or "none"
        raise C3Error(f"{name} names no weights: {EXPECTED}. Tags of {arch}: {tags}")
    if weights.startswith("random:"):
        shown, model = weights, _random(open_clip, arch, weights)
    elif (file := on_disk(Path(weights))).is_file():
        shown, model = file.name, _from_file(open_clip, arch, file)
    else:
        shown, model = weights, _from_file(open_clip, arch, _cached(open_clip, arch, weights), weights)
    model.eval().requires_grad_(False)
    return OpenClip(model, arch, f"{PREFIX}{arch}:{shown}", state_hash(model.state_dict()))


def tokenizer_of(arch: str) -> Any:
    """Return the tokenizer of an architecture. Raises C3Error where its files are not on this machine."""
    open_clip = optional_package("open_clip", "clip", f"{PREFIX}{arch}")
    try:
        with from_disk_only():
            return open_clip.get_tokenizer(arch)
    except (OSError, ValueError, ImportError) as error:
        raise C3Error(f"the tokenizer of {arch} is not on this machine ({_first_line(error)})") from error


def architecture(open_clip: Any, asked: str) -> str:
    """Return the name of an architecture that open_clip knows; a json file is added to them."""
    if not asked.endswith(".json"):
        arch = asked.replace("/", "-")
        if open_clip.get_model_config(arch) is None:
            raise unknown_name("architecture of open_clip", asked, open_clip.list_models())
        return arch
    file = on_disk(Path(asked))
    try:
        open_clip.add_model_config(file)
    except (OSError, ValueError) as error:
        raise C3Error(f"{file} cannot be read as an architecture of open_clip: {_first_line(error)}") from error
    if open_clip.get_model_config(file.stem) is None:
        raise C3Error(f"{file} is no architecture of open_clip: expected json with embed_dim, vision_cfg and text_cfg")
    return file.stem


def _random(open_clip: Any, arch: str, weights: str) -> nn.Module:
    seed = weights.removeprefix("random:")
    if not seed.isdigit():
        raise C3Error(f"{weights!r}: expected random:SEED with a whole number, for example random:0")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seed))
        return _created(open_clip, arch, None)


def _from_file(open_clip: Any, arch: str, file: Path, tag: str | None = None) -> nn.Module:
    """Build a model with the weights of a file; `tag` says how they were trained, where open_clip knows it."""
    read_weights(file)  # refuses what is no file of weights, and what would run code
    try:
        return _created(open_clip, arch, str(file), tag)
    except (RuntimeError, ValueError, KeyError, AttributeError, TypeError) as error:  # what open_clip raises
        raise C3Error(
            f"{file} holds no weights of both towers of {arch} ({_first_line(error)}); name the architecture that it "
            "was trained as"
        ) from error


def _created(open_clip: Any, arch: str, pretrained: str | None, tag: str | None = None) -> nn.Module:
    trained = open_clip.get_pretrained_cfg(arch, tag) if tag else None  # mean, std, resizing
    with from_disk_only():
        model: nn.Module = open_clip.create_model(arch, pretrained, pretrained_text=False, force_preprocess_cfg=trained)
    return model


def _cached(open_clip: Any, arch: str, tag: str) -> Path:
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if tag not in tags:
        raise C3Error(
            f"{PREFIX}{arch}:{tag}: {tag!r} is neither a file nor a tag of {arch}; {EXPECTED}. Tags: "
            f"{', '.join(tags) or 'none'}"
        )
    trained = open_clip.get_pretrained_cfg(arch, tag)
    if trained.get("quick_gelu", False) != open_clip.get_model_config(arch).get("quick_gelu", False):
        other = arch.removesuffix("-quickgelu") if arch.endswith("-quickgelu") else f"{arch}-quickgelu"
        raise C3Error(f"{PREFIX}{arch}:{tag}: its weights were trained with another GELU; name {other}")
    try:
        with from_disk_only():
            return Path(open_clip.download_pretrained(trained))
    except (OSError, RuntimeError) as error:
        get = f"import open_clip; open_clip.create_model('{arch}', '{tag}')"
        raise C3Error(
            f"{PREFIX}{arch}:{tag}: its weights are not on this machine, and c3 downloads none; get them once with: "
            f'python -c "{get}"'
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]
