"""Weights of every tool are found in their file and give the same hash; what is none is refused for its reason."""

from __future__ import annotations

import argparse
import collections
import datetime
import enum
import gzip
import io
import logging
import pickle
import types
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from c3.common.errors import C3Error
from c3.extract.backbone import torchvision_networks
from c3.extract.backbone.weight_files import read_weights
from c3.extract.backbone.weight_search import search
from c3.extract.backbone.weights import load_backbone
from safetensors.torch import save_file
from torch import Tensor, nn

gzipped = partial(gzip.compress, mtime=0)  # the same bytes in every process: xdist compares the names of tests

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    """The parameters of squeezenet1_1, which no generator of random numbers decides."""
    own = load_backbone("squeezenet1_1", "random:0").body.state_dict()
    return {name: (torch.arange(value.numel()) % 7 - 3).reshape(value.shape) / 100 for name, value in own.items()}


@pytest.fixture(scope="module")
def expected(state: State, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("plain") / "w.pth"
    torch.save(state, path)
    return load_backbone("squeezenet1_1", str(path)).weights_sha256


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: value for name, value in state.items()}


def inside(state: State, part: str) -> State:
    """Put a part behind the first one of every name, as torch.compile of a submodule does."""
    return {name.replace(".", f".{part}.", 1): value for name, value in state.items()}


def zeros(state: State) -> State:
    return {name: torch.zeros_like(value) for name, value in state.items()}


@pytest.mark.parametrize(
    ("wrap", "key", "prefix"),
    [
        (lambda s: s, "", ""),
        (lambda s: prefixed(s, "module."), "", "module."),
        (lambda s: prefixed(s, "_orig_mod."), "", "_orig_mod."),
        (lambda s: prefixed(s, "module._orig_mod."), "", "module._orig_mod."),
        (lambda s: prefixed(s, "model."), "", "model."),
        (lambda s: prefixed(s, "backbone."), "", "backbone."),
        (lambda s: prefixed(s, "model.backbone.encoder."), "", "model.backbone.encoder."),
        (lambda s: prefixed(s, "my own.net-1."), "", "my own.net-1."),
        (lambda s: inside(s, "_orig_mod"), "", "_orig_mod."),
        (lambda s: inside(s, "_checkpoint_wrapped_module"), "", "_checkpoint_wrapped_module."),
        (lambda s: {"state_dict": s, "epoch": 3}, "state_dict", ""),
        (lambda s: {"epoch": 3, "state_dict": prefixed(s, "module.")}, "state_dict", "module."),
        (lambda s: {"model": s}, "model", ""),
        (lambda s: {"model_state_dict": s}, "model_state_dict", ""),
        (lambda s: {"ema": s}, "ema", ""),
        (lambda s: {"net": s, "acc": 93.1}, "net", ""),
        (lambda s: {"params": s}, "params", ""),
        (lambda s: {"a": {"b": {"c": s}}}, "a.b.c", ""),
        (lambda s: {"model": s, "ema": zeros(s)}, "model", ""),
        (lambda s: {"state_dict_ema": zeros(s), "state_dict": s}, "state_dict", ""),
        (lambda s: {"teacher": prefixed(zeros(s), "backbone."), "student": prefixed(s, "backbone.")},
         "student", "backbone."),
        (lambda s: {"model": prefixed(zeros(s), "encoder_k.") | prefixed(s, "encoder_q.")}, "model", "encoder_q."),
        (lambda s: (3, s), "1", ""),
        (lambda s: collections.OrderedDict(s), "", ""),
        (lambda s: {name: nn.Parameter(value) for name, value in s.items()}, "", ""),
        (lambda s: {name: value.numpy() for name, value in s.items()}, "", ""),
        (lambda s: {name: value.numpy().astype(">f8") for name, value in s.items()}, "", ""),
        (lambda s: {name: value.double() for name, value in s.items()}, "", ""),
        (lambda s: {name: value.to_sparse() for name, value in s.items()}, "", ""),
        (lambda s: {name: value.to(memory_format=torch.channels_last) if value.ndim == 4 else value
                    for name, value in s.items()}, "", ""),
        (lambda s: s | {"classifier.1.weight": torch.zeros(7)}, "", ""),  # a head of one's own
        (lambda s: s | {"step": 7, "n_averaged": torch.tensor(3)}, "", ""),
        (lambda s: {"model": s, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}},
         "model", ""),
        (lambda s: {"model": s, "args": argparse.Namespace(lr=0.1, name="x")}, "model", ""),
        (lambda s: {"model": s, "args": types.SimpleNamespace(lr=0.1)}, "model", ""),
        (lambda s: {"model": s, "best": np.float64(0.5), "step": np.int64(3), "done": np.bool_(True)}, "model", ""),
        (lambda s: {"model": s, "curve": np.arange(5.0), "name": np.str_("x")}, "model", ""),
        (lambda s: {"model": s, "at": datetime.datetime(2024, 1, 1), "to": Path("x/y")}, "model", ""),
        (lambda s: {"model": s, "seen": {1, 2}, "z": 1j, "types": [torch.float16, torch.device("cuda:0")]},
         "model", ""),
        (lambda s: {"model": s, "a": collections.defaultdict(list, b=[1]), "c": collections.deque([1])}, "model", ""),
        (lambda s: {"state_dict": prefixed(s, "net."), "hyper_parameters": {"a": argparse.Namespace(b=1)},
                    "pytorch-lightning_version": "2.1", "loops": {}, "callbacks": {"C{}": {"best": torch.tensor(1.0)}}},
         "state_dict", "net."),
    ],
)  # fmt: skip
def test_weights_are_found_where_tools_put_them(
    tmp_path: Path, state: State, wrap: Callable[[State], Any], key: str, prefix: str
) -> None:
    torch.save(wrap(state), tmp_path / "w.pth")
    found = search(read_weights(tmp_path / "w.pth"), state)[0]
    assert (found.key, found.prefix) == (key, prefix)
    assert all(torch.equal(found.tensors[name].float(), value) for name, value in state.items())


