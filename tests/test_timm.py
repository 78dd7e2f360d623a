"""Networks of timm as backbones: their taps are those of the plain forward pass, and weights say what they are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from c3.common.errors import C3Error
from c3.extract.backbone import timm_networks
from c3.extract.backbone.listing import listing
from c3.extract.backbone.names import BACKBONES
from c3.extract.backbone.weights import backbone_spec, load_backbone
from safetensors.torch import save_file
from torch import Tensor, nn

# a network of each kind: CNN, CNN whose vector is made behind the last map, channels last, plain ViT, patches of 14
NETWORKS = {
    "resnet18": (64, ["layer2", "layer3", "layer4"]),
    "mobilenetv4_conv_small": (64, ["blocks.1", "blocks.2", "blocks.4"]),
    "swin_tiny_patch4_window7_224": (224, ["layers.1", "layers.2", "layers.3"]),
    "vit_tiny_patch16_224": (64, ["blocks.3", "blocks.7", "blocks.11"]),
    "vit_small_patch14_dinov2": (56, ["blocks.3", "blocks.7", "blocks.11"]),
}


def pixels(side: int) -> Tensor:
    return torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def plain(name: str, side: int) -> nn.Module:
    """The complete network by timm itself, with the weights of seed 0."""
    sized = {"img_size": side} if name.startswith(("vit", "swin")) else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: nn.Module = timm.create_model(name, num_classes=0, **sized).eval()
    return network


def caught(network: Any, nodes: list[str], inputs: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """What leaves the modules `nodes` in the plain forward pass, channels first, and the vector at its end."""
    found: dict[str, Tensor] = {}

    def keep(node: str) -> None:
        network.get_submodule(node).register_forward_hook(lambda _module, _inputs, out: found.update({node: out}))

    for node in nodes:
        keep(node)
    with torch.inference_mode():
        vector = network(inputs)
        if nodes[0].startswith("blocks") and not isinstance(network.get_submodule(nodes[0]), nn.Sequential):
            side = inputs.shape[-1] // network.patch_embed.patch_size[0]
            tokens = {node: network.norm(out)[:, network.num_prefix_tokens :] for node, out in found.items()}
            return {node: out.mT.unflatten(2, (side, side)) for node, out in tokens.items()}, vector
    last = nodes[0].startswith("layers.")
    return {node: out.permute(0, 3, 1, 2) if last else out for node, out in found.items()}, vector


@pytest.mark.parametrize("name", NETWORKS)
def test_taps_and_vector_equal_the_plain_forward_pass(name: str) -> None:
    side, nodes = NETWORKS[name]
    backbone = load_backbone(f"timm:{name}", "random:0", extras=("global",), input_size=side)
    assert [tap.node for tap in backbone.spec.taps] == nodes
    inputs = (pixels(side).float() / 255 - backbone.mean) / backbone.std
    expected, vector = caught(plain(name, side), nodes, inputs)
    with torch.inference_mode():
        taps = backbone.taps(pixels(side))
    for tap, found in zip(backbone.spec.taps, taps, strict=True):
        assert found.shape[:2] == (2, tap.channels)
        torch.testing.assert_close(found, expected[tap.node], rtol=1e-3, atol=1e-4)
    arrays = backbone(pixels(side))
    torch.testing.assert_close(arrays["global"], vector, rtol=1e-3, atol=1e-4)
    assert [(array.name, (2, *array.cell)) for array in backbone.arrays] == [(k, v.shape) for k, v in arrays.items()]


def test_levels_are_named_by_stride_or_by_block() -> None:
    def levels(name: str, size: int | None = None) -> list[tuple[str, int]]:
        return [(tap.level, tap.channels) for tap in backbone_spec(f"timm:{name}", size).taps]

    assert levels("tf_efficientnet_lite2") == [("p8", 48), ("p16", 120), ("p32", 352)]
    assert levels("vit_tiny_patch16_224") == [("b4", 192), ("b8", 192), ("b12", 192)]
    spec = backbone_spec("timm:tf_efficientnet_lite2")
    assert spec.name == "timm:tf_efficientnet_lite2.in1k"
    assert spec.transform.record() == {
        "size": [260, 260], "interpolation": "bicubic, antialiased", "mean": [0.5] * 3, "std": [0.5] * 3,
    }  # fmt: skip
    assert spec.regions is None
    at_224 = backbone_spec("timm:tf_efficientnet_lite2", 224)
    assert at_224.regions is not None
    assert at_224.regions.channels == 120
    assert levels("tf_efficientnet_lite2", 224) == levels("tf_efficientnet_lite2")


def test_layers_behind_the_last_map_are_dropped_and_files_without_them_are_enough(tmp_path: Path) -> None:
    short = load_backbone("timm:mobilenetv4_conv_small", "random:0", input_size=64)
    whole = load_backbone("timm:mobilenetv4_conv_small", "random:0", extras=("global",), input_size=64)
    assert not any("conv_head" in name for name in short.weights())
    assert any("conv_head" in name for name in whole.weights())
    save_file(
        {f"module.{name}": value.contiguous() for name, value in short.weights().items()},
        tmp_path / "tuned.safetensors",
    )
    again = load_backbone("timm:mobilenetv4_conv_small", str(tmp_path / "tuned.safetensors"), input_size=64)
    assert again.weights_sha256 == short.weights_sha256
    with pytest.raises(C3Error, match=r"tuned\.safetensors does not fit timm:mobilenetv4_conv_small\S*: .*conv_head"):
        load_backbone("timm:mobilenetv4_conv_small", str(tmp_path / "tuned.safetensors"), extras=("global",))


def test_a_file_of_another_input_size_is_converted_by_timm(tmp_path: Path) -> None:
    save_file(plain("vit_tiny_patch16_224", 224).state_dict(), tmp_path / "vit.safetensors")
    backbone = load_backbone("timm:vit_tiny_patch16_224", str(tmp_path / "vit.safetensors"), input_size=64)
    assert backbone.weights()["pos_embed"].shape == (1, 1 + 16, 192)
    assert backbone.weights_id == "vit.safetensors"
    assert backbone.licence == "apache-2.0, if vit.safetensors is vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    assert load_backbone("timm:vit_tiny_patch16_224", "random:0", input_size=64).licence is None


def test_what_cannot_be_used_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(plain("resnet18", 64).state_dict() | {"layer1.0.conv1.weight": torch.zeros(1)}, tmp_path / "w.pth")
    cases: dict[tuple[str, str, int | None], str] = {
        ("resnet17", "random:0", None): r"unknown backbone 'timm:resnet17'\. Did you mean timm:resnet18, ",
        ("resnet18.a9", "random:0", None): "timm has no weights 'a9' of timm:resnet18; it has .*a1_in1k",
        ("levit_128", "random:0", None): "timm:levit_128.* has no three usable maps: .* it has strides 16, 32, 64$",
        ("vit_tiny_patch16_224", "random:0", 150): "vit_tiny_.* needs a multiple of 16 pixels, .* --input-size 144$",
        ("samvit_base_patch16", "random:0", None): r"blocks\.3 has 768 channels, .*; choose another of c3 backbones$",
        (
            "swin_tiny_patch4_window7_224",
            "random:0",
            3,
        ): r"timm:swin_\S* cannot take pictures of 3 x 3 pixels .* give another --input-size",
        ("resnet18", str(tmp_path / "w.pth"), None): r"119 of 120 tensors fit; .*layer1\.0\.conv1\.weight is \(1,\)",
        ("vit_tiny_patch16_224", str(tmp_path / "w.pth"), None): r"w\.pth is not of timm:vit_tiny\S*: 0 of 150 tensors",
        ("resnet18", "random:x", None): "expected random:SEED",
    }
    monkeypatch.setattr(timm_networks, "fitting_backbone", lambda _content: "")  # building them takes seconds
    for (name, weights, size), said in cases.items():
        with pytest.raises(C3Error, match=said) as raised:
            load_backbone(f"timm:{name}", weights, input_size=size)
        assert "\n" not in str(raised.value)
    with pytest.raises(C3Error, match="unknown kind of backbone 'tim' in 'tim:resnet18'"):
        load_backbone("tim:resnet18", "random:0")
    monkeypatch.setitem(sys.modules, "timm", None)
    timm_networks.plan_of.cache_clear()
    with pytest.raises(C3Error, match=r"timm:NAME needs the package timm: pip install 'c3-mlzsl\[timm\]'"):
        load_backbone("timm:resnet18", "random:0")


def test_weights_that_are_not_on_this_machine_are_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(C3Error, match=r"weights resnet18\.a1_in1k of timm are not on this machine .*downloads none"):
        load_backbone("timm:resnet18", "imagenet")


def test_backbones_are_listed_with_levels_and_licences() -> None:
    def lines(wanted: str = "") -> list[str]:
        return listing(wanted).splitlines()

    assert len(lines()) == len(BACKBONES) + 2  # and how those of timm and OpenCLIP are named
    assert "open_clip:ViT-B-32" in lines("open_clip")
    assert lines("open_clip:RN50x4") == ["open_clip:RN50x4", "open_clip:RN50x4-quickgelu"]
    assert [line.split()[0] for line in lines("timm:resnet18.a2_in1k")] == ["timm:resnet18.a2_in1k"]
    with pytest.raises(C3Error, match=r"timm has no weights 'a9' of timm:resnet18; it has .*a1_in1k"):
        listing("resnet18.a9")
    with pytest.raises(C3Error, match="no architecture of open_clip has 'open_clip:RN51' in its name"):
        listing("open_clip:RN51")
    assert lines("tf_efficientnet_lite2") == [
        "timm:tf_efficientnet_lite2.in1k  p8(48) p16(120) p32(352)  260 px, licence apache-2.0"
    ]
    assert lines("levit_384_s8")[0].startswith("timm:levit_384_s8 ")  # without weights it has no tag
    assert all("cannot be used, has no three usable maps" in line for line in lines("levit_conv_128s"))
    assert "timm:resnet50d" in lines("timm:resnet")
    with pytest.raises(C3Error, match="no backbone of torchvision or timm has 'xyz' in its name"):
        listing("xyz")
