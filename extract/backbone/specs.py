"""The networks that c3 knows, and where the arrays of a store leave them: nodes, channels and strides. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...common.errors import C3Error, unknown_name
from ..store.layout import GLOBAL_VECTOR, REGIONS, FeatureArray

INPUT_SIZE = 224  # pixels; 7 x 7 at stride 32


@dataclass(frozen=True)
class Tap:
    """Where an array leaves the network: the graph node, its channels and its stride.

    Stride 0 stands for a vector of the whole picture. A level is named p<stride>.
    """

    node: str
    channels: int
    stride: int

    @property
    def level(self) -> str:
        """The name of the pyramid level that leaves the network here."""
        return f"p{self.stride}"

    def array(self, name: str) -> FeatureArray:
        """Return the array, as it leaves the network, under the name that a store gives it."""
        return FeatureArray(name, self.channels, INPUT_SIZE // self.stride if self.stride else 0)


@dataclass(frozen=True)
class BackboneSpec:
    """A torchvision network, the name of its ImageNet weights, its three taps and those of the optional arrays.

    tests/test_backbones.py proves each tap. `regions` is None where no map is 14 x 14; a `global_vector` that is a map
    in the network is averaged over its positions.
    """

    name: str
    weights: str
    taps: tuple[Tap, ...]
    global_vector: Tap
    regions: Tap | None

    def extras(self, asked: Sequence[str]) -> dict[str, Tap]:
        """Return the taps of the optional arrays named in `asked`, `regions` before the global vector.

        Raises C3Error when the network has no map for `regions`.
        """
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
_BOTTLENECK_VECTOR, _BOTTLENECK_REGIONS = Tap("layer4", 2048, 0), Tap("layer3", 1024, 16)

SPECS: dict[str, BackboneSpec] = {
    spec.name: spec
    for spec in (
        # after pool3, pool4 and pool5; fc7 and conv5_4, each after its ReLU
        BackboneSpec(
            "vgg19",
            "VGG19_Weights.IMAGENET1K_V1",
            _taps(("features.18", 256, 8), ("features.27", 512, 16), ("features.36", 512, 32)),
            global_vector=Tap("classifier.4", 4096, 0),
            regions=Tap("features.35", 512, 16),
        ),
        BackboneSpec(
            "vgg19_bn",
            "VGG19_BN_Weights.IMAGENET1K_V1",
            _taps(("features.26", 256, 8), ("features.39", 512, 16), ("features.52", 512, 32)),
            global_vector=Tap("classifier.4", 4096, 0),
            regions=Tap("features.51", 512, 16),
        ),
        BackboneSpec(
            "resnet50",
            "ResNet50_Weights.IMAGENET1K_V1",
            _BOTTLENECK_TAPS,
            global_vector=_BOTTLENECK_VECTOR,
            regions=_BOTTLENECK_REGIONS,
        ),
        BackboneSpec(
            "resnet101",
            "ResNet101_Weights.IMAGENET1K_V1",
            _BOTTLENECK_TAPS,
            global_vector=_BOTTLENECK_VECTOR,
            regions=_BOTTLENECK_REGIONS,
        ),
        BackboneSpec(
            "resnet18",
            "ResNet18_Weights.IMAGENET1K_V1",
            _taps(("layer2", 128, 8), ("layer3", 256, 16), ("layer4", 512, 32)),
            global_vector=Tap("layer4", 512, 0),
            regions=Tap("layer3", 256, 16),
        ),
        # three pooling stages only: the deepest grid is 13 x 13
        BackboneSpec(
            "squeezenet1_1",
            "SqueezeNet1_1_Weights.IMAGENET1K_V1",
            _taps(("features.4", 128, 4), ("features.7", 256, 8), ("features.12", 512, 16)),
            global_vector=Tap("features.12", 512, 0),
            regions=None,
        ),
    )
}


def backbone_spec(name: str) -> BackboneSpec:
    """Return the specification of a backbone. Raises C3Error with the known names for an unknown one."""
    if name not in SPECS:
        raise unknown_name("backbone", name, SPECS)
    return SPECS[name]
