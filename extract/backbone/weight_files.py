"""Read the tensors of a weights file, of any tool that torch.save or safetensors stands behind; never run its code.

torch reads with `weights_only`, which makes nothing but tensors, plain containers and the harmless types listed here.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from argparse import Namespace
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import SimpleNamespace

import numpy as np
import torch
from safetensors.torch import load_file

from ...common.errors import C3Error
from ...common.file_kinds import foreign_kind, head_of
from ...common.safe_pickle import ALLOWED, PickleRefused, load_pickle

PICKLE = b"\x80"
ZIP = b"PK\x03\x04"
LONGEST_HEADER = 100 << 20  # bytes of the header of a safetensors file, as its format says
MAGIC_OF_TORCH = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # opens what torch.save wrote before its zip format
NETWORK = re.compile(r"torch(vision)?\.(nn|models)\.|\.models?\.|timm\.")


def _empty_dict(*_: object) -> dict[object, object]:
    return {}


def _empty_list(*_: object) -> list[object]:
    return []


# Types that trainers put beside the tensors: values of arguments, times, paths, counters. All they do is hold values.
HARMLESS: list[Callable[..., object] | tuple[Callable[..., object], str]] = [
    Namespace,
    SimpleNamespace,
    date,
    datetime,
    time,
    timedelta,
    timezone,
    *((PurePosixPath, f"{room}.{name}") for room in ("pathlib", "pathlib._local")
      for name in ("PosixPath", "PurePosixPath", "Path", "PurePath")),
    *((PureWindowsPath, f"{room}.{name}") for room in ("pathlib", "pathlib._local")
      for name in ("WindowsPath", "PureWindowsPath")),
    (_empty_dict, "collections.defaultdict"),
    (_empty_list, "collections.deque"),
    *((kind, f"builtins.{kind.__name__}") for kind in (dict, list, int, float, str, frozenset, slice)),
    *((dict, f"{room}.AttributeDict") for room in ("pytorch_lightning.utilities.parsing",
      "lightning.pytorch.utilities.parsing", "lightning_fabric.utilities.data", "lightning.fabric.utilities.data")),
    (str, "torch.torch_version.TorchVersion"),
    *((found, f"{module}.{name}") for (module, name), found in ALLOWED.items() if module.startswith("numpy")),
    *(kind for kind in vars(np.dtypes).values() if isinstance(kind, type) and kind is not np.dtypes.ObjectDType),
]  # fmt: skip


def read_weights(path: Path) -> object:
    """Return what a weights file holds: tensors and arrays by name, or plain containers around them.

    Raises C3Error with the reason, and the command that converts the file where there is one.
    """
    if path.is_dir():
        raise C3Error(f"{path} is a folder: expected a file of weights (.pth, .pt, .bin, .safetensors)")
    try:
        head, size = head_of(path), path.stat().st_size
        known = foreign_kind(head) is not None or head.startswith(PICKLE)
        if _is_safetensors(head, size) or (path.suffix == ".safetensors" and not known):
            return load_file(path)
        if head.startswith(ZIP):
            _require_torch_archive(path)
        elif said := foreign_kind(head):
            raise C3Error(f"{path} is no file of weights: it is {said}")
        elif path.suffix == ".onnx" or (head[:1] == b"\x08" and b"pytorch" in head[:64]):
            raise C3Error(f"{path} is an ONNX graph: save the network that it was exported from with "
                          "torch.save(network.state_dict(), FILE)")  # fmt: skip
        elif head.startswith(PICKLE) and MAGIC_OF_TORCH not in head[:64]:
            return _plain(path)
        return _load(path)
    except C3Error:
        raise
    except Exception as error:  # a damaged file raises many types
        raise _refused(path, error) from error


def _plain(path: Path) -> object:
    """Read a pickle of arrays, written without torch; tensors in it are refused with the command that converts it."""
    try:
        content: object = load_pickle(path)
    except PickleRefused as error:
        if not error.asks_for.startswith("torch."):
            raise
        load = f"import pickle, torch; torch.save(pickle.load(open({str(path)!r}, 'rb')), {_converted(path)!r})"
        raise C3Error(f'{error}. Where you trust the file, convert it: python -c "{load}"') from error
    return content


def _load(path: Path) -> object:
    # an open file, because torch goes by the suffix of a path
    with path.open("rb") as file, torch.serialization.safe_globals(HARMLESS), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about old formats, which are read all the same
        content: object = torch.load(file, map_location="cpu", weights_only=True)
    return content


def _is_safetensors(head: bytes, size: int) -> bool:
    """Return whether a file begins with the length of a header, and the header."""
    return head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= min(LONGEST_HEADER, size - 8)


def _require_torch_archive(path: Path) -> None:
    """Refuse a zip archive that torch.save did not write: TorchScript, an exported program, packed files."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise C3Error(f"{path} is truncated or damaged: its zip archive has no end; get it again") from error
    inside = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inside:
        raise C3Error(
            f"{path} is a TorchScript program, which is code; where you trust it, convert it: "
            f'python -c "import torch; torch.save(torch.jit.load({str(path)!r}).state_dict(), {_converted(path)!r})"'
        )
    if any(name.startswith("models/") for name in inside) and "data.pkl" not in inside:
        raise C3Error(f"{path} is an exported program (torch.export): save the network's state_dict() instead")
    if "data.pkl" not in inside:
        shown = ", ".join(names[:3])
        raise C3Error(f"{path} is a zip archive that torch.save did not write (it holds {shown}); unpack it")


def _refused(path: Path, error: Exception) -> C3Error:
    text = str(error).strip().rpartition("WeightsUnpickler error:")[2].strip()
    wanted = re.search(r"(?:GLOBAL |allowed global:? )`?([\w.<>]+)", text) or re.search(r"for (<class '[^']+'>)", text)
    if wanted:
        classes = _classes(path) or [wanted[1]]
        load = f"torch.load({str(path)!r}, weights_only=False)"
        if any(NETWORK.search(name) for name in classes):
            said = f"holds a whole pickled network ({', '.join(classes[:3])})"
            convert = f"torch.save({load}.state_dict(), {_converted(path)!r})"
        else:
            said = f"wants to load {', '.join(classes[:3])}, which is neither a tensor nor plain data"
            convert = f"c = {load}; torch.save(c.get('state_dict', c.get('model', c)), {_converted(path)!r})"
        return C3Error(
            f"{path} {said}; c3 runs no code of a file. Where you trust it, convert it: "
            f'python -c "import torch; {convert}"'
        )
    reason = f"{type(error).__name__}: {text.splitlines()[0][:160]}" if text else type(error).__name__
    return C3Error(
        f"{path} cannot be read as weights, it is truncated, damaged or of another format ({reason}); expected a "
        "state_dict of torch.save or safetensors"
    )


def _classes(path: Path) -> list[str]:
    """Return the names of all classes that a file wants beyond the harmless ones; its pickle is scanned, not run."""
    try:
        with torch.serialization.safe_globals(HARMLESS):
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # old formats cannot be scanned
        return []


def _converted(path: Path) -> str:
    return str(path.with_name(f"{path.name.split('.')[0]}-state.pth"))