@pytest.mark.parametrize(
    ("wrap", "level", "said"),
    [
        (lambda s: s, 0, None),
        (lambda s: {"epoch": 3, "state_dict": prefixed(s, "module.")}, logging.INFO,
         "w.pth: the weights are under the key 'state_dict' and the prefix 'module.'"),
        (lambda s: {"model": s, "ema": zeros(s)}, logging.WARNING,
         "w.pth holds several networks that fit: the key 'model' is used, not the key 'ema'"),
        (lambda s: s | prefixed(zeros(s), "ema."), logging.WARNING, "the file itself is used, not the prefix 'ema.'"),
    ],
)  # fmt: skip
def test_the_log_says_which_weights_are_used_and_the_hash_is_theirs(
    tmp_path: Path, state: State, expected: str, caplog: pytest.LogCaptureFixture, wrap: Callable[[State], Any],
    level: int, said: str | None,
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO)
    torch.save(wrap(state), tmp_path / "w.pth")
    assert load_backbone("squeezenet1_1", str(tmp_path / "w.pth")).weights_sha256 == expected
    assert [(record.levelno, said in record.message) for record in caplog.records if said] == [(level, True)] * bool(
        said
    )


@pytest.mark.parametrize("name", ["w.pt", "w.bin", "w.tar", "w.ckpt", "w", "w.pth.tar", "w.safetensors"])
def test_the_suffix_does_not_matter(tmp_path: Path, state: State, name: str) -> None:
    path = tmp_path / name
    arrays = {key: value.numpy() for key, value in state.items()}
    writers: list[Callable[[], object]] = [
        lambda: torch.save({"model": state}, path),
        lambda: torch.save({"model": state}, path, _use_new_zipfile_serialization=False),
        lambda: save_file(prefixed(state, "model."), path),
        lambda: path.write_bytes(pickle.dumps({"model": arrays, "__author__": "x"}, protocol=2)),
        lambda: path.write_bytes(pickle.dumps({"model": arrays, "best": np.float64(1)}, protocol=5)),
    ]
    for write in writers:
        write()
        found = search(read_weights(path), state)[0]
        assert f"{found.key}{found.prefix}".rstrip(".") == "model"
        assert all(torch.equal(found.tensors[key], value) for key, value in state.items())


