"""Packages that only some commands need: import them when they are named, without network and without their logs."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from .errors import C3Error


def optional_package(module: str, extra: str, needed_by: str) -> ModuleType:
    """Import a package of an extra of c3. Raises C3Error with the pip command where it is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        package = module.replace("_", "-")
        raise C3Error(f"{needed_by} needs the package {package}: pip install 'c3-mlzsl[{extra}]'") from error


@contextmanager
def from_disk_only() -> Iterator[None]:
    """Let libraries of Hugging Face read files and their cache, but not the network, and log errors alone.

    The variable HF_HUB_OFFLINE decides where it is set: `HF_HUB_OFFLINE=0` allows the network.
    """
    optional_package("huggingface_hub", "words", "a model of Hugging Face")
    constants: Any = importlib.import_module("huggingface_hub.constants")  # the lazy package does not load it by itself
    before, disabled = constants.HF_HUB_OFFLINE, logging.root.manager.disable
    logging.disable(max(disabled, logging.WARNING))
    if "HF_HUB_OFFLINE" not in os.environ:
        constants.HF_HUB_OFFLINE = True  # what the libraries ask at every request
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
        logging.disable(disabled)
