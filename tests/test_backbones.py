"""Taps are declared and proved for every backbone; weights are named by what they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from c3.common.errors import C3Error
from c3.extract.backbone import torchvision_networks
from c3.extract.backbone.kind import Loaded
from c3.extract.backbone.names import BACKBONES
from c3.extract.backbone.network import Backbone, state_hash
from c3.extract.backbone.pooling import pool_levels
from c3.extract.backbone.specs import SPECS, BackboneSpec
from c3.extract.backbone.torchvision_networks import cut
from c3.extract.backbone.weights import load_backbone
from torch import Tensor, nn
from torch._inductor.exc import InductorError
from torchvision import models

PIXELS = torch.randint(0, 256, (1, 3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

KNOWN_HASH = "35497d484162dff25a2df95af5b2e9bc47c59d20adaf729dc1f45444cc01375b"  # of `known_values` in squeezenet1_1


def known_values(tensor: Tensor) -> Tensor:
    """Values of the shape of `tensor` that no generator of random numbers decides."""
    return (torch.arange(tensor.numel()) % 7 - 3).reshape(tensor.shape) / (4 * tensor[0].numel())


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


def plain_extras(network: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    """`regions` and `global` of a complete network by its own forward pass, caught where the next layer takes them."""
    takes = {"global": network.fc if hasattr(network, "fc") else network.classifier}
    if isinstance(network, models.VGG):
        takes = {"regions": network.features[-1], "global": network.classifier[-1]}  # pool5 and the last layer
    elif isinstance(network, models.ResNet):
        takes["regions"] = network.layer4
    found: dict[str, Tensor] = {}

    def catch(name: str) -> None:
        takes[name].register_forward_pre_hook(lambda _, arguments: found.update({name: arguments[0].clone()}))

    for name in takes:
        catch(name)
    with torch.inference_mode():
        network(inputs)
    if found["global"].ndim == 4:
        found["global"] = found["global"].mean(dim=(2, 3))
    return found


@pytest.mark.parametrize("name", SPECS)
def test_the_optional_arrays_equal_the_plain_forward_pass(name: str) -> None:
    torch.manual_seed(3)
    network = models.get_model(name, weights=None).eval()
    spec = SPECS[name]
    asked = ("regions", "global") if spec.regions else ("global",)
    backbone = Backbone(spec, Loaded(cut(network, (*spec.taps, *spec.extras(asked).values())), "seed 3"), extras=asked)
    found = backbone(PIXELS)
    expected = plain_extras(network, (PIXELS.float() / 255 - backbone.mean) / backbone.std)
    assert [array.name for array in backbone.arrays] == [*(tap.level for tap in spec.taps), *asked] == list(found)
    assert expected.keys() == set(asked)
    for array in backbone.arrays:
        assert found[array.name].shape == (1, *array.cell)
        if array.name in asked:
            size = expected[array.name].std()
            torch.testing.assert_close(found[array.name] / size, expected[array.name] / size, rtol=1e-3, atol=1e-3)
    if spec.regions:  # the level of the same depth is its maximum over 2 x 2
        assert found["regions"].shape[2:] == (14, 14)
        level = "p32" if isinstance(network, models.VGG) else "p16"
        torch.testing.assert_close(nn.functional.max_pool2d(found["regions"], 2), found[level], rtol=0, atol=0)


def test_only_the_layers_of_the_arrays_that_were_asked_for_are_hashed() -> None:
    plain = load_backbone("resnet18", "random:0")
    both = load_backbone("resnet18", "random:0", extras=("global", "regions"))
    assert list(both.extras) == ["regions", "global"]
    assert both.weights_sha256 == plain.weights_sha256
    # hashed by the version before the optional arrays
    state = models.squeezenet1_1(weights=None).state_dict()
    body = load_backbone("squeezenet1_1", "random:0").body
    body.load_state_dict({name: known_values(state[name]) for name in body.state_dict()})
    assert state_hash(body.state_dict()) == KNOWN_HASH


def test_arrays_that_a_backbone_cannot_give_are_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(C3Error, match=r"^--regions needs a map of 14 x 14 cells, and squeezenet1_1 has none"):
        load_backbone("squeezenet1_1", "nothing.pth", extras=("regions",))
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in models.vgg19(weights=None).state_dict().items()}
    whole = {name: torch.full((), 0.5).expand(shape) for name, shape in shapes.items()}  # a value a tensor on the disk
    torch.save(whole, tmp_path / "whole.pth")
    torch.save({name: whole[name] for name in whole if "features" in name}, tmp_path / "features.pth")

    def build(spec: BackboneSpec) -> nn.Module:
        with torch.device("meta"):
            network = models.get_model(spec.name, weights=None)
        return network.to_empty(device="cpu")

    monkeypatch.setattr(torchvision_networks, "_build", build)
    with pytest.raises(C3Error, match=r"^--global needs vgg19 up to classifier\.4, and .*features\.pth has no "
                       r"classifier\.0\.weight, classifier\.0\.bias, classifier\.3\.weight, classifier\.3\.bias; "
                       "use --weights with all layers, or leave out --global$"):  # fmt: skip
        load_backbone("vgg19", str(tmp_path / "features.pth"), extras=("global",))
    network = torchvision_networks._from_file(SPECS["vgg19"], str(tmp_path / "whole.pth"), ("regions", "global"))
    assert (network.classifier[3].weight[::512] == 0.5).all()


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


def test_a_compiled_network_sees_batches_of_one_size_only(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = torch.randint(0, 256, (5, 3, 224, 224), dtype=torch.uint8)
    backbone = load_backbone("squeezenet1_1", "random:0")
    whole, asked, seen = backbone(pixels), [], []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: asked.append(options))
    backbone.compile_for(4)
    backbone.body.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    first, rest = backbone(pixels[:4]), backbone(pixels[4:])
    assert asked == [{"dynamic": False, "options": {"freezing": True}}]
    assert seen == [4, 4]
    for name, values in whole.items():
        torch.testing.assert_close(torch.cat([first[name], rest[name]]), values)

    def fail(module: nn.Module, inputs: object) -> None:
        raise InductorError(RuntimeError("no working compiler"), None)

    backbone.body.register_forward_pre_hook(fail)
    with pytest.raises(C3Error, match=r"cannot compile squeezenet1_1 here .*no working compiler.*without --compile"):
        backbone(pixels[:2])


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
        str(tmp_path / "text.pth"): "cannot be read as weights",
        str(tmp_path / "module.pth"): "holds a whole pickled network",
        str(tmp_path / "other.pth"): "0 of 50 tensors fit",
        str(
            tmp_path / "shape.pth"
        ): r"49 of 50 tensors fit.*features\.0\.weight is \(1, 1, 1, 1\), expected \(64, 3, 3, 3\)",
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


def test_the_command_line_offers_every_backbone() -> None:
    assert tuple(SPECS) == BACKBONES