def test_half_precision_is_read_and_hashed_as_its_values(tmp_path: Path, state: State) -> None:
    found = []
    for kind in (torch.float16, torch.bfloat16):
        torch.save({name: value.to(kind) for name, value in state.items()}, tmp_path / "a.pth")
        torch.save({name: value.to(kind).float() for name, value in state.items()}, tmp_path / "b.pth")
        found.append({load_backbone("squeezenet1_1", str(tmp_path / f"{name}.pth")).weights_sha256 for name in "ab"})
    assert [len(hashes) for hashes in found] == [1, 1]


def test_batchnorm_without_a_counter_is_that_with_a_counter_of_0(tmp_path: Path) -> None:
    """Older torch had no counter; other tools write it as a number or with a dimension."""
    backbone = load_backbone("resnet18", "random:0")
    state = backbone.body.state_dict()
    counters = [name for name in state if name.endswith("num_batches_tracked")]
    old = {name: value for name, value in state.items() if name not in counters}
    mixed = dict(zip(counters, [0, np.int64(0), torch.tensor([0]), torch.tensor([0.0])], strict=False))
    for extra in ({}, mixed):
        torch.save(old | extra, tmp_path / "old.pth")
        assert load_backbone("resnet18", str(tmp_path / "old.pth")).weights_sha256 == backbone.weights_sha256


class Config:
    """A class that only its author has."""


class Kind(enum.Enum):
    """One more."""

    A = 1


