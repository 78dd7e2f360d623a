"""The files of weights, and of checkpoints that an unfinished training continues from. Never a pickle.

A checkpoint is a safetensors file whose header holds json and a sha256 over that json and all tensors. Every file is
replaced whole: written beside, flushed to the disk, renamed. After a kill or on a full disk the old one stays.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..common.errors import C3Error
from ..common.files import write_bytes
from ..extract.store.origin import differing_settings

SCHEMA = 1


def write_checkpoint(
    path: Path, identity: Mapping[str, Any], numbers: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Replace a checkpoint; `identity` says what is trained, `numbers` are JSON. Raises C3Error on a full disk."""
    tensors = _plain(tensors)
    content = json.dumps({"schema": SCHEMA, "identity": identity, "numbers": numbers})
    write_bytes(path, save(tensors, {"content": content, "sha256": _digest(content, tensors)}), durable=True)


def write_weights(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Replace a safetensors file of weights, durably. Raises C3Error on a full disk."""
    write_bytes(path, save(_plain(tensors)), durable=True)


def read_checkpoint(path: Path, identity: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the numbers and the tensors (on the CPU) of a checkpoint of the same training.

    Raises C3Error when the file is damaged, or belongs to another method, store or settings.
    """
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        content = json.loads(header["content"])
        if header["sha256"] != _digest(header["content"], tensors):
            raise ValueError("its checksum does not match")
        schema, found = content["schema"], content["identity"]
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise C3Error(
            f"{path} is damaged ({error}) and cannot be continued; --overwrite trains the run again from the start"
        ) from error
    if schema != SCHEMA:
        raise C3Error(f"{path} has schema {schema}, this c3 reads {SCHEMA}; --overwrite trains the run again")
    if differing := differing_settings(found, identity, "checkpoint"):
        raise C3Error(f"{path} is of another training ({', '.join(differing.values())}); --overwrite trains it again")
    return content["numbers"], tensors


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors as a file can hold them: on the CPU, contiguous."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _digest(content: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(content.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
