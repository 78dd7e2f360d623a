"""Which networks there are, and where the arrays of a store leave them: nodes, channels and strides, declared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torchvision import models
from torchvision.models import WeightsEnum

from ...common.errors import C3Error, unknown_name
from ..store.layout import GLOBAL_VECTOR, REGIONS, FeatureArray

INPUT_SIZE = 224  # pixels; 7 x 7 at stride 32


@dataclass(frozen=True)
class Tap:
    """Where an array leaves the network: graph node, channels and stride there; stride 0 is a vector of the picture.

    A level is named p<stride>.
    """

    node: str
    channels: int
    stride: int

    @property
    def level(self) -> str:
        return f"p{self.stride}"

    def array(self, name: str) -> FeatureArray:
        """The unpooled array that is stored of it."""
        return FeatureArray(name, self.channels, INPUT_SIZE // self.stride if self.stride else 0)


@dataclass(frozen=True)
class BackboneSpec:
    """A torchvision network, its ImageNet weights, its three taps and those of the optional arrays.

    tests/test_backbones.py proves each tap. `regions` is None where no map is 14 x 14; a `global_vector` that is a map
    in the network is averaged over its positions.
    """

    name: str
    weights: WeightsEnum
    taps: tuple[Tap, ...]
    global_vector: Tap
    regions: Tap | None

    def extras(self, asked: Sequence[str]) -> dict[str, Tap]:
        """The taps of the optional arrays that are asked for, `regions` before `global`."""
        if REGIONS in asked and self.regions is None:
            raise C3Error(
                f"--regions needs a map of 14 x 14 cells, and {self.name} has none; leave it out, or use another "
                "--backbone such as vgg19"
            )
        known = {REGIONS: self.regions, GLOBAL_VECTOR: self.global_vector}
        return {name: tap for name, tap in known.items() if name in asked and tap}


def _taps(*taps: tuple[str, int, int]) -> tuple[Tap, ...]:
    return tuple(Tap(*tap) for tap in taps)


_BOTTLENECK_TAPS = _taps(("layer2", 512, 8), ("layer3", 1024, 16), ("layer4", 2048, 32))
_BOTTLENECK_EXTRAS = {"global_vector": Tap("layer4", 2048, 0), "regions": Tap("layer3", 1024, 16)}

SPECS = {
    spec.name: spec
    for spec in (
        # after pool3, pool4 and pool5; fc7 and conv5_4, each after its ReLU
        BackboneSpec(
            "vgg19",
            models.VGG19_Weights.IMAGENET1K_V1,
            _taps(("features.18", 256, 8), ("features.27", 512, 16), ("features.36", 512, 32)),
            global_vector=Tap("classifier.4", 4096, 0),
            regions=Tap("features.35", 512, 16),
        ),
        BackboneSpec(
            "vgg19_bn",
            models.VGG19_BN_Weights.IMAGENET1K_V1,
            _taps(("features.26", 256, 8), ("features.39", 512, 16), ("features.52", 512, 32)),
            global_vector=Tap("classifier.4", 4096, 0),
            regions=Tap("features.51", 512, 16),
        ),
        BackboneSpec("resnet50", models.ResNet50_Weights.IMAGENET1K_V1, _BOTTLENECK_TAPS, **_BOTTLENECK_EXTRAS),
        BackboneSpec("resnet101", models.ResNet101_Weights.IMAGENET1K_V1, _BOTTLENECK_TAPS, **_BOTTLENECK_EXTRAS),
        BackboneSpec(
            "resnet18",
            models.ResNet18_Weights.IMAGENET1K_V1,
            _taps(("layer2", 128, 8), ("layer3", 256, 16), ("layer4", 512, 32)),
            global_vector=Tap("layer4", 512, 0),
            regions=Tap("layer3", 256, 16),
        ),
        # three pooling stages only: the deepest grid is 13 x 13
        BackboneSpec(
            "squeezenet1_1",
            models.SqueezeNet1_1_Weights.IMAGENET1K_V1,
            _taps(("features.4", 128, 4), ("features.7", 256, 8), ("features.12", 512, 16)),
            global_vector=Tap("features.12", 512, 0),
            regions=None,
        ),
    )
}


def backbone_spec(name: str) -> BackboneSpec:
    """The named specification; an unknown name lists the known ones."""
    if name not in SPECS:
        raise unknown_name("backbone", name, SPECS)
    return SPECS[name]