class Evil:
    """What a hostile file looks like: reading it calls a function."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (exec, (f"import pathlib; pathlib.Path({str(self.trace)!r}).touch()",))


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_a_hostile_file_is_refused_and_nothing_runs(tmp_path: Path, state: State, legacy: bool, nested: bool) -> None:
    trace, path = tmp_path / "trace", tmp_path / "evil.pth"
    content = {"model": state, "args": Evil(trace)} if nested else Evil(trace)
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(C3Error, match=r"evil\.pth wants to load .*exec"):
        read_weights(path)
    assert not trace.exists()


def saved(content: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def scripted() -> bytes:
    """Return a TorchScript program; only its layout counts."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in ("net/data.pkl", "net/code/__torch__.py", "net/constants.pkl", "net/version"):
            file.writestr(name, "a")
    return buffer.getvalue()


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("weights/w.pth", "a")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda s: saved({"model": s, "config": Config()}), r"wants to load .*test_weight_files\.Config, which is "
         r"neither .*Where you trust it, convert it: python -c .*torch\.save\(c\.get\('state_dict'.*w-state\.pth"),
        (lambda s: saved({"model": s, "kind": Kind.A}), r"wants to load .*test_weight_files\.Kind"),
        (lambda s: saved({"m": s, "c": Config()}, _use_new_zipfile_serialization=False), r"test_weight_files\.Config"),
        (lambda s: pickle.dumps({"model": {"a": np.zeros(1)}, "c": Config()}), r"asks for .*test_weight_files\.Config"),
        (lambda s: pickle.dumps(s), r"asks for torch.* convert it: python -c \"import pickle, torch; torch\.save"),
        (lambda s: saved(nn.Linear(1, 1)),
         r"holds a whole pickled network .*Linear.*\.state_dict\(\), '.*w-state\.pth'"),
        (lambda s: saved({"net": nn.DataParallel(nn.Linear(1, 1))}), "holds a whole pickled network"),
        (lambda s: scripted(), r"is a TorchScript program.*torch\.jit\.load\("),
        (lambda s: archive(), r"zip archive that torch.save did not write \(it holds weights/w\.pth\); unpack it"),
        (lambda s: saved(s)[:-500], "is truncated or damaged"),
        (lambda s: saved(s)[: 1 << 16], "is truncated or damaged"),
        (lambda s: saved(s, _use_new_zipfile_serialization=False)[:5000], "is truncated, damaged or of another format"),
        (lambda s: b"\x08\x07\x12\x07pytorch\x1a\x051.9", "is an ONNX graph"),
        (lambda s: b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (lambda s: b"<!DOCTYPE html><html>quota exceeded", "HTML page"),
        (lambda s: b"", "an empty file"),
        (lambda s: bytes(4096), "zero bytes only"),
        (lambda s: gzipped(saved(s)), "gunzip"),
        (lambda s: b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (lambda s: b"not weights", "is truncated, damaged or of another format"),
        (lambda s: b'{"weight_map": {}}', "is truncated, damaged or of another format"),
        (lambda s: (1 << 20).to_bytes(8, "little") + b'{"a":', "is truncated, damaged or of another format"),
    ],
)  # fmt: skip
def test_what_is_no_weights_is_named(
    tmp_path: Path, state: State, content: Callable[[State], bytes], said: str
) -> None:
    (tmp_path / "w.pth").write_bytes(content(state))
    with pytest.raises(C3Error, match=rf"w\.pth .*{said}") as caught:
        read_weights(tmp_path / "w.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda s: saved({"epoch": 3, "lr": 0.1}), "0 of 50 tensors fit; it has no tensors, but the keys epoch, lr"),
        (lambda s: saved([1, 2]), "it has no tensors, but a list"),
        (lambda s: saved({"blocks.0.attn.qkv.weight": torch.zeros(2)}), "it has 1 tensors, such as blocks.0.attn.qkv"),
        (lambda s: saved({n: v for n, v in s.items() if not n.startswith("features.12.")}),
         r"44 of 50 tensors fit; the first that does not: features\.12\.squeeze\.weight is missing"),
        (lambda s: saved({"state_dict": prefixed(s, "m.") | {"m.features.0.weight": torch.zeros(64, 1, 3, 3)}}),
         r"49 of 50 tensors fit \(under the key 'state_dict' and the prefix 'm\.'\).*is \(64, 1, 3, 3\), expected"),
        (lambda s: saved({name: (100 * value).to(torch.int8) for name, value in s.items()}),
         r"0 of 50 tensors fit.*holds torch\.int8, expected a floating type"),
        (lambda s: saved({name: torch.complex(value, value) for name, value in s.items()}), "torch.complex64, expec"),
    ],
)  # fmt: skip
def test_weights_of_another_network_are_counted(
    tmp_path: Path, state: State, content: Callable[[State], bytes], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchvision_networks, "SPECS", {})  # building all of them to name another one takes seconds
    (tmp_path / "w.pth").write_bytes(content(state))
    with pytest.raises(C3Error, match=rf"w\.pth .*{said}") as caught:
        load_backbone("squeezenet1_1", str(tmp_path / "w.pth"))
    assert "\n" not in str(caught.value)


def test_the_backbone_that_a_file_does_fit_is_named(tmp_path: Path) -> None:
    torch.save({"net": load_backbone("resnet18", "random:0").body.state_dict()}, tmp_path / "w.pth")
    with pytest.raises(C3Error, match=r"does not fit resnet50: .* tensors fit .*; it fits --backbone resnet18$"):
        load_backbone("resnet50", str(tmp_path / "w.pth"))
    with pytest.raises(C3Error, match=r"is not of squeezenet1_1: 0 of 50 .*; it fits --backbone resnet18$"):
        load_backbone("squeezenet1_1", str(tmp_path / "w.pth"))


def test_a_folder_is_no_file_of_weights(tmp_path: Path) -> None:
    with pytest.raises(C3Error, match=r"is a folder: expected a file of weights"):
        read_weights(tmp_path)


@pytest.mark.parametrize("name", ["w" * 300 + ".pth", "a\0b.pth", "none.pth"])
def test_a_name_that_no_file_has_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(C3Error, match="no such file, and no such name in the catalog"):
        load_backbone("squeezenet1_1", str(tmp_path / name))
