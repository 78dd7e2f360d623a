"""Taps are declared and proved for every backbone; weights are named by what they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from c3.errors import C3Error
from c3.extract.backbones import load_backbone, state_hash
from c3.extract.pyramid import pool_levels
from c3.extract.taps import SPECS
from torch import Tensor, nn
from torchvision import models

PIXELS = torch.randint(0, 256, (1, 3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def last_map(name: str, inputs: Tensor) -> Tensor:
    """The map before the classifier of the complete torchvision network, by its own forward pass."""
    torch.manual_seed(3)
    network = models.get_model(name, weights=None).eval()
    caught: list[Tensor] = []
    before_pooling = network.classifier if name == "squeezenet1_1" else network.avgpool
    before_pooling.register_forward_pre_hook(lambda _, arguments: caught.append(arguments[0]))
    with torch.inference_mode():
        network(inputs)
    return caught[0]


@pytest.mark.parametrize("name", SPECS)
def test_declared_taps_are_the_real_ones(name: str) -> None:
    backbone = load_backbone(name, "random:3")
    with torch.inference_mode():
        taps = backbone.taps(PIXELS)
    assert len(taps) == 3
    for tap, found in zip(backbone.spec.taps, taps, strict=True):
        assert found.shape[:2] == (1, tap.channels)
        assert round(224 / found.shape[-1]) == tap.stride or name == "squeezenet1_1"
    levels = backbone(PIXELS)
    assert list(levels) == [tap.level for tap in backbone.spec.taps]
    for tap, level in zip(backbone.spec.taps, levels.values(), strict=True):
        assert level.shape == (1, tap.channels, 7, 7)
        assert level.dtype == torch.float32
        assert level.std() > 0


@pytest.mark.parametrize("name", ["vgg19", "vgg19_bn", "squeezenet1_1"])
def test_the_last_tap_equals_the_plain_forward_pass(name: str) -> None:
    backbone = load_backbone(name, "random:3")
    inputs = (PIXELS.float() / 255 - backbone.mean) / backbone.std
    with torch.inference_mode():
        torch.testing.assert_close(backbone.taps(PIXELS)[-1], last_map(name, inputs), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet101"])
def test_the_last_tap_of_resnets_equals_the_plain_forward_pass(name: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = models.get_model(name, weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "w.pth")
    backbone = load_backbone(name, str(tmp_path / "w.pth"))
    inputs = (PIXELS.float() / 255 - backbone.mean) / backbone.std
    with torch.inference_mode():
        expected, found = last_map(name, inputs), backbone.taps(PIXELS)[-1]
    torch.testing.assert_close(found / expected.std(), expected / expected.std(), rtol=1e-3, atol=1e-3)


def test_nothing_runs_behind_the_last_tap() -> None:
    names = [name for name, _ in load_backbone("vgg19", "random:0").named_parameters()]
    assert len(names) == 32
    assert not any("classifier" in name for name in names)
    assert not any("fc" in name for name, _ in load_backbone("resnet18", "random:0").named_parameters())


def test_pooling_takes_the_maximum_of_each_window() -> None:
    tap = torch.randn(2, 3, 28, 28)
    (level,) = pool_levels([tap])
    for row, column in ((0, 0), (3, 5), (6, 6)):
        window = tap[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        torch.testing.assert_close(level[:, :, row, column], window.amax(dim=(2, 3)))


def test_preprocessing_comes_from_the_weights() -> None:
    backbone = load_backbone("vgg19", "random:0")
    preset = models.VGG19_Weights.IMAGENET1K_V1.transforms()
    assert backbone.transform["mean"] == preset.mean
    assert backbone.transform["std"] == preset.std
    assert backbone.mean.flatten().tolist() == pytest.approx(preset.mean)


def test_random_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(99)
    first, again, other = (load_backbone("squeezenet1_1", f"random:{seed}").weights_sha256 for seed in (0, 0, 1))
    assert first == again != other


def test_weights_are_hashed_by_value_not_by_file(tmp_path: Path) -> None:
    state = load_backbone("squeezenet1_1", "random:0").body.state_dict()
    half = {name: tensor.half() for name, tensor in state.items()}
    assert state_hash({name: tensor.float() for name, tensor in half.items()}) == state_hash(half)
    torch.save(state, tmp_path / "a.pth")
    assert load_backbone("squeezenet1_1", str(tmp_path / "a.pth")).weights_sha256 == state_hash(state)
    name = next(iter(state))
    assert state_hash(state | {name: state[name] + 1e-3}) != state_hash(state)


def test_bad_weights_are_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.pth").write_text("not weights")
    torch.save({"x": torch.zeros(1)}, tmp_path / "other.pth")
    state = load_backbone("squeezenet1_1", "random:0").body.state_dict()
    torch.save(state | {"features.0.weight": torch.zeros(1, 1, 1, 1)}, tmp_path / "shape.pth")
    torch.save(nn.Linear(1, 1), tmp_path / "module.pth")  # needs pickle execution
    cases = {
        str(tmp_path / "none.pth"): "no such file",
        str(tmp_path / "text.pth"): "not a torchvision state_dict",
        str(tmp_path / "module.pth"): "not a torchvision state_dict",
        str(tmp_path / "other.pth"): "tensors missing",
        str(tmp_path / "shape.pth"): "features.0.weight",
        "random:x": "whole number",
    }
    for weights, said in cases.items():
        with pytest.raises(C3Error, match=said):
            load_backbone("squeezenet1_1", weights)
    with pytest.raises(C3Error, match="Did you mean 'vgg19'"):
        load_backbone("vgg18", "random:0")


def test_imagenet_without_a_network_says_which_file_to_place_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    with pytest.raises(C3Error, match=f"Place .*vgg19-.*pth at {tmp_path}/hub/checkpoints/vgg19-"):
        load_backbone("vgg19", "imagenet")
