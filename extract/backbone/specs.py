"""What describes a backbone: its preprocessing, and where the arrays of a store leave it. No torch.

The networks of torchvision stand here; those of other libraries describe themselves (kind.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...common.errors import C3Error, unknown_name
from ..store.layout import GLOBAL_VECTOR, REGIONS, FeatureArray

INPUT_SIZE = 224  # pixels; 7 x 7 at stride 32
FILTERS = ("bilinear", "bicubic", "lanczos", "nearest", "box", "hamming")  # of Pillow
SQUASH, SHORTEST = "squash", "shortest"  # how a crop becomes a square
SMALLEST_INPUT = 64  # pixels that every network of torchvision takes
REGION_SIDE = 14  # cells of the edge of `regions`


@dataclass(frozen=True)
class Resize:
    """What becomes of a crop: a square of side x side pixels, resized with this filter, antialiased.

    `squash` resizes both sides to `side`; `shortest` resizes the shorter side and cuts the square in the middle.
    """

    side: int = INPUT_SIZE
    interpolation: str = "bilinear"  # one of FILTERS
    fit: str = SQUASH


@dataclass(frozen=True)
class Transform:
    """How pixels are prepared: resized, divided by 255, and normalised with mean and deviation of the channels."""

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # of ImageNet
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    resize: Resize = Resize()

    def record(self) -> dict[str, Any]:
        """Return the preprocessing as a store records it; the usual fit is left out."""
        record = {
            "size": [self.resize.side, self.resize.side],
            "interpolation": f"{self.resize.interpolation}, antialiased",
            "mean": list(self.mean),
            "std": list(self.std),
        }
        return record | ({} if self.resize.fit == SQUASH else {"fit": self.resize.fit})


@dataclass(frozen=True)
class Tap:
    """Where an array leaves the network: the node, its channels and its stride.

    Stride 0 stands for a vector of the whole picture. A level is named p<stride>, or `b<block>` where `block`, counted
    from 1, is given: the blocks of a plain ViT have one stride. `norm` says that the last norm of the network is
    applied.
    """

    node: str
    channels: int
    stride: int
    block: int = 0
    norm: bool = False

    @property
    def level(self) -> str:
        """The name of the pyramid level that leaves the network here."""
        return f"b{self.block}" if self.block else f"p{self.stride}"

    def array(self, name: str) -> FeatureArray:
        """Return the optional array, as it leaves the network, under the name that a store gives it."""
        return FeatureArray(name, self.channels, REGION_SIDE if self.stride else 0)

    def record(self) -> dict[str, object]:
        """Return the tap as a store records it; what a network of torchvision does not have is left out."""
        record: dict[str, object] = {"node": self.node, "channels": self.channels, "stride": self.stride}
        return record | ({"block": self.block} if self.block else {}) | ({"norm": True} if self.norm else {})


@dataclass(frozen=True)
class BackboneSpec:
    """A network, the name of its pre-trained weights, its three taps and those of the optional arrays.

    tests/test_backbones.py and tests/test_timm.py prove the taps. `regions` is None where no map is 14 x 14; a
    `global_vector` that is a map in the network is averaged over its positions.
    """

    name: str
    weights: str
    taps: tuple[Tap, ...]
    global_vector: Tap
    regions: Tap | None
    transform: Transform = Transform()

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


def torchvision_spec(name: str, input_size: int | None = None) -> BackboneSpec:
    """Return a network of torchvision for squares of `input_size` pixels (None: 224).

    Raises C3Error with the known names for an unknown one, and for a size below 64, which leaves no map.
    """
    if name not in SPECS:
        raise unknown_name("backbone", name, SPECS)
    spec = SPECS[name]
    if input_size in (None, INPUT_SIZE):
        return spec
    if input_size < SMALLEST_INPUT:
        raise C3Error(f"--input-size {input_size}: {name} needs at least {SMALLEST_INPUT} pixels")
    regions = spec.regions if spec.regions and input_size // spec.regions.stride == REGION_SIDE else None
    return replace(spec, regions=regions, transform=replace(spec.transform, resize=Resize(input_size)))
